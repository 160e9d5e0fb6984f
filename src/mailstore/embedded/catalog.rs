//! The mailboxes of one account, by name, as a value; and what a mailbox can be called.
//!
//! How it fails: an unusable name is [`StoreError::InvalidName`] with the reason.

use crate::base::mailbox::ask::{MailboxInfo, StoreError};
use crate::base::mailbox::{HIERARCHY_SEPARATOR, MAILBOX_NAME_OCTETS_MAX, MailboxId, SpecialUse};
use std::collections::{BTreeMap, BTreeSet};

/// The mailbox every account has.
pub(super) const INBOX: &str = "INBOX";
/// Levels of a name.
const LEVELS_MAX: usize = 32;

/// What an account is born with, beside INBOX.
pub(super) const FIRST_MAILBOXES: [(&str, SpecialUse); 5] = [
    ("Archive", SpecialUse::Archive),
    ("Drafts", SpecialUse::Drafts),
    ("Junk", SpecialUse::Junk),
    ("Sent", SpecialUse::Sent),
    ("Trash", SpecialUse::Trash),
];

/// A mailbox in its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: MailboxId,
    pub uid_validity: u32,
    pub special_use: Option<SpecialUse>,
    /// Only a level above others when not.
    pub selectable: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Of the account.
    pub name: String,
    pub mailboxes: BTreeMap<String, Entry>,
    pub subscribed: BTreeSet<String>,
    names: BTreeMap<MailboxId, String>,
}

impl Catalog {
    pub fn new(name: &str) -> Catalog {
        Catalog { name: name.to_owned(), ..Catalog::default() }
    }

    /// Puts a mailbox in its place; if it had another name it loses that.
    pub fn put(&mut self, name: &str, entry: Entry) {
        self.remove(entry.id);
        self.names.insert(entry.id, name.to_owned());
        self.mailboxes.insert(name.to_owned(), entry);
    }

    pub fn remove(&mut self, id: MailboxId) {
        if let Some(name) = self.names.remove(&id)
            && self.mailboxes.get(&name).is_some_and(|e| e.id == id)
        {
            self.mailboxes.remove(&name);
        }
    }

    /// A mailbox that can be selected.
    pub fn selectable(&self, name: &str) -> Option<&Entry> {
        self.mailboxes.get(&*canonical(name)).filter(|e| e.selectable)
    }

    /// Names below this one.
    pub fn below<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let prefix = format!("{name}{HIERARCHY_SEPARATOR}");
        let from = self.mailboxes.range(prefix.clone()..);
        from.take_while(move |(n, _)| n.starts_with(&prefix)).map(|(n, e)| (n.as_str(), e))
    }

    pub fn infos(&self) -> Vec<MailboxInfo> {
        let there = self.mailboxes.iter().map(|(name, e)| MailboxInfo {
            name: name.clone(),
            id: Some(e.id),
            selectable: e.selectable,
            subscribed: self.subscribed.contains(name),
            special_use: e.special_use,
        });
        let only_names = self.subscribed.iter().filter(|n| !self.mailboxes.contains_key(*n));
        let only_names = only_names.map(|name| MailboxInfo {
            name: name.clone(),
            id: None,
            selectable: false,
            subscribed: true,
            special_use: None,
        });
        let mut all: Vec<MailboxInfo> = there.chain(only_names).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The name as it is kept: INBOX in upper case as a whole name or first level (RFC 9051 §5.1).
pub(super) fn canonical(name: &str) -> std::borrow::Cow<'_, str> {
    let first = name.split(HIERARCHY_SEPARATOR).next().unwrap_or_default();
    if first.eq_ignore_ascii_case(INBOX) && first != INBOX {
        return format!("{INBOX}{}", &name[first.len()..]).into();
    }
    name.into()
}

/// A name for a new mailbox, checked.
pub(super) fn checked(name: &str) -> Result<String, StoreError> {
    // RFC 9051 §6.3.4: a separator at the end says that names below will be made.
    let name = name.strip_suffix(HIERARCHY_SEPARATOR).unwrap_or(name);
    let name = canonical(name).into_owned();
    let fault = if name.is_empty() {
        "expected a name"
    } else if name.len() > MAILBOX_NAME_OCTETS_MAX {
        "the name is too long"
    } else if name.chars().any(|c| c.is_control() || c == '*' || c == '%') {
        "a name cannot contain control characters, * or %"
    } else if name.split(HIERARCHY_SEPARATOR).any(str::is_empty) {
        "a level of the name is empty"
    } else if name.split(HIERARCHY_SEPARATOR).count() > LEVELS_MAX {
        "the name has too many levels"
    } else {
        return Ok(name);
    };
    Err(StoreError::InvalidName(fault))
}

/// Names above this one, highest first.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(HIERARCHY_SEPARATOR).map(|(at, _)| &name[..at])
}
