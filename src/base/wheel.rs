//! A hierarchical timer wheel: arming costs the same however many timers wait, and there is no cancelling.
//!
//! A timer is a hint to look: its owner keeps the true deadline, and when the wheel names it early (because the
//! deadline was moved) it arms again. So activity on a connection costs one store, and the wheel holds one entry per
//! connection. Keys come no earlier than asked and at most one tick (4.19 ms) late, apart from the caller's own delay.
//! How it fails: it does not; deadlines beyond the horizon (52 days) are carried along in the last level.

use crate::base::time::Instant;

/// Nanoseconds of a tick as a power of two: 4,194,304 ns.
const TICK_SHIFT: u32 = 22;
/// Slots per level, as a power of two. One machine word marks which are taken.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^5 ticks of 4.19 ms reach 52 days; a timer of SMTP waits minutes, one of the spool days.
const LEVELS: usize = 5;

#[derive(Debug)]
struct Level<K> {
    /// Bit n: slot n is not empty.
    taken: u64,
    slots: [Vec<(u64, K)>; SLOTS],
}

/// Timers of one loop, each known by a key.
#[derive(Debug)]
pub struct Wheel<K: Copy> {
    levels: [Level<K>; LEVELS],
    /// The tick up to which everything has been handed out.
    now: u64,
    len: usize,
    /// Reused while a slot is emptied.
    spread: Vec<(u64, K)>,
}

