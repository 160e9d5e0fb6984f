//! A milter that behaves: what it is told, and what is made of its answers.

use crate::fake::{MESSAGE, advice, body, body_in, case, consult, decided, helpers, runtime, unknown};
use crate::filter::{Answers, all, filter, go_on, serve};
use crate::support::wait_for;
use gatepost::base::inquiry::{Action, Advice, Edit, Finding};
use gatepost::base::knob::Octets;
use gatepost::lookup::helpers::{HelperKind, OnOversize};
use gatepost::wire::address::parse_mailbox;
use gatepost::wire::milter::{Actions, Command, DATA_OCTETS_MAX, Negotiation, Response, Stage, Steps};
use std::time::Duration;

fn accepts(command: &Command<'_>) -> Answers {
    go_on(command, Steps::SKIP)
}

/// Answers `end` at the end of the message.
fn at_the_end(end: Answers) -> impl Fn(&Command<'_>) -> Answers + Send + Sync {
    move |command| match command {
        Command::EndOfMessage(_) => end.clone(),
        other => accepts(other),
    }
}

/// What a filter advises that says this at the end of the message.
fn advised(end: Answers) -> Finding {
    let fake = filter(all(), at_the_end(end));
    consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE))
}

#[test]
fn the_whole_session_is_told_in_order() {
    for unix in [false, true] {
        let script = |line: &mut dyn crate::fake::Line, _: usize, notes: &crate::fake::Notes| {
            serve(line, notes, &all(), &accepts);
        };
        let fake = if unix { crate::fake::Fake::start_unix(script) } else { crate::fake::Fake::start(script) };
        let helpers = helpers(fake.knobs(HelperKind::Milter));
        assert_eq!(advice(consult(&helpers, &case(MESSAGE))), Advice::default());
        wait_for("the end of the session", || fake.heard().last().filter(|l| *l == "quit_nc").map(|_| ()));
        let id = "0000000000007.1";
        assert_eq!(
            fake.heard(),
            [
                "negotiate 6 0x1ff 0x1ff7ff".to_owned(),
                format!(
                    "macros Connect j=mx.example.test _=mail.example.org [192.0.2.1] {{daemon_name}}=mx \
                     {{daemon_addr}}=198.51.100.2 {{daemon_port}}=25 {{if_name}}=mx.example.test \
                     {{if_addr}}=198.51.100.2 v=Gatepost {} {{client_name}}=mail.example.org \
                     {{client_addr}}=192.0.2.1 {{client_port}}=2525",
                    env!("CARGO_PKG_VERSION")
                ),
                "connect mail.example.org Internet(192.0.2.1:2525)".into(),
                "macros Helo {tls_version}=TLSv1.3 {cipher}=TLS_AES_256_GCM_SHA384 s=helo.example.org".into(),
                "helo helo.example.org".into(),
                format!(
                    "macros Mail i={id} {{mail_mailer}}=esmtp {{mail_host}}=example.org \
                     {{mail_addr}}=ann@example.org r=ESMTP"
                ),
                "mail <ann@example.org>".into(),
                "macros Recipient {rcpt_mailer}=esmtp {rcpt_host}=example.test {rcpt_addr}=bob@example.test {nrcpts}=2".into(),
                "rcpt <bob@example.test>".into(),
                "macros Recipient {rcpt_mailer}=esmtp {rcpt_host}=example.test {rcpt_addr}=carl@example.test {nrcpts}=2".into(),
                "rcpt <carl@example.test>".into(),
                format!("macros Data i={id}"),
                "data".into(),
                "header From:Ann <ann@example.org>".into(),
                "header To:bob@example.test".into(),
                "header Subject:a long\n subject".into(),
                "header Message-ID:<1@example.org>".into(),
                format!("macros EndOfHeaders i={id}"),
                "eoh".into(),
                "body 16 Hello,\r\n\r\nbye.\r\n".into(),
                format!("macros EndOfMessage i={id} {{msg_id}}=<1@example.org> {{msg_size}}={} {{nrcpts}}=2", MESSAGE.len()),
                "eom 0".into(),
                "quit_nc".into(),
            ]
        );
    }
}

