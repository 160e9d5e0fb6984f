//! The log on a disk that breaks. Every random test prints its seed when it fails.

use super::fault::{FaultDisk, Survival};
use super::segment::{Name, SegmentHeader};
use super::*;
use crate::base::buf::{Chain, Segment};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const OPTIONS: LogOptions = LogOptions { segment_octets: 64 * 1024, spares_max: 2 };
const KIND: u8 = 7;

type Contents = BTreeMap<u64, (Location, Vec<u8>)>;

fn dir() -> &'static Path {
    Path::new("/log")
}

fn open(disk: &FaultDisk) -> (Log<FaultDisk>, Recovery, Contents) {
    let mut contents = Contents::new();
    let mut outdated = Vec::new();
    let (mut log, recovery) = Log::open(disk.clone(), dir(), OPTIONS, &mut |r| {
        assert_eq!(r.kind, KIND);
        // A record that was being moved may be there twice.
        outdated.extend(contents.insert(r.id, (r.at, r.payload.to_vec())).map(|(at, _)| at));
    })
    .unwrap();
    outdated.into_iter().for_each(|at| log.release(at));
    (log, recovery, contents)
}

/// A payload that can be told from every other: its id, then a pattern.
fn payload(id: u64, octets: usize) -> Vec<u8> {
    let mut p = id.to_le_bytes().to_vec();
    p.extend((0..octets).map(|i| (i as u64 ^ id).wrapping_mul(31) as u8));
    p
}

fn append(log: &mut Log<impl Disk>, id: u64, octets: usize) -> usize {
    let whole = payload(id, octets);
    let cut = whole.len() / 3;
    let mut head = vec![0xee; Log::<FaultDisk>::HEAD_ROOM];
    head.extend_from_slice(&whole[..cut]);
    let mut tail = Chain::new();
    tail.push(Segment::shared(Arc::new(whole[cut..].to_vec())));
    log.append(KIND, id, head, tail).unwrap()
}

fn commit_one(log: &mut Log<FaultDisk>, id: u64, octets: usize) -> Location {
    append(log, id, octets);
    log.commit().remove(0).unwrap()
}

fn segment_path(number: u32) -> std::path::PathBuf {
    Name::Segment(number).path(dir())
}

#[test]
fn what_is_committed_is_read_back_and_a_commit_is_one_write_and_one_sync() {
    let disk = FaultDisk::new(1);
    let (mut log, recovery, _) = open(&disk);
    assert_eq!(recovery, Recovery::default());
    let first = commit_one(&mut log, 1, 100);
    let before = disk.operations();
    (2..10).for_each(|id| {
        append(&mut log, id, 1000);
    });
    let places: Vec<Location> = log.commit().into_iter().map(Result::unwrap).collect();
    assert_eq!(disk.operations() - before, 2);
    assert_eq!(log.read(first).unwrap(), payload(1, 100));
    assert_eq!(log.read(places[3]).unwrap(), payload(5, 1000));
    assert_eq!(log.read_front(places[3], 8).unwrap(), 5u64.to_le_bytes());
    drop(log);
    let (_, recovery, contents) = open(&disk);
    assert_eq!(contents.len(), 9);
    assert!(contents.iter().all(|(id, (_, p))| p.starts_with(&id.to_le_bytes())));
    assert_eq!((recovery.records, recovery.segments), (9, 1));
    assert!(recovery.torn.is_empty() && !recovery.is_damaged());
}

#[test]
fn a_batch_may_span_segments_but_a_record_may_not() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    (0..30).for_each(|id| {
        append(&mut log, id, 5000);
    });
    assert!(log.commit().iter().all(Result::is_ok));
    assert!(log.counters().segments >= 3);
    let max = log.payload_octets_max() as usize;
    append(&mut log, 100, max - 8);
    assert!(log.commit()[0].is_ok());
    let too_large = log.append(KIND, 101, vec![0; Log::<FaultDisk>::HEAD_ROOM + max + 1], Chain::new());
    assert!(matches!(too_large, Err(LogError::TooLarge { octets, octets_max }) if octets == octets_max + 1));
    drop(log);
    let (_, recovery, contents) = open(&disk);
    assert_eq!(contents.len(), 31);
    assert!(!recovery.is_damaged() && recovery.torn.is_empty(), "{recovery:?}");
}

