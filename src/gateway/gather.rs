//! Finds out what rules need: starts a session's inquiries as soon as their inputs are known, and holds the question of its
//! machine while the stage that is asked about waits for one of them. Meanwhile the machine takes no input.
//!
//! How it fails: an inquiry that cannot be made is answered as unknown at once, so a question is held no longer than the
//! time limits of lookups and helpers. A client that goes leaves nothing behind: what is found then finds nobody.

use super::core::{Core, End};
use super::inbound::Inbound;
use super::lanes::{LookupTo, LookupToken};
use super::sentence::Passed;
use crate::base::address::Mailbox;
use crate::base::body::Body;
use crate::base::envelope::Envelope;
use crate::base::inquiry::{Case, Finding, Inquiry};
use crate::lookup::Inquired;
use crate::policy::Stage;
use crate::reactor::Id;
use crate::smtp::server::{Answer, Ask};
use std::sync::Arc;

/// What one session waits for.
#[derive(Default)]
pub(super) struct Gathering {
    /// Inquiries under way, by number.
    open: Vec<(u32, Inquiry)>,
    next: u32,
    held: Option<Held>,
    /// A judged message whose file is being written anew.
    pub(super) rewriting: Option<Box<Passed>>,
}

/// A question of the machine that waits.
enum Held {
    /// As it was asked.
    Ask(Ask),
    /// A whole message.
    Message(Box<(Envelope, Body)>),
}

/// What inquiries are about.
#[derive(Clone, Copy)]
enum Matter<'a> {
    Client,
    Ask(&'a Ask),
    Message(&'a Envelope, &'a Body),
}

impl Matter<'_> {
    fn stages(self) -> &'static [Stage] {
        match self {
            Matter::Client => &[],
            Matter::Ask(ask) => stages(ask),
            Matter::Message(..) => &[Stage::Data, Stage::Message],
        }
    }
}

fn stages(ask: &Ask) -> &'static [Stage] {
    match ask {
        Ask::Connect { .. } => &[Stage::Connect],
        Ask::Helo { .. } => &[Stage::Helo],
        Ask::Authenticated { .. } | Ask::AuthFailed { .. } => &[Stage::Auth],
        Ask::Mail { .. } => &[Stage::Mail],
        Ask::Rcpt { .. } => &[Stage::Rcpt],
        Ask::Vrfy { .. } | Ask::Expn { .. } => &[Stage::Vrfy],
        _ => &[],
    }
}

impl Gathering {
    /// What is under way is for a client that is another one now.
    fn forget_client(&mut self) {
        self.open.clear();
    }
    /// A new greeting, or TLS.
    pub fn forget_greeting(&mut self) {
        self.open.retain(|(_, i)| !matches!(i, Inquiry::HeloHost { .. } | Inquiry::Spf { sender: None, .. }));
        self.forget_message();
    }
    /// The transaction is over.
    pub fn forget_message(&mut self) {
        use Inquiry::{Consult, MailDomain, Signatures, Spf};
        let of_message =
            |i: &Inquiry| matches!(i, Consult(_) | Signatures | MailDomain(_) | Spf { sender: Some(_), .. });
        self.open.retain(|(_, i)| !of_message(i));
        self.rewriting = None;
    }
}

impl Core {
    /// Answers a question of a client's machine, or sends it where it will be answered: now, when nothing has to be found
    /// out for it.
    pub(super) fn client_asks(&mut self, inbound: &mut Inbound, ask: Ask) -> Option<Answer> {
        match &ask {
            Ask::Connect { early_talker } if self.client_is(inbound, *early_talker) => {
                inbound.gathering.forget_client()
            }
            Ask::Helo { .. } => inbound.gathering.forget_greeting(),
            Ask::Mail { .. } => inbound.gathering.forget_message(),
            _ => {}
        }
        if !stages(&ask).is_empty() {
            inbound.judge.faults(&inbound.machine.counters());
            inbound.judge.told(&ask);
            if self.waits(inbound, Matter::Ask(&ask)) {
                inbound.gathering.held = Some(Held::Ask(ask));
                return None;
            }
        }
        self.client_decides(inbound, ask)
    }

    /// The whole message is there.
    pub(super) fn whole_message(&mut self, inbound: &mut Inbound, envelope: Envelope, body: Body) -> Option<Answer> {
        inbound.judge.message_told(&body);
        if self.waits(inbound, Matter::Message(&envelope, &body)) {
            inbound.gathering.held = Some(Held::Message(Box::new((envelope, body))));
            return None;
        }
        self.judged(inbound, envelope, body)
    }

    /// What can be found out of a client that has just come, while it waits for its greeting.
    pub(super) fn gather_early(&mut self, inbound: &mut Inbound) {
        self.gather(inbound, Matter::Client);
    }

