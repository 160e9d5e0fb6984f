//! From values to a line of the journal. A line is written piece by piece while its session goes on, so nothing is kept
//! twice.
//!
//! How it fails: it does not; what `decode` reads back is what was written (a property test holds that).

use super::event::{Event, Head, Headers, Said, Text, Tls, Told, What};
use super::json::{push_number, push_string};
use crate::base::body::BodyShape;
use crate::base::envelope::BodyType;
use crate::policy::state::Load;
use crate::policy::value::show_thousandths;

/// Version of the format, in every line.
pub const VERSION: u64 = 1;

/// Begins a line.
pub fn begin(head: &Head<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"v\":");
    push_number(out, VERSION);
    text(out, "run", &head.run);
    text(out, "session", &head.session);
    number_unless_zero(out, "part", head.part);
    number(out, "at_ms", head.at_ms);
    number(out, "start_ns", head.start_ns);
    number(out, "seq", head.seq);
    text(out, "policy", &head.policy);
    number_unless_zero(out, "loads", head.loads);
    text(out, "listener", &head.listener);
    key(out, "client");
    // Addresses are shown without characters that need an escape.
    out.extend_from_slice(format!("\"{}\"", head.client).as_bytes());
    number(out, "port", u64::from(head.port));
    if let Some(tls) = &head.tls {
        key(out, "tls");
        push_tls(out, tls);
    }
    flag(out, "hashed", head.hashed);
    if !head.missing.is_empty() {
        key(out, "missing");
        out.push(b'[');
        for (i, name) in head.missing.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            push_string(out, name);
        }
        out.push(b']');
    }
    out.extend_from_slice(b",\"events\":[");
}

/// Adds an event.
pub fn event(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(if out.last() == Some(&b'[') { b"{\"event\":\"" } else { b",{\"event\":\"" });
    out.extend_from_slice(event.what.word().as_bytes());
    out.push(b'"');
    number(out, "after_ns", event.after_ns);
    number(out, "seq", event.seq);
    what(out, &event.what);
    if let Some(said) = &event.said {
        push_said(out, said);
    }
    out.push(b'}');
}

/// Ends a line: `more` when another part of the session follows.
pub fn end(after_ns: u64, seq: u64, more: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"],\"end\":{\"after_ns\":");
    push_number(out, after_ns);
    number(out, "seq", seq);
    flag(out, "more", more);
    out.extend_from_slice(b"}}");
}

fn what(out: &mut Vec<u8>, what: &What<'_>) {
    match what {
        What::Fact { name, value } => {
            text(out, "name", name);
            match value {
                None => {}
                Some(Told::Flag(b)) => {
                    key(out, "flag");
                    out.extend_from_slice(if *b { b"true" } else { b"false" });
                }
                Some(Told::Number(n)) => {
                    key(out, "number");
                    out.extend_from_slice(n.to_string().as_bytes());
                }
                Some(Told::Score(n)) => {
                    key(out, "score");
                    out.extend_from_slice(show_thousandths(*n).as_bytes());
                }
                Some(Told::Text(t)) => text(out, "text", t),
                Some(Told::Ip(ip)) => text(out, "ip", &Text::Owned(ip.to_string())),
            }
        }
        What::Connect { early_talker, load } => {
            flag(out, "early_talker", *early_talker);
            push_load(out, load);
        }
        What::Helo { name, extended } => {
            text(out, "name", name);
            flag(out, "extended", *extended);
        }
        What::Tls(tls) => {
            key(out, "tls");
            push_tls(out, tls);
        }
        What::Auth { user } => match user {
            Some(user) => text(out, "user", user),
            None => flag(out, "failed", true),
        },
        What::Mail { sender, size, body, smtputf8, load } => {
            text(out, "from", sender);
            if let Some(size) = size {
                number(out, "size", *size);
            }
            match body {
                BodyType::SevenBit => {}
                BodyType::EightBitMime => text(out, "body", &Text::Borrowed("8bitmime")),
                BodyType::BinaryMime => text(out, "body", &Text::Borrowed("binarymime")),
            }
            flag(out, "smtputf8", *smtputf8);
            push_load(out, load);
        }
        What::Probe { to } => text(out, "to", to),
        What::Rcpt { to, exists } => {
            text(out, "to", to);
            if let Some(exists) = exists {
                key(out, "exists");
                out.extend_from_slice(if *exists { b"true" } else { b"false" });
            }
        }
        What::Data(headers) => push_headers(out, headers),
        What::Message(shape) => push_shape(out, shape),
        What::Vrfy { argument } => text(out, "argument", argument),
        What::Refused | What::Reset => {}
        What::Shadow { stage, change, now } => {
            text(out, "name", stage);
            text(out, "how", change);
            text_unless_empty(out, "reply", now);
        }
        What::Settled { how, reply } => {
            text(out, "how", how);
            text_unless_empty(out, "reply", reply);
        }
    }
}

