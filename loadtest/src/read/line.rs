//! Input cut into lines, in whatever pieces it arrives.
//!
//! How it fails: a line longer than [`LINE_OCTETS_MAX`] is [`TooLong`], which ends the session.

/// Longest line taken: an IMAP response to a search over a large mailbox is one line.
pub const LINE_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// A line had no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What has arrived of a line.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes the next line, with its LF, off the front of `input`. `None`: there is none yet, and all of `input` was kept.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        let end = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        if self.begun.len() + end > LINE_OCTETS_MAX {
            return Err(TooLong);
        }
        let (line, rest) = input.split_at(end);
        *input = rest;
        self.begun.extend_from_slice(line);
        Ok(self.begun.ends_with(b"\n").then(|| std::mem::take(&mut self.begun)))
    }
}

/// The line without its end.
pub fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The first words of what a server said, for the table of refusals: its response code, or one word for want of it.
pub fn kind_of(text: &str) -> String {
    let text = text.trim();
    if let Some((code, _)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return format!("[{}]", code.split(' ').next().unwrap_or_default());
    }
    text.split_whitespace().next().unwrap_or("(nothing)").chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let text = b"one\r\ntwo\nthree";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                let mut rest = piece;
                while let Some(line) = lines.next(&mut rest).unwrap() {
                    found.push(String::from_utf8(trimmed(&line).to_vec()).unwrap());
                }
                assert!(rest.is_empty());
            }
            assert_eq!(found, ["one", "two"]);
        }
        let mut lines = Lines::default();
        let big = vec![b'x'; LINE_OCTETS_MAX];
        assert_eq!(lines.next(&mut big.as_slice()), Ok(None));
        assert_eq!(lines.next(&mut b"x".as_slice()), Err(TooLong));
    }

    #[test]
    fn kinds_are_codes_or_first_words() {
        assert_eq!(kind_of(" [AUTHENTICATIONFAILED] no"), "[AUTHENTICATIONFAILED]");
        assert_eq!(kind_of("[SYS/TEMP x] no"), "[SYS/TEMP]");
        assert_eq!(kind_of("unknown command"), "unknown");
        assert_eq!(kind_of(""), "(nothing)");
    }
}
