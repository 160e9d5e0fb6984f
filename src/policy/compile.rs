//! From a policy file to a [`Policy`].
//!
//! How it fails: with every finding of the file and its lists at once; nothing half right is ever returned.

use super::check::{Checker, Condition, Names};
use super::diagnostic::{Diagnostic, Severity, nearest};
use super::dnsbl::Dnsbl;
use super::facts::FactSet;
use super::greylist::{DEFAULT_NAME, Greylist};
use super::inventory::Inventory;
use super::lexer::Fault;
use super::limit::KeyPart;
use super::limit_source::{LimitSource, read_limits};
use super::list::{Entries, Kind, List};
use super::mode::Practice;
use super::outcome::{self, Finds, Outcome, Scope, Unfit, WORDS};
use super::program::{FAILS, Operand};
use super::reputation;
use super::rules::{Builtins, Defaults, Extras, Files, Policy, Rule, fingerprint};
use super::source::{Located, Reader, Table};
use super::stage::Stage;
use super::threshold;
use super::value::Type;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Rules, lists and limits of one policy at most; far beyond what a person can keep in mind.
const ITEMS_MAX: usize = 10_000;

/// Keys of the file, for messages and the schema.
pub const TOP_KEYS: [&str; 8] = ["settings", "list", "dnsbl", "limit", "greylist", "reputation", "threshold", "rule"];
/// Keys of `[list.NAME]`.
pub const LIST_KEYS: [&str; 7] = ["description", "networks", "domains", "addresses", "words", "file", "kind"];
/// Keys of `[limit.NAME]`.
pub const LIMIT_KEYS: [&str; 7] = ["description", "per", "rate", "burst", "most", "counts", "exempt"];
/// Keys of `[[rule]]`.
pub const RULE_KEYS: [&str; 7] = ["name", "description", "stage", "when", "then", "mode", "guard"];

