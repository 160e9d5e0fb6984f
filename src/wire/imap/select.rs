//! SELECT and EXAMINE with CONDSTORE and QRESYNC (RFC 9051 §6.3.2, RFC 7162 §3.2.5), CREATE with USE (RFC 6154 §3).
//!
//! How it fails: a parameter that is unknown or given twice, a special use that does not exist.

use super::command::{Bound, Command, Qresync, SequenceSet};
use super::mailbox::mailbox;
use super::reader::{Fault, Read, Reader};
use super::set::{at_set, sequence_set};
use crate::base::mailbox::{HIERARCHY_SEPARATOR, SpecialUse};

/// Parameters of one SELECT at most: each of the known ones once.
const PARAMETERS_MAX: usize = 2;

pub(super) fn select(r: &mut Reader<'_>, read_only: bool) -> Read<Command> {
    r.sp()?;
    let mailbox = mailbox(r)?;
    let (mut condstore, mut qresync) = (false, None);
    if r.eat(b' ') {
        r.list(PARAMETERS_MAX, |r| {
            if !condstore && r.eat_word("CONDSTORE") {
                condstore = true;
            } else if qresync.is_none() && r.eat_word("QRESYNC") {
                r.sp()?;
                qresync = Some(self::qresync(r)?);
            } else {
                return Err(r.expected("CONDSTORE or QRESYNC"));
            }
            Ok(())
        })?;
    }
    Ok(Command::Select { mailbox, read_only, condstore, qresync })
}

/// `(uidvalidity modseq [known-uids] [(known-seqs known-uids)])`
fn qresync(r: &mut Reader<'_>) -> Read<Qresync> {
    r.expect(b'(')?;
    let uid_validity = r.nz_number("a UIDVALIDITY")?;
    r.sp()?;
    let mod_seq = r.number64("a modification sequence")?;
    let (mut known, mut matches) = (None, None);
    if !r.eat(b')') {
        r.sp()?;
        if at_set(r) {
            known = Some(known_set(r)?);
        }
        if known.is_none() || r.eat(b' ') {
            r.expect(b'(')?;
            let seqs = known_set(r)?;
            r.sp()?;
            matches = Some((seqs, known_set(r)?));
            r.expect(b')')?;
        }
        r.expect(b')')?;
    }
    Ok(Qresync { uid_validity, mod_seq, known, matches })
}

/// A set of what the client knows: RFC 7162 §7, known-uids: "*" is not allowed.
fn known_set(r: &mut Reader<'_>) -> Read<SequenceSet> {
    let start = r.clone();
    match sequence_set(r)? {
        SequenceSet::Ranges(ranges) if ranges.iter().all(|(a, b)| *a != Bound::Highest && *b != Bound::Highest) => {
            Ok(SequenceSet::Ranges(ranges))
        }
        _ => Err(start.expected("a set of numbers without *")),
    }
}

pub(super) fn create(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let mut mailbox = mailbox(r)?;
    // RFC 9051 §6.3.4: it declares that there will be names below; the name itself is without it.
    if mailbox.len() > 1 && mailbox.ends_with(HIERARCHY_SEPARATOR) {
        mailbox.pop();
    }
    let mut special_use = Vec::new();
    if r.eat(b' ') {
        r.expect(b'(')?;
        if !r.eat_word("USE") {
            return Err(r.expected("USE"));
        }
        r.sp()?;
        special_use = r.list_or_empty(SpecialUse::ALL.len(), |r| {
            let start = r.clone();
            r.expect(b'\\')?;
            let name = r.atom("a special use")?;
            SpecialUse::parse(&format!("\\{name}")).ok_or_else(|| start.expected("a special use"))
        })?;
        r.expect(b')')?;
    }
    if mailbox.is_empty() {
        return Err(Fault::new("the mailbox name is empty"));
    }
    Ok(Command::Create { mailbox, special_use })
}
