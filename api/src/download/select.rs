//! Which folders a request is about, and what in them its caller may see.

use crate::error::{ApiError, Result};
use crate::request::Wanted;
use crate::{Api, lookup};
use shared::access::Viewer;
use shared::folder::Folder;
use shared::product::Product;
use shared::volume::Volume;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders to be handed out.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// None of them lies in another.
    pub(crate) folders: Vec<Folder>,
    /// The products that the caller may see, of those in the folders asked for; also those folders themselves. Any other
    /// folder with a metadata file is hidden: it may be a product that is not known yet, or does not read, and who may see
    /// that is not known either.
    pub(crate) visible: Folders,
    /// The products in them that he may not see, or that were there lately: these are hidden whether or not a metadata file
    /// is there now, for it may be being replaced.
    pub(crate) hidden: Folders,
    /// What the caller knows them by.
    pub(crate) name: String,
}

/// Folders of products.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folders(BTreeSet<PathBuf>);

impl Selection {
    /// The folders of what is wanted.
    pub(crate) async fn of(api: &Api, wanted: &Wanted, viewer: &Viewer) -> Result<Selection> {
        let products: Vec<Arc<Product>> = match wanted {
            Wanted::Uid(uid) => vec![lookup::product(api, *uid, viewer).await?],
            Wanted::ExecutionBlock(id) => {
                api.store.products_of(id, viewer).await?.into_iter().map(|hit| hit.product).collect()
            }
        };
        let first = products.first().ok_or_else(lookup::unknown)?;
        let folders = outermost(products.iter().filter_map(|product| product.folder.as_ref()));
        if folders.is_empty() {
            return Err(ApiError::NotFound("The volume holds no files of this data product.".to_owned()));
        }
        let name = match (wanted, folders.first().and_then(Folder::name)) {
            (Wanted::Uid(_), Some(name)) => name.to_owned(),
            _ => first.execution_block.clone(),
        };
        let (mut visible, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for folder in &folders {
            let below = api.store.below(folder, viewer, api.indexing.reconcile).await?;
            visible.extend(below.visible);
            hidden.extend(below.hidden);
        }
        visible.extend(folders.iter().cloned());
        Ok(Selection { folders, visible: visible.into_iter().collect(), hidden: hidden.into_iter().collect(), name })
    }
}

/// Folders less those that lie in others of them, so that nothing is in an archive twice.
fn outermost<'a>(folders: impl Iterator<Item = &'a Folder>) -> Vec<Folder> {
    let mut folders: Vec<&Folder> = folders.collect();
    folders.sort();
    folders.dedup();
    let inner = |folder: &Folder| folders.iter().any(|other| *other != folder && other.contains(folder));
    folders.iter().filter(|folder| !inner(folder)).map(|folder| (*folder).clone()).collect()
}

impl FromIterator<Folder> for Folders {
    fn from_iter<I: IntoIterator<Item = Folder>>(folders: I) -> Folders {
        Folders(folders.into_iter().map(|folder| folder.as_path().into()).collect())
    }
}

impl Folders {
    /// Whether a folder is one of them.
    pub(crate) fn has(&self, folder: &Path) -> bool {
        self.0.contains(folder)
    }

    /// The outermost of them in a folder.
    pub(crate) fn outermost_in(&self, folder: &Path) -> Vec<PathBuf> {
        let mut outermost: Vec<PathBuf> = Vec::new();
        for inner in self.0.range(folder.to_owned()..).take_while(|inner| inner.starts_with(folder)) {
            if !outermost.last().is_some_and(|outer| inner.starts_with(outer)) {
                outermost.push(inner.clone());
            }
        }
        outermost
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }
}

impl Selection {
    /// Whether a product is known in a folder, now or of late, that the caller may not see.
    pub(crate) fn hides(&self, folder: &Path) -> bool {
        self.hidden.has(folder) && !self.visible.has(folder)
    }
}

/// Whether a folder of this name is one that is not walked into, so that nothing in it is a product.
pub(crate) fn prunes(volume: &Volume, name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| volume.prunes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_archived_twice() {
        let folder = |text: &str| text.parse::<Folder>().expect("a folder");
        let folders = ["eb/ska-sdp/pb", "eb", "eb", "eb-2", "eb/x"].map(folder);
        assert_eq!(outermost(folders.iter()), [folder("eb"), folder("eb-2")]);
        assert_eq!(outermost([folder(""), folder("a")].iter()), [folder("")]);
    }
}
