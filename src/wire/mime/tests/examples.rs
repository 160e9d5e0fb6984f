//! Messages of the RFCs, and what must be told of them.

use super::*;

/// The message of RFC 9051 §6.4.5.1, with a few octets in each part.
const NUMBERED: &str = "From: a@b\r\nSubject: outer\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n\
This is the preamble.\r\n\
--A\r\nContent-Type: text/plain\r\n\r\none\r\n\
--A\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\ndHdv\r\n\r\n\
--A  \r\nContent-Type: message/rfc822\r\nContent-Description: three\r\n\r\n\
Subject: inner\r\nTo: x@y\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n\
--B\r\n\r\nthree.one\r\n\
--B\r\nContent-Type: application/octet-stream\r\n\r\nthree.two\r\n--B--\r\ninner epilogue\r\n\
--A\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n\
--C\r\nContent-Type: image/gif\r\nContent-ID: <gif@x>\r\n\r\nGIF\r\n\
--C\r\nContent-Type: message/rfc822\r\n\r\n\
Subject: deep\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\n\
--D\r\n\r\nfour.two.one\r\n\
--D\r\nContent-Type: multipart/alternative; boundary=E\r\n\r\n\
--E\r\n\r\nplain\r\n--E\r\nContent-Type: text/richtext\r\n\r\nrich\r\n--E--\r\n\
--D--\r\n\
--C--\r\n\
--A--\r\nThis is the epilogue.\r\n";

#[test]
fn numbers_lead_to_their_parts() {
    check(NUMBERED.as_bytes());
    for (number, expected) in [
        ("1", "one"),
        ("1.MIME", "Content-Type: text/plain\r\n\r\n"),
        ("2", "dHdv\r\n"),
        ("3.HEADER", "Subject: inner\r\nTo: x@y\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"),
        ("3.MIME", "Content-Type: message/rfc822\r\nContent-Description: three\r\n\r\n"),
        ("3.HEADER.FIELDS:to,none", "To: x@y\r\n\r\n"),
        ("3.HEADER.FIELDS.NOT:to,content-type", "Subject: inner\r\n\r\n"),
        ("3.1", "three.one"),
        ("3.1.MIME", "\r\n"),
        ("3.2", "three.two"),
        ("4.1", "GIF"),
        ("4.1.MIME", "Content-Type: image/gif\r\nContent-ID: <gif@x>\r\n\r\n"),
        ("4.2.HEADER", "Subject: deep\r\nContent-Type: multipart/mixed; boundary=D\r\n\r\n"),
        ("4.2.1", "four.two.one"),
        ("4.2.2.1", "plain"),
        ("4.2.2.2", "rich"),
        ("HEADER.FIELDS:SUBJECT,From", "From: a@b\r\nSubject: outer\r\n\r\n"),
        ("HEADER.FIELDS:none", "\r\n"),
        // There are none of these.
        ("5", "NIL"),
        ("0", "NIL"),
        ("1.1", "NIL"),
        ("1.HEADER", "NIL"),
        ("1.TEXT", "NIL"),
        ("4.HEADER", "NIL"),
        ("4.2.2.3", "NIL"),
        ("MIME", "NIL"),
    ] {
        assert_eq!(fetched(NUMBERED, number), expected, "BODY[{number}]");
    }
    let three = fetched(NUMBERED, "3");
    assert_eq!(three, fetched(NUMBERED, "3.HEADER") + &fetched(NUMBERED, "3.TEXT"));
    assert!(three.ends_with("--B--\r\ninner epilogue"));
    assert!(fetched(NUMBERED, "4").starts_with("--C\r\n") && fetched(NUMBERED, "4").ends_with("--C--"));
    assert_eq!(fetched(NUMBERED, ""), NUMBERED);
    assert!(fetched(NUMBERED, "TEXT").starts_with("This is the preamble."));
}

