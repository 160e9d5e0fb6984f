//! Proposed values put into the policy file, which keeps its comments and its layout.
//!
//! How it fails: [`Unwritten`] says which limit is not where it was expected; the text is then unchanged.

use super::propose::Proposal;
use crate::policy::limit::Counts;
use std::fmt;
use toml_edit::{DocumentMut, Item, Value};

/// Why the file was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It is no TOML; what the reader said.
    Syntax(String),
    /// This limit has no table `[limit.NAME]` with the key.
    NoKey(String, &'static str),
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwritten::Syntax(error) => write!(f, "the policy file cannot be read: {error}"),
            Unwritten::NoKey(limit, key) => {
                write!(f, "the policy file has no `{key}` in [limit.{limit}]; expected it there; write it by hand")
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
}
