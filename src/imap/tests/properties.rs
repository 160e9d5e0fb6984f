//! Whatever clients send and whatever the store answers: no panic, an answer to every command, bounded memory, and
//! sequence numbers that mean the same on both sides.

use super::harness::World;
use crate::base::mailbox::FlagNames;
use crate::base::mailbox::ask::{Query, StoreAsk, StoreError};
use crate::imap::{Answer, Ask, Session};
use crate::sasl::server::SaslAnswer;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "a LOGIN ann secret\r\n",
        "a LOGIN ann wrong\r\n",
        "a AUTHENTICATE PLAIN\r\n",
        "AGFubgBzZWNyZXQ=\r\n",
        "*\r\n",
        "a SELECT INBOX\r\n",
        "a SELECT INBOX (QRESYNC (1001 1))\r\n",
        "a EXAMINE Sent\r\n",
        "a ENABLE QRESYNC\r\n",
        "a ENABLE IMAP4rev2 UTF8=ACCEPT\r\n",
        "a LIST (SUBSCRIBED) \"\" * RETURN (STATUS (MESSAGES))\r\n",
        "a LSUB \"\" %\r\n",
        "a STATUS INBOX (MESSAGES HIGHESTMODSEQ)\r\n",
        "a FETCH 1:* (FLAGS BODY[] ENVELOPE)\r\n",
        "a UID FETCH 1:* (UID FLAGS BODYSTRUCTURE PREVIEW) (CHANGEDSINCE 2 VANISHED)\r\n",
        "a FETCH 1 BINARY[1]\r\n",
        "a STORE 1:* +FLAGS (\\Deleted $k)\r\n",
        "a UID STORE 1:* (UNCHANGEDSINCE 3) -FLAGS.SILENT (\\Seen)\r\n",
        "a EXPUNGE\r\n",
        "a UID EXPUNGE 1:3\r\n",
        "a SEARCH RETURN (SAVE COUNT) UNSEEN\r\n",
        "a UID SORT (SUBJECT) UTF-8 NEW\r\n",
        "a THREAD REFERENCES UTF-8 ALL\r\n",
        "a COPY 1:* Sent\r\n",
        "a UID MOVE $ INBOX\r\n",
        "a APPEND INBOX {5+}\r\nhello\r\n",
        "a APPEND INBOX {5}\r\n",
        "hello",
        "a APPEND INBOX (\\Seen) {9000+}\r\n",
        "a REPLACE 1 INBOX {3+}\r\nabc\r\n",
        "a CREATE x/y\r\n",
        "a DELETE INBOX\r\n",
        "a DELETE x/y\r\n",
        "a RENAME INBOX z\r\n",
        "a GETQUOTAROOT INBOX\r\n",
        "a IDLE\r\n",
        "DONE\r\n",
        "a CLOSE\r\n",
        "a UNSELECT\r\n",
        "a STARTTLS\r\n",
        "a COMPRESS DEFLATE\r\n",
        "a ID NIL\r\n",
        "a NOOP\r\n",
        "\r\n",
        "{",
        "\0",
    ];
    prop_oneof![
        12 => proptest::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..40_000).prop_map(|n| vec![b'x'; n]),
    ]
}

