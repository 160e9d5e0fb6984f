//! A session before its first message: greeting, EHLO, STARTTLS and EHLO again, AUTH.
//!
//! How it fails: a refusal ends the connection with its code; a server that does not offer what the connection needs, or
//! cannot prove that it knows the password, is [`Next::Unfit`] with the reason.

use super::script::{Feed, Job, Mechanism, Next, Outcome, Plan, Shared, Transfer, Verdict, Work};
use super::session::{Expect, Offered, Session};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost::base::time::Instant;
use gatepost::base::tls::ChannelBinding;
use gatepost::sasl::client::{Exchange, choose};

/// Challenges of one login; SCRAM has two.
const CHALLENGES_MAX: u32 = 8;
/// Longest command line with an initial response (RFC 4954 §4 has 12288 octets for AUTH lines); a longer one waits.
const INITIAL_OCTETS_MAX: usize = 12_288;

/// What is known before the first message, and not needed any more after.
#[derive(Debug)]
pub(super) struct Opening {
    plan: Plan,
    protected: bool,
    binding: Option<ChannelBinding>,
    mechanisms: Vec<String>,
    exchange: Option<Exchange>,
    challenges: u32,
    /// The initial response, when it goes after an empty challenge.
    held_back: Option<Vec<u8>>,
    /// In a test of logins: the one under way.
    pub job: Option<Job>,
}

impl Opening {
    pub fn new(plan: Plan) -> Opening {
        Opening {
            plan,
            protected: false,
            binding: None,
            mechanisms: Vec::new(),
            exchange: None,
            challenges: 0,
            held_back: None,
            job: None,
        }
    }

    /// A login is over.
    pub fn end_login(job: Job, verdict: Verdict, shared: &mut Shared<'_>) {
        let latency = shared.now.since(job.scheduled);
        shared.outcomes.push(Outcome { job, crc: 0, octets: 0, verdict, latency });
    }

    /// AUTH with its initial response.
    fn log_in(&mut self) -> Result<Vec<u8>, &'static str> {
        let credentials = self.plan.credentials.as_ref().ok_or("nobody to log in")?;
        let name = match self.plan.mechanism {
            Mechanism::Named(name) => self.mechanisms.iter().any(|m| m.eq_ignore_ascii_case(name)).then_some(name),
            Mechanism::Best => choose(&self.mechanisms, self.protected, self.binding.as_ref(), false),
        };
        let name = name.ok_or("no fit AUTH mechanism offered")?;
        let (exchange, initial) = Exchange::start(name, credentials, self.plan.nonce, self.binding.as_ref())
            .map_err(|_| "login cannot be begun")?;
        self.exchange = Some(exchange);
        let mut line = format!("AUTH {name}");
        match initial {
            // RFC 4954 §4: an initial response that does not fit waits for an empty challenge; an empty one is "=".
            Some(bytes) if bytes.len() / 3 * 4 + line.len() + 8 > INITIAL_OCTETS_MAX => self.held_back = Some(bytes),
            Some(bytes) if bytes.is_empty() => line.push_str(" ="),
            Some(bytes) => {
                line.push(' ');
                STANDARD.encode_string(bytes, &mut line);
            }
            None => {}
        }
        line.push_str("\r\n");
        Ok(line.into_bytes())
    }

    /// The answer to a challenge.
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.challenges += 1;
        if self.challenges > CHALLENGES_MAX {
            return Err("too many challenges");
        }
        let response = match self.held_back.take() {
            Some(held_back) => held_back,
            None => {
                let challenge = STANDARD.decode(challenge.trim_ascii()).map_err(|_| "a challenge is not base64")?;
                let exchange = self.exchange.as_mut().ok_or("a challenge out of turn")?;
                exchange.respond(&challenge).map_err(|_| "a challenge cannot be answered")?
            }
        };
        let mut line = STANDARD.encode(response).into_bytes();
        line.extend_from_slice(b"\r\n");
        Ok(line)
    }
}

impl Session {
    pub(super) fn greeting(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        if code / 100 != 2 {
            return Next::Refused(code);
        }
        self.hello(shared)
    }

