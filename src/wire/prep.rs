//! Preparation of user names and passwords, so that the same text typed on two keyboards compares equal.
//!
//! Passwords go through SASLprep (RFC 4013), which SCRAM prescribes (RFC 5802 §2.2). User names follow the
//! UsernameCaseMapped profile (RFC 8265 §3.3): they are in lower case, so `Ann@Example.org` and `ann@example.org` are one.
//! Deviations, both named: user names are normalised by NFKC where RFC 8265 has width mapping and NFC (compatibility
//! characters are forbidden there, here they become their plain form), and the bidirectional rules of both profiles are
//! not applied (they refuse odd mixtures; they never change what compares equal). How it fails: [`PrepError`] says why.

use icu_normalizer::ComposingNormalizerBorrowed;
use std::fmt;
use zeroize::Zeroizing;

/// Octets of a user name at most: a whole mailbox of RFC 5321 §4.5.3.1 (64 + `@` + 255).
pub const USER_OCTETS_MAX: usize = 320;
/// Octets of a password at most; longer ones only cost hashing time.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

/// Why a user name or password cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepError {
    /// Nothing is left of it.
    Empty,
    /// It has more octets than the limit given.
    TooLong(usize),
    /// It is not UTF-8.
    NotUtf8,
    /// It has a character that is not allowed, such as a control character or, in user names, a space.
    Forbidden(char),
}

impl fmt::Display for PrepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepError::Empty => f.write_str("is empty"),
            PrepError::TooLong(max) => write!(f, "is longer than {max} octets"),
            PrepError::NotUtf8 => f.write_str("is not UTF-8"),
            PrepError::Forbidden(c) => write!(f, "has the forbidden character U+{:04X}", u32::from(*c)),
        }
    }
}

impl std::error::Error for PrepError {}

/// A user name in the form in which it is compared and stored.
pub fn user_name(raw: &[u8]) -> Result<String, PrepError> {
    if raw.len() > USER_OCTETS_MAX {
        return Err(PrepError::TooLong(USER_OCTETS_MAX));
    }
    let text = std::str::from_utf8(raw).map_err(|_| PrepError::NotUtf8)?;
    if text.is_ascii() {
        return checked_user(text.to_ascii_lowercase());
    }
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    // Lower case can undo the normal form and the normal form can bring capitals back: RFC 8265 §3.3.3 asks for a
    // result that does not change when it is prepared again.
    let mut name = nfkc.normalize(text).into_owned();
    for _ in 0..3 {
        let again = nfkc.normalize(&name.to_lowercase()).into_owned();
        if again == name {
            break;
        }
        name = again;
    }
    checked_user(name)
}

fn checked_user(name: String) -> Result<String, PrepError> {
    match name.chars().find(|&c| is_space(c) || is_prohibited(c) || is_mapped_to_nothing(c)) {
        Some(c) => Err(PrepError::Forbidden(c)),
        None if name.is_empty() => Err(PrepError::Empty),
        None if name.len() > USER_OCTETS_MAX => Err(PrepError::TooLong(USER_OCTETS_MAX)),
        None => Ok(name),
    }
}

/// A password in the form in which it is hashed (RFC 4013 §2).
pub fn password(raw: &str) -> Result<Zeroizing<String>, PrepError> {
    if raw.len() > PASSWORD_OCTETS_MAX {
        return Err(PrepError::TooLong(PASSWORD_OCTETS_MAX));
    }
    let prepared = if raw.is_ascii() {
        Zeroizing::new(raw.to_owned())
    } else {
        let mapped: Zeroizing<String> = Zeroizing::new(
            raw.chars().filter(|&c| !is_mapped_to_nothing(c)).map(|c| if is_space(c) { ' ' } else { c }).collect(),
        );
        Zeroizing::new(ComposingNormalizerBorrowed::new_nfkc().normalize(&mapped).into_owned())
    };
    match prepared.chars().find(|&c| is_prohibited(c)) {
        Some(c) => Err(PrepError::Forbidden(c)),
        None if prepared.is_empty() => Err(PrepError::Empty),
        None => Ok(prepared),
    }
}

/// Tables C.1.1 and C.1.2 of RFC 3454.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Table B.1 of RFC 3454. U+200B stands in C.1.2 as well; RFC 4013 §2.1 lets the space win.
fn is_mapped_to_nothing(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}' | '\u{200c}' | '\u{200d}' | '\u{2060}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// Tables C.2.1, C.2.2, C.3, C.4, C.6, C.7, C.8 and C.9 of RFC 3454 (C.5, surrogates, cannot be in a `char`).
fn is_prohibited(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2063}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{340}' | '\u{341}' | '\u{2ff0}'..='\u{2ffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}' | '\u{f0000}'..='\u{10ffff}')
        || (u32::from(c) & 0xfffe) == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_of_rfc_4013() {
        for (raw, expected) in
            [("I\u{ad}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{aa}", "a"), ("\u{2168}", "IX")]
        {
            assert_eq!(password(raw).unwrap().as_str(), expected);
        }
        assert_eq!(password("\u{7}"), Err(PrepError::Forbidden('\u{7}')));
        assert_eq!(password("a\u{a0}b").unwrap().as_str(), "a b");
        assert_eq!(password("\u{ad}"), Err(PrepError::Empty));
    }

    #[test]
    fn user_names_are_of_one_case() {
        assert_eq!(user_name(b"Ann@Example.ORG").unwrap(), "ann@example.org");
        assert_eq!(user_name("J\u{dc}RGEN".as_bytes()), user_name("ju\u{308}rgen".as_bytes()));
        assert_eq!(user_name("\u{ff21}nn".as_bytes()).unwrap(), "ann", "full-width letters are letters");
        assert_eq!(user_name(b"a b"), Err(PrepError::Forbidden(' ')));
        assert_eq!(user_name(b"a\0"), Err(PrepError::Forbidden('\0')));
        assert_eq!(user_name(b"\xff"), Err(PrepError::NotUtf8));
        assert_eq!(user_name(b""), Err(PrepError::Empty));
        assert_eq!(user_name(&[b'a'; 321]), Err(PrepError::TooLong(320)));
    }

    proptest! {
        #[test]
        fn preparing_twice_changes_nothing(raw in "\\PC{0,40}") {
            if let Ok(once) = user_name(raw.as_bytes()) {
                prop_assert_eq!(user_name(once.as_bytes()).unwrap(), once);
            }
            if let Ok(once) = password(&raw) {
                prop_assert_eq!(password(&once).unwrap(), once);
            }
        }
    }
}
