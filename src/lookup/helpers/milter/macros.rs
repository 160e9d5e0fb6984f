//! Macros: what else a filter is told at each stage, by Sendmail's names.
//!
//! How it fails: it does not; a macro whose value is not known is left out, as Sendmail does.

use crate::base::address::{Host, Mailbox};
use crate::base::inquiry::Case;
use crate::wire::milter::{Command, Negotiation, Stage, header_fields};
use std::borrow::Cow;
use std::net::IpAddr;

/// Octets of one value at most.
const VALUE_OCTETS_MAX: usize = 1000;

/// What is told where a filter did not say what it wants: the lists of Sendmail's `confMILTER_MACROS_*`, as far as
/// something is known.
const fn usual(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Connect => &[
            "j",
            "_",
            "daemon_name",
            "daemon_addr",
            "daemon_port",
            "if_name",
            "if_addr",
            "v",
            "client_name",
            "client_addr",
            "client_port",
        ],
        Stage::Helo => &["tls_version", "cipher", "s"],
        Stage::Mail => &["i", "auth_authen", "auth_author", "mail_mailer", "mail_host", "mail_addr", "r"],
        Stage::Recipient => &["rcpt_mailer", "rcpt_host", "rcpt_addr", "nrcpts"],
        Stage::Data | Stage::EndOfHeaders => &["i"],
        Stage::EndOfMessage => &["i", "msg_id", "msg_size", "nrcpts"],
    }
}

/// Says the macros of a stage, if there are any.
pub(super) fn macros(
    agreed: &Negotiation<'_>,
    case: &Case,
    stage: Stage,
    recipient: Option<&Mailbox>,
) -> Option<Command<'static>> {
    let wanted = agreed.symbols.iter().find(|(at, _)| *at == stage).map(|(_, names)| String::from_utf8_lossy(names));
    let names: Vec<&str> = match &wanted {
        Some(names) => names.split([' ', ',']).map(|n| n.trim_matches(['{', '}'])).filter(|n| !n.is_empty()).collect(),
        None => usual(stage).to_vec(),
    };
    let pairs: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let value = value(case, name, recipient)?;
            let name = if name.len() == 1 { name.to_owned() } else { format!("{{{name}}}") };
            Some((Cow::Owned(name.into_bytes()), Cow::Owned(cut(value).into_bytes())))
        })
        .collect();
    (!pairs.is_empty()).then_some(Command::Macros(stage, pairs))
}

/// The name of the session's transaction, as the journal and the log have it.
pub(in super::super) fn transaction_id(case: &Case) -> String {
    format!("{}.{}", case.session, case.transaction)
}

/// The client's name, or its address in brackets.
pub(super) fn client_name(case: &Case) -> String {
    match &case.client_name {
        Some(name) => name.to_string(),
        None => Host::Ip(client_ip(case)).to_string(),
    }
}

/// The client's address, an IPv4 address also where it came over an IPv6 socket.
pub(in super::super) fn client_ip(case: &Case) -> IpAddr {
    case.client.ip().to_canonical()
}

fn value(case: &Case, name: &str, recipient: Option<&Mailbox>) -> Option<String> {
    let text = match name {
        "j" => case.host.to_string(),
        "_" => match &case.client_name {
            Some(name) => format!("{name} {}", Host::Ip(client_ip(case))),
            None => Host::Ip(client_ip(case)).to_string(),
        },
        "v" => concat!("Gatepost ", env!("CARGO_PKG_VERSION")).to_owned(),
        "s" => case.helo.clone(),
        "r" => if &*case.listener == "lmtp" { "LMTP" } else { "ESMTP" }.to_owned(),
        "daemon_name" => case.listener.to_string(),
        "daemon_addr" | "if_addr" => case.local.ip().to_canonical().to_string(),
        "daemon_port" => case.local.port().to_string(),
        "if_name" => case.host.to_string(),
        "client_name" => client_name(case),
        // Postfix has this for the unconfirmed name; the confirmed one is what is known here.
        "client_ptr" => case.client_name.as_ref()?.to_string(),
        "client_resolve" => if case.client_name.is_some() { "OK" } else { "FAIL" }.to_owned(),
        "client_addr" => client_ip(case).to_string(),
        "client_port" => case.client.port().to_string(),
        "tls_version" => case.tls.as_ref()?.0.clone(),
        "cipher" => case.tls.as_ref()?.1.clone(),
        "auth_authen" | "auth_author" => case.user.clone()?,
        "i" => transaction_id(case),
        "mail_mailer" | "rcpt_mailer" => "esmtp".to_owned(),
        "mail_addr" => case.sender.as_ref().map(ToString::to_string).unwrap_or_default(),
        "mail_host" => case.sender.as_ref().map(|m| m.host().to_string()).unwrap_or_default(),
        "rcpt_addr" => recipient?.to_string(),
        "rcpt_host" => recipient?.host().to_string(),
        "nrcpts" => case.recipients.len().to_string(),
        "msg_size" => case.body.as_ref()?.shape.octets.to_string(),
        "msg_id" => {
            let head = case.body.as_ref()?.head();
            let field = header_fields(&head).find(|f| f.name.eq_ignore_ascii_case(b"Message-ID"))?;
            String::from_utf8_lossy(&field.value(false, VALUE_OCTETS_MAX)).trim().to_owned()
        }
        _ => return None,
    };
    Some(text)
}

fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(VALUE_OCTETS_MAX);
    text.truncate(end);
    text
}
