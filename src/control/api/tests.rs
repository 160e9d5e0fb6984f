//! Requests and paths are inverses; the description names every path and nothing else.

use super::*;
use crate::gateway::admin::MailFormat;
use std::collections::BTreeSet;

fn requests() -> Vec<Request> {
    let ids = Selection::Ids(vec!["0ABC".into(), "ü &".into()]);
    let transfer = MailboxTransfer {
        account: "ann".into(),
        path: "/tmp/x y".into(),
        format: MailFormat::Mbox,
        mailbox: Some("Trash".into()),
    };
    vec![
        Request::Status {},
        Request::Reload {},
        Request::Drain {},
        Request::Upgrade {},
        Request::Policy {},
        Request::Explain(ExplainCase { client: Some("::1".into()), to: vec!["a@b".into()], ..ExplainCase::default() }),
        Request::Decisions {
            filter: DecisionFilter { rcpt: "bob@*".into(), q: "a b".into(), ..DecisionFilter::default() },
            limit: 7,
        },
        Request::Sessions { limit: 3 },
        Request::Session { id: "0ABC".into(), trace: true },
        Request::QueueList {
            filter: QueueFilter {
                destination: Some("mx:x".into()),
                sender: Some(String::new()),
                recipient: None,
                state: Some(QueueState::Held),
            },
            after: Some("0A".into()),
            limit: 5,
        },
        Request::QueueSurvey {},
        Request::QueueShow { id: "0ABC/x".into() },
        Request::QueueRetry { which: Selection::All },
        Request::QueueHold { which: ids.clone(), reason: "because".into() },
        Request::QueueRelease { which: Selection::Destination("pool:main".into()) },
        Request::QueueRemove { which: ids },
        Request::MailboxList { accounts: vec!["a".into(), "b c".into()] },
        Request::MailboxBackup { directory: "/x".into() },
        Request::MailboxExport(transfer.clone()),
        Request::MailboxImport(transfer),
        Request::MailboxPurge { account: "ann".into() },
        Request::ShadowStatus {},
        Request::ShadowStart { file: "/etc/new.toml".into() },
        Request::ShadowStop {},
        Request::AliasList {},
        Request::AliasAdd { from: "a".into(), to: vec!["b".into()], list: true },
        Request::AliasRemove { from: "a".into(), members: vec!["b".into()] },
    ]
}

#[test]
fn a_call_is_its_request() {
    let mut reached = BTreeSet::new();
    for request in requests() {
        let (method, address, body) = call(&request);
        let (path, query) = address.split_once('?').unwrap_or((&address, ""));
        let (route, id) = find(method, path).unwrap_or_else(|_| panic!("{method} {path}"));
        let parts = Parts { id, query: parse(query), body };
        let Act::Request(make) = route.act else { panic!("{path} is no request") };
        assert_eq!(make(&parts).unwrap(), request, "{method} {address}");
        assert_eq!(route.changes, method == "POST" && route.operation != "explain");
        reached.insert(route.operation);
    }
    let requests = ROUTES.iter().filter(|route| matches!(route.act, Act::Request(_)));
    assert_eq!(reached, requests.map(|route| route.operation).collect());
}

#[test]
fn an_answer_is_its_body() {
    let answers = [
        (Request::Status {}, Response::Status(Default::default())),
        (Request::Drain {}, Response::Done),
        (Request::QueueSurvey {}, Response::QueueSurvey(Default::default())),
        (Request::Policy {}, Response::Policy(Default::default())),
        (Request::Status {}, Response::failed("busy", "later")),
        (Request::Session { id: "x".into(), trace: false }, Response::Session(Default::default())),
        (
            Request::Reload {},
            Response::Reloaded { version: "v".into(), changes: vec!["+ rule x".into()], warnings: vec![] },
        ),
    ];
    for (request, answer) in answers {
        let (status, value) = body(&answer);
        assert_eq!(response(&request, status, value), Ok(answer));
    }
    assert!(response(&Request::Status {}, 502, json!({})).is_err());
}