fn push_headers(out: &mut Vec<u8>, headers: &Headers<'_>) {
    number(out, "header_octets", headers.octets);
    number(out, "received", headers.received);
    key(out, "headers");
    out.push(b'[');
    for (i, (name, value)) in headers.fields.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        push_string(out, name);
        if let Some(value) = value {
            out.push(b',');
            push_string(out, value);
        }
        out.push(b']');
    }
    out.push(b']');
    flag(out, "cut", headers.cut);
}

fn push_shape(out: &mut Vec<u8>, shape: &BodyShape) {
    number(out, "octets", shape.octets);
    number(out, "header_octets", shape.header_octets);
    number(out, "received", u64::from(shape.received_fields));
    flag(out, "eight_bit", shape.eight_bit);
    flag(out, "binary", shape.binary);
}

fn push_said(out: &mut Vec<u8>, said: &Said<'_>) {
    text(out, "verdict", &said.verdict);
    text(out, "rule", &said.rule);
    // A settlement has a reply of its own, but the policy says nothing to it.
    text_unless_empty(out, "reply", &said.reply);
    text_unless_empty(out, "reason", &said.reason);
    number_unless_zero(out, "delay_ms", said.delay_ms);
    text_unless_empty(out, "route", &said.route);
    text_unless_empty(out, "quarantine", &said.quarantine);
    text_unless_empty(out, "tags", &said.tags);
    if said.points != 0 {
        key(out, "points");
        out.extend_from_slice(show_thousandths(said.points).as_bytes());
    }
    text_unless_empty(out, "added", &said.added);
    text_unless_empty(out, "would", &said.would);
    text_unless_empty(out, "guard", &said.guard);
    text_unless_empty(out, "prior", &said.prior);
}

fn push_tls(out: &mut Vec<u8>, tls: &Tls<'_>) {
    out.extend_from_slice(b"{\"version\":");
    push_string(out, &tls.version);
    text(out, "cipher", &tls.cipher);
    text_unless_empty(out, "client_name", &tls.client_name);
    out.push(b'}');
}

fn push_load(out: &mut Vec<u8>, load: &Load) {
    key(out, "load");
    out.push(b'[');
    push_number(out, load.connections);
    out.push(b',');
    push_number(out, load.memory_percent);
    out.push(b',');
    push_number(out, load.queued);
    out.push(b']');
}

fn key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &Text<'_>) {
    key(out, name);
    push_string(out, value);
}

fn text_unless_empty(out: &mut Vec<u8>, name: &str, value: &Text<'_>) {
    if !value.is_empty() {
        text(out, name, value);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    push_number(out, value);
}

fn number_unless_zero(out: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        number(out, name, value);
    }
}

/// A flag is written when it is set.
fn flag(out: &mut Vec<u8>, name: &str, value: bool) {
    if value {
        key(out, name);
        out.extend_from_slice(b"true");
    }
}
