//! What SEARCH, SORT and THREAD ask for (RFC 9051 §6.4.4, RFC 5256), as data.

use super::{ContentId, Flags, ModSeq, Uid, UidSet};
use crate::base::time::WallTime;

/// A search key. Texts are UTF-8 whatever CHARSET they came in, and are compared without regard to case.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// All of them; nothing in it is every message.
    And(Vec<SearchKey>),
    /// Either.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// Not.
    Not(Box<SearchKey>),
    /// Its UID is one of these. Sequence numbers and `*` have been replaced by the session, which alone knows them.
    Uids(UidSet),
    /// All these system flags are set.
    Flag(Flags),
    /// This keyword is set (any case).
    Keyword(String),
    /// It came into the mailbox since the session that asks was told of it first; the session fills in the lowest such
    /// UID (`\Recent`, IMAP4rev1 only).
    RecentFrom(Uid),
    /// Some header field of this name contains this text; an empty text asks for the field itself.
    Header {
        /// Name of the field, without colon.
        name: String,
        /// What its decoded value contains.
        contains: String,
    },
    /// The decoded text of some text part contains it.
    Body(String),
    /// The header or the text does.
    Text(String),
    /// INTERNALDATE, without its time and in its zone, against a day.
    Internal(When, Day),
    /// The Date field, without time and zone, against a day.
    Sent(When, Day),
    /// The day it was saved to this mailbox (RFC 8514), in UTC.
    Saved(When, Day),
    /// INTERNALDATE within the last so many seconds (RFC 5032).
    Younger(u32),
    /// INTERNALDATE not within them.
    Older(u32),
    /// More octets than this.
    Larger(u64),
    /// Fewer.
    Smaller(u64),
    /// MODSEQ at least this (RFC 7162 §3.1.5).
    ModSeq(ModSeq),
    /// This content (RFC 8474).
    Email(ContentId),
    /// This thread (RFC 8474).
    Thread(u64),
}

/// How a date compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Earlier than the day.
    Before,
    /// On it.
    On,
    /// On it or later.
    Since,
}

/// A day, as days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i32);

/// A moment and the zone in which it was written (INTERNALDATE keeps it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedTime {
    /// The moment.
    pub at: WallTime,
    /// East of UTC, in minutes.
    pub zone_minutes: i16,
}

/// One criterion of SORT, in the order in which they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Descending.
    pub reverse: bool,
    /// By what.
    pub by: SortBy,
}

/// What SORT can go by (RFC 5256 §3, RFC 5957 for display names is not offered).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// INTERNALDATE.
    Arrival,
    /// Local part of the first Cc address.
    Cc,
    /// The Date field in UTC, INTERNALDATE where it has none.
    Date,
    /// Local part of the first From address.
    From,
    /// Octets.
    Size,
    /// Base subject (RFC 5256 §2.1).
    Subject,
    /// Local part of the first To address.
    To,
}

/// How THREAD groups (RFC 5256 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadBy {
    /// Base subject, then sent date.
    OrderedSubject,
    /// Message-ID, In-Reply-To and References.
    References,
}

/// A member of the answer to THREAD, in the order of a walk that visits parents before children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadMember {
    /// How far below a root it stands; 0 is a root.
    pub depth: u32,
    /// The message; `None` stands for one that is missing but joins its children.
    pub uid: Option<Uid>,
}

/// In which form the result is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchForm {
    /// Which messages, ascending.
    Set,
    /// Which messages, in this order.
    Sorted(Vec<SortKey>),
    /// As threads.
    Threaded(ThreadBy),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// For [`SearchForm::Set`].
    Set(UidSet),
    /// For [`SearchForm::Sorted`].
    Sorted(Vec<Uid>),
    /// For [`SearchForm::Threaded`].
    Threads(Vec<ThreadMember>),
}
