//! The outcome of a replay in words and as JSON.
//!
//! How it fails: it does not.

use super::Outcome;
use crate::base::time::WallTime;
use crate::control::table::{table, visible};
use crate::policy::replay::{Change, Diff, Flow, Tally, Top, Touched};
use std::fmt::Write;

/// Examples shown for each kind of change.
const EXAMPLES_SHOWN: usize = 3;

/// For people.
pub fn text(outcome: &Outcome) -> String {
    let (diff, counts) = (&outcome.diff, &outcome.counts);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "policy {} (version {})", outcome.policy, outcome.version);
    let rate = counts.sessions as f64 / outcome.took.as_secs_f64().max(1e-9);
    let _ = writeln!(
        out,
        "{} sessions, {} events, {} runs in {:.1} s ({rate:.0} sessions/s)",
        counts.sessions,
        counts.events,
        counts.runs,
        outcome.took.as_secs_f64()
    );
    let others = diff.versions.iter().filter(|(v, _)| !v.is_empty() && **v != outcome.version);
    for (version, count) in others {
        let _ = writeln!(out, "{count} sessions were judged by version {version}");
    }
    out += &unread(outcome);
    let then_now = |then: u64, now: u64| {
        let delta = now as i64 - then as i64;
        vec![then.to_string(), now.to_string(), format!("{delta:+}")]
    };
    let row = |name: &str, then, now| [vec![name.to_owned()], then_now(then, now)].concat();
    let rows = [
        row("messages that pass", diff.messages_then, diff.messages_now),
        row("recipients that pass", diff.recipients_then, diff.recipients_now),
    ];
    let _ = write!(out, "\n{}", table(&["", "THEN", "NOW", ""], &rows));
    let _ = writeln!(
        out,
        "{} of {} decisions are the same, {} change their verdict, {} are not reached any more",
        diff.same, diff.decisions, diff.verdicts_changed, diff.not_reached
    );
    if diff.messages_delivered_stopped > 0 {
        let _ = writeln!(out, "{} messages that were delivered then are stopped", diff.messages_delivered_stopped);
    }
    for ((stage, rule), count) in &diff.messages_stopped {
        let _ = writeln!(out, "  {count} stopped at {stage} by {}", visible(rule));
    }
    out += &changes(outcome);
    for (touched, word) in [(&diff.tightened, "stricter"), (&diff.loosened, "laxer")] {
        out += &touched_text(touched, word, outcome.top);
    }
    if !diff.doubts.is_empty() {
        let rows: Vec<Vec<String>> =
            diff.doubts.iter().map(|((rule, fact), n)| vec![n.to_string(), rule.clone(), fact.clone()]).collect();
        let _ = write!(
            out,
            "\nundecided, because the journal does not tell:\n{}",
            table(&["DECISIONS", "RULE", "FACT"], &rows)
        );
    }
    out
}

/// Several policies beside each other; nothing for one.
pub fn comparison(outcomes: &[Outcome]) -> String {
    if outcomes.len() < 2 {
        return String::new();
    }
    let of = |d: &Diff, change: Change| d.flows.iter().filter(|(f, _)| f.change == change).map(|(_, t)| t.count).sum();
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|o| {
            let d = &o.diff;
            let numbers: [u64; 6] = [
                d.messages_now,
                d.recipients_now,
                of(d, Change::Tightened),
                of(d, Change::Loosened),
                d.messages_delivered_stopped,
                d.doubts.values().sum(),
            ];
            std::iter::once(o.policy.clone()).chain(numbers.iter().map(ToString::to_string)).collect()
        })
        .collect();
    let head = ["POLICY", "MESSAGES", "RECIPIENTS", "STRICTER", "LAXER", "DELIVERED BUT STOPPED", "UNDECIDED"];
    let then = outcomes.first().map_or((0, 0), |o| (o.diff.messages_then, o.diff.recipients_then));
    format!("\nrecorded: {} messages, {} recipients\n{}", then.0, then.1, table(&head, &rows))
}

fn unread(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let mut out = String::new();
    if counts.unread() > 0 {
        let _ = writeln!(
            out,
            "{} lines were not read: {} torn, {} foreign, {} newer, {} damaged",
            counts.unread(),
            counts.torn,
            counts.foreign,
            counts.newer,
            counts.bad
        );
    }
    if let Some((line, why)) = &counts.first_unread {
        let _ = writeln!(out, "  the first is line {line}: {why}");
    }
    if counts.orphans + counts.late > 0 {
        let _ = writeln!(out, "{} parts without a beginning, {} lines out of order", counts.orphans, counts.late);
    }
    out
}

/// Flows by weight: changed verdicts first, then how often.
pub fn by_weight(outcome: &Outcome) -> Vec<(&Flow, &Tally)> {
    let mut flows: Vec<_> = outcome.diff.flows.iter().collect();
    flows.sort_by_key(|(f, t)| (!f.change.is_verdict(), std::cmp::Reverse(t.count)));
    flows
}

