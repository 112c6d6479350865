//! `dpd-indexer`, the daemon that keeps an index in PostgreSQL in step with a volume.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use indexer::{import, migrate};
use shared::config::{self, IndexingSettings, Logging, PostgresqlSettings, Variables, VolumeSettings};
use shared::store::postgres::Database;
use shared::telemetry;
use shared::volume::Volume;
use shared::{metrics, process, server};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// What is made and thrown away for each product would cost a tenth of the first index's time in the C library's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long a piece of work of `migrate` or of an import may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The exit code that says that something is left to be done by people.
const SOMETHING_LEFT: u8 = 3;

/// Keep the index of a volume's data products in PostgreSQL up to date.
///
/// The volume at PERSISTENT_STORAGE_PATH is walked once and then watched. Any number of these may run for one volume: one
/// holds the lease and writes, the others stand by and take over when it ends or falls silent. All settings come from
/// the environment. Health, a small status and metrics are answered on DPD_INDEXER_LISTEN.
#[derive(Parser)]
#[command(name = "dpd-indexer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the database's tables, or bring them up to date, and end. The daemon does so itself when it starts.
    #[command(after_help = MIGRATE_EXIT_CODES)]
    Migrate(migrate::Arguments),
    /// Take over the annotations of the service before this one, from its table in the same database.
    ///
    /// Ids are kept, since clients hold them. What was taken over before is passed over, so that it may be run again, also
    /// while the old service, indexers and APIs run: what was written anew there since is written anew here. The volume must
    /// have been indexed once. Rows without an author are kept as anonymous's, and those without a time as of 1970-01-01.
    ///
    /// What became of the rows is told on standard output. Nothing of the old service's is changed.
    #[command(after_help = IMPORT_EXIT_CODES)]
    ImportAnnotations(import::Arguments),
}

/// What the exit codes of a migration say.
const MIGRATE_EXIT_CODES: &str = "Exit codes:
  0  the tables are as this program needs them
  2  it could not be done, or (--check) could not be found out
  3  (--check) something is to be done";

/// What the exit codes of an import say.
const IMPORT_EXIT_CODES: &str = "Exit codes:
  0  all annotations that can be kept are here
  2  it could not be done; what was taken over until then stays
  3  some were left out, since their ids are other annotations' here";

fn main() -> ExitCode {
    let matches = Arguments::command().after_long_help(config::help()).get_matches();
    let result = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => run(arguments.command.as_ref()),
        Err(error) => error.exit(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("dpd-indexer: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Answers the exit code. The error is a line for people.
fn run(command: Option<&Command>) -> Result<u8, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let variables = Variables::of_process();
    let logging = Logging::read(&variables).map_err(|error| text(&error))?;
    let postgresql = PostgresqlSettings::read(&variables).map_err(|error| text(&error))?.ok_or(
        "no PostgreSQL is configured: set DATABASE_URL or SKA_DATAPRODUCT_API_POSTGRESQL_HOST. \
         To try it without one, run `dpd serve PATH`",
    )?;
    telemetry::start(&logging, io::stderr, io::stderr().is_terminal());
    let runtime = Runtime::new().map_err(|error| text(&error))?;
    let result = match command {
        Some(Command::Migrate(arguments)) => {
            let clear = runtime.block_on(migrate::run(&postgresql, LIMIT, arguments)).map_err(|error| text(&error));
            clear.map(|clear| if clear { 0 } else { SOMETHING_LEFT })
        }
        Some(Command::ImportAnnotations(arguments)) => {
            let volume = VolumeSettings::read(&variables, None).map_err(|error| text(&error))?;
            let volume = Arc::new(Volume::new(&volume));
            let import = async {
                let database = Database::new(&postgresql, "dpd-indexer import-annotations", 4, LIMIT)?;
                import::run(database, volume, arguments).await
            };
            let is_complete = runtime.block_on(import).map_err(|error| text(&error));
            is_complete.map(|complete| if complete { 0 } else { SOMETHING_LEFT })
        }
        None => {
            let volume = VolumeSettings::read(&variables, None).map_err(|error| text(&error))?;
            let indexing = IndexingSettings::read(&variables).map_err(|error| text(&error))?;
            let listen = config::listen(&variables, "DPD_INDEXER_LISTEN").map_err(|error| text(&error))?;
            let scraped = config::metrics_listen(&variables).map_err(|error| text(&error))?;
            process::allow_many_connections();
            runtime
                .block_on(async {
                    let stop = process::stop().map_err(|error| text(&error))?;
                    let listener = server::listen("DPD_INDEXER_LISTEN", listen).await?;
                    let scraped = match scraped {
                        Some(address) => Some(metrics::listen(address).await?),
                        None => None,
                    };
                    telemetry::begin("dpd-indexer", env!("CARGO_PKG_VERSION"), &variables.told());
                    let volume = Arc::new(Volume::new(&volume));
                    let daemon = indexer::daemon::run(volume, indexing, postgresql, listener, scraped, stop);
                    daemon.await.map_err(|error| text(&error))
                })
                .map(|()| 0)
        }
    };
    // Reads of a volume that does not answer must not keep the process.
    runtime.shutdown_background();
    result
}
