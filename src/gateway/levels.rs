//! What a core tells of itself beside its work: octets that pass, and at its regular tick the levels of what it holds.
//!
//! How it fails: it does not.

use super::core::{Core, End};
use super::pipe::Pipe;
use crate::base::id::SessionId;
use crate::base::time::Instant;
use std::time::Duration;

/// The connections are looked through this often: it costs some nanoseconds for each.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a core has looked through its connections last.
#[derive(Debug, Default)]
pub(super) struct Looked(Instant);

impl End {
    fn pipe(&mut self) -> &mut Pipe {
        match self {
            End::Client(c) => &mut c.pipe,
            End::Access(a) => &mut a.pipe,
            End::Opening(o) => &mut o.pipe,
            End::Leg(l) => l.pipe(),
        }
    }
}

impl Core {
    /// Octets came from somebody.
    #[inline]
    pub(super) fn count_received(&self, from: Option<&End>, octets: usize) {
        match from {
            Some(End::Leg(_)) => self.meter.backend_octets[0].add(octets as u64),
            _ => self.meter.client_octets[0].add(octets as u64),
        }
    }

    /// What was given to the driver has gone.
    #[inline]
    pub(super) fn count_sent(&self, to: Option<&mut End>) {
        let Some(end) = to else { return };
        let octets = end.pipe().take_sent_octets();
        match end {
            End::Leg(_) => self.meter.backend_octets[1].add(octets),
            _ => self.meter.client_octets[1].add(octets),
        }
    }

    /// Writes what the core holds now where a scrape finds it.
    pub(super) fn publish_levels(&mut self) {
        let meter = self.meter.clone();
        meter.body_octets.set(self.body_octets as u64);
        meter.recipients_cached.set(self.recipients.len() as u64);
        let (open, idle, waiting) = self.outbound.levels();
        meter.legs[0].set(open as u64);
        meter.legs[1].set(idle as u64);
        meter.jobs_waiting.set(waiting as u64);
        if self.now.since(self.looked.0) < LOOK_EVERY {
            return;
        }
        self.looked = Looked(self.now);
        let (mut octets, mut tls) = (0, 0);
        for end in self.ends_mut() {
            let pipe = end.pipe();
            octets += pipe.held_octets() as u64;
            tls += u64::from(pipe.is_tls());
        }
        meter.buffer_octets.set(octets);
        meter.tls_connections.set(tls);
    }

    /// The record of a session that is open on this core, as far as it goes.
    pub(super) fn peek(&mut self, session: SessionId) -> Option<Vec<u8>> {
        self.ends_mut().find_map(|end| match end {
            End::Client(c) if c.session == session => c.judge.so_far(),
            End::Access(a) if a.session() == session => a.judge().so_far(),
            _ => None,
        })
    }
}
