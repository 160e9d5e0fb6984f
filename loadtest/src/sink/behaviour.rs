//! How a sink behaves: what it offers, how long it takes, what it refuses, where it misbehaves.
//!
//! How it fails: texts of the command line that cannot be meant are refused with what was expected.

use super::auth::Accounts;
use super::greylist::Greylist;
use crate::chance;
use fastrand::Rng;
use gatepost::base::knob::parse_duration;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// No delay is longer, whatever is drawn.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// How the sink behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Whether BDAT is taken.
    pub chunking: bool,
    /// How long the reply to a message takes.
    pub delay: Delay,
    /// Share of recipients refused with 550, 0 to 1.
    pub reject_rcpt: f64,
    /// Share of recipients put off with 450, 0 to 1.
    pub defer: f64,
    /// Share of messages answered by dropping the connection, 0 to 1.
    pub disconnect: f64,
    /// What else goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Sessions that get every reply late.
    pub tarpit: Option<Tarpit>,
    /// Recipients are put off at first.
    pub greylist: Option<Arc<Greylist>>,
    /// TLS, with a certificate made at the start.
    pub tls: TlsOffer,
    /// Who may log in.
    pub accounts: Option<Arc<Accounts>>,
    /// Whether messages are read for the ledger.
    pub ledger: bool,
    /// For everything that is drawn.
    pub seed: u64,
    /// The greeting, as it is on the wire.
    pub greeting: String,
    /// The reply to EHLO and LHLO, as it is on the wire.
    pub extensions: String,
    /// The same under TLS.
    pub extensions_secured: String,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour::offering(&Offers::default())
    }
}

/// What the sink offers in its reply to EHLO.
#[derive(Clone, Debug)]
pub struct Offers {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SIZE (RFC 1870) with this limit; 0 is "no limit".
    pub size_octets: Option<u64>,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// STARTTLS (RFC 3207), or TLS from the first octet.
    pub tls: TlsOffer,
    /// AUTH (RFC 4954) for these.
    pub accounts: Option<Arc<Accounts>>,
}

/// Whether a sink speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsOffer {
    /// It does not.
    #[default]
    None,
    /// When asked with STARTTLS.
    StartTls,
    /// From the first octet.
    Implicit,
}

impl Default for Offers {
    fn default() -> Self {
        Offers {
            pipelining: true,
            chunking: true,
            size_octets: Some(0),
            lmtp: false,
            tls: TlsOffer::None,
            accounts: None,
        }
    }
}

impl Behaviour {
    /// A friendly sink with these offers.
    pub fn offering(offers: &Offers) -> Behaviour {
        let extensions = |secured: bool| {
            let mut lines = vec!["sink".to_owned()];
            lines.extend(offers.pipelining.then(|| "PIPELINING".to_owned()));
            lines.extend(offers.chunking.then(|| "CHUNKING".to_owned()));
            lines.extend(offers.size_octets.map(|n| if n == 0 { "SIZE".to_owned() } else { format!("SIZE {n}") }));
            // RFC 3207 §4.2: not under TLS.
            lines.extend((offers.tls == TlsOffer::StartTls && !secured).then(|| "STARTTLS".to_owned()));
            lines.extend(offers.accounts.as_ref().map(|accounts| format!("AUTH {}", accounts.mechanisms().join(" "))));
            lines.extend(["8BITMIME", "SMTPUTF8", "DSN"].map(str::to_owned));
            let mut text: String = lines.iter().map(|l| format!("250-{l}\r\n")).collect();
            text.push_str("250 ENHANCEDSTATUSCODES\r\n");
            text
        };
        Behaviour {
            lmtp: offers.lmtp,
            chunking: offers.chunking,
            delay: Delay::default(),
            reject_rcpt: 0.0,
            defer: 0.0,
            disconnect: 0.0,
            faults: Vec::new(),
            tarpit: None,
            greylist: None,
            tls: offers.tls,
            accounts: offers.accounts.clone(),
            ledger: false,
            seed: 1,
            greeting: format!("220 sink {}\r\n", if offers.lmtp { "LMTP" } else { "ESMTP" }),
            extensions: extensions(false),
            extensions_secured: extensions(true),
        }
    }

