//! The promises themselves.

use std::sync::Arc;

use bytes::Bytes;
use omium_log::{Entry, Log, LogError};
use omium_schemas::{Block, BlockKind, Filter, Ignored, Offset, Partition, Verdict};

use super::blocks::{Chain, frames_of};
use super::feed::{Feed, within};

type Subject = Arc<dyn Log>;
const P: Partition = Partition(0);

/// Reads a partition to its tail.
pub(crate) async fn read_all(log: &dyn Log, partition: Partition) -> Vec<Entry> {
    read_from(log, partition, log.start(partition).unwrap()).await
}

async fn read_from(log: &dyn Log, partition: Partition, from: Offset) -> Vec<Entry> {
    let (mut entries, mut next) = (Vec::<Entry>::new(), from);
    let tail = *log.tail(partition).unwrap().borrow();
    while next < tail {
        let more = within("a read", log.read(partition, next, 64 * 1024)).await.unwrap();
        assert!(!more.is_empty(), "a read before the tail gives something");
        next = more[more.len() - 1].offset.next();
        entries.extend(more);
    }
    entries
}

fn bytes_of(entries: &[Entry]) -> Vec<Bytes> {
    entries.iter().map(|entry| entry.bytes.clone()).collect()
}

fn from_zero(count: usize) -> Vec<Offset> {
    (0..count as u64).map(Offset).collect()
}

pub(crate) async fn records_read_back_in_order_byte_for_byte(log: Subject) {
    let blocks = Chain::new(0).blocks(60, 3000);
    let feed = Feed::attach(&*log, 0);
    let offsets = feed.append(blocks.clone()).await.unwrap();
    assert_eq!(offsets, from_zero(60));
    let entries = read_all(&*log, P).await;
    assert_eq!(bytes_of(&entries), blocks);
    assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), offsets);
}

pub(crate) async fn reading_begins_at_any_position(log: Subject) {
    let blocks = Chain::new(0).blocks(40, 5000);
    Feed::attach(&*log, 0).append(blocks.clone()).await.unwrap();
    for (from, block) in (0..).map(Offset).zip(blocks) {
        let entries = log.read(P, from, 1).await.unwrap();
        assert_eq!(entries[0], Entry { offset: from, bytes: block });
    }
}

pub(crate) async fn a_read_gives_about_the_bytes_asked_for_and_at_least_one_record(log: Subject) {
    let blocks = Chain::new(0).blocks(20, 10_000);
    Feed::attach(&*log, 0).append(blocks).await.unwrap();
    assert_eq!(log.read(P, Offset(3), 0).await.unwrap().len(), 1);
    let some = log.read(P, Offset(3), 45_000).await.unwrap();
    assert!((1..=6).contains(&some.len()), "{} records", some.len());
}

pub(crate) async fn a_frame_is_there_whole_or_not_at_all(log: Subject) {
    let mut chain = Chain::new(0);
    let body = vec![7; 40_000];
    let bodies: Vec<&[u8]> = (0..9).map(|_| &body[..]).collect();
    Feed::attach(&*log, 0).append(vec![chain.block(&bodies), chain.block(&bodies[..2])]).await.unwrap();
    let counts: Vec<usize> =
        read_all(&*log, P).await.iter().map(|entry| frames_of(&entry.bytes).len()).collect();
    assert_eq!(counts, [9, 2]);
}

fn verdicts(entries: &[Entry]) -> Vec<Verdict> {
    let mut filter = Filter::new();
    let judged = entries.iter().map(|entry| {
        let block = Block::parse(entry.bytes.clone()).unwrap();
        let hash = (block.head.kind == BlockKind::Frames).then(|| block.hash().unwrap());
        filter.admit(&block.head, hash)
    });
    judged.collect()
}

