//! CAPA (RFC 2449 §5): what this client can have, now; one row per capability. How it fails: it does not.

use super::super::session::Session;
use crate::base::time::Instant;
use crate::sasl;
use crate::wire::pop3::replies;

/// A capability the server can offer.
pub struct Capability {
    /// As CAPA writes it.
    pub name: &'static str,
    /// The RFC.
    pub rfc: u32,
    /// What follows the name in the answer; `None` while it is not to be had.
    offer: fn(&Session) -> Option<String>,
}

/// Every capability, in the order of the answer.
pub const CAPABILITIES: &[Capability] = &[
    Capability { name: "TOP", rfc: 1939, offer: always },
    Capability { name: "UIDL", rfc: 1939, offer: always },
    Capability { name: "RESP-CODES", rfc: 2449, offer: always },
    Capability { name: "AUTH-RESP-CODE", rfc: 3206, offer: always },
    Capability { name: "PIPELINING", rfc: 2449, offer: always },
    // RFC 2449 §6.2
    Capability { name: "USER", rfc: 1939, offer: |session| session.is_protected().then(String::new) },
    Capability { name: "SASL", rfc: 5034, offer: mechanisms },
    Capability { name: "STLS", rfc: 2595, offer: |session| super::stls::is_offered(session).then(String::new) },
    Capability { name: "LOGIN-DELAY", rfc: 2449, offer: login_delay },
    Capability { name: "EXPIRE", rfc: 2449, offer: expire },
    // RFC 6856 §2: after USER it applies to names, too.
    Capability { name: "UTF8", rfc: 6856, offer: |_| Some("USER".to_owned()) },
    Capability { name: "LANG", rfc: 6856, offer: always },
    Capability { name: "IMPLEMENTATION", rfc: 2449, offer: implementation },
];

pub(super) fn run(session: &mut Session, now: Instant, _argument: &str) {
    session.say(&replies::capabilities());
    for row in CAPABILITIES {
        let line = match (row.offer)(session) {
            None => continue,
            Some(words) if words.is_empty() => format!("{}\r\n", row.name),
            Some(words) => format!("{} {words}\r\n", row.name),
        };
        session.out.push_bytes(line.as_bytes());
    }
    session.out.push_bytes(b".\r\n");
    session.await_command(now);
}

fn always(_session: &Session) -> Option<String> {
    Some(String::new())
}

/// RFC 5034 §3
fn mechanisms(session: &Session) -> Option<String> {
    let mechanisms = sasl::server::mechanisms(&super::auth::offer_context(session));
    (!mechanisms.is_empty()).then(|| mechanisms.join(" "))
}

/// RFC 2449 §6.5
fn login_delay(session: &Session) -> Option<String> {
    let delay = session.settings.knobs.login_delay;
    (!delay.is_zero()).then(|| delay.as_millis().div_ceil(1000).to_string())
}

/// RFC 2449 §6.7
fn expire(session: &Session) -> Option<String> {
    Some(session.settings.knobs.expire_days.map_or("NEVER".to_owned(), |days| days.to_string()))
}

/// RFC 2449 §6.9
fn implementation(session: &Session) -> Option<String> {
    let version = session.settings.version.as_str();
    Some(if version.is_empty() { "Gatepost".to_owned() } else { format!("Gatepost-{version}") })
}
