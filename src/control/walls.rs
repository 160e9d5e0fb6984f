//! Raises the walls around the process, as `[walls]` says: which user, which directories, and what is told about it.
//!
//! How it fails: what was asked for with "on" and cannot be had, a user that does not exist, and a data directory that the
//! user cannot use, are one line each and nothing is started.

use crate::control::log::LogKnobs;
use crate::gateway::config::Config;
use crate::gateway::journal;
use crate::reactor::walls::{Filter, Paths, User, Wall, WallKnobs, become_user, calls, files, is_root, seal};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// What stands, for the log, which begins only behind the walls.
#[derive(Debug, Default)]
pub struct Raised {
    user: Option<String>,
    files: Option<&'static str>,
    calls: Option<&'static str>,
    notes: Vec<String>,
}

impl Raised {
    /// Writes it to the log.
    pub fn tell(&self) {
        let Raised { user, files, calls, notes } = self;
        let word = |wall: &Option<&'static str>| wall.unwrap_or("none");
        let (files, calls) = (word(files), word(calls));
        tracing::info!(target: "walls", user, files, calls, "walls");
        for note in notes {
            tracing::warn!(target: "walls", "{note}");
        }
    }
}

/// The user to become.
pub fn user(knobs: &WallKnobs) -> Result<Option<User>, String> {
    match &knobs.user {
        Some(name) if is_root() => User::find(name, knobs.group.as_deref()).map(Some),
        _ => Ok(None),
    }
}

/// Raises them; the ports are open and the data directory is locked.
pub fn raise(config: &Config, log: &LogKnobs, program: &Path, user: Option<User>) -> Result<Raised, String> {
    let knobs = &config.settings.walls;
    let mut raised = Raised::default();
    if let Some(user) = user {
        give(&config.settings.server.data, &user)?;
        become_user(&user)?;
        raised.user = Some(user.name);
    } else if is_root() {
        raised.notes.push("running as root: set walls.user to a user of its own".into());
    }
    if let Err(why) = seal(knobs.core_dumps) {
        raised.notes.push(why);
    }
    match knobs.files {
        Wall::Off => {}
        Wall::Auto if config.file.is_none() => {}
        wanted => match files(&paths(config, log, program)) {
            Ok(how) => raised.files = Some(how),
            Err(why) if wanted == Wall::On => return Err(format!("walls.files is \"on\", but {why}")),
            Err(why) => raised.notes.push(format!("no wall around files: {why}")),
        },
    }
    match knobs.calls {
        Filter::Off => {}
        wanted => match calls(wanted == Filter::Log) {
            Ok(()) => raised.calls = Some(if wanted == Filter::Log { "logged" } else { "refused" }),
            Err(why) if wanted == Filter::On => return Err(format!("walls.calls is \"on\", but {why}")),
            Err(why) => raised.notes.push(format!("no wall around system calls: {why}")),
        },
    }
    Ok(raised)
}

/// The data directory must be the user's. One that root has just made, with nothing in it but the lock, is given away.
fn give(data: &Path, user: &User) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("cannot give {} to {}: {e}", data.display(), user.name);
    if fs::metadata(data).map_err(fail)?.uid() == user.uid {
        // The lock may have been made by a command that root has run.
        return chown(data.join("lock"), Some(user.uid), Some(user.gid)).map_err(fail);
    }
    let only_the_lock = fs::read_dir(data).map_err(fail)?.all(|e| e.is_ok_and(|e| e.file_name() == "lock"));
    if !only_the_lock {
        let (data, name) = (data.display(), &user.name);
        return Err(format!(
            "{data} does not belong to {name}, whom walls.user names; give it over: chown -R {name} {data}"
        ));
    }
    chown(data, Some(user.uid), Some(user.gid)).map_err(fail)?;
    chown(data.join("lock"), Some(user.uid), Some(user.gid)).map_err(fail)
}

/// What the server needs of the file system.
fn paths(config: &Config, log: &LogKnobs, program: &Path) -> Paths {
    let settings = &config.settings;
    let mut write = vec![settings.server.data.clone(), journal::directory(config)];
    write.extend(settings.walls.write.iter().cloned());
    write.extend(log.file.as_deref().map(directory));
    let mut read = vec![std::env::current_dir().unwrap_or_default()];
    read.extend(config.file.as_deref().map(directory));
    read.extend(settings.paths().iter().map(|p| directory(p)));
    for certificate in &config.certificates {
        read.extend([directory(&certificate.chain), directory(&certificate.key)]);
    }
    for route in &config.routes {
        read.extend(crate::base::knob::Section::paths(&route.knobs).iter().map(|p| directory(p)));
    }
    for backend in config.pools.iter().flat_map(|pool| &pool.backends) {
        read.extend(crate::base::knob::Section::paths(backend).iter().map(|p| directory(p)));
    }
    for helper in &config.helpers {
        read.extend(crate::base::knob::Section::paths(&helper.knobs).iter().map(|p| directory(p)));
    }
    // Where a link leads counts, not where it stands: certificates are often links.
    let targets: Vec<PathBuf> = read.iter().chain(&write).filter_map(|p| p.canonicalize().ok()).collect();
    read.extend(linked(config));
    read.extend(targets);
    // A rule can only name what is there; where it cannot be made, opening the journal will say why.
    let _ = fs::create_dir_all(journal::directory(config));
    Paths { read, write, execute: program.parent().map(Path::to_owned).into_iter().collect() }
}

/// Directories of the files that certificates' links lead to.
fn linked(config: &Config) -> Vec<PathBuf> {
    let files = config.certificates.iter().flat_map(|c| [&c.chain, &c.key]);
    files.filter_map(|f| f.canonicalize().ok()).map(|f| directory(&f)).collect()
}

/// The directory of a file, or the directory itself; files are replaced by rename, directories stay.
fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !path.is_dir() => {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_owned()
            }
        }
        _ => path.to_owned(),
    }
}
