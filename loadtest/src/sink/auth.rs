//! Logins at the sink: users with their passwords, by SCRAM-SHA-256, PLAIN or LOGIN, over the gateway's own mechanisms.
//!
//! How it fails: a wrong password is 535, a broken exchange 501; a password that cannot be prepared is told at the start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost::sasl::server::{Context, Exchange, SaslAnswer, SaslAsk, Step};
use gatepost::sasl::{ScramHash, ScramKeys, nonce};
use gatepost::wire::prep;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Strongest first. PLAIN and LOGIN without TLS as well: what is tested here is load, with passwords made for it.
const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256", "PLAIN", "LOGIN"];
/// RFC 7677 §4 asks for at least so many.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
/// Octets of the salt, the same for all users: their passwords are in a file for tests.
const SALT: &[u8] = b"gatepost-load";

/// Who may log in.
pub struct Accounts {
    users: HashMap<String, (String, ScramKeys)>,
    secret: [u8; 32],
}

impl std::fmt::Debug for Accounts {
    /// Without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} accounts", self.users.len())
    }
}

impl Accounts {
    /// From names and passwords. Takes about a millisecond each.
    pub fn new(users: Vec<(String, String)>) -> Result<Accounts, String> {
        let mut secret = [0; 32];
        fastrand::fill(&mut secret);
        let mut accounts = Accounts { users: HashMap::with_capacity(users.len()), secret };
        for (user, password) in users {
            let prepared =
                prep::password(&password).map_err(|_| format!("password of {user:?}: has forbidden characters"))?;
            let keys = ScramKeys::derive(ScramHash::Sha256, prepared.as_bytes(), SALT, ITERATIONS);
            accounts.users.insert(user, (password, keys));
        }
        Ok(accounts)
    }

    /// What is offered.
    pub fn mechanisms(&self) -> [&'static str; 3] {
        MECHANISMS
    }

    fn answer(&self, ask: &SaslAsk) -> SaslAnswer {
        match ask {
            SaslAsk::Password { user, password } => {
                SaslAnswer::Password(self.users.get(user).is_some_and(|(own, _)| own.as_str() == password.as_str()))
            }
            SaslAsk::ScramKeys { user, hash } => SaslAnswer::ScramKeys(match self.users.get(user) {
                Some((_, keys)) => keys.clone(),
                None => ScramKeys::decoy(*hash, &self.secret, user, SALT.len(), ITERATIONS.get()),
            }),
            SaslAsk::SharedSecret { .. } | SaslAsk::External { .. } => SaslAnswer::Unavailable,
        }
    }
}

/// What a login says next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A challenge, as a reply.
    Challenge(String),
    /// It is over: whether it succeeded, and the reply.
    Over(bool, &'static str),
}

/// A login under way.
#[derive(Debug)]
pub(super) struct Login(Exchange);

impl Login {
    /// `AUTH mechanism [initial response]`, from behind the verb.
    pub fn start(argument: &str, accounts: &Accounts, attempt: u64) -> (Option<Login>, Said) {
        let mut words = argument.split_ascii_whitespace();
        let mechanism = words.next().unwrap_or_default();
        // RFC 4954 §4: "=" is an empty response, nothing is none.
        let initial = match words.next() {
            Some("=") => Ok(Some(Vec::new())),
            Some(text) => STANDARD.decode(text).map(Some),
            None => Ok(None),
        };
        let Ok(initial) = initial else { return (None, Said::Over(false, "501 5.5.2 not base64\r\n")) };
        let context = Context {
            enabled: MECHANISMS.map(str::to_owned).to_vec(),
            protected: true,
            nonce: nonce(&accounts.secret, attempt),
            ..Context::default()
        };
        let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), context);
        Login(exchange).go_on(step, accounts)
    }

    /// A line from the client.
    pub fn respond(mut self, line: &[u8], accounts: &Accounts) -> (Option<Login>, Said) {
        match STANDARD.decode(line) {
            Ok(response) => {
                let step = self.0.respond(&response);
                self.go_on(step, accounts)
            }
            // "*" cancels (RFC 4954 §4); anything else that is not base64 ends it as well.
            Err(_) => (None, Said::Over(false, "501 5.7.0 login cancelled\r\n")),
        }
    }

    fn go_on(mut self, mut step: Step, accounts: &Accounts) -> (Option<Login>, Said) {
        loop {
            step = match step {
                Step::Ask(ask) => {
                    let answer = accounts.answer(&ask);
                    self.0.answer(answer)
                }
                Step::Challenge(bytes) => {
                    return (Some(self), Said::Challenge(format!("334 {}\r\n", STANDARD.encode(bytes))));
                }
                Step::Done { .. } => return (None, Said::Over(true, "235 2.7.0 logged in\r\n")),
                Step::Failed(_) => return (None, Said::Over(false, "535 5.7.8 login refused\r\n")),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_taken_with_the_right_password_only() {
        let accounts = Accounts::new(vec![("ann".into(), "secret".into())]).unwrap();
        for (password, good) in [("secret", true), ("wrong", false)] {
            let initial = STANDARD.encode(format!("\0ann\0{password}"));
            let (login, said) = Login::start(&format!("PLAIN {initial}"), &accounts, 1);
            assert!(login.is_none() && matches!(said, Said::Over(g, _) if g == good), "{said:?}");
        }
        let (login, said) = Login::start("LOGIN", &accounts, 2);
        assert!(matches!(said, Said::Challenge(text) if text.starts_with("334 ")));
        let (login, said) = login.unwrap().respond(b"*", &accounts);
        assert!(login.is_none() && matches!(said, Said::Over(false, text) if text.starts_with("501")));
        assert!(matches!(Login::start("ROT13", &accounts, 3).1, Said::Over(false, _)));
        assert!(matches!(Login::start("PLAIN !", &accounts, 3).1, Said::Over(false, _)));
    }
}
