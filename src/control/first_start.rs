//! The first start without configuration: an account to try everything with, and the few lines that say how.
//!
//! The account is made only while there is none at all; its password stands in `DATA/demo-password` (mode 0600) until
//! it no longer opens the account. How it fails: one line that names the file; nothing is served then.

use crate::gateway::config::{Config, Listener, ListenerTls, Service};
use crate::gateway::targets::RouteMode;
use crate::mailstore::accounts::{AccountOptions, Accounts};
use crate::reactor::clock;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Letters and digits that are not taken for each other: five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a password: 80 bits.
const PASSWORD_CHARACTERS: usize = 16;

/// The account to try everything with.
pub struct Demo {
    name: String,
    password: Zeroizing<String>,
    file: PathBuf,
}

impl Demo {
    /// The account of the first start: made now, or still as it was made; `None` when the administrator has made others,
    /// or changed its password, or keeps mail elsewhere.
    pub fn prepare(config: &Config) -> Result<Option<Demo>, String> {
        let local = config.routes.iter().any(|route| route.mode == RouteMode::Mailbox);
        let (None, true, Some(domain)) = (&config.file, local, config.domains.first()) else { return Ok(None) };
        let data = &config.settings.server.data;
        let accounts = Accounts::open(data, config.settings.accounts.clone()).map_err(|e| e.to_string())?;
        let name = format!("demo@{}", domain.lower());
        let file = data.join("demo-password");
        let password = match std::fs::read_to_string(&file) {
            Ok(text) => Zeroizing::new(text.trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !accounts.list().is_empty() {
                    return Ok(None);
                }
                let password = random_password()?;
                // The file first: an account whose password nobody knows would be of no use.
                keep(&file, &password)?;
                accounts.add(&name, &password, AccountOptions::default()).map_err(|e| e.to_string())?;
                return Ok(Some(Demo { name, password, file }));
            }
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        if accounts.list().is_empty() {
            // The last start ended between the two.
            accounts.add(&name, &password, AccountOptions::default()).map_err(|e| e.to_string())?;
        } else if !accounts.verify(&name, &password, clock::now()) {
            std::fs::remove_file(&file).map_err(|error| format!("cannot remove {}: {error}", file.display()))?;
            return Ok(None);
        }
        Ok(Some(Demo { name, password, file }))
    }

    /// Where everything listens, and the two commands.
    pub fn welcome(&self, listeners: &[Listener], dashboard: Option<&str>) -> String {
        let mut text = String::from("\nA whole mail system is running on this machine:\n");
        let rows = [
            ("mail in", &[Service::Mx, Service::Lmtp][..]),
            ("submission", &[Service::Submission]),
            ("POP3", &[Service::Pop3]),
            ("IMAP", &[Service::Imap]),
        ];
        for (what, services) in rows {
            let of_row = listeners.iter().filter(|l| services.contains(&l.service));
            let places: Vec<String> = of_row.map(|l| format!("{} ({})", l.address, form(l))).collect();
            if !places.is_empty() {
                let _ = writeln!(text, "  {what:<11} {}", places.join(", ")); // into a string
            }
        }
        if let Some(url) = dashboard {
            let _ = writeln!(text, "  {:<11} {url}", "dashboard");
        }
        let Demo { name, password, file } = self;
        let password = password.as_str();
        let _ = writeln!(
            text,
            "  {:<11} {name}, password {password} (in {} until you change it)",
            "account",
            file.display()
        );
        let first = |service| listeners.iter().find(|l| l.service == service && l.tls != ListenerTls::Implicit);
        if let (Some(mx), Some(imap)) = (first(Service::Mx), first(Service::Imap)) {
            let _ = write!(
                text,
                "Send a mail, then read it:\n  \
                 printf 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n' | \
                 curl -sS smtp://{} --mail-from you@example.org --mail-rcpt {name} -T -\n  \
                 curl -sS --user {name}:{password} 'imap://{}/INBOX;MAILINDEX=1'\n",
                mx.address, imap.address
            );
        }
        text
    }
}

fn form(listener: &Listener) -> &'static str {
    match (listener.service, listener.tls) {
        (_, ListenerTls::Implicit) => "TLS",
        (Service::Pop3, ListenerTls::StartTls) => "STLS",
        (Service::Mx, _) => "SMTP",
        (Service::Lmtp, _) => "LMTP",
        (_, ListenerTls::StartTls) => "STARTTLS",
        (_, ListenerTls::None) => "in clear",
    }
}

