//! What a session asks the store: [`Query`] (reads), [`Change`] (writes, durable before they are answered) and their
//! answers; [`Delivery`] for mail that arrives.
//!
//! A query never waits for a disk that syncs; a change does, together with every other change that waits. Answers are
//! bounded: [`Query::Fetch`] answers for as many messages as fit and says where to go on. How it fails: [`StoreError`].

use super::search::{Found, SearchForm, SearchKey, ZonedTime};
use super::{AccountId, ContentId, FlagNames, Flags, Keywords, MailboxId, ModSeq, SpecialUse, Uid, UidSet};
use crate::base::body::Body;
use crate::base::id::SpoolId;
use crate::base::time::WallTime;
use std::fmt;
use std::sync::Arc;

/// A question that changes nothing but caches.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// All mailboxes of the account, and names that are subscribed without being there. [`Reply::Mailboxes`].
    Mailboxes,
    /// STATUS of several mailboxes. [`Reply::Statuses`], one per name in order.
    Status {
        /// Names.
        names: Vec<String>,
    },
    /// Open a mailbox. [`Reply::Selected`].
    Select {
        /// Its name.
        name: String,
        /// EXAMINE: leaves `\Recent` alone.
        read_only: bool,
    },
    /// What happened to a mailbox since. [`Reply::Synced`].
    Sync {
        /// The mailbox.
        mailbox: MailboxId,
        /// All changes up to this one are known.
        since: ModSeq,
        /// Messages from this UID on are not known.
        uid_next: Uid,
        /// Whether the session may take `\Recent` messages for itself.
        read_only: bool,
    },
    /// Data of messages. [`Reply::Fetched`].
    Fetch {
        /// The mailbox.
        mailbox: MailboxId,
        /// Which; UIDs that are not there are left out of the answer.
        uids: UidSet,
        /// What of them.
        items: Arc<FetchItems>,
        /// Only those with a higher one (CHANGEDSINCE).
        changed_since: Option<ModSeq>,
        /// Rows of the answer at most.
        rows_max: usize,
        /// Octets of sections in the answer, roughly; at least one row is answered.
        octets_max: usize,
    },
    /// A piece of a section that was answered as [`Octets::Stored`]. [`Reply::Octets`].
    Read {
        /// Where.
        stored: Stored,
        /// From which of its octets.
        offset: u64,
        /// How many at most.
        octets_max: usize,
    },
    /// SEARCH, SORT, THREAD. [`Reply::Found`].
    Search {
        /// The mailbox.
        mailbox: MailboxId,
        /// What for.
        key: SearchKey,
        /// In which form.
        form: SearchForm,
        /// Only among these: what the session sees.
        among: UidSet,
    },
    /// UIDs that were expunged since, for QRESYNC and VANISHED. [`Reply::Vanished`].
    Vanished {
        /// The mailbox.
        mailbox: MailboxId,
        /// Since which change.
        since: ModSeq,
        /// Which UIDs the client asks about.
        among: UidSet,
    },
    /// Quota of the account. [`Reply::Quota`].
    Quota,
}

