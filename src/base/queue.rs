//! A bounded queue into a loop that may sleep: [`Sender`] from any thread, [`Inbox`] in the one that owns it.
//!
//! The payload always travels in the queue; the wake-up is a system call and is made only when the receiver has
//! published that it is about to sleep. How it fails: a full queue gives the item back to the sender, who must shed
//! load; nothing is ever dropped silently.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Ends the sleep of the loop that owns an [`Inbox`].
pub trait Wake: Send + Sync {
    /// Called by a sender, at most once per sleep.
    fn wake(&self);
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    /// Whether the receiver sleeps or is about to. On a line of its own: every push reads it.
    sleeping: CachePadded<AtomicBool>,
    waker: Box<dyn Wake>,
}

/// The sending end. Clones send into the same inbox.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} of {})", self.0.queue.len(), self.0.queue.capacity())
    }
}

impl<T> Sender<T> {
    /// Appends `item`, waking the receiver if it sleeps. A full queue gives the item back.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.0.queue.push(item)?;
        // No lost wake-up. The sender writes the queue, then reads the flag; the receiver writes the flag, then reads
        // the queue (`before_sleep`). Each has a SeqCst fence between the two, and of two such fences one comes first
        // in the single total order: if ours does, the receiver's read sees our item and it does not sleep; if the
        // receiver's does, our read sees the flag and we wake it. Acquire and release alone would allow both reads to
        // see the old value.
        fence(Ordering::SeqCst);
        if self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::AcqRel) {
            self.0.waker.wake();
        }
        Ok(())
    }

    /// Items waiting, as far as one can tell from outside.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing seems to wait.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// Items it holds at most.
    pub fn capacity(&self) -> usize {
        self.0.queue.capacity()
    }
}

/// The receiving end; there is one.
pub struct Inbox<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} of {})", self.0.queue.len(), self.0.queue.capacity())
    }
}

impl<T> Inbox<T> {
    /// A queue of at most `capacity` items (at least one) into the loop that `waker` wakes.
    pub fn new(capacity: usize, waker: Box<dyn Wake>) -> (Sender<T>, Inbox<T>) {
        let queue = ArrayQueue::new(capacity.max(1));
        let shared = Arc::new(Shared { queue, sleeping: CachePadded::new(AtomicBool::new(false)), waker });
        (Sender(Arc::clone(&shared)), Inbox(shared))
    }

    /// One more sending end.
    pub fn sender(&self) -> Sender<T> {
        Sender(Arc::clone(&self.0))
    }

    /// The oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Publishes that the receiver is about to sleep. True when it may; false when something has come meanwhile, and
    /// it must look again (the publication is withdrawn then).
    #[must_use = "false means that something is waiting"]
    pub fn before_sleep(&mut self) -> bool {
        self.0.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // the counterpart of the one in `push`
        let may = self.0.queue.is_empty();
        if !may {
            self.after_sleep();
        }
        may
    }

    /// The receiver is awake: senders need not wake it.
    pub fn after_sleep(&mut self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    /// A bell like an eventfd: a ring before the sleep ends it at once.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
        rings: AtomicUsize,
    }

    impl Bell {
        /// False when nobody rang in time.
        fn sleep(&self) -> bool {
            let guard = self.rung.lock().unwrap();
            let patience = Duration::from_secs(20);
            let (mut rung, result) = self.changed.wait_timeout_while(guard, patience, |rung| !*rung).unwrap();
            *rung = false;
            !result.timed_out()
        }
    }

    struct Ringer(Arc<Bell>);

    impl Wake for Ringer {
        fn wake(&self) {
            *self.0.rung.lock().unwrap() = true;
            self.0.rings.fetch_add(1, Ordering::Relaxed);
            self.0.changed.notify_one();
        }
    }

    fn inbox<T>(capacity: usize) -> (Sender<T>, Inbox<T>, Arc<Bell>) {
        let bell = Arc::new(Bell::default());
        let (sender, inbox) = Inbox::new(capacity, Box::new(Ringer(Arc::clone(&bell))));
        (sender, inbox, bell)
    }

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let (sender, mut inbox, _) = inbox(2);
        assert_eq!((sender.push(1), sender.push(2), sender.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((inbox.pop(), inbox.pop(), inbox.pop()), (Some(1), Some(2), None));
        assert_eq!(sender.push(4), Ok(()));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (sender, mut inbox, bell) = inbox(8);
        sender.push(1).unwrap();
        assert_eq!(bell.rings.load(Ordering::Relaxed), 0, "nobody slept");
        assert!(!inbox.before_sleep(), "something waits");
        inbox.pop();
        assert!(inbox.before_sleep());
        sender.push(2).unwrap();
        sender.push(3).unwrap();
        assert_eq!(bell.rings.load(Ordering::Relaxed), 1);
        inbox.after_sleep();
        sender.push(4).unwrap();
        assert_eq!(bell.rings.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const SENDERS: u64 = 4;
        const ITEMS: u64 = 50_000;
        let (sender, mut inbox, bell) = inbox(16);
        let senders: Vec<_> = (0..SENDERS)
            .map(|s| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..ITEMS {
                        let mut item = s << 32 | n;
                        while let Err(back) = sender.push(item) {
                            item = back;
                            std::thread::yield_now();
                        }
                        if n % 7 == 0 {
                            std::thread::yield_now(); // let the receiver fall asleep now and then
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS as usize];
        let mut sleeps = 0u64;
        while next.iter().sum::<u64>() < SENDERS * ITEMS {
            while let Some(item) = inbox.pop() {
                let (s, n) = ((item >> 32) as usize, item & 0xFFFF_FFFF);
                assert_eq!(n, next[s], "in order of each sender");
                next[s] += 1;
            }
            if next.iter().sum::<u64>() < SENDERS * ITEMS && inbox.before_sleep() {
                assert!(bell.sleep(), "asleep with work waiting: a wake-up was lost");
                sleeps += 1;
                inbox.after_sleep();
            }
        }
        senders.into_iter().for_each(|s| s.join().unwrap());
        assert!(sleeps > 0);
        assert!(bell.rings.load(Ordering::Relaxed) as u64 >= sleeps);
    }
}
