//! A caller of the machine: keeps what it leaves, answers its asks, collects its output.

use crate::base::buf::{Input, Output};
use crate::base::id::{SessionId, SpoolId};
use crate::base::knob::Raw;
use crate::base::proof::{Committed, RelayGrant};
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::smtp::server::*;
use crate::wire::address::parse_domain;
use std::sync::Arc;
use std::time::Duration;

/// What a listener and a peer are like in a trace: the words of its `config:` line.
pub fn setup(words: &str) -> (ServerConfig, Peer) {
    let mut config = ServerConfig::plain(parse_domain("mx.example.test").unwrap(), Service::Mx);
    let mut peer = Peer {
        session: SessionId(7),
        client: "192.0.2.1:40000".parse().unwrap(),
        local: "198.51.100.2:25".parse().unwrap(),
        connected: WallTime::from_millis(1_795_437_121_042),
        tls: None,
        rights: PeerRights::default(),
        nonce_seed: [7; 32],
        xclient: None,
    };
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("lmtp", _) => config.service = Service::Lmtp,
            ("starttls", _) => config.tls = TlsOffer::StartTls,
            ("mechanisms", names) => config.mechanisms = names.split(',').map(str::to_owned).collect(),
            ("tls", _) => peer.tls = Some(tls_facts()),
            ("protected", _) => peer.rights.protected = true,
            ("proxied", _) => peer.rights.proxy = true,
            ("xclient", _) => peer.rights.xclient = true,
            (knob, value) => {
                config.knobs.set(knob, &Raw::Text(value.into())).unwrap_or_else(|e| panic!("{word}: {e:?}"))
            }
        }
    }
    config.check().unwrap();
    (config, peer)
}

pub fn tls_facts() -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_256_GCM_SHA384",
        cipher_bits: 256,
        sni: None,
        client_identity: Some("ann@example.test".into()),
        resumed: false,
        channel_binding: Default::default(),
    }
}

/// The caller.
pub struct Caller {
    pub server: Server,
    pub now: Instant,
    pub said: Vec<u8>,
    pub closed: bool,
    /// Text spilled for the message in progress.
    pub scratch: Vec<u8>,
    inbox: Vec<u8>,
    tls_wanted: bool,
}

/// Answers asks; `None` means that none is due.
pub type Answers<'a> = &'a mut dyn FnMut(&Ask) -> Answer;

impl Caller {
    pub fn new(words: &str) -> Caller {
        let (config, peer) = setup(words);
        let server = Server::new(Arc::new(config), peer, Instant::ZERO);
        Caller {
            server,
            now: Instant::ZERO,
            said: Vec::new(),
            closed: false,
            scratch: Vec::new(),
            inbox: Vec::new(),
            tls_wanted: false,
        }
    }

    /// Octets arrive.
    pub fn receive(&mut self, bytes: &[u8], answers: Answers<'_>) {
        // What still comes in clear behind STARTTLS never reaches the machine, and nothing does after the end.
        if !self.tls_wanted && !self.closed {
            self.inbox.extend_from_slice(bytes);
        }
        self.pump(answers);
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration, answers: Answers<'_>) {
        let until = self.now + time;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.server.handle_timeout(self.now);
            self.pump(answers);
        }
        self.now = until;
    }

    /// Goes on until nothing moves.
    pub fn pump(&mut self, answers: Answers<'_>) {
        loop {
            let mut input = Input::new(&self.inbox);
            self.server.handle_bytes(self.now, &mut input);
            let consumed = input.consumed();
            self.inbox.drain(..consumed);
            let mut moved = consumed > 0;
            let mut out = Output::new(64 * 1024);
            self.server.poll_transmit(&mut out);
            moved |= !out.is_empty();
            self.said.extend(out.take().to_vec());
            while let Some(ask) = self.server.poll_ask() {
                moved = true;
                self.attend(ask, answers);
            }
            if !moved {
                break;
            }
        }
    }

    fn attend(&mut self, ask: Ask, answers: Answers<'_>) {
        match &ask {
            Ask::Spill { first, chunk } => {
                if *first {
                    self.scratch.clear();
                }
                self.scratch.extend_from_slice(chunk);
            }
            Ask::Close => {
                assert!(!self.closed, "closed twice");
                (self.closed, self.inbox) = (true, Vec::new());
                return;
            }
            Ask::StartTls => {
                (self.tls_wanted, self.inbox) = (true, Vec::new());
                return;
            }
            Ask::Reset => return,
            _ => {}
        }
        let answer = answers(&ask);
        self.server.handle_answer(self.now, answer);
    }

    /// The handshake that was asked for is done.
    pub fn finish_tls(&mut self) {
        if std::mem::take(&mut self.tls_wanted) {
            self.server.tls_started(self.now, tls_facts());
        }
    }
}

