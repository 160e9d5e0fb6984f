//! How large messages are: all alike, uniform, lognormal, or as a histogram file says.
//!
//! How it fails: a text or file that is none of these is refused with what was expected and, in a file, the line.

use crate::chance;
use fastrand::Rng;
use gatepost::base::knob::{KnobType, Octets, Raw};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Largest message made: above every server's limit, below what hurts the harness.
pub const SIZE_OCTETS_MAX: u64 = 256 << 20;
/// Longest histogram file, in lines.
const LINES_MAX: usize = 100_000;
/// Largest deviation of a lognormal size; beyond it nearly all messages are at the limits.
const SIGMA_MAX: f64 = 5.0;

/// A distribution of sizes, in octets.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u64),
    /// Each size from the first to the second alike.
    Uniform(u64, u64),
    /// By median and deviation of the logarithm; cut at [`SIZE_OCTETS_MAX`].
    Lognormal(u64, f64),
    /// Sizes with their weights, added up; and where they come from.
    Histogram(Arc<Vec<(u64, f64)>>, String),
}

impl Sizes {
    /// A size.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let octets = match self {
            Sizes::Fixed(n) => *n,
            Sizes::Uniform(low, high) => rng.u64(*low..=*high),
            Sizes::Lognormal(median, sigma) => chance::lognormal(rng, *median as f64, *sigma) as u64,
            Sizes::Histogram(rows, _) => {
                let dice = rng.f64() * rows.last().map_or(0.0, |(_, up_to)| *up_to);
                let row = rows.partition_point(|(_, up_to)| *up_to <= dice);
                rows.get(row).or(rows.last()).map_or(0, |(octets, _)| *octets)
            }
        };
        // At most 256 MiB, which every address space has.
        octets.min(SIZE_OCTETS_MAX) as usize
    }

    /// A histogram: lines of `SIZE WEIGHT` (separated by blanks or a comma); `#` begins a comment.
    pub fn from_file(path: &Path) -> Result<Sizes, String> {
        let named = |what: String| format!("size histogram {}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
        let mut rows = Vec::new();
        let mut up_to = 0.0;
        for (number, line) in text.lines().enumerate().take(LINES_MAX) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong =
                || named(format!("line {}: expected SIZE and WEIGHT such as \"10KiB 3\", found {line:?}", number + 1));
            let (size, weight) = line.split_once([' ', '\t', ',']).ok_or_else(wrong)?;
            let size = octets(size.trim()).map_err(|_| wrong())?;
            let weight = weight.trim().parse::<f64>().ok().filter(|w| w.is_finite() && *w >= 0.0).ok_or_else(wrong)?;
            if weight > 0.0 {
                up_to += weight;
                rows.push((size, up_to));
            }
        }
        if rows.is_empty() {
            return Err(named("expected at least one line with SIZE and a WEIGHT above 0".into()));
        }
        Ok(Sizes::Histogram(Arc::new(rows), path.display().to_string()))
    }
}

fn octets(text: &str) -> Result<u64, String> {
    let found = Octets::parse(&Raw::Text(text.into()))?.0;
    if found > SIZE_OCTETS_MAX {
        return Err(format!("expected at most {} MiB, found {text:?}", SIZE_OCTETS_MAX >> 20));
    }
    Ok(found)
}

impl FromStr for Sizes {
    type Err = String;
    /// Reads `10KiB`, `uniform:1KiB-100KiB`, `lognormal:20KiB,1.2`, `file:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |expected: &str| format!("expected {expected}, found {text:?}");
        match text.split_once(':') {
            None => octets(text).map(Sizes::Fixed),
            Some(("uniform", range)) => {
                let wrong = || wrong("\"uniform:1KiB-100KiB\"");
                let (low, high) = range.split_once('-').ok_or_else(wrong)?;
                let (low, high) = (octets(low)?, octets(high)?);
                if low <= high { Ok(Sizes::Uniform(low, high)) } else { Err(wrong()) }
            }
            Some(("lognormal", shape)) => {
                let wrong = || wrong("a median and a deviation from 0 to 5 such as \"lognormal:20KiB,1.2\"");
                let (median, sigma) = shape.split_once(',').ok_or_else(wrong)?;
                let sigma = sigma.trim().parse().ok().filter(|s| (0.0..=SIGMA_MAX).contains(s)).ok_or_else(wrong)?;
                Ok(Sizes::Lognormal(octets(median.trim())?, sigma))
            }
            Some(("file", path)) => Sizes::from_file(Path::new(path)),
            Some(_) => Err(wrong(
                "a size such as \"10KiB\", \"uniform:1KiB-100KiB\", \"lognormal:20KiB,1.2\" or \"file:PATH\"",
            )),
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(n) => write!(f, "{n}"),
            Sizes::Uniform(low, high) => write!(f, "uniform:{low}-{high}"),
            Sizes::Lognormal(median, sigma) => write!(f, "lognormal:{median},{sigma}"),
            Sizes::Histogram(_, path) => write!(f, "file:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, n: usize) -> Vec<usize> {
        let sizes: Sizes = text.parse().unwrap();
        let mut rng = Rng::with_seed(4);
        let mut drawn: Vec<usize> = (0..n).map(|_| sizes.draw(&mut rng)).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn sizes_are_as_the_text_says() {
        assert_eq!(drawn("10KiB", 3), [10_240; 3]);
        let uniform = drawn("uniform:1000-3000", 50_000);
        assert!(uniform[0] < 1010 && uniform[49_999] > 2990 && (1980..2020).contains(&uniform[25_000]));
        let lognormal = drawn("lognormal:20000,1", 50_000);
        assert!((19_500..20_500).contains(&lognormal[25_000]), "{}", lognormal[25_000]);
        let (up, down) = (lognormal[42_065] as f64, lognormal[7933] as f64);
        assert!((up / down / 1f64.exp().powi(2) - 1.0).abs() < 0.06, "one deviation either way: {down} {up}");
    }

    #[test]
    fn a_histogram_file_is_followed_and_its_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sizes");
        std::fs::write(&path, "# size weight\n1KiB 3\n10KiB,1 # a tail\n\n99 0\n").unwrap();
        let all = drawn(&format!("file:{}", path.display()), 40_000);
        let small = all.iter().filter(|n| **n == 1024).count();
        assert!((29_500..30_500).contains(&small), "{small}");
        assert!(all.iter().all(|n| [1024, 10_240].contains(n)));
        for (text, wanted) in
            [("1KiB 1\nmany 2\n", "line 2: expected SIZE"), ("", "at least one line"), ("5 -1", "line 1")]
        {
            std::fs::write(&path, text).unwrap();
            let said = Sizes::from_file(&path).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in [
            "",
            "x",
            "uniform:5-1",
            "uniform:5",
            "lognormal:5",
            "lognormal:5,9",
            "zipf:1",
            "1000GiB",
            "file:/nonexistent",
        ] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }
}
