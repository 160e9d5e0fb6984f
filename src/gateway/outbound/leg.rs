//! A leg: one connection to a backend with its client machine, and what the core does when something happens on it.
//!
//! How it fails: whatever ends the connection gives the job on it a definite end; a job that met a connection which the
//! backend had closed between messages is put on another one, once, and nobody is told (nothing had been answered).

use super::{Candidate, Job, JobEnd, Owner, Task};
use crate::base::body::Store;
use crate::base::buf::{Input, Output};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::gateway::core::{Core, End};
use crate::gateway::lanes::SpoolRequest;
use crate::gateway::pipe::{Machine, Pipe};
use crate::reactor::tls::Tls;
use crate::reactor::{End as Ended, Id};
use crate::relay::pool::Trouble;
use crate::smtp::client::{Client, ClientError, Delivery, Event, Fate, Outcome, Verification};
use std::io;

/// One connection to a backend.
pub(in crate::gateway) struct Leg {
    pipe: Pipe,
    client: Client,
    /// Index of its destination in [`super::Outbound`].
    pub(super) destination: usize,
    pub(super) candidate: Candidate,
    job: Option<Running>,
    connected: bool,
    /// Whether it was ever ready: then a failure is the backend's mood, before it is its absence.
    pub(super) served: bool,
    /// Its pool and place there, for the meters.
    pool: Option<(usize, usize)>,
    /// When it became idle; before it was connected: when it was begun.
    pub(super) idle_since: Instant,
}

/// The job on a leg, with what is needed to give it to another one.
struct Running {
    owner: Owner,
    again: Option<Job>,
    /// The lane's number for the body, when it is in a file.
    file: Option<u64>,
    /// Length of that body.
    octets: u64,
    /// When it was begun.
    began: Instant,
}

impl Machine for Client {
    fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>) {
        Client::handle_bytes(self, now, input);
    }
    fn poll_transmit(&mut self, out: &mut Output) {
        Client::poll_transmit(self, out);
    }
    fn wants_input(&self) -> bool {
        true
    }
    fn tls_started(&mut self, now: Instant, facts: TlsFacts) {
        Client::tls_started(self, now, Some(facts.channel_binding));
    }
}

impl Leg {
    pub(super) fn new(
        id: Id,
        client: Client,
        destination: usize,
        candidate: Candidate,
        pool: Option<(usize, usize)>,
        now: Instant,
    ) -> Leg {
        let pipe = Pipe::new(id);
        let (job, connected, served, idle_since) = (None, false, false, now);
        Leg { pipe, client, destination, candidate, job, connected, served, pool, idle_since }
    }

    pub(in crate::gateway) fn pipe(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    pub(super) fn id(&self) -> Id {
        self.pipe.id
    }

    pub(super) fn messages(&self) -> u64 {
        self.client.transactions()
    }
}

impl Core {
    pub(in crate::gateway) fn leg_connected(&mut self, mut leg: Box<Leg>, result: io::Result<()>) {
        if let Err(error) = result {
            let reason = format!("cannot connect to {}: {error}", leg.candidate);
            self.leg_failed(&mut leg, &reason, Trouble::Unreachable);
            leg.pipe.close_now(&mut self.driver);
            return self.put(leg.id(), End::Leg(leg));
        }
        leg.connected = true;
        if self.outbound.destinations[leg.destination].tls_from_start(&leg.candidate) {
            match self.backend_tls(&leg) {
                Ok(tls) => leg.pipe.start_tls(tls),
                Err(text) => leg.client.tls_failed(self.now, text),
            }
        }
        leg.pipe.receive(&mut self.driver, true);
        self.leg_drive(leg);
    }

    pub(in crate::gateway) fn leg_received(&mut self, mut leg: Box<Leg>, bytes: &[u8]) {
        if let Err(error) = leg.pipe.received(self.now, &mut leg.client, bytes) {
            leg.client.tls_failed(self.now, error.to_string());
        }
        self.leg_drive(leg);
    }

    pub(in crate::gateway) fn leg_ended(&mut self, mut leg: Box<Leg>, why: Ended) {
        match why {
            Ended::Eof => leg.client.handle_eof(self.now),
            Ended::Failed(error) => leg.client.handle_error(self.now, error.to_string()),
        }
        self.leg_drive(leg);
    }

    pub(in crate::gateway) fn leg_sent(&mut self, mut leg: Box<Leg>, result: io::Result<()>) {
        leg.pipe.sent();
        if let Err(error) = result {
            // What the backend had said before it closed may still be in the receive buffer; it is told by RecvEnd.
            tracing::debug!(backend = %leg.candidate, %error, "send failed");
            leg.pipe.broken();
            return self.put(leg.id(), End::Leg(leg));
        }
        self.leg_drive(leg);
    }

