//! A compiled policy: rules by stage, their program, limits and defaults. Immutable; shared by all cores in an `Arc`.
//!
//! How it fails: [`Policy::compile`] returns every finding; a policy that exists is right.

use super::check::Condition;
use super::compile;
use super::diagnostic::Diagnostic;
use super::dnsbl::Dnsbl;
use super::facts::FactSet;
use super::greylist::Greylist;
use super::limit::Limit;
use super::list::{Entries, Kind, List};
use super::mode::Practice;
use super::outcome::{Outcome, default_reply};
use super::program::{HOLDS, Program};
use super::reputation;
use super::stage::Stage;
use super::tally::{LimitCounts, RuleCounts, Tally};
use super::threshold::{STAGES, Step, Thresholds};
use crate::wire::reply::{Enhanced, Reply};
use std::sync::Arc;

/// Reads the files that lists name. The paths are as they stand in the policy file.
pub trait Files {
    /// The octets of the file, or why they cannot be had.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// For policies without list files: every file is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("this policy is compiled without files".into())
    }
}

/// What the server adds to a policy: lists made from its configuration, and the routes there are.
#[derive(Clone, Debug, Default)]
pub struct Builtins {
    pub(super) lists: Vec<(String, Entries)>,
    pub(super) routes: Option<Vec<String>>,
    pub(super) helpers: Option<Vec<String>>,
}

impl Builtins {
    /// The list of domains we receive mail for.
    pub const LOCAL_DOMAINS: &str = "local-domains";
    /// The list of this machine's own addresses.
    pub const LOOPBACK: &str = "loopback";

    /// `@local-domains` from the configuration, and `@loopback`. The error names the domain that is none.
    pub fn new<S: AsRef<str>>(local_domains: impl IntoIterator<Item = S>) -> Result<Builtins, String> {
        let domains = local_domains.into_iter().map(|d| (Kind::Domains, d));
        let loopback = [(Kind::Networks, "127.0.0.0/8"), (Kind::Networks, "::1")];
        Builtins::default().with_list(Self::LOCAL_DOMAINS, domains)?.with_list(Self::LOOPBACK, loopback)
    }
    /// Adds a list.
    pub fn with_list<S: AsRef<str>>(
        mut self,
        name: &str,
        entries: impl IntoIterator<Item = (Kind, S)>,
    ) -> Result<Builtins, String> {
        let mut list = Entries::default();
        for (kind, entry) in entries {
            list.add(kind, entry.as_ref())?;
        }
        self.lists.push((name.to_owned(), list));
        Ok(self)
    }
    /// Says which helpers there are, so that `helper('NAME')` and `obey NAME` are checked.
    pub fn with_helpers(mut self, helpers: impl IntoIterator<Item = String>) -> Builtins {
        self.helpers = Some(helpers.into_iter().collect());
        self
    }
    /// Says which routes there are, so that `route NAME` is checked.
    pub fn with_routes(mut self, routes: impl IntoIterator<Item = String>) -> Builtins {
        self.routes = Some(routes.into_iter().collect());
        self
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as decisions and logs carry it.
    pub name: Box<str>,
    /// When it is tried.
    pub stage: Stage,
    /// For people.
    pub description: String,
    /// `when` as it stands in the file; empty = always.
    pub when: String,
    /// `then` as it stands in the file.
    pub then: Vec<String>,
    /// When it applies.
    pub condition: Condition,
    /// What it does, in order.
    pub outcomes: Vec<Outcome>,
    /// How it is practised; it simply acts when there is nothing.
    pub practice: Option<Box<Practice>>,
}

impl Rule {
    /// Whether no rule behind it is ever tried.
    pub fn always_ends(&self) -> bool {
        self.condition.entry == HOLDS && self.practice.is_none() && self.outcomes.iter().any(Outcome::is_final)
    }
}

/// Which rule decided. Names come from [`Policy::rule_name`], so that no decision copies one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub(super) u32);

impl RuleId {
    /// No rule: the default of the stage.
    pub const DEFAULT: RuleId = RuleId(u32::MAX);

    /// The thresholds of a stage.
    pub(super) fn threshold(stage: Stage) -> RuleId {
        RuleId(u32::MAX - 1 - stage.index() as u32)
    }
    fn threshold_name(self) -> Option<&'static str> {
        const NAMES: [&str; STAGES.len()] = [
            "threshold.connect",
            "threshold.helo",
            "threshold.auth",
            "threshold.mail",
            "threshold.rcpt",
            "threshold.data",
            "threshold.message",
        ];
        STAGES.into_iter().position(|stage| RuleId::threshold(stage) == self).map(|i| NAMES[i])
    }
}

/// What a policy has beside rules, lists and limits.
pub(super) struct Extras {
    pub greylists: Vec<Greylist>,
    pub reputation: Option<reputation::Settings>,
    pub thresholds: Vec<(Stage, Thresholds)>,
    /// First steps of conditions that do not belong to rules.
    pub entries: Vec<(Stage, u32)>,
}

