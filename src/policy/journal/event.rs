//! What a line of the journal holds, as values: who came ([`Head`]), what happened ([`Event`]) and what was decided
//! ([`Said`]).
//!
//! Texts are as the rules saw them (domains in lower case, addresses without brackets), so that a replay sets them without
//! reading them again. How it fails: it does not.

use crate::base::body::BodyShape;
use crate::base::envelope::BodyType;
use crate::policy::state::Load;
use crate::policy::value::Given;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

/// Text of a line.
pub type Text<'a> = Cow<'a, str>;

/// The beginning of a line: the session and what was known of the client before it said anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// One run of one process: counts of limits, `start_ns` and `seq` belong to it.
    pub run: Text<'a>,
    /// Which session.
    pub session: Text<'a>,
    /// Which part of it, from 0; a long session is written in parts.
    pub part: u64,
    /// When the client connected, milliseconds since 1970.
    pub at_ms: u64,
    /// The same on the clock of the run, nanoseconds.
    pub start_ns: u64,
    /// Number of the part's beginning among everything that happened in the run.
    pub seq: u64,
    /// Version of the policy that decided; empty when none did.
    pub policy: Text<'a>,
    /// How often the policy had been loaded anew in the run.
    pub loads: u64,
    /// The listener as the policy calls it.
    pub listener: Text<'a>,
    /// Address of the client.
    pub client: IpAddr,
    /// Its port.
    pub port: u16,
    /// TLS, when it was up from the start.
    pub tls: Option<Tls<'a>>,
    /// Whether local parts and user names are digests.
    pub hashed: bool,
    /// Facts that the source of the line could not tell.
    pub missing: Vec<Text<'a>>,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Head {
            run: Cow::Borrowed(""),
            session: Cow::Borrowed(""),
            part: 0,
            at_ms: 0,
            start_ns: 0,
            seq: 0,
            policy: Cow::Borrowed(""),
            loads: 0,
            listener: Cow::Borrowed("mx"),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
            tls: None,
            hashed: false,
            missing: Vec::new(),
        }
    }
}

/// What is known of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls<'a> {
    /// `TLSv1.3`
    pub version: Text<'a>,
    /// Cipher suite.
    pub cipher: Text<'a>,
    /// Name in the client's verified certificate, or empty.
    pub client_name: Text<'a>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Nanoseconds since the session's start.
    pub after_ns: u64,
    /// Its number, counted from the number of the part's head.
    pub seq: u64,
    /// What it was.
    pub what: What<'a>,
    /// What the policy said to it; `None` where it is not asked, or when it let it pass by the stage's default.
    pub said: Option<Said<'a>>,
}

/// What happened. The word in the line is the name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A lookup told a fact.
    Fact {
        /// Its name.
        name: Text<'a>,
        /// Its value; `None` when the lookup failed.
        value: Option<Told<'a>>,
    },
    /// The client connected.
    Connect {
        /// It spoke before the greeting.
        early_talker: bool,
        /// How busy the server was.
        load: Load,
    },
    /// HELO, EHLO or LHLO.
    Helo {
        /// Its argument.
        name: Text<'a>,
        /// Not HELO.
        extended: bool,
    },
    /// STARTTLS has ended well.
    Tls(Tls<'a>),
    /// An authentication exchange ended: with this user, or badly.
    Auth {
        /// Who.
        user: Option<Text<'a>>,
    },
    /// MAIL FROM.
    Mail {
        /// Empty for the null path.
        sender: Text<'a>,
        /// SIZE=
        size: Option<u64>,
        /// BODY=
        body: BodyType,
        /// SMTPUTF8
        smtputf8: bool,
        /// How busy the server was.
        load: Load,
    },
    /// The policy was asked whether it would refuse the recipient whatever is known of it.
    Probe {
        /// The recipient.
        to: Text<'a>,
    },
    /// RCPT TO.
    Rcpt {
        /// The recipient.
        to: Text<'a>,
        /// What was known of it.
        exists: Option<bool>,
    },
    /// The backend refused the recipient before.
    Refused,
    /// The header section came.
    Data(Headers<'a>),
    /// The whole message came. Of its shape only what rules can ask for is written.
    Message(BodyShape),
    /// VRFY or EXPN.
    Vrfy {
        /// Its argument.
        argument: Text<'a>,
    },
    /// The transaction was given up or is over.
    Reset,
    /// The shadow policy decided otherwise; told behind what it is about.
    Shadow {
        /// The stage.
        stage: Text<'a>,
        /// How the decision differs.
        change: Text<'a>,
        /// What it says.
        now: Text<'a>,
    },
    /// What became of the message.
    Settled {
        /// `queued`, `delivered`, `discarded`, `refused` …
        how: Text<'a>,
        /// The reply, where there is one.
        reply: Text<'a>,
    },
}

/// The value of a fact that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// true or false
    Flag(bool),
    /// A number.
    Number(i64),
    /// A number with decimals, in thousandths.
    Score(i64),
    /// Text.
    Text(Text<'a>),
    /// An address.
    Ip(IpAddr),
}

impl Told<'_> {
    /// As the policy takes it.
    pub fn given(&self) -> Given {
        match self {
            Told::Flag(b) => Given::Flag(*b),
            Told::Number(n) => Given::Number(*n),
            Told::Score(n) => Given::Score(*n),
            Told::Text(t) => Given::Text(t.to_string()),
            Told::Ip(ip) => Given::Ip(*ip),
        }
    }
    /// From what the policy was told; `None` is a lookup that failed.
    pub fn of(given: &Given) -> Option<Told<'_>> {
        Some(match given {
            Given::Unknown => return None,
            Given::Flag(b) => Told::Flag(*b),
            Given::Number(n) => Told::Number(*n),
            Given::Score(n) => Told::Score(*n),
            Given::Text(t) => Told::Text(Cow::Borrowed(t)),
            Given::Ip(ip) => Told::Ip(*ip),
        })
    }
}

