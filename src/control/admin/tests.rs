//! Conversations, limits and bad manners, over the socket and over the listener.

use super::*;
use crate::gateway::admin::{
    AdminHandler, AdminKnobs, QueueEntry, QueueFilter, QueueState, Request, Response, Selection,
};
use crate::gateway::metrics::view::Family;
use crate::gateway::recent::Recent;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Answers so that the question can be seen in the answer.
struct Echo(Arc<Recent>);

impl AdminHandler for Echo {
    fn call(&self, request: Request) -> Response {
        match request {
            Request::QueueHold { which: Selection::Ids(ids), reason } => {
                Response::Changed { count: reason.len() as u64, unknown: ids }
            }
            Request::QueueList { limit, .. } => {
                let entry = QueueEntry { sender: "ü\n\"".into(), state: QueueState::Held, ..QueueEntry::default() };
                Response::Queue { entries: vec![entry; limit as usize], more: true }
            }
            Request::Reload {} => panic!("a handler that fails"),
            Request::Status {} => Response::Status(Default::default()),
            _ => Response::Done,
        }
    }
    fn measures(&self) -> Vec<Family> {
        vec![Family::counter("gatepost_messages", "Messages.").count(&[("outcome", "queued")], 7)]
    }
    fn recent(&self) -> Arc<Recent> {
        self.0.clone()
    }
}

fn setup(knobs: AdminKnobs) -> Setup {
    let listen = knobs.listen.or(Some(([127, 0, 0, 1], 0).into()));
    Setup { knobs: AdminKnobs { listen, ..knobs }, hostname: "mx.example.test".into(), certificate: None }
}

fn server_with(knobs: AdminKnobs) -> (tempfile::TempDir, AdminServer) {
    let dir = tempfile::tempdir().unwrap();
    let server = AdminServer::start(dir.path(), &setup(knobs), Arc::new(Echo(Recent::new(1, 10, 10, 1000)))).unwrap();
    (dir, server)
}

fn server() -> (tempfile::TempDir, AdminServer) {
    server_with(AdminKnobs::default())
}

