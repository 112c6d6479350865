//! What a request must be before any service sees it: one to this server, and to a path on it (RFC 9112, 3.2).

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Version};

/// Why a request is answered here and now; `None` where a service is to answer it.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_good = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
    };
    let path = request.uri().path();
    match *request.method() {
        _ if !is_good => Some((StatusCode::BAD_REQUEST, "The request must name one host, in a Host header.")),
        Method::CONNECT => Some((StatusCode::NOT_IMPLEMENTED, "This is no proxy.")),
        // Of the server as a whole nothing else can be asked.
        Method::OPTIONS if path == "*" => None,
        _ if !path.starts_with('/') => {
            Some((StatusCode::BAD_REQUEST, "The request's target must be a path, which begins with '/'."))
        }
        _ => None,
    }
}

/// Whether this is a host with or without a port, or nothing, as of those who have no name for it.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let authority = text.parse::<Authority>();
    text.is_empty()
        || authority.is_ok_and(|own| !own.host().is_empty() && text.strip_prefix(own.host()).is_some_and(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, target: &str, version: Version, hosts: &[&str]) -> Option<u16> {
        let request = Request::builder().method(method).uri(target).version(version);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        refusal(&request.body(()).expect("a request")).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn requests_are_to_one_host() {
        let with = |version, hosts: &[&str]| refused("GET", "/status", version, hosts);
        assert_eq!((with(Version::HTTP_11, &[]), with(Version::HTTP_10, &[])), (Some(400), None));
        for hosts in [&["a", "a"][..], &["a", "b"]] {
            assert_eq!((with(Version::HTTP_11, hosts), with(Version::HTTP_10, hosts)), (Some(400), Some(400)));
        }
        for good in ["", "x", "dpd-api.dpd.svc:8000", "127.0.0.1", "[::1]:8000", "[::1]", "under_score"] {
            assert_eq!(with(Version::HTTP_11, &[good]), None, "{good}");
        }
        for bad in ["a b", "a/b", "a, b", "me@a", ":80", "a:b", "a:99999", "http://a", "[::1", "::1", "a:1:2"] {
            assert_eq!(with(Version::HTTP_11, &[bad]), Some(400), "{bad}");
        }
    }

    #[test]
    fn requests_are_for_a_path() {
        let of = |method, target| refused(method, target, Version::HTTP_11, &["x"]);
        assert_eq!((of("CONNECT", "example.org:443"), of("CONNECT", "/status")), (Some(501), Some(501)));
        assert_eq!((of("OPTIONS", "*"), of("GET", "*"), of("GET", "example.org:443")), (None, Some(400), Some(400)));
        for target in ["/", "/status?a", "http://example.org/status", "http://example.org", "http://example.org?a"] {
            assert_eq!(of("GET", target), None, "{target}");
        }
    }
}
