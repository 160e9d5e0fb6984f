//! The queue on a disk that breaks. Every random test prints its seed when it fails.

use super::*;
use crate::base::address::{Domain, Host, Mailbox, ReversePath};
use crate::base::body::{Body, BodyShape, Store};
use crate::base::envelope::{Envelope, MailParameters, Notify, Origin, Protocol, Recipient};
use crate::base::id::SessionId;
use crate::base::knob::Octets;
use crate::base::time::WallTime;
use crate::log::fault::{FaultDisk, Survival};
use crate::wire::reply::{Enhanced, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const T0: WallTime = WallTime::from_millis(1_795_437_121_000);

fn at(seconds: u64) -> WallTime {
    T0 + Duration::from_secs(seconds)
}

fn knobs() -> SpoolKnobs {
    SpoolKnobs {
        segment_octets: Octets::kib(64),
        body_inline_octets_max: Octets(4000),
        free_octets_min: Octets(0),
        jitter_percent: 0,
        ..SpoolKnobs::default()
    }
}

fn open_with(disk: &FaultDisk, knobs: SpoolKnobs, now: WallTime) -> (Spool<FaultDisk>, Recovery) {
    Spool::open(disk.clone(), Path::new("/spool"), knobs, 0, now, fastrand::Rng::with_seed(1)).unwrap()
}

fn open(disk: &FaultDisk) -> Spool<FaultDisk> {
    let (spool, recovery) = open_with(disk, knobs(), T0);
    assert!(!recovery.is_damaged(), "{recovery:?}");
    spool
}

fn mailbox(local: &str, domain: &str) -> Mailbox {
    Mailbox::from_checked(local, Host::Domain(Domain::from_checked(domain)))
}

fn envelope(sender: ReversePath, recipients: &[(&str, Option<Notify>)]) -> Envelope {
    let recipients = recipients
        .iter()
        .map(|(local, notify)| Recipient { notify: *notify, ..Recipient::plain(mailbox(local, "example.test")) });
    Envelope {
        origin: Origin {
            session: SessionId(1),
            received: T0,
            client: None,
            helo: "client".into(),
            protocol: Protocol::default(),
            user: None,
        },
        sender,
        parameters: MailParameters::default(),
        recipients: recipients.collect(),
    }
}

fn memory(octets: &[u8]) -> Body {
    let shape = BodyShape { octets: octets.len() as u64, ends_with_crlf: true, ..BodyShape::default() };
    let (a, b) = octets.split_at(octets.len() / 2);
    Body::memory(shape, vec![Arc::new(a.to_vec()), Arc::new(b.to_vec())])
}

fn message(id: u64, recipients: &[(&str, Option<Notify>)], routes: &[&str]) -> NewMessage {
    NewMessage {
        id: SpoolId(id),
        envelope: envelope(ReversePath::Mailbox(mailbox("ann", "example.org")), recipients),
        prefix: format!("Received: by gate id {id}\r\n").into_bytes(),
        body: memory(format!("Subject: {id}\r\n\r\nhello\r\n").as_bytes()),
        next_attempt: T0,
        hold: None,
        routes: routes.iter().map(|r| (*r).to_owned()).collect(),
    }
}

fn plain(id: u64) -> NewMessage {
    message(id, &[("bob", None)], &["backend:main"])
}

fn put(spool: &mut Spool<FaultDisk>, message: NewMessage) {
    let id = message.id;
    spool.stage(message).unwrap();
    let answers = spool.commit();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].1.as_ref().unwrap().id(), id);
}

fn ok() -> Fate {
    Fate::Delivered { reply: Reply::new(250, None, "ok"), dsn_passed_on: false }
}

fn failed() -> Fate {
    Fate::Failed { reply: Reply::new(550, Some(Enhanced(5, 1, 1)), "no such user") }
}

fn deferred(scope: Scope) -> Fate {
    Fate::Deferred { reply: Reply::new(451, Some(Enhanced(4, 2, 0)), "later"), scope }
}