pub(crate) async fn blocks_are_numbered_and_chained_and_every_reader_counts_them(log: Subject) {
    let mut chain = Chain::new(0);
    let mut blocks = vec![chain.open_epoch()];
    blocks.extend(chain.blocks(30, 100));
    Feed::attach(&*log, 0).append(blocks).await.unwrap();
    let verdicts = verdicts(&read_all(&*log, P).await);
    assert_eq!(verdicts[0], Verdict::Opens);
    assert!(verdicts[1..].iter().all(|verdict| *verdict == Verdict::Counts), "{verdicts:?}");
}

pub(crate) async fn a_stale_leaders_blocks_change_nothing(log: Subject) {
    let mut old = Chain::new(0);
    let first = vec![old.open_epoch(), old.block(&[b"one"])];
    let mut new = old.fork();
    let taken_over = vec![new.open_epoch()];
    let stale = vec![old.block(&[b"stale"])];
    let last = vec![new.block(&[b"two"])];
    // The old leader is still attached when its last block goes out; the log itself judges nothing.
    for blocks in [first, taken_over, stale, last] {
        Feed::attach(&*log, 0).append(blocks).await.unwrap();
    }
    let stale = Verdict::Ignored(Ignored::OtherEpoch);
    let expected = [Verdict::Opens, Verdict::Counts, Verdict::Opens, stale, Verdict::Counts];
    assert_eq!(verdicts(&read_all(&*log, P).await), expected);
}

pub(crate) async fn a_doubled_block_counts_once(log: Subject) {
    let mut chain = Chain::new(0);
    let (opening, one, two) = (chain.open_epoch(), chain.block(&[b"one"]), chain.block(&[b"two"]));
    Feed::attach(&*log, 0).append(vec![opening, one.clone(), one, two]).await.unwrap();
    let doubled = Verdict::Ignored(Ignored::Number);
    let expected = [Verdict::Opens, Verdict::Counts, doubled, Verdict::Counts];
    assert_eq!(verdicts(&read_all(&*log, P).await), expected);
}

pub(crate) async fn a_follower_is_told_and_need_not_ask(log: Subject) {
    let mut chain = Chain::new(0);
    let mut tail = log.tail(P).unwrap();
    let following = log.clone();
    let follower = tokio::spawn(async move {
        let (mut seen, mut next) = (Vec::new(), Offset(0));
        while seen.len() < 25 {
            within("news of the tail", tail.wait_for(|tail| *tail > next)).await.unwrap();
            let entries = following.read(P, next, 1 << 20).await.unwrap();
            assert!(!entries.is_empty(), "what the tail announces can be read");
            next = entries[entries.len() - 1].offset.next();
            seen.extend(bytes_of(&entries));
        }
        seen
    });
    let feed = Feed::attach(&*log, 0);
    let blocks = chain.blocks(25, 50);
    for block in &blocks {
        feed.append(vec![block.clone()]).await.unwrap();
    }
    assert_eq!(follower.await.unwrap(), blocks);
}

pub(crate) async fn at_most_one_block_of_a_partition_is_in_flight(log: Subject) {
    let feed = Feed::attach(&*log, 0);
    let blocks = Chain::new(0).blocks(200, 20);
    let mut pushed = 0;
    for block in blocks {
        feed.push([block]);
        pushed += 1;
    }
    // The feed itself notices a second take before the first has settled; waiting checks that it did not.
    feed.settled(pushed).await;
    assert_eq!(feed.taken(), 200);
}

pub(crate) async fn one_wake_is_enough_for_all_that_is_open(log: Subject) {
    let feed = Feed::attach(&*log, 0);
    feed.push(Chain::new(0).blocks(12, 20));
    feed.settled(12).await;
}

pub(crate) async fn partitions_do_not_disturb_each_other(log: Subject) {
    let feeds = [Feed::attach(&*log, 0), Feed::attach(&*log, 1)];
    let blocks = [Chain::new(0).blocks(150, 700), Chain::new(1).blocks(150, 30)];
    for (one, other) in blocks[0].iter().zip(&blocks[1]) {
        feeds[0].push([one.clone()]);
        feeds[1].push([other.clone()]);
    }
    for partition in 0..2 {
        feeds[partition].settled(150).await;
        let entries = read_all(&*log, Partition(partition as u16)).await;
        assert_eq!(bytes_of(&entries), blocks[partition]);
        assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), from_zero(150));
    }
}

