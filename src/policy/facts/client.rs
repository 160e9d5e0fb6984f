//! The client's address and what its connection is like.

use super::*;
use crate::policy::state::TlsFacts;

fn tls<'a>(v: &View<'a>, part: fn(&TlsFacts) -> &str) -> Value<'a> {
    Value::Text(v.state.peer.facts.tls.as_ref().map_or("", part))
}

fn tls_of(s: &mut State) -> &mut TlsFacts {
    s.peer.facts.tls.get_or_insert_default()
}

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told(
        "client",
        Type::Ip,
        Span::from(Stage::Connect),
        "Address of the client, after PROXY and XCLIENT.",
        |v| v.state.peer.ip.map_or(Value::Unknown, Value::Ip),
    )
    .settable(|s, g| {
        if let Given::Ip(ip) = g {
            s.peer.facts.client.set_ip(*ip);
            s.peer.ip = Some(ip.to_canonical());
        }
    }),
    Fact::told("client.port", Type::Number, Span::from(Stage::Connect), "Port of the client.", |v| {
        Value::Number(v.state.peer.facts.client.port().into())
    })
    .settable(|s, g| s.peer.facts.client.set_port(u16::try_from(number(g)).unwrap_or(0))),
    Fact::looked(
        "client.ptr",
        Type::Domain,
        Stage::Connect,
        Topic::Reverse,
        "Name of the client in the DNS (PTR) that resolves back to it, empty when it has none; unknown when the lookup failed.",
    ),
    Fact::told(
        "client.fcrdns",
        Type::Flag,
        Span::from(Stage::Connect),
        "Whether the client has a name in the DNS that resolves back to it; unknown when the lookup failed.",
        |v| match FactId::find("client.ptr").map_or(Value::Unknown, |id| v.state.heard(id)) {
            Value::Text(name) => Value::Flag(!name.is_empty()),
            _ => Value::Unknown,
        },
    )
    .computed_from("client.ptr", Topic::Reverse),
    Fact::looked(
        "client.iprev",
        Type::Text,
        Stage::Connect,
        Topic::Reverse,
        "The same in the words of RFC 8601 §2.7.3: `pass`, `fail` (names, but none resolves back), `none` (no name), \
         `temperror` (the lookup failed).",
    ),
    Fact::looked(
        "client.asn",
        Type::Number,
        Stage::Connect,
        Topic::Origin,
        "Number of the autonomous system that announces the client's address, from the database `[lookup] origin` names; \
         unknown without one.",
    ),
    Fact::looked(
        "client.country",
        Type::Text,
        Stage::Connect,
        Topic::Origin,
        "Country of the client's address by the same database, as an ISO 3166 code such as `DE`; unknown without one.",
    ),
    Fact::told(
        "listener",
        Type::Text,
        Span::from(Stage::Connect),
        "The listener: `mx`, `submission`, `lmtp` or its name.",
        |v| Value::Text(&v.state.peer.facts.listener),
    )
    .settable(|s, g| s.peer.facts.listener = text(g).into()),
    Fact::told("tls", Type::Flag, Span::from(Stage::Connect), "Whether the session is encrypted.", |v| {
        Value::Flag(v.state.peer.facts.tls.is_some())
    })
    .settable(|s, g| s.peer.facts.tls = flag(g).then(TlsFacts::default)),
    Fact::told(
        "tls.version",
        Type::Text,
        Span::from(Stage::Connect),
        "`TLSv1.2` or `TLSv1.3`; empty without TLS.",
        |v| tls(v, |t| &t.version),
    )
    .settable(|s, g| tls_of(s).version = text(g).into()),
    Fact::told(
        "tls.cipher",
        Type::Text,
        Span::from(Stage::Connect),
        "Cipher suite by its IANA name; empty without TLS.",
        |v| tls(v, |t| &t.cipher),
    )
    .settable(|s, g| tls_of(s).cipher = text(g).into()),
    Fact::told(
        "tls.client_name",
        Type::Domain,
        Span::from(Stage::Connect),
        "Name in the client's verified certificate; empty without one.",
        |v| tls(v, |t| &t.client_name),
    )
    .settable(|s, g| tls_of(s).client_name = text(g).into()),
    Fact::told(
        "early_talker",
        Type::Flag,
        Span::from(Stage::Connect),
        "Whether the client spoke before our greeting (RFC 5321 §4.3.1 forbids it).",
        |v| Value::Flag(v.state.peer.early_talker),
    )
    .settable(|s, g| s.peer.early_talker = flag(g)),
];