#[test]
fn its_body_structure() {
    assert_eq!(
        structure_of(NUMBERED, false),
        "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0)\
         (\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 6)\
         (\"message\" \"rfc822\" NIL NIL \"three\" \"7bit\" 167 \
         (NIL \"inner\" NIL NIL NIL ((NIL NIL \"x\" \"y\")) NIL NIL NIL NIL) \
         ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 9 0)\
         (\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 9) \"mixed\") 12)\
         ((\"image\" \"gif\" NIL \"<gif@x>\" NIL \"7bit\" 3)\
         (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 205 \
         (NIL \"deep\" NIL NIL NIL NIL NIL NIL NIL NIL) \
         ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 12 0)\
         ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 0)\
         (\"text\" \"richtext\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 4 0) \"alternative\") \"mixed\") 17) \"mixed\") \"mixed\")"
    );
    let extended = structure_of(NUMBERED, true);
    assert!(extended.ends_with(" \"mixed\" (\"boundary\" \"A\") NIL NIL NIL)"), "{extended}");
}

/// RFC 3501 §8 and §7.4.2
#[test]
fn the_envelope_of_the_rfc() {
    let message = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n\
        Subject: IMAP4rev1 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n\
        cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
        Message-Id: <B27397-0100000@cac.washington.edu>\r\nMIME-Version: 1.0\r\n\
        Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n";
    assert_eq!(
        envelope_of(message),
        "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((NIL NIL \"imap\" \"cac.washington.edu\")) \
         ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) \
         NIL NIL \"<B27397-0100000@cac.washington.edu>\")"
    );
    assert_eq!(structure_of(message, false), "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7bit\" 0 0)");
}

