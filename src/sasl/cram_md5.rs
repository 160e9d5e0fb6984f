//! CRAM-MD5 (RFC 2195): the server sends a unique string, the client the HMAC-MD5 of it keyed by the password.
//!
//! It needs the password itself on the server, so only accounts that opted in can use it. How it fails: an unknown user,
//! an account without a secret and a wrong digest take the same path to `InvalidCredentials`.

use super::SaslError;
use super::client::{ClientContext, Connect};
use super::mechanism::{Exposure, Mechanism};
use super::server::{Context, SaslAnswer, SaslAsk, Serve, Step, prepared_user, wrong_answer};
use hmac::{Hmac, Mac};
use md5::Md5;

pub(super) const ROW: Mechanism = Mechanism {
    name: "CRAM-MD5",
    exposure: Exposure::Proof,
    serve: |_| Box::new(Server { challenge: Vec::new(), claim: None }),
    connect: |ctx| Box::new(Client { ctx }),
};

/// `HMAC-MD5(secret, challenge)` in lower-case hexadecimal (RFC 2195 §2).
fn digest(secret: &[u8], challenge: &[u8]) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(challenge);
    mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

#[derive(Debug)]
struct Server {
    challenge: Vec<u8>,
    claim: Option<Claim>,
}

#[derive(Debug)]
struct Claim {
    user: String,
    digest: Vec<u8>,
}

impl Serve for Server {
    fn begin(&mut self, ctx: &Context) -> Step {
        // RFC 2195 §2: random digits, a timestamp and the fully-qualified name of the server, as a message id.
        let random = u128::from_be_bytes(std::array::from_fn(|i| ctx.nonce[i] ^ ctx.nonce[i + 16]));
        let seconds = ctx.timestamp.as_secs();
        self.challenge = format!("<{random}.{seconds}@{}>", ctx.hostname).into_bytes();
        Step::Challenge(self.challenge.clone())
    }

    fn initial(&mut self, _: &Context, _: &[u8]) -> Step {
        // RFC 4954 §4: 501 when the mechanism does not let the client speak first.
        Step::Failed(SaslError::Malformed("CRAM-MD5 has no initial response"))
    }

    fn respond(&mut self, _: &Context, response: &[u8]) -> Step {
        match parse(response) {
            Ok(claim) => {
                let user = claim.user.clone();
                self.claim = Some(claim);
                Step::Ask(SaslAsk::SharedSecret { user })
            }
            Err(e) => Step::Failed(e),
        }
    }

    fn answer(&mut self, _: &Context, answer: SaslAnswer) -> Step {
        let (SaslAnswer::SharedSecret(secret), Some(claim)) = (answer, self.claim.take()) else {
            return wrong_answer();
        };
        // The digest is computed in either case, so that the time tells nothing.
        let expected = digest(secret.as_ref().map_or(&[], |s| s.as_slice()), &self.challenge);
        match super::equal(expected.as_bytes(), &claim.digest) && secret.is_some_and(|s| !s.is_empty()) {
            true => Step::Done { user: claim.user },
            false => Step::Failed(SaslError::InvalidCredentials),
        }
    }
}

/// `user SP digest`. The user name may have spaces, so the last one counts.
fn parse(message: &[u8]) -> Result<Claim, SaslError> {
    let space = message.iter().rposition(|&b| b == b' ');
    let space = space.ok_or(SaslError::Malformed("expected user, a space and the digest"))?;
    let digest = message[space + 1..].to_ascii_lowercase();
    if digest.len() != 32 || !digest.iter().all(u8::is_ascii_hexdigit) {
        return Err(SaslError::Malformed("the digest must have 32 hexadecimal digits"));
    }
    Ok(Claim { user: prepared_user(&message[..space])?, digest })
}

#[derive(Debug)]
struct Client {
    ctx: ClientContext,
}

impl Connect for Client {
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError> {
        Ok(None)
    }
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let c = &self.ctx.credentials;
        Ok(format!("{} {}", c.user, digest(c.password.as_bytes(), challenge)).into_bytes())
    }
    fn finish(&mut self) -> Result<(), SaslError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2195() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(digest(b"tanstaaftanstaaf", challenge), "b913a602c7eda7a495b4e6e7334d3890");
    }
}
