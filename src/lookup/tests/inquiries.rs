//! Names, mail domains, lists and SPF through the lane.

use super::*;
use crate::base::address::{Host, Mailbox};
use crate::base::inquiry::{MailDomain, Subject, Verified};
use std::net::Ipv4Addr;

fn mailbox(local: &str, host: &str) -> Mailbox {
    Mailbox::from_checked(local, Host::Domain(domain(host)))
}
fn listed(zone: &str, ip: &str) -> Inquiry {
    Inquiry::Listed { zone: domain(zone), subject: Subject::Address(ip.parse().unwrap()) }
}
fn codes(texts: &[&str]) -> Finding {
    Finding::Listed(texts.iter().map(|t| t.parse::<Ipv4Addr>().unwrap()).collect())
}

#[test]
fn names_of_clients() {
    let desk = Desk::new(
        "192.0.2.1 PTR nx.test\n192.0.2.1 PTR ok.test\nok.test A 192.0.2.1\nok.test AAAA 2001:db8::1\n\
         192.0.2.2 PTR ok.test\n192.0.2.3 PTR sick.test\nsick.test SERVFAIL\n2001:db8::1 PTR ok.test",
    );
    let reverse = |ip: &str| desk.find(&Inquiry::Reverse(ip.parse().unwrap()));
    let named = |claimed: &str, confirmed: Option<&str>| Finding::Reverse {
        claimed: Some(domain(claimed)),
        confirmed: confirmed.map(domain),
    };
    assert_eq!(reverse("192.0.2.1"), named("nx.test", Some("ok.test")));
    assert_eq!(reverse("::ffff:192.0.2.1"), named("nx.test", Some("ok.test")));
    assert_eq!(reverse("2001:db8::1"), named("ok.test", Some("ok.test")));
    assert_eq!(reverse("192.0.2.2"), named("ok.test", None), "a name that does not resolve back");
    assert_eq!(reverse("192.0.2.9"), Finding::Reverse { claimed: None, confirmed: None });
    assert!(why(reverse("192.0.2.3")).contains("SERVFAIL"));
    assert!(desk.at_hand(&Inquiry::Reverse([192, 0, 2, 1].into())));
    let helo = |name: &str, client: &str| {
        desk.find(&Inquiry::HeloHost { name: domain(name), client: client.parse().unwrap() })
    };
    assert_eq!(helo("OK.test", "192.0.2.1"), Finding::HeloHost(true));
    assert_eq!(helo("ok.test", "2001:db8::1"), Finding::HeloHost(true));
    assert_eq!(helo("ok.test", "192.0.2.2"), Finding::HeloHost(false));
    assert_eq!(helo("nx.test", "192.0.2.2"), Finding::HeloHost(false));
    assert!(why(helo("sick.test", "192.0.2.2")).contains("address of sick.test"));
}

#[test]
fn domains_that_take_mail_and_domains_that_do_not() {
    let desk = Desk::new(
        "mx.test MX 10 a.mx.test\nnull.test MX 0 .\nboth.test MX 0 .\nboth.test MX 1 mx.test\nhost.test A 192.0.2.1\n\
         text.test TXT x\nsick.test SERVFAIL\nhalf.test MX EMPTY\nhalf.test SERVFAIL",
    );
    let mail = |name: &str| desk.find(&Inquiry::MailDomain(domain(name)));
    assert_eq!(mail("mx.test"), Finding::MailDomain(MailDomain::Exchangers));
    assert_eq!(mail("null.test"), Finding::MailDomain(MailDomain::NullMx));
    assert_eq!(mail("both.test"), Finding::MailDomain(MailDomain::Exchangers));
    assert_eq!(mail("host.test"), Finding::MailDomain(MailDomain::Address));
    assert_eq!(mail("text.test"), Finding::MailDomain(MailDomain::Nothing));
    assert_eq!(mail("nx.test"), Finding::MailDomain(MailDomain::Nothing));
    assert!(why(mail("sick.test")).contains("SERVFAIL"));
    assert!(why(mail("half.test")).contains("SERVFAIL"), "no MX, and whether there is an address is not known");
}