    fn hello(&mut self, shared: &mut Shared<'_>) -> Next {
        shared.out.push_bytes(if shared.script.lmtp {
            b"LHLO load.example.test\r\n"
        } else {
            b"EHLO load.example.test\r\n"
        });
        self.offered = Offered::default();
        self.expect(Expect::Hello, shared.now);
        Next::Wait
    }

    /// A line of the reply to EHLO.
    pub(super) fn extension(&mut self, text: &[u8]) {
        let mut words = text.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
        let word = words.next().unwrap_or_default();
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        self.offered.pipelining |= is("PIPELINING");
        self.offered.chunking |= is("CHUNKING");
        self.offered.eight_bit |= is("8BITMIME");
        self.offered.starttls |= is("STARTTLS");
        if is("AUTH")
            && let Some(opening) = self.opening.as_mut().filter(|o| o.plan.credentials.is_some())
        {
            opening.mechanisms = words.map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        }
    }

    pub(super) fn hello_reply(&mut self, code: u16, shared: &mut Shared<'_>) -> Next {
        if code / 100 != 2 {
            return Next::Refused(code);
        }
        let Some(opening) = &mut self.opening else { return Next::Broken };
        if opening.plan.starttls && !opening.protected {
            if !self.offered.starttls {
                return Next::Unfit("STARTTLS not offered");
            }
            shared.out.push_bytes(b"STARTTLS\r\n");
            self.expect(Expect::StartTls, shared.now);
            return Next::Wait;
        }
        if opening.plan.credentials.is_none() {
            return self.opened(shared);
        }
        if shared.script.work == Work::Login {
            match (shared.feed)() {
                Feed::Job(job) => opening.job = Some(job),
                Feed::Later | Feed::Over => return self.quit(shared),
            }
        }
        match opening.log_in() {
            Ok(line) => {
                shared.out.push_bytes(&line);
                self.expect(Expect::Auth, shared.now);
                Next::Wait
            }
            Err(why) => Next::Unfit(why),
        }
    }

    pub(super) fn starttls_reply(&mut self, code: u16) -> Next {
        if code == 220 { Next::StartTls } else { Next::Refused(code) }
    }

    /// The handshake is over.
    pub fn tls_started(&mut self, binding: Option<ChannelBinding>, shared: &mut Shared<'_>) -> Next {
        let Some(opening) = &mut self.opening else { return Next::Broken };
        opening.protected = true;
        opening.binding = binding;
        opening.mechanisms.clear();
        if opening.plan.implicit {
            self.greeting_from(shared.now);
            return Next::Wait;
        }
        // RFC 3207 §4.2: what was said before does not count.
        self.hello(shared)
    }

    pub(super) fn auth_reply(&mut self, code: u16, text: &[u8], since: Instant, shared: &mut Shared<'_>) -> Next {
        let Some(opening) = &mut self.opening else { return Next::Broken };
        if code == 334 {
            return match opening.respond(text) {
                Ok(line) => {
                    shared.out.push_bytes(&line);
                    self.expect(Expect::Auth, since);
                    Next::Wait
                }
                Err(why) => Next::Unfit(why),
            };
        }
        // Only a server that knew the password can finish an exchange of SCRAM.
        let proven = match (code / 100, &mut opening.exchange) {
            (2, Some(exchange)) => exchange.finish(None).is_ok(),
            _ => true,
        };
        if !proven {
            return Next::Unfit("the server did not prove that it knows the password");
        }
        if let Some(job) = opening.job.take() {
            let verdict = if code / 100 == 2 { Verdict::Accepted(0) } else { Verdict::Refused(code) };
            Opening::end_login(job, verdict, shared);
            self.opening = None;
            return self.quit(shared);
        }
        if code / 100 == 2 { self.opened(shared) } else { Next::Refused(code) }
    }

    /// From here on there are messages.
    fn opened(&mut self, shared: &mut Shared<'_>) -> Next {
        self.opening = None;
        self.offered.pipelining &= shared.script.pipeline;
        self.offered.chunking &= shared.script.transfer == Transfer::Bdat;
        self.proceed(shared)
    }
}
