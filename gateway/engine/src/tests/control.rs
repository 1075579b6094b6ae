//! What control says stands in the log of every partition before anything there is decided by it.

use omium_schemas::catalogue::{Command, ControlSeen, Event, StartExecution};
use omium_schemas::{Block, Frame, Partition, Seq};
use serde_json::json;

use super::{Desk, ONE};

/// What a partition was told of control, or by which control something was started there.
#[derive(Debug)]
enum Met {
    Told(Seq),
    Started(Seq),
}

fn met(frame: &Frame) -> Vec<Met> {
    let mut found = Vec::new();
    for (n, record) in frame.records().enumerate() {
        if n == 0 && record.kind == StartExecution::TYPE_ID {
            found.push(Met::Started(Command::decode(record.kind, record.body).unwrap().0.control));
        } else if record.kind == ControlSeen::TYPE_ID
            && let Event::ControlSeen(seen) = Event::decode(record.kind, record.body).unwrap()
        {
            found.push(Met::Told(seen.seq));
        }
    }
    found
}

/// In the order of a partition's log.
async fn all_met(desk: &Desk, partition: Partition) -> Vec<Met> {
    let log = &desk.engine.history.log;
    let (mut next, end) = (log.start(partition).unwrap(), *log.tail(partition).unwrap().borrow());
    let mut found = Vec::new();
    while next < end {
        for entry in log.read(partition, next, 1 << 20).await.unwrap() {
            next = entry.offset.next();
            found.extend(Block::parse(entry.bytes).unwrap().frames().unwrap().iter().flat_map(met));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_control_that_it_was_made_by_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let desk = Desk::open(dir.path()).await;
        desk.served.publish(&desk.caller, "one.yaml", &format!("{ONE}# {round}\n")).await.unwrap();
        for _ in 0..6 {
            desk.started_as("one", None, json!({})).await.unwrap();
        }
        let mut starts = 0;
        for partition in (0..desk.engine.history.log.partitions()).map(Partition) {
            let mut known = Seq(0);
            for met in all_met(&desk, partition).await {
                match met {
                    Met::Told(seq) => {
                        assert!(seq > known, "{seq} is told after {known}");
                        known = seq;
                    }
                    Met::Started(by) => {
                        assert!(by > Seq(0) && by <= known, "a start by {by} stands behind {known}");
                        starts += 1;
                    }
                }
            }
        }
        assert_eq!(starts, round * 6);
        desk.engine.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logic_is_adopted_where_nobody_runs_and_refused_where_it_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let in_use = crate::adopt_offline(dir.path(), 1).await.unwrap_err();
    assert!(format!("{in_use:#}").contains("in use"), "{in_use:#}");
    desk.engine.stop().await.unwrap();
    drop(desk);
    crate::adopt_offline(dir.path(), 1).await.unwrap();
    for unknown in [0, 2, i32::MAX] {
        let refused = crate::adopt_offline(dir.path(), unknown).await.unwrap_err();
        assert!(refused.to_string().contains("this program knows up to 1"), "{refused}");
    }
    let nothing = crate::adopt_offline(&dir.path().join("x"), 1).await.unwrap_err();
    assert!(nothing.to_string().contains("holds no log"), "{nothing}");
    Desk::open(dir.path()).await.engine.stop().await.unwrap();
}
