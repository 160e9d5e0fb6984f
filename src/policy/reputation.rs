//! Reputation from our own history: of an address, its network and the sender's domain, how much of what came from them
//! passed and how much was refused for good. Both counts decay, so that the past is forgiven and forgotten.
//!
//! A transaction counts once as refused when the policy (or the backend) refuses anything in it with 5xx, and once as
//! accepted when its message is; a session that is refused before it counts once too. What is deferred counts nothing. A
//! domain that SPF has confirmed has another history than the same name on a message that anybody may have sent.
//!
//! Counts are integers, so that a replay on another machine comes to the same numbers. How it fails: it does not; who was
//! forgotten is new again.

use super::limit::{KeyPart, key_of};
use super::memory::{Entry, Look, Meeting, Memory};
use super::program::Operand;
use super::reading::{duration, network_key, prefixes};
use super::source::{Reader, Table};
use super::state::View;
use super::value::Value;
use std::time::Duration;

/// Keys of `[reputation]`.
pub const REPUTATION_KEYS: [&str; 4] = ["description", "half-life", "at-least", "network"];
/// One event, in the unit of counts.
const ONE: u64 = 1 << 24;
/// Half-lives after which nothing is left of a count.
const FORGOTTEN: u64 = 40;

/// How history is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time after which a count is worth half.
    pub half_life: Duration,
    /// What both counts must come to before there is a reputation, in events.
    pub at_least: u64,
    /// A client's network.
    pub network: KeyPart,
    /// The fact that tells whether SPF confirmed the sender.
    pub spf: Option<Operand>,
}

impl Settings {
    /// What holds without a section.
    pub fn builtin() -> Settings {
        let spf = super::facts::FactId::find("spf").map(Operand::fact);
        Settings { half_life: Duration::from_secs(7 * 86_400), at_least: 3, network: network_key((24, 64)), spf }
    }

    /// Reads `[reputation]`, if it is there.
    pub fn read(reader: &mut Reader<'_>, top: &Table<'_>) -> Option<Settings> {
        let table = reader.table(top, "reputation")?;
        reader.known_keys(table, "[reputation]", &REPUTATION_KEYS);
        let default = Settings::builtin();
        let hour = Duration::from_secs(3600);
        Some(Settings {
            half_life: duration(reader, table, "half-life", hour..=hour * (24 * 366), default.half_life),
            at_least: reader.integer(table, "at-least", 1..=1_000_000).unwrap_or(default.at_least),
            network: network_key(prefixes(reader, table, "network", (24, 64))),
            ..default
        })
    }
}

/// Whose history it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The client's address; of IPv6 the /64.
    Client,
    /// Its network.
    Network,
    /// The sender's domain, as far as SPF confirms it.
    Domain,
}

impl Subject {
    /// In one word, for the journal.
    pub fn word(self) -> &'static str {
        match self {
            Subject::Client => "reputation.client",
            Subject::Network => "reputation.network",
            Subject::Domain => "reputation.domain",
        }
    }
}

/// What is known of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// 0: all was refused, to 100: all was accepted; `None` while too little is known.
    pub reputation: Option<u8>,
    /// It was there before.
    pub seen: bool,
}

/// The key of a subject; `None` when there is no such subject here (null sender).
fn key(subject: Subject, settings: &Settings, view: &View<'_>, memory: &Memory) -> Option<u64> {
    let identity = subject as u64 + 1;
    match subject {
        Subject::Client => key_of(&[KeyPart::Client { v4: 32, v6: 64 }], view, memory.secret(), identity),
        Subject::Network => key_of(std::slice::from_ref(&settings.network), view, memory.secret(), identity),
        Subject::Domain => {
            let confirmed = settings.spf.as_ref().is_some_and(|spf| {
                spf.with(view, |value| matches!(value, Value::Text(t) if t.eq_ignore_ascii_case("pass")))
            });
            let part = super::facts::FactId::find("sender.domain").map(KeyPart::Fact)?;
            key_of(&[part], view, memory.secret(), identity + 8 * u64::from(confirmed))
        }
    }
}

/// Says how a subject stands. With `touch` it is remembered as seen from now on.
pub fn standing(
    (subject, settings, memory): (Subject, &Settings, &Memory),
    view: &View<'_>,
    touch: bool,
    meeting: &mut Meeting<'_>,
) -> Standing {
    let Some(key) = key(subject, settings, view, memory) else { return Standing::default() };
    let now = view.state.wall().as_millis();
    meeting.look(
        &memory.reputation,
        key,
        || subject.word().into(),
        |found| {
            let fresh = found.filter(|entry| now < entry[2].saturating_add(lifetime_ms(settings)));
            let standing =
                Standing { reputation: fresh.and_then(|entry| share(&entry, settings, now)), seen: fresh.is_some() };
            let look = match touch {
                true => Look::Put(decayed(fresh.unwrap_or([0, 0, now, now]), settings, now)),
                false => Look::Leave,
            };
            (look, standing)
        },
    )
}

