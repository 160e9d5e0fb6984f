//! DKIM, ARC and DMARC of a whole message (RFC 6376, RFC 8617, RFC 9989), the first two by the `mail-auth` crate.
//!
//! Three steps, so that neither hashing nor a slow name server holds up anybody else: the header section says which
//! records are needed; these are asked for on the lane, side by side; then body and signatures are computed by one of the
//! blocking threads, with those records and nothing else in reach.
//!
//! How it fails: a name server's failure is [`Verified::Temperror`] of what needed the record. A message larger than
//! `lookup.signature_octets_max` is not hashed: its signatures are [`Verified::Policy`] with the reason, and DMARC is
//! decided by SPF where that passes, else [`Verified::Temperror`]. A body that cannot be read is [`Finding::Unknown`].

mod dkim;
mod dmarc;
mod keys;

use super::knobs::{LookupKnobs, Organisation};
use super::names::unknown;
use super::records::Resolve;
use crate::base::body::{Body, Store};
use crate::base::inquiry::{Case, Finding, Signatures, Verified};
use keys::Keys;
use mail_auth::{AuthenticatedMessage, MessageAuthenticator};
use std::io::Read;
use tokio::sync::Semaphore;

/// Signatures of one message that are looked at; further ones are left out (RFC 6376 §8.4: hostile messages have many).
pub(super) const SIGNATURES_MAX: usize = 10;

/// What the checks share.
pub(super) struct Checker {
    /// Never asks: every record is in reach beforehand. `None` when even that could not be made.
    authenticator: Option<MessageAuthenticator>,
    octets_max: u64,
    organisation: Organisation,
    /// Messages whose octets are in memory for a check at once.
    places: Semaphore,
}

impl Checker {
    pub(super) fn new(knobs: &LookupKnobs) -> Checker {
        let nobody = mail_auth::hickory_resolver::config::ResolverConfig::from_name_servers(Vec::new());
        let authenticator = MessageAuthenticator::new(nobody, Default::default())
            .inspect_err(|e| tracing::error!("signatures cannot be checked: {e}"))
            .ok();
        Checker {
            authenticator,
            octets_max: knobs.signature_octets_max,
            organisation: knobs.dmarc_organisation,
            // One more than compute, so that the next is read while these are computed.
            places: Semaphore::new(knobs.blocking_threads + 1),
        }
    }

    /// What the signatures of the message of `case` say.
    pub(super) async fn check(&self, dns: &Resolve, case: &Case) -> Finding {
        let Some(body) = &case.body else { return unknown("signatures", "the message is not here yet") };
        let head = body.head();
        let wanted = Wanted::of(&head);
        let sender = case.spf.iter().map(|spf| spf.domain.to_lowercase());
        let others: Vec<String> = wanted.domains.iter().cloned().chain(sender).collect();
        let policies = dmarc::Records::ask(dns, &wanted.from, &others, self.organisation);
        let (keys, policies) = tokio::join!(Keys::ask(dns, &wanted.keys), policies);
        let mut found = match body.shape.octets > self.octets_max {
            true => too_large(&head, self.octets_max),
            false => match self.computed(body, keys).await {
                Ok(found) => found,
                Err(why) => return unknown("signatures", why),
            },
        };
        policies.judge(case.spf.as_ref(), &mut found);
        Finding::Signatures(Box::new(found))
    }

    async fn computed(&self, body: &Body, keys: Keys) -> Result<Signatures, String> {
        let authenticator = self.authenticator.clone().ok_or("the library could not be started")?;
        let _place = self.places.acquire().await;
        let (body, max) = (body.clone(), self.octets_max);
        let computed = tokio::task::spawn_blocking(move || -> Result<Signatures, String> {
            let raw = read(&body, max)?;
            Ok(dkim::verify(&authenticator, &raw, &keys))
        });
        computed.await.unwrap_or_else(|_| Err("a check failed inside".into()))
    }
}

/// The octets of the message.
fn read(body: &Body, max: u64) -> Result<Vec<u8>, String> {
    match &body.store {
        Store::Memory(chunks) => Ok(chunks.iter().map(|c| c.as_slice()).collect::<Vec<_>>().concat()),
        Store::File { file, .. } => {
            let path = file.path().ok_or("the message is in no file of this machine")?;
            let cannot = |e: std::io::Error| format!("the message cannot be read back: {e}");
            let mut raw = Vec::with_capacity(usize::try_from(body.shape.octets.min(max)).unwrap_or(0));
            // One more than may be: a file that has grown is told from one that fits.
            let file = std::fs::File::open(path).map_err(cannot)?;
            file.take(max.saturating_add(1)).read_to_end(&mut raw).map_err(cannot)?;
            match raw.len() as u64 == body.shape.octets {
                true => Ok(raw),
                false => Err(format!("the message has {} octets where it had {}", raw.len(), body.shape.octets)),
            }
        }
    }
}

/// What the header section says that has to be asked for.
#[derive(Debug, Default)]
struct Wanted {
    /// Names of keys.
    keys: Vec<String>,
    /// Domains in From, lower case, without repeats.
    from: Vec<String>,
    /// Domains that sign.
    domains: Vec<String>,
}

impl Wanted {
    fn of(head: &[u8]) -> Wanted {
        let mut wanted = Wanted::default();
        let Some(message) = AuthenticatedMessage::parse(head) else { return wanted };
        let dkim = message.dkim_headers.iter().take(SIGNATURES_MAX).map(|h| (&h.header.s, &h.header.d));
        for (selector, domain) in dkim {
            push(&mut wanted.keys, format!("{selector}._domainkey.{domain}"));
            push(&mut wanted.domains, domain.to_lowercase());
        }
        // RFC 8617 §5.2: the last message signature and every seal.
        let seals = message.as_headers.iter().take(dkim::ARC_SETS_MAX).map(|h| (&h.header.s, &h.header.d));
        let last = message.ams_headers.last().map(|h| (&h.header.s, &h.header.d));
        for (selector, domain) in seals.chain(last) {
            push(&mut wanted.keys, format!("{selector}._domainkey.{domain}"));
        }
        for address in message.froms() {
            if let Some((_, domain)) = address.rsplit_once('@') {
                push(&mut wanted.from, domain.to_lowercase());
            }
        }
        wanted
    }
}

fn push(list: &mut Vec<String>, value: String) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// A message that is not hashed for its size.
fn too_large(head: &[u8], max: u64) -> Signatures {
    let mut found = Signatures::default();
    let Some(message) = AuthenticatedMessage::parse(head) else { return found };
    let reason = format!("{}{max} octets", dmarc::TOO_LARGE);
    for header in message.dkim_headers.iter().take(SIGNATURES_MAX) {
        found.dkim.push(dkim::described(&header.header, Verified::Policy, Some(&reason)));
    }
    if let Some(seal) = message.as_headers.last() {
        found.arc = Verified::Policy;
        found.arc_domain = Some(seal.header.d.to_lowercase().into());
    }
    found
}
