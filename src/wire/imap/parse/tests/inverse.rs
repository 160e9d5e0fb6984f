//! Parse and emit undo each other: what is written by one is read by the other as what it was.

use super::*;
use crate::base::mailbox::ask::{Section, SectionWhat};
use crate::wire::imap::canonical_name;

fn emitted(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn forms_of_strings() {
    for (text, utf8, string, astring) in [
        ("abc", false, "\"abc\"", "abc"),
        ("", false, "\"\"", "\"\""),
        ("NIL", false, "\"NIL\"", "\"NIL\""),
        ("a\"b\\", false, "\"a\\\"b\\\\\"", "\"a\\\"b\\\\\""),
        ("a]", false, "\"a]\"", "a]"),
        ("é", false, "{2}\r\né", "{2}\r\né"),
        ("é", true, "\"é\"", "\"é\""),
        ("a\r\nb", true, "{4}\r\na\r\nb", "{4}\r\na\r\nb"),
        ("a\0b", false, "{3}\r\na?b", "{3}\r\na?b"),
    ] {
        assert_eq!(emitted(|out| emit::string(out, text.as_bytes(), utf8)), string);
        assert_eq!(emitted(|out| emit::astring(out, text.as_bytes(), utf8)), astring);
    }
    assert_eq!(emitted(|out| emit::nstring(out, None, false)), "NIL");
    let long = "x".repeat(emit::QUOTED_OCTETS_MAX + 1);
    assert!(emitted(|out| emit::string(out, long.as_bytes(), false)).starts_with("{1001}\r\n"));
    let mut latin = Vec::new();
    emit::string(&mut latin, b"\xfc", true);
    assert_eq!(latin, b"{1}\r\n\xfc");
}

#[test]
fn forms_of_other_values() {
    let time = ZonedTime { at: WallTime::from_millis(1_770_102_000_000), zone_minutes: 60 };
    assert_eq!(emitted(|out| emit::date_time(out, time)), "\" 3-Feb-2026 08:00:00 +0100\"");
    assert_eq!(emitted(|out| emit::date_time_utc(out, time.at)), "\" 3-Feb-2026 07:00:00 +0000\"");
    let west = ZonedTime { at: WallTime::from_millis(0), zone_minutes: -90 };
    assert_eq!(emitted(|out| emit::date_time(out, west)), "\"31-Dec-1969 22:30:00 -0130\"");
    let flags = Flags::SEEN.with(Flags::keyword(0)).with(Flags::keyword(7));
    assert_eq!(emitted(|out| emit::message_flags(out, flags, &["a".into()], true)), "(\\Seen a \\Recent)");
    assert_eq!(emitted(|out| emit::message_flags(out, Flags::NONE, &[], false)), "()");
    assert_eq!(emitted(|out| emit::uid_set(out, &[1, 2, 3, 9].into_iter().collect())), "1:3,9");
    for n in [0, 9, 10, 12_345, u64::MAX] {
        assert_eq!(emitted(|out| emit::number(out, n)), n.to_string());
    }
    let mut out = Vec::new();
    let mut row = emit::FetchWriter::new(&mut out, 12);
    row.uid(34);
    row.flags(Flags::SEEN, &[], false);
    row.mod_seq(56);
    row.internal_date(time);
    row.size(78);
    emit::nstring(row.attribute("BODY[1]"), None, false);
    row.end();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "* 12 FETCH (UID 34 FLAGS (\\Seen) MODSEQ (56) INTERNALDATE \" 3-Feb-2026 08:00:00 +0100\" RFC822.SIZE 78 BODY[1] NIL)\r\n"
    );
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![5 => (1u32..).prop_map(Bound::Number), 1 => Just(Bound::Highest)]
}

fn flag_names() -> impl Strategy<Value = FlagNames> {
    (0u64..32, prop::collection::btree_set("[a-z$!]{1,9}", 0..5))
        .prop_map(|(system, keywords)| FlagNames { system: Flags(system), keywords: keywords.into_iter().collect() })
}

