//! The command line of `send`, as values.
//!
//! How it fails: what cannot be meant is refused with the flag and what was expected; the target must be loopback or named
//! with `--i-own`.

use super::session::{Transfer, Work};
use super::{Arrivals, Curve, Logins, Mechanism, Options, Pace, Spacing, Users};
use crate::cli::{duration, on_off, part};
use crate::corpus::Corpus;
use crate::message::Content;
use crate::size::Sizes;
use crate::target::{self, Sources};
use clap::Args;
use gatepost::reactor::Io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Users of a password file at most.
const USERS_MAX: usize = 1_000_000;

/// `send`
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// HOST:PORT; loopback, unless the host is named with --i-own.
    pub target: String,
    /// A host that is not loopback and may be loaded.
    #[arg(long)]
    pub i_own: Vec<String>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub cores: usize,
    /// Driver: auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    pub io: Io,
    /// Speak LMTP instead of SMTP.
    #[arg(long)]
    pub lmtp: bool,
    /// Connections at most; a closed loop keeps all of them busy.
    #[arg(long, short = 'c')]
    pub connections: Option<usize>,
    /// Messages per second on average, whatever the server does (open loop).
    #[arg(long, conflicts_with = "hold", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// In an open loop: messages follow each other evenly (constant) or as independent senders send them (poisson).
    #[arg(long, default_value = "constant")]
    pub arrivals: Spacing,
    /// A rate that changes: `daily` (a working day within --seconds) or a file, TOML with `points = [[seconds, rate], …]`
    /// and `[[burst]]` (at, seconds, add), or CSV with lines of `seconds,rate`; with --rate it is scaled to that mean.
    #[arg(long, conflicts_with = "hold")]
    pub curve: Option<String>,
    /// New connections per second at most; a server with a short queue for them loses those it has no place for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub connect_rate: Option<u32>,
    /// Open the connections and hold them idle for this long.
    #[arg(long, value_parser = duration)]
    pub hold: Option<Duration>,
    /// Messages in all.
    #[arg(long, short = 'm')]
    pub messages: Option<u64>,
    /// Seconds in all.
    #[arg(long, short = 's')]
    pub seconds: Option<f64>,
    /// Octets of a message: `10KiB`, `uniform:1KiB-100KiB`, `lognormal:MEDIAN,SIGMA`, or `file:PATH` with lines of size and
    /// weight.
    #[arg(long, default_value = "10KiB")]
    pub size: Sizes,
    /// Send real messages, drawn from a file, a folder, a Maildir or an mbox.
    #[arg(long, conflicts_with = "size")]
    pub corpus: Option<PathBuf>,
    /// Messages after which a connection is closed: 1 is a connection per message, 0 keeps it.
    #[arg(long, default_value_t = 0)]
    pub messages_per_connection: u64,
    /// Use PIPELINING when it is offered (on), or one command per round trip as smtp-source does (off).
    #[arg(long, default_value = "on", value_parser = on_off, action = clap::ArgAction::Set)]
    pub pipeline: bool,
    /// Use BDAT when CHUNKING is offered.
    #[arg(long)]
    pub bdat: bool,
    /// Recipients of a message.
    #[arg(long, default_value_t = 1)]
    pub recipients: usize,
    /// First recipient; further ones get a number behind the local part.
    #[arg(long, default_value = "user@example.test")]
    pub to: String,
    /// Recipients there are to choose from; 1: always the first few.
    #[arg(long, default_value_t = 1)]
    pub mailboxes: u64,
    /// Domain of recipients instead of that of --to; several take turns.
    #[arg(long)]
    pub domain: Vec<String>,
    /// Sender; empty is the null path. Further ones get a number behind the local part.
    #[arg(long, default_value = "load@load.example.test")]
    pub from: String,
    /// Senders there are to choose from.
    #[arg(long, default_value_t = 1)]
    pub senders: u64,
    /// How unevenly senders and mailboxes are chosen: Zipf's exponent; 0 is evenly, 1 is as in life.
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
    /// TLS from the first octet.
    #[arg(long, conflicts_with = "starttls")]
    pub tls: bool,
    /// Share of connections that use STARTTLS, from 0 to 1. Certificates are not verified.
    #[arg(long, default_value = "0", default_missing_value = "1", num_args = 0..=1, value_parser = part)]
    pub starttls: f64,
    /// Name the server is asked for in TLS (SNI).
    #[arg(long)]
    pub tls_name: Option<String>,
    /// Resume TLS sessions (on), or do a whole handshake for every connection (off).
    #[arg(long, default_value = "off", value_parser = on_off, action = clap::ArgAction::Set)]
    pub resume: bool,
    /// Share of connections that log in, from 0 to 1.
    #[arg(long, default_missing_value = "1", num_args = 0..=1, value_parser = part, requires = "password_file")]
    pub auth: Option<f64>,
    /// Mechanism: best (the strongest that is offered), plain, login, scram-sha-256, …
    #[arg(long, default_value = "best")]
    pub auth_mechanism: Mechanism,
    /// Who logs in; `{}` is a number from 0. Without it, the password file has lines of `user:password`.
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// How many there are of --user.
    #[arg(long, default_value_t = 1)]
    pub users: u64,
    /// File with the password (with --user), or with lines of `user:password`.
    #[arg(long)]
    pub password_file: Option<PathBuf>,
    /// Share of logins with a wrong password, from 0 to 1.
    #[arg(long, default_value = "0", value_parser = part)]
    pub wrong_password: f64,
    /// Addresses that connections come from, in turn: a network inside 127.0.0.0/8.
    #[arg(long)]
    pub sources: Option<Sources>,
    /// Longest silence of the server.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
    /// How often a message that is put off (4xx) is tried again.
    #[arg(long, default_value_t = 0)]
    pub retries: u32,
    /// After what pause.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub retry_pause: Duration,
    /// For everything that is drawn: the same seed makes the same messages to the same recipients.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write down the outcome of every message.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Expect the recipient to be refused, then QUIT; one session each.
    #[arg(long, conflicts_with = "hold")]
    pub reject_test: bool,
    /// Log in, then QUIT; one session each, timed as messages are.
    #[arg(long, conflicts_with_all = ["hold", "reject_test"], requires = "auth")]
    pub login_test: bool,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Say what goes on as a line of JSON each second on standard error, for a program that started this one.
    #[arg(long)]
    pub progress: bool,
    /// Write a `.hgrm` file for the latency and for each step into this folder.
    #[arg(long)]
    pub hgrm: Option<PathBuf>,
}

