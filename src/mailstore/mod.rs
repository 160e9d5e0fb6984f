//! Accounts, and the mail they keep: the traits a mailbox session is served through, and the embedded store behind them.
//!
//! [`Mailstore`] is the seam where a shared database will stand: nothing above it knows about SQLite or files. One
//! [`MailWriter`] stages changes and deliveries and makes them durable together; any number of [`MailReader`]s answer
//! questions beside it without ever waiting for a sync.
//!
//! How it fails: opening fails with [`MailstoreError`], which says what, where and what to do; a question or a change with
//! [`StoreError`], after which nothing has changed.

pub mod accounts;
pub mod addresses;
pub mod embedded;
pub mod io;
mod knobs;
mod replaced;

pub use knobs::MailboxKnobs;
pub use replaced::FileError;

use crate::base::mailbox::ask::{Change, Delivery, Query, Reply, StoreError};
use crate::base::mailbox::{AccountId, MailboxId};
use crate::base::proof::Committed;
use crate::log::LogError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One thread writes: changes and deliveries are staged, then made durable together.
pub trait MailWriter: Send {
    /// Number of an account; makes it (INBOX, Drafts, Sent, Junk, Trash, Archive with their special uses, subscribed) when
    /// it is new. Answered by the next [`MailWriter::commit`].
    fn account(&mut self, token: u64, name: &str);
    /// Stages a change; answered by the next [`MailWriter::commit`].
    fn change(&mut self, token: u64, account: AccountId, change: Change);
    /// Stages mail that arrives; answered by the next [`MailWriter::commit`].
    fn deliver(&mut self, token: u64, delivery: Delivery);
    /// One sync for everything staged; then index and images are updated, so that it is visible; then this returns.
    fn commit(&mut self) -> Commit;
    /// Background work within a budget: compaction, body files of expunged mail, checkpoint of the index. Returns whether
    /// there is more to do.
    fn tidy(&mut self, budget_octets: u64) -> bool;
    /// The last call before an orderly end, after the last commit: writes down what makes the next start quick.
    fn rest(&mut self);
    /// Puts everything that is durable into a new directory, from which a store can be opened. Between two commits, so it
    /// is consistent; nothing waits for it but commits, and these only while what cannot be linked is copied.
    fn backup(&mut self, directory: &Path) -> Result<BackedUp, MailstoreError>;
}

/// What became of what was staged.
#[derive(Debug, Default)]
pub struct Commit {
    /// One per token, in the order in which they were staged.
    pub outcomes: Vec<(u64, Outcome)>,
    /// Mailboxes that were changed or deleted, each once: their sessions have something to ask for.
    pub touched: Vec<MailboxId>,
}

/// What became of one token.
#[derive(Debug)]
pub enum Outcome {
    /// Of an account or a change.
    Replied(Result<Reply, StoreError>),
    /// Of a delivery.
    Delivered(Delivered),
}

/// What became of a delivery.
#[derive(Debug)]
pub struct Delivered {
    /// By [`Recipient::index`](crate::base::mailbox::ask::Recipient). A recipient with several accounts has it in all of
    /// them or in none, but for those in `left`.
    pub verdicts: Vec<(u32, Result<(), StoreError>)>,
    /// Accounts of recipients that were to be served partly, and were; these have not got it, and why.
    pub left: Vec<(u32, String, StoreError)>,
    /// The proof, when anybody has it.
    pub committed: Option<Committed>,
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Octets that were copied; the rest is files with a second name.
    pub octets_copied: u64,
    /// Large messages in files of their own.
    pub body_files: usize,
}

/// Many threads read, each its own reader. Never waits for a sync.
pub trait MailReader: Send {
    /// Answers a question of an account about its own mailboxes.
    fn answer(&mut self, account: AccountId, query: Query) -> Result<Reply, StoreError>;
}

/// Answers some questions at once, on a thread that must not wait: those that need no disk, no lock that is held for long,
/// and little time.
pub trait Glance: Send + Sync {
    /// The answer, the same as a reader's; `None` when a reader is to be asked.
    fn glance(&self, account: AccountId, query: &Query) -> Option<Result<Reply, StoreError>>;
}

/// What accounts may keep, where that differs from the settings. Asked by the writer at each message; may look at a file.
pub trait Quotas: Send + Sync {
    /// Octets and messages of an account by its name; 0 is without limit, `None` what the settings say.
    fn quota(&self, account: &str) -> (Option<u64>, Option<u64>);
}

/// The seam where a shared database will stand.
pub trait Mailstore: Send + Sync {
    /// What can be answered without a reader.
    fn glance(&self) -> Arc<dyn Glance>;
    /// A reader for one thread.
    fn reader(&self) -> Result<Box<dyn MailReader>, MailstoreError>;
    /// The writer; a second call is an error.
    fn writer(&self) -> Result<Box<dyn MailWriter>, MailstoreError>;
}

/// Why the store cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailstoreError {
    /// The log.
    Log(LogError),
    /// The index. It can be thrown away: it is made again from the log.
    Index {
        /// Its file.
        path: PathBuf,
        /// What SQLite said.
        text: String,
    },
    /// A file or directory.
    File {
        /// What was being done.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        text: String,
    },
    /// The store refused what was imported or exported.
    Refused {
        /// Which mailbox.
        what: String,
        /// Why.
        error: StoreError,
    },
    /// A directory for a backup is there already.
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is one writer, and it was taken.
    WriterTaken,
}

impl From<LogError> for MailstoreError {
    fn from(e: LogError) -> MailstoreError {
        MailstoreError::Log(e)
    }
}

impl fmt::Display for MailstoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MailstoreError::Log(e) => write!(f, "mailstore: {e}"),
            MailstoreError::Index { path, text } => {
                write!(f, "mailstore: {}: {text}; if it persists, remove the file: it is made again", path.display())
            }
            MailstoreError::File { doing, path, text } => write!(f, "mailstore: {doing} {}: {text}", path.display()),
            MailstoreError::Refused { what, error } => write!(f, "mailstore: {what}: {error}"),
            MailstoreError::Exists { path } => {
                write!(f, "mailstore: {} is there already, expected a new directory", path.display())
            }
            MailstoreError::WriterTaken => f.write_str("mailstore: its writer was taken already"),
        }
    }
}

impl std::error::Error for MailstoreError {}
