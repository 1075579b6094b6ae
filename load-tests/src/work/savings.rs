//! The bank under fire: a node that can be killed at any moment, and savers who send again what they were not told of.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use omium_processor::testkit::BankSuite;
use omium_runtime::{Answer, Config, Dispatch, Ended, Node, NodeParts, Request, StreamKey, World};
use omium_schemas::catalogue::{TopUpAccount, TransferMoney};
use omium_schemas::{Money, Partition, StreamId, StreamKind, TenantId};

use super::callers;

/// One life of the process.
#[derive(clap::Args)]
pub(crate) struct Save {
    dir: PathBuf,
    /// How many commands each saver was told of, in the lives before.
    #[arg(value_delimiter = ',')]
    told: Vec<u64>,
    /// Save nothing more: wait until all money has arrived, say what everyone has, and stop.
    #[arg(long)]
    settle: bool,
}

/// What the process says, one line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The node leads.
    Open,
    /// A saver was told that this command of it is done, after so many microseconds.
    Done(usize, u64, u64),
    /// A saver was told something else.
    Other(usize),
    /// In the end a saver has this.
    Holds(usize, i128, i128, i128),
}

impl Said {
    pub(crate) fn read(line: &str) -> Option<Said> {
        let words: Vec<&str> = line.split(' ').collect();
        Some(match *words {
            ["open"] => Said::Open,
            ["done", saver, n, micros] => {
                Said::Done(saver.parse().ok()?, n.parse().ok()?, micros.parse().ok()?)
            }
            ["other", saver] => Said::Other(saver.parse().ok()?),
            ["holds", saver, balance, credited, debited] => Said::Holds(
                saver.parse().ok()?,
                balance.parse().ok()?,
                credited.parse().ok()?,
                debited.parse().ok()?,
            ),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Said::Open => write!(f, "open"),
            Said::Done(saver, n, micros) => write!(f, "done {saver} {n} {micros}"),
            Said::Other(saver) => write!(f, "other {saver}"),
            Said::Holds(saver, balance, credited, debited) => {
                write!(f, "holds {saver} {balance} {credited} {debited}")
            }
        }
    }
}

/// The n-th command of each saver, from 1: three dollars in, then one dollar to the neighbour, and so on.
pub(crate) fn is_top_up(n: u64) -> bool {
    n % 2 == 1
}

struct Nobody;

impl World for Nobody {
    fn dispatch(&self, _: Dispatch) {}

    fn ended(&self, partition: Partition, why: Ended) {
        eprintln!("omium-load: partition {partition} has ended: {why}");
        std::process::exit(2);
    }
}

fn account(saver: usize) -> StreamKey {
    StreamKey::new(TenantId([1; 16]), StreamId::named(StreamKind::Account, &format!("saver-{saver}")))
}

/// One write per line, so that what is said is never half of it.
fn say(said: Said) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(format!("{said}\n").as_bytes())?)
}

impl Save {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        callers::runtime()?.block_on(self.save())
    }

    async fn save(&self) -> anyhow::Result<()> {
        let parts = NodeParts::in_directory(&self.dir, Config::default(), Arc::new(Nobody))?;
        let node: Arc<Node<BankSuite>> = Arc::new(Node::open(parts).await?);
        say(Said::Open)?;
        if self.settle {
            return self.settle(&node).await;
        }
        let savers = self.told.len();
        let tasks: Vec<_> = (self.told.iter().enumerate())
            .map(|(saver, told)| {
                let node = node.clone();
                let told = *told;
                tokio::spawn(async move {
                    for n in told + 1.. {
                        save_once(&node, saver, savers, n).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    /// Sends what nobody was told of once more, since it may be in the log or not, and then counts the money: what is
    /// under way arrives within moments of a node's start.
    async fn settle(&self, node: &Node<BankSuite>) -> anyhow::Result<()> {
        for (saver, told) in self.told.iter().enumerate() {
            save_once(node, saver, self.told.len(), told + 1).await?;
        }
        let expected = self.told.iter().map(|told| 3 * (told + 1).div_ceil(2)).sum::<u64>();
        let expected = Money::dollars(expected as i64).0;
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
        for _ in 0..600 {
            ticks.tick().await;
            let mut held = Vec::new();
            for saver in 0..self.told.len() {
                let view = node.view(account(saver)).await.ok().flatten().context("an account is gone")?;
                held.push(view.state.0.account());
            }
            if held.iter().map(|account| account.balance.0).sum::<i128>() == expected {
                for (saver, account) in held.iter().enumerate() {
                    say(Said::Holds(saver, account.balance.0, account.credited.0, account.debited.0))?;
                }
                return Ok(node.stop().await?);
            }
        }
        bail!("the accounts never held the {expected} that was paid in")
    }
}

async fn save_once(node: &Node<BankSuite>, saver: usize, savers: usize, n: u64) -> anyhow::Result<()> {
    let request = if is_top_up(n) {
        Request::new(account(saver), TopUpAccount { amount: Money::dollars(3) })
    } else {
        let to = account((saver + 1) % savers).stream;
        Request::new(account(saver), TransferMoney { to, amount: Money::dollars(1) })
    };
    let request = request.with_key(n.to_be_bytes().to_vec());
    let since = Instant::now();
    while !matches!(node.submit(request.clone()).await, Answer::Done(_)) {
        say(Said::Other(saver))?;
        tokio::task::yield_now().await;
    }
    say(Said::Done(saver, n, since.elapsed().as_micros() as u64))
}
