//! Which processors this process may use, and binding a thread to one of them.
//!
//! How it fails: a container or `taskset` may forbid a processor; [`to_core`] says so, and a core runs unpinned then.

use std::io;

/// The processors in this thread's affinity mask, lowest first; `[0]` where the kernel does not tell.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which all zero is a value; the kernel writes at most its size.
    let (set, ok) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let ok = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0;
        (set, ok)
    };
    // SAFETY: the index is below CPU_SETSIZE.
    let cores: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|n| ok && unsafe { libc::CPU_ISSET(*n, &set) }).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Binds the calling thread to processor `n`, a number from [`allowed_cores`].
pub fn to_core(n: usize) -> io::Result<()> {
    if n >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: as above; `n` is below CPU_SETSIZE.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(n, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names the calling thread for `top -H` and `ps -L`; the kernel keeps 15 octets.
pub fn name_thread(name: &str) {
    let mut text = [0u8; 16];
    let end = name.floor_char_boundary(15);
    text[..end].copy_from_slice(&name.as_bytes()[..end]);
    // SAFETY: PR_SET_NAME reads at most 16 octets; `text` has them, and its last one is NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_bound_and_named() {
        std::thread::spawn(|| {
            let cores = allowed_cores();
            let last = *cores.last().unwrap();
            to_core(last).unwrap();
            assert_eq!(allowed_cores(), [last]);
            name_thread("gatepost-core-0123456789");
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            assert_eq!(name.trim_end(), "gatepost-core-0");
            assert!(to_core(usize::MAX).is_err());
        })
        .join()
        .unwrap();
    }
}
