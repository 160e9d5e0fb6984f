//! The page: style, a little script, and what the result says.
//!
//! How it fails: it does not; everything that comes from a file is escaped.

use super::chart::{self, Bar, Series, short};
use super::read::{Doc, Line};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Text that stands in HTML, in attributes as well.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page of one result, or of two.
pub fn page(a: &Doc, b: Option<&Doc>) -> String {
    let docs: Vec<&Doc> = std::iter::once(a).chain(b).collect();
    let title = match b {
        Some(b) => format!("{} and {}", a.label, b.label),
        None => a.label.clone(),
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head><body><main>",
        escape(&title)
    );
    // Writing to a String does not fail.
    let _ = write!(html, "<header><h1>{}</h1><button id=\"theme\">light / dark</button></header>", escape(&title));
    for doc in &docs {
        let machine = doc.machine.as_deref().unwrap_or("a machine that the result does not name");
        let (label, title) = (escape(&doc.label), escape(&doc.title));
        let _ = write!(html, "<p class=\"what\"><b>{label}</b> {title}<br><small>{}</small></p>", escape(machine));
        doc.notes.iter().for_each(|n| {
            let _ = write!(html, "<p class=\"note\">{}</p>", escape(n));
        });
    }
    verdicts(&mut html, &docs);
    side_by_side(&mut html, &docs);
    section(&mut html, "Latency by percentile", &latency(&docs, None));
    steps(&mut html, &docs);
    over_time(&mut html, &docs);
    numbers(&mut html, &docs);
    errors(&mut html, &docs);
    left_out(&mut html, &docs);
    let _ = writeln!(html, "</main><script>{SCRIPT}</script></body></html>");
    html
}

fn section(html: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(html, "<section><h2>{}</h2>{content}</section>", escape(title));
    }
}

fn titled(doc: &Doc, name: &str, docs: &[&Doc]) -> String {
    if docs.len() > 1 { format!("{} ({})", name, doc.label) } else { name.to_owned() }
}

/// The same name has the same colour in both results.
fn colours<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut colours = BTreeMap::new();
    for name in names {
        let next = colours.len();
        colours.entry(name).or_insert(next);
    }
    colours
}

/// Curves of everything, or of the steps of one.
fn latency(docs: &[&Doc], part_of: Option<&str>) -> String {
    let here = |doc: &'_ Doc| -> Vec<usize> {
        (0..doc.curves.len()).filter(|n| doc.curves[*n].part_of.as_deref() == part_of).collect()
    };
    let names = docs.iter().flat_map(|d| here(d).into_iter().map(|n| d.curves[n].name.as_str()));
    let colours = colours(names);
    let mut series = Vec::new();
    for (n, doc) in docs.iter().enumerate() {
        series.extend(here(doc).into_iter().map(|at| &doc.curves[at]).map(|c| Series {
            name: titled(doc, &c.name, docs),
            colour: colours[c.name.as_str()],
            second: n > 0,
            points: &c.points,
        }));
    }
    chart::percentiles(&series)
}

/// Servers beside each other: a section a measure, a chart a job, the same colour for a server everywhere.
fn side_by_side(html: &mut String, docs: &[&Doc]) {
    let all = || docs.iter().flat_map(|d| &d.bars);
    let colours = colours(all().flat_map(|b| b.bars.iter().map(|(name, _)| name.as_str())));
    let mut titles: Vec<&str> = Vec::new();
    all().for_each(|b| {
        if !titles.contains(&b.title.as_str()) {
            titles.push(&b.title);
        }
    });
    for title in titles {
        let mut jobs: Vec<&str> = Vec::new();
        all().filter(|b| b.title == title).for_each(|b| {
            if !jobs.contains(&b.job.as_str()) {
                jobs.push(&b.job);
            }
        });
        let mut content = String::new();
        for job in jobs {
            let bars: Vec<Bar> = docs
                .iter()
                .enumerate()
                .flat_map(|(n, doc)| {
                    let here = doc.bars.iter().filter(|b| b.title == title && b.job == job);
                    here.flat_map(|b| &b.bars).map(move |(name, value)| (n, *doc, name, *value))
                })
                .map(|(n, doc, name, value)| Bar {
                    name: titled(doc, name, docs),
                    colour: colours[name.as_str()],
                    second: n > 0,
                    value,
                })
                .collect();
            let _ = write!(content, "<h3>{}</h3>{}", escape(job), chart::bars(&bars));
        }
        section(html, title, &content);
    }
}

fn left_out(html: &mut String, docs: &[&Doc]) {
    let lines: String = docs.iter().flat_map(|d| &d.left_out).map(|why| format!("<li>{}</li>", escape(why))).collect();
    if !lines.is_empty() {
        section(html, "Not measured", &format!("<ul>{lines}</ul>"));
    }
}

