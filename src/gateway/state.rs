//! What all cores share: the configuration as it runs, the policy, the limits, the lanes, the health of backends, a few
//! counters. Nothing here is written per message but relaxed counters.
//!
//! How it fails: making it from a configuration reads files (certificates, tables, passwords) and says which one is at
//! fault; afterwards it does not.

use super::access::parting;
use super::config::{Certificate, Config, Listener as ListenerConfig, ListenerTls, Service, StartError};
use super::lanes::{LookupToken, MailboxLanes, PasswordLane, SpoolLane};
use super::metrics::CoreMeter;
use super::metrics::disk::SyncMeter;
use super::metrics::verdicts::VerdictBook;
use super::outbound::Limits as LegLimits;
use super::recent::Recent;
use super::routing::Routing;
use super::targets::{BackendKnobs, BackendProtocol, BackendTls, HostPort, PoolConfig};
use crate::base::buf::{Chain, Segment};
use crate::base::time::Instant;
use crate::imap::ImapSettings;
use crate::lookup;
use crate::mailstore::addresses::Addresses;
use crate::policy::{Lease, Limits, Policy, ShadowPolicy};
use crate::pop3::Pop3Settings;
use crate::reactor::clock;
use crate::reactor::tls::{CertificateFiles, ClientTls, Pin, ServerTls, Verify, self_signed};
use crate::relay::pool::{Health, Member, Pool, PoolLimits};
use crate::smtp::client::{ClientConfig, ClientCredentials, Introduce, OwnName, Speaks, TlsMode};
use crate::smtp::server::{self, ServerConfig, TlsOffer};
use crate::wire::replies;
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zeroize::Zeroizing;

/// See the module's head.
pub(super) struct Shared {
    pub config: Arc<Config>,
    pub policy: ArcSwap<Policy>,
    pub limits: Arc<Limits>,
    /// A second policy that decides beside the first, when there is one.
    pub shadow: ArcSwapOption<ShadowPolicy>,
    pub routing: Arc<Routing>,
    pub server_tls: ArcSwap<ServerTls>,
    pub lookup: lookup::Asker<LookupToken>,
    pub passwords: PasswordLane,
    /// Where sessions are recorded, when they are.
    pub journal: Option<super::journal::Journal>,
    /// By number; the first ones are those of the cores.
    pub lanes: Vec<SpoolLane>,
    pub pools: Vec<PoolState>,
    /// The mailstore, when a route or a listener needs it.
    pub mailboxes: Option<MailboxLanes>,
    /// When each account logged in last by POP3, where LOGIN-DELAY asks for it.
    pub last_pop3_logins: Mutex<HashMap<String, Instant>>,
    /// Who gets local mail.
    pub addresses: Arc<Addresses>,
    /// Towards hosts that are found by lookups.
    pub found_client: Arc<ClientConfig>,
    pub found_tls: Arc<ClientTls>,
    pub counters: Counters,
    pub meters: Meters,
    pub recent: Arc<Recent>,
    pub connections_per_core_max: usize,
    pub body_octets_per_core_max: usize,
}

/// What is measured: a meter for each core, the tables of the policy's verdicts, the syncs of the queue.
pub(super) struct Meters {
    pub cores: Vec<Arc<CoreMeter>>,
    pub verdicts: VerdictBook,
    pub syncs: Arc<SyncMeter>,
}

impl Meters {
    /// For `cores` cores, the pools' numbers of backends, and the policy that comes first.
    pub fn new(cores: usize, pools: &[PoolState], policy: Arc<Policy>, syncs: Arc<SyncMeter>) -> Meters {
        let backends: Vec<usize> = pools.iter().map(|pool| pool.backends.len()).collect();
        Meters {
            cores: (0..cores).map(|_| Arc::new(CoreMeter::new(&backends))).collect(),
            verdicts: VerdictBook::new(policy, cores),
            syncs,
        }
    }
}

/// Counters for the administrator; relaxed.
#[derive(Default)]
pub(super) struct Counters {
    pub clients: AtomicU64,
    pub accepted: AtomicU64,
    /// Clients that were not read from for a while, because a core was nearly full.
    pub held: AtomicU64,
}

/// A listener as the cores use it.
pub(super) struct Listener {
    pub name: String,
    pub service: Service,
    /// As the policy calls it.
    pub policy_name: Arc<str>,
    pub serves: Serves,
    pub tls_from_start: bool,
    /// What is said to one client too many.
    pub busy: Chain,
}

/// What a listener serves, with the settings of its machine.
pub(super) enum Serves {
    Smtp(Arc<ServerConfig>),
    Imap(Arc<ImapSettings>),
    Pop3(Arc<Pop3Settings>),
}

/// A pool as the cores use it.
pub(super) struct PoolState {
    pub backends: Arc<[Backend]>,
    pub limits: LegLimits,
    members: Vec<Member>,
    breaker: PoolLimits,
    health: Arc<Health>,
}

