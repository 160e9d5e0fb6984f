//! Keys of SCRAM (RFC 5802 §3) as values: derived where passwords are set, checked where SASL runs.
//!
//! Salts and secrets are arguments; nothing here is random. How it fails: it does not.

use aws_lc_rs::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The hash a SCRAM mechanism is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802)
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677)
    Sha256,
}

impl ScramHash {
    /// Length of its output.
    pub const fn octets(self) -> usize {
        match self {
            ScramHash::Sha1 => 20,
            ScramHash::Sha256 => 32,
        }
    }
    /// `H(data)`
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            ScramHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }
    /// `HMAC(key, data)`
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            ScramHash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            ScramHash::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }
    /// `SaltedPassword := Hi(Normalize(password), salt, i)`: the slow step, about a millisecond for 4096 iterations.
    pub fn salted_password(self, prepared: &[u8], salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            ScramHash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            ScramHash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let mut out = Zeroizing::new(vec![0; self.octets()]);
        pbkdf2::derive(algorithm, iterations, salt, prepared, &mut out);
        out
    }
}

/// What a server keeps of a password: enough to check a client and to prove itself, not enough to log in elsewhere.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramKeys {
    /// Salt of the account.
    pub salt: Vec<u8>,
    /// Iterations of PBKDF2.
    pub iterations: u32,
    /// `H(ClientKey)`
    pub stored_key: Vec<u8>,
    /// `ServerKey`
    pub server_key: Vec<u8>,
}

impl ScramKeys {
    /// Derives the keys of a password that went through `wire::prep::password`.
    pub fn derive(hash: ScramHash, prepared: &[u8], salt: &[u8], iterations: NonZeroU32) -> ScramKeys {
        let salted = hash.salted_password(prepared, salt, iterations);
        let client_key = Zeroizing::new(hash.hmac(&salted, b"Client Key"));
        ScramKeys {
            salt: salt.to_vec(),
            iterations: iterations.get(),
            stored_key: hash.digest(&client_key),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }

    /// Keys for a user that does not exist: the same salt each time, so that nobody learns who exists by asking twice,
    /// and a stored key whose preimage nobody knows, so that no proof fits. `secret` must outlive the process and
    /// `salt_octets` and `iterations` must be those of real accounts.
    pub fn decoy(hash: ScramHash, secret: &[u8], user: &str, salt_octets: usize, iterations: u32) -> ScramKeys {
        let word = |purpose: &str, n: usize| {
            let mut all = ScramHash::Sha256.hmac(secret, format!("{purpose} {hash:?} {user}").as_bytes());
            all.truncate(n);
            all
        };
        debug_assert!(salt_octets <= 32, "one hash is as long as a decoy salt can be");
        ScramKeys {
            salt: word("salt", salt_octets),
            iterations,
            stored_key: word("stored key", hash.octets()),
            server_key: word("server key", hash.octets()),
        }
    }
}

impl fmt::Debug for ScramKeys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys {{ iterations: {}, .. }}", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pbkdf2_as_rfc_6070_has_it() {
        let salted = ScramHash::Sha1.salted_password(b"password", b"salt", NonZeroU32::new(4096).unwrap());
        let hex: String = salted.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "4b007901b765489abead49d926f721d065a429c1");
    }

    #[test]
    fn decoys_are_steady_and_differ_by_user_and_hash() {
        let decoy = |hash, user| ScramKeys::decoy(hash, b"secret", user, 16, 4096);
        assert_eq!(decoy(ScramHash::Sha256, "ann"), decoy(ScramHash::Sha256, "ann"));
        assert_ne!(decoy(ScramHash::Sha256, "ann").salt, decoy(ScramHash::Sha256, "bob").salt);
        assert_ne!(decoy(ScramHash::Sha256, "ann").salt, decoy(ScramHash::Sha1, "ann").salt);
        assert_eq!(decoy(ScramHash::Sha1, "ann").stored_key.len(), 20);
        assert!(!format!("{:?}", decoy(ScramHash::Sha1, "ann")).contains("stored"));
    }
}