    /// Starts what is needed; whether the matter has to wait for any of it.
    fn waits(&mut self, inbound: &mut Inbound, matter: Matter<'_>) -> bool {
        self.gather(inbound, matter);
        matter.stages().iter().any(|stage| inbound.judge.awaits(*stage))
    }

    /// Starts what the session needs.
    fn gather(&mut self, inbound: &mut Inbound, matter: Matter<'_>) {
        let most = self.shared.config.settings.server.inquiries_per_session_max;
        let ask = if let Matter::Ask(ask) = matter { Some(ask) } else { None };
        loop {
            let mut found = false;
            for inquiry in inbound.judge.inquiries(ask) {
                if inbound.gathering.open.len() >= most {
                    let why = format!("more than {most} lookups of one session at a time");
                    inbound.judge.found(&inquiry, &Finding::Unknown(why.into()));
                    found = true;
                    continue;
                }
                let needs_case = matches!(inquiry, Inquiry::Signatures | Inquiry::Consult(_));
                let case = needs_case.then(|| Arc::new(self.case(inbound, matter)));
                let number = inbound.gathering.next;
                inbound.gathering.next = number.wrapping_add(1);
                let to = LookupTo::Client { conn: inbound.pipe.id, number };
                match self.shared.lookup.inquire(LookupToken { core: self.number, to }, &inquiry, case) {
                    Inquired::Waiting => inbound.gathering.open.push((number, inquiry)),
                    Inquired::Now(_, finding) => {
                        inbound.judge.found(&inquiry, &finding);
                        found = true;
                    }
                }
            }
            // What was found at once may make something else necessary.
            if !found {
                return;
            }
        }
    }

    /// The lane has found something out for a client.
    pub(super) fn client_found(&mut self, conn: Id, number: u32, finding: &Finding) {
        let mut inbound = match self.take(conn) {
            Some(End::Client(inbound)) => inbound,
            Some(other) => return self.put(conn, other),
            None => return,
        };
        let place = inbound.gathering.open.iter().position(|(n, _)| *n == number);
        let Some((_, inquiry)) = place.map(|i| inbound.gathering.open.swap_remove(i)) else {
            return self.put(conn, End::Client(inbound));
        };
        inbound.judge.found(&inquiry, finding);
        let held = inbound.gathering.held.take();
        let matter = match &held {
            None => Matter::Client,
            Some(Held::Ask(ask)) => Matter::Ask(ask),
            Some(Held::Message(message)) => Matter::Message(&message.0, &message.1),
        };
        if self.waits(&mut inbound, matter) {
            inbound.gathering.held = held;
            return self.put(conn, End::Client(inbound));
        }
        let answer = match held {
            // Nobody waits for it.
            None => return self.put(conn, End::Client(inbound)),
            Some(Held::Ask(ask)) => self.client_decides(&mut inbound, ask),
            Some(Held::Message(message)) => self.judged(&mut inbound, message.0, message.1),
        };
        match answer {
            Some(answer) => {
                inbound.machine.handle_answer(self.now, answer);
                self.client_drive(inbound);
            }
            None => self.put(conn, End::Client(inbound)),
        }
    }

    /// What helpers and the check of signatures are told.
    fn case(&self, inbound: &Inbound, matter: Matter<'_>) -> Case {
        let peer = inbound.machine.peer();
        let (mut sender, mut recipients, mut body) = (None, Vec::new(), None);
        if let Some((path, accepted)) = inbound.machine.transaction() {
            sender = path.mailbox().cloned();
            recipients = accepted.iter().map(|r| r.mailbox.clone()).collect::<Vec<Mailbox>>();
        }
        match matter {
            Matter::Ask(Ask::Rcpt { recipient }) => recipients.push(recipient.mailbox.clone()),
            Matter::Message(envelope, text) => {
                sender = envelope.sender.mailbox().cloned();
                recipients = envelope.recipients.iter().map(|r| r.mailbox.clone()).collect();
                body = Some(text.clone());
            }
            _ => {}
        }
        Case {
            session: inbound.session,
            host: self.shared.config.hostname.clone(),
            listener: inbound.listener.policy_name.clone(),
            client: peer.client,
            local: peer.local,
            client_name: inbound.judge.client_name().cloned(),
            helo: inbound.machine.greeting().map(|g| g.name.text.clone()).unwrap_or_default(),
            tls: peer.tls.as_ref().map(|t| (t.version.to_owned(), t.cipher.to_owned())),
            user: inbound.machine.user().map(str::to_owned),
            sender,
            recipients,
            transaction: inbound.machine.counters().transactions,
            spf: inbound.judge.spf().cloned(),
            body,
        }
    }
}
