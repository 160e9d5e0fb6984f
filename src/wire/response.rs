//! Reading what a server says: SMTP replies (RFC 5321 §4.2) as they arrive, and the answer to EHLO or LHLO as
//! [`Capabilities`].
//!
//! How it fails: [`ResponseParser::next`] returns a [`ResponseError`] for anything that is not a reply within the
//! limits; after an error the stream has no known boundary and the connection is of no more use.

use crate::base::buf::Input;
use crate::wire::reply::{Enhanced, Reply};
use std::borrow::Cow;
use std::fmt;

/// What a reply may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Octets in a line with its line end. RFC 5321 §4.5.3.1.5 allows 512; real servers exceed it.
    pub line_octets_max: usize,
    /// Lines in one reply.
    pub lines_max: usize,
    /// Octets in one reply, all lines.
    pub octets_max: usize,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        ResponseLimits { line_octets_max: 2048, lines_max: 128, octets_max: 32 * 1024 }
    }
}

/// Why the bytes of a server are not a reply. The server is at fault in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// A line has no end within the limit.
    LineTooLong {
        /// The limit in octets.
        octets_max: usize,
    },
    /// More lines than allowed.
    TooManyLines {
        /// The limit.
        lines_max: usize,
    },
    /// More octets than allowed over all lines.
    TooLong {
        /// The limit in octets.
        octets_max: usize,
    },
    /// A line that does not begin with a code from 200 to 599 and a space, a hyphen or the line end.
    NotAReply {
        /// The beginning of the line.
        line: String,
    },
    /// The lines of one reply carry different codes (RFC 5321 §4.2.1).
    CodeChanged {
        /// Code of the first line.
        first: u16,
        /// The other code.
        then: u16,
    },
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseError::LineTooLong { octets_max } => {
                write!(f, "the server's reply has a line of more than {octets_max} octets")
            }
            ResponseError::TooManyLines { lines_max } => {
                write!(f, "the server's reply has more than {lines_max} lines")
            }
            ResponseError::TooLong { octets_max } => {
                write!(f, "the server's reply has more than {octets_max} octets")
            }
            ResponseError::NotAReply { line } => write!(
                f,
                "the server said {line:?}, expected a code from 200 to 599 followed by a space, a hyphen or the line end"
            ),
            ResponseError::CodeChanged { first, then } => {
                write!(f, "the server's reply began with {first} and went on with {then}")
            }
        }
    }
}

impl std::error::Error for ResponseError {}

/// Collects lines into replies. Consumes whole lines only; a partial line stays with the caller.
#[derive(Debug)]
pub struct ResponseParser {
    limits: ResponseLimits,
    partial: Option<Reply>,
    octets: usize,
}

impl ResponseParser {
    /// A parser at the beginning of a reply.
    pub fn new(limits: ResponseLimits) -> ResponseParser {
        ResponseParser { limits, partial: None, octets: 0 }
    }

    /// Whether lines of an unfinished reply have been read.
    pub fn is_inside(&self) -> bool {
        self.partial.is_some()
    }

    /// The next whole reply, or `None` when more octets are needed.
    ///
    /// A line may end in a bare LF: a deviation that Postfix and Sendmail also tolerate, harmless because replies are
    /// never passed on as bytes.
    #[allow(clippy::should_implement_trait)] // not an iterator: it borrows the input of each call
    pub fn next(&mut self, input: &mut Input<'_>) -> Result<Option<Reply>, ResponseError> {
        loop {
            let window = &input.rest()[..input.rest().len().min(self.limits.line_octets_max)];
            let Some(at) = memchr::memchr(b'\n', window) else {
                if window.len() == self.limits.line_octets_max {
                    return Err(ResponseError::LineTooLong { octets_max: self.limits.line_octets_max });
                }
                return Ok(None);
            };
            let line = input.consume(at + 1);
            self.octets += line.len();
            if self.octets > self.limits.octets_max {
                return Err(ResponseError::TooLong { octets_max: self.limits.octets_max });
            }
            let line = &line[..at];
            if let Some(reply) = self.line(line.strip_suffix(b"\r").unwrap_or(line))? {
                return Ok(Some(reply));
            }
        }
    }

    /// Adds a line without its end; gives the reply when it was the last.
    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ResponseError> {
        let (code, last, text) = split_line(line).ok_or_else(|| ResponseError::NotAReply { line: excerpt(line) })?;
        let text: Cow<'static, str> = Cow::Owned(String::from_utf8_lossy(text).into_owned());
        match &mut self.partial {
            None => self.partial = Some(Reply { code, enhanced: None, lines: vec![text] }),
            Some(reply) if reply.code != code => {
                return Err(ResponseError::CodeChanged { first: reply.code, then: code });
            }
            Some(reply) if reply.lines.len() == self.limits.lines_max => {
                return Err(ResponseError::TooManyLines { lines_max: self.limits.lines_max });
            }
            Some(reply) => reply.lines.push(text),
        }
        if !last {
            return Ok(None);
        }
        self.octets = 0;
        Ok(self.partial.take().map(with_enhanced))
    }
}

