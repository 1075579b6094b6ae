//! Taking over from oneself: a shell whose append failed is thrown away, and another one learns from the log what it
//! holds.

use std::time::Duration;

use omium_processor::Processors;
use tokio::task::JoinSet;

use super::carrier::{Carrier, Phase, reaches};
use super::cell::Standing;
use super::clock;
use super::opening::{catch_up, open_shell};
use crate::Role;
use crate::port::{Ended, Input};

/// The first wait; each further one in a row is twice as long, up to a limit.
const WAIT: Duration = Duration::from_millis(50);
/// After how many microseconds of leading a failure is not one in a row any more.
const STEADY: u64 = 10_000_000;

/// How this partition was led by this node.
#[derive(Debug, Default)]
pub(super) struct Leads {
    ever: bool,
    /// Since when, where nothing has failed since.
    since: Option<u64>,
    failures: u32,
}

impl Leads {
    pub(super) fn begin(&mut self, boot: u64) {
        self.ever = true;
        self.since = Some(boot);
    }

    /// How long to wait before the next try.
    fn fail(&mut self, boot: u64) -> Duration {
        let led = self.since.take().map(|since| boot.saturating_sub(since));
        if led.is_some_and(|led| led >= STEADY) {
            self.failures = 0;
        }
        // Where leading works, only to fail a little later, the log can be reached: no need to stay away for long.
        self.failures = (self.failures + 1).min(if led.is_some() { 4 } else { 9 });
        WAIT * (1 << (self.failures - 1))
    }
}

impl<P: Processors> Carrier<P> {
    /// The shell has ended: another one takes its place, or the partition has ended for this node.
    pub(super) async fn ended(&mut self, why: Ended, work: &mut JoinSet<()>) {
        if let Err(why) = self.retake(why, work).await {
            tracing::error!(partition = self.partition.0, %why, "a partition has ended on this node");
            self.cell().standing.send_replace(Standing::Ended(why.clone()));
            if *self.phase.borrow() != Phase::Over {
                self.cell().world.ended(self.partition, why);
            }
        }
    }

    async fn retake(&mut self, mut why: Ended, work: &mut JoinSet<()>) -> Result<(), Ended> {
        loop {
            if !self.may_retake(&why) {
                return Err(why);
            }
            tracing::warn!(partition = self.partition.0, %why, "taking over from oneself");
            self.cell().standing.send_replace(Standing::Opening);
            self.cell().world.retaken(self.partition, &why);
            let wait = self.leads.fail(clock::now().boot);
            if !self.is_quiet_after(wait, work).await {
                return Err(why);
            }
            let mut phase = self.phase.clone();
            let renewed = tokio::select! {
                biased;
                () = reaches(&mut phase, Phase::Over) => Err(Ended::Halted),
                renewed = self.renew() => renewed,
            };
            match renewed {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
    }

    /// Who has never led learns it from [`super::Node::open`]. On disk a failed write is the end.
    fn may_retake(&self, why: &Ended) -> bool {
        let passing = matches!(why, Ended::AppendFailed(_) | Ended::Unreachable(_));
        passing && self.leads.ever && self.parts.log.survives_failure()
    }

    /// Waits for the old shell's way to store and blobs to end: the new one reads there. False where the node stops.
    async fn is_quiet_after(&self, wait: Duration, work: &mut JoinSet<()>) -> bool {
        let mut phase = self.phase.clone();
        let quiet = async {
            while work.join_next().await.is_some() {}
            tokio::time::sleep(wait).await;
        };
        tokio::select! {
            biased;
            () = reaches(&mut phase, Phase::Finishing) => false,
            () = quiet => true,
        }
    }

    async fn renew(&self) -> Result<(), Ended> {
        let cell = self.cell();
        let (parts, partition) = (self.parts.clone(), self.partition);
        let opened = tokio::task::spawn_blocking(move || open_shell(&parts, partition)).await;
        let (shell, rests) =
            opened.map_err(|_| Ended::Halted)?.map_err(|error| Ended::Unreachable(error.to_string()))?;
        cell.renew(shell);
        catch_up(&*self.parts.log, self.partition, cell, rests).await?;
        let (role, found, asked) = {
            let inside = cell.lock();
            (inside.shell.role(), inside.shell.epoch(), inside.asked)
        };
        if found > asked {
            return Err(Ended::Superseded(found));
        }
        // Where it could not read the log, its own last word is on its way here.
        if role != Role::Ended {
            cell.lead(&*self.parts.log, clock::random())?;
        }
        if *self.phase.borrow() >= Phase::Finishing {
            // The shell of that moment was asked to stop; this one was not.
            cell.feed(Input::Stop);
        }
        Ok(())
    }
}
