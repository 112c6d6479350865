//! The indexer and the API on a PostgreSQL of their own: everything of the table of targets that they are asked for.

use crate::arrivals::Arrivals;
use crate::client::{Client, get, load, post};
use crate::generate::BROKEN;
use crate::ground::Ground;
use crate::measure::{FIND, Pace, database_processes, latency, memory_of, quiet, shell, until, walked};
use crate::pages::Pages;
use crate::plain::Plain;
use crate::report::{Report, Target, Times, milliseconds, times};
use crate::searches::page;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tests::opens::Opens;
use tests::permissions::Permissions;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};

/// How many walks of the unchanged volume are timed.
const WALKS: usize = 3;
/// How many metadata files are watched for being opened: more would leave the indexer too few watches.
const WATCHED: usize = 500;
const CLIENTS: usize = 8;
const LOAD: Duration = Duration::from_secs(8);
/// How often the lease is taken over, and its term in seconds: a short one, so that it ends soon.
const TAKEOVERS: usize = 5;
const TERM: f64 = 3.0;

/// The daemons, and what they run on.
struct World<'a> {
    ground: &'a Ground,
    scale: usize,
    database: Database,
    daemons: Daemons,
}

/// Measures them. Answers how long the first index took, for the one in memory to be compared with.
pub(crate) fn measure(ground: &Ground, scale: usize, report: &mut Report) -> f64 {
    let postgres = Postgres::for_measurement("4GB");
    let database = postgres.database();
    let permissions = Permissions::start();
    let daemons = Daemons::of(&ground.path(), &database.url())
        .with("PVCNAME", crate::VOLUME_NAME)
        .with("SKA_PERMISSIONS_API_HOST", permissions.url());
    let world = World { ground, scale, database, daemons };
    let files = sample(ground);
    // Before the indexer, which takes all watches that there are.
    let opens = Opens::of(&files);
    let (indexer, seconds) = world.first_index(report);
    world.walks(&indexer, &opens, report);
    drop(opens);
    world.annotate();
    let api = world.daemons.api();
    world.searches(&api, report);
    world.by_uid(&api, report);
    world.loads(&api, report);
    {
        let mut arrivals = Arrivals::on(ground, &api);
        world.settle(&indexer, &api);
        arrivals.new_keys(report);
        world.settle(&indexer, &api);
        arrivals.idle("", report);
        arrivals.under_walk(report);
    }
    world.memory(&indexer, &api, report);
    world.restart(indexer, &api, report);
    world.takeovers(&api, report);
    seconds
}

/// Some of the metadata files, as `find` has them.
fn sample(ground: &Ground) -> Vec<PathBuf> {
    let command = format!("{FIND} | head -n {WATCHED}");
    let output = std::process::Command::new("sh").args(["-c", &command]).current_dir(ground.path()).output();
    let text = String::from_utf8(output.expect("a shell").stdout).expect("names");
    text.lines().map(|line| ground.path().join(line)).collect()
}

