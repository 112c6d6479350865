//! Which request this is, for whoever compares logs: the id that it came with or is given, and the trace that it is part of
//! (W3C Trace Context).

use uuid::Uuid;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

/// The header with a request's id, which its answer has as well.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the trace that a request is part of.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest id that is taken from a client.
const LONGEST: usize = 64;

/// What a request is known by.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) request: String,
    /// The trace that it is part of, where it says so.
    pub(crate) trace: Option<String>,
}

impl Trace {
    /// That of a request with these headers. An id that may be more than one is not taken: it ends up in logs.
    pub(crate) fn of(headers: &HeaderMap) -> Trace {
        let is_id = |text: &&str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !text.is_empty() && text.len() <= LONGEST && text.bytes().all(is_plain)
        };
        let sent = headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_id);
        let request = sent.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned);
        let trace = headers.get(&TRACEPARENT).and_then(|parent| parent.to_str().ok()).and_then(trace_of);
        Trace { request, trace: trace.map(str::to_owned) }
    }

    /// Has an answer say the request's id.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.extend(HeaderValue::from_str(&self.request).ok().map(|id| (REQUEST_ID, id)));
    }
}

/// The trace's id in a `traceparent`: `VERSION-TRACE-PARENT-FLAGS`, in lower case hexadecimal digits; later versions may go on
/// behind that.
fn trace_of(parent: &str) -> Option<&str> {
    let is_hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut parts = parent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_right = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let is_known = version != "ff" && (version != "00" || parts.next().is_none());
    let is_some = |id: &str| id.bytes().any(|byte| byte != b'0');
    (is_right && is_known && is_some(trace) && is_some(span)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_from_what_is_one() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (parent, expected) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), Some(trace)),
            (format!("cc-{trace}-00f067aa0ba902b7-01-more"), Some(trace)),
            (format!("00-{trace}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{trace}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), None),
            (format!("00-{trace}-0000000000000000-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{trace}-00f067aa0ba902b7"), None),
            ("geheim".to_owned(), None),
        ] {
            assert_eq!(trace_of(&parent), expected, "{parent}");
        }
    }

    #[test]
    fn an_id_is_taken_from_what_is_one() {
        let id = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(sent).expect("a header"));
            Trace::of(&headers).request
        };
        assert_eq!(id("a-1_b.C"), "a-1_b.C");
        for sent in ["", "a b", "a\"b", "Bearer x", &"a".repeat(65)] {
            let own = id(sent);
            assert!(own != sent && own.len() == 32, "{sent}: {own}");
        }
    }
}
