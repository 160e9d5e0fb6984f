//! Lints: what a valid policy says that is probably not meant. Rules that never apply, rules that others are always before,
//! limits that nothing reaches, patterns that cost too much, and an open relay, proved by asking the engine.
//!
//! | code | what |
//! | --- | --- |
//! | `never-matches` | no session can meet the condition |
//! | `shadowed-rule` | an earlier rule of the stage ends it whenever this one applies |
//! | `empty-list` | a hint: the rule waits for entries of a list that has none |
//! | `unused-list`, `unused-limit`, `unused-section` | no rule names it |
//! | `threshold-never-reached`, `threshold-never-looked-at`, `score-unused` | points and thresholds that do not meet |
//! | `limit-never-reached` | another limit with the same key and stage is always stricter |
//! | `limit-never-counts` | failures are looked at but never counted |
//! | `limit-below-size` | one message that the size rule lets pass is more than the limit ever lets pass |
//! | `open-relay` | a stranger can send to any domain |
//! | `relay-by-local-part` | addresses such as `user%other@here` pass |
//! | `postmaster-refused`, `null-sender-refused` | mail that must be taken is not |
//! | `slow-regex`, `regex-matches-everything` | a pattern that costs much or asks nothing |
//!
//! How it fails: a policy with errors is not linted, its errors are returned; linting is total.

mod limits;
mod logic;
mod regexes;
mod relay;
#[cfg(test)]
mod tests;

use super::diagnostic::Diagnostic;
use super::outcome::Outcome;
use super::parser::parse;
use super::rules::{Builtins, Files, Policy};
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use logic::{Alternative, Atom, Test, alternatives, implies, possible};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A policy and what is probably not meant in it.
#[derive(Debug)]
pub struct Linted {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Warnings and hints, in the order of the file.
    pub findings: Vec<Diagnostic>,
}

/// A rule as it stands in the file.
struct RuleText {
    name: Located,
    stage: Stage,
    when: Option<Located>,
    /// `None` when there are too many.
    alternatives: Option<Vec<Alternative>>,
}

/// Compiles and lints. `here` is a domain we receive mail for, which the relay probes use.
pub fn lint(
    name: &str,
    source: &str,
    files: &dyn Files,
    builtins: &Builtins,
    here: &str,
) -> Result<Linted, Vec<Diagnostic>> {
    let policy = Arc::new(Policy::compile(name, source, files, builtins)?);
    let mut reader = Reader::new(name, source);
    let top = reader.parse();
    let rules = read_rules(&mut reader, &top);
    let places = limit_places(&mut reader, &top);
    let empty = empty_lists(&mut reader, &top);
    reader.findings.clear(); // the compiler has said what there was
    reader.findings.extend_from_slice(policy.warnings());
    for (i, rule) in rules.iter().enumerate() {
        let dead = never_matches(&mut reader, rule, &empty);
        if !dead {
            shadowed(&mut reader, &policy, &rules, i);
        }
        regexes::check(&mut reader, rule);
    }
    limits::check(&mut reader, &policy, &rules, &places);
    relay::check(&mut reader, &policy, &rules, here.trim_start_matches(['*', '.']));
    let mut findings = reader.findings;
    findings.sort_by_key(|d| (d.line, d.column));
    // The compiler finds the simple ones too.
    findings.dedup_by(|b, a| a.code == b.code && a.line == b.line && !a.code.is_empty());
    Ok(Linted { policy, findings })
}

