//! The grammar of conditions: words to a tree.
//!
//! ```text
//! or      = and { "or" and }
//! and     = not { "and" not }
//! not     = "not" not | relation
//! relation= sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum
//!               | ["not"] ("in" set | "matches" /regex/i | "contains" text | "starts_with" text | "ends_with" text)
//!               | "is" ["not"] "known" ]
//! sum     = product { ("+" | "-") product }
//! product = primary { ("*" | "/" | "%") primary }
//! primary = "(" or ")" | "true" | "false" | literal | fact | function "(" text ")"
//! set     = "@list" | network | "[" literal { "," literal } "]"
//! ```
//!
//! How it fails: [`Fault`] at the first word that does not fit. Depth and length are bounded.

use super::lexer::{Fault, Placed, Token, lex};
use ipnet::IpNet;
use std::ops::Range;

/// Octets of a condition at most.
pub const EXPRESSION_OCTETS_MAX: usize = 16 * 1024;
/// Nested parentheses and `not`s at most: the parser calls itself.
const DEPTH_MAX: usize = 64;

/// A part of a condition and its octets in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Where it stands.
    pub span: Range<usize>,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// All of them, in order.
    And(Vec<Node>),
    /// Any of them, in order.
    Or(Vec<Node>),
    /// The opposite.
    Not(Box<Node>),
    /// A comparison or text operator, by its word: `==`, `contains`, …
    Compare(&'static str, Box<Node>, Box<Node>),
    /// `+ - * / %`
    Arithmetic(char, Box<Node>, Box<Node>),
    /// Membership in a set.
    In(Box<Node>, Set, Range<usize>),
    /// A regular expression; the flag says that case does not matter.
    Matches(Box<Node>, String, bool, Range<usize>),
    /// Whether the value has been found out.
    Known(Box<Node>),
    /// A fact.
    Name(String),
    /// A function of one text.
    Call(String, String, Range<usize>),
    /// A constant.
    Literal(Literal),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `true`, `false`
    Flag(bool),
    /// `42`
    Number(i64),
    /// `4.5`, in thousandths
    Decimal(i64),
    /// `10MiB`
    Octets(i64),
    /// `5m`, in milliseconds
    Duration(i64),
    /// `'text'`
    Text(String),
    /// An address or network.
    Network(IpNet),
}

/// What stands behind `in`.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    /// `@name`
    List(String),
    /// `[a, b]`, or a single network.
    Inline(Vec<(Literal, Range<usize>)>),
}

const RELATIONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];
const TEXT_RELATIONS: [&str; 3] = ["contains", "starts_with", "ends_with"];
/// Words that are no facts.
pub const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "matches", "contains", "starts_with", "ends_with", "is", "known", "true", "false"];

/// Reads a condition.
pub fn parse(text: &str) -> Result<Node, Fault> {
    if text.len() > EXPRESSION_OCTETS_MAX {
        let message = format!("a condition of {} octets", text.len());
        return Err(Fault::new(0..text.len(), message, format!("at most {EXPRESSION_OCTETS_MAX}")));
    }
    let mut parser = Parser { words: lex(text)?, at: 0, depth: 0 };
    let node = parser.or()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => {
            Err(parser
                .unexpected("`and`, `or` or the end of the condition", &["and", "or", "in", "matches", "contains"]))
        }
    }
}

