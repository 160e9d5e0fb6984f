//! The segmented append-only log: append, group commit, read, scan, drop, recover; over a `Disk` that tests can break.
