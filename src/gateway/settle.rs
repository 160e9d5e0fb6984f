//! What stands behind the 250: the backend's own verdict (cut-through), our queue (spool), the first with the second
//! to fall back on (auto), or local mailboxes ([`local`](super::local)). From end of data to the answer for the machine.
//!
//! How it fails: a backend that cannot be reached is 451 in cut-through and a queued message in auto; a backend that
//! broke off after the last octet is 451, as the client's own server would say (RFC 5321 §4.5.3.2.6). When a backend
//! takes some recipients of a message and refuses others, the body is not sent: the client hears 451, and at its next
//! try the refused recipients are refused at RCPT, where it belongs.

use super::config::{Config, ResultsMode};
use super::core::{Asker, Core, End};
use super::inbound::{Inbound, refuse};
use super::lanes::{SpoolRequest, ToKeep};
use super::outbound::{Job, JobEnd, Owner, Task};
use super::routing::Key;
use super::sentence::Passed;
use super::targets::RouteMode;
use crate::base::body::Body;
use crate::base::envelope::{Envelope, Recipient};
use crate::base::id::SpoolId;
use crate::base::proof::Committed;
use crate::base::time::Instant;
use crate::reactor::clock;
use crate::relay::verify::RecipientCache;
use crate::smtp::client::{Delivery, Fate, Outcome, Phase, Unity};
use crate::smtp::server::{Answer, Kept, Message, MessageText, Service, Settled};
use crate::spool::SpoolError;
use crate::wire::header::Received;
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A message between end of data and its reply.
pub(super) struct Settlement {
    pub(super) id: SpoolId,
    pub(super) envelope: Arc<Envelope>,
    pub(super) prefix: Vec<u8>,
    pub(super) body: Body,
    /// Who gets it, in the order of the recipients.
    pub(super) keys: Vec<Key>,
    /// Name of the route of the first recipient.
    route: Arc<str>,
    mode: RouteMode,
    hold: Option<String>,
    began: Instant,
    /// What the client hears when the queue has taken what is left.
    pub(super) settled_before: Option<Settled>,
}

impl Settlement {
    /// Some have it: only these are left, for the queue.
    pub(super) fn left_for_queue(&mut self, recipients: Vec<Recipient>) {
        let envelope = Arc::make_mut(&mut self.envelope);
        self.keys = vec![Key::Mailboxes; recipients.len()];
        envelope.recipients = recipients;
    }
}

impl Core {
    /// End of data: a message that was spilled to a file is made whole first.
    pub(super) fn asks_message(&mut self, inbound: &mut Inbound, message: Message) -> Option<Answer> {
        let Message { envelope, text } = message;
        match text {
            MessageText::Memory(body) => self.whole_message(inbound, envelope, body),
            MessageText::Spilled { shape, head } => {
                // From here on the body's own handle keeps the file.
                let Some(file) = inbound.scratch.take() else {
                    return Some(refuse(replies::local_error()));
                };
                let asker = inbound.asker();
                let request = SpoolRequest::Finish { asker, file, shape, head: head.to_vec() };
                inbound.spilled_envelope = Some(Box::new(envelope));
                match self.ask_spool(request) {
                    Ok(()) => None,
                    Err(_) => Some(refuse(replies::no_room())),
                }
            }
        }
    }

    /// The spool lane has made a spilled body whole.
    pub(super) fn whole(&mut self, asker: Asker, result: Result<Body, String>) {
        let mut inbound = match self.take(asker.conn) {
            Some(End::Client(inbound)) => inbound,
            Some(End::Access(access)) => return self.access_whole(access, asker, result),
            Some(other) => return self.put(asker.conn, other),
            None => return,
        };
        if inbound.question != asker.question {
            return self.put(asker.conn, End::Client(inbound));
        }
        let rewriting = inbound.gathering.rewriting.take();
        let answer = match (result, inbound.spilled_envelope.take()) {
            (Ok(body), Some(envelope)) => self.whole_message(&mut inbound, *envelope, body),
            (Ok(body), None) if rewriting.is_some() => rewriting.and_then(|p| self.settle(&mut inbound, *p, body)),
            (Ok(_), None) => Some(refuse(replies::local_error())),
            (Err(error), _) => {
                tracing::error!(session = %inbound.session, error, "cannot keep a large message");
                Some(refuse(replies::local_error()))
            }
        };
        match answer {
            Some(answer) => self.client_answered(inbound, asker.question, answer),
            None => self.put(asker.conn, End::Client(inbound)),
        }
    }

