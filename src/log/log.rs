//! The log itself: open, append, commit, read, release, collect, compact.
//!
//! Who owns the log says which records are dead ([`Log::release`]); the log keeps what is alive by segment, gives back
//! segments with nothing alive ([`Log::collect`]) and copies what is left of nearly dead ones to the tail
//! ([`Log::compact`]). How it fails: see the room's page; every append of a failed commit gets the error.

mod mapping;

use super::LogError;
use super::disk::{Disk, read_full_at, write_all_at};
use super::map::{self, Map};
use super::reader::{LogReader, Share, Shares};
use super::record::{ALIGN, HEADER_OCTETS, Header, Location, PAGE, align};
use super::scan::{self, End, Recovered, Recovery};
use super::segment::{Name, SEALS_MAX, SegmentHeader, Supply};
use crate::base::buf::Chain;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Octets of a segment: a multiple of 4096, at most 1 GiB.
    pub segment_octets: u64,
    /// Dead segments kept for reuse.
    pub spares_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_octets: 64 << 20, spares_max: 4 }
    }
}

/// What the log has done since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Commits that wrote something.
    pub commits: u64,
    /// Commits that failed; each cost a segment.
    pub commits_failed: u64,
    /// Records made durable.
    pub records: u64,
    /// Octets written, padding included.
    pub octets_written: u64,
    /// Records copied to the tail.
    pub records_moved: u64,
    /// Live records that could not be read when they were to be copied.
    pub records_damaged: u64,
    /// Segments given back.
    pub segments_freed: u64,
    /// Segments in use.
    pub segments: u64,
    /// Octets of live records.
    pub octets_live: u64,
}

/// A live record that is being copied to the tail: result `index` of the next commit is its new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Which result of the next commit.
    pub index: usize,
    /// Where it stood. Release this place once the copy is durable.
    pub from: Location,
    /// Its kind.
    pub kind: u8,
    /// Its id.
    pub id: u64,
}

/// What one step of compaction did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Copies that are staged now.
    pub moving: Vec<Moving>,
    /// Live records that turned out to be unreadable.
    pub damaged: Vec<Location>,
}

struct Staged {
    kind: u8,
    id: u64,
    /// The header's place, then the first part of the payload.
    head: Vec<u8>,
    tail: Chain,
    payload_crc: u32,
}

impl Staged {
    fn payload_octets(&self) -> u64 {
        (self.head.len() - HEADER_OCTETS + self.tail.octets()) as u64
    }
    fn footprint(&self) -> u64 {
        align(HEADER_OCTETS as u64 + self.payload_octets(), ALIGN)
    }
}

struct Segment<F> {
    /// File and mark, shared with readers.
    share: Arc<Share<F>>,
    octets: u64,
    /// Everything before it is durable (or damaged); the next batch begins here.
    end: u64,
    /// Whether a later header must say where it ends, because whole records may stand behind the end.
    sealed: bool,
    /// A sync on it failed: it is never written again, nor recycled.
    failed: bool,
    /// Offset and octets of the live records.
    live: BTreeMap<u32, u32>,
    live_octets: u64,
    /// Octets of all records that were written into it, alive or not; what is left up to the end is padding.
    kept_octets: u64,
    /// A live record in it cannot be read, so that it cannot be emptied.
    unmovable: bool,
    /// Something in it cannot be read: it is looked at anew at each start.
    damaged: bool,
    mapped: Option<HasMap>,
}

/// What the map of a segment tells of.
#[derive(Clone, Copy)]
struct HasMap {
    upto: u64,
    /// Live records.
    live: usize,
    complete: bool,
}

impl<F> Segment<F> {
    fn new(file: F, mark: u64, octets: u64) -> Segment<F> {
        Segment {
            share: Arc::new(Share::new(file, mark)),
            octets,
            end: PAGE,
            sealed: false,
            failed: false,
            live: BTreeMap::new(),
            live_octets: 0,
            kept_octets: 0,
            unmovable: false,
            damaged: false,
            mapped: None,
        }
    }

