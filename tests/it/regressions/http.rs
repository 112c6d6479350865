//! HTTP to the letter: requests in unusual forms, bodies in unusual encodings, and answers that clients take at their word.

use crate::daemons::Site;
use crate::hardening::both;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::PathBuf;
use tests::dlm;
use tests::etcd::{self, Etcd};
use tests::postgres::Postgres;
use tests::program::{Answer, Daemons, Server, read_all, serve};
use tests::proxy::Proxy;
use tests::volume::Volume;

const BLOCK: &str = "eb-a-20240101-1";

/// What comes for bytes that are sent as they are: the status, the head and the body.
fn told(server: &Server, bytes: &str) -> (u16, String, String) {
    let mut stream = server.connect();
    stream.write_all(bytes.as_bytes()).expect("sent");
    let answer = read_all(&stream, tests::PATIENCE);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{bytes:?}: no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{bytes:?}: {head}")), head.to_ascii_lowercase(), body.to_owned())
}

/// An answer whose redirects are not followed.
fn unfollowed(server: &Server, method: &str, path: &str) -> (u16, String, String) {
    told(
        server,
        &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"),
    )
}

#[test]
fn requests_in_every_form_are_answered() {
    let site = Site::new();
    let (indexer, api) = site.daemons.pair();
    let standalone = Server::start(site.volume.path());
    let end = "Connection: close\r\n\r\n";
    for server in [&api, &standalone, &indexer] {
        for (request, status) in [
            (format!("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n{end}"), 501),
            (format!("CONNECT [::1]:443 HTTP/1.1\r\nHost: localhost\r\n{end}"), 501),
            (format!("GET example.org:443 HTTP/1.1\r\nHost: localhost\r\n{end}"), 400),
            (format!("GET * HTTP/1.1\r\nHost: localhost\r\n{end}"), 400),
            (format!("GET http://example.org/livez HTTP/1.1\r\nHost: localhost\r\n{end}"), 200),
            (format!("GET http://example.org/nothing HTTP/1.1\r\nHost: localhost\r\n{end}"), 404),
            (format!("GET /livez HTTP/1.1\r\n{end}"), 400),
            (format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{end}"), 400),
            (format!("GET /livez HTTP/1.1\r\nHost: a b\r\n{end}"), 400),
            ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), 200),
        ] {
            let (answered, head, body) = told(server, &request);
            assert_eq!(answered, status, "{request}: {head} {body}");
            let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{request}: {error}: {body}"));
            assert_eq!(body["detail"].is_string(), status >= 400, "{request}: {body}");
            assert!(
                head.contains("content-type: application/json") && head.contains("\r\ndate: "),
                "{request}: {head}"
            );
        }
        let (status, _, body) = told(server, &format!("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n{end}"));
        assert!(status == 200 || serde_json::from_str::<Value>(&body).is_ok_and(|body| body["detail"].is_string()));
        assert!(!server.log().contains("panicked"), "{}", server.log());
        assert_eq!(server.get("/livez").status, 200);
        // That there is no name is a name, though none of loopback's.
        let expected = if std::ptr::eq(server, &standalone) { 421 } else { 200 };
        assert_eq!(told(server, &format!("GET /livez HTTP/1.1\r\nHost:\r\n{end}")).0, expected);
    }
}

