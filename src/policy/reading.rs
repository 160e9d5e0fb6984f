//! Values of a policy file that several of its sections have: durations, scores, shares, network prefixes.
//!
//! How it fails: a value that is none is reported with its place and what was expected, and the default stands in for it.

use super::limit::KeyPart;
use super::source::{Located, Reader, Table};
use super::value::parse_thousandths;
use crate::base::knob::{parse_duration, show_duration};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// The duration under `key`.
pub fn duration(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &str,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Duration {
    let Some(text) = reader.string(table, key) else { return default };
    let found = parse_duration(&text.text).filter(|d| range.contains(d));
    if found.is_none() {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        let finding = reader.inside(&text, 0..text.text.len(), format!("`{}` cannot be `{key}`", text.text));
        reader
            .report(finding.expected(format!("a duration from {least} to {most}, such as {}", show_duration(default))));
    }
    found.unwrap_or(default)
}

/// The score under `key`, in thousandths: a number with up to three decimals.
pub fn score(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<i64> {
    let value = table.get(key)?;
    let found = score_of(value);
    if found.is_none() {
        reader.wrong_type(value, key, "a number with up to three decimals, such as 4.5", value.get_ref().type_str());
    }
    found
}

fn score_of(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    match value.get_ref() {
        DeValue::Integer(i) if i.radix() == 10 => parse_thousandths(i.as_str()),
        DeValue::Float(f) => parse_thousandths(f.as_str()),
        _ => None,
    }
}

/// `25 %`, `2.5%`: in hundredths of a percent.
pub fn parse_percent(text: &str) -> Option<u32> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let thousandths = parse_thousandths(number).filter(|n| (0..=100_000).contains(n) && n % 10 == 0)?;
    u32::try_from(thousandths / 10).ok()
}

/// The share under `key`, in hundredths of a percent.
pub fn percent(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<u32> {
    let text = reader.string(table, key)?;
    let found = parse_percent(&text.text);
    if found.is_none() {
        let finding = reader.inside(&text, 0..text.text.len(), format!("`{}` is no share", text.text));
        reader.report(finding.expected("0 % to 100 %, such as \"2 %\""));
    }
    found
}

/// The prefix lengths under `key`: `24,64`.
pub fn prefixes(reader: &mut Reader<'_>, table: &Table<'_>, key: &str, default: (u8, u8)) -> (u8, u8) {
    let Some(text) = reader.string(table, key) else { return default };
    match KeyPart::parse(&format!("client/{}", text.text)) {
        Some(KeyPart::Client { v4, v6 }) => (v4, v6),
        _ => {
            let finding =
                reader.inside(&text, 0..text.text.len(), format!("`{}` is no pair of prefix lengths", text.text));
            reader.report(finding.expected("IPv4 and IPv6 prefix lengths, such as \"24,64\""));
            default
        }
    }
}

/// A key part of a client's network.
pub fn network_key(prefixes: (u8, u8)) -> KeyPart {
    KeyPart::Client { v4: prefixes.0, v6: prefixes.1 }
}

/// The place of the key of a table, for findings about the value as a whole.
pub fn place_of(table: &Table<'_>, key: &str) -> Located {
    let span = table.keys().find(|k| k.get_ref().as_ref() == key).map_or(0..0, |k| k.span());
    Located { text: key.to_owned(), span }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, share) in [("25 %", 2500), ("2.5%", 250), ("0 %", 0), ("100%", 10_000), ("0.01 %", 1)] {
            assert_eq!(parse_percent(text), Some(share), "{text}");
        }
        for bad in ["25", "101 %", "-1 %", "0.001 %", "%", "x %", ""] {
            assert_eq!(parse_percent(bad), None, "{bad}");
        }
    }
}
