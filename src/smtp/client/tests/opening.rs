//! From the greeting to readiness.

use super::*;

const MORE: &str = "C: EHLO gate.example.test\nS: 250-mx\nS: 250 PIPELINING\n= ready";

fn tls(mode: TlsMode) -> ClientConfig {
    ClientConfig { tls: mode, ..plain() }
}

#[test]
fn greetings() {
    trace(plain(), &format!("S: 220-mx\nS: 220 ready\n{MORE}"));
    let unwelcome = "S: 554 5.7.1 go away\n= closed: the backend would not talk to us (greeting): 554 5.7.1 go away";
    trace(plain(), unwelcome);
    trace(plain(), "S: 421 busy\n= closed: the backend is closing: 421 busy");
    trace(plain(), "> eof\n= closed: the backend closed the connection (greeting)");
    trace(plain(), "> wait 299999\n> wait 1\n= closed: the backend did not answer in time (greeting)");
    trace(plain(), "S: 250 what\n= closed: the backend's reply has no meaning there (greeting): 250 what");
    trace(plain(), "> quit\n= closed: we said QUIT");
    trace(plain(), "> error reset by peer\n= closed: the connection broke: reset by peer");
    trace(
        plain(),
        "S: HTTP/1.1 400 Bad Request
         = closed: the server said \"HTTP/1.1 400 Bad Request\", expected a code from 200 to 599 followed by a space, a hyphen or the line end",
    );
}

#[test]
fn a_server_that_does_not_know_ehlo_is_greeted_with_helo() {
    trace(
        plain(),
        "S: 220 old
         C: EHLO gate.example.test
         S: 502 what
         C: HELO gate.example.test
         S: 250 old
         = ready
         > deliver all 0
         C: MAIL FROM:<s@example.org>
         S: 250 ok
         C: RCPT TO:<a@example.test>
         S: 250 ok
         C: DATA
         S: 354 go
         C+ P: q\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n.\\r\\n
         S: 250 done
         = finished 0 accepted 250 done; reusable",
    );
    let lmtp = ClientConfig { speaks: Speaks::Lmtp, ..plain() };
    trace(
        lmtp,
        "S: 220 x
         C: LHLO gate.example.test
         S: 500 what
         = closed: the backend would not talk to us (EHLO): 500 what",
    );
    trace(
        plain(),
        "S: 220 x
         C: EHLO gate.example.test
         S: 451 later
         = closed: the backend would not talk to us (EHLO): 451 later",
    );
}

#[test]
fn our_own_name_is_a_loop_where_an_mx_led_here() {
    let config = ClientConfig { own_name: OwnName::Loop, ..plain() };
    trace(
        config,
        "S: 220 x
         C: EHLO gate.example.test
         S: 250 Gate.Example.Test hello
         = closed: mail loops back to us: the server says it is Gate.Example.Test",
    );
}

#[test]
fn starttls() {
    let offer = "S: 220 mx\nC: EHLO gate.example.test\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\n";
    for mode in [TlsMode::IfOffered, TlsMode::Required] {
        trace(tls(mode), &format!("{offer}S: 220 go\n= starttls\n> tls\n{MORE}"));
        trace(
            tls(mode),
            &format!(
                "{offer}S: 220 go\n= starttls\n> tls-failed bad certificate\n= closed: the TLS handshake failed: bad certificate"
            ),
        );
        trace(
            tls(mode),
            &format!(
                "{offer}S: 220 go\n= starttls\n> wait 60000\n= closed: the backend did not answer in time (TLS handshake)"
            ),
        );
        // Whether it comes in one piece with the reply or later, in clear it is an injection.
        trace(
            tls(mode),
            &format!(
                "{offer}S: 220 go\nS: 250 injected\n= starttls\n= closed: octets in clear came behind the reply to STARTTLS"
            ),
        );
    }
    trace(
        tls(TlsMode::Required),
        &format!("{offer}S: 454 no\n= closed: TLS is required and the backend refused it: 454 no"),
    );
    trace(tls(TlsMode::IfOffered), &format!("{offer}S: 454 no\n= ready"));
    trace(tls(TlsMode::IfOffered), &format!("S: 220 mx\n{MORE}"));
    trace(
        tls(TlsMode::Required),
        "S: 220 mx\nC: EHLO gate.example.test\nS: 250 mx\n= closed: TLS is required and the backend does not offer STARTTLS",
    );
    trace(tls(TlsMode::Implicit), &format!("= starttls\n> tls\nS: 220 mx\n{MORE}"));
}

#[test]
fn what_was_offered_in_clear_is_forgotten() {
    trace(
        tls(TlsMode::Required),
        "S: 220 mx
         C: EHLO gate.example.test
         S: 250-mx
         S: 250-PIPELINING
         S: 250 STARTTLS
         C: STARTTLS
         S: 220 go
         = starttls
         > tls
         C: EHLO gate.example.test
         S: 250 mx
         = ready
         > deliver all 0
         C: MAIL FROM:<s@example.org>
         S: 250 ok
         C: RCPT TO:<a@example.test>
         > eof
         = finished 0 lost at RCPT; spent
         = closed: the backend closed the connection (RCPT)",
    );
}

