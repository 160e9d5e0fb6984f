//! The side of a [`Session`] that writes a journal and that a replay drives: what happens is told as the texts the rules
//! saw, and nothing is parsed or normalised again.
//!
//! How it fails: it does not; without a recorder every call here is one test.

use super::decision::Decision;
use super::journal::{Head, Headers, Keep, Recorder, Run, Said, Text, Tls, Told, What, facts};
use super::rules::{Policy, RuleId};
use super::score::signed;
use super::session::{Authentication, Session};
use super::state::TlsFacts;
use super::value::Given;
use crate::base::body::BodyShape;
use crate::base::proof::RelayGrant;
use crate::base::time::Instant;
use std::borrow::Cow;
use std::sync::Arc;

impl Session {
    /// Writes from now on what happens, as session `id` of the run. Call it before anything else is told.
    pub fn record(&mut self, run: &Arc<Run>, id: impl std::fmt::Display) {
        let mut recorder =
            Recorder::new(run.clone(), id.to_string(), self.state.peer.opened, self.state.peer.opened_wall);
        recorder.begin(self.head());
        self.recorder = Some(Box::new(recorder));
    }

    /// The line of the session as it would be if the session ended now; `None` when it is not recorded.
    pub fn recorded_so_far(&self) -> Option<Vec<u8>> {
        self.recorder.as_ref().map(|recorder| recorder.so_far())
    }

    /// What became of the message; for the journal and the history of its sender.
    pub fn settled(&mut self, now: Instant, how: &str, reply: &str) {
        self.learn_settled(how, reply);
        if self.shadow.is_some() {
            self.play_shadow(now, |_, play| play(What::Settled { how: how.into(), reply: reply.into() }, None));
        }
        if let Some(recorder) = &mut self.recorder {
            let order = recorder.order();
            recorder.event(now, order, What::Settled { how: how.into(), reply: reply.into() }, None);
        }
    }

    pub(super) fn head(&self) -> Head<'_> {
        let facts = &self.state.peer.facts;
        Head {
            policy: self.policy.version().into(),
            loads: self.load,
            listener: (&*facts.listener).into(),
            client: self.state.peer.ip.unwrap_or(facts.client.ip()),
            port: facts.client.port(),
            tls: facts.tls.as_ref().map(tls),
            ..Head::default()
        }
    }

    /// A number for what is about to be decided.
    #[inline]
    pub(super) fn order(&self) -> u64 {
        self.recorder.as_ref().map_or(0, |r| r.order())
    }

    fn note<G>(&mut self, now: Instant, order: u64, decision: Option<&Decision<G>>, what: fn(&Session) -> What<'_>) {
        if let Some(mut recorder) = self.recorder.take() {
            let said = decision.and_then(|d| said(&self.policy, d));
            recorder.event(now, order, what(self), said);
            if recorder.is_full() {
                recorder.end(true);
                recorder.begin(self.head());
            }
            self.recorder = Some(recorder);
        }
        if self.shadow.is_some() {
            self.play_shadow(now, |s, play| play(what(s), decision.and_then(|d| said(&s.policy, d))));
        }
    }

    pub(super) fn record_connect(&mut self, now: Instant, order: u64, d: &Decision) {
        self.note(now, order, Some(d), |s| What::Connect {
            early_talker: s.state.peer.early_talker,
            load: s.state.peer.load,
        });
    }
    pub(super) fn record_helo(&mut self, now: Instant, order: u64, d: &Decision) {
        self.note(now, order, Some(d), |s| What::Helo {
            name: Cow::Borrowed(&s.state.greeting.name),
            extended: s.state.greeting.extended,
        });
    }
    pub(super) fn record_auth(&mut self, now: Instant, order: u64, outcome: Authentication<'_>, d: &Decision) {
        let user = || match outcome {
            Authentication::Succeeded(user) => Some(Cow::Borrowed(user)),
            Authentication::Failed => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.event(now, order, What::Auth { user: user() }, said(&self.policy, d));
        }
        if self.shadow.is_some() {
            self.play_shadow(now, |s, play| play(What::Auth { user: user() }, said(&s.policy, d)));
        }
    }
    pub(super) fn record_mail(&mut self, now: Instant, order: u64, d: &Decision) {
        self.note(now, order, Some(d), |s| {
            let t = &s.state.transaction;
            What::Mail {
                sender: t.sender.all().into(),
                size: t.declared_octets,
                body: t.body,
                smtputf8: t.smtputf8,
                load: s.state.peer.load,
            }
        });
    }
    pub(super) fn record_probe(&mut self, now: Instant, order: u64, d: Option<&Decision>) {
        self.note(now, order, d, |s| What::Probe { to: s.state.recipient.address.all().into() });
    }
    pub(super) fn record_rcpt(&mut self, now: Instant, order: u64, d: &Decision<RelayGrant>) {
        self.note(now, order, Some(d), |s| What::Rcpt {
            to: s.state.recipient.address.all().into(),
            exists: s.state.recipient.exists,
        });
    }
    pub(super) fn record_data(&mut self, now: Instant, order: u64, section: &[u8], d: &Decision) {
        if let Some(recorder) = &mut self.recorder {
            let headers = facts(section, recorder.run().keep(), self.policy.header_names());
            recorder.event(now, order, What::Data(headers), said(&self.policy, d));
        }
        if let Some(policy) = self.shadow.as_ref().map(|shadow| shadow.policy()) {
            let headers = facts(section, Some(&Keep::default()), policy.header_names());
            self.play_shadow(now, |s, play| play(What::Data(headers), said(&s.policy, d)));
        }
    }
    pub(super) fn record_message(&mut self, now: Instant, order: u64, d: &Decision) {
        self.note(now, order, Some(d), |s| What::Message(s.state.transaction.shape));
    }
    pub(super) fn record_vrfy(&mut self, now: Instant, order: u64, d: &Decision) {
        self.note(now, order, Some(d), |s| What::Vrfy { argument: Cow::Borrowed(&s.state.query) });
    }
    pub(super) fn record_refused(&mut self) {
        self.note_untimed(|_| What::Refused);
    }
    pub(super) fn record_tls(&mut self) {
        self.note_untimed(|s| What::Tls(s.state.peer.facts.tls.as_ref().map(tls).unwrap_or_default()));
    }
    /// A reset without a transaction changes nothing and is not written.
    pub(super) fn record_reset(&mut self) {
        let t = &self.state.transaction;
        if !t.sender.all().is_empty() || t.accepted + t.refused + t.shape.octets > 0 || self.has_carried() {
            self.note_untimed(|_| What::Reset);
        }
    }
    /// A fact was found out. One that tells of persons is left out where those are hidden.
    pub(super) fn record_fact(&mut self, name: &str, given: &Given, personal: bool) {
        let now = self.state.now;
        if self.shadow.is_some() {
            self.play_shadow(now, |_, play| play(What::Fact { name: name.into(), value: Told::of(given) }, None));
        }
        let Some(recorder) = &mut self.recorder else { return };
        if personal && recorder.run().keep().is_none() {
            return;
        }
        let order = recorder.order();
        recorder.event(now, order, What::Fact { name: name.into(), value: Told::of(given) }, None);
    }
    /// What happens at no time of its own happens when the last decision was made.
    fn note_untimed(&mut self, what: fn(&Session) -> What<'_>) {
        let order = self.order();
        self.note::<()>(self.state.now, order, None, what);
    }
}

