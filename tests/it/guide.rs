//! The HTTP guide of the service that this one replaces, request by request: what it shows is what is answered.
//!
//! Of an answer, the status, the name and the JSON type of every field are compared, and all values that do not hang on
//! where and when the example was made.

use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use tests::etcd::Etcd;
use tests::postgres::Postgres;
use tests::program::{Answer, Daemons, Server, serve};
use tests::volume::{METADATA, Volume};

/// The storage path of the guide's examples, from where the service runs.
const STORAGE_PATH: &str = "tests/test_files/product";
/// The products of the examples, by their folders.
const OBSERVED: &str = "eb-m005-20231031-12345";
const NESTED: &str = "eb-notebook-20240320-83046/pb-notebookvr-20240320-83046";
const ANNOUNCED: &str = "eb-test-20200325-00001";
/// How many fields the guide's answers show, the items of lists counted each: those of PostgreSQL and those in memory.
const FIELDS: usize = 153;

/// What the guide's examples are about.
fn volume() -> Volume {
    let volume = Volume::new();
    let folder = |product: &str| format!("{STORAGE_PATH}/{product}");
    let metadata = json!({
        "interface": "http://schema.skao.int/ska-data-product-meta/0.1",
        "execution_block": OBSERVED,
        "context": {
            "observer": "AIV_person_1",
            "intent": "Experimental run as part of XYZ-123",
            "notes": "Running that signal from XX/YY/ZZ through again, things seem a bit flaky",
        },
        "config": {
            "processing_block": "pb-m004-20191031-12345",
            "cmdline": "-dump /product/eb-m004-20191031-12345/ska-sdp/pb-m004-20191031-12345/vis.ms",
        },
        "files": [{"crc": "2a890fbe", "path": "vis.ms", "status": "done"}],
        "obscore": {
            "access_estsize": 1, "dataproduct_type": "MS", "calib_level": 0, "instrument_name": "SKA-LOW",
        },
    });
    // What is JSON is YAML too.
    volume.write(&format!("{}/{METADATA}", folder(OBSERVED)), metadata.to_string());
    for product in [NESTED, ANNOUNCED] {
        volume.product(&folder(product), product.split('/').next().unwrap_or_default(), "");
    }
    volume.write(&format!("{}/data.h5", folder(ANNOUNCED)), "measured");
    volume
}

/// Compares answers with those of the guide, and counts what it compared.
struct Guide<'a> {
    api: &'a Server,
    fields: Cell<usize>,
}

impl Guide<'_> {
    fn asked(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.api.ask(method, path, None, if body.is_null() { String::new() } else { body.to_string() }.as_bytes())
    }

    /// Asks, and compares the answer with what the guide shows. Of what stands at one of the places in `varies` only the
    /// type is compared, and the form where it is a time.
    fn shows(&self, request: (&str, &str, &Value), status: u16, shown: &Value, varies: &[&str]) -> Value {
        let (method, path, body) = request;
        let answer = self.asked(method, path, body);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {text}");
        let answered = answer.json();
        self.compare(shown, &answered, path, "", varies);
        answered
    }

    fn compare(&self, shown: &Value, answered: &Value, path: &str, at: &str, varies: &[&str]) {
        match (shown, answered) {
            (Value::Object(shown), Value::Object(answered)) => {
                for (key, value) in shown {
                    let at = format!("{at}.{key}");
                    let own = answered.get(key).unwrap_or_else(|| panic!("{path}: {at} is missing"));
                    self.fields.set(self.fields.get() + 1);
                    self.compare(value, own, path, &at, varies);
                }
            }
            (Value::Array(shown), Value::Array(answered)) => {
                assert_eq!(shown.len(), answered.len(), "{path}: {at} {answered:?}");
                for (shown, answered) in shown.iter().zip(answered) {
                    self.fields.set(self.fields.get() + 1);
                    self.compare(shown, answered, path, at, varies);
                }
            }
            _ if varies.contains(&at) => {
                let kind = std::mem::discriminant::<Value>;
                assert_eq!(kind(shown), kind(answered), "{path}: {at} is {answered} and not like {shown}");
                if shown.as_str().is_some_and(is_time) {
                    assert!(answered.as_str().is_some_and(is_time), "{path}: {at} is no time: {answered}");
                }
            }
            _ => assert_eq!(shown, answered, "{path}: {at}"),
        }
    }
}

/// Whether this is a time or a duration in the form of `/status`.
fn is_time(text: &str) -> bool {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    ["0000-00-00T00:00:00.000000+00:00", "0:00:00.000000"].contains(&form.as_str())
}

