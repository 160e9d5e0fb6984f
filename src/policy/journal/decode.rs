//! From a line of the journal to values that borrow from it.
//!
//! Keys may stand in any order and unknown ones are passed over, so that lines that went through other tools are read too.
//! How it fails: [`Unread`] says whether the line is torn, foreign, of a newer format, or which octet is wrong.

use super::encode::VERSION;
use super::event::{Event, Head, Headers, Said, Text, Tls, Told, What};
use super::json::{Bad, END_OF_STRING, Json};
use crate::base::body::BodyShape;
use crate::base::envelope::BodyType;
use crate::policy::state::Load;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

/// Events of one line at most: a line ends at 64 KiB, an event has at least 40 octets.
pub const EVENTS_MAX: usize = 1 << 20;

/// Why a line is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has no end: the writer was stopped in the middle of it.
    Torn,
    /// It is no line of a journal.
    Foreign,
    /// It has a version that this program does not know.
    Version(u64),
    /// It is one, but this is wrong in it.
    Bad(Bad),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Torn => f.write_str("the line is torn"),
            Unread::Foreign => f.write_str("this is no line of a journal; expected a JSON object with \"v\":1"),
            Unread::Version(v) => write!(f, "the line has format {v}, this program reads {VERSION}"),
            Unread::Bad(bad) => bad.fmt(f),
        }
    }
}

/// The end of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Nanoseconds since the session's start.
    pub after_ns: u64,
    /// Number, counted from the head's.
    pub seq: u64,
    /// Another part of the session follows.
    pub more: bool,
}

/// Where an event stands in its line, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its octets.
    pub octets: Range<usize>,
    /// Nanoseconds since the session's start.
    pub after_ns: u64,
    /// Number, counted from the head's.
    pub seq: u64,
}

/// Reads a line: its head, the places of its events (each was read once, so that reading it again cannot fail) and its end.
pub fn line<'a>(text: &'a str, places: &mut Vec<Place>) -> Result<(Head<'a>, End), Unread> {
    read_line(text, places, events)
}

/// As [`line`], but events of a line as we write it are only found, not read: reading one of them may fail later.
pub fn quick_line<'a>(text: &'a str, places: &mut Vec<Place>) -> Result<(Head<'a>, End), Unread> {
    read_line(text, places, |json, places| match find_events(json.rest(), json.at(), places) {
        Some(octets) => {
            json.pass(octets);
            Ok(())
        }
        None => {
            places.clear();
            events(json, places)
        }
    })
}

fn read_line<'a>(
    text: &'a str,
    places: &mut Vec<Place>,
    mut read_events: impl FnMut(&mut Json<'a>, &mut Vec<Place>) -> Result<(), Bad>,
) -> Result<(Head<'a>, End), Unread> {
    places.clear();
    let text = text.trim_ascii_end();
    if !text.starts_with('{') {
        return Err(Unread::Foreign);
    }
    let mut head = Head::default();
    let (mut version, mut end) = (None, None);
    let mut json = Json::new(text);
    let read = json.object(|key, json| match key {
        "v" => json.u64().map(|v| version = Some(v)),
        "events" => read_events(json, places),
        "end" => read_end(json).map(|e| end = Some(e)),
        other => head_field(&mut head, other, json),
    });
    match (version, read.and_then(|()| json.end())) {
        (Some(v), _) if v != VERSION => Err(Unread::Version(v)),
        (None, Ok(())) => Err(Unread::Foreign),
        // What goes wrong at the very end goes wrong because there is no more.
        (_, Err(bad)) if bad.at >= text.len() || bad.expected == END_OF_STRING => Err(Unread::Torn),
        (Some(_), Err(_)) if !text.ends_with('}') => Err(Unread::Torn),
        (None, Err(_)) => Err(Unread::Foreign),
        (Some(_), Err(bad)) => Err(Unread::Bad(bad)),
        (Some(_), Ok(())) => match end {
            Some(end) => Ok((head, end)),
            None => Err(Unread::Torn),
        },
    }
}

/// Reads the event at a place that [`line`] has found.
pub fn event<'a>(text: &'a str, place: &Place) -> Option<Event<'a>> {
    read_event(&mut Json::new(text.get(place.octets.clone())?)).ok()
}

fn head_field<'a>(head: &mut Head<'a>, key: &str, json: &mut Json<'a>) -> Result<(), Bad> {
    match key {
        "run" => head.run = json.string()?,
        "session" => head.session = json.string()?,
        "part" => head.part = json.u64()?,
        "at_ms" => head.at_ms = json.u64()?,
        "start_ns" => head.start_ns = json.u64()?,
        "seq" => head.seq = json.u64()?,
        "policy" => head.policy = json.string()?,
        "loads" => head.loads = json.u64()?,
        "listener" => head.listener = json.string()?,
        "client" => head.client = address(json)?,
        "port" => head.port = u16::try_from(json.u64()?).map_err(|_| json.bad("a port"))?,
        "tls" => head.tls = Some(tls(json)?),
        "hashed" => head.hashed = json.flag()?,
        "missing" => json.array(|json| {
            head.missing.push(json.string()?);
            Ok(())
        })?,
        _ => json.skip()?,
    }
    Ok(())
}

