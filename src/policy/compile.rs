//! From a policy file to a [`Policy`].
//!
//! How it fails: with every finding of the file and its lists at once; nothing half right is ever returned.

use super::check::{Checker, Condition};
use super::diagnostic::{Diagnostic, Severity, nearest};
use super::facts::FactSet;
use super::lexer::Fault;
use super::limit::{Bound, Counts, KEY_FACTS, KeyPart, Limit, Rate};
use super::list::{Entries, Kind, List};
use super::outcome::{self, Outcome, Scope, Unfit, WORDS};
use super::program::{FAILS, HOLDS};
use super::rules::{Builtins, Defaults, Files, Policy, Rule, fingerprint};
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Rules, lists and limits of one policy at most; far beyond what a person can keep in mind.
const ITEMS_MAX: usize = 10_000;

/// Keys of the file, for messages and the schema.
pub const TOP_KEYS: [&str; 4] = ["settings", "list", "limit", "rule"];
/// Keys of `[list.NAME]`.
pub const LIST_KEYS: [&str; 7] = ["description", "networks", "domains", "addresses", "words", "file", "kind"];
/// Keys of `[limit.NAME]`.
pub const LIMIT_KEYS: [&str; 7] = ["description", "per", "rate", "burst", "most", "counts", "exempt"];
/// Keys of `[[rule]]`.
pub const RULE_KEYS: [&str; 5] = ["name", "description", "stage", "when", "then"];

/// Compiles `source`; see [`Policy::compile`].
pub fn compile(name: &str, source: &str, files: &dyn Files, builtins: &Builtins) -> Result<Policy, Vec<Diagnostic>> {
    let mut reader = Reader::new(name, source);
    let top = reader.parse();
    reader.known_keys(&top, "a policy", &TOP_KEYS);
    let mut lists = Lists::default();
    lists.builtin(builtins);
    lists.read(&mut reader, &top, files);
    let limits = read_limits(&mut reader, &top);
    let mut rules = RuleReader {
        checker: Checker::new(&lists.found),
        limits: &limits,
        used_limits: BTreeSet::new(),
        exempt: HashMap::new(),
        routes: builtins.routes.as_deref(),
    };
    let defaults = read_settings(&mut reader, &top, &mut rules);
    let found = rules.read(&mut reader, &top);
    let used_limits = std::mem::take(&mut rules.used_limits);
    let used_lists = rules.checker.used_lists.clone();
    let program = rules.checker.finish();
    warn_unused(&mut reader, &top, &used_lists, &used_limits);
    reader.findings.extend(lists.findings);
    let (mut errors, warnings): (Vec<_>, Vec<_>) =
        reader.findings.into_iter().partition(|d| d.severity == Severity::Error);
    if !errors.is_empty() {
        errors.sort_by(|a, b| {
            (a.file != name, &a.file, a.line, a.column).cmp(&(b.file != name, &b.file, b.line, b.column))
        });
        return Err(errors);
    }
    let version = fingerprint(source, &lists.contents);
    let local = lists.found.get(Builtins::LOCAL_DOMAINS).cloned();
    let limits = limits.into_iter().map(|l| l.limit).collect();
    Ok(Policy::assemble(name, version, found, program, limits, defaults, lists.files, warnings, local))
}

/// Lists by name, and what was read for them.
#[derive(Default)]
struct Lists {
    found: BTreeMap<String, Arc<List>>,
    files: Vec<String>,
    /// Octets that make the version: builtin entries and list files.
    contents: Vec<Vec<u8>>,
    findings: Vec<Diagnostic>,
}

impl Lists {
    fn builtin(&mut self, builtins: &Builtins) {
        for (name, entries) in &builtins.lists {
            self.contents.push(format!("{name}={entries:?}").into_bytes());
            self.found.insert(name.clone(), Arc::new(List::new(entries.clone(), false)));
        }
    }

    fn read(&mut self, reader: &mut Reader<'_>, top: &Table<'_>, files: &dyn Files) {
        for (key, table) in named_tables(reader, top, "list") {
            let name = key.text.clone();
            if self.found.contains_key(&name) {
                let finding =
                    reader.at(key.span, format!("`@{name}` is a list of the server")).expected("another name");
                reader.report(finding);
                continue;
            }
            reader.known_keys(table, &format!("[list.{name}]"), &LIST_KEYS);
            let list = self.one(reader, &name, table, files);
            self.found.insert(name, Arc::new(list));
        }
    }

