//! The password lane: one thread that checks passwords (argon2id takes tens of milliseconds) and reads keys of accounts.
//!
//! How it fails: a full queue is `SaslAnswer::Unavailable` (454 to the client); an accounts file that cannot be read is
//! reported by `mailstore` and the accounts known before stay in force.

use super::{CoreMail, Message};
use crate::gateway::core::Asker;
use crate::mailstore::accounts::Accounts;
use crate::reactor::clock;
use crate::sasl::server::{SaslAnswer, SaslAsk};
use crossbeam::channel::{self, TrySendError};
use std::sync::Arc;

/// Logins that wait at most; each is one client that has been told nothing yet.
const WAITING_MAX: usize = 1024;

struct Request {
    core: u16,
    asker: Asker,
    ask: SaslAsk,
}

/// The queue to the lane. The thread ends when the last of these is dropped.
pub(in crate::gateway) struct PasswordLane {
    queue: channel::Sender<Request>,
}

impl PasswordLane {
    /// Starts the thread. `cores` are the inboxes, by number of the core.
    pub fn start(accounts: Arc<Accounts>, cores: Vec<CoreMail>) -> std::io::Result<PasswordLane> {
        let (queue, requests) = channel::bounded::<Request>(WAITING_MAX);
        std::thread::Builder::new().name("password".into()).spawn(move || {
            for request in requests {
                let answer = answer(&accounts, request.ask);
                super::deliver(&cores[usize::from(request.core)], Message::Sasl { asker: request.asker, answer });
            }
        })?;
        Ok(PasswordLane { queue })
    }

    /// Asks; the answer at once when the lane has too much to do.
    pub fn ask(&self, core: u16, asker: Asker, ask: SaslAsk) -> Option<SaslAnswer> {
        match self.queue.try_send(Request { core, asker, ask }) {
            Ok(()) => None,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Some(SaslAnswer::Unavailable),
        }
    }
}

fn answer(accounts: &Accounts, ask: SaslAsk) -> SaslAnswer {
    match ask {
        SaslAsk::Password { user, password } => SaslAnswer::Password(accounts.verify(&user, &password, clock::now())),
        SaslAsk::ScramKeys { user, hash } => SaslAnswer::ScramKeys(accounts.scram_keys(&user, hash)),
        SaslAsk::SharedSecret { user } => SaslAnswer::SharedSecret(accounts.shared_secret(&user)),
        // A certificate speaks for the account of its own name only.
        SaslAsk::External { identity, authzid } => SaslAnswer::External(accounts.may_act_as(&identity, &authzid)),
    }
}
