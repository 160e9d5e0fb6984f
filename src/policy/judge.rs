//! One pass over the rules of a stage: conditions are tried in order, limits are looked at, and only when nothing refuses
//! is anything counted.
//!
//! How it fails: it does not; a limit that another core exhausts between looking and counting is treated as exceeded.

use super::limit::{Bound, Counts, Limit};
use super::limits::{Lease, Limits};
use super::outcome::{LimitUse, Outcome, TARPIT_MAX};
use super::program::{Memo, Observer};
use super::rules::{Policy, RuleId};
use super::stage::Stage;
use super::state::View;
use crate::base::knob::show_duration;
use crate::wire::reply::Reply;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Whether the pass counts and leaves effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It does.
    Decide,
    /// It only says what would be.
    Probe,
}

/// How a pass ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Pass,
    Trust,
    Refuse(Arc<Reply>),
    Drop(Arc<Reply>),
    Discard,
    Quarantine(Arc<str>),
    /// No rule ended it.
    Open,
}

/// What a pass found.
#[derive(Debug)]
pub(super) struct Judgement {
    pub end: End,
    pub rule: RuleId,
    pub reason: Cow<'static, str>,
    pub delay: Duration,
    pub tags: SmallVec<[Arc<(String, String)>; 2]>,
    pub route: Option<Arc<str>>,
}

impl Judgement {
    pub(super) fn open() -> Judgement {
        Judgement {
            end: End::Open,
            rule: RuleId::DEFAULT,
            reason: Cow::Borrowed(""),
            delay: Duration::ZERO,
            tags: SmallVec::new(),
            route: None,
        }
    }
    pub(super) fn refuses(&self) -> bool {
        matches!(self.end, End::Refuse(_) | End::Drop(_))
    }
}

/// Something to be counted at the end.
struct Take<'p> {
    rule: RuleId,
    limit: &'p Limit,
    otherwise: &'p Outcome,
    key: u64,
    units: u64,
}

/// One pass.
pub(super) struct Pass<'p, 'v, O> {
    pub policy: &'p Policy,
    pub limits: &'p Arc<Limits>,
    pub view: View<'v>,
    pub stage: Stage,
    /// Whether the stage is about a failed authentication.
    pub auth_failed: bool,
    pub observer: &'v mut O,
}

