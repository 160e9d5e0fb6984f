//! A line of syslog: time, program and message, in both common formats: `Nov 23 12:00:00 host program[pid]: …` (RFC 3164)
//! and `2026-11-23T12:00:00.123456+01:00 host program[pid]: …` (RFC 3339 time).
//!
//! How it fails: a line that is neither is `None`.

/// What lines of the old format do not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Year of the first line.
    pub year: Option<u16>,
    /// Hours ahead of UTC.
    pub utc_offset_hours: i8,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The program, such as `postfix/smtpd`.
    pub program: &'a str,
    /// Its process.
    pub pid: &'a str,
    /// What it says.
    pub message: &'a str,
}

/// Reads lines in order, so that the year goes on when December ends.
#[derive(Debug)]
pub struct Reader {
    year: u64,
    month: u64,
    offset_ms: i64,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Reader {
    /// A reader whose first line is of this year.
    pub fn new(year: u64, clock: &Clock) -> Reader {
        Reader { year, month: 1, offset_ms: i64::from(clock.utc_offset_hours) * 3_600_000 }
    }

    /// Reads a line.
    pub fn entry<'a>(&mut self, line: &'a str) -> Option<Entry<'a>> {
        let (at_ms, rest) = match line.as_bytes().first()? {
            b'0'..=b'9' => {
                let (time, rest) = line.split_once(' ')?;
                (rfc3339(time)?, rest)
            }
            _ => (self.rfc3164(line.get(..15)?)?, line.get(15..)?.strip_prefix(' ')?),
        };
        let (_host, rest) = rest.split_once(' ')?;
        let (tag, message) = rest.split_once(": ")?;
        let (program, pid) = match tag.split_once('[') {
            Some((program, pid)) => (program, pid.strip_suffix(']')?),
            None => (tag, ""),
        };
        Some(Entry { at_ms, program, pid, message })
    }

    fn rfc3164(&mut self, text: &str) -> Option<u64> {
        let month = MONTHS.iter().position(|m| *m == &text[..3])? as u64 + 1;
        let day: u64 = text.get(4..6)?.trim().parse().ok()?;
        // December is over: so is the year. A line that comes a little late does not turn it back.
        if month == 1 && self.month == 12 {
            self.year += 1;
        }
        let year =
            if month == 12 && self.month == 1 && self.year > 1970 && day == 31 { self.year - 1 } else { self.year };
        self.month = month;
        let ms = millis(year, month, day, text.get(7..15)?)?;
        u64::try_from(i64::try_from(ms).ok()? - self.offset_ms).ok()
    }
}

/// Milliseconds since 1970 of `2026-11-23T12:00:00.5+01:00`.
pub fn rfc3339(text: &str) -> Option<u64> {
    if !matches!(text.as_bytes(), [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't', ..]) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let ms = millis(number(0..4)?, number(5..7)?, number(8..10)?, text.get(11..19)?)?;
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let digits: String = fraction.trim_start_matches('.').chars().chain("000".chars()).take(3).collect();
    let offset_ms = match zone.split_at(1) {
        ("Z", _) => 0,
        (sign, hours) => {
            let (hours, minutes) = hours.split_once(':').or_else(|| hours.split_at_checked(2))?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            minutes * if sign == "-" { -60_000 } else { 60_000 }
        }
    };
    u64::try_from(i64::try_from(ms + digits.parse::<u64>().ok()?).ok()? - offset_ms).ok()
}

/// Milliseconds since 1970 of a date and `hh:mm:ss`.
fn millis(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(|p| p.parse::<u64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || h > 23
        || m > 59
        || s > 60
    {
        return None;
    }
    Some((days(year, month, day) * 86_400 + h * 3600 + m * 60 + s) * 1000)
}

/// Days since 1970 of a date, after Howard Hinnant's `days_from_civil`.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let year_of_era = y - era * 400;
    let day_of_year = (153 * (month + if month > 2 { 0 } else { 12 } - 3) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year of a time, for files whose lines have none.
pub fn year_of(at_ms: u64) -> u64 {
    let text = crate::base::time::WallTime::from_millis(at_ms).rfc3339();
    text.get(..4).and_then(|year| year.parse().ok()).unwrap_or(1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_and_the_turn_of_the_year() {
        let mut reader = Reader::new(2026, &Clock::default());
        let e = reader.entry("Nov 23 12:32:01 mx postfix/smtpd[77]: connect from a[192.0.2.1]").unwrap();
        assert_eq!((e.at_ms, e.program, e.pid), (1_795_437_121_000, "postfix/smtpd", "77"));
        assert_eq!(e.message, "connect from a[192.0.2.1]");
        let iso = reader.entry("2026-11-23T13:32:01.042123+01:00 mx sendmail[1]: x").unwrap();
        assert_eq!(iso.at_ms, 1_795_437_121_042);
        assert_eq!(reader.entry("2026-11-23T12:32:01Z mx sendmail[1]: x").unwrap().at_ms, 1_795_437_121_000);
        reader.entry("Dec 31 23:59:59 mx a[1]: x").unwrap();
        let january = reader.entry("Jan  1 00:00:00 mx a[1]: x").unwrap().at_ms;
        assert_eq!(year_of(january), 2027);
        assert_eq!(year_of(reader.entry("Dec 31 23:59:59 mx a[1]: late").unwrap().at_ms), 2026);
        let mut east = Reader::new(2026, &Clock { year: None, utc_offset_hours: 1 });
        assert_eq!(east.entry("Nov 23 13:32:01 mx a[1]: x").unwrap().at_ms, 1_795_437_121_000);
        for bad in ["", "nonsense", "Nov 33 12:00:00 mx a[1]: x", "Nov 23 12:00:00", "2026-13-01T00:00:00Z h p: x"] {
            assert_eq!(reader.entry(bad), None, "{bad}");
        }
    }
}
