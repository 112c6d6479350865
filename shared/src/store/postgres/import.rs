//! Annotations and ingested metadata of the service before this one, taken over a batch at a time: each is written by the
//! code that writes what callers bring, in a transaction of its own, so that indexers and APIs go on meanwhile, and what was
//! taken over is passed over the next time.

use super::old_tables::{OldTable, SourceZone, annotation_of, only_read};
use super::plan::Derived;
use super::transaction::Work;
use super::{PostgresStore, annotation};
use crate::access::{Access, Ingested, Viewer};
use crate::annotation::Annotation;
use crate::annotation::old::{Kept, LAST_ID, Unusable};
use crate::json;
use crate::product::Product;
use crate::store::{Lookup, Result, Store, StoreError};
use crate::yaml::MAX_BYTES;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// How many rows are read and written at a time. Texts are bounded, and so the memory is.
const BATCH: usize = 250;
/// How long all of a table may take.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How many numbers are left free behind the old service's last one: it may give some more until it is switched off, and the
/// next import is to find them free.
const ROOM: i64 = 10_000;
/// How many rows of a kind are named.
const NAMED: usize = 20;
/// What the service before this one put into metadata beside what was brought.
const ITS_KEYS: [&str; 4] = ["date_created", "dataproduct_file", "metadata_file", "uid"];

/// How annotations are taken over.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether those whose number is another's get a new one.
    pub new_ids: bool,
    /// Whether times that are other ones here are set right: somebody said which zone those of the table are of.
    pub sets_times: bool,
    /// Whether what is the same under another number counts as there: a later release's table may have had it as well.
    pub is_older: bool,
}

/// Some rows: how many, and what the first of them are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the type's words say it")]
pub struct Rows {
    pub count: u64,
    pub first: Vec<String>,
}

impl Rows {
    fn add(&mut self, name: impl ToString) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(name.to_string());
        }
    }
}

/// What became of a table's rows. Of a dry run: what would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// All rows, as far as they were read.
    pub found: u64,
    /// Those that were not there.
    pub imported: u64,
    /// Those that were there and had been written anew since.
    pub changed: u64,
    /// Those that were there.
    pub there: u64,
    /// Those whose number is another annotation's, which are left out.
    pub taken: Rows,
    /// Those that got a new number for that reason.
    pub renumbered: u64,
    /// Those that cannot be kept, by the reason.
    pub unusable: BTreeMap<String, Rows>,
    /// Of those that are here: of products that are not in the index, without an author, and without a time.
    pub without_product: u64,
    #[expect(missing_docs, reason = "see above")]
    pub without_author: u64,
    #[expect(missing_docs, reason = "see above")]
    pub without_time: u64,
}

impl Imported {
    fn pass_over(&mut self, why: impl ToString, name: impl ToString) {
        self.unusable.entry(why.to_string()).or_default().add(name);
    }

    /// How many rows cannot be kept.
    pub fn unusable(&self) -> u64 {
        self.unusable.values().map(|rows| rows.count).sum()
    }
}

/// How an annotation stands to those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    There,
    Changed,
    Taken,
}

