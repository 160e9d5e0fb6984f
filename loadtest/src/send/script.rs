//! What the connections of a run have in common, and the values that pass between a session and its core.
//!
//! How it fails: it does not; options are checked where they are read.

use super::phases::Phases;
use crate::chance::{self, Zipf};
use crate::message::{Factory, Id};
use fastrand::Rng;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::sasl::client::ClientCredentials;
use std::sync::Arc;
use std::time::Duration;

/// How a message is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// DATA.
    Data,
    /// BDAT when the server offers CHUNKING, DATA otherwise.
    Bdat,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages, as many as a connection carries.
    Mail,
    /// Recipients that are refused: MAIL, RCPT, QUIT.
    Reject,
    /// Logins: AUTH, QUIT. Each is timed as a message is.
    Login,
}

/// What all connections of a run share.
#[derive(Clone, Debug)]
pub struct Script {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Whether PIPELINING is used when offered.
    pub pipeline: bool,
    /// DATA or BDAT.
    pub transfer: Transfer,
    /// What connections do.
    pub work: Work,
    /// Messages after which a connection is closed; 0 keeps it.
    pub messages_per_connection: u64,
    /// Whether a message's time begins when its connection is free (closed loop), although its envelope may travel
    /// before that; in an open loop it begins with its place in the schedule.
    pub from_free: bool,
    /// Who writes to whom.
    pub envelopes: Envelopes,
    /// Makes the messages.
    pub factory: Factory,
    /// Which connections are encrypted and logged in.
    pub openings: Openings,
    /// For everything that is drawn.
    pub seed: u64,
}

/// Addresses that are numbered: `user@a.test`, `user1@a.test`, …
#[derive(Clone, Debug)]
pub struct Population {
    /// The first; empty is the null path.
    pub first: String,
    /// Domains instead of the first's own, in turn.
    pub domains: Vec<String>,
    /// How many, and how unevenly they are drawn.
    pub ranks: Zipf,
}

impl Population {
    /// The `n`th address, from 0.
    pub fn address(&self, n: u64) -> String {
        let Some((local, domain)) = self.first.rsplit_once('@') else { return self.first.clone() };
        let domain = match self.domains.len() as u64 {
            0 => domain,
            len => &self.domains[(n % len) as usize],
        };
        if n == 0 { format!("{local}@{domain}") } else { format!("{local}{n}@{domain}") }
    }
}

/// Who writes to whom.
#[derive(Clone, Debug)]
pub struct Envelopes {
    senders: Population,
    mailboxes: Population,
    recipients: u64,
    /// The envelope of every message, when nothing is to be drawn.
    fixed: Option<Arc<Lines>>,
}

/// The envelope of a message.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Sender.
    pub from: String,
    /// First recipient.
    pub to: String,
    /// `MAIL FROM:<…>`, without its line end (parameters may follow).
    pub mail: Vec<u8>,
    /// `RCPT TO:<…>` lines with their line ends.
    pub rcpts: Vec<Vec<u8>>,
}

impl Lines {
    fn new(from: String, to: impl Iterator<Item = String>) -> Lines {
        let to: Vec<String> = to.collect();
        Lines {
            mail: format!("MAIL FROM:<{from}>").into_bytes(),
            rcpts: to.iter().map(|to| format!("RCPT TO:<{to}>\r\n").into_bytes()).collect(),
            from,
            to: to.into_iter().next().unwrap_or_default(),
        }
    }
}

impl Envelopes {
    /// Messages with so many recipients each, from and to these populations.
    pub fn new(senders: Population, mailboxes: Population, recipients: usize) -> Envelopes {
        let recipients = recipients.max(1) as u64;
        let drawn = senders.ranks.len() > 1 || mailboxes.ranks.len() > 1;
        // Without a population the recipients of every message are the first few addresses.
        let fixed = (!drawn).then(|| Lines::new(senders.address(0), (0..recipients).map(|n| mailboxes.address(n))));
        Envelopes { senders, mailboxes, recipients, fixed: fixed.map(Arc::new) }
    }

    /// Recipients of a message.
    pub fn recipients(&self) -> u32 {
        u32::try_from(self.recipients).unwrap_or(u32::MAX)
    }

    /// The envelope of a message.
    pub fn draw(&self, rng: &mut Rng) -> Arc<Lines> {
        if let Some(lines) = &self.fixed {
            return lines.clone();
        }
        let from = self.senders.address(self.senders.ranks.draw(rng));
        let mut chosen: Vec<u64> = Vec::with_capacity(self.recipients as usize);
        for _ in 0..self.recipients {
            let mut n = self.mailboxes.ranks.draw(rng);
            // Nobody twice: the next address that is not there yet. A small population is run through at most once.
            while chosen.contains(&n) && (chosen.len() as u64) < self.mailboxes.ranks.len() {
                n = (n + 1) % self.mailboxes.ranks.len();
            }
            chosen.push(n);
        }
        Arc::new(Lines::new(from, chosen.into_iter().map(|n| self.mailboxes.address(n))))
    }
}

