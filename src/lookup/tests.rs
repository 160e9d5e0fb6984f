//! The lane against a small name server of our own on loopback, UDP and TCP on one port, that answers by name.

mod desk;
#[path = "../../tests/support/dns.rs"]
mod dns;
mod inquiries;
mod lies;
mod messages;
mod origin;
mod published;

use super::*;
use crate::base::address::Domain;
use crate::base::inquiry::{Case, Finding, Inquiry};
use desk::{Desk, why};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn name(text: &str) -> Name {
    let mut n = Name::from_ascii(text).unwrap();
    n.set_fqdn(true);
    n
}
fn domain(text: &str) -> Domain {
    Domain::from_checked(text)
}

/// How often each name was asked, and by which transport.
type Log = Arc<Mutex<HashMap<(String, RecordType, Transport), u32>>>;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Transport {
    Udp,
    Tcp,
}

struct Server {
    addr: SocketAddr,
    log: Log,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Server {
        // The kernel picks a UDP port; the TCP one of the same number is most likely free, so a few tries do.
        let (udp, tcp) = (0..50)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                Some((TcpListener::bind(udp.local_addr().unwrap()).ok()?, udp)).map(|(t, u)| (u, t))
            })
            .expect("a port free for both transports");
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (log, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let addr = udp.local_addr().unwrap();
        let udp_thread = std::thread::spawn({
            let (log, stop) = (log.clone(), stop.clone());
            move || serve_udp(udp, log, stop)
        });
        let tcp_thread = std::thread::spawn({
            let (log, stop) = (log.clone(), stop.clone());
            move || serve_tcp(tcp, log, stop)
        });
        Server { addr, log, stop, threads: vec![udp_thread, tcp_thread] }
    }

    fn asked(&self, n: &str, kind: RecordType, transport: Transport) -> u32 {
        self.log.lock().unwrap().get(&(n.to_owned(), kind, transport)).copied().unwrap_or(0)
    }

    fn knobs(&self) -> LookupKnobs {
        LookupKnobs {
            servers: vec![NameServer(self.addr)],
            timeout: Duration::from_millis(300),
            attempts: 0,
            deadline: Duration::from_secs(3),
            ttl_min: Duration::ZERO,
            negative_ttl_min: Duration::ZERO,
            ..LookupKnobs::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| t.join().unwrap());
    }
}

fn serve_udp(socket: UdpSocket, log: Log, stop: Arc<AtomicBool>) {
    let mut buf = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((n, from)) = socket.recv_from(&mut buf) else { continue };
        if let Some((reply, delay)) = reply(&buf[..n], Transport::Udp, &log) {
            let socket = socket.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _ = socket.send_to(&reply, from);
            });
        }
    }
}

