//! A client that connects for nothing: it hears the greeting and tears the connection down.
//!
//! How it fails: a server that closes without a greeting, or greets with a refusal, is counted as refusing.

use crate::client::{Client, Next, Turn};

#[derive(Debug)]
pub(super) struct Flood;

impl Client for Flood {
    fn input(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Next {
        // SMTP, IMAP and POP3 greet with 2xx, "* OK" and "+OK".
        if [&b"2"[..], b"* OK", b"+OK"].iter().any(|good| bytes.starts_with(good)) {
            turn.tally.accepted += 1;
        } else {
            turn.tally.refused += 1;
        }
        Next::Drop
    }
    fn ended(&mut self, turn: &mut Turn<'_>) -> bool {
        turn.tally.cut += 1;
        turn.tally.refused += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests_support::Play;

    #[test]
    fn greeted_refused_or_hung_up_on() {
        let mut p = Play::new(Flood, 0);
        p.s("220 hello").ends(Next::Drop);
        assert_eq!((p.tally.accepted, p.tally.refused), (1, 0));
        let mut p = Play::new(Flood, 0);
        p.s("421 full").ends(Next::Drop);
        assert_eq!((p.tally.accepted, p.tally.refused), (0, 1));
        let mut p = Play::new(Flood, 0);
        assert!(p.eof());
        assert_eq!(p.tally.cut, 1);
    }
}
