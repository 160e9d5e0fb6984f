//! Everything that is measured, put together when somebody asks: the meters of the cores and lanes, the policy's verdicts,
//! limits, lookups, the queue, backends, memory.
//!
//! What takes time to find out (the queue by destination, the mailstore's counts) is asked of its lane at most every few
//! seconds, more seldom the longer it takes. How it fails: what a lane does not tell in time is as it was last known.

use super::admin::{AGES, QueueSurvey, Request, Response};
use super::lanes::SpoolRequest;
use super::mailboxes::Keeper;
use super::metrics::view::{Family, Unit};
use super::metrics::{CoreMeter, Count, Observed, SERVICES, SETTLED, TurnedAway};
use super::queue;
use super::state::Shared;
use crate::base::time::WallTime;
use crate::mailstore::accounts::Accounts;
use crate::reactor::clock;
use crate::relay::pool::Mood;
use crossbeam::channel;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The queue is looked through this often at most.
const SURVEY_EVERY: Duration = Duration::from_secs(5);
/// The mailboxes are counted this often at most.
const MAILBOXES_EVERY: Duration = Duration::from_secs(60);
/// What takes time is done so much more seldom than it takes: at most a part in so many of a lane's time.
const LANE_SHARE: u32 = 200;
/// How long a lane may take to answer before what was known stands.
const LANE_WAIT: Duration = Duration::from_millis(500);
/// What a TLS connection holds, about: keys, and a buffer for each direction.
const TLS_OCTETS: u64 = 24 * 1024;
/// What an entry of a cache holds, about: name, answer, places in tables.
const CACHED_OCTETS: u64 = 256;

/// What was found out last, and when it may be asked again.
struct Known<T> {
    value: T,
    again: Option<Instant>,
}

impl<T> Known<T> {
    fn new(value: T) -> Known<T> {
        Known { value, again: None }
    }
    /// Asks when it is time; what takes long is asked seldom.
    fn refresh(&mut self, every: Duration, ask: impl FnOnce() -> Option<T>) -> &T {
        let began = Instant::now();
        if self.again.is_none_or(|at| at <= began) {
            if let Some(value) = ask() {
                self.value = value;
            }
            self.again = Some(Instant::now() + every.max(began.elapsed() * LANE_SHARE));
        }
        &self.value
    }
}

/// Puts measures together.
pub(super) struct Observer {
    queue: Mutex<Known<QueueSurvey>>,
    mailboxes: Mutex<Known<[u64; 3]>>,
    /// When the server began, on the calendar.
    started: WallTime,
}

impl Default for Observer {
    fn default() -> Observer {
        let queue = Mutex::new(Known::new(QueueSurvey::default()));
        Observer { queue, mailboxes: Mutex::new(Known::new([0; 3])), started: clock::wall() }
    }
}

impl Observer {
    /// The queue in numbers, some seconds old at most.
    pub fn survey(&self, shared: &Shared) -> QueueSurvey {
        self.queue.lock().refresh(SURVEY_EVERY, || ask_queues(shared)).clone()
    }

    /// Everything.
    pub fn measures(&self, shared: &Shared, accounts: &Accounts, driver: &str) -> Vec<Family> {
        let cores = &shared.meters.cores;
        let mut all = about(shared, driver, self.started.as_millis());
        all.extend(traffic(cores));
        all.extend(policy(shared));
        all.extend(lookups(shared));
        all.extend(self.queues(shared));
        all.extend(backends(shared));
        all.extend(commits(shared));
        all.extend(loops(cores));
        all.extend(memory(shared));
        all.extend(self.mail(shared, accounts));
        all
    }

