//! What the session cannot know ([`Ask`]) and what it is told ([`Answer`]).
//!
//! One ask is open at a time, except those marked *needs no answer*. How it fails: an answer that does not fit its ask
//! is a fault of the caller; the client hears 451.

use crate::base::address::ReversePath;
use crate::base::address::{Host, Mailbox};
use crate::base::body::{Body, BodyShape};
use crate::base::envelope::{Envelope, MailParameters, Recipient};
use crate::base::proof::{Accepted, Committed, DiscardGrant, RelayGrant};
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::wire::reply::Reply;
use std::sync::Arc;
use std::time::Duration;

/// What a client called itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeloName {
    /// As it was written.
    pub text: String,
    /// The domain or literal it is, when the grammar knows it (RFC 5321 §4.1.1.1). Real clients send other things; what
    /// they deserve for it is the policy's to say.
    pub host: Option<Host>,
}

/// A question, as data.
#[derive(Debug)]
pub enum Ask {
    /// May this client speak? Before the greeting; again after XCLIENT.
    Connect {
        /// Whether it spoke before the greeting.
        early_talker: bool,
    },
    /// HELO, EHLO or LHLO.
    Helo {
        /// What the client called itself.
        name: HeloName,
        /// EHLO or LHLO.
        extended: bool,
    },
    /// Credentials; answered by [`Answer::Sasl`].
    Sasl(SaslAsk),
    /// The client has proved to be this user; may it be?
    Authenticated {
        /// Who.
        user: String,
    },
    /// The client has failed to prove who it is; how long does it wait for the answer?
    AuthFailed {
        /// Failures on this connection, this one included.
        failures: u32,
    },
    /// MAIL.
    Mail {
        /// From whom.
        sender: ReversePath,
        /// How.
        parameters: MailParameters,
    },
    /// RCPT; the positive answer is [`Answer::Granted`].
    Rcpt {
        /// To whom.
        recipient: Recipient,
    },
    /// May the text come? Before 354, or before the first chunk.
    Data {
        /// Its length as the client declared it.
        declared: Option<u64>,
    },
    /// More text than is held in memory: append it to the scratch file of this message; answered by [`Answer::Spilled`].
    Spill {
        /// Whether it is the first of its message: begin a file.
        first: bool,
        /// The octets.
        chunk: Vec<u8>,
    },
    /// A whole message; answered by [`Answer::Settled`], or [`Answer::Refuse`] from the policy.
    Message(Box<Message>),
    /// VRFY; `Go` is 252, or [`Answer::Verified`].
    Vrfy {
        /// A name or an address.
        argument: String,
    },
    /// EXPN; `Go` is 252, or [`Answer::Verified`].
    Expn {
        /// The name of a list.
        argument: String,
    },
    /// The transaction is over, however it ended: forget its facts and its scratch file. Needs no answer.
    Reset,
    /// Send what is waiting, then start TLS and say `tls_started`. Octets that came in clear after STARTTLS have been
    /// dropped (RFC 3207 §5), and so must those that still come before the handshake.
    StartTls,
    /// Send what is waiting, then close the connection. Needs no answer.
    Close,
}

/// A whole message and all that was said about it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The envelope.
    pub envelope: Envelope,
    /// The text.
    pub text: MessageText,
}

/// Where the text of a message is.
#[derive(Clone, Debug)]
pub enum MessageText {
    /// In memory.
    Memory(Body),
    /// In the scratch file that took the spilled chunks, all of it.
    Spilled {
        /// What is known about it.
        shape: BodyShape,
        /// The header section.
        head: Arc<Vec<u8>>,
    },
}

impl MessageText {
    /// What is known about it.
    pub fn shape(&self) -> BodyShape {
        match self {
            MessageText::Memory(body) => body.shape,
            MessageText::Spilled { shape, .. } => *shape,
        }
    }
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// Yes.
    Go,
    /// Yes, but the client hears it later (tarpit).
    GoAfter(Duration),
    /// No.
    Refuse {
        /// What the client hears.
        reply: Reply,
        /// When it hears it.
        after: Duration,
        /// Whether the connection ends with it; 421 always ends it (RFC 5321 §3.8).
        close: bool,
    },
    /// Yes to RCPT.
    Granted {
        /// The policy's proof.
        grant: RelayGrant,
        /// When the client hears it.
        after: Duration,
    },
    /// To [`Ask::Sasl`].
    Sasl(SaslAnswer),
    /// To [`Ask::Spill`]: the octets are in the file, or why the message cannot be kept.
    Spilled(Result<(), Reply>),
    /// To [`Ask::Message`].
    Settled(Settled),
    /// To [`Ask::Vrfy`] and [`Ask::Expn`].
    Verified(Reply),
}

/// What became of a message.
#[derive(Debug)]
pub enum Settled {
    /// In a log, synced.
    Committed(Committed),
    /// The backend has it.
    Accepted(Accepted),
    /// Accepted and thrown away by policy.
    Discarded(DiscardGrant),
    /// Nobody has it.
    Refused(Reply),
    /// One verdict per recipient in the order of the envelope (LMTP, RFC 2033 §4.2). SMTP has one reply only: it is
    /// positive when all verdicts are.
    PerRecipient(Vec<Result<Kept, Reply>>),
}

/// The proof for one recipient.
#[derive(Debug)]
pub enum Kept {
    /// In a log, synced.
    Committed(Committed),
    /// The backend has it.
    Accepted(Accepted),
    /// Accepted and thrown away by policy.
    Discarded(DiscardGrant),
}

impl Message {
    /// The recipients.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Mailbox> {
        self.envelope.recipients.iter().map(|r| &r.mailbox)
    }
}
