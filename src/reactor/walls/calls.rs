//! The wall around system calls: seccomp with a list of what this program, its libraries and the start of its successor
//! use. Everything else is refused with EPERM, which is what a library gets to see where a container refuses.
//!
//! How it fails: a kernel without seccomp, or a processor the list is not made for, is an error that says so.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use std::collections::BTreeMap;

/// Files and directories.
#[rustfmt::skip]
const FILES: &[i64] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_openat, libc::SYS_openat2,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat,
    libc::SYS_getdents64, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_sync_file_range, libc::SYS_flock, libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup,
    libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_umask, libc::SYS_utimensat, libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_sendfile,
    libc::SYS_splice, libc::SYS_copy_file_range, libc::SYS_fadvise64, libc::SYS_readahead, libc::SYS_memfd_create,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch, libc::SYS_syncfs,
];
/// Sockets and waiting on them.
#[rustfmt::skip]
const NETWORK: &[i64] = &[
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    libc::SYS_connect, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_setsockopt, libc::SYS_getsockopt,
    libc::SYS_shutdown, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_signalfd4, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
];
/// Memory.
#[rustfmt::skip]
const MEMORY: &[i64] = &[
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
];
/// Threads, processes (the successor of an upgrade), signals and limits.
#[rustfmt::skip]
const PROCESS: &[i64] = &[
    libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_wait4, libc::SYS_waitid, libc::SYS_kill, libc::SYS_tgkill, libc::SYS_tkill, libc::SYS_futex,
    libc::SYS_futex_waitv, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_set_tid_address,
    libc::SYS_rseq, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getpgid, libc::SYS_setpgid,
    libc::SYS_getsid, libc::SYS_setsid, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_getpriority,
    libc::SYS_setpriority, libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_getrlimit, libc::SYS_setrlimit,
    libc::SYS_getrusage, libc::SYS_times, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend, libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo, libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self, libc::SYS_seccomp,
];
/// Who we are, time, randomness.
#[rustfmt::skip]
const IDENTITY: &[i64] = &[
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrandom,
    libc::SYS_getcpu, libc::SYS_capget, libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer, libc::SYS_timer_create,
    libc::SYS_timer_settime, libc::SYS_timer_delete,
];
/// Calls that only older processors' tables have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_mkdir,
    libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_link, libc::SYS_symlink, libc::SYS_chmod,
    libc::SYS_chown, libc::SYS_lchown, libc::SYS_dup2, libc::SYS_pipe, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_wait, libc::SYS_epoll_create, libc::SYS_eventfd, libc::SYS_fork, libc::SYS_vfork,
    libc::SYS_getpgrp, libc::SYS_arch_prctl, libc::SYS_time, libc::SYS_alarm, libc::SYS_pause, libc::SYS_utimes,
    libc::SYS_inotify_init, libc::SYS_getdents, libc::SYS_creat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

/// Refuses every call outside of the list from now on, to this thread and those it starts. `log_only` refuses nothing
/// and lets the kernel write down what would be.
pub fn calls(log_only: bool) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let otherwise = if log_only { SeccompAction::Log } else { SeccompAction::Errno(libc::EPERM as u32) };
    let filter = SeccompFilter::new(list(), otherwise, SeccompAction::Allow, arch).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

fn list() -> BTreeMap<i64, Vec<SeccompRule>> {
    [FILES, NETWORK, MEMORY, PROCESS, IDENTITY, OLD].into_iter().flatten().map(|call| (*call, Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_machine_over_is_not_on_the_list() {
        let list = list();
        for call in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_reboot,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_setgroups,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
        ] {
            assert!(!list.contains_key(&call), "system call {call}");
        }
    }

    #[test]
    fn behind_the_wall_a_forbidden_call_is_refused_and_others_go_on() {
        // In a thread of its own: the wall stays with it and ends with it.
        std::thread::spawn(|| {
            super::super::seal(true).unwrap();
            calls(false).unwrap();
            // SAFETY: chroot reads a C string.
            let refused = unsafe { libc::chroot(c"/".as_ptr()) };
            assert_eq!(refused, -1);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EPERM));
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("a"), "b").unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        })
        .join()
        .unwrap();
    }
}
