//! The admin socket: `DATA/admin.sock`, a Unix socket for its owner only. One JSON object per line each way:
//!
//! ```text
//! → {"v":1,"op":"queue-retry","which":{"ids":["0ABC…"]}}
//! ← {"v":1,"answer":"changed","count":1,"unknown":[]}
//! ```
//!
//! The server part is one accepting thread and at most [`CONNECTIONS_MAX`] threads that serve a connection each, with
//! time limits, so that no client can hold anything up but itself. How it fails: a request that cannot be read is
//! answered with `failed`; a connection that breaks a limit is closed; [`AdminServer::start`] fails when the socket
//! cannot be made.

mod client;
mod line;
#[cfg(test)]
mod tests;

pub use client::{AdminClient, ClientError};

use crate::gateway::admin::{AdminHandler, Request, Response};
use line::{LineError, LineReader};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Version of the protocol: what both sides must say.
pub const VERSION: u32 = 1;
/// Connections that are served at the same time.
const CONNECTIONS_MAX: usize = 8;
/// How long a connection may be silent, and a write may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Octets of a request line.
const REQUEST_OCTETS_MAX: usize = 1 << 20;
/// A file name in a socket address has so many octets (`sun_path` without its NUL).
const SOCKET_PATH_OCTETS_MAX: usize = 107;

/// A line of either side: the version and the value.
#[derive(Debug, Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    value: T,
}

/// The socket of a data directory.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Serves requests until dropped.
pub struct AdminServer {
    path: PathBuf,
    inode: u64,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Listens on `DATA/admin.sock`. The caller holds the directory's lock, so a socket that is there is a dead one.
    pub fn start(data: &Path, handler: Arc<dyn AdminHandler>) -> Result<AdminServer, String> {
        let path = socket_path(data);
        let fail = |error: io::Error| format!("cannot listen on the admin socket {}: {error}", path.display());
        let (listener, inode) = bind(data, &path).map_err(fail)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let run = move || accept(&listener, &handler, &stop);
        let thread = std::thread::Builder::new().name("admin".into()).spawn(run).map_err(fail)?;
        Ok(AdminServer { path, inode, stopping, thread: Some(thread) })
    }
}

/// Binds under another name first, so that the socket is never there with wider permissions than 0600.
fn bind(data: &Path, path: &Path) -> io::Result<(UnixListener, u64)> {
    let temporary = data.join("admin.sock.new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(&temporary, |short| UnixListener::bind(short))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    let inode = fs::metadata(&temporary)?.ino();
    fs::rename(&temporary, path)?;
    Ok((listener, inode))
}

/// Calls `f` with a name of the socket that fits into a socket address: through an open directory when it is long.
fn with_short_path<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= SOCKET_PATH_OCTETS_MAX {
        return f(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = fs::File::open(dir)?;
    f(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

fn accept(listener: &UnixListener, handler: &Arc<dyn AdminHandler>, stopping: &Arc<AtomicBool>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            // Out of descriptors or interrupted; it must not spin.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            refuse(stream);
            continue;
        }
        let (handler, served) = (handler.clone(), open.clone());
        let serve = move || {
            // A connection that breaks is its own affair.
            let _ = serve(&stream, handler.as_ref());
            served.fetch_sub(1, Ordering::SeqCst);
        };
        if std::thread::Builder::new().name("admin-client".into()).spawn(serve).is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn refuse(mut stream: UnixStream) {
    let busy = Response::failed("busy", format!("{CONNECTIONS_MAX} admin connections are open already"));
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let _ = stream.write_all(&encode(&busy));
}

fn serve(stream: &UnixStream, handler: &dyn AdminHandler) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = LineReader::new(stream, REQUEST_OCTETS_MAX);
    loop {
        let response = match lines.next() {
            Ok(Some(line)) => answer(line, handler),
            Ok(None) => return Ok(()),
            Err(LineError::TooLong) => {
                let message = format!("a request has at most {REQUEST_OCTETS_MAX} octets");
                let _ = { stream }.write_all(&encode(&Response::failed("invalid", message)));
                return Ok(());
            }
            Err(LineError::Io(error)) => return Err(error),
        };
        { stream }.write_all(&encode(&response))?;
    }
}

/// A handler that panics takes its request down, not the server.
fn answer(line: &[u8], handler: &dyn AdminHandler) -> Response {
    let request = match decode::<Request>(line) {
        Ok(request) => request,
        Err(message) => return Response::failed("invalid", message),
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler.call(request)))
        .unwrap_or_else(|_| Response::failed("internal", "the request failed inside the server; its log says why"))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // These values have string keys only, so they always have a text.
    let mut line = serde_json::to_vec(&Versioned { v: VERSION, value }).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a line; the version is looked at first, so that another version gets a sentence and no grammar error.
fn decode<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, String> {
    let mut value: serde_json::Value =
        serde_json::from_slice(line).map_err(|e| format!("expected a JSON object: {e}"))?;
    let object = value.as_object_mut().ok_or("expected a JSON object")?;
    match object.remove("v") {
        Some(v) if v == VERSION => {}
        Some(v) => return Err(format!("version {v} is not spoken here, only {VERSION}")),
        None => return Err(format!("the version is missing: \"v\":{VERSION}")),
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The accepting thread waits for a connection: here is one.
        let woken = with_short_path(&self.path, |short| UnixStream::connect(short)).is_ok();
        // Only our own socket is removed.
        if fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
        if woken && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
