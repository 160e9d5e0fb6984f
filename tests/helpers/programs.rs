//! Real helpers as children, each over a directory of its own, on loopback ports or sockets there.
//!
//! How it fails: a program that is not here gives `None` after saying `skipped`; one that does not come up in time panics
//! with what it said. Each is killed with its process group when its value is dropped.

use crate::support::peers::{Group, free_port, is_root, open_dir};
use crate::support::{PATIENCE, find_program, skipped};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The string that every filter of spam is to take for spam. In two halves, so that this file is none.
pub const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE", "-TEST-EMAIL*C.34X");

/// The file that every scanner is to take for a virus. In two halves, so that this file is none.
pub const EICAR: &str = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!$H+H*");

/// Programs that belong together, running.
pub struct Programs {
    pub dir: tempfile::TempDir,
    running: Vec<Group>,
}

impl Programs {
    fn new() -> Programs {
        let dir = open_dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Programs { dir, running: Vec::new() }
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address of a socket of the directory, as helpers are configured.
    pub fn socket(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// Writes a file in which `@DIR@` is the directory.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text.replace("@DIR@", &self.dir.path().display().to_string())).unwrap();
    }

    fn start(&mut self, program: &Path, args: &[&str]) {
        let said = fs::File::options().create(true).append(true).open(self.path("said")).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path());
        command.stdout(said.try_clone().unwrap()).stderr(said);
        self.running.push(Group::start(&mut command));
    }

    /// What they have said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("said")).unwrap_or_default()).into_owned()
    }

    fn wait(&self, what: &str, ready: impl Fn() -> bool) {
        let start = Instant::now();
        while !ready() {
            assert!(start.elapsed() < 2 * PATIENCE, "{what} did not come up; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_socket(&self, name: &str) {
        self.wait(name, || UnixStream::connect(self.path(name)).is_ok());
    }

    fn wait_port(&self, what: &str, port: u16) {
        self.wait(what, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }
}

/// The paths of these programs, or the word that one of them is missing.
fn found<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let mut paths = Vec::new();
    for name in names {
        match find_program(&[name, &format!("/usr/sbin/{name}")]) {
            Some(path) => paths.push(path),
            None => {
                skipped(&format!("{name} (see .ci/peers)"));
                return None;
            }
        }
    }
    paths.try_into().ok()
}

/// A line of a configuration that root needs, so that the program becomes its own user.
fn for_root(line: &str) -> &str {
    if is_root() { line } else { "" }
}

/// rspamd without DNS: its HTTP interface and its milter.
pub fn rspamd() -> Option<(Programs, String, String)> {
    let [program] = found(["rspamd"])?;
    let mut programs = Programs::new();
    let [http, milter] = [(); 2].map(|()| free_port());
    // A few domains instead of all: compiling them takes a while.
    programs.write("tld", "com\nnet\norg\ntest\n");
    let conf = format!(
        "options {{ pidfile = \"@DIR@/pid\"; tempdir = \"@DIR@\"; hs_cache_dir = \"@DIR@\"; filters = \"\";\n\
         control_socket = \"@DIR@/control mode=0600\"; url_tld = \"@DIR@/tld\"; disable_hyperscan = true;\n\
         dns {{ nameserver = [\"127.0.0.1:9\"]; timeout = 0.1s; retransmits = 1; }} }}\n\
         logging {{ type = \"console\"; level = \"warning\"; }}\n\
         actions {{ reject = 15; add_header = 6; greylist = 4; }}\n\
         worker \"normal\" {{ bind_socket = \"127.0.0.1:{http}\"; count = 1; }}\n\
         worker \"rspamd_proxy\" {{ bind_socket = \"127.0.0.1:{milter}\"; milter = yes; timeout = 20s; count = 1;\n\
         upstream \"local\" {{ default = yes; self_scan = yes; }} }}\n"
    );
    programs.write("rspamd.conf", &conf);
    let user: &[&str] = if is_root() { &["-u", "_rspamd", "-g", "_rspamd"] } else { &[] };
    let args = [&["-f", "-c", "rspamd.conf"][..], user].concat();
    programs.start(&program, &args);
    programs.wait_port("rspamd", http);
    programs.wait_port("rspamd's milter", milter);
    Some((programs, format!("inet:127.0.0.1:{http}"), format!("inet:127.0.0.1:{milter}")))
}

/// Whether clamd answers.
fn pong(socket: &Path) -> Option<()> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"nPING\n").ok()?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).ok()?;
    (&answer == b"PONG\n").then_some(())
}

