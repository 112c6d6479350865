//! What searches read, made of what was written: the tail of new versions becomes segments, and segments become larger ones
//! without what was superseded.
//!
//! A segment is made of a snapshot and outside of any lock; then one short transaction checks that what it was made of is
//! still there, and puts it in that place. Versions that were superseded meanwhile stay noted, because the note is younger
//! than the snapshot. So it may be ended at any moment, by whatever, and nothing is left half done.

use super::building::{self, Built, Made, Part, Source};
use super::dictionary::KeyIds;
use super::history::{HISTORY, Moment};
use super::merging::{self, segments};
use super::transaction::Locked;
use super::{PostgresStore, Role, WHOLE, allow};
use crate::segment::{FORMAT, MAX_PRODUCTS, Page, Size, Tiers};
use crate::store::{Result, StoreError};
use crate::telemetry::Causes;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use tracing::{info, warn};

/// The tail becomes a segment when it has so many versions and a look comes by, and at once when it has so many.
const FEW: usize = 256;
const FULL: usize = 4096;
/// Who writes on waits for that where it has so many.
const OVERFULL: usize = 6144;
/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked whether there are keys that no product has any more.
const UNUSED: Duration = Duration::from_secs(20);
/// What is so where segments cannot be made.
const APART: &str = "what was written lately stays apart, and is slower to search";
/// How often it is told how far making everything searchable is.
const PROGRESS: Duration = Duration::from_secs(3);
/// How often a segment may turn out to have keys that nobody numbered yet.
const ATTEMPTS: u32 = 5;
/// Of how many versions of a tail it is known how many they are, where a segment is to be made of it.
const TAIL: i64 = MAX_PRODUCTS as i64;
/// How many bytes of pages one statement takes.
const STATEMENT_BYTES: usize = 4 << 20;

/// What a process remembers of sealing.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// One at a time seals, and one merges, which takes longer. Each has the numbers of the keys that he met.
    seal: Mutex<KeyIds>,
    merge: Mutex<KeyIds>,
    /// About how many versions the tail has.
    unsealed: AtomicUsize,
    /// That it is long.
    full: Notify,
    /// What the log was told of why it cannot be done.
    told: Causes,
}

impl Sealing {
    /// Tells the log what is so for as long as something cannot be done, and why.
    fn tell(&self, otherwise: &str, error: &StoreError) {
        if let Some(left_out) = self.told.met(&format!("{otherwise}: {error}")) {
            warn!(left_out, %error, "{otherwise}");
        }
    }

    /// So many versions were written.
    pub(super) fn grow(&self, versions: usize) {
        if versions > 0 && self.unsealed.fetch_add(versions, Relaxed) + versions >= FULL {
            self.full.notify_one();
        }
    }

    fn shrink(&self, versions: usize) {
        let _ = self.unsealed.fetch_update(Relaxed, Relaxed, |unsealed| Some(unsealed.saturating_sub(versions)));
    }
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// A segment of the tail, where that has at least so many versions.
    Seal(usize),
    /// A better segment in place of some.
    Merge,
}

/// How the tail stands.
#[derive(Debug, sqlx::FromRow)]
struct Tail {
    #[sqlx(flatten)]
    moment: Moment,
    sealed: i64,
    unsealed: i64,
    noted: i64,
    /// Whether there are segments that another version of this program made.
    foreign: bool,
}

impl PostgresStore {
    /// Keeps the tail short, the segments few and the keys those that products have, for as long as the future is polled.
    pub async fn tend(&self) {
        self.until_done(APART, async || self.fold_annotations().await).await;
        let seal = async {
            let mut settled: Option<Moment> = None;
            loop {
                self.until_done(APART, async || self.seal_all(&mut settled).await).await;
                let _ = tokio::time::timeout(LOOK, self.sealing.full.notified()).await;
            }
        };
        let merge = async {
            let mut settled: Option<Moment> = None;
            loop {
                self.until_done(APART, async || self.merge_all(&mut settled).await).await;
                tokio::time::sleep(LOOK).await;
            }
        };
        let remove = async {
            let mut settled: Option<Moment> = None;
            loop {
                tokio::time::sleep(UNUSED).await;
                // While very much is written nothing goes.
                if self.sealing.unsealed.load(Relaxed) < FULL {
                    self.until_done("keys stay that no product has", async || {
                        self.remove_unused_keys(&mut settled).await
                    })
                    .await;
                }
            }
        };
        tokio::join!(seal, merge, remove);
    }

