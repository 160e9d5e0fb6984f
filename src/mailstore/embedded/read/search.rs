//! SEARCH: keys over the image first, then headers, then texts, each read only where what came before does not decide.
//!
//! How it fails: [`StoreError::Limit`] for a key that is too deep; a message whose octets are damaged has empty texts.

use crate::base::mailbox::ask::{Reply, StoreError};
use crate::base::mailbox::search::{Day, Found, SearchForm, SearchKey, When};
use crate::base::mailbox::{ContentId, Flags, ModSeq, Uid, UidSet};
use crate::base::time::WallTime;
use crate::log::Disk;
use crate::mailstore::embedded::image::{Image, Row};
use crate::mailstore::embedded::reader::EmbeddedReader;
use crate::mailstore::embedded::texts::Covered;
use crate::wire::mime;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Levels of a search key.
const DEPTH_MAX: usize = 100;
/// Octets of decoded text of a message that are searched.
const TEXT_OCTETS_MAX: usize = 8 << 20;
/// Texts of a search that the full-text index is asked for.
const NEEDLES_MAX: usize = 16;

/// A search key made ready: texts in lower case, keywords as bits.
#[derive(Debug)]
enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Uids(UidSet),
    Flag(Flags),
    From(Uid),
    Header { name: String, contains: String },
    Body(String),
    Text(String),
    Internal(When, Day),
    Sent(When, Day),
    Saved(When, Day),
    Younger(u32),
    Older(u32),
    Larger(u64),
    Smaller(u64),
    ModSeq(ModSeq),
    Email(ContentId),
    Thread(u64),
}

impl Test {
    fn of(key: &SearchKey, keywords: &[String], depth: usize) -> Result<Test, StoreError> {
        if depth > DEPTH_MAX {
            return Err(StoreError::Limit("the search key is too deep"));
        }
        let below = |key: &SearchKey| Test::of(key, keywords, depth + 1);
        Ok(match key {
            SearchKey::All => Test::All(Vec::new()),
            SearchKey::And(keys) => Test::All(keys.iter().map(below).collect::<Result<_, _>>()?),
            SearchKey::Or(a, b) => Test::Any(vec![below(a)?, below(b)?]),
            SearchKey::Not(key) => Test::Not(Box::new(below(key)?)),
            SearchKey::Uids(uids) => Test::Uids(uids.clone()),
            SearchKey::Flag(flags) => Test::Flag(*flags),
            SearchKey::Keyword(name) => match keywords.iter().position(|k| k.eq_ignore_ascii_case(name)) {
                Some(index) => Test::Flag(Flags::keyword(index)),
                None => Test::Any(Vec::new()), // no message has it
            },
            SearchKey::RecentFrom(uid) => Test::From(*uid),
            SearchKey::Header { name, contains } => {
                Test::Header { name: name.to_ascii_lowercase(), contains: contains.to_lowercase() }
            }
            SearchKey::Body(text) => Test::Body(text.to_lowercase()),
            SearchKey::Text(text) => Test::Text(text.to_lowercase()),
            SearchKey::Internal(when, day) => Test::Internal(*when, *day),
            SearchKey::Sent(when, day) => Test::Sent(*when, *day),
            SearchKey::Saved(when, day) => Test::Saved(*when, *day),
            SearchKey::Younger(seconds) => Test::Younger(*seconds),
            SearchKey::Older(seconds) => Test::Older(*seconds),
            SearchKey::Larger(octets) => Test::Larger(*octets),
            SearchKey::Smaller(octets) => Test::Smaller(*octets),
            SearchKey::ModSeq(mod_seq) => Test::ModSeq(*mod_seq),
            SearchKey::Email(content) => Test::Email(*content),
            SearchKey::Thread(thread) => Test::Thread(*thread),
        })
    }

