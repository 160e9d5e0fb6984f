//! Backends that say anything at any time: the machine never panics, says when it is over, and takes nobody's word for
//! a message that has not been sent.

use super::*;
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "220 x\r\n",
    "250 ok\r\n",
    "250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
    "250-x\r\n250 PIPELINING\r\n",
    "250-x\r\n250-STARTTLS\r\n250 SIZE 100\r\n",
    "354 go\r\n",
    "334 \r\n",
    "421 bye\r\n",
    "450 later\r\n",
    "550 no\r\n",
    "250",
    "\r\n",
    "junk\r\n",
];

#[derive(Clone, Debug)]
enum Step {
    Hear(usize),
    Transmit(usize),
    Deliver(bool),
    Verify,
    Supply(usize),
    Tls,
    Timeout,
    Quit,
    Eof,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..WORDS.len()).prop_map(Step::Hear),
        12 => (1usize..200).prop_map(Step::Transmit),
        4 => any::<bool>().prop_map(Step::Deliver),
        1 => Just(Step::Verify),
        2 => (0usize..30).prop_map(Step::Supply),
        1 => Just(Step::Tls),
        1 => Just(Step::Timeout),
        1 => Just(Step::Quit),
        1 => Just(Step::Eof),
    ]
}

/// What must hold whatever happens.
#[derive(Default)]
struct Ledger {
    submitted: usize,
    finished: usize,
    asked: usize,
    verified: usize,
    closed: bool,
}

impl Ledger {
    fn note(&mut self, event: &Event, positive_heard: bool) {
        assert!(!self.closed, "{event:?} after the end");
        match event {
            Event::Finished(outcome) => {
                self.finished += 1;
                for (_, fate) in &outcome.recipients {
                    assert!(!matches!(fate, Fate::Accepted(_)) || positive_heard, "accepted by nobody");
                    let lost = matches!(fate, Fate::Lost { .. });
                    assert!(!(lost && outcome.reusable), "a lost connection is not reusable");
                }
            }
            Event::Verified(_) => self.verified += 1,
            Event::Closed(_) => self.closed = true,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn anything_at_any_time(
        lmtp: bool, tls: bool, in_file: bool, window in 1usize..4,
        steps in proptest::collection::vec(step(), 0..60),
        polite: bool,
    ) {
        let mut config = plain();
        config.speaks = if lmtp { Speaks::Lmtp } else { Speaks::Smtp };
        config.tls = if tls { TlsMode::IfOffered } else { TlsMode::Never };
        config.knobs.rcpt_window_max = window;
        config.knobs.file_read_octets = 13;
        let mut run = Run::new(config, Cut::Whole, 1 << 20);
        run.in_file = in_file;
        if polite {
            // Half of the cases begin with a connection that works.
            run.hear(b"220 x\r\n".to_vec());
            run.hear(b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n".to_vec());
        }
        let mut ledger = Ledger::default();
        let mut positive = false;
        let mut inbox: Vec<u8> = Vec::new();
        run.reported.clear();
        for step in steps {
            match step {
                Step::Hear(i) => {
                    positive |= WORDS[i].starts_with('2');
                    inbox.extend_from_slice(WORDS[i].as_bytes());
                    let mut input = Input::new(&inbox);
                    run.client.handle_bytes(run.now, &mut input);
                    let n = input.consumed();
                    inbox.drain(..n);
                }
                Step::Transmit(n) => run.client.poll_transmit(&mut Output::new(n)),
                Step::Deliver(all) => if run.client.is_ready() {
                    let unity = if all { "all" } else { "each" };
                    ledger.submitted += 1;
                    run.deliver(&format!("{unity} 0,1"));
                },
                Step::Verify => {
                    let who = parse_mailbox("a@example.test").unwrap();
                    ledger.asked += usize::from(run.client.verify(run.now, ReversePath::Null, who).is_ok());
                }
                Step::Supply(n) => run.client.supply_body(run.now, vec![b'x'; n], n % 3 == 0),
                Step::Tls => run.client.tls_started(run.now, None),
                Step::Timeout => if let Some(at) = run.client.poll_timeout() {
                    run.now = run.now.max(at);
                    run.client.handle_timeout(run.now);
                },
                Step::Quit => run.client.quit(run.now),
                Step::Eof => run.client.handle_eof(run.now),
            }
            while let Some(event) = run.client.poll_event() {
                ledger.note(&event, positive);
            }
            prop_assert!(ledger.finished <= ledger.submitted && ledger.verified <= ledger.asked);
        }
        run.client.handle_eof(run.now);
        while let Some(event) = run.client.poll_event() {
            ledger.note(&event, positive);
        }
        prop_assert!(ledger.closed && run.client.is_closed() && run.client.poll_timeout().is_none());
        prop_assert_eq!((ledger.finished, ledger.verified), (ledger.submitted, ledger.asked));
    }
}
