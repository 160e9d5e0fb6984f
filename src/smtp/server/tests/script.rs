//! The language of trace files, and its runner: each trace runs whole, octet by octet and at random cuts.
//!
//! ```text
//! config: WORDS          listener, peer and knobs (first line)
//! C: line                the client sends a line; \xNN, \r, \n, \0, \\ and {N*x} (x N times) are understood
//! C> octets              the same without CRLF
//! T: 5m                  time passes       E: the client ends its side       H: we shut down
//! S: line                the server says a line
//! ?: ask                 an ask beginning so comes up;  !: answer  (below it) answers it, else it is answered kindly
//! X:                     the connection is closed
//! ```
//! A group is client lines and what follows them up to the next client line; its asks and replies must be exactly those.

use super::harness::{Caller, describe, friendly};
use crate::base::id::SpoolId;
use crate::base::knob::parse_duration;
use crate::base::proof::{Accepted, Committed, DiscardGrant, RelayGrant};
use crate::sasl::server::SaslAnswer;
use crate::smtp::server::*;
use crate::wire::reply::{Enhanced, Reply};
use std::time::Duration;

/// How input is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    Random(u64),
}

enum Event {
    Octets(Vec<u8>),
    Time(Duration),
    Eof,
    Shutdown,
}

#[derive(Default)]
struct Group {
    events: Vec<Event>,
    asks: Vec<(String, Option<String>)>,
    said: String,
    closed: bool,
    line: usize,
}

pub fn check(name: &str, text: &str) {
    for cut in [Cut::Whole, Cut::Octets].into_iter().chain((1..=20).map(Cut::Random)) {
        let (config, groups) = parse(text);
        let mut caller = Caller::new(&config);
        for group in groups {
            run(&mut caller, group, cut, name);
        }
    }
}

fn parse(text: &str) -> (String, Vec<Group>) {
    let (mut config, mut groups, mut answered) = (String::new(), vec![Group { line: 1, ..Group::default() }], true);
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let event = match mark {
            "C:" => Some(Event::Octets([unescape(rest), b"\r\n".to_vec()].concat())),
            "C>" => Some(Event::Octets(unescape(rest))),
            "T:" => Some(Event::Time(parse_duration(rest).unwrap())),
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
        let group = groups.last_mut().unwrap();
        answered = true;
        match mark {
            "config:" => config = rest.to_owned(),
            "S:" => group.said += &format!("{rest}\n"),
            "?:" => group.asks.push((rest.to_owned(), None)),
            "!:" => group.asks.last_mut().unwrap().1 = Some(rest.to_owned()),
            "X:" => group.closed = true,
            _ => panic!("line {}: what is {mark:?}?", at + 1),
        }
    }
    (config, groups)
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

fn run(caller: &mut Caller, group: Group, cut: Cut, name: &str) {
    let place = format!("{name}.trace:{} ({cut:?})", group.line);
    let mut expected = group.asks.into_iter().peekable();
    let mut scratch = Vec::new();
    let mut answers = |ask: &Ask| {
        if let Ask::Spill { first, chunk } = ask {
            if *first {
                scratch.clear();
            }
            scratch.extend_from_slice(chunk);
        }
        let text = describe(ask, &scratch);
        match expected.next_if(|(prefix, _)| text.starts_with(prefix.as_str())) {
            Some((_, Some(answer))) => read_answer(&answer),
            _ => friendly(ask),
        }
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
            Event::Eof => caller.server.handle_eof(caller.now),
            Event::Shutdown => caller.server.shutdown(caller.now),
            Event::Octets(_) => unreachable!("handled above"),
        }
        caller.pump(&mut answers);
    }
    deliver(caller, &octets, cut, &mut answers);
    caller.finish_tls();
    let left: Vec<_> = expected.collect();
    assert!(left.is_empty(), "{place}: these asks did not come: {left:?}");
    let said = String::from_utf8(std::mem::take(&mut caller.said)).unwrap();
    assert!(said.is_empty() || said.ends_with("\r\n"), "{place}: {said:?}");
    assert_eq!(said.replace("\r\n", "\n"), group.said, "{place}");
    assert_eq!(caller.closed, group.closed, "{place}: closed");
}

fn deliver(caller: &mut Caller, octets: &[u8], cut: Cut, answers: &mut dyn FnMut(&Ask) -> Answer) {
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

fn read_reply(text: &str) -> Reply {
    let mut words = text.splitn(3, ' ');
    let code = words.next().unwrap().parse().unwrap();
    let enhanced: Vec<u16> = words.next().unwrap().split('.').map(|n| n.parse().unwrap()).collect();
    let enhanced = Enhanced(enhanced[0] as u8, enhanced[1], enhanced[2]);
    Reply::new(code, Some(enhanced), words.next().unwrap().to_owned())
}

fn committed() -> Committed {
    Committed::after_sync(SpoolId(1))
}

fn read_answer(text: &str) -> Answer {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let refuse = |rest: &str, after, close| Answer::Refuse { reply: read_reply(rest), after, close };
    match word {
        "go-after" => Answer::GoAfter(parse_duration(rest).unwrap()),
        "grant-after" => {
            Answer::Granted { grant: RelayGrant::issued_by_policy(), after: parse_duration(rest).unwrap() }
        }
        "refuse" => refuse(rest, Duration::ZERO, false),
        "refuse-close" => refuse(rest, Duration::ZERO, true),
        "refuse-after" => {
            let (after, rest) = rest.split_once(' ').unwrap();
            refuse(rest, parse_duration(after).unwrap(), false)
        }
        "accepted" => Answer::Settled(Settled::Accepted(Accepted::by_backend(rest.into()))),
        "discard" => Answer::Settled(Settled::Discarded(DiscardGrant::issued_by_policy())),
        "refused" => Answer::Settled(Settled::Refused(read_reply(rest))),
        "each" => Answer::Settled(Settled::PerRecipient(
            rest.split(" | ")
                .map(|one| if one == "ok" { Ok(Kept::Committed(committed())) } else { Err(read_reply(one)) })
                .collect(),
        )),
        "verified" => Answer::Verified(read_reply(rest)),
        "unspilled" => Answer::Spilled(Err(read_reply(rest))),
        "unavailable" => Answer::Sasl(SaslAnswer::Unavailable),
        _ => panic!("what answer is {text:?}?"),
    }
}
