//! Limits as the policy file declares them: what is counted, per which key, at which rate.
//!
//! How it fails: reading returns what was expected; making a key is total.

use super::facts::FactId;
use super::program::Operand;
use super::stage::Stage;
use super::state::View;
use super::value::Value;
use crate::base::knob::{KnobType, Octets, Raw, parse_duration};
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

crate::knob_words! {
    /// What a limit counts.
    pub enum Counts {
        /// Connections, at connect.
        Connection = "connection",
        /// Messages: where the rule stands, at mail (each MAIL FROM), data or message (each message received).
        Message = "message",
        /// Recipients that were accepted.
        Recipient = "recipient",
        /// Octets: at mail those declared, at message those received.
        Octets = "octets",
        /// Failed authentications; at connect, helo and mail it is only looked at.
        AuthFailure = "auth-failure",
        /// Connections open at the same time.
        Concurrency = "concurrency",
    }
}

impl Counts {
    /// The stages at which a rule may name such a limit.
    pub fn stages(self) -> &'static [Stage] {
        match self {
            Counts::Connection => &[Stage::Connect],
            Counts::Message => &[Stage::Mail, Stage::Data, Stage::Message],
            Counts::Recipient => &[Stage::Rcpt],
            Counts::Octets => &[Stage::Mail, Stage::Message],
            Counts::AuthFailure => &[Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail],
            Counts::Concurrency => &[Stage::Connect, Stage::Helo, Stage::Auth],
        }
    }
}

/// What a limit holds its key to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many in a period, and in one go `burst`: GCRA.
    Rate(Rate),
    /// So many at the same time.
    AtOnce(u32),
}

/// A rate. The time one unit stands for may be a fraction of a nanosecond, so period and count are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per period; at least one.
    pub units: u64,
    /// The period in nanoseconds.
    pub period_ns: u64,
    /// Units that may come at once after a rest; at least one.
    pub burst: u64,
}

impl Rate {
    /// Longest period: what is counted must fit 64-bit nanoseconds with room to spare.
    pub const PERIOD_MAX: Duration = Duration::from_secs(31 * 86_400);
    /// Units at most, in a period or a burst.
    pub const UNITS_MAX: u64 = 1 << 40;

