//! The text of HTML, for search and preview: tags, scripts and styles away, the common character references resolved.
//!
//! No renderer and no parser of HTML, which never has to be understood here. How it fails: it does not; what is broken
//! yields some text.

/// Elements whose content is no text.
const HIDDEN: [&str; 5] = ["head", "script", "style", "template", "title"];
/// Octets of a character reference that are looked at.
const REFERENCE_OCTETS_MAX: usize = 10;

/// The text between the tags.
pub(super) fn text(html: &str) -> String {
    let mut out = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        let found = &rest[at..];
        rest = if found.starts_with('&') { reference(&mut out, found) } else { tag(&mut out, found) };
    }
    out.push_str(rest);
    out
}

/// Skips a comment, a tag, or an element without text; gives what is behind it.
fn tag<'a>(out: &mut String, text: &'a str) -> &'a str {
    if let Some(comment) = text.strip_prefix("<!--") {
        return comment.find("-->").map_or("", |end| &comment[end + 3..]);
    }
    let inner = &text[1..];
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
        out.push('<');
        return inner;
    }
    let Some(end) = inner.find('>') else {
        return "";
    };
    // A tag parts words, but not in the middle of them where it only marks them up.
    let name = inner[..end].trim_start_matches('/');
    let name = &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())];
    if !["a", "b", "em", "font", "i", "span", "strong", "u"].iter().any(|n| n.eq_ignore_ascii_case(name)) {
        out.push(' ');
    }
    let behind = &inner[end + 1..];
    match HIDDEN.iter().find(|hidden| hidden.eq_ignore_ascii_case(name) && !inner.starts_with('/')) {
        Some(hidden) => after_end_of(behind, hidden),
        None => behind,
    }
}

/// What is behind the end tag of an element; nothing when there is none.
fn after_end_of<'a>(text: &'a str, element: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest.get(..element.len()).is_some_and(|name| name.eq_ignore_ascii_case(element)) {
            return rest.find('>').map_or("", |end| &rest[end + 1..]);
        }
    }
    ""
}

/// A character reference at the front.
fn reference<'a>(out: &mut String, text: &'a str) -> &'a str {
    let front = text.as_bytes().iter().take(REFERENCE_OCTETS_MAX).position(|b| *b == b';');
    let known = front.and_then(|end| Some((character(text.get(1..end)?)?, end)));
    match known {
        Some((c, end)) => {
            out.push(c);
            &text[end + 1..]
        }
        None => {
            out.push('&');
            &text[1..]
        }
    }
}

fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        "agrave" => 'à',
        "ccedil" => 'ç',
        "ntilde" => 'ñ',
        "copy" => '©',
        "euro" => '€',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_text_is_left() {
        for (html, expected) in [
            ("<p>a<b>b</b>c</p><br/>d", " abc  d"),
            ("<html><head><title>x</title></HEAD ><body>y", "   y"),
            ("<style>p > a {}</style>z<script>1 < 2 </s </script>!", " z !"),
            ("a &amp; b &lt;c&#62; &#xE9;&bogus; &", "a & b <c> é&bogus; &"),
            ("1 < 2 <!-- no -- > --> 3 <!-- open", "1 < 2  3 "),
            ("<a href=x", ""),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(html in "[<>/&;#!a-zé -]{0,60}", any: String) {
            text(&html);
            text(&any);
        }
    }
}
