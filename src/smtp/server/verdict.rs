//! Answers that are a plain yes or no, for the commands.
//!
//! How it fails: an answer that does not fit its ask is a fault of the caller; the client hears 451.

use super::Answer;
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

/// What a policy says to a command that asked.
pub(in crate::smtp) enum Verdict {
    /// Yes, heard after a while.
    Go(Duration),
    /// No.
    No(Refusal),
}

/// A negative verdict.
pub(in crate::smtp) struct Refusal {
    pub reply: Reply,
    pub after: Duration,
    pub close: bool,
}

impl Refusal {
    pub(in crate::smtp) fn now(reply: Reply) -> Refusal {
        Refusal { reply, after: Duration::ZERO, close: false }
    }
}

impl Answer {
    /// The answer to an ask that only knows yes and no.
    pub(in crate::smtp) fn verdict(self) -> Verdict {
        match self {
            Answer::Go => Verdict::Go(Duration::ZERO),
            Answer::GoAfter(after) => Verdict::Go(after),
            Answer::Refuse { reply, after, close } => Verdict::No(Refusal { reply, after, close }),
            Answer::Granted { after, .. } => Verdict::Go(after),
            other => Verdict::No(Refusal::now(misfit(&other))),
        }
    }
}

/// An answer that does not fit its ask: our fault, and the client may try again.
pub(in crate::smtp) fn misfit(answer: &Answer) -> Reply {
    debug_assert!(false, "the answer does not fit the ask: {answer:?}");
    replies::local_error()
}
