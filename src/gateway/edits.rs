//! Changes to a message before it is settled: those of helpers that a rule obeys, and the removal of Authentication-Results
//! fields that claim to be ours (RFC 8601 §5).
//!
//! The header section is made anew; the body below it is shared where it is in memory, and copied by the spool lane where
//! it is in a file. How it fails: an edit that makes no sense (no name of a field, a place far away) is left out and said
//! in the log; a field's text can neither end the header section nor begin another field.

use crate::base::address::{Mailbox, ReversePath};
use crate::base::body::{Body, BodyShape, Store};
use crate::base::envelope::{Envelope, Recipient};
use crate::base::inquiry::Edit;
use crate::wire::authentication_results::claimed_id;
use crate::wire::data::{BareNewline, DataRules, Framing, Text};
use std::sync::Arc;

/// Octets of one field that a helper may write at most; a header section has a limit of its own.
const FIELD_OCTETS_MAX: usize = 64 * 1024;
/// Octets in a line of it at most (RFC 5322 §2.1.1).
const LINE_OCTETS_MAX: usize = 990;
/// Recipients that edits may add at most.
const ADDED_MAX: usize = 100;

const NAME: &[u8] = b"Authentication-Results";

/// What a message becomes.
#[derive(Debug)]
pub(super) struct Edited {
    /// The header section, its empty line included; `None` when it stays as it is.
    pub head: Option<Vec<u8>>,
    /// Another body below it.
    pub text: Option<Arc<Vec<u8>>>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Applies edits to a header section and the envelope. Fields that claim to be of `own_id` go first.
/// With `each_has_a_reply` (LMTP) the recipients stay as they are.
pub(super) fn edit(
    head: &[u8],
    edits: &[Edit],
    own_id: &str,
    envelope: &mut Envelope,
    each_has_a_reply: bool,
) -> Edited {
    let (mut fields, end) = split(head);
    let before = fields.len();
    fields.retain(|field| !is_ours(field, own_id));
    let mut changed = fields.len() != before;
    let mut edited = Edited { head: None, text: None, left_out: Vec::new() };
    let mut added = 0;
    for edit in edits {
        let outcome = match edit {
            Edit::ChangeSender(sender) => {
                envelope.sender = sender.clone().map_or(ReversePath::Null, ReversePath::Mailbox);
                Ok(())
            }
            Edit::AddRecipient(mailbox) | Edit::RemoveRecipient(mailbox) if each_has_a_reply => {
                Err(format!("recipient {mailbox}: over LMTP each has a reply of its own"))
            }
            Edit::AddRecipient(mailbox) => add_recipient(envelope, mailbox, &mut added),
            Edit::RemoveRecipient(mailbox) => {
                envelope.recipients.retain(|r| r.mailbox.lower() != mailbox.lower());
                Ok(())
            }
            Edit::ReplaceBody(text) => {
                edited.text = Some(text.clone());
                Ok(())
            }
            edit => change(&mut fields, edit).map(|()| changed = true),
        };
        if let Err(why) = outcome {
            edited.left_out.push(why);
        }
    }
    if changed {
        let mut head: Vec<u8> = fields.concat();
        head.extend_from_slice(if end.is_empty() && edited.text.is_some() { b"\r\n" } else { end });
        edited.head = Some(head);
    } else if edited.text.is_some() && end.is_empty() {
        edited.head = Some([head, b"\r\n"].concat());
    }
    edited
}

fn add_recipient(envelope: &mut Envelope, mailbox: &Mailbox, added: &mut usize) -> Result<(), String> {
    if *added >= ADDED_MAX {
        return Err(format!("recipient {mailbox}: more than {ADDED_MAX} added"));
    }
    if !envelope.recipients.iter().any(|r| r.mailbox == *mailbox) {
        envelope.recipients.push(Recipient::plain(mailbox.clone()));
        *added += 1;
    }
    Ok(())
}

/// The fields of a section with their line ends, and what ends it.
fn split(head: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut rest = head;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |n| n + 1);
        let (line, after) = rest.split_at(end);
        match fields.last_mut() {
            // RFC 5322 §2.2.3: a line that begins with white space belongs to the field above.
            Some(field) if matches!(line[0], b' ' | b'\t') => field.extend_from_slice(line),
            _ => fields.push(line.to_vec()),
        }
        rest = after;
    }
    (fields, rest)
}

