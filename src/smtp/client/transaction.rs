//! One message on its way: which commands are out, what was answered, what may be said next. Decides; says nothing.
//!
//! How it fails: a reply whose class has no meaning where it came is returned as [`Senseless`]; the caller gives the
//! connection up. Whatever happens, [`Transaction::outcome`] has a definite fate for each recipient.

use crate::base::envelope::{Envelope, Recipient};
use crate::base::proof::Accepted;
use crate::smtp::client::content::{Content, Framing};
use crate::smtp::client::event::{ClientError, Delivery, Fate, Outcome, Phase, Unity};
use crate::smtp::client::fit::Fit;
use crate::wire::reply::Reply;
use std::sync::Arc;

/// A reply that means nothing where it came.
#[derive(Debug)]
pub(super) struct Senseless;

/// What the backend's extensions allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Commands may be sent ahead of replies (RFC 2920).
    pub pipelining: bool,
    /// BDAT may be used (RFC 3030).
    pub chunking: bool,
    /// One reply per recipient after the body (RFC 2033).
    pub lmtp: bool,
    /// RCPT commands without a reply at most.
    pub rcpt_window_max: usize,
    /// Bodies up to this size may go out before the envelope is answered.
    pub flight_octets_max: u64,
}

/// What to say next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// MAIL
    Mail,
    /// RCPT for the recipient with this place in the delivery.
    Rcpt(usize),
    /// DATA
    Data,
    /// BDAT n LAST and the body.
    Bdat,
    /// Nothing until a reply comes or the body is out.
    Wait,
    /// It is over; say RSET first when the backend still holds a half-told message.
    Over {
        /// Whether RSET is needed.
        reset: bool,
    },
}

/// How far a recipient has come.
#[derive(Debug)]
enum Verdict {
    /// Not answered.
    Open,
    /// 2xx to RCPT.
    Taken,
    /// It has its fate.
    Settled(Fate),
}

/// How far the message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// MAIL and RCPT.
    Envelope,
    /// DATA is said, 354 not heard.
    Go,
    /// The body is going out, or is out.
    Body,
    /// DATA was pipelined for nobody: the lone dot is out.
    Aborting,
    /// The last reply is in.
    Done,
}

/// A delivery under way.
#[derive(Debug)]
pub(super) struct Transaction {
    envelope: Arc<Envelope>,
    recipients: Vec<(u32, Verdict)>,
    unity: Unity,
    manner: Manner,
    delivery: Option<Delivery>,
    /// How it is declared.
    pub fit: Fit,
    step: Step,
    mail: Mail,
    /// Places of recipients that get a RCPT; the others have a fate already.
    to_send: Vec<usize>,
    sent: usize,
    answered_rcpts: usize,
    /// Whether the backend holds a message that RSET must clear.
    half_told: bool,
    /// Whether any reply of this transaction has come.
    answered: bool,
    /// LMTP: which of the recipients gets the next reply after the body.
    lmtp_next: usize,
    /// The body, from DATA's 354 or BDAT on.
    pub content: Option<Content>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    Unsent,
    Sent,
    Accepted,
    Refused,
}

impl Transaction {
    /// A delivery that fits. `misfits` are recipients (by place) that cannot be told to this backend.
    pub(super) fn new(delivery: Delivery, fit: Fit, misfits: Vec<(usize, Reply)>, manner: Manner) -> Transaction {
        let mut recipients: Vec<(u32, Verdict)> = delivery.recipients.iter().map(|i| (*i, Verdict::Open)).collect();
        for (place, reply) in misfits {
            recipients[place].1 = Verdict::Settled(Fate::Refused { reply, at: Phase::Rcpt });
        }
        let to_send = (0..recipients.len()).filter(|p| matches!(recipients[*p].1, Verdict::Open)).collect();
        Transaction {
            envelope: delivery.envelope.clone(),
            recipients,
            unity: delivery.unity,
            manner,
            delivery: Some(delivery),
            fit,
            step: Step::Envelope,
            mail: Mail::Unsent,
            to_send,
            sent: 0,
            answered_rcpts: 0,
            half_told: false,
            answered: false,
            lmtp_next: 0,
            content: None,
        }
    }

    /// The envelope.
    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The recipient at `place`, which comes from [`Next::Rcpt`].
    pub(super) fn recipient(&self, place: usize) -> &Recipient {
        &self.envelope.recipients[self.recipients[place].0 as usize]
    }

