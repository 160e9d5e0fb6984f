//! Reading: what the octets that arrived mean in the phase the session is in.
//!
//! How it fails: what is no command is BAD; a literal that is not wanted is refused before it comes, where the client
//! waits, and skipped where it does not.

use super::{Flow, Session};
use crate::base::buf::Input;
use crate::base::mailbox::ask::StoreError;
use crate::imap::ask::{Answer, Ask};
use crate::imap::cmd;
use crate::imap::config::{APPEND_MESSAGES_MAX, LITERAL_MINUS_OCTETS_MAX, LiteralForm};
use crate::imap::respond::{self, Words};
use crate::imap::state::{Phase, State};
use crate::imap::upload::{Step, Upload, UploadError};
use crate::wire::imap::{Framed, Tagged, parse};
use memchr::memchr;

/// What is done with a literal.
enum Literal {
    Inline,
    Message { octets: u64, binary: bool },
    Refuse(Words),
}

/// A literal as it is announced.
struct Announced {
    octets: u64,
    non_sync: bool,
    binary: bool,
    message: bool,
}

impl Session {
    pub(super) fn advance(&mut self, input: &mut Input<'_>) -> Flow {
        match self.phase {
            Phase::Command => self.read_command(input),
            Phase::Sasl { .. } => cmd::authenticate::read_response(self, input),
            Phase::Idle { .. } => cmd::idle::read_done(self, input),
            _ => Flow::Wait,
        }
    }

    fn read_command(&mut self, input: &mut Input<'_>) -> Flow {
        let fresh = self.framer.is_idle();
        if fresh && matches!(self.state, State::NotAuthenticated) && input.rest().first() == Some(&0x16) {
            // A TLS client on a port without: its record may have no line end for long.
            self.bye("this port does not begin with TLS");
            return Flow::Again;
        }
        match self.framer.next(input) {
            Framed::NeedMore => return Flow::Wait,
            Framed::Literal { start, octets, non_sync, binary, message } => {
                let tag = start.split(|b| *b == b' ').next().unwrap_or_default();
                let tag = respond::one_line(&String::from_utf8_lossy(tag));
                self.decide(tag, Announced { octets, non_sync, binary, message });
            }
            Framed::MessageOctets(octets) => {
                if let Some(upload) = self.upload.as_mut() {
                    let step = upload.feed(octets);
                    self.take_step(step, false);
                }
            }
            Framed::MessageEnd => self.end_message(),
            Framed::Command(command) => self.run_command(&command),
            Framed::TooLong { tag, why } => {
                self.drop_upload();
                self.bad(tag, &format!("BAD {why}"));
            }
        }
        Flow::Again
    }

    fn decide(&mut self, tag: String, announced: Announced) {
        let literal = self.judge(&announced);
        match literal {
            Literal::Refuse(words) => {
                self.framer.refuse();
                self.drop_upload();
                return self.bad(Some(tag), &words);
            }
            Literal::Inline => self.framer.accept_inline(),
            Literal::Message { octets, binary } => {
                self.framer.accept_message();
                let knobs = &self.settings.knobs;
                self.upload.get_or_insert_with(|| Box::new(Upload::new(knobs))).begin(octets, binary);
            }
        }
        if !announced.non_sync {
            self.out.line("+ OK");
        }
    }

    fn judge(&self, announced: &Announced) -> Literal {
        let knobs = &self.settings.knobs;
        let Announced { octets, non_sync, binary, message } = *announced;
        if non_sync && knobs.literals == LiteralForm::Minus && octets > LITERAL_MINUS_OCTETS_MAX {
            // RFC 7888 §5
            return Literal::Refuse("BAD [TOOBIG] a literal that does not wait has 4096 octets at most".into());
        }
        if !message {
            return Literal::Inline;
        }
        if let State::NotAuthenticated | State::Logout = self.state {
            return Literal::Refuse(respond::wrong_state(&self.state, false));
        }
        if octets > knobs.append_octets_max.0 {
            // RFC 7889 §4
            let words = format!("a message has {} octets at most", knobs.append_octets_max.0);
            return Literal::Refuse(respond::no("TOOBIG", &words));
        }
        match &self.upload {
            Some(upload) if upload.bodies.len() >= APPEND_MESSAGES_MAX => {
                Literal::Refuse(respond::no("LIMIT", "too many messages in one APPEND"))
            }
            Some(upload) => match upload.error() {
                Some(error) => Literal::Refuse(cmd::append::upload_words(error)),
                None => Literal::Message { octets, binary },
            },
            None => Literal::Message { octets, binary },
        }
    }

