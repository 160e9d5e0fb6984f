//! Lines from a stream, with a limit.
//!
//! How it fails: a line that is too long, or the stream's own error; both end the conversation.

use std::io::{self, Read};

/// Octets of one read.
const READ_OCTETS: usize = 16 * 1024;

/// Why there is no line.
#[derive(Debug)]
pub enum LineError {
    /// No line end within the limit.
    TooLong,
    /// The stream failed or was silent for too long.
    Io(io::Error),
}

/// Reads lines.
#[derive(Debug)]
pub struct LineReader<R> {
    stream: R,
    octets_max: usize,
    buffer: Vec<u8>,
    /// What has been handed out.
    taken: usize,
    /// What has been searched for a line end.
    searched: usize,
}

impl<R: Read> LineReader<R> {
    /// Lines of `stream` of at most `octets_max`.
    pub fn new(stream: R, octets_max: usize) -> LineReader<R> {
        LineReader { stream, octets_max, buffer: Vec::new(), taken: 0, searched: 0 }
    }

    /// The next line without its end; `None` at the end of the stream. A last line without end does not count.
    pub fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let end = self.searched + at;
                self.taken = end + 1;
                self.searched = end + 1;
                return Ok(Some(&self.buffer[..end]));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.octets_max {
                return Err(LineError::TooLong);
            }
            let begin = self.buffer.len();
            self.buffer.resize(begin + READ_OCTETS, 0);
            let read = self.stream.read(&mut self.buffer[begin..]);
            self.buffer.truncate(begin + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LineError::Io(error)),
            }
        }
    }
}
