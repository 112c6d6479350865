//! Segments: what searches read instead of products. `docs/search.md` says why it is built so.
//!
//! A segment holds some ten thousand versions of products **by columns**: one for each key, with the distinct values in
//! order and, for each product, which of them it has. It is made once, by a [`Builder`], kept as a few [`Page`]s of
//! compressed columns by whichever store, and never changed: a product that becomes another gets a new number in a newer
//! segment, and its old number is superseded. Where there come to be many, several become one ([`merge()`], [`Tiers`]). So a
//! search is the same code for every store ([`Search`]), reads no more than the columns it speaks of, and counts exactly.
//!
//! All of this is pure: bytes in, bytes out. Where pages are kept, and which versions are superseded, is the stores'
//! business.

mod build;
mod bytes;
mod column;
mod gather;
mod matches;
mod merge;
mod order;
mod question;
mod read;
mod search;
#[cfg(test)]
mod tests;
mod tiers;

pub use build::Builder;
pub use matches::used;
pub use merge::{Merged, merge};
pub use question::{Condition, Keys, Question, Resolve, SortKeys};
pub use read::{Page, Segment};
pub use search::{Found, Pass, Sampler, Search, Start};
pub use tiers::{Size, Tiers};

use crate::row::Leaf;
use chrono::NaiveDate;
use uuid::Uuid;

/// The version of the encoding, and of what leaves are: segments become one without that products are read again. Those of
/// another version cannot be read, and are made anew.
pub const FORMAT: i32 = 3;
/// The most products of a segment.
pub const MAX_PRODUCTS: usize = 65_536;
/// How many bytes a [`Builder`] may hold before the segment is to be finished. While it is, a process takes about twice that.
pub const MAX_BYTES: usize = 64 << 20;

/// A version of a product, as a segment takes it.
#[derive(Debug, Clone, Copy)]
pub struct Doc<'a> {
    /// Which version: no two have the same, and later ones have higher numbers.
    pub number: u64,
    /// Which product.
    pub uid: Uuid,
    /// What orders products where nothing else is asked, newest first.
    pub date_created: NaiveDate,
    /// The number of its access rule.
    pub access: i32,
    /// Its leaves as [`row::leaves`](crate::row::leaves) has them, under the numbers of their keys, which are not
    /// negative.
    pub leaves: &'a [Leaf<i32>],
}

/// The keys of what is no leaf: numbers of versions, uids, the products' places by uid, days, and access rules.
pub(crate) const NUMBERS: i32 = -5;
pub(crate) const UIDS: i32 = -4;
pub(crate) const BY_UID: i32 = -3;
pub(crate) const DAYS: i32 = -2;
pub(crate) const ACCESS: i32 = -1;

/// Why a search in segments came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// A page is not what a [`Builder`] makes.
    #[error("a page of a segment is damaged")]
    Damaged,
    /// Nobody waits for the answer any more.
    #[error("the search was given up")]
    GivenUp,
}

/// What the reading of segments answers.
pub type Result<T> = std::result::Result<T, Failed>;
