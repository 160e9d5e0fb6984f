//! A mailstore small enough to be read at once: what the asks of the machine mean, over vectors and maps.

use crate::base::mailbox::ask::*;
use crate::base::mailbox::search::*;
use crate::base::mailbox::*;
use crate::base::time::WallTime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub struct Message {
    pub flags: Flags,
    pub mod_seq: ModSeq,
    pub date: ZonedTime,
    pub saved: WallTime,
    pub content: ContentId,
}

pub struct Box {
    pub id: MailboxId,
    pub name: String,
    pub subscribed: bool,
    pub selectable: bool,
    pub special_use: Option<SpecialUse>,
    pub uid_next: Uid,
    pub mod_seq: ModSeq,
    pub recent_from: Uid,
    pub messages: BTreeMap<Uid, Message>,
    pub vanished: Vec<(Uid, ModSeq)>,
    pub keywords: Keywords,
}

#[derive(Default)]
pub struct Model {
    pub boxes: Vec<Box>,
    pub subscribed_only: BTreeSet<String>,
    pub contents: Vec<Arc<Vec<u8>>>,
    pub now: WallTime,
    /// Octets above which a section is answered as stored.
    pub inline_max: u64,
    /// Rows of one answer at most, on top of what is asked for.
    pub rows_max: usize,
    pub quota: Quota,
    /// Fails the next ask.
    pub fail: Option<StoreError>,
    /// Mailboxes that changed since this was taken.
    pub changed: Vec<MailboxId>,
    next_id: u32,
}

pub type Answered = Result<Reply, StoreError>;

impl Box {
    pub fn bump(&mut self) -> ModSeq {
        self.mod_seq += 1;
        self.mod_seq
    }
    fn status(&self, contents: &[Arc<Vec<u8>>]) -> Status {
        let size = |m: &Message| contents[m.content.0 as usize - 1].len() as u64;
        let with = |flag: Flags| self.messages.values().filter(move |m| m.flags.contains(flag));
        Status {
            mailbox: self.id,
            messages: self.messages.len() as u64,
            recent: self.messages.range(self.recent_from..).count() as u64,
            unseen: self.messages.len() as u64 - with(Flags::SEEN).count() as u64,
            deleted: with(Flags::DELETED).count() as u64,
            octets: self.messages.values().map(size).sum(),
            deleted_octets: with(Flags::DELETED).map(size).sum(),
            uid_next: self.uid_next,
            uid_validity: 1000 + self.id.0,
            mod_seq: self.mod_seq,
        }
    }
    pub fn flags(&mut self, names: &FlagNames) -> Flags {
        names.keywords.iter().fold(names.system, |flags, name| {
            let known = self.keywords.iter().position(|k| k.eq_ignore_ascii_case(name));
            let at = known.unwrap_or_else(|| {
                Arc::make_mut(&mut self.keywords).push(name.clone());
                self.keywords.len() - 1
            });
            flags.with(Flags::keyword(at))
        })
    }
    pub fn remove(&mut self, uids: &UidSet) -> ModSeq {
        let mod_seq = self.bump();
        for uid in uids.iter() {
            self.messages.remove(&uid);
            self.vanished.push((uid, mod_seq));
        }
        mod_seq
    }
    pub fn add(&mut self, flags: Flags, date: ZonedTime, saved: WallTime, content: ContentId) -> Uid {
        let (uid, mod_seq) = (self.uid_next, self.bump());
        self.uid_next += 1;
        self.messages.insert(uid, Message { flags, mod_seq, date, saved, content });
        uid
    }
    pub fn uids(&self) -> UidSet {
        self.messages.keys().copied().collect()
    }
}

impl Model {
    pub fn new() -> Model {
        let mut model = Model { inline_max: 1 << 20, rows_max: usize::MAX, ..Model::default() };
        model.create("INBOX", None);
        model.create("Drafts", Some(SpecialUse::Drafts));
        model.create("Sent", Some(SpecialUse::Sent));
        model
    }

    pub fn create(&mut self, name: &str, special_use: Option<SpecialUse>) -> MailboxId {
        self.next_id += 1;
        let id = MailboxId(self.next_id);
        let subscribed = self.subscribed_only.remove(name);
        self.boxes.push(Box {
            id,
            name: name.into(),
            subscribed,
            selectable: true,
            special_use,
            uid_next: 1,
            mod_seq: 1,
            recent_from: 1,
            messages: BTreeMap::new(),
            vanished: Vec::new(),
            keywords: Keywords::default(),
        });
        id
    }

