//! Accounts: names and what is needed to check their passwords, kept in `DATA/accounts`.
//!
//! The file is replaced as a whole under a lock, so the command line may change it whether the server runs or not; the
//! server notices by its inode and times and reads it again. Of a password only verifiers are kept: argon2id for PLAIN and
//! LOGIN, the keys of SCRAM-SHA-256 and SCRAM-SHA-1. CRAM-MD5 needs the password itself, so that is kept as it is, readable
//! for whoever can read the file (mode 0600), and only for accounts that opted in.
//!
//! Names are `local@domain` or bare, compared in lower case after `wire::prep::user_name`: `Ann@Example.test` and
//! `ann@example.test` are one account, `ann` is another. How it fails: [`AccountsError`] says what, where and what to do;
//! a file that became unreadable while the server runs is reported once and the last good content stays in force.
//!
//! Everything here may block on disk and hash for tens of milliseconds: it is called on the password lane.

mod cache;
mod error;
mod file;
#[cfg(test)]
mod tests;
mod verifier;

pub use cache::LoginCache;
pub use error::AccountsError;

use crate::base::knob::Octets;
use crate::base::scram::{ScramHash, ScramKeys};
use crate::base::time::Instant;
use crate::wire::prep;
use file::{AccountFile, Content, Signature};
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use verifier::Verifiers;
use zeroize::Zeroizing;

crate::knobs! {
    /// Accounts: how dear a password check is, and how long a correct one is remembered.
    pub struct AccountKnobs in "accounts" {
        /// Memory that one check of a password with argon2id takes. More makes a stolen file dearer to attack; each check
        /// under way needs this much. Applies to passwords set from now on.
        argon2_memory: Octets = Octets::mib(9), unit "octets", range Octets::kib(64)..=Octets::mib(1024);
        /// Passes over that memory.
        argon2_passes: u32 = 4, unit "passes", range 1..=64;
        /// Iterations of PBKDF2 for the SCRAM keys of passwords set from now on. The client repeats them at each login.
        scram_iterations: u32 = 4096, unit "iterations", range 4096..=100_000;
        /// How long a correct password is remembered (as a keyed hash, in memory only), so that the next login is cheap.
        /// Changing or removing an account forgets it at once.
        login_cache_time: Duration = Duration::from_secs(600), unit "", range Duration::ZERO..=Duration::from_secs(86_400);
        /// How many correct logins are remembered.
        login_cache_entries: usize = 10_000, unit "entries", range 1..=10_000_000;
    }
}

/// What an account may do beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountOptions {
    /// Keep the password itself too, in the clear, so that CRAM-MD5 works.
    pub shared_secret: bool,
}

/// What an account may keep, where that differs from the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountQuota {
    /// Octets of all its messages; 0 is without limit, `None` what the settings say.
    pub octets: Option<u64>,
    /// Messages; 0 is without limit, `None` what the settings say.
    pub messages: Option<u64>,
}

/// One row of [`Accounts::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSummary {
    /// Its name.
    pub name: String,
    /// Mechanisms it can log in with, strongest first.
    pub mechanisms: Vec<&'static str>,
    /// Whether its password is kept in the clear.
    pub shared_secret: bool,
    /// What it may keep.
    pub quota: AccountQuota,
}

/// The accounts of a data directory. Shared between threads; several processes may have the same directory open.
#[derive(Debug)]
pub struct Accounts {
    file: AccountFile,
    knobs: AccountKnobs,
    loaded: RwLock<Loaded>,
    cache: Mutex<LoginCache>,
    /// Checked when the user does not exist, so that this takes as long.
    decoy: OnceLock<Verifiers>,
}

/// Every account's name at one time.
#[derive(Clone, Debug)]
pub(in crate::mailstore) struct Names(Arc<Content>);

impl Names {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.accounts.keys().map(String::as_str)
    }
    /// Whether nothing was read in between.
    pub fn is_same_reading(&self, other: &Names) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Debug)]
struct Loaded {
    signature: Option<Signature>,
    content: Arc<Content>,
}

impl Accounts {
    /// Opens `dir/accounts`; no file means no accounts. Makes `dir` (mode 0700) when it does not exist.
    pub fn open(dir: &Path, knobs: AccountKnobs) -> Result<Accounts, AccountsError> {
        let file = AccountFile::new(dir)?;
        let (signature, content) = file.load()?;
        let cache = LoginCache::new(random()?, knobs.login_cache_entries, knobs.login_cache_time);
        Ok(Accounts {
            file,
            knobs,
            loaded: RwLock::new(Loaded { signature, content: Arc::new(content) }),
            cache: Mutex::new(cache),
            decoy: OnceLock::new(),
        })
    }

