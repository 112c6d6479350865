//! Whose the relations are that have our names: what belongs to others is neither changed nor trusted, for whoever owns a
//! table has his triggers run as whoever writes to it.

use crate::store::{Result, StoreError};
use sqlx::PgConnection;
use tracing::warn;

/// The names of all relations that are ours, or were.
const NAMES: [&str; 21] = [
    super::schema::TABLE,
    "dpd_indexing_state",
    "dpd_session_key",
    "access_rule",
    "annotation",
    "data_product",
    "dlm_item",
    "document",
    "failing_file",
    "flow",
    "flow_folder",
    "flow_product",
    "key_count",
    "leaf",
    "metadata_key",
    "product_number",
    "reindex_request",
    "removed_product",
    "segment",
    "segment_page",
    "superseded",
];

/// The role and those that it was made a member of, directly or not. A superuser passes for a member of every role, and is of
/// none for that.
const OWN: &str = "WITH RECURSIVE own AS (SELECT oid FROM pg_roles WHERE rolname = current_user \
     UNION SELECT m.roleid FROM pg_auth_members m JOIN own ON m.member = own.oid)";

/// Refuses a schema in which a relation of one of our names is another's, and warns of one in which others may make some.
/// `more` is one more name that something of ours has.
pub(super) async fn check(connection: &mut PgConnection, schema: &str, more: &str) -> Result<()> {
    let sql = format!(
        "{OWN} SELECT c.relname::text, pg_get_userbyid(c.relowner)::text, current_user::text FROM pg_class c \
         WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relname = ANY($2) \
         AND c.relowner NOT IN (SELECT oid FROM own) ORDER BY 1"
    );
    let foreign: Vec<(String, String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(schema)
        .bind(NAMES.into_iter().chain([more]).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
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