fn read_rules(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<RuleText> {
    let mut rules = Vec::new();
    for (_, table) in reader.tables(top, "rule") {
        let (Some(name), Some(stage)) = (reader.string(table, "name"), reader.string(table, "stage")) else { continue };
        let Ok(stage) = stage.text.parse() else { continue };
        let when = reader.string(table, "when");
        let alternatives = match &when {
            None => Some(vec![Vec::new()]),
            Some(when) => parse(&when.text).ok().and_then(|node| alternatives(&node, &when.text)),
        };
        rules.push(RuleText { name, stage, when, alternatives });
    }
    rules
}

fn limit_places(reader: &mut Reader<'_>, top: &Table<'_>) -> BTreeMap<String, Range<usize>> {
    let Some(table) = reader.table(top, "limit") else { return BTreeMap::new() };
    table.iter().map(|(name, _)| (name.get_ref().to_string(), name.span())).collect()
}

/// Lists that say themselves that they have no entries.
fn empty_lists(reader: &mut Reader<'_>, top: &Table<'_>) -> BTreeSet<String> {
    let Some(lists) = reader.table(top, "list") else { return BTreeSet::new() };
    let mut empty = BTreeSet::new();
    for (name, value) in lists.iter() {
        let Some(table) = value.get_ref().as_table() else { continue };
        let entries = ["networks", "domains", "addresses", "words", "file"];
        if entries.iter().all(|key| reader.strings(table, key).is_empty()) {
            empty.insert(name.get_ref().to_string());
        }
    }
    empty
}

/// Whether no session can meet the condition; says so.
fn never_matches(reader: &mut Reader<'_>, rule: &RuleText, empty: &BTreeSet<String>) -> bool {
    let (Some(when), Some(alternatives)) = (&rule.when, &rule.alternatives) else { return false };
    let can = |a: &Alternative| possible(&a.iter().collect::<Vec<_>>());
    let waits = |atom: &Atom| !atom.negate && matches!(&atom.test, Test::List(name) if empty.contains(name));
    if alternatives.iter().any(|a| can(a) && !a.iter().any(waits)) {
        return false;
    }
    if let Some(atom) = alternatives.iter().filter(|a| can(a)).flatten().find(|a| waits(a)) {
        let finding = reader.inside(when, atom.span.clone(), "the rule applies to nobody yet: the list has no entries");
        let help = "fine for a place to be filled in; else remove the rule and the list";
        reader.report(finding.hint().code("empty-list").help(help));
        return false;
    }
    let clash = alternatives.iter().find_map(|a| pair(a));
    let (span, message) = match clash {
        Some((a, b)) => {
            let (a, b) = if a.span.start <= b.span.start { (a, b) } else { (b, a) };
            let words = |atom: &Atom| when.text.get(atom.span.clone()).unwrap_or_default().to_owned();
            match a.span == b.span {
                true => (b.span.clone(), format!("`{}` never holds", words(b))),
                false => (b.span.clone(), format!("`{}` and `{}` never hold together", words(a), words(b))),
            }
        }
        None => (0..when.text.len(), "this condition never holds".to_owned()),
    };
    let message = format!("`{}` never applies: {message}", rule.name.text);
    let help = "a rule that never applies protects nobody; `or` where one of them is enough";
    let finding = reader.inside(when, span, message).warning().code("never-matches").help(help);
    reader.report(finding);
    true
}

/// Two questions that cannot both be answered as wanted; the same one twice when it cannot by itself.
fn pair(atoms: &[Atom]) -> Option<(&Atom, &Atom)> {
    let alone = atoms.iter().find(|a| !possible(&[a])).map(|a| (a, a));
    alone.or_else(|| {
        atoms.iter().enumerate().find_map(|(i, a)| Some((a, atoms[..i].iter().find(|b| !possible(&[a, b]))?)))
    })
}

/// Says when an earlier rule of the stage ends it whenever this one applies.
fn shadowed(reader: &mut Reader<'_>, policy: &Policy, rules: &[RuleText], index: usize) {
    let rule = &rules[index];
    let Some(mine) = &rule.alternatives else { return };
    for (i, before) in rules[..index].iter().enumerate().filter(|(_, r)| r.stage == rule.stage) {
        // A rule that only observes, or acts on a part of the traffic, ends nothing for the rest.
        let ends =
            policy.rules().get(i).is_some_and(|r| r.practice.is_none() && r.outcomes.iter().any(Outcome::is_final));
        let Some(theirs) = before.alternatives.as_ref().filter(|_| ends) else { continue };
        let covered = mine.iter().all(|alternative| {
            let atoms: Vec<&Atom> = alternative.iter().collect();
            !possible(&atoms) || theirs.iter().any(|wanted| wanted.iter().all(|atom| implies(&atoms, atom)))
        });
        if covered {
            let line = reader.text[..before.name.span.start].matches('\n').count() + 1;
            let message = format!(
                "`{}` is never tried where it applies: `{}` (line {line}) ends the stage {} before it",
                rule.name.text,
                before.name.text,
                rule.stage.word()
            );
            let help =
                "rules are tried in order and the first that decides ends the stage; put the narrower rule first";
            let finding = reader.at(rule.name.span.clone(), message).warning().code("shadowed-rule").help(help);
            reader.report(finding);
            return;
        }
    }
}
