//! How often each rule decided, by stage and verdict: a table per policy and core, written without locks, and the sums of
//! policies that are gone. The number of series is bounded by the rules of the policy, and over reloads by a cap.
//!
//! How it fails: a rule that the table has no place for counts as the default.

use super::Count;
use crate::policy::{Policy, RuleId, Stage};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Words of verdicts, as `Verdict::word` has them; the last is for words of later versions.
pub const WORDS: [&str; 6] = ["accept", "reject", "defer", "drop", "discard", "other"];
/// Sums of rules of replaced policies that are kept; beyond it they are summed up under [`OTHER`].
const PAST_MAX: usize = 2048;
/// The name under which forgotten rules are summed up.
pub const OTHER: &str = "(earlier rules)";
/// Numbers of one rule.
const PER_RULE: usize = Stage::COUNT * WORDS.len();

/// A series: stage, rule, verdict.
pub type Series = (&'static str, String, &'static str);

/// The table of one policy.
#[derive(Debug)]
pub struct Verdicts {
    policy: Arc<Policy>,
    /// By core; then by rule (the last is the default), stage and word.
    cores: Box<[Box<[Count]>]>,
    /// By core, then by limit: how often it refused.
    limits: Box<[Box<[Count]>]>,
}

impl Verdicts {
    fn new(policy: Arc<Policy>, cores: usize) -> Verdicts {
        let table = |n: usize| (0..n).map(|_| Count::default()).collect::<Box<[Count]>>();
        let size = (policy.rules().len() + 1) * PER_RULE;
        let limits = policy.limit_names().count();
        Verdicts {
            cores: (0..cores).map(|_| table(size)).collect(),
            limits: (0..cores).map(|_| table(limits)).collect(),
            policy,
        }
    }

    /// Counts a decision on `core`, which must be the caller's own.
    #[inline]
    pub fn decided(&self, core: usize, rule: RuleId, stage: Stage, word: &str) {
        let Some(table) = self.cores.get(core) else { return };
        let rule = rule.index().unwrap_or(usize::MAX).min(table.len() / PER_RULE - 1);
        let word = WORDS.iter().position(|w| *w == word).unwrap_or(WORDS.len() - 1);
        table[rule * PER_RULE + stage.index() * WORDS.len() + word].add(1);
    }

    /// Counts a refusal by the limit of this name on `core`.
    pub fn limit_hit(&self, core: usize, name: &str) {
        let place = self.policy.limit_names().position(|limit| limit == name);
        if let Some(count) = place.and_then(|place| self.limits.get(core)?.get(place)) {
            count.add(1);
        }
    }

    fn add_to(&self, sums: &mut Sums) {
        let rules = self.policy.rules().len();
        for rule in 0..=rules {
            let name = self.policy.rules().get(rule).map_or("default", |r| &*r.name);
            for stage in Stage::ALL {
                for (word, text) in WORDS.iter().enumerate() {
                    let place = rule * PER_RULE + stage.index() * WORDS.len() + word;
                    let count: u64 = self.cores.iter().map(|table| table[place].read()).sum();
                    if count > 0 {
                        *sums.verdicts.entry((stage.word(), name.to_owned(), text)).or_default() += count;
                    }
                }
            }
        }
        for (place, name) in self.policy.limit_names().enumerate() {
            let count: u64 = self.limits.iter().map(|table| table[place].read()).sum();
            *sums.limits.entry(name.to_owned()).or_default() += count;
        }
    }
}

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// By series; series without a count are not there.
    pub verdicts: BTreeMap<Series, u64>,
    /// Refusals by limit, of the policies that were in force; also those without any.
    pub limits: BTreeMap<String, u64>,
}

impl Sums {
    /// Keeps the number of series bounded.
    fn fold(&mut self) {
        let excess = self.verdicts.len().saturating_sub(PAST_MAX);
        if excess > 0 {
            // Room for the sums themselves, one for each stage and word.
            let reserve = Stage::COUNT * WORDS.len();
            let known = self.verdicts.keys().filter(|(_, rule, _)| rule != OTHER);
            let gone: Vec<Series> = known.take(excess + reserve).cloned().collect();
            for series in gone {
                let count = self.verdicts.remove(&series).unwrap_or_default();
                *self.verdicts.entry((series.0, OTHER.to_owned(), series.2)).or_default() += count;
            }
        }
        while self.limits.len() > PAST_MAX {
            self.limits.pop_first();
        }
    }
}