/// What a friendly world answers.
pub fn friendly(ask: &Ask) -> Answer {
    match ask {
        Ask::Rcpt { .. } => Answer::Granted { grant: RelayGrant::issued_by_policy(), after: Duration::ZERO },
        Ask::Spill { .. } => Answer::Spilled(Ok(())),
        Ask::Message(_) => Answer::Settled(Settled::Committed(Committed::after_sync(SpoolId(1)))),
        Ask::Sasl(SaslAsk::Password { password, .. }) => {
            Answer::Sasl(SaslAnswer::Password(password.as_str() == "secret"))
        }
        Ask::Sasl(SaslAsk::SharedSecret { .. }) => {
            Answer::Sasl(SaslAnswer::SharedSecret(Some(b"secret".to_vec().into())))
        }
        Ask::Sasl(SaslAsk::External { .. }) => Answer::Sasl(SaslAnswer::External(true)),
        Ask::Sasl(SaslAsk::ScramKeys { .. }) => Answer::Sasl(SaslAnswer::Unavailable),
        _ => Answer::Go,
    }
}

/// An ask in one line, as traces write it.
pub fn describe(ask: &Ask, scratch: &[u8]) -> String {
    match ask {
        Ask::Connect { early_talker: true } => "Connect early".into(),
        Ask::Connect { .. } => "Connect".into(),
        Ask::Helo { name, extended } => {
            let verb = if *extended { "extended" } else { "plain" };
            let host = name.host.as_ref().map_or("malformed".into(), ToString::to_string);
            format!("Helo {verb} {} = {host}", name.text)
        }
        Ask::Sasl(SaslAsk::Password { user, .. }) => format!("Password {user}"),
        Ask::Sasl(ask) => format!("Sasl {}", ask.user()),
        Ask::Authenticated { user } => format!("Authenticated {user}"),
        Ask::AuthFailed { failures } => format!("AuthFailed {failures}"),
        Ask::Mail { sender, parameters: p } => format!(
            "Mail <{sender}> size={:?} body={:?} utf8={} ret={:?} envid={:?} auth={:?}",
            p.size, p.body, p.smtputf8, p.ret, p.envid, p.auth
        ),
        Ask::Rcpt { recipient: r } => format!(
            "Rcpt <{}> notify={:?} orcpt={:?}",
            r.mailbox,
            r.notify.map(|n| (n.success, n.failure, n.delay)),
            r.original.as_ref().map(|o| (&o.address_type, &o.address))
        ),
        Ask::Data { declared } => format!("Data {declared:?}"),
        Ask::Spill { first, chunk } => format!("Spill {first} {}", chunk.len()),
        Ask::Message(m) => {
            let text = match &m.text {
                MessageText::Memory(body) => body.to_vec().unwrap(),
                MessageText::Spilled { .. } => scratch.to_vec(),
            };
            let to: Vec<String> = m.mailboxes().map(|m| format!("<{m}>")).collect();
            let (e, s) = (&m.envelope, m.text.shape());
            assert_eq!(s.octets, text.len() as u64);
            format!(
                "Message {} from <{}> to {} by {:?} header={} received={} 8bit={} stuff={}: {}",
                e.origin.protocol,
                e.sender,
                to.join(","),
                e.origin.user,
                s.header_octets,
                s.received_fields,
                s.eight_bit,
                s.needs_stuffing,
                text.escape_ascii()
            )
        }
        Ask::Vrfy { argument } => format!("Vrfy {argument}"),
        Ask::Expn { argument } => format!("Expn {argument}"),
        Ask::Reset | Ask::StartTls | Ask::Close => format!("{ask:?}"),
    }
}
