//! From the greeting to readiness: EHLO or LHLO (HELO where EHLO is unknown), STARTTLS, AUTH.
//!
//! How it fails: a backend that does not want us, does not protect or does not know us ends the connection with a
//! [`ClientError`] that says which; no message is ever begun on such a connection.

use crate::base::time::Instant;
use crate::base::tls::ChannelBinding;
use crate::sasl;
use crate::sasl::client::Exchange;
use crate::smtp::client::config::{OwnName, Speaks, TlsMode};
use crate::smtp::client::event::{ClientError, Event, Phase};
use crate::smtp::client::introduce::Introduce;
use crate::smtp::client::{Client, Owed, Protection, State};
use crate::wire::reply::Reply;
use crate::wire::response::{Capabilities, ResponseParser};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// An AUTH line with its initial response may be this long, else the response waits for a challenge (RFC 4954 §4).
const AUTH_LINE_OCTETS_MAX: usize = 512;
/// Challenges in one exchange at most; SCRAM has two.
const CHALLENGES_MAX: u32 = 8;

/// What is only needed until the connection is ready.
#[derive(Debug)]
pub(super) struct Opening {
    seed: [u8; 32],
    binding: Option<ChannelBinding>,
    login: Option<Login>,
}

#[derive(Debug)]
struct Login {
    exchange: Exchange,
    /// An initial response that was too long for the AUTH line.
    held_back: Option<Vec<u8>>,
    challenges: u32,
}

impl Opening {
    /// `seed` is fresh randomness.
    pub(super) fn new(seed: [u8; 32]) -> Opening {
        Opening { seed, binding: None, login: None }
    }
}

impl Client {
    /// What a new connection waits for.
    pub(super) fn open(&mut self) {
        if self.config.tls == TlsMode::Implicit {
            self.owed.push_back(Owed::Handshake);
            self.events.push_back(Event::StartTls);
        } else {
            self.owed.push_back(Owed::Greeting);
        }
    }

    /// TLS stands. `binding` is what the session gives for mechanisms with channel binding.
    pub fn tls_started(&mut self, now: Instant, binding: Option<ChannelBinding>) {
        let State::Opening(opening) = &mut self.state else { return };
        if self.owed.front() != Some(&Owed::Handshake) {
            return;
        }
        opening.binding = binding;
        self.owed.pop_front();
        self.session.protection = Protection::Tls;
        if self.config.tls == TlsMode::Implicit {
            self.owed.push_back(Owed::Greeting);
        } else {
            // RFC 3207 §4.2: forget what was learnt in clear and ask again.
            self.offered = Capabilities::default();
            self.parser = ResponseParser::new(self.config.knobs.response_limits());
            self.say_hello(Owed::Ehlo);
        }
        self.rearm(now);
    }

    /// The handshake failed; `text` is the library's.
    pub fn tls_failed(&mut self, _now: Instant, text: impl Into<String>) {
        self.fail(ClientError::TlsFailed(text.into()));
    }

    pub(super) fn say_hello(&mut self, owed: Owed) {
        let verb = if self.config.speaks == Speaks::Lmtp { "LHLO" } else { "EHLO" };
        let line = format!("{verb} {}\r\n", self.config.helo);
        self.say(owed, &line);
    }

    /// The reply to one of the commands before readiness.
    pub(super) fn opening_reply(&mut self, owed: Owed, reply: Reply) {
        match (owed, reply.code) {
            (Owed::Greeting, 220) => self.say_hello(Owed::Ehlo),
            (Owed::Ehlo, 250) => self.greeted(Capabilities::from_ehlo(&reply)),
            (Owed::Ehlo, 500 | 502 | 504 | 550) if self.config.speaks == Speaks::Smtp => {
                // RFC 5321 §3.2: a server that does not know EHLO is greeted with HELO.
                let line = format!("HELO {}\r\n", self.config.helo);
                self.say(Owed::Helo, &line);
            }
            (Owed::Helo, 250) => {
                let name = reply.lines.first().and_then(|l| l.split_ascii_whitespace().next());
                self.greeted(Capabilities { name: name.unwrap_or_default().to_owned(), ..Capabilities::default() });
            }
            (Owed::StartTls, 220) => {
                // What stands behind this reply in clear is refused by `handle_bytes`.
                self.owed.push_back(Owed::Handshake);
                self.events.push_back(Event::StartTls);
            }
            (Owed::StartTls, 400..) if self.config.tls == TlsMode::Required => {
                self.fail(ClientError::TlsRefused(reply));
            }
            (Owed::StartTls, 400..) => {
                self.session.protection = Protection::Refused;
                self.prepare();
            }
            (Owed::Auth, _) => self.auth_reply(reply),
            (_, 400..) => self.fail(ClientError::Unwelcome { at: owed.phase(), reply }),
            _ => self.fail(ClientError::Senseless { at: owed.phase(), reply }),
        }
    }

