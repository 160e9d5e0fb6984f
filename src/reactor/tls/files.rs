//! Certificates, keys and authorities from PEM files, and the certificate made at first start.
//!
//! How it fails: [`MaterialError`] names the file, what is wrong in it and what to do.

use super::certificate;
use super::error::MaterialError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Certificates larger than this are not certificates.
const FILE_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// A certificate chain and its key, each in a PEM file (which may be the same).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate first, then its issuers.
    pub chain: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let io = |source| MaterialError::Io { doing: "read", path: path.to_owned(), source };
    let meta = fs::metadata(path).map_err(io)?;
    if !meta.is_file() || meta.len() > FILE_OCTETS_MAX {
        return Err(MaterialError::Content { path: path.to_owned(), what: "expected a PEM file".into() });
    }
    fs::read(path).map_err(io)
}

/// Every certificate of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let pem = read(path)?;
    let content = |what: String| MaterialError::Content { path: path.to_owned(), what };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| content(format!("the PEM is damaged: {e}")))?;
    if found.is_empty() {
        let what = match () {
            () if pem.is_empty() => "the file is empty",
            () if has(&pem, "PRIVATE KEY-----") => {
                "there is a key but no certificate in it; are certificate and key swapped?"
            }
            () => "there is no \"-----BEGIN CERTIFICATE-----\" in it; expected PEM, not DER",
        };
        return Err(content(what.into()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let pem = zeroize::Zeroizing::new(read(path)?);
    let content = |what: String| MaterialError::Content { path: path.to_owned(), what };
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) {
        tracing::warn!("the private key {} can be read by every user; run chmod 600 on it", path.display());
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| match e {
        _ if pem.is_empty() => content("the file is empty".into()),
        _ if has(&pem, "ENCRYPTED") => {
            content("the key has a passphrase; remove it with `openssl pkey -in OLD -out NEW`".into())
        }
        rustls::pki_types::pem::Error::NoItemsFound if has(&pem, "BEGIN CERTIFICATE") => {
            content("there is a certificate but no key in it; are certificate and key swapped?".into())
        }
        rustls::pki_types::pem::Error::NoItemsFound => {
            content("there is no \"-----BEGIN PRIVATE KEY-----\" in it; expected PEM, not DER".into())
        }
        e => content(format!("the PEM is damaged: {e}")),
    })
}

fn has(pem: &[u8], text: &str) -> bool {
    memchr::memmem::find(pem, text.as_bytes()).is_some()
}

/// A chain and its key, checked to be a pair.
pub(super) fn certified_key(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, MaterialError> {
    let chain = certificates(&files.chain)?;
    let key = private_key(&files.key)?;
    warn_about_validity(&files.chain, &chain[0]);
    let content = |path: &Path, what: String| MaterialError::Content { path: path.to_owned(), what };
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|e| content(&files.key, format!("the key cannot be used: {e}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified), // the key does not tell
        Err(Error::InconsistentKeys(_)) => {
            Err(MaterialError::Mismatch { certificate: files.chain.clone(), key: files.key.clone() })
        }
        Err(e) => Err(content(&files.chain, format!("the first certificate cannot be used: {e}"))),
    }
}

fn warn_about_validity(path: &Path, certificate: &CertificateDer<'_>) {
    const SOON_SECS: i64 = 14 * 86_400;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    match certificate::validity(certificate) {
        Some((from, _)) if now < from => tracing::warn!("the certificate in {} is not valid yet", path.display()),
        Some((_, to)) if now > to => tracing::warn!("the certificate in {} has expired", path.display()),
        Some((_, to)) if now > to - SOON_SECS => {
            tracing::warn!("the certificate in {} expires in {} days", path.display(), (to - now) / 86_400);
        }
        _ => {}
    }
}

/// The authorities of a PEM file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for (i, certificate) in certificates(path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|e| MaterialError::Content {
            path: path.to_owned(),
            what: format!("certificate {} cannot be used as an authority: {e}", i + 1),
        })?;
    }
    Ok(roots)
}

/// A certificate that is signed by its own key.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// Where it is.
    pub files: CertificateFiles,
    /// SHA-256, to be printed and compared by people.
    pub fingerprint: String,
    /// Whether it was made just now.
    pub made_now: bool,
}

/// Opens `dir/cert.pem` and `dir/key.pem`, or makes them for `hostname` and `localhost` (`dir` and key for the owner only).
/// A key without a certificate gets a new certificate; a certificate without its key is an error, since somebody may
/// have pinned it.
pub fn self_signed(dir: &Path, hostname: &str) -> Result<SelfSigned, MaterialError> {
    let files = CertificateFiles { chain: dir.join("cert.pem"), key: dir.join("key.pem") };
    let made_now = !files.chain.exists();
    if made_now {
        make(dir, &files, hostname)?;
    } else if !files.key.exists() {
        return Err(MaterialError::Content {
            path: files.chain.clone(),
            what: format!(
                "its key {} is missing; restore the key, or remove the certificate to have a new one made",
                files.key.display()
            ),
        });
    }
    let chain = certificates(&files.chain)?;
    Ok(SelfSigned { fingerprint: certificate::fingerprint(&chain[0]), files, made_now })
}

/// Ten years: nobody renews it, and who minds has a real one.
const SELF_SIGNED_SECS: u64 = 3650 * 86_400;

fn make(dir: &Path, files: &CertificateFiles, hostname: &str) -> Result<(), MaterialError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| MaterialError::Io { doing, path, source }
    };
    let rcgen_error =
        |e: rcgen::Error| MaterialError::Settings(format!("cannot make a certificate for {hostname:?}: {e}"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("make the directory", dir))?;
    let key = if files.key.exists() {
        let pem = zeroize::Zeroizing::new(String::from_utf8_lossy(&read(&files.key)?).into_owned());
        rcgen::KeyPair::from_pem(&pem).map_err(rcgen_error)?
    } else {
        let key = rcgen::KeyPair::generate().map_err(rcgen_error)?;
        write_whole(&files.key, &zeroize::Zeroizing::new(key.serialize_pem()), 0o600)
            .map_err(io("write", &files.key))?;
        key
    };
    let mut names = vec![hostname.to_lowercase()];
    if names[0] != "localhost" {
        names.push("localhost".to_owned());
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let mut params = rcgen::CertificateParams::new(names).map_err(rcgen_error)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let now = std::time::SystemTime::now();
    // A day early, for clients whose clocks are behind.
    params.not_before = (now - std::time::Duration::from_secs(86_400)).into();
    params.not_after = (now + std::time::Duration::from_secs(SELF_SIGNED_SECS)).into();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(rcgen_error)?;
    write_whole(&files.chain, &certificate.pem(), 0o644).map_err(io("write", &files.chain))
}

/// The file is there whole, or not at all.
fn write_whole(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let new = path.with_extension("pem.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
