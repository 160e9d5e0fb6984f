//! Outcomes: what a rule does when its condition holds, and the words it is written with.
//!
//! **A new outcome is a variant, a row in [`WORDS`] and a golden case.** How it fails: [`Fault`] at the word that is wrong.

use super::diagnostic::nearest;
use super::lexer::Fault;
use super::program::Operand;
use super::score::{POINTS_MAX, Points, Scored};
use super::stage::Stage;
use super::value::parse_thousandths;
use crate::base::knob::{parse_duration, show_duration};
use crate::wire::reply::{Enhanced, Reply};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest delay of one outcome: clients wait five minutes for a reply (RFC 5321 §4.5.3.2).
pub const TARPIT_MAX: Duration = Duration::from_secs(240);
/// Octets of a reply's text at most, so that its line fits in 512 (RFC 5321 §4.5.3.1.5).
const TEXT_OCTETS_MAX: usize = 400;

/// What a rule does.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Lets it pass; no further rule of this stage is tried.
    Accept,
    /// As accept, and the rules of later stages are not tried either while the trust lasts.
    Trust,
    /// Refuses for good, with the reply.
    Reject(Arc<Reply>),
    /// Refuses for now, with the reply.
    Defer(Arc<Reply>),
    /// Replies and closes the connection.
    Drop(Arc<Reply>),
    /// Delays the reply; rules go on.
    Tarpit(Duration),
    /// Adds a header field to the message; rules go on.
    Tag(Arc<(String, String)>),
    /// Chooses the route; rules go on.
    Route(Arc<str>),
    /// Accepts the message and throws it away.
    Discard,
    /// Accepts the message and keeps it aside.
    Quarantine(Arc<str>),
    /// Counts against a limit; beyond it does something else.
    Limit(LimitUse),
    /// Does what the helper advises.
    Obey(Arc<str>),
    /// Adds points; rules go on.
    Score(Arc<Scored>),
    /// Who is not known comes back later.
    Greylist(GreyUse),
}

/// Greylisting named by a rule.
#[derive(Clone, Debug)]
pub struct GreyUse {
    /// Index among the policy's `[greylist.NAME]`.
    pub greylist: usize,
    /// First step of the condition under which it does not apply.
    pub exempt: u32,
    /// What happens to who is not known; `None` is a deferral that says how long to wait.
    pub otherwise: Option<Box<Outcome>>,
}

/// A limit named by a rule.
#[derive(Clone, Debug)]
pub struct LimitUse {
    /// Index among the policy's limits.
    pub limit: usize,
    /// First step of the condition under which the limit does not apply.
    pub exempt: u32,
    /// What happens beyond it.
    pub otherwise: Box<Outcome>,
}

impl Outcome {
    /// Whether no further rule of the stage is tried.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Outcome::Tarpit(_)
                | Outcome::Tag(_)
                | Outcome::Route(_)
                | Outcome::Limit(_)
                | Outcome::Score(_)
                | Outcome::Greylist(_)
                | Outcome::Obey(_)
        )
    }
    /// The word it is written with.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Accept => "accept",
            Outcome::Trust => "trust",
            Outcome::Reject(_) => "reject",
            Outcome::Defer(_) => "defer",
            Outcome::Drop(_) => "drop",
            Outcome::Tarpit(_) => "tarpit",
            Outcome::Tag(_) => "tag",
            Outcome::Route(_) => "route",
            Outcome::Discard => "discard",
            Outcome::Quarantine(_) => "quarantine",
            Outcome::Limit(_) => "limit",
            Outcome::Score(_) => "score",
            Outcome::Greylist(_) => "greylist",
            Outcome::Obey(_) => "obey",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Outcome::Reject(r) | Outcome::Defer(r) | Outcome::Drop(r) => write!(f, " {r}"),
            Outcome::Tarpit(d) => write!(f, " {}", show_duration(*d)),
            Outcome::Tag(t) => write!(f, " \"{}: {}\"", t.0, t.1),
            Outcome::Route(r) | Outcome::Obey(r) => write!(f, " {r}"),
            Outcome::Quarantine(r) => write!(f, " {r}"),
            Outcome::Score(s) => write!(f, " {s}"),
            _ => Ok(()),
        }
    }
}

