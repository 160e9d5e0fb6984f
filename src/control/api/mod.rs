//! The admin API: which request is which path, both ways. The server's side turns a path into a request for the gateway, the
//! command line turns a request into a path; `openapi.json` says the same for everybody else, and a test compares them.
//!
//! How it fails: a path, a parameter or a body that is not understood is a [`Problem`] that says what was expected.

mod query;
#[cfg(test)]
mod tests;

pub use query::{decode, encode, pairs, parse};

use crate::gateway::admin::{
    DecisionFilter, ExplainCase, MailboxTransfer, QueueFilter, QueueState, Request, Response, Selection,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The description of the API (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
/// Entries of a page when nobody says how many.
const PAGE: u32 = 100;

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of HTTP.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Problem {
    /// What was sent cannot be used.
    pub fn invalid(message: impl Into<String>) -> Problem {
        Problem { status: 400, code: "invalid", message: message.into() }
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A request for the gateway.
    Request(fn(&Parts) -> Result<Request, Problem>),
    /// Everything in numbers, as the dashboard shows it.
    Overview,
    /// The same as a stream, with decisions as they are made.
    Live,
    /// For Prometheus.
    Metrics,
    /// The description of the API.
    OpenApi,
    /// The page.
    Dashboard,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path; `{id}` stands for any one part.
    pub path: &'static str,
    /// Its name in the description.
    pub operation: &'static str,
    /// Whether it changes anything.
    pub changes: bool,
    /// What it leads to.
    pub act: Act,
}

/// What a call says beside its path.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What stood for `{id}`.
    pub id: String,
    /// Parameters behind `?`.
    pub query: Vec<(String, String)>,
    /// The body; null without one.
    pub body: Value,
}

const fn read(path: &'static str, operation: &'static str, act: Act) -> Route {
    Route { method: "GET", path, operation, changes: false, act }
}

const fn order(path: &'static str, operation: &'static str, act: fn(&Parts) -> Result<Request, Problem>) -> Route {
    Route { method: "POST", path, operation, changes: true, act: Act::Request(act) }
}

/// Every path. A new one is one row, a branch of [`call`], and its part of the description.
pub const ROUTES: &[Route] = &[
    read("/", "dashboard", Act::Dashboard),
    read("/metrics", "metrics", Act::Metrics),
    read("/api/v1/openapi.json", "openapi", Act::OpenApi),
    read("/api/v1/overview", "overview", Act::Overview),
    read("/api/v1/live", "live", Act::Live),
    read("/api/v1/status", "status", Act::Request(|_| Ok(Request::Status {}))),
    order("/api/v1/reload", "reload", |_| Ok(Request::Reload {})),
    order("/api/v1/drain", "drain", |_| Ok(Request::Drain {})),
    order("/api/v1/upgrade", "upgrade", |_| Ok(Request::Upgrade {})),
    read("/api/v1/decisions", "decisions", Act::Request(decisions)),
    read("/api/v1/sessions", "sessions", Act::Request(|p| Ok(Request::Sessions { limit: p.number("limit", PAGE)? }))),
    read(
        "/api/v1/sessions/{id}",
        "session",
        Act::Request(|p| Ok(Request::Session { id: p.id.clone(), trace: p.flag("trace")? })),
    ),
    read("/api/v1/policy", "policy", Act::Request(|_| Ok(Request::Policy {}))),
    Route {
        method: "POST",
        path: "/api/v1/policy/explain",
        operation: "explain",
        changes: false,
        act: Act::Request(|p| Ok(Request::Explain(p.whole::<ExplainCase>()?))),
    },
    read("/api/v1/policy/shadow", "shadowStatus", Act::Request(|_| Ok(Request::ShadowStatus {}))),
    order("/api/v1/policy/shadow", "shadowStart", |p| Ok(Request::ShadowStart { file: p.field("file")? })),
    order("/api/v1/policy/shadow/stop", "shadowStop", |_| Ok(Request::ShadowStop {})),
    read("/api/v1/queue", "queueList", Act::Request(queue_list)),
    read("/api/v1/queue/survey", "queueSurvey", Act::Request(|_| Ok(Request::QueueSurvey {}))),
    read("/api/v1/queue/{id}", "queueShow", Act::Request(|p| Ok(Request::QueueShow { id: p.id.clone() }))),
    order("/api/v1/queue/retry", "queueRetry", |p| Ok(Request::QueueRetry { which: p.selection()? })),
    order("/api/v1/queue/hold", "queueHold", |p| {
        let reason = p.field::<Option<String>>("reason")?.unwrap_or_else(|| "held by the administrator".into());
        Ok(Request::QueueHold { which: p.selection()?, reason })
    }),
    order("/api/v1/queue/release", "queueRelease", |p| Ok(Request::QueueRelease { which: p.selection()? })),
    order("/api/v1/queue/remove", "queueRemove", |p| Ok(Request::QueueRemove { which: p.selection()? })),
    read("/api/v1/mailboxes", "mailboxList", Act::Request(|p| Ok(Request::MailboxList { accounts: p.all("account") }))),
    order("/api/v1/mailboxes/backup", "mailboxBackup", |p| {
        Ok(Request::MailboxBackup { directory: p.field("directory")? })
    }),
    order("/api/v1/mailboxes/export", "mailboxExport", |p| Ok(Request::MailboxExport(p.whole::<MailboxTransfer>()?))),
    order("/api/v1/mailboxes/import", "mailboxImport", |p| Ok(Request::MailboxImport(p.whole::<MailboxTransfer>()?))),
    order("/api/v1/mailboxes/purge", "mailboxPurge", |p| Ok(Request::MailboxPurge { account: p.field("account")? })),
    read("/api/v1/aliases", "aliasList", Act::Request(|_| Ok(Request::AliasList {}))),
    order("/api/v1/aliases", "aliasAdd", |p| {
        let list = p.field::<Option<bool>>("list")?.unwrap_or_default();
        Ok(Request::AliasAdd { from: p.field("from")?, to: p.field("to")?, list })
    }),
    order("/api/v1/aliases/remove", "aliasRemove", |p| {
        let members = p.field::<Option<Vec<String>>>("members")?.unwrap_or_default();
        Ok(Request::AliasRemove { from: p.field("from")?, members })
    }),
];

impl Parts {
    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn number(&self, name: &str, default: u32) -> Result<u32, Problem> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| Problem::invalid(format!("{name}={text}: expected a whole number")))
    }

    /// A parameter that is true or false; true when it stands there without a value.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(text) => Err(Problem::invalid(format!("{name}={text}: expected true or false"))),
        }
    }

    fn field<T: DeserializeOwned>(&self, name: &str) -> Result<T, Problem> {
        let value = self.body.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| Problem::invalid(format!("the body's {name:?}: {e}")))
    }

    fn whole<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_value(self.body.clone()).map_err(|e| Problem::invalid(format!("the body: {e}")))
    }

    fn selection(&self) -> Result<Selection, Problem> {
        if self.body.get("which").is_none() {
            let expected =
                r#"expected {"which": "all"}, {"which": {"destination": "pool:main"}} or {"which": {"ids": [...]}}"#;
            return Err(Problem::invalid(format!("the body has no \"which\": {expected}")));
        }
        self.field("which")
    }

    /// The filter of decisions that the parameters make; those of the names in `beside` are something else.
    pub fn filter(&self, beside: &[&str]) -> Result<DecisionFilter, Problem> {
        let mut fields = serde_json::Map::new();
        for (key, value) in self.query.iter().filter(|(key, _)| !beside.contains(&key.as_str())) {
            fields.insert(key.clone(), value.as_str().into());
        }
        serde_json::from_value(Value::Object(fields)).map_err(|e| Problem::invalid(format!("the parameters: {e}")))
    }
}

