//! What is read out of certificates: names, identity, fingerprints and the data of channel binding.
//!
//! How it fails: what cannot be parsed has no names and no identity.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// SHA-256 over the whole certificate.
pub(super) fn digest_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256(certificate)
}

/// SHA-256 over the certificate's SubjectPublicKeyInfo: it outlives renewals that keep the key.
pub(super) fn key_digest_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(sha256(parsed.public_key().raw))
}

fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// SHA-256 of a certificate as people compare it: `AB:CD:…`.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    digest_of(certificate).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

/// Host names the certificate is for, in lower case, wildcards as written: the DNS names of subjectAltName, else the
/// common name (RFC 6125 §6.4.4).
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let alternative: Vec<String> = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if alternative.is_empty() {
        common_name(&parsed).into_iter().map(|n| n.to_lowercase()).collect()
    } else {
        alternative
    }
}

/// Who a client says it is: the first rfc822Name of subjectAltName, else the common name. A name with a NUL or another
/// control character in it is nobody's (the trick of "ann\0@evil.example").
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mail = parsed.subject_alternative_name().ok().flatten().and_then(|extension| {
        extension.value.general_names.iter().find_map(|name| match name {
            GeneralName::RFC822Name(mail) => Some((*mail).to_owned()),
            _ => None,
        })
    });
    let name = mail.or_else(|| common_name(&parsed))?;
    let usable = !name.is_empty() && name.len() <= IDENTITY_OCTETS_MAX && !name.chars().any(char::is_control);
    usable.then_some(name)
}

/// A mailbox of RFC 5321 at most.
const IDENTITY_OCTETS_MAX: usize = 320;

fn common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// When it is valid, in seconds since 1970: not before, not after.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()))
}

/// `tls-server-end-point` (RFC 5929 §4.1): the certificate hashed with the hash of its own signature algorithm, SHA-256 in
/// place of MD5 and SHA-1; undefined, and so `None`, when that algorithm has no single hash (Ed25519).
pub(super) fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match SignatureAlgorithm::try_from(&parsed.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => match parameters.hash_algorithm_oid().to_id_string().as_str()
        {
            "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
            "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
            "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
            _ => return None,
        },
        _ => match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
            // md5, sha1 and sha256 WithRSAEncryption; ecdsa-with-SHA1 and -SHA256
            "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
            "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
            _ => return None,
        },
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
