//! The session cookie: what a browser may do with it, and what is no cookie.

use super::{Guarded, cookie, daemons, session, standalone};
use serde_json::{Value, json};
use tests::permissions::{COLLEAGUE, MEMBER, Mode, OUTSIDER};
use tests::program::{Answer, Server};
use tests::volume::Volume;

/// Those of base 64 in URLs.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn fill(volume: &Volume) {
    volume.product("eb-open", "eb-open-20240101-00001", "n: 1");
    volume.product("eb-staff", "eb-staff-20240101-00001", "context: {access_group: staff}\nn: 2");
    volume.write("eb-staff/data.bin", "guarded content");
}

/// How many products a filter finds with these headers.
fn total(api: &Server, headers: &[(&str, &str)]) -> u64 {
    let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
    let answer = api.ask_with("POST", "/filterdataproducts", &headers, b"{}");
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["total"].as_u64().expect("a total")
}

/// The uid of the product that only members see.
fn guarded(api: &Server) -> String {
    let found = api.ask("POST", "/dataproductsearch", Some(MEMBER), br#"{"key_value_pairs": ["n:2"]}"#).json();
    found[0]["uid"].as_str().expect("a uid").to_owned()
}

/// An attribute of the cookie that an answer sets.
fn attribute(answer: &Answer, name: &str) -> Option<String> {
    let attributes = answer.header("set-cookie").split("; ").skip(1);
    let pairs = attributes.map(|attribute| attribute.split_once('=').unwrap_or((attribute, "")));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).next()
}

fn vary(answer: &Answer) -> String {
    let all = answer.headers.iter().filter(|(name, _)| name == "vary");
    all.map(|(_, value)| value.to_ascii_lowercase()).collect::<Vec<_>>().join(", ")
}

