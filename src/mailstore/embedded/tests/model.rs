//! The store against a simple model of it: random changes, several in a commit, compared after every commit, after opening
//! again, without the index, after compaction.

use super::*;
use crate::base::mailbox::ask::StoreHow;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const ACCOUNTS: [&str; 3] = ["ann", "ben", "cat"];
const NAMES: [&str; 8] = ["A", "A/B", "A/B/C", "D", "INBOX", "INBOX/x", "E/F", "Trash"];
const FLAGS: [&str; 6] = ["\\Seen", "\\Deleted", "\\Flagged", "k0", "k1", "k2"];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ModelBox {
    id: Option<MailboxId>,
    uid_next: u32,
    messages: BTreeMap<u32, (String, BTreeSet<String>)>,
}

/// By name; `None` is a level that cannot be selected.
type ModelAccount = BTreeMap<String, Option<ModelBox>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    accounts: BTreeMap<&'static str, ModelAccount>,
}

fn fresh() -> ModelBox {
    ModelBox { id: None, uid_next: 1, messages: BTreeMap::new() }
}

impl ModelBox {
    fn add(&mut self, text: &str, flags: &BTreeSet<String>) -> u32 {
        let uid = self.uid_next;
        self.messages.insert(uid, (text.to_owned(), flags.clone()));
        self.uid_next += 1;
        uid
    }
}

