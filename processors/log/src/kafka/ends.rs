//! Where a partition begins and ends, as the broker sees it now.

use std::time::Instant;

use omium_schemas::{Offset, Partition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::KafkaOptions;
use super::client::{broken, unsigned};
use crate::LogError;

/// The first offset that is there, and the one that the next record will have. Blocks for a round trip; longer, up to
/// the time limit, while the partition's leader moves.
pub(super) fn ends(
    asker: &BaseConsumer,
    options: &KafkaOptions,
    partition: Partition,
) -> Result<(Offset, Offset), LogError> {
    let began = Instant::now();
    loop {
        let left = options.timeout.saturating_sub(began.elapsed());
        match asker.fetch_watermarks(&options.topic, i32::from(partition.0), left) {
            Ok((first, next)) => return Ok((Offset(unsigned(first)), Offset(unsigned(next)))),
            Err(error) if left.is_zero() || !passes(&error) => {
                return Err(broken("asking for the ends of a partition", &error));
            }
            // Asking for the topic is what makes the client learn of the new leader, and paces the next try.
            Err(_) => drop(asker.fetch_metadata(Some(&options.topic), left)),
        }
    }
}

/// Errors of a leader that is being chosen or has just moved.
fn passes(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
        )
    })
}
