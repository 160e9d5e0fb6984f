//! One message told to a milter, step by step, and what it says to each.
//!
//! Steps the filter does not want are left out, those it does not answer are not waited for. How it fails: an answer
//! that does not belong to its step is garbage.

use super::super::content::Content;
use super::super::failure::Failure;
use super::super::reply::Refusal;
use super::link::{Link, Standing, parse};
use super::macros::{client_ip, client_name, macros};
use super::outcome::{Changes, Word, word};
use crate::base::address::Mailbox;
use crate::base::body::Body;
use crate::base::inquiry::{Action, Advice, Case, Edit};
use crate::wire::milter::{Command, DATA_OCTETS_MAX, Peer, Response, Stage, Steps, Text, header_fields};
use std::borrow::Cow;
use std::net::SocketAddr;

/// Versions in which a filter is told of DATA (libmilter: `xxfi_version > 3`).
const VERSION_WITH_DATA: u32 = 4;

/// A step: the flags that leave it out and silence it, and its name in errors.
struct Step {
    none: Steps,
    quiet: Steps,
    what: &'static str,
}

const CONNECT: Step = Step { none: Steps::NO_CONNECT, quiet: Steps::QUIET_CONNECT, what: "answer to connect" };
const HELO: Step = Step { none: Steps::NO_HELO, quiet: Steps::QUIET_HELO, what: "answer to HELO" };
const MAIL: Step = Step { none: Steps::NO_MAIL, quiet: Steps::QUIET_MAIL, what: "answer to MAIL" };
const RCPT: Step = Step { none: Steps::NO_RECIPIENTS, quiet: Steps::QUIET_RECIPIENTS, what: "answer to RCPT" };
const DATA: Step = Step { none: Steps::NO_DATA, quiet: Steps::QUIET_DATA, what: "answer to DATA" };
const HEADER: Step = Step { none: Steps::NO_HEADERS, quiet: Steps::QUIET_HEADERS, what: "answer to a header field" };
const END_OF_HEADERS: Step = Step {
    none: Steps::NO_END_OF_HEADERS,
    quiet: Steps::QUIET_END_OF_HEADERS,
    what: "answer to the end of the header",
};
const BODY: Step = Step { none: Steps::NO_BODY, quiet: Steps::QUIET_BODY, what: "answer to a piece of the body" };

