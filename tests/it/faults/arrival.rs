//! Readers while things change under them.

use crate::daemons::{Site, wait_for_hits};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

#[test]
fn pages_neither_repeat_nor_skip_what_was_there_throughout() {
    let site = Site::new();
    for n in 0..60 {
        site.volume.product(&format!("kept-{n:02}"), &format!("eb-k-202402{:02}-{n}", 1 + n % 20), "kind: kept");
        site.volume.product(&format!("gone-{n:02}"), &format!("eb-g-202402{:02}-{n}", 1 + n % 20), "kind: gone");
    }
    let (_indexer, api) = site.daemons.pair();
    let kept: BTreeSet<String> = (0..60).map(|n| format!("kept-{n:02}")).collect();
    let (mut new, mut gone) = (0, 0);
    for sort in
        [json!([]), json!([{"field": "kind", "sort": "asc"}]), json!([{"field": "date_created", "sort": "asc"}])]
    {
        let mut seen = Vec::new();
        for page in 0.. {
            let answer = api.filter(&json!({"page": page, "pageSize": 9, "sortModel": sort}));
            let rows = answer["data"].as_array().expect("rows");
            if rows.is_empty() {
                break;
            }
            let folder = |row: &Value| row["dataproduct_file"].as_str().expect("a folder").to_owned();
            seen.extend(rows.iter().map(folder).filter(|folder| folder.starts_with("kept-")));
            // Newer than all that there is, older, and in the middle; and one is gone that may have been seen or not.
            for date in ["20250101", "20230101", "20240210"] {
                site.volume.product(
                    &format!("new-{new}"),
                    &format!("eb-n-{date}-{new}"),
                    &format!("kind: new\nof: p{new}."),
                );
                new += 1;
            }
            if gone < 60 {
                fs::remove_dir_all(site.volume.at(&format!("gone-{gone:02}"))).expect("removed");
                gone += 1;
            }
            wait_for_hits(&api, &format!("of:p{}.", new - 1), 1);
            wait_for_hits(&api, "kind:gone", 60 - gone);
        }
        assert_eq!(seen.len(), kept.len(), "{sort}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), kept, "{sort}");
    }
}
