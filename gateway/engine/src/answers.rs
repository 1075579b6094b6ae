//! What a node answers, in the words of the API.

use omium_api::port::{Failure, FailureKind};
use omium_api::views::Done;
use omium_processor::{Refusal, Why};
use omium_runtime::{Answer, Unreadable};

pub(super) fn done(answer: Answer) -> Result<Done, Failure> {
    decided(answer).map(|done| shown(&done))
}

pub(super) fn shown(done: &omium_runtime::Done) -> Done {
    Done { seq: done.first.0, last: done.last.0, repeated: done.repeated }
}

/// The same with what was decided.
pub(super) fn decided(answer: Answer) -> Result<omium_runtime::Done, Failure> {
    match answer {
        Answer::Done(done) => Ok(done),
        Answer::Refused(refusal) => Err(refused(refusal)),
        Answer::OtherRequest => Err(Failure::new(
            FailureKind::Conflict,
            "key-used",
            "this idempotency key came with another request before",
            "send the same request again, or take a new key",
        )),
        Answer::Busy => Err(busy("more commands wait than can be taken")),
        Answer::Full(why) => Err(Failure::new(
            FailureKind::Full,
            "disk-full",
            why,
            "free the room that is named, or some if none is; writing goes on by itself, and `omium cancel` works meanwhile",
        )),
        Answer::NotLeading => Err(Failure::new(
            FailureKind::Busy,
            "not-leading",
            "this node does not lead the partition, or not yet",
            "send it again in a moment",
        )),
        Answer::Quarantined(why) => Err(Failure::new(
            FailureKind::Conflict,
            "quarantined",
            format!("the stream is quarantined: {why}"),
            "its events are safe; where the cause is mended, an admin lets it go on: omium release ID",
        )),
        Answer::Frozen => Err(Failure::new(
            FailureKind::Conflict,
            "frozen",
            "this node cannot fold the stream",
            "see the node's log; other executions go on",
        )),
        Answer::Unknown => Err(unknown()),
    }
}

pub(super) fn unknown() -> Failure {
    Failure::new(
        FailureKind::Unknown,
        "outcome-unknown",
        "whether this happened is not known",
        "send it again with the same idempotency key",
    )
}

/// A refusal says what to do behind its last semicolon.
pub(super) fn refused(refusal: Refusal) -> Failure {
    let (kind, code) = match refusal.why {
        Why::NotFound => (FailureKind::NotFound, "not-found"),
        Why::Conflict => (FailureKind::Conflict, "conflict"),
        Why::Invalid => (FailureKind::Invalid, "invalid"),
        Why::Exhausted => (FailureKind::Exhausted, "exhausted"),
    };
    match refusal.text.rsplit_once("; ") {
        Some((detail, hint)) => Failure::new(kind, code, detail, hint),
        None => Failure::new(kind, code, refusal.text, "`omium show` says how it stands"),
    }
}

/// Content that a caller needs cannot be read.
pub(super) fn unreadable(what: &str, why: &Unreadable) -> Failure {
    let detail = format!("{what} cannot be read: {why}");
    match why {
        Unreadable::NotNow(_) => {
            Failure::new(FailureKind::Busy, "unavailable", detail, "try again in a moment")
        }
        Unreadable::NoKey => {
            let hint =
                "nothing brings it back if it was erased; otherwise restore the file `keys` from a backup";
            Failure::new(FailureKind::Conflict, "erased", detail, hint)
        }
        _ => Failure::new(
            FailureKind::Conflict,
            "unreadable",
            detail,
            "restore the folder `blobs` of this node from a backup",
        ),
    }
}

/// Something inside failed that is nobody's mistake outside.
pub(super) fn broken(error: &anyhow::Error) -> Failure {
    tracing::error!(error = %format!("{error:#}"), "a request could not be answered");
    Failure::new(
        FailureKind::Busy,
        "unavailable",
        "the engine could not read what it needs",
        "try again; the node's log says more",
    )
}

pub(super) fn busy(detail: &str) -> Failure {
    let hint = "send it again in a moment, with the same idempotency key";
    Failure::new(FailureKind::Busy, "busy", detail, hint)
}

/// What was paid for or done is kept, and nothing is done twice meanwhile.
pub(super) fn waiting_for_the_log() -> Failure {
    Failure::new(
        FailureKind::Full,
        "log-waits",
        "the log takes nothing for now; the outcome is kept in memory and written as soon as it can be",
        "send the same again in a moment; free some space if the disk is full",
    )
}

pub(super) fn no_open_call() -> Failure {
    let detail = "the step has no such open call";
    let hint = "`call` is the seq that `call_tool` was accepted with; a call ends once";
    Failure::new(FailureKind::Conflict, "no-open-call", detail, hint)
}

pub(super) fn erased() -> Failure {
    let detail = "the execution's key was destroyed: nothing of it is recorded any more";
    Failure::new(FailureKind::Conflict, "erased", detail, "start another execution")
}

/// Whether the log may take the same later.
pub(super) fn passes(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Busy | FailureKind::Full | FailureKind::Unknown)
}
