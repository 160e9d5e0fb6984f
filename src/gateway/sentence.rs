//! A whole message between its end and its settlement: what rules need of it is found out, the policy pronounces, and the
//! changes that it obeys are made.
//!
//! How it fails: a message that all changes leave without a recipient is refused; a change that cannot be made is left
//! out and logged; a file that cannot be written anew is 451.

use super::core::Core;
use super::edits::{Edited, edit, has_foreign_results, head_shape, rebuild};
use super::inbound::{Inbound, refuse};
use super::judge::Sentence;
use super::lanes::SpoolRequest;
use crate::base::body::Body;
use crate::base::envelope::Envelope;
use crate::smtp::server::{Answer, Service, Settled};
use crate::wire::replies;
use std::sync::Arc;

/// A message that the policy lets pass, as it goes on.
pub(super) struct Passed {
    pub envelope: Envelope,
    /// Fields of the policy for its top.
    pub tags: Vec<(String, String)>,
    /// A route that overrides those of the recipients.
    pub route: Option<Arc<str>>,
    /// Why it is kept back.
    pub quarantine: Option<Arc<str>>,
}

impl Core {
    /// Everything that can be found out is: the policy pronounces.
    pub(super) fn judged(&mut self, inbound: &mut Inbound, mut envelope: Envelope, body: Body) -> Option<Answer> {
        let head = body.head();
        let (tags, route, quarantine) = match inbound.judge.message(self.now, &body.shape, &head) {
            Sentence::Pass { tags, route, quarantine } => (tags, route, quarantine),
            Sentence::Discard(grant) => return Some(Answer::Settled(Settled::Discarded(grant))),
            Sentence::Answer(answer) => return Some(answer),
        };
        let edits = inbound.judge.edits();
        let own = self.shared.config.hostname.lower();
        if edits.is_empty() && !has_foreign_results(&head, &own) {
            return self.settle(inbound, Passed { envelope, tags, route, quarantine }, body);
        }
        let is_lmtp = inbound.server.service == Service::Lmtp;
        let edited = edit(&head, &edits, &own, &mut envelope, is_lmtp);
        for why in &edited.left_out {
            tracing::warn!(session = %inbound.session, why, "a helper's change is left out");
        }
        if envelope.recipients.is_empty() {
            tracing::info!(session = %inbound.session, "a helper has removed every recipient");
            return Some(refuse(replies::no_valid_recipients()));
        }
        let passed = Passed { envelope, tags, route, quarantine };
        if edited.head.is_none() && edited.text.is_none() {
            return self.settle(inbound, passed, body);
        }
        match rebuild(&body, &edited) {
            Some(body) => self.settle(inbound, passed, body),
            None => self.rewrite(inbound, passed, body, edited),
        }
    }

    /// The body is in a file: the spool lane makes another one.
    fn rewrite(&mut self, inbound: &mut Inbound, passed: Passed, body: Body, edited: Edited) -> Option<Answer> {
        if edited.text.is_some() {
            let octets = body.shape.octets;
            tracing::warn!(session = %inbound.session, octets, "a helper's body is left out: the message is in a file");
        }
        let Some(head) = edited.head else { return self.settle(inbound, passed, body) };
        let shape = head_shape(&body.shape, &head);
        inbound.gathering.rewriting = Some(Box::new(passed));
        let request = SpoolRequest::Rewrite { asker: inbound.asker(), body: Box::new(body), head, shape };
        match self.ask_spool(request) {
            Ok(()) => None,
            Err(_) => Some(refuse(replies::no_room())),
        }
    }
}
