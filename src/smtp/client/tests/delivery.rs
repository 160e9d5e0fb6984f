//! Messages that reach the backend, and refusals that leave the connection in order.

use super::*;

#[test]
fn one_recipient_goes_out_in_one_flight() {
    with_extensions(
        ALL,
        "> deliver all 0
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<a@example.test>
         C: BDAT 27 LAST
         C: P: q
         C: Subject: x
         C:
         C: hello
         S: 250 2.1.0 ok
         S: 250 2.1.5 ok
         S: 250 2.0.0 queued as 1
         = finished 0 accepted 250 2.0.0 queued as 1; reusable
         > deliver all 1
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<b@example.test>
         C: BDAT 27 LAST
         C: P: q
         C: Subject: x
         C:
         C: hello
         S: 250 ok
         S: 250 ok
         S: 250 done
         = finished 1 accepted 250 done; reusable
         > quit
         C: QUIT
         S: 221 bye
         = closed: we said QUIT",
    );
}

#[test]
fn a_unanimous_delivery_waits_for_every_recipient() {
    with_extensions(
        ALL,
        "> deliver all 0,1
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<a@example.test>
         C: RCPT TO:<b@example.test>
         S: 250 ok
         S: 250 ok
         S: 250 ok
         C: BDAT 27 LAST
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n
         S: 250 done
         = finished 0 accepted 250 done; 1 accepted 250 done; reusable",
    );
    with_extensions(
        ALL,
        "> deliver all 0,1,2
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<a@example.test>
         C: RCPT TO:<b@example.test>
         C: RCPT TO:<c@example.test>
         S: 250 ok
         S: 250 ok
         S: 550 5.1.1 nobody
         S: 250 ok
         C: RSET
         = finished 0 withheld; 1 refused at RCPT: 550 5.1.1 nobody; 2 withheld; reusable
         # PIPELINING: the next message does not wait for the reply to RSET
         > deliver all 0
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<a@example.test>
         C: BDAT 27 LAST
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n
         S: 250 reset
         S: 250 ok
         S: 250 ok
         S: 250 done
         = finished 0 accepted 250 done; reusable",
    );
}

#[test]
fn a_spool_delivery_goes_on_with_those_accepted() {
    with_extensions(
        "PIPELINING",
        "> deliver each 0,1
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: RCPT TO:<b@example.test>
         C: DATA
         S: 250 ok
         S: 452 4.2.2 full
         S: 250 ok
         S: 354 go
         C: P: q
         C: Subject: x
         C:
         C: hello
         C: .
         S: 250 done
         = finished 0 refused at RCPT: 452 4.2.2 full; 1 accepted 250 done; reusable",
    );
}

#[test]
fn data_sent_ahead_for_nobody_is_ended_by_a_lone_dot() {
    with_extensions(
        "PIPELINING",
        "> deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 550 5.1.1 nobody
         S: 354 go
         C: .
         S: 554 5.5.1 no recipients
         = finished 0 refused at RCPT: 550 5.1.1 nobody; reusable
         > deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 550 5.1.1 nobody
         S: 554 5.5.1 no recipients
         C: RSET
         = finished 0 refused at RCPT: 550 5.1.1 nobody; reusable
         S: 250 ok
         > deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 550 5.7.1 not you
         S: 503 no
         S: 503 no
         = finished 0 refused at MAIL: 550 5.7.1 not you; reusable",
    );
}

#[test]
fn without_pipelining_one_by_one() {
    with_extensions(
        "SIZE",
        "> body .dot\\r\\n..two\\r\\nend
         > deliver all 0,1
         C: MAIL FROM:<s@example.org> SIZE=22
         S: 250 ok
         C: RCPT TO:<a@example.test>
         S: 251 will forward
         C: RCPT TO:<b@example.test>
         S: 250 ok
         C: DATA
         S: 354 go
         C: P: q
         C: ..dot
         C: ...two
         C: end
         C: .
         S: 250 done
         = finished 0 accepted 250 done; 1 accepted 250 done; reusable
         > deliver all 0,1
         C: MAIL FROM:<s@example.org> SIZE=22
         S: 250 ok
         C: RCPT TO:<a@example.test>
         S: 550 no
         C: RCPT TO:<b@example.test>
         S: 250 ok
         C: RSET
         = finished 0 refused at RCPT: 550 no; 1 withheld; reusable
         # without PIPELINING the next message waits for the reply to RSET
         > deliver all 0
         S: 250 reset
         C: MAIL FROM:<s@example.org> SIZE=22
         S: 450 later
         = finished 0 refused at MAIL: 450 later; reusable",
    );
}

