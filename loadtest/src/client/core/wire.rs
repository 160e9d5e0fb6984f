//! Between the clients of a core and their connections: TLS, what waits to be sent, the end.
//!
//! How it fails: TLS that fails ends its connection, and is counted by what it was.

use super::Core;
use crate::client::Client;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::{Close, Id};

impl<C: Client> Core<'_, C> {
    /// Words of the server, for the client.
    pub(super) fn heard(&mut self, id: Id, bytes: &[u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing && !bytes.is_empty()) else { return };
        if !std::mem::replace(&mut conn.greeted, true) {
            self.tally.greeting.record(now.since(conn.opened));
        }
        self.drive(id, now, |client, turn| client.input(bytes, turn));
    }

    /// Begins what comes before the client.
    pub(super) fn seal(&mut self, id: Id, now: Instant) {
        let (Some(conn), Some(start)) = (self.conns.get_mut(id), &self.tls) else { return };
        let mut out = Chain::new();
        let begun = conn.secure.as_mut().map_or(Ok(()), |s| s.connected(start, now, &mut out));
        self.send(id, out);
        if let Err(why) = begun {
            self.fail(id, &why, now);
        }
    }

    /// Octets on their way through TLS, or to it.
    pub(super) fn unseal(&mut self, id: Id, bytes: &[u8], now: Instant) {
        let (Some(conn), Some(start)) = (self.conns.get_mut(id), &self.tls) else { return };
        let Some(secure) = &mut conn.secure else { return };
        let (mut plain, mut out) = (Vec::new(), Chain::new());
        let arrived = secure.received(bytes, start, now, (&mut plain, &mut out));
        self.send(id, out);
        if let Some((began, greeting)) = arrived.up {
            self.tally.command("tls", now.since(began));
            self.drive(id, now, |client, turn| client.connected(turn));
            self.heard(id, &greeting, now);
        }
        self.heard(id, &plain, now);
        match arrived.end.as_deref() {
            Some("closed by the server") => self.ended(id, now),
            Some(why) => self.fail(id, why, now),
            None => {}
        }
    }

    pub(super) fn say(&mut self, id: Id, out: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id).filter(|_| !out.is_empty()) else { return };
        let wire = match &mut conn.secure {
            Some(secure) => secure.sealed(out),
            None => Chain::from(out),
        };
        self.send(id, wire);
    }

    pub(super) fn send(&mut self, id: Id, wire: Chain) {
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing && !wire.is_empty()) else { return };
        if conn.sending {
            conn.queued.append(wire);
            return;
        }
        conn.sending = true;
        self.driver.send(id, wire);
    }

    pub(super) fn sent(&mut self, id: Id, whole: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.sending = false;
        // A failed send shows as the end of reception, too, with what the server still said before.
        if whole && !conn.queued.is_empty() && !conn.closing {
            conn.sending = true;
            let queued = std::mem::take(&mut conn.queued);
            self.driver.send(id, queued);
        }
    }

    pub(super) fn close(&mut self, id: Id, how: Close) {
        if how == Close::Graceful {
            let farewell = self.conns.get_mut(id).and_then(|c| c.secure.as_mut()).map(|s| s.farewell());
            self.send(id, farewell.unwrap_or_default());
        }
        let Some(conn) = self.conns.get_mut(id).filter(|c| !c.closing) else { return };
        conn.closing = true;
        if !conn.up {
            self.rising -= 1;
        }
        self.driver.close(id, how);
    }
}
