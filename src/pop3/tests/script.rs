//! Traces of POP3: the language of [`crate::base::trace`], and output that takes little at a time.
//!
//! ```text
//! config: WORDS          listener, peer, store and knobs
//! M: text                a message of INBOX
//! G: 2                   message 2 is expunged by somebody else
//! L: 1 3                 these messages are left in INBOX
//! ```
//! Responses must be exactly those; escapes are understood in them, too.

use super::harness::{Caller, describe};
use crate::base::mailbox::ask::StoreError;
use crate::base::mailbox::{Uid, UidSet};
use crate::base::trace::{Asks, Cut, Event, Own, parse, unescape};
use crate::pop3::*;
use crate::sasl::server::SaslAnswer;

/// A message is expunged by somebody else.
#[derive(Clone, Debug)]
struct Expunged(usize);

type Group = crate::base::trace::Group<Expunged>;

fn own(mark: &str, rest: &str) -> Option<Own<Expunged>> {
    match mark {
        "G:" => Some(Own::Event(Expunged(rest.parse().unwrap()))),
        "M:" | "L:" => Some(Own::Note),
        _ => None,
    }
}

pub fn check(name: &str, text: &str) {
    let trace = parse(text, own);
    for cut in Cut::all(20) {
        let mut caller = Caller::new(&trace.config);
        let notes = trace.groups.iter().flat_map(|g| &g.notes);
        notes.filter(|(mark, _)| mark == "M:").for_each(|(_, text)| caller.store.add(unescape(text)));
        if let Cut::Octets = cut {
            caller.room = 1;
        }
        for group in trace.groups.clone() {
            run(&mut caller, group, cut, name);
        }
    }
}

/// The UID of the message that was added as number `n`.
fn uid(caller: &Caller, n: usize) -> Uid {
    *caller.store.bodies.keys().nth(n - 1).unwrap()
}

fn run(caller: &mut Caller, group: Group, cut: Cut, name: &str) {
    let place = group.place(name, cut);
    let mut asks = Asks::new(group.asks);
    let mut answers = |ask: &Ask| asks.meet(&describe(ask)).map(|answer| read_answer(&answer));
    caller.pump(&mut answers);
    for event in group.events {
        match event {
            Event::Octets(_, octets) => {
                caller.pump(&mut answers);
                cut.pieces(&octets).into_iter().for_each(|piece| caller.receive(piece, &mut answers));
            }
            Event::Time(time) => caller.wait(time, &mut answers),
            Event::World(Expunged(n)) => drop(caller.store.expunge(&UidSet::range(uid(caller, n), uid(caller, n)))),
            Event::Eof => caller.session.handle_eof(caller.now),
            Event::Shutdown => caller.session.shutdown(caller.now),
        }
        caller.pump(&mut answers);
    }
    caller.finish_tls();
    let said = std::mem::take(&mut caller.said);
    asks.end(&place, &said);
    let expected = unescape(&group.said[0].replace('\n', "\\r\\n"));
    assert_eq!(said.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{place}");
    assert_eq!(caller.closed, group.closed, "{place}: closed");
    if let Some((_, left)) = group.notes.iter().find(|(mark, _)| mark == "L:") {
        let left: Vec<Uid> = left.split_whitespace().map(|n| uid(caller, n.parse().unwrap())).collect();
        assert_eq!(caller.store.messages.keys().copied().collect::<Vec<_>>(), left, "{place}: left");
    }
}

fn read_answer(text: &str) -> Answer {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "refuse" => Answer::Refuse(rest.into()),
        "unavailable" => Answer::Sasl(SaslAnswer::Unavailable),
        "locked" => Answer::Locked(false),
        "fails" => Answer::Store(Err(match rest {
            "busy" => StoreError::Busy,
            "full" => StoreError::DiskFull,
            "failed" => StoreError::Failed,
            "gone" => StoreError::Gone,
            "account" => StoreError::NoSuchAccount,
            _ => panic!("what failure is {rest:?}?"),
        })),
        _ => panic!("what answer is {text:?}?"),
    }
}
