//! Wires the rooms: cores, lanes, listeners, the life of a message, reload, shutdown.
//!
//! [`run`] opens everything in order (files, queue, lanes, cores, ports), says that it is ready, waits for signals, and
//! winds everything down in the opposite order. How it fails: whatever cannot be opened is one [`StartError`] that names
//! it, and nothing is left running; a core that dies later ends the process in order, with an error.

mod access;
pub mod admin;
mod callout;
pub mod config;
mod core;
pub mod data;
mod deliver;
mod inbound;
pub mod journal;
mod judge;
mod lanes;
mod local;
pub mod mailboxes;
pub mod networks;
mod opening;
mod outbound;
mod pipe;
pub mod policy_file;
pub mod queue;
mod reports;
mod routing;
mod settle;
mod state;
pub mod targets;

use self::core::Core;
use crate::base::id::IdSource;
use crate::base::queue::{Inbox, Wake};
use crate::log::RealDisk;
use crate::lookup::Lane as LookupLane;
use crate::mailstore::accounts::Accounts;
use crate::mailstore::addresses::Addresses;
use crate::mailstore::embedded::EmbeddedStore;
use crate::policy::Limits;
use crate::reactor::{Choice, Driver, clock, limits, listen, pin};
use crate::spool::Spool;
use admin::{AdminHandler, Request, Response, Status};
use arc_swap::ArcSwap;
use config::{Config, Host, Listener as ListenerConfig, Service, StartError};
use crossbeam::channel;
use lanes::{CoreMail, MailboxLanes, Message, PasswordLane, SpoolLane, SpoolRequest};
use reports::{Composer, Setup};
use routing::Routing;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use state::{Counters, Listener, PoolState, Shared};
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use targets::RouteMode;

/// Messages that wait for a core at most; lanes wait when it is full.
const INBOX_MAX: usize = 16 * 1024;
/// How often the main thread looks whether accounts and aliases have changed: two `stat`.
const ADDRESSES_INTERVAL: Duration = Duration::from_millis(250);
/// After how many of these it looks at the files of lists as well.
const WATCH_TURNS: u32 = 8;

impl Wake for crate::reactor::Waker {
    fn wake(&self) {
        crate::reactor::Waker::wake(self);
    }
}

/// Serves `config` until a signal says to stop.
pub fn run(config: Config, host: Arc<dyn Host>) -> Result<(), StartError> {
    let signals = signals()?;
    let (soft, hard) = limits::raise_nofile();
    // Legs to backends, files of the queue, and a reserve.
    let wanted = config.settings.server.connections_max as u64 + 1024;
    if soft < wanted {
        tracing::warn!(
            limit = soft,
            hard,
            wanted,
            "fewer open files are allowed than server.connections_max may need; connections beyond it will wait"
        );
    }
    let Gate { shared, accounts, cores, lanes, mailbox_writer, listeners, choice, lookup } = Gate::open(config)?;
    let started = clock::now();
    let admin =
        Admin { shared: shared.clone(), accounts, choice, started, listeners: listeners.clone(), reload: signals.1 };
    host.ready(&listeners, Arc::new(admin))?;
    let failed = wait(&signals.0, &shared, &host, &cores);
    wind_down(&shared, cores, lanes, mailbox_writer);
    drop(lookup);
    failed.map_or(Ok(()), |error| Err(StartError(error)))
}

/// Signals as they arrive, and a way to ask for a reload without one.
fn signals() -> Result<(channel::Receiver<i32>, channel::Sender<i32>), StartError> {
    let (tell, told) = channel::bounded(16);
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| StartError(format!("cannot wait for signals: {e}")))?;
    let from_signals = tell.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if from_signals.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
    Ok((told, tell))
}

/// Everything that runs.
struct Gate {
    shared: Arc<Shared>,
    accounts: Arc<Accounts>,
    cores: Vec<RunningCore>,
    lanes: Vec<JoinHandle<()>>,
    mailbox_writer: Option<JoinHandle<()>>,
    listeners: Vec<ListenerConfig>,
    choice: Choice,
    lookup: LookupLane,
}

struct RunningCore {
    mail: CoreMail,
    thread: JoinHandle<io::Result<()>>,
}

/// A core whose driver is open and which waits for what it is to serve.
struct WaitingCore {
    mail: CoreMail,
    begin: channel::Sender<Work>,
    thread: JoinHandle<io::Result<()>>,
}

/// What a core serves.
struct Work {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, Arc<Listener>)>,
}

