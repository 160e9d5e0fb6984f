//! What a message carries beside its text: names and types of attachments, and its text parts as they are for a scan.
//!
//! How it fails: it does not; every answer is bounded, names that make no sense are taken as far as they do.

use super::content::{ContentFields, Parameter, disposition, token};
use super::decode::{Encoding, decode, field_text, text_of};
use super::structure::{Kind, Structure};

/// Octets of a file name that are told at most.
const NAME_OCTETS_MAX: usize = 255;
/// Pieces of one parameter (RFC 2231 §3) at most.
const PIECES_MAX: usize = 64;

/// An attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Its file name, decoded; empty when it has none.
    pub name: String,
    /// Its media type in lower case, such as `application/zip`.
    pub kind: String,
}

/// The parts with a file name, or that say they are attachments (RFC 2183 §2.2); at most `max`.
pub fn attachments(message: &[u8], structure: &Structure, max: usize) -> Vec<Attachment> {
    let mut found = Vec::new();
    for id in structure.walk() {
        if found.len() >= max {
            break;
        }
        let part = structure.part(id);
        if matches!(part.kind, Kind::Multipart) {
            continue;
        }
        let fields = ContentFields::of(message.get(part.header()).unwrap_or_default());
        let content = fields.content_type(part.in_digest);
        let told = fields.disposition.and_then(disposition);
        let attached = told.as_ref().is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(b"attachment"));
        let name = told.as_ref().and_then(|(_, p)| parameter(p, "filename"));
        let name = name.or_else(|| parameter(&content.parameters, "name"));
        if attached || name.is_some() {
            let kind = [&content.kind[..], b"/", &content.subtype[..]].concat();
            let kind = String::from_utf8_lossy(&kind).to_ascii_lowercase();
            found.push(Attachment { name: name.unwrap_or_default(), kind });
        }
    }
    found
}

/// Every text part that is no attachment: decoded, HTML with its tags. About `octets_max` octets in all.
pub fn text_parts(message: &[u8], structure: &Structure, octets_max: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = octets_max;
    for id in structure.walk() {
        let part = structure.part(id);
        if part.kind != Kind::Leaf || left == 0 {
            continue;
        }
        let fields = ContentFields::of(message.get(part.header()).unwrap_or_default());
        let content = fields.content_type(part.in_digest);
        if !content.is("text") {
            continue;
        }
        let body = message.get(part.body()).unwrap_or_default();
        // No encoding takes more than four octets for one of the text, soft line breaks aside.
        let body = &body[..body.len().min(left.saturating_mul(4))];
        let text = text_of(&decode(body, Encoding::of(fields.encoding.and_then(token))), content.parameter("charset"));
        left = left.saturating_sub(text.len());
        found.push(text);
    }
    found
}

/// The text of a field of the header section with its encoded words decoded.
pub fn decoded_field(value: &[u8]) -> String {
    field_text(value)
}

/// The text of a parameter: extended (RFC 2231 §4), in pieces (§3), or plain with encoded words, which no standard allows
/// there and everybody sends.
fn parameter(parameters: &[Parameter], name: &str) -> Option<String> {
    let plain = parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
    let text = match (extended(parameters, name), plain) {
        (Some(text), _) => text,
        (None, Some((_, value))) => field_text(value),
        (None, None) => return None,
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = text.len().min(NAME_OCTETS_MAX);
    // What a name ends in says what it is: of a long one the end is kept.
    end = text.len() - end;
    while !text.is_char_boundary(end) {
        end += 1;
    }
    Some(text[end..].trim().to_owned())
}

fn extended(parameters: &[Parameter], name: &str) -> Option<String> {
    let whole = format!("{name}*");
    if let Some((_, value)) = parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(whole.as_bytes())) {
        let (charset, text) = charset_of(value);
        return Some(text_of(&percent(text), charset));
    }
    let mut octets = Vec::new();
    let mut charset = None;
    for piece in 0..PIECES_MAX {
        let (coded, plain) = (format!("{name}*{piece}*"), format!("{name}*{piece}"));
        let is = |(n, _): &&Parameter, wanted: &str| n.eq_ignore_ascii_case(wanted.as_bytes());
        if let Some((_, value)) = parameters.iter().find(|p| is(p, &coded)) {
            let text = match piece {
                0 => {
                    let (named, text) = charset_of(value);
                    charset = named;
                    text
                }
                _ => value,
            };
            octets.extend(percent(text));
        } else if let Some((_, value)) = parameters.iter().find(|p| is(p, &plain)) {
            octets.extend_from_slice(value);
        } else if piece == 0 {
            return None;
        } else {
            break;
        }
    }
    Some(text_of(&octets, charset))
}

/// `charset'language'text`
fn charset_of(value: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut parts = value.splitn(3, |b| *b == b'\'');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(charset), Some(_), Some(text)) => (Some(charset).filter(|c| !c.is_empty()), text),
        _ => (None, value),
    }
}

fn percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let coded = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match coded.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(octet) => {
                out.push(octet);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(message: &str) -> Vec<(String, String)> {
        let message = message.replace('\n', "\r\n");
        let structure = Structure::parse(message.as_bytes());
        attachments(message.as_bytes(), &structure, 100).into_iter().map(|a| (a.name, a.kind)).collect()
    }

    #[test]
    fn attachments_by_every_way_of_naming_them() {
        let part = |fields: &str| {
            format!("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\n{fields}\n\nx\n--b--\n")
        };
        for (fields, name, kind) in [
            ("Content-Disposition: attachment; filename=\"a b.exe\"", "a b.exe", "text/plain"),
            ("Content-Type: Application/ZIP; name=x.zip", "x.zip", "application/zip"),
            ("Content-Disposition: attachment", "", "text/plain"),
            ("Content-Disposition: inline; filename*=UTF-8''%e2%82%ac.js", "€.js", "text/plain"),
            (
                "Content-Disposition: attachment; filename*0*=iso-8859-1'de'%FCber; filename*1=\".ex\"; filename*2=e",
                "über.exe",
                "text/plain",
            ),
            ("Content-Type: image/png; name=\"=?utf-8?q?b=C3=A4r.png?=\"", "bär.png", "image/png"),
            ("Content-Type: message/rfc822; name=fwd.eml", "fwd.eml", "message/rfc822"),
        ] {
            assert_eq!(of(&part(fields)), [(name.to_owned(), kind.to_owned())], "{fields}");
        }
        assert!(of("Subject: x\n\nhello\n").is_empty());
        assert_eq!(of("Content-Type: text/x; name=a.b\n\nhello\n").len(), 1, "a message may be an attachment itself");
    }

    #[test]
    fn texts_are_decoded_and_bounded() {
        let message = b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<a href=3D\"http://x\">\r\n";
        let structure = Structure::parse(message);
        assert_eq!(text_parts(message, &structure, 1000), ["<a href=\"http://x\">\r\n"]);
        assert!(text_parts(message, &structure, 2)[0].len() <= 8);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message: Vec<u8>, value in "[a-z*0-9=;'%\" ]{0,60}") {
            let structure = Structure::parse(&message);
            let _ = (attachments(&message, &structure, 5), text_parts(&message, &structure, 100));
            let _ = of(&format!("Content-Disposition: attachment; filename{value}\n\n"));
        }
    }
}
