//! One command after the other, and what is left of it after a restart, with and without the index.

use super::*;
use crate::base::mailbox::SpecialUse;
use crate::base::mailbox::ask::{Quota, StoreHow};

const TEXT: &str = "From: a@example.test\r\nSubject: hello\r\n\r\nbody\r\n";

#[test]
fn an_account_is_born_with_its_mailboxes() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a@example.test");
    assert_eq!(open.account("a@example.test"), account);
    assert_eq!(open.store.accounts().into_iter().collect::<Vec<_>>(), [("a@example.test".to_owned(), account)]);
    let Reply::Mailboxes(all) = open.reader.answer(account, Query::Mailboxes).unwrap() else { panic!() };
    let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);
    assert!(all.iter().all(|m| m.selectable && m.subscribed));
    assert_eq!(all[1].special_use, Some(SpecialUse::Drafts));
    assert_eq!(open.reader.answer(AccountId(99), Query::Mailboxes).unwrap_err(), StoreError::NoSuchAccount);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let site = Site::real();
    let (account, inbox, work);
    {
        let mut open = site.open();
        account = open.account("a@example.test");
        work = open.create(account, "Work/2026");
        assert_eq!(open.append(account, "inbox", TEXT), 1);
        let large = format!("Subject: large\r\n\r\n{}", "0123456789abcde\n".repeat(40_000));
        assert_eq!(open.append(account, "INBOX", &large), 2);
        inbox = open.select(account, "INBOX").status.mailbox;
        let flags = FlagNames { system: Flags::SEEN, keywords: vec!["$Work".into()] };
        let change =
            Change::Store { mailbox: inbox, uids: uids(&[1]), how: StoreHow::Replace, flags, unchanged_since: None };
        open.change(account, change).unwrap();
        let copied =
            open.change(account, Change::Copy { mailbox: inbox, uids: uids(&[1, 2, 9]), to: "Work/2026".into() });
        let Ok(Reply::Copied(copied)) = copied else { panic!("{copied:?}") };
        assert_eq!((copied.from, copied.to), (uids(&[1, 2]), uids(&[1, 2])));
        open.append(account, "INBOX", TEXT);
        assert_eq!(open.expunge(account, inbox, &[3]), uids(&[3]));
        assert_eq!(open.texts(account, inbox), [(1, TEXT.to_owned()), (2, large)]);
    }
    let mut before = None;
    for round in 0..4 {
        if round == 2 {
            remove_index(&site.index);
        }
        let mut open = site.open();
        assert_eq!(open.opened.rebuilt.is_some(), round == 2, "{:?}", open.opened);
        assert!(!open.opened.is_damaged());
        assert_eq!(open.account("a@example.test"), account);
        let mut selected = open.select(account, "INBOX");
        (selected.recent_from, selected.status.recent) = (0, 0);
        assert_eq!((&selected.uids, selected.status.uid_next), (&uids(&[1, 2]), 4));
        assert_eq!(selected.keywords.as_slice(), ["$Work"]);
        let rows = open.fetch(account, inbox, FetchItems::default()).rows;
        assert_eq!(rows[0].flags, Flags::SEEN.with(Flags::keyword(0)));
        let texts = open.texts(account, work);
        assert_eq!((texts[0].1.as_str(), texts[1].1.len()), (TEXT, 640_018));
        assert_eq!(open.sync(account, inbox, 1, 4).vanished, uids(&[3]));
        let now = (selected, rows, open.select(account, "Work/2026").status.uid_validity);
        assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
    }
    assert_eq!(site.open().append(account, "INBOX", TEXT), 4, "a UID is never used again");
}

