//! Files that are right, and everything that can be wrong in one.

use super::*;
use crate::control::diagnostic::render;
use crate::gateway::config::{ListenerTls, Service};
use crate::gateway::targets::{BackendProtocol, RouteMode, Target};

fn read(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load_text(Some(Path::new("/etc/gatepost/gatepost.toml")), text, &Overrides::default())
}

fn good(text: &str) -> Loaded {
    read(text).map_err(|d| render(&d)).unwrap()
}

/// The file is refused, with exactly these places and words.
#[track_caller]
fn bad(text: &str, expected: &[&str]) {
    let diagnostics = read(text).map(|l| format!("{:?}", l.config)).unwrap_err();
    let shown: Vec<String> = diagnostics
        .iter()
        .map(|d| {
            let place = d.place.as_ref().map_or_else(String::new, |p| format!("{}:{} ", p.line, p.column));
            let help = d.help.as_ref().map_or_else(String::new, |h| format!(" | {h}"));
            format!("{place}{}{help}", d.message)
        })
        .collect();
    assert_eq!(shown, expected, "\n{}", render(&diagnostics));
}

fn flags(overrides: &Overrides) -> Result<Loaded, String> {
    load_text(None, "", overrides).map_err(|d| render(&d))
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = good("").config;
    let ports: Vec<(&str, String, Service, ListenerTls)> =
        config.listeners.iter().map(|l| (l.name.as_str(), l.address.to_string(), l.service, l.tls)).collect();
    assert_eq!(
        ports,
        [
            ("mx", "127.0.0.1:2525".into(), Service::Mx, ListenerTls::StartTls),
            ("submission", "127.0.0.1:2587".into(), Service::Submission, ListenerTls::StartTls),
            ("submissions", "127.0.0.1:2465".into(), Service::Submission, ListenerTls::Implicit),
            ("lmtp", "127.0.0.1:2424".into(), Service::Lmtp, ListenerTls::None),
            ("pop3", "127.0.0.1:2110".into(), Service::Pop3, ListenerTls::StartTls),
            ("pop3s", "127.0.0.1:2995".into(), Service::Pop3, ListenerTls::Implicit),
            ("imap", "127.0.0.1:2143".into(), Service::Imap, ListenerTls::StartTls),
            ("imaps", "127.0.0.1:2993".into(), Service::Imap, ListenerTls::Implicit),
        ]
    );
    assert_eq!(config.domains.len(), 1);
    assert_eq!(config.domains[0].as_str(), "example.test");
    assert_eq!(config.settings.server.data, PathBuf::from("gatepost-data"));
    let routes: Vec<_> = config.routes.iter().map(|r| (r.name.as_str(), r.mode, r.target.clone())).collect();
    assert_eq!(
        routes,
        [("local", RouteMode::Mailbox, Target::Mailboxes), ("default", RouteMode::Spool, Target::Mx)],
        "local mail goes into mailboxes, the rest by MX"
    );
    assert!(config.settings.server.protected.contains("127.0.0.1".parse().unwrap()));
}

#[test]
fn the_example_is_right() {
    let text = include_str!("../../../policy/gatepost.example.toml");
    let loaded = good(text);
    assert!(loaded.warnings.is_empty(), "{}", render(&loaded.warnings));
    let config = loaded.config;
    assert_eq!(config.hostname.as_str(), "mx1.example.org");
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.pools[1].backends[0].protocol, BackendProtocol::Lmtp);
    let routes: Vec<_> = config.routes.iter().map(|r| (r.name.as_str(), r.mode, r.target.clone())).collect();
    assert_eq!(
        routes,
        [
            ("inbound", RouteMode::CutThrough, Target::Pool(0)),
            ("lists", RouteMode::Spool, Target::Pool(1)),
            ("outbound", RouteMode::Spool, Target::Mx)
        ]
    );
    assert_eq!(config.certificates.len(), 1);
}

#[test]
fn every_mistake_is_reported_at_its_word() {
    bad(
        "[server]\nhostnam = \"a\"\ncores = 99\nmode = \"spol\"\ndata = 3\n[sever]\nx = 1\n",
        &[
            "2:1 unknown key \"hostnam\" in [server] | did you mean \"hostname\"?",
            "3:9 \"cores\" in [server]: expected 0 to 64 (cores), found 99",
            "4:8 \"mode\" in [server]: expected one of cut-through, spool, auto, mailbox, found \"spol\" | did you mean \"spool\"?",
            "5:8 \"data\" in [server]: expected a path, found 3",
            "6:2 unknown section \"sever\" | did you mean \"server\"?",
        ],
    );
}