impl Gate {
    fn open(config: Config) -> Result<Gate, StartError> {
        let data = config.settings.server.data.clone();
        let accounts =
            Accounts::open(&data, config.settings.accounts.clone()).map_err(|e| StartError(e.to_string()))?;
        let accounts = Arc::new(accounts);
        let addresses = Addresses::open(&data, accounts.clone(), &config.settings.addresses, config.domains.clone())
            .map_err(|e| StartError(e.to_string()))?;
        let config = Arc::new(with_domains(config, &addresses.domains()));
        let routing = Arc::new(Routing::new(&config).map_err(StartError)?);
        let policy = policy_file::load(&config).map_err(StartError)?;
        policy.warnings().iter().for_each(|w| tracing::warn!(target: "policy", "{w}"));
        tracing::info!(target: "policy", name = policy.name(), version = policy.version(), rules = policy.rules().len(), "policy");
        let server_tls = state::server_tls(&config)?;
        let pools: Result<Vec<PoolState>, StartError> =
            config.pools.iter().map(|p| PoolState::load(&config, p)).collect();
        let pools = pools?;
        let (found_client, found_tls) = state::found_client(&config)?;
        let (sockets, listeners) = bind(&config)?;
        let allowed = pin::allowed_cores();
        let count = match config.settings.server.cores {
            0 => allowed.len(),
            n => usize::from(n),
        };
        let count = count.clamp(1, usize::from(IdSource::CORES_MAX));
        let (waiting, choice) = start_cores(&config, &allowed, count)?;
        let mails: Vec<CoreMail> = waiting.iter().map(|c| c.mail.clone()).collect();

        let setup = Arc::new(Setup { config: config.clone(), routing: routing.clone() });
        let (lanes, lane_threads) = open_queue(&config, &setup, &mails)?;
        let to_cores = mails.clone();
        let (lookup, asker) = LookupLane::start(&config.settings.lookup, move |token: lanes::LookupToken, answer| {
            lanes::deliver(&to_cores[usize::from(token.core)], Message::Lookup { to: token.to, answer });
        })
        .map_err(|e| StartError(e.to_string()))?;
        let (mailboxes, mailbox_writer) = open_mailstore(&config, &mails)?.unzip();
        let passwords = PasswordLane::start(accounts.clone(), mails)
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;

        let shared = Arc::new(Shared {
            policy: ArcSwap::from_pointee(policy),
            limits: Limits::new(config.settings.limits.keys_max, random()?),
            routing,
            server_tls: ArcSwap::from_pointee(server_tls),
            lookup: asker,
            passwords,
            journal: journal::Journal::start(&config)?,
            lanes,
            pools,
            mailboxes,
            last_pop3_logins: Default::default(),
            addresses: Arc::new(addresses),
            found_client,
            found_tls,
            counters: Counters::default(),
            connections_per_core_max: config.settings.server.connections_max.div_ceil(count),
            body_octets_per_core_max: config.settings.server.memory_max.len() / 2 / count,
            config,
        });
        let cores = begin_cores(&shared, waiting, sockets, &listeners)?;
        Ok(Gate { shared, accounts, cores, lanes: lane_threads, mailbox_writer, listeners, choice, lookup })
    }
}

/// Local domains of the aliases' file beside those of the configuration: for the policy, and for the route into mailboxes.
fn with_domains(mut config: Config, more: &[String]) -> Config {
    for text in more {
        let Ok(domain) = crate::wire::address::parse_domain(text) else { continue };
        if config.domains.iter().any(|known| known.lower() == domain.lower()) {
            continue;
        }
        if let Some(route) =
            config.routes.iter_mut().find(|r| r.mode == RouteMode::Mailbox && !r.knobs.domains.is_empty())
        {
            route.knobs.domains.push(domain.lower());
        }
        config.domains.push(domain);
    }
    config
}

/// A secret number from the system.
fn random() -> Result<u64, StartError> {
    let mut octets = [0; 8];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| StartError("the system has no randomness".into()))?;
    Ok(u64::from_ne_bytes(octets))
}

/// Opens every port once; the addresses as they really are.
fn bind(config: &Config) -> Result<(Vec<TcpListener>, Vec<ListenerConfig>), StartError> {
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let socket = listen::bind(listener.address, config.settings.io.backlog, true)
            .map_err(|e| StartError(format!("listener {}: {e}", listener.name)))?;
        let address = socket.local_addr().map_err(|e| StartError(e.to_string()))?;
        sockets.push(socket);
        listeners.push(ListenerConfig { address, ..listener.clone() });
    }
    Ok((sockets, listeners))
}

