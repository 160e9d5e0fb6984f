//! What goes into the client machine and what comes out of it: [`Delivery`], [`Event`], [`Outcome`] and the errors.
//!
//! How it fails: nothing here fails.

use crate::base::body::Body;
use crate::base::envelope::Envelope;
use crate::base::proof::Accepted;
use crate::wire::reply::Reply;
use crate::wire::response::ResponseError;
use std::fmt;
use std::sync::Arc;

/// One message for one backend.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The envelope; shared with whoever else holds the message.
    pub envelope: Arc<Envelope>,
    /// Which of its recipients, as indexes into `envelope.recipients`.
    pub recipients: Vec<u32>,
    /// Trace fields to go before the body: whole lines with CRLF, or nothing.
    pub prefix: Vec<u8>,
    /// The message.
    pub body: Body,
    /// What to do when the backend refuses some of the recipients.
    pub unity: Unity,
}

/// What to do when the backend refuses some of the recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unity {
    /// All or none: the body is only sent when every recipient has been accepted (cut-through).
    AllOrNone,
    /// Go on with those accepted (delivery from the spool).
    Each,
}

/// Where in the dialogue something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, LHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH.
    Auth,
    /// XCLIENT and the EHLO after it.
    Xclient,
    /// Between messages.
    Idle,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA before 354.
    Data,
    /// While the body was sent.
    Body,
    /// After all of the body was sent.
    EndOfData,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Greeting => "greeting",
            Phase::Ehlo => "EHLO",
            Phase::StartTls => "STARTTLS",
            Phase::Tls => "TLS handshake",
            Phase::Auth => "AUTH",
            Phase::Xclient => "XCLIENT",
            Phase::Idle => "idle",
            Phase::Mail => "MAIL",
            Phase::Rcpt => "RCPT",
            Phase::Data => "DATA",
            Phase::Body => "body",
            Phase::EndOfData => "end of data",
            Phase::Reset => "RSET",
            Phase::Quit => "QUIT",
        })
    }
}

/// What the machine has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Flush the output, start TLS, call `Client::tls_started`.
    StartTls,
    /// Greeted, protected and authenticated as configured: `Client::submit` may be called.
    Ready,
    /// The next octets of a body kept in a file are wanted: call `Client::supply_body`.
    NeedBody {
        /// From which octet of the body.
        offset: u64,
        /// How many at most.
        octets_max: usize,
    },
    /// The answer to `Client::verify`.
    Verified(Verification),
    /// A delivery is over.
    Finished(Outcome),
    /// The connection is of no more use; close it. Always the last event.
    Closed(ClientError),
}

/// What a callout learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The backend's reply to RCPT, 2xx, 4xx or 5xx.
    Recipient(Reply),
    /// The backend would not be asked: its reply to MAIL FROM. Says nothing about the recipient.
    Unable(Reply),
    /// No answer came.
    Lost(ClientError),
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Each recipient of the delivery, in its order.
    pub recipients: Vec<(u32, Fate)>,
    /// Whether the connection can take another message: put it back into the pool.
    pub reusable: bool,
    /// False when the connection was lost before the backend had said anything about this message. On a connection from
    /// the pool that means the backend had closed it meanwhile: try another one and tell nobody. That is right even
    /// where the fate says `committed_unknown`, because a 4xx would make the client send the message again too.
    pub answered: bool,
}

