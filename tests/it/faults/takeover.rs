//! Holders of the lease that are killed, stand still, or go: another takes over, and they write no more.

use super::{Undisturbed, count, fill, one_writer_at_a_time, wait_for_all};
use crate::daemons::Site;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server, binary};
use tests::volume::{METADATA, Volume};

/// The shortest term there is.
const TERM: (&str, &str) = ("INDEXING_HEARTBEAT_STALE_SECONDS", "2");

/// Numbers that look random and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        self.0 % limit
    }
}

fn epoch(indexer: &Server) -> Value {
    indexer.wait_for_state("holding the lease")["epoch"].clone()
}

#[test]
fn holders_that_are_killed_again_and_again_lose_and_double_nothing() {
    let (products, kills) = (5000, 20);
    // A term that nobody waits for: who runs in the same place knows that they are no more.
    let site = Site::new().with(TERM.0, "300").with("INDEXING_BATCH_SIZE", "25");
    fill(&site.volume, products);
    let undisturbed = Undisturbed::begin(&site.volume);
    let mut random = Random(0x5eed);
    let mut holder = site.daemons.indexer();
    let mut takeovers = Vec::new();
    for kill in 0..kills {
        assert_eq!(epoch(&holder), kill + 1);
        let standby = site.daemons.indexer();
        standby.wait_for_state("standing by");
        // Somewhere in its work, and somewhere in a transaction.
        let enough = count(&site.database) + random.below(2 * products as u64 / kills);
        let pause = Duration::from_millis(random.below(30));
        tests::wait_for("some products", || (count(&site.database) >= enough.min(products as u64)).then_some(()));
        let begun = Instant::now();
        tests::wait_for("a moment", || (begun.elapsed() >= pause).then_some(()));
        let begun = Instant::now();
        drop(std::mem::replace(&mut holder, standby));
        epoch(&holder);
        takeovers.push(begun.elapsed());
    }
    takeovers.sort();
    eprintln!(
        "takeover after SIGKILL in the same place, {kills} times: {:?}, median {:?}, at most {:?}",
        takeovers[0],
        takeovers[takeovers.len() / 2],
        takeovers[takeovers.len() - 1]
    );
    undisturbed.is_what_becomes_of(&site.database, products);
    one_writer_at_a_time(&site.database);
    let epochs = site.database.value("SELECT count(DISTINCT epoch) FROM data_product");
    assert!(epochs.as_u64() > Some(kills / 2), "only {epochs} of them came to write");
}

/// A command that starts `dpd-indexer` as the first process of a container that is called `pod`; `None` where none can be
/// made.
fn contained(site: &Site, pod: &str) -> Option<Command> {
    let contain = |program: &Path| {
        let mut command = site.daemons.command("unshare");
        command.args(["-Urpfu", "--mount-proc", "--kill-child", "sh", "-c", "hostname \"$0\" && exec \"$@\"", pod]);
        command.arg(program);
        command
    };
    let possible = contain(Path::new("true")).status().is_ok_and(|status| status.success());
    if !possible {
        eprintln!("not tested in containers, since none can be made here");
    }
    possible.then(|| contain(&binary("dpd-indexer")))
}

#[test]
fn a_container_that_is_started_again_succeeds_itself_at_once() {
    let site = Site::new().with(TERM.0, "300");
    site.products(3);
    for kill in 0..3 {
        let Some(command) = contained(&site, "pod-0") else { return };
        let indexer = Server::with(command, false);
        assert_eq!(epoch(&indexer), kill + 1);
        assert_eq!(indexer.status()["name"], "pod-0");
        wait_for_all(&site.database, 3);
    }
}