/// ClamAV with one signature of ours, behind its milter.
pub fn clamav() -> Option<Programs> {
    let [clamd, milter] = found(["clamd", "clamav-milter"])?;
    let mut programs = Programs::new();
    fs::create_dir(programs.path("db")).unwrap();
    let hex: String = EICAR.bytes().map(|b| format!("{b:02x}")).collect();
    programs.write("db/test.ndb", &format!("Gatepost.Test.EICAR:0:*:{hex}\n"));
    let user = for_root("User clamav\n");
    programs.write(
        "clamd.conf",
        &format!(
            "Foreground yes\nLocalSocket @DIR@/clamd.sock\nDatabaseDirectory @DIR@/db\nTemporaryDirectory @DIR@\n\
             ScanMail yes\nConcurrentDatabaseReload no\n{user}"
        ),
    );
    programs.write(
        "milter.conf",
        &format!(
            "Foreground yes\nMilterSocket unix:@DIR@/milter.sock\nMilterSocketMode 666\n\
             ClamdSocket unix:@DIR@/clamd.sock\nOnInfected Reject\nRejectMsg \"infected by %v\"\nOnFail Defer\n\
             AddHeader Replace\nTemporaryDirectory @DIR@\n{user}"
        ),
    );
    programs.start(&clamd, &["-c", "clamd.conf"]);
    // The milter looks for clamd once at its start, and then rarely: clamd has to answer by then.
    programs.wait("clamd", || pong(&programs.path("clamd.sock")).is_some());
    programs.start(&milter, &["-c", "milter.conf"]);
    programs.wait_socket("milter.sock");
    Some(programs)
}

/// Two OpenDKIM: one signs for example.org, the other one verifies with the same key.
pub fn opendkim() -> Option<Programs> {
    let [opendkim, openssl] = found(["opendkim", "openssl"])?;
    let mut programs = Programs::new();
    let run = |args: &[&str]| {
        let ran = crate::support::run(Command::new(&openssl).args(args).current_dir(programs.dir.path()), "");
        assert!(ran.ok, "{ran:?}");
        ran.out
    };
    run(&["genrsa", "-out", "key.pem", "2048"]);
    let public = run(&["rsa", "-in", "key.pem", "-pubout"]);
    let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    programs.write("keys", &format!("sel._domainkey.example.org v=DKIM1; k=rsa; p={public}\n"));
    let user = for_root("UserID opendkim\n");
    fs::set_permissions(programs.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let common = format!("Background no\nUMask 000\nSyslog no\nRequireSafeKeys no\nTemporaryDirectory @DIR@\n{user}");
    programs.write(
        "sign.conf",
        &format!(
            "{common}Mode s\nSocket local:@DIR@/sign.sock\nDomain example.org\nSelector sel\nKeyFile @DIR@/key.pem\n\
             InternalHosts 192.0.2.0/24,127.0.0.1\nCanonicalization relaxed/simple\n"
        ),
    );
    programs.write(
        "verify.conf",
        &format!(
            "{common}Mode v\nSocket local:@DIR@/verify.sock\nTestPublicKeys @DIR@/keys\nAuthservID mx.example.test\n\
             AlwaysAddARHeader yes\n"
        ),
    );
    for name in ["sign", "verify"] {
        programs.start(&opendkim, &["-f", "-x", &format!("{name}.conf")]);
        programs.wait_socket(&format!("{name}.sock"));
    }
    Some(programs)
}

/// SpamAssassin, local tests only, behind its milter.
pub fn spamassassin() -> Option<Programs> {
    let [spamd, milter] = found(["spamd", "spamass-milter"])?;
    let mut programs = Programs::new();
    let socket = programs.path("spamd.sock").display().to_string();
    let home = programs.dir.path().display().to_string();
    let user: &[&str] = if is_root() { &["-u", "nobody"] } else { &[] };
    let args = ["-L", "-x", "--socketmode=0666", "--max-children", "1", "--syslog=stderr", "-H", &home];
    programs.start(&spamd, &[&args[..], &[format!("--socketpath={socket}").as_str()], user].concat());
    programs.wait_socket("spamd.sock");
    let at = programs.path("milter.sock").display().to_string();
    programs.start(&milter, &["-p", &at, "-r", "10", "--", "-U", &socket]);
    programs.wait_socket("milter.sock");
    Some(programs)
}

/// postgrey, which lets nobody pass within `delay` seconds.
pub fn postgrey(delay: u32) -> Option<Programs> {
    let [program] = found(["postgrey"])?;
    let mut programs = Programs::new();
    let here = programs.dir.path().display().to_string();
    let mut args = vec![
        format!("--unix={here}/postgrey.sock"),
        format!("--dbdir={here}"),
        format!("--pidfile={here}/pid"),
        format!("--delay={delay}"),
    ];
    if is_root() {
        args.extend(["--user=postgrey".into(), "--group=postgrey".into()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    programs.start(&program, &args);
    programs.wait_socket("postgrey.sock");
    Some(programs)
}

/// policyd-spf, which Postfix starts anew for each connection: so does this.
pub fn policyd_spf() -> Option<String> {
    let [program] = found(["policyd-spf"])?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let input = Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone().unwrap()));
            let output = Stdio::from(std::os::fd::OwnedFd::from(stream));
            let mut command = Command::new(&program);
            command.process_group(0).stdin(input).stdout(output).stderr(Stdio::piped());
            let Ok(mut child) = command.spawn() else { return };
            let mut said = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut said);
            let _ = child.wait();
            if !said.is_empty() {
                eprintln!("policyd-spf said: {said}");
            }
        }
    });
    Some(format!("inet:{at}"))
}
