//! Every route of the documentation, asked for restricted products by every handle that they have.
//!
//! What must not be told is made so that it can be recognised: names and values that occur in restricted products alone.
//! A route that is not in [`asks`] fails the test.

use super::{Guarded, daemons, session, standalone};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::permissions::{MEMBER, OUTSIDER};
use tests::program::Answer;
use tests::volume::Volume;

const BLOCK: &str = "eb-hush-20240102-00001";
const FOLDER: &str = "hushfolder/inner";
const SHARED_BLOCK: &str = "eb-both-20240103-00001";
const INGESTED_BLOCK: &str = "eb-hushingested-20240104-00001";

/// Names and values of restricted products, each of which nothing else has.
const SECRETS: &[&str] = &[
    BLOCK,
    INGESTED_BLOCK,
    "hushfolder",
    "hushkey",
    "hushvalue",
    "hushword",
    "hushfile",
    "hushcontent",
    "hushcrc",
    "hushnested",
    "hushsibling",
    "hushbroken",
    "hushnote",
    "987654321",
];

/// Routes that the documentation may not have yet.
const COMING: &[(&str, &str)] = &[
    ("GET", "/download"),
    ("GET", "/download/{uid}"),
    ("GET", "/products/{uid}/files"),
    ("GET", "/products/{uid}/files/{path}"),
];

fn fill(volume: &Volume) {
    let guarded = "context: {access_group: [admins, staff], notes: hushword}\nhushkey: hushvalue\nhushkey2: 987654321\n\
                   files: [{path: hushfile.dat, crc: hushcrc}]\nshared_key: 5";
    volume.product(FOLDER, BLOCK, guarded);
    volume.write(&format!("{FOLDER}/hushfile.dat"), "hushcontent");
    volume.product("eb-open", "eb-open-20240101-00001", "shared_key: 1\nfiles: [{path: open.dat}]");
    volume.write("eb-open/open.dat", "open content");
    // Inside what everybody may see, and beside it under one execution block.
    volume.product(
        "eb-open/hushnested",
        "eb-hush-20240102-00002",
        "context: {access_group: staff}\nhushkey: hushvalue",
    );
    volume.write("eb-open/hushnested/hushfile.dat", "hushcontent");
    volume.product("both-open", SHARED_BLOCK, "shared_key: 2");
    volume.product("hushsibling", SHARED_BLOCK, "context: {access_group: staff}\nhushkey: hushvalue");
    volume.write("hushsibling/hushfile.dat", "hushcontent");
    // It never read, so nobody knows whose it is.
    volume.product("hushbroken", "eb-hush-20240102-00003", "context: {access_group: staff}\nhushkey: [?hushword]");
    volume.product("eb-broken", "eb-broken-20240101-00001", "x: [");
}

/// One request.
struct Ask {
    method: &'static str,
    path: String,
    body: String,
}

fn get(path: impl Into<String>) -> Ask {
    Ask { method: "GET", path: path.into(), body: String::new() }
}

fn post(path: &str, body: &Value) -> Ask {
    Ask { method: "POST", path: path.to_owned(), body: body.to_string() }
}

/// What is known of the restricted products from a member's point of view.
struct Handles {
    /// The restricted product, the one inside a public product, the one that was ingested.
    uids: [String; 3],
    open: String,
    annotation: Option<i64>,
}

/// What a member's answers to a route's requests show, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Secrets,
    Nothing,
}

