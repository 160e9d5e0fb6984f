//! The language of trace files, and its runner: each trace runs whole, octet by octet and at random cuts, and with output
//! that takes little at a time.
//!
//! ```text
//! config: WORDS          listener, peer, store and knobs (first line)
//! M: text                a message of INBOX; \xNN, \r, \n, \0, \\ and {N*x} (x N times) are understood
//! C: line                the client sends a line
//! C> octets              the same without CRLF
//! T: 5m                  time passes       E: the client ends its side       H: we shut down
//! G: 2                   message 2 is expunged by somebody else
//! S: line                the server says a line (the same escapes);  S> octets without CRLF
//! ?: ask                 an ask beginning so comes up;  !: answer  (below it) answers it, else it is answered kindly
//! L: 1 3                 these messages are left in INBOX
//! X:                     the connection is closed
//! ```
//! A group is client lines and what follows them up to the next client line. Asks that are written must come, in order;
//! responses must be exactly those.

use super::harness::{Caller, describe};
use crate::base::knob::parse_duration;
use crate::base::mailbox::ask::StoreError;
use crate::base::mailbox::{Uid, UidSet};
use crate::pop3::*;
use crate::sasl::server::SaslAnswer;
use std::time::Duration;

/// How input is cut, and how much the output takes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    Random(u64),
}

enum Event {
    Octets(Vec<u8>),
    Time(Duration),
    Expunged(usize),
    Eof,
    Shutdown,
}

#[derive(Default)]
struct Group {
    events: Vec<Event>,
    asks: Vec<(String, Option<String>)>,
    said: Vec<u8>,
    left: Option<Vec<usize>>,
    closed: bool,
    line: usize,
}

pub fn check(name: &str, text: &str) {
    for cut in [Cut::Whole, Cut::Octets].into_iter().chain((1..=20).map(Cut::Random)) {
        let (config, messages, groups) = parse(text);
        let mut caller = Caller::new(&config);
        messages.into_iter().for_each(|m| caller.store.add(m));
        if let Cut::Octets = cut {
            caller.room = 1;
        }
        for group in groups {
            run(&mut caller, group, cut, name);
        }
    }
}

fn parse(text: &str) -> (String, Vec<Vec<u8>>, Vec<Group>) {
    let (mut config, mut messages) = (String::new(), Vec::new());
    let (mut groups, mut answered) = (vec![Group { line: 1, ..Group::default() }], true);
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let event = match mark {
            "C:" => Some(Event::Octets([unescape(rest), b"\r\n".to_vec()].concat())),
            "C>" => Some(Event::Octets(unescape(rest))),
            "T:" => Some(Event::Time(parse_duration(rest).unwrap())),
            "G:" => Some(Event::Expunged(rest.parse().unwrap())),
            "E:" => Some(Event::Eof),
            "H:" => Some(Event::Shutdown),
            _ => None,
        };
        if let Some(event) = event {
            if answered {
                groups.push(Group { line: at + 1, ..Group::default() });
            }
            answered = false;
            groups.last_mut().unwrap().events.push(event);
            continue;
        }
        if mark == "config:" {
            config = rest.to_owned();
            continue;
        }
        if mark == "M:" {
            messages.push(unescape(rest));
            continue;
        }
        let group = groups.last_mut().unwrap();
        answered = true;
        match mark {
            "S:" => group.said.extend([unescape(rest), b"\r\n".to_vec()].concat()),
            "S>" => group.said.extend(unescape(rest)),
            "?:" => group.asks.push((rest.to_owned(), None)),
            "!:" => group.asks.last_mut().unwrap().1 = Some(rest.to_owned()),
            "L:" => group.left = Some(rest.split_whitespace().map(|n| n.parse().unwrap()).collect()),
            "X:" => group.closed = true,
            _ => panic!("line {}: what is {mark:?}?", at + 1),
        }
    }
    (config, messages, groups)
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        if let Some((count, unit, after)) = repetition(rest) {
            out.extend(unescape(unit).repeat(count));
            rest = after;
        } else if c == '\\' {
            let (octet, used) = match &rest[1..2] {
                "r" => (b'\r', 2),
                "n" => (b'\n', 2),
                "0" => (0, 2),
                "x" => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                other => (other.as_bytes()[0], 2),
            };
            out.push(octet);
            rest = &rest[used..];
        } else {
            out.extend(c.to_string().bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// `{N*x}` at the start.
fn repetition(text: &str) -> Option<(usize, &str, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let (count, unit) = inner.split_once('*')?;
    Some((count.parse().ok()?, unit, after))
}

/// The UID of the message that was added as number `n`.
fn uid(caller: &Caller, n: usize) -> Uid {
    *caller.store.bodies.keys().nth(n - 1).unwrap()
}

fn run(caller: &mut Caller, group: Group, cut: Cut, name: &str) {
    let place = format!("{name}.trace:{} ({cut:?})", group.line);
    let mut expected = group.asks.into_iter().peekable();
    let mut answers = |ask: &Ask| {
        let text = describe(ask);
        let (_, answer) = expected.next_if(|(prefix, _)| text.starts_with(prefix.as_str()))?;
        answer.map(|answer| read_answer(&answer))
    };
    let mut octets = Vec::new();
    for event in group.events {
        if let Event::Octets(more) = event {
            octets.extend(more);
            continue;
        }
        deliver(caller, &std::mem::take(&mut octets), cut, &mut answers);
        match event {
            Event::Time(time) => caller.wait(time, &mut answers),
            Event::Expunged(n) => drop(caller.store.expunge(&UidSet::range(uid(caller, n), uid(caller, n)))),
            Event::Eof => caller.session.handle_eof(caller.now),
            Event::Shutdown => caller.session.shutdown(caller.now),
            Event::Octets(_) => unreachable!("handled above"),
        }
        caller.pump(&mut answers);
    }
    deliver(caller, &octets, cut, &mut answers);
    caller.finish_tls();
    let unasked: Vec<_> = expected.collect();
    let said = std::mem::take(&mut caller.said);
    assert!(unasked.is_empty(), "{place}: these asks did not come: {unasked:?}; said {}", said.escape_ascii());
    assert_eq!(said.escape_ascii().to_string(), group.said.escape_ascii().to_string(), "{place}");
    assert_eq!(caller.closed, group.closed, "{place}: closed");
    if let Some(left) = group.left {
        let left: Vec<Uid> = left.into_iter().map(|n| uid(caller, n)).collect();
        assert_eq!(caller.store.messages.keys().copied().collect::<Vec<_>>(), left, "{place}: left");
    }
}

fn deliver(caller: &mut Caller, octets: &[u8], cut: Cut, answers: &mut dyn FnMut(&Ask) -> Option<Answer>) {
    let mut rest = octets;
    let mut dice = match cut {
        Cut::Random(seed) => fastrand::Rng::with_seed(seed),
        _ => fastrand::Rng::with_seed(0),
    };
    caller.pump(answers);
    while !rest.is_empty() {
        let n = match cut {
            Cut::Whole => rest.len(),
            Cut::Octets => 1,
            Cut::Random(_) => dice.usize(1..=rest.len()),
        };
        caller.receive(&rest[..n], answers);
        rest = &rest[n..];
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
