//! Wires the rooms: cores, lanes, listeners, the life of a message, reload, shutdown.
//!
//! [`run`] opens everything in order (files, queue, lanes, cores, ports), says that it is ready, waits for signals, and
//! winds everything down in the opposite order. How it fails: whatever cannot be opened is one [`StartError`] that names
//! it, and nothing is left running; a core that dies later ends the process in order, with an error.

mod access;
pub mod acme;
pub mod admin;
mod callout;
pub mod config;
mod core;
pub mod data;
mod deliver;
mod edits;
mod gather;
mod inbound;
pub mod journal;
mod judge;
mod keep;
mod lanes;
mod levels;
mod local;
pub mod mailboxes;
pub mod metrics;
pub mod networks;
mod observe;
mod opening;
mod outbound;
mod pipe;
pub mod policy_file;
pub mod ports;
mod process;
pub mod queue;
pub mod recent;
mod reload;
mod reports;
mod results;
mod routing;
mod sentence;
mod settle;
mod shadow;
mod shed;
mod state;
mod supervise;
pub mod targets;
mod watch;

use self::core::Core;
use crate::base::id::IdSource;
use crate::base::queue::{Inbox, Wake};
use crate::log::RealDisk;
use crate::lookup::helpers::Helpers;
use crate::lookup::{self, Lane as LookupLane};
use crate::mailstore::accounts::Accounts;
use crate::mailstore::addresses::Addresses;
use crate::mailstore::embedded::EmbeddedStore;
use crate::policy::Limits;
use crate::reactor::{Choice, Driver, clock, limits, pin};
use crate::spool::Spool;
use admin::handler::Admin;
use arc_swap::{ArcSwap, ArcSwapOption};
use config::{Config, Host, Listener as ListenerConfig, Service, StartError};
use crossbeam::channel;
use lanes::{CoreMail, MailboxLanes, Message, PasswordLane, SpoolLane, SpoolRequest};
use metrics::disk::{Metered, SyncMeter};
use ports::Ports;
use recent::Recent;
use reports::{Composer, Setup};
use routing::Routing;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use state::{Counters, Listener, Meters, PoolState, Shared};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;
use supervise::{Ended, wait};
use targets::RouteMode;

/// Messages that wait for a core at most; lanes wait when it is full.
const INBOX_MAX: usize = 16 * 1024;

impl Wake for crate::reactor::Waker {
    fn wake(&self) {
        crate::reactor::Waker::wake(self);
    }
}

/// Whether `config` could be served: policy and certificates are read, nothing is started.
pub fn check(config: &Config) -> Result<(), StartError> {
    policy_file::load(config).map_err(StartError)?;
    state::server_tls(config).map(drop)
}

/// Serves `config` on `ports` until a signal says to stop, or until a successor has taken over.
pub fn run(config: Config, mut ports: Ports, host: Arc<dyn Host>) -> Result<(), StartError> {
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
    let handovers = Arc::new(Handovers::default());
    loop {
        let Gate { shared, accounts, cores, lanes, mailbox_lanes, keeper, choice, lookup } =
            Gate::open(config.clone(), &ports)?;
        let listeners = ports.listeners();
        let admin = Admin {
            shared: shared.clone(),
            accounts,
            choice,
            started: clock::now(),
            listeners: listeners.clone(),
            signals: signals.1.clone(),
            handovers: handovers.clone(),
            host: host.clone(),
            cores: cores.iter().map(|core| core.mail.clone()).collect(),
            observer: Default::default(),
            reloading: Default::default(),
            draining: Default::default(),
        };
        host.ready(&listeners, Arc::new(admin))?;
        let end = wait(&signals.0, &shared, &host, &cores, &ports, &handovers);
        let settings = &shared.config.settings.server;
        let grace = match &end {
            Ended::Succeeded(_) => settings.upgrade_grace,
            Ended::Told | Ended::Failed(_) => settings.shutdown_grace,
        };
        if let Ended::Told = end {
            ports.close();
        }
        wind_down(&shared, cores, lanes, grace);
        keeper.stop();
        drop(lookup);
        let successor = match end {
            Ended::Told => return Ok(()),
            Ended::Failed(error) => return Err(StartError(error)),
            Ended::Succeeded(successor) => successor,
        };
        // The readers of the mailstore end when nobody can ask them any more; only then are its files free.
        host.leave_data();
        give_up(shared);
        join_all(mailbox_lanes);
        match successor.begin() {
            Ok(pid) => {
                tracing::info!(target: "server", pid, "another process has taken over");
                return Ok(());
            }
            Err(error) => {
                tracing::error!(target: "server", error, "the new process did not take over; this one goes on");
                host.retake_data()?;
            }
        }
    }
}

