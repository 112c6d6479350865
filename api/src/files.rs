//! A product's files: listed, and one by one.
//!
//! What is listed is what the product's archive holds, less links and those folders that may be read. A file is opened name by name from the
//! product's folder on, and no link is followed.

use crate::download::content::{Content, Trouble, Why};
use crate::download::plan::{Index, Kind, Plan};
use crate::download::respond::{Representation, disposition, respond};
use crate::download::select::{Selection, prunes};
use crate::download::source::One;
use crate::download::version::Time;
use crate::download::{self, plan};
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::{Request, Wanted, wanted_uid};
use crate::{Api, lookup};
use chrono::{DateTime, Datelike};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::folder::Folder;
use shared::status::time_text;
use shared::volume::Volume;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;
use warp::http::{HeaderValue, header};

/// How many files are on a page where nothing else is asked for, and at the most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 10_000;
/// What stays as it is in the paths of URLs.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// `GET /products/{uid}/files`
pub(crate) async fn list(api: Arc<Api>, request: Request) -> Result<Response> {
    let uid = wanted_uid(&request)?;
    let (page, size) = (request.number("page", 0)?, request.number("pageSize", PAGE)?.min(LARGEST_PAGE));
    let product = lookup::product(&api, uid, &request.viewer).await?;
    let selection = Selection::of(&api, &Wanted::Uid(uid), &request.viewer).await?;
    let plan = plan(&api, &selection).await?;
    let Some(folder) = product.folder.clone() else { return Err(not_there()) };
    let root = api.settings.root_path.clone();
    let listed = move || {
        let shown = folder.as_path().to_owned();
        let files = Listed { folder: folder.prefix_below(), named: Named::of(&product.metadata, &folder), root, uid };
        let (total, mut answer) = files.page(&plan, page, size);
        answer["folder"] = shown.into();
        (total, answer)
    };
    let (total, answer) = tokio::task::spawn_blocking(listed).await.map_err(|_| ApiError::Internal)?;
    let mut response = reply::json(&answer);
    let links = links(page, size, total);
    response.headers_mut().extend(HeaderValue::from_str(&links).ok().map(|links| (header::LINK, links)));
    Ok(response)
}

/// Where the other pages are, relative to this one (RFC 8288).
fn links(page: usize, size: usize, total: usize) -> String {
    let last = total.saturating_sub(1).checked_div(size).unwrap_or(0);
    let link = |page: usize, rel| format!("<?page={page}&pageSize={size}>; rel=\"{rel}\"");
    let mut links = vec![link(0, "first"), link(last, "last")];
    links.extend((page > 0).then(|| link((page - 1).min(last), "prev")));
    links.extend((page < last).then(|| link(page + 1, "next")));
    links.join(", ")
}

/// What a listing shows of each file.
struct Listed {
    /// What the paths of the product's files begin with.
    folder: String,
    named: Named,
    root: String,
    uid: Uuid,
}

impl Listed {
    fn page(&self, plan: &Plan, page: usize, size: usize) -> (usize, Value) {
        let is_listed = |index: &Index| plan.kind(*index) == Kind::File || !plan.is_readable(*index);
        let files = || plan.indexes(0..plan.len()).filter(is_listed);
        let total = files().count();
        let on_page = files().skip(page.saturating_mul(size)).take(size);
        let data: Vec<Value> = on_page.map(|index| self.file(plan, index)).collect();
        let unreadable = plan.unreadable().map_or(0, |(count, _)| count);
        // There is none of what may not be read.
        let archive = (unreadable == 0).then(|| json!({"size": plan.total(), "etag": plan.etag()}));
        let mut answer = json!({"data": data, "total": total, "page": page, "pageSize": size});
        answer["archive"] = archive.into();
        answer["unreadable"] = unreadable.into();
        (total, answer)
    }

    fn file(&self, plan: &Plan, index: Index) -> Value {
        let whole = plan.path(index);
        // What does not begin so is the product's folder itself, where it may not be read.
        let path = whole.strip_prefix(self.folder.as_bytes()).unwrap_or(b".");
        let version = plan.version(index);
        let is_file = plan.kind(index) == Kind::File;
        let url = format!("{}/products/{}/files/{}", self.root, self.uid, percent_encode(path, ENCODED));
        let shown = String::from_utf8_lossy(path);
        let mut file = json!({
            // A name that is not UTF-8 is right in the URL only.
            "path": if is_file { shown.into_owned() } else { format!("{shown}/") },
            "size": version.size,
            "mtime": mtime(version.modified),
            "url": is_file.then_some(url),
            "readable": plan.is_readable(index),
        });
        if let (Some(own), Some(fields)) = (self.named.get(path), file.as_object_mut()) {
            fields.extend(own);
        }
        file
    }
}

