//! The framer over any split of its input: scripts of what is said and what comes out.

use super::*;
use proptest::prelude::*;

/// What a session would do with an announcement in these tests: messages up to so many octets are taken.
const MESSAGE_OCTETS_MAX: u64 = 1000;

fn limits() -> FrameLimits {
    FrameLimits { line_octets_max: 200, literal_octets_max: 50, literals_max: 4 }
}

/// Everything that comes out, one line each; message octets joined.
fn told(bytes: &[u8], splits: &[usize]) -> Vec<String> {
    let mut framer = Framer::new(limits());
    let mut told: Vec<String> = Vec::new();
    let mut message = Vec::new();
    let mut ends: Vec<usize> = splits.iter().map(|s| s % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let mut at = 0;
    for end in ends {
        let mut input = Input::new(&bytes[at..end]);
        loop {
            match framer.next(&mut input) {
                Framed::NeedMore => break,
                Framed::Literal { start, octets, non_sync, binary, message } => {
                    let form = format!("{}{}", if binary { "~" } else { "" }, if non_sync { "+" } else { "" });
                    told.push(format!("literal {} {octets}{form}", String::from_utf8_lossy(start)));
                    match message {
                        true if octets <= MESSAGE_OCTETS_MAX => framer.accept_message(),
                        true => framer.refuse(),
                        false if told.last().is_some_and(|t| t.contains("REFUSE")) => framer.refuse(),
                        false => framer.accept_inline(),
                    }
                }
                Framed::MessageOctets(octets) => {
                    assert!(!octets.is_empty());
                    message.extend_from_slice(octets);
                }
                Framed::MessageEnd => {
                    told.push(format!("message {}", String::from_utf8_lossy(&std::mem::take(&mut message))))
                }
                Framed::Command(command) => told.push(format!("command {}", String::from_utf8_lossy(&command))),
                Framed::TooLong { tag, why } => told.push(format!("bad {}: {why}", tag.unwrap_or("*".into()))),
            }
        }
        assert!(input.is_empty(), "what was not taken is shown again, but here all can be taken");
        at = end;
    }
    assert!(framer.command.capacity() < 1000, "{}", framer.command.capacity());
    told
}

#[track_caller]
fn check(script: &str, expected: &[&str]) {
    let bytes = script.as_bytes();
    assert_eq!(told(bytes, &[]), expected, "whole");
    assert_eq!(told(bytes, &(0..bytes.len()).collect::<Vec<_>>()), expected, "octet by octet");
    for cut in 0..bytes.len() {
        assert_eq!(told(bytes, &[cut]), expected, "cut at {cut}");
    }
}

#[test]
fn lines_are_commands() {
    check(
        "a NOOP\r\nb NOOP\nc\r\n\r\nDONE\r\nd",
        &["command a NOOP", "command b NOOP", "command c", "command ", "command DONE"],
    );
}

#[test]
fn ordinary_literals_stand_in_the_command() {
    check(
        "a LOGIN {3}\r\nu\r\n {4+}\r\npass\r\nb NOOP\r\n",
        &[
            "literal a LOGIN  3",
            "literal a LOGIN {3}\r\nu\r\n  4+",
            "command a LOGIN {3}\r\nu\r\n {4}\r\npass",
            "command b NOOP",
        ],
    );
    check("a SELECT {0}\r\n\r\n", &["literal a SELECT  0", "command a SELECT {0}\r\n"]);
    // What a literal contains announces nothing.
    check(
        "a LOGIN x {4}\r\n {9}\r\nb NOOP\r\n",
        &["literal a LOGIN x  4", "command a LOGIN x {4}\r\n {9}", "command b NOOP"],
    );
}

#[test]
fn what_only_looks_like_a_literal_is_text() {
    for line in ["a {x}", "a b{3}", "a {}", "a {3", "a 3}", "{3}", "a {3++}", "a {99999999999999999999}", "a {3} "] {
        check(&format!("{line}\r\n"), &[&format!("command {line}")]);
    }
}

#[test]
fn messages_are_streamed() {
    check(
        "a APPEND INBOX (\\Seen) {5}\r\nHello (\\Draft) ~{3}\r\na\0b\r\n",
        &[
            "literal a APPEND INBOX (\\Seen)  5",
            "message Hello",
            "literal a APPEND INBOX (\\Seen) {5}\r\n (\\Draft)  3~",
            "message a\0b",
            "command a APPEND INBOX (\\Seen) {5}\r\n (\\Draft) ~{3}\r\n",
        ],
    );
    check(
        "a append {3}\r\nbox UTF8 (~{2+}\r\nhi)\r\n",
        &[
            "literal a append  3",
            "literal a append {3}\r\nbox UTF8 ( 2~+",
            "message hi",
            "command a append {3}\r\nbox UTF8 (~{2}\r\n)",
        ],
    );
    check("a APPEND x {0}\r\n\r\n", &["literal a APPEND x  0", "message ", "command a APPEND x {0}\r\n"]);
    for replace in ["REPLACE 3", "uid replace 3"] {
        check(
            &format!("a {replace} {{1}}\r\nx {{2}}\r\nhi\r\n"),
            &[
                &format!("literal a {replace}  1"),
                &format!("literal a {replace} {{1}}\r\nx  2"),
                "message hi",
                &format!("command a {replace} {{1}}\r\nx {{2}}\r\n"),
            ],
        );
    }
}

#[test]
fn a_refused_literal_does_not_come_or_is_skipped() {
    check("a APPEND x {2000}\r\nb NOOP\r\n", &["literal a APPEND x  2000", "command b NOOP"]);
    let big = "y".repeat(2000);
    check(&format!("a APPEND x {{2000+}}\r\n{big}\r\nb NOOP\r\n"), &["literal a APPEND x  2000+", "command b NOOP"]);
    // Non-synchronizing literals behind it come too; a synchronizing one never does.
    check(
        &format!("a APPEND x {{2000+}}\r\n{big} {{3+}}\r\na\r\n {{4}}\r\nb NOOP\r\n"),
        &["literal a APPEND x  2000+", "command b NOOP"],
    );
    check("a REFUSE {3}\r\nb NOOP\r\n", &["literal a REFUSE  3", "command b NOOP"]);
}

#[test]
fn what_is_too_much_is_skipped_to_its_end() {
    let long = "x".repeat(300);
    check(&format!("a {long}\r\nb NOOP\r\n"), &["bad a: the command line is too long", "command b NOOP"]);
    check(&format!("{long}\r\nb NOOP\r\n"), &["bad *: the command line is too long", "command b NOOP"]);
    check(
        &format!("a {long} {{4+}}\r\nc\r\nd\r\nb NOOP\r\n"),
        &["bad a: the command line is too long", "command b NOOP"],
    );
    check(&format!("a {long} {{4}}\r\nb NOOP\r\n"), &["bad a: the command line is too long", "command b NOOP"]);
    check("a x\0y\r\nb NOOP\r\n", &["bad a: a command line cannot contain NUL", "command b NOOP"]);
    check("a LOGIN {51}\r\nb NOOP\r\n", &["bad a: the literal is too long", "command b NOOP"]);
    let user = "u".repeat(51);
    check(&format!("a LOGIN {{51+}}\r\n{user} x\r\nb NOOP\r\n"), &["bad a: the literal is too long", "command b NOOP"]);
    check(
        "a X {1}\r\n1 {1}\r\n2 {1}\r\n3 {1}\r\n4 {1+}\r\n5\r\nb NOOP\r\n",
        &[
            "literal a X  1",
            "literal a X {1}\r\n1  1",
            "literal a X {1}\r\n1 {1}\r\n2  1",
            "literal a X {1}\r\n1 {1}\r\n2 {1}\r\n3  1",
            "bad a: too many literals in one command",
            "command b NOOP",
        ],
    );
}

proptest! {
    #[test]
    fn no_split_makes_a_difference(
        pieces in prop::collection::vec(prop_oneof![
            Just("a "), Just("APPEND "), Just("x "), Just("UID REPLACE 1 "), Just("REFUSE "), Just("\r\n"), Just("\n"), Just("\r"), Just("\0"),
            Just(" {3}\r\n"), Just(" {5+}\r\n"), Just(" ~{0}\r\n"), Just(" (~{4+}\r\n"), Just(" {1001}\r\n"), Just("{60+}\r\n"), Just(" {60+}\r\n"),
            Just("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), Just("}"), Just(")"),
        ], 0..30),
        splits in prop::collection::vec(0usize..500, 0..12),
    ) {
        let script = pieces.concat();
        prop_assert_eq!(told(script.as_bytes(), &splits), told(script.as_bytes(), &[]));
    }
}
