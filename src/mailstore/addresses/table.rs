//! The table that [`resolve`](super::Addresses::resolve) looks into: every entry expanded once, when file or accounts
//! change, so that a recipient costs a few look-ups.
//!
//! An entry comes before an account of the same name; one that names itself means the account. How it fails: what leads
//! nowhere or round is a [`Problem`] and left out of the expansion; the rest of it stays in force.

use super::file::{Content, Entry, Target};
use super::name::{Name, domain_key, local_key};
use super::{AddressKind, CHAIN_MAX, MEMBERS_MAX, Resolved};
use crate::base::address::{Domain, Mailbox};
use crate::base::mailbox::MAILBOX_NAME_OCTETS_MAX;
use crate::mailstore::accounts::Names;
use crate::wire::address::{parse_domain, parse_mailbox};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Steps that the expansion of one entry may take: every member of every entry on its way is one.
const STEPS_MAX: usize = 10 * MEMBERS_MAX;

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// It leads back to itself; the way round.
    Loop(Vec<String>),
    /// More than [`CHAIN_MAX`] entries behind each other; the way.
    TooDeep(Vec<String>),
    /// More than [`MEMBERS_MAX`] recipients in the end.
    TooMany {
        /// Which.
        from: String,
    },
    /// A member is nobody.
    Nobody {
        /// Whose member.
        from: String,
        /// The member.
        to: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Loop(way) => write!(f, "mail would go round: {}", way.join(" -> ")),
            Problem::TooDeep(way) => {
                write!(f, "more than {CHAIN_MAX} aliases behind each other: {}", way.join(" -> "))
            }
            Problem::TooMany { from } => write!(f, "{from} would reach more than {MEMBERS_MAX} recipients"),
            Problem::Nobody { from, to } => {
                write!(f, "{from} leads to {to}, which is neither an account nor an alias or list of ours")
            }
        }
    }
}

/// Who is behind an entry in the end.
#[derive(Clone, Debug, Default)]
struct Expansion {
    /// Accounts, each once, with what sub-addressing named.
    accounts: Vec<(String, Option<String>)>,
    /// Addresses elsewhere, each once.
    remote: Vec<Mailbox>,
}

/// Everything, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Domains where names without domain are.
    domains: HashSet<String>,
    separator: Option<char>,
    entries: HashMap<Name, Entry>,
    expansions: HashMap<Name, Expansion>,
    /// The list of a name without domain, `None` where several have it.
    lists: HashMap<String, Option<Name>>,
    /// The domain that a name without one is shown in.
    home: Option<String>,
    /// Accounts by the name they are compared by.
    accounts: HashMap<Name, String>,
    pub problems: Vec<Problem>,
}

