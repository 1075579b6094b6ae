//! How the node stands, for probes and people.

use std::sync::Arc;
use std::time::Duration;

use omium_api::port::{Node, Reason};
use omium_telemetry::Meters;

use super::Engine;

/// How long a partition may compute before somebody should know.
const COMPUTING: Duration = Duration::from_secs(1);

impl Node for Engine {
    fn ready(&self) -> bool {
        self.readable() && self.wholeness().is_empty()
    }

    /// Why this node does not work as it should: parts of its data that are gone or are another log's, an index that stands
    /// still, partitions that are not led or compute without an end. Waits for nobody, so it can be asked whatever the
    /// partitions do.
    fn wholeness(&self) -> Vec<Reason> {
        let Some(node) = self.node.get() else {
            return vec![Reason::new("the node is being opened", "the node is being opened")];
        };
        let folder = "a part of the data folder is missing, or does not belong there";
        let mut reasons: Vec<Reason> =
            node.wholeness().into_iter().map(|text| Reason::new(folder, text)).collect();
        let troubles = self.history.index.troubles().into_iter();
        reasons.extend(troubles.map(|text| Reason::new("the index stands still", text)));
        let full = "there is no room on the disk: commands are refused with 507 until there is; reads go on, and \
                    `omium cancel` works meanwhile";
        reasons.extend(self.full().map(|why| Reason::new(full, format!("{full} ({why})"))));
        let no_keys = "no keys can be written: what begins an execution is refused with 507 until they can; what has \
                       begun goes on, and `omium cancel` works";
        reasons.extend(node.no_keys().map(|why| Reason::new(no_keys, format!("{no_keys} ({why})"))));
        for standing in node.standing() {
            let omium_runtime::PartitionStanding { partition, led, ended, full: _, computing } = standing;
            match ended {
                Some(why) => reasons.push(Reason::new(
                    "a partition has ended",
                    format!("partition {partition} has ended: {why}"),
                )),
                None if !led => reasons.push(Reason::new(
                    "a partition is being taken over",
                    format!("partition {partition} is being taken over"),
                )),
                None => {}
            }
            if computing >= COMPUTING {
                let seconds = computing.as_secs();
                reasons.push(Reason::new(
                    "a partition computes for long",
                    format!("partition {partition} has been computing for {seconds} s"),
                ));
            }
        }
        reasons
    }

    fn readable(&self) -> bool {
        self.stopped().borrow().is_none() && self.history.index.troubles().is_empty()
    }

    fn health(&self) -> Vec<(String, bool)> {
        let running = self.stopped().borrow().is_none();
        vec![
            ("engine".to_owned(), running),
            ("data".to_owned(), self.wholeness().is_empty()),
            ("publisher".to_owned(), self.troubles.none()),
        ]
    }

    fn meters(&self) -> Arc<Meters> {
        self.metrics.meters.clone()
    }

    fn active(&self) -> Vec<(String, u64)> {
        self.history.index.active()
    }
}

impl Engine {
    /// Why the log takes nothing for now, where it does not.
    pub(super) fn full(&self) -> Option<String> {
        self.node.get()?.standing().into_iter().find_map(|standing| standing.full)
    }
}
