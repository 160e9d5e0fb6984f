//! An IMAP client (RFC 9051; what it says is also RFC 3501) as a machine: logs in, selects, reads, searches, flags, idles.
//!
//! How it fails: NO or BAD to the login ends the session with LOGOUT and is counted as refused; NO or BAD to anything
//! else is counted and the session goes on to its end; what is no response ends it as broken.

use super::digest::Digest;
use super::line::{Lines, kind_of, trimmed};
use super::{Do, Task};
use crate::client::{Next, Sighting, Turn};
use gatepost::base::time::Instant;

/// What a search looks for, in turn: the index, the flags, a header field, the text, a date.
const SEARCHES: [&str; 6] = [
    "ALL",
    "UNSEEN",
    "SUBJECT \"load\"",
    "BODY \"aaaa\"",
    "SINCE 1-Jan-2020 NOT DELETED",
    "OR FROM \"load\" LARGER 100000",
];
/// Octets of a response that is put together from lines and literals, the literals of messages not counted.
const RESPONSE_OCTETS_MAX: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Login,
    Select,
    /// STATUS, UID FETCH, UID SEARCH or STORE.
    Working,
    /// IDLE was said and `+` has not come.
    IdleAsked,
    Idling,
    /// DONE was said.
    IdleEnding,
    Logout,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    task: Task,
    state: State,
    lines: Lines,
    /// What has arrived of a response with literals; each literal stands in it as `""`.
    response: Vec<u8>,
    /// Octets of a literal still to come.
    literal: usize,
    /// The message in the response, when there is one.
    digest: Option<Digest>,
    tag: u64,
    asked: Instant,
    rounds: u64,
    exists: u64,
}

impl Client {
    /// Before the greeting.
    pub fn new(task: Task) -> Client {
        Client {
            task,
            state: State::Greeting,
            lines: Lines::default(),
            response: Vec::new(),
            literal: 0,
            digest: None,
            tag: 0,
            asked: Instant::ZERO,
            rounds: 0,
            exists: 0,
        }
    }

    fn ask(&mut self, state: State, command: &str, turn: &mut Turn<'_>) -> Next {
        self.state = state;
        self.asked = turn.now;
        self.tag += 1;
        turn.out.extend_from_slice(format!("a{} {command}\r\n", self.tag).as_bytes());
        Next::Wait
    }

