//! What lies under the io_uring driver: the ring with its set-up ladder, a queue that never overflows, and the ring of
//! receive buffers that the kernel picks from.
//!
//! How it fails: [`Ring::open`] and [`probe`] say in one line why this kernel (or its administrator) does not allow
//! io_uring as we need it.

use super::pool::{Mapping, Pool};
use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A ring whose submissions wait in a backlog when the kernel's queue is full.
pub(super) struct Ring {
    ring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    wait_flags: EnterFlags,
    /// Set-up flags that were granted, for the log.
    pub(super) mode: &'static str,
    /// io_uring_enter calls made.
    pub(super) enters: u64,
}

impl Ring {
    /// Sets up a ring in the thread that will use it: SINGLE_ISSUER with DEFER_TASKRUN (Linux 6.1) where possible,
    /// COOP_TASKRUN (5.19) below. Without either, io_uring costs more than epoll, and is not used.
    pub(super) fn open(entries: u32) -> Result<Ring, String> {
        let is_unknown = |e: &io::Error| e.raw_os_error() == Some(libc::EINVAL);
        match Self::build(entries, Mode::Defer) {
            Err(e) if is_unknown(&e) => match Self::build(entries, Mode::Coop) {
                Err(e) if is_unknown(&e) => Err("io_uring of this kernel is older than Linux 5.19".into()),
                Err(e) => Err(refusal(&e)),
                Ok(ring) => Self::check(ring, Mode::Coop),
            },
            Err(e) => Err(refusal(&e)),
            Ok(ring) => Self::check(ring, Mode::Defer),
        }
    }

    fn build(entries: u32, mode: Mode) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(entries * 4).setup_clamp().setup_submit_all();
        match mode {
            Mode::Defer => builder.setup_single_issuer().setup_defer_taskrun(),
            Mode::Coop => builder.setup_coop_taskrun().setup_taskrun_flag(),
        };
        builder.build(entries)
    }

    fn check(ring: IoUring, mode: Mode) -> Result<Ring, String> {
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err("io_uring of this kernel lacks EXT_ARG or NODROP".into());
        }
        let mut wait_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            // A core that waits for clients is idle, not waiting for a disk.
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        Ok(Ring { ring, backlog: VecDeque::new(), wait_flags, mode: mode.name(), enters: 0 })
    }

    /// Queues an operation. Order is kept.
    ///
    /// # Safety
    /// What `entry` points to stays valid and in place until its last completion has been taken.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's promise.
        if self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        self.backlog.push_back(entry);
        self.flush_backlog();
    }

    fn flush_backlog(&mut self) {
        while !self.backlog.is_empty() {
            if self.ring.submission().is_full() {
                self.enters += 1;
                // EBUSY and EAGAIN: completions must be taken first; the backlog waits for the next turn.
                if self.ring.submit().is_err() || self.ring.submission().is_full() {
                    return;
                }
            }
            let mut queue = self.ring.submission();
            while let Some(entry) = self.backlog.front() {
                // SAFETY: promised at `push`.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                self.backlog.pop_front();
            }
        }
    }

    /// Submits what is queued, and waits for a completion, at most `timeout`. Runs the kernel's deferred work in any
    /// case.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.flush_backlog();
        let to_submit = self.ring.submission().len() as u32;
        self.enters += 1;
        // Entries that found no room must not wait for a completion that they would have caused.
        let timeout = if self.backlog.is_empty() { timeout } else { Some(Duration::ZERO) };
        let timespec = Timespec::from(timeout.unwrap_or_default());
        let (args, want) = match timeout {
            None => (SubmitArgs::new(), 1),
            Some(Duration::ZERO) => (SubmitArgs::new(), 0),
            Some(_) => (SubmitArgs::new().timespec(&timespec), 1),
        };
        // SAFETY: with EXT_ARG the argument is an io_uring_getevents_arg, of which SubmitArgs is a transparent
        // wrapper; it and the timespec outlive the call.
        let entered = unsafe { self.ring.submitter().enter(to_submit, want, self.wait_flags.bits(), Some(&args)) };
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Time is over, a signal came, or completions have to be taken before more is submitted.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Takes the completions that are there.
    pub(super) fn completions(&mut self, into: &mut Vec<cqueue::Entry>) {
        into.extend(self.ring.completion());
    }
}

/// When the kernel runs the completion work of our operations.
#[derive(Clone, Copy)]
enum Mode {
    /// When we enter it and ask for events.
    Defer,
    /// At our next entry for whatever reason.
    Coop,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Defer => "SINGLE_ISSUER, DEFER_TASKRUN",
            Mode::Coop => "COOP_TASKRUN",
        }
    }
}

/// Why io_uring_setup refused, for an administrator.
fn refusal(error: &io::Error) -> String {
    let (name, hint) = match error.raw_os_error() {
        Some(libc::EPERM) => ("EPERM", "kernel.io_uring_disabled or a container's seccomp profile"),
        Some(libc::EACCES) => ("EACCES", "a security module"),
        Some(libc::ENOSYS) => ("ENOSYS", "the kernel is built without it, or a seccomp profile"),
        Some(libc::ENOMEM) => ("ENOMEM", "RLIMIT_MEMLOCK is too low for the ring"),
        Some(libc::EMFILE) => ("EMFILE", "no descriptor left"),
        _ => return format!("io_uring refused by the kernel ({error})"),
    };
    format!("io_uring refused by the kernel ({name}: {hint})")
}

