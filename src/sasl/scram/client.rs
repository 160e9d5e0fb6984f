//! The client's half of SCRAM (RFC 5802 §3, §5).
//!
//! How it fails: `Malformed` for what the server sends wrongly, `ServerNotProven` when its signature is wrong or never
//! came, `InvalidCredentials` when it reports an error or our password cannot be prepared.

use super::{Binding, Form};
use crate::sasl::SaslError;
use crate::sasl::client::{ClientContext, Connect};
use crate::wire::prep;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;

/// RFC 7677 §4 and RFC 5802 §5.1: fewer would make the exchange cheap to attack offline for whoever plays the server.
const ITERATIONS_MIN: u32 = 4096;
/// A bound on the time a hostile server can make a core spend: about 30 ms.
const ITERATIONS_MAX: u32 = 100_000;

#[derive(Debug)]
pub(super) struct Client {
    form: Form,
    ctx: ClientContext,
    nonce: String,
    state: State,
}

/// Named for what it waits for.
#[derive(Debug)]
enum State {
    Initial,
    ServerFirst { gs2_header: String, binding_data: Vec<u8>, bare: String, nonce: String },
    ServerFinal { signature: Vec<u8> },
    Success,
    Over,
}

impl Client {
    pub fn new(form: Form, ctx: ClientContext) -> Client {
        let nonce = super::printable_nonce(&ctx.nonce);
        Client { form, ctx, nonce, state: State::Initial }
    }

    /// With the nonce of an RFC's example.
    #[cfg(test)]
    pub fn with_nonce(form: Form, ctx: ClientContext, nonce: &str) -> Client {
        Client { form, ctx, nonce: nonce.to_owned(), state: State::Initial }
    }

    /// The flag of RFC 5802 §6 and the data it obliges us to repeat.
    fn binding(&self) -> Result<(String, Vec<u8>), SaslError> {
        let strongest = self.ctx.channel_binding.as_ref().and_then(|binding| binding.strongest());
        match (self.form.binding, strongest) {
            (Binding::Bound, Some((name, data))) => Ok((format!("p={name}"), data.to_vec())),
            (Binding::Bound, None) => Err(SaslError::ChannelBinding("there is no TLS session to bind to")),
            (Binding::Unbound, Some(_)) => Ok(("y".to_owned(), Vec::new())),
            (Binding::Unbound, None) => Ok(("n".to_owned(), Vec::new())),
        }
    }

    fn first(&mut self) -> Result<Vec<u8>, SaslError> {
        let (flag, binding_data) = self.binding()?;
        let c = &self.ctx.credentials;
        let authzid = c.authzid.as_ref().map(|id| format!("a={}", super::escape_name(id))).unwrap_or_default();
        let gs2_header = format!("{flag},{authzid},");
        let nonce = self.nonce.clone();
        let bare = format!("n={},r={nonce}", super::escape_name(&c.user));
        let message = format!("{gs2_header}{bare}").into_bytes();
        self.state = State::ServerFirst { gs2_header, binding_data, bare, nonce };
        Ok(message)
    }

    /// `server-first-message` in, `client-final-message` and the signature to expect out.
    fn last(
        &self,
        challenge: &[u8],
        nonce: &str,
        cbind_input: &[u8],
        bare: &str,
    ) -> Result<(Vec<u8>, Vec<u8>), SaslError> {
        let server_first = super::text(challenge)?;
        let ServerFirst { nonce: both, salt, iterations } = ServerFirst::parse(server_first, nonce)?;
        let hash = self.form.hash;
        let password = prep::password(&self.ctx.credentials.password).map_err(|_| SaslError::InvalidCredentials)?;
        let salted = hash.salted_password(password.as_bytes(), &salt, iterations);
        let client_key = zeroize::Zeroizing::new(hash.hmac(&salted, b"Client Key"));
        let stored_key = hash.digest(&client_key);
        let server_key = hash.hmac(&salted, b"Server Key");

        let without_proof = format!("c={},r={both}", STANDARD.encode(cbind_input));
        let auth_message = format!("{bare},{server_first},{without_proof}");
        let proof = super::xor(&client_key, &hash.hmac(&stored_key, auth_message.as_bytes()));
        let message = format!("{without_proof},p={}", STANDARD.encode(&*proof)).into_bytes();
        Ok((message, hash.hmac(&server_key, auth_message.as_bytes())))
    }
}

impl Connect for Client {
    fn initial(&mut self) -> Result<Option<Vec<u8>>, SaslError> {
        self.first().map(Some)
    }

    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            // A server that ignored the initial response asks for it with an empty challenge (RFC 4954 §4).
            State::ServerFirst { .. } | State::Initial if challenge.is_empty() => self.first(),
            State::ServerFirst { gs2_header, binding_data, bare, nonce } => {
                let cbind_input = super::binding_input(&gs2_header, &binding_data);
                let (message, signature) = self.last(challenge, &nonce, &cbind_input, &bare)?;
                self.state = State::ServerFinal { signature };
                Ok(message)
            }
            State::ServerFinal { signature } => {
                check_server_final(challenge, &signature)?;
                self.state = State::Success;
                Ok(Vec::new())
            }
            State::Initial | State::Success | State::Over => Err(SaslError::Malformed("a challenge too many")),
        }
    }

    fn finish(&mut self) -> Result<(), SaslError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Success => Ok(()),
            _ => Err(SaslError::ServerNotProven("it reported success before it had sent its signature")),
        }
    }
}

/// `server-first-message` of RFC 5802 §7, checked.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    fn parse(message: &'a str, ours: &str) -> Result<ServerFirst<'a>, SaslError> {
        let mut fields = message;
        if fields.starts_with("m=") {
            return Err(SaslError::Malformed("mandatory extensions (m=) are not supported"));
        }
        let nonce = super::check_nonce(super::take_attribute(&mut fields, 'r', "expected r= and the nonce")?)?;
        // RFC 5802 §5.1: the client must see its own nonce first, and something of the server's after it.
        if !nonce.starts_with(ours) || nonce.len() == ours.len() {
            return Err(SaslError::ServerNotProven("its nonce does not extend ours"));
        }
        let salt = super::take_attribute(&mut fields, 's', "expected s= and the salt")?;
        let salt = super::decode(salt, "the salt is not base64")?;
        let iterations = super::take_attribute(&mut fields, 'i', "expected i= and the iterations")?;
        let iterations = iterations.parse().ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n));
        let iterations = iterations.and_then(NonZeroU32::new);
        let iterations = iterations.ok_or(SaslError::Malformed("the iterations must be 4096 to 100000"))?;
        Ok(ServerFirst { nonce, salt, iterations })
    }
}

fn check_server_final(message: &[u8], expected: &[u8]) -> Result<(), SaslError> {
    let mut fields = super::text(message)?;
    if fields.starts_with("e=") {
        return Err(SaslError::InvalidCredentials);
    }
    let signature = super::take_attribute(&mut fields, 'v', "expected v= and the server's signature")?;
    let signature = super::decode(signature, "the server's signature is not base64")?;
    if crate::sasl::equal(&signature, expected) {
        Ok(())
    } else {
        Err(SaslError::ServerNotProven("its signature is wrong"))
    }
}
