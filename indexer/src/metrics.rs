//! What is counted of indexing, for metrics. What a lock that may be held for long stands before (the queue, the watches) is
//! looked at beside, once a second, so that nobody who scrapes waits for it.

use crate::queue::{Queue, Waiting};
use crate::unchanged::Walk;
use crate::watch::Watch;
use shared::clock;
use shared::metrics::{Copy, Counter, Family, Figures as _, Gauge, Histogram, Label, Registry, histogram};
use shared::status::WatchedBy;
use shared::store::postgres::lease::Lease;
use shared::store::{Change, Outcome};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often the queue and the watches are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What files come to that are written.
const OUTCOMES: [&str; 5] = ["added", "updated", "unchanged", "removed", "failed"];

/// The meters of a process that indexes. They go on when the lease changes hands.
#[derive(Debug, Clone)]
pub struct Meters {
    /// What the index says of itself.
    pub copy: Copy,
    /// Bytes of the database's tables, where they are known.
    pub(crate) size: Gauge,
    arrival: Histogram,
    changes: Family<Label, Counter>,
    write: Histogram,
    batch: Histogram,
    failing: Counter,
    lost_hints: Counter,
    defects: Counter,
    takeovers: Counter,
    renewal: Histogram,
    walks: [Walked; 2],
    state: Arc<Mutex<State>>,
}

/// What is counted of walks of one kind.
#[derive(Debug, Clone, Default)]
struct Walked {
    running: Gauge,
    took: Gauge<f64, AtomicU64>,
    folders: Gauge,
    /// When one last came to its end, in seconds since 1970; 0 where none has.
    ended: Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// What was seen beside last.
    seen: Option<Seen>,
    /// When the first of the changes was told that are being written.
    writing: Option<Instant>,
    /// The lease, and when it was taken, in seconds since 1970.
    lease: Option<(Weak<Lease>, i64)>,
}

/// What is looked at beside.
#[derive(Debug)]
struct Seen {
    waiting: Waiting,
    watched: u64,
    polled: u64,
    mode: WatchedBy,
}

impl Default for Meters {
    fn default() -> Meters {
        let changes = Family::default();
        for outcome in OUTCOMES {
            drop(changes.get_or_create_owned(&[("outcome", outcome)]));
        }
        let arrival = Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0]);
        let batch = Histogram::new([1.0, 10.0, 100.0, 500.0]);
        let (copy, size, failing, lost_hints, defects, takeovers, walks, state) = Default::default();
        let (write, renewal) = (histogram(), histogram());
        Meters {
            copy,
            size,
            arrival,
            changes,
            write,
            batch,
            failing,
            lost_hints,
            defects,
            takeovers,
            renewal,
            walks,
            state,
        }
    }
}

