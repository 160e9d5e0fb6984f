//! The house rules that a program can check: which room may see which, what pure rooms keep away from, who makes a
//! proof, where `unsafe` stands.
//!
//! How it fails: every offence is listed with file and line.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and what each may import: the table of `ARCHITECTURE.md`. Arrows point down only.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("log", &["base"]),
    ("wire", &["base"]),
    ("sasl", &["wire", "base"]),
    ("smtp", &["sasl", "wire", "base"]),
    ("pop3", &["sasl", "wire", "base"]),
    ("imap", &["sasl", "wire", "base"]),
    ("policy", &["wire", "base"]),
    ("spool", &["log", "wire", "base"]),
    ("mailstore", &["log", "wire", "base"]),
    ("relay", &["smtp", "spool", "wire", "base"]),
    ("lookup", &["wire", "base"]),
    ("reactor", &["base"]),
    (
        "gateway",
        &[
            "base",
            "log",
            "wire",
            "sasl",
            "smtp",
            "pop3",
            "imap",
            "policy",
            "spool",
            "mailstore",
            "relay",
            "lookup",
            "reactor",
        ],
    ),
    (
        "control",
        &[
            "base",
            "log",
            "wire",
            "sasl",
            "smtp",
            "pop3",
            "imap",
            "policy",
            "spool",
            "mailstore",
            "relay",
            "lookup",
            "reactor",
            "gateway",
        ],
    ),
];

/// Rooms that are values and machines: time, randomness and bytes come in as arguments.
const PURE: &[&str] = &["base", "wire", "sasl", "smtp", "pop3", "imap", "policy", "relay"];

/// What a pure room does not touch. `std::net::IpAddr` and `SocketAddr` are values and allowed.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os::",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "getrandom",
    "thread_rng",
    "SystemRandom",
    "rand::fill",
    "fastrand::Rng::new()",
    "thread_local!",
    "libc::",
    "mio::",
    "io_uring",
    "socket2",
    "tokio",
    "println!",
    "eprintln!",
    "async fn",
];

/// Makers of proof values, and the only places that may call them.
const PROOFS: &[(&str, &[&str])] = &[
    ("RelayGrant::issued_by_policy", &["policy/"]),
    ("DiscardGrant::issued_by_policy", &["policy/"]),
    ("Committed::after_sync", &["spool/", "mailstore/"]),
    ("Accepted::by_backend", &["smtp/client"]),
];

/// Marks of unfinished work.
const MARKS: &[&str] =
    &[concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// A source file of the program.
struct Source {
    /// Below `src/`.
    path: String,
    /// First folder or file name below `src/`.
    room: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let root = root().join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let room = path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            Source { path, room, text: fs::read_to_string(file).unwrap() }
        })
        .collect();
    assert!(sources.len() > 20, "the sources are not where this test looks");
    sources
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// Files that are compiled for tests only.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// The lines of the program itself, numbered from 1: no comments, no strings, nothing below `#[cfg(test)]` items.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let stripped = strip(&self.text);
        let mut lines = Vec::new();
        let mut skip = Skip::No;
        for (index, line) in stripped.lines().enumerate() {
            skip = skip.next(line);
            if skip == Skip::No {
                lines.push((index + 1, line.to_owned()));
            }
        }
        lines
    }
}

/// Where we are with regard to an item under `#[cfg(test)]`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Skip {
    /// In the program.
    No,
    /// Behind the attribute, before the item's body.
    Head,
    /// In the item's body, so many braces deep.
    Body(i32),
    /// On the item's last line.
    Last,
}

impl Skip {
    fn next(self, line: &str) -> Skip {
        let depth = line.matches('{').count() as i32 - line.matches('}').count() as i32;
        match self {
            Skip::No | Skip::Last => match line.split_once("#[cfg(test)]") {
                Some((_, rest)) => Skip::Head.next(rest),
                None => Skip::No,
            },
            Skip::Head if depth > 0 => Skip::Body(depth),
            Skip::Head if line.contains(';') || line.contains('}') || line.trim_end().ends_with(',') => Skip::Last,
            Skip::Head => Skip::Head,
            Skip::Body(open) if open + depth <= 0 => Skip::Last,
            Skip::Body(open) => Skip::Body(open + depth),
        }
    }
}

