//! `gatepost mailbox …`: the mail of local accounts. `list`, `backup`, `export` and `import` work on a running server
//! (over its admin socket; files are on its machine) and on a stopped one's directory; `verify` and `compact` need it
//! stopped, because they look at all of it at once.
//!
//! How it fails: one line that says what and where; `verify` lists what it found and ends with exit code 1.

use crate::control::admin::AdminClient;
use crate::control::cli::{DataArgs, Failure, print};
use crate::control::lock::DataLock;
use crate::control::table::table;
use crate::gateway::admin::{MailFormat, MailboxEntry, MailboxTransfer, Request, Response};
use crate::gateway::config::Settings;
use crate::gateway::data::mail_dir;
use crate::gateway::mailboxes::Keeper;
use crate::mailstore::accounts::Accounts;
use crate::mailstore::embedded;
use clap::{Args, Subcommand, ValueEnum};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with mailboxes.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum MailboxCommand {
    /// Show the mailboxes of accounts, with their messages and octets
    List {
        /// Accounts; without them all
        accounts: Vec<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Write an account's mail to a directory: Maildir++ or a file per mailbox
    Export(TransferArgs),
    /// Read mail for an account from a Maildir, Maildir++ or mbox file; what is there already stays
    Import(TransferArgs),
    /// Write what readers think of their mail, for `gatepost policy tune --labels`: spam is what lies in Junk or is marked
    /// $Junk, ham what was read and lies elsewhere or is marked $NotJunk
    Labels {
        /// Accounts; without them all
        accounts: Vec<String>,
        /// The file, a line of JSON a message; it is made anew
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Put the whole mailstore into a new directory, also while the server runs
    Backup {
        /// The directory; it must not exist or be empty
        directory: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Compare the index with the log and read every message (the server must be stopped)
    Verify {
        /// Make an index that differs anew
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Give back the room of everything expunged (the server must be stopped; it does the same bit by bit)
    Compact {
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Which mail, and where.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The account
    account: String,
    /// The directory or file
    path: PathBuf,
    /// How mail is kept there
    #[arg(long, default_value = "maildir")]
    format: FormatWord,
    /// Into which mailbox an mbox file is read
    #[arg(long, value_name = "MAILBOX")]
    into: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

/// The formats, as they are written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatWord {
    /// Maildir and Maildir++
    Maildir,
    /// One file a mailbox
    Mbox,
}

/// Runs a mailbox command.
pub fn run(command: &MailboxCommand) -> Result<(), Failure> {
    match command {
        MailboxCommand::List { accounts, json, data } => {
            let request = Request::MailboxList { accounts: accounts.clone() };
            match call(data, &request)? {
                Response::Mailboxes { entries } => list(&entries, *json),
                other => Err(unexpected(&other)),
            }
        }
        MailboxCommand::Export(args) => transfer(args, Request::MailboxExport(args.transfer()?), "exported"),
        MailboxCommand::Import(args) => transfer(args, Request::MailboxImport(args.transfer()?), "imported"),
        MailboxCommand::Labels { accounts, output, data } => labels(accounts, output, data),
        MailboxCommand::Backup { directory, data } => {
            match call(data, &Request::MailboxBackup { directory: absolute(directory)? })? {
                Response::BackedUp { octets_copied, body_files } => print(&format!(
                    "backed up to {}: {octets_copied} octets copied, {body_files} large messages\n",
                    directory.display()
                )),
                other => Err(unexpected(&other)),
            }
        }
        MailboxCommand::Verify { repair, data } => verify(data, *repair),
        MailboxCommand::Compact { data } => compact(data),
    }
}

/// Labels of every account into one file: made here, so that a server of another user only needs to append to it.
fn labels(accounts: &[String], output: &Path, data: &DataArgs) -> Result<(), Failure> {
    let Response::Mailboxes { entries } = call(data, &Request::MailboxList { accounts: accounts.to_vec() })? else {
        return Err(Failure::new("the server did not say which accounts there are"));
    };
    std::fs::write(output, "").map_err(|e| Failure::new(format!("cannot write {}: {e}", output.display())))?;
    let path = absolute(output)?;
    let names: std::collections::BTreeSet<String> = entries.into_iter().map(|e| e.account).collect();
    let mut labelled = 0;
    for account in names {
        let transfer = MailboxTransfer { account, path: path.clone(), format: MailFormat::Labels, mailbox: None };
        match call(data, &Request::MailboxExport(transfer))? {
            Response::Transferred { messages, .. } => labelled += messages,
            other => return Err(unexpected(&other)),
        }
    }
    print(&format!("{labelled} messages are labelled in {}\n", output.display()))
}

impl TransferArgs {
    fn transfer(&self) -> Result<MailboxTransfer, Failure> {
        if self.into.is_some() && self.format != FormatWord::Mbox {
            return Err(Failure::usage("--into is for --format mbox; a Maildir has its own folders"));
        }
        Ok(MailboxTransfer {
            account: self.account.clone(),
            path: absolute(&self.path)?,
            format: match self.format {
                FormatWord::Maildir => MailFormat::Maildir,
                FormatWord::Mbox => MailFormat::Mbox,
            },
            mailbox: self.into.clone(),
        })
    }
}

/// The server may stand in another directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn transfer(args: &TransferArgs, request: Request, done: &str) -> Result<(), Failure> {
    match call(&args.data, &request)? {
        Response::Transferred { messages, mailboxes } => {
            let (m, b) = (if messages == 1 { "" } else { "s" }, if mailboxes == 1 { "" } else { "es" });
            print(&format!("{done} {messages} message{m} in {mailboxes} mailbox{b}\n"))
        }
        other => Err(unexpected(&other)),
    }
}

/// Asks the running server, or answers from the directory of a stopped one.
pub(super) fn call(data: &DataArgs, request: &Request) -> Result<Response, Failure> {
    let settings = data.load()?.config.settings;
    let dir = &settings.server.data;
    let client = AdminClient::connect(dir).map_err(|e| Failure::new(e.to_string()))?;
    let response = match client {
        Some(mut client) => client.patient().call(request).map_err(|e| Failure::new(e.to_string()))?,
        None => offline(&settings, request)?,
    };
    match response {
        Response::Failed { message, .. } => Err(Failure::new(message)),
        response => Ok(response),
    }
}

fn offline(settings: &Settings, request: &Request) -> Result<Response, Failure> {
    let dir = &settings.server.data;
    let _lock = DataLock::take_existing(dir).map_err(|e| Failure::new(e.to_string()))?;
    let accounts = Accounts::open(dir, settings.accounts.clone()).map_err(|e| Failure::new(e.to_string()))?;
    let accounts = Arc::new(accounts);
    let keeper = Keeper::open(&mail_dir(dir), settings.mailbox.clone(), accounts.clone());
    let mut keeper = keeper.map_err(|e| Failure::new(e.to_string()))?;
    let mut shown = Progress::new();
    let answer = keeper.answer(request, &accounts, &mut |mailbox, n| shown.show(&format!("{mailbox}: {n}")));
    shown.end();
    answer.ok_or_else(|| Failure::new("not a request for mailboxes"))
}

fn unexpected(response: &Response) -> Failure {
    Failure::new(format!("the server answered something else: {response:?}"))
}

fn list(entries: &[MailboxEntry], json: bool) -> Result<(), Failure> {
    if json {
        let lines: Result<Vec<String>, _> = entries.iter().map(serde_json::to_string).collect();
        let lines = lines.map_err(|e| Failure::new(e.to_string()))?;
        return print(&lines.into_iter().map(|line| line + "\n").collect::<String>());
    }
    if entries.is_empty() {
        return print("there are no mailboxes\n");
    }
    let row = |e: &MailboxEntry| {
        vec![e.account.clone(), e.messages.to_string(), e.unseen.to_string(), e.octets.to_string(), e.mailbox.clone()]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    print(&table(&["ACCOUNT", "MESSAGES", "UNSEEN", "OCTETS", "MAILBOX"], &rows))
}

/// The store of a stopped server, and its lock.
fn stopped(data: &DataArgs) -> Result<(DataLock, Settings), Failure> {
    let settings = data.load()?.config.settings;
    let lock = DataLock::take_existing(&settings.server.data)
        .map_err(|e| Failure::new(format!("{e}; stop the server for this")))?;
    Ok((lock, settings))
}

fn verify(data: &DataArgs, repair: bool) -> Result<(), Failure> {
    let (_lock, settings) = stopped(data)?;
    let directory = mail_dir(&settings.server.data);
    let mut shown = Progress::new();
    let found = embedded::verify(&directory, settings.mailbox, repair, &mut |n, all| {
        if n % 256 == 0 || n == all {
            shown.show(&format!("{n} of {all} messages read"));
        }
    });
    shown.end();
    let found = found.map_err(|e| Failure::new(e.to_string()))?;
    let mut text = format!("{} messages are as they were written\n", found.contents);
    for id in &found.contents_damaged {
        text.push_str(&format!("damaged or missing: message {}\n", id.0));
    }
    for difference in &found.differences {
        text.push_str(&format!("the index differs: {difference}\n"));
    }
    if found.repaired {
        text.push_str("the index will be made anew at the next start\n");
    }
    print(&text)?;
    match (found.is_sound(), found.repaired && found.contents_damaged.is_empty() && !found.log_damaged) {
        (true, _) | (_, true) => Ok(()),
        _ if found.log_damaged => Err(Failure::new("the log is damaged; restore what is missing from a backup")),
        _ if found.contents_damaged.is_empty() => Err(Failure::new("the index differs; --repair makes it anew")),
        _ => Err(Failure::new("messages are damaged; restore them from a backup")),
    }
}

fn compact(data: &DataArgs) -> Result<(), Failure> {
    let (_lock, settings) = stopped(data)?;
    let mut shown = Progress::new();
    let done = embedded::compact(&mail_dir(&settings.server.data), settings.mailbox, &mut |segments| {
        shown.show(&format!("{segments} segments"));
    });
    shown.end();
    let done = done.map_err(|e| Failure::new(e.to_string()))?;
    print(&format!("{} segments before, {} after\n", done.segments_before, done.segments_after))
}

/// One line that changes, on a terminal only.
struct Progress {
    terminal: bool,
    width: usize,
}

impl Progress {
    fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), width: 0 }
    }
    fn show(&mut self, text: &str) {
        if self.terminal {
            let width = self.width;
            // A terminal that is gone is nobody to tell.
            let _ = write!(std::io::stderr(), "\r{text:<width$}");
            self.width = text.chars().count();
        }
    }
    fn end(&mut self) {
        if self.terminal && self.width > 0 {
            let width = self.width;
            let _ = write!(std::io::stderr(), "\r{:<width$}\r", "");
        }
    }
}
