//! The servers that are measured: how each is found, configured for the same job, started, and ended.
//!
//! Everything a server writes is in a scratch directory of the run; its configuration is made from the template in
//! `loadtest/peers/NAME/`. How it fails: a server that is not on this machine is [`Missing`] and the measurement says
//! `skipped: …`; one that does not come up is an error with the end of what it said.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// No server: the sender straight into the sink. What the harness itself can do.
    Direct,
    /// The gateway.
    Gatepost,
    /// HAProxy, `mode tcp`.
    Haproxy,
    /// Postfix as a relay.
    Postfix,
}

impl Peer {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Direct => "direct",
            Peer::Gatepost => "gatepost",
            Peer::Haproxy => "haproxy",
            Peer::Postfix => "postfix",
        }
    }
}

/// What a server stands behind its 250 with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The backend's own.
    CutThrough,
    /// Its disk.
    Spool,
}

/// What is the same for all servers of a run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Threads or cores each server gets.
    pub cores: usize,
    /// Descriptors a process may have.
    pub descriptors: u64,
    /// Driver of the gateway.
    pub io: String,
    /// The gateway's binary, when it was found.
    pub gatepost: Option<PathBuf>,
    /// Where a distribution's packages are installed or unpacked: `/` or a directory.
    pub root: PathBuf,
    /// More arguments for `gatepost serve`.
    pub gatepost_args: Vec<String>,
    /// Where servers write.
    pub scratch: PathBuf,
}

/// Why a server is not measured.
#[derive(Debug)]
pub enum Missing {
    /// It is not here.
    Skipped(String),
    /// It is here and did not come up.
    Failed(String),
}

/// A server that is up.
pub struct Server {
    /// Where it takes mail.
    pub address: SocketAddr,
    /// The process all others of the server descend from; `None` for [`Peer::Direct`].
    pub pid: Option<u32>,
    child: Option<Child>,
    dir: PathBuf,
}