fn name_of(field: &[u8]) -> &[u8] {
    let colon = field.iter().position(|b| *b == b':').unwrap_or(0);
    field[..colon].trim_ascii_end()
}

/// Whether it says what we found out, and we did not write it.
fn is_ours(field: &[u8], own_id: &str) -> bool {
    let name = name_of(field);
    name.eq_ignore_ascii_case(NAME)
        && field.iter().position(|b| *b == b':').is_some_and(|colon| {
            claimed_id(&field[colon + 1..]).is_some_and(|id| id.trim_end_matches('.').eq_ignore_ascii_case(own_id))
        })
}

/// Whether any field of the section is to be removed because it claims to be ours.
pub(super) fn has_foreign_results(head: &[u8], own_id: &str) -> bool {
    // Nearly no message has one: no copy is made to find that out.
    let starts = |at: usize| head[at..].get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME));
    let named = starts(0) || memchr::memchr_iter(b'\n', head).any(|at| starts(at + 1));
    named && split(head).0.iter().any(|field| is_ours(field, own_id))
}

/// One change of the header section.
fn change(fields: &mut Vec<Vec<u8>>, edit: &Edit) -> Result<(), String> {
    match edit {
        Edit::AddField { name, value } => fields.push(field(name, value)?),
        Edit::InsertField { at, name, value } => {
            let at = usize::try_from(*at).unwrap_or(usize::MAX).min(fields.len());
            fields.insert(at, field(name, value)?);
        }
        Edit::ChangeField { occurrence, name, value } => {
            let of_name = fields.iter().enumerate().filter(|(_, f)| name_of(f).eq_ignore_ascii_case(name.as_bytes()));
            let wanted = (*occurrence).max(1) as usize - 1;
            let place = of_name.map(|(i, _)| i).nth(wanted);
            match (place, value) {
                (Some(place), Some(value)) => fields[place] = field(name, value)?,
                (Some(place), None) => {
                    fields.remove(place);
                }
                // As Sendmail has it: a change of what is not there adds it.
                (None, Some(value)) => fields.push(field(name, value)?),
                (None, None) => return Err(format!("{name}: there is no field {occurrence} of that name")),
            }
        }
        Edit::ReplaceBody(_) | Edit::ChangeSender(_) | Edit::AddRecipient(_) | Edit::RemoveRecipient(_) => {}
    }
    Ok(())
}

/// A field as it stands in a message. Lines behind the first are folded, whatever they look like.
fn field(name: &str, value: &str) -> Result<Vec<u8>, String> {
    // RFC 5322 §3.6.8
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') || name.len() > 76 {
        return Err(format!("{name:?} is no name of a field"));
    }
    if value.len() > FIELD_OCTETS_MAX {
        return Err(format!("{name}: {} octets are more than a field may have", value.len()));
    }
    let mut out = format!("{name}:");
    let value = value.replace("\r\n", "\n").replace(['\r', '\0'], " ");
    for (i, line) in value.trim_end().split('\n').filter(|l| !l.trim().is_empty()).enumerate() {
        let folded = line.starts_with([' ', '\t']);
        out.push_str(match (i, folded) {
            (0, true) => "",
            (0, false) => " ",
            (_, true) => "\r\n",
            (_, false) => "\r\n\t",
        });
        push_line(&mut out, line);
    }
    out.push_str("\r\n");
    Ok(out.into_bytes())
}

/// A line, in pieces where it is too long to travel.
fn push_line(out: &mut String, line: &str) {
    let mut column = 0;
    for c in line.chars() {
        if column + c.len_utf8() > LINE_OCTETS_MAX - 100 {
            out.push_str("\r\n\t");
            column = 0;
        }
        out.push(c);
        column += c.len_utf8();
    }
}

/// A body in memory with another header section or text. `None` for one in a file.
pub(super) fn rebuild(body: &Body, edited: &Edited) -> Option<Body> {
    let Store::Memory(chunks) = &body.store else { return None };
    let old_head = usize::try_from(body.shape.header_octets).unwrap_or(usize::MAX);
    let mut parts: Vec<Arc<Vec<u8>>> = Vec::new();
    match &edited.head {
        Some(head) => parts.push(Arc::new(head.clone())),
        None => parts.push(Arc::new(body.head())),
    }
    match &edited.text {
        Some(text) => parts.push(text.clone()),
        None => parts.extend(below(chunks, old_head)),
    }
    parts.retain(|p| !p.is_empty());
    if edited.text.is_some() {
        return Some(made_fit(&parts, body.shape.binary));
    }
    let octets = parts.iter().map(|p| p.len() as u64).sum();
    let shape = edited.head.as_deref().map_or(body.shape, |head| head_shape(&body.shape, head));
    Some(Body::memory(BodyShape { octets, ..shape }, parts))
}

