//! One pass over the rules of a stage: conditions are tried in order, limits are looked at, and only when nothing refuses
//! is anything counted. Then the thresholds of the stage, then its default.
//!
//! How it fails: it does not; a limit that another core exhausts between looking and counting is treated as exceeded.

use super::decision::{Guarded, Would};
use super::greylist::{Answer, How};
use super::limit::{Bound, Counts, Limit};
use super::limits::{Lease, Limits};
use super::memory::{Meeting, Prior};
use super::mode::{Practice, Word};
use super::outcome::{GreyUse, LimitUse, Outcome, TARPIT_MAX};
use super::program::{Memo, Observer};
use super::rules::{Policy, Rule, RuleId};
use super::score::{Added, NAMED_MAX, POINTS_MAX, Points, Scored, signed, tell};
use super::stage::Stage;
use super::state::View;
use super::threshold::{Step, Thresholds};
use super::value::{Value, show_thousandths};
use crate::base::knob::show_duration;
use crate::wire::reply::{Enhanced, Reply};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Outcomes of observing rules written down for one decision at most.
const WOULD_MAX: usize = 16;

/// Whether the pass counts and leaves effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It does.
    Decide,
    /// It only says what would be. Greylisting notes who has to wait all the same: there will be no decision then.
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
    pub scores: SmallVec<[Added; 2]>,
    /// The sum with them, when rules were tried.
    pub score: Option<i64>,
    /// The message is to say its score in this field.
    pub says_score: Option<Arc<str>>,
    pub would: Vec<Would>,
    pub guard: Option<(RuleId, Guarded)>,
    pub priors: Vec<Prior>,
    /// Helpers whose advice is followed.
    pub obeyed: SmallVec<[Arc<str>; 1]>,
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
            scores: SmallVec::new(),
            score: None,
            says_score: None,
            would: Vec::new(),
            guard: None,
            priors: Vec::new(),
            obeyed: SmallVec::new(),
        }
    }
    pub(super) fn refuses(&self) -> bool {
        matches!(self.end, End::Refuse(_) | End::Drop(_))
    }
    fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }
}

/// Something to be counted at the end.
pub(super) struct Take<'p> {
    rule: RuleId,
    index: usize,
    limit: &'p Limit,
    otherwise: &'p Outcome,
    key: u64,
    units: u64,
    /// It is counted apart, for a rule that only observes.
    observed: bool,
}

type Takes<'p> = SmallVec<[Take<'p>; 4]>;

/// Sets the counts of rules that observe apart from those that act.
const OBSERVED: u64 = 0x9e37_79b9_7f4a_7c15;

/// One pass.
pub(super) struct Pass<'p, 'v, O> {
    pub policy: &'p Policy,
    pub limits: &'p Arc<Limits>,
    pub view: View<'v>,
    pub stage: Stage,
    /// Whether the stage is about a failed authentication.
    pub auth_failed: bool,
    /// Which load of the policy the session began with.
    pub load: u64,
    pub mode: Mode,
    pub observer: &'v mut O,
}