/// Rust source with the contents of comments, strings and characters blanked out; line ends stay.
fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(text, at);
        match end {
            Some(end) => {
                out.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
                at = end;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment, string or character that begins at `at`, if one does.
fn token_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let rest = &bytes[at..];
    let end_of = |needle: &str, from: usize| text[from..].find(needle).map_or(text.len(), |i| from + i + needle.len());
    if rest.starts_with(b"//") {
        return Some(memchr_line(bytes, at));
    }
    if rest.starts_with(b"/*") {
        return Some(end_of("*/", at + 2));
    }
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let raw = rest.strip_prefix(b"r").or_else(|| rest.strip_prefix(b"br"));
    if let Some(behind) = raw
        && !word_before
    {
        let hashes = behind.iter().take_while(|b| **b == b'#').count();
        if behind.get(hashes) == Some(&b'"') {
            let open = bytes.len() - behind.len() + hashes + 1;
            return Some(end_of(&format!("\"{}", "#".repeat(hashes)), open));
        }
    }
    match rest {
        [b'"', ..] => Some(quoted_end(bytes, at, b'"')),
        [b'\'', b'\\', ..] => Some(quoted_end(bytes, at, b'\'')),
        // A character is closed behind one scalar; otherwise it is a lifetime.
        [b'\'', ..] => {
            let next = text[at + 1..].chars().next()?;
            let close = at + 1 + next.len_utf8();
            (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
        }
        _ => None,
    }
}

fn memchr_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| at + i)
}

fn quoted_end(bytes: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whether `word` stands in `line` and is not the end or the beginning of a longer word.
fn mentions(line: &str, word: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let starts = !edge(word.chars().next()) || !is_word(line[..at].chars().next_back());
        let ends = !edge(word.chars().next_back()) || !is_word(line[at + word.len()..].chars().next());
        starts && ends
    })
}

/// Rooms that a line of code names by a path from the crate's root, `use crate::{a, b::c}` included.
fn rooms_named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, prefix) in line.match_indices("crate::") {
        let rest = &line[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            named.push(word(rest));
            continue;
        };
        let mut depth = 0;
        for part in group.split_inclusive(['{', '}', ',']) {
            if depth == 0 {
                named.push(word(part.trim_start()));
            }
            depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
            if depth < 0 {
                break;
            }
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Joins `use crate::{` groups that go over several lines into their first line.
fn joined(lines: Vec<(usize, String)>) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = 0;
    for (number, line) in lines {
        let begins = open == 0 && line.contains("use crate::{");
        let depth = line.matches('{').count() as i32 - line.matches('}').count() as i32;
        match out.last_mut() {
            Some((_, first)) if open > 0 => first.push_str(&line),
            _ => out.push((number, line)),
        }
        if begins || open > 0 {
            open = (open + depth).max(0);
        }
    }
    out
}

#[track_caller]
fn none(offences: String) {
    assert!(offences.is_empty(), "\n{offences}");
}

#[test]
fn arrows_point_down() {
    let mut offences = String::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            writeln!(offences, "src/{}: {:?} is no room of the house", source.path, source.room).unwrap();
            continue;
        };
        for (line, text) in joined(source.code()) {
            for named in rooms_named(&text) {
                let is_room = ROOMS.iter().any(|(room, _)| *room == named);
                if is_room && named != source.room && !allowed.contains(&named.as_str()) {
                    writeln!(offences, "src/{}:{line}: {} must not see {named}", source.path, source.room).unwrap();
                }
            }
        }
    }
    none(offences);
}

#[test]
fn every_room_is_there() {
    let sources = sources();
    for (room, allowed) in ROOMS {
        assert!(sources.iter().any(|s| s.room == *room), "there is no room {room}");
        for other in *allowed {
            assert!(ROOMS.iter().any(|(name, _)| name == other), "{room} may see {other}, which is no room");
        }
    }
}

#[test]
fn pure_rooms_are_pure() {
    let mut offences = String::new();
    for source in sources().iter().filter(|s| PURE.contains(&s.room.as_str())) {
        for (line, text) in source.code() {
            for word in IMPURE.iter().filter(|word| mentions(&text, word)) {
                writeln!(offences, "src/{}:{line}: {word} in the pure room {}", source.path, source.room).unwrap();
            }
        }
    }
    none(offences);
}

#[test]
fn unsafe_stands_in_the_reactor_with_its_reason() {
    let mut offences = String::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (line, text) in source.code() {
            if !mentions(&text, "unsafe") {
                continue;
            }
            if source.room != "reactor" {
                writeln!(offences, "src/{}:{line}: unsafe outside the reactor", source.path).unwrap();
            } else if !has_reason(&lines, line - 1) {
                writeln!(offences, "src/{}:{line}: unsafe without its SAFETY: argument", source.path).unwrap();
            }
        }
    }
    none(offences);
}