/// A change; answered when it is durable and visible to every session.
#[derive(Clone, Debug)]
pub enum Change {
    /// CREATE. [`Reply::Created`]. Missing levels above are made as well.
    Create {
        /// Full name.
        name: String,
        /// CREATE-SPECIAL-USE.
        special_use: Option<SpecialUse>,
    },
    /// DELETE. [`Reply::Done`]. A mailbox with children stays as a name that cannot be selected.
    Delete {
        /// Full name.
        name: String,
    },
    /// RENAME, children too; INBOX moves its messages to the new name (RFC 9051 §6.3.6). [`Reply::Done`].
    Rename {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// SUBSCRIBE and UNSUBSCRIBE. [`Reply::Done`].
    Subscribe {
        /// Full name; need not exist.
        name: String,
        /// On or off.
        on: bool,
    },
    /// APPEND, all or none. [`Reply::Appended`].
    Append {
        /// Full name.
        name: String,
        /// The messages, in order.
        messages: Vec<NewMessage>,
    },
    /// REPLACE (RFC 8508): append and expunge at once. [`Reply::Replaced`].
    Replace {
        /// Where the old one is.
        mailbox: MailboxId,
        /// Which.
        uid: Uid,
        /// Into which mailbox the new one goes.
        name: String,
        /// The new one.
        message: NewMessage,
    },
    /// COPY, all or none. [`Reply::Copied`].
    Copy {
        /// From.
        mailbox: MailboxId,
        /// Which; those that are gone are left out.
        uids: UidSet,
        /// To.
        to: String,
    },
    /// MOVE, all or none. [`Reply::Copied`].
    Move {
        /// From.
        mailbox: MailboxId,
        /// Which; those that are gone are left out.
        uids: UidSet,
        /// To.
        to: String,
    },
    /// STORE, and `\Seen` by FETCH. [`Reply::Stored`].
    Store {
        /// The mailbox.
        mailbox: MailboxId,
        /// Which; those that are gone are left out.
        uids: UidSet,
        /// How.
        how: StoreHow,
        /// Which flags.
        flags: FlagNames,
        /// Leave those alone whose MODSEQ is higher (RFC 7162 §3.1.3).
        unchanged_since: Option<ModSeq>,
    },
    /// EXPUNGE, CLOSE, UID EXPUNGE, and DELE of POP3 at its UPDATE. [`Reply::Expunged`].
    Expunge {
        /// The mailbox.
        mailbox: MailboxId,
        /// Only these; `None` is all.
        uids: Option<UidSet>,
        /// Only what is flagged `\Deleted`.
        deleted_only: bool,
    },
    /// All mailboxes of the account go, INBOX too: for an account that is removed. [`Reply::Purged`].
    Purge,
}

/// How STORE combines flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreHow {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// A message to append.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its flags.
    pub flags: FlagNames,
    /// INTERNALDATE; `None` is now.
    pub internal_date: Option<ZonedTime>,
    /// Its octets.
    pub body: Body,
}

/// Mail that arrives for local accounts: kept once, whatever the number of its recipients.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id, for the log and the proof.
    pub id: SpoolId,
    /// Trace fields to stand in front of the body (Return-Path, Received).
    pub prefix: Vec<u8>,
    /// The text.
    pub body: Body,
    /// Who gets it, by the recipient's place in the envelope.
    pub to: Vec<Recipient>,
}

/// A local recipient of a [`Delivery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Its place in the envelope.
    pub index: u32,
    /// Names of the accounts that get it (more than one behind a list). An account gets one message once.
    pub accounts: Vec<String>,
    /// The mailbox that sub-addressing names; used when the account has it, otherwise INBOX.
    pub mailbox: Option<String>,
    /// With several accounts: those that can have it get it, though others cannot; otherwise all or none.
    pub partly: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`StoreAsk::Account`].
    Account(AccountId),
    /// To [`Query::Mailboxes`], by name.
    Mailboxes(Vec<MailboxInfo>),
    /// To [`Query::Status`].
    Statuses(Vec<Result<Status, StoreError>>),
    /// To [`Query::Select`].
    Selected(Box<Selected>),
    /// To [`Query::Sync`].
    Synced(Box<Synced>),
    /// To [`Query::Fetch`].
    Fetched(Fetched),
    /// To [`Query::Read`]; fewer octets than asked for only at the end of the section.
    Octets(Arc<Vec<u8>>),
    /// To [`Query::Search`]; with the highest MODSEQ among what was found.
    Found {
        /// What.
        found: Found,
        /// Highest MODSEQ of the messages found.
        mod_seq: Option<ModSeq>,
    },
    /// To [`Query::Vanished`].
    Vanished(UidSet),
    /// To [`Query::Quota`].
    Quota(Quota),
    /// To [`Change::Create`].
    Created(MailboxId),
    /// Done.
    Done,
    /// To [`Change::Append`].
    Appended(Appended),
    /// To [`Change::Replace`].
    Replaced {
        /// Where the new one is.
        appended: Appended,
    },
    /// To [`Change::Copy`] and [`Change::Move`].
    Copied(Copied),
    /// To [`Change::Store`].
    Stored {
        /// What was changed, with what it is now.
        changed: Vec<FlagChange>,
        /// What was not because it had changed meanwhile (MODIFIED).
        modified: UidSet,
        /// The mailbox's keywords now.
        keywords: Keywords,
    },
    /// To [`Change::Purge`].
    Purged {
        /// Messages that are gone.
        messages: u64,
        /// Mailboxes that are gone.
        mailboxes: u64,
    },
    /// To [`Change::Expunge`].
    Expunged {
        /// Which are gone now.
        uids: UidSet,
        /// By which change.
        mod_seq: ModSeq,
    },
}

/// A mailbox as LIST tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Full name.
    pub name: String,
    /// `None`: only a subscribed name (`\NonExistent`).
    pub id: Option<MailboxId>,
    /// Whether it can be selected; a level that only has children cannot.
    pub selectable: bool,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// What for.
    pub special_use: Option<SpecialUse>,
}

