//! What an administrator can ask of a running server, as values. `control` carries them over the admin socket; the
//! gateway answers through [`AdminHandler`].
//!
//! How it fails: a request that cannot be done is answered by [`Response::Failed`] with a word and a sentence.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Status {},
    /// Read configuration, policy and lists again, as SIGHUP does.
    Reload {},
    /// Messages waiting, oldest first.
    QueueList {
        /// Which of them.
        #[serde(default)]
        filter: QueueFilter,
        /// Only ids behind this one: the last of the page before.
        #[serde(default)]
        after: Option<String>,
        /// At most so many; the server may give fewer.
        limit: u32,
    },
    /// Everything about one message.
    QueueShow {
        /// Its id.
        id: String,
    },
    /// Try now.
    QueueRetry {
        /// Which messages.
        which: Selection,
    },
    /// Do not try until released.
    QueueHold {
        /// Which messages.
        which: Selection,
        /// Why, for whoever looks at the queue.
        reason: String,
    },
    /// Undo a hold.
    QueueRelease {
        /// Which messages.
        which: Selection,
    },
    /// Delete without a bounce.
    QueueRemove {
        /// Which messages.
        which: Selection,
    },
    /// The mailboxes of accounts, of all without names.
    MailboxList {
        /// Names of accounts.
        #[serde(default)]
        accounts: Vec<String>,
    },
    /// Put the mailstore into a new directory on the server's machine.
    MailboxBackup {
        /// The directory, absolute.
        directory: PathBuf,
    },
    /// Write an account's mail to files on the server's machine.
    MailboxExport(MailboxTransfer),
    /// Read mail for an account from files on the server's machine.
    MailboxImport(MailboxTransfer),
}

/// Mail on its way between an account and files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxTransfer {
    /// The account.
    pub account: String,
    /// The directory or file, absolute.
    pub path: PathBuf,
    /// How mail is kept there.
    pub format: MailFormat,
    /// Only this mailbox, or into this one.
    #[serde(default)]
    pub mailbox: Option<String>,
}

/// How mail is kept in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailFormat {
    /// Maildir, with Maildir++ for folders.
    Maildir,
    /// One file a mailbox.
    Mbox,
}

/// A mailbox, as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxEntry {
    /// Whose.
    pub account: String,
    /// Its name.
    pub mailbox: String,
    /// Messages.
    pub messages: u64,
    /// Of these without `\Seen`.
    pub unseen: u64,
    /// Their octets.
    pub octets: u64,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The next UID.
    pub uid_next: u32,
}

/// Which messages a list is about; fields that are `None` do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueFilter {
    /// Only messages with a recipient for this destination, such as `pool:main` or `mx:example.org`.
    pub destination: Option<String>,
    /// Only messages from this address (`""` = the null sender), without regard to case.
    pub sender: Option<String>,
    /// Only messages with this recipient, without regard to case.
    pub recipient: Option<String>,
    /// Only messages in this state.
    pub state: Option<QueueState>,
}

impl QueueFilter {
    /// Whether a message with this entry is meant. `destinations` are those of its waiting recipients.
    pub fn admits(&self, entry: &QueueEntry) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        self.state.is_none_or(|state| state == entry.state)
            && self.sender.as_deref().is_none_or(|sender| same(sender, &entry.sender))
            && self.recipient.as_deref().is_none_or(|r| entry.recipients.iter().any(|e| same(r, &e.address)))
            && self.destination.as_deref().is_none_or(|d| entry.recipients.iter().any(|e| same(d, &e.destination)))
    }
}

/// Which messages an order is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Every message.
    All,
    /// Those with a recipient for this destination.
    Destination(String),
    /// These.
    Ids(Vec<String>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// Done, nothing to tell.
    Done,
    /// To [`Request::QueueList`].
    Queue {
        /// The page.
        entries: Vec<QueueEntry>,
        /// Whether more follow behind the last entry.
        more: bool,
    },
    /// To [`Request::QueueShow`].
    Message(QueueMessage),
    /// To orders about the queue.
    Changed {
        /// Messages that were changed.
        count: u64,
        /// Ids that were asked for and are not in the queue.
        #[serde(default)]
        unknown: Vec<String>,
    },
    /// To [`Request::MailboxList`].
    Mailboxes {
        /// By account and name.
        entries: Vec<MailboxEntry>,
    },
    /// To [`Request::MailboxBackup`].
    BackedUp {
        /// Octets that were copied; what was linked does not count.
        octets_copied: u64,
        /// Files of large messages.
        body_files: u64,
    },
    /// To transfers.
    Transferred {
        /// Messages.
        messages: u64,
        /// Mailboxes.
        mailboxes: u64,
    },
    /// It could not be done.
    Failed {
        /// A word for programs, such as `not-found`, `busy`, `invalid`.
        code: String,
        /// A sentence for people.
        message: String,
    },
}

impl Response {
    /// A failure.
    pub fn failed(code: &str, message: impl Into<String>) -> Response {
        Response::Failed { code: code.to_owned(), message: message.into() }
    }
}

/// How the server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Cores in use.
    pub cores: u16,
    /// Driver in use, `uring` or `epoll`.
    pub driver: String,
    /// Open client connections.
    pub connections: u64,
    /// Messages accepted since the start.
    pub accepted: u64,
    /// Messages delivered into mailboxes since the start.
    #[serde(default)]
    pub delivered: u64,
    /// Messages in the queue.
    pub queued: u64,
    /// Addresses listened on, as `name=address`.
    pub listeners: Vec<String>,
}

/// What a queued message is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    /// Its next attempt.
    #[default]
    Waiting,
    /// The end of an attempt that is being made.
    Active,
    /// An administrator.
    Held,
}

impl QueueState {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            QueueState::Waiting => "waiting",
            QueueState::Active => "active",
            QueueState::Held => "held",
        }
    }
}

/// One message in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its id, 13 characters.
    pub id: String,
    /// What it waits for.
    pub state: QueueState,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// When it is tried next, milliseconds since the epoch.
    pub next_ms: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// Size of the body.
    pub octets: u64,
    /// Reverse path, empty for the null sender.
    pub sender: String,
    /// Recipients that are still open.
    pub recipients: Vec<QueueRecipient>,
    /// Why it is held, or the last answer of a destination.
    pub reason: String,
}

/// One recipient of a queued message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRecipient {
    /// The address.
    pub address: String,
    /// Where it goes, such as `pool:main`.
    pub destination: String,
    /// What was last said about it.
    #[serde(default)]
    pub last: String,
}

/// Everything about one message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMessage {
    /// As in the list.
    pub entry: QueueEntry,
    /// Header section as far as it is kept, at most 64 KiB; octets that are not UTF-8 replaced.
    pub headers: String,
    /// When it is given up, milliseconds since the epoch.
    pub expires_ms: u64,
    /// Envelope id of RFC 3461 §4.4, decoded.
    #[serde(default)]
    pub envid: Option<String>,
}

/// Answers requests; called from the admin thread, so it may block for a short time.
pub trait AdminHandler: Send + Sync {
    /// The answer to `request`.
    fn call(&self, request: Request) -> Response;
}
