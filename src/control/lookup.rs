//! `gatepost lookup`: what the server would find out about a client, its HELO name, a sender and a message, asked as the
//! server asks, with its configuration.
//!
//! How it fails: what cannot be found out is a line "unknown" with the reason and exit code 1; a message that cannot be
//! read or an argument that makes no sense is one line.

use crate::base::address::{Domain, Host, Mailbox};
use crate::base::body::{Body, BodyShape};
use crate::base::id::SessionId;
use crate::base::inquiry::{Case, Finding, Inquiry, MailDomain, Signatures, Spf, Subject, Verified};
use crate::control::cli::{Failure, ServeArgs, print};
use crate::gateway::config::Config;
use crate::lookup::{Asker, Inquired, Lane, Reply};
use crate::wire::address::{parse_domain, parse_mailbox};
use clap::Args;
use serde_json::{Value, json};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The lane answers everything within its own limits; this is for a lane that has died.
const ANSWER_WITHIN: Duration = Duration::from_secs(700);

/// About whom, and what.
#[derive(Debug, Args)]
pub struct LookupArgs {
    /// File with a message whose signatures are checked; - reads standard input
    #[arg(value_name = "MESSAGE")]
    message: Option<PathBuf>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The name it gave in HELO
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// Sender; "" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Zone of a list to look the client up in; may be repeated
    #[arg(long, value_name = "ZONE", requires = "client")]
    list: Vec<String>,
    /// Zone of a list to look the sender's domain up in; may be repeated
    #[arg(long, value_name = "ZONE", requires = "from")]
    name_list: Vec<String>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Configuration file [default: ./gatepost.toml when it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any knob of the configuration, such as 'lookup.servers=["192.0.2.53"]'; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// Asks, and prints what is found.
pub fn run(args: &LookupArgs) -> Result<(), Failure> {
    let config = ServeArgs::for_command(args.config.clone(), args.set.clone()).load()?.config;
    let mut plan = Plan::of(args)?;
    if plan.inquiries.is_empty() && plan.body.is_none() {
        return Err(Failure::usage("nothing to look up: give --client, --from or a message"));
    }
    if config.settings.lookup.origin_databases.is_empty() {
        plan.inquiries.retain(|(_, inquiry)| !matches!(inquiry, Inquiry::Origin(_)));
    }
    let (told, replies) = channel();
    let (_lane, asker) = Lane::start(&config.settings.lookup, move |(), reply| drop(told.send(reply)))
        .map_err(|e| Failure::new(e.to_string()))?;
    let desk = Desk { asker, replies, json: args.json };
    let mut spf = None;
    let mut unknown = 0;
    for (what, inquiry) in &plan.inquiries {
        let finding = desk.ask(what, inquiry, None)?;
        unknown += u32::from(matches!(finding, Finding::Unknown(_)));
        if let Finding::Spf(found) = finding {
            spf = Some(found);
        }
    }
    if let Some(body) = &plan.body {
        let case = case(&config, &plan, body.clone(), spf);
        let finding = desk.ask("signatures", &Inquiry::Signatures, Some(Arc::new(case)))?;
        unknown += u32::from(matches!(finding, Finding::Unknown(_)));
    }
    match unknown {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} could not be found out"))),
    }
}

/// What the arguments ask for.
struct Plan {
    client: Option<IpAddr>,
    helo: String,
    sender: Option<Mailbox>,
    inquiries: Vec<(String, Inquiry)>,
    body: Option<Body>,
}

impl Plan {
    fn of(args: &LookupArgs) -> Result<Plan, Failure> {
        let wrong =
            |flag: &str, text: &str, why: &dyn std::fmt::Display| Failure::usage(format!("{flag} {text:?}: {why}"));
        let domain = |flag: &str, text: &str| -> Result<Domain, Failure> {
            parse_domain(text).map_err(|e| wrong(flag, text, &e))
        };
        let sender = match args.from.as_deref() {
            None | Some("") => None,
            Some(text) => Some(parse_mailbox(text).map_err(|e| wrong("--from", text, &e))?),
        };
        let mut inquiries = Vec::new();
        if let Some(ip) = args.client {
            inquiries.push(("reverse".to_owned(), Inquiry::Reverse(ip)));
            inquiries.push(("origin".to_owned(), Inquiry::Origin(ip)));
            for zone in &args.list {
                let subject = Subject::Address(ip);
                inquiries.push((format!("list {zone}"), Inquiry::Listed { zone: domain("--list", zone)?, subject }));
            }
            if let Some(helo) = args.helo.as_deref().and_then(|h| parse_domain(h).ok()) {
                inquiries.push(("helo".to_owned(), Inquiry::HeloHost { name: helo, client: ip }));
            }
            if args.from.is_some() || args.helo.is_some() {
                let helo = args.helo.clone().unwrap_or_default().into();
                inquiries.push(("spf".to_owned(), Inquiry::Spf { client: ip, helo, sender: sender.clone() }));
            }
        }
        if let Some(Host::Domain(name)) = sender.as_ref().map(Mailbox::host) {
            inquiries.push(("mail domain".to_owned(), Inquiry::MailDomain(name.clone())));
            for zone in &args.name_list {
                let inquiry =
                    Inquiry::Listed { zone: domain("--name-list", zone)?, subject: Subject::Name(name.clone()) };
                inquiries.push((format!("list {zone}"), inquiry));
            }
        }
        let body = args.message.as_deref().map(read).transpose()?;
        Ok(Plan { client: args.client, helo: args.helo.clone().unwrap_or_default(), sender, inquiries, body })
    }
}

/// The lane, and how its findings are printed.
struct Desk {
    asker: Asker<()>,
    replies: Receiver<Reply>,
    json: bool,
}

impl Desk {
    fn ask(&self, what: &str, inquiry: &Inquiry, case: Option<Arc<Case>>) -> Result<Finding, Failure> {
        let started = Instant::now();
        let finding = match self.asker.inquire((), inquiry, case) {
            Inquired::Now((), finding) => finding,
            Inquired::Waiting => match self.replies.recv_timeout(ANSWER_WITHIN) {
                Ok(Reply::Finding(finding)) => finding,
                _ => return Err(Failure::new("the lookup lane does not answer")),
            },
        };
        let took = started.elapsed();
        match self.json {
            true => {
                let ms = took.as_micros() as f64 / 1000.0;
                print(&format!("{}\n", json!({ "lookup": what, "finding": as_json(&finding), "ms": ms })))?;
            }
            false => print(&format!("{what:<22} {}   ({:.1} ms)\n", as_text(&finding), took.as_secs_f64() * 1000.0))?,
        }
        Ok(finding)
    }
}

fn case(config: &Config, plan: &Plan, body: Body, spf: Option<Spf>) -> Case {
    let client = plan.client.unwrap_or(Ipv4Addr::LOCALHOST.into());
    Case {
        session: SessionId(0),
        host: config.hostname.clone(),
        listener: "mx".into(),
        client: SocketAddr::new(client, 0),
        local: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 25),
        client_name: None,
        helo: plan.helo.clone(),
        tls: None,
        user: None,
        sender: plan.sender.clone(),
        recipients: Vec::new(),
        transaction: 1,
        spf,
        body: Some(body),
    }
}

