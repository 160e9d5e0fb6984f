//! Authentication mechanisms (RFC 4422), server and client side; credentials are asked for, never held.
//!
//! One file per mechanism, one row in the table of `mechanism.rs`. Bytes here are what SASL defines, but for
//! `line.rs`: base64, `=` for an empty initial response and `*` to cancel, which the protocols that carry it share. Randomness and time
//! are arguments. How it fails: [`SaslError`] names the offence; after it the exchange is over.

pub mod apop;
pub mod client;
mod cram_md5;
mod error;
mod external;
pub mod line;
mod login;
mod mechanism;
mod plain;
mod scram;
pub mod server;
#[cfg(test)]
mod tests;

pub use crate::base::scram::{ScramHash, ScramKeys};
pub use crate::base::tls::ChannelBinding;
pub use error::SaslError;
pub use mechanism::names;

/// Octets of one response or challenge at most, before base64. RFC 4954 §4 lets the line have 12288 octets.
pub const MESSAGE_OCTETS_MAX: usize = 12_288 / 4 * 3;

/// The nonce of one exchange, from a secret seed of the connection and the number of the attempt on it: no two
/// exchanges may share a nonce.
pub fn nonce(seed: &[u8; 32], attempt: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&ScramHash::Sha256.hmac(seed, format!("sasl nonce {attempt}").as_bytes()));
    out
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
