//! Attackers that speak SMTP: made-up recipients, talk before the greeting, guessed passwords.
//!
//! How it fails: a server that refuses or closes has done its work: that ends the session in order and is counted; what
//! is no reply is a broken session.

use crate::client::{Client, Next, Turn};
use crate::read::line::{Lines, trimmed};
use gatepost::base::time::Instant;

/// Codes of replies, the last line of each.
#[derive(Debug, Default)]
struct Replies {
    lines: Lines,
}

impl Replies {
    /// Feeds `input` and calls `each` for every whole reply.
    fn feed(&mut self, mut input: &[u8], mut each: impl FnMut(u16) -> Next) -> Next {
        loop {
            let line = match self.lines.next(&mut input) {
                Ok(Some(line)) => line,
                Ok(None) => return Next::Wait,
                Err(_) => return Next::Broken("line too long"),
            };
            let line = trimmed(&line);
            let digits = line.get(..3).filter(|d| d.iter().all(u8::is_ascii_digit));
            let Some(code) = digits.and_then(|d| std::str::from_utf8(d).ok()?.parse().ok()) else {
                return Next::Broken("malformed reply");
            };
            if line.get(3) == Some(&b'-') {
                continue;
            }
            match each(code) {
                Next::Wait => {}
                end => return end,
            }
        }
    }
}

fn say(turn: &mut Turn<'_>, line: &str) -> Next {
    turn.out.extend_from_slice(line.as_bytes());
    turn.out.extend_from_slice(b"\r\n");
    Next::Wait
}

fn refused(turn: &mut Turn<'_>, code: u16) {
    turn.tally.refused += 1;
    turn.tally.reply(&code.to_string());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Quit,
}

/// Tries recipients that do not exist.
#[derive(Debug)]
pub(super) struct Probe {
    domain: String,
    tries: u64,
    /// Whether everything is said at once, before the greeting.
    early: bool,
    step: Step,
    replies: Replies,
    asked: Instant,
}

impl Probe {
    pub(super) fn new(domain: &str, tries: u64) -> Probe {
        let domain = domain.to_owned();
        Probe { domain, tries, early: false, step: Step::Greeting, replies: Replies::default(), asked: Instant::ZERO }
    }
    pub(super) fn early(domain: &str, tries: u64) -> Probe {
        Probe { early: true, ..Probe::new(domain, tries) }
    }

    fn recipient(&self, turn: &mut Turn<'_>) -> String {
        const FIRST: [&str; 8] = ["info", "sales", "admin", "anna", "john", "office", "peter", "maria"];
        let name = FIRST[turn.rng.usize(..FIRST.len())];
        format!("RCPT TO:<{name}.{:06x}@{}>", turn.rng.u32(..1 << 24), self.domain)
    }

    fn reply(&mut self, code: u16, turn: &mut Turn<'_>) -> Next {
        let good = code / 100 == 2;
        match self.step {
            Step::Greeting | Step::Hello | Step::Mail if !good => {
                refused(turn, code);
                // A refusal of the session often comes with its end; who is still heard says goodbye.
                self.quit(turn)
            }
            Step::Greeting => self.go(Step::Hello, "EHLO bot.example.net", turn),
            Step::Hello => self.go(Step::Mail, "MAIL FROM:<offers@bot.example.net>", turn),
            Step::Mail => self.next_recipient(turn),
            Step::Rcpt => {
                turn.tally.command("rcpt", turn.now.since(self.asked));
                if good {
                    turn.tally.accepted += 1;
                } else {
                    refused(turn, code);
                }
                self.tries -= 1;
                if self.tries == 0 || code == 421 || turn.over {
                    return self.quit(turn);
                }
                self.next_recipient(turn)
            }
            Step::Quit => Next::Close,
        }
    }

    fn next_recipient(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.early {
            // It was asked for long ago.
            self.step = Step::Rcpt;
            return Next::Wait;
        }
        self.asked = turn.now;
        let rcpt = self.recipient(turn);
        self.go(Step::Rcpt, &rcpt, turn)
    }

    fn go(&mut self, step: Step, line: &str, turn: &mut Turn<'_>) -> Next {
        self.step = step;
        if self.early { Next::Wait } else { say(turn, line) }
    }

    fn quit(&mut self, turn: &mut Turn<'_>) -> Next {
        let said = self.early;
        self.step = Step::Quit;
        if said { Next::Close } else { say(turn, "QUIT") }
    }
}

impl Client for Probe {
    fn connected(&mut self, turn: &mut Turn<'_>) -> Next {
        if self.early {
            say(turn, "EHLO bot.example.net");
            say(turn, "MAIL FROM:<offers@bot.example.net>");
            let rcpt = self.recipient(turn);
            self.asked = turn.now;
            say(turn, &rcpt);
        }
        Next::Wait
    }
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        let mut replies = std::mem::take(&mut self.replies);
        let next = replies.feed(bytes, |code| self.reply(code, turn));
        self.replies = replies;
        next
    }
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.step != Step::Quit {
            turn.tally.cut += 1;
            turn.tally.refused += 1;
        }
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuessStep {
    Greeting,
    Hello,
    Auth,
    Quit,
}

