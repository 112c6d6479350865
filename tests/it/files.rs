//! The files of a product: listed, and one by one.

use crate::daemons::Site;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use tests::program::{Server, read_all};
use tests::volume::Volume;

const BLOCK: &str = "eb-a-20240101-1";
const METADATA: &str = "files:\n- {path: ./a.h5, crc: 12345e10, status: done, size: 5}\n\
    - {path: /product/eb/pb/scan/b.h5, crc: 2a890fbe, status: failure}\n- {path: vis.ms, crc: null, status: working}";

fn uid(server: &Server, folder: &str) -> String {
    let rows = server.search(&[&format!("dataproduct_file:{folder}")]);
    let row = rows.iter().find(|row| row["dataproduct_file"] == folder).expect("the product");
    row["uid"].as_str().expect("a uid").to_owned()
}

fn paths(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("files").iter().map(|file| file["path"].as_str().expect("a path")).collect()
}

fn product(volume: &Volume) {
    volume.product("eb/pb", BLOCK, METADATA);
    for path in ["a.h5", "scan/b.h5", "vis.ms/table.f0", "z z.txt"] {
        volume.write(&format!("eb/pb/{path}"), path);
    }
}

/// The same of either program.
fn lists(server: &Server) {
    let uid = uid(server, "eb/pb");
    let files = format!("/products/{uid}/files");
    let all = server.get_json(&files);
    assert_eq!(paths(&all), ["a.h5", "scan/b.h5", "ska-data-product.yaml", "vis.ms/table.f0", "z z.txt"]);
    assert_eq!((&all["total"], &all["page"], &all["pageSize"]), (&json!(5), &json!(0), &json!(100)));
    assert_eq!(all["folder"], "eb/pb");
    let head = server.head(&format!("/download/{uid}"));
    assert_eq!(all["archive"]["etag"], head.header("etag"));
    assert_eq!(all["archive"]["size"].to_string(), head.header("content-length"));
    let said = |n: usize| (all["data"][n].get("crc").cloned(), all["data"][n].get("status").cloned());
    assert_eq!(said(0), (Some(json!("12345e10")), Some(json!("done"))));
    assert_eq!(said(1), (Some(json!("2a890fbe")), Some(json!("failure"))));
    assert_eq!(said(2), (None, None));
    assert_eq!(said(3), (None, Some(json!("working"))));
    for file in all["data"].as_array().expect("files") {
        let answer = server.get(file["url"].as_str().expect("a URL"));
        assert_eq!((answer.status, json!(answer.body.len())), (200, file["size"].clone()), "{file}");
        assert!(file["mtime"].as_str().expect("a time").ends_with("+00:00"));
    }

    let page = server.get(&format!("{files}?pageSize=2&page=1"));
    assert_eq!(paths(&page.json()), ["ska-data-product.yaml", "vis.ms/table.f0"]);
    let links = "<?page=0&pageSize=2>; rel=\"first\", <?page=2&pageSize=2>; rel=\"last\", \
                 <?page=0&pageSize=2>; rel=\"prev\", <?page=2&pageSize=2>; rel=\"next\"";
    assert_eq!(page.header("link"), links);
    assert!(paths(&server.get_json(&format!("{files}?pageSize=2&page=7"))).is_empty());
    assert_eq!(server.get_json(&format!("{files}?pageSize=99999999"))["pageSize"], 10_000);
    for query in ["page=-1", "page=x", "pageSize=1.5", "page=99999999999999999999999"] {
        assert_eq!(server.get(&format!("{files}?{query}")).status, 400, "{query}");
    }
    assert_eq!(server.get("/products/x/files").status, 400);
    assert_eq!(server.get("/products/00000000-0000-0000-0000-000000000000/files").status, 404);
}

#[test]
fn files_are_listed_with_what_the_metadata_say() {
    let site = Site::new();
    product(&site.volume);
    let (_indexer, api) = site.daemons.pair();
    lists(&api);
    lists(&Server::start(site.volume.path()));
    // Nothing on the volume stands behind it.
    let ingested = api.post("/ingestnewmetadata", &json!({"execution_block": "eb-b-20240101-1"})).json();
    let uid = ingested["uid"].as_str().expect("a uid");
    for path in [format!("/products/{uid}/files"), format!("/products/{uid}/files/a"), format!("/download/{uid}")] {
        assert_eq!(api.get(&path).status, 404, "{path}");
    }
}

