//! The seam between those who write the index, those who answer from it, and where it is kept.
//!
//! [`Store`] is that seam; [`memory`] keeps the index in the process. What an indexer and an API must know of each other
//! (how indexing stands, that a reindex is wanted) goes through here as well, so that they can live apart.

pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;

use crate::access::{Ingested, Viewer};
use crate::annotation::{Annotation, Draft, Part, Revision};
use crate::clock;
use crate::column::ColumnKeys;
use crate::flow::{Flow, FlowId};
use crate::folder::Folder;
use crate::product::Product;
use crate::query::Query;
use crate::status::{Coordination, Dlm, Failing, Indexing, Sdp};
use crate::volume::{Found, Stamp};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot at the moment; the same may go through later. The words may be a database's, and name addresses, roles and
    /// tables: they are for logs.
    #[error("{0}")]
    Unavailable(String),
    /// The same, in words that anybody may read.
    #[error("{0}")]
    NotReady(String),
    /// It does not write at the moment. What is read is read.
    #[error(
        "PostgreSQL is read-only at the moment (a standby, or default_transaction_read_only), so nothing is written"
    )]
    ReadOnly,
    /// It never can, as it is set up.
    #[error("{0}")]
    Unusable(String),
    /// What it has of something that this is about is damaged, or cannot be added to. What is about something else may go
    /// through.
    #[error("{0}")]
    Damaged(String),
    /// It did not come to an end in the time that it may take. Less of it may go through.
    #[error("{0}")]
    TooLong(String),
    /// It never will: what it was given does not fit.
    #[error("{0}")]
    Refused(String),
    /// Another indexer took over; this one must not write any more.
    #[error("another indexer took over")]
    Superseded,
}

/// How many of the products below a folder decide whether a viewer may be told of it: the first.
const LOOKED_AT: usize = 1000;

/// What a store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// How long it is remembered at the most that a product was removed.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The folders below one in which products are, by whether a viewer may see these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// Those whose products the viewer may see.
    pub visible: Vec<Folder>,
    /// Those whose products he may not see, and those in which there is none any more, but was one lately that he might not
    /// see.
    pub hidden: Vec<Folder>,
}

/// A product in an answer.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The product's number in this store, the same from answer to answer while the product is there.
    pub id: u64,
    /// The product.
    pub product: Arc<Product>,
    /// Its bytes on disk, where known.
    pub size: Option<u64>,
}

impl Hit {
    /// What orders the products of one execution block: those nearest to the storage path first, those without a folder
    /// last.
    pub fn nearness(&self) -> (bool, Option<usize>, Option<Folder>) {
        let folder = self.product.folder.clone();
        (folder.is_none(), folder.as_ref().map(Folder::depth), folder)
    }
}

/// The answer to a search.
#[derive(Debug, Clone, Default)]
pub struct Hits {
    /// How many match, whatever part is answered.
    pub total: usize,
    /// The part that was asked for, in order.
    pub hits: Vec<Hit>,
}

/// What became of one product that somebody asked for.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Lookup {
    Found(Hit),
    Forbidden,
    Unknown,
}

/// A change to what is known of the volume, or of the sources beside it. Each is idempotent.
#[derive(Debug)]
pub enum Change {
    /// A metadata file was read.
    Found(Found),
    /// A folder has no metadata file any more, or never had.
    Gone(Folder),
    /// A metadata file that was [found](Change::Found) in this version is not there any more. What was found since stays.
    Withdrawn {
        /// Its folder.
        folder: Folder,
        /// The version.
        stamp: Stamp,
    },
    /// A metadata file cannot be read. The last good version stays.
    Failing {
        /// Its folder.
        folder: Folder,
        /// The file itself, below the storage path.
        path: String,
        /// Why.
        error: String,
        /// The version that was read, where it came to that.
        stamp: Option<Stamp>,
    },
    /// A folder was measured.
    Measured {
        /// The product's folder.
        folder: Folder,
        /// Its bytes on disk; `None` where that could not be found out.
        bytes: Option<u64>,
    },
    /// A flow appeared, or became another.
    Flow(Flow),
    /// A flow is gone.
    FlowGone(FlowId),
    /// A data item of the Data Lifecycle Manager was read.
    Item(Item),
    /// A data item is gone, or carries no metadata any more.
    ItemGone(Uuid),
}

