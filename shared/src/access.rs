//! Who may see a product, and who may put another in its place: the access group in its metadata against the groups of who
//! asks.

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
    /// Those who are shown flows that have no product yet, see [`Viewer::shown_flows`].
    Flows,
}

/// Why metadata that names an access group cannot be taken from a caller: nobody could see it, nor ever put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "'context.access_group' must be the name of a group, or a list of such names, none of them empty; leave it out if \
     everybody may see the data product"
)]
pub struct BadGroup;

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

    /// What metadata that a caller brings say, of whom more is asked than of a file.
    ///
    /// # Errors
    /// Where they name a group that is empty, or none that can be read.
    pub fn brought(metadata: &Map<String, Value>) -> Result<Access, BadGroup> {
        let is_name = |group: &Value| group.as_str().is_some_and(|name| !name.trim().is_empty());
        match metadata.get("context").and_then(|context| context.get("access_group")) {
            None | Some(Value::Null) => {}
            Some(Value::Array(groups)) if !groups.is_empty() && groups.iter().all(is_name) => {}
            Some(group) if is_name(group) => {}
            Some(_) => return Err(BadGroup),
        }
        Ok(Access::of(metadata))
    }
}

/// What becomes of metadata that a caller brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingested {
    /// They are there now.
    Taken,
    /// Something that the caller may not see is there, and stays as it is. The caller is not told so.
    Kept,
    /// They would take from others what everybody may see. Everybody may know that this is there.
    Refused,
}

/// How far it is known who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody says so, or nobody vouches for it.
    #[default]
    Stranger,
    /// A token came, and it could not be found out whose it is.
    Unsettled,
    /// Whoever the token is of.
    Known,
}

/// Who asks: the groups that the caller is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Viewer {
    groups: BTreeSet<String>,
    standing: Standing,
    sees_flows: bool,
    unrestricted: bool,
    everybody: bool,
}

impl Viewer {
    /// A caller without a token: sees what is public.
    pub fn anonymous() -> Viewer {
        Viewer::default()
    }

    /// A caller of whom it could not be found out who he is: sees the same.
    pub fn unsettled() -> Viewer {
        Viewer { standing: Standing::Unsettled, ..Viewer::default() }
    }

    /// A caller who is known, and in these groups.
    pub fn member_of(groups: impl IntoIterator<Item = String>) -> Viewer {
        Viewer { groups: groups.into_iter().collect(), standing: Standing::Known, ..Viewer::default() }
    }

    /// Somebody who may see everything: whoever asks where access groups guard nothing.
    pub fn unrestricted() -> Viewer {
        Viewer { standing: Standing::Known, unrestricted: true, ..Viewer::default() }
    }

    /// Whoever asks where nobody can be in a group: he sees what is public, and nobody sees more.
    pub fn everybody() -> Viewer {
        Viewer { everybody: true, ..Viewer::default() }
    }

    /// Whether this caller is told of what nobody knows who may see it, such as of a metadata file that never read.
    pub fn is_told_of_unknown(&self) -> bool {
        self.unrestricted || self.everybody
    }

    /// The same caller, who is shown flows that have no product yet or is not.
    #[must_use]
    pub fn shown_flows(self, sees_flows: bool) -> Viewer {
        Viewer { sees_flows, ..self }
    }

    /// How far it is known who this is.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether this caller may see what [`Access::Flows`] guards.
    pub fn sees_flows(&self) -> bool {
        self.unrestricted || self.sees_flows
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
            Access::Flows => self.sees_flows(),
        }
    }

    /// What becomes of metadata that this caller brings, where `before` guards what is there in their place (`None`: nothing
    /// is) and `after` would guard them. Whoever writes asks inside the transaction that writes.
    ///
    /// Only members decide on what is theirs, so that nobody gives, takes or changes the groups of others' products. Where
    /// nothing is, anybody may begin for any group: pipelines do, and send no token.
    pub fn brings(&self, before: Option<&Access>, after: &Access) -> Ingested {
        match before {
            Some(before) if !self.may_see(before) => Ingested::Kept,
            Some(_) if !self.may_see(after) && before == Some(&Access::Public) => Ingested::Refused,
            _ => Ingested::Taken,
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

    #[test]
    fn only_members_decide_on_what_is_theirs() {
        use Ingested::{Kept, Refused, Taken};
        let groups = |names: &[&str]| Access::Groups(names.iter().map(|name| (*name).to_owned()).collect());
        let (public, a, b, both) = (Access::Public, groups(&["a"]), groups(&["b"]), groups(&["a", "b"]));
        let member = Viewer::member_of(["a".to_owned()]);
        for (before, after, of_a, stranger) in [
            (None, &public, Taken, Taken),
            (None, &b, Taken, Taken),
            (Some(&public), &public, Taken, Taken),
            (Some(&public), &a, Taken, Refused),
            (Some(&public), &both, Taken, Refused),
            (Some(&public), &b, Refused, Refused),
            (Some(&a), &public, Taken, Kept),
            (Some(&a), &a, Taken, Kept),
            (Some(&both), &b, Taken, Kept),
            (Some(&b), &public, Kept, Kept),
            (Some(&b), &b, Kept, Kept),
            (Some(&b), &a, Kept, Kept),
            (Some(&groups(&[])), &a, Kept, Kept),
        ] {
            for (viewer, expected) in [
                (member.clone(), of_a),
                (Viewer::anonymous(), stranger),
                (Viewer::unsettled(), stranger),
                (Viewer::unrestricted(), Taken),
            ] {
                assert_eq!(viewer.brings(before, after), expected, "{viewer:?}: {before:?} -> {after:?}");
            }
        }
    }

    #[test]
    fn what_is_brought_names_groups_or_none() {
        let brought = |group: Value| {
            let metadata = json!({"context": {"access_group": group}});
            Access::brought(metadata.as_object().expect("a map"))
        };
        assert_eq!(brought(Value::Null), Ok(Access::Public));
        for good in [json!("a"), json!(["a"]), json!(["a", "b"])] {
            assert!(matches!(brought(good.clone()), Ok(Access::Groups(groups)) if !groups.is_empty()), "{good}");
        }
        for bad in
            [json!(""), json!(" "), json!([]), json!([""]), json!(["a", ""]), json!(["a", 5]), json!({}), json!(false)]
        {
            assert_eq!(brought(bad.clone()), Err(BadGroup), "{bad}");
        }
        for metadata in [json!({}), json!({"context": "a"}), json!({"context.access_group": ""})] {
            assert_eq!(Access::brought(metadata.as_object().expect("a map")), Ok(Access::Public), "{metadata}");
        }
    }
}
