//! Who may see what: where callers' groups are asked for, how far the rule of access groups reaches, and by which names
//! a service on loopback is asked.

use super::{BadVariable, Variables};

/// How the API finds out who asks, and what it does with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessSettings {
    /// The permissions service's base URL, without a trailing `/`; `None`: nobody is in any group.
    pub permissions: Option<String>,
    /// What access groups guard.
    pub guarded: Guarded,
    /// Whether a browser may prove by a cookie who asks.
    pub session_cookie: bool,
    /// Whose announcements and metadata are taken.
    pub ingest: Ingest,
    /// Whether strangers are shown flows that have no product yet.
    pub flows_for_all: bool,
}

/// Whose announcements and metadata are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// Everybody's.
    Open,
    /// Those of callers whose token the permissions service takes.
    Token,
    /// Nobody's.
    Off,
}

/// What access groups guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// All that says anything of a product.
    Everywhere,
    /// Searches, totals, columns and `/status` alone, as with clients that send no token with their downloads.
    Listings,
}

impl AccessSettings {
    pub(super) fn read(variables: &Variables) -> Result<AccessSettings, BadVariable> {
        let url = variables.value(
            "SKA_PERMISSIONS_API_HOST",
            "an http or https URL without user, query and fragment, such as https://permissions.example.org",
            |text| if text.is_empty() { Some(String::new()) } else { base_url(text) },
        )?;
        let guarded = variables.value("DPD_ACCESS_GROUPS", "everywhere or listings", |text| match text {
            "everywhere" => Some(Guarded::Everywhere),
            "listings" => Some(Guarded::Listings),
            _ => None,
        })?;
        let session_cookie = variables.boolean("DPD_SESSION_COOKIE")?;
        let permissions = Some(url).filter(|url| !url.is_empty());
        let expected = "open, off, or token where SKA_PERMISSIONS_API_HOST is set, which says whose a token is";
        let ingest = variables.value("DPD_INGEST", expected, |text| match text {
            "open" => Some(Ingest::Open),
            "token" => Some(Ingest::Token).filter(|_| permissions.is_some()),
            "off" => Some(Ingest::Off),
            _ => None,
        })?;
        let flows_for_all = variables.value("DPD_FLOWS", "members or everybody", |text| match text {
            "members" => Some(permissions.is_none()),
            "everybody" => Some(true),
            _ => None,
        })?;
        Ok(AccessSettings { permissions, guarded, session_cookie, ingest, flows_for_all })
    }
}

/// Reads which names beside those of loopback a service on loopback answers to; `None`: to any.
///
/// # Errors
/// Where `DPD_ALLOWED_HOSTS` holds no names.
pub fn allowed_hosts(variables: &Variables) -> Result<Option<Vec<String>>, BadVariable> {
    let expected = "host names without ports, with commas, such as index.example.org,10.0.0.5, or *";
    variables.value("DPD_ALLOWED_HOSTS", expected, |text| {
        let is_address = |name: &str| name.starts_with('[') && name.ends_with(']');
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names == ["*"] {
            return Some(None);
        }
        let good = names.iter().all(|name| is_address(name) || name.bytes().all(fits));
        good.then(|| Some(names.into_iter().map(str::to_owned).collect()))
    })
}

/// A URL that paths can be put after. One with a password in it would end up in messages.
fn base_url(text: &str) -> Option<String> {
    let url = text.trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let host = rest.split('/').next().unwrap_or_default();
    let fits = |b: u8| b.is_ascii_graphic() && !b"@?#\"<>\\^`{|}%".contains(&b);
    (!host.is_empty() && !host.starts_with(':') && rest.bytes().all(fits)).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_rules_are_checked() {
        let read = |name: &str, value: &str| AccessSettings::read(&[(name, value)].into());
        let host = |value: &str| read("SKA_PERMISSIONS_API_HOST", value);
        assert_eq!(host("").map(|settings| settings.permissions), Ok(None));
        for (text, url) in [
            ("http://permissions:8080/", "http://permissions:8080"),
            ("https://a.example.org/permissions/", "https://a.example.org/permissions"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(host(text).map(|settings| settings.permissions), Ok(Some(url.to_owned())));
        }
        for bad in ["permissions", "ftp://a", "http://", "http://:80", "http://me:pw@a", "http://a/?b", "http://a b"] {
            let error = host(bad).expect_err(bad).to_string();
            assert!(error.contains("SKA_PERMISSIONS_API_HOST") && error.contains("expected"), "{error}");
        }
        let rule = |value: &str| read("DPD_ACCESS_GROUPS", value).map(|settings| settings.guarded);
        assert_eq!(
            (rule(""), rule("everywhere"), rule("listings")),
            (Ok(Guarded::Everywhere), Ok(Guarded::Everywhere), Ok(Guarded::Listings))
        );
        assert!(rule("nowhere").is_err());
        let cookie = |value: &str| read("DPD_SESSION_COOKIE", value).map(|settings| settings.session_cookie);
        assert_eq!((cookie(""), cookie("on"), cookie("off")), (Ok(true), Ok(true), Ok(false)));
        assert!(cookie("sometimes").is_err());
        let ingest = |value: &str| read("DPD_INGEST", value).map(|settings| settings.ingest);
        assert_eq!((ingest(""), ingest("open"), ingest("off")), (Ok(Ingest::Open), Ok(Ingest::Open), Ok(Ingest::Off)));
        // Nobody could say whose a token is.
        for bad in ["token", "closed"] {
            let error = ingest(bad).expect_err(bad).to_string();
            assert!(error.contains("DPD_INGEST") && error.contains("SKA_PERMISSIONS_API_HOST"), "{error}");
        }
        let with_service = |name: &str, value: &str| {
            AccessSettings::read(&[(name, value), ("SKA_PERMISSIONS_API_HOST", "http://permissions")].into())
        };
        assert_eq!(with_service("DPD_INGEST", "token").map(|settings| settings.ingest), Ok(Ingest::Token));
        let flows = |value: &str| {
            let of = |settings: Result<AccessSettings, _>| settings.map(|settings| settings.flows_for_all);
            (of(read("DPD_FLOWS", value)), of(with_service("DPD_FLOWS", value)))
        };
        for (value, with_one) in [("", false), ("members", false), ("everybody", true)] {
            assert_eq!(flows(value), (Ok(true), Ok(with_one)), "{value}");
        }
        assert!(read("DPD_FLOWS", "nobody").is_err());
    }

    #[test]
    fn hosts_are_names() {
        let read = |text: &str| allowed_hosts(&[("DPD_ALLOWED_HOSTS", text)].into());
        assert_eq!((read(""), read("*")), (Ok(Some(vec![])), Ok(None)));
        assert_eq!(read("a.org, [::2],"), Ok(Some(vec!["a.org".to_owned(), "[::2]".to_owned()])));
        for bad in ["http://a", "a:80", "a,*", "a b", "a/b"] {
            assert!(read(bad).expect_err(bad).to_string().contains("DPD_ALLOWED_HOSTS"));
        }
    }
}
