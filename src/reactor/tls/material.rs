//! What connections are made from: [`ServerTls`] (certificates by name, client authorities, resumption) and [`ClientTls`]
//! (how a backend is verified), both made from files once and shared by every core.
//!
//! How it fails: [`MaterialError`] at start or reload; a good value never turns bad later.

use super::certificate;
use super::error::{MaterialError, TlsError};
use super::files::{self, CertificateFiles};
use super::verify::{AskClients, Pin, WithoutAuthority};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

crate::knob_words! {
    /// A TLS version, as a minimum.
    pub enum TlsVersion {
        /// TLS 1.2 (RFC 5246) and later
        V12 = "1.2",
        /// TLS 1.3 (RFC 8446) only
        V13 = "1.3",
    }
}

crate::knobs! {
    /// TLS towards clients and backends.
    pub struct TlsKnobs in "tls" {
        /// The oldest version that is spoken, in both directions. TLS 1.0 and 1.1 are not supported (RFC 8996).
        min_version: TlsVersion = TlsVersion::V12, unit "";
        /// PEM file of the authorities whose client certificates let in by SASL EXTERNAL. Clients are then asked for a
        /// certificate; one of another authority, or none, is no reason to refuse them.
        client_ca_file: Option<PathBuf> = None, unit "";
        /// Whether clients may resume sessions, which saves them and us most of a handshake.
        resumption: bool = true, unit "";
        /// Sessions remembered for clients of TLS 1.2 that do not take tickets. Others cost us no memory.
        session_cache_entries: usize = 256, unit "sessions", range 0..=1_000_000;
        /// PEM file of the authorities that backends are verified by, where a backend names none; the system's otherwise.
        backend_ca_file: Option<PathBuf> = None, unit "";
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn versions(knobs: &TlsKnobs) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    match knobs.min_version {
        TlsVersion::V12 => &BOTH,
        TlsVersion::V13 => &BOTH[..1],
    }
}

fn settings(e: rustls::Error) -> MaterialError {
    MaterialError::Settings(e.to_string())
}

/// One certificate with everything that depends on it.
#[derive(Debug)]
pub(super) struct Identity {
    pub config: Arc<ServerConfig>,
    /// For channel binding: the server must know which certificate the client saw.
    pub end_point: Option<Vec<u8>>,
    key: Arc<CertifiedKey>,
}

/// The server's side: certificates chosen by the name the client asks for.
#[derive(Debug)]
pub struct ServerTls {
    identities: Vec<Identity>,
    /// Exact names in lower case.
    by_name: HashMap<String, Vec<usize>>,
    /// What stands behind `*.`.
    by_wildcard: HashMap<String, Vec<usize>>,
    clients: Option<Arc<AskClients>>,
}

impl ServerTls {
    /// Loads certificates; the first is the default for clients that name no host or an unknown one. Several for the same
    /// name (RSA and ECDSA) are tried in order against what the client can verify.
    pub fn load(certificates: &[CertificateFiles], knobs: &TlsKnobs) -> Result<ServerTls, MaterialError> {
        if certificates.is_empty() {
            return Err(MaterialError::Settings("no certificate is configured".into()));
        }
        let provider = provider();
        let clients = knobs.client_ca_file.as_deref().map(|path| ask_clients(path, &provider)).transpose()?;
        let resumption = Resumption::new(knobs)?;
        let mut tls = ServerTls { identities: vec![], by_name: HashMap::new(), by_wildcard: HashMap::new(), clients };
        for files in certificates {
            let key = Arc::new(files::certified_key(files, &provider)?);
            let names = certificate::dns_names(&key.cert[0]);
            if names.is_empty() && certificates.len() > 1 {
                tracing::warn!("the certificate in {} names no host", files.chain.display());
            }
            let config = server_config(&provider, key.clone(), tls.clients.clone(), &resumption, knobs)?;
            let end_point = certificate::server_end_point(&key.cert[0]);
            let at = tls.identities.len();
            tls.identities.push(Identity { config: Arc::new(config), end_point, key });
            for name in names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut tls.by_wildcard, parent.to_owned()),
                    None => (&mut tls.by_name, name),
                };
                table.entry(name).or_default().push(at);
            }
        }
        Ok(tls)
    }

    pub(super) fn identity(&self, at: usize) -> &Identity {
        &self.identities[at]
    }

    /// Which certificate suits a client: by name (RFC 6066 §3; a wildcard covers one label, RFC 6125 §6.4.3) and by the
    /// signatures it can check.
    pub(super) fn pick(&self, hello: &ClientHello<'_>) -> usize {
        let schemes = hello.signature_schemes();
        let usable = |at: &usize| self.identities[*at].key.key.choose_scheme(schemes).is_some();
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.by_name.get(&name);
            exact.or_else(|| self.by_wildcard.get(name.split_once('.')?.1))
        });
        let named = named.and_then(|candidates| candidates.iter().copied().find(usable));
        named.or_else(|| (0..self.identities.len()).find(usable)).unwrap_or(0)
    }

    /// The identity of a client's certificate, if it is of one of our authorities.
    pub(super) fn client_identity(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        self.clients.as_ref()?.authenticate(chain, UnixTime::now())
    }

    /// SHA-256 of each certificate, the default first, for the log.
    pub fn fingerprints(&self) -> Vec<String> {
        self.identities.iter().map(|identity| certificate::fingerprint(&identity.key.cert[0])).collect()
    }
}