fn decisions(parts: &Parts) -> Result<Request, Problem> {
    Ok(Request::Decisions { filter: parts.filter(&["limit"])?, limit: parts.number("limit", PAGE)? })
}

fn queue_list(parts: &Parts) -> Result<Request, Problem> {
    let text = |name: &str| parts.get(name).map(str::to_owned);
    let state: Option<QueueState> = match parts.get("state") {
        None => None,
        Some(word) => Some(
            serde_json::from_value(word.into())
                .map_err(|_| Problem::invalid(format!("state={word}: expected waiting, active or held")))?,
        ),
    };
    let filter =
        QueueFilter { destination: text("destination"), sender: text("sender"), recipient: text("recipient"), state };
    Ok(Request::QueueList { filter, after: text("after"), limit: parts.number("limit", PAGE)? })
}

/// The row for a path, and what stood for `{id}`; otherwise which methods the path has, if any.
pub fn find(method: &str, path: &str) -> Result<(&'static Route, String), Vec<&'static str>> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(id) = fits(route.path, path) else { continue };
        if route.method == method {
            return Ok((route, id));
        }
        allowed.push(route.method);
    }
    Err(allowed)
}

fn fits(pattern: &str, path: &str) -> Option<String> {
    match pattern.split_once("{id}") {
        None => (pattern == path).then(String::new),
        Some((before, after)) => {
            let id = path.strip_prefix(before)?.strip_suffix(after)?;
            (!id.is_empty() && !id.contains('/')).then(|| decode(id))
        }
    }
}

