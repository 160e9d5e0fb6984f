//! What the daemon tests share: a gateway as a child process on free ports, a scripted backend, and a client that
//! speaks line by line. Every process started here is ended by its id when its value is dropped.
//!
//! How it fails: a wait that does not come true within its limit panics with what was seen instead.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each test file uses a part; a panic is the report")]

pub mod backend;
pub mod dns;
pub mod peers;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The drivers every daemon test runs under.
pub const DRIVERS: [&str; 2] = ["epoll", "uring"];

/// Every SASL mechanism there is, also the one that is not offered unless an administrator says so.
pub const ALL_MECHANISMS: &str = "server.mechanisms=[\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-256\", \"SCRAM-SHA-1-PLUS\", \"SCRAM-SHA-1\", \"EXTERNAL\", \"CRAM-MD5\", \"PLAIN\", \"LOGIN\"]";

/// The longest any single step of a test may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a missing peer program is a failure (in CI) or a reason to skip.
pub fn peers_required() -> bool {
    std::env::var_os("GATEPOST_REQUIRE_PEERS").is_some_and(|v| v == "1")
}

/// Says that a test did not run because `what` is missing; fails where peers are required.
pub fn skipped(what: &str) {
    assert!(!peers_required(), "missing peer: {what} (GATEPOST_REQUIRE_PEERS=1)");
    eprintln!("skipped: {what} is not here");
}

/// The first of these paths or program names that can be run.
pub fn find_program(candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().find_map(|c| {
        if c.contains('/') {
            let path = PathBuf::from(c);
            return path.is_file().then_some(path);
        }
        std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(c)).find(|p| p.is_file())
    })
}

/// Where `.ci/peers` unpacks mail servers.
pub fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Waits until `ready` gives a value; panics with `what` when it does not in time.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running `gatepost serve`.
pub struct Gate {
    child: Option<Child>,
    pub dir: PathBuf,
    _keep: Option<tempfile::TempDir>,
    ports: HashMap<String, SocketAddr>,
    args: Vec<String>,
    said: Arc<Mutex<Vec<String>>>,
}

/// The program under test.
pub fn gatepost() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gatepost"))
}

impl Gate {
    /// Starts a gateway on free ports with a data directory of its own.
    pub fn start(args: &[&str]) -> Gate {
        let keep = tempfile::tempdir().unwrap();
        let mut gate = Gate::start_in(keep.path(), args);
        gate._keep = Some(keep);
        gate
    }

    /// Starts a gateway on free ports over an existing data directory.
    pub fn start_in(dir: &Path, args: &[&str]) -> Gate {
        let mut gate = Gate {
            child: None,
            dir: dir.to_owned(),
            _keep: None,
            ports: HashMap::new(),
            args: args.iter().map(|a| a.to_string()).collect(),
            said: Arc::default(),
        };
        gate.spawn();
        gate
    }

