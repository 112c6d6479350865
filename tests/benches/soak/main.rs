//! The soak: `make soak`, or `make soak SOAK_SECONDS=600`.
//!
//! Several indexers and APIs on one PostgreSQL, with products that arrive all the time and requests of every kind, while the
//! indexer that holds the lease is killed again and again. Every answer is compared with what must be in it. At the end
//! everything that arrived and everything that was said is there, and the processes are no larger than they were.

mod figures;
mod load;
mod world;

use figures::{Figures, Gauge};
use load::Load;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::permissions::Permissions;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};
use tests::volume::Volume;
use world::World;

/// Products that are there at the beginning.
const PRODUCTS: usize = 2000;
/// Those that arrive in a second.
const ARRIVALS: u32 = 50;
/// The longest time between two deaths of indexers.
const LIFE: Duration = Duration::from_secs(60);
/// How long an indexer that is silent keeps its lease, in seconds.
const TERM: &str = "3";
const INDEXERS: usize = 3;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(60);
    let duration = Duration::from_secs(seconds);
    let (volume, permissions, postgres) = (Volume::new(), Permissions::start(), Postgres::for_measurement("1GB"));
    let database = postgres.database();
    let daemons = Daemons::of(volume.path(), &database.url())
        .with("SKA_PERMISSIONS_API_HOST", permissions.url())
        .with("INDEXING_HEARTBEAT_STALE_SECONDS", TERM)
        .with("DPD_RECONCILE_SECONDS", "60");
    let world = World::new(&volume);
    (0..PRODUCTS).for_each(|_| world.arrive());
    let mut indexers: Vec<Server> = (0..INDEXERS).map(|_| daemons.indexer()).collect();
    let apis = [daemons.api(), daemons.api()];
    apis.iter().for_each(Server::wait_for_index);
    world.wait_for_all(&apis[0]);
    println!("{PRODUCTS} products; {ARRIVALS} more a second and a mixed load for {seconds} s, {INDEXERS} indexers");

    let (figures, ending) = (Figures::default(), AtomicBool::new(false));
    let mut gauges: Vec<Gauge> = apis.iter().map(|api| Gauge::new("dpd-api", api.pid())).collect();
    let load = Load { world: &world, apis: &apis, figures: &figures, ending: &ending };
    let mut takeovers = 0;
    std::thread::scope(|scope| {
        let workers = load.start(scope);
        let begun = Instant::now();
        let life = LIFE.min(duration / 3);
        let mut next = begun + life;
        while begun.elapsed() < duration && workers.iter().all(|worker| !worker.is_finished()) {
            gauges.iter_mut().for_each(|gauge| gauge.read(begun.elapsed()));
            if Instant::now() >= next {
                next += life;
                takeovers += usize::from(kill_the_holder(&mut indexers, &apis[0], &daemons));
            }
            std::thread::park_timeout(Duration::from_millis(500));
        }
        ending.store(true, Ordering::Relaxed);
    });
    let missing = world.wait_for_all(&apis[0]);
    figures.say();
    println!(
        "{takeovers} holders killed; {} products and {} annotations in all",
        world.products(),
        world.annotations()
    );
    let mut faults = figures.faults();
    faults.extend(missing);
    faults.extend(world.missing_annotations(&apis[1]));
    faults.extend(one_writer_at_a_time(&database));
    for gauge in &mut gauges {
        faults.extend(gauge.verdict());
    }
    faults.iter().take(20).for_each(|fault| eprintln!("WRONG: {fault}"));
    assert!(faults.is_empty(), "{} things were wrong", faults.len());
    println!("nothing was wrong");
}

/// Kills the indexer that has the lease, and starts another; false where none has it at the moment.
fn kill_the_holder(indexers: &mut Vec<Server>, api: &Server, daemons: &Daemons) -> bool {
    let holder = api.status()["indexing"]["coordination_state"]["indexed_by"].clone();
    let Some(at) = indexers.iter().position(|indexer| indexer.status()["name"] == holder) else { return false };
    indexers.remove(at).signal(rustix::process::Signal::KILL);
    indexers.push(daemons.indexer());
    true
}

/// What was written by somebody who had lost the lease.
fn one_writer_at_a_time(database: &Database) -> Vec<String> {
    let disorder = database.rows(
        "SELECT * FROM (SELECT uid, written_at, epoch, lag(epoch) OVER (ORDER BY written_at) AS before \
         FROM data_product) t WHERE epoch < before",
    );
    disorder.iter().map(|row| format!("written under a lease that was over: {row}")).collect()
}
