//! The first five minutes of somebody who has read the README, step by step, each with its outcome.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::process::Process;
use crate::work::programs::{self, Desk, Ended, Running, examples, package};
use crate::work::server::{self, free_port, fresh};
use crate::work::{callers, peers};

pub(super) const BAR: Bar = Bar {
    name: "first-five-minutes",
    what: "the steps of the README from a clean virtual environment: install, dev, exec, kill, resume, guard",
    prepare: || server::prepare().and_then(|()| peers::prepared::<1>("frameworks").map(drop)),
    run,
};

/// What has not started by then will not.
const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "crew";
const AGENTS: [&str; 3] = ["Researcher", "Writer", "Reviewer"];
const BAD: &str = "REVIEWED: APR: 0%";
const GOOD: &str = "REVIEWED: APR: 5.2%";
/// As the README has it.
const GUARD: [&str; 8] = [
    "guard",
    "add",
    "--agent",
    "Writer",
    "--extract",
    "apr: number near \"APR\"",
    "--rule",
    "value >= 2.5 && value <= 8.5",
];

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let [frameworks] = peers::prepared("frameworks")?;
    let mut walks = Vec::new();
    for _ in 0..if setting.quick { 1 } else { 5 } {
        let place = fresh(&setting.dir, "user")?;
        std::fs::create_dir_all(&place)?;
        let user = User::new(&place, &frameworks)?;
        walks.push(user.walk(setting).await?);
    }
    let seconds: Vec<f64> =
        walks.iter().map(|walk| walk.steps.iter().map(|(_, took)| took.as_secs_f64()).sum()).collect();
    let wrong: Vec<f64> = walks.iter().map(|walk| walk.wrong.len() as f64).collect();
    let most_wrong = wrong.iter().copied().fold(0.0, f64::max);
    let mut finding = Finding::default();
    finding.parts.push(Part::at_most("s for all steps", &seconds, 300.0));
    finding.parts.push(Part::at_most(
        "outcomes that are not as the README says, the most",
        &[most_wrong],
        0.0,
    ));
    for (step, took) in walks.iter().flat_map(|walk| &walk.steps) {
        finding.notes.push(format!("{:.1} s: {step}", took.as_secs_f64()));
    }
    finding.notes.extend(walks.into_iter().flat_map(|walk| walk.wrong));
    Ok(finding)
}

/// What a walk through the steps has shown.
#[derive(Default)]
struct Walk {
    steps: Vec<(&'static str, Duration)>,
    wrong: Vec<String>,
}

impl Walk {
    /// Ends a step that began then.
    fn done(&mut self, step: &'static str, since: Instant) {
        self.steps.push((step, since.elapsed()));
    }

    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    fn ends_with(&mut self, step: &str, ended: &Ended, result: &str) {
        let right = ended.good && ended.result() == result;
        self.check(right, || format!("{step}: `{}`, {}", ended.result(), ended.complaint()));
    }
}

/// Somebody with a clean virtual environment in which the frameworks are, and a copy of the package's folder.
struct User {
    place: PathBuf,
    python: PathBuf,
    package: PathBuf,
}

impl User {
    /// Not timed: what was there before.
    fn new(place: &Path, frameworks: &Path) -> anyhow::Result<User> {
        let venv = place.join("venv");
        said(Command::new(frameworks).args(["-m", "venv"]).arg(&venv))?;
        let python = venv.join("bin/python");
        // The frameworks are read from where they lie: their 1.5 GB would only be copied to be thrown away.
        let lies = said(Command::new(frameworks).args(["-c", SITE]))?;
        let own = said(Command::new(&python).args(["-c", SITE]))?;
        std::fs::write(Path::new(own.trim()).join("frameworks.pth"), lies)?;
        // Building leaves traces in the folder, and the clone is not ours to change.
        let copied = place.join("sdk-python");
        said(Command::new("cp").arg("-r").arg(package()).arg(&copied))?;
        Ok(User { place: place.to_owned(), python, package: copied })
    }

