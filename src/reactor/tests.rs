//! One conformance suite; every case runs under both drivers. A kernel that refuses io_uring skips those runs, and says
//! so.

use super::*;
use crate::base::buf::Segment;
use socket2::SockRef;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

/// A driver with a listener, and everything it has reported, sorted.
struct Rig {
    driver: Driver,
    listener: Id,
    addr: SocketAddr,
    accepted: Vec<(Id, SocketAddr, SocketAddr)>,
    data: HashMap<Id, Vec<u8>>,
    ends: HashMap<Id, Vec<End>>,
    sent: Vec<(Id, usize, io::Result<()>)>,
    connected: Vec<(Id, io::Result<()>)>,
    closed: Vec<Id>,
    refused: Vec<io::Error>,
    /// Receive buffers that the test keeps.
    kept: Vec<RecvBuf>,
    keep: bool,
    /// Arm reception and echo, without being asked.
    echo: bool,
    sending: HashSet<Id>,
}

fn small() -> ReactorKnobs {
    ReactorKnobs { recv_buffer_octets: 4096, recv_buffers: 16, ..ReactorKnobs::default() }
}

impl Rig {
    /// `None` when the kernel refuses io_uring.
    fn open(io: Io, knobs: ReactorKnobs) -> Option<Rig> {
        let knobs = ReactorKnobs { driver: io, ..knobs };
        let mut driver = match Driver::open(&knobs) {
            Ok((driver, choice)) => {
                assert_eq!(choice.io, io);
                driver
            }
            Err(why) if io == Io::Uring => {
                println!("skipped: {why}");
                return None;
            }
            Err(why) => panic!("{why}"),
        };
        let socket = listen::bind("127.0.0.1:0".parse().unwrap(), knobs.backlog, true).unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = driver.listen(socket).unwrap();
        Some(Rig {
            driver,
            listener,
            addr,
            accepted: Vec::new(),
            data: HashMap::new(),
            ends: HashMap::new(),
            sent: Vec::new(),
            connected: Vec::new(),
            closed: Vec::new(),
            refused: Vec::new(),
            kept: Vec::new(),
            keep: false,
            echo: false,
            sending: HashSet::new(),
        })
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let mut out = Vec::new();
        self.driver.poll(&mut out, timeout).unwrap();
        out.into_iter().for_each(|done| self.note(done));
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Accepted { listener, conn, peer, local } => {
                assert_eq!(listener, self.listener);
                self.accepted.push((conn, peer, local));
                if self.echo {
                    self.driver.recv(conn, true);
                }
            }
            Done::AcceptFailed { error, .. } => self.refused.push(error),
            Done::Recv { conn, buf } => {
                assert!(!buf.is_empty());
                assert!(!self.ends.contains_key(&conn), "nothing comes after the end");
                self.data.entry(conn).or_default().extend_from_slice(&buf);
                if self.echo {
                    self.echo_some(conn);
                }
                if self.keep {
                    self.kept.push(buf);
                }
            }
            Done::RecvEnd { conn, why } => {
                self.ends.entry(conn).or_default().push(why);
                if self.echo {
                    self.echo_some(conn);
                }
            }
            Done::Sent { conn, octets, result } => {
                self.sending.remove(&conn);
                if self.echo {
                    if result.is_err() {
                        self.data.remove(&conn);
                    }
                    self.driver.recv(conn, true);
                    self.echo_some(conn);
                }
                self.sent.push((conn, octets, result));
            }
            Done::Connected { conn, result } => self.connected.push((conn, result)),
            Done::Closed { conn } => {
                assert!(!self.closed.contains(&conn), "closed once");
                self.closed.push(conn);
            }
        }
    }

    /// Sends back what has come, one chain at a time with reception off meanwhile, and closes behind the last.
    fn echo_some(&mut self, conn: Id) {
        if self.sending.contains(&conn) {
            return;
        }
        if let Some(data) = self.data.remove(&conn) {
            self.sending.insert(conn);
            self.driver.recv(conn, false);
            self.driver.send(conn, Chain::from(data));
        } else if self.ended(conn) > 0 {
            self.driver.close(conn, Close::Graceful);
        }
    }

    /// Turns until `done`, or panics.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Rig) -> bool) {
        let start = Instant::now();
        while !done(self) {
            self.turn(Some(Duration::from_millis(20)));
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        }
    }

    /// Turns for a while, to see that nothing happens.
    fn idle(&mut self, ms: u64) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(ms) {
            self.turn(Some(Duration::from_millis(5)));
        }
    }

    /// A client, and our end of it.
    #[track_caller]
    fn client(&mut self) -> (TcpStream, Id) {
        let before = self.accepted.len();
        let client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        self.until("accept", |r| r.accepted.len() > before);
        (client, self.accepted[before].0)
    }

    fn received(&self, conn: Id) -> &[u8] {
        self.data.get(&conn).map_or(&[], Vec::as_slice)
    }

    fn ended(&self, conn: Id) -> usize {
        self.ends.get(&conn).map_or(0, Vec::len)
    }

    /// Nothing is left of the clients' connections.
    #[track_caller]
    fn assert_clean(&mut self) {
        self.kept.clear();
        self.until("all closed", |r| r.driver.counters().connections == 0);
        self.idle(10);
        let counters = self.driver.counters();
        assert_eq!((counters.connections, counters.buffers_on_loan), (0, 0));
    }
}

