//! Parameters in addresses: percent encoding both ways (RFC 3986 §2.1; `+` stands for a space, as forms have it).
//!
//! How it fails: a `%` without two digits stands for itself; octets that are no UTF-8 are replaced.

/// A value as it may stand in a path or parameter.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
            _ => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}

/// The inverse of [`encode`].
pub fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(octet)) => {
                out.push(octet);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => out.push(b' '),
            (octet, _) => out.push(*octet),
        }
        rest = tail;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// `?key=value&…`, or nothing.
pub fn pairs(query: &[(&str, String)]) -> String {
    let texts: Vec<String> = query.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    if texts.is_empty() { String::new() } else { format!("?{}", texts.join("&")) }
}

/// What stands behind `?`.
pub fn parse(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn foreign_forms_are_understood() {
        assert_eq!(
            parse("a=1+2&b=%41%zz&&c"),
            [("a".into(), "1 2".into()), ("b".into(), "A%zz".into()), ("c".into(), String::new())]
        );
        assert_eq!(decode("%F"), "%F");
        assert_eq!(decode("é%"), "é%");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(key in "\\PC{0,10}", value in "\\PC{0,20}") {
            let text = pairs(&[(&key, value.clone())]);
            prop_assert!(text.is_ascii());
            prop_assert_eq!(parse(&text[1..]), vec![(key, value)]);
        }
    }
}