    fn queues(&self, shared: &Shared) -> Vec<Family> {
        let survey = self.survey(shared);
        let waiting = shared.queued().saturating_sub(survey.held + survey.active);
        let states = Family::gauge("gatepost_queue_messages", "Messages in the queue, by what they wait for.")
            .number(&[("state", "waiting")], waiting as f64)
            .number(&[("state", "active")], survey.active as f64)
            .number(&[("state", "held")], survey.held as f64);
        let mut by = Family::gauge("gatepost_queue_destination_messages", "Messages in the queue for a destination.");
        let mut oldest =
            Family::gauge("gatepost_queue_destination_oldest_age", "Age of the oldest message for a destination.")
                .unit(Unit::Seconds);
        let (shown, rest) = survey
            .destinations
            .split_at(survey.destinations.len().min(shared.config.settings.admin.destinations_shown));
        let now_ms = clock::wall().as_millis();
        let age = |oldest_ms: u64| now_ms.saturating_sub(oldest_ms) as f64 / 1000.0;
        for destination in shown {
            let labels = [("destination", destination.name.as_str())];
            by = by.number(&labels, destination.messages as f64);
            oldest = oldest.number(&labels, age(destination.oldest_ms));
        }
        if let Some(oldest_ms) = rest.iter().map(|d| d.oldest_ms).min() {
            let labels = [("destination", "other")];
            by = by.number(&labels, rest.iter().map(|d| d.messages).sum::<u64>() as f64);
            oldest = oldest.number(&labels, age(oldest_ms));
        }
        let mut ages = Family::gauge(
            "gatepost_queue_age_messages",
            "Messages in the queue that are younger than this and older than the age before.",
        );
        for ((_, word), n) in AGES.iter().zip(&survey.ages) {
            ages = ages.number(&[("age", word)], *n as f64);
        }
        let committed: u64 = shared.lanes.iter().map(|lane| lane.gauges.committed.load(Ordering::Relaxed)).sum();
        vec![
            states,
            Family::gauge("gatepost_queue_size", "Octets of messages in the queue.")
                .unit(Unit::Bytes)
                .number(&[], survey.octets as f64),
            Family::counter("gatepost_queue_committed", "Messages committed to the queue.").count(&[], committed),
            by,
            oldest,
            ages,
        ]
    }

    fn mail(&self, shared: &Shared, accounts: &Accounts) -> Vec<Family> {
        let Some(lanes) = &shared.mailboxes else { return Vec::new() };
        let [boxes, messages, octets] = *self.mailboxes.lock().refresh(MAILBOXES_EVERY, || {
            let all = Request::MailboxList { accounts: Vec::new() };
            let Response::Mailboxes { entries } = Keeper::of(lanes).answer(&all, accounts, &mut |_, _| {})? else {
                return None;
            };
            Some([
                entries.len() as u64,
                entries.iter().map(|e| e.messages).sum(),
                entries.iter().map(|e| e.octets).sum(),
            ])
        });
        let gauge = |name, help, n: u64| Family::gauge(name, help).number(&[], n as f64);
        vec![
            Family::counter("gatepost_mailbox_deliveries", "Messages delivered into mailboxes.")
                .count(&[], lanes.delivered.load(Ordering::Relaxed)),
            gauge("gatepost_mailboxes", "Mailboxes of local accounts; counted once a minute at most.", boxes),
            gauge("gatepost_mailbox_messages", "Messages in mailboxes; counted once a minute at most.", messages),
            gauge("gatepost_mailbox_size", "Octets of messages in mailboxes; counted once a minute at most.", octets)
                .unit(Unit::Bytes),
        ]
    }
}

fn ask_queues(shared: &Shared) -> Option<QueueSurvey> {
    let mut answers = Vec::new();
    for lane in &shared.lanes {
        let (reply, replied) = channel::bounded(1);
        lane.ask(SpoolRequest::Admin { request: Request::QueueSurvey {}, reply }).ok()?;
        answers.push(replied.recv_timeout(LANE_WAIT).ok()?);
    }
    match queue::join(answers, usize::MAX) {
        Response::QueueSurvey(survey) => Some(survey),
        _ => None,
    }
}

fn about(shared: &Shared, driver: &str, started_ms: u64) -> Vec<Family> {
    let policy = shared.policy.load();
    let version = env!("CARGO_PKG_VERSION");
    let mut all = vec![
        Family::info("gatepost_build", "The program.").number(&[("version", version), ("driver", driver)], 1.0),
        Family::info("gatepost_policy", "The policy in force.")
            .number(&[("name", policy.name()), ("version", policy.version())], 1.0),
        Family::gauge("gatepost_policy_rules", "Rules of the policy in force.")
            .number(&[], policy.rules().len() as f64),
    ];
    all.extend(super::process::families(started_ms));
    all
}

/// One series for each word.
fn by_word(family: Family, label: &'static str, words: &[&str], count: impl Fn(usize) -> u64) -> Family {
    words.iter().enumerate().fold(family, |family, (n, word)| family.count(&[(label, word)], count(n)))
}

