//! Listeners of the ring driver: one multishot accept each.
//!
//! How it fails: an accept that cannot be served ends the multishot; the listener rests and is armed again.

use super::{Entry, Kind, Phase, Uring};
use crate::reactor::accept::{ARMED, LEAVING, Listener, PAUSED, RESTING, is_clients_fault};
use crate::reactor::socket::canonical;
use crate::reactor::{Done, Id};
use io_uring::{opcode, types};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

impl Uring {
    pub(in crate::reactor) fn listen(&mut self, socket: TcpListener) -> io::Result<Id> {
        let id = self.entries.insert(Entry::Listener(Box::new(Listener::new(socket)?)));
        self.arm_accept(id);
        Ok(id)
    }

    pub(in crate::reactor) fn arm_accept(&mut self, id: Id) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        if !l.is_wanted() || l.marks.has(ARMED) {
            return;
        }
        l.marks.set(ARMED);
        let entry = opcode::AcceptMulti::new(types::Fd(l.socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: a multishot accept points to nothing; the socket is open until the entry is removed.
        unsafe { self.start(entry, Kind::Accept, id) };
    }

    pub(in crate::reactor) fn pause_accept(&mut self, id: Id, on: bool) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        l.marks.put(PAUSED, on);
        if !on {
            self.arm_accept(id);
        } else if l.marks.has(ARMED) {
            self.cancel(Kind::Accept, id);
        }
    }

    pub(in crate::reactor) fn unlisten(&mut self, id: Id) {
        let Some(Entry::Listener(l)) = self.entries.get_mut(id) else { return };
        l.marks.set(LEAVING);
        if l.marks.has(ARMED) {
            self.cancel(Kind::Accept, id);
        } else {
            self.entries.remove(id);
        }
    }

    pub(in crate::reactor) fn on_accept(&mut self, id: Id, result: i32, more: bool, out: &mut Vec<Done>) {
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
}
