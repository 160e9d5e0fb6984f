//! Settings of a connection to a backend: how to greet, protect and authenticate it, and how long to wait.
//!
//! How it fails: nothing here fails; ranges are checked where knobs are set.

use crate::base::knob::Octets;
use crate::sasl::client::ClientCredentials;
use crate::smtp::client::Phase;
use crate::smtp::client::introduce::Introduce;
use crate::wire::response::ResponseLimits;
use std::time::Duration;

crate::knobs! {
    /// Connections to backends: waiting times of RFC 5321 §4.5.3.2 and what a backend's replies may cost.
    pub struct ClientKnobs in "client" {
        /// Longest wait for the greeting (RFC 5321 §4.5.3.2.1).
        greeting_timeout: Duration = Duration::from_secs(300), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for a TLS handshake.
        tls_timeout: Duration = Duration::from_secs(60), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the reply to EHLO, STARTTLS, AUTH, RSET and each other short command.
        command_timeout: Duration = Duration::from_secs(300), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the reply to MAIL (RFC 5321 §4.5.3.2.2).
        mail_timeout: Duration = Duration::from_secs(300), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the reply to each RCPT (RFC 5321 §4.5.3.2.3).
        rcpt_timeout: Duration = Duration::from_secs(300), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the 354 after DATA (RFC 5321 §4.5.3.2.4).
        data_timeout: Duration = Duration::from_secs(120), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest time in which nothing more of a body can be sent (RFC 5321 §4.5.3.2.5).
        block_timeout: Duration = Duration::from_secs(180), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the reply after the end of data (RFC 5321 §4.5.3.2.6). Shorter times make duplicates.
        end_of_data_timeout: Duration = Duration::from_secs(600), unit "time", range Duration::from_secs(1)..=Duration::from_secs(3600);
        /// Longest wait for the reply to QUIT.
        quit_timeout: Duration = Duration::from_secs(5), unit "time", range Duration::from_millis(1)..=Duration::from_secs(3600);
        /// Longest time for a whole delivery, so that a backend that reads one block per timeout cannot hold a message.
        delivery_timeout: Duration = Duration::from_secs(3600), unit "time", range Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// Longest line in a reply, with its line end.
        reply_line_octets_max: usize = 2048, unit "octets", range 512..=65_536;
        /// Lines in one reply at most.
        reply_lines_max: usize = 128, unit "lines", range 16..=10_000;
        /// Octets in one reply at most.
        reply_octets_max: usize = 32_768, unit "octets", range 1024..=1_048_576;
        /// RCPT commands on their way without a reply at most, when the backend offers PIPELINING.
        rcpt_window_max: usize = 200, unit "commands", range 1..=10_000;
        /// Bodies up to this size go out by BDAT in the same flight as MAIL and RCPT; larger ones wait for those replies.
        flight_octets_max: Octets = Octets::kib(256), unit "octets";
        /// How much of a body kept in a file is asked for at a time; twice as much is held at most.
        file_read_octets: usize = 131_072, unit "octets", range 4096..=4_194_304;
        /// Whether octets with the high bit go to backends that do not offer 8BITMIME. Refused with 5.6.3 otherwise.
        eight_bit_anyway: bool = false, unit "";
        /// Whether passwords may be sent without TLS by mechanisms that show them (PLAIN, LOGIN).
        auth_in_clear: bool = false, unit "";
    }
}

impl ClientKnobs {
    /// The limits for replies.
    pub(super) fn response_limits(&self) -> ResponseLimits {
        ResponseLimits {
            line_octets_max: self.reply_line_octets_max,
            lines_max: self.reply_lines_max,
            octets_max: self.reply_octets_max,
        }
    }

    /// How long to wait for the reply of `phase`.
    pub(super) fn timeout(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Greeting => self.greeting_timeout,
            Phase::Tls => self.tls_timeout,
            Phase::Ehlo | Phase::StartTls | Phase::Auth | Phase::Xclient | Phase::Reset | Phase::Idle => {
                self.command_timeout
            }
            Phase::Mail => self.mail_timeout,
            Phase::Rcpt => self.rcpt_timeout,
            Phase::Data => self.data_timeout,
            Phase::Body => self.block_timeout,
            Phase::EndOfData => self.end_of_data_timeout,
            Phase::Quit => self.quit_timeout,
        }
    }
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Speaks {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO, and one reply per recipient after the body.
    Lmtp,
}

crate::knob_words! {
    /// Whether the connection is to be protected.
    pub enum TlsMode {
        /// In clear.
        Never = "never",
        /// STARTTLS when it is offered.
        IfOffered = "if-offered",
        /// STARTTLS, or nothing is sent.
        Required = "required",
        /// TLS from the first octet (RFC 8314 §3.3).
        Implicit = "implicit",
    }
}

/// What to think of a server that gives our own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnName {
    /// Nothing: a backend on the same host may well share the name.
    #[default]
    Fine,
    /// A loop: an MX record led back to us (RFC 5321 §5.1).
    Loop,
}

/// Everything a connection needs to know before it begins. One value per pool, shared.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The argument of EHLO: our name.
    pub helo: String,
    /// SMTP or LMTP.
    pub speaks: Speaks,
    /// Protection.
    pub tls: TlsMode,
    /// Login, when the backend wants one.
    pub auth: Option<ClientCredentials>,
    /// What to think of a server that gives `helo` as its own name.
    pub own_name: OwnName,
    /// Whether the backend is told for whom each message is.
    pub introduce: Introduce,
    /// Times and limits.
    pub knobs: ClientKnobs,
}

impl ClientConfig {
    /// Plain SMTP in clear with the default knobs.
    pub fn new(helo: impl Into<String>) -> ClientConfig {
        ClientConfig {
            helo: helo.into(),
            speaks: Speaks::Smtp,
            tls: TlsMode::Never,
            auth: None,
            own_name: OwnName::Fine,
            introduce: Introduce::Never,
            knobs: ClientKnobs::default(),
        }
    }
}
