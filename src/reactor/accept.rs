//! What both drivers share about accepting: the listener's entry, and the valve that closes when descriptors run out.
//!
//! With no descriptor left, accept(2) fails and the client stays in the queue, so a loop that only retried would burn
//! a core. The valve rests the listener, and uses one descriptor kept in reserve to hang up on the clients at the head
//! of its queue: they learn at once that they should come back later. How it fails: if the reserve cannot be reopened,
//! they wait in the queue instead.

use super::Id;
use super::marks::Marks;
use super::socket::canonical;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Paused by the owner.
pub(super) const PAUSED: u8 = 1;
/// Resting because an accept failed.
pub(super) const RESTING: u8 = 2;
/// Multishot accept armed (ring), or queued for accepting (epoll).
pub(super) const ARMED: u8 = 4;
/// Given up by the owner; waits for its last completion (ring).
pub(super) const LEAVING: u8 = 8;

/// A listening socket.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// The address it was bound to, unless that is a wildcard and the local address differs by connection.
    fixed_local: Option<SocketAddr>,
    pub(super) marks: Marks,
}

impl Listener {
    /// Prepares `socket`: non-blocking, TCP_NODELAY for those it will accept.
    pub(super) fn new(socket: TcpListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        socket2::SockRef::from(&socket).set_tcp_nodelay(true)?;
        let bound = socket.local_addr()?;
        let fixed_local = (!bound.ip().is_unspecified()).then_some(canonical(bound));
        Ok(Listener { socket, fixed_local, marks: Marks::default() })
    }

    /// Whether it should accept.
    pub(super) fn is_wanted(&self) -> bool {
        !self.marks.has(PAUSED | RESTING | LEAVING)
    }

    /// Our end of `stream`.
    pub(super) fn local_of(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        match self.fixed_local {
            Some(addr) => Ok(addr),
            None => stream.local_addr().map(canonical),
        }
    }
}

/// Whether a failed accept concerns the client that went away, and the next one may be taken at once.
pub(super) fn is_clients_fault(error: &io::Error) -> bool {
    // accept(2): errors already pending on the new socket are passed on and should be treated like EAGAIN.
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// Rests listeners that cannot accept.
pub(super) struct Valve {
    spare: Option<File>,
    pause: Duration,
    resting: Vec<(Id, Instant)>,
}

/// Clients hung up on per rest of a listener.
const SHED_MAX: u32 = 64;

impl Valve {
    pub(super) fn new(pause: Duration) -> Valve {
        Valve { spare: Self::reserve(), pause, resting: Vec::new() }
    }

    fn reserve() -> Option<File> {
        File::open("/dev/null").ok()
    }

    /// `listener` failed to accept: it rests. Returns how many clients were hung up on.
    pub(super) fn rest(&mut self, id: Id, listener: &mut Listener, error: &io::Error) -> u32 {
        debug_assert!(!listener.marks.has(RESTING));
        listener.marks.set(RESTING);
        self.resting.push((id, Instant::now() + self.pause));
        let no_descriptor = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        if no_descriptor { self.shed(&listener.socket) } else { 0 }
    }

    fn shed(&mut self, socket: &TcpListener) -> u32 {
        if self.spare.take().is_none() {
            return 0;
        }
        let mut shed = 0;
        while shed < SHED_MAX && socket.accept().is_ok() {
            shed += 1;
        }
        self.spare = Self::reserve();
        shed
    }

    /// Listeners whose rest is over.
    pub(super) fn rested(&mut self) -> Vec<Id> {
        if self.resting.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        if self.spare.is_none() {
            self.spare = Self::reserve();
        }
        self.resting.extract_if(.., |(_, until)| *until <= now).map(|(id, _)| id).collect()
    }

    /// `timeout`, cut to the end of the next rest.
    pub(super) fn cut(&self, timeout: Option<Duration>) -> Option<Duration> {
        let Some(until) = self.resting.iter().map(|(_, until)| *until).min() else { return timeout };
        let rest = until.saturating_duration_since(Instant::now());
        Some(timeout.map_or(rest, |t| t.min(rest)))
    }
}
