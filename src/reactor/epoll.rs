//! The readiness driver: epoll through mio, edge-triggered, completions made by doing the call when it can succeed.
//!
//! - A connection is registered at its first `recv`; writability is asked for once, when a send first finds the socket
//!   full. Calls carry MSG_DONTWAIT, so descriptors need no fcntl.
//! - A read that does not fill its buffer has emptied the socket and ends the connection's turn: the next octet is a
//!   new edge. Two cases break that rule and are told by the event itself: an end of stream behind the data
//!   (EPOLLRDHUP), and urgent data, at whose mark a read stops short (EPOLLPRI). Then the socket is read until it is
//!   empty.
//! - A connection fills [`ReactorKnobs::reads_per_turn`] buffers and goes to the end of the line; likewise a listener.
//!
//! How it fails: as the room says. It uses no `unsafe`.

use super::accept::{ARMED, Listener, PAUSED, RESTING, Valve, is_clients_fault};
use super::marks::Marks;
use super::outgoing::{Outgoing, SLICES_MAX};
use super::pool::Pool;
use super::socket::{canonical, discard, outgoing_socket};
use super::{Close, Counters, Done, End, Id, ReactorKnobs, Waker};
use crate::base::buf::Chain;
use crate::base::id::{Slot, Slots};
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use socket2::SockRef;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Events taken from the kernel per turn.
const EVENTS_MAX: usize = 1024;
const WAKE: Token = Token(usize::MAX);
// A token carries index and generation.
const _: () = assert!(usize::BITS >= 64, "the drivers are written for 64-bit machines");

/// The owner wants data.
const WANTED: u8 = 1;
/// The kernel reported data that has not been read to its end.
const READABLE: u8 = 2;
/// A short read does not mean empty: read until EAGAIN or the end.
const DRAIN: u8 = 4;
/// In the line of those to be read.
const QUEUED: u8 = 8;
/// RecvEnd was reported.
const ENDED: u8 = 16;
/// Registered for reading.
const WATCHES_READ: u8 = 32;
/// Registered for writing.
const WATCHES_WRITE: u8 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Graceful close asked for; a send is open.
    Finishing,
    /// The socket is closed; `Closed` is yet to be reported.
    Gone,
}

struct Conn {
    /// `None` once closed.
    stream: Option<TcpStream>,
    phase: Phase,
    marks: Marks,
    out: Option<Box<Outgoing>>,
}

enum Entry {
    Conn(Conn),
    Listener(Box<Listener>),
}

// An idle connection costs no more than its place in the table.
const _: () = assert!(size_of::<(u32, Option<Entry>)>() <= 64);

/// The epoll driver. See [`super::Driver`] for what its methods mean.
pub struct Epoll {
    poll: mio::Poll,
    events: Events,
    waker: Waker,
    entries: Slots<Entry>,
    pool: Pool,
    /// What happened outside of `poll`, in order.
    pending: Vec<Done>,
    /// Connections that have data and want it.
    readers: VecDeque<Id>,
    /// Listeners that may have clients waiting.
    acceptors: VecDeque<Id>,
    /// Connections whose slots are given back at the next turn.
    gone: Vec<Id>,
    valve: Valve,
    /// The last turn did not enter the kernel.
    told_only: bool,
    accepts_per_turn: u32,
    reads_per_turn: u32,
    counters: Counters,
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Epoll {
    pub(super) fn open(knobs: &ReactorKnobs) -> io::Result<Epoll> {
        let poll = mio::Poll::new()?;
        let waker = Waker::new()?;
        poll.registry().register(&mut SourceFd(&waker.as_raw_fd()), WAKE, Interest::READABLE)?;
        Ok(Epoll {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker,
            entries: Slots::default(),
            pool: Pool::new(knobs.recv_buffers, knobs.recv_buffer_octets)?,
            pending: Vec::new(),
            readers: VecDeque::new(),
            acceptors: VecDeque::new(),
            gone: Vec::new(),
            valve: Valve::new(knobs.accept_pause),
            told_only: false,
            accepts_per_turn: knobs.accepts_per_turn,
            reads_per_turn: knobs.reads_per_turn,
            counters: Counters::default(),
        })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn counters(&self) -> Counters {
        Counters { buffers_on_loan: self.pool.on_loan().into(), ..self.counters }
    }

    // ---- listeners

    pub(super) fn listen(&mut self, socket: TcpListener) -> io::Result<Id> {
        let id = self.entries.insert(Entry::Listener(Box::new(Listener::new(socket)?)));
        let Some(Entry::Listener(l)) = self.entries.get(id) else { unreachable!("inserted above") };
        self.counters.kernel_entries += 1;
        let fd = l.socket.as_raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token(id), Interest::READABLE) {
            self.entries.remove(id);
            return Err(error);
        }
        Ok(id)
    }

    pub(super) fn pause_accept(&mut self, id: Id, on: bool) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        l.marks.put(PAUSED, on);
        self.queue_acceptor(id);
    }

