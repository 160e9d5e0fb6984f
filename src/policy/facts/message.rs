//! The message: its size and shape. Header fields are reached by functions, see `functions.rs`.

use super::*;
use crate::policy::header;

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told(
        "message.size",
        Type::Octets,
        Span::only(Stage::Message),
        "Size of the whole message as received.",
        |v| Value::count(v.state.transaction.shape.octets),
    )
    .settable(|s, g| s.transaction.shape.octets = number(g)),
    Fact::told(
        "message.8bit",
        Type::Flag,
        Span::only(Stage::Message),
        "Whether any octet of it has its high bit set.",
        |v| Value::Flag(v.state.transaction.shape.eight_bit),
    )
    .settable(|s, g| s.transaction.shape.eight_bit = flag(g)),
    Fact::told(
        "message.binary",
        Type::Flag,
        Span::only(Stage::Message),
        "Whether it holds a NUL or a lone CR or LF, so that it can travel by BINARYMIME only (RFC 3030).",
        |v| Value::Flag(v.state.transaction.shape.binary),
    )
    .settable(|s, g| s.transaction.shape.binary = flag(g)),
    Fact::told(
        "message.hops",
        Type::Number,
        Span::from(Stage::Data),
        "`Received:` fields, that is servers it has passed (RFC 5321 §6.3).",
        |v| {
            Value::count(u64::from(v.state.transaction.shape.received_fields).max(header::count(v.headers, "received")))
        },
    )
    .settable(|s, g| s.transaction.shape.received_fields = u32::try_from(number(g)).unwrap_or(u32::MAX)),
    Fact::told("message.header_size", Type::Octets, Span::from(Stage::Data), "Size of the header section.", |v| {
        // A recording tells the size of a section of which it kept less.
        Value::count(match v.state.transaction.shape.header_octets {
            0 => v.headers.len() as u64,
            told => told,
        })
    })
    .settable(|s, g| s.transaction.shape.header_octets = number(g)),
];
