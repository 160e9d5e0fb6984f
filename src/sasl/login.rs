//! LOGIN (draft-murchison-sasl-login): user name and password in two messages. Obsolete, and still what many devices speak.
//!
//! How it fails: `Malformed` for empty or over-long values, `InvalidCredentials` for the rest.

use super::SaslError;
use super::client::{ClientContext, Connect};
use super::mechanism::{Exposure, Mechanism};
use super::plain::checked_password;
use super::server::{Context, SaslAnswer, SaslAsk, Serve, Step, prepared_user, wrong_answer};

pub(super) const ROW: Mechanism = Mechanism {
    name: "LOGIN",
    exposure: Exposure::Password,
    serve: |_| Box::new(Server { user: None }),
    connect: |ctx| Box::new(Client { ctx, sent: 0 }),
};

#[derive(Debug)]
struct Server {
    user: Option<String>,
}

impl Serve for Server {
    fn begin(&mut self, _: &Context) -> Step {
        Step::Challenge(b"Username:".to_vec())
    }

    fn respond(&mut self, _: &Context, response: &[u8]) -> Step {
        let step = match &self.user {
            None => prepared_user(response).map(|user| {
                self.user = Some(user);
                Step::Challenge(b"Password:".to_vec())
            }),
            Some(user) => {
                checked_password(response).map(|password| Step::Ask(SaslAsk::Password { user: user.clone(), password }))
            }
        };
        step.unwrap_or_else(Step::Failed)
    }

    fn answer(&mut self, _: &Context, answer: SaslAnswer) -> Step {
        match (answer, self.user.take()) {
            (SaslAnswer::Password(true), Some(user)) => Step::Done { user },
            (SaslAnswer::Password(false), _) => Step::Failed(SaslError::InvalidCredentials),
            _ => wrong_answer(),
        }
    }
}

/// The text of the two challenges differs between servers, so their order alone counts.
#[derive(Debug)]
struct Client {
    ctx: ClientContext,
    sent: u8,
}

impl Connect for Client {
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError> {
        Ok(None)
    }
    fn respond(&mut self, _: &[u8]) -> Result<Vec<u8>, SaslError> {
        self.sent += 1;
        match self.sent {
            1 => Ok(self.ctx.credentials.user.clone().into_bytes()),
            2 => Ok(self.ctx.credentials.password.as_bytes().to_vec()),
            _ => {
                self.sent = 3;
                Err(SaslError::Malformed("LOGIN has two challenges"))
            }
        }
    }
    fn finish(&mut self) -> Result<(), SaslError> {
        Ok(())
    }
}