/// A backend as the cores use it.
pub(super) struct Backend {
    pub host: HostPort,
    /// Its address, unless it is given by name.
    pub ip: Option<IpAddr>,
    pub client: Arc<ClientConfig>,
    pub tls: Arc<ClientTls>,
    pub tls_name: String,
}

impl PoolState {
    /// One core's view of the pool.
    pub fn new_pool(&self) -> Pool {
        Pool::new(self.breaker, &self.members, self.health.clone())
    }

    /// How a backend is now.
    pub fn mood(&self, place: usize) -> crate::relay::pool::Mood {
        self.health.mood(place, clock::now())
    }

    /// Tries every backend again now, whatever it did before: an administrator says so.
    pub fn forgive(&self) {
        for place in 0..self.members.len() {
            self.health.succeeded(place, clock::now(), &self.breaker);
        }
    }

    pub fn load(config: &Config, pool: &PoolConfig) -> Result<PoolState, StartError> {
        let backends: Result<Vec<Backend>, StartError> =
            pool.backends.iter().map(|b| Backend::load(config, b)).collect();
        let backends = backends.map_err(|e| StartError(format!("pool.{}: {e}", pool.name)))?;
        let knobs = &pool.knobs;
        let members = pool.backends.iter().map(|b| Member { weight: b.weight, priority: b.priority });
        Ok(PoolState {
            limits: LegLimits {
                connections_max: knobs.connections_max * backends.len(),
                idle_max: knobs.idle_max * backends.len(),
                idle_time_max: knobs.idle_time_max,
                messages_per_connection_max: knobs.messages_per_connection_max,
            },
            breaker: PoolLimits {
                connections_max: knobs.connections_max,
                failures_max: knobs.failures_max,
                retry_after: knobs.retry_after,
                probe_timeout: config.settings.relay.connect_timeout + Duration::from_secs(5),
                check_interval: knobs.check_interval,
            },
            members: members.collect(),
            health: Health::new(backends.len(), clock::now()),
            backends: backends.into(),
        })
    }
}

impl Backend {
    fn load(config: &Config, knobs: &BackendKnobs) -> Result<Backend, StartError> {
        let host = knobs.address.clone().ok_or_else(|| StartError("a backend has no address".into()))?;
        let verify = match (&knobs.tls_pin, knobs.tls) {
            (Some(pin), _) => {
                let pin: Pin = pin.parse().map_err(|e| StartError(format!("{host}: tls_pin: {e}")))?;
                Verify::Pinned(vec![pin])
            }
            (None, BackendTls::Required | BackendTls::Implicit) => Verify::Name { ca_file: knobs.tls_ca.clone() },
            (None, BackendTls::None | BackendTls::IfOffered) => Verify::Opportunistic,
        };
        let tls =
            ClientTls::load(&verify, None, &config.settings.tls).map_err(|e| StartError(format!("{host}: {e}")))?;
        let client = ClientConfig {
            helo: config.hostname.as_str().to_owned(),
            speaks: match knobs.protocol {
                BackendProtocol::Smtp => Speaks::Smtp,
                BackendProtocol::Lmtp => Speaks::Lmtp,
            },
            tls: match knobs.tls {
                BackendTls::None => TlsMode::Never,
                BackendTls::IfOffered => TlsMode::IfOffered,
                BackendTls::Required => TlsMode::Required,
                BackendTls::Implicit => TlsMode::Implicit,
            },
            auth: credentials(knobs)?,
            own_name: OwnName::Fine,
            introduce: if knobs.xclient { Introduce::Xclient } else { Introduce::Never },
            knobs: config.settings.client.clone(),
        };
        Ok(Backend {
            ip: host.host.parse().ok(),
            tls_name: knobs.tls_name.clone().unwrap_or_else(|| host.host.clone()),
            client: Arc::new(client),
            tls: Arc::new(tls),
            host,
        })
    }
}

fn credentials(knobs: &BackendKnobs) -> Result<Option<ClientCredentials>, StartError> {
    let Some(user) = knobs.user.clone() else { return Ok(None) };
    let Some(path) = &knobs.password_file else {
        return Err(StartError(format!("a backend has the user {user:?} but no password_file")));
    };
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|e| StartError(format!("cannot read the password of a backend from {}: {e}", path.display())))?;
    let password = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
    Ok(Some(ClientCredentials { user, password, authzid: None }))
}

impl Shared {
    /// Limits of destinations that are no pool.
    pub fn found_limits(&self) -> LegLimits {
        LegLimits {
            connections_max: self.config.settings.spool.per_destination_concurrency_max as usize,
            idle_max: 2,
            idle_time_max: Duration::from_secs(10),
            messages_per_connection_max: 0,
        }
    }

