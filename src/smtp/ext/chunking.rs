//! CHUNKING: text by BDAT, counted instead of dotted (RFC 3030 §2); the command is `cmd/bdat.rs`.
//!
//! How it fails: it has no parameters to fail on.

use super::{Extension, always};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "CHUNKING", rfc: "RFC 3030", offer: always, mail: &[], rcpt: &[] };
