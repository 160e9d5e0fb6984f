//! Client and server pumps against each other in memory, and everything that can be wrong with files.
//!
//! How it fails: a failing test names the case.

use super::*;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An authority in a scratch directory.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca_file: PathBuf,
}

impl Authority {
    fn new() -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let certificate = params.self_signed(&key).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, certificate.pem()).unwrap();
        Authority { dir, issuer: Issuer::new(params, key), ca_file }
    }

    fn issue(&self, file: &str, params: CertificateParams, key: &KeyPair) -> CertificateFiles {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        let chain = self.dir.path().join(format!("{file}.pem"));
        let key_file = self.dir.path().join(format!("{file}.key"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        CertificateFiles { chain, key: key_file }
    }

    fn server(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        self.issue(file, CertificateParams::new(names).unwrap(), &KeyPair::generate().unwrap())
    }

    fn client(&self, file: &str, common_name: &str, mail: Option<&str>) -> CertificateFiles {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names.extend(mail.map(|m| SanType::Rfc822Name(m.try_into().unwrap())));
        self.issue(file, params, &KeyPair::generate().unwrap())
    }

    fn by_name(&self) -> Verify {
        Verify::Name { ca_file: Some(self.ca_file.clone()) }
    }
}

fn server(certificates: &[CertificateFiles]) -> Arc<ServerTls> {
    Arc::new(ServerTls::load(certificates, &TlsKnobs::default()).unwrap())
}

fn client(verify: &Verify) -> ClientTls {
    ClientTls::load(verify, None, &TlsKnobs::default()).unwrap()
}

fn digest_of_file(path: &Path) -> String {
    fingerprint(&files::certificates(path).unwrap()[0])
}

/// Two pumps joined by a wire that cuts as it likes.
struct Joined {
    client: Tls,
    server: Tls,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    at_server: Vec<u8>,
    at_client: Vec<u8>,
    /// Greatest piece the wire delivers at once, in turn.
    cuts: Vec<usize>,
    turn: usize,
    handshakes_done: usize,
    closed_seen: usize,
}

impl Joined {
    fn new(client: Tls, server: Tls, cuts: &[usize]) -> Joined {
        Joined {
            client,
            server,
            to_server: vec![],
            to_client: vec![],
            at_server: vec![],
            at_client: vec![],
            cuts: cuts.to_vec(),
            turn: 0,
            handshakes_done: 0,
            closed_seen: 0,
        }
    }

    /// Delivers until nothing moves.
    fn run(&mut self) -> Result<(), TlsError> {
        loop {
            let (mut a, mut b) = (Chain::new(), Chain::new());
            self.client.pending(&mut a);
            self.server.pending(&mut b);
            self.to_server.extend(a.to_vec());
            self.to_client.extend(b.to_vec());
            if self.to_server.is_empty() && self.to_client.is_empty() {
                return Ok(());
            }
            self.turn += 1;
            let cut = self.cuts[self.turn % self.cuts.len()];
            for (tls, wire, plain) in [
                (&mut self.server, &mut self.to_server, &mut self.at_server),
                (&mut self.client, &mut self.to_client, &mut self.at_client),
            ] {
                let piece: Vec<u8> = wire.drain(..wire.len().min(cut)).collect();
                if !piece.is_empty() {
                    let state = tls.received(&piece, plain)?;
                    self.handshakes_done += usize::from(state.handshake_done_now);
                    self.closed_seen += usize::from(state.peer_closed);
                }
            }
        }
    }

    fn client_says(&mut self, text: &[u8]) {
        let mut out = Chain::new();
        self.client.send(&Chain::from(text.to_vec()), &mut out);
        self.to_server.extend(out.to_vec());
    }

    fn server_says(&mut self, chain: &Chain) {
        let mut out = Chain::new();
        self.server.send(chain, &mut out);
        self.to_client.extend(out.to_vec());
    }
}

fn join(client: &ClientTls, server: &Arc<ServerTls>, name: &str) -> Joined {
    Joined::new(Tls::client(client, name).unwrap(), Tls::server(server.clone()), &[usize::MAX])
}

/// A session after its handshake.
fn established(client: &ClientTls, server: &Arc<ServerTls>, name: &str) -> Joined {
    let mut joined = join(client, server, name);
    joined.run().unwrap();
    assert!(joined.client.is_established() && joined.server.is_established());
    joined
}

#[test]
fn a_session_from_greeting_to_close() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    let client = client(&authority.by_name());
    for cuts in [&[usize::MAX][..], &[1], &[3, 1000, 7], &[16 * 1024 + 5]] {
        let mut joined = join(&client, &server, "mx.example.test");
        joined.cuts = cuts.to_vec();
        joined.client_says(b"EHLO early\r\n"); // kept until the handshake is over
        joined.run().unwrap();
        assert_eq!(joined.handshakes_done, 2, "told once on each side");
        assert_eq!(joined.at_server, b"EHLO early\r\n");

        let big = Arc::new((0..300_000u32).map(|i| i as u8).collect::<Vec<u8>>());
        let mut chain = Chain::new();
        chain.push(Segment::Static(b"250 "));
        chain.push(Segment::shared(big.clone()));
        chain.push_bytes(b"\r\n");
        joined.server_says(&chain);
        joined.run().unwrap();
        assert!(joined.at_client == chain.to_vec());

        let mut out = Chain::new();
        joined.client.close(&mut out);
        joined.to_server.extend(out.to_vec());
        joined.run().unwrap();
        assert_eq!(joined.closed_seen, 1);
    }
}

