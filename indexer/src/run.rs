//! A walk that is under way: one of the whole volume, or one of a folder that appeared, moved or went.
//!
//! A walk is hints in the queue. Each carries a [`Ticket`]; when the last ticket of a run is gone, the run's folders are
//! all listed and what it found is written. What was known and did not turn up is then looked at once more, by name,
//! before it counts as gone: it may have come back meanwhile.

use crate::reconcile::{Known, Reconciliation};
use shared::folder::Folder;
use shared::status::Read;
use shared::store::Outcome;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// Whose turn its hints have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole volume.
    Everything,
    /// A folder that an event named.
    Subtree,
}

/// A walk. Counts are of metadata files unless they say otherwise.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) scope: Folder,
    pub(crate) begun: Instant,
    /// The number under which what it sees is remembered, where it is of everything.
    pub(crate) number: Option<u64>,
    /// Folders that were looked at, those of them that were not listed, and those that were left out with all below them.
    pub(crate) folders: AtomicU64,
    pub(crate) unlisted: AtomicU64,
    pub(crate) left_out: AtomicU64,
    pub(crate) found: AtomicU64,
    pub(crate) skipped: AtomicU64,
    /// Those that were read, and those of them that everybody may see.
    pub(crate) read: Counts,
    pub(crate) public: Counts,
    pub(crate) failed: AtomicU64,
    reconciliation: Mutex<Reconciliation>,
    tickets: AtomicUsize,
    listed: AtomicBool,
    cancelled: AtomicBool,
    finished: Notify,
}

/// What files that were read came to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    added: AtomicU64,
    updated: AtomicU64,
    unchanged: AtomicU64,
}

impl Counts {
    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Added => &self.added,
            Outcome::Updated => &self.updated,
            Outcome::Unchanged | Outcome::Removed => &self.unchanged,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// As they are now.
    pub(crate) fn now(&self) -> Read {
        let [added, updated, unchanged] =
            [&self.added, &self.updated, &self.unchanged].map(|count| count.load(Ordering::Relaxed));
        Read { added, updated, unchanged }
    }
}

/// Where runs go whose last ticket is gone.
pub(crate) type Settle = mpsc::UnboundedSender<Arc<Run>>;

impl Run {
    /// Begins a run; it goes on until the last clone of the ticket is gone.
    pub(crate) fn begin(kind: Kind, scope: Folder, reconciliation: Reconciliation, settle: &Settle) -> Ticket {
        Run::begin_numbered(kind, scope, reconciliation, None, settle)
    }

    /// Begins a run of everything, of which is remembered under `number` what it sees.
    pub(crate) fn of_everything(known: Known, number: u64, settle: &Settle) -> Ticket {
        let reconciliation = Reconciliation::against(known);
        Run::begin_numbered(Kind::Everything, Folder::root(), reconciliation, Some(number), settle)
    }

    fn begin_numbered(
        kind: Kind,
        scope: Folder,
        reconciliation: Reconciliation,
        number: Option<u64>,
        settle: &Settle,
    ) -> Ticket {
        let run = Run {
            kind,
            scope,
            begun: Instant::now(),
            number,
            folders: AtomicU64::new(0),
            unlisted: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            found: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            read: Counts::default(),
            public: Counts::default(),
            failed: AtomicU64::new(0),
            reconciliation: Mutex::new(reconciliation),
            tickets: AtomicUsize::new(0),
            listed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            finished: Notify::new(),
        };
        Ticket::of(Arc::new(run), settle)
    }

    pub(crate) fn reconciliation(&self) -> MutexGuard<'_, Reconciliation> {
        self.reconciliation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks that all folders are listed. False when they were already: then the run is at its end.
    pub(crate) fn all_listed(&self) -> bool {
        !self.listed.swap(true, Ordering::Relaxed)
    }

    /// Whether all folders are listed.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Gives up: hints of this run alone are passed over from now on.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends the run.
    pub(crate) fn finish(&self) {
        self.finished.notify_one();
    }

    /// Waits for the run's end.
    pub(crate) async fn finished(&self) {
        self.finished.notified().await;
    }

    /// Counts what a file that was read came to, and whether everybody may see it.
    pub(crate) fn count(&self, outcome: Outcome, public: bool) {
        self.read.count(outcome);
        if public {
            self.public.count(outcome);
        }
    }
}

/// A share in a run that is under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    run: Arc<Run>,
    settle: Settle,
}

impl Ticket {
    /// A new share in a run.
    pub(crate) fn of(run: Arc<Run>, settle: &Settle) -> Ticket {
        run.tickets.fetch_add(1, Ordering::AcqRel);
        Ticket { run, settle: settle.clone() }
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(crate) fn is_same_run(&self, other: &Ticket) -> bool {
        Arc::ptr_eq(&self.run, &other.run)
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Ticket {
        Ticket::of(self.run.clone(), &self.settle)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.run.tickets.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody listens any more only when the indexer is gone.
            let _ = self.settle.send(self.run.clone());
        }
    }
}