/// A request as a call: method, path with parameters, body.
pub fn call(request: &Request) -> (&'static str, String, Value) {
    let get = |path: String| ("GET", path, Value::Null);
    let post = |path: &str, body: Value| ("POST", format!("/api/v1/{path}"), body);
    let v1 = |path: &str| format!("/api/v1/{path}");
    match request {
        Request::Status {} => get(v1("status")),
        Request::Reload {} => post("reload", json!({})),
        Request::Drain {} => post("drain", json!({})),
        Request::Upgrade {} => post("upgrade", json!({})),
        Request::Policy {} => get(v1("policy")),
        Request::Explain(case) => post("policy/explain", json!(case)),
        Request::Decisions { filter, limit } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(filter_pairs(filter));
            get(v1("decisions") + &pairs(&query))
        }
        Request::Sessions { limit } => get(v1("sessions") + &pairs(&[("limit", limit.to_string())])),
        Request::Session { id, trace } => get(v1("sessions/") + &encode(id) + &pairs(&[("trace", trace.to_string())])),
        Request::QueueList { filter, after, limit } => {
            let state = filter.state.map(|state| state.word().to_owned());
            let given = [
                ("destination", &filter.destination),
                ("sender", &filter.sender),
                ("recipient", &filter.recipient),
                ("state", &state),
                ("after", after),
            ];
            let mut query = vec![("limit", limit.to_string())];
            query.extend(given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
            get(v1("queue") + &pairs(&query))
        }
        Request::QueueSurvey {} => get(v1("queue/survey")),
        Request::QueueShow { id } => get(v1("queue/") + &encode(id)),
        Request::QueueRetry { which } => post("queue/retry", json!({ "which": which })),
        Request::QueueHold { which, reason } => post("queue/hold", json!({ "which": which, "reason": reason })),
        Request::QueueRelease { which } => post("queue/release", json!({ "which": which })),
        Request::QueueRemove { which } => post("queue/remove", json!({ "which": which })),
        Request::MailboxList { accounts } => {
            let query: Vec<_> = accounts.iter().map(|name| ("account", name.clone())).collect();
            get(v1("mailboxes") + &pairs(&query))
        }
        Request::MailboxBackup { directory } => post("mailboxes/backup", json!({ "directory": directory })),
        Request::MailboxExport(transfer) => post("mailboxes/export", json!(transfer)),
        Request::MailboxImport(transfer) => post("mailboxes/import", json!(transfer)),
        Request::MailboxPurge { account } => post("mailboxes/purge", json!({ "account": account })),
        Request::ShadowStatus {} => get(v1("policy/shadow")),
        Request::ShadowStart { file } => post("policy/shadow", json!({ "file": file })),
        Request::ShadowStop {} => post("policy/shadow/stop", json!({})),
        Request::AliasList {} => get(v1("aliases")),
        Request::AliasAdd { from, to, list } => post("aliases", json!({ "from": from, "to": to, "list": list })),
        Request::AliasRemove { from, members } => post("aliases/remove", json!({ "from": from, "members": members })),
    }
}

