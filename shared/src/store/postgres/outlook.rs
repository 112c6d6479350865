//! What a migration would do, found out without doing it: `dpd-indexer migrate --check`.

use super::database::Database;
use super::ownership::{self, NAMES};
use super::schema::{MIGRATIONS, mismatch, needed, version};
use crate::store::Result;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// How much of a table a migration goes through in a second, in bytes: about what a modest server does that also writes a log.
const BYTES_A_SECOND: u64 = 20 << 20;
/// What makes PostgreSQL write a whole table anew for a column that is added, since each row's value is another.
const VOLATILE: [&str; 3] = ["nextval(", "gen_random_uuid(", "clock_timestamp("];

/// What a migration would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// The schema's name, and whether it is there.
    pub schema: (String, bool),
    /// The version of the tables, where there are any.
    pub version: Option<i64>,
    /// The version that this program needs.
    pub needed: i64,
    /// The migrations that would be applied.
    pub pending: Vec<Pending>,
    /// The name under which the coordination table would be shown as well, where it is not yet.
    pub view: Option<String>,
    /// Relations that would be renamed, and what to.
    pub renamed: Vec<(String, String)>,
    /// What keeps it from being done, line by line.
    pub in_the_way: Vec<String>,
    /// The tables that there are, and their bytes with all that belongs to them, the largest first.
    pub tables: Vec<(String, u64)>,
}

/// A migration that would be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub version: i64,
    /// What it is for, in a sentence.
    pub summary: String,
    /// Tables that there are which it goes through, and their bytes.
    pub goes_through: Vec<(String, u64)>,
}

impl Pending {
    /// About how long it takes.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.goes_through.iter().map(|(_, bytes)| bytes / BYTES_A_SECOND).sum())
    }
}

impl Outlook {
    /// Whether nothing is to be done, by the program or by people.
    pub fn is_clear(&self) -> bool {
        self.schema.1 && self.pending.is_empty() && self.view.is_none() && self.in_the_way.is_empty()
    }
}

/// Finds out what [`schema::migrate`](super::schema::migrate) would do, and changes nothing.
///
/// # Errors
/// When the database cannot be asked, or its tables are newer than this program.
pub async fn look(database: &Database, state_name: &str) -> Result<Outlook> {
    let work = async {
        let mut session = database.session().await?;
        let mut transaction = session.begin().await?;
        sqlx::raw_sql("SET TRANSACTION READ ONLY").execute(&mut *transaction).await?;
        let outlook = find_out(&mut transaction, database, state_name).await;
        transaction.rollback().await?;
        session.settle(outlook)
    };
    database.bounded(work).await
}

async fn find_out(connection: &mut PgConnection, database: &Database, state_name: &str) -> Result<Outlook> {
    let schema = database.schema();
    let before = version(connection).await?;
    if before.is_some_and(|version| version > needed()) {
        return Err(mismatch(before));
    }
    let (is_there, may_make): (bool, bool) = sqlx::query_as(
        "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL, CASE WHEN to_regnamespace(quote_ident($1)) IS NULL \
         THEN has_database_privilege(current_database(), 'CREATE') \
         ELSE has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE') END",
    )
    .bind(schema)
    .fetch_one(&mut *connection)
    .await?;
    let tables = sizes(connection, schema, before).await?;
    let pending = pending(before, &tables);
    let mut outlook = Outlook {
        schema: (schema.to_owned(), is_there),
        version: before,
        needed: needed(),
        pending,
        tables,
        ..Outlook::default()
    };
    let is_to_do = !outlook.pending.is_empty();
    if is_to_do && !may_make {
        let what = if is_there { "make tables in it" } else { "make it" };
        outlook.in_the_way.push(format!(
            "the schema {schema} is {}, and this role may not {what}: let an administrator GRANT that, or make the schema with \
             AUTHORIZATION of this role",
            if is_there { "there" } else { "not there" }
        ));
    }
    let others = ownership::foreign(connection, schema, state_name).await?;
    outlook.in_the_way.extend(others.iter().map(|(name, owner, _)| {
        format!("{schema}.{name} is {owner}'s, and has a name that this program uses: set SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to a schema of its own")
    }));
    let named = ownership::in_the_way(connection, schema, before).await?;
    let own = named.into_iter().filter(|(name, _)| !others.iter().any(|(other, ..)| other == name));
    if database.renames_others() {
        outlook.renamed = own.collect();
    } else {
        outlook.in_the_way.extend(own.map(|(name, to)| {
            format!(
                "{schema}.{name} has a name that this program uses, and is not its own: set \
                 SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to a schema of its own, such as {schema}_index; with \
                 DPD_FOREIGN_TABLES=rename it would be renamed to {to}, and whoever uses it would lose it"
            )
        }));
    }
    if state_name != "dpd_indexing_state" {
        let kind: Option<i8> = sqlx::query_scalar(
            "SELECT relkind FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname = $2",
        )
        .bind(schema)
        .bind(state_name)
        .fetch_optional(&mut *connection)
        .await?;
        match kind.map(i8::cast_unsigned) {
            None => outlook.view = Some(state_name.to_owned()),
            Some(b'v') => {}
            Some(_) => outlook.in_the_way.push(format!(
                "{schema}.{state_name} is there and no view of this program's: set INDEXING_STATE_TABLE_NAME to another name, \
                 or leave it out"
            )),
        }
    }
    Ok(outlook)
}

