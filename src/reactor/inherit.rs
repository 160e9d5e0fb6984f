//! Listening sockets that were open before this process began: from systemd (`LISTEN_FDS`, sd_listen_fds(3)) or from the
//! process it replaces (`GATEPOST_INHERIT`), and how they are handed on.
//!
//! How it fails: a descriptor that is not there, or is no listening TCP socket, is an error that names it; nothing is
//! taken then.

use std::fmt::Write;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Names and numbers of what is handed on: `control=5 mx=6 mx=7`.
const INHERIT: &str = "GATEPOST_INHERIT";
/// The name of the line to the process that is replaced.
const CONTROL: &str = "control";
/// The first descriptor that systemd passes.
const LISTEN_FDS_START: RawFd = 3;
/// More are not believed.
const DESCRIPTORS_MAX: RawFd = 4096;

/// A socket that listens already.
#[derive(Debug)]
pub struct Inherited {
    /// The listener's name as whoever opened it says; systemd's default is the name of its unit.
    pub name: String,
    /// The socket.
    pub socket: TcpListener,
    /// Whether it comes from systemd, whose word on addresses counts.
    pub from_systemd: bool,
}

/// What this process was given.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Sockets.
    pub listeners: Vec<Inherited>,
    /// The line to the process that is replaced, if this one replaces one.
    pub control: Option<UnixStream>,
}

impl Inheritance {
    /// Takes what the environment names. To be called once, before anything else opens a file.
    pub fn take() -> Result<Inheritance, String> {
        let env = |name: &str| std::env::var(name).ok();
        let own_pid = std::process::id().to_string();
        let mut found = Vec::new();
        if let Some(list) = env(INHERIT) {
            for item in list.split_whitespace() {
                found.push((named(item)?, false));
            }
        } else if env("LISTEN_PID").is_some_and(|pid| pid == own_pid) {
            let count: RawFd = env("LISTEN_FDS").and_then(|n| n.parse().ok()).unwrap_or(0);
            let names = env("LISTEN_FDNAMES").unwrap_or_default();
            let mut names = names.split(':');
            for fd in LISTEN_FDS_START..LISTEN_FDS_START + count.clamp(0, DESCRIPTORS_MAX) {
                let name = names.next().filter(|n| !n.is_empty()).unwrap_or("unknown").to_owned();
                found.push(((name, fd), true));
            }
        }
        // All of them are looked at before the first is owned: what is not ours must not be closed.
        let mut seen: Vec<RawFd> = Vec::new();
        for ((name, fd), _) in &found {
            if seen.contains(fd) {
                return Err(format!("descriptor {fd} ({name}) is named twice"));
            }
            seen.push(*fd);
            check(name, *fd)?;
        }
        let mut inheritance = Inheritance::default();
        for ((name, fd), from_systemd) in found {
            // SAFETY: `check` has found the descriptor open; the environment names it for us, it is named once, and
            // nothing in this process has owned it before.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            set_inheritable(owned.as_fd(), false).map_err(|e| format!("descriptor {fd} ({name}): {e}"))?;
            if name == CONTROL {
                inheritance.control = Some(UnixStream::from(owned));
                continue;
            }
            let socket = TcpListener::from(owned);
            socket.set_nonblocking(true).map_err(|e| format!("descriptor {fd} ({name}): {e}"))?;
            // Accepted sockets inherit it; whoever opened ours may not have set it.
            socket2::SockRef::from(&socket).set_tcp_nodelay(true).map_err(|e| format!("descriptor {fd}: {e}"))?;
            inheritance.listeners.push(Inherited { name, socket, from_systemd });
        }
        Ok(inheritance)
    }
}

fn named(item: &str) -> Result<(String, RawFd), String> {
    item.rsplit_once('=')
        .and_then(|(name, fd)| Some((name.to_owned(), fd.parse().ok().filter(|n| (3..DESCRIPTORS_MAX).contains(n))?)))
        .ok_or_else(|| format!("{INHERIT}: {item:?} is no NAME=DESCRIPTOR"))
}

fn check(name: &str, fd: RawFd) -> Result<(), String> {
    // SAFETY: F_GETFD reads a flag of any number and fails with EBADF for one that is not open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(format!("descriptor {fd} ({name}) was promised by the environment but is not open"));
    }
    if name == CONTROL {
        return Ok(());
    }
    // SAFETY: the descriptor is open, and the borrow ends in this function.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = socket2::SockRef::from(&borrowed);
    let tcp = socket.r#type().is_ok_and(|t| t == socket2::Type::STREAM)
        && socket.domain().is_ok_and(|d| d == socket2::Domain::IPV4 || d == socket2::Domain::IPV6);
    match tcp && socket.is_listener().unwrap_or(false) {
        true => Ok(()),
        false => Err(format!("descriptor {fd} ({name}) is no listening TCP socket")),
    }
}

fn set_inheritable(fd: BorrowedFd<'_>, yes: bool) -> io::Result<()> {
    let flags = if yes { rustix::io::FdFlags::empty() } else { rustix::io::FdFlags::CLOEXEC };
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
}

/// Lets a child process have these descriptors; until dropped, every child has them.
pub struct HandedOn<'a> {
    fds: Vec<BorrowedFd<'a>>,
    value: String,
}

impl<'a> HandedOn<'a> {
    /// The line and the listeners, by name.
    pub fn new(
        control: &'a UnixStream,
        listeners: impl IntoIterator<Item = (&'a str, &'a TcpListener)>,
    ) -> io::Result<HandedOn<'a>> {
        let mut handed = HandedOn { fds: Vec::new(), value: String::new() };
        handed.add(CONTROL, control.as_fd())?;
        for (name, socket) in listeners {
            handed.add(name, socket.as_fd())?;
        }
        Ok(handed)
    }

    fn add(&mut self, name: &str, fd: BorrowedFd<'a>) -> io::Result<()> {
        set_inheritable(fd, true)?;
        self.fds.push(fd);
        // Writing to a string cannot fail.
        let _ = write!(self.value, "{name}={} ", fd.as_raw_fd());
        Ok(())
    }

    /// The variable that tells the child, and those of systemd that must not reach it.
    pub fn tell(&self, command: &mut std::process::Command) {
        command.env(INHERIT, self.value.trim_end());
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
    }
}

impl Drop for HandedOn<'_> {
    fn drop(&mut self) {
        for fd in &self.fds {
            // It was set a moment ago on the same descriptor.
            let _ = set_inheritable(*fd, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(named("mx=7"), Ok(("mx".into(), 7)));
        assert_eq!(named("a=b=9"), Ok(("a=b".into(), 9)));
        for wrong in ["mx", "mx=", "mx=2", "mx=x", "mx=99999"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_listening_sockets_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check("mx", listener.as_raw_fd()), Ok(()));
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(check("mx", client.as_raw_fd()).unwrap_err().contains("no listening TCP socket"));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(check("mx", file.as_raw_fd()).unwrap_err().contains("no listening TCP socket"));
        assert!(check("mx", 4000).unwrap_err().contains("is not open"));
    }

    #[test]
    fn a_child_sees_them_only_while_they_are_handed_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let open_in_child = |command: &mut std::process::Command| {
            let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
            command.args(["-c", &format!("test -e {path}")]).status().unwrap().success()
        };
        {
            let handed = HandedOn::new(&ours, [("mx", &listener)]).unwrap();
            let mut command = std::process::Command::new("sh");
            handed.tell(&mut command);
            assert!(open_in_child(&mut command));
        }
        assert!(!open_in_child(&mut std::process::Command::new("sh")));
    }
}