/// Adds events to the history of a subject; negative ones take back.
pub fn note(
    (subject, settings, memory): (Subject, &Settings, &Memory),
    view: &View<'_>,
    (accepted, refused): (i64, i64),
    meeting: &mut Meeting<'_>,
) {
    let Some(key) = key(subject, settings, view, memory) else { return };
    let now = view.state.wall().as_millis();
    meeting.look(
        &memory.reputation,
        key,
        || subject.word().into(),
        |found| {
            let mut entry = decayed(found.unwrap_or([0, 0, now, now]), settings, now);
            for (count, events) in entry.iter_mut().zip([accepted, refused]) {
                *count = count.saturating_add_signed(events.saturating_mul(ONE as i64));
            }
            (Look::Put(entry), ())
        },
    );
}

fn lifetime_ms(settings: &Settings) -> u64 {
    half_life_ms(settings).saturating_mul(FORGOTTEN)
}

fn half_life_ms(settings: &Settings) -> u64 {
    u64::try_from(settings.half_life.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn decayed(entry: Entry, settings: &Settings, now_ms: u64) -> Entry {
    let (age, half) = (now_ms.saturating_sub(entry[2]), half_life_ms(settings));
    // What is too little to be seen yet is not lost, else who comes every second would never be forgiven. A clock that was
    // set back takes nothing away and does not bring the past nearer.
    let steps = (u128::from(age) << 16) / u128::from(half);
    let passed = u64::try_from((steps * u128::from(half)) >> 16).unwrap_or(u64::MAX);
    [decay(entry[0], age, half), decay(entry[1], age, half), entry[2].saturating_add(passed), entry[3]]
}

fn share(entry: &Entry, settings: &Settings, now_ms: u64) -> Option<u8> {
    let [accepted, refused, ..] = decayed(*entry, settings, now_ms);
    let all = accepted.saturating_add(refused);
    let enough = all >= settings.at_least.saturating_mul(ONE);
    enough.then(|| u8::try_from((u128::from(accepted) * 100 + u128::from(all) / 2) / u128::from(all)).unwrap_or(100))
}

/// 2^(-1/2), 2^(-1/4), 2^(-1/8), … as fractions of 2^32.
const ROOTS: [u32; 16] = [
    3_037_000_500,
    3_611_622_603,
    3_938_502_376,
    4_112_874_773,
    4_202_935_003,
    4_248_701_965,
    4_271_771_996,
    4_283_353_945,
    4_289_156_690,
    4_292_061_010,
    4_293_513_907,
    4_294_240_540,
    4_294_603_903,
    4_294_785_595,
    4_294_876_445,
    4_294_921_870,
];

/// `count` · 2^(-age/half), in integers.
fn decay(count: u64, age: u64, half: u64) -> u64 {
    let halves = age / half;
    if halves >= FORGOTTEN {
        return 0;
    }
    let fraction = (u128::from(age % half) << 16) / u128::from(half);
    let mut left = u128::from(count >> halves);
    for (i, root) in ROOTS.iter().enumerate() {
        if fraction >> (15 - i) & 1 == 1 {
            left = (left * u128::from(*root)) >> 32;
        }
    }
    u64::try_from(left).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_needs_enough_events_and_forgives() {
        let settings = Settings { half_life: Duration::from_secs(3600), ..Settings::builtin() };
        let entry = [ONE, 2 * ONE, 0, 0];
        assert_eq!(share(&entry, &settings, 0), Some(33));
        // A while later it is too little to say anything.
        assert_eq!(share(&entry, &settings, 3_600_000), None);
        assert_eq!(share(&[8 * ONE, 8 * ONE, 0, 0], &settings, 3_600_000), Some(50));
        assert_eq!(decayed([ONE, 0, 5000, 1], &settings, 1000), [ONE, 0, 5000, 1]);
        // Looked at every few milliseconds for an hour, it is half all the same.
        let often = (0..3_600_000u64).step_by(10).fold([1000 * ONE, 0, 0, 0], |e, now| decayed(e, &settings, now));
        let left = decayed(often, &settings, 3_600_000)[0];
        assert!((480 * ONE..510 * ONE).contains(&left), "{left}");
    }

    proptest! {
        /// The naive twin has floating point.
        #[test]
        fn decay_is_a_power_of_two(count in 0u64..1 << 40, age in 0u64..1 << 34, half in 1000u64..1 << 32) {
            let exact = count as f64 * (-(age as f64) / half as f64).exp2();
            let exact = if age / half >= FORGOTTEN { 0.0 } else { exact };
            let ours = decay(count, age, half) as f64;
            prop_assert!((ours - exact).abs() <= exact * 0.0001 + 40.0, "{ours} {exact}");
        }
    }
}
