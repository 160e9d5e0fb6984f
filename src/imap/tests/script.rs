//! The language of trace files, and its runner: each trace runs whole, octet by octet and at random cuts.
//!
//! ```text
//! config: WORDS          settings, knobs, what is there (first line): see `harness`
//! C: line                the client sends a line; \xNN, \r, \n, \0, \\ and {N*x} (x N times) are understood
//! C> octets              the same without CRLF;    C2: and C2> the second client
//! T: 5m                  time passes       E: the client ends its side       H: we shut down
//! D: MAILBOX text        mail arrives; | stands for CRLF
//! F: error               the next question to the store fails
//! S: line                the server says a line;   S2: to the second client
//! ?: ask                 an ask beginning so comes up;  !: answer  (below it) answers it, else the model does
//! X:                     the connection is closed
//! ```
//! A group is what clients and the world do and what follows it up to the next of them; its responses must be exactly
//! those, its asks must come in that order, among others. With `UPDATE_TRACES` in the environment what was said is
//! written into the files instead, to be read before it is kept.

use super::harness::{World, describe};
use crate::base::knob::parse_duration;
use crate::base::mailbox::ask::StoreError;
use crate::imap::{Answer, Ask};
use crate::sasl::server::SaslAnswer;
use std::time::Duration;

/// How input is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    Random(u64),
}

#[derive(Clone)]
enum Event {
    Octets(usize, Vec<u8>),
    Time(Duration),
    Mail(String, Vec<u8>),
    Fail(StoreError),
    Eof,
    Shutdown,
}

#[derive(Clone, Default)]
struct Group {
    events: Vec<Event>,
    asks: Vec<(String, Option<String>)>,
    said: [String; 2],
    closed: bool,
    line: usize,
}