#[test]
fn lists_and_their_codes() {
    let desk = Desk::new(
        "2.2.0.192.bl.test A 127.0.0.4\n2.2.0.192.bl.test A 127.0.0.2\n*.parked.test A 192.0.2.80\n\
         *.public.test A 127.255.255.254\nexample.org.names.test A 127.0.1.2\n\
         2.0.0.127.bl.test A 127.0.0.2\nalias.3.2.0.192.bl.test A 127.0.0.9\n3.2.0.192.bl.test CNAME alias.3.2.0.192.bl.test",
    );
    assert_eq!(desk.find(&listed("bl.test", "192.0.2.2")), codes(&["127.0.0.2", "127.0.0.4"]));
    assert!(desk.at_hand(&listed("BL.test", "192.0.2.2")));
    assert_eq!(desk.find(&listed("bl.test", "192.0.2.3")), codes(&["127.0.0.9"]));
    assert_eq!(desk.find(&listed("bl.test", "192.0.2.9")), codes(&[]));
    assert!(desk.at_hand(&listed("bl.test", "192.0.2.9")), "not being listed is kept as the SOA says");
    assert_eq!(desk.find(&listed("bl.test", "2001:db8::2")), codes(&[]));
    assert!(why(desk.find(&listed("parked.test", "192.0.2.2"))).contains("outside of 127.0.0.0/8"));
    assert!(why(desk.find(&listed("public.test", "192.0.2.2"))).contains("public resolvers"));
    let name = Inquiry::Listed { zone: domain("names.test"), subject: Subject::Name(domain("Example.ORG")) };
    assert_eq!(desk.find(&name), codes(&["127.0.1.2"]));
    assert_eq!(desk.server.asked("2.2.0.192.bl.test", "AAAA"), 0, "lists have no AAAA");
    let zones = desk.asker.zones();
    let bl = zones.iter().find(|z| &*z.zone == "bl.test").unwrap();
    assert_eq!((bl.asked, bl.listed, bl.failed, bl.open), (4, 2, 0, false));
}

#[test]
fn a_dead_list_is_left_alone_and_the_others_are_not() {
    let desk = Desk::with("*.dead.test SERVFAIL\n*.bl.test A 127.0.0.2", |knobs| {
        knobs.list_failures_max = 3;
        knobs.list_retry_after = Duration::from_secs(1);
    });
    for n in 0..10 {
        let reason = why(desk.find(&listed("dead.test", &format!("192.0.2.{n}"))));
        assert_eq!(reason.contains("not asked for now"), n >= 3, "{reason}");
    }
    assert_eq!(desk.find(&listed("bl.test", "192.0.2.1")), codes(&["127.0.0.2"]));
    desk.server.replace("*.dead.test A 127.0.0.3\n");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(desk.find(&listed("dead.test", "192.0.2.77")), codes(&["127.0.0.3"]), "tried again");
    assert_eq!(desk.find(&listed("dead.test", "192.0.2.78")), codes(&["127.0.0.3"]));
    let zones = desk.asker.zones();
    let dead = zones.iter().find(|z| &*z.zone == "dead.test").unwrap();
    assert_eq!((dead.asked, dead.failed, dead.listed), (5, 3, 2));
    assert!(dead.spared >= 7 && !dead.open);
}

#[test]
fn spf_of_sender_and_of_helo() {
    let desk = Desk::new(
        "ok.test TXT \"v=spf1 mx \" \"-all exp=why.ok.test\"\nok.test MX 10 mx.ok.test\nmx.ok.test A 192.0.2.1\n\
         why.ok.test TXT \"%{i} may not send for %{d}\"\nmail.test TXT \"v=spf1 ip4:192.0.2.0/24 ~all\"\n\
         sick.test SERVFAIL\nfirst.test TXT \"v=spf1 -all\"\nfirst.test TXT \"v=spf1 +all\"",
    );
    let spf = |client: &str, helo: &str, sender: Option<Mailbox>| match desk.find(&Inquiry::Spf {
        client: client.parse().unwrap(),
        helo: helo.into(),
        sender,
    }) {
        Finding::Spf(spf) => spf,
        other => panic!("{other:?}"),
    };
    let pass = spf("192.0.2.1", "x.test", Some(mailbox("a", "OK.test")));
    assert_eq!((pass.result, &*pass.domain, pass.of_helo), (Verified::Pass, "ok.test", false));
    let fail = spf("192.0.2.2", "x.test", Some(mailbox("a", "ok.test")));
    assert_eq!(fail.result, Verified::Fail);
    assert_eq!(fail.explanation.as_deref(), Some("192.0.2.2 may not send for ok.test"));
    let helo = spf("192.0.2.2", "Mail.test", None);
    assert_eq!((helo.result, &*helo.domain, helo.of_helo), (Verified::Pass, "mail.test", true));
    assert_eq!(spf("198.51.100.1", "mail.test", None).result, Verified::Softfail);
    assert_eq!(spf("192.0.2.2", "[192.0.2.2]", None).result, Verified::None);
    assert_eq!(spf("192.0.2.2", "localhost", None).result, Verified::None);
    assert_eq!(spf("192.0.2.2", "x", Some(mailbox("a", "sick.test"))).result, Verified::Temperror);
    assert_eq!(spf("192.0.2.2", "x", Some(mailbox("a", "first.test"))).result, Verified::Permerror);
    assert_eq!(spf("192.0.2.2", "x", Some(mailbox("a", "nx.test"))).result, Verified::None);
    let literal = Mailbox::from_checked("a", Host::Ip([192, 0, 2, 2].into()));
    assert_eq!(spf("192.0.2.2", "x", Some(literal)).result, Verified::None);
    let again = Inquiry::Spf { client: [192, 0, 2, 1].into(), helo: "y".into(), sender: Some(mailbox("b", "ok.test")) };
    assert!(desk.at_hand(&again), "made from records that are at hand");
}

