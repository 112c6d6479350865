//! The HTTP contract, on the sample volume.

use serde_json::{Value, json};
use tests::program::{SAMPLE, Server, serve};
use tests::volume::{Volume, sample};

fn column<'a>(columns: &'a Value, field: &str) -> &'a Value {
    let columns = columns["columns"].as_array().expect("columns");
    columns.iter().find(|column| column["field"] == field).unwrap_or_else(|| panic!("no column {field}"))
}

fn fields(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn status_has_every_field_of_the_contract() {
    let status = SAMPLE.status();
    let contract: Value = json!({
        "api_running": true, "api_version": "", "startup_time": "", "available_data_stores": [],
        "indexing": {"in_progress": false, "progress": {"files_processed": 0, "total_files": 0, "files_added": 0,
            "files_updated": 0, "files_skipped": 0, "indexing_step": ""}, "coordination_state": null},
        "pv_interface_status": {"metadata_store_name": "", "pv_available": true, "number_of_data_products_on_pv": 0,
            "last_index_duration": "", "index_time_modified": "", "indexing_timeout_seconds": 0,
            "indexing_batch_size": 0, "indexing_parallel_workers": 0, "indexing_work_unit_depth": 0,
            "last_index_run": {"timed_out": false, "work_units": 0, "files_ingested": 0}},
        "metadata_store_status": {"store_type": "", "db_status": {"configured": false, "running": false},
            "last_metadata_update_time": "", "number_of_dataproducts": 0, "dlm_interface_enabled": false,
            "dlm_interface_status": {"number_of_items": 0, "dlm_data_item_accessible": false,
                "dlm_tables_accessible": false, "dlm_tables_error": null}},
        "search_store_status": {"metadata_search_store_in_use": ""},
        "sdp_config_db": {"connected": false, "watcher_connected": false, "description": ""},
    });
    same_shape(&contract, &status, "status");
    assert_eq!(status["available_data_stores"], json!(["volume"]));
    assert_eq!(status["indexing"]["progress"]["indexing_step"], "completed");
    assert_eq!(status["indexing"]["coordination_state"], Value::Null);
    assert_eq!(status["pv_interface_status"]["number_of_data_products_on_pv"], 14);
    assert_eq!(status["metadata_store_status"]["number_of_dataproducts"], 14);
    assert_eq!(status["metadata_store_status"]["store_type"], "In memory volume index metadata store");
    assert_eq!(status["metadata_store_status"]["db_status"], json!({"configured": false, "running": false}));
    assert_eq!(status["search_store_status"]["metadata_search_store_in_use"], "In memory search store");
    let started = status["startup_time"].as_str().expect("a time");
    assert!(started.ends_with("+00:00") && started.len() == "2026-05-21T08:48:00.626127+00:00".len(), "{started}");
}

/// Every key of `contract` is in `actual`, with a value of the same kind.
fn same_shape(contract: &Value, actual: &Value, at: &str) {
    match (contract, actual) {
        (Value::Object(contract), Value::Object(actual)) => {
            for (key, value) in contract {
                same_shape(value, actual.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing")), key);
            }
        }
        _ => assert_eq!(std::mem::discriminant(contract), std::mem::discriminant(actual), "{at}: {actual}"),
    }
}

#[test]
fn failing_files_are_listed_with_their_reasons() {
    let failing = tests::wait_for("the failing files", || {
        let failing = SAMPLE.status()["indexing"]["failing"].clone();
        (failing["count"] == 2).then_some(failing)
    });
    assert_eq!(failing["first"][0]["path"], "eb-archive-20230519-00023/ska-data-product.yaml");
    assert!(failing["first"][0]["error"].as_str().expect("an error").contains("execution_block"));
    assert_eq!(failing["first"][1]["path"], "eb-lowtest-20240117-00066/ska-data-product.yaml");
    assert!(failing["first"][1]["error"].as_str().expect("an error").contains("line 6"));
    assert!(failing["first"][1]["since"].as_str().expect("a time").ends_with("+00:00"));
}

#[test]
fn a_search_answers_rows_newest_first() {
    let rows = SAMPLE.search(&[]);
    assert_eq!(rows.len(), 14);
    let dates = fields(&rows, "date_created");
    assert!(dates.is_sorted_by(|a, b| a >= b), "{dates:?}");
    assert_eq!(dates.last().map(String::as_str), Some("1970-01-01"));
    let row = &rows[0];
    let keys: Vec<&String> = row.as_object().expect("a row").keys().take(5).collect();
    assert_eq!(keys, ["id", "uid", "execution_block", "date_created", "dataproduct_file"]);
    let ids: std::collections::HashSet<u64> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
    assert_eq!(ids.len(), rows.len());
    // Without dates a search begins in 2020.
    assert_eq!(SAMPLE.post("/dataproductsearch", &json!({})).json().as_array().map(Vec::len), Some(13));
}

#[test]
fn a_row_is_flat_metadata_and_the_fixed_fields() {
    let rows = SAMPLE.search(&["crc:12345e10"]);
    let [row] = rows.as_slice() else { panic!("one row, not {rows:?}") };
    let folder = "eb-pointing-20240303-00219/ska-sdp/pb-pointing-20240303-00219/scan1-5";
    assert_eq!(row["uid"], "326d83eb-aace-7423-5f94-179f2fdbbaa8");
    assert_eq!(row["execution_block"], "eb-pointing-20240303-00219");
    assert_eq!(row["date_created"], "2024-03-03");
    assert_eq!(row["dataproduct_file"], folder);
    assert_eq!(row["metadata_file"], format!("{folder}/ska-data-product.yaml"));
    assert_eq!(row["metadata_store_name"], "volume");
    assert_eq!(row["status"], "done");
    assert_eq!(row["config.processing_script"], "pointing-offset");
    assert_eq!(row["files"][0]["crc"], "12345e10");
    assert!(row.as_object().expect("a row").values().all(|value| !value.is_null()));
    // The size is measured in the background.
    let bytes: u64 = std::fs::read_dir(sample().join(folder))
        .expect("the folder")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
        .sum();
    tests::wait_for("the size", || (SAMPLE.search(&["crc:12345e10"])[0]["size"] == bytes).then_some(()));
}

#[test]
fn pairs_join_and_exact_matches_come_first() {
    let blocks = |pairs: &[&str]| fields(&SAMPLE.search(pairs), "execution_block");
    assert_eq!(blocks(&["processing_block:pb-contimg-20251130-00404"]), ["eb-contimg-20251130-00404"]);
    assert_eq!(blocks(&["execution_block:EB-DELAYCAL"]).len(), 2);
    assert_eq!(blocks(&["status:done", "processing_script:vis-receive", "execution_block:m005"]).len(), 1);
    assert!(blocks(&["processing_block:pb-contimg", "execution_block:eb-m005"]).is_empty());
    // A value may hold colons.
    assert!(blocks(&["interface:http://schema.skao.int"]).len() > 10);
    let volume = Volume::new();
    volume.product("a", "eb-a-20240101-1", "x: vis");
    volume.product("b", "eb-b-20250101-1", "x: vis-receive");
    let server = Server::start(volume.path());
    assert_eq!(fields(&server.search(&["x:VIS"]), "dataproduct_file"), ["a", "b"]);
}

#[test]
fn dates_bound_a_search() {
    let count = |body: Value| SAMPLE.post("/dataproductsearch", &body).json().as_array().map(Vec::len);
    assert_eq!(count(json!({"start_date": "2024-03-03", "end_date": "2024-03-03"})), Some(1));
    assert_eq!(count(json!({"start_date": "2100-01-01"})), Some(0));
    assert_eq!(count(json!({"end_date": "1970-01-01", "start_date": "1970-01-01"})), Some(1));
}

#[test]
fn filters_page_sort_and_count() {
    let answer = SAMPLE.filter(&json!({"page": 0, "pageSize": 5}));
    assert_eq!((&answer["total"], &answer["page"], &answer["pageSize"]), (&json!(14), &json!(0), &json!(5)));
    let mut seen = Vec::new();
    for page in 0..3 {
        let sort = json!([{"field": "execution_block", "sort": "asc"}]);
        let answer = SAMPLE.filter(&json!({"page": page, "pageSize": 5, "sortModel": sort}));
        seen.extend(fields(answer["data"].as_array().expect("rows"), "execution_block"));
    }
    assert_eq!(seen.len(), 14);
    assert!(seen.is_sorted());
    let answer = SAMPLE.filter(&json!({"page": 1000, "pageSize": 100}));
    assert_eq!((answer["total"].as_u64(), answer["data"].as_array().map(Vec::len)), (Some(14), Some(0)));
    let one = json!({"filterModel": {"items": [{"field": "status", "operator": "equals", "value": "failure"}]}});
    assert_eq!(
        fields(SAMPLE.filter(&one)["data"].as_array().expect("rows"), "execution_block"),
        ["eb-contimg-20251130-00404"]
    );
    let store =
        json!({"filterModel": {"items": [{"field": "metadata_store_name", "operator": "equals", "value": "volume"}]}});
    assert_eq!(SAMPLE.filter(&store)["total"], 14);
    let panel = json!({"searchPanelOptions": {"items": [
        {"field": "formFields", "keyPairs": [{"keyPair": "processing_script", "valuePair": "pointing"}]},
        {"field": "date_created", "operator": "greaterThan", "value": "2024-01-01"}]}});
    assert_eq!(SAMPLE.filter(&panel)["total"], 1);
    let number = json!({"filterModel": {"items": [{"field": "obscore.calib_level", "operator": ">=", "value": "2"}]}});
    let rows = SAMPLE.filter(&number)["data"].as_array().expect("rows").clone();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["obscore.calib_level"].as_i64() >= Some(2)));
}

