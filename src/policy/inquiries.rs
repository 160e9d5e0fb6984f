//! What must be found out before a session can be decided: only what some rule can still need, as soon as its input is
//! known, each once.
//!
//! The rules of this stage and of later ones are walked with what is known. A part that hangs on something not found out
//! is *open*: both ways are followed, and what it asks for is needed only when they end differently. So `listener == 'mx'
//! and dnsbl('zen') > 3` asks nothing for submission, and a rule behind one that ends the stage for certain asks nothing.
//!
//! ```text
//! told (helo_told, mail_told, …) ─▶ inquiries() ─▶ found()* ─▶ awaits(stage) == false ─▶ helo(), mail(), …
//! ```
//! How it fails: it does not. A rule whose facts nobody finds out sees them as unknown; what is found too late, for a
//! greeting or transaction that is over, is dropped.

mod adopt;
mod way;

use super::content::Reading;
use super::functions::Argument;
use super::rules::Policy;
use super::session::Session;
use super::stage::Stage;
use super::state::{Faults, View};
use super::value::Given;
use super::walk::{Need, Needs, Walk};
use crate::base::address::{Mailbox, ReversePath};
use crate::base::body::{Body, BodyShape};
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::inquiry::{Edit, Finding, Inquiry, Spf};
use smallvec::SmallVec;
use std::sync::Arc;

/// Rounds in which needs are settled without asking anybody, at most: there are fewer kinds of them.
const ROUNDS_MAX: usize = 16;

/// What facts are found out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The client's names.
    Reverse,
    /// Where its address belongs.
    Origin,
    /// Whether the HELO name has its address.
    HeloHost,
    /// Whether the sender's domain takes mail.
    MailDomain,
    /// SPF of the sender.
    Spf,
    /// SPF of the HELO name.
    SpfHelo,
    /// DKIM and ARC.
    Signatures,
    /// DMARC: the signatures, and SPF before them.
    Dmarc,
    /// What the message's octets say; read here, nobody is asked.
    Content(Reading),
}

/// What was asked, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    made: Vec<Made>,
    /// Where the session stands: what was told last.
    pub(super) standing: Option<Stage>,
    sender: Option<Mailbox>,
    spf: Option<Spf>,
    /// Whether the signatures were checked with SPF's result at hand.
    with_spf: bool,
    /// Changes that helpers want, until the policy obeys them.
    edits: Vec<(Arc<str>, Vec<Edit>)>,
    /// The header section, while rules may still ask about it.
    section: Vec<u8>,
}

#[derive(Debug)]
struct Made {
    inquiry: Inquiry,
    /// How long it counts: as what becomes known at that stage.
    since: Stage,
    answer: Option<Finding>,
}

/// How something needed is to be had.
enum Way {
    /// By asking.
    Ask(Inquiry, Stage),
    /// It is known already.
    Known(Given),
    /// Not yet: its input has not come.
    NotYet,
}

impl Inquiries {
    fn begin(&mut self, stage: Stage) {
        self.standing = Some(stage);
        self.made.retain(|m| match stage {
            Stage::Rcpt => m.since != Stage::Rcpt,
            // The whole message is another question to a helper than a recipient was.
            Stage::Message => m.since < Stage::Rcpt,
            stage => m.since < stage,
        });
        if stage <= Stage::Mail {
            (self.sender, self.spf, self.with_spf) = (None, None, false);
        }
        self.edits.clear();
        self.section.clear();
    }
    fn answer(&self, inquiry: &Inquiry) -> Option<&Option<Finding>> {
        self.made.iter().find(|m| m.inquiry == *inquiry).map(|m| &m.answer)
    }
}

/// What is told before it is decided.
impl Session {
    /// The client has connected, and is given its greeting soon; [`Session::connect`] decides it.
    pub fn connect_told(&mut self, early_talker: bool) {
        self.inquiries.standing = Some(Stage::Connect);
        self.state.peer.early_talker = early_talker;
    }

    /// HELO, EHLO or LHLO has come; [`Session::helo`] decides it.
    pub fn helo_told(&mut self, name: &str, extended: bool) {
        self.state.found.decided();
        self.state.found.begin(Stage::Helo);
        self.inquiries.begin(Stage::Helo);
        self.set_greeting(name, extended);
    }

    /// MAIL FROM has come; [`Session::mail`] decides it.
    pub fn mail_told(&mut self, sender: &ReversePath, parameters: &MailParameters) {
        self.state.found.decided();
        self.state.found.begin(Stage::Mail);
        self.inquiries.begin(Stage::Mail);
        self.inquiries.sender = sender.mailbox().cloned();
        self.set_sender(sender, parameters);
    }

    /// RCPT TO has come; [`Session::rcpt`] decides it.
    pub fn rcpt_told(&mut self, recipient: &Recipient) {
        self.state.found.decided();
        self.state.found.begin(Stage::Rcpt);
        self.inquiries.begin(Stage::Rcpt);
        self.state.recipient.address.set(&recipient.mailbox);
        self.state.recipient.exists = None;
    }