/// Every filter that could find, count or order by what is restricted.
fn filters() -> Vec<Value> {
    let item =
        |field: &str, operator: &str, value: Value| json!({"field": field, "operator": operator, "value": value});
    let mut items = vec![
        item("hushkey2", "=", json!(987_654_321)),
        item("hushkey2", ">", json!(0)),
        item("shared_key", ">", json!(2)),
        item("hushkey", "isAnyOf", json!(["hushvalue"])),
        item("files.crc", "equals", json!("hushcrc")),
        item("files.path", "endsWith", json!("hushfile.dat")),
        item("dataproduct_file", "startsWith", json!("hush")),
        item("execution_block", "equals", json!(BLOCK)),
        item("execution_block", "doesNotContain", json!("open")),
        item("date_created", "is", json!("2024-01-02")),
        item("annotation", "contains", json!("hushnote")),
        item("context.access_group", "isNotEmpty", Value::Null),
        item("size", ">", json!(0)),
    ];
    for key in ["hushkey", "hushkey2", "context.access_group", "context.notes", "files", "config"] {
        items.push(item(key, "isNotEmpty", Value::Null));
        items.push(item(key, "isEmpty", Value::Null));
    }
    let mut bodies: Vec<Value> = items.into_iter().map(|item| json!({"filterModel": {"items": [item]}})).collect();
    bodies.extend(SECRETS.iter().map(|secret| json!({"filterModel": {"quickFilterValues": [secret]}})));
    let pair = json!({"keyPair": "hushkey", "valuePair": "hush"});
    bodies.push(json!({"searchPanelOptions": {"items": [{"field": "formFields", "keyPairs": [pair]}]}}));
    for (field, sort) in [("hushkey", "asc"), ("hushkey", "desc"), ("shared_key", "desc"), ("dataproduct_file", "asc")]
    {
        bodies.push(json!({"sortModel": [{"field": field, "sort": sort}]}));
        bodies.push(json!({"sortModel": [{"field": field, "sort": sort}], "page": 1, "pageSize": 1}));
    }
    bodies.push(json!({}));
    bodies
}

fn searches() -> Vec<Value> {
    let pairs = [
        "hushkey:hushvalue",
        "hushkey2:987654321",
        "crc:hushcrc",
        "path:hushfile",
        "notes:hushword",
        "shared_key:5",
        "access_group:staff",
        "execution_block:eb-hush",
        "dataproduct_file:hush",
        "annotation:hushnote",
    ];
    let mut bodies: Vec<Value> = pairs.iter().map(|pair| json!({"key_value_pairs": [pair]})).collect();
    bodies.push(json!({"start_date": "2024-01-02", "end_date": "2024-01-02"}));
    bodies.push(json!({}));
    bodies
}

/// How a route is asked for what is restricted; `None` for a route that this test does not know.
fn asks(method: &str, path: &str, known: &Handles) -> Option<(Shows, Vec<Ask>)> {
    let uids = known.uids.each_ref().map(String::as_str);
    let named = || {
        let blocks = [BLOCK, SHARED_BLOCK, INGESTED_BLOCK].map(|block| json!({"execution_block": block}));
        uids.iter().map(|uid| json!({"uid": uid})).chain(blocks).chain([json!({"uid": known.open})])
    };
    let each = |path: fn(&str) -> String| uids.iter().map(|uid| get(path(uid))).collect::<Vec<_>>();
    Some(match (method, path) {
        ("GET", "/status" | "/livez" | "/readyz" | "/docs" | "/openapi.json") => (Shows::Nothing, vec![get(path)]),
        ("GET" | "POST", "/reindexdataproducts") => {
            let method = if method == "GET" { "GET" } else { "POST" };
            (Shows::Nothing, vec![Ask { method, path: path.to_owned(), body: String::new() }])
        }
        ("POST", "/dataproductsearch") => (Shows::Secrets, searches().iter().map(|body| post(path, body)).collect()),
        ("POST", "/filterdataproducts") => (Shows::Secrets, filters().iter().map(|body| post(path, body)).collect()),
        ("GET", "/muidatagridconfig" | "/en/humanreadable") => (Shows::Secrets, vec![get(path)]),
        ("POST", "/dataproductmetadata" | "/download") => {
            (Shows::Secrets, named().map(|body| post(path, &body)).collect())
        }
        ("GET", "/download/{uid}") => {
            let mut asks = each(|uid| format!("/download/{uid}"));
            asks.push(get(format!("/download/{}", known.open)));
            (Shows::Secrets, asks)
        }
        ("GET", "/download") => {
            let blocks = [BLOCK, SHARED_BLOCK, INGESTED_BLOCK];
            (Shows::Secrets, blocks.map(|block| get(format!("/download?execution_block={block}"))).into())
        }
        ("GET", "/products/{uid}/files") => {
            let mut asks = each(|uid| format!("/products/{uid}/files"));
            asks.push(get(format!("/products/{}/files", known.open)));
            (Shows::Secrets, asks)
        }
        ("GET", "/products/{uid}/files/{path}") => {
            let mut asks = each(|uid| format!("/products/{uid}/files/hushfile.dat"));
            for path in ["hushnested/hushfile.dat", "hushnested/ska-data-product.yaml", "../hushsibling/hushfile.dat"] {
                asks.push(get(format!("/products/{}/files/{path}", known.open)));
                let encoded = path.replace('/', "%2F").replace('.', "%2E");
                asks.push(get(format!("/products/{}/files/{encoded}", known.open)));
            }
            (Shows::Secrets, asks)
        }
        ("POST", "/ingestnewdataproduct") => {
            let folder =
                |block: &str, folder: &str| post(path, &json!({"execution_block": block, "relativePathName": folder}));
            let asks =
                [(BLOCK, FOLDER), ("eb-hush-20240102-00003", "hushbroken"), ("eb-open", FOLDER), ("hushfolder", "")];
            (Shows::Nothing, asks.map(|(block, at)| folder(block, at)).into())
        }
        ("POST", "/ingestnewmetadata") => {
            // The second is what its pipeline writes.
            let asks = [json!({"execution_block": INGESTED_BLOCK}), ingested()];
            (Shows::Nothing, asks.map(|body| post(path, &body)).into())
        }
        ("POST", "/annotation") => {
            let write = |uid: &str| json!({"data_product_uid": uid, "annotation_text": "x"});
            let mut bodies: Vec<Value> = uids.iter().map(|uid| write(uid)).collect();
            if let Some(id) = known.annotation {
                for uid in [uids[0], known.open.as_str()] {
                    let mut body = write(uid);
                    body["annotation_id"] = id.into();
                    bodies.push(body);
                }
            }
            (Shows::Nothing, bodies.iter().map(|body| post(path, body)).collect())
        }
        ("GET", "/annotations/{uid}") => {
            let shows = if known.annotation.is_some() { Shows::Secrets } else { Shows::Nothing };
            (shows, each(|uid| format!("/annotations/{uid}")))
        }
        _ => return None,
    })
}

