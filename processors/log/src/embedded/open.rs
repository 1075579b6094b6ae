//! Opening a log directory: first everything is looked at, then it is decided, and only then is anything changed.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use omium_schemas::Offset;

use super::journal::{Active, JournalOptions, Opened, Parts};
use super::layout::{self, Identity, Layout};
use super::prepare::{Preparation, Prepared, zero};
use super::reader::{Current, Reader, Sealed, State};
use super::reserve::Reserve;
use super::seals;
use super::segment;
use super::survey::{Last, Survey, survey, tail_must_be_copied};
use crate::contract::LogError;
use crate::disk::{Disk, DiskError, DiskFault, DiskFile};

pub(crate) fn open<D: Disk>(disk: D, options: JournalOptions) -> Result<Parts<D>, LogError> {
    let layout = Layout { root: options.root.clone() };
    ensure_directory(&disk, &layout)?;
    // Looked at before the lock is taken: not even a lock file is left in a directory of another program.
    if layout::read_identity(&disk, &layout)?.is_none() {
        may_be_created(&disk, &layout)?;
    }
    let lock = disk.lock(&layout.lock())?;
    let (identity, created) = match layout::read_identity(&disk, &layout)? {
        Some(identity) => (identity, false),
        None => (create(&disk, &layout, &options)?, true),
    };
    if identity.partitions != options.partitions {
        let place = layout.root.display().to_string();
        return Err(LogError::OtherPartitions {
            place,
            found: identity.partitions,
            wanted: options.partitions,
        });
    }
    let survey = survey(&disk, &layout, identity, &options.claims)?;
    let clean = survey.clean;
    let mut opened = Opened { created, clean, cut: survey.cut.clone(), copied: 0, resealed: Vec::new() };
    let (active, next) = settle(&disk, &layout, identity, &survey, &options, &mut opened)?;
    let Survey { sealed, last, starts, .. } = survey;
    let sealed: VecDeque<Sealed> = sealed.iter().map(|(number, spans)| Sealed::new(*number, spans)).collect();
    let current = Current { number: active.number, file: active.file.clone(), spans: last.spans };
    let reader = Reader::new(disk.clone(), layout.clone(), identity, State { sealed, current, starts });
    let sizes = (options.first_segment, options.last_segment);
    let reserve = Reserve::find(disk.clone(), layout.clone(), options.reserve);
    Ok(Parts { disk, layout, identity, sizes, reader, reserve, active, next, opened, lock })
}

/// Makes the directory where only it is missing. A missing parent is more likely a missing mount or a typing error.
fn ensure_directory<D: Disk>(disk: &D, layout: &Layout) -> Result<(), LogError> {
    match disk.list(&layout.root) {
        Ok(_) => return Ok(()),
        Err(error) if error.fault == DiskFault::Missing => {}
        Err(error) => return Err(error.into()),
    }
    let parent =
        layout.root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = disk.list(parent) {
        let why = format!(
            "{}; its parent directory has to exist: create it, or check that it is mounted",
            error.why
        );
        return Err(LogError::Io { doing: "creating", place: layout.root.display().to_string(), why });
    }
    disk.create_dir(&layout.root)?;
    Ok(disk.sync_dir(parent)?)
}

/// Whether a directory without a log may become one: it is empty but for what an interrupted creation leaves.
fn may_be_created<D: Disk>(disk: &D, layout: &Layout) -> Result<(), LogError> {
    let names = disk.list(&layout.root)?;
    let segments = match disk.list(&layout.journal()) {
        Ok(names) => names.iter().filter(|name| Layout::segment_number(name).is_some()).count(),
        Err(error) if error.fault == DiskFault::Missing => 0,
        Err(error) => return Err(error.into()),
    };
    if segments > 0 || !layout::may_become_a_log(&names) {
        let what = if segments > 0 { "it holds segments but no FORMAT file" } else { "it holds other files" };
        let why = format!("{what}; choose an empty directory, or restore the FORMAT file from a backup");
        return Err(LogError::Foreign { place: layout.root.display().to_string(), why });
    }
    Ok(())
}

/// Makes an empty log. The file that says what it is comes last, so that a crash leaves either no log or a whole one.
fn create<D: Disk>(disk: &D, layout: &Layout, options: &JournalOptions) -> Result<Identity, LogError> {
    may_be_created(disk, layout)?;
    if options.partitions == 0 {
        let why = "a log needs at least one partition".to_owned();
        return Err(LogError::Foreign { place: layout.root.display().to_string(), why });
    }
    disk.create_dir(&layout.journal())?;
    let identity = Identity { id: options.fresh_id, partitions: options.partitions };
    layout::write_starts(disk, layout, &vec![Offset(0); usize::from(options.partitions)])?;
    layout::write_identity(disk, layout, identity)?;
    Ok(identity)
}