/// Whether the lines around `index` hold the argument: on the line, in the comment above its statement, or (for an
/// `unsafe fn`) as a `# Safety` section.
fn has_reason(lines: &[&str], index: usize) -> bool {
    let reason = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let above = &lines[index.saturating_sub(12)..=index];
    above.iter().any(|line| reason(line)) || lines.get(index + 1).is_some_and(|line| reason(line))
}

#[test]
fn proofs_have_one_maker() {
    let mut offences = String::new();
    for source in sources() {
        for (line, text) in source.code() {
            for (maker, places) in PROOFS {
                let called = mentions(&text, maker);
                if called && !places.iter().any(|place| source.path.starts_with(place)) {
                    writeln!(offences, "src/{}:{line}: {maker} may only be called in {places:?}", source.path).unwrap();
                }
            }
            // A shorter name for a proof would hide its maker.
            for name in ["RelayGrant as", "DiscardGrant as", "Committed as", "Accepted as"] {
                if text.contains("use ") && text.contains(name) {
                    writeln!(offences, "src/{}:{line}: a proof keeps its name", source.path).unwrap();
                }
            }
        }
    }
    none(offences);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut offences = String::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            writeln!(offences, "src/{}: does not open with //!", source.path).unwrap();
        }
    }
    none(offences);
}

#[test]
fn nothing_is_left_for_later() {
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches", "loadtest/src"] {
        let dir = root().join(dir);
        if dir.is_dir() {
            walk(&dir, &mut files);
        }
    }
    let mut offences = String::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (index, line) in text.lines().enumerate() {
            for mark in MARKS.iter().filter(|mark| mentions(line, mark)) {
                writeln!(offences, "{}:{}: {mark}", file.display(), index + 1).unwrap();
            }
        }
    }
    none(offences);
}

#[test]
fn main_only_hands_over() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 50, "main.rs has {} lines", main.lines().count());
}

// The tools of this test, tested: a house test that sees nothing would always pass.

#[test]
fn comments_and_strings_are_no_code() {
    let text = "a // crate::x\nb \"crate::y // \\\" \" c /* unsafe */ r#\"q\" \"# d '\\'' 'x' &'a str\n";
    let stripped = strip(text);
    assert_eq!(stripped.lines().next().unwrap().trim_end(), "a");
    let words: Vec<&str> = stripped.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["b", "c", "d", "&'a", "str"]);
    assert_eq!(stripped.len(), text.len());
}

#[test]
fn imports_are_found_in_every_form() {
    let rooms = |line: &str| rooms_named(line);
    assert_eq!(rooms("use crate::base::time;"), ["base"]);
    assert_eq!(rooms("use crate::{base::{a, b}, wire, log as l};"), ["base", "wire", "log"]);
    assert_eq!(rooms("let x: crate::spool::Spool = crate::wire::f();"), ["spool", "wire"]);
    let lines = "use crate::{\n    base::{\n        x,\n    },\n    gateway,\n};\nuse crate::wire::y;";
    let lines = lines.lines().enumerate().map(|(i, l)| (i + 1, l.to_owned())).collect();
    let found: Vec<(usize, Vec<String>)> =
        joined(lines).iter().map(|(n, l)| (*n, rooms(l))).filter(|(_, r)| !r.is_empty()).collect();
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(found, [(1, own(&["base", "gateway"])), (7, own(&["wire"]))]);
}

#[test]
fn test_code_is_left_out_and_nothing_else() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod t {\n  fn x() {\n  }\n}\nfn c() {}\n\
                enum E {\n    #[cfg(test)]\n    Other(u8),\n    D,\n}\n";
    let source = Source { path: "base/x.rs".into(), room: "base".into(), text: text.into() };
    let code: Vec<usize> = source.code().iter().map(|(n, _)| *n).collect();
    assert_eq!(code, [1, 4, 10, 11, 14, 15]);
}

#[test]
fn words_are_whole() {
    assert!(mentions("use std::fs;", "std::fs"));
    assert!(!mentions("use std::fsx;", "std::fs"));
    assert!(!mentions("unsafe_op", "unsafe") && mentions("unsafe {", "unsafe"));
    assert!(mentions("std::os::fd", "std::os::"));
}
