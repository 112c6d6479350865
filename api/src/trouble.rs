//! A database that cannot be used: its words, which name addresses, roles and tables, are for the log, and callers are told
//! no more than that.

use shared::store::StoreError;
use shared::telemetry::Causes;
use tracing::warn;

/// What all callers are told.
pub(crate) const UNUSABLE: &str = "the database cannot be used";
/// What the log was told of it.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Causes);

impl Trouble {
    /// Tells the log why the database cannot be used, where it does not say so already.
    pub(crate) fn tell(&self, words: &str) {
        if let Some(left_out) = self.0.met(words) {
            warn!(left_out, error = %words, "{UNUSABLE}");
        }
    }
}

/// A failure of the store, as callers may be told of it.
pub(crate) enum Failure {
    /// Why it is so at the moment, in words of ours.
    Told(String),
    /// The database's words: it cannot be used at the moment.
    Unusable(String),
    /// The database's words: it never takes what it was given.
    Refused(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::NotReady(_) | StoreError::TooLong(_) | StoreError::ReadOnly => Failure::Told(error.to_string()),
            StoreError::Unavailable(words) | StoreError::Unusable(words) | StoreError::Damaged(words) => {
                Failure::Unusable(words)
            }
            StoreError::Superseded => Failure::Unusable(error.to_string()),
            StoreError::Refused(words) => Failure::Refused(words),
        }
    }
}
