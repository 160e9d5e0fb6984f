//! The part for people.
//!
//! How it fails: it does not.

use super::lines::clean;
use super::{Action, Kind, Reported, Reporter};
use crate::base::envelope::Recipient;

/// Recipients listed with their replies at most; a person does not read more, the status part has them all.
const LISTED_MAX: usize = 50;

/// The subject.
pub(super) fn subject(kind: Kind) -> &'static str {
    match kind {
        Kind::Failure => "Undelivered mail: your message could not be delivered",
        Kind::Delay { .. } => "Delayed mail: your message is still on its way",
        Kind::Success => "Delivery report: your message was delivered",
    }
}

/// What happened, to whom, and what the sender can do.
pub(super) fn body(kind: Kind, reporter: &Reporter<'_>, reported: &[(&Recipient, &Reported)]) -> String {
    let mut out = format!("This is the mail server {}.\r\n\r\n", reporter.hostname);
    match kind {
        Kind::Failure => out.push_str(
            "Your message could not be delivered to the recipients below.\r\nNo further attempt will be made.\r\n",
        ),
        Kind::Delay { until } => {
            out.push_str("Your message could not be delivered to the recipients below YET.\r\n");
            out.push_str("You do not have to send it again: it will be tried again until\r\n");
            out.push_str(&format!("{}.\r\n", until.rfc5322()));
        }
        Kind::Success => out.push_str("You asked to be told: your message has reached these recipients.\r\n"),
    }
    for (recipient, reported) in reported.iter().take(LISTED_MAX) {
        out.push_str(&format!("\r\n<{}>\r\n", recipient.mailbox));
        reasons(&mut out, reported);
    }
    if reported.len() > LISTED_MAX {
        out.push_str(&format!("\r\nand {} more; the report has them all.\r\n", reported.len() - LISTED_MAX));
    }
    out
}

fn reasons(out: &mut String, reported: &Reported) {
    if reported.action == Action::Relayed {
        out.push_str("    was passed to a server that does not send such reports\r\n");
    }
    let Some(reply) = &reported.reply else { return };
    match &reported.remote {
        Some(remote) => out.push_str(&format!("    {} said:\r\n", clean(remote, true))),
        None => out.push_str("    reason:\r\n"),
    }
    let code = match reply.enhanced {
        Some(enhanced) => format!("{} {enhanced}", reply.code),
        None => reply.code.to_string(),
    };
    for (i, line) in reply.lines.iter().enumerate() {
        let head = if i == 0 { code.as_str() } else { "" };
        wrapped(out, &format!("{head} {}", clean(line, true)));
    }
}

/// Appends text indented and in lines of about 76 characters.
fn wrapped(out: &mut String, text: &str) {
    let mut column = usize::MAX;
    for word in text.split_whitespace() {
        // A word longer than any line is cut: RFC 5322 §2.1.1 allows 998 octets.
        let word: String = word.chars().take(200).collect();
        let length = word.chars().count() + 1;
        if column.saturating_add(length) > 76 {
            out.push_str(if column == usize::MAX { "    " } else { "\r\n    " });
            column = 4;
        } else {
            out.push(' ');
        }
        out.push_str(&word);
        column += length;
    }
    if column != usize::MAX {
        out.push_str("\r\n");
    }
}