    /// Time that `n` units stand for, in nanoseconds.
    pub fn cost_ns(&self, n: u64) -> u64 {
        match n.checked_mul(self.period_ns) {
            Some(product) => product / self.units,
            None => {
                u64::try_from(u128::from(n) * u128::from(self.period_ns) / u128::from(self.units)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads `60/minute`, `10/30s`, `100MiB/hour`. The burst is the units of one period.
    pub fn parse(text: &str) -> Option<Rate> {
        let (units, period) = text.split_once('/')?;
        let units = Octets::parse(&Raw::Text(units.trim().into())).ok()?.0;
        let period = match period.trim() {
            "second" => Duration::from_secs(1),
            "minute" => Duration::from_secs(60),
            "hour" => Duration::from_secs(3600),
            "day" => Duration::from_secs(86_400),
            other => parse_duration(other)?,
        };
        let fits = (1..=Self::UNITS_MAX).contains(&units) && !period.is_zero() && period <= Self::PERIOD_MAX;
        fits.then_some(Rate { units, period_ns: period.as_nanos() as u64, burst: units })
    }
}

/// One part of a limit's key.
#[derive(Clone, Debug)]
pub enum KeyPart {
    /// The client's network: IPv4 and IPv6 prefix lengths.
    Client {
        /// 0 to 32.
        v4: u8,
        /// 0 to 128.
        v6: u8,
    },
    /// A fact, without regard to case; addresses without `+detail`, so that nobody evades by it.
    Fact(FactId),
}

/// Facts that may be parts of a key.
pub const KEY_FACTS: [&str; 9] =
    ["user", "sender", "sender.domain", "rcpt", "rcpt.domain", "helo", "listener", "client.ptr", "tls.client_name"];

impl KeyPart {
    /// Reads `client`, `client/24,64`, `user`, `sender.domain`, …
    pub fn parse(text: &str) -> Option<KeyPart> {
        let text = text.trim();
        if text == "client" {
            // A host of IPv6 has a /64 of addresses to hide in; one may still ask for /128.
            return Some(KeyPart::Client { v4: 32, v6: 64 });
        }
        if let Some(lengths) = text.strip_prefix("client/") {
            let (v4, v6) = lengths.split_once(',').unwrap_or((lengths, "64"));
            let v4 = v4.trim().parse().ok().filter(|n| *n <= 32)?;
            let v6 = v6.trim().parse().ok().filter(|n| *n <= 128)?;
            return Some(KeyPart::Client { v4, v6 });
        }
        KEY_FACTS.contains(&text).then(|| FactId::find(text)).flatten().map(KeyPart::Fact)
    }
    /// The fact it reads.
    pub fn fact(&self) -> Option<FactId> {
        match self {
            KeyPart::Client { .. } => FactId::find("client"),
            KeyPart::Fact(id) => Some(*id),
        }
    }
    /// Adds the part to the key; `false` when it is empty or unknown.
    pub(super) fn add(&self, view: &View<'_>, hasher: &mut DefaultHasher) -> bool {
        match self {
            KeyPart::Client { v4, v6 } => match view.state.peer.ip {
                Some(IpAddr::V4(ip)) => {
                    hasher.write_u32(u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(*v4)).unwrap_or(0));
                    true
                }
                Some(IpAddr::V6(ip)) => {
                    hasher.write_u128(u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(*v6)).unwrap_or(0));
                    true
                }
                None => false,
            },
            KeyPart::Fact(id) if view.state.missing.is_unkeyed(*id) => false,
            KeyPart::Fact(id) => Operand::fact(*id).with_hidden(view, |value| match value {
                Value::Text(t) if !t.is_empty() => {
                    add_text(t, hasher);
                    true
                }
                _ => false,
            }),
        }
    }
}

/// Adds a text in lower case, an address without `+detail`, and an end mark that no text contains.
pub(super) fn add_text(text: &str, hasher: &mut DefaultHasher) {
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
    let local = match domain.is_empty() {
        true => local,
        false => local.split_once('+').map_or(local, |(base, _)| if base.is_empty() { local } else { base }),
    };
    // In pieces of a fixed size: one call per octet would be slow, a copy in lower case would allocate.
    let mut piece = [0u8; 64];
    for (i, part) in [local, domain].into_iter().enumerate() {
        for chunk in part.as_bytes().chunks(piece.len()) {
            let low = &mut piece[..chunk.len()];
            low.copy_from_slice(chunk);
            low.make_ascii_lowercase();
            hasher.write(low);
        }
        hasher.write_u8(0xff - i as u8);
    }
}

/// A limit of the policy.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// Of what each key has its own count.
    pub per: Vec<KeyPart>,
    /// What is counted.
    pub counts: Counts,
    /// How many.
    pub bound: Bound,
    /// As written, for messages: `60/minute per client/24,64`.
    pub shown: String,
    /// Name, key, rate and kind as one number: the same over reloads while none of them changes.
    pub identity: u64,
}

impl Limit {
    /// The key in words, for reports.
    pub fn key_words(&self, view: &View<'_>) -> String {
        let words = self.per.iter().map(|part| match part {
            KeyPart::Client { v4, v6 } => match view.state.peer.ip {
                Some(IpAddr::V4(ip)) => {
                    let net = u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(*v4)).unwrap_or(0);
                    format!("{}/{v4}", std::net::Ipv4Addr::from(net))
                }
                Some(IpAddr::V6(ip)) => {
                    let net = u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(*v6)).unwrap_or(0);
                    format!("{}/{v6}", std::net::Ipv6Addr::from(net))
                }
                None => String::new(),
            },
            KeyPart::Fact(id) => Operand::fact(*id).with_hidden(view, |value| match value {
                Value::Text(t) => t.to_ascii_lowercase(),
                other => other.to_string(),
            }),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The key of the session for this limit, mixed with a secret so that nobody outside can choose colliding keys.
    /// `None` when a part is empty (no user, null sender): the limit does not apply then.
    pub fn key(&self, view: &View<'_>, secret: u64) -> Option<u64> {
        key_of(&self.per, view, secret, self.identity)
    }
}

/// The key that the parts make for a session, `None` when one of them is empty or unknown. `identity` sets apart what is
/// counted.
pub(super) fn key_of(parts: &[KeyPart], view: &View<'_>, secret: u64, identity: u64) -> Option<u64> {
    let mut known = true;
    let key = key_with(secret, identity, |hasher| known = parts.iter().all(|part| part.add(view, hasher)));
    known.then_some(key)
}

/// A key made of whatever `add` adds.
pub(super) fn key_with(secret: u64, identity: u64, add: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(secret);
    hasher.write_u64(identity);
    add(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_cost() {
        let r = Rate::parse("60/minute").unwrap();
        assert_eq!((r.cost_ns(1), r.burst), (1_000_000_000, 60));
        assert_eq!(Rate::parse("10GiB/second").unwrap().cost_ns(10 << 30), 1_000_000_000);
        assert_eq!(Rate::parse("1/30s").unwrap().cost_ns(2), 60_000_000_000);
        assert_eq!(Rate::parse("1/31d").unwrap().cost_ns(u64::MAX), u64::MAX);
        for bad in ["60", "0/minute", "60/fortnight", "1/32d", "x/minute", "1/0s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn detail_and_case_make_no_new_key() {
        let key = |t: &str| {
            let mut h = DefaultHasher::new();
            add_text(t, &mut h);
            h.finish()
        };
        assert_eq!(key("Ann+x@example.org"), key("ann+yy@EXAMPLE.org"));
        assert_ne!(key("ann@example.org"), key("ann@example.net"));
        assert_ne!(key("a+b"), key("a+c")); // no address, no detail
        assert_ne!(key("+x@e.org"), key("+y@e.org"));
        assert!(KeyPart::parse("client/33").is_none() && KeyPart::parse("rcpt.count").is_none());
        assert!(matches!(KeyPart::parse("client/24,56"), Some(KeyPart::Client { v4: 24, v6: 56 })));
    }
}