#[test]
fn what_is_wrong_with_a_call_is_told() {
    assert_eq!(find("GET", "/api/v1/nothing").unwrap_err(), Vec::<&str>::new());
    assert_eq!(find("DELETE", "/api/v1/aliases").unwrap_err(), ["GET", "POST"]);
    assert!(find("GET", "/api/v1/queue/a/b").is_err() && find("GET", "/api/v1/queue/").is_err());
    let wrong = |method, address: &str, body: Value| {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let (route, id) = find(method, path).unwrap();
        let Act::Request(make) = route.act else { panic!("no request") };
        make(&Parts { id, query: parse(query), body }).unwrap_err().message
    };
    assert!(wrong("GET", "/api/v1/decisions?limit=x", Value::Null).contains("expected a whole number"));
    assert!(wrong("GET", "/api/v1/decisions?rpct=x", Value::Null).contains("unknown field `rpct`"));
    assert!(wrong("GET", "/api/v1/queue?state=asleep", Value::Null).contains("waiting, active or held"));
    assert!(wrong("POST", "/api/v1/queue/retry", json!({})).contains("expected {\"which\""));
    assert!(wrong("POST", "/api/v1/aliases", json!({"from": "a"})).contains("\"to\""));
    assert!(wrong("POST", "/api/v1/policy/explain", json!({"clinet": "x"})).contains("unknown field"));
}

#[test]
fn the_description_names_every_path_and_nothing_else() {
    let api: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described = BTreeSet::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            described.insert((method.to_uppercase(), path.clone(), id.to_owned()));
            assert!(operation["summary"].as_str().is_some_and(|s| s.len() > 5), "{path}");
            let changes = operation["x-changes"].as_bool().unwrap_or(false);
            let route = ROUTES.iter().find(|r| r.operation == id).unwrap_or_else(|| panic!("no route for {id}"));
            assert_eq!(changes, route.changes, "{path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let has_id = parameters.iter().any(|p| p["in"] == "path" && p["name"] == "id");
            assert_eq!(has_id, path.contains("{id}"), "{path}");
            assert_eq!(operation.get("requestBody").is_some(), method == "post", "{path}");
            references(operation, &api);
        }
    }
    let routes = ROUTES.iter().map(|r| (r.method.to_owned(), r.path.to_owned(), r.operation.to_owned())).collect();
    assert_eq!(described, routes);
}

/// Every `$ref` leads somewhere.
fn references(value: &Value, api: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "$ref" {
                    let pointer = value.as_str().unwrap().trim_start_matches('#');
                    assert!(api.pointer(pointer).is_some(), "{pointer}");
                }
                references(value, api);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, api)),
        _ => {}
    }
}

#[test]
fn values_have_the_fields_that_are_described() {
    let api: Value = serde_json::from_str(OPENAPI).unwrap();
    let described = |name: &str| -> BTreeSet<String> {
        api["components"]["schemas"][name]["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("no schema {name}"))
            .keys()
            .cloned()
            .collect()
    };
    let fields = |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    use crate::gateway::admin as a;
    for (name, value) in [
        ("Status", json!(a::Status::default())),
        ("Decision", json!(a::Decided::default())),
        ("SessionEntry", json!(a::SessionEntry::default())),
        ("Session", json!(a::SessionStory::default())),
        ("SessionEvent", json!(a::StoryEvent::default())),
        ("Policy", json!(a::PolicyView::default())),
        ("Rule", json!(a::RuleView::default())),
        ("List", json!(a::ListView::default())),
        ("Limit", json!(a::LimitView::default())),
        ("ExplainCase", json!(a::ExplainCase::default())),
        ("QueueEntry", json!(a::QueueEntry::default())),
        ("QueueRecipient", json!(a::QueueRecipient::default())),
        ("QueueMessage", json!(a::QueueMessage::default())),
        ("QueueSurvey", json!(a::QueueSurvey::default())),
        ("Destination", json!(a::DestinationSurvey::default())),
        ("Alias", json!(a::AliasEntry::default())),
    ] {
        assert_eq!(fields(value), described(name), "{name}");
    }
}
