//! What the model says of one message: its sections, structure and envelope, and whether a search finds it.

use super::model::Message;
use crate::base::mailbox::ask::*;
use crate::base::mailbox::search::*;
use crate::base::mailbox::*;
use crate::base::time::WallTime;
use crate::wire::mime::{self, SectionOctets, Structure};
use std::cmp::Ordering;
use std::sync::Arc;

pub fn section(text: &Arc<Vec<u8>>, content: ContentId, what: &Section, inline_max: u64) -> SectionData {
    let data = match mime::section(text, &Structure::parse(text), what) {
        None => return SectionData::Nothing,
        Some(SectionOctets::UnknownEncoding) => return SectionData::UnknownEncoding,
        Some(SectionOctets::Owned(octets)) => Octets::memory(octets),
        Some(SectionOctets::Range(r)) if (r.len() as u64) > inline_max => {
            Octets::Stored(Stored { content, offset: r.start as u64, octets: r.len() as u64 })
        }
        Some(SectionOctets::Range(r)) => Octets::Memory { bytes: text.clone(), start: r.start, end: r.end },
    };
    if what.size_only { SectionData::Size(data.len()) } else { SectionData::Octets(data) }
}

pub fn envelope(text: &[u8]) -> Arc<[u8]> {
    mime::envelope(text, &Structure::parse(text)).into()
}

pub fn structure(text: &[u8], form: StructureForm) -> Arc<[u8]> {
    mime::body_structure(text, &Structure::parse(text), form == StructureForm::Extended).into()
}

pub fn preview(text: &[u8]) -> String {
    mime::preview(text, &Structure::parse(text))
}

pub fn base_subject(text: &[u8]) -> String {
    mime::sort_fields(text).subject
}

pub fn compare(keys: &[SortKey], a: (&Message, &Arc<Vec<u8>>), b: (&Message, &Arc<Vec<u8>>)) -> Ordering {
    let mut order = Ordering::Equal;
    for key in keys {
        let (x, y) = (mime::sort_fields(a.1), mime::sort_fields(b.1));
        let this = match key.by {
            SortBy::Arrival => a.0.date.at.cmp(&b.0.date.at),
            SortBy::Size => a.1.len().cmp(&b.1.len()),
            SortBy::Subject => x.subject.cmp(&y.subject),
            SortBy::From => x.from.cmp(&y.from),
            SortBy::To => x.to.cmp(&y.to),
            SortBy::Cc => x.cc.cmp(&y.cc),
            SortBy::Date => x.date.cmp(&y.date),
        };
        order = order.then(if key.reverse { this.reverse() } else { this });
    }
    order
}

fn contains(text: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(text).to_lowercase().contains(&what.to_lowercase())
}

fn on(when: When, day: Day, of: Day) -> bool {
    match when {
        When::Before => of < day,
        When::On => of == day,
        When::Since => of >= day,
    }
}

fn day(at: WallTime, zone_minutes: i16) -> Day {
    Day((at.as_secs() as i64 + i64::from(zone_minutes) * 60).div_euclid(86_400) as i32)
}

pub fn matches(key: &SearchKey, uid: Uid, m: &Message, text: &[u8], keywords: &[String], now: WallTime) -> bool {
    let again = |key: &SearchKey| matches(key, uid, m, text, keywords, now);
    let header = mime::header_section(text).unwrap_or(text.len());
    match key {
        SearchKey::All => true,
        SearchKey::And(keys) => keys.iter().all(again),
        SearchKey::Or(a, b) => again(a) || again(b),
        SearchKey::Not(key) => !again(key),
        SearchKey::Uids(uids) => uids.contains(uid),
        SearchKey::Flag(flags) => m.flags.contains(*flags),
        SearchKey::Keyword(word) => {
            FlagNames::of(m.flags, keywords).keywords.iter().any(|k| k.eq_ignore_ascii_case(word))
        }
        SearchKey::RecentFrom(_) => panic!("the session knows what is recent"),
        SearchKey::Header { name, contains: what } => mime::header_text(text)
            .fields
            .iter()
            .any(|(n, value)| n.eq_ignore_ascii_case(name) && contains(value.as_bytes(), what)),
        SearchKey::Body(what) => contains(&text[header..], what),
        SearchKey::Text(what) => contains(text, what),
        SearchKey::Internal(when, of) => on(*when, *of, day(m.date.at, m.date.zone_minutes)),
        SearchKey::Sent(when, of) => mime::sort_fields(text).sent_day.is_some_and(|sent| on(*when, *of, sent)),
        SearchKey::Saved(when, of) => on(*when, *of, day(m.saved, 0)),
        SearchKey::Younger(seconds) => now.since(m.date.at).as_secs() < u64::from(*seconds),
        SearchKey::Older(seconds) => now.since(m.date.at).as_secs() >= u64::from(*seconds),
        SearchKey::Larger(octets) => text.len() as u64 > *octets,
        SearchKey::Smaller(octets) => (text.len() as u64) < *octets,
        SearchKey::ModSeq(mod_seq) => m.mod_seq >= *mod_seq,
        SearchKey::Email(content) => m.content == *content,
        SearchKey::Thread(thread) => m.content.0 == *thread,
    }
}