#[test]
fn a_refused_body_leaves_the_connection_in_order() {
    with_extensions(
        "PIPELINING",
        "> deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 451 4.3.0 not now
         C: RSET
         = finished 0 refused at DATA: 451 4.3.0 not now; reusable
         S: 250 ok
         > deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 354 go
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n.\\r\\n
         S: 554 5.7.1 spam
         = finished 0 refused at end of data: 554 5.7.1 spam; reusable",
    );
    with_extensions(
        "PIPELINING, CHUNKING",
        "> deliver all 0
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: BDAT 27 LAST
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n
         S: 250 ok
         S: 250 ok
         S: 554 5.7.1 spam
         C: RSET
         = finished 0 refused at end of data: 554 5.7.1 spam; reusable
         S: 250 ok",
    );
}

#[test]
fn large_bodies_do_not_go_ahead_of_the_envelope() {
    let mut config = plain();
    config.knobs.flight_octets_max = crate::base::knob::Octets(20);
    let script = "> deliver all 0
         C: MAIL FROM:<s@example.org> SIZE=27
         C: RCPT TO:<a@example.test>
         S: 250 ok
         S: 550 no
         C: RSET
         = finished 0 refused at RCPT: 550 no; reusable
         S: 250 ok";
    trace(config, &(greeting(ALL) + script));
}

#[test]
fn bodies_in_files_are_asked_for() {
    for keywords in [ALL, "PIPELINING"] {
        let start = if keywords == ALL { " SIZE=29" } else { "" };
        let (before, body) = match keywords == ALL {
            true => ("C: BDAT 29 LAST\nS: 250 ok\nS: 250 ok", "C+ P: q\\r\\nSubject: x\\r\\n\\r\\n.hello\\n\\r\\n"),
            false => (
                "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go",
                "C+ P: q\\r\\nSubject: x\\r\\n\\r\\n..hello\\n\\r\\n.\\r\\n",
            ),
        };
        // The body goes out with the flight where BDAT is used, so it stands before the replies.
        let middle = if keywords == ALL {
            before.replacen("LAST\n", &format!("LAST\n{body}\n"), 1)
        } else {
            format!("{before}\n{body}")
        };
        with_extensions(
            keywords,
            &format!(
                "> body Subject: x\\r\\n\\r\\n.hello\\n\\r\\n
                 > file
                 > deliver all 0
                 C: MAIL FROM:<s@example.org>{start}
                 C: RCPT TO:<a@example.test>
                 {middle}
                 S: 250 done
                 = finished 0 accepted 250 done; reusable"
            ),
        );
    }
}

#[test]
fn lmtp_has_a_reply_for_each_recipient() {
    let mut config = plain();
    config.speaks = Speaks::Lmtp;
    let script = "S: 220 mda
         C: LHLO gate.example.test
         S: 250-mda
         S: 250-PIPELINING
         S: 250 CHUNKING
         = ready
         > deliver each 0,1,2
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: RCPT TO:<b@example.test>
         C: RCPT TO:<c@example.test>
         S: 250 ok
         S: 250 ok
         S: 550 5.1.1 nobody
         S: 250 ok
         C: BDAT 27 LAST
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n
         S: 250 kept for a
         S: 452 4.2.2 full
         = finished 0 accepted 250 kept for a; 1 refused at RCPT: 550 5.1.1 nobody; 2 refused at end of data: 452 4.2.2 full; reusable
         > deliver each 0,1
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: RCPT TO:<b@example.test>
         S: 250 ok
         S: 250 ok
         S: 250 ok
         C: BDAT 27 LAST
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n
         S: 250 kept for a
         > eof
         = finished 0 accepted 250 kept for a; 1 unknown at end of data; spent
         = closed: the backend closed the connection (end of data)";
    trace(config, script);
}

#[test]
fn what_the_backend_cannot_take_is_refused_without_a_word() {
    let refused = |keywords: &str, setup: &str, reply: &str| {
        let script = format!("{setup}\n> deliver all 0\n= finished 0 refused at MAIL: {reply}; reusable");
        with_extensions(keywords, &script);
    };
    refused("SIZE 26", "", "552 5.3.4 the message of 27 octets is larger than the 26 the next server takes");
    refused(
        "PIPELINING",
        "> body é\\r\\n",
        "554 5.6.3 the message has 8-bit octets and the next server does not offer 8BITMIME",
    );
    for setup in ["> binary", "> declare-binary"] {
        refused(
            "8BITMIME, CHUNKING",
            setup,
            "554 5.6.3 the message is binary and the next server does not offer BINARYMIME",
        );
    }
    refused(
        "8BITMIME",
        "> utf8\n> body Subject: é\\r\\n\\r\\nx",
        "554 5.6.9 the message has non-ASCII header fields and the next server does not offer SMTPUTF8",
    );
}

