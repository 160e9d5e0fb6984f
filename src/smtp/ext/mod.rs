//! The extensions, one file and one row each: the line of the EHLO reply, and the parameters of MAIL and RCPT that come
//! with it. A parameter is read only while its extension is in force (RFC 5321 §2.2.1).
//!
//! How it fails: [`ParameterError`] names the offence.

mod auth;
mod binary_mime;
mod chunking;
mod dsn;
mod eight_bit_mime;
mod enhanced_status_codes;
mod help;
mod limits;
mod pipelining;
mod size;
mod smtputf8;
mod starttls;
mod xclient;

use crate::base::envelope::{MailParameters, Notify, OriginalRecipient};
use crate::smtp::server::Server;
use crate::wire::params::{self, ParameterError};
use std::borrow::Cow;

/// One row: everything the session has to know of an extension.
pub struct Extension {
    /// The EHLO keyword.
    pub keyword: &'static str,
    /// Where it is specified.
    pub rfc: &'static str,
    /// What follows the keyword in the EHLO reply; `None` while it is not in force.
    pub(in crate::smtp) offer: fn(&Server) -> Option<Cow<'static, str>>,
    /// Parameters of MAIL.
    pub(in crate::smtp) mail: &'static [(&'static str, MailParameter)],
    /// Parameters of RCPT.
    pub(in crate::smtp) rcpt: &'static [(&'static str, RcptParameter)],
}

/// Reads the value of one parameter of MAIL.
type MailParameter = fn(Option<&str>, &mut MailParameters) -> Result<(), ParameterError>;
/// Reads the value of one parameter of RCPT.
type RcptParameter = fn(Option<&str>, &mut RcptParameters) -> Result<(), ParameterError>;

/// The parameters of RCPT.
#[derive(Debug, Default)]
pub(in crate::smtp) struct RcptParameters {
    pub notify: Option<Notify>,
    pub original: Option<OriginalRecipient>,
}

/// Every extension, in the order of the EHLO reply.
pub const TABLE: &[Extension] = &[
    pipelining::EXTENSION,
    size::EXTENSION,
    eight_bit_mime::EXTENSION,
    smtputf8::EXTENSION,
    chunking::EXTENSION,
    binary_mime::EXTENSION,
    dsn::EXTENSION,
    enhanced_status_codes::EXTENSION,
    limits::EXTENSION,
    starttls::EXTENSION,
    auth::EXTENSION,
    xclient::EXTENSION,
    help::EXTENSION,
];

/// In force whenever EHLO was said.
fn always(_server: &Server) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(""))
}

/// The lines of the EHLO reply behind the first.
pub(in crate::smtp) fn offered(server: &Server) -> impl Iterator<Item = Cow<'static, str>> {
    TABLE.iter().filter_map(move |row| match (row.offer)(server)? {
        words if words.is_empty() => Some(Cow::Borrowed(row.keyword)),
        words => Some(Cow::Owned(format!("{} {words}", row.keyword))),
    })
}

/// Whether the extension is in force.
pub(in crate::smtp) fn is_offered(server: &Server, keyword: &str) -> bool {
    server.is_extended() && TABLE.iter().any(|row| row.keyword == keyword && (row.offer)(server).is_some())
}

/// Reads the parameters of MAIL.
pub(in crate::smtp) fn parse_mail(server: &Server, text: &str) -> Result<MailParameters, ParameterError> {
    let mut parameters = MailParameters::default();
    parse(server, text, |row| row.mail, &mut parameters)?;
    Ok(parameters)
}

/// Reads the parameters of RCPT.
pub(in crate::smtp) fn parse_rcpt(server: &Server, text: &str) -> Result<RcptParameters, ParameterError> {
    let mut parameters = RcptParameters::default();
    parse(server, text, |row| row.rcpt, &mut parameters)?;
    Ok(parameters)
}

/// A parameter's keyword with the function that reads its value into `P`.
type Reader<P> = (&'static str, fn(Option<&str>, &mut P) -> Result<(), ParameterError>);

fn parse<P>(
    server: &Server,
    text: &str,
    readers: fn(&'static Extension) -> &'static [Reader<P>],
    parameters: &mut P,
) -> Result<(), ParameterError> {
    for p in params::parse_list(text)? {
        let found = TABLE.iter().find_map(|row| {
            let reader = readers(row).iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(p.keyword))?;
            is_offered(server, row.keyword).then_some(reader.1)
        });
        found.ok_or(ParameterError::Unknown)?(p.value, parameters)?;
    }
    Ok(())
}

/// A value must be there.
fn required(value: Option<&str>) -> Result<&str, ParameterError> {
    value.ok_or(ParameterError::Value)
}