/// One row: how an outcome is written.
pub struct Word {
    /// Its word.
    pub word: &'static str,
    /// What follows the word.
    pub syntax: &'static str,
    /// Whether rules end there.
    pub is_final: bool,
    /// What it does, for the reference.
    pub doc: &'static str,
    /// Stages at which it makes sense.
    pub stages: &'static [Stage],
    read: fn(&mut Words<'_>, &mut Scope<'_>) -> Result<Outcome, Fault>,
}

const MESSAGE_STAGES: &[Stage] = &[Stage::Mail, Stage::Data, Stage::Message];
const MAIL_STAGES: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message];
const ROUTE_STAGES: &[Stage] =
    &[Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message];

/// The table.
pub static WORDS: &[Word] = &[
    Word {
        word: "accept",
        syntax: "",
        is_final: true,
        doc: "Lets it pass. At `rcpt` this also lets the client relay to a foreign domain.",
        stages: &Stage::ALL,
        read: |_, _| Ok(Outcome::Accept),
    },
    Word {
        word: "trust",
        syntax: "",
        is_final: true,
        doc: "As `accept`, and skips the rules of later stages: for the connection when said at connect, helo or auth, for \
              the transaction at mail or data, for that recipient at rcpt.",
        stages: &Stage::ALL,
        read: |_, _| Ok(Outcome::Trust),
    },
    Word {
        word: "reject",
        syntax: "[code [x.y.z]] [text]",
        is_final: true,
        doc: "Refuses for good (5xx; at `vrfy` 252 is allowed too).",
        stages: &Stage::ALL,
        read: |w, s| reply(w, s, 5).map(closing(Outcome::Reject)),
    },
    Word {
        word: "defer",
        syntax: "[code [x.y.z]] [text]",
        is_final: true,
        doc: "Refuses for now (4xx). 421 also closes the connection.",
        stages: &Stage::ALL,
        read: |w, s| reply(w, s, 4).map(closing(Outcome::Defer)),
    },
    Word {
        word: "drop",
        syntax: "[code [x.y.z]] [text]",
        is_final: true,
        doc: "Replies (421 unless said otherwise) and closes the connection.",
        stages: &Stage::ALL,
        read: |w, s| reply(w, s, 0).map(|r| Outcome::Drop(Arc::new(r))),
    },
    Word {
        word: "tarpit",
        syntax: "DURATION",
        is_final: false,
        doc: "Delays the reply, at most 4m; several add up to that. Costs the client time and us a timer.",
        stages: &Stage::ALL,
        read: tarpit,
    },
    Word {
        word: "tag",
        syntax: "\"Name: value\"",
        is_final: false,
        doc: "Adds a header field on top of the message.",
        stages: ROUTE_STAGES,
        read: tag,
    },
    Word {
        word: "route",
        syntax: "NAME",
        is_final: false,
        doc: "Chooses the route: of this recipient at `rcpt`, of the message or all messages of the connection elsewhere.",
        stages: ROUTE_STAGES,
        read: route,
    },
    Word {
        word: "discard",
        syntax: "",
        is_final: true,
        doc: "Accepts the message and throws it away, whatever later rules say.",
        stages: MESSAGE_STAGES,
        read: |_, _| Ok(Outcome::Discard),
    },
    Word {
        word: "quarantine",
        syntax: "REASON",
        is_final: true,
        doc: "Accepts the message and keeps it aside, with the reason.",
        stages: MESSAGE_STAGES,
        read: |w, _| match w.rest().trim() {
            "" => Err(w.fault("`quarantine` without a reason", "a text, as in `quarantine suspicious attachment`")),
            reason => {
                w.at = w.text.len();
                Ok(Outcome::Quarantine(reason.into()))
            }
        },
    },
    Word {
        word: "limit",
        syntax: "NAME [else OUTCOME]",
        is_final: false,
        doc: "Counts against `[limit.NAME]` if nothing else refuses. Beyond the limit: OUTCOME (reject, defer, drop or tarpit), \
              by default a deferral.",
        stages: &Stage::ALL,
        read: limit,
    },
    Word {
        word: "score",
        syntax: "POINTS [reason]",
        is_final: false,
        doc: "Adds points (`+4.5`, `-2`, or the value of a fact or function such as `dnsbl('zen')`) to the score of the connection \
              (at connect, helo and auth) or the message; `[threshold.STAGE]` says what comes of it.",
        stages: ROUTE_STAGES,
        read: score,
    },
    Word {
        word: "greylist",
        syntax: "[NAME] [else OUTCOME]",
        is_final: false,
        doc: "Defers who is not known by `[greylist.NAME]`, and goes on with who came back. OUTCOME (reject, defer, drop or \
              tarpit) instead of a deferral that says how long to wait. Users who have logged in pass.",
        stages: MAIL_STAGES,
        read: greylist,
    },
    Word {
        word: "obey",
        syntax: "HELPER",
        is_final: false,
        doc: "Does what the helper advises: `reject`, `defer` and `greylist` refuse with its reply, `discard` and `quarantine` \
              accept and do so; `accept` lets rules go on. If the message passes in the end, the helper's changes are made to \
              it. Advice that could not be had does nothing: `helper('NAME') == 'failed'` says what then.",
        stages: &[Stage::Rcpt, Stage::Data, Stage::Message],
        read: obey,
    },
];

