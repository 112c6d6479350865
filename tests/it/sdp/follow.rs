//! What flows come to in rows.

use super::*;

const EB: &str = "eb-test-20250101-00001";

fn folder() -> String {
    format!("{EB}/ska-sdp/{BLOCK}")
}

#[test]
fn a_product_is_found_when_its_flow_completes() {
    for site in Site::each() {
        site.etcd.put(format!("/pb/{BLOCK}"), json!({"eb_id": EB}).to_string());
        site.flow("vis", &folder());
        let rows = site.wait_for_rows("a placeholder", |rows| rows.len() == 1);
        assert_eq!(rows[0]["metadata_store_name"], "SDP");
        assert_eq!(rows[0]["sdp_flow_placeholder"], true);
        assert_eq!(rows[0]["dataproduct_file"], "None");
        assert_eq!(rows[0]["execution_block"], EB);
        assert_eq!(rows[0]["date_created"], "2025-01-02");
        assert!(rows[0].get("sdp_flow_status").is_none());
        let uid = rows[0]["uid"].clone();
        assert_eq!(site.api.post("/download", &json!({"uid": uid})).status, 404);
        let metadata = site.api.post("/dataproductmetadata", &json!({"uid": uid})).json();
        assert_eq!(metadata["sdp_flows"][0]["sdp_flow"], format!("{BLOCK}:data-product:vis"));

        site.state("vis", "FLOWING");
        site.wait_for_rows("the status", |rows| rows[0]["sdp_flow_status"] == "FLOWING");
        // Nothing tells of the file but the flow.
        site.volume.product(&folder(), EB, &format!("config: {{processing_block: {BLOCK}}}"));
        site.state("vis", "COMPLETED");
        let rows = site.wait_for_rows("the product", |rows| rows.len() == 1 && rows[0]["dataproduct_file"] == folder());
        assert_eq!(rows[0]["sdp_flow_status"], "COMPLETED");
        let flows = json!([{"sdp_flow": format!("{BLOCK}:data-product:vis"), "sdp_flow_status": "COMPLETED"}]);
        assert_eq!(rows[0]["sdp_flows"], flows.to_string());
        let metadata = site.api.post("/dataproductmetadata", &json!({"uid": rows[0]["uid"]})).json();
        assert_eq!(metadata["sdp_flows"], flows);
        assert_eq!(metadata["sdp_flow_status"], "COMPLETED");

        // The file goes, and the placeholder is back.
        std::fs::remove_file(site.volume.at(&format!("{}/ska-data-product.yaml", folder()))).expect("removed");
        site.api.get("/reindexdataproducts");
        site.wait_for_rows("the placeholder again", |rows| rows.len() == 1 && rows[0]["sdp_flow_placeholder"] == true);
        site.etcd.delete(&format!("/flow/{BLOCK}:"), true);
        site.wait_for_rows("nothing", <[_]>::is_empty);
    }
}

/// The row of a product that is below a flow's folder, and written before the flow is.
#[test]
fn a_flow_finds_products_that_are_there() {
    for site in Site::each() {
        for beam in ["beam-1", "beam-2"] {
            site.volume.product(&format!("{}/{beam}", folder()), EB, "");
        }
        site.flow("x", &folder());
        site.state("x", "PENDING");
        site.flow("y", &folder());
        site.state("y", "COMPLETED");
        let both = |rows: &[Value]| rows.len() == 2 && rows.iter().all(|row| row["sdp_flow_status"] == "PENDING");
        let rows = site.wait_for_rows("both beams", both);
        assert!(rows.iter().all(|row| row["dataproduct_file"] != "None"), "{rows:?}");
        // One flow goes; the other decides.
        site.etcd.delete(&tests::etcd::key(BLOCK, "x"), false);
        site.wait_for_rows("the other's status", |rows| rows.iter().all(|row| row["sdp_flow_status"] == "COMPLETED"));
    }
}

