//! The same searches as the service before asks them: on JSONB, with `metadata->>key ILIKE`, on the same server.

use std::time::{Duration, Instant};
use tests::postgres::Database;

/// Rows that are copied in one statement.
const PART: u64 = 20_000;

/// The documents in a table of plain JSONB.
pub(crate) struct Plain<'a>(&'a Database);

impl Plain<'_> {
    /// Copies them from the index.
    pub(crate) fn of(database: &Database) -> Plain<'_> {
        let begun = Instant::now();
        database.execute(
            "CREATE SCHEMA plain; CREATE TABLE plain.product (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
             uid uuid NOT NULL UNIQUE, date_created date NOT NULL, metadata jsonb NOT NULL)",
        );
        let most = database.value("SELECT coalesce(max(id), 0) FROM data_product").as_u64().expect("a number");
        for from in (0..=most).step_by(PART as usize) {
            database.execute(&format!(
                "INSERT INTO plain.product (uid, date_created, metadata) SELECT p.uid, p.date_created, d.metadata::jsonb \
                 FROM data_product p JOIN document d ON d.product = p.id WHERE p.id > {from} AND p.id <= {}",
                from + PART
            ));
        }
        database.execute("CREATE INDEX ON plain.product (date_created)");
        // Otherwise the server does so by itself, while something is measured.
        database.execute("VACUUM ANALYZE plain.product");
        println!("copied into JSONB in {:.1} s", begun.elapsed().as_secs_f64());
        Plain(database)
    }

    /// How long a page and its total take, after the same once to warm up where it is short.
    pub(crate) fn page(&self, condition: &str, sort: Option<(&str, &str)>, offset: usize) -> Duration {
        let order = sort.map_or_else(
            || "date_created DESC".to_owned(),
            |(field, direction)| {
                let (section, key) = field.split_once('.').unwrap_or(("obscore", field));
                format!("metadata->'{section}'->>'{key}' {direction} NULLS LAST")
            },
        );
        let page = format!(
            "SELECT id, uid, metadata FROM plain.product WHERE {condition} ORDER BY {order}, uid LIMIT 25 OFFSET {offset}"
        );
        let ask = || {
            let begun = Instant::now();
            self.0.value(&format!("SELECT count(*) FROM plain.product WHERE {condition}"));
            self.0.rows(&page);
            begun.elapsed()
        };
        let first = ask();
        if first < Duration::from_secs(1) { ask().min(first) } else { first }
    }
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        self.0.execute("DROP SCHEMA plain CASCADE");
        // Gigabytes go from the disk at the next checkpoint, which nothing that is measured is to wait for.
        self.0.execute("CHECKPOINT");
    }
}
