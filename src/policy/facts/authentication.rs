//! What the sender's domains say of the message: SPF, DKIM, DMARC, ARC, in the words of RFC 8601 §2.7.

use super::*;

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::looked(
        "spf",
        Type::Text,
        Stage::Mail,
        Topic::Spf,
        "SPF of the sender's domain, of the HELO name for the null path (RFC 7208): `pass`, `fail`, `softfail`, `neutral`, \
         `none`, `temperror`, `permerror`.",
    ),
    Fact::looked(
        "spf.helo",
        Type::Text,
        Stage::Helo,
        Topic::SpfHelo,
        "SPF of the HELO name, in the same words (RFC 7208 §2.3).",
    ),
    Fact::looked(
        "dkim",
        Type::Text,
        Stage::Message,
        Topic::Signatures,
        "The best result of the message's DKIM signatures (RFC 6376): `pass`, `temperror`, `policy`, `neutral`, `fail`, \
         `permerror`; `none` when it has none.",
    ),
    Fact::looked(
        "dkim.domains",
        Type::Domains,
        Stage::Message,
        Topic::Signatures,
        "Domains whose DKIM signature holds, as in `dkim.domains in @partners`.",
    ),
    Fact::looked(
        "dkim.aligned",
        Type::Flag,
        Stage::Message,
        Topic::Signatures,
        "Whether one of them is the domain in From, or above or below it (relaxed alignment but for siblings, which `dmarc` knows).",
    ),
    Fact::looked(
        "dmarc",
        Type::Text,
        Stage::Message,
        Topic::Dmarc,
        "DMARC of the domain in From (RFC 7489): `pass`, `fail`, `none` (no record), `temperror`, `permerror`.",
    ),
    Fact::looked(
        "dmarc.policy",
        Type::Text,
        Stage::Message,
        Topic::Dmarc,
        "What that domain asks to be done with mail that fails: `none`, `quarantine` or `reject`; empty without a record.",
    ),
    Fact::looked(
        "arc",
        Type::Text,
        Stage::Message,
        Topic::Signatures,
        "Whether the message's ARC chain holds (RFC 8617): `pass`, `fail`, `none`, `temperror`, `permerror`.",
    ),
    Fact::looked(
        "arc.domain",
        Type::Domain,
        Stage::Message,
        Topic::Signatures,
        "Domain of the last seal of the ARC chain; empty without one.",
    ),
];
