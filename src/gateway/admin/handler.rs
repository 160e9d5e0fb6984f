//! Answers the administrator, from the running server.
//!
//! How it fails: what a lane does not answer in time is `busy`; a reload of files with errors changes nothing and says all
//! of them.

use super::{
    AdminHandler, AliasEntry, LimitView, ListView, PolicyView, Request, Response, RuleView, SessionStory, Status,
    explain, story,
};
use crate::base::id::SessionId;
use crate::base::time::Instant;
use crate::gateway::config::{Host, Listener};
use crate::gateway::lanes::{CoreMail, Message, SpoolRequest, deliver};
use crate::gateway::metrics::verdicts::Sums;
use crate::gateway::metrics::view::Family;
use crate::gateway::observe::Observer;
use crate::gateway::recent::{Recent, Recorded};
use crate::gateway::reload::reload;
use crate::gateway::state::{PoolState, Shared};
use crate::gateway::{Handovers, mailboxes, process, queue, shadow};
use crate::mailstore::accounts::Accounts;
use crate::mailstore::addresses::{AddressKind, AddressRow};
use crate::reactor::{Choice, clock};
use crossbeam::channel;
use parking_lot::Mutex;
use signal_hook::consts::{SIGTERM, SIGUSR2};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an administrator waits for a queue.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// How long an administrator waits for a core.
const CORE_WAIT: Duration = Duration::from_secs(2);
/// How long an administrator waits until a successor has read its configuration.
const UPGRADE_WAIT: Duration = Duration::from_secs(90);
/// Decisions or sessions in one answer at most.
const PAGE_MAX: usize = 1000;

/// See the module's head.
pub(in crate::gateway) struct Admin {
    pub shared: Arc<Shared>,
    pub accounts: Arc<Accounts>,
    pub choice: Choice,
    pub started: Instant,
    pub listeners: Vec<Listener>,
    /// As if the process had been sent one.
    pub signals: channel::Sender<i32>,
    pub handovers: Arc<Handovers>,
    pub host: Arc<dyn Host>,
    pub cores: Vec<CoreMail>,
    pub observer: Observer,
    pub reloading: Mutex<()>,
    pub draining: AtomicBool,
}

impl AdminHandler for Admin {
    fn call(&self, request: Request) -> Response {
        match &request {
            Request::Status {} => Response::Status(self.status()),
            Request::Reload {} => self.reload(),
            Request::Drain {} => self.drain(),
            Request::Upgrade {} => self.upgrade(),
            Request::Policy {} => Response::Policy(Box::new(self.policy())),
            Request::Explain(case) => explain::explain(case, &self.shared.policy.load_full()),
            Request::Decisions { filter, limit } => {
                let found = self.shared.recent.latest((*limit as usize).min(PAGE_MAX), |d| filter.admits(d));
                let entries = found.into_iter().map(Arc::unwrap_or_clone).collect();
                Response::Decisions { entries, missed: self.shared.recent.missed() }
            }
            Request::Sessions { limit } => {
                let found = self.shared.recent.sessions((*limit as usize).min(PAGE_MAX));
                Response::Sessions { entries: found.iter().filter_map(story::entry).collect() }
            }
            Request::Session { id, trace } => match self.story(&id.to_ascii_uppercase(), *trace) {
                Some(story) => Response::Session(Box::new(story)),
                None => Response::failed("not-found", format!("nothing is kept of a session {id}")),
            },
            Request::ShadowStart { file } => shadow::start(&self.shared, file),
            Request::ShadowStop {} => shadow::stop(&self.shared),
            Request::ShadowStatus {} => shadow::status(&self.shared),
            Request::QueueSurvey {} => Response::QueueSurvey(self.observer.survey(&self.shared)),
            Request::AliasList {} => self.aliases(),
            Request::AliasAdd { from, to, list } => {
                let kind = if *list { AddressKind::List } else { AddressKind::Alias };
                done(self.shared.addresses.add(kind, from, to))
            }
            Request::AliasRemove { from, members } => done(self.shared.addresses.remove(from, members)),
            Request::MailboxList { .. }
            | Request::MailboxBackup { .. }
            | Request::MailboxPurge { .. }
            | Request::MailboxExport(_)
            | Request::MailboxImport(_) => self.ask_mailboxes(&request),
            Request::QueueList { limit, .. } => self.ask_queues(&request, *limit as usize),
            Request::QueueRetry { .. } => {
                self.shared.pools.iter().for_each(PoolState::forgive);
                self.ask_queues(&request, usize::MAX)
            }
            _ => self.ask_queues(&request, usize::MAX),
        }
    }

