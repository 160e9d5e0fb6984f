//! A caller of the machine: keeps what it leaves, answers its asks, collects its output.

use super::store::{ACCOUNT, Store};
use crate::base::buf::{Input, Output};
use crate::base::id::SessionId;
use crate::base::knob::Raw;
use crate::base::mailbox::ask::{Change, Query, StoreAsk};
use crate::base::time::{Instant, WallTime};
use crate::base::tls::TlsFacts;
use crate::pop3::*;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crate::wire::address::parse_domain;
use std::sync::Arc;
use std::time::Duration;

/// What a listener, a peer and a store are like in a trace: the words of its `config:` line.
pub fn setup(words: &str) -> (Pop3Settings, Pop3Peer, Store) {
    let mut settings = Pop3Settings {
        hostname: parse_domain("pop.example.test").unwrap(),
        knobs: Pop3Knobs::default(),
        sasl_mechanisms: Vec::new(),
        tls_available: false,
        version: "1.2".into(),
    };
    let mut peer = Pop3Peer {
        session: SessionId(7),
        client: "192.0.2.1:40000".parse().unwrap(),
        local: "198.51.100.2:110".parse().unwrap(),
        connected: WallTime::from_millis(1_795_437_121_042),
        tls: None,
        protected: false,
        rpop: false,
        nonce_seed: [7; 32],
    };
    let mut store = Store::new();
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("stls", _) => settings.tls_available = true,
            ("mechanisms", names) => settings.sasl_mechanisms = names.split(',').map(str::to_owned).collect(),
            ("tls", _) => peer.tls = Some(tls_facts()),
            ("protected", _) => peer.protected = true,
            ("rpop", _) => peer.rpop = true,
            ("stored_from", octets) => store.stored_from = octets.parse().unwrap(),
            ("read_max", octets) => store.read_max = octets.parse().unwrap(),
            (knob, value) => {
                settings.knobs.set(knob, &Raw::Text(value.into())).unwrap_or_else(|e| panic!("{word}: {e:?}"));
            }
        }
    }
    (settings, peer, store)
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
    pub session: Session,
    pub store: Store,
    pub now: Instant,
    pub said: Vec<u8>,
    pub closed: bool,
    pub locked: bool,
    /// Octets of output at which the caller wants no more for now.
    pub room: usize,
    inbox: Vec<u8>,
    tls_wanted: bool,
}

/// Answers asks; `None` leaves the answer to [`Caller::friendly`].
pub type Answers<'a> = &'a mut dyn FnMut(&Ask) -> Option<Answer>;

impl Caller {
    pub fn new(words: &str) -> Caller {
        let (settings, peer, store) = setup(words);
        let session = Session::new(Arc::new(settings), peer, Instant::ZERO);
        Caller {
            session,
            store,
            now: Instant::ZERO,
            said: Vec::new(),
            closed: false,
            locked: false,
            room: 64 * 1024,
            inbox: Vec::new(),
            tls_wanted: false,
        }
    }

    /// Octets arrive.
    pub fn receive(&mut self, bytes: &[u8], answers: Answers<'_>) {
        // What still comes in clear behind STLS never reaches the machine, and nothing does after the end.
        if !self.tls_wanted && !self.closed {
            self.inbox.extend_from_slice(bytes);
        }
        self.pump(answers);
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration, answers: Answers<'_>) {
        let until = self.now + time;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.session.handle_timeout(self.now);
            self.pump(answers);
        }
        self.now = until;
    }

    /// Goes on until nothing moves.
    pub fn pump(&mut self, answers: Answers<'_>) {
        loop {
            let mut input = Input::new(&self.inbox);
            self.session.handle_bytes(self.now, &mut input);
            let consumed = input.consumed();
            self.inbox.drain(..consumed);
            let mut moved = consumed > 0;
            let mut out = Output::new(self.room);
            self.session.poll_transmit(&mut out);
            moved |= !out.is_empty();
            // One piece of 64 KiB, what stood before it and its dots at most.
            assert!(out.octets() <= self.room + 200 * 1024 || self.store.stored_from == u64::MAX, "{}", out.octets());
            self.said.extend(out.take().to_vec());
            while let Some(ask) = self.session.poll_ask() {
                moved = true;
                self.attend(&ask, answers);
            }
            if !moved {
                break;
            }
        }
    }

    fn attend(&mut self, ask: &Ask, answers: Answers<'_>) {
        match ask {
            Ask::Close => {
                assert!(!self.closed, "closed twice");
                (self.closed, self.inbox, self.locked) = (true, Vec::new(), false);
                return;
            }
            Ask::StartTls => {
                (self.tls_wanted, self.inbox) = (true, Vec::new());
                return;
            }
            Ask::Unlock => {
                assert!(self.locked, "no lock to give up");
                self.locked = false;
                return;
            }
            _ => {}
        }
        let answer = answers(ask).unwrap_or_else(|| self.friendly(ask));
        self.session.handle_answer(self.now, answer);
    }

    /// The handshake that was asked for is done.
    pub fn finish_tls(&mut self) {
        if std::mem::take(&mut self.tls_wanted) {
            self.session.tls_started(self.now, tls_facts());
        }
    }

    /// What a friendly world answers. Only `ann` has a secret.
    pub fn friendly(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Sasl(SaslAsk::Password { password, .. }) => {
                Answer::Sasl(SaslAnswer::Password(password.as_str() == "secret"))
            }
            Ask::Sasl(SaslAsk::SharedSecret { user }) => {
                Answer::Sasl(SaslAnswer::SharedSecret((user == "ann").then(|| b"secret".to_vec().into())))
            }
            Ask::Sasl(SaslAsk::External { identity, authzid }) => {
                Answer::Sasl(SaslAnswer::External(identity == authzid))
            }
            Ask::Sasl(SaslAsk::ScramKeys { .. }) => Answer::Sasl(SaslAnswer::Unavailable),
            Ask::Store(ask) => Answer::Store(self.store.answer(ask)),
            Ask::Lock(account) => {
                assert_eq!(*account, ACCOUNT);
                assert!(!std::mem::replace(&mut self.locked, true));
                Answer::Locked(true)
            }
            _ => Answer::Go,
        }
    }
}

/// An ask in one line, as traces write it.
pub fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Sasl(SaslAsk::Password { user, password }) => format!("Password {user} {:?}", password.as_str()),
        Ask::Sasl(SaslAsk::External { identity, authzid }) => format!("External {identity} as {authzid}"),
        Ask::Sasl(ask) => format!("Sasl {}", ask.user()),
        Ask::Authenticated { user } => format!("Authenticated {user}"),
        Ask::AuthFailed { failures } => format!("AuthFailed {failures}"),
        Ask::Store(StoreAsk::Account { name }) => format!("Account {name}"),
        Ask::Store(StoreAsk::Query(_, Query::Select { name, .. })) => format!("Select {name}"),
        Ask::Store(StoreAsk::Query(_, Query::Fetch { uids, items, .. })) => match items.sections.first() {
            None => format!("Sizes {uids}"),
            Some(section) => format!("Fetch {uids} {:?}", section.partial),
        },
        Ask::Store(StoreAsk::Query(_, Query::Read { offset, .. })) => format!("Read {offset}"),
        Ask::Store(StoreAsk::Change(_, Change::Expunge { uids: Some(uids), .. })) => format!("Expunge {uids}"),
        Ask::Lock(_) => "Lock".into(),
        other => format!("{other:?}"),
    }
}