#[test]
fn two_that_are_called_the_same_do_not_depose_each_other() {
    let site = Site::new().with(TERM.0, "300");
    site.products(1);
    let Some(command) = contained(&site, "pod-0") else { return };
    let first = Server::with(command, false);
    assert_eq!(epoch(&first), 1);
    let second = Server::with(contained(&site, "pod-0").expect("another"), false);
    // It took the first for what it was before, which the fence makes harmless. The first knows better.
    assert_eq!(epoch(&second), 2);
    // It learns of it from its next write, long before it renews.
    site.volume.product("eb-1", "eb-a-20240101-1", "");
    first.wait_for_state("standing by");
    tests::wait_for("the product", || (count(&site.database) == 2).then_some(()));
    // Longer than it takes to look three times.
    let begun = Instant::now();
    tests::wait_for("some looks", || (begun.elapsed() > Duration::from_secs(3)).then_some(()));
    assert_eq!(site.database.value("SELECT epoch FROM dpd_indexing_state"), 2);
    one_writer_at_a_time(&site.database);
    // One that is called otherwise waits for the term.
    let third = Server::with(contained(&site, "pod-1").expect("a third"), false);
    third.wait_for_state("standing by");
    drop(second);
    third.wait_for_state("standing by");
    first.wait_for_state("standing by");
}

