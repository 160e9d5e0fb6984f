//! From the tree of a condition to the program: names are found, types compared, stages held.
//!
//! How it fails: [`Fault`] at the word that is wrong, with what was expected there and the near miss.

use super::diagnostic::nearest;
use super::dnsbl::Dnsbl;
use super::facts::{self, FactId, FactSet};
use super::functions::{self, Argument, FUNCTIONS, Function};
use super::lexer::Fault;
use super::limit_source::LimitSource;
use super::list::List;
use super::networks::Networks;
use super::parser::{KEYWORDS, Literal, Node, NodeKind, Set, parse};
use super::program::{Atom, FAILS, HOLDS, Operand, Program, Relation, Step, Sum, Test};
use super::stage::{Span, Stage};
use super::texts::{DomainEntry, EXACT, TextSet};
use super::value::Type;
use ipnet::IpNet;
use regex::RegexBuilder;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Octets of one compiled regular expression at most; keeps a policy from eating the memory of the server.
const REGEX_OCTETS_MAX: usize = 1 << 20;

/// What functions may name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'l> {
    /// The tables `[dnsbl.NAME]`.
    pub dnsbls: &'l [Dnsbl],
    /// Helpers of the configuration; `None` when nobody told.
    pub helpers: Option<&'l [String]>,
    /// The tables `[limit.NAME]`.
    pub limits: &'l [LimitSource],
}

/// Compiles conditions into one program.
pub struct Checker<'l> {
    /// The program so far.
    pub program: Program,
    /// Lists that conditions named.
    pub used_lists: BTreeSet<String>,
    /// Lists in the DNS that conditions named.
    pub used_dnsbls: BTreeSet<String>,
    lists: &'l BTreeMap<String, Arc<List>>,
    names: Names<'l>,
    interned: HashMap<String, u32>,
    uses: Vec<u32>,
}

/// A condition in the program.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Its first step, or [`HOLDS`] or [`FAILS`] when it is constant.
    pub entry: u32,
    /// The facts it may ask for.
    pub facts: FactSet,
}

impl Condition {
    /// The condition that always holds.
    pub const ALWAYS: Condition = Condition { entry: HOLDS, facts: FactSet::EMPTY };
}

/// What one compilation needs at hand.
struct Context<'t> {
    text: &'t str,
    stage: Stage,
    facts: FactSet,
    names: Names<'t>,
    used_dnsbls: &'t mut BTreeSet<String>,
}