/// What comes back for raw octets, until the server closes.
fn converse(mut stream: impl Read + Write, request: &[u8]) -> String {
    // The server may close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn over_unix(dir: &Path, request: &str) -> String {
    let stream = UnixStream::connect(socket_path(dir)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    converse(stream, request.as_bytes())
}

fn over_tcp(server: &AdminServer, request: &str) -> String {
    let stream = TcpStream::connect(server.address().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    converse(stream, request.as_bytes())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post(path: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    )
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn questions_and_answers() {
    let (dir, server) = server();
    assert_eq!(fs::metadata(socket_path(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = AdminClient::connect(dir.path()).unwrap().unwrap();
    let hold = Request::QueueHold { which: Selection::Ids(vec!["A".into()]), reason: "why".into() };
    assert_eq!(client.call(&hold).unwrap(), Response::Changed { count: 3, unknown: vec!["A".into()] });
    let list = Request::QueueList { filter: QueueFilter::default(), after: None, limit: 10_000 };
    let Response::Queue { entries, more: true } = client.call(&list).unwrap() else { panic!("no list") };
    assert_eq!((entries.len(), entries[9_999].sender.as_str()), (10_000, "ü\n\""));
    assert!(matches!(client.call(&Request::Reload {}).unwrap(), Response::Failed { code, .. } if code == "internal"));
    assert_eq!(client.call(&Request::Status {}).unwrap(), Response::Status(Default::default()), "it goes on");
    assert_eq!(client.read("/api/v1/overview").unwrap()["messages"]["queued"], 7.0);
    assert!(matches!(client.read("/api/v1/nothing"), Err(ClientError::Garbled(why)) if why.contains("404")));
    drop(server);
    assert!(!socket_path(dir.path()).exists());
    assert!(AdminClient::connect(dir.path()).unwrap().is_none());
}

#[test]
fn bad_requests_get_a_status_and_a_sentence() {
    let (dir, _server) = server();
    for (request, status, expected) in [
        (get("/api/v1/nothing"), 404, "leads nowhere"),
        (post("/api/v1/status", JSON, "{}"), 405, "expected GET"),
        (get("/api/v1/reload"), 405, "expected POST"),
        (post("/api/v1/queue/retry", JSON, "{}"), 400, "which"),
        (post("/api/v1/queue/retry", JSON, "{\"which\":\"some\"}"), 400, "which"),
        (post("/api/v1/queue/retry", JSON, "[1]"), 400, "expected a JSON object"),
        (post("/api/v1/queue/retry", JSON, "{"), 400, "expected a JSON object"),
        (get("/api/v1/live?colour=red"), 400, "unknown field"),
        (post("/api/v1/reload", JSON, ""), 500, "its log says why"),
        (post("/api/v1/queue/retry", JSON, &"x".repeat((1 << 20) + 1)), 413, "at most"),
    ] {
        let answer = over_unix(dir.path(), &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.200}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains(expected), "{request:.200}: {body}");
    }
    for garbage in ["\u{0}\n", "GET\r\n\r\n", "nonsense here and there\r\n\r\n"] {
        let answer = over_unix(dir.path(), garbage);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[test]
fn the_listener_without_a_token_is_for_reading() {
    let (_dir, server) = server();
    let answer = over_tcp(&server, &get("/api/v1/status"));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"uptime_ms\""), "{answer}");
    let lower = answer.to_lowercase();
    for header in [
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "x-frame-options: deny",
        "content-security-policy: default-src 'none'",
    ] {
        assert!(lower.contains(header), "{header}: {answer}");
    }
    assert!(!lower.contains("access-control"), "{answer}");
    assert!(over_tcp(&server, &post("/api/v1/drain", JSON, "{}")).starts_with("HTTP/1.1 403 "));
    assert!(over_tcp(&server, &post("/api/v1/policy/explain", JSON, "{}")).starts_with("HTTP/1.1 200 "));
    assert!(over_tcp(&server, &post("/api/v1/policy/explain", "", "{}")).starts_with("HTTP/1.1 415 "));
    let evil = get("/api/v1/status").replace("localhost", "evil.example");
    assert!(over_tcp(&server, &evil).starts_with("HTTP/1.1 421 "));
    let page = over_tcp(&server, &get("/"));
    assert!(page.contains("script-src 'sha256-") && page.contains("</html>"), "{page:.500}");
    assert!(over_tcp(&server, &get("/metrics")).contains("gatepost_messages_total{outcome=\"queued\"} 7"));
    let old = get("/metrics").replace("Connection", "Accept: text/plain\r\nConnection");
    assert!(over_tcp(&server, &old).contains("# TYPE gatepost_messages_total counter"));
    let head = over_tcp(&server, &get("/api/v1/status").replace("GET", "HEAD"));
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn an_open_door_must_ask_who_comes() {
    let dir = tempfile::tempdir().unwrap();
    let start = |knobs| {
        let handler = Arc::new(Echo(Recent::new(1, 10, 10, 1000)));
        AdminServer::start(dir.path(), &setup(knobs), handler).err().unwrap_or_default()
    };
    let everywhere = AdminKnobs { listen: Some(([0, 0, 0, 0], 0).into()), ..AdminKnobs::default() };
    assert!(start(everywhere).contains("set admin.token_file"));
    let token = dir.path().join("token");
    fs::write(&token, "short\n").unwrap();
    assert!(start(AdminKnobs { token_file: Some(token), ..AdminKnobs::default() }).contains("expected 16 or more"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = Some(taken.local_addr().unwrap());
    assert!(start(AdminKnobs { listen, ..AdminKnobs::default() }).contains("cannot listen on"));
    assert_eq!(start(AdminKnobs { listen, enabled: false, ..AdminKnobs::default() }), "");
}

#[test]
fn viewers_are_bounded_and_their_places_come_back() {
    let (_dir, server) = server_with(AdminKnobs { viewers_max: 2, ..AdminKnobs::default() });
    let look = || {
        let mut stream = TcpStream::connect(server.address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /api/v1/live?overview=1 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (stream, String::from_utf8_lossy(&begin).into_owned())
    };
    let (first, said) = look();
    assert_eq!(said, "HTTP/1.1 200");
    let (_second, said) = look();
    assert_eq!(said, "HTTP/1.1 200");
    assert_eq!(look().1, "HTTP/1.1 503");
    drop(first);
    let again = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        look().1 == "HTTP/1.1 200"
    });
    assert!(again, "a place comes back");
}

#[test]
fn a_dead_socket_is_no_server_and_no_obstacle() {
    let (dir, server) = server();
    let path = socket_path(dir.path());
    drop(server);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(AdminClient::connect(dir.path()).unwrap().is_none());
    let handler = Arc::new(Echo(Recent::new(1, 10, 10, 1000)));
    let _server = AdminServer::start(dir.path(), &setup(AdminKnobs::default()), handler).unwrap();
    let mut client = AdminClient::connect(dir.path()).unwrap().unwrap();
    assert!(matches!(client.call(&Request::Status {}).unwrap(), Response::Status(_)));
}

#[test]
fn long_directories_work() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let handler = Arc::new(Echo(Recent::new(1, 10, 10, 1000)));
    let server = AdminServer::start(&deep, &setup(AdminKnobs::default()), handler).unwrap();
    let mut client = AdminClient::connect(&deep).unwrap().unwrap();
    assert!(matches!(client.call(&Request::Status {}).unwrap(), Response::Status(_)));
    drop(server);
    assert!(!socket_path(&deep).exists());
}
