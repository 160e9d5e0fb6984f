//! Name servers that lie, break, stall or shout: one answer each time, and never a wrong one.

use super::*;
use crate::base::address::{Host, Mailbox};
use crate::base::inquiry::{Subject, Verified};
use crate::lookup::records::{Reach, Records, Resolve};
use crate::lookup::spf;
use proptest::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

fn listed(ip: &str) -> Inquiry {
    Inquiry::Listed { zone: domain("bl.test"), subject: Subject::Address(ip.parse().unwrap()) }
}

#[test]
fn answers_to_other_questions_are_not_believed() {
    let zones = "2.2.0.192.bl.test A 127.0.0.2\n3.2.0.192.bl.test A 127.0.0.3\n4.2.0.192.bl.test A 127.0.0.4\n\
                 2.2.0.192.bl.test WRONG-ID\n3.2.0.192.bl.test WRONG-QUESTION\n4.2.0.192.bl.test GARBAGE";
    let desk = Desk::new(zones);
    for ip in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let finding = desk.find(&listed(ip));
        assert!(matches!(finding, Finding::Unknown(_)), "{ip}: {finding:?}");
    }
}

#[test]
fn what_is_too_long_for_a_datagram_comes_by_another_way() {
    let long: String = (0..200).map(|n| format!(" \"{n:0200}\"")).collect();
    let zones = format!(
        "2.2.0.192.bl.test A 127.0.0.2\n2.2.0.192.bl.test TRUNCATED\n3.2.0.192.bl.test A 127.0.0.3\n\
         3.2.0.192.bl.test OVERSIZED\nhuge.test TXT \"v=spf1 ip4:192.0.2.1 -all\"\nhuge.test TXT{long}\n"
    );
    let desk = Desk::new(&zones);
    assert_eq!(desk.find(&listed("192.0.2.2")), Finding::Listed(vec![[127, 0, 0, 2].into()]));
    assert_eq!(desk.server.asked_over("2.2.0.192.bl.test", "A", dns::Transport::Tcp), 1);
    let finding = desk.find(&listed("192.0.2.3"));
    let right = matches!(&finding, Finding::Listed(codes) if codes == &[std::net::Ipv4Addr::new(127, 0, 0, 3)]);
    assert!(right || matches!(finding, Finding::Unknown(_)), "{finding:?}");
    let sender = Mailbox::from_checked("a", Host::Domain(domain("huge.test")));
    let spf = Inquiry::Spf { client: [192, 0, 2, 1].into(), helo: "x".into(), sender: Some(sender) };
    let Finding::Spf(found) = desk.find(&spf) else { panic!() };
    assert_eq!(found.result, Verified::Pass, "40 KB of other texts beside the record");
}

#[test]
fn aliases_are_followed_so_far_and_no_farther() {
    let mut zones = String::from("2.2.0.192.bl.test CNAME c0.test\n");
    (0..40).for_each(|n| zones.push_str(&format!("c{n}.test CNAME c{}.test\n", n + 1)));
    zones.push_str("3.2.0.192.bl.test CNAME loop.test\nloop.test CNAME pool.test\npool.test CNAME loop.test\n");
    zones.push_str("4.2.0.192.bl.test CNAME nothing.test\n5.2.0.192.bl.test CNAME one.test\none.test A 127.0.0.5\n");
    let desk = Desk::new(&zones);
    for ip in ["192.0.2.2", "192.0.2.3"] {
        let before = desk.server.queries();
        let finding = desk.find(&listed(ip));
        assert!(!matches!(&finding, Finding::Listed(codes) if !codes.is_empty()), "{ip}: {finding:?}");
        assert!(desk.server.queries() - before < 30, "{ip}: {}", desk.server.queries() - before);
    }
    assert_eq!(desk.find(&listed("192.0.2.4")), Finding::Listed(Vec::new()));
    assert_eq!(desk.find(&listed("192.0.2.5")), Finding::Listed(vec![[127, 0, 0, 5].into()]));
}

