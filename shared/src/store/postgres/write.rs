//! Writing the index: batches of changes, each in one transaction that holds the volume's row.
//!
//! A batch is taken apart into rounds in which no folder comes twice; in a round everything is looked up, compared and
//! written set by set. Each change is idempotent, since a batch may be written without our hearing of it.

use super::columns::{Leaves, Stamps};
use super::dictionary::{self, KeyIds};
use super::read;
use super::text::{escaped, shown};
use crate::access::Access;
use crate::folder::Folder;
use crate::product::Product;
use crate::row::{self, Leaf};
use crate::store::{Change, Outcome, Result};
use crate::volume::{Digest, Found, Stamp};
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
}

/// One transaction's work.
pub(super) struct Writer<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) prefix: &'a str,
    pub(super) author: Author,
    pub(super) keys: &'a mut KeyIds,
}

/// What the database has for a folder or a uid.
#[derive(Debug)]
struct Stored {
    id: i64,
    uid: Uuid,
    folder: Option<Folder>,
    size: Option<i64>,
    measured: bool,
    stamp: Option<Stamp>,
    digest: Option<Vec<u8>>,
    generation: i32,
}

/// A product to be written.
struct Put<'a> {
    product: &'a Product,
    version: Option<(Stamp, Digest)>,
    /// Known of the folder from before.
    size: Option<i64>,
    measured: bool,
    access: i32,
}

/// The keys that the rows of these changes need numbers for.
pub(super) fn keys_of<'a>(products: impl IntoIterator<Item = &'a Product>) -> BTreeSet<String> {
    let mut keys = BTreeSet::from(["size".to_owned()]);
    for product in products {
        keys.extend(row::leaves(product, None).into_iter().map(|leaf| leaf.key));
        keys.extend(row::keys(product).map(|(key, _)| key));
    }
    keys
}

/// The products in changes.
pub(super) fn products(changes: &[Change]) -> impl Iterator<Item = &Product> {
    changes.iter().filter_map(|change| match change {
        Change::Found(found) => Some(found.product.as_ref()),
        _ => None,
    })
}

/// Splits changes where a folder comes again.
fn rounds(changes: &[Change]) -> Vec<&[Change]> {
    let (mut rounds, mut begin, mut seen) = (Vec::new(), 0, HashSet::new());
    for (at, change) in changes.iter().enumerate() {
        if !seen.insert(change.folder()) {
            rounds.push(&changes[begin..at]);
            (begin, seen) = (at, HashSet::from([change.folder()]));
        }
    }
    rounds.push(&changes[begin..]);
    rounds
}

