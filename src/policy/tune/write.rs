//! Proposed values put into the policy file, which keeps its comments and its layout.
//!
//! How it fails: [`Unwritten`] says which limit is not where it was expected; the text is then unchanged.

use super::propose::Proposal;
use crate::policy::limit::Counts;
use crate::policy::score::signed;
use crate::policy::value::parse_thousandths;
use std::fmt;
use toml_edit::{DocumentMut, Item, Value};

/// Why the file was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It is no TOML; what the reader said.
    Syntax(String),
    /// This limit, rule or threshold has no table with the key.
    NoKey(String, &'static str),
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwritten::Syntax(error) => write!(f, "the policy file cannot be read: {error}"),
            Unwritten::NoKey(limit, key) => {
                write!(f, "the policy file has no `{key}` where `{limit}` should have it; write it by hand")
            }
        }
    }
}

/// The text of the policy file with the proposed values. Proposals without a value change nothing.
pub fn write(source: &str, proposals: &[Proposal]) -> Result<String, Unwritten> {
    let mut document: DocumentMut =
        source.parse().map_err(|e: toml_edit::TomlError| Unwritten::Syntax(e.to_string()))?;
    for proposal in proposals {
        let Some(value) = proposal.proposed else { continue };
        if proposal.counts == Counts::Concurrency {
            set(&mut document, &proposal.limit, "most", |_| Some(Value::from(i64::try_from(value).ok()?)))?;
            continue;
        }
        set(&mut document, &proposal.limit, "rate", |old| {
            let (_, period) = old.as_str()?.split_once('/')?;
            Some(Value::from(format!("{}/{}", units(proposal.counts, value), period.trim())))
        })?;
        if let Some(burst) = proposal.burst {
            set(&mut document, &proposal.limit, "burst", |old| {
                Some(match old {
                    Value::Integer(_) => Value::from(i64::try_from(burst).ok()?),
                    _ => Value::from(units(proposal.counts, burst)),
                })
            })?;
        }
    }
    Ok(document.to_string())
}

/// New points of rules and a new threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescored {
    /// Names of rules and their points in percent of what they are.
    pub percent: Vec<(String, i64)>,
    /// Stage, key and value in thousandths.
    pub threshold: Option<(&'static str, &'static str, i64)>,
}

/// The text of the policy file with new points and a new threshold. Points that a fact or function says cannot be scaled and
/// stay; the names of their rules come back.
pub fn write_scores(source: &str, new: &Rescored) -> Result<(String, Vec<String>), Unwritten> {
    let mut document: DocumentMut =
        source.parse().map_err(|e: toml_edit::TomlError| Unwritten::Syntax(e.to_string()))?;
    let mut left = Vec::new();
    for (name, percent) in &new.percent {
        let rules = document.get_mut("rule").and_then(Item::as_array_of_tables_mut);
        let rule =
            rules.and_then(|rules| rules.iter_mut().find(|r| r.get("name").and_then(Item::as_str) == Some(name)));
        let missing = || Unwritten::NoKey(name.clone(), "then");
        let then = rule.and_then(|r| r.get_mut("then")).and_then(Item::as_value_mut).ok_or_else(missing)?;
        let changed = match then {
            Value::Array(outcomes) => outcomes.iter_mut().map(|one| usize::from(rescore(one, *percent))).sum(),
            one => usize::from(rescore(one, *percent)),
        };
        if changed == 0 {
            left.push(name.clone());
        }
    }
    if let Some((stage, key, value)) = new.threshold {
        let missing = || Unwritten::NoKey(format!("threshold.{stage}"), key);
        let table = document.get_mut("threshold").and_then(|t| t.get_mut(stage)).ok_or_else(missing)?;
        let slot = table.get_mut(key).and_then(Item::as_value_mut).ok_or_else(missing)?;
        let mut value = match value % 1000 {
            0 => Value::from(value / 1000),
            _ => Value::from(value as f64 / 1000.0),
        };
        *value.decor_mut() = slot.decor().clone();
        *slot = value;
    }
    Ok((document.to_string(), left))
}

