//! How far the log was durable, told beside it after every sync: so that a tail which held acknowledged records and is
//! blank at the next start is noticed, and not taken for one that was torn while it was written.
//!
//! ```text
//! file    two places of the same size, written in turn, so that one of them is always whole
//! place   "OMD" 1 | partitions u16 | 0 u16 | log id 16 | number u64 | per partition: next offset u64, last block u64
//!         | CRC-32C u32
//! ```
//!
//! It is written without a sync of its own, for the page cache outlives the process; a thread syncs it now and then for
//! power cuts. Without it the log opens as well: nothing is claimed then.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use omium_schemas::{BlockNo, Offset, Partition};

use super::journal::Claim;
use super::layout::{Identity, Layout};
use super::segment::Standing;
use crate::disk::{self, Disk, DiskError, DiskFile};
use crate::slots::Slots;

const MAGIC: [u8; 4] = *b"OMD\x01";
const HEAD: usize = 32;
const ROW: usize = 16;
const CRC: usize = 4;
/// Places begin at multiples of this: a sector is never shared by both.
const ALIGN: usize = 4096;
/// How often it is synced, in steps of the wait.
const SYNC: u32 = 10;
const STEP: Duration = Duration::from_millis(100);

fn place_size(partitions: u16) -> usize {
    (HEAD + usize::from(partitions) * ROW + CRC).next_multiple_of(ALIGN)
}

/// What the file of a log that was open before claims.
pub(crate) fn claims<D: Disk>(disk: &D, layout: &Layout, identity: Identity) -> Vec<Claim> {
    newest(disk, layout, identity).map(|(_, claims)| claims).unwrap_or_default()
}

fn newest<D: Disk>(disk: &D, layout: &Layout, identity: Identity) -> Option<(u64, Vec<Claim>)> {
    let size = place_size(identity.partitions);
    // What cannot be read claims nothing: it was made for finding losses, not for causing them.
    let bytes = disk::read_small(disk, &layout.durable(), 2 * size).ok().flatten()?;
    bytes.chunks(size).filter_map(|place| parse(place, identity)).max_by_key(|(number, _)| *number)
}

fn parse(place: &[u8], identity: Identity) -> Option<(u64, Vec<Claim>)> {
    let length = HEAD + usize::from(identity.partitions) * ROW;
    let (body, rest) = place.split_at_checked(length)?;
    let fits = body[..4] == MAGIC
        && body[4..6] == identity.partitions.to_le_bytes()
        && body[8..24] == identity.id
        && rest.get(..CRC)? == crc32c::crc32c(body).to_le_bytes();
    let number_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
    let claim = |n: u16| {
        let at = HEAD + usize::from(n) * ROW;
        Claim { partition: Partition(n), before: Offset(number_at(at)), no: BlockNo(number_at(at + 8)) }
    };
    fits.then(|| (number_at(24), (0..identity.partitions).map(claim).collect()))
}

/// Writes it.
pub(crate) struct Watermark<D: Disk> {
    file: Arc<D::File>,
    identity: Identity,
    number: u64,
    bytes: Vec<u8>,
    dirty: Arc<AtomicBool>,
}

impl<D: Disk> Watermark<D> {
    /// Opens it and begins to sync it now and then, until the log is closed.
    pub(crate) fn begin(
        disk: &D,
        layout: &Layout,
        identity: Identity,
        slots: Arc<Slots>,
    ) -> Result<Watermark<D>, DiskError> {
        let number = newest(disk, layout, identity).map_or(0, |(number, _)| number);
        let path = layout.durable();
        let there = disk.list(&layout.root)?.iter().any(|name| name == "durable");
        let file = Arc::new(if there { disk.open(&path)? } else { disk.create(&path)? });
        let dirty = Arc::new(AtomicBool::new(false));
        let (synced, changed) = (file.clone(), dirty.clone());
        let sync = move || {
            let mut steps = 0;
            while !slots.is_closing() && !slots.has_ended() {
                thread::park_timeout(STEP);
                steps += 1;
                if steps % SYNC == 0
                    && changed.swap(false, Ordering::AcqRel)
                    && let Err(error) = synced.sync()
                {
                    tracing::warn!(%error, "how far the log is durable could not be synced");
                }
            }
        };
        let spawned = thread::Builder::new().name("omium-watermark".to_owned()).spawn(sync);
        if let Err(error) = spawned {
            tracing::warn!(%error, "how far the log is durable is not synced");
        }
        Ok(Watermark { file, identity, number, bytes: Vec::new(), dirty })
    }

    /// Tells how far the log is durable. A failure costs the next start what it would have noticed, and nothing else.
    pub(crate) fn tell(&mut self, standings: impl Iterator<Item = Standing>) {
        self.number += 1;
        self.bytes.clear();
        self.bytes.extend_from_slice(&MAGIC);
        self.bytes.extend_from_slice(&self.identity.partitions.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&self.identity.id);
        self.bytes.extend_from_slice(&self.number.to_le_bytes());
        for Standing { next, no } in standings {
            self.bytes.extend_from_slice(&next.0.to_le_bytes());
            self.bytes.extend_from_slice(&no.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        let at = self.number % 2 * place_size(self.identity.partitions) as u64;
        if self.file.write_at(&mut [IoSlice::new(&self.bytes)], at).is_ok() {
            self.dirty.store(true, Ordering::Release);
        }
    }
}
