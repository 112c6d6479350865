//! PgBouncer for the tests: a real one before a PostgreSQL of the tests.
//!
//! It ends when its test process does, however that ends: a shell keeps it, and kills it when its input is closed.

use crate::postgres::{Postgres, folders, ports, user};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const KEEPER: &str = r#"
trap '' HUP INT TERM PIPE
"$@" >>log 2>&1 </dev/null &
read -r _
kill -KILL $!
wait
"#;

/// A pooler, ended and removed when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    keeper: Child,
    port: u16,
    folder: TempDir,
}

impl PgBouncer {
    /// One that gives sessions away by this mode (`session`, `transaction` or `statement`), and has so many for each
    /// database.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(server: &Postgres, mode: &str, sessions: u32) -> PgBouncer {
        for port in ports() {
            if let Some(pooler) = PgBouncer::on(port, server, mode, sessions) {
                return pooler;
            }
        }
        panic!("no free port for PgBouncer");
    }

    /// The same on a port that is free.
    ///
    /// # Panics
    /// When it does not start there.
    pub fn start_on(port: u16, server: &Postgres, mode: &str, sessions: u32) -> PgBouncer {
        PgBouncer::on(port, server, mode, sessions).expect("the port is free")
    }

    fn on(port: u16, server: &Postgres, mode: &str, sessions: u32) -> Option<PgBouncer> {
        let folder = tempfile::Builder::new().prefix("dpd-bouncer-").tempdir().expect("a folder");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {sessions}\nmax_db_connections = {sessions}\n",
            server.port()
        );
        std::fs::write(folder.path().join("settings.ini"), settings).expect("written");
        let mut shell = crate::program::with_bare_environment(Command::new("sh"));
        shell.args(["-c", KEEPER, "keeper"]).arg(program()).arg("settings.ini").current_dir(folder.path());
        let unpacked = unpacked().join("usr/lib");
        if unpacked.is_dir() {
            shell.env("LD_LIBRARY_PATH", std::env::join_paths(folders(&unpacked)).expect("folders without colons"));
        }
        if let Some((user, group)) = user() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).expect("a folder for its user");
            shell.uid(user).gid(group);
        }
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let pooler = PgBouncer { keeper: shell.spawn().expect("a shell"), port, folder };
        let serves = crate::wait_for("PgBouncer to start", || {
            let log = pooler.log();
            if log.contains("cannot listen") || log.contains("FATAL") {
                return Some(false);
            }
            (log.contains("process up") && TcpStream::connect(("127.0.0.1", port)).is_ok()).then_some(true)
        });
        serves.then_some(pooler)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Where Debian has it, and where `tests/prepare` puts it when it may not install it.
fn program() -> PathBuf {
    let places = [PathBuf::from("/usr/sbin/pgbouncer"), unpacked().join("usr/sbin/pgbouncer")];
    places.into_iter().find(|place| place.exists()).expect("PgBouncer is not installed: run `make test`")
}

fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pgbouncer")
}
