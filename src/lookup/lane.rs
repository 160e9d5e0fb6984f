//! The lane itself: a bounded queue in, a thread that asks, a callback out.
//!
//! How it fails: [`Lane::start`] fails only for files that cannot be read or a thread that cannot be made. From then on
//! every question and every inquiry is answered exactly once, at once or through the callback; those still open when the
//! lane stops are answered with [`Trouble::Stopped`] or [`Finding::Unknown`].

use super::breaker::ZoneCounters;
use super::cache::Cache;
use super::counters::{Counters, Kind, KindCounters, count};
use super::dns::Dns;
use super::find::Finder;
use super::knobs::LookupKnobs;
use super::names::unknown;
use super::question::{Answer, Key, Miss, Question, Source, Trouble};
use super::records::{Reach, Records};
use super::statics::Statics;
use super::{Consult, find};
use crate::base::inquiry::{Case, Finding, Inquiry};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

/// How long work on signatures that is under way when the lane stops may go on.
const STOP_AFTER: Duration = Duration::from_secs(2);

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

/// What became of an inquiry.
#[derive(Debug)]
pub enum Inquired<T> {
    /// The finding will come through the callback.
    Waiting,
    /// Here it is, with the token back.
    Now(T, Finding),
}

/// What the callback is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The answer to a question ([`Asker::ask`]).
    Answer(Answer),
    /// The finding of an inquiry ([`Asker::inquire`]).
    Finding(Finding),
}

struct Shared {
    finder: Finder,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Shared {
    fn records(&self) -> &Records {
        &self.finder.records
    }
}

/// What is asked. Equal jobs under way share one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    Records(Key),
    Inquiry(Inquiry),
    /// An inquiry about a case, by a number of its own: equal words about different messages.
    Own(u64, Inquiry),
}

impl Job {
    fn kind(&self) -> Option<Kind> {
        match self {
            Job::Records(_) => None,
            Job::Inquiry(inquiry) | Job::Own(_, inquiry) => Some(Kind::of(inquiry)),
        }
    }
    /// Whether it holds a place among the queries. What works on whole messages has bounds of its own.
    fn is_light(&self) -> bool {
        !matches!(self, Job::Own(..))
    }
    fn stopped(&self) -> Reply {
        self.trouble(Trouble::Stopped, &Trouble::Stopped)
    }
    fn trouble(&self, trouble: Trouble, why: &dyn fmt::Display) -> Reply {
        match self {
            Job::Records(_) => Reply::Answer(Answer::trouble(trouble)),
            Job::Inquiry(inquiry) | Job::Own(_, inquiry) => Reply::Finding(unknown(find::subject(inquiry), why)),
        }
    }
}