/// Starts the threads of the cores, as far as their drivers.
fn start_cores(
    config: &Arc<Config>,
    allowed: &[usize],
    count: usize,
) -> Result<(Vec<WaitingCore>, Choice), StartError> {
    let mut waiting = Vec::new();
    let mut chosen = None;
    for number in 0..count {
        let (tell, told) = channel::bounded(1);
        let (begin, work) = channel::bounded::<Work>(1);
        let knobs = config.settings.io.clone();
        let processor = allowed[number % allowed.len()];
        let thread = std::thread::Builder::new()
            .name(format!("core{number}"))
            .spawn(move || -> io::Result<()> {
                if let Err(error) = pin::to_core(processor) {
                    tracing::warn!(core = number, %error, "not bound to its processor");
                }
                let (driver, choice) = match Driver::open(&knobs) {
                    Ok(opened) => opened,
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        return Ok(());
                    }
                };
                let (sender, inbox) = Inbox::new(INBOX_MAX, Box::new(driver.waker()));
                let mail = CoreMail::new(sender);
                let _ = tell.send(Ok((mail.clone(), choice)));
                let Ok(Work { shared, listeners }) = work.recv() else { return Ok(()) };
                let mut core = Core::new(number as u16, shared, driver, inbox);
                let result = listeners.into_iter().try_for_each(|(s, l)| core.listen(s, l)).and_then(|()| core.run());
                // First nobody waits for this core's inbox any more, then it may wait for the lanes.
                mail.close();
                core.tell_all();
                result
            })
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
        match told.recv() {
            Ok(Ok((mail, choice))) => {
                chosen.get_or_insert(choice);
                waiting.push(WaitingCore { mail, begin, thread });
            }
            Ok(Err(error)) => return Err(StartError(format!("core {number}: {error}"))),
            Err(_) => return Err(StartError(format!("core {number} ended while it started"))),
        }
    }
    let choice = chosen.ok_or_else(|| StartError("no core".into()))?;
    tracing::info!(target: "server", driver = choice.io.word(), cores = count, "{choice}");
    Ok((waiting, choice))
}

/// Opens the queue: a directory per core, and those of cores there are no more.
fn open_queue(
    config: &Arc<Config>,
    setup: &Arc<Setup>,
    mails: &[CoreMail],
) -> Result<(Vec<SpoolLane>, Vec<JoinHandle<()>>), StartError> {
    let data = &config.settings.server.data;
    let found = data::spool_dirs(data).map_err(|e| StartError(format!("cannot read {}: {e}", data.display())))?;
    let count = found.last().map_or(0, |(core, _)| usize::from(*core) + 1).max(mails.len());
    let mut lanes = Vec::new();
    let mut threads = Vec::new();
    for number in 0..count {
        let spool = open_spool(config, number)?;
        // Ids of reports come from numbers that no core uses.
        let ids = IdSource::new((number as u16) % IdSource::CORES_MAX, clock::wall() + REPORT_IDS_AHEAD);
        let composer = Composer::new(setup.clone(), ids);
        let mail = mails[number % mails.len()].clone();
        let lane = SpoolLane::start(number, spool, &config.settings.spool, composer, mail)
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
        lanes.push(lane.0);
        threads.push(lane.1);
    }
    Ok((lanes, threads))
}

/// Reports take their ids from the same space as messages, this far in the future: a core would have to run for longer
/// than this without a restart, or make 131 messages a millisecond all the time, to reach them.
const REPORT_IDS_AHEAD: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Opens the queue of one core, saying what was found.
fn open_spool(config: &Config, number: usize) -> Result<Spool<RealDisk>, StartError> {
    let core = number as u16;
    let directory = data::spool_dir(&config.settings.server.data, core);
    let knobs = config.settings.spool.clone();
    let (spool, recovery) = Spool::open(RealDisk, &directory, knobs, core, clock::wall(), fastrand::Rng::new())
        .map_err(|e| StartError(format!("the queue in {}: {e}", directory.display())))?;
    if recovery.is_damaged() {
        tracing::error!(target: "spool", queue = number, ?recovery, "the queue is damaged; what can be read is kept");
    } else if !recovery.log.torn.is_empty() {
        tracing::info!(target: "spool", queue = number, ?recovery, "the last commit was torn; nobody had been told of it");
    } else {
        tracing::debug!(target: "spool", queue = number, ?recovery, "queue opened");
    }
    Ok(spool)
}

