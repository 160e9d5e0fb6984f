//! The lane itself: a bounded queue in, a thread that asks, a callback out.
//!
//! How it fails: [`Lane::start`] fails only for a hosts file that cannot be read or a thread that cannot be made. From
//! then on every question is answered exactly once, at once or through the callback; questions still open when the lane
//! stops are answered with [`Trouble::Stopped`].

use super::cache::Cache;
use super::dns::Dns;
use super::knobs::LookupKnobs;
use super::question::{Answer, Key, Miss, Question, Source, Trouble};
use super::statics::Statics;
use crate::base::time::Instant;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

/// Why the lane was not started.
#[derive(Debug)]
pub enum StartError {
    /// The hosts file cannot be read or understood.
    HostsFile(String),
    /// The operating system gave no thread or runtime.
    System(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::HostsFile(why) => write!(f, "lookup.hosts_file: {why}"),
            StartError::System(e) => write!(f, "cannot start the lookup lane: {e}"),
        }
    }
}
impl std::error::Error for StartError {}

/// What became of a question.
#[derive(Debug)]
pub enum Asked<T> {
    /// The answer will come through the callback.
    Waiting,
    /// Here it is, with the token back.
    Now(T, Answer),
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Default)]
        struct Tally { $($name: AtomicU64),* }
        /// What the lane has done since it started, and what it holds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Questions waiting now.
            pub waiting: u64,
            /// Answers in the cache now.
            pub cached: u64,
        }
        impl Tally {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* ..Counters::default() }
            }
        }
    };
}
counters! {
    /// Questions in all.
    asked,
    /// Answered from the configuration.
    from_static,
    /// Answered from the cache.
    from_cache,
    /// Joined a query that was already in flight.
    shared,
    /// Put to the name servers.
    queried,
    /// Of those: records were found.
    found,
    /// Of those: there are certainly none.
    none,
    /// Of those: it could not be found out.
    failed,
    /// Refused because too many were waiting.
    queue_full,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Shared {
    statics: Statics,
    cache: Cache,
    started: std::time::Instant,
    waiting: AtomicUsize,
    waiting_max: usize,
    tally: Tally,
}

impl Shared {
    fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }
}

struct Request<T> {
    key: Key,
    token: T,
}

/// Asks; one per core, cloned freely.
pub struct Asker<T> {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request<T>>,
}

impl<T> Clone for Asker<T> {
    fn clone(&self) -> Self {
        Asker { shared: self.shared.clone(), queue: self.queue.clone() }
    }
}

impl<T: Send + 'static> Asker<T> {
    /// Puts a question; never blocks. `token` comes back with the answer.
    pub fn ask(&self, token: T, question: &Question) -> Asked<T> {
        let shared = &*self.shared;
        count(&shared.tally.asked);
        let Some(key) = question.key() else {
            let answer = Answer { result: Err(Miss::NoName), ttl: Duration::from_secs(3600), source: Source::Lane };
            return Asked::Now(token, answer);
        };
        if let Some(answer) = shared.statics.answer(&key) {
            count(&shared.tally.from_static);
            return Asked::Now(token, answer);
        }
        if let Some(answer) = shared.cache.get(&key, shared.now()) {
            count(&shared.tally.from_cache);
            return Asked::Now(token, answer);
        }
        if shared.waiting.fetch_add(1, Ordering::Relaxed) >= shared.waiting_max {
            return self.refuse(token, Trouble::QueueFull);
        }
        match self.queue.try_send(Request { key, token }) {
            Ok(()) => Asked::Waiting,
            Err(mpsc::error::TrySendError::Full(r)) => self.refuse(r.token, Trouble::QueueFull),
            Err(mpsc::error::TrySendError::Closed(r)) => self.refuse(r.token, Trouble::Stopped),
        }
    }

    fn refuse(&self, token: T, trouble: Trouble) -> Asked<T> {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if trouble == Trouble::QueueFull {
            count(&self.shared.tally.queue_full);
        }
        Asked::Now(token, Answer::trouble(trouble))
    }

    /// What the lane has done, and what it holds.
    pub fn counters(&self) -> Counters {
        Counters {
            waiting: self.shared.waiting.load(Ordering::Relaxed) as u64,
            cached: self.shared.cache.len() as u64,
            ..self.shared.tally.read()
        }
    }

    /// Forgets every cached answer.
    pub fn forget(&self) {
        self.shared.cache.clear();
    }
}

