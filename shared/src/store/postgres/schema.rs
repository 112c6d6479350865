//! The tables: brought to what this program needs by the indexer, and compared with it by everybody else.

use super::database::Database;
use super::ownership;
use crate::store::{Result, StoreError};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Any number, the same for all who migrate: only one does at a time.
const LOCK: i64 = 0x6470_6421;
/// Where it is kept which migrations were applied. Other programs in the same schema may have the usual name.
pub(super) const TABLE: &str = "dpd_migrations";
/// How long migrating may take.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The version that this program needs.
pub(super) fn needed() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Brings the tables to the version that this program needs; true when something was to be done. `state_name` is one
/// more name that the coordination table is shown under.
///
/// # Errors
/// When the database cannot be reached or forbids it, or is newer than this program; [`StoreError::Unusable`], which
/// [`Database::unusable`] tells as well, where others have relations of our names.
pub async fn migrate(database: &Database, state_name: &str) -> Result<bool> {
    let migrated = try_migrate(database, state_name).await;
    if let Err(StoreError::Unusable(why)) = &migrated {
        database.give_up(why.clone());
    }
    migrated
}

async fn try_migrate(database: &Database, state_name: &str) -> Result<bool> {
    let work = async {
        let mut session = database.session().await?;
        let mut transaction = session.begin().await?;
        // Held until the transaction ends, on whatever connection a pooler gives us.
        sqlx::query("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
        create_schema(&mut transaction, database.schema()).await?;
        ownership::check(&mut transaction, database.schema(), state_name).await?;
        let before = version(&mut transaction).await?;
        if before.is_some_and(|version| version > needed()) {
            return Err(mismatch(before));
        }
        if !database.renames_others() {
            ownership::check_in_the_way(&mut transaction, database.schema(), before).await?;
        }
        let changes = before != Some(needed());
        if changes {
            let mut migrator = Migrator::with_migrations(MIGRATIONS.migrations.to_vec());
            migrator.set_locking(false).dangerous_set_table_name(TABLE);
            migrator.run(&mut *transaction).await.map_err(|error| match error {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                    failed(error, |error| format!("the tables cannot be migrated: {error}"))
                }
                error => StoreError::Unavailable(format!("the tables cannot be migrated: {error}")),
            })?;
        }
        show_state_as(&mut transaction, state_name).await?;
        // Somebody may have made one meanwhile.
        ownership::check(&mut transaction, database.schema(), state_name).await?;
        ownership::warn_of_others(&mut transaction, database.schema()).await?;
        transaction.commit().await?;
        session.settle(Ok(changes))
    };
    database.bounded_by(PATIENCE, work).await
}

async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<()> {
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await?;
    if there {
        return Ok(());
    }
    let create = AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""));
    sqlx::query(create).execute(connection).await.map(drop).map_err(|error| {
        failed(error, |error| {
            format!(
                "the schema {schema} is not there and cannot be made ({error}): let an administrator make it, or set \
                 SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to one that is there"
            )
        })
    })
}

/// A failure in words of ours, unless the server is one that just does not write.
fn failed(error: sqlx::Error, words: impl FnOnce(&str) -> String) -> StoreError {
    let text = error.to_string();
    match StoreError::from(error) {
        StoreError::ReadOnly => StoreError::ReadOnly,
        _ => StoreError::Unavailable(words(&text)),
    }
}

/// Shows the coordination table under one more name, for those who knew it by that.
async fn show_state_as(connection: &mut PgConnection, name: &str) -> Result<()> {
    if name == "dpd_indexing_state" {
        return Ok(());
    }
    let create = AssertSqlSafe(format!("CREATE OR REPLACE VIEW \"{name}\" AS SELECT * FROM dpd_indexing_state"));
    sqlx::query(create)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| failed(error, |error| format!("INDEXING_STATE_TABLE_NAME: {name} cannot be made: {error}")))
}

/// Whether a statement failed since the tables are not there, or are older: the schema was made anew, or a copy was put back.
pub(super) fn is_missed_by(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // undefined_table, invalid_schema_name, undefined_column
    code.is_some_and(|code| ["42P01", "3F000", "42703"].contains(&&*code))
}

/// Checks that the tables are those that this program needs, and ours.
pub(super) async fn check(connection: &mut PgConnection) -> Result<()> {
    let schema: Option<String> =
        sqlx::query_scalar("SELECT current_schema()::text").fetch_one(&mut *connection).await?;
    if let Some(schema) = schema {
        ownership::check(connection, &schema, TABLE).await?;
    }
    let version = version(connection).await?;
    if version == Some(needed()) { Ok(()) } else { Err(mismatch(version)) }
}

/// The version of the tables; `None` where there are none.
pub(super) async fn version(connection: &mut PgConnection) -> Result<Option<i64>> {
    // There is no current schema where the one that is configured was not made yet.
    let known: Option<bool> =
        sqlx::query_scalar("SELECT to_regclass(quote_ident(current_schema()) || '.' || $1) IS NOT NULL")
            .bind(TABLE)
            .fetch_one(&mut *connection)
            .await?;
    if known != Some(true) {
        return Ok(None);
    }
    Ok(sqlx::query_scalar(AssertSqlSafe(format!("SELECT max(version) FROM {TABLE} WHERE success")))
        .fetch_one(connection)
        .await?)
}

pub(super) fn mismatch(version: Option<i64>) -> StoreError {
    let needed = needed();
    StoreError::NotReady(match version {
        None => "the database has no tables of ours yet: start dpd-indexer, or run `dpd-indexer migrate`".to_owned(),
        Some(version) if version < needed => {
            format!(
                "the database's tables are of version {version}, older than this program's {needed}: start its dpd-indexer, or run `dpd-indexer migrate`"
            )
        }
        Some(version) => {
            format!(
                "the database's tables are of version {version}, newer than this program's {needed}: use a newer program"
            )
        }
    })
}
