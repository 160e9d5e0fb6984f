//! A POP3 client (RFC 1939) as a machine: logs in, looks or reads everything, says goodbye.
//!
//! One command at a time, as mail programs do it. How it fails: `-ERR` to the login ends the session with QUIT and is
//! counted as refused; what is no reply ends it as broken.

use super::digest::Digest;
use super::line::{Lines, kind_of, trimmed};
use super::{Do, Task};
use crate::client::{Next, Sighting, Turn};
use gatepost::base::time::Instant;

/// Messages of one maildrop that are read in one session.
const MESSAGES_MAX: usize = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    User,
    Pass,
    Stat,
    Uidl,
    UidlLines,
    Retr,
    RetrLines,
    Dele,
    Quit,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    task: Task,
    state: State,
    lines: Lines,
    asked: Instant,
    rounds: u64,
    /// Number and unique id of messages still to be read, the last first.
    list: Vec<(u32, u64)>,
    digest: Digest,
}

impl Client {
    /// Before the greeting.
    pub fn new(task: Task) -> Client {
        Client {
            task,
            state: State::Greeting,
            lines: Lines::default(),
            asked: Instant::ZERO,
            rounds: 0,
            list: Vec::new(),
            digest: Digest::default(),
        }
    }

    fn ask(&mut self, state: State, command: &str, turn: &mut Turn<'_>) -> Next {
        self.state = state;
        self.asked = turn.now;
        turn.out.extend_from_slice(command.as_bytes());
        turn.out.extend_from_slice(b"\r\n");
        Next::Wait
    }