impl<'p, O: Observer> Pass<'p, '_, O> {
    /// Tries the rules. `leases` receives what counts until the end of the connection.
    pub(super) fn run(&mut self, mode: Mode, memo: &mut Memo, leases: &mut SmallVec<[Lease; 2]>) -> Judgement {
        memo.clear(&self.policy.program);
        let mut found = Judgement::open();
        let mut takes: SmallVec<[Take<'p>; 4]> = SmallVec::new();
        let policy = self.policy;
        for trial in policy.at(self.stage) {
            if let (false, Some(gate)) = (O::WATCHES, trial.guard)
                && !policy.program.is_open(gate, &self.view, memo)
            {
                self.view.state.missing.doubt(trial.rule);
                continue;
            }
            let matched = policy.program.holds(trial.entry, &self.view, memo, self.observer);
            self.observer.tried(trial.rule as usize, matched);
            if !matched {
                self.view.state.missing.doubt(trial.rule);
                continue;
            }
            // What holds with a fact unknown holds whatever the fact is.
            self.view.state.missing.settle();
            for outcome in &policy.rules()[trial.rule as usize].outcomes {
                self.apply(outcome, RuleId(trial.rule), &mut found, &mut takes, memo);
            }
            if !matches!(found.end, End::Open) {
                break;
            }
        }
        if matches!(found.end, End::Open) {
            self.default(&mut found);
        }
        if mode == Mode::Decide {
            self.count(&mut found, takes, leases);
        }
        found.delay = found.delay.min(TARPIT_MAX);
        found
    }

    fn apply(
        &mut self,
        outcome: &'p Outcome,
        rule: RuleId,
        found: &mut Judgement,
        takes: &mut SmallVec<[Take<'p>; 4]>,
        memo: &mut Memo,
    ) {
        match outcome {
            Outcome::Tarpit(d) => found.delay += *d,
            Outcome::Tag(t) => found.tags.push(t.clone()),
            Outcome::Route(r) => found.route = Some(r.clone()),
            Outcome::Limit(l) => {
                // A limit refuses at once: outcomes behind it in the same rule are not reached then.
                if matches!(found.end, End::Open) {
                    self.look(l, rule, found, takes, memo);
                }
                return;
            }
            _ if !matches!(found.end, End::Open) => return,
            Outcome::Accept => found.end = End::Pass,
            Outcome::Trust => found.end = End::Trust,
            Outcome::Reject(r) | Outcome::Defer(r) => found.end = End::Refuse(r.clone()),
            Outcome::Drop(r) => found.end = End::Drop(r.clone()),
            Outcome::Discard => found.end = End::Discard,
            Outcome::Quarantine(reason) => {
                found.reason = Cow::Owned(reason.to_string());
                found.end = End::Quarantine(reason.clone());
            }
        }
        if outcome.is_final() {
            found.rule = rule;
        }
        self.observer.effect(|| outcome.to_string());
    }

    /// Looks at a limit; what would pass is noted for counting.
    fn look(
        &mut self,
        l: &'p LimitUse,
        rule: RuleId,
        found: &mut Judgement,
        takes: &mut SmallVec<[Take<'p>; 4]>,
        memo: &mut Memo,
    ) {
        let limit = &self.policy.limits[l.limit];
        if self.policy.program.holds(l.exempt, &self.view, memo, self.observer) {
            self.observer.effect(|| format!("limit {}: exempt", limit.name));
            return;
        }
        // Whether it is exempt, and whom it counts, may hang on what a recording could not tell.
        self.view.state.missing.doubt(rule.0);
        let units = self.units(limit.counts);
        let key = limit.key(&self.view, self.limits.secret());
        let Some(key) = key.filter(|_| units > 0) else {
            self.view.state.missing.doubt(rule.0);
            self.observer.effect(|| format!("limit {}: does not apply", limit.name));
            return;
        };
        if limit.counts != Counts::AuthFailure || self.auth_failed {
            self.observer.limit(l.limit, limit, key, units, &self.view);
        }
        let passes = match limit.bound {
            _ if O::IGNORES_LIMITS => return,
            Bound::Rate(rate) => self.limits.check(key, &rate, units, self.view.state.now),
            Bound::AtOnce(most) if self.limits.has_room(key, most) => Ok(()),
            Bound::AtOnce(_) => Err(Duration::ZERO),
        };
        match passes {
            Ok(()) => {
                self.observer.effect(|| format!("limit {}: passes", limit.name));
                takes.push(Take { rule, limit, otherwise: &l.otherwise, key, units });
            }
            Err(wait) => self.exceeded(limit, &l.otherwise, rule, wait, found),
        }
    }

    fn exceeded(&mut self, limit: &Limit, otherwise: &Outcome, rule: RuleId, wait: Duration, found: &mut Judgement) {
        self.observer.effect(|| format!("limit {}: exceeded, {otherwise}", limit.name));
        match otherwise {
            Outcome::Tarpit(d) => {
                found.delay += *d;
                return;
            }
            Outcome::Drop(r) => found.end = End::Drop(r.clone()),
            Outcome::Reject(r) | Outcome::Defer(r) => found.end = End::Refuse(r.clone()),
            // The reader of outcomes lets nothing else stand behind `else`.
            _ => return,
        }
        found.rule = rule;
        let wait = match wait.as_millis() {
            0 => String::new(),
            // A person reads it: whole seconds from one second on.
            ms if ms < 1000 => format!(", again in {ms}ms"),
            ms => format!(", again in {}", show_duration(Duration::from_secs(ms.div_ceil(1000) as u64))),
        };
        found.reason = Cow::Owned(format!("limit {}: more than {}{wait}", limit.name, limit.shown));
    }

    fn units(&self, counts: Counts) -> u64 {
        let t = &self.view.state.transaction;
        match counts {
            Counts::Octets if self.stage == Stage::Mail => t.declared_octets.unwrap_or(0),
            Counts::Octets => t.shape.octets,
            _ => 1,
        }
    }

    fn default(&mut self, found: &mut Judgement) {
        if self.stage == Stage::Rcpt {
            let domain = self.view.state.recipient.address.domain();
            if self
                .policy
                .local
                .as_ref()
                .is_some_and(|l| l.contains(super::value::Type::Domain, super::value::Value::Text(domain)))
            {
                found.end = End::Pass;
                return;
            }
        }
        found.end = match self.policy.defaults.of(self.stage) {
            Outcome::Reject(r) | Outcome::Defer(r) => End::Refuse(r.clone()),
            Outcome::Drop(r) => End::Drop(r.clone()),
            _ => End::Pass,
        };
    }

    /// Counts what was noted, unless it was refused. Failures of authentication count in any case.
    fn count(&mut self, found: &mut Judgement, takes: SmallVec<[Take<'p>; 4]>, leases: &mut SmallVec<[Lease; 2]>) {
        let now = self.view.state.now;
        let mut taken: SmallVec<[&Take<'p>; 4]> = SmallVec::new();
        let leased_before = leases.len();
        for take in &takes {
            match take.limit.bound {
                Bound::Rate(rate) if take.limit.counts == Counts::AuthFailure => {
                    if self.auth_failed {
                        self.limits.charge(take.key, &rate, take.units, now);
                    }
                }
                _ if found.refuses() => {}
                Bound::Rate(rate) => match self.limits.take(take.key, &rate, take.units, now) {
                    Ok(()) => taken.push(take),
                    Err(wait) => self.exceeded(take.limit, take.otherwise, take.rule, wait, found),
                },
                Bound::AtOnce(most) => match self.limits.lease(take.key, most) {
                    Some(lease) => leases.push(lease),
                    None => self.exceeded(take.limit, take.otherwise, take.rule, Duration::ZERO, found),
                },
            }
        }
        if found.refuses() {
            leases.truncate(leased_before);
            for take in taken {
                if let Bound::Rate(rate) = take.limit.bound {
                    self.limits.give_back(take.key, &rate, take.units);
                }
            }
        }
    }
}
