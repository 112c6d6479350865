//! The index in PostgreSQL, shared by one indexer that writes it and any number of processes that answer from it.
//!
//! [`schema`] makes the tables, which `migrations/` describes; [`lease`] says who may write; [`search`] looks through
//! segments. `docs/database.md` tells how it all fits together.

mod annotation;
mod building;
mod columns;
mod connect;
mod counting;
mod counts;
mod database;
mod dictionary;
pub mod dlm;
mod figures;
mod flows;
mod guards;
mod handshake;
mod history;
pub mod import;
mod keys;
pub mod lease;
pub mod listen;
mod merging;
pub mod old_tables;
pub mod outlook;
mod ownership;
mod plan;
mod read;
mod replica;
mod salvage;
pub mod schema;
mod seal;
mod search;
mod session;
mod silence;
mod state;
mod text;
mod transaction;
mod unused;
mod view;
mod volume;
mod write;

pub use database::Database;
use database::Session;
pub use replica::ReplicatedStore;
use transaction::Work;
use volume::Answering;
pub use volume::{Registered, prefix_by_name, prefix_of, registered};

use super::{
    Annotations, Below, Change, Hit, Hits, Kind, Lookup, Outcome, Reindex, Result, SessionKey, Store, StoreError,
    Summary,
};
use crate::access::{Ingested, Viewer};
use crate::annotation::{Annotation, Draft, Part, Revision};
use crate::column::ColumnKeys;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::identity::VolumePrefix;
use crate::product::Product;
use crate::query::Query;
use crate::status::{Dlm, Indexing, Sdp};
use crate::volume::{Stamp, Volume};
use async_trait::async_trait;
use counts::KeyCounts;
use dictionary::KeyIds;
use lease::{Lease, Loss};
use listen::Ear;
use plan::Derived;
use seal::Sealing;
use search::{Search, Searcher};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tracing::debug;
use uuid::Uuid;

/// How often a waiting indexer looks whether a reindex is wanted, in case that it did not hear.
const LOOK: Duration = Duration::from_secs(2);
/// How long reading what is known of a whole volume may take.
const WHOLE: Duration = Duration::from_secs(600);

/// A [`Store`] in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    database: Database,
    role: Role,
    searcher: Searcher,
    key_counts: KeyCounts,
    sealing: Sealing,
}

#[derive(Debug)]
enum Role {
    /// Writes what it finds on the volume, under its lease.
    Indexer { prefix: VolumePrefix, lease: Arc<Lease>, ear: Arc<Ear>, keys: Mutex<KeyIds> },
    /// Answers, and writes what callers bring.
    Api { answering: Answering },
}

impl PostgresStore {
    /// The store of the process that holds the lease.
    pub fn of_indexer(database: Database, lease: Arc<Lease>, ear: Arc<Ear>) -> PostgresStore {
        let prefix = lease.candidate().prefix().clone();
        PostgresStore::new(database, Role::Indexer { prefix, lease, ear, keys: Mutex::default() })
    }

    /// The store of a process that answers for a volume. It finds out which one that is in the database when it is
    /// first asked, and again until it knows.
    pub fn of_api(database: Database, volume: Arc<Volume>) -> PostgresStore {
        PostgresStore::new(database, Role::Api { answering: Answering::new(volume) })
    }

    fn new(database: Database, role: Role) -> PostgresStore {
        let searcher = Searcher::new(database.search_cache(), database.connections(), database.limit());
        PostgresStore { database, role, searcher, key_counts: KeyCounts::default(), sealing: Sealing::default() }
    }

    /// What the volume's rows are keyed by.
    async fn prefix(&self, connection: &mut PgConnection) -> Result<VolumePrefix> {
        match &self.role {
            Role::Indexer { prefix, .. } => Ok(prefix.clone()),
            Role::Api { answering } => {
                let prefix = answering.prefix(connection).await;
                if let Err(StoreError::Unusable(why)) = &prefix {
                    self.database.give_up(why.clone());
                }
                prefix
            }
        }
    }

    /// Which version of the volume's origin rows are of, as far as this process has to know.
    fn generation(&self) -> i32 {
        match &self.role {
            Role::Indexer { lease, .. } => lease.generation(),
            Role::Api { .. } => 0,
        }
    }

