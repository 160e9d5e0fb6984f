//! The per-core loop's lower half: one completion-style interface ([`Driver`]) over io_uring and over epoll, the
//! receive buffers of a core, listening sockets, clocks and processor binding. All `unsafe` and all system calls of
//! the hot path are in this room.
//!
//! A driver belongs to one thread. Calls ask for work and return at once; [`Driver::poll`] enters the kernel and
//! appends what has happened since ([`Done`]). Nothing calls back. The contract, the same under both drivers:
//!
//! - Buffers belong to the core. A connection that waits for data holds none; [`RecvBuf`] is a loan for the turn.
//! - A slot is reused only after [`Done::Closed`]. Calls with an [`Id`] of an earlier generation are ignored.
//! - After [`Driver::close`] the driver reports nothing about the connection but one `Closed`. What it had reported
//!   before (the rest of the batch in the caller's hands) is for the caller to skip.
//! - [`Done::RecvEnd`] comes once and after all data; [`Done::Sent`] once for every chain, unless closed before.
//! - Addresses are canonical: an IPv4 client on a dual-stack socket is reported as IPv4.
//!
//! Measured (Linux 6.18, 2 virtual CPUs, loopback, 50 connections, 32 octets in and 14 out, `benches/reactor.rs`): both
//! drivers cost the same CPU per request (io_uring 0.96 of epoll), nearly all of it TCP inside the kernel. Per request
//! epoll makes 2.5 system calls (receive, send, and a share of the wait), io_uring 0.3 to 0.6, the fewer the busier.
//! So what pays is fewer requests to the kernel per message, under either: all replies of a turn in one chain.
//!
//! How it fails: trouble of one connection is reported on that connection; running out of descriptors pauses the
//! listener; only [`Driver::open`] and a broken kernel interface in [`Driver::poll`] fail as a whole.

mod accept;
pub mod clock;
mod epoll;
pub mod inherit;
pub mod limits;
pub mod listen;
mod marks;
mod outgoing;
pub mod pin;
mod pool;
mod ring;
mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
mod uring;
mod waker;
pub mod walls;

use crate::base::buf::Chain;
use crate::{knob_words, knobs};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub use epoll::Epoll;
pub use pool::RecvBuf;
pub use uring::Uring;
pub use waker::Waker;

knob_words! {
    /// Which interface of the kernel moves the bytes.
    pub enum Io {
        /// io_uring where the kernel allows it and has what it takes, epoll elsewhere.
        Auto = "auto",
        /// io_uring; the start fails where it is not to be had.
        Uring = "uring",
        /// epoll.
        Epoll = "epoll",
    }
}

knobs! {
    /// The event loops: one per core, each with its own driver, listening sockets and receive buffers.
    pub struct ReactorKnobs in "io" {
        /// The driver: `auto` takes io_uring where the kernel allows it, otherwise epoll, and logs why.
        driver: Io = Io::Auto, unit "";
        /// Size of a receive buffer. A larger one takes more of a message body per system call.
        recv_buffer_octets: usize = 16 * 1024, unit "octets", range 512..=1024 * 1024;
        /// Receive buffers per core; connections share them. io_uring rounds up to a power of two.
        recv_buffers: u16 = 256, unit "buffers", range 2..=16384;
        /// Length of the submission queue of io_uring; the completion queue is four times as long.
        ring_entries: u32 = 1024, unit "entries", range 16..=16384;
        /// Connections accepted per listener and turn before the others have theirs (epoll).
        accepts_per_turn: u32 = 16, unit "connections", range 1..=1024;
        /// Receive buffers one connection may fill per turn before the others have theirs (epoll).
        reads_per_turn: u32 = 4, unit "buffers", range 1..=64;
        /// Connections the kernel queues per listening socket until they are accepted (also bounded by
        /// net.core.somaxconn).
        backlog: u32 = 4096, unit "connections", range 1..=65535;
        /// How long a listener rests after the process ran out of descriptors or the kernel out of memory.
        accept_pause: Duration = Duration::from_millis(100), unit "";
    }
}

/// A connection or listener of one driver. The index is dense, and reused with a new generation.
pub type Id = crate::base::id::Slot;

