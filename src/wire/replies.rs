//! The catalogue: every reply the SMTP and LMTP server speaks, one function each, with its code, its enhanced status code
//! (RFC 3463, RFC 2034) and the section that asks for it. No other file of the server has a reply in it.
//!
//! How it fails: it does not; text from elsewhere is cleaned by [`Reply::emit`].

use crate::base::address::Mailbox;
use crate::wire::address::AddressError;
use crate::wire::data::Offence;
use crate::wire::reply::{Enhanced, Reply};
use std::borrow::Cow;

/// Declares replies of fixed text.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $code:literal $(($a:literal, $b:literal, $c:literal))? $text:literal;)+) => {
        $($(#[$doc])* pub fn $name() -> Reply {
            #[allow(unused_mut, unused_assignments)] // not every reply has an enhanced code
            let mut enhanced = None;
            $(enhanced = Some(Enhanced($a, $b, $c));)?
            Reply::new($code, enhanced, $text)
        })+
    };
}

replies! {
    // Positive.
    /// RFC 5321 §4.1.1.10
    bye = 221 (2, 0, 0) "closing the connection";
    /// RSET, RFC 5321 §4.1.1.5
    reset = 250 (2, 0, 0) "forgotten";
    /// NOOP, RFC 5321 §4.1.1.9
    noop = 250 (2, 0, 0) "OK";
    /// MAIL, RFC 5321 §3.3
    sender_ok = 250 (2, 1, 0) "sender OK";
    /// VRFY and EXPN where the policy does not open them, RFC 5321 §3.5.3
    cannot_verify = 252 (2, 1, 5) "cannot verify, but will try to deliver";
    /// DATA, RFC 5321 §4.1.1.4
    start_mail_input = 354 "send the message, end with CRLF . CRLF";
    /// STARTTLS, RFC 3207 §4
    ready_for_tls = 220 (2, 0, 0) "ready to start TLS";
    /// AUTH, RFC 4954 §6
    authenticated = 235 (2, 7, 0) "authentication succeeded";

    // Not now, RFC 5321 §4.2.1.
    /// RFC 5321 §4.5.3.2
    timed_out = 421 (4, 4, 2) "timed out waiting for you";
    /// RFC 5321 §3.8
    shutting_down = 421 (4, 3, 2) "the service is shutting down";
    /// More refused commands than `errors_max`
    too_many_errors = 421 (4, 7, 0) "too many errors";
    /// More idle commands than `idle_commands_max`
    too_many_idle_commands = 421 (4, 7, 0) "too many commands without mail";
    /// More failed logins than `auth_failures_max`
    too_many_auth_failures = 421 (4, 7, 0) "too many failed logins";
    /// RFC 9422 §4.1 (MAILMAX)
    too_many_transactions = 421 (4, 7, 0) "too many messages on this connection";
    /// Connections above a limit, before they cost anything
    too_many_connections = 421 (4, 7, 0) "too many connections";
    /// RFC 5321 §4.5.3.1.10
    too_many_recipients = 452 (4, 5, 3) "too many recipients";
    /// An account over its quota, for mail of the queue: it may find room in time (RFC 3463 §3.3)
    mailbox_full = 452 (4, 2, 2) "the mailbox is full";
    /// RFC 5321 §4.2.2
    no_room = 452 (4, 3, 1) "no room for the message now";
    /// The server behind us cannot be reached (RFC 5321 §4.2.2)
    backend_unavailable = 451 (4, 4, 1) "the mail server behind is not available, try again later";
    /// The server behind us broke off before it said what became of the message
    backend_lost = 451 (4, 4, 2) "the mail server behind broke off, try again later";
    /// The server behind us takes some recipients only; at the next try the others are refused at RCPT
    recipients_differ = 451 (4, 3, 0) "not all recipients can be reached together, try again";
    /// RFC 5321 §4.2.2: something of ours is at fault
    local_error = 451 (4, 3, 0) "local error, try again later";
    /// RFC 4954 §6
    auth_unavailable = 454 (4, 7, 0) "accounts cannot be checked now";

    // Never so, RFC 5321 §4.2.1.
    /// RFC 5321 §4.5.3.1.4
    line_too_long = 500 (5, 5, 2) "line too long";
    /// RFC 5321 §2.3.8
    bare_line_feed = 500 (5, 5, 2) "lines end in CRLF, this one has a bare line feed";
    /// RFC 5321 §4.2.4
    unknown_command = 500 (5, 5, 1) "unknown command";
    /// RFC 5321 §4.2.2
    empty_line = 500 (5, 5, 2) "a command was expected";
    /// RFC 5321 §2.4
    control_character = 501 (5, 5, 2) "the command has a control character in it";
    /// RFC 6531 §3.1
    not_utf8 = 501 (5, 5, 2) "the command has octets in it that are no UTF-8";
    /// RFC 5321 §4.3.2
    no_argument_expected = 501 (5, 5, 4) "the command takes no argument";
    /// RFC 5321 §4.1.1.1
    hello_argument_expected = 501 (5, 5, 4) "expected the name or [address] of your host";
    /// RFC 5321 §4.1.1.6
    verify_argument_expected = 501 (5, 5, 4) "expected a name or an address";
    /// RFC 5321 §4.1.1.2
    mail_syntax = 501 (5, 5, 4) "expected MAIL FROM:<address> or MAIL FROM:<>";
    /// RFC 5321 §4.1.1.3
    rcpt_syntax = 501 (5, 5, 4) "expected RCPT TO:<address>";
    /// RFC 3030 §2; the connection ends because the octets that follow cannot be counted
    bdat_syntax = 501 (5, 5, 4) "expected BDAT octets or BDAT octets LAST";
    /// RFC 4954 §4
    auth_syntax = 501 (5, 5, 4) "expected AUTH mechanism or AUTH mechanism initial-response";
    /// Postfix's XCLIENT_README
    xclient_syntax = 501 (5, 5, 4) "expected XCLIENT name=value";
    /// RFC 5321 §4.1.2
    parameter_syntax = 501 (5, 5, 4) "the parameters are malformed";
    /// RFC 5321 §4.1.2
    parameter_repeated = 501 (5, 5, 4) "a parameter is given twice";
    /// RFC 5321 §4.1.2
    parameter_value = 501 (5, 5, 4) "the value of a parameter is malformed";
    /// RFC 5321 §4.1.1.11
    parameter_unknown = 555 (5, 5, 4) "a parameter is not known or not in force";
    /// RFC 4954 §4
    not_base64 = 501 (5, 5, 2) "the response is not base64";
    /// RFC 4954 §4
    auth_malformed = 501 (5, 5, 2) "the response is not what the mechanism expects";
    /// RFC 4954 §4
    auth_cancelled = 501 (5, 7, 0) "authentication cancelled";
    /// RFC 4954 §4
    auth_line_too_long = 500 (5, 5, 6) "authentication line too long";
    /// RFC 5321 §4.2.4
    not_offered = 502 (5, 5, 1) "the command is not offered here";
    /// RFC 2033 §4.1
    not_this_hello = 500 (5, 5, 1) "this service wants the other hello (EHLO for SMTP, LHLO for LMTP)";
    /// RFC 5321 §4.1.4
    hello_first = 503 (5, 5, 1) "send EHLO first";
    /// RFC 5321 §4.1.4
    mail_first = 503 (5, 5, 1) "send MAIL first";
    /// RFC 5321 §4.1.4
    rcpt_first = 503 (5, 5, 1) "send RCPT first";
    /// RFC 5321 §4.1.4
    nested_mail = 503 (5, 5, 1) "a transaction is open, end it or send RSET";
    /// RFC 3030 §2
    not_after_bdat = 503 (5, 5, 1) "the message has begun by BDAT, end it or send RSET";
    /// RFC 3030 §2: after a refused chunk
    chunks_refused = 503 (5, 5, 1) "the message was refused, send RSET";
    /// RFC 3030 §3
    binary_needs_bdat = 503 (5, 5, 1) "BODY=BINARYMIME needs BDAT";
    /// RFC 4954 §4
    already_authenticated = 503 (5, 5, 1) "you are authenticated already";
    /// RFC 4954 §4, RFC 3207 §4
    not_in_transaction = 503 (5, 5, 1) "not while a transaction is open";
    /// RFC 5321 §3.1: after a 554 greeting
    turned_away = 503 (5, 5, 1) "no service for you, send QUIT";
    /// RFC 4954 §4
    mechanism_unknown = 504 (5, 5, 4) "the mechanism is not offered here";
    /// RFC 4954 §6
    auth_needs_tls = 538 (5, 7, 11) "the mechanism needs TLS";
    /// RFC 4954 §6
    auth_invalid = 535 (5, 7, 8) "authentication failed";
    /// RFC 6531 §3.5
    needs_smtputf8 = 553 (5, 6, 7) "an address beyond ASCII needs the SMTPUTF8 parameter";
    /// RFC 1870 §6.1
    size_too_large = 552 (5, 3, 4) "the message is larger than the limit";
    /// More people behind lists than one message may be for (RFC 5321 §4.5.3.1.10: the rest is to come in another one)
    too_many_people = 452 (4, 5, 3) "the lists have too many members for one message, send it to fewer at a time";
    /// An account over its quota (RFC 3463 §3.3)
    over_quota = 552 (5, 2, 2) "the mailbox is full";
    /// A recipient that no table and no backend knows (RFC 5321 §3.3)
    unknown_recipient = 550 (5, 1, 1) "no such recipient here";
    /// RFC 5321 §3.3
    no_valid_recipients = 554 (5, 5, 1) "no valid recipients";
    /// The peer speaks HTTP, TLS or a proxy's protocol
    foreign_protocol = 554 (5, 5, 1) "this is an SMTP server";
    /// RFC 5321 §3.1
    no_service = 554 (5, 3, 2) "no service here";
}

