//! The power goes at any moment, syncs fail, the disk fills up; the index may be lost or old. What was acknowledged is there
//! afterwards, what was refused is not.

use super::model::{Driver, worked};
use super::*;
use crate::log::fault::{FaultDisk, Survival};

fn site(seed: u64) -> Site<FaultDisk> {
    let scratch = tempfile::tempdir().unwrap();
    let index = scratch.path().join("index.sqlite");
    Site::new(FaultDisk::new(seed), PathBuf::from("/store"), index, scratch)
}

/// Copies the index as a crash could have left it.
fn save_index(site: &Site<FaultDisk>, to: &Path) {
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        if Path::new(&name(&site.index)).exists() {
            std::fs::copy(name(&site.index), name(to)).unwrap();
        }
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    for seed in 0..40 {
        let site = site(seed);
        let mut open = site.open();
        let mut driver = Driver::new(seed, &mut open);
        let saved = site.index.with_extension("saved");
        save_index(&site, &saved);
        for round in 0..8 {
            let whence = format!("seed {seed} round {round}");
            let operations = driver.rng.u64(1..60);
            site.disk.cut_power_after(operations);
            let mut pending = None;
            for _ in 0..40 {
                let (after, can) = driver.stage(&mut open);
                let commit = open.writer.commit();
                let did: Vec<bool> = commit.outcomes.iter().map(|(_, o)| worked(o)).collect();
                if site.disk.is_off() {
                    // What was answered with success is durable, so either all of it or nothing was.
                    if did == can && can.iter().any(|c| *c) {
                        driver.model = after.clone();
                    }
                    pending = Some(after);
                    break;
                }
                assert_eq!(did, can, "{whence}");
                driver.model = after;
                driver.learn(&mut open);
                if driver.rng.u8(0..3) == 0 {
                    site.pass(61);
                    open.writer.tidy(1 << 20);
                }
                if site.disk.is_off() {
                    break;
                }
            }
            if driver.rng.u8(0..3) == 0 {
                open.writer.rest(); // an end that was begun
            }
            drop(open);
            site.disk.cut_power();
            let survival = [Survival::Any, Survival::None, Survival::All][driver.rng.usize(0..3)];
            site.disk.restart(survival);
            match driver.rng.u8(0..4) {
                0 => remove_index(&site.index),
                1 => {
                    remove_index(&site.index);
                    for suffix in ["", "-wal"] {
                        let from = format!("{}{suffix}", saved.display());
                        if Path::new(&from).exists() {
                            std::fs::copy(from, format!("{}{suffix}", site.index.display())).unwrap();
                        }
                    }
                }
                2 => save_index(&site, &saved),
                _ => {}
            }
            open = site.open();
            assert!(!open.opened.is_damaged(), "{whence}: {:?}", open.opened);
            if let Some(difference) = driver.difference(&mut open, &driver.model.clone()) {
                // Nobody was told, and it survived all the same: then all of it.
                let after = pending.unwrap_or_else(|| panic!("{whence}: {difference}"));
                let other = driver.difference(&mut open, &after);
                assert!(other.is_none(), "{whence}: {difference}; or {}", other.unwrap());
                driver.model = after;
            }
            driver.learn(&mut open);
            driver.step(&mut open);
            let before = driver.dump(&mut open);
            drop(open);
            remove_index(&site.index);
            open = site.open();
            assert_eq!(driver.dump(&mut open), before, "{whence}: the index says what the log says");
        }
    }
}

