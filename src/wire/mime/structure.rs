//! The tree of a message's parts, as ranges of its octets.
//!
//! One pass over the lines: a line that begins with `--` is looked up among the boundaries that are open, whatever the
//! depth, so hostile nesting costs no more than flat text. How it fails: it does not. A multipart without a delimiter
//! has all of its body as its only part; what exceeds [`PARTS_MAX`] or [`DEPTH_MAX`] stays one part whose inside is not
//! looked at; an unclosed multipart ends where its parent does.

use super::content::{ContentFields, ContentType};
use super::header::{is_empty_line, line_end};
use memchr::{memchr_iter, memmem};
use std::collections::BTreeMap;
use std::ops::Range;

/// Parts of one message that are told apart; the octets from the last of them on are one. Multiparts without a
/// delimiter that are open then, [`DEPTH_MAX`] at most, add their only parts.
pub const PARTS_MAX: usize = 10_000;
/// How deep multiparts and messages are looked into.
pub const DEPTH_MAX: usize = 100;
/// Octets of a boundary at most. RFC 2046 §5.1.1 has 70; longer ones are seen.
const BOUNDARY_OCTETS_MAX: usize = 256;

/// The structure of a message: its parts by number, as offsets into its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The first is the message itself.
    parts: Vec<Part>,
}

/// Which part; valid in the structure that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartId(u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    start: usize,
    body: usize,
    end: usize,
    /// LFs in the body.
    pub lines: usize,
    pub kind: Kind,
    /// It stands in a multipart/digest, which changes its default type.
    pub in_digest: bool,
    child: Option<PartId>,
    next: Option<PartId>,
}

/// What a part is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Content.
    Leaf,
    /// Parts.
    Multipart,
    /// A message, its only child.
    Message,
    /// Not looked into.
    Opaque,
}

impl Part {
    /// Its header with the empty line.
    pub(super) fn header(&self) -> Range<usize> {
        self.start..self.body
    }
    pub(super) fn body(&self) -> Range<usize> {
        self.body..self.end
    }
    pub(super) fn whole(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl Structure {
    /// Reads a message.
    pub fn parse(message: &[u8]) -> Structure {
        let mut builder = Builder {
            message,
            parts: Vec::new(),
            open: Vec::new(),
            boundaries: BTreeMap::new(),
            counted: 0,
            lines: 0,
            delimiter: memmem::Finder::new(b"\n--"),
        };
        builder.run();
        debug_assert!(!builder.parts.is_empty());
        builder.parts.shrink_to_fit();
        Structure { parts: builder.parts }
    }
    /// How many parts it has, the message itself and those inside of messages included.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
    pub(super) fn root(&self) -> PartId {
        PartId(0)
    }
    pub(super) fn part(&self, id: PartId) -> &Part {
        &self.parts[id.0 as usize]
    }
    /// All parts in the order in which they begin, parents first.
    pub(super) fn walk(&self) -> impl Iterator<Item = PartId> + '_ {
        let mut waiting = vec![self.root()];
        std::iter::from_fn(move || {
            let id = waiting.pop()?;
            let part = self.part(id);
            waiting.extend(part.next);
            waiting.extend(part.child);
            Some(id)
        })
    }
    pub(super) fn children(&self, id: PartId) -> impl Iterator<Item = PartId> + '_ {
        std::iter::successors(self.part(id).child, |id| self.part(*id).next)
    }
}

/// A part whose end is not known yet.
struct Open {
    part: PartId,
    last_child: Option<PartId>,
    /// Its delimiter while it is active, and at which level the same one was active before.
    boundary: Option<(Vec<u8>, Option<usize>)>,
    digest: bool,
}

struct Builder<'a> {
    message: &'a [u8],
    parts: Vec<Part>,
    open: Vec<Open>,
    /// Active boundaries and the level in `open` they belong to. An inner one hides an equal outer one.
    boundaries: BTreeMap<Vec<u8>, usize>,
    /// LFs up to an offset.
    counted: usize,
    lines: usize,
    delimiter: memmem::Finder<'static>,
}

/// A delimiter line (RFC 2046 §5.1.1).
struct Delimiter {
    /// Where the line begins and ends, its LF included.
    line: Range<usize>,
    level: usize,
    closing: bool,
}

