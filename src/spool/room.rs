//! Room for more mail: the limits of the queue and what the disk has left.
//!
//! How it fails: [`Room`] names the limit. Free room is counted down by what is written and asked for again now and then;
//! before anybody is refused for want of it the disk is asked, so that a queue that had been full goes on by itself.

use super::store::Spool;
use super::{NewMessage, Room};
use crate::base::body::Store;
use crate::log::Disk;

impl<D: Disk> Spool<D> {
    /// Removes the files of bodies that nobody has any more, and asks the disk what is free.
    pub(super) fn look_around(&mut self) {
        self.bodies.sweep();
        // A disk that cannot say is believed to be as it was; writing to it will tell.
        if let Ok(free) = self.disk.free_octets(&self.directory) {
            self.free_octets = free;
        }
    }

    /// Whether so many octets more leave `spool.free_octets_min` free.
    pub(super) fn disk_has_room(&mut self, octets: u64) -> bool {
        let has = |spool: &Self| spool.free_octets.saturating_sub(octets) >= spool.knobs.free_octets_min.0;
        has(self) || {
            self.look_around();
            has(self)
        }
    }

    /// Whether a message may come in.
    pub(super) fn room_for(&mut self, message: &NewMessage) -> Result<(), Room> {
        match self.room(message) {
            Err(Room::Disk) => {
                self.look_around();
                self.room(message)
            }
            found => found,
        }
    }

    fn room(&self, message: &NewMessage) -> Result<(), Room> {
        let knobs = &self.knobs;
        let octets = message.body.shape.octets + message.prefix.len() as u64;
        if (self.index.len() + self.staged.len()) as u64 >= knobs.messages_max {
            return Err(Room::Messages);
        }
        if self.octets + self.staged_octets + octets > knobs.octets_max.0 {
            return Err(Room::Octets);
        }
        // A file body is written already; one in memory goes to the log, or to a file of its own.
        let to_write = if matches!(message.body.store, Store::Memory(_)) { octets } else { 0 };
        let free = self.free_octets.saturating_sub(self.staged_octets + to_write);
        if free < knobs.free_octets_min.0 {
            return Err(Room::Disk);
        }
        // What must be written to get rid of mail (states, tombstones, copies) always finds room.
        let reserve = knobs.segment_octets.0 / 8;
        let in_log = octets.min(knobs.body_inline_octets_max.0) + reserve;
        if self.log.room_octets() < self.staged_octets + in_log && free < knobs.segment_octets.0 {
            return Err(Room::Disk);
        }
        Ok(())
    }
}
