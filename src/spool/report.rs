//! Reports that are due to senders: failures, delays, successes (RFC 3461 §5). The queue says for whom; the caller
//! composes the notification and gives it back to be staged.
//!
//! How it fails: staging returns [`SpoolError`] and the report is due again.

use super::SpoolError;
use super::store::{NewMessage, Spool};
use crate::base::id::SpoolId;
use crate::log::Disk;
use crate::wire::reply::Reply;

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportKind {
    /// Delivery was given up.
    Failure,
    /// Delivery is late and goes on.
    Delay,
    /// Delivered, as NOTIFY=SUCCESS wanted to know.
    Success,
}

/// One notification to compose. Give it to [`Spool::stage_report`] with the message that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// About which message.
    pub id: SpoolId,
    /// What it tells.
    pub kind: ReportKind,
    /// About whom.
    pub recipients: Vec<Reported>,
}

/// One recipient of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Index into the envelope's recipients.
    pub recipient: u32,
    /// What decided its fate or delayed it, as far as it is known.
    pub reply: Option<Reply>,
    /// To which destination it was routed.
    pub destination: String,
}

impl<D: Disk> Spool<D> {
    /// Takes reports that are due. Each comes once, until it is staged, its commit fails, or the queue is opened again.
    pub fn take_reports(&mut self, max: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        while reports.len() < max {
            let Some((id, kind)) = self.reports_due.pop_first() else { break };
            let Some(entry) = self.index.get_mut(&id) else { continue };
            let names: Vec<String> =
                entry.legs.iter().map(|l| self.destinations.name(l.destination).to_owned()).collect();
            let mut recipients = Vec::new();
            for (i, r) in entry.recipients.iter_mut().enumerate().filter(|(_, r)| r.due == Some(kind)) {
                r.taken = r.due.take();
                let destination = names.get(r.leg as usize).cloned().unwrap_or_default();
                recipients.push(Reported { recipient: i as u32, reply: r.reply.as_deref().cloned(), destination });
            }
            if !recipients.is_empty() {
                reports.push(Report { id, kind, recipients });
            }
        }
        reports
    }

    /// Stages the notification made of a report (`None` when there is nobody to tell after all), and with it that the
    /// sender has been told. Both become durable by the same commit, the notification first.
    pub fn stage_report(&mut self, report: Report, notification: Option<NewMessage>) -> Result<(), SpoolError> {
        if let Some(notification) = notification {
            let id = notification.id;
            if let Err(e) = self.stage_essential(notification) {
                self.report_again(&report);
                return Err(e);
            }
            self.reporting.push((id, report.clone()));
        }
        if let Some(entry) = self.index.get_mut(&report.id) {
            for r in &report.recipients {
                let Some(state) = entry.recipients.get_mut(r.recipient as usize) else { continue };
                if state.taken == Some(report.kind) {
                    state.taken = None;
                    state.delay_told |= report.kind == ReportKind::Delay;
                }
            }
            self.mark(report.id);
        }
        Ok(())
    }

    /// The notification did not become durable: the report is due again.
    pub(super) fn report_again(&mut self, report: &Report) {
        let Some(entry) = self.index.get_mut(&report.id) else { return };
        for r in &report.recipients {
            let Some(state) = entry.recipients.get_mut(r.recipient as usize) else { continue };
            state.taken = None;
            if report.kind == ReportKind::Delay {
                state.delay_told = false;
                if state.due.is_some() {
                    continue; // its failure is due instead
                }
            }
            state.due = Some(report.kind);
        }
        entry.over = false;
        self.reports_due.insert((report.id, report.kind));
        self.mark(report.id);
    }

    /// Notes that a recipient's sender must be told, if anybody wants to know.
    pub(super) fn note_report(&mut self, id: SpoolId, recipient: u32, kind: ReportKind) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        // RFC 3461 §6.1, RFC 5321 §6.1: notifications have the null path and are not answered by others.
        if entry.null_sender {
            return;
        }
        let Some(state) = entry.recipients.get_mut(recipient as usize) else { return };
        if state.wants.wants(kind) && !(kind == ReportKind::Delay && state.delay_told) {
            state.due = Some(kind);
            self.reports_due.insert((id, kind));
        }
    }
}
