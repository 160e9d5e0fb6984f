//! Walks the rules of a stage with what is known and says what they still need.
//!
//! How it fails: it does not; each step of a condition is looked at once for each way that leads to it.

use super::facts::{FactId, Source};
use super::functions::{Argument, Function};
use super::inquiries::Topic;
use super::outcome::{GreyUse, Outcome};
use super::program::{Atom, FAILS, HOLDS, Operand, Program, Sum, Test, Tri, ask_anew};
use super::rules::{Policy, Rule};
use super::score::Points;
use super::stage::Stage;
use super::state::View;
use super::threshold::Step;
use smallvec::SmallVec;

/// Something that rules need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need<'p> {
    /// Facts.
    Topic(Topic),
    /// A list in the DNS, by its name in the policy.
    Dnsbl(&'p str),
    /// A helper's advice.
    Helper(&'p str),
}

/// What rules need at most; more than any policy asks about.
pub(super) type Needs<'p> = SmallVec<[Need<'p>; 4]>;

/// How a condition can still end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    may_hold: bool,
    may_fail: bool,
}

/// One walk.
pub(super) struct Walk<'p, 'v> {
    pub policy: &'p Policy,
    pub view: View<'v>,
    /// Whose rules.
    pub stage: Stage,
    /// Where the session stands.
    pub standing: Stage,
    /// Whether something can be had where the session stands.
    pub is_reachable: &'v dyn Fn(Need<'_>) -> bool,
}

