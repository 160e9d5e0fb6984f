//! Receiving in the ring driver: one multishot receive per connection that wants data, fed from the ring of buffers.
//!
//! How it fails: without buffers a connection waits in line; every other end of a receive is the connection's end.

use super::{CANCELLING, Conn, DIRTY, ENDED, Entry, Kind, Phase, RECV, STARVED, Uring, WANTED};
use crate::reactor::pool::RecvBuf;
use crate::reactor::ring::GROUP;
use crate::reactor::{Done, End, Id};
use io_uring::{cqueue, opcode, types};
use std::io;
use std::os::fd::AsRawFd;

impl Uring {
    pub(in crate::reactor) fn recv(&mut self, id: Id, on: bool) {
        let Some(conn) = self.conn(id) else { return };
        if conn.phase == Phase::Finishing || conn.marks.has(ENDED) {
            return;
        }
        conn.marks.put(WANTED, on);
        self.touch(id);
    }

    /// Has the connection's reception looked at when the next turn begins.
    pub(in crate::reactor) fn touch(&mut self, id: Id) {
        if let Some(conn) = self.conn(id)
            && !conn.marks.has(DIRTY)
        {
            conn.marks.set(DIRTY);
            self.dirty.push(id);
        }
    }

    /// Makes the reception what its owner wants it to be.
    pub(in crate::reactor) fn settle(&mut self, id: Id, out: &mut Vec<Done>) {
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

    pub(in crate::reactor) fn arm_recv(&mut self, id: Id) {
        let Some(Conn { stream: Some(stream), ops, .. }) = self.conn(id) else { return };
        debug_assert!(!ops.has(RECV));
        ops.set(RECV);
        let entry = opcode::RecvMulti::new(types::Fd(stream.as_raw_fd()), GROUP).build();
        // SAFETY: the kernel writes into buffers of the ring only; those are mapped until the ring is closed.
        unsafe { self.start(entry, Kind::Recv, id) };
    }

    pub(in crate::reactor) fn on_recv(&mut self, id: Id, result: i32, flags: u32, out: &mut Vec<Done>) {
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
    pub(in crate::reactor) fn on_recv_over(&mut self, id: Id, result: i32, out: &mut Vec<Done>) {
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
    pub(in crate::reactor) fn feed_starved(&mut self) {
        let n = self.starved.len().min(self.pool.available() as usize);
        for id in self.starved.drain(..n).collect::<Vec<_>>() {
            if let Some(conn) = self.conn(id) {
                conn.marks.clear(STARVED);
                self.touch(id);
            }
        }
    }
}
