//! The command line's end of the admin socket.
//!
//! How it fails: [`ClientError`] says whether a server is there at all, so that commands can go to the directory of a
//! stopped one instead.

use super::{socket_path, with_short_path};
use crate::control::api;
use crate::gateway::admin::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

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
            ClientError::Io { path, error } if error.kind() == ErrorKind::TimedOut => {
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
pub struct AdminClient {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    path: PathBuf,
    patience: Duration,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AdminClient {
    /// Connects to the server of a data directory; `None` when none runs (no socket, or nobody behind it).
    pub fn connect(data: &Path) -> Result<Option<AdminClient>, ClientError> {
        let path = socket_path(data);
        let fail = |error| ClientError::Io { path: path.clone(), error };
        let stream = match with_short_path(&path, |short| UnixStream::connect(short)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        stream.set_nonblocking(true).map_err(fail)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let sender = runtime.block_on(async {
            let stream = tokio::net::UnixStream::from_std(stream).map_err(fail)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| ClientError::Closed)?;
            // It ends with the conversation; what went wrong is told by the call that it went wrong in.
            tokio::spawn(async move { drop(connection.await) });
            Ok(sender)
        })?;
        Ok(Some(AdminClient { runtime, sender, path, patience: PATIENCE }))
    }

    /// For what takes as long as there is mail.
    pub fn patient(&mut self) -> &mut AdminClient {
        self.patience = LONG_PATIENCE;
        self
    }

    /// Asks and waits for the answer.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        let (method, path, body) = api::call(request);
        let (status, body) = self.ask(method, &path, &body)?;
        api::response(request, status, body).map_err(ClientError::Garbled)
    }

    /// What stands at a path of the API.
    pub fn read(&mut self, path: &str) -> Result<Value, ClientError> {
        match self.ask("GET", path, &Value::Null)? {
            (200, value) => Ok(value),
            (status, value) => {
                let said = value.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
                Err(ClientError::Garbled(format!("status {status}: {said}")))
            }
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), ClientError> {
        let late = || ClientError::Io { path: self.path.clone(), error: ErrorKind::TimedOut.into() };
        let (sender, patience) = (&mut self.sender, self.patience);
        self.runtime.block_on(async {
            let asked = tokio::time::timeout(patience, async {
                let response = send(sender, method, path, body).await?;
                let status = response.status().as_u16();
                let body = Limited::new(response.into_body(), RESPONSE_OCTETS_MAX).collect().await;
                let octets = body.map_err(|_| ClientError::Closed)?.to_bytes();
                let value = serde_json::from_slice(&octets).map_err(|e| ClientError::Garbled(e.to_string()))?;
                Ok((status, value))
            });
            asked.await.unwrap_or_else(|_| Err(late()))
        })
    }

    /// Follows the events of a stream (name and data) until `each` says to stop, or the server ends it.
    pub fn follow(&mut self, path: &str, mut each: impl FnMut(&str, &str) -> bool) -> Result<(), ClientError> {
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            let response = send(sender, "GET", path, &Value::Null).await?;
            let status = response.status().as_u16();
            let mut body = response.into_body();
            if status != 200 {
                let octets = body.collect().await.map_err(|_| ClientError::Closed)?.to_bytes();
                let value: Value = serde_json::from_slice(&octets).unwrap_or_default();
                let said = value.pointer("/error/message").and_then(Value::as_str).unwrap_or("it gives no reason");
                return Err(ClientError::Garbled(format!("status {status}: {said}")));
            }
            let mut events = Events::default();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return Ok(()) };
                if let Some(octets) = frame.data_ref()
                    && !events.take(octets, &mut each)?
                {
                    return Ok(());
                }
            }
            Ok(())
        })
    }
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<hyper::Response<Incoming>, ClientError> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "gatepost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| ClientError::Garbled(e.to_string()))?;
    sender.send_request(request).await.map_err(|_| ClientError::Closed)
}

/// Events out of a stream, whatever its pieces.
#[derive(Default)]
struct Events {
    waiting: Vec<u8>,
    name: String,
    data: String,
}

impl Events {
    /// Takes a piece; false when `each` wants no more.
    fn take(&mut self, octets: &[u8], each: &mut impl FnMut(&str, &str) -> bool) -> Result<bool, ClientError> {
        self.waiting.extend_from_slice(octets);
        if self.waiting.len() > RESPONSE_OCTETS_MAX {
            return Err(ClientError::Garbled("an event does not end".into()));
        }
        let mut begin = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.waiting[begin..]) {
            let line = String::from_utf8_lossy(&self.waiting[begin..begin + length]).into_owned();
            begin += length + 1;
            let field = |name: &str| line.strip_prefix(name).map(|rest| rest.trim_start().to_owned());
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                if !name.is_empty() && !each(&name, &data) {
                    return Ok(false);
                }
            } else if let Some(name) = field("event:") {
                self.name = name;
            } else if let Some(data) = field("data:") {
                self.data.push_str(&data);
            }
        }
        self.waiting.drain(..begin);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_at_any_cut() {
        let text = b":\n\nretry: 3000\n\nevent: a\ndata: {\"x\":1}\n\nevent: b\ndata: 2\n\n";
        for step in 1..text.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for piece in text.chunks(step) {
                events
                    .take(piece, &mut |name, data| {
                        seen.push(format!("{name} {data}"));
                        true
                    })
                    .unwrap();
            }
            assert_eq!(seen, ["a {\"x\":1}", "b 2"], "step {step}");
        }
        let mut events = Events::default();
        assert!(!events.take(text, &mut |_, _| false).unwrap());
    }
}