impl SendArgs {
    /// What they ask for.
    pub fn options(&self) -> Result<Options, String> {
        let target = target::resolve(&self.target, &self.i_own)?;
        let seconds =
            self.seconds.map(|s| Duration::try_from_secs_f64(s).map_err(|e| format!("--seconds: {e}"))).transpose()?;
        let curve = self.curve(seconds)?;
        let pace = self.pace(curve.as_ref())?;
        let duration = self.hold.or(seconds).or(curve.as_ref().map(Curve::duration));
        if self.messages.is_none() && duration.is_none() {
            return Err("expected --messages, --seconds, --curve or --hold to say when to end".into());
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(format!("--zipf: expected an exponent from 0 to 10, found {}", self.zipf));
        }
        if self.mailboxes > 1 && self.recipients as u64 > self.mailboxes {
            return Err(format!("--recipients: expected at most the number of --mailboxes, {}", self.mailboxes));
        }
        if !self.domain.is_empty() && self.mailboxes <= 1 && self.recipients <= 1 && self.domain.len() > 1 {
            return Err("--domain: several domains need --mailboxes, to say how many recipients there are".into());
        }
        Ok(Options {
            cores: self.cores.max(1),
            io: self.io,
            lmtp: self.lmtp,
            pace,
            arrivals: Arrivals { spacing: self.arrivals, curve: curve.map(Arc::new), seed: self.seed },
            // An open loop needs room for what waits; a closed loop is as wide as it is told.
            connections: self.connections.unwrap_or(if matches!(pace, Pace::Open(_)) { 1000 } else { 1 }),
            connect_rate: self.connect_rate,
            messages: self.messages,
            duration,
            content: self.content()?,
            messages_per_connection: self.messages_per_connection,
            pipeline: self.pipeline,
            transfer: if self.bdat { Transfer::Bdat } else { Transfer::Data },
            work: match (self.reject_test, self.login_test) {
                (true, _) => Work::Reject,
                (_, true) => Work::Login,
                _ => Work::Mail,
            },
            recipients: self.recipients,
            to: self.to.clone(),
            from: self.from.clone(),
            mailboxes: self.mailboxes,
            senders: self.senders,
            zipf: self.zipf,
            domains: self.domain.clone(),
            implicit_tls: self.tls,
            starttls: self.starttls,
            tls_name: self.tls_name.clone(),
            resumption: self.resume,
            logins: self.logins()?.map(Arc::new),
            retries: self.retries,
            retry_pause: self.retry_pause,
            sources: self.sources.clone(),
            timeout: self.timeout,
            seed: self.seed,
            ledger: self.ledger.clone(),
            hgrm: self.hgrm.clone(),
            ..Options::to(target)
        })
    }