/// Starts `peer` in front of the sink at `backend`.
pub fn start(peer: Peer, mode: Mode, backend: SocketAddr, setting: &Setting) -> Result<Server, Missing> {
    let dir = setting.scratch.join(format!("{}-{}", peer.name(), free_port().map_err(failed)?.port()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let address = free_port().map_err(failed)?;
    let command = match peer {
        Peer::Direct => return Ok(Server { address: backend, pid: None, child: None, dir }),
        Peer::Gatepost => gatepost(mode, address, backend, setting, &dir)?,
        Peer::Haproxy => haproxy(address, backend, setting, &dir)?,
        Peer::Postfix => postfix(address, backend, setting, &dir)?,
    };
    up(peer, command, address, dir)
}

fn failed(e: impl std::fmt::Display) -> Missing {
    Missing::Failed(e.to_string())
}

/// A port that was free just now.
pub(crate) fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn gatepost(
    mode: Mode,
    address: SocketAddr,
    backend: SocketAddr,
    setting: &Setting,
    dir: &Path,
) -> Result<Command, Missing> {
    let binary = setting.gatepost.as_ref().ok_or_else(|| {
        Missing::Skipped("gatepost not found beside gatepost-load (build it, or name it with --gatepost)".into())
    })?;
    let mode = if mode == Mode::Spool { "spool" } else { "cut-through" };
    let mut command = Command::new(binary);
    command
        .args(["serve", "--domain", "example.test", "--hostname", "edge.example.test", "--log-level", "error"])
        .args(["--mode", mode, "--io", &setting.io, "--cores", &setting.cores.to_string()])
        .args(["--backend", &backend.to_string(), "--listen", &format!("mx={address}")])
        .args(
            ["submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps"]
                .map(|l| format!("--listen={l}=off")),
        )
        // The descriptors are the limit, as for the others.
        .args(["--set", &format!("server.connections_max={}", setting.descriptors)])
        .arg("--data")
        .arg(dir.join("data"))
        .args(&setting.gatepost_args);
    Ok(command)
}

fn haproxy(address: SocketAddr, backend: SocketAddr, setting: &Setting, dir: &Path) -> Result<Command, Missing> {
    let binary = find(setting, &["usr/sbin/haproxy", "usr/local/sbin/haproxy"], "haproxy")?;
    let text = include_str!("../../peers/haproxy/haproxy.cfg")
        .replace("@CORES@", &setting.cores.to_string())
        // Two descriptors a connection, and some of its own.
        .replace("@CONNECTIONS@", &(setting.descriptors / 2).saturating_sub(50).to_string())
        .replace("@PORT@", &address.port().to_string())
        .replace("@BACKEND@", &backend.to_string());
    let file = dir.join("haproxy.cfg");
    fs::write(&file, text).map_err(failed)?;
    let mut command = Command::new(binary);
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn postfix(address: SocketAddr, backend: SocketAddr, setting: &Setting, dir: &Path) -> Result<Command, Missing> {
    let binary = find(setting, &["usr/sbin/postfix"], "postfix")?;
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok() != Some(0) {
        return Err(Missing::Skipped("postfix runs only when started by root".into()));
    }
    let root = setting.root.to_string_lossy();
    let root = root.trim_end_matches('/');
    let shlib = format!("{root}/usr/lib/postfix");
    let meta =
        if setting.root.join("etc/postfix/postfix-files").exists() { "etc/postfix" } else { "usr/share/postfix" };
    let fill = |text: &str| {
        text.replace("@ROOT@", root)
            .replace("@SHLIB@", &shlib)
            .replace("@META@", &format!("{root}/{meta}"))
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@ADDRESS@", &address.to_string())
            .replace("@POSTFIX_BACKEND@", &format!("[{}]:{}", backend.ip(), backend.port()))
    };
    let config = dir.join("config");
    for made in [&config, &dir.join("queue"), &dir.join("data")] {
        fs::create_dir_all(made).map_err(failed)?;
    }
    fs::write(config.join("main.cf"), fill(include_str!("../../peers/postfix/main.cf"))).map_err(failed)?;
    fs::write(config.join("master.cf"), fill(include_str!("../../peers/postfix/master.cf"))).map_err(failed)?;
    let said = Command::new("chown").arg("postfix").arg(dir.join("data")).output().map_err(failed)?;
    if !said.status.success() {
        return Err(Missing::Skipped("postfix needs its user \"postfix\" (install the package)".into()));
    }
    // Every directory above must let the user postfix through.
    let _ = Command::new("chmod").arg("755").arg(&setting.scratch).arg(dir).status();
    let mut command = Command::new(binary);
    command.arg("-c").arg(config).arg("start-fg");
    Ok(command)
}

/// The first of `places` under the root, or the program on the PATH.
fn find(setting: &Setting, places: &[&str], name: &str) -> Result<PathBuf, Missing> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    places
        .iter()
        .map(|p| setting.root.join(p))
        .chain(on_path.map(|dir| dir.join(name)))
        .find(|p| p.is_file())
        .ok_or_else(|| Missing::Skipped(format!("{name} not found")))
}

fn up(peer: Peer, mut command: Command, address: SocketAddr, dir: PathBuf) -> Result<Server, Missing> {
    let log = fs::File::create(dir.join("said")).map_err(failed)?;
    let also = log.try_clone().map_err(failed)?;
    let mut child = command.stdin(Stdio::null()).stdout(log).stderr(also).spawn().map_err(failed)?;
    let started = Instant::now();
    loop {
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            let pid = Some(child.id());
            return Ok(Server { address, pid, child: Some(child), dir });
        }
        let ended = child.try_wait().map_err(failed)?;
        if ended.is_some() || started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Missing::Failed(format!("{} did not come up; it said: {}", peer.name(), last_words(&dir))));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn last_words(dir: &Path) -> String {
    let said = ["said", "mail.log"].map(|f| fs::read_to_string(dir.join(f)).unwrap_or_default()).concat();
    let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

impl Server {
    /// Ends it and throws away what it wrote.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Whole tree by id: a master that is terminated ends its workers, but not always at once.
        let tree = crate::proc::tree(child.id());
        terminate(child.id());
        let asked = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        tree.into_iter().filter(|pid| *pid != child.id()).for_each(terminate);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// SIGTERM.
pub(crate) fn terminate(pid: u32) {
    signal(pid, "TERM");
}

/// A signal by name; a process that is gone is none to signal.
pub(super) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}
