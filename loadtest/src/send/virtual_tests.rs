//! Sender and sink as machines on a virtual clock: what goes in comes out to the precision of the histogram, on any machine,
//! however busy.

use super::arrivals::{Arrivals, Spacing, Times as Arrival};
use super::schedule::Schedule;
use super::session::{Feed, Next, Outcome, Plan, Script, Session, Shared};
use super::tally::Tally;
use super::{Options, Pace};
use crate::chance;
use crate::message::{Content, Id};
use crate::sink::session as sink;
use crate::sink::{Behaviour, Delay};
use crate::size::Sizes;
use gatepost::base::buf::Chain;
use gatepost::base::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// One connection, both ends.
struct Wire {
    client: Session,
    server: sink::Session,
}

/// A world in which nothing takes time but what is told to.
struct World<'a> {
    now: Instant,
    script: &'a Script,
    behaviour: &'a Behaviour,
    wires: Vec<Wire>,
    idle: Vec<usize>,
    /// Words on their way to a client, by when they arrive; and what the server then reads on with.
    events: BTreeMap<(Instant, u64), Event>,
    number: u64,
    schedule: Schedule,
    chain: bool,
    tally: Tally,
    sink: sink::Tally,
    rng: fastrand::Rng,
    /// How long each message was held by the server.
    held: Vec<Duration>,
    late: Duration,
}

/// Which connection, what its client hears, and what its server reads on with then.
type Event = (usize, Vec<u8>, Vec<u8>);

const START: Instant = Instant::ZERO;

impl World<'_> {
    fn serve(&mut self, at: usize, bytes: &[u8], greet: bool) {
        let (mut said, mut received) = (Vec::new(), Vec::new());
        let mut shared = sink::Shared {
            now: self.now,
            behaviour: self.behaviour,
            tally: &mut self.sink,
            rng: &mut self.rng,
            received: &mut received,
        };
        let server = &mut self.wires[at].server;
        let (used, next) = match greet {
            true => (0, server.greet(&mut shared, &mut said)),
            false => server.input(bytes, &mut shared, &mut said),
        };
        let (delay, rest) = match next {
            sink::Next::Hold(delay) => {
                self.held.push(delay);
                (delay, bytes[used..].to_vec())
            }
            _ => (Duration::ZERO, Vec::new()),
        };
        self.number += 1;
        self.events.insert((self.now + delay, self.number), (at, said, rest));
    }

    fn drive(&mut self, at: usize, step: impl FnOnce(&mut Session, &mut Shared<'_>) -> Next) {
        let mut out = Chain::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        let (schedule, now) = (&mut self.schedule, self.now);
        let mut feed = || -> Feed { schedule.feed(now) };
        let mut shared = Shared {
            now,
            script: self.script,
            feed: &mut feed,
            chain: self.chain,
            outcomes: &mut outcomes,
            phases: &mut self.tally.phases,
            out: &mut out,
        };
        if step(&mut self.wires[at].client, &mut shared) == Next::Idle {
            self.idle.push(at);
        }
        for outcome in outcomes {
            self.tally.count(&outcome, false, now.since(START));
            self.tally.last = now;
        }
        if !out.is_empty() {
            self.serve(at, &out.to_vec(), false);
        }
    }

    fn run(mut self) -> Self {
        (0..self.wires.len()).for_each(|at| self.serve(at, &[], true));
        loop {
            let late = &mut self.late;
            self.schedule.tick(self.now, |by| *late = (*late).max(by));
            while self.schedule.waiting() > 0 || self.schedule.is_done() {
                let Some(at) = self.idle.pop() else { break };
                self.drive(at, |client, shared| client.wake(shared));
            }
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = event.into_iter().chain(self.schedule.next().filter(|t| *t < Instant::FAR)).min() else {
                return self;
            };
            self.now = self.now.max(next);
            if event != Some(next) {
                continue;
            }
            if let Some((_, (at, said, rest))) = self.events.pop_first() {
                self.drive(at, |client, shared| client.input(&said, shared));
                if !rest.is_empty() {
                    self.serve(at, &rest, false);
                }
            }
        }
    }
}