/// The tables of all policies that sessions still use.
#[derive(Debug)]
pub struct VerdictBook {
    current: ArcSwap<Verdicts>,
    earlier: Mutex<(Vec<Arc<Verdicts>>, Sums)>,
    cores: usize,
}

impl VerdictBook {
    /// A book that begins with `policy`.
    pub fn new(policy: Arc<Policy>, cores: usize) -> VerdictBook {
        let current = ArcSwap::from_pointee(Verdicts::new(policy, cores));
        VerdictBook { current, earlier: Mutex::default(), cores }
    }

    /// A new policy comes into force; sessions of the one before go on counting in its own table.
    pub fn install(&self, policy: Arc<Policy>) {
        let mut earlier = self.earlier.lock();
        let before = self.current.swap(Arc::new(Verdicts::new(policy, self.cores)));
        earlier.0.push(before);
        let (tables, sums) = &mut *earlier;
        tables.retain(|table| {
            let used = Arc::strong_count(table) > 1;
            if !used {
                table.add_to(sums);
            }
            used
        });
        sums.fold();
    }

    /// The table of a policy that is in force, or was when a session began.
    pub fn of(&self, policy: &Arc<Policy>) -> Arc<Verdicts> {
        let current = self.current.load_full();
        if Arc::ptr_eq(&current.policy, policy) {
            return current;
        }
        // A session that began in the moment of a reload.
        let earlier = self.earlier.lock();
        let found = earlier.0.iter().find(|table| Arc::ptr_eq(&table.policy, policy)).cloned();
        found.unwrap_or(current)
    }

    /// Everything counted since the start.
    pub fn sums(&self) -> Sums {
        let earlier = self.earlier.lock();
        let mut sums = earlier.1.clone();
        earlier.0.iter().for_each(|table| table.add_to(&mut sums));
        self.current.load().add_to(&mut sums);
        sums.fold();
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Builtins, NoFiles};

    fn policy(rule: &str) -> Arc<Policy> {
        let text = format!(
            "[limit.few]\nper='client'\ncounts='connection'\nrate='1/hour'\n\
             [[rule]]\nname='{rule}'\nstage='connect'\nthen=['limit few', 'reject']\n"
        );
        Arc::new(Policy::compile("p", &text, &NoFiles, &Builtins::new(["example.test"]).unwrap()).unwrap())
    }

    fn rule(policy: &Policy, index: usize) -> RuleId {
        policy.rule_id(index)
    }

    #[test]
    fn counts_survive_the_policy_they_were_made_under() {
        let first = policy("one");
        let book = VerdictBook::new(first.clone(), 2);
        book.of(&first).decided(0, rule(&first, 0), Stage::Connect, "reject");
        book.of(&first).decided(1, rule(&first, 0), Stage::Connect, "reject");
        book.of(&first).decided(1, RuleId::DEFAULT, Stage::Mail, "accept");
        book.of(&first).limit_hit(1, "few");
        book.of(&first).limit_hit(1, "none");
        let session = book.of(&first);
        let second = policy("two");
        book.install(second.clone());
        book.of(&second).decided(0, rule(&second, 0), Stage::Connect, "sideways");
        // A session of the first policy goes on.
        session.decided(0, rule(&first, 0), Stage::Connect, "drop");
        drop(session);
        book.install(policy("three"));
        let sums = book.sums();
        let of = |stage, rule: &str, word| sums.verdicts.get(&(stage, rule.to_owned(), word)).copied();
        assert_eq!(of("connect", "one", "reject"), Some(2));
        assert_eq!(of("connect", "one", "drop"), Some(1));
        assert_eq!(of("mail", "default", "accept"), Some(1));
        assert_eq!(of("connect", "two", "other"), Some(1));
        assert_eq!(sums.limits["few"], 1);
        assert_eq!(sums.verdicts.len(), 4, "{sums:?}");
    }

    #[test]
    fn many_reloads_do_not_grow_without_bound() {
        let book = VerdictBook::new(policy("first"), 1);
        for n in 0..PAST_MAX + 50 {
            let next = policy(&format!("rule-{n}"));
            book.install(next.clone());
            book.of(&next).decided(0, rule(&next, 0), Stage::Connect, "reject");
        }
        let sums = book.sums();
        assert!(sums.verdicts.len() <= PAST_MAX, "{}", sums.verdicts.len());
        assert_eq!(sums.verdicts.values().sum::<u64>(), PAST_MAX as u64 + 50, "nothing is lost");
    }
}
