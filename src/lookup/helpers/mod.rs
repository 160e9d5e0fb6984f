//! Programs outside that are consulted about a message: milters, rspamd over HTTP, Postfix policy services.
//!
//! [`Helpers::consult`] tells one of them a [`Case`] and brings back its [`Advice`]. It runs on the lookup lane's
//! runtime: nothing in it blocks, and it holds a connection only while it is being answered.
//!
//! How it fails: a helper that is away, hangs, closes or answers garbage never makes more of it than what
//! `[helper.NAME] on_failure` says, within `timeout`; after `failures_max` failures in a row it is not asked for a while.
//! The log hears of it once a minute with counts.

mod address;
mod content;
mod delegation;
mod failure;
mod health;
mod idle;
mod knobs;
mod milter;
mod reply;
mod rspamd;

pub use address::HelperAddress;
pub use knobs::{HelperConfig, HelperKind, HelperKnobs, OnFailure, OnOversize};

use super::Consult;
use crate::base::inquiry::{Action, Advice, Case, Finding};
use address::Stream;
use failure::Failure;
use health::{Admitted, Health, Report};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Every helper of the configuration.
#[derive(Debug, Default)]
pub struct Helpers {
    by_name: BTreeMap<String, Helper>,
}

/// What a helper has been asked, and how it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelperCounters {
    /// Consultations in all.
    pub asked: u64,
    /// Of those: answered.
    pub answered: u64,
    /// Of those: failed, by whoever's fault.
    pub failed: u64,
    /// Of the failed: it was not asked because it had failed too often.
    pub aside: u64,
    /// Of the failed: too many were waiting.
    pub busy: u64,
    /// Messages that were too large to be told.
    pub oversize: u64,
    /// Connections made.
    pub connections: u64,
    /// Time that answered consultations took, in microseconds.
    pub answered_micros: u64,
    /// Consultations going on or waiting now.
    pub waiting: u64,
    /// Whether it is set aside now.
    pub is_aside: bool,
}

impl Helpers {
    /// Makes the helpers; nothing is connected yet. The error is a file that cannot be read, with the knob that names it.
    pub fn load(configs: &[HelperConfig]) -> Result<Helpers, String> {
        let mut by_name = BTreeMap::new();
        for config in configs {
            by_name.insert(config.name.clone(), Helper::load(config)?);
        }
        Ok(Helpers { by_name })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Tells the helper `name` the case; its advice, or what its section says of a failure. Takes `timeout` at most.
    pub async fn consult(&self, name: &str, case: &Case) -> Finding {
        match self.by_name.get(name) {
            Some(helper) => helper.consult(case).await,
            None => Finding::Unknown(format!("there is no [helper.{name}]").into()),
        }
    }

    /// As [`Helpers::consult`], for a thread that may wait and has no runtime.
    pub fn consult_now(&self, name: &str, case: &Case) -> std::io::Result<Finding> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.consult(name, case)))
    }

    /// What has been asked, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, HelperCounters)> {
        self.by_name.iter().map(|(name, helper)| (name.as_str(), helper.counters()))
    }
}

impl Consult for Helpers {
    fn consult<'a>(&'a self, name: &'a str, case: &'a Case) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>> {
        Box::pin(Helpers::consult(self, name, case))
    }
}

/// How a kind of helper is spoken to.
enum Speaker {
    Milter(milter::Milter),
    Rspamd(rspamd::Rspamd),
    Policy(delegation::Policy),
}

