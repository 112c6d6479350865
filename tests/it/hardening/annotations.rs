//! Very many annotations, and long ones: they are bounded in number, and listing them takes little memory.

use super::daemons;
use serde_json::{Value, json};
use tests::volume::Volume;

fn fill(volume: &Volume) {
    volume.product("eb", "eb-a-20240101-1", "n: 1");
}

#[test]
fn many_are_sent_in_parts() {
    let running = daemons(fill, &[]);
    let (api, database) = (&running.api, &running.site.as_ref().expect("a site").database);
    let uid = api.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    let path = format!("/annotations/{uid}");
    let new = json!({"data_product_uid": uid, "annotation_text": "first"});
    assert_eq!(api.post("/annotation", &new).status, 201);
    assert_eq!(api.get(&path).json().as_array().map(Vec::len), Some(1));
    // Of the same moment, or of different ones.
    database.execute(
        "INSERT INTO annotation (volume_prefix, data_product_uid, annotation_text, user_principal_name, value, day, \
         timestamp_created, timestamp_modified) SELECT volume_prefix, data_product_uid, n || ' ' || repeat('x', 65000), \
         'somebody', value, day, timestamp_created + make_interval(secs => n / 3), timestamp_modified \
         FROM annotation, generate_series(1, 300) n",
    );
    // Connections, and what else the first of all requests brings along.
    assert_eq!(api.get(&path).status, 200);
    std::fs::write(format!("/proc/{}/clear_refs", api.pid()), "5").expect("its peak is counted anew");
    let before = api.memory("VmHWM");
    let answer = api.get(&path);
    let grown = api.memory("VmHWM").saturating_sub(before);
    assert!(answer.status == 200 && answer.body.len() > 19_000_000);
    let list = answer.json();
    let numbers: Vec<&str> = list.as_array().expect("a list")[1..]
        .iter()
        .map(|annotation| {
            annotation["annotation_text"].as_str().and_then(|text| text.split(' ').next()).expect("a text")
        })
        .collect();
    assert_eq!(numbers, (1..=300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(grown < 10 << 20, "{} KiB", grown >> 10);
}

#[test]
fn an_author_may_write_a_thousand_of_a_product() {
    let running = daemons(fill, &[]);
    let (api, database) = (&running.api, &running.site.as_ref().expect("a site").database);
    let uid = api.search(&[])[0]["uid"].clone();
    let new = json!({"data_product_uid": uid, "annotation_text": "one more"});
    assert_eq!(api.post("/annotation", &new).status, 201);
    let more = |author: &str, count: u32| {
        database.execute(&format!(
            "INSERT INTO annotation (volume_prefix, data_product_uid, annotation_text, user_principal_name, value, day, \
             timestamp_created, timestamp_modified) SELECT volume_prefix, data_product_uid, annotation_text, '{author}', \
             value, day, timestamp_created, timestamp_modified FROM (SELECT * FROM annotation LIMIT 1) a, \
             generate_series(1, {count})"
        ));
    };
    more("anonymous", 993);
    more("somebody else", 500);
    let refused = json!({});
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let writing: Vec<_> = (0..12).map(|_| scope.spawn(|| api.post("/annotation", &new))).collect();
        let answers = writing.into_iter().map(|writing| writing.join().expect("an answer"));
        answers.map(|answer| (answer.status, answer.json())).collect()
    });
    let of = |status: u16| answers.iter().filter(|(own, _)| *own == status).count();
    assert_eq!((of(201), of(409)), (6, 6), "{answers:?}");
    let detail = answers.iter().find(|(status, _)| *status == 409).map_or(&refused, |(_, body)| body)["detail"].clone();
    assert!(detail.as_str().is_some_and(|detail| detail.contains("1000 annotations")), "{detail}");
    // What is there may still be changed.
    let first = api.get(&format!("/annotations/{}", uid.as_str().expect("a uid"))).json()[0]["annotation_id"].clone();
    let changed = json!({"data_product_uid": uid, "annotation_text": "changed", "annotation_id": first});
    assert_eq!(api.post("/annotation", &changed).status, 200);
    assert_eq!(database.value("SELECT count(*) FROM annotation WHERE user_principal_name = 'anonymous'"), 1000);
}
