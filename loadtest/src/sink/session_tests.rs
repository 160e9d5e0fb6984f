//! The sink's session as a dialogue, whole and cut anywhere.

use super::*;
use crate::message::{Factory, Id};
use crate::sink::{Accounts, Greylist, Offers};
use crate::size::Sizes;
use gatepost::base::buf::Chain;
use std::sync::Arc;

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
            now: Instant::ZERO,
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
                Next::Close | Next::Drop | Next::Stall | Next::StartTls => {
                    return (String::from_utf8(out).unwrap(), true);
                }
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
    let id = Id { run: 1, core: 0, seq: 9 };
    let message =
        Factory::made(Sizes::Fixed(700)).message(id, "a@a.test", "b@b.test", &mut fastrand::Rng::with_seed(1));
    let mut input = b"EHLO me\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n".to_vec();
    let mut wire = Chain::new();
    message.push_into(&mut wire, true);
    input.extend(wire.to_vec());
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
    assert_eq!(received, [Received { id, crc: message.crc, recipients: 1 }]);
    for other in outputs {
        assert_eq!(other, (said.clone(), tally.clone(), received.clone()));
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
        assert_eq!(rig.received[0].crc, crate::header::joined(crc32c::crc32c(body), 0));
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

#[test]
fn faults_are_answered_where_they_were_asked_for() {
    let with = |fault: &str| Behaviour { faults: vec![fault.parse().unwrap()], ..Behaviour::default() };
    let input = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<x@x>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n";
    for (fault, expected) in [
        ("connect:554", vec![554]),
        ("ehlo:421", vec![220, 421]),
        ("mail:451", vec![220, 250, 451, 503, 503, 500, 500, 221]),
        ("rcpt:452", vec![220, 250, 250, 452, 554, 500, 500, 221]),
        ("data:554", vec![220, 250, 250, 250, 554, 500, 500, 221]),
        ("body:552", vec![220, 250, 250, 250, 354, 552, 221]),
        ("body:stall", vec![220, 250, 250, 250, 354]),
        ("data:drop", vec![220, 250, 250, 250]),
    ] {
        let mut rig = Rig::new(with(fault));
        let (said, _) = if fault.starts_with("connect") { rig.run(b"", 1) } else { rig.run(input, 1000) };
        assert_eq!(codes(&said), expected, "{fault}");
        assert_eq!(rig.tally.faults.get(fault), Some(&1), "{fault}: {:?}", rig.tally);
    }
    let lmtp = Behaviour { lmtp: true, ..with("body:452") };
    let input = b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhi\r\n.\r\n";
    assert_eq!(codes(&Rig::new(lmtp).run(input, 1000).0), [220, 250, 250, 250, 250, 354, 452, 452]);
}

#[test]
fn greylisted_recipients_are_told_apart() {
    let list = Arc::new(Greylist::new(std::time::Duration::from_secs(1)));
    let mut rig = Rig::new(Behaviour { greylist: Some(list), ..Behaviour::default() });
    let (said, _) = rig.run(b"MAIL FROM:<a@a>\r\nRCPT TO:<x@x>\r\nRCPT TO:<y@x>\r\n", 1000);
    assert_eq!((codes(&said), rig.tally.greylisted), (vec![220, 250, 451, 451], 2));
}

#[test]
fn tls_and_logins_are_offered_and_kept_in_order() {
    let accounts = Arc::new(Accounts::new(vec![("ann".into(), "secret".into())]).unwrap());
    let offers = Offers { tls: TlsOffer::StartTls, accounts: Some(accounts), ..Offers::default() };
    let behaviour = Behaviour::offering(&offers);
    assert!(behaviour.extensions.contains("250-STARTTLS\r\n") && !behaviour.extensions_secured.contains("STARTTLS"));
    assert!(behaviour.extensions_secured.contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"));
    let mut rig = Rig::new(behaviour.clone());
    let (said, _) =
        rig.run(b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\nAUTH PLAIN AGFubgB3cm9uZw==\r\nAUTH LOGIN\r\n*\r\nNOOP\r\n", 5);
    assert_eq!(codes(&said), [220, 235, 535, 334, 501, 250]);
    assert_eq!((rig.tally.logins, rig.tally.logins_refused), (1, 2));
    let (said, ended) = Rig::new(behaviour).run(b"STARTTLS\r\nNOOP\r\n", 1000);
    assert_eq!((codes(&said), ended), (vec![220, 220], true), "words behind STARTTLS are no handshake");
    assert_eq!(codes(&Rig::new(Behaviour::default()).run(b"STARTTLS\r\nAUTH PLAIN x\r\n", 9).0), [220, 503, 503]);
}
