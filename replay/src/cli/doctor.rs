//! `omium doctor`: looks whether Omium can work here, and says what to do where it cannot.

use clap::Args;
use serde_json::json;

use super::connection::{Connection, Trouble, data_dir, is_same, note_path, noted};
use super::output::{document, print};
use super::{Act, End, Target};
use crate::claim;
use crate::config::{self, Config};

/// Looks at disk, port, clock and version, and says what to do.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The operator's file; else omium.toml in the data folder, if it is there.
    #[arg(long, value_name = "FILE", env = "OMIUM_CONFIG")]
    config: Option<std::path::PathBuf>,
}

struct Finding {
    what: &'static str,
    fine: bool,
    text: String,
}

impl Act for Doctor {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        // This machine's disk, port, clock and grants say nothing of a server that runs somewhere else.
        let here = is_of_this_folder(target, &connection).await;
        let mut findings = Vec::new();
        if here {
            findings.push(disk());
        }
        findings.push(answers(target, &connection, here).await);
        // Of a server that does not answer there is nothing more to say.
        let its = its_version(&connection).await;
        if its.is_some() {
            findings.push(key(&connection).await);
        }
        if here {
            findings.extend([port(), self.tools(), clock()]);
        }
        findings.extend(its.or_else(|| here.then(version)));
        let fine = findings.iter().all(|finding| finding.fine);
        if target.json {
            let all: Vec<_> = findings
                .iter()
                .map(|found| json!({ "what": found.what, "fine": found.fine, "text": found.text }))
                .collect();
            document(&json!({ "fine": fine, "findings": all }));
        } else {
            for Finding { what, fine, text } in &findings {
                print(&format!("{} {what}: {text}", if *fine { "ok  " } else { "LOOK" }));
            }
        }
        Ok(if fine { End::Done } else { End::Failed })
    }
}

impl Doctor {
    /// What is granted to tools; names alone.
    fn tools(&self) -> Finding {
        let what = "tools";
        let Some(file) = config::place(self.config.as_deref(), &data_dir()) else {
            let text = "there is no omium.toml: `omium serve` grants them nothing, `omium dev` any program and this \
                        machine's own addresses";
            return Finding { what, fine: true, text: text.to_owned() };
        };
        let read = Config::load(Some(&file)).and_then(|config| config.host(false).map(|_| config));
        match read {
            Ok(config) => {
                let text = format!("{} grants {}", file.display(), config.told(false));
                Finding { what, fine: true, text }
            }
            Err(why) => Finding { what, fine: false, text: format!("{why:#}") },
        }
    }
}

fn disk() -> Finding {
    let data = data_dir();
    let what = "disk";
    let made = std::fs::create_dir_all(&data).and_then(|()| tempfile::tempfile_in(&data).map(drop));
    if let Err(error) = made {
        let text =
            format!("{} cannot be written: {error}; name another folder in OMIUM_DATA", data.display());
        return Finding { what, fine: false, text };
    }
    match rustix::fs::statvfs(&data) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
            let fine = free >= 512;
            let advice = if fine { "" } else { "; make room, or name another folder in OMIUM_DATA" };
            Finding { what, fine, text: format!("{} has {free} MiB left{advice}", data.display()) }
        }
        Err(error) => Finding { what, fine: false, text: format!("{}: {error}", data.display()) },
    }
}

/// Whether the server that is asked is the one whose data folder this is, or would be.
async fn is_of_this_folder(target: &Target, connection: &Connection) -> bool {
    if !target.is_named() {
        return true;
    }
    match claim::holder(&data_dir()) {
        // One that is being opened has noted nothing yet.
        Some(holder) => holder.url.is_some_and(|url| is_same(&url, connection.url())),
        // The one that noted itself has died; another one may answer in its place.
        None => {
            noted().is_some_and(|noted| is_same(&noted.url, connection.url()))
                && matches!(connection.get("/health").await, Err(Trouble::Unreachable { .. }))
        }
    }
}

