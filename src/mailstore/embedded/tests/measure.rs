//! Figures: `cargo test --lib mailstore::embedded::tests::measure -- --nocapture`. Each asserts its
//! answers; what it prints is to be read beside the build it came from.

use super::*;
use crate::base::mailbox::ContentId;
use crate::base::time::WallTime;
use crate::mailstore::embedded::image::{Image, Meta, Row};
use std::time::Instant;

fn row(uid: u32) -> Row {
    let at = WallTime::from_millis(1_795_437_121_000 + u64::from(uid));
    let content = ContentId(u64::from(uid));
    Row {
        uid,
        zone_minutes: 0,
        ends_with_crlf: true,
        flags: Flags::SEEN,
        mod_seq: u64::from(uid),
        octets: 4000,
        internal: at,
        saved: at,
        content,
    }
}

#[test]
fn a_million_messages_in_an_image() {
    const COUNT: u32 = 1_000_000;
    let mut image = Image::new(Meta::new(AccountId(1), 1));
    let rows: Vec<Row> = (1..=COUNT).map(row).collect();
    let took = |what: &str, start: Instant| println!("{what}: {:.3} ms", start.elapsed().as_secs_f64() * 1000.0);
    let start = Instant::now();
    image.add(&rows);
    took("adding a million", start);
    let start = Instant::now();
    let uids = image.uids();
    took("all UIDs (SELECT)", start);
    assert_eq!((uids.len(), uids.ranges().len()), (u64::from(COUNT), 1));
    let published = Arc::new(image);
    let start = Instant::now();
    let mut next = Image::clone(&published);
    next.add(&[row(COUNT + 1)]);
    took("a delivery into it", start);
    let start = Instant::now();
    next.set_flags(&uids_of_every(1000, COUNT), Flags::FLAGGED, u64::from(COUNT) + 2);
    took("flags of a thousand all over it", start);
    let start = Instant::now();
    let changed = next.changed(u64::from(COUNT) + 1, COUNT + 2);
    took("what changed (Sync)", start);
    assert_eq!(changed.len(), 1000);
    assert_eq!(published.meta.messages, u64::from(COUNT), "the one that readers hold is as it was");
}

fn uids_of_every(n: u32, count: u32) -> UidSet {
    (1..=count / n).map(|i| i * n).collect()
}

#[test]
fn deliveries_and_answers() {
    let mut site = Site::real();
    site.knobs = MailboxKnobs::default();
    let mut open = site.open();
    let account = open.account("a");
    let text = format!(
        "From: a@b.test\r\nSubject: figures\r\n\r\n{}",
        "seventy-two octets of text that nobody will ever read in earnest......\r\n".repeat(140)
    );
    const COUNT: u32 = 10_000;
    let start = Instant::now();
    for _ in 0..COUNT / 100 {
        for n in 0..100 {
            let (prefix, to) = (Vec::new(), vec![recipient(0, &["a"])]);
            open.writer.deliver(n, Delivery { id: SpoolId(n), prefix, body: body(&text), to });
        }
        assert_eq!(open.writer.commit().outcomes.len(), 100);
    }
    println!("delivery of 10 KiB by hundreds: {:.0} a second", f64::from(COUNT) / start.elapsed().as_secs_f64());
    let inbox = open.select(account, "INBOX").status.mailbox;
    let items = FetchItems { envelope: true, ..FetchItems::default() };
    for (what, items, tidy) in [
        ("flags", FetchItems::default(), false),
        ("envelopes, cold", items.clone(), true),
        ("envelopes, warm", items, false),
    ] {
        let start = Instant::now();
        assert_eq!(open.fetch(account, inbox, items).rows.len(), COUNT as usize);
        println!("FETCH {COUNT} {what}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
        if tidy {
            open.writer.tidy(0);
        }
    }
    drop(open);
    let start = Instant::now();
    let open = site.open();
    println!("open with {} of log: {:.0} ms", open.opened.log.octets, start.elapsed().as_secs_f64() * 1000.0);
    assert_eq!(open.opened.messages, u64::from(COUNT));
}