#[test]
fn both_sides_know_the_same_of_a_session() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    let joined = established(&client(&authority.by_name()), &server, "mx.example.test");
    let (c, s) = (joined.client.facts().unwrap(), joined.server.facts().unwrap());
    assert_eq!((c.version, s.version), ("TLSv1.3", "TLSv1.3"));
    assert_eq!(c.cipher, s.cipher);
    assert_eq!(c.cipher_bits, if c.cipher.contains("128") { 128 } else { 256 });
    assert_eq!(s.sni.as_deref(), Some("mx.example.test"));
    assert_eq!(c.channel_binding, s.channel_binding);
    assert!(c.channel_binding.tls_exporter.is_some());
    assert_eq!(c.channel_binding.tls_server_end_point.as_ref().map(Vec::len), Some(32), "ECDSA with SHA-256");
    assert_eq!(s.client_identity, None);
    assert!(!s.resumed);
    let other = established(&client(&authority.by_name()), &server, "mx.example.test").server.facts().unwrap();
    assert_ne!(other.channel_binding.tls_exporter, s.channel_binding.tls_exporter, "each session has its own");
}

#[test]
fn tls_1_2_is_spoken_where_allowed_and_has_no_exporter() {
    let authority = Authority::new();
    let files = authority.server("mx", &["mx.example.test"]);
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(files::authorities(&authority.ca_file).unwrap())
        .with_no_client_auth();
    let old = |server: &Arc<ServerTls>| {
        let name = rustls::pki_types::ServerName::try_from("mx.example.test").unwrap();
        let connection = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        let client =
            Tls { side: Side::Client { connection: Box::new(connection.into()) }, established: false, early: None };
        let mut joined = Joined::new(client, Tls::server(server.clone()), &[100]);
        joined.run().map(|()| joined)
    };
    let mut joined = old(&server(std::slice::from_ref(&files))).unwrap();
    let facts = joined.server.facts().unwrap();
    assert_eq!(facts.version, "TLSv1.2");
    assert_eq!(facts.channel_binding.tls_exporter, None);
    assert_eq!(facts.channel_binding, joined.client.facts().unwrap().channel_binding);
    joined.client_says(b"QUIT\r\n");
    joined.run().unwrap();
    assert_eq!(joined.at_server, b"QUIT\r\n");

    let strict = ServerTls::load(&[files], &TlsKnobs { min_version: TlsVersion::V13, ..TlsKnobs::default() }).unwrap();
    assert!(matches!(old(&Arc::new(strict)).map(|_| ()), Err(TlsError::Incompatible(_))));
}