#[test]
fn a_message_is_kept_over_a_restart_delivered_and_gone() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, plain(7));
    drop(spool);
    disk.restart(Survival::None);
    let mut spool = open(&disk);
    assert_eq!(spool.next_due(), Some(T0));
    let attempts = spool.take_due(T0, 10);
    assert_eq!(attempts.len(), 1);
    let a = &attempts[0];
    assert_eq!((a.id, a.attempt, a.destination.as_str()), (SpoolId(7), 1, "backend:main"));
    assert_eq!(a.recipients, [0]);
    assert!(spool.take_due(T0, 10).is_empty(), "it is in flight");
    let (envelope, prefix, body) = spool.load(SpoolId(7)).unwrap();
    assert_eq!(*envelope, plain(7).envelope);
    assert_eq!(prefix, plain(7).prefix);
    assert_eq!(body.to_vec(), plain(7).body.to_vec());
    assert_eq!(body.shape, plain(7).body.shape);
    assert_eq!(spool.settle(SpoolId(7), vec![(0, ok())], T0), Settled { finished: true, reports_due: false });
    assert!(spool.needs_commit());
    assert!(spool.commit().is_empty());
    assert!(!spool.needs_commit());
    assert_eq!(spool.counters().messages, 0);
    drop(spool);
    disk.restart(Survival::None);
    assert!(open(&disk).list(&Filter::All, None, 10).is_empty());
}

#[test]
fn large_bodies_live_in_files_that_go_with_their_message() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    let big: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    put(&mut spool, NewMessage { body: memory(&big), ..plain(1) });
    // Streamed, with one that is given up and one that is dropped unfinished.
    let stream = |spool: &mut Spool<FaultDisk>| {
        let file = spool.begin_body().unwrap();
        big.chunks(3000).for_each(|c| spool.append_body(file, c).unwrap());
        file
    };
    let shape = BodyShape { octets: 20_000, header_octets: 10, ..BodyShape::default() };
    let streamed = stream(&mut spool);
    let body = spool.finish_body(streamed, shape, big[..10].to_vec()).unwrap();
    let unused = stream(&mut spool);
    drop(spool.finish_body(unused, shape, Vec::new()).unwrap());
    let unfinished = stream(&mut spool);
    spool.drop_body(unfinished);
    put(&mut spool, NewMessage { body, ..plain(2) });
    let files = |disk: &FaultDisk| disk.paths().iter().filter(|p| p.extension().is_some_and(|e| e == "body")).count();
    assert_eq!(files(&disk), 2);
    let orphan = stream(&mut spool);
    assert_eq!(files(&disk), 3);
    drop(spool);
    disk.restart(Survival::All);
    let (mut spool, recovery) = open_with(&disk, knobs(), T0);
    assert!(recovery.orphan_bodies <= 1 && !recovery.is_damaged(), "{orphan:?}");
    assert_eq!(files(&disk), 2);
    for id in [1, 2] {
        let (_, _, body) = spool.load(SpoolId(id)).unwrap();
        let Store::File { file, head } = &body.store else { panic!("{id} is in memory") };
        assert_eq!(head.len() as u64, body.shape.header_octets);
        let mut all = Vec::new();
        while let part @ [_, ..] = spool.read_body(file.id(), all.len() as u64, 7000).unwrap().as_slice() {
            all.extend_from_slice(part);
        }
        assert_eq!(all, big);
        spool.remove(SpoolId(id)).unwrap();
        spool.commit();
        assert!(spool.read_body(file.id(), 0, 10).is_ok(), "as long as somebody reads it");
        drop(body);
    }
    spool.compact(1).unwrap();
    assert_eq!(files(&disk), 0);
}

