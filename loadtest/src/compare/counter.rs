//! What a server's processes cost: processor time and context switches, from one moment to another.
//!
//! Two ways. `perf stat` counts a process and all it forks in nanoseconds, also children that nobody waits for (Exim's
//! deliveries). Without it, /proc of the tree below the holder, in hundredths of a second, with the children that were waited
//! for; context switches are not known then. A result says which it was.
//!
//! How it fails: where perf may not count, /proc does; a count that cannot be read is left out.

use crate::proc;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub cpu: Duration,
    pub context_switches: Option<u64>,
}

/// How the processes of a server are counted.
#[derive(Clone, Debug)]
pub(super) enum Counter {
    /// By perf, which is told over `control` when, and writes `out` when the server has ended.
    Perf { control: PathBuf, out: PathBuf },
    /// By /proc.
    Proc,
}

/// Whether perf may count here.
pub(super) fn perf_counts() -> bool {
    let tried = Command::new("perf")
        .args(["stat", "-x,", "-e", "task-clock", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    tried.is_ok_and(|o| o.status.success() && parse(&String::from_utf8_lossy(&o.stderr)).is_some())
}

impl Counter {
    /// A counter that writes below `dir`.
    pub fn new(perf: bool, dir: &Path) -> Counter {
        let control = dir.join("perf-control");
        let made = perf && Command::new("mkfifo").arg(&control).status().is_ok_and(|s| s.success());
        if made { Counter::Perf { control, out: dir.join("perf-out") } } else { Counter::Proc }
    }

    /// Its name in results.
    pub fn name(&self) -> &'static str {
        match self {
            Counter::Perf { .. } => "perf stat",
            Counter::Proc => "/proc",
        }
    }

    /// What stands before the program's command line, so that it is counted.
    pub fn prefix(&self) -> Vec<String> {
        let Counter::Perf { control, out } = self else { return Vec::new() };
        let mut words: Vec<String> =
            ["perf", "stat", "-x,", "-e", "task-clock,context-switches", "-D", "-1"].map(str::to_owned).to_vec();
        words.push(format!("--control=fifo:{}", control.display()));
        words.extend(["-o".to_owned(), out.display().to_string(), "--".to_owned()]);
        words
    }

    /// From here on it counts; the value is for [`Counter::end`].
    pub fn begin(&self, tree: u32) -> Duration {
        self.tell("enable\n");
        proc::tree_cpu(tree)
    }

    /// Up to here. With perf the cost is known only when the server has ended ([`Counter::read`]); what /proc says stands in.
    pub fn end(&self, tree: u32, begun: Duration) -> Cost {
        self.tell("disable\n");
        Cost { cpu: proc::tree_cpu(tree).saturating_sub(begun), context_switches: None }
    }

    /// The cost after the end of the server, and by whom it was counted.
    pub fn read(&self, by_proc: Cost) -> (Cost, &'static str) {
        let Counter::Perf { out, .. } = self else { return (by_proc, self.name()) };
        let counted = fs::read_to_string(out).ok().and_then(|t| parse(&t));
        // perf loses sight of a program that is set-user-ID or set-group-ID (perf_event_open(2)); it never sees less otherwise.
        match counted.filter(|c| c.cpu >= by_proc.cpu / 2) {
            Some(cost) => (cost, self.name()),
            None => (by_proc, Counter::Proc.name()),
        }
    }

    fn tell(&self, what: &str) {
        let Counter::Perf { control, .. } = self else { return };
        // Read and write: such an open of a pipe waits for nobody.
        let opened = fs::OpenOptions::new().read(true).write(true).open(control);
        if opened.and_then(|mut pipe| pipe.write_all(what.as_bytes())).is_ok() {
            // Until perf has done it.
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// `perf stat -x,`: value, unit, event.
fn parse(text: &str) -> Option<Cost> {
    let value = |event: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split(',');
            let value = fields.next()?.trim().parse::<f64>().ok()?;
            (fields.nth(1)? == event).then_some(value)
        })
    };
    let milliseconds = value("task-clock")?;
    let switches = value("context-switches").map(|n| n as u64);
    Some(Cost { cpu: Duration::from_secs_f64(milliseconds.max(0.0) / 1e3), context_switches: switches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_words_are_read() {
        let text = "# started on Mon\n\n413.23,msec,task-clock,413232306,100.00,0.135,CPUs utilized\n64,,context-switches,413210626,100.00,154.877,/sec\n";
        let cost = parse(text).unwrap();
        assert_eq!(cost, Cost { cpu: Duration::from_secs_f64(0.413_23), context_switches: Some(64) });
        assert_eq!(parse("<not counted>,msec,task-clock,0,100.00,,\n"), None);
        assert_eq!(parse("12.5,msec,task-clock,1,100.00,,\n").unwrap().context_switches, None);
    }

    #[test]
    fn what_perf_lost_sight_of_is_taken_from_proc() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        std::fs::write(&out, "10.00,msec,task-clock,1,100.00,,\n5,,context-switches,1,100.00,,\n").unwrap();
        let counter = Counter::Perf { control: dir.path().join("none"), out };
        let by_proc = |ms| Cost { cpu: Duration::from_millis(ms), context_switches: None };
        assert_eq!(
            counter.read(by_proc(12)),
            (Cost { cpu: Duration::from_millis(10), context_switches: Some(5) }, "perf stat")
        );
        assert_eq!(counter.read(by_proc(700)), (by_proc(700), "/proc"));
    }

    #[test]
    fn without_perf_the_kernels_files_do() {
        let counter = Counter::new(false, Path::new("/nonexistent"));
        assert_eq!((counter.name(), counter.prefix().len()), ("/proc", 0));
        let begun = counter.begin(std::process::id());
        let (cost, by) = counter.read(counter.end(std::process::id(), begun));
        assert_eq!(by, "/proc");
        assert!(cost.cpu < Duration::from_secs(60) && cost.context_switches.is_none());
    }
}
