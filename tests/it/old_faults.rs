//! Faults that the service before this one had. None may come back.

use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use tests::program::Server;
use tests::volume::Volume;

fn filter(server: &Server, items: &Value) -> Vec<String> {
    let answer = server.filter(&json!({"filterModel": {"items": items}}));
    let rows = answer["data"].as_array().expect("rows");
    rows.iter().map(|row| row["dataproduct_file"].as_str().expect("a folder").to_owned()).collect()
}

#[test]
fn keys_and_values_are_never_a_language() {
    let volume = Volume::new();
    let key = "a' OR '1'='1; DROP TABLE data_product; --";
    volume.product("eb", "eb-a-20240101-1", &format!("\"{key}\": 100%\nname: a_b"));
    volume.product("other", "eb-b-20240101-1", "name: axb");
    let server = Server::start(volume.path());
    let item = |field: &str, value: &str| json!([{"field": field, "operator": "contains", "value": value}]);
    assert_eq!(filter(&server, &item(key, "100%")), ["eb"]);
    assert_eq!(filter(&server, &item(key, "1%0")), Vec::<String>::new());
    assert_eq!(filter(&server, &item("name", "a_b")), ["eb"]);
    assert_eq!(filter(&server, &item("name", "%")), Vec::<String>::new());
    assert_eq!(server.search(&["name:A_B"]).len(), 1);
}

#[test]
fn limits_come_after_access() {
    let volume = Volume::new();
    for n in 0..60 {
        let group = if n % 2 == 0 { "context: {access_group: staff}" } else { "" };
        volume.product(&format!("eb-{n:02}"), &format!("eb-a-20240101-{n}"), group);
    }
    let mut command = tests::program::serve(volume.path());
    command.env("SKA_DATAPRODUCT_API_POSTGRESQL_QUERY_SIZE_LIMIT", "30");
    let server = Server::with(command, true);
    assert_eq!(server.search(&[]).len(), 30);
    let answer = server.filter(&json!({"pageSize": 30}));
    assert_eq!((answer["total"].as_u64(), answer["data"].as_array().map(Vec::len)), (Some(30), Some(30)));
}

#[test]
fn odd_metadata_breaks_no_search() {
    let volume = Volume::new();
    let server = Server::start(volume.path());
    for body in [
        json!({"execution_block": 5}),
        json!({"execution_block": ["eb"]}),
        json!({"execution_block": {}}),
        json!({"execution_block": null}),
    ] {
        assert_eq!(server.post("/ingestnewmetadata", &body).status, 422, "{body}");
    }
    assert_eq!(server.post_bytes("/ingestnewmetadata", br#"{"execution_block": "eb", "x": NaN}"#).status, 400);
    let odd = json!({"execution_block": "eb-odd-20240101-1", "uid": 5, "date_created": [], "files": "none",
        "context": "text", "size": {}, "id": null, "obscore": [1, [2, {"s_ra": []}]], "": {"": ""}});
    assert_eq!(server.post("/ingestnewmetadata", &odd).status, 201);
    assert_eq!(server.search(&[]).len(), 1);
    assert_eq!(server.search(&["obscore:2"]).len(), 1);
    assert_eq!(server.filter(&json!({"sortModel": [{"field": "obscore", "sort": "desc"}]}))["total"], 1);
    assert_eq!(server.get("/muidatagridconfig").status, 200);
}

#[test]
fn a_bad_uid_leaves_the_service_well() {
    let volume = Volume::new();
    let server = Server::start(volume.path());
    let before = server.status()["metadata_store_status"]["db_status"].clone();
    assert_eq!(server.post("/dataproductmetadata", &json!({"uid": "not-a-uuid"})).status, 400);
    assert_eq!(server.status()["metadata_store_status"]["db_status"], before);
}

#[test]
fn falsy_values_and_first_elements_are_found() {
    let volume = Volume::new();
    volume.product(
        "eb",
        "eb-a-20240101-1",
        "zero: 0\nflag: false\nnone: None\nlist: [first, second]\nfiles: [{crc: 2a890fbe}]",
    );
    let server = Server::start(volume.path());
    for pair in ["zero:0", "flag:false", "none:None", "list:first", "crc:2a890fbe"] {
        assert_eq!(server.search(&[pair]).len(), 1, "{pair}");
    }
}

#[test]
fn empty_joins_with_others() {
    let volume = Volume::new();
    volume.product("a", "eb-a-20240101-1", "x: 1");
    volume.product("b", "eb-b-20240101-1", "y: 1");
    volume.product("c", "eb-c-20240101-1", "x: ''");
    let server = Server::start(volume.path());
    let empty = json!({"field": "x", "operator": "isEmpty"});
    let block = |value: &str| json!({"field": "execution_block", "operator": "contains", "value": value});
    let mut found = filter(&server, &json!([empty]));
    found.sort();
    assert_eq!(found, ["b", "c"]);
    assert_eq!(filter(&server, &json!([empty, block("eb-c")])), ["c"]);
    assert_eq!(filter(&server, &json!([block("eb-a"), empty])), Vec::<String>::new());
}

#[test]
fn filters_hold_from_the_first_search_on() {
    let volume = Volume::new();
    volume.product("a", "eb-a-20240101-1", "x: 1");
    volume.product("b", "eb-b-20240101-1", "x: 2");
    let server = Server::start(volume.path());
    assert_eq!(filter(&server, &json!([{"field": "x", "operator": "=", "value": 2}])), ["b"]);
}

#[test]
fn identical_metadata_is_two_products() {
    let volume = Volume::new();
    volume.product("a", "eb-a-20240101-1", "");
    volume.product("b", "eb-a-20240101-1", "");
    let server = Server::start(volume.path());
    assert_eq!(server.folders(), ["a", "b"]);
}

#[test]
fn links_lead_nowhere_outside() {
    let outside = Volume::new();
    outside.product("eb", "eb-out-20240101-1", "");
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "");
    symlink(outside.at("eb"), volume.at("linked")).expect("a link");
    std::fs::create_dir(volume.at("inner")).expect("a folder");
    symlink(outside.at("eb/ska-data-product.yaml"), volume.at("inner/ska-data-product.yaml")).expect("a link");
    let server = Server::start(volume.path());
    assert_eq!(server.folders(), ["eb"]);
    let body = json!({"execution_block": "eb-out-20240101-1", "relativePathName": "inner"});
    let answer = server.post("/ingestnewdataproduct", &body);
    assert_eq!(answer.status, 400);
    assert!(!String::from_utf8_lossy(&answer.body).contains(outside.path().to_str().expect("text")));
}

#[test]
fn a_storage_path_that_is_a_link_is_served_and_watched() {
    let volume = Volume::new();
    volume.product("real/eb", "eb-a-20240101-1", "");
    symlink("real", volume.at("link")).expect("a link");
    let server = Server::start(&volume.at("link"));
    assert_eq!(server.folders(), ["eb"]);
    volume.product("real/eb-2", "eb-b-20240101-1", "");
    server.wait_for_folders(&["eb", "eb-2"]);
}

#[test]
fn searches_are_answered_while_indexing() {
    let volume = Volume::new();
    for n in 0..1500 {
        volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), "x: 1");
    }
    let server = Server::with(tests::program::serve(volume.path()), false);
    let mut last = 0;
    while last < 1500 {
        let found = server.search(&["x:1"]).len();
        assert!(found >= last, "products went while nothing was removed");
        last = found;
    }
    tests::wait_for("the end of the walk", || (server.status()["indexing"]["in_progress"] == false).then_some(()));
}