#[test]
fn recipients_of_one_destination_go_together_and_the_others_on_their_own() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, message(1, &[("a", None), ("b", None), ("c", None)], &["mx:x", "mx:y", "mx:x"]));
    let mut attempts = spool.take_due(T0, 10);
    attempts.sort_by(|a, b| a.destination.cmp(&b.destination));
    let got: Vec<_> = attempts.iter().map(|a| (a.destination.as_str(), a.recipients.clone())).collect();
    assert_eq!(got, [("mx:x", vec![0, 2]), ("mx:y", vec![1])]);
    assert!(!spool.settle(SpoolId(1), vec![(0, ok()), (2, deferred(Scope::Message))], T0).finished);
    assert!(!spool.settle(SpoolId(1), vec![(1, ok())], T0).finished);
    assert_eq!(spool.next_due(), Some(at(60)));
    spool.commit();
    drop(spool);
    disk.restart(Survival::None);
    // What was delivered is not delivered again.
    let mut spool = open(&disk);
    assert!(spool.take_due(at(59), 10).is_empty());
    let attempts = spool.take_due(at(60), 10);
    assert_eq!((attempts[0].recipients.as_slice(), attempts[0].attempt), (&[2][..], 2));
    let details = spool.show(SpoolId(1)).unwrap();
    assert_eq!(details.recipients[0].status, Status::Delivered);
    assert_eq!(details.recipients[2].reply.as_ref().unwrap().to_string(), "451 4.2.0 later");
    assert_eq!((details.summary.waiting, details.summary.in_flight), (1, true));
}

#[test]
fn a_destination_has_a_bound_and_is_left_alone_when_it_fails() {
    let disk = FaultDisk::new(1);
    let (mut spool, _) = open_with(&disk, SpoolKnobs { per_destination_concurrency_max: 2, ..knobs() }, T0);
    for id in 1..=5 {
        spool.stage(plain(id)).unwrap();
    }
    spool.stage(message(6, &[("x", None)], &["mx:other"])).unwrap();
    assert_eq!(spool.commit().len(), 6);
    let ids = |attempts: &[Attempt]| attempts.iter().map(|a| a.id.0).collect::<BTreeSet<_>>();
    assert_eq!(ids(&spool.take_due(T0, 10)), [1, 2, 6].into());
    spool.return_attempt(SpoolId(1), &[0]);
    assert_eq!(ids(&spool.take_due(T0, 10)), [1].into(), "returned, not counted");
    // Both fail together: one failure, 15 s.
    for id in [1, 2] {
        spool.settle(SpoolId(id), vec![(0, deferred(Scope::Destination))], T0);
    }
    assert!(spool.take_due(at(14), 10).is_empty());
    assert_eq!(spool.next_due(), Some(at(15)));
    let probe = spool.take_due(at(15), 10);
    assert_eq!(ids(&probe), [3].into(), "one probe");
    assert_eq!(probe[0].attempt, 1);
    spool.settle(SpoolId(3), vec![(0, deferred(Scope::Destination))], at(15));
    assert_eq!(spool.next_due(), Some(at(45)), "twice as long");
    assert_eq!(spool.show(SpoolId(4)).unwrap().legs[0].closed_until, Some(at(45)));
    assert_eq!(ids(&spool.take_due(at(45), 10)), [4].into());
    spool.settle(SpoolId(4), vec![(0, ok())], at(45));
    assert_eq!(ids(&spool.take_due(at(75), 10)), [1, 5].into(), "open again, oldest first");
    // An administrator's retry opens it at once.
    for id in [1, 5] {
        spool.settle(SpoolId(id), vec![(0, deferred(Scope::Destination))], at(75));
    }
    assert_eq!(spool.retry(&Selection::Destination("backend:main".into()), at(76)), Ok(4));
    assert_eq!(spool.take_due(at(76), 10).len(), 2);
    assert_eq!(spool.retry(&Selection::Message(SpoolId(99)), T0), Err(SpoolError::Unknown(SpoolId(99))));
}

