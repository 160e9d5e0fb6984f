//! The waker of a driver: an eventfd that any thread may ring, and that the driver sees as one more event.
//!
//! How it fails: a write to an eventfd fails only when its counter is full, and then the sleeper is awake already.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Bell {
    eventfd: File,
    /// Whether the bell has been rung and the driver has not answered yet.
    rung: AtomicBool,
}

/// Wakes the driver it came from out of `poll`. Calls between two turns of the loop cost one system call together.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Bell>);

impl Waker {
    /// A bell that nobody has rung.
    pub(super) fn new() -> io::Result<Waker> {
        // SAFETY: eventfd(2) takes no pointers; its result is checked before it is used.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and is owned by nobody else.
        let eventfd = unsafe { File::from_raw_fd(fd) };
        Ok(Waker(Arc::new(Bell { eventfd, rung: AtomicBool::new(false) })))
    }

    /// Ends the present `poll`, or the next one, early.
    ///
    /// Whoever is woken sees everything that was written before this call: the swap here and the swap in
    /// [`Waker::answer`] are read-modify-writes of one flag, so either this one rings the bell, or the driver has yet
    /// to answer an earlier ring and synchronises with this swap when it does.
    pub fn wake(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // An error is a full counter: the event is pending already.
            let _ = (&self.0.eventfd).write(&1u64.to_ne_bytes());
        }
    }

    /// The driver has seen the event. The counter is not read: both drivers report edges, not levels.
    pub(super) fn answer(&self) {
        self.0.rung.swap(false, Ordering::AcqRel);
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }
}
