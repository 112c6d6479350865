//! What a process keeps of the segments between searches: which there are, which versions of products are superseded, and
//! the tail of products that are in no segment yet, as a small segment of its own.
//!
//! Every transaction that changes what a search may find gives the volume another revision. A search reads the revision
//! first: where it is the one of the view that is kept, nothing else is to be read. Numbers are handed out while the volume's
//! row is locked, so that later transactions have higher ones: of the tail and of what is superseded only what is new is
//! read. All of that holds within one [history](super::history) of the database: in another, everything is read anew.

use super::dictionary;
use super::history::{HISTORY, Moment};
use super::read::{self, HIT};
use super::salvage::{self, By};
use crate::row::{self, Leaf};
use crate::segment::{Builder, Doc, FORMAT, Page, Segment};
use crate::store::{Result, StoreError};
use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;

/// The most products of a tail. An indexer that runs keeps it far shorter.
const MOST: usize = 16_384;
/// The most keys whose numbers are remembered.
const KEYS: usize = 20_000;

/// A segment in the database.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub(super) id: i64,
    /// What no other segment has, whatever became of the database.
    pub(super) tag: Uuid,
    /// The range of numbers of which it has versions.
    first: u64,
    last: u64,
    pub(super) products: usize,
    /// The lowest and the highest key of each of its pages, in order.
    pub(super) pages: Arc<[(i32, i32)]>,
}

/// A version of a product that is in no segment yet.
#[derive(Debug)]
struct Unsealed {
    uid: Uuid,
    date_created: NaiveDate,
    access: i32,
    leaves: Vec<Leaf<i32>>,
}

/// The segments of a volume as of one moment.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) moment: Moment,
    /// All up to this number are in segments.
    sealed: u64,
    pub(super) segments: Vec<Sealed>,
    superseded: Vec<u64>,
    /// The last superseding that was read.
    at: i64,
    tail: BTreeMap<u64, Arc<Unsealed>>,
    /// The highest number that was read.
    pub(super) last: u64,
    tail_pages: Vec<Arc<Page>>,
    keys: Arc<HashMap<String, i32>>,
}

impl View {
    /// The view of what a transaction sees, made from the one before.
    /// Where it is `careful`, products are left out that PostgreSQL cannot read.
    pub(super) async fn of(
        before: &Arc<View>,
        connection: &mut PgConnection,
        prefix: &str,
        careful: bool,
    ) -> Result<Arc<View>> {
        let sql =
            format!("SELECT {HISTORY} AS history, revision, sealed FROM dpd_indexing_state s WHERE volume_prefix = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(prefix).fetch_one(&mut *connection).await?;
        let (moment, sealed): (Moment, i64) = (Moment::from_row(&row)?, row.try_get("sealed")?);
        if moment == before.moment {
            return Ok(before.clone());
        }
        let sealed = sealed.cast_unsigned();
        let anew = View::default();
        // Where segments were thrown away, what was in them is in the tail again, and was not read as that. And what is
        // earlier than what is kept, as another connection's server may have it, does not follow on it.
        let known = &before.moment;
        let follows = moment.history == known.history && moment.revision >= known.revision && sealed >= before.sealed;
        let before = if follows { &**before } else { &anew };
        Ok(Arc::new(before.follow((moment, sealed), connection, prefix, careful).await?))
    }

    /// How many products are in no segment yet, and how many versions in segments are superseded.
    pub(super) fn unsealed_and_superseded(&self) -> (usize, usize) {
        (self.tail.len(), self.superseded.len())
    }

    /// The view of the segments alone.
    pub(super) async fn without_tail(connection: &mut PgConnection, prefix: &str) -> Result<View> {
        let segments = segments(connection, prefix, &[]).await?;
        let mut numbers: Vec<u64> =
            superseded(connection, prefix, 0).await?.into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let last = segments.last().map_or(0, |segment| segment.last);
        Ok(View { segments, superseded: numbers, last, ..View::default() })
    }

    async fn follow(
        &self,
        (moment, sealed): (Moment, u64),
        connection: &mut PgConnection,
        prefix: &str,
        careful: bool,
    ) -> Result<View> {
        let segments = segments(connection, prefix, &self.segments).await?;
        let same = segments.iter().map(|segment| segment.tag).eq(self.segments.iter().map(|segment| segment.tag));
        // What is in a segment that was made anew needs not be superseded any more.
        let from = if same { self.at } else { 0 };
        let new = superseded(connection, prefix, from).await?;
        let mut all: Vec<u64> = if same { self.superseded.clone() } else { Vec::new() };
        all.extend(new.iter().map(|(number, _)| *number));
        all.sort_unstable();
        let mut tail: BTreeMap<u64, Arc<Unsealed>> =
            self.tail.range(sealed + 1..).map(|(number, own)| (*number, own.clone())).collect();
        let mut keys = self.keys.clone();
        let last = self.last.max(sealed);
        let (last, arrived) = arrived(connection, prefix, last, &mut keys, careful).await?;
        tail.extend(arrived);
        tail.retain(|number, _| all.binary_search(number).is_err());
        if tail.len() > MOST {
            return Err(unfinished());
        }
        let unchanged = tail.keys().eq(self.tail.keys());
        let tail_pages = if unchanged { self.tail_pages.clone() } else { pages(&tail) };
        let at = new.iter().map(|(_, at)| *at).max().unwrap_or(0).max(from);
        Ok(View { moment, sealed, segments, superseded: all, at, tail, last, tail_pages, keys })
    }

    /// The numbers of a segment that are superseded.
    pub(super) fn superseded(&self, segment: &Sealed) -> &[u64] {
        let from = self.superseded.partition_point(|number| *number < segment.first);
        let to = self.superseded.partition_point(|number| *number <= segment.last);
        &self.superseded[from..to]
    }

    /// The tail, as a segment.
    pub(super) fn tail(&self) -> Segment<'_> {
        Segment { products: self.tail.len(), pages: &self.tail_pages, superseded: &[] }
    }
}

