//! Questions put to the name servers through hickory-resolver, and its answers turned into ours.
//!
//! How it fails: every error of the resolver becomes a [`Miss`]; what cannot be a host name is left out of an answer,
//! and an answer of which nothing is left is [`Trouble::Malformed`] rather than "none", since "none" would be acted on.

use super::knobs::{Families, LookupKnobs, NameServer};
use super::question::{Answer, Found, Key, Miss, MxRecord, Source, Trouble, is_host_name};
use crate::base::address::Domain;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use std::net::IpAddr;
use std::time::Duration;

/// Records of one answer that are looked at; an answer with more is cut there. (DNS over TCP could carry thousands.)
const RECORDS_MAX: usize = 100;

type Records = Result<(Found, Duration), (Miss, Option<Duration>)>;

/// The resolver with what is needed to bound its answers.
#[derive(Clone)]
pub(super) struct Dns {
    resolver: TokioResolver,
    families: Families,
    deadline: Duration,
    ttl: (Duration, Duration),
    negative_ttl: (Duration, Duration),
    failure_ttl: Duration,
}

impl Dns {
    /// From the settings; the error says why no name server can be asked.
    pub(super) fn new(knobs: &LookupKnobs) -> Result<Dns, String> {
        let config = match knobs.servers.as_slice() {
            [] => {
                let (system, _) = hickory_resolver::system_conf::read_system_conf()
                    .map_err(|e| format!("/etc/resolv.conf names no name server ({e})"))?;
                // Mail domains are fully qualified: no search list.
                ResolverConfig::from_name_servers(system.name_servers().to_vec())
            }
            servers => ResolverConfig::from_name_servers(servers.iter().map(server_config).collect()),
        };
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options(knobs);
        Ok(Dns {
            resolver: builder.build().map_err(|e| e.to_string())?,
            families: knobs.families,
            deadline: knobs.deadline,
            ttl: (knobs.ttl_min.min(knobs.ttl_max), knobs.ttl_max),
            negative_ttl: (knobs.negative_ttl_min.min(knobs.negative_ttl_max), knobs.negative_ttl_max),
            failure_ttl: knobs.failure_ttl,
        })
    }

    /// The answer to `key`, at the latest after the deadline.
    pub(super) async fn answer(&self, key: &Key) -> Answer {
        let asked = tokio::time::timeout(self.deadline, self.ask(key));
        let records = asked.await.unwrap_or(Err((Miss::Temporary(Trouble::Timeout), None)));
        self.bounded(records)
    }

    fn bounded(&self, records: Records) -> Answer {
        let (result, ttl) = match records {
            Ok((found, ttl)) => (Ok(found), ttl.clamp(self.ttl.0, self.ttl.1)),
            Err((miss @ Miss::Temporary(_), _)) => (Err(miss), self.failure_ttl),
            // Without an SOA record nobody said how long (RFC 2308 §5): the minimum.
            Err((miss, ttl)) => (Err(miss), ttl.unwrap_or_default().clamp(self.negative_ttl.0, self.negative_ttl.1)),
        };
        Answer { result, ttl, source: Source::Dns }
    }

    async fn ask(&self, key: &Key) -> Records {
        match key {
            Key::Mx(name) => self.mx(name).await,
            Key::Addresses(name) => self.addresses(name).await,
            Key::Txt(name) => self.txt(name).await,
            Key::A(name) => self.family(name, RecordType::A).await,
            Key::Aaaa(name) => self.family(name, RecordType::AAAA).await,
            Key::Ptr(ip) => self.names(*ip).await.map(|(names, ttl)| (Found::Names(names.into()), ttl)),
            // `records` puts this answer together from the others.
            Key::ClientName(_) => Err((Miss::NoRecords, None)),
        }
    }

    async fn mx(&self, name: &str) -> Records {
        let (records, ttl) = self
            .records(fqdn(name)?, RecordType::MX, |data| match data {
                RData::MX(mx) if mx.exchange.is_root() => Some(MxRecord { preference: mx.preference, exchange: None }),
                RData::MX(mx) => Some(MxRecord { preference: mx.preference, exchange: Some(domain(&mx.exchange)?) }),
                _ => None,
            })
            .await?;
        Ok((Found::Mx(records.into()), ttl))
    }

    async fn txt(&self, name: &str) -> Records {
        let (records, ttl) = self
            .records(fqdn(name)?, RecordType::TXT, |data| match data {
                RData::TXT(txt) => Some(txt.txt_data.concat().into_boxed_slice()),
                _ => None,
            })
            .await?;
        Ok((Found::Texts(records.into()), ttl))
    }

    /// A and AAAA side by side. One family that fails does not hide what the other has; but "there is none" is only
    /// said when both said so.
    async fn addresses(&self, name: &str) -> Records {
        match self.families {
            Families::V4 => self.ips(name, RecordType::A).await,
            Families::V6 => self.ips(name, RecordType::AAAA).await,
            Families::Both => {
                let (v6, v4) = tokio::join!(self.ips(name, RecordType::AAAA), self.ips(name, RecordType::A));
                both(v6, v4, self.failure_ttl)
            }
        }
        .map(|(ips, ttl)| (Found::Addresses(ips.into()), ttl))
    }

    /// The addresses of one family, whatever the setting says: the client's own decides.
    async fn family(&self, name: &str, kind: RecordType) -> Records {
        self.ips(name, kind).await.map(|(ips, ttl)| (Found::Addresses(ips.into()), ttl))
    }

