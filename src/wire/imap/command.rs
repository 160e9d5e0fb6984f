//! Commands of a client, as values. Every command and extension that the server knows is a variant or an option here.
//!
//! Mailbox names are UTF-8 here, whatever form they had on the wire. Sequence numbers are as the client said them: what
//! they mean only its session knows.

use crate::base::mailbox::ask::{FetchItems, StoreHow};
use crate::base::mailbox::search::{SearchKey, SortKey, ThreadBy, ZonedTime};
use crate::base::mailbox::{FlagNames, ModSeq, SpecialUse};

/// A tag and what it tags.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// The client's tag.
    pub tag: String,
    /// The command.
    pub command: Command,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// ID (RFC 2971); pairs in order, `None` for NIL.
    Id(Vec<(String, Option<String>)>),
    /// STARTTLS
    StartTls,
    /// AUTHENTICATE
    Authenticate {
        /// SASL mechanism, upper case.
        mechanism: String,
        /// Initial response as base64 text (SASL-IR); `=` is an empty one.
        initial: Option<String>,
    },
    /// LOGIN
    Login {
        /// User name.
        user: String,
        /// Password; drop it soon.
        password: zeroize::Zeroizing<String>,
    },
    /// ENABLE; names in upper case.
    Enable(Vec<String>),
    /// COMPRESS; the algorithm in upper case.
    Compress(String),
    /// SELECT or EXAMINE
    Select {
        /// Which.
        mailbox: String,
        /// EXAMINE
        read_only: bool,
        /// `(CONDSTORE)`
        condstore: bool,
        /// `(QRESYNC (...))`
        qresync: Option<Qresync>,
    },
    /// CLOSE
    Close,
    /// UNSELECT
    Unselect,
    /// CHECK (IMAP4rev1)
    Check,
    /// CREATE
    Create {
        /// Name; a hierarchy separator at the end has been taken off.
        mailbox: String,
        /// `(USE (\Drafts))`
        special_use: Vec<SpecialUse>,
    },
    /// DELETE
    Delete(String),
    /// RENAME
    Rename {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// SUBSCRIBE
    Subscribe(String),
    /// UNSUBSCRIBE
    Unsubscribe(String),
    /// LIST, and LSUB as its `lsub`.
    List(ListCommand),
    /// NAMESPACE
    Namespace,
    /// STATUS
    Status {
        /// Which.
        mailbox: String,
        /// What.
        items: Vec<StatusItem>,
    },
    /// APPEND
    Append {
        /// Into which.
        mailbox: String,
        /// One or more (MULTIAPPEND).
        messages: Vec<AppendMessage>,
    },
    /// REPLACE and UID REPLACE (RFC 8508)
    Replace {
        /// Which message; a UID when `uid`.
        message: Bound,
        /// UID REPLACE
        uid: bool,
        /// Into which mailbox.
        mailbox: String,
        /// The new message.
        new: AppendMessage,
    },
    /// IDLE
    Idle,
    /// NOTIFY (RFC 5465) where offered: not read further.
    Notify,
    /// GETQUOTA
    GetQuota(String),
    /// GETQUOTAROOT
    GetQuotaRoot(String),
    /// SETQUOTA: known, refused.
    SetQuota(String),
    /// EXPUNGE, and UID EXPUNGE with its set.
    Expunge {
        /// UID EXPUNGE
        uids: Option<SequenceSet>,
    },
    /// SEARCH, SORT and THREAD, with or without UID.
    Search(SearchCommand),
    /// FETCH and UID FETCH
    Fetch(FetchCommand),
    /// STORE and UID STORE
    Store {
        /// Which.
        messages: SequenceSet,
        /// UID STORE
        uid: bool,
        /// How.
        how: StoreHow,
        /// `.SILENT`
        silent: bool,
        /// Flags.
        flags: FlagNames,
        /// `(UNCHANGEDSINCE n)`
        unchanged_since: Option<ModSeq>,
    },
    /// COPY, MOVE and their UID forms
    Copy {
        /// Which.
        messages: SequenceSet,
        /// UID COPY, UID MOVE
        uid: bool,
        /// MOVE
        moving: bool,
        /// Where to.
        mailbox: String,
    },
}

/// A number or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A sequence number or UID, not 0.
    Number(u32),
    /// The highest there is.
    Highest,
}

/// A sequence-set of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceSet {
    /// Ranges as they were said, single numbers as ranges with equal ends, ends in any order.
    Ranges(Vec<(Bound, Bound)>),
    /// `$`: what the last SEARCH with RETURN (SAVE) found (RFC 5182).
    Saved,
}

/// The parameters of QRESYNC at SELECT (RFC 7162 §3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qresync {
    /// UIDVALIDITY the client knows.
    pub uid_validity: u32,
    /// Last MODSEQ it knows.
    pub mod_seq: ModSeq,
    /// UIDs it knows.
    pub known: Option<SequenceSet>,
    /// Sequence numbers and the UIDs at them that it knows.
    pub matches: Option<(SequenceSet, SequenceSet)>,
}