impl<'l> Checker<'l> {
    /// A checker that knows these lists.
    pub fn new(lists: &'l BTreeMap<String, Arc<List>>, names: Names<'l>) -> Checker<'l> {
        Checker {
            program: Program::default(),
            used_lists: BTreeSet::new(),
            used_dnsbls: BTreeSet::new(),
            lists,
            names,
            interned: HashMap::new(),
            uses: Vec::new(),
        }
    }

    /// Adds a condition that is tried at `stage`.
    pub fn condition(&mut self, text: &str, stage: Stage) -> Result<Condition, Fault> {
        let node = parse(text)?;
        let mut used_dnsbls = std::mem::take(&mut self.used_dnsbls);
        let names = self.names;
        let mut cx = Context { text, stage, facts: FactSet::default(), names, used_dnsbls: &mut used_dnsbls };
        let entry = self.branch(&mut cx, &node, false, HOLDS, FAILS);
        let facts = cx.facts;
        self.used_dnsbls = used_dnsbls;
        Ok(Condition { entry: entry?, facts })
    }

    /// A single fact or function, read at `stage`.
    pub fn operand(&mut self, text: &str, stage: Stage) -> Result<(Operand, Type), Fault> {
        let NodeKind::Known(item) = parse(&format!("{text} is known"))?.kind else {
            return Err(Fault::new(0..text.len(), format!("`{text}` is no value"), "a fact or a function"));
        };
        let (names, used_dnsbls) = (self.names, &mut self.used_dnsbls);
        operand(&mut Context { text, stage, facts: FactSet::default(), names, used_dnsbls }, &item)
    }

    /// The finished program.
    pub fn finish(mut self) -> Program {
        self.program.finish(&self.uses);
        self.program
    }

    /// Steps for `node` that go to `yes` or `no`. Made from the end, so that targets exist. `negate` is carried down to
    /// the atoms (De Morgan), where an unknown value satisfies neither side.
    fn branch(&mut self, cx: &mut Context<'_>, node: &Node, negate: bool, yes: u32, no: u32) -> Result<u32, Fault> {
        match &node.kind {
            NodeKind::Not(inner) => self.branch(cx, inner, !negate, yes, no),
            NodeKind::And(parts) | NodeKind::Or(parts) => {
                let all = matches!(node.kind, NodeKind::And(_)) != negate;
                let mut next = if all { yes } else { no };
                // From the last part to the first, each going on to the one before it was made.
                for part in parts.iter().rev() {
                    next = match all {
                        true => self.branch(cx, part, negate, next, no)?,
                        false => self.branch(cx, part, negate, yes, next)?,
                    };
                }
                Ok(next)
            }
            NodeKind::Literal(Literal::Flag(b)) => Ok(if *b != negate { yes } else { no }),
            _ => {
                let (atom, inverted) = self.atom(cx, node)?;
                let at = self.program.steps.len() as u32;
                self.program.steps.push(Step { atom, negate: negate != inverted, yes, no });
                Ok(at)
            }
        }
    }

    /// The atom for a node, and whether its opposite is meant (`!=`, `== false`).
    fn atom(&mut self, cx: &mut Context<'_>, node: &Node) -> Result<(u32, bool), Fault> {
        let (operand, test, inverted) = self.question(cx, node)?;
        let test = match (operand.is_plural(), test) {
            (true, Test::Known) => Test::Known,
            (true, test) => Test::Any(Box::new(test)),
            (false, test) => test,
        };
        // Equal words ask equal questions, whatever the white space between them.
        let source = &cx.text[node.span.clone()];
        let text = match source.contains(['\'', '"', '/']) {
            true => source.to_owned(), // white space inside quotes counts
            false => source.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        if let Some(known) = self.interned.get(&text) {
            self.uses[*known as usize] += 1;
            return Ok((*known, inverted));
        }
        let number = self.program.atoms.len() as u32;
        self.program.atoms.push(Atom { operand, test, text: text.clone().into(), memo: None, gate: None });
        self.interned.insert(text, number);
        self.uses.push(1);
        Ok((number, inverted))
    }

    fn question(&mut self, cx: &mut Context<'_>, node: &Node) -> Result<(Operand, Test, bool), Fault> {
        match &node.kind {
            NodeKind::Compare(op, left, right) => self.compare(cx, op, left, right),
            NodeKind::In(item, set, span) => self.membership(cx, item, set, span),
            NodeKind::Matches(item, pattern, fold, span) => {
                let (operand, _) = text_operand(cx, item, "matches")?;
                let regex = RegexBuilder::new(pattern)
                    .case_insensitive(*fold)
                    .size_limit(REGEX_OCTETS_MAX)
                    .build()
                    .map_err(|e| Fault::new(span.clone(), regex_error(&e), "a regular expression"))?;
                // The text of a built expression does not carry its flags; a gate needs them.
                let pattern = if *fold { format!("(?i:{pattern})") } else { pattern.clone() };
                let regex = RegexBuilder::new(&pattern).size_limit(REGEX_OCTETS_MAX).build().unwrap_or(regex);
                Ok((operand, Test::Matches(Box::new(regex)), false))
            }
            NodeKind::Known(item) => Ok((operand(cx, item)?.0, Test::Known, false)),
            NodeKind::Name(_) | NodeKind::Call(..) => {
                let (operand, kind) = operand(cx, node)?;
                match kind {
                    Type::Flag => Ok((operand, Test::Flag, false)),
                    _ => {
                        let word = &cx.text[node.span.clone()];
                        let message = format!("`{word}` is {} {}, not a condition", article(kind), kind.word());
                        Err(Fault::new(
                            node.span.clone(),
                            message,
                            format!("a comparison, as in {}", sample(word, kind)),
                        ))
                    }
                }
            }
            _ => Err(Fault::new(node.span.clone(), "a value is no condition", "a comparison or a flag")),
        }
    }

    fn membership(
        &mut self,
        cx: &mut Context<'_>,
        item: &Node,
        set: &Set,
        span: &Range<usize>,
    ) -> Result<(Operand, Test, bool), Fault> {
        let (operand, kind) = operand(cx, item)?;
        let test = match set {
            Set::List(name) => {
                let Some(list) = self.lists.get(name) else {
                    let message = format!("there is no list `@{name}`");
                    let near = nearest(name, self.lists.keys().map(String::as_str)).map(|n| format!("@{n}"));
                    return Err(Fault::new(span.clone(), message, format!("a list; declare it as [list.{name}]"))
                        .near(near.as_deref()));
                };
                // A file may get such entries later, and an empty list is a place to fill in.
                if kind == Type::Flag || kind.is_number() || (!list.serves(kind) && !list.from_file && !list.is_empty())
                {
                    let word = &cx.text[item.span.clone()];
                    let message = format!("`@{name}` has nothing that `{word}` ({}) could be", kind.word());
                    return Err(Fault::new(span.clone(), message, wants(kind)));
                }
                self.used_lists.insert(name.clone());
                Test::List(list.clone(), kind)
            }
            Set::Inline(items) => inline(kind, items)?,
        };
        Ok((operand, test, false))
    }

    fn compare(
        &mut self,
        cx: &mut Context<'_>,
        op: &'static str,
        left: &Node,
        right: &Node,
    ) -> Result<(Operand, Test, bool), Fault> {
        if matches!(op, "contains" | "starts_with" | "ends_with") {
            return text_relation(cx, op, left, right);
        }
        let inverted = op == "!=";
        let relation = match op {
            "==" | "!=" => Relation::Equal,
            "<" => Relation::Less,
            "<=" => Relation::LessOrEqual,
            ">" => Relation::Greater,
            _ => Relation::GreaterOrEqual,
        };
        // A constant on the left is the same question with the sides exchanged.
        if matches!(left.kind, NodeKind::Literal(_)) && !matches!(right.kind, NodeKind::Literal(_)) {
            return compare_sides(cx, right, relation.flipped(), left).map(|(o, t, i)| (o, t, i != inverted));
        }
        compare_sides(cx, left, relation, right).map(|(o, t, i)| (o, t, i != inverted))
    }
}