fn ingested() -> Value {
    json!({"execution_block": INGESTED_BLOCK, "context": {"access_group": "staff", "notes": "hushword"}})
}

/// What an answer tells that its request did not say itself.
fn told<'a>(ask: &Ask, answer: &Answer, known: &'a Handles) -> Vec<&'a str> {
    let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let said = headers + &String::from_utf8_lossy(&answer.body);
    // A uid is made of what is said of an ingested product, and so no secret to whoever says it.
    let uids = known.uids.iter().map(String::as_str).filter(|_| !ask.path.starts_with("/ingest"));
    let sent = format!("{} {}", ask.path, ask.body);
    SECRETS.iter().copied().chain(uids).filter(|secret| said.contains(secret) && !sent.contains(secret)).collect()
}

/// As whom a route is asked.
#[derive(Debug, Clone, Copy)]
enum As<'a> {
    Nobody,
    Token(&'a str),
    /// With the cookie that an answer to a token set.
    Session(&'a str),
}

fn send(site: &Guarded, ask: &Ask, who: As<'_>) -> Answer {
    let (path, body) = (&ask.path, ask.body.as_bytes());
    match who {
        As::Nobody => site.api.ask(ask.method, path, None, body),
        As::Token(token) => site.api.ask(ask.method, path, Some(token), body),
        As::Session(cookie) => {
            site.api.ask_with(ask.method, path, &[("cookie", cookie), ("content-type", "application/json")], body)
        }
    }
}

/// Whether a route changes something, for which a cookie does not count.
fn changes(path: &str) -> bool {
    path.starts_with("/ingest") || path == "/annotation" || path == "/reindexdataproducts"
}

fn outsiders_learn_nothing(site: &Guarded) {
    site.writer().wait_for_log("this metadata file does not read", 2);
    let known = handles(site);
    let document = site.api.get_json("/openapi.json");
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item
            .as_object()
            .expect("methods")
            .keys()
            .filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()))
        {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let [member, outsider] = [MEMBER, OUTSIDER].map(|token| session(&site.api, token));
    let strangers = [As::Nobody, As::Token(OUTSIDER), As::Token("a-token-of-nobody"), As::Session(&outsider)];
    for (method, path) in &documented {
        let (shows, asks) =
            asks(method, path, &known).unwrap_or_else(|| panic!("{method} {path}: this test does not know the route"));
        let mut shown = false;
        for ask in &asks {
            let mut statuses = Vec::new();
            for who in strangers.into_iter().chain(changes(path).then_some(As::Session(&member))) {
                let answer = send(site, ask, who);
                let what = format!("{method} {} {} as {who:?}: {}", ask.path, ask.body, answer.status);
                // The first is nobody's and the last, for a write, that of a member's cookie, which counts for none.
                statuses.push(answer.status);
                assert_eq!(told(ask, &answer, &known), [""; 0], "{what}");
                assert!(answer.status < 500 || known.annotation.is_none() && answer.status == 503, "{what}");
                if path == "/filterdataproducts" {
                    counts_what_it_shows(&answer.json(), &what);
                }
                if method == "GET" {
                    let head = send(site, &Ask { method: "HEAD", path: ask.path.clone(), body: String::new() }, who);
                    assert_eq!((told(ask, &head, &known), head.body.len()), (vec![], 0), "HEAD, {what}");
                }
            }
            if path.starts_with("/ingest") || path == "/annotation" {
                assert_eq!(statuses.first(), statuses.last(), "{method} {path} {}: by a cookie", ask.body);
            }
            let answer = send(site, ask, As::Token(MEMBER));
            shown |= !told(ask, &answer, &known).is_empty();
            if !changes(path) {
                let by_cookie = send(site, ask, As::Session(&member));
                let seen = |answer: &Answer| (answer.status, told(ask, answer, &known));
                assert_eq!(seen(&by_cookie), seen(&answer), "{method} {path} {}: header and cookie", ask.body);
            }
        }
        // Else nothing would be learnt from the others not seeing it.
        assert_eq!(shown, shows == Shows::Secrets, "{method} {path}, as a member");
    }
    let missing: Vec<_> = COMING
        .iter()
        .filter(|(method, path)| !documented.contains(&((*method).to_owned(), (*path).to_owned())))
        .collect();
    if !missing.is_empty() {
        eprintln!("not there yet: {missing:?}");
    }
    products_that_may_not_be_seen_are_refused(site, &known);
    strangers_are_answered_as_if_they_were_not_there(site, &known);
}