/// What a name is.
enum Found<'a> {
    Entry(&'a Entry),
    Account(&'a str),
}

impl Table {
    pub fn new(content: &Content, accounts: &Names, domains: &[Domain], separator: Option<char>) -> Table {
        let mut table = Table {
            domains: domains.iter().map(domain_key).chain(content.domains().map(str::to_owned)).collect(),
            separator,
            entries: content.entries().map(|entry| (entry.from.clone(), entry.clone())).collect(),
            accounts: accounts.iter().map(|name| (account_key(name), name.to_owned())).collect(),
            ..Table::default()
        };
        table.home = domains.first().map(domain_key).or_else(|| content.domains().next().map(str::to_owned));
        let mut known = HashSet::new();
        for entry in content.entries() {
            let mut walk = Walk::new(&table);
            walk.expand(entry);
            let (expansion, problems) = (walk.expansion, walk.problems);
            table.problems.extend(problems.into_iter().filter(|problem| known.insert(problem.clone())));
            table.expansions.insert(entry.from.clone(), expansion);
            if let (AddressKind::List, Name::At { local, .. }) = (entry.kind, &entry.from) {
                let place = table.lists.entry(local.clone());
                place.and_modify(|one| *one = None).or_insert_with(|| Some(entry.from.clone()));
            }
        }
        table
    }

    pub fn is_local_domain(&self, domain: &Domain) -> bool {
        self.domains.contains(&domain_key(domain))
    }

    pub fn resolve(&self, address: &Mailbox) -> Resolved {
        let Some(domain) = address.host().domain() else { return Resolved::NotLocal };
        let key = domain_key(domain);
        let mut expansion = Expansion::default();
        match self.find(address.local(), &key) {
            Some((Found::Account(name), tag)) => expansion.accounts.push((name.to_owned(), tag)),
            Some((Found::Entry(entry), tag)) => {
                expansion = self.expansions.get(&entry.from).cloned().unwrap_or_default();
                // `sales+new@` names a mailbox of the one account behind sales.
                if let (Some(_), [(_, known @ None)]) = (&tag, expansion.accounts.as_mut_slice()) {
                    *known = tag;
                }
            }
            None if self.domains.contains(&key) => return Resolved::Unknown,
            None => return Resolved::NotLocal,
        }
        if expansion.accounts.is_empty() && expansion.remote.is_empty() {
            return Resolved::Unknown;
        }
        let mailbox = match expansion.accounts.as_slice() {
            [(_, tag)] => tag.clone(),
            _ => None,
        };
        let accounts = expansion.accounts.into_iter().map(|(name, _)| name).collect();
        Resolved::Local { accounts, mailbox, remote: expansion.remote }
    }

    /// The address by which an account, and nobody else, is reached.
    pub fn own_address(&self, account: &str) -> Option<Mailbox> {
        let address = match account.contains('@') {
            true => parse_mailbox(account).ok()?,
            false => parse_mailbox(&format!("{account}@{}", self.home.as_ref()?)).ok()?,
        };
        match self.resolve(&address) {
            Resolved::Local { accounts, remote, .. } if accounts == [account] && remote.is_empty() => Some(address),
            _ => None,
        }
    }

    /// Members of a list as addresses (EXPN, RFC 5321 §3.5.1).
    pub fn list_members(&self, list: &str) -> Option<Vec<String>> {
        let list = list.trim().trim_start_matches('<').trim_end_matches('>');
        let (local, domain) = match parse_mailbox(list) {
            Ok(mailbox) => (local_key(mailbox.local()), Some(domain_key(mailbox.host().domain()?))),
            Err(_) => (local_key(list), None),
        };
        let bare = Name::Bare(local.clone());
        let exact = domain.clone().map(|domain| Name::At { local: local.clone(), domain });
        // A name without domain: that list, or the one list of that name.
        let only = if domain.is_none() { self.lists.get(&local).cloned().flatten() } else { None };
        let bare_counts = domain.as_ref().is_none_or(|domain| self.domains.contains(domain));
        let candidates = [exact, bare_counts.then_some(bare), only];
        let entry = candidates.into_iter().flatten().find_map(|name| self.entries.get(&name))?;
        if entry.kind != AddressKind::List {
            return None;
        }
        let home = match &entry.from {
            Name::At { domain, .. } => Some(domain.clone()),
            _ => domain.or_else(|| self.home.clone()),
        };
        let qualified = |target: &Target| match (target, &home) {
            (Target::Bare(name), Some(home)) => format!("{name}@{home}"),
            (target, _) => target.to_string(),
        };
        Some(entry.to.iter().map(qualified).collect())
    }

    /// What an address is, and what sub-addressing names: the whole local part first, then what stands before the
    /// separator, then the postmaster of a place with one account, then the rest of the domain.
    fn find(&self, local: &str, domain: &str) -> Option<(Found<'_>, Option<String>)> {
        if let Some(found) = self.find_exact(&local_key(local), domain) {
            return Some((found, None));
        }
        if let Some((base, tag)) = self.separator.and_then(|separator| local.split_once(separator))
            && !base.is_empty()
            && let Some(found) = self.find_exact(&local_key(base), domain)
        {
            return Some((found, mailbox_name(tag)));
        }
        // RFC 5321 §4.5.1: there is a postmaster wherever there is mail.
        if local.eq_ignore_ascii_case("postmaster") && self.domains.contains(domain) && self.accounts.len() == 1 {
            return self.accounts.values().next().map(|name| (Found::Account(name), None));
        }
        self.entries.get(&Name::Rest(domain.to_owned())).map(|entry| (Found::Entry(entry), None))
    }

    fn find_exact(&self, local: &str, domain: &str) -> Option<Found<'_>> {
        let at = Name::At { local: local.to_owned(), domain: domain.to_owned() };
        let bare = self.domains.contains(domain).then(|| Name::Bare(local.to_owned()));
        self.named(&at).or_else(|| self.named(&bare?))
    }

    fn named(&self, name: &Name) -> Option<Found<'_>> {
        let entry = self.entries.get(name).map(Found::Entry);
        entry.or_else(|| self.account(name).map(Found::Account))
    }

    fn account(&self, name: &Name) -> Option<&str> {
        self.accounts.get(name).map(String::as_str)
    }

    /// The account that has this address or name, whatever entry stands in front of it.
    fn account_of(&self, name: &Name) -> Option<&str> {
        let bare = match name {
            Name::At { local, domain } if self.domains.contains(domain) => Some(Name::Bare(local.clone())),
            _ => None,
        };
        self.account(name).or_else(|| self.account(&bare?))
    }
}

