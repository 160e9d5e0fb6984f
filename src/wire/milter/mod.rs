//! The milter protocol, version 6, as Sendmail's `libmilter/mfdef.h` has it: what a mail server tells a filter
//! ([`Command`]) and what the filter answers ([`Response`]), to octets and back.
//!
//! A frame is a length (32 bits, big endian, counting what follows), one octet that names it, and its data; texts in it
//! end with NUL. There is no RFC; where the header leaves something open, libmilter's behaviour decides. How it fails:
//! [`MilterError`] names the offence; whatever comes in, nothing panics and nothing longer than
//! [`FRAME_OCTETS_MAX`] is waited for.

mod command;
mod fields;
mod frame;
mod negotiation;
mod response;
#[cfg(test)]
mod tests;

pub use command::{Command, Peer};
pub use fields::{HeaderField, HeaderFields, header_fields};
pub use frame::{DATA_OCTETS_MAX, FRAME_OCTETS_MAX, Frame, frame};
pub use negotiation::{Actions, Negotiation, STAGES, Stage, Steps, VERSION, VERSION_MIN};
pub use response::Response;

use std::borrow::Cow;
use std::fmt;

/// Octets of a text, without the NUL that ends it on the wire.
pub type Text<'a> = Cow<'a, [u8]>;

/// What is wrong with a frame. The one who sent it is at fault; asking again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MilterError {
    /// A frame without the octet that names it.
    Empty,
    /// Longer than [`FRAME_OCTETS_MAX`].
    TooLong(u32),
    /// No frame is called so.
    Unknown(u8),
    /// The data of this frame ends too early.
    Short(u8),
    /// A text in the data of this frame has no NUL at its end.
    Unterminated(u8),
    /// There is something behind the data of this frame.
    Trailing(u8),
    /// An address family, a stage or a number that does not exist, in this frame.
    Value(u8),
}

impl fmt::Display for MilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |code: u8| (code as char).escape_default().to_string();
        match *self {
            MilterError::Empty => f.write_str("a frame without a name"),
            MilterError::TooLong(n) => write!(f, "a frame of {n} octets, {FRAME_OCTETS_MAX} are allowed"),
            MilterError::Unknown(code) => write!(f, "an unknown frame '{}'", name(code)),
            MilterError::Short(code) => write!(f, "frame '{}' ends too early", name(code)),
            MilterError::Unterminated(code) => write!(f, "a text in frame '{}' does not end", name(code)),
            MilterError::Trailing(code) => write!(f, "frame '{}' has too much in it", name(code)),
            MilterError::Value(code) => write!(f, "frame '{}' has a value that does not exist", name(code)),
        }
    }
}

impl std::error::Error for MilterError {}

/// Appends a text with its NUL. A NUL inside would end it early: it becomes a space.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|b| if *b == 0 { b' ' } else { *b }));
    out.push(0);
}

/// Reads the data of a frame piece by piece.
struct Data<'a> {
    code: u8,
    rest: &'a [u8],
}

impl<'a> Data<'a> {
    fn of(frame: Frame<'a>) -> Data<'a> {
        Data { code: frame.code, rest: frame.data }
    }

    fn octets(&mut self, n: usize) -> Result<&'a [u8], MilterError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(MilterError::Short(self.code))?;
        self.rest = rest;
        Ok(head)
    }

    fn octet(&mut self) -> Result<u8, MilterError> {
        Ok(self.octets(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, MilterError> {
        let octets = self.octets(2)?;
        Ok(u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn u32(&mut self) -> Result<u32, MilterError> {
        let octets = self.octets(4)?;
        Ok(u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]))
    }

    fn text(&mut self) -> Result<Text<'a>, MilterError> {
        if self.rest.is_empty() {
            return Err(MilterError::Short(self.code));
        }
        let end = memchr::memchr(0, self.rest).ok_or(MilterError::Unterminated(self.code))?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(Cow::Borrowed(text))
    }

    fn texts(&mut self) -> Result<Vec<Text<'a>>, MilterError> {
        let mut texts = Vec::new();
        while !self.rest.is_empty() {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn end(&self) -> Result<(), MilterError> {
        if self.rest.is_empty() { Ok(()) } else { Err(MilterError::Trailing(self.code)) }
    }
}