/// The operand of a name or a call, known at the stage of the condition.
fn operand(cx: &mut Context<'_>, node: &Node) -> Result<(Operand, Type), Fault> {
    match &node.kind {
        NodeKind::Name(name) => {
            let Some(id) = FactId::find(name) else { return Err(unknown_name(node, name)) };
            let row = id.row();
            known_at(node, name, row.known, cx.stage)?;
            cx.facts.insert(id);
            Ok((Operand::fact(id), row.kind.singular()))
        }
        NodeKind::Call(name, argument, span) => {
            let Some(function) = functions::find(name) else {
                let near = nearest(name, FUNCTIONS.iter().map(|f| f.name));
                let known = FUNCTIONS.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
                return Err(Fault::new(span.clone(), format!("there is no function `{name}`"), known).near(near));
            };
            let known = named(cx, node, function, argument)?;
            known_at(node, name, known, cx.stage)?;
            Ok((Operand::Call(function, argument.as_str().into()), function.kind.singular()))
        }
        NodeKind::Literal(_) => Err(Fault::new(node.span.clone(), "a constant on this side", "a fact or a function")),
        _ => Err(Fault::new(node.span.clone(), "a calculation or condition on this side", "a fact or a function")),
    }
}

/// Whether the argument of a function names something there is, and when that is known.
fn named(cx: &mut Context<'_>, node: &Node, function: &Function, argument: &str) -> Result<Span, Fault> {
    match function.takes {
        Argument::Field => {
            let printable = |b: u8| b.is_ascii_graphic() && b != b':'; // RFC 5322 §2.2
            if argument.is_empty() || !argument.bytes().all(printable) {
                let span = node.span.clone();
                return Err(Fault::new(span, format!("{argument:?} is no {}", function.argument), "as in 'Subject'"));
            }
            Ok(function.known)
        }
        Argument::Dnsbl => match cx.names.dnsbls.iter().find(|d| d.name == argument) {
            Some(dnsbl) => {
                cx.used_dnsbls.insert(argument.to_owned());
                Ok(Span::from(dnsbl.of.stage()))
            }
            None => {
                let near = nearest(argument, cx.names.dnsbls.iter().map(|d| d.name.as_str()));
                let message = format!("there is no list `{argument}` in the DNS");
                Err(Fault::new(node.span.clone(), message, format!("a list; declare it as [dnsbl.{argument}]"))
                    .near(near))
            }
        },
        Argument::Limit => match cx.names.limits.iter().any(|l| l.limit.name == argument) {
            true => Ok(function.known),
            false => {
                let near = nearest(argument, cx.names.limits.iter().map(|l| l.limit.name.as_str()));
                let (message, expected) =
                    (format!("there is no limit `{argument}`"), format!("a limit; declare it as [limit.{argument}]"));
                Err(Fault::new(node.span.clone(), message, expected).near(near))
            }
        },
        Argument::Helper => match cx.names.helpers {
            Some(helpers) if !helpers.iter().any(|h| h == argument) => {
                Err(no_helper(node.span.clone(), argument, helpers))
            }
            _ => Ok(function.known),
        },
    }
}

