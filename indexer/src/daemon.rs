//! `dpd-indexer` as it runs: from the database and the volume's identity to the lease, and from the lease to indexing,
//! for ever.

use crate::lease;
use crate::metrics::Meters;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use shared::config::{IndexingSettings, PostgresqlSettings};
use shared::identity::{self, VolumePrefix};
use shared::metrics::{self, Figures as _, Metrics, Registry};
use shared::server::{Counted, Ending, Patience};
use shared::store::StoreError;
use shared::store::postgres::lease::{Candidate, Lease};
use shared::store::postgres::listen::Ear;
use shared::store::postgres::{Database, PostgresStore, prefix_by_name, prefix_of, registered, schema};
use shared::volume::Volume;
use shared::{process, server};
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tracing::{info, warn};
use uuid::Uuid;

/// How long to wait before what did not work is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// A lease of more than this is warned of.
const LONG: Duration = Duration::from_secs(60);
/// How long one piece of the index's writing or reading may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often the daemon's task shows that it turns, and after how long without that it has stopped. Whatever it waits for,
/// a migration or a mount that hangs, it turns.
const TURN: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(30);
/// How often it is looked whether a volume that has no identity was given one.
const NAMED: Duration = Duration::from_secs(2);
/// How long the volume may take to answer before that is told.
const ANSWER: Duration = Duration::from_secs(10);
/// How long answers on the health port may take to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long a client may take nothing of its answer.
const PATIENCE: Patience = Patience { stall: Duration::from_secs(60), idle: Duration::from_secs(75) };

/// What a daemon does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    /// Something is missing that may come.
    Waiting(String),
    StandingBy,
    Holding {
        epoch: i64,
    },
}

/// How a daemon is, for those who ask.
#[derive(Debug)]
pub(crate) struct Health {
    volume: Arc<Volume>,
    name: String,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    state: State,
    turned: Instant,
    prefix: Option<VolumePrefix>,
}

