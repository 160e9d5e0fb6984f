//! Conversations, limits and bad manners.

use super::*;
use crate::gateway::admin::{QueueEntry, QueueFilter, QueueState, Selection};
use std::io::Read;

/// Answers so that the question can be seen in the answer.
struct Echo;

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
            _ => Response::Done,
        }
    }
}

fn server() -> (tempfile::TempDir, AdminServer) {
    let dir = tempfile::tempdir().unwrap();
    let server = AdminServer::start(dir.path(), Arc::new(Echo)).unwrap();
    (dir, server)
}

/// What comes back for raw octets, until the server closes or nothing more comes.
fn raw(dir: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket_path(dir)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

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
    assert_eq!(client.call(&Request::Status {}).unwrap(), Response::Done, "it goes on");
    drop(server);
    assert!(!socket_path(dir.path()).exists());
    assert!(AdminClient::connect(dir.path()).unwrap().is_none());
}

#[test]
fn the_wire_is_what_the_documentation_says() {
    let (dir, _server) = server();
    let request = "{\"v\":1,\"op\":\"queue-hold\",\"which\":{\"ids\":[\"0ABC\"]},\"reason\":\"x\"}\n";
    let answer = "{\"v\":1,\"answer\":\"changed\",\"count\":1,\"unknown\":[\"0ABC\"]}\n";
    assert_eq!(raw(dir.path(), request.repeat(2).as_bytes()), answer.repeat(2));
}

#[test]
fn bad_requests_get_a_sentence() {
    let (dir, _server) = server();
    for (request, expected) in [
        ("{\"v\":2,\"op\":\"status\"}\n", "version 2 is not spoken here, only 1"),
        ("{\"op\":\"status\"}\n", "the version is missing"),
        ("{\"v\":1,\"op\":\"sttaus\"}\n", "unknown variant `sttaus`"),
        ("{\"v\":1,\"op\":\"queue-list\",\"limit\":\"x\"}\n", "invalid type"),
        ("{\"v\":1,\"op\":\"status\",\"more\":1}\n", "unknown field `more`"),
        ("[1]\n", "expected a JSON object"),
        ("\u{0}\n", "expected a JSON object"),
        ("\n", "expected a JSON object"),
    ] {
        let answer = raw(dir.path(), request.as_bytes());
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["answer"], "failed", "{request}");
        assert!(answer["message"].as_str().unwrap().contains(expected), "{request}: {answer}");
    }
    assert!(raw(dir.path(), &vec![b'x'; REQUEST_OCTETS_MAX + 100_000]).contains("a request has at most"));
    assert_eq!(raw(dir.path(), b"{\"v\":1,\"op\":\"status\"}"), "", "a line without end is no request");
}

#[test]
fn too_many_connections_are_refused_and_forgotten() {
    let (dir, _server) = server();
    let connect = || AdminClient::connect(dir.path()).unwrap().unwrap();
    let mut open: Vec<AdminClient> = (0..CONNECTIONS_MAX).map(|_| connect()).collect();
    for client in &mut open {
        assert_eq!(client.call(&Request::Status {}).unwrap(), Response::Done);
    }
    assert!(raw(dir.path(), b"").contains("\"busy\""));
    open.clear();
    let again = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(2));
        matches!(connect().call(&Request::Status {}), Ok(Response::Done))
    });
    assert!(again, "closed connections make room");
}

#[test]
fn a_dead_socket_is_no_server_and_no_obstacle() {
    let (dir, server) = server();
    let path = socket_path(dir.path());
    drop(server);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(AdminClient::connect(dir.path()).unwrap().is_none());
    let _server = AdminServer::start(dir.path(), Arc::new(Echo)).unwrap();
    let mut client = AdminClient::connect(dir.path()).unwrap().unwrap();
    assert_eq!(client.call(&Request::Status {}).unwrap(), Response::Done);
}

#[test]
fn long_directories_work() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let server = AdminServer::start(&deep, Arc::new(Echo)).unwrap();
    let mut client = AdminClient::connect(&deep).unwrap().unwrap();
    assert_eq!(client.call(&Request::Status {}).unwrap(), Response::Done);
    drop(server);
    assert!(!socket_path(&deep).exists());
}

#[test]
fn lines_are_found_at_any_cut() {
    struct Drip<'a>(&'a [u8], usize);
    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    for step in 1..12 {
        let mut reader = LineReader::new(Drip(b"one\n\ntwo\nrest", step), 100);
        for line in ["one", "", "two"] {
            assert_eq!(reader.next().unwrap(), Some(line.as_bytes()), "step {step}");
        }
        assert_eq!(reader.next().unwrap(), None);
    }
    let mut reader = LineReader::new(Drip(&[b'x'; 200], 7), 100);
    assert!(matches!(reader.next(), Err(LineError::TooLong)));
}
