//! Traces of IMAP: the language of [`crate::base::trace`], with two clients.
//!
//! ```text
//! config: WORDS          settings, knobs, what is there: see `harness`
//! D: MAILBOX text        mail arrives; | stands for CRLF
//! F: error               the next question to the store fails
//! ```
//! Responses must be exactly those, asks must come in that order, among others. With `UPDATE_TRACES` in the environment
//! what was said is written into the files instead, to be read before it is kept.

use super::harness::{World, describe};
use crate::base::mailbox::ask::StoreError;
use crate::base::trace::{Asks, Cut, Event, Own, Trace, parse, unescape};
use crate::imap::{Answer, Ask};
use crate::sasl::server::SaslAnswer;

/// What else happens.
#[derive(Clone, Debug)]
enum Happens {
    Mail(String, Vec<u8>),
    Fail(StoreError),
}

type Group = crate::base::trace::Group<Happens>;

fn own(mark: &str, rest: &str) -> Option<Own<Happens>> {
    match mark {
        "D:" => {
            let (mailbox, text) = rest.split_once(' ').unwrap();
            Some(Own::Event(Happens::Mail(mailbox.into(), unescape(&text.replace('|', "\\r\\n")))))
        }
        "F:" => Some(Own::Event(Happens::Fail(read_error(rest)))),
        _ => None,
    }
}

pub fn check(name: &str, text: &str) {
    let Trace { config, groups } = parse(text, own);
    if std::env::var_os("UPDATE_TRACES").is_some() {
        return update(name, text);
    }
    for cut in Cut::all(12) {
        let mut world = World::new(&config);
        for group in groups.clone() {
            run(&mut world, group, cut, name);
        }
    }
}

/// Writes what is said into the file, below each group.
fn update(name: &str, text: &str) {
    let Trace { config, groups } = parse(text, own);
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
    let place = group.place(name, cut);
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
    let place = group.place(name, cut);
    let mut asks = Asks::new(group.asks);
    let mut answers = |ask: &Ask| asks.meet(&describe(ask)).map(|answer| read_answer(&answer));
    for event in group.events {
        match event {
            Event::Octets(at, octets) => {
                world.pump(at, &mut answers);
                cut.pieces(&octets).into_iter().for_each(|piece| world.receive(at, piece, &mut answers));
            }
            Event::Time(time) => world.wait(time, &mut answers),
            Event::World(Happens::Mail(mailbox, text)) => world.deliver(&mailbox, &text, &mut answers),
            Event::World(Happens::Fail(error)) => world.model.fail = Some(error),
            Event::Eof => world.ends[0].session.handle_eof(world.now),
            Event::Shutdown => world.ends[0].session.shutdown(world.now),
        }
        world.pump(0, &mut answers);
    }
    world.pump(0, &mut answers);
    world.finish_tls(0);
    asks.end(&place, &world.ends[0].said);
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
