//! Lines of other people's mail inside ours: cleaned, cut, folded.
//!
//! How it fails: it does not; what cannot stand in a header becomes `?`.

/// Characters in a line of ours, where there is a choice (RFC 5322 §2.1.1).
const LINE_CHARS_MAX: usize = 76;
/// Octets in a line at most (RFC 5322 §2.1.1, without CRLF); longer words are broken.
const WORD_OCTETS_MAX: usize = 900;
/// A Message-ID longer than this is not quoted.
const MESSAGE_ID_OCTETS_MAX: usize = 500;

/// One line of text without controls; non-ASCII only where `utf8` allows it.
pub(super) fn clean(text: &str, utf8: bool) -> String {
    let fits = |c: char| c == '\t' || (!c.is_control() && (utf8 || c.is_ascii()));
    text.chars().map(|c| if fits(c) { c } else { '?' }).collect()
}

/// Appends `name: value` folded at spaces (RFC 5322 §2.2.3), cleaned.
pub(super) fn field(out: &mut String, name: &str, value: &str, utf8: bool) {
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in clean(value, utf8).split_whitespace() {
        for piece in pieces(word) {
            let length = piece.chars().count() + 1;
            if column > name.len() + 1 && column + length > LINE_CHARS_MAX {
                out.push_str("\r\n");
                column = 0;
            }
            out.push(' ');
            out.push_str(piece);
            column += length;
        }
    }
    out.push_str("\r\n");
}

/// A word in pieces that fit into a line.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(WORD_OCTETS_MAX);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// The lines of a header section up to the empty line, at most `octets_max`, each ended by CRLF and free of CR, LF and
/// NUL within.
pub(super) fn header_section(header: &[u8], octets_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len().min(octets_max));
    for line in header.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || out.len() + line.len() + 2 > octets_max {
            break;
        }
        out.extend(line.iter().map(|b| if matches!(b, b'\r' | 0) { b'?' } else { *b }));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Whether bytes are lines ended by CRLF, without a lone CR or LF and without NUL.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr3(b'\r', b'\n', 0, rest) {
        if !rest[at..].starts_with(b"\r\n") {
            return false;
        }
        rest = &rest[at + 2..];
    }
    true
}

/// The Message-ID of a header section, when it can be quoted as it is: `<…>` of printable ASCII.
pub(super) fn message_id(header: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"message-id:";
    let mut lines = header.split(|b| *b == b'\n').take_while(|l| !matches!(l, [] | [b'\r'])).peekable();
    while let Some(line) = lines.next() {
        if line.len() < NAME.len() || !line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            continue;
        }
        let mut value = String::from_utf8_lossy(&line[NAME.len()..]).into_owned();
        while let Some(more) = lines.next_if(|l| matches!(l.first(), Some(b' ' | b'\t'))) {
            value.push_str(&String::from_utf8_lossy(more));
        }
        let id = value.trim();
        let inner = id.strip_prefix('<')?.strip_suffix('>')?;
        let fits = !inner.is_empty() && id.len() <= MESSAGE_ID_OCTETS_MAX;
        return (fits && inner.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b))).then(|| id.to_owned());
    }
    None
}