    /// The message has come; [`Session::data`] and [`Session::message`] decide it. What rules need of its octets is read
    /// now.
    pub fn message_told(&mut self, body: &Body) {
        let asks = self.policy.asks(Stage::Data) || self.policy.asks(Stage::Message);
        let headers = if asks { body.head() } else { Vec::new() };
        self.told_of_message(&headers, &body.shape, || body.to_vec());
    }

    /// The same where only the header section is at hand (a case file).
    pub(super) fn headers_told(&mut self, headers: &[u8], shape: &BodyShape) {
        self.told_of_message(headers, shape, || None);
    }

    fn told_of_message(&mut self, headers: &[u8], shape: &BodyShape, load: impl Fn() -> Option<Vec<u8>>) {
        if self.inquiries.standing.is_some() {
            self.state.found.decided();
        }
        self.state.found.begin(Stage::Rcpt);
        self.inquiries.begin(Stage::Message);
        let policy = self.policy.clone();
        if !policy.asks(Stage::Data) && !policy.asks(Stage::Message) {
            return;
        }
        self.inquiries.section.extend_from_slice(headers);
        let before = std::mem::replace(&mut self.state.transaction.shape, *shape);
        let utf8 = self.state.transaction.smtputf8;
        let mut whole = None;
        // What one reading tells can make another one needless.
        while let Some(reading) = self.needs(&policy).into_iter().find_map(|need| match need {
            Need::Topic(Topic::Content(reading)) => Some(reading),
            _ => None,
        }) {
            if !reading.is_of_header() && whole.is_none() {
                whole = Some(load());
            }
            for (name, given) in reading.read(headers, whole.as_ref().and_then(Option::as_deref), utf8) {
                self.learn(name, given);
            }
        }
        self.state.transaction.shape = before;
    }

    /// VRFY or EXPN has come; [`Session::vrfy`] decides it.
    pub fn vrfy_told(&mut self) -> SmallVec<[Inquiry; 4]> {
        let standing = self.inquiries.standing.replace(Stage::Vrfy);
        let wanted = self.inquiries();
        self.inquiries.standing = standing;
        wanted
    }

    /// How the client has kept to the protocol so far; told when it may have changed.
    pub fn faults(&mut self, faults: Faults) {
        let before = std::mem::replace(&mut self.state.peer.faults, faults);
        for (name, old, new) in [
            ("session.errors", before.errors, faults.errors),
            ("errors.pipelining", before.pipelining, faults.pipelining),
            ("errors.bare_lf", before.bare_lf, faults.bare_lf),
            ("errors.commands", before.foreign, faults.foreign),
        ] {
            if old != new {
                self.record_fact(name, &Given::Number(i64::try_from(new).unwrap_or(i64::MAX)), false);
            }
        }
    }
}

/// What is asked, and what comes of it.
impl Session {
    /// What should be started now: its input is known, and a rule of this or a later stage can need it. Each inquiry is
    /// given once for the connection, greeting, transaction or recipient it belongs to. Call it again after each finding:
    /// one may make another necessary.
    pub fn inquiries(&mut self) -> SmallVec<[Inquiry; 4]> {
        let mut wanted = SmallVec::new();
        let policy = self.policy.clone();
        let shadow = self.looks_up_for().cloned();
        let mut needs = self.needs_of_all(&policy, shadow.as_deref());
        // What is known without asking may make something else needless; each round settles at least one need.
        for _ in 0..ROUNDS_MAX {
            if !self.settle_known(&needs) {
                break;
            }
            needs = self.needs_of_all(&policy, shadow.as_deref());
        }
        // DMARC wants SPF's word: the signatures are not checked twice.
        let spf_first = needs.contains(&Need::Topic(Topic::Dmarc)) && self.inquiries.spf.is_none();
        for need in needs {
            let Way::Ask(inquiry, since) = self.way(need) else { continue };
            if spf_first && inquiry == Inquiry::Signatures || self.inquiries.answer(&inquiry).is_some() {
                continue;
            }
            self.inquiries.with_spf |= inquiry == Inquiry::Signatures && self.inquiries.spf.is_some();
            self.inquiries.made.push(Made { inquiry: inquiry.clone(), since, answer: None });
            wanted.push(inquiry);
        }
        wanted
    }

