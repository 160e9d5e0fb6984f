//! A caller of the machine: sessions on one [`Model`], notices between them, asks answered.

use super::model::Model;
use crate::base::body::Body;
use crate::base::buf::{Input, Output};
use crate::base::id::SessionId;
use crate::base::knob::Raw;
use crate::base::mailbox::MailboxId;
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::imap::{Answer, Ask, ImapPeer, ImapSettings, Session};
use crate::sasl::server::{SaslAnswer, SaslAsk};
use std::sync::Arc;
use std::time::Duration;

/// When the sessions connect.
pub const CONNECTED: WallTime = WallTime::from_millis(1_795_437_121_042);

pub fn tls_facts() -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_256_GCM_SHA384",
        cipher_bits: 256,
        sni: None,
        client_identity: Some("ann".into()),
        resumed: false,
        channel_binding: Default::default(),
    }
}

/// One connection.
pub struct End {
    pub session: Session,
    pub said: Vec<u8>,
    pub closed: bool,
    pub watch: Option<MailboxId>,
    /// A client that reads nothing.
    pub stalled: bool,
    inbox: Vec<u8>,
    scratch: Option<Vec<u8>>,
    tls_wanted: bool,
}

/// Sessions and what they share.
pub struct World {
    pub model: Model,
    pub ends: Vec<End>,
    pub now: Instant,
    mark: usize,
}

/// Answers an ask, or leaves it to the model.
pub type Answers<'a> = &'a mut dyn FnMut(&Ask) -> Option<Answer>;

impl World {
    /// The words of a trace's `config:` line.
    pub fn new(words: &str) -> World {
        let mut settings = ImapSettings::plain("mx.example.test");
        settings.sasl_mechanisms = vec!["PLAIN".into(), "LOGIN".into()];
        let mut peer = ImapPeer {
            session: SessionId(7),
            client: "192.0.2.1:40000".parse().unwrap(),
            local: "198.51.100.2:143".parse().unwrap(),
            connected: CONNECTED,
            tls: None,
            protected: true,
            nonce_seed: [7; 32],
        };
        let mut world = World { model: Model::new(), ends: Vec::new(), now: Instant::ZERO, mark: 64 * 1024 };
        world.model.now = CONNECTED;
        let (mut login, mut select, mut sessions) = (false, false, 1);
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("exposed", _) => peer.protected = false,
                ("starttls", _) => settings.tls_available = true,
                ("tls", _) => peer.tls = Some(tls_facts()),
                ("mechanisms", names) => settings.sasl_mechanisms = names.split(',').map(str::to_owned).collect(),
                ("login", _) => login = true,
                ("select", _) => (login, select) = (true, true),
                ("two", _) => sessions = 2,
                ("mark", n) => world.mark = n.parse().unwrap(),
                ("inline", n) => world.model.inline_max = n.parse().unwrap(),
                ("rows", n) => world.model.rows_max = n.parse().unwrap(),
                ("quota", n) => {
                    world.model.quota.octets_max = Some(n.parse().unwrap());
                    world.model.quota.messages_max = Some(100);
                }
                ("mail", n) => {
                    for i in 1..=n.parse().unwrap() {
                        let text = format!(
                            "From: Bob <bob@example.test>\r\nSubject: mail {i}\r\nMessage-ID: <{i}@x>\r\n\r\nText {i}.\r\n"
                        );
                        world.model.deliver("INBOX", text.as_bytes());
                    }
                }
                (knob, value) => {
                    settings.knobs.set(knob, &Raw::Text(value.into())).unwrap_or_else(|e| panic!("{word}: {e:?}"))
                }
            }
        }
        settings.check().unwrap();
        let settings = Arc::new(settings);
        for _ in 0..sessions {
            world.ends.push(End {
                session: Session::new(settings.clone(), peer.clone(), Instant::ZERO),
                said: Vec::new(),
                closed: false,
                watch: None,
                stalled: false,
                inbox: Vec::new(),
                scratch: None,
                tls_wanted: false,
            });
        }
        for at in 0..sessions {
            let mut prelude = Vec::new();
            if login {
                prelude.extend_from_slice(b"p1 LOGIN ann secret\r\n");
            }
            if select {
                prelude.extend_from_slice(b"p2 SELECT INBOX\r\n");
            }
            if login {
                world.receive(at, &prelude, &mut |_| None);
                world.ends[at].said.clear();
            }
        }
        world
    }

    /// Octets arrive.
    pub fn receive(&mut self, at: usize, octets: &[u8], answers: Answers<'_>) {
        let end = &mut self.ends[at];
        // What still comes in clear behind STARTTLS never reaches the machine, and nothing does after the end.
        if !end.tls_wanted && !end.closed {
            end.inbox.extend_from_slice(octets);
        }
        self.pump(at, answers);
    }

    /// Mail arrives.
    pub fn deliver(&mut self, mailbox: &str, text: &[u8], answers: Answers<'_>) {
        self.model.deliver(mailbox, text);
        self.tell_changes(answers);
    }

    /// Whoever watches hears of what changed before anything else happens.
    fn tell_changes(&mut self, answers: Answers<'_>) {
        self.tell_others(usize::MAX, answers);
    }

    fn tell_others(&mut self, but: usize, answers: Answers<'_>) {
        if self.model.changed.is_empty() {
            return;
        }
        for changed in std::mem::take(&mut self.model.changed) {
            for at in 0..self.ends.len() {
                if self.ends[at].watch == Some(changed) {
                    self.ends[at].session.handle_notice(self.now, changed);
                }
            }
        }
        for at in (0..self.ends.len()).filter(|at| *at != but) {
            self.pump(at, answers);
        }
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration, answers: Answers<'_>) {
        let until = self.now + time;
        for at in 0..self.ends.len() {
            while let Some(due) = self.ends[at].session.poll_timeout().filter(|due| *due <= until) {
                self.set_now(due.max(self.now));
                self.ends[at].session.handle_timeout(self.now);
                self.pump(at, answers);
            }
        }
        self.set_now(until);
    }

    fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.model.now = CONNECTED + (now - Instant::ZERO);
    }

    /// Goes on with one session until nothing moves; then the others hear what it changed.
    pub fn pump(&mut self, at: usize, answers: Answers<'_>) {
        loop {
            let end = &mut self.ends[at];
            let mut input = Input::new(&end.inbox);
            end.session.handle_bytes(self.now, &mut input);
            let consumed = input.consumed();
            end.inbox.drain(..consumed);
            let mut moved = consumed > 0;
            if !end.stalled {
                let mut out = Output::new(self.mark);
                end.session.poll_transmit(&mut out);
                moved |= !out.is_empty();
                end.said.extend(out.take().to_vec());
            }
            while let Some(ask) = self.ends[at].session.poll_ask() {
                moved = true;
                self.attend(at, ask, answers);
                self.tell_others(at, answers);
            }
            if !moved {
                break;
            }
        }
    }

    fn attend(&mut self, at: usize, ask: Ask, answers: Answers<'_>) {
        let said = answers(&ask);
        let end = &mut self.ends[at];
        let answer = match ask {
            Ask::Close => {
                assert!(!end.closed, "closed twice");
                (end.closed, end.inbox) = (true, Vec::new());
                return;
            }
            Ask::StartTls => {
                (end.tls_wanted, end.inbox) = (true, Vec::new());
                return;
            }
            Ask::StartDeflate => return,
            Ask::Watch(mailbox) => {
                end.watch = mailbox;
                return;
            }
            Ask::SpillDrop => {
                assert!(end.scratch.take().is_some(), "no scratch file to drop");
                return;
            }
            Ask::Spill { first, chunk } => {
                assert_eq!(first, end.scratch.is_none());
                end.scratch.get_or_insert_default().extend(chunk);
                Answer::Spilled(Ok(()))
            }
            Ask::SpillEnd { shape, head } => {
                let octets = end.scratch.take().unwrap();
                assert!(octets.starts_with(&head));
                Answer::Spilt(Ok(Body::memory(shape, vec![Arc::new(octets)])))
            }
            Ask::Authenticated { .. } | Ask::AuthFailed { .. } => Answer::Go,
            Ask::Sasl(ask) => Answer::Sasl(credentials(&ask)),
            Ask::Store(ask) => match said {
                Some(Answer::Store(_)) => Answer::Go,
                _ => Answer::Store(self.model.answer(&ask)),
            },
        };
        self.ends[at].session.handle_answer(self.now, said.unwrap_or(answer));
    }

    /// The handshake that was asked for is done.
    pub fn finish_tls(&mut self, at: usize) {
        let end = &mut self.ends[at];
        if std::mem::take(&mut end.tls_wanted) {
            end.session.tls_started(self.now, tls_facts());
        }
    }
}

