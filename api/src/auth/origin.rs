//! Where a request comes from: which page had a browser send it, by which name it came here, and whether over https.
//!
//! Browsers tell by headers that no page can set: `Host`, `Origin`, `Sec-Fetch-Site`. Ingresses add their own
//! (`X-Forwarded-…`, `Forwarded`), which pages of other sites cannot set either, since CORS does not let them. A script
//! can send what it likes, but deceives nobody but itself: it is pages that are kept out here, and a script is none.

use crate::error::{ApiError, Result};
use std::net::IpAddr;
use warp::http::uri::Authority;
use warp::http::{HeaderMap, Uri, header};

/// Which page a browser says had it send a request.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `SCHEME://HOST[:PORT]`; `None` for anything else, such as `null`.
    fn of(text: &str) -> Option<Origin> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().or_else(|| usual_port(&scheme))?;
        Some(Origin { port, host: uri.host()?.to_ascii_lowercase(), scheme })
    }

    /// Whether it is at a host that is named as `Host` does it. Over http or https, nobody knows there: without a port it
    /// is the usual one of either.
    fn is_at(&self, host: &str) -> bool {
        let Ok(authority) = host.trim().parse::<Authority>() else { return false };
        let port = authority.port_u16().or_else(|| usual_port(&self.scheme));
        authority.host().eq_ignore_ascii_case(&self.host) && port == Some(self.port)
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Refuses a request that a page of another site had a browser send: whoever looks at such a page did not mean to change
/// anything here. `configured` are origins that may.
///
/// # Errors
/// [`ApiError::CrossSite`].
pub(crate) fn may_change(headers: &HeaderMap, configured: &[String]) -> Result<()> {
    let sent: Vec<_> = headers.get_all(header::ORIGIN).iter().map(|origin| origin.to_str().unwrap_or("?")).collect();
    let origin = match sent[..] {
        [one] => Origin::of(one),
        _ => None,
    };
    if origin.as_ref().is_some_and(|origin| configured.iter().any(|own| Origin::of(own).as_ref() == Some(origin))) {
        return Ok(());
    }
    let is_own = || origin.as_ref().is_some_and(|origin| own_hosts(headers).iter().any(|host| origin.is_at(host)));
    let foreign = if is_from(headers, "cross-site") {
        true
    } else if is_from(headers, "same-origin") {
        // The browser knows the name that it asked for; a proxy may have handed on another.
        false
    } else {
        !sent.is_empty() && !is_own()
    };
    if foreign { Err(ApiError::CrossSite { origin: sent.join(", ") }) } else { Ok(()) }
}

/// Whether a browser says that a page of this relation to us had it send a request, such as `cross-site`.
pub(super) fn is_from(headers: &HeaderMap, relation: &str) -> bool {
    let relations = headers.get_all("sec-fetch-site");
    relations.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(relation.as_bytes()))
}