/// Code, whether it is the last line, and text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let digits = line.first_chunk::<3>()?;
    if !(b'2'..=b'5').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    match line.get(3) {
        None => Some((code, true, b"")), // RFC 5321 §4.2: a code alone is to be accepted
        Some(b' ') => Some((code, true, &line[4..])),
        Some(b'-') => Some((code, false, &line[4..])),
        Some(_) => None,
    }
}

fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

/// Takes the enhanced status code off the text, where every line has the same and its class fits (RFC 2034 §4).
fn with_enhanced(mut reply: Reply) -> Reply {
    let found = reply.lines.first().and_then(|l| split_enhanced(l)).map(|(e, _)| e);
    let Some(enhanced) = found.filter(|e| u16::from(e.0) == reply.code / 100) else { return reply };
    for line in &mut reply.lines {
        // Some servers give the code on the first line only; the text of the others stays whole.
        if let Some((e, rest)) = split_enhanced(line)
            && e == enhanced
        {
            *line = Cow::Owned(rest.to_owned());
        }
    }
    reply.enhanced = Some(enhanced);
    reply
}

/// `x.y.z` at the beginning of a text (RFC 3463 §2), and what follows its space.
fn split_enhanced(text: &str) -> Option<(Enhanced, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = word.split('.');
    let mut number = |octets_max: usize| {
        let part = parts.next()?;
        let digits = (1..=octets_max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if digits { part.parse::<u16>().ok() } else { None }
    };
    let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
    if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
        return None;
    }
    Some((Enhanced(class as u8, subject, detail), rest))
}

/// What a server offered in its answer to EHLO or LHLO. The default is what a HELO server has: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The name the server gives itself; empty when it gave none.
    pub name: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870); `Some(0)` when no limit was named.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030), which counts only together with CHUNKING.
    pub binarymime: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// Mechanisms of AUTH (RFC 4954) in upper case, in the server's order.
    pub auth: Vec<String>,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// Attributes of XCLIENT in upper case; empty when it is not offered.
    pub xclient: Vec<String>,
}

/// LIMITS of RFC 9422.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// RCPTMAX: recipients in one transaction.
    pub rcptmax: Option<u64>,
    /// MAILMAX: transactions in one session.
    pub mailmax: Option<u64>,
    /// RCPTDOMAINMAX: recipient domains in one session.
    pub rcptdomainmax: Option<u64>,
}

impl Capabilities {
    /// From a positive reply to EHLO or LHLO. Unknown keywords are passed over, as are known ones with odd parameters.
    pub fn from_ehlo(reply: &Reply) -> Capabilities {
        let mut lines = reply.lines.iter();
        let name = lines.next().and_then(|l| l.split_ascii_whitespace().next()).unwrap_or_default().to_owned();
        let mut capabilities = Capabilities { name, ..Capabilities::default() };
        lines.for_each(|line| capabilities.keyword(line));
        capabilities.binarymime &= capabilities.chunking; // RFC 3030 §3: BINARYMIME requires CHUNKING
        capabilities
    }

    fn keyword(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binarymime = true,
            "ENHANCEDSTATUSCODES" => self.enhanced = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "LIMITS" => words.for_each(|w| self.limits.word(w)),
            "XCLIENT" => self.xclient = words.map(str::to_ascii_uppercase).collect(),
            "AUTH" => self.mechanisms(words),
            // `AUTH=LOGIN`, the form of old servers, is still announced beside the real one.
            old if old.starts_with("AUTH=") => self.mechanisms(old["AUTH=".len()..].split(' ').chain(words)),
            _ => {}
        }
    }

    fn mechanisms<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words.filter(|w| !w.is_empty()) {
            let word = word.to_ascii_uppercase();
            if !self.auth.contains(&word) {
                self.auth.push(word);
            }
        }
    }
}

