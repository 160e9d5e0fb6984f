//! The lanes: threads that may block, each behind a bounded queue, and what they send to the cores.
//!
//! A core never waits for a lane: a full queue is answered at once (4xx to the client), and an answer for a connection
//! that is gone meanwhile finds nobody, because its slot has another generation. How it fails: a lane that ends drops
//! its queue; asking it then is like asking a full one.

mod mailbox;
mod password;
mod spool;

pub(super) use mailbox::{DeliveryFor, MailboxLanes};
pub(super) use password::PasswordLane;
pub(super) use spool::{Attempted, SpoolLane, SpoolRequest};

use super::access::Told;
use super::core::{Asker, Core, End};
use crate::base::body::Body;
use crate::base::envelope::Envelope;
use crate::base::id::{SessionId, SpoolId};
use crate::base::inquiry::Finding;
use crate::base::mailbox::MailboxId;
use crate::base::mailbox::ask::{Reply as StoreReply, StoreError};
use crate::base::proof::Committed;
use crate::base::queue::Sender;
use crate::base::time::Instant;
use crate::lookup::{Answer as LookupAnswer, Asked, Question};
use crate::mailstore::Delivered;
use crate::reactor::Id;
use crate::sasl::server::SaslAnswer;
use crate::smtp::server::Answer;
use crate::spool::SpoolError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the lanes and the main thread tell a core.
pub(super) enum Message {
    /// The spool lane has committed a client's message, or could not.
    Kept { asker: Asker, result: Result<Committed, SpoolError> },
    /// The spool lane has written a piece of a text to a scratch file (its number), or could not.
    Spilled { asker: Asker, result: Result<u64, String> },
    /// The spool lane has ended a scratch file, or could not.
    Whole { asker: Asker, result: Result<Body, String> },
    /// The spool lane has read a piece of a body.
    BodyRead { leg: Id, offset: u64, part: io::Result<Vec<u8>> },
    /// A message of the spool is due.
    Deliver(Box<Attempted>),
    /// The password lane's answer.
    Sasl { asker: Asker, answer: SaslAnswer },
    /// The lookup lane's answer.
    Lookup { to: LookupTo, answer: LookupAnswer },
    /// The lookup lane has found something out for a client.
    Found { conn: Id, number: u32, finding: Finding },
    /// A mailbox lane's answer to a session.
    Stored { asker: Asker, result: Result<StoreReply, StoreError> },
    /// Mail has been delivered into mailboxes, or not; `None` is a fault of the store.
    Delivered { whose: DeliveryFor, delivered: Option<Delivered> },
    /// A mailbox that a session watches has changed.
    Touched { conn: Id, mailbox: MailboxId },
    /// Somebody wants the record of a session that may be open here.
    Peek { session: SessionId, reply: crossbeam::channel::Sender<Option<Vec<u8>>> },
    /// Stop accepting and be gone by then.
    Drain(Instant),
}

/// Where the answer to a lookup belongs, on one core.
#[derive(Clone, Copy, Debug)]
pub(super) enum LookupTo {
    /// A client's session wants to know; by the number it gave its inquiry.
    Client {
        /// Which client.
        conn: Id,
        /// Which inquiry.
        number: u32,
    },
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
            Message::Spilled { asker, result } => self.spilled(asker, result),
            Message::Whole { asker, result } => self.whole(asker, result),
            Message::BodyRead { leg, offset, part } => {
                if let Some(End::Leg(l)) = self.take(leg) {
                    self.leg_body(l, offset, part);
                }
            }
            Message::Deliver(attempted) => self.deliver(*attempted),
            Message::Sasl { asker, answer } => match self.take(asker.conn) {
                Some(End::Access(a)) => self.access_answered(a, asker.question, Told::Sasl(answer)),
                Some(other) => {
                    self.put(asker.conn, other);
                    self.answers.push_back((asker, Answer::Sasl(answer)));
                }
                None => {}
            },
            Message::Stored { asker, result } => {
                if let Some(End::Access(a)) = self.take(asker.conn) {
                    self.access_answered(a, asker.question, Told::Store(result));
                }
            }
            Message::Delivered { whose, delivered } => self.delivered(whose, delivered),
            Message::Touched { conn, mailbox } => {
                if let Some(End::Access(a)) = self.take(conn) {
                    self.access_touched(a, mailbox);
                }
            }
            Message::Lookup { to: LookupTo::Destination(index), answer } => self.destination_answered(index, answer),
            // Clients inquire; they put no questions.
            Message::Lookup { to: LookupTo::Client { .. }, .. } => {}
            Message::Found { conn, number, finding } => self.client_found(conn, number, &finding),
            Message::Peek { session, reply } => {
                // Whoever asked may have lost patience.
                let _ = reply.try_send(self.peek(session));
            }
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
    pub(super) fn ask_spool(&mut self, request: SpoolRequest) -> Result<(), Box<SpoolRequest>> {
        self.shared.lanes[usize::from(self.number)].ask(request)
    }
}

/// A message as the spool is to keep it.
pub(super) struct ToKeep {
    pub id: SpoolId,
    pub envelope: Envelope,
    pub prefix: Vec<u8>,
    pub body: Body,
    /// Destination of each recipient, in the order of the envelope.
    pub destinations: Vec<String>,
    /// Why it is not to be delivered yet (quarantine).
    pub hold: Option<String>,
}

/// The way into a core's inbox, and whether anybody still reads there.
#[derive(Clone)]
pub(super) struct CoreMail {
    sender: Sender<Message>,
    closed: Arc<AtomicBool>,
}

impl CoreMail {
    pub fn new(sender: Sender<Message>) -> CoreMail {
        CoreMail { sender, closed: Arc::default() }
    }
    /// The core has ended.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// Puts a message into a core's inbox from a lane. The inbox is bounded and the core empties it every turn, so a lane
/// (which may block) waits; only a core that has ended is given up on.
pub(super) fn deliver(to: &CoreMail, message: Message) {
    let mut message = message;
    while let Err(back) = to.sender.push(message) {
        if to.closed.load(Ordering::Acquire) {
            return;
        }
        message = back;
        std::thread::sleep(Duration::from_micros(200));
    }
}