#[test]
fn paths_are_found_with_a_slash_and_in_any_encoding() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.write("eb/a%41b", "percent");
    let mut command = serve(volume.path());
    command.env("API_ROOT_PATH", "/data/products");
    let server = Server::with(command, true);
    let uid = server.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    for (method, path, location) in [
        ("POST", "/dataproductsearch/".to_owned(), "../dataproductsearch"),
        ("GET", "/data/products/status/".to_owned(), "../status"),
        ("GET", "/docs/".to_owned(), "../docs"),
        ("GET", format!("/products/{uid}/files/?page=1&x=/"), "../files?page=1&x=/"),
        ("GET", "/data/products".to_owned(), "/data/products/docs"),
        ("GET", "/data/products/".to_owned(), "/data/products/docs"),
        ("GET", "/".to_owned(), "/data/products/docs"),
    ] {
        let (status, head, _) = unfollowed(&server, method, &path);
        assert_eq!(status, 307, "{method} {path}: {head}");
        assert!(head.contains(&format!("\r\nlocation: {location}\r\n")), "{method} {path}: {head}");
    }
    assert_eq!(server.get("/docs/").status, 200);
    assert_eq!(server.get("/data/products").status, 200);
    for (path, status) in [
        ("/nothing/".to_owned(), 404),
        ("//".to_owned(), 404),
        (format!("/products/{uid}/files/ska-data-product.yaml/"), 404),
        ("/st%61tus".to_owned(), 200),
        ("/d%61ta/product%73/%73tatus".to_owned(), 200),
        ("/en%2Fhumanreadable".to_owned(), 404),
        ("/st%2561tus".to_owned(), 404),
        (format!("/download/{}", uid.replace('-', "%2D")), 200),
        // A name on the volume is decoded once.
        (format!("/products/{uid}/files/a%2541b"), 200),
        (format!("/products/{uid}/files/a%41b"), 404),
        (format!("/%70roducts/{uid}/files/%61%2541b"), 200),
    ] {
        let (answered, head, _) =
            told(&server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!(answered, status, "{path}: {head}");
    }
    let without = Server::start(volume.path());
    let (status, head, _) = unfollowed(&without, "GET", "/");
    assert!(status == 307 && head.contains("\r\nlocation: docs\r\n"), "{head}");
}

#[test]
fn a_page_of_no_rows_has_none() {
    for running in both(|volume| volume.product("eb", BLOCK, ""), &[]) {
        for page in [0, 3] {
            let answer = running.api.filter(&json!({"page": page, "pageSize": 0}));
            assert_eq!(answer, json!({"data": [], "total": 1, "page": page, "pageSize": 0}));
        }
    }
}

fn metadata(api: &Server, uid: &Value) -> Value {
    api.post("/dataproductmetadata", &json!({"uid": uid})).json()
}

