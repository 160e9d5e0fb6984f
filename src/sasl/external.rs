//! EXTERNAL (RFC 4422 Appendix A): the client's certificate says who it is; the message says as whom it wants to act.
//!
//! How it fails: without a verified certificate it is not offered; `NotAuthorized` when the identity has no account or may
//! not act as the one asked for.

use super::SaslError;
use super::client::{ClientContext, Connect};
use super::mechanism::{Exposure, Mechanism};
use super::server::{Context, SaslAnswer, SaslAsk, Serve, Step, prepared_user, wrong_answer};

pub(super) const ROW: Mechanism = Mechanism {
    name: "EXTERNAL",
    exposure: Exposure::Certificate,
    serve: |_| Box::new(Server { user: String::new() }),
    connect: |ctx| Box::new(Client { ctx }),
};

#[derive(Debug)]
struct Server {
    user: String,
}

impl Serve for Server {
    fn respond(&mut self, ctx: &Context, response: &[u8]) -> Step {
        let Some(identity) = ctx.external_identity.clone() else {
            return Step::Failed(SaslError::UnknownMechanism);
        };
        // RFC 4422 §A.1: an empty message asks to act as the identity the credentials stand for.
        let wanted = if response.is_empty() { identity.as_bytes() } else { response };
        match prepared_user(wanted) {
            Ok(authzid) => {
                self.user.clone_from(&authzid);
                Step::Ask(SaslAsk::External { identity, authzid })
            }
            Err(e) => Step::Failed(e),
        }
    }

    fn answer(&mut self, _: &Context, answer: SaslAnswer) -> Step {
        match answer {
            SaslAnswer::External(true) => Step::Done { user: std::mem::take(&mut self.user) },
            SaslAnswer::External(false) => Step::Failed(SaslError::NotAuthorized),
            _ => wrong_answer(),
        }
    }
}

#[derive(Debug)]
struct Client {
    ctx: ClientContext,
}

impl Connect for Client {
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError> {
        Ok(Some(self.ctx.credentials.authzid.clone().unwrap_or_default().into_bytes()))
    }
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        match challenge {
            b"" => Ok(self.initial()?.unwrap_or_default()),
            _ => Err(SaslError::Malformed("EXTERNAL has no challenges")),
        }
    }
    fn finish(&mut self) -> Result<(), SaslError> {
        Ok(())
    }
}