    /// A line, or the part of one before a literal.
    fn line(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Next {
        let line = trimmed(line);
        if self.response.len() + line.len() > RESPONSE_OCTETS_MAX {
            return Next::Broken("response too long");
        }
        self.response.extend_from_slice(line);
        if let Some((before, octets)) = literal_at_end(&self.response) {
            // A message is taken as it comes; anything else in a literal (a mailbox's name) is passed over.
            let is_message = before.to_ascii_uppercase().ends_with(b"BODY[] ");
            self.literal = octets;
            let length = before.len();
            self.response.truncate(length);
            self.response.extend_from_slice(b"\"\"");
            if is_message {
                self.digest = Some(Digest::default());
            }
            return Next::Wait;
        }
        let response = std::mem::take(&mut self.response);
        let text = String::from_utf8_lossy(&response);
        if let Some(untagged) = text.strip_prefix("* ") {
            self.untagged(untagged, turn)
        } else if text.starts_with('+') {
            self.continuation(turn)
        } else if let Some(rest) = text.strip_prefix(&format!("a{} ", self.tag)) {
            self.tagged(rest, turn)
        } else {
            Next::Broken("malformed response")
        }
    }

    fn untagged(&mut self, text: &str, turn: &mut Turn<'_>) -> Next {
        let mut words = text.split(' ');
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        if self.state == State::Greeting {
            return match first.as_str() {
                "OK" => {
                    let login = format!("LOGIN {} {}", quoted(&self.task.name), quoted(&self.task.password));
                    self.ask(State::Login, &login, turn)
                }
                "PREAUTH" => self.logged_in(turn),
                "BYE" => {
                    turn.tally.refused += 1;
                    turn.tally.reply(&kind_of(text.get(4..).unwrap_or_default()));
                    Next::Broken("session refused")
                }
                _ => Next::Broken("malformed greeting"),
            };
        }
        let second = words.next().unwrap_or_default().to_ascii_uppercase();
        match (first.parse::<u64>(), second.as_str()) {
            (Ok(n), "EXISTS") => {
                if self.state == State::Idling && n > self.exists {
                    turn.tally.pushes += 1;
                }
                self.exists = n;
            }
            (Ok(_), "EXPUNGE") => self.exists = self.exists.saturating_sub(1),
            (Ok(n), "FETCH") => self.fetched(n, text, turn),
            _ => {}
        }
        Next::Wait
    }

    fn fetched(&mut self, number: u64, text: &str, turn: &mut Turn<'_>) {
        let Some(digest) = self.digest.take() else { return };
        turn.tally.octets += digest.octets();
        let mark = uid_in(text).unwrap_or(number);
        turn.seen.push(Sighting { user: self.task.user, mark, message: digest.finish() });
    }

    fn continuation(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.state != State::IdleAsked {
            return Next::Broken("continuation out of turn");
        }
        self.state = State::Idling;
        self.time("idle", turn);
        if turn.over { self.done_idling(turn) } else { Next::WakeAt(turn.now + self.task.pause) }
    }

    fn tagged(&mut self, text: &str, turn: &mut Turn<'_>) -> Next {
        let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
        let good = status.eq_ignore_ascii_case("OK");
        if !good {
            turn.tally.reply(&kind_of(rest));
        }
        match self.state {
            State::Login if good => {
                self.time("login", turn);
                self.logged_in(turn)
            }
            State::Login => {
                turn.tally.login_refused += 1;
                self.logout(turn)
            }
            State::Select if good => {
                self.time("select", turn);
                self.next_round(turn)
            }
            State::Logout => {
                self.time("logout", turn);
                Next::Close
            }
            _ if !good => {
                turn.tally.error("command refused");
                if self.state == State::Working { self.round_done(turn) } else { self.logout(turn) }
            }
            State::Working => {
                self.time(self.task.what.name(), turn);
                self.round_done(turn)
            }
            State::IdleEnding => {
                self.time("done", turn);
                self.next_round(turn)
            }
            _ => Next::Broken("response out of turn"),
        }
    }

    fn time(&self, name: &'static str, turn: &mut Turn<'_>) {
        turn.tally.command(name, turn.now.since(self.asked));
    }

    fn logout(&mut self, turn: &mut Turn<'_>) -> Next {
        self.ask(State::Logout, "LOGOUT", turn)
    }

    fn logged_in(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.task.what == Do::Poll {
            return self.next_round(turn);
        }
        let select = format!("SELECT {}", quoted(&self.task.mailbox));
        self.ask(State::Select, &select, turn)
    }

    fn next_round(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.rounds >= self.task.rounds || turn.over {
            return self.logout(turn);
        }
        self.rounds += 1;
        match self.task.what {
            Do::Poll => {
                let status = format!("STATUS {} (MESSAGES UNSEEN UIDNEXT)", quoted(&self.task.mailbox));
                self.ask(State::Working, &status, turn)
            }
            // `1:*` names the last message even of an empty mailbox (RFC 9051 §9, seq-range), so none is asked for.
            Do::FetchAll | Do::Flags if self.exists == 0 => self.round_done(turn),
            Do::FetchAll => self.ask(State::Working, "UID FETCH 1:* (UID BODY.PEEK[])", turn),
            Do::Search => {
                let which = SEARCHES[(self.rounds as usize - 1) % SEARCHES.len()];
                self.ask(State::Working, &format!("UID SEARCH {which}"), turn)
            }
            Do::Flags => {
                let number = turn.rng.u64(1..=self.exists);
                let (sign, flag) = [("+", "\\Seen"), ("-", "\\Seen"), ("+", "\\Flagged"), ("-", "\\Flagged")]
                    [(self.rounds as usize - 1) % 4];
                self.ask(State::Working, &format!("STORE {number} {sign}FLAGS ({flag})"), turn)
            }
            Do::Idle => self.ask(State::IdleAsked, "IDLE", turn),
        }
    }

    fn round_done(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.rounds < self.task.rounds && !self.task.pause.is_zero() && !turn.over {
            return Next::WakeAt(turn.now + self.task.pause);
        }
        // An empty mailbox needs no command at all; its rounds are over at once.
        if self.exists == 0 && matches!(self.task.what, Do::FetchAll | Do::Flags) {
            return self.logout(turn);
        }
        self.next_round(turn)
    }

    fn done_idling(&mut self, turn: &mut Turn<'_>) -> Next {
        self.state = State::IdleEnding;
        self.asked = turn.now;
        turn.out.extend_from_slice(b"DONE\r\n");
        Next::Wait
    }
}

/// What stands before `{N}` or `{N+}` at the end of a line, and N (RFC 9051 §4.3).
fn literal_at_end(line: &[u8]) -> Option<(&[u8], usize)> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    let digits = inner[open + 1..].strip_suffix(b"+").unwrap_or(&inner[open + 1..]);
    let octets = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    Some((&line[..open], octets))
}

