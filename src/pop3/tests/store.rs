//! A mailbox in memory: what the machine asks of a store, and nothing else.

use crate::base::mailbox::ask::*;
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{AccountId, ContentId, Flags, MailboxId, Uid, UidSet};
use crate::base::time::WallTime;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const ACCOUNT: AccountId = AccountId(3);
pub const INBOX: MailboxId = MailboxId(9);

/// INBOX of one account.
#[derive(Debug)]
pub struct Store {
    pub messages: BTreeMap<Uid, Vec<u8>>,
    /// Messages that were expunged can still be read.
    pub bodies: BTreeMap<Uid, Vec<u8>>,
    pub uid_validity: u32,
    /// Sections of at least so many octets are answered as stored.
    pub stored_from: u64,
    /// Rows of one answer at most.
    pub rows_max: usize,
    /// What `Read` answers at most.
    pub read_max: usize,
}

impl Store {
    pub fn new() -> Store {
        Store {
            messages: BTreeMap::new(),
            bodies: BTreeMap::new(),
            uid_validity: 10,
            stored_from: u64::MAX,
            rows_max: 2,
            read_max: usize::MAX,
        }
    }

    /// A message; UIDs leave gaps.
    pub fn add(&mut self, text: Vec<u8>) {
        let uid = 101 + 3 * self.bodies.len() as Uid;
        self.bodies.insert(uid, text.clone());
        self.messages.insert(uid, text);
    }

    pub fn expunge(&mut self, uids: &UidSet) -> UidSet {
        let gone: UidSet = self.messages.keys().copied().filter(|uid| uids.contains(*uid)).collect();
        gone.iter().for_each(|uid| drop(self.messages.remove(&uid)));
        gone
    }

    pub fn answer(&mut self, ask: &StoreAsk) -> Result<Reply, StoreError> {
        match ask {
            StoreAsk::Account { .. } => Ok(Reply::Account(ACCOUNT)),
            StoreAsk::Query(account, query) => {
                assert_eq!(*account, ACCOUNT);
                self.query(query)
            }
            StoreAsk::Change(account, Change::Expunge { mailbox, uids: Some(uids), deleted_only: false }) => {
                assert_eq!((*account, *mailbox), (ACCOUNT, INBOX));
                Ok(Reply::Expunged { uids: self.expunge(uids), mod_seq: 2 })
            }
            StoreAsk::Change(_, other) => panic!("{other:?}"),
        }
    }

    fn query(&mut self, query: &Query) -> Result<Reply, StoreError> {
        match query {
            Query::Select { name, read_only: true } if name == "INBOX" => {
                Ok(Reply::Selected(Box::new(self.selected())))
            }
            Query::Fetch { mailbox, uids, items, changed_since: None, rows_max, octets_max } => {
                assert_eq!(*mailbox, INBOX);
                let rows_max = self.rows_max.min(*rows_max);
                let (mut rows, mut octets, mut next) = (Vec::new(), 0, None);
                for (uid, text) in self.messages.iter().filter(|(uid, _)| uids.contains(**uid)) {
                    // As full as the vocabulary lets an answer be.
                    if !rows.is_empty() && (rows.len() >= rows_max || octets >= *octets_max) {
                        next = Some(*uid);
                        break;
                    }
                    octets += items.sections.len() * text.len();
                    rows.push(self.row(*uid, text, items));
                }
                Ok(Reply::Fetched(Fetched { rows, next, keywords: Default::default() }))
            }
            Query::Read { stored, offset, octets_max } => {
                let body = &self.bodies[&(stored.content.0 as Uid)];
                let section = &body[stored.offset as usize..(stored.offset + stored.octets) as usize];
                let rest = &section[*offset as usize..];
                Ok(Reply::Octets(Arc::new(rest[..rest.len().min(*octets_max).min(self.read_max)].to_vec())))
            }
            other => panic!("{other:?}"),
        }
    }

    fn selected(&self) -> Selected {
        let status = Status {
            mailbox: INBOX,
            messages: self.messages.len() as u64,
            recent: 0,
            unseen: 0,
            deleted: 0,
            octets: self.messages.values().map(|m| m.len() as u64).sum(),
            deleted_octets: 0,
            uid_next: 1000,
            uid_validity: self.uid_validity,
            mod_seq: 1,
        };
        Selected {
            status,
            name: "INBOX".into(),
            uids: self.messages.keys().copied().collect(),
            recent_from: 1000,
            first_unseen: None,
            keywords: Default::default(),
            more_keywords: true,
        }
    }

    fn row(&self, uid: Uid, text: &[u8], items: &FetchItems) -> Row {
        let at = WallTime::from_millis(0);
        Row {
            uid,
            flags: Flags::NONE,
            mod_seq: 1,
            internal_date: ZonedTime { at, zone_minutes: 0 },
            saved: at,
            octets: text.len() as u64,
            ends_with_crlf: text.is_empty() || text.ends_with(b"\r\n"),
            content: ContentId(u64::from(uid)),
            thread: None,
            envelope: None,
            structure: None,
            preview: None,
            sections: items.sections.iter().map(|s| self.section(uid, text, s)).collect(),
        }
    }

    fn section(&self, uid: Uid, text: &[u8], section: &Section) -> SectionData {
        assert!(section.part.is_empty() && section.what == SectionWhat::All && !section.decoded && !section.size_only);
        let (offset, octets) = section.partial.unwrap_or((0, u64::MAX));
        let start = offset.min(text.len() as u64);
        let octets = octets.min(text.len() as u64 - start);
        SectionData::Octets(if octets >= self.stored_from {
            Octets::Stored(Stored { content: ContentId(u64::from(uid)), offset: start, octets })
        } else {
            Octets::memory(text[start as usize..(start + octets) as usize].to_vec())
        })
    }
}
