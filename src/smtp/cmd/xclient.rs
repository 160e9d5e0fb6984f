//! XCLIENT (Postfix's XCLIENT_README): a listed proxy or test tool says who the client behind it is. The session begins
//! again with the greeting. How it fails: 502 for everybody else, 501 for what is written, 503 inside a transaction.

use crate::base::time::Instant;
use crate::smtp::server::{Ask, Pending, Server};
use crate::wire::reply::Reply;
use crate::wire::{address, replies, xtext};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the attributes change; `None` leaves as it is.
#[derive(Debug, Default)]
struct Overrides {
    name: Option<Option<String>>,
    ip: Option<IpAddr>,
    port: Option<u16>,
    local_ip: Option<IpAddr>,
    local_port: Option<u16>,
    login: Option<Option<String>>,
}

/// The attributes of the EHLO line.
pub(in crate::smtp) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    match check(server, argument) {
        Err(reply) => server.respond(now, reply),
        Ok(overrides) => {
            server.forget_client();
            let peer = &mut server.peer;
            peer.client.set_ip(overrides.ip.unwrap_or(peer.client.ip()));
            peer.client.set_port(overrides.port.unwrap_or(peer.client.port()));
            peer.local.set_ip(overrides.local_ip.unwrap_or(peer.local.ip()));
            peer.local.set_port(overrides.local_port.unwrap_or(peer.local.port()));
            let facts = peer.xclient.get_or_insert_default();
            if let Some(name) = overrides.name {
                facts.name = name;
            }
            // What the proxy's address entitles it to is not the client's; but it may send a long XCLIENT in parts.
            peer.rights.protected &= overrides.ip.is_none();
            server.login = overrides.login.flatten();
            server.ask(Ask::Connect { early_talker: false }, Pending::Connect);
        }
    }
}

fn check(server: &Server, argument: &str) -> Result<Overrides, Reply> {
    if !server.peer.rights.xclient {
        return Err(replies::not_offered());
    }
    if server.transaction.is_some() {
        return Err(replies::not_in_transaction());
    }
    parse(argument).ok_or_else(replies::xclient_syntax)
}

fn parse(argument: &str) -> Option<Overrides> {
    let mut overrides = Overrides::default();
    let mut words = argument.split(' ').filter(|w| !w.is_empty()).peekable();
    words.peek()?;
    for word in words {
        let (attribute, value) = word.split_once('=')?;
        let text = xtext::decode(value)?;
        let known = Some(text).filter(|t| !["[UNAVAILABLE]", "[TEMPUNAVAIL]"].contains(&t.to_uppercase().as_str()));
        match attribute.to_ascii_uppercase().as_str() {
            "NAME" => overrides.name = Some(read(known, |t| Some(address::parse_domain(t).ok()?.lower()))?),
            "ADDR" => overrides.ip = read(known, parse_ip)?,
            "PORT" => overrides.port = read(known, |t| t.parse().ok())?,
            "DESTADDR" => overrides.local_ip = read(known, parse_ip)?,
            "DESTPORT" => overrides.local_port = read(known, |t| t.parse().ok())?,
            "LOGIN" => overrides.login = Some(known),
            // The client says its own hello and protocol after the new greeting.
            "HELO" | "PROTO" => {}
            _ => return None,
        }
    }
    Some(overrides)
}

/// An address as XCLIENT writes it: `192.0.2.1`, `IPV6:2001:db8::1`.
fn parse_ip(text: &str) -> Option<IpAddr> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => text[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Reads a value that may be unknown: the outer `None` is a malformed value.
fn read<T>(known: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    known.map_or(Some(None), |text| parse(&text).map(Some))
}