/// Declares cases that run under both drivers.
macro_rules! cases {
    ($(fn $name:ident($rig:ident in $knobs:expr) $body:block)*) => {$(
        mod $name {
            use super::*;
            fn case(io: Io) {
                #[allow(unused_mut)]
                let Some(mut $rig) = Rig::open(io, $knobs) else { return };
                $body
            }
            #[test]
            fn epoll() {
                case(Io::Epoll);
            }
            #[test]
            fn uring() {
                case(Io::Uring);
            }
        }
    )*};
}

fn pattern(octets: usize) -> Vec<u8> {
    (0..octets).map(|i| (i * 7 + i / 251) as u8).collect()
}

cases! {
    fn echo(rig in small()) {
        rig.echo = true;
        let addr = rig.addr;
        let clients: Vec<_> = (0..8)
            .map(|n| {
                std::thread::spawn(move || {
                    let mut client = TcpStream::connect(addr).unwrap();
                    let text = pattern(10_000 + n);
                    for _ in 0..20 {
                        client.write_all(&text).unwrap();
                        let mut back = vec![0; text.len()];
                        client.read_exact(&mut back).unwrap();
                        assert!(back == text);
                    }
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(client.read(&mut [0]).unwrap(), 0);
                })
            })
            .collect();
        rig.until("eight closed", |r| r.closed.len() == 8);
        clients.into_iter().for_each(|c| c.join().unwrap());
        assert!(rig.sent.iter().all(|(_, n, r)| *n > 0 && r.is_ok()));
        rig.assert_clean();
    }

    fn addresses_are_told(rig in small()) {
        let (client, _conn) = rig.client();
        let (_, peer, local) = rig.accepted[0];
        assert_eq!((peer, local), (client.local_addr().unwrap(), client.peer_addr().unwrap()));
    }

    fn a_wildcard_listener_tells_the_local_address(rig in small()) {
        let socket = listen::bind("0.0.0.0:0".parse().unwrap(), 16, false).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        rig.listener = rig.driver.listen(socket).unwrap();
        rig.addr = addr;
        let (client, _conn) = rig.client();
        assert_eq!(rig.accepted[0].1, client.local_addr().unwrap());
        assert_eq!(rig.accepted[0].2, addr);
    }

    fn a_vectored_send_survives_a_slow_reader(rig in small()) {
        let (mut client, conn) = rig.client();
        let body = Arc::new(pattern(3_000_000));
        let mut chain = Chain::new();
        chain.push(Segment::Static(b"begin"));
        for n in 0..150 {
            chain.push(Segment::Shared { bytes: Arc::clone(&body), start: n * 20_000, end: (n + 1) * 20_000 });
            chain.push(Segment::Owned(vec![b'|'; n % 3]));
        }
        let expected = chain.to_vec();
        rig.driver.send(conn, chain);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut some = [0; 50_000];
            loop {
                match client.read(&mut some).unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&some[..n]),
                }
                if all.len() < 500_000 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        rig.until("sent", |r| !r.sent.is_empty());
        assert_eq!(rig.sent[0].1, expected.len());
        assert!(rig.sent[0].2.is_ok());
        rig.driver.close(conn, Close::Graceful);
        rig.until("closed", |r| r.closed == [conn]);
        assert!(reader.join().unwrap() == expected);
        assert_eq!(rig.sent.len(), 1);
        rig.assert_clean();
    }

    fn an_empty_chain_is_sent(rig in small()) {
        let (_client, conn) = rig.client();
        rig.driver.send(conn, Chain::new());
        rig.until("sent", |r| r.sent.len() == 1);
        assert_eq!(rig.sent[0].1, 0);
    }

    fn back_pressure_loses_nothing(rig in small()) {
        let (mut client, conn) = rig.client();
        let text = pattern(2_000_000);
        let expected = text.clone();
        let writer = std::thread::spawn(move || {
            client.write_all(&text).unwrap();
            client
        });
        // On and off at every step, also within one turn.
        let start = Instant::now();
        let mut n = 0;
        while rig.received(conn).len() < expected.len() {
            assert!(start.elapsed() < PATIENCE, "stuck at {}", rig.received(conn).len());
            n += 1;
            rig.driver.recv(conn, true);
            rig.turn(Some(Duration::from_millis(1)));
            if n % 3 > 0 {
                rig.driver.recv(conn, false);
                let at = rig.received(conn).len();
                rig.turn(Some(Duration::from_millis(1)));
                rig.turn(Some(Duration::ZERO));
                assert_eq!(rig.received(conn).len(), at, "nothing is reported while it is off");
                if n % 3 == 2 {
                    rig.driver.recv(conn, true);
                    rig.driver.recv(conn, false);
                }
            }
        }
        assert!(rig.received(conn) == expected);
        drop(writer.join().unwrap());
        rig.driver.recv(conn, true);
        rig.until("end", |r| r.ended(conn) == 1);
        rig.driver.close(conn, Close::Graceful);
        rig.assert_clean();
    }

    fn an_end_while_off_waits_behind_the_data(rig in small()) {
        let (mut client, conn) = rig.client();
        rig.driver.recv(conn, true);
        rig.idle(5);
        rig.driver.recv(conn, false);
        client.write_all(b"last words").unwrap();
        drop(client);
        rig.idle(20);
        assert_eq!((rig.received(conn).len(), rig.ended(conn)), (0, 0));
        rig.driver.recv(conn, true);
        rig.until("end", |r| r.ended(conn) == 1);
        assert_eq!(rig.received(conn), b"last words");
        rig.driver.recv(conn, true);
        rig.idle(10);
        assert_eq!(rig.ended(conn), 1);
    }

    fn eof_right_behind_data_is_seen(rig in small()) {
        // Data and FIN are there before the first read: one edge for both.
        for octets in [1, 4095, 4096, 4097, 50_000] {
            let (mut client, conn) = rig.client();
            client.write_all(&pattern(octets)).unwrap();
            drop(client);
            std::thread::sleep(Duration::from_millis(5));
            rig.driver.recv(conn, true);
            rig.until("end", |r| r.ended(conn) == 1);
            assert!(rig.received(conn) == pattern(octets));
            assert!(matches!(rig.ends[&conn][0], End::Eof));
            rig.driver.close(conn, Close::Graceful);
        }
        rig.assert_clean();
    }

    fn a_reset_is_reported_once(rig in small()) {
        let (client, conn) = rig.client();
        rig.driver.recv(conn, true);
        rig.idle(5);
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        rig.until("end", |r| r.ended(conn) == 1);
        rig.idle(20);
        assert_eq!(rig.ended(conn), 1);
        match &rig.ends[&conn][0] {
            End::Failed(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
            End::Eof => panic!("a reset is not an end of file"),
        }
        rig.driver.send(conn, Chain::from(b"into the void".to_vec()));
        rig.until("sent", |r| r.sent.len() == 1);
        assert!(rig.sent[0].2.is_err());
        rig.driver.close(conn, Close::Graceful);
        rig.assert_clean();
    }

    fn half_closed_clients_get_their_answer(rig in small()) {
        let (mut client, conn) = rig.client();
        rig.driver.recv(conn, true);
        client.write_all(b"QUIT\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        rig.until("end", |r| r.ended(conn) == 1);
        rig.driver.send(conn, Chain::from(b"221 bye\r\n".to_vec()));
        rig.driver.close(conn, Close::Graceful);
        rig.until("closed", |r| r.closed == [conn]);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "221 bye\r\n");
        rig.assert_clean();
    }

    fn urgent_data_does_not_stall_a_connection(rig in small()) {
        let (client, conn) = rig.client();
        rig.driver.recv(conn, true);
        rig.idle(5);
        (&client).write_all(b"before").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        (&client).write_all(b"after").unwrap();
        rig.until("what stands behind the mark", |r| r.received(conn).ends_with(b"after"));
        assert!(rig.received(conn).starts_with(b"before"));
    }

    fn connecting_and_talking(rig in small()) {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let conn = rig.driver.connect(to, Some("127.0.0.2".parse().unwrap())).unwrap();
        rig.driver.recv(conn, true);
        rig.driver.send(conn, Chain::from(b"early".to_vec()));
        rig.turn(Some(Duration::ZERO));
        let (mut there, from) = peer.accept().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        there.write_all(b"220 ready\r\n").unwrap();
        rig.until("greeting", |r| r.received(conn) == b"220 ready\r\n");
        assert_eq!(rig.connected.len(), 1);
        assert!(rig.connected[0].1.is_ok());
        rig.until("sent", |r| r.sent.len() == 1);
        let mut text = [0; 5];
        there.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"early");
        rig.driver.close(conn, Close::Graceful);
        rig.assert_clean();
    }

    fn a_refused_connect_says_so(rig in small()) {
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conn = rig.driver.connect(to, None).unwrap();
        rig.driver.send(conn, Chain::from(b"EHLO".to_vec()));
        rig.until("answer", |r| r.connected.len() == 1 && r.sent.len() == 1);
        let error = rig.connected[0].1.as_ref().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(rig.sent[0].2.is_err());
        rig.driver.close(conn, Close::Graceful);
        rig.until("closed", |r| r.closed == [conn]);
        rig.assert_clean();
    }

    fn closing_during_a_connect(rig in small()) {
        // TEST-NET-1: unreachable, or silent until the kernel gives up.
        let conn = rig.driver.connect("192.0.2.1:25".parse().unwrap(), None).unwrap();
        rig.turn(Some(Duration::ZERO));
        rig.driver.close(conn, Close::Reset);
        rig.until("closed", |r| r.closed == [conn]);
        rig.assert_clean();
    }

    fn a_graceful_close_finishes_the_open_send(rig in small()) {
        let (mut client, conn) = rig.client();
        let text = pattern(5_000_000);
        rig.driver.recv(conn, true);
        rig.driver.send(conn, Chain::from(text.clone()));
        rig.turn(Some(Duration::ZERO));
        rig.driver.close(conn, Close::Graceful);
        rig.idle(20);
        assert!(rig.closed.is_empty(), "five megabytes do not fit into a socket");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all)
        });
        rig.until("closed", |r| r.closed == [conn]);
        assert!(reader.join().unwrap().unwrap() == text);
        assert!(rig.sent.is_empty(), "no report after close");
        rig.assert_clean();
    }

    fn a_reset_abandons_the_open_send(rig in small()) {
        let (mut client, conn) = rig.client();
        rig.driver.send(conn, Chain::from(pattern(8_000_000)));
        rig.turn(Some(Duration::ZERO));
        rig.driver.close(conn, Close::Graceful);
        rig.idle(5);
        rig.driver.close(conn, Close::Reset);
        rig.until("closed", |r| r.closed == [conn]);
        let error = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(rig.sent.is_empty());
        rig.assert_clean();
    }

    fn closing_an_armed_receive(rig in small()) {
        let (mut client, conn) = rig.client();
        rig.driver.recv(conn, true);
        rig.idle(5);
        client.write_all(b"never read").unwrap();
        rig.driver.close(conn, Close::Graceful);
        rig.driver.close(conn, Close::Reset); // too late, ignored or sharpened, never a second Closed
        rig.until("closed", |r| r.closed == [conn]);
        rig.idle(10);
        assert_eq!(rig.ended(conn), 0);
        assert!(rig.received(conn).is_empty());
        rig.assert_clean();
    }

    fn a_farewell_is_not_lost_over_unread_data(rig in small()) {
        // An early talker that is turned away: what it said must not turn our 421 into a reset.
        let (mut client, conn) = rig.client();
        client.write_all(b"EHLO early.example\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(5));
        rig.driver.send(conn, Chain::from(b"421 later\r\n".to_vec()));
        rig.driver.close(conn, Close::Graceful);
        rig.until("closed", |r| r.closed == [conn]);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "421 later\r\n");
    }

    fn stale_ids_are_ignored(rig in small()) {
        let (first, old) = rig.client();
        rig.driver.close(old, Close::Graceful);
        rig.until("closed", |r| r.closed == [old]);
        drop(first);
        let (mut second, new) = rig.client();
        assert_eq!((old.index, old.generation + 1), (new.index, new.generation));
        rig.driver.recv(old, true);
        rig.driver.send(old, Chain::from(b"wrong".to_vec()));
        rig.driver.close(old, Close::Reset);
        second.write_all(b"x").unwrap();
        rig.idle(20);
        assert!(rig.received(new).is_empty() && rig.sent.is_empty() && rig.closed == [old]);
        rig.driver.recv(new, true);
        rig.until("data", |r| r.received(new) == b"x");
    }

    fn the_slot_is_not_reused_before_closed(rig in small()) {
        let (_client, conn) = rig.client();
        let pair = TcpListener::bind("127.0.0.1:0").unwrap();
        rig.driver.close(conn, Close::Reset);
        let other = rig.driver.adopt(TcpStream::connect(pair.local_addr().unwrap()).unwrap()).unwrap();
        assert_ne!(conn.index, other.index);
        rig.until("closed", |r| r.closed == [conn]);
    }

    fn two_buffers_serve_fifty_connections(rig in ReactorKnobs { recv_buffers: 2, ..small() }) {
        rig.keep = true;
        let mut clients: Vec<_> = (0..50).map(|_| rig.client()).collect();
        let text = pattern(20_000);
        for (client, conn) in &mut clients {
            client.write_all(&text).unwrap();
            rig.driver.recv(*conn, true);
        }
        rig.idle(30);
        assert_eq!(rig.kept.len(), 2, "both buffers are on loan");
        assert!(rig.driver.counters().enobufs > 0);
        assert!(rig.ends.is_empty(), "a missing buffer is no error of a connection");
        rig.kept.remove(0);
        rig.until("one more", |r| r.kept.len() == 2);
        rig.keep = false;
        rig.kept.clear();
        rig.until("everything", |r| r.data.values().map(Vec::len).sum::<usize>() == 50 * text.len());
        assert!(rig.data.values().all(|d| *d == text));
        clients.iter().for_each(|(_, conn)| rig.driver.close(*conn, Close::Graceful));
        rig.assert_clean();
    }

    fn idle_connections_hold_no_buffer(rig in ReactorKnobs { recv_buffers: 2, ..small() }) {
        let mut clients: Vec<_> = (0..40).map(|_| rig.client()).collect();
        clients.iter().for_each(|(_, conn)| rig.driver.recv(*conn, true));
        rig.idle(10);
        assert_eq!(rig.driver.counters().buffers_on_loan, 0);
        let (last, conn) = &mut clients[39];
        let conn = *conn;
        last.write_all(b"hello").unwrap();
        rig.until("data", |r| r.received(conn) == b"hello");
        assert_eq!(rig.driver.counters().enobufs, 0);
    }

    fn parked_data_holds_no_buffer(rig in ReactorKnobs { recv_buffers: 2, ..small() }) {
        // Slow connections must not starve the one that would set them free.
        let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
        for (client, conn) in &mut clients {
            rig.driver.recv(*conn, true);
            rig.turn(Some(Duration::ZERO));
            client.write_all(&pattern(3000)).unwrap();
            rig.driver.recv(*conn, false);
        }
        rig.idle(10);
        assert_eq!(rig.driver.counters().buffers_on_loan, 0);
        let (mut client, conn) = rig.client();
        rig.driver.recv(conn, true);
        client.write_all(b"go").unwrap();
        rig.until("data", |r| r.received(conn) == b"go");
    }

    fn another_thread_wakes_it(rig in small()) {
        let waker = rig.driver.waker();
        for _ in 0..3 {
            let waker = waker.clone();
            let start = Instant::now();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                waker.wake();
                waker.wake();
            });
            rig.turn(None);
            assert!(start.elapsed() >= Duration::from_millis(15), "it slept");
            thread.join().unwrap();
            rig.idle(2);
        }
        waker.wake();
        rig.turn(None); // a wake before the sleep is not lost
        assert!(rig.driver.counters().wakes >= 4);
    }

    fn a_timeout_is_kept(rig in small()) {
        let start = Instant::now();
        rig.turn(Some(Duration::from_millis(30)));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(29) && took < Duration::from_secs(5), "{took:?}");
    }

    fn paused_listeners_let_clients_wait(rig in small()) {
        rig.driver.pause_accept(rig.listener, true);
        rig.idle(5);
        let mut client = TcpStream::connect(rig.addr).unwrap();
        rig.idle(20);
        assert!(rig.accepted.is_empty());
        rig.driver.pause_accept(rig.listener, false);
        rig.until("accept", |r| r.accepted.len() == 1);
        rig.driver.unlisten(rig.listener);
        rig.idle(10);
        assert_eq!(TcpStream::connect(rig.addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let conn = rig.accepted[0].0;
        rig.driver.recv(conn, true);
        client.write_all(b"still here").unwrap();
        rig.until("data", |r| r.received(conn) == b"still here");
    }

    fn adopted_streams_are_like_accepted_ones(rig in small()) {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        let conn = rig.driver.adopt(elsewhere.accept().unwrap().0).unwrap();
        rig.driver.recv(conn, true);
        client.write_all(b"x").unwrap();
        rig.until("data", |r| r.received(conn) == b"x");
        rig.driver.close(conn, Close::Graceful);
        rig.assert_clean();
    }

    fn two_thousand_come_and_go(rig in small()) {
        rig.echo = true;
        let (addr, before) = (rig.addr, open_descriptors());
        let clients = std::thread::spawn(move || {
            for n in 0..2000u32 {
                let mut client = TcpStream::connect(addr).unwrap();
                match n % 5 {
                    0 => {} // says nothing
                    1 => SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap(),
                    2 => client.write_all(b"x").unwrap(), // leaves the echo unread
                    _ => {
                        client.write_all(b"hello").unwrap();
                        client.read_exact(&mut [0; 5]).unwrap();
                    }
                }
            }
        });
        rig.until("all clients", |r| clients.is_finished() && r.driver.counters().connections == 0);
        clients.join().unwrap();
        rig.idle(20);
        rig.assert_clean();
        // A client that reset before it was accepted may never be reported; the others all are.
        assert!(rig.accepted.len() >= 1600);
        assert_eq!(rig.closed.len(), rig.accepted.len());
        let slots = rig.closed.iter().map(|id| id.index).max().unwrap();
        assert!(slots < 200, "slots are reused: {slots}");
        let after = open_descriptors();
        assert!(after <= before + 40, "descriptors: {before} before, {after} after"); // other tests run beside
    }

    fn dropping_a_busy_driver(rig in small()) {
        let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
        for (client, conn) in &mut clients {
            rig.driver.recv(*conn, true);
            rig.driver.send(*conn, Chain::from(pattern(4_000_000)));
            client.write_all(b"something").unwrap();
        }
        rig.turn(Some(Duration::ZERO));
        rig.driver.connect("192.0.2.1:25".parse().unwrap(), None).unwrap();
        let start = Instant::now();
        let kept = std::mem::take(&mut rig.kept);
        drop(rig);
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(kept);
        for (mut client, _) in clients {
            // Everything that was in the socket, then an end or a reset: the socket is closed.
            while client.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {}
        }
    }
}

const FEW: &str = "GATEPOST_TEST_FEW_DESCRIPTORS";

/// Each driver in a process of its own, whose limit on open files is lowered.
#[test]
fn running_out_of_descriptors_sheds_and_recovers() {
    if let Ok(io) = std::env::var(FEW) {
        return few_descriptors(io.parse().unwrap());
    }
    for io in [Io::Epoll, Io::Uring] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["reactor::tests::running_out_of_descriptors_sheds_and_recovers", "--exact", "--nocapture"])
            .env(FEW, io.word())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        println!("{text}");
        assert!(output.status.success() && text.contains("1 passed"));
    }
}

