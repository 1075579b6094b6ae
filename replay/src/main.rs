//! The omium binary: the one crate that sees all parts and wires them.

/// As the standard one, but a reader that has gone (`2>&1 | head -1`) is no reason to panic in the middle of the work.
macro_rules! eprintln {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($arg)*);
    }};
}

mod claim;
mod cli;
mod config;
mod conformance;
mod demo;
mod entrance;
mod log_tools;
mod logging;
mod logic;
mod mock;
mod serve;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// The runtime under multi-agent LLM workflows: everything that happens is an event in an ordered log.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no Omium answers, 4 not found, 5 refused, 10 the run that was watched
/// failed or is not completed, 74 the disk failed.
#[derive(Parser)]
#[command(name = "omium", version, about, long_about, max_term_width = 100, infer_subcommands = false)]
struct Cli {
    #[command(flatten)]
    target: cli::Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Dev(serve::Dev),
    Serve(serve::Serve),
    MockLlm(mock::MockLlm),
    Conformance(conformance::Conformance),
    Run(cli::Run),
    Exec(cli::Exec),
    #[command(subcommand)]
    Guard(cli::Guard),
    Approve(cli::Approve),
    Dismiss(cli::Dismiss),
    Refuse(cli::Refuse),
    List(cli::List),
    Show(cli::Show),
    Logs(cli::Logs),
    Replay(cli::Replay),
    Pause(cli::Pause),
    Resume(cli::Resume),
    Cancel(cli::Cancel),
    Retry(cli::Retry),
    Release(cli::Release),
    Signal(cli::Signal),
    Answer(cli::Answer),
    /// Lists, shows and compares checkpoints.
    #[command(subcommand)]
    Checkpoints(cli::Checkpoints),
    Rollback(cli::Rollback),
    Fork(cli::Fork),
    /// Validates, publishes and shows workflows.
    #[command(subcommand)]
    Workflows(cli::Workflows),
    /// Lets keys of the tenant in, and shuts them out.
    #[command(subcommand)]
    Keys(cli::Keys),
    /// Lists and sets what models cost.
    #[command(subcommand)]
    Prices(cli::Prices),
    Trim(cli::Trim),
    Doctor(cli::Doctor),
    Log(log_tools::Options),
    #[command(subcommand)]
    Logic(logic::Logic),
    Completion(Completion),
}

impl Command {
    /// Its name, where it speaks to no running Omium and prints no document.
    fn alone(&self) -> Option<&'static str> {
        match self {
            Command::Demo(_) => Some("demo"),
            Command::Dev(_) => Some("dev"),
            Command::Serve(_) => Some("serve"),
            Command::MockLlm(_) => Some("mock-llm"),
            Command::Completion(_) => Some("completion"),
            _ => None,
        }
    }

    /// Its name with what it prints as it is, where that is no document.
    fn prints_as_is(&self) -> Option<&'static str> {
        match self {
            // What is on stdout is the program's own.
            Command::Exec(_) => Some("exec"),
            Command::Show(show) if show.is_of_content() => Some("show --content"),
            _ => None,
        }
    }

    /// Its name, where it speaks to no running Omium but prints documents.
    fn local(&self) -> Option<&'static str> {
        match self {
            Command::Log(_) => Some("log"),
            Command::Logic(_) => Some("logic"),
            Command::Conformance(_) => Some("conformance"),
            Command::Workflows(cli::Workflows::Validate(_)) => Some("workflows validate"),
            _ => None,
        }
    }
}