    fn greeted(&mut self, offered: Capabilities) {
        self.offered = offered;
        if self.config.own_name == OwnName::Loop && self.offered.name.eq_ignore_ascii_case(&self.config.helo) {
            let name = self.offered.name.clone();
            return self.fail(ClientError::Ourselves { name }); // RFC 5321 §5.1
        }
        self.prepare();
    }

    /// The next step towards readiness.
    fn prepare(&mut self) {
        let wants_tls = matches!(self.config.tls, TlsMode::IfOffered | TlsMode::Required);
        if wants_tls && self.session.protection == Protection::Clear {
            if self.offered.starttls {
                return self.say(Owed::StartTls, "STARTTLS\r\n");
            }
            if self.config.tls == TlsMode::Required {
                return self.fail(ClientError::TlsNotOffered);
            }
        }
        if self.config.auth.is_some() && !self.session.authenticated {
            return self.log_in();
        }
        if self.config.introduce == Introduce::Xclient && self.offered.xclient.is_empty() {
            return self.fail(ClientError::XclientNotOffered);
        }
        self.state = State::Ready;
        self.events.push_back(Event::Ready);
    }

    fn log_in(&mut self) {
        let State::Opening(opening) = &mut self.state else { return };
        let Some(credentials) = &self.config.auth else { return };
        let protected = self.session.protection == Protection::Tls || self.config.knobs.auth_in_clear;
        let binding = opening.binding.as_ref();
        let Some(mechanism) = sasl::client::choose(&self.offered.auth, protected, binding, false) else {
            let offered = self.offered.auth.clone();
            return self.fail(ClientError::AuthNotOffered { offered });
        };
        let started = Exchange::start(mechanism, credentials, sasl::nonce(&opening.seed, 0), binding);
        let (exchange, initial) = match started {
            Ok(started) => started,
            Err(error) => return self.fail(ClientError::AuthFailed(error.to_string())),
        };
        let (line, held_back) = auth_line(mechanism, initial);
        opening.login = Some(Login { exchange, held_back, challenges: 0 });
        self.say(Owed::Auth, &line);
    }

    fn auth_reply(&mut self, reply: Reply) {
        let State::Opening(opening) = &mut self.state else { return };
        let Some(login) = &mut opening.login else { return };
        match reply.code {
            334 => match login.answer(&reply) {
                Ok(line) => self.say(Owed::Auth, &line),
                Err(text) => self.fail(ClientError::AuthFailed(text)),
            },
            235 => match login.exchange.finish(None) {
                Ok(()) => {
                    opening.login = None;
                    self.session.authenticated = true;
                    self.prepare();
                }
                Err(error) => self.fail(ClientError::AuthFailed(error.to_string())),
            },
            400.. => self.fail(ClientError::AuthRefused(reply)),
            _ => self.fail(ClientError::Senseless { at: Phase::Auth, reply }),
        }
    }
}

impl Login {
    /// The line that answers a 334.
    fn answer(&mut self, reply: &Reply) -> Result<String, String> {
        self.challenges += 1;
        if self.challenges > CHALLENGES_MAX {
            return Err(format!("the server sent more than {CHALLENGES_MAX} challenges"));
        }
        let text = reply.lines.first().map(|l| l.trim()).unwrap_or_default();
        let response = match self.held_back.take() {
            Some(initial) => initial, // the challenge only asks for it
            None => {
                let challenge = BASE64.decode(text).map_err(|_| "the server's challenge is not base64".to_owned())?;
                self.exchange.respond(&challenge).map_err(|e| e.to_string())?
            }
        };
        Ok(format!("{}\r\n", BASE64.encode(response)))
    }
}

fn auth_line(mechanism: &str, initial: Option<Vec<u8>>) -> (String, Option<Vec<u8>>) {
    let Some(initial) = initial else { return (format!("AUTH {mechanism}\r\n"), None) };
    // RFC 4954 §4: an initial response of no octets is written `=`.
    let text = if initial.is_empty() { "=".to_owned() } else { BASE64.encode(&initial) };
    let line = format!("AUTH {mechanism} {text}\r\n");
    if line.len() > AUTH_LINE_OCTETS_MAX {
        return (format!("AUTH {mechanism}\r\n"), Some(initial));
    }
    (line, None)
}