    /// Whether a message passes; `None` when that takes more than is known of it.
    fn passes(&self, m: &Known<'_>) -> Option<bool> {
        match self {
            Test::All(tests) => every(tests.iter().map(|t| t.passes(m)), false),
            Test::Any(tests) => every(tests.iter().map(|t| t.passes(m)), true),
            Test::Not(test) => test.passes(m).map(|passes| !passes),
            Test::Uids(uids) => Some(uids.contains(m.row.uid)),
            Test::Flag(flags) => Some(m.row.flags.contains(*flags)),
            Test::From(uid) => Some(m.row.uid >= *uid),
            Test::Internal(when, day) => {
                let zone = i64::from(m.row.zone_minutes) * 60;
                Some(compares(*when, day_of(m.row.internal, zone), *day))
            }
            Test::Saved(when, day) => Some(compares(*when, day_of(m.row.saved, 0), *day)),
            Test::Younger(seconds) => Some(m.now.since(m.row.internal).as_secs() <= u64::from(*seconds)),
            Test::Older(seconds) => Some(m.now.since(m.row.internal).as_secs() > u64::from(*seconds)),
            Test::Larger(octets) => Some(m.row.octets > *octets),
            Test::Smaller(octets) => Some(m.row.octets < *octets),
            Test::ModSeq(mod_seq) => Some(m.row.mod_seq >= *mod_seq),
            Test::Email(content) => Some(m.row.content == *content),
            Test::Header { name, contains } => match &m.header {
                Some(header) => Some(header.has(name, contains)),
                None => m.lacks(contains),
            },
            Test::Sent(when, day) => Some(m.header.as_ref()?.sent_day.is_some_and(|sent| compares(*when, sent, *day))),
            Test::Thread(thread) => Some(m.header.as_ref()?.thread == *thread),
            Test::Body(text) => match &m.body {
                Some(body) => Some(body.contains(text)),
                None => m.lacks(text),
            },
            Test::Text(text) => match (&m.header, &m.body) {
                (Some(header), _) if header.says(text) => Some(true),
                (_, Some(body)) => Some(body.contains(text)),
                (_, None) => m.lacks(text),
            },
        }
    }

    /// Texts that are looked for.
    fn needles<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|t| t.needles(into)),
            Test::Not(test) => test.needles(into),
            Test::Header { contains: text, .. } | Test::Body(text) | Test::Text(text) if into.len() < NEEDLES_MAX => {
                into.push(text);
            }
            _ => {}
        }
    }
}

/// What the full-text index says of the texts that are looked for.
struct Filter {
    covered: Covered,
    candidates: HashMap<String, HashSet<u64>>,
}

/// All of them (`decisive` false) or any of them (true): what decides counts even when others are not known.
fn every(answers: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut unknown = false;
    for answer in answers {
        match answer {
            Some(answer) if answer == decisive => return Some(decisive),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(!decisive)
}

/// What is known of a message so far.
struct Known<'a> {
    row: &'a Row,
    now: WallTime,
    header: Option<Arc<Header>>,
    /// Its text in lower case.
    body: Option<String>,
    filter: Option<&'a Filter>,
}

impl Known<'_> {
    /// `Some(false)` when the full-text index knows that the text is nowhere in the message.
    fn lacks(&self, text: &str) -> Option<bool> {
        let (filter, content) = (self.filter?, self.row.content.0);
        let lacks = filter.covered.knows(content) && !filter.candidates.get(text)?.contains(&content);
        lacks.then_some(false)
    }
}

/// A header as searches see it.
pub(in crate::mailstore::embedded) struct Header {
    /// Names and values in lower case.
    fields: Vec<(String, String)>,
    sent_day: Option<Day>,
    thread: u64,
}

impl Header {
    /// Whether the text is in any field, its name included.
    fn says(&self, text: &str) -> bool {
        let mut line = String::new();
        self.fields.iter().any(|(name, value)| {
            line.clear();
            line.extend([name, ": ", value.as_str()]);
            line.contains(text)
        })
    }

    fn has(&self, name: &str, contains: &str) -> bool {
        self.fields.iter().any(|(n, value)| n == name && value.contains(contains))
    }
}