/// What each client's time was made of, folded away; or who did which job, which is what a comparison is about.
fn steps(html: &mut String, docs: &[&Doc]) {
    let mut whole: Vec<&str> = Vec::new();
    for curve in docs.iter().flat_map(|d| &d.curves) {
        if let Some(name) = curve.part_of.as_deref()
            && !whole.contains(&name)
        {
            whole.push(name);
        }
    }
    for name in whole {
        let content = latency(docs, Some(name));
        if docs.iter().any(|d| d.bars.iter().any(|b| b.job == name)) {
            section(html, &format!("Latency by percentile: {name}"), &content);
            continue;
        }
        let _ =
            write!(html, "<section><details><summary>Steps of {}</summary>{content}</details></section>", escape(name));
    }
}

fn over_time(html: &mut String, docs: &[&Doc]) {
    let lines = || docs.iter().enumerate().flat_map(|(n, d)| d.lines.iter().map(move |l| (n, *d, l)));
    let mut groups: Vec<&str> = Vec::new();
    for (_, _, line) in lines() {
        if !groups.contains(&line.group) {
            groups.push(line.group);
        }
    }
    for group in groups {
        let here: Vec<(usize, &Doc, &Line)> = lines().filter(|(_, _, l)| l.group == group).collect();
        let colours = colours(here.iter().map(|(_, _, l)| l.name.as_str()));
        let series: Vec<Series<'_>> = here
            .iter()
            .map(|(n, doc, l)| Series {
                name: titled(doc, &l.name, docs),
                colour: colours[l.name.as_str()],
                second: *n > 0,
                points: &l.points,
            })
            .collect();
        let x = if group.contains("by rate") { "rate asked for, per second" } else { "seconds" };
        section(html, group, &chart::lines(&series, x));
    }
}

fn verdicts(html: &mut String, docs: &[&Doc]) {
    let mut table = String::new();
    for doc in docs {
        for (text, passed, found) in &doc.verdicts {
            let _ = write!(
                table,
                "<tr><td class=\"{}\">{}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                if *passed { "pass" } else { "fail" },
                if *passed { "held" } else { "did not hold" },
                escape(text),
                escape(found),
                escape(&doc.label)
            );
        }
    }
    if !table.is_empty() {
        section(html, "Expectations", &format!("<table>{table}</table>"));
    }
}

/// Median, lowest and highest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.last()) {
        (Some(low), Some(high)) => (sorted[sorted.len() / 2], *low, *high),
        _ => (0.0, 0.0, 0.0),
    }
}

fn cell(values: &[f64]) -> String {
    let (median, low, high) = spread(values);
    if values.len() < 2 {
        return short(median);
    }
    format!("{} <small>{}–{}</small>", short(median), short(low), short(high))
}

/// How the second relates to the first; what lies within both spreads is no difference.
fn change(a: &[f64], b: &[f64]) -> String {
    let ((first, a_low, a_high), (second, b_low, b_high)) = (spread(a), spread(b));
    if first == second {
        return "=".into();
    }
    let overlap = a.len().min(b.len()) > 1 && a_low <= b_high && b_low <= a_high;
    let ratio = if first == 0.0 { "from 0".to_owned() } else { format!("{:+.1} %", (second / first - 1.0) * 100.0) };
    let single = a.len().min(b.len()) == 1;
    match (overlap, single) {
        (true, _) => format!("{ratio} <small>within the spread</small>"),
        (false, true) => format!("{ratio} <small>one run</small>"),
        (false, false) => format!("<b>{ratio}</b>"),
    }
}

fn numbers(html: &mut String, docs: &[&Doc]) {
    let names: std::collections::BTreeSet<&String> = docs.iter().flat_map(|d| d.numbers.keys()).collect();
    if names.is_empty() {
        return;
    }
    let mut table = "<table class=\"numbers\"><tr><th></th>".to_owned();
    docs.iter().for_each(|d| {
        let _ = write!(table, "<th>{}</th>", escape(&d.label));
    });
    table.push_str(if docs.len() > 1 { "<th>change</th></tr>" } else { "</tr>" });
    for name in names {
        let _ = write!(table, "<tr><td>{}</td>", escape(name));
        let values: Vec<Option<&Vec<f64>>> = docs.iter().map(|d| d.numbers.get(name)).collect();
        for v in &values {
            let _ = write!(table, "<td>{}</td>", v.map_or_else(|| "–".to_owned(), |v| cell(v)));
        }
        if let [Some(a), Some(b)] = values[..] {
            let _ = write!(table, "<td>{}</td>", change(a, b));
        } else if docs.len() > 1 {
            table.push_str("<td></td>");
        }
        table.push_str("</tr>");
    }
    table.push_str("</table><p><small>Median, and lowest to highest of several runs.</small></p>");
    section(html, "Numbers", &table);
}

