//! A destination: who could take its mail, in which order, and how they have been doing.
//!
//! A pool has backends with health shared by all cores; a domain has mail exchangers found by lookups; a host has
//! addresses. How it fails: [`Next`] says what is missing: a lookup, patience, a backend, or any hope.

use super::Job;
use super::finding::{Finding, Found, Wanted};
use crate::base::time::Instant;
use crate::gateway::routing::Key;
use crate::gateway::state::{Backend, Shared};
use crate::lookup::{Answer, Question};
use crate::reactor::Id;
use crate::reactor::tls::ClientTls;
use crate::relay::pool::{Pick, Pool, Trouble};
use crate::smtp::client::{ClientConfig, Outcome, TlsMode};
use crate::wire::reply::Reply;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The port of mail exchangers (RFC 5321 §4.5.4.2).
const SMTP_PORT: u16 = 25;
/// Bounds of the belief in what the name of a backend resolves to.
const KNOWN_MIN: Duration = Duration::from_secs(5);
const KNOWN_MAX: Duration = Duration::from_secs(3600);

/// Somebody to connect to.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Candidate {
    pub address: SocketAddr,
    /// The name its certificate is checked against.
    pub name: Arc<str>,
    /// Its place in the pool, or in the list of addresses.
    place: usize,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.ip().to_string() == *self.name {
            return write!(f, "{}", self.address);
        }
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// What to do for the jobs that wait.
pub(in crate::gateway) enum Next {
    /// Connect to this one.
    Connect(Candidate),
    /// This must be known first.
    Ask(Question),
    /// An answer or a connection is under way.
    Wait,
    /// Nobody can be reached now; why.
    Nobody(String),
    /// There is nobody, and waiting does not help.
    Never(Reply),
}

/// How many connections, and for how long.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Limits {
    pub connections_max: usize,
    pub idle_max: usize,
    pub idle_time_max: Duration,
    pub messages_per_connection_max: usize,
}

/// See the module's head.
pub(in crate::gateway) struct Destination {
    pub key: Key,
    pub limits: Limits,
    /// Legs without a job; the hottest is the last.
    pub(super) idle: Vec<Id>,
    /// Legs that are not ready yet.
    pub(super) opening: usize,
    /// Legs in all.
    pub(super) open: usize,
    pub(super) waiting: VecDeque<Job>,
    hosts: Hosts,
    reason: String,
    shared: Arc<Shared>,
}

enum Hosts {
    Pool { pool: Pool, backends: Arc<[Backend]>, names: Vec<Named> },
    Found { finding: Finding, client: Arc<ClientConfig>, tls: Arc<ClientTls> },
    Nowhere,
}

/// A backend given by name, and what the name resolves to.
#[derive(Default)]
struct Named {
    addresses: Vec<IpAddr>,
    until: Instant,
    turn: usize,
}

