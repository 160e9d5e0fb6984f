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

mod listeners;
mod receiving;
mod sending;

use crate::base::id::{Slot, Slots};
use crate::reactor::accept::{Listener, RESTING, Valve};
use crate::reactor::marks::Marks;
use crate::reactor::outgoing::Outgoing;
use crate::reactor::pool::Pool;
use crate::reactor::ring::{BufferRing, Ring, probe};
use crate::reactor::socket::{discard, outgoing_socket};
use crate::reactor::{Close, Counters, Done, End, Id, ReactorKnobs, Waker};
use io_uring::{cqueue, opcode, squeue, types};
use socket2::{SockAddr, SockRef};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, TcpStream};
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

// An idle connection costs no more than its place in the table.
const _: () = assert!(size_of::<(u32, Option<Entry>)>() <= 64);

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
    #[allow(clippy::vec_box)] // the boxes are what is spared: the kernel needs a fixed address
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
    pub(in crate::reactor) fn open(knobs: &ReactorKnobs) -> Result<(Uring, String), String> {
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

    pub(in crate::reactor) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(in crate::reactor) fn counters(&self) -> Counters {
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

    pub(in crate::reactor) fn adopt(&mut self, stream: TcpStream) -> io::Result<Id> {
        stream.set_nodelay(true)?;
        self.counters.kernel_entries += 1;
        Ok(self.insert(stream, Phase::Open))
    }

    pub(in crate::reactor) fn connect(&mut self, to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Id> {
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

    // ---- closing

    pub(in crate::reactor) fn close(&mut self, id: Id, how: Close) {
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

    pub(in crate::reactor) fn poll(&mut self, out: &mut Vec<Done>, timeout: Option<Duration>) -> io::Result<()> {
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
