//! FETCH: rows from the image, sections from the octets, envelopes and structures from what was computed before.
//!
//! How it fails: a message whose octets are damaged has `None` and [`SectionData::Nothing`] where they were asked for; the
//! others are answered.

use crate::base::mailbox::ask::{
    FetchItems, Fetched, Octets, Row as Answer, Section, SectionData, SectionWhat, StoreError, StructureForm,
};
use crate::base::mailbox::{ModSeq, UidSet};
use crate::log::Disk;
use crate::mailstore::embedded::glance::row_alone;
use crate::mailstore::embedded::image::{Image, Row};
use crate::mailstore::embedded::index::Computed;
use crate::mailstore::embedded::octets::Unreadable;
use crate::mailstore::embedded::reader::{EmbeddedReader, stored};
use crate::wire::mime::{self, SectionOctets};
use std::sync::Arc;

/// A parsed message above this is not kept once its answer is made.
const PARSED_KEPT_OCTETS_MAX: usize = 1 << 20;

/// A header section above this is not kept in memory.
const HEAD_KEPT_OCTETS_MAX: usize = 64 * 1024;

impl<D: Disk + Sync> EmbeddedReader<D> {
    pub(in crate::mailstore::embedded) fn fetch(
        &mut self,
        image: &Image,
        uids: &UidSet,
        items: &FetchItems,
        changed_since: Option<ModSeq>,
        (rows_max, octets_max): (usize, usize),
    ) -> Result<Fetched, StoreError> {
        let mut fetched = Fetched { rows: Vec::new(), next: None, keywords: image.meta.keywords.clone() };
        let mut octets = 0;
        for row in image.rows_of(uids).filter(|r| changed_since.is_none_or(|since| r.mod_seq > since)) {
            // RFC 9051 §7.5: what fits; the session asks again from there.
            if !fetched.rows.is_empty() && (fetched.rows.len() >= rows_max || octets >= octets_max) {
                fetched.next = Some(row.uid);
                break;
            }
            let answer = self.row(row, items);
            octets += weight(&answer);
            fetched.rows.push(answer);
        }
        if self.last.as_ref().is_some_and(|l| l.bytes.len() > PARSED_KEPT_OCTETS_MAX) {
            self.last = None;
        }
        Ok(fetched)
    }

    fn row(&mut self, row: &Row, items: &FetchItems) -> Answer {
        let computed = if items.envelope || items.structure.is_some() || items.preview {
            self.computed(row, items)
        } else {
            Computed::default()
        };
        Answer {
            thread: items.thread.then(|| self.thread_of(row)).flatten(),
            envelope: computed.envelope.filter(|_| items.envelope),
            structure: match items.structure {
                Some(StructureForm::Extended) => computed.extended,
                Some(StructureForm::Basic) => computed.basic,
                None => None,
            },
            preview: computed.preview.filter(|_| items.preview),
            sections: items.sections.iter().map(|section| self.section(row, section)).collect(),
            ..row_alone(row)
        }
    }

    /// Envelope, structures and preview as far as they are asked for: from the index, or made now and kept.
    fn computed(&mut self, row: &Row, items: &FetchItems) -> Computed {
        let warm = self.shared.warm_computed.get(row.content);
        let is_warm = warm.is_some();
        let known = warm.unwrap_or_else(|| self.index.computed(row.content.0).ok().flatten().unwrap_or_default());
        let lacks = (items.envelope && known.envelope.is_none())
            || match items.structure {
                Some(StructureForm::Extended) => known.extended.is_none(),
                Some(StructureForm::Basic) => known.basic.is_none(),
                None => false,
            }
            || (items.preview && known.preview.is_none());
        if !lacks {
            if !is_warm {
                self.shared.warm_computed.put(row.content, known.clone(), known.octets());
            }
            return known;
        }
        match self.compute(row, items) {
            Ok(made) => {
                let made = made.with(known);
                self.shared.warm_computed.put(row.content, made.clone(), made.octets());
                self.shared.computed_made(row.content, made.clone());
                made
            }
            Err(Unreadable) => known,
        }
    }

    fn compute(&mut self, row: &Row, items: &FetchItems) -> Result<Computed, Unreadable> {
        if self.is_large(row.octets) && items.structure.is_none() && !items.preview {
            let header = self.header(row.content)?;
            let structure = mime::Structure::parse(&header);
            let envelope = Some(mime::envelope(&header, &structure).into());
            return Ok(Computed { envelope, ..Computed::default() });
        }
        let message = self.parsed(row.content)?;
        let (bytes, structure) = (&message.bytes, &message.structure);
        Ok(Computed {
            envelope: Some(mime::envelope(bytes, structure).into()),
            extended: Some(mime::body_structure(bytes, structure, true).into()),
            basic: Some(mime::body_structure(bytes, structure, false).into()),
            preview: items.preview.then(|| mime::preview(bytes, structure)),
        })
    }