/// An answer that fits the ask, when it is not the model's.
fn moody(ask: &Ask, mood: u8) -> Option<Answer> {
    let error = match mood / 16 {
        0..=3 => StoreError::Busy,
        4..=7 => StoreError::Failed,
        8..=11 => StoreError::Gone,
        _ => StoreError::OverQuota,
    };
    match (ask, mood % 16) {
        (Ask::Sasl(_), 0) => Some(Answer::Sasl(SaslAnswer::Unavailable)),
        (Ask::Authenticated { .. }, 0) => Some(Answer::Refuse("no".into())),
        (Ask::Spill { .. }, 0) => Some(Answer::Spilled(Err(error))),
        (Ask::SpillEnd { .. }, 0) => Some(Answer::Spilt(Err(error))),
        (Ask::Store(_), 0 | 1) => Some(Answer::Store(Err(error))),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_input_any_answers(
        pieces in proptest::collection::vec(piece(), 0..60),
        moods in proptest::collection::vec(any::<u8>(), 1..50),
        login: bool,
    ) {
        let words = format!(
            "{} mail=3 starttls errors_max=1000 login_commands_max=1000 body_memory_octets_max=8KiB inline=60 rows=2",
            if login { "select" } else { "" }
        );
        let mut world = World::new(&words);
        let mut asked = 0;
        let mut answers = |ask: &Ask| {
            asked += 1;
            moody(ask, moods[asked % moods.len()])
        };
        for piece in &pieces {
            world.receive(0, piece, &mut answers);
            world.deliver("INBOX", b"Subject: x\r\n\r\ny\r\n", &mut answers);
            let held = world.ends[0].session.memory_octets();
            assert!(held <= 128 * 1024, "{held} octets held");
            world.finish_tls(0);
        }
        world.ends[0].session.handle_eof(world.now);
        world.pump(0, &mut answers);
        assert!(world.ends[0].closed);
    }

    /// Every tag gets one answer, whatever the store says.
    #[test]
    fn every_command_is_answered_once(
        commands in proptest::collection::vec(0usize..12, 1..30),
        moods in proptest::collection::vec(any::<u8>(), 1..30),
    ) {
        const COMMANDS: [&str; 12] = [
            "SELECT INBOX",
            "EXAMINE Sent",
            "FETCH 1:* (FLAGS ENVELOPE)",
            "UID FETCH 1:* BODY.PEEK[HEADER]",
            "STORE 1:* +FLAGS (\\Deleted)",
            "EXPUNGE",
            "SEARCH ALL",
            "LIST \"\" * RETURN (STATUS (UNSEEN))",
            "COPY 1:* Sent",
            "UID MOVE 1:* Drafts",
            "NOSUCH",
            "CLOSE",
        ];
        let mut world = World::new("login mail=3 errors_max=1000");
        let mut asked = 0;
        let mut answers = |ask: &Ask| {
            asked += 1;
            // In the middle of a literal nothing can be said.
            let read = matches!(ask, Ask::Store(StoreAsk::Query(_, Query::Read { .. })));
            if read { None } else { moody(ask, moods[asked % moods.len()]) }
        };
        for (i, command) in commands.iter().enumerate() {
            let line = format!("t{i} {}\r\n", COMMANDS[*command]);
            world.receive(0, line.as_bytes(), &mut answers);
        }
        let said = String::from_utf8(std::mem::take(&mut world.ends[0].said)).unwrap();
        let answered: Vec<&str> = said.lines().filter(|l| l.starts_with('t')).map(|l| l.split(' ').next().unwrap()).collect();
        let tags: Vec<String> = (0..commands.len()).map(|i| format!("t{i}")).collect();
        prop_assert_eq!(answered, tags);
    }

    /// A client that believes every EXISTS, EXPUNGE and VANISHED knows which message stands at which number.
    #[test]
    fn numbers_mean_the_same_on_both_sides(
        actions in proptest::collection::vec((0usize..2, 0usize..15, 1u32..6), 1..60),
        qresync: bool,
    ) {
        let mut world = World::new("login mail=4 two rows=2");
        let mut mirrors = [Mirror::default(), Mirror::default()];
        for at in 0..2 {
            let enable = if qresync && at == 0 { "e ENABLE QRESYNC\r\n" } else { "" };
            let line = format!("{enable}s SELECT INBOX\r\nf UID FETCH 1:* (UID FLAGS)\r\n");
            world.receive(at, line.as_bytes(), &mut |_| None);
        }
        for (i, (at, action, n)) in actions.into_iter().enumerate() {
            let command = match action {
                0 => format!("STORE {n} +FLAGS (\\Deleted)"),
                1 => format!("UID STORE {n}:{} +FLAGS (\\Deleted)", n + 3),
                2 => "EXPUNGE".into(),
                3 => format!("UID EXPUNGE {}:*", n * 2),
                4 => "NOOP".into(),
                5 => format!("FETCH {n} (UID FLAGS)"),
                6 => "UID FETCH 1:* (UID)".into(),
                7 => "APPEND INBOX {5+}\r\nhello".into(),
                8 => format!("COPY {n} INBOX"),
                9 => format!("MOVE {n} Sent"),
                10 => "SEARCH NOT DELETED".into(),
                11 => "STATUS INBOX (MESSAGES)".into(),
                12 => "IDLE\r\nDONE".into(),
                13 => format!("FETCH {n} BODY[]"),
                _ => format!("UID MOVE {n} INBOX"),
            };
            world.receive(at, format!("t{i} {command}\r\n").as_bytes(), &mut |_| None);
            if action == 10 {
                world.deliver("INBOX", b"Subject: x\r\n\r\ny\r\n", &mut |_| None);
            }
        }
        let uids: Vec<Option<u32>> = world.model.boxes[0].messages.keys().map(|u| Some(*u)).collect();
        for (at, mirror) in mirrors.iter_mut().enumerate() {
            world.receive(at, b"n NOOP\r\nf FETCH 1:* (UID)\r\n", &mut |_| None);
            let said = String::from_utf8(std::mem::take(&mut world.ends[at].said)).unwrap();
            said.lines().for_each(|line| mirror.hear(line));
            prop_assert_eq!(&mirror.messages, &uids, "{}", said);
            for (uid, flags) in &mirror.flags {
                let message = world.model.boxes[0].messages.get(uid);
                let now = message.map(|m| FlagNames::of(m.flags, &[]).to_string());
                prop_assert!(now.is_none_or(|now| now == *flags), "flags of {}: {}\n{}", uid, flags, said);
            }
        }
    }
}

/// What a client believes.
#[derive(Default)]
struct Mirror {
    messages: Vec<Option<u32>>,
    /// By UID, where both are known.
    flags: BTreeMap<u32, String>,
    /// The number of the last FETCH; 0 before the first.
    fetched: usize,
}

impl Mirror {
    fn hear(&mut self, line: &str) {
        self.hear_numbers(line);
        if line.contains(" FLAGS (") && line.starts_with("* OK") || line.starts_with("* FLAGS") {
            return;
        }
        if let ["*", n, "FETCH", ..] = line.split(' ').collect::<Vec<_>>()[..] {
            self.fetched = n.parse().unwrap();
        }
        // Behind a literal they stand on a line of their own.
        if let Some((_, flags)) =
            line.split_once("FLAGS (").filter(|(before, _)| before.is_empty() || before.ends_with([' ', '(']))
        {
            let flags = flags.split(')').next().unwrap().replace("\\Recent", "").trim().to_owned();
            if let Some(uid) = self.fetched.checked_sub(1).and_then(|n| self.messages[n]) {
                self.flags.insert(uid, flags);
            }
        }
    }

    fn hear_numbers(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["*", n, "EXISTS"] => {
                let n: usize = n.parse().unwrap();
                assert!(n >= self.messages.len(), "EXISTS cannot take messages away: {line}");
                self.messages.resize(n, None);
            }
            ["*", n, "EXPUNGE"] => drop(self.messages.remove(n.parse::<usize>().unwrap() - 1)),
            ["*", "VANISHED", set] => {
                for range in set.split(',') {
                    let (first, last) = range.split_once(':').unwrap_or((range, range));
                    (first.parse().unwrap()..=last.parse().unwrap()).for_each(|uid| self.vanish(uid));
                }
            }
            ["*", n, "FETCH", "(UID", uid, ..] => {
                let known = &mut self.messages[n.parse::<usize>().unwrap() - 1];
                let uid = uid.trim_end_matches(')').parse().unwrap();
                assert!(known.is_none_or(|k| k == uid), "{line}, but it was {known:?}");
                *known = Some(uid);
            }
            _ => {}
        }
    }
}