#[test]
fn a_bounce_is_told_until_it_is_durable() {
    let never = Some(Notify::default());
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, message(1, &[("a", None), ("b", never), ("c", None)], &["mx:x"; 3]));
    spool.take_due(T0, 1);
    let settled = spool.settle(SpoolId(1), vec![(0, failed()), (1, failed()), (2, ok())], T0);
    assert_eq!(settled, Settled { finished: false, reports_due: true });
    spool.commit();
    let report = spool.take_reports(10).remove(0);
    assert_eq!((report.id, report.kind), (SpoolId(1), ReportKind::Failure));
    assert_eq!(report.recipients.iter().map(|r| r.recipient).collect::<Vec<_>>(), [0], "b said NEVER");
    assert_eq!(report.recipients[0].reply.as_ref().unwrap().code, 550);
    assert!(spool.take_reports(10).is_empty());
    drop(spool);
    disk.restart(Survival::None);
    // Nobody had been told: it is due again.
    let mut spool = open(&disk);
    let report = spool.take_reports(10).remove(0);
    let mut bounce = plain(50);
    bounce.envelope.sender = ReversePath::Null;
    disk.fail_sync_after(1);
    spool.stage_report(report, Some(bounce.clone())).unwrap();
    assert!(spool.commit()[0].1.is_err());
    let report = spool.take_reports(10).remove(0);
    spool.stage_report(report, Some(bounce)).unwrap();
    assert!(spool.commit()[0].1.is_ok());
    drop(spool);
    disk.restart(Survival::None);
    let mut spool = open(&disk);
    assert!(spool.take_reports(10).is_empty());
    assert_eq!(spool.list(&Filter::All, None, 10).iter().map(|s| s.id.0).collect::<Vec<_>>(), [50]);
    // RFC 5321 §6.1: the failure of a notification is not notified.
    spool.take_due(T0, 1);
    assert!(spool.settle(SpoolId(50), vec![(0, failed())], T0).finished);
    assert!(spool.take_reports(10).is_empty());
}

#[test]
fn success_is_told_where_it_was_asked_for_and_the_next_hop_does_not() {
    let wants = Some(Notify { success: true, failure: true, delay: false });
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, message(1, &[("a", wants), ("b", wants), ("c", None)], &["mx:x"; 3]));
    spool.take_due(T0, 1);
    let passed_on = Fate::Delivered { reply: Reply::new(250, None, "ok"), dsn_passed_on: true };
    spool.settle(SpoolId(1), vec![(0, ok()), (1, passed_on), (2, ok())], T0);
    let report = spool.take_reports(1).remove(0);
    assert_eq!(report.kind, ReportKind::Success);
    assert_eq!(report.recipients.len(), 1);
    assert_eq!(report.recipients[0].destination, "mx:x");
    spool.stage_report(report, None).unwrap();
    spool.commit();
    assert_eq!(spool.counters().messages, 0);
}