#[test]
fn flows_are_filtered_sorted_counted_and_paged_like_all_else() {
    for site in Site::each() {
        let statuses = ["WAITING", "FLOWING", "COMPLETED", "FAILED"];
        site.volume.product("eb-other-20240101-1", "eb-other-20240101-1", "");
        site.api.get("/reindexdataproducts");
        site.etcd.put_all((0..40).flat_map(|n| {
            let key = tests::etcd::key(BLOCK, &format!("f{n:02}"));
            [
                (format!("{key}/state"), tests::etcd::state(statuses[n % 4])),
                (key, tests::etcd::value(&format!("{EB}/{n}"))),
            ]
        }));
        site.wait_for_rows("all flows", |rows| rows.len() == 41);
        let filter = |body: Value| site.api.filter(&body);
        let item = |field: &str, value: &str| json!({"field": field, "operator": "equals", "value": value});
        let sdp = filter(json!({"filterModel": {"items": [item("metadata_store_name", "SDP")]}, "pageSize": 100}));
        assert_eq!(sdp["total"], 40);
        let flowing = filter(json!({"filterModel": {"items": [item("sdp_flow_status", "flowing")]}}));
        assert_eq!(flowing["total"], 10);
        let mut seen = Vec::new();
        for page in 0..5 {
            let body =
                json!({"sortModel": [{"field": "sdp_flow_status", "sort": "asc"}], "page": page, "pageSize": 10});
            let page = filter(body);
            assert_eq!(page["total"], 41);
            seen.extend(page["data"].as_array().expect("rows").clone());
        }
        let status = |row: &Value| row["sdp_flow_status"].as_str().unwrap_or("~").to_owned();
        let order: Vec<String> = seen.iter().map(status).collect();
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(order, sorted);
        let mut uids: Vec<&Value> = seen.iter().map(|row| &row["uid"]).collect();
        uids.sort_by_key(ToString::to_string);
        uids.dedup();
        assert_eq!(uids.len(), 41);
        let columns = site.api.get_json("/muidatagridconfig");
        let fields: Vec<&Value> = columns["columns"].as_array().expect("columns").iter().map(|c| &c["field"]).collect();
        assert!(fields.contains(&&json!("sdp_flow_status")), "{fields:?}");
    }
}

#[test]
fn what_cannot_be_used_is_passed_over_and_counted() {
    for site in Site::each() {
        let large = format!("{{\"sink\": \"{}\"}}", "x".repeat(1_000_000));
        // Larger than one answer of an etcd client may be by default.
        let huge = "x".repeat(9_000_000);
        site.etcd.put(tests::etcd::key(BLOCK, "huge"), &huge);
        let bad: [(Vec<u8>, &str); 9] = [
            (tests::etcd::key(BLOCK, "half").into(), "{\"sink\":"),
            (tests::etcd::key(BLOCK, "list").into(), "[]"),
            (tests::etcd::key(BLOCK, "number").into(), "{\"sink\": {\"data_dir\": 5}}"),
            (tests::etcd::key(BLOCK, "large").into(), &large),
            (tests::etcd::key(BLOCK, "empty").into(), ""),
            ("/flow/garbage".into(), "{}"),
            (b"/flow/\xff\xfe".into(), "{}"),
            (format!("{}/state", tests::etcd::key(BLOCK, "good")).into(), "{\"status\": 5}"),
            (format!("/pb/{BLOCK}").into(), "nonsense"),
        ];
        site.etcd.put_all(bad.iter().map(|(key, value)| (key, value)));
        let ignored = [
            format!("/flow/{BLOCK}:data-queue:vis"),
            format!("/flow/{BLOCK}:tango:vis"),
            format!("/flow/{BLOCK}:vis"),
            format!("{}/owner", tests::etcd::key(BLOCK, "good")),
            format!("/pb/{BLOCK}/state"),
            "/eb/eb-1".to_owned(),
        ];
        site.etcd.put_all(ignored.iter().map(|key| (key, "anything")));
        site.flow("good", "eb/x");
        let sdp = site.wait_for_sdp("the count", |sdp| sdp["entries_passed_over"] == 10 && sdp["flows"] == 1);
        assert!(sdp["first_entry_passed_over"].as_str().is_some_and(|first| first.contains("/flow/")), "{sdp}");
        site.wait_for_rows("the good one", |rows| rows.len() == 1);
        let log = match &site.programs {
            Programs::Standalone => &site.api,
            Programs::Daemons { indexer, .. } => indexer,
        };
        log.wait_for_log("is passed over in the SDP configuration database", 10);
        assert_eq!(log.log().matches("/flow/garbage is passed over").count(), 1);
        // What is put right counts no more.
        site.etcd.put(tests::etcd::key(BLOCK, "half"), tests::etcd::value("eb/half"));
        site.etcd.delete("/flow/garbage", false);
        site.wait_for_sdp("fewer", |sdp| sdp["entries_passed_over"] == 8 && sdp["flows"] == 2);
    }
}

