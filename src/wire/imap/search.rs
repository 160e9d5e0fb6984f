//! SEARCH, SORT and THREAD: return options, charsets and keys (RFC 9051 §6.4.4, RFC 5256, RFC 5182, RFC 9394, RFC 5032,
//! RFC 7162, RFC 8474, RFC 8514).
//!
//! How it fails: unknown keys, parentheses and negations deeper than [`SEARCH_DEPTH_MAX`], more than
//! [`SEARCH_KEYS_MAX`] keys, text that is not of its charset; an unknown charset is a refusal of its own.

use super::command::{Command, SearchCommand, SearchReturn, SequenceSet};
use super::reader::{Fault, Read, Reader};
use super::set::{at_set, sequence_set};
use super::{date, emit};
use crate::base::mailbox::search::{SearchKey, SortBy, SortKey, ThreadBy, When};
use crate::base::mailbox::{Flags, UidSet};
use mail_parser::decoders::charsets::{DecoderFnc, map::charset_decoder};

/// How deep keys may stand in each other: the reader and the store go through them by recursion.
pub const SEARCH_DEPTH_MAX: usize = 32;
/// Keys of one command at most.
pub const SEARCH_KEYS_MAX: usize = 1000;
/// Return options at most: each of the known ones, with some repeated.
const RETURN_OPTIONS_MAX: usize = 16;
/// Criteria of one SORT at most: each of the known ones.
const SORT_KEYS_MAX: usize = 7;

/// SEARCH [RETURN (...)] [CHARSET charset] keys
pub(super) fn search(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    let returns = returns(r)?;
    r.sp()?;
    let mut charset = Charset::Utf8;
    if r.eat_word("CHARSET") {
        r.sp()?;
        charset = self::charset(r)?;
        r.sp()?;
    }
    keys(r, charset, SearchCommand { returns, ..new(uid) })
}

/// SORT [RETURN (...)] (criteria) charset keys (RFC 5256 §3)
pub(super) fn sort(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    let returns = returns(r)?;
    r.sp()?;
    let sort = r.list(SORT_KEYS_MAX, sort_key)?;
    r.sp()?;
    let charset = charset(r)?;
    r.sp()?;
    keys(r, charset, SearchCommand { returns, sort: Some(sort), ..new(uid) })
}

/// THREAD algorithm charset keys (RFC 5256 §3)
pub(super) fn thread(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    r.sp()?;
    let thread = match () {
        () if r.eat_word("ORDEREDSUBJECT") => ThreadBy::OrderedSubject,
        () if r.eat_word("REFERENCES") => ThreadBy::References,
        () => return Err(r.expected("ORDEREDSUBJECT or REFERENCES")),
    };
    r.sp()?;
    let charset = charset(r)?;
    r.sp()?;
    keys(r, charset, SearchCommand { thread: Some(thread), ..new(uid) })
}

fn new(uid: bool) -> SearchCommand {
    SearchCommand {
        uid,
        sort: None,
        thread: None,
        returns: None,
        key: SearchKey::All,
        sets: Vec::new(),
        mod_seq: false,
    }
}

/// ` RETURN (MIN MAX ALL COUNT SAVE PARTIAL 1:100)` (RFC 4731 §3.1, RFC 5182 §2, RFC 9394 §3.1)
fn returns(r: &mut Reader<'_>) -> Read<Option<SearchReturn>> {
    if !r.eat_exactly(" RETURN ") {
        return Ok(None);
    }
    let mut returns = SearchReturn::default();
    r.list_or_empty(RETURN_OPTIONS_MAX, |r| {
        let option = match () {
            () if r.eat_word("MIN") => &mut returns.min,
            () if r.eat_word("MAX") => &mut returns.max,
            () if r.eat_word("ALL") => &mut returns.all,
            () if r.eat_word("COUNT") => &mut returns.count,
            () if r.eat_word("SAVE") => &mut returns.save,
            () if r.eat_word("PARTIAL") => {
                r.sp()?;
                returns.partial = Some(partial_range(r)?);
                return Ok(());
            }
            () => return Err(r.expected("MIN, MAX, ALL, COUNT, SAVE or PARTIAL")),
        };
        *option = true;
        Ok(())
    })?;
    // RFC 9394 §3.1
    if returns.all && returns.partial.is_some() {
        return Err(Fault::new("ALL and PARTIAL exclude each other"));
    }
    Ok(Some(returns))
}

/// partial-range: both ends counted from the front, or both from the end.
pub(super) fn partial_range(r: &mut Reader<'_>) -> Read<(i64, i64)> {
    let end = |r: &mut Reader<'_>| {
        let sign = if r.eat(b'-') { -1 } else { 1 };
        r.nz_number("a place in the result").map(|n| sign * i64::from(n))
    };
    let first = end(r)?;
    r.expect(b':')?;
    let last = end(r)?;
    if (first < 0) != (last < 0) {
        return Err(Fault::new("both ends of PARTIAL count from the same side"));
    }
    Ok((first, last))
}