#[test]
fn mail_for_many_is_kept_once() {
    let site = Site::real();
    let mut open = site.open();
    let to = vec![recipient(0, &["a", "b", "c"]), recipient(4, &["b"]), recipient(5, &[])];
    let delivered = open.deliver(TEXT, to);
    assert_eq!(delivered.verdicts, [(0, Ok(())), (4, Ok(())), (5, Err(StoreError::NoSuchAccount))]);
    assert_eq!(delivered.committed.unwrap().id(), SpoolId(9));
    let mut contents = Vec::new();
    for name in ["a", "b", "c"] {
        let account = open.account(name);
        let inbox = open.select(account, "INBOX");
        assert_eq!(inbox.uids, uids(&[1]));
        let texts = open.texts(account, inbox.status.mailbox);
        assert_eq!(texts, [(1, format!("Received: here\r\n{TEXT}"))]);
        contents.push(open.fetch(account, inbox.status.mailbox, FetchItems::default()).rows[0].content);
    }
    assert!(contents.iter().all(|c| *c == contents[0]));
}

#[test]
fn a_quota_holds() {
    let mut site = Site::real();
    site.knobs.quota_octets.0 = 100;
    site.knobs.quota_messages = 3;
    let mut open = site.open();
    let account = open.account("a");
    open.append(account, "INBOX", TEXT);
    open.append(account, "INBOX", TEXT);
    let more = Change::Append { name: "INBOX".into(), messages: vec![message(TEXT)] };
    assert_eq!(open.change(account, more).unwrap_err(), StoreError::OverQuota);
    let delivered = open.deliver(TEXT, vec![recipient(1, &["a"]), recipient(2, &["b"])]);
    assert_eq!(delivered.verdicts, [(1, Err(StoreError::OverQuota)), (2, Ok(()))]);
    let Reply::Quota(quota) = open.reader.answer(account, Query::Quota).unwrap() else { panic!() };
    let octets = 2 * TEXT.len() as u64;
    assert_eq!(quota, Quota { octets, octets_max: Some(100), messages: 2, messages_max: Some(3) });
}

/// What some accounts may keep.
struct Own;

impl crate::mailstore::Quotas for Own {
    fn quota(&self, account: &str) -> (Option<u64>, Option<u64>) {
        match account {
            "small" => (None, Some(1)),
            "large" => (Some(0), Some(0)),
            _ => (None, None),
        }
    }
}

#[test]
fn an_account_can_have_a_quota_of_its_own() {
    let mut site = Site::real();
    site.knobs.quota_messages = 2;
    let mut open = site.open();
    open.store.set_quotas(Arc::new(Own));
    for (name, room, messages_max) in [("small", 1, Some(1)), ("large", 5, None), ("other", 2, Some(2))] {
        let account = open.account(name);
        for _ in 0..room {
            open.append(account, "INBOX", TEXT);
        }
        let Reply::Quota(quota) = open.reader.answer(account, Query::Quota).unwrap() else { panic!() };
        assert_eq!(quota.messages_max, messages_max, "{name}");
        if messages_max.is_some() {
            let more = Change::Append { name: "INBOX".into(), messages: vec![message(TEXT)] };
            assert_eq!(open.change(account, more).unwrap_err(), StoreError::OverQuota, "{name}");
        }
    }
}

#[test]
fn a_list_with_a_full_member_is_delivered_to_the_others() {
    let mut site = Site::real();
    site.knobs.quota_messages = 1;
    let mut open = site.open();
    let full = open.account("full");
    open.append(full, "INBOX", TEXT);
    let partly = |index, accounts: &[&str]| Recipient { partly: true, ..recipient(index, accounts) };
    let to = vec![partly(0, &["full", "b", "c"]), partly(1, &["full"]), recipient(2, &["d", "full"])];
    let delivered = open.deliver(TEXT, to);
    assert_eq!(delivered.verdicts, [(0, Ok(())), (1, Err(StoreError::OverQuota)), (2, Err(StoreError::OverQuota))]);
    assert_eq!(delivered.left, [(0, "full".to_owned(), StoreError::OverQuota)]);
    assert!(delivered.committed.is_some());
    for (name, messages) in [("b", 1), ("c", 1), ("d", 0), ("full", 1)] {
        let account = open.account(name);
        assert_eq!(open.select(account, "INBOX").status.messages, messages, "{name}");
    }
    // Who has it already by another recipient is not refused for the room that it took.
    let delivered = open.deliver(TEXT, vec![recipient(0, &["e"]), recipient(1, &["e"])]);
    assert_eq!(delivered.verdicts, [(0, Ok(())), (1, Ok(()))]);
    // Nobody has room: nothing is delivered in part.
    let delivered = open.deliver(TEXT, vec![partly(0, &["full", "b"])]);
    assert_eq!((delivered.verdicts, delivered.left.len()), (vec![(0, Err(StoreError::OverQuota))], 0));
}