/// When a file was written last; `None` where that is in no year that RFC 3339 has.
fn mtime(time: Time) -> Option<String> {
    let time = DateTime::from_timestamp(time.seconds(), time.nanoseconds())?;
    (0..=9999).contains(&time.year()).then(|| time_text(time))
}

/// What the metadata say of files, by their paths in the product's folder.
struct Named(HashMap<String, Map<String, Value>>);

impl Named {
    fn of(metadata: &Map<String, Value>, folder: &Folder) -> Named {
        let files = metadata.get("files").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let named = files.iter().filter_map(|file| {
            let path = path_in(file.get("path")?.as_str()?, folder)?;
            let known = ["crc", "status"].map(|key| Some((key.to_owned(), file.get(key)?.clone())));
            Some((path, known.into_iter().flatten().filter(|(_, value)| !value.is_null()).collect()))
        });
        Named(named.collect())
    }

    /// What is said of a file. A folder's status is that of all its files; its checksum is nobody's.
    fn get(&self, path: &[u8]) -> Option<Map<String, Value>> {
        let path = std::str::from_utf8(path).ok()?;
        if let Some(own) = self.0.get(path) {
            return Some(own.clone());
        }
        let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let mut folder = above.filter_map(|above| self.0.get(above)).next()?.clone();
        folder.remove("crc");
        Some(folder)
    }
}

/// A file's path in the product's folder, as metadata write it: relative, or absolute where the volume is mounted
/// somewhere else, so that the product's folder stands somewhere in it.
fn path_in(path: &str, folder: &Folder) -> Option<String> {
    let relative = match path.strip_prefix('/') {
        None => path,
        Some(_) if folder.is_root() => return None,
        Some(absolute) => {
            let folder = format!("/{folder}/");
            let begin = path.rfind(&folder)? + folder.len();
            absolute.get(begin - 1..)?
        }
    };
    let folder: Folder = relative.parse().ok()?;
    (!folder.is_root()).then(|| folder.as_str().to_owned())
}

fn not_there() -> ApiError {
    ApiError::NotFound("The data product has no such file.".to_owned())
}

/// `GET /products/{uid}/files/{path}`
pub(crate) async fn file(api: Arc<Api>, request: Request) -> Result<Response> {
    let uid = wanted_uid(&request)?;
    let path = names(request.tail.as_deref().unwrap_or_default()).ok_or_else(not_there)?;
    let selection = Selection::of(&api, &Wanted::Uid(uid), &request.viewer).await?;
    let folder = selection.folders.first().cloned().ok_or_else(not_there)?;
    let whole = Path::new(folder.as_path()).join(&path);
    let volume = api.volume.clone();
    let opening = tokio::task::spawn_blocking(move || open(&volume, &selection, &folder, &path));
    let content = match opening.await.map_err(|_| ApiError::Internal)? {
        Ok(content) => content,
        Err(Closed::NotThere) => return Err(not_there()),
        Err(Closed::Restless) => return Err(ApiError::changing()),
        Err(Closed::Unreadable(trouble)) => {
            warn!("a file cannot be handed out: {}", trouble.of(&whole));
            return Err(ApiError::unreadable(1, &whole));
        }
    };
    let name = whole.file_name().unwrap_or_default().as_bytes();
    let version = content.version();
    let representation = Representation {
        etag: download::plan::etag(&Sha256::digest(version.bytes())),
        settled: version.settled(),
        total: version.size,
        content_type: content_type(name),
        disposition: disposition("inline", name),
    };
    let open = |part| One::new(content, whole.clone(), part);
    respond(&request.head(), representation, &api.downloads, api.settings.chunk, open).await
}

/// The path in a URL; `None` where it could lead anywhere but down. Slashes may be encoded.
fn names(tail: &str) -> Option<PathBuf> {
    let bytes: Vec<u8> = percent_decode_str(tail).collect();
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    bytes.split(|byte| *byte == b'/').all(good).then(|| PathBuf::from(OsStr::from_bytes(&bytes)))
}

/// Why a file is not opened.
enum Closed {
    NotThere,
    /// It changes all the time.
    Restless,
    Unreadable(Trouble),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Closed {
        match shared::volume::is_gone(&error) {
            true => Closed::NotThere,
            false => Closed::Unreadable(Trouble::io(&error)),
        }
    }
}

