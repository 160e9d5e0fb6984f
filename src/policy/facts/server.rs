//! The hour and the load of the server.

use super::*;

const ALWAYS: Span = Span::from(Stage::Connect);
const WEEKDAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"]; // 1970-01-01 was a Thursday

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told("time.hour", Type::Number, ALWAYS, "Hour of the day in UTC, 0 to 23.", |v| {
        Value::count(v.state.wall().as_secs() / 3600 % 24)
    }),
    Fact::told("time.weekday", Type::Text, ALWAYS, "Day of the week in UTC: `mon`, `tue`, … `sun`.", |v| {
        Value::Text(WEEKDAYS[(v.state.wall().as_secs() / 86_400 % 7) as usize])
    }),
    Fact::told("load.connections", Type::Number, ALWAYS, "Connections open now, all clients.", |v| {
        Value::count(v.state.peer.load.connections)
    })
    .settable(|s, g| s.peer.load.connections = number(g)),
    Fact::told("load.memory", Type::Number, ALWAYS, "Share of the memory budget in use, in percent.", |v| {
        Value::count(v.state.peer.load.memory_percent)
    })
    .settable(|s, g| s.peer.load.memory_percent = number(g)),
    Fact::told("load.queued", Type::Number, ALWAYS, "Messages waiting in the spool.", |v| {
        Value::count(v.state.peer.load.queued)
    })
    .settable(|s, g| s.peer.load.queued = number(g)),
];