/// Compiles `source`; see [`Policy::compile`].
pub fn compile(name: &str, source: &str, files: &dyn Files, builtins: &Builtins) -> Result<Policy, Vec<Diagnostic>> {
    let mut reader = Reader::new(name, source);
    let top = reader.parse();
    reader.known_keys(&top, "a policy", &TOP_KEYS);
    let mut lists = Lists::default();
    lists.builtin(builtins);
    lists.read(&mut reader, &top, files);
    let tables = named_tables(&mut reader, &top, "dnsbl");
    let dnsbls = Dnsbl::read(&mut reader, tables);
    let limits = read_limits(&mut reader, &top);
    let greylists = read_greylists(&mut reader, &top);
    let reputation = reputation::Settings::read(&mut reader, &top);
    let names = Names { dnsbls: &dnsbls, helpers: builtins.helpers.as_deref(), limits: &limits };
    let mut rules = RuleReader {
        checker: Checker::new(&lists.found, names),
        limits: &limits,
        greylists,
        used_limits: BTreeSet::new(),
        used_greylists: BTreeSet::new(),
        facts: FactSet::EMPTY,
        entries: Vec::new(),
        exempt: HashMap::new(),
        routes: builtins.routes.as_deref(),
        helpers: builtins.helpers.as_deref(),
    };
    let defaults = read_settings(&mut reader, &top, &mut rules);
    let found = rules.read(&mut reader, &top);
    let thresholds = threshold::read(&mut reader, &top, &mut rules);
    let asks_score = found.iter().any(|rule| rule.condition.facts.names().any(|name| name.starts_with("score")));
    threshold::lint(&mut reader, &top, &thresholds, &found, asks_score);
    let used_limits = std::mem::take(&mut rules.used_limits);
    let used_greylists = std::mem::take(&mut rules.used_greylists);
    let greylists = std::mem::take(&mut rules.greylists).into_iter().map(|(greylist, _)| greylist).collect();
    let entries = std::mem::take(&mut rules.entries);
    let used_lists = rules.checker.used_lists.clone();
    let used_dnsbls = rules.checker.used_dnsbls.clone();
    let program = rules.checker.finish();
    let used = [("list", &used_lists), ("limit", &used_limits), ("dnsbl", &used_dnsbls), ("greylist", &used_greylists)];
    warn_unused(&mut reader, &top, &used);
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
    let inventory = Inventory::new(source, &lists.found);
    let mut policy =
        Policy::assemble(name, version, found, program, limits, defaults, lists.files, warnings, local, dnsbls);
    policy.inventory = inventory;
    Ok(policy.with_extras(Extras { greylists, reputation, thresholds, entries }))
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

/// Reads `[greylist.NAME]`, each with its exemption.
fn read_greylists(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<(Greylist, Option<Located>)> {
    let tables = named_tables(reader, top, "greylist");
    tables.into_iter().filter_map(|(key, table)| Greylist::read(reader, &key.text, table)).collect()
}

/// Reads rules and the outcomes in settings.
pub struct RuleReader<'l> {
    checker: Checker<'l>,
    limits: &'l [LimitSource],
    greylists: Vec<(Greylist, Option<Located>)>,
    used_limits: BTreeSet<String>,
    used_greylists: BTreeSet<String>,
    /// Exemptions by what has them, its index and the stage.
    exempt: HashMap<(&'static str, usize, Stage), Condition>,
    /// Facts that the outcomes being read may ask for.
    facts: FactSet,
    /// First steps of conditions that do not belong to rules, by stage.
    entries: Vec<(Stage, u32)>,
    routes: Option<&'l [String]>,
    helpers: Option<&'l [String]>,
}

impl RuleReader<'_> {
    fn read(&mut self, reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        // Stages whose later rules are never reached, and by which rule.
        let mut closed: HashMap<Stage, String> = HashMap::new();
        for (span, table) in reader.tables(top, "rule").into_iter().take(ITEMS_MAX) {
            reader.known_keys(table, "[[rule]]", &RULE_KEYS);
            let Some((rule, name)) = self.one(reader, span, table) else { continue };
            if rules.iter().any(|r| r.name == rule.name)
                || matches!(&*rule.name, "default" | "trusted")
                || rule.name.starts_with("threshold.")
            {
                let finding = reader.at(name.span.clone(), format!("the name `{}` is taken", rule.name));
                reader.report(finding.expected("a name of its own for each rule"));
            }
            if let Some(before) = closed.get(&rule.stage) {
                let message = format!("never tried: `{before}` before it always ends the stage {}", rule.stage.word());
                let finding = reader.at(name.span.clone(), message).warning().code("shadowed-rule");
                reader.report(finding);
            }
            if rule.condition.entry == FAILS {
                let finding = reader.at(name.span.clone(), "its condition never holds").warning().code("never-matches");
                reader.report(finding);
            }
            if rule.always_ends() {
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
        let when_text = when.as_ref().map(|when| when.text.clone());
        if let Some(when) = when {
            match self.checker.condition(&when.text, stage) {
                Ok(c) => condition = c,
                Err(fault) => report(reader, &when, fault),
            }
        }
        self.facts = condition.facts;
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
                keys.for_each(|k| self.facts.insert(k));
            }
        }
        let practice = self.practice(reader, &name.text, table, stage);
        let facts = self.facts;
        let description = reader.string(table, "description").map(|d| d.text).unwrap_or_default();
        let condition = Condition { entry: condition.entry, facts };
        let then = thens.into_iter().map(|then| then.text).collect();
        let when = when_text.unwrap_or_default();
        let name_text = name.text.as_str().into();
        Some((Rule { name: name_text, stage, description, when, then, condition, outcomes, practice }, name))
    }

    /// Reads an outcome of a rule at `stage`.
    pub fn outcome(&mut self, text: &str, stage: Stage) -> Result<Outcome, Fault> {
        let (routes, helpers) = (self.routes, self.helpers);
        outcome::read(text, &mut Scope { stage, finds: &mut AtStage(self, stage), routes, helpers })
    }

    /// Reads `mode` and `guard` of a rule or of thresholds at `stage`.
    pub fn practice(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        table: &Table<'_>,
        stage: Stage,
    ) -> Option<Box<Practice>> {
        let source = Practice::read(reader, name, table)?;
        let mut practice = source.practice;
        if let (Some(guard), Some(of)) = (&mut practice.guard, source.of) {
            match self.checker.condition(&of.text, stage) {
                Ok(condition) => {
                    guard.of = condition.entry;
                    self.also(stage, condition);
                }
                Err(fault) => report(reader, &of, fault),
            }
        }
        Some(Box::new(practice))
    }

    /// Facts that what was read since may ask for, to be added to those of the stage.
    pub fn take_facts(&mut self) -> FactSet {
        std::mem::take(&mut self.facts)
    }

    fn also(&mut self, stage: Stage, condition: Condition) {
        self.facts.extend(condition.facts);
        self.entries.push((stage, condition.entry));
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
        let text = source.exempt.clone();
        let exempt = self.exemption("limit", name, index, text, stage).map_err(|(m, expected)| unfit(m, expected))?;
        self.used_limits.insert(name.to_owned());
        Ok((index, exempt))
    }

    /// Finds a greylist for an outcome at `stage`.
    fn greylist(&mut self, name: &str, stage: Stage) -> Result<(usize, u32), Unfit> {
        let unfit = |message: String, expected: String| Unfit { message, expected, suggestion: None };
        if name == DEFAULT_NAME && !self.greylists.iter().any(|(g, _)| &*g.name == name) {
            self.greylists.push((Greylist::builtin(), None));
        }
        let Some(index) = self.greylists.iter().position(|(g, _)| &*g.name == name) else {
            let near = nearest(name, self.greylists.iter().map(|(g, _)| &*g.name)).map(str::to_owned);
            let (message, expected) =
                (format!("there is no greylist `{name}`"), format!("declare it as [greylist.{name}]"));
            return Err(Unfit { message, expected, suggestion: near });
        };
        let (greylist, exempt) = &self.greylists[index];
        if let Some((fact, first)) = greylist.unknown_at(stage) {
            let message = format!("[greylist.{name}] is per {fact}, which is not known at stage {}", stage.word());
            return Err(unfit(message, format!("stage {}, or another `per`", first.word())));
        }
        for fact in greylist.facts() {
            self.facts.insert(fact);
        }
        let text = exempt.clone();
        let exempt =
            self.exemption("greylist", name, index, text, stage).map_err(|(m, expected)| unfit(m, expected))?;
        self.used_greylists.insert(name.to_owned());
        Ok((index, exempt))
    }

    /// A fact or function that is a number at `stage`; whether it is kept in thousandths.
    fn number(&mut self, text: &str, stage: Stage) -> Result<(Operand, bool), Unfit> {
        let unfit =
            |fault: Fault| Unfit { message: fault.message, expected: fault.expected, suggestion: fault.suggestion };
        // As a condition it is known to whoever wants to know what a stage may ask for.
        let condition = self.checker.condition(&format!("{text} is known"), stage).map_err(unfit)?;
        self.also(stage, condition);
        let (operand, kind) = self.checker.operand(text, stage).map_err(unfit)?;
        match kind {
            Type::Score => Ok((operand, true)),
            Type::Number => Ok((operand, false)),
            _ => Err(Unfit {
                message: format!("`{text}` is no number of points"),
                expected: "a fact or function that is a number or score".into(),
                suggestion: None,
            }),
        }
    }

    fn exemption(
        &mut self,
        what: &'static str,
        name: &str,
        index: usize,
        text: Option<Located>,
        stage: Stage,
    ) -> Result<u32, (String, String)> {
        if let Some(known) = self.exempt.get(&(what, index, stage)) {
            self.facts.extend(known.facts);
            return Ok(known.entry);
        }
        let compiled = match &text {
            None => Condition { entry: FAILS, facts: FactSet::EMPTY },
            Some(text) => {
                // `@list` alone means the client.
                let bare = text.text.starts_with('@') && !text.text.contains(char::is_whitespace);
                let condition = if bare { format!("client in {}", text.text) } else { text.text.clone() };
                self.checker.condition(&condition, stage).map_err(|f| {
                    let near = f.suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
                    (format!("`exempt` of [{what}.{name}]: {}", f.message), f.expected + &near)
                })?
            }
        };
        self.exempt.insert((what, index, stage), compiled);
        self.also(stage, compiled);
        Ok(compiled.entry)
    }
}

/// What outcomes name, at one stage.
struct AtStage<'r, 'l>(&'r mut RuleReader<'l>, Stage);

impl Finds for AtStage<'_, '_> {
    fn limit(&mut self, name: &str) -> Result<(usize, u32), Unfit> {
        self.0.limit(name, self.1)
    }
    fn greylist(&mut self, name: &str) -> Result<(usize, u32), Unfit> {
        self.0.greylist(name, self.1)
    }
    fn number(&mut self, text: &str) -> Result<(Operand, bool), Unfit> {
        self.0.number(text, self.1)
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

fn warn_unused(reader: &mut Reader<'_>, top: &Table<'_>, sections: &[(&str, &BTreeSet<String>)]) {
    for (key, used) in sections {
        let Some(table) = top.get(*key).and_then(|t| t.get_ref().as_table()) else { continue };
        for name in table.keys().filter(|n| !used.contains(n.get_ref().as_ref())) {
            let message = format!("no rule uses the {key} `{}`", name.get_ref());
            let code = match *key {
                "list" => "unused-list",
                "limit" => "unused-limit",
                _ => "unused-section",
            };
            let finding = reader.at(name.span(), message).warning().code(code);
            reader.report(finding);
        }
    }
}

/// The tables `[key.NAME]`, with their names.
pub fn named_tables<'t, 'x>(reader: &mut Reader<'_>, top: &'t Table<'x>, key: &str) -> Vec<(Located, &'t Table<'x>)> {
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

/// The string under `key`, which must be there.
pub fn required(
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
pub fn word<T: std::str::FromStr>(reader: &mut Reader<'_>, text: &Located, words: &[&str]) -> Option<T> {
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
