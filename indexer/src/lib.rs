//! The indexer: keeps a store in step with a volume.
//!
//! Hints that something may have changed come from events ([`watch`]) and from walks ([`mod@run`]) into one [`queue`]; workers
//! look for themselves and hand what they find to one writer ([`ingest`], [`mod@write`]). Flows of the SDP configuration database come
//! through the same queue ([`sdp`]). Events make it fast, walks make it right: one
//! of everything at start, when asked for, when events were lost, and at an interval.

pub mod daemon;
mod dlm;
mod hashed;
pub mod import;
mod ingest;
mod lease;
mod measure;
pub mod metrics;
pub mod migrate;
mod mounts;
mod queue;
mod reconcile;
mod run;
mod sdp;
mod told;
mod unchanged;
mod unreadable;
mod watch;
mod write;

use ingest::{Refused, Worker};
use measure::Measure;
use metrics::Meters;
use queue::{Haste, Hint, Queue, Turn};
use reconcile::Known;
use run::{Run, Settle, Ticket};
use shared::access::Viewer;
use shared::clock;
use shared::config::IndexingSettings;
use shared::folder::Folder;
use shared::status::{Indexing, LastRun, Progress, Read, Step};
use shared::store::{self, REMEMBERED, Store, StoreError};
use shared::volume::Volume;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tracing::{debug, info, warn};
use unchanged::{Memory, Walk};
use uuid::Uuid;
use watch::Watch;

/// How many changes may be on their way to the store. Each holds a product, and the last of them waits for all before it.
const IN_FLIGHT: usize = 1024;
/// How many products may wait to be measured where the store knows the others.
const TO_MEASURE: usize = 10_000;
/// How often a walk's progress is published.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long the storage path may take to be opened before that is told.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait before everything is walked again because hints were lost or the volume could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a walk of everything did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Volume(#[from] Refused),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Why a walk of everything is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Start,
    Asked,
    Interval,
    HintsLost,
}

impl Reason {
    /// Whether somebody waits for it and follows its progress.
    fn is_awaited(self) -> bool {
        matches!(self, Reason::Start | Reason::Asked)
    }
}

/// Keeps `store` in step with `volume` for as long as the future is polled; it never ends by itself. Where an `identity`
/// is given, nothing is removed while the storage path holds another volume or none. What it does is counted in `meters`.
pub async fn run(
    volume: Arc<Volume>,
    store: Arc<dyn Store>,
    settings: IndexingSettings,
    identity: Option<Uuid>,
    meters: Meters,
) {
    let (settle, settled) = mpsc::unbounded_channel();
    let (changes, to_write) = mpsc::channel(IN_FLIGHT);
    let queue = Arc::new(Queue::default());
    let to_measure = if store.kind() == store::Kind::Memory { 0 } else { TO_MEASURE };
    let (measure, measurer) = measure::measure(&volume, &store, &changes, to_measure, settings.reconcile);
    let watch = Arc::new(Watch::start(&volume, settings.watch, &queue, &measure, &settle));
    let flows = Arc::new(sdp::Mirror::new(volume.origin().clone()));
    let worker = Arc::new(Worker {
        volume,
        queue: queue.clone(),
        watch: watch.clone(),
        changes,
        settle: settle.clone(),
        flows: flows.clone(),
        memory: Memory::new(settings.doubt),
        tree_attributes: settings.tree_attributes.clone(),
        has_trees: false.into(),
        shut: Default::default(),
        mounts: Default::default(),
        told: Default::default(),
        meters: meters.clone(),
        accepted: std::sync::Mutex::default(),
    });
    let workers: io::Result<Vec<_>> = (0..settings.workers)
        .map(|n| {
            let worker = worker.clone();
            std::thread::Builder::new().name(format!("reader-{n}")).spawn(move || worker.run())
        })
        .collect();
    let measuring = std::thread::Builder::new().name("measurer".to_owned()).spawn(move || measurer.run());
    if let Err(error) = workers.and(measuring) {
        warn!(%error, "fewer threads than configured");
    }
    let _closing = Closing(queue.clone());
    let sdp = sdp::Follower::new(settings.sdp.clone(), settings.reconcile, flows, queue.clone(), store.clone());
    let indexer = Indexer {
        identity,
        store: store.clone(),
        queue: queue.clone(),
        watch: watch.clone(),
        worker,
        measure: measure.clone(),
        settings,
        settle,
        meters: meters.clone(),
    };
    tokio::join!(
        write::write(store.clone(), to_write, indexer.settings.batch, measure.clone(), &queue, meters.clone()),
        measure_more(store.as_ref(), &measure),
        measure_around_removed(store.as_ref(), &measure),
        settle_runs(store.clone(), settled, queue.clone(), indexer.settle.clone()),
        indexer.walk_for_ever(),
        sdp.follow(),
        meters.look_at(&queue, &watch),
        meters.copy.follow(store.as_ref()),
    );
}