#[test]
fn certificates_are_chosen_by_name() {
    let authority = Authority::new();
    let server = server(&[
        authority.server("default", &["default.test"]),
        authority.server("a", &["a.test", "also-a.test"]),
        authority.server("wild", &["*.wild.test"]),
    ]);
    let prints = server.fingerprints();
    for (name, expected) in [
        ("default.test", 0),
        ("A.test", 1),
        ("also-a.test", 1),
        ("x.wild.test", 2),
        ("x.y.wild.test", 0),
        ("wild.test", 0),
    ] {
        let pin: Pin = prints[expected].parse().unwrap();
        let joined = established(&client(&Verify::Pinned(vec![pin])), &server, name);
        let end_points =
            [&joined.client, &joined.server].map(|t| t.facts().unwrap().channel_binding.tls_server_end_point);
        assert_eq!(end_points[0], end_points[1], "{name}");
    }
    // By address no name is sent, so the default answers.
    let pin = Verify::Pinned(vec![prints[0].parse().unwrap()]);
    assert_eq!(established(&client(&pin), &server, "192.0.2.1").server.facts().unwrap().sni, None);
}

#[test]
fn a_second_certificate_of_a_name_serves_other_keys() {
    let authority = Authority::new();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = || CertificateParams::new(vec!["mx.example.test".to_owned()]).unwrap();
    let server = server(&[
        authority.issue("rsa", params(), &rsa),
        authority.issue("ecdsa", params(), &KeyPair::generate().unwrap()),
    ]);
    let prints = server.fingerprints();
    let pins = |i: usize| Verify::Pinned(vec![prints[i].parse().unwrap()]);
    established(&client(&pins(0)), &server, "mx.example.test");
    // A client that cannot check RSA gets the ECDSA certificate.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let algorithms = &mut provider.signature_verification_algorithms;
    let is_ecdsa = |scheme| scheme == rustls::SignatureScheme::ECDSA_NISTP256_SHA256;
    algorithms.mapping = algorithms.mapping.iter().copied().filter(|row| is_ecdsa(row.0)).collect::<Vec<_>>().leak();
    let provider = Arc::new(provider);
    let verifier = verify::WithoutAuthority::pinned(provider.clone(), vec![prints[1].parse().unwrap()]);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("mx.example.test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let client =
        Tls { side: Side::Client { connection: Box::new(connection.into()) }, established: false, early: None };
    let mut joined = Joined::new(client, Tls::server(server), &[usize::MAX]);
    joined.run().unwrap();
    assert!(joined.client.is_established());
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new();
    let files = authority.server("mx", &["mx.example.test"]);
    for (resumption, expected) in [(true, true), (false, false)] {
        let knobs = TlsKnobs { resumption, ..TlsKnobs::default() };
        let server = Arc::new(ServerTls::load(std::slice::from_ref(&files), &knobs).unwrap());
        let client = client(&authority.by_name());
        let first = established(&client, &server, "mx.example.test").server.facts().unwrap();
        let second = established(&client, &server, "mx.example.test");
        let (c, s) = (second.client.facts().unwrap(), second.server.facts().unwrap());
        assert!(!first.resumed);
        assert_eq!((c.resumed, s.resumed), (expected, expected));
        assert_eq!(c.channel_binding, s.channel_binding, "binding holds for resumed sessions too");
        assert_ne!(first.channel_binding.tls_exporter, s.channel_binding.tls_exporter);
    }
}

#[test]
fn backends_are_verified_as_asked() {
    let authority = Authority::new();
    let files = authority.server("mx", &["mx.example.test", "192.0.2.7"]);
    let server = server(std::slice::from_ref(&files));
    let outcome = |verify: &Verify, name: &str| {
        let mut joined = join(&client(verify), &server, name);
        joined.run().map(|()| joined.client.is_established())
    };
    let unverified = |result: Result<bool, TlsError>, said: &str| match result {
        Err(TlsError::Unverified(why)) => assert!(why.contains(said), "{why}"),
        other => panic!("expected the certificate to be refused, got {other:?}"),
    };
    assert_eq!(outcome(&authority.by_name(), "mx.example.test"), Ok(true));
    assert_eq!(outcome(&authority.by_name(), "mx.example.test."), Ok(true));
    assert_eq!(outcome(&authority.by_name(), "[192.0.2.7]"), Ok(true));
    unverified(outcome(&authority.by_name(), "other.example.test"), "not valid for name");
    unverified(outcome(&authority.by_name(), "192.0.2.8"), "not valid for name");
    unverified(outcome(&Authority::new().by_name(), "mx.example.test"), "pin the certificate");

    let print = digest_of_file(&files.chain);
    let key_print = certificate::key_digest_of(&files::certificates(&files.chain).unwrap()[0]).unwrap();
    let key_print = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key_print);
    for pin in [
        print.clone(),
        format!("sha256:{}", print.to_lowercase().replace(':', "")),
        key_print.clone(),
        format!("sha256//{key_print}"),
    ] {
        assert_eq!(outcome(&Verify::Pinned(vec![pin.parse().unwrap()]), "whatever_name"), Ok(true), "{pin}");
    }
    let wrong: Pin = "00".repeat(32).parse().unwrap();
    unverified(outcome(&Verify::Pinned(vec![wrong]), "mx.example.test"), &print);
    assert_eq!(outcome(&Verify::Pinned(vec![wrong, print.parse().unwrap()]), "mx.example.test"), Ok(true));
    assert_eq!(outcome(&Verify::Opportunistic, "mx.other.test"), Ok(true));

    assert!(matches!(Tls::client(&client(&authority.by_name()), "a b"), Err(TlsError::BadName(_))));
    for bad in ["", "sha256:", "zz", &"0".repeat(63), &"0".repeat(66)] {
        assert!(bad.parse::<Pin>().is_err(), "{bad:?}");
    }
    assert!(ClientTls::load(&Verify::Pinned(vec![]), None, &TlsKnobs::default()).is_err());
}

