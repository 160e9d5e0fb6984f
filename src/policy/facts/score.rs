//! The points that rules have added so far, in all and by stage.

use super::*;

const ALWAYS: Span = Span::from(Stage::Connect);

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::told(
        "score",
        Type::Score,
        ALWAYS,
        "Points that rules have added to the connection and the message so far, those before this one included.",
        |v| Value::Score(v.state.scores.total()),
    ),
    Fact::told("score.connect", Type::Score, ALWAYS, "Points added at connect.", |v| of(v, Stage::Connect)),
    Fact::told("score.helo", Type::Score, Span::from(Stage::Helo), "Points added at helo.", |v| of(v, Stage::Helo)),
    Fact::told("score.auth", Type::Score, Span::from(Stage::Auth), "Points added at auth.", |v| of(v, Stage::Auth)),
    Fact::told("score.mail", Type::Score, Span::from(Stage::Mail), "Points added at mail.", |v| of(v, Stage::Mail)),
    Fact::told("score.rcpt", Type::Score, Span::from(Stage::Rcpt), "Points added at rcpt.", |v| of(v, Stage::Rcpt)),
    Fact::told("score.data", Type::Score, Span::from(Stage::Data), "Points added at data.", |v| of(v, Stage::Data)),
    Fact::told("score.message", Type::Score, Span::from(Stage::Message), "Points added at message.", |v| {
        of(v, Stage::Message)
    }),
];

fn of<'a>(v: &View<'a>, stage: Stage) -> Value<'a> {
    Value::Score(v.state.scores.of(stage))
}