fn simulate(behaviour: &Behaviour, pace: Pace, connections: usize, messages: u64, spacing: Spacing) -> World<'static> {
    let target = "127.0.0.1:25".parse().unwrap();
    let options = Options { pace, content: Content::Made(Sizes::Fixed(1000)), ..Options::to(target) };
    // A test's own, for as long as it runs.
    let (script, behaviour) = (Box::leak(Box::new(options.script())), Box::leak(Box::new(behaviour.clone())));
    let times = match pace {
        Pace::Open(rate) => Some(Arrival::new(&Arrivals { spacing, seed: 5, ..Arrivals::default() }, rate, 0, 1)),
        _ => None,
    };
    let id = Id { run: 1, core: 0, seq: 0 };
    let wire = |_| Wire { client: Session::new(Plan::default(), START), server: sink::Session::new() };
    let world = World {
        now: START,
        script,
        behaviour,
        wires: (0..connections).map(wire).collect(),
        idle: Vec::new(),
        events: BTreeMap::new(),
        number: 0,
        schedule: Schedule::new(times, false, START, Instant::FAR, Some(messages), id),
        // A connection of an open loop takes what is due when it is free, as the core has it while others are.
        chain: pace == Pace::Closed,
        tally: Tally::default(),
        sink: sink::Tally::default(),
        rng: chance::generator(3, 1),
        held: Vec::new(),
        late: Duration::ZERO,
    };
    world.run()
}

fn slow(delay: impl Into<Delay>) -> Behaviour {
    Behaviour { delay: delay.into(), ..Behaviour::default() }
}

/// What is measured against what was done, to three digits: what the histogram keeps.
fn same(found_ms: f64, known: Duration, what: &str) {
    let known_ms = known.as_secs_f64() * 1e3;
    assert!(
        (found_ms - known_ms).abs() <= known_ms / 500.0 + 0.002,
        "{what}: {found_ms} ms measured, {known_ms} ms known"
    );
}

#[test]
fn a_known_distribution_goes_in_and_the_same_percentiles_come_out() {
    for delay in [
        Delay::Exponential(Duration::from_millis(40)),
        Delay::Lognormal(Duration::from_millis(40), 0.5),
        Delay::from(Duration::from_millis(7)),
    ] {
        for spacing in [Spacing::Constant, Spacing::Poisson] {
            let world = simulate(&slow(delay), Pace::Open(400.0), 1000, 4000, spacing);
            let mut held = world.held.clone();
            held.sort();
            assert_eq!((world.tally.accepted, held.len(), world.sink.messages), (4000, 4000, 4000), "{delay:?}");
            let found = world.tally.latency.quantiles();
            for (name, q, ms) in [
                ("p50", 0.5, found.p50_ms),
                ("p90", 0.9, found.p90_ms),
                ("p99", 0.99, found.p99_ms),
                ("p99.9", 0.999, found.p999_ms),
            ] {
                same(ms, held[(q * held.len() as f64).ceil() as usize - 1], &format!("{delay:?} {name}"));
            }
            same(found.max_ms, held[held.len() - 1], "longest");
            // All of it is in the step that was slow, and the harness itself was never late.
            let steps: BTreeMap<_, _> = world.tally.phases.iter().map(|(name, t)| (name, t.quantiles())).collect();
            assert_eq!(steps["final"].p99_ms, found.p99_ms);
            // Nothing is kept as one microsecond.
            assert!(steps["mail"].max_ms <= 0.001);
            assert_eq!(world.late, Duration::ZERO);
        }
    }
}

#[test]
fn a_closed_loop_is_as_fast_as_its_server() {
    let world = simulate(&slow(Duration::from_millis(40)), Pace::Closed, 10, 200, Spacing::Constant);
    // Ten connections, 40 ms each.
    assert_eq!((world.tally.accepted, world.tally.last.since(START)), (200, Duration::from_millis(800)));
    same(world.tally.latency.quantiles().p50_ms, Duration::from_millis(40), "p50");
    same(world.tally.latency.quantiles().max_ms, Duration::from_millis(40), "longest");
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_the_wait() {
    // Room for all: the last of 500 comes at 998 ms and takes its 3.
    let world = simulate(&slow(Duration::from_millis(3)), Pace::Open(500.0), 50, 500, Spacing::Constant);
    assert_eq!((world.tally.accepted, world.tally.last.since(START)), (500, Duration::from_millis(1001)));
    same(world.tally.latency.quantiles().max_ms, Duration::from_millis(3), "longest");
    // One connection does 50 a second and 100 are asked for: message n comes at 10 n ms and is done at 20 (n + 1) ms.
    let world = simulate(&slow(Duration::from_millis(20)), Pace::Open(100.0), 1, 100, Spacing::Constant);
    let found = world.tally.latency.quantiles();
    assert_eq!(world.tally.accepted, 100);
    same(found.max_ms, Duration::from_millis(20 + 10 * 99), "longest");
    same(found.p50_ms, Duration::from_millis(20 + 10 * 49), "p50");
}