/// A message as the scanner of incoming mail would have let it in: what a helper wrote may have bare line feeds.
fn made_fit(parts: &[Arc<Vec<u8>>], binary: bool) -> Body {
    let octets: u64 = parts.iter().map(|p| p.len() as u64).sum();
    let mut text = Text::new(DataRules {
        framing: Framing::Chunks,
        bare_newline: BareNewline::Normalise,
        binary,
        // Every octet may become two.
        octets_max: 2 * octets + 2,
        header_octets_max: 2 * octets + 2,
        line_octets_max: 2 * octets + 2,
    });
    let mut out = Vec::new();
    for part in parts {
        match binary || memchr::memchr(0, part).is_none() {
            true => text.feed(part, &mut out),
            false => text.feed(&part.iter().copied().filter(|b| *b != 0).collect::<Vec<u8>>(), &mut out),
        };
    }
    text.finish(&mut out);
    debug_assert_eq!(text.offence(), None);
    Body::memory(text.shape(), vec![Arc::new(out)])
}

/// The chunks below the header section: shared, but for the one in which it ends.
fn below(chunks: &[Arc<Vec<u8>>], mut skip: usize) -> Vec<Arc<Vec<u8>>> {
    let mut rest = Vec::new();
    for chunk in chunks {
        if skip >= chunk.len() {
            skip -= chunk.len();
        } else if skip > 0 {
            rest.push(Arc::new(chunk[skip..].to_vec()));
            skip = 0;
        } else {
            rest.push(chunk.clone());
        }
    }
    rest
}

