//! Pieces of responses, written at the end of a `Vec<u8>`: numbers, strings in the form that fits them, flags, names of
//! mailboxes, dates and sets (RFC 9051 §9).
//!
//! Everything here can be read back by [`super::parse()`]; `tests` holds both to it. How it fails: emitters are total.
//! What has no form on the wire (a NUL in a string) gets one that a client can read.

use super::command::{Bound, SequenceSet};
use super::utf7;
use super::{Mode, date};
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{ContentId, FlagNames, Flags, MailboxId, UidSet};
use crate::base::time::WallTime;
use memchr::memchr;

/// A string up to so many octets is quoted when its characters allow it; longer ones are literals, which a client reads
/// without looking at each octet. RFC 9051 §4.3 sets no limit; clients are known to stumble over long quoted strings.
pub const QUOTED_OCTETS_MAX: usize = 1000;

/// A number in decimal.
pub fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A string: quoted when it is short and of printable ASCII (with `utf8` also of UTF-8), otherwise a literal.
pub fn string(out: &mut Vec<u8>, text: &[u8], utf8: bool) {
    if quotable(text, utf8) {
        quoted(out, text);
    } else {
        literal(out, text);
    }
}

/// A string that may be missing: NIL.
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>, utf8: bool) {
    match text {
        Some(text) => string(out, text, utf8),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// An atom where the text can be one, otherwise a string.
pub fn astring(out: &mut Vec<u8>, text: &[u8], utf8: bool) {
    // NIL as an atom would be read as no string at all by some clients.
    let atom = !text.is_empty() && text.iter().all(|b| super::reader::is_astring_char(*b));
    if atom && !text.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(text);
    } else {
        string(out, text, utf8);
    }
}

fn quotable(text: &[u8], utf8: bool) -> bool {
    text.len() <= QUOTED_OCTETS_MAX
        && text.iter().all(|b| matches!(b, 0x20..=0x7e) || *b == b'\t' || *b >= 0x80 && utf8)
        && (text.is_ascii() || std::str::from_utf8(text).is_ok())
}

/// A quoted string; the caller knows that the text has no CR, LF or NUL.
fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}

/// Announces a literal of so many octets; they come next.
pub fn literal_start(out: &mut Vec<u8>, octets: u64) {
    out.push(b'{');
    number(out, octets);
    out.extend_from_slice(b"}\r\n");
}

/// Announces a literal8, which may contain NUL (RFC 3516 §4.5, RFC 9051 §9).
pub fn literal8_start(out: &mut Vec<u8>, octets: u64) {
    out.push(b'~');
    literal_start(out, octets);
}

/// A literal. RFC 9051 §9: CHAR8 leaves out NUL; where the text has one it is written as `?` of the same length, so that
/// no client stops reading there. Message data does not come this way.
fn literal(out: &mut Vec<u8>, text: &[u8]) {
    literal_start(out, text.len() as u64);
    if memchr(0, text).is_none() {
        out.extend_from_slice(text);
    } else {
        out.extend(text.iter().map(|b| if *b == 0 { b'?' } else { *b }));
    }
}

/// A mailbox name: modified UTF-7 unless the session's mode is UTF-8 (RFC 9051 §5.1, RFC 3501 §5.1.3, RFC 6855 §3).
pub fn mailbox(out: &mut Vec<u8>, name: &str, mode: Mode) {
    if mode.utf8 {
        astring_in_utf8(out, name);
    } else {
        astring(out, utf7::encode(name).as_bytes(), false);
    }
}

fn astring_in_utf8(out: &mut Vec<u8>, name: &str) {
    astring(out, name.as_bytes(), true);
}

/// `(\Seen $Forwarded)`, parentheses included.
pub fn flag_list(out: &mut Vec<u8>, flags: &FlagNames) {
    out.push(b'(');
    let system = Flags::SYSTEM.iter().filter(|(flag, _)| flags.system.contains(*flag)).map(|(_, name)| *name);
    words(out, system.chain(flags.keywords.iter().map(String::as_str)));
    out.push(b')');
}

/// Flags of a message with the keywords of its mailbox, parentheses included; `\Recent` is the session's to add.
pub fn message_flags(out: &mut Vec<u8>, flags: Flags, keywords: &[String], recent: bool) {
    out.push(b'(');
    let system = Flags::SYSTEM.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name);
    let named = flags.keywords().filter_map(|i| keywords.get(i)).map(String::as_str);
    words(out, system.chain(named).chain(recent.then_some("\\Recent")));
    out.push(b')');
}