    pub fn at(&mut self, id: MailboxId) -> Result<&mut Box, StoreError> {
        self.boxes.iter_mut().find(|b| b.id == id).ok_or(StoreError::Gone)
    }

    pub fn named(&mut self, name: &str) -> Result<&mut Box, StoreError> {
        self.boxes.iter_mut().find(|b| b.name == name && b.selectable).ok_or(StoreError::NoSuchMailbox)
    }

    /// Mail arrives.
    pub fn deliver(&mut self, name: &str, text: &[u8]) -> Uid {
        self.contents.push(Arc::new(text.to_vec()));
        let (content, now) = (ContentId(self.contents.len() as u64), self.now);
        let there = self.named(name).unwrap();
        let (uid, id) = (there.add(Flags::NONE, ZonedTime { at: now, zone_minutes: 0 }, now, content), there.id);
        self.changed.push(id);
        uid
    }

    pub fn answer(&mut self, ask: &StoreAsk) -> Answered {
        if let Some(error) = self.fail.take() {
            return Err(error);
        }
        match ask {
            StoreAsk::Account { name } if name == "ann" => Ok(Reply::Account(AccountId(1))),
            StoreAsk::Account { .. } => Err(StoreError::NoSuchAccount),
            StoreAsk::Query(_, query) => self.query(query),
            StoreAsk::Change(_, change) => self.change(change),
        }
    }

    fn query(&mut self, query: &Query) -> Answered {
        match query {
            Query::Mailboxes => Ok(Reply::Mailboxes(self.infos())),
            Query::Status { names } => {
                let contents = self.contents.clone();
                Ok(Reply::Statuses(names.iter().map(|n| Ok(self.named(n)?.status(&contents))).collect()))
            }
            Query::Select { name, read_only } => self.select(name, *read_only),
            Query::Sync { mailbox, since, uid_next, read_only } => self.sync(*mailbox, *since, *uid_next, *read_only),
            Query::Fetch { mailbox, uids, items, changed_since, rows_max, octets_max } => {
                self.fetch(*mailbox, uids, items, *changed_since, *rows_max, *octets_max)
            }
            Query::Read { stored, offset, octets_max } => {
                let whole = &self.contents[stored.content.0 as usize - 1];
                let start = (stored.offset + offset) as usize;
                let end = (start + octets_max).min((stored.offset + stored.octets) as usize);
                Ok(Reply::Octets(Arc::new(whole[start..end].to_vec())))
            }
            Query::Search { mailbox, key, form, among } => self.search(*mailbox, key, form, among),
            Query::Vanished { mailbox, since, among } => {
                let there = self.at(*mailbox)?;
                let gone = there.vanished.iter().filter(|(_, m)| m > since).map(|(u, _)| *u);
                let mut gone: Vec<Uid> = gone.collect();
                gone.sort_unstable();
                Ok(Reply::Vanished(gone.into_iter().collect::<UidSet>().intersection(among)))
            }
            Query::Quota => Ok(Reply::Quota(self.quota)),
        }
    }

