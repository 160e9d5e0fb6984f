//! The mailstores: how each is configured for the same job, started and ended.
//!
//! How it fails: a text that says why a server is not measured.

use crate::compare::peer::{Missing, Server, free_port, is_root, up};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The password of every account.
pub const PASSWORD: &str = "secret-of-the-measurement";

/// A mailstore of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// The gateway's own.
    Gatepost,
    /// Dovecot with Maildir.
    DovecotMaildir,
    /// Dovecot with a file a message and its own index (sdbox).
    DovecotSdbox,
}

impl Store {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Store::Gatepost => "gatepost",
            Store::DovecotMaildir => "dovecot-maildir",
            Store::DovecotSdbox => "dovecot-sdbox",
        }
    }
}

/// What is the same for all.
pub struct Stores {
    /// Where they write.
    pub scratch: PathBuf,
    /// The gateway's binary, when it was named.
    pub gatepost: Option<PathBuf>,
}

/// A mailstore that is up.
pub struct Running {
    /// The process all others of the server descend from.
    pub pid: u32,
    /// Where it takes mail.
    pub lmtp: SocketAddr,
    /// Where it gives mail out.
    pub imap: SocketAddr,
    /// Where it gives mail out.
    pub pop3: SocketAddr,
    /// Where its mail is.
    pub mail: PathBuf,
    /// Ends with this value.
    _server: Server,
}

/// Accounts there are: the one that is read and those that mail is delivered to.
pub fn account(n: usize) -> String {
    format!("user{n}@example.test")
}

/// How many accounts there are.
pub const ACCOUNTS: usize = 32;

impl Stores {
    /// Starts a server over an empty directory.
    pub fn start(&self, store: Store) -> Result<Running, String> {
        let dir = self.scratch.join(store.name());
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let ports = [(); 3].map(|()| free_port());
        let [Ok(lmtp), Ok(imap), Ok(pop3)] = ports else { return Err("no free port".into()) };
        let (command, mail) = match store {
            Store::Gatepost => self.gatepost(&dir, lmtp, imap, pop3)?,
            Store::DovecotMaildir => self.dovecot(&dir, "maildir:~/Maildir", lmtp, imap, pop3)?,
            Store::DovecotSdbox => self.dovecot(&dir, "sdbox:~/sdbox", lmtp, imap, pop3)?,
        };
        // Processor time is read in the middle of the run, again and again: by /proc.
        match up(store.name(), command, &[lmtp, imap, pop3], dir, false) {
            Ok(server) => {
                let pid = server.pid.ok_or("it has no process")?;
                Ok(Running { pid, lmtp, imap, pop3, mail, _server: server })
            }
            Err(Missing::Skipped(why) | Missing::Failed(why)) => Err(why),
        }
    }

    fn gatepost(
        &self,
        dir: &std::path::Path,
        lmtp: SocketAddr,
        imap: SocketAddr,
        pop3: SocketAddr,
    ) -> Result<(Command, PathBuf), String> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("gatepost")).filter(|p| p.is_file());
        let binary = self.gatepost.clone().or_else(beside).ok_or("gatepost not found beside gatepost-load")?;
        let data = dir.join("data");
        for n in 0..ACCOUNTS {
            let mut add = Command::new(&binary);
            add.args(["account", "add", &account(n), "--password-stdin", "--data"]).arg(&data);
            let mut child = add.stdin(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", binary.display()))?;
            if let Some(mut stdin) = child.stdin.take() {
                use std::io::Write;
                writeln!(stdin, "{PASSWORD}").map_err(|e| e.to_string())?;
            }
            if !child.wait().map_err(|e| e.to_string())?.success() {
                return Err("an account could not be added".into());
            }
        }
        let mut command = Command::new(&binary);
        command.args(["serve", "--log-level", "error", "--hostname", "mail.example.test", "--data"]).arg(&data);
        command.args(["mx", "submission", "submissions", "pop3s", "imaps"].map(|l| format!("--listen={l}=off")));
        command.args([
            format!("--listen=lmtp={lmtp}"),
            format!("--listen=imap={imap}"),
            format!("--listen=pop3={pop3}"),
        ]);
        // More messages on a connection than a server that faces strangers should allow.
        command.args(["--set", "smtp.transactions_max=1000000"]);
        // Room that is made ahead of need is not what a message takes.
        command.args(["--set", "mailbox.segment_octets=8 MiB", "--set", "mailbox.segments_spare_max=1"]);
        Ok((command, data.join("mail")))
    }

    fn dovecot(
        &self,
        dir: &std::path::Path,
        location: &str,
        lmtp: SocketAddr,
        imap: SocketAddr,
        pop3: SocketAddr,
    ) -> Result<(Command, PathBuf), String> {
        let places = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"];
        let binary = places.iter().find(|p| std::path::Path::new(p).is_file()).ok_or("dovecot not found")?;
        if !is_root() {
            return Err("dovecot is started by root only".into());
        }
        let user = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let ids = user.lines().find_map(|l| l.strip_prefix("mail:")).ok_or("dovecot needs the user \"mail\"")?;
        let ids: Vec<&str> = ids.split(':').collect();
        let [_, uid, gid, ..] = ids.as_slice() else { return Err("/etc/passwd cannot be read".into()) };
        let mail = dir.join("mail");
        for made in [dir.join("run"), dir.join("state"), mail.clone()] {
            fs::create_dir_all(&made).map_err(|e| format!("{}: {e}", made.display()))?;
        }
        let text = include_str!("../../peers/dovecot/dovecot.conf")
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@LOCATION@", location)
            .replace("@PASSWORD@", PASSWORD)
            .replace("@UID@", uid)
            .replace("@GID@", gid)
            .replace("@IMAP@", &imap.port().to_string())
            .replace("@POP3@", &pop3.port().to_string())
            .replace("@LMTP@", &lmtp.port().to_string());
        let file = dir.join("dovecot.conf");
        fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        let given = Command::new("chown").arg(format!("{uid}:{gid}")).arg(&mail).status();
        if !given.is_ok_and(|s| s.success()) {
            return Err("its directory cannot be given to the user \"mail\"".into());
        }
        // Every directory above must let its user through.
        let _ = Command::new("chmod").arg("755").arg(&self.scratch).arg(dir).status();
        let mut command = Command::new(binary);
        command.arg("-F").arg("-c").arg(file);
        Ok((command, mail))
    }
}
