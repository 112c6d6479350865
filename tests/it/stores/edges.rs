//! The contract by example, at its edges: odd and hostile texts, and what is large, far away or of great number.

use super::Outcome::{Added, Removed, Unchanged, Updated};
use super::*;
use serde_json::Number;
use shared::filter::pairs;
use shared::store::Lookup;
use shared::uid;
use std::cmp::Ordering;

on_each_store! {
    any_text_is_kept_and_found
    injected_statements_are_texts
    what_is_large_is_kept_and_found
    many_changes_fit_in_a_batch
    numbers_are_exact
    dates_reach_far
    large_searches_are_answered
}

/// Each as a value, a key, a part of a key, an execution block and a group.
async fn texts_are_kept_and_found(store: &dyn Store, texts: &[&str]) {
    let everybody = Viewer::member_of(texts.iter().map(|text| (*text).to_owned()));
    let folder = |n: usize| format!("odd/{n}");
    let metadata = |text: &str| {
        let mut metadata = guarded(&format!("eb-{text}"), text, text, format!("<{text}>"));
        metadata["nested"] = json!({ text: text });
        metadata
    };
    let changes: Vec<Change> = texts.iter().enumerate().map(|(n, text)| write(&folder(n), &metadata(text))).collect();
    assert_eq!(apply(store, changes).await, vec![Added; texts.len()]);
    let keys = store.keys(&everybody).await.expect("keys");
    for (n, text) in texts.iter().enumerate() {
        let own = [folder(n)];
        let hits = store.products_of(&format!("eb-{text}"), &everybody).await.expect("products");
        assert_eq!(folders(&hits), own, "{text:?}");
        assert_eq!(hits[0].product.metadata, *metadata(text).as_object().expect("a map"), "{text:?}");
        assert_eq!(find(store, everything(), &member(text)).await, own, "{text:?}");
        assert!(
            keys.counts.contains_key(*text) && keys.counts.contains_key(&format!("nested.{text}")),
            "{text:?} in {keys:?}"
        );
        for found in [
            item(text, "isNotEmpty", ""),
            item(text, "contains", format!("<{}>", text.to_uppercase())),
            item(&format!("nested.{text}"), "isNotEmpty", ""),
            item("nested", "equals", *text),
            item("nested", "isAnyOf", json!([text])),
            item("execution_block", "endsWith", format!("-{text}")),
            query(&json!({"filterModel": {"quickFilterValues": [format!("<{text}>")]}})),
        ] {
            assert_eq!(find(store, found.clone(), &everybody).await, own, "{found:?}");
        }
        let pair = json!({"key_value_pairs": [format!("{text}:<{text}>")], "start_date": "1900-01-01"});
        // Only the first colon splits.
        if !text.contains(':') {
            let pair = pairs::parse(&pair, "%Y-%m-%d", 9).expect("a search");
            assert_eq!(find(store, pair, &everybody).await, own, "{text:?}");
        }
        for direction in ["asc", "desc"] {
            let sorted = query(&json!({"sortModel": [{"field": text, "sort": direction}], "pageSize": 1}));
            assert_eq!(find(store, sorted, &everybody).await, own, "{text:?}");
        }
    }
    assert!(store.search(everything(), &Viewer::anonymous()).await.expect("an answer").hits.is_empty());
}

async fn any_text_is_kept_and_found(store: &dyn Store) {
    let texts = [
        "\0",
        "\0\0",
        "a\0b",
        "\\",
        "\\\\",
        "\\0",
        "\\\\0",
        "\\x00",
        "'",
        "''",
        "\"",
        "\"\"",
        "%",
        "%%",
        "_",
        "{}",
        "{a,b}",
        "$1",
        "\u{10ffff}",
        "𝄞",
        "\u{feff}",
        "\r\n\t",
        " ",
        "\u{85}",
        "\u{7f}",
        "null",
        // Not `é` as well: that is the same.
        "e\u{301}",
        "è",
        "\u{1b}[0m",
        ":",
        "::",
    ];
    texts_are_kept_and_found(store, &texts).await;
}

