//! TLS below a client: from the first octet, or after the words with which its protocol asks for it.
//!
//! The client itself knows nothing of it: it is told that it is connected when the handshake is over, and a greeting that came
//! before that is handed to it then. How it fails: TLS that fails, or that the server refuses, ends the connection in words; a
//! server that greets with a refusal is heard by the client in the clear, which counts it.

use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use gatepost::reactor::tls::{ClientTls, Tls, TlsKnobs, Verify};

/// Longest line of a server before TLS.
const LINE_OCTETS_MAX: usize = 4096;

/// How connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// From the first octet (RFC 8314).
    Implicit,
    /// STARTTLS of SMTP (RFC 3207).
    Smtp,
    /// STLS of POP3 (RFC 2595 §4).
    Pop3,
    /// STARTTLS of IMAP (RFC 9051 §6.2.1).
    Imap,
}

/// How TLS is begun on the connections of a core. Certificates are not verified: it is a load test of one's own server.
pub(super) struct Start {
    client: ClientTls,
    name: String,
}

impl Start {
    /// For servers of this name; an address is not sent as SNI. Each core has its own, since a session cache has a lock.
    pub fn new(name: &str) -> Result<Start, String> {
        let client = ClientTls::load(&Verify::Opportunistic, None, &TlsKnobs::default());
        // Every session is a whole handshake, as that of a client which comes for the first time.
        let client = client.map_err(|e| format!("TLS: {e}"))?.without_resumption();
        Ok(Start { client, name: name.to_owned() })
    }
}

/// Where a connection is on its way to TLS.
enum State {
    /// The server has not greeted.
    Greeting,
    /// EHLO was said.
    Hello,
    /// TLS was asked for.
    Asked,
    Handshake(Box<Tls>, Instant),
    Up(Box<Tls>),
    /// Refused by its greeting: the client hears it.
    Clear,
}

/// One connection's.
pub(super) struct Secure {
    how: Encryption,
    state: State,
    greeting: Vec<u8>,
    line: Vec<u8>,
}

/// What came of an input.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arrived {
    /// The handshake ended now, which began then: the client may begin, with this greeting heard.
    pub up: Option<(Instant, Vec<u8>)>,
    /// Why nothing more will come.
    pub end: Option<String>,
}

impl Secure {
    /// For a connection that is up; `None` when nothing is encrypted.
    pub fn new(how: Encryption) -> Option<Box<Secure>> {
        let secure = Secure { how, state: State::Greeting, greeting: Vec::new(), line: Vec::new() };
        (how != Encryption::None).then(|| Box::new(secure))
    }

    /// The connection is up: begins what can begin without the server.
    pub fn connected(&mut self, start: &Start, now: Instant, out: &mut Chain) -> Result<(), String> {
        if self.how == Encryption::Implicit { self.handshake(start, now, out) } else { Ok(()) }
    }

    fn handshake(&mut self, start: &Start, now: Instant, out: &mut Chain) -> Result<(), String> {
        let mut tls = Tls::client(&start.client, &start.name).map_err(|e| format!("TLS: {e}"))?;
        tls.pending(out);
        self.state = State::Handshake(Box::new(tls), now);
        Ok(())
    }

    /// Octets from the server: what is for the client is appended to `plain`, what is to be sent to `out`.
    pub fn received(
        &mut self,
        bytes: &[u8],
        start: &Start,
        now: Instant,
        (plain, out): (&mut Vec<u8>, &mut Chain),
    ) -> Arrived {
        let (State::Handshake(tls, _) | State::Up(tls)) = &mut self.state else {
            return match self.before(bytes, start, now, (plain, out)) {
                Ok(()) => Arrived::default(),
                Err(why) => Arrived { up: None, end: Some(why) },
            };
        };
        let state = tls.received(bytes, plain);
        tls.pending(out);
        let state = match state {
            Ok(state) => state,
            Err(e) => return Arrived { up: None, end: Some(format!("TLS: {e}")) },
        };
        let mut arrived = Arrived { up: None, end: state.peer_closed.then(|| "closed by the server".to_owned()) };
        if state.handshake_done_now
            && let State::Handshake(tls, began) = std::mem::replace(&mut self.state, State::Clear)
        {
            self.state = State::Up(tls);
            arrived.up = Some((began, std::mem::take(&mut self.greeting)));
        }
        arrived
    }

