//! PIPELINING: commands may come in groups; order and number of replies stay (RFC 2920).
//!
//! How it fails: it has no parameters to fail on.

use super::{Extension, always};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "PIPELINING", rfc: "RFC 2920", offer: always, mail: &[], rcpt: &[] };
