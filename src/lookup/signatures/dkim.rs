//! The signatures of one message, computed: runs on a blocking thread, with the keys at hand.
//!
//! How it fails: a signature that cannot be read, verified or accepted is a result with a reason; the library's words are
//! turned into those of RFC 8601 §2.7.1.

use super::SIGNATURES_MAX;
use super::keys::Keys;
use crate::base::inquiry::{Dkim, Signatures, Verified};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{AuthenticatedMessage, DkimResult, Error, MessageAuthenticator, Parameters};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Sets of an ARC chain at most (RFC 8617 §4.2.1).
pub(super) const ARC_SETS_MAX: usize = 50;
/// Octets of a domain, selector or reason that is passed on.
const TEXT_MAX: usize = 255;

/// DKIM and ARC of `raw`.
pub(super) fn verify(authenticator: &MessageAuthenticator, raw: &[u8], keys: &Keys) -> Signatures {
    let Some(mut message) = AuthenticatedMessage::parse(raw) else { return Signatures::default() };
    message.dkim_headers.truncate(SIGNATURES_MAX);
    for header in &mut message.dkim_headers {
        // No reports are sent (RFC 6651), and nobody signs for another (RFC 6541): no more records are needed.
        header.header.r = false;
        header.header.atps = None;
    }
    let mut found = Signatures::default();
    // The results, each with the place of its field in the message.
    let mut dkim: Vec<(usize, Dkim)> = broken(&message);
    let verified = now(authenticator.verify_dkim(Parameters::new(&message).with_txt_cache(keys)));
    let outputs = verified.iter().flatten().filter(|o| o.signature().is_some());
    for (header, output) in message.dkim_headers.iter().zip(outputs) {
        let (result, reason) = judged(&header.header, output.result());
        dkim.push((header.value.as_ptr() as usize, described(&header.header, result, reason.as_deref())));
    }
    dkim.sort_by_key(|(place, _)| *place);
    found.dkim = dkim.into_iter().map(|(_, dkim)| dkim).take(SIGNATURES_MAX).collect();
    found.arc = arc(authenticator, &message, keys);
    found.arc_domain = message.as_headers.last().map(|seal| cut(&seal.header.d.to_lowercase()));
    found
}

fn arc(authenticator: &MessageAuthenticator, message: &AuthenticatedMessage, keys: &Keys) -> Verified {
    let sets = message.as_headers.len().max(message.ams_headers.len()).max(message.aar_headers.len());
    if sets == 0 && !message.has_arc_errors {
        return Verified::None;
    }
    // RFC 8617 §5.2: a chain has all three fields of each set, and at most 50 sets.
    if message.ams_headers.is_empty() || sets > ARC_SETS_MAX {
        return Verified::Fail;
    }
    let output = now(authenticator.verify_arc(Parameters::new(message).with_txt_cache(keys)));
    match output.as_ref().map(|o| o.result()) {
        Some(DkimResult::Pass) => Verified::Pass,
        Some(DkimResult::None) => Verified::None,
        Some(DkimResult::TempError(_)) | None => Verified::Temperror,
        // RFC 8617 §5.2 knows no other way to fail.
        Some(_) => Verified::Fail,
    }
}

/// What a future says that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The library's result in the words of RFC 8601 §2.7.1, and why.
fn judged(signature: &Signature, result: &DkimResult) -> (Verified, Option<String>) {
    match result {
        // RFC 8301 §3.1: rsa-sha1 must not be taken for a signature.
        DkimResult::Pass if signature.a == Algorithm::RsaSha1 => (Verified::Policy, Some("rsa-sha1".into())),
        DkimResult::Pass => (Verified::Pass, None),
        DkimResult::None => (Verified::None, None),
        DkimResult::TempError(why) => (Verified::Temperror, Some(why.to_string())),
        DkimResult::PermError(why) => (Verified::Permerror, Some(why.to_string())),
        DkimResult::Neutral(why) | DkimResult::Fail(why) => {
            let result = match why {
                // RFC 6376 §6.1: these fail, they are not neutral.
                Error::Dkim(DkimError::FailedBodyHashMatch | DkimError::SignatureExpired) => Verified::Fail,
                // A key that was withdrawn or is for another algorithm (RFC 6376 §6.1.2).
                Error::Dkim(DkimError::RevokedPublicKey | DkimError::UnsupportedKeyType) => Verified::Permerror,
                _ if matches!(result, DkimResult::Fail(_)) => Verified::Fail,
                _ => Verified::Neutral,
            };
            (result, Some(why.to_string()))
        }
    }
}

/// Fields that are no signature, or one that is not accepted.
fn broken(message: &AuthenticatedMessage) -> Vec<(usize, Dkim)> {
    let is_dkim = |name: &[u8]| name.eq_ignore_ascii_case(b"DKIM-Signature");
    let fields = message.errors.iter().filter(|h| is_dkim(h.name)).take(SIGNATURES_MAX);
    fields
        .map(|header| {
            let tag = |name| tag(header.value, name).unwrap_or_default();
            let result = match &header.header {
                // A body with something behind the signed part (RFC 6376 §8.2).
                Error::Dkim(DkimError::SignatureLength) => Verified::Policy,
                _ => Verified::Permerror,
            };
            let signature: String = tag("b").chars().take(8).collect();
            let dkim = Dkim {
                result,
                domain: cut(&tag("d").to_lowercase()),
                selector: cut(&tag("s")),
                signature: signature.into(),
                reason: Some(cut(&header.header.to_string())),
            };
            (header.value.as_ptr() as usize, dkim)
        })
        .collect()
}

/// The value of a tag in a field that could not be read as a whole, without white space.
fn tag(value: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    let found = text.split(';').find_map(|part| part.split_once('=').filter(|(n, _)| n.trim() == name));
    let plain = |c: &char| c.is_ascii_graphic();
    found.map(|(_, value)| value.chars().filter(plain).collect())
}

/// A signature with its result.
pub(super) fn described(signature: &Signature, result: Verified, reason: Option<&str>) -> Dkim {
    // RFC 6008 §4: at least eight characters of the encoded signature.
    let first = STANDARD.encode(&signature.b[..signature.b.len().min(6)]);
    Dkim {
        result,
        domain: cut(&signature.d.to_lowercase()),
        selector: cut(&signature.s),
        signature: first.into(),
        reason: reason.map(cut),
    }
}

/// Visible and of bounded length: it ends up in header fields and logs.
fn cut(text: &str) -> Box<str> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
    text.into()
}