/// Which version the server is, and whether it is that of these commands; nothing where it does not answer.
async fn its_version(connection: &Connection) -> Option<Finding> {
    let (what, ours) = ("version", env!("CARGO_PKG_VERSION"));
    let health = connection.get("/health").await.ok()?;
    let text = match health["version"].as_str() {
        Some(its) if its == ours => format!("omium {ours}, here and there"),
        Some(its) => format!("the server is omium {its}, these commands are {ours}"),
        None => format!("these commands are omium {ours}; the server does not say which one it is"),
    };
    Some(Finding { what, fine: true, text })
}

/// Whether the key opens anything.
async fn key(connection: &Connection) -> Finding {
    let what = "key";
    if !connection.has_key() {
        let text = "none is named, and nearly all commands need one; name it with --key or OMIUM_KEY";
        return Finding { what, fine: true, text: text.to_owned() };
    }
    // A node that is being opened makes others wait; whether it is ready was told before.
    let asked = connection.get_now("/api/v1/executions?limit=1").await;
    match asked {
        Ok(_) => Finding { what, fine: true, text: "it opens the server".to_owned() },
        Err(Trouble::Refused { status: 401 | 403, body }) => {
            let detail = body["detail"].as_str().unwrap_or("it is refused");
            let text = format!("{detail}; name another one with --key or OMIUM_KEY");
            Finding { what, fine: false, text }
        }
        Err(_) => Finding { what, fine: true, text: "the server cannot look at it now".to_owned() },
    }
}

async fn answers(target: &Target, connection: &Connection, here: bool) -> Finding {
    let what = "server";
    match connection.get("/ready").await {
        Ok(_) if here => Finding { what, fine: true, text: "one answers and is ready".to_owned() },
        Ok(_) => {
            let text = format!(
                "{} answers and is ready; its disk, port, clock and grants can be looked at where it runs",
                connection.url()
            );
            Finding { what, fine: true, text }
        }
        Err(Trouble::Unreachable { url, .. }) => absent(target, &url, here),
        Err(Trouble::Refused { body, .. }) => {
            let detail = body["detail"].as_str().unwrap_or("it does not say why");
            let reads = connection.get("/ready?for=read").await.is_ok();
            let also = if reads { "what is there can be read" } else { "nothing can be read either" };
            let text = format!(
                "one answers and is not ready: {detail}; {also}; what it says on stderr has the cause"
            );
            Finding { what, fine: false, text }
        }
        Err(Trouble::Here(text)) => Finding { what, fine: false, text },
    }
}

/// Where somebody was named and nobody answers, something is wrong; a machine on which none was started yet is fine.
fn absent(target: &Target, url: &str, here: bool) -> Finding {
    let what = "server";
    if here && note_path(&data_dir()).exists() {
        let text = format!("none answers at {url}, though dev.json names it: it has died; start it again");
        return Finding { what, fine: false, text };
    }
    if target.is_named() {
        let text = format!("none answers at {url}; start it, or name another one with --url or OMIUM_URL");
        return Finding { what, fine: false, text };
    }
    Finding { what, fine: true, text: "none runs here yet; start one with `omium dev`".to_owned() }
}

fn port() -> Finding {
    let free = std::net::TcpListener::bind(("127.0.0.1", crate::serve::PORT)).is_ok();
    let text = if free { "7460 is free" } else { "7460 is taken; `omium dev` takes the next one" };
    Finding { what: "port", fine: true, text: text.to_owned() }
}

fn clock() -> Finding {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Anything before 2025 was never set.
    let fine = seconds > 1_735_689_600;
    let text =
        if fine { "it is set" } else { "it is not set: deadlines would be wrong; start a time service" };
    Finding { what: "clock", fine, text: text.to_owned() }
}

fn version() -> Finding {
    Finding { what: "version", fine: true, text: format!("omium {}", env!("CARGO_PKG_VERSION")) }
}
