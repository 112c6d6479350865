//! Keys and values of the configuration database, as bytes that anybody may have written.

use super::{DataDir, FlowId};
use serde_json::Value;

/// The largest value that is read, in bytes. Flows have a kilobyte or so.
pub const MAX_VALUE: usize = 256 * 1024;
/// The longest flow's name, in bytes: an index holds it.
const MAX_NAME: usize = 1000;
/// The only kind of flow that makes data products.
const KIND: &str = "data-product";

/// What a key of the configuration database is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A flow itself.
    Flow(FlowId),
    /// A flow's state.
    State(FlowId),
    /// The processing block of this id.
    ProcessingBlock(String),
    /// Something that the index has no use for.
    Other,
}

/// Why an entry is passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// The key is not of the form that keys of its prefix have.
    #[error("the key does not parse: expected /flow/<pb-id>:<kind>:<name> or /pb/<pb-id>")]
    Key,
    /// The value is no JSON.
    #[error("the value is no JSON: {0}")]
    NotJson(String),
    /// The value is JSON of another shape.
    #[error("the value has another shape: {0}")]
    Shape(&'static str),
    /// The value is too large to be read.
    #[error("the value is larger than {MAX_VALUE} bytes")]
    TooLarge,
}

impl Key {
    /// Reads a key, less the prefix that everything has.
    ///
    /// # Errors
    /// Where it is one of ours by its beginning and does not go on as ours do.
    pub fn parse(key: &[u8]) -> Result<Key, BadEntry> {
        let key = std::str::from_utf8(key).map_err(|_| BadEntry::Key)?;
        if let Some(rest) = key.strip_prefix("/flow/") {
            return Key::of_flow(rest);
        }
        match key.strip_prefix("/pb/") {
            Some(id) if id.contains('/') => Ok(Key::Other),
            Some(id) if is_processing_block(id) => Ok(Key::ProcessingBlock(id.to_owned())),
            Some(_) => Err(BadEntry::Key),
            None => Ok(Key::Other),
        }
    }

    fn of_flow(rest: &str) -> Result<Key, BadEntry> {
        let (name, below) = rest.split_once('/').map_or((rest, None), |(name, below)| (name, Some(below)));
        let mut parts = name.splitn(3, ':');
        let (block, kind, own) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if !is_processing_block(block) {
            return Err(BadEntry::Key);
        }
        match (kind, own, below) {
            // Older writers left the kind out of flows that are of no use here.
            (Some(_), None, _) => Ok(Key::Other),
            (Some(KIND), Some(""), _) | (None, _, _) => Err(BadEntry::Key),
            (Some(KIND), Some(_), _) if name.len() > MAX_NAME || name.contains('\0') => Err(BadEntry::Key),
            (Some(KIND), Some(_), None) => Ok(Key::Flow(FlowId(name.to_owned()))),
            (Some(KIND), Some(_), Some("state")) => Ok(Key::State(FlowId(name.to_owned()))),
            _ => Ok(Key::Other),
        }
    }
}

/// Whether this is a processing block's id: `pb-[a-z0-9]+-[0-9]{8}-[a-z0-9]+`, not longer than a flow's name may be.
pub(super) fn is_processing_block(id: &str) -> bool {
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let date = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = id.splitn(5, '-').collect();
    id.len() <= MAX_NAME && matches!(parts[..], ["pb", a, b, c] if plain(a) && date(b) && plain(c))
}

fn json(value: &[u8]) -> Result<Value, BadEntry> {
    if value.len() > MAX_VALUE {
        return Err(BadEntry::TooLarge);
    }
    let value: Value = serde_json::from_slice(value).map_err(|error| BadEntry::NotJson(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(BadEntry::Shape("it is no object")) }
}

/// Reads a flow's value: its folder, `None` where it names none.
///
/// # Errors
/// Where it is too large, no JSON, or of another shape.
pub fn data_dir(value: &[u8]) -> Result<Option<DataDir>, BadEntry> {
    let value = json(value)?;
    let sink = match value.get("sink") {
        Some(sink) if sink.is_object() => sink,
        _ => return Err(BadEntry::Shape("'sink' is no object")),
    };
    let dir = |path: &str, mount: Option<&Value>| {
        Some(DataDir { path: path.to_owned(), mount: mount.and_then(Value::as_str).map(str::to_owned) })
    };
    match sink.get("data_dir") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(path)) => Ok(dir(path, None)),
        Some(Value::Object(map)) => match map.get("pvc_subpath") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(path)) => Ok(dir(path, map.get("pvc_mount_path"))),
            Some(_) => Err(BadEntry::Shape("'sink.data_dir.pvc_subpath' is no string")),
        },
        Some(_) => Err(BadEntry::Shape("'sink.data_dir' is neither a string nor an object")),
    }
}

