//! What SORT and THREAD compare (RFC 5256): base subject, first addresses, sent date, message ids.
//!
//! How it fails: it does not; a field that is not there or cannot be read is empty.

use super::address::{Address, addresses};
use super::date::parse_date;
use super::decode::field_text;
use super::header::{Lexer, fields, unfold};
use crate::base::mailbox::search::Day;

/// Ids of References that are kept: the first, and of the others the last ones.
pub const REFERENCES_MAX: usize = 100;
/// Octets of a message id at most (RFC 5322 §2.1.1: a line has 998).
const MESSAGE_ID_OCTETS_MAX: usize = 998;
/// Octets of a subject that are looked at.
const SUBJECT_OCTETS_MAX: usize = 2 * 1024;

/// What a message is sorted and threaded by. Texts are in upper case, because they are compared without regard to it
/// (RFC 5256 §3, i;unicode-casemap).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SortFields {
    /// Base subject (RFC 5256 §2.1).
    pub subject: String,
    /// Whether the subject said that it is a reply or a forward.
    pub is_reply: bool,
    /// Local part of the first From address.
    pub from: String,
    /// Local part of the first To address.
    pub to: String,
    /// Local part of the first Cc address.
    pub cc: String,
    /// The Date field in seconds since 1970, UTC.
    pub date: Option<i64>,
    /// Its day, without time and zone.
    pub sent_day: Option<Day>,
    /// Message-ID without its brackets and quotes.
    pub message_id: Option<String>,
    /// Ids of References from the oldest on, or the first of In-Reply-To where there are none (RFC 5256 §4).
    pub references: Vec<String>,
}

/// Reads them from a header section.
pub fn sort_fields(header: &[u8]) -> SortFields {
    let found = Found::of(header);
    let subject = found.subject.map(|s| field_text(&s[..s.len().min(SUBJECT_OCTETS_MAX)]));
    let (subject, is_reply) = base_subject(&subject.unwrap_or_default());
    let date = found.date.and_then(parse_date);
    let mut references = found.references;
    if references.is_empty() {
        references.extend(first_id(found.in_reply_to));
    }
    SortFields {
        subject: subject.to_uppercase(),
        is_reply,
        from: first_mailbox(found.from),
        to: first_mailbox(found.to),
        cc: first_mailbox(found.cc),
        date: date.map(|d| d.0),
        sent_day: date.map(|d| d.1),
        message_id: first_id(found.message_id),
        references,
    }
}

/// Values of the first field of each name, and the ids of every References.
#[derive(Default)]
struct Found<'a> {
    subject: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cc: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    references: Vec<String>,
}