/// Why no more is told.
enum Stop {
    /// The filter has decided.
    Decided(Advice),
    /// It cannot go on.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// Tells the case; what the filter advises. The link says how the session stands afterwards.
pub(super) async fn converse(link: &mut Link, case: &Case, body_octets_max: usize) -> Result<Advice, Failure> {
    let mut telling = Telling { link, case };
    match telling.tell(body_octets_max).await {
        Ok(advice) | Err(Stop::Decided(advice)) => Ok(advice),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

struct Telling<'a> {
    link: &'a mut Link,
    case: &'a Case,
}

impl<'a> Telling<'a> {
    async fn tell(&mut self, body_octets_max: usize) -> Result<Advice, Stop> {
        self.introduce().await?;
        let refused = self.envelope().await?;
        // As it goes on, the message is for those who are left.
        let mut advice = Advice::default();
        let removed = refused.iter().map(|(mailbox, _)| Edit::RemoveRecipient((*mailbox).clone()));
        advice.edits.extend(removed);
        if let Some(body) = &self.case.body {
            self.message(body).await?;
            self.end(&mut advice, body_octets_max).await?;
        }
        Ok(advice)
    }

    /// Connect and HELO.
    async fn introduce(&mut self) -> Result<(), Stop> {
        let case = self.case;
        let host = Cow::Owned(client_name(case).into_bytes());
        let peer = Peer::Internet(SocketAddr::new(client_ip(case), case.client.port()));
        self.macros(Stage::Connect, None);
        self.decisive(&CONNECT, &Command::Connect { host, peer }).await?;
        if !case.helo.is_empty() {
            self.macros(Stage::Helo, None);
            self.decisive(&HELO, &Command::Helo(text(&case.helo))).await?;
        }
        Ok(())
    }

    /// MAIL and every RCPT; the recipients that were refused alone.
    async fn envelope(&mut self) -> Result<Vec<(&'a Mailbox, Refusal)>, Stop> {
        let case = self.case;
        if case.transaction == 0 {
            return Ok(Vec::new()); // asked before MAIL
        }
        let path = case.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        self.macros(Stage::Mail, None);
        self.link.standing = Standing::Open;
        self.decisive(&MAIL, &Command::Mail(vec![bracketed(&path)])).await?;
        let mut refused: Vec<(&'a Mailbox, Refusal)> = Vec::new();
        for recipient in &case.recipients {
            self.macros(Stage::Recipient, Some(recipient));
            match self.step(&RCPT, &Command::Recipient(vec![bracketed(&recipient.to_string())])).await? {
                Word::Continue => {}
                // libmilter: this recipient alone.
                Word::Refused(refusal) => refused.push((recipient, refusal)),
                // libmilter: also said of a recipient, these decide about the message.
                Word::Accept => return Err(self.decided(Advice::default())),
                Word::Discard => return Err(self.decided(discard())),
                Word::Skip => break,
            }
        }
        // A recipient that is to come back later cannot be taken out for good: all of them come back.
        if let Some((_, refusal)) = refused.iter().find(|(_, refusal)| !refusal.permanent) {
            return Err(given_up(refusal.clone()));
        }
        match refused.first() {
            Some((_, first)) if refused.len() == case.recipients.len() => Err(given_up(first.clone())),
            _ => Ok(refused),
        }
    }

    /// DATA, header and body.
    async fn message(&mut self, body: &Body) -> Result<(), Stop> {
        if self.link.agreed.version >= VERSION_WITH_DATA {
            self.macros(Stage::Data, None);
            self.decisive(&DATA, &Command::Data).await?;
        }
        let head = body.head();
        let mut fields = header_fields(&head);
        let space = self.link.has(Steps::LEADING_SPACE);
        let mut skip = false;
        for field in fields.by_ref() {
            if skip {
                continue;
            }
            let name = &field.name[..field.name.len().min(DATA_OCTETS_MAX / 2)];
            // Two NULs end the texts. A longer value is cut: libmilter would drop the connection.
            let value = field.value(space, DATA_OCTETS_MAX - name.len() - 2);
            skip = self.decisive(&HEADER, &Command::Header { name: Cow::Borrowed(name), value }).await? == Word::Skip;
        }
        self.macros(Stage::EndOfHeaders, None);
        self.decisive(&END_OF_HEADERS, &Command::EndOfHeaders).await?;
        if self.link.has(BODY.none) {
            return Ok(());
        }
        let mut content = Content::new(body, fields.octets() as u64);
        while let Some(piece) = content.next(DATA_OCTETS_MAX).await? {
            if self.decisive(&BODY, &Command::Body(Cow::Owned(piece))).await? == Word::Skip {
                break;
            }
        }
        Ok(())
    }

    /// The end of the message: changes, then the decision.
    async fn end(&mut self, advice: &mut Advice, body_octets_max: usize) -> Result<(), Stop> {
        self.macros(Stage::EndOfMessage, None);
        self.link.put(&Command::EndOfMessage(Cow::Borrowed(b"")));
        let mut changes = Changes::new(self.case, self.link.has(Steps::LEADING_SPACE), body_octets_max);
        let word = loop {
            let (code, data) = self.link.frame("answer to the end of the message").await?;
            let response = parse(code, &data)?;
            if matches!(response, Response::Progress) || changes.take(&response)? {
                continue;
            }
            break word(&response)?;
        };
        self.link.standing = if word == Word::Continue { Standing::Done } else { Standing::Decided };
        match word {
            Word::Refused(refusal) => *advice = refusal.advice(),
            Word::Discard => *advice = discard(),
            Word::Continue | Word::Accept | Word::Skip => changes.finish(advice),
        }
        Ok(())
    }

    fn macros(&mut self, stage: Stage, recipient: Option<&Mailbox>) {
        if let Some(command) = macros(&self.link.agreed, self.case, stage, recipient) {
            self.link.put(&command);
        }
    }

    /// A step; what is said to it, "continue" where nothing is.
    async fn step(&mut self, step: &Step, command: &Command<'_>) -> Result<Word, Failure> {
        if self.link.has(step.none) {
            return Ok(Word::Continue);
        }
        self.link.put(command);
        if self.link.has(step.quiet) {
            self.link.relieve().await?;
            return Ok(Word::Continue);
        }
        loop {
            let (code, data) = self.link.frame(step.what).await?;
            match parse(code, &data)? {
                Response::Progress => {}
                response => return word(&response),
            }
        }
    }

    /// A step at which every word but "continue" and "skip" decides.
    async fn decisive(&mut self, step: &Step, command: &Command<'_>) -> Result<Word, Stop> {
        match self.step(step, command).await? {
            Word::Accept => Err(self.decided(Advice::default())),
            Word::Discard => Err(self.decided(discard())),
            Word::Refused(refusal) => Err(self.decided(refusal.advice())),
            word => Ok(word),
        }
    }

    fn decided(&mut self, advice: Advice) -> Stop {
        self.link.standing = Standing::Decided;
        Stop::Decided(advice)
    }
}

/// We end the transaction ourselves, since nobody is left to receive it.
fn given_up(refusal: Refusal) -> Stop {
    Stop::Decided(refusal.advice())
}

fn text(text: &str) -> Text<'_> {
    Cow::Borrowed(text.as_bytes())
}

fn bracketed(path: &str) -> Text<'static> {
    Cow::Owned(format!("<{path}>").into_bytes())
}

fn discard() -> Advice {
    Advice { action: Action::Discard, ..Advice::default() }
}
