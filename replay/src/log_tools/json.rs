//! What the tools found, as JSON.

use omium_log::audit::Tally;
use omium_log::embedded::{Inspected, Problem, Repaired, SegmentSeen, SegmentState, Verified};
use serde_json::{Value, json};

pub(super) fn verified(found: &Verified) -> Value {
    let partitions: Vec<Value> = found.partitions.iter().map(tally).collect();
    json!({
        "sound": found.is_sound(),
        "clean": found.clean,
        "segments": found.segments,
        "bytes": found.bytes,
        "partitions": partitions,
        "torn": found.torn.as_ref().map(problem),
        "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn tally(tally: &Tally) -> Value {
    let Tally { first, next, blocks, frames, records, epochs, ignored, unchecked, epoch, no } = tally;
    json!({
        "first": first.0, "next": next.0, "blocks": blocks, "frames": frames, "records": records,
        "epochs": epochs, "ignored": ignored, "unchecked": unchecked, "epoch": epoch.0, "no": no.0,
    })
}

fn problem(problem: &Problem) -> Value {
    let Problem { file, at, what, advice } = problem;
    json!({ "file": file, "at": at, "what": what, "advice": advice })
}

pub(super) fn inspected(found: &Inspected) -> Value {
    let id: String = found.id.iter().map(|byte| format!("{byte:02x}")).collect();
    let starts = match &found.starts {
        Ok(starts) => json!(starts.iter().map(|start| start.0).collect::<Vec<_>>()),
        Err(why) => json!({ "unreadable": why }),
    };
    json!({
        "id": id, "directory": found.root, "partitions": found.partitions, "clean": found.clean,
        "starts": starts, "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}

fn segment(seen: &SegmentSeen) -> Value {
    let (state, at) = match &seen.state {
        SegmentState::Headless => ("unused", None),
        SegmentState::Open(end) => ("open", Some(end)),
        SegmentState::Sealed => ("sealed", None),
        SegmentState::Unreadable(at, _) => ("unreadable", Some(at)),
    };
    let rows =
        seen.rows.iter().map(|(first, count, no)| json!({ "first": first.0, "count": count, "no": no.0 }));
    json!({ "file": seen.file, "size": seen.size, "state": state, "at": at, "partitions": rows.collect::<Vec<_>>() })
}

pub(super) fn repaired(done: &Repaired) -> Value {
    let cut = done.cut.as_ref().map(|cut| json!({ "file": cut.file, "at": cut.at, "why": cut.why }));
    json!({ "applied": done.applied, "cut": cut, "copied": done.copied, "resealed": done.resealed })
}