    fn one(&mut self, reader: &mut Reader<'_>, name: &str, table: &Table<'_>, files: &dyn Files) -> List {
        let mut entries = Entries::default();
        for kind in [Kind::Networks, Kind::Domains, Kind::Addresses, Kind::Words] {
            for entry in reader.strings(table, kind.word()) {
                if let Err(message) = entries.add(kind, &entry.text) {
                    let finding = reader.inside(&entry, 0..entry.text.len(), message);
                    reader.report(finding);
                }
            }
        }
        let kind = reader.string(table, "kind").and_then(|k| word(reader, &k, Kind::WORDS));
        let paths = reader.strings(table, "file");
        for path in &paths {
            self.file(reader, path, kind, files, &mut entries);
        }
        if paths.is_empty() && LIST_KEYS[1..5].iter().all(|k| !table.contains_key(*k)) {
            let span = table.keys().next().map_or(0..0, |k| k.span());
            let finding = reader.at(span, format!("[list.{name}] has no entries"));
            reader.report(finding.expected("networks, domains, addresses, words or file"));
        }
        List::new(entries, !paths.is_empty())
    }

    fn file(
        &mut self,
        reader: &mut Reader<'_>,
        path: &Located,
        kind: Option<Kind>,
        files: &dyn Files,
        entries: &mut Entries,
    ) {
        if !self.files.contains(&path.text) {
            self.files.push(path.text.clone());
        }
        let text = files.read(&path.text).and_then(|octets| {
            let text = String::from_utf8(octets)
                .map_err(|e| format!("not UTF-8 at octet {}", e.utf8_error().valid_up_to()))?;
            Ok(text)
        });
        match text {
            Ok(text) => {
                entries.read_file(&path.text, &text, kind, &mut self.findings);
                self.contents.push(text.into_bytes());
            }
            Err(e) => {
                let finding = reader.inside(path, 0..path.text.len(), format!("cannot read {}: {e}", path.text));
                reader.report(finding.expected("a readable file"));
            }
        }
    }
}

/// A limit and where its exemption stands.
struct LimitSource {
    limit: Limit,
    exempt: Option<Located>,
}

