//! Segments become one, without what was superseded.
//!
//! It is done column by column: what is in order in each of them is brought into one order, and no product is read again.
//! So it takes a fraction of what making a segment of products takes, and little memory.

use super::Result;
use super::build::{Head, Pages, order};
use super::bytes::packed;
use super::gather::{self, GONE};
use super::read::{Page, Segment};
use std::collections::BTreeSet;

/// What several segments became.
#[derive(Debug, Default)]
pub struct Merged {
    /// How many products it has. Without any it is no segment, and there are no pages.
    pub products: usize,
    /// About how many bytes a [`Builder`](super::Builder) would have held of it.
    pub bytes: usize,
    /// Its pages, in the order of their keys.
    pub pages: Vec<Page>,
}

/// One segment of several that have no more than [`MAX_PRODUCTS`](super::MAX_PRODUCTS) together, without those that are
/// superseded in them.
///
/// # Errors
/// When one of them is not what a builder makes.
pub fn merge(segments: &[Segment<'_>]) -> Result<Merged> {
    let (heads, places) = heads(segments)?;
    if heads.is_empty() {
        return Ok(Merged::default());
    }
    let mut keys = BTreeSet::new();
    for segment in segments {
        keys.extend(segment.keys()?);
    }
    let (mut pages, mut bytes) = (Pages::of(&heads), heads.len() * size_of::<Head>());
    for key in keys {
        let mut columns = Vec::new();
        for (segment, places) in segments.iter().zip(&places) {
            columns.extend(segment.column(key)?.map(|column| (column, places.as_slice())));
        }
        if let Some((column, cost)) = gather::merged(&columns, heads.len())? {
            pages.push(key, packed(&column));
            bytes += cost;
        }
    }
    Ok(Merged { products: heads.len(), bytes, pages: pages.finish() })
}

/// The products of all segments that are not superseded, in their new order, and at which place in it each product of each
/// segment is.
fn heads(segments: &[Segment<'_>]) -> Result<(Vec<Head>, Vec<Vec<u32>>)> {
    let (mut heads, mut from) = (Vec::new(), Vec::new());
    // One without products need not have any pages.
    for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.products > 0) {
        let (numbers, uids, days) = (segment.numbers()?, segment.uids()?, segment.days()?);
        let access = segment.access()?.of_each(segment.products);
        for (place, access) in access.into_iter().enumerate() {
            let number = numbers.at(place);
            if segment.superseded.binary_search(&number).is_ok() {
                continue;
            }
            heads.push(Head { number, uid: uids.at(place), day: days.at(place), access });
            from.push((at, place));
        }
    }
    let order = order(&heads);
    let mut places: Vec<Vec<u32>> = segments.iter().map(|segment| vec![GONE; segment.products]).collect();
    for (product, new) in order.iter().zip(0..) {
        let (at, place) = from[*product as usize];
        places[at][place] = new;
    }
    Ok((order.iter().map(|product| heads[*product as usize]).collect(), places))
}
