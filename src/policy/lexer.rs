//! Words of a rule's condition.
//!
//! How it fails: [`Fault`] with the offending octets, what was expected and, for habits from other languages, the word
//! that is used here.

use crate::base::knob::{KnobType, Octets, Raw, parse_duration};
use ipnet::IpNet;
use std::ops::Range;

/// Something wrong in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Octets of the expression.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// The near miss.
    pub suggestion: Option<String>,
}

impl Fault {
    /// A fault without suggestion.
    pub fn new(span: Range<usize>, message: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault { span, message: message.into(), expected: expected.into(), suggestion: None }
    }
    /// With a suggestion.
    pub fn near(mut self, suggestion: Option<&str>) -> Fault {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }
}

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// Fact, function or keyword.
    Name(String),
    /// `@name`
    List(String),
    /// `'text'` or `"text"`
    Text(String),
    /// `42`
    Number(i64),
    /// `4.5`, in thousandths
    Decimal(i64),
    /// `10MiB`
    Octets(i64),
    /// `5m`, in milliseconds
    Duration(i64),
    /// `192.0.2.0/24`
    Network(IpNet),
    /// `/pattern/i`: pattern, and whether case does not matter.
    Regex(String, bool),
    /// `==`, `(`, …
    Symbol(&'static str),
    /// Behind the last word.
    End,
}

/// A word and its octets in the expression.
pub type Placed = (Token, Range<usize>);

const SYMBOLS: [&str; 16] = ["==", "!=", "<=", ">=", "..", "<", ">", "(", ")", "[", "]", ",", "+", "-", "*", "%"];
const FOREIGN: [(&str, &str); 5] = [("&&", "and"), ("||", "or"), ("!", "not"), ("=", "=="), ("~", "matches")];

/// Splits an expression into words; the last is [`Token::End`].
pub fn lex(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut words: Vec<Placed> = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else {
            words.push((Token::End, at..at));
            return Ok(words);
        };
        let after_matches = matches!(words.last(), Some((Token::Name(n), _)) if n == "matches");
        let (token, len) = match first {
            '\'' | '"' => string(rest, at)?,
            '/' if after_matches => regex(rest, at)?,
            '/' => (Token::Symbol("/"), 1),
            '@' => list(rest, at)?,
            c if c.is_ascii_digit() || (c == ':' && rest.starts_with("::")) => number(rest, at)?,
            c if c.is_ascii_alphabetic() || c == '_' => name(rest, at)?,
            _ => symbol(rest, at)?,
        };
        words.push((token, at..at + len));
        at += len;
    }
}

fn run(rest: &str, take: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !take(c)).unwrap_or(rest.len())
}

fn string(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let quote = &rest[..1];
    match rest[1..].find(quote) {
        Some(len) => Ok((Token::Text(rest[1..1 + len].to_owned()), len + 2)),
        None => Err(Fault::new(at..at + rest.len(), "a text without end", format!("a closing {quote}"))),
    }
}

fn regex(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            '/' if !escaped => {
                let flags = run(&rest[i + 1..], |c| c.is_ascii_alphanumeric());
                let ignore_case = match &rest[i + 1..i + 1 + flags] {
                    "" => false,
                    "i" => true,
                    other => {
                        let span = at + i + 1..at + i + 1 + flags;
                        return Err(Fault::new(span, format!("unknown flag `{other}` of a pattern"), "`i` or nothing"));
                    }
                };
                return Ok((Token::Regex(rest[1..i].replace("\\/", "/"), ignore_case), i + 1 + flags));
            }
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Err(Fault::new(at..at + rest.len(), "a pattern without end", "a closing /"))
}

fn list(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let len = run(&rest[1..], |c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match len {
        0 => Err(Fault::new(at..at + 1, "`@` without a name", "the name of a list, as in `@partners`")),
        _ => Ok((Token::List(rest[1..=len].to_owned()), len + 1)),
    }
}

/// A number, size, duration, address or network.
fn number(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let len = run(rest, |c| c.is_ascii_alphanumeric() || c == '.' || c == ':');
    let word = &rest[..len];
    if word.contains(':') || word.matches('.').count() > 1 {
        return network(rest, at);
    }
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    if let Ok(n) = word.parse() {
        return Ok((Token::Number(n), len));
    }
    if let Some(n) = super::value::parse_thousandths(word) {
        return Ok((Token::Decimal(n), len));
    }
    if let Some(d) = parse_duration(word) {
        return Ok((Token::Duration(millis(d)), len));
    }
    if let Ok(o) = Octets::parse(&Raw::Text(word.into())) {
        return Ok((Token::Octets(i64::try_from(o.0).unwrap_or(i64::MAX)), len));
    }
    let expected = "a number, a size such as 10MiB, a duration such as 5m, or an address";
    Err(Fault::new(at..at + len, format!("`{word}` is no number"), expected))
}

fn network(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let len = run(rest, |c| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/'));
    super::networks::parse_network(&rest[..len])
        .map(|net| (Token::Network(net), len))
        .map_err(|message| Fault::new(at..at + len, message, String::new()))
}

fn name(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let len = run(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if rest[len..].starts_with(':') {
        return network(rest, at); // fe80::1
    }
    let word = rest[..len].trim_end_matches('.');
    Ok((Token::Name(word.to_owned()), word.len()))
}

fn symbol(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    if let Some(s) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
        return Ok((Token::Symbol(s), s.len()));
    }
    if let Some((foreign, ours)) = FOREIGN.iter().find(|(f, _)| rest.starts_with(f)) {
        let span = at..at + foreign.len();
        return Err(Fault::new(span, format!("`{foreign}` is not used here"), String::new()).near(Some(ours)));
    }
    let len = rest.chars().next().map_or(1, char::len_utf8);
    Err(Fault::new(at..at + len, format!("unexpected `{}`", &rest[..len]), "a fact, a value or an operator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        lex(text).unwrap().into_iter().map(|(t, _)| t).collect()
    }

    #[test]
    fn every_kind_of_word() {
        use Token::*;
        let words =
            tokens("helo in @a-b and (x.y matches /a\\/b\\\\/i) == 10MiB 5m 7 192.0.2.0/24 ::1 fe80::/10 'é' 8/2");
        assert_eq!(words[2], List("a-b".into()));
        assert_eq!(words[7], Regex("a/b\\\\".into(), true));
        assert_eq!(words[10..13], [Octets(10 << 20), Duration(300_000), Number(7)]);
        assert!(words[13..16].iter().all(|w| matches!(w, Network(_))));
        assert_eq!(words[16..], [Text("é".into()), Number(8), Symbol("/"), Number(2), End]);
    }

    #[test]
    fn habits_from_elsewhere_are_answered() {
        assert_eq!(lex("a && b").unwrap_err().suggestion.as_deref(), Some("and"));
        assert_eq!(lex("a = b").unwrap_err().suggestion.as_deref(), Some("=="));
        assert!(lex("a == 'x").unwrap_err().expected.contains("closing"));
        assert!(lex("a matches /x/g").unwrap_err().message.contains('g'));
        assert!(lex("5parsecs").is_err() && lex("@ x").is_err() && lex("é").is_err());
    }
}
