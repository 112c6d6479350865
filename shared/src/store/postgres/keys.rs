//! Keys by their numbers, as far as a query speaks of them.

use super::text::{escaped, unescaped};
use crate::filter::{Filter, Key};
use crate::query::Query;
use crate::segment;
use crate::store::Result;
use sqlx::PgConnection;

/// The keys that occur, those of them that a query speaks of.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(i32, String)>);

impl Keys {
    /// Looks up the keys that a query speaks of.
    pub(super) async fn of(connection: &mut PgConnection, prefix: &str, query: &Query) -> Result<Keys> {
        let mut keys = Vec::new();
        named(&query.filter, &mut keys);
        query.first.iter().for_each(|first| named(first, &mut keys));
        keys.extend(query.sort.iter().map(|sort| Key::Path(sort.field.clone())));
        if keys.is_empty() {
            return Ok(Keys::default());
        }
        let (mut paths, mut endings) = (Vec::new(), Vec::new());
        for key in &keys {
            match key {
                Key::Path(path) => paths.push(escaped(path)),
                Key::Ending(path) => endings.push(escaped(path)),
                Key::Every => {}
            }
        }
        let found: Vec<(i32, String)> = sqlx::query_as(
            "SELECT id, path FROM metadata_key WHERE volume_prefix = $1 AND (\
             EXISTS (SELECT FROM unnest($2::text[]) k WHERE path = k OR starts_with(path, k || '.')) OR \
             EXISTS (SELECT FROM unnest($3::text[]) k WHERE position('.' || k || '.' IN '.' || path || '.') > 0))",
        )
        .bind(prefix)
        .bind(&paths)
        .bind(&endings)
        .fetch_all(connection)
        .await?;
        Ok(Keys(found.into_iter().map(|(id, path)| (id, unescaped(&path))).collect()))
    }

    /// The numbers of those that a key picks.
    pub(super) fn picked(&self, key: &Key) -> segment::Keys {
        match key {
            Key::Every => segment::Keys::All,
            key => segment::Keys::These(self.0.iter().filter(|(_, path)| key.picks(path)).map(|(id, _)| *id).collect()),
        }
    }
}

/// The keys in a filter, but for the one that picks all.
fn named(filter: &Filter, keys: &mut Vec<Key>) {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| named(filter, keys)),
        Filter::Not(filter) => named(filter, keys),
        Filter::Any(Key::Every, _) => {}
        Filter::Any(key, _) => keys.push(key.clone()),
    }
}
