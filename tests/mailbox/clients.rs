//! The clients people read mail with, from Debian's packages (and IMAPClient from PyPI): each does with a real mailbox
//! what its users do.
//!
//! Interactive programs run in a terminal of their own that Python's `pty` makes; the keys are those a person would press.

use crate::access::Imap;
use crate::support::peers::peer;
use crate::support::{DRIVERS, Gate, Ran, run, wait_for};
use crate::{PASSWORD, USER, deliver, message, python, system};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A place for a client's files.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    /// A file only its owner can read, as clients want it.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
    fn run(&self, program: &Path, args: &[&str]) -> Ran {
        run(Command::new(program).args(args).env("HOME", self.0.path()).current_dir(self.0.path()), "")
    }
}

/// Everything in the files of a directory and those below it.
fn contents(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return all };
    for entry in entries.map(Result::unwrap) {
        if entry.path().is_dir() {
            all.extend(contents(&entry.path()));
        } else {
            all.push(String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned());
        }
    }
    all
}

fn holding(dir: &Path, text: &str) -> usize {
    contents(dir).iter().filter(|c| c.contains(text)).count()
}

fn port(gate: &Gate, listener: &str) -> String {
    gate.address(listener).port().to_string()
}

fn three_messages(gate: &Gate) {
    for n in 1..=3 {
        deliver(gate, USER, &message(&format!("number {n}")));
    }
}

#[test]
fn fetchmail_by_pop3_apop_and_imap() {
    let Some(fetchmail) = peer("fetchmail") else { return };
    for io in DRIVERS {
        let gate = system(io, &[]);
        for (n, (protocol, listener)) in [("pop3", "pop3"), ("apop", "pop3"), ("imap", "imap")].into_iter().enumerate()
        {
            deliver(&gate, USER, &message(protocol));
            let home = Home::new();
            let got = home.path("got");
            let rc = home.file(
                "rc",
                &format!(
                    "poll 127.0.0.1 protocol {protocol} service {} user \"{USER}\" password \"{PASSWORD}\" sslproto '' \
                     fetchall mda \"cat >> {}\"\n",
                    port(&gate, listener),
                    got.display()
                ),
            );
            let pid = home.path("pid");
            let ran = home.run(&fetchmail, &["-f", rc.to_str().unwrap(), "--pidfile", pid.to_str().unwrap(), "-v"]);
            assert!(ran.ok, "{io} {n} {protocol}: {ran:?}");
            let text = fs::read_to_string(&got).unwrap();
            assert!(text.contains(&format!("Subject: {protocol}")), "{text}");
        }
        // It deletes what it has fetched.
        let mut imap = Imap::login(&gate, USER);
        assert!(imap.ok("SELECT INBOX").iter().any(|l| l == "* 0 EXISTS"));
    }
}

