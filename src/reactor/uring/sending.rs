//! Sending in the ring driver: a chain becomes one SEND or SENDMSG, which the kernel finishes by itself.
//!
//! How it fails: the error of the kernel is reported with the octets that were taken before it.

use super::{Entry, Flight, Kind, Phase, SEND, SPARE_FLIGHTS_MAX, Uring};
use crate::base::buf::Chain;
use crate::reactor::outgoing::Outgoing;
use crate::reactor::{Close, Done, Id};
use io_uring::{opcode, types};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

impl Uring {
    pub(in crate::reactor) fn send(&mut self, id: Id, chain: Chain) {
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
    pub(in crate::reactor) fn push_send(&mut self, id: Id) {
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

    pub(in crate::reactor) fn on_send(&mut self, id: Id, result: i32, out: &mut Vec<Done>) {
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
    pub(in crate::reactor) fn sent(&mut self, id: Id, result: io::Result<()>, out: &mut Vec<Done>) {
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
}
