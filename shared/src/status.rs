//! How indexing stands: what the indexer publishes in the store and `/status` answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a walk of the whole volume stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// None has begun.
    #[default]
    Idle,
    /// One is about to begin.
    Starting,
    /// Folders are read; no product has turned up yet.
    Scanning,
    /// Folders and metadata files are read.
    ScanningAndIngesting {
        /// Metadata files that turned up.
        found: u64,
        /// Those that were dealt with.
        ingested: u64,
    },
    /// All folders are read, and these many metadata files are left.
    IngestingRemaining(u64),
    /// The last walk ended well.
    Completed,
    /// The last walk ran out of time and kept what it had.
    TimedOut,
    /// The last walk could not be trusted and removed nothing.
    Error,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Idle => f.write_str("idle"),
            Step::Starting => f.write_str("starting"),
            Step::Scanning => f.write_str("scanning_filesystem"),
            Step::ScanningAndIngesting { found, ingested } => {
                write!(f, "scanning_and_ingesting ({found} found, {ingested} ingested)")
            }
            Step::IngestingRemaining(files) => write!(f, "ingesting_remaining ({files} files)"),
            Step::Completed => f.write_str("completed"),
            Step::TimedOut => f.write_str("timeout_partial_completion"),
            Step::Error => f.write_str("error"),
        }
    }
}

/// Counts of the walk that runs, or of the last one. Files are metadata files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the contract's")]
pub struct Progress {
    pub files_processed: u64,
    pub total_files: u64,
    pub files_added: u64,
    pub files_updated: u64,
    pub files_skipped: u64,
    pub indexing_step: Step,
}

/// Counts of metadata files that were read in a walk, by what they came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Read {
    pub added: u64,
    pub updated: u64,
    pub unchanged: u64,
}

impl Read {
    /// All of them.
    pub fn all(self) -> u64 {
        self.added + self.updated + self.unchanged
    }
}

/// The last walk of the whole volume that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Whether it ran out of time.
    pub timed_out: bool,
    /// Folders that it read.
    pub work_units: u64,
    /// Metadata files that it read.
    pub files_ingested: u64,
}

impl Indexing {
    /// What may be told of the counts to a caller who may see so many metadata files, and not all. What he may not see is
    /// not counted; what is read of others than everybody's is not either, for that is not known of each group.
    pub fn counts_for(&self, files: u64) -> Progress {
        let [added, updated, all] = [self.public.added, self.public.updated, self.public.all()].map(|n| n.min(files));
        let step = match self.progress.indexing_step {
            Step::ScanningAndIngesting { .. } => Step::ScanningAndIngesting { found: files, ingested: all },
            Step::IngestingRemaining(_) => Step::IngestingRemaining(files - all),
            step => step,
        };
        let is_over = matches!(step, Step::Completed | Step::TimedOut | Step::Error);
        Progress {
            files_processed: all,
            total_files: files,
            files_added: added,
            files_updated: updated,
            files_skipped: if is_over { files - all } else { 0 },
            indexing_step: step,
        }
    }
}

/// Who tells of changes on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchedBy {
    /// The kernel does.
    Events,
    /// Only walks find out.
    Poll,
}

/// How changes on the volume are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Who tells.
    pub mode: WatchedBy,
    /// Folders whose changes the kernel tells.
    pub folders_watched: u64,
    /// Folders whose changes only the interval walk finds.
    pub folders_polled: u64,
    /// How often everything is walked.
    pub reconcile_seconds: u64,
}

/// All that the indexer publishes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Indexing {
    /// Whether a walk of the whole volume that somebody waits for is running: the one at start, or one asked for.
    pub in_progress: bool,
    /// Its counts, or the last one's.
    pub progress: Progress,
    /// Those of them that are of what everybody may see, as far as it was read.
    #[serde(default)]
    pub public: Read,
    /// The last one that ended.
    pub last_run: LastRun,
    /// How long that took.
    pub last_duration: Option<Duration>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// When the last walk of any kind began that came to its end: whatever was on the volume then is in the index.
    #[serde(default)]
    pub complete_as_of: Option<DateTime<Utc>>,
    /// Why the volume cannot be read, where it cannot.
    pub volume_error: Option<String>,
    /// How changes are noticed; `None` before the first walk.
    pub watch: Option<Watch>,
    /// Folders that may not be listed or opened.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// Folders on which other file systems are mounted, or were when they were seen last.
    #[serde(default)]
    pub mounts: Vec<String>,
}

