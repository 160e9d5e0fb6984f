//! The Date field (RFC 5322 §3.3 and its obsolete forms §4.3) as a moment and as the day that its sender wrote.
//!
//! How it fails: a date without a day that the calendar has is none. RFC 5256 §2.2: a time that cannot be read is
//! midnight, a zone that cannot be read is UTC.

use super::header::Lexer;
use crate::base::mailbox::search::Day;
use crate::wire::imap::{days_of, month_of};

/// Seconds since 1970 in UTC, and the day as written, of the Date field's value.
pub fn parse_date(value: &[u8]) -> Option<(i64, Day)> {
    let mut words = Words { lexer: Lexer::new(value) };
    let mut word = words.next();
    if word.first().is_some_and(u8::is_ascii_alphabetic) {
        // The day of the week; its comma is skipped with it.
        word = words.next();
    }
    let day = number(word)?;
    let month = month_of(words.next().get(..3)?)?;
    let year_text = words.next();
    let year_text = year_text.strip_prefix(b"-").unwrap_or(year_text);
    let year = match (number(year_text)?, year_text.len()) {
        // RFC 5322 §4.3, obs-year
        (year, 2) if year < 50 => year + 2000,
        (year, 2 | 3) => year + 1900,
        (year, _) => year,
    };
    let days = days_of(i32::try_from(year).ok()?, month, day)?;
    let clock = words.clock();
    let (seconds, zone) = time(&clock, &mut words);
    Some((i64::from(days) * 86_400 + seconds - zone, Day(days)))
}

/// Octets of a time of day that are put together.
const CLOCK_OCTETS_MAX: usize = 32;

/// Seconds of the day and of the zone.
fn time(clock: &[u8], words: &mut Words<'_>) -> (i64, i64) {
    let mut parts = clock.split(|b| matches!(b, b':' | b'.')).map(number);
    let (h, m) = (parts.next().flatten(), parts.next().flatten());
    let s = parts.next().flatten().unwrap_or(0);
    let (Some(h @ 0..=23), Some(m @ 0..=59), 0..=60) = (h, m, s) else {
        return (0, 0);
    };
    (i64::from(h * 3600 + m * 60 + s), zone(words.next()).unwrap_or(0))
}

/// RFC 5322 §3.3, zone; §4.3, obs-zone.
fn zone(word: &[u8]) -> Option<i64> {
    if let [sign @ (b'+' | b'-'), digits @ ..] = word {
        let n = i64::from(number(digits).filter(|_| digits.len() == 4)?);
        let seconds = n / 100 * 3600 + n % 100 * 60;
        return Some(if *sign == b'-' { -seconds } else { seconds });
    }
    let hours = match word.to_ascii_uppercase().as_slice() {
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => return None,
    };
    Some(hours * 3600)
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

struct Words<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Words<'a> {
    /// The next word; empty at the end. Comments and commas part words; so do the hyphens of `23-Nov-2026`.
    fn next(&mut self) -> &'a [u8] {
        loop {
            self.lexer.skip_space();
            if matches!(self.lexer.peek(), Some(b',' | b'-')) && !self.at_zone() {
                self.lexer.bump();
                continue;
            }
            let mut first = true;
            let word = self.lexer.run(|b| {
                let hyphen = b == b'-' && !first;
                first = false;
                b > b' ' && !matches!(b, b',' | b'(') && !hyphen
            });
            return word;
        }
    }

    /// A time of day, without the spaces and comments that may stand in it (RFC 5322 §4.3).
    fn clock(&mut self) -> Vec<u8> {
        let mut clock = self.next().to_vec();
        while clock.len() < CLOCK_OCTETS_MAX {
            self.lexer.skip_space();
            let before = clock.len();
            if self.lexer.peek() == Some(b':') || clock.ends_with(b":") {
                clock.extend_from_slice(self.next());
            }
            if clock.len() == before {
                break;
            }
        }
        clock
    }

    /// A hyphen in front of four digits is a zone's sign.
    fn at_zone(&self) -> bool {
        let mut ahead = self.lexer.clone();
        ahead.eat(b'-') && ahead.run(|b| b.is_ascii_digit()).len() == 4 && ahead.peek().is_none_or(|b| b != b'-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;
    use proptest::prelude::*;

    fn shown(value: &str) -> String {
        parse_date(value.as_bytes()).map_or_else(
            || "none".to_owned(),
            |(seconds, day)| format!("{} {}", WallTime::from_millis(seconds as u64 * 1000).rfc3339(), day.0),
        )
    }

    #[test]
    fn dates_of_mails() {
        for (value, expected) in [
            ("Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T15:55:06.000Z 10186"),
            (
                "Thu,\r\n      13\r\n        Feb\r\n          1999\r\n      23:32\r\n               -0330 (Newfoundland Time)",
                "1999-02-14T03:02:00.000Z 10635",
            ),
            ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06.000Z 10186"),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T15:55:06.000Z 10186"),
            ("1 jan 2026 00:30:00 +0100", "2025-12-31T23:30:00.000Z 20454"),
            ("Mon, 23-Nov-2026 12:32:01 EST", "2026-11-23T17:32:01.000Z 20780"),
            ("Mon, 23 November 2026", "2026-11-23T00:00:00.000Z 20780"),
            ("Mon, 23 Nov 2026 25:00:00 +0100", "2026-11-23T00:00:00.000Z 20780"),
            ("Mon, 23 Nov 2026 12:00:00 +9999999", "2026-11-23T12:00:00.000Z 20780"),
            ("23 Nov 2026 12:00:00-0500", "2026-11-23T17:00:00.000Z 20780"),
            ("31 Feb 2026 12:00:00", "none"),
            ("yesterday", "none"),
            ("", "none"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_is_read(millis in 0u64..253_402_300_799_000, any: Vec<u8>) {
            let at = WallTime::from_millis(millis);
            let (seconds, day) = parse_date(at.rfc5322().as_bytes()).unwrap();
            prop_assert_eq!(seconds as u64, at.as_secs());
            prop_assert_eq!(day.0 as u64, at.as_secs() / 86_400);
            parse_date(&any);
        }
    }
}
