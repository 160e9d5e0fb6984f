//! SORT (RFC 5256 §3), and the fields that sorting and threading go by.
//!
//! How it fails: a message whose octets are damaged has empty fields.

use super::thread::{self, Item};
use crate::base::mailbox::search::{SortBy, SortKey, ThreadBy, ThreadMember};
use crate::base::mailbox::{ContentId, Uid};
use crate::log::Disk;
use crate::mailstore::embedded::image::Row;
use crate::mailstore::embedded::reader::EmbeddedReader;
use crate::wire::mime::{self, SortFields};
use std::cmp::Ordering;
use std::sync::Arc;

impl<D: Disk + Sync> EmbeddedReader<D> {
    pub(super) fn sort(&mut self, rows: Vec<Row>, keys: &[SortKey]) -> Vec<Uid> {
        let by_row = |by: SortBy| matches!(by, SortBy::Arrival | SortBy::Size);
        let needs_fields = !keys.iter().all(|k| by_row(k.by));
        let mut sorted: Vec<(Row, Arc<SortFields>)> = Vec::with_capacity(rows.len());
        for row in rows {
            let fields = if needs_fields { self.sort_fields_of(&row, None) } else { Arc::default() };
            sorted.push((row, fields));
        }
        // RFC 5256 §3: what is equal by every key stands in the order of the mailbox.
        sorted.sort_by(|a, b| {
            let by_keys = keys.iter().map(|key| {
                let order = compare(key.by, a, b);
                if key.reverse { order.reverse() } else { order }
            });
            by_keys.fold(Ordering::Equal, Ordering::then).then(a.0.uid.cmp(&b.0.uid))
        });
        sorted.into_iter().map(|(row, _)| row.uid).collect()
    }

    pub(super) fn thread(&mut self, rows: &[Row], by: ThreadBy) -> Vec<ThreadMember> {
        let items: Vec<Item> = rows
            .iter()
            .map(|row| {
                let fields = self.sort_fields_of(row, None);
                Item { uid: row.uid, sent: sent(row, &fields), fields }
            })
            .collect();
        match by {
            ThreadBy::OrderedSubject => thread::ordered_subject(&items),
            ThreadBy::References => thread::references(&items),
        }
    }

    /// Fields of a message, remembered; `header` when it is at hand.
    pub(super) fn sort_fields_of(&mut self, row: &Row, header: Option<&[u8]>) -> Arc<SortFields> {
        if let Some(fields) = self.shared.sort_fields(row.content) {
            return fields;
        }
        let fields = Arc::new(match header {
            Some(header) => mime::sort_fields(header),
            None => mime::sort_fields(&self.header(row.content).unwrap_or_default()),
        });
        self.shared.keep_sort_fields(row.content, &fields);
        fields
    }

    /// THREADID (RFC 8474 §5.3).
    pub(super) fn thread_of(&mut self, row: &Row) -> Option<u64> {
        let fields = self.sort_fields_of(row, None);
        Some(thread_id(&fields, row.content))
    }
}

/// The same for all messages that name the same first ancestor, whenever and wherever they come in.
pub(super) fn thread_id(fields: &SortFields, content: ContentId) -> u64 {
    let Some(root) = fields.references.first().or(fields.message_id.as_ref()) else { return content.0 };
    // FNV-1a: it must be the same for ever. RFC 8474 §4: 63 bits are enough not to meet by chance.
    let hash =
        root.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    hash >> 1 | 1
}

/// The sent date, or the internal one where there is none (RFC 5256 §2.2); seconds.
fn sent(row: &Row, fields: &SortFields) -> i64 {
    fields.date.unwrap_or_else(|| i64::try_from(row.internal.as_secs()).unwrap_or(i64::MAX))
}

fn compare(by: SortBy, a: &(Row, Arc<SortFields>), b: &(Row, Arc<SortFields>)) -> Ordering {
    match by {
        SortBy::Arrival => a.0.internal.cmp(&b.0.internal),
        SortBy::Size => a.0.octets.cmp(&b.0.octets),
        SortBy::Date => sent(&a.0, &a.1).cmp(&sent(&b.0, &b.1)),
        SortBy::Subject => a.1.subject.cmp(&b.1.subject),
        SortBy::From => a.1.from.cmp(&b.1.from),
        SortBy::To => a.1.to.cmp(&b.1.to),
        SortBy::Cc => a.1.cc.cmp(&b.1.cc),
    }
}
