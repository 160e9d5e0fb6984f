//! Certificates from an ACME authority (RFC 8555), as far as the gateway is concerned: the settings, and where the
//! certificate is kept. Getting it is `control`'s work.
//!
//! How it fails: it does not; as long as there is no certificate, the one signed by itself is used.

use crate::base::knob::KnobType;
use crate::reactor::tls::CertificateFiles;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

crate::knob_words! {
    /// How it is proved that a name is ours.
    pub enum Challenge {
        /// A file over HTTP (RFC 8555 §8.3).
        Http01 = "http-01",
        /// A certificate over TLS with its own ALPN word (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
    }
}

crate::knobs! {
    /// A certificate from an ACME authority such as Let's Encrypt (RFC 8555), got at the first start and renewed in time,
    /// without a restart. Used when there is no `[[tls.certificate]]`.
    pub struct AcmeKnobs in "acme" {
        /// URL of the authority's directory, such as "https://acme-v02.api.letsencrypt.org/directory". Default: no ACME.
        directory: Option<String> = None, unit "";
        /// Whether you agree to the authority's terms of service; without it nothing is asked for.
        agree_to_terms: bool = false, unit "";
        /// Names in the certificate. Default: the server's hostname.
        domains: Vec<String> = Vec::new(), unit "";
        /// Where the authority may write to when a certificate is about to expire: "mailto:…".
        contact: Vec<String> = Vec::new(), unit "";
        /// "http-01" or "tls-alpn-01".
        challenge: Challenge = Challenge::Http01, unit "";
        /// Address that answers challenges, open only while there is one. The authority connects to port 80 of each name for
        /// http-01, to 443 for tls-alpn-01. Default: that port on every IPv4 address.
        listen: Option<SocketAddr> = None, unit "";
        /// PEM file with a further root that the authority's own certificate may be signed by. Default: the system's roots.
        ca_file: Option<PathBuf> = None, unit "";
        /// A certificate is renewed when it is valid for less than this.
        renew_before: Duration = Duration::from_secs(30 * 86_400), unit "",
            range Duration::from_secs(3600)..=Duration::from_secs(60 * 86_400);
    }
}

impl AcmeKnobs {
    /// Where challenges are answered.
    pub fn listen(&self) -> SocketAddr {
        let port = match self.challenge {
            Challenge::Http01 => 80,
            Challenge::TlsAlpn01 => 443,
        };
        self.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], port)))
    }

    /// What contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if !directory.starts_with("https://") {
            return Err(format!(
                "acme.directory: expected a URL that begins with https://, found {}",
                directory.show()
            ));
        }
        match self.agree_to_terms {
            true => Ok(()),
            false => Err("acme.directory is set, but not acme.agree_to_terms: read the authority's terms of service, then set it to true".into()),
        }
    }
}

/// Directory of account and certificate.
pub fn directory(data: &Path) -> PathBuf {
    data.join("acme")
}

/// Certificate and key, in one file so that they are always of one age.
pub fn files(data: &Path) -> CertificateFiles {
    let file = directory(data).join("certificate.pem");
    CertificateFiles { chain: file.clone(), key: file }
}