    pub(super) fn unlisten(&mut self, id: Id) {
        if let Some(Entry::Listener(_)) = self.entries.get(id) {
            self.entries.remove(id);
            self.counters.kernel_entries += 1;
        }
    }

    /// Lines the listener up: its edge may have passed unused.
    fn queue_acceptor(&mut self, id: Id) {
        if let Some(Entry::Listener(l)) = self.entries.get_mut(id)
            && l.is_wanted()
            && !l.marks.has(ARMED)
        {
            l.marks.set(ARMED);
            self.acceptors.push_back(id);
        }
    }

    fn run_acceptors(&mut self, out: &mut Vec<Done>) {
        for _ in 0..self.acceptors.len() {
            let Some(id) = self.acceptors.pop_front() else { return };
            let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { continue };
            l.marks.clear(ARMED);
            if l.is_wanted() && self.accept_some(id, out) {
                self.queue_acceptor(id);
            }
        }
    }

    /// Accepts a turn's worth; true when there may be more.
    fn accept_some(&mut self, id: Id, out: &mut Vec<Done>) -> bool {
        for _ in 0..self.accepts_per_turn {
            let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return false };
            self.counters.kernel_entries += 1;
            let (stream, peer) = match l.socket.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if is_clients_fault(&e) => continue,
                Err(error) => {
                    self.counters.accept_failures += 1;
                    self.counters.accepts_shed += u64::from(self.valve.rest(id, l, &error));
                    out.push(Done::AcceptFailed { listener: id, error });
                    return false;
                }
            };
            // A client that is gone already has no address.
            let Ok(local) = l.local_of(&stream) else { continue };
            self.counters.accepts += 1;
            let conn = self.insert(stream, Phase::Open);
            out.push(Done::Accepted { listener: id, conn, peer: canonical(peer), local });
        }
        true
    }

    // ---- connections

    fn insert(&mut self, stream: TcpStream, phase: Phase) -> Id {
        self.counters.connections += 1;
        self.entries.insert(Entry::Conn(Conn { stream: Some(stream), phase, marks: Marks::default(), out: None }))
    }

    pub(super) fn adopt(&mut self, stream: TcpStream) -> io::Result<Id> {
        stream.set_nodelay(true)?;
        self.counters.kernel_entries += 1;
        Ok(self.insert(stream, Phase::Open))
    }

    pub(super) fn connect(&mut self, to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Id> {
        let socket = outgoing_socket(to, bind)?;
        socket.set_nonblocking(true)?;
        self.counters.connects += 1;
        self.counters.kernel_entries += 5; // socket, nodelay, nonblocking, connect, epoll_ctl
        let begun = socket.connect(&to.into());
        let conn = self.insert(socket.into(), Phase::Connecting);
        let watched = match begun {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
            // Even when it stands already (loopback), the event says so in its turn.
            _ => self.watch(conn, WATCHES_WRITE),
        };
        if let Err(error) = watched {
            if let Some(conn) = self.conn(conn) {
                conn.phase = Phase::Open; // nothing will be heard of it: further calls fail by themselves
            }
            self.pending.push(Done::Connected { conn, result: Err(error) });
        }
        Ok(conn)
    }

    fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        match self.entries.get_mut(id) {
            Some(Entry::Conn(conn)) if conn.phase != Phase::Gone => Some(conn),
            _ => None,
        }
    }

    /// Adds `bits` to what the connection is registered for. The kernel reports what is ready already.
    fn watch(&mut self, id: Id, bits: u8) -> io::Result<()> {
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return Ok(()) };
        let Some(stream) = &conn.stream else { return Ok(()) };
        let is_new = !conn.marks.has(WATCHES_READ | WATCHES_WRITE);
        conn.marks.set(bits);
        // PRIORITY tells of urgent data; see the head of this file.
        let reads = Interest::READABLE | Interest::PRIORITY;
        let interest = match (conn.marks.has(WATCHES_READ), conn.marks.has(WATCHES_WRITE)) {
            (true, true) => reads | Interest::WRITABLE,
            (true, false) => reads,
            _ => Interest::WRITABLE,
        };
        self.counters.kernel_entries += 1;
        let fd = stream.as_raw_fd();
        let registry = self.poll.registry();
        if is_new {
            registry.register(&mut SourceFd(&fd), token(id), interest)
        } else {
            registry.reregister(&mut SourceFd(&fd), token(id), interest)
        }
    }

    pub(super) fn recv(&mut self, id: Id, on: bool) {
        let Some(conn) = self.conn(id) else { return };
        if conn.marks.has(ENDED) || conn.phase == Phase::Finishing {
            return;
        }
        conn.marks.put(WANTED, on);
        if !on {
            return;
        }
        if conn.phase == Phase::Open
            && !conn.marks.has(WATCHES_READ)
            && let Err(error) = self.watch(id, WATCHES_READ)
        {
            return self.end(id, End::Failed(error));
        }
        self.queue_reader(id);
    }

    fn queue_reader(&mut self, id: Id) {
        if let Some(conn) = self.conn(id)
            && conn.marks.has(WANTED)
            && conn.marks.has(READABLE)
            && !conn.marks.has(QUEUED | ENDED)
        {
            conn.marks.set(QUEUED);
            self.readers.push_back(id);
        }
    }

    /// Reports the end outside of the reading pass.
    fn end(&mut self, id: Id, why: End) {
        if let Some(conn) = self.conn(id) {
            conn.marks.set(ENDED);
            self.pending.push(Done::RecvEnd { conn: id, why });
        }
    }

    fn run_readers(&mut self, out: &mut Vec<Done>) {
        for _ in 0..self.readers.len() {
            if self.pool.available() == 0 {
                self.counters.enobufs += 1;
                return; // they keep their places until a buffer comes back
            }
            let Some(id) = self.readers.pop_front() else { return };
            self.read_some(id, out);
            self.queue_reader(id);
        }
    }

    /// Reads a turn's worth from one connection.
    fn read_some(&mut self, id: Id, out: &mut Vec<Done>) {
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return };
        conn.marks.clear(QUEUED);
        let Some(stream) = &conn.stream else { return };
        if !conn.marks.has(WANTED) {
            return;
        }
        for _ in 0..self.reads_per_turn {
            let Some(mut claim) = self.pool.claim() else { return };
            self.counters.kernel_entries += 1;
            match SockRef::from(stream).recv_with_flags(claim.space(), libc::MSG_DONTWAIT) {
                Ok(0) => {
                    conn.marks.set(ENDED);
                    out.push(Done::RecvEnd { conn: id, why: End::Eof });
                    return;
                }
                Ok(octets) => {
                    self.counters.recvs += 1;
                    self.counters.recv_octets += octets as u64;
                    out.push(Done::Recv { conn: id, buf: claim.filled(octets) });
                    if octets < self.pool.buffer_octets() && !conn.marks.has(DRAIN) {
                        conn.marks.clear(READABLE);
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    conn.marks.clear(READABLE);
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    conn.marks.set(ENDED);
                    out.push(Done::RecvEnd { conn: id, why: End::Failed(error) });
                    return;
                }
            }
        }
    }

    pub(super) fn send(&mut self, id: Id, chain: Chain) {
        let Some(conn) = self.conn(id) else { return };
        debug_assert!(conn.out.is_none(), "one chain may be open per connection");
        if conn.phase == Phase::Finishing {
            return;
        }
        let waits = conn.phase == Phase::Connecting;
        self.counters.sends += 1;
        let mut outgoing = Outgoing::new(chain);
        // The common case needs no allocation: the kernel takes all of it.
        match if waits { Ok(Progress::Full) } else { self.write(id, &mut outgoing) } {
            Ok(Progress::Done) => self.sent(id, outgoing.taken(), Ok(())),
            Ok(Progress::Full) => {
                if let Some(conn) = self.conn(id) {
                    conn.out = Some(Box::new(outgoing));
                }
                if !waits {
                    self.await_room(id);
                }
            }
            Err(error) => self.sent(id, outgoing.taken(), Err(error)),
        }
    }

    /// Asks for an edge when the socket has room again.
    fn await_room(&mut self, id: Id) {
        self.counters.send_waits += 1;
        let Some(conn) = self.conn(id) else { return };
        if !conn.marks.has(WATCHES_WRITE)
            && let Err(error) = self.watch(id, WATCHES_WRITE)
        {
            let taken = self.conn(id).and_then(|c| c.out.take()).map_or(0, |o| o.taken());
            self.sent(id, taken, Err(error));
        }
    }

    /// Offers the chain to the kernel until it is taken or the socket is full.
    fn write(&mut self, id: Id, outgoing: &mut Outgoing) -> io::Result<Progress> {
        let Some(Entry::Conn(Conn { stream: Some(stream), .. })) = self.entries.get(id) else {
            return Ok(Progress::Done);
        };
        while !outgoing.is_done() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let n = outgoing.fill(&mut slices);
            self.counters.kernel_entries += 1;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            match SockRef::from(stream).send_vectored_with_flags(&slices[..n], flags) {
                Ok(octets) => {
                    self.counters.sent_octets += octets as u64;
                    outgoing.advance(octets);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Full),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }

    /// The open chain is done with: reports it, or goes on closing.
    fn sent(&mut self, conn: Id, octets: usize, result: io::Result<()>) {
        match self.conn(conn).map(|c| c.phase) {
            Some(Phase::Finishing) => self.farewell(conn),
            Some(_) => self.pending.push(Done::Sent { conn, octets, result }),
            None => {}
        }
    }

    /// The socket has room (or is broken): goes on with the open chain.
    fn resume_send(&mut self, id: Id) {
        let Some(mut outgoing) = self.conn(id).and_then(|c| c.out.take()) else { return };
        match self.write(id, &mut outgoing) {
            Ok(Progress::Done) => self.sent(id, outgoing.taken(), Ok(())),
            Ok(Progress::Full) => {
                self.counters.send_waits += 1;
                if let Some(conn) = self.conn(id) {
                    conn.out = Some(outgoing);
                }
            }
            Err(error) => self.sent(id, outgoing.taken(), Err(error)),
        }
    }

    pub(super) fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conn(id) else { return };
        let waits = conn.out.is_some() && conn.phase != Phase::Connecting;
        match how {
            Close::Graceful if waits => {
                conn.phase = Phase::Finishing;
                conn.marks.clear(WANTED);
            }
            Close::Graceful => self.farewell(id),
            Close::Reset => {
                if let Some(stream) = &conn.stream {
                    // Fails only on a socket that is broken anyway.
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
                self.counters.kernel_entries += 1;
                self.vanish(id);
            }
        }
    }

    /// Closes in order: unread data would make the kernel send a reset, which can overtake our last reply.
    fn farewell(&mut self, id: Id) {
        if let Some(Conn { stream: Some(stream), marks, .. }) = self.conn(id)
            && (marks.has(READABLE) || !marks.has(WATCHES_READ))
            && !marks.has(ENDED)
        {
            let entries = discard(stream);
            self.counters.kernel_entries += entries;
        }
        self.vanish(id);
    }

    /// Closes the socket; the slot waits for the next turn.
    fn vanish(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else { return };
        conn.phase = Phase::Gone;
        conn.stream = None; // close(2) also ends the registration
        conn.out = None;
        self.counters.kernel_entries += 1;
        self.counters.connections -= 1;
        self.gone.push(id);
    }

    // ---- the turn

    pub(super) fn poll(&mut self, out: &mut Vec<Done>, timeout: Option<Duration>) -> io::Result<()> {
        let before = out.len();
        self.counters.turns += 1;
        self.hand_out(out);
        // What is known without the kernel is told without it, but never twice in a row: a loop that only sends must
        // not keep the others from being heard.
        let told = out.len() > before;
        self.told_only = told && !self.told_only;
        if self.told_only {
            return Ok(());
        }
        for id in self.valve.rested() {
            if let Some(Entry::Listener(l)) = self.entries.get_mut(id) {
                l.marks.clear(RESTING);
            }
            self.queue_acceptor(id);
        }
        let can_read = !self.readers.is_empty() && self.pool.available() > 0;
        let busy = told || can_read || !self.acceptors.is_empty();
        let wait = if busy { Some(Duration::ZERO) } else { self.valve.cut(timeout) };
        self.counters.kernel_entries += 1;
        match self.poll.poll(&mut self.events, wait) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            Err(_) => self.events.clear(),
            Ok(()) => {}
        }
        self.dispatch();
        self.run_acceptors(out);
        self.run_readers(out);
        self.hand_out(out);
        Ok(())
    }

    /// Moves what happened outside of the turn to `out`, and gives slots back.
    fn hand_out(&mut self, out: &mut Vec<Done>) {
        let entries = &self.entries;
        let alive = |id: &Id| matches!(entries.get(*id), Some(Entry::Conn(c)) if !matches!(c.phase, Phase::Gone | Phase::Finishing));
        out.extend(self.pending.drain(..).filter(|done| match done {
            Done::Sent { conn, .. } | Done::Connected { conn, .. } | Done::RecvEnd { conn, .. } => alive(conn),
            _ => true,
        }));
        for conn in self.gone.drain(..) {
            self.entries.remove(conn);
            out.push(Done::Closed { conn });
        }
    }

    fn dispatch(&mut self) {
        // The list is taken out for the time of the loop, which changes the driver.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == WAKE {
                self.waker.answer();
                self.counters.wakes += 1;
                continue;
            }
            let id = Slot::unpack(event.token().0 as u64);
            match self.entries.get_mut(id) {
                None => {} // closed earlier in this turn
                Some(Entry::Listener(_)) => self.queue_acceptor(id),
                Some(Entry::Conn(conn)) if conn.phase == Phase::Connecting => self.connected(id),
                Some(Entry::Conn(conn)) => {
                    let read = event.is_readable() || event.is_read_closed() || event.is_error();
                    conn.marks.put(READABLE, read || conn.marks.has(READABLE));
                    let drain = event.is_read_closed() || event.is_error() || event.is_priority();
                    conn.marks.put(DRAIN, drain || conn.marks.has(DRAIN));
                    if event.is_writable() || event.is_write_closed() || event.is_error() {
                        self.resume_send(id);
                    }
                    self.queue_reader(id);
                }
            }
        }
        self.events = events;
    }

    /// A connect has come to its end.
    fn connected(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else { return };
        let Some(stream) = &conn.stream else { return };
        let result = match stream.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        let stands = result.is_ok();
        let wanted = conn.marks.has(WANTED);
        conn.phase = Phase::Open;
        self.counters.kernel_entries += 1;
        self.pending.push(Done::Connected { conn: id, result });
        self.resume_send(id); // a chain that waited: it goes out, or fails as the connect did
        if stands && wanted {
            self.recv(id, true);
        }
    }
}

enum Progress {
    Done,
    /// The socket is full.
    Full,
}

fn token(id: Id) -> Token {
    Token(id.pack() as usize)
}
