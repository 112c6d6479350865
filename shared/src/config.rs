//! Configuration: read once, at start, from the environment, and in this file only.
//!
//! [`VARIABLES`] is the list that `--help` and the README show. A value that cannot be used is an error that names the
//! variable, the value and what was expected.

mod access;
mod client;
mod dashboard;
mod indexing;
mod logging;
mod postgresql;
mod proxy;
mod sources;
mod variables;

pub use access::{AccessSettings, Guarded, Ingest, allowed_hosts};
pub use client::ClientSettings;
pub use indexing::{IndexingSettings, WatchMode};
pub use logging::{LogFormat, Logging};
pub use postgresql::{PostgresqlSettings, Secret, Server, Tls, TlsMode};
pub use proxy::ProxySettings;
pub use sources::{DlmSettings, SdpSettings};
pub use variables::{BadVariable, Variables};

use crate::product::Origin;
use crate::uid;
use chrono::format::{Item, StrftimeItems};
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::net::SocketAddr;
use std::time::Duration;

/// A variable, as people are told of it.
#[derive(Debug)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// What it is when it is not set or empty.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning }
}

/// Everything that can be set.
pub const VARIABLES: &[Variable] = &[
    variable("PERSISTENT_STORAGE_PATH", "", "the volume's data product folder, where no PATH is given"),
    variable("PVCNAME", "", "the volume's name in rows and in /status; the storage path's last component where empty"),
    variable("METADATA_FILE_NAME", "ska-data-product.yaml", "the file that makes a folder a data product"),
    variable(
        "SKA_DATAPRODUCT_API_DPD_VOLUME_ID_FILE",
        ".dpd-volume-id",
        "the file at the storage path that holds the volume's UUID; dpd-indexer makes it where it is missing",
    ),
    variable("INDEXING_PARALLEL_WORKERS", "8", "concurrent readers of the volume; they hide its latency"),
    variable("INDEXING_BATCH_SIZE", "500", "most files in one write to the store"),
    variable("INDEXING_TIMEOUT_SECONDS", "21600", "a walk that takes longer stops and keeps what it has"),
    variable(
        "INDEXING_HEARTBEAT_STALE_SECONDS",
        "15",
        "how long an indexer that is silent keeps its lease; then another takes over",
    ),
    variable(
        "INDEXING_STATE_TABLE_NAME",
        "dpd_indexing_state",
        "a name under which the coordination table can be read as well, as a view",
    ),
    variable("DPD_INDEXER_LISTEN", "127.0.0.1:8001", "where dpd-indexer answers /livez, /readyz and /status"),
    variable("DPD_API_LISTEN", "127.0.0.1:8000", "where dpd-api answers"),
    variable(
        "DPD_METRICS_LISTEN",
        "",
        "where /metrics is answered, such as 0.0.0.0:9090; where empty, dpd-indexer answers it beside /status, and the others do not",
    ),
    variable("DPD_PRUNE", "*.ms,*.MS,*.zarr", "folders not walked into, as patterns of names, with commas"),
    variable(
        "DPD_WATCH",
        "auto",
        "how changes are noticed: events (of inotify on Linux, of the notify library elsewhere), notify (of that library on Linux as well), poll (walks only), or auto: poll on network file systems, where events miss what other machines write, and events on others",
    ),
    variable(
        "DPD_RECONCILE_SECONDS",
        "300",
        "how often the volume is walked, less what surely did not change, to find what no event told",
    ),
    variable("DPD_FULL_WALK_SECONDS", "86400", "how often such a walk leaves nothing out"),
    variable(
        "DPD_TREE_ATTRIBUTES",
        "ceph.dir.rctime,ceph.dir.rentries,ceph.dir.rfiles",
        "extended attributes of folders that tell when anything below them changed, and how much there is; folders that have the first are left out of walks where all tell the same as before",
    ),
    variable("API_ROOT_PATH", "", "the prefix that an ingress shows the world"),
    variable("API_VERBOSE", "false", "debug logging"),
    variable("RUST_LOG", "", "a log filter, such as info,indexer=debug; wins over API_VERBOSE"),
    variable("DPD_LOG_FORMAT", "text", "text, or json: one object a line"),
    variable("STREAM_CHUNK_SIZE", "65536", "bytes per chunk of a download"),
    variable("DATE_FORMAT", "%Y-%m-%d", "of the dates in search requests, as strftime"),
    variable("DATABASE_URL", "", "PostgreSQL as postgres://USER:PASSWORD@HOST:PORT/DATABASE; wins over the next five"),
    variable(
        "DPD_READ_DATABASE_URL",
        "",
        "a hot standby of that server, in which dpd-api reads what it answers; what is written goes to the other",
    ),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", "", "PostgreSQL's host, or the folder of its socket"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", "5432", "PostgreSQL's port"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_USER", "postgres", "PostgreSQL's user"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD", "", "that user's password"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME", "postgres", "the database"),
    variable(
        "SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE",
        "",
        "a file with the password, read for each new connection; wins over the variable, and holds for a DATABASE_URL without one",
    ),
    variable(
        "SKA_DATAPRODUCT_API_POSTGRESQL_SSLMODE",
        "",
        "disable, allow, prefer, require, verify-ca or verify-full; where empty as PGSSLMODE says, and then prefer",
    ),
    variable(
        "SKA_DATAPRODUCT_API_POSTGRESQL_SSLROOTCERT",
        "",
        "a PEM file with certificates of authorities that are trusted beside the public ones; where empty as PGSSLROOTCERT says",
    ),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "public", "the schema of our tables, made where it is missing"),
    variable(
        "DPD_FOREIGN_TABLES",
        "refuse",
        "tables that have a name of ours in that schema and are not ours: refuse (the programs do not start) or rename (they are kept as …_before_0001; whoever uses them loses them)",
    ),
    variable("DPD_POSTGRESQL_CONNECTIONS", "10", "most connections of one process to PostgreSQL"),
    variable("DPD_POSTGRESQL_TIMEOUT_SECONDS", "10", "how long PostgreSQL may take for what a request needs"),
    variable("DPD_SEARCH_CACHE_MIB", "48", "how much an API keeps of what searches read in PostgreSQL, in MiB"),
    variable("DPD_SEARCH_TIMEOUT_SECONDS", "10", "how long a search of `dpd serve` may take"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_QUERY_SIZE_LIMIT", "10000", "most rows that one search returns"),
    variable(
        "SDP_CONFIG_HOST",
        "",
        "the host of the SDP configuration database (etcd), whose flows are shown; it is not followed where empty",
    ),
    variable("SDP_CONFIG_PORT", "2379", "its port"),
    variable("SDP_CONFIG_PROTOCOL", "http", "http or https"),
    variable(
        "SDP_CONFIG_CERT",
        "",
        "a PEM file with the certificates of authorities that are trusted for it; the system's where empty",
    ),
    variable("SDP_CONFIG_USERNAME", "", "its user, where it asks for one"),
    variable("SDP_CONFIG_PASSWORD", "", "that user's password"),
    variable("SDP_CONFIG_PATH", "", "what all keys in it begin with"),
    variable(
        "SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS",
        "10",
        "the longest pause between attempts to connect to it",
    ),
    variable(
        "SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED",
        "false",
        "whether data items of the Data Lifecycle Manager, in the same PostgreSQL, are shown",
    ),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_DLM_SCHEMA", "dlm", "the schema of their table"),
    variable("SKA_DATAPRODUCT_API_POSTGRESQL_DLM_METADATA_TABLE_NAME", "data_item", "the name of their table"),
    variable("DPD_DLM_LOOK_SECONDS", "5", "how often it is looked whether their table changed"),
    variable(
        "SKA_PERMISSIONS_API_HOST",
        "",
        "base URL of the service that knows callers' groups; where empty nobody is in any group",
    ),
    variable(
        "DPD_ACCESS_GROUPS",
        "everywhere",
        "what access groups guard: everywhere, or listings (searches and columns alone, for clients that send no token otherwise)",
    ),
    variable(
        "DPD_ALLOWED_HOSTS",
        "",
        "host names that `dpd serve` answers to beside localhost where it listens on loopback, with commas, such as that of a proxy before it; * for any",
    ),
    variable(
        "DPD_SESSION_COOKIE",
        "on",
        "whether an answer to a token sets a session cookie, by which a browser is known where it sends no token: on or off",
    ),
    variable(
        "DPD_INGEST",
        "open",
        "whose announcements of products and metadata are taken: open (everybody's), token (of callers whose token the permissions service takes), or off",
    ),
    variable(
        "DPD_FLOWS",
        "members",
        "who is shown flows that have no product yet, where a permissions service is configured: members (callers whose token it takes), or everybody",
    ),
    variable(
        "DPD_MAX_REQUESTS",
        "256",
        "requests at once, without downloads, three quarters of them for one address; further ones get 503",
    ),
    variable(
        "DPD_MAX_DOWNLOADS",
        "1000",
        "downloads at once, three quarters of them for one address; further ones get 503",
    ),
    variable(
        "DPD_IDLE_SECONDS",
        "75",
        "how long a connection on which nothing is asked is kept; longer than the proxies in between keep theirs",
    ),
    variable("DPD_STALL_SECONDS", "60", "how long a client may take nothing of its answer before it is cut off"),
    variable(
        "DPD_DRAIN_SECONDS",
        "",
        "how long an API that was told to stop (SIGTERM) goes on taking requests, so that load balancers can turn from it; 8 for dpd-api and 0 for `dpd serve` where empty",
    ),
    variable("DPD_DOWNLOAD_GRACE_SECONDS", "30", "how long downloads that are running may go on after that"),
    variable(
        "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL",
        "http://localhost",
        "a URL of the dashboard's, of which the origin is allowed (CORS); a path, or set to nothing, where that is the API's own",
    ),
    variable(
        "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_PORT",
        "8100",
        "the dashboard's port where that URL names none; the origin with it is allowed as well",
    ),
    variable(
        "SKA_DATAPRODUCT_API_VERSION",
        "",
        "what /status says is the API's version; the program's own where empty",
    ),
    variable("DPD_SERVER", "http://127.0.0.1:8000", "the API that dpd asks, where no --server is given"),
    variable("DPD_TOKEN", "", "the token that dpd shows it, where no --token is given"),
];

