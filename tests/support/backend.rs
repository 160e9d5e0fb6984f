//! A scripted SMTP or LMTP backend in threads: it keeps what it accepts and misbehaves where a test wants it to.
//!
//! How it fails: a connection that breaks ends its thread; what was kept stays.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A message the backend said 250 to.
#[derive(Clone, Debug)]
pub struct Kept {
    pub from: String,
    pub to: Vec<String>,
    pub data: Vec<u8>,
    /// When it was kept.
    pub at: Instant,
}

impl Kept {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

/// What a backend does at a step instead of answering well.
#[derive(Clone, Debug)]
pub enum Act {
    /// Says this.
    Say(String),
    /// Closes without a word.
    Close,
    /// Closes by a reset.
    Reset,
    /// Says nothing, keeps the connection.
    Hang,
    /// Waits, then answers well.
    Wait(Duration),
}

/// What the backend is like. Steps: `connect`, `EHLO`, `MAIL`, `RCPT`, `DATA`, `BDAT`, `.` (end of data), `QUIT`.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    pub lmtp: bool,
    pub extensions: Vec<&'static str>,
    pub acts: HashMap<&'static str, Act>,
    /// Replies for recipients that contain the key.
    pub recipients: HashMap<String, String>,
    /// Closes after this many messages on one connection.
    pub close_after: Option<usize>,
}

/// A running backend.
pub struct Backend {
    pub address: SocketAddr,
    kept: Arc<Mutex<Vec<Kept>>>,
    pub manners: Arc<Mutex<Manners>>,
    pub connections: Arc<AtomicUsize>,
    commands: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Backend {
    pub fn start(manners: Manners) -> Backend {
        Backend::start_at("127.0.0.1:0".parse().unwrap(), manners)
    }

    pub fn plain() -> Backend {
        Backend::start(Manners { extensions: vec!["PIPELINING", "8BITMIME", "SIZE 50000000"], ..Manners::default() })
    }

    pub fn start_at(address: SocketAddr, manners: Manners) -> Backend {
        let listener = TcpListener::bind(address).unwrap();
        let backend = Backend {
            address: listener.local_addr().unwrap(),
            kept: Arc::default(),
            manners: Arc::new(Mutex::new(manners)),
            connections: Arc::default(),
            commands: Arc::default(),
            stop: Arc::default(),
        };
        let (kept, manners, connections, commands, stop) = (
            backend.kept.clone(),
            backend.manners.clone(),
            backend.connections.clone(),
            backend.commands.clone(),
            backend.stop.clone(),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let served = Served {
                    kept: kept.clone(),
                    manners: manners.clone(),
                    commands: commands.clone(),
                    out: stream.try_clone().unwrap(),
                };
                std::thread::spawn(move || served.run(stream));
            }
        });
        backend
    }

    pub fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap().clone()
    }

    /// Every command line it was sent, over all connections.
    pub fn commands(&self) -> Vec<String> {
        self.commands.lock().unwrap().clone()
    }

    /// Waits until it has kept `n` messages.
    pub fn wait_kept(&self, n: usize) -> Vec<Kept> {
        super::wait_for(&format!("{n} messages at the backend"), || Some(self.kept()).filter(|k| k.len() >= n))
    }

    pub fn act(&self, step: &'static str, act: Act) {
        self.manners.lock().unwrap().acts.insert(step, act);
    }

    pub fn behave(&self) {
        let mut manners = self.manners.lock().unwrap();
        manners.acts.clear();
        manners.recipients.clear();
    }

    /// Stops accepting connections; the port is free afterwards.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Served {
    kept: Arc<Mutex<Vec<Kept>>>,
    manners: Arc<Mutex<Manners>>,
    commands: Arc<Mutex<Vec<String>>>,
    out: TcpStream,
}

impl Served {
    /// Answers a step; false ends the connection.
    fn answer(&mut self, step: &'static str, well: &str) -> bool {
        let act = self.act(step);
        self.perform(act, well)
    }

    /// What it is to do at a step now; asked once per step, as a test may change it meanwhile.
    fn act(&self, step: &'static str) -> Option<Act> {
        self.manners.lock().unwrap().acts.get(step).cloned()
    }

