//! Writing the index: batches of changes, each in one transaction that holds the volume's row.
//!
//! A batch is taken apart into rounds in which no folder comes twice; in a round everything is looked up, compared and
//! written set by set. Each change is idempotent, since a batch may be written without our hearing of it.

use super::columns::Stamps;
use super::counting::CountedProduct;
use super::dictionary::{self, KeyIds};
use super::flows;
use super::plan::{self, Before, Derived, Fails, Plan, Prepared, Put, ReadItem, Stored, StoredItem};
use super::read;
use super::text::{escaped, shown};
use crate::access::{Ingested, Viewer};
use crate::flow;
use crate::folder::Folder;
use crate::store::{Outcome, Result, StoreError, Subject};
use crate::volume::Stamp;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// How many bytes of metadata one statement takes at the most, and how many products.
const STATEMENT_BYTES: usize = 8 * 1024 * 1024;
const STATEMENT_PRODUCTS: usize = 500;

/// Who writes, as the rows remember it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author {
    pub(super) generation: i32,
    pub(super) epoch: i64,
    /// Whether somebody with a better view writes as well, whose newer versions stay.
    pub(super) defers: bool,
    /// Whether the volume has flows at all.
    pub(super) flows: bool,
}

/// One transaction's work.
pub(super) struct Writer<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) prefix: &'a str,
    pub(super) author: Author,
    pub(super) keys: &'a mut KeyIds,
    /// How many versions of products it wrote, and whether any ceased to be.
    pub(super) versions: usize,
    pub(super) superseded: bool,
}

