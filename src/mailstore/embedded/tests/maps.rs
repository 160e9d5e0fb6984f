//! Starting again costs what is new: the maps of the log tell the rest. And they are only a help: without them, with old or
//! broken ones, the same is there.

use super::*;

/// A store of `count` messages in segments of 64 KiB, and what is in it.
fn filled(site: &Site<RealDisk>, count: u32) -> Vec<(u32, String)> {
    let mut open = site.open();
    let account = open.account("a");
    for n in 0..count {
        open.append(account, "INBOX", &format!("Subject: {n}\r\n\r\n{}\r\n", "text ".repeat(400)));
    }
    let inbox = open.select(account, "INBOX").status.mailbox;
    let gone: Vec<u32> = (1..=count).filter(|n| n % 7 == 0).collect();
    open.expunge(account, inbox, &gone);
    site.pass(61);
    while open.writer.tidy(0) {}
    open.texts(account, inbox)
}

fn texts(site: &Site<RealDisk>) -> (Opened, Vec<(u32, String)>) {
    let mut open = site.open();
    let account = open.account("a");
    let inbox = open.select(account, "INBOX").status.mailbox;
    let texts = open.texts(account, inbox);
    (open.opened, texts)
}

fn maps(site: &Site<RealDisk>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(site.directory.join("log")).unwrap();
    let paths = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|x| x == "map"));
    paths.collect()
}

#[test]
fn a_start_reads_what_no_map_tells_of() {
    let site = Site::real();
    let expected = filled(&site, 300);
    // As after a crash: of the last segment the map tells the beginning.
    let (opened, there) = texts(&site);
    assert_eq!(there, expected);
    assert!(opened.log.segments > 8, "{opened:?}");
    assert!(opened.log.segments_mapped + 2 >= opened.log.segments, "{opened:?}");
    assert!(opened.log.octets_read <= 2 * 64 * 1024, "{opened:?}");
    let mut open = site.open();
    let account = open.account("a");
    open.append(account, "INBOX", "Subject: last\r\n\r\nlast\r\n");
    open.writer.rest();
    drop(open);
    // After an orderly end nothing is read.
    let (opened, there) = texts(&site);
    assert_eq!((opened.log.octets_read, opened.log.segments), (0, opened.log.segments_mapped), "{opened:?}");
    assert_eq!(there[..there.len() - 1], expected[..]);
    assert!(opened.rebuilt.is_none() && !opened.is_damaged());
}

#[test]
fn it_goes_on_behind_an_orderly_end() {
    let site = Site::real();
    let mut expected = filled(&site, 20);
    for n in 0..6 {
        let mut open = site.open();
        let account = open.account("a");
        let text = format!("Subject: again {n}\r\n\r\n\r\n");
        let uid = open.append(account, "INBOX", &text);
        expected.push((uid, text));
        // Half of the ends are orderly.
        if n % 2 == 0 {
            open.writer.rest();
        }
        drop(open);
        assert_eq!(texts(&site).1, expected);
    }
    remove_index(&site.index);
    let (opened, there) = texts(&site);
    assert_eq!(there, expected);
    assert_eq!(
        (opened.log.segments_mapped, opened.rebuilt.is_some()),
        (0, true),
        "an index is made from all of the log"
    );
}

#[test]
fn a_broken_map_is_none() {
    let site = Site::real();
    let expected = filled(&site, 100);
    site.open().writer.rest();
    let all = maps(&site);
    assert!(all.len() > 3);
    for (n, path) in all.iter().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        match n % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => {
                let at = bytes.len() - 3;
                bytes[at] ^= 4;
            }
            2 => bytes.clear(),
            // That of another segment.
            _ => bytes = std::fs::read(&all[n - 3]).unwrap(),
        }
        std::fs::write(path, bytes).unwrap();
    }
    let (opened, there) = texts(&site);
    assert_eq!(there, expected);
    assert!(opened.log.segments_mapped == 0 && !opened.is_damaged(), "{opened:?}");
}

#[test]
fn an_old_index_is_brought_up_to_the_mapped_log() {
    let site = Site::real();
    filled(&site, 40);
    let saved = site.index.with_extension("saved");
    std::fs::copy(&site.index, &saved).unwrap();
    let expected = filled(&site, 200);
    site.open().writer.rest();
    remove_index(&site.index);
    std::fs::copy(&saved, &site.index).unwrap();
    let (opened, there) = texts(&site);
    assert_eq!(there, expected);
    assert!(opened.log.segments_mapped > 3, "snapshots are read one by one: {opened:?}");
}

#[test]
fn verifying_reads_what_a_start_does_not() {
    let site = Site::real();
    filled(&site, 100);
    site.open().writer.rest();
    let first = site.directory.join("log").join("00000001.seg");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[9000] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    assert!(!site.open().opened.is_damaged());
    let found = crate::mailstore::embedded::verify(&site.directory, site.knobs.clone(), false, &mut |_, _| {}).unwrap();
    assert!(found.log_damaged, "{found:?}");
}
