//! What is shown of decisions, sessions, the policy and the queue, as values that travel as JSON.
//!
//! How it fails: it does not.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A decision of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decided {
    /// Its number; later ones have higher numbers.
    pub number: u64,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The session, 13 characters.
    pub session: String,
    /// Address of the client.
    pub client: String,
    /// The listener, as the policy calls it.
    pub listener: String,
    /// `connect`, `helo`, `auth`, `mail`, `rcpt`, `data`, `message` or `vrfy`.
    pub stage: String,
    /// `accept`, `reject`, `defer`, `drop` or `discard`.
    pub verdict: String,
    /// The rule that decided, or `default`; `(recipient)` when a table or backend does not know the recipient, `(destination)`
    /// when the backend or the queue refused the message.
    pub rule: String,
    /// Why, where there is more to say.
    pub reason: String,
    /// The reply of a refusal.
    pub reply: String,
    /// How long the client waits for it.
    pub delay_ms: u64,
    /// What the client called itself.
    pub helo: String,
    /// As whom it has logged in.
    pub user: String,
    /// The sender, where it is known.
    pub sender: String,
    /// The recipient, where it is known.
    pub recipient: String,
}

/// Which decisions; fields that are empty do not restrict. A `*` in a text stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionFilter {
    /// Part of the rule's name or of the reason.
    pub reason: String,
    /// The rule's name.
    pub rule: String,
    /// The recipient.
    pub rcpt: String,
    /// The sender.
    pub sender: String,
    /// The client's address, or a network such as `192.0.2.0/24`.
    pub client: String,
    /// The verdict; `refused` stands for everything that does not let pass.
    pub verdict: String,
    /// The stage.
    pub stage: String,
    /// The session.
    pub session: String,
    /// Words that all occur somewhere in the decision.
    pub q: String,
}

impl DecisionFilter {
    /// Whether only refusals can be meant, so that nobody has to hear of the rest.
    pub fn is_about_refusals(&self) -> bool {
        matches!(self.verdict.as_str(), "refused" | "reject" | "defer" | "drop")
    }

    /// Whether a decision is meant.
    pub fn admits(&self, d: &Decided) -> bool {
        let verdict = match self.verdict.as_str() {
            "" => true,
            "refused" => !matches!(d.verdict.as_str(), "accept" | "discard"),
            word => word == d.verdict,
        };
        let reason = self.reason.to_ascii_lowercase();
        verdict
            && (self.stage.is_empty() || self.stage == d.stage)
            && (self.session.is_empty() || self.session.eq_ignore_ascii_case(&d.session))
            && (self.rule.is_empty() || matches(&self.rule, &d.rule))
            && (self.rcpt.is_empty() || matches(&self.rcpt, &d.recipient))
            && (self.sender.is_empty() || matches(&self.sender, &d.sender))
            && (self.client.is_empty() || client_is(&self.client, &d.client))
            && (reason.is_empty()
                || [&d.rule, &d.reason, &d.reply].iter().any(|t| t.to_ascii_lowercase().contains(&reason)))
            && self.q.split_whitespace().all(|word| occurs(&word.to_lowercase(), d))
    }
}

/// Whether `text` is what `pattern` says, without regard to case; `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn client_is(wanted: &str, client: &str) -> bool {
    match (wanted.parse::<ipnet::IpNet>(), client.parse::<std::net::IpAddr>()) {
        (Ok(net), Ok(ip)) => net.contains(&ip),
        _ => matches(wanted, client),
    }
}

fn occurs(word: &str, d: &Decided) -> bool {
    let all = [
        &d.session,
        &d.client,
        &d.listener,
        &d.stage,
        &d.verdict,
        &d.rule,
        &d.reason,
        &d.reply,
        &d.helo,
        &d.user,
        &d.sender,
        &d.recipient,
    ];
    all.iter().any(|text| text.to_lowercase().contains(word))
}

