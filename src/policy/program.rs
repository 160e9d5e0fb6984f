//! The flat program that conditions become: atoms (one question each) and steps that jump on their answers.
//!
//! `and`, `or` and `not` exist at compile time only: a step names where to go when its atom holds and when it does not.
//! An unknown value makes neither an atom nor its opposite hold. Atoms that stand in several rules are the same atom; when
//! asking is dear, its answer is remembered for the rest of the evaluation. Many texts or networks asked of the same fact
//! stand behind a [`Gate`]: one automaton or one set that says whether any of them can hold.
//!
//! How it fails: evaluation is total.

use super::facts::{Fact, FactId, Source};
use super::functions::{Function, Returned};
use super::limit::Limit;
use super::list::List;
use super::networks::Networks;
use super::state::View;
use super::texts::TextSet;
use super::value::{Type, Value};
use regex::{Regex, RegexSet};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Jump target: the condition holds.
pub const HOLDS: u32 = u32::MAX;
/// Jump target: it does not.
pub const FAILS: u32 = u32::MAX - 1;

/// Answer to an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tri {
    /// It does not hold.
    No,
    /// It holds.
    Yes,
    /// Its value is not known.
    Unknown,
}

impl From<bool> for Tri {
    fn from(b: bool) -> Tri {
        if b { Tri::Yes } else { Tri::No }
    }
}

/// What an atom asks about.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A fact, and its row so that nobody looks it up while judging.
    Fact(FactId, &'static Fact),
    /// A function and its argument.
    Call(&'static Function, Box<str>),
}

impl Operand {
    /// The operand of a fact.
    pub fn fact(id: FactId) -> Operand {
        Operand::Fact(id, id.row())
    }
    /// Hands the value to `ask`.
    #[inline]
    pub fn with<R>(&self, view: &View<'_>, ask: impl FnOnce(Value<'_>) -> R) -> R {
        match self {
            Operand::Fact(id, _) if view.state.missing.hides(*id) => ask(Value::Unknown),
            Operand::Fact(..) => self.with_hidden(view, ask),
            Operand::Call(function, argument) => call(function, argument, view, ask),
        }
    }
    /// Hands the value to `ask`, also one that conditions may not see: the digest of a person is as good a key as the name.
    #[inline]
    pub fn with_hidden<R>(&self, view: &View<'_>, ask: impl FnOnce(Value<'_>) -> R) -> R {
        match self {
            Operand::Fact(id, row) => match row.source {
                Source::Told(read) => ask(read(view)),
                Source::Looked => ask(view.state.heard(*id)),
            },
            Operand::Call(function, argument) => call(function, argument, view, ask),
        }
    }
    /// The type of its value.
    pub fn kind(&self) -> Type {
        match self {
            Operand::Fact(_, row) => row.kind,
            Operand::Call(function, _) => function.kind,
        }
    }
    /// Whether its value is several texts.
    pub fn is_plural(&self) -> bool {
        self.kind().is_plural()
    }
    /// Whether reading it costs more than remembering it.
    fn is_dear(&self) -> bool {
        matches!(self, Operand::Call(..))
    }
}

fn call<R>(function: &'static Function, argument: &str, view: &View<'_>, ask: impl FnOnce(Value<'_>) -> R) -> R {
    // The argument lives in the policy, the view in the session: one lifetime for both while the function runs.
    let view = View { state: view.state, headers: view.headers };
    match (function.read)(&view, argument) {
        Returned::Text(Cow::Borrowed(t)) => ask(Value::Text(t)),
        Returned::Text(Cow::Owned(t)) => ask(Value::Text(&t)),
        Returned::Value(v) => ask(v),
    }
}

/// A relation of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Relation {
    fn holds(self, left: i64, right: i64) -> bool {
        match left.cmp(&right) {
            Ordering::Less => matches!(self, Relation::Less | Relation::LessOrEqual),
            Ordering::Equal => matches!(self, Relation::Equal | Relation::LessOrEqual | Relation::GreaterOrEqual),
            Ordering::Greater => matches!(self, Relation::Greater | Relation::GreaterOrEqual),
        }
    }
    /// With its sides exchanged.
    pub fn flipped(self) -> Relation {
        match self {
            Relation::Equal => Relation::Equal,
            Relation::Less => Relation::Greater,
            Relation::LessOrEqual => Relation::GreaterOrEqual,
            Relation::Greater => Relation::Less,
            Relation::GreaterOrEqual => Relation::LessOrEqual,
        }
    }
}

