//! The lookup lane: DNS behind one request and answer type.
