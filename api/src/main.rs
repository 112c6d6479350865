//! `dpd-api`, the process that answers HTTP from the index in PostgreSQL. It keeps nothing itself.

use api::Api;
use clap::{CommandFactory, FromArgMatches, Parser};
use shared::config::{self, ApiSettings, IndexingSettings, Logging, PostgresqlSettings, Variables, VolumeSettings};
use shared::metrics::{self, Copy, Figures as _, Metrics};
use shared::store::Store;
use shared::store::postgres::{Database, PostgresStore, ReplicatedStore};
use shared::telemetry;
use shared::volume::Volume;
use shared::{process, server};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// What a search reads is large and soon given up. The C library's allocator keeps several times of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long it goes on answering after it was told to stop, where nothing else is configured: until a Kubernetes Service
/// and the ingress before it have heard that it is.
const DRAIN: Duration = Duration::from_secs(8);

/// Serve the index of a volume's data products from PostgreSQL over HTTP.
///
/// The index is written by dpd-indexer; neither needs the other to be up, and any number of these may run. The volume at
/// PERSISTENT_STORAGE_PATH is needed for downloads alone, and may be read-only. All settings come from the environment;
/// /docs describes the API.
#[derive(Parser)]
#[command(name = "dpd-api", version)]
struct Arguments {}

fn main() -> ExitCode {
    let matches = Arguments::command().after_long_help(config::help()).get_matches();
    let result = match Arguments::from_arg_matches(&matches) {
        Ok(Arguments {}) => run(),
        Err(error) => error.exit(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("dpd-api: {problem}");
            ExitCode::from(2)
        }
    }
}

/// The error is a line for people.
fn run() -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let variables = Variables::of_process();
    let logging = Logging::read(&variables).map_err(|error| text(&error))?;
    let postgresql = PostgresqlSettings::read(&variables).map_err(|error| text(&error))?.ok_or(
        "no PostgreSQL is configured: set DATABASE_URL or SKA_DATAPRODUCT_API_POSTGRESQL_HOST. \
         To serve a volume without one, run `dpd serve PATH`",
    )?;
    let volume = VolumeSettings::read(&variables, None).map_err(|error| text(&error))?;
    let indexing = IndexingSettings::read(&variables).map_err(|error| text(&error))?;
    let settings = ApiSettings::read(&variables).map_err(|error| text(&error))?;
    let drain = settings.drain.unwrap_or(DRAIN);
    let listen = config::listen(&variables, "DPD_API_LISTEN").map_err(|error| text(&error))?;
    let scraped = config::metrics_listen(&variables).map_err(|error| text(&error))?;
    telemetry::start(&logging, io::stderr, io::stderr().is_terminal());
    process::allow_many_connections();
    let runtime = Runtime::new().map_err(|error| text(&error))?;
    let result = runtime.block_on(async {
        let name = format!("dpd-api {}", process::name());
        let database = Database::new(&postgresql, &name, postgresql.connections, postgresql.timeout)
            .map_err(|error| text(&error))?;
        let volume = Arc::new(Volume::new(&volume));
        let primary = Arc::new(PostgresStore::of_api(database.clone(), volume.clone()));
        let standby = match &postgresql.standby {
            None => None,
            Some(server) => {
                let settings = PostgresqlSettings { server: server.clone(), ..postgresql.clone() };
                let name = format!("{name}, reading");
                let standby = Database::new(&settings, &name, settings.connections, settings.timeout)
                    .map_err(|error| text(&error))?;
                Some(Arc::new(PostgresStore::of_api(standby, volume.clone())))
            }
        };
        let replicated =
            standby.as_ref().map(|standby| Arc::new(ReplicatedStore::new(primary.clone(), standby.clone())));
        let store: Arc<dyn Store> = match &replicated {
            None => primary.clone(),
            Some(replicated) => replicated.clone(),
        };
        let api = Api::new(store.clone(), volume.clone(), settings, indexing).map_err(|error| text(&error))?;
        let stop = process::stop().map_err(|error| text(&error))?;
        let listener = server::listen("DPD_API_LISTEN", listen).await?;
        let scraped = match scraped {
            Some(address) => Some(metrics::listen(address).await?),
            None => None,
        };
        telemetry::begin("dpd-api", env!("CARGO_PKG_VERSION"), &variables.told());
        let telling = async {
            let Some(scraped) = scraped else { return std::future::pending().await };
            let (copy, name) = (Copy::default(), &volume.origin().name);
            let mut metrics = Metrics::of("dpd-api", env!("CARGO_PKG_VERSION"));
            let families = metrics.families();
            api.register(families);
            database.register(families);
            // Searches are made where they are read.
            standby.as_ref().unwrap_or(&primary).register(families, name);
            ReplicatedStore::register(replicated.as_ref(), families);
            copy.register(families.of_volume(name));
            tokio::join!(metrics::serve(scraped, Arc::new(metrics)), copy.follow(store.as_ref()));
        };
        tokio::select! {
            () = api::server::serve(listener, api.clone(), drain, stop) => Ok(()),
            why = database.unusable() => Err(why),
            () = telling => Ok(()),
        }
    });
    // Reads of a volume that does not answer must not keep the process.
    runtime.shutdown_background();
    result
}