/// A server that answers every query with a true answer of which some octets have been changed.
fn babbler(stop: Arc<AtomicBool>, seed: u64) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut buf = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let Ok((n, from)) = socket.recv_from(&mut buf) else { continue };
            let Ok(query) = Message::from_vec(&buf[..n]) else { continue };
            let question = query.queries[0].clone();
            let mut m = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            m.add_query(question.clone());
            for data in [
                RData::A(A::new(127, 0, 0, 2)),
                RData::TXT(TXT::new(vec!["v=spf1 a mx ptr exists:%{ir}.x.test include:y.test -all".into()])),
                RData::MX(MX::new(1, name("mx.test"))),
                RData::PTR(PTR(name("ptr.test"))),
                RData::CNAME(CNAME(name("other.test"))),
            ] {
                m.add_answer(Record::from_rdata(question.name().clone(), 60, data));
            }
            let mut bytes = m.to_vec().unwrap();
            for _ in 0..rng.usize(0..12) {
                // The id stays, so that the answer is looked at.
                let at = rng.usize(2..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(2..=bytes.len()));
            let _ = socket.send_to(&bytes, from);
        }
    });
    (address, thread)
}

#[test]
fn whatever_octets_come_there_is_one_answer() {
    let stop = Arc::new(AtomicBool::new(false));
    let (address, thread) = babbler(stop.clone(), 11);
    let desk = Desk::with("", |knobs| {
        knobs.servers = vec![NameServer(address)];
        knobs.timeout = Duration::from_millis(100);
        knobs.inquiry_deadline = Duration::from_secs(2);
        knobs.list_failures_max = 0;
    });
    let mut open = Vec::new();
    for token in 0..400u32 {
        let host = format!("h{token}.test");
        let ip: IpAddr = [192, 0, 2, (token % 256) as u8].into();
        let inquiry = match token % 5 {
            0 => Inquiry::Listed { zone: domain("bl.test"), subject: Subject::Name(domain(&host)) },
            1 => Inquiry::Reverse([10, 0, (token / 256) as u8, token as u8].into()),
            2 => Inquiry::MailDomain(domain(&host)),
            3 => Inquiry::HeloHost { name: domain(&host), client: ip },
            _ => {
                let sender = Some(Mailbox::from_checked("a", Host::Domain(domain(&host))));
                Inquiry::Spf { client: ip, helo: host.into(), sender }
            }
        };
        match desk.asker.inquire(token, &inquiry, None) {
            Inquired::Waiting => open.push(token),
            Inquired::Now(t, _) => assert_eq!(t, token),
        }
    }
    let mut answered: Vec<u32> = open.iter().map(|_| desk.next().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, open, "each once");
    assert_eq!(desk.asker.counters().waiting, 0);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

/// SPF with nothing but these texts in the world; `None` when it would have to ask.
fn offline(records: &[(&str, &str)]) -> Option<Finding> {
    let records: Vec<StaticRecord> =
        records.iter().filter_map(|(name, text)| format!("{name} TXT {text}").parse().ok()).collect();
    let statics = Statics::new(&[], &records, "").unwrap();
    let dns = Resolve { records: Arc::new(Records::new(statics, Cache::new(0, 0), None, 1)), reach: Reach::Local };
    let sender = Mailbox::from_checked("strong-bad", Host::Domain(domain("a.test")));
    let subject =
        spf::Subject { client: [192, 0, 2, 1].into(), helo: "h.test", sender: Some(&sender), host: "mx.test" };
    let asked = pin!(spf::spf(&dns, subject));
    match asked.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(finding) => Some(finding),
        std::task::Poll::Pending => None,
    }
}

proptest! {
    #[test]
    fn any_text_of_a_record_gives_a_result(text in "(v=spf1)?( ?[-+~?]?(all|a|mx|ptr|ip4|ip6|exists|include|redirect|exp|x)?[:=/]?[%{}a-zA-Z0-9./:_=-]{0,12}){0,6}", other in ".{0,60}") {
        // A record without a name server to ask is an answer or a wait, never a panic; includes lead back to itself.
        for record in [text.as_str(), other.as_str()] {
            if let Some(finding) = offline(&[("a.test", record), ("b.test", record)]) {
                prop_assert!(matches!(finding, Finding::Spf(_)));
            }
        }
    }
}