fn few_descriptors(io: Io) {
    let knobs = ReactorKnobs { accept_pause: Duration::from_millis(50), ..small() };
    let Some(mut rig) = Rig::open(io, knobs) else { return };
    let limit = libc::rlimit { rlim_cur: 128, rlim_max: 4096 };
    // SAFETY: reads one rlimit, of a process that does nothing else.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    // Room for ten connections with both of their ends in this process, and one more client.
    let mut filler: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    filler.truncate(filler.len() - 21);
    let mut clients: Vec<_> = (0..10).map(|_| rig.client()).collect();
    let mut extra = TcpStream::connect(rig.addr).unwrap();
    extra.set_read_timeout(Some(PATIENCE)).unwrap();
    rig.until("the failure", |r| !r.refused.is_empty());
    assert_eq!(rig.refused[0].raw_os_error(), Some(libc::EMFILE));
    let mut farewell = [0; 1];
    assert!(matches!(extra.read(&mut farewell), Ok(0) | Err(_)), "hung up on, not left waiting");
    let counters = rig.driver.counters();
    assert_eq!((counters.accepts_shed, counters.connections), (1, 10));
    // It rests instead of spinning.
    let turns = counters.turns;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        rig.turn(Some(Duration::from_secs(1)));
        if rig.driver.counters().turns > turns + 20 {
            panic!("it spins");
        }
        if rig.driver.counters().turns > turns + 4 {
            break;
        }
    }
    // And goes on by itself when there is room again.
    drop(extra);
    for (_, conn) in clients.drain(5..) {
        rig.driver.close(conn, Close::Reset);
    }
    rig.until("room", |r| r.closed.len() == 5);
    let (mut client, conn) = rig.client();
    rig.driver.recv(conn, true);
    client.write_all(b"x").unwrap();
    rig.until("data", |r| r.received(conn) == b"x");
}

#[test]
fn the_choice_is_explained() {
    let (_driver, choice) = Driver::open(&ReactorKnobs { driver: Io::Epoll, ..small() }).unwrap();
    assert_eq!((choice.io, choice.to_string().as_str()), (Io::Epoll, "epoll, as configured"));
    let (_driver, choice) = Driver::open(&small()).unwrap();
    match choice.io {
        Io::Uring => assert!(choice.reason.starts_with("io_uring ("), "{choice}"),
        _ => assert!(choice.reason.ends_with(": using epoll"), "{choice}"),
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
