//! The end of a run: a flag, set by SIGINT, SIGTERM or the run itself, and the wakers of the cores that must notice.
//!
//! How it fails: when signals cannot be caught, the process simply ends at the first one, without a report.

use gatepost::reactor::Waker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Shared by everybody who has to stop.
#[derive(Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Ends the run: every core is woken and looks at the flag.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        if let Ok(wakers) = self.inner.wakers.lock() {
            wakers.iter().for_each(Waker::wake);
        }
    }
    /// Whether the run is to end.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Relaxed)
    }
    /// A core that wants to be woken at the end.
    pub fn wake(&self, waker: Waker) {
        if let Ok(mut wakers) = self.inner.wakers.lock() {
            wakers.push(waker);
        }
    }

    /// Ends the run at the first SIGINT or SIGTERM; a second one ends the process.
    pub fn at_signals(&self) {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
        let stop = self.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if stop.is_stopped() {
                    std::process::exit(128 + signal);
                }
                stop.stop();
            }
        });
    }
}
