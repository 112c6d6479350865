//! PostgreSQL for the tests: one throwaway server for the whole test process, private ones for tests that kill theirs, and
//! databases on them.
//!
//! A server ends when its test process does, however that ends: a shell keeps the server, and gives it up when the pipe
//! that brings its orders is closed. Servers listen on TCP only, so paths may be as long as they like.

mod standby;

pub use standby::{Copy, Standby};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection};
use standby::Original;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use tokio::runtime::Runtime;

/// What the databases of [`Postgres::database`] are copies of.
const TEMPLATE: &str = "migrated";

/// Keeps a server: `FOLDER PROGRAMS [SETTING…]`. Its orders are `start PORT` and `stop`, each answered by a line.
///
/// A stop is an immediate shutdown, which the next start sees as a crash. It is asked for again and again, for a server that
/// has just begun does not hear yet, and one that stands still must go on to hear. The signals that a terminal sends are
/// ignored: the one way to end is that orders do, so that it is always cleaned up.
const KEEPER: &str = r#"
trap '' HUP INT TERM PIPE
folder=$1 programs=$2
shift 2
cd "$folder" || exit
make() { "$programs/initdb" -D data -U postgres -A trust -E UTF8 --no-sync --locale="$1" >>log 2>&1; }
stop() {
  [ -n "$server" ] || return
  while grep -q 'State:.[^XZ]' "/proc/$server/status"; do
    kill -QUIT "$server"
    kill -CONT "$server" $(cat "/proc/$server/task/$server/children")
    sleep 0.02
  done
  wait "$server"
  server=
}
if [ -n "$ORIGINAL" ]; then
  "$programs/pg_basebackup" -D data -h 127.0.0.1 -p "$ORIGINAL" -U postgres -X stream -c fast --no-sync $STREAMS >>log 2>&1
else
  make C.UTF-8 || make C
fi
server=
while read -r order port; do
  case $order in
    start) "$programs/postgres" -D data -p "$port" "$@" >>log 2>&1 </dev/null & server=$!; echo "$server" ;;
    stop) stop; echo stopped ;;
  esac
done
stop
cd / && rm -rf "$folder"
"#;

/// A server, stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    keeper: Mutex<Keeper>,
    port: u16,
    /// Whether it outlives the databases on it, which had better be dropped then.
    shared: bool,
    migrated: OnceLock<()>,
    databases: AtomicUsize,
}

