//! What a session knows: [`Pop3Peer`] (connection), [`Phase`] (the states of RFC 1939), [`State`] (what it waits for).
//!
//! How it fails: it does not; these are values.

use super::maildrop::Maildrop;
use super::open::Opening;
use super::send::{Listing, Text};
use crate::base::id::SessionId;
use crate::base::time::WallTime;
use crate::base::tls::TlsFacts;
use crate::sasl::server::Exchange;
use crate::wire::pop3::replies::Response;
use std::net::SocketAddr;

/// The other end of the connection, as the caller knows it and STLS changes it.
#[derive(Clone, Debug)]
pub struct Pop3Peer {
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
    /// May send passwords without TLS (loopback, listed hosts).
    pub protected: bool,
    /// May use RPOP: a listed host and a reserved port, as [`Pop3Knobs::allows_rpop`](super::Pop3Knobs::allows_rpop) says.
    pub rpop: bool,
    /// Secret randomness of this connection, for SASL nonces and the timestamp of APOP.
    pub nonce_seed: [u8; 32],
}

/// Things a session counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands.
    pub commands: u32,
    /// Commands before login.
    pub commands_before_login: u32,
    /// Malformed, unknown and misplaced commands.
    pub errors: u32,
    /// Logins tried, for nonces.
    pub auth_attempts: u64,
    /// Failed logins.
    pub auth_failures: u32,
    /// Messages that RETR has sent to the end.
    pub retrieved: u32,
    /// Octets of messages sent by RETR and TOP.
    pub text_octets: u64,
    /// Messages that QUIT has deleted.
    pub deleted: u64,
}

/// The states of RFC 1939 §3; UPDATE is a pending [`Pending::Update`].
#[derive(Debug)]
pub(super) enum Phase {
    /// AUTHORIZATION.
    Authorization {
        /// What USER said.
        claim: Option<String>,
    },
    /// TRANSACTION.
    Transaction(Box<Maildrop>),
}

/// What the session waits for.
#[derive(Debug)]
pub(super) enum State {
    /// A command.
    Command,
    /// The end of a line that was too long.
    SkipLine,
    /// A base64 line.
    Sasl(Box<Exchange>),
    /// An answer.
    Asked(Pending),
    /// Room in the output, to go on with a listing.
    Listing(Listing),
    /// Room in the output, to ask for the next piece of a message.
    Text(Box<Text>),
    /// The TLS handshake.
    StartTls,
    /// Nothing: the connection is over.
    Closed,
}

/// The ask that is open, with what is needed to go on.
#[derive(Debug)]
pub(super) enum Pending {
    /// `Sasl`, of an exchange.
    Sasl(Box<Exchange>),
    /// `Sasl` with a password, of PASS.
    Password(String),
    /// `Sasl` for a secret, of APOP.
    Secret(Box<Digest>),
    /// `Sasl` about an identity, of RPOP.
    Identity(String),
    /// `AuthFailed`, and what the client hears.
    AuthFailed(Response),
    /// `Authenticated` and all that opens the maildrop.
    Opening(Box<Opening>),
    /// `Store` for a message or a piece of it.
    Text(Box<Text>),
    /// `Store` for the deletions of QUIT.
    Update,
}

/// What APOP said.
#[derive(Debug)]
pub(super) struct Digest {
    pub user: String,
    pub digest: [u8; 16],
}

/// Why the session should end at the next chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client will send nothing more.
    Eof,
    /// We are shutting down.
    Shutdown,
}
