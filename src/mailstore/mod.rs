//! Accounts now; mailboxes, messages and flags later.
