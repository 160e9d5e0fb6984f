//! A cursor over one command: the terminals of RFC 9051 §9 that every command shares.
//!
//! How it fails: each terminal says what it expected and what stood there; nothing is taken back but by the caller's
//! choice. Lengths come from the framer, which has bounded them.

use std::borrow::Cow;

/// Octets of the client's own text that a refusal repeats.
const EXCERPT_OCTETS_MAX: usize = 24;

/// How a session reads and writes names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// IMAP4rev2 or UTF8=ACCEPT was enabled: names of mailboxes are UTF-8 and not modified UTF-7.
    pub utf8: bool,
}

/// Why a command is none. The client wrote it; the same again will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCommand {
    /// Its tag, where it has one.
    pub tag: Option<String>,
    /// What was expected and what stood there.
    pub why: String,
    /// The charset is not known: NO `[BADCHARSET]` instead of BAD (RFC 9051 §6.4.4).
    pub badcharset: bool,
}

/// A [`BadCommand`] before anybody knows whose.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) why: String,
    pub(super) badcharset: bool,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>) -> Fault {
        Fault { why: why.into(), badcharset: false }
    }
}

pub(super) type Read<T> = Result<T, Fault>;

/// ATOM-CHAR
pub(super) fn is_atom_char(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// ASTRING-CHAR
pub(super) fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

/// A character of a tag.
pub(super) fn is_tag_char(b: u8) -> bool {
    is_astring_char(b) && b != b'+'
}

/// list-char: what a LIST pattern may contain without quotes.
pub(super) fn is_list_char(b: u8) -> bool {
    is_astring_char(b) || matches!(b, b'%' | b'*')
}

/// The cursor.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) mode: Mode,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], mode: Mode) -> Reader<'a> {
        Reader { bytes, at: 0, mode }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// What was expected, and what is there.
    pub(super) fn expected(&self, what: &str) -> Fault {
        let rest = self.rest();
        let mut found = String::new();
        for b in rest.iter().take(EXCERPT_OCTETS_MAX) {
            found.push(if matches!(b, 0x20..=0x7e) { char::from(*b) } else { '?' });
        }
        let dots = if rest.len() > EXCERPT_OCTETS_MAX { "..." } else { "" };
        Fault::new(match rest.is_empty() {
            true => format!("expected {what}, found the end"),
            false => format!("expected {what}, found \"{found}{dots}\""),
        })
    }

    /// Takes an octet if it comes next.
    pub(super) fn eat(&mut self, b: u8) -> bool {
        let there = self.peek() == Some(b);
        self.at += usize::from(there);
        there
    }

    pub(super) fn expect(&mut self, b: u8) -> Read<()> {
        if self.eat(b) { Ok(()) } else { Err(self.expected(&format!("'{}'", char::from(b)))) }
    }

    /// One space (RFC 9051 §9: exactly one).
    pub(super) fn sp(&mut self) -> Read<()> {
        if self.eat(b' ') { Ok(()) } else { Err(self.expected("a space")) }
    }

    /// The end of the command. Spaces in front of it are let through: clients send them and they mean nothing.
    pub(super) fn end(&mut self) -> Read<()> {
        while self.eat(b' ') {}
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("the end of the command")) }
    }

    /// Takes this text, in any case, when it comes next.
    pub(super) fn eat_exactly(&mut self, text: &str) -> bool {
        let there = self.rest().get(..text.len()).is_some_and(|t| t.eq_ignore_ascii_case(text.as_bytes()));
        self.at += if there { text.len() } else { 0 };
        there
    }

    /// Leaves the rest unread.
    pub(super) fn skip_rest(&mut self) {
        self.at = self.bytes.len();
    }

    fn run(&mut self, is: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let n = rest.iter().position(|b| !is(*b)).unwrap_or(rest.len());
        self.at += n;
        // The character classes are of ASCII only.
        std::str::from_utf8(&rest[..n]).unwrap_or_default()
    }

    /// One or more such characters.
    pub(super) fn run_of(&mut self, is: impl Fn(u8) -> bool, what: &str) -> Read<&'a str> {
        let word = self.run(is);
        if word.is_empty() { Err(self.expected(what)) } else { Ok(word) }
    }

    pub(super) fn tag(&mut self) -> Read<&'a str> {
        self.run_of(is_tag_char, "a tag")
    }

    pub(super) fn atom(&mut self, what: &str) -> Read<&'a str> {
        self.run_of(is_atom_char, what)
    }

    /// An atom in upper case.
    pub(super) fn word(&mut self, what: &str) -> Read<String> {
        self.atom(what).map(str::to_ascii_uppercase)
    }

    /// Takes this word, in any case, when it comes next as a whole.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let there = rest.len() >= word.len()
            && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes())
            && rest.get(word.len()).is_none_or(|b| !is_atom_char(*b));
        self.at += if there { word.len() } else { 0 };
        there
    }

    pub(super) fn number64(&mut self, what: &str) -> Read<u64> {
        let before = self.at;
        let digits = self.run_of(|b| b.is_ascii_digit(), what)?;
        // RFC 9051 §9, number64: 63 bits.
        digits.parse().ok().filter(|n| *n <= i64::MAX as u64).ok_or_else(|| {
            self.at = before;
            self.expected(what)
        })
    }

    pub(super) fn number(&mut self, what: &str) -> Read<u32> {
        let before = self.at;
        let n = self.number64(what)?;
        u32::try_from(n).map_err(|_| {
            self.at = before;
            self.expected(what)
        })
    }

    pub(super) fn nz_number(&mut self, what: &str) -> Read<u32> {
        let before = self.at;
        match self.number(what)? {
            0 => {
                self.at = before;
                Err(self.expected(what))
            }
            n => Ok(n),
        }
    }

    /// Whether a literal's announcement comes next.
    fn at_literal(&self) -> bool {
        matches!(self.rest(), [b'{', ..] | [b'~', b'{', ..])
    }

    /// A literal's announcement and its CRLF; whether it is a literal8, and how many octets.
    pub(super) fn announcement(&mut self) -> Read<(bool, u64)> {
        let binary = self.eat(b'~');
        self.expect(b'{')?;
        let octets = self.number64("a number of octets")?;
        self.eat(b'+');
        self.expect(b'}')?;
        self.expect(b'\r')?;
        self.expect(b'\n')?;
        Ok((binary, octets))
    }

    fn literal(&mut self) -> Read<&'a [u8]> {
        let (binary, octets) = self.announcement()?;
        if binary {
            return Err(Fault::new("expected a string, found binary data"));
        }
        let rest = self.rest();
        let octets = usize::try_from(octets).ok().filter(|n| *n <= rest.len());
        let Some(octets) = octets else {
            return Err(self.expected("the octets of a literal"));
        };
        let text = &rest[..octets];
        // RFC 9051 §9, literal: CHAR8 is any octet but NUL.
        if text.contains(&0) {
            return Err(Fault::new("a literal cannot contain NUL"));
        }
        self.at += octets;
        Ok(text)
    }

    fn quoted(&mut self) -> Read<Cow<'a, [u8]>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut owned: Option<Vec<u8>> = None;
        loop {
            let Some(b) = self.peek() else {
                return Err(self.expected("a closing quote"));
            };
            let escaped = b == b'\\';
            let b = match b {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    // RFC 9051 §9, QUOTED-CHAR: only these two.
                    self.peek().filter(|b| matches!(b, b'"' | b'\\')).ok_or_else(|| self.expected("\\\" or \\\\"))?
                }
                b'\r' | b'\n' | 0 => return Err(self.expected("a closing quote")),
                b => b,
            };
            if escaped && owned.is_none() {
                owned = Some(self.bytes[start..self.at - 1].to_vec());
            }
            if let Some(text) = &mut owned {
                text.push(b);
            }
            self.at += 1;
        }
        let text = owned.map_or(Cow::Borrowed(&self.bytes[start..self.at]), Cow::Owned);
        self.at += 1;
        // RFC 9051 §9: quoted strings are UTF-8. IMAP4rev1 has them in ASCII, but valid UTF-8 means the same in both.
        match std::str::from_utf8(&text) {
            Ok(_) => Ok(text),
            Err(_) => Err(Fault::new("a quoted string must be UTF-8; other octets go into a literal")),
        }
    }

    /// Whether a quoted string or a literal comes next.
    pub(super) fn at_string(&self) -> bool {
        self.peek() == Some(b'"') || self.at_literal()
    }

    /// string, as octets.
    pub(super) fn string_octets(&mut self, what: &str) -> Read<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            _ if self.at_literal() => self.literal().map(Cow::Borrowed),
            _ => Err(self.expected(what)),
        }
    }

    /// astring, as octets.
    pub(super) fn astring_octets(&mut self, what: &str) -> Read<Cow<'a, [u8]>> {
        self.string_or(is_astring_char, what)
    }

    /// A string, or a run of such characters.
    pub(super) fn string_or(&mut self, is: impl Fn(u8) -> bool, what: &str) -> Read<Cow<'a, [u8]>> {
        if self.at_string() { self.string_octets(what) } else { Ok(Cow::Borrowed(self.run_of(is, what)?.as_bytes())) }
    }

    /// astring of UTF-8.
    pub(super) fn astring(&mut self, what: &str) -> Read<String> {
        let octets = self.astring_octets(what)?;
        utf8(octets, what)
    }

    /// string of UTF-8, or NIL.
    pub(super) fn nstring(&mut self, what: &str) -> Read<Option<String>> {
        if self.eat_word("NIL") {
            return Ok(None);
        }
        let octets = self.string_octets(what)?;
        utf8(octets, what).map(Some)
    }

    /// `(` one or more, with spaces between, `)`. At most `max` of them.
    pub(super) fn list<T>(&mut self, max: usize, mut item: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        self.expect(b'(')?;
        let mut items = vec![item(self)?];
        while !self.eat(b')') {
            self.sp()?;
            if items.len() == max {
                return Err(Fault::new(format!("more than {max} in one list")));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The same, but `()` is allowed as well.
    pub(super) fn list_or_empty<T>(&mut self, max: usize, item: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        if self.rest().starts_with(b"()") {
            self.at += 2;
            return Ok(Vec::new());
        }
        self.list(max, item)
    }
}

fn utf8(octets: Cow<'_, [u8]>, what: &str) -> Read<String> {
    String::from_utf8(octets.into_owned()).map_err(|_| Fault::new(format!("expected {what} in UTF-8")))
}
