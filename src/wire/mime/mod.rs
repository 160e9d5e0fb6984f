//! The structure of a message (RFC 5322, RFC 2045–2049): which octets are which header and which part, what IMAP tells of
//! them (ENVELOPE, BODYSTRUCTURE, sections), and their text for search, sorting and preview.
//!
//! Everything works on offsets into the message as it is stored; only decoded text is copied. Any octets are a message:
//! what is broken is read as far as it makes sense and served back octet for octet. How it fails: it does not; a part
//! that is not there is `None`, and what exceeds [`PARTS_MAX`] or [`DEPTH_MAX`] stays one opaque part.

mod address;
mod attachment;
mod body;
mod content;
mod date;
mod decode;
mod envelope;
mod header;
mod html;
mod section;
mod sort;
mod structure;
mod text;

#[cfg(test)]
mod tests;

pub use attachment::{Attachment, attachments, decoded_field, text_parts};
pub use body::{basic_structure, body_structure};
pub use date::parse_date;
pub use envelope::envelope;
pub use header::header_section;
pub use section::{SectionOctets, section};
pub use sort::{REFERENCES_MAX, SortFields, sort_fields};
pub use structure::{DEPTH_MAX, PARTS_MAX, Structure};
pub use text::{HeaderText, PREVIEW_CHARACTERS_MAX, body_text, header_text, preview};