fn serve_tcp(listener: TcpListener, log: Log, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let log = log.clone();
        std::thread::spawn(move || {
            let mut len = [0; 2];
            while stream.read_exact(&mut len).is_ok() {
                let mut query = vec![0; u16::from_be_bytes(len) as usize];
                stream.read_exact(&mut query).unwrap();
                let Some((reply, _)) = reply(&query, Transport::Tcp, &log) else { continue };
                stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
    }
}

/// What the server says to a query; `None` is silence.
fn reply(query: &[u8], transport: Transport, log: &Log) -> Option<(Vec<u8>, Duration)> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let (asked, kind) = (question.name().to_ascii().to_ascii_lowercase(), question.query_type());
    let host = asked.trim_end_matches('.').to_owned();
    *log.lock().unwrap().entry((host.clone(), kind, transport)).or_insert(0) += 1;
    let mut m = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    m.metadata.recursion_available = true;
    m.metadata.recursion_desired = true;
    m.add_query(question.clone());
    let mut add = |owner: &str, ttl: u32, data: RData| {
        m.add_answer(Record::from_rdata(name(owner), ttl, data));
    };
    let mut delay = Duration::ZERO;
    match (host.as_str(), kind) {
        ("silent.test", _) => return None,
        ("ok.test", RecordType::A) => add("ok.test", 300, RData::A(A::new(192, 0, 2, 1))),
        ("ok.test", RecordType::AAAA) => add("ok.test", 200, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        ("ok.test", RecordType::MX) => {
            add("ok.test", 300, RData::MX(MX::new(20, name("MX2.ok.test"))));
            add("ok.test", 250, RData::MX(MX::new(10, name("mx1.ok.test"))));
            add("stranger.test", 1, RData::MX(MX::new(1, name("evil.test"))));
        }
        ("ok.test", RecordType::TXT) => {
            add("ok.test", 300, RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()])));
        }
        ("null.test", RecordType::MX) => add("null.test", 300, RData::MX(MX::new(0, Name::root()))),
        ("v4.test", RecordType::A) => add("v4.test", 300, RData::A(A::new(192, 0, 2, 4))),
        ("v4only-broken6.test", RecordType::A) => add(&host, 300, RData::A(A::new(192, 0, 2, 5))),
        ("v4only-broken6.test", _) | ("fail.test", _) => m.metadata.response_code = ResponseCode::ServFail,
        ("refused.test", _) => m.metadata.response_code = ResponseCode::Refused,
        ("big.test", RecordType::TXT) if transport == Transport::Udp => m.metadata.truncation = true,
        ("big.test", RecordType::TXT) => {
            (0..40).for_each(|i| add("big.test", 300, RData::TXT(TXT::new(vec![format!("{i:0200}")]))));
        }
        ("alias.test", _) => add("alias.test", 60, RData::CNAME(CNAME(name("alias2.test")))),
        ("alias2.test", _) => add("alias2.test", 90, RData::CNAME(CNAME(name("ok.test")))),
        ("loop.test", _) => add("loop.test", 60, RData::CNAME(CNAME(name("loop2.test")))),
        ("loop2.test", _) => add("loop2.test", 60, RData::CNAME(CNAME(name("loop.test")))),
        ("slow.test", RecordType::MX) => {
            delay = Duration::from_millis(150);
            add("slow.test", 300, RData::MX(MX::new(1, name("ok.test"))));
        }
        ("short.test", RecordType::MX) => add("short.test", 1, RData::MX(MX::new(1, name("ok.test")))),
        ("zero.test", RecordType::MX) => add("zero.test", 0, RData::MX(MX::new(1, name("ok.test")))),
        ("odd.test", RecordType::MX) => {
            let odd = Name::from_labels([b"a b\n".as_slice(), b"test"]).unwrap();
            add("odd.test", 300, RData::MX(MX::new(1, odd)));
        }
        ("1.2.0.192.in-addr.arpa", RecordType::PTR) => {
            add("1.2.0.192.in-addr.arpa", 300, RData::PTR(PTR(name("nx.test"))));
            add("1.2.0.192.in-addr.arpa", 300, RData::PTR(PTR(name("ok.test"))));
        }
        ("2.2.0.192.in-addr.arpa", RecordType::PTR) => add(&host, 300, RData::PTR(PTR(name("ok.test")))),
        ("3.2.0.192.in-addr.arpa", RecordType::PTR) => add(&host, 300, RData::PTR(PTR(name("fail.test")))),
        ("nosoa.test", _) => m.metadata.response_code = ResponseCode::NXDomain,
        (host, _) => {
            if !["v4.test", "ok.test", "null.test", "short.test"].contains(&host) {
                m.metadata.response_code = ResponseCode::NXDomain;
            }
            let soa = SOA::new(name("ns.test"), name("root.test"), 1, 3600, 600, 86_400, 30);
            m.add_authority(Record::from_rdata(name("test"), 3600, RData::SOA(soa)));
        }
    }
    Some((m.to_vec().unwrap(), delay))
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Answer(answer) => answer,
        Reply::Finding(finding) => panic!("nobody inquired: {finding:?}"),
    }
}

struct Rig {
    _lane: Lane,
    asker: Asker<u32>,
    answers: Receiver<(u32, Answer)>,
}

impl Rig {
    fn new(knobs: &LookupKnobs) -> Rig {
        let (tx, answers) = channel();
        let (lane, asker) =
            Lane::start(knobs, move |token, reply| tx.send((token, answer(reply))).unwrap_or(())).unwrap();
        Rig { _lane: lane, asker, answers }
    }
    fn next(&self) -> (u32, Answer) {
        self.answers.recv_timeout(Duration::from_secs(10)).expect("every question is answered")
    }
    fn ask(&self, question: &Question) -> Answer {
        match self.asker.ask(7, question) {
            Asked::Now(7, answer) => answer,
            Asked::Now(token, _) => panic!("token {token} is not ours"),
            Asked::Waiting => {
                let (token, answer) = self.next();
                assert_eq!(token, 7);
                answer
            }
        }
    }
}

fn ips(texts: &[&str]) -> Result<Found, Miss> {
    Ok(Found::Addresses(texts.iter().map(|t| t.parse::<IpAddr>().unwrap()).collect()))
}

