//! The little JSON (RFC 8259) that journal lines need: strings borrowed from the line unless they have escapes, keys in any
//! order, no tree in between.
//!
//! How it fails: [`Bad`] says at which octet and what was expected there; nothing beyond the text is read, nesting has a
//! limit.

use std::borrow::Cow;
use std::fmt;

/// Nesting of a foreign value that is passed over, at most. Our own lines nest four deep.
const DEPTH_MAX: usize = 32;

/// What is expected where a string stops without its quote.
pub const END_OF_STRING: &str = "the end of a string";

/// Why a text is not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Octet at which it goes wrong.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "octet {}: expected {}", self.at, self.expected)
    }
}

/// Reads a text from left to right.
#[derive(Clone, Debug)]
pub struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    /// A reader at the beginning of `text`.
    pub fn new(text: &'a str) -> Json<'a> {
        Json { text, at: 0 }
    }
    /// Where it stands.
    pub fn at(&self) -> usize {
        self.at
    }
    /// The text from here on.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    /// Goes on so many octets further; the caller has looked at them.
    pub fn pass(&mut self, octets: usize) {
        self.at += octets;
        debug_assert!(self.text.is_char_boundary(self.at));
    }
    /// An error at this place.
    pub fn bad(&self, expected: &'static str) -> Bad {
        Bad { at: self.at, expected }
    }

    /// Reads an object; `each` reads the value of every key.
    pub fn object(&mut self, mut each: impl FnMut(&str, &mut Json<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        self.expect(b'{', "an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "`:`")?;
            each(&key, self)?;
            if !self.take(b',') {
                return self.expect(b'}', "`,` or `}`");
            }
        }
    }

    /// Reads an array; `each` reads every element.
    pub fn array(&mut self, mut each: impl FnMut(&mut Json<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        self.expect(b'[', "an array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if !self.take(b',') {
                return self.expect(b']', "`,` or `]`");
            }
        }
    }

    /// Reads a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Bad> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let Some(stop) = memchr::memchr2(b'"', b'\\', &bytes[start..]) else { return Err(self.bad(END_OF_STRING)) };
        let stop = start + stop;
        if bytes[stop] == b'"' {
            self.at = stop + 1;
            return Ok(Cow::Borrowed(&self.text[start..stop]));
        }
        self.escaped(start, stop).map(Cow::Owned)
    }

    /// The rest of a string whose first escape is at `stop`.
    #[cold]
    fn escaped(&mut self, start: usize, mut stop: usize) -> Result<String, Bad> {
        let bytes = self.text.as_bytes();
        let mut out = self.text[start..stop].to_owned();
        loop {
            self.at = stop;
            if bytes[stop] == b'"' {
                self.at = stop + 1;
                return Ok(out);
            }
            let letter = bytes.get(stop + 1).copied();
            self.at = stop + 2;
            out.push(match letter {
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
                Some(b'u') => self.unicode()?,
                _ => return Err(Bad { at: stop, expected: "an escape of RFC 8259 section 7" }),
            });
            let rest = self.at;
            let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[rest..]) else {
                return Err(self.bad(END_OF_STRING));
            };
            out.push_str(&self.text[rest..rest + next]);
            stop = rest + next;
        }
    }

    fn unicode(&mut self) -> Result<char, Bad> {
        let first = self.hex4()?;
        // Two escapes make one character beyond the first plane (RFC 8259 §7); half of a pair is no character.
        let code = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                let second = self.hex4()?;
                0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff)
            }
            code => code,
        };
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, Bad> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok()).ok_or(self.bad("four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }

    /// Reads a whole number.
    pub fn u64(&mut self) -> Result<u64, Bad> {
        self.blank();
        let start = self.at;
        let digits = self.text.as_bytes()[start..].iter().take_while(|b| b.is_ascii_digit());
        let mut value: u64 = 0;
        let mut count = 0;
        for digit in digits {
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(u64::from(digit - b'0')))
                .ok_or(self.bad("a number below 2^64"))?;
            count += 1;
        }
        self.at += count;
        if count == 0 { Err(self.bad("a whole number")) } else { Ok(value) }
    }

    /// Reads a whole number with a sign.
    pub fn i64(&mut self) -> Result<i64, Bad> {
        let negative = self.take(b'-');
        let value = i64::try_from(self.u64()?).map_err(|_| self.bad("a number below 2^63"))?;
        Ok(if negative { -value } else { value })
    }

    /// Reads a number with at most three decimals, as thousandths.
    pub fn thousandths(&mut self) -> Result<i64, Bad> {
        self.blank();
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '-' | '.')).unwrap_or(rest.len());
        let value = crate::policy::value::parse_thousandths(&rest[..len]);
        let value = value.ok_or(self.bad("a number with at most three decimals"))?;
        self.at += len;
        Ok(value)
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self) -> Result<bool, Bad> {
        match (self.word("true"), self.word("false")) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(self.bad("true or false")),
        }
    }

    /// Passes over a value, whatever it is.
    pub fn skip(&mut self) -> Result<(), Bad> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Bad> {
        self.blank();
        match self.text.as_bytes().get(self.at) {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(self.bad("values nested less deeply")),
            Some(b'{') => self.object(|_, json| json.skip_nested(depth + 1)),
            Some(b'[') => self.array(|json| json.skip_nested(depth + 1)),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't' | b'f') => self.flag().map(|_| ()),
            Some(b'n') if self.word("null") => Ok(()),
            Some(b'-' | b'0'..=b'9') => {
                let rest = &self.text.as_bytes()[self.at..];
                self.at +=
                    rest.iter().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
                Ok(())
            }
            _ => Err(self.bad("a value")),
        }
    }

    /// Nothing may follow.
    pub fn end(&mut self) -> Result<(), Bad> {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { Err(self.bad("the end of the line")) }
    }

    fn blank(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
    }
    fn take(&mut self, octet: u8) -> bool {
        self.blank();
        let found = self.text.as_bytes().get(self.at) == Some(&octet);
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, octet: u8, expected: &'static str) -> Result<(), Bad> {
        if self.take(octet) { Ok(()) } else { Err(self.bad(expected)) }
    }
    fn word(&mut self, word: &str) -> bool {
        self.blank();
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }
}

