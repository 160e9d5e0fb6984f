//! The greeting (RFC 5321 §3.1, §4.3.1). How it fails: 554 leaves the client QUIT only; 421 closes.

use crate::base::time::Instant;
use crate::smtp::server::{Server, Standing, Then, Verdict};
use crate::wire::replies;

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, verdict: Verdict) {
    match verdict {
        Verdict::Go(after) => {
            server.standing = Standing::Welcome;
            let greeting = replies::greeting(server.config.hostname.as_str(), server.config.service.protocol());
            server.respond_after(now, after, vec![greeting], Then::Command);
        }
        Verdict::No(refusal) => {
            server.standing = Standing::TurnedAway;
            server.refuse(now, refusal);
        }
    }
}
