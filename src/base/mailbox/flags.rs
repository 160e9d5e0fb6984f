//! Flags of a message: a word of bits, whose upper ones are the mailbox's own keywords.

use std::fmt;
use std::sync::Arc;

/// Keywords one mailbox can have.
pub const KEYWORDS_MAX: usize = 56;
/// Octets of a keyword.
pub const FLAG_OCTETS_MAX: usize = 100;

const FIRST_KEYWORD: u32 = 8;

/// Flags as bits: the system flags, then keyword `n` of the mailbox's [`Keywords`] at bit `8 + n`. `\Recent` is no flag
/// of a message but of a session (RFC 3501 §2.3.2) and is not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u64);

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);
    /// `\Seen`
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(1 << 1);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(1 << 2);
    /// `\Deleted`
    pub const DELETED: Flags = Flags(1 << 3);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(1 << 4);
    /// The system flags and their names, in the order in which they are written.
    pub const SYSTEM: [(Flags, &'static str); 5] = [
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::SEEN, "\\Seen"),
        (Flags::DRAFT, "\\Draft"),
    ];

    /// The flag of keyword `index` of a mailbox.
    pub fn keyword(index: usize) -> Flags {
        debug_assert!(index < KEYWORDS_MAX);
        Flags(1 << (FIRST_KEYWORD + index as u32))
    }
    /// Whether all of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
    /// Both.
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
    /// Without those of `other`.
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// A system flag by its name, in any case.
    pub fn system(name: &str) -> Option<Flags> {
        Flags::SYSTEM.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(f, _)| *f)
    }
    /// Indices of the keywords that are set, ascending.
    pub fn keywords(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0 >> FIRST_KEYWORD;
        std::iter::from_fn(move || {
            (bits != 0).then(|| {
                let index = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                index
            })
        })
    }
}

/// The keywords of a mailbox, by index; shared and only ever added to.
pub type Keywords = Arc<Vec<String>>;

/// Flags as a client names them: keywords by name, because the mailbox may not have them yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagNames {
    /// System flags.
    pub system: Flags,
    /// Keywords, each once in any case (they are compared without regard to ASCII case).
    pub keywords: Vec<String>,
}

impl FlagNames {
    /// Only system flags.
    pub fn system(system: Flags) -> FlagNames {
        FlagNames { system, keywords: Vec::new() }
    }
    /// Names of a mailbox's flags.
    pub fn of(flags: Flags, keywords: &[String]) -> FlagNames {
        FlagNames {
            system: Flags(flags.0 & ((1 << FIRST_KEYWORD) - 1)),
            keywords: flags.keywords().filter_map(|i| keywords.get(i).cloned()).collect(),
        }
    }
}

impl fmt::Display for FlagNames {
    /// As IMAP writes them: `\Seen $Forwarded`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = Flags::SYSTEM.iter().filter(|(flag, _)| self.system.contains(*flag)).map(|(_, name)| *name);
        for (i, name) in system.chain(self.keywords.iter().map(String::as_str)).enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_keywords_keep_apart() {
        let keywords = vec!["$Junk".to_owned(), "work".to_owned()];
        let flags = Flags::SEEN.with(Flags::keyword(1));
        assert_eq!(flags.keywords().collect::<Vec<_>>(), [1]);
        assert_eq!(FlagNames::of(flags, &keywords).to_string(), "\\Seen work");
        assert!(flags.contains(Flags::SEEN) && !flags.contains(Flags::DELETED));
        assert_eq!(flags.without(Flags::SEEN), Flags::keyword(1));
        assert_eq!(Flags::system("\\sEEN"), Some(Flags::SEEN));
        assert_eq!(Flags::keyword(KEYWORDS_MAX - 1).0, 1 << 63);
    }
}
