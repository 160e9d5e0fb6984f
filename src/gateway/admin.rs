//! What an administrator can ask of a running server, as values. `control` carries them over the admin socket; the
//! gateway answers through [`AdminHandler`].
//!
//! How it fails: a request that cannot be done is answered by [`Response::Failed`] with a word and a sentence.

mod explain;
pub(super) mod handler;
mod story;
pub mod views;

use super::metrics::view::Family;
use super::networks::Networks;
use super::recent::Recent;
use crate::base::knob::Octets;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
pub use views::*;

crate::knobs! {
    /// Where the server is looked at and steered: metrics at `/metrics`, the dashboard at `/`, the API below `/api/v1/`. The
    /// same is always there on the Unix socket `admin.sock` in the data directory, for the server's user.
    ///
    /// Without `token_file` and `client_ca` it is plain HTTP, on loopback only, and nothing can be changed by it; the address
    /// is free to everybody on the machine. With one of them it is HTTPS, on any address, and can do everything.
    pub struct AdminKnobs in "admin" {
        /// Whether there is an HTTP listener at all.
        enabled: bool = true, unit "";
        /// Address and port. Default: 127.0.0.1:2580, and when that is taken a warning and no listener.
        listen: Option<SocketAddr> = None, unit "";
        /// File with the token that clients show (`Authorization: Bearer TOKEN`; browsers ask for a password: it is the token,
        /// with any user name). At least 16 octets.
        token_file: Option<PathBuf> = None, unit "";
        /// PEM file with the authorities whose client certificates are let in.
        client_ca: Option<PathBuf> = None, unit "";
        /// PEM file with the certificate and its chain. Default: the server's first certificate.
        tls_chain: Option<PathBuf> = None, unit "";
        /// PEM file with its private key.
        tls_key: Option<PathBuf> = None, unit "";
        /// Names by which the listener may be called, beside `localhost`, addresses and the server's host name; a request for
        /// another name is refused, since a foreign page may have led a browser here under a name of its own.
        names: Vec<String> = Vec::new(), unit "";
        /// Networks whose requests are answered; the rest is closed without a word. `[]` = everybody.
        allow: Networks = Networks::default(), unit "";
        /// Viewers of live streams (dashboards, `gatepost tail`) at the same time.
        viewers_max: usize = 32, unit "viewers", range 1..=1024;
        /// Connections at the same time.
        connections_max: usize = 128, unit "connections", range 8..=4096;
        /// Sessions that are kept whole, so that their story can be told; 0 = none are recorded (a journal is its own matter).
        sessions_kept: usize = 2000, unit "sessions", range 0..=1_000_000;
        /// Decisions that are kept: refusals, and all decisions while somebody follows them.
        decisions_kept: usize = 5000, unit "decisions", range 100..=1_000_000;
        /// Memory for the sessions that are kept.
        sessions_memory_max: Octets = Octets::mib(16), unit "octets", range Octets::mib(1)..=Octets::mib(4096);
        /// Destinations of the queue that have a series of their own in the metrics; the rest is summed up as "other".
        destinations_shown: usize = 20, unit "destinations", range 1..=1000;
    }
}

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Status {},
    /// Read configuration, policy and lists again, as SIGHUP does.
    Reload {},
    /// Accept nobody any more, let sessions end, then end, as SIGTERM does.
    Drain {},
    /// The policy in force, with the hits of its rules.
    Policy {},
    /// What the policy in force would say to a session.
    Explain(ExplainCase),
    /// Decisions, the newest first.
    Decisions {
        /// Which of them.
        #[serde(default)]
        filter: DecisionFilter,
        /// At most so many.
        limit: u32,
    },
    /// The newest sessions that have ended.
    Sessions {
        /// At most so many.
        limit: u32,
    },
    /// A session's whole story.
    Session {
        /// Its id.
        id: String,
        /// With how each decision came about: the session is judged again, with limits counted from zero.
        #[serde(default)]
        trace: bool,
    },
    /// The queue in numbers, by destination and age.
    QueueSurvey {},
    /// Aliases and lists.
    AliasList {},
    /// Adds an alias or list, or members to one.
    AliasAdd {
        /// For whom.
        from: String,
        /// To whom.
        to: Vec<String>,
        /// A list rather than an alias.
        #[serde(default)]
        list: bool,
    },
    /// Removes an alias or list, or members of it.
    AliasRemove {
        /// For whom.
        from: String,
        /// Who is taken out; nobody = all of it.
        #[serde(default)]
        members: Vec<String>,
    },
    /// Start the program again and let it take over, as SIGUSR2 does. Done when it is ready to.
    Upgrade {},
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
    /// Have a second policy decide beside the first, or begin it anew.
    ShadowStart {
        /// Its file on the server's machine, absolute.
        file: PathBuf,
    },
    /// End it.
    ShadowStop {},
    /// What it has said so far.
    ShadowStatus {},
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
    /// Delete all mail of an account, which need not exist any more; answered by [`Response::Transferred`].
    MailboxPurge {
        /// Its name.
        account: String,
    },
    /// Write an account's mail to files on the server's machine.
    MailboxExport(MailboxTransfer),
    /// Read mail for an account from files on the server's machine.
    MailboxImport(MailboxTransfer),
}