/// LIST (RFC 5258, 5819, 6154, 8440) or LSUB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListCommand {
    /// LSUB (RFC 3501 §6.3.9).
    pub lsub: bool,
    /// Reference name.
    pub reference: String,
    /// Patterns, one unless the extended form was used.
    pub patterns: Vec<String>,
    /// Whether it came in the extended form at all (selection options, several patterns or RETURN).
    pub extended: bool,
    /// Selection: `SUBSCRIBED`
    pub select_subscribed: bool,
    /// Selection: `REMOTE`, which finds nothing more here.
    pub select_remote: bool,
    /// Selection: `RECURSIVEMATCH`
    pub recursive_match: bool,
    /// Selection: `SPECIAL-USE`
    pub select_special_use: bool,
    /// Return: `SUBSCRIBED`
    pub return_subscribed: bool,
    /// Return: `CHILDREN`
    pub return_children: bool,
    /// Return: `SPECIAL-USE`
    pub return_special_use: bool,
    /// Return: `STATUS (...)`
    pub return_status: Option<Vec<StatusItem>>,
}

/// What STATUS can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT (IMAP4rev1)
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// DELETED (RFC 9051, QUOTA)
    Deleted,
    /// DELETED-STORAGE (RFC 9208)
    DeletedStorage,
    /// SIZE (RFC 8438)
    Size,
    /// HIGHESTMODSEQ (RFC 7162)
    HighestModSeq,
    /// MAILBOXID (RFC 8474)
    MailboxId,
    /// APPENDLIMIT (RFC 7889)
    AppendLimit,
}

/// One message of APPEND.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendMessage {
    /// Flags.
    pub flags: FlagNames,
    /// Date-time.
    pub date: Option<ZonedTime>,
    /// Which of the message literals of this command it is, in the order in which they came: the octets are the
    /// machine's, not the grammar's.
    pub literal: usize,
    /// `UTF8 (~{n}...)` (RFC 6855)
    pub utf8: bool,
}

/// SEARCH, SORT or THREAD.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchCommand {
    /// With UID in front.
    pub uid: bool,
    /// SORT: its criteria.
    pub sort: Option<Vec<SortKey>>,
    /// THREAD: its algorithm.
    pub thread: Option<ThreadBy>,
    /// `RETURN (...)`, when there is one (an empty one asks for ALL).
    pub returns: Option<SearchReturn>,
    /// What for. Sequence sets in it stand as [`SearchKey::Uids`] placeholders; see [`SearchCommand::sets`].
    pub key: SearchKey,
    /// The sequence sets that the key mentions, with whether it is of UIDs. `SearchKey::Uids(UidSet::range(i + 1, i + 1))`
    /// in the key stands for set `i`; the machine puts the UIDs in.
    pub sets: Vec<(SequenceSet, bool)>,
    /// Whether MODSEQ was among the keys (the answer then tells the highest).
    pub mod_seq: bool,
}

/// RETURN options of SEARCH (RFC 4731, 5182, 9051 §6.4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    /// MIN
    pub min: bool,
    /// MAX
    pub max: bool,
    /// ALL
    pub all: bool,
    /// COUNT
    pub count: bool,
    /// SAVE
    pub save: bool,
    /// PARTIAL range (RFC 9394): first and last; negative counts from the end.
    pub partial: Option<(i64, i64)>,
}

/// FETCH.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchCommand {
    /// Which.
    pub messages: SequenceSet,
    /// UID FETCH
    pub uid: bool,
    /// What to answer, in the order in which it is answered.
    pub attributes: Vec<FetchAttribute>,
    /// What the store must be asked for; [`FetchAttribute::Section`] counts into its `sections`.
    pub items: FetchItems,
    /// Whether a section without PEEK is among them: sets `\Seen`.
    pub sets_seen: bool,
    /// `(CHANGEDSINCE n)`
    pub changed_since: Option<ModSeq>,
    /// `(CHANGEDSINCE n VANISHED)`
    pub vanished: bool,
    /// `(PARTIAL 1:50)`, negative from the end (RFC 9394 §3.3).
    pub partial: Option<(i64, i64)>,
}

/// One thing that FETCH answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchAttribute {
    /// UID
    Uid,
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// MODSEQ
    ModSeq,
    /// EMAILID
    EmailId,
    /// THREADID
    ThreadId,
    /// SAVEDATE
    SaveDate,
    /// PREVIEW
    Preview,
    /// A section: how it is labelled in the answer (`BODY[1.2]<0>`, `BINARY.SIZE[1]`, `RFC822.TEXT`), and which of
    /// [`FetchItems::sections`] it is.
    Section {
        /// Label.
        label: String,
        /// Index.
        index: usize,
    },
}
