//! XCLIENT: for listed proxies only (the XCLIENT_README of Postfix); the command is `cmd/xclient.rs`.
//!
//! How it fails: it has no parameters to fail on.

use super::Extension;
use crate::smtp::cmd::xclient;
use crate::smtp::server::Server;
use std::borrow::Cow;

pub(super) const EXTENSION: Extension =
    Extension { keyword: "XCLIENT", rfc: "XCLIENT_README", offer, mail: &[], rcpt: &[] };

fn offer(server: &Server) -> Option<Cow<'static, str>> {
    server.peer.rights.xclient.then_some(Cow::Borrowed(xclient::ATTRIBUTES))
}