#[test]
fn a_directory_has_one_owner() {
    let disk = FaultDisk::new(1);
    let (log, ..) = open(&disk);
    let second = Log::open(disk.clone(), dir(), OPTIONS, &mut |_| {});
    let error = second.err().unwrap();
    assert_eq!(error, LogError::Locked { directory: dir().to_owned() });
    assert_eq!(error.to_string(), "/log is in use by another instance; stop it or use its socket");
    drop(log);
    open(&disk);
}

#[test]
fn the_real_disk_locks_writes_and_reads_back() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let (mut log, _) = Log::open(RealDisk, &path, OPTIONS, &mut |_| {}).unwrap();
    assert!(matches!(Log::open(RealDisk, &path, OPTIONS, &mut |_| {}), Err(LogError::Locked { .. })));
    for id in 0..2000 {
        append(&mut log, id, 10);
    }
    assert!(log.commit().iter().all(Result::is_ok), "more parts than one pwritev takes");
    drop(log);
    let mut ids = Vec::new();
    let (log, recovery) = Log::open(RealDisk, &path, OPTIONS, &mut |r| {
        assert_eq!(r.payload, payload(r.id, 10));
        ids.push(r.id);
    })
    .unwrap();
    assert_eq!(ids, (0..2000).collect::<Vec<_>>());
    assert!(!recovery.is_damaged());
    drop(log);
    assert!(RealDisk.free_octets(&path).unwrap() > 0);
}

#[test]
fn a_failed_sync_is_final_for_its_segment_and_nothing_of_it_comes_back() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let kept = commit_one(&mut log, 1, 100);
    disk.fail_sync_after(1);
    append(&mut log, 2, 100);
    append(&mut log, 3, 100);
    let results = log.commit();
    assert!(results.iter().all(|r| matches!(r, Err(LogError::Disk { doing: "committing to", .. }))), "{results:?}");
    let after = commit_one(&mut log, 4, 100);
    assert_ne!(after.segment, kept.segment);
    assert_eq!(log.counters().commits_failed, 1);
    drop(log);
    // Even if the sectors of the failed batch did reach the disk, its senders were told to come again.
    let (mut log, recovery, contents) = open(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), [1, 4]);
    assert!(!recovery.is_damaged());
    // Nor later, when the segment that says so is gone.
    log.release(after);
    let next = commit_one(&mut log, 5, 10);
    assert_eq!(log.collect().unwrap(), [after.segment]);
    drop(log);
    let (_, recovery, contents) = open(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), [1, 5]);
    assert!(!recovery.is_damaged());
    assert_ne!(next.segment, after.segment);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let first = commit_one(&mut log, 0, 100);
    disk.set_capacity(disk.used_octets());
    let mut committed = vec![(0, first)];
    let error = loop {
        append(&mut log, committed.len() as u64, 9000);
        match log.commit().remove(0) {
            Ok(at) => committed.push((committed.len() as u64, at)),
            Err(e) => break e,
        }
    };
    assert!(error.is_full(), "{error}");
    for (_, at) in committed.drain(1..) {
        log.release(at);
    }
    log.release(first);
    disk.set_capacity(u64::MAX);
    commit_one(&mut log, 99, 9000);
    assert_eq!(log.collect().unwrap(), [1]);
}

