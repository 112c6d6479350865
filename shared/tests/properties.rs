//! Properties: of what the pure core does with anything at all, and of the store in memory against a model that is too
//! simple to be wrong.

mod generators;

use generators::{OPERATORS, Step, change, folder, metadata, name, scalar, step, value};
use proptest::prelude::*;
use serde_json::{Number, Value, json};
use shared::access::Viewer;
use shared::column::{ColumnKeys, KeyCount};
use shared::date;
use shared::filter::{Filter, grid, pairs};
use shared::folder::Folder;
use shared::product::Product;
use shared::query::{Query, Sort};
use shared::row::{FIXED, Leaf, leaves, row};
use shared::segment::Tiers;
use shared::store::memory::{MemoryStore, Sealing, Waiting};
use shared::store::{Change, Outcome, Store};
use shared::volume::Found;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;
use unicode_normalization::UnicodeNormalization;

fn product() -> impl Strategy<Value = Product> {
    metadata().prop_map(|metadata| Product::from_metadata(metadata, "vol").expect("a product"))
}

fn item(field: &str, operator: &str, value: &Value) -> Value {
    json!({"filterModel": {"items": [{"field": field, "operator": operator, "value": value}]}})
}

/// How a value may be written by who looks for it.
fn spellings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone(), text.nfd().collect(), text.nfc().collect(), text.to_lowercase()],
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().expect("a double");
            let text = value.to_string();
            // As Python writes it, which has two digits in an exponent; in digits alone; and with more of them than it needs.
            let python = text.split_once("e-").map(|(digits, exponent)| format!("{digits}e-{exponent:0>2}"));
            // Beyond 2^53, digits alone are those of an integer, which is exact.
            let digits = (number.abs() < 9e15).then(|| format!("{number}"));
            let more = [text.clone(), format!("{number:e}"), format!("{number:E}")];
            more.into_iter().chain(python).chain(digits).collect()
        }
        Value::Number(_) => vec![value.to_string(), format!(" {value} ")],
        _ => vec![value.to_string()],
    }
}

/// The order of two numbers, by way of all their digits.
fn compare(left: &Number, right: &Number) -> Ordering {
    let digits = |number: &Number| match number.as_i128() {
        Some(integer) => (integer < 0, format!("{}.", integer.unsigned_abs())),
        None => {
            let number = number.as_f64().expect("a double") + 0.0;
            (number < 0.0, format!("{:.1100}", number.abs()).trim_end_matches('0').to_owned())
        }
    };
    let ((left_negative, left), (right_negative, right)) = (digits(left), digits(right));
    let point = |text: &str| text.find('.').expect("a point");
    let order = point(&left).cmp(&point(&right)).then_with(|| left.cmp(&right));
    match (left_negative, right_negative) {
        (false, false) => order,
        (true, true) => order.reverse(),
        (left_negative, right_negative) => right_negative.cmp(&left_negative),
    }
}