fn read_limits(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<LimitSource> {
    let mut limits = Vec::new();
    for (key, table) in named_tables(reader, top, "limit") {
        let place = format!("[limit.{}]", key.text);
        reader.known_keys(table, &place, &LIMIT_KEYS);
        if let Some(limit) = read_limit(reader, &key, table) {
            limits.push(limit);
        }
    }
    limits
}

fn read_limit(reader: &mut Reader<'_>, key: &Located, table: &Table<'_>) -> Option<LimitSource> {
    let name = key.text.clone();
    let counts = required(reader, key, table, "counts", Counts::WORDS.join(", "))?;
    let counts: Counts = word(reader, &counts, Counts::WORDS)?;
    let parts = reader.strings(table, "per");
    if parts.is_empty() {
        required(reader, key, table, "per", format!("client, client/24,64, {}", KEY_FACTS.join(", ")));
        return None;
    }
    let per: Vec<KeyPart> = parts.iter().filter_map(|part| read_key_part(reader, part)).collect();
    let bound = read_bound(reader, key, table, counts)?;
    if per.len() != parts.len() {
        return None;
    }
    let key_text = parts.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(" + ");
    let shown = match bound {
        Bound::AtOnce(n) => format!("{n} at once per {key_text}"),
        Bound::Rate(_) => format!("{} per {key_text}", reader.string(table, "rate").map_or(String::new(), |r| r.text)),
    };
    let identity = fingerprint(&format!("{name}|{counts:?}|{key_text}|{bound:?}"), &[]);
    let identity = u64::from_str_radix(&identity[..16], 16).unwrap_or(0);
    let exempt = reader.string(table, "exempt");
    Some(LimitSource { limit: Limit { name, per, counts, bound, shown, identity }, exempt })
}

fn read_key_part(reader: &mut Reader<'_>, part: &Located) -> Option<KeyPart> {
    let found = KeyPart::parse(&part.text);
    if found.is_none() {
        let known = || KEY_FACTS.into_iter().chain(["client"]);
        let finding = reader
            .inside(part, 0..part.text.len(), format!("`{}` is no key of a limit", part.text))
            .expected(format!(
                "client, client/24,64 (IPv4, IPv6 prefix), {}; combine them in an array",
                KEY_FACTS.join(", ")
            ))
            .near(&part.text, known());
        reader.report(finding);
    }
    found
}

fn read_bound(reader: &mut Reader<'_>, key: &Located, table: &Table<'_>, counts: Counts) -> Option<Bound> {
    if counts == Counts::Concurrency {
        for other in ["rate", "burst"] {
            if let Some(v) = table.get(other) {
                let finding =
                    reader.at(v.span(), format!("`{other}` says nothing about concurrency")).expected("`most = 10`");
                reader.report(finding);
            }
        }
        if !table.contains_key("most") {
            required(reader, key, table, "most", "how many at the same time, as in `most = 10`".into());
            return None;
        }
        return reader.integer(table, "most", 1..=1_000_000).map(|n| Bound::AtOnce(n as u32));
    }
    if let Some(v) = table.get("most") {
        let finding = reader.at(v.span(), "`most` is for concurrency").expected("`rate` and `burst`");
        reader.report(finding);
    }
    let expected = "units per period up to 31 days, as in 60/minute, 10/30s, 500MiB/hour";
    let text = required(reader, key, table, "rate", expected.into())?;
    let Some(mut rate) = Rate::parse(&text.text) else {
        let finding =
            reader.inside(&text, 0..text.text.len(), format!("`{}` is no rate", text.text)).expected(expected);
        reader.report(finding);
        return None;
    };
    rate.burst = read_burst(reader, table, rate.burst)?;
    Some(Bound::Rate(rate))
}

/// A number, or a size for limits of octets.
fn read_burst(reader: &mut Reader<'_>, table: &Table<'_>, default: u64) -> Option<u64> {
    let Some(value) = table.get("burst") else { return Some(default) };
    if !value.get_ref().is_str() {
        return reader.integer(table, "burst", 1..=Rate::UNITS_MAX);
    }
    use crate::base::knob::{KnobType, Octets, Raw};
    let text = reader.string(table, "burst")?;
    let size = Octets::parse(&Raw::Text(text.text.clone())).ok().filter(|o| (1..=Rate::UNITS_MAX).contains(&o.0));
    if size.is_none() {
        let finding =
            reader.at(text.span, format!("`{}` is no burst", text.text)).expected("a number or a size such as 50MiB");
        reader.report(finding);
    }
    size.map(|o| o.0)
}

/// Reads rules and the outcomes in settings.
struct RuleReader<'l> {
    checker: Checker<'l>,
    limits: &'l [LimitSource],
    used_limits: BTreeSet<String>,
    /// Exemptions by limit and stage.
    exempt: HashMap<(usize, Stage), Condition>,
    routes: Option<&'l [String]>,
}