#[test]
fn records_of_every_kind_are_found() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let a = rig.ask(&Question::Addresses(domain("OK.test")));
    assert_eq!(a.result, ips(&["2001:db8::1", "192.0.2.1"]));
    assert_eq!((a.ttl, a.source), (Duration::from_secs(200), Source::Dns));
    let mx = rig.ask(&Question::Mx(domain("ok.test")));
    let Ok(Found::Mx(records)) = mx.result else { panic!("{mx:?}") };
    assert_eq!(records.len(), 2, "records of strangers do not count");
    assert!(records.iter().any(|r| r.preference == 20 && r.exchange == Some(domain("mx2.ok.test"))));
    assert_eq!(mx.ttl, Duration::from_secs(250));
    let txt = rig.ask(&Question::Txt(domain("ok.test")));
    assert_eq!(txt.result, Ok(Found::Texts([b"v=spf1 -all".as_slice().into()].into())));
    let null = rig.ask(&Question::Mx(domain("null.test")));
    assert_eq!(null.result, Ok(Found::Mx([MxRecord { preference: 0, exchange: None }].into())));
    let ptr = rig.ask(&Question::Ptr([192, 0, 2, 2].into()));
    assert_eq!(ptr.result, Ok(Found::Names([domain("ok.test")].into())));
}

#[test]
fn nothing_is_told_apart_from_failure() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let nx = rig.ask(&Question::Mx(domain("nx.test")));
    assert_eq!((nx.result, nx.ttl), (Err(Miss::NoName), Duration::from_secs(30)), "the SOA's minimum");
    assert_eq!(rig.ask(&Question::Mx(domain("v4.test"))).result, Err(Miss::NoRecords));
    assert_eq!(rig.ask(&Question::Addresses(domain("nx.test"))).result, Err(Miss::NoName));
    assert_eq!(rig.ask(&Question::Addresses(domain("v4.test"))).result, ips(&["192.0.2.4"]));
    let servfail = Err(Miss::Temporary(Trouble::Response(2)));
    assert_eq!(rig.ask(&Question::Mx(domain("fail.test"))).result, servfail);
    assert_eq!(rig.ask(&Question::Addresses(domain("fail.test"))).result, servfail);
    assert_eq!(rig.ask(&Question::Mx(domain("refused.test"))).result, Err(Miss::Temporary(Trouble::Response(5))));
    assert_eq!(rig.ask(&Question::Mx(domain("odd.test"))).result, Err(Miss::Temporary(Trouble::Malformed)));
    let half = rig.ask(&Question::Addresses(domain("v4only-broken6.test")));
    assert_eq!(half.result, ips(&["192.0.2.5"]), "half an answer is used");
    assert!(half.ttl <= server.knobs().failure_ttl, "but not for long");
    assert_eq!(rig.ask(&Question::Mx(domain("nosoa.test"))).ttl, Duration::ZERO, "nobody said how long");
}

#[test]
fn names_that_cannot_exist_ask_nobody() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let long = "a".repeat(64) + ".test";
    for bad in [long.as_str(), "a..test", ".", "a/b.test"] {
        let a = rig.ask(&Question::Mx(domain(bad)));
        assert_eq!((a.result, a.source), (Err(Miss::NoName), Source::Lane), "{bad}");
    }
    assert!(server.log.lock().unwrap().is_empty());
    rig.ask(&Question::Mx(domain("bücher.test")));
    assert_eq!(server.asked("xn--bcher-kva.test", RecordType::MX, Transport::Udp), 1);
}

#[test]
fn silence_ends_in_a_timeout() {
    let server = Server::start();
    let rig = Rig::new(&LookupKnobs { attempts: 1, ..server.knobs() });
    let before = Instant::now();
    assert_eq!(rig.ask(&Question::Mx(domain("silent.test"))).result, Err(Miss::Temporary(Trouble::Timeout)));
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    let again = rig.ask(&Question::Mx(domain("silent.test")));
    assert_eq!(again.source, Source::Cache, "a dead server is not asked for every message");
    let rig = Rig::new(&LookupKnobs {
        attempts: 10,
        timeout: Duration::from_secs(60),
        deadline: Duration::from_millis(100),
        ..server.knobs()
    });
    let before = Instant::now();
    assert_eq!(rig.ask(&Question::Mx(domain("silent.test"))).result, Err(Miss::Temporary(Trouble::Timeout)));
    assert!(before.elapsed() < Duration::from_secs(2), "the deadline holds over all attempts");
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = Rig::new(&LookupKnobs {
        servers: vec![NameServer(closed)],
        timeout: Duration::from_millis(200),
        attempts: 0,
        ..LookupKnobs::default()
    });
    let result = rig.ask(&Question::Mx(domain("ok.test"))).result;
    assert!(matches!(result, Err(Miss::Temporary(Trouble::Unreachable | Trouble::Timeout))), "{result:?}");
}

