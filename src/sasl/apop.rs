//! APOP (RFC 1939 §7): no SASL mechanism, but of their kind: the greeting's timestamp is the challenge, the MD5 digest of
//! it and the shared secret the response. Only accounts that opted in can use it.
//!
//! How it fails: a wrong digest, an unknown user and an account without a secret are one `false`.

use super::{ScramHash, equal};
use crate::base::time::WallTime;
use md5::{Digest, Md5};

/// A timestamp for a greeting: different each time and not to be guessed, in the form of a message id.
pub fn timestamp(seed: &[u8; 32], now: WallTime, hostname: &str) -> String {
    let random = ScramHash::Sha256.hmac(seed, b"apop timestamp");
    let random = random.iter().take(8).fold(0u64, |n, octet| n << 8 | u64::from(*octet));
    format!("<{random}.{}@{hostname}>", now.as_secs())
}

/// Reads a digest: 32 hexadecimal digits, which RFC 1939 §7 wants in lower case and some clients write in upper.
pub fn parse_digest(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 16];
    for (i, octet) in digest.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(digest)
}

/// Whether `digest` is that of the timestamp and the secret. The digest is computed in either case, so that the time tells
/// nothing.
pub fn is_right(timestamp: &str, secret: Option<&[u8]>, digest: &[u8; 16]) -> bool {
    let mut expected = Md5::new();
    expected.update(timestamp);
    expected.update(secret.unwrap_or_default());
    equal(&expected.finalize(), digest) && secret.is_some_and(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1939() {
        let stamp = "<1896.697170952@dbc.mtview.ca.us>";
        let digest = parse_digest("c4c9334bac560ecc979e58001b3e22fb").unwrap();
        assert!(is_right(stamp, Some(b"tanstaaf"), &digest));
        assert!(!is_right(stamp, Some(b"tanstaag"), &digest));
        assert!(!is_right(stamp, None, &digest));
        assert_eq!(parse_digest("c4c9334bac560ecc979e58001b3e22f"), None);
        assert_eq!(parse_digest("c4c9334bac560ecc979e58001b3e22fg"), None);
        assert_eq!(parse_digest("ü4c9334bac560ecc979e58001b3e22f"), None);
    }

    #[test]
    fn nobody_gets_in_with_an_empty_secret() {
        let stamp = "<1.2@x>";
        let empty: [u8; 16] = Md5::digest(stamp).into();
        assert!(!is_right(stamp, Some(b""), &empty) && !is_right(stamp, None, &empty));
    }

    #[test]
    fn timestamps_differ_by_seed() {
        let at = WallTime::from_millis(5000);
        assert_ne!(timestamp(&[1; 32], at, "h"), timestamp(&[2; 32], at, "h"));
        assert!(timestamp(&[1; 32], at, "h").ends_with(".5@h>"));
    }
}