    /// Does something until it is done; `otherwise` is what is so until then.
    async fn until_done(&self, otherwise: &str, mut work: impl AsyncFnMut() -> Result<()>) {
        loop {
            match work().await {
                Ok(()) => return,
                // It is another's to do now; this indexer is about to be ended.
                Err(StoreError::Superseded) => std::future::pending().await,
                Err(error) => self.sealing.tell(otherwise, &error),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Seals what there is, unless nothing changed since there was too little.
    async fn seal_all(&self, settled: &mut Option<Moment>) -> Result<()> {
        let mut tail = self.tail().await?;
        if settled.as_ref() == Some(&tail.moment) {
            return Ok(());
        }
        if tail.foreign {
            self.drop_segments().await?;
            tail = self.tail().await?;
        }
        let all = usize::try_from(tail.unsealed).unwrap_or_default();
        self.sealing.unsealed.store(all, Relaxed);
        let (mut done, mut told, mut least) = (0, Instant::now(), FEW);
        loop {
            let sealed = self.seal(least).await?;
            if sealed == 0 {
                break;
            }
            done += sealed;
            if all > 2 * FULL && (told.elapsed() > PROGRESS || done >= all) {
                info!("{} of {all} products made searchable", done.min(all));
                told = Instant::now();
            }
            // What came meanwhile waits for more.
            least = FULL;
        }
        *settled = Some(tail.moment);
        Ok(())
    }

    /// Merges what there is, unless nothing changed since there was nothing.
    async fn merge_all(&self, settled: &mut Option<Moment>) -> Result<()> {
        let moment = self.tail().await?.moment;
        if settled.as_ref() != Some(&moment) {
            while self.merge().await? {}
            *settled = Some(moment);
        }
        Ok(())
    }

    async fn tail(&self) -> Result<Tail> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let tail = tail(&mut session, &prefix, i64::MAX).await;
            session.settle(tail)
        };
        self.database.bounded_by(WHOLE, work).await
    }

    /// Where the tail became too long, waits until it is not: it grows no faster than it can be sealed. That sealing
    /// fails is no reason not to write.
    pub(super) async fn make_room(&self) -> Result<()> {
        let least = match &self.role {
            Role::Indexer { .. } => OVERFULL,
            // Counts what this process wrote itself; mostly an indexer seals that.
            Role::Api { .. } => FEW,
        };
        if self.sealing.unsealed.load(Relaxed) < least {
            return Ok(());
        }
        let sealed = self.seal(FULL).await;
        if let Role::Api { .. } = &self.role {
            self.sealing.unsealed.store(0, Relaxed);
        }
        match sealed {
            Err(StoreError::Superseded) => Err(StoreError::Superseded),
            Err(error) => {
                self.sealing.tell(APART, &error);
                self.sealing.shrink(FULL);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Makes a segment of the tail where that has at least so many versions, and tells of how many it was made.
    ///
    /// # Errors
    /// When the database cannot be used, or another indexer took over.
    pub async fn seal(&self, least: usize) -> Result<usize> {
        let sealed = self.replace(Task::Seal(least.max(1))).await?;
        self.sealing.shrink(sealed.unwrap_or_default());
        Ok(sealed.unwrap_or_default())
    }

    /// Makes a better segment in place of some, where there are such; true where it did.
    ///
    /// # Errors
    /// When the database cannot be used, or another indexer took over.
    pub async fn merge(&self) -> Result<bool> {
        Ok(self.replace(Task::Merge).await?.is_some())
    }

    /// Makes one segment of something, and tells of how many products; `None` where there was nothing to do, or somebody
    /// else was faster.
    async fn replace(&self, task: Task) -> Result<Option<usize>> {
        let turn = match task {
            Task::Seal(_) => &self.sealing.seal,
            Task::Merge => &self.sealing.merge,
        };
        let mut keys = turn.lock().await;
        if let Role::Indexer { lease, .. } = &self.role {
            lease.check()?;
        }
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let prefix = prefix.as_str();
            let mut until = i64::MAX;
            for _ in 0..ATTEMPTS {
                let mut transaction = session.begin().await?;
                snapshot(&mut transaction).await?;
                let tail = tail(&mut transaction, prefix, TAIL).await?;
                keys.believe(&tail.moment.history);
                let Some(mut part) = part(&mut transaction, prefix, task, &tail).await? else {
                    transaction.rollback().await?;
                    return session.settle(Ok(None));
                };
                if let Task::Seal(_) = task {
                    part.last = part.last.min(until);
                }
                let built = make(&mut transaction, prefix, &part, &mut keys).await?;
                transaction.rollback().await?;
                match built {
                    Built::Missing { names, last } => {
                        // What came after these may have still others.
                        until = last;
                        keys.add(&mut session, prefix, &names.iter().map(String::as_str).collect()).await?;
                    }
                    Built::Made(made) => {
                        let mut transaction = session.begin().await?;
                        let locked = self.put_in_place(&mut transaction, prefix, &part, &made).await?;
                        let kept = locked.filter(|locked| locked.history == tail.moment.history);
                        match &kept {
                            Some(locked) => {
                                transaction.commit().await?;
                                self.committed(locked);
                            }
                            None => transaction.rollback().await?,
                        }
                        return session.settle(Ok(kept.map(|_| made.products)));
                    }
                }
            }
            session.settle(Ok(()))?;
            Err(StoreError::Unavailable("keys of products appear faster than they are numbered".to_owned()))
        };
        self.database.bounded_by(WHOLE, work).await
    }

    /// Puts a segment in place of what it was made of; `None` where that is not there any more, or where some are of another
    /// format.
    async fn put_in_place(
        &self,
        connection: &mut PgConnection,
        prefix: &str,
        part: &Part,
        made: &Made,
    ) -> Result<Option<Locked>> {
        allow(connection, WHOLE).await?;
        // Before the volume's row is locked, since it takes its time.
        if made.products > 0 {
            insert(connection, prefix, part, made).await?;
        }
        let locked = self.lock(connection, prefix).await?;
        let there: bool = match &part.source {
            Source::Tail { sealed } => {
                sqlx::query_scalar("SELECT sealed = $2 FROM dpd_indexing_state WHERE volume_prefix = $1")
                    .bind(prefix)
                    .bind(sealed)
                    .fetch_one(&mut *connection)
                    .await?
            }
            Source::Segments(kept) => {
                let ids: Vec<i64> = kept.iter().map(|segment| segment.id).collect();
                let gone = sqlx::query("DELETE FROM segment WHERE volume_prefix = $1 AND id = ANY($2)")
                    .bind(prefix)
                    .bind(&ids)
                    .execute(&mut *connection)
                    .await?;
                usize::try_from(gone.rows_affected()) == Ok(ids.len())
            }
        };
        if !there || is_foreign(connection, prefix).await? {
            return Ok(None);
        }
        sqlx::query("DELETE FROM superseded WHERE volume_prefix = $1 AND number BETWEEN $2 AND $3 AND at <= $4")
            .bind(prefix)
            .bind(part.first)
            .bind(made.last)
            .bind(part.noted)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "UPDATE dpd_indexing_state SET sealed = greatest(sealed, $2), revision = nextval('product_number'), \
             written = coalesce($3, written) WHERE volume_prefix = $1",
        )
        .bind(prefix)
        .bind(made.last)
        .bind(locked.written)
        .execute(&mut *connection)
        .await?;
        Ok(Some(locked))
    }

    /// Throws all segments away, since another version of this program made some in a way that this one does not read.
    /// Everything is in the tail then.
    async fn drop_segments(&self) -> Result<()> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let prefix = prefix.as_str();
            let mut transaction = session.begin().await?;
            allow(&mut transaction, WHOLE).await?;
            let locked = self.lock(&mut transaction, prefix).await?;
            // What is noted as superseded stays so until it is sealed again: somebody may be about to, by an older view.
            sqlx::query("DELETE FROM segment WHERE volume_prefix = $1").bind(prefix).execute(&mut *transaction).await?;
            sqlx::query(
                "UPDATE dpd_indexing_state SET sealed = 0, revision = nextval('product_number'), \
                 written = coalesce($2, written) WHERE volume_prefix = $1",
            )
            .bind(prefix)
            .bind(locked.written)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            self.committed(&locked);
            session.settle(Ok(()))
        };
        self.database.bounded_by(WHOLE, work).await
    }
}

