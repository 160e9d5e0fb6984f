//! The fuzz targets as short tests: each begins from its seeds and runs on what mutation makes of them, for a second or two,
//! with a seed that is printed and can be given again (`GATEPOST_FUZZ_SEED`, `GATEPOST_FUZZ_SECONDS`). Longer runs, guided by
//! coverage: `fuzz/README.md`.
//!
//! How it fails: the panic comes with the input, as a literal that can be added to the seeds.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use targets::TARGETS;

/// Longer inputs find little that shorter ones do not.
const OCTETS_MAX: usize = 4096;

/// Fragments that parsers care about.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n.\r\n",
    b"\"",
    b"\\",
    b"(",
    b")",
    b"{3}\r\n",
    b"{99999999999}",
    b"<",
    b">",
    b"@",
    b" ",
    b"\t",
    b"=",
    b"*",
    b":",
    b";",
    b",",
    b"%",
    b"&",
    b"--",
    b"=?utf-8?b?",
    b"?=",
    b"\xff",
    b"\xc3\xa4",
    b"4294967296",
    b"18446744073709551616",
    b"-1",
    b"[[",
    b"]]",
    b"MAIL FROM:<a@b>\r\n",
    b"DATA\r\n",
    b"BDAT 3\r\n",
    b"\xf0\x9f\x98\x80",
];

fn mutate(rng: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=input.len());
        match rng.u8(..8) {
            0 if !input.is_empty() => {
                let at = rng.usize(..input.len());
                input[at] ^= 1 << rng.u8(..8);
            }
            1 if !input.is_empty() => {
                let at = rng.usize(..input.len());
                input[at] = rng.u8(..);
            }
            2 => input.insert(at, rng.u8(..)),
            3 => {
                let end = rng.usize(at..=input.len());
                input.drain(at..end);
            }
            4 | 5 => {
                let word = WORDS[rng.usize(..WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            6 => {
                let end = rng.usize(at..=input.len()).min(at + 64);
                let copy = input[at..end].to_vec();
                let to = rng.usize(..=input.len());
                input.splice(to..to, copy);
            }
            _ if !other.is_empty() => {
                let from = rng.usize(..other.len());
                let to = rng.usize(from..=other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {}
        }
        input.truncate(OCTETS_MAX);
    }
}

fn run(name: &str) {
    let (_, target, seeds) = TARGETS.iter().find(|(n, ..)| *n == name).expect("a target of that name");
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("GATEPOST_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(number("GATEPOST_FUZZ_SECONDS").unwrap_or(2));
    let mut rng = fastrand::Rng::with_seed(seed);
    let try_one = |input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            panic!("{name}, GATEPOST_FUZZ_SEED={seed}: on b\"{}\"", input.escape_ascii());
        }
    };
    // Inputs that ran well are kept now and then, so that mutations pile up.
    let mut kept: Vec<Vec<u8>> = seeds.iter().map(|s| s.to_vec()).collect();
    kept.iter().for_each(|input| try_one(input));
    let began = Instant::now();
    let mut rounds = 0u64;
    while began.elapsed() < time {
        let mut input = kept[rng.usize(..kept.len())].clone();
        let other = kept[rng.usize(..kept.len())].clone();
        mutate(&mut rng, &mut input, &other);
        try_one(&input);
        rounds += 1;
        if rng.u8(..) < 8 {
            match kept.len() {
                0..256 => kept.push(input),
                n => {
                    let place = rng.usize(seeds.len()..n);
                    kept[place] = input;
                }
            }
        }
    }
    println!("{name}: {rounds} inputs, seed {seed}");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_runs() {
            assert_eq!(TARGETS.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
            for name in [$(stringify!($name)),*] {
                let path = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                assert!(text.contains(&format!("\"{name}\"")), "{path} runs another target");
            }
        }
    };
}
targets! { smtp_server smtp_replies smtp_arguments proxy pop3_line imap_commands milter mime mailbox_name policy journal }
