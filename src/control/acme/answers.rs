//! Answers to an authority's challenges, while there are any: a file over HTTP (RFC 8555 §8.3) or a certificate over TLS
//! (RFC 8737), and nothing else.
//!
//! How it fails: [`Answers::open`] when the port cannot be had; who asks for something else is told 404, or gets no TLS.

use crate::gateway::acme::Challenge;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long one client may take.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// A request line is no longer than this.
const REQUEST_OCTETS_MAX: usize = 4096;
/// RFC 8737 §3
const ALPN: &[u8] = b"acme-tls/1";
/// RFC 8555 §8.3
const PATH: &str = "/.well-known/acme-challenge/";

/// Answers until dropped.
pub struct Answers {
    known: Arc<Known>,
    challenge: Challenge,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What to say to whom.
#[derive(Debug, Default)]
struct Known {
    /// By token.
    files: Mutex<HashMap<String, String>>,
    /// By name.
    certificates: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Answers {
    /// Opens the port.
    pub fn open(challenge: Challenge, address: SocketAddr) -> Result<Answers, String> {
        let fail = |e: std::io::Error| {
            format!(
                "cannot answer challenges on {address}: {e}; acme.listen names another address, behind one that forwards to it"
            )
        };
        let listener = TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let known = Arc::new(Known::default());
        let stop = Arc::new(AtomicBool::new(false));
        let tls = match challenge {
            Challenge::Http01 => None,
            Challenge::TlsAlpn01 => Some(tls(known.clone())?),
        };
        let (stopping, answering) = (stop.clone(), known.clone());
        let run = move || {
            while !stopping.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(POLL);
                    continue;
                };
                // One after the other: the authority asks a few times, and nobody else has business here.
                let _ = match &tls {
                    None => over_http(client, &answering),
                    Some(config) => over_tls(client, config),
                };
            }
        };
        let thread = std::thread::Builder::new().name("acme-answers".into()).spawn(run).map_err(fail)?;
        Ok(Answers { known, challenge, stop, thread: Some(thread) })
    }

    /// One more challenge to answer.
    pub fn add(&self, name: &str, token: &str, proof: &str, digest: &[u8]) -> Result<(), String> {
        match self.challenge {
            Challenge::Http01 => {
                self.known.files.lock().insert(token.to_owned(), proof.to_owned());
            }
            Challenge::TlsAlpn01 => {
                let certificate = certificate(name, digest).map_err(|e| format!("the proof for {name}: {e}"))?;
                self.known.certificates.lock().insert(name.to_ascii_lowercase(), Arc::new(certificate));
            }
        }
        Ok(())
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within the time one client has.
            let _ = thread.join();
        }
    }
}

fn over_http(mut client: TcpStream, known: &Known) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < REQUEST_OCTETS_MAX {
        match client.read(&mut buffer)? {
            0 => break,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let mut words = request.split_whitespace();
    let token = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => path.strip_prefix(PATH),
        _ => None,
    };
    let proof = token.and_then(|token| known.files.lock().get(token).cloned());
    let (status, text) = match proof {
        Some(proof) => ("200 OK", proof),
        None => ("404 Not Found", String::new()),
    };
    let length = text.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

fn tls(known: Arc<Known>) -> Result<Arc<rustls::ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(known)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Resolver(Arc<Known>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Only who speaks the protocol of the challenge may see its certificate (RFC 8737 §3).
        if !hello.alpn()?.any(|protocol| protocol == ALPN) {
            return None;
        }
        self.0.certificates.lock().get(&hello.server_name()?.to_ascii_lowercase()).cloned()
    }
}

fn over_tls(mut client: TcpStream, config: &Arc<rustls::ServerConfig>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut session = rustls::ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut client)?;
    }
    session.send_close_notify();
    session.complete_io(&mut client).map(drop)
}

/// A certificate for `name` that carries the digest of the proof (RFC 8737 §3).
fn certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::try_from(key.serialize_der())?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}
