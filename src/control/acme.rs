//! Gets the server's certificate from an ACME authority and renews it: a thread of its own that sleeps nearly always. What
//! it writes into the data directory the gateway notices and uses, without a restart.
//!
//! How it fails: every failure is a line in the log with what the authority said, and another try, a minute later at first
//! and then less and less often; meanwhile the server uses the certificate it has.

mod answers;

use crate::gateway::acme::{self, AcmeKnobs};
use crate::gateway::config::Config;
use answers::Answers;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// After a failure the next try comes after this, then twice that, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked whether the certificate has become old.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// How long one order may take in all.
const ORDER_MAX: Duration = Duration::from_secs(300);

/// Starts the thread, if the configuration wants certificates from an authority.
pub fn start(config: &Config) -> Result<(), String> {
    let knobs = config.settings.acme.clone();
    if knobs.directory.is_none() {
        return Ok(());
    }
    if !config.certificates.is_empty() {
        tracing::warn!(target: "acme", "there are certificates in the configuration; acme.directory is not used");
        return Ok(());
    }
    let data = config.settings.server.data.clone();
    let domains = match knobs.domains.is_empty() {
        true => vec![config.hostname.lower()],
        false => knobs.domains.clone(),
    };
    std::thread::Builder::new()
        .name("acme".into())
        .spawn(move || keep(&knobs, &data, &domains))
        .map(drop)
        .map_err(|e| format!("cannot start a thread: {e}"))
}

fn keep(knobs: &AcmeKnobs, data: &Path, domains: &[String]) {
    let mut retry = RETRY_MIN;
    loop {
        if let Some(until) = good_until(data, domains)
            && until > SystemTime::now() + knobs.renew_before
        {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
            runtime.block_on(async {
                let order = obtain(knobs, data, domains);
                tokio::time::timeout(ORDER_MAX, order).await.unwrap_or_else(|_| Err("it took too long".into()))
            })
        });
        match result {
            Ok(()) => {
                retry = RETRY_MIN;
                tracing::info!(target: "acme", names = domains.join(" "), "a new certificate");
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(error) => {
                let again_s = retry.as_secs();
                tracing::error!(target: "acme", names = domains.join(" "), error, again_s, "no certificate");
                std::thread::sleep(retry);
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Until when the certificate that is there can be used; `None` when there is none, or it is for other names.
fn good_until(data: &Path, domains: &[String]) -> Option<SystemTime> {
    let pem = fs::read(acme::files(data).chain).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let holds = |name: &String| {
        names
            .value
            .general_names
            .iter()
            .any(|n| matches!(n, x509_parser::extensions::GeneralName::DNSName(n) if n.eq_ignore_ascii_case(name)))
    };
    if !domains.iter().all(holds) {
        return None;
    }
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

async fn obtain(knobs: &AcmeKnobs, data: &Path, domains: &[String]) -> Result<(), String> {
    let directory = acme::directory(data);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    let account = account(knobs, &directory).await?;
    let names: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(|e| format!("the order: {e}"))?;
    // Open until the order is ready or refused.
    let answers = Answers::open(knobs.challenge, knobs.listen())?;
    let kind = match knobs.challenge {
        acme::Challenge::Http01 => ChallengeType::Http01,
        acme::Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|e| format!("an authorization: {e}"))?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => return Err(format!("an authorization is {other:?}")),
        }
        let mut challenge = authorization
            .challenge(kind.clone())
            .ok_or_else(|| format!("the authority offers no {} challenge", knobs.challenge.word()))?;
        let name = challenge.identifier().to_string();
        let proof = challenge.key_authorization();
        answers.add(&name, &challenge.token, proof.as_str(), proof.digest().as_ref())?;
        challenge.set_ready().await.map_err(|e| format!("the challenge for {name}: {e}"))?;
    }
    let patience = RetryPolicy::default();
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready) => {}
        Ok(other) => return Err(refused(&mut order, other, knobs).await),
        Err(error) => return Err(format!("the order: {error} (challenges are answered on {})", knobs.listen())),
    }
    drop(answers);
    let key = Zeroizing::new(order.finalize().await.map_err(|e| format!("the request for the certificate: {e}"))?);
    let chain = order.poll_certificate(&patience).await.map_err(|e| format!("the certificate: {e}"))?;
    let both = Zeroizing::new(format!("{}\n{}", chain.trim_end(), *key));
    let file = acme::files(data).chain;
    write_private(&file, both.as_bytes()).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// What the authority has against the names.
async fn refused(order: &mut instant_acme::Order, status: OrderStatus, knobs: &AcmeKnobs) -> String {
    let mut why = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        why.extend(authorization.challenges.iter().filter_map(|c| c.error.as_ref()).map(|e| e.to_string()));
    }
    let at = knobs.listen();
    match why.is_empty() {
        true => format!("the order is {status:?}"),
        false => format!("{} (challenges are answered on {at})", why.join("; ")),
    }
}

async fn account(knobs: &AcmeKnobs, directory: &Path) -> Result<Account, String> {
    let fail = |e: instant_acme::Error| format!("the account: {e}");
    let builder = || match &knobs.ca_file {
        Some(file) => Account::builder_with_root(file),
        None => Account::builder(),
    };
    let file = directory.join("account.json");
    if let Ok(text) = fs::read_to_string(&file).map(Zeroizing::new) {
        let credentials: AccountCredentials =
            serde_json::from_str(&text).map_err(|e| format!("{} is no account: {e}", file.display()))?;
        return builder().map_err(fail)?.from_credentials(credentials).await.map_err(fail);
    }
    let contact: Vec<&str> = knobs.contact.iter().map(String::as_str).collect();
    let new =
        NewAccount { contact: &contact, terms_of_service_agreed: knobs.agree_to_terms, only_return_existing: false };
    let url = knobs.directory.clone().unwrap_or_default();
    let (account, credentials) = builder().map_err(fail)?.create(&new, url, None).await.map_err(fail)?;
    let text = serde_json::to_string_pretty(&credentials).map(Zeroizing::new).map_err(|e| e.to_string())?;
    write_private(&file, text.as_bytes()).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    Ok(account)
}

/// Whole or not at all, readable by its owner only.
fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
