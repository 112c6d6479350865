//! What is remembered of pages: it stays within a bound, whatever is asked.

use super::standalone;
use serde_json::{Value, json};

#[test]
fn long_places_in_many_lists_are_not_all_remembered() {
    let running = standalone(|_| (), &[]);
    let key = |n: usize| format!("k{n}");
    for product in 0..20 {
        let mut metadata = json!({"execution_block": format!("eb-p-20240101-{product}")});
        (0..16).for_each(|n| metadata[key(n)] = json!(format!("{product:02}{}", "x".repeat(980))));
        assert_eq!(running.api.post("/ingestnewmetadata", &metadata).status, 201);
    }
    let sorts: Vec<Value> = (0..16).map(|n| json!({"field": key(n), "sort": "asc"})).collect();
    let page = |filter: usize, page: usize| {
        // Another filter is another list, even one that finds the same.
        let all = json!([{"field": "execution_block", "operator": "doesNotContain", "value": format!("no{filter}")}]);
        json!({"filterModel": {"items": all}, "sortModel": sorts, "page": page, "pageSize": 1})
    };
    let walk = |lists: std::ops::Range<usize>| {
        for filter in lists {
            for number in 0..20 {
                let found = running.api.filter(&page(filter, number));
                assert_eq!(found["data"][0]["execution_block"], format!("eb-p-20240101-{number}"), "{filter}");
            }
        }
    };
    walk(0..5);
    let before = running.api.memory("VmRSS");
    std::thread::scope(|scope| {
        for part in 0..4 {
            let walk = &walk;
            scope.spawn(move || walk(10 + part * 75..10 + (part + 1) * 75));
        }
    });
    // All of it came to 96 MiB.
    let grown = running.api.memory("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 20, "{} KiB", grown >> 10);
}