/// Whatever is asked by uid, byte by byte.
fn strangers_are_answered_as_if_they_were_not_there(site: &Guarded, known: &Handles) {
    let unknown = "00000000-0000-0000-0000-000000000000";
    let asks = |uid: &str| {
        vec![
            post("/dataproductmetadata", &json!({"uid": uid})),
            post("/download", &json!({"uid": uid})),
            get(format!("/download?uid={uid}")),
            get(format!("/download/{uid}")),
            get(format!("/products/{uid}/files")),
            get(format!("/products/{uid}/files/hushfile.dat")),
            get(format!("/annotations/{uid}")),
            post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "x"})),
        ]
    };
    let answered = |ask: &Ask, who| {
        let answer = send(site, ask, who);
        // Those that no two answers have in common.
        let is_own = |name: &str| ["date", "x-request-id", "x-index-as-of"].contains(&name);
        let headers: Vec<_> = answer.headers.into_iter().filter(|(name, _)| !is_own(name)).collect();
        (answer.status, headers, String::from_utf8_lossy(&answer.body).into_owned())
    };
    for uid in &known.uids {
        for (own, other) in asks(uid).iter().zip(asks(unknown)) {
            for who in [As::Nobody, As::Token("a-token-of-nobody")] {
                let there = answered(own, who);
                assert_eq!(there, answered(&other, who), "{} {} as {who:?}", own.method, own.path);
                assert_ne!(there.0, 403, "{} {}", own.method, own.path);
            }
            let of_outsider = answered(own, As::Token(OUTSIDER)).0;
            assert!(of_outsider == 403 || own.path.starts_with("/annotation"), "{}: {of_outsider}", own.path);
        }
    }
}

/// A total that counts more than the pages show would tell that there is more.
fn counts_what_it_shows(answer: &Value, what: &str) {
    let (total, rows) = (answer["total"].as_u64().expect("a total"), answer["data"].as_array().expect("rows").len());
    if answer["page"] == 0 {
        assert_eq!(total, rows as u64, "{what}");
    }
    assert!(total <= 2, "{what}: {total}");
}

