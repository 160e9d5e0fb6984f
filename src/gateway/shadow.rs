//! The shadow policy of a running server: from the configuration, or begun and ended by an administrator.
//!
//! How it fails: a file with errors begins nothing, and what ran goes on.

use super::admin::{Response, ShadowStatus};
use super::config::Config;
use super::policy_file;
use super::state::Shared;
use crate::policy::{Limits, ShadowPolicy};
use std::path::Path;
use std::sync::Arc;

/// A shadow with this file. Its limits, greylisting and history begin empty, and are as large as those of the policy.
pub(super) fn open(config: &Config, secret: u64, file: &Path) -> Result<Arc<ShadowPolicy>, String> {
    let policy = policy_file::load_from(config, Some(file))?;
    tracing::info!(target: "shadow", name = policy.name(), version = policy.version(), "a second policy decides beside the first, and nobody hears it");
    let limits = Limits::new(config.settings.limits.keys_max, secret);
    Ok(ShadowPolicy::new(Arc::new(policy), limits, config.settings.policy.shadow_lookups))
}

/// Begins, or begins anew. Sessions that are open go on without it.
pub(super) fn start(shared: &Shared, file: &Path) -> Response {
    match open(&shared.config, shared.limits.secret(), file) {
        Ok(shadow) => {
            shared.shadow.store(Some(shadow));
            status(shared)
        }
        Err(error) => Response::failed("invalid", error.trim_end()),
    }
}

/// Ends it.
pub(super) fn stop(shared: &Shared) -> Response {
    let last = status(shared);
    shared.shadow.store(None);
    last
}

/// What it has said so far.
pub(super) fn status(shared: &Shared) -> Response {
    let shadow = shared.shadow.load();
    Response::Shadow(shadow.as_ref().map(|shadow| {
        let counts = shadow.counts();
        ShadowStatus {
            file: shadow.policy().name().to_owned(),
            version: shadow.policy().version().to_owned(),
            decisions: counts.decisions,
            tightened: counts.tightened,
            loosened: counts.loosened,
            other_refusal: counts.other_refusal,
            other_detail: counts.other_detail,
            undecided: counts.undecided,
            not_reached: counts.not_reached,
        }
    }))
}
