//! Annotations: texts that people add to products.

use super::PostgresStore;
use super::columns::{Cells, day};
use crate::annotation::{Annotation, Draft, Part, Revision};
use crate::filter::{Comparison, Test, Text, fold};
use crate::store::{ANNOTATIONS, Result};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

/// How many annotations are read at once, and about how many bytes of them.
const PART: i64 = 250;
const PART_BYTES: i64 = 256 * 1024;
/// How many annotations are looked at with one statement.
const PAGE: i64 = 1000;

impl PostgresStore {
    /// Has all annotations compare as texts do now: those of a release that folded texts in another way are folded anew.
    pub(super) async fn fold_annotations(&self) -> Result<()> {
        let mut after = i64::MIN;
        while let Some(last) = self.fold_annotations_after(after).await? {
            after = last;
        }
        Ok(())
    }

    /// Looks at some annotations, and answers the number of the last of them.
    async fn fold_annotations_after(&self, after: i64) -> Result<Option<i64>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let folded = fold_page(&mut session, &prefix, after).await;
            session.settle(folded)
        };
        self.database.bounded(work).await
    }
}

async fn fold_page(connection: &mut PgConnection, prefix: &str, after: i64) -> Result<Option<i64>> {
    // Text in ASCII is folded in one way only.
    let page: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(
        "SELECT id, annotation_text, value FROM annotation WHERE volume_prefix = $1 AND id > $2 \
         AND octet_length(annotation_text) > char_length(annotation_text) ORDER BY id LIMIT $3",
    )
    .bind(prefix)
    .bind(after)
    .bind(PAGE)
    .fetch_all(&mut *connection)
    .await?;
    let others: Vec<(i64, &str, Vec<u8>)> = page
        .iter()
        .map(|(id, text, value)| (*id, text.as_str(), value, fold(text).into_owned().into_bytes()))
        .filter(|(.., value, folded)| *value != folded)
        .map(|(id, text, _, folded)| (id, text, folded))
        .collect();
    if !others.is_empty() {
        // Not where somebody wrote another text meanwhile.
        let products: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE annotation a SET value = n.value FROM unnest($1::bigint[], $2::text[], $3::bytea[]) n(id, text, value) \
             WHERE a.id = n.id AND a.annotation_text = n.text RETURNING a.data_product_uid",
        )
        .bind(others.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(others.iter().map(|(_, text, _)| *text).collect::<Vec<_>>())
        .bind(others.iter().map(|(.., value)| value.as_slice()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        touch(connection, prefix, &products).await?;
    }
    Ok(page.last().map(|(id, ..)| *id))
}

/// Adds an annotation; false where its author has written enough of this product.
pub(super) async fn create(connection: &mut PgConnection, prefix: &str, draft: &Draft) -> Result<bool> {
    let Cells { value, day } = Cells::of(&draft.text.clone().into());
    // First, since it has those wait who write at the same time, so that each counts all before.
    touch(connection, prefix, &[draft.product]).await?;
    let created = sqlx::query(
        // One look at the clock for both times.
        "INSERT INTO annotation (volume_prefix, data_product_uid, annotation_text, user_principal_name, value, day, \
         timestamp_created, timestamp_modified) SELECT $1, $2, $3, $4, $5, $6, now, now FROM clock_timestamp() now \
         WHERE (SELECT count(*) FROM annotation WHERE volume_prefix = $1 AND data_product_uid = $2 \
         AND user_principal_name = $4) < $7",
    )
    .bind(prefix)
    .bind(draft.product)
    .bind(&draft.text)
    .bind(&draft.author)
    .bind(value)
    .bind(day)
    .bind(i64::try_from(ANNOTATIONS).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(created.rows_affected() > 0)
}

/// Adds annotations that were written elsewhere, with their own numbers and times or, where these are not to be kept, with
/// numbers that are free. Answers how many: what has a number that is another's by now is left out.
pub(super) async fn keep(
    connection: &mut PgConnection,
    prefix: &str,
    annotations: &[&Annotation],
    with_numbers: bool,
) -> Result<u64> {
    let cells: Vec<Cells> = annotations.iter().map(|own| Cells::of(&own.annotation_text.clone().into())).collect();
    let id = if with_numbers { "n.id" } else { "nextval(pg_get_serial_sequence('annotation', 'id'))" };
    let sql = format!(
        "INSERT INTO annotation (id, volume_prefix, data_product_uid, annotation_text, user_principal_name, \
         timestamp_created, timestamp_modified, value, day) OVERRIDING SYSTEM VALUE \
         SELECT {id}, $1, n.uid, n.text, n.author, n.created, n.modified, n.value, n.day FROM \
         unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::bytea[], $9::int[]) \
         n(id, uid, text, author, created, modified, value, day) ON CONFLICT (id) DO NOTHING"
    );
    let kept = sqlx::query(AssertSqlSafe(sql))
        .bind(prefix)
        .bind(annotations.iter().map(|own| own.annotation_id).collect::<Vec<_>>())
        .bind(annotations.iter().map(|own| own.data_product_uid).collect::<Vec<_>>())
        .bind(annotations.iter().map(|own| own.annotation_text.as_str()).collect::<Vec<_>>())
        .bind(annotations.iter().map(|own| own.user_principal_name.as_str()).collect::<Vec<_>>())
        .bind(annotations.iter().map(|own| own.timestamp_created).collect::<Vec<_>>())
        .bind(annotations.iter().map(|own| own.timestamp_modified).collect::<Vec<_>>())
        .bind(cells.iter().map(|cells| cells.value.as_slice()).collect::<Vec<_>>())
        .bind(cells.iter().map(|cells| cells.day).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(kept.rows_affected())
}

/// Writes a text in place of an annotation's.
async fn replace(connection: &mut PgConnection, prefix: &str, id: i64, text: &str) -> Result<()> {
    let Cells { value, day } = Cells::of(&text.into());
    sqlx::query(
        "UPDATE annotation SET annotation_text = $3, value = $4, day = $5, timestamp_modified = clock_timestamp() \
         WHERE volume_prefix = $1 AND id = $2",
    )
    .bind(prefix)
    .bind(id)
    .bind(text)
    .bind(value)
    .bind(day)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes annotations what they became elsewhere: text, author and times.
pub(super) async fn follow(connection: &mut PgConnection, prefix: &str, annotations: &[&Annotation]) -> Result<()> {
    for own in annotations {
        replace(connection, prefix, own.annotation_id, &own.annotation_text).await?;
        sqlx::query(
            "UPDATE annotation SET user_principal_name = $3, timestamp_created = $4, timestamp_modified = $5 \
             WHERE volume_prefix = $1 AND id = $2",
        )
        .bind(prefix)
        .bind(own.annotation_id)
        .bind(&own.user_principal_name)
        .bind(own.timestamp_created)
        .bind(own.timestamp_modified)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn product_of(connection: &mut PgConnection, prefix: &str, id: i64) -> Result<Option<Uuid>> {
    let product = sqlx::query_scalar("SELECT data_product_uid FROM annotation WHERE volume_prefix = $1 AND id = $2");
    Ok(product.bind(prefix).bind(id).fetch_optional(connection).await?)
}

pub(super) async fn update(connection: &mut PgConnection, prefix: &str, id: i64, draft: &Draft) -> Result<Revision> {
    let author: Option<String> = sqlx::query_scalar(
        "SELECT user_principal_name FROM annotation WHERE volume_prefix = $1 AND id = $2 AND data_product_uid = $3 \
         FOR UPDATE",
    )
    .bind(prefix)
    .bind(id)
    .bind(draft.product)
    .fetch_optional(&mut *connection)
    .await?;
    match author {
        None => return Ok(Revision::Unknown),
        Some(author) if author != draft.author => return Ok(Revision::NotTheAuthor),
        Some(_) => {}
    }
    replace(&mut *connection, prefix, id, &draft.text).await?;
    touch(connection, prefix, &[draft.product]).await?;
    Ok(Revision::Done)
}

/// A search by annotation answers differently from now on, to those who may see the products.
pub(super) async fn touch(connection: &mut PgConnection, prefix: &str, products: &[Uuid]) -> Result<()> {
    sqlx::query("UPDATE dpd_indexing_state SET updated_at = clock_timestamp() WHERE volume_prefix = $1")
        .bind(prefix)
        .execute(&mut *connection)
        .await?;
    // Whose row is locked by then, as by all who write.
    sqlx::query(
        "UPDATE access_rule SET updated_at = clock_timestamp() WHERE id IN \
         (SELECT access FROM data_product WHERE volume_prefix = $1 AND uid = ANY($2))",
    )
    .bind(prefix)
    .bind(products)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn of(
    connection: &mut PgConnection,
    prefix: &str,
    product: Uuid,
    after: Option<&Annotation>,
) -> Result<Part> {
    let annotations = sqlx::query_as(
        "SELECT id, data_product_uid, annotation_text, user_principal_name, timestamp_created, timestamp_modified, \
         following FROM (SELECT *, count(*) OVER () AS following, \
         sum(octet_length(annotation_text)) OVER (ORDER BY timestamp_created, id) - octet_length(annotation_text) AS before \
         FROM annotation WHERE volume_prefix = $1 AND data_product_uid = $2 \
         AND ($3::timestamptz IS NULL OR (timestamp_created, id) > ($3, $4)) \
         ORDER BY timestamp_created, id LIMIT $5) a WHERE before < $6 ORDER BY timestamp_created, id",
    );
    let rows: Vec<(i64, Uuid, String, String, _, _, i64)> = annotations
        .bind(prefix)
        .bind(product)
        .bind(after.map(|after| after.timestamp_created))
        .bind(after.map(|after| after.annotation_id))
        .bind(PART)
        .bind(PART_BYTES)
        .fetch_all(connection)
        .await?;
    let following = rows.first().map_or(0, |row| row.6);
    let is_last = i64::try_from(rows.len()).is_ok_and(|read| read >= following);
    let annotation = |(id, product, text, author, created, modified, _)| Annotation {
        annotation_id: id,
        data_product_uid: product,
        annotation_text: text,
        user_principal_name: author,
        timestamp_created: created,
        timestamp_modified: modified,
    };
    Ok(Part { annotations: rows.into_iter().map(annotation).collect(), is_last })
}

/// The numbers of the products that have an annotation which passes a test, in order.
pub(super) async fn numbers(connection: &mut PgConnection, prefix: &str, test: &Test) -> Result<Vec<u64>> {
    let mut sql = QueryBuilder::new(
        "SELECT DISTINCT p.number FROM annotation a \
         JOIN data_product p ON p.volume_prefix = a.volume_prefix AND p.uid = a.data_product_uid WHERE a.volume_prefix = ",
    );
    sql.push_bind(prefix).push(" AND ");
    push_test(&mut sql, test);
    sql.push(" ORDER BY 1");
    let numbers: Vec<i64> = sql.build_query_scalar().persistent(false).fetch_all(connection).await?;
    Ok(numbers.into_iter().map(i64::cast_unsigned).collect())
}

/// Writes the condition that holds for the annotations `a` that pass a test: what [`Test::holds`] says of a text.
fn push_test(sql: &mut QueryBuilder<Postgres>, test: &Test) {
    let bytes = |text: &Text| text.folded().as_bytes().to_vec();
    let length = |text: &Text| i32::try_from(text.folded().len()).unwrap_or(i32::MAX);
    match test {
        Test::Present => sql.push("TRUE"),
        Test::Contains(text) => sql.push("position(").push_bind(bytes(text)).push(" IN a.value) > 0"),
        Test::StartsWith(text) => {
            sql.push("substring(a.value FROM 1 FOR ").push_bind(length(text)).push(") = ").push_bind(bytes(text))
        }
        Test::EndsWith(text) => sql
            .push("substring(a.value FROM greatest(length(a.value) - ")
            .push_bind(length(text))
            .push(" + 1, 1)) = ")
            .push_bind(bytes(text)),
        Test::Equals(text) => sql.push("a.value = ").push_bind(bytes(text)),
        Test::AnyOf(texts) => {
            sql.push("a.value = ANY(").push_bind(texts.iter().map(bytes).collect::<Vec<_>>()).push(")")
        }
        Test::Number(..) => sql.push("FALSE"),
        Test::Date(comparison, date) => sql.push("a.day ").push(operator(*comparison)).push(" ").push_bind(day(*date)),
    };
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
    }
}
