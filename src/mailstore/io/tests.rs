//! What goes out comes back: octets, flags, keywords, dates, folders.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use super::*;
use crate::base::mailbox::Flags;
use crate::base::mailbox::search::ZonedTime;
use crate::base::time::WallTime;
use crate::mailstore::embedded::EmbeddedStore;
use crate::mailstore::{MailboxKnobs, Mailstore};
use std::collections::BTreeMap;

struct House {
    writer: Box<dyn MailWriter>,
    reader: Box<dyn MailReader>,
    account: AccountId,
    _scratch: tempfile::TempDir,
}

fn house() -> House {
    let scratch = tempfile::tempdir().unwrap();
    let mut knobs = MailboxKnobs::default();
    knobs.segment_octets.0 = 1 << 20;
    let (store, _) = EmbeddedStore::open(&scratch.path().join("store"), knobs).unwrap();
    let (mut writer, reader) = (store.writer().unwrap(), store.reader().unwrap());
    writer.account(0, "a");
    let Outcome::Replied(Ok(Reply::Account(account))) = writer.commit().outcomes.pop().unwrap().1 else { panic!() };
    House { writer, reader, account, _scratch: scratch }
}

type Seen = (Vec<u8>, FlagNames, u64);

impl House {
    fn put(&mut self, mailbox: &str, text: &[u8], flags: FlagNames, at: u64) {
        let mut importer = Importer::new(&mut *self.writer, self.account);
        importer.enter(mailbox).unwrap();
        let internal_date = Some(ZonedTime { at: WallTime::from_millis(at * 1000), zone_minutes: 0 });
        importer.add(mailbox, NewMessage { flags, internal_date, body: body_of(text.to_vec()) }).unwrap();
        importer.flush(mailbox).unwrap();
    }

    /// Messages of every mailbox that has some.
    fn seen(&mut self) -> BTreeMap<String, Vec<Seen>> {
        let mut all: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for info in mailboxes(&mut *self.reader, self.account).unwrap() {
            let Some(id) = info.id else { continue };
            each_message(&mut *self.reader, self.account, (id, &info.name), &mut |row, keywords, octets| {
                let mut flags = names_of(row, keywords);
                flags.keywords.sort();
                all.entry(info.name.clone()).or_default().push((octets, flags, row.internal_date.at.as_secs()));
                Ok(())
            })
            .unwrap();
        }
        all
    }
}

fn filled() -> House {
    let mut house = house();
    let flags =
        |system, keywords: &[&str]| FlagNames { system, keywords: keywords.iter().map(|k| (*k).into()).collect() };
    house.put("INBOX", b"Subject: one\r\n\r\nFrom here\r\n>From there\r\n", flags(Flags::SEEN, &[]), 1_700_000_000);
    house.put(
        "INBOX",
        b"Subject: two\r\n\r\nbody\r\n\r\n",
        flags(Flags::FLAGGED.with(Flags::DELETED), &["$Work", "x"]),
        1_600_000_000,
    );
    house.put(
        "Work/v1.0/\u{e9}t\u{e9}",
        b"Subject: three\r\n\r\n\xff\x80 8-bit\r\n",
        flags(Flags::ANSWERED, &["x"]),
        1_500_000_123,
    );
    house.put("Work", b"Subject: none\r\n\r\n", flags(Flags::DRAFT, &[]), 1);
    house
}

#[test]
fn a_maildir_comes_back() {
    let mut from = filled();
    from.put("Raw", b"Subject: bare\nline\r\n\r\nends\rhere\n", FlagNames::default(), 5);
    let out = tempfile::tempdir().unwrap();
    let mut told = 0;
    let moved = export_maildir(&mut *from.reader, from.account, out.path(), &mut |_, _| told += 1).unwrap();
    assert_eq!((moved.messages, told), (5, 5));
    let mut to = house();
    let back = import_maildir(&mut *to.writer, to.account, out.path(), &mut |_, _| {}).unwrap();
    assert_eq!((back.messages, back.octets), (5, moved.octets));
    let mut expected = from.seen();
    // In a Maildir messages stand by their date.
    expected.values_mut().for_each(|m| m.sort_by_key(|(_, _, at)| *at));
    assert_eq!(to.seen(), expected);
}

#[test]
fn an_mbox_comes_back() {
    let mut from = filled();
    let out = tempfile::tempdir().unwrap();
    export_mbox(&mut *from.reader, from.account, out.path(), &mut |_, _| {}).unwrap();
    let inbox = std::fs::read_to_string(out.path().join("INBOX.mbox")).unwrap();
    assert!(
        inbox.starts_with(
            "From MAILER-DAEMON Tue Nov 14 22:13:20 2023\nSubject: one\nStatus: RO\n\n>From here\n>>From there\n\nFrom "
        ),
        "{inbox}"
    );
    let mut to = house();
    for (file, name) in [("INBOX", "INBOX"), ("Work", "Work"), ("Work.v1.0.&AOk-t&AOk-", "Work/v1.0/\u{e9}t\u{e9}")] {
        let path = out.path().join(format!("{file}.mbox"));
        import_mbox(&mut *to.writer, to.account, name, &path, &mut |_, _| {}).unwrap();
    }
    assert_eq!(to.seen(), from.seen());
    let other = out.path().join("other");
    std::fs::write(&other, "Subject: no mbox\n\n").unwrap();
    let refused = import_mbox(&mut *to.writer, to.account, "INBOX", &other, &mut |_, _| {});
    assert!(refused.unwrap_err().to_string().contains("expected a line that begins with"));
}
