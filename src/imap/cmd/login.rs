//! LOGIN (RFC 9051 §6.2.3): the same as PLAIN, and offered where PLAIN is. How it fails: as AUTHENTICATE does.

use super::authenticate;
use crate::imap::session::{Ending, Session};
use crate::imap::{ext, respond};
use zeroize::Zeroizing;

pub(super) fn run(session: &mut Session, tag: String, user: &str, password: &str) {
    if !ext::login_offered(session) {
        let protected = session.peer.protected || session.peer.tls.is_some();
        let words = if protected {
            respond::no("CANNOT", "LOGIN is not offered here")
        } else {
            respond::no("PRIVACYREQUIRED", "LOGIN needs TLS") // RFC 9051 §6.2.3
        };
        return session.finish(Ending::new(tag, words));
    }
    let initial = Zeroizing::new(format!("\0{user}\0{password}"));
    authenticate::begin(session, tag, "PLAIN", Some(initial.as_bytes()));
}
