//! The API: answers HTTP from a store.
//!
//! [`routes`] lists every path; each resource has a file of its own; [`error`] is where a failure gets its status;
//! [`server`] accepts connections. Handlers end in a response whatever happens, so that `warp` never has a rejection to
//! make an answer of.

mod annotation;
mod auth;
mod body;
pub mod download;
mod error;
mod files;
mod ingest;
mod limits;
mod lookup;
mod metadata;
mod metrics;
mod openapi;
mod page_token;
mod paging;
mod readiness;
mod reindex;
mod reply;
mod request;
mod routes;
mod rows;
mod search;
pub mod server;
mod status;
mod trace;
mod trouble;
mod turns;
mod work;

use chrono::{DateTime, Utc};
use shared::clock;
use shared::config::{ApiSettings, IndexingSettings};
use shared::store::Store;
use shared::telemetry::Seldom;
use shared::volume::Volume;
use std::io;
use std::sync::Arc;

/// What every handler answers from.
pub struct Api {
    store: Arc<dyn Store>,
    volume: Arc<Volume>,
    settings: ApiSettings,
    /// How the volume is indexed, which `/status` shows.
    indexing: IndexingSettings,
    started: DateTime<Utc>,
    openapi: serde_json::Value,
    downloads: download::Running,
    plans: download::Plans,
    pages: paging::Pages,
    auth: auth::Auth,
    limits: limits::Limits,
    bodies: Arc<body::Bodies>,
    work: work::Work,
    trouble: trouble::Trouble,
    readiness: readiness::Readiness,
    answers: metrics::Answers,
    failures: Seldom,
}

impl Api {
    /// An API on a store, with the volume for what it reads from disk itself.
    ///
    /// # Errors
    /// Where the documentation that is built in cannot be read, or no threads are to be had.
    pub fn new(
        store: Arc<dyn Store>,
        volume: Arc<Volume>,
        settings: ApiSettings,
        indexing: IndexingSettings,
    ) -> io::Result<Arc<Api>> {
        let openapi = openapi::document(version(&settings), &settings.root_path)?;
        let (downloads, plans) = (download::Running::default(), download::Plans::default());
        let pages = paging::Pages::default();
        let auth = auth::Auth::new(&settings.access, store.clone(), &settings.root_path);
        let (limits, bodies) = (limits::Limits::new(&settings), Arc::default());
        let trouble = trouble::Trouble::default();
        let (answers, failures) = (metrics::Answers::default(), Seldom::new(routes::FAILURES));
        let (started, work) = (clock::now(), work::Work::new()?);
        Ok(Arc::new(Api {
            store,
            volume,
            settings,
            indexing,
            started,
            openapi,
            downloads,
            plans,
            pages,
            auth,
            limits,
            bodies,
            work,
            trouble,
            readiness: readiness::Readiness::default(),
            answers,
            failures,
        }))
    }
}

fn version(settings: &ApiSettings) -> &str {
    settings.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
}
