//! The language of trace files, in which the tests of machines are written: what clients and the world do, and what must
//! be asked and said then. A machine brings its own settings, events and answers.
//!
//! ```text
//! config: WORDS          settings, of the machine's own words (first line)
//! C: line                the client sends a line; \xNN, \r, \n, \0, \\ and {N*x} (x N times) are understood
//! C> octets              the same without CRLF;   C2: and C2> a second client, where there is one
//! T: 5m                  time passes       E: the client ends its side       H: we shut down
//! S: line                the server says a line;   S> octets without CRLF;   S2: and S2> to the second client
//! ?: ask                 an ask beginning so comes up;  !: answer  (below it) answers it, else it is answered kindly
//! X:                     the connection is closed
//! ```
//! A group is what is done and what follows it up to the next of it. Each trace runs whole, octet by octet and at random
//! cuts. How it fails: a panic that names file and line.

use crate::base::knob::parse_duration;
use std::time::Duration;

/// How input is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// As it is written.
    Whole,
    /// An octet at a time.
    Octets,
    /// Anywhere, by this seed.
    Random(u64),
}

impl Cut {
    /// Whole, by octets, and `random` times anywhere.
    pub fn all(random: u64) -> impl Iterator<Item = Cut> {
        [Cut::Whole, Cut::Octets].into_iter().chain((1..=random).map(Cut::Random))
    }

    /// The pieces in which these octets come.
    pub fn pieces(self, mut octets: &[u8]) -> Vec<&[u8]> {
        let mut dice = fastrand::Rng::with_seed(if let Cut::Random(seed) = self { seed } else { 0 });
        let mut pieces = Vec::new();
        while !octets.is_empty() {
            let n = match self {
                Cut::Whole => octets.len(),
                Cut::Octets => 1,
                Cut::Random(_) => dice.usize(1..=octets.len()),
            };
            let (piece, rest) = octets.split_at(n);
            pieces.push(piece);
            octets = rest;
        }
        pieces
    }
}

/// What is done. `W` is what else can happen in the machine's world.
#[derive(Clone, Debug)]
pub enum Event<W> {
    /// A client sends octets: the first is 0.
    Octets(usize, Vec<u8>),
    /// Time passes.
    Time(Duration),
    /// The client ends its side.
    Eof,
    /// We shut down.
    Shutdown,
    /// Something else.
    World(W),
}

/// An ask that must come, by how it begins, and the answer if the trace has one.
pub type Expected = (String, Option<String>);

/// What is done, and what follows.
#[derive(Clone, Debug)]
pub struct Group<W> {
    /// What is done; the lines of a client in a row are one event.
    pub events: Vec<Event<W>>,
    /// What must be asked.
    pub asks: Vec<Expected>,
    /// What must be said, by client: escapes are still in it, lines end in `\n`, an octet line has no end.
    pub said: [String; 2],
    /// Lines with marks of the machine's own.
    pub notes: Vec<(String, String)>,
    /// Whether the connection must be closed.
    pub closed: bool,
    /// Where it stands.
    pub line: usize,
}

impl<W> Group<W> {
    fn new(line: usize) -> Group<W> {
        let (events, asks, notes) = (Vec::new(), Vec::new(), Vec::new());
        Group { events, asks, said: Default::default(), notes, closed: false, line }
    }

    /// For messages of a failing test.
    pub fn place(&self, name: &str, cut: Cut) -> String {
        format!("{name}.trace:{} ({cut:?})", self.line)
    }

    fn push(&mut self, event: Event<W>) {
        match (self.events.last_mut(), event) {
            (Some(Event::Octets(last, octets)), Event::Octets(client, more)) if *last == client => octets.extend(more),
            (_, event) => self.events.push(event),
        }
    }
}

/// A trace file.
#[derive(Clone, Debug)]
pub struct Trace<W> {
    /// Words of its first line.
    pub config: String,
    /// What is done and said, in order. The first group is what is said at the start.
    pub groups: Vec<Group<W>>,
}

/// What the lines with a mark of the machine's own are.
pub enum Own<W> {
    /// Something that happens.
    Event(W),
    /// Something to compare afterwards, or to prepare: see [`Group::notes`].
    Note,
}

