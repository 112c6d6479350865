//! `dpd-indexer import-annotations`: what people wrote and brought to the service before this one, taken over from its
//! tables, and told line by line.

use shared::store::postgres::import::{ImportOptions, Imported};
use shared::store::postgres::old_tables::OldKind;
use shared::store::postgres::{Database, PostgresStore};
use shared::store::{Result, StoreError};
use shared::telemetry::say;
use shared::volume::Volume;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// What is taken over, and from where.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// The old service's table of annotations. Else it is looked for by the names that its releases gave it
    #[arg(long, value_name = "SCHEMA.TABLE")]
    from: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The time zone that the old service's times are in where they have none, as PostgreSQL calls it (Europe/London)
    /// [default: that of the database, of the table's owner or of the server, which is said]
    #[arg(long, value_name = "ZONE")]
    source_timezone: Option<String>,
    /// Give annotations whose id is another's here a new one. Else they are left out, and counted
    #[arg(long)]
    new_ids: bool,
    /// Take over as well what callers brought by /ingestnewmetadata, of which there is no file on the volume. What is here
    /// under the same uid stays
    #[arg(long)]
    with_ingested: bool,
    /// The old service's table of metadata, for --with-ingested
    #[arg(long, value_name = "SCHEMA.TABLE", requires = "with_ingested")]
    ingested_from: Option<String>,
}

/// Takes over what the arguments say. Answers whether all that can be kept is here.
///
/// # Errors
/// When a table or the database cannot be used.
pub async fn run(database: Database, volume: Arc<Volume>, arguments: &Arguments) -> Result<bool> {
    let store_name = volume.origin().name.clone();
    let store = PostgresStore::of_api(database, volume);
    let is_complete = annotations(&store, arguments).await?;
    if arguments.with_ingested {
        ingested(&store, &store_name, arguments).await?;
    }
    if arguments.dry_run {
        say("this was a dry run: nothing was changed");
    }
    Ok(is_complete)
}

async fn annotations(store: &PostgresStore, arguments: &Arguments) -> Result<bool> {
    let mut is_complete = true;
    let tables = store.old_tables(OldKind::Annotations, arguments.from.as_deref()).await?;
    for (place, table) in tables.iter().enumerate() {
        let zone = store.source_zone(table, arguments.source_timezone.as_deref()).await?;
        let rows = store.rows_of(table).await?;
        say(&format!("{rows} annotations in {table}; times without a zone are read as {} ({})", zone.name, zone.from));
        if zone.is_guessed {
            warn!("in which time zone the times of {table} are is no more than likely: give it by --source-timezone");
        }
        let options = ImportOptions {
            dry_run: arguments.dry_run,
            new_ids: arguments.new_ids,
            sets_times: zone.is_given,
            is_older: place > 0,
        };
        let mut progress = Progress::new(rows);
        let imported = store.import_annotations(table, &zone, options, &mut |so_far| progress.tell(so_far)).await;
        let imported = imported.map_err(|error| half_done(&error))?;
        show(&imported, arguments.dry_run);
        is_complete &= imported.taken.count == 0;
    }
    Ok(is_complete)
}

async fn ingested(store: &PostgresStore, store_name: &str, arguments: &Arguments) -> Result<()> {
    let tables = store.old_tables(OldKind::Metadata, arguments.ingested_from.as_deref()).await?;
    for table in &tables {
        say(&format!("metadata in {table} that callers brought, of which there is no file"));
        let mut progress = Progress::new(0);
        let imported =
            store.import_ingested(table, store_name, arguments.dry_run, &mut |so_far| progress.tell(so_far)).await;
        show(&imported.map_err(|error| half_done(&error))?, arguments.dry_run);
    }
    Ok(())
}

fn half_done(error: &StoreError) -> StoreError {
    let text = format!("{error}. What was taken over until then stays; run the command again to go on");
    match error {
        StoreError::Unusable(_) => StoreError::Unusable(text),
        _ => StoreError::Unavailable(text),
    }
}

/// How far it is, now and then.
struct Progress {
    rows: u64,
    told: Instant,
}

impl Progress {
    fn new(rows: u64) -> Progress {
        Progress { rows, told: Instant::now() }
    }

    fn tell(&mut self, so_far: &Imported) {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            info!(found = so_far.found, of = self.rows, imported = so_far.imported, "importing");
        }
    }
}

/// Says what became of the rows of a table.
fn show(imported: &Imported, dry_run: bool) {
    let line = |what: &str, count: u64| say(&format!("  {what:<44} {count}"));
    line("found", imported.found);
    line(if dry_run { "would be imported" } else { "imported" }, imported.imported);
    line("there already", imported.there);
    if imported.changed > 0 {
        line("there already, and set right", imported.changed);
    }
    if imported.renumbered > 0 {
        line("imported under a new id", imported.renumbered);
    }
    line("unusable", imported.unusable());
    for (why, rows) in &imported.unusable {
        line(&format!("  {why}"), rows.count);
        say(&format!("    {}", listed(rows)));
    }
    line("product unknown (they show when it is there)", imported.without_product);
    if imported.without_author > 0 {
        line("without an author, kept as anonymous", imported.without_author);
    }
    if imported.without_time > 0 {
        line("without a time, kept as of 1970-01-01", imported.without_time);
    }
    if imported.taken.count > 0 {
        line("left out: their id is another's here", imported.taken.count);
        say(&format!("    {}", listed(&imported.taken)));
        say("    Give them new ids by --new-ids; clients that remember the old ones will not find them by these.");
    }
}

fn listed(rows: &shared::store::postgres::import::Rows) -> String {
    let more = if rows.count > rows.first.len() as u64 { ", …" } else { "" };
    format!("{}{more}", rows.first.join(", "))
}