/// Which mechanism a login uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// The strongest that is offered; passwords are shown only under TLS.
    #[default]
    Best,
    /// This one, wherever it is offered (a load test of one's own server may show passwords of its own).
    Named(&'static str),
}

impl std::str::FromStr for Mechanism {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("best") {
            return Ok(Mechanism::Best);
        }
        gatepost::sasl::names()
            .find(|name| name.eq_ignore_ascii_case(text))
            .map(Mechanism::Named)
            .ok_or_else(|| format!("expected best, plain, login, scram-sha-256, …, found {text:?}"))
    }
}

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Logins {
    /// How.
    pub mechanism: Mechanism,
    /// Share of connections that log in.
    pub share: f64,
    /// Users with their passwords.
    pub users: Users,
    /// Share of logins with a wrong password.
    pub wrong: f64,
}

/// Users with their passwords.
#[derive(Clone)]
pub enum Users {
    /// `{}` in the name is a number from 0; all have the same password.
    Numbered {
        /// The name.
        pattern: String,
        /// How many.
        count: u64,
        /// The password.
        password: String,
    },
    /// Each with its own.
    Listed(Arc<Vec<(String, String)>>),
}

impl std::fmt::Debug for Users {
    /// Without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Users::Numbered { pattern, count, .. } => write!(f, "{count} users {pattern:?}"),
            Users::Listed(users) => write!(f, "{} users", users.len()),
        }
    }
}

impl Logins {
    fn draw(&self, rng: &mut Rng) -> Option<ClientCredentials> {
        if self.share < 1.0 && rng.f64() >= self.share {
            return None;
        }
        let (user, mut password) = match &self.users {
            Users::Numbered { pattern, count, password } => {
                let n = if *count > 1 { rng.u64(0..*count) } else { 0 };
                (pattern.replace("{}", &n.to_string()), password.clone())
            }
            Users::Listed(users) => users[rng.usize(0..users.len())].clone(),
        };
        if self.wrong > 0.0 && rng.f64() < self.wrong {
            password = format!("{password}-wrong-{}", rng.u32(..));
        }
        Some(ClientCredentials { user, password: password.into(), authzid: None })
    }
}

/// Which connections are encrypted and logged in.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    /// TLS from the first octet, on all of them.
    pub implicit: bool,
    /// Share with STARTTLS.
    pub starttls: f64,
    /// Those that log in.
    pub logins: Option<Arc<Logins>>,
}

/// What one connection does before its first message.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// TLS from the first octet.
    pub implicit: bool,
    /// STARTTLS.
    pub starttls: bool,
    /// Log in with these.
    pub credentials: Option<ClientCredentials>,
    /// How.
    pub mechanism: Mechanism,
    /// Secret of the connection's exchanges.
    pub nonce: [u8; 32],
}

impl Openings {
    /// What the connection with this number does.
    pub fn plan(&self, seed: u64, number: u64) -> Plan {
        if !self.implicit && self.starttls == 0.0 && self.logins.is_none() {
            return Plan::default();
        }
        let mut rng = chance::generator(!seed, number);
        let starttls = !self.implicit && self.starttls > 0.0 && rng.f64() < self.starttls;
        let credentials = self.logins.as_ref().and_then(|logins| logins.draw(&mut rng));
        let mechanism = self.logins.as_ref().map_or(Mechanism::Best, |logins| logins.mechanism);
        let mut nonce = [0; 32];
        rng.fill(&mut nonce);
        Plan { implicit: self.implicit, starttls, credentials, mechanism, nonce }
    }
}

/// A message to send, and since when it should have been on its way.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its id.
    pub id: Id,
    /// Latency counts from here.
    pub scheduled: Instant,
    /// How often it was tried before.
    pub tries: u32,
}

impl Job {
    /// One that was not tried yet.
    pub fn new(id: Id, scheduled: Instant) -> Job {
        Job { id, scheduled, tries: 0 }
    }

    /// What is drawn for this message, the same at every try.
    pub fn generator(&self, seed: u64) -> Rng {
        chance::generator(seed, self.id.seq << 8 | u64::from(self.id.core))
    }
}

/// What the schedule has for a connection that is ready.
#[derive(Clone, Copy, Debug)]
pub enum Feed {
    /// Send this.
    Job(Job),
    /// Nothing is due; wait.
    Later,
    /// There is nothing more to come.
    Over,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx for this many recipients.
    Accepted(u32),
    /// Refused with this code.
    Refused(u16),
    /// Handed over, and no reply came.
    Unknown,
    /// The connection was lost before the message was handed over.
    NotSent,
}

