//! Personal parts as digests: the same person is the same digest, so that limits and counts stay what they were, and
//! nobody without the key can tell who it is.
//!
//! What is hidden: local parts, user names, the argument of VRFY, text of header fields, text of a backend's reply. What
//! is not: addresses of clients, domains, HELO names, names of header fields. How it fails: it does not.

use aws_lc_rs::hmac;
use std::borrow::Cow;

/// Octets of the digest that are kept: 64 bits keep a million people apart.
const DIGEST_OCTETS: usize = 8;

/// Hides personal parts with a key.
pub struct Scrub(hmac::Key);

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrub(a key)")
    }
}

impl Scrub {
    /// From a secret.
    pub fn new(key: &[u8]) -> Scrub {
        Scrub(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A whole text as `h` and 16 hexadecimal digits; nothing stays nothing.
    pub fn text(&self, text: &str) -> Cow<'static, str> {
        if text.is_empty() {
            return Cow::Borrowed("");
        }
        let tag = hmac::sign(&self.0, text.to_ascii_lowercase().as_bytes());
        let digits = tag.as_ref().iter().take(DIGEST_OCTETS).map(|b| format!("{b:02x}"));
        Cow::Owned(std::iter::once("h".to_owned()).chain(digits).collect())
    }

    /// An address or a user name: what stands before the last `@`. A detail (`ann+news@`) is left out before, as keys of
    /// limits leave it out.
    pub fn address(&self, text: &str) -> Cow<'static, str> {
        let Some((local, domain)) = text.rsplit_once('@') else { return self.text(text) };
        let base = local.split_once('+').map_or(local, |(base, _)| if base.is_empty() { local } else { base });
        Cow::Owned(format!("{}@{domain}", self.text(base)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_person_is_the_same_digest() {
        let scrub = Scrub::new(b"key");
        let ann = scrub.address("Ann+news@example.org");
        assert_eq!(ann, scrub.address("ann@example.org"));
        assert!(ann.ends_with("@example.org") && !ann.contains("ann") && ann.len() == 17 + 12, "{ann}");
        assert_ne!(ann, scrub.address("bob@example.org"));
        assert_ne!(ann, Scrub::new(b"other").address("ann@example.org"));
        assert_eq!(scrub.address(""), "");
    }
}
