//! Why an authentication exchange ended without success, on either side.
//!
//! How it fails: it does not.

use std::fmt;

/// The offence. None of them says whether the user exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// The mechanism does not exist or is not offered here (504 5.5.4, RFC 4954 §4).
    UnknownMechanism,
    /// The mechanism shows the password to the wire and the wire is not protected (538 5.7.11, RFC 4954 §6).
    EncryptionRequired,
    /// The peer's message breaks the mechanism's grammar; the text says how (501 5.5.2).
    Malformed(&'static str),
    /// The peer's message is longer than [`MESSAGE_OCTETS_MAX`](super::MESSAGE_OCTETS_MAX) (500 5.5.6).
    TooLong,
    /// User and secret do not match, or there is no such user (535 5.7.8).
    InvalidCredentials,
    /// The credentials may be right, but the user may not act as the identity asked for (535 5.7.8).
    NotAuthorized,
    /// The channel binding is missing, of an unknown type or of another TLS session: somebody may stand in between (535 5.7.8).
    ChannelBinding(&'static str),
    /// The client thinks that the server has no -PLUS mechanism, but one was offered: somebody has cut it out of the list
    /// (RFC 5802 §6; 535 5.7.8).
    Downgrade,
    /// The accounts cannot be asked now; a retry can help (454 4.7.0).
    Unavailable,
    /// The caller did not follow the order of the exchange: a fault of ours.
    OutOfOrder(&'static str),
    /// Client side: the server did not prove that it knows the password.
    ServerNotProven(&'static str),
}

impl SaslError {
    /// Whether the same attempt can succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, SaslError::Unavailable | SaslError::OutOfOrder(_))
    }
    /// Whether it counts as an attempt to guess: it must cost time and count against the limit of failures.
    pub fn is_failed_attempt(&self) -> bool {
        matches!(
            self,
            SaslError::InvalidCredentials
                | SaslError::NotAuthorized
                | SaslError::ChannelBinding(_)
                | SaslError::Downgrade
                | SaslError::Malformed(_)
        )
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaslError::UnknownMechanism => f.write_str("the mechanism is not offered here"),
            SaslError::EncryptionRequired => f.write_str("the mechanism needs TLS"),
            SaslError::Malformed(what) => write!(f, "the authentication message is malformed: {what}"),
            SaslError::TooLong => write!(f, "the authentication message is too long"),
            SaslError::InvalidCredentials => f.write_str("user name or password is wrong"),
            SaslError::NotAuthorized => f.write_str("the user may not act as the identity asked for"),
            SaslError::ChannelBinding(what) => write!(f, "channel binding failed: {what}"),
            SaslError::Downgrade => f.write_str("the client was not shown the -PLUS mechanisms that were offered"),
            SaslError::Unavailable => f.write_str("accounts cannot be checked now"),
            SaslError::OutOfOrder(what) => write!(f, "authentication was driven out of order: {what}"),
            SaslError::ServerNotProven(what) => write!(f, "the server did not prove its identity: {what}"),
        }
    }
}

impl std::error::Error for SaslError {}
