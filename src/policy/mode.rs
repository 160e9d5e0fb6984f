//! The mode of a rule: it acts, it only says what it would have done, or it acts on a share of the clients; and its guard,
//! which makes it observe when it would refuse too much of the traffic that must pass.
//!
//! How it fails: it does not. What a guard has counted belongs to one load of the policy: a reload begins anew.

use super::limit::{KeyPart, key_of};
use super::program::FAILS;
use super::reading::{duration, parse_percent, percent};
use super::rules::fingerprint;
use super::source::{Located, Reader, Table};
use super::state::View;
use crate::base::time::Instant;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Keys of `guard`.
pub const GUARD_KEYS: [&str; 5] = ["most", "of", "over", "at-least", "back"];
/// Whole, in hundredths of a percent.
const WHOLE: u32 = 10_000;
/// Parts of a guard's period; the oldest is forgotten as a whole.
const PARTS: usize = 12;
/// Loads of the policy whose guards are remembered: sessions go on with the policy they began with.
const LOADS_KEPT: u64 = 8;

/// How a rule is practised; rules that simply act have none.
#[derive(Clone, Debug)]
pub struct Practice {
    /// Share of clients on whom it acts, in hundredths of a percent; 0 observes.
    pub share: u32,
    /// What makes it observe.
    pub guard: Option<Guard>,
    /// Who is in the share is another question for each rule.
    identity: u64,
}

/// A guard; see the module's head.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The share of `of` that may be refused, in hundredths of a percent.
    pub most: u32,
    /// First step of the condition that says which traffic must pass.
    pub of: u32,
    /// In what time.
    pub over: Duration,
    /// So much of that traffic must have been seen before it says anything.
    pub at_least: u64,
    /// After what time the rule acts again.
    pub back: Duration,
}

/// A practice as the file has it: the condition of the guard is still text.
pub struct PracticeSource {
    /// Without the condition.
    pub practice: Practice,
    /// The guard's condition.
    pub of: Option<Located>,
}

impl Practice {
    /// Reads `mode` and `guard` of a rule or a threshold; `None` when it simply acts.
    pub fn read(reader: &mut Reader<'_>, name: &str, table: &Table<'_>) -> Option<PracticeSource> {
        let share = match reader.string(table, "mode") {
            None => WHOLE,
            Some(text) => match text.text.trim() {
                "enforce" => WHOLE,
                "observe" => 0,
                other => parse_percent(other).unwrap_or_else(|| {
                    let finding = reader
                        .inside(&text, 0..text.text.len(), format!("unknown mode `{other}`"))
                        .expected("enforce, observe, or a share of clients such as \"25 %\"")
                        .near(other, ["enforce", "observe"]);
                    reader.report(finding);
                    WHOLE
                }),
            },
        };
        let guard = reader.table(table, "guard").and_then(|guard| read_guard(reader, guard));
        let (guard, of) = guard.unzip();
        if share == WHOLE && guard.is_none() {
            return None;
        }
        let identity = u64::from_str_radix(&fingerprint(name, &[])[..16], 16).unwrap_or(0);
        Some(PracticeSource { practice: Practice { share, guard, identity }, of })
    }

    /// Whether it acts on this client. The same answer for all of a network (IPv4 /24, IPv6 /64), today and tomorrow, and
    /// in a replay.
    pub fn acts_on(&self, view: &View<'_>) -> bool {
        match self.share {
            0 => false,
            WHOLE => true,
            share => {
                let network = [KeyPart::Client { v4: 24, v6: 64 }];
                key_of(&network, view, 0, self.identity).is_some_and(|n| n % u64::from(WHOLE) < u64::from(share))
            }
        }
    }

    /// The number under which its guard counts, for one load of the policy.
    pub fn guard_key(&self, policy: u64, load: u64) -> GuardKey {
        GuardKey { load, rule: self.identity ^ policy }
    }
}

fn read_guard(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<(Guard, Located)> {
    reader.known_keys(table, "guard", &GUARD_KEYS);
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
    let most = percent(reader, table, "most");
    let of = reader.string(table, "of");
    let over = duration(reader, table, "over", minute..=31 * day, 60 * minute);
    let at_least = reader.integer(table, "at-least", 1..=1_000_000_000).unwrap_or(50);
    let back = duration(reader, table, "back", minute..=31 * day, over);
    if let (Some(most), Some(of)) = (most, of) {
        return Some((Guard { most, of: FAILS, over, at_least, back }, of));
    }
    for (key, expected) in
        [("most", "the share that may be refused: most = \"2 %\""), ("of", "a condition: of = \"authenticated\"")]
    {
        if !table.contains_key(key) {
            let span = table.iter().next().map_or(0..0, |(k, _)| k.span());
            let finding = reader.at(span, format!("the guard lacks `{key}`")).expected(expected);
            reader.report(finding);
        }
    }
    None
}

/// Whose counts they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuardKey {
    load: u64,
    rule: u64,
}

