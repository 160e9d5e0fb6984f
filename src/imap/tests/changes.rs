//! What changes mean to the model.

use super::model::{Answered, Model};
use crate::base::body::Body;
use crate::base::mailbox::ask::*;
use crate::base::mailbox::search::*;
use crate::base::mailbox::*;
use std::sync::Arc;

impl Model {
    fn keep(&mut self, body: &Body) -> ContentId {
        self.contents.push(Arc::new(body.to_vec().unwrap()));
        ContentId(self.contents.len() as u64)
    }

    fn check_quota(&self, octets: u64) -> Result<(), StoreError> {
        let over = self.quota.octets_max.is_some_and(|max| self.quota.octets + octets > max);
        if over { Err(StoreError::OverQuota) } else { Ok(()) }
    }

    fn append(&mut self, name: &str, messages: &[NewMessage]) -> Result<Appended, StoreError> {
        self.check_quota(messages.iter().map(|m| m.body.shape.octets).sum())?;
        self.named(name)?;
        let mut uids = Vec::new();
        for message in messages {
            let (content, now) = (self.keep(&message.body), self.now);
            let there = self.named(name)?;
            let flags = there.flags(&message.flags);
            let date = message.internal_date.unwrap_or(ZonedTime { at: now, zone_minutes: 0 });
            uids.push(there.add(flags, date, now, content));
        }
        let id = self.named(name)?.id;
        self.changed.push(id);
        Ok(Appended { uid_validity: 1000 + id.0, uids })
    }

    fn copy(&mut self, from: MailboxId, uids: &UidSet, to: &str) -> Result<Copied, StoreError> {
        let (now, source) = (self.now, self.at(from)?);
        let there: Vec<(Uid, FlagNames, ZonedTime, ContentId)> = source
            .messages
            .iter()
            .filter(|(u, _)| uids.contains(**u))
            .map(|(u, m)| (*u, FlagNames::of(m.flags, &source.keywords), m.date, m.content))
            .collect();
        let target = self.named(to)?;
        let (mut old, mut new) = (UidSet::new(), UidSet::new());
        for (uid, names, date, content) in there {
            let flags = target.flags(&names);
            old.insert(uid);
            new.insert(target.add(flags, date, now, content));
        }
        let (uid_validity, id) = (1000 + target.id.0, target.id);
        self.changed.push(id);
        Ok(Copied { uid_validity, from: old, to: new, mod_seq: 0 })
    }

    pub fn change(&mut self, change: &Change) -> Answered {
        match change {
            Change::Create { name, special_use } => {
                if self.boxes.iter().any(|b| b.name == *name && b.selectable) {
                    return Err(StoreError::Exists);
                }
                let above: Vec<String> = name.match_indices('/').map(|(at, _)| name[..at].to_owned()).collect();
                for level in above {
                    if self.boxes.iter().all(|b| b.name != level) {
                        self.create(&level, None);
                    }
                }
                Ok(Reply::Created(self.create(name, *special_use)))
            }
            Change::Delete { name } if name == "INBOX" => Err(StoreError::Cannot("INBOX stays")),
            Change::Delete { name } => {
                let id = self.named(name)?.id;
                self.boxes.retain(|b| b.id != id);
                let prefix = format!("{name}/");
                if self.boxes.iter().any(|b| b.name.starts_with(&prefix)) {
                    self.create(name, None);
                    self.boxes.last_mut().unwrap().selectable = false;
                }
                self.changed.push(id);
                Ok(Reply::Done)
            }
            Change::Rename { from, to } => self.rename(from, to),
            Change::Subscribe { name, on } => {
                match self.boxes.iter_mut().find(|b| b.name == *name) {
                    Some(there) => there.subscribed = *on,
                    None if *on => drop(self.subscribed_only.insert(name.clone())),
                    None => drop(self.subscribed_only.remove(name)),
                }
                Ok(Reply::Done)
            }
            Change::Append { name, messages } => Ok(Reply::Appended(self.append(name, messages)?)),
            Change::Replace { mailbox, uid, name, message } => {
                if !self.at(*mailbox)?.messages.contains_key(uid) {
                    return Err(StoreError::Expunged);
                }
                let appended = self.append(name, std::slice::from_ref(message))?;
                self.at(*mailbox)?.remove(&UidSet::range(*uid, *uid));
                self.changed.push(*mailbox);
                Ok(Reply::Replaced { appended })
            }
            Change::Copy { mailbox, uids, to } => Ok(Reply::Copied(self.copy(*mailbox, uids, to)?)),
            Change::Move { mailbox, uids, to } => {
                let mut copied = self.copy(*mailbox, uids, to)?;
                copied.mod_seq = self.at(*mailbox)?.remove(&copied.from);
                self.changed.push(*mailbox);
                Ok(Reply::Copied(copied))
            }
            Change::Store { mailbox, uids, how, flags, unchanged_since } => {
                let there = self.at(*mailbox)?;
                let names = there.flags(flags);
                let mod_seq = there.bump();
                let (mut changed, mut modified) = (Vec::new(), UidSet::new());
                for (uid, m) in there.messages.iter_mut().filter(|(u, _)| uids.contains(**u)) {
                    if unchanged_since.is_some_and(|since| m.mod_seq > since) {
                        modified.insert(*uid);
                        continue;
                    }
                    m.flags = match how {
                        StoreHow::Replace => names,
                        StoreHow::Add => m.flags.with(names),
                        StoreHow::Remove => m.flags.without(names),
                    };
                    m.mod_seq = mod_seq;
                    changed.push(FlagChange { uid: *uid, flags: m.flags, mod_seq });
                }
                let keywords = there.keywords.clone();
                self.changed.push(*mailbox);
                Ok(Reply::Stored { changed, modified, keywords })
            }
            Change::Purge => panic!("no session asks for it"),
            Change::Expunge { mailbox, uids, deleted_only } => {
                let there = self.at(*mailbox)?;
                let gone = there.messages.iter().filter(|(u, m)| {
                    uids.as_ref().is_none_or(|set| set.contains(**u))
                        && (!deleted_only || m.flags.contains(Flags::DELETED))
                });
                let gone: UidSet = gone.map(|(u, _)| *u).collect();
                if gone.is_empty() {
                    return Ok(Reply::Expunged { uids: gone, mod_seq: there.mod_seq });
                }
                let mod_seq = there.remove(&gone);
                self.changed.push(*mailbox);
                Ok(Reply::Expunged { uids: gone, mod_seq })
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Answered {
        if self.boxes.iter().any(|b| b.name == to) {
            return Err(StoreError::Exists);
        }
        if from == "INBOX" {
            let (id, uids) = (self.named("INBOX")?.id, self.named("INBOX")?.uids());
            self.create(to, None);
            self.copy(id, &uids, to)?;
            self.at(id)?.remove(&uids);
            self.changed.push(id);
            return Ok(Reply::Done);
        }
        self.named(from)?;
        let prefix = format!("{from}/");
        for there in &mut self.boxes {
            if there.name == from {
                there.name = to.into();
            } else if let Some(rest) = there.name.strip_prefix(&prefix) {
                there.name = format!("{to}/{rest}");
            }
        }
        Ok(Reply::Done)
    }
}
