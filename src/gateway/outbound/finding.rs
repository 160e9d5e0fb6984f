//! The search for the addresses of a destination that is no pool: a domain's mail exchangers (RFC 5321 §5.1), a host, or
//! an address that was given.
//!
//! How it fails: nobody to be found is for a while ([`Found::Nobody`]) when a lookup failed, and for good
//! ([`Found::Never`], with the reply of `relay::mx`) when it is certain; both are looked up again after some time.

use crate::base::address::Domain;
use crate::base::time::Instant;
use crate::lookup::{Answer, Found as Records, Miss, Question};
use crate::relay::knobs::RelayKnobs;
use crate::relay::mx::{self, Exchange, MxAnswer};
use crate::wire::reply::Reply;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long an address that failed is left alone by this core.
const ADDRESS_REST: Duration = Duration::from_secs(30);
/// Bounds of the belief in what a lookup said.
const KNOWN_MIN: Duration = Duration::from_secs(5);
const KNOWN_MAX: Duration = Duration::from_secs(3600);

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// The mail exchangers of a domain.
    Mx(Domain),
    /// A host by name.
    Host(Domain),
    /// Nothing: here it is.
    Address(IpAddr),
}

/// What came of it so far.
#[derive(Debug)]
pub(super) enum Found {
    /// Try this one; its place in the list.
    Address(usize, SocketAddr, Arc<str>),
    /// This must be asked.
    Ask(Question),
    /// It has been asked.
    Wait,
    /// Everybody failed lately, or a lookup did.
    Nobody(Option<String>),
    /// There is nobody.
    Never(Reply),
}

#[derive(Debug)]
struct Address {
    at: SocketAddr,
    name: Arc<str>,
    rest_until: Instant,
}

#[derive(Debug)]
enum Step {
    Begin,
    /// The exchangers are being looked up.
    Exchangers,
    /// The addresses of hosts are being looked up, one after the other; `asked` is the one under way.
    Hosts {
        hosts: Vec<Domain>,
        answers: Vec<Option<Vec<IpAddr>>>,
        certain: bool,
        ttl: Duration,
        asked: bool,
    },
    Known {
        until: Instant,
    },
    Failed {
        until: Instant,
        why: Result<Reply, String>,
    },
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Finding {
    wanted: Wanted,
    port: u16,
    step: Step,
    addresses: Vec<Address>,
    rng: fastrand::Rng,
}

impl Finding {
    pub fn new(wanted: Wanted, port: u16) -> Finding {
        Finding { wanted, port, step: Step::Begin, addresses: Vec::new(), rng: fastrand::Rng::new() }
    }

    /// What to do for whoever wants to send.
    pub fn next(&mut self, now: Instant) -> Found {
        match &mut self.step {
            Step::Begin => self.begin(),
            Step::Exchangers => Found::Wait,
            Step::Hosts { hosts, answers, asked, .. } => match hosts.get(answers.len()) {
                Some(host) if !*asked => {
                    *asked = true;
                    Found::Ask(Question::Addresses(host.clone()))
                }
                _ => Found::Wait,
            },
            Step::Known { until } | Step::Failed { until, .. } if now >= *until => {
                self.addresses.clear();
                self.begin()
            }
            Step::Known { .. } => match self.addresses.iter().position(|a| a.rest_until <= now) {
                Some(place) => {
                    let address = &self.addresses[place];
                    Found::Address(place, address.at, address.name.clone())
                }
                None => Found::Nobody(None),
            },
            Step::Failed { why: Ok(reply), .. } => Found::Never(reply.clone()),
            Step::Failed { why: Err(why), .. } => Found::Nobody(Some(why.clone())),
        }
    }