struct Helper {
    config: HelperConfig,
    door: Door,
    speaker: Speaker,
    health: Health,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    asked: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    aside: AtomicU64,
    busy: AtomicU64,
    oversize: AtomicU64,
    answered_micros: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Helper {
    fn load(config: &HelperConfig) -> Result<Helper, String> {
        let knobs = &config.knobs;
        let required = |what| format!("helper.{}: {what:?} is required", config.name);
        let address = knobs.address.clone().ok_or_else(|| required("address"))?;
        let speaker = match knobs.kind.ok_or_else(|| required("kind"))? {
            HelperKind::Milter => Speaker::Milter(milter::Milter::new(knobs)),
            HelperKind::Rspamd => Speaker::Rspamd(rspamd::Rspamd::load(config, &address)?),
            HelperKind::Policy => Speaker::Policy(delegation::Policy::new(knobs)),
        };
        let door = Door {
            address,
            connect_timeout: knobs.connect_timeout,
            connections: Semaphore::new(knobs.connections_max),
            waiting: AtomicUsize::new(0),
            inside_max: knobs.connections_max + knobs.waiting_max,
            connected: AtomicU64::new(0),
        };
        let health = Health::new(knobs.failures_max, knobs.retry_after);
        Ok(Helper { config: config.clone(), door, speaker, health, tally: Tally::default() })
    }

    async fn consult(&self, case: &Case) -> Finding {
        let (name, knobs) = (&self.config.name, &self.config.knobs);
        if !knobs.listeners.is_empty() && !knobs.listeners.iter().any(|l| **l == *case.listener) {
            return Finding::Unknown(format!("helper {name} is not asked about listener {}", case.listener).into());
        }
        if case.body.is_none() && matches!(self.speaker, Speaker::Rspamd(_)) {
            return Finding::Unknown(format!("helper {name} is rspamd, which judges whole messages").into());
        }
        let octets = case.body.as_ref().map_or(0, |body| body.shape.octets);
        if octets > knobs.message_octets_max.0 {
            count(&self.tally.oversize);
            return oversize(name, knobs, octets);
        }
        count(&self.tally.asked);
        let started = Instant::now();
        let (admitted, result) = match self.health.admit(started) {
            Err(failure) => (None, Err(failure)),
            Ok(admitted) => (Some(admitted), self.limited(case).await),
        };
        self.settle(admitted, result, started)
    }

    async fn limited(&self, case: &Case) -> Result<Advice, Failure> {
        let limit = self.config.knobs.timeout;
        timeout(limit, self.ask(case)).await.unwrap_or(Err(Failure::Timeout("end of the consultation", limit)))
    }

    async fn ask(&self, case: &Case) -> Result<Advice, Failure> {
        let _place = self.door.enter().await?;
        match &self.speaker {
            Speaker::Milter(milter) => milter.ask(&self.door, case).await,
            Speaker::Rspamd(rspamd) => rspamd.ask(&self.door, case).await,
            Speaker::Policy(policy) => policy.ask(&self.door, case).await,
        }
    }

    /// Counts, reports, and makes the finding.
    fn settle(&self, admitted: Option<Admitted<'_>>, result: Result<Advice, Failure>, started: Instant) -> Finding {
        let now = Instant::now();
        let report = self.health.settle(admitted, result.as_ref().err(), now);
        match result {
            Ok(advice) => {
                count(&self.tally.answered);
                let micros = u64::try_from(now.duration_since(started).as_micros()).unwrap_or(u64::MAX);
                self.tally.answered_micros.fetch_add(micros, Ordering::Relaxed);
                if let Some(Report::Recovered { failed }) = report {
                    let (name, address) = (&self.config.name, &self.door.address);
                    tracing::info!(target: "helpers", "helper {name} at {address} answers again; {failed} more failed before");
                }
                Finding::Advice(Box::new(advice))
            }
            Err(failure) => {
                count(&self.tally.failed);
                match failure {
                    Failure::Aside(_) => count(&self.tally.aside),
                    Failure::Busy(_) => count(&self.tally.busy),
                    _ => {}
                }
                if let Some(Report::Failing { failed, asked }) = report {
                    self.warn(failed, asked, &failure);
                }
                failed_finding(&self.config, &failure)
            }
        }
    }

    fn warn(&self, failed: u64, asked: u64, failure: &Failure) {
        let HelperConfig { name, knobs } = &self.config;
        let aside = if self.health.is_aside() { "; set aside for now" } else { "" };
        tracing::warn!(
            target: "helpers",
            "helper {name} at {}: {failed} of {asked} consultations failed{aside}; the last: {failure}; \
             on_failure = {:?}; next report in a minute at the earliest",
            self.door.address,
            knobs.on_failure.word()
        );
    }

    fn counters(&self) -> HelperCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HelperCounters {
            asked: read(&self.tally.asked),
            answered: read(&self.tally.answered),
            failed: read(&self.tally.failed),
            aside: read(&self.tally.aside),
            busy: read(&self.tally.busy),
            oversize: read(&self.tally.oversize),
            connections: read(&self.door.connected),
            answered_micros: read(&self.tally.answered_micros),
            waiting: self.door.waiting.load(Ordering::Relaxed) as u64,
            is_aside: self.health.is_aside(),
        }
    }
}

/// What stands in for the answer about a message that is not told.
fn oversize(name: &str, knobs: &HelperKnobs, octets: u64) -> Finding {
    let max = knobs.message_octets_max.0;
    let advice = match knobs.on_oversize {
        OnOversize::Unknown => {
            let why = format!("message of {octets} octets, helper.{name}.message_octets_max is {max}");
            return Finding::Unknown(why.into());
        }
        OnOversize::Accept => Advice { symbols: vec!["oversize".into()], ..Advice::default() },
        OnOversize::Reject => Advice {
            action: Action::Reject,
            reply: Some(format!("552 5.3.4 message is too large to be checked, {max} octets at most").into()),
            symbols: vec!["oversize".into()],
            ..Advice::default()
        },
    };
    Finding::Advice(Box::new(advice))
}

/// What stands in for the answer of a helper that failed.
fn failed_finding(config: &HelperConfig, failure: &Failure) -> Finding {
    let why = format!("helper {}: {failure}", config.name);
    let (action, reply) = match config.knobs.on_failure {
        OnFailure::Unknown => return Finding::Unknown(why.into()),
        OnFailure::Accept => (Action::Accept, None),
        OnFailure::Failed => (Action::Failed, None),
        // Which check it was, and what is wrong with it, is not the client's business.
        OnFailure::Defer => (Action::Defer, Some("451 4.7.1 message cannot be checked now, try again later")),
        OnFailure::Reject => (Action::Reject, Some("550 5.7.1 message cannot be checked")),
    };
    let symbols = vec![format!("failed: {failure}").into()];
    Finding::Advice(Box::new(Advice { action, reply: reply.map(Into::into), symbols, ..Advice::default() }))
}

/// The way to a helper: who may go in, and connecting.
struct Door {
    address: HelperAddress,
    connect_timeout: Duration,
    connections: Semaphore,
    /// Those inside and those in front of it.
    waiting: AtomicUsize,
    inside_max: usize,
    connected: AtomicU64,
}

/// A place at the door; given back when dropped.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    async fn enter(&self) -> Result<Place<'_>, Failure> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { waiting: &self.waiting, _permit: None };
        if before >= self.inside_max {
            return Err(Failure::Busy(before));
        }
        // The semaphore is never closed.
        place._permit = self.connections.acquire().await.ok();
        Ok(place)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        match timeout(self.connect_timeout, self.address.connect()).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Failure::Connect(error.to_string())),
            Err(_) => Err(Failure::Timeout("connection", self.connect_timeout)),
        }
    }
}

/// Waits for `work` that stands for `what`, `limit` at most.
async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Broken(what, error.to_string())),
        Err(_) => Err(Failure::Timeout(what, limit)),
    }
}
