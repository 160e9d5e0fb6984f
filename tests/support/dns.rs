//! A small name server on loopback, UDP and TCP on one port, for tests: it answers from the text of its zones and can
//! lie in every way a name server can.
//!
//! A line is `OWNER [TTL] TYPE VALUE`, with `A`, `AAAA`, `MX` (`10 host`, `0 .`), `TXT` (`"part" "part"`, `\DDD` and `\"`
//! inside), `PTR` (the owner may be an address), `CNAME`; `*.zone` stands for every name below `zone` that has no lines.
//! `OWNER FAULT` or `OWNER TYPE FAULT` with `NXDOMAIN`, `SERVFAIL`, `REFUSED`, `TIMEOUT` (silence), `EMPTY`, `WRONG-ID`,
//! `WRONG-QUESTION`, `GARBAGE`, `TRUNCATED` (over UDP), `OVERSIZED` (UDP, the answer repeated over 60 KB), `SLOW:ms`;
//! a fault of the owner alone holds for the types it has no lines for, `SLOW`, `TRUNCATED` and the lies for all.
//! `;` begins a comment. How it fails: a line that makes no sense panics with the line.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each test file uses a part; a panic is the report")]

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// TTL of records without their own, and what "there is none" says.
const TTL: u32 = 300;
const NEGATIVE_TTL: u32 = 30;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    NxDomain,
    ServFail,
    Refused,
    Timeout,
    Empty,
    WrongId,
    WrongQuestion,
    Garbage,
    Truncated,
    Oversized,
    Slow(Duration),
}

impl Fault {
    fn read(word: &str) -> Option<Fault> {
        Some(match word {
            "NXDOMAIN" => Fault::NxDomain,
            "SERVFAIL" => Fault::ServFail,
            "REFUSED" => Fault::Refused,
            "TIMEOUT" => Fault::Timeout,
            "EMPTY" => Fault::Empty,
            "WRONG-ID" => Fault::WrongId,
            "WRONG-QUESTION" => Fault::WrongQuestion,
            "GARBAGE" => Fault::Garbage,
            "TRUNCATED" => Fault::Truncated,
            "OVERSIZED" => Fault::Oversized,
            _ => Fault::Slow(Duration::from_millis(word.strip_prefix("SLOW:")?.parse().ok()?)),
        })
    }
    /// Whether it takes the place of an answer, rather than spoiling one.
    fn is_answer(self) -> bool {
        matches!(self, Fault::NxDomain | Fault::ServFail | Fault::Refused | Fault::Timeout | Fault::Empty)
    }
}

#[derive(Default, Clone)]
struct Zones {
    records: HashMap<String, Vec<(u32, RecordType, RData)>>,
    faults: HashMap<(String, Option<RecordType>), Fault>,
}

impl Zones {
    fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';')) {
            self.add_line(line).unwrap_or_else(|| panic!("this line of a zone makes no sense: {line:?}"));
        }
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let (owner, rest) = line.split_once(char::is_whitespace)?;
        let (first, mut value) = split(rest);
        let owner = match owner.parse::<IpAddr>() {
            Ok(ip) => key(&Name::from(ip)),
            // A space in a name is written \032, as in a zone file.
            Err(_) => owner.trim_end_matches('.').replace("\\032", " ").to_ascii_lowercase(),
        };
        if let Some(fault) = Fault::read(first) {
            self.faults.insert((owner, None), fault);
            return Some(());
        }
        let (mut kind, mut ttl) = (first, TTL);
        if let Ok(own) = first.parse() {
            ttl = own;
            (kind, value) = split(value);
        }
        let kind: RecordType = kind.parse().ok()?;
        if let Some(fault) = Fault::read(value) {
            self.faults.insert((owner, Some(kind)), fault);
            return Some(());
        }
        let data = match kind {
            RecordType::A => RData::A(A(value.parse().ok()?)),
            RecordType::AAAA => RData::AAAA(AAAA(value.parse().ok()?)),
            RecordType::MX => {
                let (preference, host) = value.split_once(' ')?;
                RData::MX(MX::new(preference.parse().ok()?, name(host.trim())?))
            }
            RecordType::PTR => RData::PTR(PTR(name(value)?)),
            RecordType::CNAME => RData::CNAME(CNAME(name(value)?)),
            RecordType::TXT => RData::TXT(TXT::from_bytes(texts(value)?.iter().map(Vec::as_slice).collect())),
            _ => return None,
        };
        self.records.entry(owner).or_default().push((ttl, kind, data));
        Some(())
    }

    /// The owner whose lines answer for `host`: itself or the wildcard above it.
    fn owner<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        let has = |name: &str| self.records.contains_key(name) || self.faults.keys().any(|(owner, _)| owner == name);
        if has(host) {
            return Some(host);
        }
        let mut rest = host;
        while let Some((_, above)) = rest.split_once('.') {
            let wild = format!("*.{above}");
            if let Some((found, _)) = self.records.get_key_value(&wild) {
                return Some(found);
            }
            if let Some(((found, _), _)) = self.faults.iter().find(|((owner, _), _)| *owner == wild) {
                return Some(found);
            }
            rest = above;
        }
        None
    }

    fn fault(&self, owner: &str, kind: RecordType) -> Option<Fault> {
        let of = |kind| self.faults.get(&(owner.to_owned(), kind)).copied();
        of(Some(kind)).or_else(|| {
            let has = self
                .records
                .get(owner)
                .is_some_and(|r| r.iter().any(|(_, k, _)| *k == kind || *k == RecordType::CNAME));
            of(None).filter(|fault| !has || !fault.is_answer())
        })
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(a, b)| (a, b.trim()))
}

