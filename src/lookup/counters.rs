//! What the lane has done since it started: of questions in all, and of each kind of inquiry with its results and the
//! time they took.
//!
//! How it fails: it does not; the numbers are relaxed, so a reading may be a few events apart from another.

use crate::base::inquiry::{Finding, Inquiry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Default)]
        pub(super) struct Tally {
            $(pub(super) $name: AtomicU64,)*
            pub(super) kinds: [KindTally; Kind::ALL.len()],
        }
        /// What the lane has done since it started, and what it holds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Questions and inquiries waiting now.
            pub waiting: u64,
            /// Answers in the cache now.
            pub cached: u64,
        }
        impl Tally {
            pub(super) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* ..Counters::default() }
            }
        }
    };
}
counters! {
    /// Questions in all, inquiries not included.
    asked,
    /// Records taken from the configuration.
    from_static,
    /// Records taken from the cache.
    from_cache,
    /// Joined a query or an inquiry that was already under way.
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

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Upper bounds of the buckets of [`KindCounters::latency`]; a last bucket holds what took longer.
pub const LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// The kinds of inquiries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Inquiry::Reverse`].
    Reverse,
    /// [`Inquiry::Listed`].
    Listed,
    /// [`Inquiry::MailDomain`].
    MailDomain,
    /// [`Inquiry::HeloHost`].
    HeloHost,
    /// [`Inquiry::Spf`].
    Spf,
    /// [`Inquiry::Origin`].
    Origin,
    /// [`Inquiry::Signatures`].
    Signatures,
    /// [`Inquiry::Consult`].
    Consult,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Reverse,
        Kind::Listed,
        Kind::MailDomain,
        Kind::HeloHost,
        Kind::Spf,
        Kind::Origin,
        Kind::Signatures,
        Kind::Consult,
    ];

    /// Of an inquiry.
    pub fn of(inquiry: &Inquiry) -> Kind {
        match inquiry {
            Inquiry::Reverse(_) => Kind::Reverse,
            Inquiry::Listed { .. } => Kind::Listed,
            Inquiry::MailDomain(_) => Kind::MailDomain,
            Inquiry::HeloHost { .. } => Kind::HeloHost,
            Inquiry::Spf { .. } => Kind::Spf,
            Inquiry::Origin(_) => Kind::Origin,
            Inquiry::Signatures => Kind::Signatures,
            Inquiry::Consult(_) => Kind::Consult,
        }
    }

    /// For metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Reverse => "reverse",
            Kind::Listed => "listed",
            Kind::MailDomain => "mail_domain",
            Kind::HeloHost => "helo_host",
            Kind::Spf => "spf",
            Kind::Origin => "origin",
            Kind::Signatures => "signatures",
            Kind::Consult => "consult",
        }
    }
}

/// What became of the inquiries of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindCounters {
    /// The kind.
    pub kind: Kind,
    /// Inquiries in all.
    pub asked: u64,
    /// Of those: answered at once from what was at hand.
    pub cached: u64,
    /// Of those: joined one that was under way.
    pub shared: u64,
    /// Answered with [`Finding::Unknown`].
    pub failed: u64,
    /// How many answers took at most so long ([`LATENCY_BOUNDS`]), each bucket by itself; those at once not included.
    pub latency: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum of the time they took, in microseconds.
    pub latency_us_sum: u64,
}

/// The counters of one kind, as the lane keeps them.
#[derive(Default)]
pub(super) struct KindTally {
    pub(super) asked: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) shared: AtomicU64,
    failed: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    latency_us_sum: AtomicU64,
}

impl KindTally {
    pub(super) fn outcome(&self, finding: &Finding) {
        if matches!(finding, Finding::Unknown(_)) {
            count(&self.failed);
        }
    }

    pub(super) fn took(&self, time: Duration) {
        let bucket = LATENCY_BOUNDS.iter().position(|bound| time <= *bound).unwrap_or(LATENCY_BOUNDS.len());
        count(&self.latency[bucket]);
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.latency_us_sum.fetch_add(us, Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn kind(&self, kind: Kind) -> &KindTally {
        &self.kinds[kind as usize]
    }

    /// Every kind, in the order of [`Kind::ALL`].
    pub(super) fn read_kinds(&self) -> [KindCounters; Kind::ALL.len()] {
        Kind::ALL.map(|kind| {
            let t = self.kind(kind);
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            KindCounters {
                kind,
                asked: read(&t.asked),
                cached: read(&t.cached),
                shared: read(&t.shared),
                failed: read(&t.failed),
                latency: std::array::from_fn(|i| read(&t.latency[i])),
                latency_us_sum: read(&t.latency_us_sum),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let tally = Tally::default();
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i, "the table is indexed by the kind");
        }
        let spf = tally.kind(Kind::Spf);
        [10u64, 100, 101, 1_000, 20_000_000].iter().for_each(|us| spf.took(Duration::from_micros(*us)));
        spf.outcome(&Finding::Unknown("x".into()));
        spf.outcome(&Finding::HeloHost(true));
        let read = tally.read_kinds()[Kind::Spf as usize];
        assert_eq!((read.latency[0], read.latency[1], read.latency[10]), (2, 2, 1));
        assert_eq!((read.latency_us_sum, read.failed, read.kind), (20_001_211, 1, Kind::Spf));
    }
}
