//! The walls around the process: what it may still do once it has opened its ports. A fault in a parser then reaches
//! the mail of this server and nothing else on the machine.
//!
//! [`become_user`] drops root, [`seal`] forbids core dumps and new privileges, [`files`] leaves it its own directories
//! (Landlock), [`calls`] the system calls it uses (seccomp). They are raised on the main thread before any other thread
//! exists, so that every thread is behind them. How it fails: each says what the kernel refused; whether that stops the
//! start is a setting (`auto` goes on without the wall and logs why, `on` does not start).

mod calls;
mod files;
mod user;

pub use calls::calls;
pub use files::{Paths, files};
pub use user::{User, become_user, is_root};

use crate::{knob_words, knobs};
use std::path::PathBuf;

knob_words! {
    /// Whether a wall is raised.
    pub enum Wall {
        /// Where the kernel has it.
        Auto = "auto",
        /// Always; without it the server does not start.
        On = "on",
        /// Never.
        Off = "off",
    }
}

knob_words! {
    /// Whether system calls are filtered.
    pub enum Filter {
        /// Where the kernel can.
        Auto = "auto",
        /// Always; without it the server does not start.
        On = "on",
        /// Nothing is refused, the kernel's audit log gets a line for each call outside of the list.
        Log = "log",
        /// Never.
        Off = "off",
    }
}

knobs! {
    /// The walls around the process, raised once its ports are open.
    pub struct WallKnobs in "walls" {
        /// User to become after the ports are open, by name or number, when started as root. Files the server reads
        /// again at a reload (certificates, lists) must be readable to it.
        user: Option<String> = None, unit "";
        /// Group to become. Default: that of the user.
        group: Option<String> = None, unit "";
        /// Landlock: only the data directory, the journal and the log may be written, only those, the system's own
        /// directories and those of files named in the configuration may be read. "auto", "on" or "off". "auto" leaves a
        /// start without configuration file outside, so that a trial may back up and import anywhere.
        files: Wall = Wall::Auto, unit "";
        /// seccomp: only the system calls this program uses. "auto", "on", "log" or "off".
        calls: Filter = Filter::Auto, unit "";
        /// More directories that may be read behind the wall: where mail is imported from.
        read: Vec<PathBuf> = Vec::new(), unit "";
        /// More directories that may be written behind the wall: where backups and exports go.
        write: Vec<PathBuf> = Vec::new(), unit "";
        /// Whether the process may leave a core dump, and others of its user may look into its memory. A dump holds
        /// passwords and mail.
        core_dumps: bool = false, unit "";
    }
}

/// Forbids new privileges (set-user-ID programs started from here get none) and, unless `core_dumps`, core dumps and
/// looks into our memory. Returns what was refused.
pub fn seal(core_dumps: bool) -> Result<(), String> {
    // SAFETY: prctl with these options reads numbers only.
    let refused = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0;
    if refused {
        return Err(format!("no_new_privs: {}", std::io::Error::last_os_error()));
    }
    if core_dumps {
        return Ok(());
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit reads one rlimit, prctl reads numbers.
    let refused = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none) != 0 || libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
    };
    match refused {
        true => Err(format!("no core dumps: {}", std::io::Error::last_os_error())),
        false => Ok(()),
    }
}