impl RuleReader<'_> {
    fn read(&mut self, reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        // Stages whose later rules are never reached, and by which rule.
        let mut closed: HashMap<Stage, String> = HashMap::new();
        for (span, table) in reader.tables(top, "rule").into_iter().take(ITEMS_MAX) {
            reader.known_keys(table, "[[rule]]", &RULE_KEYS);
            let Some((rule, name)) = self.one(reader, span, table) else { continue };
            if rules.iter().any(|r| r.name == rule.name) || matches!(&*rule.name, "default" | "trusted") {
                let finding = reader.at(name.span.clone(), format!("the name `{}` is taken", rule.name));
                reader.report(finding.expected("a name of its own for each rule"));
            }
            if let Some(before) = closed.get(&rule.stage) {
                let message = format!("never tried: `{before}` before it always ends the stage {}", rule.stage.word());
                let finding = reader.at(name.span.clone(), message).warning();
                reader.report(finding);
            }
            if rule.condition.entry == FAILS {
                let finding = reader.at(name.span.clone(), "its condition never holds").warning();
                reader.report(finding);
            }
            if rule.condition.entry == HOLDS && rule.outcomes.iter().any(Outcome::is_final) {
                closed.entry(rule.stage).or_insert_with(|| rule.name.to_string());
            }
            rules.push(rule);
        }
        rules
    }

    fn one(&mut self, reader: &mut Reader<'_>, span: Range<usize>, table: &Table<'_>) -> Option<(Rule, Located)> {
        let here = Located { text: String::new(), span };
        let name = required(reader, &here, table, "name", "a name; it stands in logs and replies to `why`".into());
        let stage = required(reader, &here, table, "stage", Stage::WORDS.join(", "));
        let stage: Option<Stage> = stage.and_then(|s| word(reader, &s, Stage::WORDS));
        let thens = reader.strings(table, "then");
        if thens.is_empty() {
            required(reader, &here, table, "then", WORDS.iter().map(|w| w.word).collect::<Vec<_>>().join(", "));
        }
        let when = reader.string(table, "when");
        let (name, stage) = (name?, stage?);
        let mut condition = Condition::ALWAYS;
        if let Some(when) = when {
            match self.checker.condition(&when.text, stage) {
                Ok(c) => condition = c,
                Err(fault) => report(reader, &when, fault),
            }
        }
        let mut facts = condition.facts;
        let mut outcomes: Vec<Outcome> = Vec::new();
        for then in &thens {
            if outcomes.last().is_some_and(Outcome::is_final) {
                let finding =
                    reader.inside(then, 0..then.text.len(), "never done: the outcome before it ends the stage");
                reader.report(finding.expected("the final outcome last"));
            }
            match self.outcome(&then.text, stage) {
                Ok(outcome) => outcomes.push(outcome),
                Err(fault) => report(reader, then, fault),
            }
        }
        for outcome in &outcomes {
            if let Outcome::Limit(l) = outcome {
                let keys = self.limits[l.limit].limit.per.iter().filter_map(KeyPart::fact);
                keys.for_each(|k| facts.insert(k));
                facts.extend(self.exempt.get(&(l.limit, stage)).map_or(FactSet::EMPTY, |c| c.facts));
            }
        }
        let description = reader.string(table, "description").map(|d| d.text).unwrap_or_default();
        let condition = Condition { entry: condition.entry, facts };
        Some((Rule { name: name.text.as_str().into(), stage, description, condition, outcomes }, name))
    }

    fn outcome(&mut self, text: &str, stage: Stage) -> Result<Outcome, Fault> {
        let routes = self.routes;
        let mut limit = |name: &str| self.limit(name, stage);
        outcome::read(text, &mut Scope { stage, limit: &mut limit, routes })
    }

    /// Finds a limit for a rule at `stage` and compiles its exemption there.
    fn limit(&mut self, name: &str, stage: Stage) -> Result<(usize, u32), Unfit> {
        let unfit = |message: String, expected: String| Unfit { message, expected, suggestion: None };
        let Some(index) = self.limits.iter().position(|l| l.limit.name == name) else {
            let near = nearest(name, self.limits.iter().map(|l| l.limit.name.as_str())).map(str::to_owned);
            let message = format!("there is no limit `{name}`");
            return Err(Unfit {
                message,
                expected: format!("a limit; declare it as [limit.{name}]"),
                suggestion: near,
            });
        };
        let source = &self.limits[index];
        let counts = source.limit.counts;
        if !counts.stages().contains(&stage) {
            let stages = counts.stages().iter().map(|s| s.word()).collect::<Vec<_>>().join(", ");
            let message = format!("`{name}` counts {}, which stage {} does not know", counts.word(), stage.word());
            return Err(unfit(message, format!("a rule at one of the stages {stages}")));
        }
        for id in source.limit.per.iter().filter_map(KeyPart::fact) {
            let row = id.row();
            if !row.known.covers(stage) {
                let message = format!("`{name}` is per {}, which is not known at stage {}", row.name, stage.word());
                return Err(unfit(message, format!("stage {}", row.known.first.word())));
            }
        }
        let exempt = self.exemption(index, stage).map_err(|(message, expected)| unfit(message, expected))?;
        self.used_limits.insert(name.to_owned());
        Ok((index, exempt))
    }

    fn exemption(&mut self, index: usize, stage: Stage) -> Result<u32, (String, String)> {
        if let Some(entry) = self.exempt.get(&(index, stage)) {
            return Ok(entry.entry);
        }
        let source = &self.limits[index];
        let compiled = match &source.exempt {
            None => Condition { entry: FAILS, facts: FactSet::EMPTY },
            Some(text) => {
                // `@list` alone means the client.
                let bare = text.text.starts_with('@') && !text.text.contains(char::is_whitespace);
                let condition = if bare { format!("client in {}", text.text) } else { text.text.clone() };
                self.checker.condition(&condition, stage).map_err(|f| {
                    let near = f.suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
                    (format!("`exempt` of [limit.{}]: {}", source.limit.name, f.message), f.expected + &near)
                })?
            }
        };
        self.exempt.insert((index, stage), compiled);
        Ok(compiled.entry)
    }
}