/// The greeting (RFC 5321 §4.3.1).
pub fn greeting(hostname: &str, protocol: &str) -> Reply {
    Reply::new(220, None, format!("{hostname} {protocol} Gatepost"))
}

/// The positive answer to HELO (RFC 5321 §4.1.1.1); EHLO adds its lines.
pub fn hello(hostname: &str, client: &str) -> Reply {
    Reply::new(250, None, format!("{hostname} greets {client}"))
}

/// VRFY of a mailbox that is known, RFC 5321 §3.5.1
pub fn verified(mailbox: &Mailbox) -> Reply {
    Reply::new(250, Some(Enhanced(2, 1, 5)), format!("<{mailbox}>"))
}

/// EXPN of a list: one member to a line, RFC 5321 §4.2.1
pub fn members(members: Vec<String>) -> Reply {
    let mut lines: Vec<Cow<'static, str>> = members.into_iter().map(|m| Cow::from(format!("<{m}>"))).collect();
    if lines.is_empty() {
        lines.push("the list has no members".into());
    }
    Reply { code: 250, enhanced: Some(Enhanced(2, 1, 5)), lines }
}

/// RCPT (RFC 5321 §3.3).
pub fn recipient_ok() -> Reply {
    Reply::new(250, Some(Enhanced(2, 1, 5)), "recipient OK")
}

