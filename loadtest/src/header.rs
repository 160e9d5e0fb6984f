//! The header fields a message was sent with, as one number that any order, folding and added fields leave alone.
//!
//! Relays put fields in front, behind and in between (Received, Return-Path, DKIM-Signature, a Date that was missing), sort them
//! (Sendmail) and fold them anew; what was sent must still be there, with the same words. So a message says beside its id which
//! of the [`FIELDS`] it was sent with, and of exactly these a sum is taken. How it fails: it does not; a field that was lost,
//! doubled or changed is another sum.

/// Fields that are looked at, in lower case; a message's mask has a bit for each. The order is part of the ledger.
const FIELDS: [&[u8]; 16] = [
    b"from",
    b"sender",
    b"reply-to",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"list-id",
    b"list-unsubscribe",
];

/// Which of the fields a header section has.
pub fn mask(header: &[u8]) -> u16 {
    let mut mask = 0;
    each(header, |field, _| mask |= 1 << field);
    mask
}

/// The sum of those fields of a header section that `mask` names.
pub fn sum(header: &[u8], mask: u16) -> u32 {
    let mut sum = 0u32;
    each(header, |field, value| {
        if mask >> field & 1 == 1 {
            sum = sum.wrapping_add(one(field, value));
        }
    });
    sum
}

/// The checksum a ledger has: of the body, and of the header fields.
pub fn joined(body: u32, header: u32) -> u32 {
    crc32c::crc32c_append(body, &header.to_be_bytes())
}

/// Calls `with` for each field that is looked at: its number, and its value with its folding (RFC 5322 §2.2.3).
fn each(header: &[u8], mut with: impl FnMut(usize, &[u8])) {
    let mut rest = header;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        let mut end = 0;
        loop {
            end += memchr::memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        let Some(colon) = memchr::memchr(b':', field) else { continue };
        let name = field[..colon].trim_ascii_end();
        if let Some(number) = FIELDS.iter().position(|known| name.eq_ignore_ascii_case(known)) {
            with(number, &field[colon + 1..]);
        }
    }
}

/// A field's words, however they are folded and spaced.
fn one(field: usize, value: &[u8]) -> u32 {
    let words = value.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words
        .fold(crc32c::crc32c(&[field as u8]), |crc, word| crc32c::crc32c_append(crc32c::crc32c_append(crc, word), b" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &[u8] = b"From: <a@x.test>\r\nTo: <b@x.test>,\r\n <c@x.test>\r\nSubject: a word\r\nX-Own: 1\r\n\r\n";

    #[test]
    fn what_relays_do_to_a_header_changes_nothing() {
        let (mask, sum) = (mask(SENT), sum(SENT, mask(SENT)));
        assert_eq!(mask.count_ones(), 3);
        for seen in [
            &b"Received: by x\r\n\tfor y\r\nReturn-Path: <a@x.test>\r\nFrom: <a@x.test>\r\nTo: <b@x.test>, <c@x.test>\r\nSubject: a word\r\n\r\n"[..],
            b"Subject:  a word\r\nDate: today\r\nTO: <b@x.test>,\r\n\t<c@x.test>\r\nfrom : <a@x.test>\r\nMessage-ID: <1@y>\r\n\r\n",
            b"From: <a@x.test>\nTo: <b@x.test>,\n <c@x.test>\nSubject: a\n word\n\nFrom: not a field\n",
        ] {
            assert_eq!(super::sum(seen, mask), sum, "{}", String::from_utf8_lossy(seen));
        }
    }

    #[test]
    fn a_field_that_is_lost_changed_or_doubled_is_noticed() {
        let (mask, sum) = (mask(SENT), sum(SENT, mask(SENT)));
        for seen in [
            &b"From: <a@x.test>\r\nSubject: a word\r\n\r\n"[..],
            b"From: <a@x.test>\r\nTo: <b@x.test>, <c@x.test>\r\nSubject: two words\r\n\r\n",
            b"From: <a@x.test>\r\nFrom: <a@x.test>\r\nTo: <b@x.test>, <c@x.test>\r\nSubject: a word\r\n\r\n",
            b"From: <a@x.test>\r\nTo: a word\r\nSubject: <b@x.test>, <c@x.test>\r\n\r\n",
            b"",
        ] {
            assert_ne!(super::sum(seen, mask), sum, "{}", String::from_utf8_lossy(seen));
        }
        assert_ne!(joined(1, sum), joined(2, sum));
        assert_ne!(joined(1, sum), joined(1, sum + 1));
    }
}
