//! Which PostgreSQL, and how it is used.

mod url;

use super::{BadVariable, Variables};
use std::path::PathBuf;
use std::time::Duration;

/// Where PostgreSQL is and how it is used.
#[derive(Debug, Clone)]
pub struct PostgresqlSettings {
    /// Which server and database.
    pub server: Server,
    /// A hot standby of it, in which an API reads.
    pub standby: Option<Server>,
    /// The schema of our tables.
    pub schema: String,
    /// Most connections of this process.
    pub connections: u32,
    /// How long what a request needs may take.
    pub timeout: Duration,
    /// How many bytes a process keeps of what searches read.
    pub search_cache: u64,
    /// A name under which the coordination table is shown as well.
    pub state_name: String,
    /// Whether relations that are there under our names, and are not ours, are renamed.
    pub renames_others: bool,
}

/// A PostgreSQL server and a database on it. What is not said is what PostgreSQL's own clients would take.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// A name, an address without brackets, or the folder of a socket.
    pub host: Option<String>,
    /// The port; also a socket's name has one.
    pub port: Option<u16>,
    /// Who connects.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<Secret>,
    /// The file that it is in, where it is to be read for each connection.
    pub password_file: Option<PathBuf>,
    /// The database.
    pub database: Option<String>,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Options for the server's side, as `-c NAME=VALUE`.
    pub options: Option<String>,
}

/// How a connection is encrypted, and whom it is made to.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// `None`: it is where the server can.
    pub mode: Option<TlsMode>,
    /// The certificates of authorities that are trusted beside those that are known everywhere, as a PEM file.
    pub root: Option<PathBuf>,
    /// A certificate of our own, as a PEM file, and its key.
    pub certificate: Option<PathBuf>,
    /// The key.
    pub key: Option<PathBuf>,
}

/// Whether a connection is encrypted, and what of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    const NAMES: &str = "disable, allow, prefer, require, verify-ca or verify-full";

    fn read(text: &str) -> Option<TlsMode> {
        Some(match text {
            "disable" => TlsMode::Disable,
            // Whether it tries first with or without, it takes both.
            "allow" | "prefer" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => return None,
        })
    }
}

/// A text that is not to be shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl PostgresqlSettings {
    /// Reads them; `None` where no PostgreSQL is configured.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables) -> Result<Option<PostgresqlSettings>, BadVariable> {
        let Some(server) = Server::read(variables)? else { return Ok(None) };
        let standby = Server::at(variables, READ_URL)?;
        let name = |name| variables.value(name, NAME, identifier);
        Ok(Some(PostgresqlSettings {
            server,
            standby,
            schema: name("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA")?,
            // The indexer's own work takes up to three at once.
            connections: variables
                .number("DPD_POSTGRESQL_CONNECTIONS", 3..=1000)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX))?,
            timeout: variables.seconds("DPD_POSTGRESQL_TIMEOUT_SECONDS", 1..=3600)?,
            search_cache: variables.number("DPD_SEARCH_CACHE_MIB", 1..=1_000_000).map(|mebibytes| mebibytes << 20)?,
            state_name: name("INDEXING_STATE_TABLE_NAME")?,
            renames_others: variables.value("DPD_FOREIGN_TABLES", "refuse or rename", |text| match text {
                "refuse" => Some(false),
                "rename" => Some(true),
                _ => None,
            })?,
        }))
    }
}

/// The variables that hold URLs.
const URL: &str = "DATABASE_URL";
const READ_URL: &str = "DPD_READ_DATABASE_URL";
/// The variables that hold for a URL as well, where it does not say itself.
const PASSWORD_FILE: &str = "SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE";
const SSLMODE: &str = "SKA_DATAPRODUCT_API_POSTGRESQL_SSLMODE";
const SSLROOTCERT: &str = "SKA_DATAPRODUCT_API_POSTGRESQL_SSLROOTCERT";

impl Server {
    fn read(variables: &Variables) -> Result<Option<Server>, BadVariable> {
        if let Some(server) = Server::at(variables, URL)? {
            return Ok(Some(server));
        }
        let Some(server) = Server::parts(variables)? else { return Ok(None) };
        server.completed(variables, URL, "").map(Some)
    }