#[test]
fn the_server_hears_why_it_was_refused() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    let mut joined = join(&client(&authority.by_name()), &server, "other.test");
    assert!(matches!(joined.run(), Err(TlsError::Unverified(_))));
    let heard = joined.run();
    assert!(matches!(heard, Err(TlsError::Refused(_))), "{heard:?}");
    assert_eq!(joined.server.facts(), None);
}

#[test]
fn client_certificates_name_their_holders() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let knobs = TlsKnobs { client_ca_file: Some(authority.ca_file.clone()), ..TlsKnobs::default() };
    let server = Arc::new(ServerTls::load(&[authority.server("mx", &["mx.example.test"])], &knobs).unwrap());
    let identity = |own: Option<&CertificateFiles>| {
        let client = ClientTls::load(&authority.by_name(), own, &TlsKnobs::default()).unwrap();
        let full = established(&client, &server, "mx.example.test").server.facts().unwrap();
        let resumed = established(&client, &server, "mx.example.test").server.facts().unwrap();
        assert!(resumed.resumed);
        assert_eq!(full.client_identity, resumed.client_identity, "also in a resumed session");
        full.client_identity
    };
    let ann = authority.client("ann", "Ann Lee", Some("ann@example.test"));
    assert_eq!(identity(Some(&ann)).as_deref(), Some("ann@example.test"));
    let host = authority.client("host", "relay.example.test", None);
    assert_eq!(identity(Some(&host)).as_deref(), Some("relay.example.test"));
    // Another authority's certificate lets in as nobody, but it does let in.
    assert_eq!(identity(Some(&stranger.client("eve", "ann@example.test", Some("ann@example.test")))), None);
    assert_eq!(identity(None), None);
    assert_eq!(identity(Some(&authority.client("nul", "ann\0evil", None))), None);
}

#[test]
fn without_client_authorities_nobody_has_an_identity() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    let ann = authority.client("ann", "Ann", Some("ann@example.test"));
    let client = ClientTls::load(&authority.by_name(), Some(&ann), &TlsKnobs::default()).unwrap();
    assert_eq!(established(&client, &server, "mx.example.test").server.facts().unwrap().client_identity, None);
}

