//! rspamd over its own HTTP interface: `POST /checkv2` of a normal, controller or proxy worker, which answers in JSON.
//!
//! One connection a message: rspamd closes it behind its answer. Its encryption (HTTPCrypt) is not spoken; use a socket
//! of this machine or a network you trust. How it fails: another status than 200 is the worker's own refusal
//! ([`Failure::Unable`]), an answer that is too large or no JSON is garbage.

mod answer;
mod body;

use super::failure::Failure;
use super::milter::{client_ip, transaction_id};
use super::{Door, HelperAddress, HelperConfig, Stream};
use crate::base::inquiry::{Advice, Case};
use answer::{advice, message_of};
use body::MessageBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::time::timeout;

/// Octets of an answer at most; rspamd's answers with all symbols are some tens of KiB.
const ANSWER_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets of a password file at most.
const PASSWORD_OCTETS_MAX: usize = 4096;

/// How rspamd is spoken to.
pub(super) struct Rspamd {
    answer_timeout: Duration,
    /// What every request has.
    headers: HeaderMap,
}

impl Rspamd {
    pub(super) fn load(config: &HelperConfig, address: &HelperAddress) -> Result<Rspamd, String> {
        let knobs = &config.knobs;
        let mut headers = HeaderMap::new();
        let host = match address {
            HelperAddress::Unix(_) => "localhost".to_owned(),
            HelperAddress::Inet { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            HelperAddress::Inet { host, port } => format!("{host}:{port}"),
        };
        put(&mut headers, "host", &host);
        put(&mut headers, "user-agent", concat!("Gatepost/", env!("CARGO_PKG_VERSION")));
        if knobs.check_all {
            put(&mut headers, "pass", "all");
        }
        if let Some(id) = &knobs.settings_id {
            put(&mut headers, "settings-id", id);
        }
        if let Some(path) = &knobs.password_file {
            let wrong = |what: String| format!("helper.{}.password_file: {what}", config.name);
            let text =
                std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot read {}: {e}", path.display())))?;
            let line = text.lines().next().unwrap_or_default().trim_end();
            if line.is_empty() || line.len() > PASSWORD_OCTETS_MAX {
                return Err(wrong(format!("the first line of {} is to be the password", path.display())));
            }
            let mut value = HeaderValue::from_str(line)
                .map_err(|_| wrong(format!("the first line of {} has control characters", path.display())))?;
            value.set_sensitive(true);
            headers.insert("password", value);
        }
        Ok(Rspamd { answer_timeout: knobs.answer_timeout, headers })
    }

    pub(super) async fn ask(&self, door: &Door, case: &Case) -> Result<Advice, Failure> {
        let stream = door.connect().await?;
        let exchange = exchange(stream, self.request(case)?);
        let limit = self.answer_timeout;
        let (status, answer) =
            timeout(limit, exchange).await.unwrap_or(Err(Failure::Timeout("answer to /checkv2", limit)))?;
        if status != StatusCode::OK {
            return Err(Failure::Unable(format!("status {}{}", status.as_u16(), message_of(&answer))));
        }
        advice(&answer, case)
    }

    fn request(&self, case: &Case) -> Result<Request<MessageBody>, Failure> {
        let body = case.body.as_ref().ok_or_else(|| Failure::Body("there is none".into()))?;
        let mut request = Request::new(MessageBody::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = hyper::Uri::from_static("/checkv2");
        *request.headers_mut() = self.headers.clone();
        describe(request.headers_mut(), case);
        Ok(request)
    }
}

/// What rspamd is told beside the message.
fn describe(headers: &mut HeaderMap, case: &Case) {
    put(headers, "ip", &client_ip(case).to_string());
    put(headers, "helo", &case.helo);
    if let Some(name) = &case.client_name {
        put(headers, "hostname", name.as_str());
    }
    // The null sender is told as an empty path.
    put(headers, "from", &case.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string));
    for recipient in &case.recipients {
        put(headers, "rcpt", &recipient.to_string());
    }
    if let Some(user) = &case.user {
        put(headers, "user", user);
    }
    if let Some((version, cipher)) = &case.tls {
        put(headers, "tls-version", version);
        put(headers, "tls-cipher", cipher);
    }
    put(headers, "queue-id", &transaction_id(case));
    put(headers, "mta-name", case.host.as_str());
    put(headers, "mta-tag", &case.listener);
}

/// Adds a header; what HTTP cannot carry in one (control characters) is not told.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.append(HeaderName::from_static(name), value);
    }
}

/// One request and its answer; the connection ends with it.
async fn exchange(stream: Box<dyn Stream>, request: Request<MessageBody>) -> Result<(StatusCode, Bytes), Failure> {
    const WHAT: &str = "answer to /checkv2";
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e, WHAT))?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|e| failure(&e, WHAT))?;
        read(answer).await
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        answer = &mut asking => answer,
        // The connection is over; what was received before that is with the other half.
        ended = &mut connection => match asking.await {
            Ok(answer) => Ok(answer),
            Err(first) => Err(ended.err().map_or(first, |e| failure(&e, WHAT))),
        },
    }
}

async fn read(answer: Response<Incoming>) -> Result<(StatusCode, Bytes), Failure> {
    let status = answer.status();
    match Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await {
        Ok(whole) => Ok((status, whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Failure::Garbage(format!("an answer of more than {ANSWER_OCTETS_MAX} octets")))
        }
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(failure(&error, "rest of the answer to /checkv2")),
            Err(error) => Err(Failure::Broken("rest of the answer to /checkv2", error.to_string())),
        },
    }
}

fn failure(error: &hyper::Error, what: &'static str) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.clone(); // the message could not be read
        }
        if cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
            return Failure::Closed(what);
        }
        source = cause.source();
    }
    if error.is_parse() {
        return Failure::Garbage(format!("{error} as {what}"));
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Failure::Closed(what);
    }
    let cause = std::error::Error::source(error).map(|c| format!(": {c}")).unwrap_or_default();
    Failure::Broken(what, format!("{error}{cause}"))
}
