//! What callers bring: they neither give, take nor change the groups of what others brought, nor do they learn that it is
//! there.

use super::{Guarded, daemons, standalone};
use serde_json::{Value, json};
use std::fs;
use tests::permissions::{COLLEAGUE, MEMBER, Mode, OUTSIDER};
use tests::postgres::{Database, Lock};
use tests::program::{Answer, Server};
use tests::volume::{METADATA, Volume};

const METADATA_CALL: &str = "/ingestnewmetadata";
const FOLDER_CALL: &str = "/ingestnewdataproduct";

fn each(fill: impl Fn(&Volume) + Copy, variables: &[(&str, &str)], work: impl Fn(&Guarded)) {
    for site in [standalone(fill, variables), daemons(fill, variables)] {
        work(&site);
    }
}

fn send(api: &Server, path: &str, token: Option<&str>, body: &Value) -> Answer {
    api.ask("POST", path, token, body.to_string().as_bytes())
}

fn bring(site: &Guarded, token: Option<&str>, body: &Value) -> u16 {
    send(&site.api, METADATA_CALL, token, body).status
}

/// What a member sees of the first product of an execution block.
fn seen(site: &Guarded, block: &str) -> Value {
    send(&site.api, "/dataproductmetadata", Some(MEMBER), &json!({"execution_block": block})).json()
}

/// Metadata for a group, or for everybody.
fn metadata(block: &str, group: &Value, n: u32) -> Value {
    json!({"execution_block": block, "context": {"access_group": group}, "n": n})
}

#[test]
fn what_everybody_may_see_is_restricted_by_members_alone() {
    let block = "eb-open-20240101-1";
    each(
        |_| {},
        &[],
        |site| {
            let own = |n| json!({"execution_block": block, "n": n});
            assert_eq!(bring(site, None, &own(1)), 201);
            for token in [None, Some(OUTSIDER)] {
                for group in ["staff", "nobody"].map(Value::from).into_iter().chain([json!(["staff", "nobody"])]) {
                    let answer = send(&site.api, METADATA_CALL, token, &metadata(block, &group, 2));
                    assert_eq!(answer.status, 403, "{token:?} {group}");
                    assert!(answer.json()["detail"].as_str().is_some_and(|why| why.contains("member")), "{group}");
                }
                // Whether anything is there or not.
                for at in [block, "eb-nothing-20240101-1"] {
                    for group in
                        [json!([]), json!(""), json!([""]), json!(["staff", ""]), json!([5]), json!({}), json!(5)]
                    {
                        let answer = send(&site.api, METADATA_CALL, token, &metadata(at, &group, 2));
                        assert_eq!(answer.status, 422, "{at} {token:?} {group}");
                        assert!(
                            answer.json()["detail"].as_str().is_some_and(|why| why.contains("access_group")),
                            "{group}"
                        );
                    }
                }
                assert_eq!(seen(site, block)["n"], 1);
            }
            assert_eq!(site.api.filter(&json!({}))["total"], 1);
            // Its pipeline goes on as if nothing had been.
            assert_eq!(bring(site, None, &own(3)), 201);
            assert_eq!(site.api.search(&["n:3"]).len(), 1);
            assert_eq!(bring(site, Some(MEMBER), &metadata(block, &json!("staff"), 4)), 201);
            assert_eq!((site.api.search(&[]).len(), &seen(site, block)["n"]), (0, &json!(4)));
            // What is theirs they may also give to everybody.
            assert_eq!(bring(site, Some(COLLEAGUE), &own(5)), 201);
            assert_eq!(site.api.search(&["n:5"]).len(), 1);
        },
    );
}

