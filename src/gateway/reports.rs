//! Notifications to senders: what the queue says is due, composed by `relay::bounce` and routed like any other mail.
//!
//! How it fails: a report that must not be sent (to the null sender, or asked for by nobody) is none, and the log says so.

use crate::base::body::Body;
use crate::base::envelope::Envelope;
use crate::base::id::{IdSource, SpoolId};
use crate::base::time::WallTime;
use crate::relay::bounce::{self, Action, Kind, Reported, Reporter, Returned};
use crate::spool::{NewMessage, Report, ReportKind};
use std::sync::Arc;
use std::time::Duration;

/// Composes the notifications of one lane.
pub(super) struct Composer {
    setup: Arc<Setup>,
    ids: IdSource,
}

/// What composing needs to know of the server; shared by the lanes.
pub(super) struct Setup {
    pub config: Arc<super::config::Config>,
    pub routing: Arc<super::routing::Routing>,
}

impl Composer {
    pub fn new(setup: Arc<Setup>, ids: IdSource) -> Composer {
        Composer { setup, ids }
    }

    /// Octets of an original that can be returned at most.
    pub fn original_octets_max(&self) -> usize {
        let knobs = &self.setup.config.settings.relay;
        knobs.bounce_message_octets_max.len().max(knobs.bounce_headers_octets_max.len())
    }

    /// The notification for a report; `original` is the message, or as much of it as there is.
    pub fn compose(
        &mut self,
        report: &Report,
        envelope: &Envelope,
        original: &[u8],
        whole: bool,
        now: WallTime,
    ) -> Option<NewMessage> {
        let config = &self.setup.config;
        let lifetime: Duration = config.settings.spool.lifetime;
        let (kind, action) = match report.kind {
            ReportKind::Failure => (Kind::Failure, Action::Failed),
            ReportKind::Delay => (Kind::Delay { until: envelope.origin.received + lifetime }, Action::Delayed),
            ReportKind::Success => (Kind::Success, Action::Relayed),
        };
        let reported: Vec<Reported> = report
            .recipients
            .iter()
            .map(|r| Reported {
                recipient: r.recipient,
                action,
                reply: r.reply.clone(),
                remote: remote(&r.destination),
                last_attempt: Some(now),
            })
            .collect();
        let id = SpoolId(self.ids.next_id());
        let reporter = Reporter { hostname: &config.hostname, id, now, knobs: &config.settings.relay };
        let returned = Returned { header: header_of(original), message: whole.then_some(original) };
        let notification = match bounce::compose(kind, envelope, &reported, returned, &reporter) {
            Ok(notification) => notification,
            Err(why) => {
                tracing::info!(id = %report.id, kind = ?report.kind, %why, "nothing is reported");
                return None;
            }
        };
        let routing = &self.setup.routing;
        let routes = notification
            .envelope
            .recipients
            .iter()
            .map(|r| routing.text(&routing.key(routing.route(&r.mailbox, None), &r.mailbox)));
        tracing::info!(about = %report.id, %id, kind = ?report.kind, to = %envelope.sender, "reporting to the sender");
        Some(NewMessage {
            id,
            routes: routes.collect(),
            prefix: Vec::new(),
            body: Body::memory(notification.shape, vec![Arc::new(notification.message)]),
            envelope: notification.envelope,
            next_attempt: now,
            hold: None,
        })
    }
}

/// The host that was spoken to, where the destination's name says it (RFC 3464 §2.3.5); names of pools are our own.
fn remote(destination: &str) -> Option<String> {
    let host = destination.strip_prefix("host:").and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
    host.or_else(|| destination.strip_prefix("ip:")).map(str::to_owned)
}

/// The header section with its empty line, or all there is.
fn header_of(message: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    &message[..end]
}
