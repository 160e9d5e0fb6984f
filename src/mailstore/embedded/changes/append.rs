//! APPEND and REPLACE, and how octets become a content.
//!
//! How it fails: all or none; a file that cannot be written is [`StoreError::DiskFull`] or [`StoreError::Failed`].

use crate::base::body::{Body, Store};
use crate::base::buf::{Chain, Segment};
use crate::base::mailbox::ask::{Appended, NewMessage, Reply, StoreError};
use crate::base::mailbox::{AccountId, ContentId, MailboxId, Uid, UidSet};
use crate::log::{Disk, Log};
use crate::mailstore::embedded::effect::Effect;
use crate::mailstore::embedded::octets::path_of;
use crate::mailstore::embedded::record::Front;
use crate::mailstore::embedded::writer::{EmbeddedWriter, KeywordsWanted, NewContent, NewRow};
use std::io::{self, IoSlice};
use std::path::Path;

/// Octets copied at a time where a file cannot be linked.
const COPY_OCTETS: usize = 256 * 1024;
/// Octets a record has beside its message, at most.
const FRONT_OCTETS_MAX: u64 = 64;

impl<D: Disk> EmbeddedWriter<D> {
    pub(in crate::mailstore::embedded) fn append(
        &mut self,
        account: AccountId,
        name: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Reply, StoreError> {
        let (mailbox, _) = self.image_of(account, name)?;
        let octets = messages.iter().map(|m| m.body.shape.octets).sum();
        self.check_quota(account, octets, messages.len() as u64)?;
        Ok(Reply::Appended(self.append_to(account, mailbox, messages)?))
    }

    pub(in crate::mailstore::embedded) fn replace(
        &mut self,
        account: AccountId,
        (mailbox, uid): (MailboxId, Uid),
        name: &str,
        message: NewMessage,
    ) -> Result<Reply, StoreError> {
        let old = *self.image(account, mailbox)?.row(uid).ok_or(StoreError::Expunged)?;
        let (to, _) = self.image_of(account, name)?;
        // RFC 8508 §3.4: what is replaced makes room for what replaces it.
        self.check_quota(account, message.body.shape.octets.saturating_sub(old.octets), 0)?;
        let appended = self.append_to(account, to, vec![message])?;
        let mod_seq = self.image(account, mailbox)?.meta.mod_seq + 1;
        self.push(Effect::Expunge { mailbox, mod_seq, uids: UidSet::range(uid, uid) });
        Ok(Reply::Replaced { appended })
    }

    fn append_to(
        &mut self,
        account: AccountId,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> Result<Appended, StoreError> {
        let image = self.image(account, mailbox)?;
        let mut keywords = KeywordsWanted::of(&image);
        let mut flags = Vec::with_capacity(messages.len());
        for message in &messages {
            flags.push(keywords.flags(&message.flags)?);
            if message.body.shape.octets > self.shared.knobs.message_octets_max.0 {
                return Err(StoreError::Limit("the message is too large"));
            }
        }
        let staged_before = self.contents.len();
        let mut new = Vec::with_capacity(messages.len());
        for (message, flags) in messages.into_iter().zip(flags) {
            let internal = message.internal_date.unwrap_or_else(|| self.now());
            let ends_with_crlf = message.body.shape.ends_with_crlf;
            match self.stage_content(&[], &message.body) {
                Ok((content, octets)) => new.push(NewRow { content, octets, ends_with_crlf, flags, internal }),
                Err(e) => {
                    self.drop_contents(staged_before);
                    return Err(e);
                }
            }
        }
        let rows = self.rows_at_end(&image, &new).inspect_err(|_| self.drop_contents(staged_before))?;
        let uid_validity = image.meta.uid_validity;
        drop(image);
        keywords.effect(mailbox).into_iter().for_each(|effect| self.push(effect));
        let uids = rows.iter().map(|r| r.uid).collect();
        if !rows.is_empty() {
            self.push(Effect::Add { mailbox, rows });
        }
        Ok(Appended { uid_validity, uids })
    }

    /// Takes back contents of a change that could not be made.
    pub(in crate::mailstore::embedded) fn drop_contents(&mut self, from: usize) {
        for content in self.contents.split_off(from) {
            if content.in_file.is_some() {
                // One that stays is an orphan, and swept at the next open.
                let _ = self.shared.disk.remove(&path_of(&self.shared.bodies, content.id));
            }
        }
    }

    /// Prepares a message for the log: a record, or a file and a record that names it.
    pub(in crate::mailstore::embedded) fn stage_content(
        &mut self,
        prefix: &[u8],
        body: &Body,
    ) -> Result<(ContentId, u64), StoreError> {
        if prefix.len() as u64 + FRONT_OCTETS_MAX > self.log.payload_octets_max() {
            return Err(StoreError::Limit("the trace fields are too large"));
        }
        self.water.content += 1;
        let id = ContentId(self.water.content);
        let octets = prefix.len() as u64 + body.shape.octets;
        let fits = octets <= self.shared.knobs.body_inline_octets_max.0
            && octets + FRONT_OCTETS_MAX <= self.log.payload_octets_max();
        let (in_file, tail) = match &body.store {
            Store::Memory(chunks) if fits => {
                let mut tail = Chain::new();
                chunks.iter().for_each(|c| tail.push(Segment::shared(c.clone())));
                (None, tail)
            }
            store => {
                let path = path_of(&self.shared.bodies, id);
                if let Err(e) = self.write_file(&path, store, body.shape.octets) {
                    let _ = self.shared.disk.remove(&path);
                    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                    return Err(if full { StoreError::DiskFull } else { StoreError::Failed });
                }
                (Some(prefix.len() as u32), Chain::new())
            }
        };
        let mut head = vec![0; Log::<D>::HEAD_ROOM];
        Front { octets, in_file }.encode(&mut head);
        let front = (head.len() - Log::<D>::HEAD_ROOM) as u32;
        head.extend_from_slice(prefix);
        self.contents.push(NewContent { id, octets, front, in_file, head, tail });
        Ok((id, octets))
    }

    fn write_file(&self, path: &Path, store: &Store, octets: u64) -> io::Result<()> {
        let disk = &self.shared.disk;
        let file = match store {
            Store::Memory(chunks) => {
                let file = disk.create(path)?;
                let mut at = 0;
                for chunk in chunks {
                    write_all(disk, &file, at, chunk)?;
                    at += chunk.len() as u64;
                }
                file
            }
            Store::File { file, .. } => {
                let from = file.path().ok_or(io::ErrorKind::NotFound)?;
                match disk.link(from, path) {
                    Ok(()) => disk.open(path)?,
                    Err(_) => self.copy_file(from, path)?,
                }
            }
        };
        if disk.size(&file)? != octets {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    pub(in crate::mailstore::embedded) fn copy_file(&self, from: &Path, to: &Path) -> io::Result<D::File> {
        let disk = &self.shared.disk;
        let (from, file) = (disk.open(from)?, disk.create(to)?);
        let mut buffer = vec![0; COPY_OCTETS];
        let mut at = 0;
        loop {
            let n = disk.read_at(&from, at, &mut buffer)?;
            if n == 0 {
                return Ok(file);
            }
            write_all(disk, &file, at, &buffer[..n])?;
            at += n as u64;
        }
    }
}

fn write_all<D: Disk>(disk: &D, file: &D::File, mut at: u64, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match disk.write_at(file, at, &[IoSlice::new(octets)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                at += n as u64;
                octets = &octets[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
