//! What is in a compiled policy, for people: its source, its lists with their sizes, its limits; and what differs between
//! two policies.
//!
//! How it fails: it does not.

use super::list::List;
use super::rules::{Policy, Rule, RuleId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kept beside the program.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    source: String,
    lists: Vec<ListShape>,
}

/// A list, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListShape {
    /// Its name, without `@`.
    pub name: String,
    /// Entries, after merging.
    pub entries: usize,
    /// Whether some of them come from a file.
    pub from_file: bool,
}

impl Inventory {
    pub(super) fn new(source: &str, lists: &BTreeMap<String, Arc<List>>) -> Inventory {
        let shape = |(name, list): (&String, &Arc<List>)| ListShape {
            name: name.clone(),
            entries: list.len(),
            from_file: list.from_file,
        };
        Inventory { source: source.to_owned(), lists: lists.iter().map(shape).collect() }
    }
}

impl RuleId {
    /// Its place in [`Policy::rules`]; `None` for the default.
    pub fn index(self) -> Option<usize> {
        (self != RuleId::DEFAULT).then_some(self.0 as usize)
    }
}

impl Policy {
    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.inventory.source
    }
    /// Its lists, those of the server among them.
    pub fn lists(&self) -> &[ListShape] {
        &self.inventory.lists
    }
    /// Names of its limits, in order.
    pub fn limit_names(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().map(|limit| limit.name.as_str())
    }
    /// Its limits: name, and what they hold whom to.
    pub fn limits_shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.limits.iter().map(|limit| (limit.name.as_str(), limit.shown.as_str()))
    }
    /// The id of the rule at this place; the default when there is none.
    pub fn rule_id(&self, index: usize) -> RuleId {
        if index < self.rules().len() { RuleId(index as u32) } else { RuleId::DEFAULT }
    }

    /// What is different in this policy from the one `before`, a line for each: `+ rule x`, `- list y`, `~ limit z: …`.
    pub fn differences(&self, before: &Policy) -> Vec<String> {
        let mut lines = Vec::new();
        let text = |rule: &Rule| {
            format!("at {}, when {}, then {}", rule.stage.word(), shown(&rule.when), rule.then.join("; "))
        };
        let of = |policy: &Policy| policy.rules().iter().map(|r| (r.name.to_string(), text(r))).collect::<Vec<_>>();
        compare(&mut lines, "rule", &of(before), &of(self));
        let of = |policy: &Policy| policy.limits_shown().map(|(n, s)| (n.to_owned(), s.to_owned())).collect::<Vec<_>>();
        compare(&mut lines, "limit", &of(before), &of(self));
        let of = |policy: &Policy| {
            policy.lists().iter().map(|l| (format!("@{}", l.name), entries(l.entries))).collect::<Vec<_>>()
        };
        compare(&mut lines, "list", &of(before), &of(self));
        let order = |policy: &Policy| policy.rules().iter().map(|r| r.name.to_string()).collect::<Vec<_>>();
        let (old, new) = (order(before), order(self));
        let common =
            |all: &[String], other: &[String]| all.iter().filter(|n| other.contains(n)).cloned().collect::<Vec<_>>();
        if common(&old, &new) != common(&new, &old) {
            lines.push("~ the order of rules".to_owned());
        }
        if lines.is_empty() && before.version() != self.version() {
            lines.push("~ entries of lists, settings or comments".to_owned());
        }
        lines
    }
}

fn shown(when: &str) -> &str {
    if when.is_empty() { "always" } else { when }
}

fn entries(n: usize) -> String {
    format!("{n} entr{}", if n == 1 { "y" } else { "ies" })
}

fn compare(
    lines: &mut Vec<String>,
    what: &str,
    before: &[(String, impl AsRef<str>)],
    now: &[(String, impl AsRef<str>)],
) {
    let old: BTreeMap<&str, &str> = before.iter().map(|(name, text)| (name.as_str(), text.as_ref())).collect();
    let new: BTreeMap<&str, &str> = now.iter().map(|(name, text)| (name.as_str(), text.as_ref())).collect();
    for (name, text) in now {
        match old.get(name.as_str()) {
            None => lines.push(format!("+ {what} {name}: {}", text.as_ref())),
            Some(then) if *then != text.as_ref() => lines.push(format!("~ {what} {name}: {then} → {}", text.as_ref())),
            Some(_) => {}
        }
    }
    lines.extend(
        before.iter().filter(|(name, _)| !new.contains_key(name.as_str())).map(|(n, _)| format!("- {what} {n}")),
    );
}

#[cfg(test)]
mod tests {
    use crate::policy::{Builtins, NoFiles, Policy};

    fn policy(text: &str) -> Policy {
        Policy::compile("p", text, &NoFiles, &Builtins::new(["example.test"]).unwrap()).unwrap()
    }

    #[test]
    fn differences_are_told_in_lines() {
        let before = policy(
            "[list.bad]\nnetworks=['192.0.2.0/24']\n[limit.few]\nper='client'\ncounts='message'\nrate='1/hour'\n\
             [[rule]]\nname='a'\nstage='connect'\nwhen='client in @bad'\nthen='drop'\n\
             [[rule]]\nname='b'\nstage='mail'\nthen='limit few'\n[[rule]]\nname='c'\nstage='rcpt'\nthen='reject'\n",
        );
        let now = policy(
            "[list.bad]\nnetworks=['192.0.2.0/24', '198.51.100.0/24']\n[limit.few]\nper='client'\ncounts='message'\nrate='2/hour'\n\
             [[rule]]\nname='c'\nstage='rcpt'\nthen='reject'\n[[rule]]\nname='b'\nstage='mail'\nthen='limit few'\n\
             [[rule]]\nname='d'\nstage='connect'\nwhen='client in @bad'\nthen='drop'\n",
        );
        assert_eq!(
            now.differences(&before),
            [
                "+ rule d: at connect, when client in @bad, then drop",
                "- rule a",
                "~ limit few: 1/hour per client → 2/hour per client",
                "~ list @bad: 1 entry → 2 entries",
                "~ the order of rules",
            ]
        );
        assert!(now.differences(&now).is_empty());
        assert!(now.source().contains("[limit.few]"));
    }
}