/// What a replay does beyond the calls of a live session.
impl Session {
    /// MAIL FROM as it was recorded.
    pub(super) fn replay_mail(&mut self, now: Instant, event: &What<'_>) -> Decision {
        self.begin_anew();
        if let What::Mail { sender, size, body, smtputf8, load } = event {
            let t = &mut self.state.transaction;
            if !sender.is_empty() {
                t.sender.set_normal(sender);
            }
            (t.declared_octets, t.body, t.smtputf8) = (*size, *body, *smtputf8);
            self.state.peer.load = *load;
        }
        self.decide_mail(now)
    }
    pub(super) fn replay_probe(&mut self, now: Instant, to: &str) -> Option<Decision> {
        self.state.recipient.address.set_normal(to);
        self.state.recipient.exists = None;
        self.decide_probe(now)
    }
    pub(super) fn replay_rcpt(&mut self, now: Instant, to: &str, exists: Option<bool>) -> Decision<RelayGrant> {
        self.state.recipient.address.set_normal(to);
        self.state.recipient.exists = exists;
        self.decide_rcpt(now)
    }
    /// The header section, of which `section` is what was kept.
    pub(super) fn replay_data(&mut self, now: Instant, headers: &Headers<'_>, section: &[u8]) -> Decision {
        let shape = &mut self.state.transaction.shape;
        *shape = BodyShape {
            header_octets: headers.octets,
            received_fields: u32::try_from(headers.received).unwrap_or(u32::MAX),
            ..BodyShape::default()
        };
        let decision = self.data(now, section);
        self.state.transaction.shape = BodyShape::default();
        decision
    }
}

/// A decision as it is written; `None` when it passed by default and nothing else is to be said.
pub(super) fn said<'a, G>(policy: &'a Policy, d: &'a Decision<G>) -> Option<Said<'a>> {
    let silent = d.rule == RuleId::DEFAULT
        && d.verdict.word() == "accept"
        && d.delay.is_zero()
        && d.route.is_none()
        && d.quarantine.is_none()
        && d.tags.is_empty()
        && d.scores.is_empty()
        && d.would.is_empty()
        && d.guard.is_none()
        && d.priors.is_empty();
    let says_score = !d.scores.is_empty() || policy.is_threshold(d.rule);
    (!silent).then(|| Said {
        verdict: d.verdict.word().into(),
        rule: policy.rule_name(d.rule).into(),
        reply: d.verdict.reply().map_or(Text::Borrowed(""), |r| r.to_string().into()),
        reason: Cow::Borrowed(&d.reason),
        delay_ms: u64::try_from(d.delay.as_millis()).unwrap_or(u64::MAX),
        route: d.route.as_deref().unwrap_or_default().into(),
        quarantine: d.quarantine.as_deref().unwrap_or_default().into(),
        tags: tags(&d.tags),
        points: if says_score { d.score } else { 0 },
        added: lines(d.scores.iter().map(|a| {
            let (name, reason) = (policy.rule_name(RuleId(a.rule)), &a.scored.reason);
            format!("{} {name}{}{reason}", signed(a.points), if reason.is_empty() { "" } else { ": " })
        })),
        would: lines(d.would.iter().map(|w| format!("{}: {}", policy.rule_name(w.rule), w.what))),
        guard: d
            .guard
            .map_or(Text::Borrowed(""), |(rule, what)| format!("{} {}", policy.rule_name(rule), what.word()).into()),
        prior: lines(d.priors.iter().map(ToString::to_string)),
    })
}

fn tags(tags: &[(String, String)]) -> Text<'static> {
    lines(tags.iter().map(|(name, value)| format!("{name}: {value}")))
}

/// One a line; nothing is allocated for none.
fn lines(items: impl Iterator<Item = String>) -> Text<'static> {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &item;
    }
    text.into()
}

fn tls(facts: &TlsFacts) -> Tls<'_> {
    Tls {
        version: Cow::Borrowed(&facts.version),
        cipher: Cow::Borrowed(&facts.cipher),
        client_name: Cow::Borrowed(&facts.client_name),
    }
}
