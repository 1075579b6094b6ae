//! How many bytes on disk a log takes beside the bodies of its records.

use std::path::Path;

use omium_log::disk::RealDisk;
use omium_log::embedded::{SegmentState, inspect, verify_and_read};
use omium_schemas::{Block, BlockKind};

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::once::{Once, Side};

pub(super) const BAR: Bar = Bar {
    name: "disk-overhead",
    what: "bytes on disk beside the bodies: at most 100 per frame, 6 per event, 96 per block",
    prepare: nothing,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let seconds = if setting.quick { 2.0 } else { 10.0 };
    for callers in [256, 1] {
        setting.say(&format!("{callers} callers"));
        let (mut used, mut allowed) = (Vec::new(), Vec::new());
        for _ in 0..setting.runs() {
            let dir = tempfile::tempdir_in(&setting.dir)?;
            Once::new(Side::Shell, callers, seconds).apart_in(dir.path())?;
            let log = dir.path().join("node/log");
            let counts = count(&log)?;
            used.push(bytes(&log)? as f64 / counts.frames as f64);
            allowed.push(counts.allowed() as f64 / counts.frames as f64);
        }
        let most = crate::series::median(&allowed);
        let what = format!("bytes per frame of command + 3 events, {callers} callers");
        let part = Part::at_most(&what, &used, most);
        finding
            .parts
            .push(Part { bar: "at most bodies + 100 B/frame + 6 B/event + 96 B/block".to_owned(), ..part });
    }
    Ok(finding)
}

#[derive(Clone, Copy, Default)]
struct Counts {
    bodies: u64,
    frames: u64,
    events: u64,
    blocks: u64,
}

impl Counts {
    fn allowed(&self) -> u64 {
        self.bodies + 100 * self.frames + 6 * self.events + 96 * self.blocks
    }
}

fn count(log: &Path) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    verify_and_read(&RealDisk, log, &mut |_, _, bytes| {
        let Ok(block) = Block::parse(bytes.clone()) else { return };
        counts.blocks += u64::from(block.head.kind == BlockKind::Frames);
        for frame in block.frames().unwrap_or_default() {
            counts.frames += 1;
            counts.events += frame.count() - 1;
            counts.bodies += frame.records().map(|record| record.body.len() as u64).sum::<u64>();
        }
    })?;
    Ok(counts)
}

/// What the log has written so far: heads, indexes and all, but not the zeros that wait to be written over.
pub(super) fn bytes(log: &Path) -> anyhow::Result<u64> {
    let seen = inspect(&RealDisk, log)?;
    let of_segment = |segment: &omium_log::embedded::SegmentSeen| match segment.state {
        SegmentState::Headless => 0,
        SegmentState::Open(end) | SegmentState::Unreadable(end, _) => u64::from(end),
        SegmentState::Sealed => segment.size,
    };
    Ok(seen.segments.iter().map(of_segment).sum())
}
