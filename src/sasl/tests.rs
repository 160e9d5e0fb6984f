//! Client against server for every mechanism, offers by context, order of turns, and bytes that nobody meant.
//!
//! How it fails: a failing test names the case.

use super::client::{self, ClientCredentials, choose};
use super::server::{Context, Exchange, SaslAnswer, SaslAsk, Step, mechanisms};
use super::*;
use crate::wire::prep;
use proptest::prelude::*;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

const USER: &str = "ann@example.test";
const PASSWORD: &str = "correct horse";

fn full_context() -> Context {
    Context {
        enabled: names().map(str::to_owned).collect(),
        protected: true,
        channel_binding: binding(),
        external_identity: Some(USER.into()),
        nonce: [5; 32],
        hostname: "mx.example.test".into(),
        timestamp: crate::base::time::WallTime::from_millis(1_795_437_121_042),
    }
}

fn binding() -> Option<ChannelBinding> {
    Some(ChannelBinding { tls_exporter: Some([3; 32]), tls_server_end_point: Some(vec![4; 48]) })
}

/// A keeper of one account.
fn keeper(ask: &SaslAsk, user: &str, password: &str) -> SaslAnswer {
    let known = ask.user() == user;
    match ask {
        SaslAsk::Password { password: said, .. } => {
            let same = matches!((prep::password(said), prep::password(password)), (Ok(a), Ok(b)) if a == b);
            SaslAnswer::Password(known && same)
        }
        SaslAsk::ScramKeys { user, hash } if !known => {
            SaslAnswer::ScramKeys(ScramKeys::decoy(*hash, b"k", user, 16, 4096))
        }
        SaslAsk::ScramKeys { hash, .. } => {
            let prepared = prep::password(password).unwrap();
            let keys =
                ScramKeys::derive(*hash, prepared.as_bytes(), b"0123456789abcdef", NonZeroU32::new(4096).unwrap());
            SaslAnswer::ScramKeys(keys)
        }
        SaslAsk::SharedSecret { .. } => {
            SaslAnswer::SharedSecret(known.then(|| Zeroizing::new(password.as_bytes().to_vec())))
        }
        SaslAsk::External { identity, authzid } => SaslAnswer::External(identity == authzid && known),
    }
}

/// Runs a client against a server whose keeper knows [`USER`] with `kept`, as SMTP would carry it.
fn run(mechanism: &str, credentials: &ClientCredentials, kept_user: &str, kept: &str) -> Result<String, SaslError> {
    run_bound(mechanism, credentials, kept_user, kept, binding())
}

fn run_bound(
    mechanism: &str,
    credentials: &ClientCredentials,
    kept_user: &str,
    kept: &str,
    client_binding: Option<ChannelBinding>,
) -> Result<String, SaslError> {
    let (mut client, initial) = client::Exchange::start(mechanism, credentials, [6; 32], client_binding.as_ref())?;
    let (mut server, mut step) = Exchange::start(mechanism, initial.as_deref(), full_context());
    for _ in 0..10 {
        step = match step {
            Step::Challenge(challenge) => server.respond(&client.respond(&challenge)?),
            Step::Ask(ask) => server.answer(keeper(&ask, kept_user, kept)),
            Step::Done { user } => return client.finish(None).map(|()| user),
            Step::Failed(e) => return Err(e),
        };
    }
    panic!("{mechanism} goes round in circles")
}

fn credentials(user: &str, password: &str) -> ClientCredentials {
    ClientCredentials { user: user.into(), password: password.to_owned().into(), authzid: None }
}

/// A client with channel binding says `y` to forms without it, which this server rightly takes for a downgrade.
fn unbound_scram(name: &str) -> bool {
    name.starts_with("SCRAM") && !name.ends_with("-PLUS")
}

#[test]
fn both_halves_of_every_mechanism_agree() {
    for name in names().filter(|name| !unbound_scram(name)) {
        assert_eq!(
            run(name, &credentials("Ann@Example.Test", PASSWORD), USER, PASSWORD).as_deref(),
            Ok(USER),
            "{name}"
        );
        if name != "EXTERNAL" {
            let wrong = run(name, &credentials(USER, "wrong"), USER, PASSWORD);
            assert_eq!(wrong, Err(SaslError::InvalidCredentials), "{name}");
            let unknown = run(name, &credentials("eve@example.test", PASSWORD), USER, PASSWORD);
            assert_eq!(unknown, wrong, "{name}: an unknown user and a wrong password look alike");
        }
    }
    for name in names().filter(|name| unbound_scram(name)) {
        assert_eq!(run(name, &credentials(USER, PASSWORD), USER, PASSWORD), Err(SaslError::Downgrade), "{name}");
        let plain_client = |password| run_bound(name, &credentials(USER, password), USER, PASSWORD, None);
        assert_eq!(plain_client(PASSWORD).as_deref(), Ok(USER), "{name}");
        assert_eq!(plain_client("wrong"), Err(SaslError::InvalidCredentials), "{name}");
    }
}

