//! One request: who asks, which row of the table, the answer.
//!
//! How it fails: every failure is a status with `{"error": {"code", "message"}}`; a connection that is too slow or breaks the
//! protocol is closed.

use super::guard::{Door, Guard};
use super::live::{self, Viewers};
use super::page::Page;
use crate::control::api::{self, Act, Parts, Problem, Route};
use crate::control::metrics;
use crate::gateway::admin::{AdminHandler, AdminKnobs, Request as Order, Response as Answer, Status};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// Octets of a body at most.
const BODY_OCTETS_MAX: usize = 1 << 20;
/// How long a head or a body may take; also how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long somebody with a wrong token waits: guessing takes time.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(500);
/// What was measured is shown again for so long, however many ask.
const FRESH: Duration = Duration::from_millis(900);

/// Bodies, whole or streamed.
pub type Body = BoxBody<Bytes, Infallible>;

/// What all connections share.
pub struct State {
    pub handler: Arc<dyn AdminHandler>,
    pub guard: Guard,
    pub knobs: AdminKnobs,
    pub viewers: Viewers,
    page: Page,
    measured: Mutex<Option<(Instant, Arc<str>)>>,
}

impl State {
    pub fn new(handler: Arc<dyn AdminHandler>, guard: Guard, knobs: AdminKnobs) -> State {
        let viewers = Viewers::new(knobs.viewers_max);
        State { handler, guard, knobs, viewers, page: Page::new(), measured: Mutex::default() }
    }

    /// Serves a connection until it ends.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self: Arc<State>, stream: S, door: Door) {
        let service = service_fn(move |request: Request<Incoming>| {
            let state = self.clone();
            async move {
                let mut response = state.answer(request, door).await.unwrap_or_else(|problem| refusal(&problem));
                protect(&mut response);
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(64 * 1024).half_close(true);
        // A connection that breaks is its own affair.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self: &Arc<State>, request: Request<Incoming>, door: Door) -> Result<Response<Body>, Problem> {
        if let Err(problem) = self.guard.check(door, request.headers()) {
            if problem.status == 401 {
                tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
            }
            return Err(problem);
        }
        let path = request.uri().path().to_owned();
        let (route, id) = match api::find(request.method().as_str(), &path) {
            Ok(found) => found,
            Err(allowed) if allowed.is_empty() => {
                let message = format!("{path} leads nowhere; /api/v1/openapi.json says what there is");
                return Err(Problem { status: 404, code: "not-found", message });
            }
            Err(allowed) => return Ok(not_allowed(&allowed)),
        };
        if route.method == "POST" {
            self.guard.check_post(door, request.headers(), route.changes)?;
        }
        let query = api::parse(request.uri().query().unwrap_or_default());
        let accepts = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let body = if route.method == "POST" { read_body(request).await? } else { Value::Null };
        self.act(route, Parts { id, query, body }, &accepts).await
    }

    async fn act(self: &Arc<State>, route: &Route, parts: Parts, accepts: &str) -> Result<Response<Body>, Problem> {
        match route.act {
            Act::Request(make) => {
                let order = make(&parts)?;
                let handler = self.handler.clone();
                let answer = blocking(move || handler.call(order)).await?;
                let (status, body) = api::body(&answer);
                Ok(json_response(status, &body))
            }
            Act::Overview => Ok(whole("application/json", self.overview().await?.to_string())),
            Act::Live => live::stream(self, &parts),
            Act::Metrics => {
                let state = self.clone();
                let openmetrics =
                    accepts.is_empty() || accepts.contains("openmetrics") || !accepts.contains("text/plain");
                let text = blocking(move || {
                    let mut families = state.handler.measures();
                    families.push(state.viewers.family());
                    if openmetrics { metrics::openmetrics(families) } else { metrics::classic(families) }
                });
                Ok(whole(if openmetrics { metrics::OPENMETRICS } else { metrics::TEXT }, text.await?))
            }
            Act::OpenApi => Ok(whole("application/json", api::OPENAPI.to_owned())),
            Act::Dashboard => {
                let mut response = whole("text/html; charset=utf-8", self.page.html.clone());
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, self.page.policy.clone());
                Ok(response)
            }
        }
    }

    /// Everything in numbers; measured once for all who ask within a moment.
    pub async fn overview(self: &Arc<State>) -> Result<Arc<str>, Problem> {
        let fresh = |measured: &Option<(Instant, Arc<str>)>| {
            measured.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, text)| text.clone())
        };
        if let Some(text) = fresh(&self.measured.lock()) {
            return Ok(text);
        }
        let state = self.clone();
        blocking(move || {
            let mut measured = state.measured.lock();
            // Somebody else has measured while this one waited.
            if let Some(text) = fresh(&measured) {
                return text;
            }
            let status = match state.handler.call(Order::Status {}) {
                Answer::Status(status) => status,
                _ => Status::default(),
            };
            let families = state.handler.measures();
            let value = metrics::overview(now_ms(), &status, &families, &state.handler.recent());
            let text: Arc<str> = value.to_string().into();
            *measured = Some((Instant::now(), text.clone()));
            text
        })
        .await
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs what may wait for lanes beside the server's thread. A panic takes its request down, not the server.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let caught = tokio::task::spawn_blocking(|| std::panic::catch_unwind(AssertUnwindSafe(work))).await;
    match caught {
        Ok(Ok(done)) => Ok(done),
        _ => {
            let message = "the request failed inside the server; its log says why";
            Err(Problem { status: 500, code: "internal", message: message.into() })
        }
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Value, Problem> {
    let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), BODY_OCTETS_MAX).collect()).await;
    let octets = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let message = format!("a body has at most {BODY_OCTETS_MAX} octets, and must be whole");
            return Err(Problem { status: 413, code: "invalid", message });
        }
        Err(_) => return Err(Problem { status: 408, code: "invalid", message: "the body took too long".into() }),
    };
    if octets.is_empty() {
        return Ok(json!({}));
    }
    let value: Value =
        serde_json::from_slice(&octets).map_err(|e| Problem::invalid(format!("expected a JSON object: {e}")))?;
    if !value.is_object() {
        return Err(Problem::invalid("expected a JSON object"));
    }
    Ok(value)
}

/// A body in one piece.
pub fn whole(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json_response(status: u16, value: &Value) -> Response<Body> {
    let mut response = whole("application/json", value.to_string());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn not_allowed(allowed: &[&'static str]) -> Response<Body> {
    let message = format!("expected {}", allowed.join(" or "));
    let mut response = json_response(405, &json!({ "error": { "code": "invalid", "message": message } }));
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

fn refusal(problem: &Problem) -> Response<Body> {
    let error = json!({ "error": { "code": problem.code, "message": problem.message } });
    let mut response = json_response(problem.status, &error);
    let headers = response.headers_mut();
    match problem.status {
        401 => {
            drop(headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"gatepost: the token is the password\""),
            ))
        }
        503 => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
        _ => {}
    }
    response
}

/// What every answer says to browsers: do not guess types, do not show it in frames, give it to nobody else, keep nothing.
fn protect(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    let fixed = |text| HeaderValue::from_static(text);
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(fixed("default-src 'none'; frame-ancestors 'none'"));
}