impl Postgres {
    /// The server of this test process, started when first asked for. It does not care for the safety of its data.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::with(&["fsync=off", "full_page_writes=off"], true, &parent()))
    }

    /// A server for one test, which may kill it: it keeps what it has committed.
    pub fn start() -> Postgres {
        Postgres::with(&["fsync=on"], false, &parent())
    }

    /// The same with settings of its own, such as `ssl=on`.
    pub fn start_with(settings: &[impl AsRef<str>]) -> Postgres {
        let all: Vec<&str> = ["fsync=off"].into_iter().chain(settings.iter().map(AsRef::as_ref)).collect();
        Postgres::with(&all, false, &parent())
    }

    /// A server to measure: with its data on a disk, and so much memory for shared buffers, such as `4GB`.
    pub fn for_measurement(shared_buffers: &str) -> Postgres {
        let buffers = format!("shared_buffers={shared_buffers}");
        Postgres::with(&["fsync=on", &buffers, "max_wal_size=4GB"], false, &std::env::temp_dir())
    }

    fn with(settings: &[&str], shared: bool, place: &Path) -> Postgres {
        let mut keeper = Keeper::new(settings, place, None);
        for port in ports() {
            match keeper.start(port) {
                Ok(()) => {
                    let (migrated, databases) = (OnceLock::new(), AtomicUsize::new(0));
                    return Postgres { keeper: Mutex::new(keeper), port, shared, migrated, databases };
                }
                Err(log) => assert!(log.contains("could not bind"), "PostgreSQL does not start:\n{log}"),
            }
        }
        panic!("no free port for PostgreSQL");
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once: what it had not written is for the crash recovery of the next start.
    ///
    /// # Panics
    /// When its keeper is gone.
    pub fn kill(&self) {
        self.keeper.lock().expect("the keeper").stop();
    }

    /// Starts it anew, on the same port and data, and waits until it serves. Kills it first if it runs.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&self) {
        let mut keeper = self.keeper.lock().expect("the keeper");
        keeper.stop();
        keeper.start(self.port).unwrap_or_else(|log| panic!("PostgreSQL does not start again:\n{log}"));
    }

    /// Makes all of it stand still: connections stay, new ones are taken by the kernel, and nothing is answered.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        let server = self.keeper.lock().expect("the keeper").server.expect("a running server");
        // The one that makes processes first, so that none is missed.
        halt(server);
        children(server).into_iter().for_each(halt);
    }

    /// Lets it go on after [`Postgres::pause`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        let server = self.keeper.lock().expect("the keeper").server.expect("a running server");
        for process in children(server).into_iter().chain([server]) {
            let _ = rustix::process::kill_process(process, Signal::CONT);
        }
    }

    /// A database with nothing in it.
    pub fn empty_database(&self) -> Database {
        self.create("template1")
    }

    /// A database as `dpd-indexer migrate` makes it, which runs once a server.
    pub fn database(&self) -> Database {
        self.migrated.get_or_init(|| {
            let admin = self.open("postgres");
            // Of an attempt that failed.
            admin.execute(&format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)"));
            admin.execute(&format!("CREATE DATABASE {TEMPLATE}"));
            let program = Command::new(crate::program::binary("dpd-indexer"));
            let mut program = crate::program::with_bare_environment(program);
            program.arg("migrate").env("DATABASE_URL", self.open(TEMPLATE).url()).stdin(Stdio::null());
            let output = program.output().expect("dpd-indexer starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "dpd-indexer migrate: {}\n{said}", output.status);
        });
        self.create(TEMPLATE)
    }

    fn create(&self, template: &str) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.open("postgres").execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        Database { temporary: self.shared, name, port: self.port, connection: Mutex::default() }
    }

    fn open(&self, name: &str) -> Database {
        Postgres::at(name, self.port)
    }

    fn at(name: &str, port: u16) -> Database {
        Database { name: name.to_owned(), port, temporary: false, connection: Mutex::default() }
    }
}

/// The shell that keeps a server, and with it the server.
#[derive(Debug)]
struct Keeper {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    server: Option<Pid>,
}

impl Keeper {
    /// One whose server is empty, or a copy of another.
    fn new(settings: &[&str], place: &Path, original: Option<Original>) -> Keeper {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("dpd-pg-").tempdir_in(place).expect("a folder").keep();
        let mut shell = crate::program::with_bare_environment(Command::new("sh"));
        shell.args(["-c", KEEPER, "sh"]).arg(&folder).arg(&programs).env("LC_ALL", "C");
        if let Some(Original { port, streams }) = original {
            shell.env("ORIGINAL", port.to_string()).env("STREAMS", if streams { "-R" } else { "" });
        }
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
            shell.args(["-c", setting]);
        }
        for setting in settings {
            shell.args(["-c", setting]);
        }
        with_libraries(&mut shell, &programs);
        if let Some((user, group)) = user() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).expect("a folder for the server's user");
            shell.uid(user).gid(group);
        }
        // Its own process group, for whoever ends a test ends the test's group and with it the one that cleans up.
        shell.process_group(0).current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("a shell");
        let answers = BufReader::new(shell.stdout.take().expect("stdout"));
        Keeper { orders: shell.stdin.take(), answers, shell, folder, server: None }
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_ref().expect("stdin"), "{order}").expect("the keeper takes orders");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the keeper's answer");
        answer.trim().to_owned()
    }

    /// Starts the server and waits until it serves; gives its log if it does not.
    fn start(&mut self, port: u16) -> Result<(), String> {
        let number = self.order(&format!("start {port}"));
        let server = number.parse().ok().and_then(Pid::from_raw).expect("a process");
        let serves = crate::wait_for("PostgreSQL to start", || {
            // The file says in its first line whose it is, and in its eighth how the server is.
            let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = file.lines().map(str::trim_end).collect();
            let serves = lines.get(7).is_some_and(|state| ["ready", "standby"].contains(state));
            let ready = lines.first() == Some(&number.as_str()) && serves;
            if ready { Some(true) } else { state(server).is_none().then_some(false) }
        });
        if serves {
            self.server = Some(server);
            return Ok(());
        }
        self.stop();
        Err(fs::read_to_string(self.folder.join("log")).unwrap_or_default())
    }

    fn stop(&mut self) {
        self.server = None;
        assert_eq!(self.order("stop"), "stopped", "PostgreSQL's keeper is gone");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.shell.wait();
    }
}