impl Outcome {
    /// Whether every recipient was accepted.
    pub fn is_accepted(&self) -> bool {
        self.recipients.iter().all(|(_, fate)| matches!(fate, Fate::Accepted(_)))
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The backend has the message.
    Accepted(Accepted),
    /// Said no, or we saw that it would have to.
    Refused {
        /// The backend's reply, or ours in its place.
        reply: Reply,
        /// To which command.
        at: Phase,
    },
    /// Was accepted at RCPT, but the message was not sent because another recipient was refused
    /// ([`Unity::AllOrNone`]).
    Withheld,
    /// The connection broke.
    Lost {
        /// Where.
        at: Phase,
        /// Whether the backend may have the message nevertheless: all of it had been sent.
        committed_unknown: bool,
        /// How.
        error: ClientError,
    },
}

/// Why a connection came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// We said QUIT.
    Quit,
    /// The backend closed it.
    Eof {
        /// Where.
        at: Phase,
    },
    /// The network broke it; the text is the system's.
    Io(String),
    /// No answer in time.
    TimedOut {
        /// Where.
        at: Phase,
    },
    /// The backend said 421: it is closing (RFC 5321 §3.8).
    ServiceClosing(Reply),
    /// The backend would not have us: its reply to the greeting, EHLO or HELO.
    Unwelcome {
        /// To what.
        at: Phase,
        /// Its words.
        reply: Reply,
    },
    /// A reply to nothing we said, or before we had said it.
    Unsolicited(Reply),
    /// A reply whose code has no meaning where it came.
    Senseless {
        /// To what.
        at: Phase,
        /// Its words.
        reply: Reply,
    },
    /// Bytes that are not a reply.
    Malformed(ResponseError),
    /// TLS is required and not offered.
    TlsNotOffered,
    /// TLS is required and STARTTLS was refused.
    TlsRefused(Reply),
    /// The handshake failed; the text is the TLS library's.
    TlsFailed(String),
    /// Octets in clear behind the reply to STARTTLS: an injection (RFC 3207 §6).
    TlsInjection,
    /// No mechanism that we have and may use here was offered.
    AuthNotOffered {
        /// What was.
        offered: Vec<String>,
    },
    /// The login was refused.
    AuthRefused(Reply),
    /// The exchange failed on our side: a bad challenge, or the server could not prove that it knows the password.
    AuthFailed(String),
    /// The backend is to be told about clients and does not offer XCLIENT.
    XclientNotOffered,
    /// The server gives our own name.
    Ourselves {
        /// The name.
        name: String,
    },
    /// The rest of a body could not be supplied; the text says why. Ours, not the backend's fault.
    Abandoned(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Quit => f.write_str("we said QUIT"),
            ClientError::Eof { at } => write!(f, "the backend closed the connection ({at})"),
            ClientError::Io(text) => write!(f, "the connection broke: {text}"),
            ClientError::TimedOut { at } => write!(f, "the backend did not answer in time ({at})"),
            ClientError::ServiceClosing(reply) => write!(f, "the backend is closing: {reply}"),
            ClientError::Unwelcome { at, reply } => write!(f, "the backend would not talk to us ({at}): {reply}"),
            ClientError::Unsolicited(reply) => write!(f, "the backend answered what was not asked: {reply}"),
            ClientError::Senseless { at, reply } => {
                write!(f, "the backend's reply has no meaning there ({at}): {reply}")
            }
            ClientError::Malformed(e) => e.fmt(f),
            ClientError::TlsNotOffered => f.write_str("TLS is required and the backend does not offer STARTTLS"),
            ClientError::TlsRefused(reply) => write!(f, "TLS is required and the backend refused it: {reply}"),
            ClientError::TlsFailed(text) => write!(f, "the TLS handshake failed: {text}"),
            ClientError::TlsInjection => f.write_str("octets in clear came behind the reply to STARTTLS"),
            ClientError::AuthNotOffered { offered } if offered.is_empty() => {
                f.write_str("a login is configured and the backend does not offer AUTH")
            }
            ClientError::AuthNotOffered { offered } => write!(
                f,
                "none of the backend's mechanisms can be used here ({}; those that show the password need TLS)",
                offered.join(", ")
            ),
            ClientError::AuthRefused(reply) => write!(f, "the backend refused the login: {reply}"),
            ClientError::AuthFailed(text) => write!(f, "the login failed: {text}"),
            ClientError::XclientNotOffered => {
                f.write_str("the backend is to be told about clients by XCLIENT and does not offer it to us")
            }
            ClientError::Ourselves { name } => write!(f, "mail loops back to us: the server says it is {name}"),
            ClientError::Abandoned(text) => write!(f, "the body could not be supplied: {text}"),
        }
    }
}

impl std::error::Error for ClientError {}
