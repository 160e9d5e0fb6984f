//! Lines are written and read back; lines that are torn, foreign or damaged are told apart; the schema names every field.

use super::*;
use crate::base::body::BodyShape;
use crate::base::envelope::BodyType;
use crate::policy::state::Load;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn text() -> impl Strategy<Value = Text<'static>> {
    prop_oneof!["[a-z@.]{0,12}".prop_map(Text::Owned), any::<String>().prop_map(Text::Owned)]
}

fn load() -> impl Strategy<Value = Load> {
    any::<(u64, u64, u64)>().prop_map(|(connections, memory_percent, queued)| Load {
        connections,
        memory_percent,
        queued,
    })
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        any::<u128>().prop_map(|n| IpAddr::V6(Ipv6Addr::from(n))),
    ]
}

fn tls() -> impl Strategy<Value = Tls<'static>> {
    (text(), text(), text()).prop_map(|(version, cipher, client_name)| Tls { version, cipher, client_name })
}

fn told() -> impl Strategy<Value = Told<'static>> {
    prop_oneof![
        any::<bool>().prop_map(Told::Flag),
        (-1_000_000i64..i64::MAX).prop_map(Told::Number),
        (-1_000_000_000i64..1_000_000_000).prop_map(Told::Score),
        text().prop_map(Told::Text),
        ip().prop_map(Told::Ip),
    ]
}

fn shape() -> impl Strategy<Value = BodyShape> {
    any::<(u64, u64, u32, bool, bool)>().prop_map(|(octets, header_octets, received_fields, eight_bit, binary)| {
        BodyShape { octets, header_octets, received_fields, eight_bit, binary, ..BodyShape::default() }
    })
}

fn what() -> impl Strategy<Value = What<'static>> {
    let body = prop_oneof![Just(BodyType::SevenBit), Just(BodyType::EightBitMime), Just(BodyType::BinaryMime)];
    let fields = prop::collection::vec((text(), prop::option::of(text())), 0..4);
    prop_oneof![
        (text(), prop::option::of(told())).prop_map(|(name, value)| What::Fact { name, value }),
        (any::<bool>(), load()).prop_map(|(early_talker, load)| What::Connect { early_talker, load }),
        (text(), any::<bool>()).prop_map(|(name, extended)| What::Helo { name, extended }),
        tls().prop_map(What::Tls),
        prop::option::of(text()).prop_map(|user| What::Auth { user }),
        (text(), prop::option::of(any::<u64>()), body, any::<bool>(), load())
            .prop_map(|(sender, size, body, smtputf8, load)| What::Mail { sender, size, body, smtputf8, load }),
        text().prop_map(|to| What::Probe { to }),
        (text(), prop::option::of(any::<bool>())).prop_map(|(to, exists)| What::Rcpt { to, exists }),
        Just(What::Refused),
        (any::<u64>(), any::<u32>(), fields, any::<bool>()).prop_map(|(octets, received, fields, cut)| {
            What::Data(Headers { octets, received: received.into(), fields, cut })
        }),
        shape().prop_map(What::Message),
        text().prop_map(|argument| What::Vrfy { argument }),
        Just(What::Reset),
        (text(), text()).prop_map(|(how, reply)| What::Settled { how, reply }),
        (text(), text(), text()).prop_map(|(stage, change, now)| What::Shadow { stage, change, now }),
    ]
}

fn said() -> impl Strategy<Value = Said<'static>> {
    let more = (-1_000_000_000i64..1_000_000_000, text(), text(), text(), text());
    (text(), text(), text(), text(), any::<u64>(), (text(), text(), text()), more).prop_map(
        |(verdict, rule, reply, reason, delay_ms, (route, quarantine, tags), (points, added, would, guard, prior))| {
            Said { verdict, rule, reply, reason, delay_ms, route, quarantine, tags, points, added, would, guard, prior }
        },
    )
}

fn event() -> impl Strategy<Value = Event<'static>> {
    (any::<u64>(), any::<u64>(), what(), prop::option::of(said())).prop_map(|(after_ns, seq, what, said)| {
        let said = said.filter(|_| what.is_asked());
        Event { after_ns, seq, what, said }
    })
}

fn head() -> impl Strategy<Value = Head<'static>> {
    let missing = prop::collection::vec(text(), 0..3);
    (text(), text(), any::<(u64, u64, u64, u64, u16, bool)>(), ip(), prop::option::of(tls()), missing, (text(), text()))
        .prop_map(
            |(run, session, (part, at_ms, start_ns, seq, port, hashed), client, tls, missing, (policy, listener))| {
                let loads = port.into();
                Head {
                    run,
                    session,
                    part,
                    at_ms,
                    start_ns,
                    seq,
                    policy,
                    loads,
                    listener,
                    client,
                    port,
                    tls,
                    hashed,
                    missing,
                }
            },
        )
}