#[test]
fn somebody_without_name_and_login() {
    let fake = filter(all(), accepts);
    let mut case = case(MESSAGE);
    (case.client_name, case.sender, case.tls) = (None, None, None);
    case.user = Some("ann".into());
    case.client = "[::ffff:192.0.2.9]:99".parse().unwrap();
    consult(&helpers(fake.knobs(HelperKind::Milter)), &case);
    let heard = fake.heard();
    assert!(heard[1].contains("_=[192.0.2.9] ") && heard[1].contains("{client_name}=[192.0.2.9] "), "{}", heard[1]);
    assert_eq!(heard[2], "connect [192.0.2.9] Internet(192.0.2.9:99)");
    assert_eq!(heard[3], "macros Helo s=helo.example.org");
    assert!(heard[5].contains("{auth_authen}=ann {auth_author}=ann") && heard[5].contains("{mail_addr}= "));
    assert_eq!(heard[6], "mail <>");
}

#[test]
fn steps_that_are_not_wanted_are_left_out_and_quiet_ones_not_waited_for() {
    let quiet = Steps(0xf_f080); // every QUIET flag
    let fake = filter(Negotiation { steps: quiet | Steps::SKIP, ..all() }, move |c| go_on(c, quiet));
    assert_eq!(advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE))), Advice::default());
    let told = || fake.heard().iter().filter(|l| !l.starts_with("macros")).count();
    wait_for("fourteen commands and the end", || (told() == 15).then_some(()));

    let none = Steps(0x37f); // every NO flag
    let symbols = [0, 1, 2, 3, 4, 5, 6].map(|n| (gatepost::wire::milter::STAGES[n], b""[..].into())).to_vec();
    let fake = filter(Negotiation { steps: none, symbols, ..all() }, accepts);
    assert_eq!(advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE))), Advice::default());
    wait_for("the end", || (fake.heard().len() == 3).then_some(()));
    assert_eq!(fake.heard()[1..], ["eom 0", "quit_nc"]);
}

#[test]
fn a_filter_says_which_macros_it_wants() {
    let symbols = vec![
        (Stage::Connect, b"j {if_addr} {nobody_knows}"[..].into()),
        (Stage::Mail, b"{auth_type}"[..].into()),
        (Stage::EndOfMessage, b"i,{client_addr}"[..].into()),
    ];
    let fake = filter(Negotiation { symbols, ..all() }, accepts);
    consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE));
    let heard = fake.heard();
    assert_eq!(heard[1], "macros Connect j=mx.example.test {if_addr}=198.51.100.2");
    assert!(!heard.iter().any(|l| l.starts_with("macros Mail")));
    assert!(heard.contains(&"macros EndOfMessage i=0000000000007.1 {client_addr}=192.0.2.1".into()));
}

#[test]
fn the_space_behind_the_colon_stays_where_that_is_agreed() {
    let fake = filter(Negotiation { steps: Steps::LEADING_SPACE, ..all() }, |command| match command {
        Command::EndOfMessage(_) => {
            vec![Response::AddHeader { name: b"A".into(), value: b" b".into() }, Response::Continue]
        }
        other => accepts(other),
    });
    let advice = advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE)));
    assert_eq!(advice.edits, [Edit::AddField { name: "A".into(), value: "b".into() }]);
    assert!(fake.heard().contains(&"header To: bob@example.test".into()));
}