impl PostgresStore {
    /// How many rows a table has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn rows_of(&self, table: &OldTable) -> Result<u64> {
        Ok(self.extent(table).await?.0)
    }

    /// How many rows a table has, and its greatest number.
    async fn extent(&self, table: &OldTable) -> Result<(u64, i64)> {
        let work = async {
            let mut session = self.database.session().await?;
            let mut transaction = session.begin().await?;
            only_read(&mut transaction).await?;
            let (count, last): (i64, Option<i64>) =
                sqlx::query_as(AssertSqlSafe(table.extent())).bind(LAST_ID).fetch_one(&mut *transaction).await?;
            transaction.rollback().await?;
            session.settle(Ok((u64::try_from(count).unwrap_or_default(), last.unwrap_or_default())))
        };
        self.database.bounded_by(PATIENCE, work).await
    }

    /// Takes the annotations of a table over, and tells after each batch what became of the rows so far.
    ///
    /// # Errors
    /// When the table cannot be read or the database cannot be written to. What was taken over until then stays, and is
    /// passed over the next time.
    pub async fn import_annotations(
        &self,
        table: &OldTable,
        zone: &SourceZone,
        options: ImportOptions,
        tell: &mut (dyn FnMut(&Imported) + Send),
    ) -> Result<Imported> {
        let (_, last) = self.extent(table).await?;
        if !options.dry_run && last > 0 {
            self.leave_room(last + ROOM).await?;
        }
        let work = async {
            let mut imported = Imported::default();
            let mut seen = HashSet::new();
            let mut session = self.database.session().await?;
            let mut transaction = session.begin().await?;
            only_read(&mut transaction).await?;
            let declare = format!("DECLARE old NO SCROLL CURSOR FOR {}", table.annotations(zone));
            sqlx::raw_sql(AssertSqlSafe(declare)).execute(&mut *transaction).await?;
            let fetch = format!("FETCH {BATCH} FROM old");
            loop {
                let rows = sqlx::query(AssertSqlSafe(fetch.clone())).fetch_all(&mut *transaction).await?;
                if rows.is_empty() {
                    break;
                }
                let mut batch = Vec::new();
                for row in &rows {
                    imported.found += 1;
                    let row = annotation_of(row)?;
                    let name = row.id.map_or_else(|| "without id".to_owned(), |id| id.to_string());
                    match row.read() {
                        Ok(kept) if seen.insert(kept.annotation.annotation_id) => batch.push(kept),
                        Ok(_) => imported.pass_over(Unusable::IdTwice, name),
                        Err(why) => imported.pass_over(why, name),
                    }
                }
                self.import_batch(&batch, options, &mut imported).await?;
                tell(&imported);
            }
            transaction.rollback().await?;
            session.settle(Ok(imported))
        };
        self.database.bounded_by(PATIENCE, work).await
    }

    /// Has numbers from here on given to what callers write.
    async fn leave_room(&self, number: i64) -> Result<()> {
        let work = async {
            let mut session = self.database.session().await?;
            // Where it stands there or further on already, nothing is set back.
            let set = sqlx::query(
                "SELECT setval(s, $1) FROM (SELECT pg_get_serial_sequence('annotation', 'id')::regclass AS s) s \
                 WHERE coalesce(pg_sequence_last_value(s), 0) < $1",
            )
            .bind(number)
            .execute(&mut *session)
            .await;
            session.settle(set.map(drop).map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }

    async fn import_batch(&self, batch: &[Kept], options: ImportOptions, imported: &mut Imported) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let places = places(&mut session, &prefix, batch, options).await?;
            let to_do = |place: &(Place, bool)| match place.0 {
                Place::Free | Place::Changed => true,
                Place::Taken => options.new_ids,
                Place::There => false,
            };
            if options.dry_run || !places.iter().any(to_do) {
                count(batch, &places, options, imported);
                return session.settle(Ok(()));
            }
            let mut transaction = session.begin().await?;
            let products: Vec<Uuid> = batch.iter().map(|kept| kept.annotation.data_product_uid).collect();
            // First, since it has those wait who write at the same time, and them and us see what the other wrote.
            annotation::touch(&mut transaction, &prefix, &products).await?;
            let places = self::places(&mut transaction, &prefix, batch, options).await?;
            write(&mut transaction, &prefix, batch, options, &places).await?;
            transaction.commit().await?;
            count(batch, &places, options, imported);
            session.settle(Ok(()))
        };
        self.database.bounded(work).await
    }

    /// Takes the metadata over that callers brought to the old service, of which there is no file on the volume, and tells
    /// after each what became of the rows so far. What is there under the same uid stays: it may be newer.
    ///
    /// # Errors
    /// As [`import_annotations`](Self::import_annotations).
    pub async fn import_ingested(
        &self,
        table: &OldTable,
        store_name: &str,
        dry_run: bool,
        tell: &mut (dyn FnMut(&Imported) + Send),
    ) -> Result<Imported> {
        let work = async {
            let mut imported = Imported::default();
            let mut session = self.database.session().await?;
            let mut transaction = session.begin().await?;
            only_read(&mut transaction).await?;
            let declare = format!("DECLARE old NO SCROLL CURSOR FOR {}", table.ingested(MAX_BYTES));
            sqlx::raw_sql(AssertSqlSafe(declare)).execute(&mut *transaction).await?;
            // One may have 16 MiB.
            while let Some(row) = sqlx::query("FETCH 1 FROM old").fetch_optional(&mut *transaction).await? {
                imported.found += 1;
                match ingested(row.try_get("data")?, store_name) {
                    Err(why) => imported.pass_over(why, format!("row {}", imported.found)),
                    Ok(product) => match self.ingest_first(&product, dry_run).await {
                        Ok(true) => imported.imported += 1,
                        Ok(false) => imported.there += 1,
                        Err(StoreError::Refused(why)) => imported.pass_over(why, &product.execution_block),
                        Err(error) => return Err(error),
                    },
                }
                tell(&imported);
            }
            transaction.rollback().await?;
            session.settle(Ok(imported))
        };
        self.database.bounded_by(PATIENCE, work).await
    }

    /// Keeps a product where nothing has its uid; false where something has.
    async fn ingest_first(&self, product: &Product, dry_run: bool) -> Result<bool> {
        if dry_run {
            return Ok(matches!(self.product(product.uid, &Viewer::unrestricted()).await?, Lookup::Unknown));
        }
        self.make_room().await?;
        let (_, ingested) = self.database.bounded(self.write(Work::IngestFirst(Derived::from(product)))).await?;
        Ok(ingested == Ingested::Taken)
    }
}