fn line(head: &Head<'_>, events: &[Event<'_>], end: &End) -> String {
    let mut out = Vec::new();
    super::begin(head, &mut out);
    events.iter().for_each(|e| write_event(e, &mut out));
    super::end(end.after_ns, end.seq, end.more, &mut out);
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(head in head(), events in prop::collection::vec(event(), 0..6), n in any::<(u64, u64, bool)>()) {
        let end = End { after_ns: n.0, seq: n.1, more: n.2 };
        let line = line(&head, &events, &end);
        let mut places = Vec::new();
        let (read_head, read_end) = read_line(&line, &mut places).map_err(|e| TestCaseError::fail(format!("{e}: {line}")))?;
        prop_assert_eq!(&read_head, &head);
        prop_assert_eq!(read_end, end);
        let read: Vec<Event<'_>> = places.iter().map(|p| read_event(&line, p).unwrap()).collect();
        prop_assert_eq!(&read, &events);
        // The one that only finds events finds the same.
        let mut found = Vec::new();
        let quick = quick_line(&line, &mut found).map_err(|e| TestCaseError::fail(format!("{e}: {line}")))?;
        prop_assert_eq!((quick, &found), ((read_head, read_end), &places));
        // The naive twin: any reader of JSON reads it.
        prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn a_torn_line_is_torn(events in prop::collection::vec(event(), 0..4), cut in any::<prop::sample::Index>()) {
        let whole = line(&Head::default(), &events, &End::default());
        let mut at = 7 + cut.index(whole.len() - 7);
        while !whole.is_char_boundary(at) {
            at -= 1;
        }
        prop_assert_eq!(read_line(&whole[..at], &mut Vec::new()).unwrap_err(), Unread::Torn);
        prop_assert_eq!(quick_line(&whole[..at], &mut Vec::new()).unwrap_err(), Unread::Torn);
    }

    /// A damaged octet: what is found is read or not, and nothing panics.
    #[test]
    fn a_damaged_line_is_read_or_not(
        events in prop::collection::vec(event(), 0..4),
        at in any::<prop::sample::Index>(),
        octet in "[ -~]",
    ) {
        let mut whole = line(&Head::default(), &events, &End::default());
        let at = at.index(whole.len());
        if whole.is_char_boundary(at) && whole.is_char_boundary(at + 1) {
            whole.replace_range(at..at + 1, &octet);
        }
        let mut places = Vec::new();
        if quick_line(&whole, &mut places).is_ok() {
            let _ = places.iter().filter_map(|p| read_event(&whole, p)).count();
        }
    }
}

#[test]
fn lines_of_others() {
    let mut places = Vec::new();
    let mut read = |text: &str| read_line(text, &mut places).map(|_| ()).unwrap_err();
    assert_eq!(read("Nov 23 12:00:00 mx postfix/smtpd[1]: connect from a[192.0.2.1]"), Unread::Foreign);
    assert_eq!(read("{\"level\":\"info\",\"msg\":\"hello\"}"), Unread::Foreign);
    assert_eq!(read("{\"v\":2,\"events\":7}"), Unread::Version(2));
    assert!(matches!(read("{\"v\":1,\"client\":\"somebody\",\"events\":[],\"end\":{}}"), Unread::Bad(_)));
    assert!(matches!(read("{\"v\":1,\"events\":[{\"event\":\"dance\"}],\"end\":{}}"), Unread::Bad(_)));
    // Other tools sort keys, add some and put blanks between.
    let mut places = Vec::new();
    let line =
        "{ \"end\": {\"after_ns\": 7}, \"events\": [ {\"seq\": 1, \"x\": [1, {}], \"event\": \"reset\"} ], \"v\": 1 } ";
    let (_, end) = read_line(line, &mut places).unwrap();
    assert_eq!((end.after_ns, places.len()), (7, 1));
    assert_eq!(read_event(line, &places[0]).unwrap().what, What::Reset);
}

#[test]
fn the_schema_is_the_one_that_is_published() {
    let there = include_str!("../../../policy/journal.schema.json");
    assert!(there == schema(), "run `gatepost journal schema > policy/journal.schema.json`");
}

#[test]
fn the_schema_names_every_field_that_is_written() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let check = |object: &serde_json::Value, known: &serde_json::Value, place: &str| {
        for key in object.as_object().unwrap().keys() {
            assert!(known["properties"].get(key).is_some(), "the schema does not know {key} of {place}");
        }
    };
    for _ in 0..200 {
        use proptest::strategy::ValueTree;
        let (head, event) = (head(), event()).new_tree(&mut runner).unwrap().current();
        let line = line(&head, std::slice::from_ref(&event), &End { more: true, ..End::default() });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        check(&value, &schema, "a line");
        check(&value["end"], &schema["properties"]["end"], "the end");
        check(&value["events"][0], &schema["properties"]["events"]["items"], "an event");
    }
}
