//! Which history of a database something was read in.
//!
//! A database may become an earlier state of itself, or another of the same name: a standby that lost the last commits is
//! promoted, a copy is put back, the schema is made anew. Numbers that it handed out before, it hands out again, and they
//! mean something else. So whatever is remembered by numbers is remembered together with the history that they are of,
//! which is read in the same statement as the revision, and is forgotten where that is another.

use crate::store::Result;
use sqlx::{AssertSqlSafe, PgConnection};

/// What a history is known by, of the volume's row `s`: its incarnation, which is another at each takeover; when the server
/// was started, since no server becomes another, nor an earlier one, without a start; and the file of the table, which is
/// another in another database or schema. All of it may be asked by any role, and costs no look at any other table.
pub(super) const HISTORY: &str = "concat_ws(' ', s.incarnation, extract(epoch FROM pg_postmaster_start_time()), \
     pg_relation_filepath(s.tableoid))";

/// The moment that a transaction sees.
pub(super) async fn moment(connection: &mut PgConnection, prefix: &str) -> Result<Moment> {
    let sql = format!("SELECT {HISTORY} AS history, revision FROM dpd_indexing_state s WHERE volume_prefix = $1");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(prefix).fetch_one(connection).await?)
}

/// A moment of a volume's index: what was read at the same moment is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Moment {
    pub(super) history: String,
    pub(super) revision: i64,
}
