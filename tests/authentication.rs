//! TLS, SASL and accounts together, as the gateway joins them: a client logs in over a real handshake, with channel
//! binding to it, against an account file that another process wrote; and somebody in the middle does not.
//!
//! How it fails: a failing test names the mechanism.

#![allow(clippy::unwrap_used)] // helpers of tests; a panic is a failed test

use gatepost::base::buf::Chain;
use gatepost::base::knob::Octets;
use gatepost::base::time::Instant;
use gatepost::base::tls::TlsFacts;
use gatepost::mailstore::accounts::{AccountKnobs, AccountOptions, Accounts};
use gatepost::reactor::tls::{ClientTls, ServerTls, Tls, TlsKnobs, Verify, self_signed};
use gatepost::sasl::client::{self, ClientCredentials, choose};
use gatepost::sasl::server::{Context, Exchange, SaslAnswer, SaslAsk, Step, mechanisms};
use gatepost::sasl::{SaslError, names, nonce};
use std::path::Path;
use std::sync::Arc;

/// What each side knows of a session between them, after its handshake.
fn handshake(server_dir: &Path) -> (TlsFacts, TlsFacts) {
    let made = self_signed(server_dir, "mx.example.test").unwrap();
    let server = Arc::new(ServerTls::load(&[made.files], &TlsKnobs::default()).unwrap());
    let client = ClientTls::load(&Verify::Opportunistic, None, &TlsKnobs::default()).unwrap();
    let (mut client, mut server) = (Tls::client(&client, "mx.example.test").unwrap(), Tls::server(server));
    let mut plain = Vec::new();
    for _ in 0..3 {
        let mut flight = Chain::new();
        client.pending(&mut flight);
        server.received(&flight.to_vec(), &mut plain).unwrap();
        let mut flight = Chain::new();
        server.pending(&mut flight);
        client.received(&flight.to_vec(), &mut plain).unwrap();
    }
    assert!(plain.is_empty());
    (client.facts().unwrap(), server.facts().unwrap())
}

fn accounts(dir: &Path) -> Accounts {
    let knobs = AccountKnobs { argon2_memory: Octets::kib(64), argon2_passes: 1, ..AccountKnobs::default() };
    let accounts = Accounts::open(dir, knobs.clone()).unwrap();
    let command = Accounts::open(dir, knobs).unwrap();
    command.add("ann@example.test", "correct horse", AccountOptions { shared_secret: true }).unwrap();
    accounts
}

fn answer(accounts: &Accounts, ask: SaslAsk) -> SaslAnswer {
    match ask {
        SaslAsk::Password { user, password } => SaslAnswer::Password(accounts.verify(&user, &password, Instant::ZERO)),
        SaslAsk::ScramKeys { user, hash } => SaslAnswer::ScramKeys(accounts.scram_keys(&user, hash)),
        SaslAsk::SharedSecret { user } => SaslAnswer::SharedSecret(accounts.shared_secret(&user)),
        SaslAsk::External { identity, authzid } => SaslAnswer::External(accounts.may_act_as(&identity, &authzid)),
    }
}

fn log_in(
    accounts: &Accounts,
    mechanism: &str,
    client_facts: &TlsFacts,
    server_ctx: Context,
    credentials: &ClientCredentials,
) -> Result<String, SaslError> {
    let binding = Some(&client_facts.channel_binding);
    let (mut client, initial) = client::Exchange::start(mechanism, credentials, [7; 32], binding)?;
    let (mut server, mut step) = Exchange::start(mechanism, initial.as_deref(), server_ctx);
    loop {
        step = match step {
            Step::Challenge(challenge) => server.respond(&client.respond(&challenge)?),
            Step::Ask(ask) => server.answer(answer(accounts, ask)),
            Step::Done { user } => return client.finish(None).map(|()| user),
            Step::Failed(e) => return Err(e),
        };
    }
}

fn context(facts: &TlsFacts, enabled: impl Iterator<Item = &'static str>) -> Context {
    Context {
        enabled: enabled.map(str::to_owned).collect(),
        protected: true,
        channel_binding: Some(facts.channel_binding.clone()),
        nonce: nonce(&[9; 32], 0),
        hostname: "mx.example.test".into(),
        ..Context::default()
    }
}

#[test]
fn a_client_logs_in_with_what_it_chooses() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = accounts(dir.path());
    let (at_client, at_server) = handshake(&dir.path().join("tls"));
    let right = ClientCredentials {
        user: "Ann@Example.test".into(),
        password: "correct horse".to_owned().into(),
        authzid: None,
    };
    let wrong = ClientCredentials { password: "battery staple".to_owned().into(), ..right.clone() };
    let eve = ClientCredentials { user: "eve@example.test".into(), ..right.clone() };

    let everything = mechanisms(&context(&at_server, names()));
    assert_eq!(choose(&everything, true, Some(&at_client.channel_binding), false), Some("SCRAM-SHA-256-PLUS"));
    for mechanism in everything {
        // A server that has no -PLUS form, for the forms without: to have one and not use it is a downgrade.
        let plus = mechanism.ends_with("-PLUS");
        let ctx = || context(&at_server, names().filter(|n| plus || !n.ends_with("-PLUS")));
        let user = log_in(&accounts, mechanism, &at_client, ctx(), &right);
        assert_eq!(user.as_deref(), Ok("ann@example.test"), "{mechanism}");
        for bad in [&wrong, &eve] {
            let outcome = log_in(&accounts, mechanism, &at_client, ctx(), bad);
            assert_eq!(outcome, Err(SaslError::InvalidCredentials), "{mechanism}");
        }
    }
}

#[test]
fn somebody_in_the_middle_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = accounts(dir.path());
    // The client's session ends at the one in the middle, who has another to the server and passes SASL on.
    let (at_client, _) = handshake(&dir.path().join("middle"));
    let (_, at_server) = handshake(&dir.path().join("tls"));
    let right = ClientCredentials {
        user: "ann@example.test".into(),
        password: "correct horse".to_owned().into(),
        authzid: None,
    };
    for mechanism in ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] {
        let outcome = log_in(&accounts, mechanism, &at_client, context(&at_server, names()), &right);
        assert!(matches!(outcome, Err(SaslError::ChannelBinding(_))), "{mechanism}: {outcome:?}");
    }
    // Cutting the -PLUS forms out of the list does not help either.
    let outcome = log_in(&accounts, "SCRAM-SHA-256", &at_client, context(&at_server, names()), &right);
    assert_eq!(outcome, Err(SaslError::Downgrade));
}
