//! Bodies of searches and filters: each is a query or an error, and a query holds for a product or does not, one way only.

use serde_json::{Value, json};
use shared::filter::{grid, pairs};
use shared::product::Product;
use shared::query::Query;
use shared::row::{self, Leaf};
use std::cmp::Ordering;
use std::sync::LazyLock;

type Sample = (Product, Vec<Leaf>);

/// Products of some variety.
static PRODUCTS: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    [
        json!({"execution_block": "eb-a-20240102-1", "k": 1, "files": [{"crc": "aa"}, {"crc": "bb"}], "x": {"y": "Z"}}),
        json!({"execution_block": "eb-b-20240103-1", "k": "1", "d": "2024-01-03", "l": [1.5, true, "", null]}),
        json!({"execution_block": "eb-c", "k": [0, "ä", "\u{0}"], "a.b": {"c": -0.0}}),
    ]
    .into_iter()
    .map(|metadata| {
        let product = Product::from_metadata(metadata, "volume").expect("a product");
        let leaves = row::leaves(&product, Some(1000));
        (product, leaves)
    })
    .collect()
});

pub(crate) fn feed(data: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok((query, page)) = grid::parse(&body) {
        assert!(page.page_size >= 1 && query.limit == page.page_size);
        is_sound(&query);
    }
    if let Ok(query) = pairs::parse(&body, "%Y-%m-%d", 100) {
        is_sound(&query);
    }
}

fn is_sound(query: &Query) {
    let places: Vec<_> = PRODUCTS
        .iter()
        .map(|(product, leaves)| {
            let matches = query.filter.matches(leaves);
            assert_eq!(query.filter.matches_unless(leaves, &|| false), Some(matches));
            // What all pairs are exactly, they also are in part.
            if let Some(first) = &query.first {
                first.matches(leaves);
            }
            query.place_of(product, leaves)
        })
        .collect();
    for a in &places {
        assert_eq!(query.compare(a, a), Ordering::Equal);
        for b in &places {
            assert_eq!(query.compare(a, b), query.compare(b, a).reverse());
        }
    }
}
