//! mbox, as mboxrd: messages part by `From ` lines, which are quoted with `>` inside of messages; flags in `Status`,
//! `X-Status` and `X-Keywords` fields.
//!
//! How it fails: see the module above. A file that does not begin with a `From ` line is refused before anything is
//! imported.

use super::{Importer, Moved, Progress, body_of, each_message, failed, inward, mailboxes, names_of, outward};
use crate::base::mailbox::ask::NewMessage;
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{AccountId, FlagNames, Flags, HIERARCHY_SEPARATOR};
use crate::base::time::WallTime;
use crate::mailstore::{MailReader, MailWriter, MailstoreError};
use crate::wire::imap::utf7;
use crate::wire::mime;
use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Fields that tell flags; they are made anew.
const FIELDS: [&str; 3] = ["status:", "x-status:", "x-keywords:"];
const STATUS: [(char, Flags); 1] = [('R', Flags::SEEN)];
const X_STATUS: [(char, Flags); 4] =
    [('A', Flags::ANSWERED), ('F', Flags::FLAGGED), ('D', Flags::DELETED), ('T', Flags::DRAFT)];

/// Writes all mailboxes of an account into a directory, a file each.
pub fn export_mbox(
    reader: &mut dyn MailReader,
    account: AccountId,
    to: &Path,
    progress: Progress<'_>,
) -> Result<Moved, MailstoreError> {
    let mut moved = Moved::default();
    fs::create_dir_all(to).map_err(failed("making", to))?;
    for mailbox in mailboxes(reader, account)?.into_iter().filter(|m| m.selectable) {
        let Some(id) = mailbox.id else { continue };
        let path = to.join(format!("{}.mbox", utf7::encode(&mailbox.name).replace(HIERARCHY_SEPARATOR, ".")));
        let mut out = BufWriter::new(fs::File::create(&path).map_err(failed("making", &path))?);
        moved.mailboxes += 1;
        let mut count = 0;
        each_message(reader, account, (id, &mailbox.name), &mut |row, keywords, octets| {
            moved.octets += octets.len() as u64;
            let flags = names_of(row, keywords);
            write_message(&mut out, row.internal_date.at, &flags, &outward(octets))
                .map_err(failed("writing", &path))?;
            count += 1;
            progress(&mailbox.name, count);
            Ok(())
        })?;
        out.flush().map_err(failed("writing", &path))?;
        moved.messages += count;
    }
    Ok(moved)
}

fn write_message(out: &mut dyn Write, at: WallTime, flags: &FlagNames, octets: &[u8]) -> std::io::Result<()> {
    writeln!(out, "From MAILER-DAEMON {}", asctime(at))?;
    let mut in_header = true;
    let mut dropped = false;
    for line in octets.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if in_header && (text.is_empty() || text == b"\r") {
            in_header = false;
            write_flags(out, flags)?;
        } else if in_header {
            // What an mbox of former days said of it is over; so are the lines that continue it.
            let folded = text.first().is_some_and(|b| *b == b' ' || *b == b'\t');
            dropped = if folded { dropped } else { is_flag_field(text) };
            if dropped {
                continue;
            }
        }
        let quoted = text.iter().position(|b| *b != b'>').is_some_and(|n| text[n..].starts_with(b"From "));
        if quoted {
            out.write_all(b">")?;
        }
        out.write_all(line)?;
    }
    if in_header {
        if !octets.ends_with(b"\n") && !octets.is_empty() {
            out.write_all(b"\n")?;
        }
        write_flags(out, flags)?;
    }
    if !octets.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")
}

fn is_flag_field(line: &[u8]) -> bool {
    FIELDS.iter().any(|name| line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()))
}

fn write_flags(out: &mut dyn Write, flags: &FlagNames) -> std::io::Result<()> {
    let letters = |table: &[(char, Flags)]| -> String {
        table.iter().filter(|(_, f)| flags.system.contains(*f)).map(|(letter, _)| *letter).collect()
    };
    writeln!(out, "Status: {}O", letters(&STATUS))?; // O: it was there before
    let others = letters(&X_STATUS);
    if !others.is_empty() {
        writeln!(out, "X-Status: {others}")?;
    }
    if !flags.keywords.is_empty() {
        writeln!(out, "X-Keywords: {}", flags.keywords.join(" "))?;
    }
    Ok(())
}