fn sort_key(r: &mut Reader<'_>) -> Read<SortKey> {
    let reverse = r.eat_word("REVERSE");
    if reverse {
        r.sp()?;
    }
    let by = match () {
        () if r.eat_word("ARRIVAL") => SortBy::Arrival,
        () if r.eat_word("CC") => SortBy::Cc,
        () if r.eat_word("DATE") => SortBy::Date,
        () if r.eat_word("FROM") => SortBy::From,
        () if r.eat_word("SIZE") => SortBy::Size,
        () if r.eat_word("SUBJECT") => SortBy::Subject,
        () if r.eat_word("TO") => SortBy::To,
        () => return Err(r.expected("a sort criterion")),
    };
    Ok(SortKey { reverse, by })
}

/// How the texts of the keys become UTF-8.
#[derive(Clone, Copy)]
enum Charset {
    /// UTF-8, and US-ASCII, which is part of it.
    Utf8,
    Other(DecoderFnc),
}

impl Charset {
    fn decode(self, text: &[u8]) -> Read<String> {
        match self {
            Charset::Utf8 => {
                let text = std::str::from_utf8(text).map_err(|_| Fault::new("the text is not UTF-8"))?;
                Ok(text.to_owned())
            }
            Charset::Other(decode) => Ok(decode(text)),
        }
    }
}

fn charset(r: &mut Reader<'_>) -> Read<Charset> {
    let name = r.astring("a charset")?;
    if ["UTF-8", "US-ASCII", "ASCII"].iter().any(|utf8| name.eq_ignore_ascii_case(utf8)) {
        return Ok(Charset::Utf8);
    }
    match charset_decoder(name.as_bytes()).filter(|_| !name.is_empty()) {
        Some(decoder) => Ok(Charset::Other(decoder)),
        None => Err(Fault { why: "the charset is not known".to_owned(), badcharset: true }),
    }
}

fn keys(r: &mut Reader<'_>, charset: Charset, command: SearchCommand) -> Read<Command> {
    let mut keys = Keys { charset, count: 0, command };
    let mut all = vec![keys.key(r, 0)?];
    while r.peek() == Some(b' ') && r.rest() != b" " {
        r.sp()?;
        all.push(keys.key(r, 0)?);
    }
    let mut command = keys.command;
    command.key = and(all);
    Ok(Command::Search(command))
}

/// All of them; one alone is itself.
fn and(mut all: Vec<SearchKey>) -> SearchKey {
    match all.len() {
        1 => all.swap_remove(0),
        _ => SearchKey::And(all),
    }
}

struct Keys {
    charset: Charset,
    count: usize,
    command: SearchCommand,
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

impl Keys {
    /// search-key
    fn key(&mut self, r: &mut Reader<'_>, depth: usize) -> Read<SearchKey> {
        self.count += 1;
        if depth > SEARCH_DEPTH_MAX {
            return Err(Fault::new(format!("search keys can stand {SEARCH_DEPTH_MAX} deep in each other")));
        }
        if self.count > SEARCH_KEYS_MAX {
            return Err(Fault::new(format!("more than {SEARCH_KEYS_MAX} search keys")));
        }
        if r.eat(b'(') {
            let mut all = vec![self.key(r, depth + 1)?];
            while !r.eat(b')') {
                r.sp()?;
                all.push(self.key(r, depth + 1)?);
            }
            return Ok(and(all));
        }
        if at_set(r) {
            return self.set(r, false);
        }
        let start = r.clone();
        let word = r.word("a search key")?;
        if let Some(key) = self.flag(&word) {
            return Ok(key);
        }
        match word.as_str() {
            "NOT" => {
                r.sp()?;
                Ok(not(self.key(r, depth + 1)?))
            }
            "OR" => {
                r.sp()?;
                let one = self.key(r, depth + 1)?;
                r.sp()?;
                Ok(SearchKey::Or(Box::new(one), Box::new(self.key(r, depth + 1)?)))
            }
            _ => self.with_argument(r, &word, &start),
        }
    }

    /// Keys without an argument.
    fn flag(&self, word: &str) -> Option<SearchKey> {
        // Which UIDs are recent the session knows; it puts the lowest in.
        let recent = SearchKey::RecentFrom(0);
        Some(match word {
            "ALL" => SearchKey::All,
            "ANSWERED" => SearchKey::Flag(Flags::ANSWERED),
            "DELETED" => SearchKey::Flag(Flags::DELETED),
            "DRAFT" => SearchKey::Flag(Flags::DRAFT),
            "FLAGGED" => SearchKey::Flag(Flags::FLAGGED),
            "SEEN" => SearchKey::Flag(Flags::SEEN),
            "UNANSWERED" => not(SearchKey::Flag(Flags::ANSWERED)),
            "UNDELETED" => not(SearchKey::Flag(Flags::DELETED)),
            "UNDRAFT" => not(SearchKey::Flag(Flags::DRAFT)),
            "UNFLAGGED" => not(SearchKey::Flag(Flags::FLAGGED)),
            "UNSEEN" => not(SearchKey::Flag(Flags::SEEN)),
            "RECENT" => recent,
            "OLD" => not(recent),
            "NEW" => SearchKey::And(vec![recent, not(SearchKey::Flag(Flags::SEEN))]),
            // RFC 8514 §4.3: every mailbox here knows when its messages were saved.
            "SAVEDATESUPPORTED" => SearchKey::All,
            _ => return None,
        })
    }

