//! What stands where in the data directory.
//!
//! How it fails: [`spool_dirs`] when the directory cannot be read.

use std::io;
use std::path::{Path, PathBuf};

/// The queue of one core.
pub fn spool_dir(data: &Path, core: u16) -> PathBuf {
    data.join("spool").join(format!("{core:02}"))
}

/// The mailstore.
pub fn mail_dir(data: &Path) -> PathBuf {
    data.join("mail")
}

/// The queues there are, by core: also those of an earlier start with more cores, whose mail must go out too.
pub fn spool_dirs(data: &Path) -> io::Result<Vec<(u16, PathBuf)>> {
    let entries = match std::fs::read_dir(data.join("spool")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let core = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        dirs.extend(core.map(|core| (core, path)));
    }
    dirs.sort();
    Ok(dirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_found_by_core() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(spool_dirs(dir.path()).unwrap(), []);
        for core in [11, 2] {
            std::fs::create_dir_all(spool_dir(dir.path(), core)).unwrap();
        }
        std::fs::create_dir(dir.path().join("spool/other")).unwrap();
        let expected = [2, 11].map(|core| (core, spool_dir(dir.path(), core)));
        assert_eq!(spool_dirs(dir.path()).unwrap(), expected);
    }
}