#[test]
fn delays_are_told_once_and_lifetimes_end() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    let no_delay = Some(Notify { failure: true, ..Notify::default() });
    put(&mut spool, message(1, &[("a", None), ("b", no_delay)], &["mx:x", "mx:x"]));
    put(&mut spool, NewMessage { hold: Some("look at it".into()), ..plain(2) });
    let (warn, end) = (4 * 3600, 5 * 86_400);
    spool.take_due(T0, 10);
    spool.settle(SpoolId(1), vec![(0, deferred(Scope::Message)), (1, deferred(Scope::Message))], T0);
    assert_eq!(spool.expire(at(warn - 1)), 0);
    assert!(spool.take_reports(9).is_empty());
    assert_eq!(spool.expire(at(warn)), 0);
    let report = spool.take_reports(9).remove(0);
    assert_eq!((report.kind, report.recipients.len()), (ReportKind::Delay, 1));
    spool.stage_report(report, Some(plain(60))).unwrap();
    spool.commit();
    spool.remove(SpoolId(60)).unwrap();
    spool.commit();
    drop(spool);
    let mut spool = open(&disk);
    spool.expire(at(warn + 1));
    assert!(spool.take_reports(9).is_empty(), "only once");
    // In flight at the end of its lifetime: that attempt still counts.
    let attempt = spool.take_due(at(end), 10).remove(0);
    assert_eq!(spool.expire(at(end)), 0);
    spool.settle(attempt.id, vec![(0, deferred(Scope::Message)), (1, ok())], at(end));
    assert_eq!(spool.next_due(), Some(at(end)));
    assert_eq!(spool.expire(at(end)), 1, "held messages do not age");
    let report = spool.take_reports(9).remove(0);
    assert_eq!(report.kind, ReportKind::Failure);
    let reply = report.recipients[0].reply.clone().unwrap();
    assert_eq!(reply.to_string(), "451 4.4.7 not delivered within 5d / last: 451 4.2.0 later");
    assert!(spool.take_due(at(end * 2), 10).is_empty(), "the other one is held");
    spool.release(SpoolId(2), at(end * 2)).unwrap();
    assert_eq!(spool.expire(at(end * 2)), 1);
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_written() {
    let disk = FaultDisk::new(1);
    let (mut spool, _) = open_with(&disk, SpoolKnobs { messages_max: 1, ..knobs() }, T0);
    put(&mut spool, plain(1));
    let before = disk.operations();
    assert_eq!(spool.stage(plain(2)), Err(SpoolError::Full(Room::Messages)));
    spool.knobs.messages_max = 100;
    spool.knobs.octets_max = Octets(60);
    assert_eq!(spool.stage(plain(2)), Err(SpoolError::Full(Room::Octets)));
    spool.knobs = SpoolKnobs { free_octets_min: Octets(u64::MAX), ..knobs() };
    assert_eq!(spool.stage(plain(2)), Err(SpoolError::Full(Room::Disk)));
    assert_eq!(spool.begin_body(), Err(SpoolError::Full(Room::Disk)));
    assert_eq!(disk.operations(), before);
    spool.knobs = knobs();
    assert!(matches!(spool.stage(plain(1)), Err(SpoolError::Misuse(_))));
    assert!(matches!(spool.stage(NewMessage { routes: vec![], ..plain(2) }), Err(SpoolError::Misuse(_))));
    assert_eq!(spool.counters().refused, 3);
}

#[test]
fn what_only_passes_through_does_not_use_up_the_room() {
    let disk = FaultDisk::new(1);
    let (mut spool, _) = open_with(&disk, SpoolKnobs { free_octets_min: Octets(50_000), ..knobs() }, T0);
    disk.set_capacity(disk.used_octets() + 100_000);
    spool.look_around();
    // Much more than there is room for, one after the other and without a commit.
    for _ in 0..50 {
        let id = spool.begin_body().unwrap();
        spool.append_body(id, &[b'x'; 10_000]).unwrap();
        spool.drop_body(id);
    }
    // At once it is too much, and room that comes back is seen without a commit.
    let id = spool.begin_body().unwrap();
    assert_eq!(spool.append_body(id, &[b'x'; 60_000]), Err(SpoolError::Full(Room::Disk)));
    disk.set_capacity(disk.used_octets() + 200_000);
    spool.append_body(id, &[b'x'; 60_000]).unwrap();
    assert_eq!(spool.stage(plain(1)), Ok(()));
}

#[test]
fn a_full_disk_can_still_be_emptied() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, plain(1));
    disk.set_capacity(disk.used_octets());
    spool.commit();
    let mut id = 2;
    loop {
        let full = spool.stage(NewMessage { body: memory(&[b'x'; 3000]), ..plain(id) });
        let answers = spool.commit();
        match (full, answers.first()) {
            (Ok(()), Some((_, Ok(_)))) => id += 1,
            (full, answers) => {
                assert_eq!(full, Err(SpoolError::Full(Room::Disk)), "{answers:?}");
                break;
            }
        }
    }
    assert!(id > 8, "{id}");
    let mut rounds = 0;
    while spool.counters().messages > 0 {
        for a in spool.take_due(T0, 100) {
            spool.settle(a.id, vec![(0, ok())], T0);
        }
        spool.commit();
        spool.compact(10_000).unwrap();
        rounds += 1;
        assert!(rounds < 10);
    }
    spool.stage(plain(id + 1)).unwrap();
    assert!(spool.commit()[0].1.is_ok());
}

