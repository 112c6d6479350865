//! Who may see a product: the access group in its metadata against the groups of who asks.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What a product's metadata says about who may see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Everybody.
    Public,
    /// Members of any of these groups. Nobody, where the list is empty: that is what a value of an unreadable kind
    /// comes to.
    Groups(BTreeSet<String>),
}

impl Access {
    /// Reads `context.access_group`: only the nested key counts, never a key with a dot in its name.
    pub fn of(metadata: &Map<String, Value>) -> Access {
        match metadata.get("context").and_then(|context| context.get("access_group")) {
            None | Some(Value::Null) => Access::Public,
            Some(Value::String(group)) => Access::Groups(BTreeSet::from([group.clone()])),
            Some(Value::Array(groups)) => {
                Access::Groups(groups.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some(_) => Access::Groups(BTreeSet::new()),
        }
    }
}

/// Who asks: the groups that the caller is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Viewer {
    groups: BTreeSet<String>,
    unrestricted: bool,
    everybody: bool,
}

impl Viewer {
    /// A caller without a token: sees what is public.
    pub fn anonymous() -> Viewer {
        Viewer::default()
    }

    /// A caller who is in these groups.
    pub fn member_of(groups: impl IntoIterator<Item = String>) -> Viewer {
        Viewer { groups: groups.into_iter().collect(), ..Viewer::default() }
    }

    /// Somebody who may see everything: whoever asks where access groups guard nothing.
    pub fn unrestricted() -> Viewer {
        Viewer { unrestricted: true, ..Viewer::default() }
    }

    /// Whoever asks where nobody can be in a group: he sees what is public, and nobody sees more.
    pub fn everybody() -> Viewer {
        Viewer { everybody: true, ..Viewer::default() }
    }

    /// Whether this caller is told of what nobody knows who may see it, such as of a metadata file that never read.
    pub fn is_told_of_unknown(&self) -> bool {
        self.unrestricted || self.everybody
    }

    /// Whether this caller may see everything.
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Their names.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    /// Whether this caller may see what `access` guards.
    pub fn may_see(&self, access: &Access) -> bool {
        match access {
            Access::Public => true,
            Access::Groups(groups) => self.unrestricted || !groups.is_disjoint(&self.groups),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn access_groups() {
        let member = Viewer::member_of(["a".to_owned()]);
        for (metadata, anonymous, of_a) in [
            (json!({}), true, true),
            (json!({"context": {}}), true, true),
            (json!({"context": null}), true, true),
            (json!({"context": {"access_group": null}}), true, true),
            (json!({"context": {"access_group": "a"}}), false, true),
            (json!({"context": {"access_group": "b"}}), false, false),
            (json!({"context": {"access_group": ["b", "a"]}}), false, true),
            (json!({"context": {"access_group": []}}), false, false),
            (json!({"context": {"access_group": {"a": "a"}}}), false, false),
            (json!({"context": {"access_group": 5}}), false, false),
            (json!({"context": {"access_group": ""}}), false, false),
            (json!({"context.access_group": "a"}), true, true),
        ] {
            let access = Access::of(metadata.as_object().expect("a map"));
            assert_eq!(Viewer::anonymous().may_see(&access), anonymous, "{metadata}");
            assert_eq!(member.may_see(&access), of_a, "{metadata}");
            assert!(Viewer::unrestricted().may_see(&access));
        }
    }
}
