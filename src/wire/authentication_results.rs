//! The field Authentication-Results (RFC 8601 §2.2): written on top of a message, and read from messages that others sent, to
//! find those that claim to be ours.
//!
//! Reading and writing are inverses for what this program writes. How it fails: a field that is none is `None`; the id is
//! found in more than the grammar allows, because readers behind us may be as lenient. Writing is total: what cannot stand
//! in a field is replaced.

use std::fmt::Write;

/// Results of one field that are read at most.
const RESULTS_MAX: usize = 200;
/// Octets of a value at most.
const VALUE_OCTETS_MAX: usize = 512;
/// Columns after which a line is folded (RFC 5322 §2.1.1 recommends 78).
const COLUMNS: usize = 76;

/// A field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationResults {
    /// Who says so: authserv-id.
    pub id: String,
    /// What was found out; empty is written as `none`.
    pub results: Vec<MethodResult>,
}

/// One resinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodResult {
    /// `spf`, `dkim`, `dmarc`, `arc`, `iprev`, `auth` …, in lower case.
    pub method: String,
    /// `pass`, `fail` …, in lower case.
    pub result: String,
    /// Why, where it is said.
    pub reason: Option<String>,
    /// What it is about.
    pub properties: Vec<Property>,
}

/// One propspec: `smtp.mailfrom=example.org`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Property {
    /// `smtp`, `header`, `body`, `policy`, in lower case.
    pub kind: String,
    /// `mailfrom`, `d`, … in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl MethodResult {
    /// A result without properties.
    pub fn new(method: &str, result: &str) -> MethodResult {
        MethodResult { method: method.into(), result: result.into(), ..MethodResult::default() }
    }
    /// With a reason, when there is one.
    pub fn because(mut self, reason: Option<&str>) -> MethodResult {
        self.reason = reason.filter(|r| !r.is_empty()).map(clean);
        self
    }
    /// With a property, when it has a value.
    pub fn about(mut self, kind: &str, name: &str, value: &str) -> MethodResult {
        if !value.is_empty() {
            self.properties.push(Property { kind: kind.into(), name: name.into(), value: clean(value) });
        }
        self
    }
}

impl AuthenticationResults {
    /// The field, folded, with its CRLF.
    pub fn emit(&self) -> String {
        let mut out = format!("Authentication-Results: {}", value(&self.id));
        if self.results.is_empty() {
            out.push_str("; none\r\n");
            return out;
        }
        for result in &self.results {
            out.push_str(";\r\n\t");
            let mut column = 8;
            let mut word = |out: &mut String, text: &str| {
                if column > 8 {
                    let fits = column + 1 + text.len() <= COLUMNS;
                    out.push_str(if fits { " " } else { "\r\n\t " });
                    column = if fits { column + 1 } else { 9 };
                }
                out.push_str(text);
                column += text.len();
            };
            word(&mut out, &format!("{}={}", keyword(&result.method), keyword(&result.result)));
            if let Some(reason) = &result.reason {
                word(&mut out, &format!("reason={}", quoted(reason)));
            }
            for p in &result.properties {
                word(&mut out, &format!("{}.{}={}", keyword(&p.kind), keyword(&p.name), pvalue(&p.value)));
            }
        }
        out.push_str("\r\n");
        out
    }

    /// Reads what stands behind the colon.
    pub fn parse(text: &[u8]) -> Option<AuthenticationResults> {
        let text = std::str::from_utf8(text).ok()?;
        let mut r = Reader { rest: text };
        let id = r.value()?;
        // authres-version
        if r.rest.starts_with(|c: char| c.is_ascii_digit()) && r.keyword()? != "1" {
            return None;
        }
        let mut results = Vec::new();
        while r.eat(';') {
            r.space();
            if r.rest.is_empty() {
                break;
            }
            if results.len() >= RESULTS_MAX {
                return None;
            }
            let method = r.keyword()?;
            if r.eat('/') {
                r.keyword()?;
            }
            if method == "none" && results.is_empty() && !r.rest.starts_with('=') {
                continue;
            }
            r.eat('=').then_some(())?;
            let mut result = MethodResult { method, result: r.keyword()?, ..MethodResult::default() };
            while !r.rest.is_empty() && !r.rest.starts_with(';') {
                let word = r.keyword()?;
                if r.eat('.') {
                    let name = r.keyword()?;
                    r.eat('=').then_some(())?;
                    result.properties.push(Property { kind: word, name, value: r.pvalue()? });
                } else {
                    (word == "reason" && r.eat('=')).then_some(())?;
                    result.reason = Some(r.value()?);
                }
            }
            results.push(result);
        }
        r.rest.is_empty().then_some(AuthenticationResults { id, results })
    }
}

