//! Accounts now; mailboxes, messages and flags later.

pub mod accounts;
