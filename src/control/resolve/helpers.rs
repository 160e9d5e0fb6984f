//! Helpers: each has a kind and an address, its limits fit together, and its keys belong to its kind.
//!
//! How it fails: diagnostics at the word to blame.

use crate::control::config::Draft;
use crate::control::nearest::nearest;
use crate::control::reader::{Reader, Seen};
use crate::control::resolve::missing;
use crate::gateway::config::Listener;
use crate::lookup::helpers::{HelperConfig, HelperKind, HelperKnobs};

/// Keys that mean something to one kind only.
const OWN_KEYS: &[(&str, HelperKind)] = &[
    ("password_file", HelperKind::Rspamd),
    ("settings_id", HelperKind::Rspamd),
    ("check_all", HelperKind::Rspamd),
    ("policy_context", HelperKind::Policy),
];

/// The helpers of the file.
pub fn helpers(reader: &mut Reader<'_>, draft: &Draft, listeners: &[Listener]) -> Vec<HelperConfig> {
    let mut helpers = Vec::new();
    for (name, knobs, seen) in &draft.helpers {
        let header = format!("[helper.{name}]");
        for (key, given) in [("kind", knobs.kind.is_some()), ("address", knobs.address.is_some())] {
            if !given {
                missing(reader, seen, key, &header);
            }
        }
        check_times(reader, knobs, seen);
        check_own_keys(reader, knobs, seen);
        check_listeners(reader, knobs, seen, listeners);
        helpers.push(HelperConfig { name: name.clone(), knobs: knobs.clone() });
    }
    helpers
}

fn check_times(reader: &mut Reader<'_>, knobs: &HelperKnobs, seen: &Seen) {
    for (key, part) in [("connect_timeout", knobs.connect_timeout), ("answer_timeout", knobs.answer_timeout)] {
        if part > knobs.timeout && (seen.has(key) || seen.has("timeout")) {
            let at = if seen.has(key) { key } else { "timeout" };
            let message = format!("{key:?} is longer than \"timeout\", which then comes first");
            reader.warning(seen.span(at), message, None);
        }
    }
}

fn check_own_keys(reader: &mut Reader<'_>, knobs: &HelperKnobs, seen: &Seen) {
    let Some(kind) = knobs.kind else { return };
    for (key, owner) in OWN_KEYS {
        if seen.has(key) && kind != *owner {
            let message = format!("{key:?} has no effect with kind = {:?}", kind.word());
            reader.warning(seen.span(key), message, Some(format!("it belongs to kind = {:?}", owner.word())));
        }
    }
}

fn check_listeners(reader: &mut Reader<'_>, knobs: &HelperKnobs, seen: &Seen, listeners: &[Listener]) {
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    for (index, name) in knobs.listeners.iter().enumerate() {
        if names.contains(&name.as_str()) {
            continue;
        }
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("listeners are {}", names.join(", ")),
        };
        // With `--listen NAME=off` a listener of the file may be missing on purpose.
        reader.warning(seen.item("listeners", index), format!("there is no listener {name:?}"), Some(help));
    }
}