/// Whose a field says it is, as far as that can be told: also of fields that are otherwise broken.
pub fn claimed_id(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    Reader { rest: &text }.value()
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Skips white space, line ends and comments (CFWS, RFC 5322 §3.2.2).
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if !self.rest.starts_with('(') {
                return;
            }
            let (mut depth, mut escaped, mut end) = (0usize, false, self.rest.len());
            for (i, c) in self.rest.char_indices() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = i + c.len_utf8();
                    break;
                }
            }
            self.rest = &self.rest[end..];
        }
    }
    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.rest.strip_prefix(c);
        if let Some(rest) = found {
            self.rest = rest;
            self.space();
        }
        found.is_some()
    }
    fn run(&mut self, is: impl Fn(char) -> bool) -> Option<String> {
        self.space();
        let end = self.rest.find(|c| !is(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        self.rest = rest;
        self.space();
        Some(word.to_owned())
    }
    /// Keyword (RFC 5321 §4.1.2), in lower case. Underscores are no part of it and are met.
    fn keyword(&mut self) -> Option<String> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))?;
        Some(word.to_ascii_lowercase())
    }
    /// token or quoted-string (RFC 2045 §5.1).
    fn value(&mut self) -> Option<String> {
        self.space();
        if !self.rest.starts_with('"') {
            return self.run(is_token);
        }
        let mut text = String::new();
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            match c {
                c if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.rest = &self.rest[i + 1..];
                    self.space();
                    return Some(text);
                }
                '\r' | '\n' => {}
                c => text.push(c),
            }
        }
        None
    }
    /// value, or an address whose local part may be missing or quoted.
    fn pvalue(&mut self) -> Option<String> {
        self.space();
        if self.rest.starts_with('"') {
            let start = self.rest;
            let text = self.value()?;
            // `"local part"@domain` is kept as it is written.
            let used = start.len() - self.rest.len();
            return match self.rest.starts_with('@') && start[..used].ends_with('"') {
                true => Some(start[..used].to_owned() + &self.run(is_address)?),
                false => Some(text),
            };
        }
        self.run(is_address)
    }
}

/// RFC 2045 §5.1, with UTF-8 let through (RFC 8601 §5 and RFC 6532).
fn is_token(c: char) -> bool {
    !c.is_control() && c != ' ' && !"()<>@,;:\\\"/[]?=".contains(c)
}

fn is_address(c: char) -> bool {
    is_token(c) || matches!(c, '@' | ':' | '[' | ']' | '=' | '/' | '?')
}

fn clean(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = out.len().min(VALUE_OCTETS_MAX);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out
}

fn keyword(text: &str) -> String {
    let is = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let word: String = text.chars().filter(is).collect::<String>().to_ascii_lowercase();
    if word.is_empty() { "unknown".into() } else { word }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in clean(text).chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}

fn value(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_token) { text.to_owned() } else { quoted(text) }
}