/// The UID in a FETCH response.
fn uid_in(text: &str) -> Option<u64> {
    let mut words = text.split([' ', '(', ')']);
    words.find(|w| w.eq_ignore_ascii_case("UID"))?;
    words.next()?.parse().ok()
}

/// A quoted string (RFC 9051 §4.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl crate::client::Client for Client {
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        let mut rest = bytes;
        let mut next = Next::Wait;
        loop {
            if self.literal > 0 {
                let (piece, after) = rest.split_at(self.literal.min(rest.len()));
                self.literal -= piece.len();
                rest = after;
                if let Some(digest) = &mut self.digest {
                    digest.feed(piece);
                }
            }
            match self.lines.next(&mut rest) {
                // What comes while it sleeps does not change when it is to be woken.
                Ok(None) if self.state == State::Idling && next == Next::Wait => {
                    return self.wake_time(turn);
                }
                Ok(None) => return next,
                Ok(Some(line)) => match self.line(&line, turn) {
                    Next::Wait => {}
                    Next::WakeAt(at) => next = Next::WakeAt(at),
                    end => return end,
                },
                Err(_) => return Next::Broken("line too long"),
            }
        }
    }

    fn wake(&mut self, turn: &mut Turn<'_>) -> Next {
        match self.state {
            State::Idling => self.done_idling(turn),
            State::Working => self.next_round(turn),
            _ => Next::Wait,
        }
    }

    fn ended(&mut self, _turn: &mut Turn<'_>) -> bool {
        self.state == State::Logout
    }
}

