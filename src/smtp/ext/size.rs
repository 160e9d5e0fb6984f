//! SIZE: the largest message we take, and the size the client declares (RFC 1870).
//!
//! How it fails: a malformed value is a [`ParameterError`].

use super::{Extension, required};
use crate::base::envelope::MailParameters;
use crate::smtp::server::Server;
use crate::wire::params::{self, ParameterError};
use std::borrow::Cow;

pub(super) const EXTENSION: Extension =
    Extension { keyword: "SIZE", rfc: "RFC 1870", offer, mail: &[("SIZE", size)], rcpt: &[] };

fn offer(server: &Server) -> Option<Cow<'static, str>> {
    Some(server.config.knobs.message_octets_max.0.to_string().into())
}

fn size(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    parameters.size = Some(params::parse_size(required(value)?)?);
    Ok(())
}