    /// Decides what to say next; `owed` is how many replies are still to come. The caller says it and asks again.
    pub(super) fn next(&mut self, owed: usize) -> Next {
        match self.step {
            Step::Envelope => self.next_of_envelope(owed),
            Step::Go | Step::Body | Step::Aborting => Next::Wait,
            Step::Done => Next::Over { reset: self.half_told },
        }
    }

    fn next_of_envelope(&mut self, owed: usize) -> Next {
        if self.mail == Mail::Unsent {
            if self.to_send.is_empty() || self.is_spoilt() {
                return Next::Over { reset: false };
            }
            if owed > 0 && !self.manner.pipelining {
                return Next::Wait; // for the reply to RSET
            }
            self.mail = Mail::Sent;
            return Next::Mail;
        }
        if self.mail == Mail::Refused {
            return if owed == 0 { Next::Over { reset: self.half_told } } else { Next::Wait };
        }
        if self.sent < self.to_send.len() {
            let room = if self.manner.pipelining { owed < self.manner.rcpt_window_max } else { owed == 0 };
            if !room {
                return Next::Wait;
            }
            self.sent += 1;
            return Next::Rcpt(self.to_send[self.sent - 1]);
        }
        self.next_after_rcpts()
    }

    fn next_after_rcpts(&mut self) -> Next {
        let bdat = self.manner.chunking;
        if self.mail == Mail::Accepted && self.all_rcpts_answered() {
            if self.taken() == 0 || self.is_spoilt() {
                return Next::Over { reset: self.half_told };
            }
        } else {
            let sure = self.recipients.len() == 1 || self.unity == Unity::Each;
            // RFC 2033 does not say how many replies BDAT LAST gets when no recipient was taken: never ahead there.
            let ahead = match bdat {
                true => !self.manner.lmtp && self.fit.octets <= self.manner.flight_octets_max,
                false => true, // RFC 2920 §3.1: DATA may be the last command of a group
            };
            if !(self.manner.pipelining && sure && ahead) {
                return Next::Wait;
            }
        }
        if bdat {
            self.begin_body(Framing::Counted);
            Next::Bdat
        } else {
            self.step = Step::Go;
            Next::Data
        }
    }

    fn begin_body(&mut self, framing: Framing) {
        self.step = Step::Body;
        if let Some(delivery) = self.delivery.take() {
            self.content = Some(Content::new(framing, delivery.prefix, &delivery.body));
        }
    }

    fn all_rcpts_answered(&self) -> bool {
        self.answered_rcpts == self.to_send.len()
    }

    fn taken(&self) -> usize {
        self.recipients.iter().filter(|(_, v)| matches!(v, Verdict::Taken)).count()
    }

    /// Whether a refusal has already decided that nothing will be sent.
    fn is_spoilt(&self) -> bool {
        self.unity == Unity::AllOrNone
            && self.recipients.iter().any(|(_, v)| matches!(v, Verdict::Settled(Fate::Refused { .. })))
    }

    /// The reply to MAIL.
    pub(super) fn mail_reply(&mut self, reply: Reply) -> Result<(), Senseless> {
        self.answered = true;
        match reply.code / 100 {
            2 => {
                self.mail = Mail::Accepted;
                self.half_told = true;
            }
            4 | 5 => {
                self.mail = Mail::Refused;
                self.settle_open(&Fate::Refused { reply, at: Phase::Mail });
            }
            _ => return Err(Senseless),
        }
        Ok(())
    }

    /// The reply to the next RCPT.
    pub(super) fn rcpt_reply(&mut self, reply: Reply) -> Result<(), Senseless> {
        self.answered = true;
        let place = self.to_send[self.answered_rcpts];
        self.answered_rcpts += 1;
        let verdict = &mut self.recipients[place].1;
        match (reply.code / 100, &verdict) {
            (2, Verdict::Open) => *verdict = Verdict::Taken,
            (4 | 5, Verdict::Open) => *verdict = Verdict::Settled(Fate::Refused { reply, at: Phase::Rcpt }),
            (2 | 4 | 5, _) => {} // pipelined behind a refused MAIL
            _ => return Err(Senseless),
        }
        Ok(())
    }

