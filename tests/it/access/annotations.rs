//! Whose annotations are: the token says it, and nobody else changes them.

use super::{daemons, standalone};
use serde_json::{Value, json};
use tests::permissions::{COLLEAGUE, MEMBER, Mode, OUTSIDER};
use tests::program::{Answer, Server};
use tests::volume::Volume;

fn fill(volume: &Volume) {
    volume.product("eb-open", "eb-open-20240101-00001", "n: 1");
    volume.product("eb-staff", "eb-staff-20240101-00001", "context: {access_group: staff}\nn: 2");
}

fn annotate(api: &Server, token: Option<&str>, body: &Value) -> Answer {
    api.ask("POST", "/annotation", token, body.to_string().as_bytes())
}

#[test]
fn the_token_says_who_writes_and_only_he_edits() {
    let site = daemons(fill, &[]);
    let api = &site.api;
    let search = json!({"key_value_pairs": ["n:2"]}).to_string();
    let uid = api.ask("POST", "/dataproductsearch", Some(MEMBER), search.as_bytes()).json()[0]["uid"].clone();
    // Who writes is not for the body to say.
    let new = json!({"data_product_uid": uid, "annotation_text": "first", "user_principal_name": "boss@example.org"});
    assert_eq!(annotate(api, Some(MEMBER), &new).status, 201);
    let path = format!("/annotations/{}", uid.as_str().expect("a uid"));
    let listed = |token| api.ask("GET", &path, Some(token), b"");
    let first = listed(MEMBER).json()[0].clone();
    assert_eq!(first["user_principal_name"], "staff@example.org");
    assert_eq!((listed(COLLEAGUE).status, listed(OUTSIDER).status, api.get(&path).status), (200, 403, 204));

    let edit = json!({"data_product_uid": uid, "annotation_text": "changed", "annotation_id": first["annotation_id"]});
    for (token, status) in [(None, 401), (Some("nobodys"), 401), (Some(OUTSIDER), 404), (Some(COLLEAGUE), 403)] {
        let answer = annotate(api, token, &edit);
        assert_eq!(answer.status, status, "{token:?}: {}", answer.json());
        assert!(answer.json()["detail"].is_string());
        // The product that counts is the annotation's own, whether or not it is named.
        let alone = json!({"annotation_text": "changed", "annotation_id": first["annotation_id"]});
        assert_eq!(annotate(api, token, &alone).status, status, "{token:?}");
    }
    assert_eq!(listed(MEMBER).json()[0]["annotation_text"], "first");
    assert_eq!(annotate(api, Some(MEMBER), &edit).status, 200);
    let changed = listed(COLLEAGUE).json()[0].clone();
    assert_eq!(
        (&changed["annotation_text"], &changed["user_principal_name"]),
        (&json!("changed"), &json!("staff@example.org"))
    );
}

#[test]
fn whoever_cannot_say_who_he_is_writes_nothing() {
    let site = daemons(fill, &[]);
    let api = &site.api;
    let new = json!({"data_product_uid": api.search(&["n:1"])[0]["uid"], "annotation_text": "x"});
    let unauthorized = |header: Option<&str>, challenge: &str| {
        let mut request = ureq::post(format!("{}/annotation", api.url)).config().http_status_as_error(false).build();
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let mut answer = request.send(new.to_string()).expect("an answer");
        let asks = answer.headers().get("www-authenticate").map(|value| value.to_str().expect("text").to_owned());
        assert_eq!((answer.status().as_u16(), asks.as_deref()), (401, Some(challenge)), "{header:?}");
        assert!(answer.body_mut().read_to_string().expect("a body").contains("detail"));
    };
    unauthorized(None, "Bearer");
    for malformed in ["Basic c3RhZmY6cHc=", "Bearer", "Bearer a b", "token-of-a-member"] {
        unauthorized(Some(malformed), "Bearer error=\"invalid_request\"");
        // Nobody has to be anybody to see what is public.
        let mut answer = ureq::post(format!("{}/dataproductsearch", api.url))
            .header("authorization", malformed)
            .send("{}")
            .expect("rows");
        let rows: Value = serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON");
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{malformed}");
    }
    unauthorized(Some("Bearer nobodys"), "Bearer error=\"invalid_token\"");
    // That nobody can be asked is no fault of the caller's.
    site.permissions.set(Mode::Status(500));
    let answer = annotate(api, Some(COLLEAGUE), &new);
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{}", answer.json());
    site.permissions.set(Mode::Well);
    tests::wait_for("the service to be asked again", || {
        (annotate(api, Some(COLLEAGUE), &new).status == 201).then_some(())
    });
}

#[test]
fn without_a_database_it_says_so() {
    let site = standalone(fill, &[]);
    let new = json!({"data_product_uid": site.api.search(&["n:1"])[0]["uid"], "annotation_text": "x"});
    for token in [None, Some(MEMBER)] {
        assert_eq!(annotate(&site.api, token, &new).status, 503);
    }
}
