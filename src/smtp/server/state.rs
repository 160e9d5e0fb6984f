//! What a session knows, split by lifetime: [`Peer`] (connection), [`Greeting`] (until the next hello), [`Transaction`]
//! (MAIL to end of data, dropped whole); and [`State`], what it waits for.
//!
//! How it fails: it does not; these are values.

use crate::base::address::ReversePath;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::id::SessionId;
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::sasl::server::Exchange;
use crate::smtp::server::ask::HeloName;
use crate::smtp::server::intake::Intake;
use crate::wire::reply::Reply;
use std::net::SocketAddr;

/// The other end of the connection, as the caller knows it and PROXY, XCLIENT and STARTTLS change it.
#[derive(Clone, Debug)]
pub struct Peer {
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
    /// What its address entitles it to.
    pub rights: PeerRights,
    /// Secret randomness for this connection's SASL nonces.
    pub nonce_seed: [u8; 32],
    /// What a listed proxy said of the client by XCLIENT.
    pub xclient: Option<XclientFacts>,
}

/// What XCLIENT said beyond the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XclientFacts {
    /// The client's host name (NAME); `None` when the proxy does not know it.
    pub name: Option<String>,
}

/// What the address of a peer entitles it to; the listener's lists say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerRights {
    /// May send passwords without TLS (loopback, listed hosts).
    pub protected: bool,
    /// Is a listed proxy that must begin with a PROXY header.
    pub proxy: bool,
    /// May use XCLIENT.
    pub xclient: bool,
}

/// The last hello.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// What the client called itself.
    pub name: HeloName,
    /// EHLO or LHLO: extensions are in force.
    pub extended: bool,
}

/// From MAIL to the end of data.
#[derive(Debug)]
pub struct Transaction {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// Its parameters.
    pub parameters: MailParameters,
    /// Accepted recipients.
    pub recipients: Vec<Recipient>,
    /// Refused ones, counted.
    pub refused: u32,
    /// What BDAT has brought so far.
    pub chunks: Chunks,
}

/// Where a transaction stands with BDAT.
#[derive(Debug, Default)]
pub enum Chunks {
    /// No BDAT yet.
    #[default]
    None,
    /// Chunks have come and more are expected.
    Open(Box<Intake>),
    /// A chunk was refused: the rest of the message is too (RFC 3030 §2).
    Refused,
}

/// Things a session counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Negative replies.
    pub errors: u32,
    /// Negative replies since the last accepted message.
    pub errors_without_mail: u32,
    /// Commands sent in a group where RFC 2920 §3.1 forbids it.
    pub improper_pipelining: u32,
    /// Command lines that ended in a bare line feed.
    pub bare_line_feeds: u32,
    /// Lines that are no command of SMTP.
    pub foreign_commands: u32,
    /// Commands that brought no mail nearer since the last accepted message.
    pub idle_commands: u32,
    /// Transactions begun.
    pub transactions: u32,
    /// Messages accepted.
    pub messages: u32,
    /// Recipients refused.
    pub recipients_refused: u32,
    /// Failed logins.
    pub auth_failures: u32,
    /// Logins tried, for nonces.
    pub auth_attempts: u64,
    /// Octets of message text put together.
    pub text_octets: u64,
}

/// What the session waits for.
#[derive(Debug)]
pub enum State {
    /// A PROXY header.
    Proxy,
    /// Nothing from the client: it should wait for the greeting.
    Greet,
    /// A command.
    Command,
    /// The end of a line that was too long, or had a bare line feed.
    SkipLine {
        /// Whether the last octet was a CR.
        after_cr: bool,
    },
    /// A base64 line.
    Sasl(Box<Exchange>),
    /// The text of a message.
    Data(Box<Intake>),
    /// The octets of a BDAT chunk.
    Chunk(Box<OpenChunk>),
    /// The octets of a refused BDAT chunk.
    Swallow(Box<Skip>),
    /// An answer.
    Asked(Pending),
    /// The time to say something (tarpit).
    Held(Box<Held>),
    /// The TLS handshake.
    StartTls,
    /// Nothing: the connection is over.
    Closed,
}

/// A BDAT chunk being received.
#[derive(Debug)]
pub struct OpenChunk {
    /// Octets still to come.
    pub left: u64,
    /// Octets of the chunk.
    pub octets: u64,
    /// Whether it is the last.
    pub last: bool,
    /// Where they go.
    pub intake: Box<Intake>,
}

/// A refused BDAT chunk being read past.
#[derive(Debug)]
pub struct Skip {
    /// Octets still to come.
    pub left: u64,
    /// What is said then.
    pub replies: Vec<Reply>,
}

/// Replies held back for a while.
#[derive(Debug)]
pub struct Held {
    /// Until when.
    pub until: Instant,
    /// What is said then.
    pub replies: Vec<Reply>,
    /// What follows.
    pub then: Then,
}

/// What follows a reply.
#[derive(Debug)]
pub enum Then {
    /// The next command.
    Command,
    /// The client's response to a challenge.
    Sasl(Box<Exchange>),
    /// The text of a message.
    Data(Box<Intake>),
    /// The end of the connection.
    Close,
}

/// The ask that is open, with what is needed to go on.
#[derive(Debug)]
pub enum Pending {
    /// `Connect`
    Connect,
    /// `Helo`
    Helo(Greeting),
    /// `Sasl`
    Sasl(Box<Exchange>),
    /// `Authenticated`
    Authenticated(String),
    /// `AuthFailed`, and what the client hears.
    AuthFailed(Reply),
    /// `Mail`
    Mail(Box<Transaction>),
    /// `Rcpt`
    Rcpt(Recipient),
    /// `Data`, by DATA.
    Data,
    /// `Data`, by BDAT.
    Chunk(crate::wire::command::Chunk),
    /// `Spill` in the middle of DATA.
    SpillData(Box<Intake>),
    /// `Spill` in the middle or at the end of a chunk.
    SpillChunk(Box<OpenChunk>),
    /// `Spill` of the rest of a message.
    SpillEnd(Box<Intake>),
    /// `Message`
    Message {
        /// How many recipients it has.
        recipients: usize,
    },
    /// `Vrfy` or `Expn`
    Verify,
}