fn unfinished() -> StoreError {
    StoreError::NotReady(
        "the index is being made ready for searching, and dpd-indexer says in its log how far it is: try again later"
            .to_owned(),
    )
}

/// The segments there are. Of those that are known nothing more is read.
async fn segments(connection: &mut PgConnection, prefix: &str, known: &[Sealed]) -> Result<Vec<Sealed>> {
    let rows: Vec<(i64, Uuid, i64, i64, i32, i32)> = sqlx::query_as(
        "SELECT id, tag, first, last, products, format FROM segment WHERE volume_prefix = $1 ORDER BY first",
    )
    .bind(prefix)
    .fetch_all(&mut *connection)
    .await?;
    if rows.iter().any(|row| row.5 != FORMAT) {
        return Err(unfinished());
    }
    let known: HashMap<Uuid, &Sealed> = known.iter().map(|segment| (segment.tag, segment)).collect();
    let new: Vec<i64> = rows.iter().filter(|row| !known.contains_key(&row.1)).map(|row| row.0).collect();
    let mut pages: HashMap<i64, Vec<(i32, i32)>> = HashMap::new();
    if !new.is_empty() {
        let found: Vec<(i64, i32, i32)> = sqlx::query_as(
            "SELECT segment, first_key, last_key FROM segment_page WHERE segment = ANY($1) ORDER BY segment, first_key",
        )
        .bind(&new)
        .fetch_all(connection)
        .await?;
        found.into_iter().for_each(|(segment, first, last)| pages.entry(segment).or_default().push((first, last)));
    }
    let segment = |(id, tag, first, last, products, _): (i64, Uuid, i64, i64, i32, i32)| match known.get(&tag) {
        Some(known) => (*known).clone(),
        None => Sealed {
            id,
            tag,
            first: first.cast_unsigned(),
            last: last.cast_unsigned(),
            products: usize::try_from(products).unwrap_or_default(),
            pages: pages.remove(&id).unwrap_or_default().into(),
        },
    };
    Ok(rows.into_iter().map(segment).collect())
}

