//! Untagged updates: what other sessions and deliveries did to the selected mailbox, told when the protocol allows it.
//!
//! The view changes only where the client is told of it, so sequence numbers mean the same on both sides. How it fails:
//! a store that cannot answer leaves the view as it is, and the next command asks again.

use super::Session;
use crate::base::mailbox::ask::{FlagChange, Query, Reply, StoreError, Synced};
use crate::base::mailbox::{FlagNames, Keywords, ModSeq, Uid, UidSet};
use crate::wire::imap::emit;
use crate::wire::imap::emit::FetchWriter;
use std::collections::HashSet;

impl Session {
    /// Tells what is new, if anything is, then goes on.
    pub(in crate::imap) fn update(
        &mut self,
        expunge: bool,
        force: bool,
        told: Vec<(Uid, ModSeq)>,
        then: impl FnOnce(&mut Session) + Send + 'static,
    ) {
        let Some(mailbox) = self.mailbox_mut().filter(|m| !m.gone) else { return then(self) };
        if !force && !mailbox.noticed {
            let withheld = std::mem::take(&mut mailbox.withheld);
            if expunge {
                return self.say_expunged(&withheld, then);
            }
            mailbox.withheld = withheld;
            return then(self);
        }
        mailbox.noticed = false;
        let query = Query::Sync {
            mailbox: mailbox.id,
            since: mailbox.mod_seq,
            uid_next: mailbox.uid_next,
            read_only: mailbox.read_only,
        };
        self.query(query, move |s, reply| match reply {
            Ok(Reply::Synced(synced)) => s.synced(*synced, expunge, told, then),
            Err(StoreError::Gone | StoreError::NoSuchMailbox) => s.lose_mailbox(expunge, then),
            Ok(_) | Err(_) => {
                if let Some(mailbox) = s.mailbox_mut() {
                    mailbox.noticed = true;
                }
                then(s);
            }
        });
    }

    fn synced(
        &mut self,
        synced: Synced,
        expunge: bool,
        told: Vec<(Uid, ModSeq)>,
        then: impl FnOnce(&mut Session) + Send + 'static,
    ) {
        if synced.gone {
            return self.lose_mailbox(expunge, then);
        }
        let Some(mailbox) = self.mailbox_mut() else { return then(self) };
        mailbox.mod_seq = mailbox.mod_seq.max(synced.mod_seq);
        mailbox.uid_next = mailbox.uid_next.max(synced.uid_next);
        let mut vanished = std::mem::take(&mut mailbox.withheld);
        for (first, last) in synced.vanished.ranges() {
            vanished.insert_range(*first, *last);
        }
        if !expunge {
            mailbox.withheld = vanished.intersection(&mailbox.view.uids());
            vanished = UidSet::new();
        }
        self.say_expunged(&vanished, move |s| {
            s.learn_keywords(synced.keywords);
            s.say_added(&synced.added, synced.recent_from);
            let told: HashSet<(Uid, ModSeq)> = told.into_iter().collect();
            let changed = synced.changed.into_iter().filter(move |c| !told.contains(&(c.uid, c.mod_seq)));
            let with_uid = s.enabled.qresync;
            s.each(changed, move |s, change| s.say_flags(&change, with_uid), then);
        });
    }

    /// This session has changed the mailbox. A change that follows the last one known leaves nothing in between; before
    /// any other there may be some of others.
    pub(in crate::imap) fn own_change(&mut self, mod_seq: ModSeq) {
        let Some(mailbox) = self.mailbox_mut() else { return };
        if mailbox.mod_seq.checked_add(1) == Some(mod_seq) {
            mailbox.mod_seq = mod_seq;
        } else if mod_seq > mailbox.mod_seq {
            mailbox.noticed = true;
        }
    }

