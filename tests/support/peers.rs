//! Real mail servers as children: Sendmail and Postfix as `.ci/peers` unpacks them, each over a directory of its own, on
//! a free loopback port, with what it delivers in files; and Postfix's `smtp-sink` and `smtp-source`.
//!
//! How it fails: a server that is not here, or that this user may not start, gives `None` after saying `skipped`; one
//! that does not come up in time panics with what it said. Servers are killed with their whole process group.

use super::{find_program, peers_dir, skipped, wait_for};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const SENDMAIL_MC: &str = include_str!("../peers/sendmail.mc");
const POSTFIX_MAIN: &str = include_str!("../peers/postfix-main.cf");
const POSTFIX_MASTER: &str = include_str!("../peers/postfix-master.cf");

/// A program's path, or the word that it is missing.
pub fn peer(name: &str) -> Option<PathBuf> {
    let found = find_program(&[name]);
    if found.is_none() {
        skipped(name);
    }
    found
}

/// swaks, if it is here with what it needs for TLS.
pub fn swaks() -> Option<PathBuf> {
    let has_tls = || Command::new("perl").args(["-MNet::SSLeay", "-e", "1"]).output().is_ok_and(|o| o.status.success());
    let found = find_program(&["swaks"]).filter(|_| has_tls());
    if found.is_none() {
        skipped("swaks (with Perl's Net::SSLeay)");
    }
    found
}

/// A loopback port that was free a moment ago and that the kernel gives to nobody by itself (it hands out 32768 and up),
/// so that a server that is killed finds it free again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = 11_000 + u16::try_from(n % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Whether this user may become any other.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// The number of a name in a file like `/etc/passwd`.
fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.split(':').nth(1)?.parse().ok())
}

/// Sends a signal to a process group.
fn signal_group(leader: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), "--", &format!("-{leader}")]).status();
}

/// A child that leads a process group, which ends with it.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    pub fn start(command: &mut Command) -> Group {
        Group(command.process_group(0).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal_group(self.0.id(), "KILL");
        let _ = self.0.wait();
    }
}