/// There is no such helper.
pub fn no_helper(span: Range<usize>, name: &str, helpers: &[String]) -> Fault {
    let expected = match helpers {
        [] => format!("a helper; declare it as [helper.{name}] in the configuration"),
        some => format!("one of {}", some.join(", ")),
    };
    let near = nearest(name, helpers.iter().map(String::as_str));
    Fault::new(span, format!("there is no helper `{name}`"), expected).near(near)
}

fn unknown_name(node: &Node, name: &str) -> Fault {
    let known = facts::all().iter().map(|f| f.name).chain(FUNCTIONS.iter().map(|f| f.name));
    let near = nearest(name, known.chain(KEYWORDS));
    let expected = match near {
        Some(_) => "a fact".to_owned(),
        None => format!("a fact; a text stands in quotes: '{name}'"),
    };
    Fault::new(node.span.clone(), format!("unknown fact `{name}`"), expected).near(near)
}

fn known_at(node: &Node, name: &str, known: Span, stage: Stage) -> Result<(), Fault> {
    if known.covers(stage) {
        return Ok(());
    }
    let (first, last) = (known.first.word(), known.last.word());
    let expected = match (stage < known.first || stage == Stage::Vrfy, first == last) {
        (_, true) => format!("stage = \"{first}\", the only one at which it is known"),
        (true, _) => format!("stage = \"{first}\" or later; that is when it becomes known"),
        (false, _) => format!("a stage from {first} to {last}"),
    };
    Err(Fault::new(node.span.clone(), format!("`{name}` is not known at stage {}", stage.word()), expected))
}

fn text_operand(cx: &mut Context<'_>, node: &Node, what: &str) -> Result<(Operand, Type), Fault> {
    let (operand, kind) = operand(cx, node)?;
    if kind.is_text() {
        return Ok((operand, kind));
    }
    let word = &cx.text[node.span.clone()];
    let message = format!("`{what}` wants a text, `{word}` is {} {}", article(kind), kind.word());
    Err(Fault::new(node.span.clone(), message, "a text, domain or address"))
}

fn text_relation(cx: &mut Context<'_>, op: &str, left: &Node, right: &Node) -> Result<(Operand, Test, bool), Fault> {
    let (operand, _) = text_operand(cx, left, op)?;
    let NodeKind::Literal(Literal::Text(t)) = &right.kind else {
        return Err(Fault::new(right.span.clone(), format!("`{op}` wants a text in quotes"), "a text such as 'word'"));
    };
    if t.is_empty() {
        return Err(Fault::new(right.span.clone(), "every text contains nothing", "a text that is not empty"));
    }
    let t: Box<str> = t.to_ascii_lowercase().into();
    let test = match op {
        "contains" => Test::Contains(t),
        "starts_with" => Test::StartsWith(t),
        _ => Test::EndsWith(t),
    };
    Ok((operand, test, false))
}

fn compare_sides(
    cx: &mut Context<'_>,
    left: &Node,
    relation: Relation,
    right: &Node,
) -> Result<(Operand, Test, bool), Fault> {
    let arithmetic = |n: &Node| matches!(n.kind, NodeKind::Arithmetic(..));
    if !arithmetic(left) {
        let (operand, kind) = operand(cx, left)?;
        if !kind.is_number() {
            return compare_other(cx, operand, kind, relation, right);
        }
        if let (NodeKind::Literal(l), false) = (&right.kind, arithmetic(right)) {
            let n = constant(kind, l, &right.span)?;
            return Ok((operand, Test::Number(relation, n), false));
        }
    }
    let (a, a_kind) = sum(cx, left)?;
    let (b, b_kind) = sum(cx, right)?;
    let kind = same_kind(a_kind, b_kind, &right.span)?;
    let (a, b) = (in_units(a, a_kind, kind), in_units(b, b_kind, kind));
    // The operand is for the trace: the first there is.
    let operand = first_operand(&a).or_else(|| first_operand(&b));
    match operand {
        Some(o) => Ok((o, Test::Sums(Box::new((a, relation, b))), false)),
        None => Err(Fault::new(left.span.clone(), "only constants are compared", "a fact on one side")),
    }
}