/// What is kept of a header section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Its size.
    pub octets: u64,
    /// `Received:` fields in it.
    pub received: u64,
    /// Name in lower case of every field in order, and the text of the first of a name where it was kept.
    pub fields: Vec<(Text<'a>, Option<Text<'a>>)>,
    /// There were more fields.
    pub cut: bool,
}

/// A decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// `accept`, `reject`, `defer`, `drop`, `discard`.
    pub verdict: Text<'a>,
    /// The rule, or `default`.
    pub rule: Text<'a>,
    /// Reply of a refusal, as text; else empty.
    pub reply: Text<'a>,
    /// Why, where there was more to say.
    pub reason: Text<'a>,
    /// How long the client had to wait for the reply.
    pub delay_ms: u64,
    /// The route that a rule named, or empty.
    pub route: Text<'a>,
    /// Why it was kept aside, or empty.
    pub quarantine: Text<'a>,
    /// Header fields that rules put on top of the message, one a line.
    pub tags: Text<'a>,
    /// The score after it, in thousandths, where it added to it or hangs on it.
    pub points: i64,
    /// Points that rules added, one rule a line.
    pub added: Text<'a>,
    /// What rules that only observe would have done, one a line.
    pub would: Text<'a>,
    /// A guard that made its rule observe, or act again.
    pub guard: Text<'a>,
    /// What was remembered from before the run and had a part in it, one entry a line.
    pub prior: Text<'a>,
}

impl<'a> Said<'a> {
    /// What is not written: it passed, no rule spoke.
    pub fn passed_by_default() -> Said<'a> {
        Said { verdict: "accept".into(), rule: "default".into(), ..Said::default() }
    }
    /// Whether it passed.
    pub fn passes(&self) -> bool {
        matches!(&*self.verdict, "accept" | "discard")
    }
}

impl What<'_> {
    /// Whether the policy is asked.
    pub fn is_asked(&self) -> bool {
        !matches!(
            self,
            What::Fact { .. } | What::Tls(_) | What::Refused | What::Reset | What::Settled { .. } | What::Shadow { .. }
        )
    }
    /// Its word in the line.
    pub fn word(&self) -> &'static str {
        match self {
            What::Fact { .. } => "fact",
            What::Connect { .. } => "connect",
            What::Helo { .. } => "helo",
            What::Tls(_) => "tls",
            What::Auth { .. } => "auth",
            What::Mail { .. } => "mail",
            What::Probe { .. } => "probe",
            What::Rcpt { .. } => "rcpt",
            What::Refused => "refused",
            What::Data(_) => "data",
            What::Message(_) => "message",
            What::Vrfy { .. } => "vrfy",
            What::Reset => "reset",
            What::Settled { .. } => "settled",
            What::Shadow { .. } => "shadow",
        }
    }
}
