//! Which events are logged.
//!
//! How it fails: a target that cannot be read is named, with what was expected.

use super::{LogKnobs, LogLevel};
use crate::control::nearest::nearest;
use tracing::level_filters::LevelFilter;

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Levels by target.
#[derive(Clone, Debug)]
pub struct Filter {
    default: LevelFilter,
    parts: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// As the knobs say.
    pub fn new(knobs: &LogKnobs) -> Result<Filter, String> {
        let default = match knobs.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let mut parts = knobs.targets.iter().map(|t| parse_target(t)).collect::<Result<Vec<_>, _>>()?;
        // The longest beginning decides.
        parts.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
        Ok(Filter { default, parts })
    }

    /// The level from which events of `target` are logged.
    pub fn level(&self, target: &str) -> LevelFilter {
        match self.parts.iter().find(|(part, _)| target.starts_with(part.as_str())) {
            Some((_, level)) => *level,
            None if is_library(target) => self.default.min(LevelFilter::WARN),
            None => self.default,
        }
    }

    /// The most talkative level of any target.
    pub fn most(&self) -> LevelFilter {
        self.parts.iter().map(|(_, level)| *level).fold(self.default, LevelFilter::max)
    }
}

/// Our own targets are paths in this crate or single words such as `decision`; a library's are paths in its crate.
fn is_library(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    root != "gatepost"
        && (root.len() != target.len() || ["hickory", "rustls", "tokio", "mio"].iter().any(|l| root.starts_with(l)))
}

/// Reads `PART=LEVEL`.
pub fn parse_target(text: &str) -> Result<(String, LevelFilter), String> {
    let words = || LEVELS.map(|(word, _)| word).join(", ");
    let Some((part, level)) = text.split_once('=').filter(|(part, _)| !part.is_empty()) else {
        return Err(format!("expected PART=LEVEL such as \"decision=warn\", found {text:?}"));
    };
    match LEVELS.iter().find(|(word, _)| *word == level) {
        Some((_, level)) => Ok((part.to_owned(), *level)),
        None => {
            let near = nearest(level, LEVELS.map(|(word, _)| word)).map(|n| format!("; did you mean {n:?}?"));
            Err(format!("expected a level ({}), found {level:?}{}", words(), near.unwrap_or_default()))
        }
    }
}
