//! Proof values: small receipts without which the positive reply cannot be written.
//!
//! Each has one maker, named by its constructor; the house test (`tests/house.rs`) holds that nobody else calls it.
//! How it fails: it does not; a missing proof is a type error.

use crate::base::id::SpoolId;

/// The policy let this recipient pass: without it `250` after RCPT cannot be written (RFC 5321 §3.6.2, relaying).
#[derive(Debug)]
pub struct RelayGrant(());

impl RelayGrant {
    /// Only `policy/` calls this.
    pub(crate) fn issued_by_policy() -> RelayGrant {
        RelayGrant(())
    }
}

/// The message is in a log and `fdatasync` has returned. Made by the spool and the mailstore only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    id: SpoolId,
}

impl Committed {
    /// Only `spool/` and `mailstore/` call this, after their sync.
    pub(crate) fn after_sync(id: SpoolId) -> Committed {
        Committed { id }
    }
    /// Under which id it is kept.
    pub fn id(&self) -> SpoolId {
        self.id
    }
}

/// The backend itself said 2xx after end of data. Made by the SMTP client machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    text: String,
}

impl Accepted {
    /// Only `smtp/client` calls this, with the text of the backend's reply.
    pub(crate) fn by_backend(text: String) -> Accepted {
        Accepted { text }
    }
    /// What the backend said.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The policy decided that the message is accepted and thrown away (`discard`), or kept aside (`quarantine` commits it).
#[derive(Debug)]
pub struct DiscardGrant(());

impl DiscardGrant {
    /// Only `policy/` calls this.
    pub(crate) fn issued_by_policy() -> DiscardGrant {
        DiscardGrant(())
    }
}
