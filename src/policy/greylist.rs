//! Greylisting: who is not known is told to come back; who comes back is known from then on. Spam software seldom does.
//!
//! What is known is kept by client network, sender and recipient (`per`). A network from which enough senders have come
//! back passes without waiting (`auto-allow`). Large senders try again from another of their hosts: where SPF confirms the
//! sender, its domain stands for the network, so that the whole pool is one. Users who have logged in never wait.
//!
//! How it fails: it does not; what was forgotten waits again.

use super::facts::FactId;
use super::limit::{KEY_FACTS, KeyPart, add_text, key_of, key_with};
use super::memory::{Entry, Look, Meeting, Memory};
use super::program::Operand;
use super::reading::{duration, network_key};
use super::rules::fingerprint;
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use super::state::View;
use super::value::Value;
use std::time::Duration;

/// Keys of `[greylist.NAME]`.
pub const GREYLIST_KEYS: [&str; 8] =
    ["description", "per", "delay", "retry-window", "remember", "auto-allow", "spf", "exempt"];
/// The settings that `greylist` without a name uses.
pub const DEFAULT_NAME: &str = "default";
const DAY: Duration = Duration::from_secs(86_400);

/// A `[greylist.NAME]`.
#[derive(Clone, Debug)]
pub struct Greylist {
    /// Its name.
    pub name: Box<str>,
    /// What makes somebody known.
    pub per: Vec<KeyPart>,
    /// The client's network, for `auto-allow`.
    network: KeyPart,
    /// How long who is new has to wait.
    pub delay: Duration,
    /// How long after the first try another one counts as coming back.
    pub retry_window: Duration,
    /// How long who came back is known, from the last time on.
    pub remember: Duration,
    /// So many senders that came back make a network known; 0 = never.
    pub auto_allow: u64,
    /// The fact by which SPF stands for the network, when it is to.
    pub spf: Option<Operand>,
    /// The name and `per` as a number: the same over reloads while neither changes.
    identity: u64,
}

/// What a look at it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It passes, for this reason.
    Pass(&'static str),
    /// It has to come back after this time.
    Wait(Duration),
    /// A part of the key is not known.
    Unknown,
}

/// How it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Whether who passes is noted; who has to wait always is.
    pub notes_passing: bool,
    /// Whether a rule only observes: it has a memory of its own, and changes nothing for others.
    pub observes: bool,
}

impl Greylist {
    /// What holds without a section.
    pub fn builtin() -> Greylist {
        let per = ["client/24,64", "sender", "rcpt"].into_iter().filter_map(KeyPart::parse).collect();
        Greylist::new(DEFAULT_NAME, per, "client/24,64 + sender + rcpt")
    }

    fn new(name: &str, per: Vec<KeyPart>, per_text: &str) -> Greylist {
        let identity = fingerprint(&format!("greylist {name}|{per_text}"), &[]);
        let network = per.iter().find(|part| matches!(part, KeyPart::Client { .. })).cloned();
        Greylist {
            name: name.into(),
            network: network.unwrap_or_else(|| network_key((24, 64))),
            per,
            delay: Duration::from_secs(300),
            retry_window: 2 * DAY,
            remember: 35 * DAY,
            auto_allow: 5,
            spf: FactId::find("spf").map(Operand::fact),
            identity: u64::from_str_radix(&identity[..16], 16).unwrap_or(0),
        }
    }

    /// Reads `[greylist.NAME]`; with where its exemption stands.
    pub fn read(reader: &mut Reader<'_>, name: &str, table: &Table<'_>) -> Option<(Greylist, Option<Located>)> {
        reader.known_keys(table, &format!("[greylist.{name}]"), &GREYLIST_KEYS);
        let parts = reader.strings(table, "per");
        let mut per = Vec::new();
        for part in &parts {
            match KeyPart::parse(&part.text) {
                Some(key) => per.push(key),
                None => {
                    let finding = reader
                        .inside(part, 0..part.text.len(), format!("`{}` is no key of greylisting", part.text))
                        .expected(format!("client, client/24,64 (IPv4, IPv6 prefix), {}", KEY_FACTS.join(", ")))
                        .near(&part.text, KEY_FACTS.into_iter().chain(["client"]));
                    reader.report(finding);
                    return None;
                }
            }
        }
        let per_text = parts.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(" + ");
        let mut found = match per.is_empty() {
            true => Greylist { name: name.into(), ..Greylist::builtin() },
            false => Greylist::new(name, per, &per_text),
        };
        let second = Duration::from_secs(1);
        found.delay = duration(reader, table, "delay", second..=DAY, found.delay);
        found.retry_window = duration(reader, table, "retry-window", second * 60..=31 * DAY, found.retry_window);
        found.remember = duration(reader, table, "remember", second * 60..=366 * DAY, found.remember);
        found.auto_allow = reader.integer(table, "auto-allow", 0..=1_000_000).unwrap_or(found.auto_allow);
        if reader.boolean(table, "spf") == Some(false) {
            found.spf = None;
        }
        if found.retry_window <= found.delay {
            let span = table.iter().find(|(k, _)| matches!(k.get_ref().as_ref(), "delay" | "retry-window"));
            let span = span.map_or(0..0, |(k, v)| k.span().start..v.span().end);
            let finding = reader.at(span, "nobody could ever come back: `retry-window` ends before `delay` is over");
            reader.report(finding.expected("a `retry-window` longer than `delay`; senders retry for days"));
        }
        Some((found, reader.string(table, "exempt")))
    }

