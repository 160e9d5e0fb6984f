//! The text of a message as it arrives: finds the end of DATA, removes the transparency dots, watches limits and bare
//! newlines, and learns the [`BodyShape`] on the way, over any split of the input.
//!
//! The end of data is CRLF . CRLF and nothing else (RFC 5321 §4.1.1.4, §2.3.8). A line begins only after a CRLF that
//! the client sent, so no bare LF or CR can make a second idea of where the message ends; and none is ever passed on.
//! How it fails: [`Offence`] is remembered, nothing more is put out, and the scan goes on to the true end, so that the
//! session stays in step. Ordinary text is surveyed in blocks without a branch per octet; `tests` holds a naive twin.

use crate::base::body::BodyShape;
use memchr::{memchr, memchr3, memrchr};

#[cfg(test)]
mod tests;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Octets surveyed at once: they stay in the first-level cache between the survey and the copy.
const BLOCK_OCTETS: usize = 4096;

/// Octets that are gone through with care when a block holds anything out of the ordinary: a line or a few, so that one
/// dot does not slow the whole block.
const PIECE_OCTETS: usize = 256;

crate::knob_words! {
    /// What to do with a CR or LF that stands alone in the text of a message.
    pub enum BareNewline {
        /// Refuse the message at its end.
        Refuse = "refuse",
        /// Make it a CRLF.
        Normalise = "normalise",
    }
}

/// How the text is framed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: dots are stuffed, CRLF . CRLF ends it (RFC 5321 §4.5.2).
    Dots,
    /// BDAT: the chunk sizes say it (RFC 3030 §2).
    Chunks,
}

/// What may be in the text, and how much.
#[derive(Clone, Copy, Debug)]
pub struct DataRules {
    /// Framing.
    pub framing: Framing,
    /// Bare CR and LF, unless `binary`.
    pub bare_newline: BareNewline,
    /// BODY=BINARYMIME was given: any octet goes (RFC 3030 §3). Only with [`Framing::Chunks`].
    pub binary: bool,
    /// Octets of the message at most.
    pub octets_max: u64,
    /// Octets of its header section at most.
    pub header_octets_max: u64,
    /// Octets of a line at most, without its CRLF.
    pub line_octets_max: u64,
}

/// What is wrong with the text. The client sent it; sending it again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A CR or LF stands alone (RFC 5321 §2.3.8).
    BareNewline,
    /// A NUL (RFC 5321 §4.5.2 leaves text to be ASCII without it; RFC 5322 §4 forbids to make it).
    Nul,
    /// More than `octets_max`.
    TooLarge,
    /// More than `header_octets_max` before the first empty line.
    HeaderTooLarge,
    /// More than `line_octets_max` without a CRLF.
    LineTooLong,
}

/// What [`Text::feed`] did with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Octets used; all of them unless the end was found.
    pub consumed: usize,
    /// Whether the end of data was the last thing consumed.
    pub end: bool,
}

/// Where in the line the last octet left us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CRLF, or before the first octet.
    LineStart,
    /// Inside a line.
    InLine,
    /// After a CR whose LF is awaited.
    Cr,
    /// After a dot that began a line.
    Dot,
    /// After that dot and a CR.
    DotCr,
}

/// The scanner: give it what arrived, take the clean text.
#[derive(Debug)]
pub struct Text {
    rules: DataRules,
    at: At,
    offence: Option<Offence>,
    shape: BodyShape,
    /// Octets put out since the last CRLF put out.
    line_octets: u64,
    /// First octets of the line put out, while in the header section.
    field: FieldStart,
    in_header: bool,
}

impl Text {
    /// A scanner before the first octet.
    pub fn new(rules: DataRules) -> Text {
        debug_assert!(!(rules.binary && rules.framing == Framing::Dots), "RFC 3030 §3: BINARYMIME needs BDAT");
        Text {
            rules,
            at: At::LineStart,
            offence: None,
            shape: BodyShape::default(),
            line_octets: 0,
            field: FieldStart::default(),
            in_header: true,
        }
    }

    /// The first offence, if there was one.
    pub fn offence(&self) -> Option<Offence> {
        self.offence
    }

