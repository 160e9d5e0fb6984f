//! The trace of decisions: every rule that was tried, what its parts evaluated to, and what it did.
//!
//! Recorded only when somebody asked; see [`super::Session::explain`]. How it fails: it does not.

use super::program::{Atom, Observer, Tri};
use super::rules::Policy;
use super::stage::Stage;
use super::state::View;
use serde::Serialize;
use std::fmt;

/// Stages of a session in the order they were decided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trace {
    /// One entry per decision.
    pub stages: Vec<StageTrace>,
}

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub struct StageTrace {
    /// The stage.
    pub stage: &'static str,
    /// Rules in the order they were tried.
    pub rules: Vec<RuleTrace>,
    /// The rule that decided, or `default`.
    pub decided_by: String,
    /// `accept`, `reject`, …
    pub verdict: String,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleTrace {
    /// Its name.
    pub rule: String,
    /// Whether its condition held.
    pub matched: bool,
    /// Parts of its condition that were evaluated; parts that could not change the result are not there.
    pub parts: Vec<Part>,
    /// What it did.
    pub effects: Vec<String>,
}

/// One part of a condition.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// As it stands in the policy file.
    pub text: String,
    /// The value it asked about.
    pub value: String,
    /// `true`, `false` or `unknown`; of the part itself, a `not` around it aside.
    pub answer: &'static str,
}

/// Records one stage.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pending: Vec<Part>,
    rules: Vec<(usize, RuleTrace)>,
}

impl Observer for Recorder {
    fn asked(&mut self, atom: &Atom, _negate: bool, answer: Tri, view: &View<'_>) {
        let answer = match answer {
            Tri::No => "false",
            Tri::Yes => "true",
            Tri::Unknown => "unknown",
        };
        let value = atom.operand.with(view, |v| v.to_string());
        self.pending.push(Part { text: atom.text.to_string(), value, answer });
    }
    fn tried(&mut self, rule: usize, matched: bool) {
        let parts = std::mem::take(&mut self.pending);
        self.rules.push((rule, RuleTrace { rule: String::new(), matched, parts, effects: Vec::new() }));
    }
    fn effect(&mut self, what: impl FnOnce() -> String) {
        if let Some((_, last)) = self.rules.last_mut() {
            // Parts asked since the rule was tried belong to the exemption of its limit.
            last.parts.append(&mut self.pending);
            last.effects.push(what());
        }
    }
}

impl Recorder {
    /// Makes the entry.
    pub(super) fn finish(self, policy: &Policy, stage: Stage, decided_by: &str, verdict: &str) -> StageTrace {
        let name = |(i, mut t): (usize, RuleTrace)| {
            t.rule = policy.rules().get(i).map_or_else(String::new, |r| r.name.to_string());
            t
        };
        StageTrace {
            stage: stage.word(),
            rules: self.rules.into_iter().map(name).collect(),
            decided_by: decided_by.to_owned(),
            verdict: verdict.to_owned(),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{}: {} by {}", stage.stage, stage.verdict, stage.decided_by)?;
            for rule in &stage.rules {
                writeln!(f, "  {} {}", if rule.matched { "+" } else { "-" }, rule.rule)?;
                for part in &rule.parts {
                    writeln!(f, "      {:<8}{}   ({})", part.answer, part.text, part.value)?;
                }
                for effect in &rule.effects {
                    writeln!(f, "      => {effect}")?;
                }
            }
        }
        Ok(())
    }
}
