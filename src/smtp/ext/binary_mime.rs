//! BINARYMIME: any octets, by BDAT only (RFC 3030 §3). BODY= is read by `eight_bit_mime.rs`.
//!
//! How it fails: it has no parameters to fail on.

use super::{Extension, always};

pub(super) const EXTENSION: Extension =
    Extension { keyword: "BINARYMIME", rfc: "RFC 3030", offer: always, mail: &[], rcpt: &[] };