/// A change in the words of the model.
#[derive(Clone, Debug)]
enum Do {
    Create(&'static str),
    Delete(&'static str),
    Rename(&'static str, &'static str),
    Append(&'static str, Vec<(String, BTreeSet<String>)>),
    Deliver(String, Vec<&'static str>),
    Store(MailboxId, Vec<u32>, StoreHow, BTreeSet<String>),
    Expunge(MailboxId, Option<Vec<u32>>, bool),
    Copy(MailboxId, Vec<u32>, &'static str, bool),
    Replace(MailboxId, u32, &'static str, String),
}

impl Model {
    pub fn with_accounts() -> Model {
        let mut model = Model::default();
        for name in ACCOUNTS {
            let born = ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"];
            let all = born.iter().map(|n| ((*n).to_owned(), Some(fresh()))).collect();
            model.accounts.insert(name, all);
        }
        model
    }

    fn by_id(&mut self, account: &str, id: MailboxId) -> Option<&mut ModelBox> {
        self.accounts.get_mut(account)?.values_mut().flatten().find(|b| b.id == Some(id))
    }

    fn by_name(&mut self, account: &str, name: &str) -> Option<&mut ModelBox> {
        self.accounts.get_mut(account)?.get_mut(name)?.as_mut()
    }

    fn put_parents(&mut self, account: &str, name: &str) {
        for (at, _) in name.match_indices('/') {
            let all = self.accounts.get_mut(account).unwrap();
            all.entry(name[..at].to_owned()).or_insert_with(|| Some(fresh()));
        }
    }

    /// Whether it can be done; if so it is.
    fn apply(&mut self, account: &'static str, what: &Do) -> bool {
        match what {
            Do::Create(name) => {
                if self.by_name(account, name).is_some() {
                    return false;
                }
                self.put_parents(account, name);
                self.accounts.get_mut(account).unwrap().insert((*name).to_owned(), Some(fresh()));
            }
            Do::Delete(name) => {
                let all = self.accounts.get_mut(account).unwrap();
                let below = all.keys().any(|n| n.starts_with(&format!("{name}/")));
                match all.get(*name) {
                    None => return false,
                    Some(_) if *name == "INBOX" => return false,
                    Some(None) if below => return false,
                    Some(Some(_)) if below => {
                        all.insert((*name).to_owned(), None);
                    }
                    Some(_) => {
                        all.remove(*name);
                    }
                }
            }
            Do::Rename(from, to) => return self.rename(account, from, to),
            Do::Append(name, messages) => {
                let Some(mailbox) = self.by_name(account, name) else { return false };
                messages.iter().for_each(|(text, flags)| {
                    mailbox.add(text, flags);
                });
            }
            Do::Deliver(_, to) if to.is_empty() => return false, // nobody has it
            Do::Deliver(text, to) => {
                for account in to {
                    let text = format!("Received: here\r\n{text}");
                    self.by_name(account, "INBOX").unwrap().add(&text, &BTreeSet::new());
                }
            }
            Do::Store(id, uids, how, flags) => {
                let Some(mailbox) = self.by_id(account, *id) else { return false };
                for uid in uids {
                    let Some((_, has)) = mailbox.messages.get_mut(uid) else { continue };
                    match how {
                        StoreHow::Replace => *has = flags.clone(),
                        StoreHow::Add => has.extend(flags.iter().cloned()),
                        StoreHow::Remove => has.retain(|f| !flags.contains(f)),
                    }
                }
            }
            Do::Expunge(id, uids, deleted_only) => {
                let Some(mailbox) = self.by_id(account, *id) else { return false };
                mailbox.messages.retain(|uid, (_, flags)| {
                    let wanted = uids.as_ref().is_none_or(|u| u.contains(uid));
                    !(wanted && (!deleted_only || flags.contains("\\Deleted")))
                });
            }
            Do::Copy(id, uids, to, moving) => {
                let Some(from) = self.by_id(account, *id) else { return false };
                let copied: Vec<_> = uids.iter().filter_map(|u| Some((*u, from.messages.get(u)?.clone()))).collect();
                let Some(target) = self.by_name(account, to) else { return false };
                for (_, (text, flags)) in &copied {
                    target.add(text, flags);
                }
                if *moving {
                    let from = self.by_id(account, *id).unwrap();
                    copied.iter().for_each(|(uid, _)| {
                        from.messages.remove(uid);
                    });
                }
            }
            Do::Replace(id, uid, to, text) => {
                let has = self.by_id(account, *id).is_some_and(|m| m.messages.contains_key(uid));
                let Some(target) = self.by_name(account, to).filter(|_| has) else { return false };
                target.add(text, &BTreeSet::new());
                self.by_id(account, *id).unwrap().messages.remove(uid);
            }
        }
        true
    }

    fn rename(&mut self, account: &str, from: &str, to: &str) -> bool {
        let all = self.accounts.get_mut(account).unwrap();
        if !all.contains_key(from) || all.contains_key(to) {
            return false;
        }
        if from == "INBOX" {
            let inbox = self.by_name(account, "INBOX").unwrap();
            let messages: Vec<_> = std::mem::take(&mut inbox.messages).into_values().collect();
            self.put_parents(account, to);
            let mut new = fresh();
            messages.iter().for_each(|(text, flags)| {
                new.add(text, flags);
            });
            self.accounts.get_mut(account).unwrap().insert(to.to_owned(), Some(new));
            return true;
        }
        if to.starts_with(&format!("{from}/")) {
            return false;
        }
        let below = format!("{from}/");
        let moved: Vec<String> = all.keys().filter(|n| *n == from || n.starts_with(&below)).cloned().collect();
        let target = |n: &String| format!("{to}{}", &n[from.len()..]);
        if moved.iter().any(|n| all.contains_key(&target(n))) {
            return false;
        }
        let taken: Vec<_> = moved.iter().map(|n| (target(n), all[n].clone())).collect();
        self.put_parents(account, to);
        let all = self.accounts.get_mut(account).unwrap();
        // A level above the new name can be one that moves away, but then it was made for it.
        moved.iter().for_each(|n| {
            all.remove(n);
        });
        all.extend(taken);
        true
    }
}

/// The store and its model, side by side.
pub(super) struct Driver {
    pub rng: fastrand::Rng,
    pub model: Model,
    pub accounts: BTreeMap<&'static str, AccountId>,
}

/// Everything a client could see, without what is new to it.
pub(super) type Dump = BTreeMap<(String, String), Option<(Selected, Fetched, Vec<(u32, String)>)>>;

impl Driver {
    pub fn new<D: Disk + Sync>(seed: u64, open: &mut Open<D>) -> Driver {
        let accounts = ACCOUNTS.iter().map(|name| (*name, open.account(name))).collect();
        let mut driver = Driver { rng: fastrand::Rng::with_seed(seed), model: Model::with_accounts(), accounts };
        driver.learn(open);
        driver
    }

    /// Learns the numbers of mailboxes.
    pub fn learn<D: Disk + Sync>(&mut self, open: &mut Open<D>) {
        for (name, all) in &mut self.model.accounts {
            for (mailbox, model) in all.iter_mut() {
                if let Some(model) = model {
                    model.id = Some(open.select(self.accounts[name], mailbox).status.mailbox);
                }
            }
        }
    }

    fn flags(&mut self) -> BTreeSet<String> {
        let n = self.rng.usize(0..3);
        (0..n).map(|_| FLAGS[self.rng.usize(0..FLAGS.len())].to_owned()).collect()
    }

    fn text(&mut self) -> String {
        // Now and then one that goes into a file of its own.
        let lines = if self.rng.u8(0..12) == 0 { 400 } else { self.rng.usize(0..20) };
        format!(
            "Subject: {}\r\n\r\n{}",
            self.rng.u32(0..1000),
            "all work and no play makes a dull mailbox\r\n".repeat(lines)
        )
    }

    fn one(&mut self) -> (&'static str, Do) {
        let account = ACCOUNTS[self.rng.usize(0..3)];
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        let other = NAMES[self.rng.usize(0..NAMES.len())];
        let boxes: Vec<(MailboxId, u32)> =
            self.model.accounts[account].values().flatten().filter_map(|b| Some((b.id?, b.uid_next))).collect();
        let (id, uid_next) = boxes[self.rng.usize(0..boxes.len())];
        let uids: Vec<u32> = (1..=uid_next).filter(|_| self.rng.bool()).collect();
        let what = match self.rng.u8(0..20) {
            0 => Do::Create(name),
            1 => Do::Delete(name),
            2 => Do::Rename(name, other),
            3..=6 => {
                let n = self.rng.usize(1..4);
                Do::Append(name, (0..n).map(|_| (self.text(), self.flags())).collect())
            }
            7..=9 => {
                let to = ACCOUNTS.iter().copied().filter(|_| self.rng.bool()).collect();
                Do::Deliver(self.text(), to)
            }
            10..=12 => {
                let how = [StoreHow::Replace, StoreHow::Add, StoreHow::Remove][self.rng.usize(0..3)];
                Do::Store(id, uids, how, self.flags())
            }
            13..=14 => {
                let uids = self.rng.bool().then_some(uids);
                Do::Expunge(id, uids, self.rng.u8(0..4) > 0)
            }
            15..=16 => Do::Copy(id, uids, name, false),
            17..=18 => Do::Copy(id, uids, name, true),
            _ => Do::Replace(id, self.rng.u32(1..=uid_next), name, self.text()),
        };
        (account, what)
    }

    /// Stages some changes; what the model would be after them, and whether each can be done.
    pub fn stage<D: Disk + Sync>(&mut self, open: &mut Open<D>) -> (Model, Vec<bool>) {
        let mut after = self.model.clone();
        let mut can = Vec::new();
        for token in 0..self.rng.u64(1..5) {
            let (account, what) = self.one();
            can.push(after.apply(account, &what));
            let account = self.accounts[account];
            match change_of(&what) {
                Some(change) => open.writer.change(token, account, change),
                None => {
                    let Do::Deliver(text, to) = &what else { panic!() };
                    let to = to.iter().enumerate().map(|(i, a)| recipient(i as u32, &[*a])).collect();
                    let prefix = b"Received: here\r\n".to_vec();
                    open.writer.deliver(token, Delivery { id: SpoolId(token), prefix, body: body(text), to });
                }
            }
        }
        (after, can)
    }

    /// Some changes, made durable and compared.
    #[track_caller]
    pub fn step<D: Disk + Sync>(&mut self, open: &mut Open<D>) {
        let (after, can) = self.stage(open);
        let commit = open.writer.commit();
        let did: Vec<bool> = commit.outcomes.iter().map(|(_, outcome)| worked(outcome)).collect();
        assert_eq!(did, can);
        self.model = after;
        self.learn(open);
        self.compare(open);
    }

    #[track_caller]
    pub fn compare<D: Disk + Sync>(&self, open: &mut Open<D>) {
        let differs = self.difference(open, &self.model);
        assert!(differs.is_none(), "{}", differs.unwrap());
    }

    /// Where the store is not what the model says.
    pub fn difference<D: Disk + Sync>(&self, open: &mut Open<D>, model: &Model) -> Option<String> {
        for (account, all) in &model.accounts {
            let id = self.accounts[account];
            let Reply::Mailboxes(infos) = open.reader.answer(id, Query::Mailboxes).unwrap() else { panic!() };
            let names: Vec<(&str, bool)> =
                infos.iter().filter(|i| i.id.is_some()).map(|i| (i.name.as_str(), i.selectable)).collect();
            let expected: Vec<(&str, bool)> = all.iter().map(|(n, b)| (n.as_str(), b.is_some())).collect();
            if names != expected {
                return Some(format!("{account}: {names:?}, expected {expected:?}"));
            }
            for (name, expected) in all.iter().filter_map(|(n, b)| Some((n, b.as_ref()?))) {
                let selected = open.select(id, name);
                let mailbox = selected.status.mailbox;
                let texts = open.texts(id, mailbox);
                let rows = open.fetch(id, mailbox, FetchItems::default()).rows;
                let found: BTreeMap<u32, (String, BTreeSet<String>)> = texts
                    .into_iter()
                    .zip(&rows)
                    .map(|((uid, text), row)| {
                        let flags = FlagNames::of(row.flags, &selected.keywords).to_string();
                        (uid, (text, flags.split_whitespace().map(str::to_owned).collect()))
                    })
                    .collect();
                if found != expected.messages || selected.status.uid_next != expected.uid_next {
                    let keys = |m: &BTreeMap<u32, (String, BTreeSet<String>)>| {
                        format!("{:?}", m.iter().map(|(u, (t, f))| (*u, t.len(), f.clone())).collect::<Vec<_>>())
                    };
                    return Some(format!("{account} {name}: {}, expected {}", keys(&found), keys(&expected.messages)));
                }
                let status = selected.status;
                let octets = found.values().map(|(t, _)| t.len() as u64).sum::<u64>();
                let unseen = found.values().filter(|(_, f)| !f.contains("\\Seen")).count() as u64;
                let deleted = found.values().filter(|(_, f)| f.contains("\\Deleted")).count() as u64;
                assert_eq!(
                    (status.octets, status.unseen, status.deleted),
                    (octets, unseen, deleted),
                    "{account} {name}"
                );
                assert_eq!(status.messages, found.len() as u64);
                assert!(rows.iter().all(|r| r.mod_seq <= status.mod_seq));
                // Whoever was away is told of all that went.
                let vanished = open.sync(id, mailbox, 0, status.uid_next).vanished;
                assert_eq!(
                    vanished,
                    UidSet::range(1, status.uid_next - 1).difference(&selected.uids),
                    "{account} {name}"
                );
            }
        }
        None
    }

    pub fn dump<D: Disk + Sync>(&self, open: &mut Open<D>) -> Dump {
        let mut dump = Dump::new();
        for (account, id) in &self.accounts {
            let Reply::Mailboxes(infos) = open.reader.answer(*id, Query::Mailboxes).unwrap() else { panic!() };
            for info in infos {
                let seen = info.selectable.then(|| {
                    let mut selected = open.select(*id, &info.name);
                    (selected.recent_from, selected.status.recent) = (0, 0);
                    let mailbox = selected.status.mailbox;
                    (selected, open.fetch(*id, mailbox, FetchItems::default()), open.texts(*id, mailbox))
                });
                dump.insert(((*account).to_owned(), info.name), seen);
            }
        }
        dump
    }
}

pub(super) fn worked(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Replied(reply) => reply.is_ok(),
        Outcome::Delivered(delivered) => {
            !delivered.verdicts.is_empty() && delivered.verdicts.iter().all(|(_, v)| v.is_ok())
        }
    }
}

fn names_of(flags: &BTreeSet<String>) -> FlagNames {
    let mut names = FlagNames::default();
    for flag in flags {
        match Flags::system(flag) {
            Some(system) => names.system = names.system.with(system),
            None => names.keywords.push(flag.clone()),
        }
    }
    names
}

fn change_of(what: &Do) -> Option<Change> {
    Some(match what {
        Do::Create(name) => Change::Create { name: (*name).into(), special_use: None },
        Do::Delete(name) => Change::Delete { name: (*name).into() },
        Do::Rename(from, to) => Change::Rename { from: (*from).into(), to: (*to).into() },
        Do::Append(name, messages) => {
            let messages = messages.iter().map(|(text, flags)| flagged(text, names_of(flags))).collect();
            Change::Append { name: (*name).into(), messages }
        }
        Do::Deliver(..) => return None,
        Do::Store(mailbox, list, how, flags) => {
            let (uids, flags) = (uids(list), names_of(flags));
            Change::Store { mailbox: *mailbox, uids, how: *how, flags, unchanged_since: None }
        }
        Do::Expunge(mailbox, list, deleted_only) => {
            let uids = list.as_deref().map(uids);
            Change::Expunge { mailbox: *mailbox, uids, deleted_only: *deleted_only }
        }
        Do::Copy(mailbox, list, to, false) => Change::Copy { mailbox: *mailbox, uids: uids(list), to: (*to).into() },
        Do::Copy(mailbox, list, to, true) => Change::Move { mailbox: *mailbox, uids: uids(list), to: (*to).into() },
        Do::Replace(mailbox, uid, name, text) => {
            Change::Replace { mailbox: *mailbox, uid: *uid, name: (*name).into(), message: message(text) }
        }
    })
}

#[test]
fn the_store_does_what_the_model_does() {
    for seed in 0..12 {
        let mut site = Site::real();
        // Few messages in memory, so that images come and go.
        site.knobs.image_messages_max = 40;
        let mut open = site.open();
        let mut driver = Driver::new(seed, &mut open);
        for round in 0..60 {
            driver.step(&mut open);
            match driver.rng.u8(0..12) {
                0 => {
                    let before = driver.dump(&mut open);
                    drop(open);
                    let rebuilt = driver.rng.bool();
                    if rebuilt {
                        remove_index(&site.index);
                    }
                    open = site.open();
                    assert_eq!(open.opened.rebuilt.is_some(), rebuilt, "seed {seed} round {round}");
                    assert!(!open.opened.is_damaged(), "{:?}", open.opened);
                    assert_eq!(driver.dump(&mut open), before, "seed {seed} round {round}");
                }
                1..=3 => {
                    site.pass(61);
                    let before = driver.dump(&mut open);
                    for _ in 0..20 {
                        open.writer.tidy(1 << 20);
                    }
                    assert_eq!(driver.dump(&mut open), before, "seed {seed} round {round}");
                }
                _ => {}
            }
            driver.compare(&mut open);
        }
    }
}
