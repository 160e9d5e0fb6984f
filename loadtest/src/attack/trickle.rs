//! A client that never finishes its command: one octet at a time, to hold a connection for as long as it is allowed to.
//!
//! How it fails: a server that ends the session has done its work; how long it bore it is timed as `endured`.

use crate::client::{Client, Next, Turn};
use gatepost::base::time::Instant;
use std::time::Duration;

/// What is said, again and again; the line end is so far away that no server waits for it.
const WORDS: &[u8] = b"EHLO a.very.slow.client.with.a.very.long.name.example.net ";

#[derive(Debug)]
pub(super) struct Trickle {
    interval: Duration,
    began: Instant,
    said: usize,
}

impl Trickle {
    pub(super) fn new(interval: Duration) -> Trickle {
        Trickle { interval, began: Instant::ZERO, said: 0 }
    }

    fn endured(&self, turn: &mut Turn<'_>) {
        turn.tally.command("endured", turn.now.since(self.began));
    }
}

impl Client for Trickle {
    fn connected(&mut self, turn: &mut Turn<'_>) -> Next {
        self.began = turn.now;
        Next::WakeAt(turn.now + self.interval)
    }
    fn input(&mut self, _bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        // The rhythm is its own, whatever the server says.
        let next = self.began + self.interval * (self.said as u32 + 1);
        Next::WakeAt(next.max(turn.now))
    }
    fn wake(&mut self, turn: &mut Turn<'_>) -> Next {
        if turn.over {
            turn.tally.accepted += 1;
            self.endured(turn);
            return Next::Drop;
        }
        turn.out.push(WORDS[self.said % WORDS.len()]);
        self.said += 1;
        Next::WakeAt(turn.now + self.interval)
    }
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool {
        turn.tally.cut += 1;
        turn.tally.refused += 1;
        self.endured(turn);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests_support::Play;

    #[test]
    fn an_octet_at_a_time_until_it_is_cut_off_or_the_run_is_over() {
        let mut p = Play::new(Trickle::new(Duration::from_secs(1)), 0);
        p.sleeps(1).wake().s_while("E", "220 hello").wake().c_is("H").wake().c_is("L");
        assert!(p.eof());
        assert_eq!((p.tally.cut, p.tally.refused), (1, 1));
        assert_eq!(p.tally.commands["endured"].quantiles().count, 1);
        let mut p = Play::new(Trickle::new(Duration::from_secs(1)), 0);
        p.over().wake().ends(Next::Drop);
        assert_eq!(p.tally.accepted, 1);
    }
}