/// Appends a string with its quotes; control characters become escapes, so that a line stays one line.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut done = 0;
    for (i, octet) in text.bytes().enumerate() {
        if octet >= 0x20 && octet != b'"' && octet != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[done..i]);
        done = i + 1;
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[done..]);
    out.push(b'"');
}

/// Appends a number.
pub fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_and_numbers_come_back(text in any::<String>(), number in any::<u64>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            // The naive twin: another reader agrees.
            prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
            out.push(b' ');
            push_number(&mut out, number);
            let line = String::from_utf8(out).unwrap();
            let mut json = Json::new(&line);
            prop_assert_eq!(json.string().unwrap(), text);
            prop_assert_eq!(json.u64().unwrap(), number);
            prop_assert!(json.end().is_ok());
        }

        #[test]
        fn any_octets_are_read_or_refused(text in "[\\[\\]{}\",:\\\\u0-9a-f tnrue.-]{0,60}") {
            let mut json = Json::new(&text);
            let read = json.skip().and_then(|()| json.end()).is_ok();
            // We read no less than JSON; numbers are not looked at closely.
            prop_assert!(read || serde_json::from_str::<serde_json::Value>(&text).is_err());
        }
    }

    #[test]
    fn escapes_and_places_of_errors() {
        assert_eq!(Json::new(r#""a\u00e9\ud83d\ude00\/\n""#).string().unwrap(), "a\u{e9}\u{1f600}/\n");
        assert_eq!(Json::new(r#""\ud83d""#).string().unwrap(), "\u{fffd}");
        assert_eq!(Json::new(r#""\q""#).string().unwrap_err().at, 1);
        assert_eq!(Json::new("12x").end().unwrap_err().at, 0);
        assert_eq!(Json::new("18446744073709551616").u64().unwrap_err().expected, "a number below 2^64");
        assert_eq!(Json::new("-7").i64(), Ok(-7));
        assert!(Json::new(&"[".repeat(100)).skip().is_err());
        assert!(matches!(Json::new("\"abc\"").string(), Ok(Cow::Borrowed("abc"))));
    }
}
