//! The tables of the service before this one, which are others': they are found by the names that its releases gave them,
//! and only ever read.
//!
//! Nothing in them is believed. Only tables are read, and of these only columns of PostgreSQL's own types, so that no code
//! of others runs as this program's role.

use super::PostgresStore;
use crate::annotation::TEXT_LIMIT;
use crate::annotation::old::{Cell, NAME_LIMIT, Row as OldRow};
use crate::store::{Result, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use std::fmt;

/// What the releases called the table of annotations, as a pattern: 0.12 and 0.13, 0.14 to 0.16, 0.17 and on.
const ANNOTATIONS: &str =
    "^(data_products_annotations_v[0-9]+|dpd_annotations_[a-z0-9_]+|dpd_[0-9a-f]{12}_?annotations?[a-z0-9_]*)$";
/// What they called the table of metadata.
const METADATA: &str =
    "^(data_products_metadata_v[0-9]+|dpd_metadata_[a-z0-9_]+|dpd_[0-9a-f]{12}_?metadata[a-z0-9_]*)$";

/// Which of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldKind {
    /// Texts that people added to products.
    Annotations,
    /// What it knew of products.
    Metadata,
}

/// A column that is read, the types that it may have, and whether it must be there.
type Column = (&'static str, &'static [&'static str], bool);

/// What the first releases called columns that were renamed since.
const FORMER: [(&str, &str); 1] = [("uid", "uuid")];

const WHOLE: &[&str] = &["int2", "int4", "int8"];
const TEXT: &[&str] = &["text", "varchar", "bpchar"];
const UID: &[&str] = &["text", "varchar", "bpchar", "uuid"];
const TIME: &[&str] = &["timestamp", "timestamptz"];

impl OldKind {
    fn pattern(self) -> &'static str {
        match self {
            OldKind::Annotations => ANNOTATIONS,
            OldKind::Metadata => METADATA,
        }
    }

    /// For people.
    fn word(self) -> &'static str {
        match self {
            OldKind::Annotations => "annotations",
            OldKind::Metadata => "metadata",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            OldKind::Annotations => &[
                ("id", WHOLE, true),
                ("uid", UID, true),
                ("annotation_text", TEXT, true),
                ("user_principal_name", TEXT, false),
                ("timestamp_created", TIME, false),
                ("timestamp_modified", TIME, false),
            ],
            OldKind::Metadata => {
                &[("uid", UID, true), ("execution_block", TEXT, true), ("data", &["json", "jsonb"], true)]
            }
        }
    }
}

/// One of its tables that can be read.
#[derive(Debug, Clone)]
pub struct OldTable {
    schema: String,
    name: String,
    oid: i64,
    /// The role that it is, by number.
    owner: i64,
    /// The columns that there are and their types, by what they are called in later releases.
    columns: HashMap<&'static str, (&'static str, String)>,
}

impl fmt::Display for OldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Which time zone the times of a table are of that have none, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceZone {
    /// Its name, as PostgreSQL knows it.
    pub name: String,
    /// Where it is from, for people.
    pub from: &'static str,
    /// Whether somebody said it.
    pub is_given: bool,
    /// Whether it is no more than likely.
    pub is_guessed: bool,
}

impl SourceZone {
    fn found(name: String, from: &'static str) -> SourceZone {
        SourceZone { name, from, is_given: false, is_guessed: false }
    }
}

fn unusable(why: impl Into<String>) -> StoreError {
    StoreError::Unusable(why.into())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl PostgresStore {
    /// The tables of a kind: the one that is named as `SCHEMA.TABLE`, or those of one schema that have one of the names that
    /// the releases gave them, the newest release's first. Tables of other volumes are left out.
    ///
    /// # Errors
    /// Where there is none, none that can be read, or one is not as it should be; and where several schemas have some.
    pub async fn old_tables(&self, kind: OldKind, named: Option<&str>) -> Result<Vec<OldTable>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let tables = find(&mut session, &prefix, kind, named).await;
            session.settle(Ok(()))?;
            tables
        };
        self.database.bounded(work).await
    }

    /// The time zone of a table's times: the one that is given, or the one that its owner's sessions have.
    ///
    /// # Errors
    /// Where PostgreSQL knows no such zone.
    pub async fn source_zone(&self, table: &OldTable, given: Option<&str>) -> Result<SourceZone> {
        let work = async {
            let mut session = self.database.session().await?;
            let zone = zone(&mut session, table, given).await;
            session.settle(Ok(()))?;
            zone
        };
        self.database.bounded(work).await
    }
}