/// Finds what outcomes name, at the stage of their rule.
pub trait Finds {
    /// A limit: its index and the first step of its exemption.
    fn limit(&mut self, name: &str) -> Result<(usize, u32), Unfit>;
    /// A `[greylist.NAME]`: its index and the first step of its exemption.
    fn greylist(&mut self, name: &str) -> Result<(usize, u32), Unfit>;
    /// A fact or function that is a number, with its text; `true` when it is kept in thousandths already.
    fn number(&mut self, text: &str) -> Result<(Operand, bool), Unfit>;
}

/// What reading an outcome must know.
pub struct Scope<'a> {
    /// Stage of the rule.
    pub stage: Stage,
    /// Finds limits and the like at this stage, or says what is wrong with them.
    pub finds: &'a mut dyn Finds,
    /// Routes that exist; `None` when nobody told.
    pub routes: Option<&'a [String]>,
    /// Helpers that exist; `None` when nobody told.
    pub helpers: Option<&'a [String]>,
}

/// Why something cannot be used here.
#[derive(Clone, Debug)]
pub struct Unfit {
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// The near miss.
    pub suggestion: Option<String>,
}

/// Reads an outcome as it stands behind `then`.
pub fn read(text: &str, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let mut words = Words { text, at: 0 };
    let outcome = read_words(&mut words, scope)?;
    match words.rest().trim() {
        "" => Ok(outcome),
        rest => {
            let start = text.len() - words.rest().trim_start().len();
            let message = format!("`{}` takes nothing more", outcome.word());
            Err(Fault::new(start..start + rest.len(), message, "the end; several outcomes are written as an array"))
        }
    }
}

fn read_words(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let Some(word) = words.next() else { return Err(words.fault("there is no outcome", all_words())) };
    let Some(row) = WORDS.iter().find(|r| r.word == word) else {
        let near = nearest(word, WORDS.iter().map(|r| r.word));
        return Err(words.last_fault(word, format!("unknown outcome `{word}`"), all_words()).near(near));
    };
    if !row.stages.contains(&scope.stage) {
        let stages = row.stages.iter().map(|s| s.word()).collect::<Vec<_>>().join(", ");
        let message = format!("`{word}` makes no sense at stage {}", scope.stage.word());
        return Err(words.last_fault(word, message, format!("one of the stages {stages}")));
    }
    (row.read)(words, scope)
}

