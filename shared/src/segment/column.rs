//! A column: the distinct values that the products of a segment have under one key, in order, and who has which.

use super::bytes::{Numbers, Reader, Rising};
use super::gather::{Entry, GONE, number};
use super::{Failed, Result};
use crate::date;
use crate::filter::{Comparison, Test, Text};
use crate::number::Number;
use crate::query::SortValue;
use fixedbitset::FixedBitSet;
use memchr::memmem;
use std::borrow::Cow;
use std::ops::Range;

/// A column, decoded as far as what is asked of it needs.
#[derive(Debug)]
pub(super) struct Column<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where in it the texts of the entries are, folded, numbers as JSON writes them, [`END`](super::gather::END) behind each.
    texts: Range<usize>,
    /// Where each text ends, from where they begin.
    ends: Vec<u32>,
    /// How many entries are numbers: these come first, by value.
    numbers: usize,
    /// The entries that are the same number as the one before, written otherwise (`4` and `4.0`).
    same: Vec<u32>,
    cells: Cells,
}

/// Which entries products have, by their places.
#[derive(Debug)]
enum Cells {
    /// For each of so many products the number of its only entry, counted from 1, 0 for none: from this byte on.
    Dense { products: usize, from: usize },
    /// So many pairs of a product and an entry, in order: the products from this byte on, the entries from that.
    Sparse { pairs: usize, products: usize, entries: usize },
}

/// Which entries of a column pass a test.
pub(super) enum Passing {
    /// Those with these numbers.
    Within(Range<u32>),
    /// Each as this says.
    Each(Vec<bool>),
}