/// All that a process is told.
#[derive(Debug)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Settings {
    pub volume: VolumeSettings,
    pub indexing: IndexingSettings,
    pub api: ApiSettings,
}

/// Which volume, and what on it is a product.
#[derive(Debug, Clone)]
pub struct VolumeSettings {
    /// The storage path as it is opened.
    pub path: String,
    /// What uids and rows say of it.
    pub origin: Origin,
    /// Names of folders that are not walked into.
    pub prune: GlobSet,
    /// The file at the storage path that says which volume it is.
    pub id_file: String,
}

/// How the API answers.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The prefix that an ingress shows: empty, or `/` and names without a trailing `/`.
    pub root_path: String,
    /// Bytes per chunk of a download.
    pub chunk: usize,
    /// `strftime` format of dates in searches.
    pub date_format: String,
    /// Most rows of one search.
    pub query_limit: usize,
    /// Origins that browsers may call from.
    pub origins: Vec<String>,
    /// Names that it answers to beside those of this machine's loopback; `None`: it answers to any.
    pub hosts: Option<Vec<String>>,
    /// Who may see what.
    pub access: AccessSettings,
    /// Requests answered at once, without downloads.
    pub max_requests: usize,
    /// Downloads at once.
    pub max_downloads: usize,
    /// How long a connection on which nothing is asked is kept.
    pub idle: Duration,
    /// How long a client may take nothing of its answer.
    pub stall: Duration,
    /// How long requests are still taken once the process was told to stop; `None`: as long as the program likes.
    pub drain: Option<Duration>,
    /// How long downloads may go on after that.
    pub download_grace: Duration,
    /// How long a search in memory may take.
    pub search_timeout: Duration,
    /// What `/status` says; `None`: the program's own version.
    pub version: Option<String>,
}