    /// The one that a variable holds the URL of.
    fn at(variables: &Variables, name: &'static str) -> Result<Option<Server>, BadVariable> {
        let url = variables.text(name)?;
        let url = url.trim();
        if url.is_empty() {
            return Ok(None);
        }
        let server = url::read(url).map_err(|expected| BadVariable::new(name, url, expected))?;
        server.completed(variables, name, url).map(Some)
    }

    /// The same with what other variables say, where `url`, which `name` holds, does not.
    fn completed(mut self, variables: &Variables, name: &'static str, url: &str) -> Result<Server, BadVariable> {
        let file = variables.value(PASSWORD_FILE, "a file that can be read", readable)?;
        if let Some(file) = file
            && (self.password.is_none() || url.is_empty())
        {
            self.password_file = Some(file);
        }
        let mode = |name| {
            variables.value(name, TlsMode::NAMES, |mode| match mode {
                "" => Some(None),
                mode => TlsMode::read(mode).map(Some),
            })
        };
        let root = |name| {
            let file = "a PEM file with certificates that can be read";
            variables.value(name, file, |path| readable(path).filter(|path| path.as_deref().is_none_or(is_pem)))
        };
        for (key, file) in
            [("sslrootcert", &self.tls.root), ("sslcert", &self.tls.certificate), ("sslkey", &self.tls.key)]
        {
            if file.as_ref().is_some_and(|file| readable(&file.to_string_lossy()).is_none()) {
                return Err(BadVariable::new(name, url, format!("a file that can be read in its {key}")));
            }
        }
        let (own, theirs) = (mode(SSLMODE)?, mode("PGSSLMODE")?);
        self.tls.mode = self.tls.mode.or(own).or(theirs);
        let (own, theirs) = (root(SSLROOTCERT)?, root("PGSSLROOTCERT")?);
        self.tls.root = self.tls.root.or(own).or(theirs);
        // As PostgreSQL's own clients do: who names an authority wants it asked.
        if self.tls.mode == Some(TlsMode::Require) && self.tls.root.is_some() {
            self.tls.mode = Some(TlsMode::VerifyCa);
        }
        Ok(self)
    }