pub(crate) async fn a_replaced_source_hears_nothing_more(log: Subject) {
    let mut chain = Chain::new(0);
    let older = Feed::attach(&*log, 0);
    older.append(vec![chain.block(&[b"one"])]).await.unwrap();
    let newer = Feed::attach(&*log, 0);
    older.push([chain.fork().block(&[b"never"])]);
    newer.append(chain.blocks(3, 10)).await.unwrap();
    assert_eq!((older.taken(), older.outcomes().len()), (1, 1));
    assert_eq!(read_all(&*log, P).await.len(), 4);
}

pub(crate) async fn a_dropped_appender_detaches_its_source(log: Subject) {
    let mut chain = Chain::new(0);
    let feed = Feed::detached();
    let appender = log.attach(P, feed.clone()).unwrap();
    feed.push([chain.block(&[b"one"])]);
    appender.wake();
    feed.settled(1).await;
    drop(appender);
    feed.push([chain.fork().block(&[b"never"])]);
    // Another source's block goes through the same rounds, so the first would have been taken by then.
    Feed::attach(&*log, 0).append(chain.blocks(2, 10)).await.unwrap();
    assert_eq!((feed.taken(), read_all(&*log, P).await.len()), (1, 3));
}

pub(crate) async fn trimming_moves_the_start_and_nothing_else(log: Subject) {
    let blocks = Chain::new(0).blocks(10, 100);
    let feed = Feed::attach(&*log, 0);
    feed.append(blocks.clone()).await.unwrap();
    assert_eq!(log.start(P).unwrap(), Offset(0));
    within("a trim", log.trim(P, Offset(4))).await.unwrap();
    assert_eq!(log.start(P).unwrap(), Offset(4));
    assert_eq!(bytes_of(&read_all(&*log, P).await), blocks[4..]);
    within("a second trim", log.trim(P, Offset(2))).await.unwrap();
    assert_eq!(log.start(P).unwrap(), Offset(4), "a start never goes back");
    assert_eq!(*log.tail(P).unwrap().borrow(), Offset(10));
}

pub(crate) async fn what_was_trimmed_is_refused_with_the_start(log: Subject) {
    Feed::attach(&*log, 0).append(Chain::new(0).blocks(6, 100)).await.unwrap();
    within("a trim", log.trim(P, Offset(3))).await.unwrap();
    match log.read(P, Offset(2), 100).await {
        Err(LogError::Trimmed { partition: P, wanted: Offset(2), start: Offset(3) }) => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_partition_that_does_not_exist_is_named(log: Subject) {
    let wanted = Partition(log.partitions());
    let no_such = |result: Option<LogError>| match result {
        Some(LogError::NoPartition { wanted: named, partitions }) => {
            assert_eq!((named, partitions), (wanted, log.partitions()));
        }
        other => panic!("{other:?}"),
    };
    no_such(log.attach(wanted, Feed::detached()).err());
    no_such(log.tail(wanted).err());
    no_such(log.start(wanted).err());
    no_such(log.read(wanted, Offset(0), 1).await.err());
    no_such(log.trim(wanted, Offset(0)).await.err());
}

pub(crate) async fn reading_at_the_tail_gives_nothing(log: Subject) {
    assert_eq!(log.read(P, Offset(0), 100).await.unwrap(), []);
    Feed::attach(&*log, 0).append(Chain::new(0).blocks(2, 10)).await.unwrap();
    assert_eq!(log.read(P, Offset(2), 100).await.unwrap(), []);
    assert_eq!(log.read(Partition(1), Offset(0), 100).await.unwrap(), []);
}