struct Parser {
    words: Vec<Placed>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.words[self.at].0
    }
    fn span(&self) -> Range<usize> {
        self.words[self.at].1.clone()
    }
    fn next(&mut self) -> Placed {
        let word = self.words[self.at].clone();
        // The last word is `End` and stays.
        self.at = (self.at + 1).min(self.words.len() - 1);
        word
    }
    fn keyword(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Token::Name(n) if n == word);
        if there {
            self.next();
        }
        there
    }
    fn symbol(&mut self, symbols: &[&'static str]) -> Option<&'static str> {
        let found = match self.peek() {
            Token::Symbol(s) => symbols.iter().copied().find(|x| x == s),
            _ => None,
        };
        if found.is_some() {
            self.next();
        }
        found
    }
    fn unexpected(&self, expected: &str, known: &[&str]) -> Fault {
        let (token, span) = &self.words[self.at];
        match token {
            Token::End => Fault::new(span.clone(), "the condition ends here", expected),
            Token::Name(n) => Fault::new(span.clone(), format!("unexpected `{n}`"), expected)
                .near(super::diagnostic::nearest(n, known.iter().copied())),
            _ => Fault::new(span.clone(), "unexpected word", expected),
        }
    }
    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(Fault::new(self.span(), "nested too deeply", format!("at most {DEPTH_MAX} levels"))),
            false => Ok(()),
        }
    }

    fn or(&mut self) -> Result<Node, Fault> {
        self.chain("or", Parser::and, NodeKind::Or)
    }
    fn and(&mut self) -> Result<Node, Fault> {
        self.chain("and", Parser::not, NodeKind::And)
    }
    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Parser) -> Result<Node, Fault>,
        join: fn(Vec<Node>) -> NodeKind,
    ) -> Result<Node, Fault> {
        let mut parts = vec![part(self)?];
        while self.keyword(word) {
            parts.push(part(self)?);
        }
        let span = parts[0].span.start..parts[parts.len() - 1].span.end;
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            Some(last) => {
                parts.push(last);
                Ok(Node { kind: join(parts), span })
            }
            None => Err(self.unexpected("a condition", &[])),
        }
    }

    fn not(&mut self) -> Result<Node, Fault> {
        let start = self.span().start;
        if !self.keyword("not") {
            return self.relation();
        }
        self.deeper()?;
        let inner = self.not()?;
        self.depth -= 1;
        let span = start..inner.span.end;
        Ok(Node { kind: NodeKind::Not(Box::new(inner)), span })
    }

    fn relation(&mut self) -> Result<Node, Fault> {
        let left = self.sum()?;
        let start = left.span.start;
        if let Some(op) = self.symbol(&RELATIONS) {
            let right = self.sum()?;
            let span = start..right.span.end;
            return Ok(Node { kind: NodeKind::Compare(op, Box::new(left), Box::new(right)), span });
        }
        if self.keyword("is") {
            let negated = self.keyword("not");
            let end = self.span().end;
            if !self.keyword("known") {
                return Err(self.unexpected("`known` or `not known`", &["known", "not"]));
            }
            return Ok(wrap(negated, Node { kind: NodeKind::Known(Box::new(left)), span: start..end }));
        }
        let negated = matches!(self.peek(), Token::Name(n) if n == "not") && {
            self.next();
            true
        };
        match self.membership(left)? {
            Ok(node) => Ok(wrap(negated, node)),
            Err(_) if negated => Err(self.unexpected(
                "`in`, `matches`, `contains`, `starts_with` or `ends_with`",
                &["in", "matches", "contains"],
            )),
            Err(left) => Ok(left),
        }
    }

    /// `in`, `matches` or a text relation; hands `left` back when none follows.
    fn membership(&mut self, left: Node) -> Result<Result<Node, Node>, Fault> {
        let start = left.span.start;
        if self.keyword("in") {
            let (set, span) = self.set()?;
            let whole = start..span.end;
            return Ok(Ok(Node { kind: NodeKind::In(Box::new(left), set, span), span: whole }));
        }
        if self.keyword("matches") {
            return match self.next() {
                (Token::Regex(pattern, fold), span) => {
                    let whole = start..span.end;
                    Ok(Ok(Node { kind: NodeKind::Matches(Box::new(left), pattern, fold, span), span: whole }))
                }
                (_, span) => {
                    Err(Fault::new(span, "`matches` without a pattern", "a pattern such as /^mail[0-9]+\\./i"))
                }
            };
        }
        for op in TEXT_RELATIONS {
            if self.keyword(op) {
                let right = self.sum()?;
                let span = start..right.span.end;
                return Ok(Ok(Node { kind: NodeKind::Compare(op, Box::new(left), Box::new(right)), span }));
            }
        }
        Ok(Err(left))
    }

    fn set(&mut self) -> Result<(Set, Range<usize>), Fault> {
        let (token, span) = self.next();
        match token {
            Token::List(name) => Ok((Set::List(name), span)),
            Token::Network(_) => {
                let item = literal(token).map(|l| (l, span.clone()));
                Ok((Set::Inline(item.into_iter().collect()), span))
            }
            Token::Symbol("[") => self.inline(span.start),
            Token::Name(n) => {
                Err(Fault::new(span, format!("`{n}` is no set"), "a list such as `@name`, a network or [values]")
                    .near(Some(&format!("@{n}"))))
            }
            _ => Err(Fault::new(span, "`in` without a set", "a list such as `@name`, a network or [values]")),
        }
    }

    fn inline(&mut self, start: usize) -> Result<(Set, Range<usize>), Fault> {
        let mut items = Vec::new();
        loop {
            let (token, span) = self.next();
            match literal(token) {
                Some(l) => items.push((l, span)),
                None => return Err(Fault::new(span, "not a value", "a value inside [ ]")),
            }
            match self.next() {
                (Token::Symbol(","), _) => {}
                (Token::Symbol("]"), end) => return Ok((Set::Inline(items), start..end.end)),
                (_, span) => return Err(Fault::new(span, "a set without end", "`,` or `]`")),
            }
        }
    }

    fn sum(&mut self) -> Result<Node, Fault> {
        self.arithmetic(&["+", "-"], |p| p.arithmetic(&["*", "/", "%"], Parser::primary))
    }
    fn arithmetic(
        &mut self,
        symbols: &[&'static str],
        part: fn(&mut Parser) -> Result<Node, Fault>,
    ) -> Result<Node, Fault> {
        let mut left = part(self)?;
        while let Some(op) = self.symbol(symbols) {
            self.deeper()?; // a long chain makes a deep tree
            let right = part(self)?;
            let span = left.span.start..right.span.end;
            let op = op.chars().next().unwrap_or('+');
            left = Node { kind: NodeKind::Arithmetic(op, Box::new(left), Box::new(right)), span };
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let (token, span) = self.next();
        let kind = match token {
            Token::Symbol("(") => {
                self.deeper()?;
                let inner = self.or()?;
                self.depth -= 1;
                return match self.symbol(&[")"]) {
                    Some(_) => Ok(inner),
                    None => Err(self.unexpected("`)`", &[])),
                };
            }
            Token::Name(n) if matches!(self.peek(), Token::Symbol("(")) => return self.call(n, span),
            Token::Name(n) if n != "true" && n != "false" => {
                if KEYWORDS.contains(&n.as_str()) {
                    return Err(Fault::new(span, format!("`{n}` stands where a value should"), "a fact or a value"));
                }
                NodeKind::Name(n)
            }
            Token::List(n) => {
                let message = format!("`@{n}` alone says nothing");
                return Err(Fault::new(span, message, format!("a fact and `in`, as in `client in @{n}`")));
            }
            Token::Symbol("-") => match self.next() {
                (Token::Number(n), end) => return Ok(negative(Literal::Number(-n), span.start..end.end)),
                (Token::Decimal(n), end) => return Ok(negative(Literal::Decimal(-n), span.start..end.end)),
                (_, span) => return Err(Fault::new(span, "`-` without a number", "a number such as -2 or -0.5")),
            },
            Token::End => return Err(Fault::new(span, "the condition ends here", "a fact or a value")),
            other => match literal(other) {
                Some(l) => NodeKind::Literal(l),
                None => return Err(Fault::new(span, "unexpected word", "a fact or a value")),
            },
        };
        Ok(Node { kind, span })
    }

    fn call(&mut self, name: String, span: Range<usize>) -> Result<Node, Fault> {
        self.next(); // the parenthesis
        let (argument, place) = self.next();
        let Token::Text(argument) = argument else {
            return Err(Fault::new(place, format!("`{name}` wants a text"), format!("as in {name}('Subject')")));
        };
        let end = self.span().end;
        match self.symbol(&[")"]) {
            Some(_) => Ok(Node { kind: NodeKind::Call(name, argument, span.clone()), span: span.start..end }),
            None => Err(self.unexpected("`)`", &[])),
        }
    }
}

fn wrap(negated: bool, node: Node) -> Node {
    let span = node.span.clone();
    if negated { Node { kind: NodeKind::Not(Box::new(node)), span } } else { node }
}

fn negative(literal: Literal, span: Range<usize>) -> Node {
    Node { kind: NodeKind::Literal(literal), span }
}

fn literal(token: Token) -> Option<Literal> {
    match token {
        Token::Name(n) if n == "true" => Some(Literal::Flag(true)),
        Token::Name(n) if n == "false" => Some(Literal::Flag(false)),
        Token::Number(n) => Some(Literal::Number(n)),
        Token::Decimal(n) => Some(Literal::Decimal(n)),
        Token::Octets(n) => Some(Literal::Octets(n)),
        Token::Duration(n) => Some(Literal::Duration(n)),
        Token::Text(t) => Some(Literal::Text(t)),
        Token::Network(n) => Some(Literal::Network(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn precedence() {
        let Node { kind: NodeKind::Or(parts), .. } = parse("a or not b and c + 2 * d > 5 or (x or y) and z").unwrap()
        else {
            panic!("or is weakest")
        };
        assert_eq!(parts.len(), 3);
        let NodeKind::And(and) = &parts[1].kind else { panic!("then and") };
        assert!(matches!(and[0].kind, NodeKind::Not(_)) && matches!(and[1].kind, NodeKind::Compare(">", ..)));
    }

    #[test]
    fn what_does_not_parse_says_where() {
        for (text, at, word) in [
            ("a and", 5, "fact or a value"),
            ("a in b", 5, "@name"),
            ("a matches 'x'", 10, "pattern"),
            ("(a or b", 7, "`)`"),
            ("a b", 2, "`and`"),
            ("@x", 0, "in @x"),
            ("a is b", 5, "known"),
            ("header(x)", 7, "Subject"),
            ("a in ['x' 'y']", 10, "`,`"),
            ("a not b", 6, "`in`"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.span.start, at, "{text}: {fault:?}");
            assert!(fault.expected.contains(word), "{text}: {fault:?}");
        }
        assert!(parse(&"(".repeat(1000)).unwrap_err().message.contains("deep"));
        assert!(parse(&format!("1{} > 2", "+1".repeat(1000))).unwrap_err().message.contains("deep"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[a-z@()\\[\\]'\"/ .:0-9!=<>+*-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