impl Writer<'_> {
    /// Applies changes in their order, and tells what each came to.
    pub(super) async fn apply(&mut self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for round in rounds(changes) {
            outcomes.extend(self.round(round).await?);
        }
        Ok(outcomes)
    }

    /// Writes a product that nothing on the volume stands behind.
    pub(super) async fn ingest(&mut self, product: &Product) -> Result<()> {
        let rules = dictionary::rule_ids(self.connection, self.prefix, [&product.access]).await?;
        let Some(access) = rules.get(&product.access).copied() else { return Ok(()) };
        let put = Put { product, version: None, size: None, measured: true, access };
        self.put(vec![put]).await
    }

    async fn round(&mut self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let folders: Vec<&Folder> = changes.iter().filter_map(Change::folder).collect();
        let stored = self.stored(&folders).await?;
        let rules = products(changes).map(|product| &product.access);
        let rules: BTreeMap<&Access, i32> = dictionary::rule_ids(self.connection, self.prefix, rules).await?;
        let (mut outcomes, mut puts, mut stamps, mut removed, mut sizes) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut failing, mut read) = (vec![], vec![]);
        for change in changes {
            let before = change.folder().and_then(|folder| stored.get(folder));
            let outcome = match change {
                Change::Found(found) => {
                    read.extend(found.product.folder.as_ref());
                    match (before, rules.get(&found.product.access)) {
                        (Some(before), _) if self.is_newer(before, found) => Outcome::Unchanged,
                        (Some(before), _) if self.is_same(before, found) => {
                            if before.stamp != Some(found.stamp) {
                                stamps.push((before.id, found.stamp));
                            }
                            Outcome::Unchanged
                        }
                        (_, None) => Outcome::Unchanged,
                        (before, Some(access)) => {
                            let replaced = before.filter(|before| before.uid != found.product.uid);
                            removed.extend(replaced.map(|before| before.id));
                            puts.push(Put {
                                product: &found.product,
                                version: Some((found.stamp, found.digest)),
                                size: before.and_then(|before| before.size),
                                measured: before.is_some_and(|before| before.measured),
                                access: *access,
                            });
                            if before.is_some() { Outcome::Updated } else { Outcome::Added }
                        }
                    }
                }
                Change::Gone(folder) => {
                    read.push(folder);
                    removed.extend(before.map(|before| before.id));
                    if before.is_some() { Outcome::Removed } else { Outcome::Unchanged }
                }
                Change::Failing { folder, path, error, stamp } => {
                    failing.push((folder, path, error, *stamp));
                    Outcome::Unchanged
                }
                Change::Measured { bytes, .. } => {
                    let bytes = bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
                    match before {
                        Some(before) if before.size != bytes || !before.measured => {
                            sizes.push((before.id, bytes));
                            if before.size == bytes { Outcome::Unchanged } else { Outcome::Updated }
                        }
                        _ => Outcome::Unchanged,
                    }
                }
            };
            outcomes.push(outcome);
        }
        self.set_read(&read).await?;
        self.set_failing(&failing).await?;
        self.set_stamps(&stamps).await?;
        self.remove(&removed).await?;
        self.put(puts).await?;
        self.set_sizes(&sizes).await?;
        Ok(outcomes)
    }

    /// Whether the stored version is newer than one that was read by who defers.
    fn is_newer(&self, before: &Stored, found: &Found) -> bool {
        self.author.defers && before.stamp.is_some_and(|stamp| stamp.changed > found.stamp.changed)
    }

    fn is_same(&self, before: &Stored, found: &Found) -> bool {
        before.uid == found.product.uid
            && before.digest.as_deref() == Some(&found.digest[..])
            && before.generation == self.author.generation
    }

    /// The products of these folders.
    async fn stored(&mut self, folders: &[&Folder]) -> Result<HashMap<Folder, Stored>> {
        let folders: Vec<&str> = folders.iter().map(|folder| folder.as_str()).collect();
        let rows = sqlx::query(
            "SELECT id, uid, folder, size, measured, file_size, file_inode, file_modified, file_changed, digest, \
             generation FROM data_product WHERE volume_prefix = $1 AND folder = ANY($2)",
        )
        .bind(self.prefix)
        .bind(&folders)
        .fetch_all(&mut *self.connection)
        .await?;
        let stored = rows.iter().map(stored).collect::<Result<Vec<Stored>>>()?;
        Ok(stored.into_iter().filter_map(|stored| Some((stored.folder.clone()?, stored))).collect())
    }

    /// Takes files off the list of those that do not read.
    async fn set_read(&mut self, folders: &[&Folder]) -> Result<()> {
        let folders: Vec<&str> = folders.iter().map(|folder| folder.as_str()).collect();
        sqlx::query("DELETE FROM failing_file WHERE volume_prefix = $1 AND folder = ANY($2)")
            .bind(self.prefix)
            .bind(&folders)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn set_failing(&mut self, failing: &[(&Folder, &String, &String, Option<Stamp>)]) -> Result<()> {
        if failing.is_empty() {
            return Ok(());
        }
        let stamps = Stamps::of(failing.iter().map(|(.., stamp)| *stamp));
        sqlx::query(
            "INSERT INTO failing_file (volume_prefix, folder, path, error, file_size, file_inode, file_modified, \
             file_changed) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[]) \
             ON CONFLICT (volume_prefix, folder) DO UPDATE SET path = EXCLUDED.path, error = EXCLUDED.error, \
             file_size = EXCLUDED.file_size, file_inode = EXCLUDED.file_inode, \
             file_modified = EXCLUDED.file_modified, file_changed = EXCLUDED.file_changed",
        )
        .bind(self.prefix)
        .bind(failing.iter().map(|(folder, ..)| folder.as_str()).collect::<Vec<_>>())
        .bind(failing.iter().map(|(_, path, ..)| path.as_str()).collect::<Vec<_>>())
        .bind(failing.iter().map(|(_, _, error, _)| shown(error)).collect::<Vec<_>>())
        .bind(&stamps.size)
        .bind(&stamps.inode)
        .bind(&stamps.modified)
        .bind(&stamps.changed)
        .execute(&mut *self.connection)
        .await?;
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
             file_changed = n.changed FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
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

    async fn set_sizes(&mut self, sizes: &[(i64, Option<i64>)]) -> Result<()> {
        if sizes.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = sizes.iter().map(|(id, _)| *id).collect();
        let bytes: Vec<Option<i64>> = sizes.iter().map(|(_, bytes)| *bytes).collect();
        sqlx::query(
            "UPDATE data_product p SET size = n.size, measured = true \
             FROM unnest($1::bigint[], $2::bigint[]) n(id, size) WHERE p.id = n.id",
        )
        .bind(&ids)
        .bind(&bytes)
        .execute(&mut *self.connection)
        .await?;
        let size = self.keys.get("size");
        sqlx::query("DELETE FROM leaf WHERE product = ANY($1) AND key = $2")
            .bind(&ids)
            .bind(size)
            .execute(&mut *self.connection)
            .await?;
        let mut leaves = Leaves::default();
        for (id, bytes) in sizes {
            bytes.iter().for_each(|bytes| leaves.push(*id, size, &(*bytes).into()));
        }
        leaves.insert(self.connection).await
    }

    /// Removes products, with all that was counted and kept of them.
    async fn remove(&mut self, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.forget(ids).await?;
        sqlx::query("DELETE FROM data_product WHERE id = ANY($1)").bind(ids).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Takes away what was derived from products.
    async fn forget(&mut self, ids: &[i64]) -> Result<()> {
        let kept = self.kept(ids).await?;
        let keys = keys_of(kept.iter().map(|(product, _)| product));
        self.keys.add(self.connection, self.prefix, &keys).await?;
        let products: Vec<(&Product, i32)> = kept.iter().map(|(product, access)| (product, *access)).collect();
        self.count(&products, -1).await?;
        sqlx::query("DELETE FROM leaf WHERE product = ANY($1)").bind(ids).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Products as they are kept, and their access rules.
    async fn kept(&mut self, ids: &[i64]) -> Result<Vec<(Product, i32)>> {
        let sql = format!(
            "SELECT {}, p.access FROM data_product p JOIN document d ON d.product = p.id WHERE p.id = ANY($1)",
            read::HIT
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(&mut *self.connection).await?;
        rows.iter().map(|row| Ok(((*read::hit(row)?.product).clone(), row.try_get("access")?))).collect()
    }

    /// Counts products in or out.
    async fn count(&mut self, products: &[(&Product, i32)], step: i64) -> Result<()> {
        let mut rules: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        let mut keys: BTreeMap<(i32, i32), (i64, i64)> = BTreeMap::new();
        for (product, access) in products {
            let rule = rules.entry(*access).or_default();
            rule.0 += step;
            rule.1 += if product.folder.is_some() { step } else { 0 };
            for (key, number) in row::keys(product) {
                let count = keys.entry((*access, self.keys.get(&key))).or_default();
                count.0 += step;
                count.1 += if number { step } else { 0 };
            }
        }
        sqlx::query(
            "UPDATE access_rule r SET products = r.products + n.products, \
             products_on_volume = r.products_on_volume + n.on_volume \
             FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) n(id, products, on_volume) WHERE r.id = n.id",
        )
        .bind(rules.keys().copied().collect::<Vec<_>>())
        .bind(rules.values().map(|counts| counts.0).collect::<Vec<_>>())
        .bind(rules.values().map(|counts| counts.1).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        sqlx::query(
            "INSERT INTO key_count (access, key, products, numbers) \
             SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[], $4::bigint[]) \
             ON CONFLICT (access, key) DO UPDATE SET products = key_count.products + EXCLUDED.products, \
             numbers = key_count.numbers + EXCLUDED.numbers",
        )
        .bind(keys.keys().map(|(access, _)| *access).collect::<Vec<_>>())
        .bind(keys.keys().map(|(_, key)| *key).collect::<Vec<_>>())
        .bind(keys.values().map(|counts| counts.0).collect::<Vec<_>>())
        .bind(keys.values().map(|counts| counts.1).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Puts products in, in place of those of their uids.
    async fn put(&mut self, puts: Vec<Put<'_>>) -> Result<()> {
        let mut rest = puts.into_iter().map(|put| {
            let metadata = serde_json::Value::Object(put.product.metadata.clone()).to_string();
            (put, metadata)
        });
        let (mut part, mut bytes) = (Vec::new(), 0);
        loop {
            let next = rest.next();
            let is_last = next.is_none();
            if let Some((put, metadata)) = next {
                bytes += metadata.len();
                part.push((put, metadata));
            }
            if !part.is_empty() && (is_last || bytes >= STATEMENT_BYTES || part.len() >= STATEMENT_PRODUCTS) {
                self.put_part(&std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn put_part(&mut self, puts: &[(Put<'_>, String)]) -> Result<()> {
        let uids: Vec<Uuid> = puts.iter().map(|(put, _)| put.product.uid).collect();
        let replaced: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM data_product WHERE volume_prefix = $1 AND uid = ANY($2)")
                .bind(self.prefix)
                .bind(&uids)
                .fetch_all(&mut *self.connection)
                .await?;
        if !replaced.is_empty() {
            // They keep their numbers; what hangs on them is made anew.
            self.forget(&replaced).await?;
        }
        let ids = self.put_products(puts, &uids).await?;
        let id = |put: &Put<'_>| ids.get(&put.product.uid).copied().unwrap_or_default();
        sqlx::query(
            "INSERT INTO document (product, metadata) SELECT id, metadata::json FROM unnest($1::bigint[], $2::text[]) \
             n(id, metadata) ON CONFLICT (product) DO UPDATE SET metadata = EXCLUDED.metadata",
        )
        .bind(puts.iter().map(|(put, _)| id(put)).collect::<Vec<_>>())
        .bind(puts.iter().map(|(_, metadata)| metadata.as_str()).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        let mut leaves = Leaves::default();
        for (put, _) in puts {
            let size = put.size.and_then(|size| u64::try_from(size).ok());
            for Leaf { key, value } in row::leaves(put.product, size) {
                leaves.push(id(put), self.keys.get(&key), &value);
                if leaves.bytes >= STATEMENT_BYTES {
                    std::mem::take(&mut leaves).insert(self.connection).await?;
                }
            }
        }
        leaves.insert(self.connection).await?;
        let products: Vec<(&Product, i32)> = puts.iter().map(|(put, _)| (put.product, put.access)).collect();
        self.count(&products, 1).await
    }

    /// Writes the narrow rows, and answers their numbers by uid.
    async fn put_products(&mut self, puts: &[(Put<'_>, String)], uids: &[Uuid]) -> Result<HashMap<Uuid, i64>> {
        let products = || puts.iter().map(|(put, _)| put.product);
        let stamps = Stamps::of(puts.iter().map(|(put, _)| put.version.map(|(stamp, _)| stamp)));
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(
            "INSERT INTO data_product (volume_prefix, generation, epoch, uid, execution_block, date_created, folder, \
             metadata_file, store_name, access, size, measured, file_size, file_inode, file_modified, file_changed, \
             digest) \
             SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::text[], $6::date[], $7::text[], $8::text[], \
             $9::text[], $10::integer[], $11::bigint[], $12::boolean[], $13::bigint[], $14::bigint[], \
             $15::bigint[], $16::bigint[], $17::bytea[]) \
             ON CONFLICT (volume_prefix, uid) DO UPDATE SET generation = EXCLUDED.generation, \
             epoch = EXCLUDED.epoch, written_at = clock_timestamp(), execution_block = EXCLUDED.execution_block, \
             date_created = EXCLUDED.date_created, folder = EXCLUDED.folder, \
             metadata_file = EXCLUDED.metadata_file, store_name = EXCLUDED.store_name, access = EXCLUDED.access, \
             size = EXCLUDED.size, measured = EXCLUDED.measured, file_size = EXCLUDED.file_size, \
             file_inode = EXCLUDED.file_inode, file_modified = EXCLUDED.file_modified, \
             file_changed = EXCLUDED.file_changed, digest = EXCLUDED.digest RETURNING uid, id",
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
        .bind(puts.iter().map(|(put, _)| put.access).collect::<Vec<_>>())
        .bind(puts.iter().map(|(put, _)| put.size).collect::<Vec<_>>())
        .bind(puts.iter().map(|(put, _)| put.measured).collect::<Vec<_>>())
        .bind(&stamps.size)
        .bind(&stamps.inode)
        .bind(&stamps.modified)
        .bind(&stamps.changed)
        .bind(puts.iter().map(|(put, _)| put.version.map(|(_, digest)| digest.to_vec())).collect::<Vec<_>>())
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(rows.into_iter().collect())
    }
}

fn stored(row: &sqlx::postgres::PgRow) -> Result<Stored> {
    Ok(Stored {
        id: row.try_get("id")?,
        uid: row.try_get("uid")?,
        folder: row.try_get::<Option<&str>, _>("folder")?.and_then(|folder| folder.parse().ok()),
        size: row.try_get("size")?,
        measured: row.try_get("measured")?,
        stamp: read::stamp(row)?,
        digest: row.try_get("digest")?,
        generation: row.try_get("generation")?,
    })
}