/// A number made of facts and constants. Overflow stays at the largest number; a division by zero is unknown.
#[derive(Clone, Debug)]
pub enum Sum {
    /// A constant.
    Constant(i64),
    /// A fact or function.
    Of(Operand),
    /// `+ - * / %`
    Arithmetic(char, Box<Sum>, Box<Sum>),
}

impl Sum {
    /// Every operand in it.
    fn operands(&self, each: &mut impl FnMut(&Operand)) {
        match self {
            Sum::Constant(_) => {}
            Sum::Of(operand) => each(operand),
            Sum::Arithmetic(_, a, b) => {
                a.operands(each);
                b.operands(each);
            }
        }
    }
    fn value(&self, view: &View<'_>) -> Option<i64> {
        match self {
            Sum::Constant(n) => Some(*n),
            Sum::Of(operand) => operand.with(view, |v| match v {
                Value::Number(n) | Value::Score(n) => Some(n),
                _ => None,
            }),
            Sum::Arithmetic(op, a, b) => {
                let (a, b) = (a.value(view)?, b.value(view)?);
                match op {
                    '+' => Some(a.saturating_add(b)),
                    '-' => Some(a.saturating_sub(b)),
                    '*' => Some(a.saturating_mul(b)),
                    '/' => a.checked_div(b),
                    _ => a.checked_rem(b),
                }
            }
        }
    }
}

/// What an atom asks.
#[derive(Debug)]
pub enum Test {
    /// It is true.
    Flag,
    /// Its relation to a constant.
    Number(Relation, i64),
    /// It and another number (the operand is part of the left sum).
    Sums(Box<(Sum, Relation, Sum)>),
    /// It is this text.
    Is(Box<str>),
    /// It is the same text as another.
    Same(Operand),
    /// It has this text in it; in lower case.
    Contains(Box<str>),
    /// It begins with this text.
    StartsWith(Box<str>),
    /// It ends with this text.
    EndsWith(Box<str>),
    /// The expression matches.
    Matches(Box<Regex>),
    /// It is one of these texts (domains: by their reach).
    Texts(Box<TextSet>, Type),
    /// It is one of these numbers.
    Numbers(Box<[i64]>),
    /// It is in one of these networks.
    Networks(Box<Networks>),
    /// It is in the list.
    List(Arc<List>, Type),
    /// It is known.
    Known,
    /// The test holds for one of several texts, one a line.
    Any(Box<Test>),
}

/// One question.
#[derive(Debug)]
pub struct Atom {
    /// About what.
    pub operand: Operand,
    /// What.
    pub test: Test,
    /// As it stands in the policy file, for the trace.
    pub text: Box<str>,
    /// Where its answer is remembered, if it is.
    pub memo: Option<u16>,
    /// The gate that must be open for it to hold, if it has one.
    pub gate: Option<u16>,
}

/// One step of a condition.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which question.
    pub atom: u32,
    /// Whether the opposite is wanted.
    pub negate: bool,
    /// Where to go when it (or the opposite) holds.
    pub yes: u32,
    /// Where to go when not.
    pub no: u32,
}

/// One question for many atoms about the same fact: may any of them hold? Most rules do not apply to most sessions, and a
/// closed gate answers for all its atoms at once.
#[derive(Debug)]
pub struct Gate {
    operand: Operand,
    key: GateKey,
    memo: u16,
}

#[derive(Debug)]
enum GateKey {
    /// Texts that any of the atoms accepts, or more.
    Texts(RegexSet),
    /// All networks of the atoms.
    Networks(Box<Networks>),
}

/// The conditions of a policy.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) atoms: Vec<Atom>,
    pub(super) steps: Vec<Step>,
    pub(super) gates: Vec<Gate>,
    pub(super) memos: u16,
}

/// Remembered answers of one evaluation.
#[derive(Debug, Default, Clone)]
pub struct Memo(Vec<u8>);