    /// What is known of the text so far.
    pub fn shape(&self) -> BodyShape {
        let header_octets = if self.in_header { self.shape.octets } else { self.shape.header_octets };
        BodyShape { ends_with_crlf: self.line_octets == 0, header_octets, ..self.shape }
    }

    /// Takes what arrived and appends clean text to `out`. With [`Framing::Dots`] it stops behind the end of data.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let mut done = 0;
        while done < input.len() {
            let block = &input[done..input.len().min(done + BLOCK_OCTETS)];
            // Half-seen ends of line take one octet with care, then blocks are whole again.
            let block = if matches!(self.at, At::LineStart | At::InLine) { block } else { &block[..1] };
            let taken = self.feed_ordinary(block, out);
            if taken > 0 {
                done += taken;
                continue;
            }
            let fed = self.feed_pieces(block, out);
            done += fed.consumed;
            if fed.end {
                return Fed { consumed: done, end: true };
            }
        }
        Fed { consumed: done, end: false }
    }

    /// After the last chunk of BDAT: a CR that waited for its LF is bare.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Cr {
            self.bare(CR, out);
            self.at = At::InLine;
        }
    }

    /// A block that holds something out of the ordinary somewhere: most of its pieces do not.
    fn feed_pieces(&mut self, block: &[u8], out: &mut Vec<u8>) -> Fed {
        let mut done = 0;
        while done < block.len() {
            let piece = &block[done..block.len().min(done + PIECE_OCTETS)];
            let taken = if piece.len() < block.len() { self.feed_ordinary(piece, out) } else { 0 };
            if taken > 0 {
                done += taken;
                continue;
            }
            let fed = self.feed_carefully(piece, out);
            done += fed.consumed;
            if fed.end {
                return Fed { consumed: done, end: true };
            }
        }
        Fed { consumed: done, end: false }
    }

    /// Takes a block of ordinary body text whole; returns 0 when anything in it needs care.
    fn feed_ordinary(&mut self, block: &[u8], out: &mut Vec<u8>) -> usize {
        // A CR at the end is seen again in front of its LF, or alone.
        let block = block.strip_suffix(b"\r").unwrap_or(block);
        let plain = matches!(self.at, At::LineStart | At::InLine) && !self.in_header && self.offence.is_none();
        let (Some(&first), true) = (block.first(), plain) else { return 0 };
        // A CR in front of that one is bare, and no pair of octets inside the block would show it.
        if block.ends_with(b"\r") {
            return 0;
        }
        let line_max = self.rules.line_octets_max;
        let roomy = self.shape.octets + block.len() as u64 <= self.rules.octets_max && line_max >= BLOCK_OCTETS as u64;
        if !roomy || first == LF || first == b'.' && self.line_octets == 0 {
            return 0;
        }
        let survey = Survey::of(block);
        if survey.needs_care {
            return 0;
        }
        let first_line = memchr(LF, block).unwrap_or(block.len()) as u64;
        if self.line_octets + first_line > line_max {
            return 0;
        }
        out.extend_from_slice(block);
        self.shape.octets += block.len() as u64;
        self.shape.eight_bit |= survey.eight_bit;
        match memrchr(LF, block) {
            Some(last) => self.line_octets = (block.len() - 1 - last) as u64,
            None => self.line_octets += block.len() as u64,
        }
        self.at = if block.last() == Some(&LF) { At::LineStart } else { At::InLine };
        block.len()
    }

    /// The whole state machine, a piece of line at a time.
    fn feed_carefully(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let mut i = 0;
        while let Some(&b) = input.get(i) {
            match (self.at, b) {
                (At::LineStart, b'.') if self.rules.framing == Framing::Dots => {
                    self.at = At::Dot;
                    i += 1;
                }
                (At::LineStart | At::InLine, _) => i += self.feed_in_line(&input[i..], out),
                (At::Cr, LF) => {
                    self.newline(out);
                    self.at = At::LineStart;
                    i += 1;
                }
                (At::Dot, CR) => {
                    self.at = At::DotCr;
                    i += 1;
                }
                (At::DotCr, LF) => return Fed { consumed: i + 1, end: true },
                // RFC 5321 §4.5.2: a first dot with anything behind it is deleted.
                (At::Dot, _) => self.at = At::InLine,
                (At::Cr | At::DotCr, _) => {
                    self.bare(CR, out);
                    self.at = At::InLine;
                }
            }
        }
        Fed { consumed: i, end: false }
    }

    /// Text up to and with the next CR, LF or NUL; returns how much it took.
    fn feed_in_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        self.at = At::InLine;
        let Some(n) = memchr3(CR, LF, 0, input) else {
            self.text(input, out);
            return input.len();
        };
        self.text(&input[..n], out);
        match input[n] {
            CR => self.at = At::Cr,
            LF => self.bare(LF, out),
            _ if self.rules.binary => {
                self.shape.binary = true;
                self.text(&[0], out);
            }
            _ => self.offend(Offence::Nul),
        }
        n + 1
    }

    /// A CR or LF alone.
    fn bare(&mut self, octet: u8, out: &mut Vec<u8>) {
        if self.rules.binary {
            self.shape.binary = true;
            self.text(&[octet], out);
            return;
        }
        match self.rules.bare_newline {
            BareNewline::Refuse => self.offend(Offence::BareNewline),
            BareNewline::Normalise => self.newline(out),
        }
    }

    /// Puts out octets that are no end of line.
    fn text(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() || !self.admit(bytes.len() as u64) {
            return;
        }
        if self.line_octets == 0 {
            self.shape.needs_stuffing |= bytes[0] == b'.';
        }
        if self.in_header {
            self.field.extend(bytes);
        }
        self.line_octets += bytes.len() as u64;
        if self.line_octets > self.rules.line_octets_max {
            return self.offend(Offence::LineTooLong);
        }
        self.shape.eight_bit |= !bytes.is_ascii();
        out.extend_from_slice(bytes);
    }

    /// Puts out an end of line.
    fn newline(&mut self, out: &mut Vec<u8>) {
        if !self.admit(2) {
            return;
        }
        out.extend_from_slice(b"\r\n");
        if self.in_header {
            self.shape.received_fields += u32::from(self.field.is_received());
            self.field = FieldStart::default();
            if self.line_octets == 0 {
                self.in_header = false;
                self.shape.header_octets = self.shape.octets;
            }
        }
        self.line_octets = 0;
    }

    /// Counts octets against the limits; false when they are not to be put out.
    fn admit(&mut self, octets: u64) -> bool {
        if self.offence.is_some() {
            return false;
        }
        let total = self.shape.octets + octets;
        if total > self.rules.octets_max {
            self.offend(Offence::TooLarge);
        } else if self.in_header && total > self.rules.header_octets_max {
            self.offend(Offence::HeaderTooLarge);
        } else {
            self.shape.octets = total;
        }
        self.offence.is_none()
    }

    fn offend(&mut self, offence: Offence) {
        self.offence.get_or_insert(offence);
    }
}

