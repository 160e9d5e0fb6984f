//! The mailbox lanes: one thread that writes, so that one sync serves every change and delivery that waits; and reading
//! threads, the accounts shared out among them, so that a slow search in one account holds up neither a delivery nor
//! (but for those of its shard) another account's reading.
//!
//! Sessions watch mailboxes: after each commit the cores of those who watch what was touched are told, which is what
//! wakes IDLE. How it fails: a full queue is [`StoreError::Busy`] at once; a commit that fails refuses what was in it, and
//! is logged by the store.

use super::{CoreMail, Message, deliver};
use crate::base::mailbox::ask::{Change, Delivery, Query, Reply, StoreAsk, StoreError};
use crate::base::mailbox::{AccountId, MailboxId};
use crate::gateway::core::Asker;
use crate::gateway::deliver::Attempt;
use crate::gateway::metrics::CommitMeter;
use crate::mailstore::{BackedUp, Delivered, Glance, MailReader, MailWriter, Mailstore, MailstoreError, Outcome};
use crate::reactor::{Id, clock};
use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TrySendError};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes and deliveries that wait at most.
const WRITES_WAITING_MAX: usize = 8192;
/// Questions that wait for one reading thread at most.
const READS_WAITING_MAX: usize = 4096;
/// Changes that go into one commit at most, so that those who wait do not wait for ever.
const BATCH_MAX: usize = 1024;
/// Longest sleep: housekeeping happens at least as often.
const IDLE: Duration = Duration::from_secs(1);
/// How long an administrator waits for one answer.
const ADMINISTRATOR_WAIT: Duration = Duration::from_secs(120);
/// Octets that one round of housekeeping moves at most.
const TIDY_OCTETS: u64 = 4 << 20;

/// Who waits for a delivery into mailboxes.
#[derive(Debug)]
pub(in crate::gateway) enum DeliveryFor {
    /// A client, for the reply after end of data.
    Client(Asker),
    /// The queue, for the fate of an attempt.
    Attempt(Box<Attempt>),
}

/// Who waits for an answer, and on which core.
enum Waiting {
    Session(u16, Asker),
    Delivery(u16, DeliveryFor),
    /// An administrator, who has a thread to wait with.
    Administrator(Sender<Result<Reply, StoreError>>),
}

enum Write {
    Account(String),
    Change(AccountId, Change),
    Deliver(Delivery),
}

enum ToWriter {
    Write(Waiting, Box<Write>),
    Backup(PathBuf, Sender<Result<BackedUp, String>>),
    Stop,
}

struct Read {
    whose: Waiting,
    account: AccountId,
    query: Query,
}

/// Which connections want to hear of a mailbox.
#[derive(Default)]
struct Watchers(Mutex<HashMap<MailboxId, Vec<(u16, Id)>>>);

impl Watchers {
    /// Who is to be told of these. The lock is let go before anybody is told: a lane may wait for room in a core's inbox,
    /// and the core that would make that room may want this lock.
    fn of(&self, touched: &[MailboxId]) -> Vec<(u16, Id, MailboxId)> {
        let watchers = self.0.lock();
        let of_one = |mailbox: &MailboxId| {
            let list = watchers.get(mailbox).map_or(&[][..], Vec::as_slice);
            list.iter().map(|(core, conn)| (*core, *conn, *mailbox)).collect::<Vec<_>>()
        };
        touched.iter().flat_map(of_one).collect()
    }
}

/// The queues to the lanes, and what their sessions share.
pub(in crate::gateway) struct MailboxLanes {
    writer: Sender<ToWriter>,
    readers: Vec<Sender<Read>>,
    /// For questions that need no lane.
    glance: Arc<dyn Glance>,
    watchers: Arc<Watchers>,
    /// Accounts whose maildrop a POP3 session has for itself (RFC 1939 §4).
    locked: Mutex<HashSet<AccountId>>,
    /// Messages delivered since the start.
    pub delivered: Arc<AtomicU64>,
    /// What committing cost.
    pub commits: Arc<CommitMeter>,
}