/// A mailbox as STATUS tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which it is.
    pub mailbox: MailboxId,
    /// Messages.
    pub messages: u64,
    /// Messages no session has been told of.
    pub recent: u64,
    /// Messages without `\Seen`.
    pub unseen: u64,
    /// Messages with `\Deleted`.
    pub deleted: u64,
    /// Octets of all messages.
    pub octets: u64,
    /// Octets of those with `\Deleted`.
    pub deleted_octets: u64,
    /// Next UID.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// Highest MODSEQ.
    pub mod_seq: ModSeq,
}

/// A mailbox that was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// What STATUS would say.
    pub status: Status,
    /// Its full name, INBOX in upper case.
    pub name: String,
    /// The messages.
    pub uids: UidSet,
    /// Messages from this UID on are `\Recent` in this session.
    pub recent_from: Uid,
    /// The first without `\Seen`.
    pub first_unseen: Option<Uid>,
    /// Its keywords.
    pub keywords: Keywords,
    /// Whether more keywords can be made.
    pub more_keywords: bool,
}

/// What happened to a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    /// The mailbox has been deleted; all else is empty.
    pub gone: bool,
    /// New messages.
    pub added: UidSet,
    /// Those from this UID on are `\Recent` in this session.
    pub recent_from: Uid,
    /// Known messages whose flags changed.
    pub changed: Vec<FlagChange>,
    /// Known messages that were expunged.
    pub vanished: UidSet,
    /// Up to which change this tells.
    pub mod_seq: ModSeq,
    /// Next UID.
    pub uid_next: Uid,
    /// Its keywords now.
    pub keywords: Keywords,
}

/// Flags of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// Which.
    pub uid: Uid,
    /// What they are now.
    pub flags: Flags,
    /// Since which change.
    pub mod_seq: ModSeq,
}

/// What FETCH wants of each message. Flags, MODSEQ, INTERNALDATE, size and ids are always answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchItems {
    /// ENVELOPE.
    pub envelope: bool,
    /// BODYSTRUCTURE, or BODY without its extension data.
    pub structure: Option<StructureForm>,
    /// PREVIEW (RFC 8970).
    pub preview: bool,
    /// THREADID (RFC 8474).
    pub thread: bool,
    /// Sections, in the order in which they are to be answered.
    pub sections: Vec<Section>,
}

/// Which form of the structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StructureForm {
    /// `BODYSTRUCTURE`
    Extended,
    /// `BODY`
    Basic,
}

/// A section of a message (RFC 9051 §6.4.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Part number; empty is the message.
    pub part: Vec<u32>,
    /// What of it.
    pub what: SectionWhat,
    /// From which octet and how many at most (`<0.2048>`).
    pub partial: Option<(u64, u64)>,
    /// Without its transfer encoding (BINARY, RFC 3516).
    pub decoded: bool,
    /// Only its size (`BINARY.SIZE`).
    pub size_only: bool,
}

/// What of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionWhat {
    /// All of it: for a part its body without its MIME header.
    All,
    /// `HEADER`
    Header,
    /// `HEADER.FIELDS` and `HEADER.FIELDS.NOT`, names without colon.
    Fields {
        /// Names of fields.
        names: Vec<String>,
        /// All but these.
        not: bool,
    },
    /// `TEXT`
    Text,
    /// `MIME`
    Mime,
}

/// Rows of messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Rows by UID.
    pub rows: Vec<Row>,
    /// Ask again from this UID on: the answer was full.
    pub next: Option<Uid>,
    /// The mailbox's keywords.
    pub keywords: Keywords,
}

/// What was asked of one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// Its MODSEQ.
    pub mod_seq: ModSeq,
    /// INTERNALDATE.
    pub internal_date: ZonedTime,
    /// When it came into this mailbox (SAVEDATE, RFC 8514).
    pub saved: WallTime,
    /// Octets, CRLF counted as two.
    pub octets: u64,
    /// Whether its last two octets are CRLF (or there are none): POP3 sends a CRLF where they are not, and counts it.
    pub ends_with_crlf: bool,
    /// Its content.
    pub content: ContentId,
    /// THREADID, when asked for.
    pub thread: Option<u64>,
    /// ENVELOPE as IMAP writes it, parentheses included, when asked for.
    pub envelope: Option<Arc<[u8]>>,
    /// The structure as IMAP writes it, when asked for.
    pub structure: Option<Arc<[u8]>>,
    /// The first words of its text in UTF-8, when asked for.
    pub preview: Option<String>,
    /// The sections asked for, in order.
    pub sections: Vec<SectionData>,
}

