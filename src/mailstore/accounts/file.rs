//! The file `accounts`: JSON, one line each; first a header, then the accounts in order of their names.
//!
//! How it is replaced: [`crate::mailstore::replaced`]. How it fails: [`AccountsError`] with file and line; nothing is
//! replaced then.

use super::verifier::{Verifiers, check_phc, scram_from_text, scram_to_text};
use super::{AccountQuota, AccountsError, random};
use crate::base::scram::ScramHash;
pub(super) use crate::mailstore::replaced::Signature;
use crate::mailstore::replaced::{Locked, ReplacedFile, Secrecy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// About 150,000 accounts; a larger file is not ours.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
const FORMAT: &str = "gatepost-accounts";
const VERSION: u32 = 1;

/// What the file says.
#[derive(Clone)]
pub(super) struct Content {
    /// Secret of the decoy keys for unknown users; kept, so that decoys outlive the process.
    pub decoy_key: Vec<u8>,
    pub accounts: BTreeMap<String, Verifiers>,
    /// Of those that have one of their own.
    pub quotas: BTreeMap<String, AccountQuota>,
}

impl std::fmt::Debug for Content {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content {{ accounts: {:?} }}", self.accounts.keys())
    }
}

impl Content {
    /// The error for a name that is not there, with the nearest that is.
    pub fn unknown(&self, name: &str) -> AccountsError {
        let local = |n: &str| n.split('@').next().unwrap_or_default().to_owned();
        let near = self.accounts.keys().find(|known| local(known) == local(name)).cloned();
        AccountsError::Unknown { name: name.to_owned(), near }
    }
}

/// The file's place.
#[derive(Debug)]
pub(super) struct AccountFile(ReplacedFile);

impl AccountFile {
    pub fn new(dir: &Path) -> Result<AccountFile, AccountsError> {
        Ok(AccountFile(ReplacedFile::new(dir, "accounts", FILE_OCTETS_MAX, Secrecy::Secret)?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The file as it is now; `None` when there is none.
    pub fn signature(&self) -> Option<Signature> {
        self.0.signature()
    }

    /// Reads all of it; no file means no accounts.
    pub fn load(&self) -> Result<(Option<Signature>, Content), AccountsError> {
        match self.0.load()? {
            Some((signature, text)) => Ok((Some(signature), self.parse(&text)?)),
            None => {
                let decoy_key = random::<32>()?.to_vec();
                Ok((None, Content { decoy_key, accounts: BTreeMap::new(), quotas: BTreeMap::new() }))
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Content, AccountsError> {
        let corrupt = |line: usize, what: String| AccountsError::Corrupt { path: self.path().to_owned(), line, what };
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, l)| !l.trim().is_empty());
        let (at, header) = lines.next().ok_or_else(|| corrupt(1, "the file is empty, its header is missing".into()))?;
        let header: Header = serde_json::from_str(header).map_err(|e| corrupt(at, json_error(&e)))?;
        if header.format != FORMAT || header.version != VERSION {
            let what = format!("expected format {FORMAT:?} version {VERSION}");
            return Err(corrupt(at, format!("{what}, found {:?} version {}", header.format, header.version)));
        }
        let decoy_key = STANDARD.decode(&header.decoy_key).ok().filter(|key| key.len() >= 16);
        let decoy_key =
            decoy_key.ok_or_else(|| corrupt(at, "\"decoy_key\" must be at least 16 octets in base64".into()))?;
        let (mut accounts, mut quotas) = (BTreeMap::new(), BTreeMap::new());
        for (at, line) in lines {
            let row: Row = serde_json::from_str(line).map_err(|e| corrupt(at, json_error(&e)))?;
            let quota = AccountQuota { octets: row.quota_octets, messages: row.quota_messages };
            let (name, verifiers) = row.into_account().map_err(|what| corrupt(at, what))?;
            if quota != AccountQuota::default() {
                quotas.insert(name.clone(), quota);
            }
            if accounts.insert(name.clone(), verifiers).is_some() {
                return Err(corrupt(at, format!("the account {name} stands here twice")));
            }
        }
        Ok(Content { decoy_key, accounts, quotas })
    }

    /// Waits for the lock, not for ever.
    pub fn lock(&self) -> Result<Locked, AccountsError> {
        Ok(self.0.lock()?)
    }

    /// Replaces the file. The lock must be held.
    pub fn store(&self, held: &Locked, content: &Content) -> Result<Option<Signature>, AccountsError> {
        Ok(self.0.store(held, &emit(content))?)
    }
}

/// serde's own text ends in a line number that counts inside our line.
fn json_error(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("{text} (column {})", e.column())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    decoy_key: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    password: String,
    #[serde(rename = "scram-sha-256")]
    scram_sha_256: String,
    #[serde(rename = "scram-sha-1")]
    scram_sha_1: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_octets: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_messages: Option<u64>,
}

impl Row {
    fn into_account(self) -> Result<(String, Verifiers), String> {
        let name = super::checked_name(&self.name).map_err(|e| e.to_string())?;
        check_phc(&self.password)?;
        let scram = |hash, text: &str, field: &str| {
            scram_from_text(hash, text).ok_or_else(|| format!("{field:?} is not iterations, salt and keys"))
        };
        let verifiers = Verifiers {
            password: self.password.clone(),
            scram_sha_256: scram(ScramHash::Sha256, &self.scram_sha_256, "scram-sha-256")?,
            scram_sha_1: scram(ScramHash::Sha1, &self.scram_sha_1, "scram-sha-1")?,
            shared_secret: self.shared_secret.clone(),
        };
        Ok((name, verifiers))
    }
}

fn emit(content: &Content) -> Zeroizing<String> {
    let header = Header { format: FORMAT.to_owned(), version: VERSION, decoy_key: STANDARD.encode(&content.decoy_key) };
    let mut text = Zeroizing::new(json(&header));
    text.push('\n');
    for (name, verifiers) in &content.accounts {
        let quota = content.quotas.get(name).copied().unwrap_or_default();
        let row = Row {
            quota_octets: quota.octets,
            quota_messages: quota.messages,
            name: name.clone(),
            password: verifiers.password.clone(),
            scram_sha_256: scram_to_text(ScramHash::Sha256, &verifiers.scram_sha_256),
            scram_sha_1: scram_to_text(ScramHash::Sha1, &verifiers.scram_sha_1),
            shared_secret: verifiers.shared_secret.clone(),
        };
        text.push_str(&json(&row));
        text.push('\n');
    }
    text
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers always serialise")
}
