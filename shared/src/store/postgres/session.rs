//! The key of session cookies, one for all APIs of the database.

use super::PostgresStore;
use crate::store::{Result, SessionKey, StoreError};
use sqlx::PgConnection;

/// The key that is there, or else `made`, which is there from then on. Where nothing can be written, one that is there
/// can be read.
pub(super) async fn key(store: &PostgresStore, made: SessionKey) -> Result<SessionKey> {
    let work = async {
        let (mut session, _) = store.open().await?;
        let key = read_or_write(&mut session, made).await;
        session.settle(key)
    };
    store.database.bounded(work).await
}

async fn read_or_write(connection: &mut PgConnection, made: SessionKey) -> Result<SessionKey> {
    if let Some(key) = read(connection).await? {
        return Ok(key);
    }
    sqlx::query("INSERT INTO dpd_session_key (key) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(made.as_slice())
        .execute(&mut *connection)
        .await?;
    // Another one may have been faster.
    read(connection)
        .await?
        .ok_or_else(|| StoreError::Unavailable("the session key was deleted a moment ago".to_owned()))
}

async fn read(connection: &mut PgConnection) -> Result<Option<SessionKey>> {
    let key: Option<Vec<u8>> = sqlx::query_scalar("SELECT key FROM dpd_session_key").fetch_optional(connection).await?;
    // The table holds to the length.
    Ok(key.and_then(|key| key.try_into().ok()))
}