/// The buffer group every receive picks from.
pub(super) const GROUP: u16 = 0;

/// The ring of receive buffers shared with the kernel: we add at the tail, it takes from the head.
pub(super) struct BufferRing {
    entries: Mapping,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers a ring of `len` entries, a power of two.
    pub(super) fn register(ring: &Ring, len: u16) -> io::Result<BufferRing> {
        debug_assert!(len.is_power_of_two());
        let entries = Mapping::new(usize::from(len) * size_of::<BufRingEntry>())?;
        // SAFETY: the mapping has room for `len` entries, is page-aligned as the kernel asks, and is unmapped only
        // after the ring is closed (field order of the driver).
        unsafe { ring.ring.submitter().register_buf_ring_with_flags(entries.base() as u64, len, GROUP, 0)? };
        Ok(BufferRing { entries, mask: len - 1, tail: 0 })
    }

    /// Gives the kernel every buffer that is free.
    pub(super) fn refill(&mut self, pool: &Pool) {
        let octets = pool.buffer_octets() as u32;
        let base: *mut BufRingEntry = self.entries.base().cast();
        let start = self.tail;
        pool.take_free(|id, address| {
            // SAFETY: the masked index is inside the mapping. The kernel reads entries below the tail only, and this
            // one is above it until the store below. There are as many entries as buffers, so none is overwritten.
            let entry = unsafe { &mut *base.add(usize::from(self.tail & self.mask)) };
            entry.set_addr(address as u64);
            entry.set_len(octets);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        });
        if self.tail != start {
            // SAFETY: the tail lies in the first entry, in memory that is ours and mapped; the kernel only reads it.
            // No reference to an entry is alive here.
            let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
            tail.store(self.tail, Ordering::Release);
        }
    }
}

/// Proves on a pair of sockets that this kernel has multishot receive with a ring of buffers (Linux 6.0), which no
/// feature bit tells. The reception is ended before it returns.
pub(super) fn probe(ring: &mut Ring, buffers: &mut BufferRing, pool: &Pool) -> Result<(), String> {
    const USER_DATA: u64 = 1;
    let missing = |what: &str| format!("io_uring of this kernel has no {what}");
    let (here, there) = UnixStream::pair().map_err(|e| e.to_string())?;
    io::Write::write_all(&mut &there, b"?").map_err(|e| e.to_string())?;
    drop(there); // so that the reception ends by itself
    buffers.refill(pool);
    let entry = opcode::RecvMulti::new(types::Fd(here.as_raw_fd()), GROUP).build().user_data(USER_DATA);
    // SAFETY: a receive into the buffer ring points to nothing of ours; `here` is open until it has ended, below.
    unsafe { ring.push(entry) };
    let (mut seen, mut received) = (Vec::new(), false);
    for _ in 0..100 {
        ring.enter(Some(Duration::from_millis(10))).map_err(|e| format!("io_uring does not work here ({e})"))?;
        ring.completions(&mut seen);
        for cqe in seen.drain(..).filter(|c| c.user_data() == USER_DATA) {
            if let Some(id) = cqueue::buffer_select(cqe.flags()) {
                received |= cqe.result() == 1 && cqueue::more(cqe.flags());
                pool.give_back(id);
            }
            if !cqueue::more(cqe.flags()) {
                return if received { Ok(()) } else { Err(missing("multishot receive (Linux 6.0)")) };
            }
        }
    }
    Err(missing("working multishot receive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_pass_the_probe() {
        for mode in [Mode::Defer, Mode::Coop] {
            let built = match Ring::build(16, mode) {
                Ok(built) => built,
                Err(e) => {
                    println!("skipped: {} ({})", refusal(&e), mode.name());
                    continue;
                }
            };
            let mut ring = Ring::check(built, mode).unwrap();
            let pool = Pool::new(4, 512).unwrap();
            let mut buffers = BufferRing::register(&ring, 4).unwrap();
            probe(&mut ring, &mut buffers, &pool).unwrap();
            assert_eq!(pool.available(), 4);
        }
    }

    #[test]
    fn a_full_queue_keeps_order_and_loses_nothing() {
        let Ok(mut ring) = Ring::open(16) else { return println!("skipped: no io_uring") };
        for n in 0..500 {
            // SAFETY: a no-op points to nothing.
            unsafe { ring.push(opcode::Nop::new().build().user_data(n)) };
        }
        let mut seen = Vec::new();
        for _ in 0..200 {
            ring.enter(Some(Duration::ZERO)).unwrap();
            ring.completions(&mut seen);
        }
        assert!(seen.iter().map(cqueue::Entry::user_data).eq(0..500));
    }

    #[test]
    fn refusals_are_explained() {
        let text = refusal(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(text.starts_with("io_uring refused by the kernel (EPERM"), "{text}");
    }
}
