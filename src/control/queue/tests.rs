//! Tables, pages and what a message looks like.

use super::*;
use crate::gateway::admin::QueueRecipient;

fn entry(id: &str) -> QueueEntry {
    QueueEntry {
        id: id.into(),
        accepted_ms: 1_000_000,
        next_ms: 1_000_000 + 3_700_000,
        attempts: 2,
        octets: 20_480,
        sender: "ann@example.org".into(),
        recipients: vec![
            QueueRecipient {
                address: "bob@example.net".into(),
                destination: "mx:example.net".into(),
                last: "450 4.2.1 busy".into(),
            },
            QueueRecipient { address: "c@example.net".into(), ..QueueRecipient::default() },
        ],
        reason: "450 4.2.1 busy\u{1b}".into(),
        ..QueueEntry::default()
    }
}

#[test]
fn a_listing_is_aligned_and_harmless() {
    let held = QueueEntry { state: QueueState::Held, sender: String::new(), recipients: vec![], ..entry("B") };
    let due = QueueEntry { next_ms: 0, octets: 20 << 20, ..entry("C") };
    let text = listing(&[entry("A"), held, due], WallTime::from_millis(1_000_000 + 90_061_000));
    assert_eq!(
        text,
        "ID  STATE    AGE   NEXT  TRIES  SIZE  FROM               TO                  REASON\n\
         A   waiting  1d1h  now   2      20K   <ann@example.org>  bob@example.net +1  450 4.2.1 busy\\u{1b}\n\
         B   held     1d1h  -     2      20K   <>                                     450 4.2.1 busy\\u{1b}\n\
         C   waiting  1d1h  now   2      20M   <ann@example.org>  bob@example.net +1  450 4.2.1 busy\\u{1b}\n\
         3 messages\n"
    );
    assert_eq!(listing(&[], WallTime::default()), "the queue is empty\n");
    assert_eq!(next(&entry("A"), WallTime::from_millis(1_000_000)), "1h1m");
}

#[test]
fn a_message_is_shown_with_its_recipients() {
    let message = QueueMessage {
        entry: entry("A"),
        headers: "Subject: x\u{1b}[2J\r\n\tfolded\r\n".into(),
        expires_ms: 433_000_000,
        envid: None,
    };
    let text = show(&message, WallTime::from_millis(1_000_000));
    assert!(text.contains("to        <bob@example.net> by mx:example.net: 450 4.2.1 busy\n"), "{text}");
    assert!(text.contains("Subject: x\\u{1b}[2J\n    folded\n"), "{text}");
    assert!(text.contains("expires   1970-01-06T00:16:40.000Z\n"), "{text}");
}

fn args(limit: Option<u32>) -> ListArgs {
    ListArgs {
        destination: None,
        from: Some(String::new()),
        to: None,
        state: Some(StateWord::Held),
        limit,
        json: false,
        data: DataArgs::default(),
    }
}

#[test]
fn pages_are_put_together() {
    let total = 2500;
    let server = |request: &Request| {
        let Request::QueueList { filter, after, limit } = request else { panic!("another request") };
        assert_eq!((filter.sender.as_deref(), filter.state), (Some(""), Some(QueueState::Held)));
        let from = after.as_ref().map_or(0, |id| id.parse::<usize>().unwrap() + 1);
        let to = total.min(from + *limit as usize);
        let entries = (from..to).map(|n| entry(&n.to_string())).collect();
        Ok(Response::Queue { entries, more: to < total })
    };
    for (limit, expected) in [(None, 2500), (Some(7), 7), (Some(1500), 1500), (Some(0), 0), (Some(9999), 2500)] {
        let all = collect(&args(limit), server).unwrap();
        assert_eq!(all.len(), expected);
        assert!(all.iter().enumerate().all(|(n, entry)| entry.id == n.to_string()));
    }
    let liar = |_: &Request| Ok(Response::Queue { entries: vec![], more: true });
    assert!(collect(&args(None), liar).unwrap().is_empty());
    let busy = |_: &Request| Ok(Response::failed("busy", "too many"));
    assert_eq!(collect(&args(None), busy).unwrap_err(), Failure::new("too many"));
}