impl<D: Disk + Sync> EmbeddedReader<D> {
    pub(in crate::mailstore::embedded) fn search(
        &mut self,
        image: &Image,
        key: &SearchKey,
        form: &SearchForm,
        among: &UidSet,
    ) -> Result<Reply, StoreError> {
        let test = Test::of(key, &image.meta.keywords, 0)?;
        let now = self.shared.clock.now();
        let filter = self.filter(&test, image, among);
        let mut rows = Vec::new();
        for row in image.rows_of(among) {
            if self.passes(&test, row, now, filter.as_ref()) {
                rows.push(*row);
            }
        }
        let mod_seq = rows.iter().map(|r| r.mod_seq).max();
        let found = match form {
            SearchForm::Set => Found::Set(rows.iter().map(|r| r.uid).collect()),
            SearchForm::Sorted(keys) => Found::Sorted(self.sort(rows, keys)),
            SearchForm::Threaded(by) => Found::Threads(self.thread(&rows, *by)),
        };
        Ok(Reply::Found { found, mod_seq })
    }

    /// Asks the full-text index for the texts that are looked for.
    fn filter(&self, test: &Test, image: &Image, among: &UidSet) -> Option<Filter> {
        let texts = self.texts.as_ref()?;
        let mut needles = Vec::new();
        test.needles(&mut needles);
        if needles.is_empty() {
            return None;
        }
        let contents = || image.rows_of(among).map(|r| r.content.0);
        let range = (contents().min()?, contents().max()?);
        let mut filter = Filter { covered: texts.covered().ok()?, candidates: HashMap::new() };
        for needle in needles {
            if let Some(found) = texts.candidates(needle, range).ok()? {
                filter.candidates.insert(needle.to_owned(), found);
            }
        }
        Some(filter)
    }

    fn passes(&mut self, test: &Test, row: &Row, now: WallTime, filter: Option<&Filter>) -> bool {
        let mut known = Known { row, now, header: None, body: None, filter };
        if let Some(passes) = test.passes(&known) {
            return passes;
        }
        known.header = Some(self.searched_header(row));
        if let Some(passes) = test.passes(&known) {
            return passes;
        }
        let text = self.parsed(row.content).map(|m| mime::body_text(&m.bytes, &m.structure, TEXT_OCTETS_MAX));
        known.body = Some(text.unwrap_or_default().to_lowercase());
        test.passes(&known).unwrap_or(false)
    }
}

impl<D: Disk + Sync> EmbeddedReader<D> {
    fn searched_header(&mut self, row: &Row) -> Arc<Header> {
        if let Some(header) = self.shared.warm_headers.get(row.content) {
            return header;
        }
        let read = self.header(row.content);
        let readable = read.is_ok();
        let octets = read.unwrap_or_default();
        let fields = mime::header_text(&octets).fields;
        let fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| (name, value.to_lowercase())).collect();
        let sort = self.sort_fields_of(row, Some(&octets));
        let thread = super::sort::thread_id(&sort, row.content);
        let size = fields.iter().map(|(n, v)| (n.len() + v.len() + 2 * size_of::<String>()) as u64).sum();
        let header = Arc::new(Header { fields, sent_day: sort.sent_day, thread });
        if readable {
            self.shared.warm_headers.put(row.content, header.clone(), size);
        }
        header
    }
}

/// The text by which a message is found, in lower case: its header as searches see it, then what is in it.
pub(in crate::mailstore::embedded) fn text_of(message: &[u8]) -> String {
    let mut text = String::new();
    for (name, value) in mime::header_text(message).fields {
        text.extend([name.as_str(), ": ", value.to_lowercase().as_str(), "\n"]);
    }
    let structure = mime::Structure::parse(message);
    text.push_str(&mime::body_text(message, &structure, TEXT_OCTETS_MAX).to_lowercase());
    text
}

fn compares(when: When, day: Day, with: Day) -> bool {
    match when {
        When::Before => day < with,
        When::On => day == with,
        When::Since => day >= with,
    }
}

fn day_of(at: WallTime, zone_seconds: i64) -> Day {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX).saturating_add(zone_seconds);
    Day(i32::try_from(seconds.div_euclid(86_400)).unwrap_or(i32::MAX))
}
