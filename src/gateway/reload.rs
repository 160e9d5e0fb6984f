//! Policy, lists, local domains and certificates anew, while sessions go on with what they began with.
//!
//! How it fails: what has an error changes nothing; all diagnostics go to the log and to whoever asked.

use super::config::{Config, Host};
use super::state::{self, Shared};
use super::{policy_file, shadow, with_domains};
use std::path::PathBuf;
use std::sync::Arc;

/// What is different now, a line for each; or what is wrong.
pub(super) type Changes = Result<Vec<String>, String>;

/// Policy, lists, local domains and certificates anew.
pub(super) fn reload(shared: &Shared, host: &Arc<dyn Host>) -> Changes {
    reload_with(shared, host, &|shared, config| {
        // All that can fail comes before anything is changed.
        state::server_tls(config).map_err(certificates_failed)?;
        let mut changes = reload_policy(shared, config)?;
        changes.extend(reload_certificates(shared, config)?);
        changes.extend(takes_a_restart(&shared.config, config));
        tracing::info!(target: "server", ?changes, "policy, lists and certificates are read again; other settings take a restart");
        Ok(changes)
    })
}

/// Reads the configuration again, with the local domains of now, and takes from it what can change.
pub(super) fn reload_with(
    shared: &Shared,
    host: &Arc<dyn Host>,
    take: &dyn Fn(&Shared, &Config) -> Changes,
) -> Changes {
    let config = host.reload().inspect_err(|diagnostics| {
        tracing::error!(target: "server", "not reloaded, the configuration has errors:\n{diagnostics}");
    })?;
    let config = with_domains(config, &shared.addresses.domains());
    shared.routing.set_mailbox_domains(&config);
    take(shared, &config)
}

fn certificates_failed(error: super::config::StartError) -> String {
    tracing::error!(target: "server", %error, "not reloaded, the certificates cannot be used");
    format!("the certificates cannot be used: {error}")
}

/// Certificates anew, for the handshakes that begin from now on.
pub(super) fn reload_certificates(shared: &Shared, config: &Config) -> Changes {
    let tls = state::server_tls(config).map_err(certificates_failed)?;
    let fingerprints = tls.fingerprints();
    if fingerprints == shared.server_tls.load().fingerprints() {
        return Ok(Vec::new());
    }
    shared.server_tls.store(Arc::new(tls));
    tracing::info!(target: "server", fingerprints = fingerprints.join(" "), "certificates reloaded");
    Ok(vec![format!("~ certificates: {}", fingerprints.join(", "))])
}

/// Sections whose settings differ from those that run, which a reload does not change.
fn takes_a_restart(running: &Config, read: &Config) -> Vec<String> {
    let mut running_settings = running.settings.clone();
    let mut read_settings = read.settings.clone();
    // The policy's file is read anew.
    running_settings.server.policy.clone_from(&read_settings.server.policy);
    let mut changed = Vec::new();
    for (before, now) in running_settings.sections().into_iter().zip(read_settings.sections()) {
        let differ = before.values().into_iter().zip(now.values()).filter(|(a, b)| a != b);
        changed.extend(differ.map(|((key, a), (_, b))| format!("{}.{key} {a} → {b}", now.name())));
    }
    let texts = [
        ("routes", format!("{:?}", running.routes), format!("{:?}", read.routes)),
        ("pools", format!("{:?}", running.pools), format!("{:?}", read.pools)),
    ];
    changed.extend(texts.into_iter().filter(|(_, a, b)| a != b).map(|(what, ..)| what.to_owned()));
    if changed.is_empty() {
        return Vec::new();
    }
    vec![format!("! not changed until a restart: {}", changed.join(", "))]
}

/// The policy and its lists anew, for the sessions that begin from now on; the shadow policy too, where one runs.
pub(super) fn reload_policy(shared: &Shared, config: &Config) -> Changes {
    let policy = policy_file::load(config).inspect_err(|diagnostics| {
        tracing::error!(target: "policy", "policy not reloaded, it has errors:\n{diagnostics}");
    })?;
    reload_shadow(shared, config);
    let before = shared.policy.load_full();
    let changes = policy.differences(&before);
    shared.limits.reloaded();
    if policy.version() == before.version() {
        return Ok(changes);
    }
    let (version, policy) = (policy.version().to_owned(), Arc::new(policy));
    shared.meters.verdicts.install(policy.clone());
    shared.policy.store(policy);
    for change in &changes {
        tracing::info!(target: "policy", "{change}");
    }
    tracing::info!(target: "policy", version, "policy reloaded; sessions keep the one they began with");
    Ok(changes)
}

fn reload_shadow(shared: &Shared, config: &Config) {
    let Some(running) = shared.shadow.load_full() else { return };
    let file = PathBuf::from(running.policy().name());
    match shadow::open(config, shared.limits.secret(), &file) {
        // An unchanged one keeps what it has counted.
        Ok(shadow) if shadow.policy().version() == running.policy().version() => {}
        Ok(shadow) => shared.shadow.store(Some(shadow)),
        Err(diagnostics) => tracing::error!(target: "shadow", "not reloaded, it has errors:\n{diagnostics}"),
    }
}