fn errors(html: &mut String, docs: &[&Doc]) {
    let mut table = String::new();
    for doc in docs {
        for (what, n) in &doc.errors {
            let (what, label) = (escape(what), escape(&doc.label));
            let _ = write!(table, "<tr><td>{what}</td><td>{}</td><td>{label}</td></tr>", short(*n));
        }
    }
    if !table.is_empty() {
        section(html, "Errors and refusals", &format!("<table>{table}</table>"));
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fbfbf9;--fg:#1d1f21;--dim:#6b6f76;--grid:#dcdcd6;--good:#19713a;--bad:#b3261e;
--c0:#1f6fb2;--c1:#c4511b;--c2:#2e8540;--c3:#8a3ffc;--c4:#a8770a;--c5:#0a8a8a;--c6:#c2266e;--c7:#5c6470}
@media(prefers-color-scheme:dark){:root:not(.light){--bg:#16181b;--fg:#e6e6e3;--dim:#9a9fa6;--grid:#33373d;--good:#63c788;
--bad:#ff8a80;--c0:#6cb2eb;--c1:#f0935c;--c2:#74c587;--c3:#b990ff;--c4:#e0b040;--c5:#4fc7c7;--c6:#f07aaf;--c7:#a5adb8}}
:root.dark{--bg:#16181b;--fg:#e6e6e3;--dim:#9a9fa6;--grid:#33373d;--good:#63c788;--bad:#ff8a80;
--c0:#6cb2eb;--c1:#f0935c;--c2:#74c587;--c3:#b990ff;--c4:#e0b040;--c5:#4fc7c7;--c6:#f07aaf;--c7:#a5adb8}
body{background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif;margin:0}
main{max-width:820px;margin:0 auto;padding:24px 16px 64px}header{display:flex;justify-content:space-between;align-items:baseline}
h1{font-size:22px;margin:0}h3{font-size:13px;font-weight:600;margin:14px 0 4px}rect{fill:currentColor}.bar.second rect{opacity:.55}h2{font-size:16px;margin:32px 0 8px}summary{cursor:pointer;margin:8px 0;color:var(--dim)}small,.legend{color:var(--dim)}
button{font:inherit;color:inherit;background:none;border:1px solid var(--grid);border-radius:4px;padding:2px 8px;cursor:pointer}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11px}.grid{stroke:var(--grid)}
polyline{fill:none;stroke:currentColor;stroke-width:2}circle{fill:currentColor}.second polyline{stroke-dasharray:6 4}
.off{opacity:.12}.legend button{border:0;padding:0 10px 0 0}.legend i{display:inline-block;width:18px;height:0;
border-top:3px solid currentColor;margin:0 6px 4px 0;vertical-align:middle}.legend .second i{border-top-style:dashed}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
.c6{color:var(--c6)}.c7{color:var(--c7)}table{border-collapse:collapse;width:100%}
td,th{padding:4px 10px 4px 0;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
.numbers td+td,.numbers th+th{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.note{margin:2px 0;font-size:13px}.pass{color:var(--good)}.fail,.note{color:var(--bad)}.pass,.fail{white-space:nowrap;font-weight:600}
";

const SCRIPT: &str = "
document.getElementById('theme').onclick=()=>{const c=document.documentElement.classList,
d=c.contains('dark')||(!c.contains('light')&&matchMedia('(prefers-color-scheme:dark)').matches);
c.remove('dark','light');c.add(d?'light':'dark')};
document.querySelectorAll('.legend button').forEach(b=>b.onclick=()=>{b.classList.toggle('off');
b.closest('section').querySelectorAll('.series').forEach(s=>{if(s.dataset.name===b.dataset.name)
s.style.display=b.classList.contains('off')?'none':''})});
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::read::doc;
    use serde_json::json;

    fn result(label: &str, p50: f64) -> Doc {
        let value = json!({
            "machine": "2 x <M>", "kind": "imap poll", "latency": {"count": 100, "p50_ms": p50, "p90_ms": 20.0, "p99_ms": 30.0, "max_ms": 31.0},
            "sessions_per_s": 10.0, "errors": {"timed <out>": 3}, "harness_limit": "a core was busy"
        });
        doc(label, &value).unwrap()
    }

    #[test]
    fn a_page_stands_alone_and_escapes_what_it_shows() {
        let html = page(&result("a", 10.0), Some(&result("b&c", 11.0)));
        for wanted in
            ["2 x &lt;M&gt;", "timed &lt;out&gt;", "b&amp;c", "+10.0 %", "one run", "the harness was the limit", "<svg"]
        {
            assert!(html.contains(wanted), "{wanted}");
        }
        for unwanted in ["http://", "https://", "src=", "@import", "timed <out>", "<link"] {
            assert!(!html.contains(unwanted), "{unwanted}");
        }
    }

    #[test]
    fn a_difference_within_the_spread_is_called_that() {
        assert!(change(&[1.0, 2.0, 3.0], &[2.5, 2.6, 4.0]).contains("within the spread"));
        assert_eq!(change(&[1.0, 1.1, 1.2], &[2.2, 2.2, 2.3]), "<b>+100.0 %</b>");
        assert_eq!(change(&[5.0], &[5.0]), "=");
        assert!(change(&[0.0, 0.0], &[1.0, 2.0]).contains("from 0"));
        assert_eq!(cell(&[3.0, 1.0, 2.0]), "2 <small>1–3</small>");
    }
}
