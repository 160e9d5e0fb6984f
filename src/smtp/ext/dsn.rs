//! DSN: what the sender wants to hear of the delivery (RFC 3461; UTF-8 addresses by RFC 6533).
//!
//! How it fails: a malformed value is a [`ParameterError`].

use super::{Extension, RcptParameters, always, required};
use crate::base::envelope::MailParameters;
use crate::wire::params::{self, ParameterError};

pub(super) const EXTENSION: Extension = Extension {
    keyword: "DSN",
    rfc: "RFC 3461",
    offer: always,
    mail: &[("RET", ret), ("ENVID", envid)],
    rcpt: &[("NOTIFY", notify), ("ORCPT", orcpt)],
};

fn ret(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    parameters.ret = Some(params::parse_ret(required(value)?)?);
    Ok(())
}

fn envid(value: Option<&str>, parameters: &mut MailParameters) -> Result<(), ParameterError> {
    parameters.envid = Some(params::parse_envid(required(value)?)?);
    Ok(())
}

fn notify(value: Option<&str>, parameters: &mut RcptParameters) -> Result<(), ParameterError> {
    parameters.notify = Some(params::parse_notify(required(value)?)?);
    Ok(())
}

fn orcpt(value: Option<&str>, parameters: &mut RcptParameters) -> Result<(), ParameterError> {
    parameters.original = Some(params::parse_orcpt(required(value)?)?);
    Ok(())
}