impl Mirror {
    fn vanish(&mut self, uid: u32) {
        let at = match self.messages.iter().position(|m| *m == Some(uid)) {
            Some(at) => at,
            // One that was not asked for stands in front of the first that is higher.
            None => self.messages.iter().position(|m| m.is_some_and(|m| m > uid)).unwrap_or(self.messages.len()) - 1,
        };
        assert!(self.messages.remove(at).is_none_or(|known| known == uid), "{uid} was not there");
    }
}

#[test]
fn a_slow_reader_holds_a_slice_at_most() {
    let mut world = World::new("select inline=100000");
    let text = [&b"Subject: x\r\n\r\n"[..], &vec![b'x'; 90_000]].concat();
    let large = [&b"Subject: x\r\n\r\n"[..], &vec![b'y'; 3_000_000]].concat();
    for _ in 0..30 {
        world.model.deliver("INBOX", &text);
        world.model.deliver("INBOX", &large);
    }
    world.receive(0, b"a NOOP\r\n", &mut |_| None);
    world.ends[0].stalled = true;
    world.receive(0, b"b FETCH 1:* BODY[]\r\nc NOOP\r\n", &mut |_| None);
    assert!(!world.ends[0].session.wants_input());
    // It takes a little at a time.
    let mut taken = 0;
    while !world.ends[0].session.wants_input() {
        let held = world.ends[0].session.memory_octets();
        assert!(held <= 600 * 1024, "{held} octets held");
        let mut out = crate::base::buf::Output::new(1000);
        world.ends[0].session.poll_transmit(&mut out);
        taken += out.octets();
        world.pump(0, &mut |_| None);
    }
    assert!(taken > 30 * (text.len() + large.len()));
    assert_eq!(world.ends[0].session.counters().fetched, 60);
}