/// A data item of the Data Lifecycle Manager, read.
#[derive(Debug, Clone)]
pub struct Item {
    /// The manager's own uid.
    pub uid: Uuid,
    /// The version that was read, for the next comparison to tell whether it is another.
    pub version: String,
    /// The product that it is, or why it is none.
    pub product: std::result::Result<Arc<Product>, String>,
    /// The product's bytes, where known.
    pub size: Option<u64>,
}

/// What a change is about. Changes to different subjects may be applied in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject<'a> {
    Folder(Option<&'a Folder>),
    Flow(&'a FlowId),
    Item(Uuid),
}

impl Change {
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Change::Found(found) => Subject::Folder(found.product.folder.as_ref()),
            Change::Gone(folder)
            | Change::Withdrawn { folder, .. }
            | Change::Failing { folder, .. }
            | Change::Measured { folder, .. } => Subject::Folder(Some(folder)),
            Change::Flow(Flow { id, .. }) | Change::FlowGone(id) => Subject::Flow(id),
            Change::Item(Item { uid, .. }) | Change::ItemGone(uid) => Subject::Item(*uid),
        }
    }

    /// The folder that it is about, where it is about one.
    pub fn folder(&self) -> Option<&Folder> {
        match self.subject() {
            Subject::Folder(folder) => folder,
            Subject::Flow(_) | Subject::Item(_) => None,
        }
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A product that was not there.
    Added,
    /// A product that is another now.
    Updated,
    /// A product that is gone.
    Removed,
    /// A search answers as before.
    Unchanged,
}

/// The metadata files known of, good and failing, and their versions (`None`: look again in any case).
pub type Known = HashMap<Folder, Option<Stamp>>;

/// What a store says of itself.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Whether the viewer may see every product there is.
    pub sees_all: bool,
    /// Products that the viewer may see.
    pub products: u64,
    /// Those of them that are on the volume.
    pub products_on_volume: u64,
    /// When a search by the viewer could last begin to answer differently.
    pub updated: DateTime<Utc>,
    /// What the indexer published.
    pub indexing: Indexing,
    /// How the processes that share the store stand to each other; `None` where nobody can share it.
    pub coordination: Option<Coordination>,
    /// How the SDP configuration database is followed; `None` where it is not.
    pub sdp: Option<Sdp>,
    /// How the table of the Data Lifecycle Manager is followed; `None` where it is not.
    pub dlm: Option<Dlm>,
    /// Metadata files that do not read of which the viewer may be told: those whose last good version he may see. Of others
    /// nobody knows who may see them.
    pub failing: u64,
    /// The first of them by path.
    pub first_failing: Vec<Failing>,
}

/// Where a store keeps the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the process.
    Memory,
    /// In a database that other processes share.
    Postgresql,
}

/// What a request for a reindex came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reindex {
    Accepted,
    InProgress,
    NoIndexer,
}

/// A key that session cookies are sealed with.
pub type SessionKey = [u8; 32];

/// Where the index is kept. Answers show what the viewer may see and nothing else: the access rule is applied before
/// any limit, count or order.
#[async_trait]
pub trait Store: Send + Sync {
    /// Executes a search.
    async fn search(&self, query: Query, viewer: &Viewer) -> Result<Hits>;
    /// One product by uid.
    async fn product(&self, uid: Uuid, viewer: &Viewer) -> Result<Lookup>;
    /// The products of an execution block, those nearest to the storage path first.
    async fn products_of(&self, execution_block: &str, viewer: &Viewer) -> Result<Vec<Hit>>;
    /// The folders of products below this one. Those of products that were removed no longer ago than `lately` count, for a
    /// day at the most.
    async fn below(&self, folder: &Folder, viewer: &Viewer, lately: Duration) -> Result<Below>;
    /// The folders in which there is no product any more, but was no longer ago than `lately`, for a day at the most, one that
    /// not everybody may see.
    async fn removed(&self, lately: Duration) -> Result<Vec<Folder>>;
    /// Those of some folders that hold products.
    async fn products_at(&self, folders: &[Folder]) -> Result<Vec<Folder>>;
    /// Whether the viewer may be told of what is in a folder: not where a product at it or around it is hidden from him.
    /// `None` where none is hidden, and none known at it.
    async fn may_know(&self, folder: &Folder, viewer: &Viewer) -> Result<Option<bool>>;
    /// The keys that rows have.
    async fn keys(&self, viewer: &Viewer) -> Result<ColumnKeys>;
    /// As of when what is read from now on is, at the least; `None` where that is not known.
    async fn as_of(&self) -> Option<DateTime<Utc>> {
        Some(clock::now())
    }
    /// How the store and indexing stand, with at most `failing` failing files.
    async fn summary(&self, viewer: &Viewer, failing: usize) -> Result<Summary>;

