//! Reading: what the octets that arrived mean in the state the session is in, and lines into commands.
//!
//! How it fails: a line that is none is refused and its end found, so that the session stays in step.

use super::cmd;
use super::session::Session;
use super::state::{Phase, State};
use crate::base::buf::Input;
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};
use crate::wire::pop3::{self, Frame, LINE_OCTETS_MAX, Line, LineError, SASL_LINE_OCTETS_MAX};

impl Session {
    /// Whether looking at the input again makes sense.
    pub(super) fn advance(&mut self, now: Instant, input: &mut Input<'_>) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Command => self.read_command(now, input),
            State::SkipLine => self.skip_line(now, input),
            State::Sasl(exchange) => cmd::auth::read_response(self, now, input, exchange),
            other => {
                self.state = other;
                false
            }
        }
    }

    fn read_command(&mut self, now: Instant, input: &mut Input<'_>) -> bool {
        let rest = input.rest();
        // A TLS client on a port without: its record may have no line end for long.
        match rest {
            [0x16] => {
                self.state = State::Command;
                return false;
            }
            [0x16, 0x03, ..] => {
                self.dismiss(&replies::foreign_protocol());
                return true;
            }
            _ => {}
        }
        // RFC 5034 §4: an initial response may be as long as any line of the exchange.
        let is_auth = rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH "));
        let octets_max = if is_auth { SASL_LINE_OCTETS_MAX } else { LINE_OCTETS_MAX };
        match pop3::frame(rest, octets_max) {
            Frame::Line { line, consumed } => {
                input.consume(consumed);
                self.run_line(now, line);
                true
            }
            Frame::Partial => {
                self.state = State::Command;
                false
            }
            Frame::TooLong => self.refuse_long_line(now, input, octets_max, &replies::line_too_long()),
        }
    }

    /// More octets than a line can have: says so, and goes on behind its end.
    pub(super) fn refuse_long_line(
        &mut self,
        now: Instant,
        input: &mut Input<'_>,
        octets: usize,
        response: &Response,
    ) -> bool {
        input.consume(octets);
        self.refuse(now, response);
        if let State::Command = self.state {
            self.enter(now, State::SkipLine);
        }
        true
    }

    /// Swallows up to the LF.
    fn skip_line(&mut self, now: Instant, input: &mut Input<'_>) -> bool {
        let rest = input.rest();
        match memchr::memchr(b'\n', rest) {
            Some(n) => {
                input.consume(n + 1);
                self.enter(now, State::Command);
            }
            None => {
                input.consume(rest.len());
                self.state = State::SkipLine;
            }
        }
        true
    }

    fn run_line(&mut self, now: Instant, line: &[u8]) {
        self.counters.commands += 1;
        if let Phase::Authorization { .. } = self.phase {
            self.counters.commands_before_login += 1;
            if self.counters.commands_before_login > self.settings.knobs.commands_before_login_max {
                return self.dismiss(&replies::too_many_commands());
            }
        }
        let response = match pop3::parse_line(line) {
            Ok(Line::Command(verb, argument)) => return cmd::run(self, now, verb, argument),
            Ok(Line::Foreign) => return self.dismiss(&replies::foreign_protocol()),
            Ok(Line::Unknown) => replies::unknown_command(),
            Ok(Line::Empty) => replies::empty_line(),
            Err(LineError::Control) => replies::control_character(),
            Err(LineError::NotUtf8) => replies::not_utf8(),
        };
        self.refuse(now, &response);
    }
}