impl Column<'_> {
    /// Reads what [`Gathered::encode`](super::gather::Gathered::encode) wrote.
    pub(super) fn decode(bytes: Cow<'_, [u8]>) -> Result<Column<'_>> {
        let mut reader = Reader(&bytes);
        let (count, numbers, same) = (reader.count()?, reader.count()?, reader.count()?);
        if numbers > count {
            return Err(Failed::Damaged);
        }
        let same = (0..same).map(|_| reader.small()).collect::<Result<_>>()?;
        let mut ends = Vec::with_capacity(count.min(bytes.len()));
        let mut end = 0u32;
        for n in 0..count {
            let text = reader.small()?;
            end = end.checked_add(text + u32::from(n > 0)).ok_or(Failed::Damaged)?;
            ends.push(end);
        }
        let begin = bytes.len() - reader.0.len();
        let texts = begin..begin + reader.take(if count == 0 { 0 } else { end as usize + 1 })?.len();
        let cells = match reader.take(1)?[0] {
            1 => {
                let products = reader.count()?;
                let from = bytes.len() - reader.0.len();
                reader.all(products)?;
                Cells::Dense { products, from }
            }
            _ => {
                let pairs = reader.count()?;
                let products = bytes.len() - reader.0.len();
                reader.pass(pairs)?;
                let entries = bytes.len() - reader.0.len();
                reader.all(pairs)?;
                Cells::Sparse { pairs, products, entries }
            }
        };
        Ok(Column { texts, ends, numbers, same, cells, bytes })
    }

    /// The texts of all entries.
    fn texts(&self) -> &[u8] {
        &self.bytes[self.texts.clone()]
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn begin(&self, entry: usize) -> usize {
        entry.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    fn bytes(&self, entry: usize) -> &[u8] {
        &self.texts()[self.begin(entry)..self.ends[entry] as usize]
    }

    /// The text of an entry, folded.
    pub(super) fn text(&self, entry: usize) -> &str {
        str::from_utf8(self.bytes(entry)).unwrap_or_default()
    }

    /// The number that an entry is, or [`Number::NONE`].
    fn number(&self, entry: usize) -> Number {
        if entry < self.numbers { number(self.bytes(entry)) } else { Number::NONE }
    }

    /// An entry as it is ordered by.
    pub(super) fn entry(&self, entry: usize) -> Entry<'_> {
        (self.number(entry), self.bytes(entry))
    }

    /// The entries of products that have a place.
    pub(super) fn entries_of(&self, places: &[u32]) -> Result<FixedBitSet> {
        let mut of_somebody = FixedBitSet::with_capacity(self.len());
        let mut damaged = false;
        self.each(|product, entry| match places.get(product as usize) {
            Some(place) if (entry as usize) < self.len() => {
                if *place != GONE {
                    of_somebody.insert(entry as usize);
                }
            }
            _ => damaged = true,
        })?;
        if damaged { Err(Failed::Damaged) } else { Ok(of_somebody) }
    }

    /// What products that have the entry are ordered by.
    pub(super) fn value(&self, entry: usize) -> SortValue {
        match self.number(entry) {
            number if number.is_one() => SortValue::Number(number),
            _ => SortValue::Text(self.text(entry).to_owned()),
        }
    }

    /// The first of the entries that are the same number as this one.
    pub(super) fn rank(&self, entry: u32) -> u32 {
        if self.same.is_empty() {
            return entry;
        }
        let mut first = entry;
        while self.same.binary_search(&first).is_ok() {
            first -= 1;
        }
        first
    }

    /// Calls for each product and each of its entries, in order.
    pub(super) fn each(&self, mut each: impl FnMut(u32, u32)) -> Result<()> {
        match &self.cells {
            Cells::Dense { products, from } => {
                let mut product = 0;
                self.all_from(*from, *products).each(|cell| {
                    if let Some(entry) = cell.checked_sub(1) {
                        each(product, entry);
                    }
                    product += 1;
                });
                Ok(())
            }
            Cells::Sparse { pairs, products, entries } => {
                let (mut of, mut sound) = (Rising::new(&self.bytes[*products..]), true);
                self.all_from(*entries, *pairs).each(|entry| match of.next() {
                    Some(product) => each(product, entry),
                    None => sound = false,
                });
                if sound { Ok(()) } else { Err(Failed::Damaged) }
            }
        }
    }

    /// So many numbers from a byte on.
    fn all_from(&self, from: usize, count: usize) -> Numbers<'_> {
        // They were read before.
        Reader(&self.bytes[from..]).all(count).unwrap_or(Numbers::One(&[]))
    }

    /// Adds the products that have an entry which passes.
    pub(super) fn add(&self, passing: &Passing, products: &mut FixedBitSet) -> Result<()> {
        match passing {
            Passing::Within(range) if range.is_empty() => Ok(()),
            Passing::Within(range) => {
                let (from, width) = (range.start, range.end - range.start);
                self.add_those(|entry| entry.wrapping_sub(from) < width, products)
            }
            Passing::Each(each) if !each.contains(&true) => Ok(()),
            Passing::Each(each) => self.add_those(|entry| each.get(entry as usize) == Some(&true), products),
        }
    }

    fn add_those(&self, passes: impl Fn(u32) -> bool, products: &mut FixedBitSet) -> Result<()> {
        match &self.cells {
            // Without an entry it is the last number there is, which no entry has.
            Cells::Dense { products: count, from } => {
                self.all_from(*from, *count).add(|cell| passes(cell.wrapping_sub(1)), products);
                Ok(())
            }
            Cells::Sparse { .. } => {
                let most = products.len();
                self.each(|product, entry| {
                    if passes(entry) && (product as usize) < most {
                        products.insert(product as usize);
                    }
                })
            }
        }
    }

    /// The entries that pass a test.
    pub(super) fn passing(&self, test: &Test) -> Passing {
        match test {
            Test::Present => self.all(),
            Test::Contains(text) => self.or_number(text, self.containing(text.folded().as_bytes())),
            Test::StartsWith(text) => self.or_number(text, self.starting(text.folded().as_bytes())),
            Test::EndsWith(text) => {
                self.or_number(text, self.each_text(|entry| entry.ends_with(text.folded().as_bytes())))
            }
            Test::Equals(text) => self.equal(std::slice::from_ref(text)),
            Test::AnyOf(texts) => self.equal(texts),
            Test::Number(comparison, number) => Passing::Within(self.numbers_that(*comparison, *number)),
            Test::Date(comparison, day) => self.each_text(|entry| {
                // Whatever reads as a date has one.
                memchr::memchr(b'-', entry).is_some()
                    && str::from_utf8(entry).ok().and_then(date::parse).is_some_and(|own| comparison.holds(&own, day))
            }),
        }
    }

    fn all(&self) -> Passing {
        Passing::Within(0..self.len() as u32)
    }

    fn each_text(&self, passes: impl Fn(&[u8]) -> bool) -> Passing {
        Passing::Each((0..self.len()).map(|entry| passes(self.bytes(entry))).collect())
    }

    fn containing(&self, text: &[u8]) -> Passing {
        if text.is_empty() {
            return self.all();
        }
        let (mut each, texts) = (vec![false; self.len()], self.texts());
        let finder = memmem::Finder::new(text);
        let (mut entry, mut from) = (0, 0);
        while let Some(at) = texts.get(from..).and_then(|rest| finder.find(rest)) {
            entry += self.ends[entry..].partition_point(|end| (*end as usize) < from + at);
            let Some(passes) = each.get_mut(entry) else { break };
            *passes = true;
            from = self.ends[entry] as usize + 1;
        }
        Passing::Each(each)
    }

    fn starting(&self, text: &[u8]) -> Passing {
        let texts = self.numbers..self.len();
        let begin = self.first(texts.clone(), |own| own >= text);
        let end = self.first(begin..texts.end, |own| !own.starts_with(text));
        if (0..self.numbers).any(|entry| self.bytes(entry).starts_with(text)) {
            return self.each_text(|entry| entry.starts_with(text));
        }
        Passing::Within(begin as u32..end as u32)
    }

    /// The first entry of a range of texts for which something holds that holds for all after it as well.
    fn first(&self, range: Range<usize>, holds: impl Fn(&[u8]) -> bool) -> usize {
        partition_point(range, |entry| !holds(self.bytes(entry)))
    }

    fn equal(&self, texts: &[Text]) -> Passing {
        let ranges = texts.iter().flat_map(|text| {
            let folded = text.folded().as_bytes();
            // A number's text could only be equal to a text that is that number.
            let begin = self.first(self.numbers..self.len(), |own| own >= folded);
            let end = self.first(begin..self.len(), |own| own > folded);
            std::iter::once(begin as u32..end as u32).chain(self.equal_numbers(text))
        });
        self.together(Passing::Within(0..0), ranges.collect())
    }

    /// What passes, and the numbers that a text reads as.
    fn or_number(&self, text: &Text, passing: Passing) -> Passing {
        self.together(passing, self.equal_numbers(text).collect())
    }

    fn equal_numbers(&self, text: &Text) -> impl Iterator<Item = Range<u32>> {
        text.numbers().map(|number| self.numbers_that(Comparison::Equal, number))
    }

    /// What passes, and all in some ranges.
    fn together(&self, passing: Passing, mut ranges: Vec<Range<u32>>) -> Passing {
        ranges.retain(|range| !range.is_empty());
        let mut each = match (passing, ranges.as_slice()) {
            (passing, []) => return passing,
            (Passing::Within(none), [only]) if none.is_empty() => return Passing::Within(only.clone()),
            (Passing::Within(range), _) => {
                ranges.push(range);
                vec![false; self.len()]
            }
            (Passing::Each(each), _) => each,
        };
        ranges.into_iter().for_each(|range| each[range.start as usize..range.end as usize].fill(true));
        Passing::Each(each)
    }

    fn numbers_that(&self, comparison: Comparison, number: Number) -> Range<u32> {
        let below = partition_point(0..self.numbers, |entry| self.number(entry) < number) as u32;
        let not_above = partition_point(below as usize..self.numbers, |entry| self.number(entry) <= number) as u32;
        match comparison {
            Comparison::Equal => below..not_above,
            Comparison::Less => 0..below,
            Comparison::LessOrEqual => 0..not_above,
            Comparison::Greater => not_above..self.numbers as u32,
            Comparison::GreaterOrEqual => below..self.numbers as u32,
        }
    }
}

