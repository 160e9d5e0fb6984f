//! What an operator decides about a listener that speaks SMTP: the knobs, and [`ServerConfig`].
//!
//! How it fails: [`ServerConfig::check`] names the knobs that contradict each other.

use crate::base::address::Domain;
use crate::base::knob::Octets;
use crate::wire::data::BareNewline;
use std::time::Duration;

/// Octets of a line in an AUTH exchange at most (RFC 4954 §4).
pub const SASL_LINE_OCTETS_MAX: usize = 12_288;
/// Octets of replies that may wait for the wire; beyond them no further command is read.
pub const REPLIES_OCTETS_HIGH: usize = 16 * 1024;

crate::knobs! {
    /// The SMTP, submission and LMTP services: limits and times of a session.
    pub struct SmtpKnobs in "smtp" {
        /// Longest command line, CRLF included. RFC 5321 §4.5.3.1.4 says 512, and the extensions add to it; AUTH lines
        /// have the 12288 octets of RFC 4954 §4.
        line_octets_max: usize = 2048, unit "octets", range 1024..=12_288;
        /// Longest line in a message, without its CRLF. RFC 5321 §4.5.3.1.6 says 998, but longer ones are common.
        text_line_octets_max: Octets = Octets::kib(64), unit "octets", range Octets(998)..=Octets::mib(1024);
        /// Largest message; told to clients by SIZE (RFC 1870).
        message_octets_max: Octets = Octets::mib(50), unit "octets", range Octets::kib(64)..=Octets::mib(1024 * 1024);
        /// Largest header section of a message.
        header_octets_max: Octets = Octets::kib(128), unit "octets", range Octets::kib(8)..=Octets::mib(8);
        /// How much of a message is held in memory; what is longer goes to a scratch file.
        body_memory_octets_max: Octets = Octets::kib(256), unit "octets", range Octets::kib(8)..=Octets::mib(256);
        /// Longest local part of an address. RFC 5321 §4.5.3.1.1 says 64; mailing services use longer return paths.
        local_part_octets_max: usize = 128, unit "octets", range 64..=128;
        /// Recipients of one message (RFC 5321 §4.5.3.1.8 wants 100 at least); told by LIMITS RCPTMAX (RFC 9422).
        recipients_max: u32 = 1000, unit "recipients", range 100..=100_000;
        /// Messages on one connection; told by LIMITS MAILMAX (RFC 9422).
        transactions_max: u32 = 1000, unit "messages", range 1..=1_000_000;
        /// Refused commands and recipients after which a client is sent away. An accepted message starts the count again.
        errors_max: u32 = 20, unit "errors", range 1..=100_000;
        /// Commands that bring no mail nearer (NOOP, RSET, HELP, VRFY, EXPN, repeated hellos, empty and unknown ones),
        /// after which a client is sent away. An accepted message starts the count again.
        idle_commands_max: u32 = 100, unit "commands", range 1..=100_000;
        /// Failed logins after which a client is sent away.
        auth_failures_max: u32 = 5, unit "logins", range 1..=1000;
        /// A CR or LF alone in a message: `refuse` the message, or `normalise` it to CRLF. It is never passed on.
        bare_newline: BareNewline = BareNewline::Refuse, unit "";
        /// How long a client is kept waiting for the greeting. Who talks before it is an early talker, a fact for the
        /// policy. 0s notices nobody.
        greet_delay: Duration = Duration::ZERO, unit "", range Duration::ZERO..=Duration::from_secs(60);
        /// How long a listed proxy may take to send the PROXY header.
        proxy_timeout: Duration = Duration::from_secs(10), unit "", range Duration::from_secs(1)..=Duration::from_secs(300);
        /// How long a client may take to send a whole command (RFC 5321 §4.5.3.2.7 says 5 minutes).
        command_timeout: Duration = Duration::from_secs(300), unit "", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// How long a client may pause in a message (RFC 5321 §4.5.3.2.5).
        data_timeout: Duration = Duration::from_secs(180), unit "", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// How long a client may take for one whole message, however busy it looks.
        message_timeout: Duration = Duration::from_secs(3600), unit "", range Duration::from_secs(10)..=Duration::from_secs(86_400);
    }
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Mail from other hosts (RFC 5321).
    Mx,
    /// Mail from users (RFC 6409).
    Submission,
    /// Local delivery (RFC 2033).
    Lmtp,
}

impl Service {
    /// The word of the greeting.
    pub fn protocol(self) -> &'static str {
        match self {
            Service::Mx | Service::Submission => "ESMTP",
            Service::Lmtp => "LMTP",
        }
    }
}

/// Whether a client can have TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsOffer {
    /// No.
    None,
    /// By STARTTLS (RFC 3207).
    StartTls,
    /// From the first octet (RFC 8314 §3); the caller has done it before it makes the machine.
    Implicit,
}

/// Everything a session needs to know of its listener; shared by all of its sessions.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name we greet with; postmaster's domain when a client leaves it out.
    pub hostname: Domain,
    /// Limits and times.
    pub knobs: SmtpKnobs,
    /// What is served.
    pub service: Service,
    /// Whether there is TLS.
    pub tls: TlsOffer,
    /// Mechanisms to offer, by name; none means no AUTH.
    pub mechanisms: Vec<String>,
}

impl ServerConfig {
    /// A configuration with the default knobs, no TLS and no AUTH.
    pub fn plain(hostname: Domain, service: Service) -> ServerConfig {
        ServerConfig { hostname, knobs: SmtpKnobs::default(), service, tls: TlsOffer::None, mechanisms: Vec::new() }
    }

    /// Names the first pair of knobs that contradict each other.
    pub fn check(&self) -> Result<(), String> {
        let k = &self.knobs;
        if k.header_octets_max > k.body_memory_octets_max {
            return Err("smtp.header_octets_max is larger than smtp.body_memory_octets_max: \
                        the policy judges header sections in memory"
                .into());
        }
        if k.header_octets_max > k.message_octets_max {
            return Err("smtp.header_octets_max is larger than smtp.message_octets_max".into());
        }
        if k.data_timeout > k.message_timeout {
            return Err("smtp.data_timeout is longer than smtp.message_timeout".into());
        }
        Ok(())
    }
}
