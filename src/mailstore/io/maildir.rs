//! Maildir and Maildir++ (folders as `.A.B` beside `cur`), with flags in file names, dates as the files' own, keywords as
//! Dovecot keeps them (`dovecot-keywords`, letters a to z) and its list of subscriptions.
//!
//! How it fails: see the module above. Keywords beyond the first 26 of a mailbox are left out.

use super::{Importer, Moved, Progress, body_of, each_message, failed, inward, mailboxes, names_of, outward};
use crate::base::mailbox::ask::{Change, NewMessage};
use crate::base::mailbox::search::ZonedTime;
use crate::base::mailbox::{AccountId, FlagNames, Flags, HIERARCHY_SEPARATOR};
use crate::base::time::WallTime;
use crate::mailstore::{MailReader, MailWriter, MailstoreError};
use crate::wire::imap::utf7;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Flags and their letters, in the order in which they are written.
const LETTERS: [(char, Flags); 5] =
    [('D', Flags::DRAFT), ('F', Flags::FLAGGED), ('R', Flags::ANSWERED), ('S', Flags::SEEN), ('T', Flags::DELETED)];
const KEYWORD_LETTERS: usize = 26;
/// A dot within a level: Maildir++ parts levels by dots.
const DOT: &str = "&AC4-";

/// Writes all mailboxes of an account into a directory.
pub fn export_maildir(
    reader: &mut dyn MailReader,
    account: AccountId,
    to: &Path,
    progress: Progress<'_>,
) -> Result<Moved, MailstoreError> {
    let mut moved = Moved::default();
    let all = mailboxes(reader, account)?;
    let subscribed: Vec<String> = all.iter().filter(|m| m.subscribed).map(|m| encoded(&m.name)).collect();
    fs::create_dir_all(to).map_err(failed("making", to))?;
    let list = to.join("subscriptions");
    fs::write(&list, subscribed.join("\n") + "\n").map_err(failed("writing", &list))?;
    for (mailbox, id) in all.iter().filter(|m| m.selectable).filter_map(|m| Some((m, m.id?))) {
        let directory = directory_of(to, &mailbox.name);
        for part in ["cur", "new", "tmp"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(failed("making", &path))?;
        }
        moved.mailboxes += 1;
        let mut count = 0;
        let mut known = Vec::new();
        each_message(reader, account, (id, &mailbox.name), &mut |row, keywords, octets| {
            known.clone_from(&keywords[..keywords.len().min(KEYWORD_LETTERS)].to_vec());
            moved.octets += octets.len() as u64;
            let at = row.internal_date.at;
            let name = format!("{}.U{}M{}.gatepost,S={}", at.as_secs(), row.uid, id.0, octets.len());
            let letters = letters_of(&names_of(row, keywords), &known);
            write_message(&directory, &name, &letters, &outward(octets), at)?;
            count += 1;
            progress(&mailbox.name, count);
            Ok(())
        })?;
        moved.messages += count;
        if !known.is_empty() {
            let path = directory.join("dovecot-keywords");
            let lines: String = known.iter().enumerate().map(|(i, k)| format!("{i} {k}\n")).collect();
            fs::write(&path, lines).map_err(failed("writing", &path))?;
        }
    }
    Ok(moved)
}

fn write_message(
    directory: &Path,
    name: &str,
    letters: &str,
    octets: &[u8],
    at: WallTime,
) -> Result<(), MailstoreError> {
    let path = directory.join("tmp").join(name);
    let write = || {
        let mut file = fs::File::create(&path)?;
        file.write_all(octets)?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(at.as_millis()))?;
        fs::rename(&path, directory.join("cur").join(format!("{name}:2,{letters}")))
    };
    write().map_err(failed("writing", &path))
}

fn letters_of(flags: &FlagNames, keywords: &[String]) -> String {
    let system = LETTERS.iter().filter(|(_, flag)| flags.system.contains(*flag)).map(|(letter, _)| *letter);
    let own = keywords.iter().zip('a'..='z').filter(|(k, _)| flags.keywords.contains(k)).map(|(_, letter)| letter);
    system.chain(own).collect()
}

fn flags_of(letters: &str, keywords: &[Option<String>]) -> FlagNames {
    let mut flags = FlagNames::default();
    for letter in letters.chars() {
        if let Some((_, flag)) = LETTERS.iter().find(|(l, _)| *l == letter) {
            flags.system = flags.system.with(*flag);
        } else if letter.is_ascii_lowercase() {
            let index = letter as usize - 'a' as usize;
            flags.keywords.extend(keywords.get(index).cloned().flatten());
        }
    }
    flags
}