fn handles(site: &Guarded) -> Handles {
    assert_eq!(site.api.ask("POST", "/ingestnewmetadata", Some(MEMBER), ingested().to_string().as_bytes()).status, 201);
    let uid = |block: &str| {
        let row = site.api.ask(
            "POST",
            "/dataproductsearch",
            Some(MEMBER),
            json!({"key_value_pairs": [format!("execution_block:{block}")]}).to_string().as_bytes(),
        );
        row.json()[0]["uid"].as_str().unwrap_or_else(|| panic!("{block} is not there")).to_owned()
    };
    let uids = [uid(BLOCK), uid("eb-hush-20240102-00002"), uid(INGESTED_BLOCK)];
    for uid in &uids {
        let note = json!({"data_product_uid": uid, "annotation_text": "hushnote"});
        let answer = site.api.ask("POST", "/annotation", Some(MEMBER), note.to_string().as_bytes());
        assert!([201, 503].contains(&answer.status));
    }
    let listed = site.api.ask("GET", &format!("/annotations/{}", uids[0]), Some(MEMBER), b"");
    let annotation = (listed.status == 200).then(|| listed.json()[0]["annotation_id"].as_i64().expect("a number"));
    Handles { uids, open: uid("eb-open"), annotation }
}

fn products_that_may_not_be_seen_are_refused(site: &Guarded, known: &Handles) {
    let status = |path: &str, token, body: Value| site.api.ask("POST", path, token, body.to_string().as_bytes()).status;
    for path in ["/dataproductmetadata", "/download"] {
        for token in [None, Some(OUTSIDER)] {
            // Whoever is known is told that it is not for him; to a stranger it is as if it were not there.
            let expected = if token.is_some() { 403 } else { 404 };
            assert_eq!(status(path, token, json!({"uid": known.uids[0]})), expected);
            // As if it were not there.
            assert_eq!(status(path, token, json!({"execution_block": BLOCK})), 404);
            assert_eq!(status(path, token, json!({"execution_block": SHARED_BLOCK})), 200);
        }
        assert_eq!(status(path, Some(MEMBER), json!({"execution_block": BLOCK})), 200);
    }
    for token in [None, Some(OUTSIDER)] {
        assert_eq!(status("/ingestnewmetadata", token, json!({"execution_block": INGESTED_BLOCK})), 201);
        assert_eq!(status("/ingestnewmetadata", token, ingested()), 201);
    }
    let failing = |token| site.api.ask("GET", "/status", token, b"").json()["indexing"]["failing"].clone();
    // They never read, so that nobody knows whose they are.
    let none = json!({"count": 0, "first": []});
    assert_eq!([failing(None), failing(Some(MEMBER))], [none.clone(), none.clone()]);
    site.volume.product(FOLDER, BLOCK, "context: {access_group: staff}\nhushkey: [");
    // The last good version says who may see it.
    let told = tests::wait_for("the failing file", || Some(failing(Some(MEMBER))).filter(|told| told["count"] == 1));
    assert!(told["first"].to_string().contains(FOLDER), "{told}");
    assert_eq!([failing(None), failing(Some(OUTSIDER))], [none.clone(), none]);
}

#[test]
fn outsiders_learn_nothing_from_the_standalone_program() {
    outsiders_learn_nothing(&standalone(fill, &[]));
}

#[test]
fn outsiders_learn_nothing_from_the_daemons() {
    outsiders_learn_nothing(&daemons(fill, &[]));
}

#[test]
fn the_old_rule_guards_lists_alone() {
    for site in
        [standalone(fill, &[("DPD_ACCESS_GROUPS", "listings")]), daemons(fill, &[("DPD_ACCESS_GROUPS", "listings")])]
    {
        let known = handles(&site);
        for (path, body) in filters()
            .iter()
            .map(|body| ("/filterdataproducts", body))
            .chain(searches().iter().map(|body| ("/dataproductsearch", body)))
        {
            let ask = post(path, body);
            assert_eq!(told(&ask, &send(&site, &ask, As::Nobody), &known), [""; 0], "{body}");
        }
        for path in ["/muidatagridconfig", "/en/humanreadable", "/status"] {
            assert_eq!(told(&get(path), &send(&site, &get(path), As::Nobody), &known), [""; 0], "{path}");
        }
        for body in [json!({"uid": known.uids[0]}), json!({"execution_block": BLOCK})] {
            for path in ["/dataproductmetadata", "/download"] {
                let ask = post(path, &body);
                let answer = send(&site, &ask, As::Nobody);
                assert_eq!(answer.status, 200);
                assert!(told(&ask, &answer, &known).contains(&"hushkey"));
            }
        }
        if known.annotation.is_some() {
            assert_eq!(site.api.get(&format!("/annotations/{}", known.uids[0])).status, 200);
        }
    }
}