#[test]
fn metadata_is_nested_and_true_to_the_file() {
    let answer = SAMPLE.post("/dataproductmetadata", &json!({"uid": "326d83eb-aace-7423-5f94-179f2fdbbaa8"}));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["config"]["processing_script"], "pointing-offset");
    assert_eq!(answer.json()["files"][0]["crc"], "12345e10");
    // By execution block: the product nearest to the storage path.
    let answer = SAMPLE.post("/dataproductmetadata", &json!({"execution_block": "eb-holography-20230406-00007"}));
    assert_eq!(answer.json()["files"][0]["path"], "./summary.txt");
    // What a caller says of the store is a hint.
    let hinted =
        json!({"uid": "326d83eb-aace-7423-5f94-179f2fdbbaa8", "data_store": "dlm", "metadata_store_name": "x"});
    assert_eq!(SAMPLE.post("/dataproductmetadata", &hinted).status, 200);
}

#[test]
fn columns_and_labels_cover_what_occurs() {
    let columns = SAMPLE.get_json("/muidatagridconfig");
    assert_eq!(column(&columns, "execution_block")["width"], 250);
    assert_eq!(column(&columns, "context.notes")["hide"], false);
    assert_eq!(column(&columns, "date_created")["type"], "date");
    assert_eq!(column(&columns, "obscore.s_ra")["type"], "number");
    assert_eq!(column(&columns, "obscore.target_name")["hide"], true);
    let operators = column(&columns, "obscore.s_ra")["filterOperators"].as_array().expect("operators").clone();
    assert!(operators.contains(&json!({"value": ">="})));
    assert!(operators.contains(&json!({"value": "isEmpty", "requiresFilterValue": false})));
    let labels = SAMPLE.get_json("/en/humanreadable");
    for field in columns["columns"].as_array().expect("columns") {
        assert!(labels[field["field"].as_str().expect("a field")].is_string(), "{field}");
    }
    assert!(labels["_tooltip"]["obscore.s_ra"].as_str().expect("a tooltip").contains("right ascension"));
}