impl<'p, O: Observer> Pass<'p, '_, O> {
    /// Tries the rules. `leases` receives what counts until the end of the connection.
    pub(super) fn run(&mut self, memo: &mut Memo, leases: &mut SmallVec<[Lease; 2]>) -> Judgement {
        memo.clear(&self.policy.program);
        let mut found = Judgement::open();
        let mut takes: Takes<'p> = SmallVec::new();
        let policy = self.policy;
        if self.mode == Mode::Decide && !policy.guarded[self.stage.index()].is_empty() {
            self.guards_see(memo);
        }
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
                let could_hold = || policy.program.could_hold(trial.entry, &self.view);
                self.view.state.missing.doubt_if(trial.rule, could_hold);
                continue;
            }
            // What holds with a fact unknown holds whatever the fact is.
            self.view.state.missing.settle();
            let rule = &policy.rules()[trial.rule as usize];
            match &rule.practice {
                None => {
                    self.hit(trial.rule, true);
                    self.act(rule, RuleId(trial.rule), &mut found, &mut takes, memo);
                }
                Some(practice) => self.practise(practice, rule, RuleId(trial.rule), &mut found, &mut takes, memo),
            }
            if !found.is_open() {
                break;
            }
        }
        if found.is_open()
            && let Some(thresholds) = &policy.thresholds[self.stage.index()]
        {
            self.weigh(thresholds, &mut found, memo);
        }
        if found.is_open() {
            self.default(&mut found);
        }
        if self.mode == Mode::Decide {
            self.count(&mut found, takes, leases);
            if found.refuses() {
                policy.tally.refused(found.rule.0);
            }
        }
        found.delay = found.delay.min(TARPIT_MAX);
        found.score = Some(self.view.state.scores.total());
        found
    }

    #[inline]
    fn hit(&self, rule: u32, acted: bool) {
        if self.mode == Mode::Decide {
            self.policy.tally.hit(rule, acted);
        }
    }

    /// Does what a rule says.
    fn act(&mut self, rule: &'p Rule, id: RuleId, found: &mut Judgement, takes: &mut Takes<'p>, memo: &mut Memo) {
        for outcome in &rule.outcomes {
            self.apply(outcome, id, found, takes, memo);
        }
    }

    /// Does what a rule says as far as its mode and its guard let it.
    #[cold]
    fn practise(
        &mut self,
        practice: &Practice,
        rule: &'p Rule,
        id: RuleId,
        found: &mut Judgement,
        takes: &mut Takes<'p>,
        memo: &mut Memo,
    ) {
        if !practice.acts_on(&self.view) {
            self.hit(id.0, false);
            return self.observe(rule, id, found, takes, memo);
        }
        let before = (found.delay, found.tags.len(), found.route.clone(), found.scores.len(), takes.len());
        self.act(rule, id, found, takes, memo);
        if !found.refuses() || self.guard(practice, id, found, memo) {
            return self.hit(id.0, true);
        }
        self.hit(id.0, false);
        // The rule would have refused too much: nothing of what it did stays.
        (found.end, found.rule, found.reason) = (End::Open, RuleId::DEFAULT, Cow::Borrowed(""));
        found.delay = before.0;
        found.tags.truncate(before.1);
        found.route = before.2;
        for added in found.scores.drain(before.3..) {
            self.view.state.scores.pend(added.stage, -added.points);
        }
        takes.truncate(before.4);
        self.observe(rule, id, found, takes, memo);
    }

    /// Says what a rule would do, and does nothing.
    fn observe(&mut self, rule: &'p Rule, id: RuleId, found: &mut Judgement, takes: &mut Takes<'p>, memo: &mut Memo) {
        for outcome in &rule.outcomes {
            match outcome {
                Outcome::Limit(l) => {
                    if let Some(Err(_)) = self.look(l, id, true, takes, memo) {
                        let name = &self.policy.limits[l.limit].name;
                        self.would(id, format!("limit {name}: {}", l.otherwise), found);
                    }
                }
                Outcome::Greylist(used) => {
                    if let Some(wait) = self.greylisted(used, id, true, &mut found.priors, memo) {
                        self.would(id, format!("greylist {}s", wait.as_secs()), found);
                    }
                }
                other => self.would(id, other.to_string(), found),
            }
            if outcome.is_final() {
                break;
            }
        }
    }

    fn would(&mut self, rule: RuleId, what: String, found: &mut Judgement) {
        self.observer.effect(|| format!("would {what}"));
        if found.would.len() < WOULD_MAX {
            found.would.push(Would { rule, what });
        }
    }

    /// Tells the guards of the stage of traffic that must pass.
    #[cold]
    fn guards_see(&mut self, memo: &mut Memo) {
        for id in &self.policy.guarded[self.stage.index()] {
            if let Some((practice, guard)) = self.policy.practice(*id).and_then(|p| Some((p, p.guard.as_ref()?)))
                && self.policy.program.holds(guard.of, &self.view, memo, &mut ())
            {
                let key = practice.guard_key(self.policy.number, self.load);
                self.limits.guards.seen(key, guard, self.view.state.now);
            }
        }
    }

    /// Whether the guard of a rule lets it refuse.
    fn guard(&mut self, practice: &Practice, id: RuleId, found: &mut Judgement, memo: &mut Memo) -> bool {
        let Some(guard) = &practice.guard else { return true };
        let key = practice.guard_key(self.policy.number, self.load);
        let now = self.view.state.now;
        let of = self.policy.program.holds(guard.of, &self.view, memo, &mut ());
        if of && self.mode == Mode::Probe {
            self.limits.guards.seen(key, guard, now); // what is refused here comes to no decision
        }
        match self.limits.guards.refuses(key, guard, now, of) {
            Word::Act => true,
            Word::Observe => false,
            Word::Back => {
                found.guard = Some((id, Guarded::Acts));
                true
            }
            Word::Trips => {
                found.guard = Some((id, Guarded::Observes));
                false
            }
        }
    }

    fn apply(
        &mut self,
        outcome: &'p Outcome,
        rule: RuleId,
        found: &mut Judgement,
        takes: &mut Takes<'p>,
        memo: &mut Memo,
    ) {
        match outcome {
            Outcome::Tarpit(d) => found.delay += *d,
            Outcome::Tag(t) => found.tags.push(t.clone()),
            Outcome::Route(r) => found.route = Some(r.clone()),
            Outcome::Score(scored) => self.add(scored, rule, found),
            Outcome::Limit(l) => {
                // A limit refuses at once: outcomes behind it in the same rule are not reached then.
                if found.is_open()
                    && let Some(Err(wait)) = self.look(l, rule, false, takes, memo)
                {
                    self.exceeded(&self.policy.limits[l.limit], &l.otherwise, rule, wait, found);
                }
                return;
            }
            Outcome::Greylist(used) => {
                if found.is_open()
                    && let Some(wait) = self.greylisted(used, rule, false, &mut found.priors, memo)
                {
                    self.greylist(used, rule, wait, found);
                }
                return;
            }
            _ if !found.is_open() => return,
            Outcome::Obey(name) => {
                found.obeyed.push(name.clone());
                if let Some(end) = super::obey::end(name, &self.view, self.stage) {
                    found.reason = Cow::Owned(format!("{name} advises it"));
                    (found.end, found.rule) = (end, rule);
                }
            }
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

    /// Adds points, once for each outcome.
    fn add(&mut self, scored: &Arc<Scored>, rule: RuleId, found: &mut Judgement) {
        let scores = &self.view.state.scores;
        if scores.has(scored) {
            return;
        }
        let points = match &scored.points {
            Points::Fixed(n) => *n,
            Points::Of(operand, in_thousandths, _) => operand.with(&self.view, |value| match value {
                Value::Score(n) | Value::Number(n) if *in_thousandths => n,
                Value::Number(n) => n.saturating_mul(1000),
                _ => 0,
            }),
        };
        self.view.state.missing.doubt(rule.0);
        let points = points.clamp(-POINTS_MAX, POINTS_MAX);
        if points == 0 {
            return;
        }
        scores.pend(self.stage, points);
        found.scores.push(Added { rule: rule.0, stage: self.stage, points, scored: scored.clone() });
        self.observer.effect(|| format!("score {} = {}", signed(points), show_thousandths(scores.total())));
    }

    /// Looks at a limit: whether it passes, which is noted for counting, or for how long not; `None` when it does not
    /// apply.
    fn look(
        &mut self,
        l: &'p LimitUse,
        rule: RuleId,
        observed: bool,
        takes: &mut Takes<'p>,
        memo: &mut Memo,
    ) -> Option<Result<(), Duration>> {
        let limit = &self.policy.limits[l.limit];
        if self.policy.program.holds(l.exempt, &self.view, memo, self.observer) {
            self.observer.effect(|| format!("limit {}: exempt", limit.name));
            return None;
        }
        // Whether it is exempt, and whom it counts, may hang on what a recording could not tell.
        self.view.state.missing.doubt(rule.0);
        let units = self.units(limit.counts);
        let key = limit.key(&self.view, self.limits.secret());
        let Some(key) = key.filter(|_| units > 0) else {
            self.view.state.missing.doubt(rule.0);
            self.observer.effect(|| format!("limit {}: does not apply", limit.name));
            return None;
        };
        let key = if observed { key ^ OBSERVED } else { key };
        if limit.counts != Counts::AuthFailure || self.auth_failed {
            self.observer.limit(l.limit, limit, key, units, &self.view);
        }
        let passes = match limit.bound {
            _ if O::IGNORES_LIMITS => return None,
            Bound::Rate(rate) => self.limits.check(key, &rate, units, self.view.state.now),
            Bound::AtOnce(most) if self.limits.has_room(key, most) => Ok(()),
            Bound::AtOnce(_) => Err(Duration::ZERO),
        };
        match passes {
            Ok(()) => {
                self.observer.effect(|| format!("limit {}: passes", limit.name));
                takes.push(Take { rule, index: l.limit, limit, otherwise: &l.otherwise, key, units, observed });
            }
            Err(_) => {
                self.observer.effect(|| format!("limit {}: exceeded, {}", limit.name, l.otherwise));
                if self.mode == Mode::Decide {
                    self.policy.tally.exceeded(l.limit, observed);
                }
            }
        }
        Some(passes)
    }

    fn exceeded(&mut self, limit: &Limit, otherwise: &Outcome, rule: RuleId, wait: Duration, found: &mut Judgement) {
        if !refuse(otherwise, rule, found) {
            return;
        }
        let wait = match wait.as_millis() {
            0 => String::new(),
            // A person reads it: whole seconds from one second on.
            ms if ms < 1000 => format!(", again in {ms}ms"),
            ms => format!(", again in {}", show_duration(Duration::from_secs(ms.div_ceil(1000) as u64))),
        };
        found.reason = Cow::Owned(format!("limit {}: more than {}{wait}", limit.name, limit.shown));
    }

    /// How long the session has to wait by greylisting, if it has to.
    fn greylisted(
        &mut self,
        used: &GreyUse,
        rule: RuleId,
        observes: bool,
        priors: &mut Vec<Prior>,
        memo: &mut Memo,
    ) -> Option<Duration> {
        let greylist = &self.policy.greylists[used.greylist];
        if !self.view.state.peer.user.is_empty()
            || self.policy.program.holds(used.exempt, &self.view, memo, self.observer)
        {
            self.observer.effect(|| format!("greylist {}: exempt", greylist.name));
            return None;
        }
        let how = How { notes_passing: self.mode == Mode::Decide, observes };
        let mut meeting = Meeting { known: &self.view.state.priors, told: priors };
        let answer = greylist.ask(&self.view, &self.limits.memory, how, &mut meeting);
        // Who is known may hang on what a recording could not tell.
        self.view.state.missing.doubt(rule.0);
        match answer {
            Answer::Pass(why) => {
                self.observer.effect(|| format!("greylist {}: passes, {why}", greylist.name));
                None
            }
            Answer::Wait(wait) => {
                self.observer
                    .effect(|| format!("greylist {}: has to wait {}", greylist.name, show_duration(whole(wait))));
                Some(wait)
            }
            Answer::Unknown => None,
        }
    }

    /// Defers who has to wait.
    fn greylist(&mut self, used: &GreyUse, rule: RuleId, wait: Duration, found: &mut Judgement) {
        let name = &self.policy.greylists[used.greylist].name;
        let wait = whole(wait);
        match &used.otherwise {
            Some(otherwise) if !refuse(otherwise, rule, found) => return,
            Some(_) => {}
            None => {
                // RFC 5321 §4.2.3, RFC 3463 §3.8: local error in processing, delivery not authorised (yet).
                let text = format!("Greylisted, try again in {} seconds", wait.as_secs());
                found.end = End::Refuse(Arc::new(Reply::new(451, Some(Enhanced(4, 7, 1)), text)));
                found.rule = rule;
            }
        }
        found.reason = Cow::Owned(format!("greylist {name}: not known yet, again in {}", show_duration(wait)));
    }

    /// What the score comes to at the end of the stage.
    #[cold]
    fn weigh(&mut self, thresholds: &'p Thresholds, found: &mut Judgement, memo: &mut Memo) {
        let total = self.view.state.scores.total();
        let rule = RuleId::threshold(self.stage);
        let mut reached = thresholds.steps.iter().filter(|(at, _)| total >= *at).peekable();
        if reached.peek().is_none() {
            return;
        }
        let acts = thresholds.practice.as_ref().is_none_or(|practice| practice.acts_on(&self.view));
        for (at, step) in reached {
            let reason = |name: &str| {
                let told = tell(self.view.state.scores.all().chain(&found.scores), NAMED_MAX, |i| {
                    self.policy.rule_name(RuleId(i))
                });
                format!("score {} reaches {name} = {} ({told})", show_thousandths(total), show_thousandths(*at))
            };
            match step {
                Step::Observe => {
                    let what = reason("observe");
                    return self.would(rule, what, found);
                }
                Step::Tag if !acts => return self.would(rule, reason("tag"), found),
                Step::Tag => {
                    self.observer.effect(|| reason("tag"));
                    found.says_score = Some(thresholds.header.clone());
                    return;
                }
                Step::Greylist(used) => {
                    let why = reason("greylist");
                    let Some(wait) = self.greylisted(used, rule, !acts, &mut found.priors, memo) else { continue };
                    if !acts {
                        return self.would(rule, why, found);
                    }
                    self.greylist(used, rule, wait, found);
                    found.reason = Cow::Owned(format!("{why}, {}", found.reason));
                }
                Step::Refuse(reply) => {
                    let why = reason(if reply.is_transient() { "defer" } else { "reject" });
                    if !acts {
                        return self.would(rule, why, found);
                    }
                    let policy = self.policy;
                    let reply =
                        thresholds.reply(reply, self.view.state, &found.scores, |i| policy.rule_name(RuleId(i)));
                    // RFC 5321 §3.8: 421 closes the connection.
                    found.end = if reply.code == 421 { End::Drop(reply) } else { End::Refuse(reply) };
                    (found.rule, found.reason) = (rule, Cow::Owned(why));
                }
            }
            if !found.refuses() {
                return; // a tarpit instead of a refusal
            }
            if let Some(practice) = &thresholds.practice
                && !self.guard(practice, rule, found, memo)
            {
                let why = std::mem::take(&mut found.reason).into_owned();
                (found.end, found.rule) = (End::Open, RuleId::DEFAULT);
                return self.would(rule, why, found);
            }
            let reason = &found.reason;
            self.observer.effect(|| reason.to_string());
            return;
        }
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
            if self.policy.local.as_ref().is_some_and(|l| l.contains(super::value::Type::Domain, Value::Text(domain))) {
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
    fn count(&mut self, found: &mut Judgement, takes: Takes<'p>, leases: &mut SmallVec<[Lease; 2]>) {
        let now = self.view.state.now;
        let mut taken: SmallVec<[&Take<'p>; 4]> = SmallVec::new();
        let leased_before = leases.len();
        for take in &takes {
            let counted = match take.limit.bound {
                Bound::Rate(rate) if take.limit.counts == Counts::AuthFailure => {
                    if self.auth_failed {
                        self.limits.charge(take.key, &rate, take.units, now);
                    }
                    Ok(())
                }
                _ if found.refuses() => continue,
                Bound::Rate(rate) => self.limits.take(take.key, &rate, take.units, now).map(|()| taken.push(take)),
                Bound::AtOnce(most) => match self.limits.lease(take.key, most) {
                    Some(lease) => {
                        leases.push(lease);
                        Ok(())
                    }
                    None => Err(Duration::ZERO),
                },
            };
            match counted {
                Ok(()) => {
                    let percent = self.limits.used_percent(take.key, take.limit.bound, now);
                    self.policy.tally.passed(take.index, percent);
                }
                Err(_) if take.observed => self.policy.tally.exceeded(take.index, true),
                Err(wait) => {
                    self.policy.tally.exceeded(take.index, false);
                    self.exceeded(take.limit, take.otherwise, take.rule, wait, found);
                }
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

/// Does what stands behind `else`; whether it refuses.
fn refuse(otherwise: &Outcome, rule: RuleId, found: &mut Judgement) -> bool {
    match otherwise {
        Outcome::Drop(r) => found.end = End::Drop(r.clone()),
        Outcome::Reject(r) | Outcome::Defer(r) if r.code == 421 => found.end = End::Drop(r.clone()),
        Outcome::Reject(r) | Outcome::Defer(r) => found.end = End::Refuse(r.clone()),
        Outcome::Tarpit(d) => {
            found.delay += *d;
            return false;
        }
        // The reader of outcomes lets nothing else stand behind `else`.
        _ => return false,
    }
    found.rule = rule;
    true
}

/// In whole seconds, rounded up: coming back a moment early would be in vain.
fn whole(wait: Duration) -> Duration {
    Duration::from_secs(u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX))
}
