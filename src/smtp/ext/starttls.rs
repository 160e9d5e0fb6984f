//! STARTTLS: TLS on this connection, once (RFC 3207); the command is `cmd/starttls.rs`.
//!
//! How it fails: it has no parameters to fail on.

use super::Extension;
use crate::smtp::server::{Server, TlsOffer};
use std::borrow::Cow;

pub(super) const EXTENSION: Extension = Extension { keyword: "STARTTLS", rfc: "RFC 3207", offer, mail: &[], rcpt: &[] };

fn offer(server: &Server) -> Option<Cow<'static, str>> {
    // RFC 3207 §4.2: not offered once TLS is in force.
    (server.config.tls == TlsOffer::StartTls && server.peer.tls.is_none()).then_some(Cow::Borrowed(""))
}