/// The running lane. Dropping it stops the thread, after every open question has been answered.
pub struct Lane {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the lane. `deliver` is called on the lane's thread, once for each [`Asked::Waiting`]; it must not block.
    pub fn start<T: Send + 'static>(
        knobs: &LookupKnobs,
        deliver: impl Fn(T, Answer) + Send + 'static,
    ) -> Result<(Lane, Asker<T>), StartError> {
        Self::launch(knobs, Self::open_dns(knobs), deliver)
    }

    pub(super) fn launch<T: Send + 'static>(
        knobs: &LookupKnobs,
        dns: Option<Dns>,
        deliver: impl Fn(T, Answer) + Send + 'static,
    ) -> Result<(Lane, Asker<T>), StartError> {
        let hosts_file = match &knobs.hosts_file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| StartError::HostsFile(format!("cannot read {}: {e}", path.display())))?,
        };
        let statics = Statics::new(&knobs.hosts, &knobs.records, &hosts_file).map_err(StartError::HostsFile)?;
        let shared = Arc::new(Shared {
            statics,
            cache: Cache::new(knobs.cache_entries_max),
            started: std::time::Instant::now(),
            waiting: AtomicUsize::new(0),
            waiting_max: knobs.waiting_max,
            tally: Tally::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::System)?;
        let (queue, requests) = mpsc::channel(knobs.waiting_max);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let worker = Worker {
            dns,
            in_flight_max: knobs.in_flight_max,
            shared: shared.clone(),
            deliver,
            waiters: HashMap::new(),
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            sick: false,
        };
        let thread = std::thread::Builder::new()
            .name("lookup".into())
            .spawn(move || runtime.block_on(worker.run(requests, stopped)))
            .map_err(StartError::System)?;
        Ok((Lane { stop: Some(stop), thread: Some(thread) }, Asker { shared, queue }))
    }

    fn open_dns(knobs: &LookupKnobs) -> Option<Dns> {
        Dns::new(knobs)
            .inspect_err(|why| {
                tracing::warn!("no name server to ask: {why}; lookups outside the static table will fail")
            })
            .ok()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the lookup lane ended with a panic");
        }
    }
}

/// The thread's side: queries in flight and who waits for them.
struct Worker<T, D> {
    dns: Option<Dns>,
    in_flight_max: usize,
    shared: Arc<Shared>,
    deliver: D,
    waiters: HashMap<Key, Vec<T>>,
    tasks: JoinSet<Answer>,
    keys: HashMap<Id, Key>,
    /// Whether the last query failed, so that the log says it once.
    sick: bool,
}

impl<T: Send + 'static, D: Fn(T, Answer) + Send + 'static> Worker<T, D> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request<T>>, mut stop: tokio::sync::oneshot::Receiver<()>) {
        loop {
            let room = self.tasks.len() < self.in_flight_max;
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(done) = self.tasks.join_next_with_id() => self.finished(done),
                request = requests.recv(), if room => match request {
                    Some(request) => self.take(request),
                    None => break, // every asker is gone
                },
            }
        }
        self.stop(requests).await;
    }

    fn take(&mut self, Request { key, token }: Request<T>) {
        // Answered while this one stood in the queue.
        if let Some(answer) = self.shared.cache.get(&key, self.shared.now()) {
            count(&self.shared.tally.from_cache);
            return self.hand_over(token, answer);
        }
        let Some(dns) = &self.dns else {
            return self.hand_over(token, Answer::trouble(Trouble::NoServers));
        };
        if let Some(waiters) = self.waiters.get_mut(&key) {
            count(&self.shared.tally.shared);
            return waiters.push(token);
        }
        count(&self.shared.tally.queried);
        let (dns, asked) = (dns.clone(), key.clone());
        let task = self.tasks.spawn(async move { dns.answer(&asked).await });
        self.keys.insert(task.id(), key.clone());
        self.waiters.insert(key, vec![token]);
    }

    fn finished(&mut self, done: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match done {
            Ok(done) => done,
            // A panic inside the resolver: those who wait still get an answer.
            Err(e) => (e.id(), Answer::trouble(Trouble::Malformed)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        self.note(&key, &answer);
        self.shared.cache.put(&key, &answer, self.shared.now());
        for token in self.waiters.remove(&key).unwrap_or_default() {
            self.hand_over(token, answer.clone());
        }
    }

    /// Counts, and logs the passage from well to sick and back.
    fn note(&mut self, key: &Key, answer: &Answer) {
        let tally = &self.shared.tally;
        let sick = match &answer.result {
            Ok(_) => {
                count(&tally.found);
                false
            }
            Err(Miss::Temporary(trouble)) => {
                count(&tally.failed);
                // SERVFAIL may well be the fault of one domain; silence is the name servers' own.
                let silent = matches!(trouble, Trouble::Timeout | Trouble::Unreachable);
                if !silent {
                    return;
                }
                if !self.sick {
                    tracing::warn!("lookup of {key}: {trouble}; further failures are only counted");
                }
                true
            }
            Err(_) => {
                count(&tally.none);
                false
            }
        };
        if std::mem::replace(&mut self.sick, sick) && !sick {
            tracing::info!("name servers answer again");
        }
    }

    fn hand_over(&self, token: T, answer: Answer) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        (self.deliver)(token, answer);
    }

    async fn stop(mut self, mut requests: mpsc::Receiver<Request<T>>) {
        requests.close();
        let waiters = std::mem::take(&mut self.waiters);
        for token in waiters.into_values().flatten() {
            self.hand_over(token, Answer::trouble(Trouble::Stopped));
        }
        // Until the last asker that was just pushing has pushed: `recv` knows, `try_recv` does not.
        while let Some(request) = requests.recv().await {
            self.hand_over(request.token, Answer::trouble(Trouble::Stopped));
        }
    }
}
