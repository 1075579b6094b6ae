//! What a server takes for the vendor of its models: everything that it is asked is seen here, from outside.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Larger requests than this are a mistake.
const MAX_BODY: usize = 64 << 20;

/// One call as it came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// When the last byte of it was there.
    pub(crate) at: Instant,
}

impl Asked {
    pub(crate) fn body(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }
}

/// Whether more may come over a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    KeepOpen,
    Close,
}

/// How a vendor answers.
pub(crate) trait Answers: Send + Sync + 'static {
    fn answer(
        &self,
        asked: Asked,
        client: &mut TcpStream,
    ) -> impl Future<Output = anyhow::Result<After>> + Send;
}

/// A vendor that is gone with its measurement.
pub(crate) struct Vendor {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Vendor {
    pub(crate) async fn open<A: Answers>(answers: Arc<A>) -> anyhow::Result<Vendor> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let answers = answers.clone();
                // A client that is killed in the middle of its call is what is measured, and no fault.
                tokio::spawn(async move { serve(client, &*answers).await.ok() });
            }
        });
        Ok(Vendor { port, task })
    }

    /// What a server takes as the address of its models.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<A: Answers>(client: TcpStream, answers: &A) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    while let Some(asked) = read(&mut client).await? {
        if answers.answer(asked, client.get_mut()).await? == After::Close {
            break;
        }
    }
    Ok(())
}

/// The next request; nothing where the client has gone.
async fn read(client: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Asked>> {
    let mut line = String::new();
    if client.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).context("a request has a path")?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        ensure!(client.read_line(&mut line).await? > 0, "the request's head was cut off");
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    ensure!(length <= MAX_BODY, "a request of {length} bytes");
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).await?;
    Ok(Some(Asked { path, bytes, at: Instant::now() }))
}

/// Answers with a text of the assistant.
pub(crate) async fn say(client: &mut TcpStream, text: &str) -> anyhow::Result<()> {
    let body = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30 },
    })
    .to_string();
    send(client, &body).await
}

/// Answers with a body of JSON.
pub(crate) async fn send(client: &mut TcpStream, body: &str) -> anyhow::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), body.as_bytes()].concat();
    Ok(client.write_all(&answer).await?)
}

/// Lets the server at this port answer, whatever form its answer has.
pub(crate) async fn pass_on(asked: &Asked, client: &mut TcpStream, port: u16) -> anyhow::Result<After> {
    let mut model = TcpStream::connect(("127.0.0.1", port)).await?;
    // What ends with its connection is passed on as it comes: nobody here has to know where it ends.
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        asked.path,
        asked.bytes.len()
    );
    model.write_all(head.as_bytes()).await?;
    model.write_all(&asked.bytes).await?;
    tokio::io::copy(&mut model, client).await?;
    client.shutdown().await?;
    Ok(After::Close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::http::{Address, Connection, Request};

    struct Echo;

    impl Answers for Echo {
        async fn answer(&self, asked: Asked, client: &mut TcpStream) -> anyhow::Result<After> {
            let text = asked.body()?["text"].as_str().unwrap_or_default().to_owned();
            say(client, &format!("{} {text}", asked.path)).await?;
            Ok(After::KeepOpen)
        }
    }

    #[tokio::test]
    async fn a_vendor_sees_each_call_of_a_connection_and_answers_it() {
        let vendor = Vendor::open(Arc::new(Echo)).await.unwrap();
        let address = Address { port: vendor.port, key: String::new() };
        let mut connection = Connection::open(&address).await.unwrap();
        for text in ["one", "two"] {
            let body = serde_json::json!({ "text": text });
            let answer =
                connection.ask(&Request::post("/v1/chat/completions", &body)).await.unwrap().json().unwrap();
            let said = &answer["choices"][0]["message"]["content"];
            assert_eq!(said, &format!("/v1/chat/completions {text}"));
        }
    }
}
