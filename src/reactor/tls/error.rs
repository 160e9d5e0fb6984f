//! What can go wrong with TLS: on a connection ([`TlsError`]) and with the files it is made of ([`MaterialError`]).
//!
//! How it fails: it does not.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::fmt;
use std::path::PathBuf;

/// Why a connection's TLS ended. All are final for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// The peer's fault: what it sent is not TLS at all (plain text, a port scanner).
    NotTls,
    /// The peer refused us with this alert.
    Refused(AlertDescription),
    /// No version, cipher or certificate suits both sides; the text says which.
    Incompatible(String),
    /// The peer's certificate was not accepted; the text says why and what may help.
    Unverified(String),
    /// The peer's fault: it broke the protocol, or somebody changed its bytes on the way.
    Violation(String),
    /// The name to connect to is neither a host name nor an address.
    BadName(String),
    /// Our own fault.
    Local(String),
}

impl TlsError {
    /// Whether a later attempt can succeed with nothing changed on our side.
    pub fn is_transient(&self) -> bool {
        !matches!(self, TlsError::BadName(_) | TlsError::Incompatible(_))
    }
}

impl From<Error> for TlsError {
    fn from(e: Error) -> TlsError {
        match e {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => TlsError::NotTls,
            Error::AlertReceived(alert) => TlsError::Refused(alert),
            Error::PeerIncompatible(why) => TlsError::Incompatible(format!("{why:?}")),
            Error::NoApplicationProtocol => TlsError::Incompatible("no common application protocol".into()),
            Error::InvalidCertificate(why) => TlsError::Unverified(certificate_error(&why)),
            Error::NoCertificatesPresented => TlsError::Unverified("the peer sent no certificate".into()),
            Error::General(_) | Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes | Error::EncryptError => {
                TlsError::Local(e.to_string())
            }
            other => TlsError::Violation(other.to_string()),
        }
    }
}

fn certificate_error(e: &CertificateError) -> String {
    match e {
        CertificateError::UnknownIssuer => {
            "it is not signed by a trusted authority; name the authority's file as CA, or pin the certificate".into()
        }
        CertificateError::BadSignature => {
            "another key than the trusted authority of that name signed it; name the right CA file, or pin the certificate"
                .into()
        }
        CertificateError::Other(inner) if format!("{inner:?}").contains("CaUsedAsEndEntity") => {
            "a self-signed authority certificate is used as the server's own; pin it instead of naming it as CA".into()
        }
        CertificateError::Other(inner) => inner.to_string(),
        other => Error::InvalidCertificate(other.clone()).to_string(),
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NotTls => f.write_str("the peer does not speak TLS"),
            TlsError::Refused(alert) => write!(f, "the peer refused TLS with the alert {alert:?}"),
            TlsError::Incompatible(why) => write!(f, "no TLS parameters suit both sides: {why}"),
            TlsError::Unverified(why) => write!(f, "the peer's certificate was not accepted: {why}"),
            TlsError::Violation(why) => write!(f, "the peer broke the TLS protocol: {why}"),
            TlsError::BadName(name) => write!(f, "{name:?} is neither a host name nor an address"),
            TlsError::Local(why) => write!(f, "TLS failed on our side: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Why certificates, keys or authorities cannot be used.
#[derive(Debug)]
pub enum MaterialError {
    /// The system refused to read or write.
    Io {
        /// `read`, `write`, …
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file does not hold what is expected.
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Certificate and key are not a pair.
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No authority to verify by.
    NoRoots(String),
    /// A pin that cannot be read.
    BadPin(String),
    /// Settings that do not fit together.
    Settings(String),
}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaterialError::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            MaterialError::Content { path, what } => write!(f, "{}: {what}", path.display()),
            MaterialError::Mismatch { certificate, key } => write!(
                f,
                "the key in {} does not belong to the first certificate in {}; the server's own certificate must come \
                 first, its issuers after it",
                key.display(),
                certificate.display()
            ),
            MaterialError::NoRoots(why) => {
                write!(
                    f,
                    "there are no root certificates to verify by ({why}); install ca-certificates or name a CA file"
                )
            }
            MaterialError::BadPin(pin) => {
                write!(
                    f,
                    "{pin:?} is not a pin; expected the SHA-256 of the certificate or of its public key, in hex or base64"
                )
            }
            MaterialError::Settings(why) => write!(f, "the TLS settings cannot be used: {why}"),
        }
    }
}

impl std::error::Error for MaterialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MaterialError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
