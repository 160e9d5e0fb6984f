//! The settings of the room: `[relay]`.
//!
//! How it fails: nothing here fails; ranges are checked where knobs are set.

use crate::base::knob::Octets;
use std::time::Duration;

crate::knobs! {
    /// Forwarding: waiting for backends, verification of recipients, MX hosts, bounces, loops.
    pub struct RelayKnobs in "relay" {
        /// Longest wait for a connection to a backend to be made.
        connect_timeout: Duration = Duration::from_secs(10), unit "time", range Duration::from_millis(10)..=Duration::from_secs(600);
        /// Longest wait of a cut-through message for a free connection to its backend; then the client hears 451.
        cut_through_wait: Duration = Duration::from_secs(30), unit "time", range Duration::from_millis(10)..=Duration::from_secs(600);
        /// The same in mode auto; then the message goes to the queue and the client hears 250.
        auto_wait: Duration = Duration::from_secs(5), unit "time", range Duration::from_millis(10)..=Duration::from_secs(600);
        /// Longest wait of a queued message for a connection, and of a client at RCPT for a callout.
        spool_wait: Duration = Duration::from_secs(60), unit "time", range Duration::from_millis(10)..=Duration::from_secs(3600);
        /// Messages of one core that wait for a connection to one destination at most; one more is deferred.
        jobs_waiting_max: usize = 10_000, unit "messages", range 1..=10_000_000;
        /// How long a backend's yes to a recipient is believed without asking again.
        verify_positive_time: Duration = Duration::from_secs(3600), unit "time", range Duration::ZERO..=Duration::from_secs(604_800);
        /// How long a backend's no (5xx) to a recipient is believed.
        verify_negative_time: Duration = Duration::from_secs(600), unit "time", range Duration::ZERO..=Duration::from_secs(604_800);
        /// How long a backend's "later" (4xx) to a recipient is repeated without asking again.
        verify_transient_time: Duration = Duration::from_secs(30), unit "time", range Duration::ZERO..=Duration::from_secs(86_400);
        /// Recipients remembered by one core at most.
        verify_entries_max: usize = 100_000, unit "recipients", range 2..=100_000_000;
        /// MX hosts of a domain that are tried at most, best first.
        mx_hosts_max: usize = 10, unit "hosts", range 1..=100;
        /// Addresses over all MX hosts of a domain that are tried at most (RFC 5321 §5.1 wants two or more).
        mx_addresses_max: usize = 20, unit "addresses", range 2..=1000;
        /// Octets of a returned message in a bounce that asks for all of it; beyond it, headers only (RFC 3461 §6.2).
        bounce_message_octets_max: Octets = Octets::kib(100), unit "octets";
        /// Octets of returned headers in a bounce.
        bounce_headers_octets_max: Octets = Octets::kib(32), unit "octets";
        /// `Received` fields that make a message count as looping (RFC 5321 §6.3 wants 100 or more).
        hops_max: u32 = 100, unit "fields", range 25..=1000;
    }
}
