//! Each command in the forms that clients send.

use super::*;

#[test]
fn commands_without_arguments() {
    for (text, expected) in [
        ("CAPABILITY", Command::Capability),
        ("noop", Command::Noop),
        ("Logout", Command::Logout),
        ("STARTTLS", Command::StartTls),
        ("CLOSE", Command::Close),
        ("UNSELECT", Command::Unselect),
        ("CHECK", Command::Check),
        ("NAMESPACE", Command::Namespace),
        ("IDLE", Command::Idle),
        ("EXPUNGE", Command::Expunge { uids: None }),
        ("UID EXPUNGE 3", Command::Expunge { uids: Some(one(3)) }),
        ("NOTIFY SET (SELECTED (MessageNew))", Command::Notify),
        ("NOOP ", Command::Noop),
    ] {
        assert_eq!(command(text), expected, "{text}");
    }
}

#[test]
fn every_name_in_the_table_is_sorted() {
    assert!(COMMANDS.is_sorted_by(|a, b| a.0 < b.0) && UID_COMMANDS.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn who_is_there() {
    let login = |user: &str, password: &str| Command::Login { user: user.into(), password: password.to_owned().into() };
    assert_eq!(command("LOGIN ann secret"), login("ann", "secret"));
    assert_eq!(command("LOGIN \"a \\\"b\\\\\" {4}\r\np\r\nq"), login("a \"b\\", "p\r\nq"));
    assert_eq!(command("LOGIN \"é\" \"\""), login("é", ""));
    let authenticate = |mechanism: &str, initial: Option<&str>| Command::Authenticate {
        mechanism: mechanism.into(),
        initial: initial.map(str::to_owned),
    };
    assert_eq!(command("AUTHENTICATE plain"), authenticate("PLAIN", None));
    assert_eq!(command("AUTHENTICATE SCRAM-SHA-256 biws+/=="), authenticate("SCRAM-SHA-256", Some("biws+/==")));
    assert_eq!(command("AUTHENTICATE EXTERNAL ="), authenticate("EXTERNAL", Some("=")));
    assert_eq!(
        command("ENABLE utf8=accept CONDSTORE"),
        Command::Enable(vec!["UTF8=ACCEPT".into(), "CONDSTORE".into()])
    );
    assert_eq!(command("COMPRESS deflate"), Command::Compress("DEFLATE".into()));
    assert_eq!(command("ID NIL"), Command::Id(vec![]));
    assert_eq!(command("ID ()"), Command::Id(vec![]));
    assert_eq!(
        command("ID (\"name\" \"x\" \"version\" NIL)"),
        Command::Id(vec![("name".into(), Some("x".into())), ("version".into(), None)])
    );
}

#[test]
fn names_of_mailboxes() {
    for (text, expected) in [
        ("INBOX", "INBOX"),
        ("inBox", "INBOX"),
        ("\"inbox/a\"", "INBOX/a"),
        ("inboxes", "inboxes"),
        ("Entw&APw-rfe", "Entwürfe"),
        ("&-", "&"),
        ("{3}\r\na b", "a b"),
        ("\"Entwürfe\"", "Entwürfe"),
        ("a]", "a]"),
    ] {
        assert_eq!(command(&format!("DELETE {text}")), Command::Delete(expected.into()), "{text}");
    }
    for (text, expected) in [("\"Entwürfe\"", "Entwürfe"), ("&APw-", "&APw-"), ("\"a&b\"", "a&b"), ("Inbox", "INBOX")]
    {
        assert_eq!(command_in(&format!("DELETE {text}"), UTF8), Command::Delete(expected.into()), "{text}");
    }
    assert_eq!(command("RENAME a \"b c\""), Command::Rename { from: "a".into(), to: "b c".into() });
    assert_eq!(command("SUBSCRIBE a"), Command::Subscribe("a".into()));
    assert_eq!(command("UNSUBSCRIBE a"), Command::Unsubscribe("a".into()));
    let create = |mailbox: &str, special_use: &[SpecialUse]| Command::Create {
        mailbox: mailbox.into(),
        special_use: special_use.to_vec(),
    };
    assert_eq!(command("CREATE a/"), create("a", &[]));
    assert_eq!(command("CREATE a (USE (\\drafts \\Sent))"), create("a", &[SpecialUse::Drafts, SpecialUse::Sent]));
    assert_eq!(command("CREATE a (USE ())"), create("a", &[]));
}

#[test]
fn select_and_its_parameters() {
    let select =
        |read_only, condstore, qresync| Command::Select { mailbox: "INBOX".into(), read_only, condstore, qresync };
    assert_eq!(command("SELECT inbox"), select(false, false, None));
    assert_eq!(command("EXAMINE inbox (CONDSTORE)"), select(true, true, None));
    let qresync = |known, matches| Some(Qresync { uid_validity: 67, mod_seq: 90, known, matches });
    assert_eq!(command("SELECT inbox (QRESYNC (67 90))"), select(false, false, qresync(None, None)));
    assert_eq!(
        command("SELECT inbox (QRESYNC (67 90 1:5,9) CONDSTORE)"),
        select(false, true, qresync(Some(SequenceSet::Ranges(vec![numbers(1, 5), numbers(9, 9)])), None))
    );
    assert_eq!(
        command("SELECT inbox (QRESYNC (67 90 1 (2 3)))"),
        select(false, false, qresync(Some(one(1)), Some((one(2), one(3)))))
    );
    assert_eq!(
        command("SELECT inbox (QRESYNC (67 90 (2 3)))"),
        select(false, false, qresync(None, Some((one(2), one(3)))))
    );
}

#[test]
fn list_in_all_forms() {
    let plain = |reference: &str, pattern: &str| ListCommand {
        reference: reference.into(),
        patterns: vec![pattern.into()],
        ..ListCommand::default()
    };
    assert_eq!(command("LIST \"\" *"), Command::List(plain("", "*")));
    assert_eq!(command("LIST a/ \"%/b c\""), Command::List(plain("a/", "%/b c")));
    assert_eq!(command("LIST \"\" inbox"), Command::List(plain("", "INBOX")));
    assert_eq!(command("LIST \"\" \"\""), Command::List(plain("", "")));
    assert_eq!(command("LSUB \"\" &APw-*"), Command::List(ListCommand { lsub: true, ..plain("", "ü*") }));
    assert_eq!(
        command("LIST (SUBSCRIBED REMOTE recursivematch SPECIAL-USE) \"\" (a % \"b c\")"),
        Command::List(ListCommand {
            extended: true,
            select_subscribed: true,
            select_remote: true,
            recursive_match: true,
            select_special_use: true,
            patterns: vec!["a".into(), "%".into(), "b c".into()],
            ..ListCommand::default()
        })
    );
    assert_eq!(
        command("LIST () \"\" % RETURN (SUBSCRIBED CHILDREN SPECIAL-USE STATUS (MESSAGES SIZE MESSAGES))"),
        Command::List(ListCommand {
            extended: true,
            return_subscribed: true,
            return_children: true,
            return_special_use: true,
            return_status: Some(vec![StatusItem::Messages, StatusItem::Size]),
            ..plain("", "%")
        })
    );
    assert_eq!(command("LIST \"\" % RETURN ()"), Command::List(ListCommand { extended: true, ..plain("", "%") }));
}

#[test]
fn status_and_quota() {
    let all: Vec<&str> = STATUS_ITEMS.iter().map(|i| i.0).collect();
    assert_eq!(
        command(&format!("STATUS x ({})", all.join(" ").to_lowercase())),
        Command::Status { mailbox: "x".into(), items: STATUS_ITEMS.iter().map(|i| i.1).collect() }
    );
    assert_eq!(command("GETQUOTA \"\""), Command::GetQuota(String::new()));
    assert_eq!(command("GETQUOTAROOT inbox"), Command::GetQuotaRoot("INBOX".into()));
    assert_eq!(command("SETQUOTA \"#user\" (STORAGE 510 MESSAGE 9)"), Command::SetQuota("#user".into()));
}

fn keywords(system: Flags, names: &[&str]) -> FlagNames {
    FlagNames { system, keywords: names.iter().map(|n| (*n).to_owned()).collect() }
}

#[test]
fn append_and_replace() {
    let message = |literal| AppendMessage { flags: FlagNames::default(), date: None, literal, utf8: false };
    let append = |messages| Command::Append { mailbox: "x".into(), messages };
    assert_eq!(command("APPEND x {310}\r\n"), append(vec![message(0)]));
    let date = ZonedTime { at: WallTime::from_millis(775_991_491_000), zone_minutes: -480 };
    assert_eq!(
        command("APPEND x (\\Seen $Work) \" 4-Aug-1994 01:11:31 -0800\" {3}\r\n () ~{5}\r\n UTF8 (~{9}\r\n)"),
        append(vec![
            AppendMessage { flags: keywords(Flags::SEEN, &["$Work"]), date: Some(date), ..message(0) },
            message(1),
            AppendMessage { utf8: true, ..message(2) },
        ])
    );
    let replace = |uid, bound| Command::Replace { message: bound, uid, mailbox: "x".into(), new: message(0) };
    assert_eq!(command("REPLACE 4 x {3}\r\n"), replace(false, Bound::Number(4)));
    assert_eq!(command("UID REPLACE * x {3}\r\n"), replace(true, Bound::Highest));
}

#[test]
fn store_and_copy() {
    let store = |how, silent, flags, unchanged_since| Command::Store {
        messages: one(1),
        uid: false,
        how,
        silent,
        flags,
        unchanged_since,
    };
    let seen = || FlagNames::system(Flags::SEEN);
    assert_eq!(command("STORE 1 FLAGS (\\Seen)"), store(StoreHow::Replace, false, seen(), None));
    assert_eq!(command("STORE 1 flags ()"), store(StoreHow::Replace, false, FlagNames::default(), None));
    assert_eq!(command("STORE 1 +FLAGS.SILENT \\seen"), store(StoreHow::Add, true, seen(), None));
    assert_eq!(
        command("STORE 1 (UNCHANGEDSINCE 12121230045) -FLAGS (\\Deleted a A b \\Flagged)"),
        store(
            StoreHow::Remove,
            false,
            keywords(Flags::DELETED.with(Flags::FLAGGED), &["a", "b"]),
            Some(12_121_230_045)
        )
    );
    assert_eq!(
        command("STORE 1 +FLAGS \\Draft \\Answered x"),
        store(StoreHow::Add, false, keywords(Flags::DRAFT.with(Flags::ANSWERED), &["x"]), None)
    );
    let copy = |messages, uid, moving| Command::Copy { messages, uid, moving, mailbox: "x".into() };
    let star = SequenceSet::Ranges(vec![(Bound::Number(2), Bound::Highest), numbers(9, 3)]);
    assert_eq!(command("COPY 2:*,9:3 x"), copy(star, false, false));
    assert_eq!(command("MOVE $ x"), copy(SequenceSet::Saved, false, true));
    assert_eq!(command("UID COPY 1 x"), copy(one(1), true, false));
    assert_eq!(command("UID MOVE * x"), copy(SequenceSet::Ranges(vec![(Bound::Highest, Bound::Highest)]), true, true));
}

#[track_caller]
fn fetch(text: &str) -> FetchCommand {
    match command(text) {
        Command::Fetch(fetch) => fetch,
        other => panic!("{other:?}"),
    }
}

/// Labels of sections, names of the others.
fn attributes(fetch: &FetchCommand) -> Vec<String> {
    let name = |a: &FetchAttribute| match a {
        FetchAttribute::Section { label, .. } => label.clone(),
        other => format!("{other:?}"),
    };
    fetch.attributes.iter().map(name).collect()
}

#[test]
fn fetch_attributes() {
    for (text, expected) in [
        ("FETCH 1 ALL", &["Flags", "InternalDate", "Size", "Envelope"][..]),
        ("FETCH 1 fast", &["Flags", "InternalDate", "Size"]),
        ("FETCH 1 FULL", &["Flags", "InternalDate", "Size", "Envelope", "Body"]),
        ("FETCH 1 FLAGS", &["Flags"]),
        ("UID FETCH 1 (FLAGS UID)", &["Flags", "Uid"]),
        ("UID FETCH 1 FLAGS", &["Uid", "Flags"]),
        (
            "FETCH 1 (BODYSTRUCTURE BODY EMAILID THREADID SAVEDATE MODSEQ)",
            &["BodyStructure", "Body", "EmailId", "ThreadId", "SaveDate", "ModSeq"],
        ),
        ("FETCH 1 (PREVIEW (LAZY) UID)", &["Preview", "Uid"]),
        ("FETCH 1 PREVIEW", &["Preview"]),
        ("FETCH 1 (RFC822.SIZE RFC822 RFC822.HEADER RFC822.TEXT)", &["Size", "RFC822", "RFC822.HEADER", "RFC822.TEXT"]),
        (
            "FETCH 1 (BODY[] body.peek[header] BODY[1.2.mime]<10.20> BODY[3])",
            &["BODY[]", "BODY[HEADER]", "BODY[1.2.MIME]<10>", "BODY[3]"],
        ),
        ("FETCH 1 BODY.PEEK[HEADER.FIELDS (From \"to\" {2}\r\nCc)]", &["BODY[HEADER.FIELDS (From to Cc)]"]),
        ("FETCH 1 BODY[4.HEADER.FIELDS.NOT (X-(y)]", &["BODY[4.HEADER.FIELDS.NOT (X-y)]"][..0]),
        (
            "FETCH 1 (BINARY[1.2]<0.5> BINARY.PEEK[3] BINARY.SIZE[3] BINARY[])",
            &["BINARY[1.2]<0>", "BINARY[3]", "BINARY.SIZE[3]", "BINARY[]"],
        ),
        ("FETCH 1 (BODY[TEXT] BODY.PEEK[TEXT] FLAGS FLAGS)", &["BODY[TEXT]", "Flags"]),
        ("FETCH 1 (BODY[]<0.5> BODY[]<0.6>)", &["BODY[]<0>", "BODY[]<0>"]),
        ("FETCH 1 FLAGS (CHANGEDSINCE 5)", &["Flags", "ModSeq"]),
    ] {
        if expected.is_empty() {
            assert!(parse(format!("a {text}").as_bytes(), REV1).is_err(), "{text}");
        } else {
            assert_eq!(attributes(&fetch(text)), expected, "{text}");
        }
    }
}

#[test]
fn fetch_asks_the_store_for_what_it_answers() {
    let all = fetch("FETCH 1:* (ENVELOPE BODY BODY[2.HEADER.FIELDS.NOT (a b)]<3.4> BINARY.SIZE[5.6] THREADID PREVIEW)");
    assert!(all.items.envelope && all.items.thread && all.items.preview && all.sets_seen);
    assert_eq!(all.items.structure, Some(StructureForm::Basic));
    let [one, two] = all.items.sections.as_slice() else { panic!("{all:?}") };
    assert_eq!((one.part.as_slice(), one.partial, one.decoded), (&[2][..], Some((3, 4)), false));
    assert_eq!(one.what, SectionWhat::Fields { names: vec!["a".into(), "b".into()], not: true });
    assert_eq!((two.part.as_slice(), two.decoded, two.size_only), (&[5, 6][..], true, true));
    assert_eq!(all.attributes[3], FetchAttribute::Section { label: "BINARY.SIZE[5.6]".into(), index: 1 });
    for (text, seen) in [
        ("BODY[1]", true),
        ("BODY.PEEK[1]", false),
        ("BINARY[1]", true),
        ("BINARY.PEEK[1]", false),
        ("BINARY.SIZE[1]", false),
        ("RFC822", true),
        ("RFC822.TEXT", true),
        ("RFC822.HEADER", false),
        ("(BODY.PEEK[1] BODY[1])", true),
        ("BODY", false),
    ] {
        assert_eq!(fetch(&format!("FETCH 1 {text}")).sets_seen, seen, "{text}");
    }
    let changed = fetch("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)");
    assert_eq!((changed.changed_since, changed.vanished), (Some(12_345), true));
}

#[track_caller]
fn search(text: &str) -> SearchCommand {
    match command(text) {
        Command::Search(search) => search,
        other => panic!("{other:?}"),
    }
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

fn header(name: &str, contains: &str) -> SearchKey {
    SearchKey::Header { name: name.into(), contains: contains.into() }
}

#[test]
fn search_keys() {
    let day = Day(20_780);
    for (text, expected) in [
        ("ALL", SearchKey::All),
        ("SEEN", SearchKey::Flag(Flags::SEEN)),
        ("undeleted", not(SearchKey::Flag(Flags::DELETED))),
        ("NEW", SearchKey::And(vec![SearchKey::RecentFrom(0), not(SearchKey::Flag(Flags::SEEN))])),
        ("OLD", not(SearchKey::RecentFrom(0))),
        ("FROM ann", header("from", "ann")),
        ("SUBJECT \"\"", header("subject", "")),
        ("HEADER X-Spam \"yes no\"", header("X-Spam", "yes no")),
        ("BODY {2}\r\né", SearchKey::Body("é".into())),
        ("TEXT \"é\"", SearchKey::Text("é".into())),
        ("CHARSET iso-8859-1 TEXT {1}\r\nX", SearchKey::Text("X".into())),
        ("KEYWORD $Junk", SearchKey::Keyword("$Junk".into())),
        ("UNKEYWORD x", not(SearchKey::Keyword("x".into()))),
        ("BEFORE 23-Nov-2026", SearchKey::Internal(When::Before, day)),
        ("SENTON \"23-nov-2026\"", SearchKey::Sent(When::On, day)),
        ("SAVEDSINCE 23-Nov-2026", SearchKey::Saved(When::Since, day)),
        ("SAVEDATESUPPORTED", SearchKey::All),
        ("YOUNGER 60 OLDER 5", SearchKey::And(vec![SearchKey::Younger(60), SearchKey::Older(5)])),
        (
            "LARGER 1 SMALLER 99999999999",
            SearchKey::And(vec![SearchKey::Larger(1), SearchKey::Smaller(99_999_999_999)]),
        ),
        (
            "NOT OR SEEN (ALL DRAFT)",
            not(SearchKey::Or(
                Box::new(SearchKey::Flag(Flags::SEEN)),
                Box::new(SearchKey::And(vec![SearchKey::All, SearchKey::Flag(Flags::DRAFT)])),
            )),
        ),
        ("MODSEQ 620162338", SearchKey::ModSeq(620_162_338)),
        ("MODSEQ \"/flags/\\\\draft\" all 5", SearchKey::ModSeq(5)),
        ("EMAILID M77", SearchKey::Email(crate::base::mailbox::ContentId(77))),
        ("THREADID T5", SearchKey::Thread(5)),
        ("EMAILID nobody", not(SearchKey::All)),
    ] {
        assert_eq!(search(&format!("SEARCH {text}")).key, expected, "{text}");
    }
    let latin = parse(b"a SEARCH CHARSET ISO-8859-1 SUBJECT {1}\r\n\xfc", REV1).unwrap().command;
    assert!(matches!(latin, Command::Search(s) if s.key == header("subject", "ü")));
}

#[test]
fn sets_in_searches_have_their_places() {
    let search = search("UID SEARCH 1:3 NOT (UID 7 OR $ UID 9,11) MODSEQ 1");
    assert!(search.uid && search.mod_seq);
    assert_eq!(
        search.sets,
        [
            (SequenceSet::Ranges(vec![numbers(1, 3)]), false),
            (one(7), true),
            (SequenceSet::Saved, false),
            (SequenceSet::Ranges(vec![numbers(9, 9), numbers(11, 11)]), true),
        ]
    );
    let place = |n| SearchKey::Uids(UidSet::range(n, n));
    let or = SearchKey::Or(Box::new(place(3)), Box::new(place(4)));
    assert_eq!(
        search.key,
        SearchKey::And(vec![place(1), not(SearchKey::And(vec![place(2), or])), SearchKey::ModSeq(1)])
    );
}

#[test]
fn results_of_searches() {
    let returns = |text: &str| search(text).returns.map(|r| (r.min, r.max, r.all, r.count, r.save, r.partial));
    assert_eq!(returns("SEARCH ALL"), None);
    assert_eq!(returns("SEARCH RETURN () ALL"), Some((false, false, false, false, false, None)));
    assert_eq!(returns("SEARCH RETURN (MIN MAX ALL COUNT SAVE) ALL"), Some((true, true, true, true, true, None)));
    assert_eq!(returns("SEARCH RETURN (PARTIAL 23500:24000) ALL").unwrap().5, Some((23_500, 24_000)));
    assert_eq!(returns("UID SEARCH RETURN (COUNT PARTIAL -1:-100) ALL").unwrap().5, Some((-1, -100)));
    let sorted = search("SORT (SUBJECT REVERSE DATE) UTF-8 ALL");
    let sort: Vec<_> = sorted.sort.unwrap().iter().map(|k| (k.by, k.reverse)).collect();
    assert_eq!(sort, [(SortBy::Subject, false), (SortBy::Date, true)]);
    let esort = search("UID SORT RETURN (COUNT) (ARRIVAL CC FROM SIZE TO) US-ASCII UNSEEN");
    assert_eq!((esort.uid, esort.sort.unwrap().len(), esort.returns.unwrap().count), (true, 5, true));
    assert_eq!(search("THREAD REFERENCES utf-8 ALL").thread, Some(ThreadBy::References));
    assert_eq!(search("UID THREAD orderedsubject UTF-8 1").thread, Some(ThreadBy::OrderedSubject));
}