    /// What goes wrong at a stage this time. One throw of the dice for all, so that shares are of everything.
    pub(super) fn strike(&self, stage: Stage, rng: &mut Rng) -> Option<Action> {
        let shorthand = match stage {
            Stage::Rcpt => [(self.reject_rcpt, Action::Reply(550)), (self.defer, Action::Reply(450))],
            Stage::Body => [(self.disconnect, Action::Drop), (0.0, Action::Drop)],
            _ => [(0.0, Action::Drop); 2],
        };
        let others = self.faults.iter().filter(|f| f.stage == stage).map(|f| (f.share, f.action));
        let mut all = shorthand.into_iter().chain(others).filter(|(share, _)| *share > 0.0).peekable();
        all.peek()?;
        let mut dice = rng.f64();
        all.find_map(|(share, action)| {
            dice -= share;
            (dice < 0.0).then_some(action)
        })
    }
}

/// A delay that is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always this.
    Constant(Duration),
    /// With this mean.
    Exponential(Duration),
    /// With this median, and the deviation of the logarithm.
    Lognormal(Duration, f64),
}

impl Default for Delay {
    fn default() -> Self {
        Delay::Constant(Duration::ZERO)
    }
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Delay {
        Delay::Constant(delay)
    }
}

impl Delay {
    /// A delay.
    pub fn draw(&self, rng: &mut Rng) -> Duration {
        let seconds = match *self {
            Delay::Constant(d) => return d,
            Delay::Exponential(mean) => mean.as_secs_f64() * chance::exponential(rng),
            Delay::Lognormal(median, sigma) => chance::lognormal(rng, median.as_secs_f64(), sigma),
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(DELAY_MAX).min(DELAY_MAX)
    }
}

impl FromStr for Delay {
    type Err = String;
    /// Reads `20ms`, `exp:20ms`, `lognormal:20ms,0.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected \"20ms\", \"exp:20ms\" or \"lognormal:20ms,0.5\", found {text:?}");
        let time = |t: &str| parse_duration(t).filter(|d| *d <= DELAY_MAX).ok_or_else(wrong);
        match text.split_once(':') {
            None => time(text).map(Delay::Constant),
            Some(("exp", mean)) => time(mean).map(Delay::Exponential),
            Some(("lognormal", shape)) => {
                let (median, sigma) = shape.split_once(',').ok_or_else(wrong)?;
                let sigma = sigma.parse().ok().filter(|s| (0.0..=5.0).contains(s)).ok_or_else(wrong)?;
                Ok(Delay::Lognormal(time(median)?, sigma))
            }
            Some(_) => Err(wrong()),
        }
    }
}

/// Sessions that get every reply late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tarpit {
    /// How late.
    pub pause: Duration,
    /// Share of the sessions.
    pub share: f64,
}

impl FromStr for Tarpit {
    type Err = String;
    /// Reads `2s` or `2s:0.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pause, share) = text.split_once(':').unwrap_or((text, "1"));
        let pause = parse_duration(pause).filter(|d| *d <= DELAY_MAX);
        let share = share.parse().ok().filter(|s| (0.0..=1.0).contains(s));
        match (pause, share) {
            (Some(pause), Some(share)) => Ok(Tarpit { pause, share }),
            _ => Err(format!("expected a pause and a share such as \"2s:0.1\", found {text:?}")),
        }
    }
}

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The greeting.
    Connect,
    /// EHLO, HELO, LHLO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The end of a message.
    Body,
}

const STAGES: [(&str, Stage); 8] = [
    ("connect", Stage::Connect),
    ("ehlo", Stage::Ehlo),
    ("starttls", Stage::StartTls),
    ("auth", Stage::Auth),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("data", Stage::Data),
    ("body", Stage::Body),
];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A reply, 400 to 599; 421 closes.
    Reply(u16),
    /// The connection is dropped.
    Drop,
    /// The sink neither answers nor reads on.
    Stall,
    /// A message is answered with 250, and left out of the ledger.
    Lose,
    /// It is written down twice.
    Double,
    /// It is written down with another checksum.
    Spoil,
}

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// Where.
    pub stage: Stage,
    /// What.
    pub action: Action,
    /// How often, 0 to 1.
    pub share: f64,
}