fn all_words() -> String {
    WORDS.iter().map(|r| r.word).collect::<Vec<_>>().join(", ")
}

/// The words of an outcome, one after the other.
struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Words<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
    fn next(&mut self) -> Option<&'t str> {
        let word = self.peek()?;
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len() + word.len();
        Some(word)
    }
    fn peek(&self) -> Option<&'t str> {
        self.rest().split_whitespace().next()
    }
    /// A fault about what follows.
    fn fault(&self, message: impl Into<String>, expected: impl Into<String>) -> Fault {
        let start = self.at + self.rest().len() - self.rest().trim_start().len();
        let end = self.peek().map_or(start, |w| start + w.len());
        Fault::new(start..end, message, expected)
    }
    /// A fault about the word just taken.
    fn last_fault(&self, word: &str, message: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.at - word.len()..self.at, message, expected)
    }
}

/// 421 means that the connection is closed, whoever says it (RFC 5321 §3.8).
fn closing(make: fn(Arc<Reply>) -> Outcome) -> impl Fn(Reply) -> Outcome {
    move |reply| if reply.code == 421 { Outcome::Drop(Arc::new(reply)) } else { make(Arc::new(reply)) }
}

/// `[code [x.y.z]] [text]`. `class` is 4 or 5, or 0 for both.
fn reply(words: &mut Words<'_>, scope: &mut Scope<'_>, class: u16) -> Result<Reply, Fault> {
    let default = default_reply(scope.stage, class);
    let mut code = default.code;
    let mut enhanced = default.enhanced;
    if let Some(word) = words.peek().filter(|w| w.len() == 3 && w.bytes().all(|b| b.is_ascii_digit())) {
        words.next();
        code = word.parse().unwrap_or(0);
        let vrfy = scope.stage == Stage::Vrfy && code == 252 && class == 5; // RFC 5321 §3.5.3
        let fits = match class {
            0 => matches!(code / 100, 4 | 5),
            class => code / 100 == class,
        };
        // RFC 5321 §4.2.1: the second digit is 0 to 5.
        if !(fits || vrfy) || code / 10 % 10 > 5 {
            let what = match class {
                4 => "a code from 400 to 459; `reject` takes those from 500 on",
                5 => "a code from 500 to 559; `defer` takes those from 400 on",
                _ => "a code from 400 to 559",
            };
            return Err(words.last_fault(word, format!("{word} cannot stand here"), what));
        }
        enhanced = default.enhanced.map(|e| Enhanced((code / 100) as u8, e.1, e.2));
        if let Some(word) = words.peek().filter(|w| looks_enhanced(w)) {
            words.next();
            enhanced = Some(read_enhanced(words, word, code)?);
        }
    }
    let text = words.rest().trim();
    words.at = words.text.len();
    let text = if text.is_empty() { default.lines[0].to_string() } else { text.to_owned() };
    if text.len() > TEXT_OCTETS_MAX || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        let span = words.text.len() - text.len().min(words.text.len())..words.text.len();
        let expected = format!("at most {TEXT_OCTETS_MAX} printable ASCII characters (RFC 5321 §4.2)");
        return Err(Fault::new(span, "this text cannot stand in a reply", expected));
    }
    Ok(Reply::new(code, enhanced, text))
}

fn looks_enhanced(word: &str) -> bool {
    word.matches('.').count() == 2 && word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn read_enhanced(words: &Words<'_>, word: &str, code: u16) -> Result<Enhanced, Fault> {
    let mut parts = word.split('.').map(|p| p.parse::<u16>().ok().filter(|n| *n < 1000 && p.len() <= 3));
    let expected = format!("{}.y.z, of the class of {code} (RFC 3463 §2, RFC 2034 §4)", code / 100);
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
        (Some(x), Some(y), Some(z)) if x == code / 100 => Ok(Enhanced(x as u8, y, z)),
        _ => Err(words.last_fault(word, format!("`{word}` does not go with {code}"), expected)),
    }
}

