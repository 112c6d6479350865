//! What is logged, and how.

use super::{BadVariable, Variables};
use tracing_subscriber::EnvFilter;

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// How much is logged, and how.
#[derive(Debug)]
pub struct Logging {
    filter: String,
    format: LogFormat,
}

impl Logging {
    /// Reads `RUST_LOG`, `API_VERBOSE` and `DPD_LOG_FORMAT`.
    ///
    /// # Errors
    /// The one that cannot be used.
    pub fn read(variables: &Variables) -> Result<Logging, BadVariable> {
        let verbose = variables.boolean("API_VERBOSE")?;
        let filter = variables.value("RUST_LOG", "a log filter, such as info,indexer=debug", |text| {
            EnvFilter::builder().parse(text).is_ok().then(|| text.to_owned())
        })?;
        let format = variables.value("DPD_LOG_FORMAT", "text or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        })?;
        let default = if verbose { "info,shared=debug,indexer=debug,api=debug,dpd=debug" } else { "info" };
        Ok(Logging { filter: if filter.is_empty() { default.to_owned() } else { filter }, format })
    }

    pub(crate) fn filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.filter)
    }

    pub(crate) fn format(&self) -> LogFormat {
        self.format
    }
}
