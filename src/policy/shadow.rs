//! A second policy beside the one that serves: it is told what the first is told and decides too, with limits, greylisting
//! and history of its own, and nobody hears it. Only where it differs something is said.
//!
//! It is a replay of what happens now: it sees what the journal would say of the session. What the first policy did not
//! have found out is unknown to it, and a decision that hangs on such a fact is undecided, which is counted. How it fails:
//! it does not; nothing of it reaches a client.

use super::journal::{Event, Said, What};
use super::limits::Limits;
use super::replay::{Change, Live, Seen, Spare, Visitor};
use super::rules::Policy;
use super::session::Session;
use crate::base::time::Instant;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Differences kept for one session until somebody takes them, at most.
const DIFFERENCES_MAX: usize = 32;

/// A shadow policy as it runs; all sessions share it.
#[derive(Debug)]
pub struct ShadowPolicy {
    policy: Arc<Policy>,
    limits: Arc<Limits>,
    /// Whether its own needs are found out too.
    looks_up: bool,
    counts: [AtomicU64; 7],
}

/// What a shadow policy has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Decisions that were compared.
    pub decisions: u64,
    /// It would refuse what passes.
    pub tightened: u64,
    /// It would let pass what is refused.
    pub loosened: u64,
    /// It would refuse otherwise: for good, for now, with another code.
    pub other_refusal: u64,
    /// The same verdict by another rule, or with another text, delay, route or tag.
    pub other_detail: u64,
    /// It hangs on what nobody has found out.
    pub undecided: u64,
    /// By its word the session would not have come so far.
    pub not_reached: u64,
}

/// A decision that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The stage, or `probe`.
    pub stage: &'static str,
    /// How.
    pub change: &'static str,
    /// What the first policy said: verdict, rule, reply.
    pub then: String,
    /// What the shadow says.
    pub now: String,
}

impl ShadowPolicy {
    /// A policy to run beside, with fresh limits of this size. `looks_up`: what only it needs is found out too; decisions
    /// never wait for it.
    pub fn new(policy: Arc<Policy>, limits: Arc<Limits>, looks_up: bool) -> Arc<ShadowPolicy> {
        Arc::new(ShadowPolicy { policy, limits, looks_up, counts: Default::default() })
    }
    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
    /// What it has said so far.
    pub fn counts(&self) -> ShadowCounts {
        let [decisions, tightened, loosened, other_refusal, other_detail, undecided, not_reached] =
            std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed));
        ShadowCounts { decisions, tightened, loosened, other_refusal, other_detail, undecided, not_reached }
    }
    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }
}

/// The shadow of one session.
pub(super) struct Shadow {
    live: Live,
    watch: Watch,
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").field("policy", &self.watch.run.policy.version()).finish_non_exhaustive()
    }
}

impl Shadow {
    /// Its policy.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.watch.run.policy.clone()
    }
}

struct Watch {
    run: Arc<ShadowPolicy>,
    differences: Vec<Difference>,
}

impl Visitor for Watch {
    fn decision(&mut self, seen: &Seen<'_>) {
        self.run.count(0);
        if seen.doubt.is_some() {
            return self.run.count(5);
        }
        let Some(new) = seen.new else { return self.run.count(6) };
        let change = seen.change();
        match change {
            Change::Same => return,
            Change::Tightened => self.run.count(1),
            Change::Loosened => self.run.count(2),
            Change::Refusal => self.run.count(3),
            Change::Detail => self.run.count(4),
        }
        if self.differences.len() < DIFFERENCES_MAX {
            let (stage, change) = (seen.stage, change.word());
            self.differences.push(Difference { stage, change, then: words(seen.old), now: words(new) });
        }
    }
}

fn words(said: &Said<'_>) -> String {
    let more = if said.reply.is_empty() { &said.reason } else { &said.reply };
    match more.is_empty() {
        true => format!("{} by {}", said.verdict, said.rule),
        false => format!("{} by {}: {more}", said.verdict, said.rule),
    }
}

impl Session {
    /// Has a second policy decide beside this one from now on. Call it before anything else is told.
    pub fn shadow(&mut self, run: &Arc<ShadowPolicy>) {
        let mut head = self.head();
        head.at_ms = self.state.peer.opened_wall.as_millis();
        head.start_ns = self.state.peer.opened.as_nanos();
        let live = Live::new(&head, &run.policy, &run.limits, Spare::default());
        self.shadow = Some(Box::new(Shadow { live, watch: Watch { run: run.clone(), differences: Vec::new() } }));
    }

    /// Where the shadow has differed since the last call.
    pub fn take_differences(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.differences)
    }

    /// The shadow's policy, when what it needs is to be found out too.
    pub(super) fn looks_up_for(&self) -> Option<&Arc<Policy>> {
        let run = &self.shadow.as_ref()?.watch.run;
        run.looks_up.then_some(&run.policy)
    }

    /// Tells the shadow what has happened, and keeps where it differs.
    #[cold]
    pub(super) fn play_shadow(
        &mut self,
        now: Instant,
        tell: impl FnOnce(&Session, &mut dyn FnMut(What<'_>, Option<Said<'_>>)),
    ) {
        let Some(mut shadow) = self.shadow.take() else { return };
        let after_ns = now.as_nanos().saturating_sub(self.state.peer.opened.as_nanos());
        tell(self, &mut |what, said| shadow.live.play(&Event { after_ns, seq: 0, what, said }, &mut shadow.watch));
        for difference in shadow.watch.differences.drain(..) {
            if let Some(recorder) = &mut self.recorder {
                let order = recorder.order();
                let (stage, change) = (difference.stage.into(), difference.change.into());
                recorder.event(now, order, What::Shadow { stage, change, now: difference.now.as_str().into() }, None);
            }
            if self.differences.len() < DIFFERENCES_MAX {
                self.differences.push(difference);
            }
        }
        self.shadow = Some(shadow);
    }
}
