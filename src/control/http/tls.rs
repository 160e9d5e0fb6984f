//! HTTPS of the admin listener: certificate, key, and the authority of client certificates.
//!
//! The files are looked at again when somebody connects, at most every few seconds, so that a new certificate needs no word.
//! How it fails: files that cannot be used stop the start with their name; later the keys that were good go on. A handshake
//! that fails or takes too long closes the connection.

use super::Setup;
use crate::reactor::tls::self_signed;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A handshake takes this long at most.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where they are.
#[derive(Clone, Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    /// Without a token everybody must show a certificate.
    must_certify: bool,
}

/// What is in force.
struct Current {
    config: Arc<ServerConfig>,
    times: Vec<Option<SystemTime>>,
    looked: Instant,
}

/// See the module's head.
pub struct Keys {
    files: Files,
    current: Mutex<Current>,
}

impl Keys {
    pub fn load(data: &Path, setup: &Setup, must_certify: bool) -> Result<Keys, String> {
        let knobs = &setup.knobs;
        let (chain, key) = match (&knobs.tls_chain, &knobs.tls_key, &setup.certificate) {
            (Some(chain), Some(key), _) => (chain.clone(), key.clone()),
            (None, None, Some((chain, key))) => (chain.clone(), key.clone()),
            (None, None, None) => {
                let own = self_signed(&data.join("tls"), &setup.hostname).map_err(|e| e.to_string())?;
                (own.files.chain, own.files.key)
            }
            _ => return Err("admin.tls_chain and admin.tls_key belong together: set both or none".into()),
        };
        let files = Files { chain, key, client_ca: knobs.client_ca.clone(), must_certify };
        let times = files.times();
        let config = files.read()?;
        Ok(Keys { files, current: Mutex::new(Current { config, times, looked: Instant::now() }) })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let times = self.files.times();
            if times != current.times {
                current.times = times;
                match self.files.read() {
                    Ok(config) => current.config = config,
                    Err(error) => {
                        tracing::error!(target: "admin", error, "the keys of the admin listener stay as they were")
                    }
                }
            }
        }
        current.config.clone()
    }

    /// The connection under TLS, and whether the client has shown a certificate of the authority.
    pub async fn handshake(&self, stream: TcpStream) -> Option<(TlsStream<TcpStream>, bool)> {
        let accepted = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(self.config()).accept(stream)).await;
        let stream =
            accepted.ok()?.inspect_err(|error| tracing::debug!(target: "admin", %error, "no TLS session")).ok()?;
        // The verifier lets no other certificate pass.
        let certified = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        Some((stream, certified))
    }
}

impl Files {
    fn times(&self) -> Vec<Option<SystemTime>> {
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        [&self.chain, &self.key].into_iter().chain(&self.client_ca).map(time).collect()
    }

    fn read(&self) -> Result<Arc<ServerConfig>, String> {
        let said =
            |path: &Path, error: &dyn std::fmt::Display| format!("the admin listener: {}: {error}", path.display());
        let chain = certificates(&self.chain).map_err(|e| said(&self.chain, &e))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| said(&self.key, &e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| said(&self.chain, &e))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path).map_err(|e| said(path, &e))? {
                    roots.add(certificate).map_err(|e| said(path, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.must_certify { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| said(path, &e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| said(&self.chain, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?.collect();
    match all.map_err(|e| e.to_string())? {
        none if none.is_empty() => Err("there is no certificate in it".into()),
        all => Ok(all),
    }
}
