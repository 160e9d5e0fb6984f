//! SPF (RFC 7208): may this address send for this domain? `record` reads, `macros` expands, this file decides.
//!
//! The check asks for records only through the lane's own cache and name servers, so that fixed records hold for it, its
//! time is bounded, and a check whose records are all at hand needs no wait. (The evaluation of the `mail-auth` crate
//! knows no limit of void lookups and asks a resolver of its own.)
//!
//! How it fails: a name server's failure is [`Verified::Temperror`], a record that is broken or asks for too much is
//! [`Verified::Permerror`]; arbitrary octets in a record do no more than that.

mod macros;
mod record;

use super::question::{Found, Key, Miss, ascii, is_dns_name};
use super::records::Resolve;
use crate::base::address::{Domain, Host, Mailbox};
use crate::base::inquiry::{Finding, Spf, Verified};
use macros::{MacroString, Values};
use record::{Directive, Mechanism, Prefixes, Record, is_spf};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

/// Terms that ask the DNS at most, includes and redirects together (RFC 7208 §4.6.4).
const LOOKUPS_MAX: u32 = 10;
/// Questions with an empty answer at most (RFC 7208 §4.6.4).
const VOID_MAX: u32 = 2;
/// Hosts of one `mx`, and names of one `ptr` or `%{p}`, at most (RFC 7208 §4.6.4).
const HOSTS_MAX: usize = 10;
/// Octets of an explanation that are passed on: it may end up in a reply.
const EXPLANATION_MAX: usize = 400;

/// Who is to be checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// Who sends.
    pub client: IpAddr,
    /// HELO.
    pub helo: &'a str,
    /// MAIL FROM; `None` checks HELO (RFC 7208 §2.4).
    pub sender: Option<&'a Mailbox>,
    /// Our own name, for explanations.
    pub host: &'a str,
}

/// Checks the sender, or HELO where the sender is null.
pub(super) async fn spf(dns: &Resolve, subject: Subject<'_>) -> Finding {
    let (domain, of_helo) = identity(subject);
    let mut check = Check {
        dns,
        ip: subject.client.to_canonical(),
        // RFC 7208 §4.3: without a local part it is "postmaster".
        local: subject.sender.map(Mailbox::local).filter(|l| !l.is_empty()).unwrap_or("postmaster"),
        sender_domain: &domain,
        helo: subject.helo,
        host: subject.host,
        lookups: 0,
        voids: 0,
    };
    // RFC 7208 §4.3: what is no fully qualified domain has no SPF.
    let outcome = match is_dns_name(&domain) && domain.contains('.') && !domain.starts_with('[') {
        true => check.check_host(domain.clone(), 0).await,
        false => Outcome::of(Verified::None),
    };
    let explanation = match outcome.explain {
        Some((text, at)) if outcome.result == Verified::Fail => check.explanation(&text, &at).await,
        _ => None,
    };
    Finding::Spf(Spf { result: outcome.result, domain: domain.into(), of_helo, explanation })
}

/// What is said when the time is over (RFC 7208 §4.6.4: "temperror").
pub(super) fn out_of_time(subject: Subject<'_>) -> Finding {
    let (domain, of_helo) = identity(subject);
    Finding::Spf(Spf { result: Verified::Temperror, domain: domain.into(), of_helo, explanation: None })
}

/// The domain to check, in A-labels where it can be, and whether it is that of HELO.
fn identity(subject: Subject<'_>) -> (String, bool) {
    let a_labels = |domain: &Domain| ascii(domain).map_or_else(|| domain.lower(), String::from);
    match subject.sender.map(Mailbox::host) {
        Some(Host::Domain(domain)) => (a_labels(domain), false),
        Some(literal) => (literal.lower(), false),
        None => {
            let helo = subject.helo.strip_suffix('.').unwrap_or(subject.helo);
            (helo.to_ascii_lowercase(), true)
        }
    }
}

/// What `check_host` returns (RFC 7208 §4), and where an explanation would come from.
struct Outcome {
    result: Verified,
    /// The `exp=` that counts, with the domain whose record it stands in.
    explain: Option<(MacroString, String)>,
}

impl Outcome {
    fn of(result: Verified) -> Outcome {
        Outcome { result, explain: None }
    }
}

/// An end of the check before a term has matched.
type Ended = Verified;

struct Check<'a> {
    dns: &'a Resolve,
    ip: IpAddr,
    local: &'a str,
    sender_domain: &'a str,
    helo: &'a str,
    host: &'a str,
    lookups: u32,
    voids: u32,
}

type Checked<'b> = Pin<Box<dyn Future<Output = Outcome> + Send + 'b>>;