#[test]
fn one_file_comes_in_parts_too() {
    let volume = Volume::new();
    product(&volume);
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    volume.write("eb/pb/data.csv", &content);
    volume.write("eb/pb/empty", "");
    volume.write("eb/pb/page.html", "<script>");
    let server = Server::start(volume.path());
    let files = format!("/products/{}/files", uid(&server, "eb/pb"));
    let path = format!("{files}/data.csv");
    let whole = server.get(&path);
    assert!(whole.status == 200 && whole.body == content);
    assert_eq!(whole.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(whole.header("content-disposition"), "inline; filename=\"data.csv\"");
    assert_eq!(server.head(&path).header("etag"), whole.header("etag"));
    for (range, part) in [("bytes=5-", 5..400_000), ("bytes=5-70000", 5..70_001), ("bytes=-9", 399_991..400_000)] {
        let answer = server.get_with(&path, &[("Range", range), ("If-Range", whole.header("etag"))]);
        assert!(answer.status == 206 && answer.body == content[part], "{range}");
    }
    assert_eq!(server.get_with(&path, &[("Range", "bytes=400000-")]).status, 416);
    assert_eq!(server.get_with(&path, &[("If-None-Match", whole.header("etag"))]).status, 304);
    // In the second of the change an answer does not say yet when that was, for there may be another.
    tests::wait_for("the next second", || {
        let whole = server.get(&path);
        let answer = server.get_with(&path, &[("If-Modified-Since", whole.header("last-modified"))]);
        (answer.status == 304).then_some(())
    });
    let empty = server.get_with(&format!("{files}/empty"), &[("Range", "bytes=0-")]);
    assert_eq!((empty.status, empty.header("content-length")), (200, "0"));
    // Nothing that a browser would run in the service's name.
    let page = server.get(&format!("{files}/page.html"));
    assert_eq!(page.header("content-type"), "application/octet-stream");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    fs::write(volume.at("eb/pb/data.csv"), &content[4..]).expect("written");
    let answer = server.get_with(&path, &[("Range", "bytes=5-"), ("If-Range", whole.header("etag"))]);
    assert!(answer.status == 200 && answer.body == content[4..]);
}

#[test]
fn nothing_else_is_served_whatever_the_path() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("file"), "secret").expect("a file");
    let volume = Volume::new();
    product(&volume);
    volume.write("eb/other", "secret");
    volume.write("top", "secret");
    symlink(outside.path(), volume.at("eb/pb/out")).expect("a link");
    symlink(outside.path().join("file"), volume.at("eb/pb/outfile")).expect("a link");
    symlink("../other", volume.at("eb/pb/over")).expect("a link");
    symlink("scan", volume.at("eb/pb/inside")).expect("a link");
    fs::write(volume.at("eb/pb").join(OsStr::from_bytes(b"odd \xff\n")), "odd").expect("a file");
    assert!(std::process::Command::new("mkfifo").arg(volume.at("eb/pb/fifo")).status().expect("mkfifo").success());
    let server = Server::start(volume.path());
    let uid = uid(&server, "eb/pb");
    for path in [
        "../other",
        "..%2fother",
        "%2e%2e/other",
        "scan/../../other",
        "scan%2F..%2F..%2Fother",
        "%2e%2e%2f%2e%2e%2ftop",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "out/file",
        "outfile",
        "over",
        "inside/b.h5",
        "fifo",
        "scan",
        "scan/",
        "./a.h5",
        "a.h5%00",
        "%00",
        "a.h5/",
        "a.h5/x",
        "nothing",
        "a%2Eh5%20",
        "%",
        "%zz",
        ".",
    ] {
        // By hand: a client would put some of them right.
        let mut stream = server.connect();
        let head = format!("GET /products/{uid}/files/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("a request");
        let answer = read_all(&stream, tests::PATIENCE);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"detail\""), "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}");
    }
    let get = |path: &str| server.get(&format!("/products/{uid}/files/{path}"));
    assert_eq!((get("scan/b.h5").body, get("scan%2Fb.h5").body), (b"scan/b.h5".to_vec(), b"scan/b.h5".to_vec()));
    assert_eq!(get("z%20z.txt").status, 200);
    let listed = server.get_json(&format!("/products/{uid}/files"));
    let odd = &listed["data"][1];
    assert_eq!((&odd["path"], &odd["size"]), (&json!("odd \u{fffd}\n"), &json!(3)));
    assert_eq!(server.get(odd["url"].as_str().expect("a URL")).body, b"odd");
}

#[test]
fn products_inside_are_shown_to_those_who_may_see_them() {
    let volume = Volume::new();
    volume.product("eb", BLOCK, "");
    volume.product("eb/hidden", BLOCK, "context: {access_group: staff}");
    volume.write("eb/hidden/data", "secret");
    volume.write("eb/hidden/deep/data", "secret");
    volume.product("eb/hidden/open", BLOCK, "");
    volume.write("eb/hidden/open/data", "public");
    volume.product("eb/broken", BLOCK, "[");
    volume.write("eb/broken/data", "secret");
    volume.product("eb/vis.ms", BLOCK, "");
    volume.write("eb/vis.ms/data", "table");
    symlink("hidden/data", volume.at("eb/link")).expect("a link");
    let server = Server::start(volume.path());
    let files = format!("/products/{}/files", uid(&server, "eb"));
    let listed = server.get_json(&files);
    let file = "ska-data-product.yaml";
    let expected = [
        "hidden/open/data".to_owned(),
        format!("hidden/open/{file}"),
        file.to_owned(),
        "vis.ms/data".to_owned(),
        format!("vis.ms/{file}"),
    ];
    assert_eq!(paths(&listed), expected);
    for path in expected {
        assert_eq!(server.get(&format!("{files}/{path}")).status, 200, "{path}");
    }
    for path in ["hidden/data", "hidden/deep/data", &format!("hidden/{file}"), "broken/data", "link"] {
        assert_eq!(server.get(&format!("{files}/{path}")).status, 404, "{path}");
    }
}
