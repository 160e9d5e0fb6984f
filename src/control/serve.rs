//! `gatepost serve`: configuration, log, data directory, then the gateway; the admin socket as soon as it is ready.
//!
//! How it fails: anything that is wrong before the gateway is ready is one line and exit code 1, and leaves nothing
//! behind but an empty data directory.

use crate::control::admin::AdminServer;
use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::config::load;
use crate::control::diagnostic::render;
use crate::control::first_start::Demo;
use crate::control::lock::DataLock;
use crate::control::log::{self, LogGuard};
use crate::control::policy::told;
use crate::gateway::admin::AdminHandler;
use crate::gateway::config::{Config, Host, Listener, StartError};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Serves a configuration until it is told to stop.
pub type Gateway = fn(Config, Arc<dyn Host>) -> Result<(), StartError>;

/// Reads the configuration and serves it.
pub fn serve(args: ServeArgs, gateway: Gateway) -> Result<(), Failure> {
    let loaded = args.load()?;
    let log = log::start(&loaded.log).map_err(Failure::new)?;
    // Held until the gateway has returned.
    let _lock = DataLock::take(&loaded.config.settings.server.data).map_err(|e| Failure::new(e.to_string()))?;
    let file = loaded.config.file.as_ref().map_or("none, defaults".to_owned(), |f| f.display().to_string());
    tracing::info!(target: "server", version = env!("CARGO_PKG_VERSION"), configuration = file, "starting");
    let data = loaded.config.settings.server.data.clone();
    let demo = Demo::prepare(&loaded.config).map_err(Failure::new)?;
    let host = Arc::new(Program { args, data, log, demo, admin: Mutex::new(None) });
    let result = gateway(loaded.config, host.clone());
    // The socket goes before the lock, so that no command talks to a server that has ended.
    *host.admin.lock().unwrap_or_else(PoisonError::into_inner) = None;
    if result.is_ok() {
        tracing::info!(target: "server", "stopped");
    }
    result.map_err(|StartError(error)| told(&error, "the policy has errors; nothing was started"))
}

/// The program around the gateway.
struct Program {
    args: ServeArgs,
    data: PathBuf,
    log: LogGuard,
    demo: Option<Demo>,
    admin: Mutex<Option<AdminServer>>,
}

impl Host for Program {
    fn ready(&self, listeners: &[Listener], handler: Arc<dyn AdminHandler>) -> Result<(), StartError> {
        let server = AdminServer::start(&self.data, handler).map_err(StartError)?;
        *self.admin.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        // For scripts: where every listener is, then that it is ready.
        let mut lines = String::new();
        for Listener { name, address, service, tls } in listeners {
            tracing::info!(target: "server", %address, service = service.word(), tls = tls.word(), "{name} listens");
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{name} {address}");
        }
        tracing::info!(target: "server", "ready");
        let welcome = self.demo.as_ref().map(|demo| demo.welcome(listeners)).unwrap_or_default();
        print(&format!("{lines}ready\n{welcome}")).map_err(|failure| StartError(failure.to_string()))
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
}
