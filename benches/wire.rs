//! The wire room under load: the end-of-data scan against its naive twin (GB/s), and command parsing.
//!
//! Each bench checks its own answer before it measures. How it fails: a wrong answer panics.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatepost::wire::command::{self, Line};
use gatepost::wire::data::{BareNewline, DataRules, Framing, Text};
use gatepost::wire::params;
use std::hint::black_box;

const MESSAGE_OCTETS: usize = 1 << 20;

fn rules() -> DataRules {
    DataRules {
        framing: Framing::Dots,
        bare_newline: BareNewline::Refuse,
        binary: false,
        octets_max: 1 << 30,
        header_octets_max: 1 << 17,
        line_octets_max: 1 << 16,
    }
}

/// A message of text lines of about 70 octets; every `dot_every`th begins with a stuffed dot.
fn message(dot_every: usize) -> Vec<u8> {
    let mut out = b"From: a@b.example\r\nSubject: bench\r\n\r\n".to_vec();
    let mut line = 0usize;
    while out.len() < MESSAGE_OCTETS {
        line += 1;
        if dot_every > 0 && line.is_multiple_of(dot_every) {
            out.extend_from_slice(b"..");
        }
        let words = &b"the quick brown fox jumps over the lazy dog and runs away from it all"[..60 + line % 9];
        out.extend_from_slice(words);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

fn scan(input: &[u8], piece_octets: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut text = Text::new(rules());
    input.chunks(piece_octets).any(|piece| text.feed(piece, out).end) && text.offence().is_none()
}

/// The twin: one octet at a time, states in a number, the same rules.
fn scan_naive(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let (mut state, mut eight_bit) = (2u8, false); // 0 text, 1 CR, 2 line start, 3 dot, 4 dot CR
    for &b in input {
        state = match (state, b) {
            (2, b'.') => 3,
            (3, b'\r') => 4,
            (4, b'\n') => return !eight_bit,
            (1, b'\n') => {
                out.extend_from_slice(b"\r\n");
                2
            }
            (0 | 2, b'\r') => 1,
            (_, b'\n' | b'\r' | 0) | (1 | 4, _) => return false,
            _ => {
                eight_bit |= b >= 128;
                out.push(b);
                0
            }
        };
    }
    false
}

fn end_of_data(c: &mut Criterion) {
    let mut group = c.benchmark_group("end_of_data");
    for (name, dot_every) in [("ordinary", 0), ("dot_every_20_lines", 20)] {
        let input = message(dot_every);
        let (mut fast, mut naive) = (Vec::with_capacity(2 * MESSAGE_OCTETS), Vec::with_capacity(2 * MESSAGE_OCTETS));
        assert!(scan(&input, 16 * 1024, &mut fast) && scan_naive(&input, &mut naive) && fast == naive);
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("{name}/scan_16k_pieces"), |b| {
            b.iter(|| assert!(scan(black_box(&input), 16 * 1024, &mut fast)));
        });
        group.bench_function(format!("{name}/naive"), |b| {
            b.iter(|| assert!(scan_naive(black_box(&input), &mut naive)));
        });
        group.bench_function(format!("{name}/copy_only"), |b| {
            b.iter(|| {
                fast.clear();
                fast.extend_from_slice(black_box(&input));
                assert_eq!(black_box(&fast).len(), input.len());
            });
        });
    }
    group.finish();
}

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    let flight: &[u8] = b"MAIL FROM:<ann@example.org> SIZE=10240 BODY=8BITMIME\r\n";
    group.bench_function("mail_with_parameters", |b| {
        b.iter(|| {
            let command::Frame::Line { line, consumed } = command::frame(black_box(flight), 2048) else {
                panic!("no line")
            };
            let Ok(Line::Command(_, argument)) = command::parse_line(line) else { panic!("no command") };
            let Ok((path, rest)) = command::parse_mail(argument) else { panic!("no path") };
            let list = params::parse_list(rest).unwrap_or_default();
            assert_eq!((consumed, list.len(), path.mailbox().is_some()), (flight.len(), 2, true));
        });
    });
    group.bench_function("rcpt", |b| {
        b.iter(|| {
            let Ok(Line::Command(_, argument)) = command::parse_line(black_box(b"RCPT TO:<bob@example.test>")) else {
                panic!("no command")
            };
            assert!(command::parse_rcpt(argument).is_ok());
        });
    });
    group.finish();
}

criterion_group!(benches, end_of_data, commands);
criterion_main!(benches);