    async fn ips(&self, name: &str, kind: RecordType) -> Ips {
        self.records(fqdn(name)?, kind, |data| data.ip_addr().map(|ip| ip.to_canonical())).await
    }

    async fn names(&self, ip: IpAddr) -> Result<(Vec<Domain>, Duration), (Miss, Option<Duration>)> {
        self.records(Name::from(ip), RecordType::PTR, |data| match data {
            RData::PTR(ptr) => domain(&ptr.0),
            _ => None,
        })
        .await
    }

    /// The records of one type, those `read` accepts, with the shortest TTL on the way to them.
    async fn records<T: PartialEq>(
        &self,
        name: Name,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<(Vec<T>, Duration), (Miss, Option<Duration>)> {
        let lookup = self.resolver.lookup(name.clone(), kind).await.map_err(|e| miss(&e))?;
        let (answers, ttl) = chain(&lookup, name, kind);
        if answers.is_empty() {
            return Err((Miss::NoRecords, None));
        }
        let mut records = Vec::with_capacity(answers.len());
        for record in answers.into_iter().take(RECORDS_MAX).filter_map(read) {
            if !records.contains(&record) {
                records.push(record);
            }
        }
        match records.is_empty() {
            true => Err((Miss::Temporary(Trouble::Malformed), None)),
            false => Ok((records, Duration::from_secs(ttl.into()))),
        }
    }
}

/// The records of type `kind` at the end of the aliases that start at `name`, and the shortest TTL on the way. Records
/// for other names, which a server may add unasked, do not count.
fn chain(lookup: &Lookup, name: Name, kind: RecordType) -> (Vec<&RData>, u32) {
    let mut names = vec![name];
    let mut ttl = u32::MAX;
    for record in lookup.answers() {
        if let RData::CNAME(alias) = &record.data
            && names.contains(&record.name)
        {
            ttl = ttl.min(record.ttl);
            names.push(alias.0.clone());
        }
    }
    let mut found = Vec::new();
    for record in lookup.answers().iter().filter(|r| r.record_type() == kind && names.contains(&r.name)) {
        ttl = ttl.min(record.ttl);
        found.push(&record.data);
    }
    (found, ttl)
}

type Ips = Result<(Vec<IpAddr>, Duration), (Miss, Option<Duration>)>;

fn both(v6: Ips, v4: Ips, failure_ttl: Duration) -> Ips {
    match (v6, v4) {
        (Ok((mut ips, a)), Ok((more, b))) => {
            ips.extend(more);
            Ok((ips, a.min(b)))
        }
        // Half an answer is worth using but not keeping for long.
        (Ok((ips, ttl)), Err((Miss::Temporary(_), _))) | (Err((Miss::Temporary(_), _)), Ok((ips, ttl))) => {
            Ok((ips, ttl.min(failure_ttl)))
        }
        (Ok(found), Err((_, other))) | (Err((_, other)), Ok(found)) => {
            Ok((found.0, other.map_or(found.1, |o| o.min(found.1))))
        }
        (Err((miss @ Miss::Temporary(_), _)), _) | (_, Err((miss @ Miss::Temporary(_), _))) => Err((miss, None)),
        (Err((a, a_ttl)), Err((b, b_ttl))) => {
            // A name without AAAA may still exist; some servers say NXDOMAIN to AAAA alone (RFC 4074 §4.2).
            let miss = if a == Miss::NoName && b == Miss::NoName { Miss::NoName } else { Miss::NoRecords };
            Err((miss, a_ttl.min(b_ttl)))
        }
    }
}

fn miss(error: &NetError) -> (Miss, Option<Duration>) {
    let temporary = |trouble| (Miss::Temporary(trouble), None);
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = none.negative_ttl.map(|t| Duration::from_secs(t.into()));
            match none.response_code {
                ResponseCode::NXDomain => (Miss::NoName, ttl),
                ResponseCode::NoError => (Miss::NoRecords, ttl),
                code => temporary(Trouble::Response(code.into())),
            }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => temporary(Trouble::Response((*code).into())),
        NetError::Timeout => temporary(Trouble::Timeout),
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => temporary(Trouble::Unreachable),
        _ => temporary(Trouble::Malformed),
    }
}

fn fqdn(name: &str) -> Result<Name, (Miss, Option<Duration>)> {
    // By labels: the text form would take a backslash for an escape.
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|_| (Miss::NoName, None))?;
    name.set_fqdn(true);
    Ok(name)
}

/// A name of an answer as a host name; `None` when it cannot be one.
fn domain(name: &Name) -> Option<Domain> {
    let text = name.to_ascii();
    let text = text.strip_suffix('.').unwrap_or(&text);
    is_host_name(text).then(|| Domain::from_checked(text))
}

fn server_config(server: &NameServer) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.0.ip());
    config.connections.iter_mut().for_each(|c: &mut ConnectionConfig| c.port = server.0.port());
    config
}

fn options(knobs: &LookupKnobs) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = knobs.timeout;
    options.attempts = knobs.attempts;
    options.cache_size = 0; // the lane has its own cache, in front of the queue
    options.use_hosts_file = ResolveHosts::Never; // so has the static table
    options.preserve_intermediates = true; // the TTL of an alias counts (RFC 2181 §10.1)
    options.max_active_requests = knobs.in_flight_max.max(32);
    options
}