/// Flags, texts and addresses know only `==` and `!=`.
fn compare_other(
    cx: &mut Context<'_>,
    left: Operand,
    kind: Type,
    relation: Relation,
    right: &Node,
) -> Result<(Operand, Test, bool), Fault> {
    if relation != Relation::Equal {
        let message = format!("{} {} is neither less nor greater", article(kind), kind.word());
        return Err(Fault::new(right.span.clone(), message, "`==`, `!=` or `in`"));
    }
    match (&right.kind, kind) {
        (NodeKind::Literal(Literal::Flag(b)), Type::Flag) => Ok((left, Test::Flag, !*b)),
        (NodeKind::Literal(Literal::Text(t)), k) if k.is_text() => Ok((left, Test::Is(t.as_str().into()), false)),
        (NodeKind::Literal(Literal::Network(n)), Type::Ip) => {
            Ok((left, Test::Networks(Box::new(Networks::new([*n]))), false))
        }
        (NodeKind::Literal(l), _) => {
            let message = format!("{} {} is compared with {}", article(kind), kind.word(), describe(l));
            Err(Fault::new(right.span.clone(), message, kind.example()))
        }
        _ => {
            let (other, other_kind) = operand(cx, right)?;
            if other.is_plural() {
                let expected = "them on the left side, as in `url_hosts == sender.domain`";
                return Err(Fault::new(right.span.clone(), "several texts on this side", expected));
            }
            if kind.is_text() && other_kind.is_text() {
                return Ok((left, Test::Same(other), false));
            }
            let message = format!(
                "{} {} is compared with {} {}",
                article(kind),
                kind.word(),
                article(other_kind),
                other_kind.word()
            );
            Err(Fault::new(right.span.clone(), message, kind.example()))
        }
    }
}

/// A number and its kind; `None` for a plain constant, which goes with counts and octets alike.
fn sum(cx: &mut Context<'_>, node: &Node) -> Result<(Sum, Option<Type>), Fault> {
    match &node.kind {
        NodeKind::Literal(Literal::Number(n)) => Ok((Sum::Constant(*n), None)),
        NodeKind::Literal(Literal::Decimal(n)) => Ok((Sum::Constant(*n), Some(Type::Score))),
        NodeKind::Literal(Literal::Octets(n)) => Ok((Sum::Constant(*n), Some(Type::Octets))),
        NodeKind::Literal(Literal::Duration(n)) => Ok((Sum::Constant(*n), Some(Type::Duration))),
        NodeKind::Arithmetic(op, a, b) => {
            let (left, a_kind) = sum(cx, a)?;
            let (right, b_kind) = sum(cx, b)?;
            if let ('*' | '/', Some(Type::Score), Some(Type::Score)) = (op, a_kind, b_kind) {
                let message = "two scores are neither multiplied nor divided";
                return Err(Fault::new(b.span.clone(), message, "a whole number on one side"));
            }
            if let ('+' | '-' | '%', Some(_), Some(_) | None) | ('+' | '-' | '%', None, Some(_)) = (op, a_kind, b_kind)
            {
                let kind = same_kind(a_kind, b_kind, &b.span)?;
                let (left, right) = (in_units(left, a_kind, kind), in_units(right, b_kind, kind));
                return Ok((Sum::Arithmetic(*op, Box::new(left), Box::new(right)), kind));
            }
            let kind = match (op, a_kind, b_kind) {
                ('*' | '/', kind, None) | ('*', None, kind) => kind, // scaling keeps the unit
                _ => same_kind(a_kind, b_kind, &b.span)?,
            };
            Ok((Sum::Arithmetic(*op, Box::new(left), Box::new(right)), kind))
        }
        _ => {
            let (operand, kind) = operand(cx, node)?;
            if kind.is_number() {
                return Ok((Sum::Of(operand), Some(kind)));
            }
            let word = &cx.text[node.span.clone()];
            let message = format!("`{word}` is {} {}, not a number", article(kind), kind.word());
            Err(Fault::new(node.span.clone(), message, "a number"))
        }
    }
}

/// Plain numbers beside a score become thousandths, as the score is.
fn in_units(sum: Sum, from: Option<Type>, to: Option<Type>) -> Sum {
    match (from, to) {
        (None, Some(Type::Score)) => Sum::Arithmetic('*', Box::new(sum), Box::new(Sum::Constant(1000))),
        _ => sum,
    }
}

