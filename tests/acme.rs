//! Certificates from an ACME authority: pebble, the authority that Let's Encrypt tests with, on loopback. How it fails: the
//! panic shows what the server and the authority said.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Gate, find_program, gatepost, run, skipped, wait_for};

/// An authority and the name server it asks; ended by their ids.
struct Authority {
    children: Vec<Child>,
    directory: String,
    ca: std::path::PathBuf,
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_dns_port() -> u16 {
    // Both kinds are needed on one number.
    wait_for("a port", || {
        let port = free_port();
        UdpSocket::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

/// Starts both; challenges are looked for on `port`, whichever kind they are.
fn authority(dir: &Path, port: u16) -> Option<Authority> {
    let pebble = find_program(&["pebble"])?;
    let names = find_program(&["pebble-challtestsrv"])?;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), leaf.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), leaf_key.serialize_pem()).unwrap();
    let (api, management, dns) = (free_port(), free_port(), free_dns_port());
    let config = format!(
        r#"{{"pebble":{{"listenAddress":"127.0.0.1:{api}","managementListenAddress":"127.0.0.1:{management}",
        "certificate":"{0}/cert.pem","privateKey":"{0}/key.pem","httpPort":{port},"tlsPort":{port},
        "ocspResponderURL":"","externalAccountBindingRequired":false}}}}"#,
        dir.display()
    );
    std::fs::write(dir.join("pebble.json"), config).unwrap();
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let names = quiet(
        Command::new(names)
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{}", free_port())]),
    );
    let pebble = quiet(
        Command::new(pebble)
            .args(["-config", dir.join("pebble.json").to_str().unwrap(), "-dnsserver", &format!("127.0.0.1:{dns}")])
            // It would wait for seconds before it looks, and refuse good nonces now and then; we have that from the library.
            .env("PEBBLE_VA_NOSLEEP", "1"),
    );
    let authority = Authority {
        children: vec![names, pebble],
        directory: format!("https://localhost:{api}/dir"),
        ca: dir.join("ca.pem"),
    };
    let at: SocketAddr = ([127, 0, 0, 1], api).into();
    wait_for("the authority", || std::net::TcpStream::connect(at).ok());
    Some(authority)
}

/// Who signed the certificate that a client is shown.
fn issuer(gate: &Gate) -> Option<String> {
    let openssl = find_program(&["openssl"])?;
    let at = gate.address("imaps").to_string();
    let ran = run(
        Command::new(openssl).args(["s_client", "-connect", &at, "-servername", "mx.example.test"]),
        "a logout\r\n",
    );
    ran.out.lines().find(|l| l.starts_with("issuer")).map(str::to_owned)
}

#[test]
fn a_certificate_is_got_and_used_without_a_restart() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let Some(authority) = authority(dir.path(), port) else { return skipped("pebble, the ACME test authority") };
        if find_program(&["openssl"]).is_none() {
            return skipped("openssl");
        }
        let file = dir.path().join("gatepost.toml");
        let text = format!(
            "[server]\nhostname = \"mx.example.test\"\n[acme]\ndirectory = \"{}\"\nagree_to_terms = true\nchallenge = \"{challenge}\"\n\
             listen = \"127.0.0.1:{port}\"\nca_file = \"{}\"\ndomains = [\"mx.example.test\", \"imap.example.test\"]\n",
            authority.directory,
            authority.ca.display(),
        );
        std::fs::write(&file, text).unwrap();
        let data = dir.path().join("data");
        let mut gate = Gate::start_in(&data, &["--config", file.to_str().unwrap(), "--port-base", "0"]);
        let first = issuer(&gate).unwrap();
        assert!(!first.contains("Pebble"), "{challenge}: at first there is only one of our own: {first}");
        wait_for(&format!("a certificate by {challenge}"), || {
            assert!(!gate.said().contains("no certificate"), "{}", gate.said());
            issuer(&gate).filter(|i| i.contains("Pebble"))
        });
        let kept = data.join("acme/certificate.pem");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        // It is there from the first client on after a restart, and not asked for again.
        let before = std::fs::read(&kept).unwrap();
        gate.restart();
        assert!(issuer(&gate).unwrap().contains("Pebble"), "{challenge}");
        assert_eq!(std::fs::read(&kept).unwrap(), before);
    }
}

#[test]
fn an_authority_that_refuses_is_told_of_and_mail_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody answers where the authority looks.
    let Some(authority) = authority(dir.path(), free_port()) else { return skipped("pebble, the ACME test authority") };
    let set = |key: &str, value: &str| format!("acme.{key}={value}");
    let sets = [
        set("directory", &authority.directory),
        set("agree_to_terms", "true"),
        set("listen", &format!("127.0.0.1:{}", free_port())),
        set("ca_file", authority.ca.to_str().unwrap()),
        set("domains", "[\"mx.example.test\"]"),
    ];
    let args: Vec<&str> = sets.iter().flat_map(|s| ["--set", s.as_str()]).collect();
    let gate = Gate::start(&args);
    wait_for("the refusal", || gate.said().contains("no certificate").then_some(()));
    assert!(gate.said().contains("acme:error:connection"), "{}", gate.said());
    gate.talk().say("NOOP", "250");
}

#[test]
fn terms_must_be_agreed_to() {
    let ran = run(gatepost().args(["check", "--set", "acme.directory=https://ca.example/dir"]), "");
    assert!(!ran.ok && ran.err.contains("acme.agree_to_terms"), "{ran:?}");
    let ran = run(gatepost().args(["check", "--set", "acme.directory=http://ca.example/dir"]), "");
    assert!(!ran.ok && ran.err.contains("https://"), "{ran:?}");
}