impl Limits {
    fn word(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        let value = value.parse().ok().filter(|n| *n > 0);
        match name.to_ascii_uppercase().as_str() {
            "RCPTMAX" => self.rcptmax = value,
            "MAILMAX" => self.mailmax = value,
            "RCPTDOMAINMAX" => self.rcptdomainmax = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Vec<Reply>, ResponseError> {
        let (mut parser, mut input, mut all) =
            (ResponseParser::new(ResponseLimits::default()), Input::new(bytes), vec![]);
        while let Some(reply) = parser.next(&mut input)? {
            all.push(reply);
        }
        Ok(all)
    }

    fn one(text: &str) -> Reply {
        parse(text.as_bytes()).unwrap().pop().unwrap()
    }

    #[test]
    fn replies_of_one_and_more_lines() {
        let r = one("250 2.1.5 <bob@example.test> Ok\r\n");
        assert_eq!((r.code, r.enhanced), (250, Some(Enhanced(2, 1, 5))));
        assert_eq!(r.lines, ["<bob@example.test> Ok"]);
        let r = one("550-5.7.1 no\r\n550 5.7.1 way\r\n");
        assert_eq!((r.enhanced, r.lines.len()), (Some(Enhanced(5, 7, 1)), 2));
        assert_eq!(r.lines, ["no", "way"]);
        assert_eq!(one("250\r\n").lines, [""]);
        assert_eq!(one("354 go\n").code, 354);
        assert_eq!(parse(b"250 a\r\n250 b\r\n250").unwrap().len(), 2);
    }

    #[test]
    fn an_enhanced_code_must_look_like_one_and_fit_the_class() {
        assert_eq!(one("250 4.2.0 x\r\n").enhanced, None);
        assert_eq!(one("250 2.0 x\r\n").enhanced, None);
        assert_eq!(one("250 2.0.0.1 x\r\n").enhanced, None);
        assert_eq!(one("250 2.0.1234 x\r\n").enhanced, None);
        assert_eq!(one("354 3.0.0 x\r\n").enhanced, None);
        assert_eq!(one("250 2.0.0\r\n").lines, [""]);
    }

    #[test]
    fn what_is_not_a_reply_is_an_error() {
        for bad in ["hello\r\n", "25 x\r\n", "199 x\r\n", "600 x\r\n", "250_x\r\n", "\r\n", "2x0 a\r\n", "-250 a\r\n"] {
            assert!(matches!(parse(bad.as_bytes()), Err(ResponseError::NotAReply { .. })), "{bad:?}");
        }
        let changed = parse(b"250-a\r\n251 b\r\n");
        assert_eq!(changed, Err(ResponseError::CodeChanged { first: 250, then: 251 }));
    }

    #[test]
    fn each_limit_holds_at_its_edge() {
        let line = |octets: usize| format!("250 {}\r\n", "x".repeat(octets - 6));
        assert!(parse(line(2048).as_bytes()).is_ok());
        assert_eq!(parse(line(2049).as_bytes()), Err(ResponseError::LineTooLong { octets_max: 2048 }));
        assert_eq!(parse(&[b'2'; 2048]), Err(ResponseError::LineTooLong { octets_max: 2048 }));
        let lines = |n: usize| "250-a\r\n".repeat(n - 1) + "250 a\r\n";
        assert!(parse(lines(128).as_bytes()).is_ok());
        assert_eq!(parse(lines(129).as_bytes()), Err(ResponseError::TooManyLines { lines_max: 128 }));
        let fat = format!("250-{}\r\n", "x".repeat(1994)).repeat(17);
        assert_eq!(parse(fat.as_bytes()), Err(ResponseError::TooLong { octets_max: 32 * 1024 }));
    }

    #[test]
    fn an_ehlo_answer_is_read() {
        let c = Capabilities::from_ehlo(&one(
            "250-mx.example.test at your service\r\n250-Pipelining\r\n250-SIZE 1000\r\n250-8bitmime\r\n250-AUTH PLAIN scram-sha-256\r\n\
             250-AUTH=LOGIN PLAIN\r\n250-LIMITS RCPTMAX=50 MAILMAX=0 FOO=1\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 XCLIENT NAME ADDR\r\n",
        ));
        assert_eq!(c.name, "mx.example.test");
        assert!(c.pipelining && c.eight_bit_mime && c.chunking && c.binarymime && !c.starttls && !c.dsn);
        assert_eq!(c.size, Some(1000));
        assert_eq!(c.auth, ["PLAIN", "SCRAM-SHA-256", "LOGIN"]);
        assert_eq!(c.limits, Limits { rcptmax: Some(50), ..Limits::default() });
        assert_eq!(c.xclient, ["NAME", "ADDR"]);
        assert!(!Capabilities::from_ehlo(&one("250-x\r\n250 BINARYMIME\r\n")).binarymime);
        assert_eq!(Capabilities::from_ehlo(&one("250-x\r\n250 SIZE much\r\n")).size, Some(0));
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back(code in 200u16..600, lines in proptest::collection::vec("[ -~]{0,60}", 1..6), e: (u16, u16)) {
            let class = (code / 100) as u8;
            let enhanced = matches!(class, 2 | 4 | 5).then_some(Enhanced(class, e.0 % 1000, e.1 % 1000));
            let reply = Reply { code, enhanced, lines: lines.into_iter().map(Cow::Owned).collect() };
            let mut bytes = Vec::new();
            reply.emit(true, &mut bytes);
            let back = parse(&bytes).unwrap();
            // A text that itself begins like an enhanced code is the one thing that cannot come back the same.
            prop_assume!(enhanced.is_some() || split_enhanced(&reply.lines[0]).is_none());
            prop_assert_eq!(back, vec![reply]);
        }

        #[test]
        fn any_split_gives_the_same(bytes in proptest::collection::vec(proptest::sample::select(b"250 -4.\r\nx".to_vec()), 0..120), cut: usize) {
            let whole = parse(&bytes);
            let mut parser = ResponseParser::new(ResponseLimits::default());
            let (mut split, mut buffer, cut) = (Ok(vec![]), vec![], cut % (bytes.len() + 1));
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(part);
                let mut input = Input::new(&buffer);
                while let Ok(all) = &mut split {
                    match parser.next(&mut input) {
                        Ok(Some(r)) => all.push(r),
                        Ok(None) => break,
                        Err(e) => split = Err(e),
                    }
                }
                let n = input.consumed();
                buffer.drain(..n);
            }
            prop_assert_eq!(whole, split);
        }
    }
}
