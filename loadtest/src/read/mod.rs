//! Readers: POP3 and IMAP clients that use a mailbox as people do.
//!
//! How it fails: options that contradict each other or a password file that cannot be read end the run with one line;
//! what a server refuses is counted by what it called it.

mod digest;
pub mod imap;
pub(crate) mod line;
pub mod pop3;
#[cfg(test)]
pub(crate) mod tests_support;

use crate::client::{self, ClientReport};
use crate::live::Counters;
use crate::stop::Stop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// POP3 (RFC 1939).
    Pop3,
    /// IMAP (RFC 9051, RFC 3501).
    Imap,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Do {
    /// Looks whether there is something new.
    Poll,
    /// Reads every message.
    FetchAll,
    /// Waits for news (IMAP).
    Idle,
    /// Searches (IMAP).
    Search,
    /// Sets and clears flags (IMAP).
    Flags,
}

impl Do {
    fn name(self) -> &'static str {
        match self {
            Do::Poll => "poll",
            Do::FetchAll => "fetch-all",
            Do::Idle => "idle",
            Do::Search => "search",
            Do::Flags => "flags",
        }
    }
}

/// Longest password file, and so the most passwords.
const PASSWORD_FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Users {
    pattern: String,
    total: u64,
    passwords: Arc<Vec<String>>,
}

impl Users {
    /// `total` users; `{}` in the pattern is a user's number, from 1. One password for all, or one for each.
    pub fn new(pattern: &str, total: u64, passwords: Vec<String>) -> Result<Users, String> {
        if total == 0 {
            return Err("--users: expected at least 1".into());
        }
        if total > 1 && !pattern.contains("{}") {
            return Err(format!(
                "--user: expected a {{}} for the number, since there are {total} users, found {pattern:?}"
            ));
        }
        if passwords.len() != 1 && passwords.len() as u64 != total {
            return Err(format!(
                "--password-file: expected one line for all users or {total} lines, found {}",
                passwords.len()
            ));
        }
        // Both protocols send them on one line, and neither has a way to quote a line end.
        if let Some(at) = passwords.iter().chain([&pattern.to_owned()]).position(|p| p.contains(['\r', '\0'])) {
            return Err(format!("--user or --password-file: line {}: found a control character", at + 1));
        }
        Ok(Users { pattern: pattern.to_owned(), total, passwords: Arc::new(passwords) })
    }

    /// Reads the passwords from a file, one a line.
    pub fn from_file(pattern: &str, total: u64, file: &Path) -> Result<Users, String> {
        let named = |e: std::io::Error| format!("--password-file {}: {e}", file.display());
        if std::fs::metadata(file).map_err(named)?.len() > PASSWORD_FILE_OCTETS_MAX {
            return Err(format!("--password-file {}: longer than {PASSWORD_FILE_OCTETS_MAX} octets", file.display()));
        }
        let text = std::fs::read_to_string(file).map_err(named)?;
        Users::new(pattern, total, text.lines().map(str::to_owned).collect())
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Name and password of user `n`, counted from 0.
    pub fn nth(&self, n: u64) -> (String, String) {
        let password = self.passwords.get(n as usize).or(self.passwords.first()).cloned().unwrap_or_default();
        (self.pattern.replace("{}", &(n + 1).to_string()), password)
    }
}

/// One client's task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Whose mailbox, counted from 0.
    pub user: u64,
    /// Name to log in with.
    pub name: String,
    /// Password.
    pub password: String,
    /// What it does.
    pub what: Do,
    /// How often it does it in one session.
    pub rounds: u64,
    /// Between two rounds; for IDLE how long it waits.
    pub pause: Duration,
    /// POP3: whether what was read is deleted.
    pub delete: bool,
    /// IMAP: the mailbox.
    pub mailbox: String,
}

/// Everything a run of readers is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The loop.
    pub run: client::Options,
    /// Protocol.
    pub protocol: Protocol,
    /// What sessions do.
    pub what: Do,
    /// Who logs in.
    pub users: Users,
    /// How often a session does it.
    pub rounds: u64,
    /// Between two rounds; for IDLE how long it waits.
    pub pause: Duration,
    /// POP3: whether what was read is deleted.
    pub delete: bool,
    /// IMAP: the mailbox.
    pub mailbox: String,
}

/// Runs readers until they are done or stopped.
pub fn run(options: &Options, counters: &Arc<Counters>, stop: &Stop) -> Result<ClientReport, String> {
    if options.protocol == Protocol::Pop3 && !matches!(options.what, Do::Poll | Do::FetchAll) {
        return Err(format!("--do {}: POP3 has no such thing; expected poll or fetch-all", options.what.name()));
    }
    let shared = options.clone();
    let task = move |ticket: client::Ticket| {
        let user = ticket.share_of(shared.users.total());
        let (name, password) = shared.users.nth(user);
        Task {
            user,
            name,
            password,
            what: shared.what,
            rounds: shared.rounds.max(1),
            pause: shared.pause,
            delete: shared.delete,
            mailbox: shared.mailbox.clone(),
        }
    };
    let mut run = options.run.clone();
    run.kind = format!("{} {}", if options.protocol == Protocol::Pop3 { "pop3" } else { "imap" }, options.what.name());
    match options.protocol {
        Protocol::Pop3 => client::run(&run, move |t| pop3::Client::new(task(t)), counters, stop),
        Protocol::Imap => client::run(&run, move |t| imap::Client::new(task(t)), counters, stop),
    }
    .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_passwords() {
        let users = Users::new("u{}@example.test", 3, vec!["all".into()]).unwrap();
        assert_eq!(users.nth(2), ("u3@example.test".into(), "all".into()));
        let each = Users::new("u{}", 2, vec!["one".into(), "two".into()]).unwrap();
        assert_eq!(each.nth(1).1, "two");
        for (pattern, total, passwords, wanted) in [
            ("u", 2, vec!["x"], "expected a {}"),
            ("u{}", 0, vec!["x"], "at least 1"),
            ("u{}", 3, vec!["x", "y"], "3 lines, found 2"),
            ("u{}", 1, vec![], "found 0"),
            ("u", 1, vec!["a\rb"], "control character"),
        ] {
            let passwords = passwords.into_iter().map(str::to_owned).collect();
            assert!(Users::new(pattern, total, passwords).unwrap_err().contains(wanted), "{wanted}");
        }
    }
}