#[test]
fn the_documentation_is_served_offline() {
    let document = SAMPLE.get_json("/openapi.json");
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let page = SAMPLE.get("/docs");
    assert!(page.header("content-type").starts_with("text/html"));
    let page = String::from_utf8(page.body).expect("text");
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs the network");
    for file in ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js"] {
        assert!(page.contains(file));
        assert_eq!(SAMPLE.get(&format!("/{file}")).status, 200);
    }
    assert_eq!(SAMPLE.get("/docs/../Cargo.toml").status, 404);
}

#[test]
fn annotations_say_that_they_need_postgresql() {
    let message = json!({"status": "Received but not processed",
        "message": "PostgresSQL is not available, cannot access data annotations."});
    let body = json!({"data_product_uid": "326d83eb-aace-7423-5f94-179f2fdbbaa8", "annotation_text": "x"});
    let saved = SAMPLE.post("/annotation", &body);
    assert_eq!((saved.status, saved.json()), (503, message.clone()));
    let listed = SAMPLE.get("/annotations/326d83eb-aace-7423-5f94-179f2fdbbaa8");
    assert_eq!((listed.status, listed.json()), (202, message));
}

#[test]
fn restricted_products_are_nowhere() {
    let uid = "acf466aa-885a-954e-9c9f-15bed7c2f194";
    let block = "eb-survey-20260115-00150";
    assert!(SAMPLE.search(&[&format!("execution_block:{block}")]).is_empty());
    let filter =
        json!({"filterModel": {"items": [{"field": "execution_block", "operator": "contains", "value": "survey"}]}});
    assert_eq!(SAMPLE.filter(&filter)["total"], 0);
    for path in ["/dataproductmetadata", "/download"] {
        assert_eq!(SAMPLE.post(path, &json!({"uid": uid})).status, 404, "{path}");
        assert_eq!(SAMPLE.post(path, &json!({"execution_block": block})).status, 404, "{path}");
    }
    // Keys that only a restricted product has are no columns, and a restricted product is in no archive of another.
    let volume = Volume::new();
    volume.product("eb", "eb-a-20240101-1", "open: 1");
    volume.product("eb/inner", "eb-a-20240101-1", "secret: 1\ncontext: {access_group: staff}");
    volume.write("eb/inner/data", "secret");
    let server = Server::start(volume.path());
    assert_eq!(server.folders(), ["eb"]);
    assert!(!server.get_json("/muidatagridconfig").to_string().contains("secret"));
    assert!(!server.get_json("/en/humanreadable").to_string().contains("secret"));
    let tar = server.post("/download", &json!({"execution_block": "eb-a-20240101-1"}));
    assert_eq!(tar.status, 200);
    assert!(!String::from_utf8_lossy(&tar.body).contains("secret"));
}