    fn begin(&mut self) -> Found {
        match &self.wanted {
            Wanted::Address(ip) => {
                let at = SocketAddr::new(*ip, self.port);
                let name: Arc<str> = ip.to_string().into();
                self.addresses = vec![Address { at, name: name.clone(), rest_until: Instant::ZERO }];
                self.step = Step::Known { until: Instant::FAR };
                Found::Address(0, at, name)
            }
            Wanted::Mx(domain) => {
                let question = Question::Mx(domain.clone());
                self.step = Step::Exchangers;
                Found::Ask(question)
            }
            Wanted::Host(host) => {
                let question = Question::Addresses(host.clone());
                self.look_up(vec![host.clone()], KNOWN_MAX);
                if let Step::Hosts { asked, .. } = &mut self.step {
                    *asked = true;
                }
                Found::Ask(question)
            }
        }
    }

    fn look_up(&mut self, hosts: Vec<Domain>, ttl: Duration) {
        self.step = Step::Hosts { hosts, answers: Vec::new(), certain: true, ttl, asked: false };
    }

    /// A lookup was answered.
    pub fn learn(&mut self, answer: &Answer, own: &Domain, knobs: &RelayKnobs, now: Instant) {
        match (&mut self.step, &self.wanted) {
            (Step::Exchangers, Wanted::Mx(domain)) => {
                let domain = domain.clone();
                self.exchangers(&domain, answer, own, knobs, now);
            }
            (Step::Hosts { hosts, answers, certain, ttl, asked }, _) => {
                *asked = false;
                *certain &= answer.miss().is_none_or(Miss::is_certain);
                *ttl = (*ttl).min(answer.ttl);
                answers.push(answer.miss().is_none().then(|| answer.addresses().to_vec()));
                if answers.len() == hosts.len() {
                    self.found(knobs, now);
                }
            }
            _ => {}
        }
    }

    fn exchangers(&mut self, domain: &Domain, answer: &Answer, own: &Domain, knobs: &RelayKnobs, now: Instant) {
        let records: Vec<Exchange> = match &answer.result {
            Ok(Records::Mx(list)) => {
                list.iter().map(|r| Exchange { preference: r.preference, host: r.exchange.clone() }).collect()
            }
            Ok(_) => Vec::new(),
            Err(Miss::NoName) | Err(Miss::NoRecords) => Vec::new(),
            Err(Miss::Temporary(trouble)) => {
                return self.fail(Err(format!("the mail hosts of {domain} cannot be looked up: {trouble}")), now);
            }
        };
        let answer_kind = match &answer.result {
            Err(Miss::NoName) => MxAnswer::NoDomain,
            Err(_) => MxAnswer::NoRecords,
            Ok(_) => MxAnswer::Records(&records),
        };
        match mx::hosts(domain, answer_kind, std::slice::from_ref(own), knobs.mx_hosts_max, &mut self.rng) {
            Ok(hosts) => self.look_up(hosts, answer.ttl),
            Err(reply) => self.fail(Ok(reply), now),
        }
    }

    fn found(&mut self, knobs: &RelayKnobs, now: Instant) {
        let Step::Hosts { hosts, answers, certain, ttl, .. } = &self.step else { return };
        let usable = mx::addresses(answers, knobs.mx_addresses_max);
        let name_of = |ip: &IpAddr| {
            let place = answers.iter().position(|a| a.as_ref().is_some_and(|list| list.contains(ip)));
            place.map_or_else(|| ip.to_string(), |p| hosts[p].to_string())
        };
        let addresses = usable.iter().map(|ip| Address {
            at: SocketAddr::new(*ip, self.port),
            name: name_of(ip).into(),
            rest_until: Instant::ZERO,
        });
        self.addresses = addresses.collect();
        let (certain, ttl) = (*certain, *ttl);
        if !self.addresses.is_empty() {
            self.step = Step::Known { until: now + ttl.clamp(KNOWN_MIN, KNOWN_MAX) };
            return;
        }
        let why = match &self.wanted {
            Wanted::Mx(domain) if certain => Ok(mx::no_addresses(domain, true)),
            // A host from the configuration may get its address back: mail waits for it.
            Wanted::Mx(name) | Wanted::Host(name) => Err(format!("no address of {name} can be found")),
            Wanted::Address(ip) => Err(format!("{ip} is not there")),
        };
        self.fail(why, now);
    }

    fn fail(&mut self, why: Result<Reply, String>, now: Instant) {
        self.addresses.clear();
        self.step = Step::Failed { until: now + KNOWN_MIN, why };
    }