#[test]
fn fetchmail_waits_in_idle_and_gets_mail_at_once() {
    let Some(fetchmail) = peer("fetchmail") else { return };
    let gate = system("auto", &[]);
    let home = Home::new();
    let got = home.path("got");
    let rc = home.file(
        "rc",
        &format!(
            "poll 127.0.0.1 protocol imap service {} user \"{USER}\" password \"{PASSWORD}\" sslproto '' idle keep \
             mda \"cat >> {}\"\n",
            port(&gate, "imap"),
            got.display()
        ),
    );
    let pid = home.path("pid");
    let mut child = Command::new(&fetchmail)
        .args(["-f", rc.to_str().unwrap(), "--pidfile", pid.to_str().unwrap()])
        .env("HOME", home.0.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    deliver(&gate, USER, &message("while it waits"));
    wait_for("fetchmail to get the mail", || {
        fs::read_to_string(&got).ok().filter(|t| t.contains("Subject: while it waits"))
    });
    crate::support::signal(child.id(), "TERM");
    child.wait().unwrap();
}

#[test]
fn mbsync_keeps_a_maildir_in_step_both_ways() {
    let Some(mbsync) = peer("mbsync") else { return };
    for io in DRIVERS {
        let gate = system(io, &[]);
        three_messages(&gate);
        let home = Home::new();
        fs::create_dir(home.path("mail")).unwrap();
        let rc = home.file(
            "rc",
            &format!(
                "IMAPAccount a\nHost 127.0.0.1\nPort {}\nUser {USER}\nPass \"{PASSWORD}\"\nSSLType None\nAuthMechs LOGIN\n\n\
                 IMAPStore far\nAccount a\n\nMaildirStore near\nPath {}/\nInbox {}/INBOX\nSubFolders Verbatim\n\n\
                 Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
                port(&gate, "imap"),
                home.path("mail").display(),
                home.path("mail").display()
            ),
        );
        let sync = || {
            let ran = home.run(&mbsync, &["-c", rc.to_str().unwrap(), "c"]);
            assert!(ran.ok, "{io}: {ran:?}");
        };
        sync();
        assert_eq!(holding(&home.path("mail/INBOX"), "Subject: number"), 3);
        // One is read there, one deleted here, one written there.
        let mut imap = Imap::login(&gate, USER);
        imap.ok("SELECT INBOX");
        imap.ok("STORE 1 +FLAGS (\\Deleted)");
        imap.ok("EXPUNGE");
        fs::write(home.path("mail/INBOX/new/1.x.y"), "Subject: from there\n\nhello\n").unwrap();
        let unread = fs::read_dir(home.path("mail/INBOX/new"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| fs::read_to_string(p).unwrap().contains("number 2"))
            .unwrap();
        let name = unread.file_name().unwrap().to_string_lossy().into_owned();
        let base = name.split(":2,").next().unwrap();
        fs::rename(&unread, home.path(&format!("mail/INBOX/cur/{base}:2,S"))).unwrap();
        sync();
        assert_eq!(holding(&home.path("mail/INBOX"), "Subject: number"), 2);
        let lines = imap.ok("NOOP");
        assert!(lines.iter().any(|l| l.ends_with("EXISTS")), "{lines:?}");
        let fetched = imap.ok("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])").join("\n");
        assert!(fetched.contains("from there"), "{fetched}");
        let seen = imap.ok("SEARCH SEEN SUBJECT \"number 2\"").join("\n");
        assert!(seen.trim_end() != "* SEARCH", "{seen}");
    }
}

#[test]
fn offlineimap_mirrors_the_account() {
    let Some(offlineimap) = peer("offlineimap") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    let home = Home::new();
    let rc = home.file(
        "rc",
        &format!(
            "[general]\naccounts = a\nmetadata = {}\nui = basic\n[Account a]\nlocalrepository = l\nremoterepository = r\n\
             [Repository l]\ntype = Maildir\nlocalfolders = {}\n\
             [Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {}\nremoteuser = {USER}\n\
             remotepass = {PASSWORD}\nssl = no\nstarttls = no\nauth_mechanisms = PLAIN, LOGIN\n",
            home.path("state").display(),
            home.path("mail").display(),
            port(&gate, "imap"),
        ),
    );
    for _ in 0..2 {
        let ran = home.run(&offlineimap, &["-c", rc.to_str().unwrap(), "-o", "-1"]);
        assert!(ran.ok, "{ran:?}");
        assert_eq!(holding(&home.path("mail/INBOX"), "Subject: number"), 3, "{ran:?}");
    }
}

#[test]
fn getmail_by_pop3_and_imap() {
    let Some(getmail) = peer("getmail") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    for (retriever, listener) in [("SimplePOP3Retriever", "pop3"), ("SimpleIMAPRetriever", "imap")] {
        let home = Home::new();
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(home.path("mail").join(part)).unwrap();
        }
        // Run by root it delivers as somebody else, who must be let in.
        let open = Command::new("chmod").args(["-R", "a+rwX", home.0.path().to_str().unwrap()]).status();
        assert!(open.unwrap().success());
        let user = if crate::support::peers::is_root() { "user = nobody\n" } else { "" };
        let rc = home.file(
            "rc",
            &format!(
                "[retriever]\ntype = {retriever}\nserver = 127.0.0.1\nport = {}\nusername = {USER}\npassword = {PASSWORD}\n\
                 [destination]\ntype = Maildir\npath = {}/\n{user}[options]\nread_all = true\ndelete = false\n",
                port(&gate, listener),
                home.path("mail").display()
            ),
        );
        let dir = home.0.path().to_str().unwrap().to_owned();
        let ran = home.run(&getmail, &["--getmaildir", &dir, "--rcfile", rc.to_str().unwrap()]);
        assert!(ran.ok, "{retriever}: {ran:?}");
        assert_eq!(holding(&home.path("mail/new"), "Subject: number"), 3, "{retriever}: {ran:?}");
    }
}

#[test]
fn mpop_delivers_and_knows_what_it_has_by_uidl() {
    let Some(mpop) = peer("mpop") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    let home = Home::new();
    let rc = home.file(
        "rc",
        &format!(
            "account default\nhost 127.0.0.1\nport {}\nuser {USER}\npassword \"{PASSWORD}\"\ntls off\nauth user\nkeep on\n\
             uidls_file {}\ndelivery mbox {}\n",
            port(&gate, "pop3"),
            home.path("uidls").display(),
            home.path("mbox").display()
        ),
    );
    for _ in 0..2 {
        let ran = home.run(&mpop, &["-C", rc.to_str().unwrap()]);
        assert!(ran.ok, "{ran:?}");
        let mbox = fs::read_to_string(home.path("mbox")).unwrap();
        assert_eq!(mbox.matches("Subject: number").count(), 3, "{mbox}");
    }
}

#[test]
fn s_nail_reads_by_pop3_and_imap() {
    let Some(s_nail) = peer("s-nail") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    for listener in ["pop3", "imap"] {
        let home = Home::new();
        let url = format!("{listener}://ann%40example.test:correct%20horse@127.0.0.1:{}", port(&gate, listener));
        let mut command = Command::new(&s_nail);
        command.args(["-n", "-#", "-S", "v15-compat=yes", "-R", "-Y", "type 2", "-Y", "xit", "-f", &url]);
        let ran = run(command.env("HOME", home.0.path()), "");
        assert!(ran.out.contains("The text of number 2."), "{listener}: {ran:?}");
    }
}

#[test]
fn msmtp_submits_and_the_mail_is_in_the_mailbox() {
    let Some(msmtp) = peer("msmtp") else { return };
    let gate = system("auto", &[]);
    let home = Home::new();
    let rc = home.file(
        "rc",
        &format!(
            "account default\nhost 127.0.0.1\nport {}\nauth scram-sha-256\nuser {USER}\npassword \"{PASSWORD}\"\n\
             tls on\ntls_starttls on\ntls_certcheck off\nfrom {USER}\n",
            port(&gate, "submission")
        ),
    );
    let mut command = Command::new(&msmtp);
    command.args(["-C", rc.to_str().unwrap(), USER]).env("HOME", home.0.path());
    let ran = run(&mut command, "Subject: by msmtp\n\nhello\n");
    assert!(ran.ok, "{ran:?}");
    let mut imap = Imap::login(&gate, USER);
    imap.ok("SELECT INBOX");
    assert!(imap.ok("FETCH 1 ENVELOPE").join("").contains("by msmtp"));
}

#[test]
fn curl_in_every_way_it_can() {
    let Some(curl) = peer("curl") else { return };
    for io in DRIVERS {
        let gate = system(io, &[]);
        three_messages(&gate);
        let home = Home::new();
        let user = format!("{USER}:{PASSWORD}");
        let get = |scheme: &str, listener: &str, path: &str, more: &[&str]| {
            let url = format!("{scheme}://127.0.0.1:{}/{path}", port(&gate, listener));
            let mut args = vec!["-sS", "-k", "--user", &user];
            args.extend_from_slice(more);
            args.push(&url);
            let ran = home.run(&curl, &args);
            assert!(ran.ok, "{io} {url} {more:?}: {ran:?}");
            ran.out
        };
        for (scheme, listener, more) in
            [("imap", "imap", &[][..]), ("imap", "imap", &["--ssl-reqd"]), ("imaps", "imaps", &[])]
        {
            assert!(get(scheme, listener, "INBOX;MAILINDEX=2", more).contains("Subject: number 2"));
            assert!(get(scheme, listener, "INBOX;UID=3/;SECTION=TEXT", more).contains("The text of number 3."));
            assert!(get(scheme, listener, "", more).contains("INBOX"));
            assert!(get(scheme, listener, "INBOX?SUBJECT%20%22number%201%22", more).contains("SEARCH 1"));
        }
        for (scheme, listener, more) in
            [("pop3", "pop3", &[][..]), ("pop3", "pop3", &["--ssl-reqd"]), ("pop3s", "pop3s", &[])]
        {
            assert!(get(scheme, listener, "2", more).contains("Subject: number 2"));
            assert_eq!(get(scheme, listener, "", more).lines().count(), 3);
        }
        for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1"] {
            let option = format!("AUTH={mechanism}");
            // Not every build of curl has SCRAM.
            let ran = home.run(
                &curl,
                &[
                    "-sS",
                    "--user",
                    &user,
                    "--login-options",
                    &option,
                    &format!("imap://127.0.0.1:{}/", port(&gate, "imap")),
                ],
            );
            let cannot = ran.err.contains("login denied") || ran.err.contains("not supported") || ran.code == Some(67);
            assert!(ran.ok || mechanism.starts_with("SCRAM") && cannot, "{mechanism}: {ran:?}");
        }
        let letter = home.file("letter", &message("by curl").replace("\r\n", "\n").replace('\n', "\r\n"));
        get("imap", "imap", "Drafts", &["-T", letter.to_str().unwrap()]);
        assert!(get("imap", "imap", "Drafts;MAILINDEX=1", &[]).contains("Subject: by curl"));
    }
}