/// Makes the directory what the survey decided: the tail copied and synced, leftovers removed, the mark consumed.
fn settle<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    survey: &Survey<D>,
    options: &JournalOptions,
    opened: &mut Opened,
) -> Result<(Active<D>, Option<Prepared<D>>), LogError> {
    remove_leftovers(disk, layout, survey)?;
    for damaged in &survey.damaged {
        seals::rebuild(disk, layout, identity, damaged)?;
        opened.resealed.push(layout.segment(damaged.at.segment));
    }
    let mut spare =
        survey.unused.iter().find(|(number, _, blank)| *blank && *number == survey.last.number + 1);
    if tail_must_be_copied(survey) {
        if let Some(from) = survey.last.file.as_ref() {
            let length = survey.last.sealed.unwrap_or(survey.last.end);
            let number = survey.last.number;
            let sealed = survey.last.sealed.is_some();
            // One that was made of the reserve may be too small for it, and for the seal behind it.
            let size = spare.map(|(_, file, _)| file.size()).transpose()?.unwrap_or_default();
            let seal = if sealed { 0 } else { segment::seal_room(identity.partitions, size as u32) as u64 };
            let serves = spare.take_if(|_| u64::from(length) + seal <= size).map(|(number, ..)| *number);
            match copy_tail(disk, layout, from, number, length, sealed, serves) {
                Err(error) if error.fault.passes() => rewrite_tail(disk, layout, number, length)?,
                copied => copied?,
            }
            opened.copied = u64::from(length);
        }
        sync_names(disk, layout)?;
    }
    let active = active(disk, layout, survey, options)?;
    let next = spare.map(|(number, ..)| prepared(disk, layout, *number)).transpose()?;
    // Any mark goes, one that cannot be trusted too: from here on the log is open.
    if disk.list(&layout.root)?.iter().any(|name| name == "clean") {
        disk.remove(&layout.clean())?;
        disk.sync_dir(&layout.root)?;
    }
    Ok((active, next))
}

/// Removes what an interrupted preparation left, and segments in which only a torn first write stands.
fn remove_leftovers<D: Disk>(disk: &D, layout: &Layout, survey: &Survey<D>) -> Result<(), LogError> {
    for name in disk.list(&layout.journal())?.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(&layout.journal().join(name))?;
    }
    for (number, _, blank) in &survey.unused {
        if !blank {
            disk.remove(&layout.segment(*number))?;
        }
    }
    Ok(())
}

/// Copies the good part of the last segment to another file, syncs it, and puts it in the old one's place. A segment
/// that was prepared and not used serves as that file, so that even a full disk can be opened.
fn copy_tail<D: Disk>(
    disk: &D,
    layout: &Layout,
    from: &D::File,
    number: u32,
    length: u32,
    sealed: bool,
    spare: Option<u32>,
) -> Result<(), DiskError> {
    let beside = layout.unfinished(number);
    let to = match spare {
        Some(spare) => {
            disk.rename(&layout.segment(spare), &beside)?;
            disk.open(&beside)?
        }
        None => disk.create(&beside)?,
    };
    seals::copy(from, &to, u64::from(length))?;
    if sealed {
        to.truncate(u64::from(length))?;
    } else if spare.is_none() {
        zero(&to, u64::from(length), from.size()?)?;
    }
    to.sync()?;
    disk.rename(&beside, &layout.segment(number))?;
    disk.sync_dir(&layout.journal())
}

/// Where there is no room for a copy: writes the good part again to where it stands, zeros what was cut off, and syncs.
/// Whatever a power cut leaves of that is what stood there before or the same.
fn rewrite_tail<D: Disk>(disk: &D, layout: &Layout, number: u32, length: u32) -> Result<(), DiskError> {
    // Whether this fails too changes nothing.
    let _ = disk.remove(&layout.unfinished(number));
    let file = disk.open(&layout.segment(number))?;
    seals::copy(&file, &file, u64::from(length))?;
    zero(&file, u64::from(length), file.size()?)?;
    file.sync()
}

/// Makes names and small files durable that a process may have read from the page cache alone.
fn sync_names<D: Disk>(disk: &D, layout: &Layout) -> Result<(), DiskError> {
    for path in [layout.format(), layout.starts()] {
        disk.open(&path)?.sync()?;
    }
    disk.sync_dir(&layout.journal())?;
    disk.sync_dir(&layout.root)
}

fn active<D: Disk>(
    disk: &D,
    layout: &Layout,
    survey: &Survey<D>,
    options: &JournalOptions,
) -> Result<Active<D>, LogError> {
    let Last { number, file, end, sealed, .. } = &survey.last;
    let there = file.is_some() || survey.unused.iter().any(|(unused, _, blank)| unused == number && *blank);
    if !there {
        let made = Preparation::new(disk.clone(), layout.clone(), *number, options.first_segment).run()?;
        return Ok(Active {
            number: *number,
            file: made.file,
            capacity: made.capacity,
            end: 0,
            sealed: false,
        });
    }
    let Prepared { file, capacity, .. } = prepared(disk, layout, *number)?;
    Ok(Active { number: *number, file, capacity, end: *end, sealed: sealed.is_some() })
}

fn prepared<D: Disk>(disk: &D, layout: &Layout, number: u32) -> Result<Prepared<D>, LogError> {
    let file = Arc::new(disk.open(&layout.segment(number))?);
    let capacity = u32::try_from(file.size()?).unwrap_or(u32::MAX);
    Ok(Prepared { number, file, capacity })
}
