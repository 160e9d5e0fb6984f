//! Loops: a message that has passed too many servers, or this one before.
//!
//! How it fails: a loop is the [`Reply`] to refuse the message with (RFC 5321 §6.3, RFC 3463 X.4.6).

use crate::wire::reply::{Enhanced, Reply};

/// Whether a message has too many `Received` fields.
pub fn check_hops(received_fields: u32, hops_max: u32) -> Result<(), Reply> {
    if received_fields <= hops_max {
        return Ok(());
    }
    let text = format!("mail loop: {received_fields} Received fields, at most {hops_max} are allowed");
    Err(Reply::new(554, Some(Enhanced(5, 4, 6)), text))
}

/// How often `hostname` stands behind `by` in the `Received` fields of a header section: a hint, since anybody can write
/// such a field and a message may pass a gateway twice for good reasons (a list, a forward).
pub fn passes(header: &[u8], hostname: &str) -> u32 {
    let mut count = 0;
    let mut field: Vec<u8> = Vec::new();
    // One more empty line ends the last field.
    for line in header.split(|b| *b == b'\n').chain([&b""[..]]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            field.extend_from_slice(line);
            continue;
        }
        count += u32::from(is_pass(&field, hostname));
        field = line.to_vec();
    }
    count
}

fn is_pass(field: &[u8], hostname: &str) -> bool {
    const NAME: &[u8] = b"received:";
    if field.len() < NAME.len() || !field[..NAME.len()].eq_ignore_ascii_case(NAME) {
        return false;
    }
    let text = String::from_utf8_lossy(&field[NAME.len()..]);
    let mut depth = 0usize; // words inside comments do not count
    let mut after_by = false;
    for word in text.split_ascii_whitespace() {
        let outside = depth == 0;
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        if outside && after_by {
            return word.trim_end_matches(';').eq_ignore_ascii_case(hostname);
        }
        after_by = outside && word.eq_ignore_ascii_case("by");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_hops_are_a_loop() {
        assert!(check_hops(100, 100).is_ok());
        let reply = check_hops(101, 100).unwrap_err();
        assert_eq!(reply.to_string(), "554 5.4.6 mail loop: 101 Received fields, at most 100 are allowed");
    }

    #[test]
    fn our_own_name_behind_by_is_counted() {
        let header = b"Received: from a (b [192.0.2.1])\r\n\tby Gate.example.test with ESMTP id 1;\r\n Mon\r\n\
            Subject: by gate.example.test\r\n\
            received: from gate.example.test (x by gate.example.test y) by other.example; Tue\r\n\
            Received: by gate.example.test; Wed\r\n\r\n";
        assert_eq!(passes(header, "gate.example.test"), 2);
        assert_eq!(passes(header, "other.example"), 1);
        assert_eq!(passes(b"", "other.example"), 0);
        assert_eq!(passes(b"Received: by", "x"), 0);
    }
}
