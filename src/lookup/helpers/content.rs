//! The octets of a message in pieces: from memory, or read from the body's file by a blocking thread.
//!
//! How it fails: a file that is gone, cannot be read or is shorter than it was is [`Failure::Body`].

use super::failure::Failure;
use crate::base::body::{Body, Store};
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Content {
    source: Source,
    at: u64,
    end: u64,
}

#[derive(Debug)]
enum Source {
    Memory { chunks: Vec<Arc<Vec<u8>>>, index: usize, within: usize },
    File { file: Arc<dyn crate::base::body::BodyFile>, open: Option<Arc<File>>, reading: Option<Reading> },
}

type Reading = JoinHandle<io::Result<(Arc<File>, Vec<u8>)>>;

impl Content {
    /// The octets of `body` from `at` on.
    pub(super) fn new(body: &Body, at: u64) -> Content {
        let end = body.shape.octets;
        let at = at.min(end);
        let source = match &body.store {
            Store::Memory(chunks) => {
                let (index, within) = place(chunks, at);
                Source::Memory { chunks: chunks.clone(), index, within }
            }
            Store::File { file, .. } => Source::File { file: file.clone(), open: None, reading: None },
        };
        Content { source, at, end }
    }

    /// Octets that are left.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next piece: as many as are left, `max` at most; `None` at the end.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Vec<u8>>, Failure> {
        poll_fn(|cx| self.poll_next(cx, max)).await.transpose()
    }

    /// As [`Content::next`].
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Result<Vec<u8>, Failure>>> {
        let want = max.min(usize::try_from(self.left()).unwrap_or(usize::MAX));
        if want == 0 {
            return Poll::Ready(None);
        }
        let piece = match &mut self.source {
            Source::Memory { chunks, index, within } => Ok(take(chunks, index, within, want)),
            Source::File { file, open, reading } => {
                if reading.is_none() {
                    match start(file.as_ref(), open.take(), self.at, want) {
                        Ok(started) => *reading = Some(started),
                        Err(failure) => return Poll::Ready(Some(Err(failure))),
                    }
                }
                // Set just above.
                let Some(handle) = reading else { return Poll::Ready(None) };
                let done = ready!(Pin::new(handle).poll(cx));
                *reading = None;
                match done {
                    Ok(Ok((kept, octets))) => {
                        *open = Some(kept);
                        Ok(octets)
                    }
                    Ok(Err(error)) => Err(Failure::Body(error.to_string())),
                    Err(error) => Err(Failure::Body(error.to_string())),
                }
            }
        };
        Poll::Ready(Some(piece.inspect(|octets| self.at += octets.len() as u64)))
    }
}

/// The chunk that holds octet `at`, and where in it.
fn place(chunks: &[Arc<Vec<u8>>], at: u64) -> (usize, usize) {
    let mut left = usize::try_from(at).unwrap_or(usize::MAX);
    for (index, chunk) in chunks.iter().enumerate() {
        if left < chunk.len() {
            return (index, left);
        }
        left -= chunk.len();
    }
    (chunks.len(), 0)
}

/// Copies `want` octets: every piece costs the helper an answer, so small chunks are put together.
fn take(chunks: &[Arc<Vec<u8>>], index: &mut usize, within: &mut usize, want: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(want);
    while piece.len() < want
        && let Some(chunk) = chunks.get(*index)
    {
        let n = (want - piece.len()).min(chunk.len() - *within);
        piece.extend_from_slice(&chunk[*within..*within + n]);
        *within += n;
        if *within == chunk.len() {
            (*index, *within) = (*index + 1, 0);
        }
    }
    piece
}

/// Reads on one of the runtime's blocking threads; one for each consultation at most.
fn start(
    file: &dyn crate::base::body::BodyFile,
    open: Option<Arc<File>>,
    at: u64,
    want: usize,
) -> Result<Reading, Failure> {
    let path = file.path().map(ToOwned::to_owned);
    let Some(path) = path else { return Err(Failure::Body("its file is not on this machine".into())) };
    Ok(tokio::task::spawn_blocking(move || {
        let file = match open {
            Some(file) => file,
            None => Arc::new(File::open(path)?),
        };
        let mut octets = vec![0; want];
        file.read_exact_at(&mut octets, at)?;
        Ok((file, octets))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::body::{BodyFile, BodyShape};
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    struct OnDisk(Option<PathBuf>);
    impl BodyFile for OnDisk {
        fn id(&self) -> u64 {
            1
        }
        fn path(&self) -> Option<&Path> {
            self.0.as_deref()
        }
    }

    fn shape(octets: usize) -> BodyShape {
        BodyShape { octets: octets as u64, ..BodyShape::default() }
    }

    async fn read(body: &Body, at: u64, max: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let mut content = Content::new(body, at);
        let mut pieces = Vec::new();
        while let Some(piece) = content.next(max).await? {
            pieces.push(piece);
        }
        assert_eq!(content.left(), 0);
        Ok(pieces)
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn the_same_pieces_from_memory_and_from_a_file() {
        let octets: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        std::fs::write(&path, &octets).unwrap();
        let file = Body {
            shape: shape(1000),
            store: Store::File { file: Arc::new(OnDisk(Some(path))), head: Arc::new(octets[..10].to_vec()) },
        };
        for chunk in [1, 7, 1000] {
            let chunks = octets.chunks(chunk).map(|c| Arc::new(c.to_vec())).collect();
            let memory = Body::memory(shape(1000), chunks);
            for (at, max) in [(0, 1000), (0, 333), (17, 100), (999, 5), (1000, 5), (4000, 5)] {
                let expected: Vec<Vec<u8>> =
                    octets.get(at..).unwrap_or_default().chunks(max).map(<[u8]>::to_vec).collect();
                assert_eq!(block_on(read(&memory, at as u64, max)), Ok(expected.clone()));
                assert_eq!(block_on(read(&file, at as u64, max)), Ok(expected));
            }
        }
    }

    #[test]
    fn files_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let short = dir.path().join("short");
        std::fs::write(&short, b"five!").unwrap();
        for path in [None, Some(dir.path().join("gone")), Some(short)] {
            let file = Arc::new(OnDisk(path));
            let body = Body { shape: shape(10), store: Store::File { file, head: Arc::default() } };
            assert!(matches!(block_on(read(&body, 0, 100)), Err(Failure::Body(_))));
        }
    }
}