fn pvalue(text: &str) -> String {
    let is_quoted_local = || {
        let local = text.rsplit_once("\"@").map(|(local, _)| format!("{local}\""));
        local.is_some_and(|l| (Reader { rest: &l }).value().is_some_and(|v| quoted(&v) == l))
            && text.rsplit_once("\"@").is_some_and(|(_, d)| !d.is_empty() && d.chars().all(is_address))
    };
    match !text.is_empty() && text.chars().all(is_address) || is_quoted_local() {
        true => text.to_owned(),
        false => quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn behind_colon(field: &str) -> &[u8] {
        field.split_once(':').unwrap().1.as_bytes()
    }

    #[test]
    fn a_field_as_it_stands_on_a_message() {
        let field = AuthenticationResults {
            id: "mx.example.test".into(),
            results: vec![
                MethodResult::new("iprev", "pass").about("policy", "iprev", "192.0.2.1"),
                MethodResult::new("spf", "fail").because(Some("not \"ours\"")).about("smtp", "mailfrom", "a@b.example"),
                MethodResult::new("dkim", "none"),
            ],
        };
        let text = field.emit();
        assert_eq!(
            text,
            "Authentication-Results: mx.example.test;\r\n\tiprev=pass policy.iprev=192.0.2.1;\r\n\tspf=fail \
             reason=\"not \\\"ours\\\"\" smtp.mailfrom=a@b.example;\r\n\tdkim=none\r\n"
        );
        assert_eq!(AuthenticationResults::parse(behind_colon(&text)), Some(field));
        let none = AuthenticationResults { id: "x".into(), results: Vec::new() };
        assert_eq!(none.emit(), "Authentication-Results: x; none\r\n");
        assert_eq!(AuthenticationResults::parse(b" x; none"), Some(none));
    }

    #[test]
    fn fields_of_others() {
        // RFC 8601 appendices B.5 and B.6.
        let text = " example.com;\r\n   dkim=pass (good signature) header.d=mail-router.example.net;\r\n \
                    dkim = fail (bad \\) signature) reason=\"x y\" header.d=newyork.example.com";
        let read = AuthenticationResults::parse(text.as_bytes()).unwrap();
        assert_eq!((read.id.as_str(), read.results.len()), ("example.com", 2));
        assert_eq!(read.results[1].reason.as_deref(), Some("x y"));
        let text = " foo.example.net (foobar) 1 (baz);\r\n    dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n \
                    policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't expecting it) 1362471462";
        let read = AuthenticationResults::parse(text.as_bytes()).unwrap();
        assert_eq!(read.results[0].properties[0].name, "expired");
        for broken in ["", ";", " x; spf", " x; spf=", " x 2; none", " x; spf=pass smtp.", " \"x", " x; spf=pass y"] {
            assert_eq!(AuthenticationResults::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn whose_it_is_is_found_in_broken_fields_too() {
        for text in [
            " MX.example.test; rubbish ===",
            "(a (b)) \"MX.example.test\" 7",
            "\r\n\tMX.example.test",
            " MX.example.test;\u{ff}",
        ] {
            assert_eq!(claimed_id(text.as_bytes()).as_deref(), Some("MX.example.test"), "{text}");
        }
        assert_eq!(claimed_id(b" ; x"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            id in "[a-z.]{1,12}|\\PC{1,6}",
            results in prop::collection::vec(
                ("[a-z]{1,5}", "[a-z]{1,5}", prop::option::of("\\PC{1,8}"), prop::collection::vec("\\PC{1,8}|[a-z@.]{1,60}|\"a b\"@c", 0..4)),
                0..4,
            ),
        ) {
            let results = results.into_iter().map(|(method, result, reason, values)| {
                let result = MethodResult::new(&method, &result).because(reason.as_deref());
                values.iter().fold(result, |r, v| r.about("smtp", "mailfrom", v))
            });
            let field = AuthenticationResults { id: clean(&id), results: results.collect() };
            let text = field.emit();
            prop_assert!(text.split("\r\n").all(|line| line.len() < 998 && !line.contains(['\r', '\n'])));
            prop_assert_eq!(AuthenticationResults::parse(behind_colon(&text)), Some(field));
        }

        #[test]
        fn nothing_makes_it_panic(text: Vec<u8>, near in "[a-z=;.\"() \\\\@/]{0,40}") {
            let _ = (AuthenticationResults::parse(&text), claimed_id(&text));
            let _ = (AuthenticationResults::parse(near.as_bytes()), claimed_id(near.as_bytes()));
        }
    }
}