/// Reads the value of a flow's state: its status, `None` where it has none yet.
///
/// # Errors
/// As [`data_dir`].
pub fn status(value: &[u8]) -> Result<Option<String>, BadEntry> {
    match json(value)?.get("status") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(status)) => Ok(Some(status.clone()).filter(|status| !status.is_empty())),
        Some(_) => Err(BadEntry::Shape("'status' is no string")),
    }
}

/// Reads the value of a processing block: its execution block, `None` where it has none.
///
/// # Errors
/// As [`data_dir`].
pub fn block(value: &[u8]) -> Result<Option<String>, BadEntry> {
    match json(value)?.get("eb_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone()).filter(|id| !id.is_empty())),
        Some(_) => Err(BadEntry::Shape("'eb_id' is no string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys() {
        let id = |name: &str| FlowId(name.to_owned());
        let flow = "pb-test-20250101-0:data-product:vis";
        for (key, expected) in [
            (format!("/flow/{flow}"), Ok(Key::Flow(id(flow)))),
            (format!("/flow/{flow}/state"), Ok(Key::State(id(flow)))),
            (format!("/flow/{flow}:more"), Ok(Key::Flow(id(&format!("{flow}:more"))))),
            (format!("/flow/{flow}/owner"), Ok(Key::Other)),
            (format!("/flow/{flow}/state/x"), Ok(Key::Other)),
            ("/flow/pb-test-20250101-0:data-queue:vis".to_owned(), Ok(Key::Other)),
            ("/flow/pb-test-20250101-0:data-product-persist:vis".to_owned(), Ok(Key::Other)),
            ("/flow/pb-test-20250101-0:vis".to_owned(), Ok(Key::Other)),
            ("/pb/pb-test-20250101-0".to_owned(), Ok(Key::ProcessingBlock("pb-test-20250101-0".to_owned()))),
            ("/pb/pb-test-20250101-0/state".to_owned(), Ok(Key::Other)),
            ("/eb/eb-test-20250101-0".to_owned(), Ok(Key::Other)),
            ("/flow/garbage".to_owned(), Err(BadEntry::Key)),
            ("/flow/".to_owned(), Err(BadEntry::Key)),
            ("/flow/pb-Test-20250101-0:data-product:vis".to_owned(), Err(BadEntry::Key)),
            ("/flow/pb-test-2025010-0:data-product:vis".to_owned(), Err(BadEntry::Key)),
            ("/flow/pb-test-20250101-0-1:data-product:vis".to_owned(), Err(BadEntry::Key)),
            ("/flow/pb-test-20250101-0:data-product:".to_owned(), Err(BadEntry::Key)),
            (format!("/flow/{flow}{}", "x".repeat(2000)), Err(BadEntry::Key)),
            (format!("/flow/{flow}\0"), Err(BadEntry::Key)),
            ("/pb/nothing".to_owned(), Err(BadEntry::Key)),
        ] {
            assert_eq!(Key::parse(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(Key::parse(b"/flow/\xff"), Err(BadEntry::Key));
    }

    #[test]
    fn values_of_another_shape_are_passed_over() {
        let sink = |dir: Value| json!({"sink": {"kind": "data-product", "data_dir": dir}}).to_string();
        let path = |value: &str| data_dir(value.as_bytes()).map(|dir| dir.map(|dir| dir.path));
        assert_eq!(path(&sink(json!("/product/eb"))), Ok(Some("/product/eb".to_owned())));
        let object = json!({"k8s_namespaces": ["a"], "pvc_mount_path": "/mnt", "pvc_subpath": "product/eb"});
        assert_eq!(path(&sink(object)), Ok(Some("product/eb".to_owned())));
        assert_eq!(path(&sink(Value::Null)), Ok(None));
        for bad in [sink(json!(5)), sink(json!({"pvc_subpath": []})), "{}".into(), "[]".into(), "nothing".into()] {
            assert!(path(&bad).is_err(), "{bad}");
        }
        let large = format!("{{\"sink\": \"{}\"}}", "x".repeat(MAX_VALUE));
        assert_eq!(path(&large), Err(BadEntry::TooLarge));
        let deep = "{\"sink\":".repeat(100_000);
        assert!(matches!(path(&deep), Err(BadEntry::TooLarge | BadEntry::NotJson(_))));
        assert!(matches!(path(&"[".repeat(1000)), Err(BadEntry::NotJson(_))));
        assert_eq!(status(br#"{"status": "COMPLETED", "more": 1}"#), Ok(Some("COMPLETED".to_owned())));
        assert_eq!(status(br#"{"last_updated": "now"}"#), Ok(None));
        assert!(status(br#"{"status": 5}"#).is_err());
        assert_eq!(block(br#"{"eb_id": null}"#), Ok(None));
        assert_eq!(block(br#"{"eb_id": "eb-1"}"#), Ok(Some("eb-1".to_owned())));
        assert!(block(br#""eb-1""#).is_err());
    }
}