impl Check<'_> {
    /// RFC 7208 §4. Boxed, since records include others; the count of lookups bounds the depth.
    fn check_host(&mut self, domain: String, depth: u32) -> Checked<'_> {
        Box::pin(async move {
            debug_assert!(depth <= LOOKUPS_MAX);
            let record = match self.record_of(&domain).await {
                Ok(record) => record,
                Err(ended) => return Outcome::of(ended),
            };
            for directive in &record.directives {
                match self.matches(directive, &domain, depth).await {
                    Ok(true) => {
                        let explain = record.explain.map(|text| (text, domain));
                        return Outcome { result: directive.result, explain };
                    }
                    Ok(false) => {}
                    Err(ended) => return Outcome::of(ended),
                }
            }
            match &record.redirect {
                Some(target) => self.redirect(target, &domain, depth).await,
                // RFC 7208 §4.7
                None => Outcome::of(Verified::Neutral),
            }
        })
    }

    /// RFC 7208 §6.1
    async fn redirect(&mut self, target: &MacroString, domain: &str, depth: u32) -> Outcome {
        if let Err(ended) = self.spend() {
            return Outcome::of(ended);
        }
        let Some(name) = self.name(target, domain).await else { return Outcome::of(Verified::Permerror) };
        let mut outcome = self.check_host(name, depth + 1).await;
        if outcome.result == Verified::None {
            outcome.result = Verified::Permerror;
        }
        outcome
    }

    /// RFC 7208 §4.4, §4.5
    async fn record_of(&self, domain: &str) -> Result<Record, Ended> {
        let texts = match self.dns.get(&Key::Txt(domain.to_ascii_lowercase().into())).await.result {
            Ok(Found::Texts(texts)) => texts,
            Err(Miss::Temporary(_)) => return Err(Verified::Temperror),
            _ => return Err(Verified::None),
        };
        let mut found = texts.iter().filter(|t| is_spf(t));
        match (found.next(), found.next()) {
            (None, _) => Err(Verified::None),
            (Some(text), None) => Record::parse(text).map_err(|_| Verified::Permerror),
            (Some(_), Some(_)) => Err(Verified::Permerror),
        }
    }

    /// Counts a term that asks the DNS.
    fn spend(&mut self) -> Result<(), Ended> {
        self.lookups += 1;
        if self.lookups > LOOKUPS_MAX { Err(Verified::Permerror) } else { Ok(()) }
    }

    /// The addresses, mail exchangers or whatever `key` asks for; `None` when there are none, which is counted.
    async fn ask(&mut self, key: Key) -> Result<Option<Found>, Ended> {
        match self.dns.get(&key).await.result {
            Ok(found) => Ok(Some(found)),
            Err(Miss::Temporary(_)) => Err(Verified::Temperror),
            Err(_) => {
                self.voids += 1;
                if self.voids > VOID_MAX { Err(Verified::Permerror) } else { Ok(None) }
            }
        }
    }

    async fn matches(&mut self, directive: &Directive, domain: &str, depth: u32) -> Result<bool, Ended> {
        match &directive.mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(net, length) => Ok(within(self.ip, IpAddr::V4(*net), *length)),
            Mechanism::Ip6(net, length) => Ok(within(self.ip, IpAddr::V6(*net), *length)),
            asks => {
                self.spend()?;
                self.asks(asks, domain, depth).await
            }
        }
    }

    /// The mechanisms that ask the DNS. A name that is none by the rules of the DNS matches nothing.
    async fn asks(&mut self, mechanism: &Mechanism, domain: &str, depth: u32) -> Result<bool, Ended> {
        match mechanism {
            Mechanism::Include(target) => {
                let Some(name) = self.name(target, domain).await else { return Err(Verified::Permerror) };
                // RFC 7208 §5.2
                match self.check_host(name, depth + 1).await.result {
                    Verified::Pass => Ok(true),
                    Verified::Fail | Verified::Softfail | Verified::Neutral => Ok(false),
                    Verified::Temperror => Err(Verified::Temperror),
                    _ => Err(Verified::Permerror),
                }
            }
            Mechanism::A(target, prefixes) => match self.target(target, domain).await {
                Some(name) => self.has_address(&name, *prefixes).await,
                None => Ok(false),
            },
            Mechanism::Mx(target, prefixes) => self.mx(target, domain, *prefixes).await,
            Mechanism::Ptr(target) => {
                let Some(name) = self.target(target, domain).await else { return Ok(false) };
                self.voided(&Key::Ptr(self.ip)).await?;
                Ok(self.confirmed().await.iter().any(|n| is_below(n, &name)))
            }
            Mechanism::Exists(target) => match self.name(target, domain).await {
                // RFC 7208 §5.7: an A record, also for IPv6 clients.
                Some(name) => Ok(self.ask(Key::A(name.into())).await?.is_some()),
                None => Ok(false),
            },
            Mechanism::All | Mechanism::Ip4(..) | Mechanism::Ip6(..) => Ok(false),
        }
    }

    /// RFC 7208 §5.4
    async fn mx(&mut self, target: &Option<MacroString>, domain: &str, prefixes: Prefixes) -> Result<bool, Ended> {
        let Some(name) = self.target(target, domain).await else { return Ok(false) };
        let Some(Found::Mx(records)) = self.ask(Key::Mx(name.into())).await? else { return Ok(false) };
        if records.len() > HOSTS_MAX {
            return Err(Verified::Permerror);
        }
        for host in records.iter().filter_map(|r| r.exchange.as_ref()) {
            if self.has_address(&host.lower(), prefixes).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn has_address(&mut self, name: &str, prefixes: Prefixes) -> Result<bool, Ended> {
        let found = self.ask(Key::of_family(self.ip, name)).await?;
        let length = if self.ip.is_ipv4() { prefixes.v4 } else { prefixes.v6 };
        Ok(matches!(found, Some(Found::Addresses(ips)) if ips.iter().any(|net| within(self.ip, *net, length))))
    }

    /// Counts an empty answer to `key`; a failure is none here (RFC 7208 §5.5: then nothing matches).
    async fn voided(&mut self, key: &Key) -> Result<(), Ended> {
        if self.dns.get(key).await.result.is_err_and(Miss::is_certain) {
            self.voids += 1;
        }
        if self.voids > VOID_MAX { Err(Verified::Permerror) } else { Ok(()) }
    }

    /// Names of the address that resolve back to it; failures leave names out (RFC 7208 §5.5).
    async fn confirmed(&self) -> Vec<String> {
        let Ok(Found::Names(names)) = self.dns.get(&Key::Ptr(self.ip)).await.result else { return Vec::new() };
        let mut confirmed = Vec::new();
        for name in names.iter().take(HOSTS_MAX).map(Domain::lower) {
            let found = self.dns.get(&Key::of_family(self.ip, &name)).await.result;
            if matches!(found, Ok(Found::Addresses(ips)) if ips.contains(&self.ip)) {
                confirmed.push(name);
            }
        }
        confirmed
    }

    /// The name a mechanism is about: its own, or the domain.
    async fn target(&self, target: &Option<MacroString>, domain: &str) -> Option<String> {
        match target {
            Some(target) => self.name(target, domain).await,
            None => Some(domain.to_ascii_lowercase()),
        }
    }

    /// A name from its macros; `None` when it is none.
    async fn name(&self, text: &MacroString, domain: &str) -> Option<String> {
        let confirmed = self.confirmed_for(text, domain).await;
        let name = text.expand_name(&self.values(domain, &confirmed))?.to_ascii_lowercase();
        is_dns_name(&name).then_some(name)
    }

    /// The value of `%{p}` (RFC 7208 §7.3): a confirmed name that is the domain, or below it, or any; else "unknown".
    async fn confirmed_for(&self, text: &MacroString, domain: &str) -> String {
        if !text.needs_confirmed() {
            return String::new();
        }
        let names = self.confirmed().await;
        let best = names.iter().find(|n| n.eq_ignore_ascii_case(domain));
        let best = best.or_else(|| names.iter().find(|n| is_below(n, domain))).or(names.first());
        best.map_or_else(|| "unknown".to_owned(), Clone::clone)
    }

    fn values<'v>(&'v self, domain: &'v str, confirmed: &'v str) -> Values<'v> {
        Values {
            ip: self.ip,
            local: self.local,
            sender_domain: self.sender_domain,
            domain,
            helo: self.helo,
            host: self.host,
            confirmed,
            seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        }
    }

    /// RFC 7208 §6.2: whatever goes wrong, there is no explanation.
    async fn explanation(&self, at: &MacroString, domain: &str) -> Option<Box<str>> {
        let name = self.name(at, domain).await?;
        let Ok(Found::Texts(texts)) = self.dns.get(&Key::Txt(name.into())).await.result else { return None };
        let [text] = &*texts else { return None };
        let text = std::str::from_utf8(text).ok().filter(|t| t.is_ascii())?;
        let text = MacroString::parse(text, true)?;
        let confirmed = self.confirmed_for(&text, domain).await;
        let said = text.expand(&self.values(domain, &confirmed))?;
        let fits = said.len() <= EXPLANATION_MAX && said.bytes().all(|b| (b' '..=b'~').contains(&b));
        (fits && !said.is_empty()).then(|| said.into())
    }
}

/// Whether `name` is `domain` or stands below it.
fn is_below(name: &str, domain: &str) -> bool {
    let Some(split) = name.len().checked_sub(domain.len()) else { return false };
    name.is_char_boundary(split)
        && name[split..].eq_ignore_ascii_case(domain)
        && (split == 0 || name[..split].ends_with('.'))
}

/// Whether `ip` is in the network of `length` bits around `net`.
fn within(ip: IpAddr, net: IpAddr, length: u8) -> bool {
    match (ip, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        _ => false,
    }
}