/// A section that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum SectionData {
    /// There is no such part: `NIL`.
    Nothing,
    /// Its octets, `partial` already applied.
    Octets(Octets),
    /// Its size.
    Size(u64),
    /// Its transfer encoding is unknown or broken (`UNKNOWN-CTE`).
    UnknownEncoding,
}

/// Octets, at hand or to be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Octets {
    /// At hand: a piece of a shared allocation.
    Memory {
        /// The allocation.
        bytes: Arc<Vec<u8>>,
        /// First octet.
        start: usize,
        /// One past the last.
        end: usize,
    },
    /// Too many for one answer: to be had by [`Query::Read`].
    Stored(Stored),
}

impl Octets {
    /// All of a vector.
    pub fn memory(bytes: Vec<u8>) -> Octets {
        let end = bytes.len();
        Octets::Memory { bytes: Arc::new(bytes), start: 0, end }
    }
    /// How many.
    pub fn len(&self) -> u64 {
        match self {
            Octets::Memory { start, end, .. } => (end - start) as u64,
            Octets::Stored(stored) => stored.octets,
        }
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A piece of a stored message. It can be read for a while after the message was expunged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The message.
    pub content: ContentId,
    /// Where in it the piece begins.
    pub offset: u64,
    /// Octets of the piece.
    pub octets: u64,
}

/// Where appended messages went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// UIDVALIDITY there.
    pub uid_validity: u32,
    /// Their UIDs, in order.
    pub uids: Vec<Uid>,
}

/// What was copied or moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the mailbox they went to.
    pub uid_validity: u32,
    /// Source UIDs, ascending.
    pub from: UidSet,
    /// Their new UIDs in the same order.
    pub to: UidSet,
    /// For a move: by which change they left.
    pub mod_seq: ModSeq,
}

/// Use and limits of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Octets in use.
    pub octets: u64,
    /// At most; `None` is without limit.
    pub octets_max: Option<u64>,
    /// Messages.
    pub messages: u64,
    /// At most; `None` is without limit.
    pub messages_max: Option<u64>,
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No mailbox of that name (NONEXISTENT; TRYCREATE where one could be made).
    NoSuchMailbox,
    /// The name is taken (ALREADYEXISTS).
    Exists,
    /// The name cannot be one; why (CANNOT).
    InvalidName(&'static str),
    /// INBOX cannot be deleted, and the like (CANNOT); why.
    Cannot(&'static str),
    /// It has children and no messages of its own (HASCHILDREN).
    HasChildren,
    /// The account would have more than it may (OVERQUOTA).
    OverQuota,
    /// A limit of the store (LIMIT); which.
    Limit(&'static str),
    /// The message has been expunged (EXPUNGEISSUED).
    Expunged,
    /// No such account.
    NoSuchAccount,
    /// The mailbox was deleted.
    Gone,
    /// Too much is waiting; try again (UNAVAILABLE, 452).
    Busy,
    /// The disk is full: nothing was changed (UNAVAILABLE, 452).
    DiskFull,
    /// The disk or the index failed: nothing was changed (SERVERBUG, 451); the operator has been told.
    Failed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreError::NoSuchMailbox => "no such mailbox",
            StoreError::Exists => "a mailbox of that name exists already",
            StoreError::InvalidName(why) | StoreError::Cannot(why) | StoreError::Limit(why) => why,
            StoreError::HasChildren => "the mailbox has mailboxes below it",
            StoreError::OverQuota => "the account is over its quota",
            StoreError::Expunged => "the message has been expunged",
            StoreError::NoSuchAccount => "no such account",
            StoreError::Gone => "the mailbox has been deleted",
            StoreError::Busy => "too much is waiting, try again",
            StoreError::DiskFull => "there is no room on disk",
            StoreError::Failed => "the mailstore failed, the operator has been told",
        })
    }
}

impl std::error::Error for StoreError {}

/// Who asks: the account and what.
#[derive(Clone, Debug)]
pub enum StoreAsk {
    /// Number of an account that has proved who it is; its INBOX and special-use mailboxes are made when they are not
    /// there. Answered by [`Reply::Account`]; the only question without an account.
    Account {
        /// Its name, as accounts are stored.
        name: String,
    },
    /// A question.
    Query(AccountId, Query),
    /// A change.
    Change(AccountId, Change),
}
