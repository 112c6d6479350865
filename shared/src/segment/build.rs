//! The making of segments.

use super::bytes::{packed, put, put_all, put_rising, put_signed};
use super::gather::Gathered;
use super::read::Page;
use super::{ACCESS, BY_UID, DAYS, Doc, NUMBERS, UIDS};
use crate::filter::folded_text;
use chrono::Datelike;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many bytes of columns a page has before the next one begins. A larger column is a page of its own.
const PAGE: usize = 64 * 1024;

/// A segment in the making.
#[derive(Debug, Default)]
pub struct Builder {
    products: Vec<Head>,
    columns: BTreeMap<i32, Gathered>,
    bytes: usize,
}

/// What a segment has of a product beside its leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) uid: Uuid,
    /// In days since 0000-12-31.
    pub(super) day: i32,
    pub(super) access: i32,
}

impl Builder {
    /// One without products.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds a version of a product. More than [`MAX_PRODUCTS`](super::MAX_PRODUCTS) are left out.
    pub fn push(&mut self, doc: &Doc<'_>) {
        let Ok(product) = u16::try_from(self.products.len()) else { return };
        let Doc { number, uid, date_created, access, leaves } = *doc;
        self.products.push(Head { number, uid, day: date_created.num_days_from_ce(), access });
        self.bytes += size_of::<Head>();
        for leaf in leaves {
            let text = folded_text(&leaf.value);
            self.bytes += Gathered::cost(text.len());
            self.columns.entry(leaf.key).or_default().push(product, &text, leaf.value.is_number());
        }
    }

    /// How many products it has.
    pub fn products(&self) -> usize {
        self.products.len()
    }

    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The segment's pages, in the order of their keys.
    pub fn finish(self) -> Vec<Page> {
        let order = order(&self.products);
        let mut places = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(product, place)| places[*product as usize] = place);
        let mut pages = Pages::of(&order.iter().map(|n| self.products[*n as usize]).collect::<Vec<_>>());
        for (key, column) in self.columns {
            pages.push(key, packed(&column.encode(&places)));
        }
        pages.finish()
    }
}

/// The order of products in a segment: newest first, so that a list which nobody sorts is a segment's own order.
pub(super) fn order(products: &[Head]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..products.len() as u32).collect();
    order.sort_unstable_by_key(|n| {
        let head = &products[*n as usize];
        (Reverse(head.day), head.uid, head.number)
    });
    order
}

/// Collects columns to pages.
#[derive(Default)]
pub(super) struct Pages {
    pages: Vec<Page>,
    columns: Vec<(i32, Vec<u8>)>,
    bytes: usize,
}

impl Pages {
    /// Those that tell of products, in their order, what are no leaves. The columns of leaves follow, by key.
    pub(super) fn of(heads: &[Head]) -> Pages {
        let mut pages = Pages::default();
        for (key, column) in [
            (NUMBERS, numbers(heads)),
            (UIDS, uids(heads)),
            (BY_UID, by_uid(heads)),
            (DAYS, days(heads)),
            (ACCESS, access(heads)),
        ] {
            pages.push(key, column);
        }
        pages
    }

    pub(super) fn push(&mut self, key: i32, column: Vec<u8>) {
        if !self.columns.is_empty() && self.bytes + column.len() > PAGE {
            self.turn();
        }
        self.bytes += column.len();
        self.columns.push((key, column));
    }

    fn turn(&mut self) {
        let columns = std::mem::take(&mut self.columns);
        self.bytes = 0;
        let (Some((first, _)), Some((last, _))) = (columns.first(), columns.last()) else { return };
        let mut bytes = Vec::new();
        put(&mut bytes, columns.len() as u64);
        for (key, column) in &columns {
            put_signed(&mut bytes, i64::from(*key));
            put(&mut bytes, column.len() as u64);
        }
        columns.iter().for_each(|(_, column)| bytes.extend_from_slice(column));
        self.pages.push(Page { first: *first, last: *last, bytes });
    }

    pub(super) fn finish(mut self) -> Vec<Page> {
        self.turn();
        self.pages
    }
}

/// The least number, and how much more each is. As they are, so that one of them can be read without the others.
fn numbers(heads: &[Head]) -> Vec<u8> {
    let least = heads.iter().map(|head| head.number).min().unwrap_or_default();
    let most = heads.iter().map(|head| head.number - least).max().unwrap_or_default();
    let width = if u32::try_from(most).is_ok() { 4 } else { 8 };
    let mut bytes = least.to_le_bytes().to_vec();
    bytes.push(width);
    heads.iter().for_each(|head| bytes.extend_from_slice(&(head.number - least).to_le_bytes()[..usize::from(width)]));
    bytes
}

/// As they are, so that one of them can be read without the others.
fn uids(heads: &[Head]) -> Vec<u8> {
    heads.iter().flat_map(|head| head.uid.into_bytes()).collect()
}

/// At which place each would be by its uid.
fn by_uid(heads: &[Head]) -> Vec<u8> {
    let mut order: Vec<u32> = (0..heads.len() as u32).collect();
    order.sort_unstable_by_key(|n| heads[*n as usize].uid);
    let mut ranks = vec![0; heads.len()];
    order.iter().zip(0..).for_each(|(product, rank)| ranks[*product as usize] = rank);
    let mut bytes = Vec::new();
    put_all(&mut bytes, &ranks, heads.len() as u32);
    packed(&bytes)
}

/// How many products in a row have each day.
fn days(heads: &[Head]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in heads.chunk_by(|a, b| a.day == b.day) {
        put_signed(&mut bytes, i64::from(run[0].day));
        put(&mut bytes, run.len() as u64);
    }
    packed(&bytes)
}

/// The rules there are, the one of them that most products have, and the others with theirs: a search by somebody who may see
/// nearly all reads little.
fn access(heads: &[Head]) -> Vec<u8> {
    let mut rules: Vec<i32> = heads.iter().map(|head| head.access).collect();
    rules.sort_unstable();
    let runs: Vec<&[i32]> = rules.chunk_by(|a, b| a == b).collect();
    let most = (0..runs.len()).max_by_key(|n| runs[*n].len()).unwrap_or_default();
    let rules: Vec<i32> = runs.iter().map(|run| run[0]).collect();
    let rule = |head: &Head| rules.binary_search(&head.access).unwrap_or_default();
    let others: Vec<(u32, u32)> = (0..)
        .zip(heads)
        .map(|(place, head)| (place, rule(head) as u32))
        .filter(|other| other.1 as usize != most)
        .collect();
    let mut bytes = Vec::new();
    put(&mut bytes, rules.len() as u64);
    put(&mut bytes, most as u64);
    rules.iter().for_each(|rule| put_signed(&mut bytes, i64::from(*rule)));
    put(&mut bytes, others.len() as u64);
    put_rising(&mut bytes, others.iter().map(|(place, _)| *place));
    put_all(&mut bytes, &others.iter().map(|(_, rule)| *rule).collect::<Vec<_>>(), rules.len() as u32);
    packed(&bytes)
}
