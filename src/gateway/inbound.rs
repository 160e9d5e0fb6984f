//! A client connection: its pipe, its server machine, its judge, and where it stands with questions that are out.
//!
//! The core drives it: bytes in, asks answered (inline by the policy, or later by a lane or a backend), bytes out. How
//! it fails: whatever breaks the connection ends it; an answer that comes later finds nobody. A message whose client has
//! gone may still be delivered, as SMTP allows (RFC 5321 §4.5.3.2.6, the lost reply).

use super::core::{Asker, Core, End};
use super::gather::Gathering;
use super::judge::Judge;
use super::lanes::SpoolRequest;
use super::pipe::{Machine, Pipe};
use super::settle::Settlement;
use super::state::Listener;
use crate::base::address::Mailbox;
use crate::base::buf::{Input, Output};
use crate::base::envelope::Envelope;
use crate::base::id::SessionId;
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::policy::Lease;
use crate::reactor::tls::Tls;
use crate::reactor::{End as Ended, Id, clock};
use crate::sasl::server::SaslAsk;
use crate::smtp::server::{Answer, Ask, Peer, PeerRights, Server, ServerConfig};
use crate::wire::replies;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One client; see the module's head.
pub(super) struct Inbound {
    pub(super) pipe: Pipe,
    pub(super) machine: Server,
    pub(super) judge: Judge,
    pub(super) listener: Arc<Listener>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) session: SessionId,
    /// Number of the question that is out, if one is.
    pub(super) question: u32,
    /// The scratch file of the message that is coming in.
    pub(super) scratch: Option<u64>,
    /// The envelope of a message whose scratch file is being ended.
    pub(super) spilled_envelope: Option<Box<Envelope>>,
    /// Routes that the policy named for recipients of the message that is coming in.
    pub(super) named_routes: Vec<(Mailbox, Arc<str>)>,
    /// Octets taken from the core's budget for the message that is coming in.
    pub(super) reserved_octets: usize,
    /// The message that is being settled.
    pub(super) settling: Option<Box<Settlement>>,
    /// What is being found out, and the question that waits for it.
    pub(super) gathering: Gathering,
    /// The client's place among its connections.
    _lease: Option<Lease>,
}

impl Machine for Server {
    fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        Server::handle_bytes(self, now, input);
    }
    fn poll_transmit(&mut self, out: &mut Output) {
        Server::poll_transmit(self, out);
    }
    fn wants_input(&self) -> bool {
        Server::wants_input(self)
    }
    fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        Server::tls_started(self, now, facts);
    }
}

impl Inbound {
    /// Who asks the question that is out now.
    pub(super) fn asker(&self) -> Asker {
        Asker { conn: self.pipe.id, question: self.question }
    }

    /// The route that the policy named for a recipient.
    pub(super) fn named_route(&self, recipient: &Mailbox) -> Option<&str> {
        self.named_routes.iter().find(|(m, _)| m == recipient).map(|(_, route)| &**route)
    }
}

impl Core {
    /// A client came to a port that begins in clear.
    pub(super) fn client_accepted(
        &mut self,
        (listener, server): (Arc<Listener>, Arc<ServerConfig>),
        conn: Id,
        client: SocketAddr,
        local: SocketAddr,
        lease: Option<Lease>,
    ) {
        let mut pipe = Pipe::new(conn);
        pipe.receive(&mut self.driver, true);
        self.client_begin(pipe, (listener, server), client, local, None, lease);
    }

    /// Begins a session.
    pub(super) fn client_begin(
        &mut self,
        pipe: Pipe,
        (listener, server): (Arc<Listener>, Arc<ServerConfig>),
        client: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsFacts>,
        lease: Option<Lease>,
    ) {
        let session = SessionId(self.ids.next_id());
        let settings = &self.shared.config.settings.server;
        let rights = PeerRights {
            protected: settings.protected.contains(client.ip()),
            // On a port with implicit TLS the header came before the handshake.
            proxy: tls.is_none() && settings.proxy_from.contains(client.ip()),
            xclient: settings.xclient_from.contains(client.ip()),
        };
        let nonce_seed = self.entropy();
        let peer = Peer {
            session,
            client,
            local,
            connected: clock::wall(),
            tls,
            rights,
            nonce_seed,
            xclient: Default::default(),
        };
        self.meter.sessions[listener.service as usize].add(1);
        let judge = Judge::new(&self.shared, &listener, &peer, self.now);
        let machine = Server::new(server.clone(), peer, self.now);
        let mut inbound = Box::new(Inbound {
            pipe,
            machine,
            judge,
            listener,
            server,
            session,
            question: 0,
            scratch: None,
            spilled_envelope: None,
            named_routes: Vec::new(),
            reserved_octets: 0,
            settling: None,
            gathering: Gathering::default(),
            _lease: lease,
        });
        // Behind a proxy it is not known yet who comes.
        if !rights.proxy && !rights.xclient {
            self.gather_early(&mut inbound);
        }
        self.client_drive(inbound);
    }

