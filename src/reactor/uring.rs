//! The completion driver: io_uring with multishot accept, multishot receive from a ring of buffers, and vectored send.
//!
//! - A slot lives until every operation on it has had its last completion; so do the chain and the address an
//!   operation points to (they are boxed, and only then dropped).
//! - Closing queues the cancellations and the close together; the operations hold the socket itself, so the number may
//!   be reused at once, and everything queued earlier for it has been submitted by then.
//! - An exhausted buffer ring ends a multishot receive without F_MORE. That is no error of the connection: it is armed
//!   again when a buffer comes back, as many connections as there are buffers.
//! - Reception switched off is a cancellation at the next turn. What was delivered until it took effect is copied out
//!   of the pool, so that slow connections cannot hold buffers which faster ones need.
//! - Dropping the driver cancels everything and takes all last completions before memory is given up; should the
//!   kernel not deliver them, the memory is leaked rather than freed under it.
//!
//! How it fails: as the room says; [`Uring::open`] says in one line why io_uring is not to be had.

use super::accept::{ARMED, LEAVING, Listener, PAUSED, RESTING, Valve, is_clients_fault};
use super::marks::Marks;
use super::outgoing::Outgoing;
use super::pool::{Pool, RecvBuf};
use super::ring::{BufferRing, GROUP, Ring, probe};
use super::socket::{canonical, discard, outgoing_socket};
use super::{Close, Counters, Done, End, Id, ReactorKnobs, Waker};
use crate::base::buf::Chain;
use crate::base::id::{Slot, Slots};
use io_uring::{cqueue, opcode, squeue, types};
use socket2::{SockAddr, SockRef};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::time::{Duration, Instant};

/// Boxes for sends kept for the next ones.
const SPARE_FLIGHTS_MAX: usize = 64;
/// Longest wait while connections want a buffer and some are free.
const STARVED_WAIT_MAX: Duration = Duration::from_millis(10);
/// How long dropping waits for the kernel.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The owner wants data.
const WANTED: u8 = 1;
/// In the list of those whose reception may have to be armed or cancelled.
const DIRTY: u8 = 2;
/// Waits for a receive buffer.
const STARVED: u8 = 4;
/// RecvEnd was reported.
const ENDED: u8 = 8;
/// The open receive is being cancelled.
const CANCELLING: u8 = 16;

// Open operations of a connection.
const RECV: u8 = 1;
const SEND: u8 = 2;
const CONNECT: u8 = 4;
const CLOSE: u8 = 8;

/// What an operation is, in the top four bits of its user data; 28 bits of index and the generation follow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Recv = 1,
    Send,
    Connect,
    Close,
    Accept,
    Wake,
    Cancel,
}

impl Kind {
    const ALL: [Kind; 7] = [Kind::Recv, Kind::Send, Kind::Connect, Kind::Close, Kind::Accept, Kind::Wake, Kind::Cancel];

    fn data(self, id: Id) -> u64 {
        debug_assert!(id.index <= INDEX_MAX);
        (self as u64) << 60 | u64::from(id.index) << 32 | u64::from(id.generation)
    }

    /// The inverse of [`Kind::data`].
    fn of(data: u64) -> Option<(Kind, Id)> {
        let kind = Kind::ALL.get(usize::try_from(data >> 60).ok()?.checked_sub(1)?)?;
        Some((*kind, Slot { index: (data >> 32) as u32 & INDEX_MAX, generation: data as u32 }))
    }
}

/// A process has far fewer descriptors than this (fs.nr_open is a million by default).
const INDEX_MAX: u32 = (1 << 28) - 1;
const NOBODY: Id = Slot { index: INDEX_MAX, generation: 0 };

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Graceful close asked for; a send is open.
    Finishing,
    /// Close queued; waits for the last completions.
    Closing,
}

