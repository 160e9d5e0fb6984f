//! The queue of a stopped server, opened from its directory: every core's part of it answers, as in a running server.
//!
//! How it fails: one line when the directory is held or damaged; a change that is not on disk is a failure.

use crate::base::time::WallTime;
use crate::control::cli::Failure;
use crate::control::lock::DataLock;
use crate::gateway::admin::{Request, Response};
use crate::gateway::{data, queue};
use crate::log::RealDisk;
use crate::spool::{Spool, SpoolKnobs};
use std::path::Path;

/// The parts of the queue, held by us.
pub struct Offline {
    spools: Vec<Spool<RealDisk>>,
    lifetime_ms: u64,
    // Given up last.
    _lock: DataLock,
}

impl Offline {
    /// Opens the queue of a data directory.
    pub fn open(dir: &Path, knobs: &SpoolKnobs, now: WallTime) -> Result<Offline, Failure> {
        let lock = DataLock::take_existing(dir).map_err(|e| Failure::new(e.to_string()))?;
        let fail = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot open the queue in {}: {error}", dir.display()))
        };
        let mut spools = Vec::new();
        for (core, path) in data::spool_dirs(dir).map_err(|e| fail(&e))? {
            let rng = fastrand::Rng::new();
            let opened = Spool::open(RealDisk, &path, knobs.clone(), core, now, rng);
            let (spool, recovery) = opened.map_err(|e| fail(&e))?;
            if recovery.is_damaged() {
                eprintln!("gatepost: warning: {} is damaged: {recovery:?}", path.display());
            }
            spools.push(spool);
        }
        let lifetime_ms = u64::try_from(knobs.lifetime.as_millis()).unwrap_or(u64::MAX);
        Ok(Offline { spools, lifetime_ms, _lock: lock })
    }

    /// The answer of all parts together; changes are on disk when it is given.
    pub fn call(&mut self, request: &Request, now: WallTime) -> Response {
        if self.spools.is_empty() && matches!(request, Request::QueueList { .. }) {
            return Response::Queue { entries: Vec::new(), more: false };
        }
        let mut answers = Vec::new();
        for spool in &mut self.spools {
            let Some(answer) = queue::answer(spool, request, self.lifetime_ms, now) else {
                return Response::failed("not-running", "no server runs");
            };
            if spool.needs_commit() {
                spool.commit();
            }
            if spool.needs_commit() {
                return Response::failed("disk", "the change could not be written to disk");
            }
            answers.push(answer);
        }
        let limit = match request {
            Request::QueueList { limit, .. } => *limit as usize,
            _ => usize::MAX,
        };
        queue::join(answers, limit)
    }
}
