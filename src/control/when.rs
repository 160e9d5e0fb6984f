//! Times on the command line: `2026-11-23T12:00:00Z`, `2026-11-23`, or how long ago: `2d`, `90m`.
//!
//! How it fails: the sentence says what was expected.

use crate::base::knob::parse_duration;
use crate::control::journal::rfc3339;
use crate::reactor::clock;

/// Reads a time, milliseconds since 1970.
pub fn parse(text: &str) -> Result<u64, String> {
    parse_at(text, clock::wall().as_millis())
}

fn parse_at(text: &str, now_ms: u64) -> Result<u64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(ago) = parse_duration(text) {
        return Ok(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.replace(' ', "T"),
    };
    rfc3339(&whole).ok_or_else(|| {
        format!("{text:?} is no time; expected 2026-11-23T12:00:00Z, 2026-11-23, or how long ago, such as 2d or 90m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages() {
        let now = 1_795_437_121_000;
        assert_eq!(parse_at("2026-11-23T12:32:01Z", now), Ok(now));
        assert_eq!(parse_at("2026-11-23 13:32:01+01:00", now), Ok(now));
        assert_eq!(parse_at("2026-11-23", now), Ok(1_795_392_000_000));
        assert_eq!(parse_at("2d", now), Ok(now - 2 * 86_400_000));
        assert_eq!(parse_at("90m", now), Ok(now - 90 * 60_000));
        assert_eq!(parse_at("now", now), Ok(now));
        for bad in ["yesterday", "2026-13-01", "2026-11-23T12:00", "", "12:00"] {
            assert!(parse_at(bad, now).unwrap_err().contains("expected 2026"), "{bad}");
        }
    }
}
