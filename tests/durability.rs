//! What got a 250 is never lost: kill -9 under load, a full disk, a damaged log. A ledger holds what was acknowledged.
//!
//! Every test runs once per driver. Moments of kills come from a seed that is printed; `GATEPOST_SEED` sets another.
//! How it fails: ids that were acknowledged and did not arrive, or arrived twice without a kill to excuse it, are named.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::backend::{Act, Backend, Kept};
use support::{DRIVERS, Gate, wait_for};

/// Client threads of a load.
const CLIENTS: usize = 4;
/// Kills of one run.
const KILLS: usize = 5;
/// How long before a kill an attempt or its settlement may have been in flight: commits of a slow disk included.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// From the moment of a kill until the next process serves.
struct Kill {
    at: Instant,
    back: Instant,
}

/// Kills it and starts it again.
fn kill(gate: &mut Gate) -> Kill {
    let at = Instant::now();
    gate.kill();
    gate.restart();
    Kill { at, back: Instant::now() }
}

fn seed() -> u64 {
    let seed = std::env::var("GATEPOST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x6761_7465);
    eprintln!("seed: {seed}");
    seed
}

/// A message with this id; the size comes from the id, so that some go through files.
fn message(id: &str) -> String {
    let number: usize = id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let lines = if number % 8 == 7 { 400 } else { 4 };
    let line = format!("{id} the quick brown fox jumps over the lazy dog, again and again\r\n");
    format!("Subject: {id}\r\n\r\n.leading dot\r\n{}end of {id}\r\n", line.repeat(lines))
}

/// The id of a message the backend has, which must be whole.
fn id_of(kept: &Kept) -> String {
    let text = kept.text();
    let from = text.find("Subject: ").unwrap_or_else(|| panic!("no subject in {text:?}"));
    let id = text[from + 9..].lines().next().unwrap().to_owned();
    assert_eq!(text[from..], message(&id), "{id} is not what was sent");
    id
}

/// What clients were told.
#[derive(Default)]
struct Ledger {
    /// Ids whose 250 was read.
    acknowledged: BTreeSet<String>,
    /// Ids whose reply was lost at some time: the client sent them again, as RFC 5321 §4.5.3.2.6 has it.
    unsure: BTreeSet<String>,
    /// Replies that were not 250.
    refused: BTreeMap<String, usize>,
}

/// A client that may meet a broken connection at any time.
struct Sender {
    stream: TcpStream,
    read: BufReader<TcpStream>,
}

impl Sender {
    fn connect(to: SocketAddr) -> io::Result<Sender> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(support::PATIENCE))?;
        let mut sender = Sender { read: BufReader::new(stream.try_clone()?), stream };
        sender.reply()?;
        sender.say("EHLO c.example.org\r\n")?;
        Ok(sender)
    }

    fn say(&mut self, text: &str) -> io::Result<String> {
        self.stream.write_all(text.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.read.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    /// Up to 354; the error is whatever was not as it should be.
    fn envelope(&mut self) -> io::Result<String> {
        self.stream.write_all(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")?;
        let replies = [self.reply()?, self.reply()?, self.reply()?];
        Ok(replies.into_iter().find(|r| r.starts_with(['4', '5'])).unwrap_or_default())
    }

    /// One message; `Ok` is the reply that decided it, and whether it came after the end of data.
    fn send(&mut self, id: &str, ledger: &Mutex<Ledger>) -> io::Result<String> {
        let refusal = self.envelope()?;
        if !refusal.is_empty() {
            return Ok(refusal);
        }
        let stuffed = message(id).replace("\r\n.", "\r\n..");
        let reply = self.say(&format!("{stuffed}.\r\n"));
        let mut ledger = ledger.lock().unwrap();
        match &reply {
            Ok(text) if text.starts_with("250") => {
                ledger.acknowledged.insert(id.to_owned());
            }
            Ok(text) => *ledger.refused.entry(text.clone()).or_default() += 1,
            Err(_) => {
                ledger.unsure.insert(id.to_owned());
            }
        }
        reply
    }
}

/// Clients that send until they are told to stop, over kills and restarts.
struct Load {
    ledger: Arc<Mutex<Ledger>>,
    gate: Arc<Mutex<SocketAddr>>,
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(gate: &Gate) -> Load {
        let mut load = Load {
            ledger: Arc::default(),
            gate: Arc::new(Mutex::new(gate.address("mx"))),
            stop: Arc::default(),
            clients: Vec::new(),
        };
        for client in 0..CLIENTS {
            let (ledger, gate, stop) = (load.ledger.clone(), load.gate.clone(), load.stop.clone());
            load.clients.push(std::thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    let to = *gate.lock().unwrap();
                    if session(to, client, &mut number, &ledger, &stop).is_err() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }));
        }
        load
    }

    fn acknowledged(&self) -> usize {
        self.ledger.lock().unwrap().acknowledged.len()
    }

    fn end(self) -> Ledger {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|c| c.join().unwrap());
        std::mem::take(&mut *self.ledger.lock().unwrap())
    }
}

