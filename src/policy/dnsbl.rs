//! Lists in the DNS (RFC 5782) as the policy file declares them: where they are asked, about whom, and what their codes weigh.
//!
//! ```toml
//! [dnsbl.zen]
//! zone = "zen.example.org"
//! codes = { "127.0.0.2" = 4, "127.0.0.10-127.0.0.11" = 1.5 }
//! weight = 0                      # of codes not named
//! ```
//!
//! How it fails: reading reports what is wrong and where; weighing is total.

use super::source::{Located, Reader, Table};
use super::stage::Stage;
use super::texts::normal_domain;
use super::value::{parse_thousandths, show_thousandths};
use crate::base::address::Domain;
use crate::wire::address::parse_domain;
use std::net::Ipv4Addr;
use toml::de::DeValue;

/// Keys of `[dnsbl.NAME]`.
pub const DNSBL_KEYS: [&str; 5] = ["description", "zone", "of", "codes", "weight"];
/// Codes of one list at most.
const CODES_MAX: usize = 256;
/// The largest weight; more than any threshold needs.
const WEIGHT_MAX: i64 = 1_000_000_000;

crate::knob_words! {
    /// Who is looked for.
    pub enum Of {
        /// The client's address.
        Client = "client",
        /// The name it gave in HELO.
        Helo = "helo",
        /// The sender's domain.
        Sender = "sender",
    }
}

impl Of {
    /// When that is known.
    pub fn stage(self) -> Stage {
        match self {
            Of::Client => Stage::Connect,
            Of::Helo => Stage::Helo,
            Of::Sender => Stage::Mail,
        }
    }
}

/// A list in the DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct Dnsbl {
    /// As conditions call it.
    pub name: String,
    /// Where it is asked.
    pub zone: Domain,
    /// Who is looked for.
    pub of: Of,
    /// What codes weigh, in thousandths: first and last code.
    codes: Vec<(Ipv4Addr, Ipv4Addr, i64)>,
    /// What codes not named weigh.
    weight: i64,
}

impl Dnsbl {
    /// Sum of the weights of these codes, in thousandths. Where ranges overlap the first in the order of the file counts.
    pub fn weigh(&self, codes: &[Ipv4Addr]) -> i64 {
        let weight = |code: &Ipv4Addr| {
            let named = self.codes.iter().find(|(first, last, _)| (first..=last).contains(&code));
            named.map_or(self.weight, |(_, _, weight)| *weight)
        };
        codes.iter().map(weight).fold(0, i64::saturating_add)
    }
    /// Reads the tables `[dnsbl.NAME]`.
    pub fn read(reader: &mut Reader<'_>, tables: Vec<(Located, &Table<'_>)>) -> Vec<Dnsbl> {
        tables.into_iter().filter_map(|(name, table)| one(reader, name, table)).collect()
    }
}

fn one(reader: &mut Reader<'_>, name: Located, table: &Table<'_>) -> Option<Dnsbl> {
    let place = format!("[dnsbl.{}]", name.text);
    reader.known_keys(table, &place, &DNSBL_KEYS);
    let of = match reader.string(table, "of") {
        None => Some(Of::Client),
        Some(word) => word.text.parse().ok().or_else(|| {
            let finding = reader.inside(&word, 0..word.text.len(), format!("unknown word `{}`", word.text));
            reader.report(finding.expected(Of::WORDS.join(", ")).near(&word.text, Of::WORDS.iter().copied()));
            None
        }),
    };
    let codes = codes(reader, table);
    let weight = match table.get("weight") {
        None => Some(1000),
        Some(value) => number(value.get_ref()).or_else(|| {
            reader.wrong_type(value, "weight", "a number such as 2 or -1.5", value.get_ref().type_str());
            None
        }),
    };
    if !table.contains_key("zone") {
        let finding = reader.at(name.span.clone(), format!("{place} has no `zone`"));
        reader.report(finding.expected("the zone that is asked, as in zone = \"zen.example.org\""));
    }
    let zone = reader.string(table, "zone")?;
    let domain = normal_domain(&zone.text).filter(|d| d.contains('.')).and_then(|d| parse_domain(&d).ok());
    if domain.is_none() {
        let finding = reader.inside(&zone, 0..zone.text.len(), format!("`{}` is no zone", zone.text));
        reader.report(finding.expected("a domain name, as in zen.example.org"));
    }
    Some(Dnsbl { name: name.text, zone: domain?, of: of?, codes: codes?, weight: weight? })
}

