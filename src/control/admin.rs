//! The admin socket: `DATA/admin.sock`, a Unix socket for its owner only, which speaks the API of [`super::api`] in HTTP/1.1:
//!
//! ```text
//! curl --unix-socket gatepost-data/admin.sock http://gatepost/api/v1/status
//! ```
//!
//! [`super::http`] serves it; [`AdminClient`] is the command line's end. How it fails: a socket that cannot be made is the
//! system's error.

mod client;
#[cfg(test)]
mod tests;

pub use super::http::{AdminServer, Setup};
pub use client::{AdminClient, ClientError};

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A file name in a socket address has so many octets (`sun_path` without its NUL).
const SOCKET_PATH_OCTETS_MAX: usize = 107;

/// The socket of a data directory.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Binds under another name first, so that the socket is never there with wider permissions than 0600.
pub(super) fn bind(data: &Path, path: &Path) -> io::Result<(UnixListener, u64)> {
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
pub(super) fn with_short_path<T>(path: &Path, f: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
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