/// `score +4.5 reason` with other points, to a tenth; whether it was one.
fn rescore(outcome: &mut Value, percent: i64) -> bool {
    let Some(text) = outcome.as_str() else { return false };
    let Some(rest) = text.trim_start().strip_prefix("score ") else { return false };
    let rest = rest.trim_start();
    let (word, reason) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let Some(points) = parse_thousandths(word) else { return false };
    let scaled = points.saturating_mul(percent) / 100;
    // Nothing is no score: a tenth of a point says that the rule was weighed and found light.
    let tenths = (scaled as f64 / 100.0).round() as i64 * 100;
    let tenths = if tenths == 0 { 100 * points.signum() } else { tenths };
    let mut new = Value::from(format!("score {}{reason}", signed(tenths)));
    *new.decor_mut() = outcome.decor().clone();
    *outcome = new;
    true
}

/// Octets are written in MiB when they are that many.
fn units(counts: Counts, value: u64) -> String {
    const MIB: u64 = 1 << 20;
    match counts {
        Counts::Octets if value >= MIB => format!("{}MiB", value.div_ceil(MIB)),
        _ => value.to_string(),
    }
}

/// Changes a value; what stands around it (blanks, a comment) stays.
fn set(
    document: &mut DocumentMut,
    limit: &str,
    key: &'static str,
    new: impl FnOnce(&Value) -> Option<Value>,
) -> Result<(), Unwritten> {
    let missing = || Unwritten::NoKey(limit.to_owned(), key);
    let table = document.get_mut("limit").and_then(|limits| limits.get_mut(limit));
    let slot = table.and_then(|table| table.get_mut(key)).and_then(Item::as_value_mut).ok_or_else(missing)?;
    let mut value = new(slot).ok_or_else(missing)?;
    *value.decor_mut() = slot.decor().clone();
    *slot = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tune::Spread;

    fn proposal(limit: &str, counts: Counts, proposed: u64, burst: Option<u64>) -> Proposal {
        Proposal {
            limit: limit.to_owned(),
            counts,
            shown: String::new(),
            now: 1,
            proposed: Some(proposed),
            burst,
            all: Spread::default(),
            good: Spread::default(),
            touched: (0, 0),
            good_touched: (0, 0),
            greediest: Vec::new(),
        }
    }

    #[test]
    fn comments_and_layout_stay() {
        let source = "# head\n[limit.a]   # the limit\nrate  = '60/minute' # why\nburst = 120\n\n[limit.b]\nmost = 5 # few\nper = \"client\"\n";
        let proposals = [proposal("a", Counts::Message, 300, Some(600)), proposal("b", Counts::Concurrency, 20, None)];
        let text = write(source, &proposals).unwrap();
        assert_eq!(
            text,
            "# head\n[limit.a]   # the limit\nrate  = \"300/minute\" # why\nburst = 600\n\n[limit.b]\nmost = 20 # few\nper = \"client\"\n"
        );
        let octets =
            write("[limit.o]\nrate = \"1MiB/hour\"\n", &[proposal("o", Counts::Octets, 5 << 20, None)]).unwrap();
        assert_eq!(octets, "[limit.o]\nrate = \"5MiB/hour\"\n");
        let gone = write(source, &[proposal("c", Counts::Message, 1, None)]).unwrap_err();
        assert_eq!(gone, Unwritten::NoKey("c".into(), "rate"));
        assert!(matches!(write("[", &[]), Err(Unwritten::Syntax(_))));
    }

    #[test]
    fn points_and_thresholds_are_written_in_place() {
        let source = "[threshold.message] # when\nreject = 12 # high\n[[rule]]\nname = 'a'\nthen = 'score +4 odd name' # why\n\
                      [[rule]]\nname = 'b'\nthen = [\n  \"tag \\\"X: y\\\"\",\n  \"score -2.5\",\n]\n[[rule]]\nname = 'c'\nthen = \"score dnsbl('zen')\"\n";
        let percent = [("a", 150), ("b", 50), ("c", 200)].map(|(n, p)| (n.to_owned(), p)).to_vec();
        let new = Rescored { percent, threshold: Some(("message", "reject", 9500)) };
        let (text, left) = write_scores(source, &new).unwrap();
        assert_eq!(left, ["c"]);
        let expected =
            source.replace("reject = 12", "reject = 9.5").replace("'score +4 odd name'", "\"score +6 odd name\"");
        assert_eq!(text, expected.replace("score -2.5", "score -1.3"));
        let gone = Rescored { percent: vec![("x".into(), 50)], threshold: None };
        assert_eq!(write_scores(source, &gone).unwrap_err(), Unwritten::NoKey("x".into(), "then"));
    }
}
