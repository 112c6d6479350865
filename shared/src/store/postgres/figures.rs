//! What is told of the database and of searches in metrics. Nothing of it is asked of the database when it is told.

use super::PostgresStore;
use super::database::Database;
use super::view::View;
use crate::metrics::{Counter, Family, Figures as _, Gauge, Histogram, Label, Registry, histogram};
use crate::store::{Result, StoreError};
use crate::telemetry::Causes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What came of the last work with a database.
const NOTHING_YET: u8 = 0;
const WELL: u8 = 1;
const BADLY: u8 = 2;

/// What is counted of a database's connections and of the work on them.
#[derive(Debug, Clone)]
pub(super) struct Work {
    state: Arc<AtomicU8>,
    acquired: Histogram,
    failed: Family<Label, Counter>,
    told: Arc<Causes>,
}

impl Default for Work {
    fn default() -> Work {
        let failed = Family::default();
        for why in WHYS {
            drop(failed.get_or_create_owned(&[("why", why)]));
        }
        Work { state: Arc::default(), acquired: histogram(), failed, told: Arc::default() }
    }
}

/// Why work comes to nothing.
const WHYS: [&str; 6] = ["unavailable", "timeout", "read_only", "refused", "damaged", "other"];

impl Work {
    /// What the log was told of why there was none.
    pub(super) fn told(&self) -> &Causes {
        &self.told
    }

    /// Notes that there was a connection, asked for at this moment.
    pub(super) fn acquired(&self, asked: Instant) {
        self.acquired.observe(asked.elapsed().as_secs_f64());
        self.state.store(WELL, Ordering::Relaxed);
    }

    /// Notes that the database gave no connection, or no answer.
    pub(super) fn is_down(&self) {
        self.state.store(BADLY, Ordering::Relaxed);
    }

    /// Notes what came of a piece of work.
    pub(super) fn note<T>(&self, done: &Result<T>) {
        let [unavailable, timeout, read_only, refused, damaged, other] = WHYS;
        let why = match done {
            Ok(_) => return self.state.store(WELL, Ordering::Relaxed),
            Err(StoreError::Unavailable(_)) => unavailable,
            Err(StoreError::TooLong(_)) => timeout,
            Err(StoreError::ReadOnly) => read_only,
            Err(StoreError::Refused(_)) => refused,
            Err(StoreError::Damaged(_)) => damaged,
            Err(StoreError::NotReady(_) | StoreError::Unusable(_) | StoreError::Superseded) => other,
        };
        self.failed.get_or_create(&[("why", why)]).inc();
    }
}

impl Database {
    /// Registers how it is.
    pub fn register(&self, registry: &mut Registry) {
        let Work { state, acquired, failed, .. } = self.work().clone();
        registry.gauge(
            "db_up",
            "Whether PostgreSQL gave a connection and an answer in time when it was asked last",
            move || match state.load(Ordering::Relaxed) {
                NOTHING_YET => None,
                state => Some(f64::from(u8::from(state == WELL))),
            },
        );
        let own = self.clone();
        registry.gauges("db_connections", "Connections to PostgreSQL", "state", move || {
            let (used, idle) = own.connections_now();
            vec![("used", f64::from(used)), ("idle", idle as f64)]
        });
        let most = self.connections() as f64;
        registry.gauge("db_connections_max", "How many there may be (DPD_POSTGRESQL_CONNECTIONS)", move || Some(most));
        registry.register("db_acquire_seconds", "How long a connection was waited for that there was", acquired);
        let help = "Work with PostgreSQL that came to nothing, by why; where it is a timeout, it took too long";
        registry.register("db_failed", help, failed);
    }
}

/// A part of a search.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// Which segments there are, and what the caller may see.
    View,
    /// The pages of one segment that were not kept.
    Fetch,
    /// Looking through all pages, with what was fetched meanwhile.
    Look,
    /// The products of the page that is answered.
    Page,
}

/// What is counted of searches.
#[derive(Debug)]
pub(super) struct Searches {
    stages: Family<Label, Histogram>,
    by_stage: [Histogram; 4],
    pages: Family<Label, Counter>,
    kept: Counter,
    missed: Counter,
    segments: Gauge,
    tail: Gauge,
    superseded: Gauge,
}

