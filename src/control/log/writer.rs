//! The thread that writes the log: lines come through a bounded queue and leave in batches.
//!
//! A producer pushes and, when the writer sleeps, wakes it; it never waits. After a batch the writer naps for
//! [`NAP`] without asking to be woken, so that a busy server pays a wake-up per batch and not per line. How it fails:
//! opening the file fails at the start; later a full queue or an output that refuses loses lines, which are counted
//! and reported once a minute.

use super::{LogFormat, LogKnobs, wall_now};
use crossbeam::queue::ArrayQueue;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Time in which lines gather after a batch.
const NAP: Duration = Duration::from_millis(10);
/// How long the writer sleeps at most; then it looks whether lost lines are to be reported.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// Lost lines are reported so often.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Octets of one write.
const BATCH_OCTETS: usize = 64 * 1024;
/// How long a full pipe or terminal is waited for before a batch is given up.
const STALL_MAX: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// What producers see.
#[derive(Debug)]
pub struct Writer {
    queue: ArrayQueue<String>,
    lost: AtomicU64,
    asleep: AtomicBool,
    closing: AtomicBool,
    reopen: AtomicBool,
    thread: OnceLock<Thread>,
}

/// Keeps the log open. Dropping it writes what waits.
#[derive(Debug)]
pub struct LogGuard {
    writer: Arc<Writer>,
    finished: parking_lot::Mutex<mpsc::Receiver<()>>,
}

impl Writer {
    /// Opens the output and starts the thread.
    pub fn start(knobs: &LogKnobs) -> Result<LogGuard, String> {
        let output = Output::open(knobs.file.as_deref())?;
        let lost_line = LostLine { format: knobs.format };
        Writer::spawn(knobs.lines_waiting_max, output, lost_line)
    }

    pub(super) fn spawn(lines_max: usize, output: Output, lost_line: LostLine) -> Result<LogGuard, String> {
        let writer = Arc::new(Writer {
            queue: ArrayQueue::new(lines_max),
            lost: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let (done, finished) = mpsc::channel();
        let shared = writer.clone();
        let run = move || {
            shared.run(output, &lost_line);
            let _ = done.send(());
        };
        let handle = std::thread::Builder::new().name("log".into()).spawn(run);
        let handle = handle.map_err(|e| format!("cannot start the log thread: {e}"))?;
        // The only `set`, so it cannot be refused.
        let _ = writer.thread.set(handle.thread().clone());
        Ok(LogGuard { writer, finished: parking_lot::Mutex::new(finished) })
    }

    /// Hands a line over, or counts it as lost when the queue is full.
    pub fn push(&self, line: String) {
        if self.queue.push(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Pairs with the fence in `sleep`: either we see `asleep`, or the writer sees our line.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, mut output: Output, lost_line: &LostLine) {
        let mut batch = Vec::with_capacity(BATCH_OCTETS);
        let mut reported = Instant::now();
        loop {
            if self.reopen.swap(false, Ordering::Relaxed) {
                output.reopen();
            }
            // Before the queue is emptied: what was pushed before `closing` is written.
            let closing = self.closing.load(Ordering::SeqCst);
            let wrote = self.write_waiting(&mut batch, &mut output);
            if closing || reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.report_lost(&mut output, lost_line);
            }
            match (closing, wrote) {
                (true, _) => return,
                (false, true) => std::thread::park_timeout(NAP),
                (false, false) => self.sleep(),
            }
        }
    }

    /// Writes everything that waits; whether there was anything.
    fn write_waiting(&self, batch: &mut Vec<u8>, output: &mut Output) -> bool {
        let mut wrote = false;
        loop {
            batch.clear();
            let mut lines = 0;
            while batch.len() < BATCH_OCTETS
                && let Some(line) = self.queue.pop()
            {
                batch.extend_from_slice(line.as_bytes());
                lines += 1;
            }
            if lines == 0 {
                return wrote;
            }
            wrote = true;
            if output.write(batch).is_err() {
                self.lost.fetch_add(lines, Ordering::Relaxed);
            }
        }
    }

    fn report_lost(&self, output: &mut Output, lost_line: &LostLine) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && output.write(lost_line.show(lost).as_bytes()).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !self.closing.load(Ordering::Relaxed) {
            std::thread::park_timeout(SLEEP_MAX);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

impl LogGuard {
    /// Where lines are handed over.
    pub fn sender(&self) -> Arc<Writer> {
        self.writer.clone()
    }
    /// Opens the log file again: it was rotated.
    pub fn reopen(&self) {
        self.writer.reopen.store(true, Ordering::Relaxed);
        self.writer.wake();
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.writer.closing.store(true, Ordering::SeqCst);
        self.writer.wake();
        // An output that hangs must not keep the process from ending.
        let _ = self.finished.get_mut().recv_timeout(FLUSH_MAX);
    }
}

/// How lost lines are reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostLine {
    pub(super) format: LogFormat,
}

impl LostLine {
    fn show(self, lost: u64) -> String {
        let now = wall_now();
        let message = "lines were lost because the output could not keep up or refused them";
        match self.format {
            LogFormat::Human => format!("{now} WARN  log       {message} lines={lost}\n"),
            LogFormat::Json => {
                format!(
                    "{{\"time\":\"{now}\",\"level\":\"warn\",\"target\":\"log\",\"message\":\"{message}\",\"lines\":{lost}}}\n"
                )
            }
        }
    }
}

/// Where lines go.
pub(super) enum Output {
    /// Standard error.
    Stderr,
    /// A file, opened again when it was rotated.
    File { path: PathBuf, file: File },
    /// Anything, for tests.
    #[cfg(test)]
    Other(Box<dyn Write + Send>),
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Output, String> {
        let Some(path) = path else { return Ok(Output::Stderr) };
        match append(path) {
            Ok(file) => Ok(Output::File { path: path.to_owned(), file }),
            Err(error) => Err(format!("cannot open the log file {}: {error}", path.display())),
        }
    }

    /// On failure the old file stays in use: better a line in a rotated file than none.
    fn reopen(&mut self) {
        if let Output::File { path, file } = self
            && let Ok(new) = append(path)
        {
            *file = new;
        }
    }

    /// Writes all of `bytes`; waits a while for a full pipe.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let started = Instant::now();
        while !bytes.is_empty() {
            let result = match self {
                Output::Stderr => io::stderr().write(bytes),
                Output::File { file, .. } => file.write(bytes),
                #[cfg(test)]
                Output::Other(writer) => writer.write(bytes),
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && started.elapsed() < STALL_MAX => {
                    std::thread::sleep(NAP);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
