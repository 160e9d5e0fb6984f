//! SCRAM against the examples of its RFCs, and against whoever stands between.
//!
//! How it fails: a failing test names the case.

use super::server::Server;
use super::*;
use crate::base::scram::ScramKeys;
use crate::base::tls::ChannelBinding;
use crate::sasl::client::{ClientContext, Connect};
use crate::sasl::server::{Context, Exchange, SaslAnswer, SaslAsk, Serve, Step};
use std::num::NonZeroU32;

/// The server of an RFC example: its nonce is set by hand, so the state is driven below [`Exchange`].
struct Example {
    hash: ScramHash,
    client_first: &'static str,
    server_nonce: &'static str,
    salt: &'static str,
    server_first: &'static str,
    client_final: &'static str,
    server_final: &'static str,
}

const RFC_5802: Example = Example {
    hash: ScramHash::Sha1,
    client_first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    server_nonce: "3rfcNHYJY1ZVvWVs7j",
    salt: "QSXCR+Q6sek8bf92",
    server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    server_final: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
};

const RFC_7677: Example = Example {
    hash: ScramHash::Sha256,
    client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

#[test]
fn server_half_as_the_rfcs_have_it() {
    for example in [RFC_5802, RFC_7677] {
        let form = Form { hash: example.hash, binding: Binding::Unbound };
        let ctx = Context::default();
        let mut server = Server::with_nonce(form, example.server_nonce);
        let asked = server.respond(&ctx, example.client_first.as_bytes());
        assert_eq!(asked, Step::Ask(SaslAsk::ScramKeys { user: "user".into(), hash: example.hash }));
        let salt = STANDARD.decode(example.salt).unwrap();
        let keys = ScramKeys::derive(example.hash, b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        let challenge = |text: &str| Step::Challenge(text.as_bytes().to_vec());
        assert_eq!(server.answer(&ctx, SaslAnswer::ScramKeys(keys)), challenge(example.server_first));
        assert_eq!(server.respond(&ctx, example.client_final.as_bytes()), challenge(example.server_final));
        assert_eq!(server.respond(&ctx, b""), Step::Done { user: "user".into() });
    }
}

#[test]
fn client_half_as_the_rfcs_have_it() {
    for example in [RFC_5802, RFC_7677] {
        let form = Form { hash: example.hash, binding: Binding::Unbound };
        let credentials = crate::sasl::client::ClientCredentials {
            user: "user".into(),
            password: "pencil".to_owned().into(),
            authzid: None,
        };
        let ctx = ClientContext { credentials, nonce: [0; 32], channel_binding: None };
        let nonce = example.client_first.split_once("r=").unwrap().1;
        let mut client = client::Client::with_nonce(form, ctx, nonce);
        assert_eq!(client.initial().unwrap().unwrap(), example.client_first.as_bytes());
        assert_eq!(client.respond(example.server_first.as_bytes()).unwrap(), example.client_final.as_bytes());
        assert_eq!(client.respond(example.server_final.as_bytes()).unwrap(), b"");
        client.finish().unwrap();
    }
}

fn bound(exporter: u8) -> Option<ChannelBinding> {
    Some(ChannelBinding { tls_exporter: Some([exporter; 32]), tls_server_end_point: Some(vec![9; 32]) })
}

fn context(enabled: &[&str], channel_binding: Option<ChannelBinding>) -> Context {
    let enabled = enabled.iter().map(|s| (*s).to_owned()).collect();
    Context { enabled, protected: true, channel_binding, ..Context::default() }
}

#[test]
fn a_list_cut_short_on_the_way_is_noticed() {
    let ctx = context(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], bound(1));
    let (_, step) = Exchange::start("SCRAM-SHA-256", Some(b"y,,n=ann,r=abc"), ctx);
    assert_eq!(step, Step::Failed(SaslError::Downgrade));
    // Where no -PLUS form is offered, y is the truth.
    for ctx in [context(&["SCRAM-SHA-256"], bound(1)), context(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], None)] {
        let (_, step) = Exchange::start("SCRAM-SHA-256", Some(b"y,,n=ann,r=abc"), ctx);
        assert!(matches!(step, Step::Ask(_)), "{step:?}");
    }
}

#[test]
fn grammar_that_is_refused() {
    let cases: [(&str, &[u8]); 14] = [
        ("SCRAM-SHA-256", b"p=tls-exporter,,n=ann,r=abc"),
        ("SCRAM-SHA-256-PLUS", b"n,,n=ann,r=abc"),
        ("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=ann,r=abc"),
        ("SCRAM-SHA-256", b"x,,n=ann,r=abc"),
        ("SCRAM-SHA-256", b"n,a=bob,n=ann,r=abc"),
        ("SCRAM-SHA-256", b"n,b=ann,n=ann,r=abc"),
        ("SCRAM-SHA-256", b"n,,m=x,n=ann,r=abc"),
        ("SCRAM-SHA-256", b"n,,n=ann"),
        ("SCRAM-SHA-256", b"n,,n=ann,r="),
        ("SCRAM-SHA-256", b"n,,n=ann,r=a\x7fb"),
        ("SCRAM-SHA-256", b"n,,n=a=nn,r=abc"),
        ("SCRAM-SHA-256", b"n,,n=,r=abc"),
        ("SCRAM-SHA-256", b"n"),
        ("SCRAM-SHA-256", b"\xff,,n=ann,r=abc"),
    ];
    for (name, message) in cases {
        let (_, step) =
            Exchange::start(name, Some(message), context(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], bound(1)));
        assert!(matches!(step, Step::Failed(_)), "{name} {:?}: {step:?}", String::from_utf8_lossy(message));
    }
    let long = format!("n,,n=ann,r={}", "a".repeat(NONCE_OCTETS_MAX + 1));
    let (_, step) = Exchange::start("SCRAM-SHA-256", Some(long.as_bytes()), context(&["SCRAM-SHA-256"], None));
    assert_eq!(step, Step::Failed(SaslError::Malformed("the client's nonce is too long")));
}