impl Settings {
    /// Reads all of it. `path` is the storage path where it was given otherwise than by the environment.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables, path: Option<String>) -> Result<Settings, BadVariable> {
        Ok(Settings {
            volume: VolumeSettings::read(variables, path)?,
            indexing: IndexingSettings::read(variables)?,
            api: ApiSettings::read(variables)?,
        })
    }
}

impl VolumeSettings {
    /// Reads them. `path` is the storage path where it was given otherwise than by the environment.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables, path: Option<String>) -> Result<VolumeSettings, BadVariable> {
        let path = match path {
            Some(path) => path,
            None => variables.value("PERSISTENT_STORAGE_PATH", "the volume's folder (or give PATH)", |text| {
                (!text.is_empty()).then(|| text.to_owned())
            })?,
        };
        let storage_path = uid::normalise(&path);
        let last = storage_path.rsplit('/').next().unwrap_or_default().to_owned();
        let name = variables
            .value("PVCNAME", "a name", |text| Some(if text.is_empty() { last.clone() } else { text.to_owned() }))?;
        let file_name = |text: &str| (!text.contains('/') && text != "." && text != "..").then(|| text.to_owned());
        let file = |name| variables.value(name, "a file's name, without '/'", file_name);
        let metadata_file = file("METADATA_FILE_NAME")?;
        let id_file = file("SKA_DATAPRODUCT_API_DPD_VOLUME_ID_FILE")?;
        let prune = variables.value("DPD_PRUNE", "patterns of folder names with commas, such as *.ms,*.zarr", globs)?;
        let name = if name.is_empty() { "volume".to_owned() } else { name };
        Ok(VolumeSettings { path, origin: Origin { storage_path, name, metadata_file }, prune, id_file })
    }
}

