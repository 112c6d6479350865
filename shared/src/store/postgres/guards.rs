//! What is guarded although it is not there at the moment: restricted products that were removed lately.

use super::read::{self, BELOW};
use super::write::Writer;
use crate::access::Viewer;
use crate::folder::Folder;
use crate::store::{Below, REMEMBERED, Result};
use sqlx::PgConnection;
use std::time::Duration;

/// The folders of products below one, as a viewer may see them.
pub(super) async fn below(
    connection: &mut PgConnection,
    prefix: &str,
    folder: &Folder,
    viewer: &Viewer,
    lately: Duration,
) -> Result<Below> {
    let rules = read::visible_rule_ids(connection, prefix, viewer).await?;
    let (from, to) = read::below(folder);
    // One statement, so that what is removed meanwhile is seen in either place.
    let sql = format!(
        "SELECT folder, access = ANY($4) AS visible FROM data_product \
         WHERE volume_prefix = $1 AND {BELOW} AND folder <> '' \
         UNION ALL SELECT DISTINCT folder, false FROM removed_product r WHERE volume_prefix = $1 AND {BELOW} AND folder <> '' \
         AND access <> ALL($4) AND removed_at > clock_timestamp() - make_interval(secs => $5) AND NOT EXISTS \
         (SELECT FROM data_product p WHERE p.volume_prefix = r.volume_prefix AND p.folder = r.folder) \
         ORDER BY folder"
    );
    let rows: Vec<(String, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(prefix)
        .bind(from)
        .bind(to)
        .bind(rules)
        .bind(lately.as_secs_f64())
        .fetch_all(connection)
        .await?;
    let mut below = Below::default();
    for (folder, visible) in rows {
        let Ok(folder) = folder.parse() else { continue };
        if visible { below.visible.push(folder) } else { below.hidden.push(folder) }
    }
    Ok(below)
}

/// The folders in which restricted products were lately, and are none now.
pub(super) async fn removed(connection: &mut PgConnection, prefix: &str, lately: Duration) -> Result<Vec<Folder>> {
    let folders: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT folder FROM removed_product r WHERE volume_prefix = $1 \
         AND removed_at > clock_timestamp() - make_interval(secs => $2) AND NOT EXISTS \
         (SELECT FROM data_product p WHERE p.volume_prefix = r.volume_prefix AND p.folder = r.folder)",
    )
    .bind(prefix)
    .bind(lately.as_secs_f64())
    .fetch_all(connection)
    .await?;
    Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
}

impl Writer<'_> {
    /// Notes that who may see these products gets other answers from now on. Where they are counted, that notes it as well.
    pub(super) async fn touch(&mut self, ids: &[i64]) -> Result<()> {
        sqlx::query(
            "UPDATE access_rule SET updated_at = clock_timestamp() \
             WHERE id IN (SELECT access FROM data_product WHERE id = ANY($1))",
        )
        .bind(ids)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Remembers products that are about to be removed, where not everybody may see them.
    pub(super) async fn remember(&mut self, ids: &[i64]) -> Result<()> {
        sqlx::query(
            "DELETE FROM removed_product WHERE volume_prefix = $1 \
             AND removed_at < clock_timestamp() - make_interval(secs => $2)",
        )
        .bind(self.prefix)
        .bind(REMEMBERED.as_secs_f64())
        .execute(&mut *self.connection)
        .await?;
        sqlx::query(
            "INSERT INTO removed_product (volume_prefix, folder, access) \
             SELECT p.volume_prefix, p.folder, p.access FROM data_product p JOIN access_rule r ON r.id = p.access \
             WHERE p.id = ANY($1) AND p.folder IS NOT NULL AND r.groups IS NOT NULL \
             ON CONFLICT (volume_prefix, folder, access) DO UPDATE SET removed_at = clock_timestamp()",
        )
        .bind(ids)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}