#[test]
fn an_unknown_user_gets_the_same_shape_of_challenge_each_time() {
    let challenge = |user: &str| {
        let first = format!("n,,n={user},r=abc");
        let (mut exchange, step) = Exchange::start("SCRAM-SHA-256", Some(first.as_bytes()), full_context());
        let Step::Ask(ask) = step else { panic!("expected an ask, got {step:?}") };
        let Step::Challenge(c) = exchange.answer(keeper(&ask, USER, PASSWORD)) else { panic!("expected a challenge") };
        c
    };
    assert_eq!(challenge("eve"), challenge("eve"));
    assert_eq!(challenge("eve").len(), challenge(USER).len());
}

#[test]
fn offers_follow_the_context() {
    let everything: Vec<&str> = names().collect();
    assert_eq!(mechanisms(&full_context()), everything);
    let open = Context { protected: false, channel_binding: None, external_identity: None, ..full_context() };
    assert_eq!(mechanisms(&open), ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"]);
    let few = Context { enabled: vec!["plain".into(), "SCRAM-SHA-256".into()], ..full_context() };
    assert_eq!(mechanisms(&few), ["SCRAM-SHA-256", "PLAIN"]);
    assert!(mechanisms(&Context::default()).is_empty());

    let start = |name, ctx| Exchange::start(name, Some(b""), ctx).1;
    assert_eq!(start("PLAIN", open.clone()), Step::Failed(SaslError::EncryptionRequired));
    assert_eq!(start("EXTERNAL", open.clone()), Step::Failed(SaslError::UnknownMechanism));
    assert_eq!(start("SCRAM-SHA-1-PLUS", open), Step::Failed(SaslError::UnknownMechanism));
    assert_eq!(start("LOGIN", few), Step::Failed(SaslError::UnknownMechanism));
    assert_eq!(start("KERBEROS_V4", full_context()), Step::Failed(SaslError::UnknownMechanism));
}

#[test]
fn a_client_chooses_the_strongest_it_can_use() {
    let offered = ["LOGIN", "plain", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XYZ"];
    assert_eq!(choose(&offered, true, binding().as_ref(), false), Some("SCRAM-SHA-256-PLUS"));
    assert_eq!(choose(&offered, true, None, false), Some("SCRAM-SHA-256"));
    assert_eq!(choose(&offered[..2], true, None, false), Some("PLAIN"));
    assert_eq!(choose(&offered[..2], false, None, false), None, "a password is never shown to an open wire");
    assert_eq!(choose(&["EXTERNAL", "PLAIN"], true, None, false), Some("PLAIN"));
    assert_eq!(choose(&["EXTERNAL", "PLAIN"], true, None, true), Some("EXTERNAL"));
}

#[test]
fn plain_messages_to_the_letter() {
    let plain = |message: &[u8]| Exchange::start("PLAIN", Some(message), full_context()).1;
    let ask = |user: &str, password: &str| {
        Step::Ask(SaslAsk::Password { user: user.into(), password: password.to_owned().into() })
    };
    assert_eq!(plain(b"\0Tim\0tanstaaftanstaaf"), ask("tim", "tanstaaftanstaaf"));
    assert_eq!(plain(b"TIM\0tim\0pw"), ask("tim", "pw"));
    assert_eq!(plain(b"Ursel\0Kurt\0xipj3plmq"), Step::Failed(SaslError::NotAuthorized)); // the example of RFC 4616 §4
    let long = [b"\0tim\0".as_slice(), &[b'x'; prep::PASSWORD_OCTETS_MAX + 1]].concat();
    for bad in
        [&b""[..], b"tim", b"\0tim", b"\0tim\0", b"\0\0pw", b"\0tim\0pw\0", b"\0t\xffm\0pw", b"\0tim\0\xff", &long]
    {
        assert!(matches!(plain(bad), Step::Failed(SaslError::Malformed(_))), "{bad:?}");
    }
    assert_eq!(plain(&vec![b'x'; MESSAGE_OCTETS_MAX + 1]), Step::Failed(SaslError::TooLong));
}

#[test]
fn login_takes_the_user_with_the_command_too() {
    let (mut exchange, step) = Exchange::start("login", Some(USER.as_bytes()), full_context());
    assert_eq!(step, Step::Challenge(b"Password:".to_vec()));
    assert!(matches!(exchange.respond(PASSWORD.as_bytes()), Step::Ask(_)));
    assert_eq!(exchange.answer(SaslAnswer::Password(true)), Step::Done { user: USER.into() });
    assert_eq!(exchange.mechanism(), "LOGIN");
}

#[test]
fn cram_md5_challenges_are_new_and_the_server_speaks_first() {
    let challenge = |attempt| {
        let ctx = Context { nonce: nonce(&[1; 32], attempt), ..full_context() };
        let (_, Step::Challenge(c)) = Exchange::start("CRAM-MD5", None, ctx) else { panic!("expected a challenge") };
        String::from_utf8(c).unwrap()
    };
    assert_ne!(challenge(0), challenge(1));
    assert!(challenge(0).ends_with(".1795437121@mx.example.test>"));
    let (_, step) = Exchange::start("CRAM-MD5", Some(b"x"), full_context());
    assert!(matches!(step, Step::Failed(SaslError::Malformed(_))));
}

#[test]
fn an_account_that_did_not_opt_in_cannot_use_cram_md5() {
    // The digest of an empty secret is known to everybody.
    let (mut client, _) = client::Exchange::start("CRAM-MD5", &credentials(USER, ""), [0; 32], None).unwrap();
    for secret in [None, Some(Zeroizing::new(Vec::new()))] {
        let (mut server, Step::Challenge(c)) = Exchange::start("CRAM-MD5", None, full_context()) else {
            panic!("expected a challenge")
        };
        assert!(matches!(server.respond(&client.respond(&c).unwrap()), Step::Ask(_)));
        assert_eq!(server.answer(SaslAnswer::SharedSecret(secret)), Step::Failed(SaslError::InvalidCredentials));
    }
}

#[test]
fn calls_out_of_turn_fail_and_end_it() {
    let (mut exchange, _) = Exchange::start("PLAIN", None, full_context());
    assert!(matches!(exchange.answer(SaslAnswer::Password(true)), Step::Failed(SaslError::OutOfOrder(_))));
    assert!(matches!(exchange.respond(b"\0ann\0pw"), Step::Failed(SaslError::OutOfOrder(_))));

    let (mut exchange, _) = Exchange::start("PLAIN", Some(b"\0ann\0pw"), full_context());
    assert!(matches!(exchange.respond(b"\0ann\0pw"), Step::Failed(SaslError::OutOfOrder(_))));

    let (mut exchange, _) = Exchange::start("PLAIN", Some(b"\0ann\0pw"), full_context());
    let step = exchange.answer(SaslAnswer::External(true));
    assert!(matches!(step, Step::Failed(SaslError::OutOfOrder(_))), "an answer to another question never lets in");

    let (mut exchange, _) = Exchange::start("PLAIN", Some(b"\0ann\0pw"), full_context());
    assert_eq!(exchange.answer(SaslAnswer::Unavailable), Step::Failed(SaslError::Unavailable));
    assert!(matches!(exchange.answer(SaslAnswer::Password(true)), Step::Failed(SaslError::OutOfOrder(_))));
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let (exchange, step) = Exchange::start("PLAIN", Some(b"\0ann\0hunter2"), full_context());
    let answer = SaslAnswer::SharedSecret(Some(Zeroizing::new(b"hunter2".to_vec())));
    let all = format!("{exchange:?} {step:?} {:?} {answer:?}", credentials("ann", "hunter2"));
    assert!(!all.contains("hunter2"), "{all}");
}

fn any_mechanism() -> impl Strategy<Value = &'static str> {
    prop::sample::select(names().collect::<Vec<_>>())
}

/// Bytes that look enough like SASL to come far.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[ny],(a=[a-z]{0,3})?,n=[a-z=,]{0,5},r=[a-zA-Z0-9,]{0,30}".prop_map(String::into_bytes),
        "c=[a-zA-Z0-9+/=]{0,12},r=[a-zA-Z0-9]{0,30},p=[a-zA-Z0-9+/=]{0,30}".prop_map(String::into_bytes),
        "[rsivem]=[ -~]{0,20},[rsivem]=[ -~]{0,20},i=[0-9]{1,5}".prop_map(String::into_bytes),
        "[a-z]{0,5} [0-9a-f]{30,34}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 128 } else { 2048 }))]

    #[test]
    fn arbitrary_bytes_never_panic_and_never_let_in(name in any_mechanism(), messages in prop::collection::vec(any_message(), 1..5)) {
        let (mut exchange, mut step) = Exchange::start(name, messages.first().map(Vec::as_slice), full_context());
        for message in &messages[1..] {
            step = match step {
                Step::Ask(ask) => exchange.answer(keeper(&ask, USER, PASSWORD)),
                Step::Done { .. } => { prop_assert_eq!(name, "EXTERNAL"); break }
                _ => exchange.respond(message),
            };
        }
        if let Ok((mut client, _)) = client::Exchange::start(name, &credentials(USER, PASSWORD), [0; 32], None) {
            for message in &messages {
                let _ = client.respond(message);
            }
            if name.starts_with("SCRAM") {
                prop_assert!(client.finish(None).is_err());
            }
        }
    }

    #[test]
    fn any_name_and_password_work_alike_on_both_sides(
        name in any_mechanism().prop_filter("see unbound_scram", |n| !unbound_scram(n) && *n != "EXTERNAL"),
        user in "[^\\pC ]{1,20}",
        password in "[^\\pC]{1,20}",
    ) {
        let (Ok(prepared), Ok(_)) = (prep::user_name(user.as_bytes()), prep::password(&password)) else { return Ok(()) };
        let result = run(name, &credentials(&user, &password), &prepared, &password);
        prop_assert_eq!(result, Ok(prepared));
    }
}
