//! Where accepted mail goes: the routes of the configuration as a table, and the keys of destinations, which the queue
//! keeps as text.
//!
//! How it fails: a recipient that no route takes is [`Key::Nowhere`]: kept in the queue and
//! routed again at each attempt. A key in the queue whose pool is gone from the configuration is routed anew as well.

use super::config::Config;
use super::targets::{HostPort, RouteMode, Target, Verify};
use crate::base::address::{Domain, Host, Mailbox};
use crate::base::knob::{KnobType, Raw};
use crate::relay::route::{RouteMatch, Routes};
use crate::wire::address::parse_mailbox;
use arc_swap::ArcSwap;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who gets the mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A pool, by its place in the configuration.
    Pool(usize),
    /// The mail exchangers of a domain, in lower case.
    Mx(Domain),
    /// One address, because a recipient's domain is a literal.
    Literal(IpAddr),
    /// One host.
    Host(HostPort),
    /// The mailboxes of local accounts.
    Mailboxes,
    /// Nobody yet.
    Nowhere,
}

/// A route of the configuration.
#[derive(Debug)]
pub(super) struct Route {
    pub name: Arc<str>,
    pub mode: RouteMode,
    pub verify: Verify,
    pub target: Target,
    /// The valid recipients, when `verify` is `table`.
    pub table: Option<Table>,
}

/// Valid recipients of a route, in lower case.
#[derive(Debug, Default)]
pub(super) struct Table {
    addresses: HashSet<String>,
    /// `@domain` entries: everybody there.
    domains: HashSet<String>,
}

impl Table {
    /// Reads one address or `@domain` per line; `#` begins a comment. The error names the line.
    pub fn parse(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        for (number, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim().to_lowercase();
            if entry.is_empty() {
                continue;
            }
            match entry.strip_prefix('@') {
                Some(domain) if crate::wire::address::parse_domain(domain).is_ok() => {
                    table.domains.insert(domain.to_owned());
                }
                None if parse_mailbox(&entry).is_ok() => {
                    table.addresses.insert(entry);
                }
                _ => return Err(format!("line {}: expected an address or @domain, found {entry:?}", number + 1)),
            }
        }
        Ok(table)
    }

    pub fn contains(&self, mailbox: &Mailbox) -> bool {
        self.addresses.contains(&mailbox.lower()) || self.domains.contains(&mailbox.host().lower())
    }
}

/// All routes.
#[derive(Debug)]
pub(super) struct Routing {
    routes: Vec<Route>,
    /// What each is for, as the configuration had it at the start.
    matches: Vec<RouteMatch>,
    table: ArcSwap<Routes>,
    pools: Vec<String>,
}

impl Routing {
    /// From the configuration; reads the tables of recipients.
    pub fn new(config: &Config) -> Result<Routing, String> {
        let mut routes = Vec::new();
        for route in &config.routes {
            let table = match (route.knobs.verify, &route.knobs.table) {
                (Verify::Table, Some(path)) => {
                    let text = std::fs::read_to_string(path)
                        .map_err(|e| format!("route.{}.table: cannot read {}: {e}", route.name, path.display()))?;
                    Some(Table::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?)
                }
                _ => None,
            };
            routes.push(Route {
                name: route.name.as_str().into(),
                mode: route.mode,
                verify: route.knobs.verify,
                target: route.target.clone(),
                table,
            });
        }
        let matches: Vec<RouteMatch> = config
            .routes
            .iter()
            .map(|r| RouteMatch {
                name: r.name.clone(),
                domains: r.knobs.domains.clone(),
                addresses: r.knobs.addresses.clone(),
            })
            .collect();
        let pools = config.pools.iter().map(|p| p.name.clone()).collect();
        let table = ArcSwap::from_pointee(Routes::new(&matches));
        Ok(Routing { routes, matches, table, pools })
    }

    /// The route of a recipient; `named` is what the policy said.
    pub fn route(&self, recipient: &Mailbox, named: Option<&str>) -> Option<&Route> {
        self.table.load().choose(recipient, named).map(|index| &self.routes[index])
    }

    /// Local domains have changed: routes into mailboxes are for those that `config` has them for now. Everything else
    /// about routes stays as it was at the start.
    pub fn set_mailbox_domains(&self, config: &Config) {
        let mut matches = self.matches.clone();
        for route in config.routes.iter().filter(|r| r.mode == RouteMode::Mailbox) {
            let same = matches.iter_mut().zip(&self.routes).find(|(m, r)| m.name == route.name && r.mode == route.mode);
            if let Some((known, _)) = same {
                known.domains.clone_from(&route.knobs.domains);
            }
        }
        self.table.store(Arc::new(Routes::new(&matches)));
    }

    /// Who gets mail for a recipient on this route.
    pub fn key(&self, route: Option<&Route>, recipient: &Mailbox) -> Key {
        match route.map(|r| &r.target) {
            Some(Target::Pool(index)) => Key::Pool(*index),
            Some(Target::Smarthost(host)) => Key::Host(host.clone()),
            Some(Target::Mx) => match recipient.host() {
                Host::Domain(domain) => Key::Mx(lower(domain)),
                Host::Ip(ip) => Key::Literal(*ip),
            },
            Some(Target::Mailboxes) => Key::Mailboxes,
            None => Key::Nowhere,
        }
    }

    /// A key as the queue keeps it.
    pub fn text(&self, key: &Key) -> String {
        match key {
            Key::Pool(index) => format!("pool:{}", self.pools[*index]),
            Key::Mx(domain) => format!("mx:{domain}"),
            Key::Literal(ip) => format!("ip:{ip}"),
            Key::Host(host) => format!("host:{host}"),
            Key::Mailboxes => "mailboxes".to_owned(),
            Key::Nowhere => "nowhere".to_owned(),
        }
    }

    /// A key from the queue; `recipient` is routed anew when there is no such destination any more.
    pub fn key_of_text(&self, text: &str, recipient: &Mailbox) -> Key {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let key = match kind {
            "pool" => self.pools.iter().position(|name| name == rest).map(Key::Pool),
            "mx" => crate::wire::address::parse_domain(rest).ok().map(|d| Key::Mx(lower(&d))),
            "ip" => rest.parse().ok().map(Key::Literal),
            "host" => HostPort::parse(&Raw::Text(rest.to_owned())).ok().map(Key::Host),
            // Only while the route still leads there; without one the store may not even be open.
            "mailboxes" => None,
            _ => None,
        };
        key.unwrap_or_else(|| self.key(self.route(recipient, None), recipient))
    }
}

fn lower(domain: &Domain) -> Domain {
    // Lower case changes nothing about validity; a name that grows past the limit by it stays as it is.
    crate::wire::address::parse_domain(&domain.lower()).unwrap_or_else(|_| domain.clone())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Pool(index) => write!(f, "pool {index}"),
            Key::Mx(domain) => write!(f, "mx:{domain}"),
            Key::Literal(ip) => write!(f, "ip:{ip}"),
            Key::Host(host) => write!(f, "host:{host}"),
            Key::Mailboxes => f.write_str("mailboxes"),
            Key::Nowhere => f.write_str("nowhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_recipients() {
        let table = Table::parse("# valid\nAnn@Example.org\n\n@list.example.org # all\n").unwrap();
        let has = |text: &str| table.contains(&parse_mailbox(text).unwrap());
        assert!(has("ann@EXAMPLE.ORG") && has("anybody@list.example.org"));
        assert!(!has("bob@example.org"));
        assert!(Table::parse("ann@example.org\nnonsense\n").unwrap_err().starts_with("line 2:"));
    }
}
