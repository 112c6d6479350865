//! A product's uid. Annotations made years ago hang on it, so the rule never changes.

use crate::folder::Folder;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The uid of the product of `execution_block` in `folder`, under a storage path configured as `storage_path`
/// (see [`normalise`]).
pub fn on_volume(execution_block: &str, storage_path: &str, folder: &Folder) -> Uuid {
    of(execution_block, &path(storage_path, folder))
}

/// The path of a folder or file under a storage path that is [normalised](normalise).
pub fn path(storage_path: &str, below: &Folder) -> String {
    match (storage_path, below.as_str()) {
        (root, "") => root.to_owned(),
        ("", below) => below.to_owned(),
        ("/", below) => format!("/{below}"),
        (root, below) => format!("{root}/{below}"),
    }
}

/// The uid of metadata that was ingested, with nothing on the volume behind it.
pub fn ingested(execution_block: &str) -> Uuid {
    of(execution_block, "None")
}

/// The uid of the row that stands for a flow of this name.
pub fn of_flow(name: &str) -> Uuid {
    of("sdp-flow", name)
}

/// SHA-256 of `<execution_block>:<path>`, its first 16 bytes as a UUID without version or variant bits.
fn of(execution_block: &str, path: &str) -> Uuid {
    let digest = Sha256::digest(format!("{execution_block}:{path}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

/// A storage path as uids spell it: as configured, without `./`, doubled or trailing slashes. The working folder itself
/// is the empty string.
pub fn normalise(storage_path: &str) -> String {
    let names: Vec<&str> = storage_path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let joined = names.join("/");
    if storage_path.starts_with('/') { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let root = normalise("./tests//test_files/product/");
        let of = |eb: &str, folder: &str| on_volume(eb, &root, &folder.parse().expect("a folder")).to_string();
        assert_eq!(of("eb-m005-20231031-12345", "eb-m005-20231031-12345"), "6a11ddaa-6b45-6759-47e7-a5abd5105b0e");
        assert_eq!(
            of("eb-notebook-20240320-83046", "eb-notebook-20240320-83046/pb-notebookvr-20240320-83046"),
            "a0a2a10f-e382-31ba-0949-9a79204dfcad"
        );
        assert_eq!(ingested("eb-test-20240806-99999").to_string(), "1f8250d0-0e2f-2269-1d9a-ad465ae15d5c");
    }

    #[test]
    fn storage_paths_are_normalised() {
        for (path, normal) in [
            ("/mnt/data/", "/mnt/data"),
            ("./a/./b", "a/b"),
            (".", ""),
            ("/", "/"),
            ("//a//b//", "/a/b"),
            ("../a", "../a"),
        ] {
            assert_eq!(normalise(path), normal);
        }
        let folder: Folder = "eb".parse().expect("a folder");
        assert_eq!(on_volume("e", "/", &folder), super::of("e", "/eb"));
        assert_eq!(on_volume("e", "", &folder), super::of("e", "eb"));
        assert_eq!(on_volume("e", "/data", &Folder::root()), super::of("e", "/data"));
    }
}