    /// Applies changes in their order, all or none, and tells what each came to.
    async fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>>;
    /// Keeps a product that nothing on the volume stands behind, in place of an earlier one of its uid, where
    /// [`Viewer::brings`] lets who brings it. That is decided under the same lock as it is written.
    async fn ingest(&self, product: Product, viewer: &Viewer) -> Result<Ingested>;
    /// Tells what is known at and below a folder, one file after the other. Of several of one folder the last counts. What
    /// else the calling task does goes on meanwhile.
    async fn each_known(&self, scope: &Folder, tell: &mut (dyn FnMut(Folder, Option<Stamp>) + Send)) -> Result<()>;
    /// The folders whose metadata files did not read.
    async fn failing(&self) -> Result<Vec<Folder>>;
    /// All that is [known](Self::each_known).
    async fn known(&self, scope: &Folder) -> Result<Known> {
        let mut known = Known::new();
        let mut tell = |folder, stamp| {
            known.insert(folder, stamp);
        };
        self.each_known(scope, &mut tell).await?;
        Ok(known)
    }
    /// The folders of products that were not measured since they were written, or since a product came or went in them.
    async fn unmeasured(&self) -> Result<Vec<Folder>>;
    /// The first of these.
    async fn first_unmeasured(&self, limit: usize) -> Result<Vec<Folder>> {
        let mut folders = self.unmeasured().await?;
        folders.truncate(limit);
        Ok(folders)
    }

    /// The flows that are known.
    async fn flows(&self) -> Result<BTreeMap<FlowId, Flow>>;

    /// Tells how indexing stands.
    async fn publish(&self, indexing: Indexing) -> Result<()>;
    /// Tells how the SDP configuration database is followed.
    async fn publish_sdp(&self, sdp: Option<Sdp>) -> Result<()>;
    /// Tells how the table of the Data Lifecycle Manager is followed.
    async fn publish_dlm(&self, dlm: Option<Dlm>) -> Result<()>;
    /// Asks the indexer for a walk of the whole volume.
    async fn request_reindex(&self) -> Result<Reindex>;
    /// Waits until one is asked for. It stays asked for until the indexer publishes that one is in progress.
    async fn reindex_requested(&self);

    /// The key that all who answer from this store seal session cookies with; `made` becomes it where there is none yet.
    async fn session_key(&self, made: SessionKey) -> Result<SessionKey>;

    /// Which kind of store it is.
    fn kind(&self) -> Kind;

    /// Why it cannot be asked at the moment, where that is known before an answer comes.
    fn trouble(&self) -> Option<String> {
        None
    }
    /// Where annotations are kept; `None` where they are not.
    fn annotations(&self) -> Option<&dyn Annotations>;
}

/// How many annotations one author may write of one product.
pub const ANNOTATIONS: usize = 1000;

/// Where annotations are kept.
#[async_trait]
pub trait Annotations: Send + Sync {
    /// Those of a product, oldest first, from the one on that follows on `after`: as many as do not take much memory.
    async fn list(&self, product: Uuid, after: Option<&Annotation>) -> Result<Part>;
    /// Adds one; false where its author has written as many of the product as [`ANNOTATIONS`].
    async fn create(&self, draft: &Draft) -> Result<bool>;
    /// The product that one is of; `None` where there is no such annotation.
    async fn product_of(&self, id: i64) -> Result<Option<Uuid>>;
    /// Writes one anew.
    async fn update(&self, id: i64, draft: &Draft) -> Result<Revision>;
}
