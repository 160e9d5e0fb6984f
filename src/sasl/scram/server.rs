//! The server's half of SCRAM (RFC 5802 §3, §5).
//!
//! How it fails: `InvalidCredentials` for a wrong proof (an unknown user has decoy keys that no proof fits),
//! `ChannelBinding` and `Downgrade` when somebody may stand between, `Malformed` for the grammar.

use super::{Binding, Form, NONCE_OCTETS_MAX};
use crate::base::scram::ScramKeys;
use crate::sasl::SaslError;
use crate::sasl::server::{Context, SaslAnswer, SaslAsk, Serve, Step, check_authzid, prepared_user, wrong_answer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[derive(Debug)]
pub(super) struct Server {
    form: Form,
    nonce: String,
    state: State,
}

/// Named for what it waits for.
#[derive(Debug)]
enum State {
    ClientFirst,
    Keys(ClientFirst),
    ClientFinal {
        first: ClientFirst,
        keys: ScramKeys,
        server_first: String,
        nonce: String,
    },
    /// The server's signature is out; RFC 4954 §4 has the client answer it with an empty response.
    Empty {
        user: String,
    },
    Over,
}

/// `client-first-message` of RFC 5802 §7, checked.
#[derive(Debug)]
struct ClientFirst {
    gs2_header: String,
    /// `p=`: the data that `c=` must end with.
    binding_data: Vec<u8>,
    bare: String,
    user: String,
    nonce: String,
}

impl Server {
    pub fn new(form: Form, nonce: [u8; 32]) -> Server {
        Server { form, nonce: super::printable_nonce(&nonce), state: State::ClientFirst }
    }

    /// With the nonce of an RFC's example.
    #[cfg(test)]
    pub fn with_nonce(form: Form, nonce: &str) -> Server {
        Server { form, nonce: nonce.to_owned(), state: State::ClientFirst }
    }

    fn keys(&mut self, first: ClientFirst, keys: ScramKeys) -> Step {
        if keys.stored_key.len() != self.form.hash.octets() || keys.server_key.len() != self.form.hash.octets() {
            return wrong_answer();
        }
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let step = Step::Challenge(server_first.clone().into_bytes());
        self.state = State::ClientFinal { first, keys, server_first, nonce };
        step
    }
}

impl Serve for Server {
    fn respond(&mut self, ctx: &Context, response: &[u8]) -> Step {
        let step = match std::mem::replace(&mut self.state, State::Over) {
            State::ClientFirst => ClientFirst::parse(self.form, ctx, response).map(|first| {
                let ask = SaslAsk::ScramKeys { user: first.user.clone(), hash: self.form.hash };
                self.state = State::Keys(first);
                Step::Ask(ask)
            }),
            State::ClientFinal { first, keys, server_first, nonce } => {
                verify(self.form, &first, &keys, &server_first, &nonce, response).map(|signature| {
                    self.state = State::Empty { user: first.user };
                    Step::Challenge(format!("v={}", STANDARD.encode(signature)).into_bytes())
                })
            }
            State::Empty { user } if response.is_empty() => Ok(Step::Done { user }),
            State::Empty { .. } => Err(SaslError::Malformed("expected an empty response to the server's signature")),
            State::Keys(_) | State::Over => Err(SaslError::OutOfOrder("a response out of turn")),
        };
        step.unwrap_or_else(Step::Failed)
    }

    fn answer(&mut self, _: &Context, answer: SaslAnswer) -> Step {
        match (answer, std::mem::replace(&mut self.state, State::Over)) {
            (SaslAnswer::ScramKeys(keys), State::Keys(first)) => self.keys(first, keys),
            _ => wrong_answer(),
        }
    }
}

impl ClientFirst {
    /// `gs2-cbind-flag "," [authzid] "," client-first-message-bare`
    fn parse(form: Form, ctx: &Context, message: &[u8]) -> Result<ClientFirst, SaslError> {
        const SHAPE: SaslError = SaslError::Malformed("expected a channel-binding flag, an authzid field and n=,r=");
        let message = super::text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(SHAPE)?;
        let (authzid, bare) = rest.split_once(',').ok_or(SHAPE)?;
        let binding_data = binding_data(form, ctx, flag)?;
        let gs2_header = message[..message.len() - bare.len()].to_owned();

        let mut fields = bare;
        if fields.starts_with("m=") {
            // RFC 5802 §5.1: an extension we do not know but must understand.
            return Err(SaslError::Malformed("mandatory extensions (m=) are not supported"));
        }
        let name = super::take_attribute(&mut fields, 'n', "expected n= and the user name")?;
        let nonce = super::check_nonce(super::take_attribute(&mut fields, 'r', "expected r= and the nonce")?)?;
        if nonce.len() > NONCE_OCTETS_MAX {
            return Err(SaslError::Malformed("the client's nonce is too long"));
        }
        let user = prepared_user(super::unescape_name(name)?.as_bytes())?;
        match authzid.strip_prefix("a=") {
            Some(id) => check_authzid(super::unescape_name(id)?.as_bytes(), &user)?,
            None if authzid.is_empty() => {}
            None => return Err(SHAPE),
        }
        Ok(ClientFirst { gs2_header, binding_data, bare: bare.to_owned(), user, nonce: nonce.to_owned() })
    }
}

/// What the flag obliges the client to repeat under `c=` (RFC 5802 §6).
fn binding_data(form: Form, ctx: &Context, flag: &str) -> Result<Vec<u8>, SaslError> {
    match (form.binding, flag) {
        (Binding::Bound, flag) => {
            let name = flag.strip_prefix("p=");
            let name = name.ok_or(SaslError::ChannelBinding("a -PLUS mechanism needs the flag p="))?;
            let data = ctx.channel_binding.as_ref().and_then(|binding| binding.by_name(name));
            data.map(<[u8]>::to_vec).ok_or(SaslError::ChannelBinding("this binding type is not available here"))
        }
        (Binding::Unbound, "n") => Ok(Vec::new()),
        (Binding::Unbound, "y") if ctx.offers_binding() => Err(SaslError::Downgrade),
        (Binding::Unbound, "y") => Ok(Vec::new()),
        (Binding::Unbound, flag) if flag.starts_with("p=") => {
            Err(SaslError::ChannelBinding("the flag p= needs a -PLUS mechanism"))
        }
        _ => Err(SaslError::Malformed("the channel-binding flag must be n, y or p=")),
    }
}

/// Checks `client-final-message` and returns the server's signature (RFC 5802 §3).
fn verify(
    form: Form,
    first: &ClientFirst,
    keys: &ScramKeys,
    server_first: &str,
    nonce: &str,
    message: &[u8],
) -> Result<Vec<u8>, SaslError> {
    let message = super::text(message)?;
    // The proof comes last (RFC 5802 §7), extensions stand before it.
    let proof_at = message.rfind(",p=").ok_or(SaslError::Malformed("expected p= and the proof at the end"))?;
    let without_proof = &message[..proof_at];
    let proof = super::decode(&message[proof_at + 3..], "the proof is not base64")?;
    let mut fields = without_proof;
    let binding = super::take_attribute(&mut fields, 'c', "expected c= and the channel binding")?;
    let binding = super::decode(binding, "the channel binding is not base64")?;
    let echoed = super::take_attribute(&mut fields, 'r', "expected r= and the nonce")?;

    if !crate::sasl::equal(&binding, &super::binding_input(&first.gs2_header, &first.binding_data)) {
        return Err(SaslError::ChannelBinding("the client is bound to another session"));
    }
    if !crate::sasl::equal(echoed.as_bytes(), nonce.as_bytes()) {
        return Err(SaslError::Malformed("the nonce is not the one of this exchange"));
    }
    if proof.len() != form.hash.octets() {
        return Err(SaslError::Malformed("the proof has a wrong length"));
    }
    let auth_message = format!("{},{server_first},{without_proof}", first.bare);
    let signature = form.hash.hmac(&keys.stored_key, auth_message.as_bytes());
    let client_key = super::xor(&proof, &signature);
    if !crate::sasl::equal(&form.hash.digest(&client_key), &keys.stored_key) {
        return Err(SaslError::InvalidCredentials);
    }
    Ok(form.hash.hmac(&keys.server_key, auth_message.as_bytes()))
}
