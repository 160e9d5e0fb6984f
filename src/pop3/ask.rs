//! What the session cannot know ([`Ask`]) and what it is told ([`Answer`]).
//!
//! One ask is open at a time, except those marked *needs no answer*. How it fails: an answer that does not fit its ask
//! is a fault of the caller; the client hears `[SYS/TEMP]`.

use crate::base::mailbox::AccountId;
use crate::base::mailbox::ask::{Reply, StoreAsk, StoreError};
use crate::sasl::server::{SaslAnswer, SaslAsk};

/// A question, as data.
#[derive(Debug)]
pub enum Ask {
    /// Credentials; answered by [`Answer::Sasl`].
    Sasl(SaslAsk),
    /// The client has proved to be this user; may it log in? [`Answer::Go`] or [`Answer::Refuse`], whose text may begin
    /// with a response code (`[LOGIN-DELAY] …`, RFC 2449 §8.1.1).
    Authenticated {
        /// Who.
        user: String,
    },
    /// A question to the store; answered by [`Answer::Store`].
    Store(StoreAsk),
    /// The maildrop lock of this account (RFC 1939 §4), where the setting is exclusive; answered by [`Answer::Locked`]. It
    /// is given up by [`Ask::Unlock`], or by the caller when the connection ends.
    Lock(AccountId),
    /// The lock is not needed any more. Needs no answer.
    Unlock,
    /// Send what is waiting, then start TLS and say `tls_started`. Octets that came in clear after STLS have been dropped,
    /// and so must those that still come before the handshake.
    StartTls,
    /// The client has failed to prove who it is; [`Answer::Go`] when it may hear so, or [`Answer::Refuse`] to send it away.
    AuthFailed {
        /// Failures on this connection, this one included.
        failures: u32,
    },
    /// Send what is waiting, then close the connection. Needs no answer.
    Close,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Sasl`].
    Sasl(SaslAnswer),
    /// Yes.
    Go,
    /// No, and what the client hears.
    Refuse(String),
    /// To [`Ask::Store`].
    Store(Result<Reply, StoreError>),
    /// To [`Ask::Lock`]: whether this session has it now.
    Locked(bool),
}
