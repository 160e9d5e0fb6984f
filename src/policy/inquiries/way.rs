//! How something that rules need is to be had where the session stands: by asking, without asking, or not yet.
//!
//! How it fails: it does not.

use super::{Topic, Way};
use crate::base::address::Mailbox;
use crate::base::inquiry::{Inquiry, Subject};
use crate::policy::dnsbl::Of;
use crate::policy::facts::greeting::literal;
use crate::policy::session::Session;
use crate::policy::stage::Stage;
use crate::policy::value::Given;
use crate::policy::walk::Need;
use crate::wire::address::parse_domain;
use std::net::IpAddr;

impl Session {
    /// How something needed is to be had where the session stands.
    pub(super) fn way(&self, need: Need<'_>) -> Way {
        let client = self.state.peer.ip;
        let standing = self.inquiries.standing.unwrap_or(Stage::Connect);
        let greeted = !self.state.greeting.name.is_empty();
        let mail = matches!(standing, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message);
        let message = matches!(standing, Stage::Data | Stage::Message);
        let Some(ip) = client else { return Way::NotYet };
        match need {
            Need::Topic(Topic::Reverse) => Way::Ask(Inquiry::Reverse(ip), Stage::Connect),
            Need::Topic(Topic::Origin) => Way::Ask(Inquiry::Origin(ip), Stage::Connect),
            Need::Topic(Topic::HeloHost) if greeted => {
                let name = &self.state.greeting.name;
                if let Some(address) = literal(name) {
                    return Way::Known(Given::Flag(address.to_canonical() == ip));
                }
                match parse_domain(name.trim_end_matches('.')) {
                    Ok(name) => Way::Ask(Inquiry::HeloHost { name, client: ip }, Stage::Helo),
                    Err(_) => Way::Known(Given::Flag(false)),
                }
            }
            Need::Topic(Topic::MailDomain) if mail => match self.state.transaction.sender.domain() {
                "" => Way::Known(Given::Text(String::new())),
                // RFC 5321 §5.1: a literal is where it says.
                literal if literal.starts_with('[') => Way::Known(Given::Text("address".into())),
                name => match parse_domain(name) {
                    Ok(name) => Way::Ask(Inquiry::MailDomain(name), Stage::Mail),
                    Err(_) => Way::Known(Given::Text("none".into())),
                },
            },
            Need::Topic(Topic::Spf) if mail => self.ask_spf(ip, self.inquiries.sender.clone()),
            Need::Topic(Topic::SpfHelo) if greeted => self.ask_spf(ip, None),
            Need::Topic(Topic::Signatures) if message => Way::Ask(Inquiry::Signatures, Stage::Message),
            Need::Topic(Topic::Dmarc) if message && self.inquiries.spf.is_some() => {
                Way::Ask(Inquiry::Signatures, Stage::Message)
            }
            // DMARC wants SPF's word, and may as well have it early.
            Need::Topic(Topic::Dmarc) if mail && self.inquiries.spf.is_none() => {
                self.ask_spf(ip, self.inquiries.sender.clone())
            }
            Need::Topic(Topic::Content(_)) if message => Way::Known(Given::Unknown),
            Need::Topic(_) => Way::NotYet,
            Need::Dnsbl(name) => self.ask_list(name, ip),
            Need::Helper(name) if message || standing == Stage::Rcpt => {
                Way::Ask(Inquiry::Consult(name.into()), Stage::Rcpt)
            }
            Need::Helper(_) => Way::NotYet,
        }
    }

    fn ask_spf(&self, client: IpAddr, sender: Option<Mailbox>) -> Way {
        // Of the null sender it is that of the HELO name, which lasts longer than the transaction.
        let since = if sender.is_some() { Stage::Mail } else { Stage::Helo };
        Way::Ask(Inquiry::Spf { client, helo: self.state.greeting.name.as_str().into(), sender }, since)
    }

    fn ask_list(&self, name: &str, ip: IpAddr) -> Way {
        let Some(list) = self.policy.dnsbls.iter().find(|d| d.name == name) else { return Way::NotYet };
        let named = |text: &str| match parse_domain(text.trim_end_matches('.')) {
            Ok(name) if text.contains('.') => {
                Way::Ask(Inquiry::Listed { zone: list.zone.clone(), subject: Subject::Name(name) }, list.of.stage())
            }
            // What is no name is in no list.
            _ => Way::Known(Given::Score(0)),
        };
        let standing = self.inquiries.standing.unwrap_or(Stage::Connect);
        match list.of {
            Of::Client => {
                Way::Ask(Inquiry::Listed { zone: list.zone.clone(), subject: Subject::Address(ip) }, Stage::Connect)
            }
            Of::Helo if !self.state.greeting.name.is_empty() => named(&self.state.greeting.name),
            Of::Sender if (Stage::Mail..=Stage::Message).contains(&standing) => {
                named(self.state.transaction.sender.domain())
            }
            Of::Helo | Of::Sender => Way::NotYet,
        }
    }
}
