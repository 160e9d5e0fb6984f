//! Commands out of bytes: lines, literals of three kinds, and what is done with those that nobody wants.
//!
//! A client announces a literal at the end of a line (`{n}`, `{n+}`, `~{n}`; RFC 9051 §4.3, RFC 7888, RFC 3516) and the
//! session decides: kept in the command, streamed as message data, or refused. How it fails: a line that is too long, a
//! NUL, or too many literals make [`Framed::TooLong`], and all that belongs to that command is skipped, so that the
//! session stays in step with its client whatever the split of the input.

use crate::base::buf::Input;
use memchr::memchr;

#[cfg(test)]
mod tests;

/// What one command may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Octets of a command's lines together, literals aside (RFC 7162 §4 asks for 8192 and more).
    pub line_octets_max: usize,
    /// Octets of a command's ordinary literals together.
    pub literal_octets_max: u64,
    /// Literals of a command, message data included (MULTIAPPEND).
    pub literals_max: usize,
}

impl Default for FrameLimits {
    fn default() -> FrameLimits {
        FrameLimits { line_octets_max: 64 * 1024, literal_octets_max: 64 * 1024, literals_max: 1000 }
    }
}

/// Digits of a literal's announcement at most: a 63-bit number (RFC 9051 §9, number64).
const LITERAL_DIGITS_MAX: usize = 19;
/// Octets at the end of a line that can be an announcement: `~{`, digits, `+}`.
const ANNOUNCEMENT_OCTETS_MAX: usize = LITERAL_DIGITS_MAX + 4;
/// Octets of a tag that is repeated in an answer.
const TAG_OCTETS_MAX: usize = 100;

/// What came out of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// Nothing whole yet; all input was taken.
    NeedMore,
    /// A literal is announced. One of [`Framer::accept_inline`], [`Framer::accept_message`] and [`Framer::refuse`] comes
    /// next; until then the framer takes no more input and says this again.
    Literal {
        /// The command so far, without the announcement.
        start: &'a [u8],
        /// How many octets are announced.
        octets: u64,
        /// They come without waiting for a continuation (RFC 7888).
        non_sync: bool,
        /// `~{n}` (RFC 3516)
        binary: bool,
        /// It is the data of a message of APPEND or REPLACE.
        message: bool,
    },
    /// Octets of a message literal; never empty.
    MessageOctets(&'a [u8]),
    /// A message literal is complete.
    MessageEnd,
    /// A command without its last line end. Ordinary literals stand in it as `{n}` CRLF octets, or `~{n}` CRLF octets;
    /// message data as the announcement and CRLF with nothing behind.
    Command(Vec<u8>),
    /// The command is over a limit or no command: to be answered BAD. The rest of it is skipped.
    TooLong {
        /// Its tag, where it can be read.
        tag: Option<String>,
        /// What is wrong.
        why: &'static str,
    },
}

/// An announcement that waits for a decision, or whose octets are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announced {
    octets: u64,
    non_sync: bool,
    binary: bool,
}

/// What the next octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A line of a command.
    Line,
    /// Nothing until the session has decided.
    Deciding(Announced),
    /// So many octets of an ordinary literal.
    Inline(u64),
    /// So many octets of message data.
    Message(u64),
    /// So many octets that nobody wants, and the rest of the command behind them.
    SkipOctets(u64),
    /// The rest of a line that nobody wants.
    SkipLine,
}

/// Makes commands of bytes; one per connection, holding one command at most.
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    state: State,
    /// The command so far, or while skipping the end of the line so far.
    command: Vec<u8>,
    /// Where in it the line that is being read begins: what a literal contains announces nothing.
    line_start: usize,
    line_octets: usize,
    literal_octets: u64,
    literals: usize,
}

impl Framer {
    /// A framer before the first octet.
    pub fn new(limits: FrameLimits) -> Framer {
        Framer {
            limits,
            state: State::Line,
            command: Vec::new(),
            line_start: 0,
            line_octets: 0,
            literal_octets: 0,
            literals: 0,
        }
    }

    /// Whether no command has begun.
    pub fn is_idle(&self) -> bool {
        self.state == State::Line && self.command.is_empty()
    }

