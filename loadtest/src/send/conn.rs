//! One connection of a core: its session, its TLS, what waits to be sent.
//!
//! How it fails: TLS that fails is told in words; its alert is in what is to be sent.

use super::script::Plan;
use super::session::Session;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::base::tls::TlsFacts;
use gatepost::reactor::tls::{ClientTls, Tls};

/// How TLS is begun on the connections of a core.
pub(super) struct TlsStart {
    pub client: ClientTls,
    /// The server's name: sent as SNI, unless it is an address.
    pub name: String,
}

/// One connection.
pub(super) struct Conn {
    pub session: Session,
    pub opened: Instant,
    pub last_heard: Instant,
    pub idle: bool,
    pub closing: bool,
    /// Begin TLS when the connection stands.
    pub implicit: bool,
    sending: bool,
    queued: Chain,
    tls: Option<Box<Secure>>,
}

struct Secure {
    tls: Tls,
    began: Instant,
}

/// What has arrived under TLS.
#[derive(Default)]
pub(super) struct Arrived {
    /// The handshake ended now, which began then.
    pub handshake: Option<(Instant, Option<TlsFacts>)>,
    /// Why nothing more will come.
    pub end: Option<String>,
}

impl Conn {
    pub fn new(plan: Plan, now: Instant) -> Conn {
        Conn {
            implicit: plan.implicit,
            session: Session::new(plan, now),
            opened: now,
            last_heard: now,
            idle: false,
            closing: false,
            sending: false,
            queued: Chain::new(),
            tls: None,
        }
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins the handshake.
    pub fn start_tls(&mut self, start: &TlsStart, now: Instant, out: &mut Chain) -> Result<(), String> {
        let mut tls = Tls::client(&start.client, &start.name).map_err(|e| format!("TLS: {e}"))?;
        tls.pending(out);
        self.tls = Some(Box::new(Secure { tls, began: now }));
        Ok(())
    }

    /// Octets from the server: plaintext is appended to `plain`, what TLS has to say to `out`.
    pub fn received(&mut self, cipher: &[u8], plain: &mut Vec<u8>, out: &mut Chain) -> Arrived {
        let Some(secure) = &mut self.tls else {
            plain.extend_from_slice(cipher);
            return Arrived::default();
        };
        let state = secure.tls.received(cipher, plain);
        secure.tls.pending(out);
        match state {
            Err(e) => Arrived { handshake: None, end: Some(format!("TLS: {e}")) },
            Ok(state) => Arrived {
                handshake: state.handshake_done_now.then(|| (secure.began, secure.tls.facts())),
                end: state.peer_closed.then(|| "closed by the server".to_owned()),
            },
        }
    }

    /// What goes on the wire for `plain`.
    pub fn encrypted(&mut self, plain: Chain) -> Chain {
        match &mut self.tls {
            None => plain,
            Some(secure) => {
                let mut out = Chain::new();
                secure.tls.send(&plain, &mut out);
                out
            }
        }
    }

    /// The last words: close_notify, under TLS.
    pub fn farewell(&mut self) -> Chain {
        let mut out = Chain::new();
        if let Some(secure) = &mut self.tls {
            secure.tls.close(&mut out);
        }
        out
    }

    /// What may be handed to the driver now; the rest waits for [`Conn::sent`].
    pub fn queue(&mut self, wire: Chain) -> Option<Chain> {
        if wire.is_empty() {
            return None;
        }
        if self.sending {
            self.queued.append(wire);
            return None;
        }
        self.sending = true;
        Some(wire)
    }

    /// The driver is done with a chain; what may be handed to it next.
    pub fn sent(&mut self, whole: bool) -> Option<Chain> {
        self.sending = false;
        // A failed send shows as the end of reception, too, with what the server still said before.
        if !whole || self.closing {
            return None;
        }
        let queued = std::mem::take(&mut self.queued);
        self.queue(queued)
    }
}