impl Destination {
    pub(super) fn new(key: Key, shared: &Arc<Shared>, _now: Instant) -> Destination {
        let (hosts, limits) = match &key {
            Key::Pool(index) => {
                let pool = &shared.pools[*index];
                let names = pool.backends.iter().map(|_| Named::default()).collect();
                let hosts = Hosts::Pool { pool: pool.new_pool(), backends: pool.backends.clone(), names };
                (hosts, pool.limits)
            }
            Key::Mx(domain) => found(shared, SMTP_PORT, Wanted::Mx(domain.clone())),
            Key::Literal(ip) => found(shared, SMTP_PORT, Wanted::Address(*ip)),
            Key::Host(host) => {
                let wanted = match (host.host.parse(), crate::wire::address::parse_domain(&host.host)) {
                    (Ok(ip), _) => Wanted::Address(ip),
                    (Err(_), Ok(name)) => Wanted::Host(name),
                    // `HostPort` has checked that it is one or the other.
                    (Err(_), Err(_)) => Wanted::Address(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
                };
                found(shared, host.port, wanted)
            }
            // Mail for mailboxes never comes here; were it to, it would wait.
            Key::Mailboxes | Key::Nowhere => (Hosts::Nowhere, shared.found_limits()),
        };
        Destination {
            key,
            limits,
            idle: Vec::new(),
            opening: 0,
            open: 0,
            waiting: VecDeque::new(),
            hosts,
            reason: "no connection became free in time".into(),
            shared: shared.clone(),
        }
    }

    /// What to do next for the jobs that wait.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        match &mut self.hosts {
            Hosts::Nowhere => Next::Nobody("no route is configured for it".into()),
            Hosts::Pool { pool, backends, names } => {
                if let Some(question) = unresolved(backends, names, now) {
                    return question;
                }
                match pool.pick(now) {
                    Pick::Take(place) => match resolved(&backends[place], &mut names[place], place) {
                        Some(candidate) => Next::Connect(candidate),
                        None => {
                            pool.failed(place, now, Trouble::Unreachable);
                            pool.released(place);
                            Next::Nobody(format!("{} has no address", backends[place].host))
                        }
                    },
                    Pick::Busy => Next::Wait,
                    Pick::Down { .. } if self.opening > 0 => Next::Wait,
                    Pick::Down { .. } => Next::Nobody(self.reason.clone()),
                }
            }
            Hosts::Found { finding, .. } => match finding.next(now) {
                Found::Address(place, address, name) => Next::Connect(Candidate { address, name, place }),
                Found::Ask(question) => Next::Ask(question),
                Found::Wait => Next::Wait,
                Found::Nobody(_) if self.opening > 0 => Next::Wait,
                Found::Nobody(why) => Next::Nobody(why.unwrap_or_else(|| self.reason.clone())),
                Found::Never(reply) => Next::Never(reply),
            },
        }
    }

    /// A lookup was answered.
    pub(super) fn learn(&mut self, answer: &Answer, now: Instant) {
        match &mut self.hosts {
            Hosts::Nowhere => {}
            Hosts::Pool { backends, names, .. } => {
                // Answers come in the order of the questions: the first unresolved one was asked.
                let open = backends.iter().zip(names.iter_mut()).find(|(b, n)| b.ip.is_none() && n.until <= now);
                if let Some((_, named)) = open {
                    named.addresses = answer.addresses().to_vec();
                    named.until = now + answer.ttl.clamp(KNOWN_MIN, KNOWN_MAX);
                }
            }
            Hosts::Found { finding, .. } => {
                let config = &self.shared.config;
                finding.learn(answer, &config.hostname, &config.settings.relay, now);
            }
        }
    }

    pub(super) fn opened(&mut self, candidate: &Candidate, now: Instant) {
        match &mut self.hosts {
            Hosts::Pool { pool, .. } => {
                if pool.succeeded(candidate.place, now) {
                    tracing::info!(destination = %self.key, backend = %candidate, "backend is back");
                }
            }
            Hosts::Found { finding, .. } => finding.succeeded(candidate.address),
            Hosts::Nowhere => {}
        }
    }

    pub(super) fn answered(&mut self, candidate: &Candidate, outcome: &Outcome, now: Instant) {
        if let Hosts::Pool { pool, .. } = &mut self.hosts
            && outcome.answered
        {
            pool.succeeded(candidate.place, now);
        }
    }

    pub(super) fn failed(&mut self, candidate: &Candidate, reason: &str, trouble: Trouble, now: Instant) {
        self.reason = reason.to_owned();
        match &mut self.hosts {
            Hosts::Pool { pool, .. } => {
                if pool.failed(candidate.place, now, trouble) {
                    tracing::warn!(destination = %self.key, backend = %candidate, reason, "backend is set aside");
                }
            }
            Hosts::Found { finding, .. } => finding.failed(candidate.address, now),
            Hosts::Nowhere => {}
        }
    }

    /// Whether a better backend is there for what this one does.
    pub(super) fn is_outdone(&self, candidate: &Candidate, now: Instant) -> bool {
        matches!(&self.hosts, Hosts::Pool { pool, .. } if pool.is_outdone(candidate.place, now))
    }

    /// A connection is gone.
    pub(super) fn released(&mut self, candidate: &Candidate) {
        if let Hosts::Pool { pool, .. } = &mut self.hosts {
            pool.released(candidate.place);
        }
    }

    /// Backends to be looked at by a connection of their own.
    pub(super) fn due_checks(&mut self, now: Instant) -> Vec<Candidate> {
        let Hosts::Pool { pool, backends, names } = &mut self.hosts else { return Vec::new() };
        let mut candidates = Vec::new();
        for place in pool.due_checks(now) {
            match resolved(&backends[place], &mut names[place], place) {
                Some(candidate) => candidates.push(candidate),
                None => pool.released(place),
            }
        }
        candidates
    }

    /// The pool's number and the candidate's place in it; `None` when it was found by lookups.
    pub(super) fn pool_place(&self, candidate: &Candidate) -> Option<(usize, usize)> {
        match self.key {
            Key::Pool(index) => Some((index, candidate.place)),
            _ => None,
        }
    }

    /// Why the last candidate failed.
    pub(super) fn last_reason(&self) -> &str {
        &self.reason
    }

    /// Whether an answer to a lookup will come.
    pub(super) fn is_asking(&self) -> bool {
        match &self.hosts {
            Hosts::Found { finding, .. } => finding.is_asking(),
            Hosts::Pool { .. } => true,
            Hosts::Nowhere => false,
        }
    }

    /// Configuration of the client machine for a candidate.
    pub(super) fn client_of(&self, candidate: &Candidate) -> Arc<ClientConfig> {
        match &self.hosts {
            Hosts::Pool { backends, .. } => backends[candidate.place].client.clone(),
            Hosts::Found { client, .. } => client.clone(),
            Hosts::Nowhere => self.shared.found_client.clone(),
        }
    }

    /// Whether a candidate speaks TLS from the first octet.
    pub(super) fn tls_from_start(&self, candidate: &Candidate) -> bool {
        self.client_of(candidate).tls == TlsMode::Implicit
    }

    /// TLS towards a candidate, and the name it must have.
    pub(super) fn tls_of(&self, candidate: &Candidate) -> (Arc<ClientTls>, String) {
        match &self.hosts {
            Hosts::Pool { backends, .. } => {
                let backend = &backends[candidate.place];
                (backend.tls.clone(), backend.tls_name.clone())
            }
            Hosts::Found { tls, .. } => (tls.clone(), candidate.name.to_string()),
            Hosts::Nowhere => (self.shared.found_tls.clone(), candidate.name.to_string()),
        }
    }
}

fn found(shared: &Shared, port: u16, what: Wanted) -> (Hosts, Limits) {
    let hosts = Hosts::Found {
        finding: Finding::new(what, port),
        client: shared.found_client.clone(),
        tls: shared.found_tls.clone(),
    };
    (hosts, shared.found_limits())
}

/// The first backend whose name must be looked up before the pool is used.
fn unresolved(backends: &[Backend], names: &mut [Named], now: Instant) -> Option<Next> {
    let (backend, _) = backends.iter().zip(names).find(|(b, n)| b.ip.is_none() && n.until <= now)?;
    let name = crate::wire::address::parse_domain(&backend.host.host).ok()?;
    Some(Next::Ask(Question::Addresses(name)))
}

fn resolved(backend: &Backend, named: &mut Named, place: usize) -> Option<Candidate> {
    let ip = match backend.ip {
        Some(ip) => ip,
        None => {
            named.turn = named.turn.wrapping_add(1);
            *named.addresses.get(named.turn % named.addresses.len().max(1))?
        }
    };
    let address = SocketAddr::new(ip, backend.host.port);
    Some(Candidate { address, name: backend.host.host.as_str().into(), place })
}
