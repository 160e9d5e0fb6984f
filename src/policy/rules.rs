//! A compiled policy: rules by stage, their program, limits and defaults. Immutable; shared by all cores in an `Arc`.
//!
//! How it fails: [`Policy::compile`] returns every finding; a policy that exists is right.

use super::check::Condition;
use super::compile;
use super::diagnostic::Diagnostic;
use super::facts::FactSet;
use super::limit::Limit;
use super::list::{Entries, Kind, List};
use super::outcome::{Outcome, default_reply};
use super::program::Program;
use super::stage::Stage;
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
    /// When it applies.
    pub condition: Condition,
    /// What it does, in order.
    pub outcomes: Vec<Outcome>,
}

/// Which rule decided. Names come from [`Policy::rule_name`], so that no decision copies one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub(super) u32);

impl RuleId {
    /// No rule: the default of the stage.
    pub const DEFAULT: RuleId = RuleId(u32::MAX);
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
    files: Vec<String>,
    warnings: Vec<Diagnostic>,
    header_names: Vec<Box<str>>,
    pub(super) program: Program,
    pub(super) limits: Vec<Limit>,
    pub(super) defaults: Defaults,
    pub(super) local: Option<Arc<List>>,
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
    ) -> Policy {
        let mut by_stage: [Vec<Trial>; Stage::COUNT] = Default::default();
        let mut needs = [FactSet::EMPTY; Stage::COUNT];
        for (i, rule) in rules.iter().enumerate() {
            let entry = rule.condition.entry;
            by_stage[rule.stage.index()].push(Trial { rule: i as u32, entry, guard: program.guard(entry) });
            needs[rule.stage.index()].extend(rule.condition.facts);
        }
        let name = name.to_owned();
        let header_names = program.header_names();
        Policy {
            name,
            version,
            rules,
            by_stage,
            needs,
            files,
            warnings,
            header_names,
            program,
            limits,
            defaults,
            local,
        }
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
        self.rules.get(id.0 as usize).map_or("default", |r| &r.name)
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