struct Request<T> {
    job: Job,
    case: Option<Arc<Case>>,
    token: T,
    at: Instant,
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
        let records = self.shared.records();
        count(&records.tally.asked);
        let Some(key) = question.key() else {
            let answer = Answer { result: Err(Miss::NoName), ttl: Duration::from_secs(3600), source: Source::Lane };
            return Asked::Now(token, answer);
        };
        if let Some(answer) = records.local(&key) {
            return Asked::Now(token, answer);
        }
        match self.send(Job::Records(key), None, token) {
            Ok(()) => Asked::Waiting,
            Err((token, trouble)) => Asked::Now(token, Answer::trouble(trouble)),
        }
    }

    /// Puts an inquiry; never blocks. `token` comes back with the finding. [`Inquiry::Signatures`] and
    /// [`Inquiry::Consult`] need the case. What can be found out from the configuration, from answers that are still
    /// good, or from a file in memory is found out here and now.
    pub fn inquire(&self, token: T, inquiry: &Inquiry, case: Option<Arc<Case>>) -> Inquired<T> {
        let tally = self.shared.records().tally.kind(Kind::of(inquiry));
        count(&tally.asked);
        if let Some(finding) = self.at_hand(inquiry, case.as_deref()) {
            count(&tally.cached);
            tally.outcome(&finding);
            return Inquired::Now(token, finding);
        }
        let job = match inquiry {
            // The lane numbers it.
            Inquiry::Signatures | Inquiry::Consult(_) => Job::Own(0, inquiry.clone()),
            _ => Job::Inquiry(inquiry.clone()),
        };
        match self.send(job, case, token) {
            Ok(()) => Inquired::Waiting,
            Err((token, trouble)) => {
                let finding = unknown(find::subject(inquiry), trouble);
                tally.outcome(&finding);
                Inquired::Now(token, finding)
            }
        }
    }

    /// The finding when it needs nobody: the future is polled once, and stays pending where it would have to wait.
    fn at_hand(&self, inquiry: &Inquiry, case: Option<&Case>) -> Option<Finding> {
        let asked = pin!(self.shared.finder.ask(inquiry, case, Reach::Local));
        match asked.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(finding) => Some(finding),
            Poll::Pending => None,
        }
    }

    fn send(&self, job: Job, case: Option<Arc<Case>>, token: T) -> Result<(), (T, Trouble)> {
        if self.shared.waiting.fetch_add(1, Ordering::Relaxed) >= self.shared.waiting_max {
            return self.refuse(token, Trouble::QueueFull);
        }
        match self.queue.try_send(Request { job, case, token, at: Instant::now() }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(r)) => self.refuse(r.token, Trouble::QueueFull),
            Err(mpsc::error::TrySendError::Closed(r)) => self.refuse(r.token, Trouble::Stopped),
        }
    }

    fn refuse(&self, token: T, trouble: Trouble) -> Result<(), (T, Trouble)> {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if trouble == Trouble::QueueFull {
            count(&self.shared.records().tally.queue_full);
        }
        Err((token, trouble))
    }

    /// What the lane has done, and what it holds.
    pub fn counters(&self) -> Counters {
        Counters {
            waiting: self.shared.waiting.load(Ordering::Relaxed) as u64,
            cached: self.shared.records().cache().len() as u64,
            ..self.shared.records().tally.read()
        }
    }

    /// What became of each kind of inquiry, in the order of [`Kind::ALL`].
    pub fn kinds(&self) -> [KindCounters; Kind::ALL.len()] {
        self.shared.records().tally.read_kinds()
    }

    /// What each list has done, by name of its zone.
    pub fn zones(&self) -> Vec<ZoneCounters> {
        self.shared.finder.breakers.read(self.shared.records().now())
    }

    /// Forgets every cached answer.
    pub fn forget(&self) {
        self.shared.records().cache().clear();
    }
}