/// Where servers have their folders: in memory, if there is room, for a database is some three hundred files. That takes
/// nothing from the death of a server, which the files outlive there as well.
fn parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |volume| volume.f_bavail * volume.f_frsize);
    if room >= 2 << 30 { memory.to_owned() } else { std::env::temp_dir() }
}

/// Where PostgreSQL's programs are.
fn programs() -> PathBuf {
    // Debian has no initdb in the PATH, and other places have a link in it.
    let shell = Command::new("sh").args(["-c", "command -v initdb"]).output().expect("a shell");
    let in_path = fs::canonicalize(String::from_utf8_lossy(&shell.stdout).trim_end());
    let mut found: Vec<PathBuf> =
        in_path.ok().and_then(|initdb| Some(initdb.parent()?.to_owned())).into_iter().collect();
    for root in [Path::new("/"), &unpacked()] {
        let mut versions = folders(&root.join("usr/lib/postgresql"));
        versions.sort_by_key(|version| version.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        found.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    }
    let complete = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    found.into_iter().find(complete).expect("PostgreSQL is not installed: run `make test`")
}

/// One of PostgreSQL's own programs, such as `pg_dump`.
pub fn program(name: &str) -> Command {
    let programs = programs();
    let mut command = crate::program::with_bare_environment(Command::new(programs.join(name)));
    with_libraries(&mut command, &programs);
    command
}

fn with_libraries(command: &mut Command, programs: &Path) {
    if programs.starts_with(unpacked()) {
        // PROGRAMS is usr/lib/postgresql/VERSION/bin, and the libraries are in usr/lib/ARCHITECTURE.
        let libraries = folders(programs.ancestors().nth(3).expect("usr/lib"));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("folders without colons"));
    }
}

/// Where `tests/prepare` puts PostgreSQL when it may not install it.
fn unpacked() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/postgresql");
    fs::canonicalize(&folder).unwrap_or(folder)
}

pub(crate) fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Whom the server runs as, since it refuses root.
pub(crate) fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let find = |name: &str| {
        let fields: Vec<&str> = users.lines().map(|line| line.split(':').collect()).find(|f: &Vec<_>| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(["postgres", "nobody"].into_iter().find_map(find).expect("a user for PostgreSQL, which refuses root"))
}

/// Ports to try. Those that the kernel hands out are avoided: it may give a killed server's to another before the restart,
/// and a client that asks again and again for one that nobody listens on is sooner or later connected to itself.
pub(crate) fn ports() -> impl Iterator<Item = u16> {
    let random = RandomState::new();
    (0..1000).map(move |n| 12_000 + (random.hash_one(n) % 18_000) as u16).filter(|port| {
        // Not asked for long, but a server that finds its port taken costs more.
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
    })
}

/// Stops a process and waits until it has stopped.
fn halt(process: Pid) {
    let _ = rustix::process::kill_process(process, Signal::STOP);
    crate::wait_for("a process to stand still", || matches!(state(process), None | Some('T')).then_some(()));
}

/// The letter for what a process does; none of one that ended.
fn state(process: Pid) -> Option<char> {
    stat(process.as_raw_pid()).map(|(state, _)| state)
}

fn children(of: Pid) -> Vec<Pid> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|process| stat(*process).is_some_and(|(_, parent)| parent == of.as_raw_pid()))
        .filter_map(Pid::from_raw)
        .collect()
}

/// The state and the parent of a process that has not ended.
fn stat(process: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before them is in brackets, and may hold any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next().filter(|state| !matches!(state, 'Z' | 'X'))?;
    Some((state, fields.next()?.parse().ok()?))
}

/// A database. What is asked of it goes over one connection, so a `BEGIN` lasts, and it is made anew when it broke.
///
/// It may be asked from anywhere, in an asynchronous runtime or not, and blocks.
#[derive(Debug)]
pub struct Database {
    name: String,
    port: u16,
    /// Whether it goes when this is dropped.
    temporary: bool,
    connection: Mutex<Option<PgConnection>>,
}

