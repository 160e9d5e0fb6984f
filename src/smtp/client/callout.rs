//! Asking a backend whether it would take a recipient: MAIL, RCPT, RSET, and nothing sent.
//!
//! How it fails: no answer is [`Verification::Lost`], a refusal before RCPT is [`Verification::Unable`]; neither says
//! anything about the recipient.

use crate::base::address::{Mailbox, ReversePath};
use crate::base::time::Instant;
use crate::smtp::client::event::{ClientError, Event, Verification};
use crate::smtp::client::{Client, NotReady, Owed, Phase, State, emit, fit};
use crate::wire::reply::Reply;

/// A question under way.
#[derive(Debug)]
pub(super) struct Callout {
    sender: ReversePath,
    recipient: Mailbox,
    step: Step,
    learnt: Option<Verification>,
}

/// What to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Mail,
    Rcpt,
    Reset,
    Done,
}

impl Callout {
    /// The backend is closing or would not hear MAIL.
    pub(super) fn unable(&mut self, reply: Reply) {
        self.learnt.get_or_insert(Verification::Unable(reply));
    }

    /// What is known when the connection ends.
    pub(super) fn lost(self, error: &ClientError) -> Verification {
        self.learnt.unwrap_or_else(|| Verification::Lost(error.clone()))
    }
}

impl Client {
    /// Asks whether `recipient` would be taken from `sender` (usually the null path). Needs [`Client::is_ready`]; the
    /// answer is [`Event::Verified`].
    pub fn verify(&mut self, now: Instant, sender: ReversePath, recipient: Mailbox) -> Result<(), NotReady<()>> {
        if !self.is_ready() {
            return Err(NotReady(()));
        }
        let foreign = recipient.is_international() || sender.mailbox().is_some_and(Mailbox::is_international);
        if let Err(reply) = fit::recipient(foreign, self.capabilities()) {
            self.events.push_back(Event::Verified(Verification::Recipient(reply)));
            return Ok(());
        }
        self.state = State::Verifying(Box::new(Callout { sender, recipient, step: Step::Mail, learnt: None }));
        self.advance();
        self.rearm(now);
        Ok(())
    }

    /// Says what may be said: everything at once with PIPELINING, else one command after the other.
    pub(super) fn advance_callout(&mut self) {
        while self.owed.is_empty() || self.offered.pipelining {
            let State::Verifying(callout) = &mut self.state else { return };
            let foreign =
                callout.recipient.is_international() || callout.sender.mailbox().is_some_and(Mailbox::is_international);
            let owed = match callout.step {
                Step::Mail => {
                    emit::callout_mail(&callout.sender, foreign, &mut self.commands);
                    callout.step = Step::Rcpt;
                    Owed::CalloutMail
                }
                Step::Rcpt => {
                    emit::callout_rcpt(&callout.recipient, &mut self.commands);
                    callout.step = Step::Reset;
                    Owed::CalloutRcpt
                }
                Step::Reset => {
                    self.commands.push_str("RSET\r\n");
                    callout.step = Step::Done;
                    Owed::Reset
                }
                Step::Done => return,
            };
            self.expect(owed);
        }
    }

    /// The reply to MAIL or RCPT of a callout.
    pub(super) fn callout_reply(&mut self, owed: Owed, reply: Reply) {
        let State::Verifying(callout) = &mut self.state else { return };
        if !matches!(reply.code / 100, 2 | 4 | 5) {
            let at = if owed == Owed::CalloutMail { Phase::Mail } else { Phase::Rcpt };
            return self.fail(ClientError::Senseless { at, reply });
        }
        if owed == Owed::CalloutMail {
            if !reply.is_positive() {
                callout.unable(reply);
                if !self.offered.pipelining {
                    callout.step = Step::Done;
                    return self.conclude_callout();
                }
            }
            return self.advance();
        }
        callout.learnt.get_or_insert(Verification::Recipient(reply));
        self.advance(); // RSET, where it has not gone out with the others
        self.conclude_callout();
    }

    fn conclude_callout(&mut self) {
        let State::Verifying(callout) = std::mem::replace(&mut self.state, State::Ready) else { return };
        let lost = ClientError::Eof { at: Phase::Rcpt };
        debug_assert!(callout.learnt.is_some());
        self.events.push_back(Event::Verified(callout.lost(&lost)));
    }
}
