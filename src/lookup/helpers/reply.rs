//! Replies that helpers want a client to hear, made fit for SMTP.
//!
//! How it fails: a text that is no refusal is `None`.

use crate::base::inquiry::{Action, Advice};

/// Octets of a line's text at most: RFC 5321 §4.5.3.1.5 allows 512 with code and line end.
const LINE_OCTETS_MAX: usize = 480;
/// Lines at most.
const LINES_MAX: usize = 20;

/// A refusal in a helper's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// 5xx rather than 4xx.
    pub permanent: bool,
    /// As [`Advice::reply`] has it; `None` leaves the words to us.
    pub reply: Option<Box<str>>,
}

impl Refusal {
    /// Without words.
    pub(super) fn plain(permanent: bool) -> Refusal {
        Refusal { permanent, reply: None }
    }

    /// As advice.
    pub(super) fn advice(self) -> Advice {
        let action = if self.permanent { Action::Reject } else { Action::Defer };
        Advice { action, reply: self.reply, ..Advice::default() }
    }
}

/// Reads `550 5.7.1 text` or its form in several lines, with code and enhanced code in each of them or in the first.
pub(super) fn refusal(text: &str) -> Option<Refusal> {
    let code = text.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
    let permanent = match code.as_bytes()[0] {
        b'4' => false,
        b'5' => true,
        _ => return None,
    };
    if !matches!(text.as_bytes().get(3), None | Some(b' ' | b'-')) {
        return None;
    }
    let mut enhanced: Option<&str> = None;
    let mut lines = Vec::new();
    for line in text.split('\n').map(|line| line.trim_end_matches('\r')).take(LINES_MAX) {
        let rest = match line.strip_prefix(code) {
            Some(rest) => rest.trim_start_matches([' ', '-']),
            None => line,
        };
        let (word, rest) = split_enhanced(rest, code);
        enhanced = enhanced.or(word);
        lines.push(line_text(rest));
    }
    while lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let enhanced = enhanced.unwrap_or(if permanent { "5.7.1" } else { "4.7.1" });
    Some(Refusal { permanent, reply: Some(format!("{code} {enhanced} {}", lines.join("\n")).trim_end().into()) })
}

/// A refusal with a code of ours in front of a helper's words.
pub(super) fn refusal_with(code: &str, text: &str) -> Option<Refusal> {
    refusal(&format!("{code} {text}"))
}

/// An enhanced code of the class of `code` at the front (RFC 3463 §2), and the rest.
fn split_enhanced<'a>(text: &'a str, code: &str) -> (Option<&'a str>, &'a str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = word.split('.');
    let class = parts.next() == code.get(..1);
    let numbers = parts.clone().count() == 2
        && parts.all(|part| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()));
    if class && numbers { (Some(word), rest.trim_start()) } else { (None, text) }
}

/// Without control characters, not too long.
fn line_text(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        let c = if c.is_control() { '?' } else { c };
        if line.len() + c.len_utf8() > LINE_OCTETS_MAX {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(text: &str) -> Option<String> {
        refusal(text).map(|r| r.reply.unwrap().into())
    }

    #[test]
    fn replies_in_every_form() {
        for (said, heard) in [
            ("550 5.7.1 no", "550 5.7.1 no"),
            ("554 no", "554 5.7.1 no"),
            ("451", "451 4.7.1"),
            ("451 4.2.1 later", "451 4.2.1 later"),
            // An enhanced code of another class is words.
            ("550 4.2.1 odd", "550 5.7.1 4.2.1 odd"),
            ("550-5.7.1 one\r\n550 5.7.1 two\r\n", "550 5.7.1 one\ntwo"),
            ("450-one\n450-\n450 two", "450 4.7.1 one\n\ntwo"),
            ("550 5.7.1 a\tb\x07", "550 5.7.1 a?b?"),
        ] {
            assert_eq!(reply(said).as_deref(), Some(heard), "{said:?}");
        }
        for said in ["", "55", "250 ok", "5500 x", "550x", "abc def", "\u{e9}50 x", "650 x"] {
            assert_eq!(reply(said), None, "{said:?}");
        }
        assert_eq!(refusal_with("450", "4.2.0 greylisted").unwrap().reply.as_deref(), Some("450 4.2.0 greylisted"));
    }

    proptest! {
        #[test]
        fn what_comes_out_can_be_a_reply(text in "[45][0-9]{2}[ -](?s:.{0,600})") {
            let reply = reply(&text).unwrap();
            prop_assert_eq!(&reply[..3], &text[..3]);
            prop_assert!(reply.split('\n').all(|line| line.len() < 505 && !line.chars().any(char::is_control)));
        }
    }
}