/// A send in flight: what the kernel reads from, at a fixed address.
struct Flight {
    out: Outgoing,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What arrived while nobody wanted it.
#[derive(Default)]
struct Parked {
    pieces: VecDeque<Box<[u8]>>,
    end: Option<End>,
}

struct Conn {
    /// `None` once the close is queued.
    stream: Option<TcpStream>,
    phase: Phase,
    marks: Marks,
    ops: Marks,
    flight: Option<Box<Flight>>,
    parked: Option<Box<Parked>>,
    /// Where a connect in flight goes: the kernel reads it late.
    to: Option<Box<SockAddr>>,
}

enum Entry {
    Conn(Conn),
    Listener(Box<Listener>),
}

/// The io_uring driver. See [`super::Driver`] for what its methods mean.
pub struct Uring {
    // Dropped in this order: the ring is closed before the memory it refers to goes.
    ring: Ring,
    buffers: Option<BufferRing>,
    entries: Slots<Entry>,
    pool: Pool,
    waker: Waker,
    /// Operations whose last completion is due.
    in_flight: u64,
    completions: Vec<cqueue::Entry>,
    /// What happened outside of `poll`, in order.
    pending: Vec<Done>,
    dirty: Vec<Id>,
    starved: VecDeque<Id>,
    spare_flights: Vec<Box<Flight>>,
    valve: Valve,
    counters: Counters,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("mode", &self.ring.mode)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// Opens the ring and proves that it can do what is needed. Both results are one line for the log.
    pub(super) fn open(knobs: &ReactorKnobs) -> Result<(Uring, String), String> {
        let count = knobs.recv_buffers.checked_next_power_of_two().unwrap_or(1 << 15);
        let pool = Pool::new(count, knobs.recv_buffer_octets)
            .map_err(|e| format!("no memory for {count} receive buffers ({e})"))?;
        let mut ring = Ring::open(knobs.ring_entries)?;
        let mut buffers = BufferRing::register(&ring, count)
            .map_err(|e| format!("io_uring of this kernel has no buffer rings (Linux 5.19; {e})"))?;
        probe(&mut ring, &mut buffers, &pool)?;
        let waker = Waker::new().map_err(|e| format!("no eventfd ({e})"))?;
        let reason = format!("io_uring ({})", ring.mode);
        let mut driver = Uring {
            ring,
            buffers: Some(buffers),
            entries: Slots::default(),
            pool,
            waker,
            in_flight: 0,
            completions: Vec::new(),
            pending: Vec::new(),
            dirty: Vec::new(),
            starved: VecDeque::new(),
            spare_flights: Vec::new(),
            valve: Valve::new(knobs.accept_pause),
            counters: Counters::default(),
        };
        driver.watch_waker();
        Ok((driver, reason))
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            kernel_entries: self.counters.kernel_entries + self.ring.enters,
            buffers_on_loan: self.pool.on_loan().into(),
            ..self.counters
        }
    }

    /// Queues an operation that will have a last completion.
    ///
    /// # Safety
    /// As [`Ring::push`].
    unsafe fn start(&mut self, entry: squeue::Entry, kind: Kind, id: Id) {
        self.in_flight += 1;
        // SAFETY: the caller's promise.
        unsafe { self.ring.push(entry.user_data(kind.data(id))) };
    }

    /// Queues the cancellation of an operation. Only its failure would complete, and says nothing new: the operation
    /// has its own last completion in any case.
    fn cancel(&mut self, kind: Kind, id: Id) {
        let entry = opcode::AsyncCancel::new(kind.data(id)).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: a cancellation points to nothing.
        unsafe { self.ring.push(entry.user_data(Kind::Cancel.data(id))) };
    }

    fn watch_waker(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.waker.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        // SAFETY: a poll points to nothing; the eventfd is open as long as the driver.
        unsafe { self.start(entry, Kind::Wake, NOBODY) };
    }

    // ---- listeners