    pub(super) fn client_received(&mut self, mut inbound: Box<Inbound>, bytes: &[u8]) {
        if inbound.pipe.is_closing() {
            return self.put(inbound.pipe.id, End::Client(inbound));
        }
        if let Err(error) = inbound.pipe.received(self.now, &mut inbound.machine, bytes) {
            tracing::info!(session = %inbound.session, %error, "TLS failed");
            inbound.pipe.close_after_flush(&mut self.driver, &mut inbound.machine);
            return self.put(inbound.pipe.id, End::Client(inbound));
        }
        if inbound.judge.tls_is(inbound.machine.peer().tls.as_ref()) {
            inbound.gathering.forget_greeting();
        }
        self.client_drive(inbound);
    }

    pub(super) fn client_ended(&mut self, mut inbound: Box<Inbound>, why: Ended) {
        match why {
            // A half-closed client still hears the replies to what it said.
            Ended::Eof => {
                inbound.machine.handle_eof(self.now);
                self.client_drive(inbound);
            }
            Ended::Failed(error) => {
                tracing::debug!(session = %inbound.session, %error, "connection broke");
                inbound.pipe.close_now(&mut self.driver);
                self.put(inbound.pipe.id, End::Client(inbound));
            }
        }
    }

    pub(super) fn client_sent(&mut self, mut inbound: Box<Inbound>, result: io::Result<()>) {
        inbound.pipe.sent();
        if result.is_err() {
            inbound.pipe.close_now(&mut self.driver);
            return self.put(inbound.pipe.id, End::Client(inbound));
        }
        self.client_drive(inbound);
    }