impl<K: Copy> Default for Wheel<K> {
    fn default() -> Self {
        Wheel::new(Instant::ZERO)
    }
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Wheel<K> {
        let level = || Level { taken: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Wheel { levels: std::array::from_fn(|_| level()), now: tick_before(now), len: 0, spread: Vec::new() }
    }

    /// Timers waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has [`Wheel::expired`] name `key` once `at` has come. A key may be armed several times, and is named as often.
    pub fn arm(&mut self, key: K, at: Instant) {
        self.len += 1;
        self.file(tick_after(at), key);
    }

    /// Puts an entry where it is found in time.
    fn file(&mut self, due: u64, key: K) {
        // What is due already goes to the next tick, which is handed out first.
        let tick = due.max(self.now + 1);
        // The level is the highest group of six bits in which the deadline differs from the present: there the hand
        // has yet to reach the slot. The last level is a ring: a slot behind the hand belongs to its next turn, and
        // what lies beyond a whole turn waits in the slot that comes last, to be filed again.
        let differs = u64::BITS - 1 - (tick ^ self.now).leading_zeros();
        let level = ((differs / SLOT_BITS) as usize).min(LEVELS - 1);
        let last_shift = SLOT_BITS * (LEVELS as u32 - 1);
        let is_beyond = (tick >> last_shift) - (self.now >> last_shift) >= SLOTS as u64;
        let slot = slot_of(if is_beyond { self.now } else { tick }, level);
        let level = &mut self.levels[level];
        level.taken |= 1 << slot;
        level.slots[slot].push((due, key));
    }

    /// The tick at which something has to be done next: a timer is due, or a coarse slot has to be spread.
    fn next_tick(&self) -> Option<(u64, usize)> {
        for (n, level) in self.levels.iter().enumerate() {
            if level.taken == 0 {
                continue;
            }
            let shift = SLOT_BITS * n as u32;
            let hand = (self.now >> shift) as u32 % SLOTS as u32;
            // Slots behind the hand come in this turn of the level, those up to it in the next one.
            let ahead = level.taken & (u64::MAX << hand << 1);
            let turn = self.now >> (shift + SLOT_BITS);
            let (turn, slot) =
                if ahead != 0 { (turn, ahead.trailing_zeros()) } else { (turn + 1, level.taken.trailing_zeros()) };
            return Some(((turn << SLOT_BITS | u64::from(slot)) << shift, n));
        }
        None
    }

    /// Appends the keys whose time has come, tick by tick.
    pub fn expired(&mut self, now: Instant, out: &mut Vec<K>) {
        let until = tick_before(now);
        while let Some((tick, level)) = self.next_tick().filter(|(tick, _)| *tick <= until) {
            debug_assert!(tick > self.now);
            self.now = tick;
            self.empty_slot(level, slot_of(tick, level), out);
        }
        self.now = self.now.max(until);
    }

    /// The hand has reached a slot: what is due goes out, the rest is filed again, nearer.
    fn empty_slot(&mut self, level: usize, slot: usize, out: &mut Vec<K>) {
        self.levels[level].taken &= !(1 << slot);
        let mut entries = std::mem::take(&mut self.spread);
        std::mem::swap(&mut entries, &mut self.levels[level].slots[slot]);
        for (due, key) in entries.drain(..) {
            if due <= self.now {
                self.len -= 1;
                out.push(key);
            } else {
                self.file(due, key);
            }
        }
        self.spread = entries;
    }

    /// When to call [`Wheel::expired`] next. May be early (then nothing is named), never late.
    pub fn next(&self) -> Option<Instant> {
        self.next_tick().map(|(tick, _)| Instant::from_nanos(tick.saturating_mul(1 << TICK_SHIFT)))
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

/// The last tick that has begun at `at`.
fn tick_before(at: Instant) -> u64 {
    at.as_nanos() >> TICK_SHIFT
}

/// The first tick that begins at `at` or later.
fn tick_after(at: Instant) -> u64 {
    at.as_nanos().div_ceil(1 << TICK_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn at_tick(tick: u64) -> Instant {
        Instant::from_nanos(tick << TICK_SHIFT)
    }

    /// The same promises, by a sorted map.
    #[derive(Default)]
    struct Naive {
        now: u64,
        due: BTreeMap<u64, Vec<u32>>,
    }

    impl Naive {
        fn arm(&mut self, key: u32, at: Instant) {
            self.due.entry(tick_after(at).max(self.now + 1)).or_default().push(key);
        }
        fn expired(&mut self, now: Instant) -> Vec<Vec<u32>> {
            self.now = self.now.max(tick_before(now));
            let later = self.due.split_off(&(self.now + 1));
            std::mem::replace(&mut self.due, later).into_values().collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Advance(u64),
        AdvanceToNext,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Any magnitude: from below a tick to beyond the horizon.
        let span = (0u32..58, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1));
        let step = prop_oneof![
            4 => span.clone().prop_map(Step::Arm),
            1 => span.prop_map(Step::Advance),
            2 => Just(Step::AdvanceToNext),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map(start in 0u64..1 << 60, steps in steps()) {
            let mut now = Instant::from_nanos(start);
            let mut wheel = Wheel::new(now);
            let mut naive = Naive { now: tick_before(now), ..Naive::default() };
            for (key, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Arm(ahead) => {
                        let at = now + Duration::from_nanos(ahead);
                        wheel.arm(key as u32, at);
                        naive.arm(key as u32, at);
                        prop_assert!(wheel.next().unwrap() <= at.max(at_tick(naive.now + 1)) + Duration::from_nanos(1 << TICK_SHIFT));
                        continue;
                    }
                    Step::Advance(by) => now = now + Duration::from_nanos(by),
                    Step::AdvanceToNext => now = wheel.next().unwrap_or(now),
                }
                let mut named = Vec::new();
                wheel.expired(now, &mut named);
                // Tick by tick in order; within a tick in any order.
                for mut tick in naive.expired(now) {
                    prop_assert!(named.len() >= tick.len());
                    let mut mine: Vec<u32> = named.drain(..tick.len()).collect();
                    mine.sort_unstable();
                    tick.sort_unstable();
                    prop_assert_eq!(mine, tick);
                }
                prop_assert!(named.is_empty(), "named early: {:?}", named);
                prop_assert_eq!(wheel.len(), naive.due.values().map(Vec::len).sum::<usize>());
                prop_assert!(wheel.next().is_none_or(|next| next > now));
                prop_assert_eq!(wheel.next().is_none(), wheel.is_empty());
            }
        }
    }

    #[test]
    fn a_deadline_is_never_named_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::default();
        let mut out = Vec::new();
        let at = Instant::from_nanos(300_000_000_001); // five minutes and a nanosecond
        wheel.arm('x', at);
        let mut now = Instant::ZERO;
        while out.is_empty() {
            now = wheel.next().unwrap();
            wheel.expired(now, &mut out);
        }
        assert!(now >= at && now - at <= Duration::from_nanos(1 << TICK_SHIFT));
    }

    #[test]
    fn a_turn_of_the_last_level_hides_nothing() {
        let edge = 1u64 << (SLOT_BITS * LEVELS as u32);
        for (now, due) in [(edge - 5, edge + 5), (edge - 1, edge), (3 * edge - 1, 5 * edge), (7, edge + 7)] {
            let mut wheel = Wheel::new(at_tick(now));
            wheel.arm(1, at_tick(due));
            let mut out = Vec::new();
            wheel.expired(at_tick(due - 1), &mut out);
            assert!(out.is_empty());
            wheel.expired(at_tick(due), &mut out);
            assert_eq!(out, [1], "armed at {now} for {due}");
        }
    }

    #[test]
    fn the_far_future_waits() {
        let mut wheel = Wheel::default();
        wheel.arm((), Instant::FAR);
        let mut out = Vec::new();
        for _ in 0..100 {
            let next = wheel.next().unwrap();
            wheel.expired(next, &mut out);
        }
        assert!(out.is_empty() && wheel.len() == 1);
    }
}
