//! The client's half of an exchange, for logging in to a backend.
//!
//! `start` gives the initial response, `respond` answers challenges, and `finish` must be called when the server says that
//! it succeeded: only then is it known that the server knew the password too. How it fails: [`SaslError`].

use super::mechanism::{self, Exposure};
use super::{ChannelBinding, MESSAGE_OCTETS_MAX, SaslError};
use std::fmt;
use zeroize::Zeroizing;

/// With what to log in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientCredentials {
    /// Who.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// As whom to act; `None` for the user itself.
    pub authzid: Option<String>,
}

impl fmt::Debug for ClientCredentials {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCredentials {{ user: {:?}, .. }}", self.user)
    }
}

/// Everything a mechanism's client half is made of.
#[derive(Debug)]
pub(super) struct ClientContext {
    pub credentials: ClientCredentials,
    pub nonce: [u8; 32],
    pub channel_binding: Option<ChannelBinding>,
}

/// One mechanism's client half.
pub(super) trait Connect: fmt::Debug + Send {
    /// The initial response, unless the server speaks first.
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError>;
    /// The response to a challenge.
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError>;
    /// The server says that it succeeded.
    fn finish(&mut self) -> Result<(), SaslError>;
}

/// Picks the strongest of the mechanisms the server offers, or none when only unfit ones are offered.
///
/// `protected` says whether a password may be shown to the wire (TLS, or a local wire the configuration trusts).
/// EXTERNAL is only taken when `certificate` says that TLS presented one of ours.
pub fn choose<S: AsRef<str>>(
    offered: &[S],
    protected: bool,
    channel_binding: Option<&ChannelBinding>,
    certificate: bool,
) -> Option<&'static str> {
    let usable = |exposure| match exposure {
        Exposure::Password => protected,
        Exposure::Proof => true,
        Exposure::BoundProof => channel_binding.is_some_and(|b| !b.is_empty()),
        Exposure::Certificate => certificate,
    };
    mechanism::MECHANISMS
        .iter()
        .find(|row| usable(row.exposure) && offered.iter().any(|name| name.as_ref().eq_ignore_ascii_case(row.name)))
        .map(|row| row.name)
}

/// An exchange in progress.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Box<dyn Connect>,
    over: bool,
}

impl Exchange {
    /// Starts with a mechanism [`choose`] has picked. Returns the initial response, unless the server speaks first.
    /// `channel_binding` is what the TLS session gives, also for the forms without -PLUS: they tell the server that
    /// binding was possible (RFC 5802 §6).
    pub fn start(
        mechanism: &str,
        credentials: &ClientCredentials,
        nonce: [u8; 32],
        channel_binding: Option<&ChannelBinding>,
    ) -> Result<(Exchange, Option<Vec<u8>>), SaslError> {
        let row = mechanism::by_name(mechanism).ok_or(SaslError::UnknownMechanism)?;
        let mut mechanism = (row.connect)(ClientContext {
            credentials: credentials.clone(),
            nonce,
            channel_binding: channel_binding.cloned().filter(|b| !b.is_empty()),
        });
        let initial = mechanism.initial()?;
        Ok((Exchange { mechanism, over: false }, initial))
    }

    /// The response to the server's challenge. After an error the exchange is over; cancel it on the wire.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        if self.over {
            return Err(SaslError::OutOfOrder("the exchange is over"));
        }
        let response = match challenge.len() {
            n if n > MESSAGE_OCTETS_MAX => Err(SaslError::TooLong),
            _ => self.mechanism.respond(challenge),
        };
        self.over = response.is_err();
        response
    }

    /// The server says that it succeeded: is it so? `final_data` is what came with it, in protocols that can carry it.
    pub fn finish(&mut self, final_data: Option<&[u8]>) -> Result<(), SaslError> {
        if let Some(data) = final_data {
            self.respond(data)?;
        }
        if std::mem::replace(&mut self.over, true) {
            return Err(SaslError::OutOfOrder("the exchange is over"));
        }
        self.mechanism.finish()
    }
}
