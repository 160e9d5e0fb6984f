//! What a commit of the log costs: records of 10 KiB in batches of 1, 8 and 64, on the file system of `TMPDIR` (or
//! `target/tmp`; a tmpfs measures nothing). Every batch is checked to be durable by its results, and the last record is
//! read back. `raw` beside each is the same octets by one `pwrite` and one `fdatasync` into a zero-written file: what the
//! disk allows; quote the ratio of one run. How it fails: a disk error ends the bench with that error.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatepost::base::buf::{Chain, Segment};
use gatepost::log::{Log, LogOptions, RealDisk};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

const BODY_OCTETS: usize = 10 * 1024;

fn scratch() -> tempfile::TempDir {
    let base = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::Builder::new().prefix("log-bench").tempdir_in(base).expect("a scratch directory")
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("log/commit-10KiB");
    for batch in [1usize, 8, 64] {
        let temp = scratch();
        let (mut log, _) =
            Log::open(RealDisk, temp.path(), LogOptions::default(), &mut |_| {}).expect("a fresh directory");
        let body = Arc::new(vec![b'x'; BODY_OCTETS]);
        let mut next_id = 0u64;
        let mut last = None;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch-{batch}"), |b| {
            b.iter(|| {
                for _ in 0..batch {
                    let mut head = vec![0; Log::<RealDisk>::HEAD_ROOM + 200];
                    head[100] = next_id as u8;
                    let mut tail = Chain::new();
                    tail.push(Segment::shared(body.clone()));
                    log.append(1, next_id, head, tail).expect("fits");
                    next_id += 1;
                }
                for result in log.commit() {
                    let at = result.expect("a sound disk");
                    if let Some(old) = last.replace(at) {
                        log.release(old);
                    }
                }
                log.collect().expect("a sound disk");
            });
        });
        let Some(at) = last else { continue }; // left out by a filter
        assert!(log.read(at).expect("readable").ends_with(&body));
        assert_eq!(log.counters().records, next_id);
    }
    group.finish();
}

/// The least a commit could cost.
fn raw(c: &mut Criterion) {
    const FILE_OCTETS: u64 = 64 << 20;
    let mut group = c.benchmark_group("log/raw-10KiB");
    for batch in [1usize, 8, 64] {
        let temp = scratch();
        let file = std::fs::File::create(temp.path().join("raw")).expect("a fresh file");
        let octets = vec![b'x'; (batch * (BODY_OCTETS + 256)).next_multiple_of(4096)];
        file.write_all_at(&vec![0; FILE_OCTETS as usize], 0).and_then(|()| file.sync_all()).expect("a sound disk");
        let mut at = 0;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch-{batch}"), |b| {
            b.iter(|| {
                if at + octets.len() as u64 > FILE_OCTETS {
                    at = 0;
                }
                file.write_all_at(&octets, at).and_then(|()| file.sync_data()).expect("a sound disk");
                at += octets.len() as u64;
            });
        });
        assert_eq!(file.metadata().expect("a file").len(), FILE_OCTETS);
    }
    group.finish();
}

criterion_group!(benches, commit, raw);
criterion_main!(benches);
