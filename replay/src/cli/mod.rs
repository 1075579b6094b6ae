//! The commands that speak to a running Omium. Data goes to stdout, all else to stderr.

mod answer;
mod checkpoints;
mod connection;
mod decide;
mod doctor;
mod exec;
mod executions;
mod guard;
mod keys;
mod output;
mod prices;
mod run;
mod tree;
mod trim;
mod workflows;

pub(crate) use answer::Answer;
pub(crate) use connection::{Ask, Connection, Running, data_dir, note_path};
pub(crate) use decide::{Approve, Dismiss, Refuse};
pub(crate) use doctor::Doctor;
pub(crate) use exec::{Exec, run as run_program};
pub(crate) use executions::{
    Cancel, Fork, List, Logs, Pause, Release, Replay, Resume, Retry, Rollback, Show, Signal,
};
pub(crate) use guard::Guard;
pub(crate) use keys::Keys;
pub(crate) use run::Run;
pub(crate) use tree::tree;
pub(crate) use trim::Trim;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// How the commands end. The numbers are part of the interface: scripts compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was done.
    Done = 0,
    /// It could not be done.
    Failed = 1,
    /// No Omium answers.
    Unreachable = 3,
    /// What it speaks of is not there.
    NotFound = 4,
    /// It was refused: it does not fit the present state, or makes no sense.
    Refused = 5,
    /// The command was done, and the run that it watched failed.
    RunFailed = 10,
}

impl From<End> for ExitCode {
    fn from(end: End) -> ExitCode {
        ExitCode::from(end as u8)
    }
}

/// What every command that speaks to an Omium takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Where it answers; else $OMIUM_URL, else what `omium dev` has noted in its data folder.
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The key; else $OMIUM_KEY, else what `omium dev` has noted.
    #[arg(long, global = true, value_name = "KEY")]
    key: Option<String>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
}

impl Target {
    /// Whether one JSON document is wanted instead of text.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// What of this was said. A command that speaks to no Omium does nothing with it, and says so.
    pub(crate) fn said(&self) -> Option<&'static str> {
        self.json.then_some("--json").or(self.address())
    }

    /// The same of where an Omium answers.
    pub(crate) fn address(&self) -> Option<&'static str> {
        let said = [("--url", self.url.is_some()), ("--key", self.key.is_some())];
        said.into_iter().find_map(|(name, said)| said.then_some(name))
    }

    /// Whether what was said of where it answers makes sense.
    fn checked(&self) -> Result<(), connection::Trouble> {
        let variable = || std::env::var("OMIUM_URL").ok().filter(|url| !url.is_empty());
        let said = self.url.clone().map(|url| ("--url", url)).or_else(|| Some(("OMIUM_URL", variable()?)));
        match said {
            Some((name, url)) => connection::checked(name, &url),
            None => Ok(()),
        }
    }

    /// Whether somebody has said where it answers.
    pub(crate) fn is_named(&self) -> bool {
        self.url.is_some() || std::env::var_os("OMIUM_URL").is_some_and(|url| !url.is_empty())
    }

    /// This one, whatever the surroundings say.
    pub(crate) fn at(url: String, key: String) -> Target {
        Target { url: Some(url), key: Some(key), json: false }
    }
}

/// Checkpoints of an execution.
#[derive(Subcommand, Debug)]
pub(crate) enum Checkpoints {
    /// Lists the checkpoints of an execution.
    List(checkpoints::List),
    /// Shows the state at a checkpoint.
    Show(checkpoints::Show),
    /// Says what differs between two checkpoints.
    Diff(checkpoints::Diff),
    /// Folds the execution's events again and compares with what is shown.
    Verify(checkpoints::Verify),
}

/// Workflows.
#[derive(Subcommand, Debug)]
pub(crate) enum Workflows {
    /// Says everything that is wrong with a definition. Needs no running Omium.
    Validate(workflows::Validate),
    /// Publishes a version.
    Publish(workflows::Publish),
    /// Lists the workflows.
    List(workflows::List),
    /// Prints a definition, `NAME` or `NAME@3`.
    Show(workflows::Show),
    /// Says which lines differ between two versions, `NAME@2` and `NAME@3`.
    Diff(workflows::Diff),
}

/// What models cost.
#[derive(Subcommand, Debug)]
pub(crate) enum Prices {
    /// Lists what models cost, in dollars for a million tokens.
    List(prices::List),
    /// Sets what a model costs, for executions that begin from now on.
    Set(prices::Set),
}

impl Act for Prices {
    async fn act(&self, target: &Target) -> Result<End, connection::Trouble> {
        match self {
            Prices::List(list) => list.act(target).await,
            Prices::Set(set) => set.act(target).await,
        }
    }
}

/// Something that is done against a running Omium.
pub(crate) trait Act {
    /// Does it.
    async fn act(&self, target: &Target) -> Result<End, connection::Trouble>;
}

/// Runs a command and says how it ended.
pub(crate) fn run(target: &Target, command: &impl Act) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("omium: no runtime: {error}");
            return End::Failed.into();
        }
    };
    let acts = async {
        target.checked()?;
        command.act(target).await
    };
    match runtime.block_on(acts) {
        Ok(end) => end.into(),
        Err(trouble) => {
            trouble.tell(target.json);
            trouble.end().into()
        }
    }
}

impl Act for Checkpoints {
    async fn act(&self, target: &Target) -> Result<End, connection::Trouble> {
        match self {
            Checkpoints::List(list) => list.act(target).await,
            Checkpoints::Show(show) => show.act(target).await,
            Checkpoints::Diff(diff) => diff.act(target).await,
            Checkpoints::Verify(verify) => verify.act(target).await,
        }
    }
}

impl Act for Workflows {
    async fn act(&self, target: &Target) -> Result<End, connection::Trouble> {
        match self {
            Workflows::Validate(validate) => validate.act(target).await,
            Workflows::Publish(publish) => publish.act(target).await,
            Workflows::List(list) => list.act(target).await,
            Workflows::Show(show) => show.act(target).await,
            Workflows::Diff(diff) => diff.act(target).await,
        }
    }
}