    fn keep(&mut self, at: Location) {
        self.live.insert(at.offset, at.octets);
        self.live_octets += at.footprint();
        self.kept_octets += at.footprint();
    }

    /// How much of what was written is padding behind small batches.
    fn padding_percent(&self) -> u64 {
        let used = self.end.saturating_sub(PAGE);
        used.saturating_sub(self.kept_octets) * 100 / used.max(1)
    }
}

/// See the module.
pub struct Log<D: Disk> {
    disk: D,
    directory: PathBuf,
    options: LogOptions,
    segments: BTreeMap<u32, Segment<D::File>>,
    /// The same files for readers beside the writer.
    shares: Arc<Shares<D::File>>,
    active: Option<u32>,
    /// The last segment written before the active one.
    previous: Option<u32>,
    next_segment: u32,
    next_sequence: u64,
    /// A renaming may not be durable yet, because its sync failed.
    names_unsynced: bool,
    staged: Vec<Staged>,
    staged_octets: u64,
    supply: Supply<D>,
    counters: LogCounters,
    compact_below_percent: u64,
    pack_above_percent: u64,
    /// Whether maps are read at the start.
    uses_maps: bool,
    /// Last, so that it is let go last.
    _lock: D::File,
}

impl<D: Disk> Log<D> {
    /// Octets the head of [`Log::append`] must begin with; their content does not matter.
    pub const HEAD_ROOM: usize = HEADER_OCTETS;

