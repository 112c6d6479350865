//! A filter as SQL: what [`Filter::matches`](crate::filter::Filter::matches) says of leaves, said of the rows of `leaf`.
//!
//! Nothing that a client sent becomes part of a statement: values are bound, and names of keys are looked up among
//! those that occur, so that a statement holds their numbers.

use crate::filter::{Comparison, Filter, Key, Test, Text};
use crate::query::{Query, Sort};
use crate::store::Result;
use crate::store::postgres::text::{escaped, unescaped};
use sqlx::{PgConnection, Postgres, QueryBuilder};

/// The key under which annotations are found.
const ANNOTATION: &str = "annotation";
/// How many bytes of a value the index `leaf_value` has.
const HEAD: usize = 64;
/// How many conditions PostgreSQL may make joins of, so that it can begin with the rarest. The time that it takes to plan
/// joins grows with the cube of their number: a hundred took seconds.
const JOINED: usize = 6;

/// The keys that occur, those of them that a query speaks of.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<(i32, String)>);

impl Keys {
    /// Looks up the keys that a query speaks of.
    pub(super) async fn of(connection: &mut PgConnection, prefix: &str, query: &Query) -> Result<Keys> {
        let mut keys = Vec::new();
        named(&query.filter, &mut keys);
        query.first.iter().for_each(|first| named(first, &mut keys));
        keys.extend(query.sort.iter().map(|sort| Key::Path(sort.field.clone())));
        if keys.is_empty() {
            return Ok(Keys::default());
        }
        let (mut paths, mut endings) = (Vec::new(), Vec::new());
        for key in &keys {
            match key {
                Key::Path(path) => paths.push(escaped(path)),
                Key::Ending(path) => endings.push(escaped(path)),
                Key::Every => {}
            }
        }
        let found: Vec<(i32, String)> = sqlx::query_as(
            "SELECT id, path FROM metadata_key WHERE volume_prefix = $1 AND (\
             EXISTS (SELECT FROM unnest($2::text[]) k WHERE path = k OR starts_with(path, k || '.')) OR \
             EXISTS (SELECT FROM unnest($3::text[]) k WHERE position('.' || k || '.' IN '.' || path || '.') > 0))",
        )
        .bind(prefix)
        .bind(&paths)
        .bind(&endings)
        .fetch_all(connection)
        .await?;
        Ok(Keys(found.into_iter().map(|(id, path)| (id, unescaped(&path))).collect()))
    }

    /// The numbers of those that a key picks.
    fn picked(&self, key: &Key) -> Vec<i32> {
        self.0.iter().filter(|(_, path)| key.picks(path)).map(|(id, _)| *id).collect()
    }
}

/// The keys in a filter, but for the one that picks all.
fn named(filter: &Filter, keys: &mut Vec<Key>) {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| named(filter, keys)),
        Filter::Not(filter) => named(filter, keys),
        Filter::Any(Key::Every, _) => {}
        Filter::Any(key, _) => keys.push(key.clone()),
    }
}

/// Writes the condition that holds for the products `p` that pass.
pub(super) fn push(sql: &mut QueryBuilder<Postgres>, filter: &Filter, keys: &Keys) {
    push_part(sql, filter, keys, &mut 0);
}

/// Writes a part of a condition, before which `written` others were.
fn push_part(sql: &mut QueryBuilder<Postgres>, filter: &Filter, keys: &Keys, written: &mut usize) {
    match filter {
        Filter::And(all) => push_joined(sql, all, keys, (" AND ", "TRUE"), written),
        Filter::Or(any) => push_joined(sql, any, keys, (" OR ", "FALSE"), written),
        Filter::Not(filter) => {
            sql.push("NOT ");
            push_part(sql, filter, keys, written);
        }
        Filter::Any(key, test) => {
            push_any(sql, key, test, keys);
            *written += 1;
            if *written > JOINED {
                // It is true or false anyway, but of this no join can be made.
                sql.push(" IS TRUE");
            }
        }
    }
}

fn push_joined(
    sql: &mut QueryBuilder<Postgres>,
    filters: &[Filter],
    keys: &Keys,
    (by, empty): (&str, &str),
    written: &mut usize,
) {
    sql.push("(");
    if filters.is_empty() {
        sql.push(empty);
    }
    for (n, filter) in filters.iter().enumerate() {
        if n > 0 {
            sql.push(by);
        }
        push_part(sql, filter, keys, written);
    }
    sql.push(")");
}

