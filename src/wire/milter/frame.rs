//! Frames: where one begins and ends in a stream.
//!
//! How it fails: a length that is zero or above the limit is an error at once, before any of it is waited for.

use super::MilterError;

/// Octets of data in a frame towards a filter at most: libmilter drops a connection that sends more
/// (`MILTER_MAX_DATA_SIZE`). It is also the largest piece of a body (`MILTER_CHUNK_SIZE`).
pub const DATA_OCTETS_MAX: usize = 65_535;

/// Octets of a frame from a filter at most, its name included: the largest size libmilter can be built for
/// (`MILTER_MDS_1M`).
pub const FRAME_OCTETS_MAX: usize = 1024 * 1024;

const _: () = assert!(DATA_OCTETS_MAX < FRAME_OCTETS_MAX);

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its name.
    pub code: u8,
    /// Its data.
    pub data: &'a [u8],
}

/// The frame at the front of `input` and the octets it takes; `None` when it is not whole yet.
pub fn frame(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, MilterError> {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    if length == 0 {
        return Err(MilterError::Empty);
    }
    let octets = usize::try_from(length).unwrap_or(usize::MAX);
    if octets > FRAME_OCTETS_MAX {
        return Err(MilterError::TooLong(length));
    }
    let Some(whole) = rest.get(..octets) else { return Ok(None) };
    Ok(Some((Frame { code: whole[0], data: &whole[1..] }, 4 + octets)))
}

/// Appends a frame whose data `fill` appends.
pub(super) fn put_frame(out: &mut Vec<u8>, code: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, code]);
    fill(out);
    // Nobody makes a frame of 4 GiB: what is told has passed the limits of a message.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}
