//! SEARCH, SORT and THREAD over a mailbox, against what one would pick by hand.

use super::*;
use crate::base::mailbox::Uid;
use crate::base::mailbox::search::{Day, Found, SearchForm, SearchKey, SortBy, SortKey, ThreadBy, When, ZonedTime};
use crate::base::time::WallTime;

const DAY: u64 = 86_400_000;

struct Box<D: Disk + Sync> {
    open: Open<D>,
    account: AccountId,
    inbox: MailboxId,
}

fn filled(site: &Site<RealDisk>) -> Box<RealDisk> {
    let mut open = site.open();
    let account = open.account("a");
    let mails = [
        (
            "From: Zoe <zoe@x.test>\r\nTo: b@x.test\r\nSubject: Re: lunch\r\nDate: Fri, 2 Jan 1970 23:30:00 -0100\r\nMessage-ID: <2@x>\r\nReferences: <1@x>\r\n",
            "see you at noon",
            0,
            Flags::SEEN,
        ),
        (
            "From: adam@x.test\r\nTo: b@x.test\r\nSubject: lunch\r\nDate: Thu, 1 Jan 1970 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n",
            "Lunch at Caf\u{e9}?",
            60,
            Flags::NONE,
        ),
        (
            "From: =?utf-8?q?J=C3=BCrgen?= <j@x.test>\r\nSubject: =?utf-8?b?w5xiZXI=?=\r\nX-Special: yes\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n",
            "R2Vow6RsdGVyIGZpbmRlbg==",
            -120,
            Flags::FLAGGED,
        ),
    ];
    let mut messages = Vec::new();
    for (n, (header, text, zone_minutes, flags)) in mails.iter().enumerate() {
        let mut message = flagged(&format!("{header}\r\n{text}\r\n"), FlagNames::system(*flags));
        let at = WallTime::from_millis((n as u64 + 1) * DAY + 1000);
        message.internal_date = Some(ZonedTime { at, zone_minutes: *zone_minutes });
        messages.push(message);
    }
    messages[1].flags.keywords.push("Food".into());
    open.change(account, Change::Append { name: "INBOX".into(), messages }).unwrap();
    let inbox = open.select(account, "INBOX").status.mailbox;
    Box { open, account, inbox }
}