    /// What the variables beside `DATABASE_URL` say.
    fn parts(variables: &Variables) -> Result<Option<Server>, BadVariable> {
        let host = variables.value(
            "SKA_DATAPRODUCT_API_POSTGRESQL_HOST",
            "a host's name or address, or the folder of a socket",
            |text| if text.is_empty() { Some(None) } else { url::host(text).map(Some) },
        )?;
        let port = variables.port("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", host.is_some())?;
        let Some(host) = host else { return Ok(None) };
        let password = variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD")?;
        Ok(Some(Server {
            host: Some(host),
            port: Some(port),
            user: Some(variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_USER")?),
            password: Some(password).filter(|password| !password.is_empty()).map(Secret),
            database: Some(variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME")?),
            ..Server::default()
        }))
    }
}

/// A file that can be read now, where one is named.
#[expect(clippy::option_option, reason = "that none is named is not an error")]
fn readable(path: &str) -> Option<Option<PathBuf>> {
    match path {
        "" => Some(None),
        path => std::fs::File::open(path)
            .and_then(|file| file.metadata())
            .is_ok_and(|file| !file.is_dir())
            .then(|| Some(path.into())),
    }
}

fn is_pem(path: &std::path::Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"))
}

/// What an [`identifier`] is.
pub(super) const NAME: &str = "a name of letters, digits and '_', 63 at the most";

/// A name that PostgreSQL takes without surprises.
pub(super) fn identifier(text: &str) -> Option<String> {
    let fits = text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.bytes().next().is_none_or(|b| b.is_ascii_digit());
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_wins_and_is_never_shown() {
        let both = [
            ("DATABASE_URL", "postgres://me:geheim@db/dpd"),
            ("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", "elsewhere"),
            ("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD", "geheim"),
        ];
        let settings = PostgresqlSettings::read(&both.into()).expect("settings").expect("a server");
        assert_eq!((settings.server.host.as_deref(), settings.server.database.as_deref()), (Some("db"), Some("dpd")));
        assert!(!format!("{settings:?}").contains("geheim"), "{settings:?}");
        let error = PostgresqlSettings::read(&[("DATABASE_URL", "mysql://me:geheim@db")].into()).expect_err("a URL");
        assert!(!error.to_string().contains("geheim") && error.to_string().contains("postgres://"), "{error}");
        assert!(PostgresqlSettings::read(&Variables::default()).expect("settings").is_none());
    }

    fn server<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Server, BadVariable> {
        let host = [("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", "db")];
        let settings = PostgresqlSettings::read(&host.into_iter().chain(pairs).collect())?;
        Ok(settings.expect("a server").server)
    }

    #[test]
    fn tls_is_as_ours_say_or_as_postgresqls_own_do() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----").expect("written");
        let path = file.path().to_str().expect("text");
        let tls = |pairs: &[(&'static str, &str)]| {
            let tls = server(pairs.iter().copied()).expect("a server").tls;
            (tls.mode, tls.root.is_some())
        };
        assert_eq!(tls(&[]), (None, false));
        for name in [SSLMODE, "PGSSLMODE"] {
            assert_eq!(tls(&[(name, "verify-full\n")]), (Some(TlsMode::VerifyFull), false), "{name}");
            let error = server([(name, "verify_full")]).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("verify-full"), "{error}");
        }
        assert_eq!(tls(&[(SSLMODE, "disable"), ("PGSSLMODE", "require")]), (Some(TlsMode::Disable), false));
        assert_eq!(tls(&[("PGSSLMODE", "require"), (SSLROOTCERT, path)]), (Some(TlsMode::VerifyCa), true));
        let url = ("DATABASE_URL", "postgres://h/x?sslmode=require");
        assert_eq!(tls(&[url, (SSLMODE, "disable")]), (Some(TlsMode::Require), false));
        assert_eq!(tls(&[("DATABASE_URL", "postgres://h/x"), (SSLMODE, "disable")]), (Some(TlsMode::Disable), false));
        for name in [SSLROOTCERT, "PGSSLROOTCERT", PASSWORD_FILE] {
            for bad in ["/no/such/file", "/"] {
                let error = server([(name, bad)]).expect_err(name).to_string();
                assert!(error.contains(name) && error.contains(bad), "{error}");
            }
        }
        assert!(server([(SSLROOTCERT, "/dev/null")]).is_err());
        let missing =
            server([("DATABASE_URL", "postgres://me:geheim@h/x?sslcert=/no/such/file")]).expect_err("no file");
        assert!(missing.to_string().contains("sslcert") && !missing.to_string().contains("geheim"), "{missing}");
    }

    #[test]
    fn a_password_file_wins_over_a_password_beside_it() {
        let of =
            |pairs: &[(&'static str, &'static str)]| server(pairs.iter().copied()).expect("a server").password_file;
        let file = (PASSWORD_FILE, "/dev/null");
        assert!(of(&[file]).is_some());
        assert!(of(&[file, ("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD", "x")]).is_some());
        assert!(of(&[file, ("DATABASE_URL", "postgres://me@h/x")]).is_some());
        assert!(of(&[file, ("DATABASE_URL", "postgres://me:pw@h/x")]).is_none());
    }

    #[test]
    fn hosts_and_ports_are_checked() {
        let host = |host| server([("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", host)]).map(|server| server.host);
        for (text, expected) in
            [("::1", "::1"), ("[::1]", "::1"), (" db\n", "db"), ("/tmp", "/tmp"), ("fe80::1%lo", "fe80::1%lo")]
        {
            assert_eq!(host(text), Ok(Some(expected.to_owned())), "{text}");
        }
        for bad in ["a b", "postgres://me:geheim@db", "a,b", "db:5432", "me@db", "[db]"] {
            let error = host(bad).expect_err(bad).to_string();
            assert!(error.contains("POSTGRESQL_HOST") && !error.contains("geheim"), "{error}");
        }
        let link = ("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", "tcp://10.96.0.1:5433");
        assert_eq!(server([link]).expect("a server").port, Some(5433));
        assert!(PostgresqlSettings::read(&[link].into()).expect("settings").is_none());
    }

    #[test]
    fn names_are_plain() {
        let schema = |schema| {
            let both =
                [("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", "db"), ("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", schema)];
            PostgresqlSettings::read(&both.into())
        };
        assert_eq!(schema("Sdp_dpd2").expect("settings").expect("a server").schema, "Sdp_dpd2");
        for bad in ["2a", "a-b", "a\"; DROP", "ä"] {
            assert!(schema(bad).is_err(), "{bad}");
        }
    }
}