/// The tables of ours that there are, and how large they are.
async fn sizes(connection: &mut PgConnection, schema: &str, before: Option<i64>) -> Result<Vec<(String, u64)>> {
    let made = NAMES.into_iter().filter(|(_, made)| before.is_some_and(|version| *made <= version));
    let sizes: Vec<(String, i64)> = sqlx::query_as(
        "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class \
         WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname = ANY($2) AND relkind = 'r' ORDER BY 2 DESC, 1",
    )
    .bind(schema)
    .bind(made.map(|(name, _)| name).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(sizes.into_iter().map(|(name, bytes)| (name, u64::try_from(bytes).unwrap_or_default())).collect())
}

fn pending(before: Option<i64>, tables: &[(String, u64)]) -> Vec<Pending> {
    let later = MIGRATIONS.iter().filter(|migration| before.is_none_or(|version| migration.version > version));
    later
        .map(|migration| {
            let sql = migration.sql.as_str();
            Pending {
                version: migration.version,
                summary: summary(sql),
                goes_through: tables.iter().filter(|(name, _)| goes_through(sql, name)).cloned().collect(),
            }
        })
        .collect()
}

/// The first sentence of a migration's first comment.
fn summary(sql: &str) -> String {
    let comment: Vec<&str> = sql.lines().map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
    let comment = comment.join(" ");
    comment.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// Whether a migration reads or writes a whole table, as far as its words tell.
fn goes_through(sql: &str, table: &str) -> bool {
    let words = |line: &str| line.split("--").next().unwrap_or_default().to_owned();
    let bare: String = sql.lines().map(|line| words(line) + "\n").collect();
    bare.split(';').any(|statement| {
        let words: Vec<&str> = statement.split_whitespace().collect();
        match words.as_slice() {
            ["UPDATE", name, ..] => *name == table,
            ["ALTER", "TABLE", name, "ADD", "COLUMN", ..] => {
                *name == table && VOLATILE.iter().any(|function| statement.contains(function))
            }
            ["CREATE", "INDEX", _, "ON", name, ..] | ["CREATE", "UNIQUE", "INDEX", _, "ON", name, ..] => *name == table,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_says_what_it_is_for() {
        for migration in MIGRATIONS.iter() {
            let summary = summary(migration.sql.as_str());
            assert!((20..300).contains(&summary.len()), "{}: {summary}", migration.version);
        }
        assert_eq!(summary("-- One thing: more.\n-- Another.\nSELECT 1"), "One thing: more");
        assert_eq!(summary("-- One\n-- thing.\n\n-- Another.\nSELECT 1"), "One thing");
    }

    #[test]
    fn every_name_of_ours_is_made_by_the_migration_that_is_noted() {
        for (name, made) in NAMES.into_iter().filter(|(_, made)| *made > 0) {
            let makes = |sql: &str| {
                ["TABLE", "SEQUENCE"].iter().any(|kind| {
                    sql.contains(&format!("CREATE {kind} {name} (")) || sql.contains(&format!("CREATE {kind} {name};"))
                })
            };
            let by =
                MIGRATIONS.iter().find(|migration| makes(migration.sql.as_str())).map(|migration| migration.version);
            assert_eq!(by, Some(made), "{name}");
        }
    }

    #[test]
    fn tables_that_are_written_anew_are_known() {
        let tables: Vec<(String, u64)> =
            NAMES.into_iter().map(|(name, _)| (name.to_owned(), BYTES_A_SECOND * 3)).collect();
        let pending = pending(Some(2), &tables);
        let of = |version: i64| {
            let pending = pending.iter().find(|pending| pending.version == version).expect("it");
            pending.goes_through.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        assert!(of(3).contains(&"data_product") && !of(3).contains(&"document"), "{:?}", of(3));
        assert_eq!(of(8), ["dpd_indexing_state", "segment"]);
        assert_eq!(of(11), ["key_count"]);
        assert_eq!(
            pending.iter().find(|pending| pending.version == 11).map(Pending::duration),
            Some(Duration::from_secs(3))
        );
    }
}