async fn find(
    connection: &mut PgConnection,
    prefix: &str,
    kind: OldKind,
    named: Option<&str>,
) -> Result<Vec<OldTable>> {
    let word = kind.word();
    let (schema, name) = match named.map(|named| named.split_once('.')) {
        None => (None, None),
        Some(Some((schema, name))) if !schema.is_empty() && !name.is_empty() => (Some(schema), Some(name)),
        Some(_) => return Err(unusable(format!("'{}' is no SCHEMA.TABLE", named.unwrap_or_default()))),
    };
    let rows = sqlx::query(
        "SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::bigint AS oid, c.relowner::bigint AS owner, \
         c.relkind IN ('r', 'p') AS is_table, \
         has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE \
         CASE WHEN $1::text IS NULL THEN c.relkind IN ('r', 'p') AND c.relname ~ $3 AND n.nspname !~ '^pg_' \
         ELSE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') END \
         ORDER BY c.relname !~ '^dpd_[0-9a-f]{12}', c.relname !~ '^dpd_', c.relname DESC",
    )
    .bind(schema)
    .bind(name)
    .bind(kind.pattern())
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = Vec::new();
    let mut closed = Vec::new();
    for row in &rows {
        let table = OldTable {
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            oid: row.try_get("oid")?,
            owner: row.try_get("owner")?,
            columns: HashMap::new(),
        };
        if named.is_none() && is_of_another_volume(&table.name, prefix) {
            continue;
        }
        if !row.try_get::<bool, _>("is_table")? {
            return Err(unusable(format!("{table} is no table: name the table that it shows")));
        }
        if row.try_get("readable")? { tables.push(table) } else { closed.push(table.to_string()) }
    }
    if tables.is_empty() {
        return Err(unusable(match (closed.is_empty(), named) {
            (true, Some(named)) => format!("there is no table {named} in this database"),
            (true, None) => format!(
                "no table of the old service's {word} is in this database by any of the names that its releases gave it: say \
                 which it is as SCHEMA.TABLE"
            ),
            (false, _) => format!(
                "{} may not be read: let its owner GRANT USAGE ON SCHEMA and GRANT SELECT ON it to this program's role",
                closed.join(", ")
            ),
        }));
    }
    let schemas: std::collections::BTreeSet<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    if schemas.len() > 1 {
        let all: Vec<String> = tables.iter().map(ToString::to_string).collect();
        return Err(unusable(format!(
            "tables of the old service's {word} are in several schemas, and they may be of several installations: say which is \
             meant, of {}",
            all.join(", ")
        )));
    }
    for table in &mut tables {
        table.columns = columns(connection, table, kind).await?;
    }
    Ok(tables)
}

/// Whether a name begins with another volume's prefix.
fn is_of_another_volume(name: &str, prefix: &str) -> bool {
    let digits = name.strip_prefix("dpd_").and_then(|rest| rest.get(..12));
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) && !name.starts_with(prefix)
}