#[test]
fn old_filters_hear_nothing_of_data_and_are_not_kept() {
    let fake =
        filter(Negotiation { version: 2, actions: Actions(0x3f), steps: Steps(0), symbols: Vec::new() }, accepts);
    let helpers = helpers(fake.knobs(HelperKind::Milter));
    for _ in 0..2 {
        assert_eq!(advice(consult(&helpers, &case(MESSAGE))), Advice::default());
    }
    assert!(!fake.heard().contains(&"data".into()));
    assert_eq!(fake.connections(), 2);
}

#[test]
fn words_that_decide() {
    let reply = |text: &'static str| Response::Reply(text.as_bytes().into());
    for (word, action, said) in [
        (Response::Continue, Action::Accept, None),
        (Response::Accept, Action::Accept, None),
        (Response::Reject, Action::Reject, None),
        (Response::TempFail, Action::Defer, None),
        (Response::Discard, Action::Discard, None),
        (Response::Shutdown, Action::Defer, Some("421 4.7.0 closing connection")),
        (reply("554 5.7.1 virus"), Action::Reject, Some("554 5.7.1 virus")),
        (reply("451 4.7.1 later"), Action::Defer, Some("451 4.7.1 later")),
        (reply("550-5.7.1 one\r\n550 5.7.1 two"), Action::Reject, Some("550 5.7.1 one\ntwo")),
    ] {
        assert_eq!(decided(advised(vec![word.clone()])), (action, said.map(Into::into)), "{word:?} at the end");
        // At every step before: the same, and what follows is not told.
        type At = fn(&Command<'_>) -> bool;
        let steps: [(&str, At); 7] = [
            ("connect", |c| matches!(c, Command::Connect { .. })),
            ("helo", |c| matches!(c, Command::Helo(_))),
            ("mail", |c| matches!(c, Command::Mail(_))),
            ("data", |c| matches!(c, Command::Data)),
            ("header", |c| matches!(c, Command::Header { .. })),
            ("eoh", |c| matches!(c, Command::EndOfHeaders)),
            ("body", |c| matches!(c, Command::Body(_))),
        ];
        for (name, at) in steps {
            let word = word.clone();
            let goes_on = word == Response::Continue;
            let fake = filter(all(), move |c| if at(c) { vec![Response::Progress, word.clone()] } else { accepts(c) });
            let finding = consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE));
            assert_eq!(decided(finding), (action, said.map(Into::into)), "at {name}");
            let last = wait_for("the end", || fake.heard().last().filter(|l| l.starts_with("quit")).cloned());
            assert_eq!(last == "quit_nc", goes_on, "at {name}");
            assert_eq!(fake.heard().contains(&"eom 0".into()), goes_on, "at {name}");
        }
    }
}

#[test]
fn every_change_becomes_an_edit() {
    let bob = || parse_mailbox("bob@example.test").unwrap();
    let t = |text: &'static str| text.as_bytes().into();
    let advice = advice(advised(vec![
        Response::AddHeader { name: t("X-One"), value: t("a\n\tb") },
        Response::InsertHeader { index: 1, name: t("X-Top"), value: t("c") },
        Response::InsertHeader { index: 4, name: t("X-Fourth"), value: t("d") },
        Response::ChangeHeader { index: 1, name: t("Subject"), value: t("new") },
        Response::ChangeHeader { index: 2, name: t("Received"), value: t("") },
        Response::Progress,
        Response::AddRecipient(t("<dan@example.test>")),
        Response::AddRecipientParameters { path: t("postmaster"), parameters: Some(t("NOTIFY=NEVER")) },
        Response::DeleteRecipient(t("<bob@example.test>")),
        Response::ChangeSender { path: t("<>"), parameters: None },
        Response::ChangeSender { path: t("<eve@example.org>"), parameters: Some(t("BODY=8BITMIME")) },
        Response::ReplaceBody(b"another "[..].into()),
        Response::ReplaceBody(b"body\r\n"[..].into()),
        Response::Continue,
    ]));
    let mail = |text: &str| parse_mailbox(text).unwrap();
    assert_eq!(
        advice.edits,
        [
            Edit::AddField { name: "X-One".into(), value: "a\r\n\tb".into() },
            Edit::InsertField { at: 0, name: "X-Top".into(), value: "c".into() },
            Edit::InsertField { at: 3, name: "X-Fourth".into(), value: "d".into() },
            Edit::ChangeField { occurrence: 1, name: "Subject".into(), value: Some("new".into()) },
            Edit::ChangeField { occurrence: 2, name: "Received".into(), value: None },
            Edit::AddRecipient(mail("dan@example.test")),
            Edit::AddRecipient(mail("postmaster@mx.example.test")),
            Edit::RemoveRecipient(bob()),
            Edit::ChangeSender(None),
            Edit::ChangeSender(Some(mail("eve@example.org"))),
            Edit::ReplaceBody(std::sync::Arc::new(b"another body\r\n".to_vec())),
        ]
    );
    assert_eq!(advice.action, Action::Accept);
}