/// The running lane. Dropping it stops the thread, after every open question has been answered.
pub struct Lane {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the lane without helpers. `deliver` is called on the lane's thread, once for each [`Asked::Waiting`] and
    /// [`Inquired::Waiting`]; it must not block.
    pub fn start<T: Send + 'static>(
        knobs: &LookupKnobs,
        deliver: impl Fn(T, Reply) + Send + 'static,
    ) -> Result<(Lane, Asker<T>), StartError> {
        Self::launch(knobs, Self::open_dns(knobs), None, deliver)
    }

    /// Starts the lane with helpers for [`Inquiry::Consult`].
    pub fn start_with<T: Send + 'static>(
        knobs: &LookupKnobs,
        helpers: Arc<dyn Consult>,
        deliver: impl Fn(T, Reply) + Send + 'static,
    ) -> Result<(Lane, Asker<T>), StartError> {
        Self::launch(knobs, Self::open_dns(knobs), Some(helpers), deliver)
    }

    pub(super) fn launch<T: Send + 'static>(
        knobs: &LookupKnobs,
        dns: Option<Dns>,
        helpers: Option<Arc<dyn Consult>>,
        deliver: impl Fn(T, Reply) + Send + 'static,
    ) -> Result<(Lane, Asker<T>), StartError> {
        let hosts_file = match &knobs.hosts_file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| StartError::HostsFile(format!("cannot read {}: {e}", path.display())))?,
        };
        let statics = Statics::new(&knobs.hosts, &knobs.records, &hosts_file).map_err(StartError::HostsFile)?;
        let cache = Cache::new(knobs.cache_entries_max, knobs.cache_octets_max);
        let records = Arc::new(Records::new(statics, cache, dns, knobs.in_flight_max));
        let shared = Arc::new(Shared {
            finder: Finder::new(knobs, records, helpers),
            waiting: AtomicUsize::new(0),
            waiting_max: knobs.waiting_max,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(knobs.blocking_threads)
            .build()
            .map_err(StartError::System)?;
        let (queue, requests) = mpsc::channel(knobs.waiting_max);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let worker = Worker {
            in_flight_max: knobs.in_flight_max,
            shared: shared.clone(),
            deliver,
            waiters: HashMap::new(),
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            light: 0,
            numbered: 0,
        };
        let thread = std::thread::Builder::new()
            .name("lookup".into())
            .spawn(move || {
                runtime.block_on(worker.run(requests, stopped));
                runtime.shutdown_timeout(STOP_AFTER);
            })
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

/// The thread's side: jobs under way and who waits for them.
struct Worker<T, D> {
    in_flight_max: usize,
    shared: Arc<Shared>,
    deliver: D,
    waiters: HashMap<Job, Vec<(T, Instant)>>,
    tasks: JoinSet<Reply>,
    jobs: HashMap<Id, Job>,
    /// Jobs under way that hold a place among the queries.
    light: usize,
    /// The last number of a job of its own.
    numbered: u64,
}

impl<T: Send + 'static, D: Fn(T, Reply) + Send + 'static> Worker<T, D> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request<T>>, mut stop: tokio::sync::oneshot::Receiver<()>) {
        loop {
            let room = self.light < self.in_flight_max;
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

    fn take(&mut self, Request { mut job, case, token, at }: Request<T>) {
        let tally = &self.shared.records().tally;
        if let Job::Own(number, _) = &mut job {
            self.numbered += 1;
            *number = self.numbered;
        }
        if let Some(waiters) = self.waiters.get_mut(&job) {
            count(job.kind().map_or(&tally.shared, |kind| &tally.kind(kind).shared));
            return waiters.push((token, at));
        }
        let (shared, asked) = (self.shared.clone(), job.clone());
        let task = self.tasks.spawn(async move {
            match asked {
                Job::Records(key) => Reply::Answer(shared.records().get(&key).await),
                Job::Inquiry(inquiry) | Job::Own(_, inquiry) => {
                    Reply::Finding(shared.finder.find(&inquiry, case.as_deref()).await)
                }
            }
        });
        self.light += usize::from(job.is_light());
        self.jobs.insert(task.id(), job.clone());
        self.waiters.insert(job, vec![(token, at)]);
    }

    fn finished(&mut self, done: Result<(Id, Reply), JoinError>) {
        let (id, reply) = match done {
            Ok((id, reply)) => (id, Some(reply)),
            // A panic inside the resolver or a check: those who wait still get an answer.
            Err(e) => (e.id(), None),
        };
        let Some(job) = self.jobs.remove(&id) else { return };
        self.light -= usize::from(job.is_light());
        let reply = reply.unwrap_or_else(|| job.trouble(Trouble::Malformed, &"a fault of our own"));
        let waiters = self.waiters.remove(&job).unwrap_or_default();
        self.hand_over(&job, waiters, &reply);
    }

    fn hand_over(&self, job: &Job, waiters: Vec<(T, Instant)>, reply: &Reply) {
        for (token, at) in waiters {
            if let (Some(kind), Reply::Finding(finding)) = (job.kind(), reply) {
                let tally = self.shared.records().tally.kind(kind);
                tally.outcome(finding);
                tally.took(at.elapsed());
            }
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            (self.deliver)(token, reply.clone());
        }
    }

    async fn stop(mut self, mut requests: mpsc::Receiver<Request<T>>) {
        requests.close();
        for (job, waiters) in std::mem::take(&mut self.waiters) {
            self.hand_over(&job, waiters, &job.stopped());
        }
        // Until the last asker that was just pushing has pushed: `recv` knows, `try_recv` does not.
        while let Some(Request { job, token, at, .. }) = requests.recv().await {
            self.hand_over(&job, vec![(token, at)], &job.stopped());
        }
    }
}