fn credentials(ask: &SaslAsk) -> SaslAnswer {
    match ask {
        SaslAsk::Password { user, password } => SaslAnswer::Password(user == "ann" && password.as_str() == "secret"),
        SaslAsk::SharedSecret { .. } => SaslAnswer::SharedSecret(Some(b"secret".to_vec().into())),
        SaslAsk::External { .. } => SaslAnswer::External(true),
        SaslAsk::ScramKeys { .. } => SaslAnswer::Unavailable,
    }
}

/// An ask in one line, as traces write it.
pub fn describe(ask: &Ask) -> String {
    use crate::base::mailbox::ask::StoreAsk;
    match ask {
        Ask::Store(StoreAsk::Account { name }) => format!("Account {name}"),
        Ask::Store(StoreAsk::Query(_, query)) => format!("Query {query:?}"),
        Ask::Store(StoreAsk::Change(_, change)) => format!("Change {change:?}"),
        Ask::Sasl(ask) => format!("Sasl {ask:?}"),
        Ask::Authenticated { user } => format!("Authenticated {user}"),
        Ask::AuthFailed { failures } => format!("AuthFailed {failures}"),
        Ask::Spill { first, chunk } => format!("Spill {first} {}", chunk.len()),
        Ask::SpillEnd { shape, head } => format!("SpillEnd {} of {}", head.len(), shape.octets),
        Ask::SpillDrop | Ask::StartTls | Ask::StartDeflate | Ask::Close | Ask::Watch(_) => format!("{ask:?}"),
    }
}
