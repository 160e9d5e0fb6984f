//! How scenarios are run on this machine: what is scaled, which binaries, where files go.
//!
//! How it fails: a directory that cannot be made is an error by name.

use gatepost::reactor::Io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How scenarios are run on this machine.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Share of the duration.
    pub scale: f64,
    /// Multiple of rates and connections.
    pub factor: f64,
    /// Stretches times in expectations.
    pub slack: f64,
    /// Driver.
    pub io: Io,
    /// The gateway's binary.
    pub gatepost: Option<PathBuf>,
    /// Where the directory of the run is made.
    pub scratch: PathBuf,
    /// Whether it stays.
    pub keep: bool,
    /// Servers that run already.
    pub targets: Vec<(String, SocketAddr)>,
    /// Where the sink listens, when a server that runs already knows it.
    pub sink: Option<SocketAddr>,
    /// Whether progress is shown.
    pub show: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Setting {
            scale: 1.0,
            factor: 1.0,
            slack: 1.0,
            io: Io::Auto,
            gatepost: None,
            scratch: std::env::temp_dir(),
            keep: false,
            targets: Vec::new(),
            sink: None,
            show: false,
        }
    }
}

/// The directory of a run, removed with everything in it.
pub(super) struct Dir {
    /// Where it is.
    pub path: PathBuf,
    keep: bool,
}

impl Dir {
    /// A new one.
    pub fn make(setting: &Setting) -> Result<Dir, String> {
        let path = setting.scratch.join(format!("gatepost-load-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Dir { path, keep: setting.keep })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept {}", self.path.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// This program, which is every client and the sink as well.
pub(super) fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("this program: {e}"))
}

/// The gateway beside this program, or beside the directory of tests.
pub(super) fn beside() -> Option<PathBuf> {
    let mine = std::env::current_exe().ok()?;
    mine.ancestors().skip(1).take(2).map(|dir| dir.join("gatepost")).find(|p| p.is_file())
}
