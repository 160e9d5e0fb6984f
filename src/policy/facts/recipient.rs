//! The recipient being decided, and how its predecessors fared.

use super::*;

const ONLY: Span = Span::only(Stage::Rcpt);
const SINCE: Span = Span::from(Stage::Rcpt);

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told("rcpt", Type::Address, ONLY, "Address in RCPT TO.", |v| Value::Text(v.state.recipient.address.all()))
        .settable(|s, g| {
            if !s.recipient.address.set_text(text(g)) {
                s.recipient.address.clear();
            }
        }),
    Fact::told("rcpt.local", Type::Text, ONLY, "Its part before the `@`, without quotes.", |v| {
        Value::Text(v.state.recipient.address.local())
    }),
    Fact::told("rcpt.domain", Type::Domain, ONLY, "Its domain in lower case, A-labels.", |v| {
        Value::Text(v.state.recipient.address.domain())
    }),
    Fact::told(
        "rcpt.exists",
        Type::Flag,
        ONLY,
        "Whether the table or the backend knows the recipient; unknown when nobody was asked or could say.",
        |v| v.state.recipient.exists.map_or(Value::Unknown, Value::Flag),
    )
    .settable(|s, g| {
        s.recipient.exists = match g {
            Given::Flag(b) => Some(*b),
            _ => None,
        }
    }),
    Fact::told("rcpt.count", Type::Number, SINCE, "Recipients of this message accepted so far.", |v| {
        Value::count(v.state.transaction.accepted)
    })
    .settable(|s, g| s.transaction.accepted = number(g)),
    Fact::told("rcpt.refused", Type::Number, SINCE, "Recipients of this message refused so far.", |v| {
        Value::count(v.state.transaction.refused)
    })
    .settable(|s, g| s.transaction.refused = number(g)),
    Fact::told(
        "rcpt.unknown",
        Type::Number,
        SINCE,
        "Recipients that do not exist which the client has named so far in this session.",
        |v| Value::count(v.state.peer.unknown_recipients),
    )
    .settable(|s, g| s.peer.unknown_recipients = number(g)),
];
