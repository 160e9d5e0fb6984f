//! Whom we believe: verifiers for backends (by name, by pin, not at all) and for clients that show a certificate.
//!
//! Whatever is believed about a certificate, the peer must prove with a signature that it holds the key. How it fails:
//! the handshake ends with an alert.

use super::certificate;
use super::error::MaterialError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::str::FromStr;
use std::sync::Arc;

/// SHA-256 of a certificate, or of its public key (SubjectPublicKeyInfo); both are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0 == certificate::digest_of(certificate) || certificate::key_digest_of(certificate) == Some(self.0)
    }
}

impl FromStr for Pin {
    type Err = MaterialError;

    /// `sha256:` and 64 hexadecimal digits (with or without colons) or 44 characters of base64; the prefix may be left out.
    fn from_str(text: &str) -> Result<Pin, MaterialError> {
        let bad = || MaterialError::BadPin(text.to_owned());
        let trimmed = text.trim();
        let body = ["sha256:", "SHA256:", "sha256//"].iter().find_map(|p| trimmed.strip_prefix(p)).unwrap_or(trimmed);
        let hex: String = body.chars().filter(|&c| c != ':').collect();
        let bytes = if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            (0..64)
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).map_err(|_| bad()))
                .collect::<Result<_, _>>()?
        } else {
            STANDARD.decode(body).map_err(|_| bad())?
        };
        bytes.try_into().map(Pin).map_err(|_| bad())
    }
}

/// What is demanded of a backend's certificate beyond the signature.
#[derive(Debug)]
enum Demand {
    OneOf(Vec<Pin>),
    Nothing,
}

/// Verifies a backend without authorities.
#[derive(Debug)]
pub(super) struct WithoutAuthority {
    provider: Arc<CryptoProvider>,
    demand: Demand,
}

impl WithoutAuthority {
    /// The end-entity certificate must fit one of the pins.
    pub fn pinned(provider: Arc<CryptoProvider>, pins: Vec<Pin>) -> WithoutAuthority {
        WithoutAuthority { provider, demand: Demand::OneOf(pins) }
    }
    /// Any certificate will do: opportunistic encryption (RFC 7435).
    pub fn anything(provider: Arc<CryptoProvider>) -> WithoutAuthority {
        WithoutAuthority { provider, demand: Demand::Nothing }
    }
}

impl ServerCertVerifier for WithoutAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.demand {
            Demand::OneOf(pins) if !pins.iter().any(|pin| pin.fits(end_entity)) => {
                let shown = certificate::fingerprint(end_entity);
                let why = PinMismatch(format!("its SHA-256 {shown} is not the pinned one"));
                Err(Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(why)))))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The text of a pin that does not fit.
#[derive(Debug)]
struct PinMismatch(String);

impl std::fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PinMismatch {}

/// Asks clients for a certificate and takes any, since mail servers show theirs to whoever asks and must not be turned
/// away for it. What it is worth is asked afterwards, by `authenticate`.
#[derive(Debug)]
pub(super) struct AskClients {
    authorities: Arc<dyn ClientCertVerifier>,
}

impl AskClients {
    pub fn new(authorities: Arc<dyn ClientCertVerifier>) -> AskClients {
        AskClients { authorities }
    }

    /// The identity of a client whose chain leads to one of our authorities and is valid now.
    pub fn authenticate(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<String> {
        let (end_entity, intermediates) = chain.split_first()?;
        self.authorities.verify_client_cert(end_entity, intermediates, now).ok()?;
        certificate::identity(end_entity)
    }
}

impl ClientCertVerifier for AskClients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