    /// Publishes how a source is followed, in the column of its name.
    async fn publish_source(&self, column: &'static str, state: Option<Value>) -> Result<()> {
        let Role::Indexer { lease, .. } = &self.role else { return Ok(()) };
        let sql = format!(
            "UPDATE dpd_indexing_state SET {column} = $4::text::json WHERE volume_prefix = $1 AND epoch = $2 AND holder = $3"
        );
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let published = sqlx::query(AssertSqlSafe(sql))
                .bind(prefix.as_str())
                .bind(lease.epoch())
                .bind(lease.holder())
                .bind(state.map(|state| state.to_string()))
                .execute(&mut *session)
                .await;
            session.settle(published.map(drop).map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }

    /// A connection, and what the volume's rows are keyed by.
    async fn open(&self) -> Result<(Session, VolumePrefix)> {
        let mut session = self.database.session().await?;
        let prefix = self.prefix(&mut session).await?;
        Ok((session, prefix))
    }

    async fn reindex_waits(&self) -> Result<bool> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let waits = sqlx::query_scalar("SELECT EXISTS (SELECT FROM reindex_request WHERE volume_prefix = $1)")
                .bind(prefix.as_str())
                .fetch_one(&mut *session)
                .await;
            session.settle(waits.map_err(StoreError::from))
        };
        self.database.bounded(work).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn search(&self, query: Query, viewer: &Viewer) -> Result<Hits> {
        let work = async {
            let permits = self.searcher.permits(&query).await;
            let (mut session, prefix) = self.open().await?;
            let mut search =
                Search { prefix: &prefix, query: query.clone(), viewer, permits: &permits, careful: false };
            let mut hits = self.searcher.search(&mut session, search).await;
            if let Err(StoreError::Damaged(_)) = hits {
                search = Search { prefix: &prefix, query, viewer, permits: &permits, careful: true };
                hits = self.searcher.search(&mut session, search).await;
            }
            session.settle(hits)
        };
        self.database.bounded(work).await
    }

