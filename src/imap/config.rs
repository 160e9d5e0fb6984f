//! What an operator decides about IMAP ([`ImapKnobs`]), what all sessions of a listener share ([`ImapSettings`]) and what
//! one session is told of its client ([`ImapPeer`]).
//!
//! How it fails: [`ImapSettings::check`] names the knobs that contradict each other.

use crate::base::id::SessionId;
use crate::base::knob::Octets;
use crate::base::time::WallTime;
use crate::base::tls::TlsFacts;
use std::net::SocketAddr;
use std::time::Duration;

/// Octets of a line in a SASL exchange at most (as RFC 4954 §4 has them; RFC 9051 names no bound).
pub(super) const SASL_LINE_OCTETS_MAX: usize = 12_288;
/// Octets of a line in IDLE at most: `DONE` and a line end, and some more so that another command is answered by name.
pub(super) const IDLE_LINE_OCTETS_MAX: usize = 1024;
/// Octets of responses that may wait for the wire; beyond them no further command is read.
pub(super) const OUTPUT_OCTETS_HIGH: usize = 64 * 1024;
/// Octets of all ordinary literals before login: a user name and a password.
pub(super) const LOGIN_LITERAL_OCTETS_MAX: u64 = 4096;
/// Octets of a non-synchronizing literal under LITERAL- (RFC 7888 §5).
pub(super) const LITERAL_MINUS_OCTETS_MAX: u64 = 4096;
/// Messages of one APPEND (RFC 3502 sets none).
pub(super) const APPEND_MESSAGES_MAX: usize = 1000;
/// Rows of one answer to FETCH when only what the index holds is asked for.
pub(super) const FETCH_ROWS_MAX: usize = 1000;
/// Rows of one answer to FETCH when sections or structures are asked for.
pub(super) const FETCH_ROWS_OF_SECTIONS_MAX: usize = 200;
/// Octets of sections of one answer to FETCH.
pub(super) const FETCH_OCTETS_MAX: usize = 256 * 1024;
/// Octets of one piece of a large literal.
pub(super) const PIECE_OCTETS_MAX: usize = 64 * 1024;
/// Untagged responses written at a time where there can be a million of them.
pub(super) const LINES_AT_ONCE_MAX: usize = 1000;
/// Names of one STATUS question behind LIST-STATUS.
pub(super) const STATUS_NAMES_MAX: usize = 200;
/// Ranges of a saved search result (`$`); a result in more pieces is not saved (RFC 5182 §2.1).
pub(super) const SAVED_RANGES_MAX: usize = 100_000;
/// Octets of what a client says of itself by ID that are kept.
pub(super) const CLIENT_ID_OCTETS_MAX: usize = 200;

crate::knob_words! {
    /// How literals may come without being waited for (RFC 7888).
    pub enum LiteralForm {
        /// LITERAL+: of any size.
        Plus = "plus",
        /// LITERAL-: of 4096 octets at most, so that what is too large is refused before it is sent.
        Minus = "minus",
    }
}

crate::knobs! {
    /// The IMAP service: limits and times of a session.
    pub struct ImapKnobs in "imap" {
        /// How long a client may take to log in.
        login_timeout: Duration = Duration::from_secs(60), unit "", range Duration::from_secs(5)..=Duration::from_secs(3600);
        /// How long a client that has logged in may be silent, IDLE included. RFC 9051 §5.4 wants 30 minutes at least.
        idle_timeout: Duration = Duration::from_secs(1800), unit "", range Duration::from_secs(60)..=Duration::from_secs(86_400);
        /// How long a client may pause in the middle of a command, and how long it may leave what it asked for unread.
        command_timeout: Duration = Duration::from_secs(180), unit "", range Duration::from_secs(5)..=Duration::from_secs(3600);
        /// Largest message that APPEND and REPLACE take; told by APPENDLIMIT (RFC 7889).
        append_octets_max: Octets = Octets::mib(50), unit "octets", range Octets::kib(64)..=Octets::mib(4095);
        /// Largest literal of a command that is no message: names, search texts.
        inline_literal_octets_max: Octets = Octets::kib(64), unit "octets", range Octets::kib(1)..=Octets::mib(1);
        /// How much of an appended message is held in memory; what is longer goes to a scratch file.
        body_memory_octets_max: Octets = Octets::kib(256), unit "octets", range Octets::kib(8)..=Octets::mib(256);
        /// How literals may come without being waited for (RFC 7888): `plus` or `minus`.
        literals: LiteralForm = LiteralForm::Plus, unit "";
        /// Malformed commands and commands out of place after which a client is sent away.
        errors_max: u32 = 50, unit "commands", range 1..=100_000;
        /// Commands before login after which a client is sent away.
        login_commands_max: u32 = 50, unit "commands", range 5..=100_000;
        /// Failed logins after which a client is sent away.
        auth_failures_max: u32 = 5, unit "logins", range 1..=1000;
    }
}

/// Everything a session needs to know of its service; shared by all of its sessions.
#[derive(Clone, Debug)]
pub struct ImapSettings {
    /// The name we greet with.
    pub hostname: String,
    /// Limits and times.
    pub knobs: ImapKnobs,
    /// SASL mechanisms to offer, by name. LOGIN is offered where PLAIN is.
    pub sasl_mechanisms: Vec<String>,
    /// Whether STARTTLS is offered.
    pub tls_available: bool,
    /// Name of the one quota root of an account (RFC 9208 §3.2); `""` is usual.
    pub quota_root: String,
    /// Our version, told by ID; `None` keeps it.
    pub version: Option<String>,
}

impl ImapSettings {
    /// Settings with default knobs, no TLS and no mechanisms.
    pub fn plain(hostname: impl Into<String>) -> ImapSettings {
        ImapSettings {
            hostname: hostname.into(),
            knobs: ImapKnobs::default(),
            sasl_mechanisms: Vec::new(),
            tls_available: false,
            quota_root: String::new(),
            version: None,
        }
    }

    /// Names the first pair of knobs that contradict each other.
    pub fn check(&self) -> Result<(), String> {
        let k = &self.knobs;
        if k.body_memory_octets_max > k.append_octets_max {
            return Err("imap.body_memory_octets_max is larger than imap.append_octets_max".into());
        }
        if k.login_timeout > k.idle_timeout {
            return Err("imap.login_timeout is longer than imap.idle_timeout".into());
        }
        Ok(())
    }
}

/// The other end of the connection.
#[derive(Clone, Debug)]
pub struct ImapPeer {
    /// Id of the session.
    pub session: SessionId,
    /// The client.
    pub client: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    /// When it connected.
    pub connected: WallTime,
    /// TLS in force.
    pub tls: Option<TlsFacts>,
    /// Whether passwords may come without TLS (loopback, listed hosts).
    pub protected: bool,
    /// Secret randomness for this connection's SASL nonces.
    pub nonce_seed: [u8; 32],
}
