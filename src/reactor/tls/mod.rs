//! The TLS pump: ciphertext in and plaintext out, plaintext in and ciphertext out; no sockets, no waiting.
//!
//! ```text
//! driver ── received ──▶ Tls ──▶ plain ──▶ machine        after each received, send and close the caller takes what
//! driver ◀── pending ─── Tls ◀── send ─── machine         waits in pending
//! ```
//! rustls' buffered interface is used and drained at once, so that a connection that is idle holds one small buffer. What a
//! peer can make us hold is bounded: a handshake message of 64 KiB, a record of 16 KiB. How it fails: [`TlsError`] is
//! final; the alert for the peer waits in [`Tls::pending`].

mod certificate;
mod error;
mod files;
mod material;
#[cfg(test)]
mod tests;
mod verify;

pub use certificate::fingerprint;
pub use error::{MaterialError, TlsError};
pub use files::{CertificateFiles, SelfSigned, self_signed};
pub use material::{ClientTls, ServerTls, TlsKnobs, TlsVersion, Verify};
pub use verify::Pin;

use crate::base::buf::{Chain, Segment};
use crate::base::tls::{ChannelBinding, TlsFacts};
use rustls::server::Acceptor;
use rustls::{ClientConnection, Connection, HandshakeKind, ProtocolVersion};
use smallvec::SmallVec;
use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::Arc;

/// What [`Tls::received`] has brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsState {
    /// The handshake ended in this call: [`Tls::facts`] are there, plaintext may follow.
    pub handshake_done_now: bool,
    /// The peer has said that it will send no more (close_notify). An end of the stream without it is a cut.
    pub peer_closed: bool,
}

/// TLS on one connection.
pub struct Tls {
    side: Side,
    /// The handshake is over.
    established: bool,
    /// Plaintext given to [`Tls::send`] before that.
    early: Option<Box<Chain>>,
}

enum Side {
    /// A server that has not yet read the ClientHello, and so has not chosen a certificate.
    Accepting {
        acceptor: Box<Acceptor>,
        server: Arc<ServerTls>,
    },
    Server {
        connection: Box<Connection>,
        server: Arc<ServerTls>,
        identity: usize,
    },
    Client {
        connection: Box<Connection>,
    },
    /// It is over; the alert may not have been sent yet.
    Failed {
        error: TlsError,
        alert: Vec<u8>,
    },
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match &self.side {
            Side::Accepting { .. } => "accepting",
            Side::Server { .. } => "server",
            Side::Client { .. } => "client",
            Side::Failed { .. } => "failed",
        };
        write!(f, "Tls {{ side: {side}, established: {} }}", self.established)
    }
}

impl Tls {
    /// For a connection that a client opened.
    pub fn server(server: Arc<ServerTls>) -> Tls {
        let side = Side::Accepting { acceptor: Box::default(), server };
        Tls { side, established: false, early: None }
    }

    /// For a connection to the backend `name`: a host name or an address. The ClientHello waits in [`Tls::pending`].
    pub fn client(client: &ClientTls, name: &str) -> Result<Tls, TlsError> {
        let mut connection = ClientConnection::new(client.config(), client.server_name(name)?)?;
        connection.set_buffer_limit(None); // we drain after each write; the caller's chain is the bound
        let side = Side::Client { connection: Box::new(connection.into()) };
        Ok(Tls { side, established: false, early: None })
    }

    /// Whether the handshake is over.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Ciphertext from the peer, cut anywhere; plaintext is appended to `plain` (never more octets than came in, and those
    /// of one record that was waiting for its end).
    pub fn received(&mut self, cipher: &[u8], plain: &mut Vec<u8>) -> Result<TlsState, TlsError> {
        let mut rest = cipher;
        let result = self.accept(&mut rest).and_then(|()| match &mut self.side {
            Side::Server { connection, .. } | Side::Client { connection } => pump(connection, rest, plain),
            Side::Accepting { .. } => Ok(Pumped { handshaking: true, peer_closed: false }),
            Side::Failed { error, .. } => Err(error.clone()),
        });
        match result {
            Ok(pumped) => {
                let done = !pumped.handshaking;
                let handshake_done_now = done && !std::mem::replace(&mut self.established, done);
                Ok(TlsState { handshake_done_now, peer_closed: pumped.peer_closed })
            }
            Err(error) => {
                self.fail(error.clone(), Vec::new());
                Err(error)
            }
        }
    }

