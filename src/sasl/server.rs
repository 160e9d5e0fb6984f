//! The server's half of an exchange: [`Exchange`] drives one mechanism, [`Step`] says what comes next.
//!
//! ```text
//! start ─▶ Challenge ─respond─▶ … ─▶ Ask ─answer─▶ Challenge | Done | Failed
//! ```
//! How it fails: [`Step::Failed`] ends the exchange; a call after the end, or out of turn, fails again and changes nothing.

use super::mechanism::{self, Exposure, Mechanism};
use super::{ChannelBinding, MESSAGE_OCTETS_MAX, SaslError, ScramHash, ScramKeys};
use crate::base::time::WallTime;
use std::fmt;
use zeroize::Zeroizing;

/// What the exchange may know of its surroundings. A value per exchange.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Mechanisms that the configuration allows, by name; others are refused as unknown.
    pub enabled: Vec<String>,
    /// The wire is protected: TLS, or a listed host (loopback by default).
    pub protected: bool,
    /// The TLS session, when there is one to bind to.
    pub channel_binding: Option<ChannelBinding>,
    /// The name in the client's verified certificate.
    pub external_identity: Option<String>,
    /// Fresh randomness for this exchange; see [`nonce`](super::nonce).
    pub nonce: [u8; 32],
    /// The name we greet with (CRAM-MD5 puts it in its challenge).
    pub hostname: String,
    /// The time (CRAM-MD5 puts it in its challenge).
    pub timestamp: WallTime,
}

impl Context {
    fn allows(&self, row: &Mechanism) -> Result<(), SaslError> {
        if !self.enabled.iter().any(|name| name.eq_ignore_ascii_case(row.name)) {
            return Err(SaslError::UnknownMechanism);
        }
        match row.exposure {
            Exposure::Password if !self.protected => Err(SaslError::EncryptionRequired),
            Exposure::BoundProof if self.channel_binding.as_ref().is_none_or(ChannelBinding::is_empty) => {
                Err(SaslError::UnknownMechanism)
            }
            Exposure::Certificate if self.external_identity.is_none() => Err(SaslError::UnknownMechanism),
            _ => Ok(()),
        }
    }

    /// Whether any mechanism with channel binding is offered to this client.
    pub(super) fn offers_binding(&self) -> bool {
        mechanism::MECHANISMS.iter().any(|row| row.exposure == Exposure::BoundProof && self.allows(row).is_ok())
    }
}

/// Names to offer in this context, strongest first (the EHLO parameter of AUTH, RFC 4954 §3; empty means no AUTH).
pub fn mechanisms(ctx: &Context) -> Vec<&'static str> {
    mechanism::MECHANISMS.iter().filter(|row| ctx.allows(row).is_ok()).map(|row| row.name).collect()
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this to the client and [`respond`](Exchange::respond) with what it says.
    Challenge(Vec<u8>),
    /// Have this answered and [`answer`](Exchange::answer).
    Ask(SaslAsk),
    /// The client is `user`, in the form in which accounts are stored.
    Done {
        /// Who.
        user: String,
    },
    /// It is over.
    Failed(SaslError),
}

/// A question about credentials, for whoever keeps them.
#[derive(Clone, PartialEq, Eq)]
pub enum SaslAsk {
    /// Is this the user's password? Answer [`SaslAnswer::Password`].
    Password {
        /// Prepared user name.
        user: String,
        /// As the client sent it.
        password: Zeroizing<String>,
    },
    /// The user's SCRAM keys, or decoys. Answer [`SaslAnswer::ScramKeys`].
    ScramKeys {
        /// Prepared user name.
        user: String,
        /// For which hash.
        hash: ScramHash,
    },
    /// The user's shared secret, if the account opted in. Answer [`SaslAnswer::SharedSecret`].
    SharedSecret {
        /// Prepared user name.
        user: String,
    },
    /// May the holder of a certificate with this name act as `authzid`? Answer [`SaslAnswer::External`].
    External {
        /// Name in the certificate.
        identity: String,
        /// Prepared name the client asks to act as; equal to the prepared `identity` when it asked for none.
        authzid: String,
    },
}

impl SaslAsk {
    /// About whom.
    pub fn user(&self) -> &str {
        match self {
            SaslAsk::Password { user, .. } | SaslAsk::ScramKeys { user, .. } | SaslAsk::SharedSecret { user } => user,
            SaslAsk::External { authzid, .. } => authzid,
        }
    }
}

impl fmt::Debug for SaslAsk {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaslAsk::Password { user, .. } => write!(f, "Password {{ user: {user:?}, .. }}"),
            SaslAsk::ScramKeys { user, hash } => write!(f, "ScramKeys {{ user: {user:?}, hash: {hash:?} }}"),
            SaslAsk::SharedSecret { user } => write!(f, "SharedSecret {{ user: {user:?} }}"),
            SaslAsk::External { identity, authzid } => {
                write!(f, "External {{ identity: {identity:?}, authzid: {authzid:?} }}")
            }
        }
    }
}

/// The answer to a [`SaslAsk`].
#[derive(Clone)]
pub enum SaslAnswer {
    /// Whether it is the password.
    Password(bool),
    /// The keys. For a user that does not exist these are [`ScramKeys::decoy`] keys, so that nothing tells the client.
    ScramKeys(ScramKeys),
    /// The secret; `None` when there is no such user or the account did not opt in.
    SharedSecret(Option<Zeroizing<Vec<u8>>>),
    /// Whether the identity may act so.
    External(bool),
    /// Nobody can tell now.
    Unavailable,
}