fn events(json: &mut Json<'_>, places: &mut Vec<Place>) -> Result<(), Bad> {
    json.array(|json| {
        let mut start = json.clone();
        // Blanks before it belong to the place; they do no harm.
        let from = json.at();
        let event = read_event(&mut start)?;
        *json = start;
        if places.len() >= EVENTS_MAX {
            return Err(json.bad("fewer events"));
        }
        places.push(Place { octets: from..json.at(), after_ns: event.after_ns, seq: event.seq });
        Ok(())
    })
}

/// How every event begins, as we write it. It cannot stand inside a string: there the quotes would have a `\`.
const EVENT: &str = "{\"event\":\"";
/// What comes behind the events, as we write it; for the same reason only there.
const EVENTS_END: &str = "],\"end\":{\"after_ns\":";

/// Finds the events of an array as we write it, which begins `text` at octet `base` of the line: the array's octets. `None`
/// when it is written otherwise.
fn find_events(text: &str, base: usize, places: &mut Vec<Place>) -> Option<usize> {
    if text.starts_with("[]") {
        return Some(2);
    }
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'[') {
        return None;
    }
    let end = memchr::memmem::rfind(bytes, EVENTS_END.as_bytes())?;
    let mut at = 1;
    while at < end {
        let inner = bytes.get(at..end)?;
        let (word, rest) = inner.strip_prefix(EVENT.as_bytes())?.split_at_checked(word_octets(inner)?)?;
        debug_assert!(!word.is_empty());
        let (after_ns, rest) = number(rest.strip_prefix(b"\",\"after_ns\":")?)?;
        let (seq, _) = number(rest.strip_prefix(b",\"seq\":")?)?;
        // The next begins behind a comma; the last one ends where the array does.
        let next = match memchr::memmem::find(&inner[1..], EVENT.as_bytes()) {
            Some(further) if inner.get(further) == Some(&b',') => at + 1 + further,
            Some(_) => return None,
            None => end + 1,
        };
        if bytes.get(next - 2) != Some(&b'}') || places.len() >= EVENTS_MAX {
            return None;
        }
        places.push(Place { octets: base + at..base + next - 1, after_ns, seq });
        at = next;
    }
    Some(end + 1)
}

/// Octets of the event's word, which are letters.
fn word_octets(event: &[u8]) -> Option<usize> {
    let octets = event.get(EVENT.len()..)?.iter().take(16).take_while(|b| b.is_ascii_lowercase()).count();
    (octets > 0).then_some(octets)
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let mut value = 0u64;
    for digit in text.get(..digits).filter(|d| !d.is_empty())? {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some((value, &text[digits..]))
}

/// Everything an event may have, until its word says what it is.
#[derive(Default)]
struct Loose<'a> {
    word: Text<'a>,
    after_ns: u64,
    seq: u64,
    text: Option<Text<'a>>,
    told: Option<Told<'a>>,
    extended: bool,
    early_talker: bool,
    tls: Tls<'a>,
    size: Option<u64>,
    body: BodyType,
    smtputf8: bool,
    load: Load,
    exists: Option<bool>,
    headers: Headers<'a>,
    shape: BodyShape,
    how: Text<'a>,
    said: Said<'a>,
    has_verdict: bool,
}

fn read_event<'a>(json: &mut Json<'a>) -> Result<Event<'a>, Bad> {
    let mut e = Loose::default();
    json.object(|key, json| loose_field(&mut e, key, json))?;
    let text = e.text.take();
    let missing = |expected| json.bad(expected);
    let what = match &*e.word {
        "fact" => What::Fact { name: text.ok_or(missing("\"name\" of the fact"))?, value: e.told },
        "connect" => What::Connect { early_talker: e.early_talker, load: e.load },
        "helo" => What::Helo { name: text.ok_or(missing("\"name\" of helo"))?, extended: e.extended },
        "tls" => What::Tls(e.tls),
        "auth" => What::Auth { user: text },
        "mail" => What::Mail {
            sender: text.ok_or(missing("\"from\" of mail"))?,
            size: e.size,
            body: e.body,
            smtputf8: e.smtputf8,
            load: e.load,
        },
        "probe" => What::Probe { to: text.ok_or(missing("\"to\" of probe"))? },
        "rcpt" => What::Rcpt { to: text.ok_or(missing("\"to\" of rcpt"))?, exists: e.exists },
        "refused" => What::Refused,
        "data" => {
            What::Data(Headers { octets: e.shape.header_octets, received: e.shape.received_fields.into(), ..e.headers })
        }
        "message" => What::Message(e.shape),
        "vrfy" => What::Vrfy { argument: text.ok_or(missing("\"argument\" of vrfy"))? },
        "reset" => What::Reset,
        "shadow" => What::Shadow {
            stage: text.ok_or(missing("\"name\" of shadow"))?,
            change: e.how,
            now: std::mem::take(&mut e.said.reply),
        },
        "settled" => What::Settled { how: e.how, reply: std::mem::take(&mut e.said.reply) },
        _ => return Err(missing("an event that this program knows")),
    };
    let said = (e.has_verdict && what.is_asked()).then_some(e.said);
    Ok(Event { after_ns: e.after_ns, seq: e.seq, what, said })
}

