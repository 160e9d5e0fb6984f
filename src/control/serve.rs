//! `gatepost serve`: configuration, data directory, ports, walls, log, then the gateway; the admin socket as soon as it is
//! ready. The same for a successor, which waits for its turn in between (see [`handover`](crate::control::handover)).
//!
//! How it fails: anything that is wrong before the gateway is ready is one line and exit code 1, and leaves nothing
//! behind but an empty data directory.

use crate::control::acme;
use crate::control::admin::{AdminServer, Setup};
use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::config::{Loaded, load};
use crate::control::diagnostic::render;
use crate::control::first_start::Demo;
use crate::control::handover::{self, Predecessor};
use crate::control::lock::DataLock;
use crate::control::log::{self, LogGuard};
use crate::control::policy::told;
use crate::control::walls;
use crate::gateway::admin::AdminHandler;
use crate::gateway::config::{Config, Host, Listener, StartError, Successor};
use crate::gateway::ports::Ports;
use crate::reactor::inherit::Inheritance;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// What serves: [`crate::gateway`], or a harness in tests.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Whether a configuration could be served.
    pub check: fn(&Config) -> Result<(), StartError>,
    /// Serves a configuration until it is told to stop.
    pub run: fn(Config, Ports, Arc<dyn Host>) -> Result<(), StartError>,
}

/// Reads the configuration and serves it.
pub fn serve(args: ServeArgs, gateway: Gateway) -> Result<(), Failure> {
    // First of all: nothing else may get the numbers of descriptors that were inherited.
    let inheritance = Inheritance::take().map_err(Failure::new)?;
    let mut predecessor = inheritance.control.map(Predecessor::new);
    let result = begin(args, gateway, inheritance.listeners, &mut predecessor);
    if let (Err(failure), Some(predecessor)) = (&result, &mut predecessor) {
        predecessor.failed(&failure.to_string());
    }
    result
}

fn begin(
    args: ServeArgs,
    gateway: Gateway,
    inherited: Vec<crate::reactor::inherit::Inherited>,
    predecessor: &mut Option<Predecessor>,
) -> Result<(), Failure> {
    let program = handover::Program::this().map_err(|e| Failure::new(format!("cannot find this program: {e}")))?;
    let loaded = args.load()?;
    if let Some(predecessor) = predecessor {
        (gateway.check)(&loaded.config).map_err(|StartError(error)| Failure::new(error))?;
        predecessor.prepared().map_err(|StartError(error)| Failure::new(error))?;
    }
    let Loaded { config, log, .. } = loaded;
    let data = config.settings.server.data.clone();
    let user = walls::user(&config.settings.walls).map_err(Failure::new)?;
    let lock = DataLock::take(&data).map_err(|e| Failure::new(e.to_string()))?;
    let ports = Ports::open(&config, inherited).map_err(|StartError(error)| Failure::new(error))?;
    // Before the first thread, so that every thread is behind them.
    let raised = walls::raise(&config, &log, program.path(), user).map_err(Failure::new)?;
    let log = log::start(&log).map_err(Failure::new)?;
    let file = config.file.as_ref().map_or("none, defaults".to_owned(), |f| f.display().to_string());
    tracing::info!(target: "server", version = env!("CARGO_PKG_VERSION"), configuration = file, "starting");
    raised.tell();
    let demo = Demo::prepare(&config).map_err(Failure::new)?;
    acme::start(&config).map_err(Failure::new)?;
    let setup = Setup::new(&config);
    let host = Arc::new(Server {
        args,
        program,
        data,
        log,
        demo,
        setup,
        lock: Mutex::new(Some(lock)),
        admin: Mutex::new(None),
        predecessor: Mutex::new(predecessor.take()),
    });
    let result = (gateway.run)(config, ports, host.clone());
    // The socket goes before the lock, so that no command talks to a server that has ended.
    *host.admin.lock() = None;
    *host.lock.lock() = None;
    if let (Err(StartError(error)), Some(mut predecessor)) = (&result, host.predecessor.lock().take()) {
        predecessor.failed(error);
    }
    if result.is_ok() {
        tracing::info!(target: "server", "stopped");
    }
    result.map_err(|StartError(error)| told(&error, "the policy has errors; nothing was started"))
}

/// The program around the gateway.
struct Server {
    args: ServeArgs,
    program: handover::Program,
    data: PathBuf,
    log: LogGuard,
    demo: Option<Demo>,
    setup: Setup,
    lock: Mutex<Option<DataLock>>,
    admin: Mutex<Option<AdminServer>>,
    /// Until it has been told that this process serves.
    predecessor: Mutex<Option<Predecessor>>,
}

/// Tells systemd, where it started us and wants to know.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(target: "server", %error, "systemd was not told");
    }
}

impl Host for Server {
    fn ready(&self, listeners: &[Listener], handler: Arc<dyn AdminHandler>) -> Result<(), StartError> {
        let server = AdminServer::start(&self.data, &self.setup, handler).map_err(StartError)?;
        // For scripts: where every listener is, then that it is ready.
        let mut lines = String::new();
        let dashboard = server.url();
        if let (Some(address), Some(url)) = (server.address(), server.url()) {
            tracing::info!(target: "admin", url, "dashboard, metrics and API");
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "admin {address}");
        }
        *self.admin.lock() = Some(server);
        for Listener { name, address, service, tls } in listeners {
            tracing::info!(target: "server", %address, service = service.word(), tls = tls.word(), "{name} listens");
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{name} {address}");
        }
        tracing::info!(target: "server", "ready");
        let welcome = self.demo.as_ref().map(|demo| demo.welcome(listeners, dashboard.as_deref())).unwrap_or_default();
        print(&format!("{lines}ready\n{welcome}")).map_err(|failure| StartError(failure.to_string()))?;
        if let Some(mut predecessor) = self.predecessor.lock().take() {
            predecessor.serving();
        }
        notify(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
        Ok(())
    }

    fn reload(&self) -> Result<Config, String> {
        let overrides = self.args.overrides().map_err(|failure| failure.to_string())?;
        let loaded = load(self.args.file().as_deref(), &overrides).map_err(|d| render(&d))?;
        let server = &loaded.config.settings.server;
        if server.data != self.data {
            let (new, old) = (server.data.display(), self.data.display());
            return Err(format!("the data directory cannot change from {old} to {new} while the server runs"));
        }
        Ok(loaded.config)
    }

    fn reopen_logs(&self) {
        self.log.reopen();
    }

    fn successor(&self, ports: &Ports) -> Result<Box<dyn Successor>, String> {
        self.program.start_again(ports)
    }

    fn leave_data(&self) {
        *self.admin.lock() = None;
        *self.lock.lock() = None;
    }

    fn retake_data(&self) -> Result<(), StartError> {
        let lock = DataLock::take(&self.data).map_err(|e| StartError(e.to_string()))?;
        *self.lock.lock() = Some(lock);
        Ok(())
    }

    fn alive(&self) {
        notify(&[NotifyState::Watchdog]);
    }
}
