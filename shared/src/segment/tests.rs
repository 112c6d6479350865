//! Searches in segments, compared with what filters and orders are defined to mean.

use super::{
    Builder, Doc, Failed, Found, Keys, Merged, Page, Pass, Question, Resolve, Sampler, Search, Segment, merge,
};
use crate::access::Access;
use crate::filter::{Key, Test, grid};
use crate::product::{Product, Stored};
use crate::query::{Place, Query};
use crate::row::Leaf;
use chrono::NaiveDate;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

const PATHS: [&str; 4] = ["a", "a.b", "c", "note"];
const OPERATORS: [&str; 12] = [
    "contains",
    "doesNotContain",
    "equals",
    "startsWith",
    "endsWith",
    "isEmpty",
    "isAnyOf",
    "=",
    ">",
    "<=",
    "is",
    "onOrAfter",
];

/// A version of a product, and whether it is superseded.
#[derive(Debug, Clone)]
struct Version {
    product: Product,
    access: i32,
    leaves: Vec<Leaf<i32>>,
    gone: bool,
}

impl Version {
    fn doc(&self, number: u64) -> Doc<'_> {
        let Version { product, access, leaves, .. } = self;
        Doc { number, uid: product.uid, date_created: product.date_created, access: *access, leaves }
    }
}

/// Knows [`PATHS`] by their places, and that what is called `note` is beside segments as well.
struct Known<'a>(&'a [Version]);

impl Resolve for Known<'_> {
    fn keys(&self, key: &Key) -> Keys {
        match key {
            Key::Every => Keys::All,
            key => Keys::These((0..).zip(PATHS).filter(|(_, path)| key.picks(path)).map(|(n, _)| n).collect()),
        }
    }

    fn beside(&self, key: &Key, test: &Test) -> Option<Vec<u64>> {
        let has = |version: &Version| version.product.uid.as_u128().is_multiple_of(5) && test.holds(&json!("beside"));
        let found = || (1..).zip(self.0).filter(|(_, version)| has(version)).map(|(number, _)| number).collect();
        (*key != Key::Every && key.picks("note")).then(found)
    }
}

fn value() -> impl Strategy<Value = Value> {
    let values = [
        json!(1),
        json!(1.0),
        json!(2),
        json!(-7.5),
        json!("1"),
        json!("A"),
        json!("ab"),
        json!("b"),
        json!(true),
        json!("2024-01-02"),
        json!("2024-01-02T00:00:00"),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_992.0),
        json!(-9_007_199_254_740_993_i64),
        json!(9_999_999_999_999_999_i64),
        json!(1e16),
        json!(u64::MAX),
        json!("18446744073709551616"),
        json!(2.5e-7),
        json!("2.5e-07"),
        json!("ΣΑΣ"),
        json!("σας"),
        json!("É"),
        json!("e\u{301}"),
        json!(".inf"),
        json!(".nan"),
    ];
    prop::sample::select(values.to_vec())
}

fn versions() -> impl Strategy<Value = Vec<Version>> {
    let leaf = (0..PATHS.len() as i32, value()).prop_map(|(key, value)| Leaf { key, value });
    let version = (0u32..3, 0i32..3, prop::collection::vec(leaf, 0..4), prop::bool::weighted(0.2));
    prop::collection::vec(version, 0..60).prop_map(|versions| {
        let version = |(n, (day, access, leaves, gone)): (u128, (_, _, _, _))| Version {
            product: Product::restored(
                Map::new(),
                Stored {
                    // In another order than the numbers.
                    uid: Uuid::from_u128((n * 37) % 101),
                    date_created: NaiveDate::from_ymd_opt(2024, 1, 1 + day).unwrap_or_default(),
                    folder: None,
                    metadata_file: None,
                    store_name: String::new(),
                    flows: Vec::new(),
                },
            ),
            access,
            leaves,
            gone,
        };
        (0..).zip(versions).map(version).collect()
    })
}

fn query() -> impl Strategy<Value = Query> {
    let path = || prop::sample::select(PATHS.to_vec());
    let item = (path(), prop::sample::select(OPERATORS.to_vec()), value());
    let sort = prop::collection::vec((path(), any::<bool>()), 0..3);
    let quick = prop::collection::vec(value(), 0..2);
    (prop::collection::vec(item, 0..3), any::<bool>(), quick, sort, 0usize..40, 0usize..9, any::<bool>()).prop_map(
        |(items, or, quick, sort, offset, limit, first)| {
            let item = |(field, operator, value)| json!({"field": field, "operator": operator, "value": value});
            let items = items.into_iter().map(item).filter(|item| grid::parse(&json!({"filterModel": {"items": [item]}})).is_ok());
            let sort = sort.into_iter().map(|(field, up)| json!({"field": field, "sort": if up { "asc" } else { "desc" }}));
            let operator = if or { "or" } else { "and" };
            let body = json!({
                "filterModel": {"items": items.collect::<Vec<_>>(), "logicOperator": operator, "quickFilterValues": quick},
                "sortModel": sort.collect::<Vec<_>>(),
            });
            let query = grid::parse(&body).unwrap_or_else(|error| panic!("{error}")).0;
            let exact = crate::filter::Filter::Any(Key::Path("c".to_owned()), Test::Present);
            Query { offset, limit, first: first.then_some(exact), ..query }
        },
    )
}