    /// A message that the policy lets pass goes where its recipients' routes lead.
    pub(super) fn settle(&mut self, inbound: &mut Inbound, passed: Passed, body: Body) -> Option<Answer> {
        let Passed { mut envelope, tags, route, quarantine } = passed;
        if let Err(reply) =
            crate::relay::loops::check_hops(body.shape.received_fields, self.shared.config.settings.relay.hops_max)
        {
            return Some(refuse(reply));
        }
        let id = SpoolId(self.ids.next_id());
        envelope.origin.received = clock::wall();
        let prefix = trace_fields(&self.shared.config, inbound, &envelope, id, &tags);
        let mut keys = Vec::with_capacity(envelope.recipients.len());
        let mut mode = None;
        let mut name: Option<Arc<str>> = None;
        for recipient in &envelope.recipients {
            let named = route.as_deref().or_else(|| inbound.named_route(&recipient.mailbox));
            let chosen = self.shared.routing.route(&recipient.mailbox, named);
            keys.push(self.shared.routing.key(chosen, &recipient.mailbox));
            let this = chosen.map_or(RouteMode::Spool, |r| r.mode);
            mode = Some(mode.map_or(this, |m| if m == this { m } else { RouteMode::Spool }));
            name.get_or_insert_with(|| chosen.map_or_else(|| "none".into(), |r| r.name.clone()));
        }
        if self.people(&envelope, &keys) > self.shared.config.settings.addresses.people_max {
            return Some(refuse(replies::too_many_people()));
        }
        // Aliases and lists may lead away from here.
        let led_away = self.follow_aliases(&mut envelope, &mut keys);
        // One backend's verdict cannot stand for two backends.
        let single = keys.windows(2).all(|k| k[0] == k[1]);
        let reachable = !keys.contains(&Key::Nowhere);
        let mode = match mode {
            Some(mode) if single && reachable && !led_away && quarantine.is_none() => mode,
            _ => RouteMode::Spool,
        };
        inbound.settling = Some(Box::new(Settlement {
            id,
            envelope: Arc::new(envelope),
            prefix,
            body,
            keys,
            route: name.unwrap_or_else(|| "none".into()),
            mode,
            hold: quarantine.map(|why| format!("quarantine: {why}")),
            began: self.now,
            settled_before: None,
        }));
        match mode {
            RouteMode::CutThrough | RouteMode::Auto => {
                self.cut_through(inbound);
                None
            }
            RouteMode::Spool => self.keep(inbound),
            RouteMode::Mailbox => self.settle_locally(inbound),
        }
    }

    fn cut_through(&mut self, inbound: &Inbound) {
        let Some(settlement) = inbound.settling.as_ref() else { return };
        let unity = match inbound.server.service {
            Service::Lmtp => Unity::Each,
            Service::Mx | Service::Submission => Unity::AllOrNone,
        };
        let recipients = (0..settlement.envelope.recipients.len() as u32).collect();
        let delivery = Delivery {
            envelope: settlement.envelope.clone(),
            recipients,
            prefix: settlement.prefix.clone(),
            body: settlement.body.clone(),
            unity,
        };
        let knobs = &self.shared.config.settings.relay;
        let wait = if settlement.mode == RouteMode::Auto { knobs.auto_wait } else { knobs.cut_through_wait };
        let Some(to) = settlement.keys.first().cloned() else { return };
        self.submit(Job {
            owner: Owner::Client(inbound.asker()),
            to,
            task: Task::Deliver(Box::new(delivery)),
            tries: 0,
            give_up: self.now + wait,
        });
    }

    /// Gives a message to the queue; the answer comes with the commit, or now when the lane has no room.
    pub(super) fn keep(&mut self, inbound: &mut Inbound) -> Option<Answer> {
        let asker = inbound.asker();
        let settlement = inbound.settling.as_mut()?;
        self.spread_lists(Arc::make_mut(&mut settlement.envelope), &mut settlement.keys);
        let keep = ToKeep {
            id: settlement.id,
            envelope: (*settlement.envelope).clone(),
            prefix: settlement.prefix.clone(),
            body: settlement.body.clone(),
            destinations: settlement.keys.iter().map(|k| self.shared.routing.text(k)).collect(),
            hold: settlement.hold.clone(),
        };
        match self.ask_spool(SpoolRequest::Keep { asker, keep: Box::new(keep) }) {
            Ok(()) => None,
            Err(_) => Some(self.settled(inbound, Settled::Refused(replies::no_room()))),
        }
    }

