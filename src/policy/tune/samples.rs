//! Samples out of a replay: what rules added to messages whose outcome is known.
//!
//! How it fails: a message without a label, or whose label cannot be found because the journal does not have its
//! Message-ID, is counted and makes no sample.

use super::labels::Labels;
use super::sweep::{SAMPLES_MAX, Sample};
use crate::policy::replay::{Seen, Visitor};
use crate::policy::rules::Policy;
use crate::policy::value::parse_thousandths;
use std::collections::HashMap;
use std::sync::Arc;

/// Sessions that are open at the same time, at most; beyond it new ones make no samples.
const OPEN_MAX: usize = 1 << 20;

/// Gathers samples.
pub struct Gatherer<'l> {
    policy: Arc<Policy>,
    labels: &'l Labels,
    open: HashMap<String, Points>,
    /// What was gathered.
    pub samples: Vec<Sample>,
    /// Messages that were judged to their end.
    pub messages: u64,
    /// Of these, those with a label.
    pub labelled: u64,
}

/// Points of one session so far: rule and points.
#[derive(Default)]
struct Points {
    connection: Vec<(u32, i64, &'static str)>,
    transaction: Vec<(u32, i64)>,
}

impl<'l> Gatherer<'l> {
    /// A gatherer for these labels.
    pub fn new(policy: Arc<Policy>, labels: &'l Labels) -> Gatherer<'l> {
        Gatherer { policy, labels, open: HashMap::new(), samples: Vec::new(), messages: 0, labelled: 0 }
    }

    /// A line such as `+4.5 name: reason`.
    fn added(&self, line: &str) -> Option<(u32, i64)> {
        let (points, rest) = line.split_once(' ')?;
        let named = |name: &str| rest.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with(": "));
        let rule = self.policy.rules().iter().position(|r| named(&r.name))?;
        Some((rule as u32, parse_thousandths(points)?))
    }

    fn finish(&mut self, seen: &Seen<'_>) {
        self.messages += 1;
        let label = self.labels.spam(seen.message_id).filter(|_| !seen.message_id.is_empty());
        let Some(spam) = label.or_else(|| self.labels.spam(seen.session)) else { return };
        self.labelled += 1;
        let mut points: Vec<(u32, i64)> = Vec::new();
        if let Some(open) = self.open.get(seen.session) {
            points.extend(open.connection.iter().map(|(rule, n, _)| (*rule, *n)));
            points.extend(&open.transaction);
        }
        let sample = Sample { spam, points };
        if self.samples.len() < SAMPLES_MAX {
            return self.samples.push(sample);
        }
        // An even part of all: as in a reservoir, with a number that looks random and is the same in every run.
        let mixed = self.labelled.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let slot = (mixed % self.labelled) as usize;
        if let Some(place) = self.samples.get_mut(slot) {
            *place = sample;
        }
    }
}

impl Visitor for Gatherer<'_> {
    fn decision(&mut self, seen: &Seen<'_>) {
        let Some(new) = seen.new else { return };
        // What is refused leaves nothing behind, but a message that is refused at its end has been judged to its end.
        let at_end = matches!(seen.stage, "data" | "message");
        let added: Vec<(u32, i64)> = match new.passes() || at_end {
            true => new.added.lines().filter_map(|line| self.added(line)).collect(),
            false => Vec::new(),
        };
        let known = self.open.contains_key(seen.session);
        if known || (self.open.len() < OPEN_MAX && !added.is_empty()) {
            let open = self.open.entry(seen.session.to_owned()).or_default();
            match seen.stage {
                "connect" | "helo" | "auth" => {
                    open.connection.retain(|(_, _, stage)| *stage != seen.stage);
                    open.connection.extend(added.into_iter().map(|(rule, points)| (rule, points, seen.stage)));
                    open.transaction.clear();
                }
                stage => {
                    if stage == "mail" {
                        open.transaction.clear();
                    }
                    open.transaction.extend(added);
                }
            }
        }
        if seen.stage == "message" || (seen.stage == "data" && !new.passes()) {
            self.finish(seen);
        }
    }
    fn ended(&mut self, session: &str) {
        self.open.remove(session);
    }
}