#[test]
fn spf_asks_for_no_more_than_it_may() {
    let mut zones = String::from("many.test TXT \"v=spf1");
    (0..11).for_each(|n| zones.push_str(&format!(" exists:e{n}.hit.test")));
    zones.push_str(" -all\"\n*.hit.test EMPTY\nvoid.test TXT \"v=spf1 a:n1.test a:n2.test a:n3.test +all\"\n");
    zones.push_str("loop.test TXT \"v=spf1 include:loop.test -all\"\nround.test TXT \"v=spf1 redirect=round.test\"\n");
    zones.push_str("wide.test TXT \"v=spf1 mx -all\"\n");
    (0..11).for_each(|n| zones.push_str(&format!("wide.test MX {n} h{n}.wide.test\nh{n}.wide.test A 198.51.100.1\n")));
    let desk = Desk::new(&zones);
    for name in ["many.test", "void.test", "loop.test", "round.test", "wide.test"] {
        let before = desk.server.queries();
        let inquiry =
            Inquiry::Spf { client: [192, 0, 2, 1].into(), helo: "x".into(), sender: Some(mailbox("a", name)) };
        let Finding::Spf(spf) = desk.find(&inquiry) else { panic!() };
        assert_eq!(spf.result, Verified::Permerror, "{name}");
        assert!(desk.server.queries() - before <= 13, "{name}: {:?}", desk.server.names());
    }
}

#[test]
fn equal_inquiries_share_one_query_and_all_are_answered() {
    let desk = Desk::with("2.2.0.192.bl.test A 127.0.0.2\n2.2.0.192.bl.test SLOW:150", |_| {});
    for token in 0..100 {
        assert!(matches!(desk.asker.inquire(token, &listed("bl.test", "192.0.2.2"), None), Inquired::Waiting));
    }
    let mut tokens: Vec<u32> =
        (0..100).map(|_| desk.next()).map(|(t, f)| (t, assert_eq!(f, codes(&["127.0.0.2"]))).0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
    assert_eq!(desk.server.asked("2.2.0.192.bl.test", "A"), 1);
    let kinds = desk.asker.kinds();
    let lists = kinds.iter().find(|k| k.kind == Kind::Listed).unwrap();
    assert_eq!((lists.asked, lists.shared, lists.cached, lists.failed), (100, 99, 0, 0));
    assert_eq!(lists.latency.iter().sum::<u64>(), 100);
    assert!(lists.latency_us_sum > 100 * 100_000);
}

#[test]
fn fixed_records_hold_for_every_inquiry() {
    let desk = Desk::with("", |knobs| {
        knobs.records = [
            "2.2.0.192.bl.test A 127.0.0.2",
            "d.test TXT v=spf1 a:h.test -all",
            "h.test A 192.0.2.2",
            "192.0.2.2 PTR h.test",
            "null.test MX 0 .",
        ]
        .iter()
        .map(|r| r.parse().unwrap())
        .collect();
    });
    let sender = Some(mailbox("a", "d.test"));
    for inquiry in [
        listed("bl.test", "192.0.2.2"),
        Inquiry::Spf { client: [192, 0, 2, 2].into(), helo: "h.test".into(), sender },
        Inquiry::Reverse([192, 0, 2, 2].into()),
        Inquiry::HeloHost { name: domain("h.test"), client: [192, 0, 2, 2].into() },
        Inquiry::MailDomain(domain("null.test")),
    ] {
        assert!(desk.at_hand(&inquiry), "{inquiry:?}");
    }
    assert_eq!(desk.server.queries(), 0);
}

#[test]
fn what_is_open_when_the_lane_stops_is_answered() {
    let mut desk = Desk::with("*.bl.test TIMEOUT", |knobs| knobs.timeout = Duration::from_secs(20));
    for token in 0..5 {
        let inquiry = listed("bl.test", &format!("192.0.2.{token}"));
        assert!(matches!(desk.asker.inquire(token, &inquiry, None), Inquired::Waiting));
    }
    drop(desk.lane.take());
    let mut tokens = Vec::new();
    while let Ok((token, finding)) = desk.found.recv_timeout(Duration::from_millis(10)) {
        assert!(why(finding).contains("stopped"));
        tokens.push(token);
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4]);
    let Inquired::Now(9, finding) = desk.asker.inquire(9, &listed("bl.test", "192.0.2.9"), None) else { panic!() };
    assert!(why(finding).contains("stopped"));
}