    fn infos(&self) -> Vec<MailboxInfo> {
        let there = self.boxes.iter().map(|b| MailboxInfo {
            name: b.name.clone(),
            id: Some(b.id),
            selectable: b.selectable,
            subscribed: b.subscribed,
            special_use: b.special_use,
        });
        let names = self.subscribed_only.iter().map(|name| MailboxInfo {
            name: name.clone(),
            id: None,
            selectable: false,
            subscribed: true,
            special_use: None,
        });
        let mut infos: Vec<MailboxInfo> = there.chain(names).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    fn select(&mut self, name: &str, read_only: bool) -> Answered {
        let contents = self.contents.clone();
        let there = self.named(name)?;
        let selected = Selected {
            status: there.status(&contents),
            name: there.name.clone(),
            uids: there.uids(),
            recent_from: there.recent_from,
            first_unseen: there.messages.iter().find(|(_, m)| !m.flags.contains(Flags::SEEN)).map(|(u, _)| *u),
            keywords: there.keywords.clone(),
            more_keywords: true,
        };
        if !read_only {
            there.recent_from = there.uid_next;
        }
        Ok(Reply::Selected(std::boxed::Box::new(selected)))
    }

    fn sync(&mut self, id: MailboxId, since: ModSeq, uid_next: Uid, read_only: bool) -> Answered {
        let Ok(there) = self.at(id) else {
            let synced = Synced {
                gone: true,
                added: UidSet::new(),
                recent_from: 0,
                changed: Vec::new(),
                vanished: UidSet::new(),
                mod_seq: 0,
                uid_next: 0,
                keywords: Keywords::default(),
            };
            return Ok(Reply::Synced(std::boxed::Box::new(synced)));
        };
        let mut vanished: Vec<Uid> =
            there.vanished.iter().filter(|(u, m)| *m > since && *u < uid_next).map(|(u, _)| *u).collect();
        vanished.sort_unstable();
        let changed = there.messages.range(..uid_next).filter(|(_, m)| m.mod_seq > since);
        let synced = Synced {
            gone: false,
            added: there.messages.range(uid_next..).map(|(u, _)| *u).collect(),
            recent_from: there.recent_from,
            changed: changed.map(|(u, m)| FlagChange { uid: *u, flags: m.flags, mod_seq: m.mod_seq }).collect(),
            vanished: vanished.into_iter().collect(),
            mod_seq: there.mod_seq,
            uid_next: there.uid_next,
            keywords: there.keywords.clone(),
        };
        if !read_only {
            there.recent_from = there.uid_next;
        }
        Ok(Reply::Synced(std::boxed::Box::new(synced)))
    }

    fn fetch(
        &mut self,
        id: MailboxId,
        uids: &UidSet,
        items: &FetchItems,
        since: Option<ModSeq>,
        rows_max: usize,
        octets_max: usize,
    ) -> Answered {
        let (contents, inline_max) = (self.contents.clone(), self.inline_max);
        let rows_max = rows_max.min(self.rows_max);
        let there = self.at(id)?;
        let (mut rows, mut octets, mut next) = (Vec::new(), 0, None);
        for (uid, m) in there.messages.iter().filter(|(u, _)| uids.contains(**u)) {
            if since.is_some_and(|since| m.mod_seq <= since) {
                continue;
            }
            if rows.len() == rows_max || octets >= octets_max && !rows.is_empty() {
                next = Some(*uid);
                break;
            }
            let text = &contents[m.content.0 as usize - 1];
            let sections: Vec<SectionData> =
                items.sections.iter().map(|s| super::mail::section(text, m.content, s, inline_max)).collect();
            octets += sections
                .iter()
                .map(|s| if let SectionData::Octets(o) = s { o.len() as usize } else { 0 })
                .sum::<usize>();
            rows.push(Row {
                uid: *uid,
                flags: m.flags,
                mod_seq: m.mod_seq,
                internal_date: m.date,
                saved: m.saved,
                octets: text.len() as u64,
                ends_with_crlf: true,
                content: m.content,
                thread: items.thread.then_some(m.content.0),
                envelope: items.envelope.then(|| super::mail::envelope(text)),
                structure: items.structure.map(|form| super::mail::structure(text, form)),
                preview: items.preview.then(|| super::mail::preview(text)),
                sections,
            });
        }
        Ok(Reply::Fetched(Fetched { rows, next, keywords: there.keywords.clone() }))
    }

    fn search(&mut self, id: MailboxId, key: &SearchKey, form: &SearchForm, among: &UidSet) -> Answered {
        let (contents, now) = (self.contents.clone(), self.now);
        let there = self.at(id)?;
        let keywords = there.keywords.clone();
        let seen = there.messages.iter().filter(|(u, _)| among.contains(**u));
        let found: Vec<(Uid, &Message)> = seen
            .filter(|(u, m)| {
                let text = &contents[m.content.0 as usize - 1];
                super::mail::matches(key, **u, m, text, &keywords, now)
            })
            .map(|(u, m)| (*u, m))
            .collect();
        let mod_seq = found.iter().map(|(_, m)| m.mod_seq).max();
        let text = |m: &Message| contents[m.content.0 as usize - 1].clone();
        let found = match form {
            SearchForm::Set => Found::Set(found.iter().map(|(u, _)| *u).collect()),
            SearchForm::Sorted(keys) => {
                let mut list = found;
                list.sort_by(|a, b| super::mail::compare(keys, (a.1, &text(a.1)), (b.1, &text(b.1))));
                Found::Sorted(list.iter().map(|(u, _)| *u).collect())
            }
            SearchForm::Threaded(_) => {
                let mut threads: BTreeMap<String, Vec<Uid>> = BTreeMap::new();
                for (uid, m) in &found {
                    threads.entry(super::mail::base_subject(&text(m))).or_default().push(*uid);
                }
                let mut threads: Vec<Vec<Uid>> = threads.into_values().collect();
                threads.sort();
                let members = threads.iter().flat_map(|t| t.iter().enumerate().map(|(i, u)| (u32::from(i > 0), *u)));
                Found::Threads(members.map(|(depth, uid)| ThreadMember { depth, uid: Some(uid) }).collect())
            }
        };
        Ok(Reply::Found { found, mod_seq })
    }
}