#[test]
fn what_is_restricted_is_replaced_by_members_alone() {
    let block = "eb-staff-20240101-1";
    // One that knows nothing of it: what it answers is what strangers are to be told.
    let other = standalone(|_| {}, &[]);
    each(
        |_| {},
        &[],
        |site| {
            // Its pipeline has no token, and may begin it.
            assert_eq!(bring(site, None, &metadata(block, &json!("staff"), 1)), 201);
            let updated =
                |site: &Guarded| site.api.status()["metadata_store_status"]["last_metadata_update_time"].clone();
            let before = updated(site);
            for (n, token) in [None, Some(OUTSIDER), Some("nobodys")].into_iter().enumerate() {
                for (m, group) in [json!("staff"), Value::Null, json!("guests"), json!(["staff", "guests"]), json!("")]
                    .into_iter()
                    .enumerate()
                {
                    let mut body = metadata(block, &group, 2);
                    let answer = send(&site.api, METADATA_CALL, token, &body);
                    // Of an unknown block, whatever was tried before. The uid follows from the name alone.
                    body["execution_block"] = format!("eb-x-20240101-{n}{m}").into();
                    let unknown = send(&other.api, METADATA_CALL, token, &body);
                    let (mut own, mut of_unknown) = (answer.json(), unknown.json());
                    assert_eq!(own["uid"].is_string(), of_unknown["uid"].is_string());
                    for answer in [&mut own, &mut of_unknown] {
                        answer.as_object_mut().expect("an object").remove("uid");
                    }
                    assert_eq!((answer.status, own), (unknown.status, of_unknown), "{token:?} {group}");
                    let named = |answer: &Answer| {
                        let names = answer.headers.iter().map(|(name, _)| name.clone());
                        names.filter(|name| name != "set-cookie").collect::<Vec<_>>()
                    };
                    assert_eq!(named(&answer), named(&unknown));
                    assert_eq!(seen(site, block)["n"], 1, "{token:?} {group}");
                }
            }
            assert_eq!((updated(site), site.api.filter(&json!({}))["total"].clone()), (before, json!(0)));
            assert_eq!(bring(site, Some(COLLEAGUE), &metadata(block, &json!("staff"), 2)), 201);
            assert_eq!(seen(site, block)["n"], 2);
            assert_eq!(bring(site, None, &metadata(block, &json!("staff"), 3)), 201);
            assert_eq!(seen(site, block)["n"], 2);
        },
    );
}

#[test]
fn the_rule_holds_under_the_old_one_for_lists_as_well() {
    let block = "eb-staff-20240101-1";
    each(
        |_| {},
        &[("DPD_ACCESS_GROUPS", "listings")],
        |site| {
            assert_eq!(bring(site, None, &metadata(block, &json!("staff"), 1)), 201);
            assert_eq!(bring(site, None, &metadata(block, &Value::Null, 2)), 201);
            assert_eq!(seen(site, block)["n"], 1);
        },
    );
}

#[test]
fn whoever_says_who_he_is_says_it_rightly() {
    each(
        |_| {},
        &[],
        |site| {
            let body = metadata("eb-staff-20240101-1", &json!("staff"), 1);
            let announced = json!({"execution_block": "eb-none-20240101-1"});
            for path in [METADATA_CALL, FOLDER_CALL] {
                let answer = send(&site.api, path, Some("nobodys"), &body);
                assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""));
                let basic = [("authorization", "Basic YTpi")];
                assert_eq!(site.api.ask_with("POST", path, &basic, body.to_string().as_bytes()).status, 401, "{path}");
            }
            // Else a member would be told that all went well, and nothing would have changed.
            site.permissions.set(Mode::Status(500));
            for path in [METADATA_CALL, FOLDER_CALL] {
                let answer = send(&site.api, path, Some(MEMBER), &body);
                assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}");
                assert!(answer.json()["detail"].as_str().is_some_and(|why| why.contains("answered 500")));
            }
            assert_eq!(send(&site.api, FOLDER_CALL, None, &announced).status, 404);
            assert_eq!(bring(site, None, &body), 201);
        },
    );
}

#[test]
fn it_can_be_asked_who_ingests_and_turned_off() {
    let fill = |volume: &Volume| volume.product("eb-a-20240101-1", "eb-a-20240101-1", "n: 1");
    let calls = [
        (METADATA_CALL, json!({"execution_block": "eb-b-20240101-1"})),
        (FOLDER_CALL, json!({"execution_block": "eb-a-20240101-1"})),
    ];
    each(fill, &[("DPD_INGEST", "token")], |site| {
        for (path, body) in &calls {
            let statuses = [None, Some("nobodys"), Some(OUTSIDER), Some(MEMBER)]
                .map(|token| send(&site.api, path, token, body).status);
            assert_eq!(statuses, [401, 401, 201, 201], "{path}");
            assert_eq!(send(&site.api, path, None, body).header("www-authenticate"), "Bearer");
            site.permissions.set(Mode::Status(500));
            // One of whom nothing is known yet.
            let another = format!("{}.{COLLEAGUE}", &path[1..]);
            assert_eq!(send(&site.api, path, Some(&another), body).status, 503, "{path}");
            site.permissions.set(Mode::Well);
            tests::wait_for("the service to be asked again", || {
                (send(&site.api, path, Some(&another), body).status == 201).then_some(())
            });
        }
    });
    each(fill, &[("DPD_INGEST", "off")], |site| {
        for (path, body) in &calls {
            for token in [None, Some(MEMBER)] {
                let answer = send(&site.api, path, token, body);
                assert_eq!(answer.status, 405, "{path}");
                // No method is left.
                assert!(answer.headers.contains(&("allow".to_owned(), String::new())), "{:?}", answer.headers);
                assert!(answer.json()["detail"].as_str().is_some_and(|why| why.contains("DPD_INGEST")));
            }
        }
        assert_eq!(site.api.search(&[]).len(), 1);
    });
}

