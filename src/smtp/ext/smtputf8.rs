//! SMTPUTF8: UTF-8 in addresses and header fields (RFC 6531).
//!
//! How it fails: a malformed value is a [`ParameterError`].

use super::{Extension, always};
use crate::base::envelope::MailParameters;
use crate::wire::params::ParameterError;

pub(super) const EXTENSION: Extension =
    Extension { keyword: "SMTPUTF8", rfc: "RFC 6531", offer: always, mail: &[("SMTPUTF8", smtputf8)], rcpt: &[] };

fn smtputf8(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    if value.is_some() {
        return Err(ParameterError::Value); // RFC 6531 §3.4: the parameter has no value
    }
    parameters.smtputf8 = true;
    Ok(())
}