/// The reply of a refusal without code and text.
pub fn default_reply(stage: Stage, class: u16) -> Reply {
    let (code, y, z, text) = match (class, stage) {
        (5, Stage::Connect) => (554, 7, 1, "Access denied"), // RFC 5321 §3.1
        (5, Stage::Auth) => (535, 7, 8, "Authentication refused"), // RFC 4954 §6
        (5, Stage::Mail) => (550, 7, 1, "Sender refused"),
        (5, Stage::Rcpt) => (550, 7, 1, "Recipient refused"),
        (5, Stage::Data | Stage::Message) => (554, 7, 1, "Message refused"),
        (5, Stage::Vrfy) => (252, 0, 0, "Cannot VRFY user, but will accept message and attempt delivery"), // RFC 5321 §7.3
        (5, Stage::Helo) => (550, 7, 1, "Access denied"),
        (4, Stage::Auth) => (454, 7, 0, "Temporary authentication failure"), // RFC 4954 §6
        (4, Stage::Connect) => (421, 7, 0, "Try again later"),
        (4, Stage::Data | Stage::Message) => (451, 7, 1, "Try again later"),
        (4, _) => (450, 7, 1, "Try again later"),
        _ => (421, 7, 0, "Closing connection"),
    };
    Reply::new(code, Some(Enhanced((code / 100) as u8, y, z)), text)
}

fn tarpit(words: &mut Words<'_>, _: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let expected = "a duration up to 4m, such as `5s`; clients give up after five minutes";
    let Some(word) = words.next() else { return Err(words.fault("`tarpit` without a duration", expected)) };
    match parse_duration(word).filter(|d| !d.is_zero() && *d <= TARPIT_MAX) {
        Some(d) => Ok(Outcome::Tarpit(d)),
        None => Err(words.last_fault(word, format!("`{word}` cannot be waited for"), expected)),
    }
}

fn tag(words: &mut Words<'_>, _: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let expected = "\"Name: value\" of printable ASCII, as in tag \"X-Gate: suspicious\"";
    let fault = words.fault("`tag` wants a header field", expected);
    let text = words.rest().trim();
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let Some((name, value)) = text.split_once(':') else { return Err(fault) };
    let (name, value) = (name.trim(), value.trim());
    // RFC 5322 §2.2: names are printable without colon; a line has at most 998 octets.
    let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if !name_ok || !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') || text.len() > 900 {
        return Err(fault);
    }
    words.at = words.text.len();
    Ok(Outcome::Tag(Arc::new((name.to_owned(), value.to_owned()))))
}

fn route(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let Some(word) = words.next() else { return Err(words.fault("`route` without a name", "the name of a route")) };
    if let Some(routes) = scope.routes.filter(|r| !r.iter().any(|name| name == word)) {
        let near = nearest(word, routes.iter().map(String::as_str));
        let expected = format!("one of {}", routes.join(", "));
        return Err(words.last_fault(word, format!("there is no route `{word}`"), expected).near(near));
    }
    Ok(Outcome::Route(word.into()))
}

fn obey(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let Some(word) = words.next() else { return Err(words.fault("`obey` without a name", "the name of a helper")) };
    if let Some(helpers) = scope.helpers.filter(|h| !h.iter().any(|name| name == word)) {
        return Err(super::check::no_helper(words.at - word.len()..words.at, word, helpers));
    }
    Ok(Outcome::Obey(word.into()))
}

