//! One client's way through the policy: it is told what happens, and answers with decisions.
//!
//! A session belongs to one connection and one core. It keeps the policy it began with; a new policy takes effect with the
//! next connection. How it fails: it does not; misuse such as a recipient before MAIL is decided on what is known.

use super::decision::{Decision, Verdict};
use super::facts::{FactId, Source};
use super::history::History;
use super::inquiries::Inquiries;
use super::journal::Recorder;
use super::judge::{End, Judgement, Mode, Pass};
use super::limits::{Lease, Limits};
use super::program::Memo;
use super::rules::{Policy, RuleId};
use super::score::{NAMED_MAX, tell};
use super::shadow::{Difference, Shadow};
use super::stage::Stage;
use super::state::{ClientFacts, Load, State, TlsFacts, View};
use super::trace::{self, Trace};
use super::tune::Demand;
use super::value::{Given, Value, show_thousandths};
use crate::base::address::ReversePath;
use crate::base::body::BodyShape;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::proof::{DiscardGrant, RelayGrant};
use crate::base::time::{Instant, WallTime};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// How an authentication exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The user is who they say.
    Succeeded(&'a str),
    /// They are not; the reply is 535 unless the policy refuses otherwise.
    Failed,
}

/// One client's way through the policy.
#[derive(Debug)]
pub struct Session {
    pub(super) policy: Arc<Policy>,
    pub(super) limits: Arc<Limits>,
    /// How often the policy had been loaded when the session began.
    pub(super) load: u64,
    /// What the session has done for the reputation of its client.
    pub(super) history: History,
    pub(super) state: State,
    memo: Memo,
    connection: Carried,
    transaction: Carried,
    /// Before the leases: its last line is numbered before they come back.
    pub(super) recorder: Option<Box<Recorder>>,
    /// A second policy that decides beside this one, and where it differed.
    pub(super) shadow: Option<Box<Shadow>>,
    pub(super) differences: Vec<Difference>,
    leases: SmallVec<[Lease; 2]>,
    trace: Option<Box<Trace>>,
    pub(super) demand: Option<Box<Demand>>,
    pub(super) inquiries: Inquiries,
}

/// What decisions leave behind for later ones, for the connection or for the transaction.
#[derive(Debug, Default)]
struct Carried {
    trusted: Option<RuleId>,
    discard: Option<RuleId>,
    quarantine: Option<Arc<str>>,
    route: Option<Arc<str>>,
    /// Said after the recipients: overrides their routes.
    late_route: Option<Arc<str>>,
    tags: SmallVec<[Arc<(String, String)>; 2]>,
    /// The message is to say its score in this field.
    says_score: Option<Arc<str>>,
    obeyed: SmallVec<[Arc<str>; 1]>,
}

impl Carried {
    fn clear(&mut self) {
        self.tags.clear();
        self.obeyed.clear();
        (self.trusted, self.discard, self.quarantine) = (None, None, None);
        (self.route, self.late_route, self.says_score) = (None, None, None);
    }
}

/// Why a fact was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactError {
    /// There is no such fact; the nearest name, if one is near.
    Unknown(Option<&'static str>),
    /// It has another type; what was expected.
    WrongType(&'static str),
    /// It follows from other facts, which can be set.
    Derived,
}

impl std::fmt::Display for FactError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FactError::Unknown(Some(near)) => write!(f, "there is no such fact; did you mean `{near}`?"),
            FactError::Unknown(None) => f.write_str("there is no such fact"),
            FactError::WrongType(expected) => write!(f, "expected {expected}"),
            FactError::Derived => f.write_str("this fact follows from others; set those"),
        }
    }
}

impl Session {
    /// A session that begins at `now`, which is `wall` on the calendar.
    pub fn new(policy: Arc<Policy>, limits: Arc<Limits>, client: ClientFacts, now: Instant, wall: WallTime) -> Session {
        let mut state = State { now, ..State::default() };
        state.peer.ip = Some(client.client.ip().to_canonical());
        state.peer.facts = client;
        (state.peer.opened, state.peer.opened_wall) = (now, wall);
        Session {
            load: limits.loads(),
            history: History::default(),
            policy,
            limits,
            state,
            memo: Memo::default(),
            connection: Carried::default(),
            transaction: Carried::default(),
            recorder: None,
            shadow: None,
            differences: Vec::new(),
            leases: SmallVec::new(),
            trace: None,
            demand: None,
            inquiries: Inquiries::default(),
        }
    }