/// Reads a Maildir, with its Maildir++ folders, into an account.
pub fn import_maildir(
    writer: &mut dyn MailWriter,
    account: AccountId,
    from: &Path,
    progress: Progress<'_>,
) -> Result<Moved, MailstoreError> {
    let mut importer = Importer::new(writer, account);
    let mut folders = vec![("INBOX".to_owned(), from.to_owned())];
    for path in listed(from)? {
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix('.'));
        let is_folder = path.join("cur").is_dir() || path.join("new").is_dir();
        if let Some(name) = name.and_then(decoded).filter(|_| is_folder) {
            folders.push((name, path));
        }
    }
    for (name, directory) in folders {
        importer.enter(&name)?;
        let keywords = keywords_of(&directory);
        let mut count = 0;
        for path in messages_of(&directory)? {
            importer.add(&name, read_message(&path, &keywords)?)?;
            count += 1;
            progress(&name, count);
        }
        importer.flush(&name)?;
    }
    if let Ok(text) = fs::read_to_string(from.join("subscriptions")) {
        for name in text.lines().filter_map(subscription) {
            // A name the store would not make cannot be subscribed either.
            let _ = importer.change(Change::Subscribe { name, on: true });
        }
    }
    Ok(importer.moved)
}

fn read_message(path: &Path, keywords: &[Option<String>]) -> Result<NewMessage, MailstoreError> {
    let octets = fs::read(path).map_err(failed("reading", path))?;
    let modified = fs::metadata(path).and_then(|m| m.modified()).map_err(failed("reading", path))?;
    let millis = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = WallTime::from_millis(u64::try_from(millis).unwrap_or(0));
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let letters = name.rsplit_once(":2,").map_or("", |(_, letters)| letters);
    Ok(NewMessage {
        flags: flags_of(letters, keywords),
        internal_date: Some(ZonedTime { at, zone_minutes: 0 }),
        body: body_of(inward(octets)),
    })
}

/// Messages in the order of their arrival: by the time that begins their names.
fn messages_of(directory: &Path) -> Result<Vec<PathBuf>, MailstoreError> {
    let mut all = Vec::new();
    for part in ["cur", "new"] {
        let path = directory.join(part);
        if path.is_dir() {
            all.extend(listed(&path)?.into_iter().filter(|p| p.is_file()));
        }
    }
    let key = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let number = |text: Option<&str>| {
            let digits: String = text.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap_or(u64::MAX)
        };
        let mut parts = name.split('.');
        let seconds = number(parts.next());
        let within = number(parts.next().and_then(|p| p.strip_prefix('U')));
        (seconds, within, name)
    };
    all.sort_by_cached_key(key);
    Ok(all)
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, MailstoreError> {
    let entries = fs::read_dir(directory).map_err(failed("listing", directory))?;
    let mut paths = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed("listing", directory))?;
    paths.sort();
    Ok(paths)
}

/// Keywords by their letter.
fn keywords_of(directory: &Path) -> Vec<Option<String>> {
    let mut keywords = vec![None; KEYWORD_LETTERS];
    let text = fs::read_to_string(directory.join("dovecot-keywords")).unwrap_or_default();
    for (index, name) in text.lines().filter_map(|line| line.split_once(' ')) {
        let place = index.parse().ok().and_then(|i: usize| keywords.get_mut(i));
        if let Some(place) = place.filter(|_| !name.is_empty()) {
            *place = Some(name.to_owned());
        }
    }
    keywords
}

fn directory_of(root: &Path, name: &str) -> PathBuf {
    if name == "INBOX" { root.to_owned() } else { root.join(format!(".{}", encoded(name))) }
}

/// The name of a mailbox as that of a folder.
fn encoded(name: &str) -> String {
    let levels = name.split(HIERARCHY_SEPARATOR).map(|level| utf7::encode(level).replace('.', DOT));
    levels.collect::<Vec<_>>().join(".")
}

fn decoded(folder: &str) -> Option<String> {
    let level = |level: &str| {
        let pieces: Option<Vec<String>> = level.split(DOT).map(utf7::decode).collect();
        pieces.map(|p| p.join("."))
    };
    let levels: Option<Vec<String>> = folder.split('.').map(level).collect();
    levels.map(|l| l.join(&HIERARCHY_SEPARATOR.to_string())).filter(|n| !n.is_empty())
}

/// A line of Dovecot's list: names by dots, or since its second version by tabs.
fn subscription(line: &str) -> Option<String> {
    if line.is_empty() || line.starts_with("V\t") {
        return None;
    }
    decoded(&line.replace('\t', "."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_come_back(name in "[a-zé.&-]{1,8}(/[a-zü. -]{1,8}){0,2}") {
            prop_assert_eq!(decoded(&encoded(&name)), Some(name));
        }
    }
}
