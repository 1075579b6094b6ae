//! The machine: what class it is of, and what this process has used of it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Cores, memory and kind of disk.
pub(crate) fn class(dir: &Path) -> anyhow::Result<Value> {
    let disk = disk(dir)?;
    ensure!(disk != "memory", "{} is in memory; give a directory on a disk with --dir", dir.display());
    Ok(json!({ "cores": cores(), "memory_gb": memory_gb(), "disk": disk }))
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory_gb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    (kilobytes.unwrap_or(0) + (1 << 19)) >> 20
}

fn disk(dir: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(dir).with_context(|| format!("{} is not there", dir.display()))?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    if major == 0 {
        return Ok("memory".to_owned());
    }
    let device = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
    let Ok(device) = device else { return Ok("unknown".to_owned()) };
    // A partition has no queue of its own; its disk, one level up, has.
    let rotational = [device.join("queue/rotational"), device.join("../queue/rotational")];
    let rotational = rotational.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kind =
        if rotational.is_some_and(|text| text.trim() == "1") { "rotating or virtual" } else { "solid" };
    Ok(format!("{kind} ({name})"))
}

/// The processor time of this process, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// The processor time of a process so far, in seconds; the kernel counts it in hundredths.
pub(crate) fn cpu_seconds_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks(&text).map_or(f64::NAN, |ticks| ticks as f64 / 100.0)
}

/// User and system time. The name of the program, in parentheses, may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The memory of this process that is in RAM, in MB.
pub(crate) fn resident_mb() -> f64 {
    resident_mb_of(std::process::id())
}

/// The memory of a process that is in RAM, in MB.
pub(crate) fn resident_mb_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn processor_time_is_user_and_system_time() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 500 0 0 0 250 31 7 9 20 0 4 0 100 1000 200";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks(""), None);
    }
}