fn limit(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let Some(name) = words.next() else { return Err(words.fault("`limit` without a name", "the name of a limit")) };
    let (limit, exempt) = scope
        .finds
        .limit(name)
        .map_err(|unfit| words.last_fault(name, unfit.message, unfit.expected).near(unfit.suggestion.as_deref()))?;
    let otherwise =
        otherwise(words, scope)?.unwrap_or_else(|| Outcome::Defer(Arc::new(limit_reply(scope.stage, name))));
    let otherwise = match otherwise {
        Outcome::Defer(r) if r.code == 421 => Outcome::Drop(r),
        other => other,
    };
    Ok(Outcome::Limit(LimitUse { limit, exempt, otherwise: Box::new(otherwise) }))
}

/// What stands behind `else`, if it is there.
fn otherwise(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Option<Outcome>, Fault> {
    match words.next() {
        None => Ok(None),
        Some("else") => {
            let start = words.at;
            let inner = read_words(words, scope)?;
            if matches!(inner, Outcome::Reject(_) | Outcome::Defer(_) | Outcome::Drop(_) | Outcome::Tarpit(_)) {
                Ok(Some(inner))
            } else {
                let span = start..words.at;
                Err(Fault::new(span, format!("`else {}` is no refusal", inner.word()), "reject, defer, drop or tarpit"))
            }
        }
        Some(other) => {
            let near = nearest(other, ["else"]);
            Err(words.last_fault(other, format!("unexpected `{other}`"), "`else` or the end").near(near))
        }
    }
}

fn greylist(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let named = words.peek().filter(|word| *word != "else");
    let before = words.at;
    if named.is_some() {
        words.next();
    }
    let name = named.unwrap_or(super::greylist::DEFAULT_NAME);
    let (greylist, exempt) = scope.finds.greylist(name).map_err(|unfit| {
        let span = match named {
            Some(name) => words.at - name.len()..words.at,
            None => before.saturating_sub("greylist".len())..before,
        };
        Fault::new(span, unfit.message, unfit.expected).near(unfit.suggestion.as_deref())
    })?;
    let otherwise = otherwise(words, scope)?.map(Box::new);
    Ok(Outcome::Greylist(GreyUse { greylist, exempt, otherwise }))
}

fn score(words: &mut Words<'_>, scope: &mut Scope<'_>) -> Result<Outcome, Fault> {
    let expected = "points such as +4.5 or -2, or a fact or function that is a number";
    let Some(word) = words.next() else { return Err(words.fault("`score` without points", expected)) };
    let points = match parse_thousandths(word) {
        Some(n) if (-POINTS_MAX..=POINTS_MAX).contains(&n) && n != 0 => Points::Fixed(n),
        Some(_) => return Err(words.last_fault(word, format!("`{word}` are no points"), "up to 1000000, and not 0")),
        None if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let (operand, thousandths) = scope.finds.number(word).map_err(|unfit| {
                words.last_fault(word, unfit.message, unfit.expected).near(unfit.suggestion.as_deref())
            })?;
            Points::Of(operand, thousandths, word.into())
        }
        None => return Err(words.last_fault(word, format!("`{word}` are no points"), expected)),
    };
    let reason = words.rest().trim().into();
    words.at = words.text.len();
    Ok(Outcome::Score(Arc::new(Scored { points, reason })))
}

