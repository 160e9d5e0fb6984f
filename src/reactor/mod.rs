//! The per-core loop: one completion-style interface, an io_uring and an epoll driver, buffers, TLS pump. All `unsafe` and system calls.

pub mod tls;