#[test]
fn pythons_own_clients() {
    for io in DRIVERS {
        let gate = system(io, &[]);
        three_messages(&gate);
        let script = r#"
import imaplib, poplib, ssl, sys
imap_port, imaps_port, pop_port, pops_port, user, password = sys.argv[1:]
any_tls = ssl._create_unverified_context()
for make in (lambda: poplib.POP3("127.0.0.1", int(pop_port)), lambda: poplib.POP3_SSL("127.0.0.1", int(pops_port), context=any_tls)):
    p = make(); p.user(user); p.pass_(password)
    assert p.stat()[0] == 3, p.stat()
    sizes = {int(l.split()[0]): int(l.split()[1]) for l in p.list()[1]}
    for n in (1, 2, 3):
        _, lines, octets = p.retr(n)
        assert octets == sizes[n] == len(b"\r\n".join(lines)) + 2, (octets, sizes, lines)
    uidls = p.uidl()[1]
    assert len(set(u.split()[1] for u in uidls)) == 3, uidls
    assert len(p.top(1, 1)[1]) >= 4
    assert "UIDL" in p.capa(), p.capa()
    p.quit()
p = poplib.POP3("127.0.0.1", int(pop_port)); p.stls(any_tls); p.apop(user, password); p.dele(1); p.rset(); p.quit()
m = imaplib.IMAP4("127.0.0.1", int(imap_port)); m.starttls(any_tls); m.login(user, password)
def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]
ok(m.select()); assert ok(m.search(None, "ALL")) == [b"1 2 3"]
ok(m.store("1", "+FLAGS", r"(\Flagged $Label)")); assert b"$Label" in ok(m.fetch("1", "(FLAGS)"))[0]
ok(m.create("Work/Inner")); ok(m.copy("1:2", "Work/Inner")); ok(m.rename("Work", "Play"))
assert any(b"Play/Inner" in l for l in ok(m.list()))
ok(m.append("Play", r"(\Seen)", imaplib.Time2Internaldate(1000000000), b"Subject: appended\r\n\r\ntext\r\n"))
ok(m.select("Play/Inner")); assert ok(m.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"2 1"]
assert ok(m.thread("REFERENCES", "UTF-8", "ALL"))
ok(m.store("1:*", "+FLAGS", r"(\Deleted)")); ok(m.expunge()); ok(m.close()); ok(m.delete("Play/Inner"))
assert ok(m.status("Play", "(MESSAGES UIDNEXT UNSEEN)")) == [b"Play (MESSAGES 1 UIDNEXT 2 UNSEEN 0)"], m.status("Play", "(MESSAGES UIDNEXT UNSEEN)")
ok(m.getquotaroot("INBOX")); ok(m.namespace()); m.logout()
n = imaplib.IMAP4_SSL("127.0.0.1", int(imaps_port), ssl_context=any_tls); n.login(user, password)
ok(n.select()); assert len(ok(n.fetch("1:3", "(RFC822)"))) == 6; n.logout()
print("done")
"#;
        let ports = ["imap", "imaps", "pop3", "pop3s"].map(|l| port(&gate, l));
        let [imap, imaps, pop3, pop3s] = &ports;
        let Some(ran) = python(script, &[imap, imaps, pop3, pop3s, USER, PASSWORD]) else { return };
        assert!(ran.ok && ran.out.contains("done"), "{io}: {ran:?}");
    }
}

