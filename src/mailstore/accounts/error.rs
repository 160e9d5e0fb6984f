//! What can go wrong with accounts, in words for an administrator.
//!
//! How it fails: it does not.

use crate::wire::prep::PrepError;
use std::fmt;
use std::path::PathBuf;

/// What, where, and what to do.
#[derive(Debug)]
pub enum AccountsError {
    /// The system refused; a retry helps when its cause is gone.
    Io {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another process holds the lock.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
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
            AccountsError::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
            AccountsError::Locked { path } => {
                write!(
                    f,
                    "{} is locked by another process that changes accounts; try again when it is done",
                    path.display()
                )
            }
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
            AccountsError::Io { source, .. } => Some(source),
            AccountsError::BadPassword(why) => Some(why),
            _ => None,
        }
    }
}
