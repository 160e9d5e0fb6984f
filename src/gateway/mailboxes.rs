//! What an administrator asks about mailboxes, of a running server's lanes or of a stopped server's store: both are a
//! [`Keeper`].
//!
//! How it fails: [`Response::Failed`] with a sentence; what was moved before a failure stays.

use super::admin::{MailFormat, MailboxEntry, MailboxTransfer, Request, Response};
use super::lanes::MailboxLanes;
use crate::base::mailbox::AccountId;
use crate::base::mailbox::ask::{Change, Delivery, Query, Reply, StoreAsk, StoreError};
use crate::mailstore::accounts::Accounts;
use crate::mailstore::embedded::EmbeddedStore;
use crate::mailstore::io::{Moved, Progress, export_labels, export_maildir, export_mbox, import_maildir, import_mbox};
use crate::mailstore::{BackedUp, Commit, MailReader, MailWriter, MailboxKnobs, Mailstore, MailstoreError, Outcome};
use std::path::Path;
use std::sync::Arc;

/// Who keeps the mail: answers like a store, one question at a time.
pub struct Keeper<'a> {
    reader: Box<dyn MailReader + 'a>,
    writer: Box<dyn MailWriter + 'a>,
}

impl Keeper<'static> {
    /// The store of a stopped server.
    pub fn open(
        directory: &Path,
        knobs: MailboxKnobs,
        accounts: Arc<Accounts>,
    ) -> Result<Keeper<'static>, MailstoreError> {
        let (store, _) = EmbeddedStore::open(directory, knobs)?;
        store.set_quotas(accounts);
        Ok(Keeper { reader: store.reader()?, writer: store.writer()? })
    }
}

