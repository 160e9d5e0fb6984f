//! SASL as lines of a text protocol, which SMTP, POP3 and IMAP have in common: base64, `=` for an empty initial response,
//! `*` to cancel (RFC 4954 §4, RFC 5034 §4, RFC 4959 §3); and what a client may be offered and told.
//!
//! How it fails: [`NotBase64`], which each protocol says in its own words.

use super::server::Context;
use super::{SaslError, nonce};
use crate::base::time::WallTime;
use crate::base::tls::TlsFacts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What should be base64 is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

/// A line of the client within an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `*`
    Cancelled,
    /// A response, decoded.
    Response(Vec<u8>),
}

/// Reads a line, without its end.
pub fn read(line: &[u8]) -> Result<Line, NotBase64> {
    if line == b"*" {
        return Ok(Line::Cancelled);
    }
    STANDARD.decode(line).map(Line::Response).map_err(|_| NotBase64)
}

/// Reads the word behind the mechanism's name.
pub fn read_initial(word: Option<&str>) -> Result<Option<Vec<u8>>, NotBase64> {
    match word {
        None => Ok(None),
        // The empty initial response.
        Some("=") => Ok(Some(Vec::new())),
        Some(text) => STANDARD.decode(text).map(Some).map_err(|_| NotBase64),
    }
}

/// A challenge as it is sent.
pub fn challenge(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// What decides which mechanisms a client is offered: those that are `enabled`, whether the wire is `protected` by
/// whatever else than TLS, and TLS.
pub fn offer(enabled: &[String], protected: bool, tls: Option<&TlsFacts>) -> Context {
    Context {
        enabled: enabled.to_vec(),
        protected: protected || tls.is_some(),
        channel_binding: tls.map(|t| t.channel_binding.clone()),
        external_identity: tls.and_then(|t| t.client_identity.clone()),
        ..Context::default()
    }
}

/// The same for one attempt. `attempt` counts them on this connection: no two may share a nonce.
pub fn attempt(offer: Context, nonce_seed: &[u8; 32], attempt: u64, hostname: &str, timestamp: WallTime) -> Context {
    Context { nonce: nonce(nonce_seed, attempt), hostname: hostname.to_owned(), timestamp, ..offer }
}

/// What a client is told of a failure. None of them tells whether the user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The mechanism is not offered here.
    UnknownMechanism,
    /// The mechanism needs TLS.
    NeedsProtection,
    /// The response makes no sense.
    Malformed,
    /// The response is too long.
    TooLong,
    /// Nobody can tell now.
    Unavailable,
    /// The credentials are wrong.
    Invalid,
}

impl From<&SaslError> for Told {
    fn from(error: &SaslError) -> Told {
        match error {
            SaslError::UnknownMechanism => Told::UnknownMechanism,
            SaslError::EncryptionRequired => Told::NeedsProtection,
            SaslError::Malformed(_) => Told::Malformed,
            SaslError::TooLong => Told::TooLong,
            SaslError::Unavailable | SaslError::OutOfOrder(_) => Told::Unavailable,
            SaslError::InvalidCredentials
            | SaslError::NotAuthorized
            | SaslError::ChannelBinding(_)
            | SaslError::Downgrade
            | SaslError::ServerNotProven(_) => Told::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_base64_or_a_star() {
        assert_eq!(read(b"*"), Ok(Line::Cancelled));
        assert_eq!(read(b"AGFubg=="), Ok(Line::Response(b"\0ann".to_vec())));
        assert_eq!(read(b""), Ok(Line::Response(Vec::new())));
        assert_eq!(read(b"* "), Err(NotBase64));
        assert_eq!(read(b"AGFubg"), Err(NotBase64), "padding is required (RFC 4648 §3.2)");
        assert_eq!(read_initial(None), Ok(None));
        assert_eq!(read_initial(Some("=")), Ok(Some(Vec::new())));
        assert_eq!(read_initial(Some("AGFubg==")), Ok(Some(b"\0ann".to_vec())));
        assert_eq!(read_initial(Some("==")), Err(NotBase64));
        assert_eq!(challenge(b"Username:"), "VXNlcm5hbWU6");
    }
}
