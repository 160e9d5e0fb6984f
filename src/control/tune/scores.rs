//! `gatepost policy tune --labels`: points and a threshold from mail whose outcome is known.
//!
//! How it fails: labels that match no message of the journal are an error that says how many of each there are; without
//! both spam and ham nothing is proposed.

use super::TuneArgs;
use crate::control::cli::{Failure, print};
use crate::control::journal::Journals;
use crate::control::policy::{read, replace};
use crate::control::replay::play;
use crate::control::table::table;
use crate::policy::replay::Replay;
use crate::policy::tune::{Curve, Gatherer, HAM_WEIGHT, Labels, Point, Rescored, Swept, sweep, write_scores};
use crate::policy::{Policy, show_thousandths};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Samples of a kind below which a proposal is a hint only.
const SAMPLES_FEW: u64 = 100;

/// What was found.
struct Found {
    stage: &'static str,
    key: &'static str,
    now: i64,
    swept: Swept,
    /// The threshold proposed for the points as proposed.
    best: Option<Point>,
    counts: (u64, u64, usize),
}

/// Tunes scores.
pub fn run(
    args: &TuneArgs,
    labels: &Path,
    journals: &Journals,
    policy: &Arc<Policy>,
    keys_max: usize,
    file: Option<&Path>,
) -> Result<(), Failure> {
    let labels = Labels::parse(&read(labels)?);
    if labels.unread > 0 {
        let first = labels.first_unread.unwrap_or(0);
        eprintln!("gatepost: {} lines of labels cannot be read, the first is line {first}", labels.unread);
    }
    let Some((stage, key, now)) = policy.score_threshold(args.threshold.as_deref()) else {
        let expected =
            "expected a [threshold.STAGE] in the policy, and --threshold STAGE.KEY when it is not message.reject";
        return Err(Failure::new(format!("there is no threshold to tune; {expected}")));
    };
    let mut gatherer = Gatherer::new(policy.clone(), &labels);
    play(journals, Replay::new(policy.clone(), keys_max), &mut gatherer, "gathering scores")?;
    let (samples, messages, labelled) = (gatherer.samples, gatherer.messages, gatherer.labelled);
    if samples.is_empty() {
        let (spam, ham) = labels.counts();
        let why = "labels are found by Message-ID (which a journal with hash_key does not keep) or by session";
        return Err(Failure::new(format!("none of {spam} spam and {ham} ham is among {messages} messages; {why}")));
    }
    let swept = sweep(&samples, now, args.ham_weight.unwrap_or(HAM_WEIGHT));
    let best = swept.unseen.1.best(args.false_positives);
    let found = Found { stage, key, now, swept, best, counts: (messages, labelled, samples.len()) };
    if let Some(path) = &args.html {
        let fail = |e| Failure::new(format!("cannot write {}: {e}", path.display()));
        std::fs::write(path, page(&found, policy)).map_err(fail)?;
    }
    match args.json {
        true => print(&format!("{}\n", json(&found, policy)))?,
        false => print(&text(&found, policy, args.false_positives))?,
    }
    match (file, args.write) {
        (Some(path), true) => write_chosen(&found, policy, path),
        _ => Ok(()),
    }
}

fn write_chosen(found: &Found, policy: &Policy, path: &Path) -> Result<(), Failure> {
    let changed = found.swept.weights.iter().filter(|w| w.percent != 100);
    let name = |rule: u32| policy.rules().get(rule as usize).map_or_else(String::new, |r| r.name.to_string());
    let new = Rescored {
        percent: changed.map(|w| (name(w.rule), w.percent)).collect(),
        threshold: found.best.map(|p| (found.stage, found.key, rounded(p.threshold))),
    };
    let (text, left) = write_scores(&read(path)?, &new).map_err(|e| Failure::new(e.to_string()))?;
    replace(path, &text)?;
    for rule in left {
        eprintln!("gatepost: the points of {rule} are those of a fact or function; they stay");
    }
    eprintln!("gatepost: {} is changed; a running server reads it within seconds", path.display());
    Ok(())
}

/// Up to a tenth: a threshold is reached by sums that are as high.
fn rounded(thousandths: i64) -> i64 {
    thousandths.div_euclid(100) * 100 + if thousandths.rem_euclid(100) > 0 { 100 } else { 0 }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.2} %", part as f64 * 100.0 / whole as f64) }
}

