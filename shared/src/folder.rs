//! Names of folders on the volume: relative to the storage path, and unable to leave it.

use serde::Serialize;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// A folder below the storage path: names joined by `/`, none of them empty, `.` or `..`. The storage path itself is the
/// empty string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Folder(String);

/// The longest folder that is dealt with, in bytes below the storage path: PostgreSQL's indexes end at 2,700.
pub const MAX_BYTES: usize = 2000;

/// Why a text is no [`Folder`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a folder below the storage path: it must be relative, and without '..'")]
pub struct BadFolder(String);

impl Folder {
    /// The storage path itself.
    pub fn root() -> Folder {
        Folder::default()
    }

    /// Whether this is the storage path itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, `""` for the storage path itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a path for the file system, `.` for the storage path itself.
    pub fn as_path(&self) -> &str {
        if self.is_root() { "." } else { &self.0 }
    }

    /// The folder or file called `name` in this folder. `name` is one name, as a directory listing gives it.
    pub fn join(&self, name: &str) -> Folder {
        debug_assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..", "{name:?}");
        if self.is_root() { Folder(name.to_owned()) } else { Folder(format!("{}/{name}", self.0)) }
    }

    /// The names from the storage path down.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The last name; `None` for the storage path itself.
    pub fn name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The folder that this one is in; `None` for the storage path itself.
    pub fn parent(&self) -> Option<Folder> {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Some(Folder(parent.to_owned())),
            None if self.is_root() => None,
            None => Some(Folder::root()),
        }
    }

    /// This folder and those that it is in, but for the storage path itself.
    pub fn up(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.as_str()).filter(|own| !own.is_empty());
        std::iter::successors(own, |folder| folder.rsplit_once('/').map(|(parent, _)| parent))
    }

    /// The folders that this one is in, the storage path among them.
    pub fn above(&self) -> impl Iterator<Item = &str> {
        self.up().skip(1).chain((!self.is_root()).then_some(""))
    }

    /// How many names lie between the storage path and this folder.
    pub fn depth(&self) -> usize {
        self.names().count()
    }

    /// Whether `other` is this folder or lies below it.
    pub fn contains(&self, other: &Folder) -> bool {
        self.is_root() || other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What all folders below this one begin with, for ranges of ordered collections. (The folder itself does not: `a-b`
    /// sorts between `a` and `a/b`.)
    pub fn prefix_below(&self) -> String {
        if self.is_root() { String::new() } else { format!("{}/", self.0) }
    }

    /// This folder without its first name, where that is `name`.
    pub fn without_first(&self, name: &str) -> Option<Folder> {
        self.0.strip_prefix(name)?.strip_prefix('/').map(|rest| Folder(rest.to_owned()))
    }
}

impl FromStr for Folder {
    type Err = BadFolder;

    /// Reads a path as clients write it: `./`, doubled and trailing slashes are put right; anything that could lead out
    /// of the storage path is refused.
    fn from_str(text: &str) -> Result<Folder, BadFolder> {
        let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if text.starts_with('/') || text.contains('\0') || names.contains(&"..") {
            return Err(BadFolder(text.escape_debug().take(200).collect()));
        }
        Ok(Folder(names.join("/")))
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_path())
    }
}

impl Borrow<str> for Folder {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_cannot_leave_the_storage_path() {
        for bad in ["/etc", "..", "a/../..", "a/..", "../a", "a\0b"] {
            assert!(bad.parse::<Folder>().is_err(), "{bad}");
        }
        for (text, folder) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("", ""), (".", ""), ("..a", "..a")] {
            assert_eq!(text.parse::<Folder>().map(|f| f.0), Ok(folder.to_owned()));
        }
    }

    #[test]
    fn containment_is_by_name_and_not_by_prefix() {
        let folder = |text: &str| text.parse::<Folder>().expect("a folder");
        assert!(folder("a").contains(&folder("a/b")));
        assert!(folder("a").contains(&folder("a")));
        assert!(!folder("a").contains(&folder("ab")));
        assert!(!folder("a/b").contains(&folder("a")));
        assert!(Folder::root().contains(&folder("a")));
        assert_eq!(folder("a/b").parent(), Some(folder("a")));
        assert_eq!(folder("a").parent(), Some(Folder::root()));
        assert_eq!(Folder::root().parent(), None);
        assert_eq!(folder("a/b/c").up().collect::<Vec<_>>(), ["a/b/c", "a/b", "a"]);
        assert_eq!(Folder::root().up().count(), 0);
        assert_eq!(folder("a/b/c").above().collect::<Vec<_>>(), ["a/b", "a", ""]);
        assert_eq!((folder("a").above().collect::<Vec<_>>(), Folder::root().above().count()), (vec![""], 0));
        assert_eq!(folder("product/eb-1").without_first("product"), Some(folder("eb-1")));
        assert_eq!(folder("products/eb-1").without_first("product"), None);
    }
}