impl Default for Searches {
    fn default() -> Searches {
        let stages = Family::<Label, Histogram>::new_with_constructor(histogram);
        let by_stage = ["view", "fetch", "look", "page"].map(|stage| stages.get_or_create_owned(&[("stage", stage)]));
        let pages = Family::<Label, Counter>::default();
        let [kept, missed] = ["hit", "miss"].map(|result| pages.get_or_create_owned(&[("result", result)]));
        let (segments, tail, superseded) = Default::default();
        Searches { stages, by_stage, pages, kept, missed, segments, tail, superseded }
    }
}

impl Searches {
    /// Notes how long a stage took that began at this moment.
    pub(super) fn took(&self, stage: Stage, begun: Instant) {
        self.by_stage[stage as usize].observe(begun.elapsed().as_secs_f64());
    }

    /// Notes how many pages were kept of those that were wanted, and how many were not.
    pub(super) fn pages(&self, kept: usize, missed: usize) {
        self.kept.inc_by(kept as u64);
        self.missed.inc_by(missed as u64);
    }

    /// Notes what was searched.
    pub(super) fn view(&self, view: &View) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let (tail, superseded) = view.unsealed_and_superseded();
        self.segments.set(count(view.segments.len()));
        self.tail.set(count(tail));
        self.superseded.set(count(superseded));
    }
}

/// How often the size of the tables is asked for.
const SIZE_EVERY: Duration = Duration::from_secs(3600);
/// How soon again where it was not told.
const SIZE_SOON: Duration = Duration::from_secs(60);

impl PostgresStore {
    /// Registers how its searches are. `volume` is the name of the volume that they are on.
    pub fn register(self: &Arc<Self>, registry: &mut Registry, volume: &str) {
        let Searches { stages, pages, segments, tail, superseded, .. } = &self.searcher.figures;
        registry.register("search_duration_seconds", "How long the stages of searches took", stages.clone());
        registry.register(
            "search_pages",
            "Pages of columns that searches read, by whether they were kept",
            pages.clone(),
        );
        let own = self.clone();
        registry.gauge("search_cache_bytes", "Bytes of pages that are kept", move || {
            Some(own.searcher.pages.weight() as f64)
        });
        let own = self.clone();
        registry.gauge("search_cache_max_bytes", "How many may be kept (DPD_SEARCH_CACHE_MIB)", move || {
            Some(own.searcher.pages.capacity() as f64)
        });
        let own = self.clone();
        registry.gauges("search_permits_free", "Searches that can begin at once now", "kind", move || {
            let searcher = &own.searcher;
            let free = |permits: &tokio::sync::Semaphore| permits.available_permits() as f64;
            vec![("plain", free(&searcher.plain)), ("search", free(&searcher.seats)), ("look", free(&searcher.permits))]
        });
        let searcher = &self.searcher;
        let all =
            [&searcher.plain, &searcher.seats, &searcher.permits].map(|permits| permits.available_permits() as f64);
        registry.gauges("search_permits_max", "Searches that may go on at once", "kind", move || {
            vec![("plain", all[0]), ("search", all[1]), ("look", all[2])]
        });
        let registry = registry.of_volume(volume);
        registry.register("search_segments", "Segments that the last search looked through", segments.clone());
        registry.register(
            "search_tail_products",
            "Products that are in no segment yet, as of the last search",
            tail.clone(),
        );
        let help = "Versions in segments that are not current any more, as of the last search";
        registry.register("search_superseded", help, superseded.clone());
    }

    /// Tells again and again how many bytes the tables and indexes of our schema have, for as long as the future is polled.
    pub async fn tell_size(&self, bytes: &Gauge) {
        loop {
            let pause = match self.size().await {
                Ok(size) => {
                    bytes.set(size);
                    SIZE_EVERY
                }
                Err(_) => SIZE_SOON,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn size(&self) -> Result<i64> {
        let work = async {
            let mut session = self.database.session().await?;
            let size: Result<i64> = sqlx::query_scalar(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relkind = 'r' AND pg_get_userbyid(c.relowner) = current_user",
            )
            .bind(self.database.schema())
            .fetch_one(&mut *session)
            .await
            .map_err(StoreError::from);
            session.settle(size)
        };
        self.database.bounded(work).await
    }
}
