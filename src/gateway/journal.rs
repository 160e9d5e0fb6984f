//! The journal's lane: lines of sessions come from the cores through a bounded queue and go to files, compressed.
//!
//! Cores never wait for it: when the queue is full a line is dropped and counted. How it fails: what cannot be opened at
//! the start is a [`StartError`] that names it; later a disk that refuses loses lines, which are counted and reported once
//! a minute, and the next batch is tried with a new file.

mod files;

use crate::base::knob::Octets;
use crate::gateway::config::{Config, StartError};
use crate::gateway::recent::Recent;
use crate::policy::journal::{Keep, Run, Scrub, Sink};
use crate::reactor::clock;
use crossbeam::channel::{self, RecvTimeoutError};
use files::Files;
pub use files::{FILE_PREFIX, is_journal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

crate::knobs! {
    /// The journal: one line of JSON for every session, with everything the policy was told and said, for
    /// `gatepost policy replay` and `tune`. It holds who wrote to whom, so it is kept only when you say so.
    pub struct JournalKnobs in "journal" {
        /// Whether it is written.
        enabled: bool = false, unit "";
        /// Where. Default: `journal` in the data directory.
        directory: Option<PathBuf> = None, unit "";
        /// Size at which a file is ended and the next one begun.
        rotate_size: Octets = Octets::mib(64), unit "octets", range Octets::mib(1)..=Octets::mib(1 << 20);
        /// Age at which a file is ended.
        rotate_age: Duration = Duration::from_secs(86_400), unit "",
            range Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);
        /// Size of all files together; the oldest go first.
        keep_size: Octets = Octets::mib(4096), unit "octets", range Octets::mib(1)..=Octets::mib(1 << 24);
        /// Age at which a file is deleted.
        keep_age: Duration = Duration::from_secs(35 * 86_400), unit "",
            range Duration::from_secs(60)..=Duration::from_secs(3660 * 86_400);
        /// File with a secret of at least 16 octets. With it local parts and user names are written as digests, and text of
        /// header fields not at all. Addresses of clients and domains stay.
        hash_key: Option<PathBuf> = None, unit "";
        /// Header fields whose text is written, beside those that the policy reads.
        headers: Vec<String> = Keep::default().names, unit "";
        /// Lines that wait for the disk at most; beyond it lines are dropped and counted.
        lines_waiting_max: usize = 16_384, unit "lines", range 16..=1_048_576;
    }
}

/// Time in which lines gather after a batch, so that cores wake the lane once a batch and not once a line.
const NAP: Duration = Duration::from_millis(20);
/// A batch is written at the latest after this time, so that a reader is never far behind.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Octets of a batch; one batch is one frame of zstd, so that a torn end costs one batch at most.
const BATCH_OCTETS: usize = 1 << 20;
/// Octets that wait in the queue at most, whatever the number of lines: they are memory of the server.
const WAITING_OCTETS_MAX: u64 = 64 << 20;
/// Lost lines are reported so often.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// A key shorter than this can be guessed.
const KEY_OCTETS_MIN: usize = 16;
const KEY_OCTETS_MAX: u64 = 4096;