impl Memo {
    /// Forgets all answers.
    pub fn clear(&mut self, program: &Program) {
        self.0.clear();
        self.0.resize(usize::from(program.memos), 0);
    }
}

/// Somebody who wants to know what was asked. The unit type does not, and costs nothing.
pub trait Observer {
    /// Whether it wants to hear of every rule; else rules that cannot match are passed over.
    const WATCHES: bool = true;
    /// An atom was asked.
    fn asked(&mut self, _atom: &Atom, _negate: bool, _answer: Tri, _view: &View<'_>) {}
    /// A rule was tried.
    fn tried(&mut self, _rule: usize, _matched: bool) {}
    /// Whether limits let everything pass, so that all demand is seen.
    const IGNORES_LIMITS: bool = false;
    /// A limit was looked at: its index, itself, the key and how many units are wanted.
    fn limit(&mut self, _index: usize, _limit: &Limit, _key: u64, _units: u64, _view: &View<'_>) {}
    /// An outcome of the rule tried last did something (or a limit let it pass).
    fn effect(&mut self, _what: impl FnOnce() -> String) {}
}

impl Observer for () {
    const WATCHES: bool = false;
}

impl Program {
    /// Whether the condition that begins at `entry` holds.
    #[inline]
    pub fn holds(&self, entry: u32, view: &View<'_>, memo: &mut Memo, observer: &mut impl Observer) -> bool {
        let mut at = entry;
        while at < FAILS {
            let step = self.steps[at as usize];
            let atom = &self.atoms[step.atom as usize];
            let answer = self.ask(atom, view, memo);
            observer.asked(atom, step.negate, answer, view);
            let wanted = if step.negate { Tri::No } else { Tri::Yes };
            at = if answer == wanted { step.yes } else { step.no };
        }
        at == HOLDS
    }

    #[inline]
    fn ask(&self, atom: &Atom, view: &View<'_>, memo: &mut Memo) -> Tri {
        if let Some(gate) = atom.gate
            && !self.is_open(gate, view, memo)
        {
            return Tri::No;
        }
        let Some(slot) = atom.memo else { return ask_anew(atom, view) };
        match memo.0[usize::from(slot)] {
            0 => {
                let answer = ask_anew(atom, view);
                memo.0[usize::from(slot)] = answer as u8 + 1;
                answer
            }
            3 => {
                // Asked again, so that a missing fact is noticed by this rule too.
                atom.operand.with(view, |_| ());
                Tri::Unknown
            }
            n => [Tri::No, Tri::Yes][usize::from(n - 1) & 1],
        }
    }

    /// Names of header fields whose text some condition reads.
    pub(super) fn header_names(&self) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut add = |operand: &Operand| match operand {
            Operand::Call(function, argument) if function.name == "header" && !names.contains(argument) => {
                names.push(argument.clone());
            }
            _ => {}
        };
        for atom in &self.atoms {
            add(&atom.operand);
            if let Test::Same(other) = &atom.test {
                add(other);
            }
        }
        names
    }

    /// Arguments with which the function is called in the condition that begins at `entry`, each once.
    pub(super) fn calls(&self, entry: u32, function: &str, found: &mut Vec<Box<str>>) {
        let (mut seen, mut todo) = (Vec::new(), vec![entry]);
        let mut add = |operand: &Operand| match operand {
            Operand::Call(f, argument) if f.name == function && !found.contains(argument) => {
                found.push(argument.clone())
            }
            _ => {}
        };
        while let Some(at) = todo.pop() {
            if at >= FAILS || seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let step = self.steps[at as usize];
            let atom = &self.atoms[step.atom as usize];
            add(&atom.operand);
            match &atom.test {
                Test::Same(other) => add(other),
                Test::Sums(sums) => [&sums.0, &sums.2].into_iter().for_each(|sum| sum.operands(&mut add)),
                _ => {}
            }
            todo.extend([step.yes, step.no]);
        }
    }

    /// Whether the gate is open; found out once per evaluation. An unknown value opens it: its atoms are not false.
    #[inline]
    pub(super) fn is_open(&self, gate: u16, view: &View<'_>, memo: &mut Memo) -> bool {
        let gate = &self.gates[usize::from(gate)];
        let slot = &mut memo.0[usize::from(gate.memo)];
        if *slot == 0 {
            *slot = 1 + u8::from(gate.try_open(view));
        }
        *slot == 2
    }

    /// A gate without which the condition at `entry` cannot hold, if there is one: with all its atoms false no path
    /// through the steps leads to [`HOLDS`].
    pub(super) fn guard(&self, entry: u32) -> Option<u16> {
        let (mut seen, mut todo, mut gates) = (Vec::new(), vec![entry], Vec::new());
        while let Some(at) = todo.pop() {
            if at < FAILS && !seen.contains(&at) {
                seen.push(at);
                let step = self.steps[at as usize];
                gates.extend(self.atoms[step.atom as usize].gate);
                todo.extend([step.yes, step.no]);
            }
        }
        gates.into_iter().find(|gate| !self.may_hold(entry, *gate))
    }

    fn may_hold(&self, entry: u32, closed: u16) -> bool {
        let (mut seen, mut todo) = (Vec::new(), vec![entry]);
        while let Some(at) = todo.pop() {
            if at == HOLDS {
                return true;
            }
            if at == FAILS || seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let step = self.steps[at as usize];
            if self.atoms[step.atom as usize].gate == Some(closed) {
                todo.push(if step.negate { step.yes } else { step.no });
            } else {
                todo.extend([step.yes, step.no]);
            }
        }
        false
    }

    /// Shares what can be shared, once all conditions are there: answers of dear atoms used more than once, and gates.
    pub(super) fn finish(&mut self, uses: &[u32]) {
        for (atom, uses) in self.atoms.iter_mut().zip(uses) {
            let dear =
                atom.operand.is_dear() || matches!(atom.test, Test::Matches(..) | Test::Texts(..) | Test::List(..));
            if *uses > 1 && dear && self.memos < u16::MAX {
                atom.memo = Some(self.memos);
                self.memos += 1;
            }
        }
        self.add_gates();
    }

    /// Puts gates before the atoms of facts about which many texts or networks are asked.
    fn add_gates(&mut self) {
        const WORTH_IT: usize = 3; // below, asking one after the other is as fast
        let mut by_fact: BTreeMap<(FactId, bool), Vec<usize>> = BTreeMap::new();
        for (i, atom) in self.atoms.iter().enumerate() {
            let texts = match &atom.test {
                Test::Networks(_) => false,
                test if pattern(test).is_some() => true,
                _ => continue,
            };
            if let Operand::Fact(id, _) = atom.operand {
                by_fact.entry((id, texts)).or_default().push(i);
            }
        }
        for ((_, texts), atoms) in by_fact.into_iter().filter(|(_, atoms)| atoms.len() >= WORTH_IT) {
            let tests = || atoms.iter().map(|i| &self.atoms[*i].test);
            let key = match texts {
                true => RegexSet::new(tests().filter_map(pattern)).map(GateKey::Texts).ok(),
                false => Some(GateKey::Networks(Box::new(Networks::union(tests().filter_map(|t| match t {
                    Test::Networks(set) => Some(&**set),
                    _ => None,
                }))))),
            };
            // Expressions too big together are tried alone.
            let (Some(key), Some(memos)) = (key, self.memos.checked_add(1)) else { continue };
            let gate = self.gates.len() as u16;
            self.gates.push(Gate { operand: self.atoms[atoms[0]].operand.clone(), key, memo: self.memos });
            self.memos = memos;
            atoms.iter().for_each(|i| self.atoms[*i].gate = Some(gate));
        }
    }
}

impl Gate {
    #[cold]
    fn try_open(&self, view: &View<'_>) -> bool {
        self.operand.with(view, |value| match (&self.key, value) {
            (GateKey::Texts(set), Value::Text(t)) => set.is_match(t),
            (GateKey::Networks(set), Value::Ip(ip)) => set.contains(ip),
            _ => true,
        })
    }
}

/// An expression that matches at least the texts for which the test holds. Folding of Unicode case is more than the
/// test's folding of ASCII, which a gate may be.
fn pattern(test: &Test) -> Option<String> {
    match test {
        Test::Is(t) => Some(format!("(?i:^{}$)", regex::escape(t))),
        Test::Contains(t) => Some(format!("(?i:{})", regex::escape(t))),
        Test::StartsWith(t) => Some(format!("(?i:^{})", regex::escape(t))),
        Test::EndsWith(t) => Some(format!("(?i:{}$)", regex::escape(t))),
        Test::Matches(regex) => Some(regex.as_str().to_owned()),
        _ => None,
    }
}

pub(super) fn ask_anew(atom: &Atom, view: &View<'_>) -> Tri {
    if let Test::Sums(sums) = &atom.test {
        let (left, relation, right) = &**sums;
        return match (left.value(view), right.value(view)) {
            (Some(a), Some(b)) => relation.holds(a, b).into(),
            _ => Tri::Unknown,
        };
    }
    atom.operand.with(view, |value| match (&atom.test, value) {
        // What a recording could not tell may have been known.
        (Test::Known, Value::Unknown) if view.state.missing.was_asked() => Tri::Unknown,
        (Test::Known, Value::Unknown) => Tri::No,
        (Test::Known, _) => Tri::Yes,
        (_, Value::Unknown) => Tri::Unknown,
        (Test::Flag, Value::Flag(b)) => b.into(),
        (Test::Number(relation, n), Value::Number(v) | Value::Score(v)) => relation.holds(v, *n).into(),
        (Test::Numbers(set), Value::Number(v) | Value::Score(v)) => set.contains(&v).into(),
        (Test::Networks(set), Value::Ip(ip)) => set.contains(ip).into(),
        (Test::List(list, kind), v) => list.contains(*kind, v).into(),
        (Test::Any(test), Value::Text(lines)) => any_line(test, lines, view),
        (test, Value::Text(t)) => text_test(test, t, view),
        // The checker lets no other pair through.
        _ => Tri::Unknown,
    })
}

/// Whether the test holds for one of the lines; without any line it does not.
fn any_line(test: &Test, lines: &str, view: &View<'_>) -> Tri {
    let mut answer = Tri::No;
    for line in lines.split('\n').filter(|l| !l.is_empty()) {
        let this = match test {
            Test::List(list, kind) => list.contains(*kind, Value::Text(line)).into(),
            test => text_test(test, line, view),
        };
        match this {
            Tri::Yes => return Tri::Yes,
            Tri::Unknown => answer = Tri::Unknown,
            Tri::No => {}
        }
    }
    answer
}

fn text_test(test: &Test, text: &str, view: &View<'_>) -> Tri {
    match test {
        Test::Is(t) => text.eq_ignore_ascii_case(t).into(),
        Test::Same(other) => other.with(view, |v| match v {
            Value::Text(t) => text.eq_ignore_ascii_case(t).into(),
            _ => Tri::Unknown,
        }),
        Test::Contains(t) => contains(text.as_bytes(), t.as_bytes()).into(),
        Test::StartsWith(t) => {
            text.as_bytes().get(..t.len()).is_some_and(|head| head.eq_ignore_ascii_case(t.as_bytes())).into()
        }
        Test::EndsWith(t) => {
            let tail = text.len().checked_sub(t.len()).map(|at| &text.as_bytes()[at..]);
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(t.as_bytes())).into()
        }
        Test::Matches(regex) => regex.is_match(text).into(),
        Test::Texts(set, Type::Domain) => set.covers_domain(text).into(),
        Test::Texts(set, _) => set.contains(text).into(),
        _ => Tri::Unknown,
    }
}

/// Whether `needle` (in lower case) is in `text`, without regard to ASCII case. Jumps by the needle's first octet.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut at = 0;
    while let Some(found) = memchr::memchr2(*first, first.to_ascii_uppercase(), &text[at..]) {
        let start = at + found;
        match text.get(start..start + needle.len()) {
            Some(window) if window.eq_ignore_ascii_case(needle) => return true,
            Some(_) => at = start + 1,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn contains_agrees_with_the_naive_twin(text in "[aAbB]{0,20}", needle in "[ab]{0,4}") {
            prop_assert_eq!(contains(text.as_bytes(), needle.as_bytes()), text.to_lowercase().contains(&needle));
        }
    }
}