    /// Before the banner.
    pub fn connect(&mut self, now: Instant, early_talker: bool) -> Decision {
        self.state.peer.early_talker = early_talker;
        let order = self.order();
        let decision = self.decide(now, Stage::Connect, b"", false);
        self.state.found.decided();
        self.record_connect(now, order, &decision);
        decision
    }

    /// HELO, EHLO or LHLO (`extended`: not HELO). Ends the transaction (RFC 5321 §4.1.4).
    pub fn helo(&mut self, now: Instant, name: &str, extended: bool) -> Decision {
        self.state.found.begin(Stage::Helo);
        self.set_greeting(name, extended);
        let order = self.order();
        let decision = self.decide(now, Stage::Helo, b"", false);
        self.state.found.decided();
        self.record_helo(now, order, &decision);
        decision
    }

    /// An authentication exchange has ended. A user who is refused counts as not authenticated.
    pub fn auth(&mut self, now: Instant, outcome: Authentication<'_>) -> Decision {
        let order = self.order();
        let decision = match outcome {
            Authentication::Succeeded(user) => {
                self.state.peer.user.clear();
                self.state.peer.user.push_str(user);
                let decision = self.decide(now, Stage::Auth, b"", false);
                if !decision.verdict.passes() {
                    self.state.peer.user.clear();
                }
                decision
            }
            Authentication::Failed => {
                self.state.peer.auth_failures += 1;
                self.decide(now, Stage::Auth, b"", true)
            }
        };
        self.record_auth(now, order, outcome, &decision);
        decision
    }

    /// MAIL FROM. Begins a new transaction.
    pub fn mail(&mut self, now: Instant, sender: &ReversePath, parameters: &MailParameters) -> Decision {
        self.set_sender(sender, parameters);
        self.decide_mail(now)
    }

    pub(super) fn set_greeting(&mut self, name: &str, extended: bool) {
        self.begin_anew();
        self.state.greeting.name.clear();
        self.state.greeting.name.push_str(name);
        self.state.greeting.extended = extended;
    }

    pub(super) fn set_sender(&mut self, sender: &ReversePath, parameters: &MailParameters) {
        self.begin_anew();
        let t = &mut self.state.transaction;
        if let Some(mailbox) = sender.mailbox() {
            t.sender.set(mailbox);
        }
        (t.declared_octets, t.body, t.smtputf8) = (parameters.size, parameters.body, parameters.smtputf8);
    }

    /// The rest of [`Session::mail`], once the transaction's state is set.
    pub(super) fn decide_mail(&mut self, now: Instant) -> Decision {
        self.state.found.begin(Stage::Mail);
        let order = self.order();
        let decision = self.decide(now, Stage::Mail, b"", false);
        self.state.found.decided();
        if !decision.verdict.passes() {
            self.forget_inquiries(Stage::Mail);
        }
        self.record_mail(now, order, &decision);
        decision
    }

    /// RCPT TO. `exists` is what a table or the backend said, `None` when nobody was asked or could say.
    pub fn rcpt(&mut self, now: Instant, recipient: &Recipient, exists: Option<bool>) -> Decision<RelayGrant> {
        self.state.recipient.address.set(&recipient.mailbox);
        self.state.recipient.exists = exists;
        self.decide_rcpt(now)
    }

    /// What [`Session::rcpt`] would refuse, without counting anything: asked before a recipient is looked up, so that
    /// strangers cannot make us ask the backend about recipients we refuse anyway.
    pub fn probe_rcpt(&mut self, now: Instant, recipient: &Recipient) -> Option<Decision> {
        self.state.recipient.address.set(&recipient.mailbox);
        self.state.recipient.exists = None;
        self.decide_probe(now)
    }

    /// The rest of [`Session::probe_rcpt`], once the recipient is set.
    pub(super) fn decide_probe(&mut self, now: Instant) -> Option<Decision> {
        self.state.now = now;
        let order = self.order();
        let found = match self.trusted() {
            Some(_) => Judgement::open(),
            None => self.judge(Stage::Rcpt, b"", false, Mode::Probe),
        };
        let decision = found.refuses().then(|| self.decision(Stage::Rcpt, found));
        self.state.scores.settle();
        self.record_probe(now, order, decision.as_ref());
        decision
    }

