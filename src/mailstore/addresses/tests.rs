//! Addresses on a real directory: who gets the mail, what is refused, and what happens to a file that others change or
//! break.
//!
//! How it fails: a failing test names the case.

use super::*;
use crate::base::knob::Octets;
use crate::mailstore::accounts::{AccountKnobs, AccountOptions};
use crate::wire::address::parse_mailbox;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    accounts: Arc<Accounts>,
    addresses: Addresses,
}

/// A directory with these accounts and this file; `example.test` and `bücher.example` are local.
fn place(accounts: &[&str], file: &str) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let cheap = AccountKnobs { argon2_memory: Octets::kib(64), argon2_passes: 1, ..AccountKnobs::default() };
    let store = Arc::new(Accounts::open(dir.path(), cheap).unwrap());
    for name in accounts {
        store.add(name, "secret", AccountOptions::default()).unwrap();
    }
    if !file.is_empty() {
        std::fs::write(dir.path().join("addresses"), file).unwrap();
    }
    let addresses = open(&dir, &store, "+").unwrap();
    Place { dir, accounts: store, addresses }
}

fn open(dir: &TempDir, accounts: &Arc<Accounts>, separator: &str) -> Result<Addresses, AddressesError> {
    let domains = ["example.test", "bücher.example"].map(|d| parse_domain(d).unwrap()).to_vec();
    Addresses::open(
        dir.path(),
        accounts.clone(),
        &AddressKnobs { separator: separator.into(), ..AddressKnobs::default() },
        domains,
    )
}

/// Who gets it, in one line: accounts, `/mailbox`, `>remote`.
fn who(addresses: &Addresses, address: &str) -> String {
    match addresses.resolve(&parse_mailbox(address).unwrap()) {
        Resolved::Local { accounts, mailbox, remote } => {
            let mailbox = mailbox.map(|m| format!("/{m}"));
            let remote = remote.into_iter().map(|m| format!(">{m}"));
            accounts.into_iter().chain(mailbox).chain(remote).collect::<Vec<_>>().join(" ")
        }
        Resolved::Unknown => "unknown".into(),
        Resolved::NotLocal => "not local".into(),
    }
}

