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

knob_words! {
    /// How the domain that an author's domain belongs to is found.
    pub enum Organisation {
        /// By the records on the way up (RFC 9989 §4.10).
        TreeWalk = "tree-walk",
        /// By the public suffix list (RFC 7489 §3.2), as compiled into the program.
        SuffixList = "suffix-list",
    }
}

knobs! {
    /// Lookups: names and addresses, lists in the DNS, SPF, signatures, origin of addresses.
    pub struct LookupKnobs in "lookup" {
        /// Name servers to ask; when empty those of /etc/resolv.conf.
        servers: Vec<NameServer> = Vec::new(), unit "";
        /// How long one name server may take to answer one query.
        timeout: Duration = Duration::from_secs(3), unit "", range Duration::from_millis(50)..=Duration::from_secs(60);
        /// How often a query is repeated after the first attempt failed.
        attempts: usize = 2, unit "queries", range 0..=10;
        /// How long a question may take in all, aliases and retries included; then the answer is a temporary failure.
        deadline: Duration = Duration::from_secs(10), unit "", range Duration::from_millis(50)..=Duration::from_secs(300);
        /// How long an inquiry for the policy may take in all (the name of a client, lists, SPF, signatures); RFC 7208 §4.6.4 wants at least 20 seconds for SPF. Then it is unknown.
        inquiry_deadline: Duration = Duration::from_secs(20), unit "", range Duration::from_millis(50)..=Duration::from_secs(300);
        /// Which addresses of a host are asked for: "both", "ipv4" or "ipv6".
        families: Families = Families::Both, unit "";
        /// Questions waiting for an answer at most, those that share a query included; more are answered with a temporary failure at once.
        waiting_max: usize = 10_000, unit "questions", range 1..=1_000_000;
        /// Different queries in flight at most; the others wait in the queue.
        in_flight_max: usize = 1_000, unit "queries", range 1..=60_000;
        /// Answers kept at most; 0 keeps none.
        cache_entries_max: usize = 50_000, unit "answers", range 0..=10_000_000;
        /// Octets of the answers kept, in all.
        cache_octets_max: usize = 64 * 1024 * 1024, unit "octets", range 0..=1 << 40;
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
        /// Failures of a list in the DNS in a row after which it is left alone; 0 never does.
        list_failures_max: usize = 5, unit "failures", range 0..=1_000;
        /// How long a list that failed is left alone before one question tries it again.
        list_retry_after: Duration = Duration::from_secs(60), unit "", range Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// Octets of a message whose signatures are checked at most; those of a larger one are "policy", and its DMARC is that of SPF.
        signature_octets_max: u64 = 32 * 1024 * 1024, unit "octets", range 0..=4 * 1024 * 1024 * 1024;
        /// How DMARC finds the organisational domain: "tree-walk" (RFC 9989) or "suffix-list" (RFC 7489).
        dmarc_organisation: Organisation = Organisation::TreeWalk, unit "";
        /// Databases in MaxMind's format that say where an address belongs (AS number, country); the first that knows an answer gives it. Read again when a file changes.
        origin_databases: Vec<PathBuf> = Vec::new(), unit "";
        /// How often the files of `origin_databases` are looked at for a change.
        origin_check_every: Duration = Duration::from_secs(60), unit "", range Duration::from_millis(100)..=Duration::from_secs(86_400);
        /// Threads for what computes or reads files: hashes and signatures of messages.
        blocking_threads: usize = 2, unit "threads", range 1..=64;
        /// Names with fixed addresses, asked before any name server: "mx1.example.test=127.0.0.1" or "NAME=ADDR,ADDR". Their addresses resolve back to the name.
        hosts: Vec<StaticHost> = Vec::new(), unit "";
        /// A file in the format of /etc/hosts, read at start, used like `hosts`.
        hosts_file: Option<PathBuf> = None, unit "";
        /// Fixed records, asked before any name server: "NAME A ADDR", "NAME AAAA ADDR", "NAME MX PREFERENCE HOST", "ADDR PTR NAME", "NAME TXT TEXT", "NAME NXDOMAIN", "NAME SERVFAIL".
        records: Vec<StaticRecord> = Vec::new(), unit "";
    }
}
