//! What goes wrong between the daemons and their database: [`takeover`] is about holders that die, stand still or go,
//! [`outage`] about a PostgreSQL that does, [`arrival`] about readers while things change, [`damage`] about rows that do not read. Whatever happens, the index
//! comes to be what it would have become without, and nobody but the holder of the lease ever writes it.

mod arrival;
mod damage;
mod outage;
mod takeover;

use crate::stores::sealing::is_covered;
use serde_json::Value;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};
use tests::volume::Volume;

/// Writes so many products of some variety, and a file that does not read beside every 500.
fn fill(volume: &Volume, count: usize) {
    for n in 0..count {
        let access = if n % 7 == 0 { "context: {access_group: staff}" } else { "context: {observer: nobody}" };
        let more = format!("{access}\nn: {n}\nkind_{}: [a, b, {n}]\nfiles: [{{crc: c{n}, size: {n}}}]", n % 11);
        volume.product(&format!("eb-{}/pb-{n}", n % 97), &format!("eb-f-202401{:02}-{n}", 1 + n % 28), &more);
        if n % 500 == 499 {
            volume.product(&format!("broken/pb-{n}"), "[", "");
        }
    }
}

fn count(database: &Database) -> u64 {
    database.value("SELECT count(*) FROM data_product").as_u64().expect("a number")
}

/// Waits until all products of a volume that was [filled](fill) so far are there, and measured.
fn wait_for_all(database: &Database, products: usize) {
    let there = "SELECT count(*) FROM data_product WHERE measured";
    tests::wait_for("all products", || (database.value(there) == products).then_some(()));
    let failing = "SELECT count(*) FROM failing_file";
    tests::wait_for("all broken files", || (database.value(failing) == products / 500).then_some(()));
}

/// All that a database holds of its one volume, without the numbers that hang on who came first.
fn image(database: &Database) -> Vec<Value> {
    [
        "SELECT p.uid, p.folder, p.execution_block, p.date_created, p.metadata_file, p.store_name, p.size, p.file_size, \
         p.digest, r.groups, d.metadata::text FROM data_product p JOIN document d ON d.product = p.id \
         JOIN access_rule r ON r.id = p.access ORDER BY p.uid",
        "SELECT groups, products, products_on_volume FROM access_rule ORDER BY groups",
        "SELECT r.groups, k.path, c.products, c.numbers FROM key_count c JOIN access_rule r ON r.id = c.access \
         JOIN metadata_key k ON k.id = c.key WHERE c.products <> 0 ORDER BY r.groups, k.path",
        "SELECT folder, path, error FROM failing_file ORDER BY folder",
        "SELECT path FROM metadata_key ORDER BY path",
        // What hangs on no product.
        "SELECT count(*) AS documents FROM document WHERE product NOT IN (SELECT id FROM data_product)",
    ]
    .iter()
    .flat_map(|sql| database.rows(sql))
    .collect()
}

/// A database into which the same volume is indexed with nothing going wrong.
struct Undisturbed {
    database: Database,
    _indexer: Server,
}

impl Undisturbed {
    fn begin(volume: &Volume) -> Undisturbed {
        let database = Postgres::shared().database();
        let indexer = Daemons::of(volume.path(), &database.url()).indexer();
        Undisturbed { database, _indexer: indexer }
    }

    /// Waits until another is as full, and compares.
    fn is_what_becomes_of(&self, other: &Database, products: usize) {
        wait_for_all(other, products);
        wait_for_all(&self.database, products);
        let (expected, actual) = (image(&self.database), image(other));
        for (expected, actual) in expected.iter().zip(&actual) {
            assert_eq!(expected, actual);
        }
        assert_eq!(expected.len(), actual.len());
        is_covered(other);
    }
}

/// Holds that rows were written under one lease after the other: nobody wrote once somebody else had begun to.
fn one_writer_at_a_time(database: &Database) {
    let disorder = database.rows(
        "SELECT * FROM (SELECT uid, written_at, epoch, lag(epoch) OVER (ORDER BY written_at) AS before \
         FROM data_product) t WHERE epoch < before",
    );
    assert!(disorder.is_empty(), "{disorder:?}");
}
