//! The making of a column: of the values of products, or of several columns.

use super::Result;
use super::bytes::{put, put_all, put_rising};
use super::column::Column;
use crate::number::Number;
use std::cmp::Ordering;
use std::collections::HashMap;

/// What stands behind each text. No text in UTF-8 holds it, so that a text which is looked for is never found across two.
pub(super) const END: u8 = 0xff;
/// The place of a product that has none.
pub(super) const GONE: u32 = u32::MAX;
/// A column is kept densely where at least one product in so many has a value.
const DENSE: usize = 4;

/// A column in the making.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    texts: Vec<u8>,
    values: Vec<Gathering>,
}

/// A value of a product.
#[derive(Debug, Clone, Copy)]
struct Gathering {
    /// Where its text ends. A builder holds far less text than this could tell of.
    end: u32,
    product: u16,
    is_number: bool,
}

impl Gathered {
    /// Adds a value of the product that was pushed as the `product`th.
    pub(super) fn push(&mut self, product: u16, text: &str, is_number: bool) {
        self.texts.extend_from_slice(text.as_bytes());
        self.values.push(Gathering { end: self.texts.len() as u32, product, is_number });
    }

    /// How many bytes a value takes whose text has so many.
    pub(super) fn cost(text: usize) -> usize {
        text + size_of::<Gathering>()
    }

    /// The column as it is kept, of products whose places `places` tells.
    pub(super) fn encode(&self, places: &[u32]) -> Vec<u8> {
        let (entries, of_values) = self.entries();
        let place = |value: &Gathering| places[usize::from(value.product)];
        encode(&entries, self.values.iter().map(place).zip(of_values).collect(), places.len())
    }

    /// The distinct values in order, and for each value which of them it is.
    fn entries(&self) -> (Vec<Entry<'_>>, Vec<u32>) {
        let mut begin = 0;
        let mut distinct: HashMap<(bool, &[u8]), u32> = HashMap::new();
        let mut entries: Vec<Entry<'_>> = Vec::new();
        let mut of_values = Vec::with_capacity(self.values.len());
        for Gathering { end, is_number, .. } in &self.values {
            let text = &self.texts[begin..*end as usize];
            begin = *end as usize;
            let entry = distinct.entry((*is_number, text)).or_insert_with(|| {
                entries.push((if *is_number { number(text) } else { Number::NONE }, text));
                entries.len() as u32 - 1
            });
            of_values.push(*entry);
        }
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_unstable_by(|a, b| in_order(&entries[*a as usize], &entries[*b as usize]));
        let mut rank = vec![0; entries.len()];
        order.iter().zip(0..).for_each(|(entry, n)| rank[*entry as usize] = n);
        of_values.iter_mut().for_each(|entry| *entry = rank[*entry as usize]);
        (order.into_iter().map(|entry| entries[entry as usize]).collect(), of_values)
    }
}

/// The number of an entry, or [`Number::NONE`], and its text.
pub(super) type Entry<'a> = (Number, &'a [u8]);

fn in_order((number, text): &Entry<'_>, (other, other_text): &Entry<'_>) -> Ordering {
    number.cmp(other).then_with(|| text.cmp(other_text))
}

/// A column as it is kept: its entries in order, and pairs of a product's place and one of its entries.
fn encode(entries: &[Entry<'_>], mut pairs: Vec<(u32, u32)>, products: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, entries.len() as u64);
    put(&mut bytes, entries.iter().filter(|(number, _)| number.is_one()).count() as u64);
    let is_same = |n: &usize| entries[*n].0.is_one() && entries[*n].0 == entries[*n - 1].0;
    let same: Vec<usize> = (1..entries.len()).filter(is_same).collect();
    put(&mut bytes, same.len() as u64);
    same.iter().for_each(|n| put(&mut bytes, *n as u64));
    entries.iter().for_each(|(_, text)| put(&mut bytes, text.len() as u64));
    for (_, text) in entries {
        bytes.extend_from_slice(text);
        bytes.push(END);
    }
    pairs.sort_unstable();
    pairs.dedup();
    put_cells(&mut bytes, &pairs, entries.len(), products);
    bytes
}

/// One column of several, and how many bytes a builder would have taken for it. Beside each column is where its products
/// are in the new one, [`GONE`] for those that are not; `None` where nobody has a value.
pub(super) fn merged(columns: &[(Column<'_>, &[u32])], products: usize) -> Result<Option<(Vec<u8>, usize)>> {
    let mut all: Vec<(Entry<'_>, usize, usize)> = Vec::new();
    for (at, (column, places)) in columns.iter().enumerate() {
        let of_somebody = column.entries_of(places)?;
        all.extend(of_somebody.ones().map(|entry| (column.entry(entry), at, entry)));
    }
    // Each column's are in order already, which a sort that is stable takes advantage of.
    all.sort_by(|(a, ..), (b, ..)| in_order(a, b));
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut ranks: Vec<Vec<u32>> = columns.iter().map(|(column, _)| vec![0; column.len()]).collect();
    for (entry, at, own) in all {
        if entries.last().is_none_or(|last| in_order(last, &entry).is_ne()) {
            entries.push(entry);
        }
        ranks[at][own] = entries.len() as u32 - 1;
    }
    let (mut pairs, mut cost) = (Vec::new(), 0);
    for ((column, places), ranks) in columns.iter().zip(&ranks) {
        column.each(|product, entry| {
            let place = places[product as usize];
            if place != GONE {
                let rank = ranks[entry as usize];
                pairs.push((place, rank));
                cost += Gathered::cost(entries[rank as usize].1.len());
            }
        })?;
    }
    Ok((!pairs.is_empty()).then(|| (encode(&entries, pairs, products), cost)))
}

/// The number that JSON writes so.
pub(super) fn number(text: &[u8]) -> Number {
    str::from_utf8(text).ok().and_then(Number::read).unwrap_or(Number::NONE)
}

/// Appends which products have which entries.
fn put_cells(bytes: &mut Vec<u8>, pairs: &[(u32, u32)], entries: usize, products: usize) {
    let single = pairs.windows(2).all(|two| two[0].0 != two[1].0);
    if single && pairs.len() * DENSE >= products {
        bytes.push(1);
        put(bytes, products as u64);
        let mut cells = vec![0; products];
        pairs.iter().for_each(|(product, entry)| cells[*product as usize] = entry + 1);
        put_all(bytes, &cells, entries as u32);
        return;
    }
    bytes.push(0);
    put(bytes, pairs.len() as u64);
    put_rising(bytes, pairs.iter().map(|(product, _)| *product));
    let of: Vec<u32> = pairs.iter().map(|(_, entry)| *entry).collect();
    put_all(bytes, &of, entries as u32);
}
