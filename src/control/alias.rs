//! `gatepost alias …`: other names of accounts, distribution lists and local domains of a data directory, whether a server
//! runs or not (it reads them again when they change).
//!
//! How it fails: one line; nothing is changed then.

use crate::control::cli::{DataArgs, Failure, print};
use crate::control::table::table;
use crate::mailstore::accounts::Accounts;
use crate::mailstore::addresses::{AddressKind, Addresses, Resolved};
use crate::wire::address::parse_mailbox;
use clap::{Args, Subcommand};
use std::sync::Arc;

/// What to do with aliases.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum AliasCommand {
    /// Add an alias, or members to one that is there
    Add {
        /// For whom: sales@example.org, sales (at every local domain), or @example.org (whatever nobody else is there)
        from: String,
        /// To whom: accounts, other aliases, addresses anywhere
        #[arg(required = true, value_name = "TO")]
        to: Vec<String>,
        /// A distribution list: EXPN shows its members
        #[arg(long)]
        list: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Remove an alias or list, or members of it
    Remove {
        /// For whom it is
        from: String,
        /// Members to take out; without them all of it goes
        members: Vec<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show every alias and list
    List(ListArgs),
    /// Show who gets the mail for an address
    Show {
        /// The address, such as sales@example.org
        address: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show the local domains, or add one beside those of the configuration; a running server takes it within a second
    Domain {
        /// The domain to add
        domain: Option<String>,
        /// Remove it instead
        #[arg(long, requires = "domain")]
        remove: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// How to show them.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Runs an alias command.
pub fn run(command: &AliasCommand) -> Result<(), Failure> {
    let (AliasCommand::Add { data, .. }
    | AliasCommand::Remove { data, .. }
    | AliasCommand::List(ListArgs { data, .. })
    | AliasCommand::Show { data, .. }
    | AliasCommand::Domain { data, .. }) = command;
    let text = run_on(&open(data)?, command)?;
    if text.is_empty() { Ok(()) } else { print(&text) }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

fn open(data: &DataArgs) -> Result<Addresses, Failure> {
    let config = data.load()?.config;
    let directory = config.settings.server.data;
    let accounts = Accounts::open(&directory, config.settings.accounts).map_err(failure)?;
    Addresses::open(&directory, Arc::new(accounts), &config.settings.addresses, config.domains).map_err(failure)
}

/// What the command says.
fn run_on(addresses: &Addresses, command: &AliasCommand) -> Result<String, Failure> {
    match command {
        AliasCommand::Add { from, to, list, .. } => {
            let kind = if *list { AddressKind::List } else { AddressKind::Alias };
            addresses.add(kind, from, to).map_err(failure)?;
        }
        AliasCommand::Remove { from, members, .. } => addresses.remove(from, members).map_err(failure)?,
        AliasCommand::List(args) => return Ok(list(addresses, args.json)),
        AliasCommand::Show { address, .. } => return show(addresses, address),
        AliasCommand::Domain { domain: None, .. } => {
            return Ok(addresses.domains().into_iter().map(|domain| domain + "\n").collect());
        }
        AliasCommand::Domain { domain: Some(domain), remove: true, .. } => {
            addresses.remove_domain(domain).map_err(failure)?;
        }
        AliasCommand::Domain { domain: Some(domain), .. } => addresses.add_domain(domain).map_err(failure)?,
    }
    Ok(String::new())
}

fn list(addresses: &Addresses, json: bool) -> String {
    let rows = addresses.list();
    if json {
        let line = |row: &crate::mailstore::addresses::AddressRow| {
            let value = serde_json::json!({ "kind": row.kind.word(), "from": row.from, "to": row.to });
            format!("{value}\n")
        };
        return rows.iter().map(line).collect();
    }
    if rows.is_empty() {
        return "there are no aliases and no lists\n".to_owned();
    }
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| vec![row.kind.word().to_owned(), row.from, row.to.join(" ")]).collect();
    let problems: String = addresses.problems().iter().map(|problem| format!("problem: {problem}\n")).collect();
    table(&["KIND", "FROM", "TO"], &rows) + &problems
}

fn show(addresses: &Addresses, address: &str) -> Result<String, Failure> {
    let mailbox = parse_mailbox(address).map_err(|why| Failure::new(format!("{address:?} is no address: {why}")))?;
    match addresses.resolve(&mailbox) {
        Resolved::Local { accounts, mailbox, remote } => {
            let accounts = accounts.into_iter().map(|name| format!("account {name}\n"));
            let mailbox = mailbox.into_iter().map(|name| format!("mailbox {name}, if the account has it\n"));
            let remote = remote.into_iter().map(|address| format!("elsewhere {address}\n"));
            Ok(accounts.chain(mailbox).chain(remote).collect())
        }
        Resolved::Unknown => Err(Failure::new(format!("{address} is nobody here"))),
        Resolved::NotLocal => {
            Err(Failure::new(format!("{address} is not in a local domain; `alias domain` shows them")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::knob::Octets;
    use crate::mailstore::accounts::{AccountKnobs, AccountOptions};
    use crate::mailstore::addresses::AddressKnobs;
    use crate::wire::address::parse_domain;

    fn addresses(dir: &std::path::Path) -> Addresses {
        let cheap = AccountKnobs { argon2_memory: Octets::kib(64), argon2_passes: 1, ..AccountKnobs::default() };
        let accounts = Accounts::open(dir, cheap).unwrap();
        accounts.add("ann", "secret", AccountOptions::default()).unwrap();
        let domains = vec![parse_domain("example.test").unwrap()];
        Addresses::open(dir, Arc::new(accounts), &AddressKnobs::default(), domains).unwrap()
    }

    fn said(addresses: &Addresses, command: AliasCommand) -> String {
        run_on(addresses, &command).unwrap_or_else(|e| e.to_string())
    }

    fn add(from: &str, to: &[&str], list: bool) -> AliasCommand {
        let to = to.iter().map(|t| (*t).to_owned()).collect();
        AliasCommand::Add { from: from.into(), to, list, data: DataArgs::default() }
    }

    #[test]
    fn what_is_added_is_shown_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = addresses(dir.path());
        let list = |json| AliasCommand::List(ListArgs { json, data: DataArgs::default() });
        let show = |address: &str| AliasCommand::Show { address: address.into(), data: DataArgs::default() };
        let domain = |domain: Option<&str>, remove| AliasCommand::Domain {
            domain: domain.map(str::to_owned),
            remove,
            data: DataArgs::default(),
        };
        assert_eq!(said(&addresses, list(false)), "there are no aliases and no lists\n");
        assert_eq!(said(&addresses, add("sales", &["ann"], false)), "");
        assert_eq!(said(&addresses, add("team@example.test", &["sales", "bob@example.net"], true)), "");
        assert_eq!(
            said(&addresses, list(false)),
            "KIND   FROM               TO\nalias  sales              ann\n\
             list   team@example.test  sales bob@example.net\n"
        );
        assert!(said(&addresses, list(true)).starts_with(r#"{"from":"sales","kind":"alias","to":["ann"]}"#));
        assert_eq!(
            said(&addresses, show("Sales+New@example.test")),
            "account ann\nmailbox New, if the account has it\n"
        );
        assert_eq!(said(&addresses, show("team@example.test")), "account ann\nelsewhere bob@example.net\n");
        assert_eq!(said(&addresses, show("x@example.test")), "x@example.test is nobody here");
        assert!(said(&addresses, show("x@example.net")).contains("not in a local domain"));
        assert!(said(&addresses, show("x")).contains("is no address"));
        assert!(said(&addresses, add("x@example.org", &["ann"], false)).contains("not a local domain"));
        assert_eq!(said(&addresses, domain(Some("example.org"), false)), "");
        assert_eq!(said(&addresses, domain(None, false)), "example.test\nexample.org\n");
        assert_eq!(said(&addresses, add("x@example.org", &["ann"], false)), "");
        let remove = AliasCommand::Remove { from: "SALES".into(), members: Vec::new(), data: DataArgs::default() };
        assert!(said(&addresses, remove).contains("team@example.test leads to sales"), "somebody still needs it");
        let members = vec!["Bob@example.net".to_owned(), "sales".to_owned()];
        let remove = AliasCommand::Remove { from: "team@example.test".into(), members, data: DataArgs::default() };
        assert_eq!(said(&addresses, remove), "");
        assert!(!said(&addresses, list(false)).contains("team"), "nobody is left in it");
    }
}
