//! Letting go of the front of the log: whole segments that no partition needs.

use omium_schemas::{Offset, Partition};

use super::layout::{self, Layout};
use super::reader::Reader;
use super::reserve::Reserve;
use crate::contract::LogError;
use crate::disk::Disk;

/// Moves a partition's start, and removes the segments that hold nothing any partition still has. The start is durable
/// before anything is removed. Not to be called twice at once.
pub(crate) fn trim<D: Disk>(
    disk: &D,
    layout: &Layout,
    reader: &Reader<D>,
    reserve: &Reserve<D>,
    partition: Partition,
    before: Offset,
) -> Result<(), LogError> {
    let index = reader.known(partition)?;
    let before = before.min(reader.tail(partition)?);
    let mut starts = reader.look(|state| state.starts.clone());
    if before > starts[index] {
        starts[index] = before;
        if let Err(error) = layout::write_starts(disk, layout, &starts) {
            // Letting go makes room, so what is kept for that is given to it where there is none.
            if !error.fault.passes() {
                return Err(error.into());
            }
            reserve.give_up(|| layout::write_starts(disk, layout, &starts)).unwrap_or(Err(error))?;
        }
        reader.change(|state| state.starts = starts);
    }
    while let Some(number) = reader.change(|state| {
        let first = state.sealed.front()?;
        let held =
            first.rows.iter().zip(&state.starts).any(|((first, count), start)| first.0 + count > start.0);
        if held { None } else { state.sealed.pop_front().map(|sealed| sealed.number) }
    }) {
        reader.forget(number);
        disk.remove(&layout.segment(number))?;
        // One by one, oldest first: a crash must not leave a gap.
        disk.sync_dir(&layout.journal())?;
    }
    Ok(())
}