/// Opens a file of a product, unless one of the folders on the way is a product that the caller may not see, was one lately,
/// or may be one.
fn open(volume: &Volume, selection: &Selection, top: &Folder, path: &Path) -> std::result::Result<Content, Closed> {
    let metadata_file = volume.origin().metadata_file.as_str();
    let root = volume.open()?;
    let mut folder = root.open_listable(top.as_path())?;
    let mut at = match top.is_root() {
        true => PathBuf::new(),
        false => PathBuf::from(top.as_path()),
    };
    let (mut pruned, mut hidden) = (volume.prunes_any(top), false);
    let (Some(name), Some(folders)) = (path.file_name(), path.parent()) else { return Err(Closed::NotThere) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for own in folders {
        at.push(own);
        pruned = pruned || prunes(volume, own);
        hidden = !selection.visible.has(&at) && (hidden || selection.hides(&at));
        folder = match openat(&folder, own, flags, Mode::empty()) {
            Ok(folder) => folder,
            // Nothing of it is told, nor why it cannot be opened.
            Err(_) if hidden => return Err(Closed::NotThere),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let may_be_product = statat(&folder, metadata_file, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        hidden = hidden || may_be_product && !pruned && !selection.visible.has(&at);
    }
    if hidden {
        return Err(Closed::NotThere);
    }
    Content::open(&folder, name).map_err(|trouble| match trouble.why() {
        Why::Unreadable => Closed::Unreadable(trouble),
        Why::Vanished => Closed::NotThere,
        Why::Changed => Closed::Restless,
    })
}

/// What a file's name says of its content. Nothing that a browser would run.
fn content_type(name: &[u8]) -> &'static str {
    let name = name.to_ascii_lowercase();
    let ending = name.rsplit(|byte| *byte == b'.').next().filter(|ending| ending.len() < name.len());
    match ending.unwrap_or_default() {
        b"yaml" | b"yml" => "application/yaml",
        b"json" => "application/json",
        b"txt" | b"log" | b"md" => "text/plain; charset=utf-8",
        b"csv" => "text/csv; charset=utf-8",
        b"fits" | b"fit" => "application/fits",
        b"h5" | b"hdf5" => "application/x-hdf5",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"pdf" => "application/pdf",
        b"tar" => "application/x-tar",
        b"gz" => "application/gzip",
        b"zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_down_only() {
        let read = |tail| names(tail).map(|path| path.into_os_string().into_encoded_bytes());
        assert_eq!(read("a/b%20c").as_deref(), Some(b"a/b c".as_slice()));
        assert_eq!(read("a%2Fb").as_deref(), Some(b"a/b".as_slice()));
        assert_eq!(read("%ff%0A-C").as_deref(), Some(b"\xff\n-C".as_slice()));
        assert_eq!(read("..a/b..").as_deref(), Some(b"..a/b..".as_slice()));
        for bad in
            ["", "/", "/etc", "a//b", "a/", ".", "..", "a/../b", "%2e%2e/x", "a%2F..%2Fb", "a%00b", "a/.%2e", "%2Fetc"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn metadata_name_files_in_several_ways() {
        let folder: Folder = "eb/pb".parse().expect("a folder");
        for (path, expected) in [
            ("a/b.h5", Some("a/b.h5")),
            ("./vis.ms", Some("vis.ms")),
            ("vis.ms/", Some("vis.ms")),
            ("/product/eb/pb/a.h5", Some("a.h5")),
            ("/eb/pb/eb/pb/a.h5", Some("a.h5")),
            ("/product/eb/pb2/a.h5", None),
            ("/a.h5", None),
            ("../a.h5", None),
            (".", None),
            ("/product/eb/pb/", None),
            ("é/ü", Some("é/ü")),
        ] {
            assert_eq!(path_in(path, &folder).as_deref(), expected, "{path}");
        }
        assert_eq!(path_in("/a.h5", &Folder::root()), None);
        let metadata = json!({"files": [
            {"path": "a", "crc": "12345e10", "status": "done", "size": 5},
            {"path": "./vis.ms", "crc": "00000000", "status": "working"},
            {"path": 5, "crc": "x"}, "b", {"crc": "x"}, {"path": "c", "crc": null},
        ]});
        let named = Named::of(metadata.as_object().expect("a map"), &folder);
        let get = |path: &str| named.get(path.as_bytes()).map(Value::Object);
        assert_eq!(get("a"), Some(json!({"crc": "12345e10", "status": "done"})));
        assert_eq!(get("vis.ms/t/table.f0"), Some(json!({"status": "working"})));
        assert_eq!(get("c"), Some(json!({})));
        assert_eq!(get("d"), None);
        assert!(Named::of(&Map::new(), &folder).get(b"a").is_none());
    }

    #[test]
    fn pages_know_each_other() {
        assert_eq!(
            links(1, 10, 25),
            "<?page=0&pageSize=10>; rel=\"first\", <?page=2&pageSize=10>; rel=\"last\", \
             <?page=0&pageSize=10>; rel=\"prev\", <?page=2&pageSize=10>; rel=\"next\""
        );
        assert_eq!(links(0, 0, 25), "<?page=0&pageSize=0>; rel=\"first\", <?page=0&pageSize=0>; rel=\"last\"");
    }
}
