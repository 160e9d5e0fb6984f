//! Whatever a client sends and whatever it is answered: no panic, no deletion without QUIT, no unbounded output.

use super::harness::Caller;
use super::store::{ACCOUNT, Store};
use crate::base::buf::{Input, Output};
use crate::base::mailbox::ask::{Change, Query, StoreAsk, StoreError};
use crate::base::time::Instant;
use crate::pop3::*;
use crate::sasl::server::SaslAnswer;
use proptest::prelude::*;
use std::time::Duration;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "USER ann\r\n",
        "PASS secret\r\n",
        "USER ann\r\nPASS secret\r\n",
        "PASS wrong\r\n",
        "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
        "AUTH CRAM-MD5\r\n",
        "AUTH LOGIN\r\n",
        "YW5u\r\n",
        "*\r\n",
        "APOP ann 00000000000000000000000000000000\r\n",
        "RPOP ann\r\n",
        "STLS\r\n",
        "UTF8\r\n",
        "CAPA\r\n",
        "LANG *\r\n",
        "STAT\r\n",
        "LIST\r\n",
        "LIST 2\r\n",
        "UIDL\r\n",
        "RETR 1\r\n",
        "RETR 2\r\n",
        "RETR 3\r\n",
        "TOP 2 5\r\n",
        "TOP 3 9999\r\n",
        "DELE 1\r\n",
        "DELE 3\r\n",
        "RSET\r\n",
        "LAST\r\n",
        "NOOP\n",
        "QUIT\r\n",
        "\n",
        "\r",
        "\0",
    ];
    prop_oneof![
        20 => proptest::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..14_000).prop_map(|n| vec![b'x'; n]),
    ]
}