impl FromStr for Fault {
    type Err = String;
    /// Reads `rcpt:550:0.1`, `data:drop:0.01`, `body:stall` (always).
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let stage =
            parts.next().and_then(|word| STAGES.iter().find(|(name, _)| *name == word)).map(|(_, stage)| *stage);
        let action = parts.next().and_then(|word| match word {
            "drop" => Some(Action::Drop),
            "stall" => Some(Action::Stall),
            "lose" if stage == Some(Stage::Body) => Some(Action::Lose),
            "double" if stage == Some(Stage::Body) => Some(Action::Double),
            "spoil" if stage == Some(Stage::Body) => Some(Action::Spoil),
            code => code.parse().ok().filter(|c| (400..=599).contains(c)).map(Action::Reply),
        });
        let share = parts.next().unwrap_or("1").parse().ok().filter(|s| (0.0..=1.0).contains(s));
        match (stage, action, share, parts.next()) {
            (Some(stage), Some(action), Some(share), None) => Ok(Fault { stage, action, share }),
            _ => Err(format!(
                "expected STAGE:ACTION:SHARE such as \"rcpt:550:0.1\" (stages {}; actions a code from 400 to 599, drop, stall, of a body also lose, double, spoil), found {text:?}",
                STAGES.map(|(name, _)| name).join(", ")
            )),
        }
    }
}

/// What a fault is counted as.
pub(super) fn name_of(stage: Stage, action: Action) -> String {
    let stage = STAGES.iter().find(|(_, s)| *s == stage).map_or("", |(name, _)| name);
    match action {
        Action::Reply(code) => format!("{stage}:{code}"),
        Action::Drop => format!("{stage}:drop"),
        Action::Stall => format!("{stage}:stall"),
        Action::Lose => format!("{stage}:lose"),
        Action::Double => format!("{stage}:double"),
        Action::Spoil => format!("{stage}:spoil"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_as_the_text_says() {
        let mut rng = Rng::with_seed(3);
        let mut median = |text: &str| {
            let delay: Delay = text.parse().unwrap();
            let mut drawn: Vec<f64> = (0..40_001).map(|_| delay.draw(&mut rng).as_secs_f64() * 1000.0).collect();
            drawn.sort_by(f64::total_cmp);
            drawn[20_000]
        };
        assert_eq!(median("20ms"), 20.0);
        assert!((median("exp:20ms") - 20.0 * 2f64.ln()).abs() < 0.3);
        assert!((median("lognormal:20ms,0.5") - 20.0).abs() < 0.3);
        for bad in ["", "20", "exp:", "lognormal:20ms", "lognormal:20ms,-1", "2h:3"] {
            assert!(bad.parse::<Delay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_strike_as_often_as_they_say() {
        let faults = ["rcpt:451:0.2", "rcpt:drop:0.1", "mail:stall"].map(|f| f.parse().unwrap()).to_vec();
        let b = Behaviour { reject_rcpt: 0.3, faults, ..Behaviour::default() };
        let mut rng = Rng::with_seed(5);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..10_000 {
            *seen.entry(b.strike(Stage::Rcpt, &mut rng).map(|a| name_of(Stage::Rcpt, a))).or_insert(0i32) += 1;
        }
        for (what, n) in [(Some("rcpt:550"), 3000), (Some("rcpt:451"), 2000), (Some("rcpt:drop"), 1000), (None, 4000)] {
            let found = seen[&what.map(str::to_owned)];
            assert!((found - n).abs() < 250, "{what:?}: {found} for {n}");
        }
        assert_eq!(b.strike(Stage::Mail, &mut rng), Some(Action::Stall));
        assert_eq!(b.strike(Stage::Body, &mut rng), None);
        for bad in ["rcpt", "rcpt:lose", "rcpt:250:1", "helo:550:1", "rcpt:550:2", "rcpt:550:1:1"] {
            assert!(bad.parse::<Fault>().unwrap_err().contains("expected STAGE"), "{bad}");
        }
        assert_eq!("2s:0.5".parse(), Ok(Tarpit { pause: Duration::from_secs(2), share: 0.5 }));
        assert!("2s:x".parse::<Tarpit>().is_err());
    }
}