#[test]
fn archives_leave_out_what_nobody_knows_the_access_of() {
    let volume = Volume::new();
    let block = "eb-a-20240101-1";
    volume.product("eb", block, "");
    volume.product("eb/hidden", block, "context: {access_group: staff}");
    volume.write("eb/hidden/data", "secret");
    volume.product("eb/hidden/open", block, "");
    volume.write("eb/hidden/open/data", "public");
    // Never read well, so that nobody knows who may see it.
    volume.product("eb/broken", block, "context: {access_group: staff}\n  [");
    volume.write("eb/broken/data", "secret");
    // No product, whatever is in it.
    volume.product("eb/vis.ms", block, "");
    volume.write("eb/vis.ms/data", "table");
    let server = Server::start(volume.path());
    let answer = server.post("/download", &json!({"execution_block": block}));
    let archive = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200);
    assert!(!archive.contains("secret") && archive.contains("public") && archive.contains("table"));
}

#[test]
fn bad_input_gets_a_clear_error() {
    let uid = json!("00000000-0000-0000-0000-000000000000");
    for (path, body, status) in [
        ("/dataproductsearch", json!({"key_value_pairs": ["novalue"]}), 400),
        ("/dataproductsearch", json!({"start_date": "yesterday"}), 400),
        ("/dataproductsearch", json!([]), 400),
        (
            "/filterdataproducts",
            json!({"filterModel": {"items": [{"field": "a", "operator": "like", "value": "x"}]}}),
            400,
        ),
        (
            "/filterdataproducts",
            json!({"filterModel": {"items": [{"field": "a", "operator": ">", "value": "x"}]}}),
            400,
        ),
        ("/filterdataproducts", json!({"pageSize": "many"}), 400),
        ("/filterdataproducts", json!({"filterModel": {"items": vec![json!({}); 501]}}), 400),
        ("/filterdataproducts", json!(null), 400),
        ("/download", json!({}), 400),
        ("/download", json!({"uid": "not-a-uuid"}), 400),
        ("/download", json!({"uid": uid}), 404),
        ("/download", json!({"execution_block": "eb-none-20240101-1"}), 404),
        ("/dataproductmetadata", json!({}), 400),
        ("/dataproductmetadata", json!({"uid": 5}), 400),
        ("/dataproductmetadata", json!({"uid": uid}), 404),
        ("/ingestnewdataproduct", json!({}), 400),
        ("/ingestnewdataproduct", json!({"execution_block": 5}), 400),
        ("/ingestnewdataproduct", json!({"execution_block": "/etc"}), 400),
        ("/ingestnewdataproduct", json!({"execution_block": "eb", "relativePathName": "../.."}), 400),
        ("/ingestnewdataproduct", json!({"execution_block": "eb-none-20240101-1"}), 404),
        ("/ingestnewdataproduct", json!({"execution_block": "eb-lowtest-20240117-00066"}), 422),
        ("/ingestnewmetadata", json!([]), 400),
        ("/ingestnewmetadata", json!({"execution_block": null}), 422),
        ("/ingestnewmetadata", json!({}), 422),
        ("/annotation", json!({}), 400),
        ("/annotation", json!({"data_product_uid": "x"}), 400),
        ("/nothing", json!({}), 404),
        ("/status", json!({}), 405),
    ] {
        let answer = SAMPLE.post(path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {}", String::from_utf8_lossy(&answer.body));
        let detail = answer.json()["detail"].clone();
        assert!(
            detail.as_str().is_some_and(|detail| !detail.is_empty() && !detail.contains("/work")),
            "{path}: {detail}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    assert_eq!(
        SAMPLE.post("/dataproductsearch", &json!({"key_value_pairs": ["x"]})).json()["detail"],
        "Invalid search key pair."
    );
    let detail = SAMPLE.post("/ingestnewdataproduct", &json!({"execution_block": "eb-lowtest-20240117-00066"})).json();
    assert!(detail["detail"].as_str().expect("a detail").contains("line 6, column"), "{detail}");
    assert_eq!(SAMPLE.post("/status", &json!({})).header("allow"), "GET, HEAD");
}

#[test]
fn bodies_that_are_no_json_are_refused_everywhere() {
    for path in [
        "/dataproductsearch",
        "/filterdataproducts",
        "/download",
        "/dataproductmetadata",
        "/ingestnewdataproduct",
        "/ingestnewmetadata",
        "/annotation",
    ] {
        let deep = "[".repeat(100_000);
        for body in ["", "{", "not json", "{\"a\": NaN}", "\u{0}", deep.as_str()] {
            let answer = SAMPLE.post_bytes(path, body.as_bytes());
            assert_eq!(answer.status, 400, "{path} {body:.20}");
            assert!(answer.json()["detail"].is_string());
        }
        let large = vec![b' '; 17 * 1024 * 1024];
        let answer = SAMPLE.post_bytes(path, &large);
        assert_eq!(answer.status, 413, "{path}");
        assert!(answer.json()["detail"].is_string());
    }
}

#[test]
fn compressed_bodies_are_415_and_content_types_do_not_matter() {
    use std::io::Write;
    let ask = |header: &str| {
        let mut stream = SAMPLE.connect();
        let head = format!(
            "POST /dataproductsearch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n{header}\r\n\r\n{{}}"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        tests::program::read_all(&stream, tests::PATIENCE)
    };
    assert!(ask("Content-Encoding: gzip").starts_with("HTTP/1.1 415"));
    assert!(ask("Content-Type: text/plain").starts_with("HTTP/1.1 200"));
    let long = format!("X-Long: {}", "x".repeat(64 * 1024));
    let answer = ask(&long);
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("detail"), "{answer:.200}");
}

#[test]
fn browsers_may_call_from_the_dashboard_alone() {
    use std::io::Write;
    let ask = |method: &str, origin: &str| {
        let mut stream = SAMPLE.connect();
        let head = format!(
            "{method} /status HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        tests::program::read_all(&stream, tests::PATIENCE).to_lowercase()
    };
    for method in ["GET", "OPTIONS"] {
        let answer = ask(method, "http://localhost:8100");
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(answer.contains("access-control-allow-origin: http://localhost:8100\r\n"), "{answer}");
        assert!(answer.contains("access-control-allow-credentials: true"));
        assert!(!ask(method, "http://elsewhere").contains("access-control-allow-origin"));
    }
    assert!(ask("GET", "http://elsewhere").starts_with("http/1.1 200"));
}

#[test]
fn a_root_path_is_answered_with_and_without() {
    let volume = Volume::new();
    let mut command = serve(volume.path());
    command.env("API_ROOT_PATH", "/dataproducts/api/");
    let server = Server::with(command, true);
    assert_eq!(server.get("/status").status, 200);
    assert_eq!(server.get("/dataproducts/api/status").status, 200);
    assert_eq!(server.get("/dataproducts/status").status, 404);
    assert_eq!(server.get_json("/openapi.json")["servers"], json!([{"url": "/dataproducts/api"}]));
}

#[test]
fn reindexing_is_asked_for_and_refused_while_one_runs() {
    let volume = Volume::new();
    for n in 0..2000 {
        volume.product(&format!("eb-{n}"), &format!("eb-x-20240101-{n}"), "");
    }
    let mut command = serve(volume.path());
    command.env("INDEXING_PARALLEL_WORKERS", "1");
    let server = Server::with(command, false);
    // The walk at start counts as one that runs; either it or the one asked for is met.
    let mut answers = Vec::new();
    while !(answers.contains(&202) && answers.contains(&409)) && answers.len() < 2000 {
        let answer = if answers.len() % 2 == 0 {
            server.get("/reindexdataproducts")
        } else {
            server.post_bytes("/reindexdataproducts", b"")
        };
        if answer.status == 202 {
            assert_eq!(answer.json(), json!("Metadata re-index request has been added to the background tasks"));
        }
        answers.push(answer.status);
    }
    assert!(answers.contains(&202) && answers.contains(&409), "{answers:?}");
    tests::wait_for("the reindex", || {
        let progress = server.status()["indexing"]["progress"].clone();
        (progress["indexing_step"] == "completed" && progress["files_skipped"] == 2000).then_some(())
    });
}

#[test]
fn ingested_products_are_as_scanned_ones() {
    let volume = Volume::new();
    volume.product("eb-a-20240101-1/sub", "eb-a-20240101-1", "x: 1");
    let mut command = serve(volume.path());
    // Only what is announced is found meanwhile.
    command.env("DPD_WATCH", "poll");
    let server = Server::with(command, true);
    let scanned = server.search(&[])[0]["uid"].clone();
    let last = volume.path().file_name().and_then(|name| name.to_str()).expect("a name");
    for path in
        ["eb-a-20240101-1/sub".to_owned(), format!("{last}/eb-a-20240101-1/sub"), "./eb-a-20240101-1//sub/".to_owned()]
    {
        let answer = server
            .post("/ingestnewdataproduct", &json!({"execution_block": "eb-a-20240101-1", "relativePathName": path}));
        assert_eq!((answer.status, &answer.json()["uid"]), (201, &scanned), "{path}");
        assert_eq!(answer.json()["message"], "New data product received and search store index updated");
    }
    assert_eq!(server.folders().len(), 1);
    volume.product("eb-b-20240101-1", "eb-b-20240101-1", "");
    assert_eq!(server.post("/ingestnewdataproduct", &json!({"execution_block": "eb-b-20240101-1"})).status, 201);
    assert_eq!(server.folders(), ["eb-a-20240101-1/sub", "eb-b-20240101-1"]);
    let wrong = json!({"execution_block": "eb-b-20240101-1", "relativePathName": "eb-a-20240101-1/sub"});
    assert_eq!(server.post("/ingestnewdataproduct", &wrong).status, 400);
    volume.product("vis.ms", "eb-c-20240101-1", "");
    let pruned = json!({"execution_block": "eb-c-20240101-1", "relativePathName": "vis.ms"});
    assert_eq!(server.post("/ingestnewdataproduct", &pruned).status, 400);
    std::os::unix::fs::symlink("/etc", volume.at("out")).expect("a link");
    let out = json!({"execution_block": "eb-d", "relativePathName": "out"});
    assert_eq!(server.post("/ingestnewdataproduct", &out).status, 400);
}

#[test]
fn ingested_metadata_is_a_product_without_files() {
    let volume = Volume::new();
    let server = Server::start(volume.path());
    let body = json!({"execution_block": "eb-test-20240806-99999", "context": {"observer": "first"}});
    let answer = server.post("/ingestnewmetadata", &body);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["message"], "New data product metadata received and saved in the DPD datastore.");
    assert_eq!(answer.json()["uid"], "1f8250d0-0e2f-2269-1d9a-ad465ae15d5c");
    let again = json!({"execution_block": "eb-test-20240806-99999", "context": {"observer": "second"}});
    assert_eq!(server.post("/ingestnewmetadata", &again).status, 201);
    let rows = server.search(&[]);
    let [row] = rows.as_slice() else { panic!("one row, not {rows:?}") };
    assert_eq!((&row["dataproduct_file"], &row["metadata_file"]), (&json!("None"), &json!("None")));
    assert_eq!(row["context.observer"], "second");
    assert_eq!(server.post("/download", &json!({"execution_block": "eb-test-20240806-99999"})).status, 404);
    // It survives a reindex.
    assert_eq!(server.get("/reindexdataproducts").status, 202);
    tests::wait_for("the reindex", || (server.post_bytes("/reindexdataproducts", b"").status == 202).then_some(()));
    assert_eq!(server.search(&[]).len(), 1);
}