/// A token of a member with claims; see the tests' permissions service.
fn token(claims: &Value) -> String {
    let base64 = |text: &str| {
        let mut encoded = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let bits =
                chunk.iter().enumerate().fold(0_usize, |bits, (at, byte)| bits | usize::from(*byte) << (16 - 8 * at));
            encoded.extend((0..=chunk.len()).map(|at| char::from(DIGITS[bits >> (18 - 6 * at) & 63])));
        }
        encoded
    };
    format!("{}.{}.{MEMBER}", base64(r#"{"alg":"RS256"}"#), base64(&claims.to_string()))
}

fn now() -> i64 {
    shared::clock::now().timestamp()
}

#[test]
fn a_browser_carries_the_proof() {
    for site in [standalone(fill, &[]), daemons(fill, &[])] {
        let (api, uid) = (&site.api, guarded(&site.api));
        let path = format!("/download/{uid}");
        assert!([403, 404].contains(&api.get(&path).status));
        // What the dashboard sends its token with.
        let answer = api.ask("POST", "/filterdataproducts", Some(MEMBER), b"{}");
        let mine = cookie(&answer).expect("a cookie");
        let is = |name| attribute(&answer, name);
        assert_eq!((is("Path").as_deref(), is("SameSite").as_deref()), (Some("/"), Some("Strict")));
        assert_eq!((is("HttpOnly").as_deref(), is("Max-Age").as_deref(), is("Secure")), (Some(""), Some("900"), None));
        assert!(!mine.contains(MEMBER) && answer.header("cache-control").contains("private"));

        // What it, and the browser itself, send none with.
        let archive = api.get_with(&path, &[("cookie", &mine), ("sec-fetch-site", "same-origin")]);
        assert_eq!(archive.status, 200);
        assert!(String::from_utf8_lossy(&archive.body).contains("guarded content"));
        assert!(vary(&archive).contains("cookie") && vary(&archive).contains("authorization"), "{}", vary(&archive));
        assert!(archive.header("cache-control").contains("private"), "{}", archive.header("cache-control"));
        let again = api.get_with(&path, &[("cookie", &mine), ("if-none-match", archive.header("etag"))]);
        assert_eq!((again.status, vary(&again).contains("cookie")), (304, true));
        let metadata = api.ask_with(
            "POST",
            "/dataproductmetadata",
            &[("cookie", &mine), ("content-type", "application/json; charset=utf-8")],
            json!({ "uid": uid }).to_string().as_bytes(),
        );
        assert_eq!((metadata.status, &metadata.json()["n"]), (200, &json!(2)));
        // It is no proof for ever: only a token renews it.
        assert_eq!((archive.header("set-cookie"), metadata.header("set-cookie")), ("", ""));
        // Nor for what a page can have a browser do without being asked.
        let form = [("cookie", mine.as_str()), ("content-type", "text/plain")];
        let by_form = api.ask_with("POST", "/dataproductmetadata", &form, json!({ "uid": uid }).to_string().as_bytes());
        assert!([403, 404].contains(&by_form.status));
        assert!(
            [403, 404].contains(&api.get_with(&path, &[("cookie", &mine), ("sec-fetch-site", "cross-site")]).status)
        );
        // A refusal depends on who asks as much.
        let refused = api.get(&path);
        assert!(vary(&refused).contains("cookie") && refused.header("cache-control").contains("private"));
        // What is the same for all may be kept by all.
        let page = api.ask("GET", "/docs", Some(MEMBER), b"");
        assert_eq!((page.header("set-cookie"), page.header("cache-control")), ("", ""));
    }
}

#[test]
fn the_header_wins_and_replaces_it() {
    let site = standalone(fill, &[]);
    let (api, mine) = (&site.api, session(&site.api, MEMBER));
    assert_eq!(total(api, &[("cookie", &mine)]), 2);
    let headers = [("cookie", mine.as_str()), ("authorization", &format!("Bearer {OUTSIDER}"))];
    let answer = api.ask_with("POST", "/filterdataproducts", &headers, b"{}");
    assert_eq!(answer.json()["total"], 1);
    let his = cookie(&answer).expect("another cookie");
    assert_eq!((total(api, &[("cookie", &his)]), total(api, &[("cookie", &mine)])), (1, 2));
    // Even one that is no bearer token.
    assert_eq!(total(api, &[("cookie", &mine), ("authorization", "Basic YTpi")]), 1);
    // A token that is refused sets none, and removes what there is of another.
    let refused = |cookie: &str| {
        let headers = [("cookie", cookie), ("authorization", "Bearer nobodys")];
        api.ask_with("GET", "/muidatagridconfig", &headers, b"")
    };
    assert_eq!(refused("").header("set-cookie"), "");
    assert_eq!(refused("dpd_session=forged").header("set-cookie"), "");
    let removed = refused(&mine);
    assert_eq!((cookie(&removed), attribute(&removed, "Max-Age").as_deref()), (None, Some("0")));
}

#[test]
fn what_is_no_cookie_is_none() {
    let (site, other) = (standalone(fill, &[]), standalone(fill, &[]));
    let (api, mine, foreign) = (&site.api, session(&site.api, MEMBER), session(&other.api, MEMBER));
    let value = mine.strip_prefix("dpd_session=").expect("its name").to_owned();
    let mut forged = value.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    for bad in [
        foreign.clone(),
        format!("dpd_session={forged}"),
        format!("dpd_session={}", &value[..value.len() - 1]),
        format!("dpd_session={}", &value[..20]),
        format!("dpd_session={value}{value}"),
        format!("dpd_session={MEMBER}"),
        format!("other={value}"),
        "dpd_session=".to_owned(),
        "dpd_session".to_owned(),
        ";=;;".to_owned(),
        format!("dpd_session={}", "x".repeat(5000)),
    ] {
        assert_eq!(total(api, &[("cookie", &bad)]), 1, "{bad}");
        // A good one beside it counts: it may be another service's, at the same host.
        assert_eq!(total(api, &[("cookie", &format!("a=b; {bad}; {mine}"))]), 2, "{bad}");
        assert_eq!(total(api, &[("cookie", &bad), ("cookie", &mine)]), 2, "{bad}");
    }
}

#[test]
fn it_ends_with_the_token() {
    let site = standalone(fill, &[]);
    let ask = |claims: Value| {
        let answer = site.api.ask("POST", "/filterdataproducts", Some(&token(&claims)), b"{}");
        assert_eq!(answer.json()["total"], 2, "{claims}");
        (cookie(&answer), attribute(&answer, "Max-Age").map_or(0, |age| age.parse::<u64>().expect("seconds")))
    };
    assert_eq!(ask(json!({"exp": now() + 100_000})).1, 900);
    assert_eq!(ask(json!({"exp": "tomorrow"})).1, 900);
    let (soon, lasts) = ask(json!({"exp": now() + 3}));
    let soon = soon.expect("a cookie");
    assert!((1..=3).contains(&lasts), "{lasts}");
    // However long the answer of the permissions service counts.
    tests::wait_for("its end", || (total(&site.api, &[("cookie", &soon)]) == 1).then_some(()));
    // Whoever vouches for a token that ended long ago, nobody has to believe it for longer.
    assert_eq!(ask(json!({"exp": 5})), (None, 0));
    assert_eq!(ask(json!({"exp": -5})), (None, 0));
}

#[test]
fn tokens_that_are_too_large_set_none_and_it_is_said() {
    let site = standalone(fill, &[]);
    // Whatever is made of it, it stays large.
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(DIGITS[usize::try_from(state >> 58).expect("six bits")])
    };
    let noise: String = (0..6000).map(|_| letter()).collect();
    for _ in 0..2 {
        let answer = site.api.ask("POST", "/filterdataproducts", Some(&format!("{noise}.{MEMBER}")), b"{}");
        assert_eq!((&answer.json()["total"], answer.header("set-cookie")), (&json!(2), ""));
    }
    site.api.wait_for_log("too large for a session cookie", 1);
    // Usual ones of the same size are not: they say much twice.
    let groups: Vec<String> = (0..120).map(|n| format!("/realm/projects/telescope/group-{n}")).collect();
    let large = token(&json!({ "groups": groups }));
    assert!(large.len() > 5000, "{}", large.len());
    assert_eq!(total(&site.api, &[("cookie", &session(&site.api, &large))]), 2);
}