impl fmt::Debug for SaslAnswer {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaslAnswer::Password(right) => write!(f, "Password({right})"),
            SaslAnswer::ScramKeys(_) => f.write_str("ScramKeys(..)"),
            SaslAnswer::SharedSecret(_) => f.write_str("SharedSecret(..)"),
            SaslAnswer::External(may) => write!(f, "External({may})"),
            SaslAnswer::Unavailable => f.write_str("Unavailable"),
        }
    }
}

/// One mechanism's server half. [`Exchange`] sees to turns and lengths before it calls.
pub(super) trait Serve: fmt::Debug + Send {
    /// The client gave no initial response: the first challenge, empty where the client speaks first.
    fn begin(&mut self, _ctx: &Context) -> Step {
        Step::Challenge(Vec::new())
    }
    /// The client gave an initial response.
    fn initial(&mut self, ctx: &Context, response: &[u8]) -> Step {
        self.respond(ctx, response)
    }
    /// The client's response to a challenge.
    fn respond(&mut self, ctx: &Context, response: &[u8]) -> Step;
    /// The answer to the ask.
    fn answer(&mut self, ctx: &Context, answer: SaslAnswer) -> Step;
}

/// Whose word is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Client,
    Caller,
    Over,
}

/// An exchange in progress. Dropping it cancels it.
#[derive(Debug)]
pub struct Exchange {
    ctx: Context,
    name: &'static str,
    mechanism: Option<Box<dyn Serve>>,
    turn: Turn,
}

impl Exchange {
    /// Starts with the mechanism the client named and its initial response, if it sent one (an empty one is `Some(b"")`).
    pub fn start(mechanism: &str, initial: Option<&[u8]>, ctx: Context) -> (Exchange, Step) {
        let row = mechanism::by_name(mechanism);
        let allowed = row.ok_or(SaslError::UnknownMechanism).and_then(|row| ctx.allows(row).map(|()| row));
        let row = match allowed {
            Ok(row) => row,
            Err(e) => {
                let name = row.map_or("", |row| row.name);
                return (Exchange { ctx, name, mechanism: None, turn: Turn::Over }, Step::Failed(e));
            }
        };
        let served = (row.serve)(&ctx);
        let mut exchange = Exchange { ctx, name: row.name, mechanism: Some(served), turn: Turn::Client };
        let step = match initial {
            Some(response) => exchange.client_said(response, Serve::initial),
            None => exchange.advance(Serve::begin),
        };
        (exchange, step)
    }

    /// The client's response to the last challenge.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        self.client_said(response, Serve::respond)
    }

    /// The answer to the last ask.
    pub fn answer(&mut self, answer: SaslAnswer) -> Step {
        if self.turn != Turn::Caller {
            return self.fail(SaslError::OutOfOrder("an answer without an ask"));
        }
        if let SaslAnswer::Unavailable = answer {
            return self.fail(SaslError::Unavailable);
        }
        self.advance(|mechanism, ctx| mechanism.answer(ctx, answer))
    }

    /// The mechanism's registered name (RFC 8601 and trace headers want it); empty for an unknown one.
    pub fn mechanism(&self) -> &'static str {
        self.name
    }

    fn client_said(&mut self, response: &[u8], call: fn(&mut (dyn Serve + 'static), &Context, &[u8]) -> Step) -> Step {
        if self.turn != Turn::Client {
            return self.fail(SaslError::OutOfOrder("a response without a challenge"));
        }
        if response.len() > MESSAGE_OCTETS_MAX {
            return self.fail(SaslError::TooLong);
        }
        self.advance(|mechanism, ctx| call(mechanism, ctx, response))
    }

    fn advance(&mut self, call: impl FnOnce(&mut (dyn Serve + 'static), &Context) -> Step) -> Step {
        let Some(mechanism) = self.mechanism.as_mut() else {
            return Step::Failed(SaslError::OutOfOrder("the exchange is over"));
        };
        let step = call(mechanism.as_mut(), &self.ctx);
        self.turn = match step {
            Step::Challenge(_) => Turn::Client,
            Step::Ask(_) => Turn::Caller,
            Step::Done { .. } | Step::Failed(_) => Turn::Over,
        };
        if self.turn == Turn::Over {
            self.mechanism = None; // and with it whatever secrets its state held
        }
        step
    }

    fn fail(&mut self, error: SaslError) -> Step {
        self.turn = Turn::Over;
        self.mechanism = None;
        Step::Failed(error)
    }
}

/// Prepares a name the client sent.
pub(super) fn prepared_user(raw: &[u8]) -> Result<String, SaslError> {
    crate::wire::prep::user_name(raw)
        .map_err(|_| SaslError::Malformed("the user name is empty, too long or has forbidden characters"))
}

/// A user may act as itself and nobody else: RFC 4616 §2 leaves the rule to the server.
pub(super) fn check_authzid(authzid: &[u8], user: &str) -> Result<(), SaslError> {
    if authzid.is_empty() || prepared_user(authzid)? == user { Ok(()) } else { Err(SaslError::NotAuthorized) }
}

/// The answer is to another question than the one that was asked.
pub(super) fn wrong_answer() -> Step {
    Step::Failed(SaslError::OutOfOrder("the answer does not fit the ask"))
}
