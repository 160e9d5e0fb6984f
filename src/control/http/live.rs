//! Live parts as server-sent events: the overview once a second, decisions as they are made.
//!
//! A viewer has a small queue; one that does not read for a while is let go. How it fails: too many viewers are told to come
//! again (503); decisions that come faster than they can be sent are counted in an event `missed`.

use super::serve::{Body, State};
use crate::control::api::{Parts, Problem};
use crate::gateway::admin::DecisionFilter;
use crate::gateway::metrics::view::Family;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Decisions are looked for this often.
const STEP: Duration = Duration::from_millis(250);
/// The overview is sent after so many steps.
const OVERVIEW_STEPS: u64 = 4;
/// After so many steps without an event a comment is sent, so that dead connections are noticed.
const SIGN_OF_LIFE_STEPS: u64 = 20;
/// Decisions sent in one step at most.
const DECISIONS_PER_STEP_MAX: usize = 500;
/// Events that wait for a viewer.
const WAITING_MAX: usize = 8;
/// A viewer that takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(15);
/// Earlier decisions that can be asked for.
const HISTORY_MAX: usize = 1000;

/// Those who look on.
pub struct Viewers {
    now: Arc<AtomicUsize>,
    max: usize,
}

/// The place of one of them.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Viewers {
    pub fn new(max: usize) -> Viewers {
        Viewers { now: Arc::default(), max }
    }

    fn seat(&self) -> Result<Seat, Problem> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.now.clone());
        if before < self.max {
            return Ok(seat);
        }
        let message = format!("{} viewers look on already (admin.viewers_max)", self.max);
        Err(Problem { status: 503, code: "busy", message })
    }

    /// For the metrics.
    pub fn family(&self) -> Family {
        Family::gauge("gatepost_admin_viewers", "Viewers of live streams.")
            .number(&[], self.now.load(Ordering::Relaxed) as f64)
    }
}

/// The stream that `parts` asks for.
pub fn stream(state: &Arc<State>, parts: &Parts) -> Result<Response<Body>, Problem> {
    let filter = parts.filter(&["overview", "history"])?;
    let overview = parts.flag("overview")?;
    let history = match parts.query.iter().find(|(key, _)| key == "history") {
        None => 0,
        Some((_, n)) => n.parse().map_err(|_| Problem::invalid(format!("history={n}: expected a whole number")))?,
    };
    let seat = state.viewers.seat()?;
    let (tell, told) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(state.clone(), filter, overview, history, tell, seat));
    let mut response = Response::new(Events(told).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// Sends events until the viewer has gone.
async fn feed(
    state: Arc<State>,
    filter: DecisionFilter,
    overview: bool,
    history: usize,
    tell: mpsc::Sender<Bytes>,
    _seat: Seat,
) {
    let recent = state.handler.recent();
    // Decisions that let pass are kept only while somebody wants them.
    let _follower = (!filter.is_about_refusals()).then(|| recent.follow());
    let mut last = recent.newest();
    let mut text = String::from("retry: 3000\n\n");
    let mut earlier = recent.latest(history.min(HISTORY_MAX), |d| filter.admits(d));
    earlier.reverse();
    earlier.iter().for_each(|d| event(&mut text, "decision", &serde_json::to_string(&**d).unwrap_or_default()));
    let (mut step, mut silent, mut missed) = (0u64, 0u64, recent.missed());
    loop {
        let (found, next) = recent.since(last, DECISIONS_PER_STEP_MAX, |d| filter.admits(d));
        last = next;
        found.iter().for_each(|d| event(&mut text, "decision", &serde_json::to_string(&**d).unwrap_or_default()));
        let missed_now = recent.missed();
        if missed_now > missed {
            event(&mut text, "missed", &(missed_now - missed).to_string());
            missed = missed_now;
        }
        if overview && step.is_multiple_of(OVERVIEW_STEPS) {
            match state.overview().await {
                Ok(numbers) => event(&mut text, "overview", &numbers),
                Err(problem) => event(&mut text, "problem", &problem.message),
            }
        }
        silent += 1;
        if text.is_empty() && silent >= SIGN_OF_LIFE_STEPS {
            text.push_str(":\n\n");
        }
        if !text.is_empty() {
            silent = 0;
            let sent = tell.send_timeout(Bytes::from(std::mem::take(&mut text)), PATIENCE).await;
            if sent.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            () = tell.closed() => return,
        }
        step += 1;
    }
}

/// An event; the data is one line, as JSON always is.
fn event(text: &mut String, name: &str, data: &str) {
    text.push_str("event: ");
    text.push_str(name);
    text.push_str("\ndata: ");
    text.push_str(&data.replace(['\r', '\n'], " "));
    text.push_str("\n\n");
}

/// The body of a stream.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
