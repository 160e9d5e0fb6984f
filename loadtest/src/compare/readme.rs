//! `table`: the tables of a README, made from a kept result and compared with it.
//!
//! They stand between two lines, `<!-- measured: PATH -->` and `<!-- /measured -->`; PATH is the result, from the README's
//! folder or one above it. How it fails: a README without these lines, or with another table than its result gives, is an
//! error that says what to run.

use super::work::title;
use super::{Measured, Row};
use clap::Args;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const BEGIN: &str = "<!-- measured: ";
const END: &str = "<!-- /measured -->";

/// `table`
#[derive(Args, Debug)]
pub struct TableArgs {
    /// A result of `compare`; without it the one that the README names.
    result: Option<PathBuf>,
    /// Compare with what stands in this file; exit code 1 when it is something else.
    #[arg(long, value_name = "README", conflicts_with = "write")]
    check: Option<PathBuf>,
    /// Put it into this file, between its two lines.
    #[arg(long, value_name = "README")]
    write: Option<PathBuf>,
}

/// Runs `table`.
pub(crate) fn run(args: &TableArgs) -> Result<ExitCode, String> {
    let Some(file) = args.check.as_ref().or(args.write.as_ref()) else {
        let result = args.result.as_ref().ok_or("table: expected a result, or --check or --write with a README")?;
        crate::cli::show(&between(&result.to_string_lossy(), &read(result)?));
        return Ok(ExitCode::SUCCESS);
    };
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let Some(place) = Place::of(&text) else {
        return Err(format!("{}: expected a line {BEGIN}PATH --> and a line {END}", file.display()));
    };
    let (name, path) = match &args.result {
        Some(result) => (named_from(file, result), result.clone()),
        None => (place.path.to_owned(), find(file, place.path)?),
    };
    let wanted = between(&name, &read(&path)?);
    if text[place.from..place.to] == wanted {
        return Ok(ExitCode::SUCCESS);
    }
    if args.check.is_some() {
        return Err(format!(
            "{}: the table is not that of {}; gatepost-load table {} --write {} puts it there",
            file.display(),
            name,
            path.display(),
            file.display()
        ));
    }
    let text = format!("{}{wanted}{}", &text[..place.from], &text[place.to..]);
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Where the tables are in a text, with both lines, and the result they name.
struct Place<'a> {
    from: usize,
    to: usize,
    path: &'a str,
}

impl Place<'_> {
    fn of(text: &str) -> Option<Place<'_>> {
        let from = text.find(BEGIN)?;
        let path = text[from + BEGIN.len()..].split(" -->").next()?;
        let to = from + text[from..].find(END)? + END.len();
        // The end of its line belongs to it.
        let to = to + usize::from(text[to..].starts_with('\n'));
        Some(Place { from, to, path: path.trim() })
    }
}

/// The result that a README names: from its folder, or from one above.
fn find(readme: &Path, name: &str) -> Result<PathBuf, String> {
    let whole = readme.canonicalize().map_err(|e| format!("{}: {e}", readme.display()))?;
    let found = whole.ancestors().skip(1).map(|dir| dir.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| format!("{}: its result {name} is not there", readme.display()))
}

/// How a README names a result: from the folder above both, when there is one.
fn named_from(readme: &Path, result: &Path) -> String {
    let whole = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let (readme, result) = (whole(readme), whole(result));
    let common = readme.ancestors().skip(1).find_map(|dir| result.strip_prefix(dir).ok());
    common.unwrap_or(&result).to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Measured, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    serde_json::from_str(&text).map_err(|e| named(&format!("expected a result of compare: {e}")))
}

fn between(name: &str, measured: &Measured) -> String {
    format!("{BEGIN}{name} -->\n{}{END}\n", tables(measured))
}

/// The tables of a result.
pub fn tables(measured: &Measured) -> String {
    let cores =
        if measured.server_cores == 1 { "one core".to_owned() } else { format!("{} cores", measured.server_cores) };
    let mut out = format!(
        "{}, {}; loopback, messages of {}, {cores} for each server, sender and sink on the same processors; medians of {} rounds \
         of {} s, in turns. Read the ratios.\n",
        measured.machine.replace(" x ", " × "),
        measured.date,
        measured.size,
        measured.rounds,
        measured.seconds
    );
    spool(&mut out, measured);
    passed(&mut out, measured);
    mailstore(&mut out, measured);
    if !measured.skipped.is_empty() {
        out.push('\n');
        measured.skipped.iter().for_each(|why| out.push_str(&format!("- {why}\n")));
    }
    out
}