/// How long the last handles on what the cores shared may be held by somebody who is still at work for an administrator.
const GIVE_UP_WAIT: Duration = Duration::from_secs(5);

fn give_up(shared: Arc<Shared>) {
    let until = clock::now() + GIVE_UP_WAIT;
    while Arc::strong_count(&shared) > 1 && clock::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!(target: "mailbox", "a mailbox lane panicked");
        }
    }
}

/// Administrators who wait for word of the successor they have asked for.
#[derive(Default)]
struct Handovers(parking_lot::Mutex<Vec<channel::Sender<Result<(), String>>>>);

impl Handovers {
    fn tell(&self, word: &Result<(), String>) {
        for waiting in self.0.lock().drain(..) {
            // Who has lost patience need not hear it.
            let _ = waiting.try_send(word.clone());
        }
    }
}

/// Signals as they arrive, and a way to ask for a reload without one.
fn signals() -> Result<(channel::Receiver<i32>, channel::Sender<i32>), StartError> {
    let (tell, told) = channel::bounded(16);
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])
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
    /// The writer first.
    mailbox_lanes: Vec<JoinHandle<()>>,
    keeper: keep::Keeper,
    choice: Choice,
    lookup: LookupLane,
}

struct RunningCore {
    mail: CoreMail,
    /// Turns of its loop.
    beats: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

/// A core whose driver is open and which waits for what it is to serve.
struct WaitingCore {
    mail: CoreMail,
    beats: Arc<AtomicU64>,
    begin: channel::Sender<Work>,
    thread: JoinHandle<io::Result<()>>,
}

/// What a core serves.
struct Work {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, Arc<Listener>)>,
}