fn read_settings(reader: &mut Reader<'_>, top: &Table<'_>, rules: &mut RuleReader<'_>) -> Defaults {
    let mut defaults = Defaults::builtin();
    let Some(settings) = reader.table(top, "settings") else { return defaults };
    reader.known_keys(settings, "[settings]", &["default", "description"]);
    let Some(table) = reader.table(settings, "default") else { return defaults };
    reader.known_keys(table, "[settings.default]", Stage::WORDS);
    for stage in Stage::ALL {
        let Some(text) = reader.string(table, stage.word()) else { continue };
        match rules.outcome(&text.text, stage) {
            Ok(Outcome::Accept) if stage == Stage::Rcpt => {
                let message = "accepting every recipient by default would be an open relay";
                let finding = reader.inside(&text, 0..text.text.len(), message);
                reader.report(finding.expected("a refusal; local domains are accepted anyway, others by a rule"));
            }
            Ok(o @ (Outcome::Accept | Outcome::Reject(_) | Outcome::Defer(_) | Outcome::Drop(_))) => {
                defaults.set(stage, o)
            }
            Ok(_) => {
                let finding = reader.inside(&text, 0..text.text.len(), "this cannot be a default");
                reader.report(finding.expected("accept, reject, defer or drop"));
            }
            Err(fault) => report(reader, &text, fault),
        }
    }
    defaults
}

fn warn_unused(reader: &mut Reader<'_>, top: &Table<'_>, lists: &BTreeSet<String>, limits: &BTreeSet<String>) {
    for (key, used, what) in [("list", lists, "list"), ("limit", limits, "limit")] {
        let Some(table) = top.get(key).and_then(|t| t.get_ref().as_table()) else { continue };
        for name in table.keys().filter(|n| !used.contains(n.get_ref().as_ref())) {
            let message = format!("no rule uses the {what} `{}`", name.get_ref());
            let finding = reader.at(name.span(), message).warning();
            reader.report(finding);
        }
    }
}

/// The tables `[key.NAME]`, with their names.
fn named_tables<'t, 'x>(reader: &mut Reader<'_>, top: &'t Table<'x>, key: &str) -> Vec<(Located, &'t Table<'x>)> {
    let Some(table) = reader.table(top, key) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in table.iter() {
        let place = Located { text: name.get_ref().to_string(), span: name.span() };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if place.text.is_empty() || !place.text.chars().all(letters) {
            let finding = reader.at(name.span(), format!("`{}` cannot be a name", place.text));
            reader.report(finding.expected("letters, digits, `-` and `_`"));
        }
        match value.get_ref().as_table() {
            Some(t) => found.push((place, t)),
            None => {
                reader.wrong_type(value, name.get_ref(), &format!("a table [{key}.NAME]"), value.get_ref().type_str())
            }
        }
    }
    found.truncate(ITEMS_MAX);
    found
}

fn required(
    reader: &mut Reader<'_>,
    place: &Located,
    table: &Table<'_>,
    key: &str,
    expected: String,
) -> Option<Located> {
    if !table.contains_key(key) {
        // The first line of a table is enough to find it.
        let end = reader.text[place.span.start..].find('\n').map_or(place.span.end, |i| place.span.start + i);
        let span = place.span.start..place.span.end.min(end);
        let finding = reader.at(span, format!("`{key}` is missing")).expected(expected);
        reader.report(finding);
        return None;
    }
    reader.string(table, key)
}

/// One of the words of an enum.
fn word<T: std::str::FromStr>(reader: &mut Reader<'_>, text: &Located, words: &[&str]) -> Option<T> {
    match text.text.parse() {
        Ok(value) => Some(value),
        Err(_) => {
            let finding = reader
                .inside(text, 0..text.text.len(), format!("unknown word `{}`", text.text))
                .expected(words.join(", "))
                .near(&text.text, words.iter().copied());
            reader.report(finding);
            None
        }
    }
}

fn report(reader: &mut Reader<'_>, text: &Located, fault: Fault) {
    let mut finding = reader.inside(text, fault.span, fault.message).expected(fault.expected);
    finding.suggestion = fault.suggestion;
    reader.report(finding);
}