#[test]
fn without_any_server_there_is_an_answer_too() {
    let (tx, answers) = channel();
    let knobs = LookupKnobs { hosts: vec!["a.test=127.0.0.1".parse().unwrap()], ..LookupKnobs::default() };
    let (_lane, asker) = Lane::launch(&knobs, None, None, move |t: u32, r| tx.send((t, answer(r))).unwrap()).unwrap();
    assert!(matches!(asker.ask(1, &Question::Mx(domain("ok.test"))), Asked::Waiting));
    let (token, answer) = answers.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((token, answer.result), (1, Err(Miss::Temporary(Trouble::NoServers))));
    assert!(matches!(asker.ask(2, &Question::Addresses(domain("a.test"))), Asked::Now(2, a) if a.result.is_ok()));
    assert_eq!(asker.counters().waiting, 0);
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let a = rig.ask(&Question::Txt(domain("big.test")));
    let Ok(Found::Texts(texts)) = a.result else { panic!("{a:?}") };
    assert_eq!(texts.len(), 40);
    assert_eq!(server.asked("big.test", RecordType::TXT, Transport::Udp), 1);
    assert_eq!(server.asked("big.test", RecordType::TXT, Transport::Tcp), 1);
}

#[test]
fn aliases_are_followed_and_loops_end() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let a = rig.ask(&Question::Addresses(domain("alias.test")));
    assert_eq!(a.result, ips(&["2001:db8::1", "192.0.2.1"]));
    assert_eq!(a.ttl, Duration::from_secs(60), "the shortest TTL on the way");
    let l = rig.ask(&Question::Mx(domain("loop.test")));
    assert!(l.result.is_err(), "{l:?}");
    assert!(server.asked("loop.test", RecordType::MX, Transport::Udp) < 20);
}

#[test]
fn equal_questions_share_one_query() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    for token in 0..100 {
        let spelled = if token % 2 == 0 { "slow.test" } else { "SLOW.test" };
        assert!(matches!(rig.asker.ask(token, &Question::Mx(domain(spelled))), Asked::Waiting));
    }
    let mut tokens: Vec<u32> = (0..100).map(|_| rig.next()).map(|(t, a)| (t, assert!(a.result.is_ok())).0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
    assert_eq!(server.asked("slow.test", RecordType::MX, Transport::Udp), 1);
    let c = rig.asker.counters();
    assert_eq!((c.asked, c.shared, c.queried, c.found, c.waiting), (100, 99, 1, 1, 0));
}

#[test]
fn answers_are_kept_for_their_ttl_and_within_the_clamps() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let q = Question::Mx(domain("short.test"));
    assert_eq!(rig.ask(&q).source, Source::Dns);
    assert_eq!(rig.ask(&q).source, Source::Cache);
    assert_eq!(server.asked("short.test", RecordType::MX, Transport::Udp), 1);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(rig.ask(&q).source, Source::Dns);
    assert_eq!(server.asked("short.test", RecordType::MX, Transport::Udp), 2);
    let zero = Question::Mx(domain("zero.test"));
    assert_eq!((rig.ask(&zero).source, rig.ask(&zero).source), (Source::Dns, Source::Dns));
    rig.asker.forget();
    assert_eq!(rig.ask(&q).source, Source::Dns);

    let clamped = Rig::new(&LookupKnobs {
        ttl_min: Duration::from_secs(90),
        ttl_max: Duration::from_secs(100),
        negative_ttl_max: Duration::from_secs(3),
        ..server.knobs()
    });
    assert_eq!(clamped.ask(&q).ttl, Duration::from_secs(90));
    assert_eq!(clamped.ask(&Question::Mx(domain("ok.test"))).ttl, Duration::from_secs(100));
    assert_eq!(clamped.ask(&Question::Mx(domain("nx.test"))).ttl, Duration::from_secs(3));
}