    /// Where they are kept.
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Adds an account.
    pub fn add(&self, name: &str, password: &str, options: AccountOptions) -> Result<(), AccountsError> {
        let name = checked_name(name)?;
        if self.fresh().accounts.contains_key(&name) {
            return Err(AccountsError::Exists { name }); // before the work of hashing
        }
        let verifiers = Verifiers::derive(password, options, &self.knobs)?;
        self.change(|content| match content.accounts.contains_key(&name) {
            true => Err(AccountsError::Exists { name: name.clone() }),
            false => {
                content.accounts.insert(name.clone(), verifiers);
                Ok(())
            }
        })
    }

    /// Sets a new password; logins with the old one end at once. `options` of `None` keeps what the account has.
    pub fn passwd(&self, name: &str, password: &str, options: Option<AccountOptions>) -> Result<(), AccountsError> {
        let name = checked_name(name)?;
        let known = self.fresh();
        let current = known.accounts.get(&name).ok_or_else(|| known.unknown(&name))?;
        let options = options.unwrap_or(AccountOptions { shared_secret: current.shared_secret.is_some() });
        let verifiers = Verifiers::derive(password, options, &self.knobs)?;
        self.change(|content| match content.accounts.get_mut(&name) {
            Some(account) => {
                *account = verifiers;
                Ok(())
            }
            None => Err(content.unknown(&name)),
        })
    }

    /// Removes an account.
    pub fn remove(&self, name: &str) -> Result<(), AccountsError> {
        let name = checked_name(name)?;
        self.change(|content| match content.accounts.remove(&name) {
            Some(_) => {
                content.quotas.remove(&name);
                Ok(())
            }
            None => Err(content.unknown(&name)),
        })
    }

    /// Sets what an account may keep, from what it has been; a running server goes by it at once.
    pub fn set_quota(
        &self,
        name: &str,
        set: impl FnOnce(AccountQuota) -> AccountQuota,
    ) -> Result<AccountQuota, AccountsError> {
        let name = checked_name(name)?;
        let mut quota = AccountQuota::default();
        self.change(|content| {
            if !content.accounts.contains_key(&name) {
                return Err(content.unknown(&name));
            }
            quota = set(content.quotas.get(&name).copied().unwrap_or_default());
            content.quotas.insert(name.clone(), quota);
            content.quotas.retain(|_, quota| *quota != AccountQuota::default());
            Ok(())
        })?;
        Ok(quota)
    }

    /// What an account may keep; of one that is not there as the settings have it.
    pub fn quota(&self, user: &str) -> AccountQuota {
        let name = prep::user_name(user.as_bytes()).unwrap_or_default();
        self.fresh().quotas.get(&name).copied().unwrap_or_default()
    }

    /// Every account, by name.
    pub fn list(&self) -> Vec<AccountSummary> {
        let content = self.fresh();
        let quota = |name: &String| content.quotas.get(name).copied().unwrap_or_default();
        content.accounts.iter().map(|(name, verifiers)| verifiers.summary(name, quota(name))).collect()
    }

    /// The names as they are now.
    pub(in crate::mailstore) fn names(&self) -> Names {
        Names(self.fresh())
    }

    /// Whether there is an account of this name (EXTERNAL, and recipients).
    pub fn exists(&self, user: &str) -> bool {
        prep::user_name(user.as_bytes()).is_ok_and(|name| self.fresh().accounts.contains_key(&name))
    }

    /// Whether the holder of a certificate that names `identity` may log in as `authzid` (EXTERNAL): as itself, if it has an
    /// account.
    pub fn may_act_as(&self, identity: &str, authzid: &str) -> bool {
        let (identity, authzid) = (prep::user_name(identity.as_bytes()), prep::user_name(authzid.as_bytes()));
        matches!((identity, authzid), (Ok(a), Ok(b)) if a == b && self.fresh().accounts.contains_key(&b))
    }

    /// Whether `password` is the user's. An unknown user takes as long as a wrong password; a login that succeeded within
    /// `login_cache_time` before `now` is cheap.
    pub fn verify(&self, user: &str, password: &str, now: Instant) -> bool {
        let content = self.fresh();
        let account = prep::user_name(user.as_bytes()).ok().and_then(|n| Some((n.clone(), content.accounts.get(&n)?)));
        let Ok(prepared) = prep::password(password) else {
            return false;
        };
        let Some((name, verifiers)) = account else {
            let _ = self.decoy().is_some_and(|decoy| decoy.check(&prepared)); // for its time alone
            return false;
        };
        let key = {
            let mut cache = self.cache.lock();
            let key = cache.key(&name, &prepared, &verifiers.password);
            if cache.contains(&key, now) {
                return true;
            }
            key
        };
        let right = verifiers.check(&prepared);
        if right {
            self.cache.lock().insert(key, now);
        }
        right
    }

