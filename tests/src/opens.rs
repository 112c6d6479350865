//! Whether files are opened, as the kernel tells it.

use notify::event::{AccessKind, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the openings of some files from its making on.
#[derive(Debug)]
pub struct Opens {
    count: Arc<AtomicUsize>,
    _watcher: RecommendedWatcher,
}

impl Opens {
    /// Begins to count.
    ///
    /// # Panics
    /// When the files cannot be watched.
    pub fn of(files: &[PathBuf]) -> Opens {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = count.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(AccessKind::Open(_)))) {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        })
        .expect("a watcher");
        for file in files {
            watcher.watch(file, RecursiveMode::NonRecursive).expect("a watch");
        }
        Opens { count, _watcher: watcher }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
