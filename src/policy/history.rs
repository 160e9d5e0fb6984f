//! The side of a [`Session`] that remembers: before a stage is judged, what conditions ask of limits and history is looked
//! up; after it, what was decided goes into the history of the client and the sender's domain.
//!
//! Nothing here costs a policy that does not ask. How it fails: it does not.

use super::judge::{End, Judgement};
use super::memory::{Meeting, Prior};
use super::reputation::{self, Settings, Subject};
use super::session::Session;
use super::stage::Stage;
use super::state::View;

/// What a session has already done for the reputation of its client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    /// Something before a transaction was refused for good.
    session_refused: bool,
    /// Something in this transaction was refused for good.
    refused: bool,
    /// The message of this transaction was accepted.
    accepted: bool,
}

impl History {
    pub(super) fn end_transaction(&mut self) {
        (self.refused, self.accepted) = (false, false);
    }
}

impl Session {
    /// Looks up what the stage's conditions may ask.
    #[inline]
    pub(super) fn before(&mut self, stage: Stage, headers: &[u8]) -> Vec<Prior> {
        let mut priors = Vec::new();
        if !self.policy.asked_limits[stage.index()].is_empty() {
            self.measure(stage, headers);
        }
        if self.policy.reputation.is_some() {
            self.recall(stage, headers, &mut priors);
        }
        priors
    }

    /// How much of the limits is in use.
    #[cold]
    fn measure(&mut self, stage: Stage, headers: &[u8]) {
        let mut used = std::mem::take(&mut self.state.used);
        used.clear();
        let view = View { state: &self.state, headers };
        for (name, index) in &self.policy.asked_limits[stage.index()] {
            let limit = &self.policy.limits[*index];
            let key = limit.key(&view, self.limits.secret());
            let percent = key.map(|key| self.limits.used_percent(key, limit.bound, self.state.now));
            used.push((name.clone(), percent));
        }
        self.state.used = used;
    }

    /// What history says of the client, once, and of the sender's domain, where conditions ask.
    #[cold]
    fn recall(&mut self, stage: Stage, headers: &[u8], priors: &mut Vec<Prior>) {
        let Some(settings) = &self.policy.reputation else { return };
        let memory = &self.limits.memory;
        let view = View { state: &self.state, headers };
        self.state.missing.settle();
        let mut meeting = Meeting { known: &self.state.priors, told: priors };
        if stage == Stage::Connect && !self.state.peer.standing_given {
            let client = reputation::standing((Subject::Client, settings, memory), &view, true, &mut meeting);
            let network = reputation::standing((Subject::Network, settings, memory), &view, false, &mut meeting);
            (self.state.peer.standing, self.state.peer.network) = (client, network.reputation);
        } else if self.policy.asks_domain[stage.index()] {
            let domain = match self.state.peer.domain_given {
                Some(given) => Some(given),
                None => {
                    reputation::standing((Subject::Domain, settings, memory), &view, false, &mut meeting).reputation
                }
            };
            // Which history it is hangs on SPF, which a recording may lack.
            self.state.transaction.domain_hangs = self.state.missing.was_asked();
            self.state.missing.settle();
            self.state.transaction.domain = domain;
        }
    }

    /// Notes what was decided. `priors` are those that [`Session::before`] met.
    #[inline]
    pub(super) fn after(
        &mut self,
        stage: Stage,
        headers: &[u8],
        mut found: Judgement,
        priors: Vec<Prior>,
    ) -> Judgement {
        if !priors.is_empty() {
            found.priors.splice(..0, priors);
        }
        if self.policy.reputation.is_some() {
            self.learn_decision(stage, headers, &mut found);
        }
        found
    }

    #[cold]
    fn learn_decision(&mut self, stage: Stage, headers: &[u8], found: &mut Judgement) {
        let refused = match &found.end {
            End::Refuse(reply) | End::Drop(reply) => reply.code / 100 == 5,
            _ => false,
        };
        let of_session = matches!(stage, Stage::Connect | Stage::Helo);
        let history = &mut self.history;
        let events = match stage {
            Stage::Auth | Stage::Vrfy => return,
            _ if refused && of_session => (0, i64::from(!std::mem::replace(&mut history.session_refused, true))),
            _ if refused => (0, i64::from(!std::mem::replace(&mut history.refused, true))),
            Stage::Message if !found.refuses() => (i64::from(!std::mem::replace(&mut history.accepted, true)), 0),
            _ => return,
        };
        if events != (0, 0) {
            self.add_history(headers, events, !of_session, &mut found.priors);
        }
    }

    /// What became of a message that the policy had accepted: refused for good by the backend, it was none that counts.
    pub(super) fn learn_settled(&mut self, how: &str, reply: &str) {
        if self.policy.reputation.is_none() || !self.history.accepted || how != "refused" || !reply.starts_with('5') {
            return;
        }
        self.history.accepted = false;
        let refused = i64::from(!std::mem::replace(&mut self.history.refused, true));
        // Its entries were written when it was accepted: nothing of them is from before the run.
        self.add_history(b"", (-1, refused), true, &mut Vec::new());
    }

    fn add_history(&self, headers: &[u8], events: (i64, i64), with_domain: bool, priors: &mut Vec<Prior>) {
        let Some(settings) = &self.policy.reputation else { return };
        let settings: &Settings = settings;
        let view = View { state: &self.state, headers };
        let mut meeting = Meeting { known: &self.state.priors, told: priors };
        let domain = with_domain.then_some(Subject::Domain);
        for subject in [Subject::Client, Subject::Network].into_iter().chain(domain) {
            reputation::note((subject, settings, &self.limits.memory), &view, events, &mut meeting);
        }
        self.state.missing.settle();
    }
}