/// Reads a trace file; `own` knows the other marks.
pub fn parse<W>(text: &str, own: impl Fn(&str, &str) -> Option<Own<W>>) -> Trace<W> {
    let mut trace = Trace { config: String::new(), groups: vec![Group::new(1)] };
    let mut answered = true;
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let with_end = |rest: &str| [unescape(rest), b"\r\n".to_vec()].concat();
        let mut note = false;
        let event = match mark {
            "C:" => Some(Event::Octets(0, with_end(rest))),
            "C2:" => Some(Event::Octets(1, with_end(rest))),
            "C>" => Some(Event::Octets(0, unescape(rest))),
            "C2>" => Some(Event::Octets(1, unescape(rest))),
            "T:" => Some(Event::Time(parse_duration(rest).unwrap())),
            "E:" => Some(Event::Eof),
            "H:" => Some(Event::Shutdown),
            _ => match own(mark, rest) {
                Some(Own::Event(event)) => Some(Event::World(event)),
                Some(Own::Note) => {
                    note = true;
                    None
                }
                None => None,
            },
        };
        if let Some(event) = event {
            if answered {
                trace.groups.push(Group::new(at + 1));
            }
            answered = false;
            trace.groups.last_mut().unwrap().push(event);
            continue;
        }
        let group = trace.groups.last_mut().unwrap();
        if mark == "config:" {
            trace.config = rest.to_owned();
            continue;
        }
        answered = true;
        match mark {
            _ if note => group.notes.push((mark.to_owned(), rest.to_owned())),
            "S:" => group.said[0] += &format!("{rest}\n"),
            "S>" => group.said[0] += rest,
            "S2:" => group.said[1] += &format!("{rest}\n"),
            "S2>" => group.said[1] += rest,
            "?:" => group.asks.push((rest.to_owned(), None)),
            "!:" => group.asks.last_mut().unwrap().1 = Some(rest.to_owned()),
            "X:" => group.closed = true,
            _ => panic!("line {}: what is {mark:?}?", at + 1),
        }
    }
    trace
}

/// The octets that a line stands for. A backslash in front of anything but its own words is one.
pub fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        if let Some((count, unit, after)) = repetition(rest) {
            out.extend(unescape(unit).repeat(count));
            rest = after;
        } else if c == '\\' && matches!(rest.as_bytes().get(1), Some(b'r' | b'n' | b'0' | b'x' | b'\\')) {
            let (octet, used) = match &rest[1..2] {
                "r" => (b'\r', 2),
                "n" => (b'\n', 2),
                "0" => (0, 2),
                "x" => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                _ => (b'\\', 2),
            };
            out.push(octet);
            rest = &rest[used..];
        } else {
            out.extend(c.to_string().bytes());
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// `{N*x}` at the start.
fn repetition(text: &str) -> Option<(usize, &str, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let (count, unit) = inner.split_once('*')?;
    Some((count.parse().ok()?, unit, after))
}

/// The asks of a group, as they come. Asks that are not written may come in between.
pub struct Asks(std::iter::Peekable<std::vec::IntoIter<Expected>>);

impl Asks {
    /// Those of a group.
    pub fn new(asks: Vec<Expected>) -> Asks {
        Asks(asks.into_iter().peekable())
    }

    /// An ask came up: the answer that the trace has for it.
    pub fn meet(&mut self, ask: &str) -> Option<String> {
        self.0.next_if(|(prefix, _)| ask.starts_with(prefix.as_str()))?.1
    }

    /// Everything must have come.
    #[track_caller]
    pub fn end(self, place: &str, said: &[u8]) {
        let left: Vec<Expected> = self.0.collect();
        assert!(left.is_empty(), "{place}: these asks did not come: {left:?}; said {}", said.escape_ascii());
    }
}

#[test]
fn octets_are_what_they_say() {
    assert_eq!(unescape(r"a\x41\r\n\0\\{3*xy}\Seen é"), b"aA\r\n\0\\xyxyxy\\Seen \xc3\xa9");
    for cut in Cut::all(5) {
        assert_eq!(cut.pieces(b"some octets").concat(), b"some octets");
    }
    assert_eq!(Cut::Octets.pieces(b"abc").len(), 3);
}