#[test]
fn what_is_not_tls_is_told_so_and_answered() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    for garbage in [&b"EHLO client.example\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x80\x2e\x01\x00\x02"] {
        let mut tls = Tls::server(server.clone());
        let mut plain = vec![];
        assert_eq!(tls.received(garbage, &mut plain), Err(TlsError::NotTls), "{garbage:?}");
        assert_eq!(tls.received(b"more", &mut plain), Err(TlsError::NotTls), "it stays so");
        assert!(plain.is_empty());
        let mut out = Chain::new();
        tls.send(&Chain::from(b"secret".to_vec()), &mut out);
        tls.pending(&mut out);
        tls.close(&mut out);
        assert_eq!(out.to_vec().first(), Some(&21), "an alert record, and nothing else");
        assert!(out.octets() <= 16);
    }
    let mut tls = Tls::client(&client(&authority.by_name()), "mx.example.test").unwrap();
    assert_eq!(tls.received(b"220 mx ESMTP\r\n", &mut vec![]), Err(TlsError::NotTls));
}

#[test]
fn a_changed_bit_is_noticed() {
    let authority = Authority::new();
    let server = server(&[authority.server("mx", &["mx.example.test"])]);
    let mut joined = established(&client(&authority.by_name()), &server, "mx.example.test");
    joined.client_says(b"MAIL FROM:<ann@example.test>\r\n");
    *joined.to_server.last_mut().unwrap() ^= 1;
    assert!(matches!(joined.run(), Err(TlsError::Violation(_))));
    assert!(joined.at_server.is_empty());
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let authority = Authority::new();
    let good = authority.server("good", &["a.test"]);
    let other = authority.server("other", &["b.test"]);
    let file = |name: &str, content: &str| {
        let path = authority.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let load = |chain: &Path, key: &Path| {
        let files = CertificateFiles { chain: chain.to_owned(), key: key.to_owned() };
        ServerTls::load(&[files], &TlsKnobs::default()).unwrap_err().to_string()
    };
    let missing = authority.dir.path().join("missing.pem");
    let encrypted =
        file("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    let nonsense = file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (chain, key, said) in [
        (&missing, &good.key, "missing.pem: No such file"),
        (&good.chain, &missing, "missing.pem: No such file"),
        (&good.chain, &other.key, "other.key does not belong to the first certificate in"),
        (&file("empty", ""), &good.key, "the file is empty"),
        (&good.chain, &file("empty", ""), "the file is empty"),
        (&good.key, &good.key, "swapped"),
        (&good.chain, &good.chain, "swapped"),
        (&file("der", "\u{1}\u{2}"), &good.key, "expected PEM, not DER"),
        (&good.chain, &encrypted, "has a passphrase"),
        (&broken, &good.key, "the PEM is damaged"),
        (&nonsense, &good.key, "the first certificate cannot be used"),
        (&authority.dir.path().to_owned(), &good.key, "expected a PEM file"),
    ] {
        let e = load(chain, key);
        assert!(e.contains(said), "expected {said:?} in {e:?}");
    }
    assert!(ServerTls::load(&[], &TlsKnobs::default()).is_err());
    let knobs = TlsKnobs { client_ca_file: Some(missing.clone()), ..TlsKnobs::default() };
    assert!(ServerTls::load(&[good], &knobs).unwrap_err().to_string().contains("missing.pem"));
    let e = ClientTls::load(&Verify::Name { ca_file: Some(missing) }, None, &TlsKnobs::default()).unwrap_err();
    assert!(e.to_string().contains("missing.pem"));
}

#[test]
fn a_certificate_is_made_at_first_start_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let made = self_signed(&tls, "MX.example.test").unwrap();
    assert!(made.made_now);
    let again = self_signed(&tls, "other.test").unwrap();
    assert!(!again.made_now);
    assert_eq!(made.fingerprint, again.fingerprint);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&tls), mode(&made.files.key)), (0o700, 0o600));

    let server = server(std::slice::from_ref(&made.files));
    assert_eq!(server.fingerprints(), std::slice::from_ref(&made.fingerprint));
    let by_name = Verify::Name { ca_file: Some(made.files.chain.clone()) };
    for name in ["mx.example.test", "localhost", "127.0.0.1", "::1"] {
        established(&client(&by_name), &server, name);
    }
    established(&client(&Verify::Pinned(vec![made.fingerprint.parse().unwrap()])), &server, "mx.example.test");

    // A lost certificate is made anew for the same key, so pins on the key hold; a lost key is the owner's business.
    let key = std::fs::read(&made.files.key).unwrap();
    std::fs::remove_file(&made.files.chain).unwrap();
    assert!(self_signed(&tls, "mx.example.test").unwrap().made_now);
    assert_eq!(std::fs::read(&made.files.key).unwrap(), key);
    std::fs::remove_file(&made.files.key).unwrap();
    assert!(self_signed(&tls, "mx.example.test").unwrap_err().to_string().contains("key.pem is missing"));
    assert!(self_signed(&dir.path().join("x"), "not a\u{e9} name").is_err());
}

