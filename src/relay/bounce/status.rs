//! The part for programs: `message/delivery-status` (RFC 3464 §2), or its form for addresses with non-ASCII characters
//! (RFC 6533 §4).
//!
//! How it fails: it does not.

use super::lines::field;
use super::{Action, Kind, Reported, Reporter};
use crate::base::envelope::{Envelope, OriginalRecipient, Recipient};
use crate::wire::reply::{Enhanced, Reply};
use crate::wire::xtext;

/// Fields of the message, then of each recipient, in blocks divided by empty lines.
pub(super) fn body(
    kind: Kind,
    envelope: &Envelope,
    reporter: &Reporter<'_>,
    reported: &[(&Recipient, &Reported)],
    utf8: bool,
) -> Vec<u8> {
    let mut out = String::new();
    if let Some(envid) = &envelope.parameters.envid {
        field(&mut out, "Original-Envelope-Id", envid, utf8);
    }
    field(&mut out, "Reporting-MTA", &format!("dns; {}", reporter.hostname), utf8);
    if envelope.origin.client.is_some() && !envelope.origin.helo.is_empty() {
        field(&mut out, "Received-From-MTA", &format!("dns; {}", envelope.origin.helo), utf8);
    }
    field(&mut out, "Arrival-Date", &envelope.origin.received.rfc5322(), utf8);
    for (recipient, reported) in reported {
        out.push_str("\r\n");
        recipient_fields(&mut out, kind, recipient, reported, utf8);
    }
    out.into_bytes()
}

fn recipient_fields(out: &mut String, kind: Kind, recipient: &Recipient, reported: &Reported, utf8: bool) {
    if let Some(original) = &recipient.original {
        field(out, "Original-Recipient", &original_recipient(original, utf8), utf8);
    }
    let kind_of_address = if recipient.mailbox.is_international() { "utf-8" } else { "rfc822" };
    field(out, "Final-Recipient", &format!("{kind_of_address}; {}", recipient.mailbox), utf8);
    field(out, "Action", reported.action.word(), utf8);
    field(out, "Status", &status(reported).to_string(), utf8);
    if let Some(remote) = &reported.remote {
        field(out, "Remote-MTA", &format!("dns; {remote}"), utf8);
    }
    if let Some(reply) = &reported.reply {
        field(out, "Diagnostic-Code", &format!("smtp; {}", on_one_line(reply)), utf8);
    }
    if let Some(at) = reported.last_attempt {
        field(out, "Last-Attempt-Date", &at.rfc5322(), utf8);
    }
    if let Kind::Delay { until } = kind {
        field(out, "Will-Retry-Until", &until.rfc5322(), utf8);
    }
}

/// As the client gave it; in the ASCII form of RFC 6533 §3 where the part has no UTF-8.
fn original_recipient(original: &OriginalRecipient, utf8: bool) -> String {
    let address = match original.address_type.eq_ignore_ascii_case("utf-8") {
        true => xtext::encode_utf8_address(&original.address, utf8),
        false => original.address.clone(),
    };
    format!("{};{address}", original.address_type)
}

fn on_one_line(reply: &Reply) -> String {
    let mut text = reply.code.to_string();
    if let Some(enhanced) = reply.enhanced {
        text.push_str(&format!(" {enhanced}"));
    }
    for line in &reply.lines {
        text.push(' ');
        text.push_str(line);
    }
    text
}

/// The reply's enhanced code, or the least that can be said (RFC 3463 §3.1). Its class must fit the action
/// (RFC 3464 §2.3.4: delivered is 2, delayed is 4).
pub(super) fn status(reported: &Reported) -> Enhanced {
    let from_reply = reported.reply.as_ref().map(|r| {
        let class = (r.code / 100) as u8;
        r.enhanced.unwrap_or(Enhanced(class, 0, 0))
    });
    let fits = |e: &Enhanced| match reported.action {
        Action::Failed => matches!(e.0, 4 | 5),
        Action::Delayed => e.0 == 4,
        Action::Delivered | Action::Relayed => e.0 == 2,
    };
    let plain = match reported.action {
        Action::Failed => Enhanced(5, 0, 0),
        Action::Delayed => Enhanced(4, 0, 0),
        Action::Delivered | Action::Relayed => Enhanced(2, 0, 0),
    };
    from_reply.filter(fits).unwrap_or(plain)
}
