//! What the DNS knows of a client's name, of the name it calls itself, and of a sender's domain.
//!
//! How it fails: "there is none" is an answer; what the name servers could not tell is [`Finding::Unknown`].

use super::question::{Answer, Found, Key, Miss, ascii};
use super::records::Resolve;
use crate::base::address::Domain;
use crate::base::inquiry::{Finding, MailDomain};
use std::net::IpAddr;

/// What could not be found out, and why.
pub(super) fn unknown(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Finding {
    Finding::Unknown(format!("{what}: {why}").into())
}

/// The recorded and the confirmed name of an address (RFC 8601 §2.7.3).
pub(super) async fn reverse(dns: &Resolve, ip: IpAddr) -> Finding {
    let ip = ip.to_canonical();
    match dns.get(&Key::ClientName(ip)).await.result {
        Ok(Found::Client(name)) => {
            Finding::Reverse { claimed: name.claimed.first().cloned(), confirmed: name.confirmed }
        }
        Err(miss @ Miss::Temporary(_)) => unknown(format_args!("name of {ip}"), miss),
        _ => Finding::Reverse { claimed: None, confirmed: None },
    }
}

/// Whether `name` has the address `client`.
pub(super) async fn helo_host(dns: &Resolve, name: &Domain, client: IpAddr) -> Finding {
    let client = client.to_canonical();
    let Some(host) = ascii(name) else { return Finding::HeloHost(false) };
    match dns.get(&Key::of_family(client, &host)).await.result {
        Ok(Found::Addresses(ips)) => Finding::HeloHost(ips.contains(&client)),
        Err(miss @ Miss::Temporary(_)) => unknown(format_args!("address of {host}"), miss),
        _ => Finding::HeloHost(false),
    }
}

/// Whether the domain can take mail.
pub(super) async fn mail_domain(dns: &Resolve, domain: &Domain) -> Finding {
    let Some(name) = ascii(domain) else { return Finding::MailDomain(MailDomain::Nothing) };
    let failed = |miss| unknown(format_args!("mail exchangers of {name}"), miss);
    match dns.get(&Key::Mx(name.clone())).await.result {
        Ok(Found::Mx(records)) => Finding::MailDomain(match records.iter().any(|r| r.exchange.is_some()) {
            true => MailDomain::Exchangers,
            false => MailDomain::NullMx, // RFC 7505 §3
        }),
        Err(Miss::NoName) => Finding::MailDomain(MailDomain::Nothing),
        Err(miss @ Miss::Temporary(_)) => failed(miss),
        // RFC 5321 §5.1: without MX the host itself, when it has an address.
        _ => match dns.get(&Key::Addresses(name.clone())).await {
            Answer { result: Ok(_), .. } => Finding::MailDomain(MailDomain::Address),
            Answer { result: Err(miss @ Miss::Temporary(_)), .. } => failed(miss),
            _ => Finding::MailDomain(MailDomain::Nothing),
        },
    }
}
