//! One inquiry, from the question to its finding: who answers which.
//!
//! How it fails: every way ends in a finding, within the time its kind has.

use super::breaker::Breakers;
use super::knobs::LookupKnobs;
use super::names::{helo_host, mail_domain, reverse, unknown};
use super::origin::Origins;
use super::records::{Reach, Records, Resolve};
use super::signatures::Checker;
use super::spf::{self, Subject};
use super::{Consult, listed};
use crate::base::address::Mailbox;
use crate::base::inquiry::{Case, Finding, Inquiry};
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Helpers keep to time limits of their own settings; this ends the wait for one that does not.
const CONSULT_AT_MOST: Duration = Duration::from_secs(600);

/// What findings are made from, shared by the cores and the lane.
pub(super) struct Finder {
    pub(super) records: Arc<Records>,
    pub(super) breakers: Breakers,
    helpers: Option<Arc<dyn Consult>>,
    signatures: Checker,
    origins: Origins,
    deadline: Duration,
}

impl Finder {
    pub(super) fn new(knobs: &LookupKnobs, records: Arc<Records>, helpers: Option<Arc<dyn Consult>>) -> Finder {
        let failures_max = u32::try_from(knobs.list_failures_max).unwrap_or(u32::MAX);
        Finder {
            records,
            breakers: Breakers::new(failures_max, knobs.list_retry_after),
            helpers,
            signatures: Checker::new(knobs),
            origins: Origins::open(&knobs.origin_databases, knobs.origin_check_every),
            deadline: knobs.inquiry_deadline,
        }
    }

    /// The finding, at the latest when its time is over. Needs the lane's runtime.
    pub(super) async fn find(&self, inquiry: &Inquiry, case: Option<&Case>) -> Finding {
        let limit = match inquiry {
            Inquiry::Consult(_) => CONSULT_AT_MOST,
            _ => self.deadline,
        };
        match tokio::time::timeout(limit, self.ask(inquiry, case, Reach::All)).await {
            Ok(finding) => finding,
            Err(_) => match inquiry {
                Inquiry::Spf { client, helo, sender } => spf::out_of_time(sender_of(*client, helo, sender, case)),
                _ => unknown(subject(inquiry), format_args!("not found out within {limit:?}")),
            },
        }
    }

    /// The finding, made from what is at hand; stays pending where that is not enough.
    pub(super) async fn ask(&self, inquiry: &Inquiry, case: Option<&Case>, reach: Reach) -> Finding {
        let dns = &Resolve { records: self.records.clone(), reach };
        match inquiry {
            Inquiry::Reverse(ip) => reverse(dns, *ip).await,
            Inquiry::Listed { zone, subject } => listed::listed(dns, &self.breakers, zone, subject).await,
            Inquiry::MailDomain(domain) => mail_domain(dns, domain).await,
            Inquiry::HeloHost { name, client } => helo_host(dns, name, *client).await,
            Inquiry::Spf { client, helo, sender } => spf::spf(dns, sender_of(*client, helo, sender, case)).await,
            Inquiry::Origin(ip) => self.origins.find(*ip, reach).await,
            Inquiry::Signatures => self.check(dns, case, reach).await,
            Inquiry::Consult(name) => self.consult(name, case, reach).await,
        }
    }

    async fn check(&self, dns: &Resolve, case: Option<&Case>, reach: Reach) -> Finding {
        match (case, reach) {
            (None, _) => unknown("signatures", "it was not told of which message"),
            (Some(_), Reach::Local) => pending().await,
            // Boxed: a core that asks for a name need not make room for this.
            (Some(case), Reach::All) => Box::pin(self.signatures.check(dns, case)).await,
        }
    }

    async fn consult(&self, name: &str, case: Option<&Case>, reach: Reach) -> Finding {
        let (Some(helpers), Some(case)) = (&self.helpers, case) else {
            let why = if case.is_none() { "it was not told about whom" } else { "there is no helper of that name" };
            return unknown(format_args!("helper {name}"), why);
        };
        match reach {
            Reach::Local => pending().await,
            Reach::All => helpers.consult(name, case).await,
        }
    }
}

fn sender_of<'a>(client: IpAddr, helo: &'a str, sender: &'a Option<Mailbox>, case: Option<&'a Case>) -> Subject<'a> {
    // RFC 7208 §7.3: "unknown" where the name of the host that checks is not at hand.
    let host = case.map_or("unknown", |case| case.host.as_str());
    Subject { client, helo, sender: sender.as_ref(), host }
}

/// What an inquiry is about, for reasons and the log.
pub(super) fn subject(inquiry: &Inquiry) -> String {
    match inquiry {
        Inquiry::Reverse(ip) => format!("name of {ip}"),
        Inquiry::Listed { zone, .. } => format!("list {zone}"),
        Inquiry::MailDomain(domain) => format!("mail exchangers of {domain}"),
        Inquiry::HeloHost { name, .. } => format!("address of {name}"),
        Inquiry::Spf { helo, sender, .. } => match sender {
            Some(sender) => format!("SPF of {}", sender.host()),
            None => format!("SPF of {helo}"),
        },
        Inquiry::Origin(ip) => format!("origin of {ip}"),
        Inquiry::Signatures => "signatures".into(),
        Inquiry::Consult(name) => format!("helper {name}"),
    }
}
