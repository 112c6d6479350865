//! The sources beside the volume: the SDP configuration database, and the Data Lifecycle Manager's table.

use super::{BadVariable, Secret, Variables, postgresql};
use std::path::PathBuf;
use std::time::Duration;

/// Where the SDP configuration database is.
#[derive(Debug, Clone)]
pub struct SdpSettings {
    /// `http` or `https`, host and port.
    pub endpoint: String,
    /// The certificates of authorities that are trusted, as a PEM file; the system's where there is none.
    pub certificate: Option<PathBuf>,
    /// Name and password.
    pub user: Option<(String, Secret)>,
    /// What all keys begin with.
    pub prefix: String,
    /// The longest pause between attempts to connect.
    pub longest_pause: Duration,
}

/// Where the table of the Data Lifecycle Manager is, in the same database as ours.
#[derive(Debug, Clone)]
pub struct DlmSettings {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// How often it is looked whether it changed.
    pub look: Duration,
}

impl SdpSettings {
    /// Reads them; `None` where no configuration database is configured.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables) -> Result<Option<SdpSettings>, BadVariable> {
        let host = variables.value("SDP_CONFIG_HOST", "a host's name or address", |text| {
            (!text.contains(['/', ' ', '@'])).then(|| text.to_owned())
        })?;
        let protocol = variables.value("SDP_CONFIG_PROTOCOL", "http or https", |text| {
            ["http", "https"].contains(&text).then(|| text.to_owned())
        })?;
        let port = variables.port("SDP_CONFIG_PORT", !host.is_empty())?;
        let longest_pause = variables.seconds("SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS", 1..=3600)?;
        let certificate = variables.text("SDP_CONFIG_CERT")?;
        let user = variables.text("SDP_CONFIG_USERNAME")?;
        let password = Secret(variables.text("SDP_CONFIG_PASSWORD")?);
        let prefix = variables.text("SDP_CONFIG_PATH")?;
        if host.is_empty() {
            return Ok(None);
        }
        // An IPv6 address stands in brackets.
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        Ok(Some(SdpSettings {
            endpoint: format!("{protocol}://{host}:{port}"),
            certificate: (!certificate.is_empty()).then(|| certificate.into()),
            user: (!user.is_empty()).then_some((user, password)),
            prefix: prefix.trim_end_matches('/').to_owned(),
            longest_pause,
        }))
    }
}

impl DlmSettings {
    /// Reads them; `None` where the interface is not enabled.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables) -> Result<Option<DlmSettings>, BadVariable> {
        let enabled = variables.boolean("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED")?;
        let name = |name| variables.value(name, postgresql::NAME, postgresql::identifier);
        let schema = name("SKA_DATAPRODUCT_API_POSTGRESQL_DLM_SCHEMA")?;
        let table = name("SKA_DATAPRODUCT_API_POSTGRESQL_DLM_METADATA_TABLE_NAME")?;
        let look = variables.seconds("DPD_DLM_LOOK_SECONDS", 1..=30)?;
        Ok(enabled.then_some(DlmSettings { schema, table, look }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_followed_unless_it_is_said_so() {
        assert!(SdpSettings::read(&Variables::default()).expect("settings").is_none());
        assert!(DlmSettings::read(&Variables::default()).expect("settings").is_none());
        let off = [("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "false")];
        assert!(DlmSettings::read(&off.into()).expect("settings").is_none());
    }

    #[test]
    fn where_they_are() {
        let sdp = |pairs: &[(&str, &str)]| SdpSettings::read(&pairs.iter().copied().collect());
        let settings = sdp(&[("SDP_CONFIG_HOST", "etcd")]).expect("settings").expect("a database");
        assert_eq!(settings.endpoint, "http://etcd:2379");
        assert!(settings.user.is_none() && settings.prefix.is_empty());
        let settings = sdp(&[
            ("SDP_CONFIG_HOST", "::1"),
            ("SDP_CONFIG_PROTOCOL", "https"),
            ("SDP_CONFIG_PORT", "1234"),
            ("SDP_CONFIG_PATH", "/sdp/"),
            ("SDP_CONFIG_USERNAME", "me"),
            ("SDP_CONFIG_PASSWORD", "geheim"),
        ]);
        let settings = settings.expect("settings").expect("a database");
        assert_eq!((settings.endpoint.as_str(), settings.prefix.as_str()), ("https://[::1]:1234", "/sdp"));
        assert!(!format!("{settings:?}").contains("geheim"));
        for bad in [
            ("SDP_CONFIG_HOST", "http://etcd"),
            ("SDP_CONFIG_PORT", "0"),
            ("SDP_CONFIG_PROTOCOL", "grpc"),
            ("SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS", "-1"),
        ] {
            let error = sdp(&[bad]).expect_err("a mistake").to_string();
            assert!(error.contains(bad.0) && error.contains(bad.1), "{error}");
        }
        let dlm = DlmSettings::read(&[("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "True")].into());
        let dlm = dlm.expect("settings").expect("enabled");
        assert_eq!((dlm.schema.as_str(), dlm.table.as_str()), ("dlm", "data_item"));
    }
}
