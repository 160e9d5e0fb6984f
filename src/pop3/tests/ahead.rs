//! Reading ahead: the same octets as without it, for fewer questions.

use super::harness::Caller;
use crate::base::mailbox::ask::{Query, StoreAsk};
use crate::pop3::Ask;
use proptest::prelude::*;

/// A session of `messages` messages, logged in.
fn session(words: &str, messages: usize, octets: usize) -> Caller {
    let mut caller = Caller::new(&format!("protected lock=shared {words}"));
    (0..messages).for_each(|n| caller.store.add(format!("message {n}\r\n{}\r\n", "x".repeat(octets)).into_bytes()));
    caller.store.rows_max = usize::MAX;
    say(&mut caller, "USER ann\r\nPASS secret\r\n");
    caller
}

/// What the session says to some commands, and how many questions about messages that took.
fn say(caller: &mut Caller, commands: &str) -> (Vec<u8>, usize) {
    caller.said.clear();
    let mut asked = 0;
    caller.receive(commands.as_bytes(), &mut |ask| {
        asked += usize::from(matches!(ask, Ask::Store(StoreAsk::Query(_, Query::Fetch { .. }))));
        None
    });
    (std::mem::take(&mut caller.said), asked)
}

#[test]
fn messages_in_order_take_few_questions() {
    let mut caller = session("", 100, 100);
    let asked: usize = (1..=100).map(|n| say(&mut caller, &format!("RETR {n}\r\nDELE {n}\r\n")).1).sum();
    assert_eq!(asked, 7, "1, 2, 4, … 64");
    assert_eq!(caller.session.counters().retrieved, 100);
}

#[test]
fn out_of_order_each_is_asked_for() {
    let mut caller = session("", 20, 100);
    let asked: usize = (1..=20).rev().map(|n| say(&mut caller, &format!("RETR {n}\r\n")).1).sum();
    assert_eq!(asked, 20);
    // A polling client that wants the last ones only begins with one.
    let (said, asked) = say(&mut caller, "RETR 19\r\n");
    assert!(said.starts_with(b"+OK"));
    assert_eq!(asked, 1);
    assert_eq!(say(&mut caller, "RETR 20\r\n").1, 1);
}

#[test]
fn what_is_held_is_bounded() {
    // Three of them fit.
    let mut caller = session("read_ahead_octets=3500", 20, 1000);
    let asked: Vec<usize> = (1..=10).map(|n| say(&mut caller, &format!("RETR {n}\r\n")).1).collect();
    assert_eq!(asked, [1, 1, 0, 1, 0, 0, 1, 0, 0, 1]);
    let mut caller = session("read_ahead_octets=0", 20, 1000);
    let asked: usize = (1..=10).map(|n| say(&mut caller, &format!("RETR {n}\r\n")).1).sum();
    assert_eq!(asked, 10);
}

#[test]
fn a_message_expunged_meanwhile_is_missed_only_when_it_was_not_read() {
    let mut caller = session("", 8, 10);
    (1..=4).for_each(|n| drop(say(&mut caller, &format!("RETR {n}\r\n"))));
    caller.store.messages.clear(); // 5, 6 and 7 came with 4
    assert!(say(&mut caller, "RETR 5\r\n").0.starts_with(b"+OK"));
    assert!(say(&mut caller, "RETR 7\r\n").0.starts_with(b"+OK"));
    assert!(say(&mut caller, "RETR 8\r\n").0.starts_with(b"-ERR"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn it_says_the_same_as_without(commands in proptest::collection::vec((0u8..5, 1u32..12), 0..60)) {
        let text: String = commands
            .iter()
            .scan(0, |next, (what, n)| {
                *next = if *what < 3 { *next % 10 + 1 } else { *n };
                Some(match what {
                    0..=2 => format!("RETR {next}\r\n"),
                    3 => format!("DELE {n}\r\n"),
                    _ => format!("TOP {n} 1\r\n"),
                })
            })
            .collect();
        let with = say(&mut session("read_ahead_octets=300", 10, 100), &text).0;
        let without = say(&mut session("read_ahead_octets=0", 10, 100), &text).0;
        prop_assert_eq!(String::from_utf8(with).unwrap(), String::from_utf8(without).unwrap());
    }
}
