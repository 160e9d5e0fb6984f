//! The servers that are measured: how each is found, configured for the same job, started, and ended.
//!
//! Everything a server writes is in a scratch directory of the run; its configuration is made from the template in
//! `loadtest/peers/NAME/`. How it fails: a server that is not on this machine is [`Missing`] and the measurement says
//! `skipped: …`; one that does not come up is an error with the end of what it said.

mod proxies;
mod queues;
mod relays;

use super::counter::Counter;
use crate::proc;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to come up, and to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// No server: the sender straight into the sink. What the harness itself can do.
    Direct,
    /// The gateway.
    Gatepost,
    /// HAProxy, `mode tcp`.
    Haproxy,
    /// nginx, `stream`: a TCP proxy.
    NginxStream,
    /// nginx, `mail`: a proxy that reads as far as RCPT.
    NginxMail,
    /// Postfix as a relay.
    Postfix,
    /// Exim as a relay.
    Exim,
    /// OpenSMTPD as a relay.
    Opensmtpd,
    /// Sendmail as a relay.
    Sendmail,
    /// Haraka as a relay.
    Haraka,
    /// KumoMTA as a relay.
    Kumomta,
    /// Stalwart as a relay.
    Stalwart,
    /// Dovecot, which is compared as a mailstore only.
    Dovecot,
}

/// Everybody, with the name that `--peer` and the tables know; `nginx` is both of its proxies.
const NAMES: [(&str, Peer); 13] = [
    ("direct", Peer::Direct),
    ("gatepost", Peer::Gatepost),
    ("haproxy", Peer::Haproxy),
    ("nginx-stream", Peer::NginxStream),
    ("nginx-mail", Peer::NginxMail),
    ("haraka", Peer::Haraka),
    ("exim", Peer::Exim),
    ("postfix", Peer::Postfix),
    ("opensmtpd", Peer::Opensmtpd),
    ("sendmail", Peer::Sendmail),
    ("kumomta", Peer::Kumomta),
    ("stalwart", Peer::Stalwart),
    ("dovecot", Peer::Dovecot),
];

impl Peer {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, peer)| *peer == self).map_or("", |(name, _)| name)
    }

    /// Those of a name on the command line.
    pub fn named(name: &str) -> Result<Vec<Peer>, String> {
        let wanted: Vec<Peer> = NAMES
            .iter()
            .filter(|(n, _)| *n == name || (name == "nginx" && n.starts_with("nginx-")))
            .map(|(_, p)| *p)
            .collect();
        if wanted.is_empty() {
            let known: Vec<&str> = NAMES.iter().map(|(n, _)| *n).collect();
            return Err(format!("--peer: expected some of {}, found {name:?}", known.join(", ")));
        }
        Ok(wanted)
    }

    /// The folder of its configuration, of the cache, and of the packages.
    pub fn folder(self) -> &'static str {
        match self {
            Peer::NginxStream | Peer::NginxMail => "nginx",
            other => other.name(),
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
    /// Where `loadtest/peers/setup` unpacks those that are not installed.
    pub cache: PathBuf,
    /// More arguments for `gatepost serve`.
    pub gatepost_args: Vec<String>,
    /// Where servers write.
    pub scratch: PathBuf,
    /// Whether perf counts.
    pub perf: bool,
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
    /// What it costs.
    pub(super) counter: Counter,
    child: Option<Child>,
    dir: PathBuf,
}

/// Where a server is to listen, to deliver, and to write.
struct Place<'a> {
    address: SocketAddr,
    backend: SocketAddr,
    setting: &'a Setting,
    dir: &'a Path,
}

