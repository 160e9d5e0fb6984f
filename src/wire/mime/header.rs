//! Header sections as octets: where they end, which fields they have, and field values on one line.
//!
//! How it fails: it does not. A line that is no field is a field without a name; a header without an empty line ends
//! where its octets end.

use memchr::memchr;
use std::borrow::Cow;

/// Octets of the header section at the front of a message, its empty line included; `None` when the empty line is not
/// there (yet).
pub fn header_section(front: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(n) = memchr(b'\n', &front[at..]) {
        if is_empty_line(&front[at..at + n]) {
            return Some(at + n + 1);
        }
        at += n + 1;
    }
    None
}

/// A line without its LF: whether nothing else is in it.
pub(super) fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"" | b"\r")
}

/// Where the line that begins at `at` ends, its LF included.
pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n + 1)
}

/// A field of a header section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// What stands in front of the colon; empty for a line that is no field.
    pub name: &'a [u8],
    /// What stands behind it, folded as it is, without the last line end.
    pub value: &'a [u8],
    /// All of it with its last line end.
    pub whole: &'a [u8],
}

impl Field<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header section, up to its empty line.
pub(super) fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let mut end = line_end(self.rest, 0);
        let first = self.rest[..end].strip_suffix(b"\n").unwrap_or(&self.rest[..end]);
        if is_empty_line(first) {
            self.rest = &[];
            return None;
        }
        // RFC 5322 §2.2.3: lines that begin with a space belong to the field.
        while matches!(self.rest.get(end), Some(b' ' | b'\t')) {
            end = line_end(self.rest, end);
        }
        let (whole, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = whole.strip_suffix(b"\n").unwrap_or(whole);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let colon = memchr(b':', first).map(|at| (first[..at].trim_ascii_end(), &text[at + 1..]));
        // RFC 5322 §3.6.8: printable ASCII without the colon; spaces in front of it are obsolete (§4.5).
        let named = colon.filter(|(name, _)| !name.is_empty() && name.iter().all(|b| matches!(b, 0x21..=0x7e)));
        let (name, value) = named.unwrap_or((&[], text));
        Some(Field { name, value, whole })
    }
}

/// A value on one line: a fold becomes the space it stands for (RFC 5322 §2.2.3), stray CR and LF go.
pub(super) fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if !value.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return Cow::Borrowed(value);
    }
    let mut line = Vec::with_capacity(value.len());
    let mut folded = false;
    for b in value {
        match b {
            b'\r' => {}
            b'\n' => folded = true,
            b'\t' if folded => {
                line.push(b' ');
                folded = false;
            }
            b => {
                line.push(*b);
                folded = false;
            }
        }
    }
    Cow::Owned(line)
}

/// Words of a structured field (RFC 5322 §3.2, RFC 2045 §5.1): runs of characters, quoted strings, comments.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Lexer<'a> {
        Lexer { bytes, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn bump(&mut self) {
        self.at = (self.at + 1).min(self.bytes.len());
    }

    pub(super) fn eat(&mut self, b: u8) -> bool {
        let there = self.peek() == Some(b);
        self.at += usize::from(there);
        there
    }

    /// Skips to the next octet of this value, or to the end.
    pub(super) fn skip_to(&mut self, b: u8) {
        self.at = memchr(b, &self.bytes[self.at..]).map_or(self.bytes.len(), |n| self.at + n);
    }

    /// Skips white space and comments (CFWS); tells whether there was any, and the text of the last comment.
    pub(super) fn skip_space(&mut self) -> (bool, Option<Vec<u8>>) {
        let start = self.at;
        let mut comment = None;
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'(') => comment = Some(self.comment()),
                _ => return (self.at > start, comment),
            }
        }
    }

    /// A comment without its parentheses; those inside may nest (RFC 5322 §3.2.2).
    fn comment(&mut self) -> Vec<u8> {
        let mut depth = 0u32;
        let mut text = Vec::new();
        while let Some(mut b) = self.peek() {
            self.at += 1;
            match b {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => {
                    b = self.peek().unwrap_or(b);
                    self.bump();
                }
                _ => {}
            }
            match (b, depth) {
                (_, 0) => break,
                (b'(', 1) if text.is_empty() => {}
                (b'\r' | b'\n', _) => {}
                _ => text.push(b),
            }
        }
        text
    }

    /// A quoted string without its quotes and backslashes; the opening quote comes next.
    pub(super) fn quoted(&mut self) -> Vec<u8> {
        self.bump();
        let mut text = Vec::new();
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'"' => break,
                b'\\' => {
                    text.extend(self.peek());
                    self.bump();
                }
                b'\r' | b'\n' => {}
                b => text.push(b),
            }
        }
        text
    }

    /// A run of such characters; may be empty.
    pub(super) fn run(&mut self, mut is: impl FnMut(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| !is(*b)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_at_their_empty_line() {
        assert_eq!(header_section(b"A: b\r\n\r\nbody"), Some(8));
        assert_eq!(header_section(b"A: b\n\nbody"), Some(6));
        assert_eq!(header_section(b"\r\nbody"), Some(2));
        assert_eq!(header_section(b"A: b\r\n"), None);
        assert_eq!(header_section(b"A: b\r\n\r"), None);
        assert_eq!(header_section(b""), None);
    }

    #[test]
    fn fields_are_found_whatever_they_look_like() {
        let header = b"From x@y Mon 12:00\r\nSubject : a\r\n\tb\r\n c\r\nnonsense\r\nX:\r\n\r\nY: z\r\n";
        let names: Vec<_> = fields(header).map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        assert_eq!(names, ["", "Subject", "", "X"]);
        let subject = fields(header).find(|f| f.is("SUBJECT")).unwrap();
        assert_eq!(unfold(subject.value).as_ref(), b"a b c");
        let whole: usize = fields(header).map(|f| f.whole.len()).sum();
        assert_eq!(header_section(header), Some(whole + 2));
    }

    #[test]
    fn words_of_structured_fields() {
        let mut lexer = Lexer::new(b" (a (b) \\) c) \"q \\\" \r\n r\" x");
        assert_eq!(lexer.skip_space(), (true, Some(b"a (b) ) c".to_vec())));
        assert_eq!(lexer.quoted(), b"q \"  r");
        let mut open = Lexer::new(b"(((((");
        assert_eq!(open.skip_space(), (true, Some(b"((((".to_vec())));
    }
}
