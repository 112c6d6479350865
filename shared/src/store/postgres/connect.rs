//! How connections to PostgreSQL are made, whether they are such as can be worked with, and why there are none.

use super::handshake;
use crate::config::{Server, TlsMode};
use crate::store::{Result, StoreError};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Row};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// How long an attempt may take that is made to find out why there is no connection.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often it is looked whether two connections are each other's.
const ROUNDS: usize = 8;

/// What makes connections.
#[derive(Debug)]
pub(super) struct Connector {
    options: PgConnectOptions,
    password_file: Option<PathBuf>,
    /// Where PostgreSQL is, for people.
    place: String,
}

impl Connector {
    /// One for a process that goes by this name there.
    pub(super) fn new(server: &Server, name: &str) -> Result<Connector> {
        let options = options(server).map_err(|error| StoreError::Unusable(format!("PostgreSQL: {error}")))?;
        // Poolers know what every client sets at its start, which this is not.
        let options = options.application_name(name).extra_float_digits(None);
        let options = options.log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2));
        let (host, port) = (options.get_host(), options.get_port());
        let place = match options.get_socket() {
            Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            None if host.starts_with('/') => format!("{host}/.s.PGSQL.{port}"),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        };
        Ok(Connector { options, password_file: server.password_file.clone(), place })
    }

    /// How to connect, but for a password in a file.
    pub(super) fn configured(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// How to connect now: the password may be another than a moment ago.
    pub(super) async fn options(&self) -> Result<PgConnectOptions> {
        let Some(path) = self.password_file.clone() else { return Ok(self.options.clone()) };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let read = read.map_err(std::io::Error::other).flatten().map_err(|error| {
            StoreError::Unavailable(format!(
                "PostgreSQL's password cannot be read: SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE ({shown}): {error}"
            ))
        })?;
        Ok(self.options.clone().password(read.trim_end_matches(['\n', '\r'])))
    }

    /// Whether the password may become another.
    pub(super) fn may_change(&self) -> bool {
        self.password_file.is_some()
    }

    /// Why a connection cannot be made, as one more attempt tells; nothing where it can.
    pub(super) async fn trouble(&self) -> Option<String> {
        let attempt = async {
            self.keep_password_from_view().await?;
            Ok(self.options().await?.connect().await.map_err(|error| self.refusal(&error)))
        };
        match timeout(ATTEMPT, attempt).await {
            Err(_) => Some(self.silent(ATTEMPT)),
            Ok(Err(StoreError::Unavailable(why))) | Ok(Ok(Err(why))) => Some(why),
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(Ok(connection))) => {
                let _ = timeout(ATTEMPT, connection.close()).await;
                None
            }
        }
    }

    /// Holds that the password is not sent where others can read it on its way.
    async fn keep_password_from_view(&self) -> Result<()> {
        let options = &self.options;
        let encrypts = match options.get_ssl_mode() {
            PgSslMode::Disable => false,
            PgSslMode::Allow | PgSslMode::Prefer => true,
            // Nothing is sent otherwise.
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => return Ok(()),
        };
        let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        if is_socket {
            return Ok(());
        }
        let user = options.get_username();
        let (place, who) = ((options.get_host(), options.get_port()), (user, options.get_database().unwrap_or(user)));
        match timeout(ATTEMPT, handshake::wants_clear_text(place, who, encrypts)).await {
            Ok(Ok(true)) => Err(StoreError::Unavailable(format!(
                "PostgreSQL at {} wants the password in clear text over a connection that is not encrypted, where anybody on \
                 the way could read it: have it use TLS (SKA_DATAPRODUCT_API_POSTGRESQL_SSLMODE=require or verify-full), or \
                 scram-sha-256 in its pg_hba.conf",
                self.place
            ))),
            _ => Ok(()),
        }
    }

    /// That nothing came.
    pub(super) fn silent(&self, within: Duration) -> String {
        format!("PostgreSQL at {} gave no answer within {} s", self.place, within.as_secs())
    }

    /// Why PostgreSQL did not let us in. Addresses are those that are configured; users stay out of it.
    pub(super) fn refusal(&self, error: &sqlx::Error) -> String {
        let place = &self.place;
        match error {
            sqlx::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
                format!("PostgreSQL cannot be reached: connection refused by {place}")
            }
            // How a handshake fails that comes to look at the certificate.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                format!("PostgreSQL at {place} is not trusted: {error}")
            }
            sqlx::Error::Io(error) => format!("PostgreSQL cannot be reached at {place}: {error}"),
            sqlx::Error::Tls(error) => format!("PostgreSQL at {place} cannot be talked to by TLS: {error}"),
            sqlx::Error::Protocol(error) => format!("what answers at {place} is not PostgreSQL: {error}"),
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("28P01") => format!("PostgreSQL at {place} does not take the password"),
                Some(code) if code.starts_with("28") => format!(
                    "PostgreSQL at {place} does not let this user in: it has no such role, or pg_hba.conf no line for it"
                ),
                Some("53300") => format!("PostgreSQL at {place} has no connection left: {}", error.message()),
                _ => format!("PostgreSQL at {place} says: {}", error.message()),
            },
            other => format!("PostgreSQL at {place} cannot be used: {other}"),
        }
    }

    /// Holds that what we connect to can be worked with: that a connection keeps to one session of PostgreSQL's, and that
    /// the database can hold any text.
    ///
    /// Two connections are looked at. Behind a pooler that gives sessions away between transactions, sooner or later
    /// both are in one session, or one of them in two: settings, prepared statements and notifications of ours would be
    /// lost, or others'.
    pub(super) async fn examine(&self) -> Result<()> {
        let refused = |error: sqlx::Error| StoreError::Unavailable(self.refusal(&error));
        self.keep_password_from_view().await?;
        let options = self.options().await?;
        let mut first = options.connect().await.map_err(refused)?;
        let encoding = sqlx::raw_sql("SHOW server_encoding").fetch_one(&mut first).await.map_err(refused)?;
        let encoding: String = encoding.try_get(0)?;
        if !["UTF8", "SQL_ASCII"].contains(&encoding.as_str()) {
            return Err(StoreError::Unavailable(format!(
                "the database's encoding is {encoding}, which cannot hold all that metadata may: it must be UTF8. Make \
                 another database by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )));
        }
        let session = session_of(&mut first).await.map_err(refused)?;
        let mut second = options.connect().await.map_err(refused)?;
        let other = timeout(ATTEMPT, session_of(&mut second)).await.map_err(|_| {
            StoreError::Unavailable(format!(
                "PostgreSQL at {} answers on one connection, but gave no answer on another within {} s: is it a pooler \
                 with room for fewer sessions than docs/database.md says?",
                self.place,
                ATTEMPT.as_secs()
            ))
        })?;
        let other = other.map_err(refused)?;
        let mut kept = session != other;
        // Uneven turns, for what goes around in a pooler may come back to each in even ones.
        for _ in 0..ROUNDS {
            for (connection, own) in [(&mut first, session), (&mut second, other)] {
                for _ in 0..2 {
                    kept &= session_of(connection).await.map_err(refused)? == own;
                }
            }
            kept &= session_of(&mut first).await.map_err(refused)? == session;
        }
        for connection in [first, second] {
            let _ = timeout(ATTEMPT, connection.close()).await;
        }
        if kept {
            return Ok(());
        }
        Err(StoreError::Unusable(format!(
            "{} is a pooler that gives PostgreSQL's sessions to others between transactions or statements, and this \
             program needs its own: set pool_mode = session (of PgBouncer) for this database, or connect to PostgreSQL \
             itself",
            self.place
        )))
    }
}

/// Which session of PostgreSQL's a connection is in, asked for by a simple query, which any pooler takes.
async fn session_of(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// What is configured, as the parameters of a URL: so what is not said is what PostgreSQL's own clients take.
fn options(server: &Server) -> sqlx::Result<PgConnectOptions> {
    let tls = &server.tls;
    let is_socket = server.host.as_ref().is_some_and(|host| host.starts_with('/'));
    let mode = match tls.mode.unwrap_or(TlsMode::Prefer) {
        // There is nobody between.
        _ if is_socket => "disable",
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let parameters = [
        ("host", server.host.clone()),
        ("port", server.port.map(|port| port.to_string())),
        ("user", server.user.clone()),
        ("password", server.password.as_ref().map(|password| password.0.clone())),
        ("dbname", server.database.clone()),
        ("sslmode", Some(mode.to_owned())),
        ("sslrootcert", path(&tls.root)),
        ("sslcert", path(&tls.certificate)),
        ("sslkey", path(&tls.key)),
        ("options", server.options.clone()),
    ];
    let encode = |(name, value): (&str, Option<String>)| {
        Some(format!("{name}={}", utf8_percent_encode(&value?, NON_ALPHANUMERIC)))
    };
    let parameters: Vec<String> = parameters.into_iter().filter_map(encode).collect();
    format!("postgres:///?{}", parameters.join("&")).parse()
}