pub fn check(name: &str, text: &str) {
    let (config, groups) = parse(text);
    if std::env::var_os("UPDATE_TRACES").is_some() {
        return update(name, text);
    }
    for cut in [Cut::Whole, Cut::Octets].into_iter().chain((1..=12).map(Cut::Random)) {
        let mut world = World::new(&config);
        for group in groups.clone() {
            run(&mut world, group, cut, name);
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
        let with_end = |rest: &str| [unescape(rest), b"\r\n".to_vec()].concat();
        let event = match mark {
            "C:" => Some(Event::Octets(0, with_end(rest))),
            "C2:" => Some(Event::Octets(1, with_end(rest))),
            "C>" => Some(Event::Octets(0, unescape(rest))),
            "C2>" => Some(Event::Octets(1, unescape(rest))),
            "T:" => Some(Event::Time(parse_duration(rest).unwrap())),
            "D:" => {
                let (mailbox, text) = rest.split_once(' ').unwrap();
                Some(Event::Mail(mailbox.into(), unescape(&text.replace('|', "\\r\\n"))))
            }
            "F:" => Some(Event::Fail(read_error(rest))),
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
            "S:" => group.said[0] += &format!("{rest}\n"),
            "S2:" => group.said[1] += &format!("{rest}\n"),
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
        } else if c == '\\' && matches!(rest.as_bytes().get(1), Some(b'r' | b'n' | b'0' | b'x' | b'\\')) {
            let (octet, used) = match &rest[1..2] {
                "r" => (b'\r', 2),
                "n" => (b'\n', 2),
                "0" => (0, 2),
                "x" => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                _ => (b'\\', 2),
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

/// Writes what is said into the file, below each group.
fn update(name: &str, text: &str) {
    let (config, groups) = parse(text);
    let mut world = World::new(&config);
    let (mut written, mut lines) = (String::new(), text.lines().enumerate().peekable());
    for (i, group) in groups.iter().enumerate() {
        let end = groups.get(i + 1).map_or(usize::MAX, |next| next.line - 1);
        let mut own: Vec<&str> = Vec::new();
        while let Some((_, line)) = lines.next_if(|(at, _)| *at < end) {
            if !["S:", "S2:", "X:"].iter().any(|mark| line.starts_with(mark)) {
                own.push(line);
            }
        }
        let behind = own.iter().rposition(|l| !l.is_empty() && !l.starts_with('#')).map_or(0, |at| at + 1);
        own[..behind].iter().for_each(|l| written += &format!("{l}\n"));
        play(&mut world, group.clone(), Cut::Whole, name);
        for (at, mark) in ["S:", "S2:"].into_iter().enumerate().take(world.ends.len()) {
            for line in said(&mut world, at).lines() {
                written += format!("{mark} {line}").trim_end();
                written += "\n";
            }
        }
        if world.ends[0].closed {
            written += "X:\n";
        }
        own[behind..].iter().for_each(|l| written += &format!("{l}\n"));
    }
    let file = format!("{}/src/imap/traces/{name}.trace", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(file, written).unwrap();
}

fn said(world: &mut World, at: usize) -> String {
    let said = std::mem::take(&mut world.ends[at].said);
    String::from_utf8_lossy(&said).replace("\r\n", "\n").replace('\r', "\\r")
}

fn run(world: &mut World, group: Group, cut: Cut, name: &str) {
    let place = format!("{name}.trace:{} ({cut:?})", group.line);
    play(world, group.clone(), cut, name);
    for at in 0..world.ends.len() {
        let said = said(world, at);
        assert!(world.ends[at].closed || said.is_empty() || said.ends_with('\n'), "{place}: {said:?}");
        let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&said), lines(&group.said[at]), "{place}: session {}", at + 1);
    }
    assert_eq!(world.ends[0].closed, group.closed, "{place}: closed");
}

/// Has the group happen; what is said is left with the sessions.
fn play(world: &mut World, group: Group, cut: Cut, name: &str) {
    let place = format!("{name}.trace:{} ({cut:?})", group.line);
    let mut expected = group.asks.into_iter().peekable();
    let mut answers = |ask: &Ask| {
        let text = describe(ask);
        let (_, answer) = expected.next_if(|(prefix, _)| text.starts_with(prefix.as_str()))?;
        answer.map(|answer| read_answer(&answer))
    };
    let mut events = group.events.into_iter().peekable();
    while let Some(event) = events.next() {
        match event {
            Event::Octets(at, mut octets) => {
                // Lines in a row come as one stretch.
                while let Some(Event::Octets(_, more)) =
                    events.next_if(|e| matches!(e, Event::Octets(next, _) if *next == at))
                {
                    octets.extend(more);
                }
                deliver(world, at, &octets, cut, &mut answers);
            }
            Event::Time(time) => world.wait(time, &mut answers),
            Event::Mail(mailbox, text) => world.deliver(&mailbox, &text, &mut answers),
            Event::Fail(error) => world.model.fail = Some(error),
            Event::Eof => world.ends[0].session.handle_eof(world.now),
            Event::Shutdown => world.ends[0].session.shutdown(world.now),
        }
        world.pump(0, &mut answers);
    }
    world.pump(0, &mut answers);
    world.finish_tls(0);
    let left: Vec<_> = expected.collect();
    assert!(left.is_empty(), "{place}: these asks did not come: {left:?}");
}

fn deliver(world: &mut World, at: usize, octets: &[u8], cut: Cut, answers: &mut dyn FnMut(&Ask) -> Option<Answer>) {
    let mut rest = octets;
    let mut dice = match cut {
        Cut::Random(seed) => fastrand::Rng::with_seed(seed),
        _ => fastrand::Rng::with_seed(0),
    };
    world.pump(at, answers);
    while !rest.is_empty() {
        let n = match cut {
            Cut::Whole => rest.len(),
            Cut::Octets => 1,
            Cut::Random(_) => dice.usize(1..=rest.len()),
        };
        world.receive(at, &rest[..n], answers);
        rest = &rest[n..];
    }
}

fn read_error(text: &str) -> StoreError {
    match text {
        "account" => StoreError::NoSuchAccount,
        "busy" => StoreError::Busy,
        "failed" => StoreError::Failed,
        "full" => StoreError::DiskFull,
        "gone" => StoreError::Gone,
        "expunged" => StoreError::Expunged,
        "limit" => StoreError::Limit("too many mailboxes"),
        "name" => StoreError::InvalidName("a name cannot hold this"),
        "children" => StoreError::HasChildren,
        _ => panic!("what error is {text:?}?"),
    }
}

fn read_answer(text: &str) -> Answer {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "refuse" => Answer::Refuse(String::from_utf8(unescape(rest)).unwrap()),
        "store" => Answer::Store(Err(read_error(rest))),
        "unavailable" => Answer::Sasl(SaslAnswer::Unavailable),
        "unspilled" => Answer::Spilled(Err(read_error(rest))),
        "unspilt" => Answer::Spilt(Err(read_error(rest))),
        _ => panic!("what answer is {text:?}?"),
    }
}
