//! An index that is written in one server and read in another: a hot standby answers searches and look-ups, and the primary
//! has all else.
//!
//! A standby is some way behind. Whoever wrote something through this process is to find it: after a write it is known up
//! to where the primary's log had come, and until the standby has replayed that, what is read is read in the primary. So it
//! is also where the standby cannot be asked, or cancels a statement that is in the way of what it replays.

use super::PostgresStore;
use crate::access::{Ingested, Viewer};
use crate::annotation::{Annotation, Draft, Part, Revision};
use crate::column::ColumnKeys;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::metrics::{Figures as _, Registry};
use crate::product::Product;
use crate::query::Query;
use crate::status::{Dlm, Indexing, Sdp};
use crate::store::{
    Annotations, Below, Change, Hit, Hits, Kind, Lookup, Outcome, Reindex, Result, SessionKey, Store, StoreError,
    Summary,
};
use crate::volume::Stamp;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use uuid::Uuid;

/// How long a reader waits for the standby to have what was written.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// For how long it is believed as of when the standby is: it only goes on.
const BELIEVED: Duration = Duration::from_millis(500);

/// A [`Store`] in a PostgreSQL with a hot standby.
#[derive(Debug)]
pub struct ReplicatedStore {
    primary: Arc<PostgresStore>,
    standby: Arc<PostgresStore>,
    written: Mutex<Written>,
    as_of: Mutex<Option<(Instant, DateTime<Utc>)>>,
    /// Whether the standby could not be asked the last time.
    passed_over: AtomicBool,
}

/// What this process wrote, by how many writes there were.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    writes: u64,
    /// How many of them the standby has replayed.
    replayed: u64,
    /// Up to where the primary's log had come once so many were committed.
    position: (u64, i64),
    /// Whether it was waited for in vain.
    overdue: bool,
}

/// Asks the stores in their order, until one can answer.
macro_rules! read {
    ($self:ident, $store:ident => $ask:expr) => {{
        let mut stores = $self.in_order().await.into_iter();
        loop {
            let Some($store) = stores.next() else {
                break Err(StoreError::Unavailable("no server is left to be asked".to_owned()));
            };
            let answer = $ask.await;
            if stores.len() > 0 && $self.is_passed_over($store, &answer) {
                continue;
            }
            break answer;
        }
    }};
}

impl ReplicatedStore {
    /// A store that is written in `primary` and read in `standby`.
    pub fn new(primary: Arc<PostgresStore>, standby: Arc<PostgresStore>) -> ReplicatedStore {
        let (written, as_of, passed_over) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        ReplicatedStore { primary, standby, written, as_of, passed_over }
    }

    /// Registers how reading in the standby goes. Where there is none the families are empty.
    pub fn register(own: Option<&Arc<ReplicatedStore>>, registry: &mut Registry) {
        let store = own.cloned();
        registry.gauge("standby_up", "Whether the standby answered when it was read last", move || {
            store.as_ref().map(|store| f64::from(u8::from(!store.passed_over.load(Ordering::Relaxed))))
        });
        let store = own.cloned();
        let help = "The commit of the last transaction that the standby had replayed when it was asked last";
        registry.gauge("standby_as_of_timestamp_seconds", help, move || {
            let known = store.as_ref().and_then(|store| *store.known_as_of());
            known.map(|(_, as_of)| as_of.timestamp_millis() as f64 / 1000.0)
        });
    }

    /// The stores to ask, one after the other. What the standby cancels may go through a moment later, so that it is asked
    /// again where the primary is away.
    async fn in_order(&self) -> Vec<&PostgresStore> {
        match self.is_caught_up().await {
            true => vec![&*self.standby, &*self.primary, &*self.standby],
            false => vec![&*self.primary],
        }
    }

    /// Whether another is to be asked after this answer, which is noted.
    fn is_passed_over<T>(&self, store: &PostgresStore, answer: &Result<T>) -> bool {
        let is_standby = std::ptr::eq(store, &*self.standby);
        let passing = |error: &&StoreError| {
            use StoreError::{Damaged, NotReady, Unavailable, Unusable};
            matches!(error, Unavailable(_) | NotReady(_) | Damaged(_) | Unusable(_))
        };
        let Some(error) = answer.as_ref().err().filter(passing) else {
            if is_standby && self.passed_over.swap(false, Ordering::Relaxed) {
                info!("the standby (DPD_READ_DATABASE_URL) answers again");
            }
            return false;
        };
        if is_standby {
            self.pass_over(error);
        }
        true
    }