fn codes(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Vec<(Ipv4Addr, Ipv4Addr, i64)>> {
    if !table.contains_key("codes") {
        return Some(Vec::new());
    }
    let mut codes = Vec::new();
    let mut good = true;
    for (key, value) in reader.table(table, "codes")?.iter() {
        let Some((first, last)) = range(key.get_ref()) else {
            let finding = reader.at(key.span(), format!("`{}` is no code", key.get_ref()));
            reader.report(finding.expected(
                "an address in 127.0.0.0/8 (RFC 5782 §2.1) or a range of them, as in \"127.0.0.10-127.0.0.11\"",
            ));
            good = false;
            continue;
        };
        let Some(weight) = number(value.get_ref()) else {
            reader.wrong_type(value, key.get_ref(), "a number such as 2 or -1.5", value.get_ref().type_str());
            good = false;
            continue;
        };
        codes.push((first, last, weight));
    }
    if codes.len() > CODES_MAX {
        let span = table.get("codes").map_or(0..0, |value| value.span());
        let finding = reader.at(span, format!("{} codes of one list", codes.len()));
        reader.report(finding.expected(format!("at most {CODES_MAX}; ranges take one each")));
        return None;
    }
    good.then_some(codes)
}

fn range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |t: &str| t.trim().parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_loopback);
    let (first, last) = (code(first)?, code(last)?);
    (first <= last).then_some((first, last))
}

fn number(value: &DeValue<'_>) -> Option<i64> {
    let n = match value {
        DeValue::Integer(i) => i.as_str().parse::<i64>().ok()?.checked_mul(1000),
        DeValue::Float(f) => parse_thousandths(f.as_str()),
        _ => None,
    }?;
    (n.abs() <= WEIGHT_MAX).then_some(n)
}

impl std::fmt::Display for Dnsbl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.zone.as_str(), self.of.word())?;
        self.codes.iter().try_for_each(|(a, b, w)| write!(f, ", {a}-{b} = {}", show_thousandths(*w)))?;
        write!(f, ", others {}", show_thousandths(self.weight))
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{Builtins, NoFiles, Policy};

    fn compile(source: &str) -> Result<Policy, Vec<crate::policy::Diagnostic>> {
        Policy::compile("p.toml", source, &NoFiles, &Builtins::new(["example.test"]).unwrap())
    }

    #[test]
    fn codes_weigh_what_the_table_says() {
        let source = "[dnsbl.zen]\nzone = 'Zen.Example.ORG.'\nweight = 0.25\n\
                      codes = { '127.0.0.2' = 4, '127.0.0.10-127.0.0.11' = 1.5, '127.0.1.0-127.0.1.255' = -2.125 }\n\
                      [[rule]]\nname = 'x'\nstage = 'connect'\nwhen = \"dnsbl('zen') > 3.5\"\nthen = 'reject'\n";
        let policy = compile(source).unwrap();
        let zen = &policy.dnsbls[0];
        assert_eq!(zen.zone.as_str(), "zen.example.org");
        let weigh = |codes: &[&str]| zen.weigh(&codes.iter().map(|c| c.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(weigh(&[]), 0);
        assert_eq!(weigh(&["127.0.0.2", "127.0.0.11"]), 5500);
        assert_eq!(weigh(&["127.0.0.99"]), 250);
        assert_eq!(weigh(&["127.0.1.7"]), -2125);
    }

    #[test]
    fn what_is_wrong_is_said_where() {
        for (table, words) in [
            ("zone = 'zen'", "is no zone"),
            ("of = 'client'", "has no `zone`"),
            ("zone = 'a.b'\nof = 'sendr'", "did you mean `sender`"),
            ("zone = 'a.b'\ncodes = { '192.0.2.1' = 1 }", "127.0.0.0/8"),
            ("zone = 'a.b'\ncodes = { '127.0.0.9-127.0.0.2' = 1 }", "is no code"),
            ("zone = 'a.b'\ncodes = { '127.0.0.2' = 'x' }", "a number such as 2"),
            ("zone = 'a.b'\nwieght = 2", "did you mean `weight`"),
        ] {
            let rule = "[[rule]]\nname = 'x'\nstage = 'mail'\nwhen = \"dnsbl('a') > 1\"\nthen = 'reject'\n";
            let findings = compile(&format!("[dnsbl.a]\n{table}\n{rule}")).unwrap_err();
            let text = findings.iter().map(ToString::to_string).collect::<String>();
            assert!(text.contains(words), "{table}: {text}");
        }
        let rule = |name: &str, stage: &str| {
            format!(
                "[dnsbl.zen]\nzone = 'a.b'\nof = 'helo'\n[[rule]]\nname = 'x'\nstage = '{stage}'\n\
                 when = \"dnsbl('{name}') > 1\"\nthen = 'reject'\n"
            )
        };
        let said = |source: &str| compile(source).unwrap_err().iter().map(ToString::to_string).collect::<String>();
        assert!(said(&rule("zne", "mail")).contains("did you mean `zen`"));
        assert!(said(&rule("zen", "connect")).contains("not known at stage connect"));
        assert!(compile(&rule("zen", "helo")).is_ok());
        let unused = compile("[dnsbl.zen]\nzone = 'a.b'\n").unwrap();
        assert!(unused.warnings()[0].to_string().contains("no rule uses"));
    }
}
