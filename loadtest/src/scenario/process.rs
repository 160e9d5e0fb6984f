//! Processes of a scenario: started, heard, ended by their id whatever happens.
//!
//! How it fails: one that does not come up is an error with its last words.

use crate::live::{PROGRESS, Point};
use crate::proc;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a server may take to come up, and a process to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest set-up command.
const SETUP_MAX: Duration = Duration::from_secs(120);
/// Lines of a process that are kept to be quoted.
const LAST_WORDS: usize = 8;
/// Ports are looked for here: below what the kernel hands out by itself, so that a killed server finds its own again.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

/// A process that is ended when it is dropped.
pub struct Process {
    name: String,
    child: Child,
    words: Arc<Mutex<VecDeque<String>>>,
    point: Arc<Mutex<Option<Point>>>,
}

impl Process {
    /// Starts it; what it writes to standard error is heard.
    pub fn start(name: &str, command: &mut Command) -> Result<Process, String> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{name}: {}: {e}", command.get_program().to_string_lossy()))?;
        let (words, point) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(Mutex::new(None)));
        if let Some(errors) = child.stderr.take() {
            let (words, point) = (words.clone(), point.clone());
            std::thread::spawn(move || hear(errors, &words, &point));
        }
        Ok(Process { name: name.to_owned(), child, words, point })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its end, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The second that it reported last, once.
    pub fn point(&self) -> Option<Point> {
        self.point.lock().ok().and_then(|mut p| p.take())
    }

    /// What it said last.
    pub fn last_words(&self) -> String {
        let words = self.words.lock().map(|w| w.iter().cloned().collect::<Vec<_>>().join(" / "));
        words.ok().filter(|w| !w.is_empty()).unwrap_or_else(|| "nothing".into())
    }

    /// Waits until it listens.
    pub fn wait_for(&mut self, addresses: &[SocketAddr]) -> Result<(), String> {
        let started = Instant::now();
        for address in addresses {
            while TcpStream::connect_timeout(address, Duration::from_millis(200)).is_err() {
                let ended = self.ended();
                if ended.is_some() || started.elapsed() > PATIENCE {
                    // What it said may still be on its way.
                    std::thread::sleep(Duration::from_millis(100));
                    let why = ended.map_or("did not listen in time".to_owned(), |s| format!("ended with {s}"));
                    return Err(format!("{}: {why} ({address}); it said: {}", self.name, self.last_words()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end; how it did, or `None` when it had to be killed.
    pub fn finish(mut self) -> Option<ExitStatus> {
        self.end()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        // The whole tree by id: a master that is terminated ends its workers, but not always at once.
        let tree = proc::tree(self.child.id());
        self.terminate();
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        tree.into_iter().filter(|pid| *pid != self.child.id()).for_each(|pid| signal(pid, "TERM"));
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn hear(errors: impl std::io::Read, words: &Mutex<VecDeque<String>>, point: &Mutex<Option<Point>>) {
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if let Some(json) = line.strip_prefix(PROGRESS) {
            if let (Ok(new), Ok(mut point)) = (serde_json::from_str(json), point.lock()) {
                *point = Some(new);
            }
            continue;
        }
        if let Ok(mut words) = words.lock() {
            words.push_back(line.chars().take(500).collect());
            while words.len() > LAST_WORDS {
                words.pop_front();
            }
        }
    }
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// Runs a command to its end, with `input` on its standard input.
pub fn set_up(command: &[String], input: &str, dir: &Path) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    let said = dir.join("setup.said");
    let wrong = |e: std::io::Error| format!("set-up {program}: {e}");
    let out = File::create(&said).map_err(wrong)?;
    let errors = out.try_clone().map_err(wrong)?;
    let mut child =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(out).stderr(errors).spawn().map_err(wrong)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is none of our business; whether it succeeds is.
        let _ = stdin.write_all(input.as_bytes());
    }
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(wrong)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let text = std::fs::read_to_string(&said).unwrap_or_default();
                return Err(format!("set-up {}: {status}: {}", command.join(" "), text.trim()));
            }
            None if started.elapsed() > SETUP_MAX => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("set-up {}: not done after {SETUP_MAX:?}", command.join(" ")));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A port that was free just now and stays so while the process that has it is killed and started again.
pub fn free_port() -> Result<SocketAddr, String> {
    for _ in 0..1000 {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(format!("no free port from {} to {}", PORTS.start, PORTS.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_up_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out of luck >&2; exit 3"]);
        let mut process = Process::start("server", &mut command).unwrap();
        let why = process.wait_for(&[free_port().unwrap()]).unwrap_err();
        assert!(why.contains("out of luck") && why.contains('3'), "{why}");
    }

    #[test]
    fn progress_is_heard_and_processes_end_when_dropped() {
        let line = serde_json::to_string(&Point { at_s: 2.0, ..Point::default() }).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo '{PROGRESS}{line}' >&2; exec sleep 60")]);
        let process = Process::start("client", &mut command).unwrap();
        let started = Instant::now();
        let point = loop {
            match process.point() {
                Some(point) => break point,
                None => assert!(started.elapsed() < PATIENCE),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(point.at_s, 2.0);
        let pid = process.pid();
        drop(process);
        assert!(!proc::tree(pid).contains(&pid));
    }

    #[test]
    fn set_up_reads_its_input_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let sh = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        set_up(&sh("read x; test \"$x\" = secret"), "secret\n", dir.path()).unwrap();
        let why = set_up(&sh("echo no such account; exit 1"), "", dir.path()).unwrap_err();
        assert!(why.contains("no such account"), "{why}");
    }
}