#[test]
fn a_purged_account_is_empty_and_begins_anew() {
    let site = Site::real();
    let mut open = site.open();
    let (account, other) = (open.account("a"), open.account("b"));
    open.deliver(TEXT, vec![recipient(0, &["a", "b"])]);
    open.create(account, "Work/Deep");
    open.append(account, "Work/Deep", TEXT);
    let before = open.select(account, "INBOX").status;
    match open.change(account, Change::Purge) {
        Ok(Reply::Purged { messages: 2, mailboxes }) => assert!(mailboxes >= 8, "{mailboxes}"),
        other => panic!("{other:?}"),
    }
    let gone = Query::Select { name: "INBOX".into(), read_only: true };
    for round in ["at once", "after a start", "with another index"] {
        assert_eq!(open.reader.answer(account, gone.clone()).unwrap_err(), StoreError::NoSuchMailbox, "{round}");
        let Reply::Mailboxes(left) = open.reader.answer(account, Query::Mailboxes).unwrap() else { panic!() };
        assert!(left.is_empty(), "{round}: {left:?}");
        assert_eq!(open.select(other, "INBOX").status.messages, 1, "{round}: another account keeps its own");
        drop(open);
        if round == "after a start" {
            remove_index(&site.index);
        }
        open = site.open();
    }
    // Under its name it is a new one: nothing of it can be taken for what was there.
    assert_eq!(open.account("a"), account);
    let after = open.select(account, "INBOX").status;
    assert!(after.messages == 0 && after.uid_validity > before.uid_validity && after.mailbox != before.mailbox);
    open.deliver(TEXT, vec![recipient(0, &["a"])]);
    assert_eq!(open.select(account, "INBOX").status.messages, 1);
}

#[test]
fn a_glance_says_what_a_reader_says() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    let stranger = open.account("b");
    for _ in 0..300 {
        open.append(account, "INBOX", TEXT);
    }
    let inbox = open.select(account, "INBOX").status.mailbox;
    open.store(account, inbox, &[3, 250], Flags::SEEN);
    open.expunge(account, inbox, &[1, 200]);
    let glance = Mailstore::glance(&open.store);
    let flags = |first, last| Query::Fetch {
        mailbox: inbox,
        uids: UidSet::range(first, last),
        items: Arc::default(),
        changed_since: None,
        rows_max: 1000,
        octets_max: 1000,
    };
    for read_only in [true, true, false, true] {
        for query in [
            Query::Select { name: "inbox".into(), read_only },
            Query::Sync { mailbox: inbox, since: 10, uid_next: 100, read_only },
            Query::Status { names: vec!["INBOX".into(), "Sent".into(), "none".into()] },
            Query::Mailboxes,
            flags(2, 100),
        ] {
            let at_once = glance.glance(account, &query).unwrap_or_else(|| panic!("{query:?}"));
            let read = open.reader.answer(account, query.clone());
            if let Query::Select { read_only: false, .. } | Query::Sync { read_only: false, .. } = &query {
                continue; // the first takes what is recent
            }
            assert_eq!(format!("{at_once:?}"), format!("{read:?}"));
        }
    }
    // What is long, needs a disk or is another's goes to a reader.
    let envelope = FetchItems { envelope: true, ..FetchItems::default() };
    let envelopes = Query::Fetch {
        mailbox: inbox,
        uids: UidSet::range(2, 3),
        items: Arc::new(envelope),
        changed_since: None,
        rows_max: 9,
        octets_max: 9,
    };
    for query in [flags(1, 300), envelopes, Query::Quota] {
        assert!(glance.glance(account, &query).is_none(), "{query:?}");
    }
    assert!(glance.glance(stranger, &flags(2, 100)).is_none());
    drop(open);
    let open = site.open();
    let glance = Mailstore::glance(&open.store);
    assert!(glance.glance(account, &flags(2, 100)).is_none(), "not in memory yet");
}