impl<'p> Walk<'p, '_> {
    /// Adds what the rules need.
    pub fn run(&self, needs: &mut Needs<'p>) {
        for trial in self.policy.at(self.stage) {
            let rule = &self.policy.rules()[trial.rule as usize];
            let mut of_rule = Needs::new();
            let ends = self.explore(trial.entry, &mut of_rule);
            if !ends.may_hold {
                continue;
            }
            self.outcomes(rule, &mut of_rule);
            if let Some(guard) = rule.practice.as_ref().and_then(|practice| practice.guard.as_ref()) {
                self.explore(guard.of, &mut of_rule);
            }
            for need in of_rule {
                add(needs, need);
            }
            // A rule that may only observe ends nothing for certain.
            let is_end =
                !ends.may_fail && rule.practice.is_none() && rule.outcomes.last().is_some_and(Outcome::is_final);
            if is_end {
                return;
            }
        }
        self.thresholds(needs);
    }

    /// What the outcomes of a rule need, should it hold.
    fn outcomes(&self, rule: &'p Rule, needs: &mut Needs<'p>) {
        for outcome in &rule.outcomes {
            match outcome {
                Outcome::Limit(l) => {
                    self.explore(l.exempt, needs);
                    for id in self.policy.limits[l.limit].per.iter().filter_map(super::limit::KeyPart::fact) {
                        if let Some(topic) = self.open_fact(id) {
                            topic.into_iter().for_each(|need| add(needs, need));
                        }
                    }
                }
                Outcome::Obey(name) if self.open_call("helper", name) => add(needs, Need::Helper(name)),
                Outcome::Greylist(used) => self.greylist(used, needs),
                Outcome::Score(scored) => {
                    if let Points::Of(operand, ..) = &scored.points {
                        self.open_operand(operand).flatten().into_iter().for_each(|need| add(needs, need));
                    }
                }
                _ => {}
            }
        }
    }

    /// What greylisting needs: its exemption, its key, and SPF that may stand for the client's network.
    fn greylist(&self, used: &'p GreyUse, needs: &mut Needs<'p>) {
        self.explore(used.exempt, needs);
        for id in self.policy.greylists[used.greylist].facts() {
            self.open_fact(id).flatten().into_iter().for_each(|need| add(needs, need));
        }
    }

    /// What the thresholds of the stage need.
    fn thresholds(&self, needs: &mut Needs<'p>) {
        let Some(thresholds) = &self.policy.thresholds[self.stage.index()] else { return };
        for (_, step) in &thresholds.steps {
            if let Step::Greylist(used) = step {
                self.greylist(used, needs);
            }
        }
    }

    /// Follows a condition through its open parts, both ways.
    fn explore(&self, entry: u32, needs: &mut Needs<'p>) -> Ends {
        let program = &self.policy.program;
        let mut ends = Ends::default();
        let (mut seen, mut todo): (SmallVec<[u32; 8]>, SmallVec<[u32; 8]>) = (SmallVec::new(), SmallVec::new());
        todo.push(self.resolve(entry));
        while let Some(at) = todo.pop() {
            match at {
                HOLDS => ends.may_hold = true,
                FAILS => ends.may_fail = true,
                at if seen.contains(&at) => {}
                at => {
                    seen.push(at);
                    let step = program.steps[at as usize];
                    let (yes, no) = (self.resolve(step.yes), self.resolve(step.no));
                    if yes != no {
                        self.open(&program.atoms[step.atom as usize], &mut |need| add(needs, need));
                        todo.push(no);
                    }
                    todo.push(yes);
                }
            }
        }
        ends
    }

    /// The next open step from here, or how the condition ends.
    fn resolve(&self, mut at: u32) -> u32 {
        let program = &self.policy.program;
        while at < FAILS {
            let step = program.steps[at as usize];
            let atom = &program.atoms[step.atom as usize];
            if self.open(atom, &mut |_| {}) {
                break;
            }
            let wanted = if step.negate { Tri::No } else { Tri::Yes };
            at = if ask_anew(atom, &self.view) == wanted { step.yes } else { step.no };
        }
        at
    }

    /// Whether the answer of an atom is not settled; what it waits for goes to `each`.
    fn open(&self, atom: &'p Atom, each: &mut dyn FnMut(Need<'p>)) -> bool {
        let mut open = false;
        operands(atom, &mut |operand| {
            if let Some(need) = self.open_operand(operand) {
                open = true;
                need.into_iter().for_each(&mut *each);
            }
        });
        open
    }

    fn open_operand(&self, operand: &'p Operand) -> Option<Option<Need<'p>>> {
        match operand {
            Operand::Fact(id, _) => self.open_fact(*id),
            Operand::Call(function, argument) => self.open_function(function, argument),
        }
    }

    /// `None` when the fact is settled; else what it waits for, if it is something to be found out.
    fn open_fact(&self, id: FactId) -> Option<Option<Need<'p>>> {
        let row = id.row();
        let Some(topic) = row.asks else {
            return (!self.is_settled(row.name, row.known.first)).then_some(None);
        };
        let found = match row.source {
            Source::Looked => Some(id),
            Source::Told(_) => row.input.and_then(FactId::find),
        };
        if found.is_some_and(|id| self.view.state.found.fact(id).is_some()) {
            return None;
        }
        self.wanted(Need::Topic(topic))
    }

    fn open_function(&self, function: &Function, argument: &'p str) -> Option<Option<Need<'p>>> {
        let need = match function.takes {
            // Header fields are there once the message is.
            Argument::Field => return (self.standing < Stage::Data || self.standing == Stage::Vrfy).then_some(None),
            // How much is in use is looked up when the stage is judged.
            Argument::Limit => return (!self.is_here()).then_some(None),
            Argument::Dnsbl => Need::Dnsbl(argument),
            Argument::Helper => Need::Helper(argument),
        };
        match self.view.state.found.call(function.name, argument) {
            Some(_) if !self.is_renewed(need) => None,
            _ => self.wanted(need),
        }
    }

    fn open_call(&self, function: &str, argument: &str) -> bool {
        let need = Need::Helper(argument);
        match self.view.state.found.call(function, argument) {
            Some(_) => self.is_renewed(need),
            None => self.is_here() && (self.is_reachable)(need),
        }
    }

    /// A helper says something else of each recipient and of the whole message.
    fn is_renewed(&self, need: Need<'_>) -> bool {
        matches!(need, Need::Helper(_)) && !self.is_here()
    }

    fn wanted(&self, need: Need<'p>) -> Option<Option<Need<'p>>> {
        match ((self.is_reachable)(need), self.is_here()) {
            // What a helper says of the message is not what it says of a recipient.
            (true, here) => Some((here || !matches!(need, Need::Helper(_))).then_some(need)),
            // It will not be found out: unknown, for certain.
            (false, true) => None,
            (false, false) => Some(None),
        }
    }

    /// Whether the session stands where these rules are tried.
    fn is_here(&self) -> bool {
        let place = |stage| if stage == Stage::Data { Stage::Message } else { stage };
        place(self.stage) == place(self.standing)
    }

    /// Whether a fact will not change any more before these rules are tried.
    fn is_settled(&self, name: &str, first: Stage) -> bool {
        // A recipient is looked up, and scores are made, while it is decided.
        if name == "rcpt.exists" || name.starts_with("score") {
            return false;
        }
        if self.is_here() {
            // Nobody has told yet who it is, or what is asked for.
            return !(self.standing == Stage::Auth && first == Stage::Auth || first == Stage::Vrfy);
        }
        let since = match name {
            // RFC 4954 §4 and RFC 3207 §4.2: neither happens in a transaction.
            "authenticated" | "user" | "tls" | "tls.version" | "tls.cipher" | "tls.client_name" => Stage::Mail,
            "client" | "client.port" | "listener" | "early_talker" => Stage::Connect,
            "time.weekday" => Stage::Connect,
            name if name.starts_with("reputation") => Stage::Mail,
            _ if matches!(first, Stage::Helo | Stage::Mail | Stage::Data) => first,
            _ => return false,
        };
        self.standing >= since && self.standing != Stage::Vrfy
    }
}

fn add<'p>(needs: &mut Needs<'p>, need: Need<'p>) {
    if !needs.contains(&need) {
        needs.push(need);
    }
}