/// Folders that may not be listed or opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// How many there are.
    pub count: u64,
    /// The first of them by path, some or all.
    pub first: Vec<UnreadableFolder>,
}

/// A folder that may not be listed or opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableFolder {
    /// The folder, below the storage path.
    pub path: String,
    /// Why.
    pub error: String,
}

impl UnreadableFolder {
    /// Whether a viewer may be told of it: `visible` and `hidden` say whether products are known at and below it that he may
    /// see and may not, `inside` whether it is part of one that he may not. What is in it nobody knows, so it is told as
    /// files are that do not read: unless what is known there says otherwise.
    pub fn may_be_told(visible: bool, hidden: bool, inside: bool) -> bool {
        visible || !hidden && !inside
    }
}

/// How the SDP configuration database is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sdp {
    /// Whether it answers.
    pub connected: bool,
    /// Whether it tells of changes.
    pub watcher_connected: bool,
    /// Since when it does not do both, where it does not.
    pub disconnected_since: Option<DateTime<Utc>>,
    /// Why.
    pub error: Option<String>,
    /// The flows of data products in it, when they were read last.
    pub flows: u64,
    /// Entries that cannot be used.
    pub passed_over: u64,
    /// The first of them by key, and why.
    pub first_passed_over: Option<String>,
    /// When everything was read last.
    pub read_at: Option<DateTime<Utc>>,
}

/// How the table of the Data Lifecycle Manager is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dlm {
    /// Whether it can be read.
    pub accessible: bool,
    /// Why not, where it cannot.
    pub error: Option<String>,
    /// Its rows.
    pub items: u64,
    /// Those of them that are products.
    pub products: u64,
    /// Those whose metadata looks like a product's and makes none.
    pub passed_over: u64,
    /// The first of them by uid, and why.
    pub first_passed_over: Option<String>,
    /// When it was compared last.
    pub read_at: Option<DateTime<Utc>>,
}

/// How the processes that share an index stand to each other: the row that they meet in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordination {
    /// What the volume's rows are keyed by.
    pub volume_prefix: String,
    /// Who holds the lease, or held it last.
    pub indexed_by: Option<String>,
    /// Whether a walk of the whole volume that somebody waits for is running.
    pub indexing_running: bool,
    /// When the last one began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the holder was last heard of.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// When the last one ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// Metadata files that were found in it.
    pub files_indexed: u64,
    /// How often the lease changed hands.
    pub epoch: u64,
    /// Whether somebody holds the lease, and was heard of lately.
    pub indexer_alive: bool,
    /// Whether a reindex was asked for and not begun.
    pub reindex_waits: bool,
}

/// A metadata file that does not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The file, below the storage path.
    pub path: String,
    /// Why, with line and column where it is no YAML.
    pub error: String,
    /// Since when.
    #[serde(serialize_with = "as_time")]
    pub since: DateTime<Utc>,
}

/// What the error of a file begins with that does not read and may speak of an access group: of such a file nobody knows
/// who may know of it.
const GUARDED: &str = "it may name an access group, and ";

impl Failing {
    /// An error of a metadata file, of which it is known whether it may speak of an access group.
    pub fn error(error: &impl std::fmt::Display, guarded: bool) -> String {
        format!("{}{error}", if guarded { GUARDED } else { "" })
    }

    /// Whether nobody at all is to be told of this file, unless an earlier version of it says who may see it.
    pub fn is_guarded(&self) -> bool {
        self.error.starts_with(GUARDED)
    }

    /// What the errors of those begin with that [are guarded](Self::is_guarded).
    pub fn guarded_prefix() -> &'static str {
        GUARDED
    }
}

pub(crate) fn as_time<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*time))
}

/// A duration as `/status` writes it: `H:MM:SS.ffffff`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, duration.subsec_micros())
}

/// A time as `/status` writes it: RFC 3339 in UTC with its offset and microseconds.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_written_as_the_contract_says() {
        assert_eq!(duration_text(Duration::from_micros(2_698_406_910)), "0:44:58.406910");
        assert_eq!(time_text(DateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(
            Step::ScanningAndIngesting { found: 3, ingested: 1 }.to_string(),
            "scanning_and_ingesting (3 found, 1 ingested)"
        );
    }
}
