//! A session's messages: MAIL, RCPT, DATA or BDAT, the final replies, and what follows a refusal.
//!
//! How it fails: every message ends in exactly one [`Verdict`]; a reply out of turn is [`Next::Broken`].

use super::script::{Feed, Next, Outcome, Shared, Verdict, Work};
use super::session::{Expect, Session, Transaction};

impl Session {
    /// What follows the recipients in the same group.
    pub(super) fn end_of_envelope(&mut self, t: &mut Transaction, shared: &mut Shared<'_>) {
        match shared.script.work {
            Work::Reject | Work::Login => {
                self.quit(shared);
            }
            Work::Mail if self.offered.chunking && !shared.script.lmtp => {
                shared.out.push_bytes(format!("BDAT {} LAST\r\n", t.message.octets).as_bytes());
                t.push_body(false, shared);
                t.finals = 1;
                self.expect(Expect::Final, shared.now);
            }
            Work::Mail => {
                shared.out.push_bytes(b"DATA\r\n");
                self.expect(Expect::Data, shared.now);
            }
        }
    }

    pub(super) fn mail_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code / 100 != 2 {
            t.refusal.get_or_insert(code);
        }
        match (self.offered.pipelining, code / 100) {
            (true, _) => Next::Wait,
            (false, 2) => self.next_rcpt(shared),
            (false, _) => self.refused(shared),
        }
    }

    fn next_rcpt(&mut self, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        let Some(rcpt) = t.lines.rcpts.get(t.asked as usize) else { return Next::Broken };
        t.asked += 1;
        shared.out.push_bytes(rcpt);
        self.expect(Expect::Rcpt, shared.now);
        Next::Wait
    }

    pub(super) fn rcpt_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let last = self.expects_next() != Some(Expect::Rcpt);
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code / 100 == 2 {
            t.accepted += 1;
        } else {
            t.refusal.get_or_insert(code);
        }
        let all = t.lines.rcpts.len() as u32;
        if shared.script.work == Work::Reject && (last || !self.offered.pipelining) {
            return self.reject_done(all, shared);
        }
        if self.offered.pipelining {
            return Next::Wait;
        }
        if t.asked < all {
            return self.next_rcpt(shared);
        }
        if t.accepted == 0 {
            return self.refused(shared);
        }
        if self.offered.chunking {
            let mut t = self.transactions.pop_back();
            if let Some(t) = &mut t {
                self.end_of_envelope(t, shared);
            }
            self.transactions.extend(t);
        } else {
            shared.out.push_bytes(b"DATA\r\n");
            self.expect(Expect::Data, shared.now);
        }
        Next::Wait
    }

    /// In a test of refusals the last answer to RCPT is the end of the message.
    fn reject_done(&mut self, all: u32, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if t.asked < all {
            return self.next_rcpt(shared);
        }
        let Some(t) = self.transactions.pop_back() else { return Next::Broken };
        let verdict = t.refusal.map_or(Verdict::Accepted(0), Verdict::Refused);
        t.end(verdict, shared);
        if self.offered.pipelining { Next::Wait } else { self.quit(shared) }
    }

    pub(super) fn data_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.back_mut() else { return Next::Broken };
        if code != 354 {
            t.refusal.get_or_insert(code);
            return self.refused(shared);
        }
        if t.accepted == 0 {
            // RFC 2920 §3.1: a server that takes DATA without recipients gets an empty message.
            t.finals = 1;
        } else {
            t.push_body(true, shared);
            t.finals = if shared.script.lmtp { t.accepted } else { 1 };
        }
        let finals = t.finals;
        // Joined with the end of the body, and with what follows in the group.
        shared.out.push_bytes(b".\r\n");
        (0..finals).for_each(|_| self.expect(Expect::Final, shared.now));
        // The next envelope, or the farewell, rides along.
        if !self.offered.pipelining || self.expects_last() == Some(Expect::Quit) {
            return Next::Wait;
        }
        if !self.may_start(shared.script) {
            return self.quit(shared);
        }
        if shared.chain
            && let Feed::Job(job) = (shared.feed)()
        {
            self.start(job, shared);
        }
        Next::Wait
    }

    pub(super) fn final_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.front_mut() else { return Next::Broken };
        t.finals = t.finals.saturating_sub(1);
        if code / 100 == 2 {
            t.delivered += 1;
        } else {
            t.refusal.get_or_insert(code);
        }
        if t.finals > 0 {
            return Next::Wait;
        }
        let Some(t) = self.transactions.pop_front() else { return Next::Broken };
        // One reply stands for all recipients, except in LMTP (RFC 2033 §4.2).
        let recipients = if shared.script.lmtp { t.delivered } else { t.accepted };
        let accepted = t.delivered > 0 && t.accepted > 0;
        let bad_chunk = self.offered.chunking && !accepted;
        let verdict =
            if accepted { Verdict::Accepted(recipients) } else { Verdict::Refused(t.refusal.unwrap_or(code)) };
        t.end(verdict, shared);
        if let Some(following) = self.transactions.front_mut() {
            // One that was put off keeps its place: the wait is part of its time.
            if shared.script.from_free && following.job.tries == 0 {
                following.job.scheduled = shared.now;
            }
            return Next::Wait;
        }
        if bad_chunk {
            return self.reset(shared);
        }
        self.proceed(shared)
    }

    /// The newest message was refused before its body: RSET, and in the same group what comes next.
    fn refused(&mut self, shared: &mut Shared<'_>) -> Next {
        let Some(t) = self.transactions.pop_back() else { return Next::Broken };
        let code = t.refusal.unwrap_or_default();
        t.end(Verdict::Refused(code), shared);
        if shared.script.work == Work::Reject {
            return self.quit(shared);
        }
        self.reset(shared)
    }

    fn reset(&mut self, shared: &mut Shared<'_>) -> Next {
        shared.out.push_bytes(b"RSET\r\n");
        self.expect(Expect::Reset, shared.now);
        Next::Wait
    }
}

impl Transaction {
    fn push_body(&mut self, dots_doubled: bool, shared: &mut Shared<'_>) {
        self.handed_over = true;
        self.message.push_into(shared.out, dots_doubled);
    }

    pub(super) fn end(&self, verdict: Verdict, shared: &mut Shared<'_>) {
        let latency = shared.now.since(self.job.scheduled);
        let (crc, octets) = (self.message.crc, self.message.octets);
        shared.outcomes.push(Outcome { job: self.job, crc, octets, verdict, latency });
    }
}