impl<'a> Found<'a> {
    fn of(header: &'a [u8]) -> Found<'a> {
        let mut found = Found::default();
        for field in fields(header) {
            let first = match field.name.len() {
                2 if field.is("to") => &mut found.to,
                2 if field.is("cc") => &mut found.cc,
                4 if field.is("from") => &mut found.from,
                4 if field.is("date") => &mut found.date,
                7 if field.is("subject") => &mut found.subject,
                10 if field.is("message-id") => &mut found.message_id,
                11 if field.is("in-reply-to") => &mut found.in_reply_to,
                10 if field.is("references") => {
                    message_ids(field.value, |id| found.reference(id));
                    continue;
                }
                _ => continue,
            };
            first.get_or_insert(field.value);
        }
        found
    }

    fn reference(&mut self, id: String) {
        self.references.push(id);
        if self.references.len() > REFERENCES_MAX {
            self.references.remove(1);
        }
    }
}

/// addr-mailbox of the first address, as ENVELOPE tells it.
fn first_mailbox(value: Option<&[u8]>) -> String {
    let mut first: Option<Address> = None;
    addresses(value.unwrap_or_default(), 1, |address| first = Some(address));
    let mailbox = first.and_then(|a| a.mailbox).unwrap_or_default();
    String::from_utf8_lossy(&mailbox).to_uppercase()
}

fn first_id(value: Option<&[u8]>) -> Option<String> {
    let mut first = None;
    message_ids(value?, |id| {
        first.get_or_insert(id);
    });
    first
}

/// Tells the ids of a value, without brackets, quotes, comments and spaces (RFC 5256 §4: ids are compared in this form).
fn message_ids(value: &[u8], mut each: impl FnMut(String)) {
    let line = unfold(value);
    let mut lexer = Lexer::new(&line);
    loop {
        lexer.skip_to(b'<');
        if !lexer.eat(b'<') {
            return;
        }
        let mut id = Vec::new();
        let mut at = false;
        loop {
            lexer.skip_space();
            match lexer.peek() {
                Some(b'"') => id.extend(lexer.quoted()),
                // Another one begins before this one has ended.
                None | Some(b'<' | b'>') => break,
                Some(b) => {
                    at |= b == b'@';
                    id.push(b);
                    lexer.bump();
                }
            }
        }
        if at && lexer.eat(b'>') && id.len() <= MESSAGE_ID_OCTETS_MAX {
            each(String::from_utf8_lossy(&id).into_owned());
        }
    }
}

/// The base subject, and whether anything marked a reply or a forward (RFC 5256 §2.1).
fn base_subject(subject: &str) -> (String, bool) {
    // Step 1: one space wherever there is white space.
    let joined = subject.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = joined.as_str();
    let mut is_reply = false;
    loop {
        // Step 2
        while let Some(front) = strip_suffix(text, "(fwd)") {
            text = front.trim_end();
            is_reply = true;
        }
        // Steps 3 to 5
        loop {
            let before = text;
            if let Some(behind) = strip_leader(text) {
                text = behind;
                is_reply = true;
            } else if let Some(behind) = strip_blob(text).filter(|behind| !behind.is_empty()) {
                text = behind;
            }
            if text == before {
                break;
            }
        }
        // Step 6
        let inner = strip_prefix(text, "[fwd:").and_then(|inner| inner.strip_suffix(']'));
        match inner {
            Some(inner) => {
                text = inner.trim();
                is_reply = true;
            }
            None => return (text.to_owned(), is_reply),
        }
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let front = text.get(..prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    text.get(at..)?.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

/// subj-leader with what it stands on: blobs, then `re`, `fw` or `fwd`, perhaps a blob, a colon.
fn strip_leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(behind) = strip_blob(rest) {
        rest = behind;
    }
    let behind = ["re", "fwd", "fw"].iter().find_map(|word| strip_prefix(rest, word))?.trim_start();
    let behind = strip_blob(behind).unwrap_or(behind);
    behind.strip_prefix(':').map(str::trim_start)
}

/// subj-blob: `[...]` without brackets inside.
fn strip_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    inner[end..].strip_prefix(']').map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_subjects() {
        for (subject, expected, is_reply) in [
            ("Hello", "Hello", false),
            ("Re: Hello", "Hello", true),
            ("re [2] : Fwd: [list] RE:  Hello\tworld (fwd) (FWD)", "Hello world", true),
            ("[list] [a] Hello", "Hello", false),
            ("[list]", "[list]", false),
            ("Re: [list]", "[list]", true),
            ("[a] [b]: re", ": re", false),
            ("[fwd: Re: Hello]", "Hello", true),
            ("[fwd: [x] Hello (fwd)] (fwd)", "Hello", true),
            ("Report: x", "Report: x", false),
            ("Re", "Re", false),
            ("Re:", "", true),
            ("", "", false),
            ("[[a]] x", "[[a]] x", false),
            ("é: x", "é: x", false),
        ] {
            assert_eq!(base_subject(subject), (expected.to_owned(), is_reply), "{subject}");
        }
    }

    #[test]
    fn fields_of_a_reply() {
        let header = b"From: \"Ann Lee\" <ann.lee@x>\r\nTo: friends: bob@y;\r\nSubject: =?utf-8?q?R=45:_Gr=C3=BC=C3=9Fe?=\r\n\
            Date: Mon, 23 Nov 2026 00:30:00 +0100\r\nMessage-ID: <\"a\"@b>\r\nReferences: <1@x> junk <2@x>\r\n <3 @ x> <bad> <4@x\r\n\r\n";
        let fields = sort_fields(header);
        assert_eq!((fields.subject.as_str(), fields.is_reply), ("GRÜSSE", true));
        assert_eq!((fields.from.as_str(), fields.to.as_str(), fields.cc.as_str()), ("ANN.LEE", "FRIENDS", ""));
        assert_eq!(fields.message_id.as_deref(), Some("a@b"));
        assert_eq!(fields.references, ["1@x", "2@x", "3@x"]);
        assert_eq!((fields.date, fields.sent_day), (Some(1_795_390_200), Some(Day(20_780))));
        let reply = sort_fields(b"In-Reply-To: your mail <9@z> <8@z>\r\n\r\n");
        assert_eq!(reply.references, ["9@z"]);
        assert_eq!(sort_fields(b""), SortFields::default());
    }

    #[test]
    fn long_chains_keep_their_root_and_their_end() {
        let ids: String = (0..300).map(|i| format!(" <{i}@x>\r\n")).collect();
        let references = sort_fields(format!("References:{ids}\r\n").as_bytes()).references;
        assert_eq!(references.len(), REFERENCES_MAX);
        assert_eq!(
            (references[0].as_str(), references[1].as_str(), references[99].as_str()),
            ("0@x", "201@x", "299@x")
        );
    }
}
