//! The outcome `obey`: what a helper's advice means for the stage.
//!
//! How it fails: advice that was not found out, and a reply that cannot be read, mean nothing and the stage's default reply.

use super::judge::End;
use super::outcome::default_reply;
use super::stage::Stage;
use super::state::View;
use super::value::Value;
use crate::base::inquiry::Action;
use crate::wire::reply::{Enhanced, Reply};
use std::sync::Arc;

/// Lines of a helper's reply that are passed on at most.
const LINES_MAX: usize = 8;
/// Octets of such a line at most (RFC 5321 §4.5.3.1.5).
const LINE_OCTETS_MAX: usize = 400;

/// How the stage ends by the helper's advice; `None` when rules go on.
pub(super) fn end(helper: &str, view: &View<'_>, stage: Stage) -> Option<End> {
    let text = |function| match view.state.heard_of(function, helper) {
        Value::Text(text) => text,
        _ => "",
    };
    let action = text("helper");
    let refusal = |class: u16| End::Refuse(Arc::new(reply(text("helper_reply"), class, stage)));
    let is = |a: Action| a.word() == action;
    match () {
        () if is(Action::Reject) => Some(refusal(5)),
        () if is(Action::Defer) || is(Action::Greylist) => Some(refusal(4)),
        // Both are about a message; a recipient is taken like any other.
        () if stage == Stage::Rcpt => None,
        () if is(Action::Discard) => Some(End::Discard),
        () if is(Action::Quarantine) => Some(End::Quarantine(format!("{helper} advises it").into())),
        () => None,
    }
}

/// The reply that the helper wants, `550 5.7.1 text` with lines separated by LF, when it fits what it advises.
fn reply(text: &str, class: u16, stage: Stage) -> Reply {
    let default = default_reply(stage, class);
    let Some((code, rest)) = text.split_at_checked(3) else { return default };
    let Some(code) = code.parse::<u16>().ok().filter(|c| c / 100 == class && c / 10 % 10 <= 5) else { return default };
    let (enhanced, rest) = match rest.trim_start().split_once([' ', '\n']) {
        Some((word, rest)) if enhanced_of(word, class).is_some() => (enhanced_of(word, class), rest),
        _ => (default.enhanced, rest),
    };
    let mut reply = Reply::new(code, enhanced, String::new());
    let lines = rest.split('\n').map(|line| line.trim().chars().map(clean).take(LINE_OCTETS_MAX).collect::<String>());
    reply.lines = lines.filter(|l| !l.is_empty()).take(LINES_MAX).map(Into::into).collect();
    if reply.lines.is_empty() {
        reply.lines = default.lines;
    }
    reply
}

/// RFC 5321 §4.2: printable ASCII.
fn clean(c: char) -> char {
    if c.is_ascii_graphic() || c == ' ' { c } else { '?' }
}

fn enhanced_of(word: &str, class: u16) -> Option<Enhanced> {
    let mut parts = word.split('.').map(|p| p.parse::<u16>().ok().filter(|n| *n < 1000));
    let (x, y, z) = (parts.next()??, parts.next()??, parts.next()??);
    (x == class && parts.next().is_none()).then_some(Enhanced(x as u8, y, z))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_helpers() {
        let shown = |text: &str, class| {
            let reply = reply(text, class, Stage::Message);
            format!("{} {} {}", reply.code, reply.enhanced.unwrap(), reply.lines.join("|"))
        };
        assert_eq!(shown("550 5.7.1 Spam\nsee\u{7} there", 5), "550 5.7.1 Spam|see? there");
        assert_eq!(shown("552 virus found", 5), "552 5.7.1 virus found");
        assert_eq!(shown("450 4.7.1 later", 5), "554 5.7.1 Message refused", "a code of another class");
        for other in ["", "x", "55", "5é0 x", "999 x", "550", "550 5.7.1"] {
            assert!(shown(other, 5).starts_with("55"), "{other}");
        }
        assert_eq!(shown("", 4), "451 4.7.1 Try again later");
    }
}
