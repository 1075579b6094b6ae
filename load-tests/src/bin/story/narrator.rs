//! Tells the story: starts its processes, kills the first one, and shows that nothing was lost or done twice.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::actor;
use super::line::Line;
use super::replayed::replay;

/// Plays the story and prints it.
pub(super) fn tell(keep: Option<&Path>) -> anyhow::Result<()> {
    let (_scratch, dir) = place(keep)?;
    let mut teller = Teller { colour: colour(), dir, worked: Vec::new(), hashes: Vec::new() };
    teller.play()
}

fn place(keep: Option<&Path>) -> anyhow::Result<(Option<tempfile::TempDir>, PathBuf)> {
    let Some(dir) = keep else {
        let scratch =
            tempfile::Builder::new().prefix("omium-story-").tempdir().context("no place for the story")?;
        let dir = scratch.path().to_owned();
        return Ok((Some(scratch), dir));
    };
    let used = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !used,
        "{} is not empty; give a new directory, so that the story has one log of its own",
        dir.display()
    );
    Ok((None, dir.to_owned()))
}

fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Teller {
    colour: bool,
    dir: PathBuf,
    /// What the workers did in the world, in all lives.
    worked: Vec<String>,
    hashes: Vec<Line>,
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
impl Teller {
    fn play(&mut self) -> anyhow::Result<()> {
        println!(
            "A job of four steps, paid from an account. Every event is on disk before anything follows from it."
        );
        println!();
        println!("  {:<8} {:>4}  {:<18} what", "stream", "seq", "event");
        self.live("first")?;
        println!();
        self.mark(
            "The process is killed (kill -9) while step 3 is under way. Another one opens the same log.",
        );
        println!();
        self.live("second")?;
        println!();
        self.compare()
    }

    /// Runs one process of the story until it ends or asks to be cut.
    fn live(&mut self, life: &str) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("this program does not find itself")?;
        let mut child = Command::new(program)
            .args(["act", life])
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process of the story does not start")?;
        let heard = self.listen(&mut child);
        // Whatever happened, no process stays behind. One that has ended already is not there to be killed.
        let _ = child.kill();
        let status = child.wait()?;
        let cut = heard?;
        ensure!(
            cut || status.success(),
            "a process of the story failed ({status}); its message stands above"
        );
        Ok(())
    }

    /// True where the process asked to be cut.
    fn listen(&mut self, child: &mut Child) -> anyhow::Result<bool> {
        let lines = child.stdout.take().context("a process of the story says nothing")?;
        for line in BufReader::new(lines).lines() {
            match line?.parse()? {
                Line::Event { stream, seq, name, detail } => {
                    let row = format!("  {stream:<8} {seq:>4}  {name:<18} {detail}");
                    println!("{}", row.trim_end());
                }
                Line::Work(text) => {
                    self.mark(&format!("  {:<8} {:>4}  {text}", "worker", ""));
                    self.worked.push(text);
                }
                Line::Cut => return Ok(true),
                hash @ Line::Hash { .. } => self.hashes.push(hash),
            }
        }
        Ok(false)
    }

    fn mark(&self, text: &str) {
        if self.colour { println!("\x1b[36m{text}\x1b[0m") } else { println!("{text}") }
    }

    fn compare(&self) -> anyhow::Result<()> {
        let replayed = replay(&self.dir.join("log"))?;
        for line in &self.hashes {
            let Line::Hash { stream, seq, hash } = line else { continue };
            let key =
                actor::streams().into_iter().find(|(name, _)| name == stream).context("an unknown stream")?.1;
            let Some((seq_again, again)) = replayed.hash(&key) else {
                bail!("the replay does not know the {stream}")
            };
            ensure!(
                (seq_again, again) == (*seq, *hash),
                "the {stream} replays to {again} at seq {seq_again}, and was {hash} at seq {seq}"
            );
            println!("  {stream:<8} {seq:>4}  state {}  as replayed: the same", &hash.hex()[..16]);
        }
        println!();
        let verified = &replayed.verified;
        ensure!(verified.is_sound(), "the log is not sound:\n{verified}");
        let blocks: u64 = verified.partitions.iter().map(|tally| tally.blocks).sum();
        println!("Replayed {} records from the log's beginning; the states are equal.", replayed.records());
        println!(
            "Verified {blocks} blocks of {} partitions: checksums and hash chains hold.",
            verified.partitions.len()
        );
        println!("Steps sent to a worker: {}. {}", self.worked.len(), self.repeated());
        if !self.dir.starts_with(std::env::temp_dir()) {
            println!("The log is kept: omium log inspect {}", self.dir.join("log").display());
        }
        Ok(())
    }

    fn repeated(&self) -> &'static str {
        let finished_again = ["step 1,", "step 2,"].iter().any(|step| {
            self.worked.iter().filter(|text| text.starts_with(step) && text.ends_with("succeeds")).count()
                != 1
        });
        if finished_again { "A finished step was done again!" } else { "No finished step was done again." }
    }
}