    /// Opens a directory, making it when it is not there, and hands every whole record to `visit`. All of them count
    /// as live until they are released.
    pub fn open(
        disk: D,
        directory: &Path,
        options: LogOptions,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<(Log<D>, Recovery), LogError> {
        Log::open_as(disk, directory, options, visit, false)
    }

    /// As [`Log::open`], but believes the maps ([`Log::write_maps`]): of what they tell of only the front of the payload
    /// is shown, and what was dead is not shown.
    pub fn open_mapped(
        disk: D,
        directory: &Path,
        options: LogOptions,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<(Log<D>, Recovery), LogError> {
        Log::open_as(disk, directory, options, visit, true)
    }

    fn open_as(
        disk: D,
        directory: &Path,
        options: LogOptions,
        visit: &mut dyn FnMut(Recovered<'_>),
        uses_maps: bool,
    ) -> Result<(Log<D>, Recovery), LogError> {
        debug_assert!(options.segment_octets.is_multiple_of(PAGE) && options.segment_octets >= 4 * PAGE);
        debug_assert!(options.segment_octets <= 1 << 30);
        let failed = |doing| move |e: io::Error| LogError::disk(doing, directory, &e);
        disk.make_directory(directory).map_err(failed("making"))?;
        let lock = disk.lock(&directory.join("lock")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => LogError::Locked { directory: directory.to_owned() },
            _ => LogError::disk("locking", directory, &e),
        })?;
        let names = disk.list(directory).map_err(failed("listing"))?;
        let found = Found::sort(&disk, directory, &names, options.segment_octets)?;
        let mut log = Log {
            supply: Supply::new(
                disk.clone(),
                directory.to_owned(),
                options.segment_octets,
                options.spares_max,
                found.spares,
                found.next_spare,
            ),
            next_segment: found.segments.last().map_or(1, |n| n + 1),
            disk,
            directory: directory.to_owned(),
            _lock: lock,
            options,
            segments: BTreeMap::new(),
            shares: Arc::default(),
            active: None,
            previous: None,
            next_sequence: 1,
            names_unsynced: false,
            staged: Vec::new(),
            staged_octets: 0,
            counters: LogCounters::default(),
            compact_below_percent: 25,
            pack_above_percent: 100,
            uses_maps,
        };
        let recovery = log.recover(&found.segments, visit)?;
        Ok((log, recovery))
    }

    /// Reads headers first (they say where other segments end), then the segments in order.
    fn recover(&mut self, numbers: &[u32], visit: &mut dyn FnMut(Recovered<'_>)) -> Result<Recovery, LogError> {
        let mut recovery = Recovery::default();
        let mut seals = BTreeMap::new();
        let mut files = Vec::new();
        for number in numbers {
            let path = Name::Segment(*number).path(&self.directory);
            let failed = |e: io::Error| LogError::disk("reading", &path, &e);
            let file = self.disk.open(&path).map_err(failed)?;
            let mut page = vec![0; 2 * PAGE as usize];
            read_full_at(&self.disk, &file, 0, &mut page).map_err(failed)?;
            let header = SegmentHeader::decode(&page)
                .map_err(|found| LogError::Version { path: path.clone(), found })?
                .filter(|h| h.number == *number);
            if header.is_none() {
                recovery.headers_damaged.push(*number);
            }
            match header.as_ref().map(|h| h.mark).or_else(|| scan::mark_of_first_record(&page, *number)) {
                Some(mark) => files.push((*number, mark, file)),
                None => {
                    let aside = Name::Damaged(*number).path(&self.directory);
                    self.disk.rename(&path, &aside).map_err(failed)?;
                }
            }
            seals.extend(header.into_iter().flat_map(|h| h.seals));
        }
        let last = files.last().map_or(0, |(number, _, _)| *number);
        for (number, mark, file) in files {
            let end = match seals.get(&number) {
                Some(end) => End::Sealed(u64::from(*end)),
                None if number < last => End::Closed,
                None => End::Open,
            };
            self.recover_segment(number, mark, file, end, &mut recovery, visit)?;
        }
        self.previous = self.segments.keys().next_back().copied();
        Ok(recovery)
    }

    fn recover_segment(
        &mut self,
        number: u32,
        mark: u64,
        file: D::File,
        end: End,
        recovery: &mut Recovery,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<(), LogError> {
        let path = Name::Segment(number).path(&self.directory);
        let failed = |e: io::Error| LogError::disk("reading", &path, &e);
        let octets = self.disk.size(&file).map_err(failed)?;
        let map = if self.uses_maps { Map::read(&self.disk, &self.directory, number, mark) } else { None };
        let map = map.filter(|m| m.extent.upto <= octets);
        let mut segment = Segment::new(file, mark, octets);
        recovery.segments += 1;
        if let Some(map) = &map {
            let mut shown = 0;
            // It was understood when it was read.
            let _ = map.each(number, &mut |record| {
                segment.keep(record.at);
                shown += 1;
                recovery.records += 1;
                recovery.octets += u64::from(record.at.octets);
                let map::Mapped { at, sequence, kind, id, front } = record;
                visit(Recovered { at, sequence, kind, id, payload: front });
            });
            self.next_sequence = self.next_sequence.max(map.extent.next_sequence);
            segment.kept_octets = map.extent.kept_octets;
            segment.mapped = Some(HasMap { upto: map.extent.upto, live: shown, complete: map.extent.complete });
            if map.extent.complete {
                (segment.end, segment.sealed) = (map.extent.upto, map.extent.sealed);
                recovery.segments_mapped += 1;
                self.shares.add(number, &segment.share);
                self.segments.insert(number, segment);
                return Ok(());
            }
        }
        // In front of what is read here stand zeros, which cost nothing until somebody writes there.
        let from = map.map_or(0, |m| m.extent.upto);
        let mut bytes = vec![0; usize::try_from(octets).unwrap_or(0)];
        let begin = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let got = read_full_at(&self.disk, &segment.share.file, from, &mut bytes[begin..]).map_err(failed)?;
        bytes.truncate(begin + got);
        recovery.octets_read += got as u64;
        let scan = scan::scan(&bytes, mark, number, end, from);
        (segment.end, segment.sealed, segment.damaged) = (scan.end, scan.sealed, !scan.damage.is_empty());
        for header in &scan.records {
            let at = header.location();
            let start = at.offset as usize + HEADER_OCTETS;
            let payload = &bytes[start..start + at.octets as usize];
            segment.keep(at);
            self.next_sequence = self.next_sequence.max(header.sequence + 1);
            recovery.records += 1;
            recovery.octets += u64::from(at.octets);
            visit(Recovered { at, sequence: header.sequence, kind: header.kind, id: header.id, payload });
        }
        recovery.torn.extend(scan.torn);
        recovery.damage.extend(scan.damage);
        self.shares.add(number, &segment.share);
        self.segments.insert(number, segment);
        Ok(())
    }

    /// The largest payload a record can have.
    pub fn payload_octets_max(&self) -> u64 {
        self.options.segment_octets - PAGE - HEADER_OCTETS as u64 - ALIGN
    }

    /// Stages a record: `head` (which begins with [`Log::HEAD_ROOM`] octets of no matter) and `tail` are its payload.
    /// Returns the index of its result in the next [`Log::commit`]. The octets are checksummed here, once.
    pub fn append(&mut self, kind: u8, id: u64, head: Vec<u8>, tail: Chain) -> Result<usize, LogError> {
        debug_assert!(head.len() >= HEADER_OCTETS);
        let crc = crc32c::crc32c(&head[HEADER_OCTETS..]);
        let payload_crc = tail.segments().iter().fold(crc, |crc, s| crc32c::crc32c_append(crc, s.as_slice()));
        let staged = Staged { kind, id, head, tail, payload_crc };
        let (octets, octets_max) = (staged.payload_octets(), self.payload_octets_max());
        if octets > octets_max {
            return Err(LogError::TooLarge { octets, octets_max });
        }
        self.staged_octets += staged.footprint();
        self.staged.push(staged);
        Ok(self.staged.len() - 1)
    }

    /// Octets that can be committed without asking the file system for more room, beside what is staged.
    pub fn room_octets(&self) -> u64 {
        let rest = self.active.and_then(|n| self.segments.get(&n)).map_or(0, |s| s.octets - s.end);
        let spare = (self.options.segment_octets - PAGE) * self.supply.len() as u64;
        (rest + spare).saturating_sub(self.staged_octets)
    }

    /// Octets that are staged.
    pub fn staged_octets(&self) -> u64 {
        self.staged_octets
    }

    /// Makes everything staged durable: one write and one sync (two where a segment ends in between). One result per
    /// append, in order; after the first failure all that follow have it too.
    pub fn commit(&mut self) -> Vec<Result<Location, LogError>> {
        let mut staged = std::mem::take(&mut self.staged);
        self.staged_octets = 0;
        let mut results = Vec::with_capacity(staged.len());
        while results.len() < staged.len() {
            let rest = &mut staged[results.len()..];
            match self.commit_run(rest) {
                Ok(locations) => results.extend(locations.into_iter().map(Ok)),
                Err(e) => {
                    self.counters.commits_failed += 1;
                    results.resize(staged.len(), Err(e));
                }
            }
        }
        if !results.is_empty() {
            self.counters.commits += 1;
        }
        results
    }

    /// Commits as much of `staged` as fits into one segment.
    fn commit_run(&mut self, staged: &mut [Staged]) -> Result<Vec<Location>, LogError> {
        let number = self.segment_for(staged[0].footprint())?;
        let segment = self.segments.get(&number).ok_or_else(|| self.vanished(number))?;
        let start = segment.end;
        let mut at = start;
        let mut locations = Vec::with_capacity(staged.len());
        for record in staged.iter_mut() {
            if at + record.footprint() > segment.octets {
                break;
            }
            let header = Header {
                mark: segment.share.mark,
                payload_crc: record.payload_crc,
                payload_octets: record.payload_octets() as u32, // below 1 GiB, see `append`
                segment: number,
                offset: at as u32,
                batch_start: start as u32,
                sequence: self.next_sequence + locations.len() as u64,
                id: record.id,
                kind: record.kind,
            };
            record.head[..HEADER_OCTETS].copy_from_slice(&header.encode());
            at += record.footprint();
            locations.push(header.location());
        }
        let end = align(at, PAGE);
        // Numbers are never given twice, not even to a batch that failed and may yet stand on the disk.
        self.next_sequence += locations.len() as u64;
        let written = self.write_batch(segment, start, &staged[..locations.len()], (end - at) as usize);
        if let Err(e) = written {
            let path = Name::Segment(number).path(&self.directory);
            self.seal_failed(number);
            return Err(LogError::disk("committing to", &path, &e));
        }
        let segment = self.segments.get_mut(&number).expect("looked up above");
        segment.end = end;
        locations.iter().for_each(|at| segment.keep(*at));
        self.counters.records += locations.len() as u64;
        self.counters.octets_written += end - start;
        if segment.octets - end < segment.octets / 2 {
            self.supply.lead();
        }
        Ok(locations)
    }

    fn write_batch(&self, segment: &Segment<D::File>, start: u64, staged: &[Staged], rest: usize) -> io::Result<()> {
        const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
        let mut parts = Vec::with_capacity(staged.len() * 3 + 1);
        for record in staged {
            parts.push(IoSlice::new(&record.head));
            parts.extend(record.tail.segments().iter().map(|s| IoSlice::new(s.as_slice())));
            let gap = record.footprint() - HEADER_OCTETS as u64 - record.payload_octets();
            if gap > 0 {
                parts.push(IoSlice::new(&ZEROS[..gap as usize]));
            }
        }
        parts.push(IoSlice::new(&ZEROS[..rest]));
        write_all_at(&self.disk, &segment.share.file, start, &mut parts)?;
        self.disk.sync_data(&segment.share.file)
    }

    /// A segment with room for a record of `footprint`.
    fn segment_for(&mut self, footprint: u64) -> Result<u32, LogError> {
        if let Some(number) = self.active
            && let Some(segment) = self.segments.get(&number)
        {
            if segment.end + footprint <= segment.octets {
                return Ok(number);
            }
            self.previous = Some(number);
            self.active = None;
        }
        self.begin_segment()
    }

    /// Takes a spare, makes its header durable, then gives it its name and makes that durable.
    fn begin_segment(&mut self) -> Result<u32, LogError> {
        if self.names_unsynced {
            // A recycled file whose old name is still the durable one must keep its old header.
            self.sync_names()?;
        }
        let number = self.next_segment;
        let (from, to) = (self.supply.take()?.path(&self.directory), Name::Segment(number).path(&self.directory));
        let failed = |e: io::Error| LogError::disk("beginning", &to, &e);
        let mark = self.disk.unpredictable().map_err(failed)?;
        let file = self.disk.open(&from).map_err(failed)?;
        let octets = self.disk.size(&file).map_err(failed)?;
        let header = SegmentHeader { mark, number, seals: self.seals() }.encode();
        write_all_at(&self.disk, &file, 0, &mut [IoSlice::new(&header)]).map_err(failed)?;
        self.disk.sync_data(&file).map_err(failed)?;
        self.next_segment += 1;
        self.disk.rename(&from, &to).map_err(failed)?;
        // The name must be durable before anything in the file is acknowledged.
        self.disk.sync_directory(&self.directory).map_err(failed)?;
        let segment = Segment::new(file, mark, octets);
        self.shares.add(number, &segment.share);
        self.segments.insert(number, segment);
        self.active = Some(number);
        Ok(number)
    }

    fn sync_names(&mut self) -> Result<(), LogError> {
        self.names_unsynced = true;
        let e = |e: io::Error| LogError::disk("syncing", &self.directory, &e);
        self.disk.sync_directory(&self.directory).map_err(e)?;
        self.names_unsynced = false;
        Ok(())
    }

    /// What the next header must say about earlier segments.
    fn seals(&self) -> BTreeMap<u32, u32> {
        let sealed = self.segments.iter().filter(|(n, s)| s.sealed || Some(**n) == self.previous);
        // Newest first when there are too many: compaction empties sealed segments before any other.
        sealed.rev().take(SEALS_MAX).map(|(n, s)| (*n, s.end as u32)).collect()
    }

    /// After a failed write or sync: the segment ends where it was last durable, and the disk is told so at once.
    fn seal_failed(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.failed = true;
            segment.sealed = true;
        }
        self.previous = Some(number);
        self.active = None;
        // If there is no next segment now, the next commit asks again.
        let _ = self.begin_segment();
    }

    fn vanished(&self, number: u32) -> LogError {
        let path = Name::Segment(number).path(&self.directory);
        LogError::disk("finding", &path, &io::ErrorKind::NotFound.into())
    }

    /// Reads a whole record back: its payload.
    pub fn read(&self, at: Location) -> Result<Vec<u8>, LogError> {
        self.read_record(at).map(|(_, payload)| payload)
    }

    fn read_record(&self, at: Location) -> Result<(Header, Vec<u8>), LogError> {
        let segment = self.segments.get(&at.segment).ok_or_else(|| self.vanished(at.segment))?;
        let failed = |e: io::Error| LogError::disk("reading", &Name::Segment(at.segment).path(&self.directory), &e);
        let mut bytes = vec![0; HEADER_OCTETS + at.octets as usize];
        let got = read_full_at(&self.disk, &segment.share.file, u64::from(at.offset), &mut bytes).map_err(failed)?;
        let header = Header::decode(&bytes[..got]).filter(|h| h.mark == segment.share.mark && h.location() == at);
        let payload = bytes.split_off(HEADER_OCTETS);
        match header {
            Some(h) if got == HEADER_OCTETS + payload.len() && crc32c::crc32c(&payload) == h.payload_crc => {
                Ok((h, payload))
            }
            _ => Err(LogError::Damaged { at }),
        }
    }

    /// Reads the first octets of a payload, at most `octets`. Not checked: the owner keeps its own checksum there.
    pub fn read_front(&self, at: Location, octets: usize) -> Result<Vec<u8>, LogError> {
        let segment = self.segments.get(&at.segment).ok_or_else(|| self.vanished(at.segment))?;
        let mut bytes = vec![0; octets.min(at.octets as usize)];
        let offset = u64::from(at.offset) + HEADER_OCTETS as u64;
        let got = read_full_at(&self.disk, &segment.share.file, offset, &mut bytes)
            .map_err(|e| LogError::disk("reading", &Name::Segment(at.segment).path(&self.directory), &e))?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Puts what is durable into another directory, which then is a log: full segments get a second name there (or are
    /// copied, where that cannot be), of the last one what was written is copied. Nothing there is synced yet but what
    /// was copied. Returns the octets that were copied.
    pub fn copy_to(&self, directory: &Path) -> Result<u64, LogError> {
        self.disk.make_directory(directory).map_err(|e| LogError::disk("making", directory, &e))?;
        let mut copied = 0;
        for (number, segment) in &self.segments {
            let name = Name::Segment(*number);
            let (from, to) = (name.path(&self.directory), name.path(directory));
            let active = self.active == Some(*number);
            if active || self.disk.link(&from, &to).is_err() {
                let octets = if active { segment.end } else { segment.octets };
                copied += octets;
                let copy = copy_file(&self.disk, &segment.share.file, octets, &to);
                copy.map_err(|e| LogError::disk("copying to", &to, &e))?;
            }
        }
        self.disk.sync_directory(directory).map_err(|e| LogError::disk("syncing", directory, &e))?;
        Ok(copied)
    }

    /// A reader for other threads; it sees what has been committed.
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(self.disk.clone(), self.directory.clone(), self.shares.clone())
    }

    /// Says that a record is dead.
    pub fn release(&mut self, at: Location) {
        let Some(segment) = self.segments.get_mut(&at.segment) else {
            debug_assert!(false, "released {at} of a segment that is gone");
            return;
        };
        let known = segment.live.remove(&at.offset);
        debug_assert_eq!(known, Some(at.octets), "released {at} twice");
        if known.is_some() {
            segment.live_octets -= at.footprint();
        }
    }

    /// Gives back segments in which nothing is alive. Returns their numbers, once that is durable: records that were
    /// kept only because of what stood in those segments may be released then.
    pub fn collect(&mut self) -> Result<Vec<u32>, LogError> {
        self.retire_dead_active();
        let idle = |n: &u32, s: &Segment<D::File>| s.live.is_empty() && self.active != Some(*n);
        let dead: Vec<u32> = self.segments.iter().filter(|(n, s)| idle(n, s)).map(|(n, _)| *n).collect();
        if dead.is_empty() {
            return Ok(dead);
        }
        self.names_unsynced = true;
        for number in &dead {
            let name = Name::Segment(*number);
            let path = name.path(&self.directory);
            // One that stays is removed at the next start.
            let _ = self.disk.remove(&Name::Map(*number).path(&self.directory));
            let Some(segment) = self.segments.get(number) else { continue };
            // Before the file can begin another life.
            self.shares.retire(*number);
            // One that has a second name belongs to a backup, too: it keeps what is in it.
            let shared = self.disk.links(&segment.share.file).is_ok_and(|links| links > 1);
            if segment.failed || shared {
                self.disk.remove(&path).map_err(|e| LogError::disk("removing", &path, &e))?;
            } else {
                self.supply.recycle(name, segment.octets)?;
            }
            self.segments.remove(number);
            self.counters.segments_freed += 1;
        }
        self.sync_names()?;
        Ok(dead)
    }

    /// An active segment in which nothing is alive any more begins a new life once half of it is used: a file system
    /// that is full otherwise could never be written to again.
    fn retire_dead_active(&mut self) {
        let Some(number) = self.active else { return };
        if self.segments.get(&number).is_some_and(|s| s.live.is_empty() && s.end > s.octets / 2) {
            self.previous = Some(number);
            self.active = None;
        }
    }

    /// Of which segments [`Log::compact`] makes copies: those of which so much or less is alive. A quarter when it is not
    /// set.
    pub fn set_compact_below_percent(&mut self, percent: u32) {
        debug_assert!(percent < 100);
        self.compact_below_percent = percent.into();
    }

    /// Segments of which more than this is padding are copied by [`Log::compact`], too: many small commits become few large
    /// ones, once. 100, as it is when it is not set, is never.
    pub fn set_pack_above_percent(&mut self, percent: u32) {
        self.pack_above_percent = percent.into();
    }

    /// Stages copies of live records of the segment with least alive, if little enough of it is alive (or it was
    /// sealed by a fault), up to `budget_octets`. `movable` may hold records back.
    pub fn compact(&mut self, budget_octets: u64, movable: &mut dyn FnMut(u8, u64) -> bool) -> Compacted {
        let mut done = Compacted::default();
        let candidates = self.segments.iter().filter(|(n, s)| {
            Some(**n) != self.active
                && !s.unmovable
                && !s.live.is_empty()
                && (s.sealed
                    || s.live_octets * 100 <= s.octets * self.compact_below_percent
                    || s.padding_percent() > self.pack_above_percent)
        });
        let Some(number) = candidates.min_by_key(|(_, s)| (!s.sealed, s.live_octets)).map(|(n, _)| *n) else {
            return done;
        };
        let live: Vec<Location> = self.segments[&number]
            .live
            .iter()
            .map(|(offset, octets)| Location { segment: number, offset: *offset, octets: *octets })
            .collect();
        let mut spent = 0;
        for from in live {
            if spent > 0 && spent + from.footprint() > budget_octets {
                break;
            }
            spent += from.footprint();
            match self.read_record(from) {
                Ok((header, payload)) if movable(header.kind, header.id) => {
                    let mut head = vec![0; HEADER_OCTETS];
                    head.extend_from_slice(&payload);
                    if let Ok(index) = self.append(header.kind, header.id, head, Chain::new()) {
                        done.moving.push(Moving { index, from, kind: header.kind, id: header.id });
                    }
                }
                Ok(_) => {}
                Err(_) => {
                    self.counters.records_damaged += 1;
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.unmovable = true;
                    }
                    done.damaged.push(from);
                }
            }
        }
        self.counters.records_moved += done.moving.len() as u64;
        done
    }

    /// Work for an idle moment: has a spare segment made when there is none.
    pub fn prepare(&mut self) {
        self.supply.lead();
    }

    /// Segments in use, by number.
    pub fn segment_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.keys().copied()
    }

    /// What it has done and holds.
    pub fn counters(&self) -> LogCounters {
        LogCounters {
            segments: self.segments.len() as u64,
            octets_live: self.segments.values().map(|s| s.live_octets).sum(),
            ..self.counters
        }
    }
}

impl<D: Disk> std::fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("directory", &self.directory).field("counters", &self.counters()).finish()
    }
}