fn push_any(sql: &mut QueryBuilder<Postgres>, key: &Key, test: &Test, keys: &Keys) {
    sql.push("(EXISTS (SELECT FROM leaf l WHERE l.product = p.id AND ");
    if *key != Key::Every {
        sql.push("l.key = ANY(").push_bind(keys.picked(key)).push(") AND ");
    }
    push_test(sql, test, true);
    sql.push(")");
    if *key != Key::Every && key.picks(ANNOTATION) {
        sql.push(
            " OR EXISTS (SELECT FROM annotation l \
             WHERE l.volume_prefix = p.volume_prefix AND l.data_product_uid = p.uid AND ",
        );
        push_test(sql, test, false);
        sql.push(")");
    }
    sql.push(")");
}

/// Writes the condition that holds for the rows `l` that pass a test. Those of `leaf` may be numbers; annotations are
/// texts.
fn push_test(sql: &mut QueryBuilder<Postgres>, test: &Test, leaf: bool) {
    match test {
        Test::Present => {
            sql.push("TRUE");
        }
        Test::Contains(text) => {
            sql.push("position(").push_bind(bytes(text)).push(" IN l.value) > 0");
        }
        Test::StartsWith(text) => {
            let wanted = bytes(text);
            sql.push("substring(l.value FROM 1 FOR ").push_bind(length(&wanted)).push(") = ").push_bind(wanted.clone());
            if leaf {
                // The same once more of the part that is indexed.
                let head = wanted[..wanted.len().min(HEAD)].to_vec();
                sql.push(" AND substring(l.value FROM 1 FOR 64) >= ").push_bind(head.clone());
                if let Some(end) = end_of_prefix(head) {
                    sql.push(" AND substring(l.value FROM 1 FOR 64) < ").push_bind(end);
                }
            }
        }
        Test::EndsWith(text) => {
            let wanted = bytes(text);
            sql.push("substring(l.value FROM greatest(length(l.value) - ").push_bind(length(&wanted));
            sql.push(" + 1, 1)) = ").push_bind(wanted);
        }
        Test::Equals(text) => push_equals(sql, std::slice::from_ref(text), leaf),
        Test::AnyOf(texts) => push_equals(sql, texts, leaf),
        Test::Number(comparison, number) if leaf => {
            sql.push("l.number ").push(operator(*comparison)).push(" ").push_bind(*number);
        }
        Test::Number(..) => {
            sql.push("FALSE");
        }
        Test::Date(comparison, day) => {
            sql.push("l.day ").push(operator(*comparison)).push(" ").push_bind(super::columns::day(*day));
        }
    }
}

fn push_equals(sql: &mut QueryBuilder<Postgres>, texts: &[Text], leaf: bool) {
    let values: Vec<Vec<u8>> = texts.iter().map(bytes).collect();
    if !leaf {
        sql.push("l.value = ANY(").push_bind(values).push(")");
        return;
    }
    let heads: Vec<Vec<u8>> = values.iter().map(|value| value[..value.len().min(HEAD)].to_vec()).collect();
    let numbers: Vec<f64> = texts.iter().filter_map(Text::number).collect();
    // A number's text could only be equal to a text that is that number.
    sql.push("((l.number IS NULL AND substring(l.value FROM 1 FOR 64) = ANY(").push_bind(heads);
    sql.push(") AND l.value = ANY(").push_bind(values);
    sql.push(")) OR l.number = ANY(").push_bind(numbers).push("))");
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

fn bytes(text: &Text) -> Vec<u8> {
    text.lower().as_bytes().to_vec()
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

/// The least bytes above all that begin with these; `None` where nothing is.
fn end_of_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    prefix.truncate(last + 1);
    prefix[last] += 1;
    Some(prefix)
}

/// Writes the joins that give each product `p` its value under each sort: `s0`, `s1` …, with `kind` 0 for numbers, 1 for
/// texts, NULL where there is none.
pub(super) fn push_sort_values(sql: &mut QueryBuilder<Postgres>, sorts: &[Sort], keys: &Keys) {
    for (n, sort) in sorts.iter().enumerate() {
        sql.push(
            " LEFT JOIN LATERAL (SELECT (l.number IS NULL)::integer AS kind, l.number, \
             CASE WHEN l.number IS NULL THEN l.value END AS value \
             FROM leaf l WHERE l.product = p.id AND l.key = ANY(",
        );
        sql.push_bind(keys.picked(&Key::Path(sort.field.clone())));
        sql.push(format!(") ORDER BY l.number, l.value LIMIT 1) s{n} ON TRUE"));
    }
}