    fn perform(&mut self, act: Option<Act>, well: &str) -> bool {
        match act {
            None => self.say(well),
            Some(Act::Say(text)) => self.say(&text) && !text.starts_with("421"),
            Some(Act::Close) => false,
            Some(Act::Reset) => {
                socket2::SockRef::from(&self.out).set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
            Some(Act::Wait(time)) => {
                std::thread::sleep(time);
                self.say(well)
            }
            Some(Act::Hang) => {
                std::thread::sleep(Duration::from_secs(120));
                false
            }
        }
    }

    fn say(&mut self, text: &str) -> bool {
        self.out.write_all(format!("{text}\r\n").as_bytes()).is_ok()
    }

    fn run(mut self, stream: TcpStream) {
        let mut lines = BufReader::new(stream);
        let mut from = String::new();
        let mut to: Vec<String> = Vec::new();
        let mut data = Vec::new();
        let mut messages = 0;
        let mut begun = false;
        if !self.answer("connect", "220 backend ready") {
            return;
        }
        loop {
            let mut line = Vec::new();
            match lines.read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.commands.lock().unwrap().push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
            let goes_on = match verb.as_str() {
                "EHLO" | "LHLO" | "HELO" => {
                    let extensions = self.manners.lock().unwrap().extensions.clone();
                    let mut text = String::new();
                    for (i, e) in std::iter::once("backend").chain(extensions.iter().copied()).enumerate() {
                        let last = i == extensions.len();
                        text += &format!("250{}{e}{}", if last { ' ' } else { '-' }, if last { "" } else { "\r\n" });
                    }
                    self.answer("EHLO", &text)
                }
                "MAIL" => {
                    from = line[10..].to_owned();
                    (to, data) = (Vec::new(), Vec::new());
                    let act = self.act("MAIL");
                    begun = takes(&act);
                    self.perform(act, "250 2.1.0 ok")
                }
                "RCPT" if !begun => self.say("503 5.5.1 MAIL first"),
                "RCPT" => {
                    let special = self.manners.lock().unwrap().recipients.clone();
                    match special.iter().find(|(k, _)| line.contains(k.as_str())) {
                        Some((_, reply)) => self.say(&reply.clone()),
                        None => {
                            let act = self.act("RCPT");
                            if takes(&act) {
                                to.push(line[8..].to_owned());
                            }
                            self.perform(act, "250 2.1.5 ok")
                        }
                    }
                }
                "DATA" if to.is_empty() => self.say("554 5.5.1 no valid recipients"),
                "DATA" => {
                    let act = self.act("DATA");
                    let takes = takes(&act);
                    if !self.perform(act, "354 go ahead") {
                        return;
                    }
                    if !takes {
                        continue;
                    }
                    let Some(message) = read_dotted(&mut lines) else { return };
                    messages += 1;
                    self.finish(&from, &to, message)
                }
                "BDAT" => {
                    let mut words = line.split(' ').skip(1);
                    let n: usize = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
                    let mut chunk = vec![0; n];
                    if lines.read_exact(&mut chunk).is_err() {
                        return;
                    }
                    data.extend_from_slice(&chunk);
                    let last = words.next().is_some_and(|w| w.eq_ignore_ascii_case("LAST"));
                    if to.is_empty() {
                        self.say("554 5.5.1 no valid recipients")
                    } else if last {
                        messages += 1;
                        self.finish(&from, &to, std::mem::take(&mut data))
                    } else {
                        self.answer("BDAT", "250 2.0.0 go on")
                    }
                }
                "RSET" | "NOOP" => {
                    (to, data) = (Vec::new(), Vec::new());
                    self.say("250 2.0.0 ok")
                }
                "QUIT" => {
                    self.answer("QUIT", "221 2.0.0 bye");
                    return;
                }
                _ => self.say("502 5.5.1 not here"),
            };
            let tired = self.manners.lock().unwrap().close_after.is_some_and(|n| messages >= n);
            if !goes_on || tired {
                return;
            }
        }
    }

    /// The reply to a whole message (one per recipient for LMTP); it is kept before the reply is written.
    fn finish(&mut self, from: &str, to: &[String], data: Vec<u8>) -> bool {
        let (act, lmtp) = (self.act("."), self.manners.lock().unwrap().lmtp);
        if takes(&act) {
            self.kept.lock().unwrap().push(Kept { from: from.to_owned(), to: to.to_vec(), data, at: Instant::now() });
        }
        let replies = if lmtp { to.len() } else { 1 };
        (0..replies).all(|_| self.perform(act.clone(), "250 2.0.0 kept"))
    }
}

/// Whether a step is taken, said well or late.
fn takes(act: &Option<Act>) -> bool {
    match act {
        None | Some(Act::Wait(_)) => true,
        Some(Act::Say(text)) => text.starts_with('2'),
        Some(Act::Close | Act::Reset | Act::Hang) => false,
    }
}

/// A message by DATA, unstuffed; only CRLF.CRLF ends it, as with a strict peer.
fn read_dotted(lines: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    loop {
        let start = line.len();
        match lines.read_until(b'\n', &mut line) {
            Ok(n) if n > 0 => {}
            _ => return None,
        }
        if !line.ends_with(b"\r\n") && start < line.len() {
            continue;
        }
        if line == b".\r\n" {
            return Some(message);
        }
        let stuffed = line.first() == Some(&b'.');
        message.extend_from_slice(&line[usize::from(stuffed)..]);
        line.clear();
    }
}