    fn curve(&self, seconds: Option<Duration>) -> Result<Option<Curve>, String> {
        match (self.curve.as_deref(), seconds) {
            (None, _) => Ok(None),
            (Some("daily"), Some(s)) if self.rate.is_some() && !s.is_zero() => Ok(Some(Curve::day(s.as_secs_f64()))),
            (Some("daily"), _) => Err("--curve daily: expected --rate (its mean) and --seconds (its length)".into()),
            (Some(path), _) => Curve::from_file(Path::new(path)).map(Some),
        }
    }

    fn pace(&self, curve: Option<&Curve>) -> Result<Pace, String> {
        match (self.rate.or(curve.map(Curve::mean)), self.hold) {
            (Some(rate), _) if rate > 0.0 && rate.is_finite() => Ok(Pace::Open(rate)),
            (Some(rate), _) => Err(format!("--rate: expected more than 0 messages per second, found {rate}")),
            (None, Some(_)) => Ok(Pace::Hold),
            (None, None) => Ok(Pace::Closed),
        }
    }

    fn content(&self) -> Result<Content, String> {
        let Some(path) = &self.corpus else { return Ok(Content::Made(self.size.clone())) };
        let (corpus, left_out) = Corpus::load(path)?;
        if left_out > 0 {
            eprintln!("{}: {left_out} messages with NUL or lines over 998 octets are left out", path.display());
        }
        Ok(Content::Corpus(Arc::new(corpus)))
    }

    fn logins(&self) -> Result<Option<Logins>, String> {
        let (Some(share), Some(path)) = (self.auth, &self.password_file) else { return Ok(None) };
        if self.login_test && share < 1.0 {
            return Err("--login-test: every connection logs in; expected --auth 1".into());
        }
        let users = match &self.user {
            Some(pattern) if self.users > 1 && !pattern.contains("{}") => {
                return Err(format!(
                    "--user: expected {{}} for the number in {pattern:?}, since there are {}",
                    self.users
                ));
            }
            Some(pattern) => {
                let password = read(path)?.lines().next().unwrap_or_default().to_owned();
                Users::Numbered { pattern: pattern.clone(), count: self.users.max(1), password }
            }
            None => Users::Listed(Arc::new(users_in(path)?)),
        };
        Ok(Some(Logins { mechanism: self.auth_mechanism, share, users, wrong: self.wrong_password }))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("password file {}: {e}", path.display()))
}

