//! The byte encoding of values that are kept on disk: varints, byte strings, options. One writer, one reader.
//!
//! How it fails: reading foreign or torn bytes returns [`CodecError`] with the offset; it never panics or over-allocates.

use std::fmt;

/// What was wrong with encoded bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError {
    /// Offset of the octet at which reading stopped.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at octet {}: expected {}", self.at, self.expected)
    }
}

impl std::error::Error for CodecError {}

/// Appends values to a byte vector.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// An unsigned number, seven bits an octet, low first.
    pub fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    /// One octet.
    pub fn octet(&mut self, n: u8) {
        self.0.push(n);
    }
    /// Length, then the octets.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    /// Length, then UTF-8.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
    /// 0, or 1 and the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.octet(0),
            Some(v) => {
                self.octet(1);
                write(self, v);
            }
        }
    }
}

/// Takes values off a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first octet.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }
    /// An error at the current offset.
    pub fn error(&self, expected: &'static str) -> CodecError {
        CodecError { at: self.at, expected }
    }
    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
    /// One octet.
    pub fn octet(&mut self) -> Result<u8, CodecError> {
        let n = *self.bytes.get(self.at).ok_or_else(|| self.error("an octet"))?;
        self.at += 1;
        Ok(n)
    }
    /// See [`Writer::varint`].
    pub fn varint(&mut self) -> Result<u64, CodecError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.octet()?;
            if shift == 63 && b > 1 {
                break;
            }
            n |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(n);
            }
        }
        Err(self.error("a number below 2^64"))
    }
    /// See [`Writer::bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let n = usize::try_from(self.varint()?).map_err(|_| self.error("a length"))?;
        let end = self.at.checked_add(n).filter(|e| *e <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("as many octets as the length says"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
    /// See [`Writer::text`].
    pub fn text(&mut self) -> Result<&'a str, CodecError> {
        let start = self.clone();
        std::str::from_utf8(self.bytes()?).map_err(|_| start.error("UTF-8"))
    }
    /// See [`Writer::option`].
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        match self.octet()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.error("0 or 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_texts_come_back(n: u64, s in ".*", o: Option<u8>) {
            let mut bytes = Vec::new();
            let mut w = Writer(&mut bytes);
            w.varint(n);
            w.text(&s);
            w.option(o, |w, o| w.octet(o));
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.varint().unwrap(), n);
            prop_assert_eq!(r.text().unwrap(), s);
            prop_assert_eq!(r.option(|r| r.octet()).unwrap(), o);
            prop_assert!(r.rest().is_empty());
        }

        #[test]
        fn foreign_bytes_are_an_error_not_a_panic(bytes: Vec<u8>) {
            let mut r = Reader::new(&bytes);
            while r.text().is_ok() && !r.rest().is_empty() {}
        }
    }
}
