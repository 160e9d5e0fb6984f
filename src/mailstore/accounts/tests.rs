//! Accounts on a real directory: what is kept, who gets in, and what happens to a file that others change or break.
//!
//! How it fails: a failing test names the case.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant as Clock;

fn cheap() -> AccountKnobs {
    AccountKnobs { argon2_memory: Octets::kib(64), argon2_passes: 1, ..AccountKnobs::default() }
}

fn open(dir: &Path) -> Accounts {
    Accounts::open(dir, cheap()).unwrap()
}

fn secs(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

const NOW: Instant = Instant::ZERO;

#[test]
fn the_life_of_an_account() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    accounts.add("Ann@Example.Test", "one", AccountOptions::default()).unwrap();
    accounts.add("bob", "two", AccountOptions { shared_secret: true }).unwrap();
    assert!(matches!(
        accounts.add("ann@example.test", "x", AccountOptions::default()),
        Err(AccountsError::Exists { .. })
    ));

    assert!(accounts.verify("ANN@example.test", "one", NOW));
    assert!(!accounts.verify("ann@example.test", "two", NOW));
    assert!(!accounts.verify("ann", "one", NOW), "a bare name is another account");
    assert!(!accounts.verify("nobody", "one", NOW));
    assert!(!accounts.verify("bob", "", NOW));

    let rows = accounts.list();
    assert_eq!(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["ann@example.test", "bob"]);
    assert!(rows[1].mechanisms.contains(&"CRAM-MD5") && !rows[0].mechanisms.contains(&"CRAM-MD5"));

    assert_eq!(accounts.shared_secret("ann@example.test"), None);
    assert_eq!(accounts.shared_secret("bob").unwrap().as_slice(), b"two");
    accounts.passwd("bob", "three", None).unwrap();
    assert_eq!(accounts.shared_secret("bob").unwrap().as_slice(), b"three", "it stays opted in");
    accounts.passwd("bob", "four", Some(AccountOptions::default())).unwrap();
    assert_eq!(accounts.shared_secret("bob"), None);

    assert!(accounts.may_act_as("Ann@Example.TEST", "ann@example.test"));
    assert!(!accounts.may_act_as("ann@example.test", "bob") && !accounts.may_act_as("eve", "eve"));
    accounts.remove("bob").unwrap();
    assert!(!accounts.exists("bob"));
    let gone = accounts.remove("ann@example.tset").unwrap_err().to_string();
    assert!(gone.contains("did you mean ann@example.test?"), "{gone}");
}

#[test]
fn an_account_has_a_quota_of_its_own_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    accounts.add("ann@example.test", "one", AccountOptions::default()).unwrap();
    let default = AccountQuota::default();
    assert_eq!(accounts.quota("ann@example.test"), default);
    assert_eq!(accounts.quota("nobody"), default);
    let own = AccountQuota { octets: Some(2 << 30), messages: None };
    accounts.set_quota("Ann@Example.Test", |_| own).unwrap();
    let other = open(dir.path());
    assert_eq!((other.quota("ann@example.test"), other.list()[0].quota), (own, own));
    other.set_quota("ann@example.test", |quota| AccountQuota { messages: Some(0), ..quota }).unwrap();
    // A new password leaves it alone.
    accounts.passwd("ann@example.test", "two", None).unwrap();
    assert_eq!(accounts.quota("ANN@example.test"), AccountQuota { octets: Some(2 << 30), messages: Some(0) });
    assert!(matches!(accounts.set_quota("bob", |q| q), Err(AccountsError::Unknown { .. })));
    accounts.remove("ann@example.test").unwrap();
    accounts.add("ann@example.test", "three", AccountOptions::default()).unwrap();
    assert_eq!(accounts.quota("ann@example.test"), default);
}

