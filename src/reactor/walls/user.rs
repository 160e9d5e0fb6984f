//! From root to the user the server runs as.
//!
//! How it fails: [`User::find`] for names the system does not know; [`become_user`] when the kernel refuses, or when root
//! could be had back afterwards.

use std::ffi::CString;
use std::io;

/// A user and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As the configuration has it.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
}

/// Whether this process has root's powers.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl User {
    /// The user of this name or number, with this group or its own.
    pub fn find(user: &str, group: Option<&str>) -> Result<User, String> {
        let (uid, own_group) = match user.parse::<u32>() {
            Ok(uid) => (uid, None),
            Err(_) => {
                let (uid, gid) = passwd(user).ok_or_else(|| format!("walls.user: there is no user {user:?}"))?;
                (uid, Some(gid))
            }
        };
        let gid = match (group, own_group) {
            (Some(name), _) => match name.parse::<u32>() {
                Ok(gid) => gid,
                Err(_) => self::group(name).ok_or_else(|| format!("walls.group: there is no group {name:?}"))?,
            },
            (None, Some(gid)) => gid,
            (None, None) => return Err("walls.user is a number: walls.group must be given too".into()),
        };
        match uid {
            0 => Err("walls.user: root is no user to become".into()),
            _ => Ok(User { name: user.to_owned(), uid, gid }),
        }
    }
}

fn passwd(name: &str) -> Option<(u32, u32)> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string; the entry is static storage of the C library, read at once, and no other thread
    // exists yet.
    unsafe {
        let entry = libc::getpwnam(name.as_ptr());
        (!entry.is_null()).then(|| ((*entry).pw_uid, (*entry).pw_gid))
    }
}

fn group(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: as in `passwd`.
    unsafe {
        let entry = libc::getgrnam(name.as_ptr());
        (!entry.is_null()).then(|| (*entry).gr_gid)
    }
}

/// Becomes `user`, with the groups it is a member of, for good.
pub fn become_user(user: &User) -> Result<(), String> {
    let fail = |what: &str| format!("cannot become {}: {what}: {}", user.name, io::Error::last_os_error());
    // A number without an entry has no other groups.
    let name = CString::new(user.name.as_str()).map_err(|_| "walls.user holds a NUL".to_owned())?;
    // SAFETY: these read numbers and a C string. The C library makes every thread follow.
    unsafe {
        let groups = match passwd(&user.name) {
            Some(_) => libc::initgroups(name.as_ptr(), user.gid),
            None => libc::setgroups(0, std::ptr::null()),
        };
        if groups != 0 {
            return Err(fail("setgroups"));
        }
        if libc::setresgid(user.gid, user.gid, user.gid) != 0 {
            return Err(fail("setresgid"));
        }
        if libc::setresuid(user.uid, user.uid, user.uid) != 0 {
            return Err(fail("setresuid"));
        }
        if libc::setuid(0) == 0 || libc::setgid(0) == 0 && user.gid != 0 {
            return Err(format!("became {} but root can be had back; refusing to go on", user.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = User::find("root", None).unwrap_err();
        assert!(root.contains("root is no user to become"), "{root}");
        assert!(User::find("no-such-user-here", None).unwrap_err().contains("there is no user"));
        assert!(User::find("1234", None).unwrap_err().contains("walls.group must be given"));
        let numbers = User::find("1234", Some("5678")).unwrap();
        assert_eq!((numbers.uid, numbers.gid), (1234, 5678));
        if let Some((uid, gid)) = passwd("nobody") {
            assert_eq!(User::find("nobody", None).unwrap(), User { name: "nobody".into(), uid, gid });
        }
    }
}