    fn end_message(&mut self) {
        if let Some(upload) = self.upload.as_mut() {
            let step = upload.end();
            self.take_step(step, true);
        }
    }

    /// What the message on its way needs; `ended` when its last octet has come.
    fn take_step(&mut self, step: Step, ended: bool) {
        match step {
            Step::More => {}
            Step::Spill(first, chunk) => self.ask(Ask::Spill { first, chunk }, move |s, answer| match answer {
                Answer::Spilled(Ok(())) if ended => s.end_message(),
                Answer::Spilled(Ok(())) => {}
                Answer::Spilled(Err(error)) => s.fail_upload(error),
                other => {
                    debug_assert!(false, "not an answer to Spill: {other:?}");
                    s.fail_upload(StoreError::Failed);
                }
            }),
            Step::SpillEnd(shape, head) => self.ask(Ask::SpillEnd { shape, head }, |s, answer| match answer {
                Answer::Spilt(Ok(body)) => {
                    if let Some(upload) = s.upload.as_mut() {
                        upload.keep(body);
                    }
                }
                Answer::Spilt(Err(error)) => s.fail_upload(error),
                other => {
                    debug_assert!(false, "not an answer to SpillEnd: {other:?}");
                    s.fail_upload(StoreError::Failed);
                }
            }),
        }
    }

    fn fail_upload(&mut self, error: StoreError) {
        if let Some(upload) = self.upload.as_mut() {
            upload.fail(UploadError::Store(error));
        }
    }

    fn run_command(&mut self, command: &[u8]) {
        self.counters.commands += 1;
        if matches!(self.state, State::NotAuthenticated) && is_foreign(command) {
            return self.bye("this is an IMAP server");
        }
        match parse(command, self.mode()) {
            Ok(Tagged { tag, command }) => cmd::run(self, tag, command),
            Err(bad) => {
                self.drop_upload();
                let code = if bad.badcharset { "NO [BADCHARSET (US-ASCII UTF-8)] " } else { "BAD " };
                self.bad(bad.tag, &format!("{code}{}", respond::one_line(&bad.why)));
            }
        }
    }
}

/// What [`take_line`] found.
pub(in crate::imap) enum Taken<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// The end has not come yet.
    Partial,
    /// It would be too long.
    TooLong,
}

/// Takes a line that is no command; one that is not whole is left where it is.
pub(in crate::imap) fn take_line<'a>(input: &mut Input<'a>, octets_max: usize) -> Taken<'a> {
    let rest = input.rest();
    match memchr(b'\n', &rest[..rest.len().min(octets_max)]) {
        Some(at) => {
            let line = &input.consume(at + 1)[..at];
            Taken::Line(line.strip_suffix(b"\r").unwrap_or(line))
        }
        None if rest.len() >= octets_max => Taken::TooLong,
        None => Taken::Partial,
    }
}

/// The first line of another protocol: nothing that follows is for us.
fn is_foreign(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ');
    let (first, last) = (words.next().unwrap_or_default(), line.rsplit(|b| *b == b' ').next().unwrap_or_default());
    let is_http = last.starts_with(b"HTTP/");
    let is_smtp = [&b"EHLO"[..], b"HELO", b"LHLO"].iter().any(|verb| first.eq_ignore_ascii_case(verb));
    is_http || is_smtp
}
