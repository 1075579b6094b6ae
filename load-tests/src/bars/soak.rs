//! The bank under random faults, for a long time: nothing lost, nothing doubled, nothing growing.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use omium_schemas::Money;

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::series::median;
use crate::work::savings::{Said, is_top_up};

pub(super) const BAR: Bar = Bar {
    name: "soak",
    what: "the bank under random faults, one every 5 s: nothing lost, memory and handles flat, requests answered",
    prepare: nothing,
    run,
};

const SAVERS: usize = 32;
/// The time from one fault to the next.
const CALM: Duration = Duration::from_secs(5);
/// What is answered later than this is not answered well.
const WELL: u64 = 1_000_000;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let length = Duration::from_secs(if setting.quick { 40 } else { 60 * setting.minutes.unwrap_or(10) });
    let mut soak = Soak::new(setting);
    let since = Instant::now();
    while since.elapsed() < length {
        soak.live()?;
        setting.say(&format!(
            "{:.0} s, {} faults, {} answers",
            since.elapsed().as_secs_f64(),
            soak.faults,
            soak.answered
        ));
    }
    soak.judge()
}

struct Soak<'a> {
    setting: &'a Setting,
    told: Vec<u64>,
    answered: u64,
    late: u64,
    faults: u64,
    dice: u64,
    memory: Vec<f64>,
    handles: Vec<f64>,
}

impl Soak<'_> {
    fn new(setting: &Setting) -> Soak<'_> {
        let (memory, handles) = (Vec::new(), Vec::new());
        Soak { setting, told: vec![0; SAVERS], answered: 0, late: 0, faults: 0, dice: 1, memory, handles }
    }

    fn start(&self, settle: bool) -> anyhow::Result<(Child, Receiver<Said>)> {
        let told: Vec<String> = self.told.iter().map(u64::to_string).collect();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("save").arg(self.setting.dir.join("bank")).arg(told.join(","));
        if settle {
            command.arg("--settle");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = child.stdout.take().context("the process says nothing")?;
        let (says, said) = channel();
        std::thread::spawn(move || {
            // A line that was cut by a kill was never said.
            let lines = BufReader::new(lines).lines().map_while(Result::ok);
            lines.filter_map(|line| Said::read(&line)).try_for_each(|line| says.send(line)).ok()
        });
        Ok((child, said))
    }

    /// One life: work, a pause or two, and the end by force.
    fn live(&mut self) -> anyhow::Result<()> {
        let (mut child, said) = self.start(false)?;
        ensure!(said.recv_timeout(Duration::from_secs(60)) == Ok(Said::Open), "the node did not open again");
        loop {
            self.listen(&said, Instant::now() + CALM)?;
            self.faults += 1;
            self.dice =
                self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if (self.dice >> 33).is_multiple_of(3) {
                self.pause(&child, &said)?;
                continue;
            }
            self.weigh(child.id());
            child.kill()?;
            child.wait()?;
            // What it said before it died counts.
            while let Ok(line) = said.recv() {
                self.take_in(line, false)?;
            }
            return Ok(());
        }
    }

    /// Stops the process for half a second, as a busy host would.
    fn pause(&mut self, child: &Child, said: &Receiver<Said>) -> anyhow::Result<()> {
        let pid = child.id().to_string();
        let signal = |name: &str| Command::new("kill").args([name, &pid]).status();
        signal("-STOP")?;
        let resumed = self.listen_outside(said, Instant::now() + Duration::from_millis(500));
        signal("-CONT")?;
        resumed?;
        // The requests that were under way while it stood still are answered in this second.
        self.listen_outside(said, Instant::now() + Duration::from_secs(1))
    }

    fn listen(&mut self, said: &Receiver<Said>, until: Instant) -> anyhow::Result<()> {
        self.hear(said, until, true)
    }

    fn listen_outside(&mut self, said: &Receiver<Said>, until: Instant) -> anyhow::Result<()> {
        self.hear(said, until, false)
    }

    fn hear(&mut self, said: &Receiver<Said>, until: Instant, counts: bool) -> anyhow::Result<()> {
        loop {
            match said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take_in(line, counts)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the node ended by itself"),
            }
        }
    }

    fn take_in(&mut self, said: Said, counts: bool) -> anyhow::Result<()> {
        match said {
            Said::Done(saver, n, micros) => {
                let told = self.told.get_mut(saver).context("an unknown saver")?;
                ensure!(n == *told + 1, "saver {saver} was told of {n} after {told}");
                *told = n;
                self.answered += 1;
                self.late += u64::from(counts && micros > WELL);
            }
            Said::Other(_) => self.late += u64::from(counts),
            Said::Open | Said::Holds(..) => {}
        }
        Ok(())
    }

    fn weigh(&mut self, pid: u32) {
        let process = format!("/proc/{pid}");
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let memory = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let memory: Option<f64> = memory;
        self.memory.extend(memory.map(|kilobytes| kilobytes / 1024.0));
        let handles = std::fs::read_dir(Path::new(&process).join("fd"));
        self.handles.extend(handles.map(|entries| entries.count() as f64));
    }

    fn judge(mut self) -> anyhow::Result<Finding> {
        self.setting.say("settling");
        let wrong = self.settle()?;
        let mut finding = Finding::default();
        let well = 1.0 - self.late as f64 / self.answered.max(1) as f64;
        finding.parts.push(Part::at_least(
            "share of requests answered well, outside of faults",
            &[well],
            0.999,
        ));
        finding.parts.push(Part::at_most(
            "accounts that hold something else than they should",
            &[wrong as f64],
            0.0,
        ));
        for (what, series) in [("memory", &self.memory), ("file handles", &self.handles)] {
            let third = (series.len() / 3).max(1).min(series.len());
            let growth = median(&series[series.len() - third..]) / median(&series[..third]);
            finding.parts.push(Part::at_most(
                &format!("{what} in the last third of lives against the first"),
                &[growth],
                1.2,
            ));
        }
        finding.notes.push(format!("{} faults, {} requests answered", self.faults, self.answered));
        finding.notes.push(format!(
            "memory {:.0} MB, {:.0} file handles",
            median(&self.memory),
            median(&self.handles)
        ));
        Ok(finding)
    }

    /// Counts the accounts whose money is not what their owners were told.
    fn settle(&mut self) -> anyhow::Result<usize> {
        let (mut child, said) = self.start(true)?;
        let mut holds = vec![None; SAVERS];
        while let Ok(line) = said.recv() {
            match line {
                Said::Holds(saver, balance, credited, debited) => {
                    *holds.get_mut(saver).context("an unknown saver")? = Some((balance, credited, debited));
                }
                line => self.take_in(line, false)?,
            }
        }
        let status = child.wait()?;
        ensure!(status.success(), "the node did not settle ({status}); its message stands above");
        let right = |saver: usize| {
            let count =
                |of: usize, top_ups| (1..=self.told[of]).filter(|n| is_top_up(*n) == top_ups).count() as i64;
            let credited =
                Money::dollars(3 * count(saver, true) + count((saver + SAVERS - 1) % SAVERS, false)).0;
            let debited = Money::dollars(count(saver, false)).0;
            (credited - debited, credited, debited)
        };
        Ok((0..SAVERS).filter(|saver| holds[*saver] != Some(right(*saver))).count())
    }
}