    /// Takes input up to the next thing worth telling.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut Input<'i>) -> Framed<'s> {
        loop {
            match self.state {
                State::Deciding(announced) => return self.announce(announced),
                State::Message(0) => {
                    self.begin_line();
                    return Framed::MessageEnd;
                }
                State::Inline(0) => self.begin_line(),
                State::SkipOctets(0) => self.state = State::SkipLine,
                _ if input.is_empty() => return Framed::NeedMore,
                State::Message(left) => {
                    let octets = take(input, left);
                    self.state = State::Message(left - octets.len() as u64);
                    return Framed::MessageOctets(octets);
                }
                State::Inline(left) => {
                    let octets = take(input, left);
                    self.command.extend_from_slice(octets);
                    self.state = State::Inline(left - octets.len() as u64);
                }
                State::SkipOctets(left) => {
                    let octets = take(input, left);
                    self.state = State::SkipOctets(left - octets.len() as u64);
                }
                State::SkipLine => self.skip_line(input),
                State::Line => {
                    if let Some(framed) = self.line(input) {
                        return framed;
                    }
                }
            }
        }
    }

    /// The announced literal goes into the command. The session has sent its continuation if one is awaited.
    pub fn accept_inline(&mut self) {
        if let Some(announced) = self.decided() {
            self.keep_announcement(announced);
            self.literal_octets = self.literal_octets.saturating_add(announced.octets);
            self.state = State::Inline(announced.octets);
        }
    }

    /// The announced literal is message data: its octets come out as they arrive.
    pub fn accept_message(&mut self) {
        if let Some(announced) = self.decided() {
            self.keep_announcement(announced);
            self.state = State::Message(announced.octets);
        }
    }

    /// The command ends here, refused. Behind a synchronizing literal nothing comes (RFC 9051 §4.3); octets that do not
    /// wait are skipped with the rest of the command (RFC 7888 §4).
    pub fn refuse(&mut self) {
        if let Some(announced) = self.decided() {
            self.reset();
            if announced.non_sync {
                self.state = State::SkipOctets(announced.octets);
            }
        }
    }

    fn decided(&mut self) -> Option<Announced> {
        debug_assert!(matches!(self.state, State::Deciding(_)), "no literal waits for a decision");
        match self.state {
            State::Deciding(announced) => Some(announced),
            _ => None,
        }
    }

    fn announce(&self, announced: Announced) -> Framed<'_> {
        Framed::Literal {
            start: &self.command,
            octets: announced.octets,
            non_sync: announced.non_sync,
            binary: announced.binary,
            message: is_message(&self.command),
        }
    }

    fn keep_announcement(&mut self, announced: Announced) {
        self.literals += 1;
        if announced.binary {
            self.command.push(b'~');
        }
        self.command.push(b'{');
        super::emit::number(&mut self.command, announced.octets);
        self.command.extend_from_slice(b"}\r\n");
    }

    fn begin_line(&mut self) {
        self.line_start = self.command.len();
        self.state = State::Line;
    }

    /// Before the next command.
    fn reset(&mut self) {
        *self = Framer::new(self.limits);
    }

    /// Takes a line or what there is of it; says what is worth telling.
    fn line(&mut self, input: &mut Input<'_>) -> Option<Framed<'static>> {
        let rest = input.rest();
        let end = memchr(b'\n', rest);
        let octets = input.consume(end.map_or(rest.len(), |at| at + 1));
        // Whichever comes first, so that the reason does not hang on how the line was cut.
        let room = self.limits.line_octets_max.saturating_sub(self.line_octets);
        self.line_octets += octets.len();
        if memchr(0, &octets[..octets.len().min(room)]).is_some() {
            return Some(self.give_up("a command line cannot contain NUL", octets, end.is_some()));
        }
        if octets.len() > room {
            return Some(self.give_up("the command line is too long", octets, end.is_some()));
        }
        self.command.extend_from_slice(octets);
        end?;
        // A bare LF ends a line as well: nothing is framed by it that CRLF would frame otherwise.
        self.command.pop();
        if self.command.len() > self.line_start && self.command.last() == Some(&b'\r') {
            self.command.pop();
        }
        match announcement(&self.command[self.line_start..]) {
            None => {
                let command = std::mem::take(&mut self.command);
                self.reset();
                Some(Framed::Command(command))
            }
            Some((at, announced)) => self.literal(self.line_start + at, announced),
        }
    }

    /// A literal is announced from `at` on.
    fn literal(&mut self, at: usize, announced: Announced) -> Option<Framed<'static>> {
        self.command.truncate(at);
        let ordinary = !is_message(&self.command);
        let octets = self.literal_octets.saturating_add(announced.octets);
        let why = if self.literals == self.limits.literals_max {
            "too many literals in one command"
        } else if ordinary && octets > self.limits.literal_octets_max {
            "the literal is too long"
        } else {
            self.state = State::Deciding(announced);
            return None;
        };
        let tag = tag_of(&self.command);
        self.state = State::Deciding(announced);
        self.refuse();
        Some(Framed::TooLong { tag, why })
    }

    /// The line cannot be kept: `octets` are the last of it so far.
    fn give_up(&mut self, why: &'static str, octets: &[u8], ended: bool) -> Framed<'static> {
        self.command.extend_from_slice(&octets[..octets.len().min(TAG_OCTETS_MAX + 1)]);
        let tag = tag_of(&self.command);
        self.reset();
        self.state = State::SkipLine;
        self.keep_tail(octets);
        if ended {
            self.end_of_skipped();
        }
        Framed::TooLong { tag, why }
    }

    /// The rest of a line that nobody wants, remembering its end: what it announces without waiting comes as well.
    fn skip_line(&mut self, input: &mut Input<'_>) {
        let rest = input.rest();
        let end = memchr(b'\n', rest);
        let octets = input.consume(end.map_or(rest.len(), |at| at + 1));
        self.keep_tail(octets);
        if end.is_some() {
            self.end_of_skipped();
        }
    }

    fn keep_tail(&mut self, octets: &[u8]) {
        let tail_max = ANNOUNCEMENT_OCTETS_MAX + 2;
        self.command.extend_from_slice(&octets[octets.len().saturating_sub(tail_max)..]);
        let surplus = self.command.len().saturating_sub(tail_max);
        self.command.drain(..surplus);
    }

    fn end_of_skipped(&mut self) {
        self.command.pop();
        if self.command.last() == Some(&b'\r') {
            self.command.pop();
        }
        let announced = announcement(&self.command);
        self.reset();
        // A synchronizing literal never comes: the client has its BAD instead of a continuation.
        if let Some((_, announced)) = announced.filter(|(_, a)| a.non_sync) {
            self.state = State::SkipOctets(announced.octets);
        }
    }
}