#[test]
fn administrators_look_and_their_changes_last() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    (1..=4).for_each(|id| put(&mut spool, plain(id)));
    put(&mut spool, message(5, &[("x", None)], &["mx:example.org"]));
    spool.hold(SpoolId(2), "suspicious").unwrap();
    spool.remove(SpoolId(3)).unwrap();
    spool.reroute(SpoolId(4), &["mx:elsewhere".into()], T0).unwrap();
    assert_eq!(spool.hold(SpoolId(9), ""), Err(SpoolError::Unknown(SpoolId(9))));
    spool.commit();
    drop(spool);
    disk.restart(Survival::None);
    let mut spool = open(&disk);
    let ids = |list: Vec<Summary>| list.iter().map(|s| s.id.0).collect::<Vec<_>>();
    assert_eq!(ids(spool.list(&Filter::All, None, 10)), [1, 2, 4, 5]);
    assert_eq!(ids(spool.list(&Filter::All, Some(SpoolId(1)), 2)), [2, 4]);
    assert_eq!(ids(spool.list(&Filter::Held, None, 10)), [2]);
    assert_eq!(ids(spool.list(&Filter::Destination("mx:elsewhere".into()), None, 10)), [4]);
    let held = spool.list(&Filter::Held, None, 1).remove(0);
    assert_eq!(held.hold.as_deref(), Some("suspicious"));
    assert_eq!((held.sender.as_deref(), held.next_attempt), (Some("ann@example.org"), None));
    assert_eq!(spool.take_due(T0, 10).len(), 3);
    spool.release(SpoolId(2), T0).unwrap();
    assert_eq!(spool.take_due(T0, 10).len(), 1);
    // Removed while in flight: what the delivery came to no longer matters.
    spool.remove(SpoolId(1)).unwrap();
    spool.commit();
    assert!(spool.settle(SpoolId(1), vec![(0, deferred(Scope::Message))], T0).finished);
    assert_eq!(spool.show(SpoolId(1)).unwrap_err(), SpoolError::Unknown(SpoolId(1)));
    assert_eq!(ids(spool.list(&Filter::Deferred, None, 10)), Vec::<u64>::new());
}

#[test]
fn a_damaged_message_is_held_and_says_so() {
    let disk = FaultDisk::new(1);
    let mut spool = open(&disk);
    put(&mut spool, plain(1));
    let place = spool.index[&SpoolId(1)].at;
    let path = disk.paths().into_iter().find(|p| p.extension().is_some_and(|e| e == "seg")).unwrap();
    disk.flip_bit(&path, place.offset as usize + 100, 1);
    assert!(spool.take_due(T0, 1).is_empty());
    let held = spool.list(&Filter::Held, None, 1).remove(0);
    assert_eq!(held.hold.as_deref(), Some("the record at segment 00000001 offset 4096 is damaged on disk"));
    assert_eq!(spool.next_due(), None);
}

/// What a random run knows about a message.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    /// Acknowledged.
    Kept,
    /// The power went while it was being committed.
    Doubtful,
    /// Delivered or removed, and that was committed.
    Gone,
    /// Delivered or removed, but that may not be durable.
    Settled,
}

