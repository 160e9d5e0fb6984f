//! `gatepost account …`: the accounts of a data directory, whether a server runs or not (it reads them again when they
//! change).
//!
//! How it fails: one line; nothing is changed then.

use crate::control::cli::{DataArgs, Failure, print};
use crate::control::table::table;
use crate::mailstore::accounts::{AccountOptions, Accounts};
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
    /// Remove an account
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
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
        AccountCommand::Remove { name, data } => open(data)?.remove(name).map_err(failure),
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
                "name": a.name, "mechanisms": a.mechanisms, "shared_secret": a.shared_secret
            });
            format!("{value}\n")
        };
        return print(&all.iter().map(line).collect::<String>());
    }
    let rows: Vec<Vec<String>> = all.iter().map(|a| vec![a.name.clone(), a.mechanisms.join(" ")]).collect();
    if rows.is_empty() {
        return print("there are no accounts\n");
    }
    print(&table(&["NAME", "MECHANISMS"], &rows))
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
