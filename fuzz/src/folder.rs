//! Names of folders from bodies and URLs: each stays below the storage path, or is no folder.

use shared::folder::Folder;

pub(crate) fn feed(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(folder) = text.parse::<Folder>() else { return };
    let path = folder.as_str();
    assert!(!path.starts_with('/') && !path.ends_with('/') && !path.contains('\0'), "{path:?}");
    assert!(
        path.split('/').all(|name| name != ".." && name != "." && (path.is_empty() || !name.is_empty())),
        "{path:?}"
    );
    assert_eq!(path.parse::<Folder>().as_ref(), Ok(&folder));
    assert!(folder.is_root() || Folder::root().contains(&folder));
}