/// A table's columns, where they are such as can be read.
async fn columns(
    connection: &mut PgConnection,
    table: &OldTable,
    kind: OldKind,
) -> Result<HashMap<&'static str, (&'static str, String)>> {
    let rows: Vec<(String, Option<String>, String)> = sqlx::query_as(
        "SELECT a.attname::text, t.typname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
         LEFT JOIN pg_type t ON t.oid = a.atttypid AND t.typnamespace = 'pg_catalog'::regnamespace \
         WHERE a.attrelid::bigint = $1 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(table.oid)
    .fetch_all(connection)
    .await?;
    let mut columns = HashMap::new();
    for &(column, allowed, needed) in kind.columns() {
        let former = FORMER.into_iter().find(|(now, _)| *now == column).map(|(_, former)| former);
        let names = [Some(column), former].into_iter().flatten();
        let found = names.filter_map(|name| Some((name, rows.iter().find(|(own, ..)| own == name)?))).next();
        match found {
            None if needed => {
                return Err(unusable(format!("{table} has no column {column}, so it is no table of {}", kind.word())));
            }
            None => {}
            Some((name, (_, Some(own), _))) if allowed.contains(&own.as_str()) => {
                columns.insert(column, (name, own.clone()));
            }
            Some((name, (.., shown))) => {
                let allowed = allowed.join(", ");
                return Err(unusable(format!(
                    "{table}: the column {name} is of the type {shown}, and can be read as {allowed} alone"
                )));
            }
        }
    }
    Ok(columns)
}

async fn zone(connection: &mut PgConnection, table: &OldTable, given: Option<&str>) -> Result<SourceZone> {
    if let Some(given) = given {
        let name: Option<String> =
            sqlx::query_scalar("SELECT name FROM pg_timezone_names WHERE lower(name) = lower($1) LIMIT 1")
                .bind(given)
                .fetch_optional(&mut *connection)
                .await?;
        let found = |name| SourceZone { is_given: true, ..SourceZone::found(name, "as given") };
        return name.map(found).ok_or_else(|| {
            unusable(format!(
                "--source-timezone: PostgreSQL knows no time zone '{given}'; its names are in pg_timezone_names, such as \
                 Europe/London or UTC"
            ))
        });
    }
    // Sessions of ours are in UTC, as the library that makes them asks for, so that they cannot be asked.
    let set: Option<String> = sqlx::query_scalar(
        "SELECT substr(s, strpos(s, '=') + 1) FROM pg_db_role_setting d, unnest(d.setconfig) s \
         WHERE lower(s) LIKE 'timezone=%' AND d.setrole::bigint IN (0, $1) \
         AND d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
         ORDER BY d.setrole <> 0 AND d.setdatabase <> 0 DESC, d.setrole <> 0 DESC, d.setdatabase <> 0 DESC LIMIT 1",
    )
    .bind(table.owner)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(name) = set {
        return Ok(SourceZone::found(name, "as the database or the table's owner has it set"));
    }
    // What a server is told when it is started wins over what is written, and both are told to few.
    for (function, sql, from) in [
        (
            "pg_read_file(text, bigint, bigint, boolean)",
            "SELECT (regexp_match(pg_read_file('postmaster.opts', 0, 65536, true), '[\" ]timezone=([^\" ]+)', 'i'))[1]",
            "as the server was started with",
        ),
        (
            "pg_show_all_file_settings()",
            "SELECT setting FROM pg_file_settings WHERE lower(name) = 'timezone' AND applied ORDER BY seqno DESC LIMIT 1",
            "as the server's configuration has it",
        ),
    ] {
        let may: bool = sqlx::query_scalar("SELECT has_function_privilege($1, 'EXECUTE')")
            .bind(function)
            .fetch_one(&mut *connection)
            .await?;
        let found: Option<Option<String>> =
            if may { sqlx::query_scalar(sql).fetch_optional(&mut *connection).await? } else { None };
        if let Some(name) = found.flatten() {
            return Ok(SourceZone::found(name, from));
        }
    }
    let name = sqlx::query_scalar("SHOW log_timezone").fetch_one(connection).await?;
    let likely = SourceZone::found(name, "as the server's log has it, since its configuration may not be read");
    Ok(SourceZone { is_guessed: true, ..likely })
}

impl OldTable {
    fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// What a column is called, as later releases call it, and its type.
    fn column(&self, name: &str) -> Option<(&str, &str)> {
        self.columns.get(name).map(|(own, kind)| (*own, kind.as_str()))
    }

    /// The text of a column, as bytes: in a database without an encoding it may be anything.
    fn cell(&self, name: &str, limit: usize) -> String {
        let Some((own, _)) = self.column(name) else {
            return format!("NULL::bigint AS {name}_length, NULL::bytea AS {name}");
        };
        format!(
            "octet_length(o.{own}::text)::bigint AS {name}_length, CASE WHEN octet_length(o.{own}::text) <= {limit} \
             THEN convert_to(o.{own}::text, 'SQL_ASCII') END AS {name}"
        )
    }

    /// A time of a column. What is infinite, or of no year that people write, is none.
    fn time(&self, name: &str, zone: &SourceZone) -> String {
        let zone = zone.name.replace('\'', "''");
        let (own, value) = match self.column(name) {
            None => return format!("NULL::timestamptz AS {name}"),
            Some((own, "timestamp")) => (own, format!("o.{own} AT TIME ZONE '{zone}'")),
            Some((own, _)) => (own, format!("o.{own}")),
        };
        format!("CASE WHEN o.{own} >= '0001-01-02' AND o.{own} < '9999-12-31' THEN {value} END AS {name}")
    }

    /// The statement that answers its annotations.
    pub(super) fn annotations(&self, zone: &SourceZone) -> String {
        format!(
            "SELECT o.id::bigint AS id, {}, {}, {}, {}, {} FROM {} o ORDER BY o.id",
            self.cell("uid", NAME_LIMIT),
            self.cell("annotation_text", TEXT_LIMIT),
            self.cell("user_principal_name", NAME_LIMIT),
            self.time("timestamp_created", zone),
            self.time("timestamp_modified", zone),
            self.quoted(),
        )
    }

    /// The statement that answers how many rows it has, and its greatest number up to the one that is given.
    pub(super) fn extent(&self) -> String {
        format!("SELECT count(*), max(o.id::bigint) FILTER (WHERE o.id <= $1) FROM {} o", self.quoted())
    }

    /// The statement that answers the metadata of products that nothing on the volume stands behind: their uids tell.
    pub(super) fn ingested(&self, limit: usize) -> String {
        let uid = self.column("uid").map_or("uid", |(own, _)| own);
        format!(
            "SELECT CASE WHEN octet_length(o.data::text) <= {limit} THEN convert_to(o.data::text, 'SQL_ASCII') END AS data \
             FROM {} o WHERE lower(replace(trim(o.{uid}::text), '-', '')) = \
             substr(encode(sha256(convert_to(o.execution_block, 'UTF8') || ':None'::bytea), 'hex'), 1, 32)",
            self.quoted()
        )
    }
}

/// A row of what [`OldTable::annotations`] answers.
pub(super) fn annotation_of(row: &PgRow) -> sqlx::Result<OldRow> {
    let cell = |column: &str| -> sqlx::Result<Cell> {
        let length = row.try_get(format!("{column}_length").as_str())?;
        Ok(Cell { length, bytes: row.try_get(column)? })
    };
    Ok(OldRow {
        id: row.try_get("id")?,
        uid: cell("uid")?,
        annotation_text: cell("annotation_text")?,
        user_principal_name: cell("user_principal_name")?,
        timestamp_created: row.try_get("timestamp_created")?,
        timestamp_modified: row.try_get("timestamp_modified")?,
    })
}

/// Makes a transaction one that reads others' tables for as long as it takes, at one moment, and runs no code of theirs.
pub(super) async fn only_read(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL row_security TO off; \
         SET LOCAL idle_in_transaction_session_timeout TO 0; SET LOCAL statement_timeout TO '10min'; \
         SET LOCAL lock_timeout TO '10s'",
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_other_volumes_are_known_by_their_names() {
        for (name, other) in [
            ("dpd_annotations_table", false),
            ("data_products_annotations_v1", false),
            ("dpd_d4c137fbd432_annotations", false),
            ("dpd_000000000000_annotations", true),
            ("dpd_metadata_ci_dev", false),
        ] {
            assert_eq!(is_of_another_volume(name, "dpd_d4c137fbd432"), other, "{name}");
        }
    }
}