fn filter(body: &Value) -> Option<Filter> {
    grid::parse(body).ok().map(|(query, _)| query.filter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_a_search_or_an_error(body in value(), field in name(), operator in prop::sample::select(OPERATORS.to_vec()), value in value(), product in product()) {
        let _ = pairs::parse(&body, "%Y-%m-%d", 10);
        let _ = grid::parse(&body);
        let _ = grid::parse(&json!({"filterModel": body.clone(), "sortModel": body.clone(), "page": body}));
        if let Some(filter) = filter(&item(&field, operator, &value)) {
            let _ = filter.matches(&leaves(&product, None));
        }
    }

    #[test]
    fn negative_operators_are_the_contrary(product in product(), field in name(), value in scalar()) {
        let leaves = leaves(&product, Some(3));
        let no_value = value.is_null() || value == "";
        for (positive, negative) in [("contains", "doesNotContain"), ("equals", "doesNotEqual"), ("=", "!="), ("is", "not"), ("isEmpty", "isNotEmpty")] {
            let (Some(yes), Some(no)) = (filter(&item(&field, positive, &value)), filter(&item(&field, negative, &value))) else {
                continue;
            };
            let asks_nothing = field.is_empty() || (no_value && positive != "isEmpty");
            if !asks_nothing {
                prop_assert_ne!(yes.matches(&leaves), no.matches(&leaves), "{} {} {}", field, positive, value);
            } else {
                prop_assert!(yes.matches(&leaves) && no.matches(&leaves));
            }
        }
    }

    #[test]
    fn a_product_is_found_by_each_of_its_values(product in product(), size in prop::option::of(0u64..100)) {
        let leaves = leaves(&product, size);
        for leaf in leaves.iter().filter(|leaf| !leaf.key.is_empty()) {
            for text in spellings(&leaf.value) {
                for operator in ["contains", "equals", "startsWith", "endsWith", "isAnyOf"] {
                    // A list, since old clients' strings are split at commas.
                    let value = if operator == "isAnyOf" { json!([text]) } else { json!(text) };
                    let body = item(&leaf.key, operator, &value);
                    if leaf.key == "date_created" && operator == "equals" {
                        continue;
                    }
                    let filter = filter(&body);
                    prop_assert!(filter.is_some_and(|filter| filter.matches(&leaves)), "{}", body);
                }
                let pair = format!("{}:{text}", leaf.key);
                if !leaf.key.contains(':') {
                    let body = json!({"key_value_pairs": [pair], "start_date": "1900-01-01"});
                    let query = pairs::parse(&body, "%Y-%m-%d", 10).expect("a search");
                    prop_assert!(query.filter.matches(&leaves) && query.first.expect("exact first").matches(&leaves), "{}", body);
                }
            }
        }
    }

    #[test]
    fn numbers_are_told_apart(left in scalar(), right in scalar()) {
        if let (Some(left_number), Some(right_number)) = (left.as_number(), right.as_number()) {
            let leaves = [Leaf { key: "k".to_owned(), value: left.clone() }];
            let order = compare(left_number, right_number);
            for (operator, orders) in [
                ("=", &[Ordering::Equal][..]),
                ("equals", &[Ordering::Equal]),
                ("isAnyOf", &[Ordering::Equal]),
                ("!=", &[Ordering::Less, Ordering::Greater]),
                ("doesNotEqual", &[Ordering::Less, Ordering::Greater]),
                ("<", &[Ordering::Less]),
                ("<=", &[Ordering::Less, Ordering::Equal]),
                (">", &[Ordering::Greater]),
                (">=", &[Ordering::Greater, Ordering::Equal]),
            ] {
                let filter = filter(&item("k", operator, &right)).expect("a filter");
                prop_assert_eq!(filter.matches(&leaves), orders.contains(&order), "{} {} {}", left, operator, right);
            }
            let sort = Sort { field: "k".to_owned(), descending: false };
            let value = |value: &Value| sort.value(&[Leaf { key: "k", value: value.clone() }]);
            prop_assert_eq!(sort.compare(value(&left).as_ref(), value(&right).as_ref()), order);
        }
    }

    #[test]
    fn rows_are_flat_and_hold_what_leaves_hold(product in product(), size in prop::option::of(0u64..100)) {
        let row = row(1, &product, size);
        prop_assert!(row.values().all(|value| !value.is_null() && !value.is_object()));
        for leaf in leaves(&product, size) {
            let shown = row.keys().any(|key| leaf.key == *key || leaf.key.starts_with(&format!("{key}.")));
            prop_assert!(shown, "{}", leaf.key);
        }
    }

    #[test]
    fn days_read_as_they_are_written(days in 0i64..60_000) {
        let day = date::unknown() + chrono::TimeDelta::days(days);
        prop_assert_eq!(date::parse(&date::format(day)), Some(day));
        prop_assert_eq!(date::of_execution_block(&format!("eb-x-{}-1", day.format("%Y%m%d"))), day);
    }

    #[test]
    fn folders_never_lead_out(text in "[a./\\\\\0 -]{0,12}") {
        if let Ok(folder) = text.parse::<Folder>() {
            prop_assert!(folder.names().all(|name| !matches!(name, "" | "." | "..")));
            prop_assert!(!folder.as_str().starts_with('/') && !folder.as_str().contains('\0'));
            prop_assert_eq!(folder.as_str().parse::<Folder>(), Ok(folder.clone()));
        }
    }
}

/// What the store should hold: by folder, and by execution block what was ingested.
#[derive(Default)]
struct Model {
    files: BTreeMap<usize, (Found, Option<u64>)>,
    ingested: BTreeMap<String, Product>,
}

impl Model {
    fn all(&self) -> impl Iterator<Item = (&Product, Option<u64>)> {
        self.files
            .values()
            .map(|(found, size)| (found.product.as_ref(), *size))
            .chain(self.ingested.values().map(|product| (product, None)))
    }

    /// The uids that a query answers, in order, and how many there are in all.
    fn search(&self, query: &Query, viewer: &Viewer) -> (usize, Vec<String>) {
        let mut found: Vec<_> = self
            .all()
            .filter(|(product, size)| viewer.may_see(&product.access) && query.filter.matches(&leaves(product, *size)))
            .collect();
        found.sort_by(|(a, size_a), (b, size_b)| {
            let (of_a, of_b) = (leaves(a, *size_a), leaves(b, *size_b));
            let first = |of: &[_]| query.first.as_ref().is_some_and(|first| !first.matches(of));
            let by_date = if query.sort.is_empty() { b.date_created.cmp(&a.date_created) } else { Ordering::Equal };
            let by_sort =
                query.sort.iter().map(|sort| sort.compare(sort.value(&of_a).as_ref(), sort.value(&of_b).as_ref()));
            let by_sort = by_sort.fold(Ordering::Equal, Ordering::then);
            first(&of_a).cmp(&first(&of_b)).then(by_sort).then(by_date).then(a.uid.cmp(&b.uid))
        });
        let page = found.iter().skip(query.offset).take(query.limit);
        (found.len(), page.map(|(product, _)| product.uid.to_string()).collect())
    }

    fn keys(&self, viewer: &Viewer) -> ColumnKeys {
        let mut keys: BTreeMap<String, KeyCount> = BTreeMap::new();
        for (product, size) in self.all().filter(|(product, _)| viewer.may_see(&product.access)) {
            for (key, value) in row(0, product, size).iter().filter(|(key, _)| !FIXED.contains(&key.as_str())) {
                let count = keys.entry(key.clone()).or_default();
                count.values += 1;
                let non_finite =
                    value.as_str().is_some_and(|text| [".inf", "-.inf", ".nan", "1.0e+999"].contains(&text));
                count.numbers += u64::from(value.is_number() || non_finite);
            }
        }
        ColumnKeys::most_used(keys.into_iter().collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_in_memory_is_as_its_model(
        steps in prop::collection::vec(step(), 1..12),
        field in name(),
        operator in prop::sample::select(OPERATORS.to_vec()),
        value in scalar(),
        sort in name(),
        descending in any::<bool>(),
        page in 0usize..3,
        member in any::<bool>(),
        sealing in sealing(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = MemoryStore::sealing(Duration::MAX, sealing);
        let viewer = if member { Viewer::member_of(["staff".to_owned()]) } else { Viewer::anonymous() };
        let mut model = Model::default();
        for (n, step) in steps.into_iter().enumerate() {
            runtime.block_on(take(step, n, &store, &mut model))?;
        }
        runtime.block_on(async {
            let sort_model = if sort.is_empty() { json!([]) } else { json!([{"field": sort, "sort": if descending { "desc" } else { "asc" }}]) };
            let mut body = item(&field, operator, &value);
            body["sortModel"] = sort_model;
            body["page"] = json!(page);
            body["pageSize"] = json!(2);
            let mut queries = vec![pairs::parse(&json!({"start_date": "1900-01-01", "key_value_pairs": ["a:x"]}), "%Y-%m-%d", 3).expect("a search")];
            queries.push(grid::parse(&json!({})).expect("a filter").0);
            queries.extend(grid::parse(&body).ok().map(|(query, _)| query));
            for query in queries {
                let expected = model.search(&query, &viewer);
                let hits = store.search(query.clone(), &viewer).await.expect("an answer");
                let uids: Vec<String> = hits.hits.iter().map(|hit| hit.product.uid.to_string()).collect();
                prop_assert_eq!((hits.total, uids), expected, "{:?}", query);
            }
            prop_assert_eq!(store.keys(&viewer).await.expect("keys"), model.keys(&viewer));
            let summary = store.summary(&viewer, 20).await.expect("a summary");
            let visible = model.all().filter(|(product, _)| viewer.may_see(&product.access));
            prop_assert_eq!(summary.products, visible.count() as u64);
            let known = store.known(&Folder::root()).await.expect("what is known");
            prop_assert!(model.files.keys().all(|n| known.contains_key(&folder(*n))));
            prop_assert_eq!(store.known(&folder(0)).await.expect("what is known").keys().all(|known| folder(0).contains(known)), true);
            Ok(())
        })?;
    }
}

/// Segments of few products, or none.
fn sealing() -> impl Strategy<Value = Sealing> {
    let waiting = || (0usize..3, 1usize..4).prop_map(|(leave, seal)| Waiting { leave, seal });
    let few = (waiting(), waiting(), 2usize..4);
    let few = few.prop_map(|(searched, unsearched, few)| {
        let tiers = Tiers { few, many: few, ..Tiers::default() };
        Sealing { searched, unsearched, tiers }
    });
    prop_oneof![3 => few, 1 => Just(Sealing::default())]
}

async fn take(step: Step, n: usize, store: &MemoryStore, model: &mut Model) -> Result<(), TestCaseError> {
    let change = match change(step.clone(), i64::try_from(n).expect("a short test")) {
        Ok(change) => change,
        Err(metadata) => {
            let product = Product::from_metadata(metadata, "vol").expect("a product");
            model.ingested.insert(product.execution_block.clone(), product.clone());
            store.ingest(product, &Viewer::unrestricted()).await.expect("ingested");
            return Ok(());
        }
    };
    let outcome = store.apply(std::slice::from_ref(&change)).await.expect("applied")[0];
    match (step, change) {
        (Step::Write(at, _), Change::Found(found)) => {
            // What a file's bytes say: the same keys in another order are another version.
            let expected = match model.files.get(&at) {
                None => Outcome::Added,
                Some((before, _)) if before.digest == found.digest => Outcome::Unchanged,
                Some(_) => Outcome::Updated,
            };
            prop_assert_eq!(outcome, expected);
            let size = model.files.get(&at).and_then(|(_, size)| *size);
            model.files.insert(at, (found, size));
        }
        (Step::Remove(at), _) => {
            let expected = if model.files.remove(&at).is_some() { Outcome::Removed } else { Outcome::Unchanged };
            prop_assert_eq!(outcome, expected);
        }
        (Step::Measure(at, bytes), _) => {
            if let Some((_, size)) = model.files.get_mut(&at) {
                *size = bytes;
            }
        }
        _ => prop_assert_eq!(outcome, Outcome::Unchanged),
    }
    Ok(())
}