/// Opens the mailstore when a route or a listener needs it; its lanes, and the thread that writes.
fn open_mailstore(config: &Config, mails: &[CoreMail]) -> Result<Option<(MailboxLanes, JoinHandle<()>)>, StartError> {
    let reads = |l: &ListenerConfig| matches!(l.service, Service::Imap | Service::Pop3);
    let keeps = config.routes.iter().any(|route| route.mode == RouteMode::Mailbox);
    if !keeps && !config.listeners.iter().any(reads) {
        return Ok(None);
    }
    let directory = data::mail_dir(&config.settings.server.data);
    let knobs = config.settings.mailbox.clone();
    let lanes = knobs.lanes;
    let (store, opened) = EmbeddedStore::open(&directory, knobs).map_err(|e| StartError(e.to_string()))?;
    if opened.is_damaged() {
        tracing::error!(target: "mailbox", ?opened, "the mailstore is damaged; what can be read is kept");
    } else if let Some(why) = opened.rebuilt {
        tracing::info!(target: "mailbox", why, messages = opened.messages, "the index was made anew from the log");
    } else {
        tracing::debug!(target: "mailbox", ?opened, "mailstore opened");
    }
    let (lanes, mut threads) = MailboxLanes::start(&store, lanes, mails).map_err(|error| StartError(error.0))?;
    // The readers end by themselves when nobody can ask them any more.
    Ok(Some((lanes, threads.remove(0))))
}

fn begin_cores(
    shared: &Arc<Shared>,
    waiting: Vec<WaitingCore>,
    sockets: Vec<TcpListener>,
    configs: &[ListenerConfig],
) -> Result<Vec<RunningCore>, StartError> {
    let mut listeners = Vec::new();
    for config in configs {
        listeners.push(Arc::new(Listener::new(&shared.config, config)?));
    }
    let mut per_core: Vec<Vec<(TcpListener, Arc<Listener>)>> = waiting.iter().map(|_| Vec::new()).collect();
    let backlog = shared.config.settings.io.backlog;
    for (socket, listener) in sockets.into_iter().zip(listeners) {
        for share in per_core.iter_mut().skip(1) {
            let more = listen::join(&socket, backlog).map_err(|e| StartError(e.to_string()))?;
            share.push((more, listener.clone()));
        }
        per_core[0].push((socket, listener));
    }
    let mut cores = Vec::new();
    for (core, listeners) in waiting.into_iter().zip(per_core) {
        core.begin
            .send(Work { shared: shared.clone(), listeners })
            .map_err(|_| StartError("a core ended while it started".into()))?;
        cores.push(RunningCore { mail: core.mail, thread: core.thread });
    }
    Ok(cores)
}

/// Waits for the end: a signal (`None`), or a core that died.
fn wait(
    signals: &channel::Receiver<i32>,
    shared: &Arc<Shared>,
    host: &Arc<dyn Host>,
    cores: &[RunningCore],
) -> Option<String> {
    let mut watched = Watched::new(shared);
    let mut turns = 0;
    loop {
        match signals.recv_timeout(ADDRESSES_INTERVAL) {
            Ok(SIGHUP) => {
                host.reopen_logs();
                reload(shared, host);
                watched = Watched::new(shared);
            }
            Ok(_) => {
                tracing::info!(target: "server", "stopping");
                return None;
            }
            Err(channel::RecvTimeoutError::Timeout) => {
                shared.addresses.refresh_if_changed();
                turns += 1;
                if turns % WATCH_TURNS == 0 && watched.changed() {
                    reload_policy(shared, &shared.config);
                    watched = Watched::new(shared);
                }
            }
            Err(channel::RecvTimeoutError::Disconnected) => return Some("the signal thread ended".into()),
        }
        if let Some(number) = cores.iter().position(|c| c.thread.is_finished()) {
            return Some(format!("core {number} ended"));
        }
    }
}

/// The files the policy was made of, as they were.
struct Watched(Vec<(std::path::PathBuf, Option<std::time::SystemTime>)>);