fn globs(text: &str) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()) {
        set.add(Glob::new(pattern).ok()?);
    }
    set.build().ok()
}

impl ApiSettings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables) -> Result<ApiSettings, BadVariable> {
        let some = |text: &str| Some(text.to_owned());
        let root_path = variables.value("API_ROOT_PATH", "a path such as /dataproducts", |text| {
            let path = text.trim_matches('/');
            let fits = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\"\\".contains(&b));
            fits.then(|| if path.is_empty() { String::new() } else { format!("/{path}") })
        })?;
        let version = variables.value("SKA_DATAPRODUCT_API_VERSION", "a version", some)?;
        Ok(ApiSettings {
            root_path,
            chunk: variables.count("STREAM_CHUNK_SIZE", 512..=16 * 1024 * 1024)?,
            date_format: variables.value(
                "DATE_FORMAT",
                "a strftime format that names year, month and day",
                |text| names_a_day(text).then(|| text.to_owned()),
            )?,
            query_limit: variables.count("SKA_DATAPRODUCT_API_POSTGRESQL_QUERY_SIZE_LIMIT", 1..=10_000_000)?,
            origins: dashboard::origins(variables)?,
            hosts: None,
            access: AccessSettings::read(variables)?,
            max_requests: variables.count("DPD_MAX_REQUESTS", 1..=100_000)?,
            max_downloads: variables.count("DPD_MAX_DOWNLOADS", 1..=100_000)?,
            idle: variables.seconds("DPD_IDLE_SECONDS", 1..=86_400)?,
            stall: variables.seconds("DPD_STALL_SECONDS", 1..=86_400)?,
            drain: match variables.text("DPD_DRAIN_SECONDS")?.is_empty() {
                true => None,
                false => Some(variables.seconds("DPD_DRAIN_SECONDS", 0..=3600)?),
            },
            download_grace: variables.seconds("DPD_DOWNLOAD_GRACE_SECONDS", 0..=86_400)?,
            search_timeout: variables.seconds("DPD_SEARCH_TIMEOUT_SECONDS", 1..=3600)?,
            version: (!version.is_empty()).then_some(version),
        })
    }
}

