//! Thresholds: what the score of a session has as effect at a stage whose rules have not ended it.
//!
//! ```toml
//! [threshold.rcpt]
//! observe = 2      # written down, nothing else
//! tag = 4          # a header field says the score
//! greylist = 6
//! defer = 8
//! reject = 12
//! ```
//!
//! How it fails: reading reports what is wrong with its place; a threshold that no combination of rules reaches is a
//! warning.

use super::compile::RuleReader;
use super::facts::FactSet;
use super::mode::Practice;
use super::outcome::Outcome;
use super::outcome::{GreyUse, default_reply};
use super::reading::{place_of, score};
use super::rules::{Policy, Rule};
use super::score::{Points, TOLD_MAX, tell};
use super::source::{Reader, Table};
use super::stage::Stage;
use super::state::State;
use super::value::show_thousandths;
use crate::wire::reply::{Enhanced, Reply};
use std::sync::Arc;

/// Keys of `[threshold.STAGE]`; the first five in the order of their effect.
pub const THRESHOLD_KEYS: [&str; 13] = [
    "observe",
    "tag",
    "greylist",
    "defer",
    "reject",
    "description",
    "mode",
    "guard",
    "header",
    "explain",
    "greylist-with",
    "defer-with",
    "reject-with",
];
/// How many of the keys are thresholds.
const STEPS: usize = 5;
/// Header field of a tag unless the file names another.
pub const HEADER: &str = "X-Gatepost-Score";
/// Stages that have thresholds: those at which rules add points.
pub const STAGES: [Stage; 7] =
    [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message];

/// What a score comes to.
#[derive(Clone, Debug)]
pub enum Step {
    /// It is written down.
    Observe,
    /// The message says its score.
    Tag,
    /// Who is not known comes back later.
    Greylist(GreyUse),
    /// A refusal with this reply, to which the score is added.
    Refuse(Arc<Reply>),
}

/// The thresholds of a stage.
#[derive(Clone, Debug)]
pub struct Thresholds {
    /// From the highest to the lowest, in thousandths.
    pub steps: Vec<(i64, Step)>,
    /// Name of the field of a tag.
    pub header: Arc<str>,
    /// Whether replies say which rules added.
    pub explains: bool,
    /// Facts that it may ask for.
    pub facts: FactSet,
    /// How it is practised; it simply acts when there is nothing.
    pub practice: Option<Box<Practice>>,
}

impl Thresholds {
    /// The reply of a refusal, with the score where it is to be told.
    pub fn reply<'a>(
        &self,
        base: &Arc<Reply>,
        state: &'a State,
        added: &'a [super::score::Added],
        name: impl Fn(u32) -> &'a str,
    ) -> Arc<Reply> {
        if !self.explains {
            return base.clone();
        }
        let scores = &state.scores;
        let told = tell(scores.all().chain(added), TOLD_MAX, name);
        let mut reply = (**base).clone();
        if let Some(line) = reply.lines.last_mut() {
            let text = format!("{line}; score {} ({told})", show_thousandths(scores.total()));
            // Names of rules may have any letters; a reply has those of ASCII (RFC 5321 §4.2) and fits on a line.
            let text: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(400).collect();
            *line = text.into();
        }
        Arc::new(reply)
    }
}

/// Reads `[threshold.STAGE]`.
pub fn read(reader: &mut Reader<'_>, top: &Table<'_>, rules: &mut RuleReader<'_>) -> Vec<(Stage, Thresholds)> {
    let Some(section) = reader.table(top, "threshold") else { return Vec::new() };
    let words: Vec<&str> = STAGES.iter().map(|s| s.word()).collect();
    reader.known_keys(section, "[threshold]", &words);
    let mut found = Vec::new();
    for stage in STAGES {
        let Some(table) = reader.table(section, stage.word()) else { continue };
        reader.known_keys(table, &format!("[threshold.{}]", stage.word()), &THRESHOLD_KEYS);
        rules.take_facts();
        let mut steps = Vec::new();
        for (rank, key) in THRESHOLD_KEYS[..STEPS].iter().enumerate() {
            if let Some(at) = score(reader, table, key)
                && let Some(step) = step(reader, table, rank, stage, rules)
            {
                steps.push((at, step, *key));
            }
        }
        if steps.is_empty() {
            let place = place_of(section, stage.word());
            let finding = reader.at(place.span, "no threshold in it");
            reader.report(finding.expected(THRESHOLD_KEYS[..STEPS].join(", ")));
        }
        check_order(reader, table, &steps);
        let header = reader.string(table, "header").and_then(|name| {
            // RFC 5322 §2.2: printable without colon.
            let ok = !name.text.is_empty() && name.text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            if !ok {
                let finding = reader.inside(&name, 0..name.text.len(), "this is no name of a header field");
                reader.report(finding.expected("such as \"X-Score\""));
            }
            ok.then(|| Arc::from(name.text.as_str()))
        });
        let practice = rules.practice(reader, &format!("threshold.{}", stage.word()), table, stage);
        steps.reverse();
        found.push((
            stage,
            Thresholds {
                steps: steps.into_iter().map(|(at, step, _)| (at, step)).collect(),
                header: header.unwrap_or_else(|| Arc::from(HEADER)),
                explains: reader.boolean(table, "explain").unwrap_or(true),
                facts: rules.take_facts(),
                practice,
            },
        ));
    }
    found
}