#[test]
fn quarantine_keeps_the_other_changes_and_refusals_drop_them() {
    let add = || Response::AddHeader { name: b"A".into(), value: b"b".into() };
    let kept = advice(advised(vec![add(), Response::Quarantine(b"looks odd".into()), Response::Accept]));
    assert_eq!(
        (kept.action, kept.edits.len(), kept.symbols),
        (Action::Quarantine, 1, vec!["quarantine: looks odd".into()])
    );
    assert_eq!(decided(advised(vec![add(), Response::Reject])), (Action::Reject, None));
}

#[test]
fn changes_that_make_no_sense() {
    let t = |text: &'static str| text.as_bytes().into();
    for broken in [
        Response::AddHeader { name: t("a b"), value: t("c") },
        Response::AddRecipient(t("<a b@example.test>")),
        Response::ChangeSender { path: t("<@>"), parameters: None },
        Response::Negotiated(all()),
        Response::Reply(t("250 fine")),
    ] {
        let why = unknown(advised(vec![broken.clone(), Response::Continue]));
        assert!(why.starts_with("helper h: not understood: "), "{broken:?}: {why}");
    }
    let flood = vec![Response::AddHeader { name: t("A"), value: t("b") }; 1001];
    assert!(unknown(advised(flood)).contains("more than 1000 changes"));
    let huge = vec![Response::ReplaceBody(vec![b'x'; 65_535].into()); 40];
    let fake = filter(all(), at_the_end(huge));
    let mut knobs = fake.knobs(HelperKind::Milter);
    knobs.message_octets_max = Octets::mib(1);
    assert!(unknown(consult(&helpers(knobs), &case(MESSAGE))).contains("another body of more than"));
}

/// What is advised when these recipients are answered so.
fn recipients(bob: Response<'static>, carl: Response<'static>) -> (Finding, Vec<String>) {
    let fake = filter(all(), move |command| match command {
        Command::Recipient(path) if path[0].starts_with(b"<bob") => vec![bob.clone()],
        Command::Recipient(_) => vec![carl.clone()],
        other => accepts(other),
    });
    let finding = consult(&helpers(fake.knobs(HelperKind::Milter)), &case(MESSAGE));
    wait_for("the end", || fake.heard().last().filter(|l| l.starts_with("quit")).cloned());
    (finding, fake.heard())
}

#[test]
fn recipients_are_refused_alone() {
    let no = |text: &'static str| Response::Reply(text.as_bytes().into());
    let (one, heard) = recipients(no("550 5.1.1 no"), Response::Continue);
    let bob = parse_mailbox("bob@example.test").unwrap();
    assert_eq!(advice(one), Advice { edits: vec![Edit::RemoveRecipient(bob)], ..Advice::default() });
    assert!(heard.contains(&"eom 0".into()));

    let (both, heard) = recipients(no("550 5.1.1 no"), Response::Reject);
    assert_eq!(decided(both), (Action::Reject, Some("550 5.1.1 no".into())));
    assert!(!heard.contains(&"data".into()) && heard.ends_with(&["abort".into(), "quit".into()]));

    // One that is to come back later: nobody is dropped for good.
    let (later, heard) = recipients(Response::Reject, no("451 4.2.1 later"));
    assert_eq!(decided(later), (Action::Defer, Some("451 4.2.1 later".into())));
    assert!(heard.ends_with(&["abort".into(), "quit".into()]));

    assert_eq!(decided(recipients(Response::Discard, Response::Continue).0), (Action::Discard, None));
    assert_eq!(decided(recipients(Response::Accept, Response::Continue).0), (Action::Accept, None));
}