#[test]
fn a_dead_name_server_costs_its_time_and_no_more() {
    let desk = Desk::with("", |knobs| {
        knobs.timeout = Duration::from_secs(60);
        knobs.deadline = Duration::from_secs(60);
        knobs.inquiry_deadline = Duration::from_millis(300);
    });
    desk.server.silence(true);
    let before = Instant::now();
    assert!(why(desk.find(&listed("bl.test", "192.0.2.1"))).contains("not found out within 300ms"));
    let spf = Inquiry::Spf { client: [192, 0, 2, 1].into(), helo: "x".into(), sender: Some(mailbox("a", "d.test")) };
    let Finding::Spf(spf) = desk.find(&spf) else { panic!() };
    assert_eq!((spf.result, &*spf.domain), (Verified::Temperror, "d.test"), "RFC 7208 section 4.6.4");
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert_eq!(desk.asker.zones()[0].failed, 1, "a question given up is a failure of the list");
    desk.server.silence(false);
    assert_eq!(desk.find(&listed("bl.test", "192.0.2.7")), codes(&[]), "the lane works on");
}

#[test]
fn the_queue_of_inquiries_is_bounded() {
    let desk = Desk::with("*.bl.test SLOW:200", |knobs| knobs.waiting_max = 3);
    let mut refused = 0;
    for token in 0..10 {
        match desk.asker.inquire(token, &listed("bl.test", &format!("192.0.2.{token}")), None) {
            Inquired::Waiting => {}
            Inquired::Now(_, finding) => {
                assert!(why(finding).contains("too many lookups"));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 7);
    (0..3).for_each(|_| assert_eq!(desk.next().1, codes(&[])));
}

/// Helpers that answer after a while, or never.
struct Slow;
impl Consult for Slow {
    fn consult<'a>(
        &'a self,
        name: &'a str,
        _: &'a Case,
    ) -> std::pin::Pin<Box<dyn std::future::Future<Output = Finding> + Send + 'a>> {
        Box::pin(async move {
            match name {
                "hangs" => std::future::pending().await,
                "breaks" => panic!("a helper's fault"),
                name => Finding::Unknown(name.into()),
            }
        })
    }
}

#[test]
fn helpers_are_consulted_and_hold_up_nobody() {
    let server = dns::DnsServer::start("*.bl.test A 127.0.0.2");
    let knobs = LookupKnobs { servers: vec![NameServer(server.address())], in_flight_max: 2, ..LookupKnobs::default() };
    let (tx, found) = channel();
    let (lane, asker) = Lane::start_with(&knobs, Arc::new(Slow), move |token: u32, reply| {
        let Reply::Finding(finding) = reply else { panic!() };
        let _ = tx.send((token, finding));
    })
    .unwrap();
    let case = messages::case(None, None);
    let ask = |token, name: &str| asker.inquire(token, &Inquiry::Consult(name.into()), Some(case.clone()));
    (0..5).for_each(|token| assert!(matches!(ask(token, "hangs"), Inquired::Waiting)));
    assert!(matches!(ask(10, "breaks"), Inquired::Waiting));
    assert!(matches!(ask(11, "says"), Inquired::Waiting));
    assert!(matches!(asker.inquire(12, &listed("bl.test", "192.0.2.1"), None), Inquired::Waiting));
    let next = || found.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut three = [next(), next(), next()];
    three.sort_by_key(|(token, _)| *token);
    assert_eq!(three[1], (11, Finding::Unknown("says".into())));
    assert_eq!(three[2], (12, codes(&["127.0.0.2"])));
    assert!(matches!(&three[0], (10, Finding::Unknown(_))), "a fault inside a helper is an answer too");
    let Inquired::Now(13, finding) = asker.inquire(13, &Inquiry::Consult("says".into()), None) else { panic!() };
    assert!(why(finding).contains("not told about whom"));
    drop(lane);
    let mut rest: Vec<u32> = found.try_iter().map(|(token, _)| token).collect();
    rest.sort_unstable();
    assert_eq!(rest, [0, 1, 2, 3, 4]);
}
