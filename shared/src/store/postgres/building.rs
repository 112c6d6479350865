//! The making of one segment of products: versions are read in the order of their numbers, a few at a time, while a thread
//! derives their values and packs them.

use super::dictionary::KeyIds;
use super::merging::Kept;
use super::read;
use super::salvage::{self, By};
use crate::row::{self, Leaf};
use crate::segment::{Builder, Doc, MAX_BYTES, Page};
use crate::store::{Result, StoreError};
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use std::collections::BTreeSet;
use tokio::sync::mpsc;
use tracing::warn;

/// How many versions one statement reads, and about how much metadata is handed on at once.
const STATEMENT: usize = 1024;
const HANDFUL: usize = 256 * 1024;

/// What a segment is to be made of.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: i64,
    pub(super) last: i64,
    /// How many products it may have.
    pub(super) most: usize,
    /// The last time at which a version was superseded, as far as can be seen.
    pub(super) noted: i64,
    pub(super) source: Source,
}

/// What a segment takes the place of.
#[derive(Debug)]
pub(super) enum Source {
    /// The beginning of the tail, which follows this number.
    Tail { sealed: i64 },
    /// All of these.
    Segments(Vec<Kept>),
}

/// What came of making one.
#[derive(Debug)]
pub(super) enum Built {
    Made(Made),
    /// These keys have no numbers, of versions up to the last one.
    Missing {
        names: BTreeSet<String>,
        last: i64,
    },
}

/// A segment, to be put in its place.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The last number that it is about.
    pub(super) last: i64,
    pub(super) products: usize,
    /// What it took in memory.
    pub(super) weight: usize,
    pub(super) pages: Vec<Page>,
}

/// Makes a segment of a part, of which the connection's transaction sees one state. One of segments is about all of them;
/// one of the tail ends where it is full.
pub(super) async fn build(
    connection: &mut PgConnection,
    prefix: &str,
    part: &Part,
    keys: &mut KeyIds,
) -> Result<Built> {
    let whole = matches!(part.source, Source::Segments(_));
    let own = std::mem::take(keys);
    let building = Building {
        keys: own,
        builder: Builder::new(),
        missing: BTreeSet::new(),
        seen: 0,
        last: part.first,
        most: part.most,
        most_bytes: if whole { usize::MAX } else { MAX_BYTES },
    };
    let (handfuls, receive) = mpsc::channel(2);
    let building = tokio::task::spawn_blocking(move || building.run(receive));
    let read = hand_on(connection, prefix, part, handfuls).await;
    let broken = |error| StoreError::Unavailable(format!("a segment could not be made: {error}"));
    let (own, mut built) = building.await.map_err(broken)?;
    *keys = own;
    read?;
    if let Built::Made(made) = &mut built
        && whole
    {
        made.last = part.last;
    }
    Ok(built)
}

/// Reads a part's versions, for as long as somebody takes them.
async fn hand_on(
    connection: &mut PgConnection,
    prefix: &str,
    part: &Part,
    handfuls: mpsc::Sender<Vec<PgRow>>,
) -> Result<()> {
    // Few at a time, so that each statement goes along the index of numbers, and never over the whole table.
    let sql = format!(
        "SELECT p.number, p.access, {} FROM data_product p JOIN document d ON d.product = p.id \
         WHERE p.volume_prefix = $1 AND p.number > $2 AND p.number <= $3 ORDER BY p.number LIMIT {STATEMENT}",
        read::HIT
    );
    let (mut after, mut count) = (part.first - 1, STATEMENT);
    while count == STATEMENT {
        count = 0;
        let mut savepoint = connection.begin().await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.as_str())).bind(prefix).bind(after).bind(part.last);
        let mut rows = query.fetch(&mut *savepoint);
        let (mut handful, mut bytes) = (Vec::new(), 0);
        let broken = loop {
            let row = match rows.try_next().await.map_err(StoreError::from) {
                Ok(Some(row)) => row,
                Ok(None) => break false,
                Err(StoreError::Damaged(_)) => break true,
                Err(error) => return Err(error),
            };
            after = row.try_get("number")?;
            count += 1;
            bytes += row.try_get::<&str, _>("metadata")?.len();
            handful.push(row);
            if bytes >= HANDFUL {
                bytes = 0;
                if handfuls.send(std::mem::take(&mut handful)).await.is_err() {
                    return Ok(());
                }
            }
        };
        drop(rows);
        if broken {
            savepoint.rollback().await?;
            let left = numbers(connection, prefix, after, part.last).await?;
            let mut read = salvage::readable(connection, By::Number, &left, None).await?;
            let number = |row: &PgRow| row.try_get::<i64, _>("number").unwrap_or_default();
            read.sort_by_key(number);
            handful.extend(read);
            (after, count) = (left.last().copied().unwrap_or(after), STATEMENT);
        } else {
            savepoint.commit().await?;
        }
        if handfuls.send(handful).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The numbers of the next versions, as many as one statement reads.
async fn numbers(connection: &mut PgConnection, prefix: &str, after: i64, last: i64) -> Result<Vec<i64>> {
    let sql = format!(
        "SELECT number FROM data_product WHERE volume_prefix = $1 AND number > $2 AND number <= $3 \
         ORDER BY number LIMIT {STATEMENT}"
    );
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(prefix).bind(after).bind(last).fetch_all(connection).await?)
}

/// A segment that is being made.
struct Building {
    keys: KeyIds,
    builder: Builder,
    missing: BTreeSet<String>,
    seen: usize,
    last: i64,
    most: usize,
    most_bytes: usize,
}

impl Building {
    fn run(mut self, mut handfuls: mpsc::Receiver<Vec<PgRow>>) -> (KeyIds, Built) {
        while let Some(handful) = handfuls.blocking_recv() {
            if handful.iter().any(|row| !self.take(row)) {
                break;
            }
        }
        if !self.missing.is_empty() {
            return (self.keys, Built::Missing { names: self.missing, last: self.last });
        }
        let (products, weight) = (self.builder.products(), self.builder.bytes());
        let pages = if products > 0 { self.builder.finish() } else { Vec::new() };
        (self.keys, Built::Made(Made { last: self.last, products, weight, pages }))
    }

    /// Takes a version; false when there is no room for another.
    fn take(&mut self, row: &PgRow) -> bool {
        if let Err(error) = self.push(row) {
            // One product that nobody finds is better than none that anybody does.
            warn!(%error, "a product is left out of searches");
        }
        self.seen += 1;
        self.seen < self.most && self.builder.bytes() < self.most_bytes
    }

    fn push(&mut self, row: &PgRow) -> Result<()> {
        let number: i64 = row.try_get("number")?;
        self.last = number;
        let hit = read::hit(row)?;
        let leaves = row::leaves(&hit.product, hit.size);
        let mut numbered = Vec::with_capacity(leaves.len());
        for Leaf { key, value } in leaves {
            match self.keys.find(&key) {
                Some(key) => numbered.push(Leaf { key, value }),
                None => drop(self.missing.insert(key)),
            }
        }
        if self.missing.is_empty() {
            self.builder.push(&Doc {
                number: number.cast_unsigned(),
                uid: hit.product.uid,
                date_created: hit.product.date_created,
                access: row.try_get("access")?,
                leaves: &numbered,
            });
        }
        Ok(())
    }
}
