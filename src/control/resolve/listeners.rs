//! Ports: names and addresses that must not clash, and the defaults.
//!
//! How it fails: diagnostics at the name or address to blame.

use crate::base::knob::{KnobType, Raw};
use crate::control::config::{Draft, Overrides};
use crate::control::diagnostic::Diagnostic;
use crate::control::nearest::nearest;
use crate::control::reader::{Reader, Span, is_name};
use crate::control::resolve::missing;
use crate::gateway::config::{Listener, ListenerTls, Service};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The listeners of a start without configuration: name, port, service, TLS.
const DEFAULTS: [(&str, u16, Service, ListenerTls); 8] = [
    ("mx", 2525, Service::Mx, ListenerTls::StartTls),
    ("submission", 2587, Service::Submission, ListenerTls::StartTls),
    ("submissions", 2465, Service::Submission, ListenerTls::Implicit),
    ("lmtp", 2424, Service::Lmtp, ListenerTls::None),
    ("pop3", 2110, Service::Pop3, ListenerTls::StartTls),
    ("pop3s", 2995, Service::Pop3, ListenerTls::Implicit),
    ("imap", 2143, Service::Imap, ListenerTls::StartTls),
    ("imaps", 2993, Service::Imap, ListenerTls::Implicit),
];

/// The listeners of the file, else the defaults, as the flags change them.
pub fn listeners(reader: &mut Reader<'_>, draft: &Draft, overrides: &Overrides) -> Vec<Listener> {
    let mut listeners: Vec<(Listener, Option<Span>)> = if draft.listeners.is_empty() {
        defaults(overrides.port_base).into_iter().map(|listener| (listener, None)).collect()
    } else {
        if overrides.port_base.is_some() {
            let message =
                "--port-base is for the default listeners, but the file has its own; use --listen NAME=ADDRESS";
            reader.diagnostics.push(Diagnostic::flag(message));
        }
        configured(reader, draft)
    };
    for flag in &overrides.listen {
        if let Err(diagnostic) = listen_flag(&mut listeners, flag) {
            reader.diagnostics.push(*diagnostic);
        }
    }
    check_clashes(reader, &listeners);
    if listeners.is_empty() && overrides.listen.iter().any(|flag| flag.ends_with("=off")) {
        reader.diagnostics.push(Diagnostic::flag("--listen: every listener is off, nothing would be served"));
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn defaults(port_base: Option<u16>) -> Vec<Listener> {
    DEFAULTS
        .iter()
        .enumerate()
        .map(|(index, (name, port, service, tls))| {
            let port = port_base.map_or(*port, |base| if base == 0 { 0 } else { base.saturating_add(index as u16) });
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            Listener { name: (*name).to_owned(), address, service: *service, tls: *tls }
        })
        .collect()
}

fn configured(reader: &mut Reader<'_>, draft: &Draft) -> Vec<(Listener, Option<Span>)> {
    let mut listeners = Vec::new();
    for (knobs, seen) in &draft.listeners {
        let Some(name) = &knobs.name else {
            missing(reader, seen, "name", "[[listener]]");
            continue;
        };
        if !is_name(name) {
            let message = format!("{name:?} is no name: letters, digits, - and _, at most 64");
            reader.error(seen.span("name"), message, None);
        }
        let Some(address) = knobs.address else {
            missing(reader, seen, "address", "[[listener]]");
            continue;
        };
        let lmtp = knobs.service == Service::Lmtp;
        if lmtp && address.port() == 25 {
            // RFC 2033 §5: LMTP must not be used on the SMTP port.
            reader.error(seen.span("address"), "LMTP must not be served on port 25 (RFC 2033 §5)", None);
        }
        let tls = knobs.tls.unwrap_or(if lmtp { ListenerTls::None } else { ListenerTls::StartTls });
        if knobs.service == Service::Mx && tls == ListenerTls::Implicit {
            let message = "other servers do not speak implicit TLS to an MX; they will see a connection that hangs";
            reader.warning(seen.span("tls"), message, Some("did you mean \"starttls\"?".into()));
        }
        let listener = Listener { name: name.clone(), address, service: knobs.service, tls };
        if let Some((_, Some(_))) = listeners.iter().find(|(l, _): &&(Listener, Option<Span>)| l.name == *name) {
            reader.error(seen.span("name"), format!("two listeners are called {name:?}"), None);
        }
        listeners.push((listener, Some(seen.span("address"))));
    }
    listeners
}

/// `NAME=ADDRESS` moves a listener, `NAME=off` takes it away.
fn listen_flag(listeners: &mut Vec<(Listener, Option<Span>)>, flag: &str) -> Result<(), Box<Diagnostic>> {
    let fail = |message: String| Box::new(Diagnostic::flag(format!("--listen {flag}: {message}")));
    let (name, address) = flag.split_once('=').ok_or_else(|| fail("expected NAME=ADDRESS or NAME=off".into()))?;
    let Some(index) = listeners.iter().position(|(listener, _)| listener.name == name) else {
        let names: Vec<&str> = listeners.iter().map(|(listener, _)| listener.name.as_str()).collect();
        let near = nearest(name, names.iter().copied()).map(|near| format!("did you mean {near:?}?"));
        let help = near.unwrap_or_else(|| format!("listeners are {}", names.join(", ")));
        return Err(Box::new(fail(format!("there is no listener {name:?}")).with_help(Some(help))));
    };
    if address == "off" {
        listeners.remove(index);
        return Ok(());
    }
    listeners[index].0.address = SocketAddr::parse(&Raw::Text(address.to_owned())).map_err(fail)?;
    listeners[index].1 = None;
    Ok(())
}

/// Two listeners on one address; a port on all addresses clashes with the same port on one of them.
fn check_clashes(reader: &mut Reader<'_>, listeners: &[(Listener, Option<Span>)]) {
    for (index, (listener, span)) in listeners.iter().enumerate() {
        let other = listeners[..index].iter().find(|(other, _)| clash(listener.address, other.address));
        let Some((other, _)) = other else { continue };
        let message = format!(
            "listener {:?} on {} clashes with listener {:?} on {}",
            listener.name, listener.address, other.name, other.address
        );
        match span {
            Some(span) => reader.error(span.clone(), message, None),
            None => reader.diagnostics.push(Diagnostic::flag(message)),
        }
    }
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let overlap = a.ip() == b.ip() || (same_family && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && a.port() != 0 && overlap
}