#[test]
fn imapclient_with_what_newer_servers_offer() {
    let gate = system("auto", &["--set", "mailbox.quota_octets=1 GiB", "--set", "mailbox.quota_messages=1000"]);
    three_messages(&gate);
    let Some(probe) = python("import imapclient", &[]) else { return };
    if !probe.ok {
        // No package of Debian's: where PyPI cannot be reached it cannot be had.
        eprintln!("skipped: IMAPClient is not here");
        return;
    }
    let script = r#"
import sys, threading, imaplib
from imapclient import IMAPClient
port, user, password = sys.argv[1:]
c = IMAPClient("127.0.0.1", port=int(port), ssl=False, use_uid=True); c.login(user, password); c.enable("QRESYNC")
for word in (b"IDLE", b"MOVE", b"UIDPLUS", b"CONDSTORE", b"QRESYNC", b"SPECIAL-USE", b"NAMESPACE", b"QUOTA", b"ID"):
    assert c.has_capability(word), word
assert c.id_({"name": "test"}) is not None
assert c.find_special_folder(b"\\Sent") == "Sent"
c.select_folder("INBOX"); uids = c.search(["SUBJECT", "number"]); assert uids == [1, 2, 3], uids
got = c.fetch(uids, ["ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "INTERNALDATE", "MODSEQ", "BODY[TEXT]<0.8>"])
assert got[2][b"ENVELOPE"].subject == b"number 2" and got[2][b"BODY[TEXT]<0>"] == b"The text", got[2]
c.create_folder("Entw\u00fcrfe"); assert "Entw\u00fcrfe" in [f[2] for f in c.list_folders()]
c.move([1], "Entw\u00fcrfe"); assert c.search() == [2, 3]
d = IMAPClient("127.0.0.1", port=int(port), ssl=False); d.login(user, password); d.select_folder("INBOX")
c.idle(); d.append("INBOX", b"Subject: while idle\r\n\r\nx\r\n"); seen = c.idle_check(timeout=20); c.idle_done()
assert any(r[1] == b"EXISTS" for r in seen), seen
assert c.sort(["SUBJECT"]), c.thread("REFERENCES")
q = {r.resource: r.limit for r in c.get_quota("INBOX")}; assert q == {"STORAGE": 1048576, "MESSAGE": 1000}, q
c.add_flags([2], [b"\\Deleted"]); c.uid_expunge([2]); assert 2 not in c.search()
c.unselect_folder(); c.logout(); d.logout()
print("done")
"#;
    let Some(ran) = python(script, &[&port(&gate, "imap"), USER, PASSWORD]) else { return };
    assert!(ran.ok && ran.out.contains("done"), "{ran:?}");
}

/// Runs a program in a terminal: waits for each text on its screen and presses the keys behind it; all it showed.
const TERMINAL: &str = r#"
import os, pty, select, sys, time, struct, fcntl, termios
cut = sys.argv.index("--"); steps = list(zip(sys.argv[1:cut:2], sys.argv[2:cut:2])); command = sys.argv[cut + 1:]
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(command[0], command)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
shown, since, end = b"", 0, time.time() + 40
for text, keys in steps + [("\0end", "")]:
    while text.encode() not in shown[since:]:
        if time.time() > end:
            sys.stdout.buffer.write(shown); sys.stdout.flush(); os.kill(pid, 9); sys.exit("waited in vain for %r" % text)
        if select.select([fd], [], [], 0.2)[0]:
            try:
                more = os.read(fd, 65536)
            except OSError:
                more = b""
            if not more:
                if text == "\0end":
                    break
                sys.stdout.buffer.write(shown); sys.stdout.flush(); sys.exit("ended before %r" % text)
            shown += more
    else:
        since = len(shown); time.sleep(0.3); os.write(fd, keys.encode().decode("unicode_escape").encode()); continue
    break
os.waitpid(pid, 0); sys.stdout.buffer.write(shown); print("done")
"#;

#[test]
fn mutt_reads_by_imap_and_pop_in_a_terminal() {
    let Some(mutt) = peer("mutt") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    let home = Home::new();
    for scheme in ["imap", "pop"] {
        let listener = if scheme == "pop" { "pop3" } else { "imap" };
        let rc = home.file(
            "muttrc",
            &format!(
                "set imap_user=\"{USER}\" imap_pass=\"{PASSWORD}\" pop_user=\"{USER}\" pop_pass=\"{PASSWORD}\"\n\
                 set ssl_starttls=no ssl_force_tls=no header_cache=\"\" mail_check=0 quit=yes pop_checkinterval=1\n\
                 set imap_check_subscribed=no confirmappend=no move=no mark_old=no folder=\"{}\"\n",
                home.0.path().display()
            ),
        );
        let place = format!("{scheme}://127.0.0.1:{}/", port(&gate, listener));
        let steps = ["number 3", "2\n\n", "The text of number 2", "q", "number", "q"];
        let rc = rc.to_str().unwrap();
        let mut args: Vec<&str> = steps.to_vec();
        let at_home = format!("HOME={}", home.0.path().display());
        args.extend(["--", "/usr/bin/env", &at_home, mutt.to_str().unwrap(), "-n", "-F", rc, "-f", &place]);
        let Some(ran) = python(TERMINAL, &args) else { return };
        assert!(ran.ok && ran.out.contains("The text of number 2."), "{scheme}: {ran:?}");
    }
}

#[test]
fn alpine_reads_by_imap_in_a_terminal() {
    let Some(alpine) = peer("alpine") else { return };
    let gate = system("auto", &[]);
    three_messages(&gate);
    let home = Home::new();
    let rc = home.file(
        "pinerc",
        &format!(
            "inbox-path={{127.0.0.1:{}/user={USER}/notls}}INBOX\nfeature-list=quell-full-header-reset\nlast-version-used=6.26\n",
            port(&gate, "imap")
        ),
    );
    let rc = rc.to_str().unwrap();
    let password = format!("{PASSWORD}\\r");
    let at_home = format!("HOME={}", home.0.path().display());
    let args = [
        "PASSWORD",
        &password,
        "Preserve password",
        "n",
        "number 3",
        "j2\\r",
        "2",
        "\\r",
        "The text of number",
        "q",
        "really quit",
        "y",
        "--",
        "/usr/bin/env",
        &at_home,
        alpine.to_str().unwrap(),
        "-p",
        rc,
        "-P",
        rc,
        "-i",
    ];
    let Some(ran) = python(TERMINAL, &args) else { return };
    assert!(ran.out.contains("The text of number"), "{ran:?}");
}
