//! A lane before a scripted name server, for tests of inquiries.

use super::*;

/// A lane before a scripted name server, for inquiries.
pub(super) struct Desk {
    pub(super) server: dns::DnsServer,
    pub(super) lane: Option<Lane>,
    pub(super) asker: Asker<u32>,
    pub(super) found: Receiver<(u32, Finding)>,
}

impl Desk {
    pub(super) fn new(zones: &str) -> Desk {
        Desk::with(zones, |_| {})
    }

    pub(super) fn with(zones: &str, set: impl FnOnce(&mut LookupKnobs)) -> Desk {
        let server = dns::DnsServer::start(zones);
        let mut knobs = LookupKnobs {
            servers: vec![NameServer(server.address())],
            timeout: Duration::from_millis(300),
            attempts: 0,
            deadline: Duration::from_secs(3),
            ..LookupKnobs::default()
        };
        set(&mut knobs);
        let (tx, found) = channel();
        let (lane, asker) = Lane::start(&knobs, move |token, reply| match reply {
            Reply::Finding(finding) => drop(tx.send((token, finding))),
            Reply::Answer(answer) => panic!("nobody asked: {answer:?}"),
        })
        .unwrap();
        Desk { server, lane: Some(lane), asker, found }
    }

    pub(super) fn find(&self, inquiry: &Inquiry) -> Finding {
        self.find_for(inquiry, None)
    }

    pub(super) fn find_for(&self, inquiry: &Inquiry, case: Option<Arc<Case>>) -> Finding {
        match self.asker.inquire(7, inquiry, case) {
            Inquired::Now(7, finding) => finding,
            Inquired::Now(token, _) => panic!("token {token} is not ours"),
            Inquired::Waiting => self.next().1,
        }
    }

    pub(super) fn next(&self) -> (u32, Finding) {
        self.found.recv_timeout(Duration::from_secs(30)).expect("every inquiry is answered")
    }

    /// Whether it was answered without a wait.
    pub(super) fn at_hand(&self, inquiry: &Inquiry) -> bool {
        match self.asker.inquire(8, inquiry, None) {
            Inquired::Now(..) => true,
            Inquired::Waiting => {
                self.next();
                false
            }
        }
    }
}

/// Why it is unknown.
pub(super) fn why(finding: Finding) -> String {
    match finding {
        Finding::Unknown(why) => why.into(),
        other => panic!("{other:?}"),
    }
}
