//! How long an opening takes: of a large log, and of a node with much behind it.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions};
use omium_log::{EmbeddedLog, EmbeddedOptions};
use omium_schemas::{
    BlockBuilder, BlockHead, BlockKind, BlockNo, Digest, Epoch, FrameBuilder, FrameHead, Partition, Seq,
    StreamId, TenantId, Time, TypeId,
};

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::once::{Once, Side};
use crate::work::{callers, shell};

pub(super) const BAR: Bar = Bar {
    name: "open",
    what: "seconds to open a log of 10 GB, and to start with 10 M events of finished streams",
    prepare: nothing,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let (gigabytes, events) = if setting.quick { (1, 1_000_000) } else { (10, 10_000_000) };
    setting.say(&format!("writing a log of {gigabytes} GB"));
    let log = setting.dir.join("large");
    write(&log, gigabytes << 30)?;
    let mut seconds = Vec::new();
    for _ in 0..setting.runs() {
        let since = Instant::now();
        let opened = EmbeddedLog::open(EmbeddedOptions::new(&log, 4)?)?;
        seconds.push(since.elapsed().as_secs_f64());
        opened.close()?;
    }
    std::fs::remove_dir_all(&log)?;
    finding.parts.push(Part::at_most(&format!("seconds to open a log of {gigabytes} GB"), &seconds, 2.0));

    setting.say(&format!("writing {events} events"));
    let mut written = 0.0;
    while written < events as f64 {
        let once = Once { streams: 100_000, ..Once::new(Side::Shell, 256, 5.0) };
        written += once.apart_in(&setting.dir)?.get("per_second").copied().unwrap_or(0.0) * 5.0 * 3.0;
    }
    let seconds: Vec<f64> = (0..setting.runs()).map(|_| start(&setting.dir)).collect::<Result<_, _>>()?;
    finding.parts.push(Part::at_most(&format!("seconds to start with {written:.0} events"), &seconds, 1.0));
    Ok(finding)
}

/// From nothing to a node that leads every partition.
fn start(dir: &Path) -> anyhow::Result<f64> {
    callers::runtime()?.block_on(async {
        let since = Instant::now();
        let node = shell::open(dir).await?;
        let seconds = since.elapsed().as_secs_f64();
        node.stop().await?;
        Ok(seconds)
    })
}

/// A log of about so many bytes: sound blocks with the same frames again and again.
fn write(root: &Path, size: u64) -> anyhow::Result<()> {
    let mut journal = Journal::open(RealDisk, JournalOptions::new(root, 4, [7; 16]))?;
    let mut written = 0;
    let mut prev = Digest::NONE;
    for no in 1.. {
        let (block, hash) = block(BlockNo(no), prev)?;
        prev = hash;
        if journal.room() < block.len() {
            journal.prepare_next()?;
        }
        written += block.len() as u64;
        journal.write(&[block])?;
        journal.sync()?;
        if written >= size {
            break;
        }
    }
    ensure!(written >= size, "the log is smaller than it was to be");
    Ok(journal.close()?)
}

fn block(no: BlockNo, prev: Digest) -> anyhow::Result<(Bytes, Digest)> {
    let mut builder = BlockBuilder::default();
    let (tenant, stream, first) = (TenantId([1; 16]), StreamId::account(), Seq(no.0));
    let head = FrameHead { tenant, stream, first, time: Time(no.0), prev, actor: None, trace: None };
    let mut frame = FrameBuilder::new(&head, builder.buffer());
    frame.record(TypeId(1), 0, |out| {
        out.extend_from_slice(&vec![7; 500_000]);
        Ok(())
    })?;
    let (length, hash) = frame.finish();
    builder.push(length, hash);
    let (kind, partition, epoch) = (BlockKind::Frames, Partition(0), Epoch(1));
    let closed = builder.close(BlockHead { kind, partition, frames: 0, epoch, no, prev, time: Time(no.0) });
    Ok((closed.bytes, closed.hash))
}
