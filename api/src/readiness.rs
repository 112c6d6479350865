//! Whether clients are to be led to this process.
//!
//! A database that goes away later changes nothing of that. All replicas would leave at once, and with them `/status`, which
//! says what is wrong, and the answers that say when to come again.

use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    reached: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// Notes that the store answered as it should.
    pub(crate) fn reach(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether the store ever did.
    pub(crate) fn has_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Notes that the process is to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
