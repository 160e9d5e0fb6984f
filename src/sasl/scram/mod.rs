//! SCRAM-SHA-1, SCRAM-SHA-256 and their -PLUS forms (RFC 5802, RFC 7677; channel binding of RFC 5929 and RFC 9266): the
//! rows of the table and the grammar of RFC 5802 §7. The halves are in `server.rs` and `client.rs`.
//!
//! How it fails: `Malformed` names the attribute; the rest is told by the halves.

mod client;
mod server;
#[cfg(test)]
mod tests;

use super::SaslError;
use super::mechanism::{Exposure, Mechanism};
use crate::base::scram::ScramHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A mechanism of the family.
#[derive(Clone, Copy, Debug)]
struct Form {
    hash: ScramHash,
    binding: Binding,
}

/// Whether the mechanism's name ends in -PLUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    Bound,
    Unbound,
}

macro_rules! rows {
    ($($row:ident = $name:literal, $hash:ident, $binding:ident, $exposure:ident;)*) => {$(
        pub(super) const $row: Mechanism = Mechanism {
            name: $name,
            exposure: Exposure::$exposure,
            serve: |ctx| {
                Box::new(server::Server::new(Form { hash: ScramHash::$hash, binding: Binding::$binding }, ctx.nonce))
            },
            connect: |ctx| {
                Box::new(client::Client::new(Form { hash: ScramHash::$hash, binding: Binding::$binding }, ctx))
            },
        };
    )*};
}
rows! {
    SHA_256_PLUS = "SCRAM-SHA-256-PLUS", Sha256, Bound, BoundProof;
    SHA_1_PLUS = "SCRAM-SHA-1-PLUS", Sha1, Bound, BoundProof;
    SHA_256 = "SCRAM-SHA-256", Sha256, Unbound, Proof;
    SHA_1 = "SCRAM-SHA-1", Sha1, Unbound, Proof;
}

/// Octets of one side's nonce at most; common clients send 18 to 36.
const NONCE_OCTETS_MAX: usize = 256;

/// The printable nonce of one side: 24 characters from 18 random octets.
fn printable_nonce(random: &[u8; 32]) -> String {
    STANDARD.encode(&random[..18])
}

/// Takes `name=value` off the front of a comma-separated list; the value ends at the next comma.
fn take_attribute<'a>(rest: &mut &'a str, name: char, missing: &'static str) -> Result<&'a str, SaslError> {
    let malformed = SaslError::Malformed(missing);
    let value = rest.strip_prefix(name).and_then(|r| r.strip_prefix('=')).ok_or(malformed)?;
    let end = value.find(',').unwrap_or(value.len());
    *rest = value.get(end + 1..).unwrap_or("");
    Ok(&value[..end])
}

/// The octets as text; every SCRAM message is UTF-8 without NUL.
fn text(message: &[u8]) -> Result<&str, SaslError> {
    match std::str::from_utf8(message) {
        Ok(t) if !t.contains('\0') => Ok(t),
        _ => Err(SaslError::Malformed("a SCRAM message must be UTF-8 without NUL")),
    }
}

/// `r=`: printable ASCII without comma (RFC 5802 §7).
fn check_nonce(nonce: &str) -> Result<&str, SaslError> {
    let fits = !nonce.is_empty() && nonce.len() <= 2 * NONCE_OCTETS_MAX && nonce.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(nonce) } else { Err(SaslError::Malformed("the nonce is empty, too long or not printable")) }
}

fn decode(value: &str, what: &'static str) -> Result<Vec<u8>, SaslError> {
    STANDARD.decode(value).map_err(|_| SaslError::Malformed(what))
}

/// `saslname`: `=2C` stands for a comma and `=3D` for an equals sign; no other `=` may be there (RFC 5802 §5.1).
fn unescape_name(name: &str) -> Result<String, SaslError> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(SaslError::Malformed("in a name, = must be written =3D and a comma =2C")),
        };
        out.push(c);
        out.push_str(rest);
    }
    Ok(out)
}

fn escape_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The base64 of `c=`: the GS2 header and, with -PLUS, the binding data (RFC 5802 §7 `cbind-input`).
fn binding_input(gs2_header: &str, data: &[u8]) -> Vec<u8> {
    [gs2_header.as_bytes(), data].concat()
}

fn xor(a: &[u8], b: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
    debug_assert_eq!(a.len(), b.len());
    zeroize::Zeroizing::new(a.iter().zip(b).map(|(x, y)| x ^ y).collect())
}
