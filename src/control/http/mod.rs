//! The admin server: one thread with its own small runtime, never a core. It serves the API, the metrics and the dashboard on
//! the Unix socket of the data directory and on the admin listener.
//!
//! | door | who may come | what they may do |
//! | --- | --- | --- |
//! | Unix socket, mode 0600 | the server's user | everything |
//! | HTTP on loopback, without token and client authority | everybody on the machine | read |
//! | HTTPS with a token or a client certificate | who shows it | everything |
//!
//! How it fails: a door that cannot be opened is one sentence; whoever breaks a limit of time, size or number is answered or
//! closed, and nobody else notices; a handler that panics is answered 500.

mod guard;
mod live;
mod page;
mod serve;
mod tls;

use crate::control::admin::{bind, socket_path};
use crate::gateway::admin::{AdminHandler, AdminKnobs};
use crate::gateway::config::Config;
use guard::{Door, Guard, Token};
use serve::State;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};

/// The address without configuration.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2580);
/// Threads on which requests that wait for lanes are answered.
const HANDLERS_MAX: usize = 8;
/// How long what is being answered at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// After a failed accept (out of descriptors) it must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until dropped.
pub struct AdminServer {
    path: PathBuf,
    inode: u64,
    address: Option<SocketAddr>,
    secure: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the listener needs beside the knobs.
pub struct Setup {
    /// `[admin]`
    pub knobs: AdminKnobs,
    /// The name in the greeting: the listener answers to it.
    pub hostname: String,
    /// The server's first certificate and key, for HTTPS without one of its own.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Setup {
    /// From the configuration.
    pub fn new(config: &Config) -> Setup {
        let first = config.certificates.first().map(|c| (c.chain.clone(), c.key.clone()));
        Setup {
            knobs: config.settings.admin.clone(),
            hostname: config.hostname.as_str().to_owned(),
            certificate: first,
        }
    }
}

impl AdminServer {
    /// Opens the doors. The caller holds the lock of `data`, so a socket that is there is a dead one.
    pub fn start(data: &Path, setup: &Setup, handler: Arc<dyn AdminHandler>) -> Result<AdminServer, String> {
        let path = socket_path(data);
        let (unix, inode) =
            bind(data, &path).map_err(|e| format!("cannot listen on the admin socket {}: {e}", path.display()))?;
        let opened = Web::open(data, setup)?;
        let (address, secure) = opened.as_ref().map_or((None, false), |web| (Some(web.address), web.tls.is_some()));
        let guard = Guard::new(setup, opened.as_ref().and_then(|web| web.token.clone()));
        let state = Arc::new(State::new(handler, guard, setup.knobs.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HANDLERS_MAX)
            .thread_name("admin-handler")
            .build()
            .map_err(|e| format!("cannot start the admin thread: {e}"))?;
        unix.set_nonblocking(true).map_err(|e| e.to_string())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                match UnixListener::from_std(unix) {
                    Ok(listener) => drop(tokio::spawn(accept_unix(listener, state.clone()))),
                    Err(error) => tracing::error!(target: "admin", %error, "the admin socket is not served"),
                }
                if let Some(web) = opened {
                    tokio::spawn(web.accept(state.clone()));
                }
                // Whoever holds the other end drops it to stop.
                let _ = stopped.await;
            });
            runtime.shutdown_timeout(LAST_ANSWERS);
        };
        let thread = std::thread::Builder::new().name("admin".into()).spawn(run).map_err(|e| e.to_string())?;
        Ok(AdminServer { path, inode, address, secure, stop: Some(stop), thread: Some(thread) })
    }

    /// The listener's address as it really is; `None` without one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where a browser finds the dashboard.
    pub fn url(&self) -> Option<String> {
        let scheme = if self.secure { "https" } else { "http" };
        self.address.map(|address| format!("{scheme}://{address}/"))
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Only our own socket is removed.
        if fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(target: "admin", "the admin thread panicked");
        }
    }
}

async fn accept_unix(listener: UnixListener, state: Arc<State>) {
    let room = Arc::new(Semaphore::new(state.knobs.connections_max));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Beyond the limit it is closed: a client reads the end of the stream.
                if let Ok(place) = room.clone().try_acquire_owned() {
                    let state = state.clone();
                    tokio::spawn(async move {
                        state.serve(stream, Door::Unix).await;
                        drop(place);
                    });
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The listener for HTTP or HTTPS.
struct Web {
    listener: StdListener,
    address: SocketAddr,
    token: Option<Token>,
    tls: Option<tls::Keys>,
}

impl Web {
    /// `None` when there is to be none, or when the default port is taken.
    fn open(data: &Path, setup: &Setup) -> Result<Option<Web>, String> {
        let knobs = &setup.knobs;
        if !knobs.enabled {
            return Ok(None);
        }
        let token = knobs.token_file.as_deref().map(Token::read).transpose()?;
        let secure = token.is_some() || knobs.client_ca.is_some();
        let wanted = knobs.listen.unwrap_or(DEFAULT_ADDRESS);
        if !secure && !wanted.ip().is_loopback() {
            return Err(format!(
                "admin.listen = \"{wanted}\" is not a loopback address: set admin.token_file or admin.client_ca, then it is HTTPS and \
                 asks who comes"
            ));
        }
        let tls = if secure { Some(tls::Keys::load(data, setup, token.is_none())?) } else { None };
        let listener = match listen(wanted) {
            Ok(listener) => listener,
            Err(error) if knobs.listen.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(target: "admin", address = %wanted, "no dashboard and no metrics: the address is in use; set admin.listen");
                return Ok(None);
            }
            Err(error) => return Err(format!("admin.listen: cannot listen on {wanted}: {error}")),
        };
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        Ok(Some(Web { listener, address, token, tls }))
    }

    async fn accept(self, state: Arc<State>) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(target: "admin", %error, "the admin listener is not served"),
        };
        let room = Arc::new(Semaphore::new(state.knobs.connections_max));
        let tls = self.tls.map(Arc::new);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !state.guard.admits(peer.ip()) {
                continue;
            }
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            // A small answer must not wait for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let (state, tls) = (state.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => state.serve(stream, Door::Plain).await,
                    Some(keys) => {
                        if let Some((stream, certified)) = keys.handshake(stream).await {
                            state.serve(stream, Door::Secure { certified }).await;
                        }
                    }
                }
                drop(place);
            });
        }
    }
}

/// SO_REUSEADDR, so that a restart has its port again at once; not SO_REUSEPORT: two servers must not share it unnoticed.
fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_cloexec(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