/// Lets the workers go when the indexer ends.
struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Orders the measurements that were not ordered at once, whenever there is room.
async fn measure_more(store: &dyn Store, measure: &Measure) {
    loop {
        measure.room().await;
        match store.first_unmeasured(TO_MEASURE).await {
            Ok(folders) => {
                let may_be_more = folders.len() == TO_MEASURE;
                folders.into_iter().for_each(|folder| measure.product(folder));
                if may_be_more {
                    measure.more();
                }
            }
            Err(error) => {
                debug!("what is to be measured is asked for again: {error}");
                measure.more();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Orders the measurement of products around what an earlier process removed: it may not have come to counting as theirs what is
/// left there.
async fn measure_around_removed(store: &dyn Store, measure: &Measure) {
    loop {
        match store.removed(REMEMBERED).await {
            Ok(removed) => return write::measure_around(store, &removed, measure).await,
            Err(error) => debug!("what was removed lately is asked for again: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes each run on when its hints are worked off: what did not turn up is looked at by name, and then it is finished.
async fn settle_runs(
    store: Arc<dyn Store>,
    mut settled: mpsc::UnboundedReceiver<Arc<Run>>,
    queue: Arc<Queue>,
    settle: Settle,
) {
    while let Some(run) = settled.recv().await {
        if run.is_cancelled() || !run.all_listed() {
            run.finish();
            continue;
        }
        let mut gone = Vec::new();
        if run.reconciliation().misses_some() {
            let mut tell = |folder, _| {
                if run.reconciliation().misses(&folder) {
                    gone.push(folder);
                }
            };
            if let Err(error) = store.each_known(&run.scope, &mut tell).await {
                warn!(folder = %run.scope, %error, "what went from here is found by the next walk");
                queue.lost_hints();
                gone.clear();
            }
        }
        let ticket = Ticket::of(run, &settle);
        let hints = gone.into_iter().map(|folder| {
            let hint = Hint { tickets: vec![ticket.clone()], ..Hint::read() };
            (folder, hint)
        });
        queue.extend(hints, Turn::Due(Instant::now()));
    }
}

struct Indexer {
    identity: Option<Uuid>,
    store: Arc<dyn Store>,
    queue: Arc<Queue>,
    watch: Arc<Watch>,
    worker: Arc<Worker>,
    measure: Measure,
    settings: IndexingSettings,
    settle: Settle,
    meters: Meters,
}

impl Indexer {
    /// Walks everything whenever there is a reason to.
    async fn walk_for_ever(&self) {
        let mut indexing = Indexing::default();
        self.remember_mounts().await;
        let mut reason = Reason::Start;
        // When one that left nothing out ended.
        let mut whole: Option<Instant> = None;
        // When the next one may begin that somebody asks for.
        let mut rested = Instant::now();
        loop {
            let recent = whole.is_some_and(|whole| whole.elapsed() < self.settings.full_walk);
            let walk = if reason == Reason::Interval && recent { Walk::Changes } else { Walk::Whole };
            let begun = Instant::now();
            self.meters.walk_begins(walk);
            let walked = self.walk(reason, walk, &mut indexing).await;
            if walked.is_err() {
                self.meters.walk_ends(walk, begun, None, false);
            }
            if walk == Walk::Whole && walked.is_ok() {
                rested = Instant::now() + begun.elapsed();
            }
            if walk == Walk::Whole && matches!(walked, Ok(true)) {
                whole = Some(Instant::now());
            }
            let again = walked.is_err();
            if let Err(failure) = walked {
                self.fail(failure, &mut indexing);
            }
            self.publish_surely(&mut indexing).await;
            let pause = if again { self.settings.reconcile.min(PAUSE) } else { self.settings.reconcile };
            let next = tokio::time::Instant::now() + pause;
            reason = loop {
                tokio::select! {
                    () = self.asked(rested) => break Reason::Asked,
                    () = tokio::time::sleep_until(next) => break if again { reason } else { Reason::Interval },
                    () = self.queue.hints_lost() => {
                        self.meters.hints_lost();
                        tokio::time::sleep(PAUSE).await;
                        break if again { reason } else { Reason::HintsLost };
                    }
                    () = self.worker.shut.changed() => self.publish_surely(&mut indexing).await,
                }
            };
        }
    }

    /// Has the mount points remembered that an earlier process knew: nothing else tells that one is missing.
    async fn remember_mounts(&self) {
        loop {
            match self.store.summary(&Viewer::anonymous(), 0).await {
                Ok(summary) => return self.worker.mounts.remember(&summary.indexing.mounts),
                Err(error) => debug!("which file systems were mounted is asked for again: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until a walk is asked for, and until half of the time is left for all else that asks something of the volume: else
    /// who asks again and again would have it walked for ever.
    async fn asked(&self, rested: Instant) {
        self.store.reindex_requested().await;
        tokio::time::sleep_until(rested.into()).await;
    }

    /// Notes why a walk came to nothing. A store that cannot at the moment is no fault of the volume.
    fn fail(&self, failure: Failure, indexing: &mut Indexing) {
        let message = failure.to_string();
        let is_new = indexing.volume_error.as_ref() != Some(&message);
        match failure {
            Failure::Store(_) => warn!(error = %message, "the walk waits for the store"),
            Failure::Volume(_) => {
                if is_new {
                    warn!("{message}");
                }
                indexing.in_progress = false;
                indexing.progress.indexing_step = Step::Error;
                indexing.volume_error = Some(message);
            }
        }
    }

    /// Walks everything once, or what changed of it. True when it came to its end in time.
    async fn walk(&self, reason: Reason, walk: Walk, indexing: &mut Indexing) -> Result<bool, Failure> {
        let (begun, at) = (Instant::now(), clock::now());
        if reason.is_awaited() {
            indexing.in_progress = true;
            indexing.progress = Progress { indexing_step: Step::Starting, ..Progress::default() };
            indexing.public = Read::default();
            // Once this is written, the wish for a reindex is granted.
            self.publish(indexing).await?;
        }
        let mut known = Known::default();
        self.store.each_known(&Folder::root(), &mut |folder, stamp| known.push(&folder, stamp)).await?;
        if walk == Walk::Whole {
            // What could not be read then may be read now: by a newer program, by a store that is well again.
            self.store.failing().await?.iter().for_each(|folder| known.push(folder, None));
        }
        let known = off_the_loop(|| known.sorted()).await;
        self.accept(known.len(), indexing).await?;
        indexing.volume_error = None;
        if reason.is_awaited() {
            // Those that an earlier process did not come to.
            self.measure.more();
        }
        self.watch.begin_walk();
        self.worker.shut.begin_walk();
        let number = self.worker.memory.begin(walk, known.restless(), known.sums());
        let ticket = Run::of_everything(known, number, &self.settle);
        let run = ticket.run().clone();
        self.queue.push(Folder::root(), Hint::list(vec![ticket]), Turn::Walk(Haste::None));
        let timed_out = self.follow(&run, reason, begun, indexing).await;
        let worker = self.worker.clone();
        let left = run.reconciliation().left();
        off_the_loop(move || worker.memory.end(!timed_out, left)).await;
        self.watch.end_walk(walk == Walk::Whole && !timed_out);
        self.worker.shut.end_walk(!timed_out);
        self.meters.walk_ends(walk, begun, Some(run.folders.load(Relaxed)), !timed_out);
        let counts = progress(&run, if timed_out { Step::TimedOut } else { Step::Completed });
        info!(
            seconds = begun.elapsed().as_secs_f64(),
            folders = run.folders.load(Relaxed),
            unlisted = run.unlisted.load(Relaxed),
            left_out = run.left_out.load(Relaxed),
            found = counts.total_files,
            added = counts.files_added,
            updated = counts.files_updated,
            failed = run.failed.load(Relaxed),
            ?reason,
            ?walk,
            timed_out,
            "walked everything"
        );
        if !timed_out {
            indexing.complete_as_of = Some(at);
        }
        // What ended badly is made up for by any walk.
        if reason.is_awaited() || timed_out || indexing.progress.indexing_step != Step::Completed {
            indexing.in_progress = false;
            indexing.progress = counts;
            indexing.public = run.public.now();
            indexing.last_run = LastRun {
                timed_out,
                work_units: run.folders.load(Relaxed),
                files_ingested: counts.files_added + counts.files_updated,
            };
            indexing.last_duration = Some(begun.elapsed());
            indexing.ended = Some(clock::now());
        }
        Ok(!timed_out)
    }

    /// Follows a run to its end, or to the end of its time; true in the latter case. A reader that hangs in the file
    /// system is not waited for.
    async fn follow(&self, run: &Run, reason: Reason, begun: Instant, indexing: &mut Indexing) -> bool {
        let timeout = tokio::time::sleep_until((begun + self.settings.timeout).into());
        tokio::pin!(timeout);
        let mut tick = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                () = run.finished() => return false,
                () = &mut timeout => {
                    warn!("the walk took longer than INDEXING_TIMEOUT_SECONDS and stops; what it found stays");
                    run.cancel();
                    return true;
                }
                _ = tick.tick(), if reason.is_awaited() => {
                    indexing.progress = progress(run, step(run));
                    indexing.public = run.public.now();
                    if let Err(error) = self.publish(indexing).await {
                        debug!("progress is not published: {error}");
                    }
                }
            }
        }
    }

    /// Has the storage path [accepted](Worker::accept). One that does not answer holds up nothing but the walk: the lease
    /// must be renewed meanwhile.
    async fn accept(&self, known: usize, indexing: &mut Indexing) -> Result<(), Refused> {
        let (worker, expected) = (self.worker.clone(), self.identity);
        let mut accepting = tokio::task::spawn_blocking(move || worker.accept(expected, known));
        let accepted = match tokio::time::timeout(ANSWER, &mut accepting).await {
            Ok(accepted) => accepted,
            Err(_) => {
                warn!("the storage path does not answer; the walk waits for it");
                indexing.volume_error = Some("the storage path does not answer".to_owned());
                self.publish_surely(indexing).await;
                accepting.await
            }
        };
        accepted.map_err(io::Error::other)?
    }

    async fn publish(&self, indexing: &mut Indexing) -> Result<(), StoreError> {
        let (folders_watched, folders_polled) = self.watch.coverage();
        indexing.watch = Some(shared::status::Watch {
            mode: self.watch.mode(),
            folders_watched,
            folders_polled,
            reconcile_seconds: self.settings.reconcile.as_secs(),
        });
        indexing.unreadable = self.worker.shut.told();
        indexing.mounts = self.worker.mounts.known();
        self.store.publish(indexing.clone()).await
    }

    /// Publishes what must not be missed, as soon as the store takes it.
    async fn publish_surely(&self, indexing: &mut Indexing) {
        while let Err(error) = self.publish(indexing).await {
            debug!("how indexing stands is not published: {error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Does what takes a while without waiting, where it holds up nobody.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Everything is about to end.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Counts of a run as `/status` shows them: files that were known and not read are skipped, not processed.
fn progress(run: &Run, indexing_step: Step) -> Progress {
    let read = run.read.now();
    Progress {
        files_processed: read.all() + run.failed.load(Relaxed),
        total_files: run.found.load(Relaxed),
        files_added: read.added,
        files_updated: read.updated,
        files_skipped: run.skipped.load(Relaxed),
        indexing_step,
    }
}

fn step(run: &Run) -> Step {
    let counts = progress(run, Step::Scanning);
    let ingested = counts.files_processed + counts.files_skipped;
    match counts.total_files {
        0 => Step::Scanning,
        found if run.is_listed() => Step::IngestingRemaining(found.saturating_sub(ingested)),
        found => Step::ScanningAndIngesting { found, ingested },
    }
}

#[cfg(test)]
#[path = "lib_tests.rs"]
mod tests;