fn same_kind(a: Option<Type>, b: Option<Type>, span: &Range<usize>) -> Result<Option<Type>, Fault> {
    match (a, b) {
        (None, None) => Ok(None),
        (Some(k), None) | (None, Some(k)) if k != Type::Duration => Ok(Some(k)),
        (Some(x), Some(y)) if x == y => Ok(Some(x)),
        _ => {
            let show = |k: Option<Type>| k.map_or("plain number", Type::word);
            let message = format!("a {} and a {} do not go together", show(a), show(b));
            Err(Fault::new(span.clone(), message, a.or(b).map_or("a number", Type::example)))
        }
    }
}

fn first_operand(sum: &Sum) -> Option<Operand> {
    match sum {
        Sum::Constant(_) => None,
        Sum::Of(o) => Some(o.clone()),
        Sum::Arithmetic(_, a, b) => first_operand(a).or_else(|| first_operand(b)),
    }
}

fn constant(kind: Type, literal: &Literal, span: &Range<usize>) -> Result<i64, Fault> {
    match (kind, literal) {
        (Type::Number | Type::Octets, Literal::Number(n)) => Ok(*n),
        (Type::Score, Literal::Number(n)) => Ok(n.saturating_mul(1000)),
        (Type::Score, Literal::Decimal(n)) => Ok(*n),
        (Type::Octets, Literal::Octets(n)) | (Type::Duration, Literal::Duration(n)) => Ok(*n),
        _ => {
            let message = format!("{} {} is compared with {}", article(kind), kind.word(), describe(literal));
            Err(Fault::new(span.clone(), message, kind.example()))
        }
    }
}

fn inline(kind: Type, items: &[(Literal, Range<usize>)]) -> Result<Test, Fault> {
    let misfit = |l: &Literal, span: &Range<usize>| {
        let message = format!("{} {} is never {}", article(kind), kind.word(), describe(l));
        Fault::new(span.clone(), message, kind.example())
    };
    if kind == Type::Ip {
        let nets: Result<Vec<IpNet>, Fault> = items
            .iter()
            .map(|(l, span)| match l {
                Literal::Network(n) => Ok(*n),
                other => Err(misfit(other, span)),
            })
            .collect();
        return Ok(Test::Networks(Box::new(Networks::new(nets?))));
    }
    if kind.is_number() {
        let numbers: Result<Vec<i64>, Fault> = items.iter().map(|(l, span)| constant(kind, l, span)).collect();
        return Ok(Test::Numbers(numbers?.into()));
    }
    let mut texts = Vec::new();
    for (l, span) in items {
        match (l, kind) {
            // `.example.org` reaches below, as in a list; a text that is no domain stands for itself.
            (Literal::Text(t), Type::Domain) => {
                let entry = DomainEntry::parse(t).unwrap_or(DomainEntry { name: t.to_lowercase(), reach: EXACT });
                texts.push((entry.name, entry.reach));
            }
            (Literal::Text(t), Type::Text | Type::Address) => texts.push((t.clone(), EXACT)),
            (other, _) => return Err(misfit(other, span)),
        }
    }
    Ok(Test::Texts(Box::new(TextSet::new(texts)), kind))
}

fn article(kind: Type) -> &'static str {
    match kind {
        Type::Octets | Type::Address | Type::Ip => "an",
        _ => "a",
    }
}

fn describe(l: &Literal) -> &'static str {
    match l {
        Literal::Flag(_) => "true or false",
        Literal::Number(_) => "a plain number",
        Literal::Decimal(_) => "a number with decimals",
        Literal::Octets(_) => "a size",
        Literal::Duration(_) => "a duration",
        Literal::Text(_) => "a text",
        Literal::Network(_) => "an address or network",
    }
}

fn sample(word: &str, kind: Type) -> String {
    match kind {
        Type::Flag => word.to_owned(),
        Type::Number | Type::Score => format!("`{word} > 5`"),
        Type::Octets => format!("`{word} > 10MiB`"),
        Type::Duration => format!("`{word} > 5m`"),
        Type::Ip => format!("`{word} in @list`"),
        _ => format!("`{word} == 'text'` or `{word} in @list`"),
    }
}

fn wants(kind: Type) -> &'static str {
    match kind {
        Type::Ip => "a list with networks",
        Type::Domain => "a list with domains",
        Type::Address => "a list with addresses or domains",
        Type::Text => "a list with words",
        _ => "a comparison; lists hold networks, domains, addresses and words",
    }
}

/// The last line of the crate's message says what is wrong; the ones before draw the pattern.
fn regex_error(e: &regex::Error) -> String {
    let text = e.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("not a regular expression: {}", last.trim_start_matches("error: "))
}