#[test]
fn another_process_reads_the_same_and_the_server_notices_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let command = open(dir.path());
    command.add("ann", "one", AccountOptions::default()).unwrap();
    assert!(server.verify("ann", "one", NOW));
    command.passwd("ann", "two", None).unwrap();
    assert!(!server.verify("ann", "one", NOW), "the remembered login is forgotten");
    assert!(server.verify("ann", "two", NOW));
    command.remove("ann").unwrap();
    assert!(!server.verify("ann", "two", NOW));
    assert_eq!(open(dir.path()).list(), []);
}

#[test]
fn nothing_in_the_file_is_the_password_unless_opted_in() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    accounts.add("ann", "hunter2", AccountOptions::default()).unwrap();
    let text = std::fs::read_to_string(accounts.path()).unwrap();
    assert!(text.contains("$argon2id$v=19$m=64,t=1,p=1$") && !text.contains("hunter2"));
    assert!(!format!("{accounts:?}").contains("argon2id$"));
    let mode = std::fs::metadata(accounts.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    accounts.add("bob", "hunter2", AccountOptions { shared_secret: true }).unwrap();
    assert!(std::fs::read_to_string(accounts.path()).unwrap().contains("hunter2"));
    assert!(!dir.path().join("accounts.new").exists());
}

#[test]
fn scram_keys_are_of_the_password_and_decoys_look_like_them() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    accounts.add("ann", "I\u{ad}X", AccountOptions::default()).unwrap();
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        let keys = accounts.scram_keys("ANN", hash);
        let again = ScramKeys::derive(hash, b"IX", &keys.salt, keys.iterations.try_into().unwrap());
        assert!(keys == again, "of the prepared password");
        let decoy = accounts.scram_keys("eve", hash);
        assert_eq!((decoy.salt.len(), decoy.iterations), (keys.salt.len(), keys.iterations));
        assert!(decoy == open(dir.path()).scram_keys("eve", hash), "the same after a restart");
    }
}

#[test]
fn a_login_is_remembered_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let knobs = AccountKnobs { argon2_memory: Octets::mib(4), argon2_passes: 4, ..AccountKnobs::default() };
    let accounts = Accounts::open(dir.path(), knobs).unwrap();
    accounts.add("ann", "one", AccountOptions::default()).unwrap();
    let timed = |now| {
        let started = Clock::now();
        assert!(accounts.verify("ann", "one", now));
        started.elapsed()
    };
    let full = timed(secs(0));
    let remembered = (1..6).map(|s| timed(secs(s))).min().unwrap();
    assert!(remembered * 10 < full, "{remembered:?} against {full:?}");
    assert!(timed(secs(601)) > remembered * 10, "forgotten after ten minutes");
}

#[test]
fn the_cache_is_bounded_and_keyed() {
    let mut cache = LoginCache::new([1; 32], 3, Duration::from_secs(10));
    let keys: Vec<_> = (0..5).map(|i| cache.key("ann", &i.to_string(), "v")).collect();
    for (i, key) in keys.iter().enumerate() {
        cache.insert(*key, secs(i as u64));
        cache.insert(*key, secs(i as u64));
    }
    assert_eq!(cache.len(), 3);
    assert!(!cache.contains(&keys[1], secs(4)) && cache.contains(&keys[2], secs(4)));
    assert!(!cache.contains(&keys[2], secs(12)) && cache.contains(&keys[4], secs(12)));
    assert!(!cache.contains(&keys[4], secs(14)) && cache.is_empty());
    assert_ne!(cache.key("a", "bc", "v"), cache.key("ab", "c", "v"));
    assert_ne!(cache.key("a", "b", "v"), LoginCache::new([2; 32], 3, Duration::ZERO).key("a", "b", "v"));
    let mut off = LoginCache::new([1; 32], 3, Duration::ZERO);
    off.insert(keys[0], NOW);
    assert!(off.is_empty());
}

