//! A scripted helper on a socket of this machine, and cases to consult it about.
//!
//! How it fails: it does what its script says; a script that panics shows in the test that waits for an answer.

use gatepost::base::body::{Body, BodyFile, BodyShape, Store};
use gatepost::base::id::SessionId;
use gatepost::base::inquiry::{Action, Advice, Case, Finding};
use gatepost::base::knob::{KnobType, Raw};
use gatepost::lookup::helpers::{HelperAddress, HelperConfig, HelperKind, HelperKnobs, Helpers, OnFailure};
use gatepost::wire::address::{parse_domain, parse_mailbox};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message with a header and a body.
pub const MESSAGE: &str = "From: Ann <ann@example.org>\r\nTo: bob@example.test\r\nSubject: a long\r\n subject\r\n\
                           Message-ID: <1@example.org>\r\n\r\nHello,\r\n\r\nbye.\r\n";

/// What a script talks to.
pub trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// Something that listens and follows a script for each connection.
pub struct Fake {
    pub address: HelperAddress,
    shared: Arc<Shared>,
    _dir: Option<tempfile::TempDir>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    connections: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
    heard: Mutex<Vec<String>>,
}

/// What a script may write down.
#[derive(Clone)]
pub struct Notes(Arc<Shared>);

impl Notes {
    pub fn note(&self, text: impl Into<String>) {
        self.0.heard.lock().unwrap().push(text.into());
    }
}

impl Fake {
    /// Listens on a free port. The script gets the connection and its number, from 0.
    pub fn start(script: impl Fn(&mut dyn Line, usize, &Notes) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        Fake::serve(address(&format!("inet:{at}")), None, script, move || {
            listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Line>)
        })
    }

    /// Listens on a socket in a directory of its own.
    pub fn start_unix(script: impl Fn(&mut dyn Line, usize, &Notes) + Send + Sync + 'static) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Fake::serve(address(&format!("unix:{}", path.display())), Some(dir), script, move || {
            listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Line>)
        })
    }

    fn serve(
        address: HelperAddress,
        dir: Option<tempfile::TempDir>,
        script: impl Fn(&mut dyn Line, usize, &Notes) + Send + Sync + 'static,
        accept: impl Fn() -> std::io::Result<Box<dyn Line>> + Send + 'static,
    ) -> Fake {
        let shared = Arc::new(Shared::default());
        let (mine, script) = (shared.clone(), Arc::new(script));
        std::thread::spawn(move || {
            while let Ok(mut line) = accept() {
                if mine.ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = mine.connections.fetch_add(1, Ordering::SeqCst);
                let (mine, script) = (mine.clone(), script.clone());
                std::thread::spawn(move || {
                    let open = mine.open.fetch_add(1, Ordering::SeqCst) + 1;
                    mine.open_max.fetch_max(open, Ordering::SeqCst);
                    script(&mut *line, number, &Notes(mine.clone()));
                    mine.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Fake { address, shared, _dir: dir }
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many there were at a time, at most.
    pub fn open_max(&self) -> usize {
        self.shared.open_max.load(Ordering::SeqCst)
    }

    /// What the script has written down.
    pub fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Settings for it, impatient.
    pub fn knobs(&self, kind: HelperKind) -> HelperKnobs {
        HelperKnobs { on_failure: OnFailure::Unknown, ..knobs(kind, self.address.clone()) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        match &self.address {
            HelperAddress::Unix(path) => drop(std::os::unix::net::UnixStream::connect(path)),
            HelperAddress::Inet { host, port } => drop(TcpStream::connect((host.as_str(), *port))),
        }
    }
}

pub fn address(text: &str) -> HelperAddress {
    HelperAddress::parse(&Raw::Text(text.into())).unwrap()
}

pub fn knobs(kind: HelperKind, address: HelperAddress) -> HelperKnobs {
    HelperKnobs {
        kind: Some(kind),
        address: Some(address),
        answer_timeout: Duration::from_secs(20),
        failures_max: 1000,
        ..HelperKnobs::default()
    }
}

/// One helper called `h`.
pub fn helpers(knobs: HelperKnobs) -> Helpers {
    Helpers::load(&[HelperConfig { name: "h".into(), knobs }]).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Consults `h` once, on the runtime of this thread: kept connections belong to one.
pub fn consult(helpers: &Helpers, case: &Case) -> Finding {
    thread_local!(static RUNTIME: tokio::runtime::Runtime = runtime());
    RUNTIME.with(|runtime| runtime.block_on(helpers.consult("h", case)))
}

/// The advice there must be.
#[track_caller]
pub fn advice(finding: Finding) -> Advice {
    match finding {
        Finding::Advice(advice) => *advice,
        other => panic!("no advice but {other:?}"),
    }
}

/// The reason there must be.
#[track_caller]
pub fn unknown(finding: Finding) -> String {
    match finding {
        Finding::Unknown(why) => why.into(),
        other => panic!("an answer from a broken helper: {other:?}"),
    }
}

/// The advice, with nothing but an action and a reply.
#[track_caller]
pub fn decided(finding: Finding) -> (Action, Option<String>) {
    let advice = advice(finding);
    assert_eq!((&advice.edits[..], advice.score), (&[][..], None));
    (advice.action, advice.reply.map(Into::into))
}

/// A session of Ann's with a message for Bob and Carl.
pub fn case(message: &str) -> Case {
    Case {
        session: SessionId(7),
        host: parse_domain("mx.example.test").unwrap(),
        listener: "mx".into(),
        client: "192.0.2.1:2525".parse().unwrap(),
        local: "198.51.100.2:25".parse().unwrap(),
        client_name: Some(parse_domain("mail.example.org").unwrap()),
        helo: "helo.example.org".into(),
        tls: Some(("TLSv1.3".into(), "TLS_AES_256_GCM_SHA384".into())),
        user: None,
        sender: Some(parse_mailbox("ann@example.org").unwrap()),
        recipients: ["bob@example.test", "carl@example.test"].map(|m| parse_mailbox(m).unwrap()).to_vec(),
        transaction: 1,
        spf: None,
        body: Some(body(message.as_bytes())),
    }
}

fn shape(message: &[u8]) -> BodyShape {
    let header = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    BodyShape {
        octets: message.len() as u64,
        header_octets: header as u64,
        ends_with_crlf: message.ends_with(b"\r\n"),
        ..BodyShape::default()
    }
}

/// A body in memory, in small chunks.
pub fn body(message: &[u8]) -> Body {
    Body::memory(shape(message), message.chunks(4096).map(|c| Arc::new(c.to_vec())).collect())
}

#[derive(Debug)]
struct OnDisk(PathBuf);

impl BodyFile for OnDisk {
    fn id(&self) -> u64 {
        1
    }
    fn path(&self) -> Option<&Path> {
        Some(&self.0)
    }
}

/// A body in a file of `dir`.
pub fn body_in(dir: &Path, message: &[u8]) -> Body {
    let path = dir.join("body");
    std::fs::write(&path, message).unwrap();
    let shape = shape(message);
    let head = message[..usize::try_from(shape.header_octets).unwrap()].to_vec();
    Body { shape, store: Store::File { file: Arc::new(OnDisk(path)), head: Arc::new(head) } }
}

/// Reads until nothing comes any more.
pub fn hang(line: &mut dyn Line) {
    let mut nothing = [0; 4096];
    while matches!(line.read(&mut nothing), Ok(n) if n > 0) {}
}

/// A loopback address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