    pub(in crate::gateway) fn leg_fired(&mut self, mut leg: Box<Leg>) {
        leg.pipe.fired();
        if !leg.connected && self.now >= leg.idle_since + self.shared.config.settings.relay.connect_timeout {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return self.leg_connected(leg, Err(late));
        }
        leg.client.handle_timeout(self.now);
        self.leg_drive(leg);
    }

    pub(in crate::gateway) fn leg_closed(&mut self, mut leg: Box<Leg>) {
        // Only a leg that was given up before its machine knew still has a job here.
        if let Some(running) = leg.job.take() {
            self.job_ended(running.owner, JobEnd::Unavailable(format!("{} closed the connection", leg.candidate)));
        }
        self.outbound.leg_gone(&leg);
        self.supply(leg.destination);
    }

    /// The next octets of a body that a lane keeps in a file.
    pub(in crate::gateway) fn leg_body(&mut self, mut leg: Box<Leg>, offset: u64, part: io::Result<Vec<u8>>) {
        let octets = leg.job.as_ref().map_or(0, |running| running.octets);
        match part {
            Ok(bytes) => {
                let last = offset + bytes.len() as u64 >= octets;
                leg.client.supply_body(self.now, bytes, last);
            }
            Err(error) => leg.client.abandon(error.to_string()),
        }
        self.leg_drive(leg);
    }

    /// Says goodbye on an idle leg.
    pub(super) fn leg_quit(&mut self, mut leg: Box<Leg>) {
        leg.client.quit(self.now);
        self.leg_drive(leg);
    }

    /// Puts a job on a ready leg.
    pub(super) fn leg_start(&mut self, mut leg: Box<Leg>, job: Job) {
        let fresh = leg.client.transactions() == 0;
        // A backend may have closed a kept connection meanwhile: then the job is done again on another one.
        let again = (!fresh && job.tries == 0).then(|| Job { tries: 1, ..job.clone() });
        let (file, octets) = match &job.task {
            Task::Deliver(delivery) => (file_of(delivery), delivery.body.shape.octets),
            Task::Verify { .. } => (None, 0),
        };
        let started = match job.task {
            Task::Deliver(delivery) => leg.client.submit(self.now, *delivery).is_ok(),
            Task::Verify { sender, recipient } => leg.client.verify(self.now, sender, recipient).is_ok(),
        };
        if !started {
            let end = JobEnd::Unavailable(format!("{} could not take the message", leg.candidate));
            self.job_ended(job.owner, end);
            return self.leg_drive(leg);
        }
        leg.job = Some(Running { owner: job.owner, again, file, octets, began: self.now });
        self.leg_drive(leg);
    }

    /// Takes what the machine has to tell, sends what it wants sent, files its deadline.
    fn leg_drive(&mut self, mut leg: Box<Leg>) {
        // What arrived has been shown to the machine when it arrived. It is not shown again here: the machine takes that
        // for a sign of life, and a timer that fires a little early would put its deadline off for ever.
        while let Some(event) = leg.client.poll_event() {
            match event {
                Event::StartTls => {
                    leg.pipe.flush(&mut self.driver, &mut leg.client);
                    match self.backend_tls(&leg) {
                        Ok(tls) => leg.pipe.start_tls(tls),
                        Err(text) => leg.client.tls_failed(self.now, text),
                    }
                }
                Event::Ready => {
                    leg.served = true;
                    self.meter.backend(leg.pool).connected.add(1);
                    self.outbound.leg_opened(&leg, self.now);
                    return self.leg_free(leg);
                }
                Event::NeedBody { offset, octets_max } => self.leg_wants_body(&leg, offset, octets_max),
                Event::Verified(verification) => {
                    self.leg_verified(&mut leg, verification);
                    if leg.client.is_ready() {
                        return self.leg_free(leg);
                    }
                }
                Event::Finished(outcome) => {
                    let reusable = outcome.reusable;
                    self.leg_finished(&mut leg, outcome);
                    if reusable && leg.client.is_ready() {
                        return self.leg_free(leg);
                    }
                }
                Event::Closed(error) => {
                    self.leg_failed(&mut leg, &error.to_string(), trouble(&error));
                    leg.pipe.close_after_flush(&mut self.driver, &mut leg.client);
                }
            }
        }
        self.leg_flush(leg);
    }

