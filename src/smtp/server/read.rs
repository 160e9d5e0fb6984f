//! Reading: what the octets that arrived mean in the state the session is in, and lines into commands.
//!
//! How it fails: a line that is none is refused and its end found, so that the session stays in step.

use super::SASL_LINE_OCTETS_MAX;
use super::{Ask, Flow, Leaving, PeerRights, Pending, REPLIES_OCTETS_HIGH, Server, Standing, State, Then};
use crate::base::buf::Input;
use crate::base::time::Instant;
use crate::smtp::cmd;
use crate::wire::command::{self, Frame, Line, LineError, Verb};
use crate::wire::proxy::{self, Parsed};
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

impl Server {
    pub(super) fn advance(&mut self, now: Instant, input: &mut Input<'_>) -> Flow {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Proxy => self.read_proxy(now, input),
            State::Greet => {
                // RFC 5321 §3.1, §4.3.1: the client waits for the greeting.
                self.ask(Ask::Connect { early_talker: true }, Pending::Connect);
                Flow::Again
            }
            State::Command => self.read_command(now, input),
            State::SkipLine { after_cr } => self.skip_line(now, input, after_cr),
            State::Sasl(exchange) => cmd::auth::read_response(self, now, input, exchange),
            State::Data(intake) => cmd::data::read_text(self, now, input, intake),
            State::Chunk(chunk) => cmd::bdat::read_chunk(self, now, input, chunk),
            State::Swallow(skip) => cmd::bdat::swallow(self, now, input, skip),
            other @ (State::Asked(_) | State::Held(_) | State::StartTls | State::Closed) => {
                self.state = other;
                Flow::Wait
            }
        }
    }

    fn read_proxy(&mut self, now: Instant, input: &mut Input<'_>) -> Flow {
        match proxy::parse(input.rest()) {
            Parsed::NeedMore => {
                self.state = State::Proxy;
                return Flow::Wait;
            }
            Parsed::Done { consumed, endpoints } => {
                input.consume(consumed);
                if let Some(e) = endpoints {
                    (self.peer.client, self.peer.local) = (e.source, e.destination);
                    // What the proxy's address entitles it to is not the client's.
                    self.peer.rights = PeerRights::default();
                }
                self.begin_greeting(now);
            }
            Parsed::Invalid(_) => self.close(),
        }
        Flow::Again
    }

    fn read_command(&mut self, now: Instant, input: &mut Input<'_>) -> Flow {
        let rest = input.rest();
        // A TLS client on a port without: its record may have no line end for long.
        match rest {
            [0x16] => {
                self.state = State::Command;
                return Flow::Wait;
            }
            [0x16, 0x03, ..] => {
                self.respond_after(now, Duration::ZERO, vec![replies::foreign_protocol()], Then::Close);
                return Flow::Again;
            }
            _ => {}
        }
        // RFC 4954 §4: an initial response may be as long as any line of the exchange.
        let is_auth = rest.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"));
        let octets_max = if is_auth { SASL_LINE_OCTETS_MAX } else { self.config.knobs.line_octets_max };
        match command::frame(rest, octets_max) {
            Frame::Line { line, consumed } => {
                input.consume(consumed);
                if !input.is_empty() {
                    self.notice_pipelining(line);
                }
                self.run_line(now, line);
                Flow::Again
            }
            Frame::Partial => {
                self.state = State::Command;
                Flow::Wait
            }
            Frame::BareLf => self.skip_bare_line(now, input),
            Frame::TooLong => {
                let after_cr = input.consume(octets_max).last() == Some(&b'\r');
                self.complain(now, replies::line_too_long(), State::SkipLine { after_cr })
            }
        }
    }

    /// A LF without CR is no end of line: says so, and goes on behind the next CRLF.
    pub(in crate::smtp) fn skip_bare_line(&mut self, now: Instant, input: &mut Input<'_>) -> Flow {
        self.counters.bare_line_feeds += 1;
        let rest = input.rest();
        input.consume(rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |n| n + 1));
        self.complain(now, replies::bare_line_feed(), State::SkipLine { after_cr: false })
    }

    /// A refusal in the middle of a line; `then` finds its end.
    pub(in crate::smtp) fn complain(&mut self, now: Instant, reply: Reply, then: State) -> Flow {
        self.respond(now, reply);
        if let State::Command = self.state {
            self.enter(then, now);
        }
        Flow::Again
    }

    /// Swallows up to the CRLF.
    fn skip_line(&mut self, now: Instant, input: &mut Input<'_>, mut after_cr: bool) -> Flow {
        let rest = input.rest();
        let end = rest.iter().position(|b| {
            let found = after_cr && *b == b'\n';
            after_cr = *b == b'\r';
            found
        });
        match end {
            Some(n) => {
                input.consume(n + 1);
                self.enter(State::Command, now);
            }
            None => {
                input.consume(rest.len());
                self.state = State::SkipLine { after_cr };
            }
        }
        Flow::Again
    }

    fn run_line(&mut self, now: Instant, line: &[u8]) {
        let reply = match command::parse_line(line) {
            Ok(Line::Command(Verb::Quit, _)) => return cmd::run(self, now, Verb::Quit, ""),
            Ok(Line::Foreign) => {
                return self.respond_after(now, Duration::ZERO, vec![replies::foreign_protocol()], Then::Close);
            }
            _ if self.standing == Standing::TurnedAway => replies::turned_away(),
            Ok(Line::Command(verb, argument)) => return cmd::run(self, now, verb, argument),
            Ok(Line::Unknown) => {
                self.counters.foreign_commands += 1;
                replies::unknown_command()
            }
            Ok(Line::Empty) => replies::empty_line(),
            Err(error) => {
                self.counters.foreign_commands += 1;
                match error {
                    LineError::Control => replies::control_character(),
                    LineError::NotUtf8 => replies::not_utf8(),
                }
            }
        };
        if self.count_idle() {
            self.respond(now, reply);
        }
    }

    /// Counts commands behind which nothing may be sent before their reply (RFC 2920 §3.1, RFC 3207 §4, RFC 4954 §4), and
    /// any group before EHLO. They are served in order all the same; what they mean is the policy's to say.
    fn notice_pipelining(&mut self, line: &[u8]) {
        let Ok(Line::Command(verb, _)) = command::parse_line(line) else { return };
        if !self.is_extended() || cmd::ends_group(verb) {
            self.counters.improper_pipelining += 1;
        }
    }

    /// Counts a command that brings no mail nearer; false when it was one too many.
    pub(in crate::smtp) fn count_idle(&mut self) -> bool {
        self.counters.idle_commands += 1;
        let within = self.counters.idle_commands <= self.config.knobs.idle_commands_max;
        if !within {
            self.dismiss(&replies::too_many_idle_commands());
        }
        within
    }

    /// After the end of the input nothing that waits for the client can go on. Replies are still sent.
    pub(super) fn leave_after_eof(&mut self) {
        let waits_for_client = !matches!(self.state, State::Asked(_) | State::Held(_) | State::Closed);
        if self.leaving == Leaving::Eof && waits_for_client && self.replies.len() < REPLIES_OCTETS_HIGH {
            self.close();
        }
    }
}