fn name(text: &str) -> Option<Name> {
    let text = text.trim_end_matches('.');
    let mut name = match text {
        "" => Name::root(),
        text => Name::from_labels(text.split('.').map(str::as_bytes)).ok()?,
    };
    name.set_fqdn(true);
    Some(name)
}

fn key(name: &Name) -> String {
    let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
    labels.join(".")
}

/// The parts of a TXT value.
fn texts(value: &str) -> Option<Vec<Vec<u8>>> {
    if !value.starts_with('"') {
        // One string holds at most 255 octets.
        return Some(value.as_bytes().chunks(250).map(<[u8]>::to_vec).collect());
    }
    let (mut parts, mut open, mut bytes) = (Vec::new(), None::<Vec<u8>>, value.bytes());
    while let Some(b) = bytes.next() {
        match (b, &mut open) {
            (b'"', Some(_)) => parts.extend(open.take()),
            (b'"', None) => open = Some(Vec::new()),
            (b'\\', Some(part)) => match bytes.next()? {
                d @ b'0'..=b'9' => {
                    let number = [d, bytes.next()?, bytes.next()?];
                    part.push(std::str::from_utf8(&number).ok()?.parse().ok()?);
                }
                other => part.push(other),
            },
            (b, Some(part)) => part.push(b),
            (b' ', None) => {}
            _ => return None,
        }
    }
    open.is_none().then_some(parts)
}

#[derive(Default)]
struct State {
    zones: Zones,
    asked: HashMap<(String, RecordType, Transport), u32>,
    silent: bool,
}

pub struct DnsServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DnsServer {
    /// Starts with the zones of `text`.
    pub fn start(text: &str) -> DnsServer {
        // The kernel picks a UDP port; the TCP one of the same number is most likely free, so a few tries do.
        let (udp, tcp) = (0..50)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                Some((TcpListener::bind(udp.local_addr().unwrap()).ok()?, udp)).map(|(t, u)| (u, t))
            })
            .expect("a port free for both transports");
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (state, stop) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        state.lock().unwrap().zones.add(text);
        let address = udp.local_addr().unwrap();
        let threads = vec![
            std::thread::spawn({
                let (state, stop) = (state.clone(), stop.clone());
                move || serve_udp(&udp, &state, &stop)
            }),
            std::thread::spawn({
                let (state, stop) = (state.clone(), stop.clone());
                move || serve_tcp(&tcp, &state, &stop)
            }),
        ];
        DnsServer { address, state, stop, threads }
    }

    /// Where it listens, for `[lookup] servers`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A `--set` argument for the program.
    pub fn setting(&self) -> String {
        format!("lookup.servers=[\"{}\"]", self.address)
    }

    /// More lines.
    pub fn add(&self, text: &str) {
        self.state.lock().unwrap().zones.add(text);
    }

    /// Other zones instead.
    pub fn replace(&self, text: &str) {
        let mut zones = Zones::default();
        zones.add(text);
        self.state.lock().unwrap().zones = zones;
    }

    /// A server that is not there any more, or there again.
    pub fn silence(&self, silent: bool) {
        self.state.lock().unwrap().silent = silent;
    }

    /// How often `name` was asked for `kind` (`"TXT"`), over both transports.
    pub fn asked(&self, name: &str, kind: &str) -> u32 {
        self.asked_over(name, kind, Transport::Udp) + self.asked_over(name, kind, Transport::Tcp)
    }

    /// The same over one transport.
    pub fn asked_over(&self, name: &str, kind: &str, transport: Transport) -> u32 {
        let kind = kind.parse::<RecordType>().unwrap();
        self.state.lock().unwrap().asked.get(&(name.to_ascii_lowercase(), kind, transport)).copied().unwrap_or(0)
    }

    /// Queries in all.
    pub fn queries(&self) -> u32 {
        self.state.lock().unwrap().asked.values().sum()
    }

    /// Every name and type that was asked for.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.state.lock().unwrap().asked.keys().map(|(name, kind, _)| format!("{name} {kind}")).collect();
        names.sort();
        names
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| t.join().unwrap());
    }
}

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>, stop: &AtomicBool) {
    let mut buf = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((n, from)) = socket.recv_from(&mut buf) else { continue };
        let Some((reply, delay)) = state.lock().unwrap().reply(&buf[..n], Transport::Udp) else { continue };
        if delay.is_zero() {
            let _ = socket.send_to(&reply, from);
            continue;
        }
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            let _ = socket.send_to(&reply, from);
        });
    }
}

