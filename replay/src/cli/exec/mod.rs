//! `omium exec`: runs a program whose calls of models and tools are recorded, judged, and served again when it goes on.

mod child;
mod package;
mod unseen;
mod watch;

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::child::{Child, Ended};
use self::watch::Watch;
use super::connection::{Ask, Connection, Trouble, segment};
use super::output::text;
use super::tree::tree;
use super::{End, Target};

/// Runs a program so that it survives: each call of a model or tool is recorded before it is made.
///
/// The program is not changed. It needs an OpenAI client that reads OPENAI_BASE_URL; programs in Python are instrumented
/// as well, so that agents have their names and tools are not called twice.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// How it is called; else the name of the program's file without its ending.
    #[arg(long)]
    name: Option<String>,
    /// Goes on with this execution: what was answered is served again.
    #[arg(long, value_name = "EXECUTION")]
    resume: Option<String>,
    /// What is done about bad answers: auto, approve (a person is asked) or off.
    #[arg(long, value_name = "MODE")]
    recovery: Option<String>,
    /// The most it may cost, in dollars.
    #[arg(long, value_name = "USD")]
    budget: Option<String>,
    /// Says nothing of its own, as long as the program comes to its end.
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments; with --resume what it was called with before, where nothing is given.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Runs it, and ends as the program ends.
pub(crate) fn run(target: &Target, exec: &Exec) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("omium: no runtime: {error}");
            return End::Failed.into();
        }
    };
    match runtime.block_on(exec.run(target)) {
        Ok(code) => code,
        Err(trouble) => {
            trouble.tell(target.json);
            trouble.end().into()
        }
    }
}

impl Exec {
    async fn run(&self, target: &Target) -> Result<ExitCode, Trouble> {
        let connection = Connection::new(target);
        let (execution, program) = match &self.resume {
            Some(execution) => (execution.clone(), self.again(&connection, execution).await?),
            None => (self.opened(&connection).await?, self.program.clone()),
        };
        let path = format!("/api/v1/executions/{}", segment(&execution));
        let from = connection.get(&path).await?["seq"].as_u64().unwrap_or(0);
        let attempt =
            connection.post(&format!("{path}/attempts"), json!({ "code": program.join(" ") })).await?;
        if !self.quiet {
            eprintln!("omium: {execution} · attempt {} · {}", attempt["number"], program.join(" "));
        }
        let watch = (!self.quiet).then(|| Watch::begin(target, &execution, from + 1));
        let gate = format!("{}{}", connection.url(), text(&attempt["path"]));
        let child =
            Child { program: &program, execution: &execution, gate: &gate, token: &text(&attempt["token"]) };
        let ended = child.run().await;
        let told = match &ended {
            Ok(ended) => told(&connection, &path, &attempt["number"], ended).await,
            Err(error) => {
                let never = Ended { code: never_started(error), last: String::new() };
                told(&connection, &path, &attempt["number"], &never).await
            }
        };
        if let Some(watch) = watch {
            watch.end().await;
        }
        match ended {
            Ok(ended) => {
                self.close(target, &connection, &path, &execution, told).await;
                Ok(ExitCode::from(ended.code))
            }
            Err(error) => {
                let name = program.first().map(String::as_str).unwrap_or_default();
                Trouble::Here(format!("`{name}` cannot be started: {error}")).tell(target.json);
                Ok(ExitCode::from(never_started(&error)))
            }
        }
    }

    async fn opened(&self, connection: &Connection) -> Result<String, Trouble> {
        if self.program.is_empty() {
            return Err(Trouble::Here("nothing to run: omium exec -- python crew.py".into()));
        }
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.program));
        let body = json!({
            "name": name, "arguments": self.program, "recovery": self.recovery, "budget_usd": self.budget,
        });
        let started = connection.ask("/api/v1/programs", Ask::Post(body), None).await?;
        Ok(text(&started["id"]))
    }

    /// What a program that goes on is called with.
    async fn again(&self, connection: &Connection, execution: &str) -> Result<Vec<String>, Trouble> {
        let view = connection.get(&format!("/api/v1/executions/{}", segment(execution))).await?;
        if !self.program.is_empty() {
            return Ok(self.program.clone());
        }
        let words = view["inputs"].as_array().cloned().unwrap_or_default();
        let words: Vec<String> = words.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect();
        if words.is_empty() {
            return Err(Trouble::Here(format!(
                "{execution} does not say how it was called; name the program behind --"
            )));
        }
        Ok(words)
    }

    /// Says how it stands, and what to do where it has not come to its end.
    async fn close(
        &self,
        target: &Target,
        connection: &Connection,
        path: &str,
        execution: &str,
        told: Result<(), Trouble>,
    ) {
        if let Err(trouble) = told {
            trouble.tell(target.json);
            // Only a server that was not there leaves anything to do: one that refuses has told its own hint.
            if !matches!(trouble, Trouble::Refused { status: 400..500, .. }) {
                eprintln!(
                    "hint: when Omium answers again, `omium exec --resume {execution}` goes on with what is recorded"
                );
            }
            return;
        }
        let Ok(view) = connection.get(path).await else { return };
        if !self.quiet {
            eprintln!("{}", tree(&view));
        }
        if let Some(unseen) = unseen::unseen(&view).filter(|_| !self.quiet) {
            eprintln!("omium: {unseen}");
        }
        let hint = match view["status"].as_str() {
            Some("suspended") => suspended(&view, execution),
            Some("paused") => format!("`omium resume {execution}`, then `omium exec --resume {execution}`"),
            Some("failed") => format!("`omium exec --resume {execution}` goes on with what is recorded"),
            _ => return,
        };
        eprintln!("omium: {} is {}; {hint}", execution, text(&view["status"]));
    }
}

fn suspended(view: &Value, execution: &str) -> String {
    let asks = view["questions"].as_array().is_some_and(|questions| !questions.is_empty());
    let decide =
        if asks { format!("`omium answer {execution} …`") } else { format!("`omium approve {execution}`") };
    format!("{decide} decides, then `omium exec --resume {execution}` goes on")
}

async fn told(connection: &Connection, path: &str, number: &Value, ended: &Ended) -> Result<(), Trouble> {
    let body = json!({ "number": number, "code": ended.code, "output": ended.last });
    connection.post(&format!("{path}/attempts/end"), body).await.map(|_| ())
}

/// The exit code of a program that cannot be started, as shells have it: there is none, or it cannot be run.
fn never_started(error: &std::io::Error) -> u8 {
    if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The stem of the program's own file: `crew` of `python crew.py`, `pkg.crew` of `python -m pkg.crew`.
fn name_of(program: &[String]) -> String {
    let module = program.iter().position(|word| word == "-m").and_then(|at| program.get(at + 1));
    if let Some(module) = module {
        return module.clone();
    }
    let is_script = |word: &&String| {
        let ending = std::path::Path::new(word.as_str()).extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("py" | "js" | "mjs" | "ts" | "sh" | "rb"))
    };
    let file = program.iter().find(is_script).or_else(|| program.first());
    let stem = file.and_then(|file| std::path::Path::new(file).file_stem()).and_then(|stem| stem.to_str());
    stem.unwrap_or("program").to_owned()
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_program_is_called_as_its_file_is() {
        for (words, name) in [
            ("python crew.py --fast", "crew"),
            ("/usr/bin/python3 -u apps/loan_crew.py", "loan_crew"),
            ("python -m loans.crew x.py", "loans.crew"),
            ("node agents.mjs", "agents"),
            ("./agents", "agents"),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(name_of(&words), name);
        }
    }
}