/// Has a transaction read what is now, however long it takes. It holds no lock that anybody waits for, so it may stand idle
/// for a while.
async fn snapshot(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *connection).await?;
    sqlx::query("SELECT set_config('idle_in_transaction_session_timeout', '60000', true)")
        .execute(&mut *connection)
        .await?;
    allow(connection, WHOLE).await
}

/// What there is to do. Nothing where there are segments of another format: it is not known yet which of both will be read.
async fn part(connection: &mut PgConnection, prefix: &str, task: Task, tail: &Tail) -> Result<Option<Part>> {
    if tail.foreign {
        return Ok(None);
    }
    match task {
        Task::Seal(least) => {
            let unsealed = usize::try_from(tail.unsealed).unwrap_or_default();
            // Much is left by an earlier version only.
            let most = if unsealed >= MAX_PRODUCTS { MAX_PRODUCTS } else { FULL };
            Ok((unsealed >= least).then_some(Part {
                first: tail.sealed + 1,
                last: i64::MAX,
                most,
                noted: tail.noted,
                source: Source::Tail { sealed: tail.sealed },
            }))
        }
        Task::Merge => {
            let segments = segments(connection, prefix).await?;
            let sizes: Vec<Size> = segments.iter().map(|segment| segment.size).collect();
            let chosen = Tiers::default().choose(&sizes).and_then(|range| segments.get(range));
            Ok(chosen.and_then(|chosen| {
                Some(Part {
                    first: chosen.first()?.first,
                    last: chosen.last()?.last,
                    most: MAX_PRODUCTS,
                    noted: tail.noted,
                    source: Source::Segments(chosen.to_vec()),
                })
            }))
        }
    }
}

