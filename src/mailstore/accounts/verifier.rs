//! What is kept of one account's password, its making and its checking.
//!
//! Texts: argon2id as a PHC string, SCRAM keys as `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` in base64, the form
//! other mail and database servers use. How it fails: a text that does not read back is an error that names its field.

use super::{AccountKnobs, AccountOptions, AccountQuota, AccountSummary, AccountsError, random};
use crate::base::scram::{ScramHash, ScramKeys};
use crate::wire::prep;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::num::NonZeroU32;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Octets of a salt (RFC 9106 §3.1 recommends 16).
pub(super) const SALT_OCTETS: usize = 16;

/// One account without its name.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(super) struct Verifiers {
    /// PHC string of argon2id.
    pub password: String,
    pub scram_sha_256: ScramKeys,
    pub scram_sha_1: ScramKeys,
    /// The password itself, as typed.
    pub shared_secret: Option<String>,
}

impl fmt::Debug for Verifiers {
    /// Without any of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifiers(..)")
    }
}

impl Verifiers {
    /// Everything that will be needed, made at once, since the password is only here now.
    pub fn derive(password: &str, options: AccountOptions, knobs: &AccountKnobs) -> Result<Verifiers, AccountsError> {
        let prepared = prep::password(password).map_err(AccountsError::BadPassword)?;
        let memory_kib = u32::try_from(knobs.argon2_memory.0 / 1024).unwrap_or(u32::MAX);
        let params = Params::new(memory_kib, knobs.argon2_passes, 1, None);
        let params = params.map_err(|e| AccountsError::BadCost(e.to_string()))?;
        let salt: [u8; SALT_OCTETS] = random()?;
        let salt = SaltString::encode_b64(&salt).map_err(|e| AccountsError::BadCost(e.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hashed = argon2.hash_password(prepared.as_bytes(), &salt);
        let hashed = hashed.map_err(|e| AccountsError::BadCost(e.to_string()))?.to_string();
        let iterations = NonZeroU32::new(knobs.scram_iterations).unwrap_or(NonZeroU32::MIN);
        let scram = |hash| -> Result<ScramKeys, AccountsError> {
            Ok(ScramKeys::derive(hash, prepared.as_bytes(), &random::<SALT_OCTETS>()?, iterations))
        };
        Ok(Verifiers {
            password: hashed,
            scram_sha_256: scram(ScramHash::Sha256)?,
            scram_sha_1: scram(ScramHash::Sha1)?,
            shared_secret: options.shared_secret.then(|| password.to_owned()),
        })
    }

    /// Whether it is the password; tens of milliseconds.
    pub fn check(&self, prepared: &str) -> bool {
        let hash = PasswordHash::new(&self.password);
        hash.is_ok_and(|hash| Argon2::default().verify_password(prepared.as_bytes(), &hash).is_ok())
    }

    /// The SCRAM keys of a hash.
    pub fn scram(&self, hash: ScramHash) -> &ScramKeys {
        match hash {
            ScramHash::Sha1 => &self.scram_sha_1,
            ScramHash::Sha256 => &self.scram_sha_256,
        }
    }

    pub fn summary(&self, name: &str, quota: AccountQuota) -> AccountSummary {
        let mut mechanisms = vec!["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"];
        if self.shared_secret.is_some() {
            mechanisms.insert(2, "CRAM-MD5");
        }
        AccountSummary { name: name.to_owned(), mechanisms, shared_secret: self.shared_secret.is_some(), quota }
    }
}

/// Checks that a PHC string is one that [`Verifiers::check`] can use, and not so dear that it takes the server down.
pub(super) fn check_phc(text: &str) -> Result<(), String> {
    let hash = PasswordHash::new(text).map_err(|e| format!("\"password\" is not a PHC string: {e}"))?;
    if hash.algorithm != argon2::ARGON2ID_IDENT || hash.hash.is_none() || hash.salt.is_none() {
        return Err("\"password\" is not an argon2id hash with a salt".into());
    }
    let params = Params::try_from(&hash).map_err(|e| format!("\"password\" has bad argon2 parameters: {e}"))?;
    match params.m_cost() > 1024 * 1024 || params.t_cost() > 64 {
        true => Err("\"password\" asks for more than 1 GiB of memory or 64 passes".into()),
        false => Ok(()),
    }
}

/// `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`
pub(super) fn scram_to_text(hash: ScramHash, keys: &ScramKeys) -> String {
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let (salt, stored, server) = (base64(&keys.salt), base64(&keys.stored_key), base64(&keys.server_key));
    format!("{}${}:{salt}${stored}:{server}", scram_name(hash), keys.iterations)
}

/// Reads what [`scram_to_text`] writes.
pub(super) fn scram_from_text(hash: ScramHash, text: &str) -> Option<ScramKeys> {
    let rest = text.strip_prefix(scram_name(hash))?.strip_prefix('$')?;
    let (cost, keys) = rest.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let base64 = |text: &str| STANDARD.decode(text).ok();
    let keys = ScramKeys {
        salt: base64(salt)?,
        iterations: iterations.parse().ok().filter(|&n| n > 0)?,
        stored_key: base64(stored)?,
        server_key: base64(server)?,
    };
    let fits = keys.stored_key.len() == hash.octets() && keys.server_key.len() == hash.octets();
    (fits && !keys.salt.is_empty()).then_some(keys)
}

fn scram_name(hash: ScramHash) -> &'static str {
    match hash {
        ScramHash::Sha1 => "SCRAM-SHA-1",
        ScramHash::Sha256 => "SCRAM-SHA-256",
    }
}
