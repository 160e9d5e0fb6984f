//! Results that are kept: `benches/results/MACHINE/DATE.json`, one folder a kind of machine, one file a run.
//!
//! A figure belongs to the machine it was measured on; the folder's name is its processor and how many there are. How it
//! fails: a file that cannot be written is an error with its name; what is there already is not overwritten.

use super::Measured;
use crate::report;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Results of one machine and day at most.
const SAME_DAY_MAX: u32 = 99;

/// Writes `measured` below `folder`; where it is.
pub fn keep(measured: &Measured, folder: &Path) -> Result<PathBuf, String> {
    let folder = folder.join(slug(&measured.machine));
    std::fs::create_dir_all(&folder).map_err(|e| format!("--keep {}: {e}", folder.display()))?;
    let names = (1..=SAME_DAY_MAX).map(|n| match n {
        1 => format!("{}.json", measured.date),
        n => format!("{}-{n}.json", measured.date),
    });
    let path = names
        .map(|name| folder.join(name))
        .find(|path| !path.exists())
        .ok_or_else(|| format!("--keep {}: {SAME_DAY_MAX} results of {}", folder.display(), measured.date))?;
    report::write_json(&slim(measured), &path).map_err(|e| e.to_string())?;
    Ok(path)
}

/// Without what nobody compares later: second by second, step by step; the middle trial keeps its distribution.
fn slim(measured: &Measured) -> Measured {
    let mut slim = measured.clone();
    for row in &mut slim.rows {
        let middle = row.trials.len() / 2;
        for (n, trial) in row.trials.iter_mut().enumerate() {
            trial.send.seconds.clear();
            trial.send.phases.clear();
            for times in [&mut trial.send.setup, &mut trial.send.late, &mut trial.send.turn] {
                times.points.clear();
            }
            if n != middle {
                trial.send.latency.points.clear();
            }
        }
    }
    slim
}

/// `2 x AMD EPYC, 23 GiB, Linux …` → `amd-epyc-2`.
pub fn slug(machine: &str) -> String {
    let head = machine.split(',').next().unwrap_or_default();
    let (cores, model) = head.split_once(" x ").unwrap_or(("", head));
    let mut words: Vec<String> = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        // What processors say of themselves beside their name.
        .filter(|word| !["r", "tm", "cpu", "processor"].contains(&word.as_str()))
        .collect();
    words.extend(Some(cores.trim().to_owned()).filter(|c| !c.is_empty()));
    words.join("-")
}

/// Today in UTC, as `YYYY-MM-DD`.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01: years of 365.2425 days that begin in March, so that a leap day is the last.
fn date(days: u64) -> String {
    let days = days + 719_468; // 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_folder() {
        assert_eq!(slug("2 x AMD EPYC, 23 GiB, Linux 6.18"), "amd-epyc-2");
        assert_eq!(
            slug("16 x Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz, 1 GiB, Linux"),
            "intel-xeon-e5-2680-v4-2-40ghz-16"
        );
    }

    #[test]
    fn days_have_dates() {
        for (days, wanted) in
            [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_780, "2026-11-23")]
        {
            assert_eq!(date(days), wanted);
        }
    }
}
