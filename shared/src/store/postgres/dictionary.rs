//! The numbers of what repeats: keys and access rules.

use super::history::HISTORY;
use super::text::{escaped, unescaped};
use crate::access::Access;
use crate::store::{Result, StoreError};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// What stands among the groups of the rule [`Access::Flows`]. No group's name is written so: in those a backslash is
/// followed by another, or by a zero.
pub(super) const FLOWS: &str = "\\flows";

/// The numbers of the keys that were met, so that they need not be asked for again, and in which history of the database.
#[derive(Debug, Default)]
pub(super) struct KeyIds {
    numbers: HashMap<String, i32>,
    history: Option<String>,
}

impl KeyIds {
    /// Whether what is remembered is of the history that a transaction sees; otherwise it is forgotten.
    pub(super) fn believe(&mut self, history: &str) -> bool {
        let believed = self.history.as_deref() == Some(history);
        if !believed {
            self.numbers.clear();
        }
        self.history = Some(history.to_owned());
        believed
    }

    /// Sees to it that these keys have numbers. They are looked up first: a row that is not put in takes a number of the
    /// sequence all the same, and those are not without end.
    pub(super) async fn add(
        &mut self,
        connection: &mut PgConnection,
        prefix: &str,
        keys: &BTreeSet<&str>,
    ) -> Result<()> {
        self.look_up(connection, prefix, &self.missing(keys)).await?;
        let missing = self.missing(keys);
        if missing.is_empty() {
            return Ok(());
        }
        let hashes: Vec<Vec<u8>> = missing.iter().map(|key| hash(key)).collect();
        let paths: Vec<_> = missing.iter().map(|key| escaped(key)).collect();
        sqlx::query(
            "INSERT INTO metadata_key (volume_prefix, hash, path) SELECT $1, * FROM unnest($2::bytea[], $3::text[]) \
             ON CONFLICT (volume_prefix, hash) DO NOTHING",
        )
        .bind(prefix)
        .bind(&hashes)
        .bind(&paths)
        .execute(&mut *connection)
        .await?;
        self.look_up(connection, prefix, &missing).await
    }

    fn missing<'a>(&self, keys: &BTreeSet<&'a str>) -> Vec<&'a str> {
        keys.iter().copied().filter(|key| !self.numbers.contains_key(*key)).collect()
    }

    /// Learns the numbers of those of these keys that have some, and the history where none is known yet: whether numbers
    /// still hold is found by what was so when the first were learnt.
    async fn look_up(&mut self, connection: &mut PgConnection, prefix: &str, keys: &[&str]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        if self.history.is_none() {
            let sql = format!("SELECT {HISTORY} FROM dpd_indexing_state s WHERE volume_prefix = $1");
            self.history = sqlx::query_scalar(AssertSqlSafe(sql)).bind(prefix).fetch_optional(&mut *connection).await?;
        }
        self.numbers.extend(numbers(connection, prefix, keys).await?);
        Ok(())
    }

    /// The number of a key that was [added](Self::add).
    pub(super) fn get(&self, key: &str) -> Result<i32> {
        let missing = || StoreError::Unavailable(format!("the key {key} has no number"));
        self.find(key).ok_or_else(missing)
    }

    /// The number of a key, where it was met.
    pub(super) fn find(&self, key: &str) -> Option<i32> {
        self.numbers.get(key).copied()
    }
}

/// The numbers of those of these keys that have some.
pub(super) async fn numbers(
    connection: &mut PgConnection,
    prefix: &str,
    keys: &[&str],
) -> Result<HashMap<String, i32>> {
    let hashes: Vec<Vec<u8>> = keys.iter().map(|key| hash(key)).collect();
    let ids = fetch(connection, "metadata_key", prefix, &hashes).await?;
    Ok(keys.iter().zip(&hashes).filter_map(|(key, hash)| Some(((*key).to_owned(), *ids.get(hash)?))).collect())
}

/// The numbers of access rules; they are made where they are missing.
pub(super) async fn rule_ids<'a>(
    connection: &mut PgConnection,
    prefix: &str,
    rules: impl IntoIterator<Item = &'a Access>,
) -> Result<BTreeMap<&'a Access, i32>> {
    let rules: BTreeSet<&Access> = rules.into_iter().collect();
    if rules.is_empty() {
        return Ok(BTreeMap::new());
    }
    let hashes: Vec<Vec<u8>> = rules.iter().map(|rule| rule_hash(rule)).collect();
    for (rule, hash) in rules.iter().zip(&hashes) {
        let groups: Option<Vec<_>> = match rule {
            Access::Public => None,
            Access::Groups(groups) => Some(groups.iter().map(|group| escaped(group)).collect()),
            Access::Flows => Some(vec![FLOWS.into()]),
        };
        sqlx::query(
            "INSERT INTO access_rule (volume_prefix, hash, groups) SELECT $1, $2, $3 WHERE NOT EXISTS \
             (SELECT FROM access_rule WHERE volume_prefix = $1 AND hash = $2) \
             ON CONFLICT (volume_prefix, hash) DO NOTHING",
        )
        .bind(prefix)
        .bind(hash)
        .bind(groups)
        .execute(&mut *connection)
        .await?;
    }
    let ids = fetch(connection, "access_rule", prefix, &hashes).await?;
    Ok(rules.into_iter().zip(&hashes).filter_map(|(rule, hash)| Some((rule, *ids.get(hash)?))).collect())
}

fn rule_hash(rule: &Access) -> Vec<u8> {
    match rule {
        Access::Public => hash(""),
        // Written as JSON, different sets are different texts, none of them empty.
        Access::Groups(groups) => hash(&serde_json::json!(groups).to_string()),
        Access::Flows => hash(FLOWS),
    }
}

/// What guards the product of a uid; `None` where there is none.
pub(super) async fn guard_of(connection: &mut PgConnection, prefix: &str, uid: Uuid) -> Result<Option<Access>> {
    let groups: Option<Option<Vec<String>>> = sqlx::query_scalar(
        "SELECT r.groups FROM data_product p JOIN access_rule r ON r.id = p.access \
         WHERE p.volume_prefix = $1 AND p.uid = $2",
    )
    .bind(prefix)
    .bind(uid)
    .fetch_optional(connection)
    .await?;
    Ok(groups.map(|groups| match groups {
        None => Access::Public,
        Some(groups) if groups == [FLOWS] => Access::Flows,
        Some(groups) => Access::Groups(groups.iter().map(|group| unescaped(group)).collect()),
    }))
}

async fn fetch(
    connection: &mut PgConnection,
    table: &'static str,
    prefix: &str,
    hashes: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, i32>> {
    let sql = format!("SELECT hash, id FROM {table} WHERE volume_prefix = $1 AND hash = ANY($2)");
    let rows: Vec<(Vec<u8>, i32)> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(prefix).bind(hashes).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}