/// An account's name as addresses are compared.
fn account_key(name: &str) -> Name {
    match name.rsplit_once('@') {
        Some((local, domain)) => {
            let domain = parse_domain(domain).map_or_else(|_| domain.to_owned(), |domain| domain_key(&domain));
            Name::At { local: local.to_owned(), domain }
        }
        None => Name::Bare(name.to_owned()),
    }
}

/// What stands behind the separator, when a mailbox can be called so.
fn mailbox_name(tag: &str) -> Option<String> {
    let fits = !tag.is_empty()
        && tag.len() <= MAILBOX_NAME_OCTETS_MAX
        && !tag.contains(|c: char| c.is_control() || c == '*' || c == '%')
        && tag.split('/').all(|level| !level.is_empty());
    fits.then(|| tag.to_owned())
}

/// The expansion of one entry.
struct Walk<'a> {
    table: &'a Table,
    /// Entries from the first to the one being expanded.
    way: Vec<&'a Name>,
    done: HashSet<&'a Name>,
    accounts: HashSet<&'a str>,
    remote: HashSet<&'a Mailbox>,
    steps: usize,
    expansion: Expansion,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn new(table: &'a Table) -> Walk<'a> {
        Walk {
            table,
            way: Vec::new(),
            done: HashSet::new(),
            accounts: HashSet::new(),
            remote: HashSet::new(),
            steps: 0,
            expansion: Expansion::default(),
            problems: Vec::new(),
        }
    }

    /// Recursion is as deep as the way is long: [`CHAIN_MAX`].
    fn expand(&mut self, entry: &'a Entry) {
        if self.way.contains(&&entry.from) {
            return self.complain(Problem::Loop(self.way_to(&entry.from)));
        }
        if !self.done.insert(&entry.from) {
            return; // it has been counted on another way
        }
        if self.way.len() == CHAIN_MAX {
            return self.complain(Problem::TooDeep(self.way_to(&entry.from)));
        }
        self.way.push(&entry.from);
        for target in &entry.to {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.complain(Problem::TooMany { from: self.way[0].to_string() });
                break;
            }
            self.follow(entry, target);
        }
        self.way.pop();
    }

    fn follow(&mut self, entry: &'a Entry, target: &'a Target) {
        let table = self.table;
        let Some(name) = target.name() else { return };
        // An entry that names itself means the account that it stands in front of.
        if name == entry.from
            && let Some(account) = table.account_of(&name)
        {
            return self.take_account(account, None);
        }
        let found = match (&name, target) {
            (Name::At { domain, .. }, Target::Address(mailbox)) => table.find(mailbox.local(), domain),
            _ => table.named(&name).map(|found| (found, None)),
        };
        match (found, target) {
            (Some((Found::Account(account), tag)), _) => self.take_account(account, tag),
            (Some((Found::Entry(next), _)), _) => self.expand(next),
            (None, Target::Address(mailbox))
                if !mailbox.host().domain().is_some_and(|domain| table.is_local_domain(domain)) =>
            {
                if !self.remote.contains(mailbox) && self.has_room() {
                    self.remote.insert(mailbox);
                    self.expansion.remote.push(mailbox.clone());
                }
            }
            (None, _) => {
                self.complain(Problem::Nobody { from: entry.from.to_string(), to: target.to_string() });
            }
        }
    }

    fn take_account(&mut self, account: &'a str, tag: Option<String>) {
        if self.accounts.contains(account) || !self.has_room() {
            return;
        }
        self.accounts.insert(account);
        self.expansion.accounts.push((account.to_owned(), tag));
    }

    /// Whether there can be one more recipient.
    fn has_room(&mut self) -> bool {
        let room = self.accounts.len() + self.remote.len() < MEMBERS_MAX;
        if !room {
            self.complain(Problem::TooMany { from: self.way[0].to_string() });
        }
        room
    }

    /// The way from where `name` first stands on it (or from its beginning) to `name`.
    fn way_to(&self, name: &Name) -> Vec<String> {
        let begin = self.way.iter().position(|step| **step == *name).unwrap_or(0);
        self.way[begin..].iter().map(ToString::to_string).chain([name.to_string()]).collect()
    }

    fn complain(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}
