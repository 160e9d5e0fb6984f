//! What the policy costs: a decision over 200 rules, a look into a list of 1,000,000 networks, a limit check.
//!
//! Each bench asserts its answer. Targets: 3 µs, 100 ns, 80 ns; loading the list under a second.

use criterion::{Criterion, criterion_group, criterion_main};
use gatepost::base::address::ReversePath;
use gatepost::base::envelope::{MailParameters, Recipient};
use gatepost::base::time::{Instant, WallTime};
use gatepost::policy::{Builtins, ClientFacts, Files, Limits, Networks, NoFiles, Policy, Rate, Session, parse_network};
use gatepost::wire::address::parse_mailbox;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const RULES: usize = 200;

/// Rules as people write them, none of which matches the session: every one is tried.
fn rules() -> String {
    let mut out = String::from(
        "[list.bad]\nnetworks = [\"198.51.100.0/24\", \"2001:db8:bad::/48\"]\ndomains = [\".bad.example\"]\n",
    );
    for i in 0..RULES {
        let when = match i % 8 {
            0 => format!("client in 10.{i}.0.0/16 and not authenticated"),
            1 => format!("sender.domain == 'spam{i}.example' or sender.domain ends_with '.spam{i}.example'"),
            2 => format!("rcpt.local == 'user{i}' and rcpt.domain in @local-domains"),
            3 => format!("sender matches /^news{i}[0-9]*@/i"),
            4 => "client in @bad or sender.domain in @bad".to_owned(),
            5 => format!("rcpt.count + rcpt.refused > {}", 50 + i),
            6 => format!("helo contains 'dyn{i}.' and client not in @loopback"),
            _ => format!("sender.null and rcpt.count > {i} or tls.version == 'SSLv{i}'"),
        };
        out += &format!("[[rule]]\nname = \"r{i}\"\nstage = \"rcpt\"\nwhen = \"{when}\"\nthen = \"reject\"\n");
    }
    out
}

fn two_hundred_rules(c: &mut Criterion) {
    let builtins = Builtins::new(["example.test"]).expect("a domain");
    let policy = Arc::new(Policy::compile("bench.toml", &rules(), &NoFiles, &builtins).expect("it compiles"));
    assert_eq!(policy.rules().len(), RULES);
    let client = ClientFacts { client: ([203, 0, 113, 9], 4000).into(), ..ClientFacts::default() };
    let now = Instant::from_nanos(1);
    let mut session = Session::new(policy, Limits::new(1024, 1), client, now, WallTime::default());
    session.helo(now, "mail.example.net", true);
    let sender = ReversePath::Mailbox(parse_mailbox("ann@mail.example.org").expect("an address"));
    session.mail(now, &sender, &MailParameters::default());
    let recipient = Recipient::plain(parse_mailbox("bob@example.test").expect("an address"));
    c.bench_function("policy/200 rules, none matches", |b| {
        b.iter(|| {
            let decision = session.rcpt(now, black_box(&recipient), Some(true));
            session.recipient_refused(); // keeps the count of recipients where it was
            session.reset();
            session.mail(now, &sender, &MailParameters::default());
            assert!(decision.verdict.passes());
        });
    });
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct OneFile(String);

impl Files for OneFile {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }
}

fn million_networks(c: &mut Criterion) {
    let mut numbers = Numbers(1);
    // Three quarters IPv4 /24 to /32, one quarter IPv6 /48; even third octets only, so that odd ones are not in it.
    let text: String = (0..1_000_000)
        .map(|i| {
            let n = numbers.next();
            match i % 4 {
                0 => format!("2a00:{:x}:{:x}::/48\n", n & 0xffff, n >> 16 & 0xfffe),
                1 => format!("{}.{}.{}.{}\n", n & 0xff, n >> 8 & 0xff, n >> 16 & 0xfe, n >> 24 & 0xff),
                _ => format!("{}.{}.{}.0/24\n", n & 0xff, n >> 8 & 0xff, n >> 16 & 0xfe),
            }
        })
        .collect();
    let source =
        "[list.big]\nfile = 'big'\n[[rule]]\nname = 'r'\nstage = 'connect'\nwhen = 'client in @big'\nthen = 'reject'\n";
    let files = OneFile(text);
    let start = std::time::Instant::now();
    let policy = Policy::compile("big.toml", source, &files, &Builtins::default()).expect("it compiles");
    println!("policy/load 1,000,000 networks: {:?} ({} rule)", start.elapsed(), policy.rules().len());

    let set = Networks::new(files.0.lines().map(|l| parse_network(l).expect("a network")));
    println!("policy/1,000,000 networks are {} ranges", set.len());
    let mut ask = |name: &str, make: &dyn Fn(u64) -> (IpAddr, bool)| {
        let asked: Vec<(IpAddr, bool)> = (0..1 << 16).map(|_| make(numbers.next())).collect();
        let mut at = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                at = (at + 1) & (asked.len() - 1);
                let (ip, never) = asked[at];
                let found = set.contains(black_box(ip));
                assert!(!(never && found));
                found
            });
        });
    };
    ask("policy/1,000,000 networks, IPv4", &|n| {
        let octets = [n as u8, (n >> 8) as u8, (n >> 16) as u8, (n >> 24) as u8];
        (IpAddr::V4(Ipv4Addr::from(octets)), octets[2] & 1 == 1)
    });
    ask("policy/1,000,000 networks, IPv6", &|n| {
        let third = (n >> 16) as u16;
        (IpAddr::V6(Ipv6Addr::new(0x2a00, n as u16, third, 1, 2, 3, 4, 5)), third & 1 == 1)
    });
}

fn limit_check(c: &mut Criterion) {
    let limits = Limits::new(262_144, 7);
    let rate = Rate::parse("1000000/second").expect("a rate");
    let mut numbers = Numbers(3);
    let keys: Vec<u64> = (0..10_000).map(|_| numbers.next()).collect();
    let (mut at, mut now) = (0, 1_000_000_000);
    c.bench_function("policy/limit check", |b| {
        b.iter(|| {
            at = (at + 1) % keys.len();
            now += 1_000;
            let taken = limits.take(black_box(keys[at]), &rate, 1, Instant::from_nanos(now));
            assert!(taken.is_ok());
        });
    });
    assert_eq!(limits.evicted(), 0);
}

criterion_group!(benches, two_hundred_rules, million_networks, limit_check);
criterion_main!(benches);