/// What a shadow policy has said so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// Its file.
    pub file: String,
    /// Its version.
    pub version: String,
    /// Decisions that were compared.
    pub decisions: u64,
    /// It would refuse what passes.
    pub tightened: u64,
    /// It would let pass what is refused.
    pub loosened: u64,
    /// It would refuse with another code.
    pub other_refusal: u64,
    /// The same verdict by another rule, or with another text, delay, route or tag.
    pub other_detail: u64,
    /// It hangs on what nobody has found out.
    pub undecided: u64,
    /// By its word the session would not have come so far.
    pub not_reached: u64,
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
    /// What readers think of it, a line of JSON a message; only out, appended to the file.
    Labels,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// Done, nothing to tell.
    Done,
    /// To orders and questions about the shadow policy; `None` when there is none.
    Shadow(Option<ShadowStatus>),
    /// To [`Request::Reload`].
    Reloaded {
        /// Version of the policy in force now.
        version: String,
        /// What is different, a line for each.
        changes: Vec<String>,
        /// What is probably not meant so.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// To [`Request::Policy`].
    Policy(Box<PolicyView>),
    /// To [`Request::Explain`].
    Explained {
        /// The last verdict, such as `reject`.
        verdict: String,
        /// Stages, rules and parts, as `gatepost policy explain --json` prints them.
        trace: serde_json::Value,
        /// The same for people.
        text: String,
    },
    /// To [`Request::Decisions`].
    Decisions {
        /// The newest first.
        entries: Vec<Decided>,
        /// Decisions that nobody has seen, because more came than were asked for.
        missed: u64,
    },
    /// To [`Request::Sessions`].
    Sessions {
        /// The newest first.
        entries: Vec<SessionEntry>,
    },
    /// To [`Request::Session`].
    Session(Box<SessionStory>),
    /// To [`Request::QueueSurvey`].
    QueueSurvey(QueueSurvey),
    /// To [`Request::AliasList`].
    Aliases {
        /// All.
        entries: Vec<AliasEntry>,
        /// What is wrong with them.
        problems: Vec<String>,
    },
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
    /// To transfers, and [`Request::MailboxPurge`].
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
    /// Whether it is on its way out.
    #[serde(default)]
    pub draining: bool,
    /// Name of the policy in force.
    #[serde(default)]
    pub policy: String,
    /// Its version.
    #[serde(default)]
    pub policy_version: String,
    /// Resident memory, octets; 0 where the system does not tell.
    #[serde(default)]
    pub memory_octets: u64,
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
    /// Everything that is measured, as it is now.
    fn measures(&self) -> Vec<Family>;
    /// What happened lately.
    fn recent(&self) -> Arc<Recent>;
}
