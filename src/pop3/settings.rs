//! What an operator decides about POP3: the knobs, and [`Pop3Settings`].
//!
//! How it fails: it does not.

use crate::base::address::Domain;
use crate::base::knob::Octets;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// The first port that is not reserved to the superuser of the client's host (RFC 1081, RPOP).
const ORDINARY_PORT_FIRST: u16 = 1024;

crate::knob_words! {
    /// Who may have a maildrop open at the same time.
    pub enum MaildropLock {
        /// One session (RFC 1939 §4).
        Exclusive = "exclusive",
        /// Any number.
        Shared = "shared",
    }
}

crate::knob_words! {
    /// What happens to messages with UTF-8 in their header when the client did not say UTF8 (RFC 6856 §4).
    pub enum RawUtf8 {
        /// They are served as they are.
        Serve = "serve",
        /// RETR and TOP are refused with `[UTF8]`.
        Refuse = "refuse",
    }
}

crate::knobs! {
    /// The POP3 service: limits and times of a session, and what is offered.
    pub struct Pop3Knobs in "pop3" {
        /// How long a client may be silent after login. RFC 1939 §3 wants 10 minutes at least. Deletions of a session
        /// that ends so are not made.
        timeout: Duration = Duration::from_secs(600), unit "", range Duration::from_secs(600)..=Duration::from_secs(86_400);
        /// How long a client may take to log in, however busy it looks.
        login_timeout: Duration = Duration::from_secs(180), unit "", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Whether one session at a time may have a maildrop open (`exclusive`, RFC 1939 §4) or several (`shared`). A lock
        /// dies with its connection.
        lock: MaildropLock = MaildropLock::Exclusive, unit "";
        /// For how many days at least messages stay, told by EXPIRE (RFC 2449 §6.7); without it EXPIRE is NEVER. Nothing is
        /// removed by age; with 0 the messages that were retrieved are deleted when their session ends with QUIT.
        expire_days: Option<u32> = None, unit "days";
        /// The shortest time between two logins of an account, told by LOGIN-DELAY (RFC 2449 §6.5); 0s asks for none.
        login_delay: Duration = Duration::ZERO, unit "", range Duration::ZERO..=Duration::from_secs(86_400);
        /// Whether the greeting has the timestamp of APOP (RFC 1939 §7). It works for accounts with a shared secret only,
        /// and many clients try it wherever they see a timestamp.
        apop: bool = false, unit "";
        /// Hosts whose users may log in by RPOP (RFC 1081) from a port below 1024, without password: their administrators
        /// are trusted as this server's own.
        rpop_hosts: Vec<IpNet> = Vec::new(), unit "";
        /// Messages with UTF-8 in their header to clients that did not say UTF8 (RFC 6856 §4): `serve` them as they are, as
        /// most clients expect, or `refuse` them with the response code UTF8.
        raw_utf8: RawUtf8 = RawUtf8::Serve, unit "";
        /// Messages of a maildrop that a session sees, the oldest. Those beyond are seen when these have been deleted.
        maildrop_messages_max: u32 = 1_000_000, unit "messages", range 100..=100_000_000;
        /// Octets of the next messages that are read with one a client retrieves, when it takes them in order; each session
        /// may hold so much. With 0 each message is read by itself.
        read_ahead_octets: Octets = Octets::kib(256), unit "", range Octets(0)..=Octets::mib(4);
        /// Malformed, unknown and misplaced commands after which a client is sent away.
        errors_max: u32 = 50, unit "errors", range 1..=100_000;
        /// Commands before login after which a client is sent away.
        commands_before_login_max: u32 = 100, unit "commands", range 5..=100_000;
        /// Failed logins after which a client is sent away.
        auth_failures_max: u32 = 5, unit "logins", range 1..=1000;
    }
}

impl Pop3Knobs {
    /// Whether this client may use RPOP: a listed host, from a reserved port (RFC 1081).
    pub fn allows_rpop(&self, client: SocketAddr) -> bool {
        let host = client.ip().to_canonical();
        client.port() < ORDINARY_PORT_FIRST && self.rpop_hosts.iter().any(|net| net.contains(&host))
    }
}

/// Everything a session needs to know of its listener; shared by all of its sessions.
#[derive(Clone, Debug)]
pub struct Pop3Settings {
    /// The name we greet with.
    pub hostname: Domain,
    /// Limits, times, what is offered.
    pub knobs: Pop3Knobs,
    /// SASL mechanisms to offer, by name; none means no AUTH.
    pub sasl_mechanisms: Vec<String>,
    /// Whether STLS can be had.
    pub tls_available: bool,
    /// What IMPLEMENTATION says behind our name (RFC 2449 §6.9); empty for the name alone.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpop_wants_a_listed_host_and_a_reserved_port() {
        let mut knobs = Pop3Knobs::default();
        assert!(!knobs.allows_rpop("192.0.2.1:1000".parse().unwrap()));
        knobs.rpop_hosts = vec!["192.0.2.0/24".parse().unwrap()];
        assert!(knobs.allows_rpop("192.0.2.1:1023".parse().unwrap()));
        assert!(knobs.allows_rpop("[::ffff:192.0.2.1]:600".parse().unwrap()));
        assert!(!knobs.allows_rpop("192.0.2.1:1024".parse().unwrap()));
        assert!(!knobs.allows_rpop("192.0.3.1:600".parse().unwrap()));
    }
}