/// Everything an atom reads.
fn operands<'p>(atom: &'p Atom, each: &mut dyn FnMut(&'p Operand)) {
    fn of_test<'p>(test: &'p Test, each: &mut dyn FnMut(&'p Operand)) {
        match test {
            Test::Same(other) => each(other),
            Test::Any(inner) => of_test(inner, each),
            Test::Sums(sums) => {
                of_sum(&sums.0, each);
                of_sum(&sums.2, each);
            }
            _ => {}
        }
    }
    fn of_sum<'p>(sum: &'p Sum, each: &mut dyn FnMut(&'p Operand)) {
        match sum {
            Sum::Constant(_) => {}
            Sum::Of(operand) => each(operand),
            Sum::Arithmetic(_, a, b) => {
                of_sum(a, each);
                of_sum(b, each);
            }
        }
    }
    each(&atom.operand);
    of_test(&atom.test, each);
}

fn asks_of(operand: &Operand) -> bool {
    match operand {
        Operand::Fact(_, row) => row.asks.is_some(),
        Operand::Call(function, _) => function.is_found_out(),
    }
}

/// Whether a rule can need something that must be found out.
pub(super) fn asks(rule: &Rule, program: &Program, limits: &[super::limit::Limit]) -> bool {
    let of_limit = |outcome: &Outcome| match outcome {
        Outcome::Limit(l) => {
            let keys = limits[l.limit].per.iter().filter_map(super::limit::KeyPart::fact);
            program.asks(l.exempt) || keys.into_iter().any(|id| id.row().asks.is_some())
        }
        Outcome::Obey(_) => true,
        // SPF may stand for the client's network.
        Outcome::Greylist(_) => true,
        Outcome::Score(scored) => matches!(&scored.points, Points::Of(operand, ..) if asks_of(operand)),
        _ => false,
    };
    program.asks(rule.condition.entry) || rule.outcomes.iter().any(of_limit)
}

impl Program {
    /// Whether the condition at `entry` reads anything that must be found out.
    pub(super) fn asks(&self, entry: u32) -> bool {
        let (mut seen, mut todo) = (Vec::new(), vec![entry]);
        while let Some(at) = todo.pop() {
            if at >= FAILS || seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let step = self.steps[at as usize];
            let mut found = false;
            operands(&self.atoms[step.atom as usize], &mut |operand| found |= asks_of(operand));
            if found {
                return true;
            }
            todo.extend([step.yes, step.no]);
        }
        false
    }

    /// Whether the condition at `entry` would hold if every part whose value is missing went its way.
    pub(super) fn could_hold(&self, entry: u32, view: &View<'_>) -> bool {
        let missing = &view.state.missing;
        let mut at = entry;
        while at < FAILS {
            let step = self.steps[at as usize];
            missing.settle();
            let answer = ask_anew(&self.atoms[step.atom as usize], view);
            let wanted = if step.negate { Tri::No } else { Tri::Yes };
            let holds = answer == wanted || answer == Tri::Unknown && missing.was_asked();
            at = if holds { step.yes } else { step.no };
        }
        at == HOLDS
    }
}
