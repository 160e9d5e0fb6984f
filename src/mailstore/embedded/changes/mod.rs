//! Changes, one file for each kind: each checks everything first, then says its effects.
//!
//! How it fails: [`StoreError`](crate::base::mailbox::ask::StoreError) before the first effect.

mod append;
mod copy;
mod deliver;
mod flags;
mod mailboxes;
