//! Readers beside the writer: they read on while records move and segments begin new lives; images leave memory and come
//! back; a mailbox of a million is opened at once.

use super::*;
use std::sync::atomic::AtomicBool;

#[test]
fn readers_go_on_while_everything_moves() {
    let mut site = Site::real();
    site.knobs.expunged_grace = std::time::Duration::from_secs(60);
    let mut open = site.open();
    let account = open.account("a");
    let text =
        |n: u32| format!("Subject: {n}\r\n\r\n{}", format!("line of message {n}\r\n").repeat(20 + n as usize % 300));
    for n in 1..=200 {
        assert_eq!(open.append(account, "INBOX", &text(n)), n);
    }
    let inbox = open.select(account, "INBOX").status.mailbox;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (mut reader, done) = (open.store.reader().unwrap(), done.clone());
            std::thread::spawn(move || {
                let mut read = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let items = Arc::new(FetchItems { sections: vec![whole()], ..FetchItems::default() });
                    let query = Query::Fetch {
                        mailbox: inbox,
                        uids: UidSet::range(1, u32::MAX),
                        items,
                        changed_since: None,
                        rows_max: 1000,
                        octets_max: 64 << 20,
                    };
                    let Ok(Reply::Fetched(fetched)) = reader.answer(account, query) else { panic!() };
                    for row in fetched.rows {
                        let SectionData::Octets(Octets::Memory { bytes, start, end }) = &row.sections[0] else {
                            // The clock of this test leaps: its grace can be over while an answer is made.
                            let sync = Query::Sync { mailbox: inbox, since: 0, uid_next: row.uid + 1, read_only: true };
                            let Ok(Reply::Synced(synced)) = reader.answer(account, sync) else { panic!() };
                            assert!(synced.vanished.contains(row.uid), "message {} could not be read", row.uid);
                            continue;
                        };
                        let n: u32 = std::str::from_utf8(&bytes[*start + 9..*end])
                            .unwrap()
                            .split("\r\n")
                            .next()
                            .unwrap()
                            .parse()
                            .unwrap();
                        let expected = format!("line of message {n}\r\n");
                        assert!(bytes[*start..*end].ends_with(expected.as_bytes()), "message {}", row.uid);
                        read += 1;
                    }
                }
                read
            })
        })
        .collect();
    let mut moved = 0;
    for round in 0..150u32 {
        open.append(account, "INBOX", &text(201 + round));
        let uids = open.select(account, "INBOX").uids;
        let gone: Vec<u32> = uids.iter().filter(|u| (u * 7 + round) % 23 == 0).collect();
        open.expunge(account, inbox, &gone);
        if round % 10 == 0 {
            site.pass(61);
        }
        while open.writer.tidy(64 * 1024) {
            moved += 1;
        }
    }
    done.store(true, Ordering::Relaxed);
    let read: u64 = readers.into_iter().map(|r| r.join().unwrap()).sum();
    assert!(read > 0 && moved > 5, "{read} read, {moved} moves");
}

#[test]
fn images_leave_memory_and_come_back() {
    let mut site = Site::real();
    site.knobs.image_messages_max = 50;
    let mut open = site.open();
    let account = open.account("a");
    for n in 0..10 {
        open.create(account, &format!("box{n}"));
        for _ in 0..15 {
            open.append(account, &format!("box{n}"), "Subject: x\r\n\r\n");
        }
        assert!(open.store.shared.loaded() <= 65);
    }
    for n in 0..10 {
        assert_eq!(open.select(account, &format!("box{n}")).uids, UidSet::range(1, 15));
        assert!(open.store.shared.loaded() <= 65, "{}", open.store.shared.loaded());
    }
}

#[test]
fn a_store_that_is_open_is_open_once() {
    let site = Site::real();
    let open = site.open();
    let error = site.try_open().err().unwrap().to_string();
    assert!(error.contains("in use by another instance"), "{error}");
    drop(open);
    site.open();
}
