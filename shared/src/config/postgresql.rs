//! Which PostgreSQL, and how it is used.

use super::{BadVariable, Variables};
use std::time::Duration;

/// Where PostgreSQL is and how it is used.
#[derive(Debug, Clone)]
pub struct PostgresqlSettings {
    /// Which server and database.
    pub server: Server,
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
}

/// A PostgreSQL server and a database on it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Server {
    Url(Secret),
    Parts { host: String, port: u16, user: String, password: Secret, database: String },
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
        let name = |name| variables.value(name, NAME, identifier);
        Ok(Some(PostgresqlSettings {
            server,
            schema: name("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA")?,
            // The indexer's own work takes up to three at once.
            connections: variables
                .number("DPD_POSTGRESQL_CONNECTIONS", 3..=1000)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX))?,
            timeout: variables.number("DPD_POSTGRESQL_TIMEOUT_SECONDS", 1..=3600).map(Duration::from_secs)?,
            search_cache: variables.number("DPD_SEARCH_CACHE_MIB", 1..=1_000_000).map(|mebibytes| mebibytes << 20)?,
            state_name: name("INDEXING_STATE_TABLE_NAME")?,
        }))
    }
}

impl Server {
    fn read(variables: &Variables) -> Result<Option<Server>, BadVariable> {
        let url = variables.text("DATABASE_URL")?;
        if !url.is_empty() {
            if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
                return Err(BadVariable {
                    name: "DATABASE_URL",
                    value: format!("{:?}", Secret(url)),
                    expected: "postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned(),
                });
            }
            return Ok(Some(Server::Url(Secret(url))));
        }
        let host = variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_HOST")?;
        if host.is_empty() {
            return Ok(None);
        }
        let port = variables.number("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", 1..=65535)?;
        Ok(Some(Server::Parts {
            host,
            port: u16::try_from(port).unwrap_or(u16::MAX),
            user: variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_USER")?,
            password: Secret(variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD")?),
            database: variables.text("SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME")?,
        }))
    }
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
        assert!(matches!(&settings.server, Server::Url(Secret(url)) if url.ends_with("@db/dpd")));
        assert!(!format!("{settings:?}").contains("geheim"), "{settings:?}");
        let error = PostgresqlSettings::read(&[("DATABASE_URL", "mysql://me:geheim@db")].into()).expect_err("a URL");
        assert!(!error.to_string().contains("geheim") && error.to_string().contains("postgres://"), "{error}");
        assert!(PostgresqlSettings::read(&Variables::default()).expect("settings").is_none());
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