/// The numbers that were superseded after a point, and when each was.
async fn superseded(connection: &mut PgConnection, prefix: &str, after: i64) -> Result<Vec<(u64, i64)>> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT number, at FROM superseded WHERE volume_prefix = $1 AND at > $2 ORDER BY at")
            .bind(prefix)
            .bind(after)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(number, at)| (number.cast_unsigned(), at)).collect())
}

/// The versions with higher numbers than one, in order, and the highest number. One that does not read is in no search.
async fn arrived(
    connection: &mut PgConnection,
    prefix: &str,
    after: u64,
    keys: &mut Arc<HashMap<String, i32>>,
    careful: bool,
) -> Result<(u64, Vec<(u64, Arc<Unsealed>)>)> {
    let (mut last, mut known) = (after, Vec::new());
    if careful {
        known = numbers_after(connection, prefix, after).await?;
        last = known.last().map_or(last, |number| number.cast_unsigned());
    }
    let sql = format!(
        "SELECT {HIT}, p.number, p.access FROM data_product p JOIN document d ON d.product = p.id \
         WHERE p.volume_prefix = $1 AND p.number > $2 ORDER BY p.number LIMIT $3"
    );
    let rows = match careful {
        true => salvage::readable(connection, By::Number, &known, None).await?,
        false => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(prefix).bind(after.cast_signed()).bind(MOST as i64 + 1);
            query.fetch_all(&mut *connection).await?
        }
    };
    if rows.len().max(known.len()) > MOST {
        return Err(unfinished());
    }
    let mut arrived = Vec::with_capacity(rows.len());
    for row in &rows {
        let number = row.try_get::<i64, _>("number")?.cast_unsigned();
        last = last.max(number);
        let hit = match read::hit(row) {
            Ok(hit) => hit,
            Err(error) => {
                warn!(%error, "a product is left out of searches");
                continue;
            }
        };
        let leaves = row::leaves(&hit.product, hit.size);
        arrived.push((number, hit.product.uid, hit.product.date_created, row.try_get("access")?, leaves));
    }
    learn(keys, connection, prefix, arrived.iter().flat_map(|(.., leaves)| leaves)).await?;
    let numbered = |leaf: Leaf| Some(Leaf { key: *keys.get(&leaf.key)?, value: leaf.value });
    let unsealed = |(number, uid, date_created, access, leaves): (u64, Uuid, NaiveDate, i32, Vec<Leaf>)| {
        let leaves = leaves.into_iter().filter_map(numbered).collect();
        (number, Arc::new(Unsealed { uid, date_created, access, leaves }))
    };
    Ok((last, arrived.into_iter().map(unsealed).collect()))
}

/// The numbers of the versions after one, in order, and no more than a tail has and one.
async fn numbers_after(connection: &mut PgConnection, prefix: &str, after: u64) -> Result<Vec<i64>> {
    let numbers = sqlx::query_scalar(
        "SELECT number FROM data_product WHERE volume_prefix = $1 AND number > $2 ORDER BY number LIMIT $3",
    );
    Ok(numbers.bind(prefix).bind(after.cast_signed()).bind(MOST as i64 + 1).fetch_all(connection).await?)
}

/// Sees to it that the keys of leaves are known.
async fn learn(
    keys: &mut Arc<HashMap<String, i32>>,
    connection: &mut PgConnection,
    prefix: &str,
    leaves: impl Iterator<Item = &Leaf> + Clone,
) -> Result<()> {
    let named = leaves.map(|leaf| leaf.key.as_str());
    if keys.len() > KEYS {
        *keys = Arc::default();
    }
    let missing: BTreeSet<&str> = named.filter(|key| !keys.contains_key(*key)).collect();
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().collect();
        let found = dictionary::numbers(connection, prefix, &missing).await?;
        Arc::make_mut(keys).extend(found);
    }
    Ok(())
}

/// The pages of a tail.
fn pages(tail: &BTreeMap<u64, Arc<Unsealed>>) -> Vec<Arc<Page>> {
    let mut builder = Builder::new();
    for (number, own) in tail {
        let Unsealed { uid, date_created, access, leaves } = &**own;
        builder.push(&Doc { number: *number, uid: *uid, date_created: *date_created, access: *access, leaves });
    }
    builder.finish().into_iter().map(Arc::new).collect()
}