#[test]
fn dead_segments_are_recycled_and_their_past_is_not_mistaken() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    for round in 0..40u64 {
        let places: Vec<Location> = (0..3).map(|i| commit_one(&mut log, round * 3 + i, 9000)).collect();
        places.into_iter().for_each(|at| log.release(at));
        log.collect().unwrap();
    }
    assert!(disk.used_octets() <= 4 * OPTIONS.segment_octets, "{}", disk.used_octets());
    let last = commit_one(&mut log, 1000, 10);
    drop(log);
    // All that is on disk now is the past of recycled segments, and one record.
    let (mut log, recovery, contents) = open(&disk);
    assert!(contents.contains_key(&1000));
    assert!(contents.len() <= 7, "only the active segment and the last dead one: {contents:?}");
    assert!(!recovery.is_damaged() && recovery.torn.is_empty(), "{recovery:?}");
    contents.values().for_each(|(at, _)| log.release(*at));
    log.collect().unwrap();
    drop(log);
    let (mut log, _, contents) = open(&disk);
    assert!(contents.is_empty());
    // Numbers begin again from one; the mark tells the lives of a file apart.
    let again = commit_one(&mut log, 5, 10);
    assert_eq!(again.segment, 1);
    assert_eq!(last.octets, again.octets);
    drop(log);
    assert_eq!(open(&disk).2.keys().copied().collect::<Vec<_>>(), [5]);
}

#[test]
fn a_torn_tail_is_said_to_be_one() {
    for survival in [Survival::Prefix, Survival::Subset] {
        let mut torn = 0;
        for seed in 0..100 {
            let disk = FaultDisk::new(seed);
            let (mut log, ..) = open(&disk);
            commit_one(&mut log, 1, 3000);
            disk.cut_power_after(2); // the sync after the write
            (2..6).for_each(|id| {
                append(&mut log, id, 3000);
            });
            assert!(log.commit().iter().all(Result::is_err));
            drop(log);
            disk.restart(survival);
            let (_, recovery, contents) = open(&disk);
            assert!(!recovery.is_damaged(), "seed {seed}: {recovery:?}");
            assert!(contents.contains_key(&1));
            let whole = (2..6).take_while(|id| contents.contains_key(id)).count();
            assert_eq!(contents.len(), 1 + whole, "seed {seed}: records behind the tear are dropped");
            torn += recovery.torn.len();
        }
        assert!(torn > 50, "{survival:?}: {torn}");
    }
}

#[test]
fn damage_in_the_middle_is_told_from_a_torn_tail_and_costs_only_what_it_hit() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let places: Vec<Location> = (0..5).map(|id| commit_one(&mut log, id, 500)).collect();
    drop(log);
    let hit = places[2];
    // In the payload: the header still says whose it was.
    disk.flip_bit(&segment_path(hit.segment), hit.offset as usize + 100, 3);
    let (log, recovery, contents) = open(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.damage[0].record, Some((KIND, 2)));
    assert_eq!(recovery.damage[0].from, u64::from(hit.offset));
    assert_eq!(recovery.damage[0].to, u64::from(places[3].offset));
    assert!(recovery.is_damaged() && recovery.torn.is_empty());
    assert_eq!(log.read(hit), Err(LogError::Damaged { at: hit }));
    drop(log);
    // In the header of another one.
    disk.flip_bit(&segment_path(hit.segment), places[0].offset as usize + 20, 0);
    let (_, recovery, contents) = open(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(recovery.damage.iter().map(|d| d.record).collect::<Vec<_>>(), [None, Some((KIND, 2))]);
}

#[test]
fn a_damaged_segment_header_costs_nothing_but_a_shout() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let at = commit_one(&mut log, 1, 500);
    drop(log);
    disk.flip_bit(&segment_path(at.segment), 30, 1);
    let (log, recovery, contents) = open(&disk);
    assert_eq!(recovery.headers_damaged, [at.segment]);
    assert!(contents.contains_key(&1));
    drop(log);
    // With the first record gone as well nothing in it can be trusted: it is set aside for the operator.
    disk.flip_bit(&segment_path(at.segment), at.offset as usize, 1);
    let (_, recovery, contents) = open(&disk);
    assert!(contents.is_empty() && recovery.is_damaged());
    assert!(disk.paths().contains(&Name::Damaged(at.segment).path(dir())));
}

