//! HELP: the command is served (RFC 5321 §4.1.1.8).
//!
//! How it fails: it has no parameters to fail on.

use super::{Extension, always};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "HELP", rfc: "RFC 5321", offer: always, mail: &[], rcpt: &[] };