/// Holds the lock that all who write the index of a volume take first.
fn hold(database: &Database) -> Lock {
    database.holding("SELECT 1 FROM dpd_indexing_state FOR NO KEY UPDATE")
}

/// Waits until so many wait for it.
fn wait_for_writers(database: &Database, count: usize) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%'";
    tests::wait_for(&format!("{count} writers"), || (database.value(waiting) == count).then_some(()));
}

#[test]
fn of_two_at_once_the_later_obeys_the_rule_of_the_earlier() {
    let block = "eb-race-20240101-1";
    let site = daemons(|_| {}, &[]);
    let database = &site._site.as_ref().expect("daemons").database;
    let restricted = metadata(block, &json!("staff"), 1);
    let open = json!({"execution_block": block, "n": 2});
    // Who comes first is in both cases one whose metadata are for staff in the end.
    for (n, ((first, first_token), (second, second_token))) in
        [((&restricted, None), (&open, None)), ((&open, None), (&restricted, Some(MEMBER)))].into_iter().enumerate()
    {
        let held = hold(database);
        std::thread::scope(|scope| {
            let mut asking = Vec::new();
            for (n, (body, token)) in [(first, first_token), (second, second_token)].into_iter().enumerate() {
                let site = &site;
                asking.push(scope.spawn(move || bring(site, token, body)));
                wait_for_writers(database, n + 1);
            }
            drop(held);
            let statuses: Vec<u16> = asking.into_iter().map(|asking| asking.join().expect("an answer")).collect();
            assert_eq!(statuses, [201, 201], "case {n}");
        });
        assert_eq!(site.api.search(&[]).len(), 0, "case {n}");
        assert_eq!(seen(&site, block)["n"], 1, "case {n}");
        database.execute("DELETE FROM data_product");
    }
}

const HUSH: &str = "eb-hush-20240102-1";

/// Only what is announced is found, once everything was walked.
const POLLED: &[(&str, &str)] = &[("DPD_WATCH", "poll"), ("DPD_RECONCILE_SECONDS", "3600")];

fn hush(volume: &Volume) {
    let guarded = |n: u32| format!("context: {{access_group: staff}}\nn: {n}");
    volume.product("eb-open-20240101-1", "eb-open-20240101-1", "n: 0");
    volume.product("eb-open-20240101-1/inner", HUSH, &guarded(1));
    volume.product("eb-hush/ska-sdp/pb", HUSH, &guarded(1));
    volume.product("eb-hush/ska-sdp/broken", HUSH, &guarded(1));
    volume.product("eb-never", HUSH, "context: {access_group: staff}\nx: [");
    volume.product("eb-faulty", "eb-faulty-20240101-1", "x: [");
    std::os::unix::fs::symlink("/etc", volume.at("eb-hush/ska-sdp/pb/out")).expect("a link");
    std::os::unix::fs::symlink("/etc", volume.at("out")).expect("a link");
}