#[test]
fn mail_that_imitates_a_record_is_not_taken_for_one() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let victim = commit_one(&mut log, 1, 64);
    // An attacker who knew everything but the mark, and a byte-exact copy of a real record at another place.
    let real = disk.contents(&segment_path(victim.segment)).unwrap();
    let copy = real[victim.offset as usize..][..victim.footprint() as usize].to_vec();
    let mut head = vec![0; Log::<FaultDisk>::HEAD_ROOM];
    head.extend_from_slice(&copy);
    log.append(KIND, 2, head, Chain::new()).unwrap();
    let outer = log.commit().remove(0).unwrap();
    commit_one(&mut log, 3, 10);
    drop(log);
    disk.flip_bit(&segment_path(outer.segment), outer.offset as usize + 10, 1);
    let (_, recovery, contents) = open(&disk);
    assert_eq!(contents.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(recovery.damage.len(), 1);
}

#[test]
fn compaction_moves_what_is_left_and_frees_the_segment() {
    let disk = FaultDisk::new(1);
    let (mut log, ..) = open(&disk);
    let places: Vec<Location> = (0..20).map(|id| commit_one(&mut log, id, 2500)).collect();
    let first = places[0].segment;
    let (kept, dead): (Vec<Location>, Vec<Location>) =
        places.iter().partition(|at| at.segment != first || at.offset == places[1].offset);
    dead.into_iter().for_each(|at| log.release(at));
    assert!(kept.len() > 1);
    let done = log.compact(1 << 20, &mut |_, _| true);
    assert_eq!(done.moving.iter().map(|m| (m.id, m.from)).collect::<Vec<_>>(), [(1, places[1])]);
    let to = log.commit()[done.moving[0].index].clone().unwrap();
    log.release(places[1]);
    assert_eq!(log.read(to).unwrap(), payload(1, 2500));
    assert_eq!(log.collect().unwrap(), [first]);
    assert!(log.compact(1 << 20, &mut |_, _| true).moving.is_empty(), "nothing else is nearly dead");
}

#[test]
fn a_segment_header_reads_back() {
    let header = SegmentHeader { mark: 77, number: 9, seals: BTreeMap::from([(3, 8192), (8, 4096)]) };
    let page = header.encode();
    assert_eq!(SegmentHeader::decode(&page), Ok(Some(header)));
    let mut newer = page.clone();
    newer[20] = 9;
    let crc = crc32c::crc32c(&newer[20..]);
    newer[16..20].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&newer), Err(9));
    assert_eq!(SegmentHeader::decode(&page[..100]), Ok(None));
}

/// What the ledger of a random run knows.
#[derive(Default)]
struct Ledger {
    /// Committed and not released.
    live: BTreeMap<u64, (Location, usize)>,
    /// Released, so that it may be there or not.
    released: Vec<u64>,
    /// In a batch that the power cut interrupted: it may be there or not.
    doubtful: Vec<u64>,
    /// In a batch that was answered with an error while the machine stayed up.
    refused: Vec<u64>,
}

fn random_run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = FaultDisk::new(seed);
    disk.set_short_writes(rng.bool());
    let mut ledger = Ledger::default();
    let mut next_id = 1;
    for _ in 0..rng.usize(1..4) {
        let (mut log, recovery, contents) = open(&disk);
        check(seed, &mut ledger, &mut log, &recovery, contents);
        if rng.u8(..4) > 0 {
            disk.cut_power_after(rng.u64(1..60));
        }
        for _ in 0..rng.usize(1..20) {
            step(&mut rng, &disk, &mut log, &mut ledger, &mut next_id);
            if disk.is_off() {
                break;
            }
        }
        drop(log);
        disk.restart(Survival::Any);
    }
    let (mut log, recovery, contents) = open(&disk);
    check(seed, &mut ledger, &mut log, &recovery, contents);
}

