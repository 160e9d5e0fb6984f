//! `gatepost account …`: the accounts of a data directory, whether a server runs or not (it reads them again when they
//! change).
//!
//! How it fails: one line; nothing is changed then.

use crate::base::knob::{KnobType, Octets, Raw};
use crate::control::cli::{DataArgs, Failure, print};
use crate::control::mailbox::call;
use crate::control::table::table;
use crate::gateway::admin::{Request, Response};
use crate::mailstore::accounts::{AccountOptions, AccountQuota, Accounts, AccountsError};
use clap::{Args, Subcommand};
use std::io::{BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Octets of a password on standard input, before anything is said about its length.
const PASSWORD_OCTETS_MAX: u64 = 4096;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum AccountCommand {
    /// Add an account; the password is asked for, or read from standard input
    Add {
        #[command(flatten)]
        account: NameArgs,
        /// Keep the password itself too, readable in the file, so that CRAM-MD5 works
        #[arg(long)]
        shared_secret: bool,
    },
    /// Set a new password
    Passwd(NameArgs),
    /// Show every account
    List {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show or set what an account may keep; a running server goes by it at once
    Quota(QuotaArgs),
    /// Remove an account; its mail stays unless it is purged
    Remove {
        /// Its name
        name: String,
        /// Delete its mail, too; also that of an account that was removed before
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// How much an account may keep.
#[derive(Debug, Args)]
pub struct QuotaArgs {
    /// Its name
    name: String,
    /// Octets of its messages: a size such as 2GiB, none, or default for what the settings say
    #[arg(long, value_name = "SIZE", value_parser = limit::<Octets>)]
    storage: Option<Limit>,
    /// Messages: a number, none, or default for what the settings say
    #[arg(long, value_name = "NUMBER", value_parser = limit::<u64>)]
    messages: Option<Limit>,
    #[command(flatten)]
    data: DataArgs,
}

/// A limit as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// As the settings have it.
    Default,
    /// So much; 0 is without limit.
    Own(u64),
}

impl Limit {
    fn value(self) -> Option<u64> {
        match self {
            Limit::Default => None,
            Limit::Own(n) => Some(n),
        }
    }
}

/// Numbers of which a limit is one.
trait Amount: KnobType {
    fn amount(self) -> u64;
}

impl Amount for Octets {
    fn amount(self) -> u64 {
        self.0
    }
}

impl Amount for u64 {
    fn amount(self) -> u64 {
        self
    }
}

/// Reads a limit.
fn limit<T: Amount>(text: &str) -> Result<Limit, String> {
    match text {
        "default" => Ok(Limit::Default),
        "none" => Ok(Limit::Own(0)),
        _ => {
            let raw = text.parse().map_or_else(|_| Raw::Text(text.into()), Raw::Integer);
            match T::parse(&raw).map(T::amount) {
                Ok(0) => Err("0 would keep nothing; none is without limit".to_owned()),
                Ok(n) => Ok(Limit::Own(n)),
                Err(why) => Err(format!("{why}, none or default")),
            }
        }
    }
}

/// Whose password, and where it comes from.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name to log in with, such as ann or ann@example.org
    name: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs an account command.
pub fn run(command: &AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Add { account, shared_secret } => {
            let accounts = open(&account.data)?;
            let password = password(account)?;
            let options = AccountOptions { shared_secret: *shared_secret };
            accounts.add(&account.name, &password, options).map_err(failure)
        }
        AccountCommand::Passwd(account) => {
            let accounts = open(&account.data)?;
            let password = password(account)?;
            accounts.passwd(&account.name, &password, None).map_err(failure)
        }
        AccountCommand::List { json, data } => list(&open(data)?, *json),
        AccountCommand::Quota(args) => quota(args),
        AccountCommand::Remove { name, purge, data } => remove(name, *purge, data),
    }
}

fn quota(args: &QuotaArgs) -> Result<(), Failure> {
    let settings = args.data.load()?.config.settings;
    let accounts = Accounts::open(&settings.server.data, settings.accounts).map_err(failure)?;
    if args.storage.is_none() && args.messages.is_none() && !accounts.exists(&args.name) {
        return Err(Failure::new(format!("there is no account {:?}; \"gatepost account list\" shows all", args.name)));
    }
    let quota = match (args.storage, args.messages) {
        (None, None) => accounts.quota(&args.name),
        (storage, messages) => accounts
            .set_quota(&args.name, |quota| AccountQuota {
                octets: storage.map_or(quota.octets, Limit::value),
                messages: messages.map_or(quota.messages, Limit::value),
            })
            .map_err(failure)?,
    };
    let of = |own: Option<u64>, setting: u64, show: fn(u64) -> String| match own {
        Some(n) => show(n),
        None => format!("{} (as the settings have it)", show(setting)),
    };
    print(&format!(
        "storage: {}\nmessages: {}\n",
        of(quota.octets, settings.mailbox.quota_octets.0, size),
        of(quota.messages, settings.mailbox.quota_messages, number)
    ))
}

/// A limit on octets, for people.
fn size(octets: u64) -> String {
    if octets == 0 { "none".into() } else { Octets(octets).show().trim_matches('"').to_owned() }
}

/// A limit on messages, for people.
fn number(messages: u64) -> String {
    if messages == 0 { "none".into() } else { messages.to_string() }
}

/// The login goes first, so that no mail comes in behind the purge.
fn remove(name: &str, purge: bool, data: &DataArgs) -> Result<(), Failure> {
    let accounts = open(data)?;
    let had = accounts.exists(name);
    // Asked while the account is there; a server without mailboxes has nothing to tell.
    let kept = if had && !purge { mail_of(name, data) } else { None };
    match accounts.remove(name) {
        Err(AccountsError::Unknown { .. }) if purge => {}
        removed => removed.map_err(failure)?,
    }
    if !purge {
        return match kept {
            Some(0) | None => Ok(()),
            Some(messages) => print(&format!(
                "the account is removed; its {messages} messages stay in the mailstore and would be those of a new account \
                 of this name; \"gatepost account remove {name} --purge\" deletes them\n"
            )),
        };
    }
    match call(data, &Request::MailboxPurge { account: name.to_owned() })? {
        Response::Transferred { messages, mailboxes } if had || messages > 0 => {
            print(&format!("{messages} messages in {mailboxes} mailboxes are deleted\n"))
        }
        Response::Transferred { .. } => Err(Failure::new(format!("there is no account {name:?} and no mail of one"))),
        other => Err(Failure::new(format!("the server answered something else: {other:?}"))),
    }
}

/// Messages of an account, where that can be told.
fn mail_of(name: &str, data: &DataArgs) -> Option<u64> {
    match call(data, &Request::MailboxList { accounts: vec![name.to_owned()] }) {
        Ok(Response::Mailboxes { entries }) => Some(entries.iter().map(|e| e.messages).sum()),
        _ => None,
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

fn open(data: &DataArgs) -> Result<Accounts, Failure> {
    let settings = data.load()?.config.settings;
    Accounts::open(&settings.server.data, settings.accounts).map_err(failure)
}

fn list(accounts: &Accounts, json: bool) -> Result<(), Failure> {
    let all = accounts.list();
    if json {
        let line = |a: &crate::mailstore::accounts::AccountSummary| {
            let value = serde_json::json!({
                "name": a.name, "mechanisms": a.mechanisms, "shared_secret": a.shared_secret,
                "quota_octets": a.quota.octets, "quota_messages": a.quota.messages
            });
            format!("{value}\n")
        };
        return print(&all.iter().map(line).collect::<String>());
    }
    let own = |limit: Option<u64>, show: fn(u64) -> String| limit.map_or("default".to_owned(), show);
    let row = |a: &crate::mailstore::accounts::AccountSummary| {
        vec![a.name.clone(), own(a.quota.octets, size), own(a.quota.messages, number), a.mechanisms.join(" ")]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    if rows.is_empty() {
        return print("there are no accounts\n");
    }
    print(&table(&["NAME", "STORAGE", "MESSAGES", "MECHANISMS"], &rows))
}

/// The password from standard input, or twice from the terminal without echo.
fn password(account: &NameArgs) -> Result<Zeroizing<String>, Failure> {
    if account.password_stdin {
        return first_line(&mut std::io::stdin().lock());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password; give it with --password-stdin"));
    }
    let ask = |prompt: String| {
        let answer = rpassword::prompt_password(prompt).map(Zeroizing::new);
        answer.map_err(|error| Failure::new(format!("cannot ask for the password: {error}")))
    };
    let first = ask(format!("Password for {}: ", account.name))?;
    let again = ask("Again: ".to_owned())?;
    if *first != *again {
        return Err(Failure::new("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

/// A password is one line; a line end is not part of it.
fn first_line(input: &mut impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(256));
    let read = input.take(PASSWORD_OCTETS_MAX + 1).read_line(&mut line);
    read.map_err(|error| Failure::new(format!("cannot read the password from standard input: {error}")))?;
    let password = line.strip_suffix('\n').map_or(line.as_str(), |l| l.strip_suffix('\r').unwrap_or(l));
    match password.len() {
        0 => Err(Failure::new("the password on standard input is empty")),
        n if n as u64 > PASSWORD_OCTETS_MAX => Err(Failure::new("the password on standard input is too long")),
        _ => Ok(Zeroizing::new(password.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_size_a_number_none_or_default() {
        assert_eq!(limit::<Octets>("2GiB"), Ok(Limit::Own(2 << 30)));
        assert_eq!(limit::<u64>("100000"), Ok(Limit::Own(100_000)));
        assert_eq!(limit::<u64>("none"), Ok(Limit::Own(0)));
        assert_eq!(limit::<Octets>("default"), Ok(Limit::Default));
        for text in ["0", "-1", "2 gigs", "", "1GiB"] {
            assert!(limit::<u64>(text).is_err(), "{text}");
        }
        assert!(limit::<Octets>("lots").unwrap_err().ends_with("none or default"));
        assert_eq!((size(0), size(2 << 30), size(1000)), ("none".into(), "2GiB".into(), "1000".into()));
    }

    #[test]
    fn a_password_is_one_line() {
        let read = |text: &str| first_line(&mut text.as_bytes()).map(|p| p.to_string()).map_err(|e| e.to_string());
        assert_eq!(read("secret\nmore\n"), Ok("secret".into()));
        assert_eq!(read("secret\r\n"), Ok("secret".into()));
        assert_eq!(read(" with space "), Ok(" with space ".into()));
        assert_eq!(read("\n"), Err("the password on standard input is empty".into()));
        assert_eq!(read(""), Err("the password on standard input is empty".into()));
        assert!(read(&"x".repeat(5000)).unwrap_err().contains("too long"));
        assert!(first_line(&mut &b"\xff\n"[..]).is_err());
    }
}
