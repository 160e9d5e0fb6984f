//! Limits as a policy file has them.
//!
//! How it fails: every finding is reported with its place; a limit with a fault is left out.

use super::compile::{LIMIT_KEYS, named_tables, required, word};
use super::limit::{Bound, Counts, KEY_FACTS, KeyPart, Limit, Rate};
use super::rules::fingerprint;
use super::source::{Located, Reader, Table};

/// A limit and where its exemption stands.
#[derive(Debug)]
pub struct LimitSource {
    /// Without the exemption.
    pub limit: Limit,
    /// The exemption's text.
    pub exempt: Option<Located>,
}

/// Reads `[limit.NAME]`.
pub fn read_limits(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<LimitSource> {
    let mut limits = Vec::new();
    for (key, table) in named_tables(reader, top, "limit") {
        let place = format!("[limit.{}]", key.text);
        reader.known_keys(table, &place, &LIMIT_KEYS);
        if let Some(limit) = read_limit(reader, &key, table) {
            limits.push(limit);
        }
    }
    limits
}

fn read_limit(reader: &mut Reader<'_>, key: &Located, table: &Table<'_>) -> Option<LimitSource> {
    let name = key.text.clone();
    let counts = required(reader, key, table, "counts", Counts::WORDS.join(", "))?;
    let counts: Counts = word(reader, &counts, Counts::WORDS)?;
    let parts = reader.strings(table, "per");
    if parts.is_empty() {
        required(reader, key, table, "per", format!("client, client/24,64, {}", KEY_FACTS.join(", ")));
        return None;
    }
    let per: Vec<KeyPart> = parts.iter().filter_map(|part| read_key_part(reader, part)).collect();
    let bound = read_bound(reader, key, table, counts)?;
    if per.len() != parts.len() {
        return None;
    }
    let key_text = parts.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(" + ");
    let shown = match bound {
        Bound::AtOnce(n) => format!("{n} at once per {key_text}"),
        Bound::Rate(_) => format!("{} per {key_text}", reader.string(table, "rate").map_or(String::new(), |r| r.text)),
    };
    let identity = fingerprint(&format!("{name}|{counts:?}|{key_text}|{bound:?}"), &[]);
    let identity = u64::from_str_radix(&identity[..16], 16).unwrap_or(0);
    let exempt = reader.string(table, "exempt");
    Some(LimitSource { limit: Limit { name, per, counts, bound, shown, identity }, exempt })
}

fn read_key_part(reader: &mut Reader<'_>, part: &Located) -> Option<KeyPart> {
    let found = KeyPart::parse(&part.text);
    if found.is_none() {
        let known = || KEY_FACTS.into_iter().chain(["client"]);
        let finding = reader
            .inside(part, 0..part.text.len(), format!("`{}` is no key of a limit", part.text))
            .expected(format!(
                "client, client/24,64 (IPv4, IPv6 prefix), {}; combine them in an array",
                KEY_FACTS.join(", ")
            ))
            .near(&part.text, known());
        reader.report(finding);
    }
    found
}

fn read_bound(reader: &mut Reader<'_>, key: &Located, table: &Table<'_>, counts: Counts) -> Option<Bound> {
    if counts == Counts::Concurrency {
        for other in ["rate", "burst"] {
            if let Some(v) = table.get(other) {
                let finding =
                    reader.at(v.span(), format!("`{other}` says nothing about concurrency")).expected("`most = 10`");
                reader.report(finding);
            }
        }
        if !table.contains_key("most") {
            required(reader, key, table, "most", "how many at the same time, as in `most = 10`".into());
            return None;
        }
        return reader.integer(table, "most", 1..=1_000_000).map(|n| Bound::AtOnce(n as u32));
    }
    if let Some(v) = table.get("most") {
        let finding = reader.at(v.span(), "`most` is for concurrency").expected("`rate` and `burst`");
        reader.report(finding);
    }
    let expected = "units per period up to 31 days, as in 60/minute, 10/30s, 500MiB/hour";
    let text = required(reader, key, table, "rate", expected.into())?;
    let Some(mut rate) = Rate::parse(&text.text) else {
        let finding =
            reader.inside(&text, 0..text.text.len(), format!("`{}` is no rate", text.text)).expected(expected);
        reader.report(finding);
        return None;
    };
    rate.burst = read_burst(reader, table, rate.burst)?;
    Some(Bound::Rate(rate))
}

/// A number, or a size for limits of octets.
fn read_burst(reader: &mut Reader<'_>, table: &Table<'_>, default: u64) -> Option<u64> {
    let Some(value) = table.get("burst") else { return Some(default) };
    if !value.get_ref().is_str() {
        return reader.integer(table, "burst", 1..=Rate::UNITS_MAX);
    }
    use crate::base::knob::{KnobType, Octets, Raw};
    let text = reader.string(table, "burst")?;
    let size = Octets::parse(&Raw::Text(text.text.clone())).ok().filter(|o| (1..=Rate::UNITS_MAX).contains(&o.0));
    if size.is_none() {
        let finding =
            reader.at(text.span, format!("`{}` is no burst", text.text)).expected("a number or a size such as 50MiB");
        reader.report(finding);
    }
    size.map(|o| o.0)
}
