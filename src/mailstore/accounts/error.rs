//! What can go wrong with accounts, in words for an administrator.
//!
//! How it fails: it does not.

use crate::mailstore::replaced::FileError;
use crate::wire::prep::PrepError;
use std::fmt;
use std::path::PathBuf;

/// What, where, and what to do.
#[derive(Debug)]
pub enum AccountsError {
    /// The file cannot be read, locked or replaced.
    File(FileError),
    /// The file is not what we wrote.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// There is one already.
    Exists {
        /// Its name.
        name: String,
    },
    /// There is none.
    Unknown {
        /// The name asked for.
        name: String,
        /// A name that is nearly it.
        near: Option<String>,
    },
    /// The name cannot be used.
    BadName {
        /// As it was given.
        name: String,
        /// Why not.
        why: String,
    },
    /// The password cannot be used.
    BadPassword(PrepError),
    /// The settings of argon2 do not fit together.
    BadCost(String),
    /// The system gives no randomness.
    NoRandomness,
}

impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountsError::File(error) => error.fmt(f),
            AccountsError::Corrupt { path, line, what } => {
                write!(f, "{}:{line}: {what}; mend or remove that line, or restore the file", path.display())
            }
            AccountsError::Exists { name } => {
                write!(f, "there is an account {name} already; `account passwd` sets its password")
            }
            AccountsError::Unknown { name, near: None } => {
                write!(f, "there is no account {name}; `account list` shows them")
            }
            AccountsError::Unknown { name, near: Some(near) } => {
                write!(f, "there is no account {name}; did you mean {near}?")
            }
            AccountsError::BadName { name, why } => write!(f, "the account name {name:?} cannot be used: it {why}"),
            AccountsError::BadPassword(why) => write!(f, "the password cannot be used: it {why}"),
            AccountsError::BadCost(why) => write!(f, "the argon2 settings in [accounts] cannot be used: {why}"),
            AccountsError::NoRandomness => f.write_str("the system gives no random numbers"),
        }
    }
}

impl std::error::Error for AccountsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AccountsError::File(error) => error.source(),
            AccountsError::BadPassword(why) => Some(why),
            _ => None,
        }
    }
}

impl From<FileError> for AccountsError {
    fn from(error: FileError) -> AccountsError {
        AccountsError::File(error)
    }
}
