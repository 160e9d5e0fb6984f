//! Traces of SMTP: the language of [`crate::base::trace`]. `config:` has the words of listener, peer and knobs; asks and
//! replies must be exactly those that are written.

use super::harness::{Caller, describe, friendly};
use crate::base::id::SpoolId;
use crate::base::knob::parse_duration;
use crate::base::proof::{Accepted, Committed, DiscardGrant, RelayGrant};
use crate::base::trace::{Asks, Cut, Event, parse};
use crate::sasl::server::SaslAnswer;
use crate::smtp::server::*;
use crate::wire::reply::{Enhanced, Reply};
use std::convert::Infallible;
use std::time::Duration;

type Group = crate::base::trace::Group<Infallible>;

pub fn check(name: &str, text: &str) {
    let trace = parse(text, |_, _| None);
    for cut in Cut::all(20) {
        let mut caller = Caller::new(&trace.config);
        for group in trace.groups.clone() {
            run(&mut caller, group, cut, name);
        }
    }
}

fn run(caller: &mut Caller, group: Group, cut: Cut, name: &str) {
    let place = group.place(name, cut);
    let mut asks = Asks::new(group.asks);
    let mut scratch = Vec::new();
    let mut answers = |ask: &Ask| {
        if let Ask::Spill { first, chunk } = ask {
            if *first {
                scratch.clear();
            }
            scratch.extend_from_slice(chunk);
        }
        asks.meet(&describe(ask, &scratch)).map_or_else(|| friendly(ask), |answer| read_answer(&answer))
    };
    caller.pump(&mut answers);
    for event in group.events {
        match event {
            Event::Octets(_, octets) => {
                caller.pump(&mut answers);
                cut.pieces(&octets).into_iter().for_each(|piece| caller.receive(piece, &mut answers));
                continue;
            }
            Event::Time(time) => caller.wait(time, &mut answers),
            Event::Eof => caller.server.handle_eof(caller.now),
            Event::Shutdown => caller.server.shutdown(caller.now),
            Event::World(never) => match never {},
        }
        caller.pump(&mut answers);
    }
    caller.finish_tls();
    asks.end(&place, &caller.said);
    let said = String::from_utf8(std::mem::take(&mut caller.said)).unwrap();
    assert!(said.is_empty() || said.ends_with("\r\n"), "{place}: {said:?}");
    assert_eq!(said.replace("\r\n", "\n"), group.said[0], "{place}");
    assert_eq!(caller.closed, group.closed, "{place}: closed");
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
