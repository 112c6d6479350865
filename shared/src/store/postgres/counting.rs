//! What is counted as products come and go: how many each access rule guards, and how many have values under which keys.

use super::plan::{self, Derived, Put};
use super::read;
use super::salvage::{self, By};
use super::write::Writer;
use crate::product::Product;
use crate::store::Result;
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::warn;

impl Writer<'_> {
    /// Takes products out of what is counted.
    pub(super) async fn count_out(&mut self, ids: &[i64]) -> Result<()> {
        let kept = self.kept(ids).await?;
        let counted: Vec<CountedProduct<'_>> = kept.iter().map(Kept::counted).collect();
        let keys = plan::keys(counted.iter().filter_map(|counted| counted.derived.as_deref()));
        self.keys.add(self.connection, self.prefix, &keys).await?;
        self.count(&counted, -1).await
    }

    /// Products as they are kept.
    async fn kept(&mut self, ids: &[i64]) -> Result<Vec<Kept>> {
        let rows = salvage::readable(self.connection, By::Id, ids, None).await?;
        let mut all: Vec<Kept> = rows.iter().map(kept).collect::<Result<_>>()?;
        if rows.len() < ids.len() {
            let read: Vec<i64> = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<_>>()?;
            let unread = sqlx::query_as(
                "SELECT access, folder IS NOT NULL FROM data_product WHERE id = ANY($1) AND id <> ALL($2)",
            );
            let unread: Vec<(i32, bool)> = unread.bind(ids).bind(&read).fetch_all(&mut *self.connection).await?;
            all.extend(unread.into_iter().map(|(access, on_volume)| Kept { access, on_volume, product: None }));
        }
        Ok(all)
    }

    /// Counts products of access rules in or out.
    pub(super) async fn count(&mut self, products: &[CountedProduct<'_>], step: i64) -> Result<()> {
        let mut rules: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        let mut keys: BTreeMap<(i32, i32), (i64, i64)> = BTreeMap::new();
        for CountedProduct { access, on_volume, derived } in products {
            let rule = rules.entry(*access).or_default();
            rule.0 += step;
            rule.1 += if *on_volume { step } else { 0 };
            for (key, number) in derived.iter().flat_map(|derived| &derived.keys) {
                let count = keys.entry((*access, self.keys.get(key)?)).or_default();
                count.0 += step;
                count.1 += if *number { step } else { 0 };
            }
        }
        sqlx::query(
            "UPDATE access_rule r SET products = r.products + n.products, \
             products_on_volume = r.products_on_volume + n.on_volume, updated_at = clock_timestamp() \
             FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) n(id, products, on_volume) WHERE r.id = n.id",
        )
        .bind(rules.keys().copied().collect::<Vec<_>>())
        .bind(rules.values().map(|counts| counts.0).collect::<Vec<_>>())
        .bind(rules.values().map(|counts| counts.1).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        self.count_keys(&keys).await
    }

    /// Adds to how many products of access rules have values, and numbers, under keys.
    pub(super) async fn count_keys(&mut self, keys: &BTreeMap<(i32, i32), (i64, i64)>) -> Result<()> {
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
}

/// A product that is counted.
pub(super) struct CountedProduct<'a> {
    access: i32,
    on_volume: bool,
    derived: Option<Cow<'a, Derived<'a>>>,
}

impl<'a> CountedProduct<'a> {
    pub(super) fn in_with(put: &Put<'a>) -> CountedProduct<'a> {
        let on_volume = put.derived.product.folder.is_some();
        CountedProduct { access: put.access, on_volume, derived: Some(Cow::Borrowed(put.derived)) }
    }
}

/// A product as it is kept; without its metadata where that does not read.
struct Kept {
    access: i32,
    on_volume: bool,
    product: Option<Arc<Product>>,
}

impl Kept {
    fn counted(&self) -> CountedProduct<'_> {
        let Kept { access, on_volume, .. } = *self;
        let derived = self.product.as_ref().map(|product| Cow::Owned(Derived::from(product)));
        CountedProduct { access, on_volume, derived }
    }
}

fn kept(row: &PgRow) -> Result<Kept> {
    let product = match read::hit(row) {
        Ok(hit) => Some(hit.product),
        Err(error) => {
            let id: i64 = row.try_get("id")?;
            warn!(id, %error, "what a product had is not known, so its keys stay counted");
            None
        }
    };
    let on_volume = row.try_get::<Option<&str>, _>("folder")?.is_some();
    Ok(Kept { access: row.try_get("access")?, on_volume, product })
}
