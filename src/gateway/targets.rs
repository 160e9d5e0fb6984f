//! Where accepted mail goes, as the configuration says it: routes, pools and their backends.
//!
//! How it fails: the setters say what was expected; what must hold between them is checked in `control`.

use crate::base::knob::{KnobType, Raw};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A host and a port, `"mail.example.test:25"`, `"192.0.2.1:25"` or `"[2001:db8::1]:25"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, not zero.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl HostPort {
    fn read(text: &str) -> Option<HostPort> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|p| *p != 0)?;
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None => crate::wire::address::parse_domain(host).ok()?.as_str().to_owned(),
        };
        Some(HostPort { host, port })
    }
}

impl KnobType for HostPort {
    const KIND: &'static str = "host:port";
    fn parse(raw: &Raw) -> Result<Self, String> {
        let what = "a host with port, such as \"mail.example.test:25\", \"192.0.2.1:25\" or \"[2001:db8::1]:25\"";
        match raw {
            Raw::Text(text) => HostPort::read(text).ok_or_else(|| format!("expected {what}, found {text:?}")),
            other => Err(format!("expected {what}, found {}", other.kind())),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
    fn schema() -> String {
        r#"{"type":"string","pattern":"^.+:[0-9]+$"}"#.into()
    }
}

crate::knob_words! {
    /// What stands behind the 250 after end of data.
    pub enum RouteMode {
        /// The backend's own verdict: nothing is kept here.
        CutThrough = "cut-through",
        /// Our queue, synced to disk; delivered afterwards with retries and bounces.
        Spool = "spool",
        /// The backend's verdict while it answers in time, our queue otherwise.
        Auto = "auto",
        /// The mailboxes of local accounts: synced to disk and readable over POP3 and IMAP at once.
        Mailbox = "mailbox",
    }
}

crate::knob_words! {
    /// How recipients are verified at RCPT.
    pub enum Verify {
        /// Not at all.
        None = "none",
        /// Against a table of addresses.
        Table = "table",
        /// By asking the backend, answers remembered.
        Callout = "callout",
    }
}

crate::knob_words! {
    /// What a backend speaks.
    pub enum BackendProtocol {
        /// RFC 5321.
        Smtp = "smtp",
        /// RFC 2033: one reply per recipient.
        Lmtp = "lmtp",
    }
}

crate::knob_words! {
    /// TLS towards a backend.
    pub enum BackendTls {
        /// Never.
        None = "none",
        /// STARTTLS when offered, without verification: against passive listeners only.
        IfOffered = "if-offered",
        /// STARTTLS, verified; no delivery without.
        Required = "required",
        /// From the first octet, verified.
        Implicit = "implicit",
    }
}

crate::knobs! {
    /// One way for accepted mail. A recipient takes the first route that names its address, else the first whose
    /// domains contain its domain (`"example.org"` is that domain, `".example.org"` everything below it), else the
    /// route that names neither. A policy rule may name a route instead.
    pub struct RouteKnobs in "route.NAME" {
        /// Recipient domains of this route.
        domains: Vec<String> = Vec::new(), unit "";
        /// Recipient addresses of this route.
        addresses: Vec<String> = Vec::new(), unit "";
        /// What stands behind a 250: "cut-through", "spool" or "auto"; or "mailbox", which needs no pool: the mail goes
        /// to the local accounts and aliases. Default: cut-through to a pool or smarthost, spool otherwise.
        mode: Option<RouteMode> = None, unit "";
        /// Name of the `[pool.NAME]` that takes the mail.
        pool: Option<String> = None, unit "";
        /// Deliver to the MX hosts of the recipient's domain.
        mx: bool = false, unit "";
        /// Deliver everything to this host.
        smarthost: Option<HostPort> = None, unit "";
        /// How recipients are verified at RCPT.
        verify: Verify = Verify::None, unit "";
        /// File with one valid recipient address (or `@domain`) per line, for `verify = "table"`.
        table: Option<PathBuf> = None, unit "";
    }
}

crate::knobs! {
    /// Servers that share the work of a route. Its `[[pool.NAME.backend]]` entries are tried by priority, then
    /// weight; one that fails is set aside and probed until it answers again.
    pub struct PoolKnobs in "pool.NAME" {
        /// Connections to one backend from one core, at most.
        connections_max: usize = 64, unit "connections", range 1..=10_000;
        /// Idle connections kept open to one backend by one core.
        idle_max: usize = 32, unit "connections", range 0..=10_000;
        /// How long an idle connection is kept.
        idle_time_max: Duration = Duration::from_secs(30), unit "", range Duration::ZERO..=Duration::from_secs(3600);
        /// Messages sent over one connection before it is closed; 0 = no limit.
        messages_per_connection_max: usize = 0, unit "messages";
        /// Failures in a row that set a backend aside.
        failures_max: u32 = 3, unit "failures", range 1..=1000;
        /// How long a backend stays aside before it is probed; doubles up to sixteen times of it.
        retry_after: Duration = Duration::from_secs(5), unit "",
            range Duration::from_millis(100)..=Duration::from_secs(3600);
        /// Time between health checks of an idle backend; "0s" = only mail itself tells.
        check_interval: Duration = Duration::from_secs(30), unit "",
            range Duration::ZERO..=Duration::from_secs(86_400);
    }
}

crate::knobs! {
    /// One server of a pool.
    pub struct BackendKnobs in "pool.NAME.backend" {
        /// Where it listens. Required.
        address: Option<HostPort> = None, unit "";
        /// What it speaks: "smtp" or "lmtp".
        protocol: BackendProtocol = BackendProtocol::Smtp, unit "";
        /// Share of the work among backends of the same priority.
        weight: u32 = 1, unit "", range 1..=1000;
        /// Lower is tried first; a higher number is a standby.
        priority: u32 = 0, unit "", range 0..=1000;
        /// "none", "if-offered", "required" or "implicit".
        tls: BackendTls = BackendTls::IfOffered, unit "";
        /// Name its certificate must carry; default: the host of `address`.
        tls_name: Option<String> = None, unit "";
        /// SHA-256 of its certificate in hexadecimal: this certificate and no other.
        tls_pin: Option<String> = None, unit "";
        /// PEM file with the authorities to trust; default: those of the system.
        tls_ca: Option<PathBuf> = None, unit "";
        /// User to authenticate as.
        user: Option<String> = None, unit "";
        /// File whose first line is the password.
        password_file: Option<PathBuf> = None, unit "";
        /// Tell it the real client by XCLIENT; it must list us.
        xclient: bool = false, unit "";
    }
}

/// A pool with its backends.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// As it is called in the file.
    pub name: String,
    /// Its settings.
    pub knobs: PoolKnobs,
    /// Its servers, in the order of the file; at least one, each with an address.
    pub backends: Vec<BackendKnobs>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a pool, by its index in `Config::pools`.
    Pool(usize),
    /// To the MX hosts of the recipient's domain (RFC 5321 §5.1).
    Mx,
    /// To one host.
    Smarthost(HostPort),
    /// To the mailboxes of local accounts.
    Mailboxes,
}

/// A route with everything resolved.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// As it is called in the file.
    pub name: String,
    /// Its settings; `mode` is filled in below.
    pub knobs: RouteKnobs,
    /// What stands behind a 250.
    pub mode: RouteMode,
    /// Where it leads.
    pub target: Target,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_ports() {
        for text in ["mail.example.test:25", "192.0.2.1:2525", "[2001:db8::1]:25", "localhost:1"] {
            assert_eq!(HostPort::parse(&Raw::Text(text.into())).unwrap().to_string(), text);
        }
        for text in ["mail", "mail:", "mail:0", "mail:70000", ":25", "2001:db8::1:25", "[::1:25", "a b:25"] {
            assert!(HostPort::parse(&Raw::Text(text.into())).is_err(), "{text}");
        }
    }
}
