//! What an administrator asks of one queue: the same answers from a running server's lane and from a stopped server's
//! directory; and how the answers of several queues (one per core) become one.
//!
//! How it fails: ids that are none, or are not here, are listed as unknown; everything else is a [`Response::Failed`].

use super::admin::{AGES, DestinationSurvey, QueueSurvey};
use super::admin::{QueueEntry, QueueFilter, QueueMessage, QueueRecipient, QueueState, Request, Response, Selection};
use crate::base::id::SpoolId;
use crate::base::time::WallTime;
use crate::log::Disk;
use crate::spool::{Details, Filter, Selection as Which, Spool, SpoolError, Status, Summary};

/// Entries of a page at most.
const PAGE_MAX: usize = 1000;
/// Octets of the header section that are shown at most.
const HEADERS_OCTETS_MAX: usize = 64 * 1024;

/// Answers a request about the queue; `None` when it is about something else. Changes are durable with the next commit.
pub fn answer<D: Disk>(spool: &mut Spool<D>, request: &Request, lifetime_ms: u64, now: WallTime) -> Option<Response> {
    Some(match request {
        Request::QueueList { filter, after, limit } => list(spool, filter, after.as_deref(), *limit as usize),
        Request::QueueShow { id } => show(spool, id, lifetime_ms),
        Request::QueueRetry { which } => change(spool, which, |spool, which| spool.retry(which, now)),
        Request::QueueHold { which, reason } => each(spool, which, |spool, id| spool.hold(id, reason)),
        Request::QueueRelease { which } => each(spool, which, |spool, id| spool.release(id, now)),
        Request::QueueRemove { which } => each(spool, which, |spool, id| spool.remove(id)),
        Request::QueueSurvey {} => Response::QueueSurvey(survey(spool, now)),
        _ => return None,
    })
}

/// Puts the answers of all queues together. `limit` is that of the request, when it was a list.
pub fn join(answers: Vec<Response>, limit: usize) -> Response {
    let mut all: Option<Response> = None;
    for answer in answers {
        all = Some(match (all, answer) {
            (None, first) => first,
            (Some(Response::Queue { mut entries, more }), Response::Queue { entries: others, more: also }) => {
                entries.extend(others);
                Response::Queue { entries, more: more || also }
            }
            (
                Some(Response::Changed { count, unknown }),
                Response::Changed { count: others, unknown: also_unknown },
            ) => {
                // An id is known to one queue and unknown to the rest.
                let unknown = unknown.into_iter().filter(|id| also_unknown.contains(id)).collect();
                Response::Changed { count: count + others, unknown }
            }
            (Some(Response::QueueSurvey(mut survey)), Response::QueueSurvey(other)) => {
                survey.merge(other);
                Response::QueueSurvey(survey)
            }
            (Some(Response::Failed { .. }), other @ Response::Message(_)) => other,
            (Some(found), Response::Failed { code, .. }) if code == "not-found" => found,
            (Some(_), failed @ Response::Failed { .. }) => failed,
            (Some(first), _) => first,
        });
    }
    match all {
        Some(Response::Queue { mut entries, more }) => {
            // By id, because a page ends with the id that the next one begins behind.
            entries.sort_by(|a, b| a.id.cmp(&b.id));
            let cut = entries.len() > limit;
            entries.truncate(limit);
            Response::Queue { entries, more: more || cut }
        }
        Some(other) => other,
        None => Response::failed("not-found", "there is no queue"),
    }
}

fn list<D: Disk>(spool: &Spool<D>, filter: &QueueFilter, after: Option<&str>, limit: usize) -> Response {
    let limit = limit.clamp(1, PAGE_MAX);
    let mut after = after.and_then(SpoolId::parse);
    let coarse = match (&filter.destination, filter.state) {
        (Some(d), _) => Filter::Destination(d.clone()),
        (None, Some(QueueState::Held)) => Filter::Held,
        _ => Filter::All,
    };
    let mut entries = Vec::new();
    loop {
        let page = spool.list(&coarse, after, PAGE_MAX);
        let Some(last) = page.last() else { return Response::Queue { entries, more: false } };
        after = Some(last.id);
        for summary in page {
            let Ok(details) = spool.show(summary.id) else { continue };
            let entry = entry(&details);
            if !filter.admits(&entry) {
                continue;
            }
            if entries.len() == limit {
                return Response::Queue { entries, more: true };
            }
            entries.push(entry);
        }
    }
}

