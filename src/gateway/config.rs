//! What the gateway is told: its own knobs (`[server]`, `[[listener]]`) and [`Config`], everything resolved.
//!
//! `control` reads files and flags and makes the value; nothing here reads anything. How it fails: it does not; a
//! `Config` holds only what has been checked.

use crate::base::address::Domain;
use crate::base::knob::{Octets, Section};
use crate::gateway::admin::AdminHandler;
use crate::gateway::networks::Networks;
use crate::gateway::ports::Ports;
use crate::gateway::targets::{PoolConfig, RouteConfig, RouteMode};
use crate::lookup::helpers::HelperConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

crate::knobs! {
    /// The server as a whole. Relative paths in the file are relative to the file's directory.
    pub struct ServerKnobs in "server" {
        /// Name in the greeting, in `Received` and towards backends. Default: the machine's name; when that has no
        /// dot, the first local domain is put behind it.
        hostname: Option<String> = None, unit "";
        /// Local domains: mail to them is for us (`@local-domains` in the policy).
        domains: Vec<String> = vec!["example.test".to_owned()], unit "";
        /// Data directory: queue, accounts, certificate, admin socket. One server at a time.
        data: PathBuf = PathBuf::from("gatepost-data"), unit "";
        /// Cores to use, one pinned thread each; 0 = all this process may run on.
        cores: u16 = 0, unit "cores", range 0..=64;
        /// Policy file. Default: the policy compiled into the program.
        policy: Option<PathBuf> = None, unit "";
        /// What stands behind a 250 on routes to backends that do not say: "cut-through", "spool" or "auto".
        mode: Option<RouteMode> = None, unit "";
        /// SASL mechanisms that are offered where AUTH is (not over LMTP), as far as TLS and the client's certificate allow
        /// them; over POP3 and IMAP the same. `[]` = no AUTH. CRAM-MD5 is known too, but clients that see it prefer it to
        /// a password, and it works only for accounts added with `--shared-secret`: add it when all have one.
        mechanisms: Vec<String> = [
            "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "EXTERNAL", "PLAIN", "LOGIN",
        ].map(str::to_owned).to_vec(), unit "";
        /// Networks that count as protected: AUTH is offered to them without TLS. `[]` = nobody.
        protected: Networks = Networks::loopback(), unit "";
        /// Proxies: a connection from them must begin with a PROXY protocol header (v1 or v2), which is believed.
        proxy_from: Networks = Networks::default(), unit "";
        /// Hosts whose XCLIENT command is offered and believed.
        xclient_from: Networks = Networks::default(), unit "";
        /// The field Authentication-Results (RFC 8601) on top of messages: "when-checked" writes it when the policy had any
        /// of the client's name, SPF, DKIM, DMARC or ARC found out, or the client has logged in; "never" writes none.
        /// Fields that others wrote in the name of this host are removed in any case.
        authentication_results: ResultsMode = ResultsMode::WhenChecked, unit "";
        /// Lookups of one session that may be under way at a time; a rule that needs one more sees its fact as unknown.
        inquiries_per_session_max: usize = 64, unit "lookups", range 1..=1000;
        /// Connections in all; one more is answered 421 and closed.
        connections_max: usize = 16_384, unit "connections", range 1..=10_000_000;
        /// Connections from one IPv4 address or one IPv6 /64; loopback is exempt.
        connections_per_client_max: usize = 50, unit "connections", range 1..=10_000_000;
        /// Memory for bodies in flight, TLS and queues. Near it, new clients wait; at it they are answered 421.
        memory_max: Octets = Octets::mib(512), unit "octets", range Octets::mib(16)..=Octets::mib(1 << 30);
        /// Percent of a core's memory for bodies (half of `memory_max`, shared by the cores) from which on it does not read
        /// from clients that have not logged in and have no message under way: the newest first, the more the fuller it is.
        shed_reading: u8 = 80, unit "%", range 1..=100;
        /// Percent from which on new clients wait to be taken; after 20s of that they are answered 421.
        shed_accepting: u8 = 90, unit "%", range 1..=100;
        /// Time that sessions get to finish after SIGTERM.
        shutdown_grace: Duration = Duration::from_secs(30), unit "",
            range Duration::ZERO..=Duration::from_secs(3600);
        /// Time that sessions get to finish their message when another process takes over (`gatepost upgrade`, SIGUSR2).
        /// Clients that connect meanwhile wait for the new process.
        upgrade_grace: Duration = Duration::from_secs(5), unit "",
            range Duration::ZERO..=Duration::from_secs(3600);
    }
}