    /// A recipient that [`Session::rcpt`] accepted was refused afterwards, by the backend for instance.
    pub fn recipient_refused(&mut self) {
        let t = &mut self.state.transaction;
        t.accepted = t.accepted.saturating_sub(1);
        t.refused += 1;
        self.record_refused();
    }

    /// The header section is there; the body may still come.
    pub fn data(&mut self, now: Instant, headers: &[u8]) -> Decision {
        match (self.inquiries.standing, self.state.missing.misses_unasked()) {
            (Some(Stage::Message), _) => {}
            (_, true) => self.state.found.begin(Stage::Rcpt),
            // Nobody has told of the message: what its header section says is read here.
            (_, false) => {
                let shape = self.state.transaction.shape;
                self.headers_told(headers, &shape);
            }
        }
        let order = self.order();
        let decision = self.decide(now, Stage::Data, headers, false);
        self.record_data(now, order, headers, &decision);
        decision
    }

    /// The whole message is there. `headers` is at least its header section. Call [`Session::reset`] when it is settled.
    pub fn message(&mut self, now: Instant, shape: &BodyShape, headers: &[u8]) -> Decision {
        self.state.transaction.shape = *shape;
        let order = self.order();
        let mut decision = self.decide(now, Stage::Message, headers, false);
        if decision.verdict.passes() {
            self.state.peer.messages += 1;
            decision.tags = self.tags().map(|t| (t.0.clone(), t.1.clone())).collect();
            decision.tags.extend(self.score_tag());
        }
        self.record_message(now, order, &decision);
        decision
    }

    /// VRFY or EXPN. Accepted: answer it; refused: the reply says how (252 by default).
    pub fn vrfy(&mut self, now: Instant, argument: &str) -> Decision {
        self.state.query.clear();
        self.state.query.push_str(argument);
        let order = self.order();
        let decision = self.decide(now, Stage::Vrfy, b"", false);
        self.record_vrfy(now, order, &decision);
        decision
    }

    /// The transaction is over: RSET, end of data, STARTTLS.
    pub fn reset(&mut self) {
        self.record_reset();
        self.forget_inquiries(Stage::Mail);
        self.begin_anew();
    }

    /// Forgets the transaction.
    pub(super) fn begin_anew(&mut self) {
        self.state.reset();
        self.history.end_transaction();
        self.transaction.clear();
    }