#[test]
fn the_second_message_must_repeat_binding_and_nonce() {
    let start = |message: &[u8]| {
        let ctx = context(&["SCRAM-SHA-256-PLUS"], bound(1));
        let (mut exchange, _) = Exchange::start("SCRAM-SHA-256-PLUS", Some(message), ctx);
        let keys = ScramKeys::derive(ScramHash::Sha256, b"pw", b"salt", NonZeroU32::new(4096).unwrap());
        let Step::Challenge(first) = exchange.answer(SaslAnswer::ScramKeys(keys)) else {
            panic!("expected a challenge")
        };
        let nonce = String::from_utf8(first).unwrap().split(',').next().unwrap()[2..].to_owned();
        (exchange, nonce)
    };
    let right = STANDARD.encode(binding_input("p=tls-exporter,,", &[1; 32]));
    let other_session = STANDARD.encode(binding_input("p=tls-exporter,,", &[2; 32]));
    let stripped = STANDARD.encode("n,,");
    let proof = STANDARD.encode([0; 32]);
    let hello = b"p=tls-exporter,,n=ann,r=abc";
    for (binding, nonce_suffix, proof, expected) in [
        (&right, "", proof.as_str(), "user name or password is wrong"),
        (&other_session, "", &proof, "channel binding failed"),
        (&stripped, "", &proof, "channel binding failed"),
        (&right, "x", &proof, "nonce"),
        (&right, "", "AAAA", "wrong length"),
        (&right, "", "!", "not base64"),
    ] {
        let (mut exchange, nonce) = start(hello);
        let step = exchange.respond(format!("c={binding},r={nonce}{nonce_suffix},p={proof}").as_bytes());
        let Step::Failed(e) = step else { panic!("expected a failure, got {step:?}") };
        assert!(e.to_string().contains(expected), "{e}");
        assert!(matches!(exchange.respond(b""), Step::Failed(SaslError::OutOfOrder(_))), "it is over");
    }
}

#[test]
fn a_client_is_not_fooled_by_a_server() {
    let start = || {
        let credentials = crate::sasl::client::ClientCredentials {
            user: "ann".into(),
            password: "pencil".to_owned().into(),
            authzid: None,
        };
        let ctx = ClientContext { credentials, nonce: [7; 32], channel_binding: None };
        let mut client = client::Client::new(Form { hash: ScramHash::Sha256, binding: Binding::Unbound }, ctx);
        client.initial().unwrap();
        client
    };
    let ours = printable_nonce(&[7; 32]);
    for message in [
        format!("r={ours},s=c2FsdA==,i=4096"),        // adds nothing of its own
        "r=other,s=c2FsdA==,i=4096".to_owned(),       // is not ours
        format!("r={ours}x,s=c2FsdA==,i=1"),          // cheap to attack
        format!("r={ours}x,s=c2FsdA==,i=4294967295"), // would hold the core
        format!("r={ours}x,s=c2FsdA==,i=-5"),
        format!("r={ours}x,s=!,i=4096"),
        format!("m=x,r={ours}x,s=c2FsdA==,i=4096"),
    ] {
        assert!(start().respond(message.as_bytes()).is_err(), "{message}");
    }
    let mut client = start();
    client.respond(format!("r={ours}x,s=c2FsdA==,i=4096").as_bytes()).unwrap();
    assert!(matches!(client.finish(), Err(SaslError::ServerNotProven(_))), "success without a signature");
    let mut client = start();
    client.respond(format!("r={ours}x,s=c2FsdA==,i=4096").as_bytes()).unwrap();
    assert!(matches!(client.respond(b"v=AAAA"), Err(SaslError::ServerNotProven(_))));
    let mut client = start();
    client.respond(format!("r={ours}x,s=c2FsdA==,i=4096").as_bytes()).unwrap();
    assert_eq!(client.respond(b"e=invalid-proof"), Err(SaslError::InvalidCredentials));
}

#[test]
fn names_with_commas_and_equals_signs() {
    for name in ["a,b", "a=b", "=2C", "==,,"] {
        assert_eq!(unescape_name(&escape_name(name)).unwrap(), name);
    }
    assert!(unescape_name("a=2c").is_err(), "lower case is not the RFC's");
}