#[test]
fn keys_in_the_wrong_place_are_sent_home() {
    bad(
        "hostname = \"mx.example.org\"\nnonsense = 1\n[log]\nhostname = \"mx.example.org\"\n",
        &[
            "1:1 \"hostname\" stands in no section | \"hostname\" belongs in [server]",
            "2:1 \"nonsense\" stands in no section",
            "4:1 unknown key \"hostname\" in [log] | \"hostname\" belongs in [server]",
        ],
    );
}

#[test]
fn items_of_a_list_are_blamed_alone() {
    bad(
        "[server]\nprotected = [\"loopback\", \"10.0.0.0/33\", 7]\ndomains = [\"example.org\", \"exa mple\", \"b_c.de\"]\n",
        &[
            "2:26 \"protected\" in [server]: expected a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", an address, \"loopback\" or \"private\", found \"10.0.0.0/33\"",
            "2:41 \"protected\" in [server]: expected a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", an address, \"loopback\" or \"private\", found a number",
            "3:27 \"exa mple\" is no domain name: the domain is malformed",
            "3:39 \"b_c.de\" is no domain name: the domain is malformed",
        ],
    );
}

#[test]
fn values_no_knob_can_have() {
    bad(
        "[server]\ncores = 1.5\nshutdown_grace = 1979-05-27\nconnections_max = 99999999999999999999\ndata = { a = 1 }\n[log]\ntargets = [[1]]\n",
        &[
            "2:9 expected an integer for \"cores\" in [server], found a number with a fraction",
            "3:18 expected a duration for \"shutdown_grace\" in [server], found a date",
            "4:19 expected an integer for \"connections_max\" in [server], found a number that is too large",
            "5:8 expected a path for \"data\" in [server], found a table",
            "7:12 \"targets\" in [log]: expected a string, found a list",
        ],
    );
}

#[test]
fn broken_syntax_points_at_the_place() {
    let diagnostics = read("[server\nhostname = \n").unwrap_err();
    assert!(diagnostics.iter().all(|d| d.is_error() && d.place.is_some()), "{}", render(&diagnostics));
    assert_eq!(diagnostics[0].place.as_ref().unwrap().line, 1);
    assert!(read("[server]\ncores = 1\ncores = 2\n").is_err(), "a key twice");
    assert!(read("[server]\n[server]\n").is_err(), "a section twice");
}

#[test]
fn listeners_must_not_clash() {
    bad(
        r#"
[[listener]]
name = "a"
address = "0.0.0.0:25"
[[listener]]
name = "b"
address = "127.0.0.1:25"
[[listener]]
name = "a"
address = "[::]:25"
[[listener]]
address = "127.0.0.1:24"
[[listener]]
name = "no good"
address = "127.0.0.1"
[[listener]]
name = "lmtp"
address = "[::1]:26"
service = "lmtq"
"#,
        &[
            "7:11 listener \"b\" on 127.0.0.1:25 clashes with listener \"a\" on 0.0.0.0:25",
            "9:8 two listeners are called \"a\"",
            "11:1 [[listener]] has no \"name\", which is required",
            "14:8 \"no good\" is no name: letters, digits, - and _, at most 64",
            "15:11 \"address\" in [[listener]]: expected an address with port, such as \"127.0.0.1:25\" or \"[::1]:25\", found \"127.0.0.1\"",
            "19:11 \"service\" in [[listener]]: expected one of mx, submission, lmtp, pop3, imap, found \"lmtq\" | did you mean \"lmtp\"?",
        ],
    );
}

#[test]
fn lmtp_keeps_off_port_25() {
    bad(
        "[[listener]]\nname = \"x\"\naddress = \"127.0.0.1:25\"\nservice = \"lmtp\"\n",
        &["3:11 LMTP must not be served on port 25 (RFC 2033 §5)"],
    );
}

#[test]
fn routes_must_lead_somewhere() {
    bad(
        r#"
[pool.main]
[[pool.main.backend]]
address = "10.0.0.1:25"
wight = 3
[pool.empty]
[route.a]
pool = "mian"
[route.b]
domains = ["example.org", "no good"]
[route.c]
domains = ["EXAMPLE.org"]
pool = "main"
mx = true
[route.d]
addresses = ["ann@", "ann@example.net"]
mx = true
mode = "cut-through"
verify = "callout"
[route.e]
smarthost = "mail.example.org"
verify = "table"
"#,
        &[
            "5:1 unknown key \"wight\" in [[pool.main.backend]] | did you mean \"weight\"?",
            "6:7 pool \"empty\" has no backend | add [[pool.empty.backend]] with an address",
            "8:8 there is no pool \"mian\" | did you mean \"main\"?",
            "9:8 route \"b\" leads nowhere | give it a pool, mx = true, a smarthost or mode = \"mailbox\"",
            "10:27 \"no good\" is no domain name: the domain is malformed",
            "12:12 \"EXAMPLE.org\" already goes by route \"b\"",
            "14:6 route \"c\" leads to pool and mx at once | keep one of them",
            "16:14 \"ann@\" is no mail address: an address is missing",
            "18:8 mode \"cut-through\" needs a \"pool\" or a \"smarthost\" that answers while the client waits",
            "19:10 a callout needs a \"pool\" or a \"smarthost\" to ask",
            "20:8 routes \"a\" and \"e\" both take every recipient | give one of them domains or addresses",
            "21:13 \"smarthost\" in [route.e]: expected a host with port, such as \"mail.example.test:25\", \"192.0.2.1:25\" or \"[2001:db8::1]:25\", found \"mail.example.org\"",
            "22:10 verify = \"table\" needs a \"table\" of addresses",
        ],
    );
}