#[test]
fn a_failed_sync_refuses_and_leaves_nothing() {
    let mut refused = 0;
    for seed in 0..30 {
        let site = site(seed);
        let mut open = site.open();
        let mut driver = Driver::new(seed, &mut open);
        for round in 0..20 {
            if round % 4 == 0 {
                site.disk.fail_sync_after(driver.rng.u64(1..4));
            }
            let before = driver.dump(&mut open);
            let (after, can) = driver.stage(&mut open);
            let commit = open.writer.commit();
            let did: Vec<bool> = commit.outcomes.iter().map(|(_, o)| worked(o)).collect();
            if did == can {
                driver.model = after;
                driver.learn(&mut open);
            } else {
                refused += 1;
                assert!(!did.contains(&true) && commit.touched.is_empty());
                assert_eq!(driver.dump(&mut open), before, "seed {seed} round {round}");
            }
            driver.compare(&mut open);
            if driver.rng.u8(0..4) == 0 {
                let before = driver.dump(&mut open);
                drop(open);
                if driver.rng.bool() {
                    remove_index(&site.index);
                }
                open = site.try_open().or_else(|_| site.try_open()).unwrap(); // the fault may have hit the opening
                assert_eq!(driver.dump(&mut open), before, "seed {seed} round {round}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_full_disk_refuses_and_room_comes_back() {
    let site = site(1);
    let mut open = site.open();
    let account = open.account("a");
    site.disk.set_capacity(400 * 1024);
    let text = format!("Subject: x\r\n\r\n{}", "y".repeat(8000));
    let mut kept = Vec::new();
    let refused = loop {
        let append = Change::Append { name: "INBOX".into(), messages: vec![message(&text)] };
        match open.change(account, append) {
            Ok(Reply::Appended(appended)) => kept.push(appended.uids[0]),
            other => break other,
        }
        assert!(kept.len() < 100);
    };
    assert_eq!(refused.unwrap_err(), StoreError::DiskFull);
    let inbox = open.select(account, "INBOX");
    assert_eq!(inbox.uids, uids(&kept));
    let large = format!("Subject: x\r\n\r\n{}", "y".repeat(500_000));
    let append = Change::Append { name: "INBOX".into(), messages: vec![message(&large)] };
    assert_eq!(open.change(account, append).unwrap_err(), StoreError::DiskFull);
    site.disk.set_capacity(600 * 1024);
    open.expunge(account, inbox.status.mailbox, &kept);
    site.pass(61);
    for _ in 0..50 {
        open.writer.tidy(1 << 20);
    }
    site.disk.set_capacity(400 * 1024);
    let uid = open.append(account, "INBOX", &text);
    assert!(uid > *kept.last().unwrap());
}

#[test]
fn an_index_of_another_store_is_not_believed() {
    let (one, two) = (site(1), site(2));
    {
        let mut open = one.open();
        let account = open.account("somebody");
        for _ in 0..5 {
            open.append(account, "INBOX", "Subject: one\r\n\r\n");
        }
        let mut open = two.open();
        let account = open.account("else");
        open.append(account, "INBOX", "Subject: two\r\n\r\n");
    }
    save_index(&one, &two.index);
    let mut open = two.open();
    assert!(open.opened.rebuilt.is_some(), "newer than the log");
    let account = open.account("else");
    let inbox = open.select(account, "INBOX").status.mailbox;
    assert_eq!(open.texts(account, inbox), [(1, "Subject: two\r\n\r\n".to_owned())]);
    drop(open);
    std::fs::write(&two.index, b"no database at all").unwrap();
    let mut open = two.open();
    assert!(open.opened.rebuilt.is_some());
    assert_eq!(open.select(account, "INBOX").uids, uids(&[1]));
}

#[test]
fn a_damaged_message_does_not_take_others_with_it() {
    let site = site(3);
    let mut open = site.open();
    let account = open.account("a");
    for n in 0..3 {
        open.append(account, "INBOX", &format!("Subject: {n}\r\n\r\nunmistakable text {n}\r\n"));
    }
    let inbox = open.select(account, "INBOX").status.mailbox;
    let path = site
        .disk
        .paths()
        .into_iter()
        .find(|p| site.disk.contents(p).is_some_and(|c| c.windows(19).any(|w| w == b"unmistakable text 1")));
    let path = path.unwrap();
    let contents = site.disk.contents(&path).unwrap();
    let at = contents.windows(19).position(|w| w == b"unmistakable text 1").unwrap();
    site.disk.flip_bit(&path, at, 3);
    let items = FetchItems { sections: vec![whole()], envelope: true, ..FetchItems::default() };
    let rows = open.fetch(account, inbox, items.clone()).rows;
    assert_eq!(rows[1].sections, [SectionData::Nothing]);
    assert!(rows[0].envelope.is_some() && rows[1].envelope.is_none() && rows[2].envelope.is_some());
    drop(open);
    let mut open = site.open();
    assert!(open.opened.is_damaged());
    assert_eq!(open.opened.contents_missing, 1);
    let rows = open.fetch(account, inbox, items).rows;
    assert_eq!((rows.len(), &rows[1].sections[0]), (3, &SectionData::Nothing));
    assert_eq!(open.append(account, "INBOX", "Subject: next\r\n\r\n"), 4);
}

#[test]
fn an_index_that_cannot_be_written_loses_nothing() {
    for tidied in [false, true] {
        let mut site = Site::real();
        site.knobs.image_messages_max = 1000;
        let mut open = site.open();
        let account = open.account("a");
        open.append(account, "INBOX", "Subject: 1\r\n\r\n");
        let inbox = open.select(account, "INBOX").status.mailbox;
        let blocker = rusqlite::Connection::open(&site.index).unwrap();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        open.append(account, "INBOX", "Subject: 2\r\n\r\n");
        open.create(account, "New");
        open.append(account, "New", "Subject: 3\r\n\r\n");
        open.expunge(account, inbox, &[1]);
        open.change(account, Change::Delete { name: "Junk".into() }).unwrap();
        open.store.shared.shed();
        assert_eq!(open.texts(account, inbox), [(2, "Subject: 2\r\n\r\n".to_owned())]);
        blocker.execute_batch("ROLLBACK").unwrap();
        if tidied {
            open.writer.tidy(0);
        }
        drop((blocker, open));
        let mut open = site.open();
        assert!(open.opened.rebuilt.is_none(), "{:?}", open.opened);
        assert_eq!(open.opened.replayed > 0, !tidied, "{:?}", open.opened);
        assert_eq!(open.texts(account, inbox), [(2, "Subject: 2\r\n\r\n".to_owned())]);
        assert_eq!(open.select(account, "New").uids, uids(&[1]));
        let status = open.reader.answer(account, Query::Status { names: vec!["Junk".into()] });
        assert!(matches!(status, Ok(Reply::Statuses(s)) if s == [Err(StoreError::NoSuchMailbox)]));
        drop(open);
        let found = crate::mailstore::embedded::verify(&site.directory, site.knobs.clone(), false, &mut |_, _| {});
        assert!(found.as_ref().is_ok_and(|f| f.is_sound()), "{found:?}");
    }
}
