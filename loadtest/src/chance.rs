//! Distributions that traffic is drawn from: exponential, lognormal, Zipf; all from a seeded generator, so that a run can be
//! repeated.
//!
//! How it fails: it does not; parameters are checked where they are read.

use fastrand::Rng;

/// A draw from the exponential distribution with mean 1.
pub fn exponential(rng: &mut Rng) -> f64 {
    // f64() is in [0, 1), so the argument of the logarithm is in (0, 1].
    -(1.0 - rng.f64()).ln()
}

/// A draw from the normal distribution with mean 0 and deviation 1 (Box and Muller).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (2.0 * exponential(rng)).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// A draw from the lognormal distribution: `median`, and the deviation `sigma` of the logarithm.
pub fn lognormal(rng: &mut Rng, median: f64, sigma: f64) -> f64 {
    median * (sigma * normal(rng)).exp()
}

/// A generator for one thing of a run: the same seed and number give the same draws, in whatever order things happen.
pub fn generator(seed: u64, number: u64) -> Rng {
    // SplitMix64's finalizer: neighbouring numbers get unrelated generators.
    let mut z = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Rng::with_seed(z ^ (z >> 31))
}

/// Ranks 1 to `n`, rank k with a weight of k to the minus `s`; 0 is uniform. Drawn by rejection-inversion (Hörmann and
/// Derflinger 1996), which needs no table, so a population may have any size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zipf {
    n: u64,
    s: f64,
    low: f64,
    high: f64,
    /// Below this distance to its rank a point is accepted without a look at the weight.
    squeeze: f64,
}

impl Zipf {
    /// `n` ranks (at least one) with exponent `s` (not negative).
    pub fn new(n: u64, s: f64) -> Zipf {
        let n = n.max(1);
        let low = integral(1.5, s) - 1.0;
        let high = integral(n as f64 + 0.5, s);
        let squeeze = 2.0 - inverse(integral(2.5, s) - 2f64.powf(-s), s);
        Zipf { n, s, low, high, squeeze }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// A rank, from 0.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        if self.n == 1 {
            return 0;
        }
        if self.s == 0.0 {
            return rng.u64(0..self.n);
        }
        loop {
            let u = self.high + rng.f64() * (self.low - self.high);
            let x = inverse(u, self.s);
            let rank = x.round().clamp(1.0, self.n as f64);
            if rank - x <= self.squeeze || u >= integral(rank + 0.5, self.s) - rank.powf(-self.s) {
                return rank as u64 - 1;
            }
        }
    }
}

/// The integral of x to the minus s, up to a constant that is the same for all x.
fn integral(x: f64, s: f64) -> f64 {
    let log = x.ln();
    expm1_over((1.0 - s) * log) * log
}

/// The inverse of [`integral`].
fn inverse(y: f64, s: f64) -> f64 {
    let t = (y * (1.0 - s)).max(-1.0);
    (log1p_over(t) * y).exp()
}

/// (exp(x) - 1) / x, also near 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, also near 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    fn quantile(values: &mut [f64], q: f64) -> f64 {
        values.sort_by(f64::total_cmp);
        values[(q * values.len() as f64) as usize]
    }

    #[test]
    fn draws_have_the_quantiles_of_their_distribution() {
        let mut rng = Rng::with_seed(1);
        let mut waits: Vec<f64> = (0..DRAWS).map(|_| exponential(&mut rng)).collect();
        assert!((quantile(&mut waits, 0.5) - 2f64.ln()).abs() < 0.01);
        assert!((quantile(&mut waits, 0.99) - 100f64.ln()).abs() < 0.1);
        let mut sizes: Vec<f64> = (0..DRAWS).map(|_| lognormal(&mut rng, 1000.0, 0.5)).collect();
        assert!((quantile(&mut sizes, 0.5) / 1000.0 - 1.0).abs() < 0.01);
        // One deviation above the middle.
        assert!((quantile(&mut sizes, 0.8413) / (1000.0 * 0.5f64.exp()) - 1.0).abs() < 0.02);
    }

    #[test]
    fn ranks_come_as_often_as_zipf_says() {
        for s in [0.0, 0.5, 1.0, 1.3] {
            for n in [1u64, 2, 10, 1000] {
                let zipf = Zipf::new(n, s);
                let mut rng = Rng::with_seed(9);
                let mut seen = vec![0u32; n as usize];
                (0..DRAWS).for_each(|_| seen[zipf.draw(&mut rng) as usize] += 1);
                let whole: f64 = (1..=n).map(|k| (k as f64).powf(-s)).sum();
                for k in [1, 2, 5, n] {
                    if k > n {
                        continue;
                    }
                    let expected = DRAWS as f64 * (k as f64).powf(-s) / whole;
                    let found = f64::from(seen[k as usize - 1]);
                    // Five deviations of a count.
                    assert!(
                        (found - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                        "n {n} s {s} rank {k}: {found} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_number_has_its_own_generator() {
        let draw = |seed, number| generator(seed, number).u64(..);
        assert_eq!(draw(1, 5), draw(1, 5));
        assert!(draw(1, 5) != draw(1, 6) && draw(1, 5) != draw(2, 5));
    }
}
