//! Backends that die, hang, babble or lie: a definite fate each time.

use super::*;

const FLIGHT: &str = "> deliver all 0
     C: MAIL FROM:<s@example.org> SIZE=27
     C: RCPT TO:<a@example.test>
     C: BDAT 27 LAST
     C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n\n";
const DATA: &str = "> deliver all 0
     C: MAIL FROM:<s@example.org>
     C: RCPT TO:<a@example.test>
     C: DATA\n";
const BODY: &str = "C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n.\\r\\n\n";

#[test]
fn the_connection_ends_at_each_step_of_a_flight() {
    for (heard, fate, at) in [
        ("", "0 unknown at MAIL; spent, stale", "MAIL"),
        ("S: 250 ok\n", "0 unknown at RCPT; spent", "RCPT"),
        ("S: 250 ok\nS: 250 ok\n", "0 unknown at end of data; spent", "end of data"),
        ("S: 250 ok\nS: 550 no\n", "0 refused at RCPT: 550 no; spent", "end of data"),
        ("S: 550 no\n", "0 refused at MAIL: 550 no; spent", "RCPT"),
    ] {
        for (end, why) in [
            ("> eof", format!("the backend closed the connection ({at})")),
            ("> error broken pipe", "the connection broke: broken pipe".to_owned()),
            ("> timeout", format!("the backend did not answer in time ({at})")),
            ("S: what?", "the server said \"what?\", expected a code from 200 to 599 followed by a space, a hyphen or the line end".to_owned()),
            ("> quit", "we said QUIT".to_owned()),
        ] {
            with_extensions(ALL, &format!("{FLIGHT}{heard}{end}\n= finished {fate}\n= closed: {why}"));
        }
    }
}

#[test]
fn the_connection_ends_at_each_step_of_data() {
    for (heard, fate, at) in [
        ("", "0 lost at MAIL; spent, stale", "MAIL"),
        ("S: 250 ok\n", "0 lost at RCPT; spent", "RCPT"),
        ("S: 250 ok\nS: 250 ok\n", "0 lost at DATA; spent", "DATA"),
        (&format!("S: 250 ok\nS: 250 ok\nS: 354 go\n{BODY}"), "0 unknown at end of data; spent", "end of data"),
        ("S: 250 ok\nS: 550 no\nS: 354 go\nC: .\n", "0 refused at RCPT: 550 no; spent", "end of data"),
    ] {
        let why = format!("the backend closed the connection ({at})");
        with_extensions("PIPELINING", &format!("{DATA}{heard}> eof\n= finished {fate}\n= closed: {why}"));
    }
}

#[test]
fn a_deadline_is_not_put_off_by_being_called_without_news() {
    let begin = Instant::ZERO + Duration::from_secs(1);
    let mut client = Client::new(std::sync::Arc::new(plain()), [7; 32], begin);
    let deadline = client.poll_timeout().unwrap();
    let half = begin + deadline.since(begin) / 2;
    // A timer that fires early, a piece of a reply, and the same piece shown again.
    client.handle_timeout(half);
    client.handle_bytes(half, &mut Input::new(b""));
    let mut piece = Input::new(b"220 mx.exam");
    client.handle_bytes(half, &mut piece);
    assert_eq!(client.poll_timeout(), Some(deadline));
    client.handle_bytes(half, &mut Input::new(piece.rest()));
    assert_eq!(client.poll_timeout(), Some(deadline));
    client.handle_timeout(deadline);
    assert!(client.is_closed());
}

#[test]
fn service_closing_at_each_step() {
    for (heard, fate) in [
        // An idle connection that was being closed: another one may do.
        ("S: 421 idle\n", "0 lost at MAIL; spent, stale"),
        ("S: 250 ok\nS: 421 idle\n", "0 refused at RCPT: 421 idle; spent"),
        ("S: 250 ok\nS: 250 ok\nS: 421 idle\n", "0 refused at end of data: 421 idle; spent"),
        ("S: 250 ok\nS: 550 no\nS: 421 idle\n", "0 refused at RCPT: 550 no; spent"),
    ] {
        let closed = "closed: the backend is closing: 421 idle";
        with_extensions(ALL, &format!("{FLIGHT}{heard}= finished {fate}\n= {closed}"));
    }
    with_extensions(ALL, "S: 421 idle\n= closed: the backend is closing: 421 idle");
    with_extensions(
        "PIPELINING",
        "> verify a@example.test
         C: MAIL FROM:<>
         C: RCPT TO:<a@example.test>
         C: RSET
         S: 250 ok
         S: 421 idle
         = unable 421 idle
         = closed: the backend is closing: 421 idle",
    );
}

