//! What is no command, and what the client is told.

use super::*;
use crate::wire::imap::{SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX, SET_RANGES_MAX};

#[track_caller]
fn bad(text: &str) -> BadCommand {
    match parse(text.as_bytes(), REV1) {
        Err(bad) => bad,
        Ok(tagged) => panic!("{text}: {:?}", tagged.command),
    }
}

#[test]
fn reasons_say_what_was_expected_where() {
    for (text, why) in [
        ("a1", "expected a space, found the end"),
        ("a1 ", "expected a command, found the end"),
        ("a1 FROB x", "no such command"),
        ("a1 UID NOOP", "no such command"),
        ("a1 UID", "expected a space, found the end"),
        ("a1 NOOP x", "NOOP: expected the end of the command, found \"x\""),
        ("a1 SELECT", "SELECT: expected a space, found the end"),
        ("a1 SELECT (x)", "SELECT: expected a mailbox name, found \"(x)\""),
        ("a1 SELECT x (FOO)", "SELECT: expected CONDSTORE or QRESYNC, found \"FOO)\""),
        ("a1 SELECT x (QRESYNC (1 2 1:*))", "SELECT: expected a set of numbers without *, found \"1:*))\""),
        ("a1 DELETE &Jjo!", "DELETE: the mailbox name is no valid modified UTF-7"),
        ("a1 CREATE x (USE (\\Nope))", "CREATE: expected a special use, found \"\\Nope))\""),
        ("a1 LOGIN secret", "LOGIN: expected a user name and a password"),
        ("a1 LOGIN a b c", "LOGIN: expected a user name and a password"),
        ("a1 FETCH 1 FOO", "FETCH: expected a FETCH attribute, found \"FOO\""),
        ("a1 FETCH 1 (FLAGS", "FETCH: expected a space, found the end"),
        ("a1 FETCH 0 FLAGS", "FETCH: expected a message number or *, found \"0 FLAGS\""),
        ("a1 FETCH 4294967296 FLAGS", "FETCH: expected a message number or *, found \"4294967296 FLAGS\""),
        ("a1 FETCH 1: FLAGS", "FETCH: expected a message number or *, found \" FLAGS\""),
        ("a1 FETCH 1 BODY[1.]", "FETCH: expected a part number or HEADER, TEXT, MIME, found \"]\""),
        ("a1 FETCH 1 BODY[MIME]", "FETCH: expected HEADER, HEADER.FIELDS, TEXT or MIME, found \"MIME]\""),
        ("a1 FETCH 1 BODY[1TEXT]", "FETCH: expected ']', found \"TEXT]\""),
        ("a1 FETCH 1 BODY[]<0.0>", "FETCH: expected a number of octets, found \"0>\""),
        ("a1 FETCH 1 BINARY[TEXT]", "FETCH: expected ']', found \"TEXT]\""),
        ("a1 FETCH 1 BODY[HEADER.FIELDS (\"a:b\")]", "FETCH: expected a field name, found \"\"a:b\")]\""),
        ("a1 FETCH 1 FLAGS (VANISHED)", "FETCH: VANISHED goes with UID FETCH and CHANGEDSINCE only"),
        ("a1 STORE 1 FLAG x", "STORE: expected FLAGS or FLAGS.SILENT, found \"FLAG x\""),
        ("a1 STORE 1 FLAGS \\Recent", "STORE: expected a system flag that can be stored, found \"\\Recent\""),
        ("a1 APPEND x hello", "APPEND: expected a message literal, found \"hello\""),
        ("a1 APPEND x UTF8 ({3}\r\n)", "APPEND: UTF8 takes a literal of the form ~{n}"),
        ("a1 REPLACE 1:2 x {3}\r\n", "REPLACE: expected a single message, found \":2 x {3}??\""),
        ("a1 SEARCH FOO", "SEARCH: expected a search key, found \"FOO\""),
        ("a1 SEARCH FROM", "SEARCH: expected a space, found the end"),
        ("a1 SEARCH BEFORE 31-Feb-2026", "SEARCH: expected a date such as 3-Feb-2026, found \"31-Feb-2026\""),
        ("a1 SEARCH RETURN (ALL PARTIAL 1:2) ALL", "SEARCH: ALL and PARTIAL exclude each other"),
        (
            "a1 SEARCH RETURN (UPDATE) ALL",
            "SEARCH: expected MIN, MAX, ALL, COUNT, SAVE or PARTIAL, found \"UPDATE) ALL\"",
        ),
        ("a1 LIST (RECURSIVEMATCH) \"\" *", "LIST: RECURSIVEMATCH needs a selection such as SUBSCRIBED"),
        ("a1 LIST \"\" * RETURN (FOO)", "LIST: expected a return option, found \"FOO)\""),
        ("a1 STATUS x ()", "STATUS: expected a status item, found \")\""),
        ("a1 DELETE \"x", "DELETE: expected a closing quote, found the end"),
        ("a1 DELETE \"x\\y\"", "DELETE: expected \\\" or \\\\, found \"y\"\""),
        ("a1 DELETE ~{1}\r\nx", "DELETE: expected a string, found binary data"),
        ("a1 DELETE {5}\r\nx", "DELETE: expected the octets of a literal, found \"x\""),
        ("a1 DELETE {1}\r\n\0", "DELETE: a literal cannot contain NUL"),
        (
            "a1 FETCH 1 verylongattributenamethatgoeson",
            "FETCH: expected a FETCH attribute, found \"verylongattributenametha...\"",
        ),
    ] {
        let bad = bad(text);
        assert_eq!((bad.tag.as_deref(), bad.why.as_str()), (Some("a1"), why), "{text}");
        assert!(!bad.badcharset);
    }
}

