//! Where the dashboard is: the origins that its pages may call the API from.

use super::{BadVariable, Variables};
use url::Url;

const URL: &str = "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL";
const PORT: &str = "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_PORT";

/// The origins of the dashboard, as browsers write them. None where it has the API's own: where all that is said of it is a
/// path, or nothing.
pub(super) fn origins(variables: &Variables) -> Result<Vec<String>, BadVariable> {
    let place = match variables.is_empty(URL) {
        true => None,
        false => {
            variables.value(URL, "an http or https URL, or a path such as /dashboard on the API's origin", place)?
        }
    };
    let port = variables.port(PORT, place.is_some())?;
    let Some((mut url, has_port)) = place else { return Ok(Vec::new()) };
    let own = url.origin().ascii_serialization();
    if has_port || url.set_port(Some(port)).is_err() {
        return Ok(vec![own]);
    }
    // The port is the one that the dashboard has by itself, which an ingress may hide.
    let mut origins = vec![url.origin().ascii_serialization(), own];
    origins.dedup();
    Ok(origins)
}

/// What a value says of the dashboard: nothing where it is a path, and otherwise its URL, and whether that names a port.
fn place(text: &str) -> Option<Option<(Url, bool)>> {
    // A URL's parser passes over blanks and mends slashes, which would make something of anything.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return None;
    }
    if text.starts_with('/') {
        return (!text.starts_with("//")).then_some(None);
    }
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())?;
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) || authority.contains(['@', '*', ',']) {
        return None;
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.contains(']'));
    Some(Some((Url::parse(text).ok()?, has_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: Option<&str>, port: Option<&str>) -> Result<Vec<String>, BadVariable> {
        origins(&[(URL, url), (PORT, port)].into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        for (url, port, expected) in [
            (None, None, &["http://localhost:8100", "http://localhost"][..]),
            (Some("http://localhost/"), None, &["http://localhost:8100", "http://localhost"]),
            (Some("http://localhost:3000"), Some("8100"), &["http://localhost:3000"]),
            (Some("http://localhost:8100"), Some("8100"), &["http://localhost:8100"]),
            (
                Some("https://sdhp.example.org/integration/dashboard"),
                Some("8100"),
                &["https://sdhp.example.org:8100", "https://sdhp.example.org"],
            ),
            (Some("HTTPS://Sdhp.Example.ORG/x?y#z"), Some("443"), &["https://sdhp.example.org"]),
            (Some("https://a.org:443/x"), None, &["https://a.org"]),
            (Some("http://a.org"), Some("80"), &["http://a.org"]),
            (Some("http://a.org:443"), None, &["http://a.org:443"]),
            (Some("http://[::1]"), Some("8100"), &["http://[::1]:8100", "http://[::1]"]),
            (Some("http://[0:0:0:0:0:0:0:1]:8080/a:b"), None, &["http://[::1]:8080"]),
            (Some("http://10.0.0.1:"), Some("8100.0"), &["http://10.0.0.1:8100", "http://10.0.0.1"]),
            (Some("http://münchen.example"), Some("80"), &["http://xn--mnchen-3ya.example"]),
        ] {
            let origins = read(url, port).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(origins, expected, "{url:?} {port:?}");
        }
    }

    #[test]
    fn a_path_or_nothing_is_the_same_origin() {
        for url in ["/integration/dashboard", "/", "", "\n", " ", "/a:b@c"] {
            for port in [None, Some("8100"), Some("tcp://10.0.0.1:80")] {
                assert_eq!(read(Some(url), port), Ok(Vec::new()), "{url:?}");
            }
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for url in [
            "localhost",
            "dashboard/x",
            "//example.org/x",
            "ftp://a",
            "http://",
            "http:///a",
            "http://:80",
            "http:a",
            "http://a b",
            "http://a\\b",
            "http://me:geheim@a",
            "http://*",
            "*",
            "null",
            "http://a:99999",
            "http://[::1",
            "http://a,http://b",
            "file:///a",
        ] {
            let error = read(Some(url), None).expect_err(url).to_string();
            assert!(error.contains(URL) && error.contains("expected") && !error.contains("geheim"), "{error}");
        }
        assert!(read(None, Some("0")).is_err());
    }
}