impl Meters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes are about to be written, of which an event told the first at this moment.
    pub(crate) fn write_begins(&self, told: Option<Instant>) {
        self.state().writing = told;
    }

    /// So many changes that were written together are, since this moment.
    pub(crate) fn write_ends(&self, begun: Instant, changes: usize) {
        self.state().writing = None;
        self.write.observe(begun.elapsed().as_secs_f64());
        self.batch.observe(changes as f64);
    }

    /// A change is written, and came to this.
    pub(crate) fn written(&self, change: &Change, outcome: Outcome, told: Option<Instant>) {
        let outcome = match (change, outcome) {
            (Change::Failing { .. }, _) => "failed",
            // No file came to anything.
            (Change::Measured { .. }, _) => return,
            (_, Outcome::Added) => "added",
            (_, Outcome::Updated) => "updated",
            (_, Outcome::Removed) => "removed",
            (_, Outcome::Unchanged) => "unchanged",
        };
        self.changes.get_or_create(&[("outcome", outcome)]).inc();
        if let Some(told) = told {
            self.arrival.observe(told.elapsed().as_secs_f64());
        }
    }

    /// A file does not read that did, or in another way.
    pub(crate) fn fails(&self) {
        self.failing.inc();
    }

    /// Hints were lost, and everything is walked.
    pub(crate) fn hints_lost(&self) {
        self.lost_hints.inc();
    }

    /// Work on a subject ended in a defect.
    pub(crate) fn defect(&self) {
        self.defects.inc();
    }

    /// A walk begins.
    pub(crate) fn walk_begins(&self, walk: Walk) {
        self.walks[walk as usize].running.set(1);
    }

    /// A walk has ended that began at this moment and looked at so many folders; whether it came to its end in time.
    pub(crate) fn walk_ends(&self, walk: Walk, begun: Instant, folders: Option<u64>, whole: bool) {
        let walked = &self.walks[walk as usize];
        walked.running.set(0);
        let Some(folders) = folders else { return };
        walked.took.set(begun.elapsed().as_secs_f64());
        walked.folders.set(i64::try_from(folders).unwrap_or(i64::MAX));
        if whole {
            walked.ended.set(clock::now().timestamp());
        }
    }

    /// The lease was taken.
    pub(crate) fn lease_taken(&self, lease: &Arc<Lease>) {
        self.takeovers.inc();
        self.state().lease = Some((Arc::downgrade(lease), clock::now().timestamp()));
    }

    /// An attempt to renew the lease has ended that began at this moment.
    pub(crate) fn renewed(&self, begun: Instant) {
        self.renewal.observe(begun.elapsed().as_secs_f64());
    }

    /// Looks at the queue and the watches, for as long as the future is polled.
    pub(crate) async fn look_at(&self, queue: &Arc<Queue>, watch: &Arc<Watch>) {
        let _forget = Forget(self);
        loop {
            let (queue, watch) = (queue.clone(), watch.clone());
            let seen = crate::off_the_loop(move || {
                let (watched, polled) = watch.coverage();
                Seen { waiting: queue.waiting(), watched, polled, mode: watch.mode() }
            });
            let seen = seen.await;
            self.state().seen = Some(seen);
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Registers all of it, as families of a volume.
    pub fn register(&self, registry: &mut Registry, volume: &str) {
        let registry = registry.of_volume(volume);
        self.copy.register(registry);
        self.register_lease(registry);
        self.register_queue(registry);
        self.register_walks(registry);
        let help = "From an event to the moment at which what it told of can be found";
        registry.register("index_arrival_seconds", help, self.arrival.clone());
        registry.register("index_changes", "Changes that were written, by what they came to", self.changes.clone());
        registry.register("index_write_seconds", "How long writes to the index took", self.write.clone());
        registry.register("index_write_batch", "How many changes were written at once", self.batch.clone());
        registry.register("files_failing_new", "Metadata files that began not to read", self.failing.clone());
        let help = "Folders and flows that were passed over because of a defect of the program";
        registry.register("index_defects", help, self.defects.clone());
        let size = self.size.clone();
        let help = "Bytes of our tables and their indexes, asked for once an hour";
        registry.gauge("db_size_bytes", help, move || Some(size.get() as f64).filter(|size| *size > 0.0));
    }

    fn register_lease(&self, registry: &mut Registry) {
        let own = self.clone();
        registry.gauge("index_lease_held", "Whether this process holds the lease, and may write", move || {
            Some(f64::from(u8::from(own.lease().is_some())))
        });
        let own = self.clone();
        registry.gauge("lease_since_timestamp_seconds", "Since when it does, in seconds since 1970", move || {
            own.lease().map(|(_, since)| since as f64)
        });
        let own = self.clone();
        registry.gauge("lease_epoch", "Which holder of the lease this process is, counted from the first", move || {
            own.lease().map(|(epoch, _)| epoch as f64)
        });
        registry.register("lease_takeovers", "How often this process took the lease", self.takeovers.clone());
        registry.register(
            "lease_renewal_seconds",
            "How long it took to renew the lease, or not to",
            self.renewal.clone(),
        );
    }

    /// The lease's epoch and since when it is held, where it is.
    fn lease(&self) -> Option<(i64, i64)> {
        let (lease, since) = self.state().lease.clone()?;
        let lease = lease.upgrade().filter(|lease| lease.is_believed())?;
        Some((lease.epoch(), since))
    }

    fn register_queue(&self, registry: &mut Registry) {
        let own = self.clone();
        registry.gauge(
            "index_oldest_hint_seconds",
            "For how long the change has waited to be in the index that has done so for longest; 0 where none does",
            move || {
                let state = own.state();
                let waiting = state.seen.as_ref()?.waiting.since;
                let oldest = waiting.into_iter().chain(state.writing).min();
                Some(oldest.map_or(0.0, |since| since.elapsed().as_secs_f64()))
            },
        );
        let own = self.clone();
        let help =
            "What waits to be looked at: what events told of, and what walks found (folders in one folder are one)";
        registry.gauges("index_queue_hints", help, "kind", move || {
            let state = own.state();
            let waiting = state.seen.as_ref().map(|seen| &seen.waiting);
            waiting.map_or(vec![], |waiting| vec![("event", waiting.due as f64), ("walk", waiting.walks as f64)])
        });
        let help = "How often events or what they told of was lost, so that everything is walked";
        registry.register("watch_overflows", help, self.lost_hints.clone());
        let own = self.clone();
        let help = "Folders whose changes the kernel tells, and those that only walks find";
        registry.gauges("watch_folders", help, "how", move || {
            let state = own.state();
            let seen = state.seen.as_ref();
            seen.map_or(vec![], |seen| vec![("watched", seen.watched as f64), ("polled", seen.polled as f64)])
        });
        let own = self.clone();
        registry.gauges("watch_mode", "How changes are noticed: 1 for the way that is used", "mode", move || {
            let is = |mode| own.state().seen.as_ref().map(|seen| f64::from(u8::from(seen.mode == mode)));
            let modes = [("events", WatchedBy::Events), ("poll", WatchedBy::Poll)];
            modes.into_iter().filter_map(|(name, mode)| Some((name, is(mode)?))).collect()
        });
    }

    fn register_walks(&self, registry: &mut Registry) {
        let mut of = |name, help, read: fn(&Walked) -> Option<f64>| {
            let walks = self.walks.clone();
            registry.gauges(name, help, "walk", move || {
                let names = [(Walk::Whole, "whole"), (Walk::Changes, "changes")];
                names.into_iter().filter_map(|(walk, name)| Some((name, read(&walks[walk as usize])?))).collect()
            });
        };
        let ended = |walked: &Walked| Some(walked.ended.get() as f64).filter(|ended| *ended > 0.0);
        of("walk_running", "Whether the volume is walked: whole, or what changed of it", |walked| {
            Some(walked.running.get() as f64)
        });
        of("walk_duration_seconds", "How long the last such walk took", |walked| {
            Some(walked.took.get()).filter(|took| *took > 0.0)
        });
        of("walk_folders", "How many folders it looked at", |walked| Some(walked.folders.get() as f64));
        of("walk_last_success_timestamp_seconds", "When one last came to its end, in seconds since 1970", ended);
    }
}

/// Forgets what was seen, once nobody looks any more.
struct Forget<'a>(&'a Meters);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.seen, state.writing) = (None, None);
        drop(state);
        for walked in &self.0.walks {
            walked.running.set(0);
        }
    }
}
