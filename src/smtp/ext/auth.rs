//! AUTH: the mechanisms that may be used here and now, and AUTH= on MAIL (RFC 4954).
//!
//! How it fails: a malformed value is a [`ParameterError`].

use super::{Extension, required};
use crate::base::envelope::MailParameters;
use crate::sasl;
use crate::smtp::cmd;
use crate::smtp::server::Server;
use crate::wire::params::{self, ParameterError};
use std::borrow::Cow;

pub(super) const EXTENSION: Extension =
    Extension { keyword: "AUTH", rfc: "RFC 4954", offer, mail: &[("AUTH", auth)], rcpt: &[] };

fn offer(server: &Server) -> Option<Cow<'static, str>> {
    let names = sasl::server::mechanisms(&cmd::auth::offer_context(server));
    (!names.is_empty()).then(|| names.join(" ").into())
}

fn auth(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    parameters.auth = Some(params::parse_auth(required(value)?)?);
    Ok(())
}