/// What another header section says of the message; its size aside.
pub(super) fn head_shape(old: &BodyShape, head: &[u8]) -> BodyShape {
    let (fields, _) = split(head);
    let received = fields.iter().filter(|f| name_of(f).eq_ignore_ascii_case(b"received")).count();
    BodyShape {
        octets: old.octets - old.header_octets + head.len() as u64,
        header_octets: head.len() as u64,
        received_fields: u32::try_from(received).unwrap_or(u32::MAX),
        eight_bit: old.eight_bit || !head.is_ascii(),
        needs_stuffing: old.needs_stuffing || head.starts_with(b".") || memchr::memmem::find(head, b"\n.").is_some(),
        ends_with_crlf: if old.octets == old.header_octets { head.ends_with(b"\r\n") } else { old.ends_with_crlf },
        binary: old.binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::envelope::{MailParameters, Origin, Protocol};
    use crate::base::id::SessionId;
    use crate::base::time::WallTime;
    use crate::wire::address::parse_mailbox;
    use proptest::prelude::*;

    const HEAD: &str = "Received: a\r\n\tb\r\nSubject: x\r\nAuthentication-results: (c) MX.example.TEST; spf=pass\r\n\
                        Authentication-Results: other.example; spf=fail\r\n\r\n";

    fn envelope() -> Envelope {
        Envelope {
            origin: Origin {
                session: SessionId(1),
                received: WallTime::from_millis(0),
                client: None,
                helo: String::new(),
                protocol: Protocol::default(),
                user: None,
            },
            sender: ReversePath::Null,
            parameters: MailParameters::default(),
            recipients: vec![Recipient::plain(parse_mailbox("a@b.example").unwrap())],
        }
    }
    fn body(text: &str) -> Body {
        made_fit(&[Arc::new(text.as_bytes().to_vec())], false)
    }
    fn add(name: &str, value: &str) -> Edit {
        Edit::AddField { name: name.into(), value: value.into() }
    }
    fn edited_head(edits: &[Edit]) -> String {
        let edited = edit(HEAD.as_bytes(), edits, "mx.example.test", &mut envelope(), false);
        assert!(edited.left_out.is_empty(), "{:?}", edited.left_out);
        String::from_utf8(edited.head.unwrap()).unwrap()
    }

    #[test]
    fn fields_that_claim_to_be_ours_go() {
        assert!(has_foreign_results(HEAD.as_bytes(), "mx.example.test"));
        assert!(!has_foreign_results(HEAD.as_bytes(), "mx2.example.test"));
        let head = edited_head(&[]);
        assert_eq!(head, "Received: a\r\n\tb\r\nSubject: x\r\nAuthentication-Results: other.example; spf=fail\r\n\r\n");
        let nothing = edit(head.as_bytes(), &[], "mx.example.test", &mut envelope(), false);
        assert!(nothing.head.is_none() && nothing.text.is_none());
    }

    #[test]
    fn changes_of_fields() {
        let change = |occurrence, value: Option<&str>| Edit::ChangeField {
            occurrence,
            name: "SUBJECT".into(),
            value: value.map(Into::into),
        };
        assert!(edited_head(&[change(1, Some("***SPAM*** x"))]).contains("\r\nSUBJECT: ***SPAM*** x\r\n"));
        assert!(!edited_head(&[change(1, None)]).to_lowercase().contains("subject"));
        assert!(edited_head(&[change(2, Some("second"))]).ends_with("SUBJECT: second\r\n\r\n"));
        let first = Edit::InsertField { at: 0, name: "X-Top".into(), value: "1".into() };
        assert!(edited_head(&[first]).starts_with("X-Top: 1\r\nReceived"));
        assert!(
            edited_head(&[add("X-Long", "a\n b\n\nc\r\n.d\0")]).ends_with("X-Long: a\r\n b\r\n\tc\r\n\t.d\r\n\r\n")
        );
        let wrong = edit(HEAD.as_bytes(), &[add("X Bad", "x"), change(9, None)], "x", &mut envelope(), false);
        assert_eq!(wrong.left_out.len(), 2);
    }

    #[test]
    fn changes_of_the_envelope() {
        let mut envelope = envelope();
        let (one, two) = (parse_mailbox("a@B.example").unwrap(), parse_mailbox("c@d.example").unwrap());
        let edits = [
            Edit::AddRecipient(two.clone()),
            Edit::AddRecipient(two.clone()),
            Edit::RemoveRecipient(one),
            Edit::ChangeSender(Some(two.clone())),
        ];
        let edited = edit(b"\r\n", &edits, "x", &mut envelope, false);
        assert!(edited.head.is_none());
        assert_eq!(
            envelope.recipients.iter().map(|r| r.mailbox.clone()).collect::<Vec<_>>(),
            std::slice::from_ref(&two)
        );
        assert_eq!(envelope.sender, ReversePath::Mailbox(two));
    }

    #[test]
    fn bodies_keep_what_is_below() {
        let old = body(&format!("{HEAD}text\r\n.dot\r\n"));
        let edited = edit(&old.head(), &[add("X-A", "1")], "mx.example.test", &mut envelope(), false);
        let new = rebuild(&old, &edited).unwrap();
        let text = String::from_utf8(new.to_vec().unwrap()).unwrap();
        assert!(text.ends_with("X-A: 1\r\n\r\ntext\r\n.dot\r\n"), "{text}");
        assert_eq!(new.shape, body(&text).shape, "as the scanner sees it");
        let other = edit(&old.head(), &[Edit::ReplaceBody(Arc::new(b"a\n\0b".to_vec()))], "x", &mut envelope(), false);
        let new = rebuild(&old, &other).unwrap();
        assert!(String::from_utf8(new.to_vec().unwrap()).unwrap().ends_with("\r\n\r\na\r\nb"));
    }

    proptest! {
        #[test]
        fn a_field_stays_one_field(name in "[A-Za-z-]{1,10}", value: String, text in "[a-z.\r\n]{0,40}") {
            let old = body(&format!("{HEAD}{text}"));
            let edited = edit(&old.head(), &[add(&name, &value)], "mx.example.test", &mut envelope(), false);
            let head = edited.head.clone().unwrap();
            let (fields, end) = split(&head);
            prop_assert_eq!(fields.len(), 4);
            prop_assert_eq!(end, b"\r\n");
            prop_assert!(head.split(|b| *b == b'\n').all(|line| line.len() < 998));
            let new = rebuild(&old, &edited).unwrap();
            let whole = new.to_vec().unwrap();
            prop_assert_eq!(new.shape, made_fit(&[Arc::new(whole)], false).shape);
        }
    }
}