/// The first number of a range for which something does not hold that holds for all before it.
pub(super) fn partition_point(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut begin, mut end) = (range.start, range.end);
    while begin < end {
        let middle = begin + (end - begin) / 2;
        if holds(middle) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    begin
}

#[cfg(test)]
mod tests {
    use super::super::bytes::{put, put_all};
    use super::super::gather::{END, Gathered};
    use super::*;
    use crate::filter::folded_text;
    use serde_json::{Value, json};

    /// A column of as many products as there are lists of values, the last of them at the first place.
    fn column(values: &Value) -> Column<'static> {
        let values = values.as_array().expect("a list");
        let places: Vec<u32> = (0..values.len() as u32).rev().collect();
        let mut gathered = Gathered::default();
        for (product, values) in (0..).zip(values) {
            for value in values.as_array().expect("a list") {
                gathered.push(product, &folded_text(value), value.is_number());
            }
        }
        Column::decode(gathered.encode(&places).into()).expect("a column")
    }

    fn found(column: &Column<'_>, test: &Test, products: usize) -> Vec<usize> {
        let mut found = FixedBitSet::with_capacity(products);
        column.add(&column.passing(test), &mut found).expect("a sound column");
        found.ones().collect()
    }

    #[test]
    fn tests_hold_as_they_do_for_single_values() {
        let values = json!([
            [4, "4"],
            ["4.0"],
            [4.0, 1e300],
            [true],
            ["Abc", "abd"],
            [],
            ["-1"],
            [-1, 0.0],
            [-0.0],
            ["ÄÖ\u{0}x"],
            ["2023-10-31"],
            ["2023-10-31T01:02:03", "ab"],
            [10, 9, 100],
            ["a"],
            ["ab", "ab", 5],
            [""],
            ["1e300"],
            [9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64, 9_007_199_254_740_992.0],
            [-9_007_199_254_740_993_i64, 9_999_999_999_999_999_i64, 1e16],
            [u64::MAX, "18446744073709551616"],
            ["ΣΙΓΜΑΣΚΟΠΙΟ", "e\u{301}", ".inf", ".nan"],
            [2.5e-7, "2.5e-07", 511]
        ]);
        let lists = values.as_array().expect("a list");
        let column = column(&values);
        let words = "4 4.0 ab abc a 0 tr true ö \u{0} -1 1e300 2023-10-31 x c ΣΙΓΜΑΣ σιγμας é .inf 2.5e-07 2.5e-7 0.00000025 +5 0777 \
             9007199254740992 9007199254740993 9007199254740992.0 10000000000000000 18446744073709551616";
        let words = words.split(' ').chain([""]);
        let texts = words.map(Text::new).flat_map(|text| {
            [
                Test::Contains(text.clone()),
                Test::StartsWith(text.clone()),
                Test::EndsWith(text.clone()),
                Test::Equals(text),
            ]
        });
        let every = [
            Comparison::Equal,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
        ];
        let day = date::parse("2023-10-31").expect("a date");
        let numbers =
            "-1 0 4 7.5 1e300 9007199254740993 9007199254740992.0 -9007199254740993 1e16 18446744073709551615";
        let numbers: Vec<Number> = numbers.split(' ').filter_map(Number::read).collect();
        let compared = every.iter().flat_map(|comparison| {
            let numbers = numbers.iter().map(|number| Test::Number(*comparison, *number));
            numbers.chain([Test::Date(*comparison, day)])
        });
        let any = Test::AnyOf(["4", "ab", "zz"].map(Text::new).into());
        for test in texts.chain(compared).chain([Test::Present, any]) {
            let expected: Vec<usize> = (0..lists.len())
                .filter(|place| {
                    let values = lists[lists.len() - 1 - place].as_array().expect("a list");
                    values.iter().any(|value| test.holds(value))
                })
                .collect();
            assert_eq!(found(&column, &test, lists.len()), expected, "{test:?}");
        }
    }

    #[test]
    fn single_values_are_kept_densely() {
        let dense = column(&json!([["b"], ["a"], [], ["b"]]));
        assert!(matches!(dense.cells, Cells::Dense { .. }));
        let mut cells = Vec::new();
        dense.each(|product, entry| cells.push((product, entry))).expect("a sound column");
        assert_eq!(cells, [(0, 1), (2, 0), (3, 1)]);
        assert_eq!(found(&dense, &Test::Equals(Text::new("B")), 4), [0, 3]);
        let sparse = column(&json!([[], [], [], [], [], [], [], [], ["x"]]));
        assert!(matches!(sparse.cells, Cells::Sparse { .. }));
        assert_eq!(found(&sparse, &Test::Present, 9), [0]);
    }

    #[test]
    fn equal_numbers_have_one_rank() {
        let column = column(&json!([[4.0], [4], [5], [3], ["3"]]));
        assert_eq!((0..5).map(|entry| column.rank(entry)).collect::<Vec<_>>(), [0, 1, 1, 3, 4]);
        assert_eq!(column.value(1), column.value(2));
    }

    #[test]
    fn damage_is_noticed() {
        let mut gathered = Gathered::default();
        ["a", "b"].iter().zip(0..).for_each(|(text, n)| gathered.push(n, text, false));
        let bytes = gathered.encode(&[0, 1]);
        for cut in 0..bytes.len() {
            assert_eq!(Column::decode(bytes[..cut].into()).err(), Some(Failed::Damaged), "{cut}");
        }
        // A product after more than there can be.
        let mut bytes = Vec::new();
        [1, 0, 0, 1].iter().for_each(|number| put(&mut bytes, *number));
        bytes.extend([b'a', END, 0]);
        put(&mut bytes, 2);
        [u64::from(u32::MAX), 1].iter().for_each(|more| put(&mut bytes, *more));
        put_all(&mut bytes, &[0, 0], 1);
        let column = Column::decode(bytes.into()).expect("a column");
        let mut found = FixedBitSet::with_capacity(2);
        assert_eq!(column.add(&column.passing(&Test::Present), &mut found), Err(Failed::Damaged));
    }
}
