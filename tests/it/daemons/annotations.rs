//! Annotations: said of a product, kept while it is away, and found by.

use super::{Site, reindex};
use serde_json::{Value, json};
use std::fs;
use tests::program::Server;

fn annotate(api: &Server, uid: &Value, text: &str) -> (u16, Value) {
    let answer = api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": text}));
    (answer.status, answer.json())
}

fn texts(api: &Server, uid: &str) -> Vec<String> {
    let answer = api.get(&format!("/annotations/{uid}"));
    if answer.status == 204 {
        assert!(answer.body.is_empty());
        return Vec::new();
    }
    assert_eq!(answer.status, 200);
    let list = answer.json();
    let text = |annotation: &Value| annotation["annotation_text"].as_str().expect("a text").to_owned();
    list.as_array().expect("a list").iter().map(text).collect()
}

/// The folders of those whose annotations hold this.
fn annotated(api: &Server, text: &str) -> Vec<Value> {
    let items = json!([{"field": "annotation", "operator": "contains", "value": text}]);
    let answer = api.filter(&json!({"filterModel": {"items": items}}));
    answer["data"].as_array().expect("rows").iter().map(|row| row["dataproduct_file"].clone()).collect()
}

#[test]
fn annotations_are_saved_listed_and_changed() {
    let site = Site::new();
    site.products(2);
    let (_indexer, api) = site.daemons.pair();
    let uid = api.search(&["n:0"])[0]["uid"].clone();
    let path = uid.as_str().expect("a uid");
    assert!(texts(&api, path).is_empty());

    let success = |message: &str| json!({"status": "success", "message": message});
    let saved = success("New Data Annotation received and successfully saved.");
    assert_eq!(annotate(&api, &uid, "Strong RFI at 1.4 GHz"), (201, saved.clone()));
    // An empty number is none: old clients send it so.
    let another = json!({"data_product_uid": uid, "annotation_text": "second", "annotation_id": ""});
    assert_eq!(api.post("/annotation", &another).status, 201);
    assert_eq!(texts(&api, path), ["Strong RFI at 1.4 GHz", "second"]);
    let listed = api.get(&format!("/annotations/{path}")).json();
    let first = listed[0].as_object().expect("an annotation");
    let fields: Vec<&String> = first.keys().collect();
    assert_eq!(
        fields,
        [
            "annotation_id",
            "data_product_uid",
            "annotation_text",
            "user_principal_name",
            "timestamp_created",
            "timestamp_modified"
        ]
    );
    assert_eq!((&first["data_product_uid"], &first["user_principal_name"]), (&uid, &json!("anonymous")));
    assert!(
        first["annotation_id"].is_i64() && first["timestamp_created"].as_str().expect("a time").ends_with("+00:00")
    );

    let changed =
        json!({"data_product_uid": uid, "annotation_text": "RFI is gone", "annotation_id": first["annotation_id"]});
    let answer = api.post("/annotation", &changed);
    let updated = success("Data Annotation received and updated successfully.");
    assert_eq!((answer.status, answer.json()), (200, updated));
    // It keeps its place, which is the order of their making.
    assert_eq!(texts(&api, path), ["RFI is gone", "second"]);
    let after = api.get(&format!("/annotations/{path}")).json();
    assert_eq!(after[0]["timestamp_created"], first["timestamp_created"]);
    assert!(after[0]["timestamp_modified"].as_str() > first["timestamp_modified"].as_str());

    // A search finds by what they say now, and by no other product's.
    assert_eq!(annotated(&api, "RFI IS gone"), ["eb-0"]);
    assert!(annotated(&api, "Strong").is_empty());
    let updated = |api: &Server| api.status()["metadata_store_status"]["last_metadata_update_time"].clone();
    let before = updated(&api);
    assert_eq!(annotate(&api, &api.search(&["n:1"])[0]["uid"], "second as well").0, 201);
    assert_eq!(annotated(&api, "second").len(), 2);
    // The dashboard reloads when this moves.
    assert_ne!(updated(&api), before);
}

#[test]
fn annotations_that_cannot_be_kept_say_why() {
    let site = Site::new();
    site.products(2);
    let (_indexer, api) = site.daemons.pair();
    let [uid, other] = ["n:0", "n:1"].map(|pair| api.search(&[pair])[0]["uid"].clone());
    assert_eq!(annotate(&api, &uid, "one").0, 201);
    let id = api.get(&format!("/annotations/{}", uid.as_str().expect("a uid"))).json()[0]["annotation_id"].clone();
    let nobody = json!("00000000-0000-0000-0000-000000000000");
    for (body, status) in [
        (json!({"data_product_uid": nobody, "annotation_text": "x"}), 404),
        (json!({"data_product_uid": uid, "annotation_text": "x", "annotation_id": 4711}), 404),
        // Another product's number is no better than one that nothing has.
        (json!({"data_product_uid": other, "annotation_text": "x", "annotation_id": id}), 404),
        (json!({"data_product_uid": uid, "annotation_text": "x", "annotation_id": "many"}), 400),
        (json!({"data_product_uid": "not-a-uuid", "annotation_text": "x"}), 400),
        (json!({"data_product_uid": uid, "annotation_text": "nul \u{0} within"}), 400),
        (json!({"data_product_uid": uid, "annotation_text": " "}), 400),
        (json!({"data_product_uid": uid}), 400),
        (json!({"annotation_text": "x"}), 400),
    ] {
        let answer = api.post("/annotation", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.json());
        assert!(answer.json()["detail"].is_string(), "{body}");
    }
    assert_eq!(api.get("/annotations/not-a-uuid").status, 204);
    assert_eq!(api.get(&format!("/annotations/{}", nobody.as_str().expect("a uid"))).status, 204);
    assert_eq!(site.database.value("SELECT count(*) FROM annotation"), 1);
}

#[test]
fn annotations_outlive_their_product() {
    let site = Site::new();
    site.products(1);
    let (indexer, api) = site.daemons.pair();
    let uid = api.search(&[])[0]["uid"].clone();
    let path = uid.as_str().expect("a uid").to_owned();
    assert_eq!(annotate(&api, &uid, "kept").0, 201);
    reindex(&api);
    assert_eq!(texts(&api, &path), ["kept"]);

    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::rename(site.volume.at("eb-0"), elsewhere.path().join("eb-0")).expect("moved away");
    api.wait_for_folders(&[]);
    // Nobody knows who may see them, and there is nothing to say more of.
    assert!(texts(&api, &path).is_empty());
    assert_eq!(annotate(&api, &uid, "too late").0, 404);
    assert!(annotated(&api, "kept").is_empty());
    indexer.stop();
    api.stop();

    fs::rename(elsewhere.path().join("eb-0"), site.volume.at("eb-0")).expect("moved back");
    let (_indexer, api) = site.daemons.pair();
    assert_eq!(api.search(&[])[0]["uid"], uid);
    assert_eq!(texts(&api, &path), ["kept"]);
    assert_eq!(annotated(&api, "kept"), ["eb-0"]);
}
