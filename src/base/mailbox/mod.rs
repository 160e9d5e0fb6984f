//! The vocabulary between a mailbox session (POP3, IMAP) and whatever keeps the mail: ids, sets of UIDs, flags, and in
//! [`ask`] the questions and orders with their answers. Plain data: the machines say it, the gateway carries it, the
//! mailstore answers it, and none of them needs to know another.
//!
//! Words are those of RFC 9051: *mailbox* is a folder of an account here, not an address (that is
//! [`address::Mailbox`](super::address::Mailbox)). How it fails: values only; [`ask::StoreError`] names what went wrong.

pub mod ask;
mod flags;
pub mod search;
mod uids;
mod view;

pub use flags::{FLAG_OCTETS_MAX, FlagNames, Flags, KEYWORDS_MAX, Keywords};
pub use uids::UidSet;
pub use view::View;

/// A unique identifier of a message in its mailbox (RFC 9051 §2.3.1.1): 1 and up, never used twice.
pub type Uid = u32;
/// A modification sequence of a mailbox (RFC 7162 §3): every change has a higher one than all before it.
pub type ModSeq = u64;

/// An account in the store; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u32);

/// A mailbox in the store; never used twice, kept by RENAME (RFC 8474 MAILBOXID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxId(pub u32);

/// A message's content in the store: the same after COPY and MOVE (RFC 8474 EMAILID); never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub u64);

/// What a mailbox is for (RFC 6154 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecialUse {
    /// `\All`
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    /// Every one, for tables and tests.
    pub const ALL: [SpecialUse; 7] = [
        SpecialUse::All,
        SpecialUse::Archive,
        SpecialUse::Drafts,
        SpecialUse::Flagged,
        SpecialUse::Junk,
        SpecialUse::Sent,
        SpecialUse::Trash,
    ];

    /// The attribute as LIST writes it.
    pub fn attribute(self) -> &'static str {
        match self {
            SpecialUse::All => "\\All",
            SpecialUse::Archive => "\\Archive",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Flagged => "\\Flagged",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Trash => "\\Trash",
        }
    }

    /// Reads an attribute, in any case.
    pub fn parse(attribute: &str) -> Option<SpecialUse> {
        SpecialUse::ALL.into_iter().find(|u| u.attribute().eq_ignore_ascii_case(attribute))
    }
}

/// Separates levels of mailbox names. Names are UTF-8, `INBOX` is written in upper case wherever it is a whole name or
/// its first level, and no name contains a control character, `*`, `%` or an empty level.
pub const HIERARCHY_SEPARATOR: char = '/';
/// Octets of a mailbox name.
pub const MAILBOX_NAME_OCTETS_MAX: usize = 500;