#[test]
fn names_move_with_what_is_below_them() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    let deep = open.create(account, "A/B/C");
    open.append(account, "A/B/C", TEXT);
    let rename = |from: &str, to: &str| Change::Rename { from: from.into(), to: to.into() };
    open.change(account, rename("A/B", "X/Y")).unwrap();
    assert_eq!(open.select(account, "X/Y/C").status.mailbox, deep);
    assert!(matches!(open.change(account, rename("X", "X/Z")), Err(StoreError::InvalidName(_))));
    assert_eq!(open.change(account, rename("X", "Trash")).unwrap_err(), StoreError::Exists);
    assert_eq!(open.change(account, rename("B", "C")).unwrap_err(), StoreError::NoSuchMailbox);
    // INBOX stays and gives its messages away.
    open.append(account, "INBOX", TEXT);
    let inbox = open.select(account, "INBOX").status.mailbox;
    open.change(account, rename("INBOX", "Old/mail")).unwrap();
    assert_eq!(open.select(account, "INBOX").status.mailbox, inbox);
    assert_eq!(open.select(account, "INBOX").status.messages, 0);
    assert_eq!(open.select(account, "Old/mail").uids, uids(&[1]));
    assert_eq!(open.sync(account, inbox, 2, 2).vanished, uids(&[1]));
    // What has children stays as a name.
    open.change(account, Change::Delete { name: "X/Y".into() }).unwrap();
    let delete = Change::Delete { name: "X/Y".into() };
    assert_eq!(open.change(account, delete.clone()).unwrap_err(), StoreError::HasChildren);
    open.change(account, Change::Delete { name: "X/Y/C".into() }).unwrap();
    assert!(open.sync(account, deep, 0, 1).gone);
    open.change(account, delete).unwrap();
    assert!(matches!(open.change(account, Change::Delete { name: "inbox".into() }), Err(StoreError::Cannot(_))));
    for bad in ["", "a//b", "a*", "/a", "a\u{7}"] {
        let create = Change::Create { name: bad.into(), special_use: None };
        assert!(matches!(open.change(account, create), Err(StoreError::InvalidName(_))), "{bad:?}");
    }
}

#[test]
fn a_mailbox_made_again_has_another_uid_validity() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    let mut last = 0;
    for _ in 0..3 {
        let id = open.create(account, "Again");
        let validity = open.select(account, "Again").status.uid_validity;
        assert!(validity > last);
        last = validity;
        open.append(account, "Again", TEXT);
        open.change(account, Change::Delete { name: "Again".into() }).unwrap();
        assert!(open.sync(account, id, 0, 1).gone);
    }
}

#[test]
fn a_session_learns_what_others_did() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    for _ in 0..5 {
        open.append(account, "INBOX", TEXT);
    }
    let seen = open.select(account, "INBOX");
    let inbox = seen.status.mailbox;
    open.store(account, inbox, &[2, 3], Flags::FLAGGED);
    open.expunge(account, inbox, &[3, 5]);
    open.append(account, "INBOX", TEXT);
    let synced = open.sync(account, inbox, seen.status.mod_seq, seen.status.uid_next);
    assert_eq!((&synced.added, &synced.vanished), (&uids(&[6]), &uids(&[3, 5])));
    assert_eq!(synced.changed.iter().map(|c| (c.uid, c.flags)).collect::<Vec<_>>(), [(2, Flags::FLAGGED)]);
    let again = open.sync(account, inbox, synced.mod_seq, synced.uid_next);
    assert!(again.added.is_empty() && again.changed.is_empty() && again.vanished.is_empty());
    // UNCHANGEDSINCE holds back what changed meanwhile.
    let change = Change::Store {
        mailbox: inbox,
        uids: uids(&[1, 2]),
        how: StoreHow::Add,
        flags: FlagNames::system(Flags::SEEN),
        unchanged_since: Some(seen.status.mod_seq),
    };
    let Ok(Reply::Stored { changed, modified, .. }) = open.change(account, change) else { panic!() };
    assert_eq!((changed.len(), changed[0].uid, modified), (1, 1, uids(&[2])));
    // Another account has no business here.
    let other = open.account("b");
    assert!(open.sync(other, inbox, 0, 1).gone);
    let expunge = Change::Expunge { mailbox: inbox, uids: None, deleted_only: false };
    assert_eq!(open.change(other, expunge).unwrap_err(), StoreError::Gone);
}