struct Run {
    seed: u64,
    rng: fastrand::Rng,
    disk: FaultDisk,
    ledger: BTreeMap<u64, Known>,
    /// Failed messages whose bounce is not known to be durable.
    owed: BTreeSet<u64>,
    next_id: u64,
    now: WallTime,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = FaultDisk::new(seed);
        let rng = fastrand::Rng::with_seed(seed);
        Run { seed, rng, disk, ledger: BTreeMap::new(), owed: BTreeSet::new(), next_id: 1, now: T0 }
    }

    fn whole(&mut self) {
        for _ in 0..self.rng.usize(2..5) {
            let (mut spool, recovery) = open_with(&self.disk, knobs(), self.now);
            self.check(&mut spool, &recovery);
            if self.rng.u8(..4) > 0 {
                let n = self.rng.u64(1..80);
                self.disk.cut_power_after(n);
            }
            for _ in 0..self.rng.usize(1..25) {
                self.step(&mut spool);
                if self.disk.is_off() {
                    break;
                }
            }
            drop(spool);
            self.disk.restart(Survival::Any);
            self.disk.set_capacity(u64::MAX);
        }
        let (mut spool, recovery) = open_with(&self.disk, knobs(), self.now);
        self.check(&mut spool, &recovery);
        self.drain(&mut spool);
    }

    fn step(&mut self, spool: &mut Spool<FaultDisk>) {
        match self.rng.u8(..12) {
            0 => self.disk.fail_sync_after(self.rng.u64(1..6)),
            1 => {
                let full = self.rng.u8(..3) == 0;
                self.disk.set_capacity(if full { self.disk.used_octets() } else { u64::MAX });
            }
            2 | 3 => {
                let _ = spool.compact(self.rng.u64(1..100_000));
            }
            4..=6 => self.deliver(spool),
            7 => {
                let listed = spool.list(&Filter::All, None, 100);
                if let Some(s) = listed.get(self.rng.usize(0..listed.len().max(1))) {
                    let _ = if self.rng.bool() { spool.hold(s.id, "why not") } else { spool.release(s.id, self.now) };
                }
            }
            8 => self.now = self.now + Duration::from_secs(self.rng.u64(1..7200)),
            _ => {
                for _ in 0..self.rng.usize(1..5) {
                    let octets = self.rng.usize(0..6000);
                    let id = self.next_id;
                    self.next_id += 1;
                    let new = NewMessage {
                        body: memory(&vec![id as u8; octets]),
                        next_attempt: self.now,
                        ..message(id, &[("a", None), ("b", None)], &["mx:x", "mx:y"])
                    };
                    let _ = spool.stage(new);
                }
            }
        }
        if self.rng.bool() {
            self.commit(spool);
        }
    }

    fn deliver(&mut self, spool: &mut Spool<FaultDisk>) {
        for attempt in spool.take_due(self.now, 4) {
            let id = attempt.id.0;
            let failed_before = self.owed.contains(&id);
            let (fate, fails) = match self.rng.u8(..4) {
                0 => (deferred(Scope::Message), false),
                1 => (failed(), attempt.envelope.sender != ReversePath::Null),
                _ => (ok(), false),
            };
            if fails {
                self.owed.insert(id);
            }
            let fates = attempt.recipients.iter().map(|r| (*r, fate.clone())).collect();
            if spool.settle(attempt.id, fates, self.now).finished && !failed_before {
                self.ledger.insert(id, Known::Settled);
            }
        }
        self.report(spool);
    }

    fn report(&mut self, spool: &mut Spool<FaultDisk>) {
        for report in spool.take_reports(3) {
            // The bounce about message n is message n + 1,000,000 × try.
            let mut id = report.id.0;
            while self.ledger.contains_key(&id) {
                id += 1_000_000;
            }
            let mut bounce = message(id, &[("ann", None)], &["mx:org"]);
            bounce.envelope.sender = ReversePath::Null;
            self.ledger.insert(id, Known::Doubtful);
            if spool.stage_report(report, Some(bounce)).is_err() {
                self.ledger.remove(&id);
            }
        }
    }

    fn commit(&mut self, spool: &mut Spool<FaultDisk>) {
        for (id, result) in spool.commit() {
            match result {
                Ok(_) => {
                    self.ledger.insert(id.0, Known::Kept);
                    self.owed.remove(&(id.0 % 1_000_000));
                }
                Err(_) => {
                    self.ledger.insert(id.0, Known::Doubtful);
                }
            }
        }
        if !self.disk.is_off() && !spool.needs_commit() {
            for known in self.ledger.values_mut().filter(|k| **k == Known::Settled) {
                *known = Known::Gone;
            }
        }
    }

    fn check(&mut self, spool: &mut Spool<FaultDisk>, recovery: &Recovery) {
        let seed = self.seed;
        assert!(!recovery.is_damaged(), "seed {seed}: {recovery:?}");
        let listed = spool.list(&Filter::All, None, usize::MAX);
        let ids: BTreeSet<u64> = listed.iter().map(|s| s.id.0).collect();
        let Run { ledger, owed, .. } = self;
        // A bounce whose commit was interrupted may have become durable.
        ids.iter().filter(|id| **id >= 1_000_000).for_each(|id| {
            owed.remove(&(id % 1_000_000));
        });
        // A failure that did not become durable is forgotten: delivery is tried again.
        owed.retain(|id| !ids.contains(id) || spool.reports_due.contains(&(SpoolId(*id), ReportKind::Failure)));
        for (id, known) in ledger.iter_mut() {
            match known {
                // Kept messages whose bounces became durable have been settled meanwhile.
                Known::Kept if !ids.contains(id) => {
                    assert!(!owed.contains(id), "seed {seed}: {id} is lost");
                    *known = Known::Gone;
                }
                Known::Gone => assert!(!ids.contains(id), "seed {seed}: {id} rose again"),
                Known::Doubtful | Known::Settled => {
                    *known = if ids.contains(id) { Known::Kept } else { Known::Gone };
                }
                Known::Kept => {}
            }
        }
        for id in &ids {
            assert!(ledger.contains_key(id) || *id < self.next_id, "seed {seed}: {id} came from nowhere");
            ledger.entry(*id).or_insert(Known::Kept);
            let (_, _, body) = spool.load(SpoolId(*id)).unwrap();
            let octets = match &body.store {
                Store::Memory(_) => body.to_vec().unwrap(),
                Store::File { file, .. } => spool.read_body(file.id(), 0, usize::MAX >> 1).unwrap(),
            };
            assert_eq!(octets.len() as u64, body.shape.octets, "seed {seed}: {id} is short");
            assert!(*id >= 1_000_000 || octets.iter().all(|b| *b == *id as u8) || octets.starts_with(b"Subject"));
        }
    }

    /// With a sound disk everything left is delivered, every bounce sent, and the queue empties.
    fn drain(&mut self, spool: &mut Spool<FaultDisk>) {
        let seed = self.seed;
        spool.list(&Filter::Held, None, usize::MAX).iter().for_each(|s| spool.release(s.id, self.now).unwrap());
        for _ in 0..100 {
            if spool.counters().messages == 0 && spool.counters().log.segments <= 2 {
                break;
            }
            self.now = self.now + Duration::from_secs(3600);
            for a in spool.take_due(self.now, usize::MAX) {
                spool.settle(a.id, a.recipients.iter().map(|r| (*r, ok())).collect(), self.now);
            }
            self.report(spool);
            self.commit(spool);
            spool.compact(1 << 20).unwrap();
        }
        assert_eq!(spool.counters().messages, 0, "seed {seed}: {:?}", spool.list(&Filter::All, None, 3));
        assert_eq!(spool.counters().octets, 0, "seed {seed}");
        assert!(spool.tombstones.is_empty() || spool.counters().log.segments > 1, "seed {seed}");
        assert!(self.owed.is_empty(), "seed {seed}: bounces never sent for {:?}", self.owed);
        assert!(spool.counters().log.segments <= 2, "seed {seed}: {:?}", spool.counters());
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_finished_rises_again() {
    for seed in 0..250 {
        Run::new(seed).whole();
    }
}
