//! ENHANCEDSTATUSCODES: replies carry codes of RFC 3463 (RFC 2034).
//!
//! How it fails: it has no parameters to fail on.

use super::{Extension, always};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "ENHANCEDSTATUSCODES", rfc: "RFC 2034", offer: always, mail: &[], rcpt: &[] };