/// Whether a date written in this format can be read back.
fn names_a_day(format: &str) -> bool {
    let day = chrono::NaiveDate::default();
    let understood = StrftimeItems::new(format).all(|item| !matches!(item, Item::Error));
    let mut written = String::new();
    understood
        && std::fmt::Write::write_fmt(&mut written, format_args!("{}", day.format(format))).is_ok()
        && chrono::NaiveDate::parse_from_str(&written, format) == Ok(day)
}

/// Reads an address to listen on, such as `DPD_API_LISTEN`.
///
/// # Errors
/// Where it is none.
pub fn listen(variables: &Variables, name: &'static str) -> Result<SocketAddr, BadVariable> {
    variables.value(name, "ADDRESS:PORT, such as 127.0.0.1:8000 or 0.0.0.0:8000", |text| text.parse().ok())
}

/// Reads where metrics are answered; `None` where nothing is said.
///
/// # Errors
/// Where it is no address.
pub fn metrics_listen(variables: &Variables) -> Result<Option<SocketAddr>, BadVariable> {
    variables.value("DPD_METRICS_LISTEN", "ADDRESS:PORT, such as 0.0.0.0:9090", |text| match text {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    })
}

/// What can be set in the environment, for `--help`.
pub fn help() -> String {
    let mut text = "Environment variables:".to_owned();
    for variable in VARIABLES {
        let default =
            if variable.default.is_empty() { String::new() } else { format!(" [default: {}]", variable.default) };
        text += &format!("\n  {}{default}\n          {}", variable.name, variable.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(pairs: [(&str, &str); N]) -> Result<Settings, BadVariable> {
        Settings::read(&pairs.into(), Some("/data/product/".to_owned()))
    }

    #[test]
    fn defaults_are_usable() {
        let settings = read([]).expect("defaults");
        assert_eq!(settings.volume.origin.name, "product");
        assert_eq!(settings.volume.origin.storage_path, "/data/product");
        assert_eq!(settings.indexing.workers, 8);
        assert_eq!(settings.api.origins, ["http://localhost:8100", "http://localhost"]);
        assert!(settings.volume.prune.is_match("vis.ms") && settings.volume.prune.is_match("vis.MS"));
        assert!(!settings.volume.prune.is_match("vis.msx"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, value) in [
            ("INDEXING_PARALLEL_WORKERS", "0"),
            ("INDEXING_PARALLEL_WORKERS", "many"),
            ("INDEXING_TIMEOUT_SECONDS", "-1"),
            ("DPD_WATCH", "sometimes"),
            ("DPD_FULL_WALK_SECONDS", "0"),
            ("DPD_TREE_ATTRIBUTES", "user.a,,user.b"),
            ("DPD_PRUNE", "a["),
            ("STREAM_CHUNK_SIZE", "0"),
            ("DATE_FORMAT", "%Y"),
            ("DATE_FORMAT", "%Q"),
            ("METADATA_FILE_NAME", "a/b"),
            ("API_ROOT_PATH", "a b"),
            ("REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL", "localhost"),
            ("REACT_APP_SKA_DATAPRODUCT_DASHBOARD_PORT", "0"),
        ] {
            let error = read([(name, value)]).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains(value) && error.contains("expected"), "{error}");
        }
        assert!(Settings::read(&Variables::default(), None).is_err());
        assert!(Logging::read(&[("API_VERBOSE", "perhaps")].into()).is_err());
        assert!(Logging::read(&[("RUST_LOG", "a=b=c")].into()).is_err());
        for format in ["JSON", "yaml"] {
            let error = Logging::read(&[("DPD_LOG_FORMAT", format)].into()).expect_err(format).to_string();
            assert!(error.contains("text or json"), "{error}");
        }
        assert!(metrics_listen(&[("DPD_METRICS_LISTEN", "9090")].into()).is_err());
    }
}