#[track_caller]
fn check(place: &Place, rows: &[(&str, &str)]) {
    for (address, expected) in rows {
        assert_eq!(who(&place.addresses, address), *expected, "{address}");
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

#[test]
fn accounts_have_addresses() {
    let place = place(&["ann", "bob@example.test", "jürgen@bücher.example", "eve@example.net"], "");
    check(
        &place,
        &[
            ("ann@example.test", "ann"),
            ("ANN@Example.Test", "ann"),
            ("ann@xn--bcher-kva.example", "ann"),
            ("bob@example.test", "bob@example.test"),
            ("bob@bücher.example", "unknown"),
            ("jürgen@xn--bcher-kva.example", "jürgen@bücher.example"),
            ("Jürgen@Bücher.example", "jürgen@bücher.example"),
            // A name to log in with that is an address elsewhere makes that domain no domain of ours.
            ("eve@example.net", "eve@example.net"),
            ("mallory@example.net", "not local"),
            ("nobody@example.test", "unknown"),
            ("ann@[192.0.2.1]", "not local"),
            ("\"a b\"@example.test", "unknown"),
        ],
    );
    let is_local = |domain: &str| place.addresses.is_local_domain(&parse_domain(domain).unwrap());
    assert!(is_local("EXAMPLE.test") && is_local("bücher.example") && is_local("xn--bcher-kva.example"));
    assert!(!is_local("example.net") && !is_local("sub.example.test"));
}

#[test]
fn aliases_lists_and_the_rest() {
    let place = place(
        &["ann", "bob@example.test"],
        "# ours\n\
         domain example.org\n\
         \n\
         alias postmaster -> ann\n\
         alias sales@example.test -> ann, bob@example.test, carol@example.net\n\
         alias Sales2@example.test->sales@example.test,ann\n\
         list team@example.org -> sales@example.test, dave@example.net, ann\n\
         alias @example.org -> bob@example.test\n",
    );
    check(
        &place,
        &[
            ("postmaster@example.test", "ann"),
            ("Postmaster@example.org", "ann"),
            ("sales@example.test", "ann bob@example.test >carol@example.net"),
            ("SALES2@example.test", "ann bob@example.test >carol@example.net"),
            ("sales@example.org", "bob@example.test"),
            ("team@example.org", "ann bob@example.test >carol@example.net >dave@example.net"),
            ("ann@example.org", "ann"),
            ("whoever@example.org", "bob@example.test"),
            ("whoever@example.test", "unknown"),
        ],
    );
    let members = Some(own(&["sales@example.test", "dave@example.net", "ann@example.org"]));
    for name in ["team@example.org", "<Team@Example.Org>", "team"] {
        assert_eq!(place.addresses.expand(name), members, "{name}");
    }
    for name in ["sales@example.test", "ann@example.test", "team@example.test", "nobody", ""] {
        assert_eq!(place.addresses.expand(name), None, "{name}");
    }
    assert_eq!(place.addresses.problems(), []);
}

#[test]
fn behind_the_separator_stands_a_mailbox() {
    let place = place(
        &["ann", "x+y@example.test"],
        "alias sales -> ann\nalias bills -> ann+Money@example.test\nlist all -> ann, x+y@example.test\n",
    );
    check(
        &place,
        &[
            ("ann+Lists@example.test", "ann /Lists"),
            ("ann+a+b@example.test", "ann /a+b"),
            ("ann+a/b@example.test", "ann /a/b"),
            ("ann+@example.test", "ann"),
            ("ann+*@example.test", "ann"),
            ("ann+/a@example.test", "ann"),
            ("+ann@example.test", "unknown"),
            ("nobody+x@example.test", "unknown"),
            ("x+y@example.test", "x+y@example.test"),
            ("sales+New@example.test", "ann /New"),
            ("bills@example.test", "ann /Money"),
            ("bills+x@example.test", "ann /Money"),
            ("all+x@example.test", "ann x+y@example.test"),
        ],
    );
    let minus = open(&place.dir, &place.accounts, "-").unwrap();
    assert_eq!(
        (who(&minus, "ann-a@example.test"), who(&minus, "ann+a@example.test")),
        ("ann /a".into(), "unknown".into())
    );
    let none = open(&place.dir, &place.accounts, "").unwrap();
    assert_eq!(who(&none, "ann+a@example.test"), "unknown");
    for wrong in ["++", "a", "@", " ", "\""] {
        assert!(open(&place.dir, &place.accounts, wrong).unwrap_err().to_string().contains("separator"), "{wrong}");
    }
}

#[test]
fn where_there_is_one_account_it_is_postmaster() {
    let one = place(&["ann"], "");
    check(&one, &[("PostMaster@example.test", "ann"), ("postmaster@example.net", "not local")]);
    check(&place(&["ann", "bob"], ""), &[("postmaster@example.test", "unknown")]);
    check(&place(&["ann", "bob"], "alias @example.test -> bob\n"), &[("postmaster@example.test", "bob")]);
}

#[test]
fn an_alias_stands_in_front_of_an_account() {
    let place = place(
        &["ann", "bob@example.test"],
        "alias ann@example.test -> ann@example.test, a@example.net\nalias bob@example.test -> b@example.net\n",
    );
    check(
        &place,
        &[
            ("ann@example.test", "ann >a@example.net"),
            ("ann@bücher.example", "ann"),
            ("bob@example.test", ">b@example.net"),
        ],
    );
}

#[test]
fn loops_are_told_and_left_out() {
    let place = place(&["ann"], "alias a -> b\nalias b -> c, ann\nalias c -> a\n");
    check(&place, &[("a@example.test", "ann"), ("c@example.test", "ann")]);
    let told: Vec<String> = place.addresses.problems().iter().map(ToString::to_string).collect();
    assert!(told.contains(&"mail would go round: a -> b -> c -> a".to_owned()), "{told:?}");

    let place = self::place(&["ann"], "alias a -> b@example.test\nalias b -> ann\n");
    let error = place.addresses.add(AddressKind::Alias, "b", &own(&["a"])).unwrap_err().to_string();
    assert_eq!(error, "mail would go round: a -> b -> a");
    let error = place.addresses.add(AddressKind::Alias, "x", &own(&["X"])).unwrap_err().to_string();
    assert_eq!(error, "mail would go round: x -> x");
    check(&place, &[("a@example.test", "ann"), ("x@example.test", "unknown")]);
    let text = std::fs::read_to_string(place.addresses.path()).unwrap();
    assert_eq!(text, "alias a -> b@example.test\nalias b -> ann\n", "nothing was changed");
}

#[test]
fn limits_have_names() {
    let chain: String = (0..CHAIN_MAX).map(|n| format!("alias a{n} -> a{}\n", n + 1)).collect();
    let place = place(&["ann"], &format!("{chain}alias a{CHAIN_MAX} -> ann\n"));
    assert_eq!(place.addresses.problems().len(), 1);
    assert!(place.addresses.problems()[0].to_string().starts_with("more than 10 aliases behind each other: a0 -> a1"));
    check(&place, &[("a0@example.test", "unknown"), ("a1@example.test", "ann")]);

    let members: Vec<String> = (0..MEMBERS_MAX).map(|n| format!("m{n}@example.net")).collect();
    let full = format!("list full -> {}\n", members.join(", "));
    let place = self::place(&["ann"], &format!("{full}list more -> full, ann, x@example.net\n"));
    assert_eq!(place.addresses.expand("full").unwrap().len(), MEMBERS_MAX);
    assert_eq!(place.addresses.problems(), [Problem::TooMany { from: "more".into() }]);
    let error = place.addresses.add(AddressKind::List, "full", &own(&["ann"])).unwrap_err();
    assert!(error.to_string().contains("more than 1000 members"), "{error}");
    let text = format!("{}, one-more@example.net\n", full.trim_end());
    std::fs::write(place.addresses.path(), text).unwrap();
    let error = open(&place.dir, &place.accounts, "+").unwrap_err().to_string();
    assert!(error.contains("addresses:1: full has more than 1000 members"), "{error}");
}

#[test]
fn changes_keep_what_people_wrote() {
    let place = place(&["ann", "bob"], "# mine\n\ndomain example.org\nalias  a@example.org   ->  ann\n# end\n");
    place.addresses.add(AddressKind::Alias, "A@Example.Org", &own(&["bob"])).unwrap();
    place.addresses.add(AddressKind::List, "all", &own(&["ann", "bob"])).unwrap();
    place.addresses.add_domain("Example.COM").unwrap();
    let text = std::fs::read_to_string(place.addresses.path()).unwrap();
    let expected = "# mine\n\ndomain example.org\ndomain example.com\nalias a@example.org -> ann, bob\n# end\n\
                    list all -> ann, bob\n";
    assert_eq!(text, expected);
    check(&place, &[("a@example.org", "ann bob"), ("all@example.com", "ann bob")]);
    assert_eq!(place.addresses.domains(), ["example.test", "xn--bcher-kva.example", "example.org", "example.com"]);

    place.addresses.remove("a@example.org", &own(&["ann"])).unwrap();
    place.addresses.remove("all", &[]).unwrap();
    place.addresses.remove_domain("example.com").unwrap();
    let rows = place.addresses.list();
    assert_eq!(rows, [AddressRow { kind: AddressKind::Alias, from: "a@example.org".into(), to: own(&["bob"]) }]);
    place.addresses.remove("a@example.org", &own(&["bob"])).unwrap();
    assert_eq!(place.addresses.list(), [], "an alias without members is none");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let place = place(&["ann"], "");
    let add = |kind, from: &str, to: &[&str]| place.addresses.add(kind, from, &own(to)).unwrap_err().to_string();
    use AddressKind::{Alias, List};
    assert!(add(Alias, "x@example.org", &["ann"]).contains("example.org is not a local domain"));
    assert!(add(Alias, "@example.org", &["ann"]).contains("not a local domain"));
    assert!(add(Alias, "x", &["bob"]).contains("x leads to bob, which is neither an account"));
    assert!(add(Alias, "x", &["bob@example.test"]).contains("x leads to bob@example.test"));
    assert!(add(Alias, "x", &["a@"]).contains("cannot be used"));
    assert!(add(Alias, "x", &["a@[192.0.2.1]"]).contains("literal"));
    assert!(add(Alias, "x", &["\"a, b\"@example.net"]).contains("quoted"));
    assert!(add(Alias, "x y", &["ann"]).contains("cannot be used"));
    assert!(add(Alias, "x", &["@example.test"]).contains("cannot be used"));
    assert!(add(Alias, "x", &["ann", "ANN"]).contains("ann in x is there already"));
    assert!(add(List, "@example.test", &["ann"]).contains("cannot be used"));
    assert!(add(Alias, "@example.test", &["nobody@example.test"]).contains("mail would go round"));
    assert!(!place.addresses.path().exists(), "nothing was written");
    place.addresses.add(Alias, "x", &own(&["ann"])).unwrap();
    assert!(add(List, "x", &["ann"]).contains("the alias x is there already"));
    assert!(place.addresses.remove("x", &own(&["bob"])).unwrap_err().to_string().contains("no member bob of x"));
    assert!(place.addresses.remove("y", &[]).unwrap_err().to_string().contains("no alias or list y"));
    assert!(place.addresses.remove_domain("example.test").is_err(), "it is the configuration's");
    assert!(place.addresses.add_domain("example.test").is_err() && place.addresses.add_domain("a b").is_err());
}

#[test]
fn a_running_server_notices_changes_of_both_files() {
    let place = place(&["ann"], "");
    let command = open(&place.dir, &place.accounts, "+").unwrap();
    command.add(AddressKind::Alias, "sales", &own(&["ann"])).unwrap();
    check(&place, &[("sales@example.test", "unknown")]);
    place.addresses.refresh_if_changed();
    check(&place, &[("sales@example.test", "ann"), ("bob@example.test", "unknown")]);
    place.accounts.add("bob", "secret", AccountOptions::default()).unwrap();
    place.accounts.remove("ann").unwrap();
    place.addresses.refresh_if_changed();
    check(&place, &[("sales@example.test", "unknown"), ("bob@example.test", "bob")]);
    assert_eq!(place.addresses.problems(), [Problem::Nobody { from: "sales".into(), to: "ann".into() }]);
}

#[test]
fn a_file_that_broke_leaves_the_last_good_one_in_force() {
    let place = place(&["ann"], "alias sales -> ann\n");
    for (broken, what) in [
        ("alias sales ann\n", "addresses:1: expected FROM -> TO"),
        ("# x\nforward sales -> ann\n", "addresses:2: expected domain, alias, list or a comment"),
        ("alias sales -> ann\nlist Sales -> ann\n", "addresses:2: sales stands here twice"),
        ("domain a b\n", "addresses:1: \"a b\" is no domain"),
        ("alias sales -> ann,\n", "addresses:1: \"\" cannot be used"),
        ("list @example.test -> ann\n", "addresses:1: a whole domain"),
    ] {
        std::fs::write(place.addresses.path(), broken).unwrap();
        place.addresses.refresh_if_changed();
        check(&place, &[("sales@example.test", "ann")]);
        let error = open(&place.dir, &place.accounts, "+").unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        let error = place.addresses.add(AddressKind::Alias, "x", &own(&["ann"])).unwrap_err().to_string();
        assert!(error.contains(what), "a change must not throw away what somebody wrote: {error}");
    }
    std::fs::write(place.addresses.path(), "alias other -> ann\n").unwrap();
    place.addresses.refresh_if_changed();
    check(&place, &[("sales@example.test", "unknown"), ("other@example.test", "ann")]);
}

/// The naive twin: every account that can be reached.
fn reached(graph: &BTreeMap<usize, Vec<usize>>, accounts: &BTreeSet<usize>, from: usize) -> BTreeSet<usize> {
    let (mut found, mut seen, mut left) = (BTreeSet::new(), BTreeSet::new(), vec![from]);
    while let Some(name) = left.pop() {
        let Some(targets) = graph.get(&name).filter(|_| seen.insert(name)) else { continue };
        for target in targets {
            let is_account = !graph.contains_key(target) || *target == name;
            if is_account && accounts.contains(target) {
                found.insert(*target);
            } else {
                left.push(*target);
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn an_expansion_is_what_can_be_reached(
        graph in prop::collection::btree_map(0usize..8, prop::collection::vec(0usize..8, 1..4), 0..8),
    ) {
        let accounts: BTreeSet<usize> = [1, 3, 5, 7].into();
        let lines = graph.iter().map(|(from, to)| {
            let to: Vec<String> = to.iter().map(|n| format!("n{n}")).collect();
            format!("alias n{from} -> {}\n", to.join(", "))
        });
        let content = Content::parse(Path::new("addresses"), &lines.collect::<String>()).unwrap();
        prop_assert_eq!(&Content::parse(Path::new("addresses"), &content.emit()).unwrap(), &content);
        let table = TWIN.with(|names| Table::new(&content, names, &[parse_domain("example.test").unwrap()], None));
        for from in graph.keys() {
            let address = parse_mailbox(&format!("n{from}@example.test")).unwrap();
            let got: BTreeSet<usize> = match table.resolve(&address) {
                Resolved::Local { accounts, .. } => accounts.iter().map(|name| name[1..].parse().unwrap()).collect(),
                _ => BTreeSet::new(),
            };
            prop_assert_eq!(got, reached(&graph, &accounts, *from), "from {}", from);
        }
    }
}

thread_local! {
    /// The accounts of the twin's world.
    static TWIN: Names = place(&["n1", "n3", "n5", "n7"], "").accounts.names();
}