    /// The spool lane has committed a message, or could not.
    pub(super) fn kept(&mut self, asker: Asker, result: Result<Committed, SpoolError>) {
        let Some(End::Client(mut inbound)) = self.take(asker.conn) else { return };
        if inbound.question != asker.question {
            return self.put(asker.conn, End::Client(inbound));
        }
        let settled = match result {
            Ok(committed) => {
                let before = inbound.settling.as_mut().and_then(|s| s.settled_before.take());
                before.unwrap_or(Settled::Committed(committed))
            }
            Err(SpoolError::Full(_)) => Settled::Refused(replies::no_room()),
            Err(_) => Settled::Refused(replies::local_error()),
        };
        let answer = self.settled(&mut inbound, settled);
        self.client_answered(inbound, asker.question, answer);
    }

    /// A cut-through job of a client has ended.
    pub(super) fn settle_ended(&mut self, asker: Asker, end: JobEnd) {
        self.ended_jobs.push_back((asker, end));
    }

    /// Answers clients whose jobs have ended; outside of the leg that did them.
    pub(super) fn settle_ended_jobs(&mut self) {
        while let Some((asker, end)) = self.ended_jobs.pop_front() {
            let Some(End::Client(mut inbound)) = self.take(asker.conn) else { continue };
            if inbound.question != asker.question || inbound.settling.is_none() {
                self.put(asker.conn, End::Client(inbound));
                continue;
            }
            match self.verdict(&mut inbound, end) {
                Some(settled) => {
                    let answer = self.settled(&mut inbound, settled);
                    self.client_answered(inbound, asker.question, answer);
                }
                // Auto: the queue takes it over, under the same question.
                None => match self.keep(&mut inbound) {
                    Some(answer) => self.client_answered(inbound, asker.question, answer),
                    None => self.put(asker.conn, End::Client(inbound)),
                },
            }
        }
    }

    /// What the end of a job means for the client; `None` when the queue is to take the message.
    fn verdict(&mut self, inbound: &mut Inbound, end: JobEnd) -> Option<Settled> {
        let settlement = inbound.settling.as_ref()?;
        let auto = settlement.mode == RouteMode::Auto;
        match end {
            JobEnd::Refused(reply) => Some(Settled::Refused(reply)),
            JobEnd::Unavailable(reason) => {
                tracing::warn!(session = %inbound.session, route = &*settlement.route, reason, auto, "backend unavailable");
                (!auto).then(|| Settled::Refused(replies::backend_unavailable()))
            }
            JobEnd::Verified(_) => Some(Settled::Refused(replies::local_error())),
            JobEnd::Finished { outcome, .. } => {
                for (index, fate) in &outcome.recipients {
                    self.learn(&settlement.route, &settlement.envelope, *index, fate);
                }
                match inbound.server.service {
                    Service::Lmtp => each(outcome, auto),
                    Service::Mx | Service::Submission => one(outcome, auto),
                }
            }
        }
    }

    fn learn(&mut self, route: &str, envelope: &Envelope, index: u32, fate: &Fate) {
        if let (Fate::Refused { reply, at: Phase::Rcpt }, Some(recipient)) =
            (fate, envelope.recipients.get(index as usize))
        {
            let key = RecipientCache::key(route, &recipient.mailbox);
            self.recipients.learn(self.now, key, reply);
        }
    }

    /// The settlement is over: its line in the log, and the answer.
    pub(super) fn settled(&mut self, inbound: &mut Inbound, settled: Settled) -> Answer {
        if let Some(s) = inbound.settling.take() {
            self.meter.message_settled(
                &settled,
                s.mode,
                s.envelope.recipients.len(),
                s.body.shape.octets,
                self.now.since(s.began),
            );
            let (verdict, reply) = match &settled {
                Settled::Committed(_) => ("queued", None),
                Settled::Accepted(accepted) => ("delivered", Some(accepted.text().to_owned())),
                Settled::Discarded(_) => ("discarded", None),
                Settled::Refused(reply) => ("refused", Some(reply.to_string())),
                Settled::PerRecipient(_) => ("per recipient", None),
            };
            if !matches!(settled, Settled::Refused(_)) {
                self.shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
            }
            inbound.judge.settled(self.now, verdict, reply.as_deref());
            let ms = self.now.since(s.began).as_millis() as u64;
            tracing::info!(
                target: "message", session = %inbound.session, id = %s.id, verdict, reply,
                from = %s.envelope.sender, recipients = s.envelope.recipients.len(),
                to = %s.envelope.recipients.first().map(|r| r.mailbox.to_string()).unwrap_or_default(),
                size = s.body.shape.octets, route = &*s.route, ms, "message"
            );
        }
        Answer::Settled(settled)
    }
}

