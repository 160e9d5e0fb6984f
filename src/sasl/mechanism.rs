//! The table of mechanisms: one row each, strongest first, which is the order in which they are offered and chosen.
//!
//! How it fails: it does not.

use super::client::{ClientContext, Connect};
use super::server::{Context, Serve};
use super::{cram_md5, external, login, plain, scram};

/// What a mechanism shows on the wire, and so what it needs around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// The password itself: only where the wire is protected.
    Password,
    /// An answer to a challenge.
    Proof,
    /// An answer bound to the TLS session: only where there is one to bind to.
    BoundProof,
    /// Nothing: the identity comes from the client's certificate.
    Certificate,
}

/// One row.
#[derive(Debug)]
pub(super) struct Mechanism {
    /// Registered name.
    pub name: &'static str,
    /// What it needs.
    pub exposure: Exposure,
    /// Makes the server's half.
    pub serve: fn(&Context) -> Box<dyn Serve>,
    /// Makes the client's half.
    pub connect: fn(ClientContext) -> Box<dyn Connect>,
}

/// Every mechanism, strongest first. The -PLUS forms come first, so that a client never uses a form without binding
/// where one with binding is offered, which the server would take for a downgrade (RFC 5802 §6).
pub(super) static MECHANISMS: [Mechanism; 8] = [
    external::ROW,
    scram::SHA_256_PLUS,
    scram::SHA_1_PLUS,
    scram::SHA_256,
    scram::SHA_1,
    cram_md5::ROW,
    plain::ROW,
    login::ROW,
];

/// Names of every mechanism, strongest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    MECHANISMS.iter().map(|m| m.name)
}

/// The row of a name; names are compared without case (RFC 4954 §4 has them upper case, clients differ).
pub(super) fn by_name(name: &str) -> Option<&'static Mechanism> {
    MECHANISMS.iter().find(|m| m.name.eq_ignore_ascii_case(name))
}