impl Client {
    fn wake_time(&mut self, turn: &mut Turn<'_>) -> Next {
        let at = self.asked + self.task.pause;
        if at > turn.now { Next::WakeAt(at) } else { self.done_idling(turn) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{Play, ours, task};
    use super::*;
    use std::time::Duration;

    fn play(what: Do, rounds: u64, pause: u64, cut: usize) -> Play<Client> {
        let mut t = task(what);
        (t.rounds, t.pause) = (rounds, Duration::from_secs(pause));
        let mut p = Play::new(Client::new(t), cut);
        p.s("* OK [CAPABILITY IMAP4rev2] ready").c("a1 LOGIN \"u1\" \"secret\"").s("a1 OK [CAPABILITY X] in");
        p
    }

    fn selected(what: Do, rounds: u64, pause: u64, cut: usize) -> Play<Client> {
        let mut p = play(what, rounds, pause, cut);
        p.c("a2 SELECT \"INBOX\"")
            .s("* FLAGS (\\Seen)\r\n* 2 EXISTS\r\n* OK [UIDVALIDITY 1] x")
            .s("a2 OK [READ-WRITE] done");
        p
    }

    #[test]
    fn a_poll() {
        for cut in Play::<Client>::CUTS {
            let mut p = play(Do::Poll, 1, 0, cut);
            p.c("a2 STATUS \"INBOX\" (MESSAGES UNSEEN UIDNEXT)").s("* STATUS INBOX (MESSAGES 3 UNSEEN 1 UIDNEXT 4)");
            p.s("a2 OK done").c("a3 LOGOUT").s("* BYE see you\r\na3 OK bye").ends(Next::Close);
            assert_eq!(p.tally.commands.keys().copied().collect::<Vec<_>>(), ["login", "logout", "poll"]);
        }
    }

    #[test]
    fn everything_is_read_with_literals_in_any_pieces() {
        let (id, ours, crc) = ours(900);
        for cut in Play::<Client>::CUTS {
            let mut p = selected(Do::FetchAll, 1, 0, cut);
            p.c("a3 UID FETCH 1:* (UID BODY.PEEK[])");
            p.s(&format!("* 1 FETCH (UID 17 BODY[] {{{}}}\r\n{ours})", ours.len()));
            // Attributes after the literal, and a literal that only looks like a line of the protocol.
            p.s("* 2 FETCH (BODY[] {14}\r\na3 OK not yet\n UID 18 FLAGS (\\Seen))").s("a3 OK done");
            p.c("a4 LOGOUT").s("* BYE\r\na4 OK").ends(Next::Close);
            let seen: Vec<_> = p.seen.iter().map(|s| (s.mark, s.message)).collect();
            assert_eq!(seen, [(17, Some((id, crc))), (18, None)], "pieces of {cut}");
            assert_eq!(p.tally.octets, ours.len() as u64 + 14);
        }
    }

    #[test]
    fn an_empty_mailbox_is_read_without_asking() {
        let mut p = play(Do::FetchAll, 5, 0, 0);
        p.c("a2 SELECT \"INBOX\"").s("* 0 EXISTS\r\na2 OK").c("a3 LOGOUT").s("a3 OK").ends(Next::Close);
        assert!(p.seen.is_empty());
    }

    #[test]
    fn idling_counts_news_and_ends_in_time() {
        for cut in Play::<Client>::CUTS {
            let mut p = selected(Do::Idle, 1, 30, cut);
            p.c("a3 IDLE").s("+ idling").s("* 3 EXISTS\r\n* 1 RECENT").s("* 1 FETCH (FLAGS (\\Seen))");
            p.s("* 4 EXISTS").wake().c("DONE").s("a3 OK").c("a4 LOGOUT").s("a4 OK").ends(Next::Close);
            assert_eq!(p.tally.pushes, 2);
        }
        let mut p = selected(Do::Idle, 9, 30, 0);
        p.c("a3 IDLE").s("+ idling").sleeps(30).over().wake().c("DONE").s("a3 OK").c("a4 LOGOUT");
    }

    #[test]
    fn searches_and_flags_take_turns() {
        let mut p = selected(Do::Search, 2, 0, 0);
        p.c("a3 UID SEARCH ALL")
            .s("* SEARCH 1 2\r\na3 OK")
            .c("a4 UID SEARCH UNSEEN")
            .s("* SEARCH\r\na4 OK")
            .c("a5 LOGOUT");
        let mut p = selected(Do::Flags, 2, 5, 3);
        p.c_begins("a3 STORE ").s("* 1 FETCH (FLAGS (\\Seen))\r\na3 OK").sleeps(5).wake().c_begins("a4 STORE ");
        p.s("a4 NO [NOPERM] no").c("a5 LOGOUT");
        assert_eq!(p.tally.errors.get("command refused"), Some(&1));
        assert_eq!(p.tally.replies.get("[NOPERM]"), Some(&1));
    }

    #[test]
    fn refusals_and_nonsense() {
        let mut p = Play::new(Client::new(task(Do::Poll)), 0);
        p.s("* OK").c("a1 LOGIN \"u1\" \"secret\"").s("a1 NO [AUTHENTICATIONFAILED] no").c("a2 LOGOUT").s("* BYE");
        assert!(p.eof(), "after LOGOUT the server may just close");
        assert_eq!(p.tally.login_refused, 1);
        Play::new(Client::new(task(Do::Poll)), 0).s("* BYE full").ends(Next::Broken("session refused"));
        Play::new(Client::new(task(Do::Poll)), 0).s("220 smtp").ends(Next::Broken("malformed response"));
        let mut p = play(Do::Poll, 1, 0, 0);
        assert!(!{
            p.c_begins("a2 STATUS");
            p.eof()
        });
    }

    #[test]
    fn quoting_and_literals() {
        assert_eq!(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
        assert_eq!(literal_at_end(b"x {12}"), Some((&b"x "[..], 12)));
        assert_eq!(literal_at_end(b"x {12+}"), Some((&b"x "[..], 12)));
        for not in [&b"x {a}"[..], b"x {12} ", b"x 12}", b"x {}", b"{99999999999999999999999}"] {
            assert_eq!(literal_at_end(not), None);
        }
        assert_eq!(uid_in("2 FETCH (FLAGS () UID 18)"), Some(18));
        assert_eq!(uid_in("2 FETCH (FLAGS ())"), None);
    }
}