fn total(cores: &[std::sync::Arc<CoreMeter>], count: impl Fn(&CoreMeter) -> &Count) -> u64 {
    cores.iter().map(|core| count(core).read()).sum()
}

fn merged<'a>(all: impl Iterator<Item = &'a super::metrics::Histogram>) -> Option<Observed> {
    all.map(super::metrics::Histogram::read).reduce(|mut a, b| {
        a.merge(&b);
        a
    })
}

fn histogram<'a>(
    family: Family,
    labels: &[(&'static str, &str)],
    all: impl Iterator<Item = &'a super::metrics::Histogram>,
) -> Family {
    match merged(all) {
        Some(observed) => family.observed(labels, observed),
        None => family,
    }
}

fn traffic(cores: &[std::sync::Arc<CoreMeter>]) -> Vec<Family> {
    let sum = |count: &dyn Fn(&CoreMeter) -> &Count| total(cores, count);
    let octets = |place: usize| {
        move |family: Family| {
            family
                .unit(Unit::Bytes)
                .count(&[("peer", "client")], total(cores, |c| &c.client_octets[place]))
                .count(&[("peer", "backend")], total(cores, |c| &c.backend_octets[place]))
        }
    };
    vec![
        by_word(Family::counter("gatepost_sessions", "Sessions of clients."), "service", &SERVICES, |n| {
            total(cores, |c| &c.sessions[n])
        }),
        Family::gauge("gatepost_connections", "Connections of clients open now.")
            .number(&[], sum(&|c| &c.connections) as f64),
        by_word(
            Family::counter(
                "gatepost_connections_refused",
                "Connections of clients that were turned away before a session.",
            ),
            "reason",
            &TurnedAway::WORDS,
            |n| total(cores, |c| &c.turned_away[n]),
        ),
        octets(0)(Family::counter("gatepost_received", "Octets received, as they are on the wire.")),
        octets(1)(Family::counter("gatepost_sent", "Octets sent, as they are on the wire.")),
        by_word(
            Family::counter("gatepost_logins", "Logins that were tried."),
            "result",
            &["success", "failure"],
            |n| total(cores, |c| &c.logins[n]),
        ),
        by_word(
            Family::counter("gatepost_messages", "Messages whose end was reached, by what became of them."),
            "outcome",
            &SETTLED,
            |n| total(cores, |c| &c.settled[n]),
        ),
        Family::counter("gatepost_message_recipients", "Recipients of messages that were taken.")
            .count(&[], sum(&|c| &c.recipients)),
        histogram(
            Family::histogram("gatepost_message_size", "Octets of messages whose end was reached.").unit(Unit::Bytes),
            &[],
            cores.iter().map(|c| &c.message_octets),
        ),
        histogram(
            Family::histogram("gatepost_message_reply", "From the end of a message to its reply.").unit(Unit::Seconds),
            &[],
            cores.iter().map(|c| &c.settle_time),
        ),
    ]
}

fn policy(shared: &Shared) -> Vec<Family> {
    let sums = shared.meters.verdicts.sums();
    let mut verdicts =
        Family::counter("gatepost_verdicts", "Decisions of the policy, by stage, the rule that decided, and verdict.");
    for ((stage, rule, verdict), n) in &sums.verdicts {
        verdicts = verdicts.count(&[("stage", stage), ("rule", rule), ("verdict", verdict)], *n);
    }
    let mut hits = Family::counter("gatepost_limit_hits", "Refusals because a limit was exceeded.");
    for (limit, n) in &sums.limits {
        hits = hits.count(&[("limit", limit)], *n);
    }
    let (used, places) = shared.limits.occupancy(clock::now());
    let (sessions, decisions, _) = shared.recent.holds();
    vec![
        verdicts,
        hits,
        Family::gauge("gatepost_limit_entries", "Keys that limits count now; estimated in large tables.")
            .number(&[], used as f64),
        Family::gauge("gatepost_limit_entries_max", "Keys for which there is room.").number(&[], places as f64),
        Family::counter("gatepost_limit_evictions", "Keys that were forgotten too early because the table was full.")
            .count(&[], shared.limits.evicted()),
        Family::gauge("gatepost_history_sessions", "Sessions that are kept whole.").number(&[], sessions as f64),
        Family::gauge("gatepost_history_decisions", "Decisions that are kept.").number(&[], decisions as f64),
        Family::counter(
            "gatepost_history_missed_decisions",
            "Decisions that were pushed out before anybody could see them.",
        )
        .count(&[], shared.recent.missed()),
    ]
}

fn lookups(shared: &Shared) -> Vec<Family> {
    let c = shared.lookup.counters();
    let source = |f: Family, word, n| f.count(&[("kind", "dns"), ("source", word)], n);
    let result = |f: Family, word, n| f.count(&[("kind", "dns"), ("result", word)], n);
    let asked = Family::counter("gatepost_lookups", "Questions of lookups, by what answered them.");
    let asked = [("static", c.from_static), ("cache", c.from_cache), ("shared", c.shared), ("server", c.queried)]
        .into_iter()
        .fold(asked, |f, (word, n)| source(f, word, n));
    let results = Family::counter(
        "gatepost_lookup_results",
        "Questions that were put to servers, by result; `refused` were never put.",
    );
    let results = [("found", c.found), ("none", c.none), ("failed", c.failed), ("refused", c.queue_full)]
        .into_iter()
        .fold(results, |f, (word, n)| result(f, word, n));
    vec![
        asked,
        results,
        Family::gauge("gatepost_lookups_waiting", "Questions that wait for an answer now.")
            .number(&[], c.waiting as f64),
        Family::gauge("gatepost_lookup_cache_entries", "Answers in the cache now.").number(&[], c.cached as f64),
    ]
}

fn backends(shared: &Shared) -> Vec<Family> {
    let cores = &shared.meters.cores;
    let mut up =
        Family::gauge("gatepost_backend_up", "Whether the backend takes connections: 0 while it is set aside.");
    let mut answer = Family::histogram(
        "gatepost_backend_answer",
        "From handing a message or question to a backend until its answer.",
    )
    .unit(Unit::Seconds);
    let mut answers = Family::counter("gatepost_backend_answers", "Answers of backends.");
    let mut failures = Family::counter(
        "gatepost_backend_failures",
        "Connections to backends that could not be had or broke before they were of use.",
    );
    let mut connects = Family::counter("gatepost_backend_connects", "Connections made to backends.");
    for (index, pool) in shared.pools.iter().enumerate() {
        let name = shared.config.pools.get(index).map_or("", |p| p.name.as_str());
        for (place, backend) in pool.backends.iter().enumerate() {
            let host = backend.host.to_string();
            let labels = [("pool", name), ("backend", host.as_str())];
            let of = |core: &std::sync::Arc<CoreMeter>| core.clone();
            let healthy = pool.mood(place) == Mood::Healthy;
            up = up.number(&labels, f64::from(u8::from(healthy)));
            let meters: Vec<_> = cores.iter().map(of).collect();
            let each = |n: &dyn Fn(&super::metrics::BackendMeter) -> u64| {
                meters.iter().map(|c| n(c.backend(Some((index, place))))).sum::<u64>()
            };
            answers = answers.count(&labels, each(&|b| b.answered.read()));
            failures = failures.count(&labels, each(&|b| b.failed.read()));
            connects = connects.count(&labels, each(&|b| b.connected.read()));
            answer = histogram(answer, &labels, meters.iter().map(|c| &c.backend(Some((index, place))).answer));
        }
    }
    let found = [("pool", ""), ("backend", "found by lookups")];
    answers = answers.count(&found, total(cores, |c| &c.found.answered));
    failures = failures.count(&found, total(cores, |c| &c.found.failed));
    connects = connects.count(&found, total(cores, |c| &c.found.connected));
    answer = histogram(answer, &found, cores.iter().map(|c| &c.found.answer));
    let (all, idle) = (total(cores, |c| &c.legs[0]), total(cores, |c| &c.legs[1]));
    vec![
        up,
        answer,
        answers,
        failures,
        connects,
        Family::gauge("gatepost_backend_connections", "Connections to backends open now.")
            .number(&[("state", "idle")], idle as f64)
            .number(&[("state", "busy")], all.saturating_sub(idle) as f64),
        Family::gauge(
            "gatepost_backend_jobs_waiting",
            "Messages and questions that wait for a connection to a backend now.",
        )
        .number(&[], total(cores, |c| &c.jobs_waiting) as f64),
    ]
}

fn commits(shared: &Shared) -> Vec<Family> {
    let spool: Vec<_> = shared.lanes.iter().map(|lane| &lane.gauges.commits).collect();
    let mailbox: Vec<_> = shared.mailboxes.iter().map(|lanes| &*lanes.commits).collect();
    let mut batch = Family::histogram("gatepost_commit_batch", "Requests that one commit served.");
    let mut time = Family::histogram("gatepost_commit", "Time of a commit: writing and syncing.").unit(Unit::Seconds);
    let mut failed = Family::counter("gatepost_commit_failures", "Commits in which something was refused.");
    for (log, meters) in [("spool", &spool), ("mailbox", &mailbox)] {
        let labels = [("log", log)];
        batch = histogram(batch, &labels, meters.iter().map(|m| &m.batch));
        time = histogram(time, &labels, meters.iter().map(|m| &m.commit_time));
        failed = failed.count(&labels, meters.iter().map(|m| m.failed.read()).sum());
    }
    let (syncs, sync_failures) = shared.meters.syncs.read();
    let mut all = vec![
        batch,
        time,
        failed,
        Family::histogram("gatepost_sync", "Time of an fdatasync of the queue's log.")
            .unit(Unit::Seconds)
            .observed(&[("log", "spool")], syncs),
        Family::counter("gatepost_sync_failures", "Syncs that failed; each ends the use of its segment.")
            .count(&[("log", "spool")], sync_failures),
    ];
    if let Some(journal) = &shared.journal {
        let (lost, waiting) = journal.meter();
        all.push(
            Family::counter("gatepost_journal_lost_lines", "Lines of the journal that were lost.").count(&[], lost),
        );
        all.push(
            Family::gauge("gatepost_journal_waiting", "Octets of lines that wait for the disk.")
                .unit(Unit::Bytes)
                .number(&[], waiting as f64),
        );
    }
    all
}

fn loops(cores: &[std::sync::Arc<CoreMeter>]) -> Vec<Family> {
    let mut turn = Family::histogram(
        "gatepost_core_turn",
        "Time of a turn of a core's loop: what everybody else on it waits at most.",
    )
    .unit(Unit::Seconds);
    let mut turns = Family::counter("gatepost_core_turns", "Turns of a core's loop.");
    let mut events = Family::counter("gatepost_core_events", "Completions that a core has handled.");
    let mut busy = Family::counter(
        "gatepost_core_busy",
        "Time in which a core did something; its rate is the core's utilisation.",
    )
    .unit(Unit::Seconds);
    let mut connections = Family::gauge("gatepost_core_connections", "Connections of clients on a core.");
    for (number, core) in cores.iter().enumerate() {
        let number = number.to_string();
        let labels = [("core", number.as_str())];
        turn = turn.observed(&labels, core.turn_time.read());
        turns = turns.count(&labels, core.turns.read());
        events = events.count(&labels, core.events.read());
        busy = busy.number(&labels, core.busy_ns.read() as f64 / 1e9);
        connections = connections.number(&labels, core.connections.read() as f64);
    }
    vec![turn, turns, events, busy, connections]
}

fn memory(shared: &Shared) -> Vec<Family> {
    let cores = &shared.meters.cores;
    let (_, _, history) = shared.recent.holds();
    let (_, limit_places) = shared.limits.occupancy(clock::now());
    let consumers = BTreeMap::from([
        ("bodies", total(cores, |c| &c.body_octets)),
        ("buffers", total(cores, |c| &c.buffer_octets)),
        ("tls", total(cores, |c| &c.tls_connections) * TLS_OCTETS),
        ("limits", limit_places * 16),
        ("lookup-cache", shared.lookup.counters().cached * CACHED_OCTETS),
        ("recipient-cache", total(cores, |c| &c.recipients_cached) * CACHED_OCTETS),
        ("history", history),
        ("fresh-queue", shared.lanes.iter().map(|lane| lane.gauges.fresh_octets.load(Ordering::Relaxed)).sum()),
        ("journal", shared.journal.as_ref().map_or(0, |journal| journal.meter().1)),
    ]);
    let family =
        Family::gauge("gatepost_memory", "Memory by what it is for; TLS and caches are estimated.").unit(Unit::Bytes);
    let family =
        consumers.iter().fold(family, |family, (consumer, n)| family.number(&[("consumer", consumer)], *n as f64));
    let max = shared.body_octets_per_core_max * cores.len();
    vec![
        family,
        Family::gauge(
            "gatepost_memory_bodies_max",
            "Memory that bodies may take; beyond it clients are told to come again.",
        )
        .unit(Unit::Bytes)
        .number(&[], max as f64),
    ]
}