    /// Sets what needs nobody to be asked, or was asked before for something else (the null sender's SPF is that of the
    /// HELO name); whether there was any.
    fn settle_known(&mut self, needs: &[Need<'_>]) -> bool {
        let mut any = false;
        for need in needs {
            match self.way(*need) {
                Way::Known(given) => any |= self.settle(*need, given),
                Way::Ask(inquiry, _) => {
                    if let Some(Some(finding)) = self.inquiries.answer(&inquiry) {
                        let finding = finding.clone();
                        self.adopt(&inquiry, &finding);
                        any = true;
                    }
                }
                Way::NotYet => {}
            }
        }
        any
    }

    /// Whether a rule of `stage` can need something that is not found out yet.
    pub fn awaits(&self, stage: Stage) -> bool {
        let open = |need: Need| matches!(self.way(need), Way::Ask(..));
        self.needs_of(&self.policy, &[stage], stage).into_iter().any(open)
    }

    /// Something was found out. What belongs to a greeting or transaction that is over is dropped.
    pub fn found(&mut self, inquiry: &Inquiry, finding: &Finding) {
        let Some(made) = self.inquiries.made.iter_mut().find(|m| m.inquiry == *inquiry && m.answer.is_none()) else {
            return;
        };
        made.answer = Some(finding.clone());
        self.adopt(inquiry, finding);
    }

    /// What SPF said of the sender, for the check of signatures.
    pub fn spf(&self) -> Option<&Spf> {
        self.inquiries.spf.as_ref()
    }

    /// The changes of the helpers that rules obey, in the order of the rules.
    pub fn edits(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for name in self.obeyed() {
            let of_helper = self.inquiries.edits.iter().filter(|(helper, _)| helper == name);
            edits.extend(of_helper.flat_map(|(_, edits)| edits.iter().cloned()));
        }
        edits
    }

    /// Whether anything may have to be found out at all, for this policy or one that runs beside it.
    pub fn asks_anything(&self) -> bool {
        self.policy.asks_anything() || self.looks_up_for().is_some_and(|policy| policy.asks_anything())
    }

    /// What the rules need, and those of a policy that runs beside this one and is looked up for.
    fn needs_of_all<'p>(&self, policy: &'p Policy, shadow: Option<&'p Policy>) -> Needs<'p> {
        let mut needs = self.needs(policy);
        for need in shadow.map(|shadow| self.needs(shadow)).unwrap_or_default() {
            if !needs.contains(&need) {
                needs.push(need);
            }
        }
        needs
    }

    /// What rules of this and of later stages need.
    fn needs<'p>(&self, policy: &'p Policy) -> Needs<'p> {
        let standing = self.inquiries.standing.unwrap_or(Stage::Connect);
        let stages: &[Stage] = match standing {
            Stage::Connect | Stage::Helo | Stage::Auth => &Stage::ALL[standing.index()..Stage::Vrfy.index()],
            Stage::Mail => &[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message],
            Stage::Rcpt => &[Stage::Rcpt, Stage::Data, Stage::Message],
            Stage::Data | Stage::Message => &[Stage::Data, Stage::Message],
            Stage::Vrfy => &[Stage::Vrfy],
        };
        self.needs_of(policy, stages, standing)
    }

    fn needs_of<'p>(&self, policy: &'p Policy, stages: &[Stage], standing: Stage) -> Needs<'p> {
        let mut needs = Needs::new();
        if self.is_trusted() {
            return needs;
        }
        let view = View { state: &self.state, headers: &self.inquiries.section };
        for stage in stages.iter().filter(|s| policy.asks(**s)) {
            let is_reachable = |need: Need| !matches!(self.way(need), Way::NotYet);
            Walk { policy, view, stage: *stage, standing, is_reachable: &is_reachable }.run(&mut needs);
        }
        needs
    }

    /// Something needed that nobody had to be asked about; whether it is set now.
    fn settle(&mut self, need: Need<'_>, given: Given) -> bool {
        match need {
            Need::Topic(Topic::HeloHost) => self.learn("helo.matches", given),
            Need::Topic(Topic::MailDomain) => self.learn("sender.domain.mail", given),
            Need::Dnsbl(name) => {
                let since = self.policy.dnsbls.iter().find(|d| d.name == name).map(|d| d.of.stage());
                self.learn_call("dnsbl", name, since.unwrap_or(Stage::Connect), given, false);
            }
            _ => return false,
        }
        true
    }

    /// Sets the value of a function that somebody finds out: a case file or a recording tells it.
    pub(super) fn set_call(&mut self, function: &'static super::functions::Function, argument: &str, given: Given) {
        let of = |name: &str| self.policy.dnsbls.iter().find(|d| d.name == name).map(|d| d.of.stage());
        let since = match function.takes {
            Argument::Dnsbl => of(argument).unwrap_or(Stage::Connect),
            Argument::Helper | Argument::Field | Argument::Limit => Stage::Rcpt,
        };
        self.state.found.set_call(function.name, argument, since, given);
    }

    /// The greeting is forgotten, or the transaction is over: what is still out for it comes too late.
    pub(super) fn forget_inquiries(&mut self, stage: Stage) {
        let before = if stage == Stage::Helo { Stage::Connect } else { Stage::Helo };
        self.inquiries.begin(stage);
        self.inquiries.standing = self.inquiries.standing.map(|_| before);
        self.state.found.decided();
        self.state.found.begin(stage);
    }
}

#[cfg(test)]
mod tests;