    fn measures(&self) -> Vec<Family> {
        self.observer.measures(&self.shared, &self.accounts, self.choice.io.word())
    }

    fn recent(&self) -> Arc<Recent> {
        self.shared.recent.clone()
    }
}

fn done(result: Result<(), impl std::fmt::Display>) -> Response {
    match result {
        Ok(()) => Response::Done,
        Err(error) => Response::failed("invalid", error.to_string()),
    }
}

impl Admin {
    fn ask_mailboxes(&self, request: &Request) -> Response {
        let Some(lanes) = &self.shared.mailboxes else {
            return Response::failed("no-mailboxes", "no route or listener of this server has mailboxes");
        };
        // Whoever is gone from the accounts gets no more mail, and nothing is made again that is purged now.
        self.shared.addresses.refresh_if_changed();
        let answer = mailboxes::Keeper::of(lanes).answer(request, &self.accounts, &mut |_, _| {});
        match answer {
            Some(Response::Failed { code, message }) if message.contains("Permission denied") => {
                let walls =
                    "; behind the wall around files the server reaches only what walls.read and walls.write name";
                Response::Failed { code, message: message + walls }
            }
            Some(answer) => answer,
            None => Response::failed("invalid", "not a request for mailboxes"),
        }
    }

    /// Asks for a successor; done when it is ready to take over.
    fn upgrade(&self) -> Response {
        let (tell, told) = channel::bounded(1);
        self.handovers.0.lock().push(tell);
        if self.signals.try_send(SIGUSR2).is_err() {
            return Response::failed("busy", "the server is busy with another order");
        }
        match told.recv_timeout(UPGRADE_WAIT) {
            Ok(Ok(())) => Response::Done,
            Ok(Err(error)) => Response::failed("upgrade", error),
            Err(_) => Response::failed("busy", "the successor is not ready yet; the log will say what became of it"),
        }
    }

    fn ask_queues(&self, request: &Request, limit: usize) -> Response {
        let mut answers = Vec::new();
        for lane in &self.shared.lanes {
            let (reply, replied) = channel::bounded(1);
            lane.tell(SpoolRequest::Admin { request: request.clone(), reply });
            match replied.recv_timeout(QUEUE_WAIT) {
                Ok(answer) => answers.push(answer),
                Err(_) => return Response::failed("busy", "a queue did not answer in time"),
            }
        }
        queue::join(answers, limit)
    }