/// The answer by the definitions of filters and of order.
fn expected(versions: &[Version], allowed: &BTreeSet<i32>, query: &Query) -> Found {
    let named = |version: &Version| {
        let mut leaves: Vec<Leaf<&str>> = version
            .leaves
            .iter()
            .map(|leaf| Leaf { key: PATHS[leaf.key as usize], value: leaf.value.clone() })
            .collect();
        let own = leaves.clone();
        if version.product.uid.as_u128().is_multiple_of(5) {
            leaves.push(Leaf { key: "note", value: json!("beside") });
        }
        (leaves, own)
    };
    let holds =
        |filter: &crate::filter::Filter, (leaves, own): &(Vec<Leaf<&str>>, Vec<Leaf<&str>>)| holds(filter, leaves, own);
    let mut found: Vec<(bool, Place, u64)> = (1..)
        .zip(versions)
        .filter(|(_, version)| !version.gone && allowed.contains(&version.access))
        .filter(|(_, version)| holds(&query.filter, &named(version)))
        .map(|(number, version)| {
            let first = query.first.as_ref().is_some_and(|first| holds(first, &named(version)));
            (!first, query.place_of(&version.product, &named(version).1), number)
        })
        .collect();
    let total = found.len();
    found.sort_by(|(first, a, _), (other, b, _)| first.cmp(other).then_with(|| query.compare(a, b)));
    found.retain(|(_, place, _)| query.after.as_ref().is_none_or(|after| query.compare(place, after).is_gt()));
    let page = found.iter().skip(query.offset).take(query.limit);
    Found { total, numbers: page.map(|(_, _, number)| *number).collect() }
}

/// As [`Filter::matches`], but any field of a quick filter is one of the product itself.
fn holds(filter: &crate::filter::Filter, leaves: &[Leaf<&str>], own: &[Leaf<&str>]) -> bool {
    use crate::filter::Filter;
    match filter {
        Filter::And(all) => all.iter().all(|filter| holds(filter, leaves, own)),
        Filter::Or(any) => any.iter().any(|filter| holds(filter, leaves, own)),
        Filter::Not(filter) => !holds(filter, leaves, own),
        Filter::Any(Key::Every, _) => filter.matches(own),
        Filter::Any(..) => filter.matches(leaves),
    }
}

/// Makes segments of versions, of at most `size` each.
fn segments(versions: &[Version], size: usize) -> Vec<(usize, Vec<Arc<Page>>)> {
    let numbered: Vec<(u64, &Version)> = (1..).zip(versions).collect();
    let build = |part: &[(u64, &Version)]| {
        let mut builder = Builder::new();
        for (number, version) in part {
            builder.push(&version.doc(*number));
        }
        (part.len(), builder.finish().into_iter().map(Arc::new).collect())
    };
    numbered.chunks(size).map(build).collect()
}

/// Makes one of each so many segments, without what is gone already.
fn merged(segments: &[(usize, Vec<Arc<Page>>)], count: usize, gone: &[u64]) -> Vec<(usize, Vec<Arc<Page>>)> {
    let merged = segments.chunks(count).map(|some| {
        let segment = |(products, pages)| Segment { products, pages, superseded: gone };
        let some: Vec<Segment<'_>> = some.iter().map(|(products, pages)| segment((*products, pages))).collect();
        let Merged { products, pages, .. } = merge(&some).expect("segments");
        (products, pages.into_iter().map(Arc::new).collect())
    });
    merged.collect()
}

/// The answer of segments of so many products each, of which each so many became one.
fn answer(
    versions: &[Version],
    allowed: &BTreeSet<i32>,
    query: &Query,
    (size, count): (usize, Option<usize>),
) -> Found {
    let question = Question::new(query.clone(), allowed.clone(), &Known(versions));
    let gone: Vec<u64> = (1..).zip(versions).filter(|(_, version)| version.gone).map(|(number, _)| number).collect();
    let needed = question.keys();
    let mut segments = segments(versions, size);
    if let Some(count) = count {
        // The others go afterwards.
        let before: Vec<u64> = gone.iter().copied().filter(|number| number % 2 == 0).collect();
        segments = merged(&segments, count, &before);
    }
    let segments: Vec<(usize, Vec<Arc<Page>>)> = segments
        .into_iter()
        .map(|(products, mut pages)| {
            // What it does not speak of is not there.
            pages.retain(|page| {
                needed.as_ref().is_none_or(|keys| keys.iter().any(|key| (page.first..=page.last).contains(key)))
            });
            (products, pages)
        })
        .collect();
    let segments: Vec<Segment<'_>> =
        segments.iter().map(|(products, pages)| Segment { products: *products, pages, superseded: &gone }).collect();
    let start = Sampler::new(&question).map(|sampler| passed(sampler, &question, &segments).finish(&question));
    passed(Search::new(&question, start), &question, &segments).finish(&question)
}