/// The product of metadata that was brought to the old service; the error is why there is none.
fn ingested(data: Option<Vec<u8>>, store_name: &str) -> std::result::Result<Product, String> {
    let data = data.ok_or_else(|| format!("the metadata is longer than {MAX_BYTES} bytes"))?;
    let mut metadata = json::parse(&data).map_err(|error| error.to_string())?;
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|key, _| !ITS_KEYS.contains(&key.as_str()));
    }
    let mut product = Product::from_metadata(metadata, store_name).map_err(|error| error.to_string())?;
    product.access = Access::brought(&product.metadata).map_err(|error| error.to_string())?;
    Ok(product)
}

/// How each annotation stands to those that are there, and whether its product is in the index.
async fn places(
    connection: &mut PgConnection,
    prefix: &str,
    batch: &[Kept],
    options: ImportOptions,
) -> Result<Vec<(Place, bool)>> {
    let all: Vec<&Annotation> = batch.iter().map(|kept| &kept.annotation).collect();
    // Whoever asked for another time zone the first time has another time, and the same text.
    let rows = sqlx::query(
        "SELECT CASE WHEN a.id IS NULL THEN CASE WHEN $8 AND n.same THEN 'there' ELSE 'free' END \
         WHEN a.volume_prefix = $1 AND a.data_product_uid = n.uid \
         AND (a.timestamp_created = n.created OR a.annotation_text = n.text) \
         THEN CASE WHEN n.modified > a.timestamp_modified \
         AND (a.annotation_text, a.user_principal_name) <> (n.text, n.author) THEN 'changed' \
         WHEN $9 AND a.annotation_text = n.text AND (a.timestamp_created, a.timestamp_modified) <> (n.created, n.modified) \
         THEN 'changed' ELSE 'there' END \
         WHEN n.same THEN 'there' ELSE 'taken' END AS place, \
         EXISTS (SELECT FROM data_product p WHERE p.volume_prefix = $1 AND p.uid = n.uid) AS known \
         FROM (SELECT n.*, EXISTS (SELECT FROM annotation s WHERE s.volume_prefix = $1 AND s.data_product_uid = n.uid \
         AND s.timestamp_created = n.created AND s.user_principal_name = n.author AND s.annotation_text = n.text) AS same \
         FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[]) \
         WITH ORDINALITY n(id, uid, text, author, created, modified, place)) n \
         LEFT JOIN annotation a ON a.id = n.id ORDER BY n.place",
    )
    .bind(prefix)
    .bind(all.iter().map(|own| own.annotation_id).collect::<Vec<_>>())
    .bind(all.iter().map(|own| own.data_product_uid).collect::<Vec<_>>())
    .bind(all.iter().map(|own| own.annotation_text.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|own| own.user_principal_name.as_str()).collect::<Vec<_>>())
    .bind(all.iter().map(|own| own.timestamp_created).collect::<Vec<_>>())
    .bind(all.iter().map(|own| own.timestamp_modified).collect::<Vec<_>>())
    .bind(options.is_older)
    .bind(options.sets_times)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let place = match row.try_get("place")? {
                "free" => Place::Free,
                "there" => Place::There,
                "changed" => Place::Changed,
                _ => Place::Taken,
            };
            Ok((place, row.try_get("known")?))
        })
        .collect()
}

/// Writes what is to be written.
async fn write(
    connection: &mut PgConnection,
    prefix: &str,
    batch: &[Kept],
    options: ImportOptions,
    places: &[(Place, bool)],
) -> Result<()> {
    let of = |wanted: Place, places: &[(Place, bool)]| -> Vec<&Annotation> {
        batch.iter().zip(places).filter(|(_, (place, _))| *place == wanted).map(|(kept, _)| &kept.annotation).collect()
    };
    annotation::follow(connection, prefix, &of(Place::Changed, places)).await?;
    let free = of(Place::Free, places);
    let kept = annotation::keep(connection, prefix, &free, true).await?;
    if kept < free.len() as u64 {
        // The database gives numbers to all volumes, and only this one's wait.
        return Err(StoreError::Unavailable(
            "a number was given to another volume's annotation meanwhile: run the import again".to_owned(),
        ));
    }
    if options.new_ids {
        annotation::keep(connection, prefix, &of(Place::Taken, places), false).await?;
    }
    Ok(())
}

/// Counts what became of a batch.
fn count(batch: &[Kept], places: &[(Place, bool)], options: ImportOptions, imported: &mut Imported) {
    for (kept, (place, known)) in batch.iter().zip(places) {
        match place {
            Place::Free => imported.imported += 1,
            Place::There => imported.there += 1,
            Place::Changed => imported.changed += 1,
            Place::Taken if options.new_ids => imported.renumbered += 1,
            Place::Taken => {
                imported.taken.add(kept.annotation.annotation_id);
                continue;
            }
        }
        imported.without_product += u64::from(!known);
        imported.without_author += u64::from(kept.without_author);
        imported.without_time += u64::from(kept.without_time);
    }
}