impl Writer<'_> {
    /// Applies changes in their order, and tells what each came to.
    pub(super) async fn apply(&mut self, changes: &[Prepared<'_>]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for round in plan::rounds(changes) {
            outcomes.extend(self.round(round).await?);
        }
        Ok(outcomes)
    }

    /// Writes a product that nothing on the volume stands behind, where whoever brings it may.
    pub(super) async fn ingest(&mut self, derived: &Derived<'_>, viewer: &Viewer) -> Result<Ingested> {
        let access = &derived.product.access;
        let before = dictionary::guard_of(self.connection, self.prefix, derived.product.uid).await?;
        let ingested = viewer.brings(before.as_ref(), access);
        if ingested != Ingested::Taken {
            return Ok(ingested);
        }
        let rules = dictionary::rule_ids(self.connection, self.prefix, [access]).await?;
        let access = *rules.get(access).ok_or_else(|| StoreError::Unavailable("a rule has no number".to_owned()))?;
        let puts = [Put::of_no_file(derived, None, access)];
        let put = self.put(&puts).await?;
        let plan = Plan { puts: puts.into(), ..Plan::default() };
        self.follow(&plan, &put, flows::Touched::default()).await?;
        Ok(ingested)
    }

    /// The same where there is nothing under its uid, whoever brings it; what is there stays.
    pub(super) async fn ingest_first(&mut self, derived: &Derived<'_>) -> Result<Ingested> {
        match dictionary::guard_of(self.connection, self.prefix, derived.product.uid).await? {
            Some(_) => Ok(Ingested::Kept),
            None => self.ingest(derived, &Viewer::unrestricted()).await,
        }
    }

    async fn round(&mut self, changes: &[Prepared<'_>]) -> Result<Vec<Outcome>> {
        let before = self.before(changes).await?;
        let rules = changes.iter().filter_map(|(_, derived)| Some(&derived.as_ref()?.product.access));
        let rules = dictionary::rule_ids(self.connection, self.prefix, rules).await?;
        let plan = Plan::of(changes, &before, &rules, self.author);
        self.set_read(&plan.read).await?;
        self.set_failing(&plan.failing).await?;
        self.set_stamps(&plan.stamps).await?;
        self.set_items(&plan.items, &plan.items_gone).await?;
        let touched = self.touched_by_removal(&plan.removed).await?;
        self.remove(&plan.removed).await?;
        let put = self.put(&plan.puts).await?;
        self.set_measured(&plan.measured).await?;
        self.set_sizes(&plan.sizes).await?;
        self.set_unmeasured_around(&plan.came_or_went).await?;
        self.follow(&plan, &put, touched).await?;
        Ok(plan.outcomes)
    }

    /// What the database has of all that changes are about.
    async fn before(&mut self, changes: &[Prepared<'_>]) -> Result<Before> {
        let (mut folders, mut flows, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (change, _) in changes {
            match change.subject() {
                Subject::Folder(folder) => folders.extend(folder.map(Folder::as_str)),
                Subject::Flow(id) => flows.push(id.as_str()),
                Subject::Item(uid) => items.push(uid),
            }
        }
        Ok(Before {
            folders: self.stored(&folders).await?,
            flows: flows::stored(self.connection, self.prefix, Some(&flows)).await?,
            items: self.stored_items(&items).await?,
        })
    }

    /// What there is under the uids of data items.
    async fn stored_items(&mut self, uids: &[Uuid]) -> Result<HashMap<Uuid, StoredItem>> {
        if uids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query(
            "SELECT uid, id, store_name, digest, generation FROM data_product \
             WHERE volume_prefix = $1 AND uid = ANY($2)",
        )
        .bind(self.prefix)
        .bind(uids)
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter().map(stored_item).collect()
    }

    /// The products of these folders.
    async fn stored(&mut self, folders: &[&str]) -> Result<HashMap<Folder, Stored>> {
        if folders.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query(
            "SELECT id, uid, folder, size, measured, file_size, file_inode, file_modified, file_changed, digest, \
             generation FROM data_product WHERE volume_prefix = $1 AND folder = ANY($2)",
        )
        .bind(self.prefix)
        .bind(folders)
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter().map(stored).collect()
    }

    /// Takes files off the list of those that do not read.
    async fn set_read(&mut self, folders: &[&str]) -> Result<()> {
        if folders.is_empty() {
            return Ok(());
        }
        sqlx::query("DELETE FROM failing_file WHERE volume_prefix = $1 AND folder = ANY($2)")
            .bind(self.prefix)
            .bind(folders)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn set_failing(&mut self, failing: &[Fails<'_>]) -> Result<()> {
        if failing.is_empty() {
            return Ok(());
        }
        let stamps = Stamps::of(failing.iter().map(|fails| fails.stamp));
        sqlx::query(
            "INSERT INTO failing_file (volume_prefix, folder, path, error, file_size, file_inode, file_modified, \
             file_changed, access) SELECT $1, n.*, p.access FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], \
             $6::bigint[], $7::bigint[], $8::bigint[]) n(folder, path, error, size, inode, modified, changed) \
             LEFT JOIN data_product p ON p.volume_prefix = $1 AND p.folder = n.folder \
             ON CONFLICT (volume_prefix, folder) DO UPDATE SET path = EXCLUDED.path, error = EXCLUDED.error, \
             access = EXCLUDED.access, \
             file_size = EXCLUDED.file_size, file_inode = EXCLUDED.file_inode, \
             file_modified = EXCLUDED.file_modified, file_changed = EXCLUDED.file_changed",
        )
        .bind(self.prefix)
        .bind(failing.iter().map(|fails| fails.folder.as_str()).collect::<Vec<_>>())
        .bind(failing.iter().map(|fails| fails.path).collect::<Vec<_>>())
        .bind(failing.iter().map(|fails| shown(fails.error)).collect::<Vec<_>>())
        .bind(&stamps.size)
        .bind(&stamps.inode)
        .bind(&stamps.modified)
        .bind(&stamps.changed)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Notes which versions of data items were read.
    async fn set_items(&mut self, items: &[ReadItem<'_>], gone: &[Uuid]) -> Result<()> {
        if !items.is_empty() {
            sqlx::query(
                "INSERT INTO dlm_item (volume_prefix, uid, version, error) \
                 SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[]) \
                 ON CONFLICT (volume_prefix, uid) DO UPDATE SET version = EXCLUDED.version, error = EXCLUDED.error",
            )
            .bind(self.prefix)
            .bind(items.iter().map(|item| item.uid).collect::<Vec<_>>())
            .bind(items.iter().map(|item| item.version).collect::<Vec<_>>())
            .bind(items.iter().map(|item| item.error.map(shown)).collect::<Vec<_>>())
            .execute(&mut *self.connection)
            .await?;
        }
        if !gone.is_empty() {
            sqlx::query("DELETE FROM dlm_item WHERE volume_prefix = $1 AND uid = ANY($2)")
                .bind(self.prefix)
                .bind(gone)
                .execute(&mut *self.connection)
                .await?;
        }
        Ok(())
    }

    /// Notes newer versions of files whose content is as it was.
    async fn set_stamps(&mut self, new: &[(i64, Stamp)]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let stamps = Stamps::of(new.iter().map(|(_, stamp)| Some(*stamp)));
        sqlx::query(
            "UPDATE data_product p SET file_size = n.size, file_inode = n.inode, file_modified = n.modified, \
             file_changed = n.changed, measured = false FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
             $5::bigint[]) n(id, size, inode, modified, changed) WHERE p.id = n.id",
        )
        .bind(new.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(&stamps.size)
        .bind(&stamps.inode)
        .bind(&stamps.modified)
        .bind(&stamps.changed)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Notes that products are to be measured in whose folders others came or went: a size counts nothing of these.
    async fn set_unmeasured_around(&mut self, folders: &[&Folder]) -> Result<()> {
        let around: BTreeSet<&str> = folders.iter().flat_map(|folder| folder.above()).collect();
        if around.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE data_product SET measured = false WHERE volume_prefix = $1 AND folder = ANY($2) AND measured",
        )
        .bind(self.prefix)
        .bind(around.into_iter().collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Notes that products were looked at whose size is as it was.
    async fn set_measured(&mut self, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        sqlx::query("UPDATE data_product SET measured = true WHERE id = ANY($1)")
            .bind(ids)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn set_sizes(&mut self, sizes: &[(i64, Option<i64>)]) -> Result<()> {
        if sizes.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = sizes.iter().map(|(id, _)| *id).collect();
        self.supersede(&ids).await?;
        self.touch(&ids).await?;
        sqlx::query(
            "UPDATE data_product p SET size = n.size, measured = true, number = nextval('product_number') \
             FROM unnest($1::bigint[], $2::bigint[]) n(id, size) WHERE p.id = n.id",
        )
        .bind(&ids)
        .bind(sizes.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        self.versions += ids.len();
        Ok(())
    }

    /// Notes that products are about to be no more what searches know them as: whoever changes what a search sees of them
    /// gives them new numbers.
    pub(super) async fn supersede(&mut self, ids: &[i64]) -> Result<()> {
        sqlx::query(
            "INSERT INTO superseded (volume_prefix, number) \
             SELECT volume_prefix, number FROM data_product WHERE id = ANY($1)",
        )
        .bind(ids)
        .execute(&mut *self.connection)
        .await?;
        self.superseded = true;
        Ok(())
    }

    /// Removes products, with all that was counted and kept of them.
    pub(super) async fn remove(&mut self, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.remember(ids).await?;
        self.count_out(ids).await?;
        self.supersede(ids).await?;
        sqlx::query("DELETE FROM data_product WHERE id = ANY($1)").bind(ids).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Puts products in, in place of those of their uids, and answers their numbers.
    pub(super) async fn put(&mut self, mut puts: &[Put<'_>]) -> Result<Vec<i64>> {
        let mut ids = Vec::with_capacity(puts.len());
        while !puts.is_empty() {
            let mut bytes = 0;
            let fits = |put: &&Put<'_>| {
                bytes += put.derived.metadata.len();
                bytes <= STATEMENT_BYTES
            };
            let count = puts.iter().take(STATEMENT_PRODUCTS).take_while(fits).count().max(1);
            let (part, rest) = puts.split_at(count);
            ids.extend(self.put_part(part).await?);
            puts = rest;
        }
        Ok(ids)
    }

    async fn put_part(&mut self, puts: &[Put<'_>]) -> Result<Vec<i64>> {
        let uids: Vec<Uuid> = puts.iter().map(|put| put.derived.product.uid).collect();
        let replaced: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM data_product WHERE volume_prefix = $1 AND uid = ANY($2)")
                .bind(self.prefix)
                .bind(&uids)
                .fetch_all(&mut *self.connection)
                .await?;
        if !replaced.is_empty() {
            self.count_out(&replaced).await?;
            self.supersede(&replaced).await?;
        }
        let ids = self.put_products(puts, &uids).await?;
        let id = |put: &Put<'_>| ids.get(&put.derived.product.uid).copied().unwrap_or_default();
        sqlx::query(
            "INSERT INTO document (product, metadata) SELECT id, metadata::json FROM unnest($1::bigint[], $2::text[]) \
             n(id, metadata) ON CONFLICT (product) DO UPDATE SET metadata = EXCLUDED.metadata",
        )
        .bind(puts.iter().map(id).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.derived.metadata.as_str()).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        self.versions += puts.len();
        self.count(&puts.iter().map(CountedProduct::in_with).collect::<Vec<_>>(), 1).await?;
        Ok(ids.into_values().collect())
    }

    /// Writes the narrow rows, and answers their numbers by uid.
    async fn put_products(&mut self, puts: &[Put<'_>], uids: &[Uuid]) -> Result<HashMap<Uuid, i64>> {
        let products = || puts.iter().map(|put| put.derived.product);
        let stamps = Stamps::of(puts.iter().map(|put| put.stamp));
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(
            "INSERT INTO data_product (volume_prefix, generation, epoch, uid, execution_block, date_created, folder, \
             metadata_file, store_name, access, size, measured, file_size, file_inode, file_modified, file_changed, \
             digest, processing_block, flows) \
             SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::text[], $6::date[], $7::text[], $8::text[], \
             $9::text[], $10::integer[], $11::bigint[], $12::boolean[], $13::bigint[], $14::bigint[], \
             $15::bigint[], $16::bigint[], $17::bytea[], $18::text[], $19::text[]::json[]) \
             ON CONFLICT (volume_prefix, uid) DO UPDATE SET generation = EXCLUDED.generation, \
             epoch = EXCLUDED.epoch, written_at = clock_timestamp(), execution_block = EXCLUDED.execution_block, \
             date_created = EXCLUDED.date_created, folder = EXCLUDED.folder, \
             metadata_file = EXCLUDED.metadata_file, store_name = EXCLUDED.store_name, access = EXCLUDED.access, \
             size = EXCLUDED.size, measured = EXCLUDED.measured, file_size = EXCLUDED.file_size, \
             file_inode = EXCLUDED.file_inode, file_modified = EXCLUDED.file_modified, \
             file_changed = EXCLUDED.file_changed, digest = EXCLUDED.digest, \
             processing_block = EXCLUDED.processing_block, flows = EXCLUDED.flows, \
             number = EXCLUDED.number RETURNING uid, id",
        )
        .bind(self.prefix)
        .bind(self.author.generation)
        .bind(self.author.epoch)
        .bind(uids)
        .bind(products().map(|product| escaped(&product.execution_block)).collect::<Vec<_>>())
        .bind(products().map(|product| product.date_created).collect::<Vec<_>>())
        .bind(products().map(|product| product.folder.as_ref().map(Folder::as_str)).collect::<Vec<_>>())
        .bind(products().map(|product| product.metadata_file.as_deref()).collect::<Vec<_>>())
        .bind(products().map(|product| product.store_name.as_str()).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.access).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.size).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.measured).collect::<Vec<_>>())
        .bind(&stamps.size)
        .bind(&stamps.inode)
        .bind(&stamps.modified)
        .bind(&stamps.changed)
        .bind(puts.iter().map(|put| put.digest.map(|digest| digest.to_vec())).collect::<Vec<_>>())
        .bind(products().map(flow::processing_block).collect::<Vec<_>>())
        .bind(products().map(|product| flows::shown(&product.flows)).collect::<Vec<_>>())
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(rows.into_iter().collect())
    }
}

fn stored(row: &PgRow) -> Result<(Folder, Stored)> {
    let stored = Stored {
        id: row.try_get("id")?,
        uid: row.try_get("uid")?,
        size: row.try_get("size")?,
        measured: row.try_get("measured")?,
        stamp: read::stamp(row)?,
        digest: row.try_get("digest")?,
        generation: row.try_get("generation")?,
    };
    Ok((row.try_get::<&str, _>("folder")?.parse().unwrap_or_default(), stored))
}

fn stored_item(row: &PgRow) -> Result<(Uuid, StoredItem)> {
    let item = StoredItem {
        id: row.try_get("id")?,
        store_name: row.try_get("store_name")?,
        digest: row.try_get("digest")?,
        generation: row.try_get("generation")?,
    };
    Ok((row.try_get("uid")?, item))
}
