//! The settings of the queue. How it fails: setting a knob out of its range is an error of the `knobs!` macro.

use crate::base::knob::Octets;
use std::time::Duration;

crate::knobs! {
    /// The queue: when deliveries are tried again, how long, and how much may wait. One queue per core.
    pub struct SpoolKnobs in "spool" {
        /// Wait after the first failed attempt; the next ones grow by `retry_growth_percent`.
        retry_first: Duration = Duration::from_secs(60), unit "", range Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// Longest wait between attempts. RFC 5321 §4.5.4.1 wants at least two attempts in the first hour, then 2–3 h.
        retry_max: Duration = Duration::from_secs(3600), unit "", range Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// How each wait relates to the one before it.
        retry_growth_percent: u32 = 200, unit "%", range 100..=1000;
        /// Waits differ by up to this much, both ways, so that messages deferred together do not come back together.
        jitter_percent: u32 = 20, unit "%", range 0..=90;
        /// Wait before a destination that failed as a whole (no connection, 421) is tried again; one message probes it.
        destination_retry_first: Duration = Duration::from_secs(15), unit "", range Duration::from_millis(100)..=Duration::from_secs(86_400);
        /// Longest such wait.
        destination_retry_max: Duration = Duration::from_secs(1800), unit "", range Duration::from_millis(100)..=Duration::from_secs(86_400);
        /// How long delivery is tried before the message is returned (RFC 5321 §4.5.4.1: 4–5 days).
        lifetime: Duration = Duration::from_secs(5 * 86_400), unit "", range Duration::from_secs(1)..=Duration::from_secs(60 * 86_400);
        /// When the sender is told that a message is late (RFC 3461 §5.2.5), once.
        delay_warning: Duration = Duration::from_secs(4 * 3600), unit "", range Duration::from_secs(1)..=Duration::from_secs(60 * 86_400);
        /// Deliveries to one destination at the same time.
        per_destination_concurrency_max: u32 = 20, unit "deliveries", range 1..=10_000;
        /// Messages that may wait; more are answered 452.
        messages_max: u64 = 500_000, unit "messages", range 1..=100_000_000;
        /// Octets that may wait; more are answered 452.
        octets_max: Octets = Octets(16 << 30), unit "", range Octets::mib(1)..=Octets(1 << 50);
        /// Octets of the file system that are left free.
        free_octets_min: Octets = Octets::mib(256), unit "", range Octets(0)..=Octets(1 << 50);
        /// Size of a log segment.
        segment_octets: Octets = Octets::mib(64), unit "", range Octets::kib(64)..=Octets::mib(256);
        /// Dead log segments that are kept for reuse.
        segments_spare_max: usize = 4, unit "segments", range 1..=64;
        /// Bodies up to this size are kept in the log, larger ones in a file each.
        body_inline_octets_max: Octets = Octets::kib(256), unit "", range Octets(0)..=Octets::mib(8);
    }
}