#[test]
fn who_reads_nothing_is_left() {
    let mut world = World::new("select mail=500");
    world.ends[0].stalled = true;
    world.receive(0, b"b FETCH 1:* BODY[]\r\n", &mut |_| None);
    world.wait(Duration::from_secs(181), &mut |_| None);
    assert!(world.ends[0].closed);
}

#[test]
fn who_reads_nothing_in_idle_is_told_later() {
    let mut world = World::new("select");
    world.receive(0, b"a IDLE\r\n", &mut |_| None);
    world.ends[0].stalled = true;
    for _ in 0..5000 {
        world.deliver("INBOX", b"x", &mut |_| None);
        assert!(world.ends[0].session.memory_octets() < 4096);
    }
    world.ends[0].stalled = false;
    world.ends[0].said.clear();
    world.pump(0, &mut |_| None);
    let said = String::from_utf8(world.ends[0].said.clone()).unwrap();
    assert_eq!(said, "* 1 EXISTS\r\n* 1 RECENT\r\n* 5000 EXISTS\r\n* 5000 RECENT\r\n");
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() < 2048, "{} octets", size_of::<Session>());
    let mut world = World::new("select mail=500");
    world.receive(0, b"a FETCH 1:* (FLAGS ENVELOPE BODY[])\r\nb IDLE\r\n", &mut |_| None);
    assert!(world.ends[0].session.is_idle());
    assert_eq!(world.ends[0].session.memory_octets(), 0);
}

#[test]
fn a_misfit_answer_is_no_success() {
    let said = std::panic::catch_unwind(|| {
        let mut world = World::new("login");
        world.receive(0, b"a CREATE x\r\n", &mut |ask| matches!(ask, Ask::Store(_)).then_some(Answer::Go));
        String::from_utf8(world.ends[0].said.clone()).unwrap()
    });
    // Debug builds assert, release builds say NO.
    assert_eq!(said.is_err(), cfg!(debug_assertions));
    assert!(said.is_err() || said.unwrap().contains("a NO [SERVERBUG]"));
}