    /// Reads towards the ClientHello; when it is there, chooses the certificate and goes on as a server.
    fn accept(&mut self, rest: &mut &[u8]) -> Result<(), TlsError> {
        let Side::Accepting { acceptor, server } = &mut self.side else {
            return Ok(());
        };
        while !rest.is_empty() {
            if acceptor.read_tls(rest).map_err(|_| TlsError::Violation("its first message is too long".into()))? == 0 {
                break;
            }
            let accepted = match acceptor.accept() {
                Ok(None) => continue,
                Ok(Some(accepted)) => accepted,
                Err((e, alert)) => return Err(self.refuse(e, alert)),
            };
            let identity = server.pick(&accepted.client_hello());
            let mut connection = match accepted.into_connection(server.identity(identity).config.clone()) {
                Ok(connection) => connection,
                Err((e, alert)) => return Err(self.refuse(e, alert)),
            };
            connection.set_buffer_limit(None);
            let server = server.clone();
            self.side = Side::Server { connection: Box::new(connection.into()), server, identity };
            return Ok(());
        }
        Ok(())
    }

    fn refuse(&mut self, e: rustls::Error, mut alert: rustls::server::AcceptedAlert) -> TlsError {
        let error = TlsError::from(e);
        let mut bytes = Vec::new();
        let _ = alert.write_all(&mut bytes); // a Vec takes everything
        self.fail(error.clone(), bytes);
        error
    }

    fn fail(&mut self, error: TlsError, mut alert: Vec<u8>) {
        match &mut self.side {
            Side::Failed { .. } => return,
            Side::Server { connection, .. } | Side::Client { connection } => drain(connection, &mut alert),
            Side::Accepting { .. } => {}
        }
        self.early = None;
        self.side = Side::Failed { error, alert };
    }

    /// Encrypts all of `plain` and appends the records to `out`, with whatever else was waiting. Before the handshake is
    /// over it is kept and goes out with [`Tls::pending`] afterwards; after a failure it is dropped.
    pub fn send(&mut self, plain: &Chain, out: &mut Chain) {
        if !self.established {
            if !matches!(self.side, Side::Failed { .. }) {
                self.early.get_or_insert_default().append(plain.clone());
            }
            return;
        }
        self.pending(out);
        if let Side::Server { connection, .. } | Side::Client { connection } = &mut self.side {
            encrypt(connection, plain, out);
        }
    }

    /// Appends what waits for the peer: handshake records, tickets, key updates, alerts, early plaintext.
    pub fn pending(&mut self, out: &mut Chain) {
        match &mut self.side {
            Side::Accepting { .. } => {}
            Side::Failed { alert, .. } => out.push(Segment::Owned(std::mem::take(alert))),
            Side::Server { connection, .. } | Side::Client { connection } => {
                let mut records = Vec::new();
                drain(connection, &mut records);
                out.push(Segment::Owned(records));
                if self.established
                    && let Some(early) = self.early.take()
                {
                    encrypt(connection, &early, out);
                }
            }
        }
    }

    /// Appends what waits and our close_notify (RFC 8446 §6.1): nothing may be sent after it.
    pub fn close(&mut self, out: &mut Chain) {
        self.pending(out);
        if let Side::Server { connection, .. } | Side::Client { connection } = &mut self.side {
            connection.send_close_notify();
            self.pending(out);
        }
    }

    /// What is known of the session; `None` before the handshake is over and after a failure.
    pub fn facts(&self) -> Option<TlsFacts> {
        let (connection, identity, end_point) = match &self.side {
            _ if !self.established => return None,
            Side::Accepting { .. } | Side::Failed { .. } => return None,
            Side::Server { connection, server, identity } => {
                let client = connection.peer_certificates().and_then(|chain| server.client_identity(chain));
                (connection, client, server.identity(*identity).end_point.clone())
            }
            Side::Client { connection } => {
                let own = connection.peer_certificates().and_then(<[_]>::first);
                (connection, None, own.and_then(certificate::server_end_point))
            }
        };
        let cipher = connection.negotiated_cipher_suite()?.suite().as_str().unwrap_or("unknown");
        let version = connection.protocol_version()?;
        Some(TlsFacts {
            version: version_name(version),
            cipher,
            cipher_bits: if cipher.contains("AES_128") { 128 } else { 256 },
            sni: match &**connection {
                Connection::Server(server) => server.server_name().map(str::to_owned),
                Connection::Client(_) => None,
            },
            client_identity: identity,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            channel_binding: ChannelBinding {
                tls_exporter: exporter(connection, version),
                tls_server_end_point: end_point,
            },
        })
    }
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}