    /// The part of the key that is not known at `stage`, by its name.
    pub fn unknown_at(&self, stage: Stage) -> Option<(&'static str, Stage)> {
        let facts = self.per.iter().filter_map(KeyPart::fact).map(FactId::row);
        facts.filter(|row| !row.known.covers(stage)).map(|row| (row.name, row.known.first)).next()
    }

    /// Facts that it reads.
    pub fn facts(&self) -> impl Iterator<Item = FactId> + '_ {
        let spf = match &self.spf {
            Some(Operand::Fact(id, _)) => Some(*id),
            _ => None,
        };
        self.per.iter().filter_map(KeyPart::fact).chain(spf)
    }

    /// Looks whether the session may pass now.
    pub fn ask(&self, view: &View<'_>, memory: &Memory, how: How, meeting: &mut Meeting<'_>) -> Answer {
        let identity = self.identity ^ if how.observes { OBSERVED } else { 0 };
        let confirmed = self.confirmed(view);
        let Some(key) = self.key(view, memory.secret(), identity, confirmed) else { return Answer::Unknown };
        let network = match confirmed {
            Some(domain) => Some(key_with(memory.secret(), identity ^ NETWORK, |hasher| add_text(domain, hasher))),
            None => key_of(std::slice::from_ref(&self.network), view, memory.secret(), identity ^ NETWORK),
        };
        let now = view.state.wall().as_millis();
        let observed = if how.observes { "observed " } else { "" };
        let of_network = || format!("{observed}greylist network {}", self.name).into_boxed_str();
        let of_triplet = || format!("{observed}greylist {}", self.name).into_boxed_str();
        let is_known = self.auto_allow > 0
            && network.is_some_and(|key| {
                meeting.look(&memory.greylist, key, of_network, |entry| {
                    let alive = entry.filter(|e| now < e[1].saturating_add(millis(self.remember)));
                    match alive.filter(|e| e[2] >= self.auto_allow) {
                        Some([first, _, count, counted]) if how.notes_passing => {
                            (Look::Put([first, now, count, counted]), true)
                        }
                        found => (Look::Leave, found.is_some()),
                    }
                })
            });
        if is_known {
            return Answer::Pass("its network is known");
        }
        let (answer, came_back) =
            meeting.look(&memory.greylist, key, of_triplet, |entry| self.triplet(entry, now, how.notes_passing));
        if let (true, true, Some(key)) = (came_back, self.auto_allow > 0, network) {
            meeting.look(&memory.greylist, key, of_network, |entry| (self.count(entry, now), ()));
        }
        answer
    }

    /// An entry is: first try, last pass (or 0), passes.
    fn triplet(&self, entry: Option<Entry>, now: u64, notes_passing: bool) -> (Look, (Answer, bool)) {
        let alive = entry.filter(|[first, last, passes, _]| match passes {
            0 => now < first.saturating_add(millis(self.retry_window)),
            _ => now < last.saturating_add(millis(self.remember)),
        });
        let Some([first, last, passes, _]) = alive else {
            return (Look::Put([now, 0, 0, 0]), (Answer::Wait(self.delay), false));
        };
        let due = first.saturating_add(millis(self.delay));
        if passes == 0 && now < due {
            // Touched, so that who tries again is not forgotten before who does not.
            return (Look::Put([first, last, 0, 0]), (Answer::Wait(Duration::from_millis(due - now)), false));
        }
        let why = if passes == 0 { "it came back" } else { "it is known" };
        match notes_passing {
            true => (Look::Put([first, now, passes.saturating_add(1), 0]), (Answer::Pass(why), passes == 0)),
            false => (Look::Leave, (Answer::Pass(why), false)),
        }
    }

    /// A network's entry is: first, last, senders that came back, when the last of them was counted. They count at least
    /// the delay apart: the recipients of one message are one.
    fn count(&self, entry: Option<Entry>, now: u64) -> Look {
        match entry.filter(|e| now < e[1].saturating_add(millis(self.remember))) {
            None => Look::Put([now, now, 1, now]),
            Some([_, _, _, counted]) if now < counted.saturating_add(millis(self.delay)) => Look::Leave,
            Some([first, _, count, _]) => Look::Put([first, now, count.saturating_add(1), now]),
        }
    }

    /// The domain that SPF confirms: the sender's, or the HELO name of a null sender (RFC 7208 §2.4).
    fn confirmed<'v>(&self, view: &View<'v>) -> Option<&'v str> {
        let pass = |value: Value<'_>| matches!(value, Value::Text(t) if t.eq_ignore_ascii_case("pass"));
        if !self.spf.as_ref()?.with(view, pass) {
            return None;
        }
        let domain = view.state.transaction.sender.domain();
        Some(if domain.is_empty() { &view.state.greeting.name } else { domain }).filter(|d| !d.is_empty())
    }

    fn key(&self, view: &View<'_>, secret: u64, identity: u64, confirmed: Option<&str>) -> Option<u64> {
        let mut known = true;
        let key = key_with(secret, identity ^ u64::from(confirmed.is_some()), |hasher| {
            for part in &self.per {
                match (part, confirmed) {
                    (KeyPart::Client { .. }, Some(domain)) => add_text(domain, hasher),
                    // An empty part (the null sender) is a part like any other, unless a recording lacks it.
                    _ => known &= part.add(view, hasher) || !view.state.missing.was_asked(),
                }
            }
        });
        known.then_some(key)
    }
}

/// Sets keys of rules that observe apart.
const OBSERVED: u64 = 0x6f62_7365_7276_6564;
/// Sets keys of networks apart from those of triplets.
const NETWORK: u64 = 0x6e65_7477_6f72_6b00;

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