impl MailboxLanes {
    /// Starts the threads over `store`. `cores` are the inboxes, by number of the core.
    pub fn start(
        store: &dyn Mailstore,
        readers: usize,
        cores: &[CoreMail],
    ) -> Result<(MailboxLanes, Vec<JoinHandle<()>>), MailboxStartError> {
        let watchers = Arc::new(Watchers::default());
        let delivered = Arc::new(AtomicU64::new(0));
        let commits = Arc::new(CommitMeter::default());
        let (writer, queue) = channel::bounded(WRITES_WAITING_MAX);
        let mut threads = Vec::new();
        let worker = Writer {
            store: store.writer()?,
            cores: cores.to_vec(),
            watchers: watchers.clone(),
            waiting: HashMap::new(),
            next_token: 0,
            delivered: delivered.clone(),
            commits: commits.clone(),
        };
        threads.push(std::thread::Builder::new().name("mailbox".into()).spawn(move || worker.run(&queue))?);
        let mut shards = Vec::new();
        for number in 0..readers.max(1) {
            let (shard, queue) = channel::bounded(READS_WAITING_MAX);
            let reader = store.reader()?;
            let cores = cores.to_vec();
            let thread = std::thread::Builder::new().name(format!("reader{number}"));
            threads.push(thread.spawn(move || read(reader, &queue, &cores))?);
            shards.push(shard);
        }
        let glance = store.glance();
        let lanes =
            MailboxLanes { writer, readers: shards, glance, watchers, locked: Mutex::default(), delivered, commits };
        Ok((lanes, threads))
    }

    /// A question or change of a session; its answer now when there is no room for it.
    pub fn ask(&self, core: u16, asker: Asker, ask: StoreAsk) -> Option<Result<Reply, StoreError>> {
        let write = match ask {
            StoreAsk::Query(account, query) => {
                // What the memory knows is answered here: two threads less to wake.
                if let Some(answer) = self.glance.glance(account, &query) {
                    return Some(answer);
                }
                let shard = &self.readers[account.0 as usize % self.readers.len()];
                let sent = shard.try_send(Read { whose: Waiting::Session(core, asker), account, query });
                return sent.is_err().then_some(Err(StoreError::Busy));
            }
            StoreAsk::Account { name } => Write::Account(name),
            StoreAsk::Change(account, change) => Write::Change(account, change),
        };
        let request = ToWriter::Write(Waiting::Session(core, asker), Box::new(write));
        self.writer.try_send(request).is_err().then_some(Err(StoreError::Busy))
    }

    /// The same for an administrator: waits for the answer.
    pub fn ask_and_wait(&self, ask: StoreAsk) -> Result<Reply, StoreError> {
        let (tell, told) = channel::bounded(1);
        let whose = Waiting::Administrator(tell);
        let write = |whose, write| self.writer.send(ToWriter::Write(whose, Box::new(write))).is_ok();
        let sent = match ask {
            StoreAsk::Query(account, query) => {
                let shard = &self.readers[account.0 as usize % self.readers.len()];
                shard.send(Read { whose, account, query }).is_ok()
            }
            StoreAsk::Account { name } => write(whose, Write::Account(name)),
            StoreAsk::Change(account, change) => write(whose, Write::Change(account, change)),
        };
        if !sent {
            return Err(StoreError::Failed);
        }
        told.recv_timeout(ADMINISTRATOR_WAIT).unwrap_or(Err(StoreError::Busy))
    }

    /// A backup into a new directory, between two commits.
    pub fn back_up(&self, directory: PathBuf) -> Result<BackedUp, String> {
        let (tell, told) = channel::bounded(1);
        let ended = |_| "the mailbox lane has ended".to_owned();
        self.writer.send(ToWriter::Backup(directory, tell)).map_err(|_| ended(()))?;
        told.recv().map_err(|_| ended(()))?
    }

    /// Mail for mailboxes; `Err` gives back who waits when there is no room for it.
    pub fn deliver(&self, core: u16, whose: DeliveryFor, delivery: Delivery) -> Result<(), DeliveryFor> {
        let request = ToWriter::Write(Waiting::Delivery(core, whose), Box::new(Write::Deliver(delivery)));
        self.writer.try_send(request).map_err(|error| match error {
            TrySendError::Full(ToWriter::Write(Waiting::Delivery(_, whose), _))
            | TrySendError::Disconnected(ToWriter::Write(Waiting::Delivery(_, whose), _)) => whose,
            // What was sent is what comes back.
            TrySendError::Full(_) | TrySendError::Disconnected(_) => unreachable!("only a delivery was sent"),
        })
    }