impl<'a> Keeper<'a> {
    /// The lanes of this server.
    pub(super) fn of(lanes: &'a MailboxLanes) -> Keeper<'a> {
        Keeper { reader: Box::new(OverLanes::new(lanes)), writer: Box::new(OverLanes::new(lanes)) }
    }

    /// Answers a request about mailboxes; `None` for others. `progress` hears the mailbox that is being moved.
    pub fn answer(&mut self, request: &Request, accounts: &Accounts, progress: Progress<'_>) -> Option<Response> {
        let result = match request {
            Request::MailboxList { accounts: names } => self.list(names, accounts),
            Request::MailboxBackup { directory } => self.writer.backup(directory).map_err(|e| e.to_string()).map(
                |BackedUp { octets_copied, body_files }| Response::BackedUp {
                    octets_copied,
                    body_files: body_files as u64,
                },
            ),
            Request::MailboxExport(transfer) => self.export(transfer, accounts, progress).map(transferred),
            Request::MailboxImport(transfer) => self.import(transfer, accounts, progress).map(transferred),
            Request::MailboxPurge { account } => self.purge(account).map(transferred),
            _ => return None,
        };
        Some(result.unwrap_or_else(|message| Response::failed("mailbox", message)))
    }

    /// The number of an account that exists; asking for one that does not would make it.
    fn account(&mut self, name: &str, accounts: &Accounts) -> Result<AccountId, String> {
        let known = accounts.list().into_iter().find(|a| a.name.eq_ignore_ascii_case(name));
        let known =
            known.ok_or_else(|| format!("there is no account {name:?}; \"gatepost account list\" shows all"))?;
        self.numbered(&known.name)
    }

    fn numbered(&mut self, name: &str) -> Result<AccountId, String> {
        self.writer.account(0, name);
        match self.writer.commit().outcomes.pop() {
            Some((_, Outcome::Replied(Ok(Reply::Account(id))))) => Ok(id),
            Some((_, Outcome::Replied(Err(error)))) => Err(format!("{name}: {error}")),
            _ => Err(format!("{name}: {}", StoreError::Failed)),
        }
    }

    /// All mail of an account that may be gone already; the store makes an empty one of a name it does not know.
    fn purge(&mut self, name: &str) -> Result<Moved, String> {
        let name = crate::wire::prep::user_name(name.as_bytes()).map_err(|e| format!("{name:?}: {e}"))?;
        let id = self.numbered(&name)?;
        self.writer.change(0, id, Change::Purge);
        match self.writer.commit().outcomes.pop() {
            Some((_, Outcome::Replied(Ok(Reply::Purged { messages, mailboxes })))) => {
                Ok(Moved { messages, mailboxes, octets: 0 })
            }
            Some((_, Outcome::Replied(Err(error)))) => Err(format!("{name}: {error}")),
            _ => Err(format!("{name}: {}", StoreError::Failed)),
        }
    }

    fn list(&mut self, names: &[String], accounts: &Accounts) -> Result<Response, String> {
        let all = accounts.list().into_iter().map(|a| a.name);
        let names: Vec<String> = if names.is_empty() { all.collect() } else { names.to_vec() };
        let mut entries = Vec::new();
        for name in names {
            let id = self.account(&name, accounts)?;
            let failed = |error: StoreError| format!("{name}: {error}");
            let Reply::Mailboxes(mailboxes) = self.reader.answer(id, Query::Mailboxes).map_err(failed)? else {
                return Err(failed(StoreError::Failed));
            };
            let names: Vec<String> = mailboxes.into_iter().filter(|m| m.selectable).map(|m| m.name).collect();
            let asked = Query::Status { names: names.clone() };
            let Reply::Statuses(statuses) = self.reader.answer(id, asked).map_err(failed)? else {
                return Err(failed(StoreError::Failed));
            };
            entries.extend(names.into_iter().zip(statuses).filter_map(|(mailbox, status)| {
                let status = status.ok()?;
                Some(MailboxEntry {
                    account: name.clone(),
                    mailbox,
                    messages: status.messages,
                    unseen: status.unseen,
                    octets: status.octets,
                    uid_validity: status.uid_validity,
                    uid_next: status.uid_next,
                })
            }));
        }
        Ok(Response::Mailboxes { entries })
    }

    fn export(&mut self, to: &MailboxTransfer, accounts: &Accounts, progress: Progress<'_>) -> Result<Moved, String> {
        let id = self.account(&to.account, accounts)?;
        let moved = match to.format {
            MailFormat::Maildir => export_maildir(&mut *self.reader, id, &to.path, progress),
            MailFormat::Mbox => export_mbox(&mut *self.reader, id, &to.path, progress),
            MailFormat::Labels => export_labels(&mut *self.reader, id, &to.path, progress),
        };
        moved.map_err(|e| e.to_string())
    }

    fn import(&mut self, from: &MailboxTransfer, accounts: &Accounts, progress: Progress<'_>) -> Result<Moved, String> {
        let id = self.account(&from.account, accounts)?;
        let moved = match from.format {
            MailFormat::Maildir => import_maildir(&mut *self.writer, id, &from.path, progress),
            MailFormat::Mbox => {
                let mailbox = from.mailbox.as_deref().unwrap_or("INBOX");
                import_mbox(&mut *self.writer, id, mailbox, &from.path, progress)
            }
            MailFormat::Labels => return Err("labels are no mail; expected maildir or mbox".into()),
        };
        moved.map_err(|e| e.to_string())
    }
}

fn transferred(moved: Moved) -> Response {
    Response::Transferred { messages: moved.messages, mailboxes: moved.mailboxes }
}

/// A store's traits over the lanes, for one administrator: what is staged is asked for at the commit.
struct OverLanes<'a> {
    lanes: &'a MailboxLanes,
    staged: Vec<(u64, StoreAsk)>,
}

impl<'a> OverLanes<'a> {
    fn new(lanes: &'a MailboxLanes) -> OverLanes<'a> {
        OverLanes { lanes, staged: Vec::new() }
    }
}

impl MailReader for OverLanes<'_> {
    fn answer(&mut self, account: AccountId, query: Query) -> Result<Reply, StoreError> {
        self.lanes.ask_and_wait(StoreAsk::Query(account, query))
    }
}

impl MailWriter for OverLanes<'_> {
    fn account(&mut self, token: u64, name: &str) {
        self.staged.push((token, StoreAsk::Account { name: name.to_owned() }));
    }
    fn change(&mut self, token: u64, account: AccountId, change: Change) {
        self.staged.push((token, StoreAsk::Change(account, change)));
    }
    /// Administrators do not deliver.
    fn deliver(&mut self, token: u64, delivery: Delivery) {
        debug_assert!(false, "token {token}: {} is no change", delivery.id);
    }
    fn commit(&mut self) -> Commit {
        let ask = |(token, ask)| (token, Outcome::Replied(self.lanes.ask_and_wait(ask)));
        // Sessions are told by the lane itself.
        Commit { outcomes: self.staged.drain(..).map(ask).collect(), touched: Vec::new() }
    }
    fn tidy(&mut self, _budget_octets: u64) -> bool {
        false
    }
    /// The lane does.
    fn rest(&mut self) {}
    fn backup(&mut self, directory: &Path) -> Result<BackedUp, MailstoreError> {
        let failed = |text| MailstoreError::File { doing: "backing up to", path: directory.to_owned(), text };
        self.lanes.back_up(directory.to_owned()).map_err(failed)
    }
}
