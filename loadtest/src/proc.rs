//! What the kernel says about processes: processor time of a whole tree, memory, descriptors.
//!
//! How it fails: a process that is gone counts as nothing; elsewhere than on Linux everything is nothing.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Processor time of the calling thread, and how long it was ready to run while its core had other work.
pub fn thread_times() -> (Duration, Duration) {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut nanos = text.split_whitespace().map(|n| Duration::from_nanos(n.parse().unwrap_or(0)));
    (nanos.next().unwrap_or_default(), nanos.next().unwrap_or_default())
}

/// Processor time of this process alone, all threads, without its children.
pub fn own_cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rfind(')').and_then(|at| text.get(at + 1..)).unwrap_or_default();
    // Fields 14 and 15, of which the first two are before the parenthesis.
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// One line of /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, own and of children that were waited for, in clock ticks.
    ticks: u64,
}

/// Clock ticks per second of /proc: fixed at 100 for all programs since Linux 2.6.
const TICKS_PER_S: u64 = 100;

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may contain anything, also parentheses: fields count from the last one.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
    Some(Stat { parent: u32::try_from(number(4)?).ok()?, ticks })
}

fn all() -> HashMap<u32, Stat> {
    let Ok(dir) = fs::read_dir("/proc") else { return HashMap::new() };
    dir.filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
    })
    .collect()
}

/// The process and everything below it.
pub fn tree(root: u32) -> Vec<u32> {
    let all = all();
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(all.iter().filter(|(_, s)| s.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree.retain(|pid| all.contains_key(pid));
    tree
}

/// Processor time, user and system, of the process and everything below it, finished children included (a master that
/// waits for its workers inherits their time).
pub fn tree_cpu(root: u32) -> Duration {
    let all = all();
    let ticks: u64 = tree(root).iter().filter_map(|pid| all.get(pid)).map(|s| s.ticks).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// Proportional memory (PSS) of the process and everything below it, in octets.
pub fn tree_memory_octets(root: u32) -> u64 {
    let pss = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|l| l.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    tree(root).iter().filter_map(pss).sum()
}

/// Model of the processor, count, kernel: what a figure must be quoted with.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, m)| m.trim()));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{cores} x {}, {} GiB, Linux {}",
        model.unwrap_or("unknown processor"),
        kib.unwrap_or(0) / (1 << 20),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, ticks: 110 }));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn a_child_that_worked_and_ended_is_counted() {
        let before = tree_cpu(std::process::id());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        child.wait().unwrap();
        assert!(own_cpu() <= tree_cpu(std::process::id()));
        assert!(tree_cpu(std::process::id()) > before + Duration::from_millis(20));
        assert!(tree_memory_octets(std::process::id()) > 100_000);
        assert!(tree(std::process::id()).contains(&std::process::id()));
    }
}