#[test]
fn replies_to_nothing() {
    with_extensions(ALL, "S: 250 hello?\n= closed: the backend answered what was not asked: 250 hello?");
    with_extensions(
        ALL,
        &format!(
            "{FLIGHT}S: 250 ok\nS: 250 ok\nS: 250 done\nS: 250 extra\n= finished 0 accepted 250 done; reusable\n\
             = closed: the backend answered what was not asked: 250 extra"
        ),
    );
    // A reply that came before its command was handed out answers nothing.
    let mut run = Run::new(plain(), Cut::Whole, 1 << 20);
    run.hear(b"220 x\r\n250-x\r\n250 PIPELINING\r\n".to_vec());
    assert_eq!(
        run.reported.pop_front().unwrap(),
        "closed: the backend answered what was not asked: 250 x / PIPELINING"
    );
}

#[test]
fn replies_without_sense() {
    for (heard, fate, at) in [
        ("S: 354 go\n", "0 unknown at MAIL; spent", "MAIL"),
        ("S: 250 ok\nS: 354 go\n", "0 unknown at RCPT; spent", "RCPT"),
        ("S: 250 ok\nS: 250 ok\nS: 354 go\n", "0 unknown at end of data; spent", "end of data"),
    ] {
        with_extensions(
            ALL,
            &format!(
                "{FLIGHT}{heard}= finished {fate}\n= closed: the backend's reply has no meaning there ({at}): 354 go"
            ),
        );
    }
    with_extensions(
        "PIPELINING",
        &format!(
            "{DATA}S: 250 ok\nS: 250 ok\nS: 250 done already\n= finished 0 lost at DATA; spent\n\
             = closed: the backend's reply has no meaning there (DATA): 250 done already"
        ),
    );
}

/// A client in the midst of a body whose last octets have not been supplied.
fn in_the_midst_of_a_body(keywords: &str) -> Run {
    let mut run = Run::new(plain(), Cut::Whole, 1 << 20);
    run.hear(b"220 x\r\n".to_vec());
    run.hear(format!("250-x\r\n250-{}\r\n250 HELP\r\n", keywords.replace(',', "\r\n250-")).into_bytes());
    run.in_file = true;
    run.body = vec![b'x'; 300];
    let delivery_of = |run: &mut Run| {
        run.client.config = Arc::new({
            let mut config = plain();
            config.knobs.file_read_octets = 100;
            config
        });
        let mut recipients = run.addresses.iter().map(|a| Recipient::plain(parse_mailbox(a).unwrap()));
        let envelope = Envelope {
            origin: Origin {
                session: SessionId(1),
                received: WallTime::default(),
                client: None,
                helo: "h".into(),
                protocol: Protocol::default(),
                user: None,
            },
            sender: ReversePath::Null,
            parameters: MailParameters::default(),
            recipients: vec![recipients.next().unwrap()],
        };
        Delivery {
            envelope: Arc::new(envelope),
            recipients: vec![0],
            prefix: vec![],
            body: run.message(),
            unity: Unity::AllOrNone,
        }
    };
    let delivery = delivery_of(&mut run);
    run.client.submit(run.now, delivery).unwrap();
    run
}

fn talk(client: &mut Client, now: Instant, heard: &[u8]) -> (Vec<u8>, Vec<Event>) {
    client.handle_bytes(now, &mut Input::new(heard));
    let mut out = Output::new(1 << 20);
    client.poll_transmit(&mut out);
    (out.take().to_vec(), std::iter::from_fn(|| client.poll_event()).collect())
}