#[test]
fn a_permissions_service_that_is_down_takes_none_away() {
    let site = daemons(fill, &[]);
    let mine = session(&site.api, MEMBER);
    let path = format!("/download/{}", guarded(&site.api));
    // One that knows nobody yet.
    let other = daemons_of(&site, &[]);
    site.permissions.set(Mode::Status(500));
    let answer = other.get_with(&path, &[("cookie", &mine)]);
    assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
    assert!(answer.json()["detail"].as_str().expect("a detail").contains("answered 500"), "{}", answer.json());
    let headers = [("cookie", mine.as_str()), ("authorization", &format!("Bearer {COLLEAGUE}"))];
    assert_eq!(other.ask_with("GET", "/muidatagridconfig", &headers, b"").header("set-cookie"), "");
    site.permissions.set(Mode::Well);
    tests::wait_for("the groups", || (other.get_with(&path, &[("cookie", &mine)]).status == 200).then_some(()));
    // One whose token is not taken any more is removed.
    site.permissions.set(Mode::Status(401));
    let removed = daemons_of(&site, &[]).get_with("/muidatagridconfig", &[("cookie", &mine)]);
    assert_eq!(attribute(&removed, "Max-Age").as_deref(), Some("0"));
}

/// Another `dpd-api` on the database of these daemons.
fn daemons_of(site: &Guarded, variables: &[(&str, &str)]) -> Server {
    let daemons = &site._site.as_ref().expect("daemons").daemons;
    variables.iter().fold(daemons.clone(), |daemons, (name, value)| daemons.with(name, value)).api()
}

