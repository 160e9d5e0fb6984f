//! `report`: one HTML page of a result, or of two side by side; nothing in it is fetched from anywhere.
//!
//! How it fails: a file that is no result of this program is named with what was expected; results of different machines
//! are not compared unless asked for.

mod chart;
mod page;
mod read;

use clap::Args;
use read::Doc;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest result file that is read.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// `report`
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Result of send, read, attack, scenario, capacity or measure.
    a: PathBuf,
    /// Another one to compare it with.
    b: Option<PathBuf>,
    /// Where the page goes; default: beside the first result, with the ending html.
    #[arg(long, short = 'o')]
    out: Option<PathBuf>,
    /// Compare results of different machines, or of unknown ones.
    #[arg(long)]
    anyway: bool,
}

/// `gatepost-load report`
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, String> {
    let a = open(&args.a)?;
    let b = args.b.as_deref().map(open).transpose()?;
    if let Some(b) = &b
        && !args.anyway
    {
        same_machine(&a, b)?;
    }
    let html = page::page(&a, b.as_ref());
    let out = args.out.clone().unwrap_or_else(|| args.a.with_extension("html"));
    std::fs::write(&out, html).map_err(|e| format!("{}: {e}", out.display()))?;
    crate::cli::show(&format!("{}\n", out.display()));
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path) -> Result<Doc, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    if std::fs::metadata(path).map_err(|e| named(&e))?.len() > FILE_OCTETS_MAX {
        return Err(named(&format!("longer than {FILE_OCTETS_MAX} octets")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    let value = serde_json::from_str(&text).map_err(|e| named(&format!("expected a result as JSON: {e}")))?;
    let label = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    read::doc(&label, &value).map_err(|e| named(&e))
}

/// A figure of one machine says nothing about another.
fn same_machine(a: &Doc, b: &Doc) -> Result<(), String> {
    let of = |doc: &Doc| doc.machine.clone().unwrap_or_else(|| "a machine that it does not name".to_owned());
    if a.machine.is_some() && a.machine == b.machine {
        return Ok(());
    }
    Err(format!(
        "{} was measured on {}, {} on {}; to compare them all the same, say so with --anyway",
        a.label,
        of(a),
        b.label,
        of(b)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(machine: Option<&str>) -> Doc {
        let mut value = json!({"latency": {"count": 1, "p50_ms": 1.0}, "messages_per_s": 5.0});
        if let Some(machine) = machine {
            value["machine"] = machine.into();
        }
        read::doc("x", &value).unwrap()
    }

    #[test]
    fn different_machines_are_not_compared_silently() {
        assert!(same_machine(&result(Some("m")), &result(Some("m"))).is_ok());
        for (a, b) in [(Some("m"), Some("n")), (None, Some("m")), (None, None)] {
            assert!(same_machine(&result(a), &result(b)).unwrap_err().contains("--anyway"));
        }
    }
}