    fn leg_flush(&mut self, mut leg: Box<Leg>) {
        leg.pipe.flush(&mut self.driver, &mut leg.client);
        if let Some(at) = leg.pipe.deadline_to_arm(leg.client.poll_timeout()) {
            self.arm(leg.id(), at);
        }
        self.put(leg.id(), End::Leg(leg));
    }

    /// The leg can take a job: the next that waits, or none and it is idle.
    fn leg_free(&mut self, mut leg: Box<Leg>) {
        if self.outbound.is_worn(&leg, self.now) {
            leg.client.quit(self.now);
            return self.leg_drive(leg);
        }
        match self.outbound.next_job(leg.destination) {
            Some(job) => self.leg_start(leg, job),
            None => {
                leg.idle_since = self.now;
                let id = leg.id();
                if self.outbound.leg_idle(leg.destination, id) {
                    return self.leg_flush(leg);
                }
                leg.client.quit(self.now);
                self.leg_drive(leg);
            }
        }
    }

    fn leg_finished(&mut self, leg: &mut Leg, outcome: Outcome) {
        let Some(running) = leg.job.take() else { return };
        // Nothing was answered on a connection from the pool: the backend had closed it before it saw the message. (It
        // might have taken all of it and died before it said a word; then the client would have sent it again as well.)
        let lost = outcome.recipients.iter().any(|(_, f)| matches!(f, Fate::Lost { .. }));
        if lost
            && !outcome.answered
            && let Some(job) = running.again
        {
            return self.submit(job);
        }
        let meter = self.meter.backend(leg.pool);
        meter.answered.add(1);
        meter.answer.observe_time(self.now.since(running.began));
        self.outbound.leg_answered(leg, &outcome, self.now);
        self.job_ended(
            running.owner,
            JobEnd::Finished {
                outcome,
                dsn: leg.client.capabilities().dsn,
                speaks: self.outbound.destinations[leg.destination].client_of(&leg.candidate).speaks,
            },
        );
    }

    fn leg_verified(&mut self, leg: &mut Leg, verification: Verification) {
        let Some(running) = leg.job.take() else { return };
        if let (Verification::Lost(_), Some(job)) = (&verification, running.again) {
            return self.submit(job);
        }
        let meter = self.meter.backend(leg.pool);
        meter.answered.add(1);
        meter.answer.observe_time(self.now.since(running.began));
        self.job_ended(running.owner, JobEnd::Verified(verification));
    }

    /// The connection is of no more use: tells the pool, and the jobs that waited for it look for another.
    fn leg_failed(&mut self, leg: &mut Leg, reason: &str, trouble: Trouble) {
        if !leg.served {
            self.meter.backend(leg.pool).failed.add(1);
        }
        self.outbound.leg_lost(leg, reason, trouble, self.now);
        if let Some(running) = leg.job.take() {
            match running.again {
                Some(job) => self.submit(job),
                None => self.job_ended(running.owner, JobEnd::Unavailable(reason.to_owned())),
            }
        }
        self.supply(leg.destination);
    }

    fn leg_wants_body(&mut self, leg: &Leg, offset: u64, octets_max: usize) {
        if let Some(file) = leg.job.as_ref().and_then(|running| running.file) {
            let request = SpoolRequest::ReadBody { leg: leg.id(), file, offset, octets_max };
            // Told, not asked: a leg in the middle of a body cannot go on without.
            self.tell_spool(usize::from(self.number), request);
        }
    }

    fn backend_tls(&self, leg: &Leg) -> Result<Tls, String> {
        let destination = &self.outbound.destinations[leg.destination];
        let (config, name) = destination.tls_of(&leg.candidate);
        Tls::client(&config, &name).map_err(|e| e.to_string())
    }
}

/// What the end of a connection says about the backend.
fn trouble(error: &ClientError) -> Trouble {
    match error {
        ClientError::ServiceClosing(_)
        | ClientError::Unwelcome { .. }
        | ClientError::TlsNotOffered
        | ClientError::TlsRefused(_)
        | ClientError::TlsFailed(_)
        | ClientError::AuthNotOffered { .. }
        | ClientError::AuthRefused(_)
        | ClientError::AuthFailed(_)
        | ClientError::Ourselves { .. }
        | ClientError::XclientNotOffered => Trouble::Unwilling,
        _ => Trouble::Unreachable,
    }
}

/// The file a delivery's body is in, if it is in one.
fn file_of(delivery: &Delivery) -> Option<u64> {
    match &delivery.body.store {
        Store::Memory(_) => None,
        Store::File { file, .. } => Some(file.id()),
    }
}