#[test]
fn numbers_of_any_size_stay_what_they_are() {
    let (v, w) = ("18446744073709551616", "-9223372036854775809");
    let body =
        format!(r#"{{"execution_block": "eb-j-20240101-2", "v": {v}, "w": {w}, "l": [{v}, 1e400, {}]}}"#, u64::MAX);
    for running in both(|volume| volume.product("eb", BLOCK, &format!("v: {v}\nw: {w}\nl: [1.0e+400]")), &[]) {
        let api = &running.api;
        let answer = api.post_bytes("/ingestnewmetadata", body.as_bytes());
        assert_eq!(answer.status, 201);
        let ingested = metadata(api, &answer.json()["uid"]);
        assert_eq!((&ingested["v"], &ingested["w"]), (&json!(v), &json!(w)));
        assert_eq!(ingested["l"], json!([v, "1e400", u64::MAX]));
        // A search asks for the same in the same way, and finds what is on the volume as well.
        assert_eq!(api.search(&[&format!("v:{v}"), &format!("w:{w}")]).len(), 2);
        for (value, total) in [(v, 2), (&v.replace('6', "7"), 0)] {
            let items = format!(
                r#"{{"filterModel": {{"items": [{{"field": "v", "operator": "equals", "value": {value}}}]}}}}"#
            );
            assert_eq!(api.post_bytes("/filterdataproducts", items.as_bytes()).json()["total"], total, "{value}");
        }
        assert_eq!(api.post_bytes("/filterdataproducts", format!(r#"{{"page": {v}}}"#).as_bytes()).status, 400);
    }
}

#[test]
fn bodies_are_read_in_the_encodings_that_python_reads() {
    let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let utf32 = |text: &str, unit: fn(u32) -> [u8; 4]| text.chars().map(u32::from).flat_map(unit).collect::<Vec<u8>>();
    for running in both(|_| (), &[]) {
        let text = r#"{"execution_block": "eb-é-20240101-1", "x": "😀"}"#;
        let marked = format!("\u{feff}{text}");
        for body in [
            marked.clone().into_bytes(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
            utf32(&marked, u32::to_le_bytes),
            utf32(text, u32::to_be_bytes),
        ] {
            let answer = running.api.post_bytes("/ingestnewmetadata", &body);
            assert_eq!(answer.status, 201, "{body:?}: {}", answer.json());
            assert_eq!(metadata(&running.api, &answer.json()["uid"])["x"], "😀", "{body:?}");
        }
        let search =
            running.api.post_bytes("/dataproductsearch", &utf16(r#"{"key_value_pairs": ["x:😀"]}"#, u16::to_le_bytes));
        assert_eq!((search.status, search.json().as_array().map(Vec::len)), (200, Some(1)));
        for bad in [&b"\xff\xfe{"[..], b"\xef\xbb\xbf", b"\xff", b"\xff\xfe\x00\xd8"] {
            let answer = running.api.post_bytes("/dataproductsearch", bad);
            assert!(answer.status == 400 && answer.json()["detail"].is_string(), "{bad:?}");
        }
    }
}

#[test]
fn an_older_grid_is_understood() {
    let fill = |volume: &Volume| {
        volume.product("one", BLOCK, "x: one");
        volume.product("two", BLOCK, "x: two");
    };
    for running in both(fill, &[]) {
        let item = |value: &str| json!({"id": 1, "columnField": "x", "operatorValue": "contains", "value": value});
        let total = |model: Value| running.api.filter(&json!({"filterModel": model}))["total"].clone();
        assert_eq!(total(json!({"items": [item("one")]})), 1);
        assert_eq!(total(json!({"items": [item("one"), item("two")], "linkOperator": "or"})), 2);
        assert_eq!(total(json!({"items": [item("one"), item("two")], "linkOperator": "and"})), 0);
    }
}

fn blocks(answer: &Value) -> Vec<String> {
    let rows = answer["data"].as_array().expect("rows");
    rows.iter().map(|row| row["execution_block"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn pages_follow_on_each_other_through_any_process() {
    let site = Site::new();
    for n in 1..=5 {
        site.volume.product(&format!("eb-{n}"), &format!("eb-a-2024010{n}-1"), "");
    }
    let (_indexer, one) = site.daemons.pair();
    let other = site.daemons.api();
    let first = one.filter(&json!({"page": 0, "pageSize": 2}));
    assert_eq!(blocks(&first), ["eb-a-20240105-1", "eb-a-20240104-1"]);
    // The newest come first, and push all others on.
    for n in 6..=7 {
        site.volume.product(&format!("eb-{n}"), &format!("eb-a-2024010{n}-1"), "");
    }
    tests::wait_for("all of them", || (other.search(&[]).len() == 7).then_some(()));
    let token = &first["nextPageToken"];
    let second = other.filter(&json!({"page": 1, "pageSize": 2, "pageToken": token}));
    assert_eq!(blocks(&second), ["eb-a-20240103-1", "eb-a-20240102-1"]);
    assert_eq!((&second["total"], &second["page"]), (&json!(7), &json!(1)));
    // The token alone says which page is the next.
    let third = other.filter(&json!({"pageSize": 2, "pageToken": second["nextPageToken"]}));
    assert_eq!((blocks(&third), &third["page"]), (vec!["eb-a-20240101-1".to_owned()], &json!(2)));
    assert_eq!(third.get("nextPageToken"), None);
    // Without it, pages are counted off.
    assert_eq!(blocks(&other.filter(&json!({"page": 1, "pageSize": 2}))), ["eb-a-20240105-1", "eb-a-20240104-1"]);
    for (bad, why) in [
        (json!({"page": 1, "pageSize": 3, "pageToken": token}), "page size"),
        (json!({"page": 1, "pageSize": 2, "pageToken": "made up"}), "none that was given"),
        (json!({"page": 1, "pageSize": 2, "pageToken": 5}), "string"),
    ] {
        let answer = other.post("/filterdataproducts", &bad);
        assert_eq!(answer.status, 400, "{bad}");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(why)),
            "{bad}: {}",
            answer.json()
        );
    }
}

#[test]
fn a_connection_is_kept_as_long_as_it_may_idle() {
    for running in both(|_| (), &[("DPD_IDLE_SECONDS", "1")]) {
        let mut stream = running.api.connect();
        for _ in 0..2 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(br#"{"status":"ok"}"#) {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("an answer");
                answer.extend(byte);
            }
        }
        // It ends in good order: no reset, which would be an error.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("its end");
        // Who has begun a request has longer.
        let mut begun = running.api.connect();
        begun.write_all(b"GET /livez HTTP/1.1\r\nHost:").expect("sent");
        let idle = running.api.connect();
        assert_eq!(read_all(&idle, tests::PATIENCE), "");
        begun.write_all(b" localhost\r\nConnection: close\r\n\r\n").expect("sent");
        assert!(read_all(&begun, tests::PATIENCE).starts_with("HTTP/1.1 200 OK"));
    }
}

#[test]
fn the_name_of_a_download_leads_nowhere() {
    for running in both(|volume| volume.product("eb", "../../etc/x-20240101-1", ""), &[]) {
        let answer = running.api.post("/download", &json!({"execution_block": "../../etc/x-20240101-1"}));
        let disposition = answer.header("content-disposition");
        assert_eq!((answer.status, disposition), (200, "attachment; filename=\".._.._etc_x-20240101-1.tar\""));
    }
}

/// What `libfaketime` is, as `tests/prepare` installs it.
fn faketime() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/faketime/usr/lib");
    let folders = [PathBuf::from("/usr/lib"), own].into_iter().filter_map(|folder| folder.read_dir().ok()).flatten();
    let files = folders.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    files.into_iter().find(|file| file.exists()).expect("libfaketime: run `make test`")
}

#[test]
fn the_date_of_answers_follows_the_clock() {
    let (volume, settings) = (Volume::new(), Volume::new());
    let mut command = serve(volume.path());
    command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", settings.at("time"));
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    settings.write("time", "+10y\n");
    let server = Server::with(command, true);
    let year = |_| {
        let (_, head, _) = told(&server, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let date = head.lines().find(|line| line.starts_with("date: ")).expect("a date");
        date.split(' ').nth(4).and_then(|year| year.parse::<u32>().ok()).unwrap_or_else(|| panic!("{date:?}"))
    };
    // Every thread that answers is to have seen the one time, and then to tell the other.
    let years = || (0..100).map(year).collect::<BTreeSet<u32>>();
    let before = years().into_iter().min().expect("a year");
    settings.write("time", "+0\n");
    tests::wait_for("the year to be put right", || years().into_iter().all(|year| year < before - 5).then_some(()));
}

#[test]
fn labels_and_columns_are_there_without_a_database() {
    let database = Postgres::shared().database();
    let proxy = Proxy::to(Postgres::shared().port());
    let volume = Volume::new();
    volume.product("eb", BLOCK, "context: {own_key: 1}");
    let daemons = Daemons::of(volume.path(), &database.url_through(proxy.port()));
    let (_indexer, api) = daemons.pair();
    let columns = |api: &Server| {
        let columns = api.get_json("/muidatagridconfig")["columns"].as_array().expect("columns").clone();
        columns.into_iter().map(|column| column["field"].as_str().expect("a field").to_owned()).collect::<Vec<_>>()
    };
    assert!(columns(&api).contains(&"context.own_key".to_owned()));
    assert_eq!(api.get_json("/en/humanreadable")["context.own_key"], "Own Key");
    proxy.refuse(true);
    proxy.cut();
    let fixed = columns(&api);
    assert!(fixed.contains(&"execution_block".to_owned()) && !fixed.contains(&"context.own_key".to_owned()));
    let labels = api.get_json("/en/humanreadable");
    assert_eq!((&labels["download"], &labels["obscore.em_unit"]), (&json!("Download"), &json!("Spectral Unit")));
    assert_eq!(api.post("/dataproductsearch", &json!({})).status, 503);
    proxy.refuse(false);
    tests::wait_for("all columns", || columns(&api).contains(&"context.own_key".to_owned()).then_some(()));
}

#[test]
fn metadata_tell_which_product_they_are_of_wherever_it_comes_from() {
    let (etcd, site) = (Etcd::start(), Site::new());
    dlm::create(&site.database);
    let item = dlm::add(&site.database, "item", Some(&json!({"execution_block": "eb-d-20240102-1", "uid": "its own"})));
    let site = site
        .with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true")
        .with("DPD_DLM_LOOK_SECONDS", "1")
        .with("SDP_CONFIG_HOST", "127.0.0.1")
        .with("SDP_CONFIG_PORT", &etcd.port().to_string());
    site.volume.product("eb", BLOCK, "uid: mine\nmetadata_file: /etc/passwd\nx: 1");
    etcd.put(etcd::key("pb-test-20240103-00001", "flow"), etcd::value("elsewhere"));
    let (_indexer, api) = site.daemons.pair();
    assert_eq!(
        api.post("/ingestnewmetadata", &json!({"date_created": "x", "execution_block": "eb-i-20240104-1"})).status,
        201
    );
    let rows = tests::wait_for("four products", || Some(api.search(&[])).filter(|rows| rows.len() == 4));
    let path = site.volume.path().to_str().expect("a path");
    let mut folders = Vec::new();
    for row in &rows {
        let metadata = metadata(&api, &row["uid"]);
        let keys: Vec<&str> = metadata.as_object().expect("a map").keys().map(String::as_str).collect();
        assert!(keys.ends_with(&["date_created", "dataproduct_file", "metadata_file", "uid"]), "{row}: {keys:?}");
        assert_eq!((&metadata["uid"], &metadata["date_created"]), (&row["uid"], &row["date_created"]));
        let file = match metadata["dataproduct_file"].as_str().expect("a text") {
            "None" => json!("None"),
            folder => json!(format!("{folder}/ska-data-product.yaml")),
        };
        assert_eq!(metadata["metadata_file"], file, "{row}");
        folders.push(metadata["dataproduct_file"].clone());
    }
    folders.sort_by_key(Value::to_string);
    assert_eq!(folders, [json!(format!("{path}/eb")), json!("None"), json!("None"), json!("None")]);
    assert!(rows.iter().any(|row| row["uid"] == *item));
}

/// Annotations are changed by their number alone, and by nobody who may not see their product.
#[test]
fn annotations_are_changed_by_their_number() {
    let site = Site::new();
    site.products(2);
    let (_indexer, api) = site.daemons.pair();
    let [uid, other] = ["n:0", "n:1"].map(|pair| api.search(&[pair])[0]["uid"].clone());
    let path = format!("/annotations/{}", uid.as_str().expect("a uid"));
    let save = |body: &Value| -> Answer { api.post("/annotation", body) };
    assert_eq!(save(&json!({"data_product_uid": uid, "annotation_text": "first"})).status, 201);
    let id = api.get(&path).json()[0]["annotation_id"].clone();
    for (n, more) in [json!({}), json!({"data_product_uid": uid}), json!({"data_product_uid": ""})].iter().enumerate() {
        let mut body = json!({"annotation_id": id, "annotation_text": format!("changed {n}")});
        body.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
        let answer = save(&body);
        let message = "Data Annotation received and updated successfully.";
        assert_eq!((answer.status, answer.json()["message"].as_str()), (200, Some(message)), "{body}");
        assert_eq!(api.get(&path).json()[0]["annotation_text"], format!("changed {n}"));
    }
    let text = "not to be";
    let nobodys = save(&json!({"annotation_id": 4711, "annotation_text": text})).json()["detail"].clone();
    for (body, status) in [
        (json!({"annotation_id": id, "annotation_text": text, "data_product_uid": other}), 404),
        (json!({"annotation_id": id, "annotation_text": text, "data_product_uid": "no uid"}), 404),
        (json!({"annotation_id": id, "annotation_text": text, "data_product_uid": 5}), 400),
        (json!({"annotation_id": id}), 400),
        (json!({"annotation_text": text}), 400),
    ] {
        let answer = save(&body);
        assert_eq!(answer.status, status, "{body}: {}", answer.json());
        let told = answer.json()["detail"].as_str().expect("a detail").replace(&id.to_string(), "4711");
        assert!(status == 400 || nobodys == told, "{body}: {told}");
    }
    assert_eq!(api.get(&path).json().as_array().map(Vec::len), Some(1));
    assert_eq!(api.get(&path).json()[0]["annotation_text"], "changed 2");
    for none in ["not-a-uid", "00000000", "%20", "%C3%A9"] {
        let answer = api.get(&format!("/annotations/{none}"));
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{none}");
    }
}
