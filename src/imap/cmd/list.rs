//! LIST (RFC 9051 §6.3.9, RFC 5258) with SPECIAL-USE (RFC 6154) and STATUS (RFC 5819), and LSUB (RFC 3501 §6.3.9). How it
//! fails: NO with the store's code; a mailbox whose STATUS cannot be had is listed without it.

use super::status;
use crate::base::mailbox::HIERARCHY_SEPARATOR;
use crate::base::mailbox::ask::{MailboxInfo, Query, Reply};
use crate::imap::config::STATUS_NAMES_MAX;
use crate::imap::list::matches;
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::imap::state::Phase;
use crate::wire::imap::{ListCommand, StatusItem, emit};
use std::collections::{BTreeMap, HashSet};

/// One line of the answer.
struct Line {
    name: String,
    attributes: Vec<&'static str>,
    /// `CHILDINFO` (RFC 5258 §3.5).
    child_info: Option<&'static str>,
    selectable: bool,
}

pub(super) fn run(session: &mut Session, tag: String, list: ListCommand) {
    let word = if list.lsub { "LSUB" } else { "LIST" };
    if !list.extended && list.patterns.iter().all(String::is_empty) {
        // RFC 9051 §6.3.9: an empty name asks for the separator and the root.
        session.out.line(&format!("* {word} (\\Noselect) \"/\" \"\""));
        return session.ok(tag, &format!("{word} completed"));
    }
    if let Some(words) = status::refusal(session, list.return_status.as_deref().unwrap_or_default()) {
        return session.finish(Ending::new(tag, words));
    }
    status::note(session, list.return_status.as_deref().unwrap_or_default());
    session.query(Query::Mailboxes, move |s, reply| match reply {
        Ok(Reply::Mailboxes(infos)) => {
            let lines = lines(&list, infos);
            match list.return_status {
                Some(items) if !list.lsub => with_status(s, tag, lines.into_iter(), items),
                _ => {
                    let write = move |s: &mut Session, line: Line| say(s, word, &line);
                    let then = move |s: &mut Session| s.ok(tag, &format!("{word} completed"));
                    s.each(lines.into_iter(), write, then);
                }
            }
        }
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug())),
        Err(error) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent))),
    });
}

/// The names above a name, nearest last.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(HIERARCHY_SEPARATOR).map(|(at, _)| &name[..at])
}

fn lines(list: &ListCommand, infos: Vec<MailboxInfo>) -> Vec<Line> {
    let patterns: Vec<String> = list.patterns.iter().map(|p| format!("{}{p}", list.reference)).collect();
    let selecting = list.lsub || list.select_subscribed || list.select_special_use;
    let chosen = |info: &MailboxInfo| {
        // LSUB shows what is subscribed, whether it is there or not.
        let subscribed = !(list.lsub || list.select_subscribed) || info.subscribed;
        subscribed && (!list.select_special_use || info.special_use.is_some()) && (selecting || info.id.is_some())
    };
    let mut with_children = HashSet::new();
    let mut with_chosen_below = HashSet::new();
    for info in &infos {
        if info.id.is_some() {
            with_children.extend(above(&info.name).map(str::to_owned));
        }
        if selecting && chosen(info) {
            with_chosen_below.extend(above(&info.name).map(str::to_owned));
        }
    }
    let mut all: BTreeMap<String, MailboxInfo> = infos.into_iter().map(|info| (info.name.clone(), info)).collect();
    for name in &with_chosen_below {
        all.entry(name.clone()).or_insert_with(|| MailboxInfo {
            name: name.clone(),
            id: None,
            selectable: false,
            subscribed: false,
            special_use: None,
        });
    }
    let mut lines = Vec::new();
    for info in all.values() {
        if !patterns.iter().any(|p| matches(p, &info.name)) {
            continue;
        }
        let (is_chosen, below) = (chosen(info), with_chosen_below.contains(&info.name));
        // RFC 3501 §6.3.9: with `%` LSUB shows a level that has subscribed names below it.
        let as_level = list.lsub && below && patterns.iter().any(|p| p.ends_with('%'));
        if is_chosen || as_level || list.recursive_match && below {
            lines.push(line(list, info, is_chosen, below, with_children.contains(&info.name)));
        }
    }
    lines
}

fn line(list: &ListCommand, info: &MailboxInfo, is_chosen: bool, below: bool, has_children: bool) -> Line {
    let mut attributes = Vec::new();
    if list.lsub {
        if !is_chosen || !info.selectable {
            attributes.push("\\Noselect");
        }
    } else {
        if info.id.is_none() {
            attributes.push("\\NonExistent");
        } else if !info.selectable {
            attributes.push("\\Noselect");
        }
        attributes.push(if has_children { "\\HasChildren" } else { "\\HasNoChildren" });
        if info.subscribed && (list.select_subscribed || list.return_subscribed) {
            attributes.push("\\Subscribed");
        }
        attributes.extend(info.special_use.map(|u| u.attribute()));
    }
    let selection = if list.select_subscribed { "SUBSCRIBED" } else { "SPECIAL-USE" };
    Line {
        name: info.name.clone(),
        attributes,
        child_info: (list.recursive_match && below).then_some(selection),
        selectable: info.selectable && info.id.is_some(),
    }
}

fn say(session: &mut Session, word: &str, line: &Line) {
    let mode = session.mode();
    let out = &mut session.out.text;
    out.extend_from_slice(b"* ");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b" (");
    emit::words(out, line.attributes.iter().copied());
    out.extend_from_slice(b") \"/\" ");
    emit::mailbox(out, &line.name, mode);
    if let Some(selection) = line.child_info {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"");
        out.extend_from_slice(selection.as_bytes());
        out.extend_from_slice(b"\"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// LIST with STATUS behind each line, so many at a time.
fn with_status(session: &mut Session, tag: String, mut left: std::vec::IntoIter<Line>, items: Vec<StatusItem>) {
    let lines: Vec<Line> = left.by_ref().take(STATUS_NAMES_MAX).collect();
    let names: Vec<String> = lines.iter().filter(|l| l.selectable).map(|l| l.name.clone()).collect();
    if lines.is_empty() {
        return session.ok(tag, "LIST completed");
    }
    session.query(Query::Status { names }, move |s, reply| {
        let mut statuses = match reply {
            Ok(Reply::Statuses(statuses)) => statuses.into_iter(),
            _ => Vec::new().into_iter(),
        };
        for line in &lines {
            say(s, "LIST", line);
            // RFC 5819 §2: a mailbox that cannot be asked has no STATUS line.
            if line.selectable
                && let Some(Ok(status)) = statuses.next()
            {
                status::say(s, &line.name, &status, &items);
            }
        }
        s.phase = Phase::Drain(Box::new(move |s| with_status(s, tag, left, items)));
    });
}