impl Health {
    fn new(volume: Arc<Volume>, name: String) -> Health {
        let now = Now { state: State::Starting, turned: Instant::now(), prefix: None };
        Health { volume, name, now: Mutex::new(now) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns for ever, as a part of the task that it is to vouch for.
    async fn turn(&self) {
        loop {
            self.now().turned = Instant::now();
            tokio::time::sleep(TURN).await;
        }
    }

    /// Notes what the daemon does.
    pub(crate) fn set(&self, state: State) {
        let mut now = self.now();
        if now.state != state {
            match &state {
                State::Waiting(reason) => warn!(error = %reason, "waiting"),
                State::StandingBy => info!("standing by: another indexer holds the lease"),
                State::Holding { .. } | State::Starting => {}
            }
            now.state = state;
        }
    }

    /// Notes that it cannot go on for now.
    pub(crate) fn wait(&self, why: &impl std::fmt::Display) {
        self.set(State::Waiting(why.to_string()));
    }

    /// Registers what the daemon does at the moment, for metrics.
    fn register(self: &Arc<Self>, registry: &mut Registry) {
        let own = self.clone();
        let help = "What this indexer does: 1 for the state that it is in. One that waits says in /status what for";
        registry.gauges("indexer_state", help, "state", move || {
            let state = match own.now().state {
                State::Starting => "starting",
                State::Waiting(_) => "waiting",
                State::StandingBy => "standing_by",
                State::Holding { .. } => "holding",
            };
            let states = ["starting", "waiting", "standing_by", "holding"];
            states.map(|one| (one, f64::from(u8::from(one == state)))).to_vec()
        });
    }

    fn answer(&self, path: &str) -> (StatusCode, Value) {
        let now = self.now();
        let ready = match &now.state {
            State::Starting => Err("starting".to_owned()),
            State::Waiting(reason) => Err(reason.clone()),
            State::StandingBy | State::Holding { .. } => Ok(()),
        };
        match (path, ready) {
            ("/livez", _) if now.turned.elapsed() > STOPPED => {
                (StatusCode::SERVICE_UNAVAILABLE, json!({"detail": "The indexer's own loop has stopped."}))
            }
            ("/livez", _) | ("/readyz", Ok(())) => (StatusCode::OK, json!({"status": "ok"})),
            ("/readyz", Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, json!({"detail": reason})),
            ("/status", ready) => (StatusCode::OK, self.status(&now, ready.err())),
            _ => (
                StatusCode::NOT_FOUND,
                json!({"detail": "There are /livez, /readyz and /status here, and /metrics where DPD_METRICS_LISTEN is not set."}),
            ),
        }
    }

    fn status(&self, now: &Now, waits_for: Option<String>) -> Value {
        let (state, epoch) = match &now.state {
            State::Starting => ("starting", None),
            State::Waiting(_) => ("waiting", None),
            State::StandingBy => ("standing by", None),
            State::Holding { epoch } => ("holding the lease", Some(*epoch)),
        };
        json!({
            "program": "dpd-indexer",
            "version": env!("CARGO_PKG_VERSION"),
            "name": self.name,
            "state": state,
            "waits_for": waits_for,
            "epoch": epoch,
            "volume": self.volume.origin().name,
            "storage_path": self.volume.path(),
            "volume_prefix": now.prefix.as_ref().map(VolumePrefix::as_str),
        })
    }
}

/// Runs until `stop`, and then gives the lease back. Answers on `listener` meanwhile, and on `scraped` those who scrape; where
/// there is no such, they are answered on `listener` as well.
///
/// # Errors
/// What cannot get better by waiting, for people to read.
pub async fn run(
    volume: Arc<Volume>,
    indexing: IndexingSettings,
    postgresql: PostgresqlSettings,
    listener: TcpListener,
    scraped: Option<TcpListener>,
    stop: impl Future<Output = ()>,
) -> Result<(), StoreError> {
    let name = process::name();
    let database = Database::new(&postgresql, &format!("dpd-indexer {name}"), postgresql.connections, LIMIT)?;
    // Renewals must not wait for a connection.
    let of_lease = format!("dpd-indexer lease {name}");
    let own = database.beside(&postgresql, &of_lease, 1, (indexing.term / 3).min(LIMIT))?;
    if indexing.term > LONG {
        warn!(
            "INDEXING_HEARTBEAT_STALE_SECONDS is {} s: after an indexer was killed or cut off, nothing may be indexed for as \
             long as that. The default, 15 s, is safe: whoever lost the lease cannot write",
            indexing.term.as_secs_f64()
        );
    }
    let health = Arc::new(Health::new(volume.clone(), name.clone()));
    let (meters, counted) = (Meters::default(), Counted::default());
    let mut all = Metrics::of("dpd-indexer", env!("CARGO_PKG_VERSION"));
    let families = all.families();
    meters.register(families, &volume.origin().name);
    health.register(families);
    database.register(families);
    volume.register(families);
    counted.register(families);
    let all = Arc::new(all);
    let beside = if scraped.is_none() { Some(all.clone()) } else { None };
    let answering = tokio::spawn(answer(listener, health.clone(), counted, beside));
    let scraping = scraped.map(|scraped| tokio::spawn(metrics::serve(scraped, all)));
    let daemon = Daemon {
        volume,
        indexing,
        database: database.clone(),
        own,
        name,
        health,
        meters,
        state_name: postgresql.state_name,
    };
    let held = Mutex::default();
    let mut unusable = None;
    tokio::select! {
        () = stop => {}
        why = database.unusable() => unusable = Some(StoreError::Unusable(why)),
        () = daemon.index_for_ever(&held) => {}
        () = daemon.health.turn() => {}
    }
    let lease = held.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(lease) = lease {
        give_back(&lease).await;
    }
    answering.abort();
    scraping.inspect(tokio::task::JoinHandle::abort);
    unusable.map_or(Ok(()), Err)
}

async fn give_back(lease: &Lease) {
    match lease.release().await {
        Ok(()) => info!(epoch = lease.epoch(), "gave the lease back"),
        Err(error) => warn!(%error, "the lease is not given back and has to run out"),
    }
}

struct Daemon {
    volume: Arc<Volume>,
    indexing: IndexingSettings,
    database: Database,
    /// For the lease alone.
    own: Database,
    name: String,
    health: Arc<Health>,
    meters: Meters,
    state_name: String,
}

impl Daemon {
    async fn index_for_ever(&self, held: &Mutex<Option<Arc<Lease>>>) {
        self.migrate().await;
        loop {
            let (prefix, identity) = self.identify().await;
            info!(%prefix, path = %self.volume.path().display(), "indexing this volume");
            self.health.now().prefix = Some(prefix.clone());
            let ear = Arc::new(Ear::on(&self.database, &prefix));
            let origin = self.volume.origin().clone();
            let candidate = Candidate::new(self.own.clone(), prefix, origin, self.name.clone(), &self.indexing);
            // Until it is another volume, for all that we know.
            tokio::select! {
                () = self.index(&candidate, &ear, identity, held) => {}
                () = self.is_named(), if identity.is_none() => {}
            }
            let lease = held.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(lease) = lease {
                give_back(&lease).await;
            }
        }
    }

    /// Indexes a volume whenever the lease on it is ours.
    async fn index(
        &self,
        candidate: &Candidate,
        ear: &Arc<Ear>,
        identity: Option<Uuid>,
        held: &Mutex<Option<Arc<Lease>>>,
    ) {
        loop {
            let Some(lease) = lease::acquire(candidate, ear, &self.health).await else {
                // The tables may be gone, or older ones.
                self.migrate().await;
                continue;
            };
            let lease = Arc::new(lease);
            self.health.set(State::Holding { epoch: lease.epoch() });
            self.meters.lease_taken(&lease);
            *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
            let store = Arc::new(PostgresStore::of_indexer(self.database.clone(), lease.clone(), ear.clone()));
            let all = async {
                tokio::join!(
                    crate::run(
                        self.volume.clone(),
                        store.clone(),
                        self.indexing.clone(),
                        identity,
                        self.meters.clone()
                    ),
                    crate::dlm::follow(store.clone(), self.indexing.dlm.clone()),
                    store.tend(),
                    store.tell_size(&self.meters.size),
                );
            };
            tokio::select! {
                () = all => {}
                () = lease::keep(&lease, &self.health, &self.meters) => {}
            }
            held.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Waits until a volume that had no identity has one.
    async fn is_named(&self) {
        loop {
            tokio::time::sleep(NAMED).await;
            let volume = self.volume.clone();
            if let Ok(Ok(Some(id))) = tokio::task::spawn_blocking(move || identity::read(&volume)).await {
                return info!(%id, "the volume has an identity now");
            }
        }
    }

    async fn migrate(&self) {
        loop {
            match schema::migrate(&self.database, &self.state_name).await {
                Ok(true) => return info!("the database's tables are up to date now"),
                Ok(false) => return,
                // It ends the program, which says why.
                Err(StoreError::Unusable(_)) => std::future::pending().await,
                Err(error) => self.health.wait(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Finds out which volume this is, or makes it one.
    async fn identify(&self) -> (VolumePrefix, Option<Uuid>) {
        loop {
            match self.identity().await {
                Ok(identity) => return identity,
                Err(reason) => self.health.wait(&reason),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn identity(&self) -> Result<(VolumePrefix, Option<Uuid>), String> {
        let name = &self.volume.origin().name;
        if let Some(id) = self.blocking(identity::read).await? {
            return self.of_identity(id).await;
        }
        // An empty folder where a volume of this name was may be a mount that is missing.
        let empty = self.blocking(|volume| Ok(volume.open()?.list(&Default::default())?.empty)).await?;
        let known = registered(&self.database, name).await.map_err(|error| error.to_string())?;
        if let Some(known) = known.iter().find(|known| empty && known.products > 0) {
            return Err(format!(
                "the storage path is empty, but a volume called {name} with {} products was indexed before: is it \
                 mounted? If this is a new volume, give it another name by PVCNAME",
                known.products
            ));
        }
        match self.blocking(|volume| Ok(identity::read_or_create(volume))).await? {
            Ok(id) => self.of_identity(id).await,
            Err(error) if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                let prefix = prefix_by_name(&self.database, name).await.map_err(|error| error.to_string())?;
                warn!("the volume cannot be given an identity ({error}), so its name {name} has to do");
                Ok((prefix, None))
            }
            Err(error) => Err(format!("the volume cannot be given an identity: {error}")),
        }
    }

    async fn of_identity(&self, id: Uuid) -> Result<(VolumePrefix, Option<Uuid>), String> {
        let prefix = prefix_of(&self.database, &self.volume, id).await.map_err(|error| error.to_string())?;
        Ok((prefix, Some(id)))
    }

    /// Asks the volume something, however long it takes to answer: asking again would only hang as well.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Volume) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let (volume, path) = (self.volume.clone(), self.volume.path().display());
        let mut asking = tokio::task::spawn_blocking(move || ask(&volume));
        let answer = match tokio::time::timeout(ANSWER, &mut asking).await {
            Ok(answer) => answer,
            Err(_) => {
                self.health.wait(&format!("{path} does not answer"));
                asking.await
            }
        };
        answer.map_err(io::Error::other).flatten().map_err(|error| format!("{path} cannot be read: {error}"))
    }
}

async fn answer(listener: TcpListener, health: Arc<Health>, counted: Counted, beside: Option<Arc<Metrics>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        let response = match &beside {
            Some(all) if is_read && request.uri().path() == "/metrics" => metrics::answer(all, request.headers()),
            _ => {
                let (status, body) = match is_read {
                    true => health.answer(request.uri().path()),
                    false => (StatusCode::METHOD_NOT_ALLOWED, json!({"detail": "There is only GET here."})),
                };
                let mut response = Response::new(body.to_string());
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
        };
        async { Ok::<_, Infallible>(response) }
    });
    let ending = Ending { drain: Duration::ZERO, grace: || GRACE };
    server::serve(listener, service, PATIENCE, &counted, std::future::pending(), ending).await;
}
