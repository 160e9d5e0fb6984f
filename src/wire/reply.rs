//! An SMTP reply as a value: code, enhanced status code and text (RFC 5321 §4.2, RFC 3463, RFC 2034), and its one emitter.
//!
//! How it fails: [`Reply::emit`] is total; control characters in text become `?` so that a reply can never end early.

use std::borrow::Cow;
use std::fmt;

/// `x.y.z` of RFC 3463.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply: at least one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// Enhanced status code, where one belongs.
    pub enhanced: Option<Enhanced>,
    /// Lines of text without code and line end; never empty.
    pub lines: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, enhanced: Option<Enhanced>, text: impl Into<Cow<'static, str>>) -> Reply {
        debug_assert!((200..600).contains(&code));
        Reply { code, enhanced, lines: vec![text.into()] }
    }
    /// 2xx
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }
    /// 4xx: trying later can help (RFC 5321 §4.2.1).
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }
    /// 5xx
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Its text alone, for protocols that have no codes.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Appends the reply as the wire has it. `with_enhanced` is false before EHLO and where RFC 2034 §4 forbids it.
    pub fn emit(&self, with_enhanced: bool, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            let code = self.code;
            out.extend_from_slice(&[
                b'0' + (code / 100) as u8,
                b'0' + (code / 10 % 10) as u8,
                b'0' + (code % 10) as u8,
            ]);
            out.push(if i == last { b' ' } else { b'-' });
            if let (true, Some(e)) = (with_enhanced, self.enhanced) {
                out.extend_from_slice(e.to_string().as_bytes());
                out.push(b' ');
            }
            out.extend(line.bytes().map(|b| if b < b' ' && b != b'\t' || b == 0x7f { b'?' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// On one line, lines joined by ` / `, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(e) = self.enhanced {
            write!(f, " {e}")?;
        }
        for (i, line) in self.lines.iter().enumerate() {
            f.write_str(if i == 0 { " " } else { " / " })?;
            f.write_str(line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_a_reply_early() {
        let mut out = Vec::new();
        let r = Reply { code: 550, enhanced: Some(Enhanced(5, 7, 1)), lines: vec!["a\r\n250 ok".into(), "b".into()] };
        r.emit(true, &mut out);
        assert_eq!(out, b"550-5.7.1 a??250 ok\r\n550 5.7.1 b\r\n");
        assert_eq!(r.to_string(), "550 5.7.1 a\r\n250 ok / b");
    }
}
