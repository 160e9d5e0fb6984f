//! Content-Type, Content-Disposition and their kin (RFC 2045 §5, RFC 2183), as they are written.
//!
//! How it fails: a Content-Type that has no type and subtype is none, and RFC 2045 §5.2 says what is taken instead;
//! a parameter that cannot be read is left out.

use super::header::{Lexer, fields};

/// Parameters of one field at most.
const PARAMETERS_MAX: usize = 64;

/// A name and a value, as they stand there (RFC 2231 is left to the client).
pub(super) type Parameter = (Vec<u8>, Vec<u8>);

/// A value with parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContentType {
    pub kind: Vec<u8>,
    pub subtype: Vec<u8>,
    pub parameters: Vec<Parameter>,
}

impl ContentType {
    /// RFC 2045 §5.2
    pub(super) fn text_plain() -> ContentType {
        ContentType {
            kind: b"text".to_vec(),
            subtype: b"plain".to_vec(),
            parameters: vec![(b"charset".to_vec(), b"us-ascii".to_vec())],
        }
    }
    /// RFC 2046 §4.1.2: text without a charset is US-ASCII; other servers tell it as well.
    fn with_charset(mut self) -> ContentType {
        if self.is("text") && self.parameter("charset").is_none() {
            self.parameters.push((b"charset".to_vec(), b"us-ascii".to_vec()));
        }
        self
    }
    /// What a part of multipart/digest is (RFC 2046 §5.1.5).
    pub(super) fn message() -> ContentType {
        ContentType { kind: b"message".to_vec(), subtype: b"rfc822".to_vec(), parameters: Vec::new() }
    }
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
    }
    pub(super) fn is_subtype(&self, subtype: &str) -> bool {
        self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }
    /// message/rfc822 and message/global (RFC 6532 §3.7): their body is a message.
    pub(super) fn is_message(&self) -> bool {
        self.is("message") && (self.is_subtype("rfc822") || self.is_subtype("global"))
    }
    pub(super) fn parameter(&self, name: &str) -> Option<&[u8]> {
        let found = self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }
}

/// token of RFC 2045 §5.1, with 8-bit octets let through.
fn is_token_char(b: u8) -> bool {
    b > b' ' && b != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

/// Content-Type's value.
pub(super) fn content_type(value: &[u8]) -> Option<ContentType> {
    let mut lexer = Lexer::new(value);
    lexer.skip_space();
    let kind = lexer.run(is_token_char).to_vec();
    lexer.skip_space();
    if kind.is_empty() || !lexer.eat(b'/') {
        return None;
    }
    lexer.skip_space();
    let subtype = lexer.run(is_token_char).to_vec();
    let parameters = parameters(&mut lexer);
    (!subtype.is_empty()).then_some(ContentType { kind, subtype, parameters })
}

/// Content-Disposition's value: the disposition and its parameters.
pub(super) fn disposition(value: &[u8]) -> Option<(Vec<u8>, Vec<Parameter>)> {
    let mut lexer = Lexer::new(value);
    lexer.skip_space();
    let kind = lexer.run(is_token_char).to_vec();
    let parameters = parameters(&mut lexer);
    (!kind.is_empty()).then_some((kind, parameters))
}

/// The first word of a value, such as a transfer encoding.
pub(super) fn token(value: &[u8]) -> Option<&[u8]> {
    let mut lexer = Lexer::new(value);
    lexer.skip_space();
    let token = lexer.run(is_token_char);
    (!token.is_empty()).then_some(token)
}

/// The words of a list with commas (Content-Language, RFC 3282).
pub(super) fn tokens(value: &[u8]) -> Vec<&[u8]> {
    value.split(|b| *b == b',').filter_map(token).take(PARAMETERS_MAX).collect()
}

/// `*(";" attribute "=" value)`
fn parameters(lexer: &mut Lexer<'_>) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    while parameters.len() < PARAMETERS_MAX {
        // Whatever stands in front of the next semicolon is no parameter.
        lexer.skip_to(b';');
        if !lexer.eat(b';') {
            break;
        }
        lexer.skip_space();
        let name = lexer.run(is_token_char).to_vec();
        lexer.skip_space();
        if name.is_empty() || !lexer.eat(b'=') {
            continue;
        }
        lexer.skip_space();
        let value = match lexer.peek() {
            Some(b'"') => lexer.quoted(),
            // Values that should have been quoted are common; they end where the parameter does.
            _ => lexer.run(|b| b != b';' && !b.is_ascii_whitespace()).to_vec(),
        };
        parameters.push((name, value));
    }
    parameters
}

/// What a part's header says of its content: values of the first field of each name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContentFields<'a> {
    pub content_type: Option<&'a [u8]>,
    pub id: Option<&'a [u8]>,
    pub description: Option<&'a [u8]>,
    pub encoding: Option<&'a [u8]>,
    pub md5: Option<&'a [u8]>,
    pub disposition: Option<&'a [u8]>,
    pub language: Option<&'a [u8]>,
    pub location: Option<&'a [u8]>,
}

impl<'a> ContentFields<'a> {
    pub(super) fn of(header: &'a [u8]) -> ContentFields<'a> {
        let mut found = ContentFields::default();
        for field in fields(header) {
            // RFC 2045 §9 reserves names that begin so.
            let Some(name) = field.name.get(..8).filter(|n| n.eq_ignore_ascii_case(b"content-")) else {
                continue;
            };
            let slot = match field.name[name.len()..].to_ascii_lowercase().as_slice() {
                b"type" => &mut found.content_type,
                b"id" => &mut found.id,
                b"description" => &mut found.description,
                b"transfer-encoding" => &mut found.encoding,
                b"md5" => &mut found.md5,
                b"disposition" => &mut found.disposition,
                b"language" => &mut found.language,
                b"location" => &mut found.location,
                _ => continue,
            };
            slot.get_or_insert(field.value);
        }
        found
    }

    /// The type, or what is taken for it when there is none or none that can be read.
    pub(super) fn content_type(&self, in_digest: bool) -> ContentType {
        match self.content_type {
            Some(value) => content_type(value).map_or_else(ContentType::text_plain, ContentType::with_charset),
            None if in_digest => ContentType::message(),
            None => ContentType::text_plain(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let Some(t) = content_type(value.as_bytes()) else {
            return "none".to_owned();
        };
        let parameters = t.parameters.iter().map(|(n, v)| format!(";{}={}", lossy(n), lossy(v)));
        format!("{}/{}{}", lossy(&t.kind), lossy(&t.subtype), parameters.collect::<String>())
    }

    fn lossy(octets: &[u8]) -> String {
        String::from_utf8_lossy(octets).into_owned()
    }

    #[test]
    fn types_and_their_parameters() {
        for (value, expected) in [
            (" text/plain; charset=us-ascii (Plain text)", "text/plain;charset=us-ascii"),
            ("(a) TEXT (b) / (c) HTML ; a=\"x;y\\\"\" ;\r\n b = c", "TEXT/HTML;a=x;y\";b=c"),
            ("multipart/mixed; boundary=\"=_a b\"; x", "multipart/mixed;boundary==_a b"),
            ("multipart/mixed; boundary=a=b?c/d", "multipart/mixed;boundary=a=b?c/d"),
            ("application/x; name=My file.pdf; size=1", "application/x;name=My;size=1"),
            ("text/plain; =x; a=\"open", "text/plain;a=open"),
            ("text", "none"),
            ("/plain", "none"),
            ("text/", "none"),
            ("", "none"),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }
}
