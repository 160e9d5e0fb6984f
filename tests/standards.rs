//! The table of standards in the README against the code: nothing is offered that is not in it, and nothing stands in it
//! that is not offered.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

/// A row: RFCs, words, how far.
struct Row {
    rfcs: Vec<String>,
    words: Vec<String>,
    far: String,
}

fn rows() -> Vec<Row> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table = readme.split("## Standards").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut rows = Vec::new();
    for line in table.lines().filter(|l| l.starts_with('|')).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [rfcs, what, words, far] = cells.as_slice() else { panic!("four cells expected: {line}") };
        assert!(!what.is_empty(), "{line}");
        rows.push(Row {
            rfcs: rfcs.split(", ").map(str::to_owned).collect(),
            words: words.split_whitespace().map(str::to_owned).collect(),
            far: (*far).to_owned(),
        });
    }
    rows
}

/// Every word some server of ours can offer, with the RFC the code names for it.
fn offered() -> BTreeSet<(String, String)> {
    let digits = |rfc: &str| rfc.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let smtp = gatepost::smtp::ext::TABLE.iter().map(|e| {
        let rfc: String = digits(e.rfc);
        (e.keyword.to_owned(), if rfc.is_empty() { e.keyword.to_owned() } else { rfc })
    });
    let imap = gatepost::imap::extensions().map(|e| (e.name.trim_end_matches('=').to_owned(), e.rfc.to_string()));
    let pop3 = gatepost::pop3::CAPABILITIES.iter().map(|c| (c.name.to_owned(), c.rfc.to_string()));
    smtp.chain(imap).chain(pop3).collect()
}

#[test]
fn the_table_says_what_the_code_offers() {
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let mut claimed = BTreeMap::new();
    for row in &rows {
        for word in &row.words {
            for rfc in &row.rfcs {
                claimed.insert((word.clone(), rfc.clone()), &row.far);
            }
        }
    }
    let offered = offered();
    for (word, rfc) in &offered {
        let far = claimed.get(&(word.clone(), rfc.clone()));
        assert!(far.is_some(), "{word} of RFC {rfc} is offered but not in the table");
        assert_ne!(*far.unwrap(), "none", "{word} is offered");
    }
    let words: BTreeSet<&str> = offered.iter().map(|(word, _)| word.as_str()).collect();
    for (word, rfc) in claimed.keys() {
        assert!(words.contains(word.as_str()), "{word} (RFC {rfc}) stands in the table but is not offered");
    }
}

#[test]
fn every_row_says_how_far() {
    for row in rows() {
        let word = row.far.split([';', ':']).next().unwrap();
        assert!(["full", "partial", "none"].contains(&word), "{:?}: {:?}", row.rfcs, row.far);
        assert!(word != "partial" || row.far.contains(": "), "partial says what is missing: {:?}", row.far);
    }
}