fn step(rng: &mut fastrand::Rng, disk: &FaultDisk, log: &mut Log<FaultDisk>, ledger: &mut Ledger, next_id: &mut u64) {
    match rng.u8(..10) {
        0 => disk.fail_sync_after(rng.u64(1..6)),
        1 => disk.set_capacity(if rng.bool() { disk.used_octets() } else { u64::MAX }),
        2 | 3 => {
            let ids: Vec<u64> = ledger.live.keys().copied().filter(|_| rng.bool()).collect();
            for id in ids {
                let (at, _) = ledger.live.remove(&id).unwrap();
                ledger.released.push(id);
                log.release(at);
            }
            let _ = log.collect();
        }
        4 => {
            let done = log.compact(rng.u64(1..50_000), &mut |_, _| true);
            let results = log.commit();
            for m in done.moving {
                if let Ok(to) = &results[m.index] {
                    log.release(m.from);
                    ledger.live.get_mut(&m.id).unwrap().0 = *to;
                }
            }
        }
        _ => {
            let ids: Vec<(u64, usize)> =
                (0..rng.usize(1..8)).map(|i| (*next_id + i as u64, rng.usize(0..6000))).collect();
            *next_id += ids.len() as u64;
            ids.iter().for_each(|(id, octets)| {
                append(log, *id, *octets);
            });
            let results = log.commit();
            for ((id, octets), result) in ids.into_iter().zip(results) {
                match result {
                    Ok(at) => {
                        ledger.live.insert(id, (at, octets));
                    }
                    Err(_) if disk.is_off() => ledger.doubtful.push(id),
                    Err(_) => ledger.refused.push(id),
                }
            }
        }
    }
}

fn check(seed: u64, ledger: &mut Ledger, log: &mut Log<FaultDisk>, recovery: &Recovery, contents: Contents) {
    assert!(!recovery.is_damaged(), "seed {seed}: {recovery:?}");
    for (id, (at, octets)) in &mut ledger.live {
        let (found, bytes) = contents.get(id).unwrap_or_else(|| panic!("seed {seed}: {id} is lost; {recovery:?}"));
        assert!(*bytes == payload(*id, *octets), "seed {seed}: {id} came back changed");
        *at = *found;
    }
    for (id, (at, _)) in contents {
        if !ledger.live.contains_key(&id) {
            let known = ledger.released.contains(&id) || ledger.doubtful.contains(&id);
            // A refused batch comes back only if the power went before any later segment could say that it does not count.
            assert!(known || ledger.refused.contains(&id), "seed {seed}: {id} came from nowhere");
            log.release(at);
        }
    }
}

#[test]
fn no_power_cut_failed_sync_or_full_disk_loses_what_was_committed() {
    for seed in 0..400 {
        random_run(seed);
    }
}

#[test]
fn a_reader_reads_beside_the_writer_and_notices_another_life() {
    let disk = FaultDisk::new(5);
    let dir = Path::new("/log");
    let (mut log, _) = Log::open(disk, dir, OPTIONS, &mut |_| {}).unwrap();
    let reader = log.reader();
    let record = |text: &[u8]| {
        let mut head = vec![0; Log::<FaultDisk>::HEAD_ROOM];
        head.extend_from_slice(text);
        head
    };
    log.append(1, 7, record(b"some octets"), Chain::new()).unwrap();
    let at = log.commit().remove(0).unwrap();
    assert_eq!(reader.read(at).unwrap(), b"some octets");
    assert_eq!(reader.read_piece(at, 5, 100).unwrap(), b"octets");
    assert_eq!(reader.read_piece(at, 2, 3).unwrap(), b"me ");
    assert_eq!(reader.read_piece(at, 50, 3).unwrap(), b"");
    // The segment is filled, nothing in it is alive, and it begins another life with the same place taken.
    log.release(at);
    while log.segment_numbers().any(|n| n == at.segment) {
        log.append(1, 8, record(&[b'x'; 9000]), Chain::new()).unwrap();
        let filler = log.commit().remove(0).unwrap();
        log.release(filler);
        log.collect().unwrap();
    }
    assert_eq!(reader.read(at), Err(LogError::Damaged { at }));
    assert_eq!(reader.read_piece(at, 0, 4), Err(LogError::Damaged { at }));
}