    /// An address could not be connected to, or broke.
    pub fn failed(&mut self, address: SocketAddr, now: Instant) {
        if let Some(address) = self.addresses.iter_mut().find(|a| a.at == address) {
            address.rest_until = now + ADDRESS_REST;
        }
    }

    /// An address works.
    pub fn succeeded(&mut self, address: SocketAddr) {
        if let Some(address) = self.addresses.iter_mut().find(|a| a.at == address) {
            address.rest_until = Instant::ZERO;
        }
    }

    /// Whether an answer will come.
    pub fn is_asking(&self) -> bool {
        matches!(self.step, Step::Exchangers | Step::Hosts { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::{MxRecord, Source};
    use crate::wire::address::parse_domain;

    fn domain(text: &str) -> Domain {
        parse_domain(text).unwrap()
    }

    fn answer(result: Result<Records, Miss>) -> Answer {
        Answer { result, ttl: Duration::from_secs(60), source: Source::Dns }
    }

    fn addresses(list: &[&str]) -> Answer {
        answer(Ok(Records::Addresses(list.iter().map(|a| a.parse().unwrap()).collect())))
    }

    fn learn(f: &mut Finding, a: &Answer) {
        f.learn(a, &domain("gate.example.test"), &RelayKnobs::default(), Instant::ZERO);
    }

    #[test]
    fn exchangers_in_order_and_the_next_when_one_fails() {
        let mut f = Finding::new(Wanted::Mx(domain("example.org")), 25);
        assert!(matches!(f.next(Instant::ZERO), Found::Ask(Question::Mx(_))));
        assert!(matches!(f.next(Instant::ZERO), Found::Wait));
        let record = |preference, name: &str| MxRecord { preference, exchange: Some(domain(name)) };
        learn(&mut f, &answer(Ok(Records::Mx([record(20, "b.example.org"), record(10, "a.example.org")].into()))));
        let Found::Ask(Question::Addresses(first)) = f.next(Instant::ZERO) else { panic!("not asked") };
        assert_eq!(first.as_str(), "a.example.org");
        learn(&mut f, &addresses(&["192.0.2.1"]));
        assert!(matches!(f.next(Instant::ZERO), Found::Ask(_)));
        learn(&mut f, &addresses(&["192.0.2.2"]));
        let Found::Address(0, at, name) = f.next(Instant::ZERO) else { panic!("no address") };
        assert_eq!((at.to_string().as_str(), &*name), ("192.0.2.1:25", "a.example.org"));
        f.failed(at, Instant::ZERO);
        let Found::Address(1, second, _) = f.next(Instant::ZERO) else { panic!("no second") };
        f.failed(second, Instant::ZERO);
        assert!(matches!(f.next(Instant::ZERO), Found::Nobody(None)));
        assert!(matches!(f.next(Instant::ZERO + ADDRESS_REST), Found::Address(0, ..)));
    }

    #[test]
    fn certain_and_uncertain_failures() {
        let mut f = Finding::new(Wanted::Mx(domain("example.org")), 25);
        f.next(Instant::ZERO);
        learn(&mut f, &answer(Err(Miss::NoName)));
        let Found::Never(reply) = f.next(Instant::ZERO) else { panic!("not certain") };
        assert_eq!(reply.code, 550);
        let mut f = Finding::new(Wanted::Mx(domain("example.org")), 25);
        f.next(Instant::ZERO);
        learn(&mut f, &answer(Err(Miss::Temporary(crate::lookup::Trouble::Timeout))));
        assert!(matches!(f.next(Instant::ZERO), Found::Nobody(Some(_))));
        assert!(matches!(f.next(Instant::ZERO + KNOWN_MIN), Found::Ask(_)), "asked again");
    }

    #[test]
    fn an_address_needs_no_lookup() {
        let mut f = Finding::new(Wanted::Address("127.0.0.1".parse().unwrap()), 2525);
        assert!(matches!(f.next(Instant::ZERO), Found::Address(0, at, _) if at.port() == 2525));
    }
}