/// What happens when no rule ends a stage.
#[derive(Debug)]
pub struct Defaults([Outcome; Stage::COUNT]);

impl Defaults {
    /// Accept, but: recipients of foreign domains are refused, VRFY and EXPN are answered 252.
    pub fn builtin() -> Defaults {
        Defaults(Stage::ALL.map(|stage| match stage {
            // RFC 5321 §3.6.2, RFC 3463 §3.8: not permitted, a matter of policy.
            Stage::Rcpt => Outcome::Reject(Arc::new(Reply::new(550, Some(Enhanced(5, 7, 1)), "Relaying denied"))),
            Stage::Vrfy => Outcome::Reject(Arc::new(default_reply(Stage::Vrfy, 5))),
            _ => Outcome::Accept,
        }))
    }
    pub(super) fn set(&mut self, stage: Stage, outcome: Outcome) {
        self.0[stage.index()] = outcome;
    }
    pub(super) fn of(&self, stage: Stage) -> &Outcome {
        &self.0[stage.index()]
    }
}

/// What a pass needs of a rule until its condition holds, close together in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// Index of the rule.
    pub rule: u32,
    /// First step of its condition.
    pub entry: u32,
    /// A gate that must be open for it to hold.
    pub guard: Option<u16>,
}

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    name: String,
    version: String,
    rules: Vec<Rule>,
    by_stage: [Vec<Trial>; Stage::COUNT],
    needs: [FactSet; Stage::COUNT],
    /// Whether rules of the stage can need something that must be found out.
    asks: [bool; Stage::COUNT],
    files: Vec<String>,
    warnings: Vec<Diagnostic>,
    header_names: Vec<Box<str>>,
    pub(super) program: Program,
    pub(super) limits: Vec<Limit>,
    pub(super) defaults: Defaults,
    pub(super) local: Option<Arc<List>>,
    pub(super) greylists: Vec<Greylist>,
    pub(super) thresholds: [Option<Box<Thresholds>>; Stage::COUNT],
    /// How history is kept, when a rule asks for it or the file says so.
    pub(super) reputation: Option<reputation::Settings>,
    /// Rules with a guard, by stage; thresholds with one have an index beyond the rules.
    pub(super) guarded: [Vec<RuleId>; Stage::COUNT],
    /// Limits whose use some condition asks for, by stage.
    pub(super) asked_limits: [Vec<(Arc<str>, usize)>; Stage::COUNT],
    /// Whether conditions at a stage ask for the reputation of the sender's domain.
    pub(super) asks_domain: [bool; Stage::COUNT],
    pub(super) tally: Tally,
    /// The version as a number.
    pub(super) number: u64,
    /// Lists in the DNS.
    pub(super) dnsbls: Vec<Dnsbl>,
    pub(super) inventory: super::inventory::Inventory,
}

impl Policy {
    /// The default policy, for a start without configuration.
    pub const DEFAULT: &str = include_str!("../../policy/edge.toml");

    /// Compiles the policy file `source`; `name` stands in messages.
    pub fn compile(
        name: &str,
        source: &str,
        files: &dyn Files,
        builtins: &Builtins,
    ) -> Result<Policy, Vec<Diagnostic>> {
        compile::compile(name, source, files, builtins)
    }

    #[allow(clippy::too_many_arguments)] // the one maker, called once
    pub(super) fn assemble(
        name: &str,
        version: String,
        rules: Vec<Rule>,
        program: Program,
        limits: Vec<Limit>,
        defaults: Defaults,
        files: Vec<String>,
        warnings: Vec<Diagnostic>,
        local: Option<Arc<List>>,
        dnsbls: Vec<Dnsbl>,
    ) -> Policy {
        let mut by_stage: [Vec<Trial>; Stage::COUNT] = Default::default();
        let mut needs = [FactSet::EMPTY; Stage::COUNT];
        let mut asks = [false; Stage::COUNT];
        for (i, rule) in rules.iter().enumerate() {
            let entry = rule.condition.entry;
            by_stage[rule.stage.index()].push(Trial { rule: i as u32, entry, guard: program.guard(entry) });
            needs[rule.stage.index()].extend(rule.condition.facts);
            asks[rule.stage.index()] |= super::walk::asks(rule, &program, &limits);
        }
        let name = name.to_owned();
        let header_names = program.header_names();
        let tally = Tally::new(rules.len(), limits.len());
        let number = u64::from_str_radix(version.get(..16).unwrap_or_default(), 16).unwrap_or(0);
        Policy {
            name,
            version,
            rules,
            by_stage,
            needs,
            asks,
            files,
            warnings,
            header_names,
            program,
            limits,
            defaults,
            local,
            greylists: Vec::new(),
            thresholds: Default::default(),
            reputation: None,
            guarded: Default::default(),
            asked_limits: Default::default(),
            asks_domain: Default::default(),
            tally,
            number,
            dnsbls,
            inventory: Default::default(),
        }
    }

