//! `dpd serve`: the indexer and the API in one process, on the store in memory.

use crate::progress::{self, AboveBar};
use api::Api;
use indexer::metrics::Meters;
use shared::config::{self, Logging, PostgresqlSettings, Settings, Variables};
use shared::metrics::{self, Metrics};
use shared::process;
use shared::store::Store;
use shared::store::memory::MemoryStore;
use shared::telemetry::{self, say};
use shared::volume::Volume;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tracing::warn;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The volume's data product folder [default: $PERSISTENT_STORAGE_PATH]
    path: Option<PathBuf>,
    /// The address to answer on; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: String,
}

/// Serves until a signal says to stop. The error is a line for people.
pub(crate) fn run(arguments: Arguments) -> Result<(), String> {
    let variables = Variables::of_process();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let path = match arguments.path {
        None => None,
        Some(path) => Some(path.into_os_string().into_string().map_err(|path| format!("{path:?} is not UTF-8"))?),
    };
    let settings = Settings::read(&variables, path).map_err(|error| text(&error))?;
    let postgresql = PostgresqlSettings::read(&variables).map_err(|error| text(&error))?;
    let logging = Logging::read(&variables).map_err(|error| text(&error))?;
    let hosts = config::allowed_hosts(&variables).map_err(|error| text(&error))?;
    let volume = Arc::new(Volume::new(&settings.volume));
    volume.open().map_err(|error| format!("{} cannot be indexed: {error}", volume.path().display()))?;

    let scraped = config::metrics_listen(&variables).map_err(|error| text(&error))?;
    let bar = progress::bar();
    telemetry::start(&logging, AboveBar(bar.clone()), io::stderr().is_terminal());
    process::allow_many_connections();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| text(&error))?;
    let begin = || {
        telemetry::begin("dpd", env!("CARGO_PKG_VERSION"), &variables.told());
        if postgresql.is_some() {
            warn!("a PostgreSQL is configured, but `dpd serve` keeps its index in memory and does not use it");
        }
    };
    let result = runtime.block_on(serve(begin, volume, settings, &arguments.listen, scraped, hosts, &bar));
    // Reads of a volume that does not answer must not keep the process.
    runtime.shutdown_background();
    result
}

async fn serve(
    begin: impl FnOnce(),
    volume: Arc<Volume>,
    mut settings: Settings,
    listen: &str,
    scraped: Option<SocketAddr>,
    hosts: Option<Vec<String>>,
    bar: &indicatif::ProgressBar,
) -> Result<(), String> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another address with --listen"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    // Who gave an address that is taken is told that, and no more.
    begin();
    if settings.indexing.dlm.is_some() {
        warn!("data items of the Data Lifecycle Manager are shown by dpd-indexer and dpd-api only, not by `dpd serve`");
    }
    // What listens on loopback is for this machine's users; pages in their browsers are not to get at it by a name that
    // leads here as well.
    settings.api.hosts = hosts.filter(|_| address.ip().is_loopback());
    // Whoever presses Ctrl-C wants it to end.
    let drain = settings.api.drain.unwrap_or_default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(settings.api.search_timeout));
    let api = Api::new(store.clone(), volume.clone(), settings.api, settings.indexing.clone())
        .map_err(|error| error.to_string())?;
    let stop = process::stop().map_err(|error| error.to_string())?;
    let meters = Meters::default();
    let indexing = indexer::run(volume.clone(), store.clone(), settings.indexing, None, meters.clone());
    let indexing = tokio::spawn(indexing);
    say(&format!("listening on http://{address}"));
    let scraped = match scraped {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let telling = async {
        let Some(scraped) = scraped else { return std::future::pending().await };
        let mut metrics = Metrics::of("dpd", env!("CARGO_PKG_VERSION"));
        let families = metrics.families();
        api.register(families);
        meters.register(families, &volume.origin().name);
        metrics::serve(scraped, Arc::new(metrics)).await;
    };
    let introducing = async {
        introduce(&volume, store.as_ref(), address, bar).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = api::server::serve(listener, api.clone(), drain, stop) => Ok(()),
        () = introducing => Ok(()),
        () = telling => Ok(()),
        ended = indexing => Err(format!("the indexer ended: {ended:?}")),
    }
}

/// Says what is served, where, and what to try, once the first walk has ended.
async fn introduce(volume: &Volume, store: &dyn Store, address: SocketAddr, bar: &indicatif::ProgressBar) {
    let Some(summary) = progress::follow(store, bar).await else { return };
    let took = summary.indexing.last_duration.unwrap_or(Duration::ZERO).as_secs_f64();
    let path = volume.path().display();
    say(&format!(
        "\nserving {} data products of {path}, indexed in {took:.1} s{}\n\n\
         \x20 documentation  http://{address}/docs\n\
         \x20 what is there  curl -s http://{address}/dataproductsearch -d '{{}}'\n\
         \x20 one of them    curl -s http://{address}/dataproductmetadata -d '{{\"execution_block\": \"EXECUTION-BLOCK\"}}'\n\
         \x20 its files      curl -sOJ http://{address}/download -d '{{\"execution_block\": \"EXECUTION-BLOCK\"}}'\n\n\
         New products appear by themselves. Ctrl-C ends it.",
        summary.products,
        match summary.failing {
            0 => String::new(),
            1 => "; 1 metadata file does not read, see the log".to_owned(),
            n => format!("; {n} metadata files do not read, see the log"),
        }
    ));
}