/// Words with single spaces between them.
pub fn words<'a>(out: &mut Vec<u8>, words: impl IntoIterator<Item = &'a str>) {
    for (i, word) in words.into_iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
    }
}

/// A date-time in its quotes: `" 3-Feb-2026 08:00:00 +0100"`.
pub fn date_time(out: &mut Vec<u8>, time: ZonedTime) {
    date::emit_date_time(out, time);
}

/// SAVEDATE's date-time, in UTC (RFC 8514 §4.2).
pub fn date_time_utc(out: &mut Vec<u8>, at: WallTime) {
    date::emit_date_time(out, ZonedTime { at, zone_minutes: 0 });
}

/// A set of numbers: `1:3,7`. An empty set has no form on the wire (RFC 9051 §9); nothing is written.
pub fn uid_set(out: &mut Vec<u8>, set: &UidSet) {
    for (i, (first, last)) in set.ranges().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        number(out, u64::from(*first));
        if first != last {
            out.push(b':');
            number(out, u64::from(*last));
        }
    }
}

/// A sequence set as a client would say it.
pub fn sequence_set(out: &mut Vec<u8>, set: &SequenceSet) {
    let bound = |out: &mut Vec<u8>, b: Bound| match b {
        Bound::Number(n) => number(out, u64::from(n)),
        Bound::Highest => out.push(b'*'),
    };
    match set {
        SequenceSet::Saved => out.push(b'$'),
        SequenceSet::Ranges(ranges) => {
            for (i, (first, last)) in ranges.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                bound(out, *first);
                if first != last {
                    out.push(b':');
                    bound(out, *last);
                }
            }
        }
    }
}

/// EMAILID (RFC 8474 §5.1): `M` and a number.
pub fn email_id(out: &mut Vec<u8>, id: ContentId) {
    object_id(out, b'M', id.0);
}

/// THREADID (RFC 8474 §5.2): `T` and a number.
pub fn thread_id(out: &mut Vec<u8>, id: u64) {
    object_id(out, b'T', id);
}

/// MAILBOXID (RFC 8474 §4): `F` and a number.
pub fn mailbox_id(out: &mut Vec<u8>, id: MailboxId) {
    object_id(out, b'F', u64::from(id.0));
}

fn object_id(out: &mut Vec<u8>, kind: u8, id: u64) {
    out.push(kind);
    number(out, id);
}

/// What [`email_id`] wrote.
pub fn parse_email_id(text: &str) -> Option<ContentId> {
    text.strip_prefix('M')?.parse().ok().map(ContentId)
}

/// What [`thread_id`] wrote.
pub fn parse_thread_id(text: &str) -> Option<u64> {
    text.strip_prefix('T')?.parse().ok()
}

/// Writes one `* n FETCH (...)` response, attribute by attribute.
#[derive(Debug)]
pub struct FetchWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> FetchWriter<'a> {
    /// `* n FETCH (`
    pub fn new(out: &'a mut Vec<u8>, seq: u32) -> FetchWriter<'a> {
        out.extend_from_slice(b"* ");
        number(out, u64::from(seq));
        out.extend_from_slice(b" FETCH (");
        FetchWriter { out, first: true }
    }
    /// Goes on with a response that was sent up to some attribute: the next one is set off by a space.
    pub fn resume(out: &'a mut Vec<u8>) -> FetchWriter<'a> {
        FetchWriter { out, first: false }
    }
    /// The name of an attribute and the space behind it; its value is written to what is returned.
    pub fn attribute(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b' ');
        }
        self.first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b' ');
        self.out
    }
    /// UID
    pub fn uid(&mut self, uid: u32) {
        number(self.attribute("UID"), u64::from(uid));
    }
    /// FLAGS
    pub fn flags(&mut self, flags: Flags, keywords: &[String], recent: bool) {
        message_flags(self.attribute("FLAGS"), flags, keywords, recent);
    }
    /// MODSEQ, in its parentheses (RFC 7162 §3.1.4.2).
    pub fn mod_seq(&mut self, mod_seq: u64) {
        let out = self.attribute("MODSEQ");
        out.push(b'(');
        number(out, mod_seq);
        out.push(b')');
    }
    /// INTERNALDATE
    pub fn internal_date(&mut self, time: ZonedTime) {
        date_time(self.attribute("INTERNALDATE"), time);
    }
    /// RFC822.SIZE
    pub fn size(&mut self, octets: u64) {
        number(self.attribute("RFC822.SIZE"), octets);
    }
    /// `)` and the line end.
    pub fn end(self) {
        self.out.extend_from_slice(b")\r\n");
    }
}