    /// A connection wants to hear of `mailbox` from now on, and of `before` no longer.
    pub fn watch(&self, core: u16, conn: Id, before: Option<MailboxId>, mailbox: Option<MailboxId>) {
        let mut watchers = self.watchers.0.lock();
        if let Some(before) = before
            && let Some(list) = watchers.get_mut(&before)
        {
            list.retain(|watcher| *watcher != (core, conn));
            if list.is_empty() {
                watchers.remove(&before);
            }
        }
        if let Some(mailbox) = mailbox {
            watchers.entry(mailbox).or_default().push((core, conn));
        }
    }

    /// Takes the maildrop of an account for one session; false when another has it.
    pub fn lock(&self, account: AccountId) -> bool {
        self.locked.lock().insert(account)
    }

    /// Gives a maildrop back.
    pub fn unlock(&self, account: AccountId) {
        self.locked.lock().remove(&account);
    }

    /// Commits what waits and ends. The readers end when the last handle on the lanes is dropped.
    pub fn stop(&self) {
        // A writer that has ended needs no telling.
        let _ = self.writer.send(ToWriter::Stop);
    }
}

/// Why the lanes did not start.
#[derive(Debug)]
pub(in crate::gateway) struct MailboxStartError(pub String);

impl From<MailstoreError> for MailboxStartError {
    fn from(error: MailstoreError) -> Self {
        MailboxStartError(error.to_string())
    }
}

impl From<std::io::Error> for MailboxStartError {
    fn from(error: std::io::Error) -> Self {
        MailboxStartError(format!("cannot start a thread: {error}"))
    }
}

fn read(mut reader: Box<dyn MailReader>, queue: &Receiver<Read>, cores: &[CoreMail]) {
    for Read { whose, account, query } in queue {
        let result = reader.answer(account, query);
        answer(cores, whose, Outcome::Replied(result));
    }
}

struct Writer {
    store: Box<dyn MailWriter>,
    cores: Vec<CoreMail>,
    watchers: Arc<Watchers>,
    waiting: HashMap<u64, Waiting>,
    next_token: u64,
    delivered: Arc<AtomicU64>,
    commits: Arc<CommitMeter>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<ToWriter>) {
        let mut busy_tidying = false;
        loop {
            let sleep = if busy_tidying { Duration::ZERO } else { IDLE };
            let first = match queue.recv_timeout(sleep) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let idle = first.is_none();
            let mut stop = false;
            // Whatever queued while the last sync ran is the next batch: no timer, no wait.
            for request in first.into_iter().chain(queue.try_iter().take(BATCH_MAX)) {
                match request {
                    ToWriter::Write(whose, write) => self.stage(whose, *write),
                    ToWriter::Backup(directory, tell) => {
                        self.commit();
                        // Whoever asked may have lost patience.
                        let _ = tell.send(self.store.backup(&directory).map_err(|e| e.to_string()));
                    }
                    ToWriter::Stop => stop = true,
                }
            }
            self.commit();
            if stop {
                break;
            }
            // Housekeeping is for idle moments, in small portions.
            busy_tidying = idle && self.store.tidy(TIDY_OCTETS);
        }
        self.store.rest();
    }

    fn stage(&mut self, whose: Waiting, write: Write) {
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, whose);
        match write {
            Write::Account(name) => self.store.account(token, &name),
            Write::Change(account, change) => self.store.change(token, account, change),
            Write::Deliver(delivery) => self.store.deliver(token, delivery),
        }
    }

    fn commit(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let began = clock::now();
        let commit = self.store.commit();
        self.commits.committed(commit.outcomes.len(), clock::now().since(began), false);
        for (token, outcome) in commit.outcomes {
            let Some(whose) = self.waiting.remove(&token) else { continue };
            if let Outcome::Delivered(delivered) = &outcome
                && delivered.committed.is_some()
            {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            answer(&self.cores, whose, outcome);
        }
        debug_assert!(self.waiting.is_empty(), "every change is answered by its commit");
        for (core, conn, mailbox) in self.watchers.of(&commit.touched) {
            deliver(&self.cores[usize::from(core)], Message::Touched { conn, mailbox });
        }
    }
}