async fn injected_statements_are_texts(store: &dyn Store) {
    let texts = [
        "'; DROP TABLE leaf; --",
        "\\'; DROP TABLE leaf; --",
        "\"; DROP TABLE leaf; --",
        "1) OR TRUE --",
        "x') OR ('1'='1",
        "$$; DELETE FROM data_product; $$",
        "$1::text; --",
        "/* */",
        "uid DESC; --",
        "l.value",
        "p.access = ANY(ARRAY[1])",
        "2024-01-01'::date OR TRUE --",
        "%s {} {0}",
    ];
    texts_are_kept_and_found(store, &texts).await;
    for text in texts {
        for operator in ["is", "after", "=", "<", text] {
            let item = json!({"field": "date_created", "operator": operator, "value": text});
            let body = json!({"filterModel": {"items": [item]}});
            assert!(grid::parse(&body).is_err(), "{text} is no value of {operator}");
        }
        assert!(pairs::parse(&json!({"start_date": text}), "%Y-%m-%d", 9).is_err());
        assert!(grid::parse(&json!({"sortModel": [{"field": "k", "sort": text}]})).is_err());
    }
    let everybody = Viewer::member_of(texts.map(str::to_owned));
    assert_eq!(find(store, everything(), &everybody).await.len(), texts.len(), "all are still there");
}

async fn what_is_large_is_kept_and_found(store: &dyn Store) {
    let (value, key) = ("Vé".repeat(1 << 19), "k€".repeat(2500));
    let mut large = guarded("eb-1", "g".repeat(10_000), &key, format!("{value}1"));
    large["execution_block"] = json!("eb-".to_owned() + &value);
    // Alike in all that an index could have of them.
    let mut other = large.clone();
    other[&key] = json!(format!("{value}2"));
    other["list"] = (0..10_000).collect();
    assert_eq!(apply(store, [write("a", &large), write("b", &other)]).await, [Added, Added]);
    let viewer = member(&"g".repeat(10_000));
    for (found, folder) in [("1", "a"), ("2", "b")] {
        let whole = format!("{value}{found}").to_lowercase();
        for found in [
            item(&key, "equals", whole.clone()),
            item(&key, "startsWith", whole.clone()),
            item(&key, "endsWith", whole[1..].to_owned()),
            item(&key, "contains", whole[1..].to_owned()),
        ] {
            assert_eq!(find(store, found, &viewer).await, [folder]);
        }
        let uid = uid::on_volume(&("eb-".to_owned() + &value), "/v", &at(folder));
        let Lookup::Found(hit) = store.product(uid, &viewer).await.expect("an answer") else {
            panic!("it is not there")
        };
        let expected = if folder == "a" { &large } else { &other };
        assert!(hit.product.metadata == *expected.as_object().expect("a map"));
    }
    assert_eq!(find(store, item("list", "=", 9_999), &viewer).await, ["b"]);
    assert_eq!(store.products_of(&("eb-".to_owned() + &value), &viewer).await.expect("products").len(), 2);
    assert!(store.products_of(&("eb-".to_owned() + &value + "é"), &viewer).await.expect("products").is_empty());
    assert_eq!(store.keys(&viewer).await.expect("keys").counts[&key].values, 2);
    assert_eq!(apply(store, [gone("a"), gone("b")]).await, [Removed, Removed]);
    assert!(store.keys(&viewer).await.expect("keys").counts.is_empty());
}

async fn many_changes_fit_in_a_batch(store: &dyn Store) {
    let folder = |n: usize| format!("{}/{n:04}", n % 7);
    let product =
        |n: usize, k: &str| write(&folder(n), &guarded("eb-1", format!("g{}", n % 3), "k", format!("{k} {}", n % 10)));
    let batch: Vec<Change> = (0..1200).map(|n| product(n, "one")).collect();
    assert_eq!(apply(store, &batch).await, vec![Added; 1200]);
    assert_eq!(apply(store, &batch).await, vec![Unchanged; 1200]);
    let outcomes =
        apply(store, (0..1200).map(|n| if n < 600 { product(n, "two") } else { gone(&folder(n)) }).collect::<Vec<_>>());
    assert_eq!(outcomes.await, [vec![Updated; 600], vec![Removed; 600]].concat());
    let large = |n: usize| write(&folder(n), &metadata("eb-1", "large", "x".repeat(1 << 20)));
    assert_eq!(apply(store, (600..620).map(large).collect::<Vec<_>>()).await, vec![Added; 20]);
    assert_eq!(store.summary(&Viewer::anonymous(), 0).await.expect("a summary").products, 20);
    assert_eq!(store.search(item("k", "equals", "two 3"), &member("g0")).await.expect("an answer").total, 20);
    assert_eq!(store.search(item("large", "endsWith", "xx"), &member("g1")).await.expect("an answer").total, 20);
    assert_eq!(store.known(&at("3")).await.expect("what is known").len(), (0..620).filter(|n| n % 7 == 3).count());
}

