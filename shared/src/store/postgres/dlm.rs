//! The table of the Data Lifecycle Manager, which is in the same database and another team's: it is only read, and by one
//! process only. What it shows is compared with what was read of it before (`dlm_item`) inside the database, so that no
//! more than the changes cross over, and no request ever asks for it.

use super::{PostgresStore, allow};
use crate::config::DlmSettings;
use crate::dlm::DataItem;
use crate::status::Dlm;
use crate::store::{Result, StoreError};
use crate::yaml::MAX_BYTES;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::time::Duration;
use uuid::Uuid;

/// How long comparing or reading may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for somebody's lock on the table.
const LOCK: &str = "2s";

/// Columns that are shown where they are there and may be read.
const OPTIONAL: [&str; 3] = ["item_version", "oid", "storage_id"];
/// The condition that metadata `i` could make a product: every item has some, and most have no execution block.
const COULD_BE_PRODUCT: &str = "CASE jsonb_typeof(i.metadata) WHEN 'object' THEN i.metadata ? 'execution_block' \
     WHEN 'null' THEN false ELSE true END";

/// What tells versions of the table apart without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Moves when the table changes, with some delay.
    text: String,
    /// Whether rows tell their version themselves.
    versioned: bool,
    /// Those of the [`OPTIONAL`] columns that can be read.
    optional: Vec<String>,
}

/// How the table stands to what was read of it.
#[derive(Debug, Default)]
pub struct Difference {
    /// All its rows.
    pub items: u64,
    /// Items to be read, and about how many bytes each has.
    pub changed: Vec<(Uuid, u64)>,
    /// Items that were read and are gone, or whose metadata could be no product's any more.
    pub gone: Vec<Uuid>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items that are products.
    pub products: u64,
    /// Items that are none, though their metadata looks like one's.
    pub passed_over: u64,
    /// The first of them, and why it is none.
    pub first: Option<String>,
}

/// An item that was read, in which version.
#[derive(Debug)]
pub struct Read {
    /// Which item.
    pub uid: Uuid,
    /// For the next comparison.
    pub version: String,
    /// What it has, or why that cannot be read.
    pub item: std::result::Result<DataItem, String>,
}