    /// A place among the connections of one client (an IPv4 address, an IPv6 /64); none is needed from loopback, and
    /// `Err` says that the client has as many as it may. The place is given back when the value is dropped.
    pub fn client_lease(&self, ip: IpAddr) -> Result<Option<Lease>, ()> {
        if ip.is_loopback() {
            return Ok(None);
        }
        let mut hasher = std::hash::DefaultHasher::new();
        (self.limits.secret(), "connections of a client").hash(&mut hasher);
        match ip {
            IpAddr::V4(ip) => ip.hash(&mut hasher),
            IpAddr::V6(ip) => ip.octets()[..8].hash(&mut hasher),
        }
        let most = u32::try_from(self.config.settings.server.connections_per_client_max).unwrap_or(u32::MAX);
        self.limits.lease(hasher.finish(), most).map(Some).ok_or(())
    }

    /// Messages in all queues.
    pub fn queued(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.gauges.queued.load(Ordering::Relaxed)).sum()
    }
}

/// The client's side towards hosts that are found by lookups: opportunistic TLS (RFC 7435).
pub(super) fn found_client(config: &Config) -> Result<(Arc<ClientConfig>, Arc<ClientTls>), StartError> {
    let client = ClientConfig {
        tls: TlsMode::IfOffered,
        own_name: OwnName::Loop,
        knobs: config.settings.client.clone(),
        ..ClientConfig::new(config.hostname.as_str())
    };
    let tls =
        ClientTls::load(&Verify::Opportunistic, None, &config.settings.tls).map_err(|e| StartError(e.to_string()))?;
    Ok((Arc::new(client), Arc::new(tls)))
}

/// The certificates, or one made at the first start.
pub(super) fn server_tls(config: &Config) -> Result<ServerTls, StartError> {
    let mut files: Vec<CertificateFiles> = config
        .certificates
        .iter()
        .map(|Certificate { chain, key }| CertificateFiles { chain: chain.clone(), key: key.clone() })
        .collect();
    let from_authority = super::acme::files(&config.settings.server.data);
    if files.is_empty() && config.settings.acme.directory.is_some() && from_authority.chain.exists() {
        files.push(from_authority);
    }
    if files.is_empty() {
        let own = self_signed(&config.settings.server.data.join("tls"), config.hostname.as_str())
            .map_err(|e| StartError(e.to_string()))?;
        if own.made_now {
            tracing::info!(fingerprint = own.fingerprint, "made a certificate of our own; clients will not trust it");
        }
        files.push(own.files);
    }
    ServerTls::load(&files, &config.settings.tls).map_err(|e| StartError(e.to_string()))
}

impl Listener {
    /// From the configuration of a port.
    pub fn new(config: &Config, listener: &ListenerConfig) -> Result<Listener, StartError> {
        let tls = match listener.tls {
            ListenerTls::None => TlsOffer::None,
            ListenerTls::StartTls => TlsOffer::StartTls,
            ListenerTls::Implicit => TlsOffer::Implicit,
        };
        let tls_available = listener.tls == ListenerTls::StartTls;
        let sasl_mechanisms = config.settings.server.mechanisms.clone();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let serves = match listener.service {
            Service::Mx => smtp(config, server::Service::Mx, tls)?,
            Service::Submission => smtp(config, server::Service::Submission, tls)?,
            Service::Lmtp => smtp(config, server::Service::Lmtp, tls)?,
            Service::Imap => {
                let knobs = config.settings.imap.clone();
                let hostname = config.hostname.as_str().to_owned();
                let (quota_root, version) = (String::new(), Some(version));
                Serves::Imap(Arc::new(ImapSettings {
                    hostname,
                    knobs,
                    sasl_mechanisms,
                    tls_available,
                    quota_root,
                    version,
                }))
            }
            Service::Pop3 => {
                let knobs = config.settings.pop3.clone();
                let hostname = config.hostname.clone();
                Serves::Pop3(Arc::new(Pop3Settings { hostname, knobs, sasl_mechanisms, tls_available, version }))
            }
        };
        let busy = match &serves {
            Serves::Smtp(_) => {
                let mut busy = Vec::new();
                replies::too_many_connections().emit(true, &mut busy);
                shared_chain(busy)
            }
            other => parting(other, "too many connections, try again later"),
        };
        Ok(Listener {
            name: listener.name.clone(),
            service: listener.service,
            policy_name: listener.service.word().into(),
            serves,
            tls_from_start: listener.tls == ListenerTls::Implicit,
            busy,
        })
    }
}

fn smtp(config: &Config, service: server::Service, tls: TlsOffer) -> Result<Serves, StartError> {
    let server = ServerConfig {
        hostname: config.hostname.clone(),
        knobs: config.settings.smtp.clone(),
        service,
        tls,
        mechanisms: match service {
            server::Service::Lmtp => Vec::new(),
            server::Service::Mx | server::Service::Submission => config.settings.server.mechanisms.clone(),
        },
    };
    server.check().map_err(StartError)?;
    Ok(Serves::Smtp(Arc::new(server)))
}

fn shared_chain(bytes: Vec<u8>) -> Chain {
    let mut chain = Chain::new();
    chain.push(Segment::Shared { start: 0, end: bytes.len(), bytes: Arc::new(bytes) });
    chain
}