/// RFC 9266 §2: 32 octets with this label and an empty context. In TLS 1.2 they would only be unique with the extended
/// master secret (§4.2), so they are given for TLS 1.3 only.
fn exporter(connection: &Connection, version: ProtocolVersion) -> Option<[u8; 32]> {
    if version != ProtocolVersion::TLSv1_3 {
        return None;
    }
    connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

struct Pumped {
    handshaking: bool,
    peer_closed: bool,
}

/// A reader that has nothing now: rustls then trims its buffer without seeing an end of the stream.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// More than rustls reads at once, so its buffer has grown.
const GROWN_OCTETS: usize = 4096;

fn pump(connection: &mut Connection, cipher: &[u8], plain: &mut Vec<u8>) -> Result<Pumped, TlsError> {
    let mut rest = cipher;
    loop {
        let io = connection.process_new_packets()?;
        take_plaintext(connection, plain);
        let read = match rest.is_empty() {
            true => 0,
            false => connection.read_tls(&mut rest).map_err(|e| TlsError::Violation(e.to_string()))?,
        };
        if read == 0 {
            // Everything is taken, or the peer has said that it is done and what follows does not count.
            if cipher.len() > GROWN_OCTETS {
                let _ = connection.read_tls(&mut Nothing); // always WouldBlock; idle connections are to be small
            }
            return Ok(Pumped { handshaking: connection.is_handshaking(), peer_closed: io.peer_has_closed() });
        }
    }
}

fn take_plaintext(connection: &mut Connection, plain: &mut Vec<u8>) {
    let mut reader = connection.reader();
    while let Ok(chunk) = reader.fill_buf() {
        let n = chunk.len();
        if n == 0 {
            break;
        }
        plain.extend_from_slice(chunk);
        reader.consume(n);
    }
}

fn encrypt(connection: &mut Connection, plain: &Chain, out: &mut Chain) {
    if plain.is_empty() {
        return;
    }
    let mut records =
        Vec::with_capacity(plain.octets() + (plain.octets() / RECORD_OCTETS + 2) * RECORD_OVERHEAD_OCTETS);
    // Vectored writes, so that small segments share a record and large ones are not copied together first.
    let mut window: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
    let mut room = WINDOW_OCTETS;
    for segment in plain.segments() {
        let mut rest = segment.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            window.push(IoSlice::new(now));
            rest = later;
            room -= now.len();
            if room == 0 {
                write(connection, &mut window, &mut records);
                room = WINDOW_OCTETS;
            }
        }
    }
    write(connection, &mut window, &mut records);
    out.push(Segment::Owned(records));
}

/// Plaintext in one record at most (RFC 8446 §5.1).
const RECORD_OCTETS: usize = 16 * 1024;
/// Header, content type and tag; TLS 1.2 has an explicit nonce too.
const RECORD_OVERHEAD_OCTETS: usize = 40;
/// How much rustls encrypts before we take it over: whole records, and small beside a message.
const WINDOW_OCTETS: usize = 4 * RECORD_OCTETS;

fn write(connection: &mut Connection, window: &mut SmallVec<[IoSlice<'_>; 8]>, records: &mut Vec<u8>) {
    if window.is_empty() {
        return;
    }
    let offered: usize = window.iter().map(|slice| slice.len()).sum();
    let written = connection.writer().write_vectored(window);
    debug_assert!(written.is_ok_and(|n| n == offered), "without a limit rustls takes everything");
    window.clear();
    drain(connection, records);
}

fn drain(connection: &mut Connection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        if !connection.write_tls(out).is_ok_and(|n| n > 0) {
            debug_assert!(false, "a Vec takes everything");
            return;
        }
    }
}