    fn spawn(&mut self) {
        let mut command = gatepost();
        command.arg("serve").arg("--data").arg(&self.dir);
        if !self.args.iter().any(|a| a == "--config" || a == "--listen") {
            for listener in ["mx", "submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps"] {
                command.arg("--listen").arg(format!("{listener}=127.0.0.1:0"));
            }
        }
        // The default port is one for the machine.
        if !self.args.iter().any(|a| a == "--config" || a.starts_with("admin.")) {
            command.arg("--set").arg("admin.listen=127.0.0.1:0");
        }
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.said.lock().unwrap().clear();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let said = self.said.clone();
        std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|l| said.lock().unwrap().push(l)));
        let (tell, told) = std::sync::mpsc::channel();
        let screen = BufReader::new(child.stdout.take().unwrap());
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in screen.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line.clone());
                let _ = tell.send(line);
            }
        });
        self.child = Some(child);
        self.ports.clear();
        loop {
            let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not ready; it said:\n{}", self.said()));
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(address))) = (words.next(), words.next().map(str::parse::<SocketAddr>)) {
                self.ports.insert(name.to_owned(), address);
            }
            if line.trim() == "ready" {
                break;
            }
        }
    }

    /// Everything it has written so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Where the listener of that name is.
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.ports.get(listener).unwrap_or_else(|| panic!("no listener {listener}; it said:\n{}", self.said()))
    }

    /// A client on the `mx` listener, greeting read.
    pub fn talk(&self) -> Talk {
        let mut talk = Talk::connect(self.address("mx"));
        talk.expect("220");
        talk
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL and wait.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; the exit code within the limit.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), "TERM");
        let code = wait_for("the gateway to end", || child.try_wait().unwrap());
        code.code()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Starts it again over the same directory, on new ports.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Runs another `gatepost` command on the same data directory; its standard output.
    pub fn command(&self, args: &[&str]) -> Ran {
        run(gatepost().args(args).arg("--data").arg(&self.dir), "")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

/// A program that has run.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program with `input` on its standard input, with a limit on its time.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > 2 * PATIENCE {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran { ok: status.success(), code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// A client that speaks line by line.
pub struct Talk {
    stream: TcpStream,
    read: BufReader<TcpStream>,
}

impl Talk {
    pub fn connect(to: SocketAddr) -> Talk {
        Talk::over(TcpStream::connect(to).unwrap())
    }

    pub fn over(stream: TcpStream) -> Talk {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let read = BufReader::new(stream.try_clone().unwrap());
        Talk { stream, read }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends, tolerating that the other side has gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// One whole reply, lines joined by newlines; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            match self.read.read_line(&mut line) {
                Ok(0) => return all,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return all,
                Err(e) => panic!("no reply: {e}; so far {all:?}"),
            }
            let last = line.as_bytes().get(3) != Some(&b'-');
            all.push_str(line.trim_end());
            if last {
                return all;
            }
            all.push('\n');
        }
    }

    /// Reads a reply that must begin with `code`.
    pub fn expect(&mut self, code: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(code), "expected {code}, got {reply:?}");
        reply
    }

    /// A command and its reply.
    pub fn say(&mut self, line: &str, code: &str) -> String {
        self.send(format!("{line}\r\n"));
        let reply = self.reply();
        assert!(reply.starts_with(code), "to {line:?}: expected {code}, got {reply:?}");
        reply
    }

    /// As [`Talk::reply`], for a server that may be killed meanwhile: what there is.
    pub fn try_reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if !matches!(self.read.read_line(&mut line), Ok(n) if n > 0) || !line.ends_with('\n') {
                return all;
            }
            let last = line.as_bytes().get(3) != Some(&b'-');
            all.push_str(line.trim_end());
            if last {
                return all;
            }
            all.push('\n');
        }
    }

    /// A command to a server that may be killed meanwhile; whether it answered with `code`.
    pub fn try_say(&mut self, line: &str, code: &str) -> bool {
        self.try_send(format!("{line}\r\n")) && self.try_reply().starts_with(code)
    }

    /// One line, whatever it is.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.read.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// A command of POP3 that must succeed; the first line of its answer.
    pub fn pop(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        let answer = self.line();
        assert!(answer.starts_with("+OK"), "to {line:?}: {answer:?}");
        answer
    }

    /// The lines of a multi-line answer of POP3 as they stand on the wire, without the last dot.
    pub fn pop_text(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            self.read.read_line(&mut line).unwrap();
            if line == ".\r\n" {
                return text;
            }
            text.push_str(&line);
        }
    }

    /// A whole message; the reply to its end.
    pub fn mail(&mut self, from: &str, to: &[&str], message: &str) -> String {
        self.say(&format!("MAIL FROM:<{from}>"), "250");
        for rcpt in to {
            self.say(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        self.say("DATA", "354");
        self.send(format!("{message}\r\n.\r\n"));
        self.reply()
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.read.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
