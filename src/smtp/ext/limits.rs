//! LIMITS: how many recipients and messages we take, told before they are tried (RFC 9422).
//!
//! How it fails: it has no parameters to fail on.

use super::Extension;
use crate::smtp::server::Server;
use std::borrow::Cow;

pub(super) const EXTENSION: Extension = Extension { keyword: "LIMITS", rfc: "RFC 9422", offer, mail: &[], rcpt: &[] };

fn offer(server: &Server) -> Option<Cow<'static, str>> {
    let k = &server.config.knobs;
    Some(format!("RCPTMAX={} MAILMAX={}", k.recipients_max, k.transactions_max).into())
}