fn limit_reply(stage: Stage, name: &str) -> Reply {
    let base = default_reply(stage, 4);
    Reply::new(base.code, base.enhanced.map(|e| Enhanced(e.0, 7, 0)), format!("Limit {name} exceeded, try again later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Small;

    impl Finds for Small {
        fn limit(&mut self, name: &str) -> Result<(usize, u32), Unfit> {
            match name {
                "small" | "default" => Ok((0, super::super::program::FAILS)),
                _ => Err(Unfit { message: "none".into(), expected: String::new(), suggestion: Some("small".into()) }),
            }
        }
        fn greylist(&mut self, name: &str) -> Result<(usize, u32), Unfit> {
            self.limit(name)
        }
        fn number(&mut self, text: &str) -> Result<(Operand, bool), Unfit> {
            let id = super::super::facts::FactId::find(text);
            let unfit = || Unfit { message: "none".into(), expected: String::new(), suggestion: None };
            id.map(|id| (Operand::fact(id), false)).ok_or_else(unfit)
        }
    }

    fn outcome(text: &str, stage: Stage) -> Result<Outcome, Fault> {
        read(text, &mut Scope { stage, finds: &mut Small, routes: Some(&["inner".to_owned()]), helpers: None })
    }

    #[test]
    fn words_become_outcomes() {
        use Stage::*;
        for (text, stage, shown) in [
            ("reject", Rcpt, "reject 550 5.7.1 Recipient refused"),
            ("reject 553", Rcpt, "reject 553 5.7.1 Recipient refused"),
            ("reject 551 5.1.6 moved away", Rcpt, "reject 551 5.1.6 moved away"),
            ("reject relaying denied", Rcpt, "reject 550 5.7.1 relaying denied"),
            ("reject", Vrfy, "reject 252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery"),
            ("defer", Connect, "drop 421 4.7.0 Try again later"),
            ("drop 554 go away", Helo, "drop 554 5.7.0 go away"),
            ("tarpit 90s", Mail, "tarpit 1m30s"),
            ("tag \"X-A: b c\"", Data, "tag \"X-A: b c\""),
            ("tag X-A: b c", Data, "tag \"X-A: b c\""),
            ("route inner", Rcpt, "route inner"),
            ("quarantine odd thing", Message, "quarantine odd thing"),
            ("score +4.50 bad name", Helo, "score +4.5 bad name"),
            ("score -2", Rcpt, "score -2"),
            ("score rcpt.count", Rcpt, "score rcpt.count"),
            ("greylist", Rcpt, "greylist"),
            ("greylist small else defer 450 4.7.1 later", Rcpt, "greylist"),
        ] {
            assert_eq!(outcome(text, stage).unwrap().to_string(), shown, "{text}");
        }
        let Outcome::Limit(l) = outcome("limit small else reject 550 slow down", Mail).unwrap() else { panic!() };
        assert_eq!(l.otherwise.to_string(), "reject 550 5.7.1 slow down");
        let Outcome::Limit(l) = outcome("limit small", Connect).unwrap() else { panic!() };
        assert_eq!(l.otherwise.to_string(), "drop 421 4.7.0 Limit small exceeded, try again later");
    }

    #[test]
    fn faults_name_the_word() {
        use Stage::*;
        for (text, stage, span, near) in [
            ("rejct 550", Rcpt, 0..5, Some("reject")),
            ("reject 450 x", Rcpt, 7..10, None),
            ("reject 599 x", Rcpt, 7..10, None),
            ("defer 450 5.1.1 x", Rcpt, 10..15, None),
            ("tarpit 10m", Rcpt, 7..10, None),
            ("route innr", Rcpt, 6..10, Some("inner")),
            ("limit smal", Rcpt, 6..10, Some("small")),
            ("limit small els defer", Rcpt, 12..15, Some("else")),
            ("limit small else accept", Rcpt, 16..23, None),
            ("accept now", Rcpt, 7..10, None),
            ("score 0", Rcpt, 6..7, None),
            ("score 1.2345", Rcpt, 6..12, None),
            ("score", Rcpt, 5..5, None),
            ("score nothing", Rcpt, 6..13, None),
            ("score 1", Vrfy, 0..5, None),
            ("greylist", Connect, 0..8, None),
            ("greylist smal", Rcpt, 9..13, Some("small")),
            ("greylist else accept", Rcpt, 13..20, None),
            ("discard", Rcpt, 0..7, None),
            ("", Rcpt, 0..0, None),
            ("tag nothing", Data, 4..11, None),
            ("reject 550 5.7.1 caf\u{e9}", Rcpt, 17..22, None),
        ] {
            let fault = outcome(text, stage).unwrap_err();
            assert_eq!((fault.span.clone(), fault.suggestion.as_deref()), (span, near), "{text}: {fault:?}");
        }
    }
}
