//! Keys and values of the SDP configuration database: whatever is in them, they make a flow or an error, and a flow names
//! nothing outside the storage path.

use shared::flow::{Flow, Key, block, data_dir, status};
use shared::folder::Folder;
use shared::product::Origin;
use shared::row;

pub(crate) fn feed(data: &[u8]) {
    let (key, value) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let own = Key::parse(key);
    if let Err(error) = &own {
        assert!(!error.to_string().is_empty());
    }
    let _ = (status(value), block(value));
    let Ok(Some(dir)) = data_dir(value) else { return };
    let origin = |path: &str| Origin { storage_path: path.into(), name: "volume".into(), metadata_file: "m".into() };
    for path in ["/mnt/data/product", "", "product", "/"] {
        let folders = dir.folders(&origin(path));
        for folder in &folders {
            assert!(!folder.is_root() && folder.as_str().parse::<Folder>().as_ref() == Ok(folder), "{folder:?}");
        }
        let (Ok(Key::Flow(id)), Ok(status), Ok(execution_block)) = (own.clone(), status(value), block(value)) else {
            continue;
        };
        assert!(id.as_str().starts_with(id.processing_block()) && !id.as_str().contains('/'));
        let product = Flow { id, folders, status, execution_block }.placeholder();
        let shown = row::row(1, &product, None);
        assert!(row::keys(&product).keys().all(|key| shown.contains_key(key)));
    }
}