impl PostgresStore {
    /// Looks whether the table may have changed, in the catalogues alone.
    ///
    /// # Errors
    /// Where it is not there, or the database cannot be used.
    pub async fn dlm_signature(&self, table: &DlmSettings) -> Result<Signature> {
        let work = async {
            let mut session = self.database.session().await?;
            let row = sqlx::query(
                "SELECT concat_ws(' ', c.oid, pg_relation_filenode(c.oid), c.relacl, n.nspacl, \
                 pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid), \
                 pg_stat_get_tuples_deleted(c.oid), (SELECT string_agg(concat(a.attname, a.atttypid, a.attacl), ',' \
                 ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped)) AS text, \
                 c.relkind IN ('r', 'p', 'm') AND has_table_privilege(c.oid, 'SELECT') AS versioned, \
                 ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped \
                 AND a.attname = ANY($3) AND has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY 1) AS optional \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            )
            .bind(&table.schema)
            .bind(&table.table)
            .bind(OPTIONAL)
            .fetch_optional(&mut *session)
            .await?;
            // What is not there is no fault of the connection.
            session.settle(Ok(()))?;
            let missing = || StoreError::Unavailable(format!("there is no table {}.{}", table.schema, table.table));
            let row = row.ok_or_else(missing)?;
            Ok(Signature {
                text: row.try_get("text")?,
                versioned: row.try_get("versioned")?,
                optional: row.try_get("optional")?,
            })
        };
        self.database.bounded(work).await
    }

    /// Compares the table with what was read of it. Without a table everything that was read is gone.
    ///
    /// # Errors
    /// Where the table cannot be read, or the database cannot be used.
    pub async fn dlm_difference(&self, table: Option<(&DlmSettings, &Signature)>) -> Result<Difference> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let prefix = prefix.as_str();
            let mut transaction = session.begin().await?;
            allow(&mut transaction, LIMIT).await?;
            let difference = difference(&mut transaction, prefix, self.generation(), table).await;
            transaction.rollback().await?;
            session.settle(Ok(()))?;
            difference
        };
        self.database.bounded_by(LIMIT, work).await
    }

    /// Reads items. Of those that are not there any more nothing is answered, and one that the database cannot hand out
    /// holds up no other.
    ///
    /// # Errors
    /// Where the table cannot be read, or the database cannot be used.
    pub async fn dlm_read(&self, table: &DlmSettings, signature: &Signature, uids: &[Uuid]) -> Result<Vec<Read>> {
        let (mut items, mut parts) = (Vec::new(), vec![uids]);
        while let Some(part) = parts.pop() {
            match self.dlm_part(table, signature, part, None).await {
                Ok(read) => items.extend(read),
                Err(StoreError::Refused(_)) if part.len() > 1 => {
                    let (front, back) = part.split_at(part.len() / 2);
                    parts.extend([back, front]);
                }
                Err(StoreError::Refused(why)) => {
                    let why = format!("the database cannot hand it out: {why}");
                    items.extend(self.dlm_part(table, signature, part, Some(&why)).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(items)
    }

    /// Reads items, or where it is told why they cannot be read their versions alone.
    async fn dlm_part(
        &self,
        table: &DlmSettings,
        signature: &Signature,
        uids: &[Uuid],
        unreadable: Option<&str>,
    ) -> Result<Vec<Read>> {
        let work = async {
            let mut session = self.database.session().await?;
            let mut transaction = session.begin().await?;
            allow(&mut transaction, LIMIT).await?;
            let items = match unreadable {
                None => read(&mut transaction, self.generation(), table, signature, uids).await,
                Some(why) => versions(&mut transaction, self.generation(), table, signature, uids, why).await,
            };
            transaction.rollback().await?;
            session.settle(Ok(()))?;
            items
        };
        self.database.bounded_by(LIMIT, work).await
    }

    /// How the table was followed, as it was published last.
    ///
    /// # Errors
    /// Where the database cannot be used.
    pub async fn dlm_published(&self) -> Result<Option<Dlm>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let published: std::result::Result<Option<Json<Dlm>>, _> =
                sqlx::query_scalar("SELECT dlm FROM dpd_indexing_state WHERE volume_prefix = $1")
                    .bind(prefix.as_str())
                    .fetch_one(&mut *session)
                    .await;
            session.settle(published.map(|dlm| dlm.map(|Json(dlm)| dlm)).map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }

    /// Counts what was read.
    ///
    /// # Errors
    /// Where the database cannot be used.
    pub async fn dlm_counts(&self) -> Result<Counts> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let prefix = prefix.as_str();
            let counts: std::result::Result<(i64, i64, Option<String>), _> = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE error IS NULL), count(error), \
                 min(concat(uid, ': ', error)) FILTER (WHERE error IS NOT NULL) FROM dlm_item WHERE volume_prefix = $1",
            )
            .bind(prefix)
            .fetch_one(&mut *session)
            .await;
            let count = |n| u64::try_from(n).unwrap_or_default();
            let counts = counts.map(|(products, passed_over, first)| Counts {
                products: count(products),
                passed_over: count(passed_over),
                first,
            });
            session.settle(counts.map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }
}

/// The statement that answers the items of the table that carry metadata, in versions that tell what is read of them and,
/// where rows have one, their own transaction's number, or else a hash of it all.
fn items(table: &DlmSettings, signature: &Signature) -> String {
    let column = |name: &str| {
        let there = signature.optional.iter().any(|own| own == name);
        if there { format!("d.{name}::text") } else { "NULL::text".to_owned() }
    };
    let [item_version, oid, storage] = OPTIONAL.map(column);
    let version = if signature.versioned {
        "d.xmin".to_owned()
    } else {
        let all = "d.metadata, d.item_name, d.item_state, d.uri, d.item_size";
        format!("md5(concat_ws(' ', {all}, {item_version}, {oid}, {storage}))")
    };
    let (DlmSettings { schema, table, .. }, optional) = (table, signature.optional.join(","));
    format!(
        "SELECT d.uid, concat('{optional}:', {version}) AS version, d.metadata, d.item_name, \
         d.item_state::text AS item_state, d.uri, {oid} AS oid, {item_version} AS item_version, \
         {storage} AS storage_id, d.item_size::text AS item_size FROM \"{schema}\".\"{table}\" d \
         WHERE d.uid IS NOT NULL AND d.metadata IS NOT NULL AND d.deleted IS NOT TRUE \
         AND d.item_state::text IS DISTINCT FROM 'DELETED'"
    )
}

async fn wait_shortly(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(LOCK).execute(connection).await?;
    Ok(())
}

async fn difference(
    connection: &mut PgConnection,
    prefix: &str,
    generation: i32,
    table: Option<(&DlmSettings, &Signature)>,
) -> Result<Difference> {
    wait_shortly(connection).await?;
    let mut difference = Difference::default();
    let Some((table, signature)) = table else {
        difference.gone = sqlx::query_scalar("SELECT uid FROM dlm_item WHERE volume_prefix = $1")
            .bind(prefix)
            .fetch_all(connection)
            .await?;
        return Ok(difference);
    };
    // Metadata is looked into only where the version is none that was read.
    let sql = format!(
        "SELECT coalesce(i.uid, o.uid) AS uid, i.uid IS NOT NULL AND {COULD_BE_PRODUCT} AS there, \
         pg_column_size(i.metadata)::bigint AS size \
         FROM ({}) i FULL JOIN (SELECT uid, version FROM dlm_item WHERE volume_prefix = $1) o USING (uid) \
         WHERE CASE WHEN i.uid IS NULL THEN true WHEN o.version = concat($2::integer, ':', i.version) THEN false \
         ELSE o.uid IS NOT NULL OR {COULD_BE_PRODUCT} END",
        items(table, signature)
    );
    let rows: Vec<(Uuid, bool, Option<i64>)> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(prefix).bind(generation).fetch_all(&mut *connection).await?;
    for (uid, there, size) in rows {
        if there {
            difference.changed.push((uid, size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()));
        } else {
            difference.gone.push(uid);
        }
    }
    let sql = format!("SELECT count(*) FROM \"{}\".\"{}\"", table.schema, table.table);
    let items: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
    difference.items = u64::try_from(items).unwrap_or_default();
    Ok(difference)
}

async fn read(
    connection: &mut PgConnection,
    generation: i32,
    table: &DlmSettings,
    signature: &Signature,
    uids: &[Uuid],
) -> Result<Vec<Read>> {
    wait_shortly(connection).await?;
    let sql = format!(
        "SELECT uid, concat($2::integer, ':', version) AS version, item_name, item_state, uri, oid, item_version, \
         storage_id, item_size, CASE WHEN octet_length(metadata::text) < {MAX_BYTES} THEN metadata::text END AS metadata \
         FROM ({} AND d.uid = ANY($1)) i WHERE {COULD_BE_PRODUCT}",
        items(table, signature)
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(uids).bind(generation).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let uid = row.try_get("uid")?;
            let (metadata, size): (Option<String>, Option<String>) =
                (row.try_get("metadata")?, row.try_get("item_size")?);
            let item = match (metadata, size.as_deref().map(str::parse).transpose()) {
                (None, _) => Err("the metadata is larger than 16 MiB".to_owned()),
                (_, Err(_)) => Err(format!("its size of {} bytes is out of range", size.unwrap_or_default())),
                (Some(metadata), Ok(size)) => Ok(DataItem {
                    uid,
                    metadata,
                    name: row.try_get("item_name")?,
                    state: row.try_get("item_state")?,
                    uri: row.try_get("uri")?,
                    oid: row.try_get("oid")?,
                    version: row.try_get("item_version")?,
                    storage: row.try_get("storage_id")?,
                    size,
                }),
            };
            Ok(Read { uid, version: row.try_get("version")?, item })
        })
        .collect()
}

async fn versions(
    connection: &mut PgConnection,
    generation: i32,
    table: &DlmSettings,
    signature: &Signature,
    uids: &[Uuid],
    why: &str,
) -> Result<Vec<Read>> {
    wait_shortly(connection).await?;
    let sql = format!(
        "SELECT uid, concat($2::integer, ':', version) FROM ({} AND d.uid = ANY($1)) i",
        items(table, signature)
    );
    let versions: Vec<(Uuid, String)> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(uids).bind(generation).fetch_all(connection).await?;
    Ok(versions.into_iter().map(|(uid, version)| Read { uid, version, item: Err(why.to_owned()) }).collect())
}