async fn numbers_are_exact(store: &dyn Store) {
    let numbers: Vec<Value> =
        [i64::MIN, -1, 0, 1, 9_007_199_254_740_992, 9_007_199_254_740_993, 9_999_999_999_999_999, i64::MAX]
            .map(Value::from)
            .into();
    let floats = [
        -0.0,
        0.0,
        0.1,
        0.1 + 0.2,
        1.0,
        1e16,
        1e300,
        -1e300,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        2.0f64.powi(53),
        2.0f64.powi(63),
        1.5e-7,
    ];
    let all: Vec<Value> = numbers.into_iter().chain(floats.map(Value::from)).chain([json!(u64::MAX)]).collect();
    let folder = |n: usize| format!("{n:02}");
    let changes = all.iter().enumerate().map(|(n, number)| write(&folder(n), &metadata("eb-1", "n", number.clone())));
    apply(store, changes.collect::<Vec<_>>()).await;
    let by = |sort: &str| query(&json!({"sortModel": [{"field": "n", "sort": sort}], "pageSize": 1000}));
    let uid = |n: usize| uid::on_volume("eb-1", "/v", &at(&folder(n)));
    let mut order: Vec<usize> = (0..all.len()).collect();
    // Integers beyond what doubles hold are told apart, from each other and from doubles.
    let compare = |a: usize, b: usize| match (all[a].as_number(), all[b].as_number()) {
        (Some(a), Some(b)) => {
            let double = |n: &Number| n.as_f64().unwrap_or_default();
            let integer = |n: &Number| n.as_i128().unwrap_or(double(n) as i128);
            double(a).partial_cmp(&double(b)).unwrap_or(Ordering::Equal).then(integer(a).cmp(&integer(b)))
        }
        _ => panic!("no numbers"),
    };
    order.sort_by(|a, b| compare(*a, *b).then(uid(*a).cmp(&uid(*b))));
    assert_eq!(find(store, by("asc"), &staff()).await, order.iter().map(|n| folder(*n)).collect::<Vec<_>>());
    order.sort_by(|a, b| compare(*b, *a).then(uid(*a).cmp(&uid(*b))));
    assert_eq!(find(store, by("desc"), &staff()).await, order.iter().map(|n| folder(*n)).collect::<Vec<_>>());
    for (n, number) in all.iter().enumerate() {
        let Lookup::Found(hit) = store.product(uid(n), &staff()).await.expect("an answer") else {
            panic!("it is gone")
        };
        assert_eq!(hit.product.metadata["n"].to_string(), number.to_string());
        for (operator, orders) in [
            ("=", &[Ordering::Equal][..]),
            ("equals", &[Ordering::Equal]),
            ("!=", &[Ordering::Less, Ordering::Greater]),
            ("<", &[Ordering::Less]),
            ("<=", &[Ordering::Less, Ordering::Equal]),
            (">", &[Ordering::Greater]),
            (">=", &[Ordering::Greater, Ordering::Equal]),
        ] {
            let mut found = find(store, item("n", operator, number.clone()), &staff()).await;
            found.sort();
            let expected = (0..all.len()).filter(|other| orders.contains(&compare(*other, n)));
            assert_eq!(found, expected.map(folder).collect::<Vec<_>>(), "{operator} {number}");
        }
        assert!(find(store, item("n", "contains", number.to_string()), &staff()).await.contains(&folder(n)));
    }
    let keys = store.keys(&staff()).await.expect("keys");
    assert_eq!((keys.counts["n"].values, keys.counts["n"].numbers), (all.len() as u64, all.len() as u64));
}

