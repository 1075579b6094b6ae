//! The kit that tests workers, on workers that are right and wrong in known ways.

use std::time::Duration;

use omium_api::conformance::{Finding, Pace, check};

use crate::conforming::{Flaw, worker};

async fn wrong(flaw: Flaw) -> Vec<Finding> {
    let mut running = None;
    let pace = Pace(Duration::from_millis(800));
    let findings = check(pace, |place| running = Some(tokio::spawn(worker(place, flaw)))).await.unwrap();
    running.unwrap().abort();
    assert!(findings.len() == 7, "{findings:?}");
    findings.into_iter().filter(|finding| finding.wrong.is_some()).collect()
}

#[tokio::test]
async fn a_worker_that_holds_to_the_protocol_passes() {
    assert_eq!(wrong(Flaw::None).await, []);
}

#[tokio::test]
async fn each_flaw_is_found_and_said() {
    let flaws = [
        (Flaw::NoHeartbeat, "it was silent: no heartbeat came in time"),
        (Flaw::NoProgress, "its step made no progress in time"),
        (Flaw::OneByOne, "one after the other"),
        (Flaw::NewSession, "it did not come back in time under the same name and session"),
        (Flaw::ThroughFloats, "18446744073709551615 came back as 1.84"),
    ];
    let found = flaws.map(|(flaw, said)| (tokio::spawn(wrong(flaw)), said));
    for (found, said) in found {
        let found = found.await.unwrap();
        assert!(
            found.iter().any(|finding| finding.wrong.as_ref().is_some_and(|text| text.contains(said))),
            "`{said}` is not among {found:?}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_does_not_come_is_said_to_be_missing() {
    let findings = check(Pace(Duration::from_millis(100)), drop).await.unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].wrong.as_deref(), Some("no worker registered within 3s"));
}
