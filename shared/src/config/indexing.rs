//! How indexing goes about it.

use super::{BadVariable, DlmSettings, SdpSettings, Variables};
use std::time::Duration;

/// How changes on the volume are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WatchMode {
    Events,
    Notify,
    Poll,
    Auto,
}

/// How indexing goes about it.
#[derive(Debug, Clone)]
pub struct IndexingSettings {
    /// Concurrent readers.
    pub workers: usize,
    /// Most changes in one write to the store.
    pub batch: usize,
    /// How long a walk may take.
    pub timeout: Duration,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// How often the volume is walked.
    pub reconcile: Duration,
    /// How often such a walk leaves nothing out.
    pub full_walk: Duration,
    /// How long ago a folder must have been changed for its times to be believed. Clocks of other machines may be wrong by
    /// as much. It is no variable, for nobody should set it.
    pub doubt: Duration,
    /// The extended attributes that tell of all that is below a folder, the time of the last change first.
    pub tree_attributes: Vec<String>,
    /// How long a silent indexer keeps its lease.
    pub term: Duration,
    /// The SDP configuration database, where it is followed.
    pub sdp: Option<SdpSettings>,
    /// The table of the Data Lifecycle Manager, where it is followed.
    pub dlm: Option<DlmSettings>,
}

impl IndexingSettings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that cannot be used.
    pub fn read(variables: &Variables) -> Result<IndexingSettings, BadVariable> {
        let seconds = |name| variables.seconds(name, 1..=31_536_000);
        Ok(IndexingSettings {
            workers: variables.count("INDEXING_PARALLEL_WORKERS", 1..=1024)?,
            batch: variables.count("INDEXING_BATCH_SIZE", 1..=10_000)?,
            timeout: seconds("INDEXING_TIMEOUT_SECONDS")?,
            reconcile: seconds("DPD_RECONCILE_SECONDS")?,
            full_walk: seconds("DPD_FULL_WALK_SECONDS")?,
            doubt: Duration::from_secs(60),
            tree_attributes: variables.value("DPD_TREE_ATTRIBUTES", "names of attributes with commas", |text| {
                let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
                names.iter().all(|name| !name.is_empty() && !name.contains('\0')).then_some(names)
            })?,
            // Renewals need some room within the term.
            term: variables.seconds("INDEXING_HEARTBEAT_STALE_SECONDS", 2..=86_400)?,
            watch: variables.value("DPD_WATCH", "events, notify, poll or auto", |text| match text {
                "events" => Some(WatchMode::Events),
                "notify" => Some(WatchMode::Notify),
                "poll" => Some(WatchMode::Poll),
                "auto" => Some(WatchMode::Auto),
                _ => None,
            })?,
            sdp: SdpSettings::read(variables)?,
            dlm: DlmSettings::read(variables)?,
        })
    }
}
