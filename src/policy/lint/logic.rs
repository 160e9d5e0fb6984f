//! Conditions as alternatives of questions, and whether all questions of an alternative can have their answers at once.
//!
//! Sound in one direction: what is said to be impossible is impossible. How it fails: a condition with more than
//! [`ALTERNATIVES_MAX`] alternatives, and questions that are not understood (lists from files, functions), are taken to be
//! possible.

use crate::policy::facts::{FactId, Source};
use crate::policy::functions;
use crate::policy::parser::{Literal, Node, NodeKind, Set};
use crate::policy::program::Relation;
use crate::policy::texts::{DomainEntry, EXACT, TextSet};
use crate::policy::value::Type;
use ipnet::IpNet;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Alternatives of one condition that are looked at.
pub const ALTERNATIVES_MAX: usize = 256;

/// A question with the answer that is wanted.
#[derive(Clone, Debug)]
pub struct Atom {
    /// The fact or function it is about.
    pub key: String,
    /// What is asked.
    pub test: Test,
    /// Whether the opposite is wanted.
    pub negate: bool,
    /// Where it stands in the condition.
    pub span: Range<usize>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Test {
    /// It is true.
    Flag,
    /// Its relation to a number.
    Number(Relation, i64),
    /// It is one of these numbers.
    Numbers(Vec<i64>),
    /// It is this text, in lower case.
    Is(String),
    /// It has this in it, in lower case.
    Contains(String),
    /// It begins with this.
    StartsWith(String),
    /// It ends with this.
    EndsWith(String),
    /// The expression matches.
    Matches(Regex, String),
    /// It is one of these; `true`: as a domain.
    Texts(Vec<String>, bool),
    /// It is in one of these networks.
    Networks(Vec<IpNet>),
    /// It is in this list.
    List(String),
    /// It is known.
    Known,
    /// Something else, in these words.
    Words(String),
}

/// Questions that must all be answered as wanted.
pub type Alternative = Vec<Atom>;

/// The alternatives of a condition; `None` when there are too many.
pub fn alternatives(node: &Node, text: &str) -> Option<Vec<Alternative>> {
    expand(node, text, false)
}

fn expand(node: &Node, text: &str, negate: bool) -> Option<Vec<Alternative>> {
    match &node.kind {
        NodeKind::Not(inner) => expand(inner, text, !negate),
        NodeKind::And(parts) | NodeKind::Or(parts) => {
            let all = matches!(node.kind, NodeKind::And(_)) != negate;
            let mut found: Vec<Alternative> = if all { vec![Vec::new()] } else { Vec::new() };
            for part in parts {
                let part = expand(part, text, negate)?;
                match all {
                    true => {
                        if found.len().saturating_mul(part.len()) > ALTERNATIVES_MAX {
                            return None;
                        }
                        let mut both = Vec::with_capacity(found.len() * part.len());
                        for a in &found {
                            both.extend(part.iter().map(|b| a.iter().chain(b).cloned().collect::<Alternative>()));
                        }
                        found = both;
                    }
                    false => found.extend(part),
                }
                if found.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            Some(found)
        }
        NodeKind::Literal(Literal::Flag(b)) => Some(if *b != negate { vec![Vec::new()] } else { Vec::new() }),
        _ => {
            let (key, test, inverted) = question(node, text);
            Some(vec![vec![Atom { key, test, negate: negate != inverted, span: node.span.clone() }]])
        }
    }
}

/// The words of a part, whatever the white space.
fn words(node: &Node, text: &str) -> String {
    text.get(node.span.clone()).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn question(node: &Node, text: &str) -> (String, Test, bool) {
    let opaque = || (words(node, text), Test::Words(words(node, text)), false);
    match &node.kind {
        NodeKind::Name(_) | NodeKind::Call(..) => (words(node, text), Test::Flag, false),
        NodeKind::Known(item) => (words(item, text), Test::Known, false),
        NodeKind::Matches(item, pattern, fold, _) => {
            let built = if *fold { format!("(?i:{pattern})") } else { pattern.clone() };
            match Regex::new(&built) {
                Ok(regex) => (words(item, text), Test::Matches(regex, built), false),
                Err(_) => opaque(),
            }
        }
        NodeKind::In(item, Set::List(name), _) => (words(item, text), Test::List(name.clone()), false),
        NodeKind::In(item, Set::Inline(items), _) => {
            let key = words(item, text);
            let test = inline(item, &key, items);
            (key, test, false)
        }
        NodeKind::Compare(op, left, right) => match (&left.kind, &right.kind) {
            (_, NodeKind::Literal(value)) if is_operand(left) => compare(op, words(left, text), value, false),
            (NodeKind::Literal(value), _) if is_operand(right) => compare(op, words(right, text), value, true),
            _ => match *op {
                "!=" => {
                    let same = format!("{} == {}", words(left, text), words(right, text));
                    (same.clone(), Test::Words(same), true)
                }
                _ => opaque(),
            },
        },
        _ => opaque(),
    }
}

fn is_operand(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Name(_) | NodeKind::Call(..))
}

fn inline(item: &Node, key: &str, items: &[(Literal, Range<usize>)]) -> Test {
    let literals = || items.iter().map(|(l, _)| l);
    let networks: Vec<IpNet> =
        literals().filter_map(|l| if let Literal::Network(n) = l { Some(*n) } else { None }).collect();
    let numbers: Vec<i64> = literals().filter_map(|l| number(key, l)).collect();
    let domain =
        matches!(&item.kind, NodeKind::Name(n) if FactId::find(n).is_some_and(|f| f.row().kind == Type::Domain));
    let texts = literals().filter_map(|l| if let Literal::Text(t) = l { Some(t.to_ascii_lowercase()) } else { None });
    match (networks.is_empty(), numbers.is_empty()) {
        (false, _) => Test::Networks(networks),
        (_, false) => Test::Numbers(numbers),
        _ => Test::Texts(texts.collect(), domain),
    }
}

/// A number as its fact is kept: scores in thousandths.
fn number(key: &str, literal: &Literal) -> Option<i64> {
    let kind = FactId::find(key).map(|f| f.row().kind);
    let kind = kind.or_else(|| key.split_once('(').and_then(|(name, _)| functions::find(name)).map(|f| f.kind));
    match literal {
        Literal::Number(n) if kind == Some(Type::Score) => Some(n.saturating_mul(1000)),
        Literal::Number(n) | Literal::Octets(n) | Literal::Duration(n) | Literal::Decimal(n) => Some(*n),
        _ => None,
    }
}

fn compare(op: &str, key: String, value: &Literal, flipped: bool) -> (String, Test, bool) {
    let relation = match op {
        "<" => Relation::Less,
        "<=" => Relation::LessOrEqual,
        ">" => Relation::Greater,
        ">=" => Relation::GreaterOrEqual,
        _ => Relation::Equal,
    };
    let relation = if flipped { relation.flipped() } else { relation };
    let test = match (op, value) {
        (_, Literal::Flag(b)) => return (key, Test::Flag, *b == (op == "!=")),
        ("contains", Literal::Text(t)) => Test::Contains(t.to_ascii_lowercase()),
        ("starts_with", Literal::Text(t)) => Test::StartsWith(t.to_ascii_lowercase()),
        ("ends_with", Literal::Text(t)) => Test::EndsWith(t.to_ascii_lowercase()),
        (_, Literal::Text(t)) => Test::Is(t.to_ascii_lowercase()),
        (_, Literal::Network(n)) => Test::Networks(vec![*n]),
        (_, value) => Test::Number(relation, number(&key, value).unwrap_or(0)),
    };
    (key, test, op == "!=")
}

/// Whether nothing is known that keeps the questions from having their answers at once.
pub fn possible(atoms: &[&Atom]) -> bool {
    let followed = atoms.iter().flat_map(|a| follows(a)).collect::<Vec<_>>();
    let mut by_key: BTreeMap<&str, Vec<&Atom>> = BTreeMap::new();
    for atom in atoms.iter().copied().chain(&followed) {
        by_key.entry(&atom.key).or_default().push(atom);
    }
    by_key.iter().all(|(key, atoms)| possible_about(key, atoms))
}

/// Whether the alternative makes the atom's answer certain, its fact known or not.
pub fn implies(alternative: &[&Atom], atom: &Atom) -> bool {
    // What nobody asks about may be unknown, and then no question about it holds.
    let mentioned = alternative.iter().any(|a| a.key == atom.key || follows(a).iter().any(|f| f.key == atom.key));
    let opposite = Atom { negate: !atom.negate, ..atom.clone() };
    let with: Vec<&Atom> = alternative.iter().copied().chain([&opposite]).collect();
    mentioned && !possible(&with)
}

/// What is certain about other facts: `sender.null` says what `sender` is.
fn follows(atom: &Atom) -> Vec<Atom> {
    let holds = !atom.negate;
    let empty = |keys: &[&str], empty: bool| -> Vec<Atom> {
        let one = |k: &&str| Atom {
            key: (*k).to_owned(),
            test: Test::Is(String::new()),
            negate: !empty,
            span: atom.span.clone(),
        };
        keys.iter().map(one).collect()
    };
    match (&*atom.key, &atom.test, holds) {
        ("sender.null", Test::Flag, true) => empty(&["sender", "sender.local", "sender.domain"], true),
        ("sender.null", Test::Flag, false) => empty(&["sender"], false),
        ("authenticated", Test::Flag, yes) => empty(&["user"], !yes),
        ("tls", Test::Flag, false) => empty(&["tls.version", "tls.cipher", "tls.client_name"], true),
        _ => Vec::new(),
    }
}

fn possible_about(key: &str, atoms: &[&Atom]) -> bool {
    let unknown = atoms.iter().any(|a| matches!(a.test, Test::Known) && a.negate);
    if unknown && atoms.iter().any(|a| !(matches!(a.test, Test::Known) && a.negate)) {
        return false;
    }
    let opposite = |a: &Atom| atoms.iter().any(|b| a.negate != b.negate && same(&a.test, &b.test));
    if atoms.iter().any(|a| opposite(a)) {
        return false;
    }
    numbers_possible(key, atoms) && texts_possible(atoms) && networks_possible(atoms)
}

fn same(a: &Test, b: &Test) -> bool {
    match (a, b) {
        (Test::Flag, Test::Flag) | (Test::Known, Test::Known) => true,
        (Test::Number(a, n), Test::Number(b, m)) => a == b && n == m,
        (Test::Numbers(a), Test::Numbers(b)) => a == b,
        (Test::Matches(_, a), Test::Matches(_, b)) => a == b,
        (Test::Texts(a, _), Test::Texts(b, _)) => a == b,
        (Test::Networks(a), Test::Networks(b)) => a == b,
        (Test::Is(a), Test::Is(b))
        | (Test::Contains(a), Test::Contains(b))
        | (Test::StartsWith(a), Test::StartsWith(b))
        | (Test::EndsWith(a), Test::EndsWith(b))
        | (Test::List(a), Test::List(b))
        | (Test::Words(a), Test::Words(b)) => a == b,
        _ => false,
    }
}

/// Numbers that a fact can have.
fn range(key: &str) -> (i64, i64) {
    match key {
        "time.hour" => (0, 23),
        "client.port" => (0, 65_535),
        "load.memory" => (0, i64::MAX),
        // Facts of counts and sizes begin at nothing; functions and facts that are looked up may be below.
        _ => match FactId::find(key).map(FactId::row) {
            Some(row) if row.kind != Type::Score && matches!(row.source, Source::Told(_)) => (0, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        },
    }
}

fn numbers_possible(key: &str, atoms: &[&Atom]) -> bool {
    let (mut low, mut high) = range(key);
    let mut excluded: BTreeSet<i64> = BTreeSet::new();
    let mut allowed: Option<BTreeSet<i64>> = None;
    let mut any = false;
    for atom in atoms {
        match &atom.test {
            Test::Number(relation, n) => {
                any = true;
                match (relation, atom.negate) {
                    (Relation::Equal, true) => drop(excluded.insert(*n)),
                    (Relation::Equal, false) => (low, high) = (low.max(*n), high.min(*n)),
                    (Relation::Less, false) | (Relation::GreaterOrEqual, true) => high = high.min(n.saturating_sub(1)),
                    (Relation::LessOrEqual, false) | (Relation::Greater, true) => high = high.min(*n),
                    (Relation::Greater, false) | (Relation::LessOrEqual, true) => low = low.max(n.saturating_add(1)),
                    (Relation::GreaterOrEqual, false) | (Relation::Less, true) => low = low.max(*n),
                }
            }
            Test::Numbers(set) if atom.negate => excluded.extend(set),
            Test::Numbers(set) => {
                any = true;
                let set: BTreeSet<i64> = set.iter().copied().collect();
                allowed = Some(allowed.map_or(set.clone(), |a| a.intersection(&set).copied().collect()));
            }
            _ => {}
        }
    }
    if !any && excluded.is_empty() {
        return true;
    }
    match allowed {
        Some(set) => set.iter().any(|n| (low..=high).contains(n) && !excluded.contains(n)),
        // A range is worth counting only where few numbers are left.
        None if low > high => false,
        None => high.abs_diff(low) >= excluded.len() as u64 || (low..=high).any(|n| !excluded.contains(&n)),
    }
}

fn texts_possible(atoms: &[&Atom]) -> bool {
    let mut candidates: Option<Vec<&str>> = None;
    for atom in atoms.iter().filter(|a| !a.negate) {
        let here: Vec<&str> = match &atom.test {
            Test::Is(t) => vec![t],
            Test::Texts(texts, domain) if !(*domain && texts.iter().any(|t| t.starts_with(['.', '*']))) => {
                texts.iter().map(String::as_str).collect()
            }
            _ => continue,
        };
        candidates = Some(match candidates {
            None => here,
            Some(before) => before.into_iter().filter(|t| here.contains(t)).collect(),
        });
    }
    if let Some(candidates) = candidates {
        return candidates.iter().any(|t| atoms.iter().all(|a| answer(&a.test, t).is_none_or(|yes| yes != a.negate)));
    }
    // Two beginnings or two ends: one must be the beginning (end) of the other.
    let fits = |a: &str, b: &str, starts: bool| match starts {
        true => a.starts_with(b) || b.starts_with(a),
        false => a.ends_with(b) || b.ends_with(a),
    };
    let wanted: Vec<&Atom> = atoms.iter().copied().filter(|a| !a.negate).collect();
    wanted.iter().all(|a| {
        wanted.iter().all(|b| match (&a.test, &b.test) {
            (Test::StartsWith(x), Test::StartsWith(y)) => fits(x, y, true),
            (Test::EndsWith(x), Test::EndsWith(y)) => fits(x, y, false),
            _ => true,
        })
    }) && !atoms.iter().any(|a| {
        // What contains (or begins or ends with) a longer text has every text that is in it.
        a.negate
            && wanted.iter().any(|b| match (&a.test, &b.test) {
                (Test::Contains(x), Test::Contains(y) | Test::StartsWith(y) | Test::EndsWith(y)) => y.contains(x),
                (Test::StartsWith(x), Test::StartsWith(y)) => y.starts_with(x),
                (Test::EndsWith(x), Test::EndsWith(y)) => y.ends_with(x),
                _ => false,
            })
    })
}

/// The answer for a text, where it can be told.
fn answer(test: &Test, text: &str) -> Option<bool> {
    Some(match test {
        Test::Is(t) => t == text,
        Test::Contains(t) => text.contains(t.as_str()),
        Test::StartsWith(t) => text.starts_with(t.as_str()),
        Test::EndsWith(t) => text.ends_with(t.as_str()),
        Test::Texts(texts, false) => texts.iter().any(|t| t == text),
        Test::Texts(texts, true) => {
            let entry = |t: &String| {
                let whole = || DomainEntry { name: t.clone(), reach: EXACT };
                let entry = DomainEntry::parse(t).unwrap_or_else(|_| whole());
                (entry.name, entry.reach)
            };
            TextSet::new(texts.iter().map(entry)).covers_domain(text)
        }
        // The text is known in lower case only.
        Test::Matches(regex, source) if source.starts_with("(?i:") => regex.is_match(text),
        _ => return None,
    })
}

fn networks_possible(atoms: &[&Atom]) -> bool {
    let loopback = || ["127.0.0.0/8", "::1/128"].iter().filter_map(|n| n.parse::<IpNet>().ok()).collect::<Vec<_>>();
    let nets = |a: &Atom| match &a.test {
        Test::Networks(nets) => Some(nets.clone()),
        Test::List(name) if name == crate::policy::Builtins::LOOPBACK => Some(loopback()),
        _ => None,
    };
    let mut left: Option<Vec<IpNet>> = None;
    for wanted in atoms.iter().filter(|a| !a.negate).filter_map(|a| nets(a)) {
        left = Some(match left {
            None => wanted,
            // Of two networks one holds the other, or they have nothing in common.
            Some(before) => {
                before.iter().flat_map(|a| wanted.iter().filter_map(|b| narrower(a, b)).collect::<Vec<_>>()).collect()
            }
        });
    }
    let Some(left) = left else { return true };
    let refused: Vec<IpNet> = atoms.iter().filter(|a| a.negate).filter_map(|a| nets(a)).flatten().collect();
    left.iter().any(|net| !refused.iter().any(|r| r.contains(net)))
}

fn narrower(a: &IpNet, b: &IpNet) -> Option<IpNet> {
    if a.contains(b) { Some(*b) } else { b.contains(a).then_some(*a) }
}