/// Reads a message; lines of a file may end in LF, those of the wire end in CRLF.
fn read(path: &Path) -> Result<Body, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
    let mut octets = Vec::new();
    match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut octets).map_err(fail)?,
        _ => std::fs::File::open(path).map_err(fail)?.read_to_end(&mut octets).map_err(fail)?,
    };
    let mut lines = Vec::with_capacity(octets.len() + octets.len() / 32);
    for (at, b) in octets.iter().enumerate() {
        if *b == b'\n' && (at == 0 || octets[at - 1] != b'\r') {
            lines.push(b'\r');
        }
        lines.push(*b);
    }
    let header = memchr::memmem::find(&lines, b"\r\n\r\n").map_or(lines.len(), |at| at + 4);
    let shape = BodyShape {
        octets: lines.len() as u64,
        header_octets: header as u64,
        eight_bit: !lines.is_ascii(),
        ends_with_crlf: lines.is_empty() || lines.ends_with(b"\r\n"),
        ..BodyShape::default()
    };
    Ok(Body::memory(shape, vec![Arc::new(lines)]))
}

fn mail_domain(found: MailDomain) -> &'static str {
    match found {
        MailDomain::Exchangers => "mx",
        MailDomain::Address => "address",
        MailDomain::NullMx => "null-mx",
        MailDomain::Nothing => "none",
    }
}