impl World<'_> {
    /// Waits until nothing is done behind what is measured next.
    fn settle(&self, indexer: &Server, api: &Server) -> Duration {
        quiet(|| database_processes().into_iter().chain([indexer.pid(), api.pid()]).collect())
    }

    fn first_index(&self, report: &mut Report) -> (Server, f64) {
        let api = self.daemons.api();
        let cat = shell(&self.ground.path(), &format!("{FIND} | xargs cat >/dev/null"));
        let begun = Instant::now();
        let indexer = self.daemons.indexer();
        let (seconds, pace) = Pace::of(&api);
        let rate = self.scale as f64 / seconds;
        report.figure(
            "first index into PostgreSQL",
            (&format!("{seconds:.1} s, {rate:.0} products/s"), seconds / self.scale as f64 * 1e6),
            Target::AtMost(900.0, "s for a million"),
            &format!("`find \\| xargs cat`, {cat:.2} s"),
            &times(seconds / cat),
        );
        if let Some((first, last)) = pace.tenths() {
            report.figure(
                "time a product in the last tenth of the first index",
                (&format!("{:.0} µs", last * 1e6), last / first),
                Target::AtMost(1.3, "times that in the first tenth"),
                &format!("in the first tenth, {:.0} µs", first * 1e6),
                &times(last / first),
            );
        }
        // Sizes are measured in the background.
        until(|| (self.database.value("SELECT count(*) FROM data_product WHERE NOT measured") == 0).then_some(()));
        self.settle(&indexer, &api);
        let all = begun.elapsed().as_secs_f64();
        report.row(
            "the same, until all sizes are known and nothing is left to do",
            &format!("{all:.1} s"),
            &format!("the first index, {seconds:.1} s"),
            &times(all / seconds),
        );
        let products = self.database.value("SELECT count(*) FROM data_product").as_u64().unwrap_or_default();
        assert_eq!(products as usize, self.scale - (self.scale + BROKEN - 12) / BROKEN, "products in the index");
        self.size(report);
        (indexer, seconds)
    }

    fn size(&self, report: &mut Report) {
        let bytes = self.database.value("SELECT pg_database_size(current_database())").as_u64().unwrap_or_default();
        let documents = self.database.value("SELECT pg_total_relation_size('document')").as_u64().unwrap_or_default();
        let million = bytes as f64 / self.scale as f64 * 1e6 / 1e9;
        report.figure(
            "the database's size",
            (&format!("{} MiB, {:.2} KiB a product", bytes >> 20, bytes as f64 / self.scale as f64 / 1024.0), million),
            Target::AtMost(6.0, "GB for a million"),
            &format!("the documents in it, {} MiB", documents >> 20),
            &times(bytes as f64 / documents as f64),
        );
    }

    /// Walks of everything while nothing changed.
    fn walks(&self, indexer: &Server, opens: &Opens, report: &mut Report) {
        let api = self.daemons.api();
        let find = shell(&self.ground.path(), FIND);
        let (opened, written) = (opens.count(), self.rows_written());
        let mut best = f64::INFINITY;
        for _ in 0..WALKS {
            let before = api.status()["pv_interface_status"]["index_time_modified"].clone();
            assert_eq!(api.get("/reindexdataproducts").status, 202);
            best = best.min(walked(&api, &before));
            self.settle(indexer, &api);
        }
        // The broken ones among them are opened, for they are tried again.
        assert!(opens.count() - opened <= WALKS * 4 * WATCHED / 100, "metadata files were opened");
        assert_eq!(self.rows_written(), written, "an unchanged volume was written anew");
        report.figure(
            "walk of the unchanged volume; nothing opened, nothing written",
            (&format!("{best:.2} s"), best / find),
            Target::AtMost(1.5, "times `find`"),
            &format!("`find`, {find:.2} s"),
            &times(best / find),
        );
    }

    fn rows_written(&self) -> Value {
        self.database.value("SELECT (count(*), max(written_at), max(xmin::text::bigint))::text FROM data_product")
    }

    /// One product in a hundred gets an annotation: ten thousand of a million.
    fn annotate(&self) {
        self.database.execute(&format!(
            "INSERT INTO annotation (volume_prefix, data_product_uid, annotation_text, user_principal_name, value) \
             SELECT volume_prefix, uid, text, 'somebody@example.org', convert_to(lower(text), 'UTF8') FROM \
             (SELECT volume_prefix, uid, 'RFI near ' || (100 + row_number() OVER (ORDER BY uid) % 100) || ' MHz, flagged' \
             AS text FROM data_product) products ORDER BY uid LIMIT {}",
            self.scale / 100
        ));
    }

    fn searches(&self, api: &Server, report: &mut Report) {
        let plain = Plain::of(&self.database);
        self.settle(api, api);
        let mut pages = Pages::of(api, "", Some(&plain));
        pages.all(self.scale, report);
        let rows = |start: &str, keys: &[&str]| {
            post("/dataproductsearch", &json!({"start_date": start, "key_value_pairs": keys}), None)
        };
        let mut client = Client::of(api);
        let observer = |n: usize| format!("observer:observer_{}", 25 + n % 25);
        let few = latency(|n| client.good(&rows("1900-01-01", &["notes:thunderstorm", &observer(n)])));
        report.row("`/dataproductsearch`, two pairs, some twenty rows", &few.text(95), "", "");
        let many = latency(|_| client.good(&rows("1900-01-01", &["processing_script:vis-receive"])));
        report.row("`/dataproductsearch`, as many rows as one answer has", &many.text(95), "", "");
        let status = latency(|_| client.good(&get("/status")));
        let live = latency(|_| client.good(&get("/livez"))).median();
        let beside = format!("`/livez`, {}", milliseconds(live));
        report.times("`/status`", &status, Target::Within(95, 5.0), &beside, Some(live));
    }

    /// Metadata of products that everybody may see.
    fn by_uid(&self, api: &Server, report: &mut Report) {
        let uids = self.database.rows(
            "SELECT p.uid FROM data_product p JOIN access_rule a ON a.id = p.access WHERE a.groups IS NULL \
             ORDER BY md5(p.uid::text) LIMIT 5000",
        );
        let requests: Vec<Vec<u8>> =
            uids.iter().map(|row| post("/dataproductmetadata", &json!({"uid": row["uid"]}), None)).collect();
        let mut client = Client::of(api);
        let times = latency(|n| assert_eq!(client.ask(&requests[n % requests.len()]).0, 200));
        let prefix = self.database.value("SELECT volume_prefix FROM dpd_indexing_state");
        let prefix = prefix.as_str().expect("a volume");
        let select = latency(|n| {
            let uid = &uids[n % uids.len()]["uid"].as_str().expect("a uid");
            self.database.value(&format!(
                "SELECT d.metadata FROM data_product p JOIN document d ON d.product = p.id \
                 WHERE p.volume_prefix = '{prefix}' AND p.uid = '{uid}'"
            ));
        });
        let beside = format!("`SELECT` of the document, {}", milliseconds(select.median()));
        report.times("metadata by uid", &times, Target::Within(95, 3.0), &beside, Some(select.median()));
        self.throughput("metadata by uid", api, &requests, (4000.0, None), report);
    }

    fn loads(&self, api: &Server, report: &mut Report) {
        let first = post("/filterdataproducts", &page(&json!([]), "and", None), None);
        self.throughput("grid page", api, &[first], (300.0, Some(100.0)), report);
        let mixed: Vec<Vec<u8>> = crate::searches::SEARCHES
            .iter()
            .filter(|search| !search.member)
            .flat_map(|search| [search.few, search.half].into_iter().flatten())
            .map(|asked| post("/filterdataproducts", &page(&(asked.body)(3), "and", None), None))
            .collect();
        let (rate, each) = load(api, CLIENTS, LOAD, &mixed);
        let measured = format!("{rate:.0} requests/s, {}", each.text(99));
        report.row(&format!("all filters in turn, {CLIENTS} clients"), &measured, "", "");
        let peak = api.memory("VmHWM") >> 20;
        // The largest answers there are, several at once: they show in the API's memory.
        let all = post("/dataproductsearch", &json!({"start_date": "1900-01-01"}), None);
        let (rate, each) = load(api, CLIENTS, LOAD, &[all]);
        let measured = format!("{rate:.1} requests/s, {}", each.text(99));
        report.row(&format!("`/dataproductsearch` for everything, {CLIENTS} clients"), &measured, "", "");
        let after = api.memory("VmHWM") >> 20;
        let ratio = times(after as f64 / peak as f64);
        report.row(
            "memory of dpd-api at its peak after that",
            &format!("{after} MiB"),
            &format!("before, {peak} MiB"),
            &ratio,
        );
    }

    fn throughput(
        &self,
        what: &str,
        api: &Server,
        requests: &[Vec<u8>],
        (least, p99): (f64, Option<f64>),
        report: &mut Report,
    ) {
        let (nothing, _) = load(api, CLIENTS, LOAD / 4, &[get("/livez")]);
        let (rate, times) = load(api, CLIENTS, LOAD, requests);
        let beside = format!("`/livez`, {nothing:.0} requests/s");
        let target = Target::AtLeast(least, "requests/s");
        let what = format!("{what}, {CLIENTS} clients");
        report.figure(
            &what,
            (&format!("{rate:.0} requests/s"), rate),
            target,
            &beside,
            &crate::report::times(rate / nothing),
        );
        if let Some(most) = p99 {
            report.times(&format!("{what}, each"), &times, Target::Within(99, most), "", None);
        }
    }

    fn memory(&self, indexer: &Server, api: &Server, report: &mut Report) {
        for (what, server, most) in [("dpd-indexer", indexer, 400.0), ("dpd-api", api, 150.0)] {
            let peak = server.memory("VmHWM");
            let measured = format!("{} MiB, {:.2} KiB a product", peak >> 20, peak as f64 / self.scale as f64 / 1024.0);
            report.figure(
                &format!("memory of {what} at its peak"),
                (&measured, peak as f64 / 1e6),
                Target::AtMost(most, "MB at a million"),
                &format!("now, {} MiB", server.memory("VmRSS") >> 20),
                &times(peak as f64 / server.memory("VmRSS") as f64),
            );
        }
        let shared = memory_of(&database_processes()) >> 20;
        report.row("memory of PostgreSQL's processes together", &format!("{shared} MiB"), "its buffers, 4096 MiB", "");
    }

    /// The indexer again, on a volume on which nothing changed.
    fn restart(&self, indexer: Server, api: &Server, report: &mut Report) {
        // What arrived has gone, and that has to be known first.
        self.settle(&indexer, api);
        let before = api.status()["pv_interface_status"]["index_time_modified"].clone();
        indexer.stop();
        let find = shell(&self.ground.path(), FIND);
        let indexer = self.daemons.indexer();
        let seconds = walked(api, &before);
        report.row(
            "restart on the unchanged volume",
            &format!("{seconds:.2} s"),
            &format!("`find`, {find:.2} s"),
            &times(seconds / find),
        );
        indexer.stop();
    }

    /// How long nobody has the lease after its holder was killed, and after it was asked to end.
    fn takeovers(&self, api: &Server, report: &mut Report) {
        let daemons = self.daemons.with("INDEXING_HEARTBEAT_STALE_SECONDS", TERM.to_string());
        for (what, signal) in [("SIGKILL", Signal::KILL), ("SIGTERM", Signal::TERM)] {
            let is = |server: &Server, state: &str| until(|| (server.status()["state"] == state).then_some(()));
            let mut holder = daemons.indexer();
            is(&holder, "holding the lease");
            let mut took: Vec<Duration> = Vec::new();
            for _ in 0..TAKEOVERS {
                let standby = daemons.indexer();
                is(&standby, "standing by");
                let epoch = || api.status()["indexing"]["coordination_state"]["epoch"].clone();
                let before = epoch();
                let begun = Instant::now();
                holder.signal(signal);
                while epoch() == before {
                    thread::sleep(Duration::from_millis(2));
                }
                took.push(begun.elapsed());
                holder = standby;
            }
            let took = Times::of(took);
            report.row(
                &format!("takeover after {what}, {TAKEOVERS} times"),
                &took.text(100),
                &format!("the term, {TERM} s"),
                &times(took.median().as_secs_f64() / TERM),
            );
        }
    }
}