#[test]
fn shapes_are_explained() {
    bad(
        "listener = 3\n[pool]\nweight = 2\n[route]\n\"a b\" = { mx = true }\n[[server]]\n[[tls.certificate]]\nkey = \"k\"\n",
        &[
            "1:12 \"listener\" is a list of tables, found a number | write it as [[listener]]",
            "3:1 \"weight\" stands in [pool] without a name | write it below a header such as [pool.main]",
            "5:1 \"a b\" is no name: letters, digits, - and _, at most 64",
            "6:1 \"server\" is a section, found a list | write it as [server]",
            "7:1 [[tls.certificate]] has no \"chain\", which is required",
        ],
    );
}

#[test]
fn backends_are_checked() {
    bad(
        "[route.x]\npool = \"p\"\n[[pool.p.backend]]\nuser = \"u\"\ntls_pin = \"abc\"\n",
        &[
            "3:1 [[pool.p.backend]] has no \"address\", which is required",
            "4:8 \"user\" without \"password_file\": AUTH needs both",
            "5:11 expected the 64 hexadecimal digits of a SHA-256",
            "5:11 \"tls_pin\" has no effect with tls = \"if-offered\" | did you mean tls = \"required\"?",
        ],
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let server = good("[server]\ndata = \"data\"\npolicy = \"/abs/policy.toml\"\n").config.settings.server;
    assert_eq!(server.data, PathBuf::from("/etc/gatepost/data"));
    assert_eq!(server.policy, Some(PathBuf::from("/abs/policy.toml")));
}

fn knob(flag: &str, section: &str, key: &str, value: &str) -> Override {
    Override { flag: flag.into(), section: section.into(), key: key.into(), value: Raw::Text(value.into()) }
}

#[test]
fn flags_win_over_the_file() {
    let overrides = Overrides {
        knobs: vec![knob("--cores", "server", "cores", "2"), knob("--mode", "server", "mode", "auto")],
        backends: vec!["127.0.0.1:2626".into(), "lmtp:[::1]:24".into()],
        listen: vec!["mx=127.0.0.1:0".into(), "lmtp=off".into()],
        port_base: Some(9000),
    };
    let config = flags(&overrides).unwrap().config;
    assert_eq!(config.settings.server.cores, 2);
    assert_eq!(config.pools[0].backends.len(), 2);
    assert_eq!(config.pools[0].backends[1].protocol, BackendProtocol::Lmtp);
    let route = &config.routes[0];
    assert_eq!((config.routes.len(), route.mode, &route.target), (1, RouteMode::Auto, &Target::Pool(0)));
    let ports: Vec<u16> = config.listeners.iter().map(|l| l.address.port()).collect();
    assert_eq!(ports, [0, 9001, 9002, 9004, 9005, 9006, 9007]);

    let text = "[server]\ncores = 8\n[pool.p]\n[[pool.p.backend]]\naddress = \"a.example:25\"\n\
                [route.local]\ndomains = \"example.org\"\npool = \"p\"\n[route.rest]\nmx = true\n";
    let config = load_text(None, text, &Overrides { port_base: None, ..overrides }).unwrap().config;
    assert_eq!(config.settings.server.cores, 2);
    let routes: Vec<_> = config.routes.iter().map(|r| (r.name.as_str(), r.target.clone())).collect();
    assert_eq!(routes, [("local", Target::Pool(0)), ("default", Target::Pool(1))], "the flag takes the rest");
}

#[test]
fn wrong_flags_are_named() {
    for (overrides, expected) in [
        (
            Overrides { knobs: vec![knob("--cores", "server", "cores", "99")], ..Overrides::default() },
            "error: --cores: expected 0 to 64 (cores), found 99\n",
        ),
        (
            Overrides { knobs: vec![knob("--set server.core=1", "server", "core", "1")], ..Overrides::default() },
            "error: --set server.core=1: unknown key \"core\" in [server]; did you mean \"cores\"?\n",
        ),
        (
            Overrides { knobs: vec![knob("--set sever.cores=1", "sever", "cores", "1")], ..Overrides::default() },
            "error: --set sever.cores=1: unknown section \"sever\"; did you mean \"server\"?\n",
        ),
        (
            Overrides { knobs: vec![knob("--domain", "server", "domains", "a b")], ..Overrides::default() },
            "error: --domain: \"a b\" is no domain name: the domain is malformed\n",
        ),
        (
            Overrides { knobs: vec![knob("--mode", "server", "mode", "cut-through")], ..Overrides::default() },
            "error: --mode: mode cut-through needs a backend; give --backend HOST:PORT, or a [pool.NAME] and a [route.NAME] in the file\n",
        ),
        (
            Overrides { listen: vec!["port=127.0.0.1:25".into()], ..Overrides::default() },
            "error: --listen port=127.0.0.1:25: there is no listener \"port\"; listeners are mx, submission, submissions, lmtp, pop3, pop3s, imap, imaps\n",
        ),
        (
            Overrides { listen: vec!["mx=127.0.0.1:2424".into()], ..Overrides::default() },
            "error: listener \"lmtp\" on 127.0.0.1:2424 clashes with listener \"mx\" on 127.0.0.1:2424\n",
        ),
        (
            Overrides { backends: vec!["localhost".into()], ..Overrides::default() },
            "error: --backend: expected a host with port, such as \"mail.example.test:25\", \"192.0.2.1:25\" or \"[2001:db8::1]:25\", found \"localhost\"\n",
        ),
    ] {
        assert_eq!(flags(&overrides).map(|l| format!("{:?}", l.config)).unwrap_err(), expected);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    let error = |path: &Path| render(&load(Some(path), &Overrides::default()).unwrap_err());
    assert!(error(&path).contains("cannot read") && error(&path).contains("x.toml"));
    assert!(error(dir.path()).contains("directory"));
    std::fs::write(&path, b"[server]\n# \xff\n").unwrap();
    assert!(error(&path).contains("line 2 is not UTF-8"));
    std::fs::write(&path, vec![b'#'; FILE_OCTETS_MAX as usize + 1]).unwrap();
    assert!(error(&path).contains("larger than 4 MiB"));
}

#[test]
fn helpers() {
    let config = good(
        "[helper.rspamd]\nkind = \"rspamd\"\naddress = \"http://127.0.0.1:11333\"\npassword_file = \"rspamd.password\"\n\
         [helper.clamav]\nkind = \"milter\"\naddress = \"unix:/run/clamav/milter.ctl\"\non_failure = \"unknown\"\n\
         listeners = [\"mx\"]\n",
    )
    .config;
    let shown: Vec<_> = config
        .helpers
        .iter()
        .map(|h| (h.name.as_str(), h.knobs.kind.unwrap().word(), h.knobs.address.clone().unwrap().to_string()))
        .collect();
    assert_eq!(
        shown,
        [
            ("rspamd", "rspamd", "inet:127.0.0.1:11333".to_owned()),
            ("clamav", "milter", "unix:/run/clamav/milter.ctl".to_owned()),
        ]
    );
    assert_eq!(config.helpers[0].knobs.password_file, Some(PathBuf::from("/etc/gatepost/rspamd.password")));
}

#[test]
fn helpers_that_cannot_be_used() {
    bad("[helper.a]\nkind = \"milter\"\n", &["1:9 [helper.a] has no \"address\", which is required"]);
    bad("[helper.a]\naddress = \"inet:[::1]:25\"\n", &["1:9 [helper.a] has no \"kind\", which is required"]);
    bad(
        "[helper.a]\nkind = \"spamd\"\naddress = \"run/x.sock\"\non_failure = \"deny\"\n",
        &[
            "2:8 \"kind\" in [helper.a]: expected one of milter, rspamd, policy, found \"spamd\" | did you mean \"rspamd\"?",
            "3:11 \"address\" in [helper.a]: expected an absolute path such as \"unix:/run/helper.sock\", or a host with \
             port such as \"inet:127.0.0.1:11332\", \"inet:[::1]:11332\" or \"inet:11332@localhost\", found \"run/x.sock\"",
            "4:14 \"on_failure\" in [helper.a]: expected one of accept, defer, reject, unknown, failed, found \"deny\"",
        ],
    );
    let doubtful = good(
        "[helper.a]\nkind = \"policy\"\naddress = \"inet:127.0.0.1:1\"\ncheck_all = true\nlisteners = [\"mxx\"]\n\
         answer_timeout = \"2m\"\n",
    );
    let shown: Vec<&str> = doubtful.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        shown,
        [
            "\"check_all\" has no effect with kind = \"policy\"",
            "there is no listener \"mxx\"",
            "\"answer_timeout\" is longer than \"timeout\", which then comes first",
        ]
    );
}