    async fn product(&self, uid: Uuid, viewer: &Viewer) -> Result<Lookup> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let product = read::product(&mut session, &prefix, uid, viewer).await;
            session.settle(product)
        };
        self.database.bounded(work).await
    }

    async fn products_of(&self, execution_block: &str, viewer: &Viewer) -> Result<Vec<Hit>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let products = read::products_of(&mut session, &prefix, execution_block, viewer).await;
            session.settle(products)
        };
        self.database.bounded(work).await
    }

    async fn below(&self, folder: &Folder, viewer: &Viewer, lately: Duration) -> Result<Below> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let folders = guards::below(&mut session, &prefix, folder, viewer, lately).await;
            session.settle(folders)
        };
        self.database.bounded(work).await
    }

    async fn may_know(&self, folder: &Folder, viewer: &Viewer) -> Result<Option<bool>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let known = read::may_know(&mut session, &prefix, folder, viewer).await;
            session.settle(known)
        };
        self.database.bounded(work).await
    }

    async fn removed(&self, lately: Duration) -> Result<Vec<Folder>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let folders = guards::removed(&mut session, &prefix, lately).await;
            session.settle(folders)
        };
        self.database.bounded(work).await
    }

    async fn products_at(&self, folders: &[Folder]) -> Result<Vec<Folder>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let folders = read::products_at(&mut session, &prefix, folders).await;
            session.settle(folders)
        };
        self.database.bounded(work).await
    }

    async fn keys(&self, viewer: &Viewer) -> Result<ColumnKeys> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let keys = self.key_counts.of(&mut session, &prefix, viewer).await;
            session.settle(keys)
        };
        self.database.bounded(work).await
    }

    async fn summary(&self, viewer: &Viewer, failing: usize) -> Result<Summary> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let summary = read::summary(&mut session, &prefix, viewer, failing).await;
            session.settle(summary)
        };
        self.database.bounded(work).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.make_room().await?;
        Ok(self.database.bounded(self.write(Work::Changes(plan::prepare(changes)))).await?.0)
    }

    async fn ingest(&self, product: Product, viewer: &Viewer) -> Result<Ingested> {
        self.make_room().await?;
        Ok(self.database.bounded(self.write(Work::Ingest(Derived::from(&product), viewer))).await?.1)
    }

    async fn failing(&self) -> Result<Vec<Folder>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let folders = read::failing(&mut session, &prefix).await;
            session.settle(folders)
        };
        self.database.bounded_by(WHOLE, work).await
    }

    async fn each_known(&self, scope: &Folder, tell: &mut (dyn FnMut(Folder, Option<Stamp>) + Send)) -> Result<()> {
        let generation = self.generation();
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let mut transaction = session.begin().await?;
            allow(&mut transaction, WHOLE).await?;
            read::known(&mut transaction, &prefix, scope, generation, tell).await?;
            transaction.commit().await?;
            session.settle(Ok(()))
        };
        self.database.bounded_by(WHOLE, work).await
    }

    async fn unmeasured(&self) -> Result<Vec<Folder>> {
        self.first_unmeasured(usize::MAX).await
    }

    async fn first_unmeasured(&self, limit: usize) -> Result<Vec<Folder>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let mut transaction = session.begin().await?;
            allow(&mut transaction, WHOLE).await?;
            let folders = read::unmeasured(&mut transaction, &prefix, limit).await?;
            transaction.commit().await?;
            session.settle(Ok(folders))
        };
        self.database.bounded_by(WHOLE, work).await
    }

    async fn flows(&self) -> Result<BTreeMap<FlowId, Flow>> {
        // Asked once by whoever takes over.
        if let Role::Indexer { .. } = &self.role {
            self.database.bounded(self.write(Work::Placeholders)).await?;
        }
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let flows = flows::stored(&mut session, &prefix, None).await;
            session.settle(flows)
        };
        self.database.bounded(work).await
    }

    async fn publish_sdp(&self, sdp: Option<Sdp>) -> Result<()> {
        self.publish_source("sdp", sdp.map(|sdp| serde_json::json!(sdp))).await
    }

    async fn publish_dlm(&self, dlm: Option<Dlm>) -> Result<()> {
        self.publish_source("dlm", dlm.map(|dlm| serde_json::json!(dlm))).await
    }

    async fn publish(&self, indexing: Indexing) -> Result<()> {
        let Role::Indexer { lease, .. } = &self.role else { return Ok(()) };
        lease.check()?;
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let published = state::publish(&mut session, &prefix, lease, &indexing).await;
            session.settle(published)
        };
        if self.database.bounded(work).await? {
            return Ok(());
        }
        lease.lose(Loss::TakenOver);
        Err(StoreError::Superseded)
    }

    async fn request_reindex(&self) -> Result<Reindex> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let accepted = state::request_reindex(&mut session, &prefix).await;
            session.settle(accepted)
        };
        Ok(if self.database.bounded(work).await? { Reindex::Accepted } else { Reindex::InProgress })
    }

    async fn reindex_requested(&self) {
        loop {
            match self.reindex_waits().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => debug!("whether a reindex is wanted is not known: {error}"),
            }
            let heard = async {
                match &self.role {
                    Role::Indexer { ear, .. } => ear.reindex().await,
                    Role::Api { .. } => std::future::pending().await,
                }
            };
            let _ = tokio::time::timeout(LOOK, heard).await;
        }
    }

    async fn session_key(&self, made: SessionKey) -> Result<SessionKey> {
        session::key(self, made).await
    }

    fn kind(&self) -> Kind {
        Kind::Postgresql
    }

    fn trouble(&self) -> Option<String> {
        self.database.trouble()
    }

    fn annotations(&self) -> Option<&dyn Annotations> {
        Some(self)
    }
}

/// Lets each statement of a transaction take longer than others.
async fn allow(connection: &mut PgConnection, limit: Duration) -> Result<()> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(limit.as_millis().to_string())
        .execute(connection)
        .await?;
    Ok(())
}

#[async_trait]
impl Annotations for PostgresStore {
    async fn list(&self, product: Uuid, after: Option<&Annotation>) -> Result<Part> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let annotations = annotation::of(&mut session, &prefix, product, after).await;
            session.settle(annotations)
        };
        self.database.bounded(work).await
    }

    async fn create(&self, draft: &Draft) -> Result<bool> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let mut transaction = session.begin().await?;
            let created = annotation::create(&mut transaction, &prefix, draft).await?;
            match created {
                true => transaction.commit().await?,
                false => transaction.rollback().await?,
            }
            session.settle(Ok(created))
        };
        self.database.bounded(work).await
    }

    async fn product_of(&self, id: i64) -> Result<Option<Uuid>> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let product = annotation::product_of(&mut session, &prefix, id).await;
            session.settle(product)
        };
        self.database.bounded(work).await
    }

    async fn update(&self, id: i64, draft: &Draft) -> Result<Revision> {
        let work = async {
            let (mut session, prefix) = self.open().await?;
            let mut transaction = session.begin().await?;
            let revision = annotation::update(&mut transaction, &prefix, id, draft).await?;
            transaction.commit().await?;
            session.settle(Ok(revision))
        };
        self.database.bounded(work).await
    }
}