fn as_text(finding: &Finding) -> String {
    let name = |name: &Option<Domain>| name.as_ref().map_or_else(|| "-".to_owned(), Domain::to_string);
    match finding {
        Finding::Reverse { claimed, confirmed } => match (claimed, confirmed) {
            (None, _) => "no name".into(),
            (_, Some(confirmed)) => format!("{confirmed}, confirmed"),
            (claimed, None) => format!("{}, not confirmed", name(claimed)),
        },
        Finding::Listed(codes) if codes.is_empty() => "not listed".into(),
        Finding::Listed(codes) => {
            let codes: Vec<String> = codes.iter().map(Ipv4Addr::to_string).collect();
            format!("listed: {}", codes.join(", "))
        }
        Finding::MailDomain(found) => mail_domain(*found).into(),
        Finding::HeloHost(true) => "has the client's address".into(),
        Finding::HeloHost(false) => "does not have the client's address".into(),
        Finding::Spf(spf) => {
            let of = if spf.of_helo { "HELO " } else { "" };
            let why = spf.explanation.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("{} for {of}{}{why}", spf.result.word(), spf.domain)
        }
        Finding::Origin { asn, country } => {
            let asn = asn.map_or_else(|| "-".into(), |n| format!("AS{n}"));
            format!("{asn} {}", country.as_deref().unwrap_or("-"))
        }
        Finding::Signatures(found) => signatures(found),
        Finding::Advice(advice) => advice.action.word().into(),
        Finding::Unknown(why) => format!("unknown: {why}"),
    }
}

/// One line each, below the first.
fn signatures(found: &Signatures) -> String {
    let mut lines = vec![format!(
        "dmarc {} for {}, which asks for {}",
        found.dmarc.word(),
        found.from_domain.as_deref().unwrap_or("nobody"),
        found.dmarc_policy.unwrap_or("nothing")
    )];
    for dkim in &found.dkim {
        let why = dkim.reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        lines.push(format!("dkim {} of {} (selector {}){why}", dkim.result.word(), dkim.domain, dkim.selector));
    }
    if found.arc != Verified::None {
        lines.push(format!("arc {} of {}", found.arc.word(), found.arc_domain.as_deref().unwrap_or("-")));
    }
    lines.join(&format!("\n{:23}", ""))
}

fn as_json(finding: &Finding) -> Value {
    let name = |name: &Option<Domain>| name.as_ref().map(Domain::to_string);
    match finding {
        Finding::Reverse { claimed, confirmed } => json!({ "claimed": name(claimed), "confirmed": name(confirmed) }),
        Finding::Listed(codes) => json!({ "codes": codes.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>() }),
        Finding::MailDomain(found) => json!({ "mail": mail_domain(*found) }),
        Finding::HeloHost(matches) => json!({ "matches": matches }),
        Finding::Spf(spf) => json!({
            "result": spf.result.word(), "domain": spf.domain, "of_helo": spf.of_helo, "explanation": spf.explanation,
        }),
        Finding::Origin { asn, country } => json!({ "asn": asn, "country": country }),
        Finding::Signatures(found) => {
            let dkim = |d: &crate::base::inquiry::Dkim| json!({ "result": d.result.word(), "domain": d.domain, "selector": d.selector, "reason": d.reason });
            json!({
                "dkim": found.dkim.iter().map(dkim).collect::<Vec<_>>(),
                "arc": found.arc.word(), "arc_domain": found.arc_domain,
                "dmarc": found.dmarc.word(), "from": found.from_domain, "policy": found.dmarc_policy,
            })
        }
        Finding::Advice(advice) => json!({ "action": advice.action.word() }),
        Finding::Unknown(why) => json!({ "unknown": why }),
    }
}