fn status() -> Value {
    json!({
        "api_running": true,
        "api_version": "0.17.0",
        "startup_time": "2026-05-21T08:48:00.626127+00:00",
        "available_data_stores": ["DLM", "SDP", "shared"],
        "indexing": {
            "in_progress": false,
            "progress": {
                "files_processed": 0,
                "total_files": 4703,
                "files_added": 0,
                "files_updated": 0,
                "files_skipped": 4703,
                "indexing_step": "completed"
            },
            "coordination_state": {
                "volume_prefix": "dpd_d4c137fbd432",
                "indexed_by": "ska-dataproduct-api-59468d6f8b-zf4l7",
                "indexing_running": false,
                "started_at": "2026-05-21T08:48:00.505781+00:00",
                "last_heartbeat": "2026-05-21T09:32:58.912691+00:00",
                "completed_at": "2026-05-21T09:32:58.912691+00:00",
                "files_indexed": 4703
            }
        },
        "pv_interface_status": {
            "metadata_store_name": "shared",
            "pv_available": true,
            "number_of_data_products_on_pv": 601,
            "last_index_duration": "0:44:58.406910",
            "index_time_modified": "2026-05-21T09:32:58.900573+00:00",
            "indexing_timeout_seconds": 21600,
            "indexing_batch_size": 100,
            "indexing_parallel_workers": 8,
            "indexing_work_unit_depth": 3,
            "last_index_run": {"timed_out": false, "work_units": 4571, "files_ingested": 0}
        },
        "metadata_store_status": {
            "store_type": "Stateless PostgreSQL metadata store",
            "db_status": {"configured": true, "running": true},
            "last_metadata_update_time": "2026-05-21T08:49:57.522388+00:00",
            "number_of_dataproducts": 601,
            "dlm_interface_enabled": true,
            "dlm_interface_status": {
                "number_of_items": 12583,
                "dlm_data_item_accessible": true,
                "dlm_tables_accessible": true,
                "dlm_tables_error": null
            }
        },
        "search_store_status": {"metadata_search_store_in_use": "PostgreSQL Search Store"},
        "sdp_config_db": {
            "connected": true,
            "watcher_connected": true,
            "description": "SDP Configuration Database (etcd) for data product flow information"
        }
    })
}

/// What of it hangs on the volume and the time.
const STATUS_VARIES: &[&str] = &[
    ".startup_time",
    ".indexing.progress.files_processed",
    ".indexing.progress.total_files",
    ".indexing.progress.files_skipped",
    ".indexing.coordination_state.volume_prefix",
    ".indexing.coordination_state.indexed_by",
    ".indexing.coordination_state.started_at",
    ".indexing.coordination_state.last_heartbeat",
    ".indexing.coordination_state.completed_at",
    ".indexing.coordination_state.files_indexed",
    ".pv_interface_status.number_of_data_products_on_pv",
    ".pv_interface_status.last_index_duration",
    ".pv_interface_status.index_time_modified",
    ".pv_interface_status.indexing_work_unit_depth",
    ".pv_interface_status.last_index_run.work_units",
    ".metadata_store_status.last_metadata_update_time",
    ".metadata_store_status.number_of_dataproducts",
    ".metadata_store_status.dlm_interface_status.number_of_items",
];

