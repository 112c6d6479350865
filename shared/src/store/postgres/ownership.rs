//! Whose the relations are that have our names: what belongs to others is neither changed nor trusted, for whoever owns a
//! table has his triggers run as whoever writes to it.

use crate::store::{Result, StoreError};
use sqlx::PgConnection;
use tracing::warn;

/// The names of all relations that are ours, or were, and the migration that makes each.
pub(super) const NAMES: [(&str, i64); 21] = [
    // Made before any.
    (super::schema::TABLE, 0),
    ("dpd_indexing_state", 1),
    ("dpd_session_key", 4),
    ("access_rule", 1),
    ("annotation", 1),
    ("data_product", 1),
    ("dlm_item", 2),
    ("document", 1),
    ("failing_file", 1),
    ("flow", 2),
    ("flow_folder", 2),
    ("flow_product", 2),
    ("key_count", 1),
    ("leaf", 1),
    ("metadata_key", 1),
    ("product_number", 3),
    ("reindex_request", 1),
    ("removed_product", 10),
    ("segment", 3),
    ("segment_page", 3),
    ("superseded", 3),
];

/// The role and those that it was made a member of, directly or not. A superuser passes for a member of every role, and is of
/// none for that.
const OWN: &str = "WITH RECURSIVE own AS (SELECT oid FROM pg_roles WHERE rolname = current_user \
     UNION SELECT m.roleid FROM pg_auth_members m JOIN own ON m.member = own.oid)";

/// The relations of our names that are another's, with their owners, and this role. `more` is one more name that something of
/// ours has.
pub(super) async fn foreign(
    connection: &mut PgConnection,
    schema: &str,
    more: &str,
) -> Result<Vec<(String, String, String)>> {
    let sql = format!(
        "{OWN} SELECT c.relname::text, pg_get_userbyid(c.relowner)::text, current_user::text FROM pg_class c \
         WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relname = ANY($2) \
         AND c.relowner NOT IN (SELECT oid FROM own) ORDER BY 1"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(schema)
        .bind(NAMES.into_iter().map(|(name, _)| name).chain([more]).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?)
}

/// The relations that have a name which a migration after `version` gives to one of ours: they cannot be ours. Each with the
/// name that it is to have then.
pub(super) async fn in_the_way(
    connection: &mut PgConnection,
    schema: &str,
    version: Option<i64>,
) -> Result<Vec<(String, String)>> {
    let made = |name: &str| NAMES.iter().find(|(own, _)| *own == name).map_or(0, |(_, made)| *made);
    let later = NAMES.into_iter().filter(|(_, made)| *made > version.unwrap_or(0));
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname = ANY($2) \
         ORDER BY 1",
    )
    .bind(schema)
    .bind(later.map(|(name, _)| name).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(there
        .into_iter()
        .map(|name| {
            let to = format!("{name}_before_{:04}", made(&name));
            (name, to)
        })
        .collect())
}

/// Refuses to rename relations that somebody may still use, be they this role's own.
pub(super) async fn check_in_the_way(connection: &mut PgConnection, schema: &str, version: Option<i64>) -> Result<()> {
    let there = in_the_way(connection, schema, version).await?;
    let Some((name, to)) = there.first() else { return Ok(()) };
    let others = match there.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Err(StoreError::Unusable(format!(
        "PostgreSQL: the relation {schema}.{name} has a name that this program uses, and is not its own{others}: the service \
         before this one may be using it, so it is left as it is. Set SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to a schema of this \
         program's own, such as {schema}_index; or, if nobody uses it any more, have it renamed to {to} by \
         DPD_FOREIGN_TABLES=rename. `dpd-indexer migrate --check` names all"
    )))
}

/// Refuses a schema in which a relation of one of our names is another's. `more` is one more name that something of ours has.
pub(super) async fn check(connection: &mut PgConnection, schema: &str, more: &str) -> Result<()> {
    let foreign = foreign(connection, schema, more).await?;
    let Some((name, owner, role)) = foreign.first() else { return Ok(()) };
    let others = match foreign.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Err(StoreError::Unusable(format!(
        "PostgreSQL: the relation {schema}.{name} has a name that this program uses, and is {owner}'s{others}, while this program \
         is the role {role}: it is left as it is. Set SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to a schema of this program's \
         own, or, if it is this program's, let an administrator make {role} a member of {owner} (GRANT), or give it to {role} \
         (ALTER … OWNER TO, or REASSIGN OWNED)"
    )))
}

/// Warns where others than the role, superusers and the database's owner may make relations in a schema.
pub(super) async fn warn_of_others(connection: &mut PgConnection, schema: &str) -> Result<()> {
    let sql = format!(
        "{OWN} SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'everybody' ELSE r.rolname::text END \
         FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a \
         LEFT JOIN pg_roles r ON r.oid = a.grantee LEFT JOIN pg_database d ON d.datname = current_database() \
         LEFT JOIN pg_roles o ON o.oid = CASE WHEN r.rolname = 'pg_database_owner' THEN d.datdba ELSE a.grantee END \
         WHERE n.nspname = $1 AND a.privilege_type = 'CREATE' AND NOT coalesce(o.rolsuper, false) \
         AND (o.oid IS NULL OR o.oid NOT IN (SELECT oid FROM own)) ORDER BY 1"
    );
    let others: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(schema).fetch_all(&mut *connection).await?;
    if !others.is_empty() {
        warn!(
            "others may make tables in the schema {schema} ({}): one that has the name of one of this program's, and is there \
             first, keeps it from starting. REVOKE CREATE ON SCHEMA {schema} from them, or set \
             SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA to a schema of its own",
            others.join(", ")
        );
    }
    Ok(())
}