/// The parameters that a filter is.
pub fn filter_pairs(filter: &DecisionFilter) -> Vec<(&'static str, String)> {
    let all = [
        ("reason", &filter.reason),
        ("rule", &filter.rule),
        ("rcpt", &filter.rcpt),
        ("sender", &filter.sender),
        ("client", &filter.client),
        ("verdict", &filter.verdict),
        ("stage", &filter.stage),
        ("session", &filter.session),
        ("q", &filter.q),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key, value.clone())).collect()
}

/// An answer as status and body. The body is the answer's own value; which kind it is follows from the path.
pub fn body(response: &Response) -> (u16, Value) {
    if let Response::Failed { code, message } = response {
        let status = match code.as_str() {
            "not-found" | "no-mailboxes" => 404,
            "invalid" => 400,
            "busy" => 503,
            _ => 500,
        };
        return (status, json!({ "error": { "code": code, "message": message } }));
    }
    // It may be nothing, which has no fields to say which answer it is.
    if let Response::Shadow(status) = response {
        return (200, json!(status));
    }
    // These values have string keys only, so they always have a form.
    let mut value = serde_json::to_value(response).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("answer");
    }
    (200, value)
}

/// The answer to `request` from status and body.
pub fn response(request: &Request, status: u16, mut value: Value) -> Result<Response, String> {
    let about_shadow =
        matches!(request, Request::ShadowStart { .. } | Request::ShadowStop {} | Request::ShadowStatus {});
    if status == 200 && about_shadow {
        return serde_json::from_value(value).map(Response::Shadow).map_err(|e| e.to_string());
    }
    let kind = match (status, request) {
        (200, Request::Status {}) => "status",
        (200, Request::Reload {}) => "reloaded",
        (200, Request::Drain {} | Request::Upgrade {} | Request::AliasAdd { .. } | Request::AliasRemove { .. }) => {
            "done"
        }
        (200, Request::Policy {}) => "policy",
        (200, Request::Explain(_)) => "explained",
        (200, Request::Decisions { .. }) => "decisions",
        (200, Request::Sessions { .. }) => "sessions",
        (200, Request::Session { .. }) => "session",
        (200, Request::QueueList { .. }) => "queue",
        (200, Request::QueueSurvey {}) => "queue-survey",
        (200, Request::QueueShow { .. }) => "message",
        (
            200,
            Request::QueueRetry { .. }
            | Request::QueueHold { .. }
            | Request::QueueRelease { .. }
            | Request::QueueRemove { .. },
        ) => "changed",
        (200, Request::MailboxList { .. }) => "mailboxes",
        (200, Request::MailboxBackup { .. }) => "backed-up",
        (200, Request::MailboxExport(_) | Request::MailboxImport(_) | Request::MailboxPurge { .. }) => "transferred",
        (200, Request::AliasList {}) => "aliases",
        _ => {
            value = value.get("error").cloned().ok_or(format!("status {status} without an explanation"))?;
            "failed"
        }
    };
    let fields = value.as_object_mut().ok_or("expected a JSON object")?;
    fields.insert("answer".into(), kind.into());
    serde_json::from_value(value).map_err(|e| e.to_string())
}