fn login(mode: TlsMode, in_clear: bool) -> ClientConfig {
    let credentials =
        ClientCredentials { user: "user".into(), password: "pencil".to_owned().into(), ..ClientCredentials::default() };
    let mut config = ClientConfig { auth: Some(credentials), ..tls(mode) };
    config.knobs.auth_in_clear = in_clear;
    config
}

#[test]
fn logins() {
    let offer = |mechanisms: &str| format!("S: 220 x\nC: EHLO gate.example.test\nS: 250-x\nS: 250 AUTH {mechanisms}\n");
    trace(
        login(TlsMode::Never, true),
        &(offer("PLAIN LOGIN") + "C: AUTH PLAIN AHVzZXIAcGVuY2ls\nS: 235 2.7.0 welcome\n= ready"),
    );
    trace(
        login(TlsMode::Never, true),
        &(offer("LOGIN")
            + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dXNlcg==\nS: 334 UGFzc3dvcmQ6\nC: cGVuY2ls\nS: 235 ok\n= ready"),
    );
    trace(
        login(TlsMode::Never, true),
        &(offer("PLAIN")
            + "C: AUTH PLAIN AHVzZXIAcGVuY2ls\nS: 535 5.7.8 no\n= closed: the backend refused the login: 535 5.7.8 no"),
    );
    trace(
        login(TlsMode::Never, false),
        &(offer("PLAIN LOGIN")
            + "= closed: none of the backend's mechanisms can be used here (PLAIN, LOGIN; those that show the password need TLS)"),
    );
    trace(
        login(TlsMode::Never, true),
        "S: 220 x\nC: EHLO gate.example.test\nS: 250 x\n= closed: a login is configured and the backend does not offer AUTH",
    );
    trace(
        login(TlsMode::Never, true),
        &(offer("LOGIN")
            + "C: AUTH LOGIN\nS: 334 &&&\n= closed: the login failed: the server's challenge is not base64"),
    );
}

#[test]
fn a_server_that_cannot_prove_the_password_is_not_trusted() {
    // 235 at once, without the server's half of SCRAM (RFC 5802 §3).
    let mut run = Run::new(login(TlsMode::Never, false), Cut::Whole, 1 << 20);
    run.hear(b"220 x\r\n".to_vec());
    run.hear(b"250-x\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n".to_vec());
    let said = String::from_utf8(run.said.clone()).unwrap();
    assert!(said.contains("AUTH SCRAM-SHA-256 "), "{said}");
    run.hear(b"235 welcome\r\n".to_vec());
    assert!(run.reported.pop_front().unwrap().starts_with("closed: the login failed"));
}

#[test]
fn the_backend_is_told_about_each_client_once() {
    let config = ClientConfig { introduce: Introduce::Xclient, ..plain() };
    let hello =
        "S: 220 mx\nC: EHLO gate.example.test\nS: 250-mx\nS: 250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN FUTURE\n";
    let again = format!("S: 220 mx\n{}", hello.strip_prefix("S: 220 mx\n").unwrap());
    let refused = "C: MAIL FROM:<s@example.org>\nS: 450 no\n= finished 0 refused at MAIL: 450 no; reusable\n";
    let first = "C: XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=4711 PROTO=SMTP HELO=h LOGIN=[UNAVAILABLE]\n";
    let v6 = "C: XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 PORT=1 PROTO=SMTP HELO=h LOGIN=[UNAVAILABLE]\n";
    let nobody =
        "C: XCLIENT NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=SMTP HELO=h LOGIN=[UNAVAILABLE]\n";
    trace(
        config.clone(),
        &format!(
            "{hello}= ready\n> from 192.0.2.7:4711\n> deliver all 0\n{first}{again}{refused}> deliver all 0\n{refused}\
             > from [2001:db8::7]:1\n> deliver all 0\n{v6}{again}{refused}> from nobody\n> deliver all 0\n{nobody}{again}{refused}"
        ),
    );
    // After RSET, without PIPELINING, the introduction waits for the reply.
    trace(
        config.clone(),
        &format!(
            "{hello}= ready\n> from 192.0.2.7:4711\n> deliver all 0\n{first}{again}C: MAIL FROM:<s@example.org>\nS: 250 ok\n\
             C: RCPT TO:<a@example.test>\nS: 550 no\nC: RSET\n= finished 0 refused at RCPT: 550 no; reusable\n\
             > from [2001:db8::7]:1\n> deliver all 0\nS: 250 reset\n{v6}{again}{refused}"
        ),
    );
    trace(
        config.clone(),
        &format!(
            "{hello}= ready\n> from 192.0.2.7:4711\n> deliver all 0\n{first}S: 550 5.7.0 not you\n\
             = finished 0 refused at XCLIENT: 550 5.7.0 not you; spent\n\
             = closed: the backend would not talk to us (XCLIENT): 550 5.7.0 not you"
        ),
    );
    trace(
        config.clone(),
        &format!(
            "{hello}= ready\n> from 192.0.2.7:4711\n> deliver all 0\n{first}> eof\n\
             = finished 0 lost at XCLIENT; spent, stale\n= closed: the backend closed the connection (XCLIENT)"
        ),
    );
    trace(
        config,
        "S: 220 mx\nC: EHLO gate.example.test\nS: 250 mx\n\
         = closed: the backend is to be told about clients by XCLIENT and does not offer it to us",
    );
}