impl Database {
    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its server, as `127.0.0.1:PORT`.
    pub fn host_port(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What to give as `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.url_through(self.port)
    }

    /// The same by way of another port, such as a [`crate::proxy::Proxy`]'s.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{}", self.name)
    }

    /// The rows of a query, each as an object.
    ///
    /// # Panics
    /// When the query fails.
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let wrapped = format!("SELECT to_jsonb(t) FROM ({}\n) t", sql.trim_end().trim_end_matches(';'));
        self.ask(sql, async move |connection| {
            // Not kept as a prepared statement, which would not survive a change of the tables.
            let query = sqlx::query_scalar(AssertSqlSafe(wrapped)).persistent(false);
            query.fetch_all(connection).await
        })
    }

    /// The only column of the only row of a query.
    ///
    /// # Panics
    /// When the query fails, or there is not exactly one.
    pub fn value(&self, sql: &str) -> Value {
        let rows = self.rows(sql);
        match rows.as_slice() {
            [Value::Object(row)] if row.len() == 1 => row.values().next().cloned().unwrap_or_default(),
            _ => panic!("not one value in {rows:?} of {sql}"),
        }
    }

    /// Executes statements.
    ///
    /// # Panics
    /// When one fails.
    pub fn execute(&self, sql: &str) {
        let statements = sql.to_owned();
        self.ask(sql, async move |connection| {
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
        });
    }

    /// Takes one of the server's connections, until it is dropped.
    ///
    /// # Panics
    /// When there is none left.
    pub fn hold(&self) -> Lock {
        let holding = || runtime().block_on(self.connection(None));
        Lock(std::thread::scope(|scope| scope.spawn(holding).join()).expect("no panic").expect("a connection"))
    }

    /// Locks a table against everybody, until the lock is dropped.
    ///
    /// # Panics
    /// When that is not done.
    pub fn lock(&self, table: &str) -> Lock {
        self.holding(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
    }

    /// Executes statements in a transaction, which keeps what they lock until it is dropped.
    ///
    /// # Panics
    /// When one fails.
    pub fn holding(&self, statements: &str) -> Lock {
        let sql = format!("BEGIN; {statements}");
        let locking = async {
            let mut connection = self.connection(None).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(Lock(connection))
        };
        // On a thread of its own, as [`Database::ask`] does.
        let locking = || runtime().block_on(locking);
        std::thread::scope(|scope| scope.spawn(locking).join()).expect("no panic in a lock").expect("a lock")
    }

    fn ask<T: Send>(&self, sql: &str, work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Send) -> T {
        self.try_ask(work).unwrap_or_else(|error| {
            panic!(
                "{}: {error}
{sql}",
                self.url()
            )
        })
    }

    fn try_ask<T: Send>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Send,
    ) -> Result<T, String> {
        let mut guard = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        let asking = || {
            let answer = async {
                let mut connection = self.connection(kept.take()).await?;
                let answer = work(&mut connection).await;
                *kept = Some(connection);
                answer
            };
            runtime().block_on(async { tokio::time::timeout(crate::PATIENCE, answer).await })
        };
        // On a thread of its own, for the one that asks may be a runtime's, which may not block on another.
        let answer = std::thread::scope(|scope| scope.spawn(asking).join().expect("no panic in a query"));
        answer.map_err(|_| "no answer came".to_owned())?.map_err(|error| error.to_string())
    }

    /// The one there is, if it still works, or another.
    async fn connection(&self, kept: Option<PgConnection>) -> sqlx::Result<PgConnection> {
        if let Some(mut kept) = kept
            && kept.ping().await.is_ok()
        {
            return Ok(kept);
        }
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port).username("postgres");
        PgConnection::connect_with(&options.database(&self.name).ssl_mode(PgSslMode::Disable)).await
    }
}

/// A connection that is taken, and with it perhaps a lock on a table.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it holds the lock")] PgConnection);

impl Drop for Database {
    fn drop(&mut self) {
        if self.temporary {
            let admin = Database {
                name: "postgres".to_owned(),
                port: self.port,
                temporary: false,
                connection: Mutex::default(),
            };
            let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            let _ = admin.try_ask(async move |connection| {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
            });
        }
    }
}

/// What drives the connections. It stays for as long as the process does.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| build().expect("a runtime"))
}