/// `Mon Nov 23 12:32:01 2026`
fn asctime(at: WallTime) -> String {
    let text = at.rfc5322();
    let words: Vec<&str> = text.split([' ', ',']).filter(|w| !w.is_empty()).collect();
    match words[..] {
        [weekday, day, month, year, time, ..] => format!("{weekday} {month} {day:>2} {time} {year}"),
        _ => text,
    }
}

/// The date of a `From ` line, as its end has it.
fn date_of(line: &str) -> Option<WallTime> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., month, day, time, year] = words[..] else { return None };
    let (seconds, _) = mime::parse_date(format!("{day} {month} {year} {time} +0000").as_bytes())?;
    Some(WallTime::from_millis(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

/// Reads an mbox file into a mailbox.
pub fn import_mbox(
    writer: &mut dyn MailWriter,
    account: AccountId,
    mailbox: &str,
    from: &Path,
    progress: Progress<'_>,
) -> Result<Moved, MailstoreError> {
    let mut input = BufReader::new(fs::File::open(from).map_err(failed("opening", from))?);
    let mut importer = Importer::new(writer, account);
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| {
        line.clear();
        input.read_until(b'\n', line).map_err(failed("reading", from))
    };
    if next(&mut line)? > 0 && !line.starts_with(b"From ") {
        let text = "expected a line that begins with \"From \"".to_owned();
        return Err(MailstoreError::File { doing: "reading", path: from.to_owned(), text });
    }
    importer.enter(mailbox)?;
    let mut count = 0;
    while !line.is_empty() {
        let date = date_of(&String::from_utf8_lossy(&line));
        let mut octets = Vec::new();
        let mut after_blank = false;
        loop {
            if next(&mut line)? == 0 || (after_blank && line.starts_with(b"From ")) {
                break;
            }
            after_blank = matches!(line.as_slice(), b"\n" | b"\r\n");
            let quotes = line.iter().position(|b| *b != b'>').unwrap_or(0);
            let quoted = quotes > 0 && line[quotes..].starts_with(b"From ");
            octets.extend_from_slice(if quoted { &line[1..] } else { &line });
        }
        importer.add(mailbox, message_of(octets, date))?;
        count += 1;
        progress(mailbox, count);
    }
    importer.flush(mailbox)?;
    Ok(importer.moved)
}

fn message_of(mut octets: Vec<u8>, date: Option<WallTime>) -> NewMessage {
    // The empty line that ends a message in the file is not its own.
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        if octets.ends_with(end) {
            octets.truncate(octets.len() - end.len() / 2);
            break;
        }
    }
    let (flags, octets) = take_flags(&octets);
    let internal_date = date.map(|at| ZonedTime { at, zone_minutes: 0 });
    NewMessage { flags, internal_date, body: body_of(inward(octets)) }
}

/// Takes the fields that tell flags out of the header.
fn take_flags(octets: &[u8]) -> (FlagNames, Vec<u8>) {
    let mut flags = FlagNames::default();
    let mut rest = Vec::with_capacity(octets.len());
    let mut lines = octets.split_inclusive(|b| *b == b'\n');
    for line in lines.by_ref() {
        if !is_flag_field(line) {
            rest.extend_from_slice(line);
            if matches!(line, b"\n" | b"\r\n") {
                break;
            }
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let (name, value) = text.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("x-keywords") {
            flags.keywords.extend(value.split([' ', ',', '\r', '\n']).filter(|k| !k.is_empty()).map(str::to_owned));
        }
        for (letter, flag) in if name.eq_ignore_ascii_case("status") { &STATUS[..] } else { &X_STATUS[..] } {
            if !name.eq_ignore_ascii_case("x-keywords") && value.contains(*letter) {
                flags.system = flags.system.with(*flag);
            }
        }
    }
    lines.for_each(|line| rest.extend_from_slice(line));
    (flags, rest)
}