/// The end of a message.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Which.
    pub job: Job,
    /// Its checksum; 0 when nobody writes it down.
    pub crc: u32,
    /// Its octets.
    pub octets: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// From its schedule to the last reply.
    pub latency: Duration,
}

/// What the caller has to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Wait,
    /// Nothing is due: give it a job later ([`super::session::Session::wake`]).
    Idle,
    /// Begin TLS, then call [`super::session::Session::tls_started`].
    StartTls,
    /// Done with: close.
    Close,
    /// The server refused the whole session with this code: close.
    Refused(u16),
    /// The server cannot be loaded in this way (it does not offer what is needed, its login cannot be trusted): close.
    Unfit(&'static str),
    /// The server said what is no reply: close.
    Broken,
}

/// Where a session reaches its surroundings.
pub struct Shared<'a> {
    /// Now.
    pub now: Instant,
    /// The run.
    pub script: &'a Script,
    /// Where jobs come from.
    pub feed: &'a mut dyn FnMut() -> Feed,
    /// Whether the next envelope may travel with a body. Not while another connection could take it: it would wait for
    /// the reply to a message it has nothing to do with.
    pub chain: bool,
    /// Where outcomes go.
    pub outcomes: &'a mut Vec<Outcome>,
    /// Where the times of single replies go.
    pub phases: &'a mut Phases,
    /// What is to be sent.
    pub out: &'a mut Chain,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(first: &str, n: u64, s: f64) -> Population {
        Population { first: first.into(), domains: Vec::new(), ranks: Zipf::new(n, s) }
    }

    #[test]
    fn without_populations_every_envelope_is_the_same() {
        let e = Envelopes::new(population("", 1, 0.0), population("user@a.test", 1, 0.0), 3);
        let lines = e.draw(&mut Rng::with_seed(1));
        assert_eq!(lines.mail, b"MAIL FROM:<>");
        assert_eq!(
            lines.rcpts.concat(),
            b"RCPT TO:<user@a.test>\r\nRCPT TO:<user1@a.test>\r\nRCPT TO:<user2@a.test>\r\n"
        );
    }

    #[test]
    fn populations_are_drawn_without_the_same_recipient_twice() {
        let mailboxes =
            Population { domains: vec!["x.test".into(), "y.test".into()], ..population("u@a.test", 5, 1.2) };
        let e = Envelopes::new(population("s@a.test", 100, 1.0), mailboxes, 5);
        let mut senders = std::collections::HashSet::new();
        for seq in 0..200 {
            let job = Job::new(Id { run: 1, core: 0, seq }, Instant::ZERO);
            let lines = e.draw(&mut job.generator(7));
            assert_eq!(lines.rcpts, e.draw(&mut job.generator(7)).rcpts, "the same at every try");
            let mut rcpts = lines.rcpts.clone();
            rcpts.sort();
            rcpts.dedup();
            assert_eq!(rcpts.len(), 5);
            assert!(rcpts.contains(&b"RCPT TO:<u1@y.test>\r\n".to_vec()), "{rcpts:?}");
            senders.insert(lines.from.clone());
        }
        assert!(senders.len() > 20);
    }

    #[test]
    fn shares_of_connections_are_encrypted_and_logged_in() {
        let users = Users::Numbered { pattern: "u{}".into(), count: 10, password: "p".into() };
        let logins = Logins { mechanism: Mechanism::Best, share: 0.5, users, wrong: 0.2 };
        let openings = Openings { implicit: false, starttls: 0.3, logins: Some(Arc::new(logins)) };
        let plans: Vec<Plan> = (0..10_000).map(|n| openings.plan(3, n)).collect();
        let share = |f: &dyn Fn(&Plan) -> bool| plans.iter().filter(|p| f(p)).count();
        assert!((2800..3200).contains(&share(&|p| p.starttls)));
        let logged_in = share(&|p| p.credentials.is_some());
        assert!((4800..5200).contains(&logged_in));
        let wrong = share(&|p| p.credentials.as_ref().is_some_and(|c| c.password.as_str() != "p"));
        assert!((wrong as f64 / logged_in as f64 - 0.2).abs() < 0.02);
        assert!(plans.iter().flat_map(|p| &p.credentials).any(|c| c.user == "u9"));
        assert_ne!(plans[0].nonce, plans[1].nonce);
    }

    #[test]
    fn mechanisms_have_names() {
        assert_eq!("scram-sha-256".parse(), Ok(Mechanism::Named("SCRAM-SHA-256")));
        assert_eq!("best".parse(), Ok(Mechanism::Best));
        assert!("rot13".parse::<Mechanism>().is_err());
    }
}