    pub(super) fn listen(&mut self, socket: TcpListener) -> io::Result<Id> {
        let id = self.entries.insert(Entry::Listener(Box::new(Listener::new(socket)?)));
        self.arm_accept(id);
        Ok(id)
    }

    fn arm_accept(&mut self, id: Id) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        if !l.is_wanted() || l.marks.has(ARMED) {
            return;
        }
        l.marks.set(ARMED);
        let entry = opcode::AcceptMulti::new(types::Fd(l.socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: a multishot accept points to nothing; the socket is open until the entry is removed.
        unsafe { self.start(entry, Kind::Accept, id) };
    }

    pub(super) fn pause_accept(&mut self, id: Id, on: bool) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        l.marks.put(PAUSED, on);
        if !on {
            self.arm_accept(id);
        } else if l.marks.has(ARMED) {
            self.cancel(Kind::Accept, id);
        }
    }

    pub(super) fn unlisten(&mut self, id: Id) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        l.marks.set(LEAVING);
        if l.marks.has(ARMED) {
            self.cancel(Kind::Accept, id);
        } else {
            self.entries.remove(id);
        }
    }

    fn on_accept(&mut self, id: Id, result: i32, more: bool, out: &mut Vec<Done>) {
        let stream = (result >= 0).then(|| {
            // SAFETY: the kernel has just opened this descriptor for us.
            unsafe { TcpStream::from_raw_fd(result) }
        });
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        if !more {
            l.marks.clear(ARMED);
        }
        if l.marks.has(LEAVING) {
            if !more {
                self.entries.remove(id);
            }
            return;
        }
        match stream {
            Some(stream) => {
                self.counters.accepts += 1;
                self.counters.kernel_entries += 1;
                // Multishot accept leaves no room for addresses. A client that is gone already has none.
                if let (Ok(peer), Ok(local)) = (stream.peer_addr(), l.local_of(&stream)) {
                    let conn = self.insert(stream, Phase::Open);
                    out.push(Done::Accepted { listener: id, conn, peer: canonical(peer), local });
                }
            }
            None => {
                let error = io::Error::from_raw_os_error(-result);
                let harmless = is_clients_fault(&error) || matches!(-result, libc::ECANCELED | libc::EAGAIN);
                if !harmless && !l.marks.has(RESTING) {
                    self.counters.accept_failures += 1;
                    self.counters.accepts_shed += u64::from(self.valve.rest(id, l, &error));
                    out.push(Done::AcceptFailed { listener: id, error });
                }
            }
        }
        if !more {
            self.arm_accept(id);
        }
    }

    // ---- connections

    fn insert(&mut self, stream: TcpStream, phase: Phase) -> Id {
        self.counters.connections += 1;
        self.entries.insert(Entry::Conn(Conn {
            stream: Some(stream),
            phase,
            marks: Marks::default(),
            ops: Marks::default(),
            flight: None,
            parked: None,
            to: None,
        }))
    }

    pub(super) fn adopt(&mut self, stream: TcpStream) -> io::Result<Id> {
        stream.set_nodelay(true)?;
        self.counters.kernel_entries += 1;
        Ok(self.insert(stream, Phase::Open))
    }

    pub(super) fn connect(&mut self, to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Id> {
        let socket = outgoing_socket(to, bind)?;
        self.counters.connects += 1;
        self.counters.kernel_entries += 2;
        let id = self.insert(socket.into(), Phase::Connecting);
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return Ok(id) };
        let Some(stream) = &conn.stream else { return Ok(id) };
        conn.ops.set(CONNECT);
        let to = conn.to.insert(Box::new(to.into()));
        let entry = opcode::Connect::new(types::Fd(stream.as_raw_fd()), to.as_ptr().cast(), to.len()).build();
        // SAFETY: the address is boxed and stays in the entry until the connect has completed.
        unsafe { self.start(entry, Kind::Connect, id) };
        Ok(id)
    }

    /// The connection, unless it is closing.
    fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        match self.entries.get_mut(id) {
            Some(Entry::Conn(conn)) if conn.phase != Phase::Closing => Some(conn),
            _ => None,
        }
    }

    fn on_connect(&mut self, id: Id, result: i32, out: &mut Vec<Done>) {
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return };
        conn.ops.clear(CONNECT);
        conn.to = None;
        if conn.phase != Phase::Connecting {
            return self.release(id, out);
        }
        conn.phase = Phase::Open;
        out.push(Done::Connected { conn: id, result: outcome(result) });
        if result < 0 {
            if conn.flight.is_some() {
                self.sent(id, Err(io::Error::from_raw_os_error(-result)), out);
            }
            return;
        }
        if conn.flight.is_some() {
            self.push_send(id);
        }
        self.touch(id);
    }

    // ---- receiving

    pub(super) fn recv(&mut self, id: Id, on: bool) {
        let Some(conn) = self.conn(id) else { return };
        if conn.phase == Phase::Finishing || conn.marks.has(ENDED) {
            return;
        }
        conn.marks.put(WANTED, on);
        self.touch(id);
    }

    /// Has the connection's reception looked at when the next turn begins.
    fn touch(&mut self, id: Id) {
        if let Some(conn) = self.conn(id)
            && !conn.marks.has(DIRTY)
        {
            conn.marks.set(DIRTY);
            self.dirty.push(id);
        }
    }

    /// Makes the reception what its owner wants it to be.
    fn settle(&mut self, id: Id, out: &mut Vec<Done>) {
        let Some(conn) = self.conn(id) else { return };
        conn.marks.clear(DIRTY);
        if matches!(conn.phase, Phase::Connecting | Phase::Finishing) || conn.marks.has(ENDED) {
            return;
        }
        let armed = conn.ops.has(RECV);
        if !conn.marks.has(WANTED) {
            if armed && !conn.marks.has(CANCELLING) {
                conn.marks.set(CANCELLING);
                self.cancel(Kind::Recv, id);
            }
            return;
        }
        if let Some(parked) = conn.parked.take() {
            let buf = |piece| Done::Recv { conn: id, buf: RecvBuf::copied(piece) };
            out.extend(parked.pieces.into_iter().map(buf));
            if let Some(why) = parked.end {
                conn.marks.set(ENDED);
                out.push(Done::RecvEnd { conn: id, why });
                return;
            }
        }
        if !armed && !conn.marks.has(STARVED) {
            self.arm_recv(id);
        }
    }

    fn arm_recv(&mut self, id: Id) {
        let Some(Conn { stream: Some(stream), ops, .. }) = self.conn(id) else { return };
        debug_assert!(!ops.has(RECV));
        ops.set(RECV);
        let entry = opcode::RecvMulti::new(types::Fd(stream.as_raw_fd()), GROUP).build();
        // SAFETY: the kernel writes into buffers of the ring only; those are mapped until the ring is closed.
        unsafe { self.start(entry, Kind::Recv, id) };
    }

    fn on_recv(&mut self, id: Id, result: i32, flags: u32, out: &mut Vec<Done>) {
        // Whoever asked for it, the buffer is ours again: as a loan that returns by itself.
        let buf = cqueue::buffer_select(flags).map(|bid| self.pool.lend(bid, usize::try_from(result).unwrap_or(0)));
        let more = cqueue::more(flags);
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return };
        if !more {
            conn.ops.clear(RECV);
            conn.marks.clear(CANCELLING);
        }
        if matches!(conn.phase, Phase::Finishing | Phase::Closing) {
            return self.release(id, out);
        }
        if let Some(buf) = buf.filter(|b| !b.is_empty()) {
            self.counters.recvs += 1;
            self.counters.recv_octets += buf.len() as u64;
            if conn.marks.has(WANTED) {
                out.push(Done::Recv { conn: id, buf });
            } else {
                self.counters.parked_octets += buf.len() as u64;
                conn.parked.get_or_insert_default().pieces.push_back(buf[..].into());
            }
        }
        if !more {
            self.on_recv_over(id, result, out);
        }
    }

    /// A multishot receive has come to its end with `result`.
    fn on_recv_over(&mut self, id: Id, result: i32, out: &mut Vec<Done>) {
        let Some(conn) = self.conn(id) else { return };
        let why = match -result {
            libc::ENOBUFS => {
                conn.marks.set(STARVED);
                self.starved.push_back(id);
                self.counters.enobufs += 1;
                return;
            }
            // Cancelled because it was switched off (it may be on again), or ended by a full completion queue.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return self.touch(id),
            _ if result > 0 => return self.touch(id),
            0 => End::Eof,
            errno => End::Failed(io::Error::from_raw_os_error(errno)),
        };
        if conn.marks.has(WANTED) {
            conn.marks.set(ENDED);
            out.push(Done::RecvEnd { conn: id, why });
        } else {
            conn.parked.get_or_insert_default().end = Some(why);
        }
    }

    /// Arms as many of the connections that wait for buffers as there are buffers.
    fn feed_starved(&mut self) {
        let n = self.starved.len().min(self.pool.available() as usize);
        for id in self.starved.drain(..n).collect::<Vec<_>>() {
            if let Some(conn) = self.conn(id) {
                conn.marks.clear(STARVED);
                self.touch(id);
            }
        }
    }

    // ---- sending

    pub(super) fn send(&mut self, id: Id, chain: Chain) {
        let Some(conn) = self.conn(id) else { return };
        debug_assert!(conn.flight.is_none(), "one chain may be open per connection");
        if conn.phase == Phase::Finishing {
            return;
        }
        let connecting = conn.phase == Phase::Connecting;
        self.counters.sends += 1;
        if chain.is_empty() {
            self.pending.push(Done::Sent { conn: id, octets: 0, result: Ok(()) });
            return;
        }
        let out = Outgoing::new(chain);
        let flight = match self.spare_flights.pop() {
            Some(mut spare) => {
                spare.out = out;
                spare
            }
            // SAFETY: a msghdr is integers and pointers, for which all zero is a value (nothing).
            None => Box::new(Flight { out, slices: Vec::new(), header: unsafe { mem::zeroed() } }),
        };
        if let Some(conn) = self.conn(id) {
            conn.flight = Some(flight);
        }
        if !connecting {
            self.push_send(id);
        }
    }

    /// Queues what is left of the open chain. MSG_WAITALL has the kernel finish partial writes by itself.
    fn push_send(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else { return };
        let (Some(stream), Some(flight)) = (&conn.stream, &mut conn.flight) else { return };
        conn.ops.set(SEND);
        let fd = types::Fd(stream.as_raw_fd());
        let Flight { out, slices, header } = &mut **flight;
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let single = if out.pieces_len() == 1 { out.pieces().next() } else { None };
        let entry = match single {
            Some(piece) => {
                let octets = piece.len().min(i32::MAX as usize) as u32;
                opcode::Send::new(fd, piece.as_ptr(), octets).flags(flags).build()
            }
            None => {
                slices.clear();
                slices.extend(
                    out.pieces()
                        .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() }),
                );
                header.msg_iov = slices.as_mut_ptr();
                header.msg_iovlen = slices.len();
                opcode::SendMsg::new(fd, header).flags(flags as u32).build()
            }
        };
        // SAFETY: header, slices and chain are in the boxed flight, which is neither changed nor dropped before the
        // completion; segments own or share their octets.
        unsafe { self.start(entry, Kind::Send, id) };
    }

    fn on_send(&mut self, id: Id, result: i32, out: &mut Vec<Done>) {
        let Some(Entry::Conn(conn)) = self.entries.get_mut(id) else { return };
        conn.ops.clear(SEND);
        let Some(flight) = &mut conn.flight else { return };
        if let Ok(octets) = usize::try_from(result) {
            self.counters.sent_octets += octets as u64;
            flight.out.advance(octets);
        }
        if conn.phase == Phase::Closing {
            conn.flight = None;
            return self.release(id, out);
        }
        let result = match -result {
            _ if flight.out.is_done() => Ok(()),
            libc::EINTR | libc::EAGAIN => return self.push_send(id),
            0 => Err(io::ErrorKind::WriteZero.into()),
            errno @ 1.. => Err(io::Error::from_raw_os_error(errno)),
            _ => {
                self.counters.send_waits += 1;
                return self.push_send(id);
            }
        };
        self.sent(id, result, out);
    }

    /// The open chain is done with: reports it, or goes on closing.
    fn sent(&mut self, id: Id, result: io::Result<()>, out: &mut Vec<Done>) {
        let Some(conn) = self.conn(id) else { return };
        let Some(mut flight) = conn.flight.take() else { return };
        let octets = flight.out.taken();
        if conn.phase == Phase::Finishing {
            self.depart(id, Close::Graceful);
        } else {
            out.push(Done::Sent { conn: id, octets, result });
        }
        if self.spare_flights.len() < SPARE_FLIGHTS_MAX {
            flight.out = Outgoing::new(Chain::new());
            self.spare_flights.push(flight);
        }
    }

    // ---- closing

    pub(super) fn close(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conn(id) else { return };
        if how == Close::Graceful && conn.ops.has(SEND) {
            conn.phase = Phase::Finishing;
            conn.marks.clear(WANTED);
            conn.parked = None;
            return;
        }
        self.depart(id, how);
    }

    /// Queues the end of every open operation, and the close.
    fn depart(&mut self, id: Id, how: Close) {
        let Some(conn) = self.conn(id) else { return };
        let Some(stream) = conn.stream.take() else { return };
        let idle = !conn.ops.has(RECV) && !conn.marks.has(ENDED);
        conn.phase = Phase::Closing;
        conn.parked = None;
        let ops = conn.ops;
        conn.ops.set(CLOSE);
        if !ops.has(SEND) {
            conn.flight = None;
        }
        self.counters.connections -= 1;
        match how {
            Close::Graceful if idle => self.counters.kernel_entries += discard(&stream),
            Close::Graceful => {}
            Close::Reset => {
                self.counters.kernel_entries += 1;
                // Fails only on a socket that is broken anyway.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        }
        for (op, kind) in [(RECV, Kind::Recv), (SEND, Kind::Send), (CONNECT, Kind::Connect)] {
            if ops.has(op) {
                self.cancel(kind, id);
            }
        }
        let entry = opcode::Close::new(types::Fd(stream.into_raw_fd())).build();
        // SAFETY: a close points to nothing, and owns the descriptor from here on.
        unsafe { self.start(entry, Kind::Close, id) };
    }

    /// Gives the slot back once nothing is open on it.
    fn release(&mut self, id: Id, out: &mut Vec<Done>) {
        if let Some(Entry::Conn(conn)) = self.entries.get(id)
            && conn.phase == Phase::Closing
            && conn.ops == Marks::default()
        {
            self.entries.remove(id);
            out.push(Done::Closed { conn: id });
        }
    }

    fn on_close(&mut self, id: Id, out: &mut Vec<Done>) {
        if let Some(Entry::Conn(conn)) = self.entries.get_mut(id) {
            conn.ops.clear(CLOSE);
        }
        self.release(id, out);
    }

    // ---- the turn

    pub(super) fn poll(&mut self, out: &mut Vec<Done>, timeout: Option<Duration>) -> io::Result<()> {
        let before = out.len();
        self.counters.turns += 1;
        self.hand_out(out);
        for id in self.valve.rested() {
            if let Some(Entry::Listener(l)) = self.entries.get_mut(id) {
                l.marks.clear(RESTING);
            }
            self.arm_accept(id);
        }
        if let Some(buffers) = &mut self.buffers {
            buffers.refill(&self.pool);
        }
        self.feed_starved();
        let mut dirty = mem::take(&mut self.dirty);
        dirty.drain(..).for_each(|id| self.settle(id, out));
        self.dirty = dirty;
        let wait = if out.len() > before {
            Some(Duration::ZERO)
        } else if !self.starved.is_empty() && self.pool.available() > 0 {
            // Those just armed will bring news, unless their data was taken back (a reset): do not sleep on it.
            Some(timeout.map_or(STARVED_WAIT_MAX, |t| t.min(STARVED_WAIT_MAX)))
        } else {
            self.valve.cut(timeout)
        };
        self.ring.enter(wait)?;
        let mut completions = mem::take(&mut self.completions);
        self.ring.completions(&mut completions);
        completions.drain(..).for_each(|cqe| self.handle(&cqe, out));
        self.completions = completions;
        self.hand_out(out);
        Ok(())
    }

    /// Moves what happened outside of the turn to `out`.
    fn hand_out(&mut self, out: &mut Vec<Done>) {
        let entries = &self.entries;
        let alive = |id: &Id| matches!(entries.get(*id), Some(Entry::Conn(c)) if !matches!(c.phase, Phase::Finishing | Phase::Closing));
        out.extend(self.pending.drain(..).filter(|done| match done {
            Done::Sent { conn, .. } => alive(conn),
            _ => true,
        }));
    }

    fn handle(&mut self, cqe: &cqueue::Entry, out: &mut Vec<Done>) {
        let (data, result, flags) = (cqe.user_data(), cqe.result(), cqe.flags());
        let Some((kind, id)) = Kind::of(data) else { return };
        let more = cqueue::more(flags);
        if !more && kind != Kind::Cancel {
            self.in_flight -= 1;
        }
        match kind {
            Kind::Recv => self.on_recv(id, result, flags, out),
            Kind::Send => self.on_send(id, result, out),
            Kind::Connect => self.on_connect(id, result, out),
            Kind::Close => self.on_close(id, out),
            Kind::Accept => self.on_accept(id, result, more, out),
            Kind::Cancel => {}
            Kind::Wake => {
                self.waker.answer();
                self.counters.wakes += 1;
                if !more {
                    self.watch_waker();
                }
            }
        }
    }
}

impl Uring {
    /// Cancels everything and takes every last completion; false when the kernel does not deliver them in time.
    fn drain(&mut self) -> bool {
        let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(Kind::Cancel.data(NOBODY));
        // SAFETY: a cancellation points to nothing.
        unsafe { self.ring.push(entry) };
        let deadline = Instant::now() + DRAIN_MAX;
        let mut completions = mem::take(&mut self.completions);
        while self.in_flight > 0 {
            if self.ring.enter(Some(Duration::from_millis(20))).is_err() || Instant::now() > deadline {
                return false;
            }
            self.ring.completions(&mut completions);
            for cqe in completions.drain(..) {
                let Some((kind, _)) = Kind::of(cqe.user_data()) else { continue };
                if kind == Kind::Accept && cqe.result() >= 0 {
                    // SAFETY: the kernel has just opened this descriptor for us; it is closed here.
                    drop(unsafe { TcpStream::from_raw_fd(cqe.result()) });
                }
                if kind != Kind::Cancel && !cqueue::more(cqe.flags()) {
                    self.in_flight -= 1;
                }
            }
        }
        true
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !self.drain() {
            // The kernel may still write to the buffers and read from the chains: they stay for ever.
            Box::leak(Box::new((mem::take(&mut self.entries), self.pool.clone(), self.buffers.take())));
        }
    }
}

/// The result of an operation that returns nothing.
fn outcome(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}