/// Whether a request came over https, at least as far as an ingress. Where it is doubtful it did: a cookie that says
/// `Secure` for nothing is not kept, one that does not say it may be sent in the clear.
pub(super) fn by_https(headers: &HeaderMap) -> bool {
    let page = headers.get(header::ORIGIN).and_then(|origin| Origin::of(origin.to_str().ok()?));
    // A page that came over https asks nothing over http.
    page.is_some_and(|page| page.scheme == "https")
        || forwarded(headers, "proto").iter().any(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// Refuses a request that came by another name than those that lead to this machine's own loopback, and `others`. A page
/// whose name was made to lead there (DNS rebinding) still sends its own.
///
/// # Errors
/// [`ApiError::Misdirected`].
pub(crate) fn is_meant(headers: &HeaderMap, others: &[String]) -> Result<()> {
    for host in headers.get_all(header::HOST) {
        let shown = String::from_utf8_lossy(host.as_bytes());
        let name = shown.parse::<Authority>().ok().filter(|_| !shown.contains('@')).map(|own| own.host().to_owned());
        let fits = |name: &str| is_loopback(name) || others.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !name.as_deref().is_some_and(fits) {
            return Err(ApiError::Misdirected { host: shown.into_owned() });
        }
    }
    Ok(())
}

fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The names by which this service was asked: its own, and the one that an ingress was asked by.
fn own_hosts(headers: &HeaderMap) -> Vec<String> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.map(str::to_owned).into_iter().chain(forwarded(headers, "host")).collect()
}

/// What ingresses say in `X-Forwarded-NAME`, and under the name in `Forwarded` (RFC 7239).
fn forwarded(headers: &HeaderMap, name: &str) -> Vec<String> {
    let parts = |header: &str| -> Vec<String> {
        let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|part| part.trim().to_owned()).collect()
    };
    let mut found = parts(&format!("x-forwarded-{name}"));
    for element in parts("forwarded") {
        let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
        let named = pairs.filter(|(own, _)| own.trim().eq_ignore_ascii_case(name));
        found.extend(named.map(|(_, value)| value.trim().trim_matches('"').to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let configured = ["http://dash.example.org:8100".to_owned(), "https://dash.example.org".to_owned()];
        let (own, evil) = (("host", "api.example.org"), "https://evil.example");
        for (may, sent) in [
            // Scripts.
            (true, &[own][..]),
            (true, &[]),
            // Pages of the same origin, as they ask it and as an ingress hands it on.
            (true, &[own, ("origin", "https://api.example.org")]),
            (true, &[own, ("origin", "http://API.example.org")]),
            (true, &[("host", "api.example.org:8000"), ("origin", "http://api.example.org:8000")]),
            (true, &[("host", "[::1]:8000"), ("origin", "http://[::1]:8000")]),
            (true, &[("host", "pod:8000"), ("x-forwarded-host", "a.org, b.org"), ("origin", "https://a.org")]),
            (true, &[("host", "pod:8000"), ("forwarded", "for=x;Host=\"a.org:81\""), ("origin", "http://a.org:81")]),
            (true, &[("host", "pod:8000"), ("origin", "https://a.org"), ("sec-fetch-site", "same-origin")]),
            (true, &[own, ("sec-fetch-site", "none")]),
            // The dashboard's, wherever it is.
            (true, &[own, ("origin", "http://dash.example.org:8100"), ("sec-fetch-site", "cross-site")]),
            (true, &[own, ("origin", "https://dash.example.org:443"), ("sec-fetch-site", "same-site")]),
            // All others.
            (false, &[own, ("origin", evil)]),
            (false, &[own, ("origin", "http://dash.example.org:8101")]),
            (false, &[own, ("origin", "http://api.example.org:8080")]),
            (false, &[own, ("origin", "https://api.example.org.evil.example")]),
            (false, &[own, ("origin", "https://x.api.example.org"), ("sec-fetch-site", "same-site")]),
            (false, &[("host", "evil.example:80"), ("origin", evil)]),
            (false, &[own, ("origin", "null")]),
            (false, &[own, ("origin", "")]),
            (false, &[own, ("origin", "https://api.example.org"), ("origin", evil)]),
            (false, &[own, ("sec-fetch-site", "cross-site")]),
            (false, &[own, ("sec-fetch-site", "Cross-Site"), ("origin", "https://api.example.org")]),
            (false, &[own, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]),
            (false, &[("x-forwarded-host", "a.org"), ("origin", "file://a.org")]),
        ] {
            assert_eq!(may_change(&headers(sent), &configured).is_ok(), may, "{sent:?}");
        }
    }

    #[test]
    fn loopback_is_asked_by_its_own_names() {
        let others = ["Index.example.org".to_owned()];
        for good in ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.0.0.2", "[::1]:1", "[::1]"] {
            assert!(is_meant(&headers(&[("host", good)]), &[]).is_ok(), "{good}");
        }
        for bad in
            ["evil.example", "localhost.evil.example", "evil@localhost", "10.0.0.1", "[::2]", "", "a b", "0.0.0.0"]
        {
            assert!(is_meant(&headers(&[("host", bad)]), &others).is_err(), "{bad:?}");
        }
        assert!(is_meant(&headers(&[("host", "index.EXAMPLE.org:80")]), &others).is_ok());
        assert!(is_meant(&headers(&[("host", "localhost"), ("host", "evil.example")]), &others).is_err());
        // No browser leaves it out.
        assert!(is_meant(&headers(&[]), &[]).is_ok());
    }

    #[test]
    fn https_is_believed() {
        for (https, sent) in [
            (false, &[][..]),
            (false, &[("x-forwarded-proto", "http")]),
            (false, &[("origin", "http://a")]),
            (true, &[("x-forwarded-proto", "HTTPS")]),
            (true, &[("x-forwarded-proto", "https, http")]),
            (true, &[("forwarded", "for=1.2.3.4; proto=https;by=x, for=::1")]),
            (true, &[("origin", "https://a")]),
        ] {
            assert_eq!(by_https(&headers(sent)), https, "{sent:?}");
        }
    }
}
