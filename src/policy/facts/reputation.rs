//! What our own history says of the client and the sender's domain.

use super::*;

fn percent<'a>(reputation: Option<u8>) -> Value<'a> {
    reputation.map_or(Value::Unknown, |n| Value::Number(n.into()))
}

fn given(given: &Given) -> Option<u8> {
    match given {
        Given::Number(n) => u8::try_from(*n).ok().filter(|n| *n <= 100),
        _ => None,
    }
}

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told(
        "client.seen",
        Type::Flag,
        Span::from(Stage::Connect),
        "Whether the client (of IPv6 its /64) has been here before, as far as we remember.",
        |v| Value::Flag(v.state.peer.standing.seen),
    )
    .settable(|s, g| (s.peer.standing.seen, s.peer.standing_given) = (flag(g), true)),
    Fact::told(
        "reputation.client",
        Type::Number,
        Span::from(Stage::Connect),
        "Share of what came from the client that was accepted, 0 to 100; older events count less (`[reputation]`). Unknown \
         while too little is known.",
        |v| percent(v.state.peer.standing.reputation),
    )
    .settable(|s, g| (s.peer.standing.reputation, s.peer.standing_given) = (given(g), true)),
    Fact::told(
        "reputation.network",
        Type::Number,
        Span::from(Stage::Connect),
        "The same of the client's network.",
        |v| percent(v.state.peer.network),
    )
    .settable(|s, g| (s.peer.network, s.peer.standing_given) = (given(g), true)),
    Fact::told(
        "reputation.domain",
        Type::Number,
        Span::from(Stage::Mail),
        "The same of the sender's domain. A domain that SPF confirms has a history of its own.",
        |v| {
            if v.state.transaction.domain_hangs
                && let Some(spf) = FactId::find("spf")
            {
                v.state.missing.unheard(spf);
            }
            percent(v.state.transaction.domain)
        },
    )
    .computed_from("spf", Topic::Spf)
    .settable(|s, g| (s.transaction.domain, s.peer.domain_given) = (given(g), given(g))),
];
