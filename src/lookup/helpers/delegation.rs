//! Postfix's policy delegation (SMTPD_POLICY_README): a list of attributes, an empty line, and an answer `action=…`.
//!
//! A service is asked at RCPT about the last recipient, and at the end of a message with its size. How it fails: as
//! [`super`] has it; an action nobody knows is garbage. Actions that only Postfix can do (`FILTER`, restriction classes)
//! are taken as no objection and left among the symbols.

mod action;

use super::address::Stream;
use super::failure::Failure;
use super::idle::Idle;
use super::milter::{client_ip, transaction_id};
use super::{Door, HelperKnobs, within};
use crate::base::inquiry::{Advice, Case};
use action::advice;
use std::fmt::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Octets of an answer at most; Postfix's own limit for one attribute is 2048.
const ANSWER_OCTETS_MAX: usize = 16 * 1024;
const WHAT: &str = "action";

/// How policy services are spoken to.
pub(super) struct Policy {
    idle: Idle<Box<dyn Stream>>,
    answer_timeout: Duration,
    context: String,
}

impl Policy {
    pub(super) fn new(knobs: &HelperKnobs) -> Policy {
        Policy {
            idle: Idle::new(knobs.idle_max.min(knobs.connections_max), knobs.idle_time_max),
            answer_timeout: knobs.answer_timeout,
            context: knobs.policy_context.clone().unwrap_or_default(),
        }
    }

    pub(super) async fn ask(&self, door: &Door, case: &Case) -> Result<Advice, Failure> {
        let request = request(case, &self.context);
        let mut answer = None;
        if let Some(mut stream) = self.idle.take() {
            match self.exchange(&mut stream, &request).await {
                Ok(said) => answer = Some((said, stream)),
                // It was closed while nobody looked: those beside it are no better.
                Err((failure, 0)) if failure.is_gone() => self.idle.clear(),
                Err((failure, _)) => return Err(failure),
            }
        }
        let (said, stream) = match answer {
            Some(answer) => answer,
            None => {
                let mut stream = door.connect().await?;
                let said = self.exchange(&mut stream, &request).await.map_err(|(failure, _)| failure)?;
                (said, stream)
            }
        };
        let advice = advice(&said, case)?;
        self.idle.put(stream);
        Ok(advice)
    }

    /// Asks and reads up to the empty line; a failure comes with the octets that were heard before it.
    async fn exchange(&self, stream: &mut Box<dyn Stream>, request: &str) -> Result<String, (Failure, usize)> {
        let writing = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await
        };
        within(self.answer_timeout, WHAT, writing).await.map_err(|failure| (failure, 0))?;
        let mut heard = Vec::new();
        let reading = async {
            loop {
                let n = stream.read_buf(&mut heard).await.map_err(|e| Failure::Broken(WHAT, e.to_string()))?;
                if let Some(end) = end_of_answer(&heard) {
                    // What follows an answer that nobody asked for is out of step.
                    return if end == heard.len() {
                        Ok(())
                    } else {
                        Err(Failure::Garbage("two answers to one question".into()))
                    };
                }
                if n == 0 {
                    return Err(Failure::Closed(WHAT));
                }
                if heard.len() > ANSWER_OCTETS_MAX {
                    return Err(Failure::Garbage(format!("an answer of more than {ANSWER_OCTETS_MAX} octets")));
                }
            }
        };
        let limit = self.answer_timeout;
        let read = tokio::time::timeout(limit, reading).await.unwrap_or(Err(Failure::Timeout(WHAT, limit)));
        match read {
            Ok(()) => Ok(String::from_utf8_lossy(&heard).into_owned()),
            Err(failure) => Err((failure, heard.len())),
        }
    }
}

/// Where the empty line behind an answer ends.
fn end_of_answer(heard: &[u8]) -> Option<usize> {
    let ends = |mark: &[u8]| memchr::memmem::find(heard, mark).map(|at| at + mark.len());
    ends(b"\n\n").into_iter().chain(ends(b"\n\r\n")).min()
}

/// The attributes of SMTPD_POLICY_README, as far as they are known here.
fn request(case: &Case, context: &str) -> String {
    let (state, recipient, count) = stage(case);
    let name = case.client_name.as_ref().map_or("unknown", |name| name.as_str());
    let (tls_version, tls_cipher) = case.tls.as_ref().map_or(("", ""), |(v, c)| (v.as_str(), c.as_str()));
    let local = case.local.ip().to_canonical();
    let id = transaction_id(case);
    let protocol = if &*case.listener == "lmtp" { "LMTP" } else { "ESMTP" };
    let size = case.body.as_ref().map_or(0, |body| body.shape.octets);
    let mut out = String::with_capacity(1024);
    let mut put = |name: &str, value: &str| {
        // A line end would begin another attribute. Writing to a String cannot fail.
        let value: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = writeln!(out, "{name}={value}");
    };
    put("request", "smtpd_access_policy");
    put("protocol_state", state);
    put("protocol_name", protocol);
    put("client_address", &client_ip(case).to_string());
    put("client_name", name);
    put("client_port", &case.client.port().to_string());
    put("reverse_client_name", name);
    put("server_address", &local.to_string());
    put("server_port", &case.local.port().to_string());
    put("helo_name", &case.helo);
    put("queue_id", if case.body.is_some() { &id } else { "" });
    // The same for every question of one message, so that a service can count it once.
    put("instance", &id);
    put("sender", &case.sender.as_ref().map(ToString::to_string).unwrap_or_default());
    put("recipient", &recipient);
    put("recipient_count", &count.to_string());
    put("size", &size.to_string());
    put("sasl_method", "");
    put("sasl_username", case.user.as_deref().unwrap_or_default());
    put("sasl_sender", "");
    put("ccert_subject", "");
    put("ccert_issuer", "");
    put("ccert_fingerprint", "");
    put("encryption_protocol", tls_version);
    put("encryption_cipher", tls_cipher);
    put("encryption_keysize", "0");
    put("etrn_domain", "");
    put("stress", "");
    put("policy_context", context);
    put("mail_version", concat!("gatepost-", env!("CARGO_PKG_VERSION")));
    out.push('\n');
    out
}

/// The state of the protocol, the recipient in question, and how many there are. At the end of a message the recipient
/// is told only when there is one, and the count is known only then, as Postfix has it.
fn stage(case: &Case) -> (&'static str, String, usize) {
    let last = case.recipients.last().map(ToString::to_string).unwrap_or_default();
    if case.body.is_some() {
        let only = if case.recipients.len() == 1 { last } else { String::new() };
        return ("END-OF-MESSAGE", only, case.recipients.len());
    }
    let state = match (case.helo.is_empty(), case.transaction, case.recipients.is_empty()) {
        (true, 0, _) => "CONNECT",
        (false, 0, _) => "HELO",
        (_, _, true) => "MAIL",
        (_, _, false) => "RCPT",
    };
    (state, last, 0)
}