/// An answer that fits the ask and is not kind, or `None`.
fn moody(ask: &Ask, mood: u8) -> Option<Answer> {
    if !mood.is_multiple_of(8) {
        return None;
    }
    match ask {
        Ask::Sasl(_) => Some(Answer::Sasl(SaslAnswer::Unavailable)),
        Ask::Store(_) => Some(Answer::Store(Err(StoreError::Busy))),
        Ask::Lock(account) => {
            assert_eq!(*account, ACCOUNT);
            Some(Answer::Locked(false))
        }
        Ask::Authenticated { .. } | Ask::AuthFailed { .. } => Some(Answer::Refuse("[SYS/TEMP] no".into())),
        Ask::Unlock | Ask::StartTls | Ask::Close => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_input_any_answers(
        pieces in proptest::collection::vec(piece(), 0..60),
        moods in proptest::collection::vec(any::<u8>(), 1..50),
        room in 1usize..100_000,
    ) {
        let words = "stls protected apop=true mechanisms=PLAIN,LOGIN,CRAM-MD5 errors_max=1000 \
                     commands_before_login_max=1000 auth_failures_max=100 stored_from=1000 read_max=5000";
        let mut caller = Caller::new(words);
        caller.room = room;
        for text in [&b"a: b\r\n\r\n.text"[..], &b"a: b\r\n\r\n..\r\n".repeat(500), &b"x".repeat(100_000)] {
            caller.store.add(text.to_vec());
        }
        let (mut asked, mut expunged) = (0, false);
        let mut quit = false;
        for piece in &pieces {
            quit |= piece.starts_with(b"QUIT");
            let allowed = quit;
            caller.receive(piece, &mut |ask| {
                asked += 1;
                if let Ask::Store(StoreAsk::Change(_, Change::Expunge { .. })) = ask {
                    assert!(allowed && !expunged, "a deletion without QUIT");
                    expunged = true;
                }
                moody(ask, moods[asked % moods.len()])
            });
            caller.finish_tls();
        }
        caller.session.handle_eof(caller.now);
        caller.pump(&mut |_| None);
        caller.wait(Duration::from_secs(10_000), &mut |_| None);
        prop_assert!(caller.closed);
        prop_assert!(!caller.locked);
        prop_assert!(caller.store.messages.len() == 3 || expunged);
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(std::mem::size_of::<Session>() <= 768, "{}", std::mem::size_of::<Session>());
}

/// Ten thousand messages: listings come in pieces that the output has room for, and are whole.
#[test]
fn long_listings_wait_for_room() {
    let mut caller = Caller::new("protected");
    caller.store.rows_max = usize::MAX;
    for _ in 0..10_000 {
        caller.store.add(b"a: b\r\n\r\n".to_vec());
    }
    caller.room = 1;
    let mut slices = 0;
    caller.receive(b"USER ann\r\nPASS secret\r\nUIDL\r\nLIST\r\nNOOP\r\n", &mut |ask| {
        slices += usize::from(matches!(ask, Ask::Store(StoreAsk::Query(_, Query::Fetch { .. }))));
        None
    });
    assert_eq!(slices, 3, "a login costs an answer for every few thousand messages");
    let said = String::from_utf8(std::mem::take(&mut caller.said)).unwrap();
    let lines: Vec<&str> = said.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3 + 2 * 10_002 + 1);
    assert_eq!(lines[3..6], ["+OK unique ids follow", "1 0000000a00000065", "2 0000000a00000068"]);
    assert_eq!(
        lines[3 + 10_000..3 + 10_004],
        ["10000 0000000a00007592", ".", "+OK 10000 messages (80000 octets)", "1 8"]
    );
    assert_eq!(lines.last(), Some(&"+OK nothing done"));
}

/// The machine keeps no more than one piece, however slowly it is read.
#[test]
fn a_large_message_is_read_as_it_is_sent() {
    let mut caller = Caller::new("protected stored_from=1");
    caller.store.add(b"0123456789abcdef".repeat(256 * 1024));
    caller.receive(b"USER ann\r\nPASS secret\r\n", &mut |_| None);
    caller.said.clear();
    caller.room = 1;
    let mut reads = 0;
    caller.receive(b"RETR 1\r\n", &mut |ask| {
        reads += usize::from(matches!(ask, Ask::Store(StoreAsk::Query(_, Query::Read { .. }))));
        None
    });
    assert_eq!(reads, 64);
    let head = b"+OK 4194306 octets\r\n";
    assert!(caller.said.starts_with(head) && caller.said.ends_with(b"ef\r\n.\r\n"));
    assert_eq!(caller.said.len(), head.len() + 4_194_306 + 3);
    assert_eq!(caller.session.counters().retrieved, 1);
}

/// RFC 1939 §3 is about silence: who reads slowly is not silent, who does not read at all is.
#[test]
fn a_slow_reader_has_time() {
    let mut session = logged_in_with_a_large_message();
    let mut now = Instant::ZERO;
    let mut octets = 0;
    session.handle_bytes(now, &mut Input::new(b"RETR 1\r\n"));
    let mut store = Store::new();
    store.stored_from = 1;
    store.add(LARGE.repeat(64 * 1024));
    loop {
        let mut out = Output::new(1);
        session.poll_transmit(&mut out);
        octets += out.octets();
        while let Some(ask) = session.poll_ask() {
            let Ask::Store(ask) = ask else { panic!("{ask:?}") };
            session.handle_answer(now, Answer::Store(store.answer(&ask)));
        }
        if session.counters().retrieved == 1 {
            break;
        }
        now = now + Duration::from_secs(599);
        session.handle_timeout(now);
    }
    assert!(octets > 900_000 && now > Instant::ZERO + Duration::from_secs(6000));

    let mut session = logged_in_with_a_large_message();
    session.handle_bytes(now, &mut Input::new(b"RETR 1\r\n"));
    for _ in 0..2 {
        let Some(Ask::Store(ask)) = session.poll_ask() else { panic!("no piece was asked for") };
        session.handle_answer(now, Answer::Store(store.answer(&ask)));
    }
    let due = session.poll_timeout().unwrap();
    assert_eq!(due, now + Duration::from_secs(600));
    session.handle_timeout(due);
    assert!(matches!(session.poll_ask(), Some(Ask::Close)));
}

const LARGE: &[u8] = b"0123456789abcdef";

fn logged_in_with_a_large_message() -> Session {
    let mut caller = Caller::new("protected stored_from=1");
    caller.store.add(LARGE.repeat(64 * 1024));
    caller.receive(b"USER ann\r\nPASS secret\r\n", &mut |_| None);
    caller.session
}
