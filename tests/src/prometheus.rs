//! Prometheus for the tests: a real one that scrapes what they start, and `promtool`.
//!
//! It ends when its test process does, however that ends: a shell keeps it, and kills it when its input is closed.

use crate::postgres::ports;
use serde_json::Value;
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

/// A Prometheus, ended and removed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    keeper: Child,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// One that scrapes these addresses, `HOST:PORT`, five times a second.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(targets: &[String]) -> Prometheus {
        for port in ports() {
            if let Some(prometheus) = Prometheus::on(port, targets) {
                return prometheus;
            }
        }
        panic!("no free port for Prometheus");
    }

    fn on(port: u16, targets: &[String]) -> Option<Prometheus> {
        let folder = tempfile::Builder::new().prefix("dpd-prometheus-").tempdir().expect("a folder");
        let settings = serde_json::json!({
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [{"job_name": "dpd", "static_configs": [{"targets": targets}]}],
        });
        // What is JSON is YAML as well.
        std::fs::write(folder.path().join("settings.yaml"), settings.to_string()).expect("written");
        let mut shell = crate::program::with_bare_environment(Command::new("sh"));
        shell.args(["-c", KEEPER, "keeper"]).arg(program("prometheus")).current_dir(folder.path());
        shell.args(["--config.file=settings.yaml", "--storage.tsdb.path=data"]);
        shell.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let prometheus = Prometheus { keeper: shell.spawn().expect("a shell"), port, folder };
        let serves = crate::wait_for("Prometheus to start", || {
            let log = prometheus.log();
            if log.contains("address already in use") {
                return Some(false);
            }
            let is_ready = log.contains("Server is ready") && TcpStream::connect(("127.0.0.1", port)).is_ok();
            is_ready.then_some(true)
        });
        serves.then_some(prometheus)
    }

    /// What it knows of its targets.
    ///
    /// # Panics
    /// When it does not say so.
    pub fn targets(&self) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/targets", self.port);
        let mut answer = ureq::get(url).call().expect("an answer");
        let text = answer.body_mut().read_to_string().expect("text");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["data"]["activeTargets"].as_array().expect("targets").clone()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Runs `promtool` in a folder, and gives whether it is content, and what it says.
///
/// # Panics
/// When it is not there.
pub fn promtool(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program("promtool")).args(arguments).current_dir(folder).output().expect("promtool");
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Where Debian has it, and where `tests/prepare` puts it when it may not install it.
fn program(name: &str) -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/prometheus/usr/bin").join(name);
    let places = [Path::new("/usr/bin").join(name), unpacked];
    places
        .into_iter()
        .find(|place| place.exists())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make test`"))
}