    /// The same for changes of flags; those that an update may repeat are returned.
    pub(in crate::imap) fn own_changes(&mut self, changed: &[FlagChange]) -> Vec<(Uid, ModSeq)> {
        let Some(mailbox) = self.mailbox_mut() else { return Vec::new() };
        let mut mod_seqs: Vec<ModSeq> = changed.iter().map(|c| c.mod_seq).collect();
        mod_seqs.sort_unstable();
        mod_seqs.dedup();
        let in_a_row = (1..).zip(&mod_seqs).all(|(n, m)| mailbox.mod_seq.checked_add(n) == Some(*m));
        match mod_seqs.last() {
            Some(last) if in_a_row => {
                mailbox.mod_seq = *last;
                Vec::new()
            }
            Some(_) => {
                mailbox.noticed = true;
                changed.iter().map(|c| (c.uid, c.mod_seq)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Takes messages out of the view and says so (RFC 9051 §7.5.1, RFC 7162 §3.2.10).
    pub(in crate::imap) fn say_expunged(&mut self, uids: &UidSet, then: impl FnOnce(&mut Session) + Send + 'static) {
        let qresync = self.enabled.qresync;
        let Some(mailbox) = self.mailbox_mut() else { return then(self) };
        if uids.is_empty() {
            return then(self);
        }
        let gone = uids.intersection(&mailbox.view.uids());
        mailbox.withheld = mailbox.withheld.difference(&gone);
        mailbox.recent = mailbox.recent.difference(&gone);
        mailbox.saved = mailbox.saved.difference(&gone);
        let seqs = mailbox.view.remove(&gone);
        if !qresync {
            return self.each(seqs.into_iter(), |s, seq| s.say_number(u64::from(seq), "EXPUNGE"), then);
        }
        if !gone.is_empty() {
            self.out.say("* VANISHED ");
            emit::uid_set(&mut self.out.text, &gone);
            self.out.line("");
        }
        then(self);
    }

    /// New messages at the end of the view.
    fn say_added(&mut self, added: &UidSet, recent_from: Uid) {
        let rev2 = self.enabled.rev2;
        let Some(mailbox) = self.mailbox_mut() else { return };
        // What is known already is not new: an answer may overlap what an own command has told.
        let known = mailbox.view.last_uid().unwrap_or(0);
        let added = added.difference(&UidSet::range(0, known));
        let Some(last) = added.last() else { return };
        mailbox.view.extend(&added);
        mailbox.uid_next = mailbox.uid_next.max(last.saturating_add(1));
        let recent = added.difference(&UidSet::range(0, recent_from.saturating_sub(1)));
        recent.ranges().iter().for_each(|(a, b)| mailbox.recent.insert_range(*a, *b));
        let (exists, recent) = (u64::from(mailbox.view.exists()), mailbox.recent_count());
        self.say_number(exists, "EXISTS");
        if !rev2 {
            self.say_number(recent, "RECENT");
        }
    }

    /// The flags of a message; nothing when the client does not see it.
    pub(in crate::imap) fn say_flags(&mut self, change: &FlagChange, with_uid: bool) {
        let condstore = self.enabled.condstore;
        let rev2 = self.enabled.rev2;
        let crate::imap::state::State::Selected(_, mailbox) = &self.state else { return };
        let Some(seq) = mailbox.view.seq_of(change.uid) else { return };
        let recent = !rev2 && mailbox.recent.contains(change.uid);
        let mut row = FetchWriter::new(&mut self.out.text, seq);
        if with_uid {
            row.uid(change.uid);
        }
        row.flags(change.flags, &mailbox.keywords, recent);
        if condstore {
            row.mod_seq(change.mod_seq); // RFC 7162 §3.1
        }
        row.end();
    }

    /// The mailbox's keywords as they are now: told when there are new ones, before a message has one of them.
    pub(in crate::imap) fn learn_keywords(&mut self, keywords: Keywords) {
        let Some(mailbox) = self.mailbox_mut() else { return };
        if keywords.len() > mailbox.keywords.len() {
            mailbox.keywords = keywords;
            self.say_keywords();
        }
    }

    /// FLAGS and PERMANENTFLAGS.
    pub(in crate::imap) fn say_keywords(&mut self) {
        let Some(mailbox) = self.mailbox() else { return };
        let (flags, read_only, more) = (mailbox.flags(), mailbox.read_only, mailbox.more_keywords);
        self.out.say("* FLAGS ");
        emit::flag_list(&mut self.out.text, &flags);
        self.out.line("");
        let permanent = if read_only { FlagNames::default() } else { flags };
        let star = if more && !read_only { " \\*" } else { "" };
        self.out.line(&format!("* OK [PERMANENTFLAGS ({permanent}{star})] Flags permitted."));
    }

    /// The selected mailbox has been deleted (RFC 2180 §3.3): the session keeps an empty one, and what needs it is NO.
    pub(in crate::imap) fn lose_mailbox(&mut self, expunge: bool, then: impl FnOnce(&mut Session) + Send + 'static) {
        let Some(mailbox) = self.mailbox_mut() else { return then(self) };
        if mailbox.gone {
            return then(self);
        }
        if !expunge {
            mailbox.noticed = true;
            return then(self);
        }
        mailbox.gone = true;
        let all = mailbox.view.uids();
        self.say_expunged(&all, |s| {
            s.out.line("* NO [NONEXISTENT] the selected mailbox has been deleted");
            then(s);
        });
    }

    /// `* n WORD`
    pub(in crate::imap) fn say_number(&mut self, n: u64, word: &str) {
        self.out.say("* ");
        self.out.number(n);
        self.out.say(" ");
        self.out.line(word);
    }
}
