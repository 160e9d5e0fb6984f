//! Patterns of LIST and LSUB (RFC 9051 §6.3.9): `*` is anything, `%` anything within a level.
//!
//! How it fails: a pattern that is longer than any name could use matches nothing. The time is bounded by the product of
//! the lengths: `%` stops at a separator, so only the last wildcard of each kind is ever tried again.

use crate::base::mailbox::{HIERARCHY_SEPARATOR, MAILBOX_NAME_OCTETS_MAX};

/// Octets of a pattern: a name with as many wildcards.
const PATTERN_OCTETS_MAX: usize = 2 * MAILBOX_NAME_OCTETS_MAX;
const SEPARATOR: u8 = HIERARCHY_SEPARATOR as u8;

/// Whether a name matches. INBOX matches in any case, also as the first level (RFC 9051 §5.1).
pub fn matches(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    if p.len() > PATTERN_OCTETS_MAX {
        return false;
    }
    let inbox = if name.starts_with("INBOX") && matches!(n.get(5), None | Some(&SEPARATOR)) { 5 } else { 0 };
    let same = |pattern: u8, at: usize| pattern == n[at] || at < inbox && pattern.eq_ignore_ascii_case(&n[at]);
    let (mut pi, mut ni) = (0, 0);
    // Where to go on when nothing fits: behind the wildcard, with one octet more taken by it.
    let mut star: Option<(usize, usize)> = None;
    let mut percent: Option<(usize, usize)> = None;
    loop {
        match p.get(pi) {
            Some(b'*') => {
                (star, percent) = (Some((pi + 1, ni)), None);
                pi += 1;
                continue;
            }
            Some(b'%') => {
                percent = Some((pi + 1, ni));
                pi += 1;
                continue;
            }
            Some(octet) if ni < n.len() && same(*octet, ni) => {
                (pi, ni) = (pi + 1, ni + 1);
                continue;
            }
            None if ni == n.len() => return true,
            _ => {}
        }
        match (percent, star) {
            (Some((behind, taken)), _) if taken < n.len() && n[taken] != SEPARATOR => {
                percent = Some((behind, taken + 1));
                (pi, ni) = (behind, taken + 1);
            }
            (_, Some((behind, taken))) if taken < n.len() => {
                (star, percent) = (Some((behind, taken + 1)), None);
                (pi, ni) = (behind, taken + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The naive twin.
    fn slowly(p: &[u8], n: &[u8]) -> bool {
        match (p.first(), n.first()) {
            (None, None) => true,
            (Some(b'*'), _) => slowly(&p[1..], n) || !n.is_empty() && slowly(p, &n[1..]),
            (Some(b'%'), _) => slowly(&p[1..], n) || n.first().is_some_and(|c| *c != b'/') && slowly(p, &n[1..]),
            (Some(a), Some(b)) => a == b && slowly(&p[1..], &n[1..]),
            _ => false,
        }
    }

    #[test]
    fn inbox_is_found_in_any_case() {
        assert!(matches("inbox", "INBOX") && matches("InBoX/%", "INBOX/a") && matches("in%", "INBOX"));
        assert!(!matches("inboxes", "INBOXES") && !matches("Sent", "sent"));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let name = "a".repeat(MAILBOX_NAME_OCTETS_MAX);
        assert!(!matches(&format!("{}c", "*a%".repeat(300)), &name));
        assert!(!matches(&"*".repeat(PATTERN_OCTETS_MAX + 1), &name));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_agrees_with_its_naive_twin(pattern in "[ab/%*]{0,8}", name in "[ab/]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), slowly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