/// Something that happened.
#[derive(Debug)]
pub enum Done {
    /// A client came. The connection is the driver's already, TCP_NODELAY is set, and nothing is received until
    /// [`Driver::recv`] says so.
    Accepted {
        /// Where it came in.
        listener: Id,
        /// The new connection.
        conn: Id,
        /// The client.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// A listener could not accept (no descriptors, no memory). It rests for [`ReactorKnobs::accept_pause`] and goes
    /// on by itself; clients at the head of its queue were hung up on, so that they retry instead of waiting.
    AcceptFailed {
        /// Which.
        listener: Id,
        /// Why.
        error: io::Error,
    },
    /// At least one octet arrived.
    Recv {
        /// Where.
        conn: Id,
        /// What.
        buf: RecvBuf,
    },
    /// Nothing more will arrive. Sending may still work (the peer may have closed its half only).
    RecvEnd {
        /// Where.
        conn: Id,
        /// Why.
        why: End,
    },
    /// A chain is done with: the kernel took all of it, or it failed.
    Sent {
        /// Where.
        conn: Id,
        /// Octets the kernel took.
        octets: usize,
        /// Whether that is all of them.
        result: io::Result<()>,
    },
    /// Answer to [`Driver::connect`]. After a failure the connection still wants to be closed.
    Connected {
        /// Which.
        conn: Id,
        /// Whether it stands.
        result: io::Result<()>,
    },
    /// The connection is gone; the slot may be reused from now on.
    Closed {
        /// Which.
        conn: Id,
    },
}

/// Why nothing more will arrive.
#[derive(Debug)]
pub enum End {
    /// The peer closed its half in order.
    Eof,
    /// The connection broke.
    Failed(io::Error),
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// When the open send has finished. What has arrived and was not read is thrown away first, so that it does not
    /// turn the farewell into a reset.
    Graceful,
    /// Now, with a reset; an open send is abandoned. May follow a graceful close that takes too long.
    Reset,
}

/// Which driver was opened, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    /// [`Io::Uring`] or [`Io::Epoll`].
    pub io: Io,
    /// One line for the log.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What a driver has done since it was opened, and what it holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls made.
    pub kernel_entries: u64,
    /// Calls of `poll`.
    pub turns: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that failed.
    pub accept_failures: u64,
    /// Connections that were accepted and dropped for want of descriptors.
    pub accepts_shed: u64,
    /// Outgoing connections begun.
    pub connects: u64,
    /// Receives that brought octets.
    pub recvs: u64,
    /// Octets received.
    pub recv_octets: u64,
    /// Chains handed to the kernel.
    pub sends: u64,
    /// Octets the kernel took.
    pub sent_octets: u64,
    /// Sends that had to wait for room in the socket (epoll), or were continued (io_uring).
    pub send_waits: u64,
    /// Times a connection had data and no buffer was free.
    pub enobufs: u64,
    /// Octets that were copied out of their buffer because reception had just been switched off.
    pub parked_octets: u64,
    /// Wake-ups by another thread.
    pub wakes: u64,
    /// Connections open at the moment.
    pub connections: u64,
    /// Receive buffers on loan at the moment.
    pub buffers_on_loan: u64,
}

/// The driver of a core.
#[derive(Debug)]
pub enum Driver {
    /// Readiness: epoll through mio.
    Epoll(Box<Epoll>),
    /// Completion: io_uring.
    Uring(Box<Uring>),
}

/// Calls the same method of whichever driver it is.
macro_rules! either {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self {
            Driver::Epoll(d) => d.$method($($arg),*),
            Driver::Uring(d) => d.$method($($arg),*),
        }
    };
}

impl Driver {
    /// Opens the driver that `knobs` asks for, in the thread that will use it.
    ///
    /// `Auto` falls back to epoll and says why in [`Choice::reason`]; an explicit `Uring` that is not to be had is an
    /// error with the same text.
    pub fn open(knobs: &ReactorKnobs) -> io::Result<(Driver, Choice)> {
        let refused = match knobs.driver {
            Io::Epoll => "epoll, as configured".to_owned(),
            Io::Auto | Io::Uring => match Uring::open(knobs) {
                Ok((driver, reason)) => {
                    return Ok((Driver::Uring(Box::new(driver)), Choice { io: Io::Uring, reason }));
                }
                Err(why) if knobs.driver == Io::Uring => return Err(io::Error::other(why)),
                Err(why) => format!("{why}: using epoll"),
            },
        };
        Ok((Driver::Epoll(Box::new(Epoll::open(knobs)?)), Choice { io: Io::Epoll, reason: refused }))
    }

    /// Accepts from `listener` until told otherwise.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<Id> {
        either!(self.listen(listener))
    }

    /// Stops accepting (`on`) or goes on. Clients wait in the kernel's queue meanwhile; a few that had already been
    /// accepted are still reported.
    pub fn pause_accept(&mut self, listener: Id, on: bool) {
        either!(self.pause_accept(listener, on));
    }

    /// Closes a listener. What waits in its queue is reset by the kernel.
    pub fn unlisten(&mut self, listener: Id) {
        either!(self.unlisten(listener));
    }

    /// Takes over a connected stream, for example one accepted elsewhere. Sets TCP_NODELAY.
    pub fn adopt(&mut self, stream: TcpStream) -> io::Result<Id> {
        either!(self.adopt(stream))
    }

    /// Begins to connect, from the address `bind` if given; [`Done::Connected`] answers. There is no time limit but
    /// the kernel's: close it when it takes too long. A chain sent before the answer waits for it.
    pub fn connect(&mut self, to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Id> {
        either!(self.connect(to, bind))
    }

    /// Switches reception on or off. Off is back-pressure and loses nothing: what the kernel had already delivered is
    /// kept and handed out when it is switched on again. Several calls in one turn cost as much as the last one.
    pub fn recv(&mut self, conn: Id, on: bool) {
        either!(self.recv(conn, on));
    }

    /// Sends a chain; [`Done::Sent`] answers when all of it was taken. One chain may be open per connection.
    pub fn send(&mut self, conn: Id, chain: Chain) {
        either!(self.send(conn, chain));
    }

    /// Closes a connection; [`Done::Closed`] answers.
    pub fn close(&mut self, conn: Id, how: Close) {
        either!(self.close(conn, how));
    }

    /// One turn: submits what was asked for, waits until something happens, a [`Waker`] is rung or `timeout` is over
    /// (`None`: no limit), and appends what has happened. Does not wait while there is something to report. May
    /// return without news.
    pub fn poll(&mut self, out: &mut Vec<Done>, timeout: Option<Duration>) -> io::Result<()> {
        either!(self.poll(out, timeout))
    }

    /// A waker for other threads.
    pub fn waker(&self) -> Waker {
        either!(self.waker())
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        either!(self.counters())
    }
}
