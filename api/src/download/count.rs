//! The downloads that are running, and how those ended that are not.

use super::content::{Broken, Why};
use serde_json::{Value, json};
use shared::metrics::{Figures as _, Registry};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tracing::warn;

/// How many bytes all downloads together read ahead of their clients, about, and one of them at the most.
const AHEAD: usize = 16 << 20;
const AHEAD_OF_ONE: usize = 1 << 20;

/// How many there are of each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    completed: AtomicU64,
    abandoned: AtomicU64,
    changed: AtomicU64,
    vanished: AtomicU64,
    unreadable: AtomicU64,
    bytes: AtomicU64,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(crate) struct Share {
    counts: Arc<Counts>,
    ended: bool,
}

impl Running {
    /// One more.
    pub(crate) fn begin(&self) -> Share {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        Share { counts: self.0.clone(), ended: false }
    }

    /// How many are running.
    pub(crate) fn count(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// Registers all of it for metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let own = self.clone();
        registry.gauge("downloads_running", "Downloads that are running", move || Some(own.count() as f64));
        let counts = self.0.clone();
        registry.counters("downloads", "Downloads by how they ended", "result", move || {
            let Counts { completed, abandoned, changed, vanished, unreadable, .. } = &*counts;
            [
                ("completed", completed),
                ("abandoned", abandoned),
                ("changed", changed),
                ("vanished", vanished),
                ("unreadable", unreadable),
            ]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
            .to_vec()
        });
        let counts = self.0.clone();
        registry.counter("download_bytes", "Bytes of downloads that were handed out", move || {
            counts.bytes.load(Ordering::Relaxed)
        });
    }

    /// All figures, for `/status`.
    pub(crate) fn figures(&self, plans: (usize, usize)) -> Value {
        let Counts { completed, abandoned, changed, vanished, unreadable, .. } = &*self.0;
        let [completed, abandoned, changed, vanished, unreadable] =
            [completed, abandoned, changed, vanished, unreadable].map(|count| count.load(Ordering::Relaxed));
        json!({
            "running": self.count(),
            "completed": completed,
            "abandoned": abandoned,
            "broken_off": changed + vanished + unreadable,
            "broken_off_by": {"changed": changed, "vanished": vanished, "unreadable": unreadable},
            "plans_kept": plans.0,
            "plan_bytes": plans.1,
        })
    }
}

impl Share {
    /// How many bytes this one may read at once: the fewer downloads there are, the more, for that is faster.
    pub(super) fn ahead(&self) -> usize {
        (AHEAD / self.counts.running.load(Ordering::Relaxed).max(1)).min(AHEAD_OF_ONE)
    }

    /// So many of its bytes were handed out.
    pub(super) fn handed(&self, bytes: usize) {
        self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Its last byte was handed out.
    pub(super) fn completed(&mut self) {
        self.end(&self.counts.completed);
        self.ended = true;
    }

    /// It cannot be finished.
    pub(super) fn broken(&mut self, broken: &Broken) {
        warn!(error = %broken, "a download breaks off");
        self.end(match broken.why {
            Why::Changed => &self.counts.changed,
            Why::Vanished => &self.counts.vanished,
            Why::Unreadable => &self.counts.unreadable,
        });
        self.ended = true;
    }

    fn end(&self, count: &AtomicU64) {
        if !self.ended {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end(&self.counts.abandoned);
        self.counts.running.fetch_sub(1, Ordering::AcqRel);
    }
}
