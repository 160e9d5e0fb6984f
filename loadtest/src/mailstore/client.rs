//! Clients as plain as can be, over blocking sockets: what they cost is the same for every server.
//!
//! How it fails: an answer other than the expected one is an error with that answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest any single answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that is read line by line.
pub struct Line {
    stream: TcpStream,
    read: BufReader<TcpStream>,
    line: Vec<u8>,
}

fn failed(doing: &str) -> impl Fn(std::io::Error) -> String {
    let doing = doing.to_owned();
    move |error| format!("{doing}: {error}")
}

impl Line {
    /// Connects.
    pub fn connect(to: SocketAddr) -> Result<Line, String> {
        let stream = TcpStream::connect(to).map_err(failed("connecting"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed("connecting"))?;
        stream.set_nodelay(true).map_err(failed("connecting"))?;
        let read = BufReader::with_capacity(256 * 1024, stream.try_clone().map_err(failed("connecting"))?);
        Ok(Line { stream, read, line: Vec::new() })
    }

    /// Sends.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(failed("sending"))
    }

    /// One line without its end.
    pub fn line(&mut self) -> Result<&[u8], String> {
        self.line.clear();
        let n = self.read.read_until(b'\n', &mut self.line).map_err(failed("reading"))?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(self.line.trim_ascii_end())
    }

    /// A reply of SMTP or LMTP, all its lines, which must have this code.
    pub fn reply(&mut self, code: &str) -> Result<(), String> {
        loop {
            let line = self.line()?;
            if line.get(3) != Some(&b'-') {
                return expect(line, code);
            }
        }
    }

    /// A command of IMAP; octets of its answer. Literals are read by their length.
    pub fn imap(&mut self, command: &str) -> Result<u64, String> {
        self.send(format!("x {command}\r\n").as_bytes())?;
        self.imap_answer(command)
    }

    /// The answer to a command of IMAP whose tag is `x`.
    pub fn imap_answer(&mut self, command: &str) -> Result<u64, String> {
        let mut octets = 0;
        loop {
            let line = self.line()?;
            octets += line.len() as u64 + 2;
            if line.starts_with(b"x ") {
                return expect(line, "x OK").map(|()| octets).map_err(|e| format!("{command}: {e}"));
            }
            if let Some(n) = literal(line) {
                std::io::copy(&mut (&mut self.read).take(n), &mut std::io::sink()).map_err(failed("reading"))?;
                octets += n;
            }
        }
    }

    /// A multi-line answer of POP3; its lines.
    pub fn pop_text(&mut self) -> Result<u64, String> {
        expect(self.line()?, "+OK")?;
        let mut lines = 0;
        while self.line()? != b"." {
            lines += 1;
        }
        Ok(lines)
    }

    /// A one-line answer of POP3.
    pub fn pop(&mut self, command: &str) -> Result<(), String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        expect(self.line()?, "+OK").map_err(|e| format!("{command}: {e}"))
    }
}

fn expect(line: &[u8], begin: &str) -> Result<(), String> {
    if line.starts_with(begin.as_bytes()) {
        return Ok(());
    }
    Err(format!("expected {begin}, the server said {}", String::from_utf8_lossy(line)))
}

/// The length of a literal that is announced at the end of a line.
fn literal(line: &[u8]) -> Option<u64> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(&inner[open + 1..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12}"), Some(12));
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12} "), None);
        assert_eq!(literal(b"* 1 FETCH (X \"{12\")"), None);
    }
}