    /// Notes that the standby cannot be asked.
    fn pass_over(&self, error: &StoreError) {
        if !self.passed_over.swap(true, Ordering::Relaxed) {
            warn!(%error, "the standby (DPD_READ_DATABASE_URL) did not answer, and the primary is asked");
        }
    }

    /// Whether the standby has all that this process wrote. It is waited for a moment, once.
    async fn is_caught_up(&self) -> bool {
        let Written { writes, replayed, overdue, .. } = *self.written();
        if replayed == writes {
            return true;
        }
        let Some(position) = self.position(writes).await else { return false };
        let begun = Instant::now();
        loop {
            match self.standby.replayed(Some(position)).await {
                Ok((true, _)) => {
                    self.has_replayed(writes);
                    return true;
                }
                Ok((false, _)) if !overdue && begun.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
                Ok((false, _)) => break,
                Err(error) => {
                    self.pass_over(&error);
                    return false;
                }
            }
        }
        // A primary that has not come so far lost it: nobody will ever replay it.
        if let Ok((false, _)) = self.primary.replayed(Some(position)).await {
            self.has_replayed(writes);
            return true;
        }
        self.written().overdue = true;
        false
    }

    /// Up to where the primary's log had come once so many writes were committed, or later; `None` where it does not tell.
    async fn position(&self, writes: u64) -> Option<i64> {
        let (covered, position) = self.written().position;
        if covered >= writes {
            return Some(position);
        }
        match self.primary.position().await {
            Ok(position) => {
                let mut written = self.written();
                if written.position.0 < writes {
                    written.position = (writes, position);
                }
                Some(position)
            }
            Err(error) => {
                debug!(%error, "up to where the primary has written is not known");
                None
            }
        }
    }

    /// Notes that something was written, after it was.
    async fn wrote(&self) {
        let writes = {
            let mut written = self.written();
            written.writes += 1;
            written.writes
        };
        // Where it is not told now it is asked for again by whoever reads.
        self.position(writes).await;
    }

