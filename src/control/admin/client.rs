//! The command line's end of the admin socket.
//!
//! How it fails: [`ClientError`] says whether a server is there at all, so that commands can go to the directory of a
//! stopped one instead.

use super::line::{LineError, LineReader};
use super::{decode, encode, socket_path, with_short_path};
use crate::gateway::admin::{Request, Response};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long moving all of somebody's mail may take.
const LONG_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Octets of an answer: a page of the queue.
const RESPONSE_OCTETS_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The socket is there, but we may not use it, or the conversation broke.
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The server ended the conversation.
    Closed,
    /// What came is not ours.
    Garbled(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Io { path, error } if error.kind() == ErrorKind::WouldBlock => {
                write!(f, "the server behind {} does not answer", path.display())
            }
            ClientError::Io { path, error } if error.kind() == ErrorKind::PermissionDenied => {
                write!(f, "cannot use {}: {error}; run the command as the user the server runs as", path.display())
            }
            ClientError::Io { path, error } => write!(f, "cannot talk to the server at {}: {error}", path.display()),
            ClientError::Closed => f.write_str("the server ended the conversation without an answer"),
            ClientError::Garbled(what) => write!(f, "the server's answer cannot be read: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A conversation with a running server.
#[derive(Debug)]
pub struct AdminClient {
    stream: UnixStream,
    path: PathBuf,
}

impl AdminClient {
    /// Connects to the server of a data directory; `None` when none runs (no socket, or nobody behind it).
    pub fn connect(data: &Path) -> Result<Option<AdminClient>, ClientError> {
        let path = socket_path(data);
        let connected = with_short_path(&path, |short| UnixStream::connect(short)).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Some(AdminClient { stream, path })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(ClientError::Io { path, error }),
        }
    }

    /// For what takes as long as there is mail.
    pub fn patient(&mut self) -> &mut AdminClient {
        // A socket that cannot be told waits as before.
        let _ = self.stream.set_read_timeout(Some(LONG_PATIENCE));
        self
    }

    /// Asks and waits for the answer.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        let fail = |error| ClientError::Io { path: self.path.clone(), error };
        { &self.stream }.write_all(&encode(request)).map_err(fail)?;
        let mut lines = LineReader::new(&self.stream, RESPONSE_OCTETS_MAX);
        match lines.next() {
            Ok(Some(line)) => decode(line).map_err(ClientError::Garbled),
            Ok(None) => Err(ClientError::Closed),
            Err(LineError::TooLong) => Err(ClientError::Garbled("it does not end".into())),
            Err(LineError::Io(error)) => Err(fail(error)),
        }
    }
}