crate::knob_words! {
    /// When the field Authentication-Results is written.
    pub enum ResultsMode {
        /// When there is something to say.
        WhenChecked = "when-checked",
        /// Never.
        Never = "never",
    }
}

crate::knobs! {
    /// The policy beside what its own file says.
    pub struct PolicyKnobs in "policy" {
        /// A second policy file, that decides beside the first and is heard by nobody: only where it differs something is
        /// said, in the log (`shadow`), in the journal and in counters. See `gatepost policy shadow`.
        shadow: Option<PathBuf> = None, unit "";
        /// Whether what only the shadow needs is found out too (lists in the DNS, SPF and the like). Nobody waits for it;
        /// without it a decision of the shadow that hangs on such a fact is undecided, and counted as that.
        shadow_lookups: bool = false, unit "";
    }
}

crate::knob_words! {
    /// What a listener serves.
    pub enum Service {
        /// SMTP from other servers (RFC 5321).
        Mx = "mx",
        /// Submission from users (RFC 6409).
        Submission = "submission",
        /// LMTP (RFC 2033).
        Lmtp = "lmtp",
        /// POP3 (RFC 1939).
        Pop3 = "pop3",
        /// IMAP (RFC 9051, RFC 3501).
        Imap = "imap",
    }
}

crate::knob_words! {
    /// TLS on a listener.
    pub enum ListenerTls {
        /// Not offered.
        None = "none",
        /// Offered by STARTTLS (RFC 3207).
        StartTls = "starttls",
        /// From the first octet (RFC 8314 §3.3).
        Implicit = "implicit",
    }
}

crate::knobs! {
    /// One port. When the file has no `[[listener]]`, there are eight on 127.0.0.1: `mx` on 2525, `submission` on
    /// 2587 (STARTTLS), `submissions` on 2465 (implicit TLS), `lmtp` on 2424, `pop3` on 2110 (STLS), `pop3s` on 2995,
    /// `imap` on 2143 (STARTTLS) and `imaps` on 2993.
    pub struct ListenerKnobs in "listener" {
        /// Its name, unique; the fact `listener` of the policy and what `--listen NAME=ADDRESS` refers to. Required.
        name: Option<String> = None, unit "";
        /// Address and port; port 0 takes any free one. Required.
        address: Option<SocketAddr> = None, unit "";
        /// "mx", "submission", "lmtp", "pop3" or "imap".
        service: Service = Service::Mx, unit "";
        /// "none", "starttls" or "implicit". Default: "starttls", for LMTP "none".
        tls: Option<ListenerTls> = None, unit "";
    }
}

/// A port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, unique.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// What it serves.
    pub service: Service,
    /// TLS on it.
    pub tls: ListenerTls,
}

crate::knobs! {
    /// A certificate; clients choose by SNI (RFC 6066 §3), the first is for those that do not. Without any, one is
    /// made and signed by itself at the first start.
    pub struct CertificateKnobs in "tls.certificate" {
        /// PEM file with the certificate and its chain. Required.
        chain: Option<PathBuf> = None, unit "";
        /// PEM file with the private key. Required.
        key: Option<PathBuf> = None, unit "";
    }
}

/// A certificate's files, absolute or relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Certificate and chain, PEM.
    pub chain: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// The plain sections of the file. A new section is one row here: field, knobs.
macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $knobs:ty),+ $(,)?) => {
        /// The knobs of every room, as the file and the flags left them.
        #[derive(Clone, Debug, Default)]
        pub struct Settings { $($(#[$doc])* pub $field: $knobs),+ }

        impl Settings {
            /// Every section, for the reader, the reference page and the schema.
            pub fn sections(&mut self) -> Vec<&mut dyn Section> {
                vec![$(&mut self.$field),+]
            }

            /// Files and directories that the plain sections name.
            pub fn paths(&self) -> Vec<PathBuf> {
                let mut paths = Vec::new();
                $(paths.extend(Section::paths(&self.$field));)+
                paths
            }
        }
    };
}

settings! {
    /// `[server]`
    server: ServerKnobs,
    /// `[walls]`
    walls: crate::reactor::walls::WallKnobs,
    /// `[policy]`
    policy: PolicyKnobs,
    /// `[io]`
    io: crate::reactor::ReactorKnobs,
    /// `[smtp]`
    smtp: crate::smtp::server::SmtpKnobs,
    /// `[tls]`
    tls: crate::reactor::tls::TlsKnobs,
    /// `[acme]`
    acme: crate::gateway::acme::AcmeKnobs,
    /// `[accounts]`
    accounts: crate::mailstore::accounts::AccountKnobs,
    /// `[mailbox]`
    mailbox: crate::mailstore::MailboxKnobs,
    /// `[addresses]`
    addresses: crate::mailstore::addresses::AddressKnobs,
    /// `[imap]`
    imap: crate::imap::ImapKnobs,
    /// `[pop3]`
    pop3: crate::pop3::Pop3Knobs,
    /// `[limits]`
    limits: crate::policy::LimitKnobs,
    /// `[relay]`
    relay: crate::relay::knobs::RelayKnobs,
    /// `[client]`
    client: crate::smtp::client::ClientKnobs,
    /// `[spool]`
    spool: crate::spool::SpoolKnobs,
    /// `[lookup]`
    lookup: crate::lookup::LookupKnobs,
    /// `[journal]`
    journal: crate::gateway::journal::JournalKnobs,
    /// `[admin]`
    admin: crate::gateway::admin::AdminKnobs,
}

/// Everything the gateway has to know, checked and resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, when there was one.
    pub file: Option<PathBuf>,
    /// Every section. Paths are resolved against the file's directory.
    pub settings: Settings,
    /// Name in the greeting.
    pub hostname: Domain,
    /// Local domains, without duplicates.
    pub domains: Vec<Domain>,
    /// Ports, at least one, names and addresses unique.
    pub listeners: Vec<Listener>,
    /// Pools, each with at least one backend.
    pub pools: Vec<PoolConfig>,
    /// Routes in the order of the file; exactly one without domains and addresses, the last.
    pub routes: Vec<RouteConfig>,
    /// Helpers, each with its kind and address.
    pub helpers: Vec<HelperConfig>,
    /// Certificates in the order of the file; none = make one.
    pub certificates: Vec<Certificate>,
}

/// Why the server did not start; one clear line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// What the gateway needs from whoever started it: `control` in the program, a harness in tests.
pub trait Host: Send + Sync {
    /// Everything listens and nothing has failed. `listeners` are the addresses in use, in the order of
    /// `Config::listeners` (a port 0 of the configuration is the real one here).
    fn ready(&self, listeners: &[Listener], admin: Arc<dyn AdminHandler>) -> Result<(), StartError>;
    /// Reads the configuration again, with the flags of the start. An error is all diagnostics as text; what runs
    /// goes on as it is.
    fn reload(&self) -> Result<Config, String>;
    /// New log files instead of rotated ones; part of a reload.
    fn reopen_logs(&self);
    /// Starts the program again, to go on in place of this process with these ports. When it returns, the new process
    /// has read and checked its configuration and waits; an error is why it could not.
    fn successor(&self, ports: &Ports) -> Result<Box<dyn Successor>, String>;
    /// This process uses the data directory no more: another may.
    fn leave_data(&self);
    /// The successor failed: the data directory is needed again.
    fn retake_data(&self) -> Result<(), StartError>;
    /// Every core turns; said a few times a second, for a watchdog.
    fn alive(&self);
}

/// A process that is ready to take over.
pub trait Successor: Send {
    /// Its turn: the data directory is free. Returns when it serves, with its process id; an error is why it does not,
    /// and then it is gone.
    fn begin(self: Box<Self>) -> Result<u32, String>;
}