#[test]
fn recent_messages_belong_to_the_first_session_that_may_write() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    open.append(account, "INBOX", TEXT);
    let select = |open: &mut Open<_>, read_only| {
        let query = Query::Select { name: "INBOX".into(), read_only };
        let Ok(Reply::Selected(s)) = open.reader.answer(account, query) else { panic!() };
        (s.recent_from, s.status.recent)
    };
    assert_eq!(select(&mut open, true), (1, 1));
    assert_eq!(select(&mut open, false), (1, 1));
    assert_eq!(select(&mut open, false), (2, 0));
    open.append(account, "INBOX", TEXT);
    assert_eq!(select(&mut open, false), (2, 1));
    open.writer.tidy(0);
    drop(open);
    assert_eq!(select(&mut site.open(), true), (3, 0), "it is remembered");
}

#[test]
fn moves_and_replacements_are_one_change() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    for _ in 0..3 {
        open.append(account, "INBOX", TEXT);
    }
    let inbox = open.select(account, "INBOX").status.mailbox;
    let moved = open.change(account, Change::Move { mailbox: inbox, uids: uids(&[1, 3]), to: "Trash".into() });
    let Ok(Reply::Copied(moved)) = moved else { panic!() };
    assert_eq!((moved.from, moved.to), (uids(&[1, 3]), uids(&[1, 2])));
    let missing = open.change(account, Change::Move { mailbox: inbox, uids: uids(&[2]), to: "None".into() });
    assert_eq!(missing.unwrap_err(), StoreError::NoSuchMailbox);
    let replace =
        |uid| Change::Replace { mailbox: inbox, uid, name: "INBOX".into(), message: message("Subject: new\r\n\r\n") };
    assert!(matches!(open.change(account, replace(2)), Ok(Reply::Replaced { appended }) if appended.uids == [4]));
    assert_eq!(open.change(account, replace(2)).unwrap_err(), StoreError::Expunged);
    assert_eq!(open.texts(account, inbox), [(4, "Subject: new\r\n\r\n".to_owned())]);
}

#[test]
fn one_commit_answers_everybody_in_order() {
    let site = Site::real();
    let mut open = site.open();
    let account = open.account("a");
    open.writer.change(1, account, Change::Create { name: "N".into(), special_use: None });
    open.writer.change(
        2,
        account,
        Change::Append { name: "N".into(), messages: vec![flagged(TEXT, FlagNames::system(Flags::SEEN))] },
    );
    open.writer.change(3, account, Change::Create { name: "N".into(), special_use: None });
    open.writer.change(4, account, Change::Append { name: "N".into(), messages: vec![message(TEXT), message(TEXT)] });
    let commit = open.writer.commit();
    assert_eq!(commit.outcomes.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(matches!(commit.outcomes[2].1, Outcome::Replied(Err(StoreError::Exists))));
    let n = open.select(account, "N");
    assert_eq!((n.uids, n.first_unseen), (uids(&[1, 2, 3]), Some(2)));
    assert_eq!(commit.touched, [n.status.mailbox]);
    assert!(open.writer.commit().outcomes.is_empty());
    assert!(open.store.writer().is_err(), "there is one writer");
    site.pass(0);
}