fn serve_tcp(listener: &TcpListener, state: &Arc<Mutex<State>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let state = state.clone();
        std::thread::spawn(move || serve_stream(stream, &state));
    }
}

fn serve_stream(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut query = vec![0; u16::from_be_bytes(len).into()];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let replied = state.lock().unwrap().reply(&query, Transport::Tcp);
        let Some((reply, delay)) = replied else { continue };
        std::thread::sleep(delay);
        let len = u16::try_from(reply.len()).unwrap_or(u16::MAX);
        if stream.write_all(&len.to_be_bytes()).and_then(|()| stream.write_all(&reply)).is_err() {
            return;
        }
    }
}

impl State {
    /// What is said to a query, and after how long; `None` is silence.
    fn reply(&mut self, query: &[u8], transport: Transport) -> Option<(Vec<u8>, Duration)> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let (host, kind) = (key(question.name()), question.query_type());
        *self.asked.entry((host.clone(), kind, transport)).or_insert(0) += 1;
        if self.silent {
            return None;
        }
        let mut m = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        m.metadata.recursion_available = true;
        m.metadata.recursion_desired = true;
        m.add_query(question.clone());
        let fault = self.zones.owner(&host).and_then(|owner| self.zones.fault(owner, kind));
        let mut delay = Duration::ZERO;
        match fault {
            Some(Fault::Timeout) => return None,
            Some(Fault::NxDomain) => m.metadata.response_code = ResponseCode::NXDomain,
            Some(Fault::ServFail) => m.metadata.response_code = ResponseCode::ServFail,
            Some(Fault::Refused) => m.metadata.response_code = ResponseCode::Refused,
            Some(Fault::Empty) => {}
            Some(Fault::Truncated) if transport == Transport::Udp => m.metadata.truncation = true,
            Some(Fault::Slow(by)) => {
                delay = by;
                self.answer(&mut m, question.name(), kind);
            }
            _ => self.answer(&mut m, question.name(), kind),
        }
        match fault {
            Some(Fault::Garbage) => return Some((query.to_vec().ok()?.repeat(3).split_off(2), delay)),
            Some(Fault::WrongId) => m.metadata.id = m.metadata.id.wrapping_add(1),
            Some(Fault::WrongQuestion) => {
                let mut other = question;
                other.set_name(name("other.invalid")?);
                m.queries = vec![other];
            }
            _ => {}
        }
        let none =
            m.answers.is_empty() && matches!(m.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        if none && !m.metadata.truncation {
            let soa = SOA::new(name("ns.test")?, name("root.test")?, 1, 3600, 600, 86_400, NEGATIVE_TTL);
            m.add_authority(Record::from_rdata(name("test")?, 3600, RData::SOA(soa)));
        }
        if fault == Some(Fault::Oversized) && transport == Transport::Udp {
            let record = m.answers.first()?.clone();
            while m.to_vec().ok()?.len() < 60_000 {
                m.add_answers(std::iter::repeat_n(record.clone(), 100));
            }
        }
        let mut bytes = m.to_vec().ok()?;
        // What does not fit is cut as a name server cuts it.
        if transport == Transport::Udp && bytes.len() > 1232 && fault != Some(Fault::Oversized) {
            m.answers.clear();
            m.metadata.truncation = true;
            bytes = m.to_vec().ok()?;
        }
        Some((bytes, delay))
    }

    /// The records, aliases followed as a recursive server follows them.
    fn answer(&self, m: &mut Message, asked: &Name, kind: RecordType) {
        let mut at = asked.clone();
        for _ in 0..12 {
            let host = key(&at);
            let Some(records) = self.zones.owner(&host).and_then(|owner| self.zones.records.get(owner)) else {
                if m.answers.is_empty() && self.zones.owner(&host).is_none() {
                    m.metadata.response_code = ResponseCode::NXDomain;
                }
                return;
            };
            let mut alias = None;
            for (ttl, k, data) in records {
                if *k == kind || *k == RecordType::CNAME {
                    m.add_answer(Record::from_rdata(at.clone(), *ttl, data.clone()));
                }
                if let RData::CNAME(to) = data {
                    alias = Some(to.0.clone());
                }
            }
            match alias {
                Some(to) if kind != RecordType::CNAME => at = to,
                _ => return,
            }
        }
    }
}