#[test]
fn asked_before_the_message_is_there() {
    let fake = filter(all(), |command| match command {
        Command::Recipient(_) => vec![Response::Reject],
        other => accepts(other),
    });
    let helpers = helpers(fake.knobs(HelperKind::Milter));
    let mut early = case(MESSAGE);
    early.body = None;
    assert_eq!(decided(consult(&helpers, &early)), (Action::Reject, None));
    early.recipients.clear();
    assert_eq!(decided(consult(&helpers, &early)), (Action::Accept, None));
    early.transaction = 0;
    assert_eq!(decided(consult(&helpers, &early)), (Action::Accept, None));
    wait_for("three ends", || (fake.heard().iter().filter(|l| l.starts_with("quit")).count() == 3).then_some(()));
    assert_eq!(fake.heard().iter().filter(|l| l.starts_with("mail ")).count(), 2);
    assert!(!fake.heard().contains(&"data".into()));
}

#[test]
fn bodies_go_in_pieces_from_memory_and_from_files() {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    let text: Vec<u8> = (0..200_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    message.extend_from_slice(&text);
    let dir = tempfile::tempdir().unwrap();
    for body in [body(&message), body_in(dir.path(), &message)] {
        let fake = filter(all(), accepts);
        let mut case = case("");
        case.body = Some(body);
        assert_eq!(advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case)), Advice::default());
        let pieces: Vec<String> =
            fake.heard().into_iter().filter_map(|l| l.strip_prefix("body ").map(str::to_owned)).collect();
        let mut whole = String::new();
        for piece in &pieces {
            let (n, octets) = piece.split_once(' ').unwrap();
            assert!(n.parse::<usize>().unwrap() <= DATA_OCTETS_MAX);
            whole.push_str(octets);
        }
        assert_eq!((pieces.len(), whole.as_bytes() == text), (4, true));
    }
}

#[test]
fn enough_of_the_body_is_enough() {
    let message = format!("A: b\r\n\r\n{}", "x".repeat(300_000));
    let fake = filter(all(), |command| match command {
        Command::Body(_) => vec![Response::Skip],
        other => accepts(other),
    });
    assert_eq!(advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case(&message))), Advice::default());
    assert_eq!(fake.heard().iter().filter(|l| l.starts_with("body ")).count(), 1);
}

#[test]
fn a_field_longer_than_a_frame_is_cut() {
    let message = format!("Long: {}\r\n\r\nbody\r\n", "x".repeat(100_000));
    let fake = filter(all(), accepts);
    assert_eq!(advice(consult(&helpers(fake.knobs(HelperKind::Milter)), &case(&message))), Advice::default());
    let told = fake.heard().into_iter().find(|l| l.starts_with("header ")).unwrap();
    assert_eq!(told.len(), "header :".len() + DATA_OCTETS_MAX - 2);
}