/// Makes a segment of a part.
async fn make(connection: &mut PgConnection, prefix: &str, part: &Part, keys: &mut KeyIds) -> Result<Built> {
    if let Source::Segments(kept) = &part.source {
        if let Some(made) = merging::merge(connection, prefix, kept).await? {
            return Ok(Built::Made(made));
        }
        warn!("a segment is damaged: what is in it is made searchable anew from the products");
    }
    building::build(connection, prefix, part, keys).await
}

/// How the tail stands; of its versions so many are counted at the most.
async fn tail(connection: &mut PgConnection, prefix: &str, most: i64) -> Result<Tail> {
    let sql = format!(
        "SELECT {HISTORY} AS history, revision, sealed, (SELECT count(*) FROM (SELECT FROM data_product p \
         WHERE p.volume_prefix = $1 AND p.number > s.sealed LIMIT $2) t) AS unsealed, \
         coalesce((SELECT max(at) FROM superseded u WHERE u.volume_prefix = $1), 0) AS noted, \
         EXISTS (SELECT FROM segment g WHERE g.volume_prefix = $1 AND g.format <> $3) AS foreign \
         FROM dpd_indexing_state s WHERE s.volume_prefix = $1",
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(prefix).bind(most).bind(FORMAT).fetch_one(connection).await?)
}

/// Whether there are segments of another format.
async fn is_foreign(connection: &mut PgConnection, prefix: &str) -> Result<bool> {
    let foreign = sqlx::query_scalar("SELECT EXISTS (SELECT FROM segment WHERE volume_prefix = $1 AND format <> $2)");
    Ok(foreign.bind(prefix).bind(FORMAT).fetch_one(connection).await?)
}

async fn insert(connection: &mut PgConnection, prefix: &str, part: &Part, made: &Made) -> Result<()> {
    let number = |n| i64::try_from(n).unwrap_or(i64::MAX);
    let bytes: usize = made.pages.iter().map(|page| page.bytes.len()).sum();
    let segment: i64 = sqlx::query_scalar(
        "INSERT INTO segment (volume_prefix, first, last, products, bytes, weight, format) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    )
    .bind(prefix)
    .bind(part.first)
    .bind(made.last)
    .bind(i32::try_from(made.products).unwrap_or(i32::MAX))
    .bind(number(bytes))
    .bind(number(made.weight))
    .bind(FORMAT)
    .fetch_one(&mut *connection)
    .await?;
    let mut pages = made.pages.as_slice();
    while !pages.is_empty() {
        let mut bytes = 0;
        let fits = |page: &&Page| {
            bytes += page.bytes.len();
            bytes <= STATEMENT_BYTES
        };
        let (some, rest) = pages.split_at(pages.iter().take_while(fits).count().max(1));
        sqlx::query(
            "INSERT INTO segment_page (segment, first_key, last_key, bytes) \
             SELECT $1, * FROM unnest($2::integer[], $3::integer[], $4::bytea[])",
        )
        .bind(segment)
        .bind(some.iter().map(|page| page.first).collect::<Vec<_>>())
        .bind(some.iter().map(|page| page.last).collect::<Vec<_>>())
        .bind(some.iter().map(|page| page.bytes.as_slice()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
        pages = rest;
    }
    Ok(())
}
