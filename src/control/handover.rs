//! One process after the other on the same ports and the same data, without a client being refused.
//!
//! ```text
//! running process                           its successor, started with the ports open
//!                                           reads and checks the configuration
//!                       ◀── "prepared" ──
//! stops accepting (clients wait in the
//! kernel), lets messages finish, commits,
//! gives the data directory up
//!                       ─── "begin" ──▶
//!                                           takes the data directory, serves
//!                       ◀── "serving" ──
//! ends
//! ```
//!
//! How it fails: a successor that ends or is silent before "prepared" changes nothing; one that ends or is silent before
//! "serving" is ended, and the running process takes everything back and goes on.

use crate::gateway::config::{StartError, Successor};
use crate::gateway::ports::Ports;
use crate::reactor::inherit::HandedOn;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a successor may take to read its configuration, lists and certificates.
const PREPARE_WAIT: Duration = Duration::from_secs(60);
/// How long it may take to open queue and mailstore.
const SERVE_WAIT: Duration = Duration::from_secs(120);
/// Longest line either side says; a failure is told in one.
const LINE_OCTETS_MAX: u64 = 16 * 1024;

const PREPARED: &str = "prepared";
const BEGIN: &str = "begin";
const SERVING: &str = "serving";
const FAILED: &str = "failed ";

/// How this program was started, for starting it again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be called early: the file may be replaced by a newer one later, and is then to be found by its name.
    pub fn this() -> io::Result<Program> {
        Ok(Program { path: std::env::current_exe()?, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Starts it again with these ports, and waits until it is prepared.
    pub fn start_again(&self, ports: &Ports) -> Result<Box<dyn Successor>, String> {
        let fail = |error: io::Error| format!("cannot start {}: {error}", self.path.display());
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null());
        let child = {
            let handed = HandedOn::new(&theirs, ports.sockets()).map_err(fail)?;
            handed.tell(&mut command);
            command.spawn().map_err(fail)?
        };
        drop(theirs);
        let mut process = Process { child, line: BufReader::new(ours), took_over: false };
        match process.hear(PREPARE_WAIT)?.as_str() {
            PREPARED => Ok(Box::new(process)),
            other => Err(format!("the new process said {other:?} where \"{PREPARED}\" was expected")),
        }
    }
}

/// A successor as its predecessor sees it. One that is given up is ended.
struct Process {
    child: Child,
    line: BufReader<UnixStream>,
    took_over: bool,
}

impl Process {
    fn hear(&mut self, patience: Duration) -> Result<String, String> {
        self.line.get_ref().set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
        let mut text = String::new();
        match (&mut self.line).take(LINE_OCTETS_MAX).read_line(&mut text) {
            Ok(0) => {
                let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                Err(format!("the new process ended ({status}); its last lines in the log or on standard error say why"))
            }
            Ok(_) => match text.trim_end().strip_prefix(FAILED) {
                Some(why) => Err(format!("the new process: {}", why.replace('\u{1}', "\n"))),
                None => Ok(text.trim_end().to_owned()),
            },
            Err(_) => Err(format!("the new process was silent for {} s", patience.as_secs())),
        }
    }
}

impl Successor for Process {
    fn begin(mut self: Box<Self>) -> Result<u32, String> {
        writeln!(self.line.get_mut(), "{BEGIN}").map_err(|e| format!("the new process has gone: {e}"))?;
        match self.hear(SERVE_WAIT)?.as_str() {
            SERVING => {
                self.took_over = true;
                Ok(self.child.id())
            }
            other => Err(format!("the new process said {other:?} where \"{SERVING}\" was expected")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.took_over {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The running process as its successor sees it.
#[derive(Debug)]
pub struct Predecessor {
    line: UnixStream,
}

impl Predecessor {
    /// At the other end of the line that was inherited.
    pub fn new(line: UnixStream) -> Predecessor {
        Predecessor { line }
    }

    /// The configuration is good. Returns when the data directory is free.
    pub fn prepared(&mut self) -> Result<(), StartError> {
        self.say(PREPARED);
        let mut text = String::new();
        // Without a time limit: the other side lets its clients finish first, and its end is noticed.
        match BufReader::new(&self.line).take(LINE_OCTETS_MAX).read_line(&mut text) {
            Ok(_) if text.trim_end() == BEGIN => Ok(()),
            _ => Err(StartError("the process that was to be replaced did not give way".into())),
        }
    }

    /// Everything is open: the other process may end.
    pub fn serving(&mut self) {
        self.say(SERVING);
    }

    /// It cannot be done, and why: whoever asked for the upgrade hears it.
    pub fn failed(&mut self, why: &str) {
        self.say(&format!("{FAILED}{}", why.replace('\n', "\u{1}")));
    }

    /// A predecessor that has gone is noticed where it is waited for.
    fn say(&mut self, word: &str) {
        let _ = writeln!(self.line, "{word}");
    }
}