/// A directory that other users may pass through, as delivery agents do.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Waits for an SMTP greeting there.
fn wait_greeting(address: SocketAddr, what: &str, said: impl Fn() -> String) {
    let start = std::time::Instant::now();
    loop {
        if let Ok(stream) = TcpStream::connect(address) {
            let mut talk = super::Talk::over(stream);
            if talk.reply().starts_with("220") {
                talk.try_send("QUIT\r\n");
                talk.rest();
                return;
            }
        }
        assert!(start.elapsed() < super::PATIENCE, "{what} did not come up; it said:\n{}", said());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A real mail server that takes mail for `example.test`: `nobody@` is unknown there, `later@` is busy, everybody else
/// has a mailbox.
pub struct Server {
    /// How it calls itself in `Received`.
    pub name: &'static str,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    program: Vec<String>,
    library_path: Option<PathBuf>,
    mail: PathBuf,
    running: Option<Group>,
}

impl Server {
    /// Sendmail, if it is here and may run.
    pub fn sendmail() -> Option<Server> {
        let root = peers_dir().join("sendmail");
        let program = root.join("usr/libexec/sendmail/sendmail");
        let may_name = || Command::new("unshare").args(["-u", "true"]).status().is_ok_and(|s| s.success());
        if !program.is_file() || find_program(&["m4"]).is_none() || !is_root() || !may_name() {
            skipped("Sendmail (see .ci/peers; runs as root)");
            return None;
        }
        let dir = open_dir();
        let mail = dir.path().join("out");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        write_sendmail(dir.path(), &root, address.port());
        let program = format!(
            "hostname backend.example.test; exec {} -bD -C {} -q1h",
            program.display(),
            dir.path().join("s.cf").display()
        );
        let program = ["unshare", "-u", "sh", "-c", &program].map(str::to_owned).to_vec();
        let name = "backend.example.test";
        let mut server = Server { name, address, dir, program, library_path: None, mail, running: None };
        server.start();
        Some(server)
    }

    /// Postfix, if it is here and may run.
    pub fn postfix() -> Option<Server> {
        Server::postfix_before(None)
    }

    /// Postfix that hands mail for others to `relayhost`.
    pub fn postfix_before(relayhost: Option<SocketAddr>) -> Option<Server> {
        let root = peers_dir().join("postfix");
        let program = root.join("usr/lib/postfix/sbin/master");
        let (user, group) = (id_in("/etc/passwd", "postfix"), id_in("/etc/group", "postdrop"));
        let (Some(user), Some(group), true, true) = (user, group, program.is_file(), is_root()) else {
            skipped("Postfix (see .ci/peers; runs as root)");
            return None;
        };
        let dir = open_dir();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let relayhost = relayhost.map_or(String::new(), |a| format!("[{}]:{}", a.ip(), a.port()));
        write_postfix(dir.path(), &root, address.port(), &relayhost);
        make_postfix_queue(dir.path(), user, group);
        let etc = dir.path().join("etc").display().to_string();
        let program = vec![program.display().to_string(), "-d".into(), "-c".into(), etc];
        let mail = dir.path().join("mail/all/new");
        let library_path = Some(root.join("usr/lib/postfix"));
        let name = "postfix.example.test";
        let mut server = Server { name, address, dir, program, library_path, mail, running: None };
        server.start();
        Some(server)
    }

    /// Starts it over its directory and waits for its greeting.
    pub fn start(&mut self) {
        let said = fs::File::options().create(true).append(true).open(self.dir.path().join("said")).unwrap();
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).stdout(said.try_clone().unwrap()).stderr(said);
        if let Some(path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", path).env("MAIL_CONFIG", self.dir.path().join("etc"));
        }
        self.running = Some(Group::start(&mut command));
        wait_greeting(self.address, self.name, || self.said());
    }

    /// SIGKILL to all of it; what it had on disk stays.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        ["said", "log"].iter().filter_map(|f| fs::read_to_string(self.dir.path().join(f)).ok()).collect()
    }

    /// Whether it offers STARTTLS.
    pub fn offers_tls(&self) -> bool {
        self.dir.path().join("etc/cert.pem").exists()
    }

    /// The messages it has delivered, in no order, line ends as LF.
    pub fn arrived(&self) -> Vec<Vec<u8>> {
        read_all(&self.mail, |name| !name.ends_with(".part"))
    }

    /// Waits for a message that contains `mark`.
    pub fn wait_arrived(&self, mark: &str) -> Vec<u8> {
        let start = std::time::Instant::now();
        loop {
            if let Some(found) = self.arrived().into_iter().find(|m| contains(m, mark)) {
                return found;
            }
            let said = || self.said();
            assert!(
                start.elapsed() < super::PATIENCE,
                "{mark:?} did not arrive at {}; it said:\n{}",
                self.name,
                said()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Whether `mark` occurs in the octets of a message.
pub fn contains(message: &[u8], mark: &str) -> bool {
    memchr::memmem::find(message, mark.as_bytes()).is_some()
}

fn read_all(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let paths = files.map_while(Result::ok).filter(|f| wanted(&f.file_name().to_string_lossy())).map(|f| f.path());
    paths.filter_map(|p| fs::read(p).ok()).collect()
}

/// Writes Sendmail's configuration and a delivery agent that makes one file of each message.
fn write_sendmail(dir: &Path, root: &Path, port: u16) {
    let [here, root] = [dir, root].map(|p| p.display().to_string());
    let mc = SENDMAIL_MC.replace("@ROOT@", &root).replace("@DIR@", &here).replace("@PORT@", &port.to_string());
    for (name, mode) in [("queue", 0o700), ("out", 0o777)] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(dir.join("switch"), "hosts files\naliases files\n").unwrap();
    fs::write(dir.join("s.mc"), mc).unwrap();
    let cf = Command::new("m4").arg(dir.join("s.mc")).output().unwrap();
    assert!(cf.status.success(), "m4: {}", String::from_utf8_lossy(&cf.stderr));
    fs::write(dir.join("s.cf"), cf.stdout).unwrap();
    let deliver = format!(
        "#!/bin/sh\nset -e\nf=$(mktemp {here}/out/XXXXXXXXXX.part)\ncat > \"$f\"\nmv \"$f\" \"${{f%.part}}\"\n"
    );
    fs::write(dir.join("deliver"), deliver).unwrap();
    fs::set_permissions(dir.join("deliver"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn write_postfix(dir: &Path, root: &Path, port: u16, relayhost: &str) {
    let etc = dir.join("etc");
    fs::create_dir(&etc).unwrap();
    let [here, root] = [dir, root].map(|p| p.display().to_string());
    let main = POSTFIX_MAIN.replace("@ROOT@", &root).replace("@DIR@", &here).replace("@RELAYHOST@", relayhost);
    fs::write(etc.join("main.cf"), main).unwrap();
    make_certificate(&etc);
    fs::write(etc.join("master.cf"), POSTFIX_MASTER.replace("@PORT@", &port.to_string())).unwrap();
    // Everybody but nobody has a mailbox, the same one.
    fs::write(etc.join("mailboxes"), "if !/^nobody@/\n/@example\\.test$/ all/\nendif\n").unwrap();
    fs::write(etc.join("busy"), "/^later@/ 450 4.2.1 mailbox busy\n").unwrap();
}

/// A key and a certificate that nobody else has signed; without OpenSSL none, and Postfix then offers no STARTTLS.
fn make_certificate(etc: &Path) {
    let Some(openssl) = peer("openssl") else { return };
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=postfix.example.test", "-keyout"]).arg(etc.join("key.pem"));
    let ran = super::run(command.arg("-out").arg(etc.join("cert.pem")), "");
    assert!(ran.ok, "{ran:?}");
    let mut main = fs::OpenOptions::new().append(true).open(etc.join("main.cf")).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|f| etc.join(f).display().to_string());
    writeln!(main, "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}").unwrap();
}

/// The directories that Postfix's own set-up would make, with their owners.
fn make_postfix_queue(dir: &Path, user: u32, group: u32) {
    let queue = dir.join("queue");
    fs::create_dir(&queue).unwrap();
    fs::create_dir(queue.join("pid")).unwrap();
    let make = |path: PathBuf, group: Option<u32>, mode: u32| {
        fs::create_dir(&path).unwrap();
        chown(&path, Some(user), group).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in
        ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"]
    {
        make(queue.join(name), None, 0o700);
    }
    make(queue.join("public"), Some(group), 0o710);
    make(queue.join("maildrop"), Some(group), 0o730);
    make(dir.join("data"), None, 0o700);
    fs::create_dir(dir.join("mail")).unwrap();
    fs::set_permissions(dir.join("mail"), fs::Permissions::from_mode(0o777)).unwrap();
}

/// A program of Postfix's, with its libraries found.
fn postfix_tool(name: &str) -> Option<Command> {
    let root = peers_dir().join("postfix/usr");
    let program = root.join("sbin").join(name);
    if !program.is_file() {
        skipped(name);
        return None;
    }
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", root.join("lib/postfix"));
    Some(command)
}

/// Postfix's `smtp-sink`: takes everything, keeps it in files.
pub struct Sink {
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    running: Option<Group>,
}

impl Sink {
    pub fn start() -> Option<Sink> {
        postfix_tool("smtp-sink")?;
        let dir = open_dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut sink = Sink { address: SocketAddr::from(([127, 0, 0, 1], free_port())), dir, running: None };
        sink.resume();
        Some(sink)
    }

    /// Starts it again at the same port, keeping what it had.
    pub fn resume(&mut self) {
        let mut command = postfix_tool("smtp-sink").unwrap();
        if is_root() {
            command.args(["-u", "nobody"]);
        }
        command.arg("-d").arg(self.dir.path().join("m.")).arg(self.address.to_string()).arg("256");
        self.running = Some(Group::start(&mut command));
        wait_greeting(self.address, "smtp-sink", String::new);
    }

    pub fn kill(&mut self) {
        self.running = None;
    }

    /// The recipients of what it has kept, sorted; one that came twice is there twice.
    pub fn recipients(&self) -> Vec<String> {
        let mut all = Vec::new();
        for message in read_all(self.dir.path(), |_| true) {
            let text = String::from_utf8_lossy(&message);
            all.extend(text.lines().filter_map(|l| l.strip_prefix("X-Rcpt-Args: ")).map(str::to_owned));
        }
        all.sort();
        all
    }
}

/// Runs `smtp-source` against `to` with these arguments; each message goes to a recipient of its own, `<Nbob@…>` with N
/// from 1. Whether all were accepted.
pub fn source(to: SocketAddr, args: &[&str]) -> Option<bool> {
    let mut command = postfix_tool("smtp-source")?;
    command.args(["-N", "-f", "ann@example.org", "-t", "bob@example.test", "-M", "source.example.org"]);
    let ran = super::run(command.args(args).arg(to.to_string()), "");
    if !ran.ok {
        eprintln!("smtp-source: {}{}", ran.out, ran.err);
    }
    Some(ran.ok)
}

/// The recipients that `source` sends to, sorted.
pub fn source_recipients(n: usize) -> Vec<String> {
    let mut all: Vec<_> = (1..=n).map(|i| format!("<{i}bob@example.test>")).collect();
    all.sort();
    all
}

/// Waits until nothing is in the gateway's queue, asking it to try now.
pub fn drain(gate: &super::Gate) {
    let mut asked = std::time::Instant::now();
    let mut first = true;
    wait_for("an empty queue", || {
        if first || asked.elapsed().as_millis() > 500 {
            first = false;
            asked = std::time::Instant::now();
            assert!(gate.command(&["queue", "retry", "--all"]).ok);
        }
        let list = gate.command(&["queue", "list", "--json"]);
        (!list.out.contains("\"id\"")).then_some(())
    });
}