fn take<'i>(input: &mut Input<'i>, left: u64) -> &'i [u8] {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.rest().len());
    input.consume(n)
}

/// The literal that a line announces at its end, and where the announcement begins. RFC 9051 §9: `{n}` `{n+}`, with a
/// `~` in front for literal8. It begins a word, so `x{3}` is none.
fn announcement(line: &[u8]) -> Option<(usize, Announced)> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, non_sync) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let digits = inner.iter().rev().take(LITERAL_DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > LITERAL_DIGITS_MAX {
        return None;
    }
    let (inner, number) = inner.split_at(inner.len() - digits);
    let inner = inner.strip_suffix(b"{")?;
    let (inner, binary) = match inner.strip_suffix(b"~") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    if !matches!(inner.last(), Some(b' ' | b'(')) {
        return None;
    }
    let octets = number.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))?;
    Some((inner.len(), Announced { octets, non_sync, binary }))
}

/// Whether a literal at the end of this command is a message: it stands behind the mailbox name of APPEND, REPLACE or
/// UID REPLACE (RFC 9051 §6.3.12, RFC 8508).
fn is_message(start: &[u8]) -> bool {
    let mut words = start.splitn(3, |b| *b == b' ');
    let (_tag, verb, rest) = (words.next(), words.next(), words.next());
    let (Some(verb), Some(mut rest)) = (verb, rest) else {
        return false;
    };
    let after_word = |text| memchr(b' ', text).map(|at| &text[at + 1..]);
    if verb.eq_ignore_ascii_case(b"APPEND") {
        return !rest.is_empty();
    }
    if verb.eq_ignore_ascii_case(b"UID") {
        match after_word(rest) {
            Some(behind) if rest[..rest.len() - behind.len()].eq_ignore_ascii_case(b"REPLACE ") => rest = behind,
            _ => return false,
        }
    } else if !verb.eq_ignore_ascii_case(b"REPLACE") {
        return false;
    }
    after_word(rest).is_some_and(|behind| !behind.is_empty())
}

/// The tag at the front of a command, if it is one.
pub(super) fn tag_of(command: &[u8]) -> Option<String> {
    let end = command.iter().position(|b| *b == b' ').unwrap_or(command.len());
    let tag = &command[..end];
    let valid = !tag.is_empty() && tag.len() <= TAG_OCTETS_MAX && tag.iter().all(|b| super::reader::is_tag_char(*b));
    valid.then(|| String::from_utf8_lossy(tag).into_owned())
}