proptest! {
    #[test]
    fn names(name in "[^\0]{1,30}", utf8: bool) {
        let mode = Mode { utf8 };
        let wire = emitted(|out| emit::mailbox(out, &name, mode));
        prop_assert_eq!(command_in(&format!("DELETE {wire}"), mode), Command::Delete(canonical_name(name)));
    }

    #[test]
    fn strings(text in "[^\0]{0,40}", utf8: bool) {
        let wire = emitted(|out| emit::string(out, text.as_bytes(), utf8));
        let search = command(&format!("SEARCH TEXT {wire}"));
        prop_assert!(matches!(search, Command::Search(s) if s.key == SearchKey::Text(text.clone())));
        let wire = emitted(|out| emit::astring(out, text.as_bytes(), utf8));
        prop_assert_eq!(command(&format!("GETQUOTA {wire}")), Command::GetQuota(text));
    }

    #[test]
    fn sets(ranges in prop::collection::vec((bound(), bound()), 1..8), saved in prop::bool::weighted(0.1)) {
        let set = if saved { SequenceSet::Saved } else { SequenceSet::Ranges(ranges) };
        let wire = emitted(|out| emit::sequence_set(out, &set));
        prop_assert_eq!(command(&format!("UID EXPUNGE {wire}")), Command::Expunge { uids: Some(set) });
    }

    #[test]
    fn uid_sets(uids in prop::collection::btree_set(1u32..50, 1..20)) {
        let set: UidSet = uids.into_iter().collect();
        let wire = emitted(|out| emit::uid_set(out, &set));
        prop_assert_eq!(&wire, &set.to_string());
        let ranges = set.ranges().iter().map(|(a, b)| numbers(*a, *b)).collect();
        prop_assert_eq!(command(&format!("UID EXPUNGE {wire}")), Command::Expunge { uids: Some(SequenceSet::Ranges(ranges)) });
    }

    #[test]
    fn flags_and_dates(flags in flag_names(), seconds in 86_400u64..253_402_000_000, zone_minutes in -1439i16..1440) {
        let date = ZonedTime { at: WallTime::from_millis(seconds * 1000), zone_minutes };
        let wire = emitted(|out| {
            emit::flag_list(out, &flags);
            out.push(b' ');
            emit::date_time(out, date);
        });
        let message = AppendMessage { flags, date: Some(date), literal: 0, utf8: false };
        prop_assert_eq!(command(&format!("APPEND x {wire} {{9}}\r\n")), Command::Append { mailbox: "x".into(), messages: vec![message] });
    }

    #[test]
    fn labels(part in prop::collection::vec(1u32.., 0..5), what in 0..5, names in prop::collection::vec("[!-9;-~]{1,9}", 1..4), first in prop::option::of(0u64..1 << 40)) {
        let what = match what {
            0 => SectionWhat::All,
            1 => SectionWhat::Header,
            2 => SectionWhat::Text,
            3 if !part.is_empty() => SectionWhat::Mime,
            3 => SectionWhat::All,
            _ => SectionWhat::Fields { names, not: part.is_empty() },
        };
        let partial = first.map(|f| (f, 7));
        let section = Section { part, what, partial, decoded: false, size_only: false };
        let label = label_of(&section);
        // The answer tells only where a piece begins.
        let asked = match label.strip_suffix('>').filter(|_| first.is_some()) {
            Some(front) => format!("{front}.7>"),
            None => label.clone(),
        };
        let Command::Fetch(fetch) = command(&format!("FETCH 1 {asked}")) else { panic!() };
        prop_assert_eq!(&fetch.items.sections, &vec![section]);
        prop_assert_eq!(&fetch.attributes, &vec![FetchAttribute::Section { label, index: 0 }]);
    }

    #[test]
    fn object_ids(id: u64) {
        let email = emitted(|out| emit::email_id(out, crate::base::mailbox::ContentId(id)));
        prop_assert_eq!(emit::parse_email_id(&email), Some(crate::base::mailbox::ContentId(id)));
        let thread = emitted(|out| emit::thread_id(out, id));
        prop_assert_eq!(emit::parse_thread_id(&thread), Some(id));
    }
}

/// The label of a section, written independently of the parser.
fn label_of(section: &Section) -> String {
    let mut inside: Vec<String> = section.part.iter().map(u32::to_string).collect();
    match &section.what {
        SectionWhat::All => {}
        SectionWhat::Header => inside.push("HEADER".into()),
        SectionWhat::Text => inside.push("TEXT".into()),
        SectionWhat::Mime => inside.push("MIME".into()),
        SectionWhat::Fields { names, not } => {
            let names: Vec<String> =
                names.iter().map(|n| emitted(|out| emit::astring(out, n.as_bytes(), false))).collect();
            inside.push(format!("HEADER.FIELDS{} ({})", if *not { ".NOT" } else { "" }, names.join(" ")));
        }
    }
    let partial = section.partial.map(|(first, _)| format!("<{first}>")).unwrap_or_default();
    format!("BODY[{}]{partial}", inside.join("."))
}
