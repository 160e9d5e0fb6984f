//! A message as the body of an HTTP request, with its length known.
//!
//! How it fails: as [`Content`] does; the request is then given up.

use super::super::content::Content;
use super::super::failure::Failure;
use crate::base::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Octets that are sent at once.
const PIECE_OCTETS: usize = 64 * 1024;

/// What is left to be sent.
pub(super) struct MessageBody(Content);

impl MessageBody {
    pub(super) fn new(body: &Body) -> MessageBody {
        MessageBody(Content::new(body, 0))
    }
}

impl hyper::body::Body for MessageBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.poll_next(cx, PIECE_OCTETS).map_ok(|piece| Frame::data(Bytes::from(piece)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.left())
    }
}
