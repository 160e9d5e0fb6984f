//! When the maps of segments are written: see [`super::super::map`].
//!
//! How it fails: a segment whose map cannot be written is left without for as long as the log is open.

use super::{HasMap, Log, Segment};
use crate::log::disk::Disk;
use crate::log::map::{self, Extent, FrontOf};
use crate::log::record::PAGE;

/// Octets written into the active segment after which its map is written again.
const MAP_AGAIN_OCTETS: u64 = 8 << 20;

impl<D: Disk> Log<D> {
    /// Work for an idle moment: writes the map of one segment that has none, or an old one. Whether it did.
    pub fn write_maps(&mut self, front_of: FrontOf) -> bool {
        let wants = |(number, segment): (&u32, &Segment<D::File>)| {
            let active = self.active == Some(*number);
            let old = match segment.mapped {
                None => true,
                Some(map) if active => segment.end - map.upto >= MAP_AGAIN_OCTETS.min(segment.octets / 4),
                Some(map) => !map.complete || segment.live.len() * 4 < map.live * 3,
            };
            let any = !segment.live.is_empty() && (!active || segment.end > PAGE);
            (old && any && !segment.damaged).then_some(*number)
        };
        let Some(number) = self.segments.iter().find_map(wants) else { return false };
        self.write_map(number, front_of)
    }

    /// For an orderly end: the next start reads no segment. What is appended after this begins a new one.
    pub fn write_last_maps(&mut self, front_of: FrontOf) {
        debug_assert!(self.staged.is_empty(), "what is staged is committed before the end");
        if let Some(number) = self.active.take() {
            self.previous = Some(number);
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.mapped = None;
            }
        }
        while self.write_maps(front_of) {}
    }

    fn write_map(&mut self, number: u32, front_of: FrontOf) -> bool {
        let (active, next_sequence) = (self.active == Some(number), self.next_sequence);
        let Some(segment) = self.segments.get_mut(&number) else { return false };
        let kept_octets = segment.kept_octets;
        let extent =
            Extent { upto: segment.end, complete: !active, sealed: segment.sealed, next_sequence, kept_octets };
        let (share, of) = (&segment.share, (number, segment.share.mark));
        let written = map::write(&self.disk, &self.directory, &share.file, of, extent, &segment.live, front_of);
        match written {
            Ok(()) => {
                let (upto, live) = (segment.end, segment.live.len());
                segment.mapped = Some(HasMap { upto, live, complete: !active });
            }
            // What cannot be read is looked at anew at each start; a disk that is full now may have room then.
            Err(_) => segment.damaged = true,
        }
        written.is_ok()
    }
}