    /// TLS is up. What HELO said is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self, tls: TlsFacts) {
        self.forget_inquiries(Stage::Helo);
        self.begin_anew();
        self.state.greeting.name.clear();
        self.state.scores.forget_greeting();
        self.state.peer.facts.tls = Some(tls);
        self.record_tls();
    }

    /// Whether decisions have left something behind in this transaction.
    pub(super) fn has_carried(&self) -> bool {
        let t = &self.transaction;
        t.trusted.is_some()
            || t.discard.is_some()
            || t.quarantine.is_some()
            || t.route.is_some()
            || !t.tags.is_empty()
            || t.says_score.is_some()
    }

    /// How busy the server is; told now and then.
    pub fn set_load(&mut self, load: Load) {
        self.state.peer.load = load;
    }

    /// Sets a fact: the answer of a lookup, or anything a case file or a recorded session knows.
    pub fn set_fact(&mut self, name: &str, given: Given) -> Result<(), FactError> {
        let Some(id) = FactId::find(name) else {
            return self.set_named(name, given);
        };
        let row = id.row();
        if !given.fits(row.kind) {
            return Err(FactError::WrongType(row.kind.example()));
        }
        match (&row.source, row.set) {
            (Source::Looked, _) => {
                self.record_fact(row.name, &given, row.personal);
                self.state.found.set_fact(id, given);
            }
            (_, Some(set)) => set(&mut self.state, &given),
            (_, None) => return Err(FactError::Derived),
        }
        Ok(())
    }

    /// Sets the value of a function that somebody finds out, such as `dnsbl('zen')`.
    fn set_named(&mut self, name: &str, given: Given) -> Result<(), FactError> {
        let Some((function, argument)) = super::functions::call(name) else {
            let near = super::diagnostic::nearest(name, super::facts::all().iter().map(|f| f.name));
            return Err(FactError::Unknown(near));
        };
        if !given.fits(function.kind) {
            return Err(FactError::WrongType(function.kind.example()));
        }
        self.record_fact(name, &given, false);
        self.set_call(function, argument, given);
        Ok(())
    }

    /// The value of a fact now, for logs and records.
    pub fn fact<R>(&self, name: &str, read: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        let view = View { state: &self.state, headers: b"" };
        Some(super::program::Operand::fact(FactId::find(name)?).with(&view, read))
    }

    /// Records from now on how decisions come about.
    pub fn explain(&mut self) {
        self.trace.get_or_insert_default();
    }
    /// What was recorded.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }
    /// The policy of this session.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
    /// The name of the rule that decided.
    pub fn rule_name(&self, rule: RuleId) -> &str {
        self.policy.rule_name(rule)
    }
    /// Header fields that rules have added so far.
    pub fn tags(&self) -> impl Iterator<Item = &(String, String)> {
        self.connection.tags.iter().chain(&self.transaction.tags).map(|t| &**t)
    }

    /// The header field that says the score, when a threshold wants it.
    fn score_tag(&self) -> Option<(String, String)> {
        let name = self.transaction.says_score.as_ref().or(self.connection.says_score.as_ref())?;
        let told = tell(self.state.scores.all(), NAMED_MAX, |rule| self.policy.rule_name(RuleId(rule)));
        // A field body of one line, in ASCII (RFC 5322 §2.2).
        let told = told.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(700).collect::<String>();
        Some((name.to_string(), format!("{} ({told})", show_thousandths(self.state.scores.total()))))
    }

    /// Whether later rules are passed over.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted().is_some()
    }
    /// Helpers whose advice rules follow, in their order.
    pub(super) fn obeyed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.transaction.obeyed.iter()
    }

    fn trusted(&self) -> Option<RuleId> {
        self.connection.trusted.or(self.transaction.trusted)
    }

    fn decide(&mut self, now: Instant, stage: Stage, headers: &[u8], auth_failed: bool) -> Decision {
        self.state.now = now;
        // A message to be thrown away, or of a trusted client, is not judged again.
        if let Some(rule) = self.transaction.discard.filter(|_| matches!(stage, Stage::Data | Stage::Message)) {
            let end = if stage == Stage::Message { End::Discard } else { End::Pass };
            return self.decision(stage, Judgement { end, rule, ..Judgement::open() });
        }
        if let Some(rule) = self.trusted() {
            let mut decision = self.decision(stage, Judgement { end: End::Pass, rule, ..Judgement::open() });
            decision.reason = Cow::Borrowed("trusted");
            return decision;
        }
        self.state.scores.begin(stage);
        let found = self.judge(stage, headers, auth_failed, Mode::Decide);
        self.carry(stage, &found);
        self.decision(stage, found)
    }

    pub(super) fn decide_rcpt(&mut self, now: Instant) -> Decision<RelayGrant> {
        self.state.found.begin(Stage::Rcpt);
        let order = self.order();
        let trusted = self.trusted().is_some();
        let found = match self.trusted() {
            Some(rule) => Judgement { end: End::Pass, rule, reason: Cow::Borrowed("trusted"), ..Judgement::open() },
            None => {
                self.state.now = now;
                let found = self.judge(Stage::Rcpt, b"", false, Mode::Decide);
                self.carry(Stage::Rcpt, &found);
                found
            }
        };
        debug_assert!(!trusted || !found.refuses());
        let d = self.decision(Stage::Rcpt, found);
        let verdict = match d.verdict {
            Verdict::Refuse(reply) => Verdict::Refuse(reply),
            Verdict::Drop(reply) => Verdict::Drop(reply),
            Verdict::Accept(()) | Verdict::Discard(_) => Verdict::Accept(RelayGrant::issued_by_policy()),
        };
        self.state.found.decided();
        if self.state.recipient.exists == Some(false) {
            self.state.peer.unknown_recipients += 1;
        }
        match verdict.passes() {
            true => self.state.transaction.accepted += 1,
            false => self.state.transaction.refused += 1,
        }
        let Decision { rule, reason, delay, tags, route, quarantine, score, scores, would, guard, priors, .. } = d;
        let decision =
            Decision { verdict, rule, reason, delay, tags, route, quarantine, score, scores, would, guard, priors };
        self.record_rcpt(now, order, &decision);
        decision
    }

    fn judge(&mut self, stage: Stage, headers: &[u8], auth_failed: bool, mode: Mode) -> Judgement {
        let priors = self.before(stage, headers);
        let (policy, limits, load) = (&*self.policy, &self.limits, self.load);
        let view = View { state: &self.state, headers };
        if let Some(demand) = &mut self.demand {
            let mut pass = Pass { policy, limits, view, stage, auth_failed, load, mode, observer: &mut **demand };
            let found = pass.run(&mut self.memo, &mut self.leases);
            return self.after(stage, headers, found, priors);
        }
        let Some(trace) = &mut self.trace else {
            let mut pass = Pass { policy, limits, view, stage, auth_failed, load, mode, observer: &mut () };
            let found = pass.run(&mut self.memo, &mut self.leases);
            return self.after(stage, headers, found, priors);
        };
        let mut recorder = trace::Recorder::default();
        let mut pass = Pass { policy, limits, view, stage, auth_failed, load, mode, observer: &mut recorder };
        let found = pass.run(&mut self.memo, &mut self.leases);
        let verdict = match &found.end {
            End::Refuse(r) => format!("refuse {r}"),
            End::Drop(r) => format!("drop {r}"),
            End::Trust => "trust".into(),
            End::Discard => "discard".into(),
            End::Quarantine(reason) => format!("quarantine {reason}"),
            End::Pass | End::Open => "accept".into(),
        };
        trace.stages.push(recorder.finish(policy, stage, policy.rule_name(found.rule), &verdict));
        self.after(stage, headers, found, priors)
    }

    /// Keeps what later decisions need. What was refused leaves nothing behind.
    fn carry(&mut self, stage: Stage, found: &Judgement) {
        if found.refuses() {
            self.state.scores.settle();
            return;
        }
        if !found.scores.is_empty() {
            self.state.scores.keep(&found.scores);
            self.state.scores.settle();
        }
        let of_connection = matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth);
        if matches!(stage, Stage::Data | Stage::Message) {
            self.transaction.obeyed.extend(found.obeyed.iter().cloned());
        }
        let carried = if of_connection { &mut self.connection } else { &mut self.transaction };
        if found.says_score.is_some() {
            carried.says_score.clone_from(&found.says_score);
        }
        for tag in &found.tags {
            if !carried.tags.contains(tag) {
                carried.tags.push(tag.clone());
            }
        }
        // A route at rcpt is for that recipient; trust there too, else anybody could buy it with a welcome recipient.
        if found.route.is_some() {
            match stage {
                Stage::Rcpt => {}
                Stage::Data | Stage::Message => carried.late_route.clone_from(&found.route),
                _ => carried.route.clone_from(&found.route),
            }
        }
        match &found.end {
            End::Trust if !matches!(stage, Stage::Rcpt | Stage::Vrfy) => carried.trusted = Some(found.rule),
            End::Discard => carried.discard = Some(found.rule),
            End::Quarantine(reason) => carried.quarantine = Some(reason.clone()),
            _ => {}
        }
    }

    fn decision(&self, stage: Stage, found: Judgement) -> Decision {
        let verdict = match found.end {
            End::Refuse(reply) => Verdict::Refuse((*reply).clone()),
            End::Drop(reply) => Verdict::Drop((*reply).clone()),
            End::Discard if stage == Stage::Message => Verdict::Discard(DiscardGrant::issued_by_policy()),
            _ => Verdict::Accept(()),
        };
        let message = stage == Stage::Message && verdict.passes();
        let route = match stage {
            Stage::Rcpt => {
                found.route.or_else(|| self.transaction.route.clone()).or_else(|| self.connection.route.clone())
            }
            Stage::Message => self.transaction.late_route.clone(),
            _ => found.route,
        };
        Decision {
            verdict,
            rule: found.rule,
            reason: found.reason,
            delay: found.delay,
            tags: Vec::new(),
            route,
            quarantine: if message { self.transaction.quarantine.clone() } else { None },
            score: found.score.unwrap_or_else(|| self.state.scores.total()),
            scores: found.scores,
            would: found.would,
            guard: found.guard,
            priors: found.priors,
        }
    }
}
