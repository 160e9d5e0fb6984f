//! Pools and routes: every route leads somewhere, every reference is known, no recipient has two ways.
//!
//! How it fails: diagnostics at the word to blame.

use crate::base::address::Domain;
use crate::base::knob::{KnobType, Raw};
use crate::control::config::{Draft, DraftPool, Overrides};
use crate::control::diagnostic::Diagnostic;
use crate::control::nearest::nearest;
use crate::control::reader::{Reader, Seen};
use crate::control::resolve::{blame, check_addresses, missing};
use crate::gateway::targets::{
    BackendKnobs, BackendProtocol, BackendTls, HostPort, PoolConfig, PoolKnobs, RouteConfig, RouteKnobs, RouteMode,
    Target, Verify,
};
use crate::wire::address::parse_domain;
use std::collections::BTreeMap;

/// Name of the pool that `--backend` makes.
const FLAG_POOL: &str = "backend-flag";

/// Pools and routes of the file, with what the flags and the defaults add.
pub fn routes(
    reader: &mut Reader<'_>,
    draft: &Draft,
    overrides: &Overrides,
    domains: &[Domain],
) -> (Vec<PoolConfig>, Vec<RouteConfig>) {
    let mut pools: Vec<PoolConfig> = draft.pools.iter().map(|pool| resolve_pool(reader, pool)).collect();
    let mut routes: Vec<RouteConfig> = Vec::new();
    for (name, knobs, seen) in &draft.routes {
        routes.extend(resolve_route(reader, draft, name, knobs, seen));
    }
    check_overlaps(reader, draft);
    // The route that takes the rest stands last.
    routes.sort_by_key(is_default);
    if !overrides.backends.is_empty() {
        backend_flags(reader, draft, overrides, &mut pools, &mut routes);
    }
    if draft.settings.server.mode == Some(RouteMode::Mailbox) {
        let message = "mode \"mailbox\" is for routes: give it to a [route.NAME]";
        blame(reader, draft, overrides, ("server", "mode"), 0, message.to_owned());
    }
    if draft.routes.is_empty() && overrides.backends.is_empty() && !domains.is_empty() {
        routes.push(local_route(reader, draft, overrides, domains));
    }
    if !routes.iter().any(is_default) {
        let knobs = RouteKnobs { mx: true, ..RouteKnobs::default() };
        routes.push(RouteConfig { name: "default".into(), knobs, mode: RouteMode::Spool, target: Target::Mx });
    }
    (pools, routes)
}

fn is_default(route: &RouteConfig) -> bool {
    route.knobs.domains.is_empty() && route.knobs.addresses.is_empty()
}

fn resolve_pool(reader: &mut Reader<'_>, pool: &DraftPool) -> PoolConfig {
    let header = format!("[[pool.{}.backend]]", pool.name);
    if pool.backends.is_empty() {
        let message = format!("pool {:?} has no backend", pool.name);
        reader.error(pool.seen.header.clone(), message, Some(format!("add {header} with an address")));
    }
    for (knobs, seen) in &pool.backends {
        check_backend(reader, &header, knobs, seen);
    }
    let backends = pool.backends.iter().map(|(knobs, _)| knobs.clone()).collect();
    PoolConfig { name: pool.name.clone(), knobs: pool.knobs.clone(), backends }
}

fn check_backend(reader: &mut Reader<'_>, header: &str, knobs: &BackendKnobs, seen: &Seen) {
    if knobs.address.is_none() {
        missing(reader, seen, "address", header);
    }
    if knobs.user.is_some() != knobs.password_file.is_some() {
        let (there, other) = if knobs.user.is_some() { ("user", "password_file") } else { ("password_file", "user") };
        reader.error(seen.span(there), format!("{there:?} without {other:?}: AUTH needs both"), None);
    }
    if let Some(pin) = &knobs.tls_pin
        && (pin.len() != 64 || !pin.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        reader.error(seen.span("tls_pin"), "expected the 64 hexadecimal digits of a SHA-256", None);
    }
    let verified = matches!(knobs.tls, BackendTls::Required | BackendTls::Implicit);
    for key in ["tls_name", "tls_pin", "tls_ca"] {
        if seen.has(key) && !verified {
            let message = format!("{key:?} has no effect with tls = {:?}", knobs.tls.word());
            reader.warning(seen.span(key), message, Some("did you mean tls = \"required\"?".into()));
        }
    }
}