impl Place<'_> {
    /// A template with its names filled in.
    fn fill(&self, text: &str) -> String {
        text.replace("@DIR@", &self.dir.to_string_lossy())
            .replace("@ADDRESS@", &self.address.to_string())
            .replace("@PORT@", &self.address.port().to_string())
            .replace("@BACKEND@", &self.backend.to_string())
            .replace("@BACKEND_HOST@", &self.backend.ip().to_string())
            .replace("@BACKEND_PORT@", &self.backend.port().to_string())
            .replace("@CORES@", &self.setting.cores.to_string())
            .replace("@DESCRIPTORS@", &self.setting.descriptors.to_string())
            // Two descriptors a connection, and some of its own.
            .replace("@CONNECTIONS@", &(self.setting.descriptors / 2).saturating_sub(50).to_string())
    }

    /// Writes a file below the run's folder.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Missing> {
        let file = self.dir.join(name);
        fs::write(&file, text).map_err(failed)?;
        Ok(file)
    }

    /// Makes a folder below the run's folder.
    fn folder(&self, name: &str, mode: u32) -> Result<PathBuf, Missing> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).map_err(failed)?;
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(failed)?;
        Ok(folder)
    }
}

/// Starts `peer` in front of the sink at `backend`.
pub fn start(peer: Peer, mode: Mode, backend: SocketAddr, setting: &Setting) -> Result<Server, Missing> {
    let address = free_port().map_err(failed)?;
    let dir = setting.scratch.join(format!("{}-{}", peer.name(), address.port()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let place = Place { address, backend, setting, dir: &dir };
    let command = match peer {
        Peer::Direct => {
            return Ok(Server { address: backend, pid: None, counter: Counter::Proc, child: None, dir });
        }
        Peer::Gatepost => relays::gatepost(mode, &place)?,
        Peer::Haproxy => proxies::haproxy(&place)?,
        Peer::NginxStream => proxies::nginx("stream", &place)?,
        Peer::NginxMail => proxies::nginx("mail", &place)?,
        Peer::Postfix => queues::postfix(&place)?,
        Peer::Exim => queues::exim(mode, &place)?,
        Peer::Opensmtpd => queues::opensmtpd(&place)?,
        Peer::Sendmail => queues::sendmail(&place)?,
        Peer::Haraka => relays::haraka(mode, &place)?,
        Peer::Kumomta => relays::kumomta(&place)?,
        Peer::Stalwart => relays::stalwart(&place)?,
        Peer::Dovecot => return Err(Missing::Skipped("dovecot is compared as a mailstore".into())),
    };
    up(peer.name(), command, &[address], dir, setting.perf)
}

/// The version of a server, as its package or itself tells it.
pub fn version(peer: Peer, setting: &Setting) -> Option<String> {
    if peer == Peer::Direct {
        return None;
    }
    if peer == Peer::Gatepost {
        let said = Command::new(setting.gatepost.as_ref()?).arg("--version").output().ok()?;
        return String::from_utf8(said.stdout).ok()?.split_whitespace().nth(1).map(str::to_owned);
    }
    let folder = peer.folder();
    let package = match peer {
        Peer::Exim => "exim4-daemon-light",
        Peer::Sendmail => "sendmail-bin",
        Peer::Dovecot => "dovecot-core",
        _ => folder,
    };
    let installed = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Version}", package]).output();
    let installed = installed.ok().and_then(|o| String::from_utf8(o.stdout).ok());
    let unpacked = || fs::read_to_string(setting.cache.join(folder).join("versions")).ok();
    let from_file = |text: String| {
        let word =
            |l: &str| l.strip_prefix(&format!("{package}_")).and_then(|v| v.split('_').next()).map(str::to_owned);
        text.lines().find_map(word).or_else(|| text.split_whitespace().nth(1).map(str::to_owned))
    };
    let full = installed
        .and_then(|s| s.strip_prefix("installed ").map(str::to_owned))
        .or_else(|| unpacked().and_then(from_file))?;
    // The packager's part says nothing about the program.
    let plain = full.split_once(':').map_or(full.as_str(), |(_, v)| v);
    Some(plain.split(['-', '+']).next().unwrap_or(plain).to_owned())
}

fn failed(e: impl std::fmt::Display) -> Missing {
    Missing::Failed(e.to_string())
}

/// A port that was free just now.
pub(crate) fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok() == Some(0)
}

/// The first of `places` under the root, in the cache, or on the PATH by its name.
fn find(setting: &Setting, folder: &str, places: &[&str]) -> Result<PathBuf, Missing> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let name = |place: &str| Path::new(place).file_name().map(PathBuf::from).unwrap_or_default();
    let roots = [setting.root.clone(), setting.cache.join(folder).join("root")];
    roots
        .iter()
        .flat_map(|root| places.iter().map(move |p| root.join(p)))
        .chain(on_path.flat_map(|dir| places.iter().map(move |p| dir.join(name(p))).collect::<Vec<_>>()))
        .find(|p| p.is_file())
        .ok_or_else(|| Missing::Skipped(format!("{folder} not found (loadtest/peers/setup {folder} unpacks it)")))
}