fn answer(cores: &[CoreMail], whose: Waiting, outcome: Outcome) {
    let (core, message) = match (whose, outcome) {
        (Waiting::Session(core, asker), Outcome::Replied(result)) => (core, Message::Stored { asker, result }),
        (Waiting::Delivery(core, whose), Outcome::Delivered(delivered)) => {
            (core, Message::Delivered { whose, delivered: Some(delivered) })
        }
        (Waiting::Administrator(tell), Outcome::Replied(result)) => {
            // Whoever asked may have lost patience.
            let _ = tell.send(result);
            return;
        }
        // The store answered something else than was asked: nobody is told that it is done.
        (Waiting::Session(core, asker), Outcome::Delivered(_)) => {
            (core, Message::Stored { asker, result: Err(StoreError::Failed) })
        }
        (Waiting::Delivery(core, whose), Outcome::Replied(_)) => {
            (core, Message::Delivered { whose, delivered: None::<Delivered> })
        }
        (Waiting::Administrator(tell), Outcome::Delivered(_)) => {
            let _ = tell.send(Err(StoreError::Failed));
            return;
        }
    };
    deliver(&cores[usize::from(core)], message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::body::{Body, BodyShape};
    use crate::base::id::SpoolId;
    use crate::base::mailbox::ask::Recipient;
    use crate::base::queue::{Inbox, Wake};
    use crate::mailstore::MailboxKnobs;
    use crate::mailstore::embedded::EmbeddedStore;
    use std::time::Instant;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn delivery(n: u64) -> Delivery {
        let text = b"Subject: x\r\n\r\nx\r\n".to_vec();
        let shape = BodyShape { octets: text.len() as u64, header_octets: 14, ..BodyShape::default() };
        let body = Body::memory(shape, vec![Arc::new(text)]);
        let to = vec![Recipient { index: 0, accounts: vec!["ann".into()], mailbox: None, partly: false }];
        Delivery { id: SpoolId(n), prefix: Vec::new(), body, to }
    }

    /// A core whose inbox is full and which wants the watchers' lock before it reads: the writer, which waits for room in
    /// that inbox, must not hold it.
    #[test]
    fn a_full_inbox_holds_nobody_up() {
        const WATCHERS: u32 = 200;
        const DELIVERIES: u64 = 50;
        let scratch = tempfile::tempdir().unwrap();
        let (store, _) = EmbeddedStore::open(&scratch.path().join("mail"), MailboxKnobs::default()).unwrap();
        let (sender, mut inbox) = Inbox::new(2, Box::new(Nobody));
        let (lanes, threads) = MailboxLanes::start(&store, 1, &[CoreMail::new(sender)]).unwrap();
        let account = match lanes.ask_and_wait(StoreAsk::Account { name: "ann".into() }) {
            Ok(Reply::Account(account)) => account,
            other => panic!("{other:?}"),
        };
        let select = Query::Select { name: "INBOX".into(), read_only: true };
        let mailbox = match lanes.ask_and_wait(StoreAsk::Query(account, select)) {
            Ok(Reply::Selected(selected)) => selected.status.mailbox,
            other => panic!("{other:?}"),
        };
        let conn = |index| Id { index, generation: 1 };
        (0..WATCHERS).for_each(|n| lanes.watch(0, conn(n), None, Some(mailbox)));
        for n in 0..DELIVERIES {
            let whose = DeliveryFor::Client(Asker { conn: conn(0), question: n as u32 });
            assert!(lanes.deliver(0, whose, delivery(n)).is_ok());
        }
        let (mut delivered, mut touched) = (0, 0u32);
        let until = Instant::now() + Duration::from_secs(30);
        while delivered < DELIVERIES || touched < WATCHERS {
            assert!(Instant::now() < until, "{delivered} answers and {touched} notices came");
            // The core's turn: its sessions come and go before it looks into its inbox.
            lanes.watch(0, conn(WATCHERS), None, Some(mailbox));
            lanes.watch(0, conn(WATCHERS), Some(mailbox), None);
            match inbox.pop() {
                Some(Message::Delivered { delivered: Some(one), .. }) => {
                    assert_eq!(one.verdicts, [(0, Ok(()))]);
                    delivered += 1;
                }
                Some(Message::Touched { mailbox: which, .. }) => {
                    assert_eq!(which, mailbox);
                    touched += 1;
                }
                Some(_) => panic!("nothing else was asked for"),
                None => std::thread::yield_now(),
            }
        }
        lanes.stop();
        drop(lanes);
        // What is still on its way needs room to end.
        while threads.iter().any(|thread| !thread.is_finished()) {
            drop(inbox.pop());
            assert!(Instant::now() < until, "the lanes do not end");
        }
    }
}