#[test]
fn smtputf8_is_declared_where_offered_and_dropped_where_not_needed() {
    let end = "S: 250 ok
         C: RCPT TO:<a@example.test>
         S: 450 no
         C: RSET
         = finished 0 refused at RCPT: 450 no; reusable
         S: 250 ok";
    with_extensions("SMTPUTF8", &format!("> utf8\n> deliver all 0\nC: MAIL FROM:<s@example.org> SMTPUTF8\n{end}"));
    with_extensions("SIZE", &format!("> utf8\n> deliver all 0\nC: MAIL FROM:<s@example.org> SIZE=27\n{end}"));
    with_extensions(
        "PIPELINING",
        "> to a@example.test,ü@example.test
         > deliver each 0,1
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 450 no
         S: 503 no
         C: RSET
         = finished 0 refused at RCPT: 450 no; 1 refused at RCPT: 553 5.6.7 the address has non-ASCII characters and the next server does not offer SMTPUTF8; reusable
         S: 250 ok
         # a misfit spoils a unanimous delivery before a word of it
         > deliver all 0,1
         = finished 0 withheld; 1 refused at RCPT: 553 5.6.7 the address has non-ASCII characters and the next server does not offer SMTPUTF8; reusable",
    );
}

#[test]
fn binary_goes_by_bdat_as_it_is() {
    with_extensions(
        ALL,
        "> body a\\0\\n.\\nb
         > binary
         > ret
         > deliver all 0
         C: MAIL FROM:<s@example.org> SIZE=12 BODY=BINARYMIME RET=HDRS
         C: RCPT TO:<a@example.test>
         C: BDAT 12 LAST
         C+ P: q\\r\\na\\0\\n.\\nb
         S: 250 ok
         S: 250 ok
         S: 250 done
         = finished 0 accepted 250 done; reusable",
    );
}

#[test]
fn limits_of_the_backend_are_kept() {
    with_extensions(
        "PIPELINING, LIMITS RCPTMAX=1 MAILMAX=1",
        "> deliver each 0,1
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 354 go
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n.\\r\\n
         S: 250 done
         = finished 0 accepted 250 done; 1 refused at RCPT: 452 4.5.3 the next server takes 1 recipients at a time; spent",
    );
    let mut config = plain();
    config.knobs.rcpt_window_max = 2;
    let script = "> deliver each 0,1,2
         C: MAIL FROM:<s@example.org>
         C: RCPT TO:<a@example.test>
         S: 250 ok
         C: RCPT TO:<b@example.test>
         S: 250 ok
         C: RCPT TO:<c@example.test>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 354 go
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n.\\r\\n
         S: 250 done
         = finished 0 accepted 250 done; 1 accepted 250 done; 2 accepted 250 done; reusable";
    trace(config, &(greeting("PIPELINING") + script));
}

#[test]
fn callouts() {
    with_extensions(
        "PIPELINING",
        "> verify bob@example.test
         C: MAIL FROM:<>
         C: RCPT TO:<bob@example.test>
         C: RSET
         S: 250 ok
         S: 550 5.1.1 nobody
         = verified 550 5.1.1 nobody
         S: 250 reset
         > verify bob@example.test
         C: MAIL FROM:<>
         C: RCPT TO:<bob@example.test>
         C: RSET
         S: 451 4.7.1 later
         S: 503 5.5.1 MAIL first
         = unable 451 4.7.1 later
         S: 250 reset",
    );
    with_extensions(
        "SIZE",
        "> verify bob@example.test
         C: MAIL FROM:<>
         S: 250 ok
         C: RCPT TO:<bob@example.test>
         S: 250 ok
         C: RSET
         = verified 250 ok
         S: 250 reset
         > verify bob@example.test
         C: MAIL FROM:<>
         S: 550 no null path here
         = unable 550 no null path here
         > verify ü@example.test
         = verified 553 5.6.7 the address has non-ASCII characters and the next server does not offer SMTPUTF8
         > verify bob@example.test
         C: MAIL FROM:<>
         S: 250 ok
         C: RCPT TO:<bob@example.test>
         > eof
         = verification lost: the backend closed the connection (RCPT)
         = closed: the backend closed the connection (RCPT)",
    );
}
