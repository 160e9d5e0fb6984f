//! The sink's session as a dialogue, whole and cut anywhere.

use super::*;
use crate::message::{Factory, Id};

struct Rig {
    behaviour: Behaviour,
    tally: Tally,
    rng: fastrand::Rng,
    received: Vec<Received>,
}

impl Rig {
    fn new(behaviour: Behaviour) -> Rig {
        Rig { behaviour, tally: Tally::default(), rng: fastrand::Rng::with_seed(7), received: Vec::new() }
    }
    /// Runs `input` in pieces of `step` octets; returns what was said and whether it ended.
    fn run(&mut self, input: &[u8], step: usize) -> (String, bool) {
        let mut out = Vec::new();
        let mut session = Session::new();
        let mut shared = Shared {
            behaviour: &self.behaviour,
            tally: &mut self.tally,
            rng: &mut self.rng,
            received: &mut self.received,
        };
        session.greet(&mut shared, &mut out);
        for piece in input.chunks(step) {
            let (used, next) = session.input(piece, &mut shared, &mut out);
            match next {
                Next::Read => assert_eq!(used, piece.len()),
                Next::Hold(_) => panic!("no delay was asked for"),
                Next::Close | Next::Drop => return (String::from_utf8(out).unwrap(), true),
            }
        }
        (String::from_utf8(out).unwrap(), false)
    }
}

fn codes(said: &str) -> Vec<u16> {
    said.lines().filter(|l| l.as_bytes()[3] == b' ').map(|l| l[..3].parse().unwrap()).collect()
}

#[test]
fn any_cut_of_the_input_gives_the_same_output() {
    let message = Factory::new("a@a.test", "b@b.test", 700).message(Id { run: 1, core: 0, seq: 9 });
    let mut input = b"EHLO me\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n".to_vec();
    input.extend_from_slice(&message.head);
    input.extend_from_slice(message.filling.as_slice());
    input.extend_from_slice(b".\r\nmail FROM:<>\r\nRCPT TO:<c@c.test>\r\nrcpt to:<d@d.test>\r\nBDAT 5\r\nA: b\r");
    input.extend_from_slice(b"BDAT 11 LAST\r\n\n\r\n.\r\n..\r\nxRSET\r\nNOOP\r\nQUIT\r\n");
    let mut outputs = (1..input.len()).map(|step| {
        let mut rig = Rig::new(Behaviour { ledger: true, ..Behaviour::default() });
        let (said, ended) = rig.run(&input, step);
        assert!(ended);
        (said, rig.tally, rig.received)
    });
    let (said, tally, received) = outputs.next().unwrap();
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 250, 250, 250, 250, 250, 250, 250, 250, 221]);
    assert_eq!((tally.messages, tally.recipients, tally.unmarked, tally.errors), (2, 3, 1, 0));
    assert_eq!(received, [Received { id: Id { run: 1, core: 0, seq: 9 }, crc: message.crc, recipients: 1 }]);
    for other in outputs {
        assert_eq!(other, (said.clone(), tally, received.clone()));
    }
}

#[test]
fn stuffed_dots_are_taken_off_before_the_checksum() {
    let body = b".one\r\n..two\r\nth.ree\r\n.\r.\n.\r\n";
    let mut wire = b"MAIL FROM:<>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nX-Gatepost-Id: 00000001-0-1\r\n\r\n".to_vec();
    wire.extend_from_slice(b"..one\r\n...two\r\nth.ree\r\n..\r.\n.\r\n.\r\n");
    for step in [1, 3, 1000] {
        let mut rig = Rig::new(Behaviour { ledger: true, ..Behaviour::default() });
        let (said, _) = rig.run(&wire, step);
        assert_eq!(codes(&said), [220, 250, 250, 354, 250], "{step}");
        assert_eq!(rig.received[0].crc, crc32c::crc32c(body));
    }
}

#[test]
fn an_empty_message_ends_too() {
    let (said, _) = Rig::new(Behaviour::default()).run(b"MAIL FROM:<>\r\nRCPT TO:<x@x>\r\nDATA\r\n.\r\nQUIT\r\n", 1);
    assert_eq!(codes(&said), [220, 250, 250, 354, 250, 221]);
}

#[test]
fn order_is_kept_and_shares_are_shares() {
    let (said, _) =
        Rig::new(Behaviour::default()).run(b"RCPT TO:<x>\r\nDATA\r\nMAIL FROM:<>\r\nDATA\r\nMAIL\r\nWHAT\r\n", 9);
    assert_eq!(codes(&said), [220, 503, 503, 250, 554, 503, 500]);
    let mut rig = Rig::new(Behaviour { reject_rcpt: 0.25, defer: 0.25, ..Behaviour::default() });
    let mut input = b"MAIL FROM:<>\r\n".to_vec();
    (0..4000).for_each(|_| input.extend_from_slice(b"RCPT TO:<x@x>\r\n"));
    rig.run(&input, 4096);
    assert!((800..1200).contains(&rig.tally.rejected) && (800..1200).contains(&rig.tally.deferred), "{:?}", rig.tally);
    let all = Rig::new(Behaviour { reject_rcpt: 1.0, ..Behaviour::default() })
        .run(b"MAIL FROM:<>\r\nRCPT TO:<x>\r\nDATA\r\n", 99);
    assert_eq!(codes(&all.0), [220, 250, 550, 554]);
}

#[test]
fn lmtp_answers_once_per_recipient() {
    let lmtp = Behaviour { lmtp: true, ..Behaviour::default() };
    let input = b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhi\r\n.\r\n";
    let (said, _) = Rig::new(lmtp).run(input, 1000);
    assert_eq!(codes(&said), [220, 250, 250, 250, 250, 354, 250, 250]);
}

#[test]
fn nonsense_does_not_grow() {
    let mut rig = Rig::new(Behaviour::default());
    let mut input = vec![b'x'; 1_000_000];
    input.extend_from_slice(b"\r\nNOOP\r\nBDAT x\r\n");
    let (said, ended) = rig.run(&input, 1000);
    assert_eq!((codes(&said), ended), (vec![220, 500, 250, 501], true));
}

#[test]
fn a_dropped_connection_says_nothing_more() {
    let mut rig = Rig::new(Behaviour { disconnect: 1.0, ledger: true, ..Behaviour::default() });
    let (said, ended) = rig.run(b"MAIL FROM:<>\r\nRCPT TO:<x@x>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\n", 1000);
    assert_eq!((codes(&said), ended), (vec![220, 250, 250, 354], true));
    assert_eq!((rig.tally.messages, rig.tally.disconnected, rig.received.len()), (0, 1, 0));
}
