//! The reverse path and the parameters of MAIL FROM.

use super::*;
use crate::base::envelope::BodyType;

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told(
        "sender",
        Type::Address,
        Span::from(Stage::Mail),
        "Address in MAIL FROM; empty for the null path `<>`.",
        |v| Value::Text(v.state.transaction.sender.all()),
    )
    .settable(|s, g| {
        if !s.transaction.sender.set_text(text(g)) {
            s.transaction.sender.clear();
        }
    }),
    Fact::told("sender.local", Type::Text, Span::from(Stage::Mail), "Its part before the `@`, without quotes.", |v| {
        Value::Text(v.state.transaction.sender.local())
    }),
    Fact::told("sender.domain", Type::Domain, Span::from(Stage::Mail), "Its domain in lower case, A-labels.", |v| {
        Value::Text(v.state.transaction.sender.domain())
    }),
    Fact::told(
        "sender.null",
        Type::Flag,
        Span::from(Stage::Mail),
        "Whether it is the null path `<>` of notifications (RFC 5321 §4.5.5).",
        |v| Value::Flag(v.state.transaction.sender.all().is_empty()),
    ),
    Fact::looked(
        "sender.domain.mail",
        Type::Text,
        Stage::Mail,
        Topic::MailDomain,
        "Whether its domain takes mail: `mx` (it has exchangers), `address` (none, but an address: RFC 5321 §5.1), `null-mx` \
         (it says that it takes none: RFC 7505), `none` (it has neither or does not exist); empty for the null path; unknown \
         when the lookup failed.",
    ),
    Fact::told(
        "message.declared_size",
        Type::Octets,
        Span::from(Stage::Mail),
        "SIZE= of MAIL FROM (RFC 1870); unknown when not given.",
        |v| v.state.transaction.declared_octets.map_or(Value::Unknown, Value::count),
    )
    .settable(|s, g| s.transaction.declared_octets = Some(number(g))),
    Fact::told(
        "message.smtputf8",
        Type::Flag,
        Span::from(Stage::Mail),
        "Whether SMTPUTF8 was asked for (RFC 6531).",
        |v| Value::Flag(v.state.transaction.smtputf8),
    )
    .settable(|s, g| s.transaction.smtputf8 = flag(g)),
    Fact::told(
        "message.body",
        Type::Text,
        Span::from(Stage::Mail),
        "BODY= of MAIL FROM: `7bit`, `8bitmime` or `binarymime`.",
        |v| {
            Value::Text(match v.state.transaction.body {
                BodyType::SevenBit => "7bit",
                BodyType::EightBitMime => "8bitmime",
                BodyType::BinaryMime => "binarymime",
            })
        },
    ),
];