fn resolve_route(
    reader: &mut Reader<'_>,
    draft: &Draft,
    name: &str,
    knobs: &RouteKnobs,
    seen: &Seen,
) -> Option<RouteConfig> {
    check_addresses(reader, seen, "addresses", &knobs.addresses);
    for (index, text) in knobs.domains.iter().enumerate() {
        if let Err(error) = parse_domain(text.strip_prefix('.').unwrap_or(text)) {
            reader.error(seen.item("domains", index), format!("{text:?} is no domain name: {error}"), None);
        }
    }
    match (knobs.verify, &knobs.table) {
        (Verify::Table, None) => {
            reader.error(seen.span("verify"), "verify = \"table\" needs a \"table\" of addresses", None);
        }
        (Verify::None | Verify::Callout, Some(_)) => {
            reader.warning(seen.span("table"), "\"table\" is read only with verify = \"table\"", None);
        }
        _ => {}
    }
    let target = target(reader, draft, name, knobs, seen)?;
    if knobs.verify == Verify::Callout && matches!(target, Target::Mx | Target::Mailboxes) {
        reader.error(seen.span("verify"), "a callout needs a \"pool\" or a \"smarthost\" to ask", None);
    }
    let mode = mode(knobs.mode.or(draft.settings.server.mode), &target);
    if knobs.mode == Some(RouteMode::CutThrough) && mode != RouteMode::CutThrough {
        let message = "mode \"cut-through\" needs a \"pool\" or a \"smarthost\" that answers while the client waits";
        reader.error(seen.span("mode"), message, None);
    }
    Some(RouteConfig { name: name.to_owned(), knobs: knobs.clone(), mode, target })
}

/// Where mail can go at once decides what can stand behind a 250.
fn mode(wanted: Option<RouteMode>, target: &Target) -> RouteMode {
    match target {
        // Only a route that says so itself leads to mailboxes.
        Target::Pool(_) | Target::Smarthost(_) => {
            wanted.filter(|mode| *mode != RouteMode::Mailbox).unwrap_or(RouteMode::CutThrough)
        }
        Target::Mx => RouteMode::Spool,
        Target::Mailboxes => RouteMode::Mailbox,
    }
}

fn target(reader: &mut Reader<'_>, draft: &Draft, name: &str, knobs: &RouteKnobs, seen: &Seen) -> Option<Target> {
    let given: Vec<&str> = [("pool", knobs.pool.is_some()), ("mx", knobs.mx), ("smarthost", knobs.smarthost.is_some())]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
    let mailboxes = knobs.mode == Some(RouteMode::Mailbox);
    if let (true, Some(key)) = (mailboxes, given.first()) {
        let message = format!("route {name:?} has mode \"mailbox\" and leads to {key} as well");
        reader.error(seen.span(key), message, Some("keep one of them".into()));
        return None;
    }
    if mailboxes {
        return Some(Target::Mailboxes);
    }
    if given.len() > 1 {
        let message = format!("route {name:?} leads to {} at once", given.join(" and "));
        reader.error(seen.span(given[1]), message, Some("keep one of them".into()));
        return None;
    }
    match (&knobs.pool, &knobs.smarthost, knobs.mx) {
        (Some(pool), _, _) => match draft.pools.iter().position(|p| p.name == *pool) {
            Some(index) => Some(Target::Pool(index)),
            None => {
                let names: Vec<&str> = draft.pools.iter().map(|p| p.name.as_str()).collect();
                let help = match nearest(pool, names.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None if names.is_empty() => format!("add [pool.{pool}] and [[pool.{pool}.backend]]"),
                    None => format!("pools are {}", names.join(", ")),
                };
                reader.error(seen.span("pool"), format!("there is no pool {pool:?}"), Some(help));
                None
            }
        },
        (None, Some(host), _) => Some(Target::Smarthost(host.clone())),
        (None, None, true) => Some(Target::Mx),
        (None, None, false) => {
            // A pool or smarthost that was written and refused has been reported.
            if !seen.has("pool") && !seen.has("smarthost") {
                let help = "give it a pool, mx = true, a smarthost or mode = \"mailbox\"".to_owned();
                reader.error(seen.header.clone(), format!("route {name:?} leads nowhere"), Some(help));
            }
            None
        }
    }
}

