//! Answers of many rows, which are fetched some at a time.

use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Read, Write};
use tests::program::Server;
use tests::volume::Volume;

/// So many that an answer comes in three parts.
const MANY: usize = 620;

fn many() -> (Volume, Server) {
    let volume = Volume::in_memory();
    for n in 0..MANY {
        // Every third is named exactly, the others have the name in theirs.
        let name = if n % 3 == 0 { "name: target".to_owned() } else { format!("name: target {n}") };
        volume.product(&format!("eb-{n:03}"), &format!("eb-a-2024{:02}{:02}-{n}", 1 + n % 12, 1 + n % 28), &name);
    }
    let server = Server::start(volume.path());
    (volume, server)
}

/// What the rows are ordered by where exact matches come first.
fn places(rows: &[Value]) -> Vec<(bool, std::cmp::Reverse<String>, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    rows.iter()
        .map(|row| (row["name"] != "target", std::cmp::Reverse(text(row, "date_created")), text(row, "uid")))
        .collect()
}

#[test]
fn a_search_answers_all_rows_once_and_in_order() {
    let (_volume, server) = many();
    let all = server.search(&[]);
    assert_eq!(all.len(), MANY);
    let rows = server.search(&["name:target"]);
    let places = places(&rows);
    assert!(places.is_sorted() && !places[MANY / 3].0 && places[MANY / 3 + 1].0);
    let different: HashSet<&str> = rows.iter().filter_map(|row| row["uid"].as_str()).collect();
    assert_eq!((rows.len(), different.len()), (MANY, MANY));
    assert_eq!(
        server.search(&["name:target 1"]).len(),
        (0..MANY).filter(|n| n % 3 > 0 && n.to_string().starts_with('1')).count()
    );
}

#[test]
fn a_page_of_the_grid_may_be_large_and_the_next_one_follows_on() {
    let (_volume, server) = many();
    let sort = json!([{"field": "name", "sort": "desc"}]);
    let page = |page: usize| server.filter(&json!({"sortModel": sort, "page": page, "pageSize": 400}));
    let (first, second) = (page(0), page(1));
    let names = |answer: &Value| -> Vec<String> {
        let rows = answer["data"].as_array().expect("rows");
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all: Vec<String> = names(&first).into_iter().chain(names(&second)).collect();
    assert_eq!((names(&first).len(), all.len()), (400, MANY));
    assert!(all.is_sorted_by(|a, b| a >= b));
    assert_eq!((&first["total"], &second["page"], &second["pageSize"]), (&json!(MANY), &json!(1), &json!(400)));
}

#[test]
fn a_client_that_goes_ends_its_answer() {
    let (_volume, server) = many();
    let body = json!({"start_date": "1900-01-01"}).to_string();
    for _ in 0..20 {
        let mut stream = server.connect();
        let head = format!(
            "POST /dataproductsearch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("a request");
        stream.read_exact(&mut [0; 64]).expect("the beginning of an answer");
    }
    assert_eq!(server.search(&[]).len(), MANY);
}