    fn has_replayed(&self, writes: u64) {
        let mut written = self.written();
        written.replayed = written.replayed.max(writes);
        written.overdue &= written.replayed < written.writes;
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_as_of(&self) -> MutexGuard<'_, Option<(Instant, DateTime<Utc>)>> {
        self.as_of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for ReplicatedStore {
    async fn search(&self, query: Query, viewer: &Viewer) -> Result<Hits> {
        read!(self, store => store.search(query.clone(), viewer))
    }

    async fn product(&self, uid: Uuid, viewer: &Viewer) -> Result<Lookup> {
        read!(self, store => store.product(uid, viewer))
    }

    async fn products_of(&self, execution_block: &str, viewer: &Viewer) -> Result<Vec<Hit>> {
        read!(self, store => store.products_of(execution_block, viewer))
    }

    async fn below(&self, folder: &Folder, viewer: &Viewer, lately: Duration) -> Result<Below> {
        read!(self, store => store.below(folder, viewer, lately))
    }

    async fn removed(&self, lately: Duration) -> Result<Vec<Folder>> {
        read!(self, store => store.removed(lately))
    }

    async fn products_at(&self, folders: &[Folder]) -> Result<Vec<Folder>> {
        read!(self, store => store.products_at(folders))
    }

    async fn may_know(&self, folder: &Folder, viewer: &Viewer) -> Result<Option<bool>> {
        read!(self, store => store.may_know(folder, viewer))
    }

    async fn keys(&self, viewer: &Viewer) -> Result<ColumnKeys> {
        read!(self, store => store.keys(viewer))
    }

    async fn as_of(&self) -> Option<DateTime<Utc>> {
        if !self.is_caught_up().await {
            return self.primary.as_of().await;
        }
        let believed = self.known_as_of().filter(|(at, _)| at.elapsed() < BELIEVED);
        if let Some((_, as_of)) = believed {
            return Some(as_of);
        }
        match self.standby.replayed(None).await {
            Ok((_, as_of)) => {
                *self.known_as_of() = as_of.map(|as_of| (Instant::now(), as_of));
                as_of
            }
            Err(_) => self.primary.as_of().await,
        }
    }

    // Who holds the lease, and how indexing stands, is as the primary has it.
    async fn summary(&self, viewer: &Viewer, failing: usize) -> Result<Summary> {
        self.primary.summary(viewer, failing).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let outcomes = self.primary.apply(changes).await?;
        self.wrote().await;
        Ok(outcomes)
    }

    async fn ingest(&self, product: Product, viewer: &Viewer) -> Result<Ingested> {
        let ingested = self.primary.ingest(product, viewer).await?;
        self.wrote().await;
        Ok(ingested)
    }

    async fn each_known(&self, scope: &Folder, tell: &mut (dyn FnMut(Folder, Option<Stamp>) + Send)) -> Result<()> {
        self.primary.each_known(scope, tell).await
    }

    async fn failing(&self) -> Result<Vec<Folder>> {
        self.primary.failing().await
    }

    async fn unmeasured(&self) -> Result<Vec<Folder>> {
        self.primary.unmeasured().await
    }

    async fn flows(&self) -> Result<BTreeMap<FlowId, Flow>> {
        self.primary.flows().await
    }

    async fn publish(&self, indexing: Indexing) -> Result<()> {
        self.primary.publish(indexing).await
    }

    async fn publish_sdp(&self, sdp: Option<Sdp>) -> Result<()> {
        self.primary.publish_sdp(sdp).await
    }

    async fn publish_dlm(&self, dlm: Option<Dlm>) -> Result<()> {
        self.primary.publish_dlm(dlm).await
    }

    async fn request_reindex(&self) -> Result<Reindex> {
        self.primary.request_reindex().await
    }

    async fn reindex_requested(&self) {
        self.primary.reindex_requested().await;
    }

    async fn session_key(&self, made: SessionKey) -> Result<SessionKey> {
        self.primary.session_key(made).await
    }

    fn kind(&self) -> Kind {
        Kind::Postgresql
    }

    fn trouble(&self) -> Option<String> {
        self.primary.trouble()
    }

    fn annotations(&self) -> Option<&dyn Annotations> {
        Some(self)
    }
}

#[async_trait]
impl Annotations for ReplicatedStore {
    async fn list(&self, product: Uuid, after: Option<&Annotation>) -> Result<Part> {
        read!(self, store => store.list(product, after))
    }

    async fn create(&self, draft: &Draft) -> Result<bool> {
        let created = self.primary.create(draft).await?;
        self.wrote().await;
        Ok(created)
    }

    // It is asked for before a change.
    async fn product_of(&self, id: i64) -> Result<Option<Uuid>> {
        self.primary.product_of(id).await
    }

    async fn update(&self, id: i64, draft: &Draft) -> Result<Revision> {
        let revision = self.primary.update(id, draft).await?;
        self.wrote().await;
        Ok(revision)
    }
}

impl PostgresStore {
    /// Up to where the server's log has come, in bytes.
    async fn position(&self) -> Result<i64> {
        let work = async {
            let mut session = self.database.session().await?;
            let sql = format!("SELECT {POSITION}");
            let position = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *session).await;
            session.settle(position.map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }

    /// Whether the server's log has come up to a position, and as of when all is that it has: on a standby when the last
    /// transaction was committed that it replayed, where there was any.
    async fn replayed(&self, position: Option<i64>) -> Result<(bool, Option<DateTime<Utc>>)> {
        let work = async {
            let mut session = self.database.session().await?;
            let sql = format!(
                "SELECT coalesce($1 <= {POSITION}, true), \
                 CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() ELSE clock_timestamp() END"
            );
            let replayed = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(position).fetch_one(&mut *session).await;
            session.settle(replayed.map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }
}

/// What a server has: a standby what it replayed, and another what it wrote.
const POSITION: &str = "((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
     ELSE pg_current_wal_insert_lsn() END) - '0/0'::pg_lsn)::bigint";
