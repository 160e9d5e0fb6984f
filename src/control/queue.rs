//! `gatepost queue …`: the same commands whether a server runs (over its admin socket) or not (on its directory).
//!
//! How it fails: one line that says whom to ask; ids that are not in the queue are named and make the exit code 1.

use crate::base::knob::show_duration;
use crate::base::time::WallTime;
mod offline;

use crate::control::admin::AdminClient;
use crate::control::cli::{DataArgs, Failure, print};
use crate::control::table::{table, visible};
use crate::gateway::admin::{QueueEntry, QueueFilter, QueueMessage, QueueState, Request, Response, Selection};
use clap::{Args, Subcommand, ValueEnum};
use offline::Offline;
use std::fmt::Write;
use std::time::Duration;

/// Entries asked for at once.
const PAGE: u32 = 1000;

/// What to do with the queue.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum QueueCommand {
    /// Messages that wait, oldest first
    List(ListArgs),
    /// Everything about one message
    Show {
        /// Its id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Try now
    Retry(WhichArgs),
    /// Do not try until released
    Hold {
        #[command(flatten)]
        which: WhichArgs,
        /// Why, for whoever looks at the queue
        #[arg(long, default_value = "held by the administrator")]
        reason: String,
    },
    /// Undo a hold
    Release(WhichArgs),
    /// Delete without telling the sender
    Remove(WhichArgs),
}

/// Which messages to list, and how.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those for this destination, such as pool:main or mx:example.org
    #[arg(long, value_name = "DESTINATION")]
    destination: Option<String>,
    /// Only those from this address; "" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Only those to this address
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Only those in this state
    #[arg(long)]
    state: Option<StateWord>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// The states, as they are written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateWord {
    /// For its next attempt
    Waiting,
    /// In an attempt
    Active,
    /// Held by an administrator
    Held,
}

/// Which messages an order is for.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// Ids, as `queue list` shows them
    #[arg(required_unless_present_any = ["all", "destination"], conflicts_with_all = ["all", "destination"])]
    ids: Vec<String>,
    /// Every message
    #[arg(long, conflicts_with = "destination")]
    all: bool,
    /// Those for this destination
    #[arg(long, value_name = "DESTINATION")]
    destination: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

impl WhichArgs {
    fn selection(&self) -> Selection {
        match &self.destination {
            Some(destination) => Selection::Destination(destination.clone()),
            None if self.all => Selection::All,
            None => Selection::Ids(self.ids.clone()),
        }
    }
}

/// Runs a queue command.
pub fn run(command: &QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::List(args) => list(args),
        QueueCommand::Show { id, json, data } => {
            let mut queue = Queue::open(data)?;
            match queue.call(&Request::QueueShow { id: id.clone() })? {
                Response::Message(message) if *json => print(&format!("{}\n", to_json(&message)?)),
                Response::Message(message) => print(&show(&message, now())),
                other => Err(unexpected(other)),
            }
        }
        QueueCommand::Retry(which) => order(which, "retried", |which| Request::QueueRetry { which }),
        QueueCommand::Hold { which, reason } => {
            order(which, "held", |which| Request::QueueHold { which, reason: reason.clone() })
        }
        QueueCommand::Release(which) => order(which, "released", |which| Request::QueueRelease { which }),
        QueueCommand::Remove(which) => order(which, "removed", |which| Request::QueueRemove { which }),
    }
}

/// Who answers: a running server, or the directory of a stopped one.
enum Queue {
    Server(AdminClient),
    Directory(Box<Offline>),
}