impl Watched {
    fn new(shared: &Shared) -> Watched {
        let policy = shared.policy.load();
        let file = shared.config.settings.server.policy.clone();
        let files = policy_file::PolicyFiles::new(&shared.config);
        let lists = policy.files().iter().map(|f| files.path(f));
        Watched(file.into_iter().chain(lists).map(|path| (path.clone(), modified(&path))).collect())
    }
    fn changed(&self) -> bool {
        self.0.iter().any(|(path, then)| modified(path) != *then)
    }
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

/// Policy, lists and certificates anew. What has an error changes nothing and says why.
fn reload(shared: &Shared, host: &Arc<dyn Host>) {
    match host.reload() {
        Err(diagnostics) => {
            tracing::error!(target: "server", "not reloaded, the configuration has errors:\n{diagnostics}")
        }
        Ok(config) => {
            let config = with_domains(config, &shared.addresses.domains());
            reload_policy(shared, &config);
            match state::server_tls(&config) {
                Ok(tls) => shared.server_tls.store(Arc::new(tls)),
                Err(error) => tracing::error!(target: "server", %error, "certificates not reloaded"),
            }
            tracing::info!(target: "server", "policy, lists and certificates are read again; other settings take a restart");
        }
    }
}

fn reload_policy(shared: &Shared, config: &Config) {
    match policy_file::load(config) {
        Ok(policy) => {
            let version = policy.version().to_owned();
            shared.policy.store(Arc::new(policy));
            tracing::info!(target: "policy", version, "policy reloaded; sessions keep the one they began with");
        }
        Err(diagnostics) => tracing::error!(target: "policy", "policy not reloaded, it has errors:\n{diagnostics}"),
    }
}

/// Clients finish or are told; then the queues commit and end.
fn wind_down(
    shared: &Shared,
    cores: Vec<RunningCore>,
    lanes: Vec<JoinHandle<()>>,
    mailbox_writer: Option<JoinHandle<()>>,
) {
    let until = clock::now() + shared.config.settings.server.shutdown_grace;
    for core in &cores {
        lanes::deliver(&core.mail, Message::Drain(until));
    }
    for core in cores {
        match core.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(target: "server", %error, "a core failed"),
            Err(_) => tracing::error!(target: "server", "a core panicked"),
        }
    }
    shared.lanes.iter().for_each(|lane| lane.tell(SpoolRequest::Stop));
    for lane in lanes {
        if lane.join().is_err() {
            tracing::error!(target: "server", "a spool lane panicked");
        }
    }
    shared.mailboxes.iter().for_each(MailboxLanes::stop);
    if mailbox_writer.is_some_and(|writer| writer.join().is_err()) {
        tracing::error!(target: "server", "the mailbox lane panicked");
    }
    shared.journal.iter().for_each(journal::Journal::stop);
}

/// Answers the admin socket.
struct Admin {
    shared: Arc<Shared>,
    accounts: Arc<Accounts>,
    choice: Choice,
    started: crate::base::time::Instant,
    listeners: Vec<ListenerConfig>,
    reload: channel::Sender<i32>,
}

/// How long an administrator waits for a queue.
const ADMIN_WAIT: Duration = Duration::from_secs(30);

impl AdminHandler for Admin {
    fn call(&self, request: Request) -> Response {
        match &request {
            Request::Status {} => Response::Status(self.status()),
            Request::Reload {} => match self.reload.try_send(SIGHUP) {
                Ok(()) => Response::Done,
                Err(_) => Response::failed("busy", "a reload is under way"),
            },
            Request::MailboxList { .. }
            | Request::MailboxBackup { .. }
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
}

impl Admin {
    fn ask_mailboxes(&self, request: &Request) -> Response {
        let Some(lanes) = &self.shared.mailboxes else {
            return Response::failed("no-mailboxes", "no route or listener of this server has mailboxes");
        };
        let answer = mailboxes::Keeper::of(lanes).answer(request, &self.accounts, &mut |_, _| {});
        answer.unwrap_or_else(|| Response::failed("invalid", "not a request for mailboxes"))
    }

    fn ask_queues(&self, request: &Request, limit: usize) -> Response {
        let mut answers = Vec::new();
        for lane in &self.shared.lanes {
            let (reply, replied) = channel::bounded(1);
            lane.tell(SpoolRequest::Admin { request: request.clone(), reply });
            match replied.recv_timeout(ADMIN_WAIT) {
                Ok(answer) => answers.push(answer),
                Err(_) => return Response::failed("busy", "a queue did not answer in time"),
            }
        }
        queue::join(answers, limit)
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: (clock::now() - self.started).as_millis() as u64,
            cores: self.shared.lanes.len().min(usize::from(u16::MAX)) as u16,
            driver: self.choice.io.word().to_owned(),
            connections: self.shared.counters.clients.load(Ordering::Relaxed),
            accepted: self.shared.counters.accepted.load(Ordering::Relaxed),
            delivered: self.shared.mailboxes.as_ref().map_or(0, |m| m.delivered.load(Ordering::Relaxed)),
            queued: self.shared.queued(),
            listeners: self.listeners.iter().map(|l| format!("{}={}", l.name, l.address)).collect(),
        }
    }
}
