//! Scores: points that rules add up over a session, and the thresholds at which the sum has an effect.
//!
//! What connect, helo and auth added belongs to the connection, the rest to the transaction. A rule adds its points once:
//! a stage that comes again (EHLO, another AUTH) replaces what it had added, a rule that holds for several recipients has
//! added its points with the first that passed. What is refused leaves nothing behind.
//!
//! How it fails: it does not; points that are not known (a lookup that failed) are none.

use super::program::Operand;
use super::stage::Stage;
use super::value::show_thousandths;
use smallvec::SmallVec;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// Points of one outcome at most, in thousandths.
pub const POINTS_MAX: i64 = 1_000_000_000;
/// Rules named in a reason at most; those that added most.
pub const NAMED_MAX: usize = 8;
/// Rules named in a reply at most: it is one line.
pub const TOLD_MAX: usize = 3;
/// Additions remembered for a connection or a transaction at most; beyond it rules add nothing.
const ADDED_MAX: usize = 1024;

/// What a rule adds.
#[derive(Clone, Debug)]
pub struct Scored {
    /// How much.
    pub points: Points,
    /// Why, for people; may be empty.
    pub reason: Box<str>,
}

/// How much a rule adds.
#[derive(Clone, Debug)]
pub enum Points {
    /// This, in thousandths.
    Fixed(i64),
    /// The value of a fact or function when the rule applies; whether it is kept in thousandths already; its text.
    Of(Operand, bool, Box<str>),
}

impl fmt::Display for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.points {
            Points::Fixed(n) => f.write_str(&signed(*n))?,
            Points::Of(_, _, text) => f.write_str(text)?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {}", self.reason) }
    }
}

/// With a sign in any case: `+4.5`, `-2`.
pub fn signed(thousandths: i64) -> String {
    let plus = if thousandths < 0 { "" } else { "+" };
    format!("{plus}{}", show_thousandths(thousandths))
}

/// Points that a rule has added.
#[derive(Clone, Debug)]
pub struct Added {
    /// Index of the rule.
    pub rule: u32,
    /// Where.
    pub stage: Stage,
    /// How many, in thousandths.
    pub points: i64,
    /// The outcome that added them.
    pub scored: Arc<Scored>,
}

/// What has been added in a session so far.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    connection: SmallVec<[Added; 2]>,
    transaction: SmallVec<[Added; 2]>,
    /// Sums by stage, with what the decision being made has added.
    sums: Cell<[i64; Stage::COUNT]>,
}

impl Scores {
    /// The sum.
    pub fn total(&self) -> i64 {
        self.sums.get().iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
    /// The sum of what a stage added.
    pub fn of(&self, stage: Stage) -> i64 {
        self.sums.get()[stage.index()]
    }
    /// Whether this outcome has added its points already.
    pub fn has(&self, scored: &Arc<Scored>) -> bool {
        self.all().any(|added| Arc::ptr_eq(&added.scored, scored))
    }
    /// Everything that was added, in order.
    pub fn all(&self) -> impl Iterator<Item = &Added> {
        self.connection.iter().chain(&self.transaction)
    }
    /// Adds for the rest of the decision that is being made.
    pub fn pend(&self, stage: Stage, points: i64) {
        let mut sums = self.sums.get();
        sums[stage.index()] = sums[stage.index()].saturating_add(points);
        self.sums.set(sums);
    }
    /// Keeps what a decision has added.
    pub fn keep(&mut self, added: &[Added]) {
        for one in added {
            let of_connection = matches!(one.stage, Stage::Connect | Stage::Helo | Stage::Auth);
            let list = if of_connection { &mut self.connection } else { &mut self.transaction };
            if list.len() < ADDED_MAX {
                list.push(one.clone());
            }
        }
    }
    /// Forgets what was only pending.
    pub fn settle(&self) {
        let mut sums = [0i64; Stage::COUNT];
        for added in self.all() {
            let sum = &mut sums[added.stage.index()];
            *sum = sum.saturating_add(added.points);
        }
        self.sums.set(sums);
    }
    /// The stage is decided anew.
    pub fn begin(&mut self, stage: Stage) {
        if matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth) && !self.connection.is_empty() {
            self.connection.retain(|added| added.stage != stage);
            self.settle();
        }
    }
    /// The transaction is over.
    pub fn end_transaction(&mut self) {
        if !self.transaction.is_empty() {
            self.transaction.clear();
            self.settle();
        }
    }
    /// TLS has begun: what HELO said is forgotten (RFC 3207 §4.2).
    pub fn forget_greeting(&mut self) {
        self.begin(Stage::Helo);
    }
}

/// Who added how much, those that added most first, `most` of them: `bad-helo +4.5, dnsbl +3 and 2 more`.
pub fn tell<'a>(added: impl Iterator<Item = &'a Added>, most: usize, name: impl Fn(u32) -> &'a str) -> String {
    let mut all: SmallVec<[&Added; 8]> = added.filter(|a| a.points != 0).collect();
    all.sort_by_key(|a| std::cmp::Reverse(a.points.unsigned_abs()));
    let shown = all.iter().take(most).map(|a| match &*a.scored.reason {
        "" => format!("{} {}", name(a.rule), signed(a.points)),
        reason => format!("{} {} {reason}", name(a.rule), signed(a.points)),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if all.len() > most {
        text += &format!(" and {} more", all.len() - most);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(rule: u32, stage: Stage, points: i64) -> Added {
        Added { rule, stage, points, scored: Arc::new(Scored { points: Points::Fixed(points), reason: "".into() }) }
    }

    #[test]
    fn the_connection_keeps_its_part() {
        let mut scores = Scores::default();
        scores.keep(&[added(0, Stage::Connect, 1000), added(1, Stage::Helo, 500), added(2, Stage::Mail, -250)]);
        scores.settle();
        assert_eq!((scores.total(), scores.of(Stage::Mail)), (1250, -250));
        scores.pend(Stage::Rcpt, 7);
        assert_eq!(scores.total(), 1257);
        scores.settle();
        assert_eq!(scores.total(), 1250);
        scores.end_transaction();
        assert_eq!(scores.total(), 1500);
        scores.begin(Stage::Helo);
        assert_eq!(scores.total(), 1000);
    }

    #[test]
    fn who_added_most_is_told_first_and_the_rest_is_counted() {
        let all = [added(0, Stage::Mail, 500), added(1, Stage::Mail, -4000), added(2, Stage::Mail, 1250)];
        let names = ["a", "b", "c"];
        let name = |rule: u32| names[rule as usize];
        assert_eq!(tell(all.iter(), 2, name), "b -4, c +1.25 and 1 more");
        assert_eq!(tell(all.iter(), 3, name), "b -4, c +1.25, a +0.5");
    }
}
