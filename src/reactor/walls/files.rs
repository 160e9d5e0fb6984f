//! The wall around files: Landlock, from Linux 5.13 on.
//!
//! Rules name directories that exist when the wall is raised. A file that is replaced by rename is another file to the
//! kernel, so the directories of files are opened, not the files. How it fails: a kernel without Landlock, and one that
//! refuses, are errors that say so; a directory that is not there is left out.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};
use std::path::{Path, PathBuf};

/// The newest rules this program knows; an older kernel gets what it has.
const KNOWN: ABI = ABI::V5;

/// What stays open.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Read.
    pub read: Vec<PathBuf>,
    /// Read and written.
    pub write: Vec<PathBuf>,
    /// Read and executed: the program itself, for an upgrade.
    pub execute: Vec<PathBuf>,
}

/// What every program needs of the system: libraries, names, time zones, certificates, randomness, its own processor
/// and memory figures.
const SYSTEM_READ: &[&str] =
    &["/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf"];
const SYSTEM_EXECUTE: &[&str] = &["/usr", "/lib", "/lib64"];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts"];

/// Leaves this thread, and every thread and process that it starts from now on, these paths. Says how much of it the kernel
/// can hold to.
pub fn files(paths: &Paths) -> Result<&'static str, String> {
    let status = raise(paths).map_err(|e| e.to_string())?;
    match status {
        RulesetStatus::FullyEnforced => Ok("all of it"),
        RulesetStatus::PartiallyEnforced => Ok("as far as this kernel can"),
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock, or it is switched off (lsm=landlock)".into()),
    }
}

fn raise(paths: &Paths) -> Result<RulesetStatus, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let executing = reading | AccessFs::Execute;
    let system = |list: &'static [&'static str]| list.iter().map(Path::new);
    let own = |list: &'_ [PathBuf]| list.to_vec();
    let mut rules = Vec::new();
    for path in system(SYSTEM_READ).map(Path::to_owned).chain(own(&paths.read)) {
        rules.push((path, reading));
    }
    for path in system(SYSTEM_EXECUTE).map(Path::to_owned).chain(own(&paths.execute)) {
        rules.push((path, executing));
    }
    for path in system(DEVICES).map(Path::to_owned) {
        rules.push((path, reading | AccessFs::WriteFile | AccessFs::IoctlDev));
    }
    for path in own(&paths.write) {
        rules.push((path, AccessFs::from_all(KNOWN) & !AccessFs::Execute));
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?;
    for (path, access) in rules {
        let Ok(opened) = PathFd::new(&path) else { continue };
        // Rights of directories mean nothing on a file, and the kernel refuses them there.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}