fn step(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    rank: usize,
    stage: Stage,
    rules: &mut RuleReader<'_>,
) -> Option<Step> {
    Some(match rank {
        0 => Step::Observe,
        1 => Step::Tag,
        2 => {
            let name = reader.string(table, "greylist-with");
            let place = name.clone().unwrap_or_else(|| place_of(table, "greylist"));
            let text = name.map_or_else(|| "greylist".to_owned(), |n| format!("greylist {}", n.text));
            match rules.outcome(&text, stage) {
                Ok(Outcome::Greylist(used)) => Step::Greylist(used),
                Ok(_) => return None,
                Err(fault) => {
                    let finding = reader.at(place.span, fault.message).expected(fault.expected);
                    reader.report(finding);
                    return None;
                }
            }
        }
        rank => {
            let (word, class) = if rank == 3 { ("defer", 4) } else { ("reject", 5) };
            let Some(with) = reader.string(table, &format!("{word}-with")) else {
                return Some(Step::Refuse(Arc::new(own_reply(stage, class))));
            };
            match rules.outcome(&format!("{word} {}", with.text), stage) {
                Ok(Outcome::Reject(reply) | Outcome::Defer(reply) | Outcome::Drop(reply)) => Step::Refuse(reply),
                Ok(_) => return None,
                Err(mut fault) => {
                    let before = word.len() + 1;
                    fault.span = fault.span.start.saturating_sub(before)..fault.span.end.saturating_sub(before);
                    let mut finding = reader.inside(&with, fault.span, fault.message).expected(fault.expected);
                    finding.suggestion = fault.suggestion;
                    reader.report(finding);
                    return None;
                }
            }
        }
    })
}

fn own_reply(stage: Stage, class: u16) -> Reply {
    let base = default_reply(stage, class);
    // RFC 3463 §3.8: X.7.1, not authorised, by local policy.
    Reply::new(
        base.code,
        base.enhanced.map(|e| Enhanced(e.0, 7, 1)),
        if class == 4 { "Suspicious, try again later" } else { "Refused as unwanted" },
    )
}

fn check_order(reader: &mut Reader<'_>, table: &Table<'_>, steps: &[(i64, Step, &'static str)]) {
    for pair in steps.windows(2) {
        let ((low, _, weak), (high, _, strong)) = (&pair[0], &pair[1]);
        if low >= high {
            let (low, high) = (show_thousandths(*low), show_thousandths(*high));
            let message = format!("`{weak}` = {low} is never seen: from {high} on `{strong}` has its effect");
            let finding = reader.at(place_of(table, weak).span, message);
            reader.report(finding.expected(format!("{weak} lower than {strong}")));
        }
    }
}

impl Policy {
    /// The threshold of this name (`message.reject`); without one the strongest of the last stage that has any: its stage,
    /// its key and its value in thousandths.
    pub fn score_threshold(&self, name: Option<&str>) -> Option<(&'static str, &'static str, i64)> {
        let all = STAGES.into_iter().rev().flat_map(|stage| {
            let steps = self.thresholds[stage.index()].iter().flat_map(|t| &t.steps);
            steps.map(move |(at, step)| (stage.word(), step.key(), *at))
        });
        let mut all = all;
        match name {
            None => all.next(),
            Some(name) => all.find(|(stage, key, _)| name.split_once('.') == Some((stage, key))),
        }
    }
}

impl Step {
    /// The key it is written with.
    fn key(&self) -> &'static str {
        match self {
            Step::Observe => "observe",
            Step::Tag => "tag",
            Step::Greylist(_) => "greylist",
            Step::Refuse(reply) if reply.is_transient() => "defer",
            Step::Refuse(_) => "reject",
        }
    }
}

/// Warns of thresholds that no combination of rules reaches, and of scores that nobody looks at.
pub fn lint(reader: &mut Reader<'_>, top: &Table<'_>, found: &[(Stage, Thresholds)], rules: &[Rule], uses_fact: bool) {
    let points = |stage: Stage| {
        rules.iter().filter(move |r| r.stage <= stage && r.stage != Stage::Vrfy).flat_map(|r| &r.outcomes)
    };
    if let Some(first) = rules.iter().find(|r| r.outcomes.iter().any(|o| matches!(o, Outcome::Score(_))))
        && found.is_empty()
        && !uses_fact
    {
        let message = format!("rule `{}` adds to a score that nobody looks at", first.name);
        let finding = reader
            .at(0..0, message)
            .expected("a [threshold.rcpt], or a rule about `score`")
            .warning()
            .code("score-unused");
        reader.report(finding);
    }
    for (stage, thresholds) in found {
        let mut most = Some(0i64);
        for outcome in points(*stage) {
            if let Outcome::Score(scored) = outcome {
                most = match scored.points {
                    Points::Fixed(n) => most.map(|sum| sum.saturating_add(n.max(0))),
                    Points::Of(..) => None,
                };
            }
        }
        let Some(most) = most else { continue };
        let Some(section) = top.get("threshold").and_then(|t| t.get_ref().as_table()) else { return };
        let Some(table) = section.get(stage.word()).and_then(|t| t.get_ref().as_table()) else { continue };
        for ((at, _), key) in
            thresholds.steps.iter().rev().zip(THRESHOLD_KEYS[..STEPS].iter().filter(|k| table.contains_key(**k)))
        {
            if *at > most {
                let sum = show_thousandths(most);
                let message = format!(
                    "`{key}` = {} is never reached: the rules until {} add {sum} at most",
                    show_thousandths(*at),
                    stage.word()
                );
                let finding = reader.at(place_of(table, key).span, message).warning().code("threshold-never-reached");
                reader.report(finding);
            }
        }
        let ends = rules.iter().find(|r| r.stage == *stage && r.always_ends());
        if let Some(rule) = ends {
            let message = format!("never looked at: the rule `{}` always ends the stage {}", rule.name, stage.word());
            let finding =
                reader.at(place_of(section, stage.word()).span, message).warning().code("threshold-never-looked-at");
            reader.report(finding);
        }
    }
}
