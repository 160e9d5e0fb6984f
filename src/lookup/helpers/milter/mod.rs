//! A milter: a filter that speaks Sendmail's protocol.
//!
//! The whole session and transaction are told at once, when they are needed. A connection serves another message where
//! the filter left it in a state that allows that. How it fails: as [`super`] has it; a kept connection that turns out
//! to be closed is replaced once, before anybody hears of it.

mod conversation;
mod link;
mod macros;
mod outcome;

use super::failure::Failure;
use super::idle::Idle;
use super::{Door, HelperKnobs};
use crate::base::inquiry::{Advice, Case};
use link::Link;
pub(super) use macros::{client_ip, transaction_id};
pub(super) use outcome::{field_name, field_value};
use std::time::Duration;

/// How milters are spoken to.
pub(super) struct Milter {
    idle: Idle<Link>,
    answer_timeout: Duration,
    body_octets_max: usize,
}

impl Milter {
    pub(super) fn new(knobs: &HelperKnobs) -> Milter {
        Milter {
            idle: Idle::new(knobs.idle_max.min(knobs.connections_max), knobs.idle_time_max),
            answer_timeout: knobs.answer_timeout,
            body_octets_max: knobs.message_octets_max.len(),
        }
    }

    pub(super) async fn ask(&self, door: &Door, case: &Case) -> Result<Advice, Failure> {
        if let Some(mut link) = self.idle.take() {
            match self.converse(&mut link, case).await {
                // It was closed while nobody looked: those beside it are no better.
                Err(failure) if failure.is_gone() && !link.has_heard() => self.idle.clear(),
                Err(failure) => return Err(failure),
                Ok(advice) => {
                    self.keep(link).await;
                    return Ok(advice);
                }
            }
        }
        let mut link = Link::open(door.connect().await?, self.answer_timeout).await?;
        let advice = self.converse(&mut link, case).await?;
        self.keep(link).await;
        Ok(advice)
    }

    async fn converse(&self, link: &mut Link, case: &Case) -> Result<Advice, Failure> {
        conversation::converse(link, case, self.body_octets_max).await
    }

    /// Ends the session: for another one on the same connection where that is possible.
    async fn keep(&self, mut link: Link) {
        // The answer is there; what becomes of the connection is nobody's loss.
        if link.part().await.unwrap_or(false) {
            self.idle.put(link);
        }
    }
}