impl<D: Disk + Sync> Box<D> {
    fn ask(&mut self, key: SearchKey, form: SearchForm) -> Found {
        let query = Query::Search { mailbox: self.inbox, key, form, among: UidSet::range(1, 1000) };
        match self.open.reader.answer(self.account, query) {
            Ok(Reply::Found { found, .. }) => found,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(&mut self, key: SearchKey, expected: &[Uid]) {
        assert_eq!(self.ask(key.clone(), SearchForm::Set), Found::Set(uids(expected)), "{key:?}");
    }
}

fn header(name: &str, contains: &str) -> SearchKey {
    SearchKey::Header { name: name.into(), contains: contains.into() }
}

#[test]
fn keys_pick_what_they_say() {
    let site = Site::real();
    let mut mailbox = filled(&site);
    site.millis.store(5 * DAY, Ordering::Relaxed);
    let b = |key: SearchKey| std::boxed::Box::new(key);
    mailbox.check(SearchKey::All, &[1, 2, 3]);
    mailbox.check(SearchKey::And(vec![]), &[1, 2, 3]);
    mailbox.check(SearchKey::Uids(uids(&[2, 9])), &[2]);
    mailbox.check(SearchKey::Flag(Flags::SEEN), &[1]);
    mailbox.check(SearchKey::Not(b(SearchKey::Flag(Flags::SEEN))), &[2, 3]);
    mailbox.check(SearchKey::Or(b(SearchKey::Flag(Flags::SEEN)), b(SearchKey::Keyword("FOOD".into()))), &[1, 2]);
    mailbox.check(SearchKey::Keyword("nothing".into()), &[]);
    mailbox.check(header("Subject", "LUNCH"), &[1, 2]);
    mailbox.check(header("subject", "\u{fc}BER"), &[3]);
    mailbox.check(header("from", "j\u{fc}rgen"), &[3]);
    mailbox.check(header("x-special", ""), &[3]);
    mailbox.check(SearchKey::Body("caf\u{c9}".into()), &[2]);
    mailbox.check(SearchKey::Body("lunch".into()), &[2]);
    mailbox.check(SearchKey::Text("lunch".into()), &[1, 2]);
    mailbox.check(SearchKey::Body("geh\u{e4}lter".into()), &[3]);
    mailbox.check(SearchKey::Text("zoe@x".into()), &[1]);
    // INTERNALDATE counts in its own zone: the third came on the day before.
    mailbox.check(SearchKey::Internal(When::On, Day(2)), &[2, 3]);
    mailbox.check(SearchKey::Internal(When::Before, Day(2)), &[1]);
    mailbox.check(SearchKey::Internal(When::Since, Day(2)), &[2, 3]);
    // Date counts as it is written.
    mailbox.check(SearchKey::Sent(When::On, Day(1)), &[1]);
    mailbox.check(SearchKey::Sent(When::Before, Day(1)), &[2]);
    mailbox.check(SearchKey::Younger(2 * 86_400), &[3]);
    mailbox.check(SearchKey::Older(2 * 86_400), &[1, 2]);
    mailbox.check(SearchKey::Larger(200), &[3]);
    mailbox.check(SearchKey::And(vec![header("to", "b@"), SearchKey::Not(b(SearchKey::Body("noon".into())))]), &[2]);
    let deep = (0..200).fold(SearchKey::All, |key, _| SearchKey::Not(b(key)));
    let query = Query::Search { mailbox: mailbox.inbox, key: deep, form: SearchForm::Set, among: uids(&[1]) };
    assert!(matches!(mailbox.open.reader.answer(mailbox.account, query), Err(StoreError::Limit(_))));
}

#[test]
fn orders_and_threads() {
    let site = Site::real();
    let mut mailbox = filled(&site);
    let sorted = |by, reverse| SearchForm::Sorted(vec![SortKey { reverse, by }]);
    for (by, reverse, expected) in [
        (SortBy::Arrival, true, [3, 2, 1]),
        (SortBy::From, false, [2, 3, 1]),
        (SortBy::Date, false, [2, 1, 3]),
        (SortBy::Subject, false, [1, 2, 3]),
        (SortBy::Size, true, [3, 1, 2]),
        (SortBy::Cc, true, [1, 2, 3]),
    ] {
        assert_eq!(mailbox.ask(SearchKey::All, sorted(by, reverse)), Found::Sorted(expected.to_vec()), "{by:?}");
    }
    let Found::Threads(threads) = mailbox.ask(SearchKey::All, SearchForm::Threaded(ThreadBy::References)) else {
        panic!()
    };
    let shown: Vec<(u32, Option<Uid>)> = threads.iter().map(|m| (m.depth, m.uid)).collect();
    assert_eq!(shown, [(0, Some(2)), (1, Some(1)), (0, Some(3))]);
    let items = FetchItems { thread: true, preview: true, envelope: true, ..FetchItems::default() };
    let rows = mailbox.open.fetch(mailbox.account, mailbox.inbox, items.clone()).rows;
    assert_eq!(rows[0].thread, rows[1].thread);
    assert_ne!(rows[0].thread, rows[2].thread);
    assert_eq!(rows[0].preview.as_deref(), Some("see you at noon"));
    // What was computed is kept, and the same.
    mailbox.open.writer.tidy(0);
    assert_eq!(mailbox.open.fetch(mailbox.account, mailbox.inbox, items).rows, rows);
    let thread = rows[1].thread.unwrap();
    mailbox.check(SearchKey::Thread(thread), &[1, 2]);
}

/// The naive twin of the filter is a store without it.
#[test]
fn the_full_text_index_overlooks_nothing() {
    let mut plain = Site::real();
    plain.knobs.full_text_search = false;
    let site = Site::real();
    let (mut with, mut without) = (filled(&site), filled(&plain));
    let words = [
        "invoice",
        "Caf\u{e9}",
        "STRASSE",
        "stra\u{df}e",
        "a \"quoted\" b",
        "x",
        "\u{fc}ber",
        "in",
        "voice\r\n",
        "\u{1f600}\u{1f601}\u{1f602}",
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let picked: Vec<&str> = (0..rng.usize(1..5)).map(|_| words[rng.usize(0..words.len())]).collect();
        let text = format!("Subject: {}\r\n\r\n{}\r\n", picked[0].trim(), picked.join(" - "));
        for mailbox in [&mut with, &mut without] {
            mailbox.open.append(mailbox.account, "INBOX", &text);
            if round % 7 == 0 {
                mailbox.open.expunge(mailbox.account, mailbox.inbox, &[round / 2 + 1]);
            }
        }
        // The last ones are not in it yet.
        if round == 50 {
            while with.open.writer.tidy(1 << 20) {}
        }
    }
    assert!(with.open.store.shared.texts.is_some() && without.open.store.shared.texts.is_none());
    let mut found_some = 0;
    for word in words.iter().copied().chain(["voi", "caf\u{c9} - x", "nowhere", "ss", "b - x"]) {
        for key in [
            SearchKey::Body(word.into()),
            SearchKey::Text(word.into()),
            header("Subject", word),
            SearchKey::Not(std::boxed::Box::new(SearchKey::Text(word.into()))),
        ] {
            let (a, b) = (with.ask(key.clone(), SearchForm::Set), without.ask(key.clone(), SearchForm::Set));
            assert_eq!(a, b, "{key:?}");
            found_some += u32::from(a != Found::Set(UidSet::new()));
        }
    }
    assert!(found_some > 20);
}