/// Lines of `user:password`; empty ones and those that begin with `#` are passed over.
pub(crate) fn users_in(path: &Path) -> Result<Vec<(String, String)>, String> {
    let mut users = Vec::new();
    for (number, line) in read(path)?.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line is not shown: it may be a password.
        let (user, password) =
            line.split_once(':').filter(|(u, p)| !u.is_empty() && !p.is_empty()).ok_or_else(|| {
                format!("password file {}: line {}: expected \"user:password\"", path.display(), number + 1)
            })?;
        users.push((user.to_owned(), password.to_owned()));
    }
    if users.is_empty() || users.len() > USERS_MAX {
        return Err(format!("password file {}: expected 1 to {USERS_MAX} lines of \"user:password\"", path.display()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        send: SendArgs,
    }

    fn options(line: &str) -> Result<Options, String> {
        let words = std::iter::once("send").chain(line.split_whitespace());
        Line::try_parse_from(words).map_err(|e| e.to_string())?.send.options()
    }

    #[test]
    fn flags_become_options() {
        let o =
            options("127.0.0.1:25 --rate 100 -s 10 --arrivals poisson --curve daily --starttls 0.5 --size uniform:1-9")
                .unwrap();
        assert_eq!((o.pace, o.connections, o.starttls, o.resumption), (Pace::Open(100.0), 1000, 0.5, false));
        assert!(o.arrivals.curve.is_some() && o.arrivals.spacing == Spacing::Poisson);
        assert_eq!(options("127.0.0.1:25 -m 1 --starttls").unwrap().starttls, 1.0);
        assert_eq!(options("127.0.0.1:25 --hold 5s -c 7 --tls").unwrap().pace, Pace::Hold);
    }

    #[test]
    fn users_come_from_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let file = path.display();
        std::fs::write(&path, "secret\n").unwrap();
        let o = options(&format!("127.0.0.1:25 -m 1 --auth --user u{{}} --users 5 --password-file {file}")).unwrap();
        let users = o.logins.unwrap().users.clone();
        assert!(matches!(&users, Users::Numbered { count: 5, password, .. } if password == "secret"));
        assert_eq!(format!("{users:?}"), "5 users \"u{}\"", "no password in a debug line");
        std::fs::write(&path, "# people\nann:a:b\n\nbob:c\n").unwrap();
        let o = options(&format!("127.0.0.1:25 -m 1 --auth 0.5 --password-file {file}")).unwrap();
        let users = o.logins.unwrap().users.clone();
        assert!(matches!(&users, Users::Listed(l) if l[0] == ("ann".into(), "a:b".into()) && l.len() == 2));
        std::fs::write(&path, "ann:a\nsecret\n").unwrap();
        let said = options(&format!("127.0.0.1:25 -m 1 --auth 0.5 --password-file {file}")).unwrap_err();
        assert!(said.contains("line 2: expected") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (line, wanted) in [
            ("192.0.2.1:25 -m 1", "--i-own 192.0.2.1"),
            ("127.0.0.1:25", "expected --messages"),
            ("127.0.0.1:25 --curve daily -s 5", "expected --rate"),
            ("127.0.0.1:25 -m 1 --tls --starttls 1", "cannot be used with"),
            ("127.0.0.1:25 -m 1 --auth 1", "--password-file"),
            ("127.0.0.1:25 -m 1 --mailboxes 3 --recipients 5", "at most the number of --mailboxes"),
            ("127.0.0.1:25 -m 1 --zipf 99", "--zipf"),
            ("127.0.0.1:25 -m 1 --corpus /nonexistent", "/nonexistent"),
            ("127.0.0.1:25 -m 1 --auth 1 --user u --users 3 --password-file /dev/null", "expected {} for the number"),
        ] {
            let said = options(line).unwrap_err();
            assert!(said.contains(wanted), "{line}: {said}");
        }
    }
}
