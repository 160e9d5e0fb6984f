//! Commands that bring flags: APPEND and REPLACE with their message data elsewhere, and STORE.
//!
//! How it fails: system flags that do not exist, keywords that are too long or too many, and anything else where a
//! message literal belongs.

use super::command::{AppendMessage, Command};
use super::mailbox::mailbox;
use super::reader::{Fault, Read, Reader};
use super::{date, set};
use crate::base::mailbox::ask::StoreHow;
use crate::base::mailbox::{FLAG_OCTETS_MAX, FlagNames, Flags, KEYWORDS_MAX};

/// Flags of one list at most: every system flag and every keyword, with some repeated.
const FLAGS_MAX: usize = KEYWORDS_MAX + 64;

/// APPEND (RFC 9051 §6.3.12), with several messages (RFC 3502).
pub(super) fn append(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let mailbox = mailbox(r)?;
    let mut messages = Vec::new();
    loop {
        r.sp()?;
        messages.push(message(r, messages.len())?);
        if r.peek().is_none() {
            return Ok(Command::Append { mailbox, messages });
        }
    }
}

/// REPLACE (RFC 8508 §3.1)
pub(super) fn replace(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    r.sp()?;
    let message = set::single(r)?;
    r.sp()?;
    let mailbox = mailbox(r)?;
    r.sp()?;
    let new = self::message(r, 0)?;
    Ok(Command::Replace { message, uid, mailbox, new })
}

/// `[(flags) ] ["date" ] {n}`, or `UTF8 (~{n})` in place of the literal.
fn message(r: &mut Reader<'_>, literal: usize) -> Read<AppendMessage> {
    let mut flags = FlagNames::default();
    if r.peek() == Some(b'(') {
        flags = flag_list(r)?;
        r.sp()?;
    }
    let mut date = None;
    if r.peek() == Some(b'"') {
        date = Some(date::date_time(r)?);
        r.sp()?;
    }
    // RFC 6855 §4
    let utf8 = r.eat_word("UTF8");
    if utf8 {
        r.sp()?;
        r.expect(b'(')?;
    }
    if !matches!(r.rest(), [b'{', ..] | [b'~', b'{', ..]) {
        return Err(r.expected("a message literal"));
    }
    let (binary, _octets) = r.announcement()?;
    if utf8 {
        if !binary {
            return Err(Fault::new("UTF8 takes a literal of the form ~{n}"));
        }
        r.expect(b')')?;
    }
    Ok(AppendMessage { flags, date, literal, utf8 })
}

/// STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3)
pub(super) fn store(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    r.sp()?;
    let messages = set::sequence_set(r)?;
    r.sp()?;
    let mut unchanged_since = None;
    if r.eat(b'(') {
        if !r.eat_word("UNCHANGEDSINCE") {
            return Err(r.expected("UNCHANGEDSINCE"));
        }
        r.sp()?;
        unchanged_since = Some(r.number64("a modification sequence")?);
        r.expect(b')')?;
        r.sp()?;
    }
    let how = match () {
        () if r.eat(b'+') => StoreHow::Add,
        () if r.eat(b'-') => StoreHow::Remove,
        () => StoreHow::Replace,
    };
    let silent = r.eat_word("FLAGS.SILENT");
    if !silent && !r.eat_word("FLAGS") {
        return Err(r.expected("FLAGS or FLAGS.SILENT"));
    }
    r.sp()?;
    let flags = if r.peek() == Some(b'(') { flag_list(r)? } else { flags_without_list(r)? };
    Ok(Command::Store { messages, uid, how, silent, flags, unchanged_since })
}

/// flag-list
fn flag_list(r: &mut Reader<'_>) -> Read<FlagNames> {
    let flags = r.list_or_empty(FLAGS_MAX, flag)?;
    collect(flags)
}

/// flag *(SP flag)
fn flags_without_list(r: &mut Reader<'_>) -> Read<FlagNames> {
    let mut flags = vec![flag(r)?];
    while r.eat(b' ') {
        if flags.len() == FLAGS_MAX {
            return Err(Fault::new(format!("more than {FLAGS_MAX} flags")));
        }
        flags.push(flag(r)?);
    }
    collect(flags)
}

enum Flag {
    System(Flags),
    Keyword(String),
}

fn flag(r: &mut Reader<'_>) -> Read<Flag> {
    let start = r.clone();
    let system = r.eat(b'\\');
    let name = r.atom("a flag")?;
    if system {
        // RFC 9051 §2.3.2: names with a backslash are the standard's; \Recent cannot be stored (RFC 3501 §2.3.2).
        let flag = Flags::system(&format!("\\{name}"));
        return flag.map(Flag::System).ok_or_else(|| start.expected("a system flag that can be stored"));
    }
    if name.len() > FLAG_OCTETS_MAX {
        return Err(Fault::new(format!("a keyword has at most {FLAG_OCTETS_MAX} octets")));
    }
    Ok(Flag::Keyword(name.to_owned()))
}

fn collect(flags: Vec<Flag>) -> Read<FlagNames> {
    let mut names = FlagNames::default();
    for flag in flags {
        match flag {
            Flag::System(flag) => names.system = names.system.with(flag),
            Flag::Keyword(new) if names.keywords.iter().any(|k| k.eq_ignore_ascii_case(&new)) => {}
            Flag::Keyword(new) => names.keywords.push(new),
        }
    }
    if names.keywords.len() > KEYWORDS_MAX {
        return Err(Fault::new(format!("more than {KEYWORDS_MAX} keywords")));
    }
    Ok(names)
}