#[test]
fn envelopes_of_other_mails() {
    for (message, expected) in [
        ("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
        // RFC 9051 §7.5.2: present but empty is the empty string; addresses are NIL.
        ("Subject:\r\nIn-Reply-To: \r\nTo: \r\n\r\n", "(NIL \"\" NIL NIL NIL NIL NIL NIL \"\" NIL)"),
        (
            "From: a@b\r\nSender: \r\nReply-To: c@d\r\nSubject: x\r\nSubject: y\r\n\r\n",
            "(NIL \"x\" ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) NIL NIL NIL NIL NIL)",
        ),
        (
            "To: A Group: a@b, c@d;\r\nTo: e@f\r\n\r\n",
            "(NIL NIL NIL NIL NIL ((NIL NIL \"A Group\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")(NIL NIL NIL NIL)\
             (NIL NIL \"e\" \"f\")) NIL NIL NIL NIL)",
        ),
        // Not decoded; 8-bit as a literal; a fold is a space.
        (
            "Subject: =?utf-8?q?=C3=A9?=\r\n\tx\r\nFrom: \"é \\\"q\\\"\" <\"a b\"@c>\r\n\r\n",
            "(NIL \"=?utf-8?q?=C3=A9?= x\" (({6}\r\né \"q\" NIL \"a b\" \"c\")) (({6}\r\né \"q\" NIL \"a b\" \"c\")) \
             (({6}\r\né \"q\" NIL \"a b\" \"c\")) NIL NIL NIL NIL NIL)",
        ),
    ] {
        assert_eq!(envelope_of(message), expected);
    }
}

#[test]
fn extension_data() {
    let message = "Content-Type: text/plain; charset=\"utf-8\"; format=flowed\r\nContent-ID: <a@b>\r\n\
        Content-Description: some\r\n text\r\nContent-Transfer-Encoding: QUOTED-PRINTABLE (yes)\r\n\
        Content-MD5: Q2hlY2s=\r\nContent-Disposition: attachment; filename=\"x y.txt\"\r\n\
        Content-Language: en, de\r\nContent-Location: http://\r\n example.test/\r\n\r\na\r\nb\r\nc";
    assert_eq!(
        structure_of(message, true),
        "(\"text\" \"plain\" (\"charset\" \"utf-8\" \"format\" \"flowed\") \"<a@b>\" \"some text\" \"QUOTED-PRINTABLE\" 7 2 \
         \"Q2hlY2s=\" (\"attachment\" (\"filename\" \"x y.txt\")) (\"en\" \"de\") \"http://example.test/\")"
    );
}

#[test]
fn a_message_without_parts_has_one() {
    let message = "Subject: x\r\n\r\nHello\r\n";
    for (number, expected) in [
        ("1", "Hello\r\n"),
        ("TEXT", "Hello\r\n"),
        ("1.MIME", "Subject: x\r\n\r\n"),
        ("1.1", "NIL"),
        ("2", "NIL"),
        ("1.HEADER", "NIL"),
    ] {
        assert_eq!(fetched(message, number), expected, "BODY[{number}]");
    }
}

#[test]
fn a_forwarded_message_alone() {
    let message = "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nHello\r\n";
    for (number, expected) in [
        ("1", "Subject: in\r\n\r\nHello\r\n"),
        ("1.HEADER", "Subject: in\r\n\r\n"),
        ("1.TEXT", "Hello\r\n"),
        ("1.1", "Hello\r\n"),
        ("1.1.MIME", "Subject: in\r\n\r\n"),
        ("HEADER", "Content-Type: message/rfc822\r\n\r\n"),
        ("1.MIME", "Content-Type: message/rfc822\r\n\r\n"),
        ("1.2", "NIL"),
    ] {
        assert_eq!(fetched(message, number), expected, "BODY[{number}]");
    }
}

/// RFC 2046 §5.1.5
#[test]
fn a_digest_is_of_messages() {
    let message = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: one\r\n\r\n1\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--b--\r\n";
    check(message.as_bytes());
    assert_eq!(fetched(message, "1.HEADER"), "Subject: one\r\n\r\n");
    assert_eq!(fetched(message, "1.1"), "1");
    assert_eq!(fetched(message, "2"), "two");
    assert!(structure_of(message, false).starts_with("((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 (NIL \"one\""));
}

#[test]
fn multiparts_that_are_broken_can_be_read() {
    for (message, parts) in [
        // No delimiter; no boundary; an empty one.
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\nHello\r\n", &["Hello\r\n"][..]),
        ("Content-Type: multipart/mixed\r\n\r\n--b\r\n", &["--b\r\n"]),
        ("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n", &["--\r\n"]),
        // Not closed; closed twice; a delimiter that only begins like one.
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2", &["1", "2"]),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b--\r\n--b\r\n\r\n2\r\n--b--", &["1"]),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--bc\r\n --b\r\n--b--",
            &["1\r\n--bc\r\n --b"],
        ),
        // Bare LF.
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n1\n--b\n\n2\n--b--\n", &["1", "2"]),
        // Parts without a header, without a body, without an empty line.
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b\r\n--b\r\nX: y\r\n--b\r\nX: z\r\n\r\n--b--",
            &["", "", "", ""],
        ),
    ] {
        check(message.as_bytes());
        for (i, expected) in parts.iter().enumerate() {
            assert_eq!(fetched(message, &(i + 1).to_string()), *expected, "part {} of {message:?}", i + 1);
        }
        assert_eq!(fetched(message, &(parts.len() + 1).to_string()), "NIL", "{message:?}");
    }
}

#[test]
fn binary_sections() {
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n\
        --b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=20=\r\nb\r\n\
        --b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin\r\n--b\r\n\r\nplain\r\n--b--\r\n";
    let structure = Structure::parse(message.as_bytes());
    let binary = |text: &str, partial| {
        let wanted = Section { decoded: true, partial, ..wanted(text) };
        octets(message.as_bytes(), section(message.as_bytes(), &structure, &wanted))
    };
    assert_eq!(binary("1", None), "\0\x01\x02");
    assert_eq!(binary("1", Some((1, 1))), "\x01");
    assert_eq!(binary("2", None), "a b");
    assert_eq!(binary("3", None), "UNKNOWN-CTE");
    assert_eq!(binary("4", None), "plain");
    assert_eq!(binary("5", None), "NIL");
    assert_eq!(binary("", None), message);
}

