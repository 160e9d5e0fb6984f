//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd` in one message.
//!
//! How it fails: `Malformed` for the grammar, `NotAuthorized` for another's authzid, `InvalidCredentials` for the rest.

use super::SaslError;
use super::client::{ClientContext, Connect};
use super::mechanism::{Exposure, Mechanism};
use super::server::{Context, SaslAnswer, SaslAsk, Serve, Step, check_authzid, prepared_user, wrong_answer};
use zeroize::Zeroizing;

pub(super) const ROW: Mechanism = Mechanism {
    name: "PLAIN",
    exposure: Exposure::Password,
    serve: |_| Box::new(Server { user: String::new() }),
    connect: |ctx| Box::new(Client { ctx }),
};

#[derive(Debug)]
struct Server {
    user: String,
}

impl Serve for Server {
    fn respond(&mut self, _: &Context, response: &[u8]) -> Step {
        match parse(response) {
            Ok((user, password)) => {
                self.user.clone_from(&user);
                Step::Ask(SaslAsk::Password { user, password })
            }
            Err(e) => Step::Failed(e),
        }
    }

    fn answer(&mut self, _: &Context, answer: SaslAnswer) -> Step {
        match answer {
            SaslAnswer::Password(true) => Step::Done { user: std::mem::take(&mut self.user) },
            SaslAnswer::Password(false) => Step::Failed(SaslError::InvalidCredentials),
            _ => wrong_answer(),
        }
    }
}

/// RFC 4616 §2: exactly two NULs, UTF-8, user and password not empty.
fn parse(message: &[u8]) -> Result<(String, Zeroizing<String>), SaslError> {
    let mut parts = message.split(|&b| b == 0);
    let (Some(authzid), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Malformed("expected authzid, user and password, with NUL between them"));
    };
    let password = checked_password(password)?;
    let user = prepared_user(user)?;
    check_authzid(authzid, &user)?;
    Ok((user, password))
}

/// A password as sent: UTF-8, not empty, of bounded length.
pub(super) fn checked_password(raw: &[u8]) -> Result<Zeroizing<String>, SaslError> {
    if raw.is_empty() || raw.len() > crate::wire::prep::PASSWORD_OCTETS_MAX {
        return Err(SaslError::Malformed("the password is empty or too long"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| SaslError::Malformed("the password is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[derive(Debug)]
struct Client {
    ctx: ClientContext,
}

impl Connect for Client {
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError> {
        let c = &self.ctx.credentials;
        let authzid = c.authzid.as_deref().unwrap_or_default();
        if [authzid, &c.user, &c.password].iter().any(|part| part.contains('\0')) {
            return Err(SaslError::Malformed("our own credentials have a NUL in them"));
        }
        Ok(Some([authzid, "\0", &c.user, "\0", &c.password].concat().into_bytes()))
    }
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        // A server that ignored the initial response asks for it with an empty challenge (RFC 4954 §4).
        match challenge {
            b"" => Ok(self.initial()?.unwrap_or_default()),
            _ => Err(SaslError::Malformed("PLAIN has no challenges")),
        }
    }
    fn finish(&mut self) -> Result<(), SaslError> {
        Ok(())
    }
}
