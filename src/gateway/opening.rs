//! A connection before its session begins: the PROXY header of a listed proxy, then on a port with implicit TLS the
//! handshake. Then it becomes an [`Inbound`](super::inbound::Inbound) or an [`Access`](super::access::Access) that knows
//! its true client and its TLS.
//!
//! How it fails: a header that is none, a handshake that fails or takes longer than `smtp.proxy_timeout` closes the
//! connection; there is nobody yet to whom anything could be said (RFC 8314 §3).

use super::core::{Core, End};
use super::pipe::{Machine, Pipe};
use super::state::{Listener, Serves};
use crate::base::buf::{Input, Output};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::policy::Lease;
use crate::reactor::{End as Ended, Id};
use crate::wire::proxy::{self, Parsed};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// See the module's head.
pub(super) struct Opening {
    pub(super) pipe: Pipe,
    listener: Arc<Listener>,
    steps: Steps,
    /// The client's place among its connections.
    lease: Option<Lease>,
}

/// What happens in order: the part that the pipe talks to.
struct Steps {
    client: SocketAddr,
    local: SocketAddr,
    step: Step,
    deadline: Instant,
}

#[derive(Debug)]
enum Step {
    /// A listed proxy must say for whom it speaks.
    Proxy,
    /// The header is there; the handshake is to begin.
    Begin,
    /// The handshake.
    Handshake,
    /// Done.
    Ready(TlsFacts),
    /// Done, and there is to be no TLS from the start.
    Clear,
    /// Not to be had; why.
    Failed(String),
}

impl Machine for Steps {
    fn handle_bytes(&mut self, _now: Instant, input: &mut Input<'_>) {
        if !matches!(self.step, Step::Proxy) {
            return;
        }
        match proxy::parse(input.rest()) {
            Parsed::NeedMore => {}
            Parsed::Done { consumed, endpoints } => {
                input.consume(consumed);
                if let Some(endpoints) = endpoints {
                    (self.client, self.local) = (endpoints.source, endpoints.destination);
                }
                self.step = Step::Begin;
            }
            Parsed::Invalid(error) => self.step = Step::Failed(format!("PROXY header: {error}")),
        }
    }
    fn poll_transmit(&mut self, _out: &mut Output) {}
    fn wants_input(&self) -> bool {
        matches!(self.step, Step::Proxy)
    }
    fn tls_started(&mut self, _now: Instant, facts: TlsFacts) {
        self.step = Step::Ready(facts);
    }
}

impl Core {
    /// A client came to a port with implicit TLS.
    pub(super) fn opening_accepted(
        &mut self,
        listener: Arc<Listener>,
        conn: Id,
        client: SocketAddr,
        local: SocketAddr,
        lease: Option<Lease>,
    ) {
        let proxied = self.shared.config.settings.server.proxy_from.contains(client.ip());
        let deadline = self.now + self.shared.config.settings.smtp.proxy_timeout;
        let step = if proxied { Step::Proxy } else { Step::Begin };
        let steps = Steps { client, local, step, deadline };
        let mut opening = Box::new(Opening { pipe: Pipe::new(conn), listener, steps, lease });
        opening.pipe.receive(&mut self.driver, true);
        self.opening_drive(opening);
    }

    pub(super) fn opening_received(&mut self, mut opening: Box<Opening>, bytes: &[u8]) {
        if let Err(error) = opening.pipe.received(self.now, &mut opening.steps, bytes) {
            opening.steps.step = Step::Failed(error.to_string());
        }
        self.opening_drive(opening);
    }

    pub(super) fn opening_sent(&mut self, mut opening: Box<Opening>, result: io::Result<()>) {
        opening.pipe.sent();
        if let Err(error) = result {
            opening.steps.step = Step::Failed(error.to_string());
        }
        self.opening_drive(opening);
    }

    pub(super) fn opening_ended(&mut self, mut opening: Box<Opening>, _why: Ended) {
        opening.steps.step = Step::Failed("the client hung up".into());
        self.opening_drive(opening);
    }

    pub(super) fn opening_fired(&mut self, mut opening: Box<Opening>) {
        opening.pipe.fired();
        if opening.steps.deadline <= self.now {
            opening.steps.step = Step::Failed("took too long".into());
        }
        self.opening_drive(opening);
    }

    fn opening_drive(&mut self, mut opening: Box<Opening>) {
        if matches!(opening.steps.step, Step::Begin) && !opening.listener.tls_from_start {
            opening.steps.step = Step::Clear;
        }
        if matches!(opening.steps.step, Step::Begin) {
            opening.steps.step = Step::Handshake;
            if let Err(error) = self.opening_tls(&mut opening) {
                opening.steps.step = Step::Failed(error);
            }
        }
        match std::mem::replace(&mut opening.steps.step, Step::Handshake) {
            Step::Ready(facts) => return self.opened(*opening, Some(facts)),
            Step::Clear => return self.opened(*opening, None),
            Step::Failed(why) => {
                tracing::info!(client = %opening.steps.client, listener = %opening.listener.name, why, "no TLS session");
                opening.pipe.flush(&mut self.driver, &mut opening.steps); // an alert, if there is one
                opening.pipe.close_after_flush(&mut self.driver, &mut opening.steps);
            }
            step => opening.steps.step = step,
        }
        opening.pipe.flush(&mut self.driver, &mut opening.steps);
        if let Some(at) = opening.pipe.deadline_to_arm(Some(opening.steps.deadline)) {
            self.arm(opening.pipe.id, at);
        }
        self.put(opening.pipe.id, End::Opening(opening));
    }

    /// The session begins.
    fn opened(&mut self, opening: Opening, tls: Option<TlsFacts>) {
        let Opening { pipe, listener, steps, lease } = opening;
        match &listener.serves {
            Serves::Smtp(server) => {
                let server = server.clone();
                self.client_begin(pipe, (listener, server), steps.client, steps.local, tls, lease);
            }
            Serves::Imap(_) | Serves::Pop3(_) => {
                self.access_begin(pipe, &listener, steps.client, steps.local, tls, lease);
            }
        }
    }

    fn opening_tls(&mut self, opening: &mut Opening) -> Result<(), String> {
        let tls = self.server_tls();
        opening.pipe.start_tls_with_pending(self.now, tls, &mut opening.steps).map_err(|e| e.to_string())
    }
}