#[test]
fn a_client_is_known_by_a_name_that_resolves_back() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    let good = rig.ask(&Question::ClientName([192, 0, 2, 1].into()));
    assert_eq!(good.confirmed_name(), Some(&domain("ok.test")));
    let mapped = rig.ask(&Question::ClientName("::ffff:192.0.2.1".parse().unwrap()));
    assert_eq!((mapped.confirmed_name(), mapped.source), (Some(&domain("ok.test")), Source::Cache));
    let liar = rig.ask(&Question::ClientName([192, 0, 2, 2].into()));
    let Ok(Found::Client(c)) = &liar.result else { panic!("{liar:?}") };
    assert_eq!((&c.confirmed, &*c.claimed), (&None, [domain("ok.test")].as_slice()));
    assert_eq!(rig.ask(&Question::ClientName([192, 0, 2, 9].into())).result, Err(Miss::NoName));
    let unknown = rig.ask(&Question::ClientName([192, 0, 2, 3].into()));
    assert_eq!(unknown.result, Err(Miss::Temporary(Trouble::Response(2))));
}

#[test]
fn the_queue_is_bounded() {
    let server = Server::start();
    let rig = Rig::new(&LookupKnobs { waiting_max: 3, in_flight_max: 2, ..server.knobs() });
    let mut refused = 0;
    for token in 0..10 {
        match rig.asker.ask(token, &Question::Mx(domain("slow.test"))) {
            Asked::Waiting => {}
            Asked::Now(_, answer) => {
                assert_eq!(answer.result, Err(Miss::Temporary(Trouble::QueueFull)));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 7);
    (0..3).for_each(|_| assert!(rig.next().1.result.is_ok()));
    assert!(rig.ask(&Question::Mx(domain("ok.test"))).result.is_ok(), "there is room again");
    assert_eq!(rig.asker.counters().queue_full, 7);
}

#[test]
fn more_questions_than_may_fly_are_all_answered() {
    let server = Server::start();
    let rig = Rig::new(&LookupKnobs { in_flight_max: 4, ..server.knobs() });
    for token in 0..200 {
        assert!(matches!(rig.asker.ask(token, &Question::Mx(domain(&format!("n{token}.test")))), Asked::Waiting));
    }
    let mut tokens: Vec<u32> = (0..200).map(|_| rig.next().0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..200).collect::<Vec<_>>());
    assert_eq!(rig.asker.counters().none, 200);
}

#[test]
fn fixed_names_need_no_server_and_no_wait() {
    let knobs = LookupKnobs {
        servers: vec![NameServer("127.0.0.1:1".parse().unwrap())],
        hosts: vec!["mx1.example.test=127.0.0.1".parse().unwrap()],
        records: vec!["example.test MX 10 mx1.example.test".parse().unwrap()],
        ..LookupKnobs::default()
    };
    let rig = Rig::new(&knobs);
    for q in [Question::Mx(domain("Example.TEST")), Question::Addresses(domain("mx1.example.test"))] {
        let Asked::Now(_, a) = rig.asker.ask(1, &q) else { panic!("{q:?} had to wait") };
        assert!(a.result.is_ok() && a.source == Source::Static, "{a:?}");
    }
    assert_eq!(
        rig.ask(&Question::ClientName([127, 0, 0, 1].into())).confirmed_name(),
        Some(&domain("mx1.example.test"))
    );
    let missing = LookupKnobs { hosts_file: Some("/nonexistent/hosts".into()), ..knobs };
    let Err(e) = Lane::start(&missing, |_: u32, _| {}) else { panic!("started without its hosts file") };
    assert!(e.to_string().starts_with("lookup.hosts_file: cannot read /nonexistent/hosts"), "{e}");
}

#[test]
fn a_lane_that_stops_answers_everybody_first() {
    let server = Server::start();
    let rig = Rig::new(&server.knobs());
    (0..5).for_each(|t| assert!(matches!(rig.asker.ask(t, &Question::Mx(domain("silent.test"))), Asked::Waiting)));
    let Rig { _lane: lane, asker, answers } = rig;
    drop(lane);
    let mut tokens = Vec::new();
    while let Ok((token, answer)) = answers.recv_timeout(Duration::from_millis(10)) {
        assert_eq!(answer.result, Err(Miss::Temporary(Trouble::Stopped)));
        tokens.push(token);
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4]);
    let Asked::Now(9, a) = asker.ask(9, &Question::Mx(domain("ok.test"))) else { panic!("the lane is gone") };
    assert_eq!(a.result, Err(Miss::Temporary(Trouble::Stopped)));
}