    async fn walk(&self, setting: &Setting) -> anyhow::Result<Walk> {
        let mut walk = Walk::default();
        self.install(setting, &mut walk).await?;
        setting.say("the scripted model and `omium dev`");
        let since = Instant::now();
        let port = free_port()?;
        let _model = self.model(port).await?;
        let mut desk = Desk::open(&self.place, port, &self.python).await?;
        walk.done("omium mock-llm and omium dev", since);

        setting.say("`omium exec`");
        let since = Instant::now();
        let ended = desk.exec(PROGRAM)?.end().await?;
        walk.done("omium exec", since);
        walk.ends_with("omium exec", &ended, BAD);
        let seen = AGENTS.iter().all(|agent| ended.err.contains(agent));
        walk.check(seen, || format!("omium exec does not show its agents: {}", ended.err));

        self.killed_and_resumed(setting, &mut walk, &mut desk).await?;
        guarded(setting, &mut walk, &desk).await?;
        desk.close()?;
        Ok(walk)
    }

    async fn install(&self, setting: &Setting, walk: &mut Walk) -> anyhow::Result<()> {
        setting.say("installing from the folder");
        let since = Instant::now();
        let mut pip = programs::command(&self.python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(&self.package);
        let installed = Running::start(&mut pip)?.end().await?;
        walk.done("pip install ./connectors/sdk-python", since);
        ensure!(installed.good, "the package cannot be installed: {}", installed.complaint());
        let mut asks = programs::command(&self.python);
        asks.args(["-c", "import omium; omium.instrument(); print(omium.__file__)"]).current_dir(&self.place);
        let there = Running::start(&mut asks)?.end().await?;
        let right = there.good && Path::new(there.result()).starts_with(self.place.join("venv"));
        walk.check(right, || format!("`import omium` finds `{}`, {}", there.result(), there.complaint()));
        Ok(())
    }

    async fn model(&self, port: u16) -> anyhow::Result<Process> {
        let mut command = Command::new(server::binary()?);
        command.arg("mock-llm").arg(examples().join("story.yaml")).args(["--port", &port.to_string()]);
        let mut model = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let since = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            model.runs()?;
            ensure!(since.elapsed() < PATIENCE, "the scripted model does not answer");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(model)
    }

    /// Program and server are both gone in the middle of a call, and come back.
    async fn killed_and_resumed(
        &self,
        setting: &Setting,
        walk: &mut Walk,
        desk: &mut Desk,
    ) -> anyhow::Result<()> {
        setting.say("a kill, and `omium exec --resume`");
        let since = Instant::now();
        let running = desk.exec_until_held(PROGRAM).await?;
        let execution = desk.execution().await?;
        let (asked, tools) = (desk.book.all().len(), desk.tool_runs()?);
        desk.kill()?;
        running.kill_all();
        let cut_off = running.end().await?;
        desk.book.let_go();
        walk.done("omium exec, kill -9 of program and server", since);
        walk.check(!cut_off.good, || "a program that was killed looks as if it had ended well".to_owned());
        let since = Instant::now();
        desk.start().await?;
        let ended = desk.resume(&execution)?.end().await?;
        walk.done("omium dev, omium exec --resume", since);
        walk.ends_with("omium exec --resume", &ended, BAD);
        let (asked, tools) = (desk.book.all().len() - asked, desk.tool_runs()? - tools);
        walk.check(asked <= 1 && tools == 0, || format!("resumed with {asked} new calls and {tools} tools"));
        Ok(())
    }
}

async fn guarded(setting: &Setting, walk: &mut Walk, desk: &Desk) -> anyhow::Result<()> {
    setting.say("`omium guard add`");
    let since = Instant::now();
    desk.omium(&GUARD).await?;
    let ended = desk.exec(PROGRAM)?.end().await?;
    let shown = desk.omium(&["show", &desk.execution().await?]).await?;
    walk.done("omium guard add, omium exec, omium show", since);
    walk.ends_with("omium exec under a guard", &ended, GOOD);
    walk.check(shown.contains("writer-apr"), || format!("omium show does not name the guard: {shown}"));
    Ok(())
}

/// Where a Python keeps what is installed into it.
const SITE: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