/// A name as its makers write it.
fn spelled(peer: &str) -> &str {
    match peer {
        "direct" => "the sink itself",
        "gatepost" => "Gatepost",
        "haproxy" => "HAProxy",
        "nginx-stream" => "nginx stream",
        "nginx-mail" => "nginx mail",
        "postfix" => "Postfix",
        "exim" => "Exim",
        "opensmtpd" => "OpenSMTPD",
        "sendmail" => "Sendmail",
        "haraka" => "Haraka",
        "kumomta" => "KumoMTA",
        "stalwart" => "Stalwart",
        "dovecot-maildir" => "Dovecot, Maildir",
        "dovecot-sdbox" => "Dovecot, sdbox",
        other => other,
    }
}

fn with_version(row: &Row) -> String {
    let version = row.version.as_ref().map_or(String::new(), |v| format!(" {v}"));
    format!("{}{version}", spelled(&row.peer))
}

/// Three digits that count, thousands apart.
fn number(n: f64) -> String {
    match n {
        n if n >= 99.5 => {
            let whole = format!("{n:.0}");
            let mut out = String::new();
            for (i, digit) in whole.chars().enumerate() {
                if i > 0 && (whole.len() - i) % 3 == 0 {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        n if n >= 9.95 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

fn mebibytes(octets: f64) -> String {
    format!("{} MiB", number(octets / (1024.0 * 1024.0)))
}

fn maybe(n: Option<f64>) -> String {
    n.map_or_else(|| "–".to_owned(), number)
}

fn spool(out: &mut String, measured: &Measured) {
    let rows: Vec<&Row> = measured.rows.iter().filter(|r| r.what == "spool").collect();
    if rows.is_empty() {
        return;
    }
    let title = title("spool");
    let _ = writeln!(
        out,
        "\n| {title} | messages/s | p50 / p99 ms | CPU µs | system calls | syncs | context switches | memory | lost |\n|{}",
        " --- |".repeat(9)
    );
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | {} | {} / {} | {} | {} | {} | {} | {} | {} |",
            with_version(row),
            number(row.rate_per_s.median),
            number(row.latency_ms.0),
            number(row.latency_ms.1),
            number(row.cpu_us.median),
            maybe(row.syscalls),
            row.syncs.map_or_else(|| "–".to_owned(), |n| format!("{n:.2}")),
            maybe(row.context_switches),
            mebibytes(row.memory_octets_peak as f64),
            row.lost
        );
    }
}

/// Jobs down, servers across: processor time, and the rate beside it.
fn passed(out: &mut String, measured: &Measured) {
    let rows: Vec<&Row> = measured.rows.iter().filter(|r| r.what != "spool" && r.peer != "direct").collect();
    let (mut jobs, mut peers): (Vec<&str>, Vec<&Row>) = (Vec::new(), Vec::new());
    for row in &rows {
        if !jobs.contains(&row.what.as_str()) {
            jobs.push(&row.what);
        }
        if !peers.iter().any(|p| p.peer == row.peer) {
            peers.push(row);
        }
    }
    if jobs.is_empty() {
        return;
    }
    let head: Vec<String> = peers.iter().map(|p| with_version(p)).collect();
    let _ =
        writeln!(out, "\n| CPU µs each, and the rate | {} |\n|{}", head.join(" | "), " --- |".repeat(peers.len() + 1));
    for job in jobs {
        let cells: Vec<String> = peers
            .iter()
            .map(|p| match rows.iter().find(|r| r.what == job && r.peer == p.peer) {
                None => "–".to_owned(),
                Some(Row { memory_octets: Some(memory), .. }) => {
                    format!("{} KiB each", number(memory.median / 1024.0))
                }
                // A rate that is the harness's own is not the server's.
                Some(row) => {
                    let more = if row.harness_limit.is_some() { "≥ " } else { "" };
                    format!("{}, {more}{}/s", number(row.cpu_us.median), number(row.rate_per_s.median))
                }
            })
            .collect();
        let _ = writeln!(out, "| {} | {} |", title(job), cells.join(" | "));
    }
}

fn mailstore(out: &mut String, measured: &Measured) {
    let Some(found) = &measured.mailstore else { return };
    let Some((_, figures)) = found.stores.first() else { return };
    let head: Vec<&str> = found.stores.iter().map(|(name, _)| spelled(name)).collect();
    let _ = writeln!(
        out,
        "\n| mailstore, {} messages | {} |\n|{}",
        number(f64::from(found.messages)),
        head.join(" | "),
        " --- |".repeat(head.len() + 1)
    );
    // Time on the clock stands in the result; processor time is what a machine has only so much of.
    for figure in figures.iter().filter(|f| !f.job.contains(", time")) {
        let same = |all: &[crate::mailstore::Figure]| all.iter().find(|f| f.job == figure.job).cloned();
        let cells: Vec<String> = found
            .stores
            .iter()
            .map(|(_, all)| same(all).map_or_else(|| "–".into(), |f| shown(f.value, &f.unit)))
            .collect();
        let _ = writeln!(out, "| {} | {} |", figure.job, cells.join(" | "));
    }
}

fn shown(value: f64, unit: &str) -> String {
    match unit {
        "/s" => format!("{}/s", number(value)),
        "ms" if value < 9.95 => format!("{value:.2} ms"),
        "octets" if value >= 10_240.0 => format!("{} KiB", number(value / 1024.0)),
        unit => format!("{} {unit}", number(value)),
    }
}

/// Writes a result where a kept one would be, for tests.
#[cfg(test)]
fn save(measured: &Measured, path: &Path) {
    crate::report::write_json(measured, path).unwrap_or_else(|e| panic!("{e}"));
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    fn row(what: &str, peer: &str, rate: f64, cpu: f64) -> Row {
        let spread = |n: f64| Spread { median: n, low: n, high: n };
        Row {
            what: what.into(),
            peer: peer.into(),
            version: Some("1.2".into()),
            rate_per_s: spread(rate),
            cpu_us: spread(cpu),
            syscalls: Some(12.3),
            syncs: Some(0.034),
            context_switches: None,
            memory_octets_peak: 5 << 20,
            lost: 0,
            duplicated: 0,
            memory_octets: None,
            latency_ms: (1.0, 20.0),
            harness_limit: None,
            trials: Vec::new(),
        }
    }

    fn measured() -> Measured {
        Measured {
            machine: "2 x Some CPU, 1 GiB, Linux".into(),
            date: "2026-01-02".into(),
            server_cores: 1,
            rounds: 3,
            seconds: 3.0,
            size: "10KiB".into(),
            rows: vec![
                row("spool", "gatepost", 12_345.6, 99.96),
                row("spool", "postfix", 512.0, 3463.0),
                row("plain", "gatepost", 5000.0, 9.94),
                row("plain", "haproxy", 3000.0, 310.0),
            ],
            mailstore: None,
            skipped: vec!["skipped: stalwart: not on the PATH".into()],
        }
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let all = [0.04, 9.94, 9.96, 99.4, 99.5, 1234.5, 1_234_567.0].map(number);
        assert_eq!(all, ["0.0", "9.9", "10", "99", "100", "1,234", "1,234,567"]);
    }

    #[test]
    fn every_server_has_its_row_or_column() {
        let text = tables(&measured());
        for line in [
            "| Gatepost 1.2 | 12,346 | 1.0 / 20 | 100 | 12 | 0.03 | – | 5.0 MiB | 0 |",
            "| CPU µs each, and the rate | Gatepost 1.2 | HAProxy 1.2 |",
            "| passed through: a connection per message, a command per round trip | 9.9, 5,000/s | 310, 3,000/s |",
            "- skipped: stalwart: not on the PATH",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_readme_is_checked_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let (readme, kept) = (dir.path().join("in/README.md"), dir.path().join("results/m/d.json"));
        [&readme, &kept].iter().for_each(|p| std::fs::create_dir_all(p.parent().unwrap()).unwrap());
        save(&measured(), &kept);
        std::fs::write(&readme, "# A\n\n<!-- measured: results/m/d.json -->\nold\n<!-- /measured -->\n\nmore\n")
            .unwrap();
        let check = |write: bool| {
            let file = Some(readme.clone());
            let (check, write) = if write { (None, file) } else { (file, None) };
            run(&TableArgs { result: None, check, write })
        };
        assert!(check(false).unwrap_err().contains("--write"));
        check(true).unwrap();
        check(false).unwrap();
        let text = std::fs::read_to_string(&readme).unwrap();
        assert!(text.starts_with("# A\n\n<!-- measured: results/m/d.json -->\n2 × Some CPU"), "{text}");
        assert!(text.ends_with("<!-- /measured -->\n\nmore\n") && text.contains("| Postfix 1.2 |"), "{text}");
        // Another result takes its place under its own name.
        let other = dir.path().join("results/m/e.json");
        save(&Measured { date: "2027-01-01".into(), ..measured() }, &other);
        run(&TableArgs { result: Some(other), check: None, write: Some(readme.clone()) }).unwrap();
        assert!(std::fs::read_to_string(&readme).unwrap().contains("<!-- measured: results/m/e.json -->"));
        std::fs::write(&readme, "# A\n").unwrap();
        assert!(check(false).unwrap_err().contains("expected a line"));
    }
}