/// What a block is like, learnt without a branch per octet (the compiler makes it vector code).
struct Survey {
    eight_bit: bool,
    /// NUL, a CR or LF without its partner, or a dot at the start of a line.
    needs_care: bool,
}

impl Survey {
    /// `block` does not begin with LF and does not end with CR; both would need a look outside.
    fn of(block: &[u8]) -> Survey {
        debug_assert!(block.first() != Some(&LF) && block.last() != Some(&CR));
        let (mut all, mut care) = (0u8, 0u8);
        for (a, b) in block.iter().zip(&block[1..]) {
            all |= a;
            care |= u8::from(*a == 0)
                | (u8::from(*a == CR) ^ u8::from(*b == LF))
                | (u8::from(*a == LF) & u8::from(*b == b'.'));
        }
        let last = block.last().copied().unwrap_or(1);
        Survey { eight_bit: (all | last) >= 0x80, needs_care: care != 0 || last == 0 }
    }
}

/// The first octets of a line in the header section, enough to know a Received field over any split.
#[derive(Debug, Default)]
struct FieldStart {
    octets: [u8; 9],
    len: usize,
}

impl FieldStart {
    const RECEIVED: &'static [u8; 9] = b"received:";

    fn extend(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(self.octets.len() - self.len);
        self.octets[self.len..self.len + take].copy_from_slice(&bytes[..take]);
        self.len += take;
    }
    fn is_received(&self) -> bool {
        self.octets[..self.len].eq_ignore_ascii_case(Self::RECEIVED)
    }
}