    fn with_argument(&mut self, r: &mut Reader<'_>, word: &str, start: &Reader<'_>) -> Read<SearchKey> {
        if !ARGUMENT_KEYS.contains(&word) {
            return Err(start.expected("a search key"));
        }
        r.sp()?;
        Ok(match word {
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => {
                SearchKey::Header { name: word.to_ascii_lowercase(), contains: self.text(r)? }
            }
            "HEADER" => {
                let name = r.astring("a field name")?;
                r.sp()?;
                SearchKey::Header { name, contains: self.text(r)? }
            }
            "BODY" => SearchKey::Body(self.text(r)?),
            "TEXT" => SearchKey::Text(self.text(r)?),
            "KEYWORD" => SearchKey::Keyword(r.atom("a keyword")?.to_owned()),
            "UNKEYWORD" => not(SearchKey::Keyword(r.atom("a keyword")?.to_owned())),
            "BEFORE" => SearchKey::Internal(When::Before, date::date(r)?),
            "ON" => SearchKey::Internal(When::On, date::date(r)?),
            "SINCE" => SearchKey::Internal(When::Since, date::date(r)?),
            "SENTBEFORE" => SearchKey::Sent(When::Before, date::date(r)?),
            "SENTON" => SearchKey::Sent(When::On, date::date(r)?),
            "SENTSINCE" => SearchKey::Sent(When::Since, date::date(r)?),
            "SAVEDBEFORE" => SearchKey::Saved(When::Before, date::date(r)?),
            "SAVEDON" => SearchKey::Saved(When::On, date::date(r)?),
            "SAVEDSINCE" => SearchKey::Saved(When::Since, date::date(r)?),
            "YOUNGER" => SearchKey::Younger(r.nz_number("a number of seconds")?),
            "OLDER" => SearchKey::Older(r.nz_number("a number of seconds")?),
            "LARGER" => SearchKey::Larger(r.number64("a number of octets")?),
            "SMALLER" => SearchKey::Smaller(r.number64("a number of octets")?),
            "MODSEQ" => self.mod_seq(r)?,
            "EMAILID" => object(r, emit::parse_email_id, SearchKey::Email)?,
            "THREADID" => object(r, emit::parse_thread_id, SearchKey::Thread)?,
            // UID
            _ => self.set(r, true)?,
        })
    }

    fn text(&self, r: &mut Reader<'_>) -> Read<String> {
        let octets = r.astring_octets("a text to search for")?;
        self.charset.decode(&octets)
    }

    /// A set, as the place where the session puts its UIDs.
    fn set(&mut self, r: &mut Reader<'_>, uid: bool) -> Read<SearchKey> {
        let set: SequenceSet = sequence_set(r)?;
        self.command.sets.push((set, uid));
        // At most SEARCH_KEYS_MAX of them.
        let place = self.command.sets.len() as u32;
        Ok(SearchKey::Uids(UidSet::range(place, place)))
    }

    /// `[entry type] modseq` (RFC 7162 §3.1.5): flags have one MODSEQ together here, whichever the entry names.
    fn mod_seq(&mut self, r: &mut Reader<'_>) -> Read<SearchKey> {
        if r.peek() == Some(b'"') {
            let entry = r.string_octets("an entry name")?;
            if !entry.starts_with(b"/flags/") {
                return Err(Fault::new("expected an entry name such as \"/flags/\\\\seen\""));
            }
            r.sp()?;
            if !["priv", "shared", "all"].iter().any(|kind| r.eat_word(kind)) {
                return Err(r.expected("priv, shared or all"));
            }
            r.sp()?;
        }
        self.command.mod_seq = true;
        r.number64("a modification sequence").map(SearchKey::ModSeq)
    }
}

/// Keys with an argument.
const ARGUMENT_KEYS: [&str; 27] = [
    "BCC",
    "BEFORE",
    "BODY",
    "CC",
    "EMAILID",
    "FROM",
    "HEADER",
    "KEYWORD",
    "LARGER",
    "MODSEQ",
    "OLDER",
    "ON",
    "SAVEDBEFORE",
    "SAVEDON",
    "SAVEDSINCE",
    "SENTBEFORE",
    "SENTON",
    "SENTSINCE",
    "SINCE",
    "SMALLER",
    "SUBJECT",
    "TEXT",
    "THREADID",
    "TO",
    "UID",
    "UNKEYWORD",
    "YOUNGER",
];

/// An object identifier. RFC 8474 §7: one that was never given out finds nothing.
fn object<T>(r: &mut Reader<'_>, parse: fn(&str) -> Option<T>, key: fn(T) -> SearchKey) -> Read<SearchKey> {
    let id = r.astring("an object identifier")?;
    Ok(parse(&id).map_or_else(|| not(SearchKey::All), key))
}