/// What a guard says to a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The rule may act.
    Act,
    /// It may act again, from now on.
    Back,
    /// From now on it observes.
    Trips,
    /// It observes.
    Observe,
}

/// What guards have seen; shared by all cores.
#[derive(Debug, Default)]
pub struct Guards(Mutex<HashMap<GuardKey, Window>>);

#[derive(Clone, Debug, Default)]
struct Window {
    /// Traffic seen and refused, by part of the period.
    parts: [(u64, u64); PARTS],
    /// Number of the newest part since the clock's beginning.
    newest: u64,
    tripped_until: Option<Instant>,
}

impl Window {
    fn turn(&mut self, now: Instant, guard: &Guard) -> &mut (u64, u64) {
        let part_ns = (guard.over.as_nanos() as u64 / PARTS as u64).max(1);
        let number = now.as_nanos() / part_ns;
        // Cores do not see the same moment: what comes late counts in the newest part.
        if number > self.newest {
            let passed = (number - self.newest).min(PARTS as u64);
            (0..passed).for_each(|i| self.parts[((number - i) % PARTS as u64) as usize] = (0, 0));
            self.newest = number;
        }
        &mut self.parts[(self.newest % PARTS as u64) as usize]
    }
    fn sums(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}

impl Guards {
    /// Traffic that must pass has come to the rule's stage.
    pub fn seen(&self, key: GuardKey, guard: &Guard, now: Instant) {
        self.with(key, |window| {
            if window.tripped_until.is_none() {
                window.turn(now, guard).0 += 1;
            }
        });
    }

    /// The rule would refuse something; `of`: traffic that must pass.
    pub fn refuses(&self, key: GuardKey, guard: &Guard, now: Instant, of: bool) -> Word {
        self.with(key, |window| {
            let mut word = Word::Act;
            match window.tripped_until {
                Some(until) if now < until => return Word::Observe,
                Some(_) => {
                    *window = Window::default();
                    window.turn(now, guard).0 += u64::from(of);
                    word = Word::Back;
                }
                None => {}
            }
            if !of {
                return word;
            }
            window.turn(now, guard).1 += 1;
            let (seen, refused) = window.sums();
            if seen < guard.at_least
                || u128::from(refused) * u128::from(WHOLE) <= u128::from(seen) * u128::from(guard.most)
            {
                return word;
            }
            window.tripped_until = Some(now + guard.back);
            Word::Trips
        })
    }

    fn with<R>(&self, key: GuardKey, look: impl FnOnce(&mut Window) -> R) -> R {
        let mut windows = self.0.lock();
        if !windows.contains_key(&key) {
            windows.retain(|known, _| known.load + LOADS_KEPT >= key.load);
        }
        look(windows.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let hour = Duration::from_secs(3600);
        Guard { most: 200, of: FAILS, over: hour, at_least: 50, back: hour }
    }
    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_guard_trips_above_its_share_and_comes_back() {
        let (guards, guard, key) = (Guards::default(), guard(), GuardKey { load: 0, rule: 1 });
        (0..100).for_each(|i| guards.seen(key, &guard, at(i)));
        assert_eq!(guards.refuses(key, &guard, at(100), true), Word::Act);
        assert_eq!(guards.refuses(key, &guard, at(100), false), Word::Act);
        assert_eq!(guards.refuses(key, &guard, at(100), true), Word::Act);
        assert_eq!(guards.refuses(key, &guard, at(101), true), Word::Trips); // 3 of 100
        assert_eq!(guards.refuses(key, &guard, at(102), false), Word::Observe);
        assert_eq!(guards.refuses(GuardKey { load: 1, rule: 1 }, &guard, at(102), true), Word::Act);
        assert_eq!(guards.refuses(key, &guard, at(3701), false), Word::Back);
        assert_eq!(guards.refuses(key, &guard, at(3702), true), Word::Act);
        // Too little has been seen since to say anything.
        (0..40).for_each(|_| assert_eq!(guards.refuses(key, &guard, at(3703), true), Word::Act));
    }

    #[test]
    fn what_is_older_than_the_period_does_not_count() {
        let (guards, guard, key) = (Guards::default(), guard(), GuardKey { load: 0, rule: 1 });
        (0..60).for_each(|i| guards.seen(key, &guard, at(i)));
        assert_eq!(guards.refuses(key, &guard, at(60), true), Word::Act);
        // An hour later both are forgotten: 49 are too few.
        (0..49).for_each(|i| guards.seen(key, &guard, at(4000 + i)));
        (0..49).for_each(|_| assert_eq!(guards.refuses(key, &guard, at(4100), true), Word::Act));
        guards.seen(key, &guard, at(4101));
        assert_eq!(guards.refuses(key, &guard, at(4102), true), Word::Trips);
    }
}