#[test]
fn without_a_configuration_database_there_are_no_flows() {
    let site = Site::daemons();
    site.flow("x", "eb/x");
    site.wait_for_rows("a placeholder", |rows| rows.len() == 1);
    let status = site.api.status();
    assert_eq!(status["available_data_stores"][0], "SDP");
    let Programs::Daemons { daemons, indexer, .. } = site.programs else { unreachable!("daemons") };
    indexer.stop();
    // The next one is not told of any.
    let daemons = daemons.with("SDP_CONFIG_HOST", "");
    let (_indexer, api) = daemons.pair();
    tests::wait_for("the placeholder to go", || api.search(&[]).is_empty().then_some(()));
    let sdp = api.status()["sdp_config_db"].clone();
    assert_eq!((&sdp["connected"], &sdp["error"]), (&json!(false), &Value::Null));
    assert!(!api.status()["available_data_stores"].as_array().expect("stores").contains(&json!("SDP")));
}

#[test]
fn keys_may_have_a_prefix() {
    let (etcd, volume) = (Etcd::start(), Volume::new());
    etcd.put(format!("/sdp/config{}", tests::etcd::key(BLOCK, "x")), tests::etcd::value("eb/x"));
    etcd.put(tests::etcd::key(BLOCK, "y"), tests::etcd::value("eb/y"));
    let mut command = serve(volume.path());
    command.envs(settings(&etcd)).env("SDP_CONFIG_PATH", "/sdp/config");
    let server = Server::with(command, true);
    let flows = || server.search(&["sdp_flow_placeholder:true"]);
    let rows = tests::wait_for("a flow", || Some(flows()).filter(|rows| !rows.is_empty()));
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["sdp_flows"].as_str().is_some_and(|flows| flows.contains("data-product:x")), "{rows:?}");
}

#[test]
fn a_secured_database_is_followed_by_who_may() {
    let (etcd, volume) = (Etcd::secured("geheim"), Volume::new());
    etcd.put(tests::etcd::key(BLOCK, "x"), tests::etcd::value("eb/x"));
    let start = |more: &[(&str, &str)]| {
        let mut command = serve(volume.path());
        command.envs(settings(&etcd)).env("SDP_CONFIG_PROTOCOL", "https").envs(more.iter().copied());
        Server::with(command, true)
    };
    let certificate = etcd.certificate();
    let certificate = ("SDP_CONFIG_CERT", certificate.to_str().expect("UTF-8"));
    let root = ("SDP_CONFIG_USERNAME", "root");
    for wrong in [
        &[root, ("SDP_CONFIG_PASSWORD", "geheim")][..],
        &[certificate],
        &[certificate, root, ("SDP_CONFIG_PASSWORD", "wrong")],
        &[("SDP_CONFIG_CERT", "/nowhere"), root, ("SDP_CONFIG_PASSWORD", "geheim")],
    ] {
        let server = start(wrong);
        let status = server.wait_for_status("an error", |status| status["sdp_config_db"]["error"].is_string());
        assert_eq!(status["sdp_config_db"]["connected"], false);
        assert!(server.search(&[]).is_empty() && !server.log().contains("geheim"));
    }
    let server = start(&[certificate, root, ("SDP_CONFIG_PASSWORD", "geheim")]);
    server.wait_for_status("the watch", |status| status["sdp_config_db"]["watcher_connected"] == true);
    tests::wait_for("the flow", || (server.search(&[]).len() == 1).then_some(()));
}

/// The product of a flow whose folder a network file system shows late.
#[test]
fn a_folder_that_shows_late_is_looked_at_again() {
    let site = Site::standalone();
    site.flow("vis", &folder());
    site.state("vis", "COMPLETED");
    site.wait_for_rows("a placeholder", |rows| rows.len() == 1 && rows[0]["sdp_flow_status"] == "COMPLETED");
    site.volume.product(&folder(), EB, "");
    site.wait_for_rows("the product", |rows| rows.len() == 1 && placeholders(rows).is_empty());
}