/// Copies the first octets of a file into a new one, and makes them durable.
pub(super) fn copy_file<D: Disk>(disk: &D, from: &D::File, octets: u64, to: &Path) -> io::Result<()> {
    const PIECE_OCTETS: usize = 1 << 20;
    let file = disk.create(to)?;
    let mut piece = vec![0; PIECE_OCTETS];
    let mut at = 0;
    while at < octets {
        let wanted = usize::try_from(octets - at).unwrap_or(PIECE_OCTETS).min(PIECE_OCTETS);
        let got = read_full_at(disk, from, at, &mut piece[..wanted])?;
        if got == 0 {
            break;
        }
        write_all_at(disk, &file, at, &mut [IoSlice::new(&piece[..got])])?;
        at += got as u64;
    }
    disk.sync_data(&file)
}

/// The files of a directory.
struct Found {
    segments: Vec<u32>,
    spares: Vec<u32>,
    next_spare: u32,
}

impl Found {
    /// Sorts the names; removes half-made segments and spares of another size.
    fn sort<D: Disk>(disk: &D, directory: &Path, names: &[String], octets: u64) -> Result<Found, LogError> {
        let mut found = Found { segments: Vec::new(), spares: Vec::new(), next_spare: 1 };
        let mut maps = Vec::new();
        for name in names.iter().filter_map(|n| Name::parse(n)) {
            let path = name.path(directory);
            let failed = |e: io::Error| LogError::disk("opening", &path, &e);
            match name {
                Name::Segment(n) => found.segments.push(n),
                Name::Damaged(_) => {}
                Name::Map(n) => maps.push(n),
                // Half-written; whoever wants it writes it again.
                Name::NewMap(_) => disk.remove(&path).map_err(failed)?,
                Name::New(n) => {
                    found.next_spare = found.next_spare.max(n + 1);
                    disk.remove(&path).map_err(failed)?;
                }
                Name::Spare(n) => {
                    found.next_spare = found.next_spare.max(n + 1);
                    if disk.open(&path).and_then(|f| disk.size(&f)).map_err(failed)? == octets {
                        found.spares.push(n);
                    } else {
                        disk.remove(&path).map_err(failed)?;
                    }
                }
            }
        }
        found.segments.sort_unstable();
        for number in maps.into_iter().filter(|n| found.segments.binary_search(n).is_err()) {
            let path = Name::Map(number).path(directory);
            disk.remove(&path).map_err(|e| LogError::disk("removing", &path, &e))?;
        }
        Ok(found)
    }
}