/// Looks at segments, at every third apart from the others.
fn passed<P: Pass>(mut pass: P, question: &Question, segments: &[Segment<'_>]) -> P {
    let mut other = pass.clone();
    for (n, segment) in segments.iter().enumerate() {
        let looks = if n % 3 == 1 { &mut other } else { &mut pass };
        looks.add(question, segment, &|| false).expect("a segment");
    }
    pass.join(question, other);
    pass
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn answers_are_those_of_the_definition(
        versions in versions(), mut query in query(), size in 1usize..30, merged in prop::option::of(1usize..5), groups in 0i32..8, after in any::<prop::sample::Index>(), go_on in any::<bool>(),
    ) {
        let allowed: BTreeSet<i32> = (0..3).filter(|rule| groups >> rule & 1 == 1).collect();
        if go_on && !versions.is_empty() {
            let version = after.get(&versions);
            let leaves: Vec<Leaf<&str>> = version.leaves.iter().map(|leaf| Leaf { key: PATHS[leaf.key as usize], value: leaf.value.clone() }).collect();
            query.after = Some(query.place_of(&version.product, &leaves));
            query.first = None;
        }
        prop_assert_eq!(answer(&versions, &allowed, &query, (size, merged)), expected(&versions, &allowed, &query));
    }
}

proptest! {
    /// What several segments become is, byte for byte, what a builder makes of the same products.
    #[test]
    fn segments_become_what_a_builder_would_have_made(
        versions in versions(), size in 1usize..30, twice in prop::option::of(1usize..4),
    ) {
        let gone: Vec<u64> = (1..).zip(&versions).filter(|(_, version)| version.gone).map(|(n, _)| n).collect();
        let mut parts = segments(&versions, size);
        if let Some(count) = twice {
            parts = merged(&parts, count, &[]);
        }
        let all = merged(&parts, parts.len().max(1), &gone);
        let mut builder = Builder::new();
        for (number, version) in (1..).zip(&versions).filter(|(_, version)| !version.gone) {
            builder.push(&version.doc(number));
        }
        let products = builder.products();
        let expected: Vec<Page> = if products == 0 { Vec::new() } else { builder.finish() };
        let (found, pages) = all.into_iter().next().unwrap_or_default();
        prop_assert_eq!(found, products);
        prop_assert_eq!(pages.iter().map(|page| (**page).clone()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn damaged_segments_do_not_become_one() {
    let product = product();
    let versions = [Version { product, access: 0, leaves: vec![Leaf { key: 2, value: json!(1) }], gone: false }];
    let (products, pages) = segments(&versions, 9).remove(0);
    let last = pages.last().expect("a page").clone();
    for bytes in 0..last.bytes.len() {
        let mut damaged = pages.clone();
        *damaged.last_mut().expect("a page") = Arc::new(Page { bytes: last.bytes[..bytes].to_vec(), ..*last });
        let segment = Segment { products, pages: &damaged, superseded: &[] };
        assert_eq!(merge(&[segment]).err(), Some(Failed::Damaged), "{bytes}");
    }
    let none = Segment { products, pages: &[], superseded: &[] };
    assert_eq!(merge(&[none]).err(), Some(Failed::Damaged));
}

fn product() -> Product {
    Product::restored(
        Map::new(),
        Stored {
            uid: Uuid::nil(),
            date_created: NaiveDate::default(),
            folder: None,
            metadata_file: None,
            store_name: String::new(),
            flows: Vec::new(),
        },
    )
}

#[test]
fn a_search_that_nobody_waits_for_ends() {
    let product = product();
    assert_eq!(product.access, Access::Public);
    let versions = [Version { product, access: 0, leaves: vec![Leaf { key: 2, value: json!(1) }], gone: false }];
    let query = grid::parse(&json!({"filterModel": {"items": [{"field": "c", "operator": "=", "value": 1}]}}))
        .expect("a query")
        .0;
    let question = Question::new(query, [0].into(), &Known(&versions));
    let (products, pages) = segments(&versions, 9).remove(0);
    let segment = Segment { products, pages: &pages, superseded: &[] };
    assert_eq!(Search::new(&question, None).add(&question, &segment, &|| true), Err(Failed::GivenUp));
    assert_eq!(Search::new(&question, None).add(&question, &segment, &|| false), Ok(()));
}