/// The guide's requests that any of the programs answers, in its order.
fn what_any_program_answers(guide: &Guide<'_>) {
    let search = json!({
        "start_date": "2000-12-12",
        "end_date": "2032-12-12",
        "key_value_pairs": ["execution_block:eb-m005-20231031-12345"]
    });
    let rows = json!([{
        "execution_block": "eb-m005-20231031-12345",
        "date_created": "2023-10-31",
        "dataproduct_file": "eb-m005-20231031-12345",
        "metadata_file": "eb-m005-20231031-12345/ska-data-product.yaml",
        "config.cmdline": "-dump /product/eb-m004-20191031-12345/ska-sdp/pb-m004-20191031-12345/vis.ms",
        "obscore.instrument_name": "SKA-LOW",
        "id": 6
    }]);
    guide.shows(("POST", "/dataproductsearch", &search), 200, &rows, &[".id"]);

    for (body, name) in [
        (json!({"execution_block": "eb-test-20200325-00001"}), ANNOUNCED),
        (json!({"uid": "a0a2a10f-e382-31ba-0949-9a79204dfcad"}), NESTED),
    ] {
        let archive = guide.asked("POST", "/download", &body);
        assert_eq!((archive.status, archive.header("content-type")), (200, "application/x-tar"), "{body}");
        let mut archive = tar::Archive::new(archive.body.as_slice());
        let paths = archive.entries().expect("entries").map(|entry| entry.expect("an entry").path_bytes().into_owned());
        let wanted = format!("{name}/{METADATA}");
        assert!(paths.into_iter().any(|path| path == wanted.as_bytes()), "{body}: {wanted}");
    }

    let metadata = json!({
        "interface": "http://schema.skao.int/ska-data-product-meta/0.1",
        "execution_block": "eb-m005-20231031-12345",
        "context": {
            "observer": "AIV_person_1",
            "intent": "Experimental run as part of XYZ-123",
            "notes": "Running that signal from XX/YY/ZZ through again, things seem a bit flaky"
        },
        "config": {"processing_block": "pb-m004-20191031-12345"},
        "files": [{"crc": "2a890fbe"}],
        "obscore": {"access_estsize": 1, "dataproduct_type": "MS", "calib_level": 0},
        "date_created": "2023-10-31",
        "dataproduct_file": "tests/test_files/product/eb-m005-20231031-12345",
        "metadata_file": "tests/test_files/product/eb-m005-20231031-12345/ska-data-product.yaml",
        "uid": "6a11ddaa-6b45-6759-47e7-a5abd5105b0e"
    });
    let body = json!({"uid": "6a11ddaa-6b45-6759-47e7-a5abd5105b0e"});
    let answered = guide.shows(("POST", "/dataproductmetadata", &body), 200, &metadata, &[]);
    let keys: Vec<&str> = answered.as_object().expect("a map").keys().map(String::as_str).collect();
    assert!(keys.ends_with(&["date_created", "dataproduct_file", "metadata_file", "uid"]), "{keys:?}");

    let body =
        json!({"execution_block": "eb-test-20200325-00001", "relativePathName": "product/eb-test-20200325-00001"});
    let ingested = json!({
        "status": "success",
        "message": "New data product received and search store index updated",
        "uid": "f0b91aa5-d54b-e11a-410e-3e4edca5346f"
    });
    // The guide's uid here is that of another folder than its storage path and its request make.
    let answered = guide.shows(("POST", "/ingestnewdataproduct", &body), 201, &ingested, &[".uid"]);
    assert_eq!(answered["uid"], "e38eb2bb-684f-de46-63ec-bd64deff6ff0");

    let ingested = json!({
        "status": "success",
        "message": "New data product metadata received and saved in the DPD datastore.",
        "uid": "1f8250d0-0e2f-2269-1d9a-ad465ae15d5c"
    });
    guide.shows(("POST", "/ingestnewmetadata", &announced_metadata()), 201, &ingested, &[]);
}

fn announced_metadata() -> Value {
    json!({
        "interface": "http://schema.skao.int/ska-data-product-meta/0.1",
        "execution_block": "eb-test-20240806-99999",
        "context": {"observer": "REST ingest", "intent": "", "notes": ""},
        "config": {
            "processing_block": "",
            "processing_script": "",
            "image": "",
            "version": "",
            "commit": "",
            "cmdline": ""
        },
        "files": [],
        "obscore": {
            "access_estsize": 0,
            "access_format": "application/unknown",
            "access_url": "0",
            "calib_level": 0,
            "dataproduct_type": "MS",
            "facility_name": "SKA",
            "instrument_name": "SKA-LOW",
            "o_ucd": "stat.fourier",
            "obs_collection": "Unknown",
            "obs_id": "eb-test-20240806-99999",
            "obs_publisher_did": "",
            "pol_states": "XX/XY/YX/YY",
            "pol_xel": 0,
            "s_dec": 0,
            "s_ra": 0.0,
            "t_exptime": 5.0,
            "t_max": 57_196.962_848_574_476,
            "t_min": 57_196.962_790_704_11,
            "t_resolution": 0.9,
            "target_name": ""
        }
    })
}

/// The guide's request for a new annotation, and the path of those of its product.
fn annotation() -> (Value, &'static str) {
    let body = json!({
        "data_product_uid": "1f8250d0-0e2f-2269-1d9a-ad465ae15d5c",
        "annotation_text": "Example annotation text message."
    });
    (body, "/annotations/1f8250d0-0e2f-2269-1d9a-ad465ae15d5c")
}