#[test]
fn text_to_search_and_to_preview() {
    let message = "Subject: =?iso-8859-1?q?Gr=FC=DFe?= =?iso-8859-1?q?_an?=\r\n alle\r\nX-Y: z\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        <style>no</style><p>sch=F6n &amp; gut</p>\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nw6kgZsO8cg==\r\n\
        --b\r\nContent-Type: application/octet-stream\r\n\r\nunseen\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: weiter\r\nX: y\r\n\r\ninnen\r\n--b--\r\n";
    let structure = Structure::parse(message.as_bytes());
    let header = header_text(message.as_bytes());
    assert_eq!(header.fields[0], ("subject".to_owned(), "Grüße an alle".to_owned()));
    assert_eq!(header.fields[1], ("x-y".to_owned(), "z".to_owned()));
    assert_eq!(header.fields.len(), 3);
    let text = body_text(message.as_bytes(), &structure, 10_000);
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["schön", "&", "gut", "é", "für", "weiter", "innen"]);
    // The plain text is preferred.
    assert_eq!(preview(message.as_bytes(), &structure), "é für");
    let long = format!("\r\n{}", "wörter und\r\n\t".repeat(100));
    let words = preview(long.as_bytes(), &Structure::parse(long.as_bytes()));
    assert_eq!(words.chars().count(), PREVIEW_CHARACTERS_MAX);
    assert!(words.starts_with("wörter und wörter und "));
}

/// RFC 2049 Appendix A, with less text in it.
#[test]
fn the_complex_message_of_the_rfc() {
    let message = "MIME-Version: 1.0\r\nFrom: Nathaniel Borenstein <nsb@nsb.fv.com>\r\nTo: Ned Freed <ned@innosoft.com>\r\n\
        Date: Fri, 07 Oct 1994 16:15:05 -0700 (PDT)\r\nSubject: A multipart example\r\n\
        Content-Type: multipart/mixed;\r\n              boundary=unique-boundary-1\r\n\r\n\
        This is the preamble area of a multipart message.\r\n\r\n\
        --unique-boundary-1\r\n\r\n  ... Some text appears here ...\r\n\r\n\
        --unique-boundary-1\r\nContent-type: text/plain; charset=US-ASCII\r\n\r\nThis could have been part of the previous part.\r\n\r\n\
        --unique-boundary-1\r\nContent-Type: multipart/parallel; boundary=unique-boundary-2\r\n\r\n\
        --unique-boundary-2\r\nContent-Type: audio/basic\r\nContent-Transfer-Encoding: base64\r\n\r\nLi4u\r\n\r\n\
        --unique-boundary-2\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n\r\nLi4u\r\n\r\n\
        --unique-boundary-2--\r\n\r\n\
        --unique-boundary-1\r\nContent-type: text/enriched\r\n\r\nThis is <bold>enriched.</bold>\r\n\r\n\
        --unique-boundary-1\r\nContent-Type: message/rfc822\r\n\r\n\
        From: (mailbox in US-ASCII)\r\nTo: (address in US-ASCII)\r\nSubject: (subject in US-ASCII)\r\n\
        Content-Type: Text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: Quoted-printable\r\n\r\n\
        ... Additional text in ISO-8859-1 goes here =FC\r\n\r\n\
        --unique-boundary-1--\r\n";
    check(message.as_bytes());
    assert_eq!(
        structure_of(message, false),
        "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 34 1)\
         (\"text\" \"plain\" (\"charset\" \"US-ASCII\") NIL NIL \"7bit\" 49 1)\
         ((\"audio\" \"basic\" NIL NIL NIL \"base64\" 6)(\"image\" \"jpeg\" NIL NIL NIL \"base64\" 6) \"parallel\")\
         (\"text\" \"enriched\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 32 1)\
         (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 230 \
         (NIL \"(subject in US-ASCII)\" NIL NIL NIL NIL NIL NIL NIL NIL) \
         (\"Text\" \"plain\" (\"charset\" \"ISO-8859-1\") NIL NIL \"Quoted-printable\" 49 1) 7) \"mixed\")"
    );
    assert_eq!(fetched(message, "3.2"), "Li4u\r\n");
    assert_eq!(fetched(message, "5.1"), "... Additional text in ISO-8859-1 goes here =FC\r\n");
    let text = body_text(message.as_bytes(), &Structure::parse(message.as_bytes()), 10_000);
    assert!(text.contains("goes here ü") && text.contains("(subject in US-ASCII)"), "{text}");
}