/// One verdict for all recipients, or `None` when the queue should try.
fn one(outcome: Outcome, auto: bool) -> Option<Settled> {
    let mut accepted = None;
    let mut refused: Option<Reply> = None;
    let (mut withheld, mut lost, mut transient) = (false, false, false);
    for (_, fate) in outcome.recipients {
        match fate {
            Fate::Accepted(proof) => accepted = Some(proof),
            Fate::Refused { reply, .. } => {
                transient |= reply.is_transient();
                // A 4xx among 5xx: the client is to come back.
                if refused.as_ref().is_none_or(|r| r.is_permanent() && reply.is_transient()) {
                    refused = Some(reply);
                }
            }
            Fate::Withheld => withheld = true,
            Fate::Lost { .. } => lost = true,
        }
    }
    match (accepted, refused) {
        _ if auto && (lost || transient && !withheld) => None,
        _ if lost => Some(Settled::Refused(replies::backend_lost())),
        (_, Some(_)) if withheld => Some(Settled::Refused(replies::recipients_differ())),
        (_, Some(reply)) => Some(Settled::Refused(reply)),
        (Some(proof), None) => Some(Settled::Accepted(proof)),
        (None, None) => Some(Settled::Refused(replies::local_error())),
    }
}

/// One verdict per recipient (RFC 2033 §4.2); `None` when nobody has it and the queue should try.
fn each(outcome: Outcome, auto: bool) -> Option<Settled> {
    let nobody = outcome.recipients.iter().all(|(_, fate)| match fate {
        Fate::Lost { .. } => true,
        Fate::Refused { reply, .. } => reply.is_transient(),
        Fate::Accepted(_) | Fate::Withheld => false,
    });
    if auto && nobody {
        return None;
    }
    let verdicts = outcome.recipients.into_iter().map(|(_, fate)| match fate {
        Fate::Accepted(proof) => Ok(Kept::Accepted(proof)),
        Fate::Refused { reply, .. } => Err(reply),
        Fate::Withheld => Err(replies::recipients_differ()),
        Fate::Lost { .. } => Err(replies::backend_lost()),
    });
    Some(Settled::PerRecipient(verdicts.collect()))
}

/// The fields put on top of a message: what was found out (RFC 8601 §4), Received (RFC 5321 §4.4), then those of the policy.
fn trace_fields(
    config: &Config,
    inbound: &Inbound,
    envelope: &Envelope,
    id: SpoolId,
    tags: &[(String, String)],
) -> Vec<u8> {
    let origin = &envelope.origin;
    let tls = inbound.machine.peer().tls.as_ref().map(|t| format!("{} {}", t.version, t.cipher));
    let only = match envelope.recipients.as_slice() {
        [recipient] => Some(&recipient.mailbox),
        _ => None,
    };
    let received = Received {
        helo: &origin.helo,
        ptr: inbound.judge.name(),
        client: origin.client.map(|c| c.ip()),
        host: config.hostname.as_str(),
        protocol: origin.protocol,
        tls: tls.as_deref(),
        id: &id.to_string(),
        recipient: only,
        date: origin.received,
    };
    let mut fields = Vec::new();
    if config.settings.server.authentication_results == ResultsMode::WhenChecked {
        let sender = envelope.sender.mailbox().map(ToString::to_string).unwrap_or_default();
        let logged_in = inbound.machine.user().is_some();
        let field = inbound.judge.checks().field(&config.hostname.lower(), &sender, logged_in);
        fields.extend_from_slice(field.unwrap_or_default().as_bytes());
    }
    fields.extend_from_slice(received.emit().as_bytes());
    for (name, value) in tags {
        fields.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    fields
}