/// Guesses passwords.
#[derive(Debug)]
pub(super) struct Guess {
    domain: String,
    tries: u64,
    number: u64,
    step: GuessStep,
    replies: Replies,
    asked: Instant,
}

impl Guess {
    pub(super) fn new(domain: &str, tries: u64, number: u64) -> Guess {
        let (replies, domain) = (Replies::default(), domain.to_owned());
        Guess { domain, tries, number, step: GuessStep::Greeting, replies, asked: Instant::ZERO }
    }

    fn auth(&mut self, turn: &mut Turn<'_>) -> Next {
        self.step = GuessStep::Auth;
        self.asked = turn.now;
        // RFC 4616: authorization id (none), authentication id, password.
        let user = format!("user{}@{}", self.number % 100 + 1, self.domain);
        let plain = format!("\0{user}\0guess-{:08x}", turn.rng.u32(..));
        say(turn, &format!("AUTH PLAIN {}", base64(plain.as_bytes())))
    }

    fn reply(&mut self, code: u16, turn: &mut Turn<'_>) -> Next {
        let good = code / 100 == 2;
        match self.step {
            GuessStep::Greeting if good => {
                self.step = GuessStep::Hello;
                say(turn, "EHLO bot.example.net")
            }
            GuessStep::Hello if good => self.auth(turn),
            GuessStep::Greeting | GuessStep::Hello => {
                refused(turn, code);
                self.quit(turn)
            }
            GuessStep::Auth => {
                turn.tally.command("auth", turn.now.since(self.asked));
                if good {
                    turn.tally.accepted += 1;
                } else {
                    refused(turn, code);
                }
                self.tries -= 1;
                if self.tries == 0 || good || code == 421 || turn.over { self.quit(turn) } else { self.auth(turn) }
            }
            GuessStep::Quit => Next::Close,
        }
    }

    fn quit(&mut self, turn: &mut Turn<'_>) -> Next {
        self.step = GuessStep::Quit;
        say(turn, "QUIT")
    }
}

impl Client for Guess {
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        let mut replies = std::mem::take(&mut self.replies);
        let next = replies.feed(bytes, |code| self.reply(code, turn));
        self.replies = replies;
        next
    }
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.step != GuessStep::Quit {
            turn.tally.cut += 1;
        }
        true
    }
}

/// Base64 (RFC 4648 §4), for a few octets.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let n = three.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(n >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests_support::Play;

    #[test]
    fn a_dictionary_is_tried_and_counted() {
        for cut in Play::<Probe>::CUTS {
            let mut p = Play::new(Probe::new("x.test", 3), cut);
            p.s("220 hello").c("EHLO bot.example.net").s("250-x\r\n250 SIZE").c("MAIL FROM:<offers@bot.example.net>");
            p.s("250 ok").c_begins("RCPT TO:<").s("550 no").c_begins("RCPT TO:<").s("250 yes").c_begins("RCPT TO:<");
            p.s("450 later").c("QUIT").s("221 bye").ends(Next::Close);
            assert_eq!((p.tally.accepted, p.tally.refused), (1, 2));
            assert_eq!(p.tally.commands["rcpt"].quantiles().count, 3);
        }
    }

    #[test]
    fn an_early_talker_is_refused_or_not() {
        let mut p = Play::new(Probe::early("x.test", 1), 0);
        p.c_begins("EHLO bot.example.net\r\nMAIL FROM:<offers@bot.example.net>\r\nRCPT TO:<");
        p.s("554 you spoke first").ends(Next::Close);
        assert_eq!((p.tally.accepted, p.tally.refused), (0, 1));
        let mut p = Play::new(Probe::early("x.test", 1), 1);
        p.c_begins("EHLO").s("220 hello\r\n250 x\r\n250 ok\r\n250 ok").ends(Next::Close);
        assert_eq!((p.tally.accepted, p.tally.refused), (1, 0));
        let mut p = Play::new(Probe::early("x.test", 1), 0);
        p.c_begins("EHLO");
        assert!(p.eof());
        assert_eq!((p.tally.cut, p.tally.refused), (1, 1));
    }

    #[test]
    fn passwords_are_guessed_until_the_server_has_enough() {
        let mut p = Play::new(Guess::new("x.test", 5, 0), 0);
        p.s("220 x").c("EHLO bot.example.net").s("250 AUTH PLAIN").c_begins("AUTH PLAIN AHVzZXIxQHgudGVzdABndWVzcy");
        p.s("535 no").c_begins("AUTH PLAIN ").s("421 enough").c("QUIT");
        assert_eq!((p.tally.accepted, p.tally.refused), (0, 2));
        Play::new(Guess::new("x.test", 5, 0), 0).s("hello").ends(Next::Broken("malformed reply"));
    }

    #[test]
    fn base64_as_the_rfc_has_it() {
        // RFC 4648 §10.
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
