//! What must hold between sections: names that refer to something, required keys, addresses that do not clash. Makes
//! the [`Config`] out of the draft that was read.
//!
//! How it fails: each offence is a diagnostic at the word to blame; without a usable value the result is `None`.

mod helpers;
mod listeners;
mod routes;

use crate::base::address::Domain;
use crate::control::config::{Draft, Overrides};
use crate::control::diagnostic::Diagnostic;
use crate::control::reader::{Reader, Seen};
use crate::gateway::config::{Certificate, Config};
use crate::wire::address::{parse_domain, parse_mailbox};
use std::path::PathBuf;

/// Makes the configuration; the reader collects what is wrong.
pub fn resolve(reader: &mut Reader<'_>, draft: &Draft, overrides: &Overrides, file: Option<PathBuf>) -> Option<Config> {
    let domains = domains(reader, draft, overrides);
    let hostname = hostname(reader, draft, overrides, domains.first());
    let listeners = listeners::listeners(reader, draft, overrides);
    let (pools, routes) = routes::routes(reader, draft, overrides, &domains);
    let helpers = helpers::helpers(reader, draft, &listeners);
    let certificates = certificates(reader, draft);
    log_targets(reader, draft, overrides);
    if let Err(message) = draft.settings.acme.check() {
        let at = draft.seen.get("acme").map(|seen| seen.span("directory"));
        match at {
            Some(at) => reader.error(at, message, None),
            None => reader.diagnostics.push(Diagnostic::flag(message)),
        }
    }
    Some(Config {
        file,
        settings: draft.settings.clone(),
        hostname: hostname?,
        domains,
        listeners,
        pools,
        routes,
        helpers,
        certificates,
    })
}

/// Blames a knob of a plain section: the flag that set it, or item `index` of its value in the file.
fn blame(
    reader: &mut Reader<'_>,
    draft: &Draft,
    overrides: &Overrides,
    (section, key): (&'static str, &str),
    index: usize,
    message: String,
) {
    match (overrides.flag(section, key), draft.seen.get(section)) {
        (Some(flag), _) => reader.diagnostics.push(Diagnostic::flag(format!("{flag}: {message}"))),
        (None, Some(seen)) => reader.error(seen.item(key, index), message, None),
        (None, None) => reader.diagnostics.push(Diagnostic::flag(format!("{section}.{key}: {message}"))),
    }
}

fn domains(reader: &mut Reader<'_>, draft: &Draft, overrides: &Overrides) -> Vec<Domain> {
    let mut domains = Vec::new();
    for (index, text) in draft.settings.server.domains.iter().enumerate() {
        match parse_domain(text) {
            Ok(domain) if !domains.contains(&domain) => domains.push(domain),
            Ok(_) => {}
            Err(error) => {
                let message = format!("{text:?} is no domain name: {error}");
                blame(reader, draft, overrides, ("server", "domains"), index, message);
            }
        }
    }
    domains
}

fn hostname(
    reader: &mut Reader<'_>,
    draft: &Draft,
    overrides: &Overrides,
    first_domain: Option<&Domain>,
) -> Option<Domain> {
    let Some(text) = &draft.settings.server.hostname else { return Some(own_name(first_domain)) };
    parse_domain(text)
        .map_err(|error| {
            let message = format!("{text:?} is no host name: {error}");
            blame(reader, draft, overrides, ("server", "hostname"), 0, message);
        })
        .ok()
}

/// The machine's name, made full with the first local domain (RFC 5321 §2.3.5 wants a fully-qualified one).
fn own_name(first_domain: Option<&Domain>) -> Domain {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = machine.trim();
    let full = match first_domain {
        Some(domain) if !machine.contains('.') => format!("{machine}.{domain}"),
        _ => machine.to_owned(),
    };
    parse_domain(&full).or_else(|_| parse_domain(machine)).unwrap_or_else(|_| Domain::from_checked("localhost"))
}

fn certificates(reader: &mut Reader<'_>, draft: &Draft) -> Vec<Certificate> {
    let mut certificates = Vec::new();
    for (knobs, seen) in &draft.certificates {
        match (&knobs.chain, &knobs.key) {
            (Some(chain), Some(key)) => certificates.push(Certificate { chain: chain.clone(), key: key.clone() }),
            (None, _) => missing(reader, seen, "chain", "[[tls.certificate]]"),
            (_, None) => missing(reader, seen, "key", "[[tls.certificate]]"),
        }
    }
    certificates
}

fn log_targets(reader: &mut Reader<'_>, draft: &Draft, overrides: &Overrides) {
    for (index, text) in draft.log.targets.iter().enumerate() {
        if let Err(message) = crate::control::log::filter::parse_target(text) {
            blame(reader, draft, overrides, ("log", "targets"), index, message);
        }
    }
}

/// Reports that a required key is not there, unless it is there and was refused.
fn missing(reader: &mut Reader<'_>, seen: &Seen, key: &str, header: &str) {
    if !seen.has(key) {
        reader.error(seen.header.clone(), format!("{header} has no {key:?}, which is required"), None);
    }
}

/// Reports what is no mailbox in a list of addresses.
fn check_addresses(reader: &mut Reader<'_>, seen: &Seen, key: &str, addresses: &[String]) {
    for (index, text) in addresses.iter().enumerate() {
        if let Err(error) = parse_mailbox(text) {
            reader.error(seen.item(key, index), format!("{text:?} is no mail address: {error}"), None);
        }
    }
}