    fn line(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Next {
        match self.state {
            State::UidlLines => self.uidl_line(trimmed(line), turn),
            State::RetrLines => self.retr_line(line, turn),
            _ => {
                let text = String::from_utf8_lossy(trimmed(line)).into_owned();
                match text.strip_prefix("+OK").map(|_| true).or(text.strip_prefix("-ERR").map(|_| false)) {
                    Some(good) => self.reply(good, text.get(4..).unwrap_or_default(), turn),
                    None => Next::Broken("malformed reply"),
                }
            }
        }
    }

    fn reply(&mut self, good: bool, text: &str, turn: &mut Turn<'_>) -> Next {
        if !good {
            return self.refused(text, turn);
        }
        match self.state {
            State::Greeting => self.ask(State::User, &format!("USER {}", self.task.name), turn),
            State::User => self.ask(State::Pass, &format!("PASS {}", self.task.password), turn),
            State::Pass => {
                self.time("login", turn);
                self.next_round(turn)
            }
            State::Stat => {
                self.time("stat", turn);
                self.round_done(turn)
            }
            State::Uidl => {
                self.state = State::UidlLines;
                Next::Wait
            }
            State::Retr => {
                self.state = State::RetrLines;
                self.digest = Digest::default();
                Next::Wait
            }
            State::Dele => {
                self.time("dele", turn);
                self.next_message(turn)
            }
            State::Quit => {
                self.time("quit", turn);
                Next::Close
            }
            State::UidlLines | State::RetrLines => Next::Broken("malformed reply"),
        }
    }

    fn refused(&mut self, text: &str, turn: &mut Turn<'_>) -> Next {
        turn.tally.reply(&kind_of(text));
        match self.state {
            State::Greeting => {
                turn.tally.refused += 1;
                Next::Broken("session refused")
            }
            State::User | State::Pass => {
                turn.tally.login_refused += 1;
                self.quit(turn)
            }
            State::Quit => Next::Close,
            _ => {
                turn.tally.error("command refused");
                self.quit(turn)
            }
        }
    }

    fn time(&self, name: &'static str, turn: &mut Turn<'_>) {
        turn.tally.command(name, turn.now.since(self.asked));
    }

    fn quit(&mut self, turn: &mut Turn<'_>) -> Next {
        self.ask(State::Quit, "QUIT", turn)
    }

    fn next_round(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.rounds >= self.task.rounds || turn.over {
            return self.quit(turn);
        }
        self.rounds += 1;
        match self.task.what {
            Do::FetchAll => self.ask(State::Uidl, "UIDL", turn),
            _ => self.ask(State::Stat, "STAT", turn),
        }
    }

    fn round_done(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.rounds < self.task.rounds && !self.task.pause.is_zero() && !turn.over {
            return Next::WakeAt(turn.now + self.task.pause);
        }
        self.next_round(turn)
    }

    /// `NUMBER UNIQUE-ID` (RFC 1939 §7).
    fn uidl_line(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Next {
        if line == b"." {
            self.time("uidl", turn);
            self.list.reverse();
            return self.next_message(turn);
        }
        let text = String::from_utf8_lossy(line);
        let Some((number, unique)) = text.split_once(' ').and_then(|(n, u)| Some((n.parse().ok()?, u))) else {
            return Next::Broken("malformed UIDL line");
        };
        if self.list.len() >= MESSAGES_MAX {
            return Next::Broken("more messages than a reader takes");
        }
        self.list.push((number, hash(unique.as_bytes())));
        Next::Wait
    }

    fn next_message(&mut self, turn: &mut Turn<'_>) -> Next {
        match self.list.last() {
            Some((number, _)) if !turn.over => {
                let command = format!("RETR {number}");
                self.ask(State::Retr, &command, turn)
            }
            _ => self.round_done(turn),
        }
    }

    /// A line of a message; a leading dot was added by the server (RFC 1939 §3).
    fn retr_line(&mut self, line: &[u8], turn: &mut Turn<'_>) -> Next {
        if trimmed(line) != b"." {
            self.digest.feed(line.strip_prefix(b".").unwrap_or(line));
            return Next::Wait;
        }
        self.time("retr", turn);
        turn.tally.octets += self.digest.octets();
        let Some((number, mark)) = self.list.pop() else { return Next::Broken("malformed reply") };
        turn.seen.push(Sighting { user: self.task.user, mark, message: self.digest.finish() });
        if self.task.delete {
            return self.ask(State::Dele, &format!("DELE {number}"), turn);
        }
        self.next_message(turn)
    }
}

/// FNV-1a: unique ids are up to 70 octets, and only their equality matters.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

impl crate::client::Client for Client {
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        let mut rest = bytes;
        let mut next = Next::Wait;
        loop {
            match self.lines.next(&mut rest) {
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
        self.next_round(turn)
    }

    fn ended(&mut self, _turn: &mut Turn<'_>) -> bool {
        self.state == State::Quit
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::{Play, ours, task};
    use super::*;

    #[test]
    fn a_poll() {
        for cut in Play::<Client>::CUTS {
            let mut p = Play::new(Client::new(task(Do::Poll)), cut);
            p.s("+OK ready <1@x>").c("USER u1").s("+OK").c("PASS secret").s("+OK 2 messages");
            p.c("STAT").s("+OK 2 320").c("QUIT").s("+OK bye").ends(Next::Close);
            assert_eq!(p.tally.commands.keys().copied().collect::<Vec<_>>(), ["login", "quit", "stat"]);
        }
    }

    #[test]
    fn everything_is_read_with_its_dots_and_checksums() {
        let (id, ours, crc) = ours(900);
        for cut in Play::<Client>::CUTS {
            let mut t = task(Do::FetchAll);
            t.delete = true;
            let mut p = Play::new(Client::new(t), cut);
            p.s("+OK").c("USER u1").s("+OK").c("PASS secret").s("+OK").c("UIDL");
            p.s("+OK\r\n1 aaa\r\n2 bbb\r\n.").c("RETR 1");
            p.s(&format!("+OK\r\n{ours}.")).c("DELE 1").s("+OK").c("RETR 2");
            p.s("+OK\r\nSubject: x\r\n\r\n..dot\r\n.").c("DELE 2").s("+OK").c("QUIT").s("+OK").ends(Next::Close);
            let seen: Vec<_> = p.seen.iter().map(|s| s.message).collect();
            assert_eq!(seen, [Some((id, crc)), None]);
            assert_ne!(p.seen[0].mark, p.seen[1].mark);
            assert_eq!(p.tally.octets, ours.len() as u64 + "Subject: x\r\n\r\n.dot\r\n".len() as u64);
        }
    }

    #[test]
    fn refusals_and_nonsense() {
        let mut p = Play::new(Client::new(task(Do::Poll)), 0);
        p.s("+OK").c("USER u1").s("+OK").c("PASS secret").s("-ERR [AUTH] no").c("QUIT").s("+OK").ends(Next::Close);
        assert_eq!((p.tally.login_refused, p.tally.replies.get("[AUTH]")), (1, Some(&1)));
        let mut p = Play::new(Client::new(task(Do::Poll)), 0);
        p.s("hello").ends(Next::Broken("malformed reply"));
        let mut p = Play::new(Client::new(task(Do::Poll)), 0);
        p.s("-ERR [SYS/TEMP] busy").ends(Next::Broken("session refused"));
    }

    #[test]
    fn rounds_have_pauses_and_the_end_of_the_run_ends_them() {
        let mut t = task(Do::Poll);
        (t.rounds, t.pause) = (3, std::time::Duration::from_secs(10));
        let mut p = Play::new(Client::new(t), 0);
        p.s("+OK").c("USER u1").s("+OK").c("PASS secret").s("+OK").c("STAT").s("+OK 0 0").sleeps(10).wake().c("STAT");
        p.s("+OK 0 0").sleeps(10).over().wake().c("QUIT").s("+OK").ends(Next::Close);
    }
}