#[test]
fn without_a_tag_there_is_none() {
    for text in ["", " NOOP", "(a NOOP", "* NOOP", "+ NOOP", "\"a\" NOOP", "é NOOP"] {
        assert_eq!(bad(text).tag, None, "{text}");
    }
}

#[test]
fn octets_that_are_no_text() {
    for text in [
        &b"a DELETE \"\xff\""[..],
        b"a DELETE {1}\r\n\xff",
        b"a SEARCH TEXT {1}\r\n\xff",
        b"a \xff",
        b"a LOGIN {1}\r\n\xff x",
    ] {
        assert!(parse(text, REV1).is_err() && parse(text, UTF8).is_err());
    }
}

#[test]
fn charsets_that_are_not_known() {
    for text in ["a SEARCH CHARSET none-such ALL", "a SORT (DATE) x-y ALL", "a THREAD REFERENCES \"\" ALL"] {
        assert!(bad(text).badcharset, "{text}");
    }
}

#[test]
fn limits() {
    let nested = |depth: usize| format!("a SEARCH {}ALL{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(nested(SEARCH_DEPTH_MAX).as_bytes(), REV1).is_ok());
    assert!(bad(&nested(SEARCH_DEPTH_MAX + 1)).why.contains("deep"));
    assert!(bad(&format!("a SEARCH {}ALL", "NOT ".repeat(60_000))).why.contains("deep"));
    assert!(bad(&format!("a SEARCH {}ALL", "OR ALL ".repeat(60_000))).why.contains("deep"));
    assert!(parse(format!("a SEARCH{}", " ALL".repeat(SEARCH_KEYS_MAX)).as_bytes(), REV1).is_ok());
    assert!(bad(&format!("a SEARCH{}", " ALL".repeat(SEARCH_KEYS_MAX + 1))).why.contains("more than"));
    let set = |ranges: usize| format!("a FETCH {}1 UID", "1,".repeat(ranges - 1));
    assert!(parse(set(SET_RANGES_MAX).as_bytes(), REV1).is_ok());
    assert!(bad(&set(SET_RANGES_MAX + 1)).why.contains("ranges"));
    assert!(bad(&format!("a STORE 1 FLAGS ({})", "x ".repeat(200))).why.contains("more than"));
    assert!(bad(&format!("a STORE 1 FLAGS {}", "x".repeat(101))).why.contains("octets"));
    assert!(bad(&format!("a DELETE {}", "x".repeat(501))).why.contains("octets"));
    assert!(bad(&format!("a FETCH 1 BODY[{}1]", "1.".repeat(128))).why.contains("at most"));
}

proptest! {
    #[test]
    fn no_octets_are_too_strange(text: Vec<u8>, utf8: bool) {
        let _ = parse(&text, Mode { utf8 });
    }

    #[test]
    fn nearly_commands_are_no_trouble(
        verb in prop::sample::select(COMMANDS.iter().map(|c| c.0).chain(UID_COMMANDS.iter().map(|c| c.0)).collect::<Vec<_>>()),
        uid: bool,
        pieces in prop::collection::vec(prop_oneof![
            Just(" "), Just(" "), Just("("), Just(")"), Just("["), Just("]"), Just("<"), Just(">"), Just("."), Just(":"), Just(","),
            Just("*"), Just("$"), Just("1"), Just("0"), Just("99999999999999999999"), Just("NIL"), Just("\"a\""), Just("\"\\"),
            Just("{1}\r\nx"), Just("~{1}\r\n"), Just("{9999999999}\r\n"), Just("BODY"), Just("BINARY"), Just("HEADER.FIELDS"), Just("FLAGS"),
            Just("RETURN"), Just("NOT"), Just("OR"), Just("UID"), Just("STATUS"), Just("QRESYNC"), Just("UTF8"), Just("\\Seen"),
            Just("1-Jan-2026"), Just("CHARSET"), Just("&"), Just("é"), Just("PARTIAL"), Just("-1"), Just("MODSEQ"),
        ], 0..14),
        mode: bool,
    ) {
        let text = format!("t {}{verb} {}", if uid { "UID " } else { "" }, pieces.concat());
        if let Err(bad) = parse(text.as_bytes(), Mode { utf8: mode }) {
            prop_assert_eq!(bad.tag.as_deref(), Some("t"));
            prop_assert!(bad.why.len() < 200 && bad.why.bytes().all(|b| matches!(b, b' '..=b'~')), "{}", bad.why);
        }
    }
}