#[test]
fn all_apis_of_a_database_share_the_key() {
    let site = daemons(fill, &[]);
    let database = &site._site.as_ref().expect("daemons").database;
    let another = || daemons_of(&site, &[]);
    // Whoever is first, all come to the same.
    let apis: Vec<Server> = (0..4).map(|_| another()).collect();
    let cookies: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = apis.iter().map(|api| scope.spawn(|| session(api, MEMBER))).collect();
        asking.into_iter().map(|asking| asking.join().expect("a cookie")).collect()
    });
    for api in apis.iter().chain([&site.api]) {
        for cookie in &cookies {
            assert_eq!(total(api, &[("cookie", cookie)]), 2);
        }
    }
    assert_eq!(database.value("SELECT count(*)::int FROM dpd_session_key"), json!(1));
    // It outlives them.
    drop(apis);
    assert_eq!(total(&another(), &[("cookie", &cookies[0])]), 2);
    // Until it is removed: then there is another, and what was sealed with the first is no cookie.
    database.execute("DELETE FROM dpd_session_key");
    let (first, second) = (another(), another());
    assert_eq!(total(&first, &[("cookie", &cookies[0])]), 1);
    assert_eq!(total(&second, &[("cookie", &session(&first, MEMBER))]), 2);
}

#[test]
fn without_a_key_there_is_no_cookie_and_no_error() {
    let site = daemons(fill, &[]);
    let database = &site._site.as_ref().expect("daemons").database;
    let read_only = |on: &str| {
        database.execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = {on}", database.name()));
    };
    read_only("on");
    let api = daemons_of(&site, &[]);
    let ask = || {
        let answer = api.ask("POST", "/filterdataproducts", Some(MEMBER), b"{}");
        assert_eq!((answer.status, &answer.json()["total"]), (200, &json!(2)));
        cookie(&answer)
    };
    assert_eq!((ask(), ask()), (None, None));
    assert_eq!(total(&api, &[("cookie", "dpd_session=x")]), 1);
    api.wait_for_log("session cookies are neither set nor taken", 1);
    read_only("off");
    // Connections that are open stay as they are.
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let mine = tests::wait_for("a key", || {
        let answer = api.ask("POST", "/filterdataproducts", Some(MEMBER), b"{}");
        cookie(&answer)
    });
    // What is there can be read where nothing can be written.
    read_only("on");
    assert_eq!(total(&daemons_of(&site, &[]), &[("cookie", &mine)]), 2);
}

#[test]
fn it_says_how_it_came_and_where_it_goes() {
    let site = standalone(fill, &[("API_ROOT_PATH", "/integration/api")]);
    let bearer = format!("Bearer {MEMBER}");
    let set = |name: &str, value: &str| {
        let headers = [("authorization", bearer.as_str()), (name, value)];
        site.api.ask_with("POST", "/integration/api/filterdataproducts", &headers, b"{}")
    };
    for https in
        [("x-forwarded-proto", "https"), ("forwarded", "for=10.0.0.1;proto=https"), ("origin", "https://a.org")]
    {
        let answer = set(https.0, https.1);
        assert_eq!(attribute(&answer, "Secure").as_deref(), Some(""), "{https:?}");
        assert_eq!(attribute(&answer, "Path").as_deref(), Some("/integration/api"));
    }
    assert_eq!(attribute(&set("x-forwarded-proto", "http"), "Secure"), None);
    let mine = cookie(&set("x-forwarded-proto", "https")).expect("a cookie");
    let path = format!("/integration/api/download/{}", guarded(&site.api));
    assert_eq!(site.api.get_with(&path, &[("cookie", &mine)]).status, 200);
}

#[test]
fn it_can_be_turned_off() {
    let site = daemons(fill, &[("DPD_SESSION_COOKIE", "off")]);
    let answer = site.api.ask("POST", "/filterdataproducts", Some(MEMBER), b"{}");
    assert_eq!((&answer.json()["total"], answer.header("set-cookie")), (&json!(2), ""));
    assert!(vary(&answer).contains("authorization") && !vary(&answer).contains("cookie"));
    let on = daemons_of(&site, &[("DPD_SESSION_COOKIE", "on")]);
    let mine = session(&on, MEMBER);
    assert_eq!((total(&on, &[("cookie", &mine)]), total(&site.api, &[("cookie", &mine)])), (2, 1));
}