/// A domain or an address in two routes, two routes for the rest.
fn check_overlaps(reader: &mut Reader<'_>, draft: &Draft) {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut rest: Option<&str> = None;
    for (name, knobs, seen) in &draft.routes {
        for (key, items) in [("domains", &knobs.domains), ("addresses", &knobs.addresses)] {
            for (index, text) in items.iter().enumerate() {
                if let Some(owner) = owners.insert(text.to_lowercase(), name) {
                    let message = format!("{text:?} already goes by route {owner:?}");
                    reader.error(seen.item(key, index), message, None);
                }
            }
        }
        let takes_the_rest = !seen.has("domains") && !seen.has("addresses");
        if takes_the_rest && let Some(first) = rest.replace(name) {
            let message = format!("routes {first:?} and {name:?} both take every recipient");
            let help = "give one of them domains or addresses".to_owned();
            reader.error(seen.header.clone(), message, Some(help));
        }
    }
}

/// `--backend`: a pool of them behind the route for the rest, in place of the one in the file.
fn backend_flags(
    reader: &mut Reader<'_>,
    draft: &Draft,
    overrides: &Overrides,
    pools: &mut Vec<PoolConfig>,
    routes: &mut Vec<RouteConfig>,
) {
    let mut backends = Vec::new();
    for flag in &overrides.backends {
        let (protocol, text) = match flag.strip_prefix("lmtp:") {
            Some(text) => (BackendProtocol::Lmtp, text),
            None => (BackendProtocol::Smtp, flag.as_str()),
        };
        match HostPort::parse(&Raw::Text(text.to_owned())) {
            Ok(address) => {
                backends.push(BackendKnobs { address: Some(address), protocol, ..BackendKnobs::default() });
            }
            Err(message) => reader.diagnostics.push(Diagnostic::flag(format!("--backend: {message}"))),
        }
    }
    let target = Target::Pool(pools.len());
    let mode = mode(draft.settings.server.mode, &target);
    pools.push(PoolConfig { name: FLAG_POOL.into(), knobs: PoolKnobs::default(), backends });
    routes.retain(|route| !is_default(route));
    let knobs = RouteKnobs { pool: Some(FLAG_POOL.into()), ..RouteKnobs::default() };
    routes.push(RouteConfig { name: "default".into(), knobs, mode, target });
}

/// Without any route: mail for local domains goes into the mailboxes of local accounts.
fn local_route(reader: &mut Reader<'_>, draft: &Draft, overrides: &Overrides, domains: &[Domain]) -> RouteConfig {
    if draft.settings.server.mode == Some(RouteMode::CutThrough) {
        let message = "mode cut-through needs a backend";
        let help = "give --backend HOST:PORT, or a [pool.NAME] and a [route.NAME] in the file".to_owned();
        match (overrides.flag("server", "mode"), draft.seen.get("server")) {
            (None, Some(seen)) => reader.error(seen.span("mode"), message, Some(help)),
            (flag, _) => {
                let message = format!("{}: {message}", flag.unwrap_or("mode"));
                reader.diagnostics.push(Diagnostic::flag(message).with_help(Some(help)));
            }
        }
    }
    let knobs = RouteKnobs { domains: domains.iter().map(Domain::lower).collect(), ..RouteKnobs::default() };
    RouteConfig { name: "local".into(), knobs, mode: RouteMode::Mailbox, target: Target::Mailboxes }
}