    fn section(&mut self, row: &Row, section: &Section) -> SectionData {
        let whole = section.part.is_empty() && !section.decoded;
        let is_head = matches!(section.what, SectionWhat::Header | SectionWhat::Fields { .. });
        let made = if whole && is_head {
            self.section_of_head(row, section)
        } else if whole && self.is_large(row.octets) {
            self.section_of_large(row, section)
        } else if whole && section.what == SectionWhat::All && section.partial.is_none() && !self.has_parsed(row) {
            // Nothing in it is looked for, so nothing of it is parsed.
            self.all_of(row)
        } else {
            self.section_of_parsed(row, section)
        };
        match made {
            Ok(SectionData::Octets(octets)) if section.size_only => SectionData::Size(octets.len()),
            Ok(data) => data,
            Err(Unreadable) => SectionData::Nothing,
        }
    }

    fn has_parsed(&self, row: &Row) -> bool {
        self.last.as_ref().is_some_and(|last| last.content == row.content)
    }

    fn all_of(&mut self, row: &Row) -> Result<SectionData, Unreadable> {
        let (bytes, start) = self.shared.read_whole(row.content)?;
        let end = bytes.len();
        Ok(SectionData::Octets(Octets::Memory { bytes: Arc::new(bytes), start, end }))
    }

    /// HEADER and fields of it: clients ask for those of the same messages again and again, so they stay in memory.
    fn section_of_head(&mut self, row: &Row, section: &Section) -> Result<SectionData, Unreadable> {
        let head = self.head(row)?;
        if section.what == SectionWhat::Header {
            let (from, most) = section.partial.unwrap_or((0, u64::MAX));
            let start = usize::try_from(from).unwrap_or(usize::MAX).min(head.len());
            let end = start.saturating_add(usize::try_from(most).unwrap_or(usize::MAX)).min(head.len());
            return Ok(SectionData::Octets(Octets::Memory { bytes: head, start, end }));
        }
        let structure = mime::Structure::parse(&head);
        Ok(match mime::section(&head, &structure, section) {
            None => SectionData::Nothing,
            Some(SectionOctets::UnknownEncoding) => SectionData::UnknownEncoding,
            Some(SectionOctets::Owned(bytes)) => SectionData::Octets(Octets::memory(bytes)),
            Some(SectionOctets::Range(range)) => {
                SectionData::Octets(Octets::Memory { bytes: head, start: range.start, end: range.end })
            }
        })
    }

    /// The header section of a message, its empty line included. Of a message that is not large all is read, so that
    /// its checksum is checked.
    fn head(&mut self, row: &Row) -> Result<Arc<Vec<u8>>, Unreadable> {
        if let Some(head) = self.shared.warm_heads.get(row.content) {
            return Ok(head);
        }
        let mut octets = if self.is_large(row.octets) {
            self.header(row.content)?
        } else {
            let (mut bytes, start) = self.shared.read_whole(row.content)?;
            let end = mime::header_section(&bytes[start..]).map_or(bytes.len(), |end| start + end);
            bytes.truncate(end);
            bytes.split_off(start)
        };
        octets.shrink_to_fit();
        let head = Arc::new(octets);
        if head.len() <= HEAD_KEPT_OCTETS_MAX {
            self.shared.warm_heads.put(row.content, head.clone(), head.len() as u64);
        }
        Ok(head)
    }

    fn section_of_parsed(&mut self, row: &Row, section: &Section) -> Result<SectionData, Unreadable> {
        let message = self.parsed(row.content)?;
        let found = mime::section(&message.bytes, &message.structure, section);
        Ok(match found {
            None => SectionData::Nothing,
            Some(SectionOctets::UnknownEncoding) => SectionData::UnknownEncoding,
            Some(SectionOctets::Owned(bytes)) => SectionData::Octets(Octets::memory(bytes)),
            Some(SectionOctets::Range(range)) if self.is_large(range.len() as u64) => {
                SectionData::Octets(stored(row.content, range.start as u64, range.len() as u64))
            }
            Some(SectionOctets::Range(range)) => SectionData::Octets(Octets::Memory {
                bytes: Arc::clone(&message.bytes),
                start: range.start,
                end: range.end,
            }),
        })
    }

    /// The message itself, its header or its text: without reading all of it.
    fn section_of_large(&mut self, row: &Row, section: &Section) -> Result<SectionData, Unreadable> {
        let range = match &section.what {
            SectionWhat::All => (0, row.octets),
            SectionWhat::Text => (self.header(row.content)?.len() as u64, row.octets),
            SectionWhat::Header | SectionWhat::Fields { .. } | SectionWhat::Mime => {
                debug_assert!(section.what == SectionWhat::Mime, "headers are answered by section_of_head");
                return Ok(SectionData::Nothing);
            }
        };
        let (mut start, mut end) = range;
        if let Some((from, most)) = section.partial {
            start = start.saturating_add(from).min(end);
            end = start.saturating_add(most).min(end);
        }
        if self.is_large(end - start) {
            return Ok(SectionData::Octets(stored(row.content, start, end - start)));
        }
        let octets = usize::try_from(end - start).map_err(|_| Unreadable)?;
        Ok(SectionData::Octets(Octets::memory(self.shared.read(row.content, start, octets)?)))
    }
}

/// Octets an answer takes, about.
fn weight(row: &Answer) -> usize {
    let sections = row.sections.iter().map(|s| match s {
        SectionData::Octets(Octets::Memory { start, end, .. }) => end - start,
        _ => 0,
    });
    let computed = row.envelope.as_ref().map_or(0, |e| e.len()) + row.structure.as_ref().map_or(0, |s| s.len());
    sections.sum::<usize>() + computed
}