/// A chunk that is not the last (RFC 3030 §2).
pub fn chunk_ok(octets: u64) -> Reply {
    Reply::new(250, Some(Enhanced(2, 0, 0)), format!("{octets} octets received"))
}

/// End of data, kept here under an id (RFC 5321 §4.2.5).
pub fn kept(id: &str) -> Reply {
    Reply::new(250, Some(Enhanced(2, 0, 0)), format!("kept as {id}"))
}

/// End of data, accepted by the next hop, whose words are repeated (RFC 5321 §4.2.5).
pub fn passed_on(text: &str) -> Reply {
    Reply::new(250, Some(Enhanced(2, 0, 0)), format!("passed on: {text}"))
}

/// End of data, accepted and thrown away: the client is not told the difference.
pub fn taken() -> Reply {
    Reply::new(250, Some(Enhanced(2, 0, 0)), "message accepted")
}

/// A SASL challenge (RFC 4954 §4).
pub fn challenge(base64: String) -> Reply {
    Reply::new(334, None, base64)
}

/// HELP (RFC 5321 §4.1.1.8).
pub fn help(verbs: &str) -> Reply {
    Reply {
        code: 214,
        enhanced: Some(Enhanced(2, 0, 0)),
        lines: vec!["Gatepost knows these commands:".into(), verbs.to_owned().into(), "RFC 5321 explains them".into()],
    }
}

/// A malformed path in MAIL (RFC 3463 §3.2: x.1.7) or RCPT (x.1.3).
pub fn bad_address(error: AddressError, of_sender: bool) -> Reply {
    Reply::new(501, Some(Enhanced(5, 1, if of_sender { 7 } else { 3 })), error.to_string())
}

/// End of data after an offence in the text.
pub fn offence(offence: Offence) -> Reply {
    let (code, enhanced, text) = match offence {
        // RFC 5321 §2.3.8
        Offence::BareNewline => (554, Enhanced(5, 6, 0), "the message has a bare CR or LF in it; lines end in CRLF"),
        Offence::Nul => (554, Enhanced(5, 6, 0), "the message has a NUL in it"),
        // RFC 1870 §6.3
        Offence::TooLarge => (552, Enhanced(5, 3, 4), "the message is larger than the limit"),
        Offence::HeaderTooLarge => (552, Enhanced(5, 3, 4), "the header section is larger than the limit"),
        // RFC 5321 §4.5.3.1.6
        Offence::LineTooLong => (554, Enhanced(5, 6, 0), "the message has a line longer than the limit"),
    };
    Reply::new(code, Some(enhanced), text)
}