/// A session in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionEntry {
    /// Its id.
    pub id: String,
    /// When it began, milliseconds since 1970.
    pub at_ms: u64,
    /// How long it lasted.
    pub lasted_ms: u64,
    /// Address of the client.
    pub client: String,
    /// The listener.
    pub listener: String,
    /// What it called itself last.
    pub helo: String,
    /// Refusals of the policy in it.
    pub refusals: u64,
    /// Messages that were taken.
    pub messages: u64,
}

/// A session, whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionStory {
    /// Its id.
    pub id: String,
    /// `open`, `ended`, or `partial` when its beginning is not kept any more or only its refusals are.
    pub state: String,
    /// When it began, milliseconds since 1970.
    pub at_ms: u64,
    /// Address of the client.
    pub client: String,
    /// Its port.
    pub port: u16,
    /// The listener.
    pub listener: String,
    /// TLS from the start: version and cipher.
    pub tls: String,
    /// Version of the policy that decided.
    pub policy: String,
    /// What happened, in order.
    pub events: Vec<StoryEvent>,
    /// What must be known to read the traces; empty when they were not asked for.
    pub note: String,
}

/// One thing that happened in a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoryEvent {
    /// Milliseconds since the session began.
    pub after_ms: u64,
    /// `connect`, `helo`, `mail`, `rcpt`, `data`, `message`, `settled` …
    pub what: String,
    /// What the client said or what became known, for people.
    pub text: String,
    /// What the policy said; empty where it is not asked.
    pub verdict: String,
    /// The rule that decided, or `default`.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Reply of a refusal.
    pub reply: String,
    /// How long the client waited for it.
    pub delay_ms: u64,
    /// What else was decided: route, quarantine, fields.
    pub more: Vec<String>,
    /// How the decision came about, where it was asked for: rules, parts, effects.
    pub trace: Vec<serde_json::Value>,
}

/// The policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyView {
    /// The file.
    pub name: String,
    /// Its version: a fingerprint of the file and its lists.
    pub version: String,
    /// Its text.
    pub source: String,
    /// Rules, in order.
    pub rules: Vec<RuleView>,
    /// Decisions by the defaults, by stage and verdict: `rcpt accept`.
    pub defaults: BTreeMap<String, u64>,
    /// Lists.
    pub lists: Vec<ListView>,
    /// Limits.
    pub limits: Vec<LimitView>,
    /// What is probably not meant so.
    pub warnings: Vec<String>,
}

/// A rule with its hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// When it is tried.
    pub stage: String,
    /// For people.
    pub description: String,
    /// Its condition as it stands in the file; empty = always.
    pub when: String,
    /// What it does.
    pub then: Vec<String>,
    /// How often it decided, by verdict, since the server started.
    pub hits: BTreeMap<String, u64>,
}

/// A list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListView {
    /// Its name.
    pub name: String,
    /// Entries.
    pub entries: u64,
    /// Whether some come from a file.
    pub from_file: bool,
}

/// A limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitView {
    /// Its name.
    pub name: String,
    /// What it holds whom to.
    pub bound: String,
    /// How often it refused since the server started.
    pub hits: u64,
}

/// A session to explain; what is left out is as `gatepost policy explain` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainCase {
    /// Address of the client.
    pub client: Option<String>,
    /// The listener.
    pub listener: Option<String>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Its HELO name.
    pub helo: Option<String>,
    /// As whom it has logged in.
    pub user: Option<String>,
    /// Sender; empty text = the null sender.
    pub from: Option<String>,
    /// Recipients.
    pub to: Vec<String>,
    /// Whether the recipient exists.
    pub exists: Option<bool>,
    /// Octets of the message.
    pub size: Option<u32>,
    /// The header section.
    pub headers: Option<String>,
    /// Facts that lookups find, such as `client.ptr`, by name.
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// The queue in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSurvey {
    /// Messages.
    pub messages: u64,
    /// Of these held.
    pub held: u64,
    /// Of these in an attempt.
    pub active: u64,
    /// Their octets.
    pub octets: u64,
    /// By destination, those with most messages first.
    pub destinations: Vec<DestinationSurvey>,
    /// Messages by age; the words are [`AGES`].
    pub ages: Vec<u64>,
}

