//! The watch over what runs: signals, cores that stand still, files that change; until it is time to end.
//!
//! How it fails: a core that has ended, or a signal thread that has, ends the gate with an error; everything else is a
//! line in the log.

use super::config::{Config, Host, Successor};
use super::ports::Ports;
use super::reload::{reload, reload_certificates, reload_policy, reload_with};
use super::state::Shared;
use super::{Handovers, RunningCore, acme, policy_file};
use crate::reactor::clock;
use crossbeam::channel;
use signal_hook::consts::{SIGHUP, SIGUSR2};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether accounts and aliases have changed: two `stat`.
const ADDRESSES_INTERVAL: Duration = Duration::from_millis(250);
/// After how many of these the files of lists and certificates are looked at as well.
const WATCH_TURNS: u32 = 8;

/// Why a gate is closed.
pub(super) enum Ended {
    /// A signal said so.
    Told,
    /// A part of it died.
    Failed(String),
    /// This process is ready to go on in its place.
    Succeeded(Box<dyn Successor>),
}

/// Waits for the end; meanwhile watches files and whether the cores turn.
pub(super) fn wait(
    signals: &channel::Receiver<i32>,
    shared: &Arc<Shared>,
    host: &Arc<dyn Host>,
    cores: &[RunningCore],
    ports: &Ports,
    handovers: &Handovers,
) -> Ended {
    let mut watched = Watched::policy(shared);
    let mut certificates = Watched::certificates(&shared.config);
    let mut domains = shared.addresses.domains();
    let mut beats = Beats::new(cores);
    let mut turns = 0;
    loop {
        match signals.recv_timeout(ADDRESSES_INTERVAL) {
            Ok(SIGHUP) => {
                host.reopen_logs();
                // What was wrong is in the log.
                let _ = reload(shared, host);
                watched = Watched::policy(shared);
            }
            Ok(SIGUSR2) => {
                tracing::info!(target: "server", "starting a successor");
                match host.successor(ports) {
                    Ok(successor) => {
                        handovers.tell(&Ok(()));
                        return Ended::Succeeded(successor);
                    }
                    Err(error) => {
                        tracing::error!(target: "server", error, "no successor, this process goes on");
                        handovers.tell(&Err(error));
                    }
                }
            }
            Ok(_) => {
                tracing::info!(target: "server", "stopping");
                return Ended::Told;
            }
            Err(channel::RecvTimeoutError::Timeout) => {
                let domains_now = shared.addresses.domains();
                turns += 1;
                if domains_now != domains {
                    tracing::info!(target: "server", domains = domains_now.join(" "), "local domains have changed");
                    domains = domains_now;
                    let _ = reload_with(shared, host, &reload_policy);
                } else if turns % WATCH_TURNS == 0 && watched.changed() {
                    let _ = reload_with(shared, host, &reload_policy);
                    watched = Watched::policy(shared);
                }
                if turns % WATCH_TURNS == 0 && certificates.changed() {
                    let _ = reload_certificates(shared, &shared.config);
                    certificates = Watched::certificates(&shared.config);
                }
            }
            Err(channel::RecvTimeoutError::Disconnected) => return Ended::Failed("the signal thread ended".into()),
        }
        if let Some(number) = cores.iter().position(|c| c.thread.is_finished()) {
            return Ended::Failed(format!("core {number} ended"));
        }
        if beats.all_turn(cores) {
            host.alive();
        }
    }
}

/// How long a core may take for one turn before the watchdog is not told that all is well; an idle core turns several
/// times a second.
const TURN_MAX: Duration = Duration::from_secs(5);

/// When each core was last seen to turn.
struct Beats(Vec<(u64, crate::base::time::Instant)>);

impl Beats {
    fn new(cores: &[RunningCore]) -> Beats {
        Beats(cores.iter().map(|_| (0, clock::now())).collect())
    }
    fn all_turn(&mut self, cores: &[RunningCore]) -> bool {
        let now = clock::now();
        self.0.iter_mut().zip(cores).all(|((seen, at), core)| {
            let beats = core.beats.load(Ordering::Relaxed);
            if beats != *seen {
                (*seen, *at) = (beats, now);
            }
            now.since(*at) < TURN_MAX
        })
    }
}

/// Files, as they were.
struct Watched(Vec<(std::path::PathBuf, Option<std::time::SystemTime>)>);

impl Watched {
    /// Those of the certificates, which a renewal replaces.
    fn certificates(config: &Config) -> Watched {
        let named = config.certificates.iter().flat_map(|c| [c.chain.clone(), c.key.clone()]);
        let files: Vec<_> = named.chain([acme::files(&config.settings.server.data).chain]).collect();
        Watched(files.into_iter().map(|path| (path.clone(), modified(&path))).collect())
    }

    /// Those the policy was made of.
    fn policy(shared: &Shared) -> Watched {
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