    /// Adds what the file has beside rules, lists and limits.
    pub(super) fn with_extras(mut self, extras: Extras) -> Policy {
        self.greylists = extras.greylists;
        for (stage, thresholds) in extras.thresholds {
            self.needs[stage.index()].extend(thresholds.facts);
            self.thresholds[stage.index()] = Some(Box::new(thresholds));
        }
        let history = |set: &FactSet| set.names().any(|n| n.starts_with("reputation.") || n == "client.seen");
        let asked = self.needs.iter().any(history);
        self.reputation = extras.reputation.or_else(|| asked.then(reputation::Settings::builtin));
        for stage in Stage::ALL {
            let i = stage.index();
            self.asks_domain[i] = self.needs[i].contains("reputation.domain");
            let guards = self.rules.iter().filter(|rule| rule.stage == stage).filter_map(|rule| rule.practice.as_ref());
            let guards = guards.filter_map(|practice| practice.guard.as_ref()).any(|guard| self.program.asks(guard.of));
            let greylists = |t: &Thresholds| t.steps.iter().any(|(_, step)| matches!(step, Step::Greylist(_)));
            self.asks[i] |= guards || self.thresholds[i].as_deref().is_some_and(greylists);
            let guarded = |practice: &Option<Box<Practice>>| practice.as_ref().is_some_and(|p| p.guard.is_some());
            let rules =
                self.rules.iter().enumerate().filter(|(_, rule)| rule.stage == stage && guarded(&rule.practice));
            self.guarded[i] = rules.map(|(i, _)| RuleId(i as u32)).collect();
            if self.thresholds[i].as_ref().is_some_and(|t| guarded(&t.practice)) {
                self.guarded[i].push(RuleId::threshold(stage));
            }
            let own = self.by_stage[i].iter().map(|trial| trial.entry);
            let others = extras.entries.iter().filter(|(at, _)| *at == stage).map(|(_, entry)| *entry);
            let mut names: Vec<Box<str>> = Vec::new();
            for entry in own.chain(others) {
                self.program.calls(entry, "limit_used", &mut names);
            }
            self.asked_limits[i] = names
                .into_iter()
                .filter_map(|name| Some((Arc::from(&*name), self.limits.iter().position(|l| l.name == *name)?)))
                .collect();
        }
        self
    }

    /// Whether the name is that of thresholds.
    pub(super) fn is_threshold(&self, id: RuleId) -> bool {
        id.threshold_name().is_some()
    }

    /// How the rule, or the thresholds, are practised.
    pub(super) fn practice(&self, id: RuleId) -> Option<&Practice> {
        match self.rules.get(id.0 as usize) {
            Some(rule) => rule.practice.as_deref(),
            None => {
                let stage = STAGES.into_iter().find(|stage| RuleId::threshold(*stage) == id)?;
                self.thresholds[stage.index()].as_ref()?.practice.as_deref()
            }
        }
    }

    /// What each rule has done since the policy was loaded, in the order of the file.
    pub fn rule_counts(&self) -> impl Iterator<Item = (&str, RuleCounts)> {
        self.rules.iter().enumerate().map(|(i, rule)| (&*rule.name, self.tally.rule(i)))
    }
    /// What each limit has done since the policy was loaded; the peaks are those since the last call.
    pub fn limit_counts(&self) -> impl Iterator<Item = (&str, LimitCounts)> {
        self.limits.iter().enumerate().map(|(i, limit)| (limit.name.as_str(), self.tally.limit(i)))
    }

    /// As it was named to [`Policy::compile`].
    pub fn name(&self) -> &str {
        &self.name
    }
    /// A fingerprint of the file, its list files and the builtin lists.
    pub fn version(&self) -> &str {
        &self.version
    }
    /// What is probably not meant so, though it is valid.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
    /// Files of lists: when one changes, compile again.
    pub fn files(&self) -> &[String] {
        &self.files
    }
    /// Facts that any rule of `stage` may ask for. `.lookups()` of it is what must be looked up before.
    pub fn needs(&self, stage: Stage) -> FactSet {
        self.needs[stage.index()]
    }
    /// Header fields whose text some rule reads.
    pub fn header_names(&self) -> &[Box<str>] {
        &self.header_names
    }
    /// Every rule, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
    /// The name of the rule, or `default`.
    pub fn rule_name(&self, id: RuleId) -> &str {
        match self.rules.get(id.0 as usize) {
            Some(rule) => &rule.name,
            None => id.threshold_name().unwrap_or("default"),
        }
    }
    /// Whether rules of `stage` can need something that must be found out.
    pub fn asks(&self, stage: Stage) -> bool {
        self.asks[stage.index()]
    }
    /// Whether any rule can.
    pub fn asks_anything(&self) -> bool {
        self.asks.contains(&true)
    }
    pub(super) fn at(&self, stage: Stage) -> &[Trial] {
        &self.by_stage[stage.index()]
    }
}

/// SHA-256 over `source` and the parts, each with its length, as hexadecimal digits (half of them are plenty).
pub(super) fn fingerprint(source: &str, parts: &[Vec<u8>]) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in std::iter::once(source.as_bytes()).chain(parts.iter().map(Vec::as_slice)) {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finish().as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect()
}