#[test]
fn announcements_tell_strangers_nothing_of_what_they_may_not_see() {
    each(hush, POLLED, |site| {
        let announce = |token, block: &str, folder: &str| {
            let body = json!({"execution_block": block, "relativePathName": folder});
            let answer = send(&site.api, FOLDER_CALL, token, &body);
            (answer.status, String::from_utf8(answer.body).expect("text"))
        };
        // Known to be restricted by its last good version; what does not read says nothing of groups.
        site.volume.write(&format!("eb-hush/ska-sdp/broken/{METADATA}"), "x: [");
        for token in [None, Some(OUTSIDER)] {
            let missing = announce(token, "eb-x", "eb-nowhere/ska-sdp/pb");
            assert_eq!(missing.0, 404);
            for (block, folder) in [
                ("eb-x", "eb-hush/ska-sdp/pb"),
                (HUSH, "eb-hush/ska-sdp/pb"),
                (HUSH, "product/../eb-hush/ska-sdp/pb"),
                ("eb-x", "eb-open-20240101-1/inner"),
                (HUSH, "eb-open-20240101-1/inner"),
                (HUSH, "eb-hush/ska-sdp/broken"),
                (HUSH, "eb-hush/ska-sdp"),
                (HUSH, "eb-hush/ska-sdp/pb/out"),
                (HUSH, "eb-hush/ska-sdp/pb/none"),
                (HUSH, "eb-never"),
                ("eb-x", "eb-never"),
            ] {
                if folder.contains("..") {
                    assert_eq!(announce(token, block, folder).0, announce(token, block, "a/../eb-nowhere").0);
                    continue;
                }
                assert_eq!(announce(token, block, folder), missing, "{token:?} {block} {folder}");
            }
            // Nor by what is looked at next.
            for folder in ["eb-nowhere", "eb-hush/ska-sdp/pb", "eb-hush/ska-sdp/pb/out", "eb-never"] {
                let (status, body) = announce(token, "eb-open-20240101-1", folder);
                assert!(status == 201 && body.contains("uid"), "{folder}: {status} {body}");
            }
            // What everybody may know is told as before.
            assert_eq!(announce(token, "eb-x", "eb-open-20240101-1").0, 400);
            assert_eq!(announce(token, "eb-x", "out").0, 400);
            let (status, body) = announce(token, "eb-faulty-20240101-1", "eb-faulty");
            assert!(status == 422 && body.contains("line 2"), "{status} {body}");
        }
        assert_eq!(announce(Some(MEMBER), "eb-x", "eb-hush/ska-sdp/pb").0, 400);
        assert_eq!(announce(Some(MEMBER), HUSH, "eb-hush/ska-sdp/broken").0, 422);
        let (status, body) = announce(Some(MEMBER), HUSH, "eb-hush/ska-sdp/pb");
        assert!(status == 201 && body.contains("uid"), "{status} {body}");
    });
}

#[test]
fn whoever_announces_it_a_file_is_read_again() {
    each(hush, POLLED, |site| {
        let folder = "eb-hush/ska-sdp/pb";
        let found = |pair: &str| {
            let body = json!({"key_value_pairs": [pair]});
            send(&site.api, "/dataproductsearch", Some(MEMBER), &body).json().as_array().map(Vec::len)
        };
        for (n, block) in [(2, HUSH), (3, "eb-x")] {
            site.volume.product(folder, HUSH, &format!("context: {{access_group: staff}}\nn: {n}"));
            assert_eq!(found(&format!("n:{n}")), Some(0));
            let body = json!({"execution_block": block, "relativePathName": folder});
            assert_eq!(send(&site.api, FOLDER_CALL, None, &body).status, 404);
            assert_eq!(found(&format!("n:{n}")), Some(1), "{block}");
        }
    });
}

#[test]
fn a_product_that_comes_back_while_it_is_announced_is_found() {
    let site = daemons(|_| {}, POLLED);
    let database = &site._site.as_ref().expect("daemons").database;
    let body = json!({"execution_block": "eb-a-20240101-1", "relativePathName": "eb-1"});
    site.volume.product("eb-1", "eb-a-20240101-1", "x: one");
    let held = hold(database);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| send(&site.api, FOLDER_CALL, None, &body).status);
        wait_for_writers(database, 1);
        // What was read goes before it is written, and is written all the same.
        fs::remove_dir_all(site.volume.at("eb-1")).expect("removed");
        let next = scope.spawn(|| hold(database));
        wait_for_writers(database, 2);
        drop(held);
        let next = next.join().expect("a lock");
        wait_for_writers(database, 1);
        assert_eq!(database.value("SELECT count(*) FROM data_product"), 1);
        // The next version comes before that is taken back.
        site.volume.product("eb-1", "eb-a-20240101-1", "x: two");
        drop(next);
        assert_eq!(asking.join().expect("an answer"), 201);
    });
    assert_eq!((site.api.search(&["x:two"]).len(), site.api.folders()), (1, vec!["eb-1".to_owned()]));
    // One that stays away leaves nothing behind.
    let held = hold(database);
    std::thread::scope(|scope| {
        site.volume.product("eb-2", "eb-b-20240101-1", "x: gone");
        let body = json!({"execution_block": "eb-b-20240101-1", "relativePathName": "eb-2"});
        let api = &site.api;
        let asking = scope.spawn(move || send(api, FOLDER_CALL, None, &body).status);
        wait_for_writers(database, 1);
        fs::remove_dir_all(site.volume.at("eb-2")).expect("removed");
        drop(held);
        assert_eq!(asking.join().expect("an answer"), 404);
    });
    assert_eq!(site.api.folders(), ["eb-1"]);
}
