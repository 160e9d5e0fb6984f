//! How the session has gone so far: authentication, errors, age.

use super::*;

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told("authenticated", Type::Flag, Span::from(Stage::Auth), "Whether the client has authenticated.", |v| {
        Value::Flag(!v.state.peer.user.is_empty())
    }),
    Fact::told("user", Type::Text, Span::from(Stage::Auth), "The authenticated user; empty before.", |v| {
        Value::Text(&v.state.peer.user)
    })
    .settable(|s, g| s.peer.user = text(g).into()),
    Fact::told(
        "auth.failures",
        Type::Number,
        Span::from(Stage::Auth),
        "Failed authentications in this session.",
        |v| Value::count(v.state.peer.auth_failures),
    )
    .settable(|s, g| s.peer.auth_failures = number(g)),
    Fact::told(
        "session.errors",
        Type::Number,
        Span::from(Stage::Connect),
        "Protocol errors of the client so far: unknown commands, bad syntax, wrong order.",
        |v| Value::count(v.state.peer.faults.errors),
    )
    .settable(|s, g| s.peer.faults.errors = number(g)),
    Fact::told(
        "errors.pipelining",
        Type::Number,
        Span::from(Stage::Connect),
        "Commands that came in a group where they must come last or alone, so far (RFC 2920 §3.1).",
        |v| Value::count(v.state.peer.faults.pipelining),
    )
    .settable(|s, g| s.peer.faults.pipelining = number(g)),
    Fact::told(
        "errors.bare_lf",
        Type::Number,
        Span::from(Stage::Connect),
        "Command lines that ended in a bare line feed, so far (RFC 5321 §2.3.8).",
        |v| Value::count(v.state.peer.faults.bare_lf),
    )
    .settable(|s, g| s.peer.faults.bare_lf = number(g)),
    Fact::told(
        "errors.commands",
        Type::Number,
        Span::from(Stage::Connect),
        "Commands that are none of SMTP, so far: what other protocols and broken programs say.",
        |v| Value::count(v.state.peer.faults.foreign),
    )
    .settable(|s, g| s.peer.faults.foreign = number(g)),
    Fact::told(
        "session.messages",
        Type::Number,
        Span::from(Stage::Connect),
        "Messages of this session that were accepted so far.",
        |v| Value::count(v.state.peer.messages),
    )
    .settable(|s, g| s.peer.messages = number(g)),
    Fact::told("session.age", Type::Duration, Span::from(Stage::Connect), "Time since the client connected.", |v| {
        let age = v.state.now.since(v.state.peer.opened);
        Value::count(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }),
    Fact::told("vrfy.argument", Type::Text, Span::only(Stage::Vrfy), "Argument of VRFY or EXPN.", |v| {
        Value::Text(&v.state.query)
    })
    .settable(|s, g| s.query = text(g).into()),
];
