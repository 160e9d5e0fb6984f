//! A set of marks in one octet, so that an idle connection stays small. Each user names its own bits.
//!
//! How it fails: it does not.

/// Up to eight marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// Whether any of `bits` is set.
    pub(super) const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    pub(super) const fn set(&mut self, bits: u8) {
        self.0 |= bits;
    }

    pub(super) const fn clear(&mut self, bits: u8) {
        self.0 &= !bits;
    }

    pub(super) const fn put(&mut self, bits: u8, on: bool) {
        if on { self.set(bits) } else { self.clear(bits) }
    }
}
