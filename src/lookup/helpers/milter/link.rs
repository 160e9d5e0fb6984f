//! A connection to a milter: frames out and in, and what was agreed at its start.
//!
//! How it fails: every read and write has the time limit of one answer; frames that are none are garbage.

use super::super::address::Stream;
use super::super::failure::Failure;
use super::super::within;
use crate::wire::milter::{
    Actions, Command, DATA_OCTETS_MAX, Frame, Negotiation, Response, Steps, VERSION, VERSION_MIN, frame,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is offered: everything but refused recipients, of which we never tell.
const STEPS: Steps = Steps::ALL.without(Steps::REFUSED_RECIPIENTS);
/// Octets written together at least, where no answer is waited for.
const WRITE_OCTETS: usize = DATA_OCTETS_MAX;
/// Octets read at once.
const READ_OCTETS: usize = 16 * 1024;

/// How a session with the filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was told yet.
    Fresh,
    /// In a transaction.
    Open,
    /// The filter has seen the end of the message and asked us to go on.
    Done,
    /// The filter has decided; libmilter then stands where no new session can begin.
    Decided,
}

/// A connection.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    output: Vec<u8>,
    answer_timeout: Duration,
    heard: bool,
    /// Where the session stands; the conversation says it.
    pub(super) standing: Standing,
    /// What both sides understand.
    pub(super) agreed: Negotiation<'static>,
}

impl Link {
    /// Agrees with the filter behind `stream`.
    pub(super) async fn open(stream: Box<dyn Stream>, answer_timeout: Duration) -> Result<Link, Failure> {
        let offer = Negotiation { version: VERSION, actions: Actions::ALL, steps: STEPS, symbols: Vec::new() };
        let (input, output) = (Vec::new(), Vec::new());
        let mut link =
            Link { stream, input, output, answer_timeout, heard: false, standing: Standing::Fresh, agreed: offer };
        let offer = Command::Negotiate(link.agreed.clone());
        link.put(&offer);
        let (code, data) = link.frame("answer to the negotiation").await?;
        link.agreed = match parse(code, &data)? {
            Response::Negotiated(answer) => check(answer)?.into_owned(),
            other => return Err(Failure::Garbage(format!("{other:?} as answer to the negotiation"))),
        };
        link.heard = false;
        Ok(link)
    }

    /// Whether all of these steps or abilities were agreed on.
    pub(super) fn has(&self, steps: Steps) -> bool {
        self.agreed.steps.has(steps)
    }

    /// Whether anything was answered in this session.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Says it, with what follows.
    pub(super) fn put(&mut self, command: &Command<'_>) {
        command.put(&mut self.output);
    }

    /// Sends what was said once there is much of it.
    pub(super) async fn relieve(&mut self) -> Result<(), Failure> {
        if self.output.len() >= WRITE_OCTETS { self.flush("room for a write").await } else { Ok(()) }
    }

    async fn flush(&mut self, what: &'static str) -> Result<(), Failure> {
        let written = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        within(self.answer_timeout, what, written).await?;
        self.output.clear();
        Ok(())
    }

    /// Sends what was said; the next frame.
    pub(super) async fn frame(&mut self, what: &'static str) -> Result<(u8, Vec<u8>), Failure> {
        if !self.output.is_empty() {
            self.flush(what).await?;
        }
        let limit = self.answer_timeout;
        let reading = self.read(what);
        let (code, data) = tokio::time::timeout(limit, reading).await.unwrap_or(Err(Failure::Timeout(what, limit)))?;
        self.heard = true;
        Ok((code, data))
    }

    async fn read(&mut self, what: &'static str) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            let found = frame(&self.input).map_err(|e| Failure::Garbage(format!("{e} as {what}")))?;
            if let Some((Frame { code, data }, taken)) = found {
                let data = data.to_vec();
                self.input.drain(..taken);
                return Ok((code, data));
            }
            self.input.reserve(READ_OCTETS);
            let n = self.stream.read_buf(&mut self.input).await;
            if n.map_err(|e| Failure::Broken(what, e.to_string()))? == 0 {
                return Err(Failure::Closed(what));
            }
        }
    }

    /// Ends the session. Whether another one may begin on this connection.
    pub(super) async fn part(&mut self) -> Result<bool, Failure> {
        // libmilter takes a new session only behind an end of message it has answered with "continue"; otherwise it
        // would ignore every command that follows (its state machine, engine.c).
        let stays = self.standing == Standing::Done && self.agreed.version >= VERSION && self.input.is_empty();
        if self.standing == Standing::Open {
            self.put(&Command::Abort);
        }
        self.put(if stays { &Command::QuitNewConnection } else { &Command::Quit });
        self.flush("room for a write").await?;
        (self.heard, self.standing) = (false, Standing::Fresh);
        Ok(stays)
    }
}

/// Reads an answer.
pub(super) fn parse(code: u8, data: &[u8]) -> Result<Response<'_>, Failure> {
    Response::parse(Frame { code, data }).map_err(|e| Failure::Garbage(e.to_string()))
}

/// A filter takes of our offer what it wants, and nothing else.
fn check(answer: Negotiation<'_>) -> Result<Negotiation<'_>, Failure> {
    let garbage = |what: String| Err(Failure::Garbage(what));
    if !(VERSION_MIN..=VERSION).contains(&answer.version) {
        return garbage(format!("version {} of the protocol, {VERSION_MIN} to {VERSION} are spoken", answer.version));
    }
    let actions = answer.actions.without(Actions::ALL);
    if !actions.is_empty() {
        return garbage(format!("it wants actions that were not offered: {:#x}", actions.0));
    }
    let steps = answer.steps.without(STEPS).without(Steps::INTERNAL);
    if !steps.is_empty() {
        return garbage(format!("it wants protocol steps that were not offered: {:#x}", steps.0));
    }
    Ok(answer)
}