fn ask_clients(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<AskClients>, MaterialError> {
    let roots = Arc::new(files::authorities(path)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier = verifier.map_err(|e| MaterialError::Content { path: path.to_owned(), what: e.to_string() })?;
    Ok(Arc::new(AskClients::new(verifier)))
}

/// What lets clients resume; shared by all certificates of a server. Tickets are kept by the clients, encrypted with a
/// key that changes every few hours.
struct Resumption {
    tickets: Option<Arc<dyn rustls::server::ProducesTickets>>,
    sessions: Arc<dyn rustls::server::StoresServerSessions>,
}

impl Resumption {
    fn new(knobs: &TlsKnobs) -> Result<Resumption, MaterialError> {
        if !knobs.resumption {
            return Ok(Resumption { tickets: None, sessions: Arc::new(NoServerSessionStorage {}) });
        }
        let tickets = Some(aws_lc_rs::Ticketer::new().map_err(settings)?);
        let sessions: Arc<dyn rustls::server::StoresServerSessions> = match knobs.session_cache_entries {
            0 => Arc::new(NoServerSessionStorage {}),
            n => ServerSessionMemoryCache::new(n),
        };
        Ok(Resumption { tickets, sessions })
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    clients: Option<Arc<AskClients>>,
    resumption: &Resumption,
    knobs: &TlsKnobs,
) -> Result<ServerConfig, MaterialError> {
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions(knobs)).map_err(settings)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(key))));
    config.session_storage = resumption.sessions.clone();
    match &resumption.tickets {
        Some(tickets) => {
            config.ticketer = tickets.clone();
            config.send_tls13_tickets = 1; // mail clients open one connection after the other
        }
        None => config.send_tls13_tickets = 0,
    }
    Ok(config)
}

/// How a backend is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// By name, with the authorities of this file, else of `backend_ca_file`, else of the system.
    Name {
        /// PEM file of authorities.
        ca_file: Option<PathBuf>,
    },
    /// Its certificate or key must have one of these digests; name and authority do not matter.
    Pinned(Vec<Pin>),
    /// Not at all: protects from listeners, not from somebody who stands in between (RFC 7435).
    #[default]
    Opportunistic,
}

/// The client's side, towards backends that are verified alike. Its session cache has a lock: make one per core where
/// many connections are opened.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// Whether the name must be a real one.
    by_name: bool,
}

impl ClientTls {
    /// Makes it; `own` is shown to backends that ask for a client certificate.
    pub fn load(verify: &Verify, own: Option<&CertificateFiles>, knobs: &TlsKnobs) -> Result<ClientTls, MaterialError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions(knobs)).map_err(settings)?.dangerous();
        let verifier: Arc<dyn ServerCertVerifier> = match verify {
            Verify::Name { ca_file } => {
                let roots = roots(ca_file.as_deref().or(knobs.backend_ca_file.as_deref()))?;
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
                verifier.map_err(|e| MaterialError::NoRoots(e.to_string()))?
            }
            Verify::Pinned(pins) if pins.is_empty() => {
                return Err(MaterialError::Settings("pinned verification needs at least one pin".into()));
            }
            Verify::Pinned(pins) => Arc::new(WithoutAuthority::pinned(provider.clone(), pins.clone())),
            Verify::Opportunistic => Arc::new(WithoutAuthority::anything(provider.clone())),
        };
        let builder = builder.with_custom_certificate_verifier(verifier);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let key = files::certified_key(files, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        Ok(ClientTls { config: Arc::new(config), by_name: matches!(verify, Verify::Name { .. }) })
    }

    /// The same, with a whole handshake for every connection.
    pub fn without_resumption(&self) -> ClientTls {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = rustls::client::Resumption::disabled();
        ClientTls { config: Arc::new(config), by_name: self.by_name }
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name to ask for and to verify: a host name or an address. Where the name is not verified, any text will do.
    pub(super) fn server_name(&self, name: &str) -> Result<ServerName<'static>, TlsError> {
        let plain = name.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
        match ServerName::try_from(plain.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if self.by_name => Err(TlsError::BadName(name.to_owned())),
            Err(_) => Ok(ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))), // an address is not sent as SNI
        }
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, MaterialError> {
    if let Some(path) = ca_file {
        return files::authorities(path);
    }
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    match (added, native.errors.first()) {
        (0, Some(e)) => Err(MaterialError::NoRoots(e.to_string())),
        (0, None) => Err(MaterialError::NoRoots("the system has none".into())),
        _ => Ok(roots),
    }
}