async fn dates_reach_far(store: &dyn Store) {
    let days = [
        "-262143-01-01",
        "-0001-12-31",
        "0000-01-01",
        "0001-01-01",
        "1970-01-01",
        "2024-02-29",
        "9999-12-31",
        "+10000-01-01",
        "+262142-12-31",
    ];
    let folder = |n: usize| format!("{n}");
    let changes = days.iter().enumerate().map(|(n, day)| write(&folder(n), &metadata("eb-1", "day", *day)));
    apply(store, changes.collect::<Vec<_>>()).await;
    apply(
        store,
        [write("none", &metadata("eb-1", "day", "2023-02-29")), write("number", &metadata("eb-1", "day", 2024))],
    )
    .await;
    for (n, day) in days.iter().enumerate() {
        for (operator, holds) in [
            ("is", (|other, n| other == n) as fn(usize, usize) -> bool),
            ("after", |other, n| other > n),
            ("onOrAfter", |other, n| other >= n),
            ("before", |other, n| other < n),
            ("onOrBefore", |other, n| other <= n),
        ] {
            let mut found = find(store, item("day", operator, *day), &staff()).await;
            found.sort();
            let expected = (0..days.len()).filter(|other| holds(*other, n));
            assert_eq!(found, expected.map(folder).collect::<Vec<_>>(), "{operator} {day}");
        }
    }
    let blocks = ["eb-x-00000101-1", "eb-x-00010101-1", "eb-x-99991231-1", "eb-x-20240229-1", "eb-x-20230229-1"];
    let changes = blocks.iter().map(|block| write(&format!("block/{block}"), &metadata(block, "k", 1)));
    apply(store, changes.collect::<Vec<_>>()).await;
    let body = json!({"start_date": "0000-01-01", "end_date": "9999-12-31", "key_value_pairs": ["k:1"]});
    let found = find(store, pairs::parse(&body, "%Y-%m-%d", 9).expect("a search"), &staff()).await;
    assert_eq!(found, [2, 3, 4, 1, 0].map(|n| format!("block/{}", blocks[n])), "newest first");
}

async fn large_searches_are_answered(store: &dyn Store) {
    let mut metadata = metadata("eb-1", "k", "v");
    for n in 0..500 {
        metadata[format!("key{n}")] = json!(n);
    }
    metadata["more"] = metadata.clone();
    apply(store, [write("a", &metadata), write("b", &json!({"execution_block": "eb-1", "key7": 7}))]).await;
    let items: Vec<Value> =
        (0..500).map(|n| json!({"field": format!("key{n}"), "operator": "equals", "value": n})).collect();
    let sorts: Vec<Value> = (0..16).map(|n| json!({"field": format!("key{n}"), "sort": "desc"})).collect();
    for (operator, found) in [("and", &["a"][..]), ("or", &["a", "b"])] {
        let body = json!({"filterModel": {"items": items, "logicOperator": operator}, "sortModel": sorts});
        let mut query = query(&body);
        assert_eq!(find(store, query.clone(), &staff()).await, found);
        let first = store.product(uid::on_volume("eb-1", "/v", &at("a")), &staff()).await.expect("an answer");
        let Lookup::Found(first) = first else { panic!("it is not there") };
        query.after = Some(query.place(&first.product, first.size));
        assert_eq!(folders(&store.search(query, &staff()).await.expect("an answer").hits), found[1..]);
    }
    let pairs: Vec<String> = (0..500).map(|n| format!("key{n}:{n}")).collect();
    let body = json!({"start_date": "1900-01-01", "key_value_pairs": pairs});
    assert_eq!(find(store, pairs::parse(&body, "%Y-%m-%d", 9).expect("a search"), &staff()).await, ["a"]);
    let many: Vec<String> = (0..500).map(|n| format!("no {n}")).chain(["V".to_owned()]).skip(1).collect();
    assert_eq!(find(store, item("k", "isAnyOf", many), &staff()).await, ["a"]);
    for far in [json!({"page": u64::MAX}), json!({"page": u64::MAX, "pageSize": 1000})] {
        let hits = store.search(query(&far), &staff()).await.expect("an answer");
        assert_eq!((hits.total, hits.hits.len()), (2, 0));
    }
    let hits = store.search(Query { limit: usize::MAX, offset: 1, ..everything() }, &staff()).await.expect("an answer");
    assert_eq!((hits.total, hits.hits.len()), (2, 1));
}