    /// Words before TLS.
    fn before(
        &mut self,
        bytes: &[u8],
        start: &Start,
        now: Instant,
        (plain, out): (&mut Vec<u8>, &mut Chain),
    ) -> Result<(), String> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if matches!(self.state, State::Clear) {
                break;
            }
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            self.line.extend_from_slice(line);
            let line = std::mem::take(&mut self.line);
            // A reply of several lines counts with its last (RFC 5321 §4.2.1).
            let more = self.how == Encryption::Smtp && line.get(3) == Some(&b'-');
            if matches!(self.state, State::Greeting) {
                self.greeting.extend_from_slice(&line);
            }
            if more {
                continue;
            }
            let asked = matches!(self.state, State::Asked);
            self.answer(&line, plain, out)?;
            if asked && self.agreed(&line) {
                // RFC 3207 §4: the next octets are the handshake's; words in between are somebody else's.
                if !rest.is_empty() {
                    return Err("words between STARTTLS and TLS".into());
                }
                return self.handshake(start, now, out);
            }
        }
        if matches!(self.state, State::Clear) {
            plain.extend_from_slice(rest);
            return Ok(());
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_OCTETS_MAX { Err("line too long".into()) } else { Ok(()) }
    }

    fn agreed(&self, line: &[u8]) -> bool {
        match self.how {
            Encryption::Smtp => line.starts_with(b"220"),
            Encryption::Pop3 => line.starts_with(b"+OK"),
            _ => line.starts_with(b"tls OK"),
        }
    }

    /// A whole answer: what is said next. The answer to the request for TLS itself is looked at by [`Secure::agreed`].
    fn answer(&mut self, line: &[u8], plain: &mut Vec<u8>, out: &mut Chain) -> Result<(), String> {
        match self.state {
            State::Greeting => {
                let good = [&b"220"[..], b"+OK", b"* OK"].iter().any(|good| line.starts_with(good));
                if !good {
                    self.state = State::Clear;
                    plain.append(&mut self.greeting);
                    return Ok(());
                }
                let (words, next): (&[u8], State) = match self.how {
                    Encryption::Smtp => (b"EHLO load.example.test\r\n", State::Hello),
                    Encryption::Pop3 => (b"STLS\r\n", State::Asked),
                    _ => (b"tls STARTTLS\r\n", State::Asked),
                };
                out.push_bytes(words);
                self.state = next;
                Ok(())
            }
            State::Hello => {
                out.push_bytes(b"STARTTLS\r\n");
                self.state = State::Asked;
                Ok(())
            }
            State::Asked if self.agreed(line) => Ok(()),
            // IMAP may say something else in between.
            State::Asked if self.how == Encryption::Imap && line.starts_with(b"* ") => Ok(()),
            State::Asked => Err(format!("TLS was refused: {}", String::from_utf8_lossy(line.trim_ascii()))),
            State::Handshake(..) | State::Up(_) | State::Clear => Ok(()),
        }
    }

    /// What goes on the wire for what the client says.
    pub fn sealed(&mut self, plain: Vec<u8>) -> Chain {
        let plain = Chain::from(plain);
        let State::Up(tls) = &mut self.state else { return plain };
        let mut out = Chain::new();
        tls.send(&plain, &mut out);
        out
    }

    /// The last words: close_notify.
    pub fn farewell(&mut self) -> Chain {
        let mut out = Chain::new();
        if let State::Up(tls) = &mut self.state {
            tls.close(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection says to each of the server's words; the last word of all is whether TLS began.
    fn dialogue(how: Encryption, heard: &[&str]) -> (Vec<String>, Result<bool, String>, Vec<u8>) {
        let start = Start::new("127.0.0.1").unwrap();
        let mut secure = Secure::new(how).unwrap();
        let (mut said, mut plain) = (Vec::new(), Vec::new());
        for words in heard {
            let mut out = Chain::new();
            let arrived = secure.received(words.as_bytes(), &start, Instant::ZERO, (&mut plain, &mut out));
            if let Some(why) = arrived.end {
                return (said, Err(why), plain);
            }
            if !out.is_empty() && !matches!(secure.state, State::Handshake(..)) {
                said.push(String::from_utf8(out.to_vec()).unwrap());
            }
        }
        (said, Ok(matches!(secure.state, State::Handshake(..))), plain)
    }

    #[test]
    fn each_protocol_asks_in_its_words() {
        let (said, begun, _) =
            dialogue(Encryption::Smtp, &["220-hello\r\n220 the", "re\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n"]);
        assert_eq!((said.join(""), begun), ("EHLO load.example.test\r\nSTARTTLS\r\n".into(), Ok(true)));
        let (said, begun, _) = dialogue(Encryption::Pop3, &["+OK hello\r\n", "+OK begin\r\n"]);
        assert_eq!((said.join(""), begun), ("STLS\r\n".into(), Ok(true)));
        let (said, begun, _) = dialogue(Encryption::Imap, &["* OK hello\r\n", "* CAPABILITY X\r\ntls OK begin\r\n"]);
        assert_eq!((said.join(""), begun), ("tls STARTTLS\r\n".into(), Ok(true)));
    }

    #[test]
    fn refusals_are_told() {
        let (_, refused, plain) = dialogue(Encryption::Smtp, &["220 x\r\n", "250 x\r\n", "454 not now\r\n"]);
        assert_eq!((refused, plain.len()), (Err("TLS was refused: 454 not now".into()), 0));
        let (_, injected, _) = dialogue(Encryption::Pop3, &["+OK hello\r\n", "+OK begin\r\n+OK more\r\n"]);
        assert!(injected.unwrap_err().contains("words between"));
        // Who is turned away at the door hears it in the clear, all of it.
        let (said, begun, plain) = dialogue(Encryption::Smtp, &["554-no\r\n554 never\r\n"]);
        assert_eq!((said.len(), begun, plain), (0, Ok(false), b"554-no\r\n554 never\r\n".to_vec()));
        assert!(Secure::new(Encryption::None).is_none());
    }
}