fn loose_field<'a>(e: &mut Loose<'a>, key: &str, json: &mut Json<'a>) -> Result<(), Bad> {
    match key {
        "event" => e.word = json.string()?,
        "after_ns" => e.after_ns = json.u64()?,
        "seq" => e.seq = json.u64()?,
        "from" | "to" | "name" | "user" | "argument" => e.text = Some(json.string()?),
        "verdict" => (e.said.verdict, e.has_verdict) = (json.string()?, true),
        "rule" => e.said.rule = json.string()?,
        "reply" => e.said.reply = json.string()?,
        "reason" => e.said.reason = json.string()?,
        "delay_ms" => e.said.delay_ms = json.u64()?,
        "route" => e.said.route = json.string()?,
        "quarantine" => e.said.quarantine = json.string()?,
        "points" => e.said.points = json.thousandths()?,
        "added" => e.said.added = json.string()?,
        "would" => e.said.would = json.string()?,
        "guard" => e.said.guard = json.string()?,
        "prior" => e.said.prior = json.string()?,
        "tags" => e.said.tags = json.string()?,
        "exists" => e.exists = Some(json.flag()?),
        "extended" => e.extended = json.flag()?,
        "early_talker" => e.early_talker = json.flag()?,
        "smtputf8" => e.smtputf8 = json.flag()?,
        "size" => e.size = Some(json.u64()?),
        "load" => e.load = load(json)?,
        "octets" => e.shape.octets = json.u64()?,
        "header_octets" => e.shape.header_octets = json.u64()?,
        "received" => e.shape.received_fields = u32::try_from(json.u64()?).unwrap_or(u32::MAX),
        "eight_bit" => e.shape.eight_bit = json.flag()?,
        "binary" => e.shape.binary = json.flag()?,
        "headers" => json.array(|json| {
            e.headers.fields.push(field(json)?);
            Ok(())
        })?,
        "cut" => e.headers.cut = json.flag()?,
        "how" => e.how = json.string()?,
        "tls" => e.tls = tls(json)?,
        "body" => {
            e.body = match &*json.string()? {
                "8bitmime" => BodyType::EightBitMime,
                "binarymime" => BodyType::BinaryMime,
                "7bit" => BodyType::SevenBit,
                _ => return Err(json.bad("7bit, 8bitmime or binarymime")),
            }
        }
        "flag" => e.told = Some(Told::Flag(json.flag()?)),
        "number" => e.told = Some(Told::Number(json.i64()?)),
        "score" => e.told = Some(Told::Score(json.thousandths()?)),
        "text" => e.told = Some(Told::Text(json.string()?)),
        "ip" => e.told = Some(Told::Ip(address(json)?)),
        _ => json.skip()?,
    }
    Ok(())
}

fn field<'a>(json: &mut Json<'a>) -> Result<(Text<'a>, Option<Text<'a>>), Bad> {
    let (mut name, mut value) = (None, None);
    json.array(|json| {
        let text = json.string()?;
        match name {
            None => name = Some(text),
            Some(_) => value = Some(text),
        }
        Ok(())
    })?;
    Ok((name.ok_or(json.bad("a field as [name] or [name, text]"))?, value))
}

fn load(json: &mut Json<'_>) -> Result<Load, Bad> {
    let mut numbers = [0; 3];
    let mut count = 0;
    json.array(|json| {
        *numbers.get_mut(count).ok_or(json.bad("three numbers"))? = json.u64()?;
        count += 1;
        Ok(())
    })?;
    let [connections, memory_percent, queued] = numbers;
    Ok(Load { connections, memory_percent, queued })
}

fn tls<'a>(json: &mut Json<'a>) -> Result<Tls<'a>, Bad> {
    let mut tls = Tls { version: Cow::Borrowed(""), cipher: Cow::Borrowed(""), client_name: Cow::Borrowed("") };
    json.object(|key, json| {
        match key {
            "version" => tls.version = json.string()?,
            "cipher" => tls.cipher = json.string()?,
            "client_name" => tls.client_name = json.string()?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    Ok(tls)
}

fn address(json: &mut Json<'_>) -> Result<IpAddr, Bad> {
    let at = json.at();
    json.string()?.parse().map_err(|_| Bad { at, expected: "an IP address" })
}

fn read_end(json: &mut Json<'_>) -> Result<End, Bad> {
    let mut end = End::default();
    json.object(|key, json| {
        match key {
            "after_ns" => end.after_ns = json.u64()?,
            "seq" => end.seq = json.u64()?,
            "more" => end.more = json.flag()?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    Ok(end)
}