fn survey<D: Disk>(spool: &Spool<D>, now: WallTime) -> QueueSurvey {
    let found = spool.survey(now, &AGES.map(|(age_ms, _)| age_ms));
    let destinations = found.destinations.into_iter().map(|(name, messages, oldest)| DestinationSurvey {
        name,
        messages,
        oldest_ms: oldest.as_millis(),
    });
    let mut survey = QueueSurvey::default();
    survey.merge(QueueSurvey {
        messages: found.messages,
        held: found.held,
        active: found.in_flight,
        octets: found.octets,
        destinations: destinations.collect(),
        ages: found.ages,
    });
    survey
}

fn show<D: Disk>(spool: &mut Spool<D>, id: &str, lifetime_ms: u64) -> Response {
    let Some(id) = SpoolId::parse(id) else {
        return Response::failed("invalid", format!("{id:?} is not an id: expected 13 characters of 0-9 and A-Z"));
    };
    let details = match spool.show(id) {
        Ok(details) => details,
        Err(e @ SpoolError::Unknown(_)) => return Response::failed("not-found", e.to_string()),
        Err(e) => return Response::failed("disk", e.to_string()),
    };
    let mut headers = details.prefix.clone();
    if let Ok((_, _, body)) = spool.load(id) {
        headers.extend(body.head());
    }
    headers.truncate(HEADERS_OCTETS_MAX);
    Response::Message(QueueMessage {
        entry: entry(&details),
        headers: String::from_utf8_lossy(&headers).into_owned(),
        expires_ms: details.summary.received.as_millis() + lifetime_ms,
        envid: details.envelope.parameters.envid.clone(),
    })
}

fn entry(details: &Details) -> QueueEntry {
    let summary = &details.summary;
    let recipients = details.envelope.recipients.iter().zip(&details.recipients);
    let open =
        recipients.filter(|(_, state)| state.status == Status::Waiting).map(|(recipient, state)| QueueRecipient {
            address: recipient.mailbox.to_string(),
            destination: details.legs.get(state.leg).map(|leg| leg.destination.clone()).unwrap_or_default(),
            last: state.reply.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
    let last = summary.reply.as_ref().map(ToString::to_string);
    QueueEntry {
        id: summary.id.to_string(),
        state: state(summary),
        accepted_ms: summary.received.as_millis(),
        next_ms: summary.next_attempt.map_or(0, WallTime::as_millis),
        attempts: summary.attempts,
        octets: summary.octets,
        sender: summary.sender.clone().unwrap_or_default(),
        recipients: open.collect(),
        reason: summary.hold.clone().or(last).unwrap_or_default(),
    }
}

fn state(summary: &Summary) -> QueueState {
    match (summary.hold.is_some(), summary.in_flight) {
        (_, true) => QueueState::Active,
        (true, false) => QueueState::Held,
        (false, false) => QueueState::Waiting,
    }
}

/// An order that the queue takes for a selection as it is.
fn change<D: Disk>(
    spool: &mut Spool<D>,
    which: &Selection,
    mut order: impl FnMut(&mut Spool<D>, &Which) -> Result<usize, SpoolError>,
) -> Response {
    match which {
        Selection::All => changed(order(spool, &Which::All)),
        Selection::Destination(name) => changed(order(spool, &Which::Destination(name.clone()))),
        Selection::Ids(_) => each(spool, which, |spool, id| order(spool, &Which::Message(id)).map(|_| ())),
    }
}

fn changed(result: Result<usize, SpoolError>) -> Response {
    match result {
        Ok(count) => Response::Changed { count: count as u64, unknown: Vec::new() },
        Err(e) => Response::failed("disk", e.to_string()),
    }
}

/// An order for messages one by one.
fn each<D: Disk>(
    spool: &mut Spool<D>,
    which: &Selection,
    mut order: impl FnMut(&mut Spool<D>, SpoolId) -> Result<(), SpoolError>,
) -> Response {
    let filter = match which {
        Selection::All => Some(Filter::All),
        Selection::Destination(name) => Some(Filter::Destination(name.clone())),
        Selection::Ids(_) => None,
    };
    let mut unknown = Vec::new();
    let ids: Vec<SpoolId> = match (filter, which) {
        (Some(filter), _) => spool.list(&filter, None, usize::MAX).iter().map(|s| s.id).collect(),
        (None, Selection::Ids(texts)) => {
            let parsed = texts.iter().filter_map(|text| {
                let id = SpoolId::parse(text);
                if id.is_none() {
                    unknown.push(text.clone());
                }
                id
            });
            parsed.collect()
        }
        (None, _) => Vec::new(),
    };
    let mut count = 0;
    for id in ids {
        match order(spool, id) {
            Ok(()) => count += 1,
            Err(SpoolError::Unknown(id)) => unknown.push(id.to_string()),
            Err(e) => return Response::failed("disk", e.to_string()),
        }
    }
    Response::Changed { count, unknown }
}