    fn status(&self) -> Status {
        let policy = self.shared.policy.load();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: (clock::now() - self.started).as_millis() as u64,
            cores: self.cores.len().min(usize::from(u16::MAX)) as u16,
            driver: self.choice.io.word().to_owned(),
            connections: self.shared.counters.clients.load(Ordering::Relaxed),
            accepted: self.shared.counters.accepted.load(Ordering::Relaxed),
            delivered: self.shared.mailboxes.as_ref().map_or(0, |m| m.delivered.load(Ordering::Relaxed)),
            queued: self.shared.queued(),
            listeners: self.listeners.iter().map(|l| format!("{}={}", l.name, l.address)).collect(),
            draining: self.draining.load(Ordering::Relaxed),
            policy: policy.name().to_owned(),
            policy_version: policy.version().to_owned(),
            memory_octets: process::resident_octets(),
        }
    }

    fn reload(&self) -> Response {
        let Some(_one) = self.reloading.try_lock() else { return Response::failed("busy", "a reload is under way") };
        match reload(&self.shared, &self.host) {
            Ok(changes) => {
                let policy = self.shared.policy.load();
                let warnings = policy.warnings().iter().map(ToString::to_string).collect();
                Response::Reloaded { version: policy.version().to_owned(), changes, warnings }
            }
            Err(diagnostics) => Response::failed("invalid", diagnostics),
        }
    }

    fn drain(&self) -> Response {
        self.draining.store(true, Ordering::Relaxed);
        match self.signals.try_send(SIGTERM) {
            Ok(()) => Response::Done,
            Err(_) => Response::failed("busy", "the server is busy with another order"),
        }
    }

    fn policy(&self) -> PolicyView {
        let policy = self.shared.policy.load();
        let sums = self.shared.meters.verdicts.sums();
        let hits = |rule: &str| of_rule(&sums, rule, |_, verdict| verdict.to_owned());
        let rule = |rule: &crate::policy::Rule| RuleView {
            name: rule.name.to_string(),
            stage: rule.stage.word().to_owned(),
            description: rule.description.clone(),
            when: rule.when.clone(),
            then: rule.then.clone(),
            hits: hits(&rule.name),
        };
        let list = |list: &crate::policy::ListShape| ListView {
            name: list.name.clone(),
            entries: list.entries as u64,
            from_file: list.from_file,
        };
        let limit = |(name, bound): (&str, &str)| LimitView {
            name: name.to_owned(),
            bound: bound.to_owned(),
            hits: sums.limits.get(name).copied().unwrap_or_default(),
        };
        PolicyView {
            name: policy.name().to_owned(),
            version: policy.version().to_owned(),
            source: policy.source().to_owned(),
            rules: policy.rules().iter().map(rule).collect(),
            defaults: of_rule(&sums, "default", |stage, verdict| format!("{stage} {verdict}")),
            lists: policy.lists().iter().map(list).collect(),
            limits: policy.limits_shown().map(limit).collect(),
            warnings: policy.warnings().iter().map(ToString::to_string).collect(),
        }
    }

    fn aliases(&self) -> Response {
        let entry = |row: AddressRow| AliasEntry { kind: row.kind.word().to_owned(), from: row.from, to: row.to };
        Response::Aliases {
            entries: self.shared.addresses.list().into_iter().map(entry).collect(),
            problems: self.shared.addresses.problems().iter().map(ToString::to_string).collect(),
        }
    }

    fn story(&self, id: &str, trace: bool) -> Option<SessionStory> {
        let mut parts = self.shared.recent.session(id);
        if parts.last().is_none_or(part_goes_on) {
            parts.extend(SessionId::parse(id).and_then(|session| self.open_session(session)));
        }
        let policy = self.shared.policy.load_full();
        story::story(&parts, trace.then_some(&policy)).or_else(|| {
            let mut decisions = self.shared.recent.latest(PAGE_MAX, |d| d.session == id);
            decisions.reverse();
            story::from_decisions(id, &decisions)
        })
    }

    /// The record of a session that is still open, as far as it goes.
    fn open_session(&self, session: SessionId) -> Option<Recorded> {
        for core in &self.cores {
            let (reply, replied) = channel::bounded(1);
            deliver(core, Message::Peek { session, reply });
            if let Ok(Some(line)) = replied.recv_timeout(CORE_WAIT) {
                return crate::gateway::recent::recorded(line);
            }
        }
        None
    }
}

fn part_goes_on(part: &Recorded) -> bool {
    crate::policy::journal::read_line(&part.line, &mut Vec::new()).is_ok_and(|(_, end)| end.more)
}

fn of_rule(sums: &Sums, rule: &str, key: impl Fn(&str, &str) -> String) -> BTreeMap<String, u64> {
    let mut hits = BTreeMap::new();
    for ((stage, name, verdict), n) in &sums.verdicts {
        if name == rule {
            *hits.entry(key(stage, verdict)).or_default() += n;
        }
    }
    hits
}