fn changes(outcome: &Outcome) -> String {
    let mut out = String::new();
    let flows = by_weight(outcome);
    for (flow, tally) in flows.iter().take(outcome.top) {
        let doubt = if tally.in_doubt > 0 { format!(", {} undecided", tally.in_doubt) } else { String::new() };
        let _ = writeln!(
            out,
            "\n{} × {} at {}: {} by {} → {} by {}{doubt}",
            tally.count,
            flow.change.word(),
            flow.stage,
            flow.then.0,
            rule(&flow.then.1),
            flow.now.0,
            rule(&flow.now.1)
        );
        for e in tally.examples.iter().take(EXAMPLES_SHOWN) {
            let at = WallTime::from_millis(e.at_ms);
            let why = [&e.now, &e.reason, &e.then].into_iter().find(|t| !t.is_empty()).cloned().unwrap_or_default();
            let line = format!("{at} {} {} {} <{}> → <{}>  {why}", e.session, e.client, e.helo, e.sender, e.rcpt);
            let _ = writeln!(out, "  {}", visible(&line));
        }
    }
    if flows.len() > outcome.top {
        let _ = writeln!(out, "\n… and {} kinds of changes more (--top)", flows.len() - outcome.top);
    }
    out
}

fn rule(name: &str) -> &str {
    if name.is_empty() { "the other server" } else { name }
}

fn touched_text(touched: &Touched, word: &str, n: usize) -> String {
    let mut out = String::new();
    for (top, what) in
        [(&touched.clients, "clients"), (&touched.senders, "senders"), (&touched.recipients, "recipients")]
    {
        if top.is_empty() {
            continue;
        }
        let more = if top.others() > 0 { "+" } else { "" };
        let _ = writeln!(out, "\n{word} for {}{more} {what}:", top.len());
        for (key, count) in top.first(n) {
            let _ = writeln!(out, "  {count:>8}  {}", visible(key));
        }
    }
    out
}

/// For programs.
pub fn json(outcome: &Outcome) -> serde_json::Value {
    let (diff, counts) = (&outcome.diff, &outcome.counts);
    let top = |top: &Top| -> Vec<serde_json::Value> {
        top.first(outcome.top).iter().map(|(key, count)| serde_json::json!({ "key": key, "count": count })).collect()
    };
    let touched = |t: &Touched| serde_json::json!({ "clients": top(&t.clients), "senders": top(&t.senders), "recipients": top(&t.recipients) });
    let flows = by_weight(outcome).into_iter().map(|(flow, tally)| {
        let examples = tally.examples.iter().map(|e| {
            serde_json::json!({
                "at": WallTime::from_millis(e.at_ms).rfc3339(), "session": e.session, "client": e.client, "helo": e.helo,
                "sender": e.sender, "recipient": e.rcpt, "then": e.then, "now": e.now, "reason": e.reason, "undecided": e.doubt,
            })
        });
        serde_json::json!({
            "change": flow.change.word(), "verdict": flow.change.is_verdict(), "stage": flow.stage, "count": tally.count,
            "undecided": tally.in_doubt,
            "then": { "verdict": flow.then.0, "rule": flow.then.1 }, "now": { "verdict": flow.now.0, "rule": flow.now.1 },
            "examples": examples.collect::<Vec<_>>(),
        })
    });
    let doubts = diff.doubts.iter().map(|((r, f), n)| serde_json::json!({ "rule": r, "fact": f, "decisions": n }));
    let stopped =
        diff.messages_stopped.iter().map(|((s, r), n)| serde_json::json!({ "stage": s, "rule": r, "messages": n }));
    let of = |change: Change| diff.flows.iter().filter(|(f, _)| f.change == change).map(|(_, t)| t.count).sum::<u64>();
    serde_json::json!({
        "policy": outcome.policy, "version": outcome.version,
        "sessions": counts.sessions, "events": counts.events, "runs": counts.runs,
        "unread": { "torn": counts.torn, "foreign": counts.foreign, "newer": counts.newer, "damaged": counts.bad },
        "orphans": counts.orphans, "late": counts.late,
        "decisions": diff.decisions, "same": diff.same, "verdicts_changed": diff.verdicts_changed,
        "tightened": of(Change::Tightened), "loosened": of(Change::Loosened), "not_reached": diff.not_reached,
        "messages": { "then": diff.messages_then, "now": diff.messages_now, "delivered_stopped": diff.messages_delivered_stopped },
        "recipients": { "then": diff.recipients_then, "now": diff.recipients_now },
        "recorded_versions": diff.versions,
        "messages_stopped": stopped.collect::<Vec<_>>(),
        "changes": flows.collect::<Vec<_>>(),
        "stricter_for": touched(&diff.tightened), "laxer_for": touched(&diff.loosened),
        "undecided": doubts.collect::<Vec<_>>(),
    })
}