#[test]
fn the_end_point_is_hashed_as_the_certificate_is_signed() {
    let octets = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        certificate::server_end_point(certificate.der()).map(|hash| hash.len())
    };
    assert_eq!(octets(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
    assert_eq!(octets(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
    assert_eq!(octets(&rcgen::PKCS_RSA_SHA256), Some(32));
    assert_eq!(octets(&rcgen::PKCS_RSA_SHA512), Some(64));
    assert_eq!(octets(&rcgen::PKCS_ED25519), None, "RFC 5929 §4.1 leaves it undefined");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cut_gives_the_same_plaintext(
        cuts in prop::collection::vec(1usize..5000, 1..6),
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 1..4),
    ) {
        let (client, server) = fixture();
        let mut joined = join(client, server, "mx.example.test");
        joined.cuts = cuts;
        let mut chain = Chain::new();
        for message in &messages {
            joined.client_says(message);
            chain.push(Segment::Owned(message.clone()));
        }
        joined.server_says(&chain);
        joined.run().unwrap();
        prop_assert!(joined.at_server == messages.concat());
        prop_assert!(joined.at_client == messages.concat());
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(garbage in prop::collection::vec(any::<u8>(), 1..300), head in prop::option::of(0usize..400), at in 0usize..3000) {
        let (client, server) = fixture();
        // At the start, or behind the beginning of a real handshake, or in place of some octets of it.
        let mut hello = Chain::new();
        Tls::client(client, "mx.example.test").unwrap().pending(&mut hello);
        let hello = hello.to_vec();
        let mut bytes = head.map_or_else(Vec::new, |n| hello[..n.min(hello.len())].to_vec());
        bytes.extend_from_slice(&garbage);
        let mut replaced = hello.clone();
        for (i, b) in garbage.iter().enumerate() {
            let i = (at + i) % replaced.len();
            replaced[i] = *b;
        }
        for bytes in [bytes, replaced] {
            let mut tls = Tls::server(server.clone());
            let mut plain = vec![];
            for piece in bytes.chunks(97) {
                if tls.received(piece, &mut plain).is_err() {
                    break;
                }
            }
            prop_assert!(plain.is_empty() && !tls.is_established());
            let mut out = Chain::new();
            tls.pending(&mut out);
            tls.close(&mut out);
            let mut peer = Tls::client(client, "mx.example.test").unwrap();
            let _ = peer.received(&garbage, &mut plain);
            prop_assert!(plain.is_empty());
        }
    }
}

/// Keys cost time, so property tests share a pair.
fn fixture() -> (&'static ClientTls, &'static Arc<ServerTls>) {
    static PAIR: std::sync::OnceLock<(ClientTls, Arc<ServerTls>)> = std::sync::OnceLock::new();
    let (client, server) = PAIR.get_or_init(|| {
        let authority = Authority::new();
        (client(&authority.by_name()), server(&[authority.server("mx", &["mx.example.test"])]))
    });
    (client, server)
}
