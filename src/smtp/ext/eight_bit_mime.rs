//! 8BITMIME: octets above 127 in the text, and BODY= (RFC 6152).
//!
//! How it fails: a malformed value is a [`ParameterError`].

use super::{Extension, always, required};
use crate::base::envelope::MailParameters;
use crate::wire::params::{self, ParameterError};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "8BITMIME", rfc: "RFC 6152", offer: always, mail: &[("BODY", body)], rcpt: &[] };

fn body(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    parameters.body = params::parse_body(required(value)?)?;
    Ok(())
}
