//! What the session cannot know ([`Ask`]) and what it is told ([`Answer`]).
//!
//! One ask that needs an answer is open at a time. How it fails: an answer that does not fit its ask is a fault of the
//! caller; the client hears NO [SERVERBUG].

use crate::base::body::{Body, BodyShape};
use crate::base::mailbox::MailboxId;
use crate::base::mailbox::ask::{Reply, StoreAsk, StoreError};
use crate::sasl::server::{SaslAnswer, SaslAsk};

/// A question or an instruction, as data.
#[derive(Debug)]
pub enum Ask {
    /// Credentials; answered by [`Answer::Sasl`].
    Sasl(SaslAsk),
    /// The client has proved to be this user; may it be? Answered by [`Answer::Go`] or [`Answer::Refuse`].
    Authenticated {
        /// Who.
        user: String,
    },
    /// Answered by [`Answer::Store`].
    Store(StoreAsk),
    /// A piece of a message that is larger than what is held in memory: append it to its scratch file. Answered by
    /// [`Answer::Spilled`].
    Spill {
        /// Whether it is the first of its message: begin a file.
        first: bool,
        /// The octets.
        chunk: Vec<u8>,
    },
    /// The scratch file is whole. Answered by [`Answer::Spilt`]; when that is an error the file is forgotten.
    SpillEnd {
        /// What was learnt about the message.
        shape: BodyShape,
        /// Its first octets: the header section, within the bound of memory.
        head: Vec<u8>,
    },
    /// Forget the scratch file that was begun and not ended. Needs no answer.
    SpillDrop,
    /// Tell of changes to this mailbox by [`Session::handle_notice`](super::Session::handle_notice); replaces the former
    /// one, `None` stops. Needs no answer.
    Watch(Option<MailboxId>),
    /// Send what waits, then start TLS and say [`Session::tls_started`](super::Session::tls_started). Octets that came in
    /// clear behind STARTTLS have been dropped.
    StartTls,
    /// Send what waits; both directions are DEFLATE from then on (RFC 4978). Needs no answer. Octets that the session has
    /// not consumed when this comes are compressed already.
    StartDeflate,
    /// A login failed; [`Answer::Go`] when its delay is over.
    AuthFailed {
        /// Failures on this connection, this one included.
        failures: u32,
    },
    /// Send what waits, then close. Needs no answer.
    Close,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Sasl`].
    Sasl(SaslAnswer),
    /// Yes.
    Go,
    /// No, with a reason for the client.
    Refuse(String),
    /// To [`Ask::Store`].
    Store(Result<Reply, StoreError>),
    /// To [`Ask::Spill`].
    Spilled(Result<(), StoreError>),
    /// To [`Ask::SpillEnd`].
    Spilt(Result<Body, StoreError>),
}
