//! `omium exec`: runs a program whose calls of models and tools are recorded, judged, and served again when it goes on.

mod child;
mod close;
mod guards;
mod package;
mod redact;
mod unseen;
mod watch;

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use self::child::{Child, Ended};
use self::close::Close;
use self::watch::Watch;
use super::connection::{Ask, Connection, Trouble, segment};
use super::output::text;
use super::{End, Target};

/// Runs a program so that it survives: each call of a model or tool is recorded before it is made.
///
/// The program is not changed. It needs an OpenAI client that reads OPENAI_BASE_URL; programs in Python are instrumented
/// as well, so that agents have their names and tools are not called twice.
///
/// It ends as the program ends; with 10 where the program ends well and the run is not completed: suspended, paused, failed.
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
    /// Ends with 1 where a guard of this program has checked nothing, because its agent made no call.
    #[arg(long)]
    guards_must_match: bool,
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
            trouble.tell(false);
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
        let token = text(&attempt["token"]);
        let child = Child { program: &program, execution: &execution, gate: &gate, token: &token };
        let ran = child.run().await;
        let ended = match &ran {
            Ok(ended) => ended.clone(),
            Err(error) => Ended { code: never_started(error), last: String::new() },
        };
        let close = Close {
            connection: &connection,
            path: &path,
            execution: &execution,
            quiet: self.quiet,
            guards_must_match: self.guards_must_match,
        };
        let told = close.tell(&attempt["number"], &ended).await;
        if let Some(watch) = watch {
            watch.end().await;
        }
        if let Err(error) = ran {
            let name = program.first().map(String::as_str).unwrap_or_default();
            Trouble::Here(format!("`{name}` cannot be started: {error}")).tell(false);
            return Ok(ExitCode::from(ended.code));
        }
        Ok(ExitCode::from(close.end(told, ended.code).await))
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
