//! The settings of the lookup lane, section `[lookup]`.
//!
//! How it fails: values that do not fit are refused by the setters with what was expected.

use super::statics::{StaticHost, StaticRecord};
use crate::base::knob::{KnobType, Raw};
use crate::{knob_words, knobs};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A name server: an address, port 53 unless another is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl KnobType for NameServer {
    const KIND: &'static str = "address";
    fn parse(raw: &Raw) -> Result<Self, String> {
        let what = "a name server's address such as \"192.0.2.53\", \"192.0.2.53:5353\" or \"[2001:db8::53]:53\"";
        match raw {
            Raw::Text(t) => t
                .parse::<SocketAddr>()
                .or_else(|_| t.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
                .map(NameServer)
                .map_err(|_| format!("expected {what}, found {t:?}")),
            other => Err(format!("expected {what}, found {}", other.kind())),
        }
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
    fn schema() -> String {
        r#"{"type":"string"}"#.into()
    }
}

knob_words! {
    /// Which addresses are asked for.
    pub enum Families {
        /// A and AAAA.
        Both = "both",
        /// A only.
        V4 = "ipv4",
        /// AAAA only.
        V6 = "ipv6",
    }
}

knobs! {
    /// Name lookups: MX, addresses, names of clients, TXT.
    pub struct LookupKnobs in "lookup" {
        /// Name servers to ask; when empty those of /etc/resolv.conf.
        servers: Vec<NameServer> = Vec::new(), unit "";
        /// How long one name server may take to answer one query.
        timeout: Duration = Duration::from_secs(3), unit "", range Duration::from_millis(50)..=Duration::from_secs(60);
        /// How often a query is repeated after the first attempt failed.
        attempts: usize = 2, unit "queries", range 0..=10;
        /// How long a question may take in all, aliases and retries included; then the answer is a temporary failure.
        deadline: Duration = Duration::from_secs(10), unit "", range Duration::from_millis(50)..=Duration::from_secs(300);
        /// Which addresses of a host are asked for: "both", "ipv4" or "ipv6".
        families: Families = Families::Both, unit "";
        /// Questions waiting for an answer at most, those that share a query included; more are answered with a temporary failure at once.
        waiting_max: usize = 10_000, unit "questions", range 1..=1_000_000;
        /// Different queries in flight at most; the others wait in the queue.
        in_flight_max: usize = 1_000, unit "queries", range 1..=60_000;
        /// Answers kept at most; 0 keeps none.
        cache_entries_max: usize = 50_000, unit "answers", range 0..=10_000_000;
        /// An answer is kept at least this long, whatever its TTL says.
        ttl_min: Duration = Duration::from_secs(5), unit "", range Duration::ZERO..=Duration::from_secs(86_400);
        /// An answer is kept at most this long, whatever its TTL says.
        ttl_max: Duration = Duration::from_secs(86_400), unit "", range Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        /// "There is no such name" is kept at least this long, also when the answer carries no SOA record (RFC 2308).
        negative_ttl_min: Duration = Duration::from_secs(5), unit "", range Duration::ZERO..=Duration::from_secs(86_400);
        /// "There is no such name" is kept at most this long (RFC 2308 §5 advises one to three hours).
        negative_ttl_max: Duration = Duration::from_secs(3600), unit "", range Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// A temporary failure is kept this long, so that a dead server is not asked for every message (RFC 2308 §7: at most 5 minutes).
        failure_ttl: Duration = Duration::from_secs(5), unit "", range Duration::ZERO..=Duration::from_secs(300);
        /// Names with fixed addresses, asked before any name server: "mx1.example.test=127.0.0.1" or "NAME=ADDR,ADDR". Their addresses resolve back to the name.
        hosts: Vec<StaticHost> = Vec::new(), unit "";
        /// A file in the format of /etc/hosts, read at start, used like `hosts`.
        hosts_file: Option<PathBuf> = None, unit "";
        /// Fixed records, asked before any name server: "NAME A ADDR", "NAME AAAA ADDR", "NAME MX PREFERENCE HOST", "ADDR PTR NAME", "NAME TXT TEXT", "NAME NXDOMAIN", "NAME SERVFAIL".
        records: Vec<StaticRecord> = Vec::new(), unit "";
    }
}
