//! What can go wrong with addresses, in words for an administrator.
//!
//! How it fails: it does not.

use super::table::Problem;
use crate::mailstore::replaced::FileError;
use crate::wire::address::AddressError;
use std::fmt;
use std::path::PathBuf;

/// What, where, and what to do.
#[derive(Debug)]
pub enum AddressesError {
    /// The file cannot be read, locked or replaced.
    File(FileError),
    /// A line of the file is none of ours.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The text is no address that can stand here.
    BadAddress {
        /// As it was given.
        text: String,
        /// Why not.
        why: AddressError,
    },
    /// The name of a mailbox without domain cannot be used.
    BadName {
        /// As it was given.
        text: String,
    },
    /// It is there already.
    Exists {
        /// What.
        what: String,
    },
    /// It is not there.
    Unknown {
        /// What.
        what: String,
    },
    /// Its domain is not ours.
    NotLocal {
        /// The domain.
        domain: String,
    },
    /// More members than a list can have.
    TooMany {
        /// Whose.
        from: String,
        /// How many it can have.
        members_max: usize,
    },
    /// The change would lead mail nowhere.
    Refused(Problem),
    /// The separator of sub-addresses cannot be one.
    BadSeparator(String),
}

impl fmt::Display for AddressesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressesError::File(error) => error.fmt(f),
            AddressesError::Corrupt { path, line, what } => {
                write!(f, "{}:{line}: {what}; mend or remove that line", path.display())
            }
            AddressesError::BadAddress { text, why } => write!(f, "{text:?} cannot be used: {why}"),
            AddressesError::BadName { text } => {
                write!(f, "{text:?} cannot be used: expected a name such as sales, sales@example.org or @example.org")
            }
            AddressesError::Exists { what } => write!(f, "{what} is there already"),
            AddressesError::Unknown { what } => write!(f, "there is no {what}"),
            AddressesError::NotLocal { domain } => write!(
                f,
                "{domain} is not a local domain; add it with `alias domain {domain}`, or to server.domains in the \
                 configuration"
            ),
            AddressesError::TooMany { from, members_max } => {
                write!(f, "{from} cannot have more than {members_max} members")
            }
            AddressesError::Refused(problem) => problem.fmt(f),
            AddressesError::BadSeparator(text) => write!(
                f,
                "addresses.separator {text:?} cannot be used: expected one of + - = ! # % & * / ? ^ _ ~, or nothing"
            ),
        }
    }
}

impl std::error::Error for AddressesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AddressesError::File(error) => error.source(),
            AddressesError::BadAddress { why, .. } => Some(why),
            _ => None,
        }
    }
}

impl From<FileError> for AddressesError {
    fn from(error: FileError) -> AddressesError {
        AddressesError::File(error)
    }
}
