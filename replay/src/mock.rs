//! `omium mock-llm`: a scripted, OpenAI-compatible model server for tests and demos.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use omium_agents::mock::{Script, serve_and_forget};
use tokio::net::TcpListener;

/// Answers like an OpenAI-compatible server, as a script says; without a script it answers anything sensibly.
#[derive(Args, Debug)]
pub(crate) struct MockLlm {
    /// The script.
    script: Option<PathBuf>,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 7461)]
    port: u16,
}

pub(crate) fn run(mock: &MockLlm) -> anyhow::Result<ExitCode> {
    let script = match &mock.script {
        None => Script::standard(),
        Some(place) => {
            let name = place.display().to_string();
            let text = std::fs::read_to_string(place).with_context(|| format!("{name} cannot be read"))?;
            match Script::parse_named(&name, &text) {
                Ok(script) => script,
                Err(problems) => {
                    eprintln!("{problems}");
                    return Ok(ExitCode::from(5));
                }
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, mock.port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("{address} cannot be taken; name another --port"))?;
        let server = serve_and_forget(script, listener).await?;
        eprintln!("a scripted model answers at {}; set OPENAI_BASE_URL to it", server.url());
        tokio::signal::ctrl_c().await?;
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}
