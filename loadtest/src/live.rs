//! What is seen while a run goes on: rates, a rough latency, errors; bars on a terminal, plain lines elsewhere.
//!
//! The cores count into [`Counters`], shared and without locks; whoever shows them looks once a second. How it fails: it
//! does not; a terminal that is gone is written to in vain.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a run is looked at.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Counts of a run that goes on, by everybody who takes part in it.
#[derive(Debug, Default)]
pub struct Counters {
    begun: AtomicU64,
    done: AtomicU64,
    messages: AtomicU64,
    errors: AtomicU64,
    /// Sum and maximum of the times since somebody looked last, in microseconds.
    time_us: AtomicU64,
    time_max_us: AtomicU64,
}

impl Counters {
    /// A session or message began.
    pub fn begun(&self) {
        self.begun.fetch_add(1, Relaxed);
    }
    /// One is done, after this time.
    pub fn done(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.done.fetch_add(1, Relaxed);
        self.time_us.fetch_add(us, Relaxed);
        self.time_max_us.fetch_max(us, Relaxed);
    }
    /// A message was read.
    pub fn message(&self) {
        self.messages.fetch_add(1, Relaxed);
    }
    /// Something went wrong.
    pub fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }
}

/// A second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since the start.
    pub at_s: f64,
    /// Sessions or messages that ended well, per second.
    pub done_per_s: f64,
    /// Messages read per second.
    pub messages_per_s: f64,
    /// Errors per second.
    pub errors_per_s: f64,
    /// Mean time of what ended in this second.
    pub mean_ms: f64,
    /// The longest of them.
    pub max_ms: f64,
    /// Open at the end of the second.
    pub open: u64,
}

/// Looks at the counters from time to time.
#[derive(Debug)]
pub struct Watch {
    counters: Arc<Counters>,
    began: Instant,
    last: Instant,
    seen: [u64; 4],
}

impl Watch {
    /// From now on.
    pub fn new(counters: Arc<Counters>) -> Watch {
        let now = Instant::now();
        Watch { counters, began: now, last: now, seen: [0; 4] }
    }

    /// What happened since the last look.
    pub fn look(&mut self) -> Point {
        let c = &self.counters;
        let now = [c.done.load(Relaxed), c.messages.load(Relaxed), c.errors.load(Relaxed), c.time_us.load(Relaxed)];
        let max_us = c.time_max_us.swap(0, Relaxed);
        let [done, messages, errors, time_us] = std::array::from_fn(|n| now[n].saturating_sub(self.seen[n]));
        self.seen = now;
        let seconds = self.last.elapsed().as_secs_f64().max(1e-6);
        self.last = Instant::now();
        Point {
            at_s: self.began.elapsed().as_secs_f64(),
            done_per_s: done as f64 / seconds,
            messages_per_s: messages as f64 / seconds,
            errors_per_s: errors as f64 / seconds,
            mean_ms: if done > 0 { time_us as f64 / done as f64 / 1000.0 } else { 0.0 },
            max_ms: max_us as f64 / 1000.0,
            open: c.begun.load(Relaxed).saturating_sub(now[0] + now[2]),
        }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}/s, mean {:.1} ms, max {:.1} ms", self.done_per_s, self.mean_ms, self.max_ms)?;
        if self.messages_per_s > 0.0 {
            write!(f, ", {:.0} messages/s", self.messages_per_s)?;
        }
        write!(f, ", {} open, {:.1} errors/s", self.open, self.errors_per_s)
    }
}

/// One line of the live view: redrawn in place on a terminal, a line every [`LINE_PERIOD`] elsewhere.
pub struct Line {
    bar: ProgressBar,
    plain: bool,
    name: String,
    total: Option<Duration>,
    began: Instant,
    said: Option<Instant>,
}

/// How often a run says something where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(5);

impl Line {
    /// A line for something that takes `total`, when that is known.
    pub fn new(name: &str, total: Option<Duration>) -> Line {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total.map(|t| t.as_millis() as u64), target);
        let template = if total.is_some() {
            "{prefix:16} {bar:24} {elapsed_precise} {msg}"
        } else {
            "{prefix:16} {spinner} {elapsed_precise} {msg}"
        };
        // The template is a constant; should the crate change its mind about it, its own default is as good.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        Line { bar, plain, name: name.to_owned(), total, began: Instant::now(), said: None }
    }

    /// Shows `what`.
    pub fn show(&mut self, what: &str) {
        let elapsed = self.began.elapsed();
        if !self.plain {
            self.bar.set_position(elapsed.min(self.total.unwrap_or(elapsed)).as_millis() as u64);
            self.bar.set_message(what.to_owned());
            return;
        }
        if self.said.is_none_or(|at| at.elapsed() >= LINE_PERIOD) {
            eprintln!("{} {:.0} s: {what}", self.name, elapsed.as_secs_f64());
            self.said = Some(Instant::now());
        }
    }

    /// Takes the line away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// What begins a line that a client writes for the program that started it (`--progress`).
pub const PROGRESS: &str = "progress ";

/// How a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// To a person.
    Person,
    /// To the program that started this one: a line of JSON each second on standard error.
    Program,
}

/// Runs `work` while its counters are shown; returns its result and what was seen.
pub fn watch<T: Send>(
    show: Show,
    name: &str,
    total: Option<Duration>,
    counters: &Arc<Counters>,
    work: impl FnOnce() -> T + Send,
) -> (Option<T>, Vec<Point>) {
    let mut watch = Watch::new(counters.clone());
    let mut points = Vec::new();
    let mut line = (show == Show::Person).then(|| Line::new(name, total));
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        let mut next = Instant::now() + PERIOD;
        while !worker.is_finished() {
            // Short naps, so that a short run is not kept waiting by its watcher.
            std::thread::sleep(Duration::from_millis(20));
            if Instant::now() < next {
                continue;
            }
            next += PERIOD;
            let point = watch.look();
            points.push(point);
            match (&mut line, show) {
                (Some(line), _) => line.show(&point.to_string()),
                (None, Show::Program) => {
                    eprintln!("{PROGRESS}{}", serde_json::to_string(&point).unwrap_or_default());
                }
                (None, _) => {}
            }
        }
        worker.join().ok()
    });
    if let Some(line) = line {
        line.end();
    }
    (result, points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_what_came_since_the_last() {
        let counters = Arc::new(Counters::default());
        let mut watch = Watch::new(counters.clone());
        (0..10).for_each(|_| counters.begun());
        (1..=4).for_each(|n| counters.done(Duration::from_millis(n * 10)));
        counters.error();
        std::thread::sleep(Duration::from_millis(50));
        let first = watch.look();
        assert!((first.mean_ms - 25.0).abs() < 0.1 && (first.max_ms - 40.0).abs() < 0.1, "{first:?}");
        assert_eq!(first.open, 5);
        assert!(first.done_per_s > 10.0 && first.done_per_s <= 80.0 && first.errors_per_s > 0.0);
        let second = watch.look();
        assert_eq!((second.done_per_s, second.errors_per_s, second.max_ms), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_work_is_watched_and_its_result_comes_back() {
        let counters = Arc::new(Counters::default());
        let (result, points) = watch(Show::Nothing, "x", None, &counters, || {
            std::thread::sleep(Duration::from_millis(1300));
            7
        });
        assert_eq!((result, points.len()), (Some(7), 1));
        let (result, _) = watch(Show::Nothing, "x", None, &counters, || panic!("on purpose"));
        let none: Option<()> = result;
        assert!(none.is_none());
    }
}
