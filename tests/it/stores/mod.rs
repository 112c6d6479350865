//! The stores have one contract: whatever the one in memory answers, the one in PostgreSQL answers as well. [`suite`]
//! and [`edges`] say it by example, [`property`] by comparing answers to anything; [`shared_database`] is about what
//! only a database has.

/// Makes a test on every store there is of each of these functions of a store.
macro_rules! on_each_store {
    ($($contract:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $contract() {
                super::$contract(&super::in_segments()).await;
            })*
        }
        mod in_postgresql {
            $(#[tokio::test]
            async fn $contract() {
                super::$contract(&super::Home::new().indexer("volume").await).await;
            })*
        }
    };
}

mod edges;
mod flows;
#[path = "../../../shared/tests/generators/mod.rs"]
mod generators;
mod migration;
mod property;
pub(crate) mod sealing;
mod shared_database;
mod suite;

use generators::found;
use serde_json::{Value, json};
use shared::access::Viewer;
use shared::config::{IndexingSettings, PostgresqlSettings, Variables, VolumeSettings};
use shared::filter::grid;
use shared::folder::Folder;
use shared::identity::VolumePrefix;
use shared::query::Query;
use shared::row::row;
use shared::segment::Tiers;
use shared::store::memory::{MemoryStore, Sealing, Waiting};
use shared::store::postgres::lease::{Attempt, Candidate};
use shared::store::postgres::listen::Ear;
use shared::store::postgres::{Database, PostgresStore};
use shared::store::{Change, Hit, Outcome, Store};
use shared::volume::Volume;
use std::sync::Arc;
use std::time::Duration;
use tests::PATIENCE;
use tests::postgres::Postgres;

/// How long one piece of work may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A database of its own with our tables, for any number of volumes.
struct Home {
    database: Database,
    /// What is dropped with this.
    server_side: tests::postgres::Database,
}

impl Home {
    fn new() -> Home {
        Home::of(Postgres::shared().database())
    }

    fn of(server_side: tests::postgres::Database) -> Home {
        // A server that compiles every statement that it may, which takes longer than to execute one of ours.
        server_side.execute(&format!(
            "ALTER DATABASE {0} SET jit_above_cost = 0; ALTER DATABASE {0} SET jit_optimize_above_cost = 0",
            server_side.name()
        ));
        let variables = Variables::from([("DATABASE_URL", server_side.url().as_str())]);
        let settings = PostgresqlSettings::read(&variables).expect("settings").expect("a database");
        let database = Database::new(&settings, "stores", 10, LIMIT).expect("a database");
        Home { database, server_side }
    }

    /// The store of the indexer of a volume. It holds the lease for longer than any test takes.
    async fn indexer(&self, volume: &str) -> PostgresStore {
        let prefix = VolumePrefix::stored(format!("dpd_{volume}"));
        let variables = [("INDEXING_HEARTBEAT_STALE_SECONDS", "86400")].into();
        let indexing = IndexingSettings::read(&variables).expect("settings");
        let origin = volume_settings(volume).origin;
        let ear = Arc::new(Ear::on(&self.database, &prefix));
        let candidate = Candidate::new(self.database.clone(), prefix, origin, "test".to_owned(), &indexing);
        let Ok(Attempt::Taken(lease)) = candidate.acquire().await else { panic!("no free lease") };
        PostgresStore::of_indexer(self.database.clone(), Arc::from(lease), ear)
    }

    /// The store of an API that answers for a volume, which it knows by its name.
    fn api(&self, volume: &str) -> PostgresStore {
        PostgresStore::of_api(self.database.clone(), Arc::new(Volume::new(&volume_settings(volume))))
    }
}

/// Of a volume that is not mounted.
fn volume_settings(name: &str) -> VolumeSettings {
    let nowhere = "/nowhere/at/all".to_owned();
    VolumeSettings::read(&[("PVCNAME", name)].into(), Some(nowhere)).expect("settings")
}

/// A store in memory that makes segments of very few products, so that these are in segments, in larger ones, and in none.
fn in_segments() -> MemoryStore {
    let few = |leave| Waiting { leave, seal: 2 };
    let tiers = Tiers { few: 3, many: 3, ..Tiers::default() };
    MemoryStore::sealing(Duration::MAX, Sealing { searched: few(1), unsearched: few(2), tiers })
}

fn at(folder: &str) -> Folder {
    folder.parse().expect("a folder")
}

fn staff() -> Viewer {
    member("staff")
}

fn member(group: &str) -> Viewer {
    Viewer::member_of([group.to_owned()])
}

/// Metadata of a product that everybody may see.
fn metadata(block: &str, key: &str, value: impl Into<Value>) -> Value {
    json!({"execution_block": block, key: value.into()})
}

/// Metadata of a product that a group's members may see.
fn guarded(block: &str, group: impl Into<Value>, key: &str, value: impl Into<Value>) -> Value {
    json!({"execution_block": block, "context": {"access_group": group.into()}, key: value.into()})
}

fn write(folder: &str, metadata: &Value) -> Change {
    Change::Found(found(&at(folder), metadata, 1))
}

fn gone(folder: &str) -> Change {
    Change::Gone(at(folder))
}

fn measured(folder: &str, bytes: impl Into<Option<u64>>) -> Change {
    Change::Measured { folder: at(folder), bytes: bytes.into() }
}

fn failing(folder: &str, error: &str) -> Change {
    let folder = at(folder);
    Change::Failing { path: folder.join("m.yaml").to_string(), folder, error: error.to_owned(), stamp: None }
}

async fn apply(store: &dyn Store, changes: impl AsRef<[Change]>) -> Vec<Outcome> {
    store.apply(changes.as_ref()).await.expect("applied")
}

/// A product in an answer as clients see it, but for its number, which is a store's own.
fn shown(hit: &Hit) -> String {
    let mut row = row(0, &hit.product, hit.size);
    row.shift_remove("id");
    Value::from(row).to_string()
}

fn query(body: &Value) -> Query {
    grid::parse(body).unwrap_or_else(|error| panic!("{error}: {body}")).0
}

/// A query for one condition.
fn item(field: &str, operator: &str, value: impl Into<Value>) -> Query {
    let item = json!({"field": field, "operator": operator, "value": value.into()});
    query(&json!({"filterModel": {"items": [item]}, "pageSize": 1000}))
}

fn everything() -> Query {
    query(&json!({"pageSize": 1000}))
}

/// The folders of what a query finds, in order.
async fn find(store: &dyn Store, query: Query, viewer: &Viewer) -> Vec<String> {
    let (limit, offset) = (query.limit, query.offset);
    let found = store.search(query, viewer).await.expect("an answer");
    assert!(found.hits.len() == found.total.saturating_sub(offset).min(limit), "{} in all", found.total);
    folders(&found.hits)
}

/// The folders below one whose products a viewer may see.
async fn visible_below(store: &dyn Store, folder: &Folder, viewer: &Viewer) -> Vec<Folder> {
    store.below(folder, viewer, Duration::ZERO).await.expect("folders").visible
}

fn folders(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.product.dataproduct_file().to_owned()).collect()
}