impl Gate {
    fn open(config: Config, ports: &Ports) -> Result<Gate, StartError> {
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
        let second = match config.settings.policy.shadow.as_deref() {
            Some(file) => Some(shadow::open(&config, random()?, file).map_err(StartError)?),
            None => None,
        };
        let server_tls = state::server_tls(&config)?;
        let pools: Result<Vec<PoolState>, StartError> =
            config.pools.iter().map(|p| PoolState::load(&config, p)).collect();
        let pools = pools?;
        let (found_client, found_tls) = state::found_client(&config)?;
        let allowed = pin::allowed_cores();
        let count = core_count(&config);
        let (waiting, choice) = start_cores(&config, &allowed, count)?;
        let mails: Vec<CoreMail> = waiting.iter().map(|c| c.mail.clone()).collect();

        let setup = Arc::new(Setup { config: config.clone(), routing: routing.clone() });
        let syncs = Arc::new(SyncMeter::default());
        let (lanes, lane_threads) = open_queue(&config, &setup, &mails, &syncs)?;
        let to_cores = mails.clone();
        let helpers = Arc::new(Helpers::load(&config.helpers).map_err(StartError)?);
        let tell = move |token: lanes::LookupToken, reply| {
            let message = match (reply, token.to) {
                (lookup::Reply::Answer(answer), to) => Message::Lookup { to, answer },
                (lookup::Reply::Finding(finding), lanes::LookupTo::Client { conn, number }) => {
                    Message::Found { conn, number, finding }
                }
                // Destinations put questions only.
                (lookup::Reply::Finding(_), lanes::LookupTo::Destination(_)) => return,
            };
            lanes::deliver(&to_cores[usize::from(token.core)], message);
        };
        let (lookup, asker) =
            LookupLane::start_with(&config.settings.lookup, helpers, tell).map_err(|e| StartError(e.to_string()))?;
        let (mailboxes, mailbox_lanes) = open_mailstore(&config, &accounts, &mails)?.unzip();
        let passwords = PasswordLane::start(accounts.clone(), mails)
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;

        let policy = Arc::new(policy);
        let knobs = &config.settings.admin;
        let recent = Recent::new(count, knobs.sessions_kept, knobs.decisions_kept, knobs.sessions_memory_max.0);
        let shared = Arc::new(Shared {
            meters: Meters::new(count, &pools, policy.clone(), syncs),
            policy: ArcSwap::new(policy),
            shadow: ArcSwapOption::new(second),
            limits: Limits::with_memory(config.settings.limits.keys_max, random()?, keep::recall(&config, random()?)),
            routing,
            server_tls: ArcSwap::from_pointee(server_tls),
            lookup: asker,
            passwords,
            journal: journal::Journal::start(&config, Some(recent.clone()))?,
            recent,
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
        let cores = begin_cores(&shared, waiting, ports)?;
        let keeper = keep::Keeper::start(&shared.config, shared.limits.clone())?;
        let mailbox_lanes = mailbox_lanes.unwrap_or_default();
        Ok(Gate { shared, accounts, cores, lanes: lane_threads, mailbox_lanes, keeper, choice, lookup })
    }
}

/// How many cores serve: those that are configured, or all this process may run on.
fn core_count(config: &Config) -> usize {
    let count = match config.settings.server.cores {
        0 => pin::allowed_cores().len(),
        n => usize::from(n),
    };
    count.clamp(1, usize::from(IdSource::CORES_MAX))
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
        let beats = Arc::new(AtomicU64::new(0));
        let turned = beats.clone();
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
                recent::this_is_core(number as u16);
                let mut core = Core::new(number as u16, shared, driver, inbox);
                let result =
                    listeners.into_iter().try_for_each(|(s, l)| core.listen(s, l)).and_then(|()| core.run(&turned));
                // First nobody waits for this core's inbox any more, then it may wait for the lanes.
                mail.close();
                core.tell_all();
                result
            })
            .map_err(|e| StartError(format!("cannot start a thread: {e}")))?;
        match told.recv() {
            Ok(Ok((mail, choice))) => {
                chosen.get_or_insert(choice);
                waiting.push(WaitingCore { mail, beats, begin, thread });
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
    syncs: &Arc<SyncMeter>,
) -> Result<(Vec<SpoolLane>, Vec<JoinHandle<()>>), StartError> {
    let data = &config.settings.server.data;
    let found = data::spool_dirs(data).map_err(|e| StartError(format!("cannot read {}: {e}", data.display())))?;
    let count = found.last().map_or(0, |(core, _)| usize::from(*core) + 1).max(mails.len());
    let mut lanes = Vec::new();
    let mut threads = Vec::new();
    for number in 0..count {
        let spool = open_spool(config, number, syncs)?;
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
fn open_spool(config: &Config, number: usize, syncs: &Arc<SyncMeter>) -> Result<Spool<Metered<RealDisk>>, StartError> {
    let core = number as u16;
    let directory = data::spool_dir(&config.settings.server.data, core);
    let knobs = config.settings.spool.clone();
    let disk = Metered::new(RealDisk, syncs.clone());
    let (spool, recovery) = Spool::open(disk, &directory, knobs, core, clock::wall(), fastrand::Rng::new())
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

/// The lanes of the mailstore and their threads.
type Mailboxes = (MailboxLanes, Vec<JoinHandle<()>>);

/// Opens the mailstore when a route or a listener needs it; its lanes, and the thread that writes.
fn open_mailstore(
    config: &Config,
    accounts: &Arc<Accounts>,
    mails: &[CoreMail],
) -> Result<Option<Mailboxes>, StartError> {
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
    store.set_quotas(accounts.clone());
    MailboxLanes::start(&store, lanes, mails).map(Some).map_err(|error| StartError(error.0))
}

fn begin_cores(shared: &Arc<Shared>, waiting: Vec<WaitingCore>, ports: &Ports) -> Result<Vec<RunningCore>, StartError> {
    let mut listeners = Vec::new();
    for config in &ports.listeners() {
        listeners.push(Arc::new(Listener::new(&shared.config, config)?));
    }
    let shares = ports.share(waiting.len())?;
    let mut cores = Vec::new();
    for (core, share) in waiting.into_iter().zip(shares) {
        let listeners = share.into_iter().map(|(socket, number)| (socket, listeners[number].clone())).collect();
        core.begin
            .send(Work { shared: shared.clone(), listeners })
            .map_err(|_| StartError("a core ended while it started".into()))?;
        cores.push(RunningCore { mail: core.mail, thread: core.thread, beats: core.beats });
    }
    Ok(cores)
}

/// Clients finish or are told, within `grace`; then the queues commit and end.
fn wind_down(shared: &Shared, cores: Vec<RunningCore>, lanes: Vec<JoinHandle<()>>, grace: Duration) {
    let until = clock::now() + grace;
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
    shared.journal.iter().for_each(journal::Journal::stop);
}