    pub(super) fn client_fired(&mut self, mut inbound: Box<Inbound>) {
        inbound.pipe.fired();
        if inbound.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            inbound.machine.handle_timeout(self.now);
        }
        self.client_drive(inbound);
    }

    pub(super) fn client_shutdown(&mut self, mut inbound: Box<Inbound>) {
        inbound.machine.shutdown(self.now);
        self.client_drive(inbound);
    }

    pub(super) fn client_closed(&mut self, mut inbound: Box<Inbound>) {
        self.release(&mut inbound);
        tracing::debug!(session = %inbound.session, counters = ?inbound.machine.counters(), "session over");
    }

    /// An answer came for a question that was out; late ones are for questions that are not.
    pub(super) fn client_answered(&mut self, mut inbound: Box<Inbound>, question: u32, answer: Answer) {
        if inbound.question == question {
            inbound.question = inbound.question.wrapping_add(1);
            inbound.machine.handle_answer(self.now, answer);
        }
        self.client_drive(inbound);
    }

    /// Lets the machine go as far as it can: asks, left bytes, output, deadline.
    pub(super) fn client_drive(&mut self, mut inbound: Box<Inbound>) {
        loop {
            // Even without octets: a machine that was busy when its client left has something to ask now.
            let fed = inbound.pipe.feed(self.now, &mut inbound.machine);
            let mut asked = false;
            while let Some(ask) = inbound.machine.poll_ask() {
                asked = true;
                if let Some(answer) = self.client_asks(&mut inbound, ask) {
                    inbound.machine.handle_answer(self.now, answer);
                }
            }
            if !fed && !asked {
                break;
            }
        }
        if !inbound.pipe.is_closing() {
            inbound.pipe.balance(&mut self.driver);
        }
        inbound.pipe.flush(&mut self.driver, &mut inbound.machine);
        if let Some(at) = inbound.pipe.deadline_to_arm(inbound.machine.poll_timeout()) {
            self.arm(inbound.pipe.id, at);
        }
        self.put(inbound.pipe.id, End::Client(inbound));
    }

    /// Answers a question of a client's machine when what it needs is found out, or sends it where it will be answered.
    pub(super) fn client_decides(&mut self, inbound: &mut Inbound, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Connect { .. } => Some(inbound.judge.connect(self.now, self.load())),
            Ask::Helo { name, extended } => Some(inbound.judge.helo(self.now, &name, extended)),
            Ask::Sasl(ask) => self.asks_sasl(inbound, ask),
            Ask::Authenticated { user } => {
                self.meter.logins[0].add(1);
                Some(inbound.judge.authenticated(self.now, &user))
            }
            Ask::AuthFailed { failures } => {
                self.meter.logins[1].add(1);
                Some(inbound.judge.auth_failed(self.now, failures))
            }
            Ask::Mail { sender, parameters } => Some(inbound.judge.mail(self.now, &sender, &parameters, self.load())),
            Ask::Rcpt { recipient } => self.asks_rcpt(inbound, recipient),
            Ask::Data { declared } => Some(self.asks_data(inbound, declared)),
            Ask::Spill { first, chunk } => self.asks_spill(inbound, first, chunk),
            Ask::Message(message) => self.asks_message(inbound, *message),
            Ask::Vrfy { argument } => {
                let known = self.knows(&argument);
                Some(inbound.judge.verify(self.now, &argument, known))
            }
            Ask::Expn { argument } => {
                let members = self.members(&argument);
                Some(inbound.judge.verify(self.now, &argument, members))
            }
            Ask::Reset => {
                self.release(inbound);
                inbound.judge.reset();
                None
            }
            Ask::StartTls => {
                inbound.pipe.say(&mut self.driver, &mut inbound.machine);
                let tls = self.server_tls();
                inbound.pipe.start_tls(tls);
                None
            }
            Ask::Close => {
                inbound.pipe.close_after_flush(&mut self.driver, &mut inbound.machine);
                None
            }
        }
    }

    /// PROXY and XCLIENT change who the client is, and so what it may do; whether they have.
    pub(super) fn client_is(&mut self, inbound: &mut Inbound, early_talker: bool) -> bool {
        let client = inbound.machine.peer().client.ip();
        if client != inbound.judge.client().ip() {
            let settings = &self.shared.config.settings.server;
            inbound.machine.entitle(PeerRights {
                protected: settings.protected.contains(client),
                proxy: false,
                xclient: settings.xclient_from.contains(client),
            });
        }
        let peer = inbound.machine.peer();
        inbound.judge.client_is(&self.shared, &inbound.listener, peer, early_talker, self.now)
    }

    fn asks_sasl(&mut self, inbound: &Inbound, ask: SaslAsk) -> Option<Answer> {
        self.shared.passwords.ask(self.number, inbound.asker(), ask).map(Answer::Sasl)
    }

    /// Room for a text: none when this core holds as much as it may (RFC 5321 §4.5.3.1.10: 452, come back later).
    fn asks_data(&mut self, inbound: &mut Inbound, declared: Option<u64>) -> Answer {
        let memory_max = inbound.server.knobs.body_memory_octets_max.len();
        let declared = declared.and_then(|n| usize::try_from(n).ok()).unwrap_or(memory_max);
        let wanted = declared.clamp(memory_max.min(16 * 1024), memory_max);
        if self.body_octets + wanted > self.shared.body_octets_per_core_max {
            return refuse(replies::no_room());
        }
        self.body_octets += wanted;
        inbound.reserved_octets += wanted;
        Answer::Go
    }

    fn asks_spill(&mut self, inbound: &mut Inbound, first: bool, chunk: Vec<u8>) -> Option<Answer> {
        let file = if first { None } else { inbound.scratch };
        let request = SpoolRequest::Spill { asker: inbound.asker(), file, chunk };
        match self.ask_spool(request) {
            Ok(()) => None,
            Err(_) => Some(Answer::Spilled(Err(replies::no_room()))),
        }
    }

    /// The spool lane wrote a piece of a text.
    pub(super) fn spilled(&mut self, asker: Asker, result: Result<u64, String>) {
        let mut inbound = match self.take(asker.conn) {
            Some(End::Client(inbound)) => inbound,
            Some(End::Access(access)) => return self.access_spilled(access, asker, result),
            Some(other) => {
                self.put(asker.conn, other);
                return self.unwanted(result);
            }
            None => return self.unwanted(result),
        };
        if inbound.question != asker.question {
            self.put(asker.conn, End::Client(inbound));
            return self.unwanted(result);
        }
        let answer = match result {
            Ok(file) => {
                inbound.scratch = Some(file);
                Ok(())
            }
            Err(error) => {
                tracing::error!(session = %inbound.session, error, "cannot keep a large message");
                Err(replies::no_room())
            }
        };
        self.client_answered(inbound, asker.question, Answer::Spilled(answer));
    }

    /// The client had gone when its scratch file was made: nobody else knows of it.
    pub(super) fn unwanted(&mut self, spilled: Result<u64, String>) {
        if let Ok(file) = spilled {
            self.tell_spool(usize::from(self.number), SpoolRequest::Drop { file });
        }
    }

    /// Gives back what the message that was coming in held.
    fn release(&mut self, inbound: &mut Inbound) {
        self.body_octets -= inbound.reserved_octets;
        inbound.reserved_octets = 0;
        inbound.named_routes.clear();
        inbound.gathering.forget_message();
        inbound.spilled_envelope = None;
        if let Some(file) = inbound.scratch.take() {
            self.tell_spool(usize::from(self.number), SpoolRequest::Drop { file });
        }
    }

    /// The server's half of a new TLS session.
    pub(super) fn server_tls(&self) -> Tls {
        Tls::server(self.shared.server_tls.load_full())
    }
}

/// A refusal without delay that leaves the connection open.
pub(super) fn refuse(reply: crate::wire::reply::Reply) -> Answer {
    let close = reply.code == 421;
    Answer::Refuse { reply, after: Duration::ZERO, close }
}