/// Ages of messages: younger than this, in milliseconds, and its word.
pub const AGES: [(u64, &str); 6] =
    [(60_000, "1m"), (600_000, "10m"), (3_600_000, "1h"), (21_600_000, "6h"), (86_400_000, "1d"), (u64::MAX, "older")];

/// A destination of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationSurvey {
    /// Such as `pool:main` or `mx:example.org`.
    pub name: String,
    /// Messages with a recipient that waits for it.
    pub messages: u64,
    /// Acceptance of the oldest of them, milliseconds since 1970.
    pub oldest_ms: u64,
}

impl QueueSurvey {
    /// Adds another queue's numbers.
    pub fn merge(&mut self, other: QueueSurvey) {
        self.messages += other.messages;
        self.held += other.held;
        self.active += other.active;
        self.octets += other.octets;
        self.ages.resize(AGES.len(), 0);
        self.ages.iter_mut().zip(&other.ages).for_each(|(a, b)| *a += b);
        for destination in other.destinations {
            match self.destinations.iter_mut().find(|d| d.name == destination.name) {
                Some(known) => {
                    known.messages += destination.messages;
                    known.oldest_ms = known.oldest_ms.min(destination.oldest_ms);
                }
                None => self.destinations.push(destination),
            }
        }
        self.destinations.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.name.cmp(&b.name)));
    }
}

/// An alias or list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AliasEntry {
    /// `alias` or `list`.
    pub kind: String,
    /// For whom.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, text, expected) in [
            ("bob@*", "bob@example.org", true),
            ("BOB@example.org", "bob@Example.org", true),
            ("bob@", "bob@example.org", false),
            ("*@example.org", "bob@example.org", true),
            ("*xam*org", "bob@example.org", true),
            ("*xam*net", "bob@example.org", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn filters_admit_what_they_name() {
        let d = Decided {
            client: "192.0.2.7".into(),
            verdict: "defer".into(),
            rule: "slow-down".into(),
            reason: "limit per-client: more than 3".into(),
            recipient: "bob@example.test".into(),
            ..Decided::default()
        };
        let says = |json: serde_json::Value| serde_json::from_value::<DecisionFilter>(json).unwrap().admits(&d);
        use serde_json::json;
        assert!(says(json!({})) && says(json!({"verdict": "refused"})) && says(json!({"client": "192.0.2.0/24"})));
        assert!(says(json!({"reason": "Per-Client", "rcpt": "bob@*"})) && says(json!({"q": "192.0 BOB slow"})));
        assert!(!says(json!({"verdict": "reject"})) && !says(json!({"client": "192.0.3.0/24"})));
        assert!(!says(json!({"q": "bob carol"})) && !says(json!({"stage": "rcpt"})));
    }

    #[test]
    fn surveys_are_added() {
        let one = |name: &str, messages, oldest_ms| DestinationSurvey { name: name.into(), messages, oldest_ms };
        let mut all = QueueSurvey::default();
        all.merge(QueueSurvey {
            messages: 3,
            ages: vec![3, 0, 0, 0, 0, 0],
            destinations: vec![one("a", 1, 5), one("b", 2, 9)],
            ..QueueSurvey::default()
        });
        all.merge(QueueSurvey {
            messages: 4,
            ages: vec![0, 0, 0, 0, 0, 4],
            destinations: vec![one("a", 4, 2)],
            ..QueueSurvey::default()
        });
        assert_eq!((all.messages, all.ages[0], all.ages[5]), (7, 3, 4));
        assert_eq!(all.destinations, [one("a", 5, 2), one("b", 2, 9)]);
    }
}