/// The commands. Those that speak to no running Omium do not show what only the others have a use for.
fn commands() -> clap::Command {
    fn without(command: clap::Command, names: &[&'static str]) -> clap::Command {
        let hidden = |name| {
            let action = if name == "json" { ArgAction::SetTrue } else { ArgAction::Set };
            Arg::new(name).long(name).global(true).hide(true).action(action)
        };
        names.iter().fold(command, |command, name| command.arg(hidden(*name)))
    }
    let address: &[&'static str] = &["url", "key"];
    let all: &[&'static str] = &["url", "key", "json"];
    let local = ["log", "conformance"].map(|name| (name, address));
    let alone = ["demo", "dev", "serve", "mock-llm", "completion"].map(|name| (name, all));
    let hidden = local.into_iter().chain(alone).chain([("exec", &["json"][..])]);
    let whole = hidden.fold(Cli::command(), |whole, (name, options)| {
        whole.mut_subcommand(name, |command| without(command, options))
    });
    whole.mut_subcommand("workflows", |command| {
        command.mut_subcommand("validate", |command| without(command, address))
    })
}

/// Prints what a shell needs to complete commands.
#[derive(clap::Args)]
struct Completion {
    shell: clap_complete::Shell,
}

fn main() -> ExitCode {
    omium_memory::give_back_soon();
    let parsed = Cli::from_arg_matches(&commands().get_matches());
    let Cli { target, command } = parsed.unwrap_or_else(|error| error.exit());
    let useless = command.alone().zip(target.said()).or(command.local().zip(target.address()));
    let useless = useless.or(command.prints_as_is().filter(|_| target.json()).map(|name| (name, "--json")));
    if let Some((name, option)) = useless {
        let text = format!("`omium {name}` has no use for {option}; leave it out");
        Cli::command().error(ErrorKind::ArgumentConflict, text).exit();
    }
    let outcome = match command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Dev(dev) => serve::run(&dev),
        Command::Serve(node) => serve::run_node(&node),
        Command::MockLlm(mock) => mock::run(&mock),
        Command::Conformance(conformance) => conformance::run(&conformance, target.json()),
        Command::Run(run) => Ok(cli::run(&target, &run)),
        Command::Exec(exec) => Ok(cli::run_program(&target, &exec)),
        Command::Guard(guard) => Ok(cli::run(&target, &guard)),
        Command::Approve(approve) => Ok(cli::run(&target, &approve)),
        Command::Dismiss(dismiss) => Ok(cli::run(&target, &dismiss)),
        Command::Refuse(refuse) => Ok(cli::run(&target, &refuse)),
        Command::List(list) => Ok(cli::run(&target, &list)),
        Command::Show(show) => Ok(cli::run(&target, &show)),
        Command::Logs(logs) => Ok(cli::run(&target, &logs)),
        Command::Replay(replay) => Ok(cli::run(&target, &replay)),
        Command::Pause(pause) => Ok(cli::run(&target, &pause)),
        Command::Resume(resume) => Ok(cli::run(&target, &resume)),
        Command::Cancel(cancel) => Ok(cli::run(&target, &cancel)),
        Command::Retry(retry) => Ok(cli::run(&target, &retry)),
        Command::Release(release) => Ok(cli::run(&target, &release)),
        Command::Signal(signal) => Ok(cli::run(&target, &signal)),
        Command::Answer(answer) => Ok(cli::run(&target, &answer)),
        Command::Checkpoints(checkpoints) => Ok(cli::run(&target, &checkpoints)),
        Command::Rollback(rollback) => Ok(cli::run(&target, &rollback)),
        Command::Fork(fork) => Ok(cli::run(&target, &fork)),
        Command::Workflows(workflows) => Ok(cli::run(&target, &workflows)),
        Command::Keys(keys) => Ok(cli::run(&target, &keys)),
        Command::Prices(prices) => Ok(cli::run(&target, &prices)),
        Command::Trim(trim) => Ok(cli::run(&target, &trim)),
        Command::Doctor(doctor) => Ok(cli::run(&target, &doctor)),
        Command::Log(options) => Ok(log_tools::run(&options)),
        Command::Logic(logic) => logic::run(&logic),
        Command::Completion(Completion { shell }) => {
            clap_complete::generate(shell, &mut commands(), "omium", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("omium: {error:#}");
        ExitCode::FAILURE
    })
}