fn random_password() -> Result<Zeroizing<String>, String> {
    let mut octets = Zeroizing::new([0; PASSWORD_CHARACTERS]);
    aws_lc_rs::rand::fill(&mut octets[..]).map_err(|_| "the system has no randomness".to_owned())?;
    Ok(Zeroizing::new(octets.iter().map(|o| char::from(ALPHABET[usize::from(o & 31)])).collect()))
}

fn keep(file: &Path, password: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    to.write_all(password.as_bytes()).and_then(|()| to.write_all(b"\n")).and_then(|()| to.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::{Overrides, load};
    use std::os::unix::fs::PermissionsExt;

    fn config(data: &Path) -> Config {
        let mut config = load(None, &Overrides::default()).unwrap().config;
        config.settings.server.data = data.to_owned();
        config
    }

    #[test]
    fn the_account_is_made_once_and_forgotten_when_it_is_changed() {
        let data = tempfile::tempdir().unwrap();
        let config = config(data.path());
        let demo = Demo::prepare(&config).unwrap().unwrap();
        assert_eq!((demo.name.as_str(), demo.password.len()), ("demo@example.test", PASSWORD_CHARACTERS));
        let file = data.path().join("demo-password");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Demo::prepare(&config).unwrap().unwrap();
        assert_eq!(again.password, demo.password);
        let accounts = Accounts::open(data.path(), config.settings.accounts.clone()).unwrap();
        accounts.passwd("demo@example.test", "something else", None).unwrap();
        assert!(Demo::prepare(&config).unwrap().is_none());
        assert!(!file.exists());
        // Nor is it made anew.
        assert!(Demo::prepare(&config).unwrap().is_none());
    }

    #[test]
    fn the_welcome_names_every_place_and_two_commands_that_work() {
        let data = tempfile::tempdir().unwrap();
        let config = config(data.path());
        let demo = Demo::prepare(&config).unwrap().unwrap();
        let text = demo.welcome(&config.listeners, Some("http://127.0.0.1:2580/"));
        assert!(text.contains("  dashboard   http://127.0.0.1:2580/\n"), "{text}");
        for place in
            ["2525 (SMTP)", "2424 (LMTP)", "2587 (STARTTLS)", "2465 (TLS)", "2110 (STLS)", "2995 (TLS)", "2993 (TLS)"]
        {
            assert!(text.contains(place), "{place} in {text}");
        }
        assert!(text.contains("--mail-rcpt demo@example.test -T -\n"), "{text}");
        assert!(
            text.contains(&format!("demo@example.test:{} 'imap://127.0.0.1:2143/INBOX;MAILINDEX=1'", *demo.password))
        );
    }

    #[test]
    fn nobody_is_made_where_mail_goes_elsewhere_or_accounts_exist() {
        let data = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(data.path(), config(data.path()).settings.accounts).unwrap();
        accounts.add("ann@example.test", "secret", AccountOptions::default()).unwrap();
        assert!(Demo::prepare(&config(data.path())).unwrap().is_none());
        let overrides = Overrides { backends: vec!["127.0.0.1:25".into()], ..Overrides::default() };
        let mut elsewhere = load(None, &overrides).unwrap().config;
        elsewhere.settings.server.data = data.path().join("none");
        assert!(Demo::prepare(&elsewhere).unwrap().is_none());
        assert!(!elsewhere.settings.server.data.exists());
    }
}
