//! The durable queue: what is waiting, when it is next due, what became of it; an index over `log`.