#[test]
fn a_broken_file_is_told_by_line_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    accounts.add("ann", "one", AccountOptions::default()).unwrap();
    let good = std::fs::read_to_string(accounts.path()).unwrap();
    let ann = good.lines().nth(1).unwrap().to_owned();
    let header = good.lines().next().unwrap().to_owned();
    for (broken, said) in [
        (format!("{good}{{\"name\":\n"), "accounts:3: "),
        (format!("{good}{ann}\n"), "accounts:3: the account ann stands here twice"),
        (good.replace("$argon2id$", "$argon2i$"), "accounts:2: \"password\" is not an argon2id hash"),
        (good.replace("t=1", "t=9999999"), "accounts:2: \"password\" asks for more"),
        (good.replace("\"scram-sha-1\"", "\"scram\""), "accounts:2: unknown field `scram`"),
        (good.replace("SCRAM-SHA-256$4096:", "SCRAM-SHA-256$0:"), "accounts:2: \"scram-sha-256\" is not"),
        (good.replace("\"ann\"", "\"a b\""), "accounts:2: the account name \"a b\" cannot be used"),
        (good.replace("\"version\":1", "\"version\":2"), "accounts:1: expected format"),
        (header.replace("decoy_key\":\"", "decoy_key\":\"!"), "accounts:1: \"decoy_key\""),
        (String::new(), "accounts:1: the file is empty"),
    ] {
        std::fs::write(accounts.path(), &broken).unwrap();
        let e = Accounts::open(dir.path(), cheap()).unwrap_err().to_string();
        assert!(e.contains(said), "expected {said:?} in {e:?}");
        assert!(accounts.verify("ann", "one", NOW), "the running server keeps what it had");
        assert!(accounts.add("bob", "two", AccountOptions::default()).is_err());
        assert_eq!(std::fs::read_to_string(accounts.path()).unwrap(), broken);
    }
    std::fs::write(accounts.path(), good).unwrap();
    accounts.add("bob", "two", AccountOptions::default()).unwrap();
    assert_eq!(open(dir.path()).list().len(), 2);
}

#[test]
fn names_and_passwords_that_cannot_be_used_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let add = |name: &str, password: &str| accounts.add(name, password, AccountOptions::default());
    for (name, why) in [
        ("", "is empty"),
        ("a b", "U+0020"),
        ("../etc", "'/'"),
        ("..", "local part"),
        (".ann", "local part"),
        ("@example.test", "local part"),
        ("a@b@c", "local part"),
        ("ann@", "not a domain name"),
        ("ann@-x", "not a domain name"),
        ("ann@exa_mple", "not a domain name"),
        ("ann\n", "U+000A"),
    ] {
        let e = add(name, "pw").unwrap_err().to_string();
        assert!(e.contains(why), "{name:?}: expected {why:?} in {e:?}");
    }
    assert!(add(&format!("{}@x", "a".repeat(65)), "pw").unwrap_err().to_string().contains("64 octets"));
    for (password, why) in [("", "is empty"), ("a\nb", "U+000A"), (&"x".repeat(1025), "longer than 1024")] {
        let e = add("ann", password).unwrap_err().to_string();
        assert!(e.contains(why), "{e:?}");
    }
    add("jörg+tag@bücher.example", "pw").unwrap();
    assert!(!accounts.verify("jörg+tag@bücher.example", &"x".repeat(5000), NOW));
}

#[test]
fn changes_at_the_same_time_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let accounts = open(dir.path());
            scope.spawn(move || {
                for i in 0..5 {
                    accounts.add(&format!("user{t}-{i}"), "pw", AccountOptions::default()).unwrap();
                }
            });
        }
    });
    assert_eq!(open(dir.path()).list().len(), 20);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let e = Accounts::open(&file.join("data"), cheap()).unwrap_err().to_string();
    assert!(e.contains("file/data"), "{e}");
    std::fs::create_dir(dir.path().join("accounts")).unwrap();
    let e = Accounts::open(dir.path(), cheap()).unwrap_err().to_string();
    assert!(e.contains("regular file"), "{e}");
}
