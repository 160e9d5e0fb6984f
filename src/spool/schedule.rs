//! When to try again: exponential waits with jitter. Pure. How it fails: it does not; waits saturate.

use crate::base::time::WallTime;
use std::time::Duration;

/// Waits that grow from `first` by `growth_percent` up to `max`, each varied by `jitter_percent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub first: Duration,
    pub max: Duration,
    pub growth_percent: u32,
    pub jitter_percent: u32,
}

impl Backoff {
    /// The wait after the `n`-th failure (from 1), without jitter.
    pub fn wait(&self, n: u32) -> Duration {
        let mut wait_ms = self.first.as_millis();
        let max_ms = self.max.as_millis();
        for _ in 1..n {
            if wait_ms >= max_ms {
                break;
            }
            wait_ms = wait_ms * u128::from(self.growth_percent) / 100;
            if self.growth_percent <= 100 {
                break;
            }
        }
        Duration::from_millis(u64::try_from(wait_ms.min(max_ms)).unwrap_or(u64::MAX))
    }

    /// The time of the next attempt after the `n`-th failure.
    pub fn next(&self, now: WallTime, n: u32, rng: &mut fastrand::Rng) -> WallTime {
        let wait_ms = u64::try_from(self.wait(n).as_millis()).unwrap_or(u64::MAX);
        let spread_ms =
            wait_ms / 100 * u64::from(self.jitter_percent) + wait_ms % 100 * u64::from(self.jitter_percent) / 100;
        let jittered_ms = wait_ms - spread_ms + rng.u64(0..=spread_ms.saturating_mul(2));
        now + Duration::from_millis(jittered_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_stay_within_the_jitter() {
        let mut rng = fastrand::Rng::with_seed(1);
        let b = Backoff {
            first: Duration::from_secs(60),
            max: Duration::from_secs(3600),
            growth_percent: 200,
            jitter_percent: 20,
        };
        let waits: Vec<u64> = (1..9).map(|n| b.wait(n).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(b.wait(u32::MAX).as_secs(), 3600);
        let now = WallTime::from_millis(1_000_000);
        let all: Vec<u64> = (0..1000).map(|_| b.next(now, 1, &mut rng).since(now).as_millis() as u64).collect();
        assert!(all.iter().all(|ms| (48_000..=72_000).contains(ms)));
        assert!(all.iter().any(|ms| *ms < 50_000) && all.iter().any(|ms| *ms > 70_000));
        let flat = Backoff { growth_percent: 100, jitter_percent: 0, ..b };
        assert_eq!(flat.next(now, 50, &mut rng), now + Duration::from_secs(60));
    }
}
