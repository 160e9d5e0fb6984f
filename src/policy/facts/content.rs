//! What the message's own octets say: `content.rs` reads them, only when a rule needs them. Of a message too large for
//! memory the header section alone is read; what its body would tell is unknown then.

use super::*;
use crate::policy::content::Reading;

/// The rows.
pub const FACTS: &[Fact] = &[
    Fact::looked(
        "subject",
        Type::Text,
        Stage::Data,
        Topic::Content(Reading::Subject),
        "Text of the Subject field with its encoded words (RFC 2047) decoded; empty when there is none.",
    )
    .personal(),
    Fact::looked(
        "message.header_faults",
        Type::Texts,
        Stage::Data,
        Topic::Content(Reading::HeaderFaults),
        "What is wrong with the header section (RFC 5322 §3.6, RFC 6532): `missing-date`, `missing-from`, \
         `missing-message-id`, `duplicate-FIELD` of a field that may stand once, `bad-date`, `bad-from`, `bad-message-id`, \
         `bad-line` (no field), `8bit` (octets that are no UTF-8, or UTF-8 without SMTPUTF8).",
    ),
    Fact::looked(
        "message.attachments",
        Type::Number,
        Stage::Message,
        Topic::Content(Reading::Attachments),
        "How many parts of the message are attachments: they have a file name or say so (RFC 2183).",
    ),
    Fact::looked(
        "attachment_names",
        Type::Texts,
        Stage::Message,
        Topic::Content(Reading::Attachments),
        "File names of the attachments, as in `attachment_names matches /\\.(exe|js|vbs)$/i`; at most 100.",
    )
    .personal(),
    Fact::looked(
        "attachment_types",
        Type::Texts,
        Stage::Message,
        Topic::Content(Reading::Attachments),
        "Media types of the attachments in lower case, as in `application/zip`; at most 100.",
    ),
    Fact::looked(
        "url_hosts",
        Type::Domains,
        Stage::Message,
        Topic::Content(Reading::UrlHosts),
        "Hosts of the URLs in the text parts, as in `url_hosts in @bad-hosts`; at most 100, from the first 256 KiB of text.",
    )
    .personal(),
    Fact::looked(
        "message.gtube",
        Type::Flag,
        Stage::Message,
        Topic::Content(Reading::Gtube),
        "Whether the message holds the line by which filters are tested (GTUBE).",
    ),
];
