//! LIST in its plain and its extended form (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154), and LSUB (RFC 3501 §6.3.9).
//!
//! How it fails: options that are unknown, too many patterns, RECURSIVEMATCH with nothing to match.

use super::command::{Command, ListCommand};
use super::mailbox::pattern;
use super::parse::status_items;
use super::reader::{Fault, Read, Reader};

/// Patterns of one LIST at most.
const PATTERNS_MAX: usize = 100;
/// Options of one list at most: each of the known ones, with some repeated.
const OPTIONS_MAX: usize = 16;

pub(super) fn list(r: &mut Reader<'_>) -> Read<Command> {
    let mut list = ListCommand::default();
    r.sp()?;
    if r.peek() == Some(b'(') {
        list.extended = true;
        r.list_or_empty(OPTIONS_MAX, |r| select_option(r, &mut list))?;
        r.sp()?;
    }
    list.reference = pattern(r)?;
    r.sp()?;
    if r.peek() == Some(b'(') {
        list.extended = true;
        list.patterns = r.list(PATTERNS_MAX, pattern)?;
    } else {
        list.patterns.push(pattern(r)?);
    }
    if r.eat(b' ') {
        if !r.eat_word("RETURN") {
            return Err(r.expected("RETURN"));
        }
        list.extended = true;
        r.sp()?;
        r.list_or_empty(OPTIONS_MAX, |r| return_option(r, &mut list))?;
    }
    // RFC 5258 §3.1: it must not stand alone or with REMOTE only.
    if list.recursive_match && !list.select_subscribed && !list.select_special_use {
        return Err(Fault::new("RECURSIVEMATCH needs a selection such as SUBSCRIBED"));
    }
    Ok(Command::List(list))
}

fn select_option(r: &mut Reader<'_>, list: &mut ListCommand) -> Read<()> {
    let option = match () {
        () if r.eat_word("SUBSCRIBED") => &mut list.select_subscribed,
        () if r.eat_word("REMOTE") => &mut list.select_remote,
        () if r.eat_word("RECURSIVEMATCH") => &mut list.recursive_match,
        () if r.eat_word("SPECIAL-USE") => &mut list.select_special_use,
        () => return Err(r.expected("a selection option")),
    };
    *option = true;
    Ok(())
}

fn return_option(r: &mut Reader<'_>, list: &mut ListCommand) -> Read<()> {
    let option = match () {
        () if r.eat_word("SUBSCRIBED") => &mut list.return_subscribed,
        () if r.eat_word("CHILDREN") => &mut list.return_children,
        () if r.eat_word("SPECIAL-USE") => &mut list.return_special_use,
        () if r.eat_word("STATUS") => {
            r.sp()?;
            list.return_status = Some(status_items(r)?);
            return Ok(());
        }
        () => return Err(r.expected("a return option")),
    };
    *option = true;
    Ok(())
}

pub(super) fn lsub(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let reference = pattern(r)?;
    r.sp()?;
    let patterns = vec![pattern(r)?];
    Ok(Command::List(ListCommand { lsub: true, reference, patterns, ..ListCommand::default() }))
}