    /// The user's SCRAM keys; for a user that does not exist, decoys that look the same each time and let nobody in. Decoys
    /// have today's `scram_iterations`: an account whose password was set with others can be told from them.
    pub fn scram_keys(&self, user: &str, hash: ScramHash) -> ScramKeys {
        let content = self.fresh();
        let name = prep::user_name(user.as_bytes()).unwrap_or_default();
        match content.accounts.get(&name) {
            Some(verifiers) => verifiers.scram(hash).clone(),
            None => {
                let octets = verifier::SALT_OCTETS;
                ScramKeys::decoy(hash, &content.decoy_key, &name, octets, self.knobs.scram_iterations)
            }
        }
    }

    /// The password itself, when there is such an account and it opted in.
    pub fn shared_secret(&self, user: &str) -> Option<Zeroizing<Vec<u8>>> {
        let name = prep::user_name(user.as_bytes()).ok()?;
        let content = self.fresh();
        let secret = content.accounts.get(&name)?.shared_secret.as_ref()?;
        Some(Zeroizing::new(secret.as_bytes().to_vec()))
    }

    /// The content, read again when the file has changed.
    fn fresh(&self) -> Arc<Content> {
        let signature = self.file.signature();
        {
            let loaded = self.loaded.read();
            if loaded.signature == signature {
                return loaded.content.clone();
            }
        }
        let mut loaded = self.loaded.write();
        if loaded.signature != signature {
            match self.file.load() {
                Ok((signature, content)) => {
                    tracing::info!(path = %self.file.path().display(), accounts = content.accounts.len(), "accounts read again");
                    *loaded = Loaded { signature, content: Arc::new(content) };
                }
                Err(e) => {
                    tracing::error!("{e}; the accounts read before stay in force");
                    loaded.signature = signature; // so that it is said once, until the file changes again
                }
            }
        }
        loaded.content.clone()
    }

    /// Reads, changes and replaces the file under its lock.
    fn change(&self, edit: impl FnOnce(&mut Content) -> Result<(), AccountsError>) -> Result<(), AccountsError> {
        let lock = self.file.lock()?;
        let (_, mut content) = self.file.load()?;
        edit(&mut content)?;
        let signature = self.file.store(&lock, &content)?;
        *self.loaded.write() = Loaded { signature, content: Arc::new(content) };
        Ok(())
    }

    fn decoy(&self) -> Option<&Verifiers> {
        if self.decoy.get().is_none() {
            let random: [u8; 32] = random().ok()?;
            let password: String = random.iter().map(|b| format!("{b:02x}")).collect();
            let made = Verifiers::derive(&password, AccountOptions::default(), &self.knobs).ok()?;
            let _ = self.decoy.set(made); // another thread's is as good
        }
        self.decoy.get()
    }
}

impl crate::mailstore::Quotas for Accounts {
    fn quota(&self, account: &str) -> (Option<u64>, Option<u64>) {
        let quota = Accounts::quota(self, account);
        (quota.octets, quota.messages)
    }
}

fn random<const N: usize>() -> Result<[u8; N], AccountsError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccountsError::NoRandomness)?;
    Ok(bytes)
}

/// A name for a new account: prepared, and fit to be a mail address, a key and a part of a file name.
fn checked_name(name: &str) -> Result<String, AccountsError> {
    let bad = |why: String| AccountsError::BadName { name: name.to_owned(), why };
    let prepared = prep::user_name(name.as_bytes()).map_err(|e| bad(e.to_string()))?;
    if let Some(c) = prepared.chars().find(|&c| "/\\\"<>()[],:;".contains(c)) {
        return Err(bad(format!("has the forbidden character {c:?}")));
    }
    let (local, domain) = match prepared.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (prepared.as_str(), None),
    };
    if local.is_empty() || local.contains('@') || local.starts_with('.') || local.ends_with('.') || local.contains("..")
    {
        return Err(bad("needs a local part such as \"ann\" or \"ann.lee\" before the @".into()));
    }
    if local.len() > 64 {
        return Err(bad("has more than 64 octets before the @ (RFC 5321 §4.5.3.1.1)".into()));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || !c.is_ascii())
    };
    match domain {
        Some(domain) if domain.len() > 255 || !domain.split('.').all(is_label) => {
            Err(bad(format!("{domain:?} is not a domain name")))
        }
        _ => Ok(prepared),
    }
}