impl Queue {
    fn open(data: &DataArgs) -> Result<Queue, Failure> {
        let settings = data.load()?.config.settings;
        match AdminClient::connect(&settings.server.data) {
            Ok(Some(client)) => Ok(Queue::Server(client)),
            Ok(None) => Ok(Queue::Directory(Box::new(Offline::open(&settings.server.data, &settings.spool, now())?))),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Response, Failure> {
        match self {
            Queue::Server(client) => client.call(request).map_err(|error| Failure::new(error.to_string())),
            Queue::Directory(offline) => Ok(offline.call(request, now())),
        }
    }
}

fn unexpected(response: Response) -> Failure {
    match response {
        Response::Failed { message, .. } => Failure::new(message),
        other => Failure::new(format!("the server gave an answer to another question: {other:?}")),
    }
}

fn order(args: &WhichArgs, done: &str, request: impl FnOnce(Selection) -> Request) -> Result<(), Failure> {
    let mut queue = Queue::open(&args.data)?;
    match queue.call(&request(args.selection()))? {
        Response::Changed { count, unknown } => {
            let plural = if count == 1 { "" } else { "s" };
            print(&format!("{done} {count} message{plural}\n"))?;
            match unknown.as_slice() {
                [] => Ok(()),
                ids => Err(Failure::new(format!("not in the queue: {}", visible(&ids.join(" "))))),
            }
        }
        other => Err(unexpected(other)),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut queue = Queue::open(&args.data)?;
    let entries = collect(args, |request| queue.call(request))?;
    if args.json {
        let lines = entries.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        return print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }
    print(&listing(&entries, now()))
}

/// All pages, up to the limit.
fn collect(
    args: &ListArgs,
    mut call: impl FnMut(&Request) -> Result<Response, Failure>,
) -> Result<Vec<QueueEntry>, Failure> {
    let state = args.state.map(|word| match word {
        StateWord::Waiting => QueueState::Waiting,
        StateWord::Active => QueueState::Active,
        StateWord::Held => QueueState::Held,
    });
    let filter = QueueFilter {
        destination: args.destination.clone(),
        sender: args.from.clone(),
        recipient: args.to.clone(),
        state,
    };
    let wanted = args.limit.map_or(usize::MAX, |n| n as usize);
    let mut all: Vec<QueueEntry> = Vec::new();
    while all.len() < wanted {
        let limit = PAGE.min(u32::try_from(wanted - all.len()).unwrap_or(u32::MAX));
        let after = all.last().map(|entry| entry.id.clone());
        match call(&Request::QueueList { filter: filter.clone(), after, limit })? {
            Response::Queue { entries, more } => {
                // A server that gives nothing and promises more would be asked for ever.
                let end = !more || entries.is_empty();
                all.extend(entries);
                if end {
                    break;
                }
            }
            other => return Err(unexpected(other)),
        }
    }
    // Pages come by id; each core counts its own.
    all.sort_by_key(|entry| entry.accepted_ms);
    Ok(all)
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(format!("cannot write JSON: {error}")))
}

fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The table of `queue list`.
fn listing(entries: &[QueueEntry], now: WallTime) -> String {
    let head = ["ID", "STATE", "AGE", "NEXT", "TRIES", "SIZE", "FROM", "TO", "REASON"];
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let to = match entry.recipients.as_slice() {
                [] => String::new(),
                [only] => only.address.clone(),
                [first, rest @ ..] => format!("{} +{}", first.address, rest.len()),
            };
            vec![
                entry.id.clone(),
                entry.state.word().to_owned(),
                span(now.since(WallTime::from_millis(entry.accepted_ms))),
                next(entry, now),
                entry.attempts.to_string(),
                size(entry.octets),
                format!("<{}>", entry.sender),
                to,
                entry.reason.clone(),
            ]
        })
        .collect();
    let plural = if entries.len() == 1 { "" } else { "s" };
    if entries.is_empty() {
        return "the queue is empty\n".to_owned();
    }
    format!("{}{} message{plural}\n", table(&head, &rows), entries.len())
}

fn next(entry: &QueueEntry, now: WallTime) -> String {
    match entry.state {
        QueueState::Waiting if entry.next_ms <= now.as_millis() => "now".to_owned(),
        QueueState::Waiting => span(WallTime::from_millis(entry.next_ms).since(now)),
        QueueState::Active | QueueState::Held => "-".to_owned(),
    }
}

/// A time span in its one or two largest units: people compare, they do not calculate.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = match seconds {
        0..60 => 1,
        60..3600 => 60,
        3600..86_400 => 60,
        _ => 3600,
    };
    show_duration(Duration::from_secs(seconds / unit * unit))
}

fn size(octets: u64) -> String {
    match octets {
        0..10_240 => octets.to_string(),
        10_240..10_485_760 => format!("{}K", octets >> 10),
        _ => format!("{}M", octets >> 20),
    }
}

/// The text of `queue show`.
fn show(message: &QueueMessage, now: WallTime) -> String {
    let QueueMessage { entry, headers, expires_ms, envid } = message;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9} {}", visible(value));
    };
    let at = |ms: u64| WallTime::from_millis(ms).to_string();
    line("id", &entry.id);
    line("state", entry.state.word());
    line("accepted", &at(entry.accepted_ms));
    line("next", &format!("{} ({})", at(entry.next_ms), next(entry, now)));
    line("expires", &at(*expires_ms));
    line("tries", &entry.attempts.to_string());
    line("size", &format!("{} octets", entry.octets));
    line("from", &format!("<{}>", entry.sender));
    if let Some(envid) = envid {
        line("envid", envid);
    }
    if !entry.reason.is_empty() {
        line("reason", &entry.reason);
    }
    for recipient in &entry.recipients {
        let last = if recipient.last.is_empty() { String::new() } else { format!(": {}", recipient.last) };
        line("to", &format!("<{}> by {}{last}", recipient.address, recipient.destination));
    }
    text.push('\n');
    for header in headers.lines() {
        text.push_str(&visible(&header.replace('\t', "    ")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