impl Builder<'_> {
    fn run(&mut self) {
        let mut at = self.open_part(0);
        loop {
            let Some(delimiter) = self.next_delimiter(at) else {
                self.close_to(0, self.message.len());
                return;
            };
            // The line end in front of a delimiter belongs to it.
            let end = self.before_line_end(delimiter.line.start);
            self.close_to(delimiter.level + 1, end);
            at = delimiter.line.end;
            if delimiter.closing {
                self.deactivate(delimiter.level);
            } else {
                at = self.open_part(at);
            }
        }
    }

    fn before_line_end(&self, at: usize) -> usize {
        match &self.message[..at] {
            [.., b'\r', b'\n'] => at - 2,
            [.., b'\n'] => at - 1,
            _ => at,
        }
    }

    /// LFs in front of an offset; offsets come in ascending order.
    fn lines_to(&mut self, at: usize) -> usize {
        debug_assert!(at >= self.counted, "{at} after {}", self.counted);
        if at > self.counted {
            self.lines += memchr_iter(b'\n', &self.message[self.counted..at]).count();
            self.counted = at;
        }
        self.lines
    }

    /// Opens the part that begins here, and the message in it, and so on. Where to look for the next delimiter.
    fn open_part(&mut self, mut start: usize) -> usize {
        let mut at = start;
        let mut cut = false;
        loop {
            let mut body = start;
            if !cut {
                (body, at, cut) = self.header(start);
            }
            let content = ContentFields::of(&self.message[start..body]);
            let in_digest = self.open.last().is_some_and(|o| o.digest);
            let content = content.content_type(in_digest);
            let full = self.parts.len() + 1 >= PARTS_MAX;
            let kind = kind_of(&content, full || self.open.len() >= DEPTH_MAX);
            let part = self.push(Part { start, body, end: body, lines: 0, kind, in_digest, child: None, next: None });
            self.parts[part.0 as usize].lines = self.lines_to(body);
            let digest = kind == Kind::Multipart && content.is_subtype("digest");
            self.open.push(Open { part, last_child: None, boundary: None, digest });
            if kind == Kind::Multipart {
                self.activate(content.parameter("boundary").unwrap_or_default());
            }
            if full {
                self.boundaries.clear();
            }
            if kind != Kind::Message {
                return at;
            }
            start = body;
        }
    }

    /// The header section from here: where the body begins, where to go on, and whether a delimiter cut it short.
    fn header(&self, start: usize) -> (usize, usize, bool) {
        let mut at = start;
        while at < self.message.len() {
            let end = line_end(self.message, at);
            if self.delimiter_at(at, end).is_some() {
                return (self.before_line_end(at).max(start), at, true);
            }
            let line = &self.message[at..end];
            if line.strip_suffix(b"\n").is_some_and(is_empty_line) {
                return (end, end, false);
            }
            at = end;
        }
        (at, at, true)
    }

    fn push(&mut self, part: Part) -> PartId {
        let id = PartId(self.parts.len() as u32);
        self.parts.push(part);
        if let Some(parent) = self.open.last_mut() {
            match parent.last_child {
                Some(last) => self.parts[last.0 as usize].next = Some(id),
                None => self.parts[parent.part.0 as usize].child = Some(id),
            }
            parent.last_child = Some(id);
        }
        id
    }

    fn activate(&mut self, boundary: &[u8]) {
        // RFC 2046 §5.1.1: a boundary does not end in white space.
        let boundary = boundary.trim_ascii_end();
        if boundary.is_empty() || boundary.len() > BOUNDARY_OCTETS_MAX {
            return;
        }
        let level = self.open.len() - 1;
        let hidden = self.boundaries.insert(boundary.to_vec(), level);
        self.open[level].boundary = Some((boundary.to_vec(), hidden));
    }

    fn deactivate(&mut self, level: usize) {
        if let Some((boundary, hidden)) = self.open[level].boundary.take() {
            match hidden {
                Some(outer) if self.open[outer].boundary.is_some() => {
                    self.boundaries.insert(boundary, outer);
                }
                _ => {
                    self.boundaries.remove(&boundary);
                }
            }
        }
    }

    /// Ends every open part above so many levels.
    fn close_to(&mut self, levels: usize, mut end: usize) {
        while self.open.len() > levels {
            self.deactivate(self.open.len() - 1);
            let Some(open) = self.open.pop() else {
                return;
            };
            // A header may end after the line end in front of the delimiter; no part ends before what is in it.
            end = end.max(self.parts[open.part.0 as usize].body);
            let lines = self.lines_to(end);
            let part = &mut self.parts[open.part.0 as usize];
            part.end = end;
            part.lines = lines - part.lines;
            if part.kind == Kind::Multipart && part.child.is_none() {
                self.only_child(open.part);
            }
        }
    }

    /// A multipart in which no delimiter was found: IMAP has no form for one without parts, and its text is worth
    /// reading (RFC 2046 §5.1 calls it malformed).
    fn only_child(&mut self, parent: PartId) {
        let id = PartId(self.parts.len() as u32);
        let part = &mut self.parts[parent.0 as usize];
        part.child = Some(id);
        let child = Part {
            start: part.body,
            body: part.body,
            end: part.end,
            lines: part.lines,
            kind: Kind::Leaf,
            in_digest: false,
            child: None,
            next: None,
        };
        self.parts.push(child);
    }

    /// The next delimiter line from the beginning of a line on.
    fn next_delimiter(&self, mut at: usize) -> Option<Delimiter> {
        while !self.boundaries.is_empty() && at < self.message.len() {
            let end = line_end(self.message, at);
            if let Some((level, closing)) = self.delimiter_at(at, end) {
                return Some(Delimiter { line: at..end, level, closing });
            }
            // The next line that begins with two hyphens.
            at = end - 1 + self.delimiter.find(&self.message[end - 1..])? + 1;
        }
        None
    }

    /// Whether the line is an active delimiter: of which level, and whether it is the closing one.
    fn delimiter_at(&self, at: usize, end: usize) -> Option<(usize, bool)> {
        let line = self.message[at..end].strip_prefix(b"--")?;
        // Longer lines are no delimiters, but for white space behind them, which is not looked at without end.
        if self.boundaries.is_empty() || line.len() > 2 * BOUNDARY_OCTETS_MAX {
            return None;
        }
        let line = line.trim_ascii_end();
        if let Some(level) = self.boundaries.get(line) {
            return Some((*level, false));
        }
        let level = self.boundaries.get(line.strip_suffix(b"--")?)?;
        Some((*level, true))
    }
}

fn kind_of(content: &ContentType, opaque: bool) -> Kind {
    let kind = match () {
        () if content.is("multipart") => Kind::Multipart,
        () if content.is_message() => Kind::Message,
        () => return Kind::Leaf,
    };
    if opaque { Kind::Opaque } else { kind }
}
