//! Flows that have no product yet: whom they are shown to.

use super::{Guarded, daemons, standalone};
use serde_json::{Value, json};
use tests::etcd::{self, Etcd};
use tests::permissions::{MEMBER, OUTSIDER};
use tests::program::Server;
use tests::volume::Volume;

const BLOCK: &str = "pb-flow-20240101-00001";

fn fill(volume: &Volume) {
    volume.product("eb-open", "eb-open-20240101-00001", "n: 1");
}

/// Both programs, following an etcd with one flow of a folder that is not there yet, and one that cannot be read.
fn sites(etcd: &Etcd, more: &[(&str, &str)]) -> [Guarded; 2] {
    etcd.put(etcd::key(BLOCK, "vis"), etcd::value("eb-flow"));
    etcd.put(etcd::key(BLOCK, "broken"), "no JSON");
    let port = etcd.port().to_string();
    let variables: Vec<(&str, &str)> = [("SDP_CONFIG_HOST", "127.0.0.1"), ("SDP_CONFIG_PORT", &port)]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    [standalone(fill, &variables), daemons(fill, &variables)]
}

/// What a caller is told of flows: rows, total, count of `/status`, columns, flows and bad entries.
fn told(api: &Server, token: Option<&str>) -> (usize, Value, Value, bool, Value, Value, bool) {
    let page = api.ask("POST", "/filterdataproducts", token, b"{}").json();
    let rows = page["data"].as_array().expect("rows").len();
    let status = api.ask("GET", "/status", token, b"").json();
    let columns = api.ask("GET", "/muidatagridconfig", token, b"").json().to_string();
    let sdp = &status["sdp_config_db"];
    (
        rows,
        page["total"].clone(),
        status["metadata_store_status"]["number_of_dataproducts"].clone(),
        columns.contains("sdp_flow_placeholder"),
        sdp["flows"].clone(),
        sdp["entries_passed_over"].clone(),
        sdp.to_string().contains(BLOCK),
    )
}

fn shown() -> (usize, Value, Value, bool, Value, Value, bool) {
    (2, json!(2), json!(2), true, json!(1), json!(1), true)
}

fn hidden() -> (usize, Value, Value, bool, Value, Value, bool) {
    (1, json!(1), json!(1), false, json!(0), json!(0), false)
}

fn wait_for_flow(api: &Server) {
    tests::wait_for("the flow", || (told(api, Some(MEMBER)) == shown()).then_some(()));
}

#[test]
fn strangers_are_shown_no_flows_without_a_product() {
    let etcd = Etcd::start();
    for site in sites(&etcd, &[]) {
        let api = &site.api;
        wait_for_flow(api);
        assert_eq!(told(api, Some(OUTSIDER)), shown());
        for token in [None, Some("nobodys")] {
            assert_eq!(told(api, token), hidden(), "{token:?}");
        }
        let row = api.ask(
            "POST",
            "/dataproductsearch",
            Some(MEMBER),
            br#"{"key_value_pairs": ["sdp_flow_placeholder:true"]}"#,
        );
        let uid = row.json()[0]["uid"].clone();
        let by_uid = |token| api.ask("POST", "/dataproductmetadata", token, json!({"uid": uid}).to_string().as_bytes());
        assert_eq!((by_uid(Some(OUTSIDER)).status, by_uid(None).status), (200, 404));
        // A product shows its flows to whoever may see it.
        site.volume.product("eb-flow", "eb-flow-20240101-00001", "n: 2");
        tests::wait_for("the product", || {
            api.search(&["n:2"]).first().filter(|row| row["sdp_flows"].is_string()).map(drop)
        });
        std::fs::remove_dir_all(site.volume.at("eb-flow")).expect("removed");
        tests::wait_for("the placeholder", || (told(api, Some(MEMBER)) == shown()).then_some(()));
        assert_eq!(told(api, None), hidden());
    }
}

#[test]
fn everybody_may_be_shown_them() {
    let etcd = Etcd::start();
    for site in sites(&etcd, &[("DPD_FLOWS", "everybody")]) {
        wait_for_flow(&site.api);
        assert_eq!(told(&site.api, None), shown());
    }
}

#[test]
fn those_of_an_earlier_release_are_hidden_by_the_next_indexer() {
    let etcd = Etcd::start();
    let [_, site] = sites(&etcd, &[]);
    wait_for_flow(&site.api);
    let Guarded { api, _indexer, _site, volume: _volume, permissions: _permissions } = site;
    let daemons = _site.expect("daemons");
    _indexer.expect("an indexer").stop();
    // As they were written before: under the rule of what everybody may see, counted there.
    let (everybody, flows) =
        ("(SELECT id FROM access_rule WHERE groups IS NULL)", "(SELECT id FROM access_rule WHERE groups IS NOT NULL)");
    daemons.database.execute(&format!(
        "INSERT INTO superseded (volume_prefix, number) SELECT volume_prefix, number FROM data_product WHERE store_name = 'SDP'; \
         UPDATE data_product SET access = {everybody}, number = nextval('product_number') WHERE store_name = 'SDP'; \
         UPDATE access_rule SET products = products + 1 WHERE id = {everybody}; \
         INSERT INTO key_count SELECT {everybody}, key, products, numbers FROM key_count WHERE access = {flows} \
         ON CONFLICT (access, key) DO UPDATE SET products = key_count.products + EXCLUDED.products; \
         DELETE FROM key_count WHERE access = {flows}; DELETE FROM access_rule WHERE id = {flows}; \
         UPDATE dpd_indexing_state SET revision = nextval('product_number')"
    ));
    tests::wait_for("the old ways", || (told(&api, None).1 == 2).then_some(()));
    let _indexer = daemons.daemons.indexer();
    tests::wait_for("the new ones", || (told(&api, None) == hidden()).then_some(()));
    wait_for_flow(&api);
}