#[test]
fn a_no_in_the_midst_of_the_body_ends_the_connection() {
    for (keywords, before) in
        [("PIPELINING,CHUNKING", &b"250 a\r\n250 b\r\n"[..]), ("PIPELINING", b"250 a\r\n250 b\r\n354 go\r\n")]
    {
        for (reply, fate) in [
            ("552 5.3.4 too much", "0 refused at body: 552 5.3.4 too much"),
            // Nobody can have a message that has not been sent.
            ("250 thanks", "0 lost at body"),
            ("421 bye", "0 refused at body: 421 bye"),
        ] {
            let mut run = in_the_midst_of_a_body(keywords);
            let now = run.now;
            talk(&mut run.client, now, b"");
            let (_, events) = talk(&mut run.client, now, before);
            if events.contains(&Event::NeedBody { offset: 0, octets_max: 100 }) || keywords.contains("CHUNKING") {
                run.client.supply_body(now, vec![b'x'; 100], false);
            }
            talk(&mut run.client, now, b"");
            let (_, events) = talk(&mut run.client, now, format!("{reply}\r\n").as_bytes());
            let shown: Vec<String> = events.iter().map(show).collect();
            assert_eq!(
                shown.iter().find(|s| s.starts_with("finished")).unwrap(),
                &format!("finished {fate}; spent"),
                "{keywords}"
            );
            assert!(shown.last().unwrap().starts_with("closed: "), "{shown:?}");
        }
    }
}

#[test]
fn a_body_that_cannot_be_supplied_never_counts_as_sent() {
    for (bytes, last) in [(vec![b'x'; 100], true), (vec![b'x'; 301], true), (vec![], false)] {
        let mut run = in_the_midst_of_a_body("PIPELINING,CHUNKING");
        let now = run.now;
        talk(&mut run.client, now, b"");
        talk(&mut run.client, now, b"250 a\r\n250 b\r\n");
        run.client.supply_body(now, bytes, last);
        let (_, events) = talk(&mut run.client, now, b"");
        assert_eq!(show(&events[0]), "finished 0 lost at body; spent");
        assert!(show(&events[1]).starts_with("closed: the body could not be supplied: expected 300 octets in all"));
    }
}

#[test]
fn a_slow_body_is_no_timeout_but_a_stuck_one_is() {
    let mut run = in_the_midst_of_a_body("PIPELINING");
    let mut now = run.now;
    talk(&mut run.client, now, b"");
    talk(&mut run.client, now, b"250 a\r\n250 b\r\n354 go\r\n");
    for _ in 0..2 {
        run.client.supply_body(now, vec![b'x'; 100], false);
        let mut out = Output::new(1);
        run.client.poll_transmit(&mut out);
        assert!(!out.is_empty());
        now = now + Duration::from_secs(180);
        run.client.handle_timeout(now);
        assert!(!run.client.is_closed());
    }
    now = now + Duration::from_secs(180);
    run.client.handle_timeout(now);
    let (_, events) = talk(&mut run.client, now, b"");
    let shown: Vec<String> = events.iter().filter(|e| !matches!(e, Event::NeedBody { .. })).map(show).collect();
    assert_eq!(shown[0], "finished 0 lost at body; spent");
    assert_eq!(shown[1], "closed: the body could not be supplied: its next octets did not come in time");
}

#[test]
fn a_backend_that_reads_one_block_per_timeout_cannot_hold_a_message() {
    let mut run = in_the_midst_of_a_body("PIPELINING");
    run.body = vec![];
    let mut now = run.now;
    talk(&mut run.client, now, b"");
    talk(&mut run.client, now, b"250 a\r\n250 b\r\n354 go\r\n");
    let end = now + Duration::from_secs(3600);
    while now < end {
        assert!(!run.client.is_closed());
        run.client.supply_body(now, vec![b'x'; 1], false);
        run.client.poll_transmit(&mut Output::new(1));
        now = now + Duration::from_secs(100);
        run.client.handle_timeout(now);
    }
    assert!(run.client.is_closed());
    assert_eq!(run.client.poll_timeout(), None);
}

#[test]
fn work_is_given_back_while_there_is_some() {
    let mut run = Run::new(plain(), Cut::Whole, 1 << 20);
    assert!(run.client.verify(run.now, ReversePath::Null, parse_mailbox("a@example.test").unwrap()).is_err());
    run.hear(b"220 x\r\n".to_vec());
    run.hear(b"250 x\r\n".to_vec());
    assert!(run.client.is_ready());
    run.act("deliver all 0");
    assert!(!run.client.is_ready());
}