/// The part of `binary`'s path above `place`: where its other files are.
fn root_of(binary: &Path, depth: usize) -> PathBuf {
    binary.ancestors().nth(depth).map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The libraries that were unpacked with a server, for its environment.
fn with_libraries(command: &mut Command, root: &Path) {
    if root == Path::new("/") {
        return;
    }
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = [root.join("usr/lib").join(&triple), root.join("lib").join(&triple)];
    let list: Vec<String> = folders.iter().filter(|f| f.is_dir()).map(|f| f.display().to_string()).collect();
    if !list.is_empty() {
        command.env("LD_LIBRARY_PATH", list.join(":"));
    }
}

/// Starts `command` under the holder (and perf), and waits until everything it is to listen on answers.
pub(crate) fn up(
    name: &str,
    command: Command,
    addresses: &[SocketAddr],
    dir: PathBuf,
    perf: bool,
) -> Result<Server, Missing> {
    let log = fs::File::create(dir.join("said")).map_err(failed)?;
    let also = log.try_clone().map_err(failed)?;
    let counter = Counter::new(perf, &dir);
    let holder = std::env::current_exe().map_err(failed)?;
    let mut words: Vec<std::ffi::OsString> = counter.prefix().into_iter().map(Into::into).collect();
    words.extend([holder.into(), "hold-tree".into(), "--".into(), command.get_program().to_owned()]);
    words.extend(command.get_args().map(ToOwned::to_owned));
    let mut held = Command::new(&words[0]);
    held.args(&words[1..]);
    command.get_envs().for_each(|(name, value)| {
        held.env(name, value.unwrap_or_default());
    });
    if let Some(at) = command.get_current_dir() {
        held.current_dir(at);
    }
    let child = held.stdin(Stdio::null()).stdout(log).stderr(also).spawn().map_err(failed)?;
    let address = *addresses.first().ok_or_else(|| Missing::Failed("no address".into()))?;
    let mut server = Server { address, pid: Some(child.id()), counter, child: Some(child), dir };
    let started = Instant::now();
    for address in addresses {
        while TcpStream::connect_timeout(address, Duration::from_millis(200)).is_err() {
            let ended = server.child.as_mut().is_some_and(|c| !matches!(c.try_wait(), Ok(None)));
            if ended || started.elapsed() > PATIENCE {
                let said = last_words(&server.dir);
                return Err(Missing::Failed(format!("{name} did not come up; it said: {said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // Under perf the holder is perf's only child; perf itself is not the server.
    if let (Counter::Perf { .. }, Some(outer)) = (&server.counter, server.pid) {
        server.pid = proc::tree(outer).get(1).copied().or(server.pid);
    }
    Ok(server)
}

fn last_words(dir: &Path) -> String {
    let said = ["said", "mail.log", "error.log"].map(|f| fs::read_to_string(dir.join(f)).unwrap_or_default()).concat();
    let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

impl Server {
    /// Ends it, and everything it started.
    pub fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(self.pid.unwrap_or(child.id()), Signal::TERM);
        let asked = Instant::now();
        // The holder has the same patience with what it holds.
        while matches!(child.try_wait(), Ok(None)) && asked.elapsed() < 2 * PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A signal; a process that is gone is none to signal.
pub(super) fn signal(pid: u32, which: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_field() {
        assert_eq!(Peer::named("exim"), Ok(vec![Peer::Exim]));
        assert_eq!(Peer::named("nginx"), Ok(vec![Peer::NginxStream, Peer::NginxMail]));
        assert!(Peer::named("qmail").unwrap_err().contains("opensmtpd"));
        assert!(NAMES.iter().all(|(name, peer)| peer.name() == *name));
        assert_eq!(root_of(Path::new("/x/root/usr/sbin/exim4"), 3), Path::new("/x/root"));
    }
}