#[test]
fn a_holder_that_stands_still_is_not_taken_for_dead() {
    let site = Site::new().with(TERM.0, "300");
    let holder = site.daemons.indexer();
    assert_eq!(epoch(&holder), 1);
    holder.signal(Signal::STOP);
    let standby = site.daemons.indexer();
    standby.wait_for_state("standing by");
    let begun = Instant::now();
    tests::wait_for("some looks", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(site.database.value("SELECT epoch FROM dpd_indexing_state"), 1);
    holder.signal(Signal::CONT);
    standby.wait_for_state("standing by");
    drop(holder);
    assert_eq!(epoch(&standby), 2);
}

#[test]
fn a_holder_of_the_release_before_that_leaves_no_place_is_succeeded_by_its_term() {
    let site = Site::new().with(TERM.0, "4");
    let holder = site.daemons.indexer();
    assert_eq!(epoch(&holder), 1);
    // As it writes it: what another left there stays.
    site.database
        .execute("UPDATE dpd_indexing_state SET holder = gen_random_uuid(), last_heartbeat = clock_timestamp()");
    holder.wait_for_log("another indexer took over epoch=1", 1);
    let status = holder.wait_for_state("standing by");
    assert_eq!(status["epoch"], Value::Null);
    assert_eq!(epoch(&holder), 2);
}

/// Makes whoever writes to a table wait until a `COMMIT`, does what has something written, and waits until somebody waits.
fn hold_up<T>(database: &Database, table: &str, by: impl FnOnce() -> T) -> T {
    database.execute(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"));
    let done = by();
    let waiting = format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
    tests::wait_for("a writer that waits", || (database.value(&waiting) == 1).then_some(()));
    done
}

#[test]
fn a_holder_that_stood_still_cannot_write_what_it_was_about_to() {
    let site = Site::new().with(TERM.0, "4");
    site.products(1);
    let (holder, api) = site.daemons.pair();
    let standby = site.daemons.indexer();
    standby.wait_for_state("standing by");
    // Held up after it has made sure of its lease, and before it begins the transaction: a new key must be noted first.
    hold_up(&site.database, "metadata_key", || site.volume.product("eb-0", "eb-a-20240101-0", "x: old\nnew: 1"));
    holder.signal(Signal::STOP);
    site.database.execute("COMMIT");
    assert_eq!(epoch(&standby), 2);
    site.volume.product("eb-0", "eb-a-20240101-0", "x: newer\nnew: 2");
    // Measuring it is the last that there is to write.
    let size = fs::metadata(site.volume.at("eb-0").join(METADATA)).expect("the file").len();
    let there = || Some(api.search(&["x:newer"]).first()?["size"] == size);
    tests::wait_for("the newer version", || there().filter(|there| *there));

    // It goes on where it was. No renewal is answered meanwhile, so that it learns from the write itself.
    site.database.execute("BEGIN; LOCK TABLE dpd_indexing_state IN SHARE MODE");
    holder.signal(Signal::CONT);
    holder.wait_for_log("another indexer took over", 1);
    site.database.execute("COMMIT");
    let status = holder.wait_for_state("standing by");
    assert_eq!((&status["epoch"], holder.get("/readyz").status), (&Value::Null, 200));
    assert_eq!(epoch(&standby), 2);
    assert_eq!(api.search(&["x:newer"]).len(), 1);
    assert_eq!(site.database.value("SELECT epoch FROM data_product"), 2);

    // It is as good a standby as any.
    drop(standby);
    assert_eq!(epoch(&holder), 3);
    fs::rename(site.volume.at("eb-0"), site.volume.at("eb-1")).expect("moved");
    api.wait_for_folders(&["eb-1"]);
}

#[test]
fn a_holder_that_stands_still_within_a_transaction_keeps_nobody_out() {
    let products = 450;
    let site = Site::new().with(TERM.0, TERM.1).with("INDEXING_BATCH_SIZE", "10");
    fill(&site.volume, products);
    let undisturbed = Undisturbed::begin(&site.volume);
    // Held up in its first transaction, while it has the lock on the volume's row.
    let holder = hold_up(&site.database, "data_product", || site.daemons.indexer());
    let standby = site.daemons.indexer();
    holder.signal(Signal::STOP);
    site.database.execute("COMMIT");
    assert_eq!(epoch(&standby), 2);
    tests::wait_for("some products", || (count(&site.database) > 0).then_some(()));
    holder.signal(Signal::CONT);
    holder.wait_for_state("standing by");
    undisturbed.is_what_becomes_of(&site.database, products);
    one_writer_at_a_time(&site.database);
    assert_eq!(site.database.value("SELECT min(epoch) FROM data_product"), 2);
}

#[test]
fn a_holder_that_is_asked_to_go_hands_over_at_once() {
    let products = 450;
    let site = Site::new().with(TERM.0, "60").with("INDEXING_BATCH_SIZE", "10");
    fill(&site.volume, products);
    let undisturbed = Undisturbed::begin(&site.volume);
    let holder = site.daemons.indexer();
    holder.wait_for_state("holding the lease");
    let standby = site.daemons.indexer();
    standby.wait_for_state("standing by");
    tests::wait_for("some products", || (count(&site.database) >= 50).then_some(()));
    let asked = Instant::now();
    holder.stop();
    assert_eq!(epoch(&standby), 2);
    // A lease that was not given back would have to run out.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    undisturbed.is_what_becomes_of(&site.database, products);
    one_writer_at_a_time(&site.database);
}

#[test]
fn indexers_that_start_together_on_nothing_agree() {
    for _ in 0..5 {
        let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
        fill(&volume, 20);
        let daemons = Daemons::of(volume.path(), &database.url());
        let indexers: Vec<Server> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..2).map(|_| scope.spawn(|| daemons.indexer())).collect();
            starting.into_iter().map(|starting| starting.join().expect("an indexer")).collect()
        });
        let states = tests::wait_for("their places", || {
            let states: Vec<Value> = indexers.iter().map(Server::status).collect();
            let is = |state: &str| states.iter().any(|status| status["state"] == state);
            (is("holding the lease") && is("standing by")).then_some(states)
        });
        // One identity, and no draft of another.
        let files = fs::read_dir(volume.path())
            .expect("the volume")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let identities: Vec<String> = files.filter(|name| name.starts_with('.')).collect();
        assert_eq!(identities, [".dpd-volume-id"]);
        assert_eq!(states[0]["volume_prefix"], states[1]["volume_prefix"]);
        wait_for_all(&database, 20);
        let rows = database.rows("SELECT volume_prefix, epoch FROM dpd_indexing_state");
        assert_eq!(rows, [serde_json::json!({"volume_prefix": states[0]["volume_prefix"], "epoch": 1})]);
        assert_eq!(database.value("SELECT count(*) = count(DISTINCT version) FROM dpd_migrations"), true);
        let said = |text: &str| indexers.iter().filter(|indexer| indexer.log().contains(text)).count();
        tests::wait_for("the end of the walk", || (said("walked everything") == 1).then_some(()));
        assert_eq!((said("up to date now"), said("cannot be migrated")), (1, 0));
    }
}