fn text(found: &Found, policy: &Policy, false_positives: f64) -> String {
    let (messages, labelled, samples) = found.counts;
    let now = &found.swept.now;
    let mut out = format!(
        "{messages} messages, {labelled} with a label, {samples} looked at: {} spam, {} ham\n\n",
        now.spam, now.ham
    );
    let rows: Vec<Vec<String>> = found
        .swept
        .weights
        .iter()
        .map(|w| {
            let name = policy.rules().get(w.rule as usize).map_or("?", |r| &r.name);
            let change = if w.percent == 100 { "stays".to_owned() } else { format!("{} %", w.percent) };
            vec![name.to_owned(), share(w.hits.0, now.spam), share(w.hits.1, now.ham), change]
        })
        .collect();
    out += &table(&["RULE", "SPAM HIT", "HAM HIT", "POINTS"], &rows);
    // Writing to a string cannot fail.
    let _ =
        writeln!(out, "\n[threshold.{}] {}, on the third of the mail that was not looked at:", found.stage, found.key);
    let (before, after) = &found.swept.unseen;
    let row = |what: &str, curve: &Curve, at: i64| {
        let p = curve.at(at);
        vec![what.to_owned(), show_thousandths(at), share(p.spam, curve.spam), share(p.ham, curve.ham)]
    };
    let mut rows = vec![row("as it is", before, found.now), row("with the points proposed", after, found.now)];
    if let Some(best) = found.best {
        rows.push(row("proposed", after, rounded(best.threshold)));
    }
    out += &table(&["", "THRESHOLD", "SPAM REACHES IT", "HAM REACHES IT"], &rows);
    if found.best.is_none() {
        let _ =
            writeln!(out, "no threshold touches at most {} of ham", share((false_positives * 1e6) as u64, 1_000_000));
    }
    if now.spam.min(now.ham) < SAMPLES_FEW {
        let _ = writeln!(out, "so few samples are a hint, not a proof");
    }
    out += "\nthe trade-off, with the points proposed:\n";
    let rows: Vec<Vec<String>> = after
        .shown()
        .iter()
        .map(|p| vec![show_thousandths(p.threshold), share(p.spam, after.spam), share(p.ham, after.ham)])
        .collect();
    out + &table(&["THRESHOLD", "SPAM REACHES IT", "HAM REACHES IT"], &rows)
}

fn json(found: &Found, policy: &Policy) -> serde_json::Value {
    let points = |curve: &Curve| {
        let all = curve.shown();
        let one =
            |p: &Point| serde_json::json!({ "threshold": p.threshold as f64 / 1000.0, "spam": p.spam, "ham": p.ham });
        serde_json::json!({ "spam": curve.spam, "ham": curve.ham, "points": all.iter().map(one).collect::<Vec<_>>() })
    };
    let rules = found.swept.weights.iter().map(|w| {
        let name = policy.rules().get(w.rule as usize).map_or("?", |r| &r.name);
        serde_json::json!({ "rule": name, "spam_hits": w.hits.0, "ham_hits": w.hits.1, "percent": w.percent })
    });
    let (messages, labelled, samples) = found.counts;
    serde_json::json!({
        "messages": messages, "labelled": labelled, "samples": samples, "rules": rules.collect::<Vec<_>>(),
        "threshold": { "stage": found.stage, "key": found.key, "now": found.now as f64 / 1000.0,
            "proposed": found.best.map(|p| rounded(p.threshold) as f64 / 1000.0) },
        "now": points(&found.swept.now),
        "unseen": { "now": points(&found.swept.unseen.0), "proposed": points(&found.swept.unseen.1) },
    })
}

/// The trade-off as one page: ham that is touched against spam that is caught.
fn page(found: &Found, policy: &Policy) -> String {
    const SIDE: f64 = 400.0;
    let line = |curve: &Curve, colour: &str| {
        let x = |n: u64| 40.0 + SIDE * n as f64 / curve.ham.max(1) as f64;
        let y = |n: u64| 10.0 + SIDE * (1.0 - n as f64 / curve.spam.max(1) as f64);
        let points: String = curve.points.iter().map(|p| format!("{:.1},{:.1} ", x(p.ham), y(p.spam))).collect();
        format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>")
    };
    let (before, after) = &found.swept.unseen;
    let frame = format!(
        "<rect x=\"40\" y=\"10\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#8888\"/>\
         <text x=\"40\" y=\"{0}\" font-size=\"12\" fill=\"currentColor\">ham that is touched, 0 to 100 %</text>\
         <text x=\"-{1}\" y=\"30\" font-size=\"12\" fill=\"currentColor\" transform=\"rotate(-90)\">spam that is caught</text>",
        SIDE + 30.0,
        SIDE / 2.0 + 60.0
    );
    let words = text(found, policy, 0.0).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Scores</title>\
         <style>:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto}}</style>\
         </head><body><h1>Scores</h1><p>grey: as they are; blue: as proposed</p>\
         <svg viewBox=\"0 0 {0} {0}\" width=\"{0}\" role=\"img\">{frame}{1}{2}</svg><pre>{words}</pre></body></html>\n",
        SIDE + 60.0,
        line(before, "#8c959f"),
        line(after, "#0969da")
    )
}