fn what_is_answered_with_postgresql(guide: &Guide<'_>) {
    let (new, path) = annotation();
    let success = |message: &str| json!({"status": "success", "message": message});
    let saved = success("New Data Annotation received and successfully saved.");
    for _ in 0..2 {
        guide.shows(("POST", "/annotation", &new), 201, &saved, &[]);
    }
    let listed = |n: i64| {
        json!({
            "annotation_id": n,
            "data_product_uid": "1f8250d0-0e2f-2269-1d9a-ad465ae15d5c",
            "annotation_text": "Example annotation text message.",
            "user_principal_name": "test.user@skao.int",
            "timestamp_created": "2024-11-13T14:32:00",
            "timestamp_modified": "2024-11-13T14:32:00"
        })
    };
    let varies = [".annotation_id", ".user_principal_name", ".timestamp_created", ".timestamp_modified"];
    let list = guide.shows(("GET", path, &Value::Null), 200, &json!([listed(21), listed(36)]), &varies);
    let update =
        json!({"annotation_text": "Example annotation text message.", "annotation_id": list[0]["annotation_id"]});
    let updated = success("Data Annotation received and updated successfully.");
    guide.shows(("POST", "/annotation", &update), 200, &updated, &[]);
}

#[test]
fn the_daemons_answer_as_the_guide_shows() {
    let (volume, etcd, database) = (volume(), Etcd::start(), Postgres::shared().database());
    tests::dlm::create(&database);
    tests::dlm::add(&database, "an item", None);
    let daemons = Daemons::of(STORAGE_PATH.as_ref(), &database.url())
        .in_folder(volume.path())
        .with("PVCNAME", "shared")
        .with("SKA_DATAPRODUCT_API_VERSION", "0.17.0")
        .with("INDEXING_BATCH_SIZE", "100")
        .with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true")
        .with("SDP_CONFIG_HOST", "127.0.0.1")
        .with("SDP_CONFIG_PORT", etcd.port().to_string());
    let (indexer, api) = daemons.pair();
    let guide = Guide { api: &api, fields: Cell::new(0) };

    what_any_program_answers(&guide);
    what_is_answered_with_postgresql(&guide);

    // While nobody takes it, it is in progress.
    indexer.signal(rustix::process::Signal::STOP);
    let asked = ("GET", "/reindexdataproducts", &Value::Null);
    guide.shows(asked, 202, &json!("Metadata re-index request has been added to the background tasks"), &[]);
    let refused = guide.asked("GET", "/reindexdataproducts", &Value::Null);
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].is_string());
    let before = api.status()["indexing"]["coordination_state"]["completed_at"].clone();
    indexer.signal(rustix::process::Signal::CONT);
    api.wait_for_status("the reindex, and all that is followed", |status| {
        let followed = &status["metadata_store_status"]["dlm_interface_status"];
        status["indexing"]["coordination_state"]["completed_at"] != before
            && status["indexing"]["in_progress"] == false
            && status["sdp_config_db"]["watcher_connected"] == true
            && followed["number_of_items"] == 1
    });
    guide.shows(("GET", "/status", &Value::Null), 200, &status(), STATUS_VARIES);
    assert_eq!(guide.fields.get() + in_memory(&volume), FIELDS, "fields compared with the guide's");
}

/// The same without PostgreSQL, where the guide speaks of that; how many fields it shows.
fn in_memory(volume: &Volume) -> usize {
    fs::remove_file(volume.at(STORAGE_PATH).join(".dpd-volume-id")).expect("what the indexer left");
    let mut command = serve(STORAGE_PATH.as_ref());
    command.current_dir(volume.path());
    let api = Server::with(command, true);
    let guide = Guide { api: &api, fields: Cell::new(0) };
    what_any_program_answers(&guide);
    let unavailable = json!({
        "status": "Received but not processed",
        "message": "PostgresSQL is not available, cannot access data annotations."
    });
    let (new, path) = annotation();
    guide.shows(("POST", "/annotation", &new), 503, &unavailable, &[]);
    let update = json!({"annotation_text": "Example annotation text message.", "annotation_id": 23});
    guide.shows(("POST", "/annotation", &update), 503, &unavailable, &[]);
    guide.shows(("GET", path, &Value::Null), 202, &unavailable, &[]);
    let stores = json!({
        "metadata_store_status": {"number_of_dataproducts": 4},
        "search_store_status": {"metadata_search_store_in_use": "In memory search store"}
    });
    guide.shows(("GET", "/status", &Value::Null), 200, &stores, &[]);
    guide.fields.get()
}
