//! The operator's log: a small `tracing` subscriber that formats a line on the thread where the event happened and
//! hands it to one writer thread through a bounded queue. A core never waits for the output.
//!
//! Spans are not recorded: a session's lines carry its id as a field, which costs nothing while nobody logs. An event
//! whose level is off is skipped at its call site by one load and a branch. How it fails: [`start`] when the log file
//! cannot be opened; afterwards nothing fails, lines that cannot be written are counted and their number is logged.

pub mod filter;
mod format;
#[cfg(test)]
mod tests;
mod writer;

use filter::Filter;
use std::io::IsTerminal;
use std::sync::Arc;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
pub use writer::LogGuard;
use writer::Writer;

crate::knob_words! {
    /// How lines of the log are written.
    pub enum LogFormat {
        /// For people.
        Human = "human",
        /// One JSON object per line.
        Json = "json",
    }
}

crate::knob_words! {
    /// How much is logged.
    pub enum LogLevel {
        /// Only what needs somebody.
        Error = "error",
        /// What may need somebody.
        Warn = "warn",
        /// Decisions and changes.
        Info = "info",
        /// For finding faults.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

crate::knobs! {
    /// The operator's log. Writing it never holds up mail: when the output cannot keep up, lines are dropped and
    /// their number is logged once a minute.
    pub struct LogKnobs in "log" {
        /// "human" or "json" (one object per line).
        format: LogFormat = LogFormat::Human, unit "";
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info, unit "";
        /// Levels of single parts, as "PART=LEVEL" with `off` for nothing: `["decision=warn", "hickory=debug"]`.
        /// Parts are the beginnings of the names in the log. Libraries log warnings only unless named here.
        targets: Vec<String> = Vec::new(), unit "";
        /// File to append to; opened again at SIGHUP. Default: standard error.
        file: Option<std::path::PathBuf> = None, unit "";
        /// Lines that may wait for the output.
        lines_waiting_max: usize = 8192, unit "lines", range 64..=1_000_000;
    }
}

/// Starts the log for this process. Keep the guard: dropping it writes what waits, within two seconds.
pub fn start(knobs: &LogKnobs) -> Result<LogGuard, String> {
    let writer = Writer::start(knobs)?;
    let colours = knobs.file.is_none() && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = Log { filter: Filter::new(knobs)?, format: knobs.format, colours, writer: writer.sender() };
    // A second start in one process (tests) keeps the first subscriber; its lines go there.
    let _ = tracing::subscriber::set_global_default(log);
    Ok(writer)
}

/// The subscriber.
struct Log {
    filter: Filter,
    format: LogFormat,
    colours: bool,
    writer: Arc<Writer>,
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.filter.level(metadata.target())
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.most())
    }
    fn event(&self, event: &Event<'_>) {
        let now = wall_now();
        let line = match self.format {
            LogFormat::Human => format::human(event, now, self.colours),
            LogFormat::Json => format::json(event, now),
        };
        self.writer.push(line);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Calendar time for the lines of the log.
fn wall_now() -> crate::base::time::WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    crate::base::time::WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
