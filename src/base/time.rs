//! Time as an argument: a monotonic [`Instant`] and a calendar [`WallTime`], both plain numbers.
//!
//! Only `reactor::clock` reads a clock; pure rooms receive these values. How it fails: arithmetic saturates.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a monotonic clock, in nanoseconds since an arbitrary origin (process start; zero in the simulator).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant(0);
    /// A point no deadline reaches (584 years).
    pub const FAR: Instant = Instant(u64::MAX);

    /// From nanoseconds since the origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }
    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
    /// Time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// Calendar time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> WallTime {
        WallTime(millis)
    }
    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }
    /// Time since `earlier`; zero when `earlier` is later (clocks step).
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Date and time of RFC 5322 §3.3 in UTC: `Mon, 23 Nov 2026 12:32:01 +0000`.
    pub fn rfc5322(self) -> String {
        let c = Civil::of(self.as_secs());
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let weekday = DAYS[(self.as_secs() / 86_400 % 7) as usize];
        let month = MONTHS[(c.month - 1) as usize];
        format!("{weekday}, {} {month} {:04} {:02}:{:02}:{:02} +0000", c.day, c.year, c.hour, c.minute, c.second)
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-23T12:32:01.123Z`.
    pub fn rfc3339(self) -> String {
        let c = Civil::of(self.as_secs());
        let ms = self.0 % 1000;
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{ms:03}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;
    fn add(self, d: Duration) -> WallTime {
        WallTime(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A calendar date and time of day in UTC (proleptic Gregorian).
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Days to date after Howard Hinnant's `civil_from_days`, for days since 1970 only.
    fn of(secs: u64) -> Civil {
        let (days, rest) = (secs / 86_400, secs % 86_400);
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let mp = (5 * day_of_year + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let day = day_of_year - (153 * mp + 2) / 5 + 1;
        Civil { year, month, day, hour: rest / 3600, minute: rest % 3600 / 60, second: rest % 60 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_a_calendar_does() {
        let t = WallTime::from_millis(1_795_437_121_042);
        assert_eq!(t.rfc5322(), "Mon, 23 Nov 2026 12:32:01 +0000");
        assert_eq!(t.rfc3339(), "2026-11-23T12:32:01.042Z");
        assert_eq!(WallTime::from_millis(951_782_400_000).rfc5322(), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(WallTime::default().rfc5322(), "Thu, 1 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Instant::ZERO - Instant::from_nanos(5), Duration::ZERO);
        assert_eq!(Instant::FAR + Duration::from_secs(1), Instant::FAR);
    }
}