#[test]
fn connections_serve_one_message_after_the_other() {
    let fake = filter(all(), accepts);
    let helpers = helpers(fake.knobs(HelperKind::Milter));
    let runtime = runtime();
    for _ in 0..5 {
        advice(runtime.block_on(helpers.consult("h", &case(MESSAGE))));
    }
    assert_eq!(fake.connections(), 1);
    assert_eq!(fake.heard().iter().filter(|l| l.starts_with("negotiate")).count(), 1, "libmilter would ignore another");
    let (_, counters) = helpers.counters().next().unwrap();
    assert_eq!((counters.asked, counters.answered, counters.connections, counters.waiting), (5, 5, 1, 0));

    // A filter that decides is left, since libmilter then takes no new session.
    let fake = filter(all(), at_the_end(vec![Response::Accept]));
    let helpers = crate::fake::helpers(fake.knobs(HelperKind::Milter));
    for _ in 0..3 {
        advice(runtime.block_on(helpers.consult("h", &case(MESSAGE))));
    }
    assert_eq!(fake.connections(), 3);
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    // Every connection serves one session, and closes behind it.
    let fake = crate::fake::Fake::start(|line, _, notes| {
        let ended = std::sync::atomic::AtomicBool::new(false);
        struct Once<'a>(&'a mut dyn crate::fake::Line, &'a std::sync::atomic::AtomicBool);
        impl std::io::Read for Once<'_> {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                if self.1.load(std::sync::atomic::Ordering::SeqCst) { Ok(0) } else { self.0.read(buf) }
            }
        }
        impl std::io::Write for Once<'_> {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.0.write(buf)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                self.0.flush()
            }
        }
        serve(&mut Once(line, &ended), notes, &all(), &|command| {
            if matches!(command, Command::QuitNewConnection) {
                ended.store(true, std::sync::atomic::Ordering::SeqCst);
            }
            accepts(command)
        });
    });
    let helpers = helpers(fake.knobs(HelperKind::Milter));
    let runtime = runtime();
    for n in 1..=3 {
        advice(runtime.block_on(helpers.consult("h", &case(MESSAGE))));
        assert_eq!(fake.connections(), n);
    }
    assert_eq!(helpers.counters().next().unwrap().1.failed, 0);
}

#[test]
fn progress_gives_time() {
    let fake = filter(all(), |command| match command {
        Command::EndOfMessage(_) => {
            std::thread::sleep(Duration::from_millis(300));
            vec![Response::Progress]
        }
        Command::Abort | Command::Quit => Vec::new(),
        other => accepts(other),
    });
    let mut knobs = fake.knobs(HelperKind::Milter);
    (knobs.answer_timeout, knobs.timeout) = (Duration::from_secs(1), Duration::from_secs(4));
    let started = std::time::Instant::now();
    // Without a decision after it, progress ends with one answer's time.
    let why = unknown(consult(&helpers(knobs), &case(MESSAGE)));
    assert!(why.contains("no answer to the end of the message within 1s"), "{why}");
    assert!(started.elapsed() >= Duration::from_millis(1300), "{:?}", started.elapsed());
}

#[test]
fn listeners_and_sizes_that_are_not_asked_about() {
    let fake = filter(all(), |_| vec![Response::Reject]);
    let mut knobs = fake.knobs(HelperKind::Milter);
    knobs.listeners = vec!["submission".into()];
    assert!(unknown(consult(&helpers(knobs.clone()), &case(MESSAGE))).contains("not asked about listener mx"));
    knobs.listeners.clear();
    knobs.message_octets_max = Octets(100);
    assert!(unknown(consult(&helpers(knobs.clone()), &case(MESSAGE))).contains("helper.h.message_octets_max is 100"));
    knobs.on_oversize = OnOversize::Reject;
    let refused = advice(consult(&helpers(knobs.clone()), &case(MESSAGE)));
    assert_eq!(refused.reply.as_deref(), Some("552 5.3.4 message is too large to be checked, 100 octets at most"));
    knobs.on_oversize = OnOversize::Accept;
    let helpers = helpers(knobs);
    assert_eq!(advice(consult(&helpers, &case(MESSAGE))).action, Action::Accept);
    assert_eq!((fake.connections(), helpers.counters().next().unwrap().1.oversize), (0, 1));
}
