//! Dates of IMAP: `date` in SEARCH, `date-time` in APPEND and INTERNALDATE (RFC 9051 §9).
//!
//! How it fails: a day that no calendar has is refused; the emitter is total for moments since 1970.

use super::emit::number;
use super::reader::{Read, Reader};
use crate::base::mailbox::search::{Day, ZonedTime};
use crate::base::time::WallTime;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: i64 = 86_400;

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (Howard Hinnant's `days_from_civil`); `None` for
/// a day that is not in it.
pub(in crate::wire) fn days_of(year: i32, month: u32, day: u32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > length || !(0..=9999).contains(&year) {
        return None;
    }
    let (month, day) = (month as i32, day as i32);
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of so many days since 1970-01-01.
fn civil_of(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// A month by its English abbreviation, in any case: 1 to 12.
pub(in crate::wire) fn month_of(name: &[u8]) -> Option<u32> {
    MONTHS.iter().position(|m| m.as_bytes().eq_ignore_ascii_case(name)).map(|i| i as u32 + 1)
}

/// date: `3-Feb-2026`, with or without quotes.
pub(super) fn date(r: &mut Reader<'_>) -> Read<Day> {
    let start = r.clone();
    let text = r.astring_octets("a date such as 3-Feb-2026")?;
    parse_date(&text).map(Day).ok_or_else(|| start.expected("a date such as 3-Feb-2026"))
}

fn parse_date(text: &[u8]) -> Option<i32> {
    let mut parts = text.split(|b| *b == b'-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || day.is_empty() || day.len() > 2 || year.len() != 4 {
        return None;
    }
    days_of(digits(year)? as i32, month_of(month)?, digits(day)?)
}

fn digits(text: &[u8]) -> Option<u32> {
    let all = text.iter().all(u8::is_ascii_digit) && (1..=9).contains(&text.len());
    all.then(|| text.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

/// date-time: `" 3-Feb-2026 08:00:00 +0100"`.
pub(super) fn date_time(r: &mut Reader<'_>) -> Read<ZonedTime> {
    const WHAT: &str = "a date-time such as \" 3-Feb-2026 08:00:00 +0100\"";
    if r.peek() != Some(b'"') {
        return Err(r.expected(WHAT));
    }
    let start = r.clone();
    let text = r.string_octets(WHAT)?;
    let (seconds, zone_minutes) = parse_date_time(&text).ok_or_else(|| start.expected(WHAT))?;
    // Moments before 1970 cannot be kept; clients write them when they do not know the date. They become its first.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok(ZonedTime { at: WallTime::from_millis(seconds * 1000), zone_minutes })
}

/// Seconds since 1970 in UTC, and the zone in minutes.
fn parse_date_time(text: &[u8]) -> Option<(i64, i16)> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let mut words = text.split(|b| *b == b' ');
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || zone.len() != 5 || time.len() != 8 || time[2] != b':' || time[5] != b':' {
        return None;
    }
    let days = parse_date(date)?;
    let (h, m, s) = (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..])?);
    let (zh, zm) = (digits(&zone[1..3])?, digits(&zone[3..])?);
    // Second 60 is a leap second; it is counted as the next one.
    if h > 23 || m > 59 || s > 60 || zh > 23 || zm > 59 {
        return None;
    }
    let zone_minutes = match zone[0] {
        b'+' => (zh * 60 + zm) as i16,
        b'-' => -((zh * 60 + zm) as i16),
        _ => return None,
    };
    let local = i64::from(days) * DAY_SECONDS + i64::from(h * 3600 + m * 60 + s);
    Some((local - i64::from(zone_minutes) * 60, zone_minutes))
}

/// Writes a date-time in its quotes, in its own zone.
pub(super) fn emit_date_time(out: &mut Vec<u8>, time: ZonedTime) {
    let two = |out: &mut Vec<u8>, n: u64| {
        out.push(b'0' + (n / 10 % 10) as u8);
        out.push(b'0' + (n % 10) as u8);
    };
    let utc = i64::try_from(time.at.as_secs()).unwrap_or(i64::MAX / 2);
    let local = utc + i64::from(time.zone_minutes) * 60;
    let (year, month, day) = civil_of(local.div_euclid(DAY_SECONDS));
    let second = local.rem_euclid(DAY_SECONDS) as u64;
    out.push(b'"');
    // date-day-fixed: a space or a digit in front.
    if day < 10 {
        out.push(b' ');
    }
    number(out, u64::from(day));
    out.push(b'-');
    out.extend_from_slice(MONTHS[(month - 1) as usize].as_bytes());
    out.push(b'-');
    let year = year.clamp(0, 9999) as u64;
    two(out, year / 100);
    two(out, year % 100);
    out.push(b' ');
    two(out, second / 3600);
    out.push(b':');
    two(out, second / 60 % 60);
    out.push(b':');
    two(out, second % 60);
    out.extend_from_slice(if time.zone_minutes < 0 { b" -" } else { b" +" });
    let zone = u64::from(time.zone_minutes.unsigned_abs());
    two(out, zone / 60);
    two(out, zone % 60);
    out.push(b'"');
}
