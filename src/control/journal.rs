//! `gatepost journal …`: look into journals, make one from another server's log, print the schema of a line.
//!
//! How it fails: a file that cannot be read is named with the system's reason; lines that cannot be read are counted and
//! the first of them is shown.

mod import;
mod postfix;
mod reading;
mod sendmail;
mod show;
mod syslog;

use crate::control::cli::{Failure, ServeArgs, print};
use crate::gateway;
use crate::policy::journal::schema;
use clap::{Args, Subcommand, ValueEnum};
pub use reading::{Journals, Progress};
use show::ShowArgs;
use std::path::PathBuf;
pub use syslog::rfc3339;

/// What to do with journals.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "flattened arguments are documented where they are declared")]
pub enum JournalCommand {
    /// Print lines, as they are: all, or by session, client, sender, recipient, verdict, rule and time
    Show(Box<ShowArgs>),
    /// Make a journal from the syslog of Postfix or Sendmail, to replay it before Gatepost is installed
    Import {
        /// Log files, oldest first; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose log it is
        #[arg(long, value_enum, default_value = "postfix")]
        format: Format,
        /// Where the journal goes, such as past.jsonl or past.jsonl.zst [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Year of the first line, where lines do not have it [default: that of the file's last change]
        #[arg(long, value_name = "YEAR")]
        year: Option<u16>,
        /// Hours that the log's clock is ahead of UTC, where lines do not say it
        #[arg(long, value_name = "HOURS", default_value = "0", allow_hyphen_values = true)]
        utc_offset: i8,
    },
    /// Print the JSON Schema of a line
    Schema,
}

/// Whose log is imported.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Postfix
    Postfix,
    /// Sendmail
    Sendmail,
}

/// Which journals.
#[derive(Clone, Debug, Default, Args)]
pub struct SourceArgs {
    /// Journal: a file (.jsonl, .jsonl.zst) or a directory; may be repeated [default: that of the configuration]
    #[arg(long, value_name = "PATH")]
    pub journal: Vec<PathBuf>,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl SourceArgs {
    /// Finds the files.
    pub fn open(&self) -> Result<Journals, Failure> {
        if !self.journal.is_empty() {
            return Journals::find(&self.journal);
        }
        let config = ServeArgs::for_policy(self.config.clone(), None, Vec::new()).load()?.config;
        let dir = gateway::journal::directory(&config);
        if !dir.is_dir() {
            return Err(Failure::new(format!(
                "there is no journal in {}; switch it on with [journal] enabled = true, or name one with --journal",
                dir.display()
            )));
        }
        Journals::find(&[dir])
    }
}

/// Runs a journal command.
pub fn run(command: JournalCommand) -> Result<(), Failure> {
    match command {
        JournalCommand::Show(args) => show::run(&args),
        JournalCommand::Import { files, format, output, year, utc_offset } => {
            import::run(&files, format, output.as_deref(), &syslog::Clock { year, utc_offset_hours: utc_offset })
        }
        JournalCommand::Schema => print(&schema()),
    }
}
