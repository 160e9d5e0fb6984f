//! Sequence sets: `1:3,7,9:*` and `$` (RFC 9051 §9, RFC 5182).
//!
//! How it fails: 0 and more than [`SET_RANGES_MAX`] ranges are refused.

use super::command::{Bound, SequenceSet};
use super::reader::{Fault, Read, Reader};

/// Ranges in one set at most. A line of 64 KiB could hold thirty thousand.
pub const SET_RANGES_MAX: usize = 10_000;

/// sequence-set
pub(super) fn sequence_set(r: &mut Reader<'_>) -> Read<SequenceSet> {
    if r.eat(b'$') {
        return Ok(SequenceSet::Saved);
    }
    let mut ranges = Vec::new();
    loop {
        let first = bound(r)?;
        let last = if r.eat(b':') { bound(r)? } else { first };
        if ranges.len() == SET_RANGES_MAX {
            return Err(Fault::new(format!("a set can have {SET_RANGES_MAX} ranges")));
        }
        ranges.push((first, last));
        if !r.eat(b',') {
            return Ok(SequenceSet::Ranges(ranges));
        }
    }
}

/// Whether a set can begin here.
pub(super) fn at_set(r: &Reader<'_>) -> bool {
    matches!(r.peek(), Some(b'0'..=b'9' | b'*' | b'$'))
}

/// seq-number
pub(super) fn bound(r: &mut Reader<'_>) -> Read<Bound> {
    if r.eat(b'*') { Ok(Bound::Highest) } else { r.nz_number("a message number or *").map(Bound::Number) }
}

/// The first of a range that may stand alone for REPLACE: a number or `*`, no range (RFC 8508 §3.1).
pub(super) fn single(r: &mut Reader<'_>) -> Read<Bound> {
    let one = bound(r)?;
    if matches!(r.peek(), Some(b':' | b',')) { Err(r.expected("a single message")) } else { Ok(one) }
}