/// The journal of a running server.
pub(super) struct Journal {
    /// What sessions record into.
    pub run: Arc<Run>,
    meter: Arc<Meter>,
    closing: Arc<AtomicBool>,
    thread: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

/// Where the journal of a configuration is.
pub fn directory(config: &Config) -> PathBuf {
    let settings = &config.settings;
    settings.journal.directory.clone().unwrap_or_else(|| settings.server.data.join("journal"))
}

/// The cores' side of the queue.
struct Queue {
    lines: channel::Sender<Vec<u8>>,
    meter: Arc<Meter>,
    /// Keeps the last lines in memory as well.
    recent: Option<Arc<Recent>>,
}

#[derive(Default)]
struct Meter {
    waiting_octets: AtomicU64,
    lost: AtomicU64,
    /// Lost lines that were reported already.
    reported: AtomicU64,
}

impl Sink for Queue {
    fn line(&self, line: Vec<u8>) {
        if let Some(recent) = &self.recent {
            recent.line(line.clone());
        }
        let octets = line.len() as u64;
        let waiting = self.meter.waiting_octets.fetch_add(octets, Ordering::Relaxed);
        if waiting > WAITING_OCTETS_MAX || self.lines.try_send(line).is_err() {
            self.meter.waiting_octets.fetch_sub(octets, Ordering::Relaxed);
            self.meter.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Journal {
    /// Opens the journal, when the configuration wants one; `recent` gets every line as well.
    pub fn start(config: &Config, recent: Option<Arc<Recent>>) -> Result<Option<Journal>, StartError> {
        let knobs = &config.settings.journal;
        if !knobs.enabled {
            return Ok(None);
        }
        let scrub = scrub(knobs)?;
        let mut id = [0; 8];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| StartError("the system has no randomness".into()))?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let dir = directory(config);
        let files = Files::open(&dir, &id, knobs.clone(), clock::wall())
            .map_err(|e| StartError(format!("the journal in {}: {e}", dir.display())))?;
        let (sender, lines) = channel::bounded(knobs.lines_waiting_max);
        let meter = Arc::new(Meter::default());
        let closing = Arc::new(AtomicBool::new(false));
        let (reported, last_error) = (Instant::now(), None);
        let mut lane = Lane { lines, files, meter: meter.clone(), closing: closing.clone(), reported, last_error };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || lane.run())
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
        let keep = Keep { names: knobs.headers.iter().map(|name| name.to_ascii_lowercase()).collect() };
        let run = Run::new(id, scrub, keep, Box::new(Queue { lines: sender, meter: meter.clone(), recent }));
        Ok(Some(Journal { run, meter, closing, thread: parking_lot::Mutex::new(Some(thread)) }))
    }

    /// Lines lost since the start, and octets that wait.
    pub fn meter(&self) -> (u64, u64) {
        let (lost, reported) = (&self.meter.lost, &self.meter.reported);
        let lost = lost.load(Ordering::Relaxed) + reported.load(Ordering::Relaxed);
        (lost, self.meter.waiting_octets.load(Ordering::Relaxed))
    }

    /// Writes what waits and ends; the cores have ended before.
    pub fn stop(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(target: "journal", "the journal lane panicked");
        }
    }
}

fn scrub(knobs: &JournalKnobs) -> Result<Option<Scrub>, StartError> {
    let Some(path) = &knobs.hash_key else { return Ok(None) };
    let fail = |what: String| StartError(format!("journal.hash_key: {}: {what}", path.display()));
    let octets = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if octets > KEY_OCTETS_MAX {
        return Err(fail(format!("it has {octets} octets; expected {KEY_OCTETS_MIN} to {KEY_OCTETS_MAX}")));
    }
    let key = zeroize::Zeroizing::new(std::fs::read(path).map_err(|e| fail(e.to_string()))?);
    match key.trim_ascii() {
        key if key.len() >= KEY_OCTETS_MIN => Ok(Some(Scrub::new(key))),
        key => Err(fail(format!(
            "it has {} octets; expected at least {KEY_OCTETS_MIN} secret ones, such as `openssl rand -hex 16` prints",
            key.len()
        ))),
    }
}

/// The thread.
struct Lane {
    lines: channel::Receiver<Vec<u8>>,
    files: Files,
    meter: Arc<Meter>,
    closing: Arc<AtomicBool>,
    reported: Instant,
    last_error: Option<String>,
}

impl Lane {
    fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH_OCTETS);
        let (mut count, mut since) = (0, Instant::now());
        loop {
            let closing = self.closing.load(Ordering::Acquire);
            match self.lines.recv_timeout(if closing { Duration::ZERO } else { FLUSH_EVERY / 2 }) {
                Ok(line) => {
                    if count == 0 {
                        since = Instant::now();
                    }
                    self.take(line, &mut batch, &mut count);
                    while batch.len() < BATCH_OCTETS
                        && let Ok(line) = self.lines.try_recv()
                    {
                        self.take(line, &mut batch, &mut count);
                    }
                    if !closing && batch.len() < BATCH_OCTETS {
                        std::thread::sleep(NAP);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let due = batch.len() >= BATCH_OCTETS || since.elapsed() >= FLUSH_EVERY || closing;
            if due && count > 0 {
                self.write(&batch, count);
                batch.clear();
                count = 0;
            }
            self.report();
            if closing && self.lines.is_empty() && count == 0 {
                break;
            }
        }
        if count > 0 {
            self.write(&batch, count);
        }
        self.files.close();
    }

    fn take(&self, line: Vec<u8>, batch: &mut Vec<u8>, count: &mut u64) {
        self.meter.waiting_octets.fetch_sub(line.len() as u64, Ordering::Relaxed);
        batch.extend_from_slice(&line);
        batch.push(b'\n');
        *count += 1;
    }

    fn write(&mut self, batch: &[u8], lines: u64) {
        if let Err(error) = self.files.write(batch, clock::wall()) {
            self.meter.lost.fetch_add(lines, Ordering::Relaxed);
            self.last_error = Some(error.to_string());
        }
    }

    fn report(&mut self) {
        if self.reported.elapsed() < REPORT_EVERY || self.meter.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.reported = Instant::now();
        let lost = self.meter.lost.swap(0, Ordering::Relaxed);
        self.meter.reported.fetch_add(lost, Ordering::Relaxed);
        let error = self.last_error.take().unwrap_or_else(|| "the disk is slower than the traffic".into());
        tracing::warn!(target: "journal", lost, error, "lines of the journal were lost; mail is not affected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> Config {
        let mut settings = crate::gateway::config::Settings::default();
        settings.server.data = dir.to_owned();
        settings.journal.enabled = true;
        let hostname = crate::wire::address::parse_domain("mx.example.test").unwrap();
        Config {
            file: None,
            settings,
            hostname,
            domains: Vec::new(),
            listeners: Vec::new(),
            pools: Vec::new(),
            routes: Vec::new(),
            helpers: Vec::new(),
            certificates: Vec::new(),
        }
    }

    #[test]
    fn lines_reach_the_disk_and_a_full_queue_loses_them_with_a_count() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let journal = Journal::start(&config, None).unwrap().unwrap();
        journal.run.write_line(b"{\"a\":1}".to_vec());
        journal.run.write_line(b"{\"b\":2}".to_vec());
        journal.stop();
        let file = std::fs::read_dir(directory(&config)).unwrap().next().unwrap().unwrap().path();
        let text = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
        assert_eq!(text, b"{\"a\":1}\n{\"b\":2}\n");
        // Nobody reads: the third of three lines does not fit into a queue of two.
        let (lines, _rest) = channel::bounded(2);
        let meter = Arc::new(Meter::default());
        let queue = Queue { lines, meter: meter.clone(), recent: None };
        (0..3).for_each(|_| queue.line(vec![b'x'; 10]));
        assert_eq!((meter.lost.load(Ordering::Relaxed), meter.waiting_octets.load(Ordering::Relaxed)), (1, 20));
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused_with_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let path = dir.path().join("key");
        config.settings.journal.hash_key = Some(path.clone());
        let said = |config: &Config| Journal::start(config, None).err().unwrap().0;
        assert!(said(&config).contains("journal.hash_key"));
        std::fs::write(&path, "short\n").unwrap();
        assert!(said(&config).contains("expected at least 16"), "{}", said(&config));
        std::fs::write(&path, "a secret of enough octets\n").unwrap();
        Journal::start(&config, None).unwrap().unwrap().stop();
    }
}
