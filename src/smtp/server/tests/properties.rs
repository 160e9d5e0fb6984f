//! Whatever a client sends and whatever it is answered: no panic, no acceptance without proof, no unbounded memory.

use super::harness::{Caller, friendly};
use crate::base::id::SpoolId;
use crate::base::proof::{Committed, RelayGrant};
use crate::sasl::server::SaslAnswer;
use crate::smtp::server::*;
use crate::wire::replies;
use proptest::prelude::*;
use std::time::Duration;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "EHLO a.example\r\n",
        "HELO a\r\n",
        "MAIL FROM:<a@b.example>\r\n",
        "MAIL FROM:<> SIZE=10 BODY=BINARYMIME\r\n",
        "RCPT TO:<c@d.example>\r\n",
        "RCPT TO:<postmaster>\r\n",
        "DATA\r\n",
        "a: b\r\n\r\ntext\r\n",
        "\r\n.\r\n",
        ".\r\n",
        "BDAT 5\r\nabcde",
        "BDAT 3 LAST\r\nabc",
        "BDAT 99999999999\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "STARTTLS\r\n",
        "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
        "AUTH LOGIN\r\n",
        "YW5u\r\n",
        "*\r\n",
        "VRFY x\r\n",
        "QUIT\r\n",
        "\n",
        "\r",
        "\0",
    ];
    prop_oneof![
        12 => proptest::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..40_000).prop_map(|n| vec![b'x'; n]),
    ]
}

/// An answer that fits the ask: kind, or not.
fn moody(ask: &Ask, mood: u8) -> Answer {
    let reply = replies::local_error();
    match (ask, mood % 6) {
        (Ask::Spill { .. }, 0) => Answer::Spilled(Err(replies::no_room())),
        (Ask::Spill { .. }, _) => friendly(ask),
        (Ask::Sasl(_), 0) => Answer::Sasl(SaslAnswer::Unavailable),
        (_, 0) => Answer::Refuse { reply, after: Duration::ZERO, close: mood > 200 },
        (Ask::Rcpt { .. }, 1) => {
            Answer::Granted { grant: RelayGrant::issued_by_policy(), after: Duration::from_secs(1) }
        }
        (Ask::Sasl(_) | Ask::Message(_) | Ask::Rcpt { .. }, _) => friendly(ask),
        (_, 1) => Answer::GoAfter(Duration::from_secs(1)),
        _ => friendly(ask),
    }
}

/// Positive replies to messages in what was said: they alone name an id.
fn acceptances(said: &[u8]) -> usize {
    let id = format!("kept as {}", SpoolId(1));
    String::from_utf8_lossy(said).matches(&id).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_input_any_answers(
        pieces in proptest::collection::vec(piece(), 0..60),
        moods in proptest::collection::vec(any::<u8>(), 1..50),
        lmtp: bool,
        normalise: bool,
    ) {
        const MEMORY_OCTETS_MAX: usize = 8192;
        let bare = if normalise { "normalise" } else { "refuse" };
        let words = format!(
            "{} starttls mechanisms=PLAIN,LOGIN,CRAM-MD5 protected bare_newline={bare} errors_max=1000 \
             body_memory_octets_max={MEMORY_OCTETS_MAX} header_octets_max=8192",
            if lmtp { "lmtp" } else { "" }
        );
        let mut caller = Caller::new(&words);
        let (mut asked, mut proofs) = (0, 0);
        let mut answers = |ask: &Ask| {
            asked += 1;
            let answer = moody(ask, moods[asked % moods.len()]);
            if let (Ask::Message(m), Answer::Settled(_)) = (ask, &answer) {
                let recipients = m.envelope.recipients.len();
                assert!(recipients > 0, "a message to nobody");
                proofs += if lmtp { recipients } else { 1 };
            }
            answer
        };
        for piece in &pieces {
            caller.receive(piece, &mut answers);
            caller.wait(Duration::from_secs(2), &mut answers);
            // The bound, one step beyond it, and what a vector reserves.
            let held = caller.server.memory_octets();
            assert!(held <= 2 * (MEMORY_OCTETS_MAX + 2 * 32 * 1024), "{held} octets held");
            caller.finish_tls();
        }
        caller.server.handle_eof(caller.now);
        caller.pump(&mut answers);
        caller.wait(Duration::from_secs(2), &mut answers);
        assert!(caller.closed);
        assert_eq!(acceptances(&caller.said), proofs);
        let said = String::from_utf8(caller.said.clone()).unwrap();
        let lines = said.split_terminator("\r\n");
        assert!(lines.into_iter().all(|l| l.len() > 3 && l.as_bytes()[..3].iter().all(u8::is_ascii_digit)));
    }
}

#[test]
fn a_misfit_answer_is_no_acceptance() {
    // Settled answers carry their proof by type; what is left to check is that `Go` does not pass for one.
    let go = std::panic::catch_unwind(|| {
        let mut caller = Caller::new("");
        let script = b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n";
        caller.receive(script, &mut |_| Answer::Go);
        caller.said
    });
    // Debug builds assert, release builds say 451.
    assert_eq!(go.is_err(), cfg!(debug_assertions));
    assert!(go.is_err() || String::from_utf8(go.unwrap()).unwrap().contains("451"));
    let proof = Committed::after_sync(SpoolId(1));
    let said = settle(Settled::PerRecipient(vec![Ok(Kept::Committed(proof)), Err(replies::no_room())]), Service::Mx, 2);
    assert_eq!(said, [replies::no_room()]);
}