fn session(
    to: SocketAddr,
    client: usize,
    number: &mut usize,
    ledger: &Mutex<Ledger>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut sender = Sender::connect(to)?;
    while !stop.load(Ordering::SeqCst) {
        let reply = sender.send(&format!("m-{client}-{number}"), ledger)?;
        if reply.starts_with("250") {
            *number += 1;
        } else {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// A gateway whose limits are small, so that a short load goes through many segments, body files and scratch files.
fn small(io: &str, dir: &Path, backend: SocketAddr, mode: &str, more: &[&str]) -> Gate {
    let backend = backend.to_string();
    let mut args = vec!["--io", io, "--cores", "1", "--backend", &backend, "--mode", mode];
    for set in [
        "spool.segment_octets=256KiB",
        "spool.body_inline_octets_max=8KiB",
        "spool.retry_first=1s",
        "spool.destination_retry_first=100ms",
        "spool.destination_retry_max=500ms",
        "smtp.body_memory_octets_max=8KiB",
        "smtp.header_octets_max=8KiB",
    ] {
        args.extend(["--set", set]);
    }
    args.extend_from_slice(more);
    Gate::start_in(dir, &args)
}

/// Lets everything that waits be delivered, and holds the ledger against what arrived.
fn settle_accounts(gate: &Gate, backend: &Backend, ledger: &Ledger, kills: &[Kill]) {
    backend.behave();
    let mut asked = Instant::now() - Duration::from_secs(10);
    wait_for("an empty queue", || {
        if asked.elapsed() > Duration::from_secs(1) {
            asked = Instant::now();
            assert!(gate.command(&["queue", "retry", "--all"]).ok);
        }
        let list = gate.command(&["queue", "list", "--json"]);
        (list.ok && list.out.trim().is_empty()).then_some(())
    });
    let mut arrived: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for kept in backend.kept() {
        arrived.entry(id_of(&kept)).or_default().push(kept.at);
    }
    let lost: Vec<_> = ledger.acknowledged.iter().filter(|id| !arrived.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} acknowledged messages are lost: {lost:?}\n{}", lost.len(), gate.said());
    let (mut duplicates, mut inexcusable) = (0, Vec::new());
    for (id, times) in &arrived {
        duplicates += times.len() - 1;
        for pair in times.windows(2) {
            // What was in the sockets when it died still reaches the backend.
            let settling = kills
                .iter()
                .any(|k| pair[0] <= k.back && k.at <= pair[1] && k.at.saturating_duration_since(pair[0]) < IN_FLIGHT);
            if !settling && !ledger.unsure.contains(id) {
                inexcusable.push(format!("{id}: {:?} apart", pair[1] - pair[0]));
            }
        }
    }
    eprintln!(
        "{} acknowledged, {} arrived, {duplicates} duplicates, {} replies lost, refusals: {:?}",
        ledger.acknowledged.len(),
        arrived.len(),
        ledger.unsure.len(),
        ledger.refused
    );
    assert!(inexcusable.is_empty(), "arrived twice without a kill in between: {inexcusable:?}");
}

fn random_wait(random: &mut fastrand::Rng) {
    std::thread::sleep(Duration::from_millis(random.u64(60..450)));
}

#[test]
fn spooled_mail_outlives_kills() {
    for io in DRIVERS {
        let mut random = fastrand::Rng::with_seed(seed());
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        let mut gate = small(io, dir.path(), backend.address, "spool", &[]);
        let load = Load::start(&gate);
        let mut kills = Vec::new();
        for round in 0..KILLS {
            // At least something happens in each round, however slow the machine is.
            let before = load.acknowledged();
            wait_for("acknowledgements", || (load.acknowledged() > before + 10).then_some(()));
            random_wait(&mut random);
            match round % 3 {
                1 => backend.act(".", Act::Say("451 4.3.0 not now".into())),
                2 => backend.behave(),
                _ => {}
            }
            kills.push(kill(&mut gate));
            assert!(!gate.said().contains("damaged"), "{}", gate.said());
            *load.gate.lock().unwrap() = gate.address("mx");
        }
        let ledger = load.end();
        kills.push(kill(&mut gate));
        settle_accounts(&gate, &backend, &ledger, &kills);
    }
}

#[test]
fn auto_mode_outlives_kills_whatever_the_backend_does() {
    for io in DRIVERS {
        let mut random = fastrand::Rng::with_seed(seed() ^ 1);
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        let mut gate = small(io, dir.path(), backend.address, "auto", &["--set", "relay.auto_wait=200ms"]);
        let load = Load::start(&gate);
        let mut kills = Vec::new();
        for _ in 0..KILLS {
            for _ in 0..3 {
                let before = load.acknowledged();
                match random.u8(0..5) {
                    0 => backend.act(".", Act::Say("452 4.3.1 full".into())),
                    1 => backend.act("MAIL", Act::Say("421 4.3.2 going down".into())),
                    2 => backend.act("RCPT", Act::Close),
                    3 => backend.act("DATA", Act::Say("451 4.3.0 no".into())),
                    _ => backend.behave(),
                }
                wait_for("acknowledgements", || (load.acknowledged() > before + 3).then_some(()));
                random_wait(&mut random);
                backend.behave();
            }
            kills.push(kill(&mut gate));
            *load.gate.lock().unwrap() = gate.address("mx");
        }
        let ledger = load.end();
        settle_accounts(&gate, &backend, &ledger, &kills);
    }
}

#[test]
fn cut_through_says_250_for_what_the_backend_has() {
    for io in DRIVERS {
        let mut random = fastrand::Rng::with_seed(seed() ^ 2);
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        let mut gate = small(io, dir.path(), backend.address, "cut-through", &[]);
        let load = Load::start(&gate);
        for _ in 0..KILLS {
            let before = load.acknowledged();
            wait_for("acknowledgements", || (load.acknowledged() > before + 10).then_some(()));
            random_wait(&mut random);
            gate.kill();
            gate.restart();
            *load.gate.lock().unwrap() = gate.address("mx");
        }
        let ledger = load.end();
        // No retry, no queue: it is there already, once unless the reply was lost.
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        backend.kept().iter().for_each(|k| *arrived.entry(id_of(k)).or_default() += 1);
        let lost: Vec<_> = ledger.acknowledged.iter().filter(|id| !arrived.contains_key(*id)).collect();
        assert!(lost.is_empty(), "acknowledged, not at the backend: {lost:?}");
        let twice: Vec<_> = arrived.iter().filter(|(id, n)| **n > 1 && !ledger.unsure.contains(*id)).collect();
        assert!(twice.is_empty(), "passed on twice: {twice:?}");
        eprintln!("{} acknowledged, {} replies lost", ledger.acknowledged.len(), ledger.unsure.len());
        assert!(gate.command(&["queue", "list"]).ok);
    }
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(out) if out.status.success() => Some(SmallDisk { dir }),
            Ok(out) => {
                eprintln!("skipped: no small disk to be had: {}", String::from_utf8_lossy(&out.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: no small disk to be had: mount: {error}");
                None
            }
        }
    }

    /// A file that leaves no room, or as little as `left` octets.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.dir.path().join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let page = [7u8; 4096];
        while file.write_all(&page).is_ok() {}
        let octets = file.metadata().unwrap().len();
        file.set_len(octets.saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// Sends numbered messages until one is refused (at most `most`); the refusal.
fn send_until_refused(to: SocketAddr, next: &mut usize, most: usize, ledger: &Mutex<Ledger>) -> Option<String> {
    let mut sender = Sender::connect(to).unwrap();
    for _ in 0..most {
        *next += 1;
        let reply = sender.send(&format!("m-0-{next}"), ledger).unwrap();
        if !reply.starts_with("250") {
            return Some(reply);
        }
    }
    None
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    // With octets to be left free the queue itself says no; without, the disk does, in the middle of whatever it is.
    for (io, free) in [("epoll", "2MiB"), ("uring", "0"), ("epoll", "0"), ("uring", "2MiB")] {
        let Some(disk) = SmallDisk::mount("12m") else { return };
        let backend = Backend::plain();
        let address = backend.address;
        // Attempts hang, so that nothing but new mail makes the queue look at its disk.
        backend.act("connect", Act::Hang);
        let data = disk.dir.path().join("data");
        let free = format!("spool.free_octets_min={free}");
        let mut gate = small(io, &data, address, "spool", &["--set", &free]);
        let (ledger, mut next) = (Mutex::default(), 0);
        assert_eq!(send_until_refused(gate.address("mx"), &mut next, 20, &ledger), None, "{}", gate.said());
        let ballast = disk.fill(1 << 20);
        for _ in 0..3 {
            let refusal =
                send_until_refused(gate.address("mx"), &mut next, 2000, &ledger).expect("a full disk says no");
            assert!(refusal.starts_with("452") || refusal.starts_with("451"), "{refusal}");
        }
        // Full it is killed, and full it starts again.
        gate.kill();
        let _ = std::fs::OpenOptions::new()
            .append(true)
            .open(&ballast)
            .map(|mut f| while f.write_all(&[7; 4096]).is_ok() {});
        gate.restart();
        let refusal = send_until_refused(gate.address("mx"), &mut next, 2000, &ledger).expect("a full disk says no");
        assert!(refusal.starts_with("452") || refusal.starts_with("451"), "{refusal}");
        std::fs::remove_file(&ballast).unwrap();
        wait_for("room again", || {
            let served = send_until_refused(gate.address("mx"), &mut next, 5, &ledger).is_none();
            if !served {
                std::thread::sleep(Duration::from_millis(100));
            }
            served.then_some(())
        });
        backend.behave();
        let killed = kill(&mut gate);
        settle_accounts(&gate, &backend, &ledger.into_inner().unwrap(), &[killed]);
    }
}

/// A stopped queue with messages that nobody has taken: each in a commit of its own, all in one segment.
struct Stopped {
    dir: tempfile::TempDir,
    backend: Backend,
    ids: Vec<String>,
}

impl Stopped {
    fn with(io: &str, messages: usize) -> Stopped {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        // The first attempt hangs: its outcome would be a record between the messages.
        backend.act("connect", Act::Hang);
        let mut gate = Stopped::gate(io, dir.path(), backend.address);
        let ledger = Mutex::default();
        let mut sender = Sender::connect(gate.address("mx")).unwrap();
        // Numbers that do not make large messages: all are in the log itself.
        let ids: Vec<_> = (0..messages).map(|n| format!("m-{n}-0")).collect();
        for id in &ids {
            let reply = sender.send(id, &ledger).unwrap();
            assert!(reply.starts_with("250"), "{reply}");
        }
        gate.kill();
        Stopped { dir, backend, ids }
    }

    fn gate(io: &str, dir: &Path, backend: SocketAddr) -> Gate {
        let backend = backend.to_string();
        Gate::start_in(dir, &["--io", io, "--cores", "1", "--mode", "spool", "--backend", &backend])
    }

    /// The segment with the last message, and where each message stands in it.
    fn segment(&self) -> (PathBuf, Vec<usize>) {
        let spool = self.dir.path().join("spool/00");
        let files = std::fs::read_dir(spool).unwrap().map(|e| e.unwrap().path());
        let mut segments: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
        segments.sort();
        let path = segments.pop().unwrap();
        let octets = std::fs::read(&path).unwrap();
        let place = |id: &String| {
            let text = format!("end of {id}\r\n");
            octets.windows(text.len()).position(|w| w == text.as_bytes()).expect("every message is in the segment")
        };
        let places = self.ids.iter().map(place).collect();
        (path, places)
    }

    /// Starts over what is left; what arrives and what was said at the start.
    fn arrivals(&self, io: &str) -> (BTreeSet<String>, String) {
        self.backend.behave();
        let gate = Stopped::gate(io, self.dir.path(), self.backend.address);
        settle_accounts(&gate, &self.backend, &Ledger::default(), &[]);
        (self.backend.kept().iter().map(id_of).collect(), gate.said())
    }

    fn all_but(&self, lost: &[usize]) -> BTreeSet<String> {
        let ids = self.ids.iter().enumerate().filter(|(n, _)| !lost.contains(n));
        ids.map(|(_, id)| id.clone()).collect()
    }
}

/// Writes `octets` at `place` of a file.
fn overwrite(path: &Path, place: usize, octets: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(place as u64)).unwrap();
    file.write_all(octets).unwrap();
}

/// Damages a stopped queue of twelve messages and starts it again; which of them may be lost, and what the log must say.
fn after(io: &str, lost: &[usize], complaint: &str, damage: impl Fn(&Path, &[usize])) {
    let stopped = Stopped::with(io, 12);
    let (segment, places) = stopped.segment();
    damage(&segment, &places);
    let (arrived, said) = stopped.arrivals(io);
    assert_eq!(arrived, stopped.all_but(lost), "{said}");
    assert_eq!(said.contains("the queue is damaged"), complaint.contains("damaged"), "{said}");
    assert!(said.contains(complaint), "{said}");
}

#[test]
fn garbage_behind_the_last_record_harms_nothing() {
    for io in DRIVERS {
        after(io, &[], "ready", |segment, _| {
            let garbage: Vec<u8> = (0..70_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            std::fs::OpenOptions::new().append(true).open(segment).unwrap().write_all(&garbage).unwrap();
        });
        after(io, &[], "ready", |segment, places| {
            let next = (places[11] / 4096 + 1) * 4096;
            overwrite(segment, next, &vec![0xa5; 20_000]);
        });
    }
}

#[test]
fn a_torn_last_record_takes_nothing_with_it() {
    for io in DRIVERS {
        // The last record has lost its end, as if power had failed before its sync was done.
        after(io, &[11], "torn", |segment, places| overwrite(segment, places[11], &[0; 8]));
        after(io, &[11], "torn", |segment, places| {
            let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
            file.set_len(places[11] as u64).unwrap();
        });
    }
}

#[test]
fn damage_in_the_middle_is_shouted_about_and_costs_what_was_hit() {
    for io in DRIVERS {
        for hit in [0, 5] {
            after(io, &[hit], "the queue is damaged", |segment, places| {
                let mut octets = std::fs::read(segment).unwrap();
                octets[places[hit]] ^= 0x10;
                std::fs::write(segment, octets).unwrap();
            });
        }
        // A whole page of zeros, as a disk gives for a sector that it has lost.
        after(io, &[5], "the queue is damaged", |segment, places| {
            overwrite(segment, places[5] / 4096 * 4096, &[0; 4096]);
        });
        // The header of the segment: what is in it can still be read.
        after(io, &[], "the queue is damaged", |segment, _| overwrite(segment, 0, &[0xff; 64]));
    }
}

#[test]
fn clients_that_vanish_leave_no_scratch_files() {
    for io in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        let gate = small(io, dir.path(), backend.address, "spool", &[]);
        let mut random = fastrand::Rng::with_seed(seed() ^ 3);
        for _ in 0..60 {
            let mut sender = Sender::connect(gate.address("mx")).unwrap();
            assert_eq!(sender.envelope().unwrap(), "");
            let text = message("m-0-7");
            let _ = sender.stream.write_all(&text.as_bytes()[..random.usize(..text.len())]);
        }
        // A message of its own goes through the same lane afterwards, so all of the above has been there.
        let ledger = Mutex::default();
        assert_eq!(send_until_refused(gate.address("mx"), &mut 6, 1, &ledger), None);
        backend.wait_kept(1);
        no_bodies_are_left(dir.path());
    }
}

#[test]
fn large_mail_that_passes_straight_through_leaves_no_files() {
    for io in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::plain();
        let gate = small(io, dir.path(), backend.address, "cut-through", &[]);
        let (ledger, mut sender) = (Mutex::default(), Sender::connect(gate.address("mx")).unwrap());
        for n in 0..20 {
            let reply = sender.send(&format!("m-{n}-7"), &ledger).unwrap();
            assert!(reply.starts_with("250"), "{reply}");
        }
        no_bodies_are_left(dir.path());
    }
}

/// Waits until the queue's directory has no files of bodies; housekeeping comes once a second.
fn no_bodies_are_left(data: &Path) {
    wait_for("an end of body files", || {
        let mut files = std::fs::read_dir(data.join("spool/00")).unwrap().map(|e| e.unwrap().path());
        (!files.any(|p| p.extension().is_some_and(|e| e == "body"))).then_some(())
    });
}