    /// The reply to DATA. `true` when the caller is to send a lone dot, because 354 came for nobody.
    pub(super) fn go_reply(&mut self, reply: Reply) -> Result<bool, Senseless> {
        self.answered = true;
        match reply.code / 100 {
            3 if self.taken() > 0 => {
                self.begin_body(Framing::Dotted);
                Ok(false)
            }
            // RFC 2920 §3.1: a server that says 354 without recipients is sent a lone dot. An LMTP server would owe
            // no reply for it, or one; RFC 2033 §4.2 forbids it the 354.
            3 if self.manner.lmtp => Err(Senseless),
            3 => {
                self.step = Step::Aborting;
                Ok(true)
            }
            4 | 5 => {
                self.settle_open(&Fate::Refused { reply, at: Phase::Data });
                self.step = Step::Done;
                Ok(false)
            }
            _ => Err(Senseless),
        }
    }

    /// The reply to the lone dot.
    pub(super) fn abort_reply(&mut self) {
        self.half_told = false;
        self.step = Step::Done;
    }

    /// A reply after the end of data; `true` when it was the last (LMTP has one per recipient taken).
    pub(super) fn final_reply(&mut self, reply: Reply) -> Result<bool, Senseless> {
        self.answered = true;
        let positive = match reply.code / 100 {
            2 => true,
            4 | 5 => false,
            _ => return Err(Senseless),
        };
        if positive && !self.is_sent() {
            return Err(Senseless); // nobody can have a message that has not been sent
        }
        let fate = if positive {
            Fate::Accepted(Accepted::by_backend(reply.to_string()))
        } else {
            Fate::Refused { reply, at: if self.is_sent() { Phase::EndOfData } else { Phase::Body } }
        };
        if self.manner.lmtp && self.is_sent() {
            return Ok(self.settle_next(fate));
        }
        // A refused BDAT may leave the backend with a half-told message (RFC 3030 §2); DATA never does.
        let dotted = self.content.as_ref().is_some_and(|c| !c.is_counted());
        self.half_told &= !(positive || dotted);
        self.settle_open(&fate);
        self.step = Step::Done;
        Ok(true)
    }

    /// Gives the next recipient that was taken its fate; `true` when it was the last.
    fn settle_next(&mut self, fate: Fate) -> bool {
        self.half_told = false;
        while self.lmtp_next < self.recipients.len() {
            let verdict = &mut self.recipients[self.lmtp_next].1;
            self.lmtp_next += 1;
            if matches!(verdict, Verdict::Taken) {
                *verdict = Verdict::Settled(fate);
                break;
            }
        }
        if self.taken() == 0 {
            self.step = Step::Done;
        }
        self.step == Step::Done
    }

    fn settle_open(&mut self, fate: &Fate) {
        for (_, verdict) in &mut self.recipients {
            if !matches!(verdict, Verdict::Settled(_)) {
                *verdict = Verdict::Settled(fate.clone());
            }
        }
    }

    /// Whether the last octet of the message has been handed out.
    pub(super) fn is_sent(&self) -> bool {
        self.content.as_ref().is_some_and(Content::is_finished)
    }

    /// Whether octets of the body are still to go out.
    pub(super) fn is_sending(&self) -> bool {
        self.content.as_ref().is_some_and(|c| !c.is_finished())
    }

    /// The backend is closing with `reply` in the place of the reply to `at`.
    pub(super) fn closing(&mut self, reply: Reply, at: Phase) {
        if self.answered {
            self.settle_open(&Fate::Refused { reply, at });
        } else {
            // It spoke before it heard us: an idle connection that was being closed. Another one may do.
            let error = ClientError::ServiceClosing(reply);
            self.settle_open(&Fate::Lost { at, committed_unknown: false, error });
        }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, at: Phase, error: &ClientError) {
        let at = if self.is_sending() && at == Phase::EndOfData { Phase::Body } else { at };
        self.settle_open(&Fate::Lost { at, committed_unknown: self.is_sent(), error: error.clone() });
    }

    /// What became of everybody.
    pub(super) fn outcome(self, reusable: bool) -> Outcome {
        let settled = |(index, verdict)| match verdict {
            Verdict::Settled(fate) => (index, fate),
            Verdict::Open | Verdict::Taken => (index, Fate::Withheld),
        };
        let recipients: Vec<(u32, Fate)> = self.recipients.into_iter().map(settled).collect();
        let lost = recipients.iter().any(|(_, fate)| matches!(fate, Fate::Lost { .. }));
        Outcome { recipients, reusable, answered: self.answered || !lost }
    }
}
