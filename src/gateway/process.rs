//! The process as the kernel sees it, under the names that exporters have agreed on.
//!
//! How it fails: where /proc does not tell a number, its family is not there.

use super::metrics::view::{Family, Unit};

/// Ticks of the kernel's clock in a second, as /proc counts them on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory, octets; 0 where the system does not tell.
pub(super) fn resident_octets() -> u64 {
    memory().map_or(0, |(_, resident)| resident)
}

/// Virtual and resident memory, octets.
fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((of("VmSize:")?, of("VmRSS:")?))
}

/// Seconds of processor time, of all threads.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may have spaces in it; behind its bracket the fields count from the third.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn files_max() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    line["Max open files".len()..].split_whitespace().next()?.parse().ok()
}

/// The families of the process; `started_ms` is when it began, milliseconds since 1970.
pub(super) fn families(started_ms: u64) -> Vec<Family> {
    let gauge =
        |name, help, unit, value: Option<f64>| value.map(|n| Family::gauge(name, help).unit(unit).number(&[], n));
    let cpu = cpu_seconds()
        .map(|n| Family::counter("process_cpu", "Processor time of the process.").unit(Unit::Seconds).number(&[], n));
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as f64);
    let memory = memory();
    [
        cpu,
        gauge("process_resident_memory", "Resident memory.", Unit::Bytes, memory.map(|(_, n)| n as f64)),
        gauge("process_virtual_memory", "Virtual memory.", Unit::Bytes, memory.map(|(n, _)| n as f64)),
        gauge("process_open_fds", "Open files.", Unit::None, files),
        gauge("process_max_fds", "Files that may be open.", Unit::None, files_max()),
        gauge(
            "process_start_time",
            "When the process began, since 1970.",
            Unit::Seconds,
            Some(started_ms as f64 / 1000.0),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        assert!(resident_octets() > 1 << 20);
        let all = families(1000);
        assert_eq!(all.len(), 6, "{all:?}");
        assert_eq!(all[5].sum(&[]), 1.0);
    }
}
