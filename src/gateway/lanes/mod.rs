//! The lanes: threads that may block, each behind a bounded queue, and what they send to the cores.
//!
//! A core never waits for a lane: a full queue is answered at once (4xx to the client), and an answer for a connection
//! that is gone meanwhile finds nobody, because its slot has another generation. How it fails: a lane that ends drops
//! its queue; asking it then is like asking a full one.

mod password;
mod spool;

pub(super) use password::PasswordLane;
pub(super) use spool::{Attempted, SpoolLane, SpoolRequest};

use super::core::{Asker, Core, End};
use crate::base::body::BodyFile;
use crate::base::envelope::Envelope;
use crate::base::id::SpoolId;
use crate::base::proof::Committed;
use crate::base::time::Instant;
use crate::lookup::{Answer as LookupAnswer, Asked, Question};
use crate::reactor::Id;
use crate::smtp::server::{Answer, SaslAnswer};
use std::io;
use std::sync::Arc;

/// What the lanes and the main thread tell a core.
pub(super) enum Message {
    /// The spool lane has committed a client's message, or could not.
    Kept { asker: Asker, result: Result<Committed, String> },
    /// The spool lane has written a piece of a body to a file, or could not.
    Spilled { asker: Asker, result: Result<Arc<dyn BodyFile>, String> },
    /// The spool lane has read a piece of a body; the flag says that it is the last.
    BodyRead { leg: Id, part: io::Result<(Vec<u8>, bool)> },
    /// A message of the spool is due.
    Deliver(Box<Attempted>),
    /// The password lane's answer.
    Sasl { asker: Asker, answer: SaslAnswer },
    /// The lookup lane's answer.
    Lookup { to: LookupTo, answer: LookupAnswer },
    /// Stop accepting and be gone by then.
    Drain(Instant),
}

/// Where the answer to a lookup belongs, on one core.
#[derive(Clone, Copy, Debug)]
pub(super) enum LookupTo {
    /// A client waits for a fact.
    Client(Asker),
    /// A destination looks for its hosts.
    Destination(usize),
}

/// The token the lookup lane carries: which core, and where there.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookupToken {
    pub core: u16,
    pub to: LookupTo,
}

impl Core {
    /// Handles what a lane said.
    pub(super) fn message(&mut self, message: Message) {
        match message {
            Message::Kept { asker, result } => self.kept(asker, result),
            Message::Spilled { asker, result } => self.answers.push_back((asker, Answer::Spilled(result))),
            Message::BodyRead { leg, part } => {
                if let Some(End::Leg(l)) = self.take(leg) {
                    self.leg_body(l, part);
                }
            }
            Message::Deliver(attempted) => self.deliver(*attempted),
            Message::Sasl { asker, answer } => self.answers.push_back((asker, Answer::Sasl(answer))),
            Message::Lookup { to: LookupTo::Client(asker), answer } => self.client_looked_up(asker, answer),
            Message::Lookup { to: LookupTo::Destination(index), answer } => self.destination_answered(index, answer),
            Message::Drain(until) => self.drain(until),
        }
    }

    /// Asks the lookup lane; the answer when it is known at once.
    pub(super) fn ask_lookup(&mut self, to: LookupTo, question: &Question) -> Option<LookupAnswer> {
        match self.shared.lookup.ask(LookupToken { core: self.number, to }, question) {
            Asked::Waiting => None,
            Asked::Now(_, answer) => Some(answer),
        }
    }

    /// Gives a request to this core's spool lane; gives it back when the lane's queue is full.
    pub(super) fn ask_spool(&mut self, request: SpoolRequest) -> Result<(), SpoolRequest> {
        self.shared.spool_lanes[usize::from(self.number)].ask(request)
    }
}

/// A message as the spool is to keep it.
pub(super) struct ToKeep {
    pub id: SpoolId,
    pub envelope: Envelope,
    pub prefix: Vec<u8>,
    pub body: crate::base::body::Body,
    /// Destination of each recipient, in the order of the envelope.
    pub destinations: Vec<String>,
    /// Why it is not to be delivered yet (quarantine).
    pub hold: Option<String>,
}

/// Puts a message into a core's inbox from a lane. The inbox is bounded and the core empties it every turn, so a lane
/// (which may block) waits; only a core that has ended is given up on.
pub(super) fn deliver(to: &crate::base::queue::Sender<Message>, message: Message) {
    let mut message = message;
    while let Err(back) = to.push(message) {
        if to.is_abandoned() {
            return;
        }
        message = back;
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}
